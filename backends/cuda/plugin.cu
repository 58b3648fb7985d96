/* The backend `cuda`: bf16 and fp16 on NVIDIA GPUs, Hopper's kernels on sm_90. */
#include "ranks.h"
#include "supports.h"

#include <new>
#include <stdio.h>
#include <string.h>

namespace {

moe_status probe(char *reason, size_t size) {
    int count = 0, major = 0;
    cudaError_t err = cudaGetDeviceCount(&count);
    if (err != cudaSuccess || count == 0) {
        snprintf(reason, size, "no CUDA device: %s",
                 err != cudaSuccess ? cudaGetErrorString(err) : "none found");
        return MOE_E_DEVICE;
    }
    err = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    if (err != cudaSuccess || major < 8) {
        snprintf(reason, size, "the first CUDA device is older than compute capability 8.0");
        return MOE_E_DEVICE;
    }
    return MOE_OK;
}

void close_device(void *device) {
    Device *dev = static_cast<Device *>(device);
    group_close(dev);
    if (dev->stream)
        cudaStreamDestroy(dev->stream);
    delete dev;
}

moe_status open_device(const moe_open_params *params, void **ret) {
    const moe_log *log = params->log;
    GroupWords words;
    const char *wrong = group_parse(params->variant, &words);
    if (wrong)
        return moe_fail(log, MOE_E_NOTFOUND, "cuda has no variant '%s': %s", params->variant,
                        wrong);
    Device *dev = new (std::nothrow) Device();
    if (!dev)
        return moe_fail(log, MOE_E_NOMEM, "cuda: no memory for a device");
    dev->log = log;
    dev->index = params->device_index;
    const OnDevice current(dev);
    cudaError_t err = cudaDeviceGetAttribute(&dev->sms, cudaDevAttrMultiProcessorCount, dev->index);
    if (err == cudaSuccess)
        err = cudaDeviceGetAttribute(&dev->major, cudaDevAttrComputeCapabilityMajor, dev->index);
    if (err == cudaSuccess)
        err = cudaDeviceGetAttribute(&dev->minor, cudaDevAttrComputeCapabilityMinor, dev->index);
    if (err == cudaSuccess)
        err = cudaStreamCreate(&dev->stream.handle);
    moe_status status =
        current.status ? current.status : device_check(dev, err, "opening the device");
    if (!status && dev->major < 8)
        status = moe_fail(log, MOE_E_DEVICE,
                          "cuda: device %d has compute capability %d.%d; 8.0 is needed", dev->index,
                          dev->major, dev->minor);
    dev->hopper = dev->major == 9 && dev->minor == 0 && !words.portable;
    if (!status && words.ranks)
        status = group_open(dev, &words);
    if (status)
        close_device(dev);
    else
        *ret = dev;
    return status;
}

/* What is supported can be asked where there is no device. */
bool is_over_ranks(const Device *dev) {
    return dev && dev->group;
}

moe_status supports(void *device, const moe_layer_desc *desc, const moe_use *use,
                    moe_support *ret) {
    const Device *dev = static_cast<const Device *>(device);
    if (moe_refuse_unknown(desc, ret))
        return MOE_E_UNSUPPORTED;
    const char *why = moe_int_cuda_refusal(desc, use);
    if (why) {
        snprintf(ret->reason, sizeof ret->reason, "%s", why);
        return MOE_E_UNSUPPORTED;
    }
    ret->arithmetic = use->dtype;
    ret->deterministic = 1;
    return is_over_ranks(dev) ? ranks_supports(dev, desc, use, ret->reason, sizeof ret->reason)
                              : MOE_OK;
}

/* One ascending chain of the unit's steps for every element of every product, gates before ups;
 * O and dX by fused multiply-adds (README.md). Other architectures' units were compared with no
 * device: nothing is declared for them. */
const char *arithmetic(void *device, const moe_layer_desc *, const moe_use *) {
    const Device *dev = static_cast<const Device *>(device);
    if (dev->hopper)
        return "sm_90+gates_first+fused+weighs_sums+act=4";
    return dev->major == 9 && dev->minor == 0 ? "sm_90.mma+gates_first+fused+weighs_sums+act=4"
                                              : nullptr;
}

/* ---- a layer on one device, or over ranks ---- */

RanksLayer *over_ranks(void *layer) {
    return static_cast<Layer *>(layer)->ranks;
}

moe_status prepare(void *device, const moe_layer_desc *desc, const moe_use *use,
                   const moe_tensors *params, void **ret) {
    Device *dev = static_cast<Device *>(device);
    return dev->group ? ranks_prepare(dev, desc, use, params, ret)
                      : layer_prepare(device, desc, use, params, ret);
}

void release(void *layer) {
    if (!over_ranks(layer))
        return layer_release(layer);
    ranks_release(over_ranks(layer));
    delete static_cast<Layer *>(layer);
}

moe_status set_input(void *layer, const moe_input *input) {
    return over_ranks(layer) ? ranks_set_input(over_ranks(layer), input)
                             : layer_set_input(layer, input);
}

moe_status forward(void *layer) {
    return over_ranks(layer) ? ranks_forward(over_ranks(layer)) : layer_forward(layer);
}

moe_status backward(void *layer) {
    return over_ranks(layer) ? ranks_backward(over_ranks(layer)) : layer_backward(layer);
}

moe_status fetch(void *layer, moe_tensor_id id, moe_tensor *dst) {
    return over_ranks(layer) ? ranks_fetch(over_ranks(layer), id, dst)
                             : layer_fetch(layer, id, dst);
}

moe_status routing(void *layer, const moe_plan **ret) {
    return over_ranks(layer) ? ranks_routing(over_ranks(layer), ret) : layer_routing(layer, ret);
}

size_t timings(void *layer, moe_cost *ret, size_t capacity) {
    return over_ranks(layer) ? ranks_timings(over_ranks(layer), ret, capacity)
                             : layer_timings(layer, ret, capacity);
}

moe_status memory(void *layer, moe_memory *ret) {
    return over_ranks(layer) ? ranks_memory(over_ranks(layer), ret) : layer_memory(layer, ret);
}

} // namespace

extern "C" {
extern MOE_API const moe_plugin moe_plugin_v;
const moe_plugin moe_plugin_v = {
    MOE_PLUGIN_ABI,
    100,
    "cuda",
    "bf16 and fp16 on NVIDIA GPUs (Hopper kernels on sm_90, portable ones from sm_80)",
    probe,
    open_device,
    close_device,
    supports,
    prepare,
    release,
    set_input,
    forward,
    backward,
    fetch,
    routing,
    timings,
    memory,
    device_roofline,
    device_board,
    &cuda_operators,
    arithmetic,
};
}
