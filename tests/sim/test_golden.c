/* Golden predictions, golden/sim/predictions.txt: each line with its derivation. */
#include "moeref/model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct reader {
    char folder[4096];
    moe_gpu *gpu;
    moe_prediction *p;
    char method[64];
    double tolerance;
    int checked, line;
} reader;

static void load_gpu(reader *r, const char *spec) {
    char path[8192];
    moe_gpu_destroy(&r->gpu);
    snprintf(path, sizeof path, "%s/%s", r->folder, spec);
    cr_assert_eq(moe_gpu_load(strchr(spec, '.') ? path : spec, NULL, &r->gpu), MOE_OK, "line %d",
                 r->line);
}

static void predict_gemm(reader *r, const char *words) {
    long m, n, k;
    cr_assert_eq(sscanf(words, "m=%ld n=%ld k=%ld", &m, &n, &k), 3);
    cr_assert_eq(moe_predict_gemm(r->gpu, m, n, k, 1, NULL, NULL, &r->p), MOE_OK);
}

static void predict_layer(reader *r, const char *line) {
    moe_case c;
    cr_assert_eq(moe_case_parse(line, NULL, &c), MOE_OK, "line %d", r->line);
    int64_t *counts = malloc((size_t)c.layer.E * sizeof *counts);
    cr_assert_eq(moe_counts_draw(&c, NULL, counts), MOE_OK);
    const moe_workload w = moe_workload_of(&c, counts, &(moe_workload){0});
    cr_assert_eq(moe_predict(r->gpu, r->method, &w, NULL, &r->p), MOE_OK, "line %d", r->line);
    free(counts);
    moe_case_destroy(&c);
}

static void predict(reader *r, const char *line) {
    moe_prediction_destroy(&r->p);
    if (strncmp(line, "gemm ", 5) == 0)
        predict_gemm(r, line + 5);
    else
        predict_layer(r, line);
}

static void check_kernel(reader *r, const char *pass, const char *name, double want) {
    for (size_t i = 0; i < r->p->n_kernels; i++) {
        const moe_kernel *k = &r->p->kernels[i];
        if (strcmp(k->cost.name, name) != 0 || k->backward != (strcmp(pass, "bwd") == 0))
            continue;
        cr_expect(fabs(k->cost.us - want) <= r->tolerance, "line %d: %s is %.4f us, not %.4f",
                  r->line, name, k->cost.us, want);
        r->checked++;
        return;
    }
    cr_expect(0, "line %d: no kernel %s %s", r->line, pass, name);
}

static void read_line(reader *r, char *line) {
    char pass[8], name[32];
    double us;
    line[strcspn(line, "\n")] = '\0';
    if (line[0] == '#' || line[0] == '\0')
        return;
    if (strncmp(line, "gpu ", 4) == 0)
        load_gpu(r, line + 4);
    else if (strncmp(line, "method ", 7) == 0)
        snprintf(r->method, sizeof r->method, "%.63s", line + 7);
    else if (strncmp(line, "case ", 5) == 0)
        predict(r, line + 5);
    else if (sscanf(line, "tolerance %lf", &us) == 1)
        r->tolerance = us;
    else if (sscanf(line, "%7s %31s %lf", pass, name, &us) == 3)
        check_kernel(r, pass, name, us);
    else
        cr_expect(0, "line %d cannot be read: %s", r->line, line);
}

Test(sim_golden, predictions) {
    char path[8192], line[1024];
    reader r = {.tolerance = 0};
    snprintf(r.folder, sizeof r.folder, "%s/golden/sim", getenv("MOEREF_SOURCE_ROOT"));
    snprintf(path, sizeof path, "%s/predictions.txt", r.folder);
    FILE *in = fopen(path, "r");
    cr_assert(in, "%s", path);
    while (fgets(line, sizeof line, in)) {
        r.line++;
        read_line(&r, line);
    }
    fclose(in);
    cr_expect(r.checked >= 9, "only %d predictions were checked", r.checked);
    moe_prediction_destroy(&r.p);
    moe_gpu_destroy(&r.gpu);
}
