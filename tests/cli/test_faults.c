/* Faults in files that users have: found, and told by what is wrong. */
#include "moeref/safetensors.h"
#include "moeref/version.h"
#include "run_moeref.h"
#include "temporary.h"
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

#define CASE "\"T=40 d=24 n=16 E=4 K=2 dtype=fp32 renorm=1 seed=3\""

/* Exported outputs are accepted; the same file with one fault is refused, naming the tensor. */
typedef void (*fault_fn)(moe_tensor *t);

static void flip_sign(moe_tensor *t) {
    float *x = t->data;
    x[7] = -x[7];
}

static void zero_row(moe_tensor *t) {
    memset((float *)t->data + 3 * t->shape[1], 0, (size_t)t->shape[1] * sizeof(float));
}

static void plant_nan(moe_tensor *t) {
    ((uint32_t *)t->data)[5] = 0x7fc00000;
}

/* Rewrites FROM as TO with one tensor changed. */
static void rewrite(const char *from, const char *to, const char *name, fault_fn fault) {
    moe_safetensors *file = NULL;
    moe_named_tensor list[64];
    cr_assert_eq(moe_safetensors_open(from, NULL, &file), MOE_OK);
    size_t n = moe_safetensors_count(file);
    cr_assert_lt(n, 64);
    for (size_t i = 0; i < n; i++) {
        moe_tensor view;
        list[i].name = moe_safetensors_name(file, i);
        cr_assert_eq(moe_safetensors_get(file, list[i].name, &view), MOE_OK);
        cr_assert_eq(moe_tensor_cast(&view, view.dtype, &list[i].tensor), MOE_OK);
        if (strcmp(list[i].name, name) == 0)
            fault(&list[i].tensor);
    }
    cr_assert_eq(moe_safetensors_write(to, list, n, NULL, 0, NULL), MOE_OK);
    for (size_t i = 0; i < n; i++)
        moe_tensor_destroy(&list[i].tensor);
    moe_safetensors_close(&file);
}

Test(cli_faults, faults_in_outputs_are_found_and_named) {
    static const struct {
        const char *tensor;
        fault_fn fault;
    } faults[] = {{"O", flip_sign},   {"O", zero_row},  {"dX", zero_row},
                  {"dW1", flip_sign}, {"O", plant_nan}, {"dW2", plant_nan}};
    char dir[TEMPORARY_BYTES], good[200], bad[200];
    temporary_folder(dir);
    snprintf(good, sizeof good, "%s/good.safetensors", dir);
    snprintf(bad, sizeof bad, "%s/bad.safetensors", dir);
    outcome *o = moeref("golden --case " CASE " --export %s", good);
    cr_assert_eq(o->code, 0, "%s", o->text);
    free(o);
    o = moeref("check --outputs %s --case " CASE, good);
    cr_expect_eq(o->code, 0, "%s", o->text);
    free(o);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        char named[32];
        rewrite(good, bad, faults[i].tensor, faults[i].fault);
        o = moeref("check --outputs %s --case " CASE, bad);
        cr_expect_eq(o->code, 1, "fault %d in %s: exit %d\n%s", (int)i, faults[i].tensor, o->code,
                     o->text);
        snprintf(named, sizeof named, "\n  %s: ", faults[i].tensor);
        cr_expect_not_null(strstr(o->text, named), "no '%s' in\n%s", named, o->text);
        cr_expect_not_null(strstr(o->text, "reproduce: moeref check --outputs"), "%s", o->text);
        free(o);
    }
    temporary_remove(dir);
}

/* What no hypothesis explains ends with what to look at: other inputs, stages beside the result. An
 * exported case has its stages. */
Test(cli_faults, what_is_not_explained_says_what_is_next) {
    static const char line[] = "\"T=32 d=16 n=8 E=4 K=2 dtype=fp32 seed=%d\"";
    static const char *const steps[] = {"none of", "made of this case's inputs",
                                        "stages beside it"};
    char dir[TEMPORARY_BYTES], all[200], alone[200], made[80], other[80];
    moe_safetensors *file = NULL;
    moe_named_tensor out = {.name = "O"};
    temporary_folder(dir);
    snprintf(all, sizeof all, "%s/all.safetensors", dir);
    snprintf(alone, sizeof alone, "%s/alone.safetensors", dir);
    snprintf(made, sizeof made, line, 1);
    snprintf(other, sizeof other, line, 2);
    outcome *o = moeref("golden --case %s --export %s", made, all);
    cr_assert_eq(o->code, 0, "%s", o->text);
    free(o);
    cr_assert_eq(moe_safetensors_open(all, NULL, &file), MOE_OK);
    cr_assert_eq(moe_safetensors_get(file, "O", &out.tensor), MOE_OK);
    cr_assert_eq(moe_safetensors_write(alone, &out, 1, NULL, 0, NULL), MOE_OK);
    moe_safetensors_close(&file);
    o = moeref("check --outputs %s --case %s", alone, other);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        cr_expect(strstr(o->text, steps[i]), "no '%s' in\n%s", steps[i], o->text);
    free(o);
    o = moeref("check --outputs %s --case %s", all, other);
    cr_expect(o->code == 1 && !strstr(o->text, "stages beside it"), "%s", o->text);
    free(o);
    temporary_remove(dir);
}

/* O alone is judged alone, and a pass says so; of a tensor that cannot be compared no figures are
 * printed. */
Test(cli_faults, what_is_not_judged_is_said) {
    char dir[TEMPORARY_BYTES], path[200];
    moe_safetensors *file = NULL;
    moe_named_tensor o_alone = {.name = "O"};
    temporary_folder(dir);
    snprintf(path, sizeof path, "%s/all.safetensors", dir);
    outcome *o = moeref("golden --case " CASE " --export %s", path);
    cr_assert_eq(o->code, 0, "%s", o->text);
    free(o);
    cr_assert_eq(moe_safetensors_open(path, NULL, &file), MOE_OK);
    cr_assert_eq(moe_safetensors_get(file, "O", &o_alone.tensor), MOE_OK);
    for (int turned = 0; turned < 2; turned++) {
        static const char *const said[] = {"seed=3  [not judged: dS, dX, dW_r, dW1, dW2]\n",
                                           "    O              fail       has shape [24, 40], the"};
        snprintf(path, sizeof path, "%s/o.safetensors", dir);
        o_alone.tensor.shape[0] = turned ? 24 : 40;
        o_alone.tensor.shape[1] = turned ? 40 : 24;
        cr_assert_eq(moe_safetensors_write(path, &o_alone, 1, NULL, 0, NULL), MOE_OK);
        o = moeref("check --outputs %s --case " CASE, path);
        cr_expect(o->code == turned && strstr(o->text, said[turned]), "exit %d, no '%s' in\n%s",
                  o->code, said[turned], o->text);
        free(o);
    }
    moe_safetensors_close(&file);
    temporary_remove(dir);
}

/* A fault in a golden file's weights or expectations makes every backend fail on it. */
static void golden_fault(const char *file, const char *tensor, fault_fn fault, const char *named) {
    char dir[TEMPORARY_BYTES], from[300], to[300], line[700];
    temporary_folder(dir);
    const char *root = getenv("MOEREF_SOURCE_ROOT");
    snprintf(line, sizeof line, "cp %s/golden/hf/mixtral/* %s/", root, dir);
    cr_assert_eq(system(line), 0);
    snprintf(from, sizeof from, "%s/golden/hf/mixtral/%s", root, file);
    snprintf(to, sizeof to, "%s/%s", dir, file);
    rewrite(from, to, tensor, fault);
    outcome *o = moeref("check --backend reference --hf %s", dir);
    cr_expect_eq(o->code, 1, "%s in %s: exit %d\n%s", tensor, file, o->code, o->text);
    cr_expect_not_null(strstr(o->text, named), "no '%s' in\n%s", named, o->text);
    free(o);
    temporary_remove(dir);
}

static void flip_bf16(moe_tensor *t) {
    for (int i = 0; i < 8; i++)
        ((uint16_t *)t->data)[i] ^= 0x8000;
}

static void zero_bf16_row(moe_tensor *t) {
    memset(t->data, 0, (size_t)t->shape[1] * 2);
}

Test(cli_faults, faults_in_golden_files_are_found_and_named) {
    golden_fault("case.safetensors", "expected.output", flip_sign, "\n  O: ");
    golden_fault("case.safetensors", "expected.output", zero_row, "\n  O: ");
    golden_fault("case.safetensors", "expected.grad.hidden_states", zero_row, "\n  dX: ");
    golden_fault("model.safetensors", "model.layers.1.block_sparse_moe.experts.3.w1.weight",
                 zero_bf16_row, "\n  O: ");
    golden_fault("model.safetensors", "model.layers.1.block_sparse_moe.experts.5.w2.weight",
                 flip_bf16, "\n  O: ");
}

/* Caches that Python leaves beside its scripts are no checkpoints. */
Test(cli_faults, a_cache_is_no_golden_layer) {
    char dir[TEMPORARY_BYTES], line[900];
    temporary_folder(dir);
    const char *root = getenv("MOEREF_SOURCE_ROOT");
    snprintf(line, sizeof line,
             "mkdir -p %s/hf/__pycache__ && ln -s %s/golden/hf/mixtral %s/hf/ && ln -s "
             "%s/golden/edge %s/",
             dir, root, dir, root, dir);
    cr_assert_eq(system(line), 0);
    snprintf(line, sizeof line, "check --backend reference --golden %s", dir);
    expect(0, "hf/mixtral\n", line);
    temporary_remove(dir);
}

/* Gate and up swapped: w1 and w3 of one expert exchanged in the checkpoint. */
Test(cli_faults, swapped_gate_and_up_are_found) {
    char dir[TEMPORARY_BYTES], line[900];
    temporary_folder(dir);
    const char *root = getenv("MOEREF_SOURCE_ROOT");
    snprintf(
        line, sizeof line,
        "cp %s/golden/hf/mixtral/* %s/ && sed -i 's/experts.2.w1.weight/experts.2.w9.weight/; "
        "s/experts.2.w3.weight/experts.2.w1.weight/; s/experts.2.w9.weight/experts.2.w3.weight/' "
        "%s/model.safetensors",
        root, dir, dir);
    cr_assert_eq(system(line), 0);
    outcome *o = moeref("check --backend reference --hf %s", dir);
    cr_expect_eq(o->code, 1, "exit %d\n%s", o->code, o->text);
    cr_expect_not_null(strstr(o->text, "\n  O: "), "%s", o->text);
    free(o);
    temporary_remove(dir);
}
