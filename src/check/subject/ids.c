/* Experts that a file names for its tokens: which of the names are none. */
#include "check/subject/ids.h"
#include "check/verdict/result.h"
#include "layer/traits.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Slots that token t leaves empty at most, of `columns`. */
static int64_t empty_slots(const moe_problem *problem, int64_t t, int64_t columns) {
    const moe_plan *plan = problem->plan;
    const moe_layer_desc *desc = &problem->layer;
    if (plan)
        return columns - (plan->token_offsets[t + 1] - plan->token_offsets[t]);
    if (moe_int_select_rules[desc->router.select].pairs == MOE_INT_PAIRS_PER_TOKEN)
        return problem->masked && problem->masked[t] ? columns : columns - desc->K;
    return columns;
}

static bool stands_before(const moe_tensor *index, int64_t first, int64_t i, double value) {
    for (int64_t k = first; k < i; k++)
        if (moe_load(index->data, index->dtype, (size_t)k) == value)
            return true;
    return false;
}

/* Writes the first bad slot; counts all. */
static void note(moe_int_bad_ids *bad, int64_t token, int64_t slot, double value,
                 const char *what) {
    if (bad->count++ > 0)
        return;
    bad->token = token;
    bad->slot = slot;
    bad->value = value;
    snprintf(bad->why, sizeof bad->why, "token %lld, slot %lld: %.0f %s", (long long)token,
             (long long)slot, value, what);
}

static void check_token(const moe_tensor *index, const moe_problem *problem, int64_t t,
                        moe_int_bad_ids *bad) {
    int64_t columns = index->shape[1], first = t * columns;
    int64_t empty = empty_slots(problem, t, columns);
    double experts = (double)(problem->layer.E + problem->layer.n_zero);
    for (int64_t i = first; i < first + columns; i++) {
        double e = moe_load(index->data, index->dtype, (size_t)i);
        if (e == -1 && --empty < 0)
            note(bad, t, i - first, e, "leaves a slot empty, but the token has an expert for it");
        else if (e < -1)
            note(bad, t, i - first, e, "is no expert; empty slots are -1");
        else if (e >= experts)
            note(bad, t, i - first, e, "is no expert of the case");
        else if (e >= 0 && stands_before(index, first, i, e))
            note(bad, t, i - first, e, "stands in an earlier slot too");
    }
}

void moe_int_ids_check(const moe_tensor *index, const moe_problem *problem, moe_int_bad_ids *ret) {
    char shape[64];
    memset(ret, 0, sizeof *ret);
    if (!index->data)
        snprintf(ret->why, sizeof ret->why, "has an element type that cannot be read");
    else if (moe_dtype_roundoff(index->dtype) > 0)
        snprintf(ret->why, sizeof ret->why, "holds %s, not integers", moe_dtype_name(index->dtype));
    else if (index->ndim != 2 || index->shape[0] != problem->T)
        snprintf(ret->why, sizeof ret->why, "has shape %s, the case needs [%lld, K]",
                 moe_tensor_shape_str(index, shape, sizeof shape), (long long)problem->T);
    if (ret->why[0])
        return;
    for (int64_t t = 0; t < problem->T; t++)
        check_token(index, problem, t, ret);
}

void moe_int_ids_report(const moe_int_bad_ids *bad, moe_check_result *result) {
    if (!bad->why[0])
        return;
    moe_tensor_verdict *v = moe_int_result_entry(result, "topk_index");
    if (bad->count > 0) {
        v->bad_elements = bad->count;
        v->worst_ndim = 2;
        v->worst_index[0] = bad->token;
        v->worst_index[1] = bad->slot;
        v->got = bad->value;
        v->want = NAN; /* which of the token's experts belongs there is not said */
    }
    if (bad->count > 1)
        moe_int_entry_fail(v, "%lld bad ids, the first: %s", (long long)bad->count, bad->why);
    else
        moe_int_entry_fail(v, "%s", bad->why);
}
