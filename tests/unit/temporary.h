/* Files and folders that a test writes and takes away: in $TMPDIR, else in the system's place. */
#ifndef MOE_TESTS_TEMPORARY_H
#define MOE_TESTS_TEMPORARY_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEMPORARY_BYTES 100 /* room for a path */

static inline void temporary_path(char *ret, const char *suffix) {
    const char *place = getenv("TMPDIR");
    const int length = snprintf(ret, TEMPORARY_BYTES, "%s/moeref-XXXXXX%s",
                                place && *place ? place : P_tmpdir, suffix);
    cr_assert_lt(length, TEMPORARY_BYTES, "%s is too long a path", place);
}

static inline void temporary_folder(char *ret) {
    temporary_path(ret, "");
    cr_assert_not_null(mkdtemp(ret));
}

/* `bytes` may be NULL where there are none. */
static inline void temporary_file(char *ret, const char *suffix, const void *bytes, size_t size) {
    temporary_path(ret, suffix);
    const int fd = mkstemps(ret, (int)strlen(suffix));
    cr_assert_geq(fd, 0);
    cr_assert(size == 0 || write(fd, bytes, size) == (ssize_t)size);
    close(fd);
}

/* A file, or a folder with what is in it. */
static inline void temporary_remove(const char *path) {
    char command[TEMPORARY_BYTES + 16];
    cr_assert_lt(snprintf(command, sizeof command, "rm -r '%s'", path), (int)sizeof command);
    cr_assert_eq(system(command), 0);
}

#endif
