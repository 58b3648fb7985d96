#include "bench/same.h"
#include "moeref/check.h"

#include <string.h>

static bool is_kept(const moe_problem *problem, moe_tensor_id id) {
    moe_tensor_role role = moe_tensor_role_of(id);
    bool backward = role == MOE_ROLE_BACKWARD && (problem->pass & MOE_PASS_BWD);
    return (role == MOE_ROLE_FORWARD || backward) && !moe_tensor_is_of_pairs(id) &&
           moe_tensor_exists(&problem->layer, id, problem->plan != NULL);
}

moe_status moe_int_results_keep(moe_layer *layer, const moe_problem *problem,
                                const moe_support *support, moe_tensors *ret) {
    moe_status status = MOE_OK;
    memset(ret, 0, sizeof *ret);
    for (int i = 0; !status && i < MOE_T_COUNT; i++) {
        moe_tensor_id id = (moe_tensor_id)i;
        moe_tensor shape = {0};
        if (!is_kept(problem, id))
            continue;
        moe_tensor_shape(&problem->layer, id, problem->T, 0, 0, &shape);
        status =
            moe_tensor_alloc((moe_dtype)support->arithmetic, shape.ndim, shape.shape, &ret->t[id]);
        if (!status)
            status = moe_layer_fetch(layer, id, &ret->t[id]);
    }
    return status;
}

/* sum (a - b)^2 / sum a^2 */
static double distance(const moe_tensor *a, const moe_tensor *b) {
    double d2 = 0, a2 = 0;
    for (int64_t i = 0, count = moe_tensor_count(a); i < count; i++) {
        double x = moe_load(a->data, a->dtype, (size_t)i);
        double y = moe_load(b->data, b->dtype, (size_t)i);
        d2 += (x - y) * (x - y);
        a2 += x * x;
    }
    return d2 == 0 ? 0 : d2 / a2;
}

moe_status moe_int_results_same(const moe_support *support, const moe_tensors *first,
                                const moe_tensors *last, const moe_log *log) {
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_tensor *a = &first->t[id], *b = &last->t[id];
        if (!a->data || memcmp(a->data, b->data, (size_t)moe_tensor_bytes(a)) == 0)
            continue;
        double nmse = distance(a, b);
        /* both may be as far from the truth as the gate allows, on opposite sides */
        double gate = 4 * moe_gate_for((moe_tensor_id)id, (moe_dtype)support->arithmetic).nmse;
        if (support->deterministic || !(nmse <= gate))
            return moe_fail(log, MOE_E_CONTRACT,
                            "%s of the last timed run differs from the first run's, NMSE %.2e: no "
                            "time is told",
                            moe_tensor_name((moe_tensor_id)id), nmse);
    }
    return MOE_OK;
}
