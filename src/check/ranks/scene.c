#include "check/ranks/scene.h"
#include "check/explain/local.h"
#include "check/ranks/ranks.h"
#include "route/route.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An explanation leaves at most so much of the squared error that there was; in 16 bits rounding
 * leaves no less. */
static const double most_left = 1e-4, most_left_low = 1.0 / 30;

static double *doubles_of(const moe_tensor *t) {
    const int64_t count = t->data ? moe_tensor_count(t) : 0;
    double *all = count > 0 ? malloc((size_t)count * sizeof *all) : NULL;
    if (all)
        moe_convert(all, MOE_F64, t->data, t->dtype, (size_t)count);
    return all;
}

static double *gradient_of_logits(const moe_int_rank_scene *s) {
    const int64_t count = s->T * s->plan->n_experts;
    double *logits = doubles_of(&s->is->right->t[MOE_T_LOGITS]);
    double *dz =
        logits && s->dS && !s->problem->plan ? calloc((size_t)count + 1, sizeof *dz) : NULL;
    if (dz && moe_route_backward(&s->problem->layer, logits, s->plan, s->dS, dz)) {
        free(dz);
        dz = NULL;
    }
    free(logits);
    return dz;
}

static void place_all(moe_int_rank_scene *s) {
    const moe_ep_layout *l = s->layout;
    for (int64_t t = 0; t < s->T; t++)
        s->home[t] = moe_int_ranks_home_of(l, t);
    for (int32_t q = 0; s->is->plain && q < s->R; q++)
        for (int64_t e = l->first[q]; e < l->first[q + 1]; e++)
            s->owner[e] = q;
    for (int64_t p = 0; p < s->P; p++)
        s->expert[p] = moe_int_plan_expert_of(s->plan, p);
}

bool moe_int_rank_scene_make(const moe_int_compared *c, moe_int_rank_scene *ret) {
    const moe_tensor *right = c->right->t, *in = c->problem->in.t;
    moe_int_rank_scene *s = ret;
    *s = (moe_int_rank_scene){.is = c,
                              .problem = c->problem,
                              .layout = c->layout,
                              .plan = c->plan,
                              .T = c->problem->T,
                              .E = c->problem->layer.E,
                              .d = c->problem->layer.d,
                              .P = c->plan->offsets[c->problem->layer.E],
                              .R = c->layout->ranks};
    s->expert = calloc((size_t)s->P + 1, sizeof *s->expert);
    s->home = calloc((size_t)s->T + 1, sizeof *s->home);
    s->owner = calloc((size_t)s->E + 1, sizeof *s->owner);
    s->X = doubles_of(&in[MOE_T_X]);
    s->dO = doubles_of(&in[MOE_T_DO]);
    s->Y = doubles_of(&right[MOE_T_Y]);
    s->dXp = doubles_of(&right[MOE_T_DXP]);
    s->A = doubles_of(&right[MOE_T_A]);
    s->dH = doubles_of(&right[MOE_T_DH]);
    s->dS = doubles_of(&right[MOE_T_DS]);
    if (!s->expert || !s->home || !s->owner || !s->X) {
        moe_int_rank_scene_destroy(s);
        return false;
    }
    s->dz = gradient_of_logits(s);
    place_all(s);
    return true;
}

void moe_int_rank_scene_destroy(moe_int_rank_scene *s) {
    double *const all[] = {s->X, s->dO, s->Y, s->dXp, s->A, s->dH, s->dS, s->dz, s->got, s->right};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    free(s->expert);
    free(s->home);
    free(s->owner);
}

bool moe_int_rank_scene_take(moe_int_rank_scene *s, moe_tensor_id id) {
    const moe_tensor *got = &s->is->got->t[id], *right = &s->is->right->t[id];
    double error = 0, norm = 0;
    free(s->got);
    free(s->right);
    s->got = s->right = NULL;
    if (!got->data || !right->data || !moe_tensor_same_shape(got, right))
        return false;
    s->id = id;
    s->count = moe_tensor_count(right);
    s->got = doubles_of(got);
    s->right = doubles_of(right);
    for (int64_t i = 0; s->got && s->right && i < s->count; i++) {
        error += (s->got[i] - s->right[i]) * (s->got[i] - s->right[i]);
        norm += s->right[i] * s->right[i];
    }
    s->before = norm > 0 ? error / norm : 0;
    return s->before > 0 && isfinite(s->before);
}

double moe_int_rank_weight(const moe_int_rank_scene *s, int64_t pair, bool backward) {
    const bool on_input = s->problem->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    return on_input == backward ? s->plan->weight[pair] : 1;
}

bool moe_int_rank_explains(const moe_int_rank_scene *s, double after) {
    return after <= (s->is->low ? most_left_low : most_left) * s->before;
}

void moe_int_rank_explain(const moe_int_rank_scene *s, const char *kind, double after,
                          moe_explanation *ret, const char *format, ...) {
    moe_explanation x = {.before = s->before, .after = after, .tried = ret->tried};
    va_list args;
    va_start(args, format);
    vsnprintf(x.text, sizeof x.text, format, args);
    va_end(args);
    snprintf(x.kind, sizeof x.kind, "%s", kind);
    snprintf(x.tensor, sizeof x.tensor, "%s", moe_tensor_name(s->id));
    *ret = x;
}

double *moe_int_rank_rest(const moe_int_rank_scene *s) {
    const bool backward = s->id == MOE_T_DX;
    const double *rows = backward ? s->dXp : s->Y;
    double *rest = malloc((size_t)(s->T * s->d + 1) * sizeof *rest);
    if (rest)
        memcpy(rest, s->right, (size_t)(s->T * s->d) * sizeof *rest);
    for (int64_t p = 0; rest && p < s->P; p++)
        for (int64_t i = 0; i < s->d; i++)
            rest[s->plan->token[p] * s->d + i] -=
                moe_int_rank_weight(s, p, backward) * rows[p * s->d + i];
    return rest;
}

double moe_int_rank_alike(const moe_int_rank_scene *s) {
    return s->is->low ? 2e-3 : 1e-7;
}

bool moe_int_rank_same_rows(const double *a, const double *b, int64_t n, double most) {
    const double size = moe_int_inner(b, b, n);
    double error = 0;
    for (int64_t i = 0; i < n && error <= most * size; i++)
        error += (a[i] - b[i]) * (a[i] - b[i]);
    return size > 0 && error <= most * size;
}

int64_t moe_int_rank_first(const moe_int_rank_scene *s, int32_t rank) {
    int64_t first = 0;
    for (int32_t q = 0; q < rank; q++)
        first += s->layout->tokens[q];
    return first;
}

int64_t moe_int_rank_local(const moe_int_rank_scene *s, int64_t t) {
    return t - moe_int_rank_first(s, s->home[t]);
}

bool moe_int_rank_is_wrong(const moe_int_rank_scene *s, int64_t t) {
    return !moe_int_rank_same_rows(s->got + t * s->d, s->right + t * s->d, s->d,
                                   10 * moe_int_rank_alike(s));
}
