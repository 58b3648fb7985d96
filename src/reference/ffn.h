/* One feed-forward expert over a group of rows: the routed experts and the shared one alike. */
#ifndef MOE_REFERENCE_FFN_H
#define MOE_REFERENCE_FFN_H

#include "reference/emulated.h"
#include "reference/real.h"

#define ffn          REAL(moe_int_ffn)
#define ffn_forward  REAL(moe_int_ffn_forward)
#define ffn_backward REAL(moe_int_ffn_backward)

/* hw is H's width (2n or n). Results that are NULL are not wanted. */
typedef struct ffn {
    const moe_layer_desc *desc;
    int64_t n, hw;
    int32_t layout; /* moe_glu_layout */
    int threads;
    moe_dtype storage; /* results are rounded to it, and what `points` names */
    uint32_t points;   /* of the recipe */

    int64_t rows;
    const int32_t *token;       /* [rows]; NULL: row r is token r */
    const real *weight;         /* [rows] combine weights */
    bool on_input;              /* the expert sees weight * x, its output counts once */
    const moe_int_chain *chain; /* float32: the unit that multiplies; NULL: plain loops */
    const int32_t *gates_first; /* [hw] or NULL: order of the sums of dX~ */

    const real *X, *dO;            /* [T][d] */
    const real *W1, *b1, *W2, *b2; /* [hw][d], [hw], [d][n], [d]; biases may be NULL */
    real *H, *A, *Y;               /* [rows][hw], [rows][n], [rows][d] */
    real *dS, *dH, *dXp;           /* [rows], [rows][hw], [rows][d] */
    real *dW1, *db1, *dW2, *db2;   /* as the parameters */
} ffn;

/* H, A, Y. MOE_E_NOMEM. */
moe_status ffn_forward(const ffn *f);

/* dS, dH, dX~ and parameter gradients from dO, after ffn_forward. MOE_E_NOMEM.
 * Equations: dA' = dO W2; dS = <dA', A> + <dO, b2>; A' = s A; dA = s dA'; dH = act'(dA, H);
 * dW2 = dO^T A'; db2 = sum s dO; dW1 = dH^T X; db1 = sum dH; dX~ = dH W1 (SonicMoE, arXiv
 * 2512.14080). With the weight on the input, s = 1 above, X is the weighted input and dS = <dX~,
 * x>. */
moe_status ffn_backward(const ffn *f);

#endif
