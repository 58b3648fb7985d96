/* The bank of hypotheses: faults of the broken backend, which are none of its code, are named; a
 * pass tries nothing; residuals fall to what a correct kernel has. */
#include "controls.h"
#include "drawn.h"
#include "moeref/check.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A fault, a case that shows it, the hypothesis, and words of its sentence. */
typedef struct named {
    const char *fault, *line, *kind, *words;
} named;

static const named faults[] = {
    {"all_zero", GIVEN, "all_zero", "H is all zero"},
    {"zero", PLAIN, "all_zero", "dX is all zero"},
    {"sign", PLAIN, "elements", "1 with the opposite sign, such as row 2, column 5"},
    {"row", PLAIN, "zero_rows", "tokens 4 to 4"},
    {"row", "T=8 d=16 n=8 E=4 K=2 pass=fwd seed=168", "zero_rows", "tokens 4 to 4"},
    {"scale", PLAIN, "factor", "times what it should be"},
    {"tail", PLAIN, "zero_rows", "expert 1's last 5 of 14"},
    {"expert_sign", PLAIN, "factor_by_expert", "expert 1's is -1 times"},
    {"router_row", PLAIN, "factor_by_expert", "expert 1's is 1.1"},
    {"neighbour", GIVEN, "weight_neighbour", "the next pair"},
    {"swap", PLAIN, "w1_swapped", "changed places"},
    {"layout", PLAIN, "layout_read", "interleaved for concatenated"},
    {"k_block", PLAIN, "k_block_dropped", "the last 8 of 32 in H"},
    {"activation", PLAIN, "activation_other", "geglu, not swiglu"},
    {"renorm", BIASED, "renorm_added", "divided by their sum"},
    {"on_input", BIASED, "weight_other_side", "its input"},
    {"nan", PLAIN, "not_finite", "1, from row 64"},
    {"unwritten", PLAIN, "not_written", "3, from row 23, column 29"},
    {"not_zero", EMPTY, "garbage_empty", "expert 0's part"},
    {"stale_dw", PLAIN, "accumulated", "another run is 2 times the first"},
};

static moe_check_result *check_for(const moe_check_waiting *waiting, const char *fault,
                                   const char *line, int64_t sample_above) {
    moe_backends *all = NULL;
    moe_backend *backend = NULL;
    moe_check_result *result = NULL;
    moe_problem *problem = drawn(line);
    moe_open_params open = {.variant = fault, .threads = 1};
    moe_check_params params = {
        .sample_above_flops = sample_above, .threads = 1, .waiting = waiting};
    char path[1024];
    const char *build = getenv("MOEREF_BUILD_ROOT");
    cr_assert(build, "MOEREF_BUILD_ROOT is not set: run through meson test");
    snprintf(path, sizeof path, "%s/tests/conformance/moe_broken.so", build);
    cr_assert_eq(moe_backends_load("", NULL, &all), MOE_OK);
    cr_assert_eq(moe_backend_open(all, path, &open, NULL, &backend), MOE_OK, "%s", path);
    cr_assert_eq(moe_check_backend(backend, problem, &params, NULL, &result), MOE_OK, "%s", fault);
    moe_backend_close(&backend);
    moe_problem_destroy(&problem);
    moe_backends_destroy(&all);
    return result;
}

static moe_check_result *check(const char *fault, const char *line, int64_t sample_above) {
    return check_for(NULL, fault, line, sample_above);
}

Test(explain, faults_are_named) {
    static const char *const types[] = {"", "bf16.", "fp16."};
    for (size_t i = 0; i < 3 * sizeof faults / sizeof *faults; i++) {
        const named *k = &faults[i / 3];
        char fault[40];
        snprintf(fault, sizeof fault, "%s%s", types[i % 3], k->fault);
        moe_check_result *r = check(fault, k->line, 0);
        const moe_explanation *x = &r->explanation;
        cr_expect_str_eq(x->kind, k->kind, "%s: %s", fault, x->text);
        /* Rounding moves the digits of a fitted factor. */
        cr_expect(strstr(x->text, k->words), "%s: '%s' says nothing of '%s'", fault, x->text,
                  k->words);
        cr_expect_gt(x->tried, 0);
        cr_expect_lt(x->after, x->before / 30, "%s: %g, then %g", fault, x->before, x->after);
        moe_check_result_destroy(&r);
    }
}

/* From a sample of tokens and hidden units too. */
Test(explain, samples_are_enough) {
    static const char *const some[] = {"swap",     "layout", "k_block",     "activation",
                                       "on_input", "renorm", "expert_sign", "scale"};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        for (size_t j = 0; j < sizeof faults / sizeof *faults; j++) {
            if (strcmp(faults[j].fault, some[i]) != 0)
                continue;
            moe_check_result *r = check(some[i], faults[j].line, 1);
            cr_expect_neq(r->sampled[0], '\0');
            cr_expect_str_eq(r->explanation.kind, faults[j].kind, "%s: %s", some[i],
                             r->explanation.text);
            moe_check_result_destroy(&r);
        }
}

/* Who waits: how often was a failure told, and after how many questions is it enough? */
typedef struct waiter {
    int told, asked, patience;
    char tensor[24], why[256];
} waiter;

static void hear_failure(void *user, const moe_check_result *so_far) {
    waiter *w = user;
    w->told++;
    cr_expect_eq(w->asked, 0);
    cr_expect_eq(so_far->verdict, MOE_VERDICT_FAIL);
    cr_expect_eq(so_far->explanation.tried, 0, "told before the cause is looked for");
    for (size_t i = 0; i < so_far->n_tensors && !w->tensor[0]; i++)
        if (so_far->tensor[i].verdict == MOE_VERDICT_FAIL)
            snprintf(w->tensor, sizeof w->tensor, "%s", so_far->tensor[i].name);
    snprintf(w->why, sizeof w->why, "%s", so_far->why);
}

static bool has_enough(void *user) {
    waiter *w = user;
    return w->asked++ >= w->patience;
}

/* Of a sampled layer at once; the verdict is the same however soon the search ends. */
Test(explain, verdict_comes_before_its_cause) {
    static const struct {
        int questions;
        const char *kind; /* the best so far */
    } rows[] = {{0, ""}, {5, ""}, {30, "halves_swapped"}, {1000, "w1_swapped"}};
    for (int i = 0; i < 4; i++) {
        const int patience = rows[i].questions;
        waiter w = {.patience = patience};
        const moe_check_waiting waiting = {hear_failure, has_enough, &w};
        moe_check_result *r = check_for(&waiting, "swap", PLAIN, 1);
        cr_expect_eq(w.told, 1);
        cr_expect(w.tensor[0] && strstr(r->why, w.tensor), "%s: %s", w.tensor, r->why);
        cr_expect_eq(strncmp(r->why, w.why, strlen(w.why)), 0, "%s: %s", w.why, r->why);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
        cr_expect_eq(r->explanation.ended, patience < 1000, "%d", w.asked);
        cr_expect_eq(r->explanation.tried, r->explanation.ended ? patience : r->explanation.tried);
        cr_expect_str_eq(r->explanation.kind, rows[i].kind);
        moe_check_result_destroy(&r);
    }
    waiter w = {.patience = 1000};
    const moe_check_waiting waiting = {hear_failure, has_enough, &w};
    moe_check_result *r = check_for(&waiting, "", PLAIN, 1);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS);
    cr_expect_eq(w.told + w.asked, 0);
    moe_check_result_destroy(&r);
}

/* A choice that follows no rule is none of the bank's; and what is right needs no explanation. */
Test(explain, nothing_is_made_up) {
    moe_check_result *r = check("routing", PLAIN, 0);
    cr_expect_str_eq(r->explanation.kind, "", "%s", r->explanation.text);
    cr_expect_gt(r->explanation.tried, 50);
    moe_check_result_destroy(&r);
    r = check("", PLAIN, 0);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS);
    cr_expect_str_eq(r->explanation.kind, "");
    cr_expect_eq(r->explanation.tried, 0);
    moe_check_result_destroy(&r);
}

/* How often a check of a sampled layer ran the backend forward. */
static int forwards_of(const char *fault, moe_verdict want, const char *kind) {
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/conformance/moe_broken.so", getenv("MOEREF_BUILD_ROOT"));
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* the one that is checked */
    int *count = object ? dlsym(object, "broken_forwards") : NULL;
    cr_assert(count, "%s", dlerror());
    *count = 0;
    moe_check_result *r = check(fault, PLAIN, 1);
    cr_expect_eq(r->verdict, want, "%s: %s", fault, r->why);
    cr_expect_str_eq(r->explanation.kind, kind, "%s: %s", fault, r->explanation.text);
    moe_check_result_destroy(&r);
    const int forwards = *count;
    dlclose(object);
    return forwards;
}

/* A sampled run that is wrong at its tokens or hidden units is not made again, nor are other inputs
 * tried; but
 * whatever is not explained so, and what only another run shows, has those runs. */
Test(explain, wrong_samples_are_not_run_again) {
    cr_expect_eq(forwards_of("scale", MOE_VERDICT_FAIL, "factor"), 1);
    cr_expect_eq(forwards_of("swap", MOE_VERDICT_FAIL, "w1_swapped"), 1);
    cr_expect_eq(forwards_of("expert_sign", MOE_VERDICT_FAIL, "factor_by_expert"), 1);
    cr_expect_eq(forwards_of("router_row", MOE_VERDICT_FAIL, "factor_by_expert"), 1);
    cr_expect_eq(forwards_of("race", MOE_VERDICT_FAIL, "nondeterministic"), 2);
    cr_expect_geq(forwards_of("random", MOE_VERDICT_FAIL, "nondeterministic"), 2);
    cr_expect_geq(forwards_of("stale_dw", MOE_VERDICT_FAIL, "accumulated"), 2);
    cr_expect_geq(forwards_of("fourth", MOE_VERDICT_FAIL, "nondeterministic"), 4);
    cr_expect_geq(forwards_of("", MOE_VERDICT_PASS, ""), 4);
}
