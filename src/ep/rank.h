/* A layer over ranks, and one rank of it. */
#ifndef MOEREF_EP_RANK_H
#define MOEREF_EP_RANK_H

#include "backend/registry.h"
#include "ep/handle.h"
#include "moeref/stage.h"

#include <pthread.h>
#include <stdbool.h>

/* A backend that ranks run their experts on; one rank at a time. */
typedef struct moe_int_ep_inner {
    moe_backend *backend;
    pthread_mutex_t lock;
} moe_int_ep_inner;

typedef struct moe_int_ep_device {
    moe_int_ep_inner *inner;
    int32_t n_inner;
    moe_ep_params params; /* tokens, replicas: copies, owned, or NULL; wire: of rows home alone */
    int64_t *tokens, *replicas;
    bool coded; /* X goes out in e4m3 */
    moe_int_ep_fault fault;
    const moe_transport *transport;
    void *group;          /* opened again after a fault */
    int32_t first, count; /* ranks of this process */
    moe_log log;
    moe_int_caller *caller;                   /* faults go there */
    moe_ep_traffic traffic[MOE_EP_MAX_RANKS]; /* of the last layer that ran */
    moe_ep_time time[MOE_EP_MAX_RANKS][2];    /* likewise; forward, backward */
} moe_int_ep_device;

/* What the experts of a rank run on: layers of the inner backend, made for a number of rows. */
typedef struct moe_int_ep_experts {
    moe_layer_desc desc;
    moe_tensors params; /* views, but for parts of experts */
    bool parts;         /* params are copies, owned */
    moe_layer *layer;
    int64_t tokens;   /* that it was made for */
    moe_tensor X, dO; /* that it sees, owned */
} moe_int_ep_experts;

struct moe_int_ep_layer;

typedef struct moe_int_ep_rank {
    struct moe_int_ep_layer *layer;
    moe_int_comm comm;
    moe_int_ep_inner *inner;
    moe_status status;
    char why[200];    /* a failure of its own, without the transport's */
    double lap_s;     /* when its last stage ended */
    moe_ep_time time; /* of its last pass */
    double stage_us[MOE_STAGE_COUNT];

    /* home */
    int64_t token, T; /* its tokens of all */
    moe_tensor X, dO; /* views of the caller's */
    double *x, *dy;   /* [T][d] */
    double *logits;   /* [T][E+n_zero]; NULL: the plan was given */
    moe_plan *plan;   /* of its tokens */
    moe_plan *sent;   /* the same over slots */
    int64_t *row_of;  /* [pairs][width] rows in `sent` of a pair of `plan`, by rank; -1: none */
    int32_t width;
    double *gate;   /* [T] weights of the shared expert */
    double *O, *dX; /* [T][d] */
    double *dS;     /* [all pairs] */
    double *sums;   /* gradients that every rank has, once they are sums */

    /* owner */
    moe_int_handle handle, former; /* former: of the input before */
    moe_int_ep_experts experts, shared;
    moe_tensor dW[4]; /* of its experts, as moe_int_ep_expert_gradients lists them */
    moe_tensor dW_shared[2];
} moe_int_ep_rank;

typedef struct moe_int_ep_layer {
    moe_int_ep_device *dev;
    moe_layer_desc desc;
    moe_use use;
    moe_support inner;  /* what the backend of the experts says */
    moe_tensors params; /* views */
    moe_ep_wire wire;
    moe_dtype held; /* in which stages are fetched: fp32, or fp64 of float64 backends */
    moe_input input;
    moe_ep_slots slots;
    moe_int_pad pad;
    moe_int_ep_rank *rank; /* [count] those of this process */
    moe_plan *plan;        /* of all tokens, after a forward */
    moe_plan **plans;      /* [R] of each rank's */
} moe_int_ep_layer;

/* Where one rank's tokens begin. */
int64_t moe_int_ep_first_token(const moe_int_ep_layer *l, int32_t rank);

/* open.c: the group's ranks meet; opened again after a fault. */
moe_status moe_int_ep_open_group(moe_int_ep_device *dev);
void moe_int_ep_close_group(moe_int_ep_device *dev);
void moe_int_ep_close_device(void *dev);

/* front.c */
extern const moe_plugin moe_int_ep_table;

/* rank.c: the two passes of one rank. */
moe_status moe_int_ep_forward(moe_int_ep_rank *r);
moe_status moe_int_ep_backward(moe_int_ep_rank *r);
void moe_int_ep_rank_clear(moe_int_ep_rank *r);

/* What the rank's experts made of one kind, as rows of `dtype`: one narrower than the stage's
 * rounds here. A fresh tensor; something has come to the rank. */
moe_status moe_int_ep_made(moe_int_ep_rank *r, moe_tensor_id id, moe_dtype dtype, moe_tensor *ret);

/* A stage ends now; MOE_STAGE_COUNT: a pass begins. */
void moe_int_ep_lap(moe_int_ep_rank *r, moe_stage stage);

/* home.c: what a rank does with its own tokens alone. */
moe_status moe_int_ep_load(moe_int_ep_rank *r);
moe_status moe_int_ep_route(moe_int_ep_rank *r);
void moe_int_ep_gate(moe_int_ep_rank *r);
/* O and dX start from what came home, in ascending order of experts or ranks. */
moe_status moe_int_ep_sum_pairs(moe_int_ep_rank *r, const moe_tensor *rows, bool backward);
void moe_int_ep_sum_ranks(moe_int_ep_rank *r, const moe_tensor *rows, bool backward);
/* dS of each pair, from those of its rows. */
void moe_int_ep_sum_weight_gradients(moe_int_ep_rank *r, const void *rows, moe_dtype type);
/* Zero experts, and Y [T][d] of the shared expert; NULL: there is none. */
void moe_int_ep_finish_forward(moe_int_ep_rank *r, const double *shared);
/* dX [T][d] of the shared expert and d_gate [T] of its weight. */
moe_status moe_int_ep_finish_backward(moe_int_ep_rank *r, const double *shared,
                                      const double *d_gate);

/* spread.c: fills `sent`, by which rows go to the slots of their experts. */
moe_status moe_int_ep_spread(moe_int_ep_rank *r);

/* parts.c: does every rank have whole experts, each once? */
bool moe_int_ep_is_plain(const moe_ep_slots *slots);
/* Hidden units of an expert of which a rank has a part. */
int64_t moe_int_ep_first_unit(const moe_int_ep_layer *l, int32_t rank);
int64_t moe_int_ep_units(const moe_int_ep_layer *l, int32_t rank);
/* The experts of a rank's slots, cut to its units; owned. */
moe_status moe_int_ep_cut(const moe_int_ep_layer *l, int32_t rank, moe_tensors *ret);
/* Gradients of all slots, rank by rank as those have them and in the type `held`: put together in
 * ret, shaped as experts', the replicas of one added in the order of their ranks. */
void moe_int_ep_join(const moe_int_ep_layer *l, moe_tensor_id id, const void *slots, double *ret);
/* Elements of one slot's on a rank. */
int64_t moe_int_ep_slot_elements(const moe_int_ep_layer *l, moe_tensor_id id, int32_t rank);

/* sums.c */
/* Elements of the gradient `id` in rank->sums, and where they begin; 0: the layer has none. */
int64_t moe_int_ep_sum_of(const moe_int_ep_layer *l, moe_tensor_id id, int64_t *ret_first);
moe_status moe_int_ep_sum_gradients(moe_int_ep_rank *r, const double *d_logits,
                                    const double *d_gate_logit);

/* owner.c: the experts of a rank, on the inner backend. */
extern const moe_tensor_id moe_int_ep_expert_gradients[4], moe_int_ep_shared_gradients[2];
moe_status moe_int_ep_describe(const moe_int_ep_layer *l, int32_t rank, moe_int_ep_rank *ret);
moe_status moe_int_ep_supports(const moe_int_ep_device *dev, const moe_layer_desc *desc,
                               const moe_use *use, moe_support *ret);
/* X and dO of `experts` are filled; runs them by `plan` and fetches one stage or result. */
moe_status moe_int_ep_run_forward(moe_int_ep_rank *r, moe_int_ep_experts *e, const moe_plan *plan);
moe_status moe_int_ep_run_backward(moe_int_ep_rank *r, moe_int_ep_experts *e, const moe_plan *plan);
/* A fresh tensor. */
moe_status moe_int_ep_fetch(moe_int_ep_rank *r, const moe_int_ep_experts *e, const moe_plan *plan,
                            moe_tensor_id id, moe_dtype dtype, moe_tensor *ret);
moe_status moe_int_ep_room(moe_int_ep_experts *e, int64_t tokens, moe_dtype dtype, bool backward);
void moe_int_ep_experts_destroy(moe_int_ep_experts *e);

/* fetch.c */
moe_status moe_int_ep_gather_plan(moe_int_ep_layer *l);
moe_status moe_int_ep_layer_fetch(void *layer, moe_tensor_id id, moe_tensor *dst);

/* A step of the arithmetic that sums are made in: fp32, or float64 of float64 backends. */
static inline double moe_int_ep_step(const moe_int_ep_layer *l, double x) {
    return l->held == MOE_F64 ? x : (double)(float)x;
}

static inline int64_t moe_int_ep_real_pairs(const moe_int_ep_rank *r) {
    return r->plan->offsets[r->layer->desc.E];
}

#endif
