/* Backends in processes of their own: a plug-in that crashes, hangs, exits or prints takes a worker
 * along, not the program that judges it.
 *
 *     moe_isolation how = {.timeout_s = 30};
 *     moe_backends_load_isolated(NULL, &how, &log, &all);
 *     moe_backend_open(all, "./mine.so", &params, &log, &backend);    // everything else as before
 *
 * What a slot did against its contract is MOE_E_CONTRACT, and moe_backend_fault says it. A worker
 * that died is started again for the next layer. The built-in backend stays in this process. */
#ifndef MOEREF_ISOLATION_H
#define MOEREF_ISOLATION_H

#include "moeref/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All zero: the defaults.
 * Thread-safety: plain data. */
typedef struct moe_isolation {
    const char *worker; /* the program moeref-worker; NULL: $MOEREF_WORKER, or beside libmoeref */
    double timeout_s;   /* most that one call of a slot may take; 0: 60 s, and 1 s for every
                           10^9 FLOP of the layer, a tenth of what plain loops on one thread do,
                           and for every 10^8 bytes of its parameters */
} moe_isolation;

/* As moe_backends_load, with every plug-in loaded, probed and run in workers. MOE_E_IO without the
 * worker's program. `how` may be NULL. */
MOE_API moe_status moe_backends_load_isolated(const char *path, const moe_isolation *how,
                                              const moe_log *log, moe_backends **ret);

/* What the worker's program does; returns its exit code. For nobody else. */
MOE_API int moe_isolation_serve(void);

#ifdef __cplusplus
}
#endif
#endif
