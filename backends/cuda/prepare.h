/* Internal: what preparing a layer and preparing its experts share. */
#ifndef MOE_CUDA_PREPARE_H
#define MOE_CUDA_PREPARE_H

#include "layer.h"

/* Several buffers in one call chain: stops at the first failure. One that the layer does not have
 * is passed over. */
struct Allocator {
    Layer *layer;
    moe_status status = MOE_OK;
    template <class P> void get(P **ret, BufferId id) {
        void *data = *ret;
        if (!status)
            status = layer_take(layer, id, &data);
        *ret = static_cast<P *>(data);
    }
    template <class P> void drop(P **data) {
        layer_free(layer, (void *)*data);
        *data = nullptr;
    }
};

/* Uploads a parameter in the layer's element type; an operator's lies where its caller has it. */
moe_status layer_take_parameter(Layer *layer, const moe_tensors *params, moe_tensor_id id,
                                BufferId to, void **ret);
/* What sizes of buffers follow from, with `rows` rows of routed pairs. */
LayerShape layer_shape(const Layer *layer, int64_t rows);

/* prepare_experts.cu: the routed experts or the shared one, before and after x->rows is known. */
void experts_describe(const Layer *layer, Experts *x, bool shared);
moe_status experts_prepare(Layer *layer, Experts *x, const moe_tensors *params);

#endif
