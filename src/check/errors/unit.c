/* Errors of one hidden unit: through the activation, forward and backward. */
#include "check/errors/errors.h"
#include "layer/traits.h"
#include "reference/activation.h"

#include <float.h>
#include <math.h>
#include <string.h>

static double least_normal(moe_dtype dtype) {
    switch ((int)dtype) {
    case MOE_F64:
        return DBL_MIN;
    case MOE_F16:
        return 0x1p-14;
    default:
        return FLT_MIN;
    }
}

moe_int_rounding moe_int_rounding_of(moe_dtype arithmetic) {
    return moe_int_rounding_at(arithmetic, moe_recipe_find("moeref")->points);
}

moe_int_rounding moe_int_rounding_at(moe_dtype arithmetic, uint32_t points) {
    double u = moe_dtype_roundoff(arithmetic), least = least_normal(arithmetic);
    bool low = arithmetic == MOE_BF16 || arithmetic == MOE_F16;
    double fp32 = low ? moe_dtype_roundoff(MOE_F32) / u : 1;
    /* exp, a division and three products; bf16 and fp16 kernels evaluate and add in fp32 */
    const double eval = 5;
    return (moe_int_rounding){.arithmetic = arithmetic,
                              .u2 = u * u / 3,
                              .least2 = least * least,
                              .sum = 0.5 * fp32 * fp32,
                              .cut = low ? 0x1p-59 / (u * u / 3) : 0,
                              .eval = eval * fp32 * fp32,
                              .flushed2 =
                                  (low ? (double)FLT_MIN * FLT_MIN : least * least) / (u * u / 3),
                              .router = eval * fp32 * fp32,
                              .result_u2 = u * u / 3,
                              .result_least2 = least * least,
                              .points = low ? points : points | MOE_POINT_DS};
}

double moe_int_dot_errors(const moe_int_rounding *r, double terms, double squares, double sum) {
    const double size = fmin(fabs(sum), sqrt(squares)),
                 cosine = size > 0 ? size / sqrt(squares) : 0;
    const double drift = 2 * (1 + 4 * cosine) * terms * size;
    return moe_int_added(r, terms) * squares + r->cut * drift * drift;
}

double moe_int_at(const moe_int_rounding *r, moe_point point, double times) {
    return r->points & (uint32_t)point ? times : 0;
}

double moe_int_stored_at(const moe_int_rounding *r, moe_point point, double v) {
    return r->points & (uint32_t)point ? moe_int_stored(r, v) : 0;
}

double moe_int_stored_share(const moe_int_rounding *r, double scale, const double *v,
                            int64_t count) {
    double stored = 0, square = 0;
    for (int64_t i = 0; i < count; i++) {
        stored += moe_int_stored(r, scale * v[i]);
        square += scale * v[i] * scale * v[i];
    }
    return square >= DBL_MIN ? stored / square : 0; /* below that the ratio is none */
}

static bool clamps_up(const moe_layer_desc *desc) {
    return moe_int_acts[desc->act].clamps;
}

/* Where the gate column's clamp bends: Step-3.7 clamps silu(g), whose inverse Newton finds. */
static double gate_limit(const moe_layer_desc *desc) {
    double limit = desc->act_limit, g = limit > 1 ? limit : 1;
    if (desc->act != MOE_ACT_SWIGLU_LIMIT_AFTER)
        return limit;
    for (int step = 0; step < 60; step++) {
        double s = 1 / (1 + exp(-g));
        g -= (g * s - limit) / (s * (1 + g * (1 - s)));
    }
    return g;
}

static bool has_kink_at_0(const moe_layer_desc *desc) {
    return desc->act == MOE_ACT_RELU || desc->act == MOE_ACT_REGLU;
}

bool moe_int_has_kinks(const moe_layer_desc *desc) {
    return has_kink_at_0(desc) || clamps_up(desc);
}

/* Distance of h from the activation's nearest kink in its column, where the slope jumps; *size is
 * where the kink lies. relu has one at 0, the clamped ones at their limits. */
static double kink_distance(const moe_layer_desc *desc, int part, double h, double *size) {
    *size = clamps_up(desc) ? part ? desc->act_limit : gate_limit(desc) : 0;
    if (clamps_up(desc))
        return part ? fabs(fabs(h) - *size) : fabs(h - *size);
    return has_kink_at_0(desc) && part == 0 ? fabs(h) : INFINITY;
}

static void act_gradient(const moe_layer_desc *desc, const double *h, double da, double *ret) {
    moe_int_act_unit_f64(desc, h, da, ret);
}

/* The larger slope of dh[k] below low and above high, between which the kink lies. */
static double steeper_side(const moe_layer_desc *desc, const moe_int_unit *u, int k,
                           const double *low, const double *high, double below, double above) {
    double lower[2] = {low[0], low[1]}, higher[2] = {high[0], high[1]}, down[2], up[2];
    const double step = 1e-6 * (1 + fabs(u->h[k]));
    lower[k] -= step;
    higher[k] += step;
    act_gradient(desc, lower, u->da, down);
    act_gradient(desc, higher, u->da, up);
    return fmax(fabs(below - down[k]), fabs(up[k] - above)) / step;
}

/* Does no kernel have another h? */
static bool is_exact(const moe_int_rounding *r, double h) {
    return r->exact_h && moe_round_to(h, r->arithmetic) == h;
}

/* Can rounding carry column k of h across a kink? Six deviations of what h is before it is stored;
 * storing moves it by at most u|h| and keeps its sign. What dh[k] gains if it does, else 0;
 * *slope becomes that of dh[k] beside the kink, *beyond where h[k] is then. */
static double find_jump(const moe_layer_desc *desc, const moe_int_rounding *r, int k,
                        const moe_int_unit *u, double *slope, double *beyond) {
    if (is_exact(r, u->h[k]))
        return 0;
    double size, distance = kink_distance(desc, k, u->h[k], &size);
    double reach = 6 * sqrt(r->u2 * u->vh[k]) + moe_dtype_roundoff(r->arithmetic) * size;
    if (!(distance <= reach))
        return 0;
    double low[2] = {u->h[0], u->h[1]}, high[2] = {u->h[0], u->h[1]}, below[2], above[2];
    double across = distance + 1e-12 * (distance + size) + DBL_MIN; /* the least that is */
    low[k] -= across;
    high[k] += across;
    act_gradient(desc, low, u->da, below);
    act_gradient(desc, high, u->da, above);
    *slope = steeper_side(desc, u, k, low, high, below[k], above[k]);
    bool up = fabs(above[k] - u->dh[k]) > fabs(below[k] - u->dh[k]);
    *beyond = up ? high[k] : low[k];
    return (up ? above[k] : below[k]) - u->dh[k];
}

/* Beyond column k's kink: what the other column's error, `deviation` of it, makes of dh[k],
 * squared. On this side dh[k] may be flat, and tell nothing of it. */
static double error_beyond(const moe_layer_desc *desc, const moe_int_unit *u, int k, double beyond,
                           double deviation) {
    const int other = 1 - k;
    double low[2] = {u->h[0], u->h[1]}, high[2] = {u->h[0], u->h[1]}, down[2], up[2];
    if (u->parts == 1)
        return 0;
    low[k] = high[k] = beyond;
    low[other] -= 3 * deviation;
    high[other] += 3 * deviation;
    act_gradient(desc, low, u->da, down);
    act_gradient(desc, high, u->da, up);
    return (up[k] - down[k]) * (up[k] - down[k]) / 36;
}

/* How a and dh change with h[k]: secants over three deviations to each side, which see a bend or a
 * kink that rounding may reach. */
static void secants(const moe_layer_desc *desc, const moe_int_unit *u, int k, double deviation,
                    bool backward, double *ret_a, double *ret_dh) {
    double low[2] = {u->h[0], u->h[1]}, high[2] = {u->h[0], u->h[1]};
    double step = fmax(3 * deviation, 1e-6 * (1 + fabs(u->h[k]))), down[2] = {0}, up[2] = {0};
    low[k] -= step;
    high[k] += step;
    double below = moe_int_act_unit_f64(desc, low, u->da, down);
    double above = moe_int_act_unit_f64(desc, high, u->da, up);
    *ret_a = (above - below) / (2 * step);
    for (int i = 0; backward && i < u->parts; i++)
        ret_dh[i] = (up[i] - down[i]) / (2 * step);
}

/* A gated unit as phi(g) times `up`, which is what the clamp makes of the second column, plus 1. */
static double factor_of_up(const moe_layer_desc *desc, const moe_int_unit *u) {
    double limit = desc->act_limit;
    if (u->parts == 1)
        return 1;
    if (desc->act == MOE_ACT_SWIGLU_SOFTCAP)
        return limit * tanh(u->h[1] / limit);
    double up = clamps_up(desc) ? fmax(fmin(u->h[1], limit), -limit) : u->h[1];
    return desc->act == MOE_ACT_SWIGLU_CLAMP ? up + 1 : up;
}

/* The pointwise steps of a gated activation, where they are stored. One of a plain one: phi(g), and
 * in backward dphi. The clamped one, whose sigmoid s = sigmoid(alpha g) has no operator of its own,
 * has more: alpha g, s, g s, up + 1, and the same steps back, added up from dphi s and
 * dphi alpha g s (1 - s). */
static void inner_errors(const moe_layer_desc *desc, const moe_int_rounding *r, bool backward,
                         moe_int_unit *u) {
    double up = factor_of_up(desc, u), phi = up == 0 ? 0 : u->a / up, steps = 0, back = 0;
    double dphi = u->da * up, slope = dphi == 0 ? 0 : u->dh[0] / dphi;
    if (desc->act == MOE_ACT_SWIGLU_CLAMP) {
        double x = desc->act_alpha * fmin(u->h[0], desc->act_limit), s = 1 / (1 + exp(-x));
        double bend = x * (1 - s);
        steps = 2 + bend * bend;
        back = u->dh[0] == 0 ? 0 : s * s * (5 + 6 * bend * bend);
    }
    u->va += up * up * moe_int_stored(r, phi) + steps * u->a * u->a;
    if (!backward)
        return;
    u->vdh[0] += slope * slope * moe_int_stored(r, dphi) + back * dphi * dphi;
    if (u->dh[1] != 0)
        u->vdh[1] += u->da * u->da * moe_int_stored(r, phi) + steps * u->dh[1] * u->dh[1];
}

/* A sigmoid as 0.5 tanh(x/2) + 0.5, which many kernels use, errs absolutely, by an fp32 roundoff:
 * far below, where the sigmoid is as small as that, nothing of it is left. What that does to
 * a = g s(alpha g) up and its gradients is no more than rounding g up in fp32, and accepted. */
static void sigmoid_errors(const moe_layer_desc *desc, const moe_int_rounding *r, bool backward,
                           moe_int_unit *u) {
    bool clamped = desc->act == MOE_ACT_SWIGLU_CLAMP;
    if (!moe_int_acts[desc->act].sigmoid)
        return;
    double absolute = 2 * r->sum, alpha = clamped ? desc->act_alpha : 1;
    double gate = clamps_up(desc) ? fmin(u->h[0], gate_limit(desc)) : u->h[0],
           up = factor_of_up(desc, u);
    u->va += absolute * gate * gate * up * up;
    if (!backward)
        return;
    double slope = u->da * up * (1 + fabs(alpha * gate));
    u->vdh[0] += u->dh[0] == 0 ? 0 : absolute * slope * slope;
    u->vdh[1] += absolute * gate * gate * u->da * u->da;
}

/* Gate and up err independently but for a weight on the input: then a twofold product of theirs
 * moves by the sum of what each moves it, whose square has a mixed term too. `moves`: what the
 * weight does by way of part k. */
static double together(const moe_int_unit *u, double moves, int k, double *by_gate) {
    if (k == 0)
        *by_gate = moves;
    return k == 0 ? 0 : fmax(2 * *by_gate * moves * u->vscale, 0);
}

void moe_int_unit_errors(const moe_layer_desc *desc, const moe_int_rounding *r, bool backward,
                         moe_int_unit *u) {
    double slope[2] = {0}, dh[2] = {0};
    u->a = moe_int_act_unit_f64(desc, u->h, u->da, dh);
    u->vda += moe_int_flushed(r, u->da);
    /* phi(g) and its slope, x times what underflows, may lie below the normal numbers of fp32: a
     * kernel may keep those, or flush them to 0 (vectors of exp, GPUs with -ftz) */
    double up = factor_of_up(desc, u), size = 1 + fabs(u->h[0]);
    double lost = r->flushed2 * size * size, da2 = u->da * u->da;
    const double floors[2] = {up * up * da2 * lost, da2 * lost};
    u->va = u->a == 0 ? 0 : fmax(r->eval * u->a * u->a, up * up * lost);
    if (backward) {
        act_gradient(desc, u->h, 1, slope);
        memcpy(u->dh, dh, sizeof dh);
        for (int i = 0; i < 2 && i < u->parts; i++)
            u->vdh[i] = slope[i] * slope[i] * u->vda +
                        (u->dh[i] == 0 ? 0 : fmax(r->eval * u->dh[i] * u->dh[i], floors[i])) +
                        moe_int_flushed(r, u->dh[i]);
    }
    sigmoid_errors(desc, r, backward, u);
    if (u->parts == 2 && moe_int_at(r, MOE_POINT_INNER, 1) > 0)
        inner_errors(desc, r, backward, u);
    double stored_h[2] = {0};
    for (int k = 0; k < u->parts; k++)
        if (!is_exact(r, u->h[k]))
            stored_h[k] = u->vh[k] + moe_int_stored_at(r, MOE_POINT_H, u->h[k]);
    double by_scale[3] = {0}; /* what the weight does to a and dh by way of the gate */
    for (int k = 0; k < u->parts; k++) {
        const double stored = stored_h[k];
        double da_dh, dh_dh[2] = {0}, beyond = u->h[k];
        secants(desc, u, k, sqrt(r->u2 * stored), backward, &da_dh, dh_dh);
        u->va += da_dh * da_dh * stored + together(u, da_dh * u->h[k], k, &by_scale[2]);
        u->jump[k] = backward ? find_jump(desc, r, k, u, &dh_dh[k], &beyond) : 0;
        for (int i = 0; backward && i < u->parts; i++)
            u->vdh[i] +=
                dh_dh[i] * dh_dh[i] * stored + together(u, dh_dh[i] * u->h[k], k, &by_scale[i]);
        /* where this side is flat, the other one errs */
        if (fabs(u->dh[k] + u->jump[k]) > fabs(u->dh[k]))
            u->vdh[k] += u->jump[k] * u->jump[k] * (r->eval + u->vda / (u->da * u->da)) +
                         error_beyond(desc, u, k, beyond, sqrt(r->u2 * stored_h[1 - k])) / r->u2;
    }
}
