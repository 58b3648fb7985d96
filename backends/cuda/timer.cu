/* Per-kernel times by CUDA events. */
#include "layer.h"

#include <stdio.h>

static cudaEvent_t event_at(Timer *timer, size_t i) {
    while (timer->event.size() <= i) {
        cudaEvent_t event = nullptr;
        cudaEventCreate(&event);
        timer->event.push_back(event);
    }
    return timer->event[i];
}

void timer_start(Timer *timer, cudaStream_t stream) {
    if (timer->is_off)
        return;
    timer->cost.clear();
    cudaEventRecord(event_at(timer, 0), stream);
}

void timer_mark(Timer *timer, const Experts *x, moe_stage stage, double flops,
                cudaStream_t stream) {
    timer_mark_as(timer, moe_stage_name(x && x->shared ? moe_stage_of_shared(stage) : stage), flops,
                  stream);
}

void timer_mark_as(Timer *timer, const char *name, double flops, cudaStream_t stream) {
    if (!timer || timer->is_off)
        return;
    moe_cost cost = {};
    snprintf(cost.name, sizeof cost.name, "%s", name);
    cost.flops = flops;
    timer->cost.push_back(cost);
    cudaEventRecord(event_at(timer, timer->cost.size()), stream);
}

/* After the stream has been synchronised. */
void timer_finish(Timer *timer) {
    for (size_t i = 0; i < timer->cost.size(); i++) {
        float ms = 0;
        cudaEventElapsedTime(&ms, timer->event[i], timer->event[i + 1]);
        timer->cost[i].us = 1e3 * ms;
    }
}

void timer_destroy(Timer *timer) {
    for (cudaEvent_t event : timer->event)
        cudaEventDestroy(event);
}

size_t layer_timings(void *self, moe_cost *ret, size_t capacity) {
    const Layer *layer = static_cast<const Layer *>(self);
    size_t count = 0;
    for (const Timer *timer : {&layer->forward_timer, &layer->backward_timer})
        for (const moe_cost &cost : timer->cost) {
            if (count < capacity)
                ret[count] = cost;
            count++;
        }
    return count;
}
