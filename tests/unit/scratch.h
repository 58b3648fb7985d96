/* A fresh directory for each test that writes files, and helpers for what lies in it. */
#ifndef MOE_TESTS_SCRATCH_H
#define MOE_TESTS_SCRATCH_H

#include "core/file.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char scratch_folder[TEMPORARY_BYTES];

static inline void scratch_enter(void) {
    temporary_folder(scratch_folder);
    cr_assert_eq(chdir(scratch_folder), 0);
}

static inline void scratch_leave(void) {
    cr_assert_eq(chdir("/"), 0);
    temporary_remove(scratch_folder);
}

static inline int scratch_count(const char *path) {
    int count = 0;
    DIR *dir = opendir(path);
    for (struct dirent *entry; (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static inline void scratch_write(const char *path, const char *text) {
    cr_assert_eq(moe_int_file_write(path, text, strlen(text), NULL), MOE_OK);
}

#endif
