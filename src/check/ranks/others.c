/* Rows on a rank that were made of another token, or with another expert's weights, than they
 * should be: every expert is run on every token, and what O has is looked for among that. */
#include "check/explain/local.h"
#include "check/ranks/scene.h"
#include "moeref/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of layers of at most so much work, and so many numbers. */
static const double most_flops = 4e9, most_numbers = 6e7;

/* Y [E][T][d]; NULL: too large, or no memory. */
static double *run_all(const moe_int_rank_scene *s) {
    moe_layer_desc desc = s->problem->layer;
    const int64_t pairs = s->T * s->E;
    moe_tensors in = s->problem->in;
    moe_plan *plan = NULL;
    moe_reference_result *run = NULL;
    double *Y = NULL;
    in.t[MOE_T_DO] = (moe_tensor){0};
    desc.n_shared = desc.shared_gate = desc.n_zero = 0;
    if (moe_layer_flops(&desc, s->T, pairs, 0) > most_flops ||
        (double)pairs * (double)(s->d + 3 * desc.n) > most_numbers)
        return NULL;
    int32_t *token = malloc((size_t)(pairs + 1) * sizeof *token);
    int32_t *expert = malloc((size_t)(pairs + 1) * sizeof *expert);
    for (int64_t p = 0; token && expert && p < pairs; p++) {
        token[p] = (int32_t)(p % s->T);
        expert[p] = (int32_t)(p / s->T);
    }
    const bool listed =
        token && expert && !moe_plan_create(s->T, s->E, pairs, token, expert, NULL, NULL, &plan);
    const moe_reference_params params = {
        .tokens = s->T, .precision = MOE_F64, .threads = 1, .plan = plan, .plan_given = 1};
    if (listed && !moe_reference_run(&desc, &in, &params, NULL, &run)) {
        Y = run->out.t[MOE_T_Y].data;
        run->out.t[MOE_T_Y].data = NULL;
    }
    moe_reference_result_destroy(&run);
    moe_plan_destroy(&plan);
    free(token);
    free(expert);
    return Y;
}

/* A pair of a wrong token, and the token and expert of which its row is made instead. */
typedef struct instead {
    int64_t pair, token, expert;
    double left; /* squared error that this leaves */
} instead;

/* Is `row` [d], of pair p, what another expert makes of its token, or its expert of another? */
static bool find_maker(const moe_int_rank_scene *s, const double *Y, const double *row, int64_t p,
                       instead *ret) {
    const int64_t t = s->plan->token[p], e = s->expert[p];
    *ret = (instead){p, t, e, 0};
    for (int64_t f = 0; f < s->E; f++)
        if (f != e && moe_int_rank_same_rows(row, Y + (f * s->T + t) * s->d, s->d,
                                             10 * moe_int_rank_alike(s))) {
            ret->expert = f;
            return true;
        }
    for (int64_t u = 0; u < s->T; u++)
        if (u != t && moe_int_rank_same_rows(row, Y + (e * s->T + u) * s->d, s->d,
                                             10 * moe_int_rank_alike(s))) {
            ret->token = u;
            return true;
        }
    return false;
}

/* If but one of a token's rows is wrong: what it is, is what O lacks of the others. */
static bool find_one(const moe_int_rank_scene *s, const double *Y, int64_t t, double *row,
                     instead *ret) {
    for (int64_t k = s->plan->token_offsets[t]; k < s->plan->token_offsets[t + 1]; k++) {
        const int64_t p = s->plan->pair_of_token[k];
        const double w = s->plan->weight[p];
        if (p >= s->P || w == 0)
            continue;
        for (int64_t i = 0; i < s->d; i++)
            row[i] = s->Y[p * s->d + i] + (s->got[t * s->d + i] - s->right[t * s->d + i]) / w;
        if (!find_maker(s, Y, row, p, ret))
            continue;
        const double *made = Y + (ret->expert * s->T + ret->token) * s->d;
        for (int64_t i = 0; i < s->d; i++)
            ret->left += w * w * (row[i] - made[i]) * (row[i] - made[i]);
        return true;
    }
    return false;
}

/* ---- other tokens ---- */

/* Do all rows that are others' come from one rank in the place of another, and back? */
static bool are_swapped(const moe_int_rank_scene *s, const instead *made, int64_t found) {
    const int32_t a = s->home[s->plan->token[made[0].pair]], b = s->home[made[0].token];
    int64_t back = 0;
    for (int64_t i = 0; i < found; i++) {
        const int32_t is = s->home[s->plan->token[made[i].pair]], was = s->home[made[i].token];
        if (!((is == a && was == b) || (is == b && was == a)))
            return false;
        back += is == b;
    }
    return a != b && back > 0;
}

/* `what`: whose `%s of token` it is. */
static void say_tokens(const moe_int_rank_scene *s, const char *what, const instead *made,
                       int64_t found, moe_explanation *ret) {
    const int64_t p = made[0].pair, t = s->plan->token[p], u = made[0].token, e = s->expert[p];
    char ranks[80] = "";
    double left = 0;
    for (int64_t i = 0; i < found; i++)
        left += made[i].left;
    if (are_swapped(s, made, found))
        snprintf(ranks, sizeof ranks, ": rows of ranks %d and %d have changed places",
                 (int)s->home[t], (int)s->home[u]);
    moe_int_rank_explain(
        s, "ranks_rows_of_others", left / moe_int_inner(s->right, s->right, s->count), ret,
        "row %lld of expert %lld on rank %d should be made of %stoken %lld of rank "
        "%d, is made of %stoken %lld of rank %d; %lld rows are told so%s",
        (long long)(p - s->plan->offsets[e]), (long long)e, (int)s->owner[e], what,
        (long long)moe_int_rank_local(s, t), (int)s->home[t], what,
        (long long)moe_int_rank_local(s, u), (int)s->home[u], (long long)found, ranks);
}

/* Tokens of which but one row is wrong, and made of another token or by another expert. */
static int64_t find_makers(const moe_int_rank_scene *s, const double *Y, instead *made,
                           int64_t *ret_experts) {
    double *row = malloc((size_t)(s->d + 1) * sizeof *row);
    int64_t found = 0;
    *ret_experts = 0;
    for (int64_t t = 0; row && t < s->T; t++)
        if (moe_int_rank_is_wrong(s, t) && find_one(s, Y, t, row, &made[found])) {
            *ret_experts += made[found].expert != s->expert[made[found].pair];
            found++;
        }
    free(row);
    return found;
}

bool moe_int_rank_made_of_others(const moe_int_rank_scene *s, moe_explanation *ret) {
    const bool on_input = s->problem->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    double *Y = s->Y && !on_input ? run_all(s) : NULL;
    instead *made = malloc((size_t)(s->T + 1) * sizeof *made);
    bool explained = false;
    if (Y && made) {
        int64_t experts;
        const int64_t found = find_makers(s, Y, made, &experts);
        explained = moe_int_rank_other_experts(s, Y, ret);
        if (!explained && experts == 0 && found > 1) {
            say_tokens(s, "", made, found, ret);
            explained = true;
        }
    }
    free(Y);
    free(made);
    return explained;
}

/* ---- dO of other tokens ---- */

/* dS of a pair is <dO, Y>: whose dO is it? In 16 bits too many would do. */
bool moe_int_rank_gradients_of_others(const moe_int_rank_scene *s, moe_explanation *ret) {
    const double near = 2e-5;
    instead *made = malloc((size_t)(s->P + 1) * sizeof *made);
    int64_t found = 0, wrong = 0;
    const bool possible = made && s->Y && s->dO && !s->is->low &&
                          s->problem->layer.router.weight_on == MOE_WEIGHT_ON_OUTPUT;
    for (int64_t p = 0; possible && p < s->P; p++) {
        const double *y = s->Y + p * s->d, is = s->got[p];
        const double size = sqrt(moe_int_inner(y, y, s->d) * (double)s->d) * near;
        if (fabs(is - s->right[p]) <= size)
            continue;
        wrong++;
        for (int64_t t = 0; t < s->T; t++) {
            const double off = moe_int_inner(s->dO + t * s->d, y, s->d) - is;
            if (fabs(off) > size / 4)
                continue;
            made[found++] = (instead){p, t, s->expert[p], off * off};
            break;
        }
    }
    const bool explained = found > 2 && found == wrong;
    if (explained)
        say_tokens(s, "dO of ", made, found, ret);
    free(made);
    return explained;
}
