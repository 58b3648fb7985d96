/* One step of Hopper's wgmma and of its mma.sync on the device, beside the emulator: vectors, then
 * random steps of four formats with finite factors and with infinities, NaN, zeros beside huge
 * numbers and sums that overflow. By hand, on an sm_90 device: moeref-tensorcore-check */
extern "C" {
#include "reference/tensorcore/lanes.h"
}
#include "tensorcore_vectors.h"

#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

namespace {

enum { ROWS = 64, COLUMNS = 8, BYTES = 32, SUMS = ROWS * COLUMNS, TILES = 2048, FEW = 8 };

void must(cudaError_t err) {
    if (err == cudaSuccess)
        return;
    printf("%s\n", cudaGetErrorString(err));
    exit(3);
}

/* A tile: A [64][32 bytes], B [8][32 bytes], C and D [64][8]. Registers as mma's fragments are. */
struct Fragments {
    uint32_t a[4];
    float d[4];
};

__device__ Fragments load(const uint8_t *A, const float *C, int row, int lane) {
    Fragments f;
    for (int i = 0; i < 4; i++) {
        memcpy(&f.a[i], A + (row + (i & 1) * 8) * BYTES + (lane % 4) * 4 + (i >> 1) * 16, 4);
        f.d[i] = C[(row + (i >> 1) * 8) * COLUMNS + (lane % 4) * 2 + (i & 1)];
    }
    return f;
}

#define WGMMA(shape, types, tail)                                                                  \
    asm volatile("{.reg .pred p; setp.ne.b32 p, 1, 0; wgmma.mma_async.sync.aligned." shape         \
                 ".f32." types " {%0,%1,%2,%3}, {%4,%5,%6,%7}, %8, p, 1, 1" tail ";}"              \
                 : "+f"(f.d[0]), "+f"(f.d[1]), "+f"(f.d[2]), "+f"(f.d[3])                          \
                 : "r"(f.a[0]), "r"(f.a[1]), "r"(f.a[2]), "r"(f.a[3]), "l"(desc))
#define MMA(shape, types)                                                                          \
    asm volatile("mma.sync.aligned." shape ".row.col.f32." types ".f32 {%0,%1,%2,%3}, "            \
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                                          \
                 : "+f"(f.d[0]), "+f"(f.d[1]), "+f"(f.d[2]), "+f"(f.d[3])                          \
                 : "r"(f.a[0]), "r"(f.a[1]), "r"(f.a[2]), "r"(f.a[3]), "r"(b[0]), "r"(b[1]))

template <int format> __device__ void wgmma(Fragments &f, uint64_t desc) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    if (format == MOE_INT_FORMAT_BF16)
        WGMMA("m64n8k16", "bf16.bf16", ", 0");
    if (format == MOE_INT_FORMAT_FP16)
        WGMMA("m64n8k16", "f16.f16", ", 0");
    if (format == MOE_INT_FORMAT_E4M3)
        WGMMA("m64n8k32", "e4m3.e4m3", "");
    if (format == MOE_INT_FORMAT_E5M2)
        WGMMA("m64n8k32", "e5m2.e5m2", "");
    asm volatile("wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

template <int format> __device__ void mma(Fragments &f, const uint32_t (&b)[2]) {
    if (format == MOE_INT_FORMAT_BF16)
        MMA("m16n8k16", "bf16.bf16");
    if (format == MOE_INT_FORMAT_FP16)
        MMA("m16n8k16", "f16.f16");
    if (format == MOE_INT_FORMAT_E4M3)
        MMA("m16n8k32", "e4m3.e4m3");
    if (format == MOE_INT_FORMAT_E5M2)
        MMA("m16n8k32", "e5m2.e5m2");
}

template <int format>
__global__ void step(bool warp_wide, const uint8_t *A, const uint8_t *B, const float *C, float *D) {
    __shared__ __align__(1024) uint8_t shared[COLUMNS * BYTES];
    const int t = (int)threadIdx.x, lane = t % 32, row = t / 32 * 16 + lane / 4;
    A += (size_t)blockIdx.x * ROWS * BYTES;
    B += (size_t)blockIdx.x * COLUMNS * BYTES;
    C += (size_t)blockIdx.x * SUMS;
    D += (size_t)blockIdx.x * SUMS;
    for (int i = t; i < COLUMNS * BYTES; i += 128) /* core matrices of 8 rows of 16 bytes */
        shared[i % BYTES / 16 * 128 + i / BYTES * 16 + i % 16] = B[i];
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    Fragments f = load(A, C, row, lane);
    if (warp_wide) {
        uint32_t b[2];
        for (int i = 0; i < 2; i++)
            memcpy(&b[i], B + lane / 4 * BYTES + lane % 4 * 4 + i * 16, 4);
        mma<format>(f, b);
    } else {
        const uint64_t at = (uint64_t)__cvta_generic_to_shared(shared);
        wgmma<format>(f, (at & 0x3ffff) >> 4 | (uint64_t)8 << 16 | (uint64_t)8 << 32);
    }
    for (int i = 0; i < 4; i++)
        D[(row + (i >> 1) * 8) * COLUMNS + (lane % 4) * 2 + (i & 1)] = f.d[i];
}

struct Tiles {
    uint8_t *A, *B;
    float *C, *D;
};

void launch(int format, bool warp_wide, int tiles, const Tiles &t) {
    if (format == MOE_INT_FORMAT_BF16)
        step<MOE_INT_FORMAT_BF16><<<tiles, 128>>>(warp_wide, t.A, t.B, t.C, t.D);
    if (format == MOE_INT_FORMAT_FP16)
        step<MOE_INT_FORMAT_FP16><<<tiles, 128>>>(warp_wide, t.A, t.B, t.C, t.D);
    if (format == MOE_INT_FORMAT_E4M3)
        step<MOE_INT_FORMAT_E4M3><<<tiles, 128>>>(warp_wide, t.A, t.B, t.C, t.D);
    if (format == MOE_INT_FORMAT_E5M2)
        step<MOE_INT_FORMAT_E5M2><<<tiles, 128>>>(warp_wide, t.A, t.B, t.C, t.D);
    must(cudaGetLastError());
    must(cudaDeviceSynchronize());
}

uint64_t seed = 88172645463325252u;
uint32_t draw() {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 16);
}

/* Exponents within `span` of 1; span 0: any code at all. */
uint32_t draw_code(int format, int span) {
    const vector_format &f = vector_formats[format];
    const uint32_t any = draw() & ((1u << f.bits) - 1), low = any & ((1u << f.fraction) - 1);
    if (!span)
        return any;
    if (draw() % 16 == 0)
        return any >> (f.bits - 1) << (f.bits - 1);
    int field = -f.least + 1 + (int)(draw() % (2 * span + 1)) - span - 1;
    const int top = (1 << (f.bits - 1 - f.fraction)) - 2;
    field = field < 0 ? 0 : field > top ? top : field;
    return any >> (f.bits - 1) << (f.bits - 1) | (uint32_t)field << f.fraction | low;
}

float draw_c(int span) {
    const uint32_t exp = span ? 127 - 2 * span + draw() % (4 * span + 1) : draw() & 255;
    uint32_t bits = draw() % 4 ? draw() << 31 | exp << 23 | (draw() & 0x7fffff) : 0;
    if (!span && draw() % 16 == 0)
        bits = draw() << 31 | 0x7f800000;
    float ret;
    memcpy(&ret, &bits, 4);
    return ret;
}

void fill(int format, int span, const Tiles &t) {
    const int bytes = vector_formats[format].bits / 8;
    for (size_t i = 0; i < (size_t)TILES * (ROWS + COLUMNS) * BYTES; i += bytes) {
        const size_t of_a = (size_t)TILES * ROWS * BYTES;
        const uint32_t code = draw_code(format, span);
        memcpy(i < of_a ? t.A + i : t.B + (i - of_a), &code, bytes);
    }
    for (size_t i = 0; i < (size_t)TILES * SUMS; i++)
        t.C[i] = draw_c(span);
}

/* An instruction's result by a rule, which may take several sums. */
uint32_t emulate(const moe_int_dot_rule &r, int format, const uint8_t *a, const uint8_t *b,
                 float c) {
    const int bytes = vector_formats[format].bits / 8, count = BYTES / bytes;
    int16_t sig[2][BYTES], exp[2][BYTES];
    uint32_t ret;
    for (int i = 0; i < 2 * count; i++) {
        uint32_t code = 0;
        memcpy(&code, (i < count ? a : b) + i % count * bytes, bytes);
        const moe_int_factor f = moe_int_decode((moe_int_format)format, code);
        sig[i / count][i % count] = f.sig;
        exp[i / count][i % count] = f.exp;
    }
    memcpy(&ret, &c, 4);
    if (r.by_fp16)
        return moe_int_dot_by_fp16(&r, vector_formats[format].fraction, sig[0], exp[0], sig[1],
                                   exp[1], 1, ret);
    for (int i = 0; i < count; i += r.terms)
        ret = moe_int_dot(&r, vector_formats[format].fraction, sig[0] + i, exp[0] + i, sig[1] + i,
                          exp[1] + i, 1, ret);
    return ret;
}

/* The factors of a step that are not finite. */
void print_special(int format, const uint8_t *a, const uint8_t *b) {
    const int bytes = vector_formats[format].bits / 8;
    for (int k = 0; k < BYTES / bytes; k++) {
        uint32_t x = 0, y = 0;
        memcpy(&x, a + k * bytes, bytes);
        memcpy(&y, b + k * bytes, bytes);
        if (moe_int_decode((moe_int_format)format, x).exp == MOE_INT_SPECIAL ||
            moe_int_decode((moe_int_format)format, y).exp == MOE_INT_SPECIAL)
            printf("    k %d: 0x%x * 0x%x\n", k, x, y);
    }
}

/* Steps that have another result than the rule; the first few are printed. */
long differences(const moe_int_dot_rule &r, int format, int tiles, const Tiles &t, bool tell) {
    long differ = 0;
    for (long i = 0; i < (long)tiles * SUMS; i++) {
        const long tile = i / SUMS, row = i % SUMS / COLUMNS, column = i % COLUMNS;
        const uint32_t want = emulate(r, format, t.A + (tile * ROWS + row) * BYTES,
                                      t.B + (tile * COLUMNS + column) * BYTES, t.C[i]);
        uint32_t got;
        memcpy(&got, &t.D[i], 4);
        if (got != want && differ++ < FEW && tell) {
            printf("  the device gives 0x%08x, the rule 0x%08x, C %a\n", got, want, t.C[i]);
            print_special(format, t.A + (tile * ROWS + row) * BYTES,
                          t.B + (tile * COLUMNS + column) * BYTES);
        }
    }
    return differ;
}

bool check_vector(const vector &v, const Tiles &t) {
    uint32_t a[BYTES], b[BYTES], got;
    const int bytes = vector_formats[v.format].bits / 8, count = BYTES / bytes;
    memset(t.A, 0, ROWS * BYTES);
    memset(t.B, 0, COLUMNS * BYTES);
    memset(t.C, 0, SUMS * sizeof(float));
    vector_codes(v.format, v.a, count, a);
    vector_codes(v.format, v.b, count, b);
    for (int k = 0; k < count; k++) {
        memcpy(t.A + k * bytes, &a[k], bytes);
        memcpy(t.B + k * bytes, &b[k], bytes);
    }
    memcpy(t.C, &v.c, 4);
    launch(v.format, false, 1, t);
    memcpy(&got, t.D, 4);
    printf("%-30s 0x%08x %s\n", v.what, got, got == v.want ? "as expected" : "DIFFERENT");
    return got == v.want;
}

/* Random steps of one instruction under its unit's rule and, for mma.sync, under others. Where the
 * table has no rule there is nothing to hold it to. */
bool check_random(const char *unit, int format, int span, const Tiles &t) {
    const bool warp_wide = strcmp(unit, "sm_90.mma") == 0;
    const moe_int_dot_rule rule = moe_int_unit_find(unit)->rule[format];
    if (rule.terms == 0)
        return true;
    launch(format, warp_wide, TILES, t);
    const long differ = differences(rule, format, TILES, t, true);
    printf("%-9s %s, exponents within %3d%s: %d steps, %ld different\n", unit,
           moe_int_layouts[format].name, span, span ? "" : " (any codes)", TILES * SUMS, differ);
    if (differ == 0 || !warp_wide)
        return differ == 0;
    for (int terms = rule.terms; terms >= 8; terms /= 2)
        for (int kept = 13; kept <= 25; kept += kept == 13 ? 11 : 1)
            for (int out = 13; out <= 23; out += 10)
                if (kept > 13 || terms > 8)
                    printf("  sums of %d, %d bits kept, fraction of %d: %ld different\n", terms,
                           kept, out,
                           differences({terms, kept, out, false}, format, TILES / 16, t, false));
    return false;
}

} // namespace

int main() {
    Tiles t;
    bool right = true;
    must(cudaMallocManaged(&t.A, (size_t)TILES * ROWS * BYTES));
    must(cudaMallocManaged(&t.B, (size_t)TILES * COLUMNS * BYTES));
    must(cudaMallocManaged(&t.C, (size_t)TILES * SUMS * sizeof(float)));
    must(cudaMallocManaged(&t.D, (size_t)TILES * SUMS * sizeof(float)));
    for (const vector &v : vectors)
        right &= check_vector(v, t);
    for (int format = 0; format < MOE_INT_FORMATS; format++)
        for (int span : {3, 12, 60, 0}) {
            fill(format, span, t);
            right &= check_random("sm_90", format, span, t);
            right &= check_random("sm_90.mma", format, span, t);
        }
    printf(right ? "ALL EQUAL\n" : "SOME DIFFER\n");
    return !right;
}
