/* Prepared layers in a worker, as the judge holds them. */
#ifndef MOE_BACKEND_ISOLATE_LAYERS_H
#define MOE_BACKEND_ISOLATE_LAYERS_H

#include "backend/isolate/guest.h"

typedef struct moe_int_guest_layer {
    moe_int_guest *guest;
    int32_t number;
    uint32_t generation; /* of the worker that holds it */
    int64_t tokens, experts;
    moe_int_shared params, input;
    moe_tensors seen; /* parameters and inputs where the worker finds them */
    moe_plan given;   /* likewise; n_tokens 0: none */
    moe_plan *chosen; /* of the last forward, once asked for */
} moe_int_guest_layer;

/* The slots of proxy.c that have to do with layers. */
moe_status moe_int_guest_prepare(void *device, const moe_layer_desc *desc, const moe_use *use,
                                 const moe_tensors *params, void **ret);
void moe_int_guest_release(void *layer);
moe_status moe_int_guest_set_input(void *layer, const moe_input *input);
moe_status moe_int_guest_forward(void *layer);
moe_status moe_int_guest_backward(void *layer);
moe_status moe_int_guest_fetch(void *layer, moe_tensor_id id, moe_tensor *dst);
moe_status moe_int_guest_routing(void *layer, const moe_plan **ret);
/* ahead.c: brings results of those shapes and types (ndim 0: not that one), which are asked for
 * next. Does nothing where they are large. */
moe_status moe_int_guest_fetch_ahead(void *layer, const moe_tensor form[MOE_T_COUNT]);
/* Has `id` been brought, in that form? Then *ret_status is what its fetch returned, and *dst has
 * it. */
bool moe_int_guest_take_ahead(moe_int_guest_layer *layer, moe_tensor_id id, moe_tensor *dst,
                              moe_status *ret_status);
/* A call of its layer. */
moe_status moe_int_guest_layer_request(moe_int_guest_layer *layer, moe_int_request *request,
                                       const moe_int_shared *memory, moe_int_reply *ret);
/* Copies a result out from between its canaries in the scratch, unless it is the one that may come
 * again; a fault where they are broken. */
moe_status moe_int_guest_copy_out(moe_int_guest *guest, moe_tensor_id id, int64_t at,
                                  moe_tensor *dst);
/* A call without arguments or results of its own. */
moe_status moe_int_guest_layer_call(moe_int_guest_layer *layer, moe_int_slot slot,
                                    moe_int_reply *ret);

/* Starts the worker again if it has ended. */
moe_status moe_int_guest_revive(moe_int_guest *guest);

#endif
