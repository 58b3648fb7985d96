#include "backend/isolate/proxy.h"
#include "core/utf8.h"
#include "moeref/home.h"

#include <stdlib.h>
#include <string.h>

enum { BOARD_MS = 1000 };

moe_status moe_int_guest_revive(moe_int_guest *g) {
    moe_int_reply entry;
    return g->process.pid > 0 ? MOE_OK : moe_int_guest_start(g, &entry);
}

/* ---- the slots of a device ---- */

static moe_status proxy_probe(char *reason, size_t size) {
    (void)reason;
    (void)size;
    return MOE_OK; /* asked in the worker when it was started */
}

static moe_status proxy_open(const moe_open_params *params, void **ret) {
    (void)params;
    (void)ret;
    return MOE_E_UNSUPPORTED; /* moe_int_isolated_open, which knows the worker */
}

static void proxy_close(void *device) {
    moe_int_guest *g = device;
    moe_int_request request = {.slot = MOE_INT_SLOT_CLOSE};
    moe_int_reply reply;
    if (g->process.pid > 0)
        moe_int_guest_call(g, &request, NULL, &reply);
}

static moe_status proxy_supports(void *device, const moe_layer_desc *desc, const moe_use *use,
                                 moe_support *ret) {
    moe_int_request request = {.slot = MOE_INT_SLOT_SUPPORTS,
                               .prepare = {.desc = *desc, .use = *use}};
    moe_int_reply reply;
    moe_status status = moe_int_guest_revive(device);
    if (!status)
        status = moe_int_guest_call(device, &request, NULL, &reply);
    if (!status || status == MOE_E_UNSUPPORTED)
        *ret = reply.support;
    return status;
}

static const char *proxy_arithmetic(void *device, const moe_layer_desc *desc, const moe_use *use) {
    moe_int_guest *g = device;
    moe_int_request request = {.slot = MOE_INT_SLOT_ARITHMETIC,
                               .prepare = {.desc = *desc, .use = *use}};
    moe_int_reply reply;
    if (moe_int_guest_revive(g) || moe_int_guest_call(g, &request, NULL, &reply))
        return NULL;
    memcpy(g->arithmetic, reply.arithmetic, sizeof g->arithmetic);
    moe_int_clean_text(g->arithmetic, sizeof g->arithmetic);
    return g->arithmetic;
}

static size_t proxy_timings(void *layer, moe_cost *ret, size_t capacity) {
    moe_int_reply reply;
    if (moe_int_guest_layer_call(layer, MOE_INT_SLOT_TIMINGS, &reply))
        return 0;
    size_t count = reply.timings.count < 0 ? 0 : (size_t)reply.timings.count;
    if (count > MOE_INT_WIRE_COSTS)
        count = MOE_INT_WIRE_COSTS;
    memcpy(ret, reply.timings.cost, (count < capacity ? count : capacity) * sizeof *ret);
    return count; /* of all there are, as the slot does */
}

static moe_status proxy_memory(void *layer, moe_memory *ret) {
    moe_int_reply reply;
    moe_status status = moe_int_guest_layer_call(layer, MOE_INT_SLOT_MEMORY, &reply);
    if (!status)
        *ret = reply.memory;
    return status;
}

static moe_status proxy_roofline(void *device, moe_roofline *ret) {
    moe_int_request request = {.slot = MOE_INT_SLOT_ROOFLINE};
    moe_int_reply reply;
    moe_status status = moe_int_guest_revive(device);
    if (!status)
        status = moe_int_guest_call(device, &request, NULL, &reply);
    if (!status)
        *ret = reply.roofline;
    return status;
}

/* From another thread than the other slots: touches the side channel alone. */
static moe_status proxy_board(void *device, moe_board *ret) {
    const moe_int_guest *g = device;
    moe_int_request request = {.slot = MOE_INT_SLOT_BOARD};
    moe_int_reply reply;
    if (!moe_int_process_send(g->process.side, &request, -1) ||
        !moe_int_process_receive(g->process.side, BOARD_MS, &reply))
        return MOE_E_UNSUPPORTED;
    if (reply.status == MOE_OK)
        *ret = reply.board;
    return reply.status == MOE_OK ? MOE_OK : MOE_E_UNSUPPORTED;
}

/* ---- entries and devices ---- */

static void read_names(moe_int_reply *entry) {
    moe_int_clean_text(entry->entry.name, sizeof entry->entry.name);
    moe_int_clean_text(entry->entry.brief, sizeof entry->entry.brief);
    moe_int_clean_text(entry->entry.reason, sizeof entry->entry.reason);
}

static bool has(const moe_int_reply *entry, int slot) {
    return (entry->entry.optional >> slot & 1) != 0;
}

static void fill_table(moe_int_guest *g, moe_int_reply *entry) {
    read_names(entry);
    memcpy(g->name, entry->entry.name, sizeof g->name);
    memcpy(g->brief, entry->entry.brief, sizeof g->brief);
    g->table = (moe_plugin){
        .abi = MOE_PLUGIN_ABI,
        .priority = entry->entry.priority,
        .name = g->name,
        .brief = g->brief,
        .probe = proxy_probe,
        .open = proxy_open,
        .close = proxy_close,
        .supports = proxy_supports,
        .prepare = moe_int_guest_prepare,
        .release = moe_int_guest_release,
        .set_input = moe_int_guest_set_input,
        .forward = moe_int_guest_forward,
        .backward = moe_int_guest_backward,
        .fetch = moe_int_guest_fetch,
        .routing = has(entry, MOE_INT_HAS_routing) ? moe_int_guest_routing : NULL,
        .timings = has(entry, MOE_INT_HAS_timings) ? proxy_timings : NULL,
        .memory = has(entry, MOE_INT_HAS_memory) ? proxy_memory : NULL,
        .roofline = has(entry, MOE_INT_HAS_roofline) ? proxy_roofline : NULL,
        .board = has(entry, MOE_INT_HAS_board) ? proxy_board : NULL,
        .arithmetic = has(entry, MOE_INT_HAS_arithmetic) ? proxy_arithmetic : NULL,
    };
}

moe_status moe_int_isolation_make(const char *worker, double timeout_s, const moe_log *log,
                                  moe_int_isolation *ret) {
    ret->timeout_s = timeout_s;
    const moe_status status =
        moe_home_find(MOE_HOME_WORKER, worker, log, ret->worker, sizeof ret->worker);
    return status == MOE_E_NOTFOUND ? MOE_E_IO : status;
}

/* A guest without a worker yet, or NULL. */
static moe_int_guest *make_guest(const moe_int_isolation *how, const char *path, const moe_log *log,
                                 moe_int_caller *caller) {
    const char *base = strrchr(path, '/');
    moe_int_guest *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    *g = (moe_int_guest){.how = how, .caller = caller, .log = log};
    snprintf(g->path, sizeof g->path, "%s", path);
    snprintf(g->name, sizeof g->name, "%s", base ? base + 1 : path);
    moe_int_clean_text(g->name, sizeof g->name);
    return g;
}

void moe_int_isolated_destroy(void *device) {
    moe_int_guest *g = device;
    moe_int_guest_stop(g);
    free(g);
}

moe_status moe_int_isolated_entry(const moe_int_isolation *how, const char *path,
                                  const moe_log *log, moe_int_entry *ret) {
    moe_int_caller caller = {.plugin = NULL};
    moe_int_reply entry = {.status = MOE_OK};
    moe_int_guest *g = make_guest(how, path, log, &caller);
    if (!g)
        return MOE_E_NOMEM;
    moe_status status = moe_int_guest_start(g, &entry);
    read_names(&entry);
    moe_int_isolated_destroy(g);
    const char *reason = caller.fault[0]         ? caller.fault
                         : entry.entry.reason[0] ? entry.entry.reason
                                                 : moe_status_str(status);
    moe_status made = moe_int_entry_refused(path, status, status ? reason : "", ret);
    if (made || !entry.entry.accepted)
        return made;
    char *name = strdup(entry.entry.name);
    if (!name) {
        moe_int_entry_destroy(ret);
        return MOE_E_NOMEM;
    }
    free(ret->name);
    ret->name = name;
    ret->accepted = ret->isolated = true;
    ret->priority = entry.entry.priority;
    snprintf(ret->brief, sizeof ret->brief, "%s", entry.entry.brief);
    return MOE_OK;
}

moe_status moe_int_isolated_open(const moe_int_isolation *how, const char *path,
                                 const moe_open_params *params, moe_int_caller *caller,
                                 void **ret) {
    moe_int_reply entry = {.status = MOE_OK};
    moe_int_guest *g = make_guest(how, path, params->log, caller);
    if (!g)
        return moe_fail(params->log, MOE_E_NOMEM, "no memory to open %s", path);
    g->open = (moe_int_request){
        .slot = MOE_INT_SLOT_OPEN,
        .open = {.threads = params->threads, .device_index = params->device_index}};
    snprintf(g->open.open.variant, sizeof g->open.open.variant, "%s", params->variant);
    moe_status status = moe_int_guest_start(g, &entry);
    if (status) {
        moe_int_isolated_destroy(g);
        return status;
    }
    fill_table(g, &entry);
    caller->plugin = &g->table;
    *ret = g;
    return MOE_OK;
}
