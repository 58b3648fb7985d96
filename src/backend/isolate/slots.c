/* The slots of a hosted plug-in, as requests ask for them. */
#include "backend/isolate/host.h"
#include "backend/plugin/bound.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>

static moe_int_hosted_layer *layer_of(moe_int_host *h, const moe_int_request *q) {
    return &h->layer[q->layer];
}

static void tell_entry(const moe_int_host *h, moe_int_reply *r) {
    const moe_plugin *p = h->entry.plugin;
    r->entry.accepted = h->entry.accepted;
    snprintf(r->entry.reason, sizeof r->entry.reason, "%s", h->entry.reason);
    if (!p)
        return;
    r->entry.priority = p->priority;
    r->entry.abi = p->abi;
    snprintf(r->entry.name, sizeof r->entry.name, "%s", p->name);
    snprintf(r->entry.brief, sizeof r->entry.brief, "%s", h->entry.brief);
    r->entry.optional = (p->routing ? 1u << MOE_INT_HAS_routing : 0) |
                        (p->timings ? 1u << MOE_INT_HAS_timings : 0) |
                        (p->memory ? 1u << MOE_INT_HAS_memory : 0) |
                        (p->roofline ? 1u << MOE_INT_HAS_roofline : 0) |
                        (p->abi >= 2 && p->board ? 1u << MOE_INT_HAS_board : 0) |
                        (p->abi >= 4 && p->arithmetic ? 1u << MOE_INT_HAS_arithmetic : 0);
}

static moe_status do_load(moe_int_host *h, const moe_int_request *q, moe_int_reply *r) {
    moe_status status = moe_int_entry_open(q->path, &h->entry);
    if (status)
        return status;
    h->caller.plugin = h->entry.plugin;
    tell_entry(h, r);
    return h->entry.status;
}

static moe_status do_probe(moe_int_host *h, moe_int_reply *r) {
    moe_int_entry_probe(&h->entry);
    tell_entry(h, r);
    return h->entry.status;
}

static moe_status do_open(moe_int_host *h, const moe_int_request *q) {
    memcpy(h->variant, q->open.variant, sizeof h->variant);
    const moe_open_params params = {.threads = q->open.threads,
                                    .device_index = q->open.device_index,
                                    .variant = h->variant,
                                    .log = &h->log};
    return moe_int_call_open(&h->caller, &params, &h->device);
}

static moe_status do_prepare(moe_int_host *h, const moe_int_request *q, int file) {
    moe_int_hosted_layer *l = layer_of(h, q);
    moe_tensors params = {0};
    moe_int_shared_drop(&l->params);
    moe_status status = moe_int_shared_map(&l->params, file, (size_t)q->memory);
    if (status)
        return status;
    for (int id = 0; id < MOE_T_COUNT; id++)
        params.t[id] = moe_int_wire_tensor_view(&q->prepare.param[id], l->params.base);
    status = moe_int_call_prepare(&h->caller, h->device, &q->prepare.desc, &q->prepare.use, &params,
                                  &l->plugged);
    if (moe_int_is_bound(h->variant))
        moe_int_shared_drop(&l->params);
    return status;
}

static moe_status do_release(moe_int_host *h, const moe_int_request *q) {
    moe_int_hosted_layer *l = layer_of(h, q);
    moe_status status = moe_int_call_release(&h->caller, l->plugged);
    moe_int_shared_drop(&l->params);
    moe_int_shared_drop(&l->input);
    *l = (moe_int_hosted_layer){.plugged = NULL};
    return status;
}

/* The former input stays mapped until the plug-in has been given the new one. */
static moe_status do_set_input(moe_int_host *h, const moe_int_request *q, int file) {
    moe_int_hosted_layer *l = layer_of(h, q);
    moe_int_shared former = {.base = NULL};
    if (file >= 0) {
        former = l->input;
        l->input = (moe_int_shared){.file = -1};
        moe_status status = moe_int_shared_map(&l->input, file, (size_t)q->memory);
        if (status)
            return status;
    }
    moe_input input = {.tokens = q->input.tokens,
                       .X = moe_int_wire_tensor_view(&q->input.X, l->input.base),
                       .dO = moe_int_wire_tensor_view(&q->input.dO, l->input.base),
                       .seed = q->input.seed};
    if (q->input.plan.n_tokens) {
        l->given = moe_int_wire_plan_view(&q->input.plan, l->input.base);
        input.plan = &l->given;
    }
    moe_status status = moe_int_call_set_input(&h->caller, l->plugged, &input);
    moe_int_shared_drop(&former);
    return status;
}

/* Room for results stays mapped until there is a larger one. */
static moe_status take_scratch(moe_int_host *h, const moe_int_request *q, int file) {
    return file < 0 ? MOE_OK : moe_int_shared_map(&h->scratch, file, (size_t)q->memory);
}

static moe_status do_fetch(moe_int_host *h, const moe_int_request *q, int file) {
    moe_status status = take_scratch(h, q, file);
    if (status)
        return status;
    moe_tensor dst = moe_int_wire_tensor_view(&q->fetch.dst, h->scratch.base);
    return moe_int_call_fetch(&h->caller, layer_of(h, q)->plugged, (moe_tensor_id)q->fetch.id,
                              &dst);
}

/* Ends with a fetch that breaks the contract. Its fault is told when that result is asked for: some
 * faults, as memory that was written beside a buffer, a plug-in is looked at for but once. */
static moe_status do_fetch_ahead(moe_int_host *h, const moe_int_request *q, int file,
                                 moe_int_reply *r) {
    moe_status status = take_scratch(h, q, file);
    for (int64_t i = 0; !status && i < q->ahead.count; i++) {
        moe_tensor dst = moe_int_wire_tensor_view(&q->ahead.dst[i], h->scratch.base);
        r->ahead.status[i] = (int32_t)moe_int_call_fetch(&h->caller, layer_of(h, q)->plugged,
                                                         (moe_tensor_id)q->ahead.id[i], &dst);
        r->ahead.done = (int32_t)i + 1;
        memcpy(h->scratch.base, &(int64_t){i + 1}, sizeof(int64_t));
        if (h->caller.fault[0])
            break;
    }
    snprintf(r->ahead.fault, sizeof r->ahead.fault, "%s", h->caller.fault);
    h->caller.fault[0] = '\0';
    return status;
}

static moe_status do_routing(moe_int_host *h, const moe_int_request *q, moe_int_reply *r) {
    moe_int_hosted_layer *l = layer_of(h, q);
    moe_status status = moe_int_call_routing(&h->caller, l->plugged, &l->chosen);
    if (!status)
        r->plan = (moe_int_wire_plan){.n_tokens = l->chosen->n_tokens,
                                      .n_experts = l->chosen->n_experts,
                                      .n_pairs = l->chosen->n_pairs};
    return status;
}

static moe_status do_copy_plan(moe_int_host *h, const moe_int_request *q, int file) {
    moe_status status = take_scratch(h, q, file);
    if (status)
        return status;
    moe_plan from = *layer_of(h, q)->chosen;
    moe_plan to = moe_int_wire_plan_view(&q->plan, h->scratch.base);
    from.n_tokens = to.n_tokens; /* the room that there is */
    from.n_experts = to.n_experts;
    from.n_pairs = to.n_pairs;
    moe_int_plan_copy_arrays(&from, &to);
    return MOE_OK;
}

static moe_status do_timings(moe_int_host *h, const moe_int_request *q, moe_int_reply *r) {
    size_t count = 0;
    moe_status status = moe_int_call_timings(&h->caller, layer_of(h, q)->plugged, r->timings.cost,
                                             MOE_INT_WIRE_COSTS, &count);
    r->timings.count = (int64_t)count;
    return status;
}

moe_status moe_int_host_run(moe_int_host *h, const moe_int_request *q, int file, moe_int_reply *r) {
    switch ((moe_int_slot)q->slot) {
    case MOE_INT_SLOT_LOAD:
        return do_load(h, q, r);
    case MOE_INT_SLOT_PROBE:
        return do_probe(h, r);
    case MOE_INT_SLOT_OPEN:
        return do_open(h, q);
    case MOE_INT_SLOT_CLOSE:
        return moe_int_call_close(&h->caller, h->device);
    case MOE_INT_SLOT_SUPPORTS:
        return moe_int_call_supports(&h->caller, h->device, &q->prepare.desc, &q->prepare.use,
                                     &r->support);
    case MOE_INT_SLOT_ARITHMETIC:
        return moe_int_call_arithmetic(&h->caller, h->device, &q->prepare.desc, &q->prepare.use,
                                       r->arithmetic, sizeof r->arithmetic);
    case MOE_INT_SLOT_PREPARE:
        return do_prepare(h, q, file);
    case MOE_INT_SLOT_RELEASE:
        return do_release(h, q);
    case MOE_INT_SLOT_SET_INPUT:
        return do_set_input(h, q, file);
    case MOE_INT_SLOT_FORWARD:
        return moe_int_call_forward(&h->caller, layer_of(h, q)->plugged);
    case MOE_INT_SLOT_BACKWARD:
        return moe_int_call_backward(&h->caller, layer_of(h, q)->plugged);
    case MOE_INT_SLOT_FETCH:
        return do_fetch(h, q, file);
    case MOE_INT_SLOT_FETCH_AHEAD:
        return do_fetch_ahead(h, q, file, r);
    case MOE_INT_SLOT_ROUTING:
        return do_routing(h, q, r);
    case MOE_INT_SLOT_COPY_PLAN:
        return do_copy_plan(h, q, file);
    case MOE_INT_SLOT_TIMINGS:
        return do_timings(h, q, r);
    case MOE_INT_SLOT_MEMORY:
        return moe_int_call_memory(&h->caller, layer_of(h, q)->plugged, &r->memory);
    case MOE_INT_SLOT_ROOFLINE:
        return moe_int_call_roofline(&h->caller, h->device, &r->roofline);
    case MOE_INT_SLOT_TRIM:
        malloc_trim(0);
        return MOE_OK;
    case MOE_INT_SLOT_BOARD: /* comes by the side channel */
    case MOE_INT_SLOT_COUNT:
        break;
    }
    return MOE_E_INVALID;
}
