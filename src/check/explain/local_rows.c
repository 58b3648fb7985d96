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

/* Where the H is whose derivative is taken: another pair's, or of a gate so many units on (or, `by`
 * 0, of the neighbour in its pair of units) or of few bits, for both derivatives or the gate's
 * alone. */
typedef struct slope_at {
    int64_t pair;
    bool of_unit, both;
    int64_t by;
    int bits; /* that are left of the gate; 0: all */
} slope_at;

static int64_t unit_at(const slope_at *at, int64_t j, int64_t n) {
    const int64_t pair = (j ^ 1) < n ? j ^ 1 : j;
    return !at->of_unit || at->bits ? j : at->by ? moe_int_around(j + at->by, n) : pair;
}

/* Gate and up of unit `gate` and unit `up`. */
static void load_unit(const moe_int_local *l, const moe_tensor *h, int64_t pair, int64_t gate,
                      int64_t up, double ret[2]) {
    const moe_layer_desc *desc = &l->p->e->problem->layer;
    const moe_int_stage_rows *rows = &l->right->routed;
    const int64_t first = pair * rows->hw;
    ret[0] = moe_load(h->data, h->dtype,
                      (size_t)(first + moe_h_column(desc->glu_layout, rows->n, rows->hw, gate, 0)));
    ret[1] = 0;
    if (rows->hw > rows->n)
        ret[1] =
            moe_load(h->data, h->dtype,
                     (size_t)(first + moe_h_column(desc->glu_layout, rows->n, rows->hw, up, 1)));
}

/* What is left of row p of the scene, pair `own`, with the derivative at another place. */
static double left_at(const moe_int_local *l, const moe_tensor *h, int64_t p, int64_t own,
                      const slope_at *at) {
    const moe_layer_desc *desc = &l->p->e->problem->layer;
    const moe_int_stage_rows *rows = &l->right->routed;
    const moe_int_change right = {.desc = *desc};
    const bool weighted = desc->router.weight_on == MOE_WEIGHT_ON_OUTPUT;
    const double w = weighted ? rows->weight[p] : 1;
    double left = 0;
    for (int64_t j = 0; j < rows->n; j++) {
        double unit[2], slope[2] = {0, 0}, own_slope[2] = {0, 0}, a;
        const int parts = rows->hw == rows->n ? 1 : 2;
        load_unit(l, h, at->pair, unit_at(at, j, rows->n), j, unit);
        if (at->bits) {
            int power;
            const double part = frexp(unit[0], &power);
            unit[0] = ldexp(rint(ldexp(part, at->bits)), power - at->bits);
        }
        moe_int_changed_act(&right, unit, &a, slope);
        if (at->of_unit && !at->both) {
            load_unit(l, h, at->pair, j, j, unit);
            moe_int_changed_act(&right, unit, &a, own_slope);
            slope[1] = own_slope[1];
        }
        for (int up = 0; up < parts; up++) {
            const int64_t c = moe_h_column(desc->glu_layout, rows->n, rows->hw, j, up);
            const double got =
                moe_load(l->p->got->data, l->p->got->dtype, (size_t)(own * rows->hw + c));
            left += pow(got - w * rows->dA[p * rows->n + j] * slope[up], 2);
        }
    }
    return left;
}

/* What is so at one place for all rows of the scene. */
typedef struct slope_tally {
    double left, d2;
    int64_t first, wrong, so;
} slope_tally;

/* Row p of the scene with the derivative at `rule`, whose pair is so many on. */
static void tally_row(const moe_int_local *l, const moe_tensor *h, int64_t p, const slope_at *rule,
                      slope_tally *k) {
    const moe_int_spot *spot = &l->scene->spot[MOE_T_DH];
    const int64_t own = spot->base[p] / spot->width, q = own + rule->pair;
    const slope_at right = {.pair = own};
    slope_at at = *rule;
    if (!l->p->row[own < l->p->rows ? own : 0].wrong || q < 0 ||
        q >= moe_tensor_count(h) / l->right->routed.hw)
        return;
    at.pair = q;
    const double is = left_at(l, h, p, own, &right), rest = left_at(l, h, p, own, &at);
    k->wrong++;
    k->so += rest <= moe_int_local_limit(l->p->e, MOE_T_DH, is);
    k->left += fmin(rest, is);
    k->d2 += is;
    k->first = k->first < 0 ? own : k->first;
}

static void say_slope_at(const slope_at *rule, int64_t first, moe_int_finding *f) {
    if (rule->pair)
        moe_int_finding_say(f, ": that of the row %lld %s it", llabs(rule->pair),
                            rule->pair > 0 ? "after" : "before");
    else if (rule->bits)
        moe_int_finding_say(f, ": the gate is rounded to %d bits, a narrower type's", rule->bits);
    else if (rule->by)
        moe_int_finding_say(f, ": the gate is that of the unit %lld %s", llabs(rule->by),
                            rule->by > 0 ? "after" : "before");
    else
        moe_int_finding_say(f, ": the gate is that of the other unit of a pair");
    moe_int_finding_say(f, "; such as row %lld", (long long)first);
    moe_int_finding_param(f, "by", (double)(rule->pair ? rule->pair : rule->by));
}

bool moe_int_local_slope_of_others(const moe_int_local *l, moe_int_finding *f) {
    enum { ROWS = 32, UNITS = 18, BITS = 14 };
    static const int64_t units[UNITS / 2] = {0, 1, -1, 2, -2, 8, -8, 16, -16};
    const moe_int_scene *s = l->scene;
    const moe_tensor *h = moe_int_local_operand(l->p->e, MOE_T_H);
    const int64_t pairs = l->p->id == MOE_T_DH ? s->sub->offsets[l->p->e->problem->layer.E] : 0;
    if (!h || l->p->odd > 0 || !l->right->routed.dA || !l->right->value[MOE_T_DH])
        return false;
    for (int64_t step = 0; pairs > 0 && step < ROWS + UNITS + BITS; step++) {
        const int64_t unit = step - ROWS, bits = unit - UNITS;
        const slope_at rule = {
            .pair = unit >= 0  ? 0
                    : step % 2 ? -(step / 2 + 1)
                               : step / 2 + 1,
            .of_unit = unit >= 0,
            .both = unit % 2 == 1,
            .by = unit >= 0 && bits < 0 ? units[unit / 2] : 0,
            .bits = bits >= 0 ? (int)(2 + bits / 2) : 0,
        };
        slope_tally k = {.first = -1};
        for (int64_t p = 0; p < pairs; p++)
            tally_row(l, h, p, &rule, &k);
        if (k.so == 0 || 8 * k.so < 7 * k.wrong)
            continue;
        moe_int_local_residuals(l->p, k.left, k.d2, f);
        say_slope_at(&rule, k.first, f);
        return true;
    }
    return false;
}
