#include "sim/kernels/schedule.h"

#include <math.h>
#include <string.h>

/* SMs that are free at the same time. Few such times exist, however many tiles are placed: a batch
 * splits one group at most. */
typedef struct group {
    double at;
    double sms;
} group;

typedef struct groups {
    group g[MOE_INT_SMS_MAX + 1]; /* ascending */
    int count;
} groups;

#define SAME 1e-12 /* relative; sums of the same costs in another order */

static void insert(groups *all, double at, double sms) {
    int i = all->count;
    while (i > 0 && all->g[i - 1].at > at * (1 + SAME))
        i--;
    if (i > 0 && all->g[i - 1].at >= at * (1 - SAME)) {
        all->g[i - 1].sms += sms;
        return;
    }
    memmove(&all->g[i + 1], &all->g[i], (size_t)(all->count - i) * sizeof *all->g);
    all->g[i] = (group){at, sms};
    all->count++;
}

static void take_earliest(groups *all, double cost, double *left) {
    const group first = all->g[0];
    const double taken = moe_int_least(first.sms, *left);
    if (taken == first.sms)
        memmove(&all->g[0], &all->g[1], (size_t)--all->count * sizeof *all->g);
    else
        all->g[0].sms -= taken;
    insert(all, first.at + cost, taken);
    *left -= taken;
}

/* Rounds in which every SM takes a tile change no order; only the last few SMs' worth of tiles of
 * each batch are placed group by group. */
static void take_batch(groups *all, double sms, moe_int_batch b) {
    if (b.cost <= 0 || b.count <= 0)
        return;
    const double spread = ceil((all->g[all->count - 1].at - all->g[0].at) / b.cost);
    const double rounds = moe_int_most(0, floor(b.count / sms - spread));
    double left = b.count - rounds * sms;
    for (int i = 0; i < all->count; i++)
        all->g[i].at += rounds * b.cost;
    while (left > 0)
        take_earliest(all, b.cost, &left);
}

void moe_int_schedule_tiles(const moe_int_batch *batches, int64_t count, double sms,
                            moe_int_schedule *ret) {
    groups all;
    double busy = 0, idle = 0;
    all.g[0] = (group){0, sms};
    all.count = 1;
    for (int64_t i = 0; i < count; i++) {
        take_batch(&all, sms, batches[i]);
        busy += batches[i].cost * batches[i].count;
    }
    ret->full = all.g[0].at;
    ret->end = all.g[all.count - 1].at;
    for (int i = 0; i < all.count; i++)
        idle += (all.g[i].at - ret->full) * all.g[i].sms;
    ret->active = ret->end > ret->full ? moe_int_most(1, idle / (ret->end - ret->full)) : sms;
    ret->busy = busy;
}
