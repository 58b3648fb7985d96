/* A spread layer, from ranks' loads to a timeline. */
#include "sim/devices/devices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROW(constant, name) &moe_int_devices_##name,
const moe_int_devices_method *const moe_int_devices_methods[MOE_INT_EP_COUNT] = {
    MOE_INT_EP_METHODS(ROW)};

#define NAME(constant, name) #name,
static const char *const names[MOE_INT_EP_COUNT + 1] = {MOE_INT_EP_METHODS(NAME)};

const char *const *moe_ep_methods(void) {
    return names;
}

static moe_int_ep_method find_method(const char *name) {
    int m = 0;
    while (m < MOE_INT_EP_COUNT && strcmp(names[m], name) != 0)
        m++;
    return (moe_int_ep_method)m;
}

const char *moe_ep_method_brief(const char *method) {
    const moe_int_ep_method m = find_method(method);
    return m == MOE_INT_EP_COUNT ? NULL : moe_int_devices_methods[m]->brief;
}

static moe_status unknown_method(const char *name, const moe_log *log) {
    char list[512] = "";
    if (moe_method_brief(name))
        return moe_fail(log, MOE_E_NOTFOUND,
                        "\"%s\" is a method of one GPU; with --ep it may be --compute", name);
    for (const char *const *known = names; *known; known++) {
        strncat(list, " ", sizeof list - strlen(list) - 1);
        strncat(list, *known, sizeof list - strlen(list) - 1);
    }
    return moe_fail(log, MOE_E_NOTFOUND, "no method \"%s\" of several devices; known:%s", name,
                    list);
}

/* Pairs of each expert from all ranks: drawn for all tokens at once, or as many times those given.
 */
static moe_status draw(const moe_case *c, int64_t ranks, const moe_log *log, int64_t *counts) {
    moe_case all = *c;
    const bool given = c->route == MOE_ROUTE_COUNTS;
    if (!given) {
        all.T *= ranks;
        all.masked *= ranks;
        all.drop *= ranks;
    }
    const moe_status status = moe_counts_draw(&all, log, counts);
    for (int64_t e = 0; !status && given && e < c->layer.E; e++)
        counts[e] *= ranks;
    return status;
}

static void place_contiguously(moe_int_devices *x) {
    const int64_t E = x->layer->E, ep = (int64_t)x->ep;
    for (int64_t g = 0; g < ep; g++)
        for (int64_t e = g * E / ep; e < (g + 1) * E / ep; e++)
            x->owner[e] = (int32_t)g;
}

static void find_busiest_group(moe_int_devices *x) {
    double most = -1;
    for (int64_t g = 0; g < (int64_t)x->ep; g++) {
        const double pairs = moe_int_devices_pairs(x, g);
        if (pairs > most) {
            most = pairs;
            x->group = g;
        }
    }
}

static bool is_router(moe_stage part) {
    return part == MOE_STAGE_ROUTER || part == MOE_STAGE_TOPK || part == MOE_STAGE_ROUTER_BACKWARD;
}

static bool is_around(moe_stage stage) {
    return stage >= MOE_STAGE_PROJECT_IN && stage <= MOE_STAGE_DW_IN;
}

/* Router, projections and shared expert of a rank's own tokens; of tokens that all ranks have each
 * computes a part of the shared expert's width. */
static void add_home(moe_int_devices *x, const moe_int_devices_method *m, const moe_case *c) {
    const bool router = c->route == MOE_ROUTE_ROUTER;
    moe_prediction *p = NULL;
    double router_us = 0, around_us = 0, shared_us = 0;
    moe_workload w = *x->state;
    moe_layer_desc layer = *x->layer;
    if (x->status || (!router && x->layer->n_shared == 0 && c->hidden == 0))
        return;
    if (m->replicated)
        layer.n_shared = (int64_t)ceil((double)layer.n_shared / x->ranks);
    w.layer = &layer;
    w.tokens = c->T;
    w.with_router = router;
    w.hidden = c->hidden;
    w.pass = x->backward ? MOE_PASS_BWD : MOE_PASS_FWD;
    x->status = moe_predict(x->gpu, x->compute, &w, x->log, &p);
    for (size_t i = 0; p && i < p->n_kernels; i++) {
        const moe_stage part = moe_stage_info_of((moe_stage)p->kernels[i].stage).part_of;
        if (is_router(part))
            router_us += p->kernels[i].cost.us;
        else if (is_around(part))
            around_us += p->kernels[i].cost.us;
        else if (part >= MOE_STAGE_A_SHARED && part <= MOE_STAGE_DW1_SHARED)
            shared_us += p->kernels[i].cost.us;
    }
    moe_prediction_destroy(&p);
    if (router_us > 0)
        moe_int_tl_add(&x->t, "router", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, router_us, 0,
                       MOE_INT_NO_TASK, MOE_INT_NO_TASK);
    if (around_us > 0)
        moe_int_tl_add(&x->t, "projections", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, around_us, 0,
                       MOE_INT_NO_TASK, MOE_INT_NO_TASK);
    moe_int_tl_barrier(&x->t);
    if (shared_us > 0)
        moe_int_tl_add(&x->t, "shared expert", MOE_INT_TL_SMS, MOE_INT_TL_COUNT, shared_us, 0,
                       MOE_INT_NO_TASK, MOE_INT_NO_TASK);
}

static void run_pass(moe_int_devices *x, const moe_int_devices_method *m, const moe_case *c) {
    x->t.backward = x->backward;
    moe_int_tl_barrier(&x->t);
    add_home(x, m, c);
    m->run(x);
    x->t.chunk = 0;
}

/* How long the pass takes by itself. */
static double try_pass(moe_int_devices *x, const moe_int_devices_method *m, const moe_case *c) {
    const moe_int_timeline kept = x->t;
    x->t = (moe_int_timeline){.serial = kept.serial};
    run_pass(x, m, c);
    const double us = x->t.end_us;
    free(x->t.tasks);
    x->t = kept;
    return us;
}

#define SMS_MOST 64
#define SMS_STEP 2

/* Sets the chunks of a pass, and the SMs that communicate, which both passes share. */
static void choose(moe_int_devices *x, const moe_int_devices_method *m, const moe_case *c) {
    double best = HUGE_VAL;
    int64_t chunks = 1;
    x->chunks = x->o->chunks > 0 ? x->o->chunks : 1;
    if (m->chunks_most == 0 || x->o->chunks > 0)
        return;
    for (x->chunks = 1; x->chunks <= m->chunks_most; x->chunks *= 2) {
        const double us = try_pass(x, m, c);
        if (us < best) {
            best = us;
            chunks = x->chunks;
        }
    }
    x->chunks = chunks;
}

static bool has_pass(const moe_case *c, int backward) {
    const int pass = c->pass ? c->pass : MOE_PASS_BOTH;
    return (pass & (backward ? MOE_PASS_BWD : MOE_PASS_FWD)) != 0;
}

static double try_passes(moe_int_devices *x, const moe_int_devices_method *m, const moe_case *c) {
    double us = 0;
    for (int b = 0; b < 2; b++) {
        x->backward = b;
        us += has_pass(c, b) ? try_pass(x, m, c) : 0;
    }
    return us;
}

static void choose_senders(moe_int_devices *x, const moe_int_devices_method *m, const moe_case *c) {
    double best = HUGE_VAL;
    int64_t sms = SMS_STEP;
    x->comm_sms = x->o->comm_sms;
    if (!m->senders || x->o->comm_sms > 0)
        return;
    for (x->comm_sms = SMS_STEP; !x->status && x->comm_sms <= SMS_MOST; x->comm_sms += SMS_STEP) {
        const double us = try_passes(x, m, c);
        if (us < best) {
            best = us;
            sms = x->comm_sms;
        }
    }
    x->comm_sms = sms;
}

static moe_status run(moe_int_devices *x, const moe_int_devices_method *m, const moe_case *c,
                      moe_ep_prediction *p) {
    choose_senders(x, m, c);
    for (int b = 0; b < 2 && !x->status; b++) {
        if (!has_pass(c, b))
            continue;
        x->backward = b;
        choose(x, m, c);
        const double before = x->t.end_us;
        run_pass(x, m, c);
        *(b ? &p->backward_us : &p->forward_us) = x->t.end_us - before;
        p->chunks[b] = x->chunks;
        moe_int_devices_set_spread(x, p);
    }
    if (!x->status && x->t.out_of_memory)
        x->status = moe_fail(x->log, MOE_E_NOMEM, "prediction: out of memory");
    moe_int_devices_finish(x, p);
    return x->status;
}

static const char *compute_of(const moe_ep_options *o, const moe_gpu *gpu, const moe_log *log) {
    double arch = 0;
    moe_gpu_get(gpu, "arch", &arch);
    if (o->compute)
        return o->compute;
    if (strcmp(o->method, names[MOE_INT_EP_MOEREF_EP]) != 0)
        return "grouped_mm";
    if (arch == 90)
        return "moeref";
    moe_log_send(
        log, MOE_LOG_WARN,
        "moeref_ep: no kernels of its own are modelled on %s: its experts are grouped_mm's",
        moe_gpu_name(gpu));
    return "grouped_mm";
}

static moe_status predict(const moe_node *node, const moe_gpu *gpu, const moe_case *c,
                          const moe_workload *state, const moe_ep_options *o,
                          const moe_int_devices_method *m, const moe_log *log, int64_t *counts,
                          int32_t *owner, moe_ep_prediction *p) {
    const int64_t ranks = o->ep * o->tp, gpus = (int64_t)node->p[MOE_INT_NP_GPUS];
    const int64_t here = ranks % gpus ? ranks % gpus : gpus; /* what is left over for the last */
    moe_workload w = moe_workload_of(c, NULL, state);
    w.with_router = 0;
    w.hidden = 0;
    moe_int_devices x = {.node = node,
                         .gpu = gpu,
                         .layer = &c->layer,
                         .state = &w,
                         .o = o,
                         .log = log,
                         .compute = compute_of(o, gpu, log),
                         .counts = counts,
                         .owner = owner,
                         .ranks = (double)ranks,
                         .ep = (double)o->ep,
                         .tp = (double)o->tp,
                         .hosts = ceil((double)ranks / node->p[MOE_INT_NP_GPUS]),
                         .here = (double)here,
                         .peers = here < o->tp ? 1 : floor((double)here / (double)o->tp),
                         .T = (double)c->T,
                         .E = (double)c->layer.E,
                         .K = (double)c->layer.K,
                         .d = (double)c->layer.d,
                         .element = w.storage == MOE_STORAGE_TF32 ? 4 : 2,
                         .t.serial = o->serial != 0};
    x.status = draw(c, m->replicated ? 1 : ranks, log, counts);
    place_contiguously(&x);
    if (!x.status && m->place)
        m->place(&x);
    find_busiest_group(&x);
    return x.status ? x.status : run(&x, m, c, p);
}

moe_status moe_predict_ep(const moe_node *node, const moe_gpu *gpu, const moe_case *c,
                          const moe_workload *state, const moe_ep_options *options,
                          const moe_log *log, moe_ep_prediction **ret) {
    const moe_int_ep_method method = find_method(options->method);
    if (method == MOE_INT_EP_COUNT)
        return unknown_method(options->method, log);
    const moe_int_devices_method *m = moe_int_devices_methods[method];
    moe_status status = moe_int_devices_check(node, c, options, m, log);
    if (status)
        return status;
    moe_ep_prediction *p = calloc(1, sizeof *p);
    int64_t *counts = calloc((size_t)c->layer.E, sizeof *counts);
    int32_t *owner = calloc((size_t)c->layer.E, sizeof *owner);
    status = p && counts && owner ? predict(node, gpu, c, state, options, m, log, counts, owner, p)
                                  : moe_fail(log, MOE_E_NOMEM, "prediction: out of memory");
    free(counts);
    free(owner);
    if (status)
        moe_ep_prediction_destroy(&p);
    else
        *ret = p;
    return status;
}

void moe_ep_prediction_destroy(moe_ep_prediction **prediction) {
    if (!prediction || !*prediction)
        return;
    free((*prediction)->tasks);
    free(*prediction);
    *prediction = NULL;
}
