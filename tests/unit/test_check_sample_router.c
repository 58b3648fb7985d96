/* The router's gradients in a sample: dW_r from the subject's own dS, and how much it may err. */
#include "both_oracles.h"

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

/* One token's scores, |x|^2 |w_r|^2 and the logit of every expert before its bias, for softmax over
 * all and for sigmoid. */
typedef struct token_scores {
    double s[4], xx, ww[4], dot[4];
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
        k.dot[e] = z - element(&in[MOE_T_B_R], e);
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

/* Relative variance of s_k: of its own logit, and of those of all chosen as they weigh, or of its
 * own once more, and of the argument of exp2. Three terms of fp32 or bf16 lose next to nothing to
 * tensor cores, but some. */
static double weight_by_hand(const both *b, const token_scores *q, int64_t t, int k,
                             moe_int_rounding r) {
    const moe_plan *plan = b->routing.plan;
    const bool softmax = b->problem->layer.router.score == MOE_SCORE_SOFTMAX;
    double v[4], z[4], sum = 0, weights = 0, top = softmax ? -INFINITY : 0;
    for (int e = 0; e < 4; e++) {
        const double square = q->xx * q->ww[e], alike = fmin(fabs(q->dot[e]) / sqrt(square), 1);
        v[e] = (r.sum + 3 * r.cut) * square + r.cut * pow(6 * q->dot[e] * (1 + 4 * alike), 2);
        z[e] = q->dot[e] + element(&b->problem->in.t[MOE_T_B_R], e);
        if (row_of(plan, t, e) < 0)
            continue;
        top = softmax ? fmax(top, z[e]) : top;
        sum += plan->weight[row_of(plan, t, e)] * v[e];
        weights += plan->weight[row_of(plan, t, e)];
    }
    return v[k] + fmax(v[k], sum / weights) + r.router + 2 * r.sum * pow(z[k] - top, 2);
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
        double weight = weight_by_hand(b, &q, t, k, r);
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
            v += moe_int_adding(&r, (double)T) * dz * dz;
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

/* dz^T x as a chain of tensor core steps makes it: 16 products and the sum exactly, then cut off to
 * fp32 towards 0. */
static double cut_sum(const double *dz, const double *x, int64_t T, int64_t R, int64_t d) {
    float sum = 0;
    for (int64_t first = 0; first < T; first += 16) {
        double exact = sum;
        for (int64_t t = first; t < first + 16 && t < T; t++)
            exact += dz[t * R] * x[t * d];
        sum = (float)exact;
        if (fabs((double)sum) > fabs(exact))
            sum = nextafterf(sum, 0);
    }
    return sum;
}

/* Largest z over the sampled dW_r of a kernel that adds so, `cut` of its errors being foreseen. */
static double z_of_cut_sums(both *b, const double *dz, const double *x, moe_int_rounding r) {
    const int64_t T = b->problem->T, d = b->problem->layer.d, R = b->routing.plan->n_experts;
    const moe_int_part *dw = &b->sampled.part[MOE_T_DW_R];
    double worst = 0;
    cr_assert_eq(moe_int_sample_router(b->problem, &b->routing, &b->full.oracle->out.t[MOE_T_DS],
                                       &r, &b->sampled),
                 MOE_OK);
    for (int64_t i = 0; i < moe_tensor_count(&dw->want); i++) {
        const double want = element(&dw->want, i), v = element(&dw->variance, i);
        const double got = cut_sum(dz + dw->expert[i / d], x + i % d, T, R, d);
        worst = fmax(worst, fabs(got - want) / sqrt(moe_int_result_variance(&r, want, v)));
    }
    moe_int_part_destroy(&b->sampled.part[MOE_T_DW_R]);
    return worst;
}

/* Of 65536 tokens, what tensor cores cut off is most of the error where the sum is small: it must
 * be foreseen, and no more than it is. */
Test(check_sample, router_gradient_cut_off) {
    both b = open_both("T=65536 d=128 n=2 E=8 K=2 seed=14", MOE_BF16);
    const int64_t T = b.problem->T, d = b.problem->layer.d, R = b.routing.plan->n_experts;
    const double *z = b.full.oracle->out.t[MOE_T_LOGITS].data;
    double *dz = calloc((size_t)(T * R), sizeof *dz);
    double *x = moe_int_doubles(&b.problem->in.t[MOE_T_X], 0, T * d);
    moe_int_rounding r = moe_int_rounding_of(MOE_BF16);
    cr_assert(dz && x);
    cr_assert_eq(moe_route_backward(&b.problem->layer, z, b.routing.plan,
                                    b.full.oracle->out.t[MOE_T_DS].data, dz),
                 MOE_OK);
    double foreseen = z_of_cut_sums(&b, dz, x, r);
    r.cut = 0;
    double unforeseen = z_of_cut_sums(&b, dz, x, r);
    cr_expect(foreseen > 1 && foreseen < 4.6, "z %g", foreseen);
    cr_expect(unforeseen > moe_gate_for(MOE_T_DW_R, MOE_BF16).max_z, "z %g", unforeseen);
    free(dz);
    free(x);
    close_both(&b);
}
