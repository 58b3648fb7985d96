/* Numbers in order, and the median of samples. In a header, as clock.h. */
#ifndef MOE_CORE_SAMPLES_H
#define MOE_CORE_SAMPLES_H

#include <stdint.h>
#include <stdlib.h>

static inline int moe_int_compare_double(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline int moe_int_compare_int64(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static inline void moe_int_sort(double *values, size_t count) {
    qsort(values, count, sizeof *values, moe_int_compare_double);
}

/* Sorts the values and returns their median, the mean of the two in the middle of an even number.
 * count > 0. */
static inline double moe_int_median(double *values, size_t count) {
    const size_t half = count / 2;
    moe_int_sort(values, count);
    return count % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

#endif
