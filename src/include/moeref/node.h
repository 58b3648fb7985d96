/* Several GPUs: descriptions of nodes, and what moving rows between their GPUs takes. sim/README.md
 * states the equations and how far they were held against measurements. */
#ifndef MOEREF_NODE_H
#define MOEREF_NODE_H

#include "moeref/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A moe_node is a description: named numbers ("link_gbps" ...) and, for each carrier, a library's
 * kernel that moves rows or buffers, what it gets out of the links ("alltoall.link_eff" ...).
 * Thread-safety: const calls from any thread; moe_node_set and moe_node_what_if from one. */
typedef struct moe_node moe_node;

/* Names of the shipped descriptions, NULL-terminated. */
MOE_API const char *const *moe_node_names(void);

/* Loads a shipped description by name, or a file where `spec` holds a '/' or ends in ".json".
 * MOE_E_NOTFOUND, MOE_E_IO, MOE_E_FORMAT, MOE_E_NOMEM. */
MOE_API moe_status moe_node_load(const char *spec, const moe_log *log, moe_node **ret);
/* A description of its own, to be changed. MOE_E_NOMEM. */
MOE_API moe_status moe_node_clone(const moe_node *node, moe_node **ret);
MOE_API void moe_node_destroy(moe_node **node);

/* Texts of a description live as long as it: its name, the GPU that it has (as moe_gpu_load takes
 * it), a line about it, and which measurements it was held to. */
MOE_API const char *moe_node_name(const moe_node *node);
MOE_API const char *moe_node_gpu(const moe_node *node);
MOE_API const char *moe_node_brief(const moe_node *node);
MOE_API const char *moe_node_held_to(const moe_node *node);

/* The i-th carrier; NULL past the end. derived: the file says nothing of it, and what holds is the
 * node's named in *ret_home. */
MOE_API const char *moe_node_carrier(const moe_node *node, size_t i, bool *ret_derived,
                                     const char **ret_home);

/* As moe_gpu_get and so on, for "KEY" and "CARRIER.KEY". */
MOE_API moe_status moe_node_get(const moe_node *node, const char *key, double *ret);
MOE_API moe_status moe_node_set(moe_node *node, const char *key, double value, const moe_log *log);
MOE_API moe_status moe_node_what_if(moe_node *node, const char *text, const moe_log *log);
/* Whether a what-if is of a node's number. */
MOE_API bool moe_node_has(const moe_node *node, const char *what_if);
MOE_API moe_status moe_node_write(const moe_node *node, const char *path, const char *kind,
                                  const char *source, const moe_log *log);

/* Names of the methods of several devices, NULL-terminated, and a line about each; NULL for an
 * unknown name. */
MOE_API const char *const *moe_ep_methods(void);
MOE_API const char *moe_ep_method_brief(const char *method);

/* How a layer is spread.
 * Thread-safety: plain data. */
typedef struct moe_ep_options {
    const char *method;
    const char *compute; /* whose kernels run on each GPU, of moe_methods; NULL: grouped_mm, or
                            moeref in moeref_ep on its own architecture */
    int64_t ep, tp;      /* groups of experts, and GPUs that share each expert's width */
    int64_t chunks;      /* at most 64; 0: the best of 1, 2, 4 ..., for each pass */
    int64_t comm_sms;    /* SMs that communicate, where some do nothing else; 0: the best */
    double beside_us;    /* hecate: work outside the layer that transfers may hide behind */
    double cached;       /* hybrimoe: share of the experts whose weights are on the GPU */
    int32_t serial;      /* 1: nothing overlaps */
    double beside_bytes; /* fsmoe: gradients outside the layer that its backward pass all-reduces
                            where the network is idle */
} moe_ep_options;

/* What the rank with most work does. Plain data.
 * Thread-safety: plain data. */
typedef struct moe_ep_task {
    const char *name; /* static */
    const char *row;  /* static: "SMs", "link out" ... */
    const char *also; /* another row that it keeps busy; NULL: none */
    double start_us, us, bytes;
    int32_t chunk, backward;
} moe_ep_task;

/* Thread-safety: plain data. */
typedef struct moe_ep_prediction {
    moe_ep_task *tasks; /* [n_tasks] in the order in which they were given out */
    size_t n_tasks;
    double forward_us, backward_us, total_us;
    double serial_us;       /* the sum of all tasks */
    double busiest_us;      /* no schedule is shorter */
    const char *busiest;    /* its row */
    double link_us;         /* of the links, out */
    double exposed_us;      /* total less the SMs' work */
    double mean_us, max_us; /* experts' work, over ranks: the straggler waits for nobody */
    double sent_bytes;      /* off the rank that sends or receives most */
    int64_t chunks[2];      /* of forward and backward */
    int64_t comm_sms;
} moe_ep_prediction;

/* Predicts a case whose T tokens are each rank's. MOE_E_NOTFOUND, MOE_E_UNSUPPORTED, MOE_E_INVALID,
 * MOE_E_NOMEM. */
MOE_API moe_status moe_predict_ep(const moe_node *node, const moe_gpu *gpu, const moe_case *c,
                                  const moe_workload *state, const moe_ep_options *options,
                                  const moe_log *log, moe_ep_prediction **ret);
MOE_API void moe_ep_prediction_destroy(moe_ep_prediction **prediction);

#ifdef __cplusplus
}
#endif
#endif
