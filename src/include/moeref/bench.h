/* Timing a backend, with the prediction and the bound that the times are held against. */
#ifndef MOEREF_BENCH_H
#define MOEREF_BENCH_H

#include "moeref/backend.h"
#include "moeref/case.h"
#include "moeref/model.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MOE_BENCH_MAX_KERNELS 32

/* Times of one thing over the repeats, microseconds.
 * Thread-safety: plain data. */
typedef struct moe_bench_times {
    char name[24]; /* of a pass (moe_pass_sum_name), or a kernel's, of which stage.h has a table */
    double median_us, min_us, max_us;
    double spread;       /* (third quartile - first) / median */
    double flops;        /* model FLOPs, 0 if unknown */
    double bytes;        /* bytes of memory that must move, 0 if unknown */
    double predicted_us; /* by the GPU model or the roofline below; 0 without either */
    double floor_us;     /* the GPU's best, all bytes from its memory; 0 without the GPU model */
    double least_us;     /* a shorter time is a measuring error: at most floor_us; 0 likewise */
    char bound_by[16];   /* what bounds it, as the prediction says; "" without one */
} moe_bench_times;

/* Median and range of samples; all 0: unknown.
 * Thread-safety: plain data. */
typedef struct moe_bench_range {
    double median, min, max;
} moe_bench_range;

/* The device's board while it was timed.
 * Thread-safety: plain data. */
typedef struct moe_bench_board {
    int32_t samples;      /* taken during timed runs; 0: the backend cannot tell */
    int32_t throttled_by; /* moe_throttle bits that any sample had */
    moe_bench_range sm_mhz, memory_mhz, power_w, temperature_c;
    moe_board before; /* before the first run, the untimed ones counted */
} moe_bench_board;

/* Work of this long before the timed runs reaches the clock that the power limit allows. */
#define MOE_BENCH_SETTLED_MS 300

/* Thread-safety: plain data. */
typedef struct moe_bench_params {
    int32_t repeats;     /* 0: 7 */
    int32_t warmup;      /* untimed runs first; 0: 1, negative: none */
    int32_t settle_ms;   /* then untimed runs for that long: a device at its power limit settles */
    int32_t cold_cache;  /* 1: 256 MiB of host memory are read between runs */
    int32_t no_roofline; /* 1: do not measure the device's ceilings */
    const moe_gpu *gpu;  /* predict with the GPU cost model of this device (settled clock from
                          * MOE_BENCH_SETTLED_MS on, else burst); NULL: by the roofline */
    const char *method;  /* the model's method; NULL: "moeref", the project's own kernels */
    /* Called before every run with how many are done, for a progress line; may be NULL. */
    void (*progress)(void *user, int32_t done, int32_t of);
    void *user;
} moe_bench_params;

/* Thread-safety: plain data. */
typedef struct moe_bench_result {
    moe_bench_times pass[MOE_PASS_SUMS]; /* those of a pass that did not run are 0 */
    moe_bench_times kernel[MOE_BENCH_MAX_KERNELS];
    size_t n_kernels; /* 0: the backend times whole passes only */
    int32_t repeats;
    char model[96];   /* the GPU model's method and device; "" where the roofline predicts */
    double model_mhz; /* SM clock that the GPU model assumed, mean over its kernels; 0 without it */
    int has_roofline;
    moe_roofline roofline;
    int has_memory;
    moe_memory memory;
    moe_bench_board board;
} moe_bench_result;

/* Prepares `problem` on `backend` and times forward and (if the problem has it) backward. Checking
 * is the caller's business; here the last timed run's results must be those of an untimed first run
 * (unless warmup is negative), else MOE_E_CONTRACT. MOE_E_UNSUPPORTED with the backend's reason in
 * the log. params may be NULL. */
MOE_API moe_status moe_bench_run(moe_backend *backend, const moe_problem *problem,
                                 const moe_bench_params *params, const moe_log *log,
                                 moe_bench_result *ret);

#ifdef __cplusplus
}
#endif
#endif
