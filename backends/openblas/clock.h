/* Times of stages: start, then stop after each stage in turn. */
#ifndef MOEREF_OPENBLAS_CLOCK_H
#define MOEREF_OPENBLAS_CLOCK_H

#include "layer.h"

#include <time.h>

typedef struct ob_clock {
    ob_layer *layer;
    int shared; /* index into us: 0 routed, 1 shared */
    double last_us;
} ob_clock;

static inline double ob_now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static inline ob_clock ob_clock_start(ob_layer *layer, int shared) {
    return (ob_clock){layer, shared, ob_now_us()};
}

/* The time since the last call belongs to `stage`. */
static inline void ob_clock_stop(ob_clock *clock, ob_stage stage) {
    double now = ob_now_us();
    clock->layer->us[clock->shared][stage] += now - clock->last_us;
    clock->last_us = now;
}

#endif
