/* moeref-measure: a description of this device for the cost model, from its attributes and from
 * micro-benchmarks, and a table of dense products to fit it to. */
#include "measure.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <string>
#include <vector>

namespace {

constexpr size_t BIG = (size_t)1 << 30, CHASED = (size_t)512 << 20;
constexpr int CHASE_STEPS = 4096, EMPTY = 200;
constexpr long long BUSY = 40000; /* clocks, some 20 us: longer than a host needs for a launch */

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

double seconds_of(cudaStream_t stream, int launches, double bytes, const uint4 *x, size_t size,
                  int blocks, int rounds, uint4 *sink) {
    const double us = measure_graph_us(stream, launches, [&](int) {
        read_all<<<blocks, 1024, 0, stream>>>(x, size / sizeof *x, rounds, sink);
    });
    return bytes / (1e-6 * us);
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

int attribute(cudaDeviceAttr which) {
    int value = 0;
    MEASURE_CUDA(cudaDeviceGetAttribute(&value, which, 0));
    return value;
}

void read_facts(Measured *m) {
    cudaDeviceProp p;
    MEASURE_CUDA(cudaGetDeviceProperties(&p, 0));
    snprintf(m->name, sizeof m->name, "%.100s", p.name);
    m->arch = 10 * p.major + p.minor;
    m->sms = p.multiProcessorCount;
    m->clock_max_mhz = attribute(cudaDevAttrClockRate) / 1e3;
    m->l2_mib = (double)p.l2CacheSize / 1048576;
    m->hbm_gib = (double)p.totalGlobalMem / 1073741824;
    m->hbm_nominal = 2e3 * attribute(cudaDevAttrMemoryClockRate) *
                     (attribute(cudaDevAttrGlobalMemoryBusWidth) / 8.0);
}

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
    m->read = seconds_of(stream, 4, (double)BIG, from, BIG, 2 * m->sms, 1, sink);
    for (int i = 0; i < 8; i++)
        m->ramp[i] = seconds_of(stream, 1, (double)(BIG / 8), from, BIG / 8, 1 << i, 1, sink);
    /* A third of L2, so that both halves may hold it. */
    const size_t inside = (size_t)(m->l2_mib * 1048576 / 3);
    m->l2_rate = seconds_of(stream, 4, 50.0 * (double)inside, from, inside, m->sms, 50, sink);
    m->l2_latency = chase_clocks(stream, reinterpret_cast<uint32_t *>(x), (size_t)8 << 20, nullptr);
    m->hbm_latency = chase_clocks(stream, reinterpret_cast<uint32_t *>(x), CHASED, x + BIG);
    cudaFree(x);
    cudaFree(sink);
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

void put(FILE *to, const char *key, double value, const char *kind, const char *source) {
    fprintf(to,
            ",\n  \"%s\": {\n   \"value\": %.5g,\n   \"kind\": \"%s\",\n   \"source\": \"%s\"\n  }",
            key, value, kind, source);
}

/* Datacenter Blackwell multiplies by instructions that this program does not have. */
bool other_instructions(const Measured *m) {
    return m->arch == 100 || m->arch == 103;
}

/* The instruction's own rate is a power of two; what was measured lies a little below. */
double tensor_flops(const Measured *m) {
    if (other_instructions(m))
        return 8192; /* dense bf16 of B200's and B300's data sheets over SMs and clock */
    double best = m->sync_rate;
    for (double rate : m->wide_rate)
        best = std::max(best, rate);
    double rate = 256;
    while (rate < 0.9 * best)
        rate *= 2;
    return rate;
}

void write_description(FILE *to, const Measured *m) {
    const double clock = m->mhz * 1e6;
    fprintf(to,
            "{\n \"moeref_gpu\": 1,\n \"name\": \"measured\",\n \"brief\": \"%s\",\n"
            " \"held_to\": \"micro-benchmarks of moeref-measure\",\n \"parameters\": {\n"
            "  \"arch\": {\n   \"value\": %d,\n   \"kind\": \"nominal\",\n"
            "   \"source\": \"compute capability\"\n  }",
            m->name, m->arch);
    put(to, "sms", m->sms, "nominal", "the device's attributes");
    put(to, "clock_max_mhz", m->clock_max_mhz, "nominal", "the device's attributes");
    put(to, "tensor_flops", tensor_flops(m), other_instructions(m) ? "nominal" : "measured",
        other_instructions(m) ? "tcgen05 of this compute capability, by data sheets: not measured"
                              : "the power of two above the rate of tensor instructions alone");
    put(to, "l2_mib", m->l2_mib, "nominal", "the device's attributes");
    put(to, "hbm_gib", m->hbm_gib, "nominal", "the device's attributes");
    /* A driver may tell no clock, or that of another state: a rate that was seen is possible. */
    const bool told = m->hbm_nominal >= m->read;
    const double hbm_bw = told ? m->hbm_nominal : m->read;
    put(to, "hbm_bw", hbm_bw / 1e12, told ? "nominal" : "measured",
        told ? "twice the memory's clock x its width"
             : "all SMs read 1 GiB: the attributes tell less");
    put(to, "l2_latency", m->l2_latency, "measured", "a chain of loads in 8 MiB");
    put(to, "hbm_latency", m->hbm_latency, "measured", "a chain of loads in 512 MiB");
    put(to, "l2_bw", m->l2_rate / clock / m->sms, "measured", "all SMs read a third of L2");
    put(to, "hbm_eff", m->read / hbm_bw, "measured", "all SMs read 1 GiB");
    put(to, "inflight_kib", m->ramp[0] / clock * m->hbm_latency / 1024, "measured",
        "what one SM reads x the latency");
    put(to, "stream_gap_us", m->gap_us, "measured",
        "kernels of 40000 clocks in a stream less the same in a graph");
    fprintf(to, "\n }\n}\n");
}

void write_table(FILE *to, const Measured *m) {
    fprintf(to, "what\tvalue\tunit\n");
    fprintf(to, "read\t%.1f\tGB/s\ncopy, both ways\t%.1f\tGB/s\n", m->read / 1e9,
            m->copy_both / 1e9);
    for (int i = 0; i < 8; i++)
        fprintf(to, "read by %d SMs\t%.1f\tGB/s\n", 1 << i, m->ramp[i] / 1e9);
    fprintf(to, "read from L2\t%.1f\tGB/s\n", m->l2_rate / 1e9);
    fprintf(to, "latency, L2\t%.0f\tclocks\nlatency, memory\t%.0f\tclocks\n", m->l2_latency,
            m->hbm_latency);
    fprintf(to, "launch, graph\t%.2f\tus\nlaunch, stream\t%.2f\tus\n", m->graph_us, m->stream_us);
    fprintf(to, "gap of a stream\t%.2f\tus\n", m->gap_us);
    fprintf(to, "clock of an SM alone\t%.0f\tMHz\n", m->mhz);
    fprintf(to, "mma.sync m16n8k16\t%.0f\tFLOP/clock/SM\n", m->sync_rate);
    for (int i = 0; i < 3 && m->wide_rate[i] > 0; i++)
        fprintf(to, "wgmma m64n%dk16\t%.0f\tFLOP/clock/SM\n", 64 << i, m->wide_rate[i]);
}

std::string in(const char *folder, const char *name, const char *ending) {
    return std::string(folder) + "/" + name + ending;
}

[[noreturn]] void cannot_write(const std::string &path) {
    fprintf(stderr, "moeref-measure: %s cannot be written: %s\n", path.c_str(), strerror(errno));
    exit(2);
}

/* Beside the file, which takes its place once all of it is on the disk. */
template <class Write> void write_file(const char *folder, const char *name, Write write) {
    const std::string part = in(folder, name, ".part"), whole = in(folder, name, "");
    FILE *to = fopen(part.c_str(), "w");
    if (!to)
        cannot_write(part);
    write(to);
    const bool bad = ferror(to);
    if (fclose(to) != 0 || bad || rename(part.c_str(), whole.c_str()) != 0)
        cannot_write(part);
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: moeref-measure FOLDER\n\n"
                        "Measures the first CUDA device, in less than a minute, and writes to "
                        "FOLDER, which must exist:\n"
                        "  gpu.json     a description for --gpu\n"
                        "  micro.tsv    what was measured for it\n"
                        "  gemm.tsv     dense bf16 products of cuBLAS, for calibrate --from\n"
                        "  settled.tsv  large ones without a pause, for --clock settled too\n");
        return 2;
    }
    Measured m = {};
    cudaStream_t stream;
    MEASURE_CUDA(cudaStreamCreate(&stream));
    read_facts(&m);
    measure_launches(&m, stream);
    measure_clock(&m, stream);
    measure_memory(&m, stream);
    measure_tensor(m.sms, &m.sync_rate, m.wide_rate);
    write_file(argv[1], "gpu.json", [&](FILE *to) { write_description(to, &m); });
    write_file(argv[1], "micro.tsv", [&](FILE *to) { write_table(to, &m); });
    write_file(argv[1], "gemm.tsv", [&](FILE *to) { measure_products(to, false, stream); });
    write_file(argv[1], "settled.tsv", [&](FILE *to) { measure_products(to, true, stream); });
    return 0;
}
