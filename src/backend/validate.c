/* Everything that plug-ins may trust is checked here, once. */
#include "backend/front.h"

static bool is_floating(int32_t dtype) {
    return dtype == MOE_F64 || dtype == MOE_F32 || dtype == MOE_F16 || dtype == MOE_BF16;
}

static const char *dtype_name(int32_t dtype) {
    return dtype >= 0 && dtype < MOE_DTYPE_COUNT ? moe_dtype_name((moe_dtype)dtype) : "?";
}

moe_status moe_int_check_use(const moe_layer_desc *desc, const moe_use *use, const moe_log *log) {
    moe_status status = moe_layer_desc_check(desc, use->tokens, log);
    if (status)
        return status;
    if (!is_floating(use->dtype))
        return moe_fail(log, MOE_E_INVALID, "use.dtype = %d is not a floating type", use->dtype);
    if (use->pass < MOE_PASS_FWD || use->pass > MOE_PASS_BOTH)
        return moe_fail(log, MOE_E_INVALID, "use.pass = %d is outside 1..3", use->pass);
    if (use->plan_given != 0 && use->plan_given != 1)
        return moe_fail(log, MOE_E_INVALID, "use.plan_given = %d is neither 0 nor 1",
                        use->plan_given);
    return MOE_OK;
}

/* `id` must be present as `got`, with dtype `dtype` and the table's shape. */
static moe_status check_tensor(const moe_layer_desc *desc, moe_tensor_id id, int64_t tokens,
                               int32_t dtype, const moe_tensor *got, const moe_log *log) {
    moe_tensor want = {0};
    moe_tensor_shape(desc, id, tokens, 0, 0, &want);
    const char *name = moe_tensor_name(id);
    if (!got->data)
        return moe_fail(log, MOE_E_INVALID, "%s is missing", name);
    if ((int32_t)got->dtype != dtype)
        return moe_fail(log, MOE_E_INVALID, "%s is %s, the layer was announced as %s", name,
                        dtype_name((int32_t)got->dtype), dtype_name(dtype));
    if (got->ndim < 0 || got->ndim > MOE_MAX_DIMS)
        return moe_fail(log, MOE_E_INVALID, "%s has %d dimensions", name, got->ndim);
    if (!moe_tensor_same_shape(got, &want)) {
        char is[96], should[96];
        return moe_fail(log, MOE_E_INVALID, "%s has shape %s, this layer needs %s", name,
                        moe_tensor_shape_str(got, is, sizeof is),
                        moe_tensor_shape_str(&want, should, sizeof should));
    }
    return MOE_OK;
}

/* A parameter that the layer has under no routing contradicts desc; the router's parameters are
 * merely unused when the plan is given. */
moe_status moe_int_check_params(const moe_layer_desc *desc, const moe_use *use,
                                const moe_tensors *params, const moe_log *log, moe_tensors *ret) {
    moe_tensors checked = {0};
    for (int i = 0; i < MOE_T_COUNT; i++) {
        moe_tensor_id id = (moe_tensor_id)i;
        if (moe_tensor_role_of(id) != MOE_ROLE_PARAM)
            continue;
        if (moe_tensor_exists(desc, id, use->plan_given)) {
            moe_status status =
                check_tensor(desc, id, use->tokens, use->dtype, &params->t[id], log);
            if (status)
                return status;
            checked.t[id] = params->t[id];
        } else if (params->t[id].data && !moe_tensor_exists(desc, id, 0)) {
            return moe_fail(log, MOE_E_INVALID, "%s is present, but the layer is described without",
                            moe_tensor_name(id));
        }
    }
    *ret = checked;
    return MOE_OK;
}

moe_status moe_int_check_plan(const moe_layer *layer, const moe_plan *plan, const char *whose,
                              const moe_log *log) {
    int64_t experts = layer->desc.E + layer->desc.n_zero;
    if (plan->n_tokens != layer->use.tokens || plan->n_experts != experts)
        return moe_fail(log, MOE_E_INVALID,
                        "%s plan is for %lld tokens and %lld experts, the layer has %lld and %lld",
                        whose, (long long)plan->n_tokens, (long long)plan->n_experts,
                        (long long)layer->use.tokens, (long long)experts);
    return moe_plan_check(plan, log);
}

moe_status moe_int_check_input(const moe_layer *layer, const moe_input *input, const moe_log *log,
                               moe_input *ret) {
    const moe_use *use = &layer->use;
    moe_input checked = {.tokens = input->tokens, .X = input->X, .seed = input->seed};
    if (input->tokens != use->tokens)
        return moe_fail(log, MOE_E_INVALID,
                        "the input has %lld tokens, the layer was prepared for %lld",
                        (long long)input->tokens, (long long)use->tokens);
    moe_status status =
        check_tensor(&layer->desc, MOE_T_X, use->tokens, use->dtype, &input->X, log);
    if (!status && (use->pass & MOE_PASS_BWD)) {
        status = check_tensor(&layer->desc, MOE_T_DO, use->tokens, use->dtype, &input->dO, log);
        checked.dO = input->dO;
    }
    if (status)
        return status;
    if (use->plan_given && !input->plan)
        return moe_fail(log, MOE_E_INVALID,
                        "the layer was prepared for a given routing plan, the input has none");
    if (!use->plan_given && input->plan)
        return moe_fail(log, MOE_E_INVALID,
                        "the input brings a routing plan, the layer was prepared to route itself");
    if (input->plan)
        status = moe_int_check_plan(layer, input->plan, "the given", log);
    checked.plan = input->plan;
    if (!status)
        *ret = checked;
    return status;
}
