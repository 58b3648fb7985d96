/* The build compiles every public header alone, as C11 and as C++17; this holds that list
 * (HEADERS, from meson.build) against the folder, and the version against the library. */
#include "moeref/version.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_header(const struct dirent *file) {
    const char *dot = strrchr(file->d_name, '.');
    return dot && strcmp(dot, ".h") == 0;
}

Test(headers, all_are_compiled_alone) {
    const char *root = getenv("MOEREF_SOURCE_ROOT");
    cr_assert_not_null(root, "run by `meson test`");
    char folder[4096], joined[4096] = "";
    snprintf(folder, sizeof folder, "%s/src/include/moeref", root);
    struct dirent **file;
    int count = scandir(folder, &file, is_header, alphasort);
    cr_assert_gt(count, 0, "%s is empty", folder);
    for (int i = 0; i < count; i++) {
        strcat(joined, file[i]->d_name);
        strcat(joined, i + 1 < count ? " " : "");
        free(file[i]);
    }
    free(file);
    cr_assert_str_eq(joined, HEADERS);
}

Test(headers, version_is_the_library_s) {
    unsigned major, minor, patch;
    char end;
    cr_assert_eq(sscanf(moe_version(), "%u.%u.%u%c", &major, &minor, &patch, &end), 3);
    cr_assert_eq(major << 16 | minor << 8 | patch, MOE_VERSION_HEX, "%s", moe_version());
    cr_assert_eq(moe_version_hex(), MOE_VERSION_HEX);
}
