/* A layer as an operator: it runs on memory and a stream of the caller's, any number of tokens from
 * call to call, and keeps nothing between calls.
 *
 *     moe_operator *op;  moe_operator_sizes size;  moe_call call;
 *     moe_operator_open(backend, &desc, &use, &op);           once a layer's shape
 *     moe_operator_converted_bytes(op, &call, &bytes);        once: 0, weights are used as they lie
 *     moe_operator_sizes_for(op, T, K, &size);                any T, costs nothing
 *     moe_operator_forward(op, &call);                        O; fills call.cached
 *     moe_operator_backward(op, &call);                       dX, dS, dW1 ... from call.cached
 *
 * Memory. Every tensor, the activations that backward needs (`cached`) and the scratch of a pass
 * (`workspace`) are the caller's, in the place that moe_operator_support names. Several steps may
 * be between their forward and their backward, each with a `cached` of its own. An operator on a
 * device allocates nothing there after it is open; on the host small lists (the plan) come from
 * malloc.
 *
 * Weights are used where they lie if the operator can multiply them in that order. Where it cannot,
 * moe_operator_converted_bytes says how much memory one conversion of them takes;
 * moe_operator_convert fills it, and has to be called again when those weights have changed.
 * Gradients of parameters are written in whatever order and dtype their own view has.
 *
 * Time. On a device all work of a call is put on call.stream: nothing waits for it, nothing looks
 * at an index or a count on the host, so calls can be captured in a CUDA graph. The graph holds the
 * addresses and numbers of the call, not its values: it may be replayed on other values, other
 * indices included. On the host a call returns when it is done. moe_operator_copy waits.
 *
 * Errors. Every call is checked first: presence, shape, dtype, place, alignment, order of
 * elements, sizes of memory, beta, and that nothing that is written overlaps anything else that the
 * call names. Whatever is wrong is MOE_E_INVALID, what is right but not offered MOE_E_UNSUPPORTED;
 * nothing has been started then. call.log (or the backend's) gets one sentence. Values are not
 * checked: an index outside the experts is an empty slot; an expert twice for one token is
 * MOE_E_INVALID on the host, and undefined, but inside the call's memory, on a device.
 * MOE_E_DEVICE: a launch failed; a fault of the device shows later, at its owner's next wait.
 *
 * Thread-safety: an operator is constant once it is open. Any number of threads may run calls of
 * one or several operators, on one or several streams, on any devices, at the same time, as long as
 * no two of them write the same memory or read what the other writes, and as call.log (or the
 * backend's log) bears it. A device's current CUDA device is put back after each call. Open and
 * close count as calls of the backend: one thread at a time. The backend must stay open. */
#ifndef MOEREF_OPERATOR_H
#define MOEREF_OPERATOR_H

#include "moeref/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Thread-safety: calls from any number of threads; open and close as its moe_backend. */
typedef struct moe_operator moe_operator;

/* A pure query: MOE_E_UNSUPPORTED with ret->reason, also for a backend without operators. */
MOE_API moe_status moe_operator_supports(moe_backend *backend, const moe_layer_desc *desc,
                                         const moe_operator_use *use, moe_operator_support *ret);

/* `desc` and `use` are copied; `backend` must outlive the operator. MOE_E_UNSUPPORTED with the
 * backend's reason in the log, MOE_E_INVALID, MOE_E_NOMEM, MOE_E_DEVICE. */
MOE_API moe_status moe_operator_open(moe_backend *backend, const moe_layer_desc *desc,
                                     const moe_operator_use *use, moe_operator **ret);
MOE_API void moe_operator_close(moe_operator **op);
/* As moe_operator_supports had it. */
MOE_API const moe_operator_support *moe_operator_info(const moe_operator *op);

/* What a call of so many tokens needs; `columns` is ignored where the layer routes. MOE_E_INVALID:
 * a number out of range; MOE_E_UNSUPPORTED: more than the backend's kernels can count. */
MOE_API moe_status moe_operator_sizes_for(const moe_operator *op, int64_t tokens, int64_t columns,
                                          moe_operator_sizes *ret);

/* Bytes of call->converted for the parameters in call->t, of which nothing else is read, and of
 * those only the order of their elements. */
MOE_API moe_status moe_operator_converted_bytes(const moe_operator *op, const moe_call *call,
                                                int64_t *ret_bytes);
/* Fills call->converted from the parameters in call->t, on call->stream. */
MOE_API moe_status moe_operator_convert(const moe_operator *op, const moe_call *call);

/* Queue a pass on call->stream; moe_call says which tensors each reads and writes. MOE_E_INVALID,
 * in one sentence to call->log: a tensor that is missing or of another shape, type, place or order,
 * memory that is too small, not aligned or overlaps; MOE_E_DEVICE: a launch failed. */
MOE_API moe_status moe_operator_forward(const moe_operator *op, const moe_call *call);
MOE_API moe_status moe_operator_backward(const moe_operator *op, const moe_call *call);

/* Memory of the operator's place, for callers without an allocator of their own there. `copy` takes
 * memory of either place on both sides, after all work on `stream`, and returns when it is done. */
MOE_API moe_status moe_operator_allocate(const moe_operator *op, int64_t bytes, void **ret);
MOE_API void moe_operator_free(const moe_operator *op, void *data);
MOE_API moe_status moe_operator_copy(const moe_operator *op, void *dst, const void *src,
                                     int64_t bytes, void *stream);

/* A dense row-major view of host memory. */
MOE_API moe_view moe_view_of(const moe_tensor *tensor);
/* Elements of a view in host memory, in the order of its shape, into a tensor of the same shape. */
MOE_API void moe_view_read(const moe_view *src, moe_tensor *dst);
/* The way back; with `add` the sum with what is there, in float64. Rounded once. */
MOE_API void moe_view_write(const moe_view *dst, const moe_tensor *src, int add);

#ifdef __cplusplus
}
#endif
#endif
