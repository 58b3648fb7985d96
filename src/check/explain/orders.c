/* The orders, by what a kernel gets wrong: lanes, fragments, halves, packing. */
#include "check/explain/orders.h"
#include "check/explain/change.h"

static void crossed(int64_t size, int64_t depth, int64_t *c, int64_t *k) {
    (void)c;
    *k = (*k ^ size) < depth ? *k ^ size : *k;
}

static void halves(int64_t size, int64_t depth, int64_t *c, int64_t *k) {
    (void)size;
    (void)c;
    *k = (*k + depth / 2) % depth;
}

static void interleaved(int64_t size, int64_t depth, int64_t *c, int64_t *k) {
    const int64_t part = depth / size;
    (void)c;
    *k = *k < part * size ? *k % size * part + *k / size : *k;
}

static void apart(int64_t size, int64_t depth, int64_t *c, int64_t *k) {
    const int64_t part = depth / size;
    (void)c;
    *k = *k < part * size ? *k % part * size + *k / part : *k;
}

static void reversed(int64_t size, int64_t depth, int64_t *c, int64_t *k) {
    const int64_t first = size ? *k / size * size : 0, end = size ? first + size : depth;
    (void)c;
    *k = end <= depth ? first + end - 1 - *k : *k;
}

static void shifted(int64_t size, int64_t depth, int64_t *c, int64_t *k) {
    (void)c;
    *k = moe_int_around(*k + size, depth);
}

static void turned(int64_t size, int64_t depth, int64_t *c, int64_t *k) {
    const int64_t row = *c / size * size, column = *k / size * size, at = *c - row;
    if (column + size > depth)
        return;
    *c = row + *k - column;
    *k = column + at;
}

const moe_int_term_order moe_int_term_orders[MOE_INT_TERM_ORDERS] = {
    {crossed, 1, "term k takes number k xor 1 (neighbours are swapped)"},
    {crossed, 2, "term k takes number k xor 2 (pairs are swapped)"},
    {crossed, 4, "term k takes number k xor 4 (blocks of 4 are swapped)"},
    {crossed, 8, "term k takes number k xor 8 (blocks of 8 are swapped)"},
    {crossed, 16, "term k takes number k xor 16 (blocks of 16 are swapped)"},
    {crossed, 32, "term k takes number k xor 32 (blocks of 32 are swapped)"},
    {halves, 0, "the halves of the sum are swapped"},
    {interleaved, 2, "the terms' order is interleaved by 2"},
    {interleaved, 4, "the terms' order is interleaved by 4"},
    {interleaved, 8, "the terms' order is interleaved by 8"},
    {apart, 4, "the terms' order is that of 4 interleaved parts"},
    {apart, 2, "the terms' order is that of 2 interleaved parts"},
    {reversed, 0, "the terms' order is reversed"},
    {reversed, 4, "the terms' order is reversed in blocks of 4"},
    {reversed, 8, "the terms' order is reversed in blocks of 8"},
    {reversed, 16, "the terms' order is reversed in blocks of 16"},
    {shifted, 1, "term k takes number k + 1, shifted"},
    {shifted, -1, "term k takes number k - 1, shifted"},
    {shifted, 2, "term k takes number k + 2, shifted"},
    {shifted, -2, "term k takes number k - 2, shifted"},
    {shifted, 4, "term k takes number k + 4, shifted"},
    {shifted, -4, "term k takes number k - 4, shifted"},
    {shifted, 8, "term k takes number k + 8, shifted"},
    {shifted, -8, "term k takes number k - 8, shifted"},
    {shifted, 16, "term k takes number k + 16, shifted"},
    {shifted, -16, "term k takes number k - 16, shifted"},
    {turned, 4, "tiles of 4 x 4 are transposed within"},
    {turned, 8, "tiles of 8 x 8 are transposed within"},
    {turned, 16, "tiles of 16 x 16 are transposed within"},
    {turned, 32, "tiles of 32 x 32 are transposed within"},
};
