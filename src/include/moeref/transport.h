/* How ranks of expert parallelism reach each other: threads of one process, and plug-ins.
 *
 * A transport knows of bytes and ranks alone; what the phases of an exchange are is moeref/ep.h's.
 */
#ifndef MOEREF_TRANSPORT_H
#define MOEREF_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>

#include "moeref/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MOE_TRANSPORT_ABI    1u
#define MOE_TRANSPORT_SYMBOL "moe_transport_v"

/* Thread-safety: plain data. */
typedef struct moe_transport_params {
    int32_t ranks;
    double limit_s; /* most that a rank may wait for others in one exchange */
    const moe_log *log;
} moe_transport_params;

/* One exchange as one rank sees it: bytes for and from each rank, laid out one after the other.
 * `same`: all ranks get the same bytes, which lie there once.
 * Thread-safety: plain data. */
typedef struct moe_exchange {
    int32_t phase; /* moe_ep_phase; all ranks are in the same one, or it is an error */
    int32_t same;
    const void *send;
    void *receive;
    const int64_t *send_bytes, *receive_bytes; /* [R] */
} moe_exchange;

/* How ranks reach each other. Every rank that is left waiting longer than the limit, or whose peers
 * do something else, gets a status, the group's `fault` says which rank was in which phase, and
 * every other rank's calls fail from then on: nobody hangs.
 * Thread-safety: constant. `exchange`, `abandon` and `fault` are called by one thread for each rank
 * of this process, at the same time. */
typedef struct moe_transport {
    uint32_t abi; /* MOE_TRANSPORT_ABI */
    const char *name, *brief;
    int32_t devices; /* 1: rank r's rows go by GPU r, on which its backend should run */
    /* Of transports with a process for each rank, which all run the same program: words that go
     * before the number of ranks and the program's own, NULL after them, and the rank of this
     * process, -1: nobody has started it so. NULL: ranks are threads. */
    const char *const *launcher;
    int32_t (*started)(void);
    /* The ranks of this process: all, or one of several processes' that were started alike. */
    moe_status (*open)(const moe_transport_params *params, void **ret_group);
    void (*close)(void *group);
    void (*place)(const void *group, int32_t *ret_first, int32_t *ret_count);
    moe_status (*exchange)(void *group, int32_t rank, const moe_exchange *what);
    /* A rank gives up: `why`, a sentence, is the group's fault if there is none yet. */
    void (*abandon)(void *group, int32_t rank, const char *why);
    const char *(*fault)(void *group); /* "": none */
} moe_transport;

/* For authors of transports, so that all say the same. Seconds of a clock that only goes forward.
 */
MOE_API double moe_transport_now_s(void);
/* "rank 0 waited 10 s for rank 2 in combine" */
MOE_API void moe_transport_say_late(int32_t rank, double limit_s, int32_t whom, int32_t phase,
                                    char *ret, size_t size);
/* What rank q says of an exchange with `rank`, its phase and the bytes that it sends there, against
 * what that one expects: 1 if they agree, else 0 and a sentence. */
MOE_API int moe_transport_agree(int32_t rank, const moe_exchange *mine, int32_t q, int32_t phase,
                                int64_t bytes, char *ret, size_t size);

/* Threads of one process that copy from each other's memory. */
MOE_API const moe_transport *moe_transport_threads(void);

/* Of that name: "threads", or the file transport-NAME.so among the backends, or a path. It stays
 * loaded. MOE_E_NOTFOUND. Thread-safety: any thread. */
MOE_API moe_status moe_transport_find(const char *name, const moe_log *log,
                                      const moe_transport **ret);

#ifdef __cplusplus
}
#endif
#endif
