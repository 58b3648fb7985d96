/* The changed layer on the scene, step by step; first the step that makes the first wrong tensor,
 * as most changes are refuted by it. */
#include "check/explain/local.h"
#include "check/explain/runner.h"
#include "layer/traits.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef moe_int_runner runner;

static moe_status make_plans(runner *k) {
    moe_plan full = *k->c->plan;
    moe_status status = moe_plan_subset(&full, k->s->tokens, k->s->n_tokens, &k->sub);
    if (k->c->used)
        full.weight = k->c->used;
    if (!status)
        status = moe_plan_subset(&full, k->s->tokens, k->s->n_tokens, &k->used);
    if (status)
        return status;
    k->r->same_choice = moe_int_same_pairs(k->c->plan, k->s->evidence->routing->plan);
    k->position = calloc((size_t)k->sub->n_pairs + 1, sizeof *k->position);
    if (!k->position)
        return MOE_E_NOMEM;
    for (int64_t i = 0; i < k->sub->n_tokens; i++) {
        int64_t from = full.token_offsets[k->s->tokens[i]], to = k->sub->token_offsets[i];
        for (int64_t j = to; j < k->sub->token_offsets[i + 1]; j++) {
            int64_t row = full.pair_of_token[from + j - to];
            k->position[k->sub->pair_of_token[j]] =
                row - full.offsets[moe_int_plan_expert_of(&full, row)];
        }
    }
    return MOE_OK;
}

static int64_t gathered(const runner *k, int64_t p) {
    const int64_t t = k->s->tokens[k->sub->token[p]];
    return moe_int_gathered_token(k->c, moe_int_plan_expert_of(k->sub, p), k->position[p], t);
}

/* The rows that the experts see. */
static moe_status load_routed(const runner *k) {
    const moe_layer_desc *desc = moe_int_run_layer(k);
    moe_int_stage_rows *f = &k->r->routed;
    int64_t d = desc->d;
    moe_status status =
        moe_int_stage_rows_alloc(k->sub->n_pairs, d, desc->n, moe_h_width(desc, desc->n), f);
    if (status)
        return status;
    const moe_problem *problem = k->s->evidence->problem;
    for (int64_t p = 0; p < k->sub->n_pairs; p++) {
        const int64_t t = gathered(k, p), T = problem->T;
        const int64_t of_dO = k->c->token_rule ? k->s->tokens[k->sub->token[p]] : t;
        moe_int_load(&problem->in.t[MOE_T_X], moe_int_gather_start(k->c, t, T, d), d, f->x + p * d);
        if (k->s->dO)
            moe_int_load(&problem->in.t[MOE_T_DO], moe_int_around(of_dO + k->c->gather_dO, T) * d,
                         d, f->dy + p * d);
        f->weight[p] = k->used->weight[p];
    }
    return MOE_OK;
}

typedef moe_status expert_fn(const moe_int_expert_run *run);

static moe_status each_expert(const runner *k, expert_fn *make) {
    const int64_t E = moe_int_run_layer(k)->E, *offsets = k->sub->offsets;
    const bool alike = k->base && k->r->same_choice;
    int failed = 0;
#pragma omp parallel for num_threads(k->s->evidence->threads) schedule(dynamic)                    \
    reduction(|                                                                                    \
              : failed)
    for (int64_t e = 0; e < E; e++) {
        moe_int_expert_run run = {.scene = k->s,
                                  .change = k->c,
                                  .e = e,
                                  .rows = &k->r->routed,
                                  .base = alike ? &k->base->routed : NULL,
                                  .first = offsets[e],
                                  .count = offsets[e + 1] - offsets[e]};
        failed |= make(&run) != MOE_OK;
    }
    return failed ? MOE_E_NOMEM : MOE_OK;
}

static moe_status load_shared(const runner *k) {
    const moe_layer_desc *desc = moe_int_run_layer(k);
    moe_int_stage_rows *f = &k->r->shared;
    int64_t n = desc->n_shared, count = k->s->n_tokens * desc->d;
    moe_status status =
        moe_int_stage_rows_alloc(k->s->n_tokens, desc->d, n, moe_h_width(desc, n), f);
    if (status)
        return status;
    memcpy(f->x, k->s->X, (size_t)count * sizeof *f->x);
    if (k->s->dO)
        memcpy(f->dy, k->s->dO, (size_t)count * sizeof *f->x);
    for (int64_t i = 0; i < k->s->n_tokens; i++)
        f->weight[i] = k->c->shared_factor * moe_int_run_gate(k, i);
    return MOE_OK;
}

static moe_status shared_expert(const runner *k, expert_fn *make) {
    const moe_int_expert_run run = {.scene = k->s,
                                    .change = k->c,
                                    .e = -1,
                                    .rows = &k->r->shared,
                                    .base = k->base ? &k->base->shared : NULL,
                                    .count = k->s->n_tokens};
    return moe_int_run_layer(k)->n_shared ? make(&run) : MOE_OK;
}

/* Views of the pairs' stages, where they can be compared with the subject's. */
static void view_forward(const runner *k) {
    const moe_int_stage_rows *f = &k->r->routed;
    double **value = k->r->value;
    if (!k->r->same_choice)
        return;
    value[MOE_T_H] = f->H;
    value[MOE_T_A] = f->A;
    value[MOE_T_Y] = f->Y;
    memcpy(value[MOE_T_S], k->sub->weight, (size_t)k->sub->n_pairs * sizeof(double));
}

static void view_backward(const runner *k) {
    const moe_int_stage_rows *f = &k->r->routed;
    double **value = k->r->value;
    if (!k->r->same_choice)
        return;
    value[MOE_T_DS] = f->dS;
    value[MOE_T_DH] = f->dH;
    value[MOE_T_DXP] = f->dXp;
}

static void view_logits(const runner *k) {
    int64_t R = k->c->plan->n_experts;
    for (int64_t i = 0; k->r->value[MOE_T_LOGITS] && i < k->s->n_tokens; i++)
        memcpy(k->r->value[MOE_T_LOGITS] + i * R, k->c->logits + k->s->tokens[i] * R,
               (size_t)R * sizeof(double));
}

static bool is_view(moe_tensor_id id) {
    return id == MOE_T_H || id == MOE_T_A || id == MOE_T_Y || id == MOE_T_DS || id == MOE_T_DH ||
           id == MOE_T_DXP;
}

/* Can the run make that tensor, and does the layer have it? */
static bool makes(const runner *k, moe_tensor_id id) {
    const moe_int_evidence *e = k->s->evidence;
    const moe_tensor *dS = &e->got.t[MOE_T_DS];
    if (!k->s->spot[id].base || is_view(id) || (!k->s->dO && moe_tensor_is_backward(id)))
        return false;
    if (id == MOE_T_S)
        return k->r->same_choice;
    if (id == MOE_T_DW_R || id == MOE_T_DB_R) /* starts from the subject's dS */
        return k->r->same_choice && k->c->logits && dS->data &&
               moe_tensor_count(dS) == k->c->plan->n_pairs &&
               moe_tensor_exists(moe_int_run_layer(k), id, 0);
    return moe_tensor_exists(moe_int_run_layer(k), id, e->problem->plan != NULL);
}

static moe_status alloc_values(const runner *k) {
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_int_spot *spot = &k->s->spot[id];
        if (!makes(k, (moe_tensor_id)id))
            continue;
        k->r->value[id] = calloc((size_t)(spot->groups * spot->width) + 1, sizeof(double));
        if (!k->r->value[id])
            return MOE_E_NOMEM;
    }
    return MOE_OK;
}

/* Up to O. */
static moe_status run_forward(const runner *k) {
    moe_status status = load_routed(k);
    if (!status && moe_int_run_layer(k)->n_shared)
        status = load_shared(k);
    if (!status)
        status = each_expert(k, moe_int_expert_forward);
    if (!status)
        status = shared_expert(k, moe_int_expert_forward);
    if (status)
        return status;
    moe_int_sum_outputs(k);
    view_logits(k);
    view_forward(k);
    return MOE_OK;
}

/* Back to dX. */
static moe_status run_backward(const runner *k) {
    moe_status status = each_expert(k, moe_int_expert_backward);
    if (!status)
        status = shared_expert(k, moe_int_expert_backward);
    if (!status)
        status = moe_int_sum_gradients(k);
    if (!status)
        view_backward(k);
    return status;
}

enum { FORWARD = 1, BACKWARD = 2, SLICES = 4, ROUTER = 8 };

/* What has to be run for tensor `id`. */
static unsigned steps_for(moe_tensor_id id) {
    if (moe_int_is_expert_gradient(id))
        return SLICES;
    if (id == MOE_T_DW_R || id == MOE_T_DB_R)
        return ROUTER;
    return moe_tensor_is_backward(id) ? FORWARD | BACKWARD : FORWARD;
}

static moe_status run_steps(const runner *k, unsigned steps) {
    moe_status status = MOE_OK;
    if (steps & FORWARD)
        status = run_forward(k);
    if (!status && steps & BACKWARD && k->s->dO)
        status = run_backward(k);
    if (!status && steps & SLICES && k->s->dO)
        status = moe_int_slices_make(k->s, k->c, k->base, k->r);
    if (!status && steps & ROUTER && k->r->value[MOE_T_DW_R])
        status = moe_int_router_slices_make(k->s, k->c, k->r);
    return status;
}

/* Does the change not explain the first wrong tensor? One that stores stages is held against
 * another run than the base. */
static bool refuted(const runner *k) {
    const moe_int_scene *s = k->s;
    const moe_tensor_id first = s->evidence->first;
    const double *value = k->r->value[first];
    const double before = k->c->store == MOE_F64 ? s->error : s->stored_error;
    if (!k->base || isnan(before))
        return false;
    const double *right = k->base->value[first];
    if (!value || !right)
        return true;
    const double d2 = moe_int_scene_squares(s, first, 0, s->spot[first].groups, value, right).d2;
    if (moe_int_explains(s->evidence, first, before,
                         s->r2 > 0 ? d2 / s->r2
                         : d2 > 0  ? INFINITY
                                   : 0))
        return false;
    /* Whichever is nearer is always a little nearer: no gate alone will do. */
    const double mixed = moe_int_scene_mixed_squares(s, first, value, right);
    k->r->partial = s->r2 > 0 && mixed / s->r2 <= moe_int_local_limit(s->evidence, first, before);
    return !k->r->partial;
}

moe_status moe_int_variant_make(const moe_int_scene *s, const moe_int_change *change,
                                const moe_int_variant *base, moe_int_variant *ret) {
    memset(ret, 0, sizeof *ret);
    runner k = {.s = s, .c = change, .base = base, .r = ret};
    const moe_tensor_id first = s->evidence->first;
    const unsigned all = FORWARD | BACKWARD | SLICES | ROUTER;
    const unsigned early = first == MOE_INT_CHOICE ? all : steps_for(first);
    moe_status status = make_plans(&k);
    if (!status)
        status = alloc_values(&k);
    if (!status)
        status = run_steps(&k, early);
    ret->refuted = !status && first != MOE_INT_CHOICE && refuted(&k);
    if (!status && !ret->refuted && !s->probe)
        status = run_steps(&k, all & ~early);
    moe_plan_destroy(&k.sub);
    moe_plan_destroy(&k.used);
    free(k.position);
    return status;
}

void moe_int_variant_destroy(moe_int_variant *r) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (!is_view((moe_tensor_id)id))
            free(r->value[id]);
    for (int i = 0; i < MOE_INT_SCENE_UNITS; i++)
        free(r->dots[i]);
    free(r->routed.block);
    free(r->shared.block);
    memset(r, 0, sizeof *r);
}
