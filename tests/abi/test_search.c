/* Where plug-ins are looked for: folders, lists of them, links, and in which order they come. */
#include "stubs.h"

Test(loader, folder_with_good_and_bad_ones) {
    char folder[TEMPORARY_BYTES];
    capture seen;
    moe_log log = capture_log(&seen);
    temporary_folder(folder);
    put(folder, "good", "moeref-good.so");
    put(folder, "good", "not-moeref.so");
    put(folder, "wrong_abi", "moeref-old.so");
    put(folder, "refuses", "moeref-zzz.so");
    put_text(folder, "moeref-text.so");
    moe_backends *all = load(folder, &log);
    /* reference, stub, old, text; the last file is called stub as well and comes second. */
    cr_expect_eq(moe_backends_count(all), 4);
    cr_expect_eq(seen.messages, 3);
    const moe_backend_info *info = find(all, "stub");
    cr_assert_not_null(info);
    cr_expect_eq(info->status, MOE_OK, "the first of a name wins");
    cr_expect_eq(info->priority, 7);
    info = find(all, "old");
    cr_assert_not_null(info);
    cr_expect_eq(info->status, MOE_E_ABI);
    cr_expect(strstr(info->path, "moeref-old.so"));
    cr_expect_str_neq(info->reason, "");
    info = find(all, "text");
    cr_assert_not_null(info);
    cr_expect_eq(info->status, MOE_E_FORMAT);
    moe_backends_destroy(&all);
    temporary_remove(folder);
}

Test(loader, sorted_by_priority_refused_last) {
    char folder[TEMPORARY_BYTES];
    temporary_folder(folder);
    put(folder, "good", "moeref-good.so");
    put(folder, "wrong_abi", "moeref-aaa.so");
    moe_backends *all = load(folder, NULL);
    cr_assert_eq(moe_backends_count(all), 3);
    cr_expect_str_eq(moe_backends_info(all, 0).name, "stub");
    cr_expect_str_eq(moe_backends_info(all, 1).name, "reference");
    cr_expect_str_eq(moe_backends_info(all, 2).name, "aaa");
    moe_backends_destroy(&all);
    temporary_remove(folder);
}

Test(loader, built_in_name_cannot_be_taken) {
    char folder[TEMPORARY_BYTES];
    capture seen;
    moe_log log = capture_log(&seen);
    temporary_folder(folder);
    put(folder, "reference", "moeref-reference.so");
    moe_backends *all = load(folder, &log);
    expect_text(&seen, "'reference' is known already");
    cr_expect_str_eq(find(all, "reference")->path, "built in");
    cr_expect_eq(moe_backends_count(all), 1);
    moe_backends_destroy(&all);
    temporary_remove(folder);
}

Test(loader, search_path_is_a_list_and_a_wrong_folder_is_told) {
    char folder[TEMPORARY_BYTES], list[256];
    capture seen;
    moe_log log = capture_log(&seen);
    temporary_folder(folder);
    put(folder, "good", "moeref-good.so");
    snprintf(list, sizeof list, "/nowhere/at/all::%s", folder);
    setenv("MOEREF_BACKEND_PATH", list, 1);
    moe_backends *all = load(NULL, &log);
    cr_expect_not_null(find(all, "stub"));
    cr_expect_eq(seen.messages, 1);
    expect_text(&seen, "/nowhere/at/all");
    moe_backends_destroy(&all);
    temporary_remove(folder);
}

/* A library that is linked to from another folder: the plug-ins that came with it are found, and
 * nothing beside the link is taken for one of them. */
Test(loader, plugins_lie_beside_the_file_behind_a_link) {
    char folder[TEMPORARY_BYTES], text[3 * PATH_MAX];
    temporary_folder(folder);
    snprintf(text, sizeof text,
             "cd '%s' && mkdir -p real/moeref link/moeref && "
             "for f in '%s'/libmoeref.so*; do if test -f \"$f\"; then "
             "cp -L \"$f\" real && ln -s ../real/\"${f##*/}\" link || exit 1; fi; done",
             folder, in_build("src"));
    cr_assert_eq(system(text), 0);
    snprintf(text, sizeof text, "%s/real/moeref", folder);
    put(text, "good", "moeref-good.so");
    snprintf(text, sizeof text, "%s/link/moeref", folder);
    put(text, "wrong_abi", "moeref-old.so");
    snprintf(text, sizeof text, "%s/link", folder);
    setenv("LD_LIBRARY_PATH", text, 1);
    unsetenv("MOEREF_BACKEND_PATH");
    outcome *o = moeref("list");
    snprintf(text, sizeof text, "%s/real/moeref/moeref-good.so", folder);
    cr_expect(strstr(o->text, text), "%s", o->text);
    cr_expect(!strstr(o->text, "moeref-old.so"), "%s", o->text);
    free(o);
    temporary_remove(folder);
}

Test(loader, argument_replaces_the_environment) {
    setenv("MOEREF_BACKEND_PATH", "/nowhere", 1);
    moe_backends *all = load("", NULL);
    cr_expect_eq(moe_backends_count(all), 1);
    moe_backends_destroy(&all);
    cr_expect_null(all);
    moe_backends_destroy(&all);
    moe_backends_destroy(NULL);
}
