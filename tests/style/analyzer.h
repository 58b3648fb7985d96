/* Included before every file that `./dev tidy` reads: moe_fail returns the status it was given,
 * which the analyzer cannot see from outside its file and without which every failure seems to
 * succeed. */
#ifndef MOE_TESTS_ANALYZER_H
#define MOE_TESTS_ANALYZER_H

/* Some files ask for it, before they include anything. */
#define _GNU_SOURCE
#include "moeref/status.h"

#define moe_fail(log, status, ...) (moe_log_send(log, MOE_LOG_ERROR, __VA_ARGS__), (status))

#endif
