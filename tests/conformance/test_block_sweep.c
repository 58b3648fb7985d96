/* Random cases of every block: no correct kernel may fail on one, and what is planted into a kernel
 * must. MOEREF_SWEEP=N draws N of each block instead of the few of a test run. */
#include "drawn.h"
#include "layer/blocks.h"
#include "moeref/check.h"
#include "random_layer.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { FEW = 3 };

#define NAME(name, meaning) #name,
static const char *const blocks[] = {MOE_INT_BLOCKS(NAME)};
enum { BLOCKS = sizeof blocks / sizeof *blocks };

static bool is(const char *name, const char *one, const char *other) {
    return strcmp(name, one) == 0 || strcmp(name, other) == 0;
}

/* Skipped tokens need one expert that takes some; BlockFFN's router, experts without a gate. */
static void put_block(drawing *d, const char *name, int64_t T) {
    static const char *const gated[] = {"swiglu", "geglu", "reglu", "swiglu_clamp limit=1",
                                        "swiglu glu=interleaved"};
    static const char *const plain[] = {"silu", "gelu", "relu", "relu2"};
    static const int64_t E[] = {2, 4, 6, 16};
    if (is(name, "depths", "recursions")) {
        put(d, " E=1 K=1 capacity=%lld", (long long)(T + 1) / 2);
    } else {
        const int64_t experts = E[below(d, 4)];
        put(d, " E=%lld K=%lld", (long long)experts,
            (long long)(1 + below(d, experts < 4 ? (uint64_t)experts : 4)));
    }
    if (strcmp(name, "relu_rms") == 0 || below(d, 3) == 0)
        put(d, " act=%s", plain[below(d, strcmp(name, "relu_rms") == 0 ? 3 : 4)]);
    else
        put(d, " act=%s", gated[below(d, 5)]);
    if (is(name, "chained", "chained_skip") || is(name, "recurrent", "constants") ||
        is(name, "recursions", ""))
        put(d, " layers=%d", 1 + (int)below(d, 3));
}

static void draw(int block, uint64_t index, drawing *d) {
    static const int64_t T[] = {1, 2, 5, 16, 33, 64, 130}, D[] = {8, 9, 24, 48, 130};
    static const int64_t N[] = {1, 4, 17, 48};
    static const char *const dtypes[] = {"fp32", "bf16", "fp16"};
    *d = (drawing){.index = index};
    const int64_t tokens = T[below(d, 7)];
    const char *dtype = dtypes[below(d, 3)];
    const int64_t units = N[below(d, 4)], width = D[below(d, 5)];
    put(d, "T=%lld d=%lld n=%lld block=%s seed=%llu dtype=%s", (long long)tokens, (long long)width,
        (long long)units, blocks[block], (unsigned long long)index, dtype);
    put_block(d, blocks[block], tokens);
    if (below(d, 6) == 0)
        put(d, " data=outlier");
}

static moe_verdict verdict_of(moe_backend *backend, const char *line, char *why, size_t size) {
    moe_problem *problem = drawn(line);
    moe_check_result *r = NULL;
    const moe_check_params params = {.repeats = 1, .threads = 1, .no_explanation = 1};
    cr_assert_eq(moe_check_backend(backend, problem, &params, NULL, &r), MOE_OK, "%s", line);
    const moe_verdict verdict = r->verdict;
    snprintf(why, size, "%s", r->why);
    moe_check_result_destroy(&r);
    moe_problem_destroy(&problem);
    return verdict;
}

static moe_backend *open_spec(moe_backends *all, const char *spec) {
    const moe_open_params params = {.threads = 1};
    moe_backend *backend = NULL;
    cr_assert_eq(moe_backend_open(all, spec, &params, NULL, &backend), MOE_OK, "%s", spec);
    return backend;
}

Test(block_sweep, right_kernels_pass, .timeout = 6000) {
    static const char *const specs[] = {"reference:fp32", "reference:bf16", "reference:fp16",
                                        "reference:bf16.eager"};
    const char *wanted = getenv("MOEREF_SWEEP");
    const long count = wanted ? strtol(wanted, NULL, 10) : FEW;
    moe_backends *all = NULL;
    char why[256];
    cr_assert_eq(moe_backends_load("", NULL, &all), MOE_OK);
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) {
        moe_backend *backend = open_spec(all, specs[s]);
        for (int b = 0; b < BLOCKS; b++)
            for (long i = 0; i < count; i++) {
                drawing d;
                draw(b, (uint64_t)(i * BLOCKS + b), &d);
                const moe_verdict verdict = verdict_of(backend, d.line, why, sizeof why);
                cr_expect_leq(verdict, MOE_VERDICT_MISTRUSTED, "%s, %s: %s", specs[s], d.line, why);
            }
        moe_backend_close(&backend);
    }
    moe_backends_destroy(&all);
}

/* Layers that failed once: weights below the normal numbers of fp32, which lose digits there, and
 * gradients made of them. */
Test(block_sweep, known) {
    static const char *const known[] = {
        "T=33 d=8 n=4 block=chained seed=813 dtype=fp32 E=4 K=3 act=reglu layers=2 data=outlier",
        "T=33 d=130 n=48 block=chained_skip seed=754 dtype=fp32 E=4 K=4 act=geglu layers=3 "
        "data=outlier"};
    moe_backends *all = NULL;
    char why[256];
    cr_assert_eq(moe_backends_load("", NULL, &all), MOE_OK);
    moe_backend *backend = open_spec(all, "reference:fp32");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        cr_expect_eq(verdict_of(backend, known[i], why, sizeof why), MOE_VERDICT_PASS, "%s: %s",
                     known[i], why);
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
}

/* Of each kind of result one that is wrong. Union-of-Experts as released has no weights to lose. */
Test(block_sweep, planted_faults_fail, .timeout = 600) {
    static const char *const faults[] = {"O_scaled",    "dX_halved", "dS_negative",
                                         "dW1_doubled", "k_tail_Y",  "weight_missing"};
    moe_backends *all = NULL;
    cr_assert_eq(moe_backends_load("", NULL, &all), MOE_OK);
    for (size_t f = 0; f < sizeof faults / sizeof *faults; f++) {
        char spec[4096], line[160], why[256];
        snprintf(spec, sizeof spec, "%s/backends/faulty/faulty.so:%s", getenv("MOEREF_BUILD_ROOT"),
                 faults[f]);
        moe_backend *backend = open_spec(all, spec);
        for (int b = 0; b < BLOCKS; b++) {
            const char *name = blocks[b];
            snprintf(line, sizeof line, "T=40 d=24 n=32 %s block=%s act=%s dtype=bf16 seed=11",
                     is(name, "depths", "recursions") ? "E=1 K=1 capacity=20" : "E=4 K=2", name,
                     is(name, "relu_rms", "") ? "silu" : "swiglu");
            const bool nothing = is(name, "unweighted", "") && is(faults[f], "weight_missing", "");
            const moe_verdict verdict = verdict_of(backend, line, why, sizeof why);
            cr_expect_eq(verdict, nothing ? MOE_VERDICT_PASS : MOE_VERDICT_FAIL, "%s, %s", spec,
                         line);
        }
        moe_backend_close(&backend);
    }
    moe_backends_destroy(&all);
}
