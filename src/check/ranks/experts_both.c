/* Two experts at once: those of one token may each have weights that make good the other's. */
#include "check/explain/local.h"
#include "check/ranks/experts.h"

#include <string.h>

/* In so many steps of all such trials. */
static const double most_steps = 1e9;

/* The pair of expert e at token t; -1: none. */
static int64_t pair_at(const moe_int_rank_scene *s, int64_t e, int64_t t) {
    for (int64_t p = s->plan->offsets[e]; p < s->plan->offsets[e + 1]; p++)
        if (s->plan->token[p] == t)
            return p;
    return -1;
}

/* Adds to both[f][g] what rows of f, at pair p, and of g, at pair q of the same token, leave. */
static void add_both(moe_int_election *k, int64_t p, int64_t q) {
    const int64_t t = k->s->plan->token[p], d = k->s->d, E = k->s->E;
    const double w = k->s->plan->weight[p], v = k->s->plan->weight[q];
    const double *want = k->rest + t * d;
    for (int64_t f = 0; f < E; f++) {
        const double *a = moe_int_election_row(k, f, t);
        const double own = w * (w * moe_int_inner(a, a, d) - 2 * moe_int_inner(a, want, d));
        const double other = v * (v * moe_int_inner(a, a, d) - 2 * moe_int_inner(a, want, d));
        for (int64_t g = 0; g < E; g++) {
            k->both[f * E + g] +=
                own + 2 * w * v * moe_int_inner(a, moe_int_election_row(k, g, t), d);
            k->both[g * E + f] += other;
        }
    }
    k->steps += (double)(E * E) * (double)d;
}

/* Adds to both[f][g] what expert e's rows leave at tokens that `other` does not have, made by f
 * (`down`) or by g. */
static void add_alone(moe_int_election *k, int64_t e, int64_t other, bool down) {
    const int64_t E = k->s->E;
    memset(k->cost, 0, (size_t)E * sizeof *k->cost);
    for (int64_t p = k->s->plan->offsets[e]; p < k->s->plan->offsets[e + 1]; p++)
        if (pair_at(k->s, other, k->s->plan->token[p]) < 0)
            moe_int_election_costs(k, p, k->cost);
    for (int64_t i = 0; i < E * E; i++)
        k->both[i] += k->cost[down ? i / E : i % E];
}

static bool choose_both(moe_int_election *k, int64_t e, int64_t other) {
    const int64_t *offsets = k->s->plan->offsets, E = k->s->E;
    int64_t best = k->map[e] * E + k->map[other];
    const int64_t before = best;
    memset(k->both, 0, (size_t)(E * E) * sizeof *k->both);
    moe_int_election_add(k, e, 1);
    moe_int_election_add(k, other, 1);
    for (int64_t p = offsets[e]; p < offsets[e + 1]; p++) {
        const int64_t q = pair_at(k->s, other, k->s->plan->token[p]);
        if (q >= 0)
            add_both(k, p, q);
    }
    add_alone(k, e, other, true);
    add_alone(k, other, e, false);
    for (int64_t i = 0; i < E * E; i++)
        if (k->both[i] < k->both[best])
            best = i;
    k->map[e] = best / E;
    k->map[other] = best % E;
    moe_int_election_add(k, e, -1);
    moe_int_election_add(k, other, -1);
    return best != before;
}

/* The experts of tokens whose rows are still wrong, two by two. */
bool moe_int_election_of_token(moe_int_election *k, int64_t t) {
    const moe_int_rank_scene *s = k->s;
    const int64_t *first = s->plan->token_offsets, *pair = s->plan->pair_of_token, d = s->d;
    const double *right = s->right + t * d, *rest = k->rest + t * d;
    const double most = 10 * moe_int_rank_alike(s) * moe_int_inner(right, right, d);
    bool changes = false;
    for (int64_t i = first[t]; i < first[t + 1]; i++)
        for (int64_t j = i + 1; j < first[t + 1]; j++)
            if (k->both && k->steps < most_steps && moe_int_inner(rest, rest, d) > most &&
                pair[i] < s->P && pair[j] < s->P)
                changes = choose_both(k, s->expert[pair[i]], s->expert[pair[j]]) || changes;
    return changes;
}
