/* A plug-in's table whose slots run in a worker. */
#ifndef MOE_BACKEND_ISOLATE_PROXY_H
#define MOE_BACKEND_ISOLATE_PROXY_H

#include "backend/isolate/layers.h"

/* Fills in the defaults. MOE_E_IO: the worker's program is not there. */
moe_status moe_int_isolation_make(const char *worker, double timeout_s, const moe_log *log,
                                  moe_int_isolation *ret);

/* As moe_int_entry_open and _probe, in a worker that ends with it. */
moe_status moe_int_isolated_entry(const moe_int_isolation *how, const char *path,
                                  const moe_log *log, moe_int_entry *ret);

/* Opens the plug-in of `path` in a worker. Then caller->plugin is a table of this process, and
 * *ret its device; both are the caller's until moe_int_isolated_close. */
moe_status moe_int_isolated_open(const moe_int_isolation *how, const char *path,
                                 const moe_open_params *params, moe_int_caller *caller, void **ret);

/* After the table's `close`. */
void moe_int_isolated_destroy(void *device);

#endif
