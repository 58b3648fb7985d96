/* The random generator: published known answers, split and thread independence, distribution. */
#include "moeref/rng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* Known answers of Random123's kat_vectors, "philox4x32 10". */
Test(rng, philox_known_answers) {
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t v = 0; v < sizeof(vectors) / sizeof(vectors[0]); v++) {
        uint32_t got[4];
        moe_philox4x32(vectors[v].counter, vectors[v].key, got);
        cr_assert_arr_eq(got, vectors[v].want, sizeof(got), "vector %zu", v);
    }
}

/* The header's definitions, spelled out from the block. */
Test(rng, elements_are_what_the_header_says) {
    static const uint64_t indices[] = {0, 1, 255, UINT32_MAX, (uint64_t)UINT32_MAX + 1, UINT64_MAX};
    const uint64_t seed = 0x0123456789abcdef, stream = 0xfedcba9876543210;
    for (size_t i = 0; i < sizeof(indices) / sizeof(indices[0]); i++) {
        uint64_t index = indices[i];
        uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream,
                               (uint32_t)(stream >> 32)};
        uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, block[4];
        moe_philox4x32(counter, key, block);
        uint64_t bits = block[0] | (uint64_t)block[1] << 32;
        cr_assert_eq(moe_rng_bits(seed, stream, index), bits);
        cr_assert_eq(moe_rng_uniform(seed, stream, index), ldexp((double)(bits >> 11), -53));
        long sum = 0;
        for (int w = 0; w < 4; w++)
            sum += (long)(block[w] & 0xffff) + (long)(block[w] >> 16);
        double stddev = sqrt(8.0 * (65536.0 * 65536.0 - 1) / 12.0);
        cr_assert_eq(moe_rng_normal(seed, stream, index), (sum - 4 * 65535.0) / stddev);
    }
}

static const moe_fill_kind kinds[] = {MOE_FILL_NORMAL, MOE_FILL_OUTLIER, MOE_FILL_INTEGER,
                                      MOE_FILL_ZERO, MOE_FILL_EXACT};
#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void fill_in_pieces(void *data, moe_dtype dtype, size_t first, size_t count,
                           moe_fill_kind kind) {
    size_t done = 0;
    for (size_t piece = 1; done < count; piece = piece * 3 + 1) {
        size_t n = piece < count - done ? piece : count - done;
        moe_rng_fill((char *)data + done * moe_dtype_size(dtype), dtype, first + done, n, kind, 0.3,
                     11, 5);
        done += n;
    }
}

Test(rng, fill_does_not_depend_on_the_split) {
    const size_t count = 5000;
    char *whole = malloc(count * 8), *pieces = malloc(count * 8);
    for (int dtype = 0; dtype < MOE_DTYPE_COUNT; dtype++) {
        for (size_t k = 0; k < N_KINDS; k++) {
            /* Crosses the 32-bit word of the counter. */
            size_t first = UINT32_MAX - 1234u, bytes = count * moe_dtype_size((moe_dtype)dtype);
            memset(whole, 0xa5, bytes);
            memset(pieces, 0x5a, bytes);
            moe_rng_fill(whole, (moe_dtype)dtype, first, count, kinds[k], 0.3, 11, 5);
            fill_in_pieces(pieces, (moe_dtype)dtype, first, count, kinds[k]);
            cr_assert_eq(memcmp(whole, pieces, bytes), 0, "dtype %d kind %zu", dtype, k);
        }
    }
    free(whole);
    free(pieces);
}

Test(rng, fill_does_not_depend_on_threads) {
#ifdef _OPENMP
    const size_t count = 3u << 20;
    float *one = malloc(count * sizeof(float)), *four = malloc(count * sizeof(float));
    omp_set_num_threads(1);
    moe_rng_fill(one, MOE_F32, 0, count, MOE_FILL_NORMAL, 1, 1, 2);
    omp_set_num_threads(4);
    moe_rng_fill(four, MOE_F32, 0, count, MOE_FILL_NORMAL, 1, 1, 2);
    cr_assert_eq(memcmp(one, four, count * sizeof(float)), 0);
    free(one);
    free(four);
#else
    cr_skip("built without OpenMP");
#endif
}

/* A filled element is scale times the scalar functions, rounded once. */
Test(rng, fill_matches_scalar_functions) {
    enum { COUNT = 1500 };
    uint16_t bf16[COUNT];
    double f64[COUNT];
    moe_rng_fill(bf16, MOE_BF16, 77, COUNT, MOE_FILL_NORMAL, 0.1, 9, 4);
    moe_rng_fill(f64, MOE_F64, 77, COUNT, MOE_FILL_NORMAL, 0.1, 9, 4);
    for (size_t i = 0; i < COUNT; i++) {
        double want = 0.1 * moe_rng_normal(9, 4, 77 + i);
        cr_assert_eq(f64[i], want);
        cr_assert_eq(bf16[i], moe_bf16_from_f64(want));
    }
    moe_rng_fill(f64, MOE_F64, 77, COUNT, MOE_FILL_INTEGER, 0.1, 9, 4);
    for (size_t i = 0; i < COUNT; i++) {
        uint64_t word0 = (uint32_t)moe_rng_bits(9, 4, 77 + i);
        cr_assert_eq(f64[i], 0.1 * ((double)(word0 * 7 >> 32) - 3));
    }
    moe_rng_fill(f64, MOE_F64, 77, COUNT, MOE_FILL_EXACT, 0.5, 9, 4);
    for (size_t i = 0; i < COUNT; i++) {
        static const double values[] = {-0.5, 0, 0, 0.5};
        cr_assert_eq(f64[i], values[(uint32_t)moe_rng_bits(9, 4, 77 + i) >> 30]);
    }
    moe_rng_fill(f64, MOE_F64, 77, COUNT, MOE_FILL_OUTLIER, 0.1, 9, 4);
    for (size_t i = 0; i < COUNT; i++) {
        uint32_t counter[4] = {(uint32_t)(77 + i), 0, 4, 0}, key[2] = {9, 0}, w[4];
        moe_philox4x32(counter, key, w);
        double factor = (w[0] ^ w[1] ^ w[2] ^ w[3]) % 256 == 0 ? 32 : 1;
        cr_assert_eq(f64[i], 0.1 * moe_rng_normal(9, 4, 77 + i) * factor);
    }
}

Test(rng, integers_are_uniform_on_minus_three_to_three) {
    enum { COUNT = 700000 };
    int32_t *data = malloc(COUNT * sizeof(int32_t));
    moe_rng_fill(data, MOE_I32, 0, COUNT, MOE_FILL_INTEGER, 1, 3, 0);
    double histogram[7] = {0};
    for (size_t i = 0; i < COUNT; i++) {
        cr_assert(data[i] >= -3 && data[i] <= 3);
        histogram[data[i] + 3]++;
    }
    double chi2 = 0;
    for (int c = 0; c < 7; c++)
        chi2 += pow(histogram[c] - COUNT / 7.0, 2) / (COUNT / 7.0);
    cr_assert_lt(chi2, 22.46, "chi2 %g: beyond the 0.1%% point of 6 degrees of freedom", chi2);
    free(data);
}

/* Sample moments of COUNT draws, within five standard errors of the exact ones: mean 0, variance
 * 1, skewness 0, and kurtosis 3 - 1.2/8 for a sum of eight uniforms. */
static void assert_normal_moments(uint64_t seed, uint64_t stream) {
    enum { COUNT = 1 << 20 };
    double *data = malloc(COUNT * sizeof(double)), moment[5] = {0}, lag = 0;
    moe_rng_fill(data, MOE_F64, 0, COUNT, MOE_FILL_NORMAL, 1, seed, stream);
    for (size_t i = 0; i < COUNT; i++) {
        cr_assert_leq(fabs(data[i]), 4.9);
        for (int p = 1; p <= 4; p++)
            moment[p] += pow(data[i], p) / COUNT;
        lag += i ? data[i] * data[i - 1] / COUNT : 0;
    }
    double root = sqrt((double)COUNT);
    cr_assert_lt(fabs(moment[1]), 5 / root);
    cr_assert_lt(fabs(moment[2] - 1), 5 * sqrt(1.85) / root);
    cr_assert_lt(fabs(moment[3]), 5 * sqrt(15) / root);
    cr_assert_lt(fabs(moment[4] - 2.85), 5 * sqrt(96) / root);
    cr_assert_lt(fabs(lag), 5 / root);
    free(data);
}

Test(rng, normals_have_the_moments_of_eight_uniforms) {
    assert_normal_moments(0, 0);
    assert_normal_moments(UINT64_MAX, 1);
    assert_normal_moments(42, UINT64_MAX);
}

Test(rng, seeds_and_streams_are_uncorrelated) {
    enum { COUNT = 1 << 18 };
    static const uint64_t pairs[][2] = {
        {0, 0}, {1, 0}, {0, 1}, {(uint64_t)1 << 32, 0}, {0, (uint64_t)1 << 32}};
    enum { PAIRS = sizeof(pairs) / sizeof(pairs[0]) };
    double *data[PAIRS];
    for (int p = 0; p < PAIRS; p++) {
        data[p] = malloc(COUNT * sizeof(double));
        moe_rng_fill(data[p], MOE_F64, 0, COUNT, MOE_FILL_NORMAL, 1, pairs[p][0], pairs[p][1]);
    }
    for (int p = 0; p < PAIRS; p++) {
        for (int q = 0; q < p; q++) {
            double dot = 0;
            for (size_t i = 0; i < COUNT; i++)
                dot += data[p][i] * data[q][i];
            cr_assert_lt(fabs(dot) / COUNT, 5 / sqrt((double)COUNT), "pairs %d and %d", p, q);
        }
    }
    for (int p = 0; p < PAIRS; p++)
        free(data[p]);
}

/* Outliers are the plain normals, about one in 256 of them times 32, of ordinary variance. */
Test(rng, outliers_are_scaled_normals) {
    enum { COUNT = 1 << 20 };
    double *plain = malloc(COUNT * sizeof(double)), *spiked = malloc(COUNT * sizeof(double));
    moe_rng_fill(plain, MOE_F64, 0, COUNT, MOE_FILL_NORMAL, 0.5, 8, 8);
    moe_rng_fill(spiked, MOE_F64, 0, COUNT, MOE_FILL_OUTLIER, 0.5, 8, 8);
    double outliers = 0, squares = 0;
    for (size_t i = 0; i < COUNT; i++) {
        if (spiked[i] == plain[i])
            continue;
        cr_assert_eq(spiked[i], plain[i] * 32);
        outliers++;
        squares += plain[i] * plain[i] / 0.25;
    }
    cr_assert_lt(fabs(outliers - COUNT / 256.0), 5 * sqrt(COUNT / 256.0));
    cr_assert_lt(fabs(squares / outliers - 1), 5 * sqrt(1.85 / outliers));
    free(plain);
    free(spiked);
}

Test(rng, empty_fill_touches_nothing) {
    for (size_t k = 0; k < N_KINDS; k++)
        moe_rng_fill(NULL, MOE_F32, 3, 0, kinds[k], 1, 1, 1);
}
