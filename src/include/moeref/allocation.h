/* What this project's own CUDA backend allocates for a layer, to the byte and without a GPU. The
 * ledger of a prediction (model.h) says what is alive, and when; this says what memory the backend
 * takes for it, with its lists of rows, its scratch and their alignment. */
#ifndef MOEREF_ALLOCATION_H
#define MOEREF_ALLOCATION_H

#include "moeref/model.h"
#include "moeref/plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A buffer of the backend `cuda`.
 * Thread-safety: plain data. */
typedef struct moe_allocated {
    const char *name; /* static: "H", "token of pair" ... */
    int64_t bytes;    /* as asked of the device */
    int32_t kind;     /* moe_live_kind: cached from forward to backward, or work */
} moe_allocated;

#define MOE_ALLOCATED_MAX 80

/* Thread-safety: plain data. */
typedef struct moe_allocation {
    moe_allocated buffers[MOE_ALLOCATED_MAX]; /* of `own`: all live as long as the layer */
    size_t n_buffers;
    int64_t pairs;            /* rows that there is room for, zero experts' included */
    int64_t gradients;        /* bytes of parameters' gradients, which moe_memory does not count */
    moe_memory own;           /* what moe_layer_memory says of the backend `cuda` */
    moe_operator_sizes sizes; /* what moe_operator_sizes_for says of its operator */
    moe_memory bound;  /* and moe_layer_memory of `cuda:bound`, which runs that: converted weights,
                          `cached`, and with it the larger workspace */
    char unbound[160]; /* "", or why there is no such operator, and sizes and bound are 0 */
} moe_allocation;

/* Sizes depend on the GPU's SMs and architecture: without wgmma (`cuda:portable` too) more of what
 * lies between products is stored. MOE_E_UNSUPPORTED: the backend does not run this case, or only
 * over several ranks; MOE_E_NOMEM. Thread-safety: any thread. */
MOE_API moe_status moe_allocation_of(const moe_gpu *gpu, const moe_case *c, const moe_log *log,
                                     moe_allocation *ret);

#ifdef __cplusplus
}
#endif
#endif
