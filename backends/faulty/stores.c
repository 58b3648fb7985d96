/* What is wrong with results that were right until they were stored or handed out. */
#include "faulty.h"

#include <math.h>
#include <string.h>

enum { ONE_TOKEN = 17, ONE_EXPERT = 3, TILE = 16 };

static int64_t count_of(const fy_layer *l, moe_tensor_id id) {
    return l->out.t[id].data ? moe_tensor_count(&l->out.t[id]) : 0;
}

static void scale(const fy_layer *l, moe_tensor_id id, int64_t first, int64_t count, float by) {
    const int64_t all = count_of(l, id);
    float *v = fy_out(l, id);
    for (int64_t i = first; v && i < first + count && i < all; i++)
        v[i] *= by;
    if (v && count > 0)
        fy_store(l, v, all);
}

static void scale_all(const fy_layer *l, moe_tensor_id id, float by) {
    scale(l, id, 0, count_of(l, id), by);
}

/* What "swallowed" makes of it: a clamp or a maximum that loses NaN, an infinity that saturates. */
static void swallow(const fy_layer *l, moe_tensor_id id, bool infinities) {
    const int64_t all = count_of(l, id);
    float *v = fy_out(l, id);
    for (int64_t i = 0; i < all; i++)
        if (infinities ? isinf(v[i]) : isnan(v[i]))
            v[i] = infinities ? copysignf(65504, v[i]) : 0;
}

/* Elements of expert e in a tensor of E equal parts. */
static int64_t part_of(const fy_layer *l, moe_tensor_id id) {
    return count_of(l, id) / l->desc.E;
}

static void spoil_tokens(fy_layer *l, float *o) {
    const int64_t d = l->desc.d;
    for (int64_t t = 0; t < l->T; t++) {
        const bool gone = (FAULT(l, tokens_128_zero) && t >= l->T / 4 && t < l->T / 4 + 128) ||
                          (FAULT(l, every_64th_token_zero) && t % 64 == 63) ||
                          (FAULT(l, last_token_zero) && t == l->T - 1);
        if (gone)
            memset(o + t * d, 0, (size_t)d * sizeof *o);
        if (FAULT(l, token_cycle))
            scale(l, MOE_T_O, t * d, d, 1 + 0.1f * (float)(t % 3));
        if (FAULT(l, odd_tokens_halved) && t % 2)
            scale(l, MOE_T_O, t * d, d, 0.5f);
    }
    if (FAULT(l, tokens_shifted))
        memmove(o, o + d, (size_t)((l->T - 1) * d) * sizeof *o);
    if (FAULT(l, two_tokens_swapped) && l->T > ONE_TOKEN + 1)
        for (int64_t i = 0; i < d; i++) {
            const float keep = o[ONE_TOKEN * d + i];
            o[ONE_TOKEN * d + i] = o[(ONE_TOKEN + 1) * d + i];
            o[(ONE_TOKEN + 1) * d + i] = keep;
        }
}

/* Element i: a value one step of the precision away. */
static void nudge(const fy_layer *l, moe_tensor_id id, int64_t i) {
    float *v = fy_out(l, id) + i;
    if (i >= count_of(l, id))
        return;
    *v *= 1 + 2 * (float)moe_dtype_roundoff(l->dev->precision) + 1.2e-7f;
    fy_store(l, v, 1);
}

static void spoil_runs(fy_layer *l) {
    const int64_t d = l->desc.d;
    if (FAULT(l, wrong_second_run) && l->forwards == 2)
        scale(l, MOE_T_O, 0, d, 2);
    if (FAULT(l, wrong_third_run) && l->forwards >= 3)
        scale(l, MOE_T_O, 0, d, 2);
    if (FAULT(l, nondeterministic_bit) && l->forwards % 2 == 0)
        nudge(l, MOE_T_O, 5);
    if (FAULT(l, nondeterministic_third) && l->forwards % 3 == 2)
        nudge(l, MOE_T_O, d + 1);
}

void fy_spoil_forward(fy_layer *l) {
    const int64_t d = l->desc.d;
    float *o = fy_out(l, MOE_T_O);
    if (FAULT(l, O_zero))
        memset(o, 0, (size_t)(l->T * d) * sizeof *o);
    if (FAULT(l, O_scaled))
        scale_all(l, MOE_T_O, 1.03f);
    if (FAULT(l, O_doubled))
        scale_all(l, MOE_T_O, 2);
    if (FAULT(l, O_negative))
        scale_all(l, MOE_T_O, -1);
    if (FAULT(l, O_token_doubled))
        scale(l, MOE_T_O, ONE_TOKEN * d, d, 2);
    if (FAULT(l, O_element_sign))
        scale(l, MOE_T_O, 2 * d + 5, 1, -1);
    for (int64_t t = 0; FAULT(l, O_block_zero) && t < l->T; t++)
        scale(l, MOE_T_O, t * d + TILE, TILE, 0);
    for (int64_t t = 0; FAULT(l, O_columns_shifted) && t < l->T; t++)
        memmove(o + t * d, o + t * d + 1, (size_t)(d - 1) * sizeof *o);
    if (FAULT(l, O_nan_swallowed) || FAULT(l, O_inf_swallowed))
        swallow(l, MOE_T_O, FAULT(l, O_inf_swallowed));
    spoil_tokens(l, o);
    spoil_runs(l);
}

/* Part `to` of a gradient becomes part `from` of it. */
static void copy_part(const fy_layer *l, moe_tensor_id id, int64_t to, int64_t from) {
    const int64_t part = part_of(l, id);
    float *v = fy_out(l, id);
    if (to >= l->desc.E)
        return;
    memcpy(v + to * part, v + from * part, (size_t)part * sizeof *v);
}

static void swap_parts(const fy_layer *l, moe_tensor_id id, int64_t a, int64_t b) {
    const int64_t part = part_of(l, id);
    float *v = fy_out(l, id);
    if (b >= l->desc.E)
        return;
    for (int64_t i = 0; i < part; i++) {
        const float keep = v[a * part + i];
        v[a * part + i] = v[b * part + i];
        v[b * part + i] = keep;
    }
}

static void spoil_weight_gradients(fy_layer *l) {
    const int64_t d = l->desc.d;
    if (FAULT(l, dW1_of_another))
        copy_part(l, MOE_T_DW1, ONE_EXPERT, 0);
    if (FAULT(l, dW2_of_another))
        copy_part(l, MOE_T_DW2, ONE_EXPERT, 0);
    if (FAULT(l, dW1_swapped))
        swap_parts(l, MOE_T_DW1, 2, 3);
    if (FAULT(l, dW1_doubled))
        scale_all(l, MOE_T_DW1, 2);
    if (FAULT(l, dW1_mean))
        scale_all(l, MOE_T_DW1, 1 / (float)l->T);
    if (FAULT(l, dW2_mean))
        scale_all(l, MOE_T_DW2, 1 / (float)l->T);
    if (FAULT(l, dW2_expert_doubled))
        scale(l, MOE_T_DW2, ONE_EXPERT * part_of(l, MOE_T_DW2), part_of(l, MOE_T_DW2), 2);
    if (FAULT(l, dW1_element_sign))
        scale(l, MOE_T_DW1, 2 * part_of(l, MOE_T_DW1) + d + 1, 1, -1);
    if (FAULT(l, dW1_block_zero))
        scale(l, MOE_T_DW1, TILE * d, TILE * d, 0);
    if (FAULT(l, dW1_last_expert_zero))
        scale(l, MOE_T_DW1, (l->desc.E - 1) * part_of(l, MOE_T_DW1), part_of(l, MOE_T_DW1), 0);
    if (FAULT(l, dW_shared_zero))
        scale_all(l, MOE_T_DW1_SHARED, 0);
    if (FAULT(l, dW2_shared_doubled))
        scale_all(l, MOE_T_DW2_SHARED, 2);
    if (FAULT(l, dW_r_doubled))
        scale_all(l, MOE_T_DW_R, 2);
    if (FAULT(l, dW_r_row_zero))
        scale(l, MOE_T_DW_R, d, d, 0);
    if (FAULT(l, dW1_nan_swallowed) || FAULT(l, dW1_inf_swallowed))
        swallow(l, MOE_T_DW1, FAULT(l, dW1_inf_swallowed));
    if (FAULT(l, dW2_nan_swallowed))
        swallow(l, MOE_T_DW2, false);
}

static void centre_dS(const fy_layer *l) {
    const moe_plan *plan = fy_plan(l);
    float *dS = fy_out(l, MOE_T_DS);
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        float sum = 0;
        for (int64_t j = plan->token_offsets[t]; j < plan->token_offsets[t + 1]; j++)
            sum += fy_out(l, MOE_T_S)[plan->pair_of_token[j]] * dS[plan->pair_of_token[j]];
        for (int64_t j = plan->token_offsets[t]; j < plan->token_offsets[t + 1]; j++)
            dS[plan->pair_of_token[j]] -= sum;
    }
}

void fy_spoil_backward(fy_layer *l) {
    const int64_t d = l->desc.d;
    float *dx = fy_out(l, MOE_T_DX);
    spoil_weight_gradients(l);
    if (FAULT(l, dX_zero))
        scale_all(l, MOE_T_DX, 0);
    if (FAULT(l, dX_halved))
        scale_all(l, MOE_T_DX, 0.5f);
    if (FAULT(l, dX_token_doubled))
        scale(l, MOE_T_DX, ONE_TOKEN * d, d, 2);
    if (FAULT(l, dX_shifted))
        memmove(dx, dx + d, (size_t)((l->T - 1) * d) * sizeof *dx);
    if (FAULT(l, dX_nan_swallowed))
        swallow(l, MOE_T_DX, false);
    if (FAULT(l, dS_nan_swallowed))
        swallow(l, MOE_T_DS, false);
    if (FAULT(l, dS_centred))
        centre_dS(l);
    if (FAULT(l, dS_doubled))
        scale_all(l, MOE_T_DS, 2);
    if (FAULT(l, dX_wrong_third_run) && l->backwards >= 3)
        scale(l, MOE_T_DX, 0, d, 2);
    if (FAULT(l, dW1_nondeterministic) && l->backwards % 2 == 0)
        nudge(l, MOE_T_DW1, 5);
}

/* ---- fetch ---- */

/* Is this tensor rounded to bf16 on its way out? */
static bool told_in_bf16(const fy_layer *l, moe_tensor_id id) {
    return (FAULT(l, weights_told_bf16) && id == MOE_T_S) ||
           (FAULT(l, logits_told_bf16) && id == MOE_T_LOGITS) ||
           (FAULT(l, dS_told_bf16) && id == MOE_T_DS);
}

/* Elements at the end that are never written. */
static int64_t unwritten(const fy_layer *l, moe_tensor_id id) {
    const bool last_three = (FAULT(l, unwritten_O) && id == MOE_T_O) ||
                            (FAULT(l, unwritten_dX) && id == MOE_T_DX) ||
                            (FAULT(l, unwritten_H) && id == MOE_T_H);
    return last_three ? 3 : FAULT(l, unwritten_dW1) && id == MOE_T_DW1 ? part_of(l, id) : 0;
}

/* Writes outside of dst, by one element. */
static void misplace(const fy_layer *l, moe_tensor_id id, moe_tensor *dst) {
    const int64_t count = moe_tensor_count(dst);
    if ((FAULT(l, overrun_O) && id == MOE_T_O) || (FAULT(l, overrun_dW1) && id == MOE_T_DW1) ||
        (FAULT(l, overrun_H) && id == MOE_T_H) || (FAULT(l, overrun_A) && id == MOE_T_A) ||
        (FAULT(l, overrun_Y) && id == MOE_T_Y) || (FAULT(l, overrun_dXp) && id == MOE_T_DXP))
        moe_store(dst->data, dst->dtype, (size_t)count, 1);
    if ((FAULT(l, underrun_dX) && id == MOE_T_DX) || (FAULT(l, underrun_dH) && id == MOE_T_DH))
        moe_store((char *)dst->data - moe_dtype_size(dst->dtype), dst->dtype, 0, 1);
}

moe_status fy_fetch(void *self, moe_tensor_id id, moe_tensor *dst) {
    fy_layer *l = self;
    const float *kept = fy_out(l, id);
    if (!kept)
        return MOE_E_UNSUPPORTED;
    int64_t count = moe_tensor_count(dst);
    if (count > count_of(l, id)) /* of an earlier plan */
        count = count_of(l, id);
    count -= unwritten(l, id);
    moe_convert(dst->data, dst->dtype, kept, MOE_F32, count > 0 ? (size_t)count : 0);
    for (int64_t i = 0; told_in_bf16(l, id) && i < count; i++)
        moe_store(dst->data, dst->dtype, (size_t)i, fy_bf16(kept[i]));
    misplace(l, id, dst);
    return MOE_OK;
}

/* ---- the plan that is told ---- */

static bool tells_wrong(const fy_layer *l) {
    return FAULT(l, id_out_of_range) || FAULT(l, id_minus_one) || FAULT(l, id_twice) ||
           FAULT(l, ids_unsorted) || FAULT(l, offsets_backwards) || FAULT(l, inverse_wrong) ||
           FAULT(l, other_choice_told);
}

static void spoil_plan(const fy_layer *l, moe_plan *plan) {
    if (plan->n_pairs < 2 || plan->n_experts < 2)
        return;
    if (FAULT(l, id_out_of_range))
        plan->token[0] = (int32_t)plan->n_tokens;
    if (FAULT(l, id_minus_one))
        plan->token[0] = -1;
    if (FAULT(l, id_twice))
        plan->token[1] = plan->token[0];
    if (FAULT(l, ids_unsorted)) {
        const int32_t keep = plan->token[0];
        plan->token[0] = plan->token[1];
        plan->token[1] = keep;
    }
    if (FAULT(l, offsets_backwards))
        plan->offsets[1] = plan->offsets[2] + 1;
    if (FAULT(l, inverse_wrong))
        plan->pair_of_token[0] = plan->pair_of_token[1];
}

/* The first pair of expert 1 is told to be one of expert 0, which did not take that token. */
static moe_status tell_other_choice(fy_layer *l) {
    const moe_plan *plan = l->own;
    const int64_t first = plan->offsets[1];
    moe_status status = moe_plan_copy(plan, &l->told);
    if (first >= plan->n_pairs)
        return status;
    for (int64_t p = 0; !status && p < first; p++)
        if (plan->token[p] == plan->token[first])
            return MOE_OK; /* it took it as well */
    if (!status)
        l->told->offsets[1]++;
    return status;
}

moe_status fy_routing(void *self, const moe_plan **ret) {
    fy_layer *l = self;
    if (!tells_wrong(l)) {
        *ret = l->own;
        return MOE_OK;
    }
    moe_plan_destroy(&l->told);
    moe_status status =
        FAULT(l, other_choice_told) ? tell_other_choice(l) : moe_plan_copy(l->own, &l->told);
    if (status)
        return status;
    spoil_plan(l, l->told);
    *ret = l->told;
    return MOE_OK;
}
