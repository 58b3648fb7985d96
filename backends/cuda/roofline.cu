/* The device's ceilings as this backend can reach them: one large product through the same kernel
 * that the experts use, one large copy. */
#include "fill.cuh"
#include "layer.h"

#include <algorithm>
#include <stdio.h>

namespace {

constexpr size_t COPY_BYTES = (size_t)1 << 30;
constexpr int SIZE = 8192, REPEATS = 9;

template <class Run> cudaError_t median_us(cudaStream_t stream, Run run, double *ret) {
    double us[REPEATS];
    cudaEvent_t begin, end;
    cudaError_t err = cudaEventCreate(&begin);
    if (err != cudaSuccess)
        return err;
    err = cudaEventCreate(&end);
    for (int i = -1; i < REPEATS && err == cudaSuccess; i++) { /* the first run warms up */
        float ms = 0;
        cudaEventRecord(begin, stream);
        err = run();
        cudaEventRecord(end, stream);
        if (err == cudaSuccess)
            err = cudaEventSynchronize(end);
        cudaEventElapsedTime(&ms, begin, end);
        if (i >= 0)
            us[i] = 1e3 * ms;
    }
    std::sort(us, us + REPEATS);
    *ret = us[REPEATS / 2];
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return err;
}

cudaError_t time_copy(Device *dev, char *buffer, double *ret) {
    return median_us(
        dev->stream,
        [&] {
            return cudaMemcpyAsync(buffer + COPY_BYTES, buffer, COPY_BYTES,
                                   cudaMemcpyDeviceToDevice, dev->stream);
        },
        ret);
}

/* A layer's down-projection with one expert: SIZE tokens, width SIZE. */
cudaError_t time_gemm(Device *dev, char *buffer, double *ret) {
    const size_t matrix = (size_t)SIZE * SIZE * 2;
    const int offsets[2] = {0, SIZE};
    RowGroups rows = RowGroups::empty(1, 1, SIZE);
    rows.tiles = reinterpret_cast<RowTile *>(buffer + 3 * matrix);
    rows.offsets = reinterpret_cast<int *>(rows.tiles + row_tiles_cap(SIZE, 1));
    rows.tile_offsets = rows.offsets + 2;
    cudaError_t err = cudaMemcpy(rows.offsets, offsets, sizeof offsets, cudaMemcpyHostToDevice);
    if (err == cudaSuccess)
        err = list_tiles(&rows, dev->stream);
    if (err != cudaSuccess)
        return err;
    Layer layer = {};
    layer.dev = dev;
    layer.dtype = MOE_BF16;
    layer.desc.d = SIZE;
    layer.desc.E = 1;
    layer.T = SIZE;
    layer.desc.K = 1;
    layer.use.pass = MOE_PASS_FWD;
    Experts *x = &layer.routed;
    x->n = x->hw = SIZE;
    x->hopper = dev->hopper;
    x->rows = rows;
    x->a = buffer;
    x->w1 = x->w2 = buffer + matrix;
    x->h = x->y = buffer + 2 * matrix;
    if (experts_make_maps(&layer, x))
        return cudaErrorUnknown;
    return median_us(
        dev->stream,
        [&] { return experts_down(&layer, x, nullptr) ? cudaErrorUnknown : cudaSuccess; }, ret);
}

} // namespace

moe_status device_roofline(void *device, moe_roofline *ret) {
    Device *dev = static_cast<Device *>(device);
    char *buffer = nullptr;
    double copy_us = 0, gemm_us = 0;
    const OnDevice current(dev);
    cudaError_t err = cudaMalloc(&buffer, 2 * COPY_BYTES);
    if (err == cudaSuccess) {
        fill<<<1024, 256, 0, dev->stream>>>(reinterpret_cast<unsigned short *>(buffer), COPY_BYTES);
        err = time_copy(dev, buffer, &copy_us);
    }
    if (err == cudaSuccess)
        err = time_gemm(dev, buffer, &gemm_us);
    cudaFree(buffer);
    moe_status status = device_check(dev, err, "measuring the device's ceilings");
    if (status)
        return status;
    ret->gemm_flops = 2.0 * SIZE * SIZE * SIZE / (1e-6 * gemm_us);
    ret->memory_rate = 2.0 * (double)COPY_BYTES / (1e-6 * copy_us);
    snprintf(ret->source, sizeof ret->source, "own bf16 GEMM %d^3, burst; device copy of %zu MiB",
             SIZE, COPY_BYTES >> 20);
    return MOE_OK;
}
