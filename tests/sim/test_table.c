/* Measured tables: what is read, what is refused, and rows beside their predictions. */
#include "capture.h"
#include "sim/fit/table.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One kernel of one case. */
#define REPORT(kernel) "{\"bench\":[{\"case\":\"T=4 d=8 n=8 E=2 K=1\",\"kernels\":[" kernel "]}]}"

/* A row of a layer up to its pass, route and time. */
#define LAYERS "kernel\tT\td\tn\tK\tE\tpass\troute\tmedian_us\na\t4\t8\t8\t1\t2\t"

/* A backend times four kernels of the router's backward pass as one. */
Test(sim_table, a_stage_is_the_sum_of_its_kernels) {
    static const char *const names[] = {"router_backward", "d_logits", "dX router", "dW_r",
                                        "dW_r sum"};
    char path[TEMPORARY_BYTES], text[600] = "{\"name\":\"router\",\"measured_us\":9}", all[700];
    moe_gpu *gpu = NULL;
    moe_table *table = NULL;
    double us = 0, floor_us = 0;
    moe_row_error row[6];
    for (size_t i = 0; i < 5; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 ",{\"name\":\"%s\",\"measured_us\":9}", names[i]);
    snprintf(all, sizeof all, REPORT("%s"), text);
    temporary_file(path, "", all, strlen(all));
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    cr_assert_eq(moe_table_load(path, NULL, &table), MOE_OK);
    const moe_fit_params params = {.method = "moeref"};
    for (size_t i = 0; i < 6; i++) {
        cr_assert_eq(moe_table_predict(table, i, gpu, &params, NULL, &row[i]), MOE_OK, "%zu", i);
        cr_expect(row[i].predicted_us > 0 && row[i].floor_us > 0, "%s", row[i].kernel);
        us += i > 1 ? row[i].predicted_us : 0;
        floor_us += i > 1 ? row[i].floor_us : 0;
    }
    cr_expect_float_eq(row[1].predicted_us, us, 1e-9);
    cr_expect_float_eq(row[1].floor_us, floor_us, 1e-9);
    moe_table_destroy(&table);
    moe_gpu_destroy(&gpu);
    unlink(path);
}

/* The same rows in tabs, in commas and as JSON. */
Test(sim_table, three_forms_are_one_table) {
    static const char *const texts[] = {
        "kernel\tT\td\tn\tK\tE\tmedian_us\na\t4\t8\t16\t1\t2\t7.5\n",
        "\xef\xbb\xbfkernel,T,d,n,K,E,median_us\na,4,8,16,1,2,7.5\n", /* as spreadsheets write */
        "kernel,T,d,n,K,E,median_us\r\na,4,8,16,1,2,7.5\r\n",
        ("{\"rows\":[{\"T\":4,\"kernel\":\"a\",\"d\":8,\"n\":16,\"K\":1,\"E\":2,\"median_us\":7.5}]"
         "}")};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        moe_table *table = NULL;
        cr_assert_eq(moe_int_table_parse(texts[i], strlen(texts[i]), "t", NULL, NULL, &table),
                     MOE_OK, "%s", texts[i]);
        cr_expect(table->kind == MOE_TABLE_LAYERS && table->count == 1);
        cr_expect(table->rows[0].m == 4 && table->rows[0].n == 16 && table->rows[0].us == 7.5);
        cr_expect_str_eq(table->rows[0].kernel, "a");
        moe_table_destroy(&table);
    }
}

Test(sim_table, bad_tables_are_named_with_their_line) {
    static const struct {
        const char *text, *word;
    } bad[] = {{"", "header"},
               {"m\tn\tk\n1\t2\t3\n", "header"},
               {"m;n;k;median_us\n1;2;3;4\n", "it is \"m;n;k;median_us\""},
               {"m\tn\tk\tmedian_us\n", "no rows"},
               {"m\tn\tk\tn\tmedian_us\n1\t2\t3\t2\t4\n", "twice"},
               {"m\tn\tk\tmedian_us\n1\t2\t3\n", ":2"},
               {"m\tn\tk\tmedian_us\n1\t2\t3\t4\n1\tx\t3\t4\n", ":3"},
               {"m\tn\tk\tmedian_us\n1\t2\t3\t-4\n", "-4"},
               {"m\tn\tk\tmedian_us\n1\t2\t3\tnan\n", "nan"},
               {"m\tn\tk\tmedian_us\n0\t2\t3\t4\n", ":2: m cannot be \"0\""},
               {"m\tn\tk\tmedian_us\n1\t2\t3\t4\t5\n", "5 columns where the header has 4"},
               {"m\tn\tk\tmedian_us\n1\t2\t3\tx\t5\n", "median_us cannot be \"x\""},
               {"m\tn\tk\tmedian_us\n99999999999\t2\t3\t4\n", ":2"},
               {"kernel\tT\td\tn\tK\tE\tpass\tmedian_us\na\t1\t8\t8\t1\t1\tup\t4\n", "up"},
               {LAYERS "default\tbalanced\t4\n", "\"default\": fwd, bwd or both"},
               {LAYERS "\tbalanced\t4\n", "fwd, bwd or both"},
               {LAYERS "fwd\tzipf\t4\n", "balanced or uniform"},
               {"kernel\tT\td\tn\tK\tE\tmedian_us\na\t1\t8\t8\t2\t1\t4\n", ":2"},
               {"{\"bench\":[", "line 1"},
               {"{}", "\"bench\""},
               {"{\"bench\":[]}", "no rows"},
               {"{\"bench\":[3]}", "\"case\""},
               {"{\"bench\":[{\"case\":\"T=4\",\"kernels\":[]}]}", "bench[0]"},
               {"{\"bench\":[{\"case\":\"T=4 d=8 n=8 E=2 K=1\"}]}", "\"kernels\""},
               {REPORT("{\"measured_us\":1}"), "\"name\""},
               {REPORT("{\"name\":\"A\"}"), "\"measured_us\""},
               {REPORT("{\"name\":\"A\",\"measured_us\":0}"), "0 us"},
               {REPORT("{\"name\":\"A\",\"measured_us\":\"1\"}"), "a string"},
               {REPORT("],\"passes\":[{\"name\":\"total\",\"measured_us\":-1}"), "pass \"total\""},
               {REPORT("],\"passes\":[{\"name\":\"total\"}"), "\"measured_us\""},
               {REPORT("7"), "\"name\""},
               {"m,n,k,median_us\n1,2,x,4\n", "\"x\""},
               {"{\"rows\":[]}", "\"rows\""},
               {"{\"rows\":[{\"m\":1,\"n\":2,\"k\":3}]}", "header"},
               {"{\"rows\":[{\"m\":1,\"n\":2,\"k\":3,\"median_us\":1},"
                "{\"m\":1,\"n\":2,\"k\":3,\"median_us\":\"fast\"}]}",
                "rows[1]: median_us cannot be \"fast\""},
               {"{\"rows\":[{\"m\":1,\"median_us\":4},{\"m\":1}]}", "rows[1]"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char path[TEMPORARY_BYTES];
        capture seen;
        const moe_log log = capture_log(&seen);
        moe_table *table = NULL;
        temporary_file(path, "", bad[i].text, strlen(bad[i].text));
        cr_expect_eq(moe_table_load(path, &log, &table), MOE_E_FORMAT, "%s", bad[i].text);
        cr_expect(strstr(seen.text, bad[i].word), "\"%s\" does not say %s", seen.text, bad[i].word);
        cr_expect_null(table);
        unlink(path);
    }
}

/* The three passes that a table may name; without the column it is the forward one. */
Test(sim_table, passes_of_a_table) {
    static const struct {
        const char *text, *what;
    } good[] = {
        {LAYERS "fwd\tbalanced\t4\n", " route=balanced pass=fwd"},
        {LAYERS "bwd\tuniform\t4\n", " route=uniform pass=bwd"},
        {LAYERS "both\tbalanced\t4\n", " route=balanced pass=both"},
        {"kernel\tT\td\tn\tK\tE\tmedian_us\na\t4\t8\t8\t1\t2\t4\n", " route=balanced pass=fwd"}};
    moe_gpu *gpu;
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char path[TEMPORARY_BYTES];
        moe_table *table = NULL;
        moe_row_error e = {0};
        temporary_file(path, "", good[i].text, strlen(good[i].text));
        cr_assert_eq(moe_table_load(path, NULL, &table), MOE_OK, "%s", good[i].text);
        cr_expect_eq(moe_table_predict(table, 0, gpu, &(moe_fit_params){0}, NULL, &e), MOE_OK);
        cr_expect(strstr(e.what, good[i].what), "%s: not%s", e.what, good[i].what);
        moe_table_destroy(&table);
        unlink(path);
    }
    moe_gpu_destroy(&gpu);
}

/* Rows of a layer share a prediction: whichever are asked for together, each is what it is alone.
 */
Test(sim_table, rows_together_are_rows_alone) {
    static const struct {
        const char *name, *method;
    } tables[] = {{"timing/h100-sxm/moeref.json", "moeref"}, {"sim/sonicmoe_bars.tsv", "sonicmoe"}};
    moe_gpu *gpu;
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    for (size_t i = 0; i < 2; i++) {
        char path[4096];
        size_t rows[256], count = 0;
        double us[256] = {0};
        moe_table *table;
        const moe_fit_params params = {.method = tables[i].method};
        snprintf(path, sizeof path, "%s/golden/%s", getenv("MOEREF_SOURCE_ROOT"), tables[i].name);
        cr_assert_eq(moe_table_load(path, NULL, &table), MOE_OK);
        cr_assert(moe_table_rows(table) <= 256);
        for (size_t row = 0; row < moe_table_rows(table); row++) {
            if (row % 5 != 1)
                rows[count++] = row;
        }
        cr_expect_eq(moe_int_table_times(table, rows, count, gpu, &params, NULL, us), MOE_OK);
        for (size_t row = 0; row < moe_table_rows(table); row++) {
            moe_row_error e;
            cr_assert_eq(moe_table_predict(table, row, gpu, &params, NULL, &e), MOE_OK);
            cr_expect_eq(us[row], row % 5 != 1 ? e.predicted_us : 0, "%s %zu", path, row);
        }
        moe_table_destroy(&table);
    }
    moe_gpu_destroy(&gpu);
}
