/* What joins the experts: sums per token, zero experts, the shared expert and its gate. */
#include "faulty.h"

#include <math.h>
#include <string.h>

enum { ONE_EXPERT = 3 };

/* sum += scale * row */
static void add_row(float *sum, float scale, const float *row, int64_t d) {
    for (int64_t i = 0; i < d; i++)
        sum[i] += scale * row[i];
}

static int64_t expert_of(const moe_plan *plan, int64_t p) {
    int64_t e = 0;
    while (plan->offsets[e + 1] <= p)
        e++;
    return e;
}

void fy_shared_gates(fy_layer *l) {
    const int64_t d = l->desc.d;
    const float *w = fy_param(l, MOE_T_W_GATE_SHARED);
    for (int64_t t = 0; t < l->T; t++) {
        float z = 0;
        for (int64_t i = 0; w && i < d; i++)
            z += l->X[t * d + i] * w[i];
        l->shared.gate[t] = !w || FAULT(l, shared_gate_missing) ? 1
                            : FAULT(l, shared_gate_linear)      ? z
                                                                : 1 / (1 + expf(-z));
    }
}

/* The pair whose weight slot `i` of token t counts with: its own. */
static int64_t weight_slot(const fy_layer *l, int64_t t, int64_t i) {
    const moe_plan *plan = fy_plan(l);
    const int64_t first = plan->token_offsets[t], count = plan->token_offsets[t + 1] - first;
    const int64_t next = t + 1 < l->T ? t + 1 : 0;
    if (FAULT(l, weight_next_slot))
        return plan->pair_of_token[first + (i + 1) % count];
    if (FAULT(l, weight_of_place))
        return plan->pair_of_token[plan->pair_of_token[first + i]];
    if (FAULT(l, weight_first_slot))
        return plan->pair_of_token[first];
    if (FAULT(l, weight_next_token) &&
        plan->token_offsets[next] + i < plan->token_offsets[next + 1])
        return plan->pair_of_token[plan->token_offsets[next] + i];
    return plan->pair_of_token[first + i];
}

static float output_weight(const fy_layer *l, int64_t t, int64_t i, int64_t p) {
    const int64_t pairs = fy_plan(l)->offsets[l->desc.E];
    bool on_input = l->desc.router.weight_on == MOE_WEIGHT_ON_INPUT;
    if (FAULT(l, weight_on_input) || FAULT(l, weight_on_output))
        on_input = !on_input;
    if (p < pairs && (on_input || FAULT(l, weight_missing)))
        return 1;
    if (p >= pairs && FAULT(l, zero_unweighted))
        return 1;
    const float s = fy_out(l, MOE_T_S)[weight_slot(l, t, i)];
    return p < pairs && FAULT(l, weight_twice) ? s * s : s;
}

/* Does slot i of the token's count, pair p, not enter its sum? */
static bool is_skipped(const fy_layer *l, int64_t i, int64_t count, int64_t p) {
    const moe_plan *plan = fy_plan(l);
    if (FAULT(l, last_slot_skipped))
        return i == count - 1 && count > 1;
    if (FAULT(l, expert_0_skipped) || FAULT(l, expert_3_skipped))
        return expert_of(plan, p) == (FAULT(l, expert_0_skipped) ? 0 : ONE_EXPERT);
    return FAULT(l, zero_experts_missing) && p >= plan->offsets[l->desc.E];
}

static void round_bf16(float *v, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        v[i] = fy_bf16(v[i]);
}

/* b2 unweighted: (1 - s) b2 more than there should be. */
static void add_rest_of_bias(const fy_layer *l, float *o, float s, int64_t p) {
    const float *b = fy_param(l, MOE_T_B2);
    const moe_plan *plan = fy_plan(l);
    if (FAULT(l, b2_unweighted) && b && p < plan->offsets[l->desc.E])
        add_row(o, 1 - s, b + expert_of(plan, p) * l->desc.d, l->desc.d);
}

/* Row of Y that is read for pair p: its own, unless a 32-bit product of row and width overflows,
 * here at the largest power of two below the size of Y. */
static int64_t row_read(const fy_layer *l, int64_t p) {
    const int64_t d = l->desc.d, pairs = fy_plan(l)->offsets[l->desc.E];
    int64_t limit = 1;
    if (FAULT(l, Y_of_next_row) && p + 1 < pairs)
        return p + 1;
    if (!FAULT(l, row_overflow))
        return p;
    while (2 * limit < pairs * d)
        limit *= 2;
    return p * d < limit ? p : (p * d - limit) / d;
}

static void add_routed(const fy_layer *l, int64_t t, float *o) {
    const moe_plan *plan = fy_plan(l);
    const int64_t d = l->desc.d, first = plan->token_offsets[t];
    const int64_t count = plan->token_offsets[t + 1] - first;
    for (int64_t i = 0; i < count; i++) {
        const int64_t p = plan->pair_of_token[first + i];
        const float s = output_weight(l, t, i, p);
        if (is_skipped(l, i, count, p))
            continue;
        const bool zero = p >= plan->offsets[l->desc.E];
        add_row(o, s, zero ? l->X + t * d : fy_out(l, MOE_T_Y) + row_read(l, p) * d, d);
        add_rest_of_bias(l, o, s, p);
        if (FAULT(l, first_slot_twice) && i == 0)
            add_row(o, s, zero ? l->X + t * d : fy_out(l, MOE_T_Y) + p * d, d);
        if (FAULT(l, combine_bf16))
            round_bf16(o, d);
    }
}

static float shared_weight(const fy_layer *l, int64_t t) {
    const float g = l->shared.gate[t];
    return FAULT(l, shared_missing)    ? 0
           : FAULT(l, shared_twice)    ? 2 * g
           : FAULT(l, scale_on_shared) ? (float)l->desc.router.scale * g
                                       : g;
}

void fy_combine(fy_layer *l) {
    const int64_t d = l->desc.d;
    const moe_plan *plan = fy_plan(l);
    for (int64_t t = 0; t < l->T; t++) {
        float *o = fy_out(l, MOE_T_O) + t * d;
        const bool none = plan->token_offsets[t] == plan->token_offsets[t + 1];
        if (FAULT(l, O_adds_up) || (FAULT(l, O_stale_tokens) && none))
            ; /* what was there stays */
        else
            memset(o, 0, (size_t)d * sizeof *o);
        if (FAULT(l, O_garbage_tokens) && none)
            o[0] = 1;
        add_routed(l, t, o);
        if (l->desc.n_shared)
            add_row(o, shared_weight(l, t), l->shared.Y + t * d, d);
        for (int64_t i = 0; FAULT(l, shared_gate_on_all) && i < d; i++)
            o[i] = l->shared.gate[t] * (o[i] + (1 - l->shared.gate[t]) * l->shared.Y[t * d + i]);
    }
    fy_store(l, fy_out(l, MOE_T_O), l->T * d);
}

/* dX_t = sum of its rows of dX~. */
static void gather_dX(const fy_layer *l, int64_t t, float *dx) {
    const moe_plan *plan = fy_plan(l);
    const int64_t d = l->desc.d, first = plan->token_offsets[t];
    const int64_t count = plan->token_offsets[t + 1] - first;
    const bool on_input = l->desc.router.weight_on == MOE_WEIGHT_ON_INPUT;
    for (int64_t i = 0; i < count; i++) {
        const int64_t p = plan->pair_of_token[first + i];
        float s = on_input && !FAULT(l, dX_unweighted) ? fy_out(l, MOE_T_S)[p] : 1;
        if (FAULT(l, dX_weight_twice))
            s *= fy_out(l, MOE_T_S)[p];
        if (p >= plan->offsets[l->desc.E] || (FAULT(l, dX_without_last_slot) && i == count - 1) ||
            (FAULT(l, dX_without_expert) && expert_of(plan, p) == ONE_EXPERT))
            continue;
        add_row(dx, s, fy_out(l, MOE_T_DXP) + p * d, d);
        if (FAULT(l, dX_bf16_sums))
            round_bf16(dx, d);
    }
    if (l->desc.n_shared && !FAULT(l, dX_without_shared))
        add_row(dx, 1, l->shared.dXp + t * d, d);
}

/* A zero expert returns its input: dS = <dO, x>, dx = s dO. */
static void zero_experts_backward(const fy_layer *l) {
    const moe_plan *plan = fy_plan(l);
    const int64_t d = l->desc.d;
    for (int64_t p = plan->offsets[l->desc.E]; p < plan->n_pairs; p++) {
        const int64_t t = plan->token[p];
        const float *dO = l->dO + t * d, *x = l->X + t * d;
        float sum = 0;
        for (int64_t i = 0; i < d; i++)
            sum += dO[i] * x[i];
        fy_out(l, MOE_T_DS)[p] = FAULT(l, dS_without_zero) ? 0 : sum;
        if (!FAULT(l, dX_without_zero))
            add_row(fy_out(l, MOE_T_DX) + t * d, fy_out(l, MOE_T_S)[p], dO, d);
    }
}

/* The gate g = sigmoid(z): dz = dg g (1 - g), dw = sum dz x, dx += dz w. */
static void shared_gate_backward(const fy_layer *l) {
    const int64_t d = l->desc.d;
    const float *w = fy_param(l, MOE_T_W_GATE_SHARED);
    float *dw = fy_out(l, MOE_T_DW_GATE_SHARED);
    memset(dw, 0, (size_t)d * sizeof *dw);
    for (int64_t t = 0; t < l->T; t++) {
        const float g = l->shared.gate[t];
        const float dz = l->shared.d_gate[t] * (FAULT(l, shared_gate_slope) ? g : g * (1 - g));
        add_row(dw, dz, l->X + t * d, d);
        if (!FAULT(l, dX_without_shared_gate))
            add_row(fy_out(l, MOE_T_DX) + t * d, dz, w, d);
    }
    fy_store(l, dw, d);
}

moe_status fy_combine_backward(fy_layer *l) {
    const int64_t d = l->desc.d;
    for (int64_t t = 0; t < l->T; t++) {
        float *dx = fy_out(l, MOE_T_DX) + t * d;
        if (!FAULT(l, dX_adds_up) || l->backwards == 1)
            memset(dx, 0, (size_t)d * sizeof *dx);
        gather_dX(l, t, dx);
    }
    zero_experts_backward(l);
    if (fy_param(l, MOE_T_W_GATE_SHARED))
        shared_gate_backward(l);
    moe_status status = l->given ? MOE_OK : fy_route_backward(l);
    fy_store(l, fy_out(l, MOE_T_DX), l->T * d);
    return status;
}
