/* A check of the built-in reference over ranks, for tests. */
#ifndef MOEREF_TESTS_OVER_RANKS_H
#define MOEREF_TESTS_OVER_RANKS_H

#include "moeref/check.h"

/* Splits as a case says it ("ep=3 tokens=8+0+16"); `fault` may be NULL. The caller frees. */
moe_check_result *check_over_ranks(const char *spec, const char *line, const char *fault,
                                   double limit_s);

#endif
