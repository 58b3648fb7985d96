/* A plug-in in a worker, as the judge sees it: calls go there and come back, or the worker's end
 * becomes a fault that names the slot. */
#ifndef MOE_BACKEND_ISOLATE_GUEST_H
#define MOE_BACKEND_ISOLATE_GUEST_H

#include "backend/isolate/memory.h"
#include "backend/isolate/process.h"
#include "backend/plugin/calls.h"
#include "backend/plugin/load.h"

/* How workers are run; moe_isolation with its defaults filled in. */
typedef struct moe_int_isolation {
    char worker[PATH_MAX];
    double timeout_s; /* 0: grows with the layer's work */
} moe_int_isolation;

/* Results that were fetched before they are asked for: what a call costs between two processes,
 * small ones cost together. They lie in the scratch until the next call. */
typedef struct moe_int_ahead {
    const void *layer; /* whose; NULL: there are none */
    int32_t count;
    int32_t id[MOE_T_COUNT], status[MOE_T_COUNT];
    moe_int_wire_tensor at[MOE_T_COUNT];
    char fault[MOE_INT_WIRE_TEXT]; /* of the last; "": none */
} moe_int_ahead;

/* An opened device in a worker. Its table's slots are those of proxy.c. */
typedef struct moe_int_guest {
    const moe_int_isolation *how;
    moe_int_caller *caller; /* where faults go */
    char name[64], brief[160];
    moe_plugin table;
    char path[PATH_MAX];
    moe_int_request open; /* what the device was opened with, to open it again */
    const moe_log *log;
    moe_int_process process;
    uint32_t number;                  /* of the last request */
    uint32_t generation;              /* of the worker: a layer does not outlive its own */
    double limit_s;                   /* of a call, for the layer that was prepared last */
    bool layers[MOE_INT_WIRE_LAYERS]; /* numbers in use */
    moe_int_shared scratch;
    moe_int_ahead ahead;
    /* of the next fetch, by moe_int_layer_fetch_fresh */
    bool is_fresh;                            /* what lies where it goes is not looked at */
    const void *as;                           /* bits that it may bring; or NULL */
    bool same;                                /* it brought them */
    char arithmetic[MOE_INT_WIRE_ARITHMETIC]; /* that was declared last */
    char line[256];                           /* of what the worker prints, not yet ended */
    size_t line_length;
    int said; /* messages and lines of this call */
} moe_int_guest;

/* Starts a worker and lets it load, probe and (with guest->open) open. The status of the first of
 * these that is not OK; faults go to the caller. */
moe_status moe_int_guest_start(moe_int_guest *guest, moe_int_reply *ret_entry);
void moe_int_guest_stop(moe_int_guest *guest);

/* Calls a slot in the worker. `memory` (NULL: none) goes along. Returns the slot's status; when the
 * worker dies, takes too long or babbles, MOE_E_CONTRACT, and the worker is gone. */
moe_status moe_int_guest_call(moe_int_guest *guest, moe_int_request *request,
                              const moe_int_shared *memory, moe_int_reply *ret);

/* Lets the worker give back to the system what it has freed. */
void moe_int_guest_trim(moe_int_guest *guest);

#endif
