/* Rows and columns of a weight as the changed kernel reads them. */
#include "check/explain/scene.h"
#include "core/elements.h"

#include <math.h>
#include <string.h>

/* v, a float's value, with 10 bits of fraction; cut off or rounded, halves away from 0. */
static double tf32(float v, bool cut) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    bits = (bits + (cut ? 0 : 0x1000)) & ~UINT32_C(0x1fff);
    if (isfinite(v))
        memcpy(&v, &bits, sizeof bits);
    return v;
}

/* Rounds to what `dtype` stores, at once or by way of float. */
static void store_all(double *v, int64_t count, moe_dtype dtype, bool by_float) {
    enum { CHUNK = 256 };
    float wide[CHUNK];
    double stored[CHUNK]; /* of any type: none is wider */
    for (int64_t i = 0; i < count; i += CHUNK) {
        const size_t n = (size_t)(count - i < CHUNK ? count - i : CHUNK);
        if (by_float)
            moe_convert(wide, MOE_F32, v + i, MOE_F64, n);
        moe_convert(stored, dtype, by_float ? (const void *)wide : v + i,
                    by_float ? MOE_F32 : MOE_F64, n);
        moe_convert(v + i, MOE_F64, stored, dtype, n);
    }
}

void moe_int_narrow(moe_int_narrowing narrow, double *v, int64_t count) {
    switch (narrow) {
    case MOE_INT_NARROW_NOT:
    case MOE_INT_NARROW_COUNT:
        break;
    case MOE_INT_NARROW_BF16:
    case MOE_INT_NARROW_F16:
        store_all(v, count, narrow == MOE_INT_NARROW_BF16 ? MOE_BF16 : MOE_F16, false);
        break;
    case MOE_INT_NARROW_TF32:
    case MOE_INT_NARROW_TF32_CUT:
        for (int64_t i = 0; i < count; i++)
            v[i] = tf32((float)v[i], narrow == MOE_INT_NARROW_TF32_CUT);
        break;
    }
}

static double narrowed(moe_int_narrowing narrow, double v) {
    moe_int_narrow(narrow, &v, 1);
    return v;
}

void moe_int_change_store(const moe_int_change *c, double *v, int64_t count) {
    if (c->store != MOE_F64)
        store_all(v, count, c->store, true);
}

void moe_int_sum_stored(const moe_int_change *c, unsigned sum, int64_t term, double *v,
                        int64_t count) {
    if (!(c->sums & sum) || term % c->sum_block != c->sum_block - 1)
        return;
    if (count == 1) /* a dot product's: one number at a time, many times */
        *v = moe_round_to((float)*v, c->sum_type);
    else
        store_all(v, count, c->sum_type, true);
}

/* Row of the stored matrix that H's column c takes. */
static int64_t row_of(const moe_int_matrix *m, int64_t c) {
    if (m->order == MOE_INT_ROWS_RIGHT) /* also a matrix of one row, which has no halves */
        return c;
    int64_t n = m->rows / 2;
    int32_t own = m->interleaved ? MOE_GLU_INTERLEAVED : MOE_GLU_CONCAT;
    int64_t unit = m->interleaved ? c / 2 : c % n;
    int up = (int)(m->interleaved ? c % 2 : c / n);
    switch (m->order) {
    case MOE_INT_ROWS_RIGHT:
        break;
    case MOE_INT_ROWS_SWAPPED:
        return moe_h_column(own, n, m->rows, unit, !up);
    case MOE_INT_ROWS_INTERLEAVED:
        return moe_h_column(MOE_GLU_INTERLEAVED, n, m->rows, c % n, (int)(c / n));
    case MOE_INT_ROWS_APART:
        return moe_h_column(MOE_GLU_CONCAT, n, m->rows, c / 2, (int)(c % 2));
    }
    return c;
}

/* How much further on row r is read than the matrix's. */
static int64_t further(const moe_int_matrix *m, int64_t r) {
    const bool up = m->interleaved ? r % 2 == 1 : r >= m->rows / 2;
    return up == m->of_up ? m->elsewhere : 0;
}

static int64_t flat(const moe_int_matrix *m, int64_t r, int64_t c) {
    return m->first + further(m, r) +
           (m->transposed ? c * m->rows + r : row_of(m, r) * m->cols + c);
}

static int bits_of(const moe_int_matrix *m) {
    return m->edit && m->edit->of_matrix ? m->edit->bits : 0;
}

static double element(const moe_int_matrix *m, int64_t r, int64_t c) {
    if (m->drop_first ? r < m->drop_rows || c < m->drop_cols
                      : r >= m->rows - m->drop_rows || c >= m->cols - m->drop_cols)
        return 0;
    double v = moe_load(m->t->data, m->t->dtype, (size_t)flat(m, r, c));
    return moe_int_to_bits(bits_of(m), narrowed(m->operand, v));
}

/* A row that is stored as one: loaded at once, since some hundred changed layers read it. */
static void stored_row(const moe_int_matrix *m, int64_t r, double *ret) {
    bool dropped = m->drop_first ? r < m->drop_rows : r >= m->rows - m->drop_rows;
    int64_t first = m->drop_first ? 0 : m->cols - m->drop_cols;
    if (dropped) {
        memset(ret, 0, (size_t)m->cols * sizeof *ret);
        return;
    }
    moe_int_load(m->t, m->first + further(m, r) + row_of(m, r) * m->cols, m->cols, ret);
    memset(ret + first, 0, (size_t)m->drop_cols * sizeof *ret);
    moe_int_narrow(m->operand, ret, m->cols);
    for (int64_t c = 0; bits_of(m) && c < m->cols; c++)
        ret[c] = moe_int_to_bits(bits_of(m), ret[c]);
}

void moe_int_matrix_row(const moe_int_matrix *m, int64_t r, double *ret) {
    if (!m->transposed) {
        stored_row(m, r, ret);
        return;
    }
    for (int64_t c = 0; c < m->cols; c++)
        ret[c] = element(m, r, c);
}

void moe_int_matrix_column(const moe_int_matrix *m, int64_t c, double *ret) {
    for (int64_t r = 0; r < m->rows; r++)
        ret[r] = element(m, r, c);
}

static moe_int_matrix settle(moe_int_matrix m, bool own_expert) {
    m.right = own_expert && !m.transposed && m.drop_rows == 0 && m.drop_cols == 0 &&
              m.order == MOE_INT_ROWS_RIGHT && !m.operand && !m.edit && !m.elsewhere;
    return m;
}

/* Of a routed expert's product. */
static const moe_int_factor_edit *edit_of(const moe_int_change *c, moe_int_product product) {
    const moe_int_factor_edit *edit = &c->edit;
    return edit->product == product && (edit->order || edit->bits || edit->block) ? edit : NULL;
}

static int64_t owner_of(const int32_t *owner, int64_t e) {
    return e < 0 ? 0 : owner ? owner[e] : e;
}

moe_int_matrix moe_int_matrix_w1(const moe_int_scene *s, const moe_int_change *c, int64_t e,
                                 moe_int_product product) {
    const moe_layer_desc *desc = &s->evidence->problem->layer;
    int64_t hw = moe_h_width(desc, e < 0 ? desc->n_shared : desc->n), d = desc->d;
    int64_t from = owner_of(c->owner1, e);
    moe_int_matrix m = {.t = &s->evidence->problem->in.t[e < 0 ? MOE_T_W1_SHARED : MOE_T_W1],
                        .first = from * (c->stride1 && e >= 0 ? c->stride1 : hw * d),
                        .rows = hw,
                        .cols = d,
                        .operand = c->operand};
    if (e < 0)
        return settle(m, true);
    m.transposed = c->transposed1;
    m.drop_first = c->terms & MOE_INT_DROP_FIRST;
    m.edit = edit_of(c, product);
    m.order = c->rows1;
    if (c->half_owner)
        m.elsewhere = (moe_int_around(e + c->half_owner, desc->E) - e) * hw * d;
    m.of_up = c->half_of_up;
    m.interleaved = desc->glu_layout == MOE_GLU_INTERLEAVED;
    if (product == MOE_INT_PRODUCT_H)
        m.drop_cols = c->drop[product];
    else
        m.drop_rows = c->drop[product];
    return settle(m, from == e && !c->stride1);
}

moe_int_matrix moe_int_matrix_w2(const moe_int_scene *s, const moe_int_change *c, int64_t e,
                                 moe_int_product product) {
    const moe_layer_desc *desc = &s->evidence->problem->layer;
    int64_t n = e < 0 ? desc->n_shared : desc->n, d = desc->d;
    int64_t from = owner_of(c->owner2, e);
    moe_int_matrix m = {.t = &s->evidence->problem->in.t[e < 0 ? MOE_T_W2_SHARED : MOE_T_W2],
                        .first = from * (c->stride2 && e >= 0 ? c->stride2 : d * n),
                        .rows = d,
                        .cols = n,
                        .operand = c->operand};
    if (e < 0)
        return settle(m, true);
    m.transposed = c->transposed2;
    m.drop_first = c->terms & MOE_INT_DROP_FIRST;
    m.edit = edit_of(c, product);
    if (product == MOE_INT_PRODUCT_Y)
        m.drop_cols = c->drop[product];
    else
        m.drop_rows = c->drop[product];
    return settle(m, from == e && !c->stride2);
}
