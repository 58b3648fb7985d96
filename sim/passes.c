/* The kernels of a layer's passes: a method's, and around them the router's and the shared experts'
 * where it has none of its own. */
#include "sim/passes.h"

static void router_forward(moe_int_list *l, double logits) {
    moe_int_list_dense(l, MOE_STAGE_ROUTER, l->T, logits, l->d, 1, &moe_int_cublas_tiles);
    moe_int_list_stream(l, MOE_STAGE_TOPK, l->T * logits * 4, l->P * 8);
}

static void router_backward(moe_int_list *l, double logits) {
    moe_int_list_stream(l, MOE_STAGE_D_LOGITS, l->T * logits * 4 + l->P * 8, l->T * logits * 4);
    moe_int_list_dense(l, MOE_STAGE_DX_ROUTER, l->T, l->d, logits, 1, &moe_int_cublas_tiles);
    moe_int_list_dense(l, MOE_STAGE_DW_R, logits, l->d, l->T, 1, &moe_int_cublas_tiles);
}

static void shared_forward(moe_int_list *l, double n, double h) {
    moe_int_list_cache(l, "H shared", l->T * h * l->element);
    moe_int_list_dense(l, MOE_STAGE_H_SHARED, l->T, h, l->d, 1, &moe_int_cublas_tiles);
    moe_int_list_alloc(l, "A shared", l->T * n * l->element);
    moe_int_list_stream(l, MOE_STAGE_A_SHARED, l->T * h * l->element, l->T * n * l->element);
    /* Adds to O. */
    moe_int_list_dense(l, MOE_STAGE_O_SHARED, l->T, l->d, n, 1, &moe_int_cublas_tiles);
    moe_int_list_free(l, "A shared");
}

static void shared_backward(moe_int_list *l, double n, double h) {
    moe_int_list_alloc(l, "dA shared", l->T * n * l->element);
    moe_int_list_dense(l, MOE_STAGE_DA_SHARED, l->T, n, l->d, 1, &moe_int_cublas_tiles);
    moe_int_list_alloc(l, "dH shared", l->T * h * l->element);
    moe_int_list_alloc(l, "A' shared", l->T * n * l->element);
    moe_int_list_stream(l, MOE_STAGE_DH_SHARED, l->T * (h + n) * l->element,
                        l->T * (h + n) * l->element);
    moe_int_list_free(l, "dA shared");
    moe_int_list_dense(l, MOE_STAGE_DW2_SHARED, l->d, n, l->T, 1, &moe_int_cublas_tiles);
    moe_int_list_dense(l, MOE_STAGE_DX_SHARED, l->T, l->d, h, 1, &moe_int_cublas_tiles);
    moe_int_list_dense(l, MOE_STAGE_DW1_SHARED, h, l->d, l->T, 1, &moe_int_cublas_tiles);
    moe_int_list_free(l, "dH shared");
    moe_int_list_free(l, "A' shared");
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
    method->forward(l);
    if (d->n_shared > 0)
        shared_forward(l, (double)d->n_shared, shared_h);
    if (!(pass & MOE_PASS_FWD))
        l->count = 0;
    if (!(pass & MOE_PASS_BWD))
        return;
    l->backward = true;
    method->backward(l);
    if (d->n_shared > 0)
        shared_backward(l, (double)d->n_shared, shared_h);
    if (router)
        router_backward(l, logits);
}

double moe_int_passes_params(moe_int_list *l, const moe_layer_desc *d, int pass) {
    const struct {
        const char *weight, *gradient;
        double rows; /* of d values */
    } params[] = {{"W1", "dW1", l->E * l->h},
                  {"W2", "dW2", l->E * l->n},
                  {"W_r", "dW_r", (double)(d->E + d->n_zero)},
                  {"W1 shared", "dW1 shared", (double)moe_h_width(d, d->n_shared)},
                  {"W2 shared", "dW2 shared", (double)d->n_shared}};
    double sum = 0;
    for (size_t i = 0; i < sizeof params / sizeof *params; i++) {
        const double values = params[i].rows * l->d;
        moe_int_list_param(l, params[i].weight, MOE_LIVE_WEIGHT, values * l->weight);
        sum += values * l->weight;
        if (pass & MOE_PASS_BWD) {
            moe_int_list_param(l, params[i].gradient, MOE_LIVE_GRADIENT, values * l->element);
            sum += values * l->element;
        }
    }
    return sum;
}
