/* Whole files: devices, links, permissions, and writers that are given up. */
#include "capture.h"
#include "core/file.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(file, .init = scratch_enter, .fini = scratch_leave);

/* Renaming over a device would replace it with a file. */
Test(file, devices_and_links_are_not_replaced) {
    struct stat info;
    capture seen;
    moe_log log = capture_log(&seen);
    cr_assert_eq(moe_int_file_write("/dev/null", "x", 1, &log), MOE_OK, "%s", seen.text);
    cr_assert_eq(moe_int_file_write("/dev/full", "x", 1, &log), MOE_E_IO);
    cr_assert(strstr(seen.text, "No space left"), "%s", seen.text);
    cr_assert(stat("/dev/null", &info) == 0 && S_ISCHR(info.st_mode));
    scratch_write("target", "old");
    cr_assert_eq(symlink("target", "link"), 0);
    scratch_write("link", "new");
    cr_assert(lstat("link", &info) == 0 && S_ISLNK(info.st_mode));
    char *text = NULL;
    size_t size = 0;
    cr_assert_eq(moe_int_file_read("target", 100, NULL, &text, &size), MOE_OK);
    cr_assert_str_eq(text, "new");
    free(text);
}

Test(file, files_follow_the_umask) {
    struct stat info;
    umask(027);
    scratch_write("f", "x");
    cr_assert(stat("f", &info) == 0);
    cr_assert_eq(info.st_mode & 0777, 0640);
}

Test(file, a_discarded_writer_leaves_nothing) {
    moe_int_writer *writer = NULL, *second = NULL;
    cr_assert_eq(moe_int_writer_open("x", NULL, &writer), MOE_OK);
    cr_assert_eq(moe_int_writer_open("x", NULL, &second), MOE_OK, "two at once do not collide");
    cr_assert_eq(moe_int_writer_put(writer, "abc", 3), MOE_OK);
    moe_int_writer_discard(&writer);
    cr_assert_null(writer);
    moe_int_writer_discard(&writer);
    cr_assert_eq(moe_int_writer_commit(&second), MOE_OK);
    cr_assert_null(second);
    cr_assert_eq(scratch_count("."), 1);
}

Test(file, text_files_are_limited) {
    char *text = NULL;
    size_t size = 0;
    char long_text[10001];
    memset(long_text, 'a', 10000);
    long_text[10000] = '\0';
    scratch_write("t", long_text);
    cr_assert_eq(moe_int_file_read("t", 9999, NULL, &text, &size), MOE_E_FORMAT);
    cr_assert_null(text);
    cr_assert_eq(moe_int_file_read("t", 10000, NULL, &text, &size), MOE_OK);
    cr_assert_str_eq(text, long_text);
    cr_assert_eq(size, 10000);
    free(text);
    cr_assert_eq(moe_int_file_read("/dev/zero", 9999, NULL, &text, &size), MOE_E_FORMAT);
    cr_assert_eq(moe_int_file_read(".", 9999, NULL, &text, &size), MOE_E_IO);
}
