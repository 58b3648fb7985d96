/* The kernels of a layer's passes: a method's, and around them the router's and the shared experts'
 * where it has none of its own, and the projections. */
#include "sim/passes.h"

static void dense(moe_int_list *l, moe_stage stage, double m, double n, double k) {
    moe_int_list_dense(l, stage, m, n, k, 1, &moe_int_cublas_tiles);
}

static void router_forward(moe_int_list *l, double logits) {
    dense(l, MOE_STAGE_ROUTER, l->T, logits, l->hidden);
    moe_int_list_stream(l, MOE_STAGE_TOPK, l->T * logits * 4, l->P * 8);
}

static void router_backward(moe_int_list *l, double logits) {
    moe_int_list_stream(l, MOE_STAGE_D_LOGITS, l->T * logits * 4 + l->P * 8, l->T * logits * 4);
    dense(l, MOE_STAGE_DX_ROUTER, l->T, l->hidden, logits);
    dense(l, MOE_STAGE_DW_R, logits, l->hidden, l->T);
}

static void shared_forward(moe_int_list *l, double n, double h) {
    moe_int_list_cache(l, "H shared", l->T * h * l->element);
    dense(l, MOE_STAGE_H_SHARED, l->T, h, l->hidden);
    moe_int_list_alloc(l, "A shared", l->T * n * l->element);
    moe_int_list_stream(l, MOE_STAGE_A_SHARED, l->T * h * l->element, l->T * n * l->element);
    /* Adds to O. */
    dense(l, MOE_STAGE_O_SHARED, l->T, l->hidden, n);
    moe_int_list_free(l, "A shared");
}

static void shared_backward(moe_int_list *l, double n, double h) {
    moe_int_list_alloc(l, "dA shared", l->T * n * l->element);
    dense(l, MOE_STAGE_DA_SHARED, l->T, n, l->hidden);
    moe_int_list_alloc(l, "dH shared", l->T * h * l->element);
    moe_int_list_alloc(l, "A' shared", l->T * n * l->element);
    moe_int_list_stream(l, MOE_STAGE_DH_SHARED, l->T * (h + n) * l->element,
                        l->T * (h + n) * l->element);
    moe_int_list_free(l, "dA shared");
    dense(l, MOE_STAGE_DW2_SHARED, l->hidden, n, l->T);
    dense(l, MOE_STAGE_DX_SHARED, l->T, l->hidden, h);
    dense(l, MOE_STAGE_DW1_SHARED, h, l->hidden, l->T);
    moe_int_list_free(l, "dH shared");
    moe_int_list_free(l, "A' shared");
}

/* X of the experts is W_in X_hidden, and what they add up to, which W_out's gradient needs, goes
 * through W_out. */
static void project_in(moe_int_list *l) {
    moe_int_list_cache(l, "X hidden", l->T * l->hidden * l->element);
    dense(l, MOE_STAGE_PROJECT_IN, l->T, l->d, l->hidden);
}

static void project_out(moe_int_list *l) {
    if (!moe_int_list_keep(l, "O")) /* a method that stops before the sum */
        moe_int_list_cache(l, "O", l->T * l->d * l->element);
    moe_int_list_alloc(l, "O hidden", l->T * l->hidden * l->element);
    dense(l, MOE_STAGE_PROJECT_OUT, l->T, l->hidden, l->d);
}

static void project_out_backward(moe_int_list *l) {
    moe_int_list_alloc(l, "dO hidden", l->T * l->hidden * l->element);
    dense(l, MOE_STAGE_DW_OUT, l->hidden, l->d, l->T);
    moe_int_list_free(l, "O");
    dense(l, MOE_STAGE_DO_PROJECTED, l->T, l->d, l->hidden);
}

static void project_in_backward(moe_int_list *l) {
    moe_int_list_alloc(l, "dX hidden", l->T * l->hidden * l->element);
    dense(l, MOE_STAGE_DX_PROJECTED, l->T, l->hidden, l->d);
    dense(l, MOE_STAGE_DW_IN, l->d, l->hidden, l->T);
}

void moe_int_passes_list(const moe_int_method *method, const moe_workload *w, moe_int_list *l) {
    const moe_layer_desc *d = w->layer;
    const double logits = (double)(d->E + d->n_zero);
    const double shared_h = (double)moe_h_width(d, d->n_shared);
    const int pass = w->pass ? w->pass : MOE_PASS_BOTH;
    /* The forward list is built for a backward pass alone too: it fills the caches. */
    const bool router = w->with_router && !method->own_router;
    if (router && !method->given_logits)
        router_forward(l, logits);
    if (l->projected)
        project_in(l);
    method->forward(l);
    if (l->projected)
        project_out(l);
    if (d->n_shared > 0)
        shared_forward(l, (double)d->n_shared, shared_h);
    if (!(pass & MOE_PASS_FWD))
        l->count = 0;
    if (!(pass & MOE_PASS_BWD))
        return;
    l->backward = true;
    if (l->projected)
        project_out_backward(l);
    method->backward(l);
    if (l->projected)
        project_in_backward(l);
    if (d->n_shared > 0)
        shared_backward(l, (double)d->n_shared, shared_h);
    if (router)
        router_backward(l, logits);
}

/* A parameter and, with a backward pass, its gradient; returns their bytes. */
static double add_param(moe_int_list *l, const char *weight, const char *gradient, double bytes,
                        double gradient_bytes) {
    moe_int_list_param(l, weight, MOE_LIVE_WEIGHT, bytes);
    if (gradient)
        moe_int_list_param(l, gradient, MOE_LIVE_GRADIENT, gradient_bytes);
    return bytes + (gradient ? gradient_bytes : 0);
}

static const char *gradient_of(moe_tensor_id param) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (moe_tensor_param_of((moe_tensor_id)id) == param)
            return moe_tensor_name((moe_tensor_id)id);
    return NULL;
}

static double count_values(const moe_int_list *l, moe_tensor_id id) {
    const bool routed = id == MOE_T_W1 || id == MOE_T_B1 || id == MOE_T_W2 || id == MOE_T_B2;
    moe_layer_desc desc = *l->work->layer;
    moe_tensor t;
    double values = 1;
    if (!routed)
        desc.d = (int64_t)l->hidden;
    moe_tensor_shape(&desc, id, 0, 0, 0, &t);
    for (int i = 0; i < t.ndim; i++)
        values *= (double)t.shape[i];
    return values;
}

/* Biases keep the type of what lies between the products. */
static double value_bytes(const moe_int_list *l, moe_tensor_id id) {
    const bool bias = id == MOE_T_B_R || id == MOE_T_B_SELECT || id == MOE_T_B1 || id == MOE_T_B2;
    return bias ? l->element : l->weight;
}

double moe_int_passes_params(moe_int_list *l, int pass) {
    const bool backward = pass & MOE_PASS_BWD;
    const double matrix = l->d * l->hidden;
    double sum = 0;
    for (int i = 0; i < MOE_T_COUNT; i++) {
        const moe_tensor_id id = (moe_tensor_id)i;
        if (moe_tensor_role_of(id) != MOE_ROLE_PARAM ||
            !moe_tensor_exists(l->work->layer, id, false))
            continue;
        const double values = count_values(l, id);
        sum += add_param(l, moe_tensor_name(id), backward ? gradient_of(id) : NULL,
                         values * value_bytes(l, id), values * l->element);
    }
    if (l->projected)
        for (int side = 0; side < 2; side++)
            sum += add_param(l, side ? "W_out" : "W_in",
                             !backward ? NULL
                             : side    ? "dW_out"
                                       : "dW_in",
                             matrix * l->weight, matrix * l->element);
    return sum;
}
