/* Gradients of an operator's call: into the caller's memory, order and dtype. */
#include "operator.h"

WeightTarget operator_target(const moe_layer_desc *desc, moe_tensor_id id, const moe_view *v) {
    WeightTarget t = {};
    const int matrix =
        moe_tensor_param_of(id) == MOE_T_COUNT ? (int)id : (int)moe_tensor_param_of(id);
    const bool is_bias = matrix == MOE_T_B1 || matrix == MOE_T_B2;
    t.out = v->data;
    t.is_f32 = v->dtype == MOE_F32;
    t.half = moe_int_cuda_is_interleaved(desc, id) ? (int)desc->n : 0;
    if (is_bias) {
        t.expert = v->shape[1];
        t.row = 1;
    } else {
        t.expert = v->ndim == 3 ? v->shape[1] * v->shape[2] : 0;
        t.row = v->stride[v->ndim - 2];
        t.column = v->stride[v->ndim - 1];
    }
    return t;
}

namespace {

/* A gradient that the kernels' own stores can make goes straight to the caller; any other element
 * by element; an absent one is not made. */
void bind_gradient(const Layer *layer, moe_tensor_id id, void **plain, WeightTarget *to) {
    const moe_call *call = layer->arena->call;
    const moe_view *v = &call->t[id];
    *plain = nullptr;
    *to = {};
    if (!v->data)
        return;
    const bool as_computed = v->dtype == layer->dtype && moe_int_cuda_is_row_major(v) &&
                             !call->beta && !moe_int_cuda_is_interleaved(&layer->desc, id);
    if (as_computed) {
        *plain = v->data;
    } else {
        *to = operator_target(&layer->desc, id, v);
        to->adds = call->beta;
    }
}

} // namespace

void operator_bind_gradients(Layer *layer) {
    Experts *r = &layer->routed, *s = &layer->shared;
    bind_gradient(layer, MOE_T_DW1, &r->dw1, &r->dw1_to);
    bind_gradient(layer, MOE_T_DW2, &r->dw2, &r->dw2_to);
    bind_gradient(layer, MOE_T_DW1_SHARED, &s->dw1, &s->dw1_to);
    bind_gradient(layer, MOE_T_DW2_SHARED, &s->dw2, &s->dw2_to);
}

moe_status operator_give_gradients(Layer *layer) {
    const moe_call *call = layer->arena->call;
    const Experts *x = &layer->routed;
    const int64_t d = layer->desc.d;
    const struct {
        moe_tensor_id id;
        const float *from;
        int E;
        int64_t rows;
    } all[] = {{MOE_T_DW_R, layer->dw_r, 1, layer->outputs * d},
               {MOE_T_DB_R, layer->db_r, 1, layer->outputs},
               {MOE_T_DB1, x->db1, x->rows.E, x->hw},
               {MOE_T_DB2, x->db2, x->rows.E, d},
               {MOE_T_DW_GATE_SHARED, layer->dw_gate, 1, d}};
    cudaError_t err = cudaSuccess;
    for (const auto &g : all) {
        const moe_view *v = &call->t[g.id];
        if (!v->data || !g.from || err != cudaSuccess)
            continue;
        WeightTarget to = {};
        to.out = v->data;
        to.is_f32 = v->dtype == MOE_F32;
        to.adds = call->beta;
        to.half = moe_int_cuda_is_interleaved(&layer->desc, g.id) ? x->n : 0;
        to.expert = g.rows;
        to.row = 1;
        err = give_gradient(layer->dtype, &to, g.E, g.rows, g.from, layer->dev->stream);
    }
    return device_check(layer->dev, err, "handing out gradients");
}

bool operator_sums_slots(const Layer *layer) {
    const Experts *x = &layer->routed;
    return layer->use.plan_given && x->rows.bins == x->rows.E && !x->b2 && !x->on_input;
}

moe_status operator_give_ds(Layer *layer) {
    const Experts *x = &layer->routed;
    const moe_view *v = &layer->arena->call->t[MOE_T_DS];
    const bool sums = operator_sums_slots(layer);
    if (!v->data)
        return MOE_OK;
    return device_check(layer->dev,
                        give_slots(layer->pair_of_token, sums ? x->ds_part : x->ds,
                                   sums ? experts_ds_parts(x) : 1, x->rows.cap,
                                   (int64_t)layer->T * layer->columns,
                                   static_cast<float *>(v->data), layer->dev->stream),
                        "dS of the slots");
}
