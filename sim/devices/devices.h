/* Internal: a layer spread over several GPUs, as a method sees it. */
#ifndef MOE_SIM_DEVICES_DEVICES_H
#define MOE_SIM_DEVICES_DEVICES_H

#include "sim/devices/timeline.h"
#include "sim/net/transfer.h"

/* METHOD(constant, name): a row here and one file sim/methods/NAME.c, which defines
 * moe_int_devices_NAME. */
/* clang-format off */
#define MOE_INT_EP_METHODS(METHOD)                                                                 \
    METHOD(SERIAL, ep_serial)                                                                      \
    METHOD(ALLREDUCE, allreduce)                                                                   \
    METHOD(DEEPEP, deepep)                                                                         \
    METHOD(COMET, comet)                                                                           \
    METHOD(FLASHMOE, flashmoe)                                                                     \
    METHOD(FSMOE, fsmoe)                                                                           \
    METHOD(TUTEL, tutel)                                                                           \
    METHOD(HECATE, hecate)                                                                         \
    METHOD(MOETUNER, moetuner)                                                                     \
    METHOD(T3, t3)                                                                                 \
    METHOD(HYBRIMOE, hybrimoe)                                                                     \
    METHOD(MOEREF_EP, moeref_ep)
/* clang-format on */

#define MOE_INT_CHUNKS_MOST 64

#define MOE_INT_EP_CONSTANT(constant, name) MOE_INT_EP_##constant,
typedef enum moe_int_ep_method {
    MOE_INT_EP_METHODS(MOE_INT_EP_CONSTANT) MOE_INT_EP_COUNT
} moe_int_ep_method;

typedef struct moe_int_devices {
    const moe_node *node;
    const moe_gpu *gpu;
    const moe_layer_desc *layer;
    const moe_workload *state;
    const moe_ep_options *o;
    const moe_log *log;
    const char *compute;
    const int64_t *counts; /* [E] pairs of each expert, from all ranks */
    int32_t *owner;        /* [E] the group that has the expert */
    double ranks, ep, tp;
    double hosts, here; /* hosts in use; ranks of the emptiest of them */
    double peers;       /* of those, with the same part of the width: one of each group */
    double T, E, K, d;  /* T: tokens of a rank */
    double element;     /* bytes of a value on the wire and in memory */
    int64_t group;      /* the group with most pairs: whose timeline it is */
    int64_t chunks;     /* at least 1 */
    int64_t comm_sms;
    bool backward;
    moe_int_timeline t;
    moe_status status; /* the first failure */
} moe_int_devices;

typedef struct moe_int_devices_method {
    const char *brief;
    void (*run)(moe_int_devices *x); /* adds the tasks of one pass */
    int64_t chunks_most;             /* of its free number, 1, 2, 4 ...; 0: it has none */
    bool senders;                    /* some SMs do nothing but send */
    bool forward_only;
    bool whole;                        /* ranks do not share an expert's width */
    bool replicated;                   /* the T tokens are all ranks' */
    void (*place)(moe_int_devices *x); /* chooses owner[]; NULL: contiguous */
} moe_int_devices_method;

#define MOE_INT_EP_DECLARED(constant, name)                                                        \
    extern const moe_int_devices_method moe_int_devices_##name;
MOE_INT_EP_METHODS(MOE_INT_EP_DECLARED)

moe_status moe_int_devices_check(const moe_node *node, const moe_case *c, const moe_ep_options *o,
                                 const moe_int_devices_method *m, const moe_log *log);

/* Experts' work of a pass, over all groups; and, after the last pass, the sums of the timeline. */
void moe_int_devices_set_spread(moe_int_devices *x, moe_ep_prediction *p);
void moe_int_devices_finish(moe_int_devices *x, moe_ep_prediction *p);

/* What one GPU does for some experts in the pass, us. */
typedef struct moe_int_local {
    double first;  /* up to H and A; or dA and dH */
    double second; /* Y; or dX~ */
    double sum;    /* over a token's experts: O or dX */
    double rest;   /* weight gradients */
} moe_int_local;

/* Of the experts from `first` to before `end` of a group, with a share of their rows. */
moe_int_local moe_int_devices_local(moe_int_devices *x, int64_t group, int64_t first, int64_t end,
                                    double share);
/* Of all of the group's experts. */
moe_int_local moe_int_devices_all(moe_int_devices *x, double share);
static inline double moe_int_local_us(const moe_int_local *l) {
    return l->first + l->second + l->sum + l->rest;
}

int64_t moe_int_devices_experts(const moe_int_devices *x, int64_t group);
double moe_int_devices_pairs(const moe_int_devices *x, int64_t group);

/* The load of the slowest rank: a copy for each (token, rank), or for each (token, expert), with
 * `share` of the tokens and rows of `row` bytes. */
moe_int_load moe_int_devices_tokens(const moe_int_devices *x, double share, double row);
moe_int_load moe_int_devices_rows(const moe_int_devices *x, double share, double row);

/* As moe_int_devices_tokens, but a row crosses the network once for each host, to the rank of the
 * same number there, which passes it on to the ranks of its own. */
moe_int_load moe_int_devices_forwarded(const moe_int_devices *x, double share, double row);

/* Time of the same sums as a library's memory-bound kernel: `bytes` through memory. */
double moe_int_devices_stream(const moe_int_devices *x, double bytes);

/* A transfer after task a on the links out and in, or where `far` on network and links. */
int moe_int_devices_send(moe_int_devices *x, const char *name, bool far, double us, double bytes,
                         int a);

/* The same by a carrier. */
int moe_int_devices_move(moe_int_devices *x, const char *name, moe_int_carrier carrier,
                         const moe_int_load *load, int a);

/* The tensor-parallel group's part before and behind the experts: all-gather of the rows that came
 * (those of `load`, each rank's) and reduce-scatter of their results; none where tp is 1. */
int moe_int_devices_gather(moe_int_devices *x, const moe_int_load *load, int a);
int moe_int_devices_scatter(moe_int_devices *x, const moe_int_load *load, int a);

/* Names by pass. */
static inline const char *moe_int_pass_name(const moe_int_devices *x, const char *forward,
                                            const char *backward) {
    return x->backward ? backward : forward;
}

extern const moe_int_devices_method *const moe_int_devices_methods[MOE_INT_EP_COUNT];

#endif
