/* Several results by one request. */
#include "backend/isolate/layers.h"
#include "core/canary.h"

#include <string.h>

enum {
    CANARY = MOE_INT_CANARY_BYTES,
    ALIGNMENT = 64,      /* of data, and room for the number that are done */
    MOST_BYTES = 1 << 20 /* in all: beyond, a call's cost is nothing beside the copies */
};

static bool same_form(const moe_tensor *a, const moe_tensor *b) {
    return a->dtype == b->dtype && moe_tensor_same_shape(a, b);
}

/* Where all of them lie. Returns the bytes. */
static size_t place(const moe_tensor form[MOE_T_COUNT], moe_int_request *q) {
    size_t end = ALIGNMENT;
    for (int32_t id = 0; id < MOE_T_COUNT; id++) {
        const size_t bytes = form[id].ndim > 0 ? (size_t)moe_tensor_bytes(&form[id]) : 0;
        if (form[id].ndim == 0 || bytes > MOST_BYTES)
            continue;
        const size_t at = (end + CANARY + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        if (at + bytes + CANARY > MOST_BYTES)
            continue;
        q->ahead.id[q->ahead.count] = id;
        q->ahead.dst[q->ahead.count] = (moe_int_wire_tensor){(int64_t)at, form[id]};
        q->ahead.dst[q->ahead.count++].form.data = NULL;
        end = at + bytes + CANARY;
    }
    return end;
}

/* Poison between canaries, and none done. */
static void fill(const moe_int_request *q, unsigned char *base) {
    memset(base, 0, sizeof(int64_t));
    for (int32_t i = 0; i < q->ahead.count; i++) {
        unsigned char *data = base + q->ahead.dst[i].at;
        const size_t bytes = (size_t)moe_tensor_bytes(&q->ahead.dst[i].form);
        moe_int_canary_set(data - CANARY);
        memset(data, MOE_INT_POISON, bytes);
        moe_int_canary_set(data + bytes);
    }
}

moe_status moe_int_guest_fetch_ahead(void *layer, const moe_tensor form[MOE_T_COUNT]) {
    moe_int_guest_layer *l = layer;
    moe_int_guest *g = l->guest;
    moe_int_request request = {.slot = MOE_INT_SLOT_FETCH_AHEAD};
    moe_int_reply reply;
    bool fresh;
    const size_t total = place(form, &request);
    /* Without memory for all there may be some for each. */
    if (request.ahead.count < 2 || moe_int_shared_reserve(&g->scratch, total, &fresh))
        return MOE_OK;
    fill(&request, g->scratch.base);
    moe_status status =
        moe_int_guest_layer_request(l, &request, fresh ? &g->scratch : NULL, &reply);
    if (status || reply.ahead.done < 0 || reply.ahead.done > request.ahead.count)
        return status;
    g->ahead.layer = l;
    g->ahead.count = reply.ahead.done;
    memcpy(g->ahead.id, request.ahead.id, sizeof g->ahead.id);
    memcpy(g->ahead.at, request.ahead.dst, sizeof g->ahead.at);
    memcpy(g->ahead.status, reply.ahead.status, sizeof g->ahead.status);
    reply.ahead.fault[sizeof reply.ahead.fault - 1] = '\0';
    memcpy(g->ahead.fault, reply.ahead.fault, sizeof g->ahead.fault);
    return MOE_OK;
}

bool moe_int_guest_take_ahead(moe_int_guest_layer *l, moe_tensor_id id, moe_tensor *dst,
                              moe_status *ret_status) {
    moe_int_guest *g = l->guest;
    const moe_int_ahead *a = &g->ahead;
    for (int32_t i = 0; a->layer == l && l->generation == g->generation && i < a->count; i++) {
        if (a->id[i] != (int32_t)id || !same_form(&a->at[i].form, dst))
            continue;
        *ret_status = (moe_status)a->status[i];
        if (i == a->count - 1 && a->fault[0])
            *ret_status = moe_int_caller_fault(g->caller, "%s", a->fault);
        if (*ret_status == MOE_OK)
            *ret_status = moe_int_guest_copy_out(g, id, a->at[i].at, dst);
        return true;
    }
    return false;
}
