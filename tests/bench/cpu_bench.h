/* moeref-bench-cpu: what is measured, and its two reports. */
#ifndef MOEREF_CPU_BENCH_H
#define MOEREF_CPU_BENCH_H

#include "moeref/backend.h"
#include "moeref/case.h"

enum { BENCH_MAX_T = 16, BENCH_MAX_REPEATS = 99 };

typedef struct bench_options {
    moe_layer_desc desc;
    int64_t T[BENCH_MAX_T]; /* token counts to measure */
    int n_T;
    int repeats, threads;
    int64_t loops_T; /* tokens of the plain loops' run; 0: leave it out */
    const char *backend;
    int json;
} bench_options;

/* Repeats of one quantity. */
typedef struct bench_samples {
    double value[BENCH_MAX_REPEATS];
    int count;
} bench_samples;

/* All of one token count, repeat by repeat: a GEMM, a forward, a backward, and so on. */
typedef struct bench_row {
    int64_t T, pairs;
    bench_samples gemm_flops; /* FLOP/s */
    bench_samples fwd_us, bwd_us;
    bench_samples ratio; /* of (fwd + bwd) FLOP/s to that repeat's GEMM */
    double fwd_flop, bwd_flop;
    moe_memory memory;
} bench_row;

typedef struct bench_result {
    const bench_options *options;
    bench_row row[BENCH_MAX_T];
    char gemm_source[96];
    double loops_flop;  /* forward and backward of the float32 plain loops */
    double loops_us[2]; /* on one thread; on all of them */
} bench_result;

double bench_median(const bench_samples *samples);
/* (largest - smallest) / median */
double bench_spread(const bench_samples *samples);

/* The table, line by line as it is measured. */
void bench_print_header(const bench_options *options, const char *gemm_source);
void bench_print_row(const bench_row *row);
void bench_print_loops(const bench_result *result);
void bench_print_json(const bench_result *result);

#endif
