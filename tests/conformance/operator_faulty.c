/* The reference's operators behind a plug-in of their own, with one fault that `--backend
 * FILE:bound.FAULT` names: what the judge must see of an operator. */
#include "backend/reference_device.h"
#include "backend/registry.h"

#include <string.h>

static char fault[16];

static moe_status open_device(const moe_open_params *params, void **ret) {
    moe_open_params own = *params;
    snprintf(fault, sizeof fault, "%s", params->variant);
    own.variant = "fp32";
    return moe_int_reference_plugin.open(&own, ret);
}

static moe_status probe(char *reason, size_t size) {
    return moe_int_reference_plugin.probe(reason, size);
}

static void close_device(void *device) {
    moe_int_reference_plugin.close(device);
}

static moe_status supports(void *device, const moe_layer_desc *desc, const moe_use *use,
                           moe_support *ret) {
    return moe_int_reference_plugin.supports(device, desc, use, ret);
}

static moe_status prepare(void *device, const moe_layer_desc *desc, const moe_use *use,
                          const moe_tensors *params, void **ret) {
    return moe_int_reference_plugin.prepare(device, desc, use, params, ret);
}

static void release(void *layer) {
    moe_int_reference_plugin.release(layer);
}

static moe_status set_input(void *layer, const moe_input *input) {
    return moe_int_reference_plugin.set_input(layer, input);
}

static moe_status forward(void *layer) {
    return moe_int_reference_plugin.forward(layer);
}

static moe_status backward(void *layer) {
    return moe_int_reference_plugin.backward(layer);
}

static moe_status fetch(void *layer, moe_tensor_id id, moe_tensor *dst) {
    return moe_int_reference_plugin.fetch(layer, id, dst);
}

static bool is(const char *name) {
    return strcmp(fault, name) == 0;
}

static int64_t elements(const moe_view *v) {
    return v->shape[0] * v->shape[1] * (v->ndim > 2 ? v->shape[2] : 1);
}

static moe_status spoiled_forward(const void *op, const moe_call *call) {
    moe_status status = moe_int_reference_operators.forward(op, call);
    float *O = call->t[MOE_T_O].data;
    if (is("after"))
        O[elements(&call->t[MOE_T_O])] = 1;
    if (is("before"))
        O[-1] = 1;
    if (is("input"))
        *(unsigned char *)call->t[MOE_T_X].data ^= 1;
    if (is("weight")) /* its last byte */
        ((unsigned char *)call->t[MOE_T_W1].data)[2 * elements(&call->t[MOE_T_W1]) - 1] ^= 1;
    if (is("index"))
        ((int32_t *)call->index.data)[0] ^= 1;
    if (is("lazy"))
        memset(&O[3], 0xff, sizeof *O);
    return status;
}

static moe_status spoiled_backward(const void *op, const moe_call *call) {
    float *dW1 = call->t[MOE_T_DW1].data, *last = &dW1[elements(&call->t[MOE_T_DW1]) - 1];
    const float before = *last;
    moe_status status = moe_int_reference_operators.backward(op, call);
    if (is("short")) /* the last element is not written */
        memcpy(last, &before, sizeof before);
    if (is("twice")) /* adds although it was not asked to */
        status = moe_int_reference_operators.backward(
            op, &(moe_call){.tokens = call->tokens,
                            .columns = call->columns,
                            .index = call->index,
                            .beta = 1,
                            .log = call->log,
                            .t = {[MOE_T_X] = call->t[MOE_T_X],
                                  [MOE_T_DO] = call->t[MOE_T_DO],
                                  [MOE_T_S] = call->t[MOE_T_S],
                                  [MOE_T_W1] = call->t[MOE_T_W1],
                                  [MOE_T_W2] = call->t[MOE_T_W2],
                                  [MOE_T_DW2] = call->t[MOE_T_DW2]}});
    return status;
}

static moe_operator_slots operators;

extern MOE_API moe_plugin moe_plugin_v;
moe_plugin moe_plugin_v = {
    .abi = MOE_PLUGIN_ABI,
    .name = "operator_faulty",
    .brief = "the reference's operators with a fault to order",
    .probe = probe,
    .open = open_device,
    .close = close_device,
    .supports = supports,
    .prepare = prepare,
    .release = release,
    .set_input = set_input,
    .forward = forward,
    .backward = backward,
    .fetch = fetch,
    .operators = &operators,
};

__attribute__((constructor)) static void fill(void) {
    operators = moe_int_reference_operators;
    operators.forward = spoiled_forward;
    operators.backward = spoiled_backward;
}
