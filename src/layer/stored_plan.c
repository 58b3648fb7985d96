#include "layer/stored_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Names beside the layer's own tensors. */
static const char INDEX[] = "topk_index", OFFSETS[] = "plan_offsets", TOKEN[] = "plan_token";

moe_status moe_int_prefixed_get(const moe_int_prefixed *stored, const char *name, moe_tensor *ret) {
    char full[MOE_INT_STORED_NAME];
    snprintf(full, sizeof full, "%s%s", stored->prefix, name);
    return moe_safetensors_get(stored->file, full, ret);
}

static bool is_unknown(const char *name) {
    static const char *const others[] = {INDEX, OFFSETS, TOKEN, "masked"};
    moe_tensor_id id;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(name, others[i]) == 0)
            return false;
    return moe_tensor_id_parse(name, &id) != MOE_OK;
}

const char *moe_int_stored_unknown(const moe_safetensors *file, char *ret_more, size_t size) {
    const char *first = NULL;
    size_t count = 0;
    for (size_t i = 0; i < moe_safetensors_count(file); i++) {
        if (!is_unknown(moe_safetensors_name(file, i)))
            continue;
        first = first ? first : moe_safetensors_name(file, i);
        count++;
    }
    ret_more[0] = '\0';
    if (count > 1)
        snprintf(ret_more, size, " (the first of %zu such names)", count);
    return first;
}

bool moe_int_stored_has_plan(const moe_int_prefixed *stored) {
    moe_tensor t;
    return moe_int_prefixed_get(stored, INDEX, &t) == MOE_OK ||
           moe_int_prefixed_get(stored, TOKEN, &t) == MOE_OK;
}

static bool is_integer(const moe_tensor *t) {
    return moe_dtype_roundoff(t->dtype) == 0;
}

/* A plan's pairs while they are collected. */
typedef struct pairs {
    int32_t *token, *expert;
    double *weight;
    int64_t count;
} pairs;

static moe_status pairs_alloc(int64_t room, pairs *ret) {
    size_t n = (size_t)room + 1;
    *ret = (pairs){.token = malloc(n * sizeof *ret->token),
                   .expert = malloc(n * sizeof *ret->expert),
                   .weight = malloc(n * sizeof *ret->weight)};
    return ret->token && ret->expert && ret->weight ? MOE_OK : MOE_E_NOMEM;
}

static void pairs_free(pairs *p) {
    free(p->token);
    free(p->expert);
    free(p->weight);
}

/* Anything outside int32_t becomes one that no plan accepts; -1 alone is an empty slot. */
static int32_t index_of(double value) {
    return value >= INT32_MIN && value <= INT32_MAX ? (int32_t)value : INT32_MAX;
}

/* The weights beside a plan, of the shape that it wants. */
static moe_status find_weights(const moe_int_prefixed *s, const moe_tensor *like,
                               const moe_log *log, moe_tensor *ret) {
    char is[96], should[96];
    const char *name = moe_tensor_name(MOE_T_S);
    if (moe_int_prefixed_get(s, name, ret) || is_integer(ret))
        return moe_fail(log, MOE_E_FORMAT, "%s: beside the plan there is no floating %s%s", s->path,
                        s->prefix, name);
    if (!moe_tensor_same_shape(ret, like))
        return moe_fail(log, MOE_E_FORMAT, "%s: %s%s has shape %s, the plan has %s", s->path,
                        s->prefix, name, moe_tensor_shape_str(ret, is, sizeof is),
                        moe_tensor_shape_str(like, should, sizeof should));
    return MOE_OK;
}

static moe_status check_slots(const moe_int_prefixed *s, int64_t tokens, const moe_tensor *index,
                              const moe_log *log) {
    char is[96];
    if (is_integer(index) && index->ndim == 2 && index->shape[0] == tokens)
        return MOE_OK;
    return moe_fail(log, MOE_E_FORMAT, "%s: %s%s must be integers of shape [%lld, K], not %s %s",
                    s->path, s->prefix, INDEX, (long long)tokens, moe_dtype_name(index->dtype),
                    moe_tensor_shape_str(index, is, sizeof is));
}

static moe_status from_slots(const moe_int_prefixed *s, int64_t tokens, const moe_tensor *index,
                             const moe_log *log, pairs *ret) {
    moe_tensor weight;
    moe_status status = check_slots(s, tokens, index, log);
    if (!status)
        status = find_weights(s, index, log, &weight);
    if (!status)
        status = pairs_alloc(moe_tensor_count(index), ret);
    for (int64_t i = 0; !status && i < moe_tensor_count(index); i++) {
        double expert = moe_load(index->data, index->dtype, (size_t)i);
        if (expert == -1)
            continue;
        ret->token[ret->count] = (int32_t)(i / index->shape[1]);
        ret->expert[ret->count] = index_of(expert);
        ret->weight[ret->count++] = moe_load(weight.data, weight.dtype, (size_t)i);
    }
    return status;
}

/* Offsets must start at 0, ascend and end at the number of pairs. */
static bool are_offsets(const moe_tensor *offsets, int64_t experts, int64_t n_pairs) {
    if (!is_integer(offsets) || offsets->ndim != 1 || offsets->shape[0] != experts + 1)
        return false;
    double last = 0;
    for (int64_t e = 0; e <= experts; e++) {
        double at = moe_load(offsets->data, offsets->dtype, (size_t)e);
        if (!(at >= last) || (e == 0 && at != 0) || (e == experts && at != (double)n_pairs))
            return false;
        last = at;
    }
    return true;
}

static moe_status from_rows(const moe_int_prefixed *s, int64_t experts, const moe_tensor *token,
                            const moe_log *log, pairs *ret) {
    moe_tensor offsets, weight;
    if (!is_integer(token) || token->ndim != 1)
        return moe_fail(log, MOE_E_FORMAT, "%s: %s%s must be a list of integers", s->path,
                        s->prefix, TOKEN);
    int64_t n = token->shape[0];
    if (moe_int_prefixed_get(s, OFFSETS, &offsets) || !are_offsets(&offsets, experts, n))
        return moe_fail(log, MOE_E_FORMAT,
                        "%s: %s%s must be %lld integers that ascend from 0 to the %lld pairs of %s",
                        s->path, s->prefix, OFFSETS, (long long)experts + 1, (long long)n, TOKEN);
    moe_status status = find_weights(s, token, log, &weight);
    if (!status)
        status = pairs_alloc(n, ret);
    for (int64_t e = 0; !status && e < experts; e++) {
        int64_t end = (int64_t)moe_load(offsets.data, offsets.dtype, (size_t)e + 1);
        for (; ret->count < end; ret->count++) {
            size_t i = (size_t)ret->count;
            ret->token[i] = index_of(moe_load(token->data, token->dtype, i));
            ret->expert[i] = (int32_t)e;
            ret->weight[i] = moe_load(weight.data, weight.dtype, i);
        }
    }
    return status;
}

moe_status moe_int_stored_plan(const moe_int_prefixed *s, int64_t tokens, int64_t experts,
                               const moe_log *log, moe_plan **ret) {
    moe_tensor t;
    pairs p = {0};
    moe_status status;
    if (moe_int_prefixed_get(s, TOKEN, &t) == MOE_OK)
        status = from_rows(s, experts, &t, log, &p);
    else if (moe_int_prefixed_get(s, INDEX, &t) == MOE_OK)
        status = from_slots(s, tokens, &t, log, &p);
    else
        status = moe_fail(log, MOE_E_NOTFOUND, "%s has neither %s%s nor %s%s", s->path, s->prefix,
                          INDEX, s->prefix, TOKEN);
    if (!status) {
        status = moe_plan_create(tokens, experts, p.count, p.token, p.expert, p.weight, log, ret);
        if (status)
            moe_log_send(log, MOE_LOG_ERROR, "%s: its plan cannot be used", s->path);
    }
    pairs_free(&p);
    return status;
}

/* The row of a token's expert, or -1. */
static int64_t row_of(const moe_plan *plan, int64_t token, int64_t expert) {
    if (expert >= 0 && expert < plan->n_experts)
        for (int64_t i = plan->token_offsets[token]; i < plan->token_offsets[token + 1]; i++)
            if (plan->pair_of_token[i] >= plan->offsets[expert] &&
                plan->pair_of_token[i] < plan->offsets[expert + 1])
                return plan->pair_of_token[i];
    return -1;
}

/* Has every pair of the plan one slot, and every slot that is not empty a pair? */
static bool are_of(const int64_t *index, int64_t slots, int64_t columns, const moe_plan *plan,
                   unsigned char *seen) {
    int64_t n = 0;
    for (int64_t i = 0; i < slots; i++) {
        if (index[i] == -1)
            continue;
        const int64_t row = row_of(plan, i / columns, index[i]);
        if (row < 0 || seen[row]++)
            return false;
        n++;
    }
    return n == plan->n_pairs;
}

moe_status moe_int_stored_slots(const moe_int_prefixed *s, const moe_plan *plan, const moe_log *log,
                                moe_tensor *ret) {
    moe_tensor t, index = {0};
    if (moe_int_prefixed_get(s, INDEX, &t) != MOE_OK)
        return MOE_OK;
    moe_status status = check_slots(s, plan->n_tokens, &t, log);
    if (status)
        return status;
    unsigned char *seen = calloc((size_t)plan->n_pairs + 1, 1);
    status = seen ? moe_tensor_cast(&t, MOE_I64, &index) : MOE_E_NOMEM;
    if (status)
        status = moe_fail(log, status, "%s: no memory for %s%s", s->path, s->prefix, INDEX);
    else if (!are_of(index.data, moe_tensor_count(&index), index.shape[1], plan, seen))
        status = moe_fail(log, MOE_E_FORMAT, "%s: %s%s has other pairs than %s%s", s->path,
                          s->prefix, INDEX, s->prefix, TOKEN);
    free(seen);
    if (status)
        moe_tensor_destroy(&index);
    else
        *ret = index;
    return status;
}

size_t moe_int_stored_list(const moe_plan *plan, const char *prefix,
                           char (*names)[MOE_INT_STORED_NAME], moe_named_tensor *list,
                           size_t count) {
    const struct {
        const char *name;
        moe_tensor tensor;
    } parts[] = {
        {OFFSETS, {plan->offsets, MOE_I64, 1, {plan->n_experts + 1}}},
        {TOKEN, {plan->token, MOE_I32, 1, {plan->n_pairs}}},
        {moe_tensor_name(MOE_T_S), {plan->weight, MOE_F64, 1, {plan->n_pairs}}},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++, count++) {
        snprintf(names[i], sizeof names[i], "%s%s", prefix, parts[i].name);
        list[count] = (moe_named_tensor){names[i], parts[i].tensor};
    }
    return count;
}
