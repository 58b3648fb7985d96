/* Plans as slots, [T][columns], the way callers of operators bring and get them. */
#include "layer/traits.h"
#include "moeref/plan.h"

#include <stdlib.h>

static int64_t expert_at(const moe_view *index, int64_t i) {
    return index->dtype == MOE_I32 ? ((const int32_t *)index->data)[i]
                                   : ((const int64_t *)index->data)[i];
}

/* The description was checked. */
int64_t moe_route_columns(const moe_layer_desc *desc) {
    const moe_int_pairs_rule rule = moe_int_select_rules[desc->router.select].pairs;
    return rule == MOE_INT_PAIRS_PER_TOKEN ? desc->K : desc->E + desc->n_zero;
}

typedef struct pairs {
    int32_t *token, *expert;
    double *weight;
    int64_t count;
} pairs;

static void collect(const moe_view *index, const moe_view *weight, int64_t n_experts, pairs *ret) {
    const int64_t columns = index->shape[1], slots = index->shape[0] * columns;
    for (int64_t i = 0; i < slots; i++) {
        const int64_t e = expert_at(index, i);
        if (e < 0 || e >= n_experts)
            continue;
        ret->token[ret->count] = (int32_t)(i / columns);
        ret->expert[ret->count] = (int32_t)e;
        ret->weight[ret->count++] =
            weight->data ? moe_load(weight->data, (moe_dtype)weight->dtype, (size_t)i) : 1;
    }
}

moe_status moe_plan_of_slots(const moe_view *index, const moe_view *weight, int64_t n_experts,
                             const moe_log *log, moe_plan **ret) {
    const size_t slots = (size_t)(index->shape[0] * index->shape[1]);
    pairs p = {.token = malloc(slots * sizeof *p.token),
               .expert = malloc(slots * sizeof *p.expert),
               .weight = malloc(slots * sizeof *p.weight)};
    moe_status status = MOE_OK;
    if (!p.token || !p.expert || !p.weight)
        status = moe_fail(log, MOE_E_NOMEM, "no memory for the plan of %zu slots", slots);
    if (!status) {
        collect(index, weight, n_experts, &p);
        status = moe_plan_create(index->shape[0], n_experts, p.count, p.token, p.expert, p.weight,
                                 log, ret);
    }
    free(p.token);
    free(p.expert);
    free(p.weight);
    return status;
}

/* [n_pairs]; the caller frees. */
static moe_status experts_of(const moe_plan *plan, const moe_log *log, int32_t **ret) {
    int32_t *expert = malloc((size_t)(plan->n_pairs ? plan->n_pairs : 1) * sizeof *expert);
    if (!expert)
        return moe_fail(log, MOE_E_NOMEM, "no memory for the experts of a plan");
    for (int64_t e = 0; e < plan->n_experts; e++)
        for (int64_t i = plan->offsets[e]; i < plan->offsets[e + 1]; i++)
            expert[i] = (int32_t)e;
    *ret = expert;
    return MOE_OK;
}

moe_status moe_plan_index_slots(const moe_plan *plan, const moe_view *ret_index,
                                const moe_log *log) {
    int32_t *expert = NULL;
    if (!ret_index->data)
        return MOE_OK;
    moe_status status = experts_of(plan, log, &expert);
    if (status)
        return status;
    const int64_t columns = ret_index->shape[1];
    for (int64_t t = 0; t < plan->n_tokens; t++)
        for (int64_t c = 0; c < columns; c++) {
            const int64_t i = plan->token_offsets[t] + c;
            const bool is_pair = i < plan->token_offsets[t + 1];
            moe_store(ret_index->data, (moe_dtype)ret_index->dtype, (size_t)(t * columns + c),
                      is_pair ? expert[plan->pair_of_token[i]] : -1);
        }
    free(expert);
    return MOE_OK;
}

/* The pair of a slot, or -1. */
static int64_t pair_of(const moe_plan *plan, const int32_t *expert, const moe_view *index,
                       int64_t t, int64_t c, int64_t columns) {
    const int64_t first = plan->token_offsets[t], end = plan->token_offsets[t + 1];
    if (!index)
        return first + c < end ? plan->pair_of_token[first + c] : -1;
    const int64_t e = expert_at(index, t * columns + c);
    for (int64_t i = first; i < end; i++)
        if (expert[plan->pair_of_token[i]] == e)
            return plan->pair_of_token[i];
    return -1;
}

moe_status moe_plan_fill_slots(const moe_plan *plan, const moe_view *index,
                               const moe_tensor *values, const moe_view *ret, const moe_log *log) {
    int32_t *expert = NULL;
    moe_status status = experts_of(plan, log, &expert);
    if (status)
        return status;
    const int64_t columns = ret->shape[1];
    for (int64_t t = 0; t < plan->n_tokens; t++)
        for (int64_t c = 0; c < columns; c++) {
            const int64_t pair = pair_of(plan, expert, index, t, c, columns);
            const double value = pair < 0 ? 0 : moe_load(values->data, values->dtype, (size_t)pair);
            moe_store(ret->data, (moe_dtype)ret->dtype, (size_t)(t * columns + c), value);
        }
    free(expert);
    return MOE_OK;
}

moe_status moe_plan_take_slots(const moe_plan *plan, const moe_view *index, const moe_view *slots,
                               moe_tensor *ret_values, const moe_log *log) {
    int32_t *expert = NULL;
    moe_status status = experts_of(plan, log, &expert);
    if (status)
        return status;
    const int64_t columns = slots->shape[1];
    for (int64_t t = 0; t < plan->n_tokens; t++)
        for (int64_t c = 0; c < columns; c++) {
            const int64_t pair = pair_of(plan, expert, index, t, c, columns);
            if (pair >= 0)
                moe_store(
                    ret_values->data, ret_values->dtype, (size_t)pair,
                    moe_load(slots->data, (moe_dtype)slots->dtype, (size_t)(t * columns + c)));
        }
    free(expert);
    return MOE_OK;
}
