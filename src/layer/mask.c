/* Tokens without experts, and pairs that are left out. */
#include "core/streams.h"
#include "layer/problem.h"

#include <stdlib.h>

/* Marks k random different ones of n, n < 2^31 (Fisher and Yates, stopped early). */
static moe_status mark(uint64_t seed, uint64_t first_index, int64_t n, int64_t k,
                       unsigned char *marked) {
    int32_t *list = malloc(((size_t)n + 1) * sizeof *list);
    if (!list)
        return MOE_E_NOMEM;
    for (int64_t i = 0; i < n; i++)
        list[i] = (int32_t)i;
    for (int64_t i = 0; i < k; i++) {
        uint64_t bits = moe_rng_bits(seed, MOE_INT_STREAM_MASK, first_index + (uint64_t)i) >> 32;
        int64_t j = i + (int64_t)(bits * (uint64_t)(n - i) >> 32);
        int32_t chosen = list[j];
        list[j] = list[i];
        list[i] = chosen;
        marked[chosen] = 1;
    }
    free(list);
    return MOE_OK;
}

moe_status moe_int_draw_mask(const moe_case *c, unsigned char **ret) {
    unsigned char *masked = calloc((size_t)c->T, 1);
    moe_status status = masked ? mark(c->seed, 0, c->T, c->masked, masked) : MOE_E_NOMEM;
    if (status)
        free(masked);
    else
        *ret = masked;
    return status;
}

/* Keeps the pairs that are not marked: by their token, or by themselves. */
static void keep(const unsigned char *marked, bool by_token, int32_t *token, int32_t *expert,
                 int64_t *count) {
    int64_t kept = 0;
    for (int64_t i = 0; i < *count; i++) {
        if (marked[by_token ? token[i] : i])
            continue;
        token[kept] = token[i];
        expert[kept++] = expert[i];
    }
    *count = kept;
}

moe_status moe_int_leave_out(const moe_case *c, int32_t *token, int32_t *expert, int64_t *count) {
    unsigned char *masked = NULL, *dropped = NULL;
    moe_status status = MOE_OK;
    if (c->masked) {
        status = moe_int_draw_mask(c, &masked);
        if (!status)
            keep(masked, true, token, expert, count);
    }
    if (!status && c->drop) {
        dropped = calloc((size_t)*count + 1, 1);
        status = dropped ? mark(c->seed, (uint64_t)c->T, *count, c->drop, dropped) : MOE_E_NOMEM;
        if (!status)
            keep(dropped, false, token, expert, count);
    }
    free(masked);
    free(dropped);
    return status;
}

moe_status moe_int_mask_plan(const moe_problem *problem, moe_plan **plan) {
    const moe_plan *all = *plan;
    size_t room = (size_t)all->n_pairs + 1;
    moe_plan *kept = NULL;
    int64_t n = 0;
    if (!problem->masked)
        return MOE_OK;
    int32_t *token = malloc(room * sizeof *token), *expert = malloc(room * sizeof *expert);
    double *weight = malloc(room * sizeof *weight);
    moe_status status = token && expert && weight ? MOE_OK : MOE_E_NOMEM;
    for (int64_t e = 0; !status && e < all->n_experts; e++) {
        for (int64_t p = all->offsets[e]; p < all->offsets[e + 1]; p++) {
            if (problem->masked[all->token[p]])
                continue;
            token[n] = all->token[p];
            weight[n] = all->weight[p];
            expert[n++] = (int32_t)e;
        }
    }
    if (!status)
        status =
            moe_plan_create(all->n_tokens, all->n_experts, n, token, expert, weight, NULL, &kept);
    free(token);
    free(expert);
    free(weight);
    if (status)
        return status;
    moe_plan_destroy(plan);
    *plan = kept;
    return MOE_OK;
}
