#include "backend/plugin/bound_memory.h"
#include "core/bytes.h"
#include "core/canary.h"

#include <stdlib.h>
#include <string.h>

/* Memory of the host's that stands for any amount of the operator's. */
enum { PIECE = 1 << 26 };

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

/* Bytes of the piece that begins there. */
static int64_t piece_at(const moe_int_bound_buffer *buffer, int64_t first) {
    return buffer->bytes - first < PIECE ? buffer->bytes - first : PIECE;
}

moe_status moe_int_bound_upload(const moe_int_place *at, const moe_int_bound_buffer *buffer,
                                const void *src, uint64_t *ret_hash) {
    uint64_t hash = 0;
    for (int64_t i = 0; ret_hash && i < buffer->bytes; i += PIECE)
        hash = moe_int_hash_next(hash, (const char *)src + i, (size_t)piece_at(buffer, i));
    if (ret_hash)
        *ret_hash = hash;
    return copy(at, moe_int_bound_data(buffer), src, buffer->bytes);
}

moe_status moe_int_bound_download(const moe_int_place *at, const moe_int_bound_buffer *buffer,
                                  void *dst) {
    return copy(at, dst, moe_int_bound_data(buffer), buffer->bytes);
}

/* Memory for the largest piece of it, or NULL. */
static void *take_piece(const moe_int_place *at, const moe_int_bound_buffer *buffer) {
    const size_t bytes = (size_t)piece_at(buffer, 0);
    void *piece = malloc(bytes ? bytes : 1);
    if (!piece)
        moe_log_send(at->log, MOE_LOG_ERROR, "no memory for %zu bytes of an operator's", bytes);
    return piece;
}

moe_status moe_int_bound_hash(const moe_int_place *at, const moe_int_bound_buffer *buffer,
                              uint64_t *ret) {
    const char *data = moe_int_bound_data(buffer);
    void *piece = take_piece(at, buffer);
    moe_status status = piece ? MOE_OK : MOE_E_NOMEM;
    uint64_t hash = 0;
    for (int64_t i = 0; !status && i < buffer->bytes; i += PIECE) {
        status = copy(at, piece, data + i, piece_at(buffer, i));
        hash = status ? 0 : moe_int_hash_next(hash, piece, (size_t)piece_at(buffer, i));
    }
    free(piece);
    *ret = hash;
    return status;
}

moe_status moe_int_bound_fill(const moe_int_place *at, const moe_int_bound_buffer *buffer,
                              int byte) {
    char *data = moe_int_bound_data(buffer);
    if (!data)
        return MOE_OK;
    void *piece = take_piece(at, buffer);
    moe_status status = piece ? MOE_OK : MOE_E_NOMEM;
    if (!status)
        memset(piece, byte, (size_t)piece_at(buffer, 0));
    for (int64_t i = 0; !status && i < buffer->bytes; i += PIECE)
        status = copy(at, data + i, piece, piece_at(buffer, i));
    free(piece);
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
