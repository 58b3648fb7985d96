/* dS is <dA', A>; is the subject's that of dA' and a part of what A is made of? */
#include "check/explain/bank.h"
#include "check/explain/local.h"
#include "check/explain/pair_rules.h"
#include "core/elements.h"

#include <math.h>
#include <stdlib.h>

enum { ENOUGH = 2 }; /* wrong rows: one may have another's value by chance */

/* Row p of the scene. */
typedef struct place {
    const moe_int_local *l;
    const moe_int_stage_rows *rows;
    int64_t p;
} place;

static void unit_of(const place *k, int64_t j, double ret[2]) {
    const moe_layer_desc *desc = &k->l->p->e->problem->layer;
    const moe_int_stage_rows *f = k->rows;
    for (int up = 0; up < 2; up++)
        ret[up] = f->hw == f->n
                      ? f->H[k->p * f->hw + j]
                      : f->H[k->p * f->hw + moe_h_column(desc->glu_layout, f->n, f->hw, j, up)];
}

/* sum_j dA'_j v_j, of what `which` has at a unit. */
typedef enum vector_of { OF_GATE, OF_UP, OF_UP_SLOPE, OF_EXCHANGED } vector_of;

static double of_units(const place *k, vector_of which) {
    const moe_int_change right = {.desc = k->l->p->e->problem->layer};
    double sum = 0;
    for (int64_t j = 0; j < k->rows->n; j++) {
        double h[2], a, slope[2] = {0, 0};
        unit_of(k, j, h);
        const double exchanged[2] = {h[1], h[0]};
        moe_int_changed_act(&right, which == OF_EXCHANGED ? exchanged : h, &a, slope);
        const double v = which == OF_GATE        ? h[0]
                         : which == OF_UP        ? h[1]
                         : which == OF_EXCHANGED ? a
                                                 : slope[1];
        sum += k->rows->dA[k->p * k->rows->n + j] * v;
    }
    return sum;
}

static double of_gate(const place *k) {
    return of_units(k, OF_GATE);
}
static double of_up(const place *k) {
    return of_units(k, OF_UP);
}
static double of_activated(const place *k) {
    return of_units(k, OF_UP_SLOPE);
}
static double of_exchanged(const place *k) {
    return of_units(k, OF_EXCHANGED);
}
static double sum_of(const double *v, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += v[i];
    return sum;
}
static double of_dO(const place *k) {
    return sum_of(k->rows->dy + k->p * k->rows->d, k->rows->d);
}
static double of_dA(const place *k) {
    return sum_of(k->rows->dA + k->p * k->rows->n, k->rows->n);
}
static double of_X(const place *k) {
    const int64_t d = k->rows->d;
    return moe_int_inner(k->rows->dy + k->p * d, k->rows->x + k->p * d, d);
}
typedef struct inner {
    const char *words;
    double (*of)(const place *k);
} inner;

static const inner inners[] = {
    {"<dA', the gate's activation>, without the up", of_activated},
    {"<dA', up>, without the gate's activation", of_up},
    {"<dA', gate>, without activation and up", of_gate},
    {"<dA', A with gate and up exchanged>", of_exchanged},
    {"the sum of dO, a product without Y", of_dO},
    {"the sum of dA', a product without A", of_dA},
    {"<dO, x>, a product with X for Y", of_X},
};

/* Error of one row with `in`, plain or times the combine weight; `ret_d2` as it is. */
static double error_with(const place *k, const inner *in, bool weighted, double got, double want,
                         double *ret_d2) {
    const double v = in->of(k) * (weighted ? k->rows->weight[k->p] : 1);
    *ret_d2 = (got - want) * (got - want);
    return (got - v) * (got - v);
}

/* What is left at the scene's rows; INFINITY: it is not so, d2 is set all the same. */
static double left_with(const moe_int_local *l, const inner *in, bool weighted, double *d2) {
    const moe_int_scene *s = l->scene;
    double left = 0;
    *d2 = 0;
    place k = {.l = l, .rows = &l->right->routed};
    for (int64_t p = 0; p < s->sub->offsets[l->p->e->problem->layer.E]; p++) {
        double one;
        k.p = p;
        const double got =
            moe_load(l->p->got->data, l->p->got->dtype, (size_t)s->spot[MOE_T_DS].base[p]);
        left += error_with(&k, in, weighted, got, l->right->value[MOE_T_DS][p], &one);
        *d2 += one;
    }
    return isfinite(left) ? left : INFINITY;
}

/* <dO, Y> with the Y of the pair that a rule leads to: what is left of the wrong rows. INFINITY:
 * there are too few of them, as where all are a little off. */
static double left_of_rule(const moe_int_sight *p, const moe_tensor *Y,
                           const moe_int_pair_rule *rule, double *room) {
    const moe_plan *plan = p->e->routing->plan;
    const int64_t d = p->e->problem->layer.d, pairs = plan->offsets[p->e->problem->layer.E];
    const double limit = moe_int_local_limit(p->e, p->id, p->d2);
    double left = 0;
    if (p->wrong_rows < ENOUGH)
        return INFINITY;
    for (int64_t r = 0; r < p->rows && left <= limit; r++) {
        const int64_t q = p->row[r].wrong ? rule->of(plan, r) : r;
        if (!p->row[r].wrong)
            continue;
        if (q < 0 || q >= pairs || q == r) /* its own is right */
            return INFINITY;
        moe_int_load(&p->e->problem->in.t[MOE_T_DO], plan->token[r] * d, d, room);
        moe_int_load(Y, q * d, d, room + d);
        left += pow(moe_int_sight_got(p, r, 0) - moe_int_inner(room, room + d, d), 2);
    }
    return left;
}

static bool say_rule(const moe_int_sight *p, moe_int_finding *f) {
    const moe_tensor *Y = moe_int_local_operand(p->e, MOE_T_Y);
    const int64_t d = p->e->problem->layer.d;
    double *room = Y ? malloc((size_t)(2 * d) * sizeof *room) : NULL;
    bool found = false;
    for (int n = 0; room && !found && n < MOE_INT_PAIR_RULES; n++) {
        const double left = left_of_rule(p, Y, &moe_int_pair_rules[n], room);
        found = left <= moe_int_local_limit(p->e, p->id, p->d2);
        if (!found)
            continue;
        moe_int_sight_residuals(p, left, f);
        moe_int_finding_say(f, ": it is <dO, Y of another pair>, a row not its own: %s",
                            moe_int_pair_rules[n].words);
    }
    free(room);
    return found;
}

bool moe_int_local_inner_product(const moe_int_local *l, moe_int_finding *f) {
    const int count = sizeof inners / sizeof *inners;
    if (l->p->id != MOE_T_DS || l->p->odd > 0 || !l->right->value[MOE_T_DS] ||
        !moe_int_sight_is_whole(l->p))
        return false;
    for (int n = 0; n < 2 * count; n++) {
        double d2;
        const double left = left_with(l, &inners[n % count], n >= count, &d2);
        if (!(left <= moe_int_local_limit(l->p->e, MOE_T_DS, d2)) || d2 == 0)
            continue;
        moe_int_local_residuals(l->p, left, d2, f);
        moe_int_finding_say(f, ": it is %s%s", inners[n % count].words,
                            n >= count ? ", times the combine weight" : "");
        return true;
    }
    return say_rule(l->p, f);
}
