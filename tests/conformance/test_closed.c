/* The closed sets of layer.h (activation, layout, score, selection, rounding, place of the weight):
 * the suite has a line for every value, every plug-in has an answer to it, and every plug-in
 * refuses the value that the next header will add, which the front end lets no user ask for. */
#include "../unit/drawn.h"
#include "backend/registry.h"
#include "layer/traits.h"
#include "moeref/rng.h"
#include "moeref/suite.h"
#include "reference/activation.h"
#include "route/route.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *key; /* of the case grammar */
    size_t offset;   /* in moe_layer_desc */
    int32_t count;
} sets[] = {
    {"act", offsetof(moe_layer_desc, act), MOE_ACT_COUNT},
    {"glu", offsetof(moe_layer_desc, glu_layout), MOE_GLU_COUNT},
    {"score", offsetof(moe_layer_desc, router.score), MOE_SCORE_COUNT},
    {"select", offsetof(moe_layer_desc, router.select), MOE_SELECT_COUNT},
    {"rounding", offsetof(moe_layer_desc, router.rounding), MOE_ROUND_COUNT},
    {"on", offsetof(moe_layer_desc, router.weight_on), MOE_WEIGHT_ON_COUNT},
};
enum { SETS = sizeof sets / sizeof *sets };

static int32_t *choice(moe_layer_desc *desc, size_t set) {
    return (int32_t *)((char *)desc + sets[set].offset);
}

static moe_case parsed(const char *line) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_case c;
    cr_assert_eq(moe_case_parse(line, &log, &c), MOE_OK, "%s: %s", line, seen.text);
    return c;
}

/* Does the value decide anything in this layer? */
static bool matters(const moe_layer_desc *desc, size_t set) {
    if (strcmp(sets[set].key, "rounding") == 0)
        return desc->router.select == MOE_SELECT_TOKEN_ROUNDING;
    return strcmp(sets[set].key, "glu") != 0 || moe_act_is_gated(desc->act);
}

Test(closed, suite_has_a_line_for_every_value) {
    size_t count;
    const char *const *lines = moe_suite(&count);
    for (size_t set = 0; set < SETS; set++) {
        bool seen[16] = {false};
        for (size_t i = 0; i < count; i++) {
            moe_case c = parsed(lines[i]);
            if (matters(&c.layer, set))
                seen[*choice(&c.layer, set)] = true;
            moe_case_destroy(&c);
        }
        for (int32_t v = 0; v < sets[set].count; v++)
            cr_expect(seen[v], "no line of the suite has %s = %d", sets[set].key, v);
    }
}

/* ---- what plug-ins say, asked through their tables ---- */

typedef struct subject {
    const char *file;
    const moe_plugin *plugin;
    void *device;
} subject;

/* `supports` is a pure query: where no device can be opened ours answer without one. */
static void open_subject(const char *file, const moe_plugin *plugin, subject *ret) {
    char reason[256] = "";
    *ret = (subject){.file = file, .plugin = plugin};
    const moe_open_params params = {.threads = 1, .variant = ""};
    if (plugin->probe(reason, sizeof reason) == MOE_OK)
        cr_assert_eq(plugin->open(&params, &ret->device), MOE_OK, "%s", file);
}

static void close_subject(subject *s) {
    if (s->device)
        s->plugin->close(s->device);
}

/* Calls `ask` for the reference and for every plug-in of the build. */
static void for_each_plugin(void (*ask)(const subject *)) {
    static const char *const files[] = {
        "backends/openblas/moeref-openblas.so",
        "backends/cuda/moeref-cuda.so",
        "backends/example/moe_example.so",
        "tests/conformance/moe_broken.so",
    };
    subject s;
    const char *root = getenv("MOEREF_BUILD_ROOT");
    cr_assert_not_null(root, "run by `meson test`");
    open_subject("reference", &moe_int_reference_plugin, &s);
    ask(&s);
    close_subject(&s);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", root, files[i]);
        if (access(path, R_OK) != 0) /* not built here */
            continue;
        void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        cr_assert_not_null(object, "%s", dlerror());
        open_subject(files[i], dlsym(object, MOE_PLUGIN_SYMBOL), &s);
        ask(&s);
        close_subject(&s);
    }
}

static moe_status supports(const subject *s, const moe_layer_desc *desc, int32_t dtype,
                           bool plan_given, moe_support *ret) {
    const moe_use use = {
        .tokens = 16, .dtype = dtype, .pass = MOE_PASS_BOTH, .plan_given = plan_given};
    *ret = (moe_support){.arithmetic = -1};
    return s->plugin->supports(s->device, desc, &use, ret);
}

static void ask_every_line(const subject *s) {
    size_t count;
    const char *const *lines = moe_suite(&count);
    for (size_t i = 0; i < 2 * count; i++) {
        moe_support got;
        moe_case c = parsed(lines[i / 2]);
        moe_status status = supports(s, &c.layer, c.dtype, i % 2, &got);
        if (status)
            cr_expect(status == MOE_E_UNSUPPORTED && strlen(got.reason) > 5, "%s: %s: '%s'",
                      s->file, lines[i / 2], got.reason);
        else
            cr_expect(moe_dtype_roundoff((moe_dtype)got.arithmetic) > 0, "%s: %s", s->file,
                      lines[i / 2]);
        moe_case_destroy(&c);
    }
}

Test(closed, every_plugin_answers_every_line) {
    for_each_plugin(ask_every_line);
}

/* A layer that all of them do, but for one value. */
static void ask_for_unknown(const subject *s) {
    moe_case c = parsed("T=16 d=16 n=8 E=4 K=2 dtype=bf16");
    moe_support got;
    cr_assert_eq(supports(s, &c.layer, c.dtype, true, &got), MOE_OK, "%s: %s", s->file, got.reason);
    for (size_t i = 0; i < 2 * SETS; i++) {
        moe_layer_desc desc = c.layer;
        char want[64];
        int32_t value = i % 2 ? -1 : sets[i / 2].count;
        *choice(&desc, i / 2) = value;
        snprintf(want, sizeof want, "%s %d is %s", sets[i / 2].key, value,
                 i % 2 ? "no value" : "newer than this plug-in");
        cr_expect_eq(supports(s, &desc, c.dtype, true, &got), MOE_E_UNSUPPORTED, "%s: %s", s->file,
                     want);
        cr_expect_str_eq(got.reason, want, "%s: '%s', not '%s'", s->file, got.reason, want);
        cr_expect_eq(moe_layer_desc_check(&desc, c.T, NULL), MOE_E_INVALID, "%s", want);
    }
    moe_case_destroy(&c);
}

Test(closed, every_plugin_refuses_what_it_was_not_compiled_with) {
    for_each_plugin(ask_for_unknown);
}

/* ---- the trait table of the selections, against what they do ---- */

enum { T = 16, E = 4, K = 2 };

static moe_plan *routed(const moe_layer_desc *desc, int64_t tokens, const double *z) {
    moe_plan *plan = NULL;
    cr_assert_eq(moe_route(desc, tokens, z, NULL, 0, NULL, &plan), MOE_OK);
    return plan;
}

static bool has_pair(const moe_plan *plan, int64_t token, int64_t expert) {
    for (int64_t p = plan->offsets[expert]; p < plan->offsets[expert + 1]; p++)
        if (plan->token[p] == token)
            return true;
    return false;
}

/* Does a token get other experts where it is alone? */
static bool looks_at_others(const moe_layer_desc *desc, const double *z, const moe_plan *all) {
    bool differs = false;
    for (int64_t t = 0; t < T; t++) {
        moe_plan *alone = routed(desc, 1, z + t * E);
        for (int64_t e = 0; e < E; e++)
            differs |= has_pair(all, t, e) != has_pair(alone, 0, e);
        moe_plan_destroy(&alone);
    }
    return differs;
}

static moe_int_pairs_rule rule_of(const moe_plan *plan) {
    bool per_token = true, per_expert = true;
    for (int64_t t = 0; t < T; t++)
        per_token &= plan->token_offsets[t + 1] - plan->token_offsets[t] == K;
    for (int64_t e = 0; e < E; e++)
        per_expert &= plan->offsets[e + 1] - plan->offsets[e] == plan->offsets[1];
    return per_token    ? MOE_INT_PAIRS_PER_TOKEN
           : per_expert ? MOE_INT_PAIRS_PER_EXPERT
                        : MOE_INT_PAIRS_FREE;
}

Test(closed, selections_do_what_their_traits_say) {
    double z[T * E];
    for (uint64_t i = 0; i < T * E; i++)
        z[i] = 4 * moe_rng_uniform(5, 0, i) + 3 * (i % E == 1);
    for (int32_t select = 0; select < MOE_SELECT_COUNT; select++) {
        moe_layer_desc desc;
        moe_layer_desc_init(&desc);
        desc.d = desc.n = 8;
        desc.E = E;
        desc.K = K;
        desc.router.select = select;
        desc.router.groups = 2;
        desc.router.capacity = 9;
        desc.router.tile = 4;
        const moe_int_select_traits *traits = &moe_int_select_rules[select];
        moe_plan *plan = routed(&desc, T, z);
        cr_expect_eq(rule_of(plan), traits->pairs, "%s", traits->name);
        cr_expect_eq(looks_at_others(&desc, z, plan), traits->other_tokens, "%s", traits->name);
        moe_plan_destroy(&plan);
    }
}

/* What no switch names computes nothing: the program ends. */
Test(closed, no_other_activation, .signal = SIGABRT) {
    const moe_layer_desc desc = {.act = MOE_ACT_COUNT};
    const double h[2] = {1, 2};
    double a;
    moe_int_act_forward_f64(&desc, MOE_GLU_CONCAT, 1, h, &a);
}

Test(closed, no_other_rounding, .signal = SIGABRT) {
    const int64_t drawn = 5;
    int64_t rounded;
    moe_int_round_counts(MOE_ROUND_COUNT, 4, 1, &drawn, 1, 8, &rounded);
}
