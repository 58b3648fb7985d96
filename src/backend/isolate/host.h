/* What a worker hosts: one plug-in, one device, its layers. */
#ifndef MOE_BACKEND_ISOLATE_HOST_H
#define MOE_BACKEND_ISOLATE_HOST_H

#include "backend/isolate/memory.h"
#include "backend/plugin/calls.h"
#include "backend/plugin/load.h"

#include <sys/types.h>

typedef struct moe_int_hosted_layer {
    void *plugged; /* NULL: this number is free */
    moe_int_shared params, input;
    moe_plan given;         /* of the input; the plug-in may keep its address */
    const moe_plan *chosen; /* as routing told it last */
} moe_int_hosted_layer;

typedef struct moe_int_host {
    pid_t self;
    uint32_t number; /* of the request that is being served */
    moe_int_entry entry;
    moe_int_caller caller;
    moe_log log;
    char variant[MOE_INT_WIRE_TEXT];
    void *device;
    moe_int_hosted_layer layer[MOE_INT_WIRE_LAYERS];
    moe_int_shared scratch; /* for results */
} moe_int_host;

/* Runs the slot that is asked for and fills the reply. `file`: the memory that came along, -1:
 * none.
 */
moe_status moe_int_host_run(moe_int_host *h, const moe_int_request *q, int file, moe_int_reply *r);

#endif
