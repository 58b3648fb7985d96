/* Status codes and the log callback that every other header builds on.
 *
 * The library never prints and never exits: a call that fails returns a negative
 * moe_status and, where the caller gave a log, sends it one sentence that says what
 * failed, where, and what to do.
 *
 * Thread-safety: the library keeps no state between calls but in the objects that it hands out. Of
 * a type that is "plain data" any number of threads may read an object while none writes it. */
#ifndef MOEREF_STATUS_H
#define MOEREF_STATUS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MOE_API               __attribute__((visibility("default")))
#define MOE_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define MOE_API
#define MOE_PRINTF(fmt, args)
#endif

/* Values are pinned: they cross the plug-in ABI. */
typedef enum moe_status {
    MOE_OK = 0,
    MOE_E_INVALID = -1,     /* an argument, a case or a file's content contradicts itself */
    MOE_E_NOMEM = -2,       /* host or device memory is exhausted */
    MOE_E_IO = -3,          /* a file cannot be opened, read or written */
    MOE_E_FORMAT = -4,      /* a file is not what its format says */
    MOE_E_UNSUPPORTED = -5, /* well-formed, but this build or backend cannot do it */
    MOE_E_NOTFOUND = -6,    /* a name (backend, tensor, case, key) does not exist */
    MOE_E_ABI = -7,         /* a plug-in was built for another interface version */
    MOE_E_DEVICE = -8,      /* a device is missing or reported an error */
    MOE_E_CONTRACT = -9     /* never a plug-in's: it crashed, hung, or did what plugin.h forbids */
} moe_status;

/* A short fixed name such as "out of memory"; never NULL. Thread-safety: any thread. */
MOE_API const char *moe_status_str(moe_status status);

typedef enum moe_log_level {
    MOE_LOG_ERROR = 0,
    MOE_LOG_WARN = 1,
    MOE_LOG_INFO = 2,
    MOE_LOG_DEBUG = 3
} moe_log_level;

/* Where messages go. `fn` gets one sentence without a newline; `message` is valid during
 * the call only. A NULL moe_log pointer, or a NULL fn, means silence.
 * Thread-safety: the library calls fn only from the thread that called the library. */
typedef struct moe_log {
    void (*fn)(void *user, moe_log_level level, const char *message);
    void *user;
} moe_log;

/* Where it is told how far something long is: `phase` is a word that lives for ever, of whose steps
 * `done` of `of` are over; `of` 0: it has no steps. A NULL moe_progress pointer, or a NULL fn,
 * means silence. Thread-safety: as moe_log. */
typedef struct moe_progress {
    void (*fn)(void *user, const char *phase, int64_t done, int64_t of);
    void *user;
} moe_progress;

/* Sends one formatted sentence to `log` (NULL: nothing happens). */
MOE_API void moe_log_send(const moe_log *log, moe_log_level level, const char *format, ...)
    MOE_PRINTF(3, 4);

/* Sends an error sentence and returns `status`, so that a failing path is one line:
 *     return moe_fail(log, MOE_E_FORMAT, "%s: header is %zu bytes short", path, missing); */
MOE_API moe_status moe_fail(const moe_log *log, moe_status status, const char *format, ...)
    MOE_PRINTF(3, 4);

#ifdef __cplusplus
}
#endif
#endif
