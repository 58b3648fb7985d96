#include "backend/isolate/guest.h"
#include "core/clock.h"
#include "core/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SLICE_MS = 50,      /* between looks whether the worker lives, where nothing comes from it */
    PATIENCE_MS = 2000, /* for a worker that has closed its channel to end */
    MOST_SAID = 12      /* messages and printed lines of one call; more is no news */
};

/* Seconds for a call that has nothing to do with a layer's size. */
static const double base_limit_s = 60;

/* ---- what the worker says beside its answers ---- */

static bool may_say(moe_int_guest *g, const char *what) {
    if (g->said++ < MOST_SAID)
        return true;
    if (g->said == MOST_SAID + 1)
        moe_log_send(g->log, MOE_LOG_WARN, "%s %s more than is told here", g->name, what);
    return false;
}

static void flush_line(moe_int_guest *g, moe_int_slot slot) {
    if (g->line_length == 0)
        return;
    g->line[g->line_length] = '\0';
    g->line_length = 0;
    moe_int_clean_text(g->line, sizeof g->line);
    if (may_say(g, "prints"))
        moe_log_send(g->log, MOE_LOG_WARN, "%s prints in %s: %s", g->name, moe_int_slot_name(slot),
                     g->line);
}

/* Once through what lies in the pipe. false: nothing did. */
static bool take_output(moe_int_guest *g, moe_int_slot slot) {
    char text[4096];
    const ssize_t got = g->process.output < 0 ? 0 : read(g->process.output, text, sizeof text);
    for (ssize_t i = 0; i < got; i++) {
        if (text[i] == '\n' || g->line_length == sizeof g->line - 1)
            flush_line(g, slot);
        if (text[i] != '\n')
            g->line[g->line_length++] = text[i];
    }
    return got > 0;
}

/* What a dead worker has left there; bounded, as something that it started may go on writing. */
static void take_last_words(moe_int_guest *g, moe_int_slot slot) {
    for (int i = 0; i < 64 && take_output(g, slot); i++)
        ;
    flush_line(g, slot);
}

static void pass_on(moe_int_guest *g, const moe_int_reply *r) {
    const bool known = r->status >= MOE_LOG_ERROR && r->status <= MOE_LOG_DEBUG;
    if (may_say(g, "says"))
        moe_log_send(g->log, known ? (moe_log_level)r->status : MOE_LOG_WARN, "%s", r->text);
}

/* ---- ends ---- */

/* How many results of a fetch ahead are done, as the worker says. */
static int64_t done_of(const moe_int_guest *g, const moe_int_request *request) {
    int64_t done = 0;
    if (request->slot == MOE_INT_SLOT_FETCH_AHEAD)
        memcpy(&done, g->scratch.base, sizeof done);
    return done < 0 ? 0 : done < request->ahead.count ? done : request->ahead.count - 1;
}

/* "fetch of dW1" */
static void name_call(const moe_int_guest *g, const moe_int_request *request, char *ret,
                      size_t size) {
    const char *slot = moe_int_slot_name((moe_int_slot)request->slot);
    if (request->slot == MOE_INT_SLOT_FETCH || request->slot == MOE_INT_SLOT_FETCH_AHEAD) {
        const int32_t id = request->slot == MOE_INT_SLOT_FETCH
                               ? request->fetch.id
                               : request->ahead.id[done_of(g, request)];
        snprintf(ret, size, "%s of %s", slot, moe_tensor_name((moe_tensor_id)id));
    } else {
        snprintf(ret, size, "%s", slot);
    }
}

static void end_worker(moe_int_guest *g, moe_int_slot slot, int patience_ms, bool *ret_killed) {
    moe_int_process_stop(&g->process, patience_ms, ret_killed);
    take_last_words(g, slot);
    moe_int_process_close(&g->process);
    g->generation++;
    memset(g->layers, 0, sizeof g->layers);
    moe_int_shared_drop(&g->scratch); /* the next worker knows nothing of it */
}

static moe_status has_ended(moe_int_guest *g, const moe_int_request *request) {
    char call[64], how[96];
    bool killed;
    name_call(g, request, call, sizeof call);
    end_worker(g, (moe_int_slot)request->slot, PATIENCE_MS, &killed);
    moe_int_process_ending(&g->process, how, sizeof how);
    return moe_int_caller_fault(g->caller, "%s %s", call,
                                killed ? "closed the descriptors of its process" : how);
}

static moe_status is_ended(moe_int_guest *g, const moe_int_request *request, const char *why,
                           double seconds) {
    char call[64];
    bool killed;
    name_call(g, request, call, sizeof call);
    end_worker(g, (moe_int_slot)request->slot, 0, &killed);
    if (seconds > 0)
        return moe_int_caller_fault(g->caller, "%s took longer than %g s", call, seconds);
    return moe_int_caller_fault(g->caller, "%s %s", call, why);
}

/* ---- calls ---- */

static double limit_of(const moe_int_guest *g) {
    return g->how->timeout_s > 0 ? g->how->timeout_s : base_limit_s + g->limit_s;
}

/* What the worker found out itself stays as it said it. */
static moe_status finish(moe_int_guest *g, const moe_int_request *request, const moe_int_reply *r,
                         double us) {
    take_output(g, (moe_int_slot)request->slot);
    flush_line(g, (moe_int_slot)request->slot);
    g->caller->inside_us = r->us > 0 && r->us <= us ? r->us : 0;
    if (r->text[0])
        return moe_int_caller_fault(g->caller, "%s", r->text);
    return (moe_status)r->status;
}

static moe_status await(moe_int_guest *g, const moe_int_request *request, moe_int_reply *ret) {
    const double limit_s = limit_of(g);
    double start_us = moe_int_now_us();
    int64_t done = 0;
    for (;;) {
        if (request->slot == MOE_INT_SLOT_FETCH_AHEAD && done_of(g, request) != done) {
            done = done_of(g, request); /* each of them has that time */
            start_us = moe_int_now_us();
        }
        const double left_ms = 1e3 * limit_s - 1e-3 * (moe_int_now_us() - start_us);
        if (left_ms <= 0)
            return is_ended(g, request, "", limit_s);
        switch (moe_int_process_wait(&g->process, left_ms < SLICE_MS ? (int)left_ms + 1 : SLICE_MS,
                                     ret)) {
        case MOE_INT_EVENT_NONE:
            break;
        case MOE_INT_EVENT_OUTPUT:
            take_output(g, (moe_int_slot)request->slot);
            break;
        case MOE_INT_EVENT_END:
            return has_ended(g, request);
        case MOE_INT_EVENT_WRONG:
            return is_ended(g, request, "answered with a packet that is none", 0);
        case MOE_INT_EVENT_PACKET:
            if (ret->kind == MOE_INT_REPLY_DONE && ret->number == request->number)
                return finish(g, request, ret, moe_int_now_us() - start_us);
            if (ret->kind != MOE_INT_REPLY_LOG)
                return is_ended(g, request, "answered another question", 0);
            pass_on(g, ret);
        }
    }
}

moe_status moe_int_guest_call(moe_int_guest *g, moe_int_request *request,
                              const moe_int_shared *memory, moe_int_reply *ret) {
    if (g->process.pid <= 0)
        return moe_int_caller_fault(g->caller, "%s: its process has ended before",
                                    moe_int_slot_name((moe_int_slot)request->slot));
    g->said = 0;
    g->ahead.layer = NULL;
    request->number = ++g->number;
    request->memory = memory ? (int64_t)memory->size : 0;
    if (!moe_int_process_send(g->process.calls, request, memory ? memory->file : -1))
        return has_ended(g, request);
    return await(g, request, ret);
}

moe_status moe_int_guest_start(moe_int_guest *g, moe_int_reply *ret_entry) {
    moe_int_request request = {.slot = MOE_INT_SLOT_LOAD};
    moe_int_reply reply = {.status = MOE_OK};
    moe_status status = moe_int_process_start(g->how->worker, &g->process);
    if (status)
        return moe_fail(g->log, status, "%s cannot be started", g->how->worker);
    snprintf(request.path, sizeof request.path, "%s", g->path);
    g->limit_s = 0;
    status = moe_int_guest_call(g, &request, NULL, ret_entry);
    if (!status) {
        request.slot = MOE_INT_SLOT_PROBE;
        status = moe_int_guest_call(g, &request, NULL, &reply);
        memcpy(ret_entry->entry.reason, reply.entry.reason, sizeof reply.entry.reason);
    }
    if (!status && g->open.slot == MOE_INT_SLOT_OPEN)
        status = moe_int_guest_call(g, &g->open, NULL, &reply);
    return status;
}

void moe_int_guest_stop(moe_int_guest *g) {
    bool killed;
    if (g->process.pid > 0)
        end_worker(g, MOE_INT_SLOT_CLOSE, 0, &killed);
    moe_int_shared_drop(&g->scratch);
}

void moe_int_guest_trim(moe_int_guest *g) {
    moe_int_request request = {.slot = MOE_INT_SLOT_TRIM};
    moe_int_reply reply;
    moe_int_guest_call(g, &request, NULL, &reply);
}
