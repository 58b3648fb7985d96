/* One warp routes one token: ranking, group-limited choice and the combine weights of every score.
 */
#ifndef MOE_CUDA_ROUTER_TOKEN_CUH
#define MOE_CUDA_ROUTER_TOKEN_CUH

#include "kernels.h"

#include <stdint.h>

/* The host routes those after SparseMixer: supports.c. */
static_assert(MOE_SCORE_COUNT == 7, "a new score needs its branch in chooses_by_logits, "
                                    "selection_keys, weigh and score_gradient");

namespace {

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

} // namespace

#endif
