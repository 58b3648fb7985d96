/* Outputs of three ranks in three files, as any program over several devices could write them. */
#include "capture.h"
#include "moeref/check.h"
#include "moeref/reference.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 3, T = 20, E = 6, PAIRS = 2 * T };
static const int64_t first_token[RANKS + 1] = {0, 9, 9, T}; /* rank 1 has none */
static const int64_t first_expert[RANKS + 1] = {0, 2, 4, E};

static moe_tensor rows(const moe_tensor *all, int64_t first, int64_t end) {
    moe_tensor part = *all;
    const int64_t bytes = moe_tensor_bytes(all) / all->shape[0];
    part.data = (char *)all->data + first * bytes;
    part.shape[0] = end - first;
    return part;
}

/* dS of some tokens' pairs, in the order of their own plan. */
static moe_tensor pairs_of(const moe_reference_result *ref, int64_t first, int64_t end,
                           double *ret) {
    const double *all = ref->out.t[MOE_T_DS].data;
    int64_t count = 0;
    for (int64_t p = 0; p < PAIRS; p++)
        if (ref->plan->token[p] >= first && ref->plan->token[p] < end)
            ret[count++] = all[p];
    return (moe_tensor){.data = ret, .dtype = MOE_F64, .ndim = 1, .shape = {count}};
}

/* `alone`: a rank's dW_r is of its own, as if nobody had added them up. */
static void write_rank(const char *folder, int rank, const moe_reference_result *ref, bool alone) {
    static const char *const names[] = {"O", "dX", "dW1", "dW2", "dW_r", "dS"};
    char path[256];
    moe_named_tensor t[6];
    double dS[PAIRS];
    moe_tensor own = {0};
    const int64_t t0 = first_token[rank], t1 = first_token[rank + 1];
    const int64_t e0 = first_expert[rank], e1 = first_expert[rank + 1];
    const moe_tensor *out = ref->out.t;
    cr_assert_eq(moe_tensor_cast(&out[MOE_T_DW_R], MOE_F64, &own), MOE_OK);
    if (alone)
        ((double *)own.data)[rank] *= 0.5;
    const moe_tensor parts[] = {rows(&out[MOE_T_O], t0, t1),
                                rows(&out[MOE_T_DX], t0, t1),
                                rows(&out[MOE_T_DW1], e0, e1),
                                rows(&out[MOE_T_DW2], e0, e1),
                                own,
                                pairs_of(ref, t0, t1, dS)};
    size_t n = 0;
    for (int i = 0; i < 6; i++)
        if (i > 1 || t1 > t0) /* a rank without tokens leaves O and dX out */
            t[n++] = (moe_named_tensor){names[i], parts[i]};
    snprintf(path, sizeof path, "%s/rank%d.safetensors", folder, rank);
    cr_assert_eq(moe_safetensors_write(path, t, n, NULL, 0, NULL), MOE_OK);
    moe_tensor_destroy(&own);
}

typedef void (*spoil_fn)(const moe_problem *problem, moe_reference_result *ref);

static moe_check_result *judge_line(const char *line, bool alone, spoil_fn spoil) {
    char folder[TEMPORARY_BYTES], path[256];
    moe_case c;
    moe_problem *problem = NULL;
    moe_reference_result *ref = NULL;
    moe_check_result *result = NULL;
    capture seen;
    moe_log log = capture_log(&seen);
    temporary_folder(folder);
    cr_assert_eq(moe_case_parse(line, NULL, &c), MOE_OK);
    cr_assert_eq(moe_problem_from_case(&c, NULL, &problem), MOE_OK);
    cr_assert_eq(moe_reference_problem(problem, 1, NULL, &ref), MOE_OK);
    if (spoil)
        spoil(problem, ref);
    for (int r = 0; r < RANKS; r++)
        write_rank(folder, r, ref, alone);
    snprintf(path, sizeof path, "%s/rank%%d.safetensors", folder);
    const moe_check_params params = {.threads = 1, .no_explanation = !spoil};
    cr_assert_eq(moe_check_rank_outputs(path, problem, -1, &params, &log, &result), MOE_OK, "%s",
                 seen.text);
    temporary_remove(folder);
    moe_reference_result_destroy(&ref);
    moe_problem_destroy(&problem);
    moe_case_destroy(&c);
    return result;
}

static moe_check_result *judge(bool alone, spoil_fn spoil) {
    return judge_line("T=20 d=16 n=8 E=6 K=2 dtype=fp32 seed=3", alone, spoil);
}

Test(ep_files, ranks_are_put_together) {
    moe_check_result *r = judge(false, NULL);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    moe_check_result_destroy(&r);
}

Test(ep_files, gradients_that_nobody_summed_are_named) {
    moe_check_result *r = judge(true, NULL);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    int named = 0;
    for (size_t i = 0; i < r->n_tensors; i++)
        named += strcmp(r->tensor[i].name, "dW_r") == 0 && r->tensor[i].verdict == MOE_VERDICT_FAIL;
    cr_expect_eq(named, 1, "%s", r->why);
    moe_check_result_destroy(&r);
}

/* ---- what is wrong between ranks has a name ---- */

static double *of(const moe_reference_result *ref, moe_tensor_id id) {
    return ref->out.t[id].data;
}

static int64_t width_of(const moe_reference_result *ref, moe_tensor_id id) {
    return moe_tensor_count(&ref->out.t[id]) / ref->out.t[id].shape[0];
}

/* O += scale w Y of pairs of rank 2's experts, those of rank 0's tokens alone or of all. */
static void add_rank_2(const moe_reference_result *ref, double scale, bool link) {
    const moe_plan *plan = ref->plan;
    const int64_t d = width_of(ref, MOE_T_O);
    for (int64_t p = plan->offsets[first_expert[2]]; p < plan->offsets[E]; p++)
        for (int64_t i = 0; i < d && !(link && plan->token[p] >= first_token[1]); i++)
            of(ref, MOE_T_O)[plan->token[p] * d + i] +=
                scale * plan->weight[p] * of(ref, MOE_T_Y)[p * d + i];
}

static void lose_rank_2(const moe_problem *problem, moe_reference_result *ref) {
    (void)problem;
    add_rank_2(ref, -1, false);
}

static void double_link(const moe_problem *problem, moe_reference_result *ref) {
    (void)problem;
    add_rank_2(ref, 1, true);
}

static void lose_dX_of_rank_2(const moe_problem *problem, moe_reference_result *ref) {
    (void)problem;
    const int64_t d = width_of(ref, MOE_T_DX);
    memset(of(ref, MOE_T_DX) + first_token[2] * d, 0,
           (size_t)((T - first_token[2]) * d) * sizeof(double));
}

static void divide_gradients(const moe_problem *problem, moe_reference_result *ref) {
    (void)problem;
    for (int64_t i = 0; i < E * width_of(ref, MOE_T_DW2); i++)
        of(ref, MOE_T_DW2)[i] /= RANKS;
    for (int64_t i = 0; i < E * width_of(ref, MOE_T_DW1); i++)
        of(ref, MOE_T_DW1)[i] /= RANKS;
}

/* As if a rank took its rows two tokens too far on. */
static void shift_rows(const moe_problem *problem, moe_reference_result *ref) {
    (void)problem;
    const int64_t d = width_of(ref, MOE_T_O);
    double *O = of(ref, MOE_T_O);
    for (int64_t t = 0; t < first_token[1]; t++)
        memcpy(O + t * d, O + (t + 2) * d, (size_t)d * sizeof *O);
}

/* Rank 2 computes its first expert with the weights of its second. */
static void take_other_weights(const moe_problem *problem, moe_reference_result *ref) {
    moe_tensors in = problem->in;
    moe_tensor W1, W2;
    moe_reference_result *other = NULL;
    cr_assert_eq(moe_tensor_cast(&in.t[MOE_T_W1], in.t[MOE_T_W1].dtype, &W1), MOE_OK);
    cr_assert_eq(moe_tensor_cast(&in.t[MOE_T_W2], in.t[MOE_T_W2].dtype, &W2), MOE_OK);
    const size_t a = (size_t)(moe_tensor_bytes(&W1) / E), b = (size_t)(moe_tensor_bytes(&W2) / E);
    memcpy((char *)W1.data + 4 * a, (char *)W1.data + 5 * a, a);
    memcpy((char *)W2.data + 4 * b, (char *)W2.data + 5 * b, b);
    in.t[MOE_T_W1] = W1;
    in.t[MOE_T_W2] = W2;
    const moe_reference_params params = {
        .tokens = T, .precision = MOE_F64, .threads = 1, .plan = ref->plan};
    cr_assert_eq(moe_reference_run(&problem->layer, &in, &params, NULL, &other), MOE_OK);
    memcpy(of(ref, MOE_T_O), of(other, MOE_T_O), (size_t)moe_tensor_bytes(&ref->out.t[MOE_T_O]));
    moe_reference_result_destroy(&other);
    moe_tensor_destroy(&W1);
    moe_tensor_destroy(&W2);
}

Test(ep_files, what_is_wrong_between_ranks_is_named) {
    static const struct {
        spoil_fn spoil;
        const char *named;
    } due[] = {
        {lose_rank_2, "O lacks what rank 2 made"},
        {double_link, "O has twice what rank 2 made for rank 0's tokens"},
        {lose_dX_of_rank_2, "dX lacks the tokens of rank 2"},
        {divide_gradients, "dW2 has, divided by the number of ranks, every token"},
        {shift_rows, "rank 0's rows of O are those of tokens 2 further on"},
        {take_other_weights,
         "rank 2 computes expert 4, its expert 0, with the weights of expert 5"},
    };
    for (size_t i = 0; i < sizeof due / sizeof *due; i++) {
        moe_check_result *r = judge(false, due[i].spoil);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s", due[i].named);
        cr_expect(strstr(r->explanation.text, due[i].named), "\"%s\", not \"%s\"", due[i].named,
                  r->explanation.text);
        moe_check_result_destroy(&r);
    }
}

/* Codes of tokens with the scale 1. */
static void forget_scales(const moe_problem *problem, moe_reference_result *ref) {
    const int64_t d = problem->layer.d;
    moe_tensors in = problem->in;
    moe_reference_result *other = NULL;
    moe_tensor X;
    cr_assert_eq(moe_tensor_cast(&in.t[MOE_T_X], MOE_F64, &X), MOE_OK);
    for (int64_t b = 0; b < T * d / 128; b++) {
        double *x = (double *)X.data + b * 128, most = 0;
        for (int i = 0; i < 128; i++)
            most = fmax(most, fabs(x[i]));
        for (int i = 0; i < 128; i++)
            x[i] *= 448 / most;
    }
    in.t[MOE_T_X] = X;
    in.t[MOE_T_DO] = (moe_tensor){0};
    const moe_reference_params params = {
        .tokens = T, .precision = MOE_F64, .threads = 1, .plan = ref->plan, .plan_given = 1};
    cr_assert_eq(moe_reference_run(&problem->layer, &in, &params, NULL, &other), MOE_OK);
    memcpy(of(ref, MOE_T_O), of(other, MOE_T_O), (size_t)moe_tensor_bytes(&ref->out.t[MOE_T_O]));
    moe_reference_result_destroy(&other);
    moe_tensor_destroy(&X);
}

Test(ep_files, scales_that_nobody_applied_are_named) {
    moe_check_result *r =
        judge_line("T=20 d=256 n=8 E=6 K=2 dtype=fp32 seed=3 ep=3 tokens=9+0+11 wire=e4m3", false,
                   forget_scales);
    cr_expect(strstr(r->explanation.text, "rows of X are read without their scales"), "\"%s\"",
              r->explanation.text);
    moe_check_result_destroy(&r);
}

/* ---- gradients in parts ---- */

static moe_tensor matrix(double *data, int64_t a, int64_t b, int64_t c) {
    return (moe_tensor){.data = data, .dtype = MOE_F64, .ndim = 3, .shape = {a, b, c}};
}

/* Two ranks of a group with a half of each expert's 8 units each; or two of their own, the second
 * of which has a replica of expert 0, whose gradient is `share` of it there. Rank r's dW2. */
static void write_dW2(const char *folder, int rank, const moe_reference_result *ref, bool tp,
                      double share) {
    enum { D = 16, N = 8 };
    static double own[E * D * N];
    const double *all = ref->out.t[MOE_T_DW2].data;
    char path[256];
    int64_t count = 0;
    for (int64_t e = 0; e < E; e++) {
        if (!tp && e / 3 != rank && !(e == 0 && rank == 1))
            continue;
        for (int64_t i = 0; i < D; i++)
            for (int64_t j = 0; j < N; j++)
                if (!tp || j / 4 == rank)
                    own[count++] = all[(e * D + i) * N + j] * (tp || e ? 1
                                                               : rank  ? share
                                                                       : 1 - share);
    }
    const moe_named_tensor t = {"dW2",
                                matrix(own, count / (D * (tp ? N / 2 : N)), D, tp ? N / 2 : N)};
    snprintf(path, sizeof path, "%s/rank%d.safetensors", folder, rank);
    cr_assert_eq(moe_safetensors_write(path, &t, 1, NULL, 0, NULL), MOE_OK);
}

static void judge_parts(const char *words, bool tp, double share) {
    char folder[TEMPORARY_BYTES], path[256], line[128];
    moe_case c;
    moe_problem *problem = NULL;
    moe_reference_result *ref = NULL;
    moe_check_result *r = NULL;
    capture seen;
    moe_log log = capture_log(&seen);
    temporary_folder(folder);
    snprintf(line, sizeof line, "T=20 d=16 n=8 E=6 K=2 dtype=fp32 seed=3 %s", words);
    cr_assert_eq(moe_case_parse(line, &log, &c), MOE_OK, "%s", seen.text);
    cr_assert_eq(moe_problem_from_case(&c, NULL, &problem), MOE_OK);
    cr_assert_eq(moe_reference_problem(problem, 1, NULL, &ref), MOE_OK);
    for (int rank = 0; rank < 2; rank++)
        write_dW2(folder, rank, ref, tp, share);
    snprintf(path, sizeof path, "%s/rank%%d.safetensors", folder);
    cr_assert_eq(moe_check_rank_outputs(path, problem, -1, NULL, &log, &r), MOE_OK, "%s",
                 seen.text);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s: %s", words, r->why);
    moe_check_result_destroy(&r);
    temporary_remove(folder);
    moe_reference_result_destroy(&ref);
    moe_problem_destroy(&problem);
    moe_case_destroy(&c);
}

Test(ep_files, parts_lie_side_by_side_and_replicas_are_added) {
    judge_parts("ep=1 tp=2", true, 0);
    judge_parts("ep=2 replicas=2", false, 0.25);
}

Test(ep_files, a_pattern_without_a_place_for_the_rank_is_refused) {
    moe_check_result *r = NULL;
    const moe_problem none = {.T = 1};
    cr_expect_eq(moe_check_rank_outputs("rank.safetensors", &none, -1, NULL, NULL, &r),
                 MOE_E_INVALID);
}
