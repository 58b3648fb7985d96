/* Private to src/backend: a prepared layer, and the validation that plug-ins rely on. */
#ifndef MOEREF_BACKEND_FRONT_H
#define MOEREF_BACKEND_FRONT_H

#include "backend/registry.h"

typedef enum moe_int_state {
    MOE_INT_PREPARED, /* no input yet */
    MOE_INT_LOADED,   /* an input, not run */
    MOE_INT_FORWARD,  /* forward results exist */
    MOE_INT_BACKWARD  /* backward results exist too */
} moe_int_state;

struct moe_layer {
    moe_backend *backend;
    void *plugged; /* the plug-in's own layer */
    moe_layer_desc desc;
    moe_use use;
    moe_int_state state;
    const moe_plan *given_plan; /* of the current input; NULL when the backend routes */
    char plan_fault[120];       /* of the last plan that the backend told; "": none */
};

/* What was wrong with the plan that the backend told last; "": nothing. */
const char *moe_int_plan_fault(const moe_layer *layer);
/* Microseconds that the last slot took, in the process that ran it: what lies between two
 * processes is no time of the backend. */
double moe_int_layer_us(const moe_layer *layer);

/* Each slot that is called from now on is told there, by its name; NULL: nowhere. */
void moe_int_backend_tell(moe_backend *backend, const moe_progress *progress);
/* The process that the backend's slots run in: this one, or its worker. */
int moe_int_backend_pid(const moe_backend *backend);
/* Lets that process give back to the system what it has freed: a leak into memory that was freed
 * before would not make it larger. */
void moe_int_backend_trim(const moe_backend *backend);

/* Results of those shapes and types (ndim 0: not that one) are fetched next, all of which the layer
 * has: an isolated backend may bring them at once. */
moe_status moe_int_layer_expect(moe_layer *layer, const moe_tensor form[MOE_T_COUNT]);

/* moe_layer_fetch into poison (core/canary.h), whatever *dst held before: what nobody writes of it
 * takes no memory. `as`: bits of its shape and type that may come once more, or NULL; then
 * *ret_same, and what *dst holds means nothing. */
moe_status moe_int_layer_fetch_fresh(moe_layer *layer, moe_tensor_id id, const moe_tensor *as,
                                     moe_tensor *dst, bool *ret_same);
/* No result will be fetched for a while: the memory in which they travel is given back. */
void moe_int_backend_rest(const moe_backend *backend);

/* The copy of a parameter or input, and of the given plan, that an isolated backend works with;
 * NULL where it has none but the caller's own. */
const moe_tensor *moe_int_layer_seen(const moe_layer *layer, moe_tensor_id id);
const moe_plan *moe_int_layer_seen_plan(const moe_layer *layer);

/* MOE_E_INVALID unless sizes, enums, pass and dtype are in range. */
moe_status moe_int_check_use(const moe_layer_desc *desc, const moe_use *use, const moe_log *log);

/* Checks presence, shape and dtype of every parameter; *ret gets those that exist, all else absent.
 */
moe_status moe_int_check_params(const moe_layer_desc *desc, const moe_use *use,
                                const moe_tensors *params, const moe_log *log, moe_tensors *ret);

/* Checks one step's inputs; *ret gets what the plug-in may see. */
moe_status moe_int_check_input(const moe_layer *layer, const moe_input *input, const moe_log *log,
                               moe_input *ret);

/* A plan of this layer and step: consistent, with the right number of tokens and experts. */
moe_status moe_int_check_plan(const moe_layer *layer, const moe_plan *plan, const char *whose,
                              const moe_log *log);

#endif
