/* Chains: the order of K, parts and their sum, carried types, names. */
#include "reference/tensorcore/chain.h"

#include <criterion/criterion.h>
#include <string.h>

enum { K = 200, ROWS = 3, COLUMNS = 21, LANES = MOE_INT_LANES };

static uint16_t left[ROWS * K], right[K * COLUMNS];

static void fill(void) {
    uint32_t x = 12345;
    for (int i = 0; i < ROWS * K + K * COLUMNS; i++) {
        x = x * 1664525u + 1013904223u;
        const uint16_t code =
            (uint16_t)((x >> 31) << 15 | (120 + (x >> 24) % 12) << 7 | (x >> 10 & 127));
        if (i < ROWS * K)
            left[i] = code;
        else
            right[i - ROWS * K] = code;
    }
}

/* Element (row, column) under a chain. */
static float element(const char *text, int row, int column) {
    moe_arithmetic how;
    moe_int_chain chain;
    moe_int_packed a, b;
    float out[LANES];
    const moe_int_operand l = {left, K, 1, NULL, NULL, false},
                          r = {right, 1, COLUMNS, NULL, NULL, false};
    cr_assert_eq(moe_arithmetic_parse(text, &how), MOE_OK, "%s", text);
    cr_assert_eq(moe_int_chain_make(&how, MOE_INT_FORMAT_BF16, &chain), MOE_OK);
    cr_assert_eq(moe_int_pack(&l, MOE_INT_FORMAT_BF16, MOE_INT_PACK_VALUES, 0, ROWS, K, &a),
                 MOE_OK);
    cr_assert_eq(moe_int_pack(&r, MOE_INT_FORMAT_BF16, MOE_INT_PACK_RIGHT | MOE_INT_PACK_VALUES, 0,
                              COLUMNS, K, &b),
                 MOE_OK);
    moe_int_chain_row(&chain, &a, row, &b, column / LANES, out);
    moe_int_packed_destroy(&a);
    moe_int_packed_destroy(&b);
    return out[column % LANES];
}

/* The same by hand: sums over blocks [first, end) from zero, in either direction. */
static float by_hand(int row, int column, int first, int end, int step) {
    const moe_int_dot_rule *rule = moe_int_unit_find("sm_90")->rule;
    uint32_t c = 0;
    float ret;
    for (int block = first; block != end; block += step) {
        int16_t as[16], ae[16], bs[16], be[16];
        for (int i = 0; i < 16; i++) {
            const int k = 16 * block + i;
            moe_int_factor a = moe_int_decode(MOE_INT_FORMAT_BF16, k < K ? left[row * K + k] : 0);
            moe_int_factor b =
                moe_int_decode(MOE_INT_FORMAT_BF16, k < K ? right[k * COLUMNS + column] : 0);
            as[i] = a.sig, ae[i] = a.exp, bs[i] = b.sig, be[i] = b.exp;
        }
        c = moe_int_dot(rule, 7, as, ae, bs, be, 1, c);
    }
    memcpy(&ret, &c, sizeof ret);
    return ret;
}

Test(chain, orders_and_parts, .init = fill) {
    enum { BLOCKS = (K + 15) / 16 };
    for (int row = 0; row < ROWS; row++)
        for (int column = 0; column < COLUMNS; column++) {
            cr_assert_eq(element("sm_90", row, column), by_hand(row, column, 0, BLOCKS, 1));
            cr_assert_eq(element("sm_90+descending", row, column),
                         by_hand(row, column, BLOCKS - 1, -1, -1));
            cr_assert_eq(element("sm_90+split=2", row, column),
                         by_hand(row, column, 0, 7, 1) + by_hand(row, column, 7, BLOCKS, 1));
            cr_assert_eq(element("sm_90+split=3+block=64", row, column),
                         by_hand(row, column, 0, 8, 1) + by_hand(row, column, 8, BLOCKS, 1),
                         "of four tiles two are the first part, two the second");
            cr_assert_eq(element("sm_90+split=2+block=96", row, column),
                         by_hand(row, column, 0, 12, 1) + by_hand(row, column, 12, BLOCKS, 1));
            cr_assert_eq(element("sm_90+promote=96", row, column),
                         by_hand(row, column, 0, 6, 1) + by_hand(row, column, 6, 12, 1) +
                             by_hand(row, column, 12, BLOCKS, 1));
            float sum = 0;
            for (int k = 0; k < K; k++) {
                uint32_t a = (uint32_t)left[row * K + k] << 16;
                uint32_t b = (uint32_t)right[k * COLUMNS + column] << 16;
                float x, y;
                memcpy(&x, &a, sizeof x);
                memcpy(&y, &b, sizeof y);
                sum += x * y;
            }
            cr_assert_eq(element("fp32", row, column), sum);
        }
}

/* Every row of the bank is an arithmetic of 16-bit factors. */
Test(chain, bank_is_valid, .init = fill) {
    const moe_arithmetic *bank;
    size_t count = moe_arithmetics(&bank);
    cr_assert_geq(count, 20);
    for (size_t i = 0; i < count; i++) {
        moe_int_chain chain;
        char name[96];
        cr_expect_eq(moe_int_chain_make(&bank[i], MOE_INT_FORMAT_BF16, &chain), MOE_OK, "%s",
                     moe_arithmetic_name(&bank[i], name, sizeof name));
    }
}

Test(chain, names) {
    moe_arithmetic how;
    char name[96];
    cr_assert_eq(moe_arithmetic_parse("sm_90+split=4", &how), MOE_OK);
    cr_expect_str_eq(moe_arithmetic_name(&how, name, sizeof name), "sm_90 in 4 parts of K");
    cr_assert_eq(moe_arithmetic_parse("sm_80", &how), MOE_OK);
    cr_expect_str_eq(moe_arithmetic_name(&how, name, sizeof name), "sm_80");
    static const char *const wrong[] = {"",
                                        "sm_91",
                                        "sm_90+",
                                        "sm_90+split",
                                        "sm_90+split=x",
                                        "sm_90+promote=100",
                                        "sm_90+split=2+warps=2"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_expect_eq(moe_arithmetic_parse(wrong[i], &how), MOE_E_NOTFOUND, "%s", wrong[i]);
}
