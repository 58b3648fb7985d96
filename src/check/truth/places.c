/* Places that somebody has a reason to look at, and the truth there. */
#include "check/truth/truth.h"

#include <stdlib.h>
#include <string.h>

void moe_int_places_add_token(moe_int_places *p, int64_t token) {
    int64_t at = p->n_tokens;
    for (int64_t i = 0; i < p->n_tokens; i++)
        if (p->token[i] == token)
            return;
    if (p->n_tokens == MOE_INT_MOST_PLACES)
        return;
    for (; at > 0 && p->token[at - 1] > token; at--)
        p->token[at] = p->token[at - 1];
    p->token[at] = token;
    p->n_tokens++;
}

static bool is_before(const moe_int_unit_place *a, const moe_int_unit_place *b) {
    return a->e != b->e ? a->e < b->e : a->unit < b->unit;
}

void moe_int_places_add_unit(moe_int_places *p, int64_t e, int64_t unit) {
    const moe_int_unit_place one = {e, unit};
    int64_t at = p->n_units;
    for (int64_t i = 0; i < p->n_units; i++)
        if (p->unit[i].e == e && p->unit[i].unit == unit)
            return;
    if (p->n_units == MOE_INT_MOST_PLACES)
        return;
    for (; at > 0 && is_before(&one, &p->unit[at - 1]); at--)
        p->unit[at] = p->unit[at - 1];
    p->unit[at] = one;
    p->n_units++;
}

/* Rows of the tokens; t->in are the problem's own tensors before. */
static moe_status at_tokens(const moe_problem *problem, const moe_int_routing *routing,
                            const moe_int_rounding *rounding, const moe_int_places *places,
                            int threads, const moe_int_truth *known, const moe_log *log,
                            moe_int_truth *t) {
    const size_t bytes = (size_t)places->n_tokens * sizeof *t->tokens;
    t->tokens = malloc(bytes + 1);
    if (!t->tokens || places->n_tokens == 0) {
        t->in.t[MOE_T_X] = t->in.t[MOE_T_DO] =
            (moe_tensor){0}; /* else they would be freed with t */
        return t->tokens ? MOE_OK : MOE_E_NOMEM;
    }
    memcpy(t->tokens, places->token, bytes);
    t->n_tokens = places->n_tokens;
    return moe_int_sample_tokens(problem, routing, rounding, threads, known, NULL, log, t);
}

moe_status moe_int_truth_at(const moe_problem *problem, const moe_int_routing *routing,
                            const moe_int_rounding *rounding, const moe_int_places *places,
                            int threads, const moe_int_truth *known, const moe_log *log,
                            moe_int_truth *ret) {
    *ret = (moe_int_truth){.in = problem->in, .sampled = true};
    if (!(problem->pass & MOE_PASS_BWD))
        ret->in.t[MOE_T_DO] = (moe_tensor){0};
    moe_status status = at_tokens(problem, routing, rounding, places, threads, known, log, ret);
    return status || places->n_units == 0
               ? status
               : moe_int_sample_given_units(problem, routing, rounding, places->unit,
                                            places->n_units, threads, ret);
}
