/* The terms of O: the experts' Y, b2, the shared expert's Y; of dX: dX~, the shared expert's and
 * the router's part. */
#include "check/explain/terms.h"
#include "route/route.h"

static double *add_term(moe_int_terms *k, moe_int_term_class of, int64_t pair) {
    if (k->count == MOE_INT_MOST_TERMS)
        return NULL;
    k->of[k->count] = of;
    k->pair[k->count] = pair;
    return k->row + k->count++ * k->d;
}

static void add_scaled(moe_int_terms *k, moe_int_term_class of, int64_t pair, double scale,
                       const double *row) {
    double *to = add_term(k, of, pair);
    for (int64_t c = 0; to && c < k->d; c++)
        to[c] = scale * row[c];
}

/* Zero experts all add x, so those of a token are one term. */
static void add_zero(moe_int_terms *k, int64_t pair, double scale, const double *x) {
    for (int64_t j = 0; j < k->count; j++)
        if (k->of[j] == MOE_INT_TERM_ZERO) {
            for (int64_t c = 0; c < k->d; c++)
                k->row[j * k->d + c] += scale * x[c];
            return;
        }
    add_scaled(k, MOE_INT_TERM_ZERO, pair, scale, x);
}

/* Pair `q` of the scene's own plan is pair p of the whole. */
static void add_pair(moe_int_terms *k, int64_t i, int64_t q, int64_t p) {
    const moe_int_scene *s = k->l->scene;
    const moe_int_stage_rows *rows = &k->l->right->routed;
    const moe_layer_desc *desc = &s->evidence->problem->layer;
    const moe_tensor *b2 = &s->evidence->problem->in.t[MOE_T_B2];
    const bool forward = k->l->p->id == MOE_T_O;
    const bool on_input = desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    const double w = s->sub->weight[q];
    const int64_t e = moe_int_plan_expert_of(s->sub, q);
    if (e >= desc->E) {
        add_zero(k, p, w, (forward ? s->X : s->dO) + i * k->d);
        return;
    }
    const double scale = forward == on_input ? 1 : w;
    if (!forward) {
        add_scaled(k, MOE_INT_TERM_PAIR, p, scale, rows->dXp + q * k->d);
        return;
    }
    add_scaled(k, MOE_INT_TERM_PAIR, p, scale, rows->AW2 + q * k->d);
    double *to = b2->data ? add_term(k, MOE_INT_TERM_BIAS, p) : NULL;
    for (int64_t c = 0; to && c < k->d; c++)
        to[c] = scale * moe_load(b2->data, b2->dtype, (size_t)(e * k->d + c));
}

/* The right row's part that no other term has: the router's. */
static void add_rest(moe_int_terms *k, int64_t i) {
    const double *right = k->l->right->value[k->l->p->id] + i * k->d;
    double *to = add_term(k, MOE_INT_TERM_ROUTER, -1), size = 0;
    for (int64_t c = 0; to && c < k->d; c++) {
        to[c] = right[c];
        for (int64_t j = 0; j + 1 < k->count; j++)
            to[c] -= k->row[j * k->d + c];
        size += to[c] * to[c];
    }
    if (to && size <= 1e-18 * moe_int_inner(right, right, k->d))
        k->count--;
}

void moe_int_terms_collect(moe_int_terms *k, int64_t i) {
    const moe_int_scene *s = k->l->scene;
    const moe_int_stage_rows *shared = &k->l->right->shared;
    const moe_plan *whole = s->evidence->routing->plan;
    const moe_tensor *gate = &s->evidence->problem->in.t[MOE_T_W_GATE_SHARED];
    const int64_t from = s->sub->token_offsets[i];
    k->count = 0;
    for (int64_t j = from; j < s->sub->token_offsets[i + 1]; j++)
        add_pair(k, i, s->sub->pair_of_token[j],
                 whole->pair_of_token[whole->token_offsets[s->tokens[i]] + j - from]);
    if (shared->block && k->l->p->id == MOE_T_O)
        add_scaled(k, MOE_INT_TERM_SHARED, -1, shared->weight[i], shared->Y + i * k->d);
    if (shared->block && k->l->p->id == MOE_T_DX) {
        add_scaled(k, MOE_INT_TERM_SHARED, -1, 1, shared->dXp + i * k->d);
        double *to = gate->data ? add_term(k, MOE_INT_TERM_GATE, -1) : NULL;
        const double g = shared->weight[i];
        for (int64_t c = 0; to && c < k->d; c++)
            to[c] = shared->dS[i] * g * (1 - g) * moe_load(gate->data, gate->dtype, (size_t)c);
    }
    if (k->l->p->id == MOE_T_DX && s->evidence->routing->logits)
        add_rest(k, i);
}

void moe_int_terms_add_foreign(moe_int_terms *k, int64_t i) {
    const moe_int_evidence *e = k->l->p->e;
    const moe_plan *plan = e->routing->plan;
    const moe_int_vector which = (moe_int_vector)k->foreign;
    const int64_t t = k->l->scene->tokens[i];
    const bool one = moe_int_vector_of_token(which);
    for (int64_t j = plan->token_offsets[t]; j < plan->token_offsets[t + 1]; j++) {
        const int64_t p = plan->pair_of_token[j];
        double *to = p < plan->offsets[e->problem->layer.E] || one
                         ? add_term(k, MOE_INT_TERM_FOREIGN, p)
                         : NULL;
        if (to)
            moe_int_vector_load(e, which, one ? t : p, one, to);
        if (one)
            break;
    }
}
