/* Reports of moeref-bench-cpu. */
#include "core/samples.h"
#include "cpu_bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double bench_median(const bench_samples *samples) {
    bench_samples s = *samples;
    return moe_int_median(s.value, (size_t)s.count);
}

double bench_spread(const bench_samples *samples) {
    bench_samples s = *samples;
    const double median = moe_int_median(s.value, (size_t)s.count);
    return (s.value[s.count - 1] - s.value[0]) / median;
}

/* FLOP per microsecond is 1e-3 GFLOP/s. */
static double gflops(double flop, double us) {
    return 1e-3 * flop / us;
}

static double total_us(const bench_row *row) {
    return bench_median(&row->fwd_us) + bench_median(&row->bwd_us);
}

static double total_gflops(const bench_row *row) {
    return gflops(row->fwd_flop + row->bwd_flop, total_us(row));
}

void bench_print_header(const bench_options *o, const char *gemm_source) {
    printf("backend %s, fp32, d=%lld n=%lld E=%lld K=%lld, SwiGLU, medians of %d interleaved "
           "repeats (spread = (max - min) / median)\n"
           "GEMM: %s\n\n",
           o->backend, (long long)o->desc.d, (long long)o->desc.n, (long long)o->desc.E,
           (long long)o->desc.K, o->repeats, gemm_source);
    printf("%7s %9s %9s %17s %17s %9s %16s %9s %9s\n", "T", "GEMM", "spread", "forward", "backward",
           "total", "total/GEMM", "us/token", "peak MB");
    printf("%7s %9s %9s %17s %17s %9s %16s\n", "", "GFLOP/s", "", "GFLOP/s  spread",
           "GFLOP/s  spread", "GFLOP/s", "ratio  spread");
}

void bench_print_row(const bench_row *row) {
    printf("%7lld %9.1f %8.1f%% %8.1f %7.1f%% %8.1f %7.1f%% %9.1f %8.3f %6.1f%% %9.2f %9.0f\n",
           (long long)row->T, 1e-9 * bench_median(&row->gemm_flops),
           100 * bench_spread(&row->gemm_flops), gflops(row->fwd_flop, bench_median(&row->fwd_us)),
           100 * bench_spread(&row->fwd_us), gflops(row->bwd_flop, bench_median(&row->bwd_us)),
           100 * bench_spread(&row->bwd_us), total_gflops(row), bench_median(&row->ratio),
           100 * bench_spread(&row->ratio), total_us(row) / (double)row->T,
           1e-6 * (double)row->memory.peak);
    fflush(stdout);
}

void bench_print_loops(const bench_result *r) {
    const bench_options *o = r->options;
    for (int k = 0; k < 2; k++) {
        double loops = gflops(r->loops_flop, r->loops_us[k]);
        printf("\nfloat32 plain loops, forward and backward, T=%lld, %s: %.2f GFLOP/s\n",
               (long long)o->loops_T, k ? "the same threads" : "one thread", loops);
        for (int i = 0; i < o->n_T; i++)
            printf("  %s at T=%lld is %.0f times that\n", o->backend, (long long)r->row[i].T,
                   total_gflops(&r->row[i]) / loops);
    }
}

static void print_samples(const char *name, const bench_samples *s, double scale) {
    printf(", \"%s\": {\"median\": %.6g, \"spread\": %.4f}", name, scale * bench_median(s),
           bench_spread(s));
}

/* A backend's spec may hold any character of a path. */
static void print_string(const char *text) {
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            printf("\\u%04x", (unsigned)*text);
        else
            putchar(*text);
    }
    putchar('"');
}

void bench_print_json(const bench_result *r) {
    const bench_options *o = r->options;
    printf("{\"moeref\": 1, \"bench_cpu\": {\"backend\": ");
    print_string(o->backend);
    printf(", \"d\": %lld, \"n\": %lld, \"E\": %lld, \"K\": %lld, \"repeats\": %d, \"gemm\": ",
           (long long)o->desc.d, (long long)o->desc.n, (long long)o->desc.E, (long long)o->desc.K,
           o->repeats);
    print_string(r->gemm_source);
    printf(",\n \"rows\": [");
    for (int i = 0; i < o->n_T; i++) {
        const bench_row *row = &r->row[i];
        printf("%s\n  {\"T\": %lld, \"pairs\": %lld, \"fwd_flops\": %.6g, \"bwd_flops\": %.6g",
               i ? "," : "", (long long)row->T, (long long)row->pairs, row->fwd_flop,
               row->bwd_flop);
        print_samples("gemm_gflops", &row->gemm_flops, 1e-9);
        print_samples("fwd_us", &row->fwd_us, 1);
        print_samples("bwd_us", &row->bwd_us, 1);
        print_samples("ratio_to_gemm", &row->ratio, 1);
        printf(", \"total_gflops\": %.6g, \"us_per_token\": %.6g, \"cached_bytes\": %lld, "
               "\"peak_bytes\": %lld}",
               total_gflops(row), total_us(row) / (double)row->T, (long long)row->memory.cached,
               (long long)row->memory.peak);
    }
    printf("]");
    if (o->loops_T)
        printf(",\n \"plain_loops_fp32\": {\"T\": %lld, \"gflops_one_thread\": %.6g, "
               "\"gflops_same_threads\": %.6g}",
               (long long)o->loops_T, gflops(r->loops_flop, r->loops_us[0]),
               gflops(r->loops_flop, r->loops_us[1]));
    printf("}}\n");
}
