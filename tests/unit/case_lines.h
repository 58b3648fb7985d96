/* Lines of the case grammar, printed again. */
#ifndef MOE_TESTS_UNIT_CASE_LINES_H
#define MOE_TESTS_UNIT_CASE_LINES_H

#include "capture.h"
#include "moeref/case.h"

#include <criterion/criterion.h>

#define BASE "T=64 d=32 n=16 E=8 K=2"
#define LINE 1024

static inline void print_parsed(const char *text, char *ret_line) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_case c;
    moe_status status = moe_case_parse(text, &log, &c);
    cr_assert_eq(status, MOE_OK, "\"%s\": %s", text, seen.text);
    cr_assert_lt(moe_case_print(&c, ret_line, LINE), LINE);
    moe_case_destroy(&c);
}

#endif
