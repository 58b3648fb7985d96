/* Hypotheses about a capacity: how many tokens an expert has room for, of whose it counts, and what
 * becomes of those that it turns away. */
#include "check/explain/bank.h"
#include "route/route.h"

#include <stdlib.h>
#include <string.h>

/* The choice of the same router that sees the tokens from the last to the first. */
static bool reroute_backwards(const moe_int_scene *s, const double *b, moe_int_change *c) {
    const moe_problem *p = s->evidence->problem;
    int64_t T = p->T, R = c->plan->n_experts;
    double *z = c->logits ? malloc((size_t)(T * R) * sizeof *z + 1) : NULL;
    int64_t *order = malloc((size_t)T * sizeof *order + 1);
    moe_plan *reversed = NULL, *plan = NULL;
    bool done = z && order;
    for (int64_t t = 0; done && t < T; t++) {
        order[t] = T - 1 - t;
        memcpy(z + t * R, c->logits + order[t] * R, (size_t)R * sizeof *z);
    }
    done = done && !moe_route(&c->desc, T, z, b, p->seed, NULL, &reversed) &&
           !moe_plan_subset(reversed, order, T, &plan);
    if (done)
        moe_int_take_choice(plan, c);
    moe_plan_destroy(&reversed);
    free(order);
    free(z);
    return done;
}

/* Of all groups together, or of each rank's tokens; 0: neither is another capacity. */
static int64_t other_group(const moe_int_scene *s, const moe_router_desc *r) {
    const moe_problem *p = s->evidence->problem;
    const int64_t ranks = moe_split_ranks(&p->split);
    if (r->capacity_group)
        return p->T;
    return ranks > 1 && p->T % ranks == 0 ? p->T / ranks : 0;
}

/* Pairs of tokens [first, first + count) in `plan`, which is of them alone, behind those that are
 * listed. */
static int64_t list_pairs(const moe_plan *plan, int64_t first, int64_t listed, int32_t *token,
                          int32_t *expert) {
    for (int64_t e = 0; e < plan->n_experts; e++)
        for (int64_t p = plan->offsets[e]; p < plan->offsets[e + 1]; p++) {
            token[listed] = (int32_t)(first + plan->token[p]);
            expert[listed++] = (int32_t)e;
        }
    return listed;
}

/* The choice of a router of each rank of the case, which sees that rank's tokens alone. */
static bool reroute_by_ranks(const moe_int_scene *s, const double *b, moe_int_change *c) {
    const moe_problem *problem = s->evidence->problem;
    const moe_split *split = &problem->split;
    const int64_t R = c->plan->n_experts, room = problem->T * R;
    int32_t *token = malloc((size_t)(room + 1) * sizeof *token);
    int32_t *expert = malloc((size_t)(room + 1) * sizeof *expert);
    moe_plan *plan = NULL;
    int64_t first = 0, pairs = 0;
    bool done = token && expert && c->logits;
    for (int64_t r = 0; done && r < split->n_tokens; first += split->tokens[r++]) {
        moe_plan *own = NULL;
        if (split->tokens[r] == 0)
            continue;
        done = first + split->tokens[r] <= problem->T &&
               !moe_route(&c->desc, split->tokens[r], c->logits + first * R, b, problem->seed, NULL,
                          &own);
        pairs = done ? list_pairs(own, first, pairs, token, expert) : 0;
        moe_plan_destroy(&own);
    }
    done = done && first == problem->T &&
           !moe_plan_create(problem->T, R, pairs, token, expert, NULL, NULL, &plan);
    free(token);
    free(expert);
    if (!done)
        return false;
    moe_int_take_choice(plan, c);
    return moe_int_reweigh(c);
}

/* Says of the choice of no capacity that a capacity inside each rank is none here either. */
static void say_ranks_alike(const moe_int_scene *s, const double *b, const moe_plan *never,
                            int64_t capacity, const moe_int_change *c, moe_int_finding *f) {
    moe_int_change apart = {.desc = c->desc, .logits = c->logits};
    apart.desc.router.select = MOE_SELECT_CAPACITY;
    apart.desc.router.capacity = capacity;
    apart.desc.router.capacity_group = 0;
    if (!s->evidence->problem->split.tokens || moe_plan_copy(never, &apart.plan))
        return;
    if (reroute_by_ranks(s, b, &apart) && moe_int_same_pairs(apart.plan, never))
        moe_int_finding_say(f, ", as with a capacity inside each rank, which no rank reaches");
    moe_plan_destroy(&apart.plan);
}

/* Of `trial`s of another number, or of other tokens that it counts for. */
enum { NEVER, EARLY, LATE, LAST_ONES, OF_GROUPS, OF_RANKS, OF_RANKS_PART, TRIALS };

static bool reroute(const moe_int_scene *s, int64_t trial, const double *b, moe_int_change *c) {
    if (trial == LAST_ONES)
        return reroute_backwards(s, b, c);
    return trial >= OF_RANKS ? reroute_by_ranks(s, b, c) : moe_int_reroute(s, b, c);
}

/* Never, a token early, a token late; they keep the last tokens; or of other groups. */
bool moe_int_change_capacity_other(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                   moe_int_finding *f) {
    moe_router_desc *r = &c->desc.router;
    const moe_split *split = &s->evidence->problem->split;
    const int64_t group = other_group(s, r), capacity = r->capacity;
    if (trial >= TRIALS || r->select != MOE_SELECT_CAPACITY)
        return false;
    const bool none = (trial == OF_GROUPS && !group) || (trial >= OF_RANKS && !split->tokens);
    if (none) /* the right choice over again */
        return true;
    if (trial == NEVER)
        r->select = MOE_SELECT_TOPK;
    if (trial == EARLY || trial == LATE)
        r->capacity += trial == EARLY ? -1 : 1;
    if (trial == OF_GROUPS)
        r->capacity_group = group;
    if (trial >= OF_RANKS)
        r->capacity_group = 0;
    if (trial == OF_RANKS_PART)
        r->capacity /= split->n_tokens;
    if (trial == LAST_ONES)
        moe_int_finding_say(f, ": the same, but they keep the last ones, not the first");
    else
        moe_int_finding_say(f, trial == NEVER ? ": never" : ": %lld", (long long)r->capacity);
    if (trial == OF_GROUPS)
        moe_int_finding_say(f, " of each %lld tokens", (long long)group);
    if (trial >= OF_RANKS)
        moe_int_finding_say(f, " of each rank's tokens, a capacity inside each rank");
    double *b = moe_int_selection_bias(s);
    const bool done = r->capacity < 1 || reroute(s, trial, b, c);
    if (done && trial == NEVER)
        say_ranks_alike(s, b, c->plan, capacity, c, f);
    free(b);
    return done;
}

/* The weight of the pair of token t with expert e; 0: there is none. */
static double weight_of(const moe_plan *plan, int64_t t, int64_t e) {
    for (int64_t i = plan->token_offsets[t]; i < plan->token_offsets[t + 1]; i++)
        if (moe_int_plan_expert_of(plan, plan->pair_of_token[i]) == e)
            return plan->weight[plan->pair_of_token[i]];
    return 0;
}

/* They are computed, with weight 0, and what their weights' gradient would be reaches the logits.
 */
bool moe_int_change_dropped_gradient(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                     moe_int_finding *f) {
    (void)f;
    if (trial > 0 || !s->dO || !c->logits || c->desc.router.select != MOE_SELECT_CAPACITY)
        return false;
    moe_plan *kept = c->plan;
    double *b = moe_int_selection_bias(s);
    c->plan = NULL;
    c->desc.router.select = MOE_SELECT_TOPK;
    const bool done = moe_int_reroute(s, b, c);
    c->desc.router.select = MOE_SELECT_CAPACITY;
    c->rerouted = false; /* the choice is as it should be */
    for (int64_t e = 0; done && e < c->plan->n_experts; e++)
        for (int64_t p = c->plan->offsets[e]; p < c->plan->offsets[e + 1]; p++)
            c->plan->weight[p] = weight_of(kept, c->plan->token[p], e);
    moe_plan_destroy(&kept);
    free(b);
    return done;
}
