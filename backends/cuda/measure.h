/* Internal: micro-benchmarks of one device, for a description that the cost model reads. */
#ifndef MOE_CUDA_MEASURE_H
#define MOE_CUDA_MEASURE_H

#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the program: half a measurement is none. */
#define MEASURE_CUDA(call)                                                                         \
    do {                                                                                           \
        const cudaError_t measure_err_ = (call);                                                   \
        if (measure_err_ != cudaSuccess) {                                                         \
            fprintf(stderr, "moeref-measure: %s: %s\n", #call, cudaGetErrorString(measure_err_));  \
            exit(3);                                                                               \
        }                                                                                          \
    } while (0)

/* What is told of a device: attributes, and what was measured. */
struct Measured {
    char name[128];
    int arch, sms;
    double clock_max_mhz, mhz; /* mhz: of an SM that does nothing else */
    double l2_mib, hbm_nominal, hbm_gib;
    double l2_latency, hbm_latency; /* clocks */
    double read, copy_both;         /* bytes a second; both: read and written */
    double ramp[8];                 /* bytes a second that 1, 2, 4 ... SMs read */
    double l2_rate;                 /* bytes a second */
    double graph_us, stream_us; /* of empty kernels: in a stream, what a host needs for a launch */
    double gap_us;              /* between kernels of a stream, more than in a graph */
    double sync_rate, wide_rate[3];
};

/* Median us of one of `launches` launches by `run`, captured into a graph that is replayed; first
 * for `warm_ms`, once at least. */
template <class Run>
double measure_graph_us(cudaStream_t stream, int launches, Run run, double warm_ms = 0);

/* Rates and latencies (m->sms and m->l2_mib are known), launches and gaps, the clock. */
void measure_memory(Measured *m, cudaStream_t stream);
void measure_launches(Measured *m, cudaStream_t stream);
void measure_clock(Measured *m, cudaStream_t stream);

/* Times dense bf16 products of the vendor's library, as the model's tables are timed: in a graph,
 * each with other weights than the last. Writes a line "m n k median_us" for each to `to`. Settled:
 * large ones alone, one after the other without a pause, once the clock no longer falls. */
void measure_products(FILE *to, bool settled, cudaStream_t stream);
/* FLOP a clock and SM of tensor instructions alone: mma.sync in `ret_sync`, and where there is
 * wgmma (else 0) with 64, 128 and 256 columns in `ret_wide`. */
void measure_tensor(int sms, double *ret_sync, double ret_wide[3]);

/* `count` zeros that kernels and the host write and read: pinned, not managed, since a host may not
 * look at managed memory while any kernel runs on some systems. Freed by cudaFreeHost. */
inline long long *measure_results(int count) {
    long long *ret;
    MEASURE_CUDA(cudaMallocHost(&ret, (size_t)count * sizeof *ret));
    for (int i = 0; i < count; i++)
        ret[i] = 0;
    return ret;
}

/* Random-looking finite bf16 values: power draw, and with it the clock, depends on the data. */
void measure_fill(void *values, size_t count, cudaStream_t stream);

constexpr int MEASURE_REPEATS = 5;

#include <algorithm>

template <class Run>
double measure_graph_us(cudaStream_t stream, int launches, Run run, double warm_ms) {
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    cudaEvent_t begin, end;
    double us[MEASURE_REPEATS], warmed_ms = 0;
    MEASURE_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < launches; i++)
        run(i);
    MEASURE_CUDA(cudaGetLastError()); /* a kernel that this device cannot run is left out */
    MEASURE_CUDA(cudaStreamEndCapture(stream, &graph));
    MEASURE_CUDA(cudaGraphInstantiate(&ready, graph, 0));
    MEASURE_CUDA(cudaEventCreate(&begin));
    MEASURE_CUDA(cudaEventCreate(&end));
    for (int i = -1; i < MEASURE_REPEATS;) { /* the first replays warm up */
        float ms;
        MEASURE_CUDA(cudaEventRecord(begin, stream));
        MEASURE_CUDA(cudaGraphLaunch(ready, stream));
        MEASURE_CUDA(cudaEventRecord(end, stream));
        MEASURE_CUDA(cudaEventSynchronize(end));
        MEASURE_CUDA(cudaEventElapsedTime(&ms, begin, end));
        warmed_ms += ms;
        if (i >= 0)
            us[i] = 1e3 * ms / launches;
        i += i >= 0 || warmed_ms >= warm_ms;
    }
    std::sort(us, us + MEASURE_REPEATS);
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    cudaGraphExecDestroy(ready);
    cudaGraphDestroy(graph);
    return us[MEASURE_REPEATS / 2];
}

#endif
