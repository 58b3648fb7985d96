/* What a launch costs, in a graph and in a stream, and the clock of a single busy SM. */
#include "measure.h"

namespace {

constexpr int EMPTY = 200;
constexpr long long BUSY = 40000; /* clocks, some 20 us: longer than a host needs for a launch */

__global__ void nothing() {
}

__global__ void busy() {
    const long long begin = clock64();
    while (clock64() - begin < BUSY) {
    }
}

__global__ void clocks_of_a_while(long long *ret) {
    const long long begin = clock64();
    long long now = begin;
    while (now - begin < 20000000)
        now = clock64();
    *ret = now - begin;
}

/* us of each of EMPTY launches by `launch`, one after another in a stream. */
template <class Launch> double stream_us(cudaStream_t stream, Launch launch) {
    cudaEvent_t begin, end;
    float ms;
    MEASURE_CUDA(cudaEventCreate(&begin));
    MEASURE_CUDA(cudaEventCreate(&end));
    for (int round = 0; round < 2; round++) { /* the first warms up */
        MEASURE_CUDA(cudaEventRecord(begin, stream));
        for (int i = 0; i < EMPTY; i++)
            launch(i);
        MEASURE_CUDA(cudaGetLastError());
        MEASURE_CUDA(cudaEventRecord(end, stream));
        MEASURE_CUDA(cudaEventSynchronize(end));
    }
    MEASURE_CUDA(cudaEventElapsedTime(&ms, begin, end));
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return 1e3 * ms / EMPTY;
}

} // namespace

void measure_launches(Measured *m, cudaStream_t stream) {
    const auto empty = [&](int) { nothing<<<1, 32, 0, stream>>>(); };
    const auto long_one = [&](int) { busy<<<1, 32, 0, stream>>>(); };
    m->graph_us = measure_graph_us(stream, EMPTY, empty);
    m->stream_us = stream_us(stream, empty);
    m->gap_us =
        std::max(0.0, stream_us(stream, long_one) - measure_graph_us(stream, EMPTY, long_one));
}

void measure_clock(Measured *m, cudaStream_t stream) {
    cudaEvent_t begin, end;
    float ms;
    long long *clocks = measure_results(1);
    MEASURE_CUDA(cudaEventCreate(&begin));
    MEASURE_CUDA(cudaEventCreate(&end));
    MEASURE_CUDA(cudaEventRecord(begin, stream));
    clocks_of_a_while<<<1, 1, 0, stream>>>(clocks);
    MEASURE_CUDA(cudaGetLastError());
    MEASURE_CUDA(cudaEventRecord(end, stream));
    MEASURE_CUDA(cudaEventSynchronize(end));
    MEASURE_CUDA(cudaEventElapsedTime(&ms, begin, end));
    m->mhz = (double)*clocks / (1e3 * ms);
    cudaFreeHost(clocks);
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
}
