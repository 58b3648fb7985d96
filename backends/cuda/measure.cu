/* moeref-measure: a description of this device for the cost model, from its attributes and from
 * micro-benchmarks, and a table of dense products to fit it to. */
#include "measure.h"

#include <errno.h>
#include <string.h>
#include <string>

namespace {

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
