/* Sums over all tokens: dW_r = dz^T X and sums of columns. One group of rows would leave most of
 * the device idle, so slices of the tokens are summed side by side and then the slices, in an order
 * that is the same every time. */
#include "layer.h"

namespace {

/* out[i] = sum of part[s][i], and of part[s][low + i] where the second half of a split number has
 * sums of its own there; low = 0: there is none. */
__global__ void sum_slices_kernel(const float *part, int slices, int64_t stride, int64_t low,
                                  int64_t count, float *out) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count)
        return;
    float sum = 0.f;
    for (int s = 0; s < slices; s++)
        sum += low ? part[s * stride + i] + part[s * stride + low + i] : part[s * stride + i];
    out[i] = sum;
}

cudaError_t sum_slices(const Layer *layer, int64_t stride, int64_t low, int64_t count, float *out) {
    const unsigned blocks = (unsigned)((count + 255) / 256);
    return launch(layer->dev->stream, {blocks, 256}, sum_slices_kernel, layer->slice_sums,
                  layer->slices.E, stride, low, count, out);
}

} // namespace

moe_status prepare_token_sums(Layer *layer) {
    if (layer->sizes.bytes[BUFFER_SLICE_SUMS] < 0)
        return MOE_OK;
    const int slices = (int)(layer->sizes.bytes[BUFFER_SLICE_OFFSETS] / 4) - 1;
    RowGroups *r = &layer->slices;
    *r = RowGroups::empty(slices, slices, layer->T);
    void *on_device = nullptr, *sums = nullptr;
    moe_status status = layer_take(layer, BUFFER_SLICE_OFFSETS, &on_device);
    if (!status)
        status = layer_take(layer, BUFFER_SLICE_SUMS, &sums);
    r->offsets = static_cast<int *>(on_device);
    layer->slice_sums = static_cast<float *>(sums);
    if (status)
        return status;
    return device_check(layer->dev,
                        fill_steps(r->offsets, slices + 1, layer->T, slices, layer->dev->stream),
                        "slicing the tokens");
}

cudaError_t split_token_product(const Layer *layer, const void *a, int lda, int M, const void *b,
                                int N, float *out) {
    GenericArgs g = GenericArgs::over_rows(&layer->slices, a, lda, lda, b, N, layer->slice_sums);
    g.out_f32 = 1;
    cudaError_t err = generic_gemm(layer->dtype, GENERIC_TN, &g, layer->dev->stream);
    if (err != cudaSuccess)
        return err;
    return sum_slices(layer, g.out_stride, (int64_t)lda / 2 * N, (int64_t)M * N, out);
}

cudaError_t split_token_column_sums(const Layer *layer, const void *in, int ld, int width,
                                    float *out) {
    cudaError_t err = column_sums(layer->dtype, &layer->slices, ld, in, ld, nullptr, nullptr,
                                  layer->slice_sums, layer->dev->stream);
    return err == cudaSuccess ? sum_slices(layer, ld, ld / 2, width, out) : err;
}

cudaError_t token_column_sums(const Layer *layer, const void *in, int ld, int width,
                              const float *weight, float *out) {
    cudaError_t err = column_sums(layer->dtype, &layer->slices, width, in, ld, nullptr, weight,
                                  layer->slice_sums, layer->dev->stream);
    return err == cudaSuccess ? sum_slices(layer, width, 0, width, out) : err;
}
