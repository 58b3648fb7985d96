/* What a token's sum is made of, term by term. */
#ifndef MOE_CHECK_EXPLAIN_TERMS_H
#define MOE_CHECK_EXPLAIN_TERMS_H

#include "check/explain/local.h"
#include "check/explain/vectors.h"

enum { MOE_INT_MOST_TERMS = 40, MOE_INT_TERM_CLASSES = 7 };

typedef enum moe_int_term_class {
    MOE_INT_TERM_PAIR,
    MOE_INT_TERM_BIAS,
    MOE_INT_TERM_SHARED,
    MOE_INT_TERM_GATE,
    MOE_INT_TERM_ROUTER,
    MOE_INT_TERM_ZERO,
    MOE_INT_TERM_FOREIGN
} moe_int_term_class;

typedef struct moe_int_terms {
    const moe_int_local *l;
    int64_t d, count;
    double *row, *error;      /* [MOE_INT_MOST_TERMS][d], [d] */
    int64_t *column, columns; /* [columns], those that are wrong */
    moe_int_term_class of[MOE_INT_MOST_TERMS];
    int64_t pair[MOE_INT_MOST_TERMS];     /* of the whole plan; -1: none's */
    double *factor[MOE_INT_TERM_CLASSES]; /* [noted] of wrong rows' terms that count otherwise */
    int64_t *noted_pair[MOE_INT_TERM_CLASSES], noted[MOE_INT_TERM_CLASSES],
        right[MOE_INT_TERM_CLASSES];
    double left, d2;
    int foreign; /* the vector that is tried beside the terms; negative: none */
} moe_int_terms;

/* The right terms of token i of the scene. */
void moe_int_terms_collect(moe_int_terms *k, int64_t i);
/* And the vector that is tried beside them: a token's, or that of each of its pairs. */
void moe_int_terms_add_foreign(moe_int_terms *k, int64_t i);

#endif
