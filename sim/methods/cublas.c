/* The dense bound: one batched cuBLAS GEMM per stage with P/E rows for every expert, nothing but
 * the GEMMs. A heuristic picks tile shape and split-K; the model takes the fastest. */
#include "sim/kernels/list.h"

/* Kernel names of cuBLAS on Hopper show tiles of 64 to 320 rows and 8 to 272 columns; this is that
 * family in steps of 32 columns. */
static const moe_int_tile shapes[] = {
    {64, 32, 1},   {64, 64, 1},   {64, 96, 1},   {64, 128, 1},  {64, 160, 1}, {64, 192, 1},
    {64, 224, 1},  {64, 256, 1},  {128, 32, 1},  {128, 64, 1},  {128, 96, 1}, {128, 128, 1},
    {128, 160, 1}, {128, 192, 1}, {128, 224, 1}, {128, 256, 1}, {192, 32, 1}, {192, 64, 1},
    {192, 96, 1},  {192, 128, 1}, {192, 160, 1}, {192, 192, 1}, {256, 32, 1}, {256, 64, 1},
    {256, 96, 1},  {256, 128, 1}, {256, 160, 1}, {320, 32, 1},  {320, 64, 1}, {320, 96, 1},
    {320, 128, 1}};
const moe_int_tiles moe_int_cublas_tiles = {shapes, sizeof shapes / sizeof *shapes, 16};

static void forward(moe_int_list *l) {
    const double rows = l->P / l->E;
    moe_int_list_alloc(l, l->P * (l->d + l->h) * l->element);
    moe_int_list_dense(l, MOE_STAGE_H, rows, l->h, l->d, l->E, &moe_int_cublas_tiles);
    moe_int_list_alloc(l, l->P * (l->n + l->d) * l->element);
    moe_int_list_dense(l, MOE_STAGE_Y, rows, l->d, l->n, l->E, &moe_int_cublas_tiles);
    l->cached = l->P * (l->d + l->h + l->n) * l->element;
}

static void backward(moe_int_list *l) {
    const double rows = l->P / l->E;
    moe_int_list_alloc(l, l->P * (l->d + l->n) * l->element);
    moe_int_list_dense(l, MOE_STAGE_DA, rows, l->n, l->d, l->E, &moe_int_cublas_tiles);
    moe_int_list_dense(l, MOE_STAGE_DW2, l->d, l->n, rows, l->E, &moe_int_cublas_tiles);
    moe_int_list_alloc(l, l->P * (l->d + l->h) * l->element);
    moe_int_list_dense(l, MOE_STAGE_DXP, rows, l->d, l->h, l->E, &moe_int_cublas_tiles);
    moe_int_list_dense(l, MOE_STAGE_DW1, l->h, l->d, rows, l->E, &moe_int_cublas_tiles);
}

const moe_int_method moe_int_cublas = {"cublas", "batched cuBLAS GEMMs alone: the dense bound",
                                       MOE_INT_SYS_CUBLAS, forward, backward};
