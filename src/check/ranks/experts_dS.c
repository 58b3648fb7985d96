/* Whose weights each expert has, by dS = <dO, Y>: a token's row of O is a sum over its experts, but
 * each of its pairs has a dS of its own. */
#include "check/explain/local.h"
#include "check/ranks/experts.h"

/* dS of the pairs of the plan; NULL: not to be had, or not of these tokens. */
static const moe_tensor *given_dS(const moe_int_rank_scene *s) {
    const moe_tensor *got = &s->is->got->t[MOE_T_DS], *right = &s->is->right->t[MOE_T_DS];
    const bool fits = got->data && right->data && s->dO && s->T == s->problem->T;
    return fits && moe_tensor_same_shape(got, right) ? got : NULL;
}

/* What is left of the dS of expert e's pairs where its rows are made by f. */
static double left_by(const moe_int_election *k, const moe_tensor *dS, int64_t e, int64_t f) {
    const moe_int_rank_scene *s = k->s;
    double left = 0;
    for (int64_t p = s->plan->offsets[e]; p < s->plan->offsets[e + 1]; p++) {
        const int64_t t = s->plan->token[p];
        const double made = moe_int_inner(s->dO + t * s->d, moe_int_election_row(k, f, t), s->d);
        const double off = moe_load(dS->data, dS->dtype, (size_t)p) - made;
        left += off * off;
    }
    return left;
}

bool moe_int_election_by_dS(const moe_int_election *k) {
    const moe_int_rank_scene *s = k->s;
    const moe_tensor *dS = given_dS(s);
    for (int64_t e = 0; dS && e < s->E; e++) {
        double least = left_by(k, dS, e, e);
        k->map[e] = e;
        for (int64_t f = 0; f < s->E; f++) {
            const double left = f == e ? least : left_by(k, dS, e, f);
            if (left < least) {
                least = left;
                k->map[e] = f;
            }
        }
    }
    return dS != NULL;
}
