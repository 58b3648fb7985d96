/* The changed layer on the scene: experts, shared expert, sums over a token's experts. */
#include "check/explain/scene.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What one run passes around. */
typedef struct runner {
    const moe_int_scene *s;
    const moe_int_change *c;
    const moe_int_variant *base;
    moe_int_variant *r;
    moe_plan *sub;     /* of the scene's tokens, weighed as `S` is */
    moe_plan *used;    /* and as the experts use it */
    int64_t *position; /* [pairs of sub] place among all rows of its expert */
} runner;

static const moe_layer_desc *layer_of(const runner *k) {
    return &k->s->evidence->problem->layer;
}

static bool same_pairs(const moe_plan *a, const moe_plan *b) {
    return a->n_pairs == b->n_pairs &&
           memcmp(a->offsets, b->offsets, ((size_t)a->n_experts + 1) * sizeof *a->offsets) == 0 &&
           memcmp(a->token, b->token, (size_t)a->n_pairs * sizeof *a->token) == 0;
}

static moe_status make_plans(runner *k) {
    moe_plan full = *k->c->plan;
    moe_status status = moe_plan_subset(&full, k->s->tokens, k->s->n_tokens, &k->sub);
    if (k->c->used)
        full.weight = k->c->used;
    if (!status)
        status = moe_plan_subset(&full, k->s->tokens, k->s->n_tokens, &k->used);
    if (status)
        return status;
    k->r->same_choice = same_pairs(k->c->plan, k->s->evidence->routing->plan);
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

static moe_status run_routed(runner *k) {
    const moe_layer_desc *desc = layer_of(k);
    moe_int_stage_rows *f = &k->r->routed;
    int64_t d = desc->d;
    moe_status status =
        moe_int_stage_rows_alloc(k->sub->n_pairs, d, desc->n, moe_h_width(desc, desc->n), f);
    if (status)
        return status;
    const moe_problem *problem = k->s->evidence->problem;
    for (int64_t p = 0; p < k->sub->n_pairs; p++) {
        int64_t t = gathered(k, p), T = problem->T;
        moe_int_load(&problem->in.t[MOE_T_X], moe_int_gather_start(k->c, t, T, d), d, f->x + p * d);
        if (k->s->dO)
            moe_int_load(&problem->in.t[MOE_T_DO], (t + k->c->gather_dO + T) % T * d, d,
                         f->dy + p * d);
        f->weight[p] = k->used->weight[p];
    }
    bool alike = k->base && k->r->same_choice;
    int failed = 0;
#pragma omp parallel for num_threads(k->s->evidence->threads) schedule(dynamic)                    \
    reduction(|                                                                                    \
              : failed)
    for (int64_t e = 0; e < desc->E; e++) {
        moe_int_expert_run run = {.scene = k->s,
                                  .change = k->c,
                                  .e = e,
                                  .rows = f,
                                  .base = alike ? &k->base->routed : NULL,
                                  .first = k->sub->offsets[e],
                                  .count = k->sub->offsets[e + 1] - k->sub->offsets[e]};
        failed |= moe_int_expert_make(&run) != MOE_OK;
    }
    return failed ? MOE_E_NOMEM : MOE_OK;
}

/* The shared expert's gate at token i of the scene. */
static double gate_of(const runner *k, int64_t i) {
    const moe_tensor *w = &k->s->evidence->problem->in.t[MOE_T_W_GATE_SHARED];
    const moe_layer_desc *desc = layer_of(k);
    if (!desc->shared_gate || k->c->terms & MOE_INT_NO_SHARED_GATE)
        return 1;
    double z = 0;
    for (int64_t c = 0; c < desc->d; c++)
        z += k->s->X[i * desc->d + c] * moe_load(w->data, w->dtype, (size_t)c);
    return k->c->terms & MOE_INT_GATE_LINEAR ? z : 1 / (1 + exp(-z));
}

static moe_status run_shared(runner *k) {
    const moe_layer_desc *desc = layer_of(k);
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
        f->weight[i] = k->c->shared_factor * gate_of(k, i);
    moe_int_expert_run run = {.scene = k->s,
                              .change = k->c,
                              .e = -1,
                              .rows = f,
                              .base = k->base ? &k->base->shared : NULL,
                              .count = k->s->n_tokens};
    return moe_int_expert_make(&run);
}

static void add(double scale, const double *x, int64_t n, double *sum) {
    for (int64_t i = 0; i < n; i++)
        sum[i] += scale * x[i];
}

/* Token i's part of O and dX from pair p. */
static void add_pair(const runner *k, int64_t i, int64_t p, double *o, double *dx) {
    const moe_layer_desc *desc = layer_of(k);
    const moe_int_stage_rows *f = &k->r->routed;
    int64_t d = desc->d, e = moe_int_plan_expert_of(k->sub, p);
    int64_t rows = k->c->plan->offsets[e + 1] - k->c->plan->offsets[e];
    double w = k->used->weight[p];
    if (!k->c->skip_dw && !moe_int_change_adds(k->c, e, k->position[p], rows))
        return;
    bool on_input = k->c->terms & MOE_INT_ON_INPUT;
    bool scaled = on_input != ((k->c->terms & MOE_INT_DX_SCALE_OTHER) != 0);
    if (e >= desc->E) {
        w = k->c->terms & MOE_INT_NO_ZERO ? 0 : k->c->terms & MOE_INT_ZERO_UNWEIGHTED ? 1 : w;
        add(w, k->s->X + i * d, d, o);
        if (k->s->dO)
            add(w, k->s->dO + i * d, d, dx);
        return;
    }
    double out = k->c->terms & MOE_INT_ON_OUTPUT ? w : 1;
    add(out, f->Y + p * d, d, o);
    const moe_tensor *b2 = &k->s->evidence->problem->in.t[MOE_T_B2];
    for (int64_t c = 0; k->c->terms & MOE_INT_B2_UNWEIGHTED && c < d; c++)
        o[c] += (1 - out) * moe_load(b2->data, b2->dtype, (size_t)(e * d + c));
    if (k->s->dO)
        add(scaled ? w : 1, f->dXp + p * d, d, dx);
}

static void add_shared(const runner *k, int64_t i, double *o, double *dx) {
    const moe_int_stage_rows *f = &k->r->shared;
    const moe_tensor *w = &k->s->evidence->problem->in.t[MOE_T_W_GATE_SHARED];
    int64_t d = f->d;
    if (!layer_of(k)->n_shared || k->c->terms & MOE_INT_NO_SHARED)
        return;
    add(f->weight[i], f->Y + i * d, d, o);
    if (!k->s->dO || k->c->terms & MOE_INT_NO_DX_SHARED)
        return;
    add(1, f->dXp + i * d, d, dx);
    if (!layer_of(k)->shared_gate || k->c->terms & (MOE_INT_NO_DX_GATE | MOE_INT_NO_SHARED_GATE))
        return;
    double g = gate_of(k, i), slope = k->c->terms & MOE_INT_GATE_SLOPE ? g : g * (1 - g);
    double dz = k->c->shared_factor * f->dS[i] * slope;
    for (int64_t c = 0; c < d; c++)
        dx[c] += dz * moe_load(w->data, w->dtype, (size_t)c);
}

static void fill_zero_experts(const runner *k) {
    const moe_int_stage_rows *f = &k->r->routed;
    for (int64_t p = k->sub->offsets[layer_of(k)->E]; k->s->dO && p < k->sub->n_pairs; p++) {
        f->dS[p] = 0;
        for (int64_t c = 0; c < f->d; c++)
            f->dS[p] += f->dy[p * f->d + c] * f->x[p * f->d + c];
    }
}

/* What passes back to dX through the router. */
static moe_status add_router(const runner *k) {
    const moe_tensor *w_r = &k->s->evidence->problem->in.t[MOE_T_W_R];
    int64_t n = k->s->n_tokens, d = layer_of(k)->d, R = k->sub->n_experts;
    double *z = malloc((size_t)(2 * n * R + d) * sizeof *z);
    if (!z)
        return MOE_E_NOMEM;
    double *dz = z + n * R, *row = dz + n * R;
    const double times = k->c->terms & MOE_INT_DX_ROUTER_TWICE ? 2 : 1;
    for (int64_t i = 0; i < n; i++)
        memcpy(z + i * R, k->c->logits + k->s->tokens[i] * R, (size_t)R * sizeof *z);
    moe_status status = moe_int_changed_dz(k->c, z, k->sub, k->r->routed.dS, dz);
    for (int64_t e = 0; !status && e < R; e++) {
        moe_int_load(w_r, e * d, d, row);
        for (int64_t i = 0; i < n; i++)
            add(times * dz[i * R + e], row, d, k->r->value[MOE_T_DX] + i * d);
    }
    free(z);
    return status;
}

static moe_status combine(const runner *k) {
    int64_t d = layer_of(k)->d;
    double **value = k->r->value;
    fill_zero_experts(k);
    for (int64_t i = 0; i < k->s->n_tokens; i++) {
        double *o = value[MOE_T_O] + i * d, *dx = k->s->dO ? value[MOE_T_DX] + i * d : NULL;
        for (int64_t j = k->sub->token_offsets[i]; j < k->sub->token_offsets[i + 1]; j++) {
            add_pair(k, i, k->sub->pair_of_token[j], o, dx);
            moe_int_sum_stored(k->c, MOE_INT_SUM_O, j, o, d);
            moe_int_sum_stored(k->c, MOE_INT_SUM_DX, j, dx, dx ? d : 0);
        }
        add_shared(k, i, o, dx);
    }
    moe_status status = MOE_OK;
    if (k->s->dO && k->c->logits && !(k->c->terms & MOE_INT_NO_DX_ROUTER))
        status = add_router(k);
    moe_int_change_store(k->c, value[MOE_T_O], k->s->n_tokens * d);
    if (k->s->dO)
        moe_int_change_store(k->c, value[MOE_T_DX], k->s->n_tokens * d);
    return status;
}

/* Views of the pairs' stages, where they can be compared with the subject's. */
static void view_pairs(const runner *k) {
    const moe_int_stage_rows *f = &k->r->routed;
    double **value = k->r->value;
    value[MOE_T_H] = f->H;
    value[MOE_T_A] = f->A;
    value[MOE_T_Y] = f->Y;
    memcpy(value[MOE_T_S], k->sub->weight, (size_t)k->sub->n_pairs * sizeof(double));
    if (!k->s->dO)
        return;
    value[MOE_T_DS] = f->dS;
    value[MOE_T_DH] = f->dH;
    value[MOE_T_DXP] = f->dXp;
}

static void view_logits(const runner *k) {
    int64_t R = k->c->plan->n_experts;
    for (int64_t i = 0; i < k->s->n_tokens; i++)
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
               moe_tensor_count(dS) == k->c->plan->n_pairs && moe_tensor_exists(layer_of(k), id, 0);
    return moe_tensor_exists(layer_of(k), id, e->problem->plan != NULL);
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

moe_status moe_int_variant_make(const moe_int_scene *s, const moe_int_change *change,
                                const moe_int_variant *base, moe_int_variant *ret) {
    memset(ret, 0, sizeof *ret);
    runner k = {.s = s, .c = change, .base = base, .r = ret};
    moe_status status = make_plans(&k);
    if (!status)
        status = alloc_values(&k);
    if (!status)
        status = run_routed(&k);
    if (!status && layer_of(&k)->n_shared)
        status = run_shared(&k);
    if (!status)
        status = combine(&k);
    if (!status && s->dO)
        status = moe_int_slices_make(s, change, base, ret);
    if (!status && ret->value[MOE_T_DW_R])
        status = moe_int_router_slices_make(s, change, ret);
    if (!status && ret->value[MOE_T_LOGITS])
        view_logits(&k);
    if (!status && ret->same_choice)
        view_pairs(&k);
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
