/* Hypotheses about what a choice is made by: scores of few bits, and room that is not used. */
#include "check/explain/bank.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>

/* v with so many bits after the leading one. */
static double of_bits(double v, int bits) {
    int power;
    const double part = frexp(v, &power);
    return isfinite(v) ? ldexp(rint(ldexp(part, bits + 1)), power - bits - 1) : v;
}

/* The choice alone: weights are those of the scores as they should be. */
bool moe_int_change_choose_narrow(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    static const int kept[] = {10, 7, 3, 2, 4, 5, 6, 8};
    const int64_t count = s->evidence->problem->T * c->plan->n_experts;
    if (trial >= (int64_t)(sizeof kept / sizeof *kept) || !c->logits)
        return false;
    c->own_logits = moe_int_copy_logits(s, c);
    for (int64_t i = 0; c->own_logits && i < count; i++)
        c->own_logits[i] = of_bits(c->own_logits[i], kept[trial]);
    const double *right = c->logits;
    const bool done = moe_int_reroute_own(s, c);
    moe_int_finding_say(f, ": logits are rounded to %d bits for it, so others tie",
                        kept[trial] + 1);
    moe_int_finding_param(f, "bits", kept[trial] + 1);
    c->logits = right;
    return done && moe_int_reweigh(c);
}

static bool has(const moe_plan *plan, int64_t t, int64_t e) {
    for (int64_t i = plan->token_offsets[t]; i < plan->token_offsets[t + 1]; i++)
        if (moe_int_plan_expert_of(plan, plan->pair_of_token[i]) == e)
            return true;
    return false;
}

/* A later token that expert e has and should not; -1: there is none. */
static int64_t taken_later(const moe_plan *got, const moe_plan *right, int64_t e, int64_t t) {
    for (int64_t i = got->offsets[e + 1]; i-- > got->offsets[e];)
        if (got->token[i] > t && !has(right, got->token[i], e))
            return got->token[i];
    return -1;
}

/* The pairs that the subject lacks although their expert is not full, or took a later token. */
typedef struct lost {
    int64_t count, token, expert, instead; /* of the first; -1: there was room */
} lost;

static bool find_lost(const moe_plan *got, const moe_plan *right, int64_t capacity, lost *ret) {
    *ret = (lost){0, -1, -1, -1};
    for (int64_t e = 0; e < right->n_experts; e++)
        for (int64_t i = right->offsets[e]; i < right->offsets[e + 1]; i++) {
            const int64_t t = right->token[i];
            if (has(got, t, e))
                continue;
            const int64_t instead = taken_later(got, right, e, t);
            if (instead < 0 && got->offsets[e + 1] - got->offsets[e] >= capacity)
                return false;
            if (ret->count++ == 0)
                *ret = (lost){1, t, e, instead};
        }
    return ret->count > 0;
}

/* The subject's choice is the right one but for room that is not given to the tokens in their
 * order: then that is the choice. */
bool moe_int_change_room_unused(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    const moe_plan *got = s->evidence->routing->plan;
    const moe_problem *p = s->evidence->problem;
    const int64_t capacity = c->desc.router.capacity;
    moe_plan *right = NULL, *mine = NULL;
    lost at;
    if (trial > 0 || !c->logits || c->desc.router.select != MOE_SELECT_CAPACITY ||
        moe_route(&c->desc, p->T, c->logits, NULL, p->seed, NULL, &right))
        return false;
    const bool so = find_lost(got, right, capacity, &at) && !moe_plan_copy(got, &mine);
    moe_plan_destroy(&right);
    if (!so)
        return false;
    moe_int_take_choice(mine, c);
    moe_int_finding_say(f, ": of capacity %lld expert %lld turns token %lld away and has ",
                        (long long)capacity, (long long)at.expert, (long long)at.token);
    if (at.instead >= 0)
        moe_int_finding_say(f, "token %lld instead", (long long)at.instead);
    else
        moe_int_finding_say(f, "%lld rows",
                            (long long)(got->offsets[at.expert + 1] - got->offsets[at.expert]));
    moe_int_finding_say(f, "; %lld pairs are lost so", (long long)at.count);
    moe_int_finding_param(f, "expert", (double)at.expert);
    moe_int_finding_param(f, "token", (double)at.token);
    return true;
}

/* Does every pair too many belong to a token that a full expert turned away? `all`: the choice
 * without capacity. */
static bool find_moved(const moe_plan *got, const moe_plan *right, const moe_plan *all,
                       int64_t capacity, lost *ret) {
    *ret = (lost){0, -1, -1, -1};
    for (int64_t e = 0; e < got->n_experts; e++)
        for (int64_t i = got->offsets[e]; i < got->offsets[e + 1]; i++) {
            const int64_t t = got->token[i];
            int64_t from = -1;
            if (has(right, t, e))
                continue;
            for (int64_t k = 0; k < all->n_experts; k++)
                if (has(all, t, k) && !has(got, t, k) &&
                    got->offsets[k + 1] - got->offsets[k] >= capacity)
                    from = k;
            if (from < 0)
                return false;
            if (ret->count++ == 0)
                *ret = (lost){1, t, from, e};
        }
    return ret->count > 0;
}

bool moe_int_change_room_elsewhere(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                   moe_int_finding *f) {
    const moe_plan *got = s->evidence->routing->plan;
    const moe_problem *p = s->evidence->problem;
    moe_layer_desc free = c->desc;
    moe_plan *right = NULL, *all = NULL, *mine = NULL;
    lost at;
    if (trial > 0 || !c->logits || c->desc.router.select != MOE_SELECT_CAPACITY)
        return false;
    free.router.select = MOE_SELECT_TOPK;
    const bool so = !moe_route(&c->desc, p->T, c->logits, NULL, p->seed, NULL, &right) &&
                    !moe_route(&free, p->T, c->logits, NULL, p->seed, NULL, &all) &&
                    find_moved(got, right, all, c->desc.router.capacity, &at) &&
                    !moe_plan_copy(got, &mine);
    moe_plan_destroy(&right);
    moe_plan_destroy(&all);
    if (!so)
        return false;
    moe_int_take_choice(mine, c);
    moe_int_finding_say(
        f, ": token %lld is full expert %lld's, and gets expert %lld; %lld pairs so",
        (long long)at.token, (long long)at.expert, (long long)at.instead, (long long)at.count);
    moe_int_finding_param(f, "token", (double)at.token);
    moe_int_finding_param(f, "expert", (double)at.expert);
    moe_int_finding_param(f, "has", (double)at.instead);
    return true;
}

/* Whose bias expert e of R has by a wrong index. */
static int64_t index_of(int64_t trial, int64_t e, int64_t R) {
    const int64_t power = trial < 9 ? 1 : (int64_t)2 << ((trial - 9) / 2);
    switch (trial) {
    case 0:
        return (e + 1) % R;
    case 1:
        return (e + R - 1) % R;
    case 2:
        return R - 1 - e;
    case 3:
        return 0;
    case 4:
        return (e ^ 1) < R ? e ^ 1 : e;
    case 5:
        return 2 * e % R;
    case 6:
        return (e + R / 2) % R;
    case 7:
    case 8:
        return e / (trial == 7 ? 2 : 4);
    default: /* rounded down to a multiple, and the rest: of 2, 4, 8, 16 */
        return trial % 2 ? e / power * power : e % power;
    }
}

bool moe_int_change_select_bias_neighbour(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                          moe_int_finding *f) {
    enum { TRIALS = 17 };
    const int64_t R = c->plan->n_experts;
    double *b = moe_int_selection_bias(s), *moved = malloc((size_t)R * sizeof *moved);
    bool done = trial < TRIALS && b && moved && R > 1;
    int64_t shown = 0;
    for (int64_t e = 0; done && e < R; e++) {
        moved[e] = b[index_of(trial, e, R)];
        shown = index_of(trial, e, R) != e ? e : shown;
    }
    done = done && moe_int_reroute(s, moved, c);
    if (done && trial < 2)
        moe_int_finding_say(f, trial ? ": the expert before's" : ": the next expert's");
    else if (done)
        moe_int_finding_say(f, ": expert %lld has expert %lld's", (long long)shown,
                            (long long)index_of(trial, shown, R));
    free(b);
    free(moved);
    return done;
}

/* The tokens of each expert, in their order, up to a number of its own: as many as the subject has
 * where that is not what the capacity allows. Returns how many experts that are; negative: without
 * memory. */
static int64_t trim(const moe_plan *all, const moe_plan *got, int64_t capacity, moe_plan **ret,
                    int64_t *first) {
    moe_int_pairs pairs = {0};
    moe_status status = MOE_OK;
    int64_t other = 0;
    for (int64_t e = 0; e < all->n_experts; e++) {
        const int64_t asked = all->offsets[e + 1] - all->offsets[e];
        const int64_t has = got->offsets[e + 1] - got->offsets[e];
        const int64_t most = asked < capacity ? asked : capacity;
        *first = has != most && other == 0 ? e : *first;
        other += has != most;
        for (int64_t i = 0; !status && i < has && i < asked; i++)
            status = moe_int_pairs_add(&pairs, all->token[all->offsets[e] + i], e);
    }
    if (!status)
        status = moe_plan_create(all->n_tokens, all->n_experts, pairs.count, pairs.token,
                                 pairs.expert, NULL, NULL, ret);
    moe_int_pairs_destroy(&pairs);
    return status ? -1 : other;
}

bool moe_int_change_capacity_of_some(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                     moe_int_finding *f) {
    const moe_problem *p = s->evidence->problem;
    const int64_t capacity = c->desc.router.capacity;
    moe_layer_desc free_of = c->desc;
    moe_plan *all = NULL, *mine = NULL;
    int64_t first = -1;
    free_of.router.select = MOE_SELECT_TOPK;
    if (trial > 0 || !c->logits || c->desc.router.select != MOE_SELECT_CAPACITY ||
        moe_route(&free_of, p->T, c->logits, NULL, p->seed, NULL, &all))
        return false;
    const moe_plan *got = s->evidence->routing->plan;
    const int64_t other = trim(all, got, capacity, &mine, &first);
    moe_plan_destroy(&all);
    if (other <= 0) {
        moe_plan_destroy(&mine);
        return false;
    }
    moe_int_take_choice(mine, c);
    moe_int_finding_say(f, ": %lld of them, the first expert %lld, which has %lld of capacity %lld",
                        (long long)other, (long long)first,
                        (long long)(got->offsets[first + 1] - got->offsets[first]),
                        (long long)capacity);
    moe_int_finding_param(f, "expert", (double)first);
    return moe_int_reweigh(c);
}
