#include "reference/emulated.h"
#include "moeref/layer.h"

#include <stdlib.h>
#include <string.h>

/* Columns that one thread takes: what it packs of them stays in its second-level cache. */
enum { LANES = MOE_INT_LANES };

/* A product, the left operand packed. */
typedef struct product {
    const moe_int_chain *chain;
    moe_int_packed left;
    moe_int_operand right;
    int64_t M, N, K;
    const float *bias;
    float *out;
} product;

/* Columns j .. of all rows. */
static moe_status multiply_lanes(const product *p, int64_t j) {
    const int64_t width = p->N - j < LANES ? p->N - j : LANES;
    float sum[LANES];
    moe_int_packed right = {0};
    moe_status status =
        moe_int_pack(&p->right, p->chain->format,
                     MOE_INT_PACK_RIGHT | moe_int_chain_packing(p->chain), j, width, p->K, &right);
    for (int64_t i = 0; !status && i < p->M; i++) {
        moe_int_chain_row(p->chain, &p->left, i, &right, 0, sum);
        for (int64_t l = 0; l < width; l++)
            p->out[i * p->N + j + l] = sum[l] + (p->bias ? p->bias[j + l] : 0);
    }
    moe_int_packed_destroy(&right);
    return status;
}

moe_status moe_int_multiply_emulated(const moe_int_chain *chain, const moe_int_operand *left,
                                     const moe_int_operand *right, int64_t M, int64_t N, int64_t K,
                                     const float *bias, int threads, float *out) {
    product p = {.chain = chain, .right = *right, .M = M, .N = N, .K = K, .bias = bias, .out = out};
    bool failed =
        moe_int_pack(left, chain->format, moe_int_chain_packing(chain), 0, M, K, &p.left) != MOE_OK;
#pragma omp parallel for num_threads(threads) if (N > LANES) schedule(dynamic) reduction(||        \
                                                                                         : failed)
    for (int64_t j = 0; j < (p.left.all.sig ? N : 0); j += LANES)
        failed = failed || multiply_lanes(&p, j) != MOE_OK;
    moe_int_packed_destroy(&p.left);
    return failed ? MOE_E_NOMEM : MOE_OK;
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
