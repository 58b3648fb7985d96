/* Intervals of predictions.
 *
 * Errors of one shape are alike, so the tenth and the ninetieth of a hundred of all rows hold fewer
 * than 80 of 100 rows of a shape that is new: 70, of six shapes of a layer. The tails that are cut
 * off are therefore as long as they may be for 80 of 100 rows to lie inside of an interval that was
 * made without their shape. */
#include "sim/fit/residuals.h"

#include <math.h>
#include <stdlib.h>

#define INSIDE 0.8
#define TAIL   0.1  /* at most, of each side */
#define STEP   0.01 /* by which tails grow shorter */
#define FEWEST 20   /* rows that tell a tenth */
#define GROUPS 12   /* of shapes, each of which is left out once */

/* A row's measured time against the predicted one. */
typedef struct share {
    double value;
    uint64_t shape;
    int group;
} share;

static int by_value(const void *a, const void *b) {
    const double x = ((const share *)a)->value, y = ((const share *)b)->value;
    return (x > y) - (x < y);
}

static int by_shape(const void *a, const void *b) {
    const uint64_t x = ((const share *)a)->shape, y = ((const share *)b)->shape;
    return (x > y) - (x < y);
}

static moe_int_size size_of(const moe_table *table, const moe_int_row *row, double predicted_us) {
    const bool large = table->kind == MOE_TABLE_GEMMS ? predicted_us >= MOE_INT_LARGE_US
                                                      : row->m >= MOE_INT_LARGE_TOKENS;
    return large ? MOE_INT_LARGE : MOE_INT_SMALL;
}

static size_t collect(const moe_int_residuals *r, moe_int_size size, share *ret) {
    size_t count = 0;
    for (size_t i = 0; i < r->table->count; i++) {
        const moe_int_row *row = &r->table->rows[i];
        const double predicted = 1 + r->residual[i];
        if (r->fold[i] >= 0 && predicted > 0 && size_of(r->table, row, predicted * row->us) == size)
            ret[count++] = (share){.value = 1 / predicted, .shape = row->shape};
    }
    return count;
}

/* Shapes are dealt to groups, their rows together, and then all rows put in order. */
static void deal(share *shares, size_t count) {
    int shapes = 0;
    qsort(shares, count, sizeof *shares, by_shape);
    for (size_t i = 0; i < count; i++) {
        shapes += i > 0 && shares[i].shape != shares[i - 1].shape;
        shares[i].group = shapes % GROUPS;
    }
    qsort(shares, count, sizeof *shares, by_value);
}

/* Without a group (-1: with all) what is left after `tail` of the rows is cut off on each side. */
static moe_int_spread inner(const share *shares, size_t count, int without, double tail) {
    size_t kept = 0, at = 0;
    moe_int_spread ret = {1, 1};
    for (size_t i = 0; i < count; i++)
        kept += shares[i].group != without;
    const size_t first = (size_t)(tail * (double)kept);
    for (size_t i = 0; i < count; i++) {
        if (shares[i].group == without)
            continue;
        if (at == first)
            ret.low = fmin(1, shares[i].value);
        if (at + first + 1 == kept)
            ret.high = fmax(1, shares[i].value);
        at++;
    }
    return ret;
}

/* Share of rows that lie inside of what the other groups' rows make of `tail`. */
static double covered(const share *shares, size_t count, double tail) {
    size_t in = 0;
    for (int group = 0; group < GROUPS; group++) {
        const moe_int_spread s = inner(shares, count, group, tail);
        for (size_t i = 0; i < count; i++)
            in += shares[i].group == group && shares[i].value >= s.low && shares[i].value <= s.high;
    }
    return (double)in / (double)count;
}

moe_status moe_int_residuals_spread(const moe_int_residuals *r,
                                    moe_int_spread spread[MOE_INT_SIZES],
                                    bool ret_found[MOE_INT_SIZES]) {
    share *shares = malloc(r->table->count * sizeof *shares);
    if (!shares)
        return MOE_E_NOMEM;
    for (int size = 0; size < MOE_INT_SIZES; size++) {
        const size_t count = collect(r, (moe_int_size)size, shares);
        double tail = TAIL;
        if (count < FEWEST)
            continue;
        deal(shares, count);
        while (tail > 0 && covered(shares, count, tail) < INSIDE)
            tail = fmax(0, tail - STEP);
        spread[size] = inner(shares, count, -1, tail);
        ret_found[size] = true;
    }
    free(shares);
    return MOE_OK;
}
