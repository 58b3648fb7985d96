/* Transports by name: threads, or a module that is loaded when it is asked for. */
#include "moeref/home.h"
#include "moeref/transport.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_there(const char *folder, const char *nested, const char *file, char *ret) {
    const int length = snprintf(ret, PATH_MAX, "%s/%s/%s", folder, nested, file);
    return length > 0 && length < PATH_MAX && access(ret, R_OK) == 0;
}

/* FOLDER/transport-NAME.so, or in a build tree FOLDER/X/transport-NAME.so. */
static bool find_in(const char *folder, const char *file, char *ret) {
    bool found = is_there(folder, ".", file, ret);
    DIR *all = found ? NULL : opendir(folder);
    for (struct dirent *one; all && !found && (one = readdir(all));)
        found = one->d_name[0] != '.' && is_there(folder, one->d_name, file, ret);
    if (all)
        closedir(all);
    return found;
}

static moe_status load(const char *path, const moe_log *log, const moe_transport **ret) {
    void *file = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* stays open: libraries of its kind have
                                                         threads that outlive any call */
    const moe_transport *table = file ? dlsym(file, MOE_TRANSPORT_SYMBOL) : NULL;
    if (!table)
        return moe_fail(log, MOE_E_FORMAT, "%s cannot be loaded: %s", path, dlerror());
    if (table->abi != MOE_TRANSPORT_ABI)
        return moe_fail(log, MOE_E_ABI, "%s has interface %u of transports, not %u", path,
                        (unsigned)table->abi, MOE_TRANSPORT_ABI);
    *ret = table;
    return MOE_OK;
}

moe_status moe_transport_find(const char *name, const moe_log *log, const moe_transport **ret) {
    char folder[PATH_MAX - 512], file[128], path[PATH_MAX];
    if (strcmp(name, moe_transport_threads()->name) == 0) {
        *ret = moe_transport_threads();
        return MOE_OK;
    }
    if (strchr(name, '/'))
        return load(name, log, ret);
    if (strlen(name) > 64)
        return moe_fail(log, MOE_E_NOTFOUND, "no transport has so long a name");
    snprintf(file, sizeof file, "transport-%s.so", name);
    moe_status status = moe_home_find(MOE_HOME_BACKENDS, NULL, log, folder, sizeof folder);
    if (status)
        return status;
    if (!find_in(folder, file, path))
        return moe_fail(log, MOE_E_NOTFOUND,
                        "there is no transport '%s': threads is built in, %s is not in %s", name,
                        file, folder);
    return load(path, log, ret);
}
