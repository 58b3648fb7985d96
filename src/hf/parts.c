/* Pieces of checkpoints to parameters in the project's layouts: experts stacked, gate rows before
 * up rows, out-features first. Nothing is rounded. */
#include "core/elements.h"
#include "hf/hf.h"
#include "hf/keys.h"

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
    [MOE_INT_PART_SHARED_GATE_UP] = {MOE_T_W1_SHARED, ROWS_ALL},
    [MOE_INT_PART_SHARED_GATE] = {MOE_T_W1_SHARED, ROWS_FIRST_HALF},
    [MOE_INT_PART_SHARED_UP] = {MOE_T_W1_SHARED, ROWS_SECOND_HALF},
    [MOE_INT_PART_SHARED_DOWN] = {MOE_T_W2_SHARED, ROWS_ALL},
    [MOE_INT_PART_SHARED_SIGMOID] = {MOE_T_W_GATE_SHARED, ROWS_ALL},
};

moe_tensor_id moe_int_part_param(moe_int_part part) {
    return parts[part].param;
}

/* "PREFIX experts.7.w1.weight" from one spelling; "^" stands for the layer instead of the module.
 */
static void spell(const moe_int_part_source *src, const char *word, int64_t expert, char *buf) {
    const char *prefix = *word == '^' ? src->outer : src->prefix, *name = word + (*word == '^');
    const char *hole = strstr(name, "%d");
    if (hole)
        snprintf(buf, MOE_INT_NAME_BYTES, "%s%.*s%lld%s", prefix, (int)(hole - name), name,
                 (long long)expert, hole + 2);
    else
        snprintf(buf, MOE_INT_NAME_BYTES, "%s%s", prefix, name);
}

/* The spelling that the file has, in `word`; false: none, and `word` is the first. */
static bool find_spelling(const moe_int_part_source *src, moe_int_part part, char *word) {
    const char *all = moe_int_family_names(src->config->family, part);
    char name[MOE_INT_NAME_BYTES];
    moe_tensor t;
    for (const char *next = all; next;) {
        next = moe_int_hf_next_word(next, word, MOE_INT_NAME_BYTES);
        spell(src, word, 0, name);
        if (moe_safetensors_get(src->file, name, &t) != MOE_E_NOTFOUND)
            return true;
    }
    moe_int_hf_next_word(all, word, MOE_INT_NAME_BYTES);
    return false;
}

/* Which rows of its parameter the part has in this layer: an up projection without a gate is all.
 */
static rows_of rows_of_part(const moe_int_part_source *src, moe_int_part part) {
    bool up = part == MOE_INT_PART_UP || part == MOE_INT_PART_SHARED_UP;
    return up && !moe_act_is_gated(src->config->layer.act) ? ROWS_ALL : parts[part].rows;
}

bool moe_int_part_used(const moe_int_part_source *src, moe_int_part part) {
    static const struct {
        moe_int_part fused, gate, up;
    } cuts[] = {
        {MOE_INT_PART_GATE_UP, MOE_INT_PART_GATE, MOE_INT_PART_UP},
        {MOE_INT_PART_SHARED_GATE_UP, MOE_INT_PART_SHARED_GATE, MOE_INT_PART_SHARED_UP},
    };
    char word[MOE_INT_NAME_BYTES];
    if (!moe_tensor_exists(&src->config->layer, parts[part].param, 0))
        return false;
    const bool gated = moe_act_is_gated(src->config->layer.act);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        bool fused = gated && find_spelling(src, cuts[i].fused, word);
        if (part == cuts[i].fused)
            return fused;
        if (part == cuts[i].up)
            return !fused;
        if (part == cuts[i].gate)
            return gated && !fused;
    }
    return true;
}

/* One tensor per expert, rather than one for all. */
static bool is_per_expert(const moe_int_part_source *src, moe_int_part part) {
    char word[MOE_INT_NAME_BYTES];
    find_spelling(src, part, word);
    return strstr(word, "%d") != NULL;
}

const char *moe_int_part_name(const moe_int_part_source *src, moe_int_part part, int64_t expert,
                              char *buf) {
    char word[MOE_INT_NAME_BYTES];
    find_spelling(src, part, word);
    spell(src, word, expert, buf);
    return buf;
}

/* Shape of the part's parameter. */
static moe_tensor param_shape(const moe_int_part_source *src, moe_int_part part) {
    moe_tensor t = {0};
    moe_tensor_shape(&src->config->layer, parts[part].param, 0, 0, 0, &t);
    return t;
}

/* The zero experts' matrices that a gradient has beside the real ones'. */
static int64_t zero_matrices(const moe_int_part_source *src, moe_int_part part) {
    bool has = src->gradients && src->config->family->zero_gradients;
    return has && part == MOE_INT_PART_GATE_UP ? src->config->layer.n_zero : 0;
}

/* Shape of one tensor of the part in the file, where nothing is turned round. */
static moe_tensor stored_shape(const moe_int_part_source *src, moe_int_part part) {
    moe_tensor t = param_shape(src, part);
    if (t.ndim >= 2 && rows_of_part(src, part) != ROWS_ALL)
        t.shape[t.ndim - 2] /= 2;
    if (t.ndim == 3 && is_per_expert(src, part)) {
        t.ndim = 2;
        t.shape[0] = t.shape[1];
        t.shape[1] = t.shape[2];
    } else if (t.ndim == 3) {
        t.shape[0] += zero_matrices(src, part);
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

/* A view of the part's tensor, of stored_shape or, with *turn, with its matrices transposed. */
static moe_status get_part(const moe_int_part_source *src, moe_int_part part, int64_t expert,
                           const moe_log *log, moe_tensor *ret, bool *turn) {
    char name[MOE_INT_NAME_BYTES];
    moe_tensor t, should = stored_shape(src, part), other = turned(&should);
    moe_int_part_name(src, part, expert, name);
    moe_status status = get_floating(src->file, src->path, name, log, &t);
    if (status)
        return status;
    const moe_tensor is = t;
    bool prefer_turned = should.ndim == 3 && (src->config->family->transposed >> part & 1u);
    reshape(&t, &should);
    *turn = should.ndim == 3 && moe_tensor_same_shape(&t, &other) &&
            (prefer_turned || !moe_tensor_same_shape(&t, &should));
    if (!*turn && !moe_tensor_same_shape(&t, &should))
        return fail_shape(src->path, name, &is, prefer_turned ? &other : &should, log);
    *ret = t;
    return MOE_OK;
}

moe_status moe_int_part_check(const moe_int_part_source *src, moe_int_part part, const moe_log *log,
                              moe_dtype *dtype) {
    int64_t count = is_per_expert(src, part) ? src->config->layer.E : 1;
    for (int64_t e = 0; e < count; e++) {
        moe_tensor t;
        bool turn;
        moe_status status = get_part(src, part, e, log, &t, &turn);
        if (status)
            return status;
        *dtype = moe_int_dtype_wider(*dtype, t.dtype);
    }
    return MOE_OK;
}

/* A whole stored tensor to `dst`, which points at the part's first element there. */
static void copy_stored(const moe_tensor *stored, bool turn, char *dst) {
    if (turn)
        moe_int_transpose(dst, stored->data, moe_dtype_size(stored->dtype), stored->shape[0],
                          stored->shape[1], stored->shape[2]);
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
    return rows_of_part(src, part) == ROWS_SECOND_HALF ? offset + rows / 2 * cols : offset;
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

moe_status moe_int_part_copy(const moe_int_part_source *src, moe_int_part part, const moe_log *log,
                             moe_tensor *dst) {
    int64_t count = is_per_expert(src, part) ? src->config->layer.E : 1;
    for (int64_t e = 0; e < count; e++) {
        moe_tensor stored, cast = {0};
        bool turn;
        moe_status status = get_part(src, part, e, log, &stored, &turn);
        if (!status && zero_matrices(src, part))
            status = drop_zero_experts(src, log, &stored);
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
                            part_offset(src, part, e, dst) * moe_dtype_size(dst->dtype));
        moe_tensor_destroy(&cast);
    }
    scale_part(src, part, dst);
    return MOE_OK;
}
