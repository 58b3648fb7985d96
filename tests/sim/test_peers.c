/* Layers timed on one H100 (golden/sim/peers.tsv, sonicmoe_measured.tsv), and SonicMoE's figure
 * (sonicmoe_bars.tsv, sonicmoe_figure.tsv): error of whole passes, and their order. Bounds are what
 * sim/README.md states, with a little room for the next fit. The figure's wrong pairs are printed.
 */
#include "moeref/model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PASSES_MAX 256

typedef struct timed {
    char method[32], shape[128];
    double measured_us, predicted_us;
    double mflop; /* so that mflop / us are TFLOP/s */
} timed;

static double predict(const moe_gpu *gpu, const char *method, const moe_case *c) {
    int64_t *counts = malloc((size_t)c->layer.E * sizeof *counts);
    moe_prediction *p = NULL;
    cr_assert_eq(moe_counts_draw(c, NULL, counts), MOE_OK);
    const moe_workload settled = {.clock = MOE_CLOCK_SETTLED},
                       w = moe_workload_of(c, counts, &settled);
    cr_assert_eq(moe_predict(gpu, method, &w, NULL, &p), MOE_OK, "%s", method);
    const double us = p->total_us;
    moe_prediction_destroy(&p);
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
    ret->mflop = (c.pass == MOE_PASS_FWD ? 6e-6 : 12e-6) * (double)(T * K) * (double)(d * n);
    moe_case_destroy(&c);
    return 1;
}

/* Appends the rows of a table to the `count` that there are; returns how many there are then. */
static int append(const moe_gpu *gpu, const char *name, timed *rows, int count) {
    char path[8192], line[256];
    snprintf(path, sizeof path, "%s/golden/sim/%s", getenv("MOEREF_SOURCE_ROOT"), name);
    FILE *in = fopen(path, "r");
    cr_assert(in, "%s", path);
    while (count < PASSES_MAX && fgets(line, sizeof line, in))
        count += read_row(gpu, line, &rows[count]);
    fclose(in);
    return count;
}

static int read_table(timed *rows) {
    moe_gpu *gpu = NULL;
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    int count = append(gpu, "peers.tsv", rows, 0);
    count = append(gpu, "sonicmoe_measured.tsv", rows, count);
    moe_gpu_destroy(&gpu);
    return count;
}

/* The figure's bars of ScatterMoE hold no host time. */
static int read_figure(timed *rows) {
    moe_gpu *gpu = NULL;
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    cr_assert_eq(moe_gpu_what_if(gpu, "scattermoe.fixed_us=0", NULL), MOE_OK);
    int count = append(gpu, "sonicmoe_figure.tsv", rows, 0);
    count = append(gpu, "sonicmoe_bars.tsv", rows, count);
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
    expect_error(rows, count, "sonicmoe", 8, 5.5);
}

/* Methods more than 6.5 % apart come out in the order in which they were measured; `moeref` was
 * measured in a later run than the others. */
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

Test(sim_peers, figure_errors) {
    static timed rows[PASSES_MAX];
    const int count = read_figure(rows);
    expect_error(rows, count, "sonicmoe", 24, 4.2);
    expect_error(rows, count, "scattermoe", 24, 7);
    expect_error(rows, count, "momoe", 24, 4.5);
    expect_error(rows, count, "megablocks", 20, 2.2);
    expect_error(rows, count, "deepgemm", 24, 3);
}

typedef struct pairs {
    int right, wrong;
} pairs;

/* Two bars are told apart if they differ by more than what both were read to. */
#define READ_TFLOPS 10

static void compare(const timed *a, const timed *b, pairs *far, pairs *near) {
    const double apart = fabs(a->mflop / a->measured_us - b->mflop / b->measured_us);
    pairs *of = apart > 2 * READ_TFLOPS ? far : near;
    if ((a->measured_us < b->measured_us) == (a->predicted_us < b->predicted_us)) {
        of->right++;
        return;
    }
    of->wrong++;
    fprintf(stderr, "%s %s: %s, %s: %.0f TFLOP/s apart, measured %+.1f %%, predicted %+.1f %%\n",
            of == far ? "wrong" : "near tie", a->shape, a->method, b->method, apart,
            100 * (a->measured_us / b->measured_us - 1),
            100 * (a->predicted_us / b->predicted_us - 1));
}

Test(sim_peers, figure_order) {
    static timed rows[PASSES_MAX];
    const int count = read_figure(rows);
    pairs far = {0}, near = {0};
    int equal = 0;
    for (int i = 0; i < count; i++) {
        for (int j = i + 1; j < count; j++) {
            if (strcmp(rows[i].shape, rows[j].shape) != 0)
                continue;
            if (rows[i].measured_us == rows[j].measured_us)
                equal++;
            else
                compare(&rows[i], &rows[j], &far, &near);
        }
    }
    fprintf(stderr, "right: %d of %d pairs told apart, %d of %d near ties; %d bars equal\n",
            far.right, far.right + far.wrong, near.right, near.right + near.wrong, equal);
    cr_expect_eq(far.right + far.wrong + near.right + near.wrong + equal, 224);
    cr_expect(far.wrong <= 5, "%d pairs in the wrong order", far.wrong);
    cr_expect(near.wrong <= 11, "%d near ties in the wrong order", near.wrong);
}
