/* What crosses the plug-in's border where a layer runs on memory and a stream of the caller's:
 * views of tensors, sizes, and one call with everything in it. operator.h has the functions and
 * says how they are used. */
#ifndef MOEREF_CALL_H
#define MOEREF_CALL_H

#include "moeref/layer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where memory lies. Values are pinned, as all of this page. */
typedef enum moe_place {
    MOE_PLACE_HOST = 0, /* device_index is 0 */
    MOE_PLACE_CUDA = 1, /* of the CUDA device device_index, managed memory included */
    MOE_PLACE_COUNT
} moe_place;

/* Somebody's tensor. Strides are in elements, none is negative; data points at element 0.
 * Thread-safety: plain data. */
typedef struct moe_view {
    void *data;    /* NULL: absent */
    int32_t dtype; /* moe_dtype */
    int32_t ndim;
    int32_t place; /* moe_place */
    int32_t device_index;
    int64_t shape[MOE_MAX_DIMS];
    int64_t stride[MOE_MAX_DIMS];
} moe_view;

/* Who chooses experts. */
typedef enum moe_routed_by {
    MOE_ROUTED_BY_CALLER = 0, /* `index` and S come with the call; there is no W_r */
    MOE_ROUTED_BY_LAYER = 1,  /* the layer's router does; `index` and S are results */
    MOE_ROUTED_BY_COUNT
} moe_routed_by;

/* What an operator is made for. No number of tokens: that comes with each call.
 * Thread-safety: plain data. */
typedef struct moe_operator_use {
    int32_t dtype;  /* moe_dtype of X, dO, weights and biases */
    int32_t pass;   /* MOE_PASS_FWD: inference, forward keeps nothing; MOE_PASS_BOTH */
    int32_t routed; /* moe_routed_by */
    int32_t unused; /* 0 */
} moe_operator_use;

/* Thread-safety: plain data. */
typedef struct moe_operator_support {
    int32_t arithmetic;    /* moe_dtype: the precision whose gates results are judged by */
    int32_t deterministic; /* moe_promise bits (plugin.h), beta = 1 included */
    int32_t place;         /* moe_place and device_index that all memory of a call must have */
    int32_t device_index;
    int32_t alignment;   /* bytes: of every view's data, of cached, workspace and converted */
    int32_t free_dtypes; /* 1: O, dX and gradients may have any floating dtype; 0: O and dX have
                            the operator's, gradients of parameters that or fp32 */
    char reason[160];    /* set with MOE_E_UNSUPPORTED: one clause, "K > 32" */
} moe_operator_support;

/* Bytes of memory that the caller provides, for one number of tokens and columns.
 * Thread-safety: plain data. */
typedef struct moe_operator_sizes {
    int64_t
        columns;    /* slots of a token in index, S and dS: as asked, or the layer's own router's */
    int64_t cached; /* written by forward, read by the backward of the same step; 0 for inference */
    int64_t forward;  /* scratch of a forward: nothing of it is needed after the call's work */
    int64_t backward; /* the same of a backward */
} moe_operator_sizes;

/* One pass, with everything that it reads and writes. Of X, dO, index, S, the parameters and
 * `converted`, a backward must find what its forward saw.
 * Thread-safety: plain data. */
typedef struct moe_call {
    int64_t tokens;  /* T >= 1 */
    int64_t columns; /* slots a token; moe_operator_sizes.columns where the layer routes */

    /* Tensors by id, shapes as layer.h has them, but for S and dS. Absent: data NULL.
     *   X, dO, O, dX       [T][d], dense.
     *   logits             [T][E+n_zero], fp32, dense: a result, if present; the layer routes.
     *   S, dS              [T][columns], dense, a slot each; dS is fp32. S is fp32, or, from the
     *                      caller, of `dtype`. Empty slots: S is not read, dS is set to 0.
     *   W1, W2, W1_shared, W2_shared and their gradients: dense, in one of two orders: row-major,
     *                      or the last two dimensions transposed, strides {.., 1, rows}: [E][d][2n]
     *                      memory is a view of shape [E][2n][d].
     *   all else           dense, row-major.
     * Gradients of parameters have the parameter's shape in an order of their own. In backward any
     * gradient may be absent; it is not made then. H, A, Y, dH and dXp are not offered. */
    moe_view t[MOE_T_COUNT];
    moe_view index; /* [T][columns] int32 or int64, dense; a slot's expert in 0 .. E+n_zero-1, or
                       any other value: the slot is empty. At most one slot of a token per expert.
                       int32 where the layer routes, and may then be absent */

    int32_t beta; /* gradients of parameters: 0 overwrites them, 1 adds to what is there (in fp32 or
                     better, rounded once to the buffer's dtype); dX and dS are overwritten */
    int32_t unused; /* 0 */
    uint64_t seed;  /* stochastic token rounding */

    void *cached;
    int64_t cached_bytes; /* at least moe_operator_sizes.cached */
    void *workspace;
    int64_t workspace_bytes; /* at least .forward or .backward of them */
    void *converted;         /* as moe_operator_convert filled it; NULL where its size is 0 */
    int64_t converted_bytes;

    void *stream;       /* a cudaStream_t, NULL is the legacy default stream; ignored on the host */
    const moe_log *log; /* this call's sentences; NULL: the backend's log */
} moe_call;

#ifdef __cplusplus
}
#endif
#endif
