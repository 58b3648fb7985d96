/* Philox4x32-10 and the fills built on it. */
#include "moeref/rng.h"
#include "core/convert.h"
#include "core/simd.h"

#include <string.h>

#if MOE_INT_HAVE_AVX2
#include <immintrin.h>
#endif

/* Round multipliers and key increments of Philox4x32 (Salmon et al., SC'11). */
#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u
#define PHILOX_W1 0xBB67AE85u

/* Sum of eight uniform integers on 0..65535: twice the mean is 8*65535, and the variance is
 * 8*(65536^2 - 1)/12. */
#define HALVES_MEAN   262140
#define HALVES_STDDEV 53509.919921450078731 /* sqrt(8*(65536^2 - 1)/12) */

#define CHUNK          512     /* elements that buffers on the stack hold; a multiple of 4 */
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

/* The three distributions, from words of which only the low 32 bits count: the wide code below
 * leaves rubbish above them. */

/* A natural number below 2^52, without a conversion instruction that AVX2 lacks. */
MOE_INT_INLINE double small_to_double(uint64_t number) {
    return moe_int_f64_from_bits(number | 0x4330000000000000u) - 0x1p52;
}

MOE_INT_INLINE uint64_t add_halves(uint64_t word) {
    return (word & 0xffff) + ((word >> 16) & 0xffff);
}

MOE_INT_INLINE double normal_of(uint64_t w0, uint64_t w1, uint64_t w2, uint64_t w3) {
    uint64_t sum = add_halves(w0) + add_halves(w1) + add_halves(w2) + add_halves(w3);
    return (small_to_double(sum) - HALVES_MEAN) / HALVES_STDDEV;
}

/* One block in 256 has words whose exclusive or ends in a zero byte. The low bits of halves say
 * next to nothing about the size of their sum, so outliers are ordinary normals times 32. */
MOE_INT_INLINE double outlier_factor(uint64_t w0, uint64_t w1, uint64_t w2, uint64_t w3) {
    return ((w0 ^ w1 ^ w2 ^ w3) & 0xff) == 0 ? 32.0 : 1.0;
}

/* Word 0 scaled to seven equal classes. */
MOE_INT_INLINE double integer_of(uint64_t w0) {
    return small_to_double(((w0 & 0xffffffff) * 7) >> 32) - 3;
}

/* The top two bits of word 0: -1, 0, 0, 1. */
MOE_INT_INLINE double exact_of(uint64_t w0) {
    uint64_t top = (w0 >> 30) & 3;
    return (double)(int)((top == 3) - (top == 0));
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
    philox_block b = element_block(seed, stream, index);
    return normal_of(b.w0, b.w1, b.w2, b.w3);
}

/* What is the same for every element of one fill. */
typedef struct fill_plan {
    moe_fill_kind kind;
    double scale;
    uint64_t seed, stream;
} fill_plan;

/* The blocks of consecutive elements, word by word. */
typedef struct chunk_words {
    uint64_t w0[CHUNK], w1[CHUNK], w2[CHUNK], w3[CHUNK];
} chunk_words;

MOE_INT_INLINE void words_to_values(double *restrict out, const chunk_words *w, size_t count,
                                    const fill_plan *plan) {
    const double scale = plan->scale;
    switch (plan->kind) {
    case MOE_FILL_NORMAL:
    case MOE_FILL_CANCEL:
        for (size_t i = 0; i < count; i++)
            out[i] = scale * normal_of(w->w0[i], w->w1[i], w->w2[i], w->w3[i]);
        break;
    case MOE_FILL_OUTLIER:
        for (size_t i = 0; i < count; i++)
            out[i] = scale * (normal_of(w->w0[i], w->w1[i], w->w2[i], w->w3[i]) *
                              outlier_factor(w->w0[i], w->w1[i], w->w2[i], w->w3[i]));
        break;
    case MOE_FILL_INTEGER:
        for (size_t i = 0; i < count; i++)
            out[i] = scale * integer_of(w->w0[i]);
        break;
    case MOE_FILL_EXACT:
        for (size_t i = 0; i < count; i++)
            out[i] = scale * exact_of(w->w0[i]);
        break;
    case MOE_FILL_ZERO:
        break;
    }
}

static void fill_chunk(double *restrict out, size_t count, uint64_t first, const fill_plan *plan) {
    chunk_words words;
    for (size_t i = 0; i < count; i++) {
        philox_block b = element_block(plan->seed, plan->stream, first + i);
        words.w0[i] = b.w0;
        words.w1[i] = b.w1;
        words.w2[i] = b.w2;
        words.w3[i] = b.w3;
    }
    words_to_values(out, &words, count, plan);
}

#if MOE_INT_HAVE_AVX2
/* Four blocks at once, one per 64-bit lane: the multiplication reads the low half of a lane and
 * writes all of it, so that a word never has to move to another lane. Written with intrinsics
 * because compilers spend most of their instructions on shuffles here. */
MOE_INT_AVX2 static void draw_avx2(chunk_words *words, size_t count, uint64_t first,
                                   const fill_plan *plan) {
    const __m256i m0 = _mm256_set1_epi64x(PHILOX_M0), m1 = _mm256_set1_epi64x(PHILOX_M1);
    const __m256i s0 = _mm256_set1_epi64x((int64_t)plan->stream);
    const __m256i s1 = _mm256_srli_epi64(s0, 32);
    for (size_t i = 0; i < count; i += 4) {
        __m256i w0 = _mm256_add_epi64(_mm256_set1_epi64x((int64_t)(first + i)),
                                      _mm256_setr_epi64x(0, 1, 2, 3));
        __m256i w1 = _mm256_srli_epi64(w0, 32), w2 = s0, w3 = s1;
        uint32_t key0 = (uint32_t)plan->seed, key1 = (uint32_t)(plan->seed >> 32);
        for (int round = 0; round < 10; round++) {
            __m256i p0 = _mm256_mul_epu32(m0, w0), p1 = _mm256_mul_epu32(m1, w2);
            __m256i k0 = _mm256_set1_epi64x(key0), k1 = _mm256_set1_epi64x(key1);
            w0 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), w1), k0);
            w1 = p1;
            w2 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), w3), k1);
            w3 = p0;
            key0 += PHILOX_W0;
            key1 += PHILOX_W1;
        }
        _mm256_storeu_si256((__m256i *)(words->w0 + i), w0);
        _mm256_storeu_si256((__m256i *)(words->w1 + i), w1);
        _mm256_storeu_si256((__m256i *)(words->w2 + i), w2);
        _mm256_storeu_si256((__m256i *)(words->w3 + i), w3);
    }
}

MOE_INT_AVX2 static void fill_chunk_avx2(double *restrict out, size_t count, uint64_t first,
                                         const fill_plan *plan) {
    chunk_words words;
    draw_avx2(&words, count, first, plan);
    words_to_values(out, &words, count, plan);
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
