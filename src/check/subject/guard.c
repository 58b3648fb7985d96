/* Buffers that notice misuse: canaries on both sides, and a poison that no computation produces. */
#include "check/subject/guard.h"
#include "core/bytes.h"
#include "core/canary.h"
#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

enum { CANARY = MOE_INT_CANARY_BYTES };

static unsigned char *after(const moe_int_guarded *g) {
    return g->block + CANARY + g->size;
}

moe_status moe_int_guard_reserve(const moe_tensor *shape, moe_dtype dtype, moe_int_guarded *ret) {
    moe_int_guarded g = {.tensor = *shape};
    g.tensor.dtype = dtype;
    int64_t bytes = moe_tensor_bytes(&g.tensor);
    if (bytes < 0)
        return MOE_E_INVALID;
    g.size = (size_t)bytes;
    g.block = moe_int_allocate(g.size + 2 * (size_t)CANARY);
    if (!g.block)
        return MOE_E_NOMEM;
    moe_int_canary_set(g.block);
    moe_int_canary_set(after(&g));
    g.tensor.data = g.block + CANARY;
    *ret = g;
    return MOE_OK;
}

moe_status moe_int_guard_alloc(const moe_tensor *shape, moe_dtype dtype, moe_int_guarded *ret) {
    moe_status status = moe_int_guard_reserve(shape, dtype, ret);
    if (!status)
        moe_int_fill(ret->tensor.data, MOE_INT_POISON, ret->size);
    return status;
}

void moe_int_guard_destroy(moe_int_guarded *g) {
    free(g->block);
    memset(g, 0, sizeof *g);
}

void moe_int_guard_move(moe_int_guarded *from, moe_int_guarded *to) {
    *to = *from;
    memset(from, 0, sizeof *from);
}

const char *moe_int_guard_broken(const moe_int_guarded *g) {
    if (!moe_int_canary_is_whole(g->block))
        return "before";
    return moe_int_canary_is_whole(after(g)) ? NULL : "after";
}

bool moe_int_is_poison(const moe_tensor *tensor, int64_t index) {
    size_t size = moe_dtype_size(tensor->dtype);
    const unsigned char *p = (const unsigned char *)tensor->data + (size_t)index * size;
    for (size_t i = 0; i < size; i++)
        if (p[i] != MOE_INT_POISON)
            return false;
    return true;
}
