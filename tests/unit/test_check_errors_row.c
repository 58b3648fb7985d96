/* The error model of one row and one hidden unit: where an error of the weight goes. */
#include "check/errors/errors.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Every width's row counts in full: rows are read in pieces. */
Test(check_errors, squared_norms) {
    float v[3 * 600];
    for (int64_t width = 1; width <= 600; width += width < 250 ? 83 : 1) {
        moe_tensor t = {.data = v, .dtype = MOE_F32, .ndim = 2, .shape = {3, width}};
        for (int64_t i = 0; i < 3 * width; i++)
            v[i] = (float)i; /* squares add up to integers: exact */
        double *all = moe_int_doubles(&t, 0, 3 * width), *squares;
        cr_assert(all);
        squares = moe_int_row_squares(all, 3, width);
        cr_assert(squares);
        for (int64_t r = 0; r < 3; r++) {
            double sum = 0;
            for (int64_t i = r * width; i < (r + 1) * width; i++)
                sum += (double)(i * i);
            cr_expect_eq(moe_int_row_square(&t, r, width), sum, "row %d of %d", (int)r, (int)width);
            cr_expect_eq(squares[r], sum, "row %d of %d", (int)r, (int)width);
        }
        free(all);
        free(squares);
    }
}

/* One row, one hidden unit, all slopes 1: where an error of the combine weight goes. Its relative
 * variance V outweighs all else, so every variance is V times the square of what the weight
 * multiplies there. x = 2, W1 = 3, h = a = 6 (relu), W2 = 0.5, dO = 4. */
typedef struct one_row {
    double vH, vA, vY, vdS, vdH, vdXp, jump, vdW1, vdW2, vdb1, vdb2;
} one_row;

static one_row errors_of_one_row(bool on_input, double w, double V) {
    moe_layer_desc desc;
    moe_layer_desc_init(&desc);
    desc.d = desc.n = desc.E = desc.K = 1;
    desc.act = MOE_ACT_RELU;
    const moe_int_rounding rounding = moe_int_rounding_of(MOE_F32);
    const double raw = on_input ? 2 / w : 2, x = 2, dy = 4, W1 = 3, W2 = 0.5, H = 6, A = 6, Y = 3;
    const double dH = on_input ? 2 : 2 * w, dXp = dH * W1;
    one_row v = {0};
    moe_int_room squares[2] = {{0}};
    const moe_int_error_ffn b = {.desc = &desc,
                                 .rounding = &rounding,
                                 .on_input = on_input,
                                 .n = 1,
                                 .hw = 1,
                                 .rows = 1,
                                 .threads = 1,
                                 .raw = &raw,
                                 .x = &x,
                                 .dy = &dy,
                                 .weight = &w,
                                 .vweight = &V,
                                 .W1 = &W1,
                                 .W2 = &W2,
                                 .H = &H,
                                 .A = &A,
                                 .Y = &Y,
                                 .dH = &dH,
                                 .dXp = &dXp,
                                 .vH = &v.vH,
                                 .vA = &v.vA,
                                 .vY = &v.vY,
                                 .vdS = &v.vdS,
                                 .vdH = &v.vdH,
                                 .vdXp = &v.vdXp,
                                 .jump = &v.jump,
                                 .vdW1 = &v.vdW1,
                                 .vdW2 = &v.vdW2,
                                 .vdb1 = &v.vdb1,
                                 .vdb2 = &v.vdb2,
                                 .squares = squares};
    cr_assert_eq(moe_int_ffn_errors(&b), MOE_OK);
    for (int i = 0; i < 2; i++)
        moe_int_room_destroy(&squares[i]);
    return v;
}

#define EXPECT_SHARE(value, share)                                                                 \
    cr_expect_float_eq((value) / 1e8, share, 1e-2, "%s: %g V", #value, (value) / 1e8)

Test(check_errors, weight_on_the_output) {
    const double w = 0.25;
    const one_row v = errors_of_one_row(false, w, 1e8);
    EXPECT_SHARE(v.vH, 0);
    EXPECT_SHARE(v.vA, 0);
    EXPECT_SHARE(v.vY, 0);
    EXPECT_SHARE(v.vdS, 0);
    EXPECT_SHARE(v.vdH, 4 * w * w);      /* dh = w dO W2 */
    EXPECT_SHARE(v.vdXp, 9 * 4 * w * w); /* dh W1 */
    EXPECT_SHARE(v.vdW1, 4 * 4 * w * w); /* dh x */
    EXPECT_SHARE(v.vdb1, 4 * w * w);
    EXPECT_SHARE(v.vdW2, 36 * 16 * w * w); /* w a dO */
    EXPECT_SHARE(v.vdb2, 16 * w * w);
    cr_expect_eq(v.jump, 0);
}

Test(check_errors, weight_on_the_input) {
    const one_row v = errors_of_one_row(true, 0.25, 1e8);
    EXPECT_SHARE(v.vH, 36); /* W1 w x */
    EXPECT_SHARE(v.vA, 36);
    EXPECT_SHARE(v.vY, 9); /* a W2 */
    EXPECT_SHARE(v.vdS, 0);
    EXPECT_SHARE(v.vdH, 0);
    EXPECT_SHARE(v.vdXp, 0);
    EXPECT_SHARE(v.vdW1, 4 * 4);   /* dh w x */
    EXPECT_SHARE(v.vdW2, 36 * 16); /* a dO */
    EXPECT_SHARE(v.vdb2, 0);
    cr_expect_eq(v.jump, 0);
}

/* What lies below the normal numbers of fp32 may be flushed to 0; what lies above may not. */
Test(check_errors, a_tail_may_be_flushed) {
    const moe_int_rounding r = moe_int_rounding_of(MOE_F32);
    moe_layer_desc desc;
    moe_layer_desc_init(&desc);
    desc.act = MOE_ACT_GELU;
    moe_int_unit tail = {.parts = 1, .h = {-14}}, near = {.parts = 1, .h = {-8}};
    moe_int_unit_errors(&desc, &r, false, &tail);
    moe_int_unit_errors(&desc, &r, false, &near);
    cr_expect(tail.a != 0 && tail.a * tail.a <= r.u2 * tail.va, "%g", tail.a);
    cr_expect_lt(r.u2 * near.va, 1e-11 * near.a * near.a, "%g", near.a);
}
