/* One stored tensor of a part, whatever its cut: its shape, and which way its matrices lie. */
#include "hf/parts.h"

#include <string.h>

/* Shape of the part's parameter. */
static moe_tensor param_shape(const moe_int_part_source *src, moe_int_part part) {
    moe_tensor t = {0};
    moe_tensor_shape(&src->config->layer, moe_int_part_param(part), 0, 0, 0, &t);
    return t;
}

int64_t moe_int_part_zero_matrices(const moe_int_part_source *src, moe_int_part part) {
    bool has = src->gradients && src->config->family->zero_gradients;
    return has && part == MOE_INT_PART_GATE_UP ? src->config->layer.n_zero : 0;
}

/* Shape of one tensor of the part in the file, where nothing is turned round. */
static moe_tensor stored_shape(const moe_int_part_source *src, moe_int_part part) {
    moe_tensor t = param_shape(src, part);
    if (t.ndim >= 2 && moe_int_part_rows(src, part) != MOE_INT_ROWS_ALL)
        t.shape[t.ndim - 2] /= 2;
    if (t.ndim >= 2 && moe_int_part_is_per_expert(src, part)) {
        t.ndim--;
        memmove(t.shape, t.shape + 1, (size_t)t.ndim * sizeof *t.shape);
    } else if (t.ndim == 3) {
        t.shape[0] += moe_int_part_zero_matrices(src, part);
    }
    return t;
}

static moe_tensor turned(const moe_tensor *t) {
    moe_tensor ret = *t;
    ret.shape[1] = t->shape[2];
    ret.shape[2] = t->shape[1];
    return ret;
}

/* Takes dimensions of 1 off the front, and cuts [E a][b] into [E][a][b], until `t` has as many
 * dimensions as it should. */
static void reshape(moe_tensor *t, const moe_tensor *should) {
    while (t->ndim > should->ndim && t->shape[0] == 1) {
        t->ndim--;
        memmove(t->shape, t->shape + 1, (size_t)t->ndim * sizeof *t->shape);
    }
    if (t->ndim == 2 && should->ndim == 3 && t->shape[0] % should->shape[0] == 0) {
        t->ndim = 3;
        t->shape[2] = t->shape[1];
        t->shape[1] = t->shape[0] / should->shape[0];
        t->shape[0] = should->shape[0];
    }
}

static moe_status get_floating(const moe_safetensors *file, const char *path, const char *name,
                               const moe_log *log, moe_tensor *ret) {
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
    *ret = t;
    return MOE_OK;
}

static moe_status fail_shape(const char *path, const char *name, const moe_tensor *is,
                             const moe_tensor *should, const moe_log *log) {
    char a[96], b[96];
    return moe_fail(log, MOE_E_FORMAT, "%s: %s has shape %s, config.json asks for %s", path, name,
                    moe_tensor_shape_str(is, a, sizeof a),
                    moe_tensor_shape_str(should, b, sizeof b));
}

moe_status moe_int_hf_get(const moe_safetensors *file, const char *path, const char *name,
                          const moe_tensor *shape, const moe_log *log, moe_tensor *ret) {
    moe_tensor t;
    moe_status status = get_floating(file, path, name, log, &t);
    if (status)
        return status;
    if (!moe_tensor_same_shape(&t, shape))
        return fail_shape(path, name, &t, shape, log);
    *ret = t;
    return MOE_OK;
}

moe_status moe_int_part_get(const moe_int_part_source *src, moe_int_part part, int64_t expert,
                            const moe_log *log, moe_tensor *ret, bool *turn) {
    char name[MOE_INT_NAME_BYTES];
    moe_tensor t = {0}, should = stored_shape(src, part), other = turned(&should);
    moe_int_part_name(src, part, expert, name);
    moe_status status = get_floating(src->file, src->path, name, log, &t);
    if (status)
        return status;
    const moe_tensor is = t;
    bool prefer_turned = should.ndim == 3 && (src->config->family->transposed >> part & 1u);
    reshape(&t, &should);
    if (part == MOE_INT_PART_SELECT_BIAS && t.ndim == 2 && t.shape[1] == should.shape[0])
        t = (moe_tensor){t.data, t.dtype, 1, {t.shape[1]}}; /* the text's, before the pictures' */
    if (part == MOE_INT_PART_ROUTER && t.shape[0] == should.shape[1] && t.shape[0] != t.shape[1]) {
        *turn = t.shape[1] == should.shape[0]; /* [d][E] */
        *ret = t;
        return *turn ? MOE_OK : fail_shape(src->path, name, &is, &should, log);
    }
    *turn = should.ndim == 3 && moe_tensor_same_shape(&t, &other) &&
            (prefer_turned || !moe_tensor_same_shape(&t, &should));
    if (!*turn && !moe_tensor_same_shape(&t, &should))
        return fail_shape(src->path, name, &is, prefer_turned ? &other : &should, log);
    *ret = t;
    return MOE_OK;
}
