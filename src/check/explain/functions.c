/* The functions and forms that a wrong activation may be. */
#include "check/explain/functions.h"

#include <math.h>

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}
static double silu(double x) {
    return x * sigmoid(x);
}
static double gelu(double x) {
    return x * erfc(-x / sqrt(2)) / 2;
}
static double quick_gelu(double x) {
    return x * sigmoid(1.702 * x);
}
static double relu(double x) {
    return fmax(x, 0);
}
static double relu2(double x) {
    return relu(x) * relu(x);
}
static double softplus(double x) {
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}
static double mish(double x) {
    return x * tanh(softplus(x));
}
static double hard_swish(double x) {
    return x * fmin(fmax(x / 6 + 0.5, 0), 1);
}
static double elu(double x) {
    return x > 0 ? x : expm1(x);
}
static double squared_silu(double x) {
    return silu(x) * silu(x);
}
static double silu_twice(double x) {
    return silu(silu(x));
}

const moe_int_phi moe_int_phis[MOE_INT_PHIS] = {
    {silu, "silu(x)"},
    {sigmoid, "sigmoid(x), without its x"},
    {gelu, "gelu(x)"},
    {quick_gelu, "x sigmoid(1.702 x), quick gelu"},
    {relu, "relu(x)"},
    {relu2, "relu(x) squared"},
    {tanh, "tanh(x)"},
    {softplus, "softplus(x)"},
    {mish, "x tanh(softplus(x)), mish"},
    {hard_swish, "x min(max(x + 3, 0), 6) / 6, hard swish"},
    {elu, "elu(x)"},
    {fabs, "|x|"},
    {exp, "exp(x)"},
    {squared_silu, "silu(x) squared"},
    {silu_twice, "silu(silu(x))"},
};

static double product(double (*phi)(double x), double g, double u) {
    return phi(g) * u;
}
static double raised(double (*phi)(double x), double g, double u) {
    return phi(g) * (u + 1);
}
static double added(double (*phi)(double x), double g, double u) {
    return phi(g) + u;
}
static double of_up(double (*phi)(double x), double g, double u) {
    return g * phi(u);
}
static double of_both(double (*phi)(double x), double g, double u) {
    return phi(g) * phi(u);
}
static double of_product(double (*phi)(double x), double g, double u) {
    return phi(g * u);
}
static double of_sum(double (*phi)(double x), double g, double u) {
    return phi(g + u);
}

const moe_int_form moe_int_forms[MOE_INT_FORMS] = {
    {product, "phi(gate) up"},  {raised, "phi(gate) (up + 1)"}, {added, "phi(gate) + up"},
    {of_up, "gate phi(up)"},    {of_both, "phi(gate) phi(up)"}, {of_product, "phi(gate up)"},
    {of_sum, "phi(gate + up)"},
};

void moe_int_formula_act(const moe_int_formula *formula, bool gated, const double h[2], double *a,
                         double slope[2]) {
    enum { GATE, UP };
    const double step = 1e-5, g = h[GATE], u = gated ? h[UP] : 1;
    double (*const phi)(double x) = formula->phi->of;
    const moe_int_form *form = formula->form;
    *a = form->of(phi, g, u);
    slope[GATE] = (form->of(phi, g + step, u) - form->of(phi, g - step, u)) / (2 * step);
    if (gated)
        slope[UP] = (form->of(phi, g, u + step) - form->of(phi, g, u - step)) / (2 * step);
}
