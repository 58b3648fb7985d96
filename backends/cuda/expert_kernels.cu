/* Row- and column-wise kernels around the experts' GEMMs: activations, dS, bias gradients. One warp
 * works on one row; sums have a fixed order. */
#include "element.cuh"
#include "kernels.h"

namespace {

constexpr int WARPS = 8;

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1)
        x += __shfl_xor_sync(~0u, x, step);
    return x;
}

__device__ __forceinline__ int first_row() {
    return (int)(blockIdx.x * WARPS + (threadIdx.x >> 5));
}

template <class T> __device__ __forceinline__ float row_dot(const T *a, const T *b, int width) {
    float sum = 0.f;
    for (int c = ((int)threadIdx.x & 31) * 8; c < width; c += 256) {
        float x[8], y[8];
        unpack8<T>(*reinterpret_cast<const uint4 *>(a + c), x);
        unpack8<T>(*reinterpret_cast<const uint4 *>(b + c), y);
#pragma unroll
        for (int i = 0; i < 8; i++)
            sum += x[i] * y[i];
    }
    return warp_sum(sum);
}

template <class T>
__global__ void act_forward_kernel(RowGroups rows, ActParams act, bool gated, int n, const T *h,
                                   T *a) {
    const int end = rows.offsets[rows.E];
    for (int r = first_row(); r < end; r += (int)gridDim.x * WARPS) {
        const T *hr = h + (int64_t)r * (gated ? 2 * n : n);
        for (int c = ((int)threadIdx.x & 31) * 8; c < n; c += 256) {
            float g[8], u[8], out[8], slope;
            unpack8<T>(*reinterpret_cast<const uint4 *>(hr + c), g);
            if (gated)
                unpack8<T>(*reinterpret_cast<const uint4 *>(hr + n + c), u);
            for (int i = 0; i < 8; i++)
                out[i] = gated ? AnyGlu{act}.value(g[i], u[i]) : act_phi(act, g[i], &slope);
            *reinterpret_cast<uint4 *>(a + (int64_t)r * n + c) = pack8<T>(out);
        }
    }
}

template <class T>
__global__ void act_backward_kernel(RowGroups rows, ActParams act, bool gated, int n, const T *h,
                                    const float *weight, const float *da, T *a, T *dh, float *ds) {
    const int end = rows.offsets[rows.E];
    for (int r = first_row(); r < end; r += (int)gridDim.x * WARPS) {
        const int64_t h0 = (int64_t)r * (gated ? 2 * n : n);
        const float s = weight ? weight[r] : 1.f;
        float sum = 0.f;
        for (int c = ((int)threadIdx.x & 31) * 8; c < n; c += 256) {
            float g[8], u[8], d[8], dg[8], du[8];
            unpack8<T>(*reinterpret_cast<const uint4 *>(h + h0 + c), g);
            if (gated)
                unpack8<T>(*reinterpret_cast<const uint4 *>(h + h0 + n + c), u);
            for (int i = 0; i < 8; i++) {
                d[i] = da[(int64_t)r * n + c + i];
                float value = gated ? AnyGlu{act}.parts(g[i], u[i], &dg[i], &du[i])
                                    : act_phi(act, g[i], &dg[i]);
                sum += d[i] * value;
                dg[i] *= s * d[i];
                if (gated)
                    du[i] *= s * d[i];
                d[i] = s * value;
            }
            *reinterpret_cast<uint4 *>(a + (int64_t)r * n + c) = pack8<T>(d);
            *reinterpret_cast<uint4 *>(dh + h0 + c) = pack8<T>(dg);
            if (gated)
                *reinterpret_cast<uint4 *>(dh + h0 + n + c) = pack8<T>(du);
        }
        sum = warp_sum(sum);
        if ((threadIdx.x & 31) == 0)
            ds[r] = sum;
    }
}

__device__ __forceinline__ int expert_of_row(const RowGroups &rows, int r) {
    int low = 0, high = rows.E;
    while (high - low > 1) {
        int mid = (low + high) / 2;
        if (rows.offsets[mid] <= r)
            low = mid;
        else
            high = mid;
    }
    return low;
}

template <class T> __global__ void finish_ds_kernel(RowGroups rows, DsArgs g) {
    const int real = rows.offsets[rows.E], end = rows.offsets[rows.bins];
    const T *dout = static_cast<const T *>(g.dout);
    for (int r = first_row(); r < end; r += (int)gridDim.x * WARPS) {
        const T *dy = dout + (int64_t)rows.token[r] * g.d;
        float sum = 0.f;
        if (r >= real) {
            sum = row_dot(dy, static_cast<const T *>(g.x) + (int64_t)rows.token[r] * g.d, g.d);
        } else if (g.part) {
            if (g.b2)
                sum = row_dot(
                    dy, static_cast<const T *>(g.b2) + (int64_t)expert_of_row(rows, r) * g.d, g.d);
            for (int i = 0; i < g.parts; i++)
                sum += g.part[(int64_t)i * rows.cap + r];
        }
        if ((threadIdx.x & 31) == 0 && (r >= real || g.part))
            g.ds[r] = sum;
    }
}

__global__ void sum_ds_parts_kernel(RowGroups rows, const float *part, int parts, float *ds) {
    const int r = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (r >= rows.offsets[rows.E])
        return;
    float sum = 0.f;
    for (int i = 0; i < parts; i++)
        sum += part[(int64_t)i * rows.cap + r];
    ds[r] = sum;
}

template <class T>
__global__ void input_weight_ds_kernel(RowGroups rows, int d, const T *dxp, const T *x, float *ds) {
    const int end = rows.offsets[rows.E];
    for (int r = first_row(); r < end; r += (int)gridDim.x * WARPS) {
        float sum = row_dot(dxp + (int64_t)r * d, x + (int64_t)rows.token[r] * d, d);
        if ((threadIdx.x & 31) == 0)
            ds[r] = sum;
    }
}

template <class T>
__global__ void scale_rows_kernel(RowGroups rows, int width, const T *in, T *out) {
    const int end = rows.offsets[rows.E];
    for (int r = first_row(); r < end; r += (int)gridDim.x * WARPS) {
        const float s = rows.weight[r];
        for (int c = ((int)threadIdx.x & 31) * 8; c < width; c += 256) {
            float x[8];
            unpack8<T>(*reinterpret_cast<const uint4 *>(in + (int64_t)r * width + c), x);
            for (int i = 0; i < 8; i++)
                x[i] *= s;
            *reinterpret_cast<uint4 *>(out + (int64_t)r * width + c) = pack8<T>(x);
        }
    }
}

/* A block sums 256 columns of one expert: warp w takes rows w, w + 8 ... */
template <class T>
__global__ void column_sums_kernel(RowGroups rows, int width, const T *in, int ld, const int *map,
                                   const float *weight, float *out) {
    __shared__ float part[WARPS][256];
    const int e = (int)blockIdx.y, warp = (int)threadIdx.x >> 5, lane = (int)threadIdx.x & 31;
    const int c = (int)blockIdx.x * 256 + lane * 8;
    float sum[8] = {};
    for (int r = rows.offsets[e] + warp; c < ld && r < rows.offsets[e + 1]; r += WARPS) {
        float x[8], s = weight ? weight[r] : 1.f;
        unpack8<T>(*reinterpret_cast<const uint4 *>(in + (int64_t)(map ? map[r] : r) * ld + c), x);
        for (int i = 0; i < 8; i++)
            sum[i] += s * x[i];
    }
    for (int i = 0; i < 8; i++)
        part[warp][lane * 8 + i] = sum[i];
    __syncthreads();
    int column = (int)blockIdx.x * 256 + (int)threadIdx.x;
    if (column < width) {
        float total = 0.f;
        for (int w = 0; w < WARPS; w++)
            total += part[w][threadIdx.x];
        out[(int64_t)e * width + column] = total;
    }
}

unsigned row_blocks(const RowGroups *rows) {
    int blocks = (rows->cap + WARPS - 1) / WARPS;
    return (unsigned)(blocks < 1 ? 1 : blocks < 4096 ? blocks : 4096);
}

template <class T> const T *typed(const void *p) {
    return static_cast<const T *>(p);
}

/* The launchers for one element type; the public functions below choose the type. */
template <class T> struct Launch {
    static constexpr int threads = WARPS * 32;

    static LaunchShape shape(const RowGroups *rows) {
        return {row_blocks(rows), threads};
    }

    static cudaError_t act_forward(const RowGroups *rows, const ActParams *act, int n,
                                   const void *h, void *a, const Stream &stream) {
        return launch(stream, shape(rows), act_forward_kernel<T>, *rows, *act,
                      moe_act_is_gated(act->kind), n, typed<T>(h), static_cast<T *>(a));
    }
    static cudaError_t act_backward(const RowGroups *rows, const ActParams *act, int n,
                                    const void *h, const float *weight, const float *da, void *a,
                                    void *dh, float *ds, const Stream &stream) {
        return launch(stream, shape(rows), act_backward_kernel<T>, *rows, *act,
                      moe_act_is_gated(act->kind), n, typed<T>(h), weight, da, static_cast<T *>(a),
                      static_cast<T *>(dh), ds);
    }
    static cudaError_t finish_ds(const RowGroups *rows, const DsArgs *args, const Stream &stream) {
        return launch(stream, shape(rows), finish_ds_kernel<T>, *rows, *args);
    }
    static cudaError_t input_weight_ds(const RowGroups *rows, int d, const void *dxp, const void *x,
                                       float *ds, const Stream &stream) {
        return launch(stream, shape(rows), input_weight_ds_kernel<T>, *rows, d, typed<T>(dxp),
                      typed<T>(x), ds);
    }
    static cudaError_t scale_rows(const RowGroups *rows, int width, const void *in, void *out,
                                  const Stream &stream) {
        return launch(stream, shape(rows), scale_rows_kernel<T>, *rows, width, typed<T>(in),
                      static_cast<T *>(out));
    }
    static cudaError_t column_sums(const RowGroups *rows, int width, const void *in, int ld,
                                   const int *map, const float *weight, float *out,
                                   const Stream &stream) {
        dim3 grid((unsigned)((width + 255) / 256), (unsigned)rows->E);
        return launch(stream, {grid, threads}, column_sums_kernel<T>, *rows, width, typed<T>(in),
                      ld, map, weight, out);
    }
};

} // namespace

#define MOE_BY_TYPE(call)                                                                          \
    return dtype == MOE_BF16 ? Launch<__nv_bfloat16>::call : Launch<__half>::call

cudaError_t act_forward(int dtype, const RowGroups *rows, const ActParams *act, int n,
                        const void *h, void *a, const Stream &stream) {
    MOE_BY_TYPE(act_forward(rows, act, n, h, a, stream));
}

cudaError_t act_backward(int dtype, const RowGroups *rows, const ActParams *act, int n,
                         const void *h, const float *weight, const float *da, void *a, void *dh,
                         float *ds, const Stream &stream) {
    MOE_BY_TYPE(act_backward(rows, act, n, h, weight, da, a, dh, ds, stream));
}

cudaError_t sum_ds_parts(const RowGroups *rows, const float *part, int parts, float *ds,
                         const Stream &stream) {
    unsigned blocks = (unsigned)((rows->cap + 255) / 256);
    return launch(stream, {blocks, 256}, sum_ds_parts_kernel, *rows, part, parts, ds);
}

cudaError_t finish_ds(int dtype, const RowGroups *rows, const DsArgs *args, const Stream &stream) {
    MOE_BY_TYPE(finish_ds(rows, args, stream));
}

cudaError_t input_weight_ds(int dtype, const RowGroups *rows, int d, const void *dxp, const void *x,
                            float *ds, const Stream &stream) {
    MOE_BY_TYPE(input_weight_ds(rows, d, dxp, x, ds, stream));
}

cudaError_t scale_rows(int dtype, const RowGroups *rows, int width, const void *in, void *out,
                       const Stream &stream) {
    MOE_BY_TYPE(scale_rows(rows, width, in, out, stream));
}

cudaError_t column_sums(int dtype, const RowGroups *rows, int width, const void *in, int ld,
                        const int *map, const float *weight, float *out, const Stream &stream) {
    MOE_BY_TYPE(column_sums(rows, width, in, ld, map, weight, out, stream));
}
