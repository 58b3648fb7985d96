/* Routing plans: given ones are uploaded, the layer's own are made on the device, or on the host
 * for rules that look across tokens. */
#include "layer.h"
#include "supports.h"

#include <stdlib.h>

namespace {

bool host_routes(const Layer *layer) {
    return !layer->use.plan_given && !moe_int_cuda_routes(&layer->desc.router);
}

template <class To, class From> std::vector<To> narrowed(const From *from, int64_t count) {
    std::vector<To> out((size_t)count);
    for (int64_t i = 0; i < count; i++)
        out[(size_t)i] = (To)from[i];
    return out;
}

moe_status upload_plan(Layer *layer, const moe_plan *plan) {
    const RowGroups *r = &layer->routed.rows;
    auto offsets = narrowed<int>(plan->offsets, plan->n_experts + 1);
    auto weight = narrowed<float>(plan->weight, plan->n_pairs);
    auto token_offsets = narrowed<int>(plan->token_offsets, plan->n_tokens + 1);
    auto pair = narrowed<int>(plan->pair_of_token, plan->n_pairs);
    moe_status status = layer_upload(layer, r->offsets, offsets.data(), offsets.size() * 4);
    if (!status)
        status = layer_upload(layer, r->token, plan->token, (size_t)plan->n_pairs * 4);
    if (!status)
        status = layer_upload(layer, r->weight, weight.data(), weight.size() * 4);
    if (!status)
        status = layer_upload(layer, layer->token_offsets, token_offsets.data(),
                              token_offsets.size() * 4);
    if (!status)
        status = layer_upload(layer, layer->pair_of_token, pair.data(), pair.size() * 4);
    return status ? status
                  : device_check(layer->dev, list_tiles(r, layer->dev->stream), "listing tiles");
}

/* The logits as the library's router takes them, b_select too. */
moe_status download_logits(Layer *layer, std::vector<double> *ret) {
    size_t count = (size_t)layer->T * (size_t)layer->outputs;
    std::vector<float> z(count);
    moe_status status = layer_download(layer, z.data(), layer->logits, count * 4);
    if (!status)
        ret->assign(z.begin(), z.end());
    return status;
}

moe_status route_on_host(Layer *layer) {
    std::vector<double> z, bias;
    moe_status status = download_logits(layer, &z);
    if (!status && layer->b_select) {
        std::vector<float> b((size_t)layer->outputs);
        status = layer_download(layer, b.data(), layer->b_select, b.size() * 4);
        bias.assign(b.begin(), b.end());
    }
    moe_plan *plan = nullptr;
    if (!status)
        status = moe_route(&layer->desc, layer->T, z.data(), bias.empty() ? nullptr : bias.data(),
                           layer->seed, layer->dev->log, &plan);
    if (status)
        return status;
    moe_plan_destroy(&layer->plan);
    layer->plan = plan;
    layer->plan_is_current = true;
    if (plan->n_pairs > layer->routed.rows.cap)
        return moe_fail(layer->dev->log, MOE_E_DEVICE,
                        "cuda: the router made more pairs than it can");
    return upload_plan(layer, plan);
}

RouterArgs router_args(const Layer *layer) {
    RouterArgs g = {};
    g.desc = &layer->desc.router;
    g.tokens = layer->T;
    g.outputs = layer->outputs;
    g.K = (int)layer->desc.K;
    g.logits = layer->logits;
    g.b_select = layer->b_select;
    g.expert = layer->choice;
    g.expert_weight = layer->choice_weight;
    g.pair = layer->pair_of_token;
    g.ds = layer->routed.ds;
    g.dz = layer->dz;
    g.dz_ld = layer->dz_ld;
    return g;
}

moe_status route_on_device(Layer *layer, Timer *timer) {
    const Stream &stream = layer->dev->stream;
    RouterArgs g = router_args(layer);
    cudaError_t err = router_choose(&g, stream);
    timer_mark(timer, nullptr, MOE_STAGE_TOPK, 0, stream);
    const SortArgs sort = layer_sort_args(layer);
    if (err == cudaSuccess)
        err = sort_by_expert(&sort, &layer->routed.rows, stream);
    timer_mark(timer, nullptr, MOE_STAGE_METADATA, 0, stream);
    layer->plan_is_current = false;
    return device_check(layer->dev, err, "routing");
}

double router_flops(const Layer *layer) {
    return 2.0 * layer->T * (double)layer->outputs * (double)layer->desc.d;
}

/* dz on the host, from dS of the plan's pairs. */
moe_status host_router_backward(Layer *layer) {
    const size_t T = (size_t)layer->T, n = (size_t)layer->outputs, ld = (size_t)layer->dz_ld;
    std::vector<double> z, dz(T * n);
    moe_status status = download_logits(layer, &z);
    std::vector<float> ds((size_t)layer->plan->n_pairs);
    if (!status)
        status = layer_download(layer, ds.data(), layer->routed.ds, ds.size() * 4);
    std::vector<double> wide(ds.begin(), ds.end());
    if (!status)
        status = moe_route_backward(&layer->desc, z.data(), layer->plan, wide.data(), dz.data());
    if (status)
        return status;
    std::vector<uint16_t> out(T * ld, 0);
    const moe_dtype type = (moe_dtype)layer->dtype;
    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < n; i++) {
            double high = moe_round_to(dz[t * n + i], type);
            moe_store(out.data(), type, t * ld + i, high);
            moe_store(out.data(), type, t * ld + ld / 2 + i, dz[t * n + i] - high);
        }
    return layer_upload(layer, layer->dz, out.data(), out.size() * 2);
}

/* The router's part of dX is dz W_r; dW_r = dz^T X; db_r = sum dz. dz comes as the sum of two
 * 16-bit numbers: one alone would make the router's gradients less accurate than the experts'. */
cudaError_t router_gradients(Layer *layer) {
    const Stream &stream = layer->dev->stream;
    const int d = (int)layer->desc.d;
    GenericArgs to_x = GenericArgs::of_rows(&layer->dense, GENERIC_NN, layer->dz, layer->w_r, d,
                                            layer->dz_ld, layer->dx_router);
    to_x.b_map = layer->dz_rows;
    to_x.out_f32 = 1;
    cudaError_t err = generic_gemm(layer->dtype, GENERIC_NN, &to_x, stream);
    if (err == cudaSuccess)
        err = split_token_product(layer, layer->dz, layer->dz_ld, layer->outputs, layer->x, d,
                                  layer->dw_r);
    if (err == cudaSuccess && layer->db_r)
        err = split_token_column_sums(layer, layer->dz, layer->dz_ld, layer->outputs, layer->db_r);
    return err;
}

static_assert(MOE_SELECT_COUNT == 7, "buffers.c says how many pairs each of them can make");

} // namespace

SortArgs layer_sort_args(const Layer *layer) {
    return {layer->T,
            layer->columns,
            layer->choice,
            layer->choice_weight,
            layer->counts,
            moe_int_cuda_chunk(layer->T, layer->dev->sms),
            layer->pair_of_token};
}

moe_status layer_start_token_offsets(Layer *layer) {
    return device_check(
        layer->dev,
        fill_steps(layer->token_offsets, layer->T + 1, layer->columns, 1, layer->dev->stream),
        "listing the tokens");
}

moe_status layer_set_input(void *self, const moe_input *input) {
    Layer *layer = static_cast<Layer *>(self);
    const size_t bytes = (size_t)layer->T * (size_t)layer->desc.d * 2;
    const OnDevice current(layer->dev);
    layer->given = input->plan;
    layer->seed = input->seed;
    moe_status status = current.status;
    if (!status)
        status = layer_upload(layer, layer->x, input->X.data, bytes);
    if (!status && layer->dout && input->dO.data)
        status = layer_upload(layer, layer->dout, input->dO.data, bytes);
    if (!status && input->plan)
        status = experts_alloc_rows(layer, &layer->routed, (int)input->plan->n_pairs);
    if (!status && input->plan)
        status = upload_plan(layer, input->plan);
    if (!status && !input->plan && !host_routes(layer))
        status = layer_start_token_offsets(layer);
    return status ? status : device_check(layer->dev, cudaDeviceSynchronize(), "input");
}

moe_status layer_route(Layer *layer) {
    if (layer->use.plan_given)
        return MOE_OK;
    const Stream &stream = layer->dev->stream;
    GenericArgs g = GenericArgs::of_rows(&layer->dense, GENERIC_NT, layer->x, layer->w_r,
                                         layer->outputs, (int)layer->desc.d, layer->logits);
    g.out_f32 = 1;
    g.bias = layer->b_r;
    cudaError_t err = generic_gemm(layer->dtype, GENERIC_NT, &g, stream);
    timer_mark(&layer->forward_timer, nullptr, MOE_STAGE_ROUTER, router_flops(layer), stream);
    moe_status status = device_check(layer->dev, err, "router logits");
    if (status)
        return status;
    if (!host_routes(layer))
        return route_on_device(layer, &layer->forward_timer);
    status = device_check(layer->dev, cudaStreamSynchronize(stream), "router logits");
    if (!status)
        status = route_on_host(layer);
    timer_mark(&layer->forward_timer, nullptr, MOE_STAGE_METADATA, 0, stream);
    return status;
}

moe_status layer_route_backward(Layer *layer) {
    if (layer->use.plan_given)
        return MOE_OK;
    const Stream &stream = layer->dev->stream;
    moe_status status = MOE_OK;
    cudaError_t err = cudaSuccess;
    if (host_routes(layer)) {
        status = device_check(layer->dev, cudaStreamSynchronize(stream), "dS");
        if (!status)
            status = host_router_backward(layer);
    } else {
        RouterArgs g = router_args(layer);
        err = router_backward(layer->dtype, &g, stream);
    }
    if (!status && err == cudaSuccess)
        err = router_gradients(layer);
    timer_mark(&layer->backward_timer, nullptr, MOE_STAGE_ROUTER_BACKWARD, 2 * router_flops(layer),
               stream);
    return status ? status : device_check(layer->dev, err, "gradient of the router");
}

/* The device's choices as a plan in host memory, outside any timing. */
moe_status layer_routing(void *self, const moe_plan **ret) {
    Layer *layer = static_cast<Layer *>(self);
    const size_t count = (size_t)layer->T * (size_t)layer->desc.K;
    if (!layer->plan_is_current) {
        std::vector<int32_t> expert(count), token(count);
        std::vector<float> weight(count);
        const OnDevice current(layer->dev);
        moe_status status = current.status;
        if (!status)
            status = layer_download(layer, expert.data(), layer->choice, count * 4);
        if (!status)
            status = layer_download(layer, weight.data(), layer->choice_weight, count * 4);
        if (status)
            return status;
        for (size_t i = 0; i < count; i++)
            token[i] = (int32_t)(i / (size_t)layer->desc.K);
        std::vector<double> wide(weight.begin(), weight.end());
        moe_plan *plan = nullptr;
        status = moe_plan_create(layer->T, layer->outputs, (int64_t)count, token.data(),
                                 expert.data(), wide.data(), layer->dev->log, &plan);
        if (status)
            return status;
        moe_plan_destroy(&layer->plan);
        layer->plan = plan;
        layer->plan_is_current = true;
    }
    *ret = layer->plan;
    return MOE_OK;
}
