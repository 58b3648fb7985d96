/* Choosing the scene, and comparing with the subject there. */
#include "check/explain/scene.h"
#include "check/verdict/order.h"
#include "core/samples.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Multiply-adds of one run of the scene: a second on one core, so that a bank of some 60 re-runs,
 * most of which take over what they share with the right one, stays within a minute. */
static const double scene_work = 4e8;

/* Adds each group's share of the tensor's squared error to the token or expert that it is of. */
static void add_errors(const moe_int_evidence *e, moe_tensor_id id, double *token, double *expert) {
    const moe_tensor *got = &e->got.t[id];
    const moe_int_part *part = &e->truth->part[id];
    const moe_tensor *want = e->truth->sampled ? &part->want : &e->truth->oracle->out.t[id];
    const moe_plan *plan = e->routing->plan;
    if (!got->data || !want->data)
        return;
    moe_int_layout l = e->truth->sampled ? part->layout : moe_int_layout_of(id, want);
    double all = 1e-300;
    const double *w = want->data;
    for (int64_t i = 0, count = moe_tensor_count(want); i < count; i++)
        all += isfinite(w[i]) ? w[i] * w[i] : 0;
    for (int64_t g = 0; g < l.groups; g++) {
        double sum = 0;
        for (int64_t c = 0; c < l.width; c++) {
            double v = moe_load(got->data, got->dtype, (size_t)moe_int_layout_flat(&l, g, c));
            double d = v - w[g * l.width + c];
            sum += isfinite(d) ? d * d : isfinite(w[g * l.width + c]) ? all : 0;
        }
        int64_t of = moe_int_layout_group(&l, g), ex = moe_int_layout_expert(&l, plan, g);
        if (l.by == MOE_INT_BY_TOKEN)
            token[of] += sum / all;
        else if (l.by == MOE_INT_BY_PAIR && of < plan->n_pairs)
            token[plan->token[of]] += sum / all;
        else if (l.by == MOE_INT_BY_EXPERT && ex >= 0 && ex < plan->n_experts)
            expert[ex] += sum / all;
    }
}

static bool has(const int64_t *list, int64_t count, int64_t value) {
    for (int64_t i = 0; i < count; i++)
        if (list[i] == value)
            return true;
    return false;
}

/* The index of the largest error that is not in the list, -1: none is above 0. */
static int64_t worst(const double *error, int64_t n, const int64_t *list, int64_t count) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++)
        if (error[i] > 0 && (best < 0 || error[i] > error[best]) && !has(list, count, i))
            best = i;
    return best;
}

static void choose_tokens(const double *error, int64_t most, moe_int_scene *s) {
    int64_t T = s->evidence->problem->T;
    for (int64_t i = 0; i < (most + 1) / 2; i++) {
        int64_t t = worst(error, T, s->tokens, s->n_tokens);
        if (t >= 0)
            s->tokens[s->n_tokens++] = t;
    }
    for (int64_t i = 0; i < most && s->n_tokens < most; i++) {
        int64_t t = i * T / most;
        if (!has(s->tokens, s->n_tokens, t))
            s->tokens[s->n_tokens++] = t;
    }
    qsort(s->tokens, (size_t)s->n_tokens, sizeof *s->tokens, moe_int_compare_int64);
}

static int64_t rows_of(const moe_plan *plan, int64_t e) {
    return plan->offsets[e + 1] - plan->offsets[e];
}

/* Up to three experts with the largest errors, then others that have rows. */
static void choose_experts(const double *error, moe_int_scene *s) {
    const moe_int_evidence *v = s->evidence;
    const moe_plan *plan = v->routing->plan;
    int64_t E = v->problem->layer.E, most = E < 4 ? E : 4;
    while (s->n_experts < 3 && s->n_experts < most) {
        int64_t e = worst(error, E, s->expert, s->n_experts);
        if (e < 0)
            break;
        s->expert[s->n_experts++] = e;
    }
    for (int64_t e = 0; e < E && s->n_experts < most; e++)
        if (rows_of(plan, e) > 0 && !has(s->expert, s->n_experts, e))
            s->expert[s->n_experts++] = e;
    qsort(s->expert, (size_t)s->n_experts, sizeof *s->expert, moe_int_compare_int64);
}

static void choose_slices(moe_int_scene *s) {
    const moe_layer_desc *desc = &s->evidence->problem->layer;
    int64_t each = s->n_experts > 0 ? (MOE_INT_SCENE_UNITS - 2) / s->n_experts : 0;
    for (int64_t i = 0; i < s->n_experts; i++)
        for (int64_t k = 0; k < each && k < 3 && k < desc->n; k++) {
            int64_t unit = k == 0 ? 0 : k == 1 ? desc->n - 1 : desc->n / 3;
            if (k < 2 || unit > 0)
                s->slice[s->n_slices++] = (moe_int_slice){s->expert[i], unit};
        }
    if (desc->n_shared)
        s->slice[s->n_slices++] = (moe_int_slice){-1, desc->n_shared / 2};
}

static bool spot_alloc(int64_t groups, int64_t width, moe_int_spot *ret) {
    *ret = (moe_int_spot){.groups = groups, .width = width, .stride = 1};
    ret->base = calloc((size_t)groups + 1, sizeof *ret->base);
    return ret->base != NULL;
}

/* Row of the whole plan of each of the scene's pairs; a token's pairs ascend by expert in both. */
static void map_pairs(const moe_int_scene *s, int64_t *ret) {
    const moe_plan *full = s->evidence->routing->plan, *sub = s->sub;
    for (int64_t i = 0; i < sub->n_tokens; i++)
        for (int64_t k = sub->token_offsets[i]; k < sub->token_offsets[i + 1]; k++)
            ret[sub->pair_of_token[k]] =
                full->pair_of_token[full->token_offsets[s->tokens[i]] + k - sub->token_offsets[i]];
}

static bool spot_rows(moe_int_scene *s) {
    const moe_layer_desc *desc = &s->evidence->problem->layer;
    int64_t hw = moe_h_width(desc, desc->n), pairs = s->sub->offsets[desc->E];
    int64_t *row = calloc((size_t)s->sub->n_pairs + 1, sizeof *row);
    if (!row)
        return false;
    map_pairs(s, row);
    const struct {
        moe_tensor_id id;
        int64_t groups, width;
    } by_pair[] = {{MOE_T_S, s->sub->n_pairs, 1}, {MOE_T_H, pairs, hw},
                   {MOE_T_A, pairs, desc->n},     {MOE_T_Y, pairs, desc->d},
                   {MOE_T_DH, pairs, hw},         {MOE_T_DXP, pairs, desc->d},
                   {MOE_T_DS, s->sub->n_pairs, 1}};
    bool done = true;
    for (size_t i = 0; done && i < sizeof by_pair / sizeof *by_pair; i++) {
        moe_int_spot *spot = &s->spot[by_pair[i].id];
        done = spot_alloc(by_pair[i].groups, by_pair[i].width, spot);
        for (int64_t g = 0; done && g < spot->groups; g++)
            spot->base[g] = row[g] * spot->width;
    }
    free(row);
    done = done && spot_alloc(s->n_tokens, desc->d, &s->spot[MOE_T_O]) &&
           spot_alloc(s->n_tokens, desc->d, &s->spot[MOE_T_DX]) &&
           spot_alloc(s->n_tokens, s->sub->n_experts, &s->spot[MOE_T_LOGITS]);
    for (int64_t i = 0; done && i < s->n_tokens; i++)
        s->spot[MOE_T_LOGITS].base[i] = s->tokens[i] * s->sub->n_experts;
    for (int64_t i = 0; done && i < s->n_tokens; i++)
        s->spot[MOE_T_O].base[i] = s->spot[MOE_T_DX].base[i] = s->tokens[i] * desc->d;
    return done;
}

/* The places of one kind of slice: the experts', or the shared expert's. */
static bool spot_slices(moe_int_scene *s, bool shared) {
    const moe_layer_desc *desc = &s->evidence->problem->layer;
    int64_t n = shared ? desc->n_shared : desc->n, hw = moe_h_width(desc, n), d = desc->d;
    int64_t count = 0, parts = hw / (n > 0 ? n : 1);
    moe_int_spot *dw1 = &s->spot[shared ? MOE_T_DW1_SHARED : MOE_T_DW1];
    moe_int_spot *dw2 = &s->spot[shared ? MOE_T_DW2_SHARED : MOE_T_DW2];
    moe_int_spot *db1 = &s->spot[MOE_T_DB1];
    for (int64_t i = 0; i < s->n_slices; i++)
        count += (s->slice[i].e < 0) == shared;
    if (!spot_alloc(count * parts, d, dw1) || !spot_alloc(count, d, dw2) ||
        (!shared && !spot_alloc(count * parts, 1, db1)))
        return false;
    dw2->stride = n;
    for (int64_t i = 0, g = 0; i < s->n_slices; i++) {
        if ((s->slice[i].e < 0) != shared)
            continue;
        int64_t e = shared ? 0 : s->slice[i].e, unit = s->slice[i].unit;
        int32_t layout = shared ? MOE_GLU_CONCAT : desc->glu_layout;
        for (int up = 0; up < parts; up++) {
            int64_t row = e * hw + moe_h_column(layout, n, hw, unit, up);
            dw1->base[g * parts + up] = row * d;
            if (!shared)
                db1->base[g * parts + up] = row;
        }
        dw2->base[g++] = e * d * n + unit;
    }
    return true;
}

static bool spot_experts(moe_int_scene *s) {
    int64_t d = s->evidence->problem->layer.d;
    if (!spot_alloc(s->n_experts, d, &s->spot[MOE_T_DB2]) ||
        !spot_alloc(s->n_experts, d, &s->spot[MOE_T_DW_R]) ||
        !spot_alloc(s->n_experts, 1, &s->spot[MOE_T_DB_R]))
        return false;
    for (int64_t i = 0; i < s->n_experts; i++) {
        s->spot[MOE_T_DB2].base[i] = s->spot[MOE_T_DW_R].base[i] = s->expert[i] * d;
        s->spot[MOE_T_DB_R].base[i] = s->expert[i];
    }
    return true;
}

static int64_t tokens_of(const moe_problem *problem) {
    const moe_layer_desc *desc = &problem->layer;
    double each = 1.5 * moe_layer_flops(desc, 1, desc->K, 0);
    int64_t most = (int64_t)(scene_work / (each > 1 ? each : 1));
    most = most < 4 ? 4 : most > MOE_INT_SCENE_TOKENS ? MOE_INT_SCENE_TOKENS : most;
    return most < problem->T ? most : problem->T;
}

static double *gather(const moe_int_scene *s, moe_tensor_id id) {
    int64_t d = s->evidence->problem->layer.d;
    double *out = malloc((size_t)(s->n_tokens * d + 1) * sizeof *out);
    for (int64_t i = 0; out && i < s->n_tokens; i++)
        moe_int_load(&s->evidence->problem->in.t[id], s->tokens[i] * d, d, out + i * d);
    return out;
}

moe_status moe_int_scene_settle(moe_int_scene *s) {
    const moe_int_evidence *e = s->evidence;
    bool done = !moe_plan_subset(e->routing->plan, s->tokens, s->n_tokens, &s->sub) &&
                spot_rows(s) && spot_slices(s, false) && spot_slices(s, true) && spot_experts(s) &&
                (s->X = gather(s, MOE_T_X)) != NULL;
    if (done && e->problem->pass & MOE_PASS_BWD)
        done = (s->dO = gather(s, MOE_T_DO)) != NULL;
    return done ? MOE_OK : MOE_E_NOMEM;
}

moe_status moe_int_scene_make(const moe_int_evidence *e, moe_int_scene *ret) {
    int64_t T = e->problem->T, R = e->routing->plan->n_experts;
    *ret = (moe_int_scene){.evidence = e, .stored_error = NAN};
    double *token = calloc((size_t)T, sizeof *token), *expert = calloc((size_t)R, sizeof *expert);
    ret->tokens = calloc(MOE_INT_SCENE_TOKENS, sizeof *ret->tokens);
    bool done = token && expert && ret->tokens;
    for (int id = 0; done && id < MOE_T_COUNT; id++)
        if (e->wrong[id])
            add_errors(e, (moe_tensor_id)id, token, expert);
    if (done) {
        choose_tokens(token, tokens_of(e->problem), ret);
        choose_experts(expert, ret);
        choose_slices(ret);
    }
    free(token);
    free(expert);
    return done ? moe_int_scene_settle(ret) : MOE_E_NOMEM;
}

void moe_int_scene_destroy(moe_int_scene *s) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        free(s->spot[id].base);
    moe_plan_destroy(&s->sub);
    free(s->tokens);
    free(s->X);
    free(s->dO);
    memset(s, 0, sizeof *s);
}

moe_int_squares moe_int_scene_squares(const moe_int_scene *s, moe_tensor_id id, int64_t first,
                                      int64_t end, const double *value, const double *base) {
    const moe_int_spot *spot = &s->spot[id];
    const moe_tensor *got = &s->evidence->got.t[id];
    moe_int_squares sum = {0};
    for (int64_t i = first * spot->width; i < end * spot->width; i++) {
        int64_t at = spot->base[i / spot->width] + i % spot->width * spot->stride;
        double v = moe_load(got->data, got->dtype, (size_t)at), d = v - value[i];
        if (isfinite(base[i]))
            sum.r2 += base[i] * base[i];
        if (isfinite(value[i]))
            sum.d2 += isfinite(d) ? d * d : INFINITY;
        else if (isfinite(v))
            sum.d2 = INFINITY;
    }
    return sum;
}

double moe_int_scene_residual(const moe_int_scene *s, moe_tensor_id id, const double *value,
                              const double *base) {
    if (!s->evidence->got.t[id].data || !value || !base)
        return -1;
    moe_int_squares k = moe_int_scene_squares(s, id, 0, s->spot[id].groups, value, base);
    return k.r2 > 0 ? k.d2 / k.r2 : k.d2 > 0 ? INFINITY : 0;
}
