/* A tensor whose values follow from those that they should be, one by one: another function of
 * them, or fewer bits. */
#include "check/explain/bank.h"
#include "check/explain/local.h"

#include <math.h>
#include <stdlib.h>

enum { VALUES = 4096, FEWEST = 64, LEVEL_ROWS = 16 };

typedef struct value {
    double want, got;
} value;

static int by_want(const void *a, const void *b) {
    const value *x = a, *y = b;
    return (x->want > y->want) - (x->want < y->want);
}

static int64_t take(const moe_int_sight *p, value *ret) {
    const int64_t all = p->rows * p->width, step = all / VALUES + 1;
    int64_t count = 0;
    for (int64_t i = 0; i < all && count < VALUES; i += step)
        ret[count++] = (value){moe_int_sight_want(p, i / p->width, i % p->width),
                               moe_int_sight_got(p, i / p->width, i % p->width)};
    return count;
}

/* What the values on both sides do not tell of the error of value i. */
static double surprise(const value *v, int64_t i) {
    const value *a = &v[i - 1], *b = &v[i + 1];
    const double gap = b->want - a->want, part = gap > 0 ? (v[i].want - a->want) / gap : 0.5;
    const double before = a->got - a->want, after = b->got - b->want;
    return v[i].got - v[i].want - (before + part * (after - before));
}

bool moe_int_local_function_of_itself(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    value *v = p->odd == 0 ? malloc(VALUES * sizeof *v) : NULL;
    const int64_t count = v ? take(p, v) : 0;
    double left = 0, d2 = 0;
    int64_t worst = 0;
    if (count >= FEWEST)
        qsort(v, (size_t)count, sizeof *v, by_want);
    for (int64_t i = 1; i + 1 < count; i++) {
        d2 += pow(v[i].got - v[i].want, 2);
        left += pow(surprise(v, i), 2);
        if (fabs(v[i].got - v[i].want) > fabs(v[worst].got - v[worst].want))
            worst = i;
    }
    const bool found = count >= FEWEST && left < d2 / 30;
    if (found) {
        moe_int_local_residuals(p, left, d2, f);
        f->rough = true;
        moe_int_finding_say(f, ": where it should be %.4g it is %.4g", v[worst].want, v[worst].got);
        moe_int_finding_param(f, "should_be", v[worst].want);
        moe_int_finding_param(f, "is", v[worst].got);
    }
    free(v);
    return found;
}

/* Bits of the significand, the leading one included. */
static int bits_of(double v) {
    int power, bits = 0;
    for (double part = frexp(fabs(v), &power); part > 0; bits++)
        part = 2 * part - floor(2 * part);
    return bits;
}

/* Rounding to so few bits that the tensor's own type does not show. */
bool moe_int_local_few_bits(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    const moe_dtype own = p->e->gate[p->id] < 1e-7 ? MOE_F32 : p->e->arithmetic;
    const int kept = own == MOE_BF16 ? 8 : own == MOE_F16 ? 11 : 24;
    const int64_t all = p->rows * p->width, step = all / VALUES + 1;
    int64_t seen = 0;
    int most = 0;
    if (p->odd > 0 || p->r2 == 0)
        return false;
    for (int64_t i = 0; i < all && most < kept - 1; i += step) {
        const double v = moe_int_sight_got(p, i / p->width, i % p->width);
        const int bits = bits_of(v);
        most = bits > most ? bits : most;
        seen += v != 0;
    }
    /* The square of a rounding's error is that of half a step over 3; a sum that is rounded at each
     * of some terms has as many. */
    if (seen < FEWEST || most >= kept - 1 || p->d2 / p->r2 > ldexp(1, 5 - 2 * most))
        return false;
    moe_int_sight_residuals(p, 0, f);
    moe_int_finding_say(f, ": %d bits, of %d that its type has", most, kept);
    moe_int_finding_param(f, "bits", most);
    return true;
}

/* Row r's largest value. */
static double largest(const moe_int_sight *p, int64_t r) {
    double most = 0;
    for (int64_t c = 0; c < p->width; c++)
        most = fmax(most, fabs(moe_int_sight_got(p, r, c)));
    return most;
}

/* The square by which row r's values miss whole numbers of `step`; of any values it is step^2 / 12
 * an element. */
static double missed(const moe_int_sight *p, int64_t r, double step) {
    double sum = 0;
    for (int64_t c = 0; c < p->width; c++) {
        const double v = moe_int_sight_got(p, r, c) / step;
        sum += pow((v - rint(v)) * step, 2);
    }
    return sum;
}

/* Integers with a scale for each row, one less than a power of two of them on each side. */
bool moe_int_local_few_levels(const moe_int_local *l, moe_int_finding *f) {
    const moe_int_sight *p = l->p;
    int64_t row[LEVEL_ROWS];
    const int64_t count = moe_int_local_rows(p, LEVEL_ROWS, row);
    if (p->odd > 0 || p->width < 16 || count < 4 || p->d2 > 0.03 * p->r2)
        return false;
    for (int64_t levels = 7; levels <= 255; levels = 2 * levels + 1) {
        double left = 0, d2 = 0, any = 0;
        for (int64_t i = 0; i < count; i++) {
            const double step = largest(p, row[i]) / (double)levels;
            left += missed(p, row[i], step);
            any += step * step / 12 * (double)p->width;
            d2 += p->row[row[i]].d2;
        }
        if (left > moe_int_local_limit(p->e, p->id, d2) || left > any / 10 || d2 > 3 * any)
            continue;
        moe_int_local_residuals(p, left, d2, f);
        moe_int_finding_say(f, ": to %lld on each side of 0, as integers with a scale for each row",
                            (long long)levels);
        moe_int_finding_param(f, "levels", (double)levels);
        return true;
    }
    return false;
}
