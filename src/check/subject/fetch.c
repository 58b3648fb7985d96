/* A run's results, in the types that they are judged in. */
#include "backend/front.h"
#include "check/subject/runner.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"
#include "layer/traits.h"

#include <stdio.h>

/* Logits, weights and their gradients are fp32 whatever the results are stored in. Y, too, is taken
 * as it is held, for what it is summed to. */
static moe_dtype fetch_dtype(const moe_int_runner *k, moe_tensor_id id) {
    moe_dtype arithmetic = (moe_dtype)k->run->support.arithmetic;
    bool wide =
        id == MOE_T_LOGITS || id == MOE_T_S || id == MOE_T_DS || id == MOE_T_Y || id == MOE_T_DXP;
    return wide && arithmetic != MOE_F64 ? MOE_F32 : arithmetic;
}

/* Numbers of pairs; false where only the backend could tell. */
static bool pairs_of(const moe_int_runner *k, int64_t *pairs, int64_t *all) {
    const moe_layer_desc *desc = &k->problem->layer;
    const moe_plan *plan = k->problem->plan ? k->problem->plan : k->run->plan;
    if (plan) {
        *pairs = plan->offsets[desc->E];
        *all = plan->n_pairs;
        return true;
    }
    *pairs = *all = k->problem->T * desc->K;
    return moe_int_pairs_are_known(desc);
}

/* Shape and type of a result; false: nobody knows them. */
static bool form_of(const moe_int_runner *k, moe_tensor_id id, moe_tensor *ret) {
    int64_t pairs, all;
    bool known = pairs_of(k, &pairs, &all);
    *ret = (moe_tensor){0};
    if ((!known || k->run->bad_plan) && moe_tensor_is_of_pairs(id))
        return false;
    moe_tensor_shape(&k->problem->layer, id, k->problem->T, pairs, all, ret);
    ret->dtype = fetch_dtype(k, id);
    return true;
}

/* The first run's result, of that shape and type; NULL: there is none. */
static const moe_tensor *known(const moe_int_runner *k, moe_tensor_id id, const moe_tensor *shape) {
    const moe_tensor *first = &k->run->first[id].tensor;
    return k->again && first->data && first->dtype == shape->dtype &&
                   moe_tensor_same_shape(first, shape)
               ? first
               : NULL;
}

moe_status moe_int_runner_fetch(moe_int_runner *k, moe_tensor_id id, moe_int_guarded *ret) {
    moe_tensor shape;
    moe_int_guarded g;
    if (!form_of(k, id, &shape))
        return MOE_E_UNSUPPORTED;
    const moe_tensor *as = known(k, id, &shape);
    moe_status status = moe_int_guard_reserve(&shape, shape.dtype, &g);
    if (status)
        return status;
    moe_tensor view = g.tensor;
    status = moe_int_layer_fetch_fresh(k->run->layer, id, as, &view, &k->same);
    const char *broken = status ? NULL : moe_int_guard_broken(&g);
    if (broken) {
        const char *name = moe_tensor_name(id);
        moe_int_entry_fail(moe_int_result_entry(k->result, name), "fetch wrote %s the buffer",
                           broken);
        moe_int_result_set(k->result, MOE_VERDICT_FAIL, "%s: fetch wrote %s the buffer", name,
                           broken);
    }
    if (status)
        moe_int_guard_destroy(&g);
    else
        *ret = g;
    return status;
}

/* Which results every backend owes, and which it may keep to itself. */
static bool is_due(const moe_int_runner *k, moe_tensor_id id, bool *optional) {
    moe_tensor_role role = moe_tensor_role_of(id);
    *optional = role == MOE_ROLE_STAGE || (k->run->bad_plan && moe_tensor_is_of_pairs(id));
    if (moe_int_is_inner_stage(id) || moe_int_is_given(id) ||
        !moe_tensor_exists(&k->problem->layer, id, k->problem->plan != NULL))
        return false;
    return role != MOE_ROLE_BACKWARD || moe_int_runner_has_backward(k);
}

/* Has all of them brought at once, where that is cheaper. */
static bool expect_all(moe_int_runner *k) {
    moe_tensor form[MOE_T_COUNT] = {0};
    for (size_t i = 0; i < moe_int_order_count; i++) {
        const moe_tensor_id id = moe_int_order[i];
        bool optional;
        if (is_due(k, id, &optional) && !form_of(k, id, &form[id]))
            form[id] = (moe_tensor){0};
    }
    moe_status status = moe_int_layer_expect(k->run->layer, form);
    if (status)
        moe_int_runner_stop(k, "fetch", status);
    return !status;
}

bool moe_int_runner_fetch_each(moe_int_runner *k,
                               void (*take)(moe_int_runner *, moe_tensor_id, moe_int_guarded *)) {
    if (!expect_all(k))
        return false;
    for (size_t i = 0; i < moe_int_order_count; i++) {
        moe_tensor_id id = moe_int_order[i];
        bool optional;
        if (!is_due(k, id, &optional))
            continue;
        moe_int_guarded fresh = {.block = NULL};
        moe_status status = moe_int_runner_fetch(k, id, &fresh);
        if (!status)
            take(k, id, &fresh);
        moe_int_guard_destroy(&fresh);
        if (status == MOE_OK || (status == MOE_E_UNSUPPORTED && optional))
            continue;
        char step[64];
        snprintf(step, sizeof step, "fetch of %s", moe_tensor_name(id));
        moe_int_runner_stop(k, step, status);
        return false;
    }
    return true;
}
