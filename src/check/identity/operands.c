/* Views of the matrices that a product of one expert has. */
#include "check/identity/operands.h"

/* Pairs of expert e as rows of X or dO, weighed or not. */
static moe_int_view gathered(const moe_int_identities_of *k, moe_tensor_id id, int64_t e,
                             bool weighed) {
    int64_t first = k->plan->offsets[e];
    return (moe_int_view){.t = id == MOE_T_COUNT ? NULL : &k->subject->problem->in.t[id],
                          .rows = k->plan->offsets[e + 1] - first,
                          .width = id == MOE_T_COUNT ? 1 : k->desc->d,
                          .row = k->plan->token + first,
                          .scale = weighed ? k->weight + first : NULL};
}

static moe_int_view stage_of(const moe_int_identities_of *k, moe_tensor_id id, int64_t e) {
    const moe_tensor *t = &k->stage.t[id];
    return (moe_int_view){.t = t,
                          .first = k->plan->offsets[e],
                          .rows = k->plan->offsets[e + 1] - k->plan->offsets[e],
                          .width = t->shape[1]};
}

/* Expert e's slice of a parameter or of its gradient: rows x width. */
static moe_int_view slice_of(const moe_tensor *t, int64_t e) {
    bool vector = t->ndim == 2;
    int64_t rows = t->shape[1];
    return (moe_int_view){
        .t = t, .first = e * rows, .rows = rows, .width = vector ? 1 : t->shape[2]};
}

static moe_int_view by_column(moe_int_view v) {
    v.by_column = true;
    return v;
}

/* How often a product may have an operand otherwise than it was stored at `point`: in 16 bits a
 * fused kernel, or one of few rows, reads it before it is rounded. In fp32 storing rounds nothing.
 */
static double read_early(const moe_int_identities_of *k, moe_point point) {
    const moe_dtype type = k->subject->arithmetic;
    return type == MOE_BF16 || type == MOE_F16 ? moe_int_at(&k->rounding, point, 1) : 0;
}

moe_int_product moe_int_product_of(const moe_int_identities_of *k, moe_tensor_id id, int64_t e,
                                   bool on_left) {
    const moe_tensor *in = k->subject->problem->in.t;
    bool on_input = k->desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    moe_int_product p = {.rounded = on_input ? 1 : 0};
    const bool bias = k->desc->expert_bias;
    switch ((int)id) {
    case MOE_T_H:
        p.out = stage_of(k, id, e);
        p.left = gathered(k, MOE_T_X, e, on_input);
        p.right = slice_of(&in[MOE_T_W1], e);
        p.bias = bias ? &in[MOE_T_B1] : NULL;
        break;
    case MOE_T_Y:
        p.rounded = read_early(k, MOE_POINT_A);
        p.out = stage_of(k, id, e);
        p.left = stage_of(k, MOE_T_A, e);
        p.right = slice_of(&in[MOE_T_W2], e);
        p.bias = bias ? &in[MOE_T_B2] : NULL;
        break;
    case MOE_T_DXP:
        p.rounded = read_early(k, MOE_POINT_DH);
        p.out = stage_of(k, id, e);
        p.left = stage_of(k, MOE_T_DH, e);
        p.right = by_column(slice_of(&in[MOE_T_W1], e));
        break;
    case MOE_T_DW1:
    case MOE_T_DB1: /* may add dH before it is stored */
        p.out = slice_of(&k->stage.t[id], e);
        p.left = by_column(stage_of(k, MOE_T_DH, e));
        p.right = by_column(
            gathered(k, id == MOE_T_DW1 ? MOE_T_X : MOE_T_COUNT, e, on_input && id == MOE_T_DW1));
        p.rounded = on_input || id == MOE_T_DB1 ? 1 : 0;
        break;
    case MOE_T_DW2: /* s*A from an A that was not stored yet, or s*dO: two roundings */
        p.out = slice_of(&k->stage.t[id], e);
        p.left = by_column(gathered(k, MOE_T_DO, e, on_left && !on_input));
        p.right = by_column(stage_of(k, MOE_T_A, e));
        p.right.may_vanish = true;
        p.right.scale = on_left || on_input ? NULL : k->weight + k->plan->offsets[e];
        p.rounded = 2;
        break;
    default: /* db2 */
        p.out = slice_of(&k->stage.t[id], e);
        p.left = by_column(gathered(k, MOE_T_DO, e, !on_input));
        p.right = by_column(gathered(k, MOE_T_COUNT, e, false));
        p.rounded = 1;
        break;
    }
    p.I = p.out.rows;
    p.J = p.out.width;
    p.K = p.left.by_column ? p.left.rows : p.left.width;
    p.bias_first = e * p.J;
    return p;
}
