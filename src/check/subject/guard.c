/* Buffers that notice misuse: canaries on both sides, and a poison that no computation produces. */
#include "check/subject/guard.h"
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
        memset(ret->tensor.data, MOE_INT_POISON, ret->size);
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

/* FNV-1a's step over a 64-bit word, with a rotation that carries high bits down. */
static uint64_t hash_word(uint64_t h, uint64_t word) {
    h = (h ^ word) * 0x100000001b3u;
    return h << 31 | h >> 33;
}

uint64_t moe_int_hash(const void *data, size_t bytes) {
    const unsigned char *p = data;
    uint64_t h = 0xcbf29ce484222325u ^ bytes, word;
    for (; bytes >= sizeof word; bytes -= sizeof word, p += sizeof word) {
        memcpy(&word, p, sizeof word);
        h = hash_word(h, word);
    }
    if (bytes == 0)
        return h;
    word = 0;
    memcpy(&word, p, bytes);
    return hash_word(h, word);
}
