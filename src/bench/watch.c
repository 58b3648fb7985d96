/* Samples of the device's board while timed runs are under way, from a thread of their own.
 *
 * A run returns when the device is idle again, so the thread that times has no moment at which work
 * is in flight. Sampling between runs would show a clock that no longer matters and, since a driver
 * takes milliseconds to answer, let the device cool from run to run: the very clock that a settled
 * timing is about would rise. A second thread asks while the device is busy and the first one waits
 * for it; kernels are not touched by it. It sleeps between runs, where caches are flushed. */
#include "bench/watch.h"
#include "core/samples.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* Clocks move within tens of milliseconds; asking costs the driver some. */
#define PAUSE_NS 5000000L

struct moe_int_watch {
    moe_backend *backend;
    pthread_t thread;
    pthread_mutex_t mutex; /* guards is_running and is_over */
    pthread_cond_t changed;
    bool is_running, is_over;
    moe_board before;
    moe_board *sample; /* [capacity] */
    size_t count, capacity;
};

/* 10 KiB a second. Without memory the sample is lost. */
static void keep(moe_int_watch *w, const moe_board *board) {
    if (w->count == w->capacity) {
        const size_t capacity = w->capacity ? 2 * w->capacity : 64;
        moe_board *grown = realloc(w->sample, capacity * sizeof *grown);
        if (!grown)
            return;
        w->sample = grown;
        w->capacity = capacity;
    }
    w->sample[w->count++] = *board;
}

/* Until a pause is over, or the watch. */
static void wait_a_while(moe_int_watch *w) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    const long ns = until.tv_nsec + PAUSE_NS;
    until.tv_sec += ns / 1000000000L;
    until.tv_nsec = ns % 1000000000L;
    while (!w->is_over && !pthread_cond_timedwait(&w->changed, &w->mutex, &until))
        ;
}

static void *sample_runs(void *self) {
    moe_int_watch *w = self;
    pthread_mutex_lock(&w->mutex);
    while (!w->is_over) {
        if (!w->is_running) {
            pthread_cond_wait(&w->changed, &w->mutex);
            continue;
        }
        pthread_mutex_unlock(&w->mutex);
        moe_board board;
        const moe_status status = moe_backend_board(w->backend, &board);
        if (!status)
            keep(w, &board);
        pthread_mutex_lock(&w->mutex);
        wait_a_while(w);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

/* The clock of timed waits is the monotonic one: the wall clock may be set meanwhile. */
static bool start_thread(moe_int_watch *w) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
    return pthread_create(&w->thread, NULL, sample_runs, w) == 0;
}

static void destroy(moe_int_watch *w) {
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->mutex);
    free(w->sample);
    free(w);
}

void moe_int_watch_start(moe_backend *backend, moe_int_watch **ret) {
    moe_board before;
    *ret = NULL;
    moe_int_watch *w = moe_backend_board(backend, &before) == MOE_OK ? calloc(1, sizeof *w) : NULL;
    if (!w)
        return;
    w->backend = backend;
    w->before = before;
    if (start_thread(w))
        *ret = w;
    else
        destroy(w);
}

void moe_int_watch_run(moe_int_watch *watch, bool is_running) {
    if (!watch)
        return;
    pthread_mutex_lock(&watch->mutex);
    watch->is_running = is_running;
    if (is_running)
        pthread_cond_signal(&watch->changed);
    pthread_mutex_unlock(&watch->mutex);
}

/* Over the samples that know the field `offset` bytes into moe_board. */
static moe_bench_range range_of(const moe_int_watch *w, size_t offset, double *values) {
    size_t known = 0;
    for (size_t i = 0; i < w->count; i++) {
        const double value = *(const double *)((const char *)&w->sample[i] + offset);
        if (value > 0)
            values[known++] = value;
    }
    if (!known)
        return (moe_bench_range){0};
    const double median = moe_int_median(values, known);
    return (moe_bench_range){.median = median, .min = values[0], .max = values[known - 1]};
}

static void sum_up(const moe_int_watch *w, moe_bench_board *ret) {
    double *values = calloc(w->count ? w->count : 1, sizeof *values);
    if (!values)
        return;
    *ret = (moe_bench_board){
        .samples = (int32_t)w->count,
        .before = w->before,
        .sm_mhz = range_of(w, offsetof(moe_board, sm_mhz), values),
        .memory_mhz = range_of(w, offsetof(moe_board, memory_mhz), values),
        .power_w = range_of(w, offsetof(moe_board, power_w), values),
        .temperature_c = range_of(w, offsetof(moe_board, temperature_c), values),
    };
    for (size_t i = 0; i < w->count; i++)
        ret->throttled_by |= w->sample[i].throttled_by;
    free(values);
}

void moe_int_watch_finish(moe_int_watch **watch, moe_bench_board *ret) {
    moe_int_watch *w = *watch;
    if (!w)
        return;
    pthread_mutex_lock(&w->mutex);
    w->is_over = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    sum_up(w, ret);
    destroy(w);
    *watch = NULL;
}
