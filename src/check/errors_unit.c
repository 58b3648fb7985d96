/* Errors of one hidden unit: through the activation, forward and backward. */
#include "check/errors.h"

#include "reference/activation.h"

moe_int_rounding moe_int_rounding_of(moe_dtype arithmetic) {
    double u = moe_dtype_roundoff(arithmetic);
    bool low = arithmetic == MOE_BF16 || arithmetic == MOE_F16;
    double fp32 = moe_dtype_roundoff(MOE_F32) / u;
    /* exp, a division and three products in the arithmetic itself */
    const double eval = 5;
    return (moe_int_rounding){.arithmetic = arithmetic,
                              .sum = low ? 0 : 0.5,
                              .eval = low ? 0 : eval,
                              .router = low ? eval * fp32 * fp32 : eval,
                              .u2 = u * u / 3};
}

/* Distance of h from the nearest jump of the derivative with respect to its column; *size is where
 * the jump lies. relu jumps at 0; the clamp of swiglu_clamp at its limits. */
static double corner_distance(const moe_layer_desc *desc, int part, double h, double *size) {
    bool relu = desc->act == MOE_ACT_RELU || desc->act == MOE_ACT_REGLU;
    *size = desc->act == MOE_ACT_SWIGLU_CLAMP ? desc->act_limit : 0;
    if (desc->act == MOE_ACT_SWIGLU_CLAMP)
        return part ? fabs(fabs(h) - *size) : fabs(h - *size);
    return relu && part == 0 ? fabs(h) : INFINITY;
}

/* Can rounding carry h across? Six deviations of what h is before it is stored; storing moves it by
 * at most u|h| and keeps its sign. */
static bool near_corner(const moe_layer_desc *desc, const moe_int_rounding *r, int part, double h,
                        double vh) {
    double size, distance = corner_distance(desc, part, h, &size);
    return distance <= 6 * sqrt(r->u2 * vh) + moe_dtype_roundoff(r->arithmetic) * size;
}

static void act_slopes(const moe_layer_desc *desc, const double *h, double da, double *ret) {
    moe_int_act_backward_f64(desc, MOE_GLU_CONCAT, 1, h, &da, ret);
}

/* d(dh)/dh_k by central differences: exact enough (the step is far above the roundoff of double).
 */
static void second_slopes(const moe_layer_desc *desc, const moe_int_unit *unit, int k,
                          double *ret) {
    double low[2] = {unit->h[0], unit->h[1]}, high[2] = {unit->h[0], unit->h[1]};
    double step = 1e-6 * (1 + fabs(unit->h[k])), below[2] = {0}, above[2] = {0};
    low[k] -= step;
    high[k] += step;
    act_slopes(desc, low, unit->da, below);
    act_slopes(desc, high, unit->da, above);
    for (int i = 0; i < unit->parts; i++)
        ret[i] = (above[i] - below[i]) / (2 * step);
}

void moe_int_unit_errors(const moe_layer_desc *desc, const moe_int_rounding *r, bool backward,
                         moe_int_unit *u) {
    double slope[2] = {0}, second[2] = {0}, stored[2];
    moe_int_act_forward_f64(desc, MOE_GLU_CONCAT, 1, u->h, &u->a);
    act_slopes(desc, u->h, 1, slope);
    u->va = r->eval * u->a * u->a;
    for (int k = 0; k < u->parts; k++) {
        stored[k] = u->vh[k] + u->h[k] * u->h[k];
        u->va += slope[k] * slope[k] * stored[k];
        u->corner[k] = near_corner(desc, r, k, u->h[k], u->vh[k]);
    }
    if (!backward)
        return;
    act_slopes(desc, u->h, u->da, u->dh);
    for (int i = 0; i < u->parts; i++)
        u->vdh[i] = slope[i] * slope[i] * u->vda + r->eval * u->dh[i] * u->dh[i];
    for (int k = 0; k < u->parts; k++) {
        second_slopes(desc, u, k, second);
        for (int i = 0; i < u->parts; i++)
            u->vdh[i] += second[i] * second[i] * stored[k];
    }
}
