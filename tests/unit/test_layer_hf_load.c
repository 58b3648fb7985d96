/* Checkpoint folders: layouts, the choice of a layer, and weights in which something is wrong. */
#include "hf_folder.h"

#include <limits.h>

#define MIXTRAL_AT  "model.layers.1.block_sparse_moe."
#define DEEPSEEK_AT "model.layers.1.mlp."

static double at(const moe_tensor *t, int64_t i, int64_t j, int64_t k) {
    return moe_load(t->data, t->dtype, (size_t)((i * t->shape[1] + j) * t->shape[2] + k));
}

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
                   "no layer has a router, a tensor such as model.layers.N.mlp.gate.weight");
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

/* Of inputs that are drawn the line that runs it again says how many. */
Test(layer_hf_load, drawn_inputs_are_drawn_again) {
    edited f = edit("mixtral");
    char path[PATH_MAX];
    moe_problem *p = NULL;
    write_folder(&f);
    snprintf(path, sizeof path, "%s/case.safetensors", f.dir);
    cr_assert_eq(remove(path), 0);
    cr_assert_eq(moe_problem_from_hf(f.dir, -1, 5, NULL, &p), MOE_OK);
    cr_expect(strstr(p->reproduce, " --layer 1 --tokens 5"), "%s", p->reproduce);
    moe_problem_destroy(&p);
    remove_folder(&f);
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
