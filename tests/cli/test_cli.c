/* The command line as its users meet it: exit codes, sentences, and faults that must be found. */
#include "drawn.h"
#include "moeref/reference.h"
#include "moeref/safetensors.h"
#include "moeref/version.h"
#include "run_moeref.h"
#include "temporary.h"

#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

#define CASE "\"T=40 d=24 n=16 E=4 K=2 dtype=fp32 renorm=1 seed=3\""

Test(cli, usage_errors_exit_with_2) {
    expect(2, "usage:", "");
    expect(2, "there is no verb 'chekc'; did you mean check?", "chekc");
    expect(2, "there is no verb 'xyz' (moeref --help lists them)", "xyz");
    expect(2, "no other help but 'case'; did you mean predict?", "help predikt");
    expect(2, "no option '--bakend'; did you mean --backend?", "check --bakend reference");
    expect(2, "no option '--no-iso'; did you mean --no-isolation?", "check --no-iso");
    expect(2, "no option '--foo' (moeref list --help lists them)", "list --foo");
    expect(2, "no fault 'renom_missing', but 'renorm_missing'", "selftest --fault renom_missing");
    expect(2, "--names takes backends, blocks, cases", "list --names banana");
    expect(2, "--threads takes a whole number", "check --threads two");
    expect(2, "needs a value", "check --case");
    expect(2, "--output is", "check --output xml");
    expect(2, "takes no value", "check --full=1");
    expect(2, "is not an option", "check reference");
    expect(2, "openblas", "check --backend nosuch --case " CASE);
    expect(2, "act", "check --backend reference --case \"T=4 d=8 n=8 E=2 K=1 atc=swiglu\"");
    expect(2, "K = 3", "check --backend reference --case \"T=4 d=8 n=8 E=2 K=3\"");
    expect(2, "T = 0", "check --backend reference --case \"T=0 d=8 n=8 E=2 K=1\"");
    expect(2, "one file against one case", "check --outputs /dev/null");
    expect(2, "--layer goes with --hf", "check --backend reference --layer 1 --case " CASE);
    expect(2, "--layer goes with --hf and is a number from 0 on", "check --hf x --layer -1");
    expect(2, "--tokens goes with --config or --hf", "check --tokens 9 --case " CASE);
    expect(2, "--piece and --memory go with --hf", "check --piece 0-3 --case " CASE);
    expect(2, "--tokens takes a whole number from 1 on, not '-9'", "bench --config x --tokens -9");
    expect(2, "--threads takes a whole number from 1 on, not '0'", "check --threads 0");
    expect(2, "--repeat takes a whole number from 1 on, not '0'", "check --repeat 0");
    expect(2, "--ep-fault is of ranks", "check --backend reference --ep-fault x --case " CASE);
    expect(2, "--ep-limit is of ranks", "check --backend reference --ep-limit 4 --case " CASE);
    expect(2, "--output is text|json, not 'csv'", "list --output csv");
    expect(2, "--outputs judges a file", "check --outputs x --backend reference --case " CASE);
    expect(2, "--outputs judges a file", "check --outputs x --ep 2 --case " CASE);
    expect(2, "--arithmetic goes with --outputs", "check --arithmetic bf16 --case " CASE);
    expect(2, "not of --outputs", "check --outputs o --repeat 3 --case " CASE);
    expect(2, "not of --outputs", "check --outputs o --mistrust m --case " CASE);
    expect(2, "goes with one --case", "check --inputs x --case " CASE " --case " CASE);
    expect(2, "name a file or a folder", "diagnose");
    expect(2, "holds no .safetensors", "diagnose /proc/self/task");
    expect(3, "cannot open", "diagnose /nosuch.safetensors");
    expect(3, "moeref: error: --hf /no/where: no such folder\n", "check --hf /no/where");
}

/* Lists that were filled before the error are freed: a leak is another exit code under
 * AddressSanitizer. */
Test(cli, usage_errors_free_their_lists) {
    expect(2, "--settle", "bench --backend reference --case \"T=4\" --settle -1");
    expect(2, "--repeat", "check --backend reference --case \"T=4\" --repeat -1");
    expect(2, "text|json, not 'csv'", "validate --backend reference --case \"T=4\" --output csv");
    expect(2, "exclude each other", "golden --case \"T=4\" --verify --write");
    expect(2, "goes with --export", "golden --case \"T=4\" --inputs-only");
    expect(2, "whole numbers from 1 on", "predict --case \"T=4\" --tokens -1");
}

/* Without something to hold, and something to hold it to, there is no VALID. */
Test(cli, nothing_validated_is_not_valid) {
    setenv("MOEREF_BACKEND_PATH", "/proc/self/fd", 1);
    expect(3, "nothing was validated: no backend but the reference", "validate --case " CASE);
    expect(3, "NOT VALID", "validate --case " CASE);
    expect(3, "\"missing\": \"no backend but", "validate --output json --case " CASE);
    unsetenv("MOEREF_BACKEND_PATH");
    setenv("MOEREF_GOLDEN", "/no/such/folder", 1);
    expect(3, "nothing was validated: there are no golden files", "validate --backend reference");
}

/* Of a file of outputs as of a backend. */
Test(cli, files_pass_mistrusted_for_what_decides_nothing) {
    static const char line[] = "T=8 d=8 n=8 E=2 K=1 act=swiglu_clamp dtype=fp32";
    char path[TEMPORARY_BYTES], args[256];
    moe_problem *problem = drawn(line);
    moe_reference_result *right = NULL;
    cr_assert_eq(moe_reference_problem(problem, 1, NULL, &right), MOE_OK);
    const moe_named_tensor o = {"O", right->out.t[MOE_T_O]};
    temporary_file(path, ".safetensors", NULL, 0);
    cr_assert_eq(moe_safetensors_write(path, &o, 1, NULL, 0, NULL), MOE_OK);
    snprintf(args, sizeof args, "check --outputs %s --case \"%s\"", path, line);
    expect(0, "pass, MISTRUSTED for clamp_gate_above, ", args);
    temporary_remove(path);
    moe_reference_result_destroy(&right);
    moe_problem_destroy(&problem);
}

/* One's own case may carry a clamp that nothing reaches; a pass says so, --coverage counts. */
Test(cli, coverage_is_counted) {
    expect(0, "renorm                      0        0       40        0      1",
           "check --backend reference --coverage --case " CASE);
    expect(0, "clamp_gate_above            0        0        0        0      0",
           "check --backend reference --coverage --case \"T=8 d=8 n=8 E=2 K=1 act=swiglu_clamp\"");
    expect(0, "pass, MISTRUSTED for clamp_gate_above, clamp_gate_below, clamp_up_above, ",
           "check --backend reference --case \"T=8 d=8 n=8 E=2 K=1 act=swiglu_clamp\"");
    expect(
        0, "\"clamp_gate_above\",",
        "check --backend reference --output json --case \"T=8 d=8 n=8 E=2 K=1 act=swiglu_clamp\"");
    expect(0, "\"mistrusted_for\": [],", "check --backend reference --output json --case " CASE);
    expect(
        0, "\"mistrusted_in_part\": 1",
        "check --backend reference --output json --case \"T=8 d=8 n=8 E=2 K=1 act=swiglu_clamp\"");
    expect(0, "0 mistrusted, 0 skipped; 1 passed MISTRUSTED for what decides nothing in them\n",
           "check --backend reference --case \"T=8 d=8 n=8 E=2 K=1 act=swiglu_clamp\"");
}

Test(cli, version_is_the_library_s) {
    char line[64];
    snprintf(line, sizeof line, "moeref %s\n", moe_version());
    expect(0, line, "--version");
}

Test(cli, unreadable_files_exit_without_a_verdict) {
    expect(3, "/nonexistent", "check --backend reference --hf /nonexistent");
    expect(2, "/nonexistent.so", "check --backend /nonexistent.so --case " CASE);
}

Test(cli, json_is_versioned_and_complete) {
    outcome *o = moeref("check --backend reference --case " CASE " --output json");
    json_error_t error;
    json_t *root = json_loads(o->text, 0, &error);
    cr_assert_not_null(root, "%s\n%s", error.text, o->text);
    cr_expect_eq(json_integer_value(json_object_get(root, "moeref")), 2);
    json_t *first = json_array_get(json_object_get(root, "cases"), 0);
    static const char *const keys[] = {
        "case", "backend", "verdict", "tensors", "first_wrong_stage", "explanation", "reproduce"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        cr_expect_not_null(json_object_get(first, keys[i]), "no %s", keys[i]);
    cr_expect_geq(json_array_size(json_object_get(first, "tensors")), 8);
    json_t *passed = json_object_get(json_object_get(root, "summary"), "passed");
    cr_expect_eq(json_integer_value(passed), 1);
    json_decref(root);
    free(o);
}

/* A misprint in the last line stops the run before the first case costs time. */
Test(cli, cases_come_from_a_file) {
    static const char two[] = "# two cases\r\n\n  T=8 d=8 n=8 E=2 K=1\r\nT=4 d=8 n=8 E=2 K=2";
    char path[TEMPORARY_BYTES], args[200];
    temporary_file(path, "", two, sizeof two - 1);
    snprintf(args, sizeof args, "check --backend reference --cases %s", path);
    expect(0, "2 passed, 0 failed", args);
    FILE *out = fopen(path, "a");
    fprintf(out, "\nT=4 d=8 n=8 E=2 K=3\n");
    fclose(out);
    expect(2, "line 5 is not a case", args);
    outcome *o = moeref("%s", args);
    cr_expect_null(strstr(o->text, "pass"), "%s", o->text);
    free(o);
    out = fopen(path, "w");
    fprintf(out, "# none\n");
    fclose(out);
    expect(2, "no case in it", args);
    expect(3, "/nonexistent", "check --backend reference --cases /nonexistent");
    unlink(path);
}

/* The example refuses routers: a run that checked nothing is an error. */
Test(cli, a_skipped_backend_is_not_a_green_run) {
    expect(0, "1 passed, 0 failed", "check --backend reference --case " CASE);
    char args[600];
    snprintf(args, sizeof args, "check --backend %s/backends/example/moe_example.so --case " CASE,
             getenv("MOEREF_BUILD_ROOT"));
    expect(2, "was not checked", args);
}

Test(cli, a_report_that_cannot_be_written_is_no_success) {
    outcome *o = moeref("golden --case " CASE " --export /nonexistent/x.safetensors");
    cr_expect_eq(o->code, 3, "exit %d\n%s", o->code, o->text);
    free(o);
    static const char *const args[] = {("check --backend reference --case " CASE), "list", "--help",
                                       "--version", "check --help"};
    for (size_t i = 0; i < sizeof args / sizeof *args; i++) {
        o = moeref("%s >/dev/full", args[i]);
        cr_expect_eq(o->code, 3, "%s: exit %d", args[i], o->code);
        free(o);
    }
}

Test(cli, edge_files_agree_with_the_oracle) {
    expect(0, "agree with the oracle", "golden --verify");
    expect(0, "\n--case \"T=16 d=16 n=8 E=6 K=2 route=hot:4 seed=23\"\n", "golden");
}

/* What every router that is asked would say, and what is said before it takes long. */
Test(cli, said_once_and_in_time) {
    outcome *o = moeref("check --backend reference:bf16 --case 'T=64 d=16 n=8 E=16 K=2 "
                        "select=token_rounding tile=128 seed=3'");
    const char *first = strstr(o->text, "warning: token rounding with 8.0 tokens");
    cr_assert_not_null(first, "%s", o->text);
    cr_expect_null(strstr(first + 1, "warning: token rounding"), "%s", o->text);
    free(o);
    expect(3, "a layer of 105553.7 GB is drawn, run and judged, which takes a while\n",
           "check --backend reference --case 'T=64 d=65536 n=65536 E=4096 K=2 dtype=bf16'");
}

/* Files without an end, or that nobody writes to, are errors and not waited for. */
Test(cli, endless_files_are_refused, .timeout = 20) {
    char dir[TEMPORARY_BYTES], args[300];
    temporary_folder(dir);
    expect(3, "longer than 4 MiB", "check --backend reference --cases /dev/zero");
    snprintf(args, sizeof args, "%s/fifo", dir);
    cr_assert_eq(mkfifo(args, 0600), 0);
    snprintf(args, sizeof args, "check --backend %s/fifo --case \"T=1 d=8 n=8 E=2 K=1\"", dir);
    expect(3, "is not a shared object", args);
    snprintf(args, sizeof args, "check --backend reference --cases %s/fifo", dir);
    expect(3, "a pipe that nobody writes into", args);
    snprintf(args, sizeof args, "check --backend reference --config %s/fifo", dir);
    expect(3, "a pipe that nobody writes into", args);
    temporary_remove(dir);
}

/* A pipe with a writer is read, also where he comes or writes late. */
Test(cli, pipes_are_read, .timeout = 20) {
    char dir[TEMPORARY_BYTES], fifo[TEMPORARY_BYTES + 8], line[600];
    temporary_folder(dir);
    snprintf(fifo, sizeof fifo, "%s/fifo", dir);
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    snprintf(line, sizeof line, "(sleep 0.2; exec >%s; sleep 0.2; echo '%s') &", fifo,
             "T=4 d=8 n=8 E=2 K=1");
    cr_assert_eq(system(line), 0);
    snprintf(line, sizeof line, "check --backend reference --cases %s", fifo);
    expect(0, "1 passed", line);
    temporary_remove(dir);
}

/* A case whose plan is given can be run from its exported inputs: plan and weights are there. */
Test(cli, exported_inputs_are_complete) {
    char dir[TEMPORARY_BYTES], path[200];
    temporary_folder(dir);
    moe_safetensors *file = NULL;
    moe_tensor t;
    snprintf(path, sizeof path, "%s/in.safetensors", dir);
    outcome *o = moeref("golden --inputs-only --export %s --case \"T=9 d=8 n=8 E=4 K=2 "
                        "route=uniform\"",
                        path);
    cr_assert_eq(o->code, 0, "%s", o->text);
    free(o);
    cr_assert_eq(moe_safetensors_open(path, NULL, &file), MOE_OK);
    static const char *const inputs[] = {"X",          "dO",         "W1", "W2", "plan_offsets",
                                         "plan_token", "topk_weight"};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        cr_expect_eq(moe_safetensors_get(file, inputs[i], &t), MOE_OK, "no %s", inputs[i]);
    cr_expect_eq(moe_safetensors_get(file, "O", &t), MOE_E_NOTFOUND);
    moe_safetensors_close(&file);
    temporary_remove(dir);
}

/* Tokens and slots without experts are -1 in what is exported, and what is exported is right. A
 * layer that routes itself brings its mask. */
Test(cli, exported_slots) {
    static const char *const cases[] = {
        "T=9 d=8 n=8 E=4 K=2 dtype=fp32 route=uniform masked=3 drop=2 seed=1",
        "T=9 d=8 n=8 E=4 K=2 dtype=fp32 masked=3 seed=2"};
    for (int i = 0; i < 2; i++) {
        char dir[TEMPORARY_BYTES], path[200], args[500];
        temporary_folder(dir);
        moe_safetensors *file = NULL;
        moe_tensor index, mask;
        int64_t empty = 0;
        snprintf(path, sizeof path, "%s/all.safetensors", dir);
        snprintf(args, sizeof args, "golden --export %s --case \"%s\"", path, cases[i]);
        expect(0, "tensors of", args);
        cr_assert_eq(moe_safetensors_open(path, NULL, &file), MOE_OK);
        cr_assert_eq(moe_safetensors_get(file, "topk_index", &index), MOE_OK);
        cr_assert(index.dtype == MOE_I64 && index.shape[0] == 9 && index.shape[1] == 2);
        for (int k = 0; k < 18; k++)
            empty += ((const int64_t *)index.data)[k] == -1;
        cr_expect_eq(empty, i ? 6 : 8);
        cr_expect_eq(moe_safetensors_get(file, "masked", &mask), i ? MOE_OK : MOE_E_NOTFOUND);
        for (int t = 0; i && t < 9; t++)
            cr_expect_eq(((const unsigned char *)mask.data)[t],
                         ((const int64_t *)index.data)[2 * t] == -1);
        moe_safetensors_close(&file);
        snprintf(args, sizeof args, "check --outputs %s --case \"%s\"", path, cases[i]);
        expect(0, "1 passed", args);
        snprintf(args, sizeof args, "check --backend reference --inputs %s --case \"%s\"", path,
                 cases[i]);
        if (i == 0)
            expect(0, "1 passed", args);
        temporary_remove(dir);
    }
}
