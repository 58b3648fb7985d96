/* How often each part of a sum counts. A token's row of O or dX is a sum over its pairs, an
 * expert's gradient one over the ranks whose tokens it sees, the router's one over all ranks: with
 * as many elements as there are in a row, how often each part is in it follows by least squares. */
#include "check/ranks/shares.h"
#include "check/explain/local.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Deviations of a share that are taken for rounding, in what rounding leaves of a term; and the
 * least: fp32 sums of long rows, and in 16 bits roundings that terms share. */
static const double slack_sigmas = 12, least_slack = 1e-4, least_slack_low = 1e-2;

typedef struct solver {
    const moe_int_rank_scene *s;
    moe_int_share *share;
    int64_t shares;
    double *term, *times; /* [most][width], [most] */
    int64_t most, width;
    double left; /* squared error that no shares explain */
} solver;

static bool solver_make(const moe_int_rank_scene *s, int64_t shares, int64_t most, int64_t width,
                        solver *ret) {
    *ret = (solver){.s = s, .most = most, .width = width};
    ret->share = calloc((size_t)shares + 1, sizeof *ret->share);
    ret->term = malloc((size_t)(most * width + 1) * sizeof *ret->term);
    ret->times = malloc((size_t)(most + 1) * sizeof *ret->times);
    return ret->share && ret->term && ret->times;
}

static void solver_free(solver *v) {
    free(v->share);
    free(v->term);
    free(v->times);
}

/* Fits `count` terms to `want`; terms[0 .. own) are those of the shares that begin at `first`. */
static void fit(solver *v, int64_t count, int64_t own, const double *want, moe_int_share *first) {
    const double left =
        count < v->width ? moe_int_fit(v->term, count, v->width, want, v->times) : -1;
    for (int64_t i = 0; i < own; i++) {
        const double *term = v->term + i * v->width;
        const double size = moe_int_inner(term, term, v->width);
        first[i].times = left < 0 ? 1 : v->times[i];
        first[i].slack = left < 0 || size <= 0
                             ? INFINITY
                             : (v->s->is->low ? least_slack_low : least_slack) +
                                   slack_sigmas * sqrt(left / (double)(v->width - count) / size);
    }
    v->left += left < 0 ? moe_int_inner(want, want, v->width) : left;
}

static double norm_of(const moe_int_rank_scene *s) {
    return moe_int_inner(s->right, s->right, s->count);
}

/* ---- rows of tokens ---- */

static moe_int_share share_of(const moe_int_rank_scene *s, int64_t expert, int32_t home) {
    const int32_t owner = s->owner[expert];
    return (moe_int_share){.pair = -1,
                           .expert = expert,
                           .home = home,
                           .owner = owner,
                           .weight = 1,
                           .boundary = owner > 0 && expert == s->layout->first[owner],
                           .top = expert + 1 == s->layout->first[owner + 1]};
}

static moe_int_share share_of_home(int32_t home) {
    return (moe_int_share){.pair = -1, .expert = -1, .home = home, .owner = -1, .weight = 1};
}

static void describe_pair(const moe_int_rank_scene *s, int64_t p, moe_int_share *ret) {
    *ret = share_of(s, s->expert[p], s->home[s->plan->token[p]]);
    ret->pair = p;
    ret->weight = s->plan->weight[p];
    ret->bottom = p + 1 == s->plan->offsets[s->layout->first[ret->owner + 1]];
}

/* Shares of one token, whose pairs lie by expert and so by rank. */
static void describe_places(moe_int_share *share, int64_t count) {
    int32_t ranks = 0;
    for (int64_t i = 0; i < count; i++) {
        share[i].first = i == 0 || share[i - 1].owner != share[i].owner;
        share[i].last = i + 1 == count || share[i + 1].owner != share[i].owner;
        share[i].first_rank = share[i].owner == share[0].owner;
        share[i].last_rank = share[i].owner == share[count - 1].owner;
        share[i].start = i == 0;
        share[i].end = i + 1 == count;
        ranks += share[i].first;
    }
    for (int64_t i = 0; i < count; i++)
        share[i].ranks = ranks;
}

/* Pairs of a token that are sent, described into ret. */
static int64_t pairs_of(const moe_int_rank_scene *s, int64_t t, moe_int_share *ret) {
    int64_t count = 0;
    for (int64_t k = s->plan->token_offsets[t]; k < s->plan->token_offsets[t + 1]; k++)
        if (s->plan->pair_of_token[k] < s->P)
            describe_pair(s, s->plan->pair_of_token[k], &ret[count++]);
    describe_places(ret, count);
    return count;
}

static int64_t most_pairs(const moe_plan *plan) {
    int64_t most = 0;
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        const int64_t count = plan->token_offsets[t + 1] - plan->token_offsets[t];
        most = count > most ? count : most;
    }
    return most;
}

/* Of O and dX. What is in a row beside its pairs' parts is taken as it should be. */
static bool of_tokens(solver *v, const moe_int_rank_scene *s) {
    const bool backward = s->id == MOE_T_DX;
    const double *rows = backward ? s->dXp : s->Y;
    double *rest = rows ? moe_int_rank_rest(s) : NULL;
    if (!rest || !solver_make(s, s->P, most_pairs(s->plan) + 1, s->d, v)) {
        free(rest);
        return false;
    }
    for (int64_t t = 0; t < s->T; t++) {
        moe_int_share *first = v->share + v->shares;
        const int64_t count = pairs_of(s, t, first);
        for (int64_t i = 0; i < count; i++)
            for (int64_t k = 0; k < s->d; k++)
                v->term[i * s->d + k] = moe_int_rank_weight(s, first[i].pair, backward) *
                                        rows[first[i].pair * s->d + k];
        for (int64_t k = 0; k < s->d; k++)
            rest[t * s->d + k] = s->got[t * s->d + k] - rest[t * s->d + k];
        fit(v, count, count, rest + t * s->d, first);
        v->shares += count;
    }
    free(rest);
    return true;
}

/* ---- gradients of experts ---- */

void moe_int_rank_add_outer(const moe_int_rank_scene *s, int64_t p, double *term) {
    const int64_t n = s->problem->layer.n, h = moe_h_width(&s->problem->layer, n), d = s->d;
    const int64_t t = s->plan->token[p];
    const bool second = s->id == MOE_T_DW2;
    const double scale = moe_int_rank_weight(s, p, !second);
    const double *down = second ? s->dO + t * d : s->dH + p * h;
    const double *across = second ? s->A + p * n : s->X + t * d;
    const int64_t rows = second ? d : h, columns = second ? n : d;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            term[i * columns + j] += scale * down[i] * across[j];
}

/* Terms of expert e, one for each rank that sends it tokens; returns how many. */
static int64_t terms_of(solver *v, int64_t e, moe_int_share *ret) {
    const moe_int_rank_scene *s = v->s;
    int64_t count = 0;
    for (int64_t p = s->plan->offsets[e]; p < s->plan->offsets[e + 1]; p++) {
        const int32_t home = s->home[s->plan->token[p]];
        if (count == 0 || ret[count - 1].home != home) {
            memset(v->term + count * v->width, 0, (size_t)v->width * sizeof *v->term);
            ret[count++] = share_of(s, e, home);
        }
        moe_int_rank_add_outer(s, p, v->term + (count - 1) * v->width);
    }
    return count;
}

static bool of_experts(solver *v, const moe_int_rank_scene *s) {
    const bool second = s->id == MOE_T_DW2;
    const int64_t width = s->count / s->E;
    if (!(second ? s->A && s->dO : s->dH != NULL) || !solver_make(s, s->E * s->R, s->R, width, v))
        return false;
    for (int64_t e = 0; e < s->E; e++) {
        moe_int_share *first = v->share + v->shares;
        const int64_t count = terms_of(v, e, first);
        fit(v, count, count, s->got + e * width, first);
        v->shares += count;
    }
    return true;
}

/* ---- gradients of the router ---- */

static bool of_router(solver *v, const moe_int_rank_scene *s) {
    const int64_t n = s->plan->n_experts, d = s->d;
    if (!s->dz || s->count != n * d || !solver_make(s, s->R, s->R, n * d, v))
        return false;
    memset(v->term, 0, (size_t)(s->R * n * d) * sizeof *v->term);
    for (int64_t t = 0; t < s->T; t++) {
        if (v->shares == 0 || v->share[v->shares - 1].home != s->home[t])
            v->share[v->shares++] = share_of_home(s->home[t]);
        double *term = v->term + (v->shares - 1) * v->width;
        for (int64_t e = 0; e < n; e++)
            for (int64_t i = 0; i < d; i++)
                term[e * d + i] += s->dz[t * n + e] * s->X[t * d + i];
    }
    fit(v, v->shares, v->shares, s->got, v->share);
    return true;
}

/* ---- whole rows of ranks ---- */

/* What differences leave. */
static bool is_nothing(const moe_int_rank_scene *s, const double *rest) {
    return moe_int_inner(rest, rest, s->count) <= 1e-12 * norm_of(s);
}

/* Of O and dX: all that a rank's rows are, or what they have beside their experts' parts. */
static bool of_homes(solver *v, const moe_int_rank_scene *s, bool beside) {
    const int64_t d = s->d;
    const double *rows = s->id == MOE_T_DX ? s->dXp : s->Y;
    double *rest = rows ? moe_int_rank_rest(s) : NULL;
    double *want = malloc((size_t)(s->T * d + 1) * sizeof *want);
    const bool ready =
        rest && want && !(beside && is_nothing(s, rest)) && solver_make(s, s->R, 1, s->T * d, v);
    int64_t first = 0;
    for (int64_t i = 0; ready && i < s->T * d; i++) {
        v->term[i] = beside ? rest[i] : s->right[i];
        want[i] = s->got[i] - s->right[i] + v->term[i];
    }
    double *const all = v->term;
    for (int32_t r = 0; ready && r < s->R; first += s->layout->tokens[r++]) {
        if (s->layout->tokens[r] == 0)
            continue;
        v->share[v->shares] = share_of_home(r);
        v->term = all + first * d;
        v->width = s->layout->tokens[r] * d;
        fit(v, 1, 1, want + first * d, &v->share[v->shares++]);
    }
    v->term = all;
    free(rest);
    free(want);
    return ready;
}

/* ---- numbers of pairs ---- */

/* dS and weights, one number a pair: how often it counts is their quotient. */
static bool of_pairs(solver *v, const moe_int_rank_scene *s) {
    const double noise = s->is->low && s->id == MOE_T_DS ? 0.02 : 1e-4; /* weights are in fp32 */
    double norm = 0;
    if (!solver_make(s, s->P, 1, 1, v))
        return false;
    for (int64_t p = 0; p < s->P; p++)
        norm += s->right[p] * s->right[p] / (double)s->P;
    for (int64_t t = 0; t < s->T; t++)
        v->shares += pairs_of(s, t, v->share + v->shares);
    for (int64_t i = 0; i < v->shares; i++) {
        const double right = s->right[v->share[i].pair];
        v->share[i].times = right != 0 ? s->got[v->share[i].pair] / right : 1;
        v->share[i].slack = right != 0 ? noise * sqrt(norm) / fabs(right) : INFINITY;
    }
    return true;
}

static bool solve(solver *v, const moe_int_rank_scene *s) {
    *v = (solver){.s = s};
    switch ((int)s->id) {
    case MOE_T_O:
    case MOE_T_DX:
        return of_tokens(v, s);
    case MOE_T_DW1:
    case MOE_T_DW2:
        return of_experts(v, s);
    case MOE_T_DW_R:
        return of_router(v, s);
    case MOE_T_DS:
    case MOE_T_S:
        return of_pairs(v, s);
    default:
        return false;
    }
}

/* What one has in mind of a token's row that no expert made. */
static void name_beside(const moe_int_rank_scene *s, char *ret, size_t size) {
    const moe_layer_desc *desc = &s->problem->layer;
    const bool router = s->id == MOE_T_DX && s->dz;
    snprintf(ret, size, "%s of %s",
             router && !desc->n_shared && !desc->n_zero   ? "the router's part"
             : !router && desc->n_shared && !desc->n_zero ? "the shared expert's part"
                                                          : "what experts did not make",
             moe_tensor_name(s->id));
}

/* Is there a class that explains shares which leave little of the error? */
static bool settle(const moe_int_rank_scene *s, const solver *v, bool solved, const char *subject,
                   moe_explanation *ret) {
    char text[320];
    const double after = solved ? v->left / norm_of(s) : INFINITY;
    const bool found =
        solved && moe_int_rank_explains(s, after) &&
        (moe_int_rank_class(s, subject, v->share, v->shares, text, sizeof text) ||
         (s->is->plain && (moe_int_rank_others_weights(s, v->share, v->shares, text, sizeof text) ||
                           moe_int_rank_sets(s, subject, v->share, v->shares, text, sizeof text))));
    if (found)
        moe_int_rank_explain(s, "ranks_share", after, ret, "%s", text);
    return found;
}

bool moe_int_rank_shares(const moe_int_rank_scene *s, moe_explanation *ret) {
    const bool of_rows = s->id == MOE_T_O || s->id == MOE_T_DX;
    char beside[64];
    bool found = false;
    name_beside(s, beside, sizeof beside);
    for (int way = 0; !found && way < (of_rows ? 3 : 1); way++) {
        solver v = {.s = s};
        const bool solved = way ? of_homes(&v, s, way == 2) : solve(&v, s);
        found = settle(s, &v, solved, way == 2 ? beside : moe_tensor_name(s->id), ret);
        solver_free(&v);
    }
    return found;
}
