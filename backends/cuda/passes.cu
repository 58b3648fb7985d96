/* The forward and the backward pass: kernels in order, one stream, nothing between host and device
 * (except where the host routes). */
#include "layer.h"

namespace {

CombineArgs combine_args(const Layer *layer) {
    const Experts *x = &layer->routed;
    CombineArgs g = {};
    g.tokens = layer->T;
    g.d = (int)layer->desc.d;
    g.K = layer->columns;
    g.token_offsets = layer->token_offsets;
    g.pair_of_token = layer->pair_of_token;
    g.offsets = x->rows.offsets;
    g.E = x->rows.E;
    g.weight = x->rows.weight;
    g.rows = x->y;
    g.shared = layer->desc.n_shared ? layer->shared.y : nullptr;
    if (layer->home) {
        g.row_at = layer->home->row_at;
        g.broken = layer->home->broken;
    }
    return g;
}

/* An operator's pass is finished by whoever waits for the stream. */
moe_status finish(Layer *layer, Timer *timer, const char *what) {
    if (layer->arena)
        return MOE_OK;
    moe_status status = device_check(layer->dev, cudaStreamSynchronize(layer->dev->stream), what);
    if (!status)
        timer_finish(timer);
    return status;
}

moe_status forward_of(Layer *layer, Experts *x) {
    moe_status status = experts_up(layer, x, &layer->forward_timer);
    return status ? status : experts_down(layer, x, &layer->forward_timer);
}

} // namespace

moe_status layer_shared_gate(Layer *layer) {
    if (!layer->gate)
        return MOE_OK;
    return device_check(layer->dev,
                        gate_forward(layer->dtype, layer->T, (int)layer->desc.d, layer->x,
                                     layer->w_gate, layer->gate, layer->dev->stream),
                        "gate of the shared expert");
}

moe_status layer_combine_output(Layer *layer) {
    CombineArgs g = combine_args(layer);
    g.weigh_rows = !layer->routed.on_input;
    g.identity = layer->x;
    g.shared_weight = layer->gate;
    g.out = layer->o;
    cudaError_t err = combine(layer->dtype, &g, layer->dev->stream);
    timer_mark(&layer->forward_timer, nullptr, MOE_STAGE_O, 0, layer->dev->stream);
    return device_check(layer->dev, err, "combining the experts' outputs");
}

moe_status layer_combine_gradient(Layer *layer) {
    if (!layer->dx)
        return MOE_OK;
    CombineArgs g = combine_args(layer);
    g.weigh_rows = layer->routed.on_input;
    g.identity = layer->dout;
    g.gate = layer->gate_dz;
    g.gate_row = layer->w_gate;
    g.start = layer->dx_router;
    g.out = layer->dx;
    cudaError_t err = combine(layer->dtype, &g, layer->dev->stream);
    timer_mark(&layer->backward_timer, nullptr, MOE_STAGE_DX, 0, layer->dev->stream);
    return device_check(layer->dev, err, "combining dX");
}

moe_status layer_gate_gradient(Layer *layer) {
    if (!layer->desc.shared_gate || !layer->desc.n_shared)
        return MOE_OK;
    const Stream &stream = layer->dev->stream;
    cudaError_t err = gate_slope(layer->T, layer->gate, layer->shared.ds, layer->gate_dz, stream);
    if (err == cudaSuccess)
        err = token_column_sums(layer, layer->x, (int)layer->desc.d, (int)layer->desc.d,
                                layer->gate_dz, layer->dw_gate);
    timer_mark(&layer->backward_timer, nullptr, MOE_STAGE_GATE_BACKWARD, 0, stream);
    return device_check(layer->dev, err, "gradient of the shared expert's gate");
}

moe_status layer_forward(void *self) {
    Layer *layer = static_cast<Layer *>(self);
    const Stream &stream = layer->dev->stream;
    const OnDevice current(layer->dev);
    layer->backward_timer.cost.clear();
    timer_start(&layer->forward_timer, stream);
    moe_status status = current.status ? current.status : layer_route(layer);
    if (!status)
        status = layer_shared_gate(layer);
    if (!status)
        status = forward_of(layer, &layer->routed);
    if (!status && layer->desc.n_shared)
        status = forward_of(layer, &layer->shared);
    if (!status)
        status = layer_combine_output(layer);
    return status ? status : finish(layer, &layer->forward_timer, "forward");
}

moe_status layer_backward(void *self) {
    Layer *layer = static_cast<Layer *>(self);
    const OnDevice current(layer->dev);
    timer_start(&layer->backward_timer, layer->dev->stream);
    moe_status status = current.status;
    if (!status)
        status = experts_backward(layer, &layer->routed, &layer->backward_timer);
    if (!status && layer->desc.n_shared)
        status = experts_backward(layer, &layer->shared, &layer->backward_timer);
    if (!status)
        status = layer_route_backward(layer);
    if (!status)
        status = layer_gate_gradient(layer);
    if (!status)
        status = layer_combine_gradient(layer);
    return status ? status : finish(layer, &layer->backward_timer, "backward");
}
