/* A wrong tensor whose rows are products of an operand's row with a matrix: router_logits, H, Y,
 * dX~, and dA', which dH shows. A few wrong rows of it, and their expert's matrix. */
#ifndef MOE_CHECK_EXPLAIN_PRODUCT_H
#define MOE_CHECK_EXPLAIN_PRODUCT_H

#include "check/explain/local.h"

enum { MOE_INT_PRODUCT_ROWS = 12 };

typedef struct moe_int_product_view {
    const moe_int_evidence *e;
    moe_tensor_id id;     /* MOE_T_DH stands for dA' */
    const char *equation; /* "H = x W1^T" */
    const char *operand;  /* "X" */
    const char *matrix;   /* "W1" */
    int64_t outs, depth;  /* a row's elements, and the terms of each */
    int64_t experts;      /* matrices; 0: one for all */
    const moe_tensor *in; /* [sources][depth] */
    int64_t sources;
    bool tokens; /* sources are tokens, not pairs */
    const moe_tensor *w, *bias;
    bool turned;                        /* an expert's matrix lies as [depth][outs] */
    int64_t rows;                       /* wrong ones that are looked at */
    int64_t pair[MOE_INT_PRODUCT_ROWS]; /* or tokens, where `experts` is 0 */
    int64_t own[MOE_INT_PRODUCT_ROWS];  /* their sources */
    double *out;                        /* [rows][outs] as it came, without bias; owned */
    double d2[MOE_INT_PRODUCT_ROWS];    /* its squared error */
} moe_int_product_view;

/* False: the tensor is no product, or what it is made of is not there. `together`: rows of one
 * expert. *ret is to be freed. */
bool moe_int_product_view_make(const moe_int_local *l, bool together, moe_int_product_view *ret);
void moe_int_product_view_destroy(moe_int_product_view *v);

int64_t moe_int_product_expert(const moe_int_product_view *v, int64_t i);
/* The matrix of expert e as [outs][depth]. */
void moe_int_product_matrix(const moe_int_product_view *v, int64_t e, double *ret);
/* Squared distance of row i's first `outs` elements from the product of w [outs][depth] and x. */
double moe_int_product_distance(const moe_int_product_view *v, int64_t i, const double *w,
                                const double *x, int64_t outs);
/* Source q as row i's product takes it: with i's weight where weights are on the input. */
void moe_int_product_source(const moe_int_product_view *v, int64_t i, int64_t q, double *ret);

/* Ways in which a product's factors may be others than its own, tried in turn: the first that
 * leaves no more than rounding is said. */
typedef struct moe_int_product_trials {
    int count;
    bool (*exists)(const moe_int_product_view *v, int n); /* NULL: all do */
    /* Makes w [outs][depth], an expert's matrix, that of trial n; false: it has none. */
    bool (*matrix)(const moe_int_product_view *v, int n, double *w);
    /* Makes x [depth], row i's source, that of trial n. */
    void (*source)(const moe_int_product_view *v, int n, int64_t i, double *x);
    void (*say)(const moe_int_product_view *v, int n, moe_int_finding *f);
} moe_int_product_trials;

bool moe_int_product_try(const moe_int_local *l, const moe_int_product_trials *trials,
                         moe_int_finding *f);

#endif
