/* Files of ranks with results that were right before a test made them wrong. */
#ifndef TESTS_EP_SPOILT_H
#define TESTS_EP_SPOILT_H

#include "capture.h"
#include "moeref/check.h"
#include "moeref/reference.h"
#include "route/route.h"
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
    bool give_dS; /* to the judge */
} faulty;
typedef void (*spoil_fn)(const faulty *f);

static inline double *of(const faulty *f, moe_tensor_id id) {
    return f->ref->out.t[id].data;
}

static inline int64_t first_expert(const faulty *f, int32_t rank) {
    return moe_ep_first_expert(f->problem->layer.E, f->R, rank);
}

static inline moe_tensor rows(const moe_tensor *all, int64_t first, int64_t end) {
    moe_tensor part = *all;
    part.data = (char *)all->data + first * (moe_tensor_bytes(all) / all->shape[0]);
    part.shape[0] = end - first;
    return part;
}

/* dS of a rank's pairs, in the order of its own plan. */
static inline moe_tensor pairs_of(const faulty *f, int32_t rank, double *ret) {
    const moe_plan *plan = f->ref->plan;
    int64_t count = 0;
    for (int64_t p = 0; p < plan->n_pairs; p++)
        if (plan->token[p] >= f->first[rank] && plan->token[p] < f->first[rank + 1])
            ret[count++] = of(f, MOE_T_DS)[p];
    return (moe_tensor){.data = ret, .dtype = MOE_F64, .ndim = 1, .shape = {count}};
}

static inline void write_rank(const char *folder, const faulty *f, int32_t r) {
    char path[256];
    const moe_tensor *out = f->ref->out.t;
    const int64_t t0 = f->first[r], t1 = f->first[r + 1];
    const int64_t e0 = first_expert(f, r), e1 = first_expert(f, r + 1);
    /* of experts in parts, tokens' results alone */
    const bool whole = f->problem->split.tp <= 1 && !f->problem->split.n_replicas;
    const size_t count = !whole ? 2 : f->give_dS ? 6 : 5;
    double *dS = malloc((size_t)(f->ref->plan->n_pairs + 1) * sizeof *dS);
    const moe_named_tensor t[] = {{"O", rows(&out[MOE_T_O], t0, t1)},
                                  {"dX", rows(&out[MOE_T_DX], t0, t1)},
                                  {"dW1", rows(&out[MOE_T_DW1], e0, e1)},
                                  {"dW2", rows(&out[MOE_T_DW2], e0, e1)},
                                  {"dW_r", out[MOE_T_DW_R]},
                                  {"dS", pairs_of(f, r, dS)}};
    snprintf(path, sizeof path, "%s/rank%d.safetensors", folder, (int)r);
    cr_assert_eq(moe_safetensors_write(path, t, count, NULL, 0, NULL), MOE_OK);
    free(dS);
}

/* Files of all ranks of a case, and what a judge says of them. */
typedef struct judged {
    char folder[TEMPORARY_BYTES];
    int64_t first[MOE_EP_MAX_RANKS + 1];
    moe_case c;
    moe_problem *problem;
    faulty f;
    capture seen; /* the message of an error */
    moe_check_result *result;
} judged;

static inline void judged_make(const char *line, judged *k) {
    moe_log log = capture_log(&k->seen);
    *k = (judged){.f = {.first = k->first}};
    temporary_folder(k->folder);
    cr_assert_eq(moe_case_parse(line, &log, &k->c), MOE_OK, "%s", k->seen.text);
    cr_assert_eq(moe_problem_from_case(&k->c, NULL, &k->problem), MOE_OK);
    cr_assert_eq(moe_reference_problem(k->problem, 1, NULL, &k->f.ref), MOE_OK);
    k->f.problem = k->problem;
    k->f.R = moe_split_ranks(&k->problem->split);
    for (int32_t r = 0; r < k->f.R && k->problem->split.tokens; r++)
        k->first[r + 1] = k->first[r] + k->problem->split.tokens[r];
}

static inline void write_all(const judged *k) {
    for (int32_t r = 0; r < k->f.R; r++)
        write_rank(k->folder, &k->f, r);
}

static inline moe_status judge(judged *k) {
    char path[256];
    const moe_check_params params = {.threads = 1};
    moe_log log = capture_log(&k->seen);
    snprintf(path, sizeof path, "%s/rank%%d.safetensors", k->folder);
    return moe_check_rank_outputs(path, k->problem, -1, &params, &log, &k->result);
}

static inline void judged_destroy(judged *k) {
    moe_check_result_destroy(&k->result);
    temporary_remove(k->folder);
    moe_reference_result_destroy(&k->f.ref);
    moe_problem_destroy(&k->problem);
    moe_case_destroy(&k->c);
}

static inline void expect_cause_of(const char *line, spoil_fn spoil, bool give_dS,
                                   const char *due) {
    judged k;
    judged_make(line, &k);
    k.f.give_dS = give_dS;
    spoil(&k.f);
    write_all(&k);
    cr_assert_eq(judge(&k), MOE_OK, "%s", k.seen.text);
    cr_expect_eq(k.result->verdict, MOE_VERDICT_FAIL, "%s", due);
    cr_expect(strstr(k.result->explanation.text, due), "\"%s\", not \"%s\"", due,
              k.result->explanation.text);
    judged_destroy(&k);
}

static inline void expect_cause(const char *line, spoil_fn spoil, const char *due) {
    expect_cause_of(line, spoil, false, due);
}

/* O and dS become what the layer makes with these parameters, by the pairs of its own plan. */
static inline void remake_O(const faulty *f, const moe_tensors *in) {
    static const moe_tensor_id made_of[] = {MOE_T_O, MOE_T_DS};
    const moe_reference_params params = {
        .tokens = f->problem->T, .precision = MOE_F64, .threads = 1, .plan = f->ref->plan};
    moe_reference_result *made = NULL;
    cr_assert_eq(moe_reference_run(&f->problem->layer, in, &params, NULL, &made), MOE_OK);
    for (int i = 0; i < 2; i++)
        memcpy(of(f, made_of[i]), made->out.t[made_of[i]].data,
               (size_t)moe_tensor_bytes(&f->ref->out.t[made_of[i]]));
    moe_reference_result_destroy(&made);
}

static inline int64_t width_of(const faulty *f, moe_tensor_id id) {
    return moe_tensor_count(&f->ref->out.t[id]) / f->ref->out.t[id].shape[0];
}

static inline int32_t rank_of(const int64_t *first, int64_t i) {
    int32_t r = 0;
    while (first[r + 1] <= i)
        r++;
    return r;
}

static inline int32_t home_of(const faulty *f, int64_t pair) {
    return rank_of(f->first, f->ref->plan->token[pair]);
}

static inline int64_t expert_of(const faulty *f, int64_t pair) {
    int64_t e = 0;
    while (f->ref->plan->offsets[e + 1] <= pair)
        e++;
    return e;
}

static inline int32_t owner_of(const faulty *f, int64_t pair) {
    int32_t r = 0;
    while (first_expert(f, r + 1) <= expert_of(f, pair))
        r++;
    return r;
}

#endif
