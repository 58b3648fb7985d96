/* Names of status codes, and the one place that formats messages. */
#include "moeref/status.h"

#include <stdarg.h>
#include <stdio.h>

/* A sentence longer than this is cut: messages name a file, a key and a remedy, not data. */
#define MESSAGE_BYTES 1024

const char *moe_status_str(moe_status status) {
    switch (status) {
    case MOE_OK:
        return "ok";
    case MOE_E_INVALID:
        return "invalid argument";
    case MOE_E_NOMEM:
        return "out of memory";
    case MOE_E_IO:
        return "input/output error";
    case MOE_E_FORMAT:
        return "malformed file";
    case MOE_E_UNSUPPORTED:
        return "unsupported";
    case MOE_E_NOTFOUND:
        return "not found";
    case MOE_E_ABI:
        return "interface version mismatch";
    case MOE_E_DEVICE:
        return "device error";
    case MOE_E_CONTRACT:
        return "broken contract";
    }
    return "unknown status";
}

static void send_formatted(const moe_log *log, moe_log_level level, const char *format,
                           va_list args) {
    if (!log || !log->fn)
        return;
    char message[MESSAGE_BYTES];
    if (vsnprintf(message, sizeof(message), format, args) < 0)
        return;
    log->fn(log->user, level, message);
}

void moe_log_send(const moe_log *log, moe_log_level level, const char *format, ...) {
    va_list args;
    va_start(args, format);
    send_formatted(log, level, format, args);
    va_end(args);
}

moe_status(moe_fail)(const moe_log *log, moe_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    send_formatted(log, MOE_LOG_ERROR, format, args);
    va_end(args);
    return status;
}
