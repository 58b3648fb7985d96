/* Activations by formula: a function, and where it stands between gate and up. */
#ifndef MOE_CHECK_EXPLAIN_FUNCTIONS_H
#define MOE_CHECK_EXPLAIN_FUNCTIONS_H

#include "check/explain/change.h"

typedef struct moe_int_phi {
    double (*of)(double x);
    const char *words;
} moe_int_phi;

typedef struct moe_int_form {
    double (*of)(double (*phi)(double x), double g, double u);
    const char *words;
} moe_int_form;

enum { MOE_INT_PHIS = 15, MOE_INT_FORMS = 7 };
extern const moe_int_phi moe_int_phis[MOE_INT_PHIS];
/* The first is phi(g) u, with a u of 1 where there is none. */
extern const moe_int_form moe_int_forms[MOE_INT_FORMS];

/* a of gate h[0] and up h[1], and its slopes; without an up h[1] is not read and has none. */
void moe_int_formula_act(const moe_int_formula *formula, bool gated, const double h[2], double *a,
                         double slope[2]);

#endif
