#include "reference/emulated.h"
#include "moeref/layer.h"

#include <stdlib.h>
#include <string.h>

static const moe_dtype dtype_of[MOE_INT_FORMATS] = {
    [MOE_INT_FORMAT_BF16] = MOE_BF16, [MOE_INT_FORMAT_FP16] = MOE_F16};

static moe_status pack(const moe_int_chain *chain, const moe_int_matrix *m, moe_int_packing how,
                       int64_t count, int64_t K, moe_int_packed *ret) {
    uint16_t *codes = malloc((size_t)(m->count + 1) * sizeof *codes);
    moe_int_operand from = {codes, m->i_stride, m->k_stride, NULL, m->k_map};
    if (!codes)
        return MOE_E_NOMEM;
    moe_convert(codes, dtype_of[chain->format], m->at, MOE_F32, (size_t)m->count);
    moe_status status =
        moe_int_pack(&from, chain->format, how | MOE_INT_PACK_VALUES, count, K, ret);
    free(codes);
    return status;
}

static void multiply_row(const moe_int_chain *chain, const moe_int_packed *left, int64_t i,
                         const moe_int_packed *right, int64_t N, const float *bias, float *out) {
    float sum[MOE_INT_LANES];
    for (int64_t j = 0; j < N; j++) {
        if (j % MOE_INT_LANES == 0)
            moe_int_chain_row(chain, left, i, right, j / MOE_INT_LANES, sum);
        out[j] = sum[j % MOE_INT_LANES] + (bias ? bias[j] : 0);
    }
}

moe_status moe_int_multiply_emulated(const moe_int_chain *chain, const moe_int_matrix *left,
                                     const moe_int_matrix *right, int64_t M, int64_t N, int64_t K,
                                     const float *bias, int threads, float *out) {
    moe_int_packed a = {.count = 0}, b = {.count = 0};
    moe_status status = pack(chain, left, MOE_INT_PACK_LEFT, M, K, &a);
    if (!status)
        status = pack(chain, right, MOE_INT_PACK_RIGHT, N, K, &b);
#pragma omp parallel for num_threads(threads) if (M > 16)
    for (int64_t i = 0; i < (status ? 0 : M); i++)
        multiply_row(chain, &a, i, &b, N, bias, out + i * N);
    moe_int_packed_destroy(&a);
    moe_int_packed_destroy(&b);
    return status;
}

moe_status moe_int_gates_first(const moe_arithmetic *how, int32_t glu_layout, int64_t n,
                               int64_t h_width, int32_t **ret) {
    *ret = NULL;
    if (!how->gates_first || glu_layout != MOE_GLU_INTERLEAVED || h_width == n)
        return MOE_OK;
    int32_t *map = malloc((size_t)h_width * sizeof *map);
    if (!map)
        return MOE_E_NOMEM;
    for (int64_t k = 0; k < h_width; k++)
        map[k] = (int32_t)moe_h_column(glu_layout, n, h_width, k % n, k >= n);
    *ret = map;
    return MOE_OK;
}
