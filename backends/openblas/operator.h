/* The parts of an operator's call: the layer that it is put together as, the caller's memory that
 * its buffers lie in, and the caller's tensors. */
#ifndef MOEREF_OPENBLAS_OPERATOR_H
#define MOEREF_OPENBLAS_OPERATOR_H

#include "layer.h"
#include "moeref/operator.h"

typedef struct ob_operator {
    const ob_device *dev;
    moe_layer_desc desc;
    moe_operator_use use;
} ob_operator;

/* ---- operator_memory.c ---- */

/* Where buffers lie, of the memories that a caller gives: those of both passes in either's. */
typedef enum ob_where { OB_CACHED, OB_FORWARD, OB_BACKWARD, OB_EITHER } ob_where;

/* The layer of a call, as far as sizes depend on it. */
void ob_call_describe(const ob_operator *op, int64_t tokens, int64_t columns, ob_layer *ret);

/* Bytes of one memory; with `base` the buffers that lie there are set. The bases need not be
 * aligned better than a float, hence the room. */
int64_t ob_call_lay_out(ob_layer *l, ob_where memory, char *base);

/* From one piece of a caller's memory to the next. */
size_t ob_call_padded(size_t bytes);

/* ---- operator_tensors.c ---- */

/* A view's shape over other memory. */
moe_tensor ob_tensor_of(const moe_view *v, moe_dtype dtype, void *data);

/* Every parameter of a call: where it lies, or as fp32 in its part of `converted`. Returns the
 * bytes of the latter; `fill`: writes them. */
int64_t ob_take_parameters(const moe_call *call, bool fill, ob_layer *ret);

/* A copy for the router, which free() ends; nothing where the view is of nothing. */
moe_status ob_take_float64(const moe_view *src, double **ret);

/* In place if it is fp32; else a copy in the buffer. */
const float *ob_take_input(ob_layer *l, const moe_view *v, ob_buffer_id id);

/* Results of fp32 are made in place; ob_give_output copies others from the buffer. */
void ob_take_output(ob_layer *l, const moe_view *v, ob_buffer_id id);
void ob_give_output(const ob_layer *l, const moe_view *v, ob_buffer_id id);

/* A gradient that is fp32 and row-major is made, or added to, where it lies; one that has another
 * form gets room of its own and beta = 0 until ob_give_gradients; an absent one is not made. */
moe_status ob_take_gradients(ob_layer *l, const moe_call *call);
void ob_give_gradients(ob_layer *l, const moe_call *call, bool valid);

#endif
