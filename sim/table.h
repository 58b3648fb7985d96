/* Internal: a measured table in memory. */
#ifndef MOE_SIM_TABLE_H
#define MOE_SIM_TABLE_H

#include "moeref/model.h"

typedef struct moe_row {
    char kernel[64]; /* MoE layers only */
    int64_t m, n, k; /* GEMM; for layers n is the expert width and m the tokens */
    int64_t d, E, K; /* layers only */
    int64_t batch;   /* GEMM; 1 where the table has no such column */
    int32_t pass;    /* layers; moe_pass, forward where the table has no such column */
    int32_t uniform; /* layers; 1: uniform random routing, 0: balanced */
    double us;
    uint64_t shape; /* rows of the same weights' shape share it: they are left out together */
} moe_row;

struct moe_table {
    moe_row *rows;
    size_t count;
    int layers; /* 1: rows are MoE layers */
};

#endif
