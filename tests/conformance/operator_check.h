/* What the promises of operators share, and the one that needs a device's driver. */
#ifndef MOE_TESTS_OPERATOR_CHECK_H
#define MOE_TESTS_OPERATOR_CHECK_H

#include "operator_call.h"

#include <stdbool.h>

/* A format of operator_draw. */
extern const char *const operator_step_format;

/* The problem of a case with these tokens and seed, in the type that is checked. */
moe_problem *operator_draw(const char *format, int64_t tokens, int seed);
/* Prints a promise's line. Returns `passes`. */
bool operator_verdict(const char *name, bool passes, const char *detail);
bool operator_same_bits(const moe_tensor *a, const moe_tensor *b);
/* Forward, then backward. */
moe_status operator_run_both(const operator_call *c);

/* operator_replay.c */
bool operator_check_replay(moe_backend *backend);

#endif
