/* Layers timed on one H100 (golden/sim/peers.tsv): error of whole passes, and their order. Bounds
 * are what sim/README.md states, with a little room for the next fit. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "moeref/model.h"

#define PASSES_MAX 256

typedef struct timed {
    char method[32], shape[128];
    double measured_us, predicted_us;
} timed;

static double predict(const moe_gpu *gpu, const char *method, const moe_case *c) {
    int64_t *counts = malloc((size_t)c->layer.E * sizeof *counts);
    moe_prediction *p = NULL;
    cr_assert_eq(moe_counts_draw(c, NULL, counts), MOE_OK);
    const moe_workload w = {.layer = &c->layer,
                            .tokens = c->T,
                            .counts = counts,
                            .pass = c->pass,
                            .clock = MOE_CLOCK_SETTLED};
    cr_assert_eq(moe_predict(gpu, method, &w, NULL, &p), MOE_OK, "%s", method);
    const double us = p->total_us;
    moe_prediction_free(&p);
    free(counts);
    return us;
}

static int read_row(const moe_gpu *gpu, const char *line, timed *ret) {
    long T, d, n, K, E;
    char pass[8], route[16], text[160];
    moe_case c;
    if (sscanf(line, "%31s %ld %ld %ld %ld %ld %7s %15s %lf", ret->method, &T, &d, &n, &K, &E, pass,
               route, &ret->measured_us) != 9)
        return 0; /* the header */
    snprintf(ret->shape, sizeof ret->shape, "T=%ld d=%ld n=%ld K=%ld E=%ld pass=%s", T, d, n, K, E,
             pass);
    snprintf(text, sizeof text, "%s route=%s", ret->shape, route);
    cr_assert_eq(moe_case_parse(text, NULL, &c), MOE_OK, "%s", text);
    ret->predicted_us = predict(gpu, ret->method, &c);
    moe_case_clear(&c);
    return 1;
}

static int read_table(timed *rows) {
    char path[8192], line[256];
    moe_gpu *gpu = NULL;
    int count = 0;
    snprintf(path, sizeof path, "%s/golden/sim/peers.tsv", getenv("MOEREF_SOURCE_ROOT"));
    FILE *in = fopen(path, "r");
    cr_assert(in, "%s", path);
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    while (count < PASSES_MAX && fgets(line, sizeof line, in))
        count += read_row(gpu, line, &rows[count]);
    fclose(in);
    moe_gpu_destroy(&gpu);
    return count;
}

static void expect_error(const timed *rows, int count, const char *method, int passes,
                         double percent) {
    double sum = 0;
    int seen = 0;
    for (int i = 0; i < count; i++) {
        if (strcmp(rows[i].method, method) == 0) {
            sum += fabs(rows[i].predicted_us / rows[i].measured_us - 1);
            seen++;
        }
    }
    cr_expect_eq(seen, passes, "%s: %d passes", method, seen);
    cr_expect(100 * sum / seen < percent, "%s: mean error %.1f %%", method, 100 * sum / seen);
}

Test(sim_peers, errors) {
    static timed rows[PASSES_MAX];
    const int count = read_table(rows);
    expect_error(rows, count, "cublas", 34, 3.5);
    expect_error(rows, count, "moeref", 34, 3.5);
    expect_error(rows, count, "grouped_mm", 34, 4);
    expect_error(rows, count, "scattermoe", 32, 5);
}

/* Methods more than 6.5 % apart come out in the order in which they were measured. */
Test(sim_peers, order) {
    static timed rows[PASSES_MAX];
    const int count = read_table(rows);
    int pairs = 0;
    for (int i = 0; i < count; i++) {
        for (int j = 0; j < count; j++) {
            const timed *a = &rows[i], *b = &rows[j];
            if (strcmp(a->shape, b->shape) != 0 || a->measured_us * 1.065 >= b->measured_us)
                continue;
            pairs++;
            cr_expect(a->predicted_us < b->predicted_us, "%s: %s %.0f us before %s %.0f us",
                      a->shape, a->method, a->predicted_us, b->method, b->predicted_us);
        }
    }
    cr_expect(pairs > 150, "only %d pairs", pairs);
}
