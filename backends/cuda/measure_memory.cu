/* What memory and L2 of a device give: rates of reading and copying, latencies. */
#include "measure.h"

#include <stdint.h>
#include <vector>

namespace {

constexpr size_t BIG = (size_t)1 << 30, CHASED = (size_t)512 << 20;
constexpr int CHASE_STEPS = 4096;

__global__ void chase(const uint32_t *next, long long *ret) {
    uint32_t at = 0;
    for (int i = 0; i < CHASE_STEPS / 4; i++) /* the pages that will be touched, some of them */
        at = next[at];
    const long long begin = clock64();
    for (int i = 0; i < CHASE_STEPS; i++)
        at = next[at];
    ret[0] = clock64() - begin;
    ret[1] = at;
}

/* Sixteen-byte loads that skip L1, eight in flight for each thread; volatile, or a compiler would
 * read once what is read in rounds. */
__device__ __forceinline__ uint32_t read_past_l1(const uint4 *x) {
    uint4 v;
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(x));
    return v.x ^ v.y ^ v.z ^ v.w;
}

__global__ void read_all(const uint4 *x, size_t count, int rounds, uint4 *sink) {
    const size_t step = (size_t)gridDim.x * blockDim.x;
    uint32_t sum = 0;
    for (int r = 0; r < rounds; r++) {
        size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
        for (; i + 7 * step < count; i += 8 * step) {
#pragma unroll
            for (int j = 0; j < 8; j++)
                sum ^= read_past_l1(x + i + j * step);
        }
        for (; i < count; i += step)
            sum ^= read_past_l1(x + i);
    }
    if (sum == 0x12345678u)
        sink->x = sum;
}

/* Bytes a second at which `blocks` blocks read the `size` bytes at x, `rounds` times over. */
double read_rate(cudaStream_t stream, int launches, const uint4 *x, size_t size, int blocks,
                 int rounds, uint4 *sink) {
    const double us = measure_graph_us(stream, launches, [&](int) {
        read_all<<<blocks, 1024, 0, stream>>>(x, size / sizeof *x, rounds, sink);
    });
    return rounds * (double)size / (1e-6 * us);
}

/* A closed walk through `bytes` in steps of half a MiB and a line. `flush` of BIG bytes is written
 * before each walk where the lines must come from memory; NULL: the first walk leaves them in L2.
 */
double chase_clocks(cudaStream_t stream, uint32_t *buffer, size_t bytes, char *flush) {
    const size_t lines = bytes / 128, stride = 4097 % lines;
    std::vector<uint32_t> next(bytes / sizeof(uint32_t));
    for (size_t i = 0, at = 0; i < lines; i++) {
        const size_t to = (at + stride) % lines;
        next[at * 32] = (uint32_t)(to * 32);
        at = to;
    }
    long long *ret = measure_results(2);
    MEASURE_CUDA(cudaMemcpy(buffer, next.data(), bytes, cudaMemcpyHostToDevice));
    for (int i = 0; i < 2; i++) {
        if (flush)
            MEASURE_CUDA(cudaMemsetAsync(flush, 0, BIG, stream));
        chase<<<1, 1, 0, stream>>>(buffer, ret);
        MEASURE_CUDA(cudaGetLastError());
    }
    MEASURE_CUDA(cudaStreamSynchronize(stream));
    const double clocks = (double)ret[0] / CHASE_STEPS;
    cudaFreeHost(ret);
    return clocks;
}

} // namespace

void measure_memory(Measured *m, cudaStream_t stream) {
    char *x;
    uint4 *sink;
    MEASURE_CUDA(cudaMalloc(&x, 2 * BIG));
    MEASURE_CUDA(cudaMalloc(&sink, sizeof *sink));
    measure_fill(x, BIG, stream);
    const uint4 *from = reinterpret_cast<const uint4 *>(x);
    const double copy_us = measure_graph_us(stream, 4, [&](int) {
        MEASURE_CUDA(cudaMemcpyAsync(x + BIG, x, BIG, cudaMemcpyDeviceToDevice, stream));
    });
    m->copy_both = 2.0 * (double)BIG / (1e-6 * copy_us);
    m->read = read_rate(stream, 4, from, BIG, 2 * m->sms, 1, sink);
    for (int i = 0; i < 8; i++)
        m->ramp[i] = read_rate(stream, 1, from, BIG / 8, 1 << i, 1, sink);
    /* A third of L2, so that both halves may hold it. */
    const size_t inside = (size_t)(m->l2_mib * 1048576 / 3);
    m->l2_rate = read_rate(stream, 4, from, inside, m->sms, 50, sink);
    m->l2_latency = chase_clocks(stream, reinterpret_cast<uint32_t *>(x), (size_t)8 << 20, nullptr);
    m->hbm_latency = chase_clocks(stream, reinterpret_cast<uint32_t *>(x), CHASED, x + BIG);
    cudaFree(x);
    cudaFree(sink);
}
