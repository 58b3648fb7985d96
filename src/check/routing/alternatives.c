/* Other choices that a token's router may have made, the nearest first.
 *
 * Within the margin, for routers that choose token by token: the router itself is asked, once for
 * every expert outside with that expert moved up and all others down, and once with the higher
 * index preferred. The experts that come or go on one of these occasions are tied with each other;
 * which of them a kernel takes is its own affair (parallel selections of ties are in no order), so
 * all ways are tried. Beyond the margin: one expert of those in force swapped for another. */
#include "check/routing/alternatives.h"
#include "check/routing/routing.h"
#include "layer/traits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    NEIGHBOURS = 3,  /* last ones inside and first ones outside that near swaps exchange */
    MOST_TIED = 16,  /* tied experts of which all selections are tried */
    MOST_WAYS = 300, /* of them */
};

bool moe_int_chooses_by_token(const moe_layer_desc *desc) {
    return moe_int_select_rules[desc->router.select].pairs == MOE_INT_PAIRS_PER_TOKEN;
}

void moe_int_sets_destroy(moe_int_sets *sets) {
    free(sets->n);
    free(sets->expert);
    memset(sets, 0, sizeof *sets);
}

/* Adds the marked experts, unless they are more than a set may have. */
static moe_status add_marked(const unsigned char *marked, int64_t n, moe_int_sets *sets) {
    if (sets->count == sets->room) {
        int64_t room = 2 * sets->room + 8;
        int64_t *counts = realloc(sets->n, (size_t)room * sizeof *counts);
        if (counts)
            sets->n = counts;
        int32_t *expert =
            counts ? realloc(sets->expert, (size_t)(room * sets->most) * sizeof *expert) : NULL;
        if (!expert)
            return MOE_E_NOMEM;
        sets->expert = expert;
        sets->room = room;
    }
    int32_t *to = sets->expert + sets->count * sets->most;
    int64_t count = 0;
    for (int64_t e = 0; e < n; e++) {
        if (!marked[e])
            continue;
        if (count == sets->most)
            return MOE_OK;
        to[count++] = (int32_t)e;
    }
    sets->n[sets->count++] = count;
    return MOE_OK;
}

/* What the work on one token needs; arrays are [n]. */
typedef struct maker {
    const moe_int_token_view *view;
    moe_int_sets *sets;
    unsigned char *chosen, *marked, *tied;
    double *z;
} maker;

static moe_status add_exchange(maker *m, int64_t out, int64_t in) {
    memcpy(m->marked, m->chosen, (size_t)m->view->n);
    if (out >= 0)
        m->marked[out] = 0;
    if (in >= 0)
        m->marked[in] = 1;
    return add_marked(m->marked, m->view->n, m->sets);
}

/* Ties -------------------------------------------------------------------------------------- */

/* Experts that come or go when the router sees m->z are tied. */
static moe_status note_tied(maker *m) {
    const moe_int_token_view *v = m->view;
    moe_plan *plan = NULL;
    moe_status status =
        moe_route(&v->problem->layer, 1, m->z, v->b_select, v->problem->seed, NULL, &plan);
    for (int64_t e = 0; !status && e < v->n; e++) {
        bool in = plan->offsets[e + 1] > plan->offsets[e];
        m->tied[e] |= in != (m->chosen[e] != 0);
    }
    moe_plan_destroy(&plan);
    return status;
}

static moe_status find_tied(maker *m) {
    const moe_int_token_view *v = m->view;
    moe_status status = MOE_OK;
    for (int64_t i = 0; !status && i < v->n; i++) {
        if (m->chosen[i])
            continue;
        for (int64_t e = 0; e < v->n; e++) {
            double least = moe_int_tie_break(v->z[e]);
            m->z[e] = e == i ? v->z[e] + v->up[e] + least : v->z[e] - v->down[e] - least;
        }
        status = note_tied(m);
    }
    for (int64_t e = 0; e < v->n; e++) { /* from all of `down` to all of `up` */
        double share = (double)e / (double)v->n, least = moe_int_tie_break(v->z[e]);
        m->z[e] = v->z[e] + share * (v->up[e] + least) - (1 - share) * (v->down[e] + least);
    }
    return status ? status : note_tied(m);
}

/* Adds every set that has `left` more of the tied experts list[0..count-1]. */
static moe_status add_ways(maker *m, const int32_t *list, int64_t count, int64_t left) {
    if (left > count || m->sets->count > MOST_WAYS)
        return MOE_OK;
    if (left == 0)
        return add_marked(m->marked, m->view->n, m->sets);
    m->marked[list[count - 1]] = 1; /* higher indices first: the usual other rule */
    moe_status status = add_ways(m, list, count - 1, left - 1);
    m->marked[list[count - 1]] = 0;
    return status ? status : add_ways(m, list, count - 1, left);
}

static moe_status add_ties(maker *m) {
    int32_t list[MOST_TIED];
    int64_t count = 0, inside = 0;
    moe_status status = find_tied(m);
    memcpy(m->marked, m->chosen, (size_t)m->view->n);
    for (int64_t e = 0; e < m->view->n; e++) {
        if (!m->tied[e] || count == MOST_TIED)
            continue;
        list[count++] = (int32_t)e;
        inside += m->chosen[e];
        m->marked[e] = 0;
    }
    return status || count == 0 ? status : add_ways(m, list, count, inside);
}

/* Swaps ------------------------------------------------------------------------------------- */

/* The next expert to swap after those in `used`: the lowest score of those in force, or the highest
 * of the others; -1. */
static int64_t next_by_score(const maker *m, bool inside, const unsigned char *used) {
    const double *score = m->view->score;
    int64_t best = -1;
    for (int64_t e = 0; e < m->view->n; e++) {
        if (used[e] || (m->chosen[e] != 0) != inside)
            continue;
        if (best < 0 || (inside ? score[e] <= score[best] : score[e] > score[best]))
            best = e;
    }
    return best;
}

static int64_t list_next(maker *m, bool inside, int64_t most, int64_t *ret) {
    int64_t count = 0;
    memset(m->marked, 0, (size_t)m->view->n);
    while (count < most) {
        int64_t e = next_by_score(m, inside, m->marked);
        if (e < 0)
            break;
        m->marked[e] = 1;
        ret[count++] = e;
    }
    return count;
}

static moe_status add_near_swaps(maker *m, bool drops) {
    int64_t out[NEIGHBOURS], in[NEIGHBOURS];
    int64_t n_out = list_next(m, true, NEIGHBOURS, out);
    int64_t n_in = list_next(m, false, NEIGHBOURS, in);
    moe_status status = MOE_OK;
    for (int64_t i = 0; !status && i < n_out; i++)
        for (int64_t j = 0; !status && j < n_in; j++)
            status = add_exchange(m, out[i], in[j]);
    for (int64_t e = 0; !status && drops && e < m->view->n; e++)
        status = m->chosen[e] ? add_exchange(m, e, -1) : add_exchange(m, -1, e);
    return status;
}

static moe_status add_all_swaps(maker *m) {
    moe_status status = MOE_OK;
    for (int64_t out = 0; out < m->view->n; out++)
        for (int64_t in = 0; !status && m->chosen[out] && in < m->view->n; in++)
            if (!m->chosen[in])
                status = add_exchange(m, out, in);
    return status;
}

static moe_status fill(maker *m, moe_int_reach reach, bool drops) {
    moe_status status = add_marked(m->chosen, m->view->n, m->sets);
    if (status)
        return status;
    if (reach == MOE_INT_ANY)
        return add_all_swaps(m);
    if (moe_int_chooses_by_token(&m->view->problem->layer))
        status = add_ties(m);
    return status ? status : add_near_swaps(m, drops);
}

moe_status moe_int_sets_make(const moe_int_token_view *view, const int32_t *chosen, int64_t k,
                             moe_int_reach reach, bool drops, moe_int_sets *ret) {
    size_t n = (size_t)view->n;
    unsigned char *marks = calloc(3 * n, 1);
    maker m = {.view = view, .sets = ret, .z = malloc(n * sizeof *m.z)};
    moe_status status = marks && m.z ? MOE_OK : MOE_E_NOMEM;
    memset(ret, 0, sizeof *ret);
    ret->most = k + 1;
    if (!status) {
        m.chosen = marks;
        m.marked = marks + n;
        m.tied = marks + 2 * n;
        for (int64_t i = 0; i < k; i++)
            m.chosen[chosen[i]] = 1;
        status = fill(&m, reach, drops);
    }
    free(marks);
    free(m.z);
    return status;
}
