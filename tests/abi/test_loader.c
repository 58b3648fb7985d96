/* Loading plug-ins: what is refused, with which words, and that the others still work. */
#define _GNU_SOURCE /* mkdtemp, symlink */
#include "stubs.h"

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
    char bound[PATH_MAX + 8];
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
    char folder[TEMPORARY_BYTES], with_variant[PATH_MAX + 8];
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
