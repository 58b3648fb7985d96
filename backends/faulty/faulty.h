/* A complete float32 backend with faults to order: `faulty.so:FAULT`, `:bf16.FAULT`,
 * `:fp16.FAULT`. Without a fault it is right, and written from the equations of
 * backends/README.md, not from the reference. With one it is wrong in one place of its code, where
 * FAULT(l, name) stands; src/selftest/faults.h lists all names. */
#ifndef FAULTY_FAULTY_H
#define FAULTY_FAULTY_H

#include "moeref/plugin.h"
#include "selftest/faults.h"

#include <stdbool.h>

#define FAULT(l, name) ((l)->dev->fault == MOE_INT_FAULT_##name)

typedef struct fy_device {
    moe_dtype precision; /* what stages and results are stored in */
    moe_int_fault fault;
    int32_t threads; /* most that experts are shared among */
    const moe_log *log;
} fy_device;

/* The router's own notes, where the plan is not given. */
typedef struct fy_router {
    int32_t *chosen; /* [T][K] experts in order of choice */
    int64_t *row;    /* [T][K] their rows in the plan, -1: dropped for want of capacity */
    double *raw;     /* [T][K] scores of the chosen */
    double *weight;  /* [T][K] */
    double *dz;      /* [T][R] gradient of the logits */
} fy_router;

/* What the shared expert keeps beside the results. */
typedef struct fy_shared {
    float *gate, *d_gate;        /* [T] */
    float *H, *A, *Y, *dH, *dXp; /* [T][...] as the routed experts' */
} fy_shared;

typedef struct fy_layer {
    const fy_device *dev;
    moe_layer_desc desc;
    moe_use use;
    int64_t T, R;           /* tokens; router outputs: E + n_zero */
    moe_tensors param, out; /* float32 */
    float *X, *dO;          /* [T][d] */
    uint64_t seed;
    const moe_plan *given;
    moe_plan *own, *told; /* the router's, and a spoilt copy of it */
    moe_plan *kept;       /* of the first input, where a fault holds on to it */
    fy_router router;
    fy_shared shared;
    int inputs, forwards, backwards; /* calls so far */
    double *logits;                  /* [T][R] float32 values */
} fy_layer;

/* The plan in force. */
static inline const moe_plan *fy_plan(const fy_layer *l) {
    return l->given ? l->given : l->own;
}

static inline float *fy_out(const fy_layer *l, moe_tensor_id id) {
    return l->out.t[id].data;
}

static inline const float *fy_param(const fy_layer *l, moe_tensor_id id) {
    return l->param.t[id].data;
}

static inline moe_status fy_no_memory(const fy_layer *l) {
    return moe_fail(l->dev->log, MOE_E_NOMEM, "faulty: no memory");
}

/* memory.c: zeroed floats, or NULL. */
float *fy_floats(int64_t count);
/* Results of the plan's size, for the next pass; without a plan yet, those of tokens. */
moe_status fy_make_room(fy_layer *l);

/* products.c */
typedef enum fy_product_id {
    FY_LOGITS,
    FY_UP,
    FY_DOWN,
    FY_DA,
    FY_DX,
    FY_DW1,
    FY_DW2,
    FY_DX_ROUTER,
    FY_DW_R
} fy_product_id;
/* out[r][i] = sum_k a[r][k] b[k][i] */
void fy_product(const fy_layer *l, fy_product_id id, const float *a, int64_t rows, int64_t depth,
                const float *b, int64_t width, float *out);
/* ret[i][o] = w[o][i]. */
void fy_transpose(const float *w, int64_t outs, int64_t in, float *ret);
/* Rounds in place to what the precision stores. */
void fy_store(const fy_layer *l, float *v, int64_t count);
float fy_bf16(float v);

/* act.c: a of one unit, and its derivatives. u is not read where there is no up. */
typedef struct fy_unit {
    float a, d_gate, d_up;
} fy_unit;
fy_unit fy_activate(const fy_layer *l, float g, float u);

/* expert.c */
typedef struct fy_expert {
    int64_t e; /* -1: the shared one */
    int64_t first, rows, n, hw;
    int32_t layout;
    const float *weight; /* [rows] */
    bool on_input;
    const float *W1, *b1, *W2, *b2;
    float *H, *A, *Y, *dS, *dH, *dXp, *dW1, *db1, *dW2, *db2;
} fy_expert;
fy_expert fy_expert_of(const fy_layer *l, int64_t e);
fy_expert fy_shared_expert(const fy_layer *l);
moe_status fy_expert_forward(const fy_layer *l, const fy_expert *x);
/* The rows of X that the expert sees, [rows][d], weighted where the weight is on the input. */
void fy_gather(const fy_layer *l, const fy_expert *x, float *ret);
int64_t fy_token(const fy_layer *l, const fy_expert *x, int64_t r);
/* Column of H of unit j: of its gate, or of its up. */
int64_t fy_column(const fy_layer *l, const fy_expert *x, int64_t j, int up);

/* expert_grad.c */
moe_status fy_expert_backward(const fy_layer *l, const fy_expert *x);

/* router.c, router_grad.c */
moe_status fy_route(fy_layer *l);
moe_status fy_route_backward(fy_layer *l);
/* Does this file's router do the layer's, or is the library's asked? */
bool fy_routes_itself(const moe_layer_desc *desc);
/* Softmax, softmax over the chosen or sigmoid of expert e of token t. */
double fy_score(const fy_layer *l, int64_t t, int64_t e);
/* choice.c: the K experts of token t, in order of choice. */
void fy_choose(const fy_layer *l, int64_t t, double *scores, unsigned char *allowed, int32_t *ret);

/* combine.c */
void fy_shared_gates(fy_layer *l);
void fy_combine(fy_layer *l);
moe_status fy_combine_backward(fy_layer *l);

/* stores.c: what is wrong with results that were right until they were handed out. */
void fy_spoil_forward(fy_layer *l);
void fy_spoil_backward(fy_layer *l);
moe_status fy_fetch(void *self, moe_tensor_id id, moe_tensor *dst);
moe_status fy_routing(void *self, const moe_plan **ret);

#endif
