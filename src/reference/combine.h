/* What joins the experts: weighted sums per token, zero experts, the shared expert's gate, and the
 * router's gradients. */
#ifndef MOE_REFERENCE_COMBINE_H
#define MOE_REFERENCE_COMBINE_H

#include "core/memory.h"
#include "reference/emulated.h"
#include "reference/real.h"

#define run_state        REAL(moe_int_run_state)
#define shared_state     REAL(moe_int_shared_state)
#define fill_shared_gate REAL(moe_int_fill_shared_gate)
#define combine_forward  REAL(moe_int_combine_forward)
#define combine_backward REAL(moe_int_combine_backward)

typedef struct shared_state {
    real *w_gate;        /* [d], or NULL without a gate */
    real *gate, *d_gate; /* [T] the gate's value (1 without one) and its gradient */
    real *Y, *dX;        /* [T][d]; dX through the expert alone */
} shared_state;

typedef struct run_state {
    const moe_layer_desc *desc;
    const moe_tensors *in;
    const moe_reference_params *params;
    const moe_log *log;
    moe_reference_result *res;
    int threads;
    bool plan_given;
    moe_dtype storage;
    uint32_t points;           /* of the recipe: what is rounded to `storage` */
    int64_t T, pairs;          /* pairs of real experts */
    real *X, *dO;              /* [T][d] */
    double *logits, *d_logits; /* [T][E + n_zero] */
    moe_int_chain chain;       /* as ffn.h has it; without a unit: none */
    int32_t *gates_first;
    shared_state shared;
    moe_int_room weights[2]; /* W1 and W2 of one expert after another */
} run_state;

/* A result's values; NULL: it is not made. */
static inline real *out_of(const run_state *r, moe_tensor_id id) {
    return r->res->out.t[id].data;
}

/* Fills shared.gate. */
void fill_shared_gate(run_state *r);

/* O. */
void combine_forward(run_state *r);

/* dS of zero experts, dX, dW_r, db_r, dw_gate_shared. MOE_E_NOMEM. */
moe_status combine_backward(run_state *r);

#endif
