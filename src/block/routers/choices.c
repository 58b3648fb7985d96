/* Routers in which tokens are chosen among some, or leave a layer out. */
#include "block/routers/routers.h"
#include "moeref/rng.h"
#include "route/route.h"

#include <stdlib.h>
#include <string.h>

#define TWO moe_int_tape_of_two

/* Adds the pairs of expert e with its `take` best tokens among those marked. */
static moe_status take_best(const moe_int_writing *k, int scores, int64_t e,
                            const unsigned char *marked, int64_t take, moe_int_pairs *ret) {
    const moe_int_step *s = &k->tape->step[scores];
    moe_int_ranked *column = malloc((size_t)k->T * sizeof *column);
    moe_status status = column ? MOE_OK : MOE_E_NOMEM;
    int64_t n = 0;
    for (int64_t t = 0; column && t < k->T; t++)
        if (marked[t])
            column[n++] = (moe_int_ranked){s->x[t * s->columns + e], (int32_t)t};
    if (!status)
        moe_int_rank(column, n);
    for (int64_t i = 0; !status && i < n && i < take; i++)
        status = moe_int_pairs_add(ret, column[i].index, e);
    free(column);
    return status;
}

static const moe_plan *plan_of(const moe_int_writing *k, moe_status status, moe_int_pairs *pairs) {
    moe_plan *plan = NULL;
    if (!status)
        status = moe_plan_create(k->T, k->desc.E, pairs->count, pairs->token, pairs->expert, NULL,
                                 k->tape->log, &plan);
    moe_int_pairs_destroy(pairs);
    return moe_int_tape_keep_plan(k->tape, status, plan);
}

/* Token t's kind, drawn. */
int moe_int_modality(uint64_t seed, int64_t t) {
    return (int)(moe_rng_bits(seed, MOE_INT_PARAMETER_STREAM - 1, (uint64_t)t) & 1);
}

/* Weights sigmoid(z), not divided by their sum; experts 0 .. E/2 - 1 choose among tokens of kind 0,
 * the others among those of kind 1, each K in E/2 of them (MoMa, arXiv 2407.21770). */
int moe_int_write_modalities(const moe_int_writing *k) {
    const int64_t E = k->desc.E, half = E / 2;
    const int z = moe_int_logits(k, k->x, 0);
    unsigned char *marked = malloc((size_t)k->T);
    moe_int_pairs pairs = {0};
    moe_status status = k->tape->status ? k->tape->status : marked ? MOE_OK : MOE_E_NOMEM;
    for (int64_t e = 0; !status && e < E; e++) {
        const int kind = e >= half;
        const int64_t experts = kind ? E - half : half;
        int64_t tokens = 0;
        for (int64_t t = 0; t < k->T; t++)
            tokens += marked[t] = moe_int_modality(k->seed, t) == kind;
        status = take_best(k, z, e, marked, (tokens * k->desc.K + experts - 1) / experts, &pairs);
    }
    free(marked);
    const moe_plan *plan = plan_of(k, status, &pairs);
    return moe_int_experts(k, k->x, moe_int_tape_of(k->tape, MOE_INT_STEP_SIGMOID, z, 0), plan);
}

/* x + sigmoid(z) E(x) of the `take` best marked tokens at expert 0, x of the others; marks are left
 * on those that were taken. */
static int take_and_skip(const moe_int_writing *k, int x, int64_t l, int64_t take,
                         unsigned char *marked) {
    const int z = moe_int_logits(k, x, l);
    moe_int_pairs pairs = {0};
    moe_status status = k->tape->status;
    if (!status)
        status = take_best(k, z, 0, marked, take, &pairs);
    memset(marked, 0, (size_t)k->T);
    for (int64_t i = 0; i < pairs.count; i++)
        marked[pairs.token[i]] = 1;
    const moe_plan *plan = plan_of(k, status, &pairs);
    const int w = moe_int_tape_of(k->tape, MOE_INT_STEP_SIGMOID, z, 0);
    return TWO(k->tape, MOE_INT_STEP_ADD, x, moe_int_experts(k, x, w, plan));
}

static int skipped(const moe_int_writing *k, int64_t times) {
    unsigned char *marked = malloc((size_t)k->T);
    int x = k->x;
    if (!marked) {
        k->tape->status = MOE_E_NOMEM;
        return 0;
    }
    memset(marked, 1, (size_t)k->T);
    for (int64_t l = 0, take = k->desc.router.capacity; l < times; l++, take = (take + 1) / 2)
        x = take_and_skip(k, x, l, take, marked);
    free(marked);
    return x;
}

/* arXiv 2404.02258: one expert, which is the whole network of a layer. */
int moe_int_write_depths(const moe_int_writing *k) {
    return skipped(k, 1);
}

/* arXiv 2507.10524: the tokens that stay go through the same network once more. */
int moe_int_write_recursions(const moe_int_writing *k) {
    return skipped(k, k->layers);
}

/* Weights 1 whatever the scores: no gradient reaches the router (arXiv 2503.02495's code). */
int moe_int_write_unweighted(const moe_int_writing *k) {
    const int z = moe_int_logits(k, k->x, 0);
    const moe_plan *plan = moe_int_chosen(k, z);
    return moe_int_experts(k, k->x, moe_int_ones(k, k->T, k->desc.E, -1), plan);
}
