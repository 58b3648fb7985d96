/* O and dX: a token's rows added in fp32 in the order of its pairs, rounded once. */
#include "check/bits/compare.h"
#include "core/convert.h"

#include <math.h>

/* What a pair's row is multiplied by. A weight is a number of fp32 to whoever multiplies by it. */
static float weight_of(const moe_int_bits_run *c, moe_tensor_id id, int64_t pair) {
    const moe_problem *p = c->subject->problem;
    const bool on_input = p->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    const bool identity = pair >= c->source.plan->offsets[p->layer.E];
    return identity || on_input == (id == MOE_T_DX) ? moe_int_weight_of(&c->source, pair) : 1;
}

static float sum_of(const moe_int_bits_run *c, moe_tensor_id id, const moe_tensor *rows, bool fused,
                    int64_t t, int64_t i) {
    const moe_plan *plan = c->source.plan;
    const moe_problem *p = c->subject->problem;
    const int64_t d = p->layer.d, real = plan->offsets[p->layer.E];
    float sum = 0;
    for (int64_t k = plan->token_offsets[t]; k < plan->token_offsets[t + 1]; k++) {
        const int64_t pair = plan->pair_of_token[k];
        const moe_tensor *from = pair < real ? rows : &p->in.t[MOE_T_X];
        const float w = weight_of(c, id, pair);
        const float x =
            (float)moe_load(from->data, from->dtype, (size_t)((pair < real ? pair : t) * d + i));
        sum = fused ? fmaf(w, x, sum) : sum + w * x;
    }
    return sum;
}

void moe_int_bits_sums(const moe_int_bits_run *c, moe_tensor_id id, const moe_tensor *got,
                       const moe_tensor *rows, const moe_int_chain *chains, size_t count,
                       moe_int_bits_outcome *ret) {
    const int64_t T = c->subject->problem->T, d = c->subject->problem->layer.d;
    for (size_t a = 0; a < count; a++) {
        ret[a].total = T * d;
        for (int64_t at = 0; at < T * d; at++) {
            const float sum = sum_of(c, id, rows, chains[a].how.fused, at / d, at % d);
            const float want = (float)moe_round_to(sum, c->dtype);
            moe_int_bits_hold(got, at, (moe_int_span){.low = want, .high = want}, &ret[a]);
        }
    }
}
