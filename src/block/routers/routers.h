/* Blocks written as steps of a tape: one function each, named in layer/blocks.h. */
#ifndef MOE_BLOCK_ROUTERS_ROUTERS_H
#define MOE_BLOCK_ROUTERS_ROUTERS_H

#include "block/tape/tape.h"
#include "layer/blocks.h"

/* What a block is written with. */
typedef struct moe_int_writing {
    moe_int_tape *tape;
    moe_layer_desc desc;
    int64_t T, layers;
    uint64_t seed;
    int x, w1, w2; /* X [T][d]; W1 [E h_width][d] and W2 [E d][n] of all experts */
} moe_int_writing;

/* The block's output [T][d]. */
typedef int (*moe_int_write)(const moe_int_writing *k);

#define MOE_INT_DECLARE(name, meaning) int moe_int_write_##name(const moe_int_writing *k);
MOE_INT_BLOCKS(MOE_INT_DECLARE)

/* choices.c: 0 or 1, token t's kind in `modalities`. */
int moe_int_modality(uint64_t seed, int64_t t);

/* ---- parts.c: what several of them have ---- */

/* A parameter ~ N(0, 1 / columns); of layer l: NAME with l behind. */
int moe_int_matrix(const moe_int_writing *k, const char *name, int64_t rows, int64_t columns);
int moe_int_matrix_of(const moe_int_writing *k, const char *name, int64_t l, int64_t rows,
                      int64_t columns);
/* Ones; element `but` is 0 (-1: none is). */
int moe_int_ones(const moe_int_writing *k, int64_t rows, int64_t columns, int64_t but);
/* Logits x W_r^T of layer l. */
int moe_int_logits(const moe_int_writing *k, int x, int64_t l);
/* The plan that the layer's selection makes of logits or scores. */
const moe_plan *moe_int_chosen(const moe_int_writing *k, int scores);
/* `values` where the plan has pairs. */
int moe_int_kept(const moe_int_writing *k, int values, const moe_plan *plan);
/* Rows divided by their sum + eps. */
int moe_int_shares(const moe_int_writing *k, int values, double eps);
/* cos(row of a, row of b), [rows of a][rows of b]. */
int moe_int_cosine(const moe_int_writing *k, int a, int b);
/* The experts on x, at the pairs of a plan and with weights [T][E or more]. */
int moe_int_experts(const moe_int_writing *k, int x, int weights, const moe_plan *plan);
/* The same as the layer's own router has it on these logits. */
int moe_int_routed(const moe_int_writing *k, int x, int logits);

#endif
