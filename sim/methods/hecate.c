/* Hecate (FSSDP): experts' weights are sharded over all ranks; those of the t hottest experts are
 * gathered everywhere while the layer before computes, and their tokens stay at home. t is as many
 * as arrive in that time, t = time * rate / bytes of an expert; --chunks sets another. */
#include "sim/devices/devices.h"

#include <math.h>
#include <stdlib.h>

static double expert_bytes(const moe_int_devices *x) {
    const double h = (double)moe_h_width(x->layer, x->layer->n);
    return (h + (double)x->layer->n) * x->d * x->element;
}

/* Gathering one expert, which a rank has 1/ranks of. */
static double gather_us(const moe_int_devices *x) {
    const moe_int_load load =
        moe_int_collective_load(x->node, MOE_INT_ALL_GATHER, x->ranks, 1, expert_bytes(x));
    return moe_int_transfer_link_us(x->node, MOE_INT_CARRIER_RING, &load);
}

static int64_t replicas(const moe_int_devices *x) {
    const double covered = floor(x->o->beside_us / gather_us(x) + 1e-9);
    return (int64_t)fmin(x->E, x->o->chunks > 0 ? (double)x->o->chunks : covered);
}

/* The hottest expert that is not yet in the set. */
static int64_t hottest(const moe_int_devices *x, const int32_t *owner) {
    int64_t best = -1;
    for (int64_t e = 0; e < x->layer->E; e++) {
        if (owner[e] >= 0 && (best < 0 || x->counts[e] > x->counts[best]))
            best = e;
    }
    return best;
}

/* Takes `count` experts out of `rest` and gives them to the group in `hot`. */
static void split(const moe_int_devices *x, int64_t count, int32_t *rest, int32_t *hot) {
    for (int64_t e = 0; e < x->layer->E; e++) {
        rest[e] = x->owner[e];
        hot[e] = -1;
    }
    for (int64_t i = 0; i < count; i++) {
        const int64_t e = hottest(x, rest);
        rest[e] = -1;
        hot[e] = (int32_t)x->group;
    }
}

static moe_int_local local_of(moe_int_devices *x, int32_t *owner, double share) {
    int32_t *kept = x->owner;
    x->owner = owner;
    const moe_int_local l = moe_int_devices_all(x, share);
    x->owner = kept;
    return l;
}

static void add_tasks(moe_int_devices *x, int64_t count, int32_t *rest, int32_t *hot) {
    const moe_int_local own = local_of(x, rest, 1), home = local_of(x, hot, 1 / x->ranks);
    int32_t *kept = x->owner;
    x->owner = rest;
    const moe_int_load rows = moe_int_devices_rows(x, 1, x->d * x->element);
    x->owner = kept;
    const int beside = moe_int_tl_add(&x->t, "beside the layer", MOE_INT_TL_OTHER, MOE_INT_TL_COUNT,
                                      x->o->beside_us, 0, MOE_INT_NO_TASK, MOE_INT_NO_TASK);
    const int weights = moe_int_devices_send(
        x, moe_int_pass_name(x, "hot experts in", "hot experts' gradients out"), x->hosts > 1,
        (double)count * gather_us(x), (double)count * expert_bytes(x) * (x->ranks - 1) / x->ranks,
        MOE_INT_NO_TASK);
    /* The layer starts when what was beside it has ended; hot experts when they are there. */
    int last = moe_int_devices_move(x, moe_int_pass_name(x, "dispatch X", "dispatch dO"),
                                    MOE_INT_CARRIER_ALLTOALL, &rows, beside);
    moe_int_tl_add(&x->t, "hot experts", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, moe_int_local_us(&home),
                   0, beside, weights);
    last = moe_int_tl_add(&x->t, "experts", MOE_INT_TL_SMS, MOE_INT_TL_COUNT,
                          moe_int_local_us(&own), 0, last, MOE_INT_NO_TASK);
    moe_int_devices_move(x, moe_int_pass_name(x, "combine Y", "combine dX~"),
                         MOE_INT_CARRIER_ALLTOALL, &rows, last);
}

static void run(moe_int_devices *x) {
    const size_t E = (size_t)x->layer->E;
    int32_t *rest = malloc(E * sizeof *rest), *hot = malloc(E * sizeof *hot);
    if (rest && hot) {
        const int64_t count = replicas(x);
        split(x, count, rest, hot);
        add_tasks(x, count, rest, hot);
    } else {
        x->t.out_of_memory = true;
    }
    free(rest);
    free(hot);
}

const moe_int_devices_method moe_int_devices_hecate = {
    .brief = "Hecate: hot experts gathered everywhere beside other work (--beside-us)",
    .run = run,
    .whole = true};
