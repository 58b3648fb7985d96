/* Measured tables, how far predictions are off them, and fitting a description to them. */
#ifndef MOEREF_FIT_H
#define MOEREF_FIT_H

#include "moeref/node.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A measured table: dense GEMMs, MoE layers, or single kernels of MoE layers.
 * Thread-safety: const calls from any thread. */
typedef struct moe_table moe_table;

/* Reads a tab-separated file with a header line. GEMMs: columns m, n, k, median_us and perhaps
 * batch. Layers (the first column is kernel): kernel, T, d, n, K, E, median_us and perhaps pass
 * (fwd, bwd, both; without it fwd) and route (balanced, uniform; without it balanced). Other
 * columns are ignored. A file that starts with '{' is a report of `moeref bench --output json`: its
 * rows are the kernels and then the passes of every case in it. MOE_E_IO, MOE_E_FORMAT with the
 * line number. */
MOE_API moe_status moe_table_load(const char *path, const moe_log *log, moe_table **ret);
/* Tables of transfers between GPUs too (sim/README.md has their columns), and of those the lines
 * alone whose columns have the values of `where`, "system=h100_sxm,nodes=1"; NULL: all. */
MOE_API moe_status moe_table_load_where(const char *path, const char *where, const moe_log *log,
                                        moe_table **ret);
MOE_API void moe_table_destroy(moe_table **table);
/* Rows that can be asked for: moe_table_predict. */
MOE_API size_t moe_table_rows(const moe_table *table);

/* Thread-safety: plain data. */
typedef struct moe_fit_params {
    const char *kernel; /* only rows of this kernel, or of this runner of layers; NULL: all */
    const char *method; /* layers and kernels: who ran; its efficiencies are fitted. NULL: cublas */
    const char *free_keys; /* "tensor_eff,hbm_eff" or "cutlass_moe.stream"; NULL or "": none */
    double min_us;         /* rows shorter than this are not fitted */
    int32_t folds;         /* leave-shapes-out folds; 0: 5, at most one per shape */
    int32_t evaluations;   /* of the objective per fold; 0: 400 */
    int32_t sample;        /* at most so many rows per evaluation; 0: 800 */
    uint64_t seed;
    int32_t clock, entropy; /* moe_clock_state and moe_entropy of the table */
    int32_t in_stream;      /* 1: its kernels were launched one by one in a stream */
    int32_t storage;        /* moe_storage, as in moe_workload_of */
    int32_t converts;       /* as in moe_workload: the times of dense products have it in them */
    moe_node *node;         /* tables of transfers: what is judged and fitted, in the GPU's place */
    double *ret_held_out; /* [moe_table_rows] us of each fitted row, by the fit that did not see its
                             shape, 0 of rows that take no part. NULL: not wanted */
} moe_fit_params;

/* What a row of a table is. */
typedef enum moe_row_kind {
    MOE_ROW_GEMM = 0,
    MOE_ROW_LAYER = 1,
    MOE_ROW_KERNEL = 2, /* of a report */
    MOE_ROW_PASS = 3,   /* of a report; never fitted */
    MOE_ROW_TRANSFER = 4
} moe_row_kind;

/* One row with its prediction, for error tables and plots. Strings live as long as the table.
 * Thread-safety: plain data. */
typedef struct moe_row_error {
    const char *what;   /* a line of `moeref predict --batch` */
    const char *kernel; /* of a kernel's row; of a layer's: who ran, or of a report's pass: forward,
                           backward or total; else "" */
    int32_t kind;       /* moe_row_kind */
    double measured_us, predicted_us, floor_us, least_us; /* least_us: as of moe_kernel */
    double low_us, high_us; /* as of moe_prediction; 0 of kernels and of passes beside others */
} moe_row_error;

/* Predicts row i as method, clock, entropy and in_stream of params say. MOE_E_INVALID: i is past
 * the end; MOE_E_NOTFOUND: the prediction has no such kernel or pass. */
MOE_API moe_status moe_table_predict(const moe_table *table, size_t i, const moe_gpu *gpu,
                                     const moe_fit_params *params, const moe_log *log,
                                     moe_row_error *ret);

/* Errors of predictions against a table, in percent of the measured time.
 * Thread-safety: plain data. */
typedef struct moe_fit_error {
    double mean, median, p90, bias;
    int64_t rows;
} moe_fit_error;

typedef enum moe_fit_class {
    MOE_FIT_ALL = 0,   /* rows of at least 4 us */
    MOE_FIT_LONG = 1,  /* rows of at least 20 us */
    MOE_FIT_LARGE = 2, /* m or T of at least 1024 */
    MOE_FIT_CLASSES
} moe_fit_class;

#define MOE_FIT_KERNELS_MAX 32

/* Errors of one kernel over all shapes.
 * Thread-safety: plain data. */
typedef struct moe_fit_kernel {
    char name[64];
    moe_fit_error error; /* rows of at least 4 us */
} moe_fit_kernel;

/* Thread-safety: plain data. */
typedef struct moe_fit_result {
    moe_fit_error as_given[MOE_FIT_CLASSES]; /* with the parameters that the GPU came with */
    moe_fit_error fitted[MOE_FIT_CLASSES];   /* rows of the folds that were fitted */
    moe_fit_error held_out[MOE_FIT_CLASSES]; /* every row once, judged by a fit that never saw its
                                                shape; rows = 0 where nothing was fitted */
    /* Tables of kernels: each kernel's held-out error, or as given where nothing was fitted. The
     * first MOE_FIT_KERNELS_MAX in the table's order. */
    moe_fit_kernel kernels[MOE_FIT_KERNELS_MAX];
    size_t n_kernels;
} moe_fit_result;

/* Fits free_keys of `gpu` in place: minimises the mean |ln(predicted / measured)| with Nelder-Mead
 * over the logarithms of the parameters. Each fold leaves all rows of its shapes, (n,k) or
 * (d,n,K,E), out and is judged on them. The values kept are those of the fit without the last fold,
 * so that no description ever saw every row. The spread of the held-out errors becomes the interval
 * of that method's predictions. Without free_keys only that changes, from errors as given, and
 * as_given is filled. Kernels that the method does not have are left out with a warning.
 * MOE_E_NOTFOUND: an unknown key or method, or no row left. */
MOE_API moe_status moe_gpu_fit(moe_gpu *gpu, const moe_table *table, const moe_fit_params *params,
                               const moe_log *log, moe_fit_result *ret);

#ifdef __cplusplus
}
#endif
#endif
