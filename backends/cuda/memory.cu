/* Device memory: every buffer of a layer is listed and counted. */
#include "layer.h"

#include <stdio.h>

moe_status device_check(const Device *dev, cudaError_t err, const char *what) {
    if (err == cudaSuccess)
        return MOE_OK;
    cudaGetLastError(); /* a failed allocation must not fail the next launch */
    return moe_fail(dev->log, err == cudaErrorMemoryAllocation ? MOE_E_NOMEM : MOE_E_DEVICE,
                    "cuda: %s: %s", what, cudaGetErrorString(err));
}

moe_status layer_alloc(Layer *layer, size_t bytes, BufferKind kind, void **ret) {
    if (layer->arena) {
        Arena *arena = layer->arena;
        const int part = moe_int_cuda_is_cached(kind, arena->keeps) ? ARENA_CACHED : ARENA_WORK;
        *ret = arena->at[part] + arena->used[part];
        arena->used[part] += (size_t)moe_int_cuda_padded((int64_t)bytes);
        return MOE_OK;
    }
    char what[64];
    void *data = nullptr;
    snprintf(what, sizeof what, "allocating %zu bytes on the device", bytes);
    moe_status status = device_check(layer->dev, cudaMalloc(&data, bytes ? bytes : 16), what);
    if (status)
        return status;
    layer->buffers.push_back({data, bytes, kind});
    *ret = data;
    return MOE_OK;
}

moe_status layer_take(Layer *layer, BufferId id, void **ret) {
    const int64_t bytes = layer->sizes.bytes[id];
    return bytes < 0 ? MOE_OK : layer_alloc(layer, (size_t)bytes, layer->sizes.kind[id], ret);
}

void layer_free(Layer *layer, void *data) {
    for (size_t i = 0; data && i < layer->buffers.size(); i++) {
        if (layer->buffers[i].data != data)
            continue;
        cudaFree(data);
        layer->buffers.erase(layer->buffers.begin() + (long)i);
        return;
    }
}

moe_status layer_upload(Layer *layer, void *dst, const void *src, size_t bytes) {
    if (!bytes)
        return MOE_OK;
    return device_check(layer->dev, cudaMemcpy(dst, src, bytes, cudaMemcpyHostToDevice),
                        "copying to the device");
}

moe_status layer_download(Layer *layer, void *dst, const void *src, size_t bytes) {
    if (!bytes)
        return MOE_OK;
    return device_check(layer->dev, cudaMemcpy(dst, src, bytes, cudaMemcpyDeviceToHost),
                        "copying from the device");
}

/* Nothing is given back between passes, so all buffers together are the peak. */
moe_status layer_memory(void *self, moe_memory *ret) {
    const Layer *layer = static_cast<const Layer *>(self);
    int64_t sum[BUFFER_KINDS] = {0, 0, 0, 0};
    for (const Buffer &b : layer->buffers)
        sum[b.kind] += (int64_t)b.bytes;
    ret->weights = sum[BUFFER_WEIGHTS];
    ret->cached = sum[BUFFER_CACHED];
    ret->peak = sum[BUFFER_CACHED] + sum[BUFFER_WORK];
    return MOE_OK;
}
