/* Where experts lie, and which of their places a pair goes to. */
#include "moeref/ep.h"

#include <stdlib.h>
#include <string.h>

static int32_t groups_of(const moe_ep_slots *s) {
    return s->ranks / s->tp;
}

static int32_t owner_of(const moe_ep_slots *s, int64_t expert) {
    int32_t g = 0;
    while (moe_ep_first_expert(s->experts, groups_of(s), g + 1) <= expert)
        g++;
    return g;
}

/* Which replica of the expert a group has; as many as there are: none. */
static int32_t replica_on(const moe_ep_slots *s, int64_t expert, int32_t group) {
    const int32_t G = groups_of(s), after = (group - owner_of(s, expert) + G) % G;
    return after < s->replicas[expert] ? after : s->replicas[expert];
}

/* Fills `expert` with those of each rank, or counts them alone. */
static void list(moe_ep_slots *s) {
    s->count = 0;
    for (int32_t r = 0; r < s->ranks; r++) {
        s->first[r] = s->count;
        for (int64_t e = 0; e < s->experts; e++)
            if (replica_on(s, e, r / s->tp) < s->replicas[e]) {
                if (s->expert)
                    s->expert[s->count] = (int32_t)e;
                s->count++;
            }
    }
    s->first[s->ranks] = s->count;
}

moe_status moe_ep_slots_make(int64_t experts, int32_t ranks, int32_t tp, const int64_t *replicas,
                             int64_t n_replicas, const moe_log *log, moe_ep_slots *ret) {
    moe_ep_slots s = {.ranks = ranks, .tp = tp > 0 ? tp : 1, .experts = experts};
    if (ranks % s.tp)
        return moe_fail(log, MOE_E_INVALID, "%d ranks are no whole groups of tp=%d", (int)ranks,
                        (int)s.tp);
    s.replicas = malloc((size_t)(experts + 1) * sizeof *s.replicas);
    s.first = malloc(((size_t)ranks + 1) * sizeof *s.first);
    moe_status status = s.replicas && s.first ? MOE_OK : MOE_E_NOMEM;
    for (int64_t e = 0; !status && e < experts; e++) {
        const int64_t count = replicas && e < n_replicas ? replicas[e] : 1;
        s.replicas[e] = (int32_t)count;
        if (count < 1 || count > groups_of(&s))
            status = moe_fail(log, MOE_E_INVALID,
                              "expert %lld has %lld replicas: 1 to %d fit on groups of ranks that "
                              "have none twice",
                              (long long)e, (long long)count, (int)groups_of(&s));
    }
    if (!status)
        list(&s);
    s.expert = status ? NULL : malloc((size_t)(s.count + 1) * sizeof *s.expert);
    if (!status && !s.expert)
        status = MOE_E_NOMEM;
    if (status) {
        moe_ep_slots_destroy(&s);
        return status;
    }
    list(&s);
    *ret = s;
    return MOE_OK;
}

void moe_ep_slots_destroy(moe_ep_slots *slots) {
    free(slots->first);
    free(slots->expert);
    free(slots->replicas);
    *slots = (moe_ep_slots){0};
}

/* ---- plans ---- */

/* The replica that a pair goes to. */
static int32_t choose(const moe_ep_slots *s, int64_t expert, int64_t token, int32_t home) {
    const int32_t own = replica_on(s, expert, home / s->tp);
    return own < s->replicas[expert] ? own : (int32_t)(token % s->replicas[expert]);
}

typedef struct pairs {
    int64_t count;
    int32_t *token, *slot;
    double *weight;
} pairs;

static moe_status make_room(const moe_ep_slots *s, const moe_plan *plan, pairs *p) {
    const size_t room = (size_t)(plan->offsets[s->experts] * s->tp) + 1;
    p->token = malloc(room * sizeof *p->token);
    p->slot = malloc(room * sizeof *p->slot);
    p->weight = malloc(room * sizeof *p->weight);
    return p->token && p->slot && p->weight ? MOE_OK : MOE_E_NOMEM;
}

/* Homes of all tokens [T]; NULL: no memory. */
static int32_t *homes_of(const moe_plan *plan, int32_t home, const int64_t *tokens) {
    int32_t *ret = malloc((size_t)(plan->n_tokens + 1) * sizeof *ret), r = 0;
    int64_t end = home < 0 ? tokens[0] : 0;
    for (int64_t t = 0; ret && t < plan->n_tokens; t++) {
        while (home < 0 && t >= end)
            end += tokens[++r];
        ret[t] = home < 0 ? r : home;
    }
    return ret;
}

/* Slot by slot, and in one by token: as moe_plan_create sorts them. */
static void go_to(const moe_ep_slots *s, const moe_plan *plan, const int32_t *homes, int64_t first,
                  int32_t rank, int64_t slot, pairs *ret) {
    const int64_t e = s->expert[slot];
    const int32_t here = replica_on(s, e, rank / s->tp);
    for (int64_t p = plan->offsets[e]; p < plan->offsets[e + 1]; p++) {
        const int32_t t = plan->token[p];
        if (choose(s, e, first + t, homes[t]) != here)
            continue;
        ret->token[ret->count] = t;
        ret->slot[ret->count] = (int32_t)slot;
        ret->weight[ret->count++] = plan->weight[p];
    }
}

moe_status moe_ep_slots_plan(const moe_ep_slots *s, const moe_plan *plan, int32_t home,
                             int64_t token, const int64_t *tokens, moe_plan **ret) {
    pairs p = {0};
    int32_t *homes = homes_of(plan, home, tokens);
    moe_status status = homes ? make_room(s, plan, &p) : MOE_E_NOMEM;
    for (int32_t r = 0; !status && r < s->ranks; r++)
        for (int64_t slot = s->first[r]; slot < s->first[r + 1]; slot++)
            go_to(s, plan, homes, token, r, slot, &p);
    if (!status)
        status = moe_plan_create(plan->n_tokens, s->count, p.count, p.token, p.slot, p.weight, NULL,
                                 ret);
    free(homes);
    free(p.token);
    free(p.slot);
    free(p.weight);
    return status;
}
