/* NaN and infinities. One that goes into the layer must come out wherever the definition lets it:
 * a kernel that turns it into a number hides from its user that training has diverged.
 *
 * Which of the two comes out depends on the order of operations (Inf - Inf), so either will do. The
 * definition is IEEE's: 0 * NaN is NaN, also under a weight of 0. One thing is left open. Of an
 * infinite pre-activation a formula may make 0 * Inf = NaN where another has the limit: silu(-Inf)
 * by x * sigmoid(x) or as 0, silu'(Inf) by s + x s (1 - s) or as 1. What passes through such a
 * slope, and A itself, may be either where infinities went in and no NaN did. A NaN has no limit.
 */
#include "check/compare/compare.h"

#include <math.h>
#include <string.h>

/* Tensors in which a kink hides the truth as NaN (errors/layer.c), leaving its errors finite. The
 * same ones pass through an activation's slope. */
static bool is_behind_slope(moe_tensor_id id) {
    static const moe_tensor_id behind[] = {MOE_T_DH,  MOE_T_DXP, MOE_T_DX,
                                           MOE_T_DW1, MOE_T_DB1, MOE_T_DW1_SHARED};
    for (size_t i = 0; i < sizeof behind / sizeof *behind; i++)
        if (behind[i] == id)
            return true;
    return false;
}

moe_int_due moe_int_due_of(const moe_int_comparison *c, double want, double variance) {
    if (isfinite(want))
        return MOE_INT_DUE_NUMBER;
    if (strcmp(c->truth, "golden") == 0) /* a value that was lost; the oracle is asked next */
        return MOE_INT_DUE_ANYTHING;
    bool slope = is_behind_slope(c->id);
    if (slope && c->variance && isnan(want) && isfinite(variance))
        return MOE_INT_DUE_NUMBER;
    if (c->infinite_only && isnan(want) && (slope || c->id == MOE_T_A))
        return MOE_INT_DUE_ANYTHING;
    return MOE_INT_DUE_NOT_FINITE;
}
