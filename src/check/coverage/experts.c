/* Elements inside the experts, and of what comes out of them, that a feature decides. */
#include "check/coverage/coverage.h"
#include "layer/traits.h"

#include <math.h>

static int64_t pairs_of(const moe_int_view *v) {
    return v->plan->offsets[v->desc->E];
}

int64_t moe_int_count_act(const moe_int_view *v, int64_t act) {
    return v->desc->act == act ? pairs_of(v) * v->desc->n : 0;
}

/* Calls `is` for the gate (or only) and, where up, the up columns of H. */
typedef bool (*test_fn)(const moe_int_view *v, double h, int64_t arg);

static int64_t count_h(const moe_int_view *v, int up, test_fn is, int64_t arg) {
    const double *h = v->out->t[MOE_T_H].data;
    const int64_t n = v->desc->n, hw = moe_h_width(v->desc, n);
    int64_t count = 0;
    for (int64_t p = 0; h && p < pairs_of(v); p++)
        for (int64_t j = 0; j < n; j++)
            count += is(v, h[p * hw + moe_h_column(v->desc->glu_layout, n, hw, j, up)], arg);
    return count;
}

static bool has_sign(const moe_int_view *v, double h, int64_t sign) {
    (void)v;
    return (h > 0) - (h < 0) == sign && !isnan(h);
}

int64_t moe_int_count_relu(const moe_int_view *v, int64_t sign) {
    const int32_t act = v->desc->act;
    if (act != MOE_ACT_RELU && act != MOE_ACT_RELU2 && act != MOE_ACT_REGLU)
        return 0;
    /* beside 0 a kernel may stand on the other side, so only an exact one counts */
    return sign == 0 && !v->exact_h ? 0 : count_h(v, 0, has_sign, sign);
}

static bool is_exact(const moe_int_view *v, double h) {
    return v->exact_h && moe_round_to(h, v->arithmetic) == h;
}

static bool is_on_side(const moe_int_view *v, double h, int64_t side) {
    const double limit = v->desc->act_limit;
    switch ((moe_int_clamp_side)side) {
    case MOE_INT_GATE_ABOVE:
    case MOE_INT_UP_ABOVE:
        return moe_int_differs(fmax(h, limit), limit);
    case MOE_INT_GATE_BELOW:
    case MOE_INT_UP_BELOW:
        return moe_int_differs(fmin(h, -limit), -limit);
    case MOE_INT_GATE_ON:
    case MOE_INT_UP_ON_HIGH:
        return is_exact(v, limit) && h == limit;
    case MOE_INT_UP_ON_LOW:
        return is_exact(v, limit) && h == -limit;
    }
    return false;
}

int64_t moe_int_count_clamp(const moe_int_view *v, int64_t side) {
    const bool gate =
        side == MOE_INT_GATE_ABOVE || side == MOE_INT_GATE_BELOW || side == MOE_INT_GATE_ON;
    return v->desc->act == MOE_ACT_SWIGLU_CLAMP ? count_h(v, !gate, is_on_side, side) : 0;
}

/* gelu by erf, and its usual approximation by tanh. */
static bool gelus_differ(const moe_int_view *v, double h, int64_t arg) {
    (void)v;
    (void)arg;
    double by_erf = 0.5 * h * (1 + erf(h * M_SQRT1_2));
    double by_tanh = 0.5 * h * (1 + tanh(0.5 * M_2_SQRTPI * M_SQRT2 * (h + 0.044715 * h * h * h)));
    return moe_int_differs(by_erf, by_tanh);
}

int64_t moe_int_count_gelu_erf(const moe_int_view *v, int64_t arg) {
    const bool gelu = v->desc->act == MOE_ACT_GELU || v->desc->act == MOE_ACT_GEGLU;
    return gelu ? count_h(v, 0, gelus_differ, arg) : 0;
}

/* Elements of H that lie elsewhere in the other layout. */
int64_t moe_int_count_interleaved(const moe_int_view *v, int64_t arg) {
    (void)arg;
    const int64_t n = v->desc->n, hw = moe_h_width(v->desc, n);
    int64_t moved = 0;
    if (v->desc->glu_layout != MOE_GLU_INTERLEAVED)
        return 0;
    for (int64_t j = 0; j < n; j++)
        for (int up = 0; hw > n && up < 2; up++)
            moved += moe_h_column(MOE_GLU_INTERLEAVED, n, hw, j, up) !=
                     moe_h_column(MOE_GLU_CONCAT, n, hw, j, up);
    return moved * pairs_of(v);
}

/* Elements that b1 or b2 is added to and changes. */
int64_t moe_int_count_bias(const moe_int_view *v, int64_t id) {
    const moe_tensor *b = &v->in->t[id];
    int64_t count = 0;
    if (!b->data)
        return 0;
    for (int64_t e = 0; e < v->desc->E; e++)
        for (int64_t j = 0; j < b->shape[1]; j++)
            if (moe_load(b->data, b->dtype, (size_t)(e * b->shape[1] + j)) != 0)
                count += v->plan->offsets[e + 1] - v->plan->offsets[e];
    return count;
}

int64_t moe_int_count_shared(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->desc->n_shared ? v->T : 0;
}

int64_t moe_int_count_shared_gate(const moe_int_view *v, int64_t arg) {
    (void)arg;
    const moe_tensor *x = &v->in->t[MOE_T_X], *w = &v->in->t[MOE_T_W_GATE_SHARED];
    int64_t tokens = 0, d = v->desc->d;
    for (int64_t t = 0; w->data && t < v->T; t++) {
        double z = 0;
        for (int64_t i = 0; i < d; i++)
            z += moe_load(x->data, x->dtype, (size_t)(t * d + i)) *
                 moe_load(w->data, w->dtype, (size_t)i);
        tokens += moe_int_differs(1 / (1 + exp(-z)), 1);
    }
    return tokens;
}

/* Elements of O that an injected NaN or infinity reaches. */
int64_t moe_int_count_not_finite(const moe_int_view *v, int64_t inject) {
    const moe_tensor *o = &v->out->t[MOE_T_O];
    int64_t count = 0;
    for (int64_t i = 0; v->c && v->c->inject == inject && i < moe_tensor_count(o); i++)
        count += !isfinite(moe_load(o->data, o->dtype, (size_t)i));
    return count;
}

#define OUTLIER 8 /* standard deviations, which normal data does not reach (moeref/rng.h) */

int64_t moe_int_count_outliers(const moe_int_view *v, int64_t arg) {
    (void)arg;
    const moe_tensor *x = &v->in->t[MOE_T_X];
    int64_t count = 0;
    if (!v->c || v->c->data != MOE_FILL_OUTLIER)
        return 0;
    for (int64_t i = 0; i < moe_tensor_count(x); i++)
        count += fabs(moe_load(x->data, x->dtype, (size_t)i)) > OUTLIER * v->c->x_scale;
    return count;
}

int64_t moe_int_count_exact(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->exact ? v->T * v->desc->d : 0;
}

int64_t moe_int_count_forward_only(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->out->t[MOE_T_DX].data ? 0 : v->T * v->desc->d;
}
