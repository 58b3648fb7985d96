/* Internal: the rows of families whose block has more than a layer of layer.h. */
#ifndef MOE_HF_BLOCKS_H
#define MOE_HF_BLOCKS_H

#include "block/block.h"

/* One map of a chain. */
typedef struct moe_int_op_row {
    moe_int_op_kind kind;      /* MOE_INT_OP_END: the chain ends */
    const char *weight, *bias; /* spellings of its tensors below the module (hf.h); a bias counts
                                  where the file has it */
    const char *key;           /* setting: LINEAR's width, where it is not the one that its place
                                  ends with; RMS's eps; SCALE's number */
    double offset;             /* SCALE: y = number (offset + w) x */
    bool over_root;            /* SCALE: number is 1 / sqrt(width) */
} moe_int_op_row;

typedef enum moe_int_block_when {
    MOE_INT_BLOCK_ALWAYS,
    MOE_INT_BLOCK_LATENT, /* where latent_key is in the file */
    MOE_INT_BLOCK_HASH    /* layers whose mlp_layer_types has "hash" */
} moe_int_block_when;

/* A block is a row of these; what it leaves out, it has not. */
typedef struct moe_int_block_row {
    const char *what;     /* it has, in a few words */
    const char *left_out; /* of that, where shapes alone are read; NULL: all of it */
    moe_int_block_when when;
    moe_int_op_row op[MOE_INT_PLACE_COUNT][MOE_INT_CHAIN_MAX];
    moe_int_choice choice;
    const char *latent_key;   /* width of the experts' input; NULL: d */
    const char *table;        /* [ids][K] experts of each token id */
    const char *scale;        /* what multiplies the weights: [1] or [E] */
    const char *sinks_key;    /* how many shared experts share the routed ones' sum */
    const char *fraction_key; /* an expert's capacity over the number of tokens */
    const char *keep_key;     /* weights count 1 - this */
    bool skip;                /* a last class without expert */
    bool shared_gated;        /* the shared expert has a gate, the routed ones have none */
    int state_at;             /* the router's state is what comes out of so many of its maps */
    bool report_softmax, report_sorted, forward_only;
} moe_int_block_row;

extern const moe_int_block_row moe_int_block_norm_out, moe_int_block_bias_out, moe_int_block_gemma4,
    moe_int_block_muse_spark, moe_int_block_zaya, moe_int_block_inkling, moe_int_block_latent,
    moe_int_block_hash, moe_int_block_product_keys, moe_int_block_nllb;

#endif
