/* A layer's timeline as Chrome trace JSON: https://ui.perfetto.dev reads it. Row 0 shows kernels,
 * the rows of process 1 show what each SM does. */
#include "core/file.h"
#include "layer/number.h"
#include "sim/kernels/schedule.h"
#include "sim/predict.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER        65536
#define EVENT_MAX     512
#define DEFAULT_TILES 200000
#define PHASES_UP_TO  4 /* kernels of at most so many waves also show each tile's phases */

typedef struct tracer {
    moe_int_writer *file;
    moe_status status;
    size_t used;
    bool first;
    char buffer[BUFFER];
} tracer;

static void flush(tracer *t) {
    if (!t->status && t->used > 0)
        t->status = moe_int_writer_put(t->file, t->buffer, t->used);
    t->used = 0;
}

MOE_PRINTF(2, 3)
static void event(tracer *t, const char *format, ...) {
    va_list args;
    if (t->used + EVENT_MAX > BUFFER)
        flush(t);
    char *at = t->buffer + t->used;
    const int comma = snprintf(at, EVENT_MAX, "%s\n", t->first ? "" : ",");
    va_start(args, format);
    const int length = vsnprintf(at + comma, (size_t)(EVENT_MAX - comma), format, args);
    va_end(args);
    t->used += (size_t)(comma + (length < EVENT_MAX - comma ? length : EVENT_MAX - comma - 1));
    t->first = false;
}

/* A slice in whole nanoseconds, which is what is written: where one ends the next may begin. */
#define SPAN "\"ts\":%lld.%03lld,\"dur\":%lld.%03lld"
#define SPAN_OF(from, to)                                                                          \
    ns(from) / 1000, ns(from) % 1000, (ns(to) - ns(from)) / 1000, (ns(to) - ns(from)) % 1000

static long long ns(double us) {
    return llround(1e3 * us);
}

/* One GEMM being played back. */
typedef struct playback {
    const moe_int_rates *r;
    const moe_kernel *k;
    const moe_int_gemm *g;
    moe_int_step step;
    double start, scale; /* us; model time of the tiles to the kernel's time */
    int64_t merge;       /* tiles in one slice */
    int phases;
    double free_at[MOE_INT_SMS_MAX];
    double slice_start[MOE_INT_SMS_MAX]; /* of the open slice */
    int64_t held[MOE_INT_SMS_MAX];       /* tiles in it */
} playback;

static double tile_us(const playback *p, double ksteps) {
    const double loop = ksteps * p->step.step, exposed = p->step.epilogue * (1 - p->g->hidden);
    return (fmax(loop + exposed, p->step.epilogue) / p->r->clock + p->r->tile_us) * p->scale;
}

static void draw_phases(tracer *t, const playback *p, int sm, double start, double length) {
    const double fill = p->r->tile_us * p->scale;
    const double tail =
        fmin(length - fill, p->step.epilogue * (1 - p->g->hidden) / p->r->clock * p->scale);
    const double at[] = {start, start + fill, start + length - tail, start + length};
    static const char *const names[] = {"fill", "main loop", "epilogue"};
    for (int i = 0; i < 3; i++) {
        if (at[i + 1] > at[i])
            event(t, "{\"name\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%d," SPAN "}", names[i], sm,
                  SPAN_OF(at[i], at[i + 1]));
    }
}

/* t NULL: time passes, nothing is drawn. */
static void close_slice(tracer *t, playback *p, int sm, int64_t group) {
    if (p->held[sm] == 0 || !t) {
        p->held[sm] = 0;
        return;
    }
    event(t,
          "{\"name\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%d," SPAN ","
          "\"args\":{\"expert\":%lld,\"tiles\":%lld}}",
          p->k->cost.name, sm, SPAN_OF(p->slice_start[sm], p->free_at[sm]), (long long)group,
          (long long)p->held[sm]);
    if (p->phases && p->held[sm] == 1)
        draw_phases(t, p, sm, p->slice_start[sm], p->free_at[sm] - p->slice_start[sm]);
    p->held[sm] = 0;
}

static int earliest(const double *free_at, int sms) {
    int best = 0;
    for (int i = 1; i < sms; i++) {
        if (free_at[i] < free_at[best])
            best = i;
    }
    return best;
}

/* Tiles in expert order, each to the SM that is free first. */
static void play_group(tracer *t, playback *p, int64_t group, int64_t tiles, double ksteps) {
    const int sms = (int)p->r->sms;
    const double us = tile_us(p, ksteps);
    for (int64_t i = 0; i < tiles; i++) {
        const int sm = earliest(p->free_at, sms);
        if (p->held[sm]++ == 0)
            p->slice_start[sm] = p->free_at[sm];
        p->free_at[sm] += us;
        if (p->held[sm] >= p->merge)
            close_slice(t, p, sm, group);
    }
}

static int64_t ceil_div(double a, double b) {
    return (int64_t)ceil(a / b);
}

static void play_groups(tracer *t, playback *p) {
    const moe_int_gemm *g = p->g;
    const int split = p->k->split;
    int64_t start = 0;
    for (int64_t i = 0; i < g->groups; i++) {
        const int64_t m = g->counts && !g->depth ? g->counts[i] : (int64_t)ceil(g->m);
        const double k = g->counts && g->depth ? (double)g->counts[i] : g->k;
        const int64_t tiles = moe_int_gemm_row_tiles(g, p->k->tile_m, start, m) *
                              ceil_div(g->n, p->k->tile_n) * split;
        start += m;
        play_group(t, p, i, tiles, (double)ceil_div(k, 64.0 * split));
    }
    for (int sm = 0; sm < (int)p->r->sms; sm++)
        close_slice(t, p, sm, g->groups - 1);
}

static double play(tracer *t, playback *p, double start) {
    const int sms = (int)p->r->sms;
    double end = start;
    for (int i = 0; i < sms; i++) {
        p->free_at[i] = start;
        p->held[i] = 0;
    }
    play_groups(t, p);
    for (int i = 0; i < sms; i++)
        end = fmax(end, p->free_at[i]);
    return end;
}

static void play_gemm(tracer *t, playback *p, double start) {
    const moe_int_tile tile = {(int16_t)p->k->tile_m, (int16_t)p->k->tile_n, (int16_t)p->k->split};
    const double launch = fmin(p->r->kernel_us + p->r->gap_us, p->k->cost.us);
    moe_int_gemm_step(p->r, p->g, tile, (moe_int_fill){.rows = tile.m}, &p->step);
    /* Played once unseen: what memory and throttling add to the tiles' own time is spread over
     * them, so that the row ends when the kernel does. */
    p->scale = 1;
    const double length = play(NULL, p, 0);
    p->scale = length > 0 ? (p->k->cost.us - launch) / length : 1;
    play(t, p, start + launch);
}

static void play_stream(tracer *t, const moe_int_rates *r, const moe_kernel *k, double start) {
    for (int sm = 0; sm < (int)r->sms; sm++)
        event(t, "{\"name\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%d," SPAN "}", k->cost.name, sm,
              SPAN_OF(start, start + k->cost.us));
}

static void draw_kernel(tracer *t, const moe_kernel *k, double start) {
    event(t,
          "{\"name\":\"%s\",\"ph\":\"X\",\"pid\":0,\"tid\":0," SPAN ","
          "\"args\":{\"bound_by\":\"%s\",\"floor_us\":%.3f,\"tflops\":%.1f,\"hbm_mb\":%.3f,"
          "\"tile\":\"%dx%d\",\"tiles\":%.0f}}",
          k->cost.name, SPAN_OF(start, start + k->cost.us), k->cost.bound_by, k->cost.floor_us,
          k->cost.us > 0 ? k->cost.flops / k->cost.us / 1e6 : 0, k->cost.hbm_bytes / 1e6, k->tile_m,
          k->tile_n, k->cost.tiles);
}

static void draw_names(tracer *t, const moe_int_rates *r) {
    event(t, "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":0,\"args\":{\"name\":\"kernels\"}}");
    event(t, "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":\"SMs\"}}");
    for (int sm = 0; sm < (int)r->sms; sm++)
        event(t,
              "{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%d,"
              "\"args\":{\"name\":\"SM %d\"}}",
              sm, sm);
}

static double count_tiles(const moe_prediction *p) {
    double tiles = 0;
    for (size_t i = 0; i < p->n_kernels; i++)
        tiles += p->kernels[i].cost.tiles;
    return tiles;
}

static void draw_all(tracer *t, const moe_int_list *l, const moe_prediction *p, int64_t max_tiles,
                     playback *b) {
    const double budget = (double)(max_tiles > 0 ? max_tiles : DEFAULT_TILES);
    b->r = &l->r;
    b->merge = (int64_t)fmax(1, ceil(count_tiles(p) / budget));
    draw_names(t, b->r);
    for (size_t i = 0; i < p->n_kernels && !t->status; i++) {
        const moe_kernel *k = &p->kernels[i];
        draw_kernel(t, k, k->start_us);
        if (k->tile_m == 0) {
            play_stream(t, b->r, k, k->start_us);
            continue;
        }
        b->k = k;
        b->g = &l->gemms[i];
        b->phases = k->cost.waves <= PHASES_UP_TO;
        play_gemm(t, b, k->start_us);
    }
}

static moe_status write_trace(const moe_int_list *l, const moe_prediction *p, int64_t max_tiles,
                              const char *path, const moe_log *log) {
    tracer *t = calloc(1, sizeof *t);
    playback *b = calloc(1, sizeof *b);
    moe_status status = MOE_E_NOMEM;
    if (t && b)
        status = moe_int_writer_open(path, log, &t->file);
    else
        moe_fail(log, status, "trace: out of memory");
    if (!status) {
        static const char head[] = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[",
                          tail[] = "\n]}\n";
        t->first = true;
        t->status = moe_int_writer_put(t->file, head, sizeof head - 1);
        draw_all(t, l, p, max_tiles, b);
        flush(t);
        if (!t->status)
            t->status = moe_int_writer_put(t->file, tail, sizeof tail - 1);
        status = t->status;
        if (status)
            moe_int_writer_discard(&t->file);
        else
            status = moe_int_writer_commit(&t->file);
    }
    free(t);
    free(b);
    return status;
}

moe_status moe_trace_write(const moe_gpu *gpu, const char *method, const moe_workload *work,
                           int64_t max_tiles, const char *path, const moe_log *log) {
    moe_int_list l = {0};
    moe_prediction *p = NULL;
    if (!work->counts)
        return moe_fail(log, MOE_E_INVALID, "a trace needs the tokens of each expert");
    moe_status status = moe_int_list_build(gpu, method, work, log, &l, &p);
    if (!status) {
        locale_t previous, plain = moe_int_plain_numbers(&previous);
        status = write_trace(&l, p, max_tiles, path, log);
        moe_int_own_numbers(plain, previous);
    }
    moe_int_list_destroy(&l);
    moe_prediction_destroy(&p);
    return status;
}
