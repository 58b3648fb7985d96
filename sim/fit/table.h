/* Internal: a measured table in memory. */
#ifndef MOE_SIM_TABLE_H
#define MOE_SIM_TABLE_H

#include "moeref/fit.h"
#include "sim/net/transfers.h"

#include <jansson.h>

typedef enum moe_int_table_kind {
    MOE_TABLE_GEMMS,
    MOE_TABLE_LAYERS,  /* a row is a pass, or both */
    MOE_TABLE_KERNELS, /* a row is one kernel of a layer, or a pass beside its kernels */
    MOE_TABLE_TRANSFERS
} moe_int_table_kind;

/* A layer that rows were measured on. */
typedef struct moe_table_layer {
    char *line;
    moe_case c;
    int64_t *counts; /* [E] */
} moe_table_layer;

typedef struct moe_int_row {
    char kernel[64];        /* layers: who ran; kernels: which one; passes: which; GEMMs: "" */
    char gemm[64];          /* GEMMs: the line of `moeref predict` */
    bool is_pass;           /* kernels: a pass beside them */
    size_t layer;           /* which of the table's; GEMMs: unused */
    int64_t m, n, k, batch; /* GEMMs; m is the tokens of a layer, or a transfer's size */
    moe_int_moved moved;    /* transfers */
    double us;
    uint64_t shape; /* rows of the same weights' shape share it: they are left out together */
} moe_int_row;

struct moe_table {
    moe_int_table_kind kind;
    moe_int_row *rows;
    size_t count, capacity;
    moe_table_layer *layers;
    size_t n_layers, layers_capacity;
};

/* Adds a layer by its case line, which stands at `where`. */
moe_status moe_int_table_add_layer(moe_table *table, const char *line, const char *where,
                                   const moe_log *log);
/* Adds a row, of the layer added last unless it is a GEMM's. */
moe_status moe_int_table_add_row(moe_table *table, const moe_int_row *row, const moe_log *log);

/* moe_table_load_where for text of `size` bytes and a NUL behind them. */
moe_status moe_int_table_parse(const char *text, size_t size, const char *path, const char *where,
                               const moe_log *log, moe_table **ret);

/* Fills an empty table from text with a header line; json: made of an array's objects, which
 * messages then count. */
moe_status moe_int_table_read_text(const char *text, const char *path, const char *where, bool json,
                                   const moe_log *log, moe_table *table);

/* Fills an empty table from what `moeref bench --output json` wrote. */
moe_status moe_int_table_read_bench(const char *text, size_t size, const char *path,
                                    const moe_log *log, moe_table *table);

/* Rows of a report {"rows": [{"m": 1, ...}, ...]} as the text of a table, for free(). */
moe_status moe_int_table_text_of(const json_t *rows, const char *path, const moe_log *log,
                                 char **ret);

/* Predicts `count` rows, in the table's order, with one prediction for the neighbours of a layer.
 * ret_us is indexed by row; 0 where there is no prediction, and the worst status says why.
 * MOE_E_NOTFOUND: it has no such kernel (nothing is logged). */
moe_status moe_int_table_times(const moe_table *table, const size_t *rows, size_t count,
                               const moe_gpu *gpu, const moe_fit_params *params, const moe_log *log,
                               double *ret_us);

#endif
