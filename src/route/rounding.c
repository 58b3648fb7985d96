/* Token rounding (SonicMoE, arXiv 2512.14080): every expert's token count becomes a multiple of the
 * GEMM's row tile M, so that no tile is padded. */
#include "core/closed.h"
#include "core/streams.h"
#include "moeref/rng.h"
#include "route/route.h"

#include <stdlib.h>
#include <string.h>

static bool rounds_up(int32_t rule, int64_t f, int64_t tile, uint64_t seed, int64_t e) {
    int64_t quotient = f / tile, rest = f % tile;
    switch ((moe_rounding)rule) {
    case MOE_ROUND_UP:
        return rest > 0;
    case MOE_ROUND_DOWN:
        return false;
    case MOE_ROUND_STOCHASTIC:
        return moe_rng_uniform(seed, MOE_INT_STREAM_ROUNDING, (uint64_t)e) * (double)tile <
               (double)rest;
    case MOE_ROUND_NEAREST:
    case MOE_ROUND_BALANCE: /* starts from nearest */
        return 2 * rest > tile || (2 * rest == tile && quotient % 2 == 1);
    case MOE_ROUND_COUNT:
        break;
    }
    MOE_INT_NO_OTHER_VALUE();
}

/* Moves whole tiles, one expert at a time, until the sum is within half a tile of the original:
 * each time at the expert whose count then lies closest to its own. */
static void balance(int64_t tile, const int64_t *f, int64_t n, int64_t max, int64_t *rounded) {
    int64_t excess = 0;
    for (int64_t e = 0; e < n; e++)
        excess += rounded[e] - f[e];
    while (2 * llabs(excess) > tile) {
        int64_t step = excess > 0 ? -tile : tile, best = -1;
        for (int64_t e = 0; e < n; e++) {
            int64_t moved = rounded[e] + step;
            if (moved < 0 || moved > max || llabs(moved - f[e]) >= tile)
                continue;
            if (best < 0 || llabs(moved - f[e]) < llabs(rounded[best] + step - f[best]))
                best = e;
        }
        if (best < 0)
            return;
        rounded[best] += step;
        excess += step;
    }
}

void moe_int_warn_rounding(int32_t tile, int64_t pairs, int64_t experts, const moe_log *log) {
    if (2 * pairs <= tile * experts)
        moe_log_send(log, MOE_LOG_WARN,
                     "token rounding with %.1f tokens per expert and tile %d: half a tile or less "
                     "per expert, so experts end empty and tokens lose all experts",
                     (double)pairs / (double)experts, tile);
}

moe_status moe_int_round_counts(int32_t rule, int64_t tile, uint64_t seed, const int64_t *f,
                                int64_t n, int64_t max, int64_t *ret) {
    for (int64_t e = 0; e < n; e++) {
        ret[e] = (f[e] / tile + rounds_up(rule, f[e], tile, seed, e)) * tile;
        if (ret[e] > max) /* fewer than M tokens are left: whatever there is */
            ret[e] = max;
    }
    if (rule == MOE_ROUND_BALANCE)
        balance(tile, f, n, max, ret);
    return MOE_OK;
}

/* One expert's column of the preference matrix: the renormalised weight v on its chosen tokens,
 * P - 1 elsewhere, so that every chosen token outranks every other. */
static void preference(const moe_int_selection *in, int64_t e, const double *chosen_sum,
                       const unsigned char *is_chosen, moe_int_ranked *ret) {
    for (int64_t t = 0; t < in->tokens; t++) {
        double p = in->scores[t * in->n + e];
        ret[t].score = is_chosen[t * in->n + e] ? p / chosen_sum[t] : p - 1;
        ret[t].index = (int32_t)t;
    }
}

typedef struct rounding_work {
    int64_t *count, *rounded; /* [n] */
    double *chosen_sum;       /* [T] sum of the top-K scores */
    moe_int_ranked *column;   /* [T] */
    unsigned char *is_chosen; /* [T][n] */
    int32_t *best;            /* [K] */
} rounding_work;

static moe_status work_alloc(const moe_int_selection *in, rounding_work *w) {
    size_t n = (size_t)in->n, T = (size_t)in->tokens, K = (size_t)in->desc->K;
    w->count = calloc(n, sizeof *w->count);
    w->rounded = calloc(n, sizeof *w->rounded);
    w->chosen_sum = calloc(T, sizeof *w->chosen_sum);
    w->column = calloc(T, sizeof *w->column);
    w->is_chosen = calloc(T, n);
    w->best = calloc(K, sizeof *w->best);
    return w->count && w->rounded && w->chosen_sum && w->column && w->is_chosen && w->best
               ? MOE_OK
               : MOE_E_NOMEM;
}

static void work_destroy(rounding_work *w) {
    free(w->count);
    free(w->rounded);
    free(w->chosen_sum);
    free(w->column);
    free(w->is_chosen);
    free(w->best);
}

static void mark_topk(const moe_int_selection *in, rounding_work *w) {
    for (int64_t t = 0; t < in->tokens; t++) {
        const double *p = in->scores + t * in->n;
        int64_t found = moe_int_topk(p, NULL, in->n, in->desc->K, w->best);
        for (int64_t k = 0; k < found; k++) {
            w->chosen_sum[t] += p[w->best[k]];
            w->is_chosen[t * in->n + w->best[k]] = 1;
            w->count[w->best[k]]++;
        }
    }
}

moe_status moe_int_choose_token_rounding(const moe_int_selection *in, moe_int_pairs *ret) {
    const moe_router_desc *r = &in->desc->router;
    rounding_work w = {0};
    moe_status status = work_alloc(in, &w);
    if (!status) {
        moe_int_warn_rounding(r->tile, in->tokens * in->desc->K, in->n, in->log);
        mark_topk(in, &w);
        status = moe_int_round_counts(r->rounding, r->tile, in->seed, w.count, in->n, in->tokens,
                                      w.rounded);
    }
    for (int64_t e = 0; !status && e < in->n; e++) {
        preference(in, e, w.chosen_sum, w.is_chosen, w.column);
        moe_int_rank(w.column, in->tokens);
        for (int64_t k = 0; !status && k < w.rounded[e]; k++)
            status = moe_int_pairs_add(ret, w.column[k].index, e);
    }
    work_destroy(&w);
    return status;
}
