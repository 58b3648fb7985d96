/* A check of the broken backend, or of the same one without its routing slot. */
#ifndef MOE_TESTS_BROKEN_CHECK_H
#define MOE_TESTS_BROKEN_CHECK_H

#include "controls.h"
#include "drawn.h"
#include "entry.h"
#include "moeref/check.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static moe_backends *all;

static inline moe_check_result *check_on(const char *plugin, const char *fault, const char *line,
                                         const moe_check_params *params) {
    char path[1024];
    moe_backend *backend = NULL;
    moe_check_result *result = NULL;
    moe_check_params quick = params ? *params : (moe_check_params){.repeats = 0};
    moe_problem *problem = drawn(line);
    quick.no_explanation = true; /* test_explain.c is for causes */
    moe_open_params open = {.variant = fault, .threads = 1};
    const char *build = getenv("MOEREF_BUILD_ROOT");
    cr_assert(build, "MOEREF_BUILD_ROOT is not set: run through meson test");
    snprintf(path, sizeof path, "%s/tests/conformance/%s.so", build, plugin);
    if (!all)
        cr_assert_eq(moe_backends_load("", NULL, &all), MOE_OK);
    cr_assert_eq(moe_backend_open(all, path, &open, NULL, &backend), MOE_OK, "%s", path);
    cr_assert_eq(moe_check_backend(backend, problem, &quick, NULL, &result), MOE_OK, "%s", fault);
    moe_backend_close(&backend);
    moe_problem_destroy(&problem);
    return result;
}

static inline moe_check_result *check(const char *fault, const char *line,
                                      const moe_check_params *params) {
    return check_on("moe_broken", fault, line, params);
}

#endif
