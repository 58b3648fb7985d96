/* Every fault between ranks is noticed, and its cause named. */
#include "capture.h"
#include "moeref/case.h"
#include "moeref/ep.h"
#include "moeref/isolation.h"
#include "over_ranks.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE "T=24 d=16 n=8 E=6 K=3 dtype=fp32 renorm=1 seed=1 ep=3"
#define SOME " tokens=10+0+14"

/* `named`: what the report has to say. A fault of one way to combine does nothing in the other.
 * `more`: NULL: one rank without tokens. */
static const struct {
    const char *fault, *combine, *named, *more;
} rows[] = {
    {"weight_never", "pairs", "weights are not applied"},
    {"weight_twice", "pairs", "weights are applied twice"},
    {"gradient_weight_twice", "pairs", "dX~ weighted again"},
    {"scan_shifted", "pairs",
     "dispatch: row 10 of expert 0 on rank 0 should be token 10 of rank 2"},
    {"scan_shifted", "ranks", "dispatch: row 0 of expert 1 on rank 0 should be token 0 of rank 0"},
    {"peers_swapped", "pairs", "is token 10 of rank 2"},
    {"peers_swapped", "ranks", "is token 10 of rank 2"},
    {"stale_handle", "pairs", "backward dispatch: row"},
    {"stale_handle", "ranks", "backward dispatch: row"},
    {"first_expert_only", "ranks", "all but the first of a token's experts on each rank"},
    {"empty_rank_skips", "pairs", "for rank 1 in backward dispatch"},
    {"ds_wrong_pair", "pairs", "dS goes home in the owner's order"},
    {"ds_wrong_pair", "ranks", "dS goes home in the owner's order"},
    {"sum_without_last", "pairs", "lacks the tokens of rank 2"},
    {"sum_twice", "ranks", "has twice the tokens of rank 0"},
    {"rows_home_unpermuted", "pairs", "rows of Y go home in the owner's order"},
    {"rank_sleeps", "ranks", "for rank 2 in combine"},
    {"dx_not_summed", "ranks", "lacks all but the part of a token's last rank"},
    {"scales_shifted", "pairs", "token 2 on rank 0: value 0 is 0.372", SOME " wire=e4m3"},
    {"scales_shifted", "ranks", "the scale of token", SOME " wire=e4m3"},
    {"peers_swapped", "pairs", "is token 10 of rank 2", SOME " wire=e4m3"},
    {"replica_twice", "pairs", "a replica of expert 0 gets pairs that another one has",
     " replicas=2+3"},
    {"replica_twice", "ranks", "a replica of expert 0 gets pairs that another one has",
     " replicas=2+3"},
    {"replicas_not_summed", "pairs", "of expert 0's rows; rows left out", " replicas=2+3"},
    {"part_missing", "pairs", "O lacks part 1 of every expert's units", " tp=2"},
    {"bias_of_every_part", "pairs", "biases do not count once: b2 twice", " tp=2 bias=1"},
    {"bias_of_every_part", "ranks", "biases do not count once: b2 twice", " tp=2 bias=1"},
    {"peers_swapped", "pairs", "is token 4 of rank 1", " tp=2 replicas=2"},
    {"padding_not_sent", "pairs", "bytes, the plans make it", " padding=wire pad=4"},
    {"padding_not_sent", "ranks", "bytes, the plans make it", " padding=wire pad=5"},
    {"padding_not_scanned", "pairs", "row 0 of expert 3 on rank 1 should be token 1 of rank 0",
     " padding=wire pad=5"},
    {"padding_repeats", "pairs", "is nobody's, but has a weight", " padding=owner pad=8"},
    {"padding_repeats", "ranks", "is nobody's, but has a weight", " padding=owner pad=8"},
    {"capacity_of_rank", "pairs", "5 of each 8 tokens", " select=capacity capacity=5"},
};
enum { ROWS = sizeof rows / sizeof *rows };

Test(ep_faults, are_noticed_and_named) {
    for (int i = 0; i < ROWS; i++) {
        char line[256];
        snprintf(line, sizeof line, LINE " combine=%s%s", rows[i].combine,
                 rows[i].more ? rows[i].more : SOME);
        const bool waits = strstr(rows[i].named, "for rank") != NULL;
        moe_check_result *r =
            check_over_ranks("reference:fp32", line, rows[i].fault, waits ? 1.5 : 0);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s, %s is not noticed", rows[i].fault,
                     rows[i].combine);
        cr_expect(strstr(r->explanation.text, rows[i].named) || strstr(r->why, rows[i].named) ||
                      strstr(r->over_ranks.why, rows[i].named),
                  "%s, %s: \"%s\", \"%s\", \"%s\"", rows[i].fault, rows[i].combine,
                  r->explanation.text, r->why, r->over_ranks.why);
        moe_check_result_destroy(&r);
    }
}

/* With one expert on a rank rows stay in their places, and weights do not. */
Test(ep_faults, weights_of_other_rows_are_named) {
    moe_check_result *r = check_over_ranks(
        "reference", "T=24 d=16 n=8 E=6 K=3 dtype=fp32 renorm=1 seed=1 ep=8", "scan_shifted", 0);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(r->over_ranks.why, "weights: row 0 of expert 0 on rank 1") &&
                  strstr(r->over_ranks.why, "another row's"),
              "\"%s\"", r->over_ranks.why);
    moe_check_result_destroy(&r);
}

/* But for the one that ends a process. */
Test(ep_faults, all_are_tried) {
    size_t count;
    const moe_ep_fault *all = moe_ep_faults(&count);
    for (size_t i = 0; i < count; i++) {
        int found = strcmp(all[i].name, "rank_dies") == 0;
        for (int k = 0; k < ROWS; k++)
            found += strcmp(all[i].name, rows[k].fault) == 0;
        cr_expect(found, "%s has no row", all[i].name);
    }
}

/* A backend that ends, or does not end, in a process of its own: the verdict says which rank's, and
 * what it did. */
Test(ep_faults, a_ranks_backend_that_ends_is_a_verdict) {
    static const char *const variants[][2] = {
        {"backward.segv", "backward "},
        {"forward.sleep", "forward took longer than 0.5 s"},
        {"backward.exit_now", "backward exited with code 0"},
    };
    const moe_isolation how = {.timeout_s = 0.5};
    moe_backends *all = NULL;
    moe_problem *problem = NULL;
    moe_case c;
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/conformance/moe_contract.so",
             getenv("MOEREF_BUILD_ROOT"));
    cr_assert_eq(moe_case_parse("T=24 d=17 n=8 E=6 K=3 dtype=fp32 seed=1 ep=3", NULL, &c), MOE_OK);
    cr_assert_eq(moe_problem_from_case(&c, NULL, &problem), MOE_OK);
    moe_case_destroy(&c);
    cr_assert_eq(moe_backends_load_isolated("", &how, NULL, &all), MOE_OK);
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        const moe_open_params open = {.variant = variants[i][0], .threads = 1};
        const moe_ep_params ep = {.ranks = 3, .wire = MOE_EP_WIRE_OWN};
        moe_backend *backend = NULL;
        moe_check_result *r = NULL;
        cr_assert_eq(moe_backend_open(all, path, &open, NULL, &backend), MOE_OK);
        cr_assert_eq(moe_check_ranks(&backend, 1, &ep, problem, NULL, NULL, &r), MOE_OK);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
        cr_expect(strstr(r->why, ": rank ") && strstr(r->why, variants[i][1]), "%s: \"%s\"",
                  variants[i][0], r->why);
        moe_check_result_destroy(&r);
        moe_backend_close(&backend);
    }
    moe_problem_destroy(&problem);
    moe_backends_destroy(&all);
}

/* Threads of one process cannot be killed one by one. */
Test(ep_faults, no_thread_dies) {
    const moe_ep_params ep = {.ranks = 2, .wire = MOE_EP_WIRE_OWN, .fault = "rank_dies"};
    moe_backends *all = NULL;
    moe_backend *backend = NULL, *over = NULL;
    capture seen;
    const moe_log log = capture_log(&seen);
    cr_assert_eq(moe_backends_load("", NULL, &all), MOE_OK);
    cr_assert_eq(moe_backend_open(all, "reference", NULL, NULL, &backend), MOE_OK);
    cr_expect_eq(moe_ep_open(&backend, 1, &ep, &log, &over), MOE_E_UNSUPPORTED);
    cr_expect(strstr(seen.text, "threads"), "%s", seen.text);
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
}
