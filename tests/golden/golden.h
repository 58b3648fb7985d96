/* Golden folders of every family: loading, running the reference, comparing. */
#ifndef MOE_TESTS_GOLDEN_H
#define MOE_TESTS_GOLDEN_H

#include "moeref/case.h"
#include "moeref/reference.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_FAMILIES 96
#define NAME_BYTES    32

static inline void print_message(void *user, moe_log_level level, const char *message) {
    (void)user;
    (void)level;
    fprintf(stderr, "%s\n", message);
}

static const moe_log to_stderr = {print_message, NULL};

static inline moe_problem *load(const char *family) {
    char dir[4096];
    moe_problem *problem = NULL;
    snprintf(dir, sizeof dir, "%s/golden/hf/%s", getenv("MOEREF_SOURCE_ROOT"), family);
    moe_status status = moe_problem_from_hf(dir, -1, 0, &to_stderr, &problem);
    cr_assert_eq(status, MOE_OK, "%s: cannot load %s", family, dir);
    return problem;
}

static inline moe_reference_result *run(const moe_problem *problem) {
    moe_reference_params params = {.tokens = problem->T, .precision = MOE_F64};
    moe_reference_result *result = NULL;
    moe_status status =
        moe_reference_run(&problem->layer, &problem->in, &params, &to_stderr, &result);
    cr_assert_eq(status, MOE_OK, "%s: the reference failed", problem->name);
    return result;
}

/* Sum of squared differences over the sum of squares; NaN where anything is not finite. */
static inline double nmse(const moe_tensor *got, const moe_tensor *want) {
    double error = 0, norm = 0;
    for (size_t i = 0; i < (size_t)moe_tensor_count(want); i++) {
        double w = moe_load(want->data, want->dtype, i);
        double d = moe_load(got->data, got->dtype, i) - w;
        error += d * d;
        norm += w * w;
    }
    return error / norm;
}

typedef struct family_name {
    char text[NAME_BYTES];
} family_name;

/* Every folder of golden/hf: one whose name is no family fails to load. */
static inline struct criterion_test_params every_family(void) {
    static family_name names[MOST_FAMILIES];
    char path[4096];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/golden/hf", getenv("MOEREF_SOURCE_ROOT"));
    DIR *dir = opendir(path);
    cr_assert(dir, "%s", path);
    for (struct dirent *entry = readdir(dir); entry && n < MOST_FAMILIES; entry = readdir(dir))
        if (!strchr(entry->d_name, '.'))
            snprintf(names[n++].text, NAME_BYTES, "%.*s", NAME_BYTES - 1, entry->d_name);
    closedir(dir);
    return cr_make_param_array(family_name, names, n);
}

#endif
