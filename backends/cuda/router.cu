/* The routers that choose within a token, one warp per token: scores, top-K or group-limited top-K,
 * combine weights, and the gradient of the logits. Same definitions as the library's moe_route;
 * rules that look across tokens (expert choice, capacity, token rounding) run on the host. */
#include "element.cuh"
#include "kernels.h"

namespace {

constexpr int WARPS = 4;

__device__ __forceinline__ int lane_id() {
    return (int)threadIdx.x & 31;
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1)
        x += __shfl_xor_sync(~0u, x, step);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1)
        x = fmaxf(x, __shfl_xor_sync(~0u, x, step));
    return x;
}

/* Larger keys rank first: by score, then by lower index; NaN ranks below every number and 0 is
 * below everything: out of the running. */
__device__ __forceinline__ unsigned long long rank_key(float score, int index) {
    uint32_t bits = __float_as_uint(score + 0.f); /* -0 becomes +0 */
    uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    if (score != score)
        ordered = 1;
    return (unsigned long long)ordered << 32 | (0xffffffffu - (uint32_t)index);
}

__device__ __forceinline__ unsigned long long best_key(const unsigned long long *key, int n) {
    unsigned long long best = 0;
    for (int i = lane_id(); i < n; i += 32)
        best = key[i] > best ? key[i] : best;
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        unsigned long long other = __shfl_xor_sync(~0u, best, step);
        best = other > best ? other : best;
    }
    return best;
}

/* What one warp knows of its token. */
struct Token {
    const moe_router_desc &r;
    int n, K;
    float *z, *score;        /* [n] */
    unsigned long long *key; /* [n] */
    float *raw, *grad;       /* [K] weights before renormalisation; their gradients */
    int *pick;               /* [K] chosen experts, best first */
};

__device__ __forceinline__ float top_logit(const Token &k) {
    float top = -INFINITY;
    for (int i = lane_id(); i < k.n; i += 32)
        top = fmaxf(top, k.z[i]);
    return warp_max(top);
}

/* sum over all experts of exp(z - top) */
__device__ __forceinline__ float softmax_sum(const Token &k, float top) {
    float sum = 0.f;
    for (int i = lane_id(); i < k.n; i += 32)
        sum += expf(k.z[i] - top);
    return warp_sum(sum);
}

__device__ __forceinline__ float sigmoid(float z) {
    return z >= 0 ? 1.f / (1.f + expf(-z)) : expf(z) / (1.f + expf(z));
}

/* Logits decide where the score keeps their order and only one token's experts compete. */
__device__ __forceinline__ bool chooses_by_logits(const moe_router_desc &r) {
    return r.score == MOE_SCORE_SOFTMAX_TOPK || r.score == MOE_SCORE_SPARSEMIXER ||
           (r.select == MOE_SELECT_TOPK && !r.select_bias);
}

__device__ void selection_keys(const Token &k, const float *b_select) {
    const bool by_logits = chooses_by_logits(k.r);
    float top = top_logit(k), sum = softmax_sum(k, top);
    for (int i = lane_id(); i < k.n; i += 32) {
        float s = by_logits                        ? k.z[i]
                  : k.r.score == MOE_SCORE_SIGMOID ? sigmoid(k.z[i])
                                                   : expf(k.z[i] - top) / sum;
        k.score[i] = s + (b_select ? b_select[i] : 0.f);
        k.key[i] = rank_key(k.score[i], i);
    }
    __syncwarp();
}

/* A group's score is the sum of its two best experts'. */
__device__ float group_score(const Token &k, int g, int size) {
    unsigned long long best = 0, second = 0;
    for (int i = g * size; i < (g + 1) * size; i++) {
        unsigned long long key = k.key[i];
        if (key > best) {
            second = best;
            best = key;
        } else if (key > second) {
            second = key;
        }
    }
    int first_at = (int)(0xffffffffu - (uint32_t)best),
        second_at = (int)(0xffffffffu - (uint32_t)second);
    return k.score[first_at] + (second ? k.score[second_at] : 0.f);
}

/* Keeps the experts of the best groups, zeroes the other keys. grouped[g] = rank key of group g. */
__device__ void limit_to_groups(const Token &k, unsigned long long *grouped) {
    const int size = k.n / k.r.groups;
    for (int g = lane_id(); g < k.r.groups; g += 32)
        grouped[g] = rank_key(group_score(k, g, size), g);
    __syncwarp();
    for (int kept = 0; kept < k.r.topk_groups; kept++) {
        unsigned long long best = best_key(grouped, k.r.groups);
        if (lane_id() == 0)
            grouped[0xffffffffu - (uint32_t)best] = 0;
        __syncwarp();
    }
    for (int i = lane_id(); i < k.n; i += 32)
        if (grouped[i / size] != 0)
            k.key[i] = 0;
    __syncwarp();
}

__device__ void pick_best(const Token &k) {
    for (int p = 0; p < k.K; p++) {
        int i = (int)(0xffffffffu - (uint32_t)best_key(k.key, k.n));
        if (lane_id() == 0) {
            k.pick[p] = i;
            k.key[i] = 0;
        }
        __syncwarp();
    }
}

/* SparseMixer (arXiv 2409.12136): pick p competes with what earlier picks left, within 2 jitter. */
__device__ __forceinline__ bool picked_before(const Token &k, int p, int j) {
    bool taken = false;
    for (int q = 0; q < p; q++)
        taken |= k.pick[q] == j;
    return taken;
}

__device__ float best_left(const Token &k, int p) {
    float top = -INFINITY;
    for (int j = lane_id(); j < k.n; j += 32)
        if (!picked_before(k, p, j))
            top = fmaxf(top, k.z[j]);
    return warp_max(top);
}

__device__ __forceinline__ bool is_candidate(const Token &k, int p, float top, int j) {
    float factor = fmaxf(fabsf(k.z[j]), top);
    return !picked_before(k, p, j) && !((top - k.z[j]) / factor > 2.f * (float)k.r.jitter);
}

__device__ void weigh_sparsemixer(const Token &k) {
    for (int p = 0; p < k.K; p++) {
        float top = best_left(k, p), sum = 0.f;
        for (int j = lane_id(); j < k.n; j += 32)
            sum += is_candidate(k, p, top, j) ? expf(k.z[j] - top) : 0.f;
        sum = warp_sum(sum);
        if (lane_id() == 0)
            k.raw[p] = expf(k.z[k.pick[p]] - top) / sum;
    }
}

/* raw[p] for every pick. */
__device__ void weigh(const Token &k) {
    if (k.r.score == MOE_SCORE_SPARSEMIXER) {
        weigh_sparsemixer(k);
    } else if (k.r.score == MOE_SCORE_SIGMOID) {
        for (int p = lane_id(); p < k.K; p += 32)
            k.raw[p] = sigmoid(k.z[k.pick[p]]);
    } else if (k.r.score == MOE_SCORE_SOFTMAX) {
        float top = top_logit(k), sum = softmax_sum(k, top);
        for (int p = lane_id(); p < k.K; p += 32)
            k.raw[p] = expf(k.z[k.pick[p]] - top) / sum;
    } else {
        float top = -INFINITY, sum = 0.f;
        for (int p = lane_id(); p < k.K; p += 32)
            top = fmaxf(top, k.z[k.pick[p]]);
        top = warp_max(top);
        for (int p = lane_id(); p < k.K; p += 32)
            sum += expf(k.z[k.pick[p]] - top);
        sum = warp_sum(sum);
        for (int p = lane_id(); p < k.K; p += 32)
            k.raw[p] = expf(k.z[k.pick[p]] - top) / sum;
    }
    __syncwarp();
}

__device__ __forceinline__ float norm_of(const Token &k) {
    float sum = 0.f;
    for (int p = lane_id(); p < k.K; p += 32)
        sum += k.raw[p];
    return k.r.renorm ? warp_sum(sum) + (float)k.r.renorm_eps : 1.f;
}

/* Shared memory of one warp: keys, logits, scores, group keys, raw weights, gradients, picks. */
__host__ __device__ inline size_t warp_bytes(int n, int K) {
    return (size_t)n * (8 + 4 + 4 + 8) + (size_t)(K + (K & 1)) * (4 + 4 + 4 + 4);
}

__device__ __forceinline__ Token token_of(const moe_router_desc &r, int n, int K,
                                          unsigned char *shared, unsigned long long **grouped) {
    unsigned char *at = shared + (threadIdx.x >> 5) * warp_bytes(n, K);
    Token k = {r, n, K, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
    k.key = reinterpret_cast<unsigned long long *>(at);
    *grouped = k.key + n;
    k.z = reinterpret_cast<float *>(*grouped + n);
    k.score = k.z + n;
    k.raw = k.score + n;
    k.grad = k.raw + K;
    k.pick = reinterpret_cast<int *>(k.grad + K);
    return k;
}

__device__ __forceinline__ void load_logits(const Token &k, const float *logits, int t) {
    for (int i = lane_id(); i < k.n; i += 32)
        k.z[i] = logits[(int64_t)t * k.n + i];
    __syncwarp();
}

__global__ void choose_kernel(RouterArgs g, moe_router_desc r) {
    extern __shared__ __align__(16) unsigned char shared[];
    unsigned long long *grouped;
    const Token k = token_of(r, g.outputs, g.K, shared, &grouped);
    int t = (int)(blockIdx.x * WARPS + (threadIdx.x >> 5));
    if (t >= g.tokens)
        return;
    load_logits(k, g.logits, t);
    selection_keys(k, r.select_bias ? g.b_select : nullptr);
    if (r.select == MOE_SELECT_GROUP_TOPK)
        limit_to_groups(k, grouped);
    pick_best(k);
    weigh(k);
    float norm = norm_of(k);
    for (int p = lane_id(); p < k.K; p += 32) {
        g.expert[(int64_t)t * k.K + p] = k.pick[p];
        g.expert_weight[(int64_t)t * k.K + p] = (float)r.scale * (k.raw[p] / norm);
    }
}

__device__ void sparsemixer_gradient(const Token &k, float *dz) {
    for (int p = 0; p < k.K; p++) {
        float top = best_left(k, p), w = k.raw[p];
        float sum = expf(k.z[k.pick[p]] - top) / w;
        for (int j = lane_id(); j < k.n; j += 32) {
            float step =
                is_candidate(k, p, top, j) ? -k.grad[p] * w * expf(k.z[j] - top) / sum : 0.f;
            dz[j] += step + (j == k.pick[p] ? k.grad[p] * w : 0.f);
        }
    }
}

/* dz[n] from the gradients of the raw weights. */
__device__ void score_gradient(const Token &k, float *dz) {
    for (int i = lane_id(); i < k.n; i += 32)
        dz[i] = 0.f;
    __syncwarp();
    if (k.r.score == MOE_SCORE_SPARSEMIXER) {
        sparsemixer_gradient(k, dz);
        return;
    }
    float dot = 0.f;
    for (int p = lane_id(); p < k.K; p += 32)
        dot += k.raw[p] * k.grad[p];
    dot = warp_sum(dot);
    if (k.r.score == MOE_SCORE_SOFTMAX) {
        float top = top_logit(k), sum = softmax_sum(k, top);
        for (int j = lane_id(); j < k.n; j += 32)
            dz[j] = -expf(k.z[j] - top) / sum * dot;
    }
    __syncwarp();
    for (int p = lane_id(); p < k.K; p += 32) { /* picks are different experts */
        float w = k.raw[p], g = k.grad[p];
        dz[k.pick[p]] += k.r.score == MOE_SCORE_SIGMOID   ? g * w * (1.f - w)
                         : k.r.score == MOE_SCORE_SOFTMAX ? w * g
                                                          : w * (g - dot);
    }
}

template <class T> __global__ void backward_kernel(RouterArgs g, moe_router_desc r) {
    extern __shared__ __align__(16) unsigned char shared[];
    unsigned long long *grouped;
    const Token k = token_of(r, g.outputs, g.K, shared, &grouped);
    int t = (int)(blockIdx.x * WARPS + (threadIdx.x >> 5));
    if (t >= g.tokens)
        return;
    load_logits(k, g.logits, t);
    for (int p = lane_id(); p < k.K; p += 32)
        k.pick[p] = g.expert[(int64_t)t * k.K + p];
    __syncwarp();
    weigh(k);
    float norm = norm_of(k), dot = 0.f;
    for (int p = lane_id(); p < k.K; p += 32) {
        k.grad[p] = (float)r.scale * g.ds[g.pair[(int64_t)t * k.K + p]];
        dot += k.grad[p] * k.raw[p];
    }
    dot = warp_sum(dot);
    for (int p = lane_id(); r.renorm && p < k.K; p += 32)
        k.grad[p] = k.grad[p] / norm - dot / (norm * norm);
    __syncwarp();
    float *dz = k.score;
    score_gradient(k, dz);
    __syncwarp();
    T *out = static_cast<T *>(g.dz) + (int64_t)t * g.dz_ld;
    const int half = g.dz_ld / 2;
    for (int i = lane_id(); i < half; i += 32) {
        float x = i < k.n ? dz[i] : 0.f;
        out[i] = Element<T>::from(x);
        out[half + i] = Element<T>::from(x - Element<T>::load(out + i));
    }
}

/* Launches with the shared memory that n and K need. */
template <class Kernel>
cudaError_t launch(Kernel kernel, const RouterArgs *g, cudaStream_t stream) {
    size_t bytes = WARPS * warp_bytes(g->outputs, g->K);
    cudaError_t err =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (err != cudaSuccess)
        return err;
    unsigned blocks = (unsigned)((g->tokens + WARPS - 1) / WARPS);
    kernel<<<blocks, WARPS * 32, bytes, stream>>>(*g, *g->desc);
    return cudaGetLastError();
}

} // namespace

int router_on_device(const moe_router_desc *r) {
    /* SparseMixer weighs its picks in the order of the logits, which a selection bias upsets. */
    return (r->select == MOE_SELECT_TOPK || r->select == MOE_SELECT_GROUP_TOPK) &&
           !(r->score == MOE_SCORE_SPARSEMIXER && r->select_bias);
}

cudaError_t router_choose(const RouterArgs *args, cudaStream_t stream) {
    return launch(choose_kernel, args, stream);
}

cudaError_t router_backward(int dtype, const RouterArgs *args, cudaStream_t stream) {
    return dtype == MOE_BF16 ? launch(backward_kernel<__nv_bfloat16>, args, stream)
                             : launch(backward_kernel<__half>, args, stream);
}
