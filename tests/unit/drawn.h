/* The problem that a line of the case grammar describes, its data drawn. */
#ifndef MOE_TESTS_DRAWN_H
#define MOE_TESTS_DRAWN_H

#include "capture.h"
#include "moeref/case.h"

#include <criterion/criterion.h>

static inline moe_problem *drawn(const char *line) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_case c;
    moe_problem *problem = NULL;
    cr_assert_eq(moe_case_parse(line, &log, &c), MOE_OK, "%s: %s", line, seen.text);
    cr_assert_eq(moe_problem_from_case(&c, &log, &problem), MOE_OK, "%s: %s", line, seen.text);
    moe_case_destroy(&c);
    return problem;
}

#endif
