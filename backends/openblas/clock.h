/* Times of stages: start, then stop after each stage in turn. */
#ifndef MOEREF_OPENBLAS_CLOCK_H
#define MOEREF_OPENBLAS_CLOCK_H

#include "core/clock.h"
#include "layer.h"

typedef struct ob_clock {
    ob_layer *layer;
    int is_shared; /* stages are the shared expert's */
    double last_us;
} ob_clock;

static inline ob_clock ob_clock_start(ob_layer *layer, int is_shared) {
    return (ob_clock){layer, is_shared, moe_int_now_us()};
}

/* The time since the last call belongs to `stage`. */
static inline void ob_clock_stop(ob_clock *clock, moe_stage stage) {
    double now = moe_int_now_us();
    clock->layer->us[clock->is_shared ? moe_stage_of_shared(stage) : stage] += now - clock->last_us;
    clock->last_us = now;
}

#endif
