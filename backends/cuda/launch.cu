#include "launch.h"

#include <string.h>

namespace {

constexpr size_t MOST_GRAPHS = 64; /* of an operator; further streams are launched on as ever */

size_t padded(size_t bytes) {
    return (bytes + 63) / 64 * 64; /* tensor maps want 64 */
}

cudaError_t launch_now(cudaStream_t stream, const LaunchShape &shape, const void *kernel,
                       void **args) {
    cudaLaunchAttribute together = {};
    together.id = cudaLaunchAttributeCooperative;
    together.val.cooperative = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared;
    config.stream = stream;
    config.attrs = &together;
    config.numAttrs = shape.together;
    return cudaLaunchKernelExC(&config, kernel, args);
}

cudaError_t launch_each(const LaunchList &list, cudaStream_t stream) {
    cudaError_t err = cudaSuccess;
    for (int i = 0; i < list.count && err == cudaSuccess; i++) {
        const LaunchList::Item &x = list.item[i];
        err = launch_now(stream, x.shape, x.kernel, const_cast<void **>(list.arg) + x.first_arg);
    }
    return err;
}

cudaKernelNodeParams params_of(const LaunchList &list, int i) {
    const LaunchList::Item &x = list.item[i];
    cudaKernelNodeParams p = {};
    p.func = const_cast<void *>(x.kernel);
    p.gridDim = x.shape.grid;
    p.blockDim = x.shape.block;
    p.sharedMemBytes = (unsigned)x.shape.shared;
    p.kernelParams = const_cast<void **>(list.arg) + x.first_arg;
    return p;
}

/* Whoever captures the stream wants the kernels themselves: arguments of a graph inside another
 * cannot be replaced. */
bool is_captured(cudaStream_t stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(stream, &status) != cudaSuccess ||
           status != cudaStreamCaptureStatusNone;
}

} // namespace

void *driver_function(const char *name, unsigned version) {
    void *entry = nullptr;
    cudaDriverEntryPointQueryResult found;
    cudaError_t err =
        cudaGetDriverEntryPointByVersion(name, &entry, version, cudaEnableDefault, &found);
    return err == cudaSuccess && found == cudaDriverEntryPointSuccess ? entry : nullptr;
}

cudaError_t launch_kernel(const Stream &stream, const LaunchShape &shape, const void *kernel,
                          void **args, const size_t *bytes, int count) {
    LaunchList *list = stream.list;
    if (list && !list->fits(bytes, count)) {
        const cudaError_t err = list->graphs->run(list, stream);
        if (err != cudaSuccess)
            return err;
    }
    if (!list || !list->fits(bytes, count))
        return launch_now(stream, shape, kernel, args);
    list->add(shape, kernel, args, bytes, count);
    return cudaSuccess;
}

/* ---- lists ---- */

bool LaunchList::fits(const size_t *bytes, int arguments) const {
    size_t sum = used;
    for (int i = 0; i < arguments; i++)
        sum += padded(bytes[i]);
    return count < MOST && args + arguments <= MOST_ARGS && sum <= BYTES;
}

void LaunchList::add(const LaunchShape &shape, const void *kernel, void **given,
                     const size_t *bytes, int arguments) {
    item[count++] = {kernel, shape, args};
    for (int i = 0; i < arguments; i++) {
        arg[args++] = memcpy(byte + used, given[i], bytes[i]);
        used += padded(bytes[i]);
    }
}

void LaunchList::clear() {
    count = args = 0;
    used = 0;
}

/* ---- graphs ---- */

Graphs::~Graphs() {
    for (Graph &g : kept) {
        cudaGraphExecDestroy(g.exec);
        cudaGraphDestroy(g.graph);
    }
}

Graphs::Graph *Graphs::find(const LaunchList &list, cudaStream_t stream) {
    for (Graph &g : kept) {
        bool same = g.stream == stream && g.kernels.size() == (size_t)list.count;
        for (int i = 0; i < list.count && same; i++)
            same = g.kernels[(size_t)i] == list.item[i].kernel &&
                   g.together[(size_t)i] == list.item[i].shape.together;
        if (same)
            return &g;
    }
    return nullptr;
}

cudaError_t Graphs::make(const LaunchList &list, Graph *g) {
    cudaError_t err = cudaGraphCreate(&g->graph, 0);
    for (int i = 0; i < list.count && err == cudaSuccess; i++) {
        const cudaKernelNodeParams p = params_of(list, i);
        cudaGraphNode_t node = nullptr;
        err = cudaGraphAddKernelNode(&node, g->graph, i ? &g->nodes.back() : nullptr, i > 0, &p);
        cudaKernelNodeAttrValue together = {};
        together.cooperative = 1;
        if (err == cudaSuccess && list.item[i].shape.together)
            err = cudaGraphKernelNodeSetAttribute(node, cudaLaunchAttributeCooperative, &together);
        g->nodes.push_back(node);
        g->kernels.push_back(list.item[i].kernel);
        g->together.push_back(list.item[i].shape.together);
    }
    if (err == cudaSuccess)
        err = cudaGraphInstantiate(&g->exec, g->graph, 0);
    if (err != cudaSuccess && g->graph)
        cudaGraphDestroy(g->graph);
    return err;
}

cudaError_t Graphs::replay(const LaunchList &list, cudaStream_t stream) {
    const std::lock_guard<std::mutex> alone(lock);
    cudaError_t err = cudaSuccess;
    Graph *g = find(list, stream);
    if (!g) {
        if (kept.size() == MOST_GRAPHS)
            return launch_each(list, stream);
        Graph made = {stream, {}, {}, {}, nullptr, nullptr};
        err = make(list, &made);
        if (err != cudaSuccess)
            return err;
        kept.push_back(made);
        g = &kept.back();
    } else {
        for (int i = 0; i < list.count && err == cudaSuccess; i++) {
            const cudaKernelNodeParams p = params_of(list, i);
            err = cudaGraphExecKernelNodeSetParams(g->exec, g->nodes[(size_t)i], &p);
        }
    }
    return err == cudaSuccess ? cudaGraphLaunch(g->exec, stream) : err;
}

cudaError_t Graphs::run(LaunchList *list, cudaStream_t stream) {
    const cudaError_t err =
        list->count < 2 || is_captured(stream) ? launch_each(*list, stream) : replay(*list, stream);
    list->clear();
    return err;
}
