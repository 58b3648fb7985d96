/* Internal: a layer as a list of kernels, whose memory is followed; methods fill it. */
#ifndef MOE_SIM_LIST_H
#define MOE_SIM_LIST_H

#include "moeref/stage.h"
#include "sim/kernels/gemm.h"

/* The six grouped GEMMs of a gated or plain expert layer, named after what they write. */
typedef enum moe_int_op {
    MOE_INT_OP_H,   /* [f][d] W1^T [d][h]       -> H   */
    MOE_INT_OP_Y,   /* [f][n] W2^T [n][d]       -> Y   */
    MOE_INT_OP_DA,  /* [f][d] W2   [d][n]       -> dA' */
    MOE_INT_OP_DXP, /* [f][h] W1   [h][d]       -> dX~ */
    MOE_INT_OP_DW2, /* [d][f] [f][n], f is deep -> dW2 */
    MOE_INT_OP_DW1  /* [h][f] [f][d], f is deep -> dW1 */
} moe_int_op;

typedef struct moe_int_list {
    moe_int_rates r;
    const moe_gpu *gpu;
    const moe_workload *work;
    const int64_t *counts;      /* [E] */
    double T, P, d, n, h, E, K; /* h = columns of H; P = pairs, T K unless some were dropped */
    double active;              /* experts with tokens */
    double hidden;              /* the tokens' width outside the projections; d without any */
    bool projected;             /* projections lie around the experts */
    double element;             /* bytes of results, and of what lies between the products */
    double tiled;               /* bytes of an operand's value in a tile of a product */
    double operand, weight;     /* the same in memory, with its scales */
    bool backward;              /* kernels added now belong to the backward pass */
    bool host_first;            /* of the method */
    moe_kernel *kernels;
    moe_int_gemm *gemms;  /* of each kernel, for timelines; groups = 0: not a GEMM */
    moe_int_times *times; /* of each kernel that is a GEMM */
    size_t count, capacity;
    moe_stage stage; /* of the last kernel */
    bool out_of_memory;
    double live, peak, cached; /* activation bytes */
    moe_live tensors[MOE_LIVE_MAX];
    size_t n_tensors, peak_at; /* peak_at: the tensor that made the peak */
} moe_int_list;

/* What a GEMM of a method moves besides its weights (or weight gradients). */
typedef struct moe_int_traffic {
    double read, write; /* bytes, each once */
    double again;       /* bytes that are read more than once */
    bool recomputes;    /* the product was computed before and not kept */
    double epilogue;    /* bytes for each accumulator; 0: just its own element */
    double load;        /* factor on operand loads; 0: 1 */
    double region;      /* bytes that rows are gathered from; 0: they are not */
} moe_int_traffic;

typedef struct moe_int_tiles {
    const moe_int_tile *shapes;
    int count;
    int max_split;
    int cluster;   /* as in moe_int_gemm, on a GPU that has such clusters */
    bool packed;   /* as in moe_int_gemm */
    bool narrow;   /* as in moe_int_gemm */
    double hidden; /* share of the epilogue that overlaps, if more than the system's own */
} moe_int_tiles;

#define MOE_INT_GATHER_LOAD 1.07 /* rows of a gather: 7 % of the load bandwidth */

void moe_int_list_gemm(moe_int_list *l, moe_stage stage, moe_int_op op, moe_int_traffic traffic,
                       const moe_int_tiles *tiles);
/* The same as one product of cuBLAS for each expert that has tokens, called in turn by a host that
 * needs `host_us` for a call. */
void moe_int_list_each(moe_int_list *l, moe_stage stage, moe_int_op op, moe_int_traffic traffic,
                       double host_us);
/* One dense GEMM C[m][n] = A[m][k] B[k][n], operands read and result written once. */
void moe_int_list_dense(moe_int_list *l, moe_stage stage, double m, double n, double k,
                        double batch, const moe_int_tiles *tiles);
/* The same as cuBLAS runs it, called "gemm": of no layer, and no stage. */
void moe_int_list_product(moe_int_list *l, double m, double n, double k, double batch);
/* A GEMM that is not one of the six, in tiles of one shape. */
void moe_int_list_tiled(moe_int_list *l, moe_stage stage, const moe_int_gemm *gemm,
                        moe_int_tile tile);
void moe_int_list_stream(moe_int_list *l, moe_stage stage, double read, double write);
/* The same for a kernel that gets through no more than `rate` elements a clock and SM. */
void moe_int_list_slow(moe_int_list *l, moe_stage stage, double read, double write, double elements,
                       double rate);

/* The same for a kernel whose warps' rounds of loads take `rounds_us`. */
void moe_int_list_rounds(moe_int_list *l, moe_stage stage, double read, double write,
                         double rounds_us);

/* Such a rate, read off ScatterMoE's: PyTorch's sum over K, for each result. */
#define MOE_INT_SUM_RATE 0.96

/* Frees what the list still owns; the kernels are the prediction's by then. */
void moe_int_list_destroy(moe_int_list *l);

/* Memory of activations: alive from the next kernel on; gone after the last one; alive and kept for
 * the backward pass. `name` is a literal; a free is of the latest of that name. */
void moe_int_list_alloc(moe_int_list *l, const char *name, double bytes);
void moe_int_list_free(moe_int_list *l, const char *name);
void moe_int_list_cache(moe_int_list *l, const char *name, double bytes);
/* The latest of that name is kept for the backward pass after all; false: none is alive. */
bool moe_int_list_keep(moe_int_list *l, const char *name);
/* A parameter or its gradient: its bytes are no activation's. */
void moe_int_list_param(moe_int_list *l, const char *name, moe_live_kind kind, double bytes);

/* Tile shapes of cuBLAS, which every method leaves its dense GEMMs to: every multiple of 32 columns
 * that the registers hold. */
extern const moe_int_tiles moe_int_cublas_tiles;

#endif
