/* Looks at elements wherever they are. */
#include "check/explain/bank.h"

/* Zeros that should be none, and how they lie. */
typedef struct zeros {
    int64_t count, runs;      /* of those side by side in a row */
    int64_t row, first, last; /* the first run */
    double left, d2;          /* squares of what is wrong elsewhere, and of what they should be */
} zeros;

static zeros find_zeros(const moe_int_sight *p) {
    zeros z = {.row = -1};
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t c = 0, before = -2; c < p->width; c++) {
            const double got = moe_int_sight_got(p, r, c), want = moe_int_sight_want(p, r, c);
            if (got != 0 || want == 0) {
                z.left += (got - want) * (got - want);
                continue;
            }
            z.d2 += want * want;
            z.count++;
            z.runs += before != c - 1;
            before = c;
            if (z.row < 0)
                z = (zeros){z.count, z.runs, r, c, c, z.left, z.d2};
            else if (z.runs == 1 && z.row == r)
                z.last = c;
        }
    return z;
}

/* Whatever is wrong is 0, and lies side by side: what is 0 by its value does not. */
bool moe_int_look_zero_tiles(const moe_int_sight *p, moe_int_finding *f) {
    enum { FEWEST = 16, SIDE_BY_SIDE = 4 };
    const int64_t all = p->rows * p->width;
    if (p->odd > 0 || p->width < SIDE_BY_SIDE)
        return false;
    const zeros z = find_zeros(p);
    if (z.count < FEWEST || z.count < SIDE_BY_SIDE * z.runs)
        return false;
    moe_int_sight_residuals(p, z.left, f);
    moe_int_finding_say(f, ": %lld elements of %lld, of row %lld columns %lld to %lld",
                        (long long)z.count, (long long)all, (long long)z.row, (long long)z.first,
                        (long long)z.last);
    moe_int_finding_param(f, "row", (double)z.row);
    moe_int_finding_param(f, "first", (double)z.first);
    moe_int_finding_param(f, "last", (double)z.last);
    return true;
}
