/* Tokens that went out in 8 bits and were read with other scales than their own. */
#include "check/explain/local.h"
#include "check/ranks/scene.h"
#include "core/coded.h"
#include "moeref/ep.h"
#include "moeref/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = MOE_INT_CODED_BLOCK };

/* Each way runs the experts again: of layers of at most so much work. */
static const double most_flops = 1e9;

typedef struct scales {
    double *of; /* [T][blocks] */
    int64_t blocks;
} scales;

static double largest(const moe_int_rank_scene *s, int64_t t, int64_t block) {
    double most = 0;
    for (int64_t i = block * BLOCK; i < s->d && i < (block + 1) * BLOCK; i++)
        most = fmax(most, fabs(s->X[t * s->d + i]));
    return most > 0 ? most / 448 : 1;
}

static bool list(const moe_int_rank_scene *s, scales *ret) {
    ret->blocks = (s->d + BLOCK - 1) / BLOCK;
    ret->of = malloc((size_t)(s->T * ret->blocks + 1) * sizeof *ret->of);
    for (int64_t i = 0; ret->of && i < s->T * ret->blocks; i++)
        ret->of[i] = largest(s, i / ret->blocks, i % ret->blocks);
    return ret->of != NULL;
}

/* ---- ways to take another scale for that of a block of a token ---- */

typedef double (*scale_fn)(const moe_int_rank_scene *s, const scales *k, int64_t t, int64_t block);

static double none(const moe_int_rank_scene *s, const scales *k, int64_t t, int64_t block) {
    (void)s, (void)k, (void)t, (void)block;
    return 1;
}

/* Of the token so many further on, round about among those of its rank. */
static double of_other(const moe_int_rank_scene *s, const scales *k, int64_t t, int64_t block,
                       int64_t step) {
    const int32_t r = s->home[t];
    const int64_t n = s->layout->tokens[r], first = moe_int_rank_first(s, r);
    return k->of[(first + (t - first + step + n) % n) * k->blocks + block];
}

static double of_former(const moe_int_rank_scene *s, const scales *k, int64_t t, int64_t block) {
    return of_other(s, k, t, block, -1);
}

static double of_next(const moe_int_rank_scene *s, const scales *k, int64_t t, int64_t block) {
    return of_other(s, k, t, block, 1);
}

static double of_former_block(const moe_int_rank_scene *s, const scales *k, int64_t t,
                              int64_t block) {
    (void)s;
    return k->of[t * k->blocks + (block + k->blocks - 1) % k->blocks];
}

static double of_next_block(const moe_int_rank_scene *s, const scales *k, int64_t t,
                            int64_t block) {
    (void)s;
    return k->of[t * k->blocks + (block + 1) % k->blocks];
}

static double of_first_block(const moe_int_rank_scene *s, const scales *k, int64_t t,
                             int64_t block) {
    (void)s, (void)block;
    return k->of[t * k->blocks];
}

static double of_largest(const moe_int_rank_scene *s, const scales *k, int64_t t, int64_t block) {
    double most = 0;
    (void)s, (void)block;
    for (int64_t b = 0; b < k->blocks; b++)
        most = fmax(most, k->of[t * k->blocks + b]);
    return most;
}

/* [T][blocks] read as [blocks][T]: the layout of DeepGEMM's scales. */
static double transposed(const moe_int_rank_scene *s, const scales *k, int64_t t, int64_t block) {
    const int32_t r = s->home[t];
    const int64_t n = s->layout->tokens[r], first = moe_int_rank_first(s, r);
    return k->of[first * k->blocks + block * n + (t - first)];
}

/* Of 8 bits themselves (e8m0), as microscaled formats have them, rounded up or to the nearest. */
static double power_above(const moe_int_rank_scene *s, const scales *k, int64_t t, int64_t block) {
    (void)s;
    return exp2(ceil(log2(k->of[t * k->blocks + block])));
}

static double nearest_power(const moe_int_rank_scene *s, const scales *k, int64_t t,
                            int64_t block) {
    (void)s;
    return exp2(rint(log2(k->of[t * k->blocks + block])));
}

static double power_below(const moe_int_rank_scene *s, const scales *k, int64_t t, int64_t block) {
    (void)s;
    return exp2(floor(log2(k->of[t * k->blocks + block])));
}

static const struct {
    scale_fn scale;
    const char *what;
} ways[] = {
    {none, "without their scales"},
    {of_former, "with the scales of the token before"},
    {of_next, "with the scales of the token after"},
    {of_former_block, "with the scales of the 128 values before"},
    {of_next_block, "with the scales of the 128 values after"},
    {of_first_block, "with the scale of their first 128 values"},
    {of_largest, "with the largest of their scales alone"},
    {transposed, "with scales of a rank read as [block][token]"},
    {power_above, "with the power of two above each scale"},
    {nearest_power, "with the power of two nearest to each scale"},
    {power_below, "with the power of two below each scale"},
};
enum { WAYS = sizeof ways / sizeof *ways };

/* ---- the experts again ---- */

static moe_plan *sent_plan(const moe_int_rank_scene *s) {
    int32_t *expert = malloc((size_t)(s->P + 1) * sizeof *expert);
    moe_plan *plan = NULL;
    for (int64_t p = 0; expert && p < s->P; p++)
        expert[p] = (int32_t)s->expert[p];
    if (expert &&
        moe_plan_create(s->T, s->E, s->P, s->plan->token, expert, s->plan->weight, NULL, &plan))
        plan = NULL;
    free(expert);
    return plan;
}

/* Squared error that is left where tokens are X, over the square of what is right. */
static double left_by(const moe_int_rank_scene *s, const moe_plan *plan, const double *rest,
                      double *X) {
    moe_layer_desc desc = s->problem->layer;
    moe_tensors in = s->problem->in;
    moe_reference_result *run = NULL;
    double error = 0;
    desc.n_shared = desc.shared_gate = desc.n_zero = 0;
    in.t[MOE_T_DO] = (moe_tensor){0};
    in.t[MOE_T_X] = (moe_tensor){.data = X, .dtype = MOE_F64, .ndim = 2, .shape = {s->T, s->d}};
    const moe_reference_params params = {
        .tokens = s->T, .precision = MOE_F64, .threads = 1, .plan = plan, .plan_given = 1};
    if (moe_reference_run(&desc, &in, &params, NULL, &run))
        return INFINITY;
    const double *O = run->out.t[MOE_T_O].data;
    for (int64_t i = 0; i < s->T * s->d; i++)
        error += (O[i] + rest[i] - s->got[i]) * (O[i] + rest[i] - s->got[i]);
    moe_reference_result_destroy(&run);
    return error / moe_int_inner(s->right, s->right, s->count);
}

static bool try_way(const moe_int_rank_scene *s, const scales *k, const moe_plan *plan,
                    const double *rest, int way, double *X, moe_explanation *ret) {
    bool changes = false;
    for (int64_t i = 0; i < s->T * s->d; i++) {
        const int64_t t = i / s->d, block = i % s->d / BLOCK;
        const double own = k->of[t * k->blocks + block], is = ways[way].scale(s, k, t, block);
        X[i] = s->X[i] * is / own;
        changes = changes || is != own;
    }
    const double after = changes ? left_by(s, plan, rest, X) : INFINITY;
    const bool found = moe_int_rank_explains(s, after);
    if (found)
        moe_int_rank_explain(s, "ranks_scales", after, ret, "rows of X are read %s",
                             ways[way].what);
    return found;
}

bool moe_int_rank_other_scales(const moe_int_rank_scene *s, moe_explanation *ret) {
    scales k = {NULL, 0};
    if (s->problem->split.wire != MOE_EP_WIRE_E4M3 || !s->Y ||
        moe_layer_flops(&s->problem->layer, s->T, s->P, 0) > most_flops || !list(s, &k))
        return false;
    moe_plan *plan = sent_plan(s);
    double *rest = moe_int_rank_rest(s), *X = malloc((size_t)(s->T * s->d + 1) * sizeof *X);
    bool found = false;
    for (int way = 0; plan && rest && X && !found && way < WAYS; way++)
        found = try_way(s, &k, plan, rest, way, X, ret);
    moe_plan_destroy(&plan);
    free(rest);
    free(X);
    free(k.of);
    return found;
}
