/* Between the caller's memory and the kernels': slots, orders of weights, small gradients, lists of
 * numbers that no upload brings. Element by element: none of them is large beside the experts. */
#include "kernels.h"

namespace {

__device__ __forceinline__ int64_t thread_index() {
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

unsigned blocks_of(int64_t count) {
    return (unsigned)((count + 255) / 256);
}

__global__ void steps_kernel(int *out, int count, int64_t numerator, int denominator) {
    const int64_t i = thread_index();
    if (i < count)
        out[i] = (int)(i * numerator / denominator);
}

__global__ void folded_kernel(int *out, int count, int half, int most) {
    const int64_t i = thread_index();
    if (i < count)
        out[i] = (int)i % half < most ? (int)i % half : 0;
}

__global__ void give_slots_kernel(const int *pair, const float *part, int parts, int cap,
                                  int64_t count, float *out) {
    const int64_t i = thread_index();
    if (i >= count)
        return;
    float sum = 0.f;
    for (int k = 0; pair[i] >= 0 && k < parts; k++)
        sum += part[(int64_t)k * cap + pair[i]];
    out[i] = sum;
}

__global__ void gather_weight_kernel(WeightTarget from, int64_t count, int rows, int columns,
                                     uint16_t *out) {
    const int64_t i = thread_index();
    if (i >= count)
        return;
    const int64_t line = i / columns;
    out[i] = static_cast<const uint16_t *>(
        from.out)[target_place(from, (int)(line / rows), line % rows, i % columns)];
}

template <class T>
__global__ void give_gradient_kernel(WeightTarget to, int64_t count, int64_t rows,
                                     const float *in) {
    const int64_t i = thread_index();
    if (i < count)
        store_to<T>(to, (int)(i / rows), i % rows, 0, in[i]);
}

template <class T> __global__ void widen_kernel(const T *in, int count, float *out) {
    const int64_t i = thread_index();
    if (i < count)
        out[i] = Element<T>::load(in + i);
}

} // namespace

cudaError_t fill_steps(int *out, int count, int64_t numerator, int denominator,
                       const Stream &stream) {
    return launch(stream, {blocks_of(count), 256}, steps_kernel, out, count, numerator,
                  denominator);
}

cudaError_t fill_folded(int *out, int count, int half, int most, const Stream &stream) {
    return launch(stream, {blocks_of(count), 256}, folded_kernel, out, count, half, most);
}

cudaError_t give_slots(const int *pair, const float *part, int parts, int cap, int64_t count,
                       float *out, const Stream &stream) {
    return launch(stream, {blocks_of(count), 256}, give_slots_kernel, pair, part, parts, cap, count,
                  out);
}

cudaError_t gather_weight(const WeightTarget *from, int E, int rows, int columns, void *out,
                          const Stream &stream) {
    const int64_t count = (int64_t)E * rows * columns;
    return launch(stream, {blocks_of(count), 256}, gather_weight_kernel, *from, count, rows,
                  columns, static_cast<uint16_t *>(out));
}

cudaError_t give_gradient(int dtype, const WeightTarget *to, int E, int64_t rows, const float *in,
                          const Stream &stream) {
    const int64_t count = E * rows;
    return launch(stream, {blocks_of(count), 256},
                  dtype == MOE_BF16 ? give_gradient_kernel<__nv_bfloat16>
                                    : give_gradient_kernel<__half>,
                  *to, count, rows, in);
}

cudaError_t widen(int dtype, const void *in, int count, float *out, const Stream &stream) {
    const LaunchShape shape = {blocks_of(count), 256};
    return dtype == MOE_BF16 ? launch(stream, shape, widen_kernel<__nv_bfloat16>,
                                      static_cast<const __nv_bfloat16 *>(in), count, out)
                             : launch(stream, shape, widen_kernel<__half>,
                                      static_cast<const __half *>(in), count, out);
}
