/* The sampled oracle computes what the full one does, for every kind of layer, and looks where it
 * should. */
#include "check/truth/truth.h"
#include "check/verdict/result.h"
#include "drawn.h"
#include "layer/traits.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct both {
    moe_problem *problem;
    moe_check_result *result;
    moe_int_routing routing;
    moe_int_truth full, sampled;
} both;

static both open_both(const char *line, moe_dtype arithmetic) {
    both b = {.problem = drawn(line)};
    moe_check_params params = {.sample_above_flops = -1, .threads = 2, .no_explanation = true};
    const moe_int_rounding r = moe_int_rounding_of(arithmetic);
    cr_assert_eq(moe_int_result_create(b.problem, "test", "--backend test", NULL, &b.result),
                 MOE_OK);
    cr_assert_eq(moe_int_routing_settle(b.problem, NULL, MOE_INT_TOLD,
                                        &(moe_int_reading){arithmetic, 0}, 2, NULL, b.result,
                                        &b.routing),
                 MOE_OK);
    cr_assert_eq(
        moe_int_truth_make(b.problem, &b.routing, &r, &params, NULL, NULL, b.result, &b.full),
        MOE_OK);
    cr_expect_str_eq(b.result->sampled, "");
    params.sample_above_flops = 1;
    cr_assert_eq(
        moe_int_truth_make(b.problem, &b.routing, &r, &params, NULL, NULL, b.result, &b.sampled),
        MOE_OK);
    cr_expect(b.sampled.sampled && !b.full.sampled);
    return b;
}

static void close_both(both *b) {
    moe_int_truth_destroy(&b->full);
    moe_int_truth_destroy(&b->sampled);
    moe_int_routing_destroy(&b->routing);
    moe_check_result_destroy(&b->result);
    moe_problem_destroy(&b->problem);
}

static double element(const moe_tensor *t, int64_t i) {
    return moe_load(t->data, t->dtype, (size_t)i);
}

/* Relative difference of two tensors, by norm; NaN against NaN is equal. */
static double difference(const moe_tensor *a, const moe_tensor *b) {
    double error = 0, norm = 0;
    for (int64_t i = 0, count = moe_tensor_count(a); i < count; i++) {
        double x = element(a, i), y = element(b, i);
        if (isnan(x) && isnan(y))
            continue;
        error += (x - y) * (x - y);
        norm += y * y;
    }
    return error == 0 ? 0 : sqrt(error / norm);
}

/* What is not compared needs no variance. */
static void blank(moe_tensor *t, const moe_tensor *want) {
    for (int64_t i = 0, count = moe_tensor_count(want); i < count; i++)
        if (isnan(element(want, i)))
            moe_store(t->data, t->dtype, (size_t)i, NAN);
}

/* Values are the same sums of up to 70 terms in float64, variances also hold secants over steps of
 * 1e-6 and more (errors/unit.c), which turn a last bit of h, 1e-16, into 1e-10. Largest seen: 4e-16
 * and 1.3e-11. */
static void expect_same(both *b, moe_tensor_id id, const char *line) {
    moe_int_part *part = &b->sampled.part[id];
    moe_tensor full;
    cr_assert_gt(part->layout.groups, 0, "%s: %s is not sampled", line, moe_tensor_name(id));
    cr_assert_eq(moe_int_part_gather(&b->full.oracle->out.t[id], part, &full), MOE_OK);
    if (id ==
        MOE_T_DW1) /* a sampled unit near a kink is left out, the full oracle has both sides */
        blank(&full, &part->want);
    double off = difference(&part->want, &full);
    cr_expect(off < 1e-14, "%s: %s differs by %g", line, moe_tensor_name(id), off);
    moe_tensor_destroy(&full);
    if (!part->variance.data)
        return;
    cr_assert_eq(moe_int_part_gather(&b->full.variance.t[id], part, &full), MOE_OK);
    blank(&full, &part->want);
    blank(&part->variance, &part->want);
    off = difference(&part->variance, &full);
    cr_expect(off < 1e-9, "%s: the variance of %s differs by %g", line, moe_tensor_name(id), off);
    moe_tensor_destroy(&full);
}

Test(check_sample, same_as_the_full_oracle) {
    static const char *const lines[] = {
        "T=70 d=24 n=16 E=5 K=2 renorm=1 seed=1",
        "T=70 d=24 n=16 E=5 K=2 glu=interleaved bias=1 route=zipf:1.2 seed=2",
        "T=70 d=24 n=16 E=5 K=2 act=gelu bias=1 score=sigmoid seed=3",
        "T=70 d=24 n=16 E=5 K=2 on=input score=sigmoid bias=1 seed=4",
        "T=70 d=24 n=16 E=5 K=2 shared=12 shared_gate=1 act=geglu seed=5",
        "T=70 d=24 n=16 E=5 K=2 shared=12 act=relu2 zero=2 seed=6",
        "T=70 d=24 n=16 E=5 K=2 act=swiglu_clamp limit=1 route=counts:0+70+1+30+39 seed=7",
        "T=70 d=24 n=16 E=5 K=2 select=token_rounding tile=16 renorm=1 seed=8",
        "T=70 d=24 n=16 E=5 K=2 score=sparsemixer act=reglu seed=9",
    };
    for (size_t i = 0; i < 2 * sizeof lines / sizeof *lines; i++) {
        both b = open_both(lines[i / 2], i % 2 ? MOE_BF16 : MOE_F32);
        for (int id = MOE_T_LOGITS; id < MOE_T_COUNT; id++) {
            bool whole = id == MOE_T_DW_R || id == MOE_T_DB_R || id == MOE_T_DW_GATE_SHARED;
            if (b.full.oracle->out.t[id].data && !whole)
                expect_same(&b, (moe_tensor_id)id, lines[i / 2]);
        }
        close_both(&b);
    }
}

/* dW_r from a given dS is the full one when that dS is the oracle's. */
Test(check_sample, router_gradient) {
    both b =
        open_both("T=70 d=24 n=16 E=5 K=2 router_bias=1 score=sigmoid renorm=1 seed=11", MOE_F32);
    const moe_int_rounding r = moe_int_rounding_of(MOE_F32);
    cr_assert_eq(moe_int_sample_router(b.problem, &b.routing, &b.full.oracle->out.t[MOE_T_DS], &r,
                                       &b.sampled),
                 MOE_OK);
    /* no variance is foreseen for dS here: it is what it is */
    moe_tensor_destroy(&b.sampled.part[MOE_T_DW_R].variance);
    moe_tensor_destroy(&b.sampled.part[MOE_T_DB_R].variance);
    expect_same(&b, MOE_T_DW_R, "router");
    expect_same(&b, MOE_T_DB_R, "router");
    close_both(&b);
}

/* One token's scores, |x|^2 and |w_r|^2 of every expert, for softmax over all and for sigmoid. */
typedef struct token_scores {
    double s[4], xx, ww[4];
} token_scores;

static token_scores scores_by_hand(const both *b, int64_t t) {
    const moe_tensor *in = b->problem->in.t;
    bool softmax = b->problem->layer.router.score == MOE_SCORE_SOFTMAX;
    token_scores k = {.xx = 0};
    double sum = 0;
    for (int64_t i = 0; i < 3; i++)
        k.xx += pow(element(&in[MOE_T_X], t * 3 + i), 2);
    for (int e = 0; e < 4; e++) {
        double z = element(&in[MOE_T_B_R], e);
        for (int64_t i = 0; i < 3; i++) {
            double w = element(&in[MOE_T_W_R], e * 3 + i);
            z += w * element(&in[MOE_T_X], t * 3 + i);
            k.ww[e] += w * w;
        }
        k.s[e] = softmax ? exp(z) : 1 / (1 + exp(-z));
        sum += k.s[e];
    }
    for (int e = 0; softmax && e < 4; e++)
        k.s[e] /= sum;
    return k;
}

static int64_t row_of(const moe_plan *plan, int64_t t, int64_t e) {
    for (int64_t r = plan->offsets[e]; r < plan->offsets[e + 1]; r++)
        if (plan->token[r] == t)
            return r;
    return -1;
}

/* Gradient of token t's logit e, dz_e = sum of slope_ek dS_k over the chosen k, and its variance in
 * units of u^2/3, from the terms that errors.h and errors/router.c name. `vdS` is the variance of
 * dS, NULL where dS is given. */
static double logit_by_hand(const both *b, const moe_tensor *vdS, int64_t t, int e,
                            moe_int_rounding r, double *ret_v) {
    const moe_plan *plan = b->routing.plan;
    bool softmax = b->problem->layer.router.score == MOE_SCORE_SOFTMAX;
    token_scores q = scores_by_hand(b, t);
    double dz = 0, share = row_of(plan, t, e) >= 0 ? 1 : softmax ? q.s[e] : 0;
    *ret_v = 0;
    for (int k = 0; k < 4; k++) {
        if (row_of(plan, t, k) < 0)
            continue;
        double dS = element(&b->full.oracle->out.t[MOE_T_DS], row_of(plan, t, k));
        double slope = q.s[k] * ((e == k) - (softmax || e == k ? q.s[e] : 0));
        double weight = 2 * r.sum * q.xx * q.ww[k] + r.router; /* relative, of s_k */
        dz += slope * dS;
        *ret_v += vdS ? slope * slope * element(vdS, row_of(plan, t, k)) : 0;
        *ret_v += pow(slope * dS, 2) * (moe_int_at(&r, MOE_POINT_DS, 1) + weight) +
                  r.router * pow(share * q.s[k] * dS, 2);
    }
    return dz;
}

/* V of dW_r and db_r, [experts of the sample][d or 1], is what the errors of dS, of the weights and
 * of adding T terms come to. A dozen sums of a few terms in float64 differ by less than 1e-14. */
static void expect_variance(const both *b, moe_int_rounding r, const moe_tensor *vdS,
                            const moe_tensor *dw, const moe_tensor *db, const char *what) {
    double want[4][3] = {{0}}, bias[4] = {0};
    int64_t T = b->problem->T;
    for (int64_t t = 0; t < T; t++) {
        for (int e = 0; e < 4; e++) {
            double v, dz = logit_by_hand(b, vdS, t, e, r, &v);
            v += r.sum * (double)T * dz * dz;
            bias[e] += v;
            for (int64_t i = 0; i < 3; i++)
                want[e][i] += v * pow(element(&b->problem->in.t[MOE_T_X], t * 3 + i), 2);
        }
    }
    for (int64_t g = 0; g < 4; g++) {
        int64_t e = b->sampled.part[MOE_T_DW_R].expert[g];
        for (int64_t i = 0; i < 3; i++)
            cr_expect_float_eq(element(dw, g * 3 + i) / want[e][i], 1, 1e-13, "%s: dW_r[%d][%d]",
                               what, (int)e, (int)i);
        cr_expect_float_eq(element(db, g) / bias[e], 1, 1e-13, "%s: db_r[%d]", what, (int)e);
    }
}

/* In fp32 every term counts, in bf16 the errors of dS alone. */
static void expect_variances(const char *line, moe_dtype arithmetic) {
    both b = open_both(line, arithmetic);
    moe_int_rounding r = moe_int_rounding_of(arithmetic);
    const moe_tensor *full = b.full.variance.t;
    moe_tensor dw, db;
    cr_assert_eq(moe_int_sample_router(b.problem, &b.routing, &b.full.oracle->out.t[MOE_T_DS], &r,
                                       &b.sampled),
                 MOE_OK);
    const moe_int_part *dw_part = &b.sampled.part[MOE_T_DW_R];
    const moe_int_part *db_part = &b.sampled.part[MOE_T_DB_R];
    cr_assert_eq(dw_part->layout.groups, 4);
    expect_variance(&b, r, NULL, &dw_part->variance, &db_part->variance, line);
    cr_assert_eq(moe_int_part_gather(&full[MOE_T_DW_R], dw_part, &dw), MOE_OK);
    cr_assert_eq(moe_int_part_gather(&full[MOE_T_DB_R], db_part, &db), MOE_OK);
    expect_variance(&b, r, &full[MOE_T_DS], &dw, &db, "full");
    moe_tensor_destroy(&dw);
    moe_tensor_destroy(&db);
    close_both(&b);
}

Test(check_sample, router_gradient_variance) {
    static const char *const lines[] = {
        "T=6 d=3 n=4 E=4 K=2 router_bias=1 seed=12",
        "T=6 d=3 n=4 E=4 K=2 router_bias=1 score=sigmoid seed=13",
    };
    for (int i = 0; i < 2; i++) {
        expect_variances(lines[i], MOE_F32);
        expect_variances(lines[i], MOE_BF16);
    }
}

static bool holds(const int64_t *list, int64_t n, int64_t value) {
    for (int64_t i = 0; i < n; i++)
        if (list[i] == value)
            return true;
    return false;
}

/* The sample has the first and the last token, the ends of the smallest and the largest expert, an
 * empty expert, no token twice; it is the same again for the same seed, another for another. */
Test(check_sample, who_is_looked_at) {
    const char *line = "T=400 d=8 n=8 E=12 K=2 route=counts:0+400+3+40+40+40+40+40+40+40+40+77 "
                       "seed=%d";
    char text[128];
    int64_t first[32];
    for (int seed = 21; seed < 23; seed++) {
        snprintf(text, sizeof text, line, seed);
        both b = open_both(text, MOE_F32);
        const int64_t *tokens = b.sampled.tokens, n = b.sampled.n_tokens;
        const moe_plan *plan = b.routing.plan;
        cr_assert_eq(n, 32);
        cr_expect(holds(tokens, n, 0) && holds(tokens, n, 399));
        for (int64_t e = 1; e <= 2; e++) {
            cr_expect(holds(tokens, n, plan->token[plan->offsets[e]]));
            cr_expect(holds(tokens, n, plan->token[plan->offsets[e + 1] - 1]));
        }
        for (int64_t i = 1; i < n; i++)
            cr_expect_lt(tokens[i - 1], tokens[i]);
        int64_t experts[8], count = moe_int_sample_experts(b.problem, plan, 8, experts);
        cr_expect_eq(count, 8);
        cr_expect(holds(experts, 8, 0) && holds(experts, 8, 1) && holds(experts, 8, 2) &&
                  holds(experts, 8, 11));
        cr_expect(strstr(b.result->sampled, "32 of 400 tokens"), "%s", b.result->sampled);
        cr_expect(strstr(b.result->sampled, "hidden units in 8 experts"), "%s", b.result->sampled);
        if (seed == 21)
            memcpy(first, tokens, sizeof first);
        else
            cr_expect_neq(memcmp(first, tokens, sizeof first), 0);
        close_both(&b);
    }
    snprintf(text, sizeof text, line, 21);
    both b = open_both(text, MOE_F32);
    cr_expect_eq(memcmp(first, b.sampled.tokens, sizeof first), 0);
    close_both(&b);
}

/* Fewer tokens than a sample has, one expert, forward only: still right. */
Test(check_sample, small_layers) {
    both b = open_both("T=3 d=8 n=2 E=1 K=1 seed=31", MOE_F32);
    cr_expect_eq(b.sampled.n_tokens, 3);
    expect_same(&b, MOE_T_O, "small");
    expect_same(&b, MOE_T_DW2, "small");
    close_both(&b);
    b = open_both("T=50 d=8 n=8 E=3 K=1 pass=fwd seed=32", MOE_F32);
    expect_same(&b, MOE_T_O, "forward");
    cr_expect_eq(b.sampled.part[MOE_T_DW2].layout.groups, 0);
    cr_expect_str_eq(b.result->sampled, "32 of 50 tokens");
    close_both(&b);
}

/* Inputs that are no numbers make outputs that are none: a sampled check does not ask for more. */
Test(check_sample, inputs_that_are_no_numbers) {
    moe_problem *problem = drawn("T=70 d=24 n=16 E=5 K=2 inject=nan@17 seed=1");
    moe_backends *all = NULL;
    moe_backend *backend = NULL;
    moe_check_result *result = NULL;
    moe_check_params params = {.sample_above_flops = 1, .threads = 1, .no_explanation = true};
    cr_assert_eq(moe_backends_load("", NULL, &all), MOE_OK);
    cr_assert_eq(moe_backend_open(all, "reference", NULL, NULL, &backend), MOE_OK);
    cr_assert_eq(moe_check_backend(backend, problem, &params, NULL, &result), MOE_OK);
    cr_expect_str_neq(result->sampled, "");
    cr_expect_eq(result->verdict, MOE_VERDICT_PASS, "%s", result->why);
    moe_check_result_destroy(&result);
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
    moe_problem_destroy(&problem);
}

/* Units of an expert, told from where its columns of dW2 begin: the first, the last and up to two
 * more, none of them twice; all where there are no more than two. */
Test(check_sample, units) {
    for (int n = 1; n <= 16; n = n < 3 ? n + 1 : n * 2) {
        char line[80];
        snprintf(line, sizeof line, "T=40 d=8 n=%d E=5 K=2 shared=%d seed=%d", n, n, n);
        both b = open_both(line, MOE_F32);
        for (int shared = 0; shared < 2; shared++) {
            const moe_int_part *part = &b.sampled.part[shared ? MOE_T_DW2_SHARED : MOE_T_DW2];
            int seen[5][16] = {{0}}, all = 0;
            for (int64_t g = 0; g < part->layout.groups; g++) {
                const int64_t e = part->base[g] / (8 * n), j = part->base[g] % (8 * n);
                cr_assert(e < 5 && j < n, "%s: unit %d of expert %d", line, (int)j, (int)e);
                cr_expect_eq(seen[e][j]++, 0, "%s: unit %d of expert %d again", line, (int)j,
                             (int)e);
                all++;
            }
            for (int e = 0; e < (shared ? 1 : 5); e++)
                cr_expect(seen[e][0] && seen[e][n - 1], "%s: an end of expert %d", line, e);
            cr_expect(all <= (shared ? 1 : 5) * (n < 4 ? n : 4), "%s: %d units", line, all);
        }
        close_both(&b);
    }
}

/* A further reading's truth: with the first one's oracle, or, where an error model marked kinks in
 * that, with its own. Either way the same, element by element. */
Test(check_sample, oracle_of_another_reading) {
    for (int act = 0; act < MOE_ACT_COUNT; act++) {
        char line[160];
        snprintf(line, sizeof line, "T=96 d=32 n=16 E=4 K=2 act=%s limit=1 seed=6",
                 moe_int_acts[act].name);
        both b = open_both(line, MOE_BF16);
        const moe_int_rounding r = moe_int_rounding_of(MOE_F32);
        const moe_check_params params = {.sample_above_flops = -1, .threads = 1};
        moe_int_truth fresh, further;
        cr_assert_eq(
            moe_int_truth_make(b.problem, &b.routing, &r, &params, NULL, NULL, b.result, &fresh),
            MOE_OK);
        cr_assert_eq(moe_int_truth_make(b.problem, &b.routing, &r, &params, &b.full, NULL, b.result,
                                        &further),
                     MOE_OK);
        const moe_tensor *want = fresh.oracle->out.t, *got = further.oracle->out.t;
        for (int id = 0; id < MOE_T_COUNT; id++)
            cr_expect(!want[id].data || memcmp(want[id].data, got[id].data,
                                               (size_t)moe_tensor_bytes(&want[id])) == 0,
                      "%s: %s", line, moe_tensor_name((moe_tensor_id)id));
        if (act == MOE_ACT_SWIGLU)
            cr_expect(further.borrowed);
        moe_int_truth_destroy(&fresh);
        moe_int_truth_destroy(&further);
        close_both(&b);
    }
}

/* The same of a sample, of another rounding, whose errors are its own, and of the same one. */
Test(check_sample, sample_of_another_reading) {
    static const char *const lines[] = {"T=96 d=32 n=16 E=4 K=2 shared=8 seed=7",
                                        "T=96 d=32 n=16 E=4 K=2 act=relu seed=7"};
    for (int i = 0; i < 4; i++) {
        both b = open_both(lines[i % 2], MOE_BF16);
        const bool same_rounding = i < 2, kinks = i % 2 == 1;
        const moe_int_rounding r = moe_int_rounding_of(same_rounding ? MOE_BF16 : MOE_F32);
        const moe_check_params params = {.sample_above_flops = 1, .threads = 1};
        moe_int_truth known, fresh, further;
        const moe_int_rounding first = moe_int_rounding_of(MOE_BF16);
        cr_assert_eq(moe_int_truth_make(b.problem, &b.routing, &first, &params, NULL, NULL,
                                        b.result, &known),
                     MOE_OK);
        cr_assert_eq(
            moe_int_truth_make(b.problem, &b.routing, &r, &params, NULL, NULL, b.result, &fresh),
            MOE_OK);
        cr_assert_eq(moe_int_truth_make(b.problem, &b.routing, &r, &params, &known, NULL, b.result,
                                        &further),
                     MOE_OK);
        for (int id = 0; id < MOE_T_COUNT; id++) {
            const moe_tensor *want[] = {&fresh.part[id].want, &fresh.part[id].variance};
            const moe_tensor *got[] = {&further.part[id].want, &further.part[id].variance};
            for (int k = 0; k < 2; k++)
                cr_expect(!want[k]->data || memcmp(want[k]->data, got[k]->data,
                                                   (size_t)moe_tensor_bytes(want[k])) == 0,
                          "%s: %s", lines[i % 2], moe_tensor_name((moe_tensor_id)id));
        }
        cr_expect_eq(further.borrowed, !kinks);
        cr_expect_eq(further.borrowed_errors, !kinks && same_rounding);
        moe_int_truth_destroy(&fresh);
        moe_int_truth_destroy(&further);
        moe_int_truth_destroy(&known);
        close_both(&b);
    }
}
