/* The edge suite: what is checked when nothing else is asked for. Cases are lines of the case
 * grammar under stable names; the small ones also have stored outputs in golden/edge. */
#ifndef MOE_CHECK_SUITE_H
#define MOE_CHECK_SUITE_H

#include <stdbool.h>
#include <stddef.h>

#include "moeref/status.h"

/* The lines, in a fixed order. Static storage. */
MOE_API const char *const *moe_int_suite(size_t *count);

/* Name of line i: [a-z0-9_]+, unique, also the name of its golden file. */
const char *moe_int_suite_name(size_t i);

/* Does golden/edge hold outputs for line i? */
bool moe_int_suite_is_stored(size_t i);

/* Index of a name, or -1. */
long moe_int_suite_find(const char *name);

#endif
