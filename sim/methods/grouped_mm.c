/* PyTorch: torch.nn.functional.grouped_mm with everything else left to the framework: an index
 * gather, a compiled SwiGLU, a compiled weighted sum over y[inverse], and autograd of all of them.
 * Kernels, and the rates of those that are bound by their own instructions, as a profile of it
 * shows them: sim/CALIBRATION.md. */
#include "sim/methods/methods.h"

/* ATen's CUTLASS kernels (aten/src/ATen/native/cuda/GroupMM.cu), in clusters of two along the rows:
 * cooperative 128x256, but ping-pong 64x128 where a group has no more than 128 rows or columns. */
static const moe_int_tile large_shape[] = {{128, 256, 1}}, small_shape[] = {{64, 128, 1}};
static const moe_int_tiles large = {large_shape, 1, 1, .cluster = 2},
                           small = {small_shape, 1, 1, .cluster = 2, .hidden = 1};

/* Elements a clock and SM, index arithmetic in 64 bits: sizes are dynamic. */
#define SWIGLU          1.06
#define SWIGLU_BACKWARD 0.285
#define REORDER         1.47                       /* y[inverse] */
#define COMBINE(K)      ((K) <= 8 ? 0.147 : 0.106) /* for each result */
#define WEIGHTS         2.35
#define ZERO            3.67
#define ATOMIC_ADD      0.43 /* the gradient of y[inverse] adds into zeros */
#define INDEX_BACKWARD  1.67 /* ATen's sorted index_put */

/* Elsewhere than on sm_90 and sm_100 ATen calls mm for one group after another, from offsets that
 * it copies to the host (aten/src/ATen/native/GroupedMMUtils.h: the fallback). */
#define MM_US 6 /* of the host for a call of mm and its two slices: assumed */

static bool has_kernel(const moe_int_list *l) {
    const double arch = l->gpu->p[MOE_INT_GP_ARCH];
    return arch >= 90 && arch < 110;
}

static const moe_int_tiles *tiles_of(double m, double n) {
    return m <= 128 || n <= 128 ? &small : &large;
}

static void product(moe_int_list *l, moe_stage stage, moe_int_op op, moe_int_traffic traffic,
                    const moe_int_tiles *tiles) {
    if (has_kernel(l))
        moe_int_list_gemm(l, stage, op, traffic, tiles);
    else
        moe_int_list_each(l, stage, op, traffic, MM_US);
}

static void forward(moe_int_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double Td = l->T * l->d * e, rows = l->P / l->E;
    moe_int_list_cache(l, "X", Td);
    moe_int_list_cache(l, "X~", Pd);
    moe_int_list_stream(l, MOE_STAGE_X_GROUPED, Pd, Pd);
    moe_int_list_cache(l, "H", Ph);
    product(l, MOE_STAGE_H, MOE_INT_OP_H, (moe_int_traffic){.read = Pd, .write = Ph},
            tiles_of(rows, l->h));
    moe_int_list_cache(l, "A", Pn);
    moe_int_list_slow(l, MOE_STAGE_A, Ph, Pn, l->P * l->n, SWIGLU);
    moe_int_list_alloc(l, "Y by expert", Pd);
    product(l, MOE_STAGE_Y, MOE_INT_OP_Y, (moe_int_traffic){.read = Pn, .write = Pd},
            tiles_of(rows, l->d));
    moe_int_list_cache(l, "Y", Pd);
    moe_int_list_slow(l, MOE_STAGE_Y_BY_TOKEN, Pd, Pd, l->P * l->d, REORDER);
    moe_int_list_free(l, "Y by expert");
    moe_int_list_alloc(l, "O", Td);
    moe_int_list_slow(l, MOE_STAGE_O, Pd, Td, l->T * l->d, COMBINE(l->K));
}

static void backward(moe_int_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double Td = l->T * l->d * e, rows = l->P / l->E;
    moe_int_list_alloc(l, "dO", Td);
    moe_int_list_alloc(l, "dY", Pd);
    moe_int_list_slow(l, MOE_STAGE_DS, Pd + Td, l->P * 4, l->P * l->d, WEIGHTS);
    moe_int_list_slow(l, MOE_STAGE_ZERO_DY, 0, Pd, l->P * l->d, ZERO);
    moe_int_list_slow(l, MOE_STAGE_DY, Td + Pd, Pd, l->P * l->d, ATOMIC_ADD);
    product(l, MOE_STAGE_DW2, MOE_INT_OP_DW2, (moe_int_traffic){.read = Pd + Pn},
            tiles_of(l->d, l->n));
    moe_int_list_alloc(l, "dA", Pn);
    product(l, MOE_STAGE_DA, MOE_INT_OP_DA, (moe_int_traffic){.read = Pd, .write = Pn},
            tiles_of(rows, l->n));
    moe_int_list_alloc(l, "dH", Ph);
    moe_int_list_slow(l, MOE_STAGE_DH, Ph + Pn, Ph, l->P * l->n, SWIGLU_BACKWARD);
    product(l, MOE_STAGE_DW1, MOE_INT_OP_DW1, (moe_int_traffic){.read = Pd + Ph},
            tiles_of(l->h, l->d));
    moe_int_list_alloc(l, "dX~", Pd);
    product(l, MOE_STAGE_DXP, MOE_INT_OP_DXP, (moe_int_traffic){.read = Ph, .write = Pd},
            tiles_of(rows, l->d));
    moe_int_list_alloc(l, "dX", Td);
    moe_int_list_stream(l, MOE_STAGE_ZERO_DX, 0, Td);
    moe_int_list_stream(l, MOE_STAGE_SORT, l->P * 48, l->P * 48);
    moe_int_list_slow(l, MOE_STAGE_DX, Pd, Td, l->P * l->d, INDEX_BACKWARD);
}

const moe_int_method moe_int_method_grouped_mm = {
    "PyTorch grouped_mm (a loop of mm but on sm_90 and sm_100), the rest by autograd", forward,
    backward, .arch = {80, 120}};
