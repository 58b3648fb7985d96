/* The activation, right as it is, of other columns of H than a unit's own: another layout of gate
 * and up, a block of them, a column beside. */
#include "check/explain/bank.h"
#include "check/explain/local.h"

#include <math.h>
#include <stdlib.h>

enum { UNITS = 4, ROWS = 12 };

typedef struct units {
    const moe_int_sight *p;
    const moe_tensor *h;
    moe_int_change right;
    int64_t n, hw, rows, row[ROWS];
    double *column; /* [hw][rows] of H */
} units;

static bool units_make(const moe_int_local *l, units *k) {
    const moe_int_sight *p = l->p;
    const moe_layer_desc *desc = &p->e->problem->layer;
    *k = (units){.p = p, .h = moe_int_local_operand(p->e, MOE_T_H), .right = {.desc = *desc}};
    k->n = desc->n;
    k->hw = moe_h_width(desc, desc->n);
    if (p->id != MOE_T_A || p->odd > 0 || !k->h || p->layout.by != MOE_INT_BY_PAIR)
        return false;
    k->rows = moe_int_local_rows(p, ROWS, k->row);
    k->column = malloc((size_t)(k->hw * ROWS) * sizeof *k->column);
    for (int64_t i = 0; k->column && i < k->rows; i++) {
        const int64_t pair = moe_int_layout_group(&p->layout, k->row[i]);
        for (int64_t c = 0; c < k->hw; c++)
            k->column[c * ROWS + i] = moe_load(k->h->data, k->h->dtype, (size_t)(pair * k->hw + c));
    }
    return k->column && k->rows >= 6;
}

/* What is left of unit j, with gate and up from columns g and u; more than `limit`: it is not so.
 */
static double left_with(const units *k, int64_t j, int64_t g, int64_t u, double limit) {
    double left = 0;
    for (int64_t i = 0; i < k->rows && left <= limit; i++) {
        const double h[2] = {k->column[g * ROWS + i], k->column[u * ROWS + i]};
        double a, slope[2];
        moe_int_changed_act(&k->right, h, &a, slope);
        left += pow(a - moe_int_sight_got(k->p, k->row[i], j), 2);
    }
    return left;
}

/* The columns that unit j is made of. False: of none, or of its own. */
static bool find(const units *k, int64_t j, int64_t ret[2], double *left, double *d2) {
    const bool gated = k->hw > k->n;
    double most = 0;
    for (int64_t i = 0; i < k->rows; i++)
        most +=
            pow(moe_int_sight_got(k->p, k->row[i], j) - moe_int_sight_want(k->p, k->row[i], j), 2);
    const double limit = moe_int_local_limit(k->p->e, k->p->id, most);
    for (int64_t g = 0; g < k->hw; g++)
        for (int64_t u = 0; u < (gated ? k->hw : 1); u++) {
            const double rest = left_with(k, j, g, gated ? u : g, limit);
            if (rest > limit)
                continue;
            ret[0] = g;
            ret[1] = u;
            *left += rest;
            *d2 += most;
            return true;
        }
    return false;
}

bool moe_int_local_units_elsewhere(const moe_int_local *l, moe_int_finding *f) {
    units k;
    int64_t wrong = 0, seen = 0, found = 0, first = -1, of[2] = {0}, at[2];
    double left = 0, d2 = 0;
    const bool made = units_make(l, &k);
    for (int64_t j = 0; made && j < k.n; j++)
        wrong += moe_int_sight_wrong_column(l->p, j);
    for (int64_t j = 0, number = 0; made && j < k.n && seen < UNITS; j++) {
        if (!moe_int_sight_wrong_column(l->p, j) || number++ * UNITS / wrong < seen)
            continue;
        seen++;
        if (!find(&k, j, at, &left, &d2))
            break;
        if (found++ > 0)
            continue;
        first = j;
        of[0] = at[0];
        of[1] = at[1];
    }
    const bool all = found > 0 && found == seen;
    if (all) {
        moe_int_local_residuals(l->p, left, d2, f);
        moe_int_finding_say(f, ": unit %lld takes its gate from column %lld", (long long)first,
                            (long long)of[0]);
        if (k.hw > k.n)
            moe_int_finding_say(f, " and its up from column %lld", (long long)of[1]);
        moe_int_finding_say(f, " of H's %lld (a layout of gate and up); %lld of %lld units",
                            (long long)k.hw, (long long)wrong, (long long)k.n);
        moe_int_finding_param(f, "unit", (double)first);
        moe_int_finding_param(f, "gate_column", (double)of[0]);
        moe_int_finding_param(f, "up_column", (double)of[1]);
    }
    free(k.column);
    return all;
}
