/* moeref-peer-rates: what a plain copy between two devices reaches, one way and both ways at once,
 * by copy engines and by a kernel that reads here and writes there. A JSON object a line; GB/s of
 * one direction. */
#include <cuda_runtime.h>

#include <algorithm>
#include <stdio.h>
#include <stdlib.h>
#include <vector>

static void must(cudaError_t err, const char *what) {
    if (err == cudaSuccess)
        return;
    fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(err));
    exit(3);
}

__global__ void __launch_bounds__(1024, 1) copy_kernel(const uint4 *from, uint4 *to, size_t count) {
    const size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += 8 * step) {
        uint4 v[8];
#pragma unroll
        for (int k = 0; k < 8; k++)
            if (i + k * step < count)
                v[k] = __ldcg(from + i + k * step);
#pragma unroll
        for (int k = 0; k < 8; k++)
            if (i + k * step < count)
                __stcg(to + i + k * step, v[k]);
    }
}

struct Side {
    char *out, *in;
    cudaStream_t stream;
    cudaEvent_t begin, end;
};

/* Ways of moving: blocks of a kernel that writes, or reads (negative); 0: the copy engine. */
static void move(const Side *side, int me, size_t bytes, int blocks) {
    const int other = 1 - me;
    must(cudaSetDevice(me), "device");
    if (blocks == 0)
        must(cudaMemcpyPeerAsync(side[other].in, other, side[me].out, me, bytes, side[me].stream),
             "copy");
    else if (blocks > 0)
        copy_kernel<<<blocks, 1024, 0, side[me].stream>>>((const uint4 *)side[me].out,
                                                          (uint4 *)side[other].in, bytes / 16);
    else
        copy_kernel<<<-blocks, 1024, 0, side[me].stream>>>((const uint4 *)side[other].out,
                                                           (uint4 *)side[me].in, bytes / 16);
    must(cudaGetLastError(), "launch");
}

static double rate(Side *side, size_t bytes, int blocks, int ways) {
    std::vector<double> us;
    for (int i = 0; i < 12; i++) {
        for (int me = 0; me < ways; me++) {
            must(cudaSetDevice(me), "device");
            must(cudaEventRecord(side[me].begin, side[me].stream), "event");
            move(side, me, bytes, blocks);
            must(cudaEventRecord(side[me].end, side[me].stream), "event");
        }
        float most = 0;
        for (int me = 0; me < ways; me++) {
            float ms = 0;
            must(cudaSetDevice(me), "device");
            must(cudaEventSynchronize(side[me].end), "wait");
            must(cudaEventElapsedTime(&ms, side[me].begin, side[me].end), "time");
            most = std::max(most, ms);
        }
        if (i >= 2)
            us.push_back(most * 1e3);
    }
    std::sort(us.begin(), us.end());
    return (double)bytes / us[us.size() / 2] * 1e-3;
}

int main() {
    const size_t most = (size_t)512 << 20;
    Side side[2];
    int devices = 0;
    must(cudaGetDeviceCount(&devices), "devices");
    if (devices < 2)
        return 2;
    for (int me = 0; me < 2; me++) {
        must(cudaSetDevice(me), "device");
        must(cudaDeviceEnablePeerAccess(1 - me, 0), "peer access");
        must(cudaMalloc(&side[me].out, most), "memory");
        must(cudaMalloc(&side[me].in, most), "memory");
        must(cudaMemset(side[me].out, 7 + me, most), "memory");
        must(cudaStreamCreate(&side[me].stream), "stream");
        must(cudaEventCreate(&side[me].begin), "event");
        must(cudaEventCreate(&side[me].end), "event");
    }
    for (int ways = 1; ways <= 2; ways++)
        for (int blocks : {0, 132, 16, 8, -132, -16})
            for (size_t mib : {16, 32, 128, 512})
                printf("{\"by\": \"%s\", \"blocks\": %d, \"ways\": %d, \"mib\": %zu, \"gbps\": "
                       "%.1f}\n",
                       blocks ? blocks > 0 ? "writes" : "reads" : "engine", abs(blocks), ways, mib,
                       rate(side, mib << 20, blocks, ways));
    return 0;
}
