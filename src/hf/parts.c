/* Pieces of checkpoints to parameters in the project's layouts: experts stacked, gate rows before
 * up rows, out-features first. Nothing is rounded. */
#include "core/elements.h"
#include "hf/hf.h"

#include <stdio.h>
#include <string.h>

typedef enum rows_of { ROWS_ALL, ROWS_FIRST_HALF, ROWS_SECOND_HALF } rows_of;

static const struct {
    moe_tensor_id param;
    rows_of rows;
} parts[MOE_INT_PART_COUNT] = {
    [MOE_INT_PART_ROUTER] = {MOE_T_W_R, ROWS_ALL},
    [MOE_INT_PART_ROUTER_BIAS] = {MOE_T_B_R, ROWS_ALL},
    [MOE_INT_PART_SELECT_BIAS] = {MOE_T_B_SELECT, ROWS_ALL},
    [MOE_INT_PART_GATE_UP] = {MOE_T_W1, ROWS_ALL},
    [MOE_INT_PART_GATE] = {MOE_T_W1, ROWS_FIRST_HALF},
    [MOE_INT_PART_UP] = {MOE_T_W1, ROWS_SECOND_HALF},
    [MOE_INT_PART_DOWN] = {MOE_T_W2, ROWS_ALL},
    [MOE_INT_PART_GATE_UP_BIAS] = {MOE_T_B1, ROWS_ALL},
    [MOE_INT_PART_DOWN_BIAS] = {MOE_T_B2, ROWS_ALL},
    [MOE_INT_PART_SHARED_GATE] = {MOE_T_W1_SHARED, ROWS_FIRST_HALF},
    [MOE_INT_PART_SHARED_UP] = {MOE_T_W1_SHARED, ROWS_SECOND_HALF},
    [MOE_INT_PART_SHARED_DOWN] = {MOE_T_W2_SHARED, ROWS_ALL},
    [MOE_INT_PART_SHARED_SIGMOID] = {MOE_T_W_GATE_SHARED, ROWS_ALL},
};

moe_tensor_id moe_int_part_param(moe_int_part part) {
    return parts[part].param;
}

bool moe_int_part_used(const moe_int_part_source *src, moe_int_part part) {
    return src->names[part] && moe_tensor_exists(&src->config->layer, parts[part].param, 0);
}

/* One tensor per expert, rather than one for all. */
static bool is_per_expert(const moe_int_part_source *src, moe_int_part part) {
    return strstr(src->names[part], "%d") != NULL;
}

const char *moe_int_part_name(const moe_int_part_source *src, moe_int_part part, int64_t expert,
                              char *buf) {
    const char *name = src->names[part], *hole = strstr(name, "%d");
    if (hole)
        snprintf(buf, MOE_INT_NAME_BYTES, "%s%.*s%lld%s", src->prefix, (int)(hole - name), name,
                 (long long)expert, hole + 2);
    else
        snprintf(buf, MOE_INT_NAME_BYTES, "%s%s", src->prefix, name);
    return buf;
}

/* Shape of the part's parameter. */
static moe_tensor param_shape(const moe_int_part_source *src, moe_int_part part) {
    moe_tensor t = {0};
    moe_tensor_shape(&src->config->layer, parts[part].param, 0, 0, 0, &t);
    return t;
}

/* Shape of one tensor of the part in the file. */
static moe_tensor stored_shape(const moe_int_part_source *src, moe_int_part part) {
    moe_tensor t = param_shape(src, part);
    if (t.ndim >= 2 && parts[part].rows != ROWS_ALL)
        t.shape[t.ndim - 2] /= 2;
    if (t.ndim == 3 && is_per_expert(src, part)) {
        t.ndim = 2;
        t.shape[0] = t.shape[1];
        t.shape[1] = t.shape[2];
    } else if (t.ndim == 3 && src->config->family->transposed) {
        int64_t rows = t.shape[1];
        t.shape[1] = t.shape[2];
        t.shape[2] = rows;
    }
    if (part == MOE_INT_PART_GATE_UP && src->zero_experts)
        t.shape[0] += src->config->layer.n_zero;
    return t;
}

moe_status moe_int_hf_get(const moe_safetensors *file, const char *path, const char *name,
                          const moe_tensor *shape, const moe_log *log, moe_tensor *ret) {
    char is[96], should[96];
    moe_tensor t;
    moe_status status = moe_safetensors_get(file, name, &t);
    if (status == MOE_E_NOTFOUND)
        return moe_fail(log, MOE_E_FORMAT, "%s has no tensor %s", path, name);
    if (status == MOE_E_UNSUPPORTED || (!status && moe_dtype_roundoff(t.dtype) == 0))
        return moe_fail(log, MOE_E_UNSUPPORTED,
                        "%s: %s is not stored as bf16, fp16, fp32 or fp64; convert or dequantise "
                        "the checkpoint first",
                        path, name);
    if (status)
        return moe_fail(log, status, "%s: cannot read %s", path, name);
    if (!moe_tensor_same_shape(&t, shape))
        return moe_fail(log, MOE_E_FORMAT, "%s: %s has shape %s, config.json asks for %s", path,
                        name, moe_tensor_shape_str(&t, is, sizeof is),
                        moe_tensor_shape_str(shape, should, sizeof should));
    *ret = t;
    return MOE_OK;
}

static moe_status get_part(const moe_int_part_source *src, moe_int_part part, int64_t expert,
                           const moe_log *log, moe_tensor *ret) {
    char name[MOE_INT_NAME_BYTES];
    moe_tensor shape = stored_shape(src, part);
    moe_int_part_name(src, part, expert, name);
    return moe_int_hf_get(src->file, src->path, name, &shape, log, ret);
}

moe_status moe_int_part_check(const moe_int_part_source *src, moe_int_part part, const moe_log *log,
                              moe_dtype *dtype) {
    int64_t count = is_per_expert(src, part) ? src->config->layer.E : 1;
    for (int64_t e = 0; e < count; e++) {
        moe_tensor t;
        moe_status status = get_part(src, part, e, log, &t);
        if (status)
            return status;
        *dtype = moe_int_dtype_wider(*dtype, t.dtype);
    }
    return MOE_OK;
}

/* A whole stored tensor to `dst`, which points at the part's first element there. */
static void copy_stored(const moe_int_part_source *src, const moe_tensor *stored, char *dst) {
    if (stored->ndim != 3 || !src->config->family->transposed) {
        memcpy(dst, stored->data, (size_t)moe_tensor_bytes(stored));
        return;
    }
    moe_int_transpose(dst, stored->data, moe_dtype_size(stored->dtype), stored->shape[0],
                      stored->shape[1], stored->shape[2]);
}

/* Where the part of `expert` begins in dst, in elements. */
static size_t part_offset(moe_int_part part, int64_t expert, const moe_tensor *dst) {
    size_t offset = 0, rows = dst->ndim >= 2 ? (size_t)dst->shape[dst->ndim - 2] : 1;
    size_t cols = (size_t)dst->shape[dst->ndim - 1];
    if (dst->ndim == 3)
        offset = (size_t)expert * rows * cols;
    return parts[part].rows == ROWS_SECOND_HALF ? offset + rows / 2 * cols : offset;
}

/* Cuts the zero experts' matrices off the end of GATE_UP. */
static moe_status drop_zero_experts(const moe_int_part_source *src, const moe_log *log,
                                    moe_tensor *stored) {
    size_t all = (size_t)moe_tensor_count(stored);
    stored->shape[0] -= src->config->layer.n_zero;
    for (size_t i = (size_t)moe_tensor_count(stored); i < all; i++) {
        if (moe_load(stored->data, stored->dtype, i) != 0)
            return moe_fail(log, MOE_E_FORMAT, "%s: %s%s is not 0 for a zero expert", src->path,
                            src->prefix, src->names[MOE_INT_PART_GATE_UP]);
    }
    return MOE_OK;
}

moe_status moe_int_part_copy(const moe_int_part_source *src, moe_int_part part, const moe_log *log,
                             moe_tensor *dst) {
    int64_t count = is_per_expert(src, part) ? src->config->layer.E : 1;
    for (int64_t e = 0; e < count; e++) {
        moe_tensor stored, cast = {0};
        moe_status status = get_part(src, part, e, log, &stored);
        if (!status && part == MOE_INT_PART_GATE_UP && src->zero_experts)
            status = drop_zero_experts(src, log, &stored);
        if (!status && stored.dtype != dst->dtype) {
            status = moe_tensor_cast(&stored, dst->dtype, &cast);
            if (status)
                moe_fail(log, status, "%s: cannot convert a tensor", src->path);
            stored = cast;
        }
        if (status)
            return status;
        size_t at = part_offset(part, e, dst) * moe_dtype_size(dst->dtype);
        copy_stored(src, &stored, (char *)dst->data + at);
        moe_tensor_destroy(&cast);
    }
    return MOE_OK;
}
