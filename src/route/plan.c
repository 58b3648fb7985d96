/* Plans: building from pairs, taking subsets, checking what came from outside. */
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static moe_plan *plan_alloc(int64_t n_tokens, int64_t n_experts, int64_t n_pairs) {
    moe_plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return NULL;
    size_t slots = n_pairs > 0 ? (size_t)n_pairs : 1;
    plan->n_tokens = n_tokens;
    plan->n_experts = n_experts;
    plan->n_pairs = n_pairs;
    plan->offsets = calloc((size_t)n_experts + 1, sizeof *plan->offsets);
    plan->token = calloc(slots, sizeof *plan->token);
    plan->weight = calloc(slots, sizeof *plan->weight);
    plan->token_offsets = calloc((size_t)n_tokens + 1, sizeof *plan->token_offsets);
    plan->pair_of_token = calloc(slots, sizeof *plan->pair_of_token);
    if (!plan->offsets || !plan->token || !plan->weight || !plan->token_offsets ||
        !plan->pair_of_token)
        moe_plan_destroy(&plan);
    return plan;
}

void moe_plan_destroy(moe_plan **plan) {
    if (!plan || !*plan)
        return;
    free((*plan)->offsets);
    free((*plan)->token);
    free((*plan)->weight);
    free((*plan)->token_offsets);
    free((*plan)->pair_of_token);
    free(*plan);
    *plan = NULL;
}

/* Turns counts in start[1..n] into running sums: start[i] is where bin i begins. */
static void counts_to_offsets(int64_t *start, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        start[i + 1] += start[i];
}

/* token_offsets and pair_of_token from offsets and token; walking the rows in order leaves each
 * token's rows in ascending expert order. */
static moe_status fill_inverse(moe_plan *plan) {
    int64_t *next = malloc(((size_t)plan->n_tokens + 1) * sizeof *next);
    if (!next)
        return MOE_E_NOMEM;
    for (int64_t p = 0; p < plan->n_pairs; p++)
        plan->token_offsets[plan->token[p] + 1]++;
    counts_to_offsets(plan->token_offsets, plan->n_tokens);
    memcpy(next, plan->token_offsets, (size_t)plan->n_tokens * sizeof *next);
    for (int64_t p = 0; p < plan->n_pairs; p++)
        plan->pair_of_token[next[plan->token[p]]++] = p;
    free(next);
    return MOE_OK;
}

/* Stable counting sort of pairs by key; order[] lists pair indices, before and after. */
static moe_status sort_by(const int32_t *key, int64_t n_keys, const int64_t *order, int64_t n,
                          int64_t *ret_order) {
    int64_t *start = calloc((size_t)n_keys + 1, sizeof *start);
    if (!start)
        return MOE_E_NOMEM;
    for (int64_t i = 0; i < n; i++)
        start[key[i] + 1]++;
    counts_to_offsets(start, n_keys);
    for (int64_t i = 0; i < n; i++) {
        int64_t pair = order ? order[i] : i;
        ret_order[start[key[pair]]++] = pair;
    }
    free(start);
    return MOE_OK;
}

static moe_status check_pairs(int64_t n_tokens, int64_t n_experts, int64_t n_pairs,
                              const int32_t *token, const int32_t *expert, const moe_log *log) {
    for (int64_t i = 0; i < n_pairs; i++) {
        if (token[i] < 0 || token[i] >= n_tokens || expert[i] < 0 || expert[i] >= n_experts)
            return moe_fail(log, MOE_E_INVALID,
                            "pair %lld is (token %d, expert %d), outside %lld tokens and %lld "
                            "experts",
                            (long long)i, token[i], expert[i], (long long)n_tokens,
                            (long long)n_experts);
    }
    return MOE_OK;
}

/* Rows of `plan` from pairs listed by expert, then token. */
static moe_status fill_rows(moe_plan *plan, const int64_t *order, const int32_t *token,
                            const int32_t *expert, const double *weight, const moe_log *log) {
    for (int64_t p = 0; p < plan->n_pairs; p++) {
        int64_t i = order[p];
        if (p && token[order[p - 1]] == token[i] && expert[order[p - 1]] == expert[i])
            return moe_fail(log, MOE_E_INVALID, "token %d is sent to expert %d twice", token[i],
                            expert[i]);
        plan->token[p] = token[i];
        plan->weight[p] = weight ? weight[i] : 1.0;
        plan->offsets[expert[i] + 1]++;
    }
    counts_to_offsets(plan->offsets, plan->n_experts);
    return fill_inverse(plan);
}

moe_status moe_plan_create(int64_t n_tokens, int64_t n_experts, int64_t n_pairs,
                           const int32_t *token, const int32_t *expert, const double *weight,
                           const moe_log *log, moe_plan **ret) {
    moe_status status = check_pairs(n_tokens, n_experts, n_pairs, token, expert, log);
    if (status)
        return status;
    size_t slots = n_pairs > 0 ? (size_t)n_pairs : 1;
    int64_t *by_token = malloc(slots * sizeof *by_token);
    int64_t *by_expert = malloc(slots * sizeof *by_expert);
    moe_plan *plan = plan_alloc(n_tokens, n_experts, n_pairs);
    status = by_token && by_expert && plan ? MOE_OK : MOE_E_NOMEM;
    if (!status)
        status = sort_by(token, n_tokens, NULL, n_pairs, by_token);
    if (!status)
        status = sort_by(expert, n_experts, by_token, n_pairs, by_expert);
    if (!status)
        status = fill_rows(plan, by_expert, token, expert, weight, log);
    if (status == MOE_E_NOMEM)
        moe_fail(log, status, "no memory for a plan of %lld pairs", (long long)n_pairs);
    free(by_token);
    free(by_expert);
    if (status)
        moe_plan_destroy(&plan);
    else
        *ret = plan;
    return status;
}

moe_status moe_plan_copy(const moe_plan *plan, moe_plan **ret) {
    moe_plan *copy = plan_alloc(plan->n_tokens, plan->n_experts, plan->n_pairs);
    if (!copy)
        return MOE_E_NOMEM;
    size_t pairs = (size_t)plan->n_pairs;
    memcpy(copy->offsets, plan->offsets, ((size_t)plan->n_experts + 1) * sizeof *copy->offsets);
    memcpy(copy->token, plan->token, pairs * sizeof *copy->token);
    memcpy(copy->weight, plan->weight, pairs * sizeof *copy->weight);
    memcpy(copy->token_offsets, plan->token_offsets,
           ((size_t)plan->n_tokens + 1) * sizeof *copy->token_offsets);
    memcpy(copy->pair_of_token, plan->pair_of_token, pairs * sizeof *copy->pair_of_token);
    *ret = copy;
    return MOE_OK;
}

moe_status moe_plan_subset(const moe_plan *plan, const int64_t *tokens, int64_t count,
                           moe_plan **ret) {
    int64_t *row_of = malloc((size_t)plan->n_tokens * sizeof *row_of);
    if (!row_of)
        return MOE_E_NOMEM;
    for (int64_t t = 0; t < plan->n_tokens; t++)
        row_of[t] = -1;
    for (int64_t i = 0; i < count; i++)
        row_of[tokens[i]] = i;
    size_t slots = plan->n_pairs > 0 ? (size_t)plan->n_pairs : 1;
    int32_t *token = malloc(slots * sizeof *token);
    int32_t *expert = malloc(slots * sizeof *expert);
    double *weight = malloc(slots * sizeof *weight);
    moe_status status = token && expert && weight ? MOE_OK : MOE_E_NOMEM;
    int64_t n = 0;
    for (int64_t e = 0; !status && e < plan->n_experts; e++) {
        for (int64_t p = plan->offsets[e]; p < plan->offsets[e + 1]; p++) {
            if (row_of[plan->token[p]] < 0)
                continue;
            token[n] = (int32_t)row_of[plan->token[p]];
            expert[n] = (int32_t)e;
            weight[n++] = plan->weight[p];
        }
    }
    if (!status)
        status = moe_plan_create(count, plan->n_experts, n, token, expert, weight, NULL, ret);
    free(row_of);
    free(token);
    free(expert);
    free(weight);
    return status;
}

static moe_status check_rows(const moe_plan *plan, const moe_log *log) {
    for (int64_t e = 0; e < plan->n_experts; e++) {
        int64_t begin = plan->offsets[e], end = plan->offsets[e + 1];
        if (begin > end || begin < 0 || end > plan->n_pairs)
            return moe_fail(log, MOE_E_INVALID,
                            "plan: offsets of expert %lld run from %lld to %lld", (long long)e,
                            (long long)begin, (long long)end);
        for (int64_t p = begin; p < end; p++) {
            if (plan->token[p] < 0 || plan->token[p] >= plan->n_tokens)
                return moe_fail(
                    log, MOE_E_INVALID, "plan: row %lld, of expert %lld, names token %d of %lld",
                    (long long)p, (long long)e, plan->token[p], (long long)plan->n_tokens);
            if (p > begin && plan->token[p - 1] == plan->token[p])
                return moe_fail(log, MOE_E_INVALID,
                                "plan: expert %lld has token %d twice, in rows %lld and %lld",
                                (long long)e, plan->token[p], (long long)p - 1, (long long)p);
            if (p > begin && plan->token[p - 1] > plan->token[p])
                return moe_fail(log, MOE_E_INVALID,
                                "plan: tokens of expert %lld do not ascend at row %lld",
                                (long long)e, (long long)p);
        }
    }
    return MOE_OK;
}

static moe_status check_inverse(const moe_plan *plan, const moe_log *log) {
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        int64_t begin = plan->token_offsets[t], end = plan->token_offsets[t + 1];
        bool ok = begin >= 0 && begin <= end && end <= plan->n_pairs;
        for (int64_t i = begin; ok && i < end; i++) {
            int64_t p = plan->pair_of_token[i];
            ok = p >= 0 && p < plan->n_pairs && plan->token[p] == t &&
                 (i == begin || plan->pair_of_token[i - 1] < p);
        }
        if (!ok)
            return moe_fail(log, MOE_E_INVALID, "plan: the inverse map is wrong at token %lld",
                            (long long)t);
    }
    return MOE_OK;
}

moe_status moe_plan_check(const moe_plan *plan, const moe_log *log) {
    if (plan->n_tokens < 1 || plan->n_experts < 1 || plan->n_pairs < 0)
        return moe_fail(log, MOE_E_INVALID, "plan: %lld tokens, %lld experts, %lld pairs",
                        (long long)plan->n_tokens, (long long)plan->n_experts,
                        (long long)plan->n_pairs);
    if (plan->offsets[0] != 0 || plan->offsets[plan->n_experts] != plan->n_pairs ||
        plan->token_offsets[0] != 0 || plan->token_offsets[plan->n_tokens] != plan->n_pairs)
        return moe_fail(log, MOE_E_INVALID, "plan: offsets do not span its %lld pairs",
                        (long long)plan->n_pairs);
    moe_status status = check_rows(plan, log);
    return status ? status : check_inverse(plan, log);
}

int64_t moe_int_plan_expert_of(const moe_plan *plan, int64_t row) {
    int64_t low = 0, high = plan->n_experts; /* offsets[low] <= row < offsets[high] */
    while (high - low > 1) {
        int64_t mid = low + (high - low) / 2;
        if (plan->offsets[mid] <= row)
            low = mid;
        else
            high = mid;
    }
    return low;
}

moe_status moe_plan_slots(const moe_plan *plan, int64_t columns, moe_tensor *ret) {
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        int64_t n = plan->token_offsets[t + 1] - plan->token_offsets[t];
        columns = n > columns ? n : columns;
    }
    moe_tensor slots;
    moe_status status = moe_tensor_alloc(MOE_I64, 2, (int64_t[]){plan->n_tokens, columns}, &slots);
    if (status)
        return status;
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        int64_t first = plan->token_offsets[t], n = plan->token_offsets[t + 1] - first;
        for (int64_t k = 0; k < columns; k++)
            ((int64_t *)slots.data)[t * columns + k] =
                k < n ? moe_int_plan_expert_of(plan, plan->pair_of_token[first + k]) : -1;
    }
    *ret = slots;
    return MOE_OK;
}
