/* The openblas plug-in of the build tree, for its tests. */
#ifndef MOE_TESTS_OPENBLAS_RUN_H
#define MOE_TESTS_OPENBLAS_RUN_H

#include "backend_run.h"

#include <limits.h>
#include <stdio.h>

static inline void open_spec_or_skip(backend_run *r, const char *spec, int threads) {
    char path[PATH_MAX];
    const char *root = getenv("MOEREF_BUILD_ROOT");
    cr_assert_not_null(root, "run by `meson test`");
    snprintf(path, sizeof path, "%s/backends/openblas", root);
    moe_status status = run_open(r, path, spec, threads);
    if (status == MOE_E_UNSUPPORTED) /* not this processor, not this OpenBLAS */
        cr_skip("%s", r->seen.text);
    cr_assert_eq(status, MOE_OK, "%s", r->seen.text);
}

static inline void open_or_skip(backend_run *r, int threads) {
    open_spec_or_skip(r, "openblas", threads);
}

#endif
