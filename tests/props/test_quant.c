/* Facts about weights in few bits that hold whatever the weights are. */
#include "moeref/quant.h"
#include "props.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 13, COLUMNS = 21, COUNT = ROWS * COLUMNS };

typedef struct matrix {
    unsigned char code[COUNT];
    float scale[COUNT];
    double w[COUNT], back[COUNT];
} matrix;

static void draw(matrix *m, uint64_t seed) {
    moe_rng_fill(m->w, MOE_F64, 0, COUNT, MOE_FILL_NORMAL, 1, seed, 0);
}

static void round_trip(const moe_quant_desc *q, matrix *m) {
    cr_assert_eq(moe_quantise(q, m->w, MOE_F64, ROWS, COLUMNS, NULL, m->code, m->scale), MOE_OK);
    moe_dequantise(q, m->code, m->scale, ROWS, COLUMNS, MOE_F64, m->back);
}

Test(quant, e4m3_is_the_nearest_of_all_its_values) {
    for (int code = 0; code < 256; code++)
        if ((code & 0x7f) != 0x7f)
            cr_expect_eq(moe_e4m3_from_f64(moe_e4m3_to_f64((uint8_t)code)), code);
    cr_expect(isnan(moe_e4m3_to_f64(moe_e4m3_from_f64(NAN))));
    cr_expect_eq(moe_e4m3_to_f64(moe_e4m3_from_f64(1e9)), 448);
    for (double x = -460; x < 460; x += 0.0625 * (fabs(x) < 4 ? 0.01 : 1)) {
        const uint8_t got = moe_e4m3_from_f64(x);
        const double distance = fabs(moe_e4m3_to_f64(got) - x);
        for (int code = 0; code < 256; code++) {
            if ((code & 0x7f) == 0x7f)
                continue;
            const double other = fabs(moe_e4m3_to_f64((uint8_t)code) - x);
            if (other < distance || (other == distance && !(code & 1) && (got & 1)))
                cr_assert_fail("%g becomes %d, %d is nearer or even", x, got, code);
        }
    }
}

/* No value is further off than half a step of its block's scale. */
Test(quant, errors_are_below_half_a_step) {
    static const double half_step[MOE_QUANT_COUNT] = {0.5, 0.5, 16, 0, 0.5};
    static matrix m;
    for (int kind = 0; kind < MOE_QUANT_COUNT; kind++) {
        const moe_quant_desc q = {.kind = kind, .block_rows = 4, .block_columns = 8};
        draw(&m, 3);
        round_trip(&q, &m);
        cr_expect_eq(moe_quant_scales(&q, ROWS, COLUMNS), 4 * 3);
        for (int i = 0; half_step[kind] > 0 && i < COUNT; i++) {
            const float scale = m.scale[i / COLUMNS / 4 * 3 + i % COLUMNS / 8];
            cr_expect_leq(fabs(m.back[i] - m.w[i]), half_step[kind] * scale * (1 + 1e-6), "%s %d",
                          moe_quant_kind_name(kind), i);
        }
    }
}

/* What a layer with such weights is does not depend on how often they were packed. */
Test(quant, values_that_were_quantised_stay) {
    static matrix m;
    static double once[COUNT];
    for (int kind = 0; kind < MOE_QUANT_COUNT; kind++) {
        const moe_quant_desc q = {.kind = kind, .block_rows = 1, .block_columns = 5};
        if (kind == MOE_QUANT_TERNARY)
            continue; /* its scale is a mean, which zeros change */
        draw(&m, 4);
        round_trip(&q, &m);
        for (int i = 0; i < COUNT; i++)
            m.w[i] = once[i] = m.back[i];
        round_trip(&q, &m);
        for (int i = 0; i < COUNT; i++)
            cr_expect_float_eq(m.back[i], once[i], 1e-7 * fabs(once[i]), "%s",
                               moe_quant_kind_name(kind));
    }
}

/* Twice a block's weights are twice its values and nobody else's. */
Test(quant, blocks_are_independent) {
    static matrix a, b;
    for (int kind = 0; kind < MOE_QUANT_COUNT; kind++) {
        const moe_quant_desc q = {.kind = kind, .block_rows = 2, .block_columns = 3};
        draw(&a, 5);
        draw(&b, 5);
        for (int i = 0; i < COUNT; i++)
            b.w[i] *= i / COLUMNS / 2 == 3 && i % COLUMNS / 3 == 6 ? 2 : 1;
        round_trip(&q, &a);
        round_trip(&q, &b);
        for (int i = 0; i < COUNT; i++)
            cr_expect_eq(b.back[i], a.back[i] * (b.w[i] != a.w[i] ? 2 : 1));
    }
}

/* MoTE's rule, written out: alpha clip(round(w / alpha), -1, 1), alpha = mean |w|. */
Test(quant, ternary_is_absmean) {
    static matrix m;
    double alpha = 0;
    draw(&m, 6);
    round_trip(&(moe_quant_desc){.kind = MOE_QUANT_TERNARY}, &m);
    for (int i = 0; i < COUNT; i++)
        alpha += fabs(m.w[i]) / COUNT;
    for (int i = 0; i < COUNT; i++)
        cr_expect_float_eq(m.back[i], alpha * fmax(-1, fmin(1, rint(m.w[i] / alpha))), 1e-6);
}

/* Each further bit of a nested code adds half the step of the one before, up or down. */
Test(quant, fewer_bits_are_a_prefix) {
    static matrix m;
    static double wide[COUNT];
    moe_quant_desc q = {.kind = MOE_QUANT_NESTED, .block_rows = 1};
    draw(&m, 7);
    round_trip(&q, &m);
    for (int bits = 3; bits >= 2; bits--) {
        const double step = 1 << (3 - bits);
        for (int i = 0; i < COUNT; i++)
            wide[i] = m.back[i];
        q.bits = bits;
        moe_dequantise(&q, m.code, m.scale, ROWS, COLUMNS, MOE_F64, m.back);
        for (int i = 0; i < COUNT; i++)
            cr_expect_float_eq(fabs(wide[i] - m.back[i]), step / 2 * m.scale[i / COLUMNS], 1e-12);
    }
}

Test(quant, what_is_not_finite_is_refused) {
    static matrix m;
    const moe_quant_desc q = {.kind = MOE_QUANT_INT8};
    draw(&m, 8);
    m.w[7] = NAN;
    cr_expect_eq(moe_quantise(&q, m.w, MOE_F64, ROWS, COLUMNS, NULL, m.code, m.scale),
                 MOE_E_INVALID);
    cr_expect_eq(
        moe_quantise(&(moe_quant_desc){.kind = 9}, m.w, MOE_F64, 1, 1, NULL, m.code, m.scale),
        MOE_E_INVALID);
}

/* The layer of a case with quant= is that of its weights' round trip: gradients arrive at the
 * quantised point, which is what a straight-through estimator hands to the weights behind it. */
Test(quant, a_case_has_what_its_codes_stand_for) {
    moe_problem *plain = props_problem("T=9 d=24 n=8 E=3 K=2 dtype=fp64 seed=9");
    for (int kind = 0; kind < MOE_QUANT_COUNT; kind++) {
        char line[128];
        snprintf(line, sizeof line,
                 "T=9 d=24 n=8 E=3 K=2 dtype=fp64 quant=%s quant_rows=4 quant_cols=16 seed=9",
                 moe_quant_kind_name(kind));
        moe_problem *p = props_problem(line);
        const moe_quant_desc q = {.kind = kind, .block_rows = 4, .block_columns = 16};
        unsigned char code[16 * 24];
        float scale[16 * 24];
        double w[16 * 24];
        for (int e = 0; e < 3; e++) {
            const double *from = (const double *)plain->in.t[MOE_T_W1].data + e * 16 * 24;
            const double *got = (const double *)p->in.t[MOE_T_W1].data + e * 16 * 24;
            cr_assert_eq(moe_quantise(&q, from, MOE_F64, 16, 24, NULL, code, scale), MOE_OK);
            moe_dequantise(&q, code, scale, 16, 24, MOE_F64, w);
            cr_expect_arr_eq(got, w, sizeof w, "%s", line);
        }
        moe_problem_destroy(&p);
    }
    moe_problem_destroy(&plain);
}

enum { PACKED_ROWS = 40, PACKED_COLUMNS = 501, PACKED = PACKED_ROWS * PACKED_COLUMNS };

/* Codes of which `zeros` are 0, there and back, a row at a time; bits for each. */
static double pack(double share, double zeros, uint64_t seed) {
    static int8_t code[PACKED], back[PACKED_COLUMNS];
    static uint16_t word[PACKED];
    int64_t offset[PACKED_ROWS + 1];
    moe_ternary_words *words = NULL;
    cr_assert_eq(moe_ternary_words_make(share, NULL, &words), MOE_OK);
    for (int i = 0; i < PACKED; i++) {
        const double u = moe_rng_uniform(seed, 0, (uint64_t)i);
        code[i] = (int8_t)(u < zeros ? 0 : u < (1 + zeros) / 2 ? 1 : -1);
    }
    const int64_t n = moe_ternary_pack(words, code, PACKED_ROWS, PACKED_COLUMNS, word, offset);
    cr_expect_eq(moe_ternary_pack(words, code, PACKED_ROWS, PACKED_COLUMNS, NULL, NULL), n);
    cr_expect_eq(offset[PACKED_ROWS], n);
    for (int r = PACKED_ROWS - 1; r >= 0; r--) {
        memset(back, 7, sizeof back);
        moe_ternary_unpack(words, word + offset[r], offset[r + 1] - offset[r], PACKED_COLUMNS,
                           back);
        cr_expect_arr_eq(back, code + (ptrdiff_t)r * PACKED_COLUMNS, sizeof back, "row %d", r);
    }
    moe_ternary_words_destroy(&words);
    return 16.0 * (double)n / PACKED;
}

/* Below a bit a code from some 88 % of zeros on, and never below the entropy of such codes, of
 * which PACKED have one that is within 2 %. Words that were made for another share lose a little.
 */
Test(quant, ternary_codes_take_less_than_a_bit) {
    static const double zeros[] = {0.34, 0.6, 0.8, 0.88, 0.885, 0.95, 0.99};
    for (size_t i = 0; i < sizeof zeros / sizeof *zeros; i++) {
        const double z = zeros[i], bits = pack(z, z, 21 + i);
        const double entropy = -z * log2(z) - (1 - z) * log2((1 - z) / 2);
        cr_expect(bits > 0.98 * entropy, "%g zeros: %g bits, entropy %g", z, bits, entropy);
        cr_expect(z < 0.88 || bits < 1, "%g zeros: %g bits", z, bits);
        cr_expect(bits < 2, "%g zeros: %g bits", z, bits);
    }
    cr_expect_gt(pack(0.6, 0.95, 30), pack(0.95, 0.95, 30));
    moe_ternary_words *words = NULL;
    cr_expect_eq(moe_ternary_words_make(1, NULL, &words), MOE_E_INVALID);
    cr_expect_eq(moe_ternary_words_make(NAN, NULL, &words), MOE_E_INVALID);
}
