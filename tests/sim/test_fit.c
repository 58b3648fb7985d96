/* Calibration: the search itself, and getting known parameters back. */
#include "capture.h"
#include "moeref/fit.h"
#include "sim/fit/fit.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static double bowl(void *user, const double *x) {
    (void)user;
    return pow(x[0] - 1, 2) + 3 * pow(x[1] + 2, 2) + pow(x[2] - x[0], 2);
}

Test(sim_fit, nelder_mead_finds_a_minimum) {
    double x[3] = {0, 0, 0};
    cr_expect(moe_int_minimise(bowl, NULL, 3, 0.5, 400, x) < 1e-8);
    cr_expect_float_eq(x[0], 1, 1e-3);
    cr_expect_float_eq(x[1], -2, 1e-3);
}

/* A table made by the model with other parameters: the fit must find them. */
Test(sim_fit, known_parameters_come_back) {
    char path[TEMPORARY_BYTES], *text = calloc(1, 1 << 16);
    moe_gpu *truth, *gpu;
    moe_table *table;
    moe_fit_result r;
    double eff = 0;
    size_t used = (size_t)sprintf(text, "m\tn\tk\tmedian_us\n");
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &truth), MOE_OK);
    moe_gpu_set(truth, "tensor_eff", 0.6, NULL);
    moe_gpu_set(truth, "hbm_eff", 0.5, NULL);
    for (int i = 0; i < 120; i++) {
        const int m = 1 << i % 13, n = 512 * (1 + i % 11), k = 1024 * (1 + i % 7);
        moe_prediction *p;
        cr_assert_eq(moe_predict_gemm(truth, m, n, k, 1, NULL, NULL, &p), MOE_OK);
        used +=
            (size_t)sprintf(text + used, "%d\t%d\t%d\t%.6f\n", m, n, k, p->pass[MOE_PASS_TOTAL].us);
        moe_prediction_destroy(&p);
    }
    temporary_file(path, "", text, strlen(text));
    cr_assert_eq(moe_table_load(path, NULL, &table), MOE_OK);
    cr_expect_eq(moe_table_rows(table), 120);
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    const moe_fit_params params = {
        .free_keys = "tensor_eff,hbm_eff", .folds = 3, .evaluations = 60};
    cr_assert_eq(moe_gpu_fit(gpu, table, &params, NULL, &r), MOE_OK);
    moe_gpu_get(gpu, "tensor_eff", &eff);
    cr_expect_float_eq(eff, 0.6, 0.006);
    moe_gpu_get(gpu, "hbm_eff", &eff);
    cr_expect_float_eq(eff, 0.5, 0.005);
    cr_expect(r.held_out[0].mean < 0.5 && r.as_given[0].mean > 10);
    cr_expect_eq(r.held_out[0].rows, r.as_given[0].rows);
    cr_expect(r.fitted[0].rows < r.held_out[0].rows, "a fold must stay out of the last fit");
    moe_table_destroy(&table);
    moe_gpu_destroy(&gpu);
    moe_gpu_destroy(&truth);
    unlink(path);
    free(text);
}

static void refuse(moe_gpu *gpu, const moe_table *table, const moe_fit_params *p, moe_status status,
                   const char *word) {
    capture seen;
    const moe_log log = capture_log(&seen);
    moe_fit_result r;
    cr_expect_eq(moe_gpu_fit(gpu, table, p, &log, &r), status, "%s", word);
    cr_expect(strstr(seen.text, word), "\"%s\" does not say %s", seen.text, word);
}

Test(sim_fit, refuses_what_it_cannot_do) {
    char path[4096];
    moe_table *table;
    moe_gpu *gpu;
    temporary_file(path, "", "m\tn\tk\tmedian_us\n64\t64\t64\t4\n128\t64\t64\t5\n",
                   strlen("m\tn\tk\tmedian_us\n64\t64\t64\t4\n128\t64\t64\t5\n"));
    cr_assert_eq(moe_table_load(path, NULL, &table), MOE_OK);
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    static const struct {
        moe_fit_params p;
        moe_status status;
        const char *word;
    } bad[] = {{{.free_keys = "tensor_eff"}, MOE_E_INVALID, "none is left out"}, /* one shape */
               {{.free_keys = "sms"}, MOE_E_INVALID, "fact"},
               {{.free_keys = "nope"}, MOE_E_NOTFOUND, "nope"},
               {{.free_keys = "hbm_eff,tensor_eff,hbm_eff"}, MOE_E_INVALID, "hbm_eff twice"},
               {{.kernel = "nope"}, MOE_E_NOTFOUND, "nope"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuse(gpu, table, &bad[i].p, bad[i].status, bad[i].word);
    moe_table_destroy(&table);
    unlink(path);
    snprintf(path, sizeof path, "%s/golden/sim/sonicmoe_bars.tsv", getenv("MOEREF_SOURCE_ROOT"));
    cr_assert_eq(moe_table_load(path, NULL, &table), MOE_OK);
    refuse(gpu, table, &(moe_fit_params){.method = "nope"}, MOE_E_NOTFOUND, "nope");
    refuse(gpu, table, &(moe_fit_params){.method = "cutlass_moe"}, MOE_E_UNSUPPORTED, "row 2");
    refuse(gpu, table,
           &(moe_fit_params){.method = "sonicmoe", .free_keys = "sonicmoe.tensor", .min_us = 1e9},
           MOE_E_NOTFOUND, "left to fit");
    moe_table_destroy(&table);
    moe_gpu_destroy(&gpu);
}

/* A report of kernels that the model made with other efficiencies, in a stream, one kernel that no
 * method has, and a pass that the kernels' fit must not see. */
static void write_report(char *path, const moe_gpu *truth) {
    char *text;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    fprintf(to, " {\"moeref\":1,\"bench\":[{\"case\":\"hf:x\",\"kernels\":[]}");
    for (int i = 0; i < 6; i++) {
        const int64_t d = 1024 * (1 + i % 3), n = 512 << i % 2;
        int64_t counts[16];
        moe_case c = {.T = 8192, .route = MOE_ROUTE_BALANCED};
        moe_prediction *p;
        moe_layer_desc_init(&c.layer);
        c.layer.d = d, c.layer.n = n, c.layer.E = 16, c.layer.K = 4;
        cr_assert_eq(moe_counts_draw(&c, NULL, counts), MOE_OK);
        const moe_workload w = {.layer = &c.layer, .tokens = c.T, .counts = counts, .in_stream = 1};
        cr_assert_eq(moe_predict(truth, "moeref", &w, NULL, &p), MOE_OK);
        fprintf(to,
                ",{\"case\":\"T=8192 d=%d n=%d E=16 K=4 route=balanced\",\"kernels\":["
                "{\"name\":\"nobody's\",\"measured_us\":10}",
                (int)d, (int)n);
        for (size_t k = 0; k < p->n_kernels; k++)
            fprintf(to, ",{\"name\":\"%s\",\"measured_us\":%.9g}", p->kernels[k].cost.name,
                    p->kernels[k].cost.us);
        fprintf(to, "],\"passes\":[{\"name\":\"forward\",\"measured_us\":%.9g}]}",
                100 * p->pass[MOE_PASS_FORWARD].us);
        moe_prediction_destroy(&p);
    }
    fprintf(to, "]}\n");
    fclose(to);
    temporary_file(path, "", text, strlen(text));
    free(text);
}

Test(sim_fit, kernels_give_known_efficiencies_back) {
    char path[TEMPORARY_BYTES];
    const moe_fit_params params = {.method = "moeref",
                                   .free_keys = "moeref.tensor,moeref.stream",
                                   .folds = 6,
                                   .evaluations = 80,
                                   .in_stream = 1};
    moe_gpu *truth, *gpu;
    moe_table *table;
    moe_fit_result r;
    moe_row_error e;
    double tensor = 0, stream = 0;
    capture seen;
    const moe_log log = capture_log(&seen);
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &truth), MOE_OK);
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    moe_gpu_set(truth, "moeref.tensor", 0.7, NULL);
    moe_gpu_set(truth, "moeref.stream", 0.8, NULL);
    write_report(path, truth);
    cr_assert_eq(moe_table_load(path, &log, &table), MOE_OK);
    cr_expect(strstr(seen.text, "hf:x"), "%s", seen.text);
    cr_assert_eq(moe_gpu_fit(gpu, table, &params, &log, &r), MOE_OK);
    cr_expect(strstr(seen.text, "nobody's") && seen.messages == 2, "%s", seen.text);
    moe_gpu_get(gpu, "moeref.tensor", &tensor);
    moe_gpu_get(gpu, "moeref.stream", &stream);
    cr_expect_float_eq(tensor, 0.7, 0.007);
    cr_expect_float_eq(stream, 0.8, 0.008);
    cr_expect(r.held_out[0].mean < 0.5 && r.as_given[0].mean > 5);
    cr_expect_eq(r.held_out[0].rows, r.as_given[0].rows);
    int64_t rows = 0;
    for (size_t k = 0; k < r.n_kernels; k++) {
        cr_expect(r.kernels[k].error.mean < 1, "%s", r.kernels[k].name);
        rows += r.kernels[k].error.rows;
    }
    cr_expect(r.n_kernels >= 9 && rows == r.held_out[0].rows);
    cr_assert_eq(moe_table_predict(table, moe_table_rows(table) - 1, gpu, &params, NULL, &e),
                 MOE_OK);
    cr_expect(e.kind == MOE_ROW_PASS && e.floor_us > 0 && e.floor_us < e.predicted_us);
    cr_expect_str_eq(e.kernel, "forward");
    cr_expect_float_eq(100 * e.predicted_us, e.measured_us, 0.02 * e.measured_us);
    cr_expect_eq(moe_table_predict(table, 0, gpu, &params, NULL, &e), MOE_E_NOTFOUND);
    cr_assert_eq(moe_table_predict(table, 2, gpu, &params, NULL, &e), MOE_OK);
    cr_expect_str_eq(e.what, "T=8192 d=1024 n=512 E=16 K=4 route=balanced");
    cr_expect_str_eq(e.kernel, "A");
    cr_expect_float_eq(e.predicted_us, e.measured_us, 0.02 * e.measured_us);
    moe_table_destroy(&table);
    moe_gpu_destroy(&gpu);
    moe_gpu_destroy(&truth);
    unlink(path);
}

/* A description made on 400 rows of ten shapes, whose times are share(shape, row) of the
 * prediction, row from 0 to 1; written and read again. */
static moe_gpu *with_interval(double (*share)(int shape, double row)) {
    char path[TEMPORARY_BYTES], to[TEMPORARY_BYTES], *text = calloc(1, 1 << 18);
    moe_gpu *gpu, *again = NULL;
    moe_table *table;
    moe_fit_result r;
    moe_prediction *p = NULL;
    size_t used = (size_t)sprintf(text, "m\tn\tk\tmedian_us\n");
    cr_assert_eq(moe_gpu_load("l40s", NULL, &gpu), MOE_OK);
    for (int i = 0; i < 400; i++) {
        const int m = 1024 + 64 * (i % 40), n = 8192, k = 4096 + 512 * (i / 40);
        cr_assert_eq(moe_predict_gemm(gpu, m, n, k, 1, NULL, NULL, &p), MOE_OK);
        const double us = p->pass[MOE_PASS_TOTAL].us;
        cr_expect_float_eq(p->low_us / us, 0.75, 1e-9, "never measured");
        used += (size_t)sprintf(text + used, "%d\t%d\t%d\t%.6f\n", m, n, k,
                                us * share(i / 40, (i * 37 % 40) / 39.));
        moe_prediction_destroy(&p);
    }
    temporary_file(path, "", text, strlen(text));
    temporary_file(to, ".json", NULL, 0);
    cr_assert_eq(moe_table_load(path, NULL, &table), MOE_OK);
    cr_assert_eq(moe_gpu_fit(gpu, table, &(moe_fit_params){0}, NULL, &r), MOE_OK);
    cr_assert_eq(moe_gpu_write(gpu, to, "fitted", "a test", NULL), MOE_OK);
    cr_assert_eq(moe_gpu_load(to, NULL, &again), MOE_OK);
    moe_table_destroy(&table);
    moe_gpu_destroy(&gpu);
    unlink(path), unlink(to);
    free(text);
    return again;
}

static double evenly(int shape, double row) {
    return 0.8 + 0.4 * (39 * row + shape / 10.) / 39.9;
}

static double by_shape(int shape, double row) {
    return 0.9 + 0.2 * shape / 9 + 0.1 * row;
}

static double high_of(const moe_gpu *gpu) {
    moe_prediction *p = NULL;
    cr_assert_eq(moe_predict_gemm(gpu, 8192, 8192, 8192, 1, NULL, NULL, &p), MOE_OK);
    const double high = p->high_us / p->pass[MOE_PASS_TOTAL].us;
    moe_prediction_destroy(&p);
    return high;
}

/* Of each row the fit that did not see its shape: their mean error is the one that is told. */
Test(sim_fit, rows_of_shapes_that_were_left_out) {
    char path[4096];
    moe_table *table;
    moe_gpu *gpu;
    moe_fit_result r;
    moe_row_error e;
    double sum = 0, held_out[24] = {0};
    snprintf(path, sizeof path, "%s/golden/sim/sonicmoe_bars.tsv", getenv("MOEREF_SOURCE_ROOT"));
    cr_assert_eq(moe_table_load(path, NULL, &table), MOE_OK);
    cr_assert_eq(moe_table_rows(table), 24);
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    const moe_fit_params p = {.method = "sonicmoe",
                              .free_keys = "sonicmoe.tensor,sonicmoe.fixed_us",
                              .folds = 12,
                              .evaluations = 40,
                              .clock = MOE_CLOCK_SETTLED,
                              .ret_held_out = held_out};
    cr_assert_eq(moe_gpu_fit(gpu, table, &p, NULL, &r), MOE_OK);
    for (size_t i = 0; i < 24; i++) {
        cr_assert_eq(moe_table_predict(table, i, gpu, &p, NULL, &e), MOE_OK);
        sum += 100 * fabs(held_out[i] / e.measured_us - 1) / 24;
    }
    cr_expect_float_eq(sum, r.held_out[MOE_FIT_ALL].mean, 1e-9);
    cr_expect_gt(r.held_out[MOE_FIT_ALL].mean, r.fitted[MOE_FIT_ALL].mean);
    moe_table_destroy(&table);
    moe_gpu_destroy(&gpu);
}

/* Times spread evenly over 0.8 to 1.2 of the prediction: nine tenths of a hundred lie below 1.16.
 * Where a shape's are alike, 80 of 100 rows of a new shape need more than that: of all rows nine
 * tenths lie below 1.145. The interval is what every prediction of that kind says. */
Test(sim_fit, intervals) {
    moe_prediction *p = NULL;
    moe_gpu *again = with_interval(by_shape);
    cr_expect_gt(high_of(again), 1.15);
    moe_gpu_destroy(&again);
    again = with_interval(evenly);
    cr_assert_eq(moe_predict_gemm(again, 8192, 8192, 8192, 1, NULL, NULL, &p), MOE_OK);
    cr_expect_float_eq(p->low_us / p->pass[MOE_PASS_TOTAL].us, 0.84, 0.006);
    cr_expect_float_eq(p->high_us / p->pass[MOE_PASS_TOTAL].us, 1.16, 0.006);
    moe_prediction_destroy(&p);
    cr_assert_eq(moe_predict_gemm(again, 1, 256, 256, 1, NULL, NULL, &p), MOE_OK);
    cr_expect_float_eq(p->high_us / p->pass[MOE_PASS_TOTAL].us, 1.4, 1e-9, "no row was so small");
    moe_prediction_destroy(&p);
    moe_gpu_destroy(&again);
}
