/* Plug-ins that are wrong in one way each, STUB_KIND says which; and one that is right but does
 * nothing. */
#include "moeref/plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    GOOD,
    WRONG_ABI,
    TOO_OLD,
    OLD_TABLE,
    TABLE_2,
    NO_SLOT,
    BAD_NAME,
    REFUSES,
    REFUSES_SILENTLY,
    OPEN_FAILS
};

static moe_status probe(char *reason, size_t size) {
    if (STUB_KIND == REFUSES)
        snprintf(reason, size, "no such device in this machine");
    return STUB_KIND == REFUSES || STUB_KIND == REFUSES_SILENTLY ? MOE_E_DEVICE : MOE_OK;
}

static moe_status open_device(const moe_open_params *params, void **ret_device) {
    if (STUB_KIND == OPEN_FAILS)
        return moe_fail(params->log, MOE_E_DEVICE, "the device is on fire");
    *ret_device = strdup(params->variant);
    return *ret_device ? MOE_OK : MOE_E_NOMEM;
}

static void close_device(void *device) {
    free(device);
}

static moe_status supports(void *device, const moe_layer_desc *desc, const moe_use *use,
                           moe_support *ret) {
    (void)desc;
    (void)use;
    snprintf(ret->reason, sizeof ret->reason, "variant '%s' does nothing", (char *)device);
    return MOE_E_UNSUPPORTED;
}

static moe_status prepare(void *device, const moe_layer_desc *desc, const moe_use *use,
                          const moe_tensors *params, void **ret_layer) {
    (void)device;
    (void)desc;
    (void)use;
    (void)params;
    (void)ret_layer;
    return MOE_E_UNSUPPORTED;
}

static void release(void *layer) {
    (void)layer;
}

static moe_status set_input(void *layer, const moe_input *input) {
    (void)layer;
    (void)input;
    return MOE_E_UNSUPPORTED;
}

static moe_status run_pass(void *layer) {
    (void)layer;
    return MOE_E_UNSUPPORTED;
}

static moe_status fetch(void *layer, moe_tensor_id id, moe_tensor *dst) {
    (void)layer;
    (void)id;
    (void)dst;
    return MOE_E_UNSUPPORTED;
}

/* Stands for whatever lies in memory behind a table of interface 1. */
static moe_status behind_the_table(void *device, moe_board *ret) {
    (void)device;
    ret->sm_mhz = 666;
    return MOE_OK;
}

#ifndef STUB_NAME
#define STUB_NAME "stub"
#endif

extern MOE_API const moe_plugin moe_plugin_v;
const moe_plugin moe_plugin_v = {
    .abi = STUB_KIND == WRONG_ABI   ? MOE_PLUGIN_ABI + 41
           : STUB_KIND == TOO_OLD   ? MOE_PLUGIN_ABI_OLDEST - 1
           : STUB_KIND == OLD_TABLE ? 1
           : STUB_KIND == TABLE_2   ? 2
                                    : MOE_PLUGIN_ABI,
    .priority = 7,
    .name = STUB_KIND == BAD_NAME ? "Not A Name" : STUB_NAME,
    .brief = "does nothing",
    .probe = probe,
    .open = open_device,
    .close = close_device,
    .supports = supports,
    .prepare = STUB_KIND == NO_SLOT ? NULL : prepare,
    .release = release,
    .set_input = set_input,
    .forward = run_pass,
    .backward = run_pass,
    .fetch = fetch,
    .board = STUB_KIND == OLD_TABLE ? behind_the_table : NULL,
    /* and behind one of interface 2 */
    .operators = STUB_KIND == TABLE_2 ? (const moe_operator_slots *)&moe_plugin_v : NULL,
};
