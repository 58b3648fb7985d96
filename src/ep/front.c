/* The table of a backend whose layers run over ranks, and a thread for each rank. */
#include "ep/rank.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static moe_status supports(void *self, const moe_layer_desc *desc, const moe_use *use,
                           moe_support *ret) {
    const moe_int_ep_device *dev = self;
    int64_t sum = 0;
    moe_status status = moe_refuse_unknown(desc, ret);
    for (int32_t q = 0; dev->tokens && q < dev->params.ranks; q++)
        sum += dev->tokens[q];
    if (!status && dev->tokens && sum != use->tokens) {
        snprintf(ret->reason, sizeof ret->reason, "ranks have %lld tokens, the layer has %lld",
                 (long long)sum, (long long)use->tokens);
        return MOE_E_UNSUPPORTED;
    }
    if (!status && dev->params.padding == MOE_EP_PAD_CAPACITY &&
        (use->plan_given || desc->router.select != MOE_SELECT_CAPACITY)) {
        snprintf(ret->reason, sizeof ret->reason,
                 "padding up to a capacity needs a router that has one: select=capacity");
        return MOE_E_UNSUPPORTED;
    }
    if (!status)
        status = moe_int_ep_supports(dev, desc, use, ret);
    if (!status && dev->params.wire >= 0 && /* rows that are rounded on their way */
        moe_dtype_roundoff((moe_dtype)dev->params.wire) >
            moe_dtype_roundoff((moe_dtype)ret->arithmetic))
        ret->arithmetic = dev->params.wire;
    return status;
}

/* ---- layers ---- */

/* Ranks that hold their share of a whole number of tokens: about (r+1)^-skew parts each. */
static int64_t skewed_first(const moe_int_ep_layer *l, int32_t rank) {
    const moe_ep_params *p = &l->dev->params;
    double before = 0, all = 0;
    for (int32_t q = 0; q < p->ranks; q++) {
        const double part = pow(q + 1, -p->skew);
        before += q < rank ? part : 0;
        all += part;
    }
    return rank == p->ranks ? l->use.tokens : (int64_t)(before / all * (double)l->use.tokens);
}

int64_t moe_int_ep_first_token(const moe_int_ep_layer *l, int32_t rank) {
    int64_t first = 0;
    if (!l->dev->tokens)
        return l->dev->params.skew != 0 ? skewed_first(l, rank)
                                        : rank * l->use.tokens / l->dev->params.ranks;
    for (int32_t q = 0; q < rank; q++)
        first += l->dev->tokens[q];
    return first;
}

static void release(void *self) {
    moe_int_ep_layer *l = self;
    for (int32_t i = 0; l->rank && i < l->dev->count; i++)
        moe_int_ep_rank_clear(&l->rank[i]);
    for (int32_t q = 0; l->plans && q < l->dev->params.ranks; q++)
        moe_plan_destroy(&l->plans[q]);
    moe_plan_destroy(&l->plan);
    free(l->plans);
    free(l->rank);
    moe_ep_slots_destroy(&l->slots);
    free(l);
}

static moe_status make_rank(moe_int_ep_layer *l, int32_t i) {
    moe_int_ep_device *dev = l->dev;
    const int32_t rank = dev->first + i;
    moe_int_ep_rank *r = &l->rank[i];
    r->layer = l;
    r->inner = &dev->inner[dev->n_inner > 1 ? i : 0];
    r->comm = (moe_int_comm){.transport = dev->transport,
                             .rank = rank,
                             .ranks = dev->params.ranks,
                             .delay_us = dev->params.delay_us,
                             .seed = dev->params.seed};
    r->token = moe_int_ep_first_token(l, rank);
    r->T = moe_int_ep_first_token(l, rank + 1) - r->token;
    return moe_int_ep_describe(l, rank, r);
}

static moe_status prepare(void *self, const moe_layer_desc *desc, const moe_use *use,
                          const moe_tensors *params, void **ret) {
    moe_int_ep_device *dev = self;
    moe_int_ep_layer *l = calloc(1, sizeof *l);
    if (!l)
        return moe_fail(&dev->log, MOE_E_NOMEM, "no memory for a layer over ranks");
    *l = (moe_int_ep_layer){.dev = dev, .desc = *desc, .use = *use, .params = *params};
    l->rank = calloc((size_t)dev->count, sizeof *l->rank);
    l->plans = calloc((size_t)dev->params.ranks, sizeof *l->plans);
    moe_status status =
        l->rank && l->plans ? moe_int_ep_supports(dev, desc, use, &l->inner) : MOE_E_NOMEM;
    if (!status)
        status = moe_ep_slots_make(desc->E, dev->params.ranks, dev->params.tp, dev->params.replicas,
                                   dev->params.n_replicas, &dev->log, &l->slots);
    if (status) {
        release(l);
        return moe_fail(&dev->log, status, "a layer over ranks cannot be made");
    }
    l->pad = (moe_int_pad){dev->params.padding, dev->params.padding == MOE_EP_PAD_CAPACITY
                                                    ? desc->router.capacity
                                                    : dev->params.pad};
    l->held = l->inner.arithmetic == MOE_F64 ? MOE_F64 : MOE_F32;
    l->wire =
        (moe_ep_wire){.d = desc->d,
                      .input = use->dtype,
                      .output = dev->params.wire >= 0 ? dev->params.wire : l->inner.arithmetic,
                      .weight = (int32_t)l->held,
                      .coded = dev->coded};
    for (int32_t i = 0; !status && i < dev->count; i++)
        status = make_rank(l, i);
    if (status)
        release(l);
    else
        *ret = l;
    return status;
}

static moe_tensor rows_of(const moe_tensor *all, const moe_int_ep_rank *r) {
    moe_tensor rows = *all;
    if (!all->data)
        return rows;
    rows.data = (char *)all->data + r->token * all->shape[1] * (int64_t)moe_dtype_size(all->dtype);
    rows.shape[0] = r->T;
    return rows;
}

static moe_status set_input(void *self, const moe_input *input) {
    moe_int_ep_layer *l = self;
    l->input = *input;
    for (int32_t i = 0; i < l->dev->count; i++) {
        l->rank[i].X = rows_of(&input->X, &l->rank[i]);
        l->rank[i].dO = rows_of(&input->dO, &l->rank[i]);
    }
    return MOE_OK;
}

/* ---- passes ---- */

typedef moe_status (*pass_fn)(moe_int_ep_rank *r);

typedef struct job {
    moe_int_ep_rank *r;
    pass_fn pass;
} job;

/* A rank that cannot go on says so: the others need not wait. */
static void *run_rank(void *user) {
    const job *j = user;
    moe_int_ep_rank *r = j->r;
    char why[sizeof r->why + 32];
    const double start = moe_transport_now_s();
    r->why[0] = '\0';
    r->comm.exchange_s = 0;
    r->status = j->pass(r);
    r->time = (moe_ep_time){1e6 * (moe_transport_now_s() - start), 1e6 * r->comm.exchange_s};
    if (r->status && r->status != MOE_E_DEVICE) {
        snprintf(why, sizeof why, "rank %d: %s", (int)r->comm.rank,
                 r->why[0] ? r->why : moe_status_str(r->status));
        r->comm.transport->abandon(r->comm.group, r->comm.rank, why);
    }
    return NULL;
}

static void run_threads(moe_int_ep_layer *l, pass_fn pass) {
    pthread_t thread[MOE_EP_MAX_RANKS];
    bool started[MOE_EP_MAX_RANKS] = {false};
    job jobs[MOE_EP_MAX_RANKS];
    for (int32_t i = 0; i < l->dev->count; i++) {
        jobs[i] = (job){&l->rank[i], pass};
        if (l->dev->count > 1)
            started[i] = pthread_create(&thread[i], NULL, run_rank, &jobs[i]) == 0;
        else
            run_rank(&jobs[i]);
        if (l->dev->count > 1 && !started[i]) {
            l->rank[i].status = MOE_E_NOMEM;
            l->dev->transport->abandon(l->dev->group, l->rank[i].comm.rank, "no thread for a rank");
        }
    }
    for (int32_t i = 0; i < l->dev->count; i++)
        if (started[i])
            pthread_join(thread[i], NULL);
}

/* What one rank did is the backend's fault: a verdict, not an error of whoever judges it. */
static moe_status outcome(moe_int_ep_layer *l, bool backward) {
    moe_int_ep_device *dev = l->dev;
    moe_status worst = MOE_OK;
    for (int32_t i = 0; i < dev->count; i++) {
        dev->traffic[dev->first + i] = l->rank[i].comm.sent;
        dev->time[dev->first + i][backward] = l->rank[i].time;
        if (!worst || worst == MOE_E_DEVICE)
            worst = l->rank[i].status ? l->rank[i].status : worst;
    }
    if (!worst || worst == MOE_E_NOMEM)
        return worst;
    moe_int_caller_fault(dev->caller, "%s", dev->transport->fault(dev->group));
    moe_int_ep_close_group(dev);
    return MOE_E_CONTRACT;
}

static moe_status run_pass(moe_int_ep_layer *l, pass_fn pass) {
    moe_status status = l->dev->group ? MOE_OK : moe_int_ep_open_group(l->dev);
    for (int32_t i = 0; i < l->dev->count; i++)
        l->rank[i].comm.group = l->dev->group;
    if (status)
        return status;
    run_threads(l, pass);
    return outcome(l, pass == moe_int_ep_backward);
}

static moe_status forward(void *self) {
    moe_int_ep_layer *l = self;
    for (int32_t i = 0; i < l->dev->count; i++)
        l->rank[i].comm.sent = (moe_ep_traffic){0};
    moe_status status = run_pass(l, moe_int_ep_forward);
    return status ? status : moe_int_ep_gather_plan(l);
}

static moe_status backward(void *self) {
    return run_pass(self, moe_int_ep_backward);
}

static moe_status routing(void *self, const moe_plan **ret) {
    *ret = ((moe_int_ep_layer *)self)->plan;
    return MOE_OK;
}

/* Of each stage the slowest rank's of this process. */
static size_t timings(void *self, moe_cost *ret, size_t capacity) {
    static const moe_stage stages[] = {
        MOE_STAGE_METADATA,      MOE_STAGE_DISPATCH,     MOE_STAGE_EXPERTS, MOE_STAGE_O,
        MOE_STAGE_DISPATCH_BACK, MOE_STAGE_EXPERTS_BACK, MOE_STAGE_DX};
    const moe_int_ep_layer *l = self;
    size_t count = 0;
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        moe_cost cost = {.us = 0};
        snprintf(cost.name, sizeof cost.name, "%s", moe_stage_name(stages[i]));
        for (int32_t r = 0; r < l->dev->count; r++)
            cost.us = fmax(cost.us, l->rank[r].stage_us[stages[i]]);
        if (cost.us > 0 && count < capacity)
            ret[count++] = cost;
    }
    return count;
}

/* Ranks of one process share its devices' rates; what other processes have is not known here. */
static moe_status roofline(void *self, moe_roofline *ret) {
    const moe_int_ep_device *dev = self;
    moe_status status = dev->count < dev->params.ranks
                            ? MOE_E_UNSUPPORTED
                            : moe_backend_roofline(dev->inner[0].backend, ret);
    if (!status) {
        ret->gemm_flops *= dev->n_inner;
        ret->memory_rate *= dev->n_inner;
    }
    return status;
}

const moe_plugin moe_int_ep_table = {
    .abi = MOE_PLUGIN_ABI,
    .name = "ep",
    .brief = "another backend over ranks",
    .close = moe_int_ep_close_device,
    .supports = supports,
    .prepare = prepare,
    .release = release,
    .set_input = set_input,
    .forward = forward,
    .backward = backward,
    .fetch = moe_int_ep_layer_fetch,
    .routing = routing,
    .timings = timings,
    .roofline = roofline,
};
