/* The shared expert's gate (Qwen2-MoE): s = sigmoid(<x, w>), one warp per token. */
#include "element.cuh"
#include "kernels.h"

namespace {

constexpr int WARPS = 8;

template <class T>
__global__ void gate_kernel(int tokens, int d, const T *x, const T *w, float *s) {
    int t = (int)(blockIdx.x * WARPS + (threadIdx.x >> 5));
    if (t >= tokens)
        return;
    float z = 0.f;
    for (int c = ((int)threadIdx.x & 31) * 8; c < d; c += 256) {
        float a[8], b[8];
        unpack8<T>(*reinterpret_cast<const uint4 *>(x + (int64_t)t * d + c), a);
        unpack8<T>(*reinterpret_cast<const uint4 *>(w + c), b);
#pragma unroll
        for (int i = 0; i < 8; i++)
            z += a[i] * b[i];
    }
#pragma unroll
    for (int step = 16; step > 0; step >>= 1)
        z += __shfl_xor_sync(~0u, z, step);
    if ((threadIdx.x & 31) == 0)
        s[t] = 1.f / (1.f + expf(-z));
}

__global__ void gate_slope_kernel(int tokens, const float *s, const float *ds, float *dz) {
    int t = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (t < tokens)
        dz[t] = ds[t] * s[t] * (1.f - s[t]);
}

} // namespace

cudaError_t gate_forward(int dtype, int tokens, int d, const void *x, const void *w, float *s,
                         const Stream &stream) {
    unsigned blocks = (unsigned)((tokens + WARPS - 1) / WARPS);
    const LaunchShape shape = {blocks, WARPS * 32};
    return dtype == MOE_BF16
               ? launch(stream, shape, gate_kernel<__nv_bfloat16>, tokens, d,
                        static_cast<const __nv_bfloat16 *>(x),
                        static_cast<const __nv_bfloat16 *>(w), s)
               : launch(stream, shape, gate_kernel<__half>, tokens, d,
                        static_cast<const __half *>(x), static_cast<const __half *>(w), s);
}

cudaError_t gate_slope(int tokens, const float *s, const float *ds, float *dz,
                       const Stream &stream) {
    return launch(stream, {(unsigned)((tokens + 255) / 256), 256}, gate_slope_kernel, tokens, s, ds,
                  dz);
}
