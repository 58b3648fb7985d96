/* What the faults of the broken backend see. */
#ifndef MOE_TESTS_BROKEN_PLUGIN_H
#define MOE_TESTS_BROKEN_PLUGIN_H

#include "made_up_board.h"
#include "moeref/plugin.h"
#include "moeref/reference.h"

#include <string.h>

typedef struct broken_device {
    char fault[32];
    moe_dtype precision;
    const moe_log *log;
    made_up_board board;
} broken_device;

typedef struct broken_layer {
    broken_device *dev;
    moe_layer_desc desc;
    moe_tensors in; /* views */
    moe_plan *plan; /* copy of the given one, possibly spoilt; NULL: routes itself */
    moe_plan *lie;  /* what routing() tells, where it is spoilt */
    moe_plan *none; /* what it tells where that is no plan */
    uint64_t seed;
    int runs;
    moe_tensor own; /* a spoilt copy of one input */
    moe_reference_result *result;
} broken_layer;

/* Calls of forward so far, of all layers of this process. */
extern MOE_API int broken_forwards;

static inline int has(const broken_layer *l, const char *fault) {
    return strcmp(l->dev->fault, fault) == 0;
}

/* What becomes of the right values v of tensor `id`. */
void broken_spoil(const broken_layer *l, moe_tensor_id id, float *v, int64_t count);
/* Writes outside of dst. */
void broken_misplace(const broken_layer *l, moe_tensor_id id, moe_tensor *dst);

#endif
