/* Opening a backend whose layers run over ranks, and what it tells about itself. */
#include "ep/rank.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double default_limit_s = 10;
static const int64_t most_pad = 1 << 20;

static const moe_ep_fault faults[] = {
#define MOE_INT_EP_FAULT_ROW(value, name, what) {name, what},
    MOE_INT_EP_FAULTS(MOE_INT_EP_FAULT_ROW)
#undef MOE_INT_EP_FAULT_ROW
};

const moe_ep_fault *moe_ep_faults(size_t *ret_count) {
    *ret_count = sizeof faults / sizeof *faults;
    return faults;
}

moe_status moe_int_ep_open_group(moe_int_ep_device *dev) {
    const moe_transport_params params = {dev->params.ranks, dev->params.limit_s, &dev->log};
    moe_status status = dev->transport->open(&params, &dev->group);
    if (!status)
        dev->transport->place(dev->group, &dev->first, &dev->count);
    return status;
}

void moe_int_ep_close_group(moe_int_ep_device *dev) {
    if (dev->group)
        dev->transport->close(dev->group);
    dev->group = NULL;
}

void moe_int_ep_close_device(void *self) {
    moe_int_ep_device *dev = self;
    moe_int_ep_close_group(dev);
    for (int32_t i = 0; i < dev->n_inner; i++)
        pthread_mutex_destroy(&dev->inner[i].lock);
    free(dev->inner);
    free(dev->tokens);
    free(dev->replicas);
    free(dev);
}

static moe_status find_fault(const char *name, const moe_log *log, moe_int_ep_fault *ret) {
    *ret = MOE_INT_EP_RIGHT;
    for (size_t i = 0; name && i < sizeof faults / sizeof *faults; i++)
        if (strcmp(faults[i].name, name) == 0)
            *ret = (moe_int_ep_fault)(i + 1);
    return name && !*ret ? moe_fail(log, MOE_E_NOTFOUND, "no fault is called '%s'", name) : MOE_OK;
}

static moe_status check_params(const moe_ep_params *p, const moe_log *log) {
    if (p->ranks < 1 || p->ranks > MOE_EP_MAX_RANKS)
        return moe_fail(log, MOE_E_INVALID, "%d ranks; 1 to %d are possible", (int)p->ranks,
                        MOE_EP_MAX_RANKS);
    if (p->tp < 0 || (p->tp > 0 && p->ranks % p->tp))
        return moe_fail(log, MOE_E_INVALID, "%d ranks are no whole groups of tp=%d", (int)p->ranks,
                        (int)p->tp);
    if (p->combine < 0 || p->combine >= MOE_EP_COMBINE_COUNT)
        return moe_fail(log, MOE_E_INVALID, "combine = %d is neither pairs nor ranks",
                        (int)p->combine);
    if (p->wire >= 0 && p->wire != MOE_EP_WIRE_E4M3 && moe_dtype_roundoff((moe_dtype)p->wire) == 0)
        return moe_fail(log, MOE_E_INVALID, "rows on the wire need a floating type");
    if (p->padding < 0 || p->padding >= MOE_EP_PADDING_COUNT || p->pad < 0 || p->pad > most_pad)
        return moe_fail(log, MOE_E_INVALID, "padding %d to a multiple of %lld rows, at most %lld",
                        (int)p->padding, (long long)p->pad, (long long)most_pad);
    if (p->padding == MOE_EP_PAD_CAPACITY && p->combine != MOE_EP_PAIRS)
        return moe_fail(log, MOE_E_INVALID, "padding up to a capacity needs combine=pairs");
    for (int32_t q = 0; p->tokens && q < p->ranks; q++)
        if (p->tokens[q] < 0)
            return moe_fail(log, MOE_E_INVALID, "rank %d has %lld tokens", (int)q,
                            (long long)p->tokens[q]);
    return MOE_OK;
}

/* NULL: none, or no memory. */
static int64_t *copy_list(const int64_t *list, int64_t count) {
    int64_t *ret = list ? calloc((size_t)count + 1, sizeof *ret) : NULL;
    return ret ? memcpy(ret, list, (size_t)count * sizeof *ret) : NULL;
}

static moe_status make_device(moe_backend *const *inner, int32_t count, const moe_ep_params *params,
                              const moe_log *log, moe_int_ep_device **ret) {
    moe_int_ep_device *dev = calloc(1, sizeof *dev);
    if (!dev)
        return MOE_E_NOMEM;
    *ret = dev;
    dev->params = *params;
    dev->transport = params->transport ? params->transport : moe_transport_threads();
    dev->params.pad = params->pad > 0 ? params->pad : 1;
    dev->coded = params->wire == MOE_EP_WIRE_E4M3;
    if (dev->coded)
        dev->params.wire = MOE_EP_WIRE_OWN;
    dev->params.limit_s = params->limit_s > 0 ? params->limit_s : default_limit_s;
    if (log)
        dev->log = *log;
    dev->inner = calloc((size_t)count, sizeof *dev->inner);
    dev->tokens = copy_list(params->tokens, params->ranks);
    dev->replicas = copy_list(params->replicas, params->n_replicas);
    if (!dev->inner || (params->tokens && !dev->tokens) || (params->replicas && !dev->replicas))
        return MOE_E_NOMEM;
    dev->params.replicas = dev->replicas;
    dev->params.n_replicas = params->replicas ? params->n_replicas : 0;
    dev->n_inner = count;
    for (int32_t i = 0; i < count; i++) {
        dev->inner[i].backend = inner[i];
        pthread_mutex_init(&dev->inner[i].lock, NULL);
    }
    return find_fault(params->fault, log, &dev->fault);
}

/* Rows of nobody change no result, but every size and time. */
static void name_it(const moe_int_ep_device *dev, char *ret, size_t size) {
    const moe_ep_params *p = &dev->params;
    char padding[64] = "";
    if (p->padding != MOE_EP_PAD_NONE)
        snprintf(padding, sizeof padding, ", padding %s", moe_ep_padding_name(p->padding));
    snprintf(ret, size, "%s over %d ranks, %s, %s%s", moe_backend_name(dev->inner[0].backend),
             (int)p->ranks, moe_ep_combine_name(p->combine), dev->transport->name, padding);
}

moe_status moe_ep_open(moe_backend *const *inner, int32_t count, const moe_ep_params *params,
                       const moe_log *log, moe_backend **ret) {
    moe_int_ep_device *dev = NULL;
    char name[256];
    moe_status status = check_params(params, log);
    if (status)
        return status;
    status = make_device(inner, count, params, log, &dev);
    if (!status)
        status = moe_int_ep_open_group(dev);
    if (!status && dev->fault == MOE_INT_EP_RANK_DIES && dev->count == dev->params.ranks)
        status = moe_fail(log, MOE_E_UNSUPPORTED,
                          "rank_dies kills a process; the ranks of %s are threads of one",
                          dev->transport->name);
    if (!status) {
        name_it(dev, name, sizeof name);
        status = moe_int_backend_wrap(&moe_int_ep_table, dev, name, log, ret);
    }
    if (status && dev)
        moe_int_ep_close_device(dev);
    if (!status)
        dev->caller = &(*ret)->caller;
    return status;
}

/* ---- what it tells ---- */

const moe_plan *moe_ep_received(const moe_layer *layer, int32_t rank, int32_t backward,
                                const moe_tensor **ret_rows) {
    const moe_int_ep_layer *l = moe_int_layer_plugged(layer);
    const int32_t i = rank - l->dev->first;
    if (i < 0 || i >= l->dev->count)
        return NULL;
    *ret_rows = backward ? &l->rank[i].experts.dO : &l->rank[i].experts.X;
    return l->rank[i].handle.plan;
}

void moe_ep_place(const moe_backend *backend, int32_t *ret_first, int32_t *ret_count) {
    const moe_int_ep_device *dev = backend->device;
    *ret_first = dev->first;
    *ret_count = dev->count;
}

moe_status moe_ep_gather(const moe_backend *backend, const void *mine, int64_t bytes, void *ret) {
    const moe_int_ep_device *dev = backend->device;
    int64_t all[MOE_EP_MAX_RANKS];
    moe_int_comm comm = {.transport = dev->transport,
                         .group = dev->group,
                         .rank = dev->first,
                         .ranks = dev->params.ranks};
    if (dev->count == dev->params.ranks) {
        memcpy(ret, mine, (size_t)(bytes * dev->count));
        return MOE_OK;
    }
    for (int32_t q = 0; q < comm.ranks; q++)
        all[q] = bytes;
    return dev->group ? moe_int_comm_gather(&comm, MOE_EP_RESULTS, mine, ret, all) : MOE_E_DEVICE;
}

moe_status moe_ep_time_of(const moe_backend *backend, int32_t rank, int32_t backward,
                          moe_ep_time *ret) {
    const moe_int_ep_device *dev = backend->device;
    if (rank < dev->first || rank >= dev->first + dev->count)
        return MOE_E_INVALID;
    *ret = dev->time[rank][backward != 0];
    return MOE_OK;
}

moe_status moe_ep_traffic_of(const moe_backend *backend, int32_t rank, moe_ep_traffic *ret) {
    const moe_int_ep_device *dev = backend->device;
    if (rank < dev->first || rank >= dev->first + dev->count)
        return MOE_E_INVALID;
    *ret = dev->traffic[rank];
    return MOE_OK;
}

const moe_ep_slots *moe_ep_slots_of(const moe_layer *layer) {
    const moe_int_ep_layer *l = moe_int_layer_plugged(layer);
    return &l->slots;
}

moe_status moe_ep_layout_of(const moe_layer *layer, moe_ep_layout *ret, moe_ep_wire *ret_wire) {
    const moe_int_ep_layer *l = moe_int_layer_plugged(layer);
    if (!l->plan)
        return MOE_E_INVALID;
    *ret_wire = l->wire;
    moe_status status = moe_ep_layout_of_slots((const moe_plan *const *)l->plans, &l->slots,
                                               l->dev->params.combine, ret);
    if (!status)
        moe_ep_layout_pad(ret, l->pad.where, l->pad.rows);
    return status;
}
