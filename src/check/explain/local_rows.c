/* What a row takes from another row: a token's weights a power of their own, a pair's derivative
 * of the activation from the H of a pair beside it. */
#include "check/explain/bank.h"
#include "check/explain/local.h"

#include <math.h>
#include <stdlib.h>

/* Sums over all two pairs of a token: their weights' logarithms, right (x) and the subject's (y).
 */
typedef struct line {
    double xx, xy, yy;
    int64_t count;
} line;

static void add_token(const moe_int_sight *p, const moe_plan *plan, int64_t t, line *k) {
    const int64_t from = plan->token_offsets[t];
    const int64_t first = from < plan->token_offsets[t + 1] ? plan->pair_of_token[from] : -1;
    for (int64_t i = from + 1; i < plan->token_offsets[t + 1]; i++) {
        const int64_t q = plan->pair_of_token[i];
        const double x = log(moe_int_sight_want(p, q, 0) / moe_int_sight_want(p, first, 0));
        const double y = log(moe_int_sight_got(p, q, 0) / moe_int_sight_got(p, first, 0));
        if (!isfinite(x) || !isfinite(y))
            continue;
        k->xx += x * x;
        k->xy += x * y;
        k->yy += y * y;
        k->count++;
    }
}

/* Softmaxes of logits times a number: weights of a token stand to each other as their powers do. */
bool moe_int_local_weight_power(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    const moe_plan *plan = p->e->routing->plan;
    line k = {0};
    if (p->id != MOE_T_S || !moe_int_sight_is_whole(p) || p->rows != plan->n_pairs || p->odd > 0)
        return false;
    for (int64_t t = 0; t < plan->n_tokens; t++)
        add_token(p, plan, t, &k);
    const double power = k.xx > 0 ? k.xy / k.xx : 1, left = fmax(k.yy - power * k.xy, 0);
    const double d2 = k.yy - 2 * k.xy + k.xx; /* as they are, of power 1 */
    if (k.count < 8 || fabs(power - 1) < 0.01 || left > d2 / 1e3)
        return false;
    moe_int_local_residuals(p, left, d2, f);
    moe_int_finding_say(f,
                        ": %.4g; logits are multiplied by that before their score, a softmax's "
                        "temperature of %.4g",
                        power, 1 / power);
    moe_int_finding_param(f, "power", power);
    return true;
}

/* What is left of row p of the scene, pair `own`, with the derivative at the H of pair q. */
static double left_at(const moe_int_local *l, const moe_tensor *h, int64_t p, int64_t own,
                      int64_t q) {
    const moe_layer_desc *desc = &l->p->e->problem->layer;
    const moe_int_stage_rows *rows = &l->right->routed;
    const moe_int_change right = {.desc = *desc};
    const bool weighted = desc->router.weight_on == MOE_WEIGHT_ON_OUTPUT;
    const double w = weighted ? rows->weight[p] : 1;
    double left = 0;
    for (int64_t j = 0; j < rows->n; j++) {
        double unit[2] = {0, 0}, slope[2] = {0, 0}, a;
        const int parts = rows->hw == rows->n ? 1 : 2;
        for (int up = 0; up < parts; up++)
            unit[up] = moe_load(
                h->data, h->dtype,
                (size_t)(q * rows->hw + moe_h_column(desc->glu_layout, rows->n, rows->hw, j, up)));
        moe_int_changed_act(&right, unit, &a, slope);
        for (int up = 0; up < parts; up++) {
            const int64_t c = moe_h_column(desc->glu_layout, rows->n, rows->hw, j, up);
            const double got =
                moe_load(l->p->got->data, l->p->got->dtype, (size_t)(own * rows->hw + c));
            left += pow(got - w * rows->dA[p * rows->n + j] * slope[up], 2);
        }
    }
    return left;
}

bool moe_int_local_slope_of_others(const moe_int_local *l, moe_int_finding *f) {
    enum { FAR = 16 };
    const moe_int_scene *s = l->scene;
    const moe_tensor *h = moe_int_local_operand(l->p->e, MOE_T_H);
    const int64_t pairs = l->p->id == MOE_T_DH ? s->sub->offsets[l->p->e->problem->layer.E] : 0;
    if (!h || l->p->odd > 0 || !l->right->routed.dA || !l->right->value[MOE_T_DH])
        return false;
    const int64_t all = moe_tensor_count(h) / l->right->routed.hw;
    for (int64_t step = 0; pairs > 0 && step < (int64_t)2 * FAR; step++) {
        const int64_t by = step % 2 ? -(step / 2 + 1) : step / 2 + 1;
        double left = 0, d2 = 0;
        int64_t first = -1, wrong = 0, so = 0;
        for (int64_t p = 0; p < pairs; p++) {
            const int64_t own = s->spot[MOE_T_DH].base[p] / s->spot[MOE_T_DH].width;
            const double is = left_at(l, h, p, own, own);
            const double limit = moe_int_local_limit(l->p->e, MOE_T_DH, is);
            if (!l->p->row[own < l->p->rows ? own : 0].wrong || own + by < 0 || own + by >= all)
                continue;
            const double rest = left_at(l, h, p, own, own + by);
            wrong++;
            so += rest <= limit;
            left += fmin(rest, is);
            d2 += is;
            first = first < 0 ? own : first;
        }
        if (so == 0 || 8 * so < 7 * wrong)
            continue;
        moe_int_local_residuals(l->p, left, d2, f);
        moe_int_finding_say(f, ": that of the row %lld %s it; such as row %lld", llabs(by),
                            by > 0 ? "after" : "before", (long long)first);
        moe_int_finding_param(f, "by", (double)by);
        return true;
    }
    return false;
}
