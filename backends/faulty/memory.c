/* Buffers whose size depends on the plan. */
#include "faulty.h"

#include <stdlib.h>
#include <string.h>

float *fy_floats(int64_t count) {
    return calloc(count > 0 ? (size_t)count : 1, sizeof(float));
}

/* Is this made in float32 and kept from pass to pass? */
static bool is_kept(const fy_layer *l, moe_tensor_id id) {
    moe_tensor_role role = moe_tensor_role_of(id);
    if (role == MOE_ROLE_INPUT || role == MOE_ROLE_PARAM)
        return false;
    if (moe_tensor_is_backward(id) && !(l->use.pass & MOE_PASS_BWD))
        return false;
    return moe_tensor_exists(&l->desc, id, l->use.plan_given);
}

moe_status fy_make_room(fy_layer *l) {
    const moe_plan *plan = fy_plan(l);
    const int64_t pairs = plan ? plan->offsets[l->desc.E] : 0, all = plan ? plan->n_pairs : 0;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        moe_tensor want = {.dtype = MOE_F32}, *t = &l->out.t[id];
        if (!is_kept(l, (moe_tensor_id)id))
            continue;
        moe_tensor_shape(&l->desc, (moe_tensor_id)id, l->T, pairs, all, &want);
        if (t->data && moe_tensor_same_shape(t, &want))
            continue;
        moe_tensor_destroy(t);
        if (moe_tensor_alloc(MOE_F32, want.ndim, want.shape, t))
            return fy_no_memory(l);
    }
    return MOE_OK;
}
