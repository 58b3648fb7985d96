/* The routers that choose within a token, one warp per token: scores, top-K or group-limited top-K,
 * combine weights, and the gradient of the logits. Same definitions as the library's moe_route;
 * rules that look across tokens (expert choice, capacity, token rounding) run on the host. */
#include "element.cuh"
#include "kernels.h"
#include "router_token.cuh"

namespace {

constexpr int WARPS = 4;

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
cudaError_t launch_router(Kernel kernel, const RouterArgs *g, const Stream &stream) {
    size_t bytes = WARPS * warp_bytes(g->outputs, g->K);
    cudaError_t err =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (err != cudaSuccess)
        return err;
    unsigned blocks = (unsigned)((g->tokens + WARPS - 1) / WARPS);
    return launch(stream, {blocks, WARPS * 32, bytes}, kernel, *g, *g->desc);
}

static_assert(MOE_SELECT_COUNT == 7, "supports.c says which of them this file knows");

} // namespace

cudaError_t router_choose(const RouterArgs *args, const Stream &stream) {
    return launch_router(choose_kernel, args, stream);
}

cudaError_t router_backward(int dtype, const RouterArgs *args, const Stream &stream) {
    return dtype == MOE_BF16 ? launch_router(backward_kernel<__nv_bfloat16>, args, stream)
                             : launch_router(backward_kernel<__half>, args, stream);
}
