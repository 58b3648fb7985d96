#include "check/ranks/cause.h"
#include "route/route.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An explanation leaves at most so much of the squared error that there was. */
static const double most_left = 1e-4;

typedef struct scene {
    const moe_problem *problem;
    const moe_ep_layout *layout;
    const moe_plan *plan; /* of all tokens */
    double *Y, *dXp;      /* [P][d]; NULL: not to be had */
    double *A;            /* [P][n], where experts lie in parts; else NULL */
    int32_t tp;
    bool plain;       /* experts lie whole and once */
    double *dS;       /* [pairs] */
    double *dz;       /* [T][E+n_zero]; NULL: no router */
    double *X;        /* [T][d] */
    int64_t *came_as; /* [P] row that a pair has in its owner's message, as if of the plan */
    int64_t P;
} scene;

static int32_t owner_of(const moe_ep_layout *l, int64_t expert) {
    int32_t q = 0;
    while (l->first[q + 1] <= expert)
        q++;
    return q;
}

/* ---- what causes make; each fills ret, shaped as its tensor, and may take a rank ---- */

typedef void (*make_fn)(const scene *s, int32_t rank, double *ret);

static void dS_in_owner_order(const scene *s, int32_t rank, double *ret) {
    (void)rank;
    for (int64_t p = 0; p < s->P; p++)
        ret[p] = s->dS[s->came_as[p]];
    for (int64_t p = s->P; p < s->plan->n_pairs; p++)
        ret[p] = s->dS[p];
}

static double weight_of(const scene *s, int64_t pair, bool backward) {
    const bool on_input = s->problem->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    return on_input == backward ? s->plan->weight[pair] : 1;
}

/* ret[token of pair] += scale * weight * row */
static void add_pair(const scene *s, double scale, int64_t pair, int64_t row, bool backward,
                     double *ret) {
    const int64_t d = s->problem->layer.d;
    const double *from = (backward ? s->dXp : s->Y) + row * d;
    double *to = ret + s->plan->token[pair] * d;
    for (int64_t i = 0; i < d; i++)
        to[i] += scale * weight_of(s, pair, backward) * from[i];
}

/* The rest of these start from the right tensor in ret. */
static void O_in_owner_order(const scene *s, int32_t rank, double *ret) {
    (void)rank;
    for (int64_t p = 0; p < s->P; p++) {
        add_pair(s, -1, p, p, false, ret);
        add_pair(s, 1, p, s->came_as[p], false, ret);
    }
}

static void without_rank(const scene *s, int32_t rank, bool backward, double *ret) {
    const int64_t first = s->layout->first[rank];
    const int64_t end = s->layout->first[rank + 1];
    for (int64_t p = s->plan->offsets[first]; p < s->plan->offsets[end]; p++)
        add_pair(s, -1, p, p, backward, ret);
}

static void O_without_rank(const scene *s, int32_t rank, double *ret) {
    without_rank(s, rank, false, ret);
}

static void dX_without_rank(const scene *s, int32_t rank, double *ret) {
    without_rank(s, rank, true, ret);
}

/* Leaves of each token, or of each token and rank, the last pairs' or the first pair's part. */
static void thin_out(const scene *s, bool first_of_rank, bool backward, double *ret) {
    for (int64_t t = 0; t < s->plan->n_tokens; t++) {
        const int64_t *row = s->plan->pair_of_token + s->plan->token_offsets[t];
        int64_t count = s->plan->token_offsets[t + 1] - s->plan->token_offsets[t];
        while (count > 0 && row[count - 1] >= s->P)
            count--;
        for (int64_t k = 0; k < count; k++) {
            const int32_t q = owner_of(s->layout, moe_int_plan_expert_of(s->plan, row[k]));
            const int64_t other = first_of_rank ? (k ? row[k - 1] : -1) : row[count - 1];
            const bool same =
                other >= 0 && owner_of(s->layout, moe_int_plan_expert_of(s->plan, other)) == q;
            if (same == first_of_rank)
                add_pair(s, -1, row[k], row[k], backward, ret);
        }
    }
}

static void O_of_first_experts(const scene *s, int32_t rank, double *ret) {
    (void)rank;
    thin_out(s, true, false, ret);
}

static void dX_of_last_rank(const scene *s, int32_t rank, double *ret) {
    (void)rank;
    thin_out(s, false, true, ret);
}

static void add_router_part(const scene *s, int32_t rank, double scale, double *ret) {
    const int64_t n = s->plan->n_experts, d = s->problem->layer.d;
    for (int64_t t = 0; t < s->plan->n_tokens; t++)
        if (moe_int_ranks_home_of(s->layout, t) == rank)
            for (int64_t e = 0; e < n; e++)
                for (int64_t i = 0; i < d; i++)
                    ret[e * d + i] += scale * s->dz[t * n + e] * s->X[t * d + i];
}

static void router_without_rank(const scene *s, int32_t rank, double *ret) {
    add_router_part(s, rank, -1, ret);
}

static void router_with_rank_twice(const scene *s, int32_t rank, double *ret) {
    add_router_part(s, rank, 1, ret);
}

/* O_t lacks s A W2 of the hidden units that are part `part` of each expert. */
static void O_without_part(const scene *s, int32_t part, double *ret) {
    const int64_t d = s->problem->layer.d, n = s->problem->layer.n;
    const moe_tensor *W2 = &s->problem->in.t[MOE_T_W2];
    const int64_t first = part * n / s->tp, end = (part + 1) * n / s->tp;
    for (int64_t p = 0; p < s->P; p++) {
        const int64_t row = moe_int_plan_expert_of(s->plan, p) * d;
        double *to = ret + s->plan->token[p] * d;
        for (int64_t i = 0; i < d; i++)
            for (int64_t j = first; j < end; j++)
                to[i] -= weight_of(s, p, false) * s->A[p * n + j] *
                         moe_load(W2->data, W2->dtype, (size_t)((row + i) * n + j));
    }
}

/* ---- the bank ---- */

typedef struct cause {
    const char *kind, *text; /* %d: a rank */
    make_fn make;
    moe_tensor_id tensor;
    bool of_rank; /* tried for each */
    bool needs_Y, needs_dXp, needs_dz;
    bool of_part; /* where experts lie in parts: tried for each; else for whole ones */
} cause;

static const cause causes[] = {
    {"ranks_dS_owner_order", "dS goes home in the owner's order of rows", dS_in_owner_order,
     MOE_T_DS, false, false, false, false},
    {"ranks_Y_owner_order", "rows of Y go home in the owner's order", O_in_owner_order, MOE_T_O,
     false, true, false, false},
    {"ranks_first_expert", "of a token's experts on a rank only the first counts",
     O_of_first_experts, MOE_T_O, false, true, false, false},
    {"ranks_O_part_missing", "O lacks what rank %d made", O_without_rank, MOE_T_O, true, true,
     false, false},
    {"ranks_dX_last_part", "dX is the part of a token's last rank alone", dX_of_last_rank, MOE_T_DX,
     false, false, true, false},
    {"ranks_dX_part_missing", "dX lacks what rank %d made", dX_without_rank, MOE_T_DX, true, false,
     true, false},
    {"ranks_sum_missing", "dW_r lacks the tokens of rank %d", router_without_rank, MOE_T_DW_R, true,
     false, false, true},
    {"ranks_sum_twice", "dW_r has the tokens of rank %d twice", router_with_rank_twice, MOE_T_DW_R,
     true, false, false, true},
    {.kind = "ranks_part_missing",
     .text = "O lacks part %d of every expert's units",
     .make = O_without_part,
     .tensor = MOE_T_O,
     .of_part = true},
};

static double distance(const double *a, const double *b, int64_t count) {
    double error = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        error += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return norm > 0 ? error / norm : error > 0 ? INFINITY : 0;
}

static double *doubles_of(const moe_tensor *t) {
    const int64_t count = t->data ? moe_tensor_count(t) : 0;
    double *all = count > 0 ? malloc((size_t)count * sizeof *all) : NULL;
    if (all)
        moe_convert(all, MOE_F64, t->data, t->dtype, (size_t)count);
    return all;
}

static bool is_possible(const cause *c, const scene *s) {
    return (s->Y || !c->needs_Y) && (s->dXp || !c->needs_dXp) && (s->dz || !c->needs_dz) &&
           (s->dS || c->tensor != MOE_T_DS) && (c->of_part ? s->A != NULL : s->plain);
}

static void note(const cause *c, int32_t rank, double before, double after, moe_explanation *ret) {
    moe_explanation x = {.before = before, .after = after, .tried = ret->tried};
    snprintf(x.kind, sizeof x.kind, "%s", c->kind);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* of the table above */
    snprintf(x.text, sizeof x.text, c->text, (int)rank);
#pragma GCC diagnostic pop
    snprintf(x.tensor, sizeof x.tensor, "%s", moe_tensor_name(c->tensor));
    *ret = x;
}

static int32_t times(const cause *c, const scene *s) {
    return c->of_part ? s->tp : c->of_rank ? s->layout->ranks : 1;
}

static bool try_one(const cause *c, const scene *s, const moe_int_run *got,
                    const moe_int_run *right, moe_explanation *ret) {
    const moe_tensor *is = &got->first[c->tensor].tensor, *due = &right->first[c->tensor].tensor;
    double *a = doubles_of(is), *b = doubles_of(due), *made = doubles_of(due);
    const int64_t count = due->data ? moe_tensor_count(due) : 0;
    bool found = false;
    if (a && b && made && moe_tensor_same_shape(is, due)) {
        const double before = distance(a, b, count);
        for (int32_t r = 0; !found && r < times(c, s); r++) {
            memcpy(made, b, (size_t)count * sizeof *made);
            c->make(s, r, made);
            const double after = distance(a, made, count);
            found = before > 0 && after <= most_left * before;
            if (found)
                note(c, r, before, after, ret);
        }
    }
    free(a);
    free(b);
    free(made);
    return found;
}

/* ---- the scene ---- */

/* Did the ranks choose as one does? Rows are compared pair by pair. */
static bool is_same_choice(const moe_int_ranks *k, const moe_int_run *got, const moe_plan *plan) {
    const int64_t bins = plan->n_experts;
    return k->problem->plan ||
           (got->plan && got->plan->n_experts == bins && got->plan->n_pairs == plan->n_pairs &&
            memcmp(got->plan->offsets, plan->offsets, ((size_t)bins + 1) * sizeof(int64_t)) == 0);
}

/* Pairs come to their owner rank by rank, and lie there expert by expert. */
static void list_messages(scene *s) {
    const moe_ep_layout *l = s->layout;
    for (int32_t q = 0; q < l->ranks; q++) {
        const int64_t first = l->first[q];
        const int64_t end = l->first[q + 1];
        int64_t j = s->plan->offsets[first];
        for (int32_t r = 0; r < l->ranks; r++)
            for (int64_t e = first; e < end; e++) {
                int64_t row = s->plan->offsets[e];
                for (int32_t p = 0; p < r; p++)
                    row += l->counts[p * l->slots + e];
                for (int64_t i = 0; i < l->counts[r * l->slots + e]; i++)
                    s->came_as[row + i] = j++;
            }
    }
}

static double *gradient_of_logits(const scene *s, const moe_int_run *right) {
    const int64_t count = s->plan->n_tokens * s->plan->n_experts;
    double *logits = doubles_of(&right->first[MOE_T_LOGITS].tensor);
    double *dz = logits && s->dS ? calloc((size_t)count + 1, sizeof *dz) : NULL;
    if (dz && moe_route_backward(&s->problem->layer, logits, s->plan, s->dS, dz)) {
        free(dz);
        dz = NULL;
    }
    free(logits);
    return dz;
}

void moe_int_ranks_cause(const moe_int_ranks *k, const moe_ep_layout *layout,
                         const moe_int_run *got, const moe_int_run *right,
                         moe_check_result *result) {
    const moe_plan *plan = k->problem->plan ? k->problem->plan : right->plan;
    if (!plan || !is_same_choice(k, got, plan))
        return;
    scene s = {.problem = k->problem,
               .layout = layout,
               .plan = plan,
               .P = plan->offsets[k->problem->layer.E],
               .Y = doubles_of(&right->first[MOE_T_Y].tensor),
               .dXp = doubles_of(&right->first[MOE_T_DXP].tensor),
               .dS = doubles_of(&right->first[MOE_T_DS].tensor),
               .X = doubles_of(&k->problem->in.t[MOE_T_X]),
               .tp = k->ep->tp,
               .plain = k->ep->tp <= 1 && !k->ep->n_replicas};
    if (s.tp > 1)
        s.A = doubles_of(&right->first[MOE_T_A].tensor);
    s.came_as = calloc((size_t)s.P + 1, sizeof *s.came_as);
    s.dz = gradient_of_logits(&s, right);
    bool found = !s.came_as || !s.X;
    if (!found && s.plain)
        list_messages(&s);
    for (size_t i = 0; !found && i < sizeof causes / sizeof *causes; i++)
        found = is_possible(&causes[i], &s) &&
                try_one(&causes[i], &s, got, right, &result->explanation);
    free(s.Y);
    free(s.dXp);
    free(s.dS);
    free(s.X);
    free(s.A);
    free(s.dz);
    free(s.came_as);
}
