/* Entry points of the reference: check the request, choose the arithmetic, own the result. */
#include "reference/loops.h"
#include "reference/run.h"

#include <stdlib.h>
#ifdef _OPENMP
#include <omp.h>
#endif

int moe_int_thread_count(int32_t wanted) {
    if (wanted > 0)
        return wanted;
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

static moe_status check_tensor(const moe_layer_desc *desc, const moe_tensors *in, moe_tensor_id id,
                               int64_t tokens, const moe_log *log) {
    const moe_tensor *t = &in->t[id];
    moe_tensor want = {0};
    char got_shape[96], want_shape[96];
    moe_tensor_shape(desc, id, tokens, 0, 0, &want);
    if (!t->data)
        return moe_fail(log, MOE_E_INVALID, "the layer needs tensor %s", moe_tensor_name(id));
    if (!moe_tensor_same_shape(t, &want))
        return moe_fail(log, MOE_E_INVALID, "tensor %s has shape %s, the layer needs %s",
                        moe_tensor_name(id), moe_tensor_shape_str(t, got_shape, sizeof got_shape),
                        moe_tensor_shape_str(&want, want_shape, sizeof want_shape));
    if (moe_dtype_roundoff(t->dtype) == 0)
        return moe_fail(log, MOE_E_INVALID, "tensor %s has the integer type %s",
                        moe_tensor_name(id), moe_dtype_name(t->dtype));
    return MOE_OK;
}

/* Does routing alone read it? */
static bool is_router_input(moe_tensor_id id) {
    return id == MOE_T_X || id == MOE_T_W_R || id == MOE_T_B_R || id == MOE_T_B_SELECT;
}

static moe_status check_request(const moe_layer_desc *desc, const moe_tensors *in,
                                const moe_reference_params *params, bool route_only,
                                const moe_log *log) {
    moe_status status = moe_layer_desc_check(desc, params->tokens, log);
    for (int i = 0; !status && i < MOE_T_COUNT; i++) {
        moe_tensor_id id = (moe_tensor_id)i;
        moe_tensor_role role = moe_tensor_role_of(id);
        bool optional = (id == MOE_T_DO && !in->t[id].data) || (route_only && !is_router_input(id));
        if ((role == MOE_ROLE_INPUT || role == MOE_ROLE_PARAM) && !optional &&
            moe_tensor_exists(desc, id, params->plan && params->plan_given))
            status = check_tensor(desc, in, id, params->tokens, log);
    }
    if (!status && params->products && params->precision != MOE_BF16 &&
        params->precision != MOE_F16)
        status = moe_fail(log, MOE_E_INVALID, "only products of bf16 and fp16 can be emulated");
    if (!status && params->plan &&
        (params->plan->n_tokens != params->tokens ||
         params->plan->n_experts != desc->E + desc->n_zero))
        status = moe_fail(log, MOE_E_INVALID, "the plan is for %lld tokens and %lld experts",
                          (long long)params->plan->n_tokens, (long long)params->plan->n_experts);
    return status;
}

moe_status moe_reference_run(const moe_layer_desc *desc, const moe_tensors *in,
                             const moe_reference_params *params, const moe_log *log,
                             moe_reference_result **ret) {
    moe_status status = check_request(desc, in, params, false, log);
    if (status)
        return status;
    moe_reference_result *res = calloc(1, sizeof *res);
    int threads = moe_int_thread_count(params->threads);
    if (!res)
        status = MOE_E_NOMEM;
    else if (params->precision == MOE_F64)
        status = moe_int_run_f64(desc, in, params, threads, log, res);
    else if (params->precision == MOE_F32 || params->precision == MOE_BF16 ||
             params->precision == MOE_F16)
        status = moe_int_run_f32(desc, in, params, threads, log, res);
    else
        status = moe_fail(log, MOE_E_INVALID, "the reference has no arithmetic %s",
                          moe_dtype_name((moe_dtype)params->precision));
    if (status == MOE_E_NOMEM)
        moe_fail(log, status, "no memory for the reference run of %lld tokens",
                 (long long)params->tokens);
    if (status)
        moe_reference_result_destroy(&res);
    else
        *ret = res;
    return status;
}

static moe_status load_f64(const moe_tensor *t, double **ret) {
    int64_t count = moe_tensor_count(t);
    if (!t->data)
        return MOE_OK;
    *ret = malloc((size_t)count * sizeof **ret);
    if (!*ret)
        return MOE_E_NOMEM;
    moe_convert(*ret, MOE_F64, t->data, t->dtype, (size_t)count);
    return MOE_OK;
}

static moe_status route_only(const moe_layer_desc *desc, const moe_tensors *in,
                             const moe_reference_params *params, const moe_log *log,
                             double **ret_logits, moe_plan **ret_plan) {
    int64_t n = desc->E + desc->n_zero, T = params->tokens;
    double *x = NULL, *w = NULL, *b = NULL, *b_select = NULL;
    moe_status status = load_f64(&in->t[MOE_T_X], &x);
    if (!status)
        status = load_f64(&in->t[MOE_T_W_R], &w);
    if (!status && desc->router.bias)
        status = load_f64(&in->t[MOE_T_B_R], &b);
    if (!status && desc->router.select_bias)
        status = load_f64(&in->t[MOE_T_B_SELECT], &b_select);
    double *z = status ? NULL : malloc((size_t)(T * n) * sizeof *z);
    if (!status && !z)
        status = MOE_E_NOMEM;
    if (!status) {
        moe_int_loop_linear_f64(x, T, desc->d, w, n, b, moe_int_thread_count(params->threads), z);
        status = moe_route(desc, T, z, b_select, params->seed, log, ret_plan);
    }
    free(x);
    free(w);
    free(b);
    free(b_select);
    *ret_logits = z;
    return status;
}

moe_status moe_reference_route(const moe_layer_desc *desc, const moe_tensors *in,
                               const moe_reference_params *params, const moe_log *log,
                               double **ret_logits, moe_plan **ret_plan) {
    moe_status status = check_request(desc, in, params, true, log);
    double *logits = NULL;
    moe_plan *plan = NULL;
    if (!status)
        status = route_only(desc, in, params, log, &logits, &plan);
    if (!status) {
        *ret_plan = plan;
        plan = NULL;
    }
    if (!status && ret_logits) {
        *ret_logits = logits;
        logits = NULL;
    }
    free(logits);
    moe_plan_destroy(&plan);
    return status;
}

void moe_reference_result_destroy(moe_reference_result **result) {
    if (!result || !*result)
        return;
    moe_plan_destroy(&(*result)->plan);
    moe_tensors_destroy(&(*result)->out);
    free(*result);
    *result = NULL;
}
