/* Every call of a plug-in's slot, in this process or in a worker: the floating-point environment is
 * put back, and what the interface forbids becomes a fault with a sentence, not a crash. */
#ifndef MOE_BACKEND_PLUGIN_CALLS_H
#define MOE_BACKEND_PLUGIN_CALLS_H

#include "backend/plugin/slots.h"
#include "moeref/plugin.h"

/* A plug-in and what is known of its last calls. */
typedef struct moe_int_caller {
    const moe_plugin *plugin;
    char fault[160];  /* the first thing that it did against its contract; "": nothing */
    double us;        /* time that the last call took */
    double inside_us; /* a proxy's: the time that the slot itself took; 0: not told */
    const moe_progress *progress; /* each call is told there, as its slot's name; or NULL */
} moe_int_caller;

/* Notes a fault; the first one stays. Returns MOE_E_CONTRACT. */
moe_status moe_int_caller_fault(moe_int_caller *c, const char *format, ...) MOE_PRINTF(2, 3);

/* As the slots of plugin.h. Any fault makes them MOE_E_CONTRACT. A slot that says OK has set its
 * out-parameter: a device, a layer, a plan with all its arrays. */
moe_status moe_int_call_open(moe_int_caller *c, const moe_open_params *params, void **ret);
moe_status moe_int_call_close(moe_int_caller *c, void *device);
moe_status moe_int_call_supports(moe_int_caller *c, void *device, const moe_layer_desc *desc,
                                 const moe_use *use, moe_support *ret);
moe_status moe_int_call_prepare(moe_int_caller *c, void *device, const moe_layer_desc *desc,
                                const moe_use *use, const moe_tensors *params, void **ret);
moe_status moe_int_call_release(moe_int_caller *c, void *layer);
moe_status moe_int_call_set_input(moe_int_caller *c, void *layer, const moe_input *input);
moe_status moe_int_call_forward(moe_int_caller *c, void *layer);
moe_status moe_int_call_backward(moe_int_caller *c, void *layer);
moe_status moe_int_call_fetch(moe_int_caller *c, void *layer, moe_tensor_id id, moe_tensor *dst);
/* The optional ones: the table has the slot. */
moe_status moe_int_call_routing(moe_int_caller *c, void *layer, const moe_plan **ret);
moe_status moe_int_call_timings(moe_int_caller *c, void *layer, moe_cost *ret, size_t capacity,
                                size_t *ret_count);
moe_status moe_int_call_memory(moe_int_caller *c, void *layer, moe_memory *ret);
moe_status moe_int_call_roofline(moe_int_caller *c, void *device, moe_roofline *ret);
/* Beside the others, from another thread: leaves the caller alone. MOE_E_UNSUPPORTED without the
 * slot. */
/* MOE_E_UNSUPPORTED: it declares none. */
moe_status moe_int_call_arithmetic(moe_int_caller *c, void *device, const moe_layer_desc *desc,
                                   const moe_use *use, char *ret, size_t size);
moe_status moe_int_call_board(const moe_plugin *plugin, void *device, moe_board *ret);

#endif
