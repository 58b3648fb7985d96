#include "check/invariance/arrange.h"
#include "check/routing/choice.h"
#include "route/route.h"

#include <stdlib.h>
#include <string.h>

static int64_t in_order(int64_t i, int64_t T, int64_t pool) {
    (void)T;
    return i % pool;
}

static int64_t reversed(int64_t i, int64_t T, int64_t pool) {
    return (T - 1 - i) % pool;
}

/* 167 is prime to every size below. */
static int64_t shuffled(int64_t i, int64_t T, int64_t pool) {
    return (i * 167 + 5) % T % pool;
}

/* Half of the places hold the last of the others' token again. */
static int64_t padded(int64_t i, int64_t T, int64_t pool) {
    return (i < T / 2 ? i : T / 2 - 1) % pool;
}

static int64_t last(int64_t i, int64_t T, int64_t pool) {
    (void)i, (void)T;
    return pool - 1;
}

static int64_t middle(int64_t i, int64_t T, int64_t pool) {
    (void)i, (void)T;
    return pool / 2;
}

const moe_int_arrangement moe_int_arrangements[] = {
    {"in order", MOE_INT_POOL, in_order},
    {"again", MOE_INT_POOL, in_order},
    {"alone", 1, in_order},
    {"last alone", 1, last},
    {"middle alone", 1, middle},
    {"in order", 2, in_order},
    {"in order", 17, in_order},
    {"in order", 64, in_order},
    {"in order", 257, in_order},
    {"reversed", 17, reversed},
    {"reversed", 257, reversed},
    {"reversed", MOE_INT_POOL, reversed},
    {"shuffled", 64, shuffled},
    {"shuffled", MOE_INT_POOL, shuffled},
    {"padded", 64, padded},
    {"padded", MOE_INT_POOL, padded},
};
const int moe_int_arrangement_count = sizeof moe_int_arrangements / sizeof *moe_int_arrangements;

static moe_status take_rows(const moe_tensor *src, const moe_int_arrangement *a, int64_t pool,
                            moe_tensor *ret) {
    const int64_t shape[2] = {a->tokens, src->shape[1]};
    *ret = (moe_tensor){0};
    if (!src->data)
        return MOE_OK;
    moe_status status = moe_tensor_alloc(src->dtype, 2, shape, ret);
    const size_t bytes = moe_dtype_size(src->dtype) * (size_t)src->shape[1];
    for (int64_t i = 0; !status && i < a->tokens; i++)
        memcpy((char *)ret->data + (size_t)i * bytes,
               (const char *)src->data + (size_t)a->at(i, a->tokens, pool) * bytes, bytes);
    return status;
}

static moe_status take_plan(const moe_plan *plan, const moe_int_arrangement *a, int64_t pool,
                            moe_plan **ret) {
    int64_t pairs = 0, n = 0;
    for (int64_t i = 0; i < a->tokens; i++)
        pairs += moe_int_experts_of(plan, a->at(i, a->tokens, pool));
    const size_t slots = (size_t)pairs + 1;
    int32_t *token = malloc(slots * sizeof *token), *expert = malloc(slots * sizeof *expert);
    double *weight = malloc(slots * sizeof *weight);
    moe_status status = token && expert && weight ? MOE_OK : MOE_E_NOMEM;
    for (int64_t i = 0; !status && i < a->tokens; i++) {
        const int64_t t = a->at(i, a->tokens, pool);
        for (int64_t k = 0; k < moe_int_experts_of(plan, t); k++, n++) {
            const int64_t row = plan->pair_of_token[plan->token_offsets[t] + k];
            token[n] = (int32_t)i;
            expert[n] = (int32_t)moe_int_plan_expert_of(plan, row);
            weight[n] = plan->weight[row];
        }
    }
    if (!status)
        status = moe_plan_create(a->tokens, plan->n_experts, n, token, expert, weight, NULL, ret);
    free(token);
    free(expert);
    free(weight);
    return status;
}

moe_status moe_int_arrange(const moe_problem *problem, const moe_int_arrangement *a, int64_t pool,
                           const moe_plan *plan, moe_problem *ret) {
    *ret = *problem;
    ret->T = a->tokens;
    ret->plan = ret->expected_plan = NULL;
    ret->in.t[MOE_T_DO] = (moe_tensor){0};
    moe_status status = take_rows(&problem->in.t[MOE_T_X], a, pool, &ret->in.t[MOE_T_X]);
    if (!status && (problem->pass & MOE_PASS_BWD))
        status = take_rows(&problem->in.t[MOE_T_DO], a, pool, &ret->in.t[MOE_T_DO]);
    if (!status && plan)
        status = take_plan(plan, a, pool, &ret->plan);
    if (status)
        moe_int_arrange_end(ret);
    return status;
}

void moe_int_arrange_end(moe_problem *arranged) {
    moe_tensor_destroy(&arranged->in.t[MOE_T_X]);
    moe_tensor_destroy(&arranged->in.t[MOE_T_DO]);
    moe_plan_destroy(&arranged->plan);
}
