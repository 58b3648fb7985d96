/* moeref-bench-emulator: how fast the emulated tensor cores are. Of each format, steps and packed
 * elements a second of one core, in CPU time; of a case, forward and backward by the reference that
 * plays the unit, in wall and CPU time. */
#include "core/clock.h"
#include "moeref/backend.h"
#include "moeref/case.h"
#include "reference/tensorcore/chain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char help[] =
    "usage: moeref-bench-emulator [UNIT [CASE]]\n\n"
    "Steps of a unit (default sm_90) and elements packed for it, millions a second on one core: "
    "the\n"
    "median of 9 runs of 0.2 s of CPU time. With a case in bf16 or fp16: its forward and backward\n"
    "by the reference on that unit.\n\n"
    "Exit codes: 0 done, 2 usage, 3 could not run.\n";

enum { EXIT_USAGE = 2, EXIT_CANNOT_RUN = 3, REPEATS = 9 };
enum { ROWS = 16, COLUMNS = 64, K = 2048 };
static const double seconds_each = 0.2;

static void print_message(void *user, moe_log_level level, const char *message) {
    (void)user;
    if (level <= MOE_LOG_WARN)
        fprintf(stderr, "moeref-bench-emulator: %s\n", message);
}

static const moe_log log_to_stderr = {print_message, NULL};

static void must(moe_status status, const char *what) {
    if (status) {
        fprintf(stderr, "moeref-bench-emulator: %s: %s\n", what, moe_status_str(status));
        exit(EXIT_CANNOT_RUN);
    }
}

static double cpu_seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Codes of numbers around 1 of either sign, their exponents some places apart. */
static void draw(moe_int_format format, int64_t count, uint16_t *wide, uint8_t *narrow) {
    const moe_int_layout *l = &moe_int_layouts[format];
    uint64_t state = 12345;
    for (int64_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const uint32_t bits = (uint32_t)(state >> 33), sign = bits >> 30 & 1;
        const uint32_t exponent = (uint32_t)(1 - l->least - 3) + bits % 5;
        const uint32_t code = sign << (8 * l->bytes - 1) | exponent << l->fraction |
                              (bits >> 8 & ((1u << l->fraction) - 1));
        wide[i] = (uint16_t)code;
        narrow[i] = (uint8_t)code;
    }
}

static void pack(const moe_int_chain *chain, const moe_int_operand *from, moe_int_packed *left,
                 moe_int_packed *right) {
    moe_int_packed_destroy(left);
    moe_int_packed_destroy(right);
    must(moe_int_pack(from, chain->format, MOE_INT_PACK_LEFT, 0, ROWS, K, left), "pack");
    must(moe_int_pack(from, chain->format, MOE_INT_PACK_RIGHT, 0, COLUMNS, K, right), "pack");
}

/* Steps, or packed elements, a second. */
static double rate(const moe_int_chain *chain, const moe_int_operand *from, bool packs) {
    const double start = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
    const int terms = chain->unit->rule[chain->format].terms;
    double done = 0, passed = 0;
    moe_int_packed left = {0}, right = {0};
    float sum[MOE_INT_LANES];
    while (passed < seconds_each) {
        if (packs || !left.count)
            pack(chain, from, &left, &right);
        for (int i = 0; !packs && i < ROWS; i++)
            for (int group = 0; group < COLUMNS / MOE_INT_LANES; group++)
                moe_int_chain_row(chain, &left, i, &right, group, sum);
        done += packs ? (ROWS + COLUMNS) * (double)K : ROWS * COLUMNS * (double)K / terms;
        passed = cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - start;
    }
    moe_int_packed_destroy(&left);
    moe_int_packed_destroy(&right);
    return done / passed;
}

static double median_rate(const moe_int_chain *chain, const moe_int_operand *from, bool packs) {
    double all[REPEATS];
    for (int i = 0; i < REPEATS; i++)
        all[i] = rate(chain, from, packs);
    qsort(all, REPEATS, sizeof *all, by_value);
    return all[REPEATS / 2];
}

static void measure_formats(const moe_arithmetic *how) {
    static uint16_t wide[COLUMNS * K];
    static uint8_t narrow[COLUMNS * K];
    printf("%-12s %-6s %16s %26s\n", "unit", "format", "million steps/s",
           "million elements packed/s");
    for (int f = 0; f < MOE_INT_FORMATS; f++) {
        moe_int_chain chain;
        if (moe_int_chain_make(how, (moe_int_format)f, &chain) || !chain.unit->rule[f].kept)
            continue;
        draw((moe_int_format)f, (int64_t)COLUMNS * K, wide, narrow);
        const moe_int_operand from = {
            moe_int_layouts[f].bytes == 1 ? (const void *)narrow : wide, K, 1, NULL, NULL, false};
        printf("%-12s %-6s %16.1f %26.0f\n", how->unit, moe_int_layouts[f].name,
               1e-6 * median_rate(&chain, &from, false), 1e-6 * median_rate(&chain, &from, true));
        fflush(stdout);
    }
}

static void measure_pass(const char *name, moe_status (*pass)(moe_layer *), moe_layer *layer) {
    const double cpu = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID), start = moe_int_now_us();
    must(pass(layer), name);
    printf("%-9s %8.2f s, %8.2f s CPU\n", name, 1e-6 * (moe_int_now_us() - start),
           cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    fflush(stdout);
}

static void measure_layer(const char *unit, const char *line) {
    moe_case c;
    moe_problem *p = NULL;
    moe_backends *all = NULL;
    moe_backend *backend = NULL;
    moe_layer *layer = NULL;
    char spec[64];
    must(moe_case_parse(line, &log_to_stderr, &c), "case");
    must(moe_problem_from_case(&c, &log_to_stderr, &p), "case");
    snprintf(spec, sizeof spec, "reference:%s.%s", p->dtype == MOE_F16 ? "fp16" : "bf16", unit);
    must(moe_backends_load(NULL, &log_to_stderr, &all), "backends");
    must(moe_backend_open(all, spec, NULL, &log_to_stderr, &backend), spec);
    const moe_use use = {p->T, p->dtype, MOE_PASS_BOTH, p->plan != NULL};
    must(moe_layer_prepare(backend, &p->layer, &use, &p->in, &layer), "prepare");
    const moe_input input = {p->T, p->in.t[MOE_T_X], p->in.t[MOE_T_DO], p->plan, p->seed};
    must(moe_layer_set_input(layer, &input), "set_input");
    printf("%s on %s\n", p->name, spec);
    measure_pass("forward", moe_layer_forward, layer);
    measure_pass("backward", moe_layer_backward, layer);
    moe_layer_destroy(&layer);
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
    moe_problem_destroy(&p);
    moe_case_destroy(&c);
}

int main(int argc, char **argv) {
    moe_arithmetic how;
    if (argc > 3 || (argc > 1 && argv[1][0] == '-')) {
        fputs(help, stderr);
        return argc > 3 ? EXIT_USAGE : strcmp(argv[1], "--help") == 0 ? 0 : EXIT_USAGE;
    }
    must(moe_arithmetic_parse(argc > 1 ? argv[1] : "sm_90", &how), "unit");
    measure_formats(&how);
    if (argc == 3)
        measure_layer(argv[1], argv[2]);
    return 0;
}
