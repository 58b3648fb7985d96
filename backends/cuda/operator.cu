/* The operator: for each call a layer is put together on the host from the caller's memory, its
 * kernels are launched on the caller's stream, and it is forgotten. Everything that a backward
 * needs of its forward lies in `cached`, in an order that both find by asking for the same pieces.
 */
#include "operator.h"

#include "moeref/operator.h"
#include "supports.h"

#include <new>
#include <stdio.h>

namespace {

struct Operator {
    const Device *dev;
    moe_layer_desc desc;
    moe_operator_use use;
    mutable Graphs graphs;
};

char *aligned(void *data) {
    return reinterpret_cast<char *>(
        moe_int_cuda_padded((int64_t) reinterpret_cast<uintptr_t>(data)));
}

/* ---- what it can do ---- */

moe_status op_supports(void *device, const moe_layer_desc *desc, const moe_operator_use *use,
                       moe_operator_support *ret) {
    const Device *dev = static_cast<const Device *>(device);
    moe_support support = {};
    if (moe_refuse_unknown(desc, &support)) {
        snprintf(ret->reason, sizeof ret->reason, "%s", support.reason);
        return MOE_E_UNSUPPORTED;
    }
    const char *why =
        dev->group ? "operators run on one device" : moe_int_cuda_operator_refusal(desc, use);
    if (why) {
        snprintf(ret->reason, sizeof ret->reason, "%s", why);
        return MOE_E_UNSUPPORTED;
    }
    ret->arithmetic = use->dtype;
    ret->deterministic = MOE_PROMISE_REPEATS;
    ret->place = MOE_PLACE_CUDA;
    ret->device_index = dev->index;
    ret->alignment = 16;
    ret->free_dtypes = 0;
    return MOE_OK;
}

moe_status op_open(void *device, const moe_layer_desc *desc, const moe_operator_use *use,
                   void **ret) {
    const Device *dev = static_cast<const Device *>(device);
    Operator *op = new (std::nothrow) Operator{dev, *desc, *use, {}};
    if (!op)
        return moe_fail(dev->log, MOE_E_NOMEM, "cuda: no memory for an operator");
    *ret = op;
    return MOE_OK;
}

void op_close(void *op) {
    delete static_cast<Operator *>(op);
}

/* ---- weights in another order than the kernels' ---- */

int64_t elements(const moe_view *v) {
    int64_t count = 1;
    for (int i = 0; i < v->ndim; i++)
        count *= v->shape[i];
    return count;
}

int64_t op_converted_bytes(const void *self, const moe_call *call) {
    const Operator *op = static_cast<const Operator *>(self);
    return moe_int_cuda_converted_bytes(&op->desc, call);
}

moe_status op_convert(const void *self, const moe_call *call) {
    const Operator *op = static_cast<const Operator *>(self);
    Device dev = *op->dev;
    dev.log = call->log;
    const OnDevice current(&dev);
    if (current.status)
        return current.status;
    cudaError_t err = cudaSuccess;
    for (moe_tensor_id id : moe_int_cuda_convertible) {
        const int64_t at = moe_int_cuda_converted_at(&op->desc, call, id);
        if (at < 0 || err != cudaSuccess)
            continue;
        const moe_view *v = &call->t[id];
        const WeightTarget from = operator_target(&op->desc, id, v);
        const bool is_bias = id == MOE_T_B1;
        const int E = v->ndim == 3 || is_bias ? (int)v->shape[0] : 1;
        const int rows = (int)v->shape[is_bias ? 1 : v->ndim - 2];
        err = gather_weight(&from, E, rows, is_bias ? 1 : (int)v->shape[v->ndim - 1],
                            aligned(call->converted) + at, static_cast<cudaStream_t>(call->stream));
    }
    return device_check(&dev, err, "converting weights");
}

/* ---- a call ---- */

/* A layer without the destructor's work of a prepared one. */
struct Call {
    Device dev;
    Arena arena = {};
    Layer layer = {};
    LaunchList list;

    Call(const Operator *op, int64_t tokens, int64_t columns, bool backward, const moe_log *log)
        : dev(*op->dev), list(&op->graphs) {
        const bool trains = op->use.pass & MOE_PASS_BWD;
        const moe_use use = {tokens, op->use.dtype, backward ? MOE_PASS_BOTH : MOE_PASS_FWD,
                             op->use.routed == MOE_ROUTED_BY_CALLER};
        dev.log = log;
        layer_describe(&layer, &dev, &op->desc, &use);
        if (columns)
            layer.columns = (int)columns;
        layer.forward_timer.is_off = layer.backward_timer.is_off = true;
        layer.arena = &arena;
        arena.keeps = trains;
        arena.backward = backward;
    }
    Call(const Call &) = delete;

    /* What the pass has put on the list, to the stream. */
    moe_status launch_all(moe_status status) {
        if (status)
            return status;
        return device_check(&dev, list.graphs->run(&list, dev.stream), "launching");
    }

    void take(const moe_call *call) {
        dev.stream = {static_cast<cudaStream_t>(call->stream), &list};
        arena.call = call;
        arena.at[ARENA_CACHED] = aligned(call->cached);
        arena.at[ARENA_WORK] = aligned(call->workspace);
        layer.seed = call->seed;
        layer.x = call->t[MOE_T_X].data;
        layer.dout = call->t[MOE_T_DO].data;
        layer.o = call->t[MOE_T_O].data;
        layer.dx = call->t[MOE_T_DX].data;
    }
};

moe_status op_sizes(const void *self, int64_t tokens, int64_t columns, moe_operator_sizes *ret,
                    const moe_log *log) {
    const Operator *op = static_cast<const Operator *>(self);
    const bool by_caller = op->use.routed == MOE_ROUTED_BY_CALLER;
    const int64_t slots = by_caller ? columns : op->desc.K;
    if ((double)tokens * (double)slots > 5e8 ||
        (!by_caller && (double)tokens * (double)(op->desc.E + op->desc.n_zero) > 2e9))
        return moe_fail(log, MOE_E_UNSUPPORTED, "cuda: more than 5e8 slots or 2e9 logits");
    LayerShape shape = {};
    shape.desc = &op->desc;
    shape.tokens = tokens;
    shape.columns = slots;
    shape.sms = op->dev->sms;
    shape.hopper = op->dev->hopper;
    shape.plan_given = by_caller;
    *ret = moe_int_cuda_operator_sizes(&shape, op->use.pass & MOE_PASS_BWD);
    return MOE_OK;
}

/* The caller's slots, sorted. */
moe_status route_slots(Layer *layer, const moe_call *call) {
    const SlotArgs slots = {call->index.data,
                            call->t[MOE_T_S].data,
                            call->index.dtype == MOE_I64,
                            call->t[MOE_T_S].dtype == MOE_F32,
                            layer->choice,
                            layer->choice_weight,
                            layer->token_offsets};
    const SortArgs sort = layer_sort_args(layer);
    return device_check(
        layer->dev,
        sort_slots(layer->dtype, &slots, &sort, &layer->routed.rows, layer->dev->stream),
        "sorting the slots");
}

/* A copy on the device, for whoever asked. */
cudaError_t hand_out(const Layer *layer, const moe_view *to, const void *from) {
    return to->data ? cudaMemcpyAsync(to->data, from, (size_t)elements(to) * 4,
                                      cudaMemcpyDeviceToDevice, layer->dev->stream)
                    : cudaSuccess;
}

/* What the layer's own router chose, and why. */
moe_status give_routing(Layer *layer, const moe_call *call) {
    cudaError_t err = hand_out(layer, &call->t[MOE_T_LOGITS], layer->logits);
    if (err == cudaSuccess)
        err = hand_out(layer, &call->index, layer->choice);
    if (err == cudaSuccess)
        err = hand_out(layer, &call->t[MOE_T_S], layer->choice_weight);
    return device_check(layer->dev, err, "handing out the routing");
}

moe_status op_forward(const void *self, const moe_call *call) {
    const Operator *op = static_cast<const Operator *>(self);
    const moe_tensors none = {};
    Call c(op, call->tokens, call->columns, false, call->log);
    const OnDevice current(&c.dev);
    c.take(call);
    moe_status status = current.status;
    if (!status)
        status = layer_prepare_all(&c.layer, &none);
    if (!status)
        status = c.layer.use.plan_given ? route_slots(&c.layer, call)
                                        : layer_start_token_offsets(&c.layer);
    if (!status)
        status = layer_forward(&c.layer);
    status = c.launch_all(status);
    if (!status && !c.layer.use.plan_given)
        status = give_routing(&c.layer, call);
    return status;
}

moe_status op_backward(const void *self, const moe_call *call) {
    const Operator *op = static_cast<const Operator *>(self);
    const moe_tensors none = {};
    Call c(op, call->tokens, call->columns, true, call->log);
    const OnDevice current(&c.dev);
    c.take(call);
    operator_bind_gradients(&c.layer);
    moe_status status = current.status;
    if (!status)
        status = layer_prepare_all(&c.layer, &none);
    if (operator_sums_slots(&c.layer))
        c.layer.routed.ds = nullptr;
    if (!status)
        status = layer_backward(&c.layer);
    if (!status)
        status = operator_give_ds(&c.layer);
    if (!status)
        status = operator_give_gradients(&c.layer);
    return c.launch_all(status);
}

/* ---- memory ---- */

moe_status op_allocate(const void *self, int64_t bytes, void **ret) {
    const Operator *op = static_cast<const Operator *>(self);
    const OnDevice current(op->dev);
    void *data = nullptr;
    char what[64];
    snprintf(what, sizeof what, "allocating %lld bytes on the device", (long long)bytes);
    moe_status status = current.status;
    if (!status)
        status = device_check(op->dev, cudaMalloc(&data, bytes ? (size_t)bytes : 16), what);
    if (!status)
        *ret = data;
    return status;
}

void op_free(const void *self, void *data) {
    const OnDevice current(static_cast<const Operator *>(self)->dev);
    cudaFree(data);
}

moe_status op_copy(const void *self, void *dst, const void *src, int64_t bytes, void *stream) {
    const Operator *op = static_cast<const Operator *>(self);
    const OnDevice current(op->dev);
    cudaStream_t on = static_cast<cudaStream_t>(stream);
    if (current.status)
        return current.status;
    cudaError_t err = cudaMemcpyAsync(dst, src, (size_t)bytes, cudaMemcpyDefault, on);
    if (err == cudaSuccess)
        err = cudaStreamSynchronize(on);
    return device_check(op->dev, err, "copying");
}

} // namespace

void *operator_parameter(const Layer *layer, moe_tensor_id id) {
    const moe_call *call = layer->arena->call;
    const int64_t at = moe_int_cuda_converted_at(&layer->desc, call, id);
    return at < 0 ? call->t[id].data : aligned(call->converted) + at;
}

const moe_operator_slots cuda_operators = {
    op_supports, op_open,     op_close, op_sizes, op_converted_bytes, op_convert, op_forward,
    op_backward, op_allocate, op_free,  op_copy,
};
