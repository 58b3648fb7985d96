/* ScatterMoE (arXiv 2403.08245), release 0.3: Triton grouped GEMMs that gather their rows on load
 * and scatter on store; everything else is eager PyTorch. Kernels, and the rates of those that are
 * bound by their own instructions, as a profile of it shows them: sim/CALIBRATION.md. */
#include "sim/methods/methods.h"

#include <math.h>

/* Row tiles are cut from the sorted pairs, not from each expert's. */
static const moe_int_tile shapes[] = {{128, 128, 1}};
static const moe_int_tiles rows = {shapes, 1, 1, .cluster = 1, .packed = true},
                           depth = {shapes, 1, 1, .cluster = 1};

/* Elements a clock and SM. */
#define STRIDED       1.5  /* ATen's elementwise kernel on the halves of H */
#define SILU_BACKWARD 1.33 /* the same with more arithmetic */
/* Batched products of one row or column for each token, in cuBLAS: O = S Y, whose depth K is padded
 * to a tile's, and dS = Y dO, whose K rows are, where their alignment allows tensor cores. */
#define COMBINE(K) ((K) < 8 ? 0.40 : 0.24)
#define WEIGHTS(K) (fmod((K), 8) == 0 ? 0.216 : 0.8)

/* How many of the CTAs that run together share a tile of X, if dY has so many tiles of columns. */
static double sharers(double columns) {
    if (fmod(columns, 4) == 0)
        return 4;
    return fmod(columns, 2) == 0 ? 2 : 1;
}

/* A weight gradient dY^T X in tiles of 128 x 128. The kernel's swizzle by 4
 * (scattermoe/kernels/ops.py, _groupXtY) spreads CTAs that run together so that gcd(4, columns)
 * share a tile of X, and of X's tiles of columns every fourth shares one of dY. As often as they do
 * not, an operand is read again. */
static moe_int_traffic deep(double dy, double dy_width, double x, double x_width) {
    const double columns = ceil(dy_width / 128), rows_of = ceil(x_width / 128);
    const double times_dy = fmin(4, rows_of), times_x = fmax(1, columns / sharers(columns));
    return (moe_int_traffic){.read = dy + x, .again = dy * (times_dy - 1) + x * (times_x - 1)};
}

static void forward(moe_int_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double Td = l->T * l->d * e;
    /* 64-bit keys and values, eight passes of a radix sort. */
    moe_int_list_stream(l, MOE_STAGE_SORT, l->P * 192, l->P * 192);
    moe_int_list_cache(l, "X", Td);
    moe_int_list_cache(l, "H", Ph);
    moe_int_list_gemm(l, MOE_STAGE_H, MOE_INT_OP_H,
                      (moe_int_traffic){.read = Pd, .write = Ph, .load = MOE_INT_GATHER_LOAD},
                      &rows);
    if (l->h > l->n)
        moe_int_list_slow(l, MOE_STAGE_SILU, Pn, Pn, l->P * l->n, STRIDED);
    moe_int_list_cache(l, "A", Pn);
    moe_int_list_slow(l, MOE_STAGE_A, Ph, Pn, l->P * l->n, STRIDED);
    moe_int_list_cache(l, "Y", Pd);
    moe_int_list_gemm(l, MOE_STAGE_Y, MOE_INT_OP_Y, (moe_int_traffic){.read = Pn, .write = Pd},
                      &rows);
    moe_int_list_alloc(l, "O", Td);
    moe_int_list_slow(l, MOE_STAGE_O, Pd + l->P * 4, Td, l->T * l->d, COMBINE(l->K));
}

static void act_backward(moe_int_list *l) {
    const double Pn = l->P * l->n * l->element, elements = l->P * l->n;
    if (l->h > l->n) {
        moe_int_list_stream(l, MOE_STAGE_D_UP, 2 * Pn, Pn);
        moe_int_list_slow(l, MOE_STAGE_D_SILU, 2 * Pn, Pn, elements, STRIDED);
    }
    moe_int_list_slow(l, MOE_STAGE_D_GATE, 2 * Pn, Pn, elements, SILU_BACKWARD);
    if (l->h > l->n)
        moe_int_list_stream(l, MOE_STAGE_DH, 2 * Pn, 2 * Pn); /* the halves put together */
}

static void backward(moe_int_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double Td = l->T * l->d * e, w2 = l->E * l->n * l->d * e;
    moe_int_list_alloc(l, "dO", Td);
    moe_int_list_slow(l, MOE_STAGE_DS, Pd + Td, l->P * 4, l->T * l->d, WEIGHTS(l->K)); /* <dO, Y> */
    moe_int_list_alloc(l, "dY", Pd);
    moe_int_list_stream(l, MOE_STAGE_DY_GROUPED, Pd, Pd); /* gathers and scales dO */
    moe_int_list_stream(l, MOE_STAGE_ZERO_DW2, 0, w2);
    moe_int_list_alloc(l, "dA", Pn);
    moe_int_list_gemm(l, MOE_STAGE_DW2, MOE_INT_OP_DW2, deep(Pd, l->d, Pn, l->n), &depth);
    moe_int_list_gemm(l, MOE_STAGE_DA, MOE_INT_OP_DA, (moe_int_traffic){.read = Pd, .write = Pn},
                      &rows);
    moe_int_list_alloc(l, "dH", Ph);
    act_backward(l);
    moe_int_list_stream(l, MOE_STAGE_X_GROUPED, Pd, Pd);
    moe_int_list_stream(l, MOE_STAGE_ZERO_DW1, 0, w2 * l->h / l->n);
    moe_int_list_gemm(l, MOE_STAGE_DW1, MOE_INT_OP_DW1, deep(Ph, l->h, Pd, l->d), &depth);
    moe_int_list_gemm(l, MOE_STAGE_DXP, MOE_INT_OP_DXP, (moe_int_traffic){.read = Ph, .write = Pd},
                      &rows);
    moe_int_list_alloc(l, "dX", Td);
    moe_int_list_slow(l, MOE_STAGE_DX, Pd, Td, l->T * l->d, MOE_INT_SUM_RATE);
}

const moe_int_method moe_int_method_scattermoe = {"ScatterMoE: Triton scatter-to-scatter GEMMs",
                                                  forward, backward, .host_first = true};
