/* The GPU cost model: how long will this layer take on that GPU, how much memory does it need, and
 * what bounds it? sim/README.md states the equations and how far they were held against
 * measurements. No GPU is needed to ask. */
#ifndef MOEREF_MODEL_H
#define MOEREF_MODEL_H

#include "moeref/case.h"
#include "moeref/cost.h"
#include "moeref/stage.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A GPU description: named numbers ("sms", "hbm_bw" ...) and, for each software system that was
 * held against measurements, its efficiencies ("cutlass_moe.stream" ...).
 * Thread-safety: const calls from any thread; moe_gpu_set and moe_gpu_what_if from one. */
typedef struct moe_gpu moe_gpu;

/* Names of the shipped descriptions, NULL-terminated. */
MOE_API const char *const *moe_gpu_names(void);

/* Loads a shipped description by name, or a file where `spec` holds a '/' or ends in ".json".
 * MOE_E_NOTFOUND lists the shipped names; MOE_E_FORMAT names the file and the key that is missing,
 * of the wrong type, unknown or absurd (outside the range that moe_gpu_param tells). */
MOE_API moe_status moe_gpu_load(const char *spec, const moe_log *log, moe_gpu **ret);

/* The same from the file's text; `name` appears in messages. */
MOE_API moe_status moe_gpu_parse(const char *text, size_t size, const char *name,
                                 const moe_log *log, moe_gpu **ret);
/* A description of its own, to be changed. MOE_E_NOMEM. */
MOE_API moe_status moe_gpu_clone(const moe_gpu *gpu, moe_gpu **ret);
MOE_API void moe_gpu_destroy(moe_gpu **gpu);
/* Texts of a description live as long as it. */
MOE_API const char *moe_gpu_name(const moe_gpu *gpu);
/* What it is, and which measurements it was held to; "" where its file does not say. */
MOE_API const char *moe_gpu_brief(const moe_gpu *gpu);
MOE_API const char *moe_gpu_held_to(const moe_gpu *gpu);
/* The rate of products of a type (moe_storage) against bf16's, 0 where the GPU has none; and what
 * it was held to, measured rows of dense products: "" for nothing, which leaves the vendor's peak.
 */
MOE_API double moe_gpu_rate(const moe_gpu *gpu, int32_t storage);
MOE_API const char *moe_gpu_rate_held_to(const moe_gpu *gpu, int32_t storage);
/* Whether the file leaves this parameter out: it follows from the architecture, or is that of the
 * nearest measured GPU, *ret_from (NULL: of none; ret_from may be NULL). False for unknown keys. */
MOE_API bool moe_gpu_is_derived(const moe_gpu *gpu, const char *key, const char **ret_from);

/* One named number of a description.
 * Thread-safety: plain data. */
typedef struct moe_gpu_param {
    const char *key;
    const char *unit;
    const char *brief;
    double least, greatest; /* a file's value outside is absurd, and an error */
    int32_t fitted;         /* 1: `moeref calibrate` may move it */
    int32_t whole; /* 1: a whole number, of parts or of a fixed shape; times move with it in
                      steps and have no slope */
} moe_gpu_param;

/* The i-th parameter; key NULL past the end. */
MOE_API moe_gpu_param moe_gpu_param_at(size_t i);

/* Reads or sets "KEY" or "SYSTEM.KEY". MOE_E_NOTFOUND; set: MOE_E_INVALID outside the range, not
 * whole where moe_gpu_param says so, or a clock_mhz above clock_max_mhz. */
MOE_API moe_status moe_gpu_get(const moe_gpu *gpu, const char *key, double *ret);
MOE_API moe_status moe_gpu_set(moe_gpu *gpu, const char *key, double value, const moe_log *log);

/* Applies "hbm_bw*1.5", "sms=144", "l2_bw/2", "kernel_us+1" or "kernel_us-1". MOE_E_INVALID:
 * another form or no number; else as moe_gpu_set. */
MOE_API moe_status moe_gpu_what_if(moe_gpu *gpu, const char *text, const moe_log *log);

/* Writes the description as JSON, each number with its kind and source; values that were set since
 * loading get kind and source as given here. MOE_E_IO. */
MOE_API moe_status moe_gpu_write(const moe_gpu *gpu, const char *path, const char *kind,
                                 const char *source, const moe_log *log);

/* Method names, NULL-terminated, and one line about each; NULL for an unknown name. */
MOE_API const char *const *moe_methods(void);
MOE_API const char *moe_method_brief(const char *method);

typedef enum moe_clock_state {
    MOE_CLOCK_BURST = 0,  /* the call runs on a cool GPU; long calls throttle while they run */
    MOE_CLOCK_SETTLED = 1 /* after some 0.5 s of the same work: the power limit sets the clock */
} moe_clock_state;

/* How the data's entropy loads the tensor cores. */
typedef enum moe_entropy {
    MOE_ENTROPY_DEFAULT = 0, /* as the method's own timings were taken: constant for cutlass_moe,
                                whose public table never fills its weights, random for all others */
    MOE_ENTROPY_RANDOM = 1,  /* N(0,1)-like: sustained clock */
    MOE_ENTROPY_CONSTANT = 2 /* constant data: highest clock, no throttling */
} moe_entropy;

/* What the products' operands are stored in. Results and what lies between the products stay bf16,
 * but for TF32. */
typedef enum moe_storage {
    MOE_STORAGE_BF16 = 0,
    MOE_STORAGE_F16 = 1,
    MOE_STORAGE_OTHER = 2, /* any other type of a case: the model does not know it */
    MOE_STORAGE_FP8 = 3,   /* a fp32 scale for 128 values of a row, and for 128 x 128 of weights */
    MOE_STORAGE_MXFP8 = 4, /* a byte of scale for 32 values */
    MOE_STORAGE_NVFP4 = 5, /* 4 bits, a byte of scale for 16 values */
    MOE_STORAGE_MXFP4 = 6, /* 4 bits, a byte of scale for 32 values */
    MOE_STORAGE_INT8 = 7,  /* a scale for each row and column */
    MOE_STORAGE_TF32 = 8,  /* fp32 in memory, multiplied as TF32 */
    MOE_STORAGE_COUNT
} moe_storage;

/* "bf16", "fp16", "fp8", "mxfp8", "nvfp4", "mxfp4", "int8", "tf32"; NULL for MOE_STORAGE_OTHER and
 * what is none. */
MOE_API const char *moe_storage_name(int32_t storage);

/* What runs.
 * Thread-safety: plain data. */
typedef struct moe_workload {
    const moe_layer_desc *layer;
    int64_t tokens;
    const int64_t *counts; /* [E] tokens of each expert; NULL: as moe_counts_draw makes them of a
                              router */
    int32_t pass;          /* moe_pass; 0: both */
    int32_t storage;       /* moe_storage */
    int32_t clock;         /* moe_clock_state */
    int32_t entropy;       /* moe_entropy */
    int32_t with_router; /* 1: router GEMM and top-K are part of the work, unless the method's layer
                            starts from given logits */
    int32_t in_stream;   /* 0: kernels of a CUDA graph; 1: launched one by one in a stream */
    int32_t converts;    /* 1: a dense product's A comes in 16 bits, and a kernel of its own makes
                            its type and scales of it; nothing for types of 16 bits and TF32 */
    int64_t hidden;      /* as moe_case has it; 0: layer->d */
} moe_workload;

/* The workload of a case: clock, entropy and in_stream are those of *state, and storage if it is
 * none of the first two; the rest is the case's; a case whose routing is given has no router.
 * Points to c->layer and to counts, which may be NULL.
 */
MOE_API moe_workload moe_workload_of(const moe_case *c, const int64_t *counts,
                                     const moe_workload *state);

/* One kernel of a prediction.
 * Thread-safety: plain data. */
typedef struct moe_kernel {
    moe_cost cost;
    double least_us; /* a shorter time is a measuring error: the floor less what L2 may save */
    double smem_bytes;
    double padded_flops;    /* FLOPs that the tiles do, padding counted */
    int32_t stage;          /* moe_stage; MOE_STAGE_COUNT: of no layer (moe_predict_gemm) */
    int32_t backward;       /* 1: part of the backward pass */
    int32_t again;          /* 1: computes what the forward pass computed; not the layer's FLOPs */
    int32_t tile_m, tile_n; /* 0: not a GEMM */
    int32_t split;          /* split-K factor */
    double start_us;
} moe_kernel;

/* Sums over the kernels of a pass, or of both.
 * Thread-safety: plain data. */
typedef struct moe_pass_cost {
    double us; /* kernels, gaps between them and the system's own overhead */
    double floor_us, least_us;
    double flops; /* model FLOPs: the layer's, whatever a method computes twice */
} moe_pass_cost;

typedef enum moe_live_kind {
    MOE_LIVE_WORK = 0,   /* an activation that the pass itself uses up */
    MOE_LIVE_CACHED = 1, /* one that forward keeps for backward */
    MOE_LIVE_WEIGHT = 2,
    MOE_LIVE_GRADIENT = 3 /* of a weight */
} moe_live_kind;

/* A tensor of a prediction, and how long it lives.
 * Thread-safety: plain data. */
typedef struct moe_live {
    const char *name; /* static */
    double bytes;
    int32_t kind;        /* moe_live_kind */
    int32_t backward;    /* 1: the backward pass makes it */
    int32_t first, last; /* moe_stage of the first and the last kernel in its life;
                            MOE_STAGE_COUNT: none, and to the end */
    int32_t until;       /* gone when the tensor of this index comes */
} moe_live;

#define MOE_LIVE_MAX 64

/* A prediction: kernels in launch order. Plain data, freed with moe_prediction_destroy.
 * Thread-safety: plain data. */
typedef struct moe_prediction {
    moe_kernel *kernels; /* [n_kernels] */
    size_t n_kernels;
    moe_pass_cost pass[MOE_PASS_SUMS];
    double low_us, high_us; /* of the total: in 80 of 100 cases the measured time lies between, by
                               the held-out errors of its kind, or of GPUs never measured */
    int32_t storage;        /* moe_storage of the products' operands */
    const char *held_to; /* measured times of this kind (dense products of that type, layers of that
                            method) on this GPU; "" for none. Lives as long as the GPU */
    double overhead_us;  /* the part of the total that is in no kernel */
    double padding;      /* share of the tensor cores' work that is padding, 0..1 */
    double peak_bytes;   /* most activation memory alive at once (parameters not counted) */
    double cached_bytes; /* kept from forward for backward */
    double param_bytes;  /* parameters and, with a backward pass, their gradients */
    double clock_mhz;    /* of the SMs, mean over the kernels' time */
    moe_live tensors[MOE_LIVE_MAX]; /* activations in the order in which they come, then weights */
    size_t n_tensors;
    size_t peak_at; /* the activation with which most is alive */
} moe_prediction;

/* Whether tensor i is alive when most is. */
MOE_API bool moe_prediction_at_peak(const moe_prediction *prediction, size_t i);

/* Predicts a MoE layer. MOE_E_NOTFOUND: no such method (the message lists them);
 * MOE_E_UNSUPPORTED: the method has no backward pass, not this storage, or its kernels are for
 * another architecture; or the GPU has no such rate; MOE_E_INVALID;
 * MOE_E_NOMEM. Thread-safety: any thread. */
MOE_API moe_status moe_predict(const moe_gpu *gpu, const char *method, const moe_workload *work,
                               const moe_log *log, moe_prediction **ret);

/* One dense GEMM C[m][n] = A[m][k] B[k][n], `batch` times, as a vendor library runs it (tile shape
 * and split-K chosen to be fastest). Same errors. */
MOE_API moe_status moe_predict_gemm(const moe_gpu *gpu, int64_t m, int64_t n, int64_t k,
                                    int64_t batch, const moe_workload *state, const moe_log *log,
                                    moe_prediction **ret);

/* What `name` takes, as reports of `moeref bench` call it: the kernels of that name or, where there
 * is none, those of its pass that are part of that stage, bound by what bounds the longest; cost
 * and least_us are set. MOE_E_NOTFOUND: there is no such stage, or the prediction has no such
 * kernel (nothing is logged). */
MOE_API moe_status moe_prediction_stage(const moe_prediction *prediction, const char *name,
                                        moe_kernel *ret);

MOE_API void moe_prediction_destroy(moe_prediction **prediction);

/* Tokens per expert for a case, without those of its zero experts. Exact for balanced, hot and
 * counts. Uniform and zipf: a draw of the same mean and spread, in O(E), a pure function of the
 * seed. A router whose choices are not known counts as balanced, which a load-balance loss makes of
 * it; with token rounding, whose point is the spread, as uniform and then rounded. ret_counts [E]
 * is the caller's. MOE_E_INVALID, MOE_E_NOMEM. */
MOE_API moe_status moe_counts_draw(const moe_case *c, const moe_log *log, int64_t *ret_counts);

/* Writes a Chrome trace (JSON, for Perfetto): one row per SM with tiles and their phases, one for
 * kernels. work->counts must be set. At most `max_tiles` tiles are drawn one by one (0: 200000);
 * where a kernel has more, consecutive tiles of an SM are merged into one slice that says how many.
 * MOE_E_IO. */
MOE_API moe_status moe_trace_write(const moe_gpu *gpu, const char *method, const moe_workload *work,
                                   int64_t max_tiles, const char *path, const moe_log *log);

#ifdef __cplusplus
}
#endif
#endif
