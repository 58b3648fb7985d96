/* Derivatives that jump. relu and the clamp of swiglu_clamp have corners: where a pre-activation
 * lies on one within rounding, a correct kernel may take either side, and one element of dH is
 * wholly different. Such elements and what they decide are left out of the comparison and counted.
 *
 * The bound is that of a dot product added in fp32, 8 u sqrt((1 + d/2) sum (x w)^2) (margin.c),
 * plus the rounding of a stored H at the corner. The shared expert's H is not kept, so it is not
 * masked. */
#include "check/check_int.h"

#include <stdlib.h>

bool moe_int_has_corners(const moe_layer_desc *desc) {
    return desc->act == MOE_ACT_RELU || desc->act == MOE_ACT_REGLU ||
           desc->act == MOE_ACT_SWIGLU_CLAMP;
}

/* Distance of h from the nearest corner of its column, and that corner's size. */
static double corner_distance(const moe_layer_desc *desc, int up, double h, double *size) {
    *size = 0;
    if (desc->act != MOE_ACT_SWIGLU_CLAMP)
        return up ? INFINITY : fabs(h);
    *size = desc->act_limit;
    return up ? fabs(fabs(h) - desc->act_limit) : fabs(h - desc->act_limit);
}

static double product_squares(const double *x, const double *w, int64_t d) {
    double sum = 0;
    for (int64_t i = 0; i < d; i++)
        sum += x[i] * w[i] * x[i] * w[i];
    return sum;
}

double moe_int_norm(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

bool moe_int_near_corner(const moe_layer_desc *desc, int up, double h, const double *x,
                         const double *w, double norms, moe_dtype arithmetic) {
    double size, distance = corner_distance(desc, up, h, &size);
    double factor = 8 * moe_dtype_roundoff(arithmetic == MOE_F64 ? MOE_F64 : MOE_F32) *
                    sqrt(1 + (double)desc->d / 2);
    double stored =
        arithmetic == MOE_BF16 || arithmetic == MOE_F16 ? moe_dtype_roundoff(arithmetic) * size : 0;
    /* sum (x w)^2 <= |x|^2 |w|^2 is coarse and spares nearly all of the exact sums */
    if (!(distance <= factor * norms + stored))
        return false;
    return distance <= factor * sqrt(product_squares(x, w, desc->d)) + stored;
}

static void blank(moe_tensor *t, int64_t first, int64_t count) {
    for (int64_t i = 0; t->data && i < count; i++)
        ((double *)t->data)[first + i] = NAN;
}

/* Column `col` of pair row p of expert e: what its derivative decides. */
static void blank_element(const moe_layer_desc *desc, const moe_plan *plan, int64_t e, int64_t p,
                          int64_t col, moe_tensors *out) {
    int64_t d = desc->d, hw = moe_h_width(desc, desc->n);
    blank(&out->t[MOE_T_DH], p * hw + col, 1);
    blank(&out->t[MOE_T_DXP], p * d, d);
    blank(&out->t[MOE_T_DX], plan->token[p] * d, d);
    blank(&out->t[MOE_T_DW1], (e * hw + col) * d, d);
    blank(&out->t[MOE_T_DB1], e * hw + col, 1);
}

static int is_up(const moe_layer_desc *desc, int64_t col) {
    if (!moe_act_is_gated(desc->act))
        return 0;
    return desc->glu_layout == MOE_GLU_INTERLEAVED ? (int)(col % 2) : col >= desc->n;
}

/* An expert's up-projection in float64, with the norms of its rows. */
typedef struct expert_rows {
    const moe_layer_desc *desc;
    moe_dtype arithmetic;
    int64_t e, hw;
    double *w1, *norm, *x; /* [hw][d], [hw], [d] */
} expert_rows;

static void load_row(const moe_tensor *t, int64_t first, int64_t count, double scale, double *ret) {
    moe_convert(ret, MOE_F64, (const char *)t->data + (size_t)first * moe_dtype_size(t->dtype),
                t->dtype, (size_t)count);
    for (int64_t i = 0; scale != 1 && i < count; i++)
        ret[i] *= scale;
}

static void mask_pair(const expert_rows *k, const moe_plan *plan, int64_t p, moe_tensors *out) {
    int64_t d = k->desc->d;
    const double *h = (const double *)out->t[MOE_T_H].data + p * k->hw;
    double norm = moe_int_norm(k->x, d);
    for (int64_t col = 0; col < k->hw; col++)
        if (moe_int_near_corner(k->desc, is_up(k->desc, col), h[col], k->x, k->w1 + col * d,
                                norm * k->norm[col], k->arithmetic))
            blank_element(k->desc, plan, k->e, p, col, out);
}

static void mask_expert(expert_rows *k, const moe_tensors *in, const moe_plan *plan,
                        moe_tensors *out) {
    int64_t d = k->desc->d;
    bool on_input = k->desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    load_row(&in->t[MOE_T_W1], k->e * k->hw * d, k->hw * d, 1, k->w1);
    for (int64_t col = 0; col < k->hw; col++)
        k->norm[col] = moe_int_norm(k->w1 + col * d, d);
    for (int64_t p = plan->offsets[k->e]; p < plan->offsets[k->e + 1]; p++) {
        load_row(&in->t[MOE_T_X], plan->token[p] * d, d, on_input ? plan->weight[p] : 1, k->x);
        mask_pair(k, plan, p, out);
    }
}

moe_status moe_int_mask_corners(const moe_layer_desc *desc, const moe_tensors *in,
                                moe_dtype arithmetic, moe_reference_result *oracle) {
    if (!moe_int_has_corners(desc) || !oracle->out.t[MOE_T_DH].data)
        return MOE_OK;
    int64_t d = desc->d, hw = moe_h_width(desc, desc->n);
    expert_rows k = {desc, arithmetic, 0, hw, NULL, NULL, NULL};
    k.w1 = malloc((size_t)(hw * d) * sizeof *k.w1);
    k.norm = malloc((size_t)hw * sizeof *k.norm);
    k.x = malloc((size_t)d * sizeof *k.x);
    moe_status s = k.w1 && k.norm && k.x ? MOE_OK : MOE_E_NOMEM;
    for (; !s && k.e < desc->E; k.e++)
        if (oracle->plan->offsets[k.e] < oracle->plan->offsets[k.e + 1])
            mask_expert(&k, in, oracle->plan, &oracle->out);
    free(k.w1);
    free(k.norm);
    free(k.x);
    return s;
}
