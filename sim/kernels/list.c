#include "sim/kernels/list.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Kernel names of cuBLAS on Hopper show tiles of 64 to 320 rows and 8 to 272 columns; this is that
 * family in steps of 32 columns. */
static const moe_int_tile cublas_shapes[] = {
    {64, 32, 1},   {64, 64, 1},   {64, 96, 1},   {64, 128, 1},  {64, 160, 1}, {64, 192, 1},
    {64, 224, 1},  {64, 256, 1},  {128, 32, 1},  {128, 64, 1},  {128, 96, 1}, {128, 128, 1},
    {128, 160, 1}, {128, 192, 1}, {128, 224, 1}, {128, 256, 1}, {192, 32, 1}, {192, 64, 1},
    {192, 96, 1},  {192, 128, 1}, {192, 160, 1}, {192, 192, 1}, {256, 32, 1}, {256, 64, 1},
    {256, 96, 1},  {256, 128, 1}, {256, 160, 1}, {320, 32, 1},  {320, 64, 1}, {320, 96, 1},
    {320, 128, 1}};
const moe_int_tiles moe_int_cublas_tiles = {cublas_shapes,
                                            sizeof cublas_shapes / sizeof *cublas_shapes, 16};

static bool grow(moe_int_list *l) {
    const size_t capacity = l->capacity ? 2 * l->capacity : 32;
    moe_kernel *kernels = realloc(l->kernels, capacity * sizeof *kernels);
    if (kernels)
        l->kernels = kernels;
    moe_int_gemm *gemms = kernels ? realloc(l->gemms, capacity * sizeof *gemms) : NULL;
    if (gemms)
        l->gemms = gemms;
    moe_int_times *times = gemms ? realloc(l->times, capacity * sizeof *times) : NULL;
    if (times)
        l->times = times;
    if (!times)
        return false;
    l->capacity = capacity;
    return true;
}

void moe_int_list_destroy(moe_int_list *l) {
    free(l->gemms);
    free(l->times);
    l->gemms = NULL;
    l->times = NULL;
}

/* gemm and times NULL: a memory-bound kernel. MOE_STAGE_COUNT: a product of no layer. */
static void put(moe_int_list *l, moe_stage stage, const moe_kernel *kernel,
                const moe_int_gemm *gemm, const moe_int_times *times) {
    if (l->count == l->capacity && !grow(l)) {
        l->out_of_memory = true;
        return;
    }
    moe_kernel *k = &l->kernels[l->count];
    *k = *kernel;
    snprintf(k->cost.name, sizeof k->cost.name, "%s",
             stage == MOE_STAGE_COUNT ? "gemm" : moe_stage_name(stage));
    k->stage = stage;
    k->backward = l->backward;
    l->stage = stage;
    for (size_t i = l->n_tensors; i-- > 0 && l->tensors[i].first == MOE_STAGE_COUNT;)
        l->tensors[i].first = stage;
    l->times[l->count] = times ? *times : (moe_int_times){0};
    l->gemms[l->count++] = gemm ? *gemm : (moe_int_gemm){0};
}

static moe_int_gemm expert_gemm(const moe_int_list *l, moe_int_op op) {
    moe_int_gemm g = {.counts = l->counts, .groups = (int64_t)l->E, .element = l->tiled};
    const double w1 = l->h * l->d * l->weight, w2 = l->n * l->d * l->weight;
    const double dw = l->d * l->element;
    switch (op) {
    case MOE_INT_OP_H:
        g.n = l->h, g.k = l->d, g.read = l->active * w1;
        break;
    case MOE_INT_OP_Y:
        g.n = l->d, g.k = l->n, g.read = l->active * w2;
        break;
    case MOE_INT_OP_DA:
        g.n = l->n, g.k = l->d, g.read = l->active * w2;
        break;
    case MOE_INT_OP_DXP:
        g.n = l->d, g.k = l->h, g.read = l->active * w1;
        break;
    case MOE_INT_OP_DW2:
        g.depth = true, g.m = l->d, g.n = l->n, g.write = l->E * l->n * dw;
        break;
    case MOE_INT_OP_DW1:
        g.depth = true, g.m = l->h, g.n = l->d, g.write = l->E * l->h * dw;
        break;
    }
    return g;
}

void moe_int_list_gemm(moe_int_list *l, moe_stage stage, moe_int_op op, moe_int_traffic traffic,
                       const moe_int_tiles *tiles) {
    moe_int_gemm g = expert_gemm(l, op);
    moe_kernel k;
    moe_int_times times;
    g.read += traffic.read;
    g.again = traffic.again;
    g.write += traffic.write;
    g.epilogue = traffic.epilogue > 0 ? traffic.epilogue : l->element;
    g.load = traffic.load > 0 ? traffic.load : 1;
    g.region = traffic.region;
    g.hidden = fmax(l->r.hidden, tiles->hidden);
    /* Where a GPU has no clusters, or smaller ones, a library's kernels for it do without. */
    g.cluster = (int32_t)fmin(tiles->cluster, l->r.cluster);
    g.packed = tiles->packed;
    g.narrow = tiles->narrow;
    moe_int_gemm_best(&l->r, &g, tiles->shapes, tiles->count, tiles->max_split, INFINITY, &k,
                      &times);
    k.again = traffic.recomputes;
    put(l, stage, &k, &g, &times);
}

static void add_kernel(moe_kernel *sum, const moe_kernel *k) {
    sum->cost.us += k->cost.us;
    sum->cost.flops += k->cost.flops;
    sum->cost.hbm_bytes += k->cost.hbm_bytes;
    sum->cost.l2_bytes += k->cost.l2_bytes;
    sum->cost.tiles += k->cost.tiles;
    sum->cost.waves += k->cost.waves;
    sum->cost.floor_us += k->cost.floor_us;
    sum->least_us += k->least_us;
    sum->smem_bytes += k->smem_bytes;
    sum->padded_flops += k->padded_flops;
}

/* One expert of `tokens` among all: its own weights, its share of the rest. */
static moe_int_gemm one_expert(const moe_int_list *l, moe_int_op op, moe_int_traffic traffic,
                               double tokens) {
    moe_int_gemm g = expert_gemm(l, op);
    const double share = l->P > 0 ? tokens / l->P : 0;
    g.counts = NULL;
    g.groups = 1;
    g.read = (l->active > 0 ? g.read / l->active : 0) + traffic.read * share;
    g.write = g.write / l->E + traffic.write * share;
    if (g.depth)
        g.k = tokens;
    else
        g.m = tokens;
    g.depth = false;
    g.epilogue = l->element;
    g.load = 1;
    g.hidden = l->r.hidden;
    return g;
}

void moe_int_list_each(moe_int_list *l, moe_stage stage, moe_int_op op, moe_int_traffic traffic,
                       double host_us) {
    moe_kernel sum = {.split = 1}, k = {0};
    moe_int_times times;
    moe_int_gemm g = {0};
    int64_t last = 0;
    for (int64_t e = 0; e < (int64_t)l->E; e++) {
        if (l->counts[e] == 0)
            continue;
        if (l->counts[e] != last) {
            g = one_expert(l, op, traffic, (double)l->counts[e]);
            moe_int_gemm_best(&l->r, &g, moe_int_cublas_tiles.shapes, moe_int_cublas_tiles.count,
                              moe_int_cublas_tiles.max_split, INFINITY, &k, &times);
            last = l->counts[e];
        }
        add_kernel(&sum, &k);
    }
    const double device_us = sum.cost.us;
    sum.cost.us = fmax(device_us, l->active * host_us);
    sum.tile_m = k.tile_m;
    sum.tile_n = k.tile_n;
    snprintf(sum.cost.bound_by, sizeof sum.cost.bound_by, "%s",
             sum.cost.us > device_us ? "host" : k.cost.bound_by);
    times = (moe_int_times){.rest = sum.cost.us, .bound = 1};
    put(l, stage, &sum, NULL, &times);
}

/* Those shapes of cuBLAS' that turned have no twin among the others. */
static const moe_int_tile turned_shapes[] = {
    {64, 32, 1},   {64, 96, 1},   {64, 160, 1}, {64, 224, 1}, {128, 32, 1},  {128, 96, 1},
    {128, 160, 1}, {128, 224, 1}, {192, 32, 1}, {192, 96, 1}, {192, 160, 1}, {256, 32, 1},
    {256, 96, 1},  {256, 160, 1}, {320, 32, 1}, {320, 64, 1}, {320, 96, 1},  {320, 128, 1}};

/* The better of a product and its transpose: an instruction that is wider along its rows than along
 * its columns (wgmma, tcgen05) may lie along either side of C, and cuBLAS has kernels of both. */
static moe_int_gemm best_side(const moe_int_rates *r, moe_int_gemm g, const moe_int_tiles *tiles,
                              int max_split, moe_kernel *ret, moe_int_times *ret_times) {
    moe_int_gemm turned = g;
    moe_int_gemm_best(r, &g, tiles->shapes, tiles->count, max_split, INFINITY, ret, ret_times);
    if (tiles != &moe_int_cublas_tiles || r->warps > 1)
        return g;
    turned.m = g.n;
    turned.n = g.m;
    const int shapes = sizeof turned_shapes / sizeof *turned_shapes;
    const bool faster = moe_int_gemm_best(r, &turned, turned_shapes, shapes, max_split,
                                          ret->cost.us, ret, ret_times);
    return faster ? turned : g;
}

void moe_int_list_dense(moe_int_list *l, moe_stage stage, double m, double n, double k,
                        double batch, const moe_int_tiles *tiles) {
    moe_int_gemm g = {.groups = (int64_t)batch,
                      .m = m,
                      .n = n,
                      .k = k,
                      .element = l->tiled,
                      .read = batch * (m * k * l->operand + k * n * l->weight),
                      .write = batch * m * n * l->element,
                      .epilogue = l->element,
                      .load = 1,
                      .hidden = l->r.hidden};
    moe_kernel best;
    moe_int_times times;
    g = best_side(&l->r, g, tiles, batch > 1 ? 1 : tiles->max_split, &best, &times);
    put(l, stage, &best, &g, &times);
}

void moe_int_list_product(moe_int_list *l, double m, double n, double k, double batch) {
    moe_int_list_dense(l, MOE_STAGE_COUNT, m, n, k, batch, &moe_int_cublas_tiles);
}

void moe_int_list_tiled(moe_int_list *l, moe_stage stage, const moe_int_gemm *g,
                        moe_int_tile tile) {
    moe_kernel k;
    moe_int_times times;
    moe_int_gemm_tile(&l->r, g, tile, &k, &times);
    put(l, stage, &k, g, &times);
}

void moe_int_list_stream(moe_int_list *l, moe_stage stage, double read, double write) {
    moe_int_list_slow(l, stage, read, write, 0, 0);
}

void moe_int_list_slow(moe_int_list *l, moe_stage stage, double read, double write, double elements,
                       double rate) {
    moe_kernel k;
    moe_int_stream(&l->r, read, write, elements, rate, &k);
    put(l, stage, &k, NULL, NULL);
}

void moe_int_list_rounds(moe_int_list *l, moe_stage stage, double read, double write,
                         double rounds_us) {
    moe_kernel k;
    moe_int_stream_rounds(&l->r, read, write, rounds_us, &k);
    put(l, stage, &k, NULL, NULL);
}

/* NULL: the table is full, which fails the prediction. */
static moe_live *add_tensor(moe_int_list *l, const char *name, moe_live_kind kind, double bytes) {
    if (l->n_tensors == MOE_LIVE_MAX) {
        l->out_of_memory = true;
        return NULL;
    }
    moe_live *t = &l->tensors[l->n_tensors++];
    *t = (moe_live){.name = name,
                    .bytes = bytes,
                    .kind = kind,
                    .backward = l->backward,
                    .first = MOE_STAGE_COUNT,
                    .last = MOE_STAGE_COUNT};
    return t;
}

static void make_alive(moe_int_list *l, const char *name, moe_live_kind kind, double bytes) {
    moe_live *t = add_tensor(l, name, kind, bytes);
    if (!t)
        return;
    t->until = MOE_LIVE_MAX;
    l->live += bytes;
    if (l->live > l->peak) {
        l->peak = l->live;
        l->peak_at = (size_t)(t - l->tensors);
    }
}

void moe_int_list_alloc(moe_int_list *l, const char *name, double bytes) {
    make_alive(l, name, MOE_LIVE_WORK, bytes);
}

void moe_int_list_cache(moe_int_list *l, const char *name, double bytes) {
    make_alive(l, name, MOE_LIVE_CACHED, bytes);
    l->cached += bytes;
}

/* The latest of that name, or NULL. */
static moe_live *find_alive(moe_int_list *l, const char *name) {
    for (size_t i = l->n_tensors; i-- > 0;) {
        moe_live *t = &l->tensors[i];
        if (t->until == MOE_LIVE_MAX && strcmp(t->name, name) == 0)
            return t;
    }
    return NULL;
}

void moe_int_list_free(moe_int_list *l, const char *name) {
    moe_live *t = find_alive(l, name);
    if (!t) {
        l->out_of_memory = true; /* it never was, or did not fit the table */
        return;
    }
    t->until = (int32_t)l->n_tensors;
    t->last = l->stage;
    l->live -= t->bytes;
}

bool moe_int_list_keep(moe_int_list *l, const char *name) {
    moe_live *t = find_alive(l, name);
    if (!t)
        return false;
    l->cached += t->kind == MOE_LIVE_CACHED ? 0 : t->bytes;
    t->kind = MOE_LIVE_CACHED;
    return true;
}

void moe_int_list_param(moe_int_list *l, const char *name, moe_live_kind kind, double bytes) {
    if (bytes > 0)
        add_tensor(l, name, kind, bytes);
}
