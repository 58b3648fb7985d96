/* What belongs to the library is found: here, in a build tree, and where it was named. */
#include "moeref/home.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char said[512];

static void keep(void *user, moe_log_level level, const char *message) {
    (void)user, (void)level;
    snprintf(said, sizeof said, "%s", message);
}

static const moe_log to_said = {keep, NULL};

Test(core_home, named_goes_before_the_environment) {
    char path[PATH_MAX];
    setenv("MOEREF_GOLDEN", "/tmp", 1);
    cr_assert_eq(moe_home_find(MOE_HOME_GOLDEN, "/usr/lib/..", &to_said, path, sizeof path),
                 MOE_OK);
    cr_assert_str_eq(path, "/usr");
    cr_assert_eq(moe_home_find(MOE_HOME_GOLDEN, NULL, &to_said, path, sizeof path), MOE_OK);
    cr_assert_str_eq(path, "/tmp");
}

Test(core_home, a_choice_that_is_not_there_is_an_error) {
    char path[PATH_MAX] = "kept";
    setenv("MOEREF_WORKER", "/no/such/worker", 1);
    cr_assert_eq(moe_home_find(MOE_HOME_WORKER, NULL, &to_said, path, sizeof path), MOE_E_NOTFOUND);
    cr_assert(strstr(said, "'/no/such/worker', which is in $MOEREF_WORKER"), "%s", said);
    cr_assert_str_eq(path, "kept");
    cr_assert_eq(moe_home_find(MOE_HOME_GPUS, "/no/gpus", &to_said, path, sizeof path),
                 MOE_E_NOTFOUND);
    cr_assert(strstr(said, "the folder of GPU descriptions is not at '/no/gpus'"), "%s", said);
}

Test(core_home, nothing_is_written_past_the_end) {
    char path[5] = "abcd";
    cr_assert_eq(moe_home_find(MOE_HOME_GOLDEN, "/usr/lib", &to_said, path, 5), MOE_E_INVALID);
    cr_assert_str_eq(path, "abcd");
    cr_assert_eq(moe_home_find(MOE_HOME_GOLDEN, "/usr", &to_said, path, 5), MOE_OK);
    cr_assert_str_eq(path, "/usr");
    cr_assert_eq(moe_home_find((moe_home_part)99, NULL, &to_said, path, 5), MOE_E_INVALID);
    cr_assert_eq(moe_home_find((moe_home_part)-1, NULL, &to_said, path, 5), MOE_E_INVALID);
}
