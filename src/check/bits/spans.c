#include "check/bits/spans.h"
#include "reference/activation.h"

#include <math.h>

/* Roundings of dH's factors: s dA', the slope's product with the other half, and with that. */
enum { SLOPE_ROUNDINGS = 3 };
/* Units that flush what is smaller to zero are right too. */
#define FLUSHED 0x1p-120

/* How far an activation's factor phi(x)/x is from 1, by which errors of the exponential's argument
 * grow, and the sum of the sizes of its slope's terms, phi/x and the rest. */
typedef struct growth {
    double power, slope;
    double act; /* of A, for an up of 1; 0: its own size */
} growth;

/* What is added to ups. */
static double offset_of(const moe_layer_desc *desc) {
    return desc->act == MOE_ACT_SWIGLU_CLAMP ? 1 : 0;
}

/* An up that counts as 1 leaves the gate's own phi, or a multiple of it. */
static growth growth_of(const moe_layer_desc *desc, double x) {
    const double h[2] = {x, 1 - offset_of(desc)};
    double dh[2] = {0, 0};
    const double a = moe_int_act_unit_f64(desc, h, 1, dh);
    const double factor = x != 0 ? a / x : dh[0], rest = dh[0] - factor;
    /* 1 + tanh(q) errs as 1 does */
    const double one = desc->act == MOE_ACT_GEGLU_TANH ? 1 + fabs(x) : 0;
    return (growth){fabs(x) + (one > 0 ? x * x : 0) + (factor != 0 ? fabs(log(fabs(factor))) : 0),
                    fabs(factor) + fabs(rest) + one, one};
}

static moe_int_span span_of(const moe_int_spans *s, double exact, double error) {
    if (exact == 0) /* a factor is, and stays so */
        return (moe_int_span){.signless = true};
    if (!isfinite(exact) || !isfinite(error))
        return (moe_int_span){(float)exact, isnan(exact) ? 0 : NAN, true, true};
    const float low = (float)moe_round_to(exact - error, s->dtype);
    const float high = (float)moe_round_to(exact + error, s->dtype);
    return (moe_int_span){low, high, false, true};
}

/* No special function, and no more than 22 bits: exact in fp32. */
static bool is_exact(const moe_layer_desc *desc) {
    return desc->act == MOE_ACT_REGLU || desc->act == MOE_ACT_RELU || desc->act == MOE_ACT_RELU2;
}

static double allowed(const moe_int_spans *s, const growth *g, int roundings) {
    return (is_exact(s->desc) ? 0 : s->allowed * (1 + g->power)) + roundings;
}

/* The gate as the activation sees it. */
static double seen(const moe_layer_desc *desc, double gate) {
    const bool clamps = desc->act == MOE_ACT_SWIGLU_CLAMP || desc->act == MOE_ACT_SWIGLU_LIMIT;
    return clamps && gate > desc->act_limit ? desc->act_limit : gate;
}

static double sizes(const moe_int_spans *s, const double *h) {
    return (1 + fabs(h[0])) * (moe_act_is_gated(s->desc->act) ? 1 + fabs(h[1]) : 1);
}

moe_int_span moe_int_span_of_act(const moe_int_spans *s, const double *h, double factor,
                                 int roundings) {
    double dh[2];
    const double exact = factor * moe_int_act_unit_f64(s->desc, h, 1, dh);
    const growth g = growth_of(s->desc, seen(s->desc, h[0]));
    const double ulps = allowed(s, &g, roundings);
    const double size = fabs(exact) + fabs(factor) * g.act * sizes(s, h);
    return span_of(s, exact, ulps * 0x1p-24 * size + FLUSHED * sizes(s, h) * fabs(factor));
}

moe_int_span moe_int_span_of_slope(const moe_int_spans *s, const double *h, double da, int up) {
    double dh[2] = {0, 0};
    const growth g = growth_of(s->desc, seen(s->desc, h[0]));
    moe_int_act_unit_f64(s->desc, h, da, dh);
    double size = fabs(dh[up]);
    if (up == 0 && dh[0] != 0) {
        const bool gated = moe_act_is_gated(s->desc->act);
        size = fabs(da) * g.slope * (gated ? fabs(h[1]) + offset_of(s->desc) : 1);
    }
    const double ulps = allowed(s, &g, SLOPE_ROUNDINGS);
    return span_of(s, dh[up], ulps * 0x1p-24 * size + FLUSHED * sizes(s, h) * fabs(da));
}
