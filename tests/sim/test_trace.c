/* Timelines: valid JSON, no SM does two things at once, kernels end when the prediction says. */
#include "moeref/fit.h"
#include "moeref/model.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SMS 132

static json_t *trace(const char *method, const moe_workload *w, int64_t max_tiles) {
    char path[TEMPORARY_BYTES];
    moe_gpu *gpu = NULL;
    temporary_file(path, "", NULL, 0);
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    cr_assert_eq(moe_trace_write(gpu, method, w, max_tiles, path, NULL), MOE_OK);
    json_t *root = json_load_file(path, 0, NULL);
    cr_assert(root, "not JSON");
    unlink(path);
    moe_gpu_destroy(&gpu);
    return root;
}

static double number(const json_t *event, const char *key) {
    return json_number_value(json_object_get(event, key));
}

static int is_phase(const char *name) {
    return strcmp(name, "fill") == 0 || strcmp(name, "main loop") == 0 ||
           strcmp(name, "epilogue") == 0;
}

/* Nanoseconds, which times are written in: no sum of them is rounded. */
static long long ns(const json_t *event, const char *key) {
    return llround(1e3 * number(event, key));
}

/* Slices of a row, of an SM or of the kernels, come in order and touch at most; phases lie inside
 * their tile. */
static void check_rows(const json_t *events) {
    long long busy_until[SMS + 1] = {0}, start[SMS + 1] = {0};
    size_t i;
    json_t *e;
    json_array_foreach((json_t *)events, i, e) {
        const char *name = json_string_value(json_object_get(e, "name"));
        const int sm = (int)number(e, "tid");
        const int row = number(e, "pid") == 1 ? sm : SMS;
        const long long from = ns(e, "ts"), to = from + ns(e, "dur");
        if (strcmp(json_string_value(json_object_get(e, "ph")), "X") != 0)
            continue;
        cr_assert(sm >= 0 && sm < SMS && to >= from);
        if (is_phase(name)) {
            cr_expect(from >= start[row] && to <= busy_until[row], "%s outside its tile", name);
            continue;
        }
        cr_expect(from >= busy_until[row], "row %d: %s starts at %lld ns, busy until %lld", row,
                  name, from, busy_until[row]);
        start[row] = from;
        busy_until[row] = to;
    }
}

Test(sim_trace, rows_do_not_overlap_and_end_with_the_kernels) {
    moe_layer_desc d;
    moe_layer_desc_init(&d);
    d.d = 1024, d.n = 512, d.E = 8, d.K = 2;
    const int64_t counts[8] = {1000, 0, 17, 500, 128, 1, 900, 54};
    const moe_workload w = {.layer = &d, .tokens = 1300, .counts = counts};
    moe_gpu *gpu = NULL;
    moe_prediction *p = NULL;
    json_t *root = trace("moeref", &w, 0), *events = json_object_get(root, "traceEvents"), *e;
    size_t i, kernels = 0;
    double end = 0;
    check_rows(events);
    json_array_foreach(events, i, e) {
        if (number(e, "pid") == 0 && json_object_get(e, "dur")) {
            kernels++;
            end = fmax(end, number(e, "ts") + number(e, "dur"));
        }
    }
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    cr_assert_eq(moe_predict(gpu, "moeref", &w, NULL, &p), MOE_OK);
    cr_expect_eq(kernels, p->n_kernels);
    cr_expect_float_eq(end, p->pass[MOE_PASS_TOTAL].us - p->overhead_us, 0.1);
    moe_prediction_destroy(&p);
    moe_gpu_destroy(&gpu);
    json_decref(root);
}

/* A program that took its user's locale has commas in its numbers, and JSON has none. */
Test(sim_trace, numbers_of_a_locale_with_commas) {
    char dir[TEMPORARY_BYTES], line[2 * TEMPORARY_BYTES];
    temporary_folder(dir);
    snprintf(line, sizeof line, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >/dev/null 2>&1", dir);
    const bool made = system(line) == 0 && setenv("LOCPATH", dir, 1) == 0 &&
                      setlocale(LC_ALL, "de_DE.UTF-8") != NULL;
    temporary_remove(dir);
    if (!made)
        cr_skip("no locale with commas can be made here");
    snprintf(line, sizeof line, "%.1f", 0.5);
    cr_assert_str_eq(line, "0,5");
    moe_layer_desc d;
    moe_layer_desc_init(&d);
    d.d = 64, d.n = 64, d.E = 2, d.K = 1;
    const int64_t counts[2] = {30, 34};
    const moe_workload w = {.layer = &d, .tokens = 64, .counts = counts};
    json_t *root = trace("moeref", &w, 0);
    check_rows(json_object_get(root, "traceEvents"));
    json_decref(root);
    static const char rows[] = "{\"rows\":[{\"m\":4,\"n\":8,\"k\":8,\"median_us\":7.5}]}";
    moe_table *table = NULL;
    char path[TEMPORARY_BYTES];
    temporary_file(path, "", rows, sizeof rows - 1);
    cr_expect_eq(moe_table_load(path, NULL, &table), MOE_OK);
    moe_table_destroy(&table);
    unlink(path);
    snprintf(line, sizeof line, "%.1f", 0.5);
    cr_expect_str_eq(line, "0,5", "the caller's locale is its own again");
}

Test(sim_trace, tiles_are_merged_beyond_the_limit) {
    moe_layer_desc d;
    moe_layer_desc_init(&d);
    d.d = 4096, d.n = 1024, d.E = 4, d.K = 1;
    const int64_t counts[4] = {8192, 8192, 8192, 8192};
    const moe_workload w = {.layer = &d, .tokens = 32768, .counts = counts, .pass = MOE_PASS_FWD};
    json_t *all = trace("sonicmoe", &w, 0), *few = trace("sonicmoe", &w, 500);
    const size_t many_events = json_array_size(json_object_get(all, "traceEvents"));
    const size_t few_events = json_array_size(json_object_get(few, "traceEvents"));
    cr_expect(few_events < many_events / 2, "%zu and %zu events", few_events, many_events);
    check_rows(json_object_get(few, "traceEvents"));
    json_decref(all);
    json_decref(few);
}

/* What a trace shows of one kernel on the SMs; `most`: tiles of one slice. */
typedef struct shown {
    double tiles, most, slices, phases;
} shown;

static shown shown_of(const json_t *events, const moe_kernel *k) {
    const double end = k->start_us + k->cost.us;
    shown sum = {0};
    size_t i;
    json_t *e;
    json_array_foreach((json_t *)events, i, e) {
        const char *name = json_string_value(json_object_get(e, "name"));
        const double from = number(e, "ts"), tiles = number(json_object_get(e, "args"), "tiles");
        if (number(e, "pid") != 1 || !json_object_get(e, "dur"))
            continue;
        if (is_phase(name) && from >= k->start_us && from < end)
            sum.phases++;
        if (strcmp(name, k->cost.name) != 0)
            continue;
        cr_expect(from >= k->start_us - 0.01 && from + number(e, "dur") <= end + 0.01, "%s", name);
        sum.tiles += tiles;
        sum.most = fmax(sum.most, tiles);
        sum.slices++;
    }
    return sum;
}

/* Every tile is in a slice of its kernel, as many in one as keep the whole trace within the limit;
 * a kernel of memory alone keeps every SM. Phases are those of short kernels' single tiles. */
static void expect_shown(const json_t *events, const moe_prediction *p, double limit) {
    double all = 0;
    for (size_t i = 0; i < p->n_kernels; i++)
        all += p->kernels[i].cost.tiles;
    const double merged = fmax(1, ceil(all / limit));
    for (size_t i = 0; i < p->n_kernels; i++) {
        const moe_kernel *k = &p->kernels[i];
        const shown s = shown_of(events, k);
        cr_expect_float_eq(s.tiles, k->cost.tiles, 0.5, "%s: %g of %g tiles", k->cost.name, s.tiles,
                           k->cost.tiles);
        if (k->tile_m == 0) {
            cr_expect_eq(s.slices, SMS, "%s", k->cost.name);
            continue;
        }
        const double of_an_sm = floor(k->cost.tiles / SMS);
        cr_expect(s.most <= merged && s.most >= fmin(merged, of_an_sm), "%s: %g tiles of %g",
                  k->cost.name, s.most, merged);
        cr_expect(k->cost.waves <= 4 ? merged > 1 || s.phases > 0 : s.phases == 0,
                  "%s: %g waves, %g phases", k->cost.name, k->cost.waves, s.phases);
    }
}

Test(sim_trace, every_tile_is_shown) {
    moe_layer_desc d;
    moe_layer_desc_init(&d);
    d.d = 2048, d.n = 512, d.E = 4, d.K = 1; /* H: 66 row tiles of 8 are 4 waves, Y 8 */
    const int64_t counts[4] = {4096, 0, 1024, 3328};
    const moe_workload w = {.layer = &d, .tokens = 8448, .counts = counts};
    moe_gpu *gpu = NULL;
    moe_prediction *p = NULL;
    cr_assert_eq(moe_gpu_load("h100-sxm", NULL, &gpu), MOE_OK);
    cr_assert_eq(moe_predict(gpu, "scattermoe", &w, NULL, &p), MOE_OK);
    static const int64_t limits[] = {0, 1000, 300};
    for (size_t i = 0; i < 3; i++) {
        json_t *root = trace("scattermoe", &w, limits[i]);
        const json_t *events = json_object_get(root, "traceEvents");
        check_rows(events);
        expect_shown(events, p, limits[i] ? (double)limits[i] : 200000);
        json_decref(root);
    }
    moe_prediction_destroy(&p);
    moe_gpu_destroy(&gpu);
}
