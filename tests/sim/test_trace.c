/* Timelines: valid JSON, no SM does two things at once, kernels end when the prediction says. */
#include "moeref/model.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <jansson.h>
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

/* Slices of one SM come in order and touch at most; phases lie inside their tile. */
static void check_rows(const json_t *events) {
    double busy_until[SMS] = {0}, start[SMS] = {0};
    size_t i;
    json_t *e;
    json_array_foreach((json_t *)events, i, e) {
        const char *name = json_string_value(json_object_get(e, "name"));
        const int sm = (int)number(e, "tid");
        const double from = number(e, "ts"), to = from + number(e, "dur");
        if (strcmp(json_string_value(json_object_get(e, "ph")), "X") != 0 || number(e, "pid") != 1)
            continue;
        cr_assert(sm >= 0 && sm < SMS);
        const int phase = strcmp(name, "fill") == 0 || strcmp(name, "main loop") == 0 ||
                          strcmp(name, "epilogue") == 0;
        if (phase) {
            cr_expect(from >= start[sm] - 0.01 && to <= busy_until[sm] + 0.01);
            continue;
        }
        cr_expect(from >= busy_until[sm] - 0.01, "SM %d: %s starts at %g, busy until %g", sm, name,
                  from, busy_until[sm]);
        start[sm] = from;
        busy_until[sm] = to;
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
    cr_expect_float_eq(end, p->total_us - p->overhead_us, 0.1);
    moe_prediction_destroy(&p);
    moe_gpu_destroy(&gpu);
    json_decref(root);
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
