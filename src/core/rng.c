/* Philox4x32-10 and the fills built on it. */
#include "moeref/rng.h"

#include <string.h>

#include "core/simd.h"

/* Round multipliers and key increments of Philox4x32 (Salmon et al., SC'11). */
#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u
#define PHILOX_W1 0xBB67AE85u

/* Sum of eight uniform integers on 0..65535: twice the mean is 8*65535, and the variance is
 * 8*(65536^2 - 1)/12. */
#define HALVES_MEAN   262140
#define HALVES_STDDEV 53509.919921450078731 /* sqrt(8*(65536^2 - 1)/12) */

#define CHUNK          512     /* elements that one buffer on the stack holds */
#define PARALLEL_COUNT 1048576 /* below this a thread team costs more than it saves */

typedef struct philox_block {
    uint32_t w0, w1, w2, w3;
} philox_block;

MOE_INT_INLINE philox_block philox(philox_block counter, uint32_t key0, uint32_t key1) {
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)PHILOX_M0 * counter.w0;
        uint64_t p1 = (uint64_t)PHILOX_M1 * counter.w2;
        philox_block next = {
            .w0 = (uint32_t)(p1 >> 32) ^ counter.w1 ^ key0,
            .w1 = (uint32_t)p1,
            .w2 = (uint32_t)(p0 >> 32) ^ counter.w3 ^ key1,
            .w3 = (uint32_t)p0,
        };
        counter = next;
        key0 += PHILOX_W0;
        key1 += PHILOX_W1;
    }
    return counter;
}

MOE_INT_INLINE philox_block element_block(uint64_t seed, uint64_t stream, uint64_t index) {
    philox_block counter = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream,
                            (uint32_t)(stream >> 32)};
    return philox(counter, (uint32_t)seed, (uint32_t)(seed >> 32));
}

MOE_INT_INLINE double block_normal(philox_block b) {
    uint32_t sum = (b.w0 & 0xffff) + (b.w0 >> 16) + (b.w1 & 0xffff) + (b.w1 >> 16) +
                   (b.w2 & 0xffff) + (b.w2 >> 16) + (b.w3 & 0xffff) + (b.w3 >> 16);
    return (double)((int32_t)sum - HALVES_MEAN) / HALVES_STDDEV;
}

/* One block in 256 has words whose exclusive or ends in a zero byte. The low bits of halves say
 * next to nothing about the size of their sum, so outliers are ordinary normals times 32. */
MOE_INT_INLINE double block_outlier(philox_block b) {
    int is_outlier = ((b.w0 ^ b.w1 ^ b.w2 ^ b.w3) & 0xff) == 0;
    return block_normal(b) * (is_outlier ? 32.0 : 1.0);
}

/* Word 0 scaled to seven equal classes. */
MOE_INT_INLINE double block_integer(philox_block b) {
    return (int32_t)(((uint64_t)b.w0 * 7) >> 32) - 3;
}

void moe_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t ret[4]) {
    philox_block start = {counter[0], counter[1], counter[2], counter[3]};
    philox_block b = philox(start, key[0], key[1]);
    ret[0] = b.w0;
    ret[1] = b.w1;
    ret[2] = b.w2;
    ret[3] = b.w3;
}

uint64_t moe_rng_bits(uint64_t seed, uint64_t stream, uint64_t index) {
    philox_block b = element_block(seed, stream, index);
    return (uint64_t)b.w1 << 32 | b.w0;
}

double moe_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    return (double)(moe_rng_bits(seed, stream, index) >> 11) * 0x1p-53;
}

double moe_rng_normal(uint64_t seed, uint64_t stream, uint64_t index) {
    return block_normal(element_block(seed, stream, index));
}

/* What is the same for every element of one fill. */
typedef struct fill_plan {
    moe_fill_kind kind;
    double scale;
    uint64_t seed, stream;
} fill_plan;

MOE_INT_INLINE void fill_chunk_body(double *restrict out, size_t count, uint64_t first,
                                    const fill_plan *plan) {
    const uint64_t seed = plan->seed, stream = plan->stream;
    const double scale = plan->scale;
    switch (plan->kind) {
    case MOE_FILL_NORMAL:
        for (size_t i = 0; i < count; i++)
            out[i] = scale * block_normal(element_block(seed, stream, first + i));
        break;
    case MOE_FILL_OUTLIER:
        for (size_t i = 0; i < count; i++)
            out[i] = scale * block_outlier(element_block(seed, stream, first + i));
        break;
    case MOE_FILL_INTEGER:
        for (size_t i = 0; i < count; i++)
            out[i] = scale * block_integer(element_block(seed, stream, first + i));
        break;
    case MOE_FILL_ZERO:
        break;
    }
}

static void fill_chunk(double *restrict out, size_t count, uint64_t first, const fill_plan *plan) {
    fill_chunk_body(out, count, first, plan);
}

#if MOE_INT_HAVE_AVX2
MOE_INT_AVX2 static void fill_chunk_avx2(double *restrict out, size_t count, uint64_t first,
                                         const fill_plan *plan) {
    fill_chunk_body(out, count, first, plan);
}
#endif

void moe_rng_fill(void *data, moe_dtype dtype, size_t first, size_t count, moe_fill_kind kind,
                  double scale, uint64_t seed, uint64_t stream) {
    const size_t element = moe_dtype_size(dtype);
    if (count == 0)
        return; /* an empty array may be NULL */
    if (kind == MOE_FILL_ZERO) {
        memset(data, 0, count * element);
        return;
    }
    const fill_plan plan = {kind, scale, seed, stream};
    void (*chunk)(double *restrict, size_t, uint64_t, const fill_plan *) = fill_chunk;
#if MOE_INT_HAVE_AVX2
    if (moe_int_cpu_avx2())
        chunk = fill_chunk_avx2;
#endif
    const size_t chunks = (count + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static) if (count >= PARALLEL_COUNT)
    for (size_t c = 0; c < chunks; c++) {
        double buffer[CHUNK];
        size_t start = c * CHUNK;
        size_t n = count - start < CHUNK ? count - start : CHUNK;
        chunk(buffer, n, first + start, &plan);
        moe_convert((char *)data + start * element, dtype, buffer, MOE_F64, n);
    }
}
