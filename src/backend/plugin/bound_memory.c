#include "backend/plugin/bound_memory.h"
#include "core/canary.h"

#include <stdlib.h>
#include <string.h>

static moe_status copy(const moe_int_place *at, void *dst, const void *src, int64_t bytes) {
    return bytes ? at->slots->copy(at->op, dst, src, bytes, NULL) : MOE_OK;
}

static char *after(const moe_int_bound_buffer *buffer) {
    return buffer->block + MOE_INT_CANARY_BYTES + buffer->bytes;
}

void *moe_int_bound_data(const moe_int_bound_buffer *buffer) {
    return buffer->block ? buffer->block + MOE_INT_CANARY_BYTES : NULL;
}

void moe_int_bound_free(const moe_int_place *at, moe_int_bound_buffer *buffer) {
    if (buffer->block)
        at->slots->free(at->op, buffer->block);
    *buffer = (moe_int_bound_buffer){.block = NULL};
}

moe_status moe_int_bound_alloc(const moe_int_place *at, int64_t bytes, moe_int_bound_buffer *ret) {
    unsigned char canary[MOE_INT_CANARY_BYTES];
    void *block = NULL;
    moe_int_bound_free(at, ret);
    if (!bytes)
        return MOE_OK;
    moe_status status =
        at->slots->allocate(at->op, bytes + 2 * (int64_t)MOE_INT_CANARY_BYTES, &block);
    if (status)
        return status;
    *ret = (moe_int_bound_buffer){block, bytes};
    moe_int_canary_set(canary);
    status = copy(at, ret->block, canary, MOE_INT_CANARY_BYTES);
    return status ? status : copy(at, after(ret), canary, MOE_INT_CANARY_BYTES);
}

moe_status moe_int_bound_upload(const moe_int_place *at, const moe_int_bound_buffer *buffer,
                                const void *src) {
    return copy(at, moe_int_bound_data(buffer), src, buffer->bytes);
}

moe_status moe_int_bound_download(const moe_int_place *at, const moe_int_bound_buffer *buffer,
                                  void *dst) {
    return copy(at, dst, moe_int_bound_data(buffer), buffer->bytes);
}

moe_status moe_int_bound_fill(const moe_int_place *at, const moe_int_bound_buffer *buffer,
                              int byte) {
    if (!buffer->block)
        return MOE_OK;
    void *bytes = malloc((size_t)buffer->bytes);
    if (!bytes)
        return moe_fail(at->log, MOE_E_NOMEM, "no memory to fill %lld bytes",
                        (long long)buffer->bytes);
    memset(bytes, byte, (size_t)buffer->bytes);
    const moe_status status = moe_int_bound_upload(at, buffer, bytes);
    free(bytes);
    return status;
}

moe_status moe_int_bound_look(const moe_int_place *at, const moe_int_bound_buffer *buffer,
                              const char **ret_broken) {
    unsigned char first[MOE_INT_CANARY_BYTES], last[MOE_INT_CANARY_BYTES];
    *ret_broken = NULL;
    if (!buffer->block)
        return MOE_OK;
    moe_status status = copy(at, first, buffer->block, MOE_INT_CANARY_BYTES);
    if (!status)
        status = copy(at, last, after(buffer), MOE_INT_CANARY_BYTES);
    if (!status && !moe_int_canary_is_whole(first))
        *ret_broken = "before";
    else if (!status && !moe_int_canary_is_whole(last))
        *ret_broken = "after";
    return status;
}
