/* Numbers in order, the median of samples, the largest of many. In a header, as clock.h. */
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

/* The places of the largest scores, at most `most` of them, the largest first. */
enum { MOE_INT_MOST_KEPT = 4 };
typedef struct moe_int_largest {
    int most, count;
    double score[MOE_INT_MOST_KEPT];
    int64_t at[MOE_INT_MOST_KEPT];
} moe_int_largest;

static inline void moe_int_keep_largest(moe_int_largest *k, double score, int64_t at) {
    if (k->count == k->most && !(score > k->score[k->count - 1]))
        return;
    int i = k->count < k->most ? k->count++ : k->count - 1;
    for (; i > 0 && k->score[i - 1] < score; i--) {
        k->score[i] = k->score[i - 1];
        k->at[i] = k->at[i - 1];
    }
    k->score[i] = score;
    k->at[i] = at;
}

#endif
