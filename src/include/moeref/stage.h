/* Every stage of a layer's passes in one table: what backends time, what the cost model predicts,
 * and what reports call them.
 *
 * A stage is a step that every implementation of the layer takes. Some systems take it in several
 * kernels, or need kernels of their own beside it ("zero dW2", "dW2 bf16"): these have names too,
 * and are `part of` a stage. */
#ifndef MOEREF_STAGE_H
#define MOEREF_STAGE_H

#include "moeref/layer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Values are pinned. New ones go at the end. */
typedef enum moe_stage {
    /* stages of the router and of the routed experts */
    MOE_STAGE_ROUTER = 0,      /* logits */
    MOE_STAGE_TOPK,            /* scores, choice, weights */
    MOE_STAGE_METADATA,        /* pairs sorted by expert: the plan */
    MOE_STAGE_A,               /* H = X W1^T, A = act(H) */
    MOE_STAGE_Y,               /* Y = A W2^T */
    MOE_STAGE_O,               /* sum of weighted Y */
    MOE_STAGE_DH,              /* dA = dO W2, dH, and A again for dW2 */
    MOE_STAGE_DS,              /* <dA, A> */
    MOE_STAGE_DB,              /* db1, db2 */
    MOE_STAGE_DW2,             /* dO^T A */
    MOE_STAGE_DXP,             /* dX~ = dH W1 */
    MOE_STAGE_DX,              /* sum of dX~ */
    MOE_STAGE_DW1,             /* dH^T X */
    MOE_STAGE_ROUTER_BACKWARD, /* logits' gradient, dW_r, db_r, the router's part of dX */
    /* the same of the shared expert, whose rows are the tokens */
    MOE_STAGE_A_SHARED,
    MOE_STAGE_Y_SHARED,
    MOE_STAGE_O_SHARED,
    MOE_STAGE_DH_SHARED,
    MOE_STAGE_DS_SHARED,
    MOE_STAGE_DW2_SHARED,
    MOE_STAGE_DXP_SHARED,
    MOE_STAGE_DX_SHARED,
    MOE_STAGE_DW1_SHARED,
    MOE_STAGE_GATE_BACKWARD, /* of the shared expert's gate */
    /* parts of the router's stages */
    MOE_STAGE_MASK, /* MoMoE: mask and scores of all experts */
    MOE_STAGE_D_LOGITS,
    MOE_STAGE_DX_ROUTER,
    MOE_STAGE_DW_R,
    MOE_STAGE_DW_R_SUM, /* over slices of tokens */
    /* parts of metadata */
    MOE_STAGE_SORT,
    MOE_STAGE_SORT_COUNT,
    MOE_STAGE_SORT_SCAN,
    MOE_STAGE_SORT_PLACE,
    MOE_STAGE_COUNT_TOKENS, /* "count": tokens of each expert */
    MOE_STAGE_ALIGN,        /* groups padded to tiles */
    /* parts of A */
    MOE_STAGE_X_GROUPED,
    MOE_STAGE_ZERO_X,
    MOE_STAGE_H,
    MOE_STAGE_H_GATE,
    MOE_STAGE_H_UP,
    MOE_STAGE_SILU,
    MOE_STAGE_A_EMPTY, /* MoMoE: CTAs that find no rows; so in other stages */
    /* parts of Y and O */
    MOE_STAGE_Y_EMPTY,
    MOE_STAGE_Y_BY_TOKEN,
    /* parts of dH */
    MOE_STAGE_GROUPED, /* X and dO */
    MOE_STAGE_GROUPED_EMPTY,
    MOE_STAGE_ZERO_DY,
    MOE_STAGE_DY,
    MOE_STAGE_DY_GROUPED,
    MOE_STAGE_DA,
    MOE_STAGE_D_UP,
    MOE_STAGE_D_SILU,
    MOE_STAGE_D_GATE,
    MOE_STAGE_DH_EMPTY,
    /* parts of dS */
    MOE_STAGE_ZERO_DS,
    MOE_STAGE_Y_AGAIN, /* for <dO, Y> */
    /* parts of the weight gradients */
    MOE_STAGE_ZERO_DW2,
    MOE_STAGE_DW2_BF16, /* rounded from fp32 */
    MOE_STAGE_ZERO_DW1,
    MOE_STAGE_DW1_BF16,
    MOE_STAGE_DW1_GATE,
    MOE_STAGE_DW1_UP,
    /* parts of dX~ and dX */
    MOE_STAGE_DXP_GATE,
    MOE_STAGE_DXP_UP,
    MOE_STAGE_DXP_EMPTY,
    MOE_STAGE_DXP_BY_TOKEN,
    MOE_STAGE_ZERO_DX,
    /* parts of the shared expert's A and dH */
    MOE_STAGE_H_SHARED,
    MOE_STAGE_DA_SHARED,
    /* over ranks: rows to the owners of their experts, and all that these do; rows on their way
     * home are in O and dX */
    MOE_STAGE_DISPATCH,
    MOE_STAGE_EXPERTS,
    MOE_STAGE_DISPATCH_BACK,
    MOE_STAGE_EXPERTS_BACK,
    /* projections around the experts (moe_case's hidden), which no layer has by itself */
    MOE_STAGE_PROJECT_IN,  /* X = X_hidden W_in^T */
    MOE_STAGE_PROJECT_OUT, /* O_hidden = O W_out^T */
    MOE_STAGE_DW_OUT,
    MOE_STAGE_DO_PROJECTED, /* dO = dO_hidden W_out */
    MOE_STAGE_DX_PROJECTED, /* dX_hidden = dX W_in */
    MOE_STAGE_DW_IN,
    MOE_STAGE_COUNT
} moe_stage;

/* Thread-safety: plain data; every function here may be called from any thread. */
typedef struct moe_stage_info {
    const char *name;  /* as in moe_cost: "A", "dW1_shared", "zero dW2" */
    int32_t pass;      /* moe_pass bits: where it runs. A stage runs in one pass, a part perhaps in
                          either, as systems differ */
    int32_t tensor;    /* moe_tensor_id that it writes or adds to; -1: none that has a name */
    moe_stage part_of; /* a stage; its own value: it is one */
} moe_stage_info;

/* The row of a stage below MOE_STAGE_COUNT. */
MOE_API moe_stage_info moe_stage_info_of(moe_stage stage);
MOE_API const char *moe_stage_name(moe_stage stage);
/* MOE_E_NOTFOUND, without a message: no stage has that name. */
MOE_API moe_status moe_stage_parse(const char *name, moe_stage *ret);

/* The shared expert's counterpart of a stage of the routed experts; other stages as they are. */
MOE_API moe_stage moe_stage_of_shared(moe_stage stage);

/* Is it a stage (not a part of one) of this layer's pass? plan_given: the layer does not route. */
MOE_API int moe_stage_exists(const moe_layer_desc *desc, moe_stage stage, int32_t pass,
                             int plan_given);

/* What a stage must do: model FLOPs, and the elements that its inputs, outputs and weights amount
 * to, each counted once. `active` is the number of routed experts with at least one row.
 * MOE_E_UNSUPPORTED, without a message: it is not counted, being short or a part. */
MOE_API moe_status moe_stage_work(const moe_layer_desc *desc, moe_stage stage, int64_t tokens,
                                  int64_t pairs, int64_t active, double *ret_flops,
                                  double *ret_elements);

#ifdef __cplusplus
}
#endif
#endif
