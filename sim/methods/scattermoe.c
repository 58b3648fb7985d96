/* ScatterMoE (arXiv 2403.08245), release 0.3: Triton grouped GEMMs that gather their rows on load
 * and scatter on store; everything else is eager PyTorch. Kernels, and the rates of those that are
 * bound by their own instructions, as a profile of it shows them: sim/README.md. */
#include <math.h>

#include "../list.h"

/* Row tiles are cut from the sorted pairs, not from each expert's. */
static const moe_tile shapes[] = {{128, 128, 1}};
static const moe_tiles rows = {shapes, 1, 1, .cluster = 1, .packed = 1},
                       depth = {shapes, 1, 1, .cluster = 1};

/* Elements a clock and SM. */
#define STRIDED       1.5  /* ATen's elementwise kernel on the halves of H */
#define SILU_BACKWARD 1.33 /* the same with more arithmetic */
#define SUM           0.96 /* a sum over few elements, for each result */
/* A batched product with one row for each token: K is padded to a tile's depth, its K columns to a
 * tile's width. cuBLAS takes a slower kernel for K of 8 and more, and where rows are aligned. */
#define COMBINE(K) ((K) < 8 ? 0.40 : 0.24)
#define WEIGHTS(K) (fmod((K), 8) == 0 ? 0.216 : 0.8)

/* A weight gradient dY^T X, tiles of 128 x 128. Its kernel's swizzle by 4 lets the CTAs that run
 * together share a tile of X among gcd(4, column tiles of dY) of them, and a tile of dY among one
 * in four of X's column tiles: so often, and no oftener, do the operands come from memory. */
static moe_traffic deep(double dy, double dy_width, double x, double x_width) {
    const double columns = ceil(dy_width / 128), shared = fmod(columns, 4) == 0   ? 4
                                                          : fmod(columns, 2) == 0 ? 2
                                                                                  : 1;
    return (moe_traffic){.read = dy * fmin(4, ceil(x_width / 128)) + x * fmax(1, columns / shared)};
}

static void forward(moe_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double Td = l->T * l->d * e, K = l->P / l->T;
    moe_int_list_stream(l, "sort", l->P * 192,
                        l->P * 192); /* 64-bit keys and values, eight passes */
    moe_int_list_cache(l, Td);
    moe_int_list_cache(l, Ph);
    moe_int_list_gemm(l, "H", MOE_OP_H,
                      (moe_traffic){.read = Pd, .write = Ph, .load = MOE_INT_GATHER_LOAD}, &rows);
    if (l->h > l->n)
        moe_int_list_slow(l, "silu", Pn, Pn, l->P * l->n, STRIDED);
    moe_int_list_cache(l, Pn);
    moe_int_list_slow(l, "A", Ph, Pn, l->P * l->n, STRIDED);
    moe_int_list_cache(l, Pd);
    moe_int_list_gemm(l, "Y", MOE_OP_Y, (moe_traffic){.read = Pn, .write = Pd}, &rows);
    moe_int_list_alloc(l, Td);
    moe_int_list_slow(l, "O", Pd + l->P * 4, Td, l->T * l->d, COMBINE(K));
}

static void act_backward(moe_list *l) {
    const double Pn = l->P * l->n * l->element, elements = l->P * l->n;
    if (l->h > l->n) {
        moe_int_list_stream(l, "d up", 2 * Pn, Pn);
        moe_int_list_slow(l, "d silu", 2 * Pn, Pn, elements, STRIDED);
    }
    moe_int_list_slow(l, "d gate", 2 * Pn, Pn, elements, SILU_BACKWARD);
    if (l->h > l->n)
        moe_int_list_stream(l, "dH", 2 * Pn, 2 * Pn); /* the halves put together */
}

static void backward(moe_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double Td = l->T * l->d * e, K = l->P / l->T, w2 = l->E * l->n * l->d * e;
    moe_int_list_alloc(l, Td);
    moe_int_list_slow(l, "dS", Pd + Td, l->P * 4, l->T * l->d, WEIGHTS(K)); /* <dO, Y> */
    moe_int_list_alloc(l, Pd);
    moe_int_list_stream(l, "dY grouped", Pd, Pd); /* gathers and scales dO */
    moe_int_list_stream(l, "zero dW2", 0, w2);
    moe_int_list_alloc(l, Pn);
    moe_int_list_gemm(l, "dW2", MOE_OP_DW2, deep(Pd, l->d, Pn, l->n), &depth);
    moe_int_list_gemm(l, "dA", MOE_OP_DA, (moe_traffic){.read = Pd, .write = Pn}, &rows);
    moe_int_list_alloc(l, Ph);
    act_backward(l);
    moe_int_list_stream(l, "X grouped", Pd, Pd);
    moe_int_list_stream(l, "zero dW1", 0, w2 * l->h / l->n);
    moe_int_list_gemm(l, "dW1", MOE_OP_DW1, deep(Ph, l->h, Pd, l->d), &depth);
    moe_int_list_gemm(l, "dXp", MOE_OP_DXP, (moe_traffic){.read = Ph, .write = Pd}, &rows);
    moe_int_list_alloc(l, Td);
    moe_int_list_slow(l, "dX", Pd, Td, l->T * l->d, SUM);
}

const moe_method moe_int_scattermoe = {
    "scattermoe",       "ScatterMoE: Triton scatter-to-scatter GEMMs",
    MOE_SYS_SCATTERMOE, forward,
    backward,           .host_first = 1};
