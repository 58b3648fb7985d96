/* The layer as a list of stages with their operation and byte counts, and a roofline over them. */
#include "moeref/bench.h"

#include <stdio.h>
#include <string.h>

/* Sizes that the counts are made of. h is H's width, r the router's outputs. */
typedef struct sizes {
    double T, P, d, n, h, r, E, active;
} sizes;

typedef struct stage {
    const char *name;
    int is_backward;
    void (*count)(const sizes *z, double *flops, double *elements);
} stage;

static void router(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->T * z->d * z->r;
    *elements = z->T * z->d + z->r * z->d + z->T * z->r;
}

static void up(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->P * z->d * z->h;
    *elements = z->P * z->d + z->active * z->h * z->d + z->P * z->h + z->P * z->n;
}

static void down(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->P * z->d * z->n;
    *elements = z->P * z->n + z->active * z->d * z->n + z->P * z->d;
}

static void gather_sum(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->P * z->d;
    *elements = z->P * z->d + z->T * z->d;
}

static void d_hidden(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->P * z->d * z->n;
    *elements = z->P * z->d + z->active * z->d * z->n + 2 * z->P * z->h + z->P * z->n;
}

static void d_down(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->P * z->d * z->n;
    *elements = z->P * z->d + z->P * z->n + z->E * z->d * z->n;
}

static void d_rows(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->P * z->h * z->d;
    *elements = z->P * z->h + z->active * z->h * z->d + z->P * z->d;
}

static void d_up(const sizes *z, double *flops, double *elements) {
    *flops = 2 * z->P * z->h * z->d;
    *elements = z->P * z->d + z->P * z->h + z->E * z->h * z->d;
}

static void d_router(const sizes *z, double *flops, double *elements) {
    *flops = 4 * z->T * z->d * z->r;
    *elements = 2 * z->T * z->d + 2 * z->r * z->d + z->T * z->r;
}

/* Stages of routed experts first; those from `router` on are not stages of an expert. */
static const stage stages[] = {
    {"A", 0, up},          {"Y", 0, down},
    {"O", 0, gather_sum},  {"dH", 1, d_hidden},
    {"dW2", 1, d_down},    {"dXp", 1, d_rows},
    {"dX", 1, gather_sum}, {"dW1", 1, d_up},
    {"router", 0, router}, {"router_backward", 1, d_router},
};

#define SHARED_SUFFIX "_shared"

/* The shared expert is one expert of its own width that sees every token. */
static sizes sizes_of(const moe_layer_desc *desc, int is_shared, int64_t tokens, int64_t pairs,
                      int64_t active) {
    int64_t n = is_shared ? desc->n_shared : desc->n;
    return (sizes){.T = (double)tokens,
                   .P = (double)(is_shared ? tokens : pairs),
                   .d = (double)desc->d,
                   .n = (double)n,
                   .h = (double)moe_h_width(desc, n),
                   .r = (double)(desc->E + desc->n_zero),
                   .E = is_shared ? 1 : (double)desc->E,
                   .active = is_shared ? 1 : (double)active};
}

const char *moe_stage_name(size_t i, int *ret_is_backward) {
    if (i >= sizeof stages / sizeof *stages)
        return NULL;
    if (ret_is_backward)
        *ret_is_backward = stages[i].is_backward;
    return stages[i].name;
}

moe_status moe_stage_cost(const moe_layer_desc *desc, const char *name, int64_t tokens,
                          int64_t pairs, int64_t active, size_t size, moe_cost *ret) {
    size_t length = strcspn(name, "_");
    int is_shared = strcmp(name + length, SHARED_SUFFIX) == 0;
    sizes z = sizes_of(desc, is_shared, tokens, pairs, active);
    if (!is_shared)
        length = strlen(name);
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        if (strlen(stages[i].name) != length || strncmp(stages[i].name, name, length) != 0)
            continue;
        double elements;
        memset(ret, 0, sizeof *ret);
        snprintf(ret->name, sizeof ret->name, "%s", name);
        stages[i].count(&z, &ret->flops, &elements);
        ret->hbm_bytes = elements * (double)size;
        return MOE_OK;
    }
    return MOE_E_NOTFOUND;
}

void moe_roofline_time(const moe_roofline *roofline, moe_cost *cost) {
    double gemm = 1e6 * cost->flops / roofline->gemm_flops;
    double memory = 1e6 * cost->hbm_bytes / roofline->memory_rate;
    cost->us = cost->floor_us = gemm > memory ? gemm : memory;
    snprintf(cost->bound_by, sizeof cost->bound_by, "%s", gemm > memory ? "gemm" : "memory");
}
