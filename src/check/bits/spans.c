#include "check/bits/spans.h"
#include "core/closed.h"
#include "reference/activation.h"

#include <math.h>

/* Roundings of dH's factors: s dA', the slope's product with the other half, and with that. */
enum { SLOPE_ROUNDINGS = 3 };
/* Units that flush what is smaller to zero are right too. */
#define FLUSHED 0x1p-120

/* What the exponential is taken of, and the sum of the sizes of the slope's terms. */
typedef struct growth {
    double power, slope;
} growth;

static growth of_sigmoid(double x, double alpha) {
    const double e = exp(-fabs(alpha * x)), one = alpha * x >= 0 ? 1 : e, other = 1 + e - one;
    return (growth){fabs(alpha * x), one / (1 + e) * (1 + fabs(alpha * x) * other / (1 + e))};
}

static growth growth_of(const moe_layer_desc *desc, double x) {
    switch ((moe_act)desc->act) {
    case MOE_ACT_SWIGLU:
    case MOE_ACT_SILU:
    case MOE_ACT_SWIGLU_LIMIT:
    case MOE_ACT_SWIGLU_LIMIT_AFTER:
        return of_sigmoid(x, 1);
    case MOE_ACT_SWIGLU_CLAMP:
        return of_sigmoid(x, desc->act_alpha);
    case MOE_ACT_GEGLU:
    case MOE_ACT_GELU:
        return (growth){x * x / 2, erfc(-x * sqrt(0.5)) / 2 + fabs(x) * exp(-x * x / 2)};
    case MOE_ACT_REGLU:
    case MOE_ACT_RELU:
        return (growth){0, 1};
    case MOE_ACT_RELU2:
        return (growth){0, 2 * fabs(x)};
    case MOE_ACT_GEGLU_TANH:
    case MOE_ACT_SWIGLU_SOFTCAP:
        return (growth){x * x, 1 + fabs(x)};
    case MOE_ACT_COUNT:
        break;
    }
    MOE_INT_NO_OTHER_VALUE();
}

static moe_int_span span_of(const moe_int_spans *s, double exact, double error) {
    if (exact == 0) /* a factor is, and stays so */
        return (moe_int_span){.signless = true};
    const float low = (float)moe_round_to(exact - error, s->dtype);
    const float high = (float)moe_round_to(exact + error, s->dtype);
    return (moe_int_span){low, high, !isfinite(exact) || !isfinite(error), true};
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
    return span_of(s, exact, ulps * 0x1p-24 * fabs(exact) + FLUSHED * sizes(s, h) * fabs(factor));
}

moe_int_span moe_int_span_of_slope(const moe_int_spans *s, const double *h, double da, int up) {
    double dh[2] = {0, 0};
    const growth g = growth_of(s->desc, seen(s->desc, h[0]));
    moe_int_act_unit_f64(s->desc, h, da, dh);
    double size = fabs(dh[up]);
    if (up == 0 && dh[0] != 0) {
        const bool gated = moe_act_is_gated(s->desc->act);
        const double offset = s->desc->act == MOE_ACT_SWIGLU_CLAMP ? 1 : 0;
        size = fabs(da) * g.slope * (gated ? fabs(h[1]) + offset : 1);
    }
    const double ulps = allowed(s, &g, SLOPE_ROUNDINGS);
    return span_of(s, dh[up], ulps * 0x1p-24 * size + FLUSHED * sizes(s, h) * fabs(da));
}
