/* A config.json whose experts are narrower than the model, by every verb that reads shapes: figures
 * by hand. */
#include "nemotron.h"
#include "run_moeref.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <string.h>

static const char text[] = NEMOTRON_SUPER
    ",\"num_attention_heads\":32,\"num_key_value_heads\":2,\"head_dim\":128,\"vocab_size\":131072}";

enum { T = 4096, HIDDEN = 4096, D = 1024, N = 2688, E = 512, K = 22, SHARED = 5376, LAYERS = 40 };

/* Bytes of a layer's weights: experts of D, router with its selection bias and shared expert of
 * HIDDEN, and the two projections. */
#define EXPERTS     (2. * E * N * D)
#define OUTSIDE     ((double)E * HIDDEN + E + 2. * SHARED * HIDDEN)
#define PROJECTIONS (2. * HIDDEN * D)
#define WEIGHTS     (2 * (EXPERTS + OUTSIDE + PROJECTIONS))

static char path[TEMPORARY_BYTES];

static void set_up(void) {
    temporary_file(path, ".json", text, strlen(text));
}

static void tear_down(void) {
    temporary_remove(path);
}

TestSuite(cli_config, .init = set_up, .fini = tear_down);

/* The object on the first of the lines that has `key`; the caller frees it. */
static json_t *find_line(const char *lines, const char *key) {
    json_t *found = NULL;
    char *copy = strdup(lines), *rest = copy, *line;
    while (!found && (line = strsep(&rest, "\n"))) {
        found = json_loads(line, 0, NULL);
        if (found && !json_object_get(found, key)) {
            json_decref(found);
            found = NULL;
        }
    }
    free(copy);
    cr_assert(found, "no line with %s in %s", key, lines);
    return found;
}

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static void expect_kernel(const json_t *p, const char *name, double flops, double bytes) {
    const json_t *kernel = NULL;
    size_t i;
    json_array_foreach(json_object_get(p, "kernels"), i, kernel) {
        if (strcmp(json_string_value(json_object_get(kernel, "name")), name) == 0)
            break;
    }
    cr_assert(kernel, "%s", name);
    cr_expect_float_eq(number(kernel, "flops"), flops, 1, "%s: %g", name, number(kernel, "flops"));
    cr_expect_float_eq(number(kernel, "hbm_bytes"), bytes, 1, "%s: %g", name,
                       number(kernel, "hbm_bytes"));
}

Test(cli_config, a_layer_between_projections) {
    const double P = (double)T * K, near = 2. * (T * HIDDEN + D * HIDDEN + T * D);
    outcome *o = moeref("predict --config %s --pass fwd --method cublas --output json", path);
    json_t *p = find_line(o->text, "kernels"), *layer = json_object_get(p, "layer");
    cr_expect_eq(number(layer, "d"), D);
    cr_expect_eq(number(layer, "hidden"), HIDDEN);
    cr_expect_float_eq(number(p, "param_bytes"), WEIGHTS, 1);
    expect_kernel(p, "project in", 2. * T * HIDDEN * D, near);
    expect_kernel(p, "project out", 2. * T * HIDDEN * D, near);
    expect_kernel(p, "H", 2. * P * N * D, 2 * (P * D + EXPERTS / 2 + P * N));
    expect_kernel(p, "Y", 2. * P * N * D, 2 * (P * N + EXPERTS / 2 + P * D));
    expect_kernel(p, "router", 2. * T * E * HIDDEN, 2. * (T * HIDDEN + E * HIDDEN + T * E));
    expect_kernel(p, "H_shared", 2. * T * SHARED * HIDDEN,
                  2. * (T * HIDDEN + SHARED * HIDDEN + T * SHARED));
    json_decref(p);
    free(o);
    o = moeref("predict --config %s --pass fwd --method cublas", path);
    cr_expect(strstr(o->text, " hidden=4096 "), "%.300s", o->text);
    cr_expect(strstr(o->text, "experts 1024 wide, between projections from and to tokens 4096"));
    cr_expect(!strstr(o->text, "warning"), "%.300s", o->text);
    free(o);
}

Test(cli_config, all_layers) {
    outcome *o =
        moeref("predict --config %s --layers all --pass fwd --method cublas --output json", path);
    json_t *p = find_line(o->text, "moe_layers");
    cr_expect_eq(number(p, "moe_layers"), LAYERS);
    cr_expect_float_eq(number(p, "param_bytes"), LAYERS * WEIGHTS, LAYERS);
    json_decref(p);
    free(o);
    o = moeref("memory --config %s --layers all --method cublas --output json", path);
    p = find_line(o->text, "weight_bytes");
    cr_expect_float_eq(number(p, "weight_bytes"), LAYERS * WEIGHTS, LAYERS);
    cr_expect_float_eq(number(p, "gradient_bytes"), LAYERS * (WEIGHTS - 2 * E), LAYERS,
                       "a selection bias has none");
    json_decref(p);
    free(o);
}
