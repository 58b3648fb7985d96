/* Another reading is refuted where the first one failed worst, at a small part of its cost: a few
 * tokens and one hidden unit. */
#include "check/trial.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"
#include "layer/traits.h"
#include "reference/run.h"

#include <string.h>

/* Refuted is what is this many times beyond the gate of z. A row's errors are those of the whole
 * truth, a unit's nearly: the weights' part of them is bounded there (units.c). */
#define BEYOND 2
enum { MOST_TOKENS = 8 };

static bool shows(const moe_tensor_verdict *v) {
    return v->verdict == MOE_VERDICT_FAIL && v->worst_ndim > 0 && v->bad_elements == 0;
}

/* The token of the worst element of a tensor of rows; -1: it is none. */
static int64_t token_of(const moe_int_trial *b, moe_tensor_id id, const moe_tensor_verdict *v) {
    const moe_plan *plan = b->routing.plan;
    const int64_t row = v->worst_index[0];
    switch (moe_int_layout_of(id, &b->subject->got.t[id]).by) {
    case MOE_INT_BY_TOKEN:
        return row < plan->n_tokens ? row : -1;
    case MOE_INT_BY_PAIR:
        return row < plan->n_pairs ? plan->token[row] : -1;
    case MOE_INT_BY_EXPERT:
    case MOE_INT_WHOLE:
        break;
    }
    return -1;
}

/* Expert and hidden unit of the worst element of a weight's gradient; false: it has none. */
static bool unit_of(const moe_int_trial *b, moe_tensor_id id, const moe_tensor_verdict *v,
                    int64_t *ret_e, int64_t *ret_unit) {
    const moe_layer_desc *desc = &b->subject->problem->layer;
    const bool shared = id == MOE_T_DW1_SHARED || id == MOE_T_DW2_SHARED;
    const bool w2 = id == MOE_T_DW2 || id == MOE_T_DW2_SHARED;
    const int64_t n = shared ? desc->n_shared : desc->n;
    if (!moe_int_is_expert_gradient(id) || id == MOE_T_DB2)
        return false;
    const int64_t at = v->worst_index[(shared ? 0 : 1) + w2];
    const bool apart = shared || desc->glu_layout == MOE_GLU_CONCAT || moe_h_width(desc, n) == n;
    *ret_e = shared ? -1 : v->worst_index[0];
    *ret_unit = w2 ? at : apart ? at % n : at / 2;
    return true;
}

/* The worst tokens of the first reading, and a unit. */
static moe_int_places worst_places(const moe_int_trial *b) {
    moe_int_places places = {.n_tokens = 0};
    for (size_t i = 0; i < moe_int_order_count; i++) {
        const moe_tensor_id id = moe_int_order[i];
        const moe_tensor_verdict *v = moe_int_result_find(b->first->result, moe_tensor_name(id));
        int64_t e, unit;
        if (!v || !shows(v) || !b->subject->got.t[id].data)
            continue;
        const int64_t token = token_of(b, id, v);
        if (token >= 0 && places.n_tokens < MOST_TOKENS)
            moe_int_places_add_token(&places, token);
        if (places.n_units == 0 && unit_of(b, id, v, &e, &unit))
            moe_int_places_add_unit(&places, e, unit);
    }
    return places;
}

static bool fails_at(moe_int_trial *k, moe_tensor_id id) {
    const moe_tensor *got = &k->subject->got.t[id];
    if (!got->data || k->truth.part[id].layout.groups == 0)
        return false;
    moe_int_judge_tensor(k, id, got, false);
    const moe_tensor_verdict *v = moe_int_result_find(k->result, moe_tensor_name(id));
    return v && v->gate.max_z > 0 && v->max_z > BEYOND * v->gate.max_z;
}

moe_status moe_int_refute(const moe_int_trial *b, const moe_check_params *params, bool *ret) {
    const moe_check_result before = *b->result;
    moe_int_trial k = *b;
    *ret = false;
    if (!b->first || !(b->subject->plan || b->subject->problem->plan)) /* a guess may be right */
        return MOE_OK;
    const moe_int_rounding rounding = moe_int_rounding_at(b->reading.arithmetic, b->reading.points);
    const moe_int_places places = worst_places(b);
    moe_status status =
        moe_int_truth_at(b->subject->problem, &b->routing, &rounding, &places,
                         moe_int_thread_count(params->threads), NULL, b->log, &k.truth);
    for (size_t i = 0; !status && !*ret && i < moe_int_order_count; i++)
        *ret = fails_at(&k, moe_int_order[i]);
    moe_int_result_restore(b->result, &before);
    moe_int_truth_destroy(&k.truth);
    return status;
}
