/* Causes between ranks that a judge names by the files of ranks that have them. */
#include "capture.h"
#include "moeref/check.h"
#include "moeref/reference.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Right results, which `spoil` makes wrong, and what it needs for that. */
typedef struct faulty {
    const moe_problem *problem;
    moe_reference_result *ref;
    const int64_t *first; /* [R+1] tokens of the ranks */
    int32_t R;
} faulty;
typedef void (*spoil_fn)(const faulty *f);

static double *of(const faulty *f, moe_tensor_id id) {
    return f->ref->out.t[id].data;
}

static int64_t first_expert(const faulty *f, int32_t rank) {
    return moe_ep_first_expert(f->problem->layer.E, f->R, rank);
}

static moe_tensor rows(const moe_tensor *all, int64_t first, int64_t end) {
    moe_tensor part = *all;
    part.data = (char *)all->data + first * (moe_tensor_bytes(all) / all->shape[0]);
    part.shape[0] = end - first;
    return part;
}

static void write_rank(const char *folder, const faulty *f, int32_t r) {
    char path[256];
    const moe_tensor *out = f->ref->out.t;
    const int64_t t0 = f->first[r], t1 = f->first[r + 1];
    const int64_t e0 = first_expert(f, r), e1 = first_expert(f, r + 1);
    const moe_named_tensor t[] = {{"O", rows(&out[MOE_T_O], t0, t1)},
                                  {"dX", rows(&out[MOE_T_DX], t0, t1)},
                                  {"dW1", rows(&out[MOE_T_DW1], e0, e1)},
                                  {"dW2", rows(&out[MOE_T_DW2], e0, e1)},
                                  {"dW_r", out[MOE_T_DW_R]}};
    snprintf(path, sizeof path, "%s/rank%d.safetensors", folder, (int)r);
    cr_assert_eq(moe_safetensors_write(path, t, sizeof t / sizeof *t, NULL, 0, NULL), MOE_OK);
}

static void expect_cause(const char *line, spoil_fn spoil, const char *due) {
    char folder[TEMPORARY_BYTES], path[256];
    int64_t first[MOE_EP_MAX_RANKS + 1] = {0};
    moe_case c;
    moe_problem *problem = NULL;
    faulty f = {.first = first};
    moe_check_result *result = NULL;
    capture seen;
    moe_log log = capture_log(&seen);
    temporary_folder(folder);
    cr_assert_eq(moe_case_parse(line, &log, &c), MOE_OK, "%s", seen.text);
    cr_assert_eq(moe_problem_from_case(&c, NULL, &problem), MOE_OK);
    cr_assert_eq(moe_reference_problem(problem, 1, NULL, &f.ref), MOE_OK);
    f.problem = problem;
    f.R = moe_split_ranks(&problem->split);
    for (int32_t r = 0; r < f.R; r++)
        first[r + 1] = first[r] + problem->split.tokens[r];
    spoil(&f);
    for (int32_t r = 0; r < f.R; r++)
        write_rank(folder, &f, r);
    snprintf(path, sizeof path, "%s/rank%%d.safetensors", folder);
    const moe_check_params params = {.threads = 1};
    cr_assert_eq(moe_check_rank_outputs(path, problem, -1, &params, &log, &result), MOE_OK, "%s",
                 seen.text);
    cr_expect_eq(result->verdict, MOE_VERDICT_FAIL, "%s", due);
    cr_expect(strstr(result->explanation.text, due), "\"%s\", not \"%s\"", due,
              result->explanation.text);
    moe_check_result_destroy(&result);
    temporary_remove(folder);
    moe_reference_result_destroy(&f.ref);
    moe_problem_destroy(&problem);
    moe_case_destroy(&c);
}

/* ---- experts with the weights of others ---- */

/* Expert e has the weights of expert map[e]. */
static void compute_with(const faulty *f, const int64_t *map) {
    static const moe_tensor_id weights[] = {MOE_T_W1, MOE_T_W2};
    const moe_tensors *in = &f->problem->in;
    moe_tensors other = *in;
    moe_reference_result *made = NULL;
    for (int i = 0; i < 2; i++) {
        const moe_tensor *w = &in->t[weights[i]];
        const size_t bytes = (size_t)(moe_tensor_bytes(w) / w->shape[0]);
        cr_assert_eq(moe_tensor_cast(w, w->dtype, &other.t[weights[i]]), MOE_OK);
        for (int64_t e = 0; e < w->shape[0]; e++)
            memcpy((char *)other.t[weights[i]].data + (size_t)e * bytes,
                   (const char *)w->data + (size_t)map[e] * bytes, bytes);
    }
    const moe_reference_params params = {
        .tokens = f->problem->T, .precision = MOE_F64, .threads = 1, .plan = f->ref->plan};
    cr_assert_eq(moe_reference_run(&f->problem->layer, &other, &params, NULL, &made), MOE_OK);
    memcpy(of(f, MOE_T_O), made->out.t[MOE_T_O].data,
           (size_t)moe_tensor_bytes(&f->ref->out.t[MOE_T_O]));
    moe_reference_result_destroy(&made);
    for (int i = 0; i < 2; i++)
        moe_tensor_destroy(&other.t[weights[i]]);
}

/* The last rank's experts have the next ones' weights. */
static void take_next_weights(const faulty *f) {
    int64_t map[64];
    const int64_t E = f->problem->layer.E;
    for (int64_t e = 0; e < E; e++)
        map[e] = e >= first_expert(f, f->R - 1) && e + 1 < E ? e + 1 : e;
    compute_with(f, map);
}

/* 5 and 64 have no common divisor: a permutation without a pattern that a rank could have. */
static void scatter_weights(const faulty *f) {
    int64_t map[64];
    for (int64_t e = 0; e < 64; e++)
        map[e] = (5 * e + 3) % 64;
    compute_with(f, map);
}

Test(ep_causes, experts_with_the_weights_of_others_are_named_however_many_there_are) {
    const char *line = "T=64 d=48 n=8 E=64 K=4 dtype=fp32 renorm=1 seed=3 ep=4 tokens=20+0+24+20";
    expect_cause(line, take_next_weights,
                 "with the weights of expert 50 of the same rank 3; 13 more: each that is wrong has "
                 "the next one's");
    expect_cause(line, scatter_weights,
                 "rank 0 computes expert 0, its expert 0, with the weights of expert 3 of");
}
