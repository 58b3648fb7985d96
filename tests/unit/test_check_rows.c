/* Rows of dX and dW1 that have two sides (src/check/errors/rows.c). The sides' vectors are
 * multiples of unit vectors here, so the nearest choice is known element by element. */
#include "check/compare/compare.h"
#include "check/errors/errors.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { D = 8, ROWS = 3 };

/* Column k of `axes` is the unit vector e_k. */
static double unit[D * D];
static const moe_tensor axes = {.data = unit, .dtype = MOE_F64, .ndim = 2, .shape = {D, D}};

static void set_up(void) {
    for (int k = 0; k < D; k++)
        unit[k * D + k] = 1;
}

static void add(moe_int_rows *rows, moe_tensor_id of, int64_t row, int64_t axis, double step) {
    moe_int_kink side = {of, row, &axes, axis, step};
    cr_assert_eq(moe_int_rows_add(rows, &side), MOE_OK);
}

static moe_tensor matrix(double *data) {
    return (moe_tensor){.data = data, .dtype = MOE_F64, .ndim = 2, .shape = {ROWS, D}};
}

TestSuite(check_rows, .init = set_up);

/* Element (row, axis) may be w or w + step: the nearer one is taken, all others stay. */
Test(check_rows, each_side_is_the_nearer_one) {
    moe_int_rows rows;
    double got[ROWS * D], want[ROWS * D];
    cr_assert_eq(moe_int_rows_alloc(ROWS, 0, &rows), MOE_OK);
    for (int i = 0; i < ROWS * D; i++) {
        want[i] = i;
        got[i] = i + 0.01;
    }
    add(&rows, MOE_T_DX, 2, 5, 4);
    add(&rows, MOE_T_DX, 2, 1, -3);
    add(&rows, MOE_T_DX, 0, 7, 2);
    add(&rows, MOE_T_DW1, 1, 0, 2);
    got[2 * D + 5] = want[2 * D + 5] + 3;    /* nearer to + 4 */
    got[2 * D + 1] = want[2 * D + 1] - 1;    /* nearer to 0 than to - 3 */
    got[0 * D + 7] = want[0 * D + 7] + 1.25; /* nearer to + 2 */
    got[1 * D + 0] = want[1 * D + 0] + 2;    /* another tensor's side */
    moe_tensors out = {0};
    double vdX[ROWS * D] = {0}, vdW1[ROWS * D] = {0};
    out.t[MOE_T_DX] = matrix(vdX);
    out.t[MOE_T_DW1] = matrix(vdW1);
    moe_int_rows_sort(&rows, &out);
    cr_assert_eq(rows.kinks, 4);
    moe_tensor g = matrix(got), w = matrix(want), settled = {0};
    cr_assert_eq(moe_int_rows_settle(&rows, MOE_T_DX, &g, &w, NULL, &settled), MOE_OK);
    const double *ret = settled.data;
    for (int i = 0; i < ROWS * D; i++) {
        double crossed = i == 2 * D + 5 ? 4 : i == 7 ? 2 : 0;
        cr_expect_eq(ret[i], i + crossed, "element %d: %g", i, ret[i]);
        cr_expect_eq(want[i], i, "the truth itself stays");
    }
    moe_tensor_destroy(&settled);
    moe_int_rows_destroy(&rows);
}

/* A row with something that is no number is left alone; its neighbours are not. */
Test(check_rows, no_number_no_choice) {
    moe_int_rows rows;
    double got[ROWS * D] = {0}, want[ROWS * D] = {0};
    cr_assert_eq(moe_int_rows_alloc(ROWS, 0, &rows), MOE_OK);
    for (int row = 0; row < ROWS; row++) {
        add(&rows, MOE_T_DX, row, 2, 1);
        got[row * D + 2] = 1;
    }
    got[0 * D + 3] = NAN;
    want[1 * D + 4] = INFINITY;
    moe_tensor g = matrix(got), w = matrix(want), settled = {0};
    cr_assert_eq(moe_int_rows_settle(&rows, MOE_T_DX, &g, &w, NULL, &settled), MOE_OK);
    const double *ret = settled.data;
    cr_expect_eq(ret[0 * D + 2], 0);
    cr_expect_eq(ret[1 * D + 2], 0);
    cr_expect_eq(ret[2 * D + 2], 1);
    moe_tensor_destroy(&settled);
    moe_int_rows_destroy(&rows);
}

/* More sides than a quarter of the row, or a step that is no number: the row is not compared. */
Test(check_rows, too_many_sides_hide_the_row) {
    moe_int_rows rows;
    double vdX[ROWS * D] = {0};
    moe_tensors out = {0};
    out.t[MOE_T_DX] = matrix(vdX);
    cr_assert_eq(moe_int_rows_alloc(ROWS, 0, &rows), MOE_OK);
    add(&rows, MOE_T_DX, 1, 0, 1);
    add(&rows, MOE_T_DX, 0, 0, 1);
    add(&rows, MOE_T_DX, 2, 1, INFINITY);
    add(&rows, MOE_T_DX, 1, 3, 1);
    add(&rows, MOE_T_DX, 0, 6, 1);
    add(&rows, MOE_T_DX, 0, 4, 1);
    moe_int_rows_sort(&rows, &out);
    cr_assert_eq(rows.kinks, 2, "a quarter of %d", D);
    for (int i = 0; i < 2; i++)
        cr_expect_eq(rows.kink[i].row, 1);
    for (int i = 0; i < ROWS * D; i++)
        cr_expect_eq(isnan(vdX[i]) != 0, i / D != 1, "element %d", i);
    moe_int_rows_destroy(&rows);
}

/* A row errs as a whole by its weight: as far as one random number may, not as the mean of its
 * elements' errors. */
static void errs_once(moe_tensor_id id, const double *variance_of_weight,
                      const moe_int_rows *rows) {
    enum { WIDTH = 64 };
    double got[WIDTH], want[WIDTH], variance[WIDTH];
    const double u = sqrt(moe_int_rounding_of(MOE_F32).u2);
    moe_tensor_verdict v;
    moe_tensor g = {.data = got, .dtype = MOE_F64, .ndim = 2, .shape = {1, WIDTH}};
    moe_tensor w = g, s = g;
    w.data = want;
    s.data = variance;
    for (int i = 0; i < WIDTH; i++) {
        want[i] = 1 + i;
        got[i] = want[i] * (1 + 20 * sqrt(*variance_of_weight) * u);
        variance[i] = *variance_of_weight * want[i] * want[i];
    }
    const moe_layer_desc desc = {.d = WIDTH, .n = WIDTH / 2, .E = 1, .K = 1};
    moe_int_comparison c = {.id = id,
                            .arithmetic = MOE_F32,
                            .desc = &desc,
                            .got = &g,
                            .want = &w,
                            .variance = &s,
                            .rows = rows,
                            .truth = "oracle"};
    moe_int_compare(&c, &v);
    cr_expect_neq(v.verdict, MOE_VERDICT_FAIL, "twenty times sigma: %s", v.why);
    c.rows = NULL;
    moe_int_compare(&c, &v);
    cr_expect_eq(v.verdict, MOE_VERDICT_FAIL, "that far as a mean of 64");
}

Test(check_rows, a_weight_errs_once_for_its_row) {
    const double variance = 1024;
    double weight[1] = {variance}, all[1] = {1}, common[1] = {0}, row[64];
    for (int i = 0; i < 64; i++)
        row[i] = 1 + i;
    moe_int_add_common(common, variance, row, 64);
    const moe_int_rows of_dh = {.weight = weight};
    const moe_int_rows of_o = {.common_o = common}, of_dx = {.common_dx = common};
    const moe_int_rows of_input = {.on_input = all};
    errs_once(MOE_T_DH, &variance, &of_dh);
    errs_once(MOE_T_H, &variance, &of_input);
    errs_once(MOE_T_A, &variance, &of_input);
    errs_once(MOE_T_Y, &variance, &of_input);
    errs_once(MOE_T_O, &variance, &of_o);
    errs_once(MOE_T_DX, &variance, &of_dx);
}

/* A weight that does not err, or a row that is no number, adds nothing. */
Test(check_rows, nothing_in_common) {
    double common = 3;
    const double row[2] = {1, INFINITY};
    moe_int_add_common(&common, 0, row, 1);
    moe_int_add_common(&common, 1, row, 2);
    cr_expect_eq(common, 3);
}

/* Only the sides that count are looked at, wherever the last one lies. */
Test(check_rows, which_tensors_are_split) {
    moe_int_kink side[3] = {{.of = MOE_T_DX}, {.of = MOE_T_DW1}, {.of = MOE_T_DW1_SHARED}};
    moe_int_rows rows = {.kink = side, .kinks = 2, .room = 3};
    cr_expect(moe_int_rows_have_kinks(&rows, MOE_T_DX));
    cr_expect(moe_int_rows_have_kinks(&rows, MOE_T_DW1));
    cr_expect_not(moe_int_rows_have_kinks(&rows, MOE_T_DW1_SHARED));
    rows.kinks = 0;
    cr_expect_not(moe_int_rows_have_kinks(&rows, MOE_T_DX));
}

/* Any number of sides: the list grows and keeps what it has. */
Test(check_rows, many_sides) {
    moe_int_rows rows;
    cr_assert_eq(moe_int_rows_alloc(ROWS, 0, &rows), MOE_OK);
    for (int i = 0; i < 1000; i++)
        add(&rows, MOE_T_DX, i, i % D, i);
    cr_assert_eq(rows.kinks, 1000);
    for (int i = 0; i < 1000; i++)
        cr_expect(rows.kink[i].row == i && rows.kink[i].step == i);
    moe_int_rows_destroy(&rows);
}
