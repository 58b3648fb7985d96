#include "sim/devices/timeline.h"

#include <math.h>
#include <stdlib.h>

#define NAME(constant, name) name,
const char *const moe_int_tl_names[MOE_INT_TL_COUNT] = {MOE_INT_TL_ROWS(NAME)};

double moe_int_tl_end(const moe_int_timeline *t, int task) {
    return task < 0 ? 0 : t->tasks[task].start_us + t->tasks[task].us;
}

static bool grow(moe_int_timeline *t) {
    if (t->count < t->capacity)
        return true;
    const size_t capacity = t->capacity ? 2 * t->capacity : 64;
    moe_ep_task *tasks = realloc(t->tasks, capacity * sizeof *tasks);
    t->out_of_memory |= !tasks;
    if (tasks) {
        t->tasks = tasks;
        t->capacity = capacity;
    }
    return tasks != NULL;
}

int moe_int_tl_add(moe_int_timeline *t, const char *name, moe_int_tl_row row, moe_int_tl_row also,
                   double us, double bytes, int a, int b) {
    if (!grow(t))
        return MOE_INT_NO_TASK;
    const bool two = also < MOE_INT_TL_COUNT;
    double start = fmax(t->free_us[row], fmax(moe_int_tl_end(t, a), moe_int_tl_end(t, b)));
    if (two)
        start = fmax(start, t->free_us[also]);
    if (t->serial)
        start = fmax(start, t->end_us);
    t->tasks[t->count] = (moe_ep_task){.name = name,
                                       .row = moe_int_tl_names[row],
                                       .also = two ? moe_int_tl_names[also] : NULL,
                                       .start_us = start,
                                       .us = us,
                                       .bytes = bytes,
                                       .chunk = t->chunk,
                                       .backward = t->backward};
    t->free_us[row] = start + us;
    t->busy_us[row] += us;
    if (two) {
        t->free_us[also] = start + us;
        t->busy_us[also] += us;
    }
    t->end_us = fmax(t->end_us, start + us);
    t->sum_us += us;
    return (int)t->count++;
}

/* What is filled into gaps. */
typedef struct filling {
    const char *name;
    moe_int_tl_row row;
    double start_us, us, bytes; /* of what is left */
} filling;

/* Most of what fits into `room` from `at` on. */
static void fill_gap(moe_int_timeline *t, filling *f, double at, double room) {
    const double us = fmin(f->us, room - f->start_us);
    if (us <= 0 || !grow(t))
        return;
    const double bytes = f->bytes * us / f->us;
    t->tasks[t->count++] = (moe_ep_task){.name = f->name,
                                         .row = moe_int_tl_names[f->row],
                                         .start_us = at,
                                         .us = f->start_us + us,
                                         .bytes = bytes,
                                         .chunk = t->chunk,
                                         .backward = t->backward};
    t->busy_us[f->row] += f->start_us + us;
    t->sum_us += f->start_us + us;
    f->us -= us;
    f->bytes -= bytes;
}

static bool uses(const moe_ep_task *task, const char *row) {
    return task->row == row || task->also == row;
}

void moe_int_tl_fill(moe_int_timeline *t, const char *name, moe_int_tl_row row, double from,
                     double start_us, double us, double bytes) {
    filling f = {name, row, start_us, us, bytes};
    const size_t count = t->count;
    double at = from;
    for (size_t i = 0; i < count && !t->serial; i++) {
        const moe_ep_task task = t->tasks[i];
        if (!uses(&task, moe_int_tl_names[row]) || task.start_us < from)
            continue;
        fill_gap(t, &f, at, task.start_us - at);
        at = task.start_us + task.us;
    }
    if (!t->serial)
        fill_gap(t, &f, at, t->end_us - at);
    t->free_us[row] = t->end_us;
    if (f.us > 0)
        moe_int_tl_add(t, name, row, MOE_INT_TL_COUNT, f.start_us + f.us, f.bytes, MOE_INT_NO_TASK,
                       MOE_INT_NO_TASK);
}

void moe_int_tl_barrier(moe_int_timeline *t) {
    for (int row = 0; row < MOE_INT_TL_COUNT; row++)
        t->free_us[row] = t->end_us;
}
