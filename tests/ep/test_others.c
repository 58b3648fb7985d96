/* Causes between ranks that a judge names by the files of ranks that have them: rows and gradients
 * of others, experts in parts. */
#include "spoilt.h"

/* ---- rows and gradients of others ---- */

/* Rows of rank 1's experts come home in the order of the next ones: each token's, of any number. */
static void mix_rows_of_rank_1(const faulty *f) {
    const moe_plan *plan = f->ref->plan;
    const int64_t d = width_of(f, MOE_T_O);
    const int64_t first = plan->offsets[first_expert(f, 1)],
                  end = plan->offsets[first_expert(f, 2)];
    for (int64_t p = first; p < end; p++)
        for (int64_t i = 0; i < d; i++) {
            const int64_t q = first + (p - first + 5) % (end - first);
            of(f, MOE_T_O)[plan->token[p] * d + i] +=
                plan->weight[p] * (of(f, MOE_T_Y)[q * d + i] - of(f, MOE_T_Y)[p * d + i]);
        }
}

/* An all-gather of 24 rows a rank, of which those of nobody were not left out. */
static void keep_padding(const faulty *f) {
    const int64_t d = width_of(f, MOE_T_O), T = f->problem->T;
    double *all = calloc((size_t)((int64_t)f->R * 24 * d), sizeof *all);
    for (int32_t r = 0; r < f->R; r++)
        memcpy(all + (int64_t)r * 24 * d, of(f, MOE_T_O) + f->first[r] * d,
               (size_t)((f->first[r + 1] - f->first[r]) * d) * sizeof *all);
    memcpy(of(f, MOE_T_O), all, (size_t)(T * d) * sizeof *all);
    free(all);
}

/* Each rank adds the next one's gradients of as many experts. */
static void add_next_rank(const faulty *f) {
    const int64_t width = width_of(f, MOE_T_DW2), E = f->problem->layer.E;
    double *all = malloc((size_t)(E * width) * sizeof *all);
    memcpy(all, of(f, MOE_T_DW2), (size_t)(E * width) * sizeof *all);
    for (int64_t i = 0; i < E * width; i++)
        of(f, MOE_T_DW2)[i] += all[(i + E / f->R * width) % (E * width)];
    free(all);
}

/* Stale rows behind an expert's last one are that row twice more. */
static void repeat_last_rows(const faulty *f) {
    const moe_plan *plan = f->ref->plan;
    const moe_tensor *dO = &f->problem->in.t[MOE_T_DO];
    const int64_t d = width_of(f, MOE_T_O), n = width_of(f, MOE_T_A);
    for (int64_t e = 0; e < plan->n_experts; e++) {
        const int64_t p = plan->offsets[e + 1] - 1;
        for (int64_t i = 0; i < d && p >= plan->offsets[e]; i++)
            for (int64_t j = 0; j < n; j++)
                of(f, MOE_T_DW2)[(e * d + i) * n + j] +=
                    2 * plan->weight[p] * of(f, MOE_T_A)[p * n + j] *
                    moe_load(dO->data, dO->dtype, (size_t)(plan->token[p] * d + i));
    }
}

static void round_weights(const faulty *f) {
    const moe_plan *plan = f->ref->plan;
    const int64_t d = width_of(f, MOE_T_O);
    for (int64_t p = 0; p < plan->n_pairs; p++)
        for (int64_t i = 0; i < d; i++)
            of(f, MOE_T_O)[plan->token[p] * d + i] +=
                (moe_round_to(plan->weight[p], MOE_BF16) - plan->weight[p]) *
                of(f, MOE_T_Y)[p * d + i];
}

Test(ep_causes, rows_gradients_and_weights_of_others_are_named) {
    const char *line = "T=64 d=48 n=8 E=12 K=4 dtype=fp32 renorm=1 seed=3 ep=4 tokens=20+0+24+20";
    expect_cause(line, mix_rows_of_rank_1, "rows are told so: all of them on rank 1");
    expect_cause(line, keep_padding, "rank 3's rows of O are those of tokens 28 further back");
    expect_cause(line, add_next_rank,
                 "dW2 of expert 0 on rank 0 has that of expert 3 of rank 1 added to its own; 11");
    expect_cause(
        line, repeat_last_rows,
        "dW2 has the last row of experts more than once: that of expert 0 on rank 0 3 tim");
    expect_cause(line, round_weights, "weights are rounded to bf16");
}

/* ---- columns that did not arrive ---- */

/* Rows of X from other ranks are zero from column 32 on. */
static void lose_columns(const faulty *f) {
    const moe_plan *plan = f->ref->plan;
    const int64_t d = width_of(f, MOE_T_O), T = f->problem->T;
    moe_tensors in = f->problem->in;
    moe_reference_result *cut = NULL;
    const moe_reference_params params = {
        .tokens = T, .precision = MOE_F64, .threads = 1, .plan = plan, .plan_given = 1};
    cr_assert_eq(moe_tensor_cast(&f->problem->in.t[MOE_T_X], MOE_F32, &in.t[MOE_T_X]), MOE_OK);
    for (int64_t i = 0; i < T * d; i++)
        ((float *)in.t[MOE_T_X].data)[i] *= i % d < 32 ? 1 : 0;
    cr_assert_eq(moe_reference_run(&f->problem->layer, &in, &params, NULL, &cut), MOE_OK);
    const double *Y = cut->out.t[MOE_T_Y].data;
    for (int64_t p = 0; p < plan->n_pairs; p++)
        for (int64_t i = 0; i < d && home_of(f, p) != owner_of(f, p); i++)
            of(f, MOE_T_O)[plan->token[p] * d + i] +=
                plan->weight[p] * (Y[p * d + i] - of(f, MOE_T_Y)[p * d + i]);
    moe_reference_result_destroy(&cut);
    moe_tensor_destroy(&in.t[MOE_T_X]);
}

Test(ep_causes, rows_of_other_ranks_without_their_last_columns_are_named) {
    expect_cause("T=64 d=48 n=8 E=12 K=4 dtype=fp32 renorm=1 seed=3 ep=4 tokens=20+0+24+20",
                 lose_columns,
                 "rows of X that come from other ranks are zero from column 32 on, of 48");
}

/* ---- experts in parts ---- */

/* W1 [2n][d] of two parts, cut in the middle: part 0 takes n/2 gates for ups. */
static void cut_across(const faulty *f) {
    moe_tensors other = f->problem->in;
    moe_tensor *W1 = &other.t[MOE_T_W1];
    cr_assert_eq(moe_tensor_cast(&f->problem->in.t[MOE_T_W1], MOE_F32, W1), MOE_OK);
    const int64_t half = W1->shape[1] / 4, d = W1->shape[2]; /* of n units */
    for (int64_t e = 0; e < W1->shape[0]; e++)
        for (int64_t i = 0; i < half * d; i++) { /* its second and third quarters change places */
            float *at = (float *)W1->data + e * 4 * half * d + i;
            const float kept = at[half * d];
            at[half * d] = at[2 * half * d];
            at[2 * half * d] = kept;
        }
    remake_O(f, &other);
    moe_tensor_destroy(W1);
}

static void lose_part_1(const faulty *f) {
    const moe_plan *plan = f->ref->plan;
    const int64_t d = width_of(f, MOE_T_O), n = width_of(f, MOE_T_A);
    const moe_tensor *W2 = &f->problem->in.t[MOE_T_W2];
    for (int64_t p = 0; p < plan->n_pairs; p++)
        for (int64_t i = 0; i < d; i++)
            for (int64_t j = n / 2; j < n; j++)
                of(f, MOE_T_O)[plan->token[p] * d + i] -=
                    plan->weight[p] * of(f, MOE_T_A)[p * n + j] *
                    moe_load(W2->data, W2->dtype, (size_t)((expert_of(f, p) * d + i) * n + j));
}

Test(ep_causes, parts_that_are_missing_or_cut_otherwise_are_named) {
    const char *line =
        "T=64 d=48 n=8 E=12 K=4 dtype=fp32 renorm=1 seed=3 ep=2 tp=2 tokens=20+0+24+20";
    expect_cause(line, lose_part_1, "O lacks part 1 of every expert's units, a half");
    expect_cause(line, cut_across, "W1 is cut into 2 parts across gates and ups");
}
