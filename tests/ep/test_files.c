/* Outputs of three ranks in three files, as any program over several devices could write them. */
#include "capture.h"
#include "moeref/check.h"
#include "moeref/reference.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 3, T = 20, E = 6 };
static const int64_t first_token[RANKS + 1] = {0, 9, 9, T}; /* rank 1 has none */
static const int64_t first_expert[RANKS + 1] = {0, 2, 4, E};

static moe_tensor rows(const moe_tensor *all, int64_t first, int64_t end) {
    moe_tensor part = *all;
    const int64_t bytes = moe_tensor_bytes(all) / all->shape[0];
    part.data = (char *)all->data + first * bytes;
    part.shape[0] = end - first;
    return part;
}

/* `alone`: a rank's dW_r is of its own, as if nobody had added them up. */
static void write_rank(const char *folder, int rank, const moe_reference_result *ref, bool alone) {
    static const char *const names[] = {"O", "dX", "dW1", "dW2", "dW_r"};
    char path[256];
    moe_named_tensor t[5];
    moe_tensor own = {0};
    const int64_t t0 = first_token[rank], t1 = first_token[rank + 1];
    const int64_t e0 = first_expert[rank], e1 = first_expert[rank + 1];
    const moe_tensor *out = ref->out.t;
    cr_assert_eq(moe_tensor_cast(&out[MOE_T_DW_R], MOE_F64, &own), MOE_OK);
    if (alone)
        ((double *)own.data)[rank] *= 0.5;
    const moe_tensor parts[] = {rows(&out[MOE_T_O], t0, t1), rows(&out[MOE_T_DX], t0, t1),
                                rows(&out[MOE_T_DW1], e0, e1), rows(&out[MOE_T_DW2], e0, e1), own};
    size_t n = 0;
    for (int i = 0; i < 5; i++)
        if (i > 1 || t1 > t0) /* a rank without tokens leaves O and dX out */
            t[n++] = (moe_named_tensor){names[i], parts[i]};
    snprintf(path, sizeof path, "%s/rank%d.safetensors", folder, rank);
    cr_assert_eq(moe_safetensors_write(path, t, n, NULL, 0, NULL), MOE_OK);
    moe_tensor_destroy(&own);
}

static moe_check_result *judge(bool alone) {
    char folder[TEMPORARY_BYTES], path[256];
    moe_case c;
    moe_problem *problem = NULL;
    moe_reference_result *ref = NULL;
    moe_check_result *result = NULL;
    capture seen;
    moe_log log = capture_log(&seen);
    temporary_folder(folder);
    cr_assert_eq(moe_case_parse("T=20 d=16 n=8 E=6 K=2 dtype=fp32 seed=3", NULL, &c), MOE_OK);
    cr_assert_eq(moe_problem_from_case(&c, NULL, &problem), MOE_OK);
    cr_assert_eq(moe_reference_problem(problem, 1, NULL, &ref), MOE_OK);
    for (int r = 0; r < RANKS; r++)
        write_rank(folder, r, ref, alone);
    snprintf(path, sizeof path, "%s/rank%%d.safetensors", folder);
    const moe_check_params params = {.threads = 1, .no_explanation = true};
    cr_assert_eq(moe_check_rank_outputs(path, problem, -1, &params, &log, &result), MOE_OK, "%s",
                 seen.text);
    temporary_remove(folder);
    moe_reference_result_destroy(&ref);
    moe_problem_destroy(&problem);
    moe_case_destroy(&c);
    return result;
}

Test(ep_files, ranks_are_put_together) {
    moe_check_result *r = judge(false);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    moe_check_result_destroy(&r);
}

Test(ep_files, gradients_that_nobody_summed_are_named) {
    moe_check_result *r = judge(true);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    int named = 0;
    for (size_t i = 0; i < r->n_tensors; i++)
        named += strcmp(r->tensor[i].name, "dW_r") == 0 && r->tensor[i].verdict == MOE_VERDICT_FAIL;
    cr_expect_eq(named, 1, "%s", r->why);
    moe_check_result_destroy(&r);
}

Test(ep_files, a_pattern_without_a_place_for_the_rank_is_refused) {
    moe_check_result *r = NULL;
    const moe_problem none = {.T = 1};
    cr_expect_eq(moe_check_rank_outputs("rank.safetensors", &none, -1, NULL, NULL, &r),
                 MOE_E_INVALID);
}
