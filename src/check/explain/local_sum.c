/* Is a token's sum one of other rows than its own pairs'? O of Y, dX of dX~. */
#include "check/explain/bank.h"
#include "check/explain/local.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEEN = 6, MOST_SLOTS = 16, MORE = 2 /* rows that a token has too many */ };

typedef struct row_sum {
    const moe_int_sight *p;
    const moe_tensor *part; /* [pairs][d] */
    int64_t d, pairs;
    double *rest, *room; /* [d] */
    double *taken;       /* [MOST_SLOTS][d] */
    int64_t row[MOST_SLOTS];
    double factor[MOST_SLOTS];
} row_sum;

/* What pair q counts with in its own token's sum. */
static double weight_of(const row_sum *k, int64_t q) {
    const moe_int_evidence *e = k->p->e;
    const bool on_input = e->problem->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    return (k->p->id == MOE_T_O) == on_input ? 1 : e->routing->plan->weight[q];
}

/* The row that has most of what is left. */
static int64_t most_alike(const row_sum *k) {
    double best = 0;
    int64_t is = -1;
    for (int64_t q = 0; q < k->pairs; q++) {
        moe_int_load(k->part, q * k->d, k->d, k->room);
        const double xx = moe_int_inner(k->room, k->room, k->d);
        const double xv = moe_int_inner(k->room, k->rest, k->d);
        if (xx > 0 && xv * xv / xx > best) {
            best = xv * xv / xx;
            is = q;
        }
    }
    return is;
}

/* Finds the rows whose sum token t has, one by one, until no more than `enough` is left. Returns
 * what is. */
static double find_rows(row_sum *k, int64_t r, int64_t t, double enough, int64_t *count) {
    const moe_plan *plan = k->p->e->routing->plan;
    const int64_t from = plan->token_offsets[t], slots = plan->token_offsets[t + 1] - from;
    double *sum = malloc((size_t)k->d * sizeof *sum), left = INFINITY;
    for (int64_t c = 0; sum && c < k->d; c++)
        sum[c] = moe_int_sight_got(k->p, r, c) - moe_int_sight_want(k->p, r, c);
    for (int64_t i = 0; sum && i < slots; i++) {
        const int64_t q = plan->pair_of_token[from + i];
        moe_int_load(k->part, q * k->d, k->d, k->room);
        for (int64_t c = 0; c < k->d; c++)
            sum[c] += weight_of(k, q) * k->room[c];
    }
    if (sum)
        memcpy(k->rest, sum, (size_t)k->d * sizeof *sum);
    for (*count = 0; sum && *count < slots + MORE && *count < MOST_SLOTS;) {
        const int64_t q = most_alike(k);
        if (q < 0 || left <= enough)
            break;
        moe_int_load(k->part, q * k->d, k->d, k->taken + *count * k->d);
        k->row[(*count)++] = q;
        left = moe_int_fit(k->taken, *count, k->d, sum, k->factor);
        memcpy(k->rest, sum, (size_t)k->d * sizeof *sum);
        for (int64_t i = 0; left >= 0 && i < *count; i++)
            for (int64_t c = 0; c < k->d; c++)
                k->rest[c] -= k->factor[i] * k->taken[i * k->d + c];
    }
    free(sum);
    return left < 0 ? INFINITY : left;
}

/* The found row that is none of the token's own, -1; one that came to count for no more than what
 * is `enough` is not there. */
static int64_t foreign(const row_sum *k, int64_t t, int64_t count, double enough) {
    for (int64_t i = 0; i < count; i++) {
        const double *taken = k->taken + i * k->d, part = k->factor[i] * k->factor[i];
        if (k->p->e->routing->plan->token[k->row[i]] != t &&
            part * moe_int_inner(taken, taken, k->d) > enough)
            return k->row[i];
    }
    return -1;
}

static void say(const row_sum *k, int64_t t, int64_t q, moe_int_finding *f) {
    const moe_plan *plan = k->p->e->routing->plan;
    const int64_t e = moe_int_plan_expert_of(plan, q);
    moe_int_finding_say(f,
                        " of %s: token %lld adds expert %lld's row %lld, token %lld's; %lld of "
                        "%lld tokens are wrong",
                        k->p->id == MOE_T_O ? "Y" : "dX~", (long long)t, (long long)e,
                        (long long)(q - plan->offsets[e]), (long long)plan->token[q],
                        (long long)k->p->wrong_rows, (long long)k->p->rows);
    moe_int_finding_param(f, "token", (double)t);
    moe_int_finding_param(f, "row", (double)q);
}

bool moe_int_local_rows_in_sum(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    const moe_int_evidence *e = p->e;
    row_sum k = {.p = p, .d = p->width, .pairs = e->routing->plan->offsets[e->problem->layer.E]};
    int64_t row[SEEN], first = -1, has = -1, seen = 0;
    double left = 0, d2 = 0;
    if ((p->id != MOE_T_O && p->id != MOE_T_DX) || p->odd > 0 || e->problem->layer.n_zero)
        return false;
    k.part = moe_int_local_operand(e, p->id == MOE_T_O ? MOE_T_Y : MOE_T_DXP);
    k.rest = k.part ? malloc((size_t)(k.d * (2 + MOST_SLOTS)) * sizeof *k.rest) : NULL;
    if (!k.rest)
        return false;
    k.room = k.rest + k.d;
    k.taken = k.room + k.d;
    const int64_t count = moe_int_local_rows(p, SEEN, row);
    for (; seen < count; seen++) {
        const int64_t t = moe_int_sight_token(p, row[seen]);
        int64_t found = 0;
        const double enough = moe_int_local_limit(e, p->id, p->row[row[seen]].d2);
        const double rest = find_rows(&k, row[seen], t, enough, &found);
        const int64_t other = foreign(&k, t, found, enough);
        if (rest > enough) /* all of its own, but not all: it lacks one, which another has */
            break;
        first = has < 0 && other >= 0 ? t : first;
        has = has < 0 ? other : has;
        left += rest;
        d2 += p->row[row[seen]].d2;
    }
    free(k.rest);
    if (has < 0 || seen < count)
        return false;
    moe_int_local_residuals(p, left, d2, f);
    say(&k, first, has, f);
    return true;
}
