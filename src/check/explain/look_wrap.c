/* Looks for rows of Y (of dX~) that are read from the wrong place: beside their own, in another
 * order, or from the start because an offset wraps at a power of two. */
#include "check/explain/bank.h"

#include <math.h>
#include <stdlib.h>

/* Read instead of row `pair`, which stands at `place` in the order of tokens: the row after it or
 * before, the one of number `place`, or the one that stands where it should be numbered. Or what is
 * wrapped: the number of an element, the offset of a row in elements, which is then cut down to a
 * row, or the number of a row. */
typedef enum wrap_of {
    READ_NEXT,
    READ_BEFORE,
    READ_PLACE,
    READ_INVERSE,
    WRAP_ELEMENT,
    WRAP_OFFSET,
    WRAP_ROW,
    WRAP_COUNT
} wrap_of;

typedef struct wrap {
    const moe_int_sight *p;
    const moe_plan *plan;
    const double *part; /* [pairs][width] */
    int64_t pairs, limit;
    wrap_of of;
    double *row; /* [width]: what a token's row has too much, or too little */
} wrap;

/* The first element that is read for row `pair`, or the row's own where that is beyond the end. */
static int64_t start_read(const wrap *k, int64_t pair, int64_t place) {
    const int64_t width = k->p->width, start = pair * width;
    int64_t row = pair;
    switch (k->of) {
    case READ_NEXT:
        row = pair + 1;
        break;
    case READ_BEFORE:
        row = pair - 1;
        break;
    case READ_PLACE:
        row = place;
        break;
    case READ_INVERSE:
        row = k->plan->pair_of_token[pair];
        break;
    case WRAP_ELEMENT:
        return start % k->limit;
    case WRAP_OFFSET:
        return start < k->limit ? start : (start - k->limit) / width * width;
    case WRAP_ROW:
        row = pair % k->limit;
        break;
    case WRAP_COUNT:
        break;
    }
    return row < 0 || row >= k->pairs ? start : row * width;
}

static void add_wrapped(const wrap *k, int64_t pair, int64_t place, double weight) {
    const int64_t width = k->p->width, from = start_read(k, pair, place);
    for (int64_t c = 0; c < width; c++) {
        const int64_t at = k->of == WRAP_ELEMENT ? (from + c) % k->limit : from + c;
        k->row[c] += weight * (k->part[at] - k->part[pair * width + c]);
    }
}

/* Squares that are left if rows are read so; gives up above `most`. */
static double left_with(const wrap *k, double most) {
    const moe_int_sight *p = k->p;
    double left = 0;
    for (int64_t r = 0; r < p->rows && left <= most; r++) {
        for (int64_t c = 0; c < p->width; c++)
            k->row[c] = 0;
        for (int64_t i = k->plan->token_offsets[r]; i < k->plan->token_offsets[r + 1]; i++) {
            const int64_t pair = k->plan->pair_of_token[i];
            if (pair < k->pairs)
                add_wrapped(k, pair, i, p->id == MOE_T_O ? k->plan->weight[pair] : 1);
        }
        for (int64_t c = 0; c < p->width; c++) {
            double d = moe_int_sight_got(p, r, c) - moe_int_sight_want(p, r, c) - k->row[c];
            left += d * d;
        }
    }
    return left;
}

static void say_wrap(const wrap *k, moe_int_finding *f) {
    static const char *const of[WRAP_COUNT] = {"the row after it",
                                               "the row before it",
                                               "the row at its place in order of tokens",
                                               "the place in order of tokens of its number",
                                               "its element",
                                               "its offset",
                                               "its row"};
    const int64_t first = k->of == WRAP_ROW ? k->limit : (k->limit + k->p->width - 1) / k->p->width;
    moe_int_finding_say(f, ": %s", of[k->of]);
    if (k->of < WRAP_ELEMENT)
        return;
    moe_int_finding_say(f, " wraps at %lld, from row %lld of %lld on", (long long)k->limit,
                        (long long)first, (long long)k->pairs);
    moe_int_finding_param(f, "limit", (double)k->limit);
    moe_int_finding_param(f, "row", (double)first);
}

bool moe_int_look_wrapped_rows(const moe_int_sight *p, moe_int_finding *f) {
    const moe_reference_result *oracle = p->e->truth->oracle;
    const moe_tensor *part = &oracle->out.t[p->id == MOE_T_O ? MOE_T_Y : MOE_T_DXP];
    const bool on_input = p->e->problem->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    wrap k = {.p = p, .plan = oracle->plan, .part = part->data};
    const double most = p->d2 / 30;
    double left = INFINITY;
    if ((p->id != MOE_T_O && p->id != MOE_T_DX) || !part->data || on_input || p->odd > 0 ||
        !moe_int_sight_is_whole(p))
        return false;
    k.pairs = oracle->plan->offsets[p->e->problem->layer.E];
    k.row = malloc((size_t)p->width * sizeof *k.row);
    for (int of = 0; k.row && left > most && of < WRAP_COUNT; of++) {
        const int64_t end = of < WRAP_ELEMENT ? 3 : of == WRAP_ROW ? k.pairs : k.pairs * p->width;
        k.of = (wrap_of)of;
        for (int64_t limit = 2; left > most && limit < end; limit *= 2) {
            k.limit = limit;
            left = left_with(&k, most);
        }
    }
    free(k.row);
    if (left > most)
        return false;
    moe_int_sight_residuals(p, left, f);
    say_wrap(&k, f);
    return true;
}
