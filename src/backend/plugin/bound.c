/* The device of the table that runs operators, and that table. */
#include "backend/plugin/bound.h"
#include "backend/plugin/bound_layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char word[] = "bound";

bool moe_int_is_bound(const char *variant) {
    const size_t length = sizeof word - 1;
    return strncmp(variant, word, length) == 0 &&
           (variant[length] == '\0' || variant[length] == '+' || variant[length] == '.');
}

static moe_status take_words(const char *variant, moe_int_bound_device *dev, const moe_log *log) {
    struct {
        const char *name;
        bool *flag;
    } known[] = {{"+turned", &dev->turned}, {"+fp32", &dev->wide}, {"+add", &dev->adds}};
    const char *at = variant + sizeof word - 1;
    for (size_t i = 0; *at == '+' && i < sizeof known / sizeof *known; i++) {
        const size_t length = strlen(known[i].name);
        if (strncmp(at, known[i].name, length) == 0) {
            *known[i].flag = true;
            at += length;
        }
    }
    if (*at && *at != '.')
        return moe_fail(log, MOE_E_NOTFOUND,
                        "variant '%s': after 'bound' come '+turned', '+fp32', '+add', in this "
                        "order, and '.' with a variant of the backend",
                        variant);
    snprintf(dev->variant, sizeof dev->variant, "%s", *at ? at + 1 : "");
    return MOE_OK;
}

static void close_device(void *self) {
    moe_int_bound_device *dev = self;
    dev->inner->close(dev->plugged);
    free(dev);
}

static moe_status supports(void *self, const moe_layer_desc *desc, const moe_use *use,
                           moe_support *ret) {
    const moe_int_bound_device *dev = self;
    moe_operator_support support = {0};
    const moe_operator_use wanted = moe_int_bound_use(use);
    moe_status status = dev->inner->operators->supports(dev->plugged, desc, &wanted, &support);
    ret->arithmetic = support.arithmetic;
    ret->deterministic = support.deterministic;
    snprintf(ret->reason, sizeof ret->reason, "%s", support.reason);
    return status;
}

/* A worker that asks was told of the inner plug-in's slots. */
static size_t timings(void *self, moe_cost *ret, size_t capacity) {
    (void)self;
    (void)ret;
    (void)capacity;
    return 0;
}

static moe_status roofline(void *self, moe_roofline *ret) {
    const moe_int_bound_device *dev = self;
    return dev->inner->roofline ? dev->inner->roofline(dev->plugged, ret) : MOE_E_UNSUPPORTED;
}

static moe_status board(void *self, moe_board *ret) {
    const moe_int_bound_device *dev = self;
    return dev->inner->board ? dev->inner->board(dev->plugged, ret) : MOE_E_UNSUPPORTED;
}

static const moe_plugin bound_table = {
    .abi = MOE_PLUGIN_ABI,
    .name = "bound",
    .brief = "the operators of another plug-in",
    .close = close_device,
    .supports = supports,
    .prepare = moe_int_bound_prepare,
    .release = moe_int_bound_release,
    .set_input = moe_int_bound_set_input,
    .forward = moe_int_bound_forward,
    .backward = moe_int_bound_backward,
    .fetch = moe_int_bound_fetch,
    .routing = moe_int_bound_routing,
    .timings = timings,
    .memory = moe_int_bound_memory,
    .roofline = roofline,
    .board = board,
};

moe_status moe_int_bound_open(moe_int_caller *c, const moe_open_params *params, void **ret) {
    const moe_plugin *inner = c->plugin;
    if (inner->abi < 3 || !inner->operators)
        return moe_fail(params->log, MOE_E_UNSUPPORTED,
                        "%s has no operators (interface 3), so there is no ':bound' of it",
                        inner->name);
    moe_int_bound_device *dev = calloc(1, sizeof *dev);
    if (!dev)
        return moe_fail(params->log, MOE_E_NOMEM, "no memory for a device");
    dev->caller = c;
    dev->inner = inner;
    dev->log = params->log;
    moe_open_params own = *params;
    moe_status status = take_words(params->variant, dev, params->log);
    own.variant = dev->variant;
    if (!status)
        status = inner->open(&own, &dev->plugged);
    if (status) {
        free(dev);
        return status;
    }
    c->plugin = &bound_table;
    *ret = dev;
    return MOE_OK;
}
