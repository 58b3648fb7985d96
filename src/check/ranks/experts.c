/* Experts that are computed with the weights of others, each always with the same one's: found by
 * what every expert makes of every token. */
#include "check/ranks/experts.h"
#include "check/explain/local.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Experts are tried in turn until none changes, at most so often. With most of a token's rows wrong
 * the first choices err; each right one takes its part out of what the others are chosen by. */
enum { MOST_ROUNDS = 12 };

/* Two experts are tried together where there are no more than so many. */
enum { MOST_OF_TWO = 1024 };

/* rest of the token of pair p += scale * weight * what `expert` makes of it. */
static void add_row(const moe_int_election *k, int64_t p, int64_t expert, double scale) {
    const int64_t t = k->s->plan->token[p];
    const double *row = moe_int_election_row(k, expert, t), w = scale * k->s->plan->weight[p];
    double *to = k->rest + t * k->s->d;
    for (int64_t i = 0; i < k->s->d; i++)
        to[i] += w * row[i];
}

void moe_int_election_add(const moe_int_election *k, int64_t e, double scale) {
    for (int64_t p = k->s->plan->offsets[e]; p < k->s->plan->offsets[e + 1]; p++)
        add_row(k, p, k->map[e], scale);
}

void moe_int_election_costs(const moe_int_election *k, int64_t p, double *cost) {
    const int64_t t = k->s->plan->token[p], d = k->s->d;
    const double w = k->s->plan->weight[p];
    for (int64_t f = 0; f < k->s->E; f++) {
        const double *row = moe_int_election_row(k, f, t);
        double sum = 0;
        for (int64_t i = 0; i < d; i++) {
            const double off = k->rest[t * d + i] - w * row[i];
            sum += off * off;
        }
        cost[f] += sum;
    }
}

/* What the best of all experts saves of what e leaves as it is, and the best of the others. */
static int64_t best_of(const moe_int_election *k, int64_t e, double *ret_gain, double *ret_other) {
    int64_t best = k->map[e];
    double other = INFINITY;
    for (int64_t f = 0; f < k->s->E; f++)
        if (k->cost[f] < k->cost[best])
            best = f;
    for (int64_t f = 0; f < k->s->E; f++)
        if (f != best && f != k->map[e])
            other = fmin(other, k->cost[f]);
    *ret_gain = k->cost[k->map[e]] - k->cost[best];
    *ret_other = k->cost[k->map[e]] - other;
    return best;
}

/* Whose weights make the most of what expert e's tokens lack without it? It must make so many times
 * as much as anybody else's. */
static bool choose(const moe_int_election *k, int64_t e, double lead) {
    const int64_t *offsets = k->s->plan->offsets;
    double gain, other;
    if (offsets[e] == offsets[e + 1])
        return false;
    moe_int_election_add(k, e, 1);
    memset(k->cost, 0, (size_t)k->s->E * sizeof *k->cost);
    for (int64_t p = offsets[e]; p < offsets[e + 1]; p++)
        moe_int_election_costs(k, p, k->cost);
    const int64_t best = best_of(k, e, &gain, &other);
    const bool changes = gain > 0 && gain >= lead * other;
    if (changes)
        k->map[e] = best;
    moe_int_election_add(k, e, -1);
    return changes;
}

static bool election_make(const moe_int_rank_scene *s, const double *Y, moe_int_election *k) {
    *k = (moe_int_election){.s = s, .Y = Y};
    k->rest = moe_int_rank_rest(s);
    k->map = malloc((size_t)(s->E + 1) * sizeof *k->map);
    k->cost = malloc((size_t)(s->E + 1) * sizeof *k->cost);
    if (s->E <= MOST_OF_TWO)
        k->both = malloc((size_t)(s->E * s->E + 1) * sizeof *k->both);
    if (!k->rest || !k->map || !k->cost)
        return false;
    for (int64_t i = 0; i < s->T * s->d; i++)
        k->rest[i] = s->got[i] - k->rest[i];
    return true;
}

static void election_free(moe_int_election *k) {
    free(k->rest);
    free(k->map);
    free(k->cost);
    free(k->both);
}

/* ---- to begin with: a rank's experts one further on or back, those of another rank, or by dS ----
 */

static void set_map(const moe_int_election *k, int32_t rank, int32_t from, int64_t shift) {
    const int64_t *first = k->s->layout->first, *offsets = k->s->plan->offsets;
    for (int64_t e = 0; e < k->s->E; e++) {
        const int64_t f = e + first[from] - first[rank] + shift;
        const bool changes = k->s->owner[e] == rank && f >= first[from] && f < first[from + 1] &&
                             offsets[e] < offsets[e + 1];
        k->map[e] = changes ? f : e;
    }
}

/* Squared error with the weights of `map`. */
static double error_of(const moe_int_election *k) {
    for (int64_t e = 0; e < k->s->E; e++)
        moe_int_election_add(k, e, -1);
    const double error = moe_int_inner(k->rest, k->rest, k->s->T * k->s->d);
    for (int64_t e = 0; e < k->s->E; e++)
        moe_int_election_add(k, e, 1);
    return error;
}

static void begin(const moe_int_election *k) {
    int32_t rank = 0, from = 0;
    int64_t shift = 0;
    set_map(k, 0, 0, 0);
    double least = error_of(k);
    for (int32_t r = 0; r < k->s->R; r++)
        for (int32_t q = 0; q < k->s->R; q++)
            for (int64_t by = q == r ? -1 : 0; by <= (q == r ? 1 : 0); by++) {
                set_map(k, r, q, by);
                const double error = error_of(k);
                if (error < least) {
                    least = error;
                    rank = r;
                    from = q;
                    shift = by;
                }
            }
    if (!moe_int_election_by_dS(k) || error_of(k) >= least)
        set_map(k, rank, from, shift);
    for (int64_t e = 0; e < k->s->E; e++)
        moe_int_election_add(k, e, -1);
}

/* Those that are sure choose first. */
static void elect_each(const moe_int_election *k) {
    static const double leads[] = {2, 1.5, 1.2, 1};
    for (size_t i = 0; i < sizeof leads / sizeof *leads; i++) {
        bool changes = true;
        for (int round = 0; changes && round < MOST_ROUNDS; round++) {
            changes = false;
            for (int64_t e = 0; e < k->s->E; e++)
                changes = choose(k, e, leads[i]) || changes;
        }
    }
}

static void elect(moe_int_election *k) {
    bool changes = true;
    begin(k);
    for (int round = 0; changes && round < MOST_ROUNDS; round++) {
        changes = false;
        elect_each(k);
        for (int64_t t = 0; t < k->s->T; t++)
            changes = moe_int_election_of_token(k, t) || changes;
    }
}

/* ---- in words ---- */

static bool is_same_rank(const moe_int_rank_scene *s, int64_t e, int64_t f) {
    return s->owner[e] == s->owner[f];
}

/* What all changed experts of a rank have in common; "" nothing. */
static const char *relation(const moe_int_election *k, int32_t rank) {
    const int64_t *map = k->map;
    bool next = true, former = true, all = true;
    int64_t changed = 0;
    for (int64_t e = 0; e < k->s->E; e++) {
        if (k->s->owner[e] != rank || k->s->plan->offsets[e] == k->s->plan->offsets[e + 1])
            continue;
        all = all && map[e] != e;
        if (map[e] == e)
            continue;
        changed++;
        next = next && map[e] == e + 1;
        former = former && map[e] == e - 1;
    }
    return changed < 2 ? ""
           : next      ? ": each that is wrong has the next one's"
           : former    ? ": each that is wrong has the one's before"
           : all       ? ": none has its own"
                       : "";
}

static void say(const moe_int_election *k, double after, moe_explanation *ret) {
    const moe_int_rank_scene *s = k->s;
    int64_t e = 0, others = 0;
    while (k->map[e] == e)
        e++;
    for (int64_t f = e + 1; f < s->E; f++)
        others += k->map[f] != f;
    const int64_t first = s->layout->first[s->owner[e]], of = k->map[e];
    moe_int_rank_explain(s, "ranks_expert_index", after, ret,
                         "rank %d computes expert %lld, its expert %lld, with the weights of "
                         "expert %lld of %s %d; %lld more%s",
                         (int)s->owner[e], (long long)e, (long long)(e - first), (long long)of,
                         is_same_rank(s, e, of) ? "the same rank" : "rank", (int)s->owner[of],
                         (long long)others, relation(k, s->owner[e]));
}

bool moe_int_rank_other_experts(const moe_int_rank_scene *s, const double *Y,
                                moe_explanation *ret) {
    moe_int_election k;
    bool found = false;
    const bool ready = election_make(s, Y, &k);
    int64_t others = 0;
    if (ready)
        elect(&k);
    for (int64_t e = 0; ready && e < s->E; e++)
        others += k.map[e] != e;
    if (others > 0) {
        const double after = moe_int_inner(k.rest, k.rest, s->T * s->d) /
                             moe_int_inner(s->right, s->right, s->count);
        found = moe_int_rank_explains(s, after);
        if (found)
            say(&k, after, ret);
    }
    election_free(&k);
    return found;
}
