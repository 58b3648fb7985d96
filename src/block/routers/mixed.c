/* Routers whose scores are mixed over tokens before the choice: r~ = S r, r = softmax(z), and the
 * chosen weights divided by their sum + 1e-20, as a token may have none. The idea is that of
 * "Improving Routing in Sparse Mixture of Experts with Graph of Tokens" (Nguyen et al., arXiv
 * 2505.00792); the equations are not taken from its text. A token mixes with those before it alone.
 */
#include "block/routers/routers.h"

#include <math.h>

#define TWO moe_int_tape_of_two

/* softmax of each row up to its own token */
static int causal(const moe_int_writing *k, int scores, double times) {
    const int scaled = moe_int_tape_of(k->tape, MOE_INT_STEP_TIMES, scores, times);
    return moe_int_tape_add(k->tape,
                            (moe_int_step){.kind = MOE_INT_STEP_SOFTMAX, .a = scaled, .count = 1});
}

static int mixed(const moe_int_writing *k, int S) {
    const int r = moe_int_tape_of(k->tape, MOE_INT_STEP_SOFTMAX, moe_int_logits(k, k->x, 0), 0);
    const int scores = TWO(k->tape, MOE_INT_STEP_MIX, S, r);
    const moe_plan *plan = moe_int_chosen(k, scores);
    return moe_int_experts(k, k->x, moe_int_shares(k, moe_int_kept(k, scores, plan), 1e-20), plan);
}

/* S = softmax(X W_s^T X^T / sqrt(d)) */
int moe_int_write_similarity(const moe_int_writing *k) {
    const int w = moe_int_matrix(k, "W_s", k->desc.d, k->desc.d);
    const int xw = TWO(k->tape, MOE_INT_STEP_LINEAR, k->x, w);
    return mixed(
        k, causal(k, TWO(k->tape, MOE_INT_STEP_LINEAR, xw, k->x), 1 / sqrt((double)k->desc.d)));
}

/* S: the mean of the heads' attention. */
int moe_int_write_attention(const moe_int_writing *k) {
    const int64_t width = (k->desc.d + 1) / 2;
    int sum = 0;
    for (int64_t head = 0; head < 2; head++) {
        const int q = TWO(k->tape, MOE_INT_STEP_LINEAR, k->x,
                          moe_int_matrix_of(k, "W_q", head, width, k->desc.d));
        const int v = TWO(k->tape, MOE_INT_STEP_LINEAR, k->x,
                          moe_int_matrix_of(k, "W_k", head, width, k->desc.d));
        const int S = causal(k, TWO(k->tape, MOE_INT_STEP_LINEAR, q, v), 1 / sqrt((double)width));
        sum = head ? TWO(k->tape, MOE_INT_STEP_ADD, sum, S) : S;
    }
    return mixed(k, moe_int_tape_of(k->tape, MOE_INT_STEP_TIMES, sum, 0.5));
}
