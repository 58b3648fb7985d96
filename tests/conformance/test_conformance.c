/* One body for every backend: the edge suite, with stored outputs where there are any. A backend
 * may refuse cases, with a reason, but not all of them; it may not fail one. */
#include "moeref/check.h"
#include "moeref/suite.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct counts {
    int ran, skipped, wrong;
} counts;

static void print_problem(void *user, moe_log_level level, const char *message) {
    (void)user;
    if (level <= MOE_LOG_ERROR)
        fprintf(stderr, "# %s\n", message);
}

static const moe_log problems = {print_problem, NULL};

static const char *root(const char *variable) {
    const char *value = getenv(variable);
    cr_assert(value, "%s is not set: run through meson test", variable);
    return value;
}

static void check_line(moe_backend *backend, const char *line, counts *n) {
    char golden[1024];
    moe_case c;
    moe_problem *problem = NULL;
    moe_check_result *result = NULL;
    cr_assert_eq(moe_case_parse(line, &problems, &c), MOE_OK, "%s", line);
    cr_assert_eq(moe_problem_from_case(&c, &problems, &problem), MOE_OK, "%s", line);
    snprintf(golden, sizeof golden, "%s/golden/edge", root("MOEREF_SOURCE_ROOT"));
    cr_assert_eq(moe_suite_attach(golden, &problems, problem), MOE_OK, "%s", line);
    cr_assert_eq(moe_check_backend(backend, problem, NULL, &problems, &result), MOE_OK, "%s", line);
    if (result->verdict == MOE_VERDICT_SKIP) {
        cr_expect(strlen(result->why) > 10, "%s: refused without a reason", line);
        n->skipped++;
    } else if (result->verdict <= MOE_VERDICT_AMBIGUOUS) {
        n->ran++;
    } else {
        cr_expect(0, "%s: %s: %s (%s)", result->backend, moe_verdict_str(result->verdict),
                  result->why, result->reproduce);
        n->wrong++;
    }
    moe_check_result_destroy(&result);
    moe_problem_destroy(&problem);
    moe_case_destroy(&c);
}

/* The whole suite; `least` cases must really have run. */
static void conform(moe_backends *all, const char *spec, int least) {
    moe_backend *backend = NULL;
    moe_open_params params = {.threads = 2};
    counts n = {0};
    size_t count;
    const char *const *lines = moe_suite(&count);
    cr_assert_eq(moe_backend_open(all, spec, &params, &problems, &backend), MOE_OK, "%s", spec);
    for (size_t i = 0; i < count; i++)
        check_line(backend, lines[i], &n);
    cr_expect(n.ran >= least, "%s: only %d of %zu cases ran, %d were refused", spec, n.ran, count,
              n.skipped);
    moe_backend_close(&backend);
}

static void conform_builtin(const char *spec, int least) {
    moe_backends *all = NULL;
    cr_assert_eq(moe_backends_load("", &problems, &all), MOE_OK);
    conform(all, spec, least);
    moe_backends_destroy(&all);
}

Test(conformance, reference) {
    conform_builtin("reference", 92);
}

Test(conformance, reference_fp32) {
    conform_builtin("reference:fp32", 92);
}

Test(conformance, reference_bf16) {
    conform_builtin("reference:bf16", 92);
}

/* huge and tiny are beyond what fp16 can hold. */
Test(conformance, reference_fp16) {
    conform_builtin("reference:fp16", 90);
}

/* Every folder of the build's backends, as a search path. */
static void plugin_path(char *ret, size_t size) {
    char base[1024];
    size_t used = 0;
    snprintf(base, sizeof base, "%s/backends", root("MOEREF_BUILD_ROOT"));
    DIR *dir = opendir(base);
    cr_assert(dir, "%s", base);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.' && used < size)
            used += (size_t)snprintf(ret + used, size - used, "%s%s/%s", used ? ":" : "", base,
                                     entry->d_name);
    closedir(dir);
    cr_assert(used < size);
}

/* A plug-in that says it cannot run here (no GPU) is passed over; one that can must run most of the
 * suite. */
Test(conformance, plugins, .timeout = 300) {
    static char path[8192];
    moe_backends *all = NULL;
    plugin_path(path, sizeof path);
    cr_assert_eq(moe_backends_load(path, &problems, &all), MOE_OK);
    for (size_t i = 0; i < moe_backends_count(all); i++) {
        moe_backend_info info = moe_backends_info(all, i);
        if (strcmp(info.path, "built in") == 0)
            continue;
        cr_expect_neq(info.status, MOE_E_ABI, "%s: %s", info.name, info.reason);
        if (info.status == MOE_OK)
            conform(all, info.name, 60);
        else
            cr_expect(strlen(info.reason) > 10, "%s is unusable without a reason", info.name);
    }
    moe_backends_destroy(&all);
}

/* The out-of-tree example: given routing, fp32 inputs, plain experts. */
Test(conformance, example) {
    static const char *const lines[] = {
        "T=1 d=16 n=8 E=4 K=2 dtype=fp32 route=uniform seed=1",
        "T=33 d=24 n=16 E=5 K=3 dtype=fp32 route=zipf:1.1 seed=2",
        "T=16 d=16 n=8 E=6 K=2 dtype=fp32 route=counts:0+16+0+9+7+0 seed=3",
        "T=140 d=16 n=8 E=2 K=1 dtype=fp32 route=balanced seed=4",
    };
    char path[1024];
    moe_backends *all = NULL;
    moe_backend *backend = NULL;
    counts n = {0};
    snprintf(path, sizeof path, "%s/backends/example/moe_example.so", root("MOEREF_BUILD_ROOT"));
    cr_assert_eq(moe_backends_load("", &problems, &all), MOE_OK);
    cr_assert_eq(moe_backend_open(all, path, NULL, &problems, &backend), MOE_OK);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        check_line(backend, lines[i], &n);
    cr_expect_eq(n.ran, 4, "%d of 4 cases ran", n.ran);
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
}

/* Names are stable handles: unique, and every stored case has its file. */
Test(conformance, suite_names) {
    size_t count;
    moe_suite(&count);
    for (size_t i = 0; i < count; i++)
        cr_expect_eq(moe_suite_find(moe_suite_name(i)), (long)i, "%s", moe_suite_name(i));
    cr_expect_eq(moe_suite_find("no_such_case"), -1);
}

/* The oracle still computes what golden/edge says. */
Test(conformance, golden_edge) {
    char golden[1024];
    size_t files = 0, count, stored = 0;
    moe_suite(&count);
    for (size_t i = 0; i < count; i++)
        stored += moe_suite_is_stored(i);
    snprintf(golden, sizeof golden, "%s/golden/edge", root("MOEREF_SOURCE_ROOT"));
    cr_expect_eq(moe_suite_verify(golden, &problems, &files), MOE_OK);
    cr_expect_eq(files, stored);
}
