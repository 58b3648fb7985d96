/* Which experts a subject chose that does not say so.
 *
 * A token's O is compared with what each of its alternatives makes (alternatives.c, rerun.c). One
 * is taken if it
 *   - is right to the gate of a token (four times, as no error model is asked), or a thousand times
 *     nearer than the choice in force, as it is where the weights are a little off too;
 *   - needs the experts that are new in it: without them it is far off again. Else a missing expert
 *     would pass for the choice of one whose weight is next to nothing.
 * The worst tokens are tried first; if nothing explains these, routing is not what is wrong. */
#include "check/routing/guess.h"
#include "check/routing/choice.h"
#include "check/routing/rerun.h"
#include "core/elements.h"

#include <stdlib.h>
#include <string.h>

#define FLOPS_MAX  1e10 /* model FLOPs of all reruns: some 3 s of plain loops on two cores */
#define GATE_ROOM  4.0
#define BETTER     16.0 /* than the choice in force, and than without the new experts */
#define FAR_BETTER 1000.0
#define FAR_NEEDED 100.0

enum { BATCH = 32, FIRST_BATCH = 8, FAR_TOKENS = 2 };

/* A token and its other set. */
typedef struct finding {
    int64_t token, n;
    int32_t *expert; /* owned */
} finding;

typedef struct search {
    const moe_int_guess_params *p;
    const moe_log *log;
    int64_t n;   /* E + n_zero */
    double gate; /* of a token's NMSE */
    double flops_left;
    double *b_select;               /* [n] or NULL */
    finding *found;                 /* [n_suspects] */
    int64_t n_found, n_unexplained; /* tokens that nothing that was tried explains */
    bool stopped;                   /* the budget is spent */
} search;

/* Some suspects with everything that their alternatives need. */
typedef struct batch {
    const int64_t *token; /* [count] in the whole problem */
    int64_t count;
    moe_problem problem; /* of these tokens: X and T are its own, all else is borrowed */
    double *logits, *up, *down, *score; /* [count][n] */
    moe_int_sets sets[BATCH];
    moe_int_rerun rerun;
} batch;

static void batch_destroy(batch *b) {
    moe_int_rerun_destroy(&b->rerun);
    for (int64_t i = 0; i < b->count; i++)
        moe_int_sets_destroy(&b->sets[i]);
    moe_tensor_destroy(&b->problem.in.t[MOE_T_X]);
    free(b->logits);
    free(b->up);
    free(b->down);
    free(b->score);
}

static moe_status gather(const search *s, batch *b) {
    const moe_problem *whole = s->p->problem;
    const moe_tensor *x = &whole->in.t[MOE_T_X];
    size_t bytes = (size_t)whole->layer.d * moe_dtype_size(x->dtype);
    int64_t shape[] = {b->count, whole->layer.d};
    b->problem = *whole;
    b->problem.T = b->count;
    b->problem.masked = NULL;
    b->problem.in.t[MOE_T_DO] = (moe_tensor){0};
    moe_status status = moe_tensor_alloc(x->dtype, 2, shape, &b->problem.in.t[MOE_T_X]);
    for (int64_t i = 0; !status && i < b->count; i++) {
        memcpy((char *)b->problem.in.t[MOE_T_X].data + (size_t)i * bytes,
               (const char *)x->data + (size_t)b->token[i] * bytes, bytes);
        memcpy(b->logits + i * s->n, s->p->routing->logits + b->token[i] * s->n,
               (size_t)s->n * sizeof *b->logits);
    }
    return status;
}

static moe_status batch_start(const search *s, const int64_t *tokens, int64_t count, batch *b) {
    size_t room = (size_t)(count * s->n);
    memset(b, 0, sizeof *b);
    b->token = tokens;
    b->count = count;
    b->logits = malloc(room * sizeof *b->logits);
    b->up = malloc(room * sizeof *b->up);
    b->down = malloc(room * sizeof *b->down);
    b->score = malloc(room * sizeof *b->score);
    if (!b->logits || !b->up || !b->down || !b->score)
        return MOE_E_NOMEM;
    moe_status status = gather(s, b);
    if (!status)
        status = moe_int_routing_margin(&b->problem, b->logits, s->p->reading, s->p->threads, b->up,
                                        b->down);
    if (!status)
        moe_route_selection_scores(&b->problem.layer, count, b->logits, s->b_select, b->score);
    return status;
}

/* The choice in force of a token, ascending; to be freed. */
static int32_t *choice_of(const search *s, int64_t token, int64_t *ret_n) {
    const moe_plan *plan = s->p->routing->plan;
    int32_t *list = malloc((size_t)(moe_int_experts_of(plan, token) + 1) * sizeof *list);
    *ret_n = moe_int_experts_of(plan, token);
    for (int64_t k = 0; list && k < *ret_n; k++)
        list[k] = (int32_t)moe_int_expert_at(plan, token, k);
    return list;
}

static moe_status list_alternatives(const search *s, moe_int_reach reach, batch *b) {
    moe_status status = MOE_OK;
    for (int64_t i = 0; !status && i < b->count; i++) {
        moe_int_token_view view = {.problem = &b->problem,
                                   .z = b->logits + i * s->n,
                                   .up = b->up + i * s->n,
                                   .down = b->down + i * s->n,
                                   .b_select = s->b_select,
                                   .score = b->score + i * s->n,
                                   .n = s->n};
        int64_t k;
        int32_t *chosen = choice_of(s, b->token[i], &k);
        status = chosen ? moe_int_sets_make(&view, chosen, k, reach, s->p->drops, &b->sets[i])
                        : MOE_E_NOMEM;
        free(chosen);
    }
    return status;
}

static bool explains(const search *s, const moe_int_fit *now, const moe_int_fit *other) {
    bool right = other->off <= GATE_ROOM * s->gate * other->size &&
                 other->off * BETTER <= now->off && other->off * BETTER <= other->without;
    bool far = other->off * FAR_BETTER <= now->off && other->off * FAR_NEEDED <= other->without;
    return (right || far) && other->without > 0;
}

static moe_status note(search *s, int64_t token, const moe_int_sets *sets, int64_t set) {
    finding f = {.token = token, .n = sets->n[set]};
    f.expert = malloc((size_t)(f.n + 1) * sizeof *f.expert);
    if (!f.expert)
        return MOE_E_NOMEM;
    memcpy(f.expert, sets->expert + set * sets->most, (size_t)f.n * sizeof *f.expert);
    s->found[s->n_found++] = f;
    return MOE_OK;
}

/* The best of token i's sets; notes it where it explains the token. */
static moe_status try_token(search *s, const batch *b, int64_t i) {
    const moe_int_sets *sets = &b->sets[i];
    int64_t d = b->problem.layer.d, best = 0;
    double *got = moe_int_doubles(s->p->O, b->token[i] * d, d);
    moe_int_fit now, nearest, fit;
    moe_status status = got ? moe_int_rerun_fit(&b->rerun, i, 0, got, &now) : MOE_E_NOMEM;
    bool wrong = !status && !(now.off <= s->gate * now.size);
    nearest = now;
    for (int64_t set = 1; !status && wrong && set < sets->count; set++) {
        status = moe_int_rerun_fit(&b->rerun, i, set, got, &fit);
        if (!status && fit.off < nearest.off) {
            nearest = fit;
            best = set;
        }
    }
    if (!status && wrong) {
        if (best > 0 && explains(s, &now, &nearest))
            status = note(s, b->token[i], sets, best);
        else
            s->n_unexplained++;
    }
    free(got);
    return status;
}

static moe_status try_batch(search *s, const int64_t *tokens, int64_t count, moe_int_reach reach) {
    batch b;
    moe_status status = batch_start(s, tokens, count, &b);
    if (!status)
        status = list_alternatives(s, reach, &b);
    if (!status) {
        b.rerun =
            (moe_int_rerun){.desc = &b.problem.layer,
                            .in = &b.problem.in,
                            .logits = b.logits,
                            .tokens = count,
                            .n = s->n,
                            .sets = b.sets,
                            .on_input = b.problem.layer.router.weight_on == MOE_WEIGHT_ON_INPUT};
        s->flops_left -= moe_int_rerun_flops(&b.rerun);
        s->stopped = s->flops_left < 0;
    }
    if (!status && !s->stopped)
        status = moe_int_rerun_make(&b.rerun, s->p->threads, s->log);
    for (int64_t i = 0; !status && !s->stopped && i < count; i++)
        status = try_token(s, &b, i);
    batch_destroy(&b);
    return status;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* The first few by near sets; if that explains none, one or two of them by every swap; then the
 * others by what explained the first. */
static moe_status try_all(search *s) {
    const int64_t *token = s->p->suspects;
    int64_t n = s->p->n_suspects, i = least(n, FIRST_BATCH);
    moe_int_reach reach = MOE_INT_NEAR;
    moe_status status = try_batch(s, token, i, reach);
    if (!status && !s->stopped && s->n_found == 0 && s->n_unexplained > 0) {
        i = least(n, FAR_TOKENS);
        reach = MOE_INT_ANY;
        status = try_batch(s, token, i, reach);
        s->stopped |= s->n_found == 0;
    }
    for (; !status && !s->stopped && i < n; i += least(n - i, BATCH))
        status = try_batch(s, token + i, least(n - i, BATCH), reach);
    return status;
}

static int by_token(const void *a, const void *b) {
    const finding *x = a, *y = b;
    return x->token < y->token ? -1 : x->token > y->token;
}

/* The plan in force with every found token's set in the place of its own. */
static moe_status make_plan(const search *s, moe_plan **ret) {
    const moe_plan *now = s->p->routing->plan;
    size_t room = (size_t)(now->n_pairs + s->n_found) + 1;
    int32_t *token = malloc(room * sizeof *token), *expert = malloc(room * sizeof *expert);
    moe_status status = token && expert ? MOE_OK : MOE_E_NOMEM;
    const finding *f = s->found, *end = f + s->n_found;
    int64_t count = 0;
    for (int64_t t = 0; !status && t < now->n_tokens; t++) {
        bool other = f < end && f->token == t;
        int64_t n = other ? f->n : moe_int_experts_of(now, t);
        for (int64_t k = 0; k < n; k++) {
            token[count] = (int32_t)t;
            expert[count++] = other ? f->expert[k] : (int32_t)moe_int_expert_at(now, t, k);
        }
        f += other;
    }
    if (!status)
        status = moe_plan_create(now->n_tokens, s->n, count, token, expert, NULL, s->log, ret);
    free(token);
    free(expert);
    return status;
}

static moe_status start(search *s) {
    const moe_problem *p = s->p->problem;
    s->n = p->layer.E + p->layer.n_zero;
    s->gate = moe_gate_for(MOE_T_O, s->p->reading->arithmetic).group_nmse;
    s->flops_left = FLOPS_MAX;
    s->found = calloc((size_t)s->p->n_suspects, sizeof *s->found);
    if (p->layer.router.select_bias)
        s->b_select = moe_int_doubles(&p->in.t[MOE_T_B_SELECT], 0, s->n);
    return s->found && (s->b_select || !p->layer.router.select_bias) ? MOE_OK : MOE_E_NOMEM;
}

moe_status moe_int_routing_guess(const moe_int_guess_params *params, const moe_log *log,
                                 moe_int_guess *ret) {
    search s = {.p = params, .log = log};
    memset(ret, 0, sizeof *ret);
    if (params->n_suspects == 0)
        return MOE_OK;
    moe_status status = start(&s);
    if (!status)
        status = try_all(&s);
    if (!status && s.n_found > 0) {
        qsort(s.found, (size_t)s.n_found, sizeof *s.found, by_token);
        status = make_plan(&s, &ret->plan);
        ret->partly = s.stopped;
    }
    for (int64_t i = 0; i < s.n_found; i++)
        free(s.found[i].expert);
    free(s.found);
    free(s.b_select);
    return status;
}
