/* Plug-ins as they are listed: files that were opened and looked at, and what came of it. */
#ifndef MOE_BACKEND_PLUGIN_LOAD_H
#define MOE_BACKEND_PLUGIN_LOAD_H

#include "moeref/plugin.h"

#include <stdbool.h>

/* One listed backend. */
typedef struct moe_int_entry {
    const moe_plugin *plugin; /* NULL: could not be accepted, or is loaded in workers only */
    bool accepted;            /* its table can be used */
    bool isolated;            /* it runs in a worker */
    int32_t priority;
    char *name; /* the plug-in's own, or the file's where the plug-in may not be read */
    char *path; /* "built in", or the file */
    char brief[160];
    moe_status status;
    char reason[256];
} moe_int_entry;

/* Sets *ret for an already linked plug-in and probes it. Errors: MOE_E_NOMEM. */
moe_status moe_int_entry_builtin(const moe_plugin *plugin, moe_int_entry *ret);

/* Opens the shared object `path`, compares its ABI and checks its table. The outcome is in
 * ret->status and ret->reason; the return value is MOE_OK or MOE_E_NOMEM. */
moe_status moe_int_entry_open(const char *path, moe_int_entry *ret);
/* Asks an accepted plug-in of this process whether it can run; the outcome as above. */
void moe_int_entry_probe(moe_int_entry *entry);

/* An entry of the file's name that could not be accepted. Errors: MOE_E_NOMEM. */
moe_status moe_int_entry_refused(const char *path, moe_status status, const char *reason,
                                 moe_int_entry *ret);
void moe_int_entry_destroy(moe_int_entry *entry);

#endif
