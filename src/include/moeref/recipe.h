/* Rounding points: where a kernel of 16 bits rounds a value between the inputs and the results.
 *
 * A recipe is a set of points. It says which error is right: the reference plays it (round to
 * nearest at its points), the judge's sigma follows from it. Every recipe multiplies 16-bit
 * operands, adds in fp32 unless it says otherwise, and rounds every result. */
#ifndef MOEREF_RECIPE_H
#define MOEREF_RECIPE_H

#include "moeref/dtype.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* clang-format off */

/* ROW(value, name, what is rounded there) */
#define MOE_POINTS(ROW)                                                                           \
    ROW(INPUT, "X", "X, dO and the parameters, where the case has them wider")                    \
    ROW(SX, "s*x", "the weighted input, where the weight is on the input")                        \
    ROW(H, "H", "pre-activations")                                                                \
    ROW(INNER, "phi", "each pointwise step of a gated activation: phi(g) before the product")     \
    ROW(A, "A", "activations")                                                                    \
    ROW(SA, "s*A", "A' = s*A before the product with dO")                                         \
    ROW(Y, "Y", "outputs of the experts")                                                         \
    ROW(SY, "s*Y", "weighted outputs before they are added")                                      \
    ROW(ADD_O, "O+", "partial sums of O")                                                         \
    ROW(SDO, "s*dO", "the weighted gradient before the products with W2 and A")                   \
    ROW(DA, "dA", "the product with W2 before the activation's backward")                         \
    ROW(DH, "dH", "gradients of the pre-activations")                                             \
    ROW(DXP, "dX~", "gradients of the experts' inputs")                                           \
    ROW(ADD_DX, "dX+", "partial sums of dX")                                                      \
    ROW(GATE, "gate", "the shared expert's gate, its logit and their gradients")                  \
    ROW(LOGITS, "logits", "router_logits")                                                        \
    ROW(S, "S", "topk_weight")                                                                    \
    ROW(DS, "dS", "gradients of the weights")                                                     \
    ROW(DLOGITS, "dlogits", "gradients of the logits")

/* clang-format on */

typedef enum moe_point_index {
#define MOE_POINT_ROW(value, name, what) MOE_POINT_##value##_INDEX,
    MOE_POINTS(MOE_POINT_ROW)
#undef MOE_POINT_ROW
        MOE_POINT_COUNT
} moe_point_index;

/* Bits of a recipe. */
typedef enum moe_point {
#define MOE_POINT_ROW(value, name, what) MOE_POINT_##value = 1 << MOE_POINT_##value##_INDEX,
    MOE_POINTS(MOE_POINT_ROW)
#undef MOE_POINT_ROW
} moe_point;

/* Name and meaning of point `index`; NULL outside the table. */
MOE_API const char *moe_point_name(int index);
MOE_API const char *moe_point_what(int index);

/* Thread-safety: plain data. */
typedef struct moe_recipe {
    const char *name, *brief;
    uint32_t points;       /* moe_point bits */
    int32_t only_if_named; /* 1: it rounds what backends promise in fp32; accepted where the user
                             names it, never by itself */
} moe_recipe;

/* Every recipe that is shipped, this project's own first. */
MOE_API const moe_recipe *moe_recipes(size_t *ret_count);
/* NULL: there is none of that name. */
MOE_API const moe_recipe *moe_recipe_find(const char *name);

#ifdef __cplusplus
}
#endif
#endif
