/* Tokens whose choice the rounding margin leaves open. */
#include "check/routing/choice.h"
#include "check/routing/routing.h"
#include "core/elements.h"

#include <stdlib.h>

enum { CHUNK = 1024 /* tokens at a time: margins take three times the room of the logits */ };

/* A run of tokens as a problem of its own; everything is borrowed. */
static moe_problem part_of(const moe_problem *problem, int64_t first, int64_t count) {
    moe_problem part = *problem;
    moe_tensor *x = &part.in.t[MOE_T_X];
    part.T = count;
    part.masked = NULL;
    x->shape[0] = count;
    x->data = (char *)x->data + (size_t)(first * x->shape[1]) * moe_dtype_size(x->dtype);
    return part;
}

/* Chosen logits down, all others up: as far from `plan` as the margin allows. */
static void lean_away(const moe_plan *plan, int64_t first, int64_t count, const double *z,
                      const double *up, const double *down, double *ret) {
    int64_t n = plan->n_experts;
    for (int64_t t = 0; t < count; t++) {
        int64_t next = 0, k = moe_int_experts_of(plan, first + t);
        for (int64_t e = 0; e < n; e++) {
            int64_t i = t * n + e;
            bool in = next < k && moe_int_expert_at(plan, first + t, next) == e;
            double least = moe_int_tie_break(z[i]);
            next += in;
            ret[i] = z[i] + (in ? -down[i] - least : up[i] + least);
        }
    }
}

/* The work of one chunk: [CHUNK][n] each, and the selection bias. */
typedef struct ties_work {
    double *up, *down, *z, *b_select;
} ties_work;

static moe_status scan(const moe_problem *problem, const moe_int_routing *routing, int64_t first,
                       int64_t count, const moe_int_reading *reading, int threads,
                       const ties_work *w, int64_t most, int64_t *ret, int64_t *ret_count) {
    const moe_problem part = part_of(problem, first, count);
    int64_t n = routing->plan->n_experts;
    const double *z = routing->logits + first * n;
    moe_plan *other = NULL;
    moe_status status = moe_int_routing_margin(&part, z, reading, threads, w->up, w->down);
    if (status)
        return status;
    lean_away(routing->plan, first, count, z, w->up, w->down, w->z);
    status = moe_route(&problem->layer, count, w->z, w->b_select, problem->seed, NULL, &other);
    for (int64_t t = 0; !status && t < count && *ret_count < most; t++)
        if (!moe_int_same_choices(other, t, routing->plan, first + t))
            ret[(*ret_count)++] = first + t;
    moe_plan_destroy(&other);
    return status;
}

moe_status moe_int_routing_ties(const moe_problem *problem, const moe_int_routing *routing,
                                const moe_int_reading *reading, int threads, int64_t most,
                                int64_t *ret, int64_t *ret_count) {
    size_t room = (size_t)(CHUNK * routing->plan->n_experts);
    ties_work w = {.up = malloc(room * sizeof *w.up),
                   .down = malloc(room * sizeof *w.down),
                   .z = malloc(room * sizeof *w.z)};
    bool bias = problem->layer.router.select_bias != 0;
    if (bias)
        w.b_select = moe_int_doubles(&problem->in.t[MOE_T_B_SELECT], 0, routing->plan->n_experts);
    moe_status status = w.up && w.down && w.z && (!bias || w.b_select) ? MOE_OK : MOE_E_NOMEM;
    *ret_count = 0;
    for (int64_t t = 0; !status && t < problem->T && *ret_count < most; t += CHUNK) {
        int64_t count = problem->T - t < CHUNK ? problem->T - t : CHUNK;
        status = scan(problem, routing, t, count, reading, threads, &w, most, ret, ret_count);
    }
    free(w.up);
    free(w.down);
    free(w.z);
    free(w.b_select);
    return status;
}
