/* A problem's memory lent through DLPack, to be given back by a function in C: consumers may do so
 * in any thread, and when Python is no more. */
#include "python/binding/binding.h"

#include <stdlib.h>

enum { DL_CPU = 1 };

/* DLManagedTensor of dlpack.h, version 0, which every consumer takes. */
typedef struct dl_managed {
    void *data;
    int32_t device_type, device_id, ndim;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides;
    uint64_t byte_offset;
    void *context;
    void (*deleter)(struct dl_managed *);
    int64_t extents[MOE_MAX_DIMS]; /* behind the end of what DLPack knows */
} dl_managed;

static void give_back(dl_managed *m) {
    moe_py_problem_close(m->context);
    free(m);
}

void *moe_py_problem_lend(moe_py_problem *p, void *data, int ndim, const int64_t *shape, int code,
                          int bits) {
    dl_managed *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->data = data;
    m->device_type = DL_CPU;
    m->ndim = ndim;
    m->code = (uint8_t)code;
    m->bits = (uint8_t)bits;
    m->lanes = 1;
    for (int i = 0; i < ndim; i++)
        m->extents[i] = shape[i];
    m->shape = m->extents;
    m->context = p;
    m->deleter = give_back;
    moe_py_problem_hold(p);
    return m;
}
