/* moeref-activation-check: how far the kernels' activations and slopes are from the exact ones, for
 * every number of bf16 and fp16: in 2^-24 of the value (of the sum of its terms' sizes), and in
 * that times 1 + y, y what the exponential is taken of: the act_ulp of moe_arithmetic. Then the
 * instructions alone. By hand, on a device. */
#include "../../backends/cuda/activation.cuh"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <vector>

namespace {

void must(cudaError_t err) {
    if (err == cudaSuccess)
        return;
    printf("%s\n", cudaGetErrorString(err));
    exit(3);
}

enum Function { SILU, SILU_1702, GELU, SIGMOID, EX2, RCP, EXP, ERFC, FUNCTIONS };
const char *const names[FUNCTIONS] = {"silu",       "x sigmoid(1.702 x)", "gelu",   "sigmoid",
                                      "ex2.approx", "rcp.approx",         "__expf", "erfcf"};

/* Value and slope; the instructions have none. */
__device__ float2 on_device(Function f, float x) {
    float slope = 0, y = 0;
    switch (f) {
    case SILU:
        y = act_phi({MOE_ACT_SILU, 0, 0}, x, &slope);
        break;
    case SILU_1702:
        y = act_phi({MOE_ACT_SWIGLU_CLAMP, 1.702f, 7}, x, &slope);
        break;
    case GELU:
        y = act_phi({MOE_ACT_GELU, 0, 0}, x, &slope);
        break;
    case SIGMOID:
        y = act_sigmoid(x);
        break;
    case EX2:
        asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
        break;
    case RCP:
        asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
        break;
    case EXP:
        y = __expf(x);
        break;
    case ERFC:
        y = erfcf(x);
        break;
    case FUNCTIONS:
        break;
    }
    return make_float2(y, slope);
}

__global__ void evaluate(int f, bool fp16, float2 *out) {
    const unsigned code = blockIdx.x * blockDim.x + threadIdx.x;
    const float x =
        fp16 ? __half2float(__ushort_as_half((unsigned short)code)) : __uint_as_float(code << 16);
    out[code] = on_device((Function)f, x);
}

/* The exact value, the size that errors are told of, and what the exponential is taken of. */
struct Exact {
    double value, size, power;
};

Exact of_sigmoid(double x, double alpha, bool slope) {
    const double e = exp(-fabs(alpha * x)), s = (x * alpha >= 0 ? 1 : e) / (1 + e);
    const double other = (x * alpha >= 0 ? e : 1) / (1 + e); /* 1 - s */
    if (slope)
        return {s * (1 + alpha * x * other), s * (1 + fabs(alpha * x) * other), fabs(alpha * x)};
    return {x * s, fabs(x * s), fabs(alpha * x)};
}

Exact of_gelu(double x, bool slope) {
    const double s = 0.5 * erfc(-x * sqrt(0.5)), density = exp(-x * x / 2) / sqrt(2 * M_PI);
    if (slope)
        return {s + x * density, s + fabs(x) * density, x * x / 2};
    return {x * s, fabs(x * s), x * x / 2};
}

Exact exact(Function f, double x, bool slope) {
    switch (f) {
    case SILU:
        return of_sigmoid(x, 1, slope);
    case SILU_1702:
        return of_sigmoid(x, 1.702f, slope);
    case GELU:
        return of_gelu(x, slope);
    case SIGMOID: {
        const Exact e = of_sigmoid(x, 1, false);
        return {e.value / x, e.size / fabs(x), e.power};
    }
    case EX2:
        return {exp2(x), exp2(x), 0};
    case RCP:
        return {1 / x, fabs(1 / x), 0};
    case EXP:
        return {exp(x), exp(x), fabs(x)};
    case ERFC:
        return {erfc(x), erfc(x), 0};
    case FUNCTIONS:
        break;
    }
    return {0, 0, 0};
}

float value_of(bool fp16, unsigned code) {
    return fp16 ? __half2float(__ushort_as_half((unsigned short)code))
                : __bfloat162float(__ushort_as_bfloat16((unsigned short)code));
}

/* Below it a subnormal fp32 number, or one flushed to zero, rounds to the same 16 bits. */
const double least = 0x1p-100;

void measure(Function f, bool fp16, bool slope, const std::vector<float2> &got) {
    double plain = 0, grown = 0, at_plain = 0, at_grown = 0;
    long count = 0;
    for (unsigned code = 0; code < 65536; code++) {
        const double x = value_of(fp16, code);
        const Exact e = exact(f, x, slope);
        if (!isfinite(x) || x == 0 || !isfinite(e.value) || !(e.size > least) || e.size > 1e38)
            continue;
        const double error = fabs((slope ? got[code].y : got[code].x) - e.value) / e.size * 0x1p24;
        count++;
        if (error > plain)
            plain = error, at_plain = x;
        if (error / (1 + e.power) > grown)
            grown = error / (1 + e.power), at_grown = x;
    }
    printf("%-20s %-5s %s: %5ld numbers, at most %9.3f of 2^-24 (at %.9g), %7.3f times 1 + y (at "
           "%.9g)\n",
           names[f], slope ? "slope" : "value", fp16 ? "fp16" : "bf16", count, plain, at_plain,
           grown, at_grown);
}

} // namespace

int main() {
    float2 *out;
    must(cudaMallocManaged(&out, 65536 * sizeof *out));
    for (int f = 0; f < FUNCTIONS; f++)
        for (bool fp16 : {false, true}) {
            evaluate<<<256, 256>>>(f, fp16, out);
            must(cudaGetLastError());
            must(cudaDeviceSynchronize());
            const std::vector<float2> got(out, out + 65536);
            measure((Function)f, fp16, false, got);
            if (f <= GELU)
                measure((Function)f, fp16, true, got);
        }
    return 0;
}
