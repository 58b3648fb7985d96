/* Rows of X that came from other ranks without their last columns: zeros stand there. */
#include "check/explain/local.h"
#include "check/ranks/scene.h"
#include "moeref/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where rows may end: so many equal steps, and so many powers of two before the end. */
enum { STEPS = 64, POWERS = 10, ENDS = STEPS + POWERS };
/* Of layers of at most so much work. */
static const double most_flops = 2e9;

static bool is_remote(const moe_int_rank_scene *s, int64_t p) {
    return s->owner[s->expert[p]] != s->home[s->plan->token[p]];
}

/* Candidates, each once and none of all columns. */
static int64_t list_ends(int64_t d, int64_t ends[ENDS]) {
    int64_t count = 0;
    for (int i = 0; i < ENDS; i++) {
        const int64_t end = i < STEPS ? d * i / STEPS : d - ((int64_t)1 << (i - STEPS));
        bool known = end < 0 || end >= d;
        for (int64_t j = 0; !known && j < count; j++)
            known = ends[j] == end;
        if (!known)
            ends[count++] = end;
    }
    return count;
}

/* Tokens of which each has some columns of a token of the layer, and some of its pairs. */
typedef struct cut_tokens {
    int64_t count, pairs;
    double *X; /* [count][d] */
    int32_t *token, *expert;
    double *weight; /* [pairs] */
} cut_tokens;

static bool cut_make(const moe_int_rank_scene *s, int64_t count, int64_t pairs, cut_tokens *ret) {
    *ret = (cut_tokens){.count = count};
    ret->X = calloc((size_t)(count * s->d) + 1, sizeof *ret->X);
    ret->token = malloc((size_t)(pairs + 1) * sizeof *ret->token);
    ret->expert = malloc((size_t)(pairs + 1) * sizeof *ret->expert);
    ret->weight = malloc((size_t)(pairs + 1) * sizeof *ret->weight);
    return ret->X && ret->token && ret->expert && ret->weight;
}

static void cut_free(cut_tokens *k) {
    free(k->X);
    free(k->token);
    free(k->expert);
    free(k->weight);
}

/* Token `as` has the first columns of token t, and of its pairs those of other ranks. */
static void add_token(const moe_int_rank_scene *s, int64_t t, int64_t as, int64_t columns,
                      cut_tokens *k) {
    memcpy(k->X + as * s->d, s->X + t * s->d, (size_t)columns * sizeof *k->X);
    for (int64_t i = s->plan->token_offsets[t]; i < s->plan->token_offsets[t + 1]; i++) {
        const int64_t p = s->plan->pair_of_token[i];
        if (p >= s->P || !is_remote(s, p))
            continue;
        k->token[k->pairs] = (int32_t)as;
        k->expert[k->pairs] = (int32_t)s->expert[p];
        k->weight[k->pairs++] = s->plan->weight[p];
    }
}

/* O [count][d] of them, by the experts alone; NULL: no memory. */
static double *run(const moe_int_rank_scene *s, const cut_tokens *k) {
    moe_layer_desc desc = s->problem->layer;
    moe_tensors in = s->problem->in;
    moe_plan *plan = NULL;
    moe_reference_result *made = NULL;
    double *O = NULL;
    desc.n_shared = desc.shared_gate = desc.n_zero = 0;
    in.t[MOE_T_DO] = (moe_tensor){0};
    in.t[MOE_T_X] =
        (moe_tensor){.data = k->X, .dtype = MOE_F64, .ndim = 2, .shape = {k->count, s->d}};
    if (moe_plan_create(k->count, s->E, k->pairs, k->token, k->expert, k->weight, NULL, &plan))
        return NULL;
    const moe_reference_params params = {
        .tokens = k->count, .precision = MOE_F64, .threads = 1, .plan = plan, .plan_given = 1};
    if (!moe_reference_run(&desc, &in, &params, NULL, &made)) {
        O = made->out.t[MOE_T_O].data;
        made->out.t[MOE_T_O].data = NULL;
    }
    moe_reference_result_destroy(&made);
    moe_plan_destroy(&plan);
    return O;
}

/* What a token's row has beside what other ranks made of it, where all else is right. */
static void without_remote(const moe_int_rank_scene *s, int64_t t, double *ret) {
    memcpy(ret, s->right + t * s->d, (size_t)s->d * sizeof *ret);
    for (int64_t i = s->plan->token_offsets[t]; i < s->plan->token_offsets[t + 1]; i++) {
        const int64_t p = s->plan->pair_of_token[i];
        for (int64_t c = 0; p < s->P && is_remote(s, p) && c < s->d; c++)
            ret[c] -= s->plan->weight[p] * s->Y[p * s->d + c];
    }
}

static double squared_off(const double *got, const double *rest, const double *made, int64_t d) {
    double sum = 0;
    for (int64_t c = 0; c < d; c++)
        sum += (got[c] - rest[c] - made[c]) * (got[c] - rest[c] - made[c]);
    return sum;
}

/* The number of columns by which token t's row is told best; -1: no memory. */
static int64_t columns_of(const moe_int_rank_scene *s, int64_t t, double *rest) {
    int64_t ends[ENDS], best = -1;
    const int64_t count = list_ends(s->d, ends);
    const int64_t pairs = s->plan->token_offsets[t + 1] - s->plan->token_offsets[t];
    cut_tokens k;
    double least = INFINITY, *O = NULL;
    if (cut_make(s, count, count * pairs, &k)) {
        for (int64_t i = 0; i < count; i++)
            add_token(s, t, i, ends[i], &k);
        O = run(s, &k);
    }
    without_remote(s, t, rest);
    for (int64_t i = 0; O && i < count; i++) {
        const double off = squared_off(s->got + t * s->d, rest, O + i * s->d, s->d);
        if (off < least) {
            least = off;
            best = ends[i];
        }
    }
    free(O);
    cut_free(&k);
    return best;
}

/* The share of O's squares that is left where all rows from other ranks have so many columns. */
static double left_by(const moe_int_rank_scene *s, int64_t columns, double *rest) {
    cut_tokens k;
    double left = 0, *O = NULL;
    if (cut_make(s, s->T, s->P, &k)) {
        for (int64_t t = 0; t < s->T; t++)
            add_token(s, t, t, columns, &k);
        O = run(s, &k);
    }
    for (int64_t t = 0; O && t < s->T; t++) {
        without_remote(s, t, rest);
        left += squared_off(s->got + t * s->d, rest, O + t * s->d, s->d);
    }
    const bool made = O != NULL;
    free(O);
    cut_free(&k);
    return made ? left / moe_int_inner(s->right, s->right, s->count) : INFINITY;
}

bool moe_int_rank_lost_columns(const moe_int_rank_scene *s, moe_explanation *ret) {
    const int64_t K = s->P / (s->T > 0 ? s->T : 1) + 1;
    int64_t t = 0;
    if (!s->Y || s->problem->layer.router.weight_on == MOE_WEIGHT_ON_INPUT ||
        moe_layer_flops(&s->problem->layer, s->T + ENDS, (s->T + ENDS) * K, 0) > most_flops)
        return false;
    while (t < s->T && !moe_int_rank_is_wrong(s, t))
        t++;
    double *rest = malloc((size_t)(s->d + 1) * sizeof *rest);
    const int64_t columns = rest && t < s->T ? columns_of(s, t, rest) : -1;
    const double after = columns >= 0 ? left_by(s, columns, rest) : INFINITY;
    const bool found = moe_int_rank_explains(s, after);
    if (found)
        moe_int_rank_explain(s, "ranks_columns_lost", after, ret,
                             "rows of X that come from other ranks are zero from column %lld on, "
                             "of %lld",
                             (long long)columns, (long long)s->d);
    free(rest);
    return found;
}
