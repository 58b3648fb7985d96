/* The judge judged: every fault is noticed, and nothing is where there is none. */
#include "moeref/selftest.h"
#include "run_moeref.h"
#include "temporary.h"

#include <jansson.h>
#include <unistd.h>

static json_t *selftest(const char *options) {
    outcome *o = moeref("selftest --threads 1 --output json %s 2>/dev/null", options);
    json_t *root = json_loads(strchr(o->text, '{') ? strchr(o->text, '{') : "", 0, NULL);
    cr_assert_not_null(root, "exit %d: %.500s", o->code, o->text);
    free(o);
    return root;
}

Test(selftest, every_fault_is_noticed) {
    size_t faults, i;
    json_t *root = selftest("--quick"), *entry;
    moe_faults(&faults);
    cr_expect_eq(json_array_size(json_object_get(root, "faults")), faults);
    json_array_foreach(json_object_get(root, "faults"), i, entry) {
        const char *name = json_string_value(json_object_get(entry, "fault"));
        const bool caught = json_is_true(json_object_get(entry, "caught"));
        cr_expect(caught, "%s: %s on %s", name, json_string_value(json_object_get(entry, "what")),
                  json_string_value(json_object_get(entry, "case")));
    }
    const json_t *sum = json_object_get(root, "summary");
    cr_expect_geq(100 * json_integer_value(json_object_get(sum, "named")),
                  95 * json_integer_value(json_object_get(sum, "tried")));
    json_array_foreach(json_object_get(root, "right_fails"), i, entry) cr_expect(
        false, "right, and fails on %s: %s", json_string_value(json_object_get(entry, "case")),
        json_string_value(json_object_get(entry, "why")));
    json_decref(root);
}

/* A fault on its layer, on the same at a real size, and on cases of the suite until one shows it.
 */
Test(selftest, full_form) {
    static const char *const layers[] = {"T=64 d=48 n=1", "T=512 d=768 n=1", "T="};
    json_t *root = selftest("--full --fault O_inf_swallowed --dtype bf16");
    const json_t *list = json_object_get(root, "faults");
    cr_assert_eq(json_array_size(list), 3);
    for (size_t i = 0; i < 3; i++) {
        const json_t *entry = json_array_get(list, i);
        const char *line = json_string_value(json_object_get(entry, "case"));
        cr_expect_eq(strncmp(line, layers[i], strlen(layers[i])), 0, "%s", line);
        cr_expect(i == 2 || json_is_true(json_object_get(entry, "caught")), "%s", line);
    }
    json_decref(root);
}

/* Three parts are the whole: each fault in one of them, the right copy on their layer once. */
Test(selftest, shards) {
    size_t faults = 0;
    char args[300];
    for (int i = 0; i < 3; i++) {
        snprintf(args, sizeof args,
                 "--size small --fault O_doubled --fault O_zero --dtype fp32 --dtype bf16 "
                 "--shard %d/3",
                 i);
        json_t *root = selftest(args);
        faults += json_array_size(json_object_get(root, "faults"));
        cr_expect_leq(json_array_size(json_object_get(root, "faults")), 2);
        json_decref(root);
    }
    cr_expect_eq(faults, 4);
    expect(2, "--shard is I/N", "selftest --shard 3/3");
    expect(2, "--shard is I/N", "selftest --shard 1/2x");
}

/* An eps of 1e-8 moves the weights by less than any gate: the case cannot show that it is ignored,
 * and a pass on it is mistrusted where it counts. */
Test(selftest, a_case_that_shows_nothing_is_mistrusted) {
    static const char line[] = "T=24 d=16 n=8 E=4 K=2 score=sigmoid renorm=1 eps=1e-08 seed=3";
    char path[TEMPORARY_BYTES], args[1000];
    temporary_file(path, "", "", 0);
    snprintf(args, sizeof args,
             "selftest --case '%s' --fault renorm_eps_missing --fault renorm_missing --dtype bf16 "
             "--mistrust %s",
             line, path);
    expect(1, "SURVIVED  bf16.renorm_eps_missing", args);
    snprintf(args, sizeof args, "check --backend reference:bf16 --case '%s' --mistrust %s", line,
             path);
    expect(1, "this case cannot show these faults: renorm_eps_missing", args);
    snprintf(args, sizeof args, "check --backend reference:fp32 --case '%s' --mistrust %s", line,
             path);
    expect(0, "1 passed", args);
    unlink(path);
    expect(2, "--mistrust lists cases", "selftest --mistrust x");
}

/* Without a fault the copy is right on everything. */
Test(selftest, the_copy_is_right) {
    static const char *const types[] = {"fp32", "bf16", "fp16"};
    for (size_t i = 0; i < 3; i++) {
        outcome *o = moeref("check --threads 1 --backend %s/backends/faulty/faulty.so:%s",
                            getenv("MOEREF_BUILD_ROOT"), types[i]);
        cr_expect_eq(o->code, 0, "%s: %s", types[i], o->text);
        free(o);
    }
}

/* Who promises batch invariance has it, or fails; a router that looks at all tokens has none. */
Test(selftest, batch_invariance) {
    static const char line[] = "T=40 d=24 n=16 E=4 K=2 bias=1 shared=8 renorm=1 seed=3";
    char args[1000];
    snprintf(args, sizeof args, "check --invariant --backend reference:fp32 --case '%s'", line);
    expect(0, "the same bits in 32 batches of 1 to 512 tokens\n", args);
    snprintf(args, sizeof args, "check --invariant --backend reference --case '%s select=%s'", line,
             "expert_choice");
    expect(0, "batch invariance: skip: not applicable", args);
    snprintf(args, sizeof args,
             "check --invariant --backend %s/backends/faulty/faulty.so:fp32.batch_variant --case "
             "'%s'",
             getenv("MOEREF_BUILD_ROOT"), line);
    expect(1, "not batch invariant, as it promises: O[", args);
}

/* What is wrong with calls, memory and repetition is kept as what is wrong with results is, and is
 * no pass when it is judged again. */
Test(selftest, failures_of_runs_are_kept) {
    static const char *const faults[] = {"nondeterministic_bit", "overrun_H", "weights_changed",
                                         "X_kept", "empty_dW_stale"};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        char folder[TEMPORARY_BYTES], args[1000];
        temporary_folder(folder);
        snprintf(args, sizeof args,
                 "check --threads 1 --no-explanation --dump-on-fail %s --case 'T=64 d=48 n=32 E=8 "
                 "K=2 renorm=1 seed=5' --backend %s/backends/faulty/faulty.so:fp32.%s",
                 folder, getenv("MOEREF_BUILD_ROOT"), faults[i]);
        expect(1, "1 failed", args);
        snprintf(args, sizeof args, "diagnose --threads 1 %s", folder);
        expect(1, "; what the file holds of that run is right", args);
        temporary_remove(folder);
    }
}

Test(selftest, misprints_are_errors) {
    char line[2000];
    expect(2, "there is no fault 'renorm_mising', but 'renorm_missing'",
           "selftest --fault renorm_mising");
    expect(2, "--dtype is fp32, bf16 or fp16", "selftest --dtype fp64");
    expect(0, "renorm_missing", "selftest --list");
    snprintf(line, sizeof line,
             "check --backend %s/backends/faulty/faulty.so:bf16.misprint --case 'T=4 d=8 n=8 E=2 "
             "K=1'",
             getenv("MOEREF_BUILD_ROOT"));
    expect(2, "faulty has no fault 'misprint'", line);
}
