/* Faults in golden files must show, in the checker and in `golden --verify`, under the tensor's
 * name. */
#include "drawn.h"
#include "moeref/check.h"
#include "moeref/safetensors.h"
#include "moeref/suite.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char said[4096];

static void remember(void *user, moe_log_level level, const char *message) {
    (void)user;
    if (level <= MOE_LOG_ERROR)
        snprintf(said + strlen(said), sizeof said - strlen(said), "%s\n", message);
}

static const moe_log remembering = {remember, NULL};

static void golden_dir(char *ret, size_t size) {
    const char *source = getenv("MOEREF_SOURCE_ROOT");
    cr_assert(source, "MOEREF_SOURCE_ROOT is not set: run through meson test");
    snprintf(ret, size, "%s/golden/edge", source);
}

/* A suite case with its stored outputs. */
static moe_problem *load(const char *name) {
    char dir[1024];
    size_t count;
    long i = moe_suite_find(name);
    cr_assert_geq(i, 0, "%s", name);
    golden_dir(dir, sizeof dir);
    moe_problem *problem = drawn(moe_suite(&count)[i]);
    cr_assert_eq(moe_suite_attach(dir, NULL, problem), MOE_OK);
    cr_assert(problem->expected.t[MOE_T_O].data, "%s has no stored outputs", name);
    return problem;
}

/* Element `i` of a stored tensor. */
static float *stored(const moe_problem *p, moe_tensor_id id, int64_t i) {
    cr_assert_eq(p->expected.t[id].dtype, MOE_F32);
    return (float *)p->expected.t[id].data + i;
}

static void flip_sign(moe_problem *p) {
    *stored(p, MOE_T_DX, 37) *= -1;
}

static void zero_row(moe_problem *p) {
    memset(stored(p, MOE_T_O, 5 * p->layer.d), 0, (size_t)p->layer.d * sizeof(float));
}

/* Rows of gate and up of expert 2's dW1. */
static void swap_gate_up(moe_problem *p) {
    int64_t half = p->layer.n * p->layer.d;
    float *gate = stored(p, MOE_T_DW1, 2 * 2 * half);
    for (int64_t i = 0; i < half; i++) {
        float keep = gate[i];
        gate[i] = gate[half + i];
        gate[half + i] = keep;
    }
}

static void scale_weights(moe_problem *p) {
    for (int64_t i = 0; i < p->expected_plan->n_pairs; i++)
        *stored(p, MOE_T_S, i) *= 1.001f;
}

static void swap_experts_of_token(moe_problem *p) {
    const moe_plan *plan = p->expected_plan;
    int32_t token[64], expert[64];
    bool has[8] = {0};
    int64_t last = -1;
    for (int64_t e = 0; e < plan->n_experts; e++)
        for (int64_t r = plan->offsets[e]; r < plan->offsets[e + 1]; r++) {
            token[r] = plan->token[r];
            expert[r] = (int32_t)e;
            has[e] |= plan->token[r] == 4;
            last = plan->token[r] == 4 ? r : last;
        }
    for (int32_t e = 0; e < plan->n_experts; e++)
        if (!has[e])
            expert[last] = e;
    moe_plan *changed = NULL;
    cr_assert_eq(moe_plan_create(plan->n_tokens, plan->n_experts, plan->n_pairs, token, expert,
                                 NULL, NULL, &changed),
                 MOE_OK);
    moe_plan_destroy(&p->expected_plan);
    p->expected_plan = changed;
}

/* Judges a backend against a spoilt golden: `tensor` must fail. */
static void expect_failure(const char *spec, void (*spoil)(moe_problem *), const char *tensor) {
    moe_backends *all = NULL;
    moe_backend *backend = NULL;
    moe_check_result *r = NULL;
    moe_problem *problem = load("swiglu");
    const moe_tensor_verdict *found = NULL;
    spoil(problem);
    cr_assert_eq(moe_backends_load("", NULL, &all), MOE_OK);
    cr_assert_eq(moe_backend_open(all, spec, NULL, NULL, &backend), MOE_OK);
    cr_assert_eq(moe_check_backend(backend, problem, NULL, NULL, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s on %s: %s", tensor, spec, r->why);
    cr_expect_str_eq(r->first_wrong_stage, tensor);
    for (size_t i = 0; i < r->n_tensors; i++) {
        bool right = strcmp(r->tensor[i].name, tensor) == 0;
        found = right ? &r->tensor[i] : found;
        /* a wrong golden routing takes its own weights and values along */
        if (!right && strcmp(tensor, "topk_index") != 0)
            cr_expect_neq(r->tensor[i].verdict, MOE_VERDICT_FAIL, "%s fails too",
                          r->tensor[i].name);
    }
    cr_assert(found, "%s is not listed", tensor);
    cr_expect_eq(found->verdict, MOE_VERDICT_FAIL);
    cr_expect_str_eq(found->truth, "golden");
    moe_check_result_destroy(&r);
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
    moe_problem_destroy(&problem);
}

Test(golden_edge, faults_fail_and_are_named) {
    static const char *const specs[] = {"reference", "reference:fp32", "reference:fp16",
                                        "reference:bf16"};
    for (int i = 0; i < 4; i++) {
        expect_failure(specs[i], flip_sign, "dX");
        expect_failure(specs[i], zero_row, "O");
        expect_failure(specs[i], swap_gate_up, "dW1");
        expect_failure(specs[i], swap_experts_of_token, "topk_index");
    }
    expect_failure("reference", scale_weights, "topk_weight");
    expect_failure("reference:fp32", scale_weights, "topk_weight");
}

/* A copy of golden/edge in which one file can be changed. */
static void copy_dir(char *dir) {
    char from[1024], command[2300];
    temporary_folder(dir);
    golden_dir(from, sizeof from);
    snprintf(command, sizeof command, "cp '%s'/*.safetensors '%s'", from, dir);
    cr_assert_eq(system(command), 0);
    said[0] = '\0';
}

/* Where the data of tensor `name` ends in a safetensors file: 8 bytes, header, data. */
static long end_of_tensor(FILE *file, const char *name) {
    char header[4096] = "", key[40];
    uint64_t size = 0;
    long begin, end;
    cr_assert_eq(fread(&size, sizeof size, 1, file), 1);
    cr_assert_lt(size, sizeof header);
    cr_assert_eq(fread(header, size, 1, file), 1);
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *entry = strstr(header, key);
    const char *offsets = entry ? strstr(entry, "\"data_offsets\":[") : NULL;
    cr_assert(offsets && sscanf(offsets, "\"data_offsets\":[%ld,%ld", &begin, &end) == 2, "%s",
              name);
    return 8 + (long)size + end;
}

/* The last element of a tensor of swiglu.safetensors becomes `value`. */
static void change_last(const char *dir, const char *name, float value) {
    char path[256];
    snprintf(path, sizeof path, "%s/swiglu.safetensors", dir);
    FILE *file = fopen(path, "r+b");
    cr_assert(file);
    fseek(file, end_of_tensor(file, name) - (long)sizeof value, SEEK_SET);
    cr_assert_eq(fwrite(&value, sizeof value, 1, file), 1);
    fclose(file);
}

static size_t stored_cases(void) {
    size_t count, stored = 0;
    moe_suite(&count);
    for (size_t i = 0; i < count; i++)
        stored += moe_suite_is_stored(i);
    return stored;
}

/* One element of one tensor is wrong: one sentence names the file, then the tensor. */
static void expect_named(const char *name, float value) {
    char dir[TEMPORARY_BYTES], words[80];
    size_t files = 0;
    copy_dir(dir);
    change_last(dir, name, value);
    cr_expect_eq(moe_suite_verify(dir, &remembering, &files), MOE_E_INVALID, "%s is %g", name,
                 value);
    cr_expect_eq(files, stored_cases() - 1);
    snprintf(words, sizeof words, "swiglu.safetensors: %s: ", name);
    cr_expect(strstr(said, words), "'%s' lacks '%s'", said, words);
    cr_expect_eq(strchr(said, '\n'), said + strlen(said) - 1, "one sentence: '%s'", said);
    temporary_remove(dir);
}

Test(golden_edge, verify_names_file_and_tensor) {
    char dir[1024];
    size_t files = 0;
    golden_dir(dir, sizeof dir);
    cr_expect_eq(moe_suite_verify(dir, &remembering, &files), MOE_OK, "%s", said);
    cr_expect_eq(files, stored_cases());
    expect_named("O", 100);
    expect_named("dW1", -3);
    expect_named("router_logits", 50);
    expect_named("topk_weight", 0.5f);
}

/* A number that was lost is no number that need not be compared. */
Test(golden_edge, verify_sees_lost_numbers) {
    expect_named("dX", NAN);
    expect_named("dS", -INFINITY);
}

/* dW_r is there under a name that means another tensor, of the same shape but not of this layer. */
Test(golden_edge, verify_counts_the_tensors) {
    char dir[TEMPORARY_BYTES], path[256], bytes[4096];
    size_t files = 0;
    copy_dir(dir);
    snprintf(path, sizeof path, "%s/swiglu.safetensors", dir);
    FILE *file = fopen(path, "r+b");
    cr_assert(file);
    size_t n = fread(bytes, 1, sizeof bytes, file), at = 0;
    while (at + 7 < n && memcmp(bytes + at, "\"dW_r\":", 7) != 0)
        at++;
    cr_assert_lt(at + 7, n);
    fseek(file, (long)at, SEEK_SET);
    fputs("\"db2\" :", file);
    fclose(file);
    cr_expect_eq(moe_suite_verify(dir, &remembering, &files), MOE_E_INVALID);
    cr_expect(strstr(said, "swiglu.safetensors: dW_r: is missing"), "%s", said);
    cr_expect(strstr(said, "swiglu.safetensors: db2: is no result of this case"), "%s", said);
    temporary_remove(dir);
}

Test(golden_edge, verify_misses_nothing) {
    char dir[TEMPORARY_BYTES], path[200], other[200];
    size_t files = 0;
    copy_dir(dir);
    snprintf(path, sizeof path, "%s/relu.safetensors", dir);
    cr_assert_eq(remove(path), 0);
    cr_expect_neq(moe_suite_verify(dir, &remembering, &files), MOE_OK);
    cr_expect(strstr(said, "relu.safetensors"), "%s", said);
    said[0] = '\0';
    snprintf(other, sizeof other, "%s/silu.safetensors", dir);
    cr_assert_eq(rename(other, path), 0); /* another case's file under this name */
    cr_expect_neq(moe_suite_verify(dir, &remembering, &files), MOE_OK);
    cr_expect(strstr(said, "relu.safetensors holds case"), "%s", said);
    temporary_remove(dir);
}

/* What is written now is what is stored, byte for byte; the sign of a NaN is the compiler's. */
Test(golden_edge, writing_again_changes_nothing) {
    char dir[TEMPORARY_BYTES], from[1024], command[2300];
    size_t files = 0;
    temporary_folder(dir);
    cr_expect_eq(moe_suite_write(dir, &remembering, &files), MOE_OK, "%s", said);
    golden_dir(from, sizeof from);
    snprintf(command, sizeof command,
             "for f in '%s'/*.safetensors; do case $f in */nan_*) ;; *) cmp \"$f\" "
             "'%s'/\"${f##*/}\" || exit 1 ;; esac; done",
             from, dir);
    cr_expect_eq(system(command), 0);
    temporary_remove(dir);
}
