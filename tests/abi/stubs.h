/* Plug-ins of all kinds, put where the loader looks. */
#ifndef MOE_TESTS_STUBS_H
#define MOE_TESTS_STUBS_H

#include "../unit/capture.h"
#include "moeref/operator.h"
#include "run_moeref.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* `name` in a folder; `path` has room for PATH_MAX bytes. */
static inline void path_in(char *path, const char *folder, const char *name) {
    cr_assert_lt(snprintf(path, PATH_MAX, "%s/%s", folder, name), PATH_MAX, "%s/%s", folder, name);
}

static inline const char *in_build(const char *relative) {
    static char path[PATH_MAX];
    const char *root = getenv("MOEREF_BUILD_ROOT");
    cr_assert_not_null(root, "run by `meson test`");
    path_in(path, root, relative);
    return path;
}

static inline const char *stub(const char *kind) {
    char relative[256];
    snprintf(relative, sizeof relative, "tests/abi/stub_%s.so", kind);
    return in_build(relative);
}

static inline void expect_text(const capture *seen, const char *part) {
    cr_expect(strstr(seen->text, part), "'%s' lacks '%s'", seen->text, part);
}

/* The plug-in of `kind` appears in the folder as `name`. */
static inline void put(const char *folder, const char *kind, const char *name) {
    char link[PATH_MAX];
    path_in(link, folder, name);
    cr_assert_eq(symlink(stub(kind), link), 0);
}

static inline void put_text(const char *folder, const char *name) {
    char path[PATH_MAX];
    path_in(path, folder, name);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs("I am no shared object\n", file);
    fclose(file);
}

static inline moe_backends *load(const char *path, const moe_log *log) {
    moe_backends *all = NULL;
    cr_assert_eq(moe_backends_load(path, log, &all), MOE_OK);
    return all;
}

static inline const moe_backend_info *find(moe_backends *all, const char *name) {
    static moe_backend_info info;
    for (size_t i = 0; i < moe_backends_count(all); i++) {
        info = moe_backends_info(all, i);
        if (strcmp(info.name, name) == 0)
            return &info;
    }
    return NULL;
}

/* Opens by path and expects a failure with `status` and a sentence that holds `part`. */
static inline void expect_refused(const char *path, moe_status status, const char *part) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_backends *all = load("", NULL);
    moe_backend *backend = (moe_backend *)&seen;
    cr_expect_eq(moe_backend_open(all, path, NULL, &log, &backend), status, "%s: %s", path,
                 seen.text);
    cr_expect_eq(backend, (moe_backend *)&seen, "the out-parameter was touched");
    cr_expect_eq(seen.messages, 1, "%d messages for one failure", seen.messages);
    expect_text(&seen, part);
    moe_backends_destroy(&all);
}

#endif
