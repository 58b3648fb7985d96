/* Internal: what is around a model's MoE layers, while it becomes a list of kernels. */
#ifndef MOE_SIM_AROUND_H
#define MOE_SIM_AROUND_H

#include "moeref/whole.h"
#include "sim/kernels/list.h"

/* What products cost in a type. Attention, router and head stay in 16 bits, whatever the operands
 * of the other products. */
typedef struct moe_int_whole_type {
    moe_int_rates r;
    double tiled, operand, weight;
} moe_int_whole_type;

typedef struct moe_int_whole {
    const moe_model_shape *m;
    double T, context; /* context: keys that a token attends to, on average */
    bool decoding, forward, backward;
    bool routed; /* the MoE layers count their router */
    moe_int_list l;
    size_t end[MOE_PART_COUNT]; /* kernels of the list up to and with this part */
    moe_int_whole_type own, plain;
    double weights; /* bytes */
    double values;  /* of the weights, for their gradients */
    double flops;   /* of attention */
    double kept;    /* bytes of keys and values */
} moe_int_whole;

/* [rows][k] times weights [k][n], `times` times: and, backward, the gradients of both. Operands
 * with scales of their own are made before. */
void moe_int_whole_product(moe_int_whole *w, double rows, double n, double k, int64_t times);
/* A kernel of bytes alone, and backward one that reads both and writes what it had read. */
void moe_int_whole_stream(moe_int_whole *w, double read, double write);

static inline int64_t moe_int_attending(const moe_model_shape *m) {
    return m->full + m->windowed;
}

/* Attention: its projections; products with keys and values; turns of queries and keys by their
 * positions, and their norms; and the bytes that are kept, w->kept. */
void moe_int_whole_projections(moe_int_whole *w);
void moe_int_whole_attention(moe_int_whole *w);
void moe_int_whole_turns(moe_int_whole *w);
void moe_int_whole_keep(moe_int_whole *w);

#endif
