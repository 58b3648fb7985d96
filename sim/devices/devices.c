/* What ranks of a spread layer compute and send. */
#include "sim/devices/devices.h"
#include "sim/kernels/rates.h"

#include <math.h>
#include <stdlib.h>

int64_t moe_int_devices_experts(const moe_int_devices *x, int64_t group) {
    int64_t count = 0;
    for (int64_t e = 0; e < x->layer->E; e++)
        count += x->owner[e] == group;
    return count;
}

double moe_int_devices_pairs(const moe_int_devices *x, int64_t group) {
    double sum = 0;
    for (int64_t e = 0; e < x->layer->E; e++)
        sum += x->owner[e] == group ? (double)x->counts[e] : 0;
    return sum;
}

/* Adds a kernel's time to the part of the pass that it belongs to. */
static void sort_kernel(const moe_kernel *k, moe_int_local *l) {
    switch ((int)moe_stage_info_of((moe_stage)k->stage).part_of) {
    case MOE_STAGE_Y:
    case MOE_STAGE_DXP:
        l->second += k->cost.us;
        break;
    case MOE_STAGE_O:
    case MOE_STAGE_DX:
        l->sum += k->cost.us;
        break;
    case MOE_STAGE_DW1:
    case MOE_STAGE_DW2:
        l->rest += k->cost.us;
        break;
    default:
        l->first += k->cost.us;
    }
}

/* The layer that a GPU sees: some experts, part of their width, given routing. */
static moe_layer_desc local_layer(const moe_int_devices *x, int64_t experts) {
    moe_layer_desc d;
    moe_layer_desc_init(&d);
    d.d = x->layer->d;
    d.n = (int64_t)ceil((double)x->layer->n / x->tp);
    d.E = experts;
    d.K = x->layer->K < experts ? x->layer->K : experts;
    d.act = x->layer->act;
    d.act_alpha = x->layer->act_alpha;
    d.act_limit = x->layer->act_limit;
    return d;
}

/* Rows of the group's experts [first, end), thinned; returns the most that one has. */
static int64_t thin(const moe_int_devices *x, int64_t group, int64_t first, int64_t end,
                    double share, int64_t *rows) {
    int64_t seen = 0, most = 1;
    for (int64_t e = 0; e < x->layer->E; e++) {
        if (x->owner[e] != group)
            continue;
        if (seen >= first && seen < end) {
            rows[seen - first] = (int64_t)ceil((double)x->counts[e] * share);
            most = rows[seen - first] > most ? rows[seen - first] : most;
        }
        seen++;
    }
    return most;
}

moe_int_local moe_int_devices_local(moe_int_devices *x, int64_t group, int64_t first, int64_t end,
                                    double share) {
    moe_int_local l = {0};
    moe_prediction *p = NULL;
    const int64_t experts = end - first;
    int64_t *rows = experts > 0 ? calloc((size_t)experts, sizeof *rows) : NULL;
    if (!rows || x->status) {
        free(rows);
        return l;
    }
    moe_workload w = *x->state;
    const moe_layer_desc layer = local_layer(x, experts);
    const int64_t most = thin(x, group, first, end, share, rows);
    double pairs = 0;
    for (int64_t e = 0; e < experts; e++)
        pairs += (double)rows[e];
    w.layer = &layer;
    w.counts = rows;
    w.tokens = (int64_t)fmax((double)most, ceil(pairs / (double)layer.K));
    w.pass = x->backward ? MOE_PASS_BWD : MOE_PASS_FWD;
    x->status = moe_predict(x->gpu, x->compute, &w, x->log, &p);
    for (size_t i = 0; p && i < p->n_kernels; i++)
        sort_kernel(&p->kernels[i], &l);
    l.first += p ? p->overhead_us : 0;
    moe_prediction_destroy(&p);
    free(rows);
    return l;
}

moe_int_local moe_int_devices_all(moe_int_devices *x, double share) {
    return moe_int_devices_local(x, x->group, 0, moe_int_devices_experts(x, x->group), share);
}

/* Experts, whole or not, that a group of this share of the pairs holds in effect. */
static double held(const moe_int_devices *x, int64_t group, double pairs) {
    return pairs > 0 ? x->E * moe_int_devices_pairs(x, group) / pairs : 0;
}

/* Copies that a rank sends to the group for each of its tokens. */
static double copies_to(const moe_int_devices *x, int64_t group, double pairs, bool dedup) {
    return dedup ? moe_int_reach(held(x, group, pairs), x->E, x->K)
                 : moe_int_devices_pairs(x, group) / (x->T * x->ranks);
}

/* All groups send alike; the group with most pairs receives most. A rank of a tensor-parallel group
 * exchanges with its peers of the other groups: the rows of its own tp-th part of the tokens. */
static moe_int_load load_of(const moe_int_devices *x, double share, double row, bool dedup) {
    double pairs = 0, all = 0;
    for (int64_t g = 0; g < (int64_t)x->ep; g++)
        pairs += moe_int_devices_pairs(x, g);
    for (int64_t g = 0; g < (int64_t)x->ep; g++)
        all += copies_to(x, g, pairs, dedup);
    const double tokens = x->T * share, most = copies_to(x, x->group, pairs, dedup);
    const double sent = tokens * (all - all / x->ep), received = tokens * (x->ep - 1) * most;
    const double off = fmax(sent, received) * row;
    const double far = x->hosts > 1 && x->ep > 1 ? off * (x->ep - x->peers) / (x->ep - 1) : 0;
    return (moe_int_load){.ranks = x->ep,
                          .experts = dedup ? 0 : x->E,
                          .tokens = tokens,
                          .copies = fmax(tokens * all, tokens * x->ep * most),
                          .row = row,
                          .token_row = x->d * x->element,
                          .near = off - far,
                          .far = far};
}

moe_int_load moe_int_devices_tokens(const moe_int_devices *x, double share, double row) {
    return load_of(x, share, row, true);
}

moe_int_load moe_int_devices_rows(const moe_int_devices *x, double share, double row) {
    return load_of(x, share, row, false);
}

/* Hosts that a rank sends to for one of its tokens, its own left out: that of the busiest group, or
 * all others. */
static double hosts_reached(const moe_int_devices *x, bool busiest) {
    const int64_t per_host = (int64_t)fmax(1, floor(x->node->p[MOE_INT_NP_GPUS] / x->tp));
    double pairs = 0, most = 0, all = 0;
    for (int64_t g = 0; g < (int64_t)x->ep; g++)
        pairs += moe_int_devices_pairs(x, g);
    for (int64_t first = 0; first < (int64_t)x->ep; first += per_host) {
        double on_host = 0;
        for (int64_t g = first; g < first + per_host && g < (int64_t)x->ep; g++)
            on_host += held(x, g, pairs);
        const double reach = moe_int_reach(on_host, x->E, x->K);
        all += reach;
        most = fmax(most, reach);
    }
    return busiest ? most : all * (1 - 1 / x->hosts);
}

moe_int_load moe_int_devices_forwarded(const moe_int_devices *x, double share, double row) {
    moe_int_load load = moe_int_devices_tokens(x, share, row);
    if (x->hosts < 2)
        return load;
    const double sent = hosts_reached(x, false), received = (x->hosts - 1) * hosts_reached(x, true);
    load.far = load.tokens * fmax(sent, received) * row;
    load.near = load.copies * row * (x->peers - 1) / x->peers;
    return load;
}

double moe_int_devices_stream(const moe_int_devices *x, double bytes) {
    moe_int_rates r;
    moe_int_rates_of(x->gpu, MOE_INT_SYS_GROUPED_MM, x->state, &r);
    return bytes / r.stream + r.kernel_us + r.gap_us;
}

int moe_int_devices_send(moe_int_devices *x, const char *name, bool far, double us, double bytes,
                         int a) {
    return moe_int_tl_add(&x->t, name, far ? MOE_INT_TL_NETWORK : MOE_INT_TL_IN, MOE_INT_TL_OUT, us,
                          bytes, a, MOE_INT_NO_TASK);
}

int moe_int_devices_move(moe_int_devices *x, const char *name, moe_int_carrier carrier,
                         const moe_int_load *load, int a) {
    const double us = x->ep > 1 ? moe_int_transfer_us(x->node, carrier, load) : 0;
    return moe_int_devices_send(x, name, load->far > 0, us, load->near + load->far, a);
}

/* Over the network too where a tensor-parallel group does not fit a host. */
static int collective(moe_int_devices *x, const char *name, moe_int_collective op,
                      const moe_int_load *load, int a) {
    const bool far = x->tp > x->node->p[MOE_INT_NP_GPUS];
    const double bytes = x->tp * load->copies * load->row;
    if (x->tp < 2)
        return a;
    return moe_int_devices_send(x, name, far, moe_int_collective_us(x->node, op, x->tp, bytes),
                                bytes * (x->tp - 1) / x->tp, a);
}

int moe_int_devices_gather(moe_int_devices *x, const moe_int_load *load, int a) {
    return collective(x, "all-gather", MOE_INT_ALL_GATHER, load, a);
}

int moe_int_devices_scatter(moe_int_devices *x, const moe_int_load *load, int a) {
    return collective(x, "reduce-scatter", MOE_INT_REDUCE_SCATTER, load, a);
}
