/* Private to src/backend: what the registry, the loader and the front end share. */
#ifndef MOEREF_BACKEND_REGISTRY_H
#define MOEREF_BACKEND_REGISTRY_H

#include "moeref/backend.h"

/* One listed backend. `plugin` is NULL when the file could not be accepted. */
typedef struct moe_int_entry {
    const moe_plugin *plugin;
    char *name; /* the plug-in's own, or the file's where the plug-in may not be read */
    char *path; /* "built in", or the file */
    moe_status status;
    char reason[256];
} moe_int_entry;

struct moe_backends {
    moe_int_entry *entry;
    size_t count, capacity;
};

struct moe_backend {
    const moe_plugin *plugin;
    void *device;
    char *name;  /* "NAME" or "NAME:VARIANT" */
    moe_log log; /* a copy: the plug-in holds its address until close */
};

/* The built-in plug-in: reference_plugin.c. */
extern const moe_plugin moe_int_reference_plugin;

/* Sets *ret for an already linked plug-in and probes it. Errors: MOE_E_NOMEM. */
moe_status moe_int_entry_builtin(const moe_plugin *plugin, moe_int_entry *ret);

/* Opens the shared object `path`, compares its ABI, checks its table and probes it. The outcome is
 * in ret->status and ret->reason; the return value is MOE_OK or MOE_E_NOMEM. */
moe_status moe_int_entry_load(const char *path, moe_int_entry *ret);

void moe_int_entry_destroy(moe_int_entry *entry);

#endif
