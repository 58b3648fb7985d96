/* Golden results beside a checkpoint: what may be absent, and what is refused. */
#include "hf_folder.h"

#include <math.h>

Test(layer_hf_case, a_case_may_lack_results) {
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

Test(layer_hf_case, damaged_cases) {
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
                   "has no tensor expected.grad.shared_experts.up_proj.weight");
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

Test(layer_hf_case, golden_indices_out_of_range) {
    assert_bad_index(8);
    assert_bad_index(-1);
    assert_bad_index(2147483647);
    edited f = edit("mixtral");
    moe_tensor *index = &find(&f.golden_case, "expected.router_out2")->tensor;
    assert_bad_index(moe_load(index->data, index->dtype, 6)); /* the same expert twice */
}

/* The zero experts' rows of LongCat's gradient carry nothing: a value there would go unchecked. */
Test(layer_hf_case, zero_experts_have_no_gradient) {
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
Test(layer_hf_case, dense_scores_become_a_plan) {
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
