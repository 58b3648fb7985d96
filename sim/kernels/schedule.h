/* Internal: list scheduling of tiles on SMs. */
#ifndef MOE_SIM_SCHEDULE_H
#define MOE_SIM_SCHEDULE_H

#include <stdint.h>

/* fmin and fmax of numbers: C's, which know NaN, are calls, and an eighth of what a search
 * executes. */
static inline double moe_int_least(double a, double b) {
    return a < b ? a : b;
}

static inline double moe_int_most(double a, double b) {
    return a > b ? a : b;
}

/* `count` tiles of the same cost. */
typedef struct moe_int_batch {
    double cost;
    double count;
} moe_int_batch;

typedef struct moe_int_schedule {
    double full;   /* all SMs are busy until then */
    double end;    /* the last SM finishes then */
    double active; /* SMs busy on average between `full` and `end`, at least 1 */
    double busy;   /* sum of all tiles' costs */
} moe_int_schedule;

#define MOE_INT_SMS_MAX 1024

/* Each SM takes the next tile when it is free; batches are taken in the given order. O(batches *
 * groups of SMs that are free together), whatever the number of tiles. */
void moe_int_schedule_tiles(const moe_int_batch *batches, int64_t count, double sms,
                            moe_int_schedule *ret);

#endif
