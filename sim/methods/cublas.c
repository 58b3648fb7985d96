/* The dense bound: one batched cuBLAS GEMM per stage with P/E rows for every expert, nothing but
 * the GEMMs. A heuristic picks tile shape and split-K; the model takes the fastest. */
#include "sim/gpus/storage.h"
#include "sim/methods/methods.h"

static void forward(moe_int_list *l) {
    const double rows = l->P / l->E;
    moe_int_list_cache(l, "X~", l->P * l->d * l->element);
    moe_int_list_cache(l, "H", l->P * l->h * l->element);
    moe_int_list_dense(l, MOE_STAGE_H, rows, l->h, l->d, l->E, &moe_int_cublas_tiles);
    moe_int_list_cache(l, "A", l->P * l->n * l->element);
    moe_int_list_alloc(l, "Y", l->P * l->d * l->element);
    moe_int_list_dense(l, MOE_STAGE_Y, rows, l->d, l->n, l->E, &moe_int_cublas_tiles);
}

static void backward(moe_int_list *l) {
    const double rows = l->P / l->E;
    moe_int_list_alloc(l, "dY", l->P * l->d * l->element);
    moe_int_list_alloc(l, "dA", l->P * l->n * l->element);
    moe_int_list_dense(l, MOE_STAGE_DA, rows, l->n, l->d, l->E, &moe_int_cublas_tiles);
    moe_int_list_dense(l, MOE_STAGE_DW2, l->d, l->n, rows, l->E, &moe_int_cublas_tiles);
    moe_int_list_alloc(l, "dX~", l->P * l->d * l->element);
    moe_int_list_alloc(l, "dH", l->P * l->h * l->element);
    moe_int_list_dense(l, MOE_STAGE_DXP, rows, l->d, l->h, l->E, &moe_int_cublas_tiles);
    moe_int_list_dense(l, MOE_STAGE_DW1, l->h, l->d, rows, l->E, &moe_int_cublas_tiles);
}

const moe_int_method moe_int_method_cublas = {"batched cuBLAS GEMMs alone: the dense bound",
                                              forward, backward, .storages = MOE_INT_STORAGE_ALL};
