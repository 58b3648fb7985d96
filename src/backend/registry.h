/* Private to src/backend: what the registry, the loader and the front end share. */
#ifndef MOEREF_BACKEND_REGISTRY_H
#define MOEREF_BACKEND_REGISTRY_H

#include "backend/isolate/proxy.h"
#include "moeref/backend.h"
#include "moeref/isolation.h"

struct moe_backends {
    moe_int_entry *entry;
    size_t count, capacity;
    bool is_isolated;
    moe_int_isolation isolation; /* where is_isolated */
};

struct moe_backend {
    moe_int_caller caller;
    bool is_isolated;
    void *device;
    char *name;     /* "NAME" or "NAME:VARIANT" */
    moe_log log;    /* what the plug-in holds until close: cleans its words, and passes on ... */
    moe_log outer;  /* ... to this */
    int32_t errors; /* that the plug-in or the front end has sent there */
    bool is_told;   /* the caller's fault has been sent there */
};

/* Opens, checks and probes a file, in a worker where plug-ins are isolated. The outcome is in
 * ret->status and ret->reason; the return value is MOE_OK or MOE_E_NOMEM. */
moe_status moe_int_backends_look(const moe_backends *all, const char *path, const moe_log *log,
                                 moe_int_entry *ret);

/* A new layer is judged by itself: clears the fault. */
void moe_int_backend_forget(moe_backend *backend);
/* Says a fault once, where there is one; returns the status. */
moe_status moe_int_backend_settle(moe_backend *backend, moe_status status);

/* A backend of a table and an open device that come from elsewhere in the library. Closing it
 * closes the device. MOE_E_NOMEM. */
moe_status moe_int_backend_wrap(const moe_plugin *plugin, void *device, const char *name,
                                const moe_log *log, moe_backend **ret);
/* The device of such a backend's layer. */
void *moe_int_layer_plugged(const moe_layer *layer);

/* The built-in plug-in: reference_plugin.c. */
extern const moe_plugin moe_int_reference_plugin;

#endif
