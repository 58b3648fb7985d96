/* Maps of rows one after another, in float64: what a model's block has before and behind its
 * experts, and its router's own network. */
#ifndef MOE_BLOCK_CHAIN_H
#define MOE_BLOCK_CHAIN_H

#include "moeref/status.h"
#include "moeref/tensor.h"

typedef enum moe_int_op_kind {
    MOE_INT_OP_END = 0, /* ends a list of maps */
    MOE_INT_OP_LINEAR,  /* y = W x + b, W [out][in]; b may be absent */
    MOE_INT_OP_SCALE,   /* y = number (offset + w) x, w [in]; without w: y = number x */
    MOE_INT_OP_SHIFT,   /* y = x + w */
    MOE_INT_OP_RMS,     /* y = x / sqrt(mean x^2 + number) */
    MOE_INT_OP_GELU     /* y = x Phi(x) */
} moe_int_op_kind;

typedef struct moe_int_op {
    moe_int_op_kind kind;
    int64_t in, out; /* widths */
    double number, offset;
    moe_tensor w, b; /* float64, owned; data NULL: absent */
} moe_int_op;

#define MOE_INT_CHAIN_MAX 10

/* No maps: the rows stay what they are. */
typedef struct moe_int_chain {
    moe_int_op op[MOE_INT_CHAIN_MAX];
    int n;
} moe_int_chain;

/* What went into each map, and what came out of the last: value[i] is [rows][in of op i]. */
typedef struct moe_int_trace {
    int64_t rows;
    double *value[MOE_INT_CHAIN_MAX + 1];
} moe_int_trace;

/* Gradients of op i's w and b, float64. */
typedef struct moe_int_chain_gradients {
    moe_tensor w[MOE_INT_CHAIN_MAX], b[MOE_INT_CHAIN_MAX];
} moe_int_chain_gradients;

/* MOE_E_NOMEM; *ret is to be freed, also on failure. `width`: of x, where there are no maps. */
moe_status moe_int_chain_forward(const moe_int_chain *chain, const double *x, int64_t rows,
                                 int64_t width, moe_int_trace *ret);
/* From dy to *ret_dx, which the caller frees, and the parameters' gradients, to be freed also on
 * failure. */
moe_status moe_int_chain_backward(const moe_int_chain *chain, const moe_int_trace *trace,
                                  const double *dy, int64_t width, double **ret_dx,
                                  moe_int_chain_gradients *ret);

static inline double *moe_int_trace_end(const moe_int_chain *chain, const moe_int_trace *trace) {
    return trace->value[chain->n];
}

void moe_int_chain_destroy(moe_int_chain *chain);
void moe_int_trace_destroy(moe_int_trace *trace);
void moe_int_chain_gradients_destroy(moe_int_chain_gradients *g);

#endif
