/* Checkpoint folders: layouts, the choice of a layer, and folders in which something is wrong. Each
 * test edits a copy of a golden folder. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "capture.h"
#include "moeref/case.h"
#include "moeref/safetensors.h"

#define MOST_TENSORS 512
#define PATH         1024

/* The tensors of one file, each with its own data, to be edited and written. */
typedef struct bundle {
    moe_named_tensor tensor[MOST_TENSORS];
    size_t count;
} bundle;

static const char *golden(const char *family, const char *file) {
    static char path[PATH];
    snprintf(path, sizeof path, "%s/golden/hf/%s/%s", getenv("MOEREF_SOURCE_ROOT"), family, file);
    return path;
}

static bundle read_bundle(const char *path) {
    bundle b = {.count = 0};
    moe_safetensors *file = NULL;
    cr_assert_eq(moe_safetensors_open(path, NULL, &file), MOE_OK, "%s", path);
    for (size_t i = 0; i < moe_safetensors_count(file); i++) {
        moe_tensor view;
        moe_named_tensor *t = &b.tensor[b.count++];
        t->name = strdup(moe_safetensors_name(file, i));
        cr_assert_eq(moe_safetensors_get(file, t->name, &view), MOE_OK);
        cr_assert_eq(moe_tensor_cast(&view, view.dtype, &t->tensor), MOE_OK);
    }
    moe_safetensors_close(&file);
    return b;
}

static moe_named_tensor *find(bundle *b, const char *name) {
    for (size_t i = 0; i < b->count; i++) {
        if (strcmp(b->tensor[i].name, name) == 0)
            return &b->tensor[i];
    }
    cr_assert_fail("no %s", name);
    return NULL;
}

static void rename_tensor(bundle *b, const char *from, const char *to) {
    find(b, from)->name = strdup(to);
}

static void drop(bundle *b, const char *name) {
    moe_named_tensor *gone = find(b, name);
    *gone = b->tensor[--b->count];
}

static void cast(bundle *b, const char *name, moe_dtype dtype) {
    moe_named_tensor *t = find(b, name);
    moe_tensor converted;
    cr_assert_eq(moe_tensor_cast(&t->tensor, dtype, &converted), MOE_OK);
    t->tensor = converted;
}

static void add(bundle *b, const char *name, moe_dtype dtype, int32_t ndim, const int64_t *shape) {
    moe_named_tensor *t = &b->tensor[b->count++];
    t->name = strdup(name);
    cr_assert_eq(moe_tensor_alloc(dtype, ndim, shape, &t->tensor), MOE_OK);
}

/* A copy of a family's folder, being edited in memory. */
typedef struct edited {
    char dir[PATH];
    const char *family;
    bundle weights, golden_case;
    bool has_case;
} edited;

static edited edit(const char *family) {
    edited f = {.family = family, .has_case = true};
    f.weights = read_bundle(golden(family, "model.safetensors"));
    f.golden_case = read_bundle(golden(family, "case.safetensors"));
    return f;
}

static const char *inside(const edited *f, const char *file) {
    static char path[PATH + 64];
    snprintf(path, sizeof path, "%s/%s", f->dir, file);
    return path;
}

static void write_folder(edited *f) {
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%s/moeref-hf-XXXXXX", tmp ? tmp : "/tmp");
    cr_assert(mkdtemp(f->dir));
    char text[8192];
    FILE *from = fopen(golden(f->family, "config.json"), "rb");
    size_t size = fread(text, 1, sizeof text, from);
    fclose(from);
    FILE *to = fopen(inside(f, "config.json"), "wb");
    fwrite(text, 1, size, to);
    fclose(to);
    cr_assert_eq(moe_safetensors_write(inside(f, "model.safetensors"), f->weights.tensor,
                                       f->weights.count, NULL, 0, NULL),
                 MOE_OK);
    if (f->has_case)
        cr_assert_eq(moe_safetensors_write(inside(f, "case.safetensors"), f->golden_case.tensor,
                                           f->golden_case.count, NULL, 0, NULL),
                     MOE_OK);
}

static void remove_folder(const edited *f) {
    unlink(inside(f, "config.json"));
    unlink(inside(f, "model.safetensors"));
    unlink(inside(f, "case.safetensors"));
    rmdir(f->dir);
}

static moe_problem *load_edited(edited *f, int64_t layer, int64_t tokens) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_problem *p = NULL;
    write_folder(f);
    moe_status s = moe_problem_from_hf(f->dir, layer, tokens, &log, &p);
    remove_folder(f);
    cr_assert_eq(s, MOE_OK, "%s", seen.text);
    return p;
}

static void assert_refused(edited *f, int64_t layer, moe_status status, const char *needle) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_problem *p = NULL;
    write_folder(f);
    moe_status s = moe_problem_from_hf(f->dir, layer, 0, &log, &p);
    remove_folder(f);
    cr_expect_eq(s, status, "status %d: %s", s, seen.text);
    cr_expect_eq(seen.messages, 1, "%d messages", seen.messages);
    cr_expect(strstr(seen.text, needle), "no \"%s\" in: %s", needle, seen.text);
    cr_expect(strstr(seen.text, f->dir), "which folder? %s", seen.text);
    cr_expect_null(p);
}

static double at(const moe_tensor *t, int64_t i, int64_t j, int64_t k) {
    return moe_load(t->data, t->dtype, (size_t)((i * t->shape[1] + j) * t->shape[2] + k));
}

#define MIXTRAL_AT  "model.layers.1.block_sparse_moe."
#define DEEPSEEK_AT "model.layers.1.mlp."

/* Gate rows come from w1, up rows from w3, in the expert's own place. */
Test(layer_hf_load, split_experts_are_stacked) {
    edited f = edit("mixtral");
    moe_problem *p = load_edited(&f, -1, 0);
    const moe_tensor *W1 = &p->in.t[MOE_T_W1], *W2 = &p->in.t[MOE_T_W2];
    for (int64_t e = 0; e < 8; e++) {
        char w1[128], w2[128], w3[128];
        snprintf(w1, sizeof w1, MIXTRAL_AT "experts.%lld.w1.weight", (long long)e);
        snprintf(w2, sizeof w2, MIXTRAL_AT "experts.%lld.w2.weight", (long long)e);
        snprintf(w3, sizeof w3, MIXTRAL_AT "experts.%lld.w3.weight", (long long)e);
        const moe_tensor *gate = &find(&f.weights, w1)->tensor;
        const moe_tensor *up = &find(&f.weights, w3)->tensor;
        const moe_tensor *down = &find(&f.weights, w2)->tensor;
        for (int64_t i = 0; i < 80 * 96; i++) {
            cr_assert_eq(at(W1, e, i / 96, i % 96), moe_load(gate->data, gate->dtype, (size_t)i));
            cr_assert_eq(at(W1, e, 80 + i / 96, i % 96), moe_load(up->data, up->dtype, (size_t)i));
            cr_assert_eq(at(W2, e, i / 80, i % 80), moe_load(down->data, down->dtype, (size_t)i));
        }
    }
    cr_expect_eq(p->dtype, MOE_BF16);
    moe_problem_destroy(&p);
}

Test(layer_hf_load, transposed_experts_are_turned) {
    edited f = edit("gpt_oss");
    moe_problem *p = load_edited(&f, 1, 0);
    const moe_tensor *W1 = &p->in.t[MOE_T_W1], *W2 = &p->in.t[MOE_T_W2];
    const moe_tensor *stored1 = &find(&f.weights, DEEPSEEK_AT "experts.gate_up_proj")->tensor;
    const moe_tensor *stored2 = &find(&f.weights, DEEPSEEK_AT "experts.down_proj")->tensor;
    for (int64_t e = 0; e < 16; e++) {
        for (int64_t i = 0; i < 160 * 64; i++)
            cr_assert_eq(at(W1, e, i / 64, i % 64), at(stored1, e, i % 64, i / 64));
        for (int64_t i = 0; i < 64 * 80; i++)
            cr_assert_eq(at(W2, e, i / 80, i % 80), at(stored2, e, i % 80, i / 80));
    }
    moe_problem_destroy(&p);
}

Test(layer_hf_load, the_layer_that_is_asked_for) {
    edited f = edit("mixtral");
    assert_refused(&f, 0, MOE_E_NOTFOUND,
                   "layer 0 has no MoE tensors in this checkpoint; MoE layers present: 1");
    f = edit("mixtral");
    static const int more[] = {3, 4, 5, 61, 7};
    for (size_t i = 0; i < 5; i++) {
        char name[128];
        int64_t shape[] = {8, 96};
        snprintf(name, sizeof name, "model.layers.%d.block_sparse_moe.gate.weight", more[i]);
        add(&f.weights, name, MOE_BF16, 2, shape);
    }
    assert_refused(&f, 2, MOE_E_NOTFOUND, "MoE layers present: 1, 3-5, 7, 61");
    f = edit("mixtral");
    rename_tensor(&f.weights, MIXTRAL_AT "gate.weight", MIXTRAL_AT "gates.weight");
    assert_refused(&f, -1, MOE_E_NOTFOUND,
                   "no layer has a tensor model.layers.N.block_sparse_moe.gate.weight");
    f = edit("mixtral");
    int64_t shape[] = {8, 96};
    add(&f.weights, "mtp.layers.0.block_sparse_moe.gate.weight", MOE_BF16, 2, shape);
    add(&f.weights, "model.layers.x.block_sparse_moe.gate.weight", MOE_BF16, 2, shape);
    add(&f.weights, "model.layers.0.block_sparse_moe.gate.weight_scale", MOE_BF16, 2, shape);
    moe_problem *p = load_edited(&f, -1, 0);
    cr_expect(strstr(p->reproduce, " --layer 1"), "%s", p->reproduce);
    cr_expect(strncmp(p->reproduce, "--hf /", 6) == 0 && strncmp(p->name, "hf:/", 4) == 0);
    moe_problem_destroy(&p);
}

Test(layer_hf_load, a_language_model_inside_another) {
    edited f = edit("llama4_text");
    for (size_t i = 0; i < f.weights.count; i++) {
        char name[256];
        snprintf(name, sizeof name, "language_model.%s", f.weights.tensor[i].name);
        f.weights.tensor[i].name = strdup(name);
    }
    moe_problem *p = load_edited(&f, 1, 0);
    cr_expect(p->in.t[MOE_T_W1_SHARED].data);
    moe_problem_destroy(&p);
}

Test(layer_hf_load, damaged_weights) {
    edited f = edit("mixtral");
    drop(&f.weights, MIXTRAL_AT "experts.5.w3.weight");
    assert_refused(&f, -1, MOE_E_FORMAT,
                   "has no tensor model.layers.1.block_sparse_moe.experts.5.w3.weight");
    f = edit("mixtral");
    find(&f.weights, MIXTRAL_AT "experts.7.w2.weight")->tensor.shape[0] = 95;
    assert_refused(&f, -1, MOE_E_FORMAT,
                   "experts.7.w2.weight has shape [95, 80], config.json asks for [96, 80]");
    f = edit("mixtral");
    cast(&f.weights, MIXTRAL_AT "gate.weight", MOE_I32);
    assert_refused(&f, -1, MOE_E_UNSUPPORTED, "gate.weight is not stored as bf16");
    f = edit("gpt_oss");
    drop(&f.weights, DEEPSEEK_AT "experts.down_proj_bias");
    assert_refused(&f, -1, MOE_E_FORMAT, "has no tensor model.layers.1.mlp.experts.down_proj_bias");
    f = edit("deepseek_v3");
    drop(&f.weights, DEEPSEEK_AT "gate.e_score_correction_bias");
    assert_refused(&f, -1, MOE_E_FORMAT, "gate.e_score_correction_bias");
}

/* A float32 selection bias beside bf16 weights, as public checkpoints have it, loses nothing. */
Test(layer_hf_load, mixed_types_are_widened) {
    edited f = edit("deepseek_v3");
    cast(&f.weights, DEEPSEEK_AT "gate.e_score_correction_bias", MOE_F32);
    moe_tensor *bias = &find(&f.weights, DEEPSEEK_AT "gate.e_score_correction_bias")->tensor;
    moe_store(bias->data, MOE_F32, 3, 0.1234567);
    moe_problem *p = load_edited(&f, -1, 0);
    cr_expect_eq(p->dtype, MOE_F32);
    for (int id = 0; id < MOE_T_COUNT; id++)
        cr_expect(!p->in.t[id].data || p->in.t[id].dtype == MOE_F32, "%s", moe_tensor_name(id));
    const moe_tensor *loaded = &p->in.t[MOE_T_B_SELECT];
    cr_expect_eq(moe_load(loaded->data, loaded->dtype, 3), (double)0.1234567f);
    const moe_tensor *x = &find(&f.golden_case, "hidden_states")->tensor;
    cr_expect_eq(moe_load(p->in.t[MOE_T_X].data, MOE_F32, 100), moe_load(x->data, x->dtype, 100));
    moe_problem_destroy(&p);
    f = edit("mixtral");
    cast(&f.weights, MIXTRAL_AT "gate.weight", MOE_F16);
    p = load_edited(&f, -1, 0);
    cr_expect_eq(p->dtype, MOE_F32, "bf16 and fp16 both fit into fp32 only");
    moe_problem_destroy(&p);
    f = edit("mixtral");
    cast(&f.golden_case, "grad_output", MOE_F64);
    p = load_edited(&f, -1, 0);
    cr_expect_eq(p->dtype, MOE_F64);
    moe_problem_destroy(&p);
}

Test(layer_hf_load, without_a_case_inputs_are_drawn) {
    edited f = edit("olmoe");
    f.has_case = false;
    moe_problem *p = load_edited(&f, -1, 0);
    cr_expect(p->T == 128 && p->pass == MOE_PASS_BOTH && !p->expected_plan);
    cr_expect_eq(p->in.t[MOE_T_DO].shape[0], 128);
    for (int id = 0; id < MOE_T_COUNT; id++)
        cr_expect_null(p->expected.t[id].data);
    moe_problem *shorter = load_edited(&f, -1, 5);
    cr_expect_eq(shorter->in.t[MOE_T_X].shape[0], 5);
    cr_expect_eq(memcmp(shorter->in.t[MOE_T_X].data, p->in.t[MOE_T_X].data, 5 * 64 * 2), 0);
    moe_problem_destroy(&p);
    moe_problem_destroy(&shorter);
}

Test(layer_hf_load, a_case_may_lack_results) {
    edited f = edit("mixtral");
    static const char *const gone[] = {
        "grad_output",          "expected.grad.hidden_states", "expected.grad.gate.weight",
        "expected.router_out0", "expected.router_out1",        "expected.router_out2",
    };
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        drop(&f.golden_case, gone[i]);
    moe_problem *p = load_edited(&f, -1, 0);
    cr_expect_eq(p->pass, MOE_PASS_FWD);
    cr_expect_null(p->in.t[MOE_T_DO].data);
    cr_expect_null(p->expected_plan);
    cr_expect_null(p->expected.t[MOE_T_LOGITS].data);
    cr_expect_null(p->expected.t[MOE_T_DX].data);
    cr_expect(p->expected.t[MOE_T_O].data && p->expected.t[MOE_T_DW1].data);
    moe_problem_destroy(&p);
}

Test(layer_hf_load, damaged_cases) {
    int64_t two[] = {2, 2};
    edited f = edit("mixtral");
    drop(&f.golden_case, "hidden_states");
    assert_refused(&f, -1, MOE_E_FORMAT, "hidden_states");
    f = edit("mixtral");
    moe_tensor *x = &find(&f.golden_case, "hidden_states")->tensor;
    x->shape[0] *= 2;
    x->shape[1] /= 2;
    assert_refused(&f, -1, MOE_E_FORMAT, "hidden_states has shape [244, 48]");
    f = edit("mixtral");
    find(&f.golden_case, "grad_output")->tensor.shape[0]--;
    assert_refused(&f, -1, MOE_E_FORMAT, "grad_output has shape [121, 96]");
    f = edit("mixtral");
    find(&f.golden_case, "hidden_states")->tensor.shape[0] = 0;
    assert_refused(&f, -1, MOE_E_FORMAT, "grad_output");
    f = edit("mixtral");
    add(&f.golden_case, "expected.grad.experts.gate_proj", MOE_F32, 2, two);
    assert_refused(&f, -1, MOE_E_FORMAT,
                   "expected.grad.experts.gate_proj is nothing that family mixtral");
    f = edit("mixtral");
    add(&f.golden_case, "notes", MOE_F32, 2, two);
    assert_refused(&f, -1, MOE_E_FORMAT, "notes is nothing");
    f = edit("mixtral");
    add(&f.golden_case, "expected.router_out3", MOE_F32, 2, two);
    assert_refused(&f, -1, MOE_E_FORMAT, "expected.router_out3 [2, 2] is neither");
    f = edit("mixtral");
    rename_tensor(&f.golden_case, "expected.router_out1", "expected.router_out1x");
    add(&f.golden_case, "expected.router_out9", MOE_F32, 2,
        find(&f.golden_case, "expected.router_out1x")->tensor.shape);
    assert_refused(&f, -1, MOE_E_FORMAT, "the second of a kind");
    f = edit("mixtral");
    drop(&f.golden_case, "expected.router_out1");
    assert_refused(&f, -1, MOE_E_FORMAT, "indices or its weights, not both");
    f = edit("qwen2_moe");
    drop(&f.golden_case, "expected.grad.shared_expert.up_proj.weight");
    assert_refused(&f, -1, MOE_E_FORMAT,
                   "has no tensor expected.grad.shared_expert.up_proj.weight");
    f = edit("mixtral");
    find(&f.golden_case, "expected.grad.experts.down_proj")->tensor.shape[0]--;
    assert_refused(&f, -1, MOE_E_FORMAT, "expected.grad.experts.down_proj has shape");
}

static void assert_bad_index(double value) {
    edited f = edit("mixtral");
    moe_tensor *index = &find(&f.golden_case, "expected.router_out2")->tensor;
    moe_store(index->data, index->dtype, 7, value);
    capture seen;
    moe_log log = capture_log(&seen);
    moe_problem *p = NULL;
    write_folder(&f);
    cr_expect_neq(moe_problem_from_hf(f.dir, -1, 0, &log, &p), MOE_OK, "index %g", value);
    cr_expect_gt(seen.messages, 0);
    remove_folder(&f);
}

Test(layer_hf_load, golden_indices_out_of_range) {
    assert_bad_index(8);
    assert_bad_index(-1);
    assert_bad_index(2147483647);
    edited f = edit("mixtral");
    moe_tensor *index = &find(&f.golden_case, "expected.router_out2")->tensor;
    assert_bad_index(moe_load(index->data, index->dtype, 6)); /* the same expert twice */
}

/* The zero experts' rows of LongCat's gradient carry nothing: a value there would go unchecked. */
Test(layer_hf_load, zero_experts_have_no_gradient) {
    edited f = edit("longcat_flash");
    moe_tensor *g = &find(&f.golden_case, "expected.grad.experts.gate_up_proj")->tensor;
    moe_store(g->data, g->dtype, (size_t)moe_tensor_count(g) - 1, 1e-30);
    assert_refused(&f, -1, MOE_E_FORMAT, "is not 0 for a zero expert");
    f = edit("longcat_flash");
    moe_problem *p = load_edited(&f, -1, 0);
    cr_expect_eq(p->expected.t[MOE_T_DW1].shape[0], 16);
    cr_expect_eq(p->expected_plan->n_experts, 18);
    moe_problem_destroy(&p);
}

/* Llama 4's router returns scores for all experts: those that are not 0 are the choice. */
Test(layer_hf_load, dense_scores_become_a_plan) {
    edited f = edit("llama4_text");
    moe_problem *p = load_edited(&f, -1, 0);
    const moe_tensor *scores = &find(&f.golden_case, "expected.router_out0")->tensor;
    const moe_tensor *logits = &find(&f.golden_case, "expected.router_out1")->tensor;
    cr_assert_eq(p->expected_plan->n_pairs, 132 * 4);
    for (int64_t e = 0; e < 8; e++) {
        for (int64_t i = p->expected_plan->offsets[e]; i < p->expected_plan->offsets[e + 1]; i++) {
            size_t at_pair = (size_t)(p->expected_plan->token[i] * 8 + e);
            double z = moe_load(logits->data, logits->dtype, at_pair);
            cr_assert_eq(p->expected_plan->weight[i],
                         moe_load(scores->data, scores->dtype, at_pair));
            cr_assert_float_eq(p->expected_plan->weight[i], 1 / (1 + exp(-z)), 1e-6);
        }
    }
    moe_problem_destroy(&p);
}

Test(layer_hf_load, folders_that_are_none) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_problem *p = NULL;
    cr_expect_eq(moe_problem_from_hf("/nonexistent", -1, 0, &log, &p), MOE_E_IO);
    cr_expect(strstr(seen.text, "/nonexistent/config.json"), "%s", seen.text);
    edited f = edit("mixtral");
    write_folder(&f);
    cr_assert_eq(truncate(inside(&f, "case.safetensors"), 1000), 0);
    cr_expect_eq(moe_problem_from_hf(f.dir, -1, 0, &log, &p), MOE_E_FORMAT);
    cr_expect(strstr(seen.text, "case.safetensors"), "%s", seen.text);
    unlink(inside(&f, "model.safetensors"));
    cr_expect_eq(moe_problem_from_hf(f.dir, -1, 0, &log, &p), MOE_E_IO, "%s", seen.text);
    remove_folder(&f);
    cr_expect_null(p);
}
