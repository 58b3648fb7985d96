/* A product whose terms do not meet their own factors: the matrix is read in another order along
 * the sum, or its tiles are turned, as by a swizzle, a packing or a layout on one side alone. */
#include "check/explain/bank.h"
#include "check/explain/product.h"

#include <stdlib.h>
#include <string.h>

/* Element (c, k) of the matrix, [outs][depth], becomes the one that is read for it. */
typedef void map_fn(int64_t size, int64_t depth, int64_t *c, int64_t *k);

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

typedef struct order {
    map_fn *map;
    int64_t size;
    const char *words;
} order;

static const order orders[] = {
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

/* w [outs][depth] in another order. */
static bool reorder(const moe_int_product_view *v, int n, double *w) {
    const order *o = &orders[n];
    const size_t size = (size_t)(v->outs * v->depth) * sizeof *w;
    double *right = malloc(size);
    if (!right)
        return false;
    memcpy(right, w, size);
    for (int64_t c = 0; c < v->outs; c++)
        for (int64_t k = 0; k < v->depth; k++) {
            int64_t from = c, at = k;
            o->map(o->size, v->depth, &from, &at);
            w[c * v->depth + k] = right[(from < v->outs ? from : c) * v->depth + at];
        }
    free(right);
    return true;
}

static void say_order(const moe_int_product_view *v, int n, moe_int_finding *f) {
    moe_int_finding_say(f, ": of %s in %s, %s", v->matrix, v->equation, orders[n].words);
}

bool moe_int_local_terms_elsewhere(const moe_int_local *l, moe_int_finding *f) {
    static const moe_int_product_trials trials = {
        .count = sizeof orders / sizeof *orders, .matrix = reorder, .say = say_order};
    return moe_int_product_try(l, &trials, f);
}
