#include "backend/plugin/bound_memory.h"
#include "core/bytes.h"
#include "core/canary.h"

#include <stdlib.h>
#include <string.h>

/* Bytes: memory of the host's that stands for any amount of the operator's; a pattern that fills
 * it; and what one of many threads copies at a time. */
enum { PIECE = 1 << 26, PATTERN = 1 << 22, CHUNK = 1 << 22 };

/* `copy` may be called by any number of threads, and where both places are the host's one of them
 * moves a tenth of what all do. A device's driver takes large copies whole. */
static moe_status copy(const moe_int_place *at, void *dst, const void *src, int64_t bytes) {
    moe_status failed = MOE_OK;
    if (bytes == 0)
        return MOE_OK;
    if (at->place != MOE_PLACE_HOST || bytes < PIECE)
        return at->slots->copy(at->op, dst, src, bytes, NULL);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < bytes; i += CHUNK) {
        const int64_t n = bytes - i < CHUNK ? bytes - i : CHUNK;
        const moe_status status =
            at->slots->copy(at->op, (char *)dst + i, (const char *)src + i, n, NULL);
        if (status) {
#pragma omp atomic write
            failed = status;
        }
    }
    return failed;
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

/* Memory of the host's, or NULL. */
static void *take(const moe_int_place *at, int64_t bytes) {
    void *piece = malloc(bytes ? (size_t)bytes : 1);
    if (!piece)
        moe_log_send(at->log, MOE_LOG_ERROR, "no memory for %lld bytes of an operator's",
                     (long long)bytes);
    return piece;
}

moe_status moe_int_bound_hash(const moe_int_place *at, const moe_int_bound_buffer *buffer,
                              uint64_t *ret) {
    const char *data = moe_int_bound_data(buffer);
    void *piece = take(at, piece_at(buffer, 0));
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
    int64_t filled = buffer->bytes < PATTERN ? buffer->bytes : PATTERN;
    void *pattern = take(at, filled);
    moe_status status = pattern ? MOE_OK : MOE_E_NOMEM;
    if (!status) {
        memset(pattern, byte, (size_t)filled);
        status = copy(at, data, pattern, filled);
    }
    free(pattern);
    for (int64_t n; !status && filled < buffer->bytes; filled += n) { /* on, by what is there */
        n = buffer->bytes - filled < filled ? buffer->bytes - filled : filled;
        status = copy(at, data + filled, data, n);
    }
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
