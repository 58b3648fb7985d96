/* Loading plug-ins: what is refused, with which words, and that the others still work. */
#define _GNU_SOURCE /* mkdtemp, symlink */
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

static const char *in_build(const char *relative) {
    static char path[PATH_MAX];
    const char *root = getenv("MOEREF_BUILD_ROOT");
    cr_assert_not_null(root, "run by `meson test`");
    snprintf(path, sizeof path, "%s/%s", root, relative);
    return path;
}

static const char *stub(const char *kind) {
    char relative[256];
    snprintf(relative, sizeof relative, "tests/abi/stub_%s.so", kind);
    return in_build(relative);
}

static void expect_text(const capture *seen, const char *part) {
    cr_expect(strstr(seen->text, part), "'%s' lacks '%s'", seen->text, part);
}

/* The plug-in of `kind` appears in the folder as `name`. */
static void put(const char *folder, const char *kind, const char *name) {
    char link[PATH_MAX];
    snprintf(link, sizeof link, "%s/%s", folder, name);
    cr_assert_eq(symlink(stub(kind), link), 0);
}

static void put_text(const char *folder, const char *name) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs("I am no shared object\n", file);
    fclose(file);
}

static moe_backends *load(const char *path, const moe_log *log) {
    moe_backends *all = NULL;
    cr_assert_eq(moe_backends_load(path, log, &all), MOE_OK);
    return all;
}

static const moe_backend_info *find(moe_backends *all, const char *name) {
    static moe_backend_info info;
    for (size_t i = 0; i < moe_backends_count(all); i++) {
        info = moe_backends_info(all, i);
        if (strcmp(info.name, name) == 0)
            return &info;
    }
    return NULL;
}

/* Opens by path and expects a failure with `status` and a sentence that holds `part`. */
static void expect_refused(const char *path, moe_status status, const char *part) {
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

Test(loader, wrong_abi_names_both_numbers) {
    char numbers[64];
    snprintf(numbers, sizeof numbers, "interface %u, this library has %u", MOE_PLUGIN_ABI + 41,
             MOE_PLUGIN_ABI);
    expect_refused(stub("wrong_abi"), MOE_E_ABI, numbers);
}

Test(loader, interface_older_than_the_oldest) {
    char number[64];
    snprintf(number, sizeof number, "interface %u,", MOE_PLUGIN_ABI_OLDEST - 1);
    expect_refused(stub("too_old"), MOE_E_ABI, number);
}

/* A table of interface 1 ends before `board`; the slot counts as absent, not as what lies there. */
static void expect_no_board(const char *kind) {
    moe_backends *all = load("", NULL);
    moe_backend *backend = NULL;
    moe_board board = {.sm_mhz = -3};
    cr_assert_eq(moe_backend_open(all, stub(kind), NULL, NULL, &backend), MOE_OK);
    cr_expect_eq(moe_backend_board(backend, &board), MOE_E_UNSUPPORTED);
    cr_expect_eq(board.sm_mhz, -3, "the out-parameter was touched");
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
}

Test(loader, older_interface_still_loads) {
    expect_no_board("old_table");
}

/* So has a table of interface 2 no operators, whatever lies behind it. */
static void expect_no_operators(const char *kind) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_backends *all = load("", NULL);
    moe_backend *backend = NULL;
    moe_operator_support support = {0};
    moe_layer_desc desc;
    moe_layer_desc_init(&desc);
    desc.d = desc.n = desc.E = desc.K = 1;
    const moe_operator_use use = {.dtype = MOE_F32, .pass = MOE_PASS_FWD};
    char bound[PATH_MAX];
    cr_assert_eq(moe_backend_open(all, stub(kind), NULL, &log, &backend), MOE_OK);
    cr_expect_eq(moe_operator_supports(backend, &desc, &use, &support), MOE_E_UNSUPPORTED);
    cr_expect(strstr(support.reason, "memory of its own"), "%s", support.reason);
    moe_backend_close(&backend);
    snprintf(bound, sizeof bound, "%s:bound", stub(kind));
    cr_expect_eq(moe_backend_open(all, bound, NULL, &log, &backend), MOE_E_UNSUPPORTED);
    expect_text(&seen, "has no operators (interface 3)");
    moe_backends_destroy(&all);
}

Test(loader, table_of_interface_2_has_no_operators) {
    expect_no_operators("table_2");
    expect_no_operators("good");
}

Test(loader, absent_board) {
    expect_no_board("good");
}

Test(loader, shared_object_without_the_symbol) {
    expect_refused(stub("other"), MOE_E_FORMAT, MOE_PLUGIN_SYMBOL);
}

Test(loader, missing_path) {
    expect_refused("/nowhere/moeref-x.so", MOE_E_NOTFOUND, "/nowhere/moeref-x.so");
}

Test(loader, folder_instead_of_a_file) {
    expect_refused("./", MOE_E_FORMAT, "not a shared object");
}

Test(loader, required_slot_missing) {
    expect_refused(stub("no_slot"), MOE_E_FORMAT, "'prepare'");
}

Test(loader, name_outside_the_alphabet) {
    expect_refused(stub("bad_name"), MOE_E_FORMAT, "[a-z0-9_]+");
}

Test(loader, probe_refuses_with_its_reason) {
    expect_refused(stub("refuses"), MOE_E_DEVICE, "no such device in this machine");
}

Test(loader, probe_refuses_without_a_word) {
    expect_refused(stub("refuses_silently"), MOE_E_DEVICE, "device error");
}

Test(loader, open_fails_with_the_plugin_s_sentence) {
    expect_refused(stub("open_fails"), MOE_E_DEVICE, "the device is on fire");
}

Test(loader, text_file_named_so) {
    char folder[TEMPORARY_BYTES], path[PATH_MAX];
    temporary_folder(folder);
    put_text(folder, "moeref-text.so");
    snprintf(path, sizeof path, "%s/moeref-text.so", folder);
    expect_refused(path, MOE_E_FORMAT, "not a shared object");
    temporary_remove(folder);
}

Test(loader, unknown_name_lists_the_known) {
    expect_refused("refernce", MOE_E_NOTFOUND, "known: reference");
}

Test(loader, unknown_variant_of_the_reference) {
    expect_refused("reference:fp8", MOE_E_NOTFOUND, "'fp8'");
}

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

/* The variant reaches the plug-in from a name, from a path, and from the parameters. */
static void expect_variant(moe_backends *all, const char *spec, const moe_open_params *params,
                           const char *variant, const char *name) {
    moe_backend *backend = NULL;
    moe_support support = {0};
    moe_layer_desc desc;
    moe_layer_desc_init(&desc);
    desc.d = desc.n = desc.E = desc.K = 1;
    moe_use use = {.tokens = 1, .dtype = MOE_F32, .pass = MOE_PASS_FWD};
    cr_assert_eq(moe_backend_open(all, spec, params, NULL, &backend), MOE_OK, "%s", spec);
    cr_expect_str_eq(moe_backend_name(backend), name);
    cr_expect_eq(moe_backend_supports(backend, &desc, &use, &support), MOE_E_UNSUPPORTED);
    char should[64];
    snprintf(should, sizeof should, "variant '%s' does nothing", variant);
    cr_expect_str_eq(support.reason, should);
    moe_backend_close(&backend);
    cr_expect_null(backend);
}

Test(loader, variants) {
    char folder[TEMPORARY_BYTES], with_variant[PATH_MAX];
    temporary_folder(folder);
    put(folder, "good", "moeref-good.so");
    moe_backends *all = load(folder, NULL);
    moe_open_params params = {.variant = "slow"};
    snprintf(with_variant, sizeof with_variant, "%s:quick", stub("good"));
    expect_variant(all, "stub", NULL, "", "stub");
    expect_variant(all, "stub:quick", NULL, "quick", "stub:quick");
    expect_variant(all, "stub", &params, "slow", "stub:slow");
    expect_variant(all, "stub:quick", &params, "quick", "stub:quick");
    expect_variant(all, with_variant, NULL, "quick", "stub:quick");
    expect_variant(all, stub("good"), NULL, "", "stub");
    moe_backends_destroy(&all);
    temporary_remove(folder);
}

/* A colon that belongs to the file's name is no variant. */
Test(loader, path_with_a_colon) {
    char folder[TEMPORARY_BYTES], path[PATH_MAX];
    temporary_folder(folder);
    put(folder, "good", "a:b.so");
    snprintf(path, sizeof path, "%s/a:b.so", folder);
    moe_backends *all = load("", NULL);
    expect_variant(all, path, NULL, "", "stub");
    moe_backends_destroy(&all);
    temporary_remove(folder);
}
