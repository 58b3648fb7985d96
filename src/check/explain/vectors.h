/* Vectors that belong to a pair, by name: what a product may have been made of by mistake. */
#ifndef MOE_CHECK_EXPLAIN_VECTORS_H
#define MOE_CHECK_EXPLAIN_VECTORS_H

#include "check/explain/local.h"

typedef enum moe_int_vector {
    MOE_INT_VECTOR_X,
    MOE_INT_VECTOR_DO,
    MOE_INT_VECTOR_O,
    MOE_INT_VECTOR_DX,
    MOE_INT_VECTOR_X_UNSORTED, /* of the token that has the pair's number; of tokens: of the pair */
    MOE_INT_VECTOR_DO_UNSORTED, /* that has the token's */
    MOE_INT_VECTOR_Y,
    MOE_INT_VECTOR_DXP,
    MOE_INT_VECTOR_H,
    MOE_INT_VECTOR_DH,
    MOE_INT_VECTOR_A,
    MOE_INT_VECTOR_GATE,       /* of H */
    MOE_INT_VECTOR_UP,         /* of H */
    MOE_INT_VECTOR_PHI,        /* the gate's activation: what the up is multiplied by */
    MOE_INT_VECTOR_SLOPE,      /* dA/dgate */
    MOE_INT_VECTOR_A_FREE,     /* A from H again, without the clamp's limits */
    MOE_INT_VECTOR_A_NO_ONE,   /* without the 1 that is added to a clamped up */
    MOE_INT_VECTOR_A_IDENTITY, /* without the gate's nonlinearity */
    MOE_INT_VECTOR_A_ALPHA,    /* with an alpha of 1 */
    MOE_INT_VECTOR_DGATE,      /* of dH */
    MOE_INT_VECTOR_DUP,        /* of dH */
    MOE_INT_VECTOR_DGATES,     /* dH with the gates' part for the ups' as well */
    MOE_INT_VECTOR_DUPS,       /* and the other way about */
    MOE_INT_VECTOR_COUNT
} moe_int_vector;

extern const char *const moe_int_vector_words[MOE_INT_VECTOR_COUNT];

/* Does it belong to a token, whatever the expert? */
bool moe_int_vector_of_token(moe_int_vector which);
/* Has it `width` elements, and is it there? */
bool moe_int_vector_exists(const moe_int_evidence *e, moe_int_vector which, int64_t width);
/* ret [width]: that of pair p, or of token p where the vector is a token's and `tokens`. */
void moe_int_vector_load(const moe_int_evidence *e, moe_int_vector which, int64_t p, bool tokens,
                         double *ret);

#endif
