/* The GEMMs of one bank of experts: Hopper's kernels where they apply, the portable ones elsewhere.
 */
#include "layer.h"

namespace {

cudaError_t hopper(const Layer *layer, const Experts *x, HopperOp op) {
    return layer->dtype == MOE_BF16
               ? hopper_gemm_bf16(op, &x->op[op], layer->dev->sms, layer->dev->stream)
               : hopper_gemm_f16(op, &x->op[op], layer->dev->sms, layer->dev->stream);
}

bool gated(const Experts *x) {
    return x->hw != x->n;
}

/* Model FLOPs of a GEMM of all rows with d x width weights. Rows are known on the host where the
 * plan was given or dense; a router that drops no pair makes T K. */
double gemm_flops(const Layer *layer, const Experts *x, int width) {
    int64_t pairs = x->shared      ? layer->T
                    : layer->given ? layer->given->offsets[layer->desc.E]
                                   : (int64_t)layer->T * layer->desc.K;
    return 2.0 * (double)pairs * (double)layer->desc.d * width;
}

/* C[rows][N] = A[rows][K] B_e, weights [E][N][K] (nt) or [E][K][N]. */
cudaError_t rows_gemm(const Layer *layer, const Experts *x, bool nt, const void *a,
                      const int *a_map, const void *weights, int N, int K, const void *bias,
                      const float *scale, void *out, bool out_f32 = false) {
    const GenericForm form = nt ? GENERIC_NT : GENERIC_NN;
    GenericArgs g = GenericArgs::of_rows(&x->rows, form, a, weights, N, K, out);
    g.a_map = a_map;
    g.bias = bias;
    g.row_scale = scale;
    g.out_f32 = out_f32;
    return generic_gemm(layer->dtype, form, &g, layer->dev->stream);
}

/* C[e][M][N] = A[rows][M]^T B[rows][N]. */
cudaError_t weight_gemm(const Layer *layer, const Experts *x, const void *a, const int *a_map,
                        int M, const void *b, const int *b_map, int N, void *out,
                        const WeightTarget &target) {
    GenericArgs g = GenericArgs::over_rows(&x->rows, a, M, M, b, N, out);
    g.a_map = a_map;
    g.b_map = b_map;
    g.target = target;
    return generic_gemm(layer->dtype, GENERIC_TN, &g, layer->dev->stream);
}

cudaError_t launch_dact(Layer *layer, Experts *x) {
    const int d = (int)layer->desc.d;
    const Stream &stream = layer->dev->stream;
    if (x->hopper && gated(x))
        return hopper(layer, x, HOPPER_DA_DACT);
    cudaError_t err = rows_gemm(layer, x, false, layer->dout, x->rows.token, x->w2, x->n, d,
                                nullptr, nullptr, x->da, true);
    if (err != cudaSuccess)
        return err;
    return act_backward(layer->dtype, &x->rows, &layer->act, x->n, x->h, x->weight, x->da, x->a,
                        x->dh, x->ds_part, stream);
}

cudaError_t launch_ds(Layer *layer, Experts *x) {
    const int parts = experts_ds_parts(x);
    if (x->rows.bins == x->rows.E && !x->b2)
        return sum_ds_parts(&x->rows, x->ds_part, parts, x->ds, layer->dev->stream);
    DsArgs args = {};
    args.part = x->on_input ? nullptr : x->ds_part;
    args.parts = parts;
    args.dout = layer->dout;
    args.b2 = x->b2;
    args.x = layer->x;
    args.d = (int)layer->desc.d;
    args.ds = x->ds;
    return finish_ds(layer->dtype, &x->rows, &args, layer->dev->stream);
}

cudaError_t launch_bias_gradients(Layer *layer, Experts *x) {
    const int d = (int)layer->desc.d;
    const Stream &stream = layer->dev->stream;
    cudaError_t err =
        column_sums(layer->dtype, &x->rows, x->hw, x->dh, x->hw, nullptr, nullptr, x->db1, stream);
    if (err != cudaSuccess)
        return err;
    return column_sums(layer->dtype, &x->rows, d, layer->dout, d, x->rows.token, x->weight, x->db2,
                       stream);
}

bool is_made(const void *gradient, const WeightTarget &to) {
    return gradient || to.out;
}

cudaError_t launch_dw2(Layer *layer, Experts *x) {
    if (!is_made(x->dw2, x->dw2_to))
        return cudaSuccess;
    return x->hopper ? hopper(layer, x, HOPPER_DW2)
                     : weight_gemm(layer, x, layer->dout, x->rows.token, (int)layer->desc.d, x->a,
                                   nullptr, x->n, x->dw2, x->dw2_to);
}

cudaError_t launch_dw1(Layer *layer, Experts *x) {
    if (!is_made(x->dw1, x->dw1_to))
        return cudaSuccess;
    const void *dh = x->on_input ? x->dh_scaled : x->dh;
    return x->hopper ? hopper(layer, x, HOPPER_DW1)
                     : weight_gemm(layer, x, dh, nullptr, x->hw, layer->x, x->rows.token,
                                   (int)layer->desc.d, x->dw1, x->dw1_to);
}

/* The weight sat on the input: dS from dX~, and dW1 needs w * dH. */
cudaError_t launch_input_weight(Layer *layer, Experts *x) {
    const Stream &stream = layer->dev->stream;
    cudaError_t err =
        input_weight_ds(layer->dtype, &x->rows, (int)layer->desc.d, x->y, layer->x, x->ds, stream);
    if (err != cudaSuccess)
        return err;
    return scale_rows(layer->dtype, &x->rows, x->hw, x->dh, x->dh_scaled, stream);
}

} // namespace

int experts_ds_parts(const Experts *x) {
    return x->hopper && gated(x) ? x->op[HOPPER_DA_DACT].n_tiles : 1;
}

moe_status experts_up(Layer *layer, Experts *x, Timer *timer) {
    const int d = (int)layer->desc.d;
    const Stream &stream = layer->dev->stream;
    cudaError_t err;
    if (x->hopper)
        err = hopper(layer, x, gated(x) ? HOPPER_UP_ACT : HOPPER_UP);
    else
        err = rows_gemm(layer, x, true, layer->x, x->rows.token, x->w1, x->hw, d, x->b1,
                        x->on_input ? x->rows.weight : nullptr, x->h);
    if (err == cudaSuccess && !(x->hopper && gated(x)))
        err = act_forward(layer->dtype, &x->rows, &layer->act, x->n, x->h, x->a, stream);
    x->a_is_gradient = false;
    timer_mark(timer, x, MOE_STAGE_A, gemm_flops(layer, x, x->hw), stream);
    return device_check(layer->dev, err, "up-projection");
}

moe_status experts_down(Layer *layer, Experts *x, Timer *timer) {
    cudaError_t err = x->hopper ? hopper(layer, x, HOPPER_DOWN)
                                : rows_gemm(layer, x, true, x->a, nullptr, x->w2,
                                            (int)layer->desc.d, x->n, x->b2, nullptr, x->y);
    x->y_is_gradient = false;
    timer_mark(timer, x, MOE_STAGE_Y, gemm_flops(layer, x, x->n), layer->dev->stream);
    return device_check(layer->dev, err, "down-projection");
}

moe_status experts_dxp(Layer *layer, Experts *x, Timer *timer) {
    cudaError_t err = x->hopper ? hopper(layer, x, HOPPER_DXP)
                                : rows_gemm(layer, x, false, x->dh, nullptr, x->w1,
                                            (int)layer->desc.d, x->hw, nullptr, nullptr, x->y);
    x->y_is_gradient = true;
    timer_mark(timer, x, MOE_STAGE_DXP, gemm_flops(layer, x, x->hw), layer->dev->stream);
    return device_check(layer->dev, err, "dX~");
}

moe_status experts_dh_product(Layer *layer, Experts *x) {
    x->a_is_gradient = true;
    return device_check(layer->dev, launch_dact(layer, x), "backward of the experts");
}

moe_status experts_dh_sums(Layer *layer, Experts *x, Timer *timer) {
    const Stream &stream = layer->dev->stream;
    cudaError_t err = cudaSuccess;
    if (x->ds) {
        err = launch_ds(layer, x);
        timer_mark(timer, x, MOE_STAGE_DS, 0, stream);
    }
    if (err == cudaSuccess && x->db1) {
        err = launch_bias_gradients(layer, x);
        timer_mark(timer, x, MOE_STAGE_DB, 0, stream);
    }
    return device_check(layer->dev, err, "sums over the experts' rows");
}

moe_status experts_dh(Layer *layer, Experts *x, Timer *timer) {
    const moe_status status = experts_dh_product(layer, x);
    timer_mark(timer, x, MOE_STAGE_DH, gemm_flops(layer, x, x->n), layer->dev->stream);
    return status ? status : experts_dh_sums(layer, x, timer);
}

moe_status experts_dw2(Layer *layer, Experts *x, Timer *timer) {
    cudaError_t err = launch_dw2(layer, x);
    timer_mark(timer, x, MOE_STAGE_DW2, gemm_flops(layer, x, x->n), layer->dev->stream);
    return device_check(layer->dev, err, "gradient of W2");
}

moe_status experts_input_weight(Layer *layer, Experts *x, Timer *timer) {
    if (!x->on_input)
        return MOE_OK;
    cudaError_t err = launch_input_weight(layer, x);
    timer_mark(timer, x, MOE_STAGE_DS, 0, layer->dev->stream);
    return device_check(layer->dev, err, "dS of weights on the input");
}

moe_status experts_dw1(Layer *layer, Experts *x, Timer *timer) {
    cudaError_t err = launch_dw1(layer, x);
    timer_mark(timer, x, MOE_STAGE_DW1, gemm_flops(layer, x, x->hw), layer->dev->stream);
    return device_check(layer->dev, err, "gradient of W1");
}

moe_status experts_backward(Layer *layer, Experts *x, Timer *timer) {
    moe_status status = experts_dh(layer, x, timer);
    if (!status)
        status = experts_dw2(layer, x, timer);
    if (!status && (layer->dx || x->on_input))
        status = experts_dxp(layer, x, timer);
    if (!status)
        status = experts_input_weight(layer, x, timer);
    return status ? status : experts_dw1(layer, x, timer);
}
