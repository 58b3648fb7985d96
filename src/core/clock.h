/* The one clock that durations are taken from. In a header, since plug-ins and tools that see
 * nothing else of the library use it too. */
#ifndef MOE_CORE_CLOCK_H
#define MOE_CORE_CLOCK_H

#include <time.h>

/* Microseconds since some moment in the past; setting the wall clock does not move it. */
static inline double moe_int_now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

#endif
