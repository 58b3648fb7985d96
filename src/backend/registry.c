/* The registry: built-in backends and the plug-ins found on the search path. */
#define _GNU_SOURCE
#include "backend/registry.h"
#include "moeref/home.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char environment_key[] = "MOEREF_BACKEND_PATH";

static const moe_int_entry *find(const moe_backends *all, const char *name) {
    for (size_t i = 0; i < all->count; i++)
        if (strcmp(all->entry[i].name, name) == 0)
            return &all->entry[i];
    return NULL;
}

/* Takes the entry over, also on failure. */
static moe_status append(moe_backends *all, moe_int_entry *entry) {
    if (all->count == all->capacity) {
        size_t capacity = all->capacity ? 2 * all->capacity : 8;
        moe_int_entry *grown = realloc(all->entry, capacity * sizeof *grown);
        if (!grown) {
            moe_int_entry_destroy(entry);
            return MOE_E_NOMEM;
        }
        all->entry = grown;
        all->capacity = capacity;
    }
    all->entry[all->count++] = *entry;
    return MOE_OK;
}

moe_status moe_int_backends_look(const moe_backends *all, const char *path, const moe_log *log,
                                 moe_int_entry *ret) {
    if (all->is_isolated)
        return moe_int_isolated_entry(&all->isolation, path, log, ret);
    moe_status status = moe_int_entry_open(path, ret);
    if (!status && ret->accepted)
        moe_int_entry_probe(ret);
    return status;
}

/* The first of a name wins; files that could not be accepted are listed with the reason. */
static moe_status add_file(moe_backends *all, const char *path, const moe_log *log) {
    moe_int_entry entry;
    moe_status status = moe_int_backends_look(all, path, log, &entry);
    if (status)
        return status;
    const moe_int_entry *first = find(all, entry.name);
    if (first) {
        if (strcmp(first->path, entry.path) != 0)
            moe_log_send(log, MOE_LOG_WARN,
                         "%s: a backend named '%s' is known already (%s): skipped", path,
                         entry.name, first->path);
        moe_int_entry_destroy(&entry);
        return MOE_OK;
    }
    if (!entry.accepted || entry.status == MOE_E_CONTRACT)
        moe_log_send(log, MOE_LOG_WARN, "%s %s: skipped", path, entry.reason);
    return append(all, &entry);
}

static int is_plugin_file(const struct dirent *file) {
    const char *dot = strrchr(file->d_name, '.');
    return strncmp(file->d_name, "moeref-", 7) == 0 && dot && strcmp(dot, ".so") == 0;
}

static int is_visible(const struct dirent *file) {
    return file->d_name[0] != '.';
}

/* Calls add_file for every plug-in of one folder, by name; with `nested`, also in its subfolders.
 */
static moe_status add_folder(moe_backends *all, const char *folder, bool nested,
                             const moe_log *log) {
    struct dirent **file = NULL;
    int count = scandir(folder, &file, nested ? is_visible : is_plugin_file, alphasort);
    moe_status status = MOE_OK;
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        bool fits =
            snprintf(path, sizeof path, "%s/%s", folder, file[i]->d_name) < (int)sizeof path;
        struct stat info;
        if (!status && fits && stat(path, &info) == 0) {
            if (S_ISDIR(info.st_mode) && nested)
                status = add_folder(all, path, false, log);
            else if (is_plugin_file(file[i]) && !S_ISDIR(info.st_mode))
                status = add_file(all, path, log);
        }
        free(file[i]);
    }
    free(file);
    return status;
}

/* A colon-separated list that the user gave: a folder that is not there is worth a warning. */
static moe_status add_list(moe_backends *all, const char *list, const moe_log *log) {
    char *copy = strdup(list), *rest = copy;
    if (!copy)
        return MOE_E_NOMEM;
    moe_status status = MOE_OK;
    for (char *folder; !status && (folder = strsep(&rest, ":"));) {
        struct stat info;
        if (!*folder)
            continue;
        if (stat(folder, &info) != 0 || !S_ISDIR(info.st_mode))
            moe_log_send(log, MOE_LOG_WARN, "backend search path: '%s' is not a folder", folder);
        else
            status = add_folder(all, folder, false, log);
    }
    free(copy);
    return status;
}

/* The installed folder, or that of a build tree, where each plug-in has a folder of its own. There
 * need be none. */
static moe_status add_default(moe_backends *all, const moe_log *log) {
    char folder[PATH_MAX];
    if (moe_home_find(MOE_HOME_BACKENDS, NULL, NULL, folder, sizeof folder))
        return MOE_OK;
    return add_folder(all, folder, true, log);
}

/* Insertion keeps the search order among equal priorities; refused files go last. */
static int rank(const moe_int_entry *entry) {
    return entry->accepted ? entry->priority : INT_MIN;
}

static void sort_by_priority(moe_backends *all) {
    for (size_t i = 1; i < all->count; i++) {
        moe_int_entry moved = all->entry[i];
        size_t to = i;
        for (; to > 0 && rank(&all->entry[to - 1]) < rank(&moved); to--)
            all->entry[to] = all->entry[to - 1];
        all->entry[to] = moved;
    }
}

/* Fills a registry that is empty but for how plug-ins are run; it is destroyed on failure. */
static moe_status fill(moe_backends *all, const char *path, const moe_log *log,
                       moe_backends **ret) {
    moe_int_entry builtin;
    moe_status status = moe_int_entry_builtin(&moe_int_reference_plugin, &builtin);
    if (!status)
        status = append(all, &builtin);
    const char *list = path ? path : getenv(environment_key);
    if (!status)
        status = list ? add_list(all, list, log) : add_default(all, log);
    if (status) {
        moe_backends_destroy(&all);
        return moe_fail(log, status, "no memory for the list of backends");
    }
    sort_by_priority(all);
    *ret = all;
    return MOE_OK;
}

static moe_backends *make(const moe_log *log) {
    moe_backends *all = calloc(1, sizeof *all);
    if (!all)
        moe_fail(log, MOE_E_NOMEM, "no memory for the list of backends");
    return all;
}

moe_status moe_backends_load(const char *path, const moe_log *log, moe_backends **ret) {
    moe_backends *all = make(log);
    return all ? fill(all, path, log, ret) : MOE_E_NOMEM;
}

moe_status moe_backends_load_isolated(const char *path, const moe_isolation *how,
                                      const moe_log *log, moe_backends **ret) {
    static const moe_isolation defaults;
    moe_backends *all = make(log);
    if (!all)
        return MOE_E_NOMEM;
    how = how ? how : &defaults;
    all->is_isolated = true;
    moe_status status = moe_int_isolation_make(how->worker, how->timeout_s, log, &all->isolation);
    if (!status)
        return fill(all, path, log, ret);
    moe_backends_destroy(&all);
    return status;
}

void moe_backends_destroy(moe_backends **all) {
    if (!all || !*all)
        return;
    for (size_t i = 0; i < (*all)->count; i++)
        moe_int_entry_destroy(&(*all)->entry[i]);
    free((*all)->entry);
    free(*all);
    *all = NULL;
}

size_t moe_backends_count(const moe_backends *all) {
    return all->count;
}

moe_backend_info moe_backends_info(const moe_backends *all, size_t i) {
    const moe_int_entry *entry = &all->entry[i];
    return (moe_backend_info){
        .name = entry->name,
        .brief = entry->brief,
        .path = entry->path,
        .priority = entry->priority,
        .status = entry->status,
        .reason = entry->reason,
    };
}
