/* What the CUDA backend allocates, by hand. tests/device/memory.c holds the same numbers against
 * the backend itself. */
#include "layers.h"
#include "moeref/allocation.h"

#include <criterion/criterion.h>

static moe_status ask_on(const char *name, const char *line, moe_problem **ret_problem,
                         moe_allocation *ret) {
    moe_case c;
    moe_gpu *gpu = load(name);
    cr_assert_eq(moe_case_parse(line, NULL, &c), MOE_OK, "%s", line);
    const moe_status status = moe_allocation_of(gpu, &c, NULL, ret);
    if (ret_problem)
        cr_assert_eq(moe_problem_from_case(&c, NULL, ret_problem), MOE_OK, "%s", line);
    moe_case_destroy(&c);
    moe_gpu_destroy(&gpu);
    return status;
}

static moe_status ask(const char *line, moe_problem **ret_problem, moe_allocation *ret) {
    return ask_on("h100-sxm", line, ret_problem, ret);
}

static moe_allocation allocated(const char *line) {
    moe_allocation a;
    cr_assert_eq(ask(line, NULL, &a), MOE_OK, "%s", line);
    return a;
}

static int64_t bytes_of(const moe_allocation *a, const char *name) {
    for (size_t i = 0; i < a->n_buffers; i++)
        if (strcmp(a->buffers[i].name, name) == 0)
            return a->buffers[i].bytes;
    return -1;
}

static int64_t up(int64_t bytes) {
    return (bytes + 255) / 256 * 256;
}

#define OLMOE "T=32768 d=2048 n=1024 E=64 K=8 dtype=bf16 route=uniform "

/* OLMoE's layer for 32768 tokens, with the plan given. Kept: X, H, the sorted pairs (three numbers
 * each), a list of 128-row tiles (32 bytes each) and running sums. Beside it: O, dO, dX; A with A'
 * after it, Y with dX~ after it, dH; dS, in four parts of 256 columns each before it is summed. */
enum { TOKENS = 32768, PAIRS = 8 * TOKENS, WIDTH = 2048, INNER = 1024 };
static const int64_t row = (int64_t)TOKENS * WIDTH * 2, hidden = (int64_t)PAIRS * INNER * 2,
                     lists = PAIRS * 4, tiles = (PAIRS / 128 + 64) * 32,
                     sums = 65 * 4 + 65 * 4 + (TOKENS + 1) * 4,
                     kept = 2 * hidden + 3 * lists + tiles + sums;

Test(sim_allocated, training_by_hand) {
    const moe_allocation a = allocated(OLMOE "pass=both");
    cr_expect_eq(a.own.weights, (int64_t)64 * 3 * INNER * WIDTH * 2);
    cr_expect_eq(a.gradients, a.own.weights);
    cr_expect_eq(a.own.cached, row + kept);
    cr_expect_eq(a.own.peak, a.own.cached + 3 * row + hidden + (int64_t)PAIRS * WIDTH * 2 +
                                 2 * hidden + lists + 4 * lists);
    cr_expect_eq(a.own.cached, 1211304460);
    cr_expect_eq(a.own.peak, 4303555084);
}

Test(sim_allocated, inference_by_hand) {
    const moe_allocation a = allocated(OLMOE "pass=fwd");
    cr_expect_eq(a.own.cached, row + kept);
    cr_expect_eq(a.own.peak, a.own.cached + row + hidden + (int64_t)PAIRS * WIDTH * 2);
    cr_expect_eq(a.gradients, 0);
}

/* The operator: tensors are its caller's; pieces lie 256 bytes apart, and 256 are for the base. The
 * forward sorts the slots, in 129 chunks of 256 tokens or less; inference stores no H. */
Test(sim_allocated, operator_by_hand) {
    const moe_allocation train = allocated(OLMOE "pass=both"), infer = allocated(OLMOE "pass=fwd");
    const int64_t pieces = 2 * up(65 * 4) + up((TOKENS + 1) * 4) + up(tiles) + 3 * up(lists);
    const int64_t sort = 2 * up(lists) + up((int64_t)TOKENS / 256 * 64 * 4);
    const int64_t y = (int64_t)PAIRS * WIDTH * 2;
    cr_expect_eq(train.sizes.cached, pieces + 2 * hidden + 256);
    cr_expect_eq(train.sizes.forward, hidden + y + sort + 256);
    cr_expect_eq(train.sizes.backward, hidden + y + 2 * hidden + lists + 4 * lists + 256);
    cr_expect_eq(infer.sizes.cached, 0);
    cr_expect_eq(infer.sizes.forward, pieces + hidden + y + sort + 256);
    cr_expect_eq(infer.sizes.backward, 0);
    cr_expect_eq(train.bound.peak, train.sizes.cached + train.sizes.backward);
    cr_expect_eq(train.bound.weights, 0);
    cr_expect_eq(train.sizes.columns, 8);
}

/* Parameters take what their tensors take, but for b_select, which becomes fp32. */
Test(sim_allocated, weights_are_the_tensors) {
    static const char *const lines[] = {
        ("T=37 d=72 n=40 E=5 K=3 dtype=fp16 act=geglu shared=24 shared_gate=1 bias=1 router_bias=1 "
         "select_bias=1 zero=2"),
        "T=8 d=64 n=64 E=4 K=2 dtype=bf16 act=relu2 bias=1",
        "T=8 d=64 n=64 E=4 K=2 dtype=bf16 glu=interleaved shared=128 route=uniform",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        moe_allocation a;
        moe_problem *p = NULL;
        int64_t bytes = 0;
        cr_assert_eq(ask(lines[i], &p, &a), MOE_OK);
        for (int id = 0; id < MOE_T_COUNT; id++) {
            const moe_tensor *t = &p->in.t[id];
            if (t->data && moe_tensor_role_of((moe_tensor_id)id) == MOE_ROLE_PARAM)
                bytes += moe_tensor_bytes(t) * (id == MOE_T_B_SELECT ? 2 : 1);
        }
        cr_expect_eq(a.own.weights, bytes, "%s: %lld, not %lld", lines[i], (long long)a.own.weights,
                     (long long)bytes);
        moe_problem_destroy(&p);
    }
}

/* The layer's own router: logits and choices are kept; the gradient of the logits is two numbers of
 * 16 bits, dW_r is summed in slices of the tokens: 264 / 16 tiles = 16 of 4096 tokens. */
Test(sim_allocated, router_by_hand) {
    const moe_allocation given = allocated("T=4096 d=2048 n=512 E=64 K=8 route=uniform"),
                         own = allocated("T=4096 d=2048 n=512 E=64 K=8");
    const int64_t T = 4096, slots = T * 8 * 4;
    cr_expect_eq(own.own.cached - given.own.cached, T * 64 * 4 + slots);
    cr_expect_eq(bytes_of(&own, "d logits"), T * 128 * 2);
    cr_expect_eq(bytes_of(&own, "dX router"), T * 2048 * 4);
    cr_expect_eq(bytes_of(&own, "slices' sums"), (int64_t)16 * 128 * 2048 * 4);
    cr_expect_eq(bytes_of(&own, "counts of chunks"), (int64_t)16 * 64 * 4);
    cr_expect_eq(bytes_of(&given, "logits"), -1);
}

/* 65536 tokens on 132 multiprocessors are 131 chunks of 504, on 78 they are 78 of 848; slices are
 * two a multiprocessor for each tile of dW_r, of which there is one. Without wgmma dA' is stored.
 */
Test(sim_allocated, devices_differ) {
    const char *line = "T=65536 d=64 n=64 E=8 K=2";
    moe_allocation h100, h20, a100;
    cr_assert_eq(ask_on("h100-sxm", line, NULL, &h100), MOE_OK);
    cr_assert_eq(ask_on("h20", line, NULL, &h20), MOE_OK);
    cr_assert_eq(ask_on("a100-sxm", line, NULL, &a100), MOE_OK);
    cr_expect_eq(bytes_of(&h100, "counts of chunks"), 131 * 8 * 4);
    cr_expect_eq(bytes_of(&h20, "counts of chunks"), 78 * 8 * 4);
    cr_expect_eq(bytes_of(&h100, "slices' sums"), 256 * 16 * 64 * 4, "no slice has fewer than 256");
    cr_expect_eq(bytes_of(&h20, "slices' sums"), 156 * 16 * 64 * 4);
    cr_expect_eq(bytes_of(&h100, "dA'"), -1);
    cr_expect_eq(bytes_of(&a100, "dA'"), (int64_t)131072 * 64 * 4);
}

/* Rows are the plan's, and an operator has as many slots as the fullest token. */
Test(sim_allocated, rows_are_the_plan_s) {
    moe_allocation a = allocated("T=40 d=64 n=64 E=3 K=1 route=counts:5+0+40");
    cr_expect_eq(a.pairs, 45);
    cr_expect_eq(bytes_of(&a, "token of pair"), 45 * 4);
    cr_expect_eq(a.sizes.columns, 2);
    a = allocated("T=40 d=64 n=64 E=3 K=2 route=uniform masked=10 drop=7");
    cr_expect_eq(a.pairs, 30 * 2 - 7);
    a = allocated("T=40 d=64 n=64 E=3 K=2 select=token_rounding tile=16");
    cr_expect_eq(a.pairs, 120, "no expert has a token twice");
    cr_expect(a.unbound[0] && a.sizes.forward == 0, "that router runs on the host");
}

/* Converted weights: those that the kernels take in another order. */
Test(sim_allocated, interleaved_weights_are_converted) {
    const char *line = "T=8 d=64 n=72 E=4 K=2 bias=1 glu=interleaved";
    const moe_allocation a = allocated(line);
    cr_expect_eq(a.bound.weights, up((int64_t)4 * 144 * 64 * 2) + up((int64_t)4 * 144 * 2) + 256);
}

Test(sim_allocated, says_what_the_backend_says) {
    moe_allocation a;
    cr_expect_eq(ask("T=8 d=64 n=20 E=4 K=2", NULL, &a), MOE_E_UNSUPPORTED);
    cr_expect_eq(ask("T=8 d=64 n=64 E=4 K=2 dtype=fp32", NULL, &a), MOE_E_UNSUPPORTED);
    cr_expect_eq(ask("T=8 d=64 n=64 E=4 K=2 ep=2", NULL, &a), MOE_E_UNSUPPORTED);
}
