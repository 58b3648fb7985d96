/* Causes between ranks that a judge names by the files of ranks that have them. */
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
    /* of experts in parts, tokens' results alone */
    const size_t count = f->problem->split.tp > 1 ? 2 : 5;
    const moe_named_tensor t[] = {{"O", rows(&out[MOE_T_O], t0, t1)},
                                  {"dX", rows(&out[MOE_T_DX], t0, t1)},
                                  {"dW1", rows(&out[MOE_T_DW1], e0, e1)},
                                  {"dW2", rows(&out[MOE_T_DW2], e0, e1)},
                                  {"dW_r", out[MOE_T_DW_R]}};
    snprintf(path, sizeof path, "%s/rank%d.safetensors", folder, (int)r);
    cr_assert_eq(moe_safetensors_write(path, t, count, NULL, 0, NULL), MOE_OK);
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
    expect_cause(
        line, take_next_weights,
        "with the weights of expert 50 of the same rank 3; 13 more: each that is wrong has "
        "the next one's");
    expect_cause(line, scatter_weights,
                 "rank 0 computes expert 0, its expert 0, with the weights of expert 3 of");
}

/* ---- parts that are lost ---- */

static int64_t width_of(const faulty *f, moe_tensor_id id) {
    return moe_tensor_count(&f->ref->out.t[id]) / f->ref->out.t[id].shape[0];
}

static int32_t rank_of(const int64_t *first, int64_t i) {
    int32_t r = 0;
    while (first[r + 1] <= i)
        r++;
    return r;
}

static int32_t home_of(const faulty *f, int64_t pair) {
    return rank_of(f->first, f->ref->plan->token[pair]);
}

static int64_t expert_of(const faulty *f, int64_t pair) {
    int64_t e = 0;
    while (f->ref->plan->offsets[e + 1] <= pair)
        e++;
    return e;
}

static int32_t owner_of(const faulty *f, int64_t pair) {
    int32_t r = 0;
    while (first_expert(f, r + 1) <= expert_of(f, pair))
        r++;
    return r;
}

/* O loses the parts of pairs that are `lost`. */
static void lose(const faulty *f, bool (*lost)(const faulty *f, int64_t pair)) {
    const moe_plan *plan = f->ref->plan;
    const int64_t d = width_of(f, MOE_T_O);
    for (int64_t p = 0; p < plan->n_pairs; p++)
        for (int64_t i = 0; i < d && lost(f, p); i++)
            of(f, MOE_T_O)[plan->token[p] * d + i] -= plan->weight[p] * of(f, MOE_T_Y)[p * d + i];
}

static bool on_two_links(const faulty *f, int64_t p) {
    return (home_of(f, p) == 0 && owner_of(f, p) == 2) ||
           (home_of(f, p) == 3 && owner_of(f, p) == 1);
}

static bool of_upper_experts(const faulty *f, int64_t p) {
    return expert_of(f, p) >= 8;
}

static bool of_first_tokens_elsewhere(const faulty *f, int64_t p) {
    return f->first[home_of(f, p)] == f->ref->plan->token[p] && home_of(f, p) != owner_of(f, p);
}

/* Rows of a rank for an expert from the third on. */
static bool behind_two(const faulty *f, int64_t p) {
    int64_t before = 0;
    for (int64_t q = f->ref->plan->offsets[expert_of(f, p)]; q < p; q++)
        before += home_of(f, q) == home_of(f, p);
    return before >= 2;
}

/* A third of each link's rows, the last ones. */
static bool behind_in_link(const faulty *f, int64_t p) {
    int64_t before = 0, all = 0;
    for (int64_t q = 0; q < f->ref->plan->n_pairs; q++)
        if (home_of(f, q) == home_of(f, p) && owner_of(f, q) == owner_of(f, p)) {
            before += q < p;
            all++;
        }
    return 3 * before >= 2 * all;
}

static bool of_least_weight(const faulty *f, int64_t p) {
    const moe_plan *plan = f->ref->plan;
    for (int64_t q = 0; q < plan->n_pairs; q++)
        if (plan->token[q] == plan->token[p] && plan->weight[q] < plan->weight[p])
            return false;
    return true;
}

static bool of_some_copies(const faulty *f, int64_t p) {
    return (f->ref->plan->token[p] + owner_of(f, p)) % 5 == 0;
}

#define LOSE(which)                                                                                \
    static void lose_##which(const faulty *f) {                                                    \
        lose(f, which);                                                                            \
    }
LOSE(on_two_links)
LOSE(of_upper_experts)
LOSE(of_first_tokens_elsewhere)
LOSE(behind_two)
LOSE(behind_in_link)
LOSE(of_least_weight)
LOSE(of_some_copies)

Test(ep_causes, what_lost_parts_have_in_common_is_named) {
    const char *line = "T=64 d=48 n=8 E=12 K=4 dtype=fp32 renorm=1 seed=3 ep=4 tokens=20+0+24+20";
    expect_cause(line, lose_on_two_links,
                 "O lacks what rank 1 made for rank 3's tokens, what rank 2 made for rank 0's");
    expect_cause(line, lose_of_upper_experts, "O lacks what experts from 8 on made");
    expect_cause(line, lose_of_first_tokens_elsewhere,
                 "O lacks what other ranks made for token 0 of each rank");
    expect_cause(line, lose_behind_two, "O lacks all but the first 2 rows of each rank for an");
    expect_cause(line, lose_behind_in_link, "O lacks the last rows of 12 links: all but the first");
    expect_cause(line, lose_of_least_weight, "O lacks the expert of each token's least weight");
    expect_cause(line, lose_of_some_copies,
                 "O lacks all that a rank made for a token at 33 of 181 such");
}

/* ---- the router's gradient ---- */

/* dX as if no dS of other ranks' experts had come home; `all`: none at all. */
static void detach(const faulty *f, bool all) {
    const moe_plan *plan = f->ref->plan;
    const int64_t d = width_of(f, MOE_T_DX);
    const int64_t pairs = plan->n_pairs, E = plan->n_experts;
    double *dS = calloc((size_t)pairs, sizeof *dS);
    double *dz = calloc((size_t)(plan->n_tokens * E), sizeof *dz), *dX = of(f, MOE_T_DX);
    for (int64_t p = 0; p < pairs; p++)
        dS[p] = all || home_of(f, p) != owner_of(f, p) ? of(f, MOE_T_DS)[p] : 0;
    cr_assert_eq(moe_route_backward(&f->problem->layer, of(f, MOE_T_LOGITS), plan, dS, dz), MOE_OK);
    for (int64_t t = 0; t < plan->n_tokens; t++)
        for (int64_t e = 0; e < E; e++)
            for (int64_t i = 0; i < d; i++)
                dX[t * d + i] -= dz[t * E + e] * moe_load(f->problem->in.t[MOE_T_W_R].data, MOE_F32,
                                                          (size_t)(e * d + i));
    free(dS);
    free(dz);
}

static void detach_others(const faulty *f) {
    detach(f, false);
}

static void detach_all(const faulty *f) {
    detach(f, true);
}

Test(ep_causes, gradients_that_do_not_reach_the_router_are_named) {
    const char *line = "T=64 d=48 n=8 E=12 K=4 dtype=fp32 renorm=1 seed=3 ep=4 tokens=20+0+24+20";
    expect_cause(line, detach_others,
                 "the router's gradient in dX lacks the dS of what other ranks than a token's own");
    expect_cause(line, detach_all, "no gradient reaches the router");
}

/* ---- rows and gradients of others ---- */

/* Rows of rank 1's experts come home in the order of the next ones: each token's, of any number. */
static void mix_rows_of_rank_1(const faulty *f) {
    const moe_plan *plan = f->ref->plan;
    const int64_t d = width_of(f, MOE_T_O);
    const int64_t first = plan->offsets[first_expert(f, 1)],
                  end = plan->offsets[first_expert(f, 2)];
    for (int64_t p = first; p < end; p++)
        for (int64_t i = 0; i < d; i++) {
            const int64_t q = first + (p - first + 5) % (end - first);
            of(f, MOE_T_O)[plan->token[p] * d + i] +=
                plan->weight[p] * (of(f, MOE_T_Y)[q * d + i] - of(f, MOE_T_Y)[p * d + i]);
        }
}

/* An all-gather of 24 rows a rank, of which those of nobody were not left out. */
static void keep_padding(const faulty *f) {
    const int64_t d = width_of(f, MOE_T_O), T = f->problem->T;
    double *all = calloc((size_t)(f->R * 24 * d), sizeof *all);
    for (int32_t r = 0; r < f->R; r++)
        memcpy(all + r * 24 * d, of(f, MOE_T_O) + f->first[r] * d,
               (size_t)((f->first[r + 1] - f->first[r]) * d) * sizeof *all);
    memcpy(of(f, MOE_T_O), all, (size_t)(T * d) * sizeof *all);
    free(all);
}

/* Each rank adds the next one's gradients of as many experts. */
static void add_next_rank(const faulty *f) {
    const int64_t width = width_of(f, MOE_T_DW2), E = f->problem->layer.E;
    double *all = malloc((size_t)(E * width) * sizeof *all);
    memcpy(all, of(f, MOE_T_DW2), (size_t)(E * width) * sizeof *all);
    for (int64_t i = 0; i < E * width; i++)
        of(f, MOE_T_DW2)[i] += all[(i + E / f->R * width) % (E * width)];
    free(all);
}

static void round_weights(const faulty *f) {
    const moe_plan *plan = f->ref->plan;
    const int64_t d = width_of(f, MOE_T_O);
    for (int64_t p = 0; p < plan->n_pairs; p++)
        for (int64_t i = 0; i < d; i++)
            of(f, MOE_T_O)[plan->token[p] * d + i] +=
                (moe_round_to(plan->weight[p], MOE_BF16) - plan->weight[p]) *
                of(f, MOE_T_Y)[p * d + i];
}

Test(ep_causes, rows_gradients_and_weights_of_others_are_named) {
    const char *line = "T=64 d=48 n=8 E=12 K=4 dtype=fp32 renorm=1 seed=3 ep=4 tokens=20+0+24+20";
    expect_cause(line, mix_rows_of_rank_1, "rows are told so: all of them on rank 1");
    expect_cause(line, keep_padding, "rank 3's rows of O are those of tokens 28 further back");
    expect_cause(line, add_next_rank,
                 "dW2 of expert 0 on rank 0 has that of expert 3 of rank 1 added to its own; 11");
    expect_cause(line, round_weights, "weights are rounded to bf16");
}

/* ---- experts in parts ---- */

/* W1 [2n][d] of two parts, cut in the middle: part 0 takes n/2 gates for ups. */
static void cut_across(const faulty *f) {
    moe_tensors other = f->problem->in;
    moe_tensor *W1 = &other.t[MOE_T_W1];
    moe_reference_result *made = NULL;
    cr_assert_eq(moe_tensor_cast(&f->problem->in.t[MOE_T_W1], MOE_F32, W1), MOE_OK);
    const int64_t half = W1->shape[1] / 4, d = W1->shape[2]; /* of n units */
    for (int64_t e = 0; e < W1->shape[0]; e++)
        for (int64_t i = 0; i < half * d; i++) { /* its second and third quarters change places */
            float *at = (float *)W1->data + e * 4 * half * d + i;
            const float kept = at[half * d];
            at[half * d] = at[2 * half * d];
            at[2 * half * d] = kept;
        }
    const moe_reference_params params = {
        .tokens = f->problem->T, .precision = MOE_F64, .threads = 1, .plan = f->ref->plan};
    cr_assert_eq(moe_reference_run(&f->problem->layer, &other, &params, NULL, &made), MOE_OK);
    memcpy(of(f, MOE_T_O), made->out.t[MOE_T_O].data,
           (size_t)moe_tensor_bytes(&f->ref->out.t[MOE_T_O]));
    moe_reference_result_destroy(&made);
    moe_tensor_destroy(W1);
}

static void lose_part_1(const faulty *f) {
    const moe_plan *plan = f->ref->plan;
    const int64_t d = width_of(f, MOE_T_O), n = width_of(f, MOE_T_A);
    const moe_tensor *W2 = &f->problem->in.t[MOE_T_W2];
    for (int64_t p = 0; p < plan->n_pairs; p++)
        for (int64_t i = 0; i < d; i++)
            for (int64_t j = n / 2; j < n; j++)
                of(f, MOE_T_O)[plan->token[p] * d + i] -=
                    plan->weight[p] * of(f, MOE_T_A)[p * n + j] *
                    moe_load(W2->data, W2->dtype, (size_t)((expert_of(f, p) * d + i) * n + j));
}

Test(ep_causes, parts_that_are_missing_or_cut_otherwise_are_named) {
    const char *line =
        "T=64 d=48 n=8 E=12 K=4 dtype=fp32 renorm=1 seed=3 ep=2 tp=2 tokens=20+0+24+20";
    expect_cause(line, lose_part_1, "O lacks part 1 of every expert's units, a half");
    expect_cause(line, cut_across, "W1 is cut into 2 parts across gates and ups");
}
