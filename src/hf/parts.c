/* Pieces of checkpoints to parameters in the project's layouts: experts stacked, gate rows before
 * up rows, out-features first. Nothing is rounded. */
#include "hf/parts.h"
#include "core/elements.h"

#include <stdlib.h>
#include <string.h>

/* An expert whose gradient is not in the file: it had no tokens, and what it has is 0. */
static bool is_idle(const moe_int_part_source *src, moe_int_part part, int64_t expert) {
    char name[MOE_INT_NAME_BYTES];
    moe_tensor t;
    if (!src->gradients || !moe_int_part_is_per_expert(src, part))
        return false;
    moe_int_part_name(src, part, expert, name);
    return moe_safetensors_get(src->file, name, &t) == MOE_E_NOTFOUND;
}

moe_status moe_int_part_check(const moe_int_part_source *src, moe_int_part part, const moe_log *log,
                              moe_dtype *dtype) {
    int64_t count = moe_int_part_is_per_expert(src, part) ? src->config->layer.E : 1;
    for (int64_t e = 0; e < count; e++) {
        moe_tensor t;
        bool turn;
        if (is_idle(src, part, e))
            continue;
        moe_status status = moe_int_part_get(src, part, e, log, &t, &turn);
        if (status)
            return status;
        *dtype = moe_int_dtype_wider(*dtype, t.dtype);
    }
    return MOE_OK;
}

/* A whole stored tensor to `dst`, which points at the part's first element there. */
static void copy_stored(const moe_tensor *stored, bool turn, char *dst) {
    const int64_t *rows = stored->shape + (stored->ndim - 2);
    if (turn)
        moe_int_transpose(dst, stored->data, moe_dtype_size(stored->dtype),
                          stored->ndim == 3 ? stored->shape[0] : 1, rows[0], rows[1]);
    else
        memcpy(dst, stored->data, (size_t)moe_tensor_bytes(stored));
}

/* Where the part of `expert` begins in dst, in elements. */
static size_t part_offset(const moe_int_part_source *src, moe_int_part part, int64_t expert,
                          const moe_tensor *dst) {
    size_t offset = 0, rows = dst->ndim >= 2 ? (size_t)dst->shape[dst->ndim - 2] : 1;
    size_t cols = (size_t)dst->shape[dst->ndim - 1];
    if (dst->ndim == 3)
        offset = (size_t)expert * rows * cols;
    else if (moe_int_part_is_per_expert(src, part)) /* a bias */
        offset = (size_t)expert * cols;
    return moe_int_part_rows(src, part) == MOE_INT_ROWS_SECOND_HALF ? offset + rows / 2 * cols
                                                                    : offset;
}

/* Cuts the zero experts' matrices off the end of GATE_UP. */
static moe_status drop_zero_experts(const moe_int_part_source *src, const moe_log *log,
                                    moe_tensor *stored) {
    char name[MOE_INT_NAME_BYTES];
    size_t all = (size_t)moe_tensor_count(stored);
    stored->shape[0] -= src->config->layer.n_zero;
    for (size_t i = (size_t)moe_tensor_count(stored); i < all; i++) {
        if (moe_load(stored->data, stored->dtype, i) != 0)
            return moe_fail(log, MOE_E_FORMAT, "%s: %s is not 0 for a zero expert", src->path,
                            moe_int_part_name(src, MOE_INT_PART_GATE_UP, 0, name));
    }
    return MOE_OK;
}

/* What the stored values count with: a gradient's factor is the parameter's inverse. */
static void scale_part(const moe_int_part_source *src, moe_int_part part, moe_tensor *dst) {
    double factor = src->config->shared_factor;
    if (part != MOE_INT_PART_SHARED_DOWN || factor == 1)
        return;
    for (size_t i = 0; i < (size_t)moe_tensor_count(dst); i++) {
        double value = moe_load(dst->data, dst->dtype, i);
        moe_store(dst->data, dst->dtype, i, src->gradients ? value / factor : value * factor);
    }
}

/* Gate and up rows that alternate, gate first, become n gate rows and n up rows. */
static moe_status sort_rows(const moe_int_part_source *src, moe_int_part part, const moe_log *log,
                            moe_tensor *dst) {
    char word[MOE_INT_NAME_BYTES];
    moe_int_part_spelling(src, part, word);
    if (*word != '~')
        return MOE_OK;
    size_t row = (size_t)dst->shape[2] * moe_dtype_size(dst->dtype), n = (size_t)dst->shape[1] / 2;
    char *mixed = malloc(2 * n * row + 1);
    if (!mixed)
        return moe_fail(log, MOE_E_NOMEM, "%s: out of memory for a matrix", src->path);
    for (int64_t e = 0; e < dst->shape[0]; e++) {
        char *matrix = (char *)dst->data + (size_t)e * 2 * n * row;
        memcpy(mixed, matrix, 2 * n * row);
        for (size_t j = 0; j < 2 * n; j++)
            memcpy(matrix + (j % 2 * n + j / 2) * row, mixed + j * row, row);
    }
    free(mixed);
    return MOE_OK;
}

static bool is_of_experts(moe_int_part part) {
    moe_tensor_id id = moe_int_part_param(part);
    return id == MOE_T_W1 || id == MOE_T_B1 || id == MOE_T_W2 || id == MOE_T_B2;
}

/* All experts in one tensor: each one's matrix, or half of it, goes to its own place. */
static void copy_experts(const moe_int_part_source *src, moe_int_part part,
                         const moe_tensor *stored, bool turn, moe_tensor *dst) {
    int64_t experts = stored->shape[0];
    moe_tensor one = *stored;
    one.shape[0] = 1;
    for (int64_t e = 0; e < experts; e++) {
        one.data = (char *)stored->data + (size_t)e * (size_t)moe_tensor_bytes(&one);
        copy_stored(&one, turn,
                    (char *)dst->data +
                        part_offset(src, part, e, dst) * moe_dtype_size(dst->dtype));
    }
}

/* Of all experts' tensor those that are wanted. */
static void keep_wanted(const moe_int_part_source *src, moe_int_part part, moe_tensor *stored) {
    if (!src->count || !is_of_experts(part) || moe_int_part_is_per_expert(src, part))
        return;
    const int64_t bytes = moe_tensor_bytes(stored) / stored->shape[0];
    stored->data = (char *)stored->data + src->first * bytes;
    stored->shape[0] = src->count;
}

/* One stored tensor of the part to its place; `at` counts the experts that are wanted. */
static moe_status copy_one(const moe_int_part_source *src, moe_int_part part, int64_t expert,
                           int64_t at, const moe_log *log, moe_tensor *dst) {
    moe_tensor stored, cast = {0};
    bool turn;
    moe_status status = moe_int_part_get(src, part, expert, log, &stored, &turn);
    if (!status && moe_int_part_zero_matrices(src, part))
        status = drop_zero_experts(src, log, &stored);
    if (!status)
        keep_wanted(src, part, &stored);
    if (!status && stored.dtype != dst->dtype) {
        status = moe_tensor_cast(&stored, dst->dtype, &cast);
        if (status)
            moe_fail(log, status, "%s: cannot convert a tensor", src->path);
        stored = cast;
    }
    if (status)
        return status;
    if (stored.ndim == 3)
        copy_experts(src, part, &stored, turn, dst);
    else
        copy_stored(&stored, turn,
                    (char *)dst->data +
                        part_offset(src, part, at, dst) * moe_dtype_size(dst->dtype));
    moe_tensor_destroy(&cast);
    return MOE_OK;
}

moe_status moe_int_part_copy(const moe_int_part_source *src, moe_int_part part, const moe_log *log,
                             moe_tensor *dst) {
    const bool each = moe_int_part_is_per_expert(src, part);
    const int64_t first = each ? src->first : 0;
    const int64_t count = !each ? 1 : src->count ? src->count : src->config->layer.E;
    for (int64_t e = first; e < first + count; e++) {
        if (is_idle(src, part, e)) /* dst is 0 */
            continue;
        moe_status status = copy_one(src, part, e, e - first, log, dst);
        if (status)
            return status;
    }
    scale_part(src, part, dst);
    return sort_rows(src, part, log, dst);
}
