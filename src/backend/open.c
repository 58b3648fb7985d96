/* From what the user typed ("NAME", "NAME:VARIANT", a path) to an open device. */
#include "backend/registry.h"

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
                               const moe_plugin **ret) {
    for (size_t i = 0; i < all->count; i++) {
        const moe_int_entry *entry = &all->entry[i];
        if (strcmp(entry->name, name) != 0)
            continue;
        const moe_status status = entry->status;
        if (status)
            return moe_fail(log, status, "backend '%s' cannot be used here: %s%s%s", name,
                            entry->plugin ? "" : entry->path, entry->plugin ? "" : " ",
                            entry->reason);
        *ret = entry->plugin;
        return MOE_OK;
    }
    char known[512];
    list_names(all, known, sizeof known);
    return moe_fail(log, MOE_E_NOTFOUND, "no backend is named '%s'; known: %s", name, known);
}

static moe_status find_by_path(const char *path, const moe_log *log, const moe_plugin **ret) {
    moe_int_entry entry;
    moe_status status = moe_int_entry_load(path, &entry);
    if (status)
        return moe_fail(log, status, "no memory to load '%s'", path);
    status = entry.status;
    if (status)
        moe_fail(log, status, entry.plugin ? "%s cannot be used here: %s" : "%s %s", path,
                 entry.reason);
    else
        *ret = entry.plugin; /* lives in the shared object, which stays loaded */
    moe_int_entry_destroy(&entry);
    return status;
}

static char *join_name(const char *name, const char *variant) {
    size_t size = strlen(name) + strlen(variant) + 2;
    char *text = malloc(size);
    if (text)
        snprintf(text, size, "%s%s%s", name, *variant ? ":" : "", variant);
    return text;
}

/* The plug-in says itself why it fails. Then *ret is untouched and nothing stays open. */
static moe_status open_device(const moe_plugin *plugin, const char *variant,
                              const moe_open_params *params, const moe_log *log,
                              moe_backend **ret) {
    moe_backend *backend = calloc(1, sizeof *backend);
    char *name = join_name(plugin->name, variant);
    moe_status status;
    if (!backend || !name) {
        status = moe_fail(log, MOE_E_NOMEM, "no memory to open backend '%s'", plugin->name);
    } else {
        if (log)
            backend->log = *log;
        moe_open_params own = params ? *params : (moe_open_params){0};
        own.variant = variant;
        own.log = &backend->log;
        status = plugin->open(&own, &backend->device);
    }
    if (status) {
        free(name);
        free(backend);
        return status;
    }
    backend->plugin = plugin;
    backend->name = name;
    *ret = backend;
    return MOE_OK;
}

moe_status moe_backend_open(moe_backends *all, const char *spec, const moe_open_params *params,
                            const moe_log *log, moe_backend **ret) {
    char *name;
    const char *variant;
    const moe_plugin *plugin = NULL;
    moe_status status = split_spec(spec, &name, &variant);
    if (status)
        return moe_fail(log, status, "no memory to open backend '%s'", spec);
    if (!variant)
        variant = params && params->variant ? params->variant : "";
    status = strchr(name, '/') ? find_by_path(name, log, &plugin)
                               : find_by_name(all, name, log, &plugin);
    if (!status)
        status =
            open_device(plugin, variant, params, params && params->log ? params->log : log, ret);
    free(name);
    return status;
}

void moe_backend_close(moe_backend **backend) {
    if (!backend || !*backend)
        return;
    (*backend)->plugin->close((*backend)->device);
    free((*backend)->name);
    free(*backend);
    *backend = NULL;
}

const char *moe_backend_name(const moe_backend *backend) {
    return backend->name;
}

moe_status moe_backend_roofline(moe_backend *backend, moe_roofline *ret) {
    if (!backend->plugin->roofline)
        return MOE_E_UNSUPPORTED;
    moe_roofline roofline = {0};
    moe_status status = backend->plugin->roofline(backend->device, &roofline);
    if (!status)
        *ret = roofline;
    return status;
}

/* Behind the table of an older plug-in lies memory that is not the table's. */
moe_status moe_backend_board(moe_backend *backend, moe_board *ret) {
    if (backend->plugin->abi < 2 || !backend->plugin->board)
        return MOE_E_UNSUPPORTED;
    moe_board board = {0};
    moe_status status = backend->plugin->board(backend->device, &board);
    if (!status)
        *ret = board;
    return status;
}
