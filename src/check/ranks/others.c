/* Rows that are made of another token, or by another expert, than they should be: every expert is
 * run on every token, and what O has is looked for among that. */
#include "check/explain/local.h"
#include "check/ranks/rows.h"
#include "moeref/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of layers of at most so much work, and so many numbers. */
static const double most_flops = 4e9, most_numbers = 6e7;

/* Tokens that every expert can be run on. */
static int64_t room_for(const moe_int_rank_scene *s) {
    const moe_layer_desc *desc = &s->problem->layer;
    const double numbers = (double)s->E * (double)(s->d + 3 * desc->n);
    return (int64_t)fmin(most_flops / moe_layer_flops(desc, 1, s->E, 0), most_numbers / numbers);
}

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
    in.t[MOE_T_X] = (moe_tensor){.data = s->X, .dtype = MOE_F64, .ndim = 2, .shape = {s->T, s->d}};
    if (s->T > room_for(s))
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

/* ---- other tokens ---- */

/* Do all rows that are others' come from one rank in the place of another, and back? */
static bool are_swapped(const moe_int_rank_scene *s, const moe_int_instead *made, int64_t found) {
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

/* Are all of them on one rank? */
static bool are_of_one(const moe_int_rank_scene *s, const moe_int_instead *made, int64_t found) {
    const int32_t owner = s->owner[s->expert[made[0].pair]];
    for (int64_t i = 1; i < found; i++)
        if (s->owner[s->expert[made[i].pair]] != owner)
            return false;
    return found > 2;
}

/* `what`: whose `%s of token` it is; `left`: squared error that they leave. */
static void say_tokens(const moe_int_rank_scene *s, const char *what, const moe_int_instead *made,
                       int64_t found, double left, moe_explanation *ret) {
    const int64_t p = made[0].pair, t = s->plan->token[p], u = made[0].token, e = s->expert[p];
    char ranks[80] = "", expert[48] = "";
    if (are_swapped(s, made, found))
        snprintf(ranks, sizeof ranks, ": rows of ranks %d and %d have changed places",
                 (int)s->home[t], (int)s->home[u]);
    else if (are_of_one(s, made, found))
        snprintf(ranks, sizeof ranks, ": all of them on rank %d", (int)s->owner[e]);
    if (made[0].expert != e)
        snprintf(expert, sizeof expert, " by expert %lld", (long long)made[0].expert);
    moe_int_rank_explain(
        s, "ranks_rows_of_others", left / moe_int_inner(s->right, s->right, s->count), ret,
        "row %lld of expert %lld on rank %d should be made of %stoken %lld of rank "
        "%d, is made of %stoken %lld of rank %d%s; %lld rows are told so%s",
        (long long)(p - s->plan->offsets[e]), (long long)e, (int)s->owner[e], what,
        (long long)moe_int_rank_local(s, t), (int)s->home[t], what,
        (long long)moe_int_rank_local(s, u), (int)s->home[u], expert, (long long)found, ranks);
}

/* Of some wrong tokens, where all are too many, no more is looked for than other experts. */
static bool experts_of_some(const moe_int_rank_scene *s, moe_explanation *ret) {
    enum { FEWEST = 8 };
    moe_int_rank_scene some = {0};
    moe_plan *plan = NULL;
    const int64_t most = room_for(s);
    bool found = false;
    if (most >= FEWEST && moe_int_rank_sample(s, most, &some, &plan)) {
        double *Y = run_all(&some);
        found = Y && moe_int_rank_other_experts(&some, Y, ret);
        free(Y);
    }
    const size_t used = strlen(ret->text);
    if (found)
        snprintf(ret->text + used, sizeof ret->text - used, ", as %lld tokens show",
                 (long long)some.T);
    moe_int_rank_scene_destroy(&some);
    moe_plan_destroy(&plan);
    return found;
}

bool moe_int_rank_made_of_others(const moe_int_rank_scene *s, moe_explanation *ret) {
    moe_int_rows_found found = {0};
    if (!s->Y || s->problem->layer.router.weight_on == MOE_WEIGHT_ON_INPUT)
        return false;
    if (s->T > room_for(s))
        return experts_of_some(s, ret);
    double *Y = run_all(s);
    bool explained = Y && moe_int_rank_other_experts(s, Y, ret);
    if (Y && !explained && moe_int_rank_find_rows(s, Y, &found)) {
        say_tokens(s, "", found.made, found.count, found.left, ret);
        explained = true;
    }
    free(found.made);
    free(Y);
    return explained;
}

/* ---- dO of other tokens ---- */

/* dS of a pair is <dO, Y>: whose dO is it? In 16 bits too many would do. */
bool moe_int_rank_gradients_of_others(const moe_int_rank_scene *s, moe_explanation *ret) {
    const double near = 2e-5;
    moe_int_instead *made = malloc((size_t)(s->P + 1) * sizeof *made);
    int64_t found = 0, wrong = 0;
    double left = 0;
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
            made[found++] = (moe_int_instead){p, t, s->expert[p]};
            left += off * off;
            break;
        }
    }
    const bool explained = found > 2 && found == wrong;
    if (explained)
        say_tokens(s, "dO of ", made, found, left, ret);
    free(made);
    return explained;
}
