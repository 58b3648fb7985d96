/* Expert parallelism: a layer's tokens and experts over several ranks.
 *
 * Rank r of R holds T_r tokens, which follow those of rank r-1, and owns experts
 * [r E / R, (r+1) E / R), rounded down. Its router works at home. A rank without tokens, or without
 * experts, takes part in every exchange, forward and backward:
 *
 *     counts      pairs of each rank for each expert; exclusive scans of them on both sides are all
 *                 that anybody needs to place rows
 *     dispatch    rows of X go to the owners of their tokens' experts
 *     combine     what the experts made goes home and is summed there
 *     dispatch    rows of dO take the way of X again: the same handle, no counts
 *     combine     rows of dX~ go home and are summed there, dS beside them by pair
 *
 * A capacity (select=capacity) is one of all ranks' tokens, whose logits then go to everybody, or
 * of each `capacity_group` tokens in a row: with T_r of them, or a part, one inside each rank.
 *
 * A receiver's rows are sorted by expert, then source rank, then token: the slice of the plan that
 * one device would have. Gradients of experts stay with their owners.
 *
 * moe_ep_open puts all that around any backend: what it returns is a backend again. */
#ifndef MOEREF_EP_H
#define MOEREF_EP_H

#include "moeref/backend.h"
#include "moeref/transport.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Who multiplies weights and adds. Values are pinned. */
typedef enum moe_ep_combine {
    MOE_EP_PAIRS = 0, /* a row for each pair, home unreduced, where s*Y is summed in ascending order
                         of all experts: one device's bits, if its GEMMs' do not depend on M */
    MOE_EP_RANKS = 1, /* a row for each (token, rank): its owner sums s*Y over its own experts and
                         rounds to the wire's type, home sums ranks in ascending order in fp32 and
                         rounds once more. One more rounding point, `wire` */
    MOE_EP_COMBINE_COUNT
} moe_ep_combine;

/* "pairs", "ranks". */
MOE_API const char *moe_ep_combine_name(int32_t combine);

/* ---- slots: where experts lie ---- */

/* A slot is an expert, or a part of one, on a rank. Ranks are groups of `tp` ranks that follow one
 * another: a group's ranks have the same experts, and of each the hidden units
 * [j n / tp, (j+1) n / tp) on the j-th of them (Comet's "TP"). Group g of G owns the experts
 * [g E / G, (g+1) E / G); of an expert with several replicas (EPLB) the c-th lies on the c-th group
 * after its owner, so that no rank has two.
 *
 * A pair goes to one replica and there to all tp parts: to the replica of its home's own group if
 * that has one, else to number (token mod replicas), `token` counted over all ranks.
 * Thread-safety: plain data. */
typedef struct moe_ep_slots {
    int32_t ranks, tp;
    int64_t experts, count;
    int64_t *first;    /* [R+1] slots of rank r are first[r] .. first[r+1], by expert */
    int32_t *expert;   /* [count] */
    int32_t *replicas; /* [E] */
} moe_ep_slots;

/* replicas[i], for the first n_replicas experts; all others lie once. MOE_E_INVALID: one has fewer
 * than 1, or more than there are groups; tp does not divide the ranks. MOE_E_NOMEM. */
MOE_API moe_status moe_ep_slots_make(int64_t experts, int32_t ranks, int32_t tp,
                                     const int64_t *replicas, int64_t n_replicas,
                                     const moe_log *log, moe_ep_slots *ret);
MOE_API void moe_ep_slots_destroy(moe_ep_slots *slots);

/* The plan over slots that follows from one over experts, whose zero experts are left out. `home`
 * is the rank of its tokens, the first of which is number `token`; -1: they are everybody's,
 * tokens[r] of rank r (NULL otherwise). MOE_E_NOMEM. */
MOE_API moe_status moe_ep_slots_plan(const moe_ep_slots *slots, const moe_plan *plan, int32_t home,
                                     int64_t token, const int64_t *tokens, moe_plan **ret);

/* ---- layout: a pure function of plans ---- */

/* First of the experts that a rank, or a group of ranks, owns; of rank R it is E. */
MOE_API int64_t moe_ep_first_expert(int64_t experts, int32_t ranks, int32_t rank);

/* Who sends how much to whom. Arrays are owned by the layout.
 * Thread-safety: plain data. */
typedef struct moe_ep_layout {
    int32_t ranks;
    int32_t combine; /* moe_ep_combine */
    int64_t slots;
    int64_t *first;  /* [R+1] slots of rank r are first[r] .. first[r+1] */
    int64_t *tokens; /* [R] */
    int64_t *counts; /* [R][slots] pairs of rank r for each slot */
    int64_t *pairs;  /* [R][R] pairs of rank r whose slots rank q has */
    int64_t *copies; /* [R][R] rows that r sends to q: pairs, or tokens with a slot there, and rows
                        of nobody */
} moe_ep_layout;

/* plans[r] is of rank r's tokens over all experts, each of which lies once and whole; bins from
 * `experts` on (zero experts) stay at home. MOE_E_NOMEM. */
MOE_API moe_status moe_ep_layout_make(const moe_plan *const *plans, int32_t ranks, int64_t experts,
                                      int32_t combine, moe_ep_layout *ret);
/* The same of any slots. */
MOE_API moe_status moe_ep_layout_of_slots(const moe_plan *const *plans, const moe_ep_slots *slots,
                                          int32_t combine, moe_ep_layout *ret);
MOE_API void moe_ep_layout_destroy(moe_ep_layout *layout);

/* Rows of nobody: zeros, which make the sizes of what is sent or multiplied rounder. No result
 * changes by them. Values are pinned. */
typedef enum moe_ep_padding {
    MOE_EP_PAD_NONE = 0,
    MOE_EP_PAD_OWNER = 1, /* at the owner each slot's rows are filled up to a multiple, by pairs of
                             weight 0 behind its own (DeepEP's expert_alignment): nothing of them is
                             sent, and a slot without rows has none */
    MOE_EP_PAD_WIRE = 2,  /* rows of tokens and of what is made of them are filled up to a multiple
                             on the wire, both ways: for each source and slot, or with MOE_EP_RANKS
                             for each source and rank. The owner multiplies none of them */
    MOE_EP_PAD_CAPACITY = 3, /* the same, up to the layer's `capacity` for each source and slot,
                                however many are routed there (GShard): select=capacity, with
                                MOE_EP_PAIRS */
    MOE_EP_PADDING_COUNT
} moe_ep_padding;

/* "none", "owner", "wire", "capacity". */
MOE_API const char *moe_ep_padding_name(int32_t padding);

/* Adds to a layout's `copies` the rows of nobody that are sent; `rows`: the multiple, or the
 * capacity. */
MOE_API void moe_ep_layout_pad(moe_ep_layout *layout, int32_t padding, int64_t rows);

/* What goes over the wire. Values are pinned. */
typedef enum moe_ep_phase {
    MOE_EP_COUNTS = 0,    /* int64 for each slot, and with MOE_EP_RANKS the copies */
    MOE_EP_DISPATCH,      /* copies of X, [d] each */
    MOE_EP_WEIGHTS,       /* a pair's weight, with MOE_EP_RANKS also which copy it is of, int32 */
    MOE_EP_COMBINE,       /* rows of Y, or sums of them */
    MOE_EP_DISPATCH_BACK, /* copies of dO */
    MOE_EP_COMBINE_BACK,  /* rows of dX~, or sums of them */
    MOE_EP_WEIGHT_GRADIENTS, /* dS, one a pair */
    MOE_EP_SUMS,             /* gradients of what every rank has: router and shared expert */
    MOE_EP_RESULTS,          /* for a judge alone: results of ranks in other processes */
    MOE_EP_PHASE_COUNT
} moe_ep_phase;

/* "counts", "dispatch" ... */
MOE_API const char *moe_ep_phase_name(int32_t phase);

/* What rows of X go out as, in moe_ep_params.wire beside a moe_dtype. */
enum {
    MOE_EP_WIRE_OWN = -1,  /* as they are; rows go home in the backend's arithmetic, which rounds
                              those of one that adds fp32 rows of Y up to results in 16 bits: with
                              MOE_F32 they keep its bits */
    MOE_EP_WIRE_E4M3 = 100 /* the same, but rows of X in 8 bits: codes of e4m3, then a float32 scale
                              for each 128 of them, max |x| / 448. A token is coded once, at home;
                              its owners see codes times scales, rounded to X's type. dO goes as it
                              is, and backward takes the coding for the identity */
};

/* Element types on the wire.
 * Thread-safety: plain data. */
typedef struct moe_ep_wire {
    int64_t d;
    int32_t input;  /* moe_dtype of X and dO */
    int32_t output; /* of Y, dX~ and their sums */
    int32_t weight; /* of weights and dS */
    int32_t coded;  /* 1: X goes out in e4m3, with scales */
} moe_ep_wire;

/* Bytes from rank `from` to rank `to` in one of the phases but the last two; what a rank sends to
 * itself counts as any other. */
MOE_API int64_t moe_ep_layout_bytes(const moe_ep_layout *layout, const moe_ep_wire *wire,
                                    int32_t phase, int32_t from, int32_t to);

/* Which part of a tensor a rank has, and how the ranks' parts make one device's. Values are pinned.
 */
typedef enum moe_ep_placed {
    MOE_EP_OF_TOKENS = 0, /* its own tokens' rows: the ranks' one after the other */
    MOE_EP_OF_PAIRS,      /* its own tokens' pairs: by expert, and then by rank */
    MOE_EP_OF_EXPERTS,    /* its own experts': one after the other */
    MOE_EP_OF_ROWS,       /* its own experts' rows: one after the other */
    MOE_EP_OF_ALL         /* every rank has all of it, a sum over the ranks */
} moe_ep_placed;

static inline moe_ep_placed moe_ep_placed_of(moe_tensor_id id) {
    switch ((int)id) {
    case MOE_T_S:
    case MOE_T_DS:
        return MOE_EP_OF_PAIRS;
    case MOE_T_DW1:
    case MOE_T_DB1:
    case MOE_T_DW2:
    case MOE_T_DB2:
        return MOE_EP_OF_EXPERTS;
    case MOE_T_H:
    case MOE_T_A:
    case MOE_T_Y:
    case MOE_T_DH:
    case MOE_T_DXP:
        return MOE_EP_OF_ROWS;
    case MOE_T_DW_R:
    case MOE_T_DB_R:
    case MOE_T_DW1_SHARED:
    case MOE_T_DW2_SHARED:
    case MOE_T_DW_GATE_SHARED:
        return MOE_EP_OF_ALL;
    default:
        return MOE_EP_OF_TOKENS;
    }
}

#define MOE_EP_MAX_RANKS 256

/* What a rank in a process of its own is doing, kept where whoever started it can read it when it
 * is gone: the r-th of MOE_EP_MAX_RANKS in the file that the environment names. Thread-safety:
 * plain data. */
typedef struct moe_ep_note {
    int32_t steps;  /* exchanges that it came to */
    int32_t phase;  /* moe_ep_phase of the last */
    int32_t inside; /* 1: it has not left it */
    int32_t zero;
} moe_ep_note;
#define MOE_EP_NOTES "MOEREF_RANK_NOTES"

/* ---- a backend of several ranks ---- */

/* Thread-safety: plain data. */
typedef struct moe_ep_params {
    int32_t ranks;
    int32_t combine;         /* moe_ep_combine */
    int32_t wire;            /* moe_dtype of rows on the way home, MOE_EP_WIRE_OWN or _E4M3 */
    const int64_t *tokens;   /* [R] tokens of each rank; NULL: as even as can be, or by skew */
    int32_t tp;              /* ranks of a group that share its experts; 0: 1 */
    const int64_t *replicas; /* [n_replicas] of the first experts, NULL: each lies once */
    int64_t n_replicas;
    int32_t padding;  /* moe_ep_padding */
    int64_t pad;      /* rows that it fills up to a multiple of; 0: 1 */
    double skew;      /* 0: even; else rank r has about (r+1)^-skew parts of the tokens */
    double limit_s;   /* 0: 10 s */
    int32_t delay_us; /* before each exchange a rank sleeps up to so long, at random */
    uint64_t seed;    /* of those delays */
    const moe_transport *transport; /* NULL: threads */
    const char *fault;              /* something to do wrong, of moe_ep_faults; NULL: nothing */
} moe_ep_params;

/* What a rank has sent since the last forward began.
 * Thread-safety: plain data. */
typedef struct moe_ep_traffic {
    int64_t bytes[MOE_EP_PHASE_COUNT];
} moe_ep_traffic;

/* Faults that the front end can be told to have, for whoever tries a judge.
 * Thread-safety: constant. */
typedef struct moe_ep_fault {
    const char *name, *what;
} moe_ep_fault;
MOE_API const moe_ep_fault *moe_ep_faults(size_t *ret_count);

/* A backend whose layers run on `ranks` ranks, each of which runs its experts on one of the `count`
 * backends: on its own, or all on one, one at a time. Routing, combine, zero experts and the router
 * are the front end's, in float64 or, with sums in fp32, for everything but float64 backends. The
 * backends and what `params` points to must outlive it. A layer needs the stages Y and dXp of them
 * with MOE_EP_PAIRS. */
MOE_API moe_status moe_ep_open(moe_backend *const *inner, int32_t count,
                               const moe_ep_params *params, const moe_log *log, moe_backend **ret);

/* Of a backend that moe_ep_open made: ranks of this process. */
MOE_API void moe_ep_place(const moe_backend *backend, int32_t *ret_first, int32_t *ret_count);

/* `bytes` of each rank of this process, to all processes: ret[ranks][bytes], in rank order. Every
 * process calls it, at the same place between passes. MOE_E_DEVICE: others did not. */
MOE_API moe_status moe_ep_gather(const moe_backend *backend, const void *mine, int64_t bytes,
                                 void *ret);

/* Of the last layer that ran on it. MOE_E_INVALID: none has, or rank is in another process. */
MOE_API moe_status moe_ep_traffic_of(const moe_backend *backend, int32_t rank, moe_ep_traffic *ret);

/* How long a rank's last pass took, and what of it were exchanges: moving rows, and waiting for
 * ranks that are not there yet.
 * Thread-safety: plain data. */
typedef struct moe_ep_time {
    double pass_us, exchange_us;
} moe_ep_time;

/* Of the last layer that ran on it. MOE_E_INVALID: rank is in another process. */
MOE_API moe_status moe_ep_time_of(const moe_backend *backend, int32_t rank, int32_t backward,
                                  moe_ep_time *ret);

/* What `rank` received in the last passes of a layer of such a backend: the plan of its experts,
 * and [copies][d] rows of X, or with `backward` of dO. NULL: nothing came, or the rank is in
 * another process. Valid until the next call. */
MOE_API const moe_plan *moe_ep_received(const moe_layer *layer, int32_t rank, int32_t backward,
                                        const moe_tensor **ret_rows);

/* Where the experts of such a layer lie; owned by the layer. */
MOE_API const moe_ep_slots *moe_ep_slots_of(const moe_layer *layer);

/* The layout of the last forward of a layer of such a backend, and the wire's types. */
MOE_API moe_status moe_ep_layout_of(const moe_layer *layer, moe_ep_layout *ret,
                                    moe_ep_wire *ret_wire);

#ifdef __cplusplus
}
#endif
#endif
