/* A layer of the table that runs operators, shared by the files that bind, run and fetch. */
#ifndef MOE_BACKEND_PLUGIN_BOUND_LAYER_H
#define MOE_BACKEND_PLUGIN_BOUND_LAYER_H

#include "backend/plugin/bound_memory.h"
#include "backend/plugin/calls.h"
#include "moeref/operator.h"

#include <stdbool.h>

typedef struct moe_int_bound_device {
    moe_int_caller *caller; /* faults go there */
    const moe_plugin *inner;
    void *plugged; /* the inner plug-in's device */
    const moe_log *log;
    char variant[64]; /* the inner plug-in's; it may keep the address */
    bool turned, wide, adds;
} moe_int_bound_device;

/* Buffers of a call: tensors by id, then the others. */
enum {
    MOE_INT_BOUND_INDEX = MOE_T_COUNT,
    MOE_INT_BOUND_CACHED,
    MOE_INT_BOUND_WORKSPACE,
    MOE_INT_BOUND_CONVERTED,
    MOE_INT_BOUND_BUFFERS
};

typedef struct moe_int_bound_layer {
    moe_int_bound_device *dev;
    moe_layer_desc desc;
    moe_operator_use use;
    moe_operator_support support;
    moe_operator_sizes sizes;
    moe_int_place at;
    moe_int_bound_buffer buffer[MOE_INT_BOUND_BUFFERS];
    bool is_given[MOE_INT_BOUND_BUFFERS];  /* an input */
    uint64_t given[MOE_INT_BOUND_BUFFERS]; /* its hash, which no pass may change */
    moe_call call;
    moe_plan *plan;         /* the router's, as told */
    const moe_plan *routed; /* the plan in force */
    bool is_looked_at;      /* since the last pass */
} moe_int_bound_layer;

/* "W1", "workspace"; never NULL. */
const char *moe_int_bound_name(int buffer);
/* May a pass write it? H, Y and the like are not offered. */
bool moe_int_bound_is_result(const moe_int_bound_layer *l, moe_tensor_id id);
/* Is the view's memory that of a row-major tensor of that dtype, byte for byte? */
bool moe_int_bound_lies_as(const moe_view *view, moe_dtype dtype);
/* What the operator is asked to be for. */
moe_operator_use moe_int_bound_use(const moe_use *use);

/* Slots of plugin.h: bound_input.c ... */
moe_status moe_int_bound_prepare(void *device, const moe_layer_desc *desc, const moe_use *use,
                                 const moe_tensors *params, void **ret);
void moe_int_bound_release(void *layer);
moe_status moe_int_bound_set_input(void *layer, const moe_input *input);
/* ... and bound_passes.c. */
moe_status moe_int_bound_forward(void *layer);
moe_status moe_int_bound_backward(void *layer);
moe_status moe_int_bound_fetch(void *layer, moe_tensor_id id, moe_tensor *dst);
moe_status moe_int_bound_routing(void *layer, const moe_plan **ret);
moe_status moe_int_bound_memory(void *layer, moe_memory *ret);

#endif
