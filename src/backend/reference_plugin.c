/* The built-in backend `reference`: the definition itself behind the plug-in table, so that every
 * test that judges a backend can judge the reference at each precision too.
 *
 * A run computes everything at once, therefore forward keeps a whole result and backward makes a
 * new one with dO; fetch hands out any stage of it. */
#include "backend/reference_device.h"
#include "backend/registry.h"
#include "moeref/reference.h"

#include <stdlib.h>
#include <string.h>

typedef moe_int_reference_device device;

typedef struct layer {
    const device *dev;
    moe_layer_desc desc;
    moe_tensors in; /* views: parameters, X, dO */
    const moe_plan *plan;
    uint64_t seed;
    moe_reference_result *result; /* of the last pass */
} layer;

/* --backend reference:VARIANT, "TYPE", "TYPE.RECIPE" or "TYPE.ARITHMETIC" */
static bool parse_variant(const char *variant, device *dev) {
    const char *dot = strchr(variant, '.');
    size_t length = dot ? (size_t)(dot - variant) : strlen(variant);
    char type[8] = "";
    if (length < sizeof type)
        memcpy(type, variant, length);
    dev->recipe = dot ? moe_recipe_find(dot + 1) : NULL;
    dev->precision = MOE_F64;
    bool known = length == 0 || moe_dtype_parse(type, &dev->precision) == MOE_OK;
    const bool narrow = dev->precision == MOE_BF16 || dev->precision == MOE_F16;
    dev->emulates = dot && !dev->recipe && narrow && !moe_arithmetic_parse(dot + 1, &dev->products);
    return known && moe_dtype_roundoff(dev->precision) > 0 &&
           (dev->recipe || dev->emulates || !dot);
}

static moe_status reference_probe(char *reason, size_t size) {
    (void)reason;
    (void)size;
    return MOE_OK;
}

static moe_status reference_open(const moe_open_params *params, void **ret_device) {
    device parsed = {.threads = params->threads, .log = params->log};
    if (!parse_variant(params->variant, &parsed))
        return moe_fail(params->log, MOE_E_NOTFOUND,
                        "reference has no variant '%s'; known: fp64 (default), fp32, bf16, fp16, "
                        "TYPE.RECIPE with a recipe that moeref list names, and bf16 or fp16 with "
                        "an arithmetic of check --bits, bf16.sm_90",
                        params->variant);
    device *dev = malloc(sizeof *dev);
    if (!dev)
        return moe_fail(params->log, MOE_E_NOMEM, "no memory for a device");
    *dev = parsed;
    *ret_device = dev;
    return MOE_OK;
}

static void reference_close(void *dev) {
    free(dev);
}

static moe_status reference_supports(void *dev, const moe_layer_desc *desc, const moe_use *use,
                                     moe_support *ret) {
    const device *self = dev;
    if (moe_refuse_unknown(desc, ret))
        return MOE_E_UNSUPPORTED;
    if (self->emulates && use->dtype != (int32_t)self->precision) {
        snprintf(ret->reason, sizeof ret->reason, "products of %s are emulated, the inputs are %s",
                 moe_dtype_name(self->precision), moe_dtype_name((moe_dtype)use->dtype));
        return MOE_E_UNSUPPORTED;
    }
    ret->arithmetic = (int32_t)self->precision;
    ret->deterministic = MOE_PROMISE_REPEATS | MOE_PROMISE_BATCH_INVARIANT;
    return MOE_OK;
}

static moe_status reference_prepare(void *dev, const moe_layer_desc *desc, const moe_use *use,
                                    const moe_tensors *params, void **ret_layer) {
    (void)use;
    layer *l = calloc(1, sizeof *l);
    if (!l)
        return moe_fail(((const device *)dev)->log, MOE_E_NOMEM, "no memory for a layer");
    l->dev = dev;
    l->desc = *desc;
    l->in = *params;
    *ret_layer = l;
    return MOE_OK;
}

static void reference_release(void *self) {
    layer *l = self;
    moe_reference_result_destroy(&l->result);
    free(l);
}

static moe_status reference_set_input(void *self, const moe_input *input) {
    layer *l = self;
    l->in.t[MOE_T_X] = input->X;
    l->in.t[MOE_T_DO] = input->dO;
    l->plan = input->plan;
    l->seed = input->seed;
    moe_reference_result_destroy(&l->result);
    return MOE_OK;
}

static moe_status run(layer *l, bool backward) {
    moe_tensors in = l->in;
    if (!backward)
        in.t[MOE_T_DO] = (moe_tensor){0};
    moe_reference_params params = {
        .tokens = l->in.t[MOE_T_X].shape[0],
        .precision = (int32_t)l->dev->precision,
        .threads = l->dev->threads,
        .recipe = l->dev->recipe,
        .products = l->dev->emulates ? &l->dev->products : NULL,
        .plan = l->plan,
        .plan_given = l->plan != NULL,
        .seed = l->seed,
    };
    moe_reference_result *result = NULL;
    moe_status status = moe_reference_run(&l->desc, &in, &params, l->dev->log, &result);
    if (status)
        return status;
    moe_reference_result_destroy(&l->result);
    l->result = result;
    return MOE_OK;
}

static moe_status reference_forward(void *self) {
    return run(self, false);
}

static moe_status reference_backward(void *self) {
    return run(self, true);
}

static moe_status reference_fetch(void *self, moe_tensor_id id, moe_tensor *dst) {
    layer *l = self;
    const moe_tensor *src = &l->result->out.t[id];
    if (!src->data)
        return moe_fail(l->dev->log, MOE_E_UNSUPPORTED, "reference does not keep %s",
                        moe_tensor_name(id));
    moe_convert(dst->data, dst->dtype, src->data, src->dtype, (size_t)moe_tensor_count(src));
    return MOE_OK;
}

static moe_status reference_routing(void *self, const moe_plan **ret) {
    *ret = ((layer *)self)->result->plan;
    return MOE_OK;
}

const moe_plugin moe_int_reference_plugin = {
    .abi = MOE_PLUGIN_ABI,
    .priority = 0,
    .name = "reference",
    .brief = "plain loops that define the result: float64, or :fp32, :bf16, :fp16, :bf16.eager ...",
    .probe = reference_probe,
    .open = reference_open,
    .close = reference_close,
    .supports = reference_supports,
    .prepare = reference_prepare,
    .release = reference_release,
    .set_input = reference_set_input,
    .forward = reference_forward,
    .backward = reference_backward,
    .fetch = reference_fetch,
    .routing = reference_routing,
    .operators = &moe_int_reference_operators,
};
