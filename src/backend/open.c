/* From what the user typed ("NAME", "NAME:VARIANT", a path) to an open device. */
#include "backend/registry.h"
#include "core/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Splits "NAME:VARIANT". In a path the colon counts only after the last slash, and only if no file
 * has the whole text as its name. *ret_name must be freed; *ret_variant points into it, or is NULL.
 */
static moe_status split_spec(const char *spec, char **ret_name, const char **ret_variant) {
    char *name = strdup(spec);
    if (!name)
        return MOE_E_NOMEM;
    char *slash = strrchr(name, '/');
    char *colon = strrchr(slash ? slash : name, ':');
    bool whole = !colon || (slash && access(spec, F_OK) == 0);
    if (!whole)
        *colon = '\0';
    *ret_name = name;
    *ret_variant = whole ? NULL : colon + 1;
    return MOE_OK;
}

/* "reference, openblas" into a message's buffer. */
static void list_names(const moe_backends *all, char *buf, size_t size) {
    size_t used = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < all->count && used < size; i++)
        used +=
            (size_t)snprintf(buf + used, size - used, "%s%s", i ? ", " : "", all->entry[i].name);
}

static moe_status find_by_name(const moe_backends *all, const char *name, const moe_log *log,
                               moe_int_entry *ret) {
    for (size_t i = 0; i < all->count; i++) {
        const moe_int_entry *entry = &all->entry[i];
        if (strcmp(entry->name, name) != 0)
            continue;
        const moe_status status = entry->status;
        if (status)
            return moe_fail(log, status, "backend '%s' cannot be used here: %s%s%s", name,
                            entry->accepted ? "" : entry->path, entry->accepted ? "" : " ",
                            entry->reason);
        *ret = *entry;
        ret->name = strdup(entry->name);
        ret->path = strdup(entry->path);
        return ret->name && ret->path ? MOE_OK
                                      : moe_fail(log, MOE_E_NOMEM, "no memory to open '%s'", name);
    }
    char known[512];
    list_names(all, known, sizeof known);
    return moe_fail(log, MOE_E_NOTFOUND, "no backend is named '%s'; known: %s", name, known);
}

/* The plug-in itself lives in the shared object, which stays loaded. */
static moe_status find_by_path(const moe_backends *all, const char *path, const moe_log *log,
                               moe_int_entry *ret) {
    moe_status status = moe_int_backends_look(all, path, log, ret);
    if (status)
        return moe_fail(log, status, "no memory to load '%s'", path);
    status = ret->status;
    if (status)
        moe_fail(log, status, ret->accepted ? "%s cannot be used here: %s" : "%s %s", path,
                 ret->reason);
    return status;
}

static char *join_name(const char *name, const char *variant) {
    size_t size = strlen(name) + strlen(variant) + 2;
    char *text = malloc(size);
    if (text)
        snprintf(text, size, "%s%s%s", name, *variant ? ":" : "", variant);
    return text;
}

/* Where a plug-in's words pass. */
static void pass_on(void *user, moe_log_level level, const char *message) {
    moe_backend *backend = user;
    char text[1024];
    snprintf(text, sizeof text, "%s", message);
    moe_int_clean_text(text, sizeof text);
    backend->errors += level == MOE_LOG_ERROR;
    moe_log_send(&backend->outer, level, "%s", text);
}

moe_status moe_int_backend_settle(moe_backend *backend, moe_status status) {
    if (status != MOE_E_CONTRACT || backend->is_told)
        return status;
    backend->is_told = true;
    return moe_fail(&backend->log, status, "%s: %s", backend->name, backend->caller.fault);
}

/* Nobody fails without a word. */
static moe_status open_device(const moe_backends *all, const moe_int_entry *entry,
                              moe_open_params *params, moe_backend *backend) {
    backend->log = (moe_log){pass_on, backend};
    params->log = &backend->log;
    backend->caller.plugin = entry->plugin;
    backend->is_isolated = entry->isolated;
    moe_status status = entry->isolated
                            ? moe_int_isolated_open(&all->isolation, entry->path, params,
                                                    &backend->caller, &backend->device)
                            : moe_int_call_open(&backend->caller, params, &backend->device);
    moe_int_backend_settle(backend, status);
    if (status && !backend->errors)
        moe_fail(&backend->log, status, "%s: open failed without a word: %s", backend->name,
                 moe_status_str(status));
    return status;
}

/* Then *ret is untouched and nothing stays open. */
static moe_status open_entry(const moe_backends *all, const moe_int_entry *entry,
                             const char *variant, const moe_open_params *params, const moe_log *log,
                             moe_backend **ret) {
    moe_backend *backend = calloc(1, sizeof *backend);
    char *name = join_name(entry->name, variant);
    moe_status status;
    if (!backend || !name) {
        status = moe_fail(log, MOE_E_NOMEM, "no memory to open backend '%s'", entry->name);
    } else {
        moe_open_params own = params ? *params : (moe_open_params){0};
        own.variant = variant;
        if (log)
            backend->outer = *log;
        backend->name = name;
        status = open_device(all, entry, &own, backend);
    }
    if (status) {
        free(name);
        free(backend);
        return status;
    }
    *ret = backend;
    return MOE_OK;
}

moe_status moe_backend_open(moe_backends *all, const char *spec, const moe_open_params *params,
                            const moe_log *log, moe_backend **ret) {
    char *name;
    const char *variant;
    moe_int_entry entry = {0};
    moe_status status = split_spec(spec, &name, &variant);
    if (status)
        return moe_fail(log, status, "no memory to open backend '%s'", spec);
    if (!variant)
        variant = params && params->variant ? params->variant : "";
    status = strchr(name, '/') ? find_by_path(all, name, log, &entry)
                               : find_by_name(all, name, log, &entry);
    if (!status)
        status = open_entry(all, &entry, variant, params, params && params->log ? params->log : log,
                            ret);
    moe_int_entry_destroy(&entry);
    free(name);
    return status;
}

moe_status moe_int_backend_wrap(const moe_plugin *plugin, void *device, const char *name,
                                const moe_log *log, moe_backend **ret) {
    moe_backend *backend = calloc(1, sizeof *backend);
    char *own = strdup(name);
    if (!backend || !own) {
        free(backend);
        free(own);
        return moe_fail(log, MOE_E_NOMEM, "no memory to open '%s'", name);
    }
    if (log)
        backend->outer = *log;
    backend->log = (moe_log){pass_on, backend};
    backend->caller.plugin = plugin;
    backend->device = device;
    backend->name = own;
    *ret = backend;
    return MOE_OK;
}

moe_status moe_backend_close(moe_backend **backend) {
    if (!backend || !*backend)
        return MOE_OK;
    moe_backend *b = *backend;
    moe_int_backend_forget(b);
    moe_status status = moe_int_call_close(&b->caller, b->device);
    moe_int_backend_settle(b, status);
    if (b->is_isolated)
        moe_int_isolated_destroy(b->device);
    free(b->name);
    free(b);
    *backend = NULL;
    return status;
}

const char *moe_backend_name(const moe_backend *backend) {
    return backend->name;
}

const char *moe_backend_fault(const moe_backend *backend) {
    return backend->caller.fault;
}

void moe_int_backend_forget(moe_backend *backend) {
    backend->caller.fault[0] = '\0';
    backend->is_told = false;
}

moe_status moe_backend_roofline(moe_backend *backend, moe_roofline *ret) {
    if (!backend->caller.plugin->roofline)
        return MOE_E_UNSUPPORTED;
    moe_roofline roofline = {0};
    moe_status status = moe_int_call_roofline(&backend->caller, backend->device, &roofline);
    if (!status)
        *ret = roofline;
    return moe_int_backend_settle(backend, status);
}

moe_status moe_backend_board(moe_backend *backend, moe_board *ret) {
    moe_board board = {0};
    moe_status status = moe_int_call_board(backend->caller.plugin, backend->device, &board);
    if (!status)
        *ret = board;
    return status;
}
