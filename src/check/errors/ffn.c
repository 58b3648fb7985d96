/* Errors of a bank of rows through one expert: see errors.h. Each step mirrors one of the layer's
 * linear stages, with squared weights for weights and variances for values:
 *
 *     out_o = sum_j a_j w_oj    gives    v(out_o) = sum_j (v(a_j) + a_j^2 + sum |a|^2) w_oj^2
 *
 * where a_j^2 is the storing of the operand and sum |a|^2 = sum L (|a|^2 / L) the adding of L
 * terms. */
#include "check/errors/errors.h"

#include "reference/loops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Scratch of one bank. */
typedef struct work {
    double *w1, *w2;     /* squared weights */
    double *w1_rows;     /* [hw] |W1_o|^2 */
    double *w2_cols;     /* [n] |W2_:j|^2 */
    double *da;          /* [rows][n] dA' = dO W2 */
    double *va;          /* [rows][n] operand variance of the down-projection */
    double *ga;          /* [rows][n] operand variance of dW2 */
    double *vdh, *gdh;   /* [rows][hw] the same of dXp and dW1 */
    double *squares;     /* [rows][d] */
    double *jumps;       /* [rows] what jumps of dH may do to dS, squared */
    moe_int_unit *units; /* [n] of one row */
    void *block[16];
    int blocks;
} work;

double moe_int_norm2(const double *v, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += v[i] * v[i];
    return sum;
}

double moe_int_row_square(const moe_tensor *t, int64_t row, int64_t width) {
    enum { CHUNK = 256 };
    double v[CHUNK], sum = 0;
    for (int64_t i = 0; i < width; i += CHUNK) {
        int64_t n = width - i < CHUNK ? width - i : CHUNK;
        moe_int_load(t, row * width + i, n, v);
        sum += moe_int_norm2(v, n);
    }
    return sum;
}

double *moe_int_row_squares(const double *m, int64_t rows, int64_t width) {
    double *out = malloc((size_t)(rows > 0 ? rows : 1) * sizeof *out);
    for (int64_t r = 0; out && r < rows; r++)
        out[r] = moe_int_norm2(m + r * width, width);
    return out;
}

static void *keep(work *k, void *block) {
    k->block[k->blocks++] = block;
    return block;
}

static void *take(work *k, int64_t count) {
    return keep(k, calloc((size_t)(count > 0 ? count : 1), sizeof(double)));
}

static void release(work *k) {
    for (int i = 0; i < k->blocks; i++)
        free(k->block[i]);
}

static moe_status prepare(const moe_int_bank *b, work *k) {
    int64_t d = b->desc->d, n = b->n, hw = b->hw, rows = b->rows;
    memset(k, 0, sizeof *k);
    k->w1 = take(k, hw * d);
    k->w2 = take(k, d * n);
    k->w1_rows = keep(k, moe_int_row_squares(b->W1, hw, d));
    k->w2_cols = take(k, n);
    k->va = take(k, rows * n);
    k->da = take(k, b->dy ? rows * n : 0);
    k->ga = take(k, b->dy ? rows * n : 0);
    k->vdh = take(k, b->dy ? rows * hw : 0);
    k->gdh = take(k, b->dy ? rows * hw : 0);
    k->squares = take(k, rows * d);
    k->jumps = take(k, rows);
    k->units = keep(k, calloc((size_t)n, sizeof *k->units));
    for (int i = 0; i < k->blocks; i++)
        if (!k->block[i])
            return MOE_E_NOMEM;
    moe_int_loop_square_f64(b->W1, hw * d, k->w1);
    moe_int_loop_square_f64(b->W2, d * n, k->w2);
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = 0; j < n; j++)
            k->w2_cols[j] += k->w2[i * n + j];
    if (b->dy)
        moe_int_loop_times_f64(b->dy, rows, d, b->W2, n, b->threads, k->da);
    return MOE_OK;
}

static int64_t column_of(const moe_int_bank *b, int64_t j, int part) {
    if (b->hw == b->n)
        return j;
    return b->layout == MOE_GLU_INTERLEAVED ? 2 * j + part : part * b->n + j;
}

static double weight_of(const moe_int_bank *b, int64_t r) {
    return b->on_input ? 1 : b->weight[r];
}

/* With the weight on the input s x is stored: what that and the weight's own error add, over the
 * squares of s x. */
static double stored_input(const moe_int_bank *b, int64_t r) {
    const int64_t d = b->desc->d;
    return b->on_input ? moe_int_stored_share(b->rounding, 1, b->x + r * d, d) + b->vweight[r] : 0;
}

/* Row r's units: from x to a, and from dO to dh. */
static void row_units(const moe_int_bank *b, const work *k, int64_t r) {
    int64_t d = b->desc->d;
    double xx = moe_int_norm2(b->x + r * d, d), dd = b->dy ? moe_int_norm2(b->dy + r * d, d) : 0;
    double stored_x = stored_input(b, r) * xx / (double)d;
    double w = weight_of(b, r), sum = b->rounding->sum;
    double relative = b->rounding->eval + (b->on_input ? 0 : b->vweight[r]);
    for (int64_t j = 0; j < b->n; j++) {
        moe_int_unit *u = &k->units[j];
        u->parts = b->hw == b->n ? 1 : 2;
        for (int p = 0; p < u->parts; p++) {
            int64_t col = column_of(b, j, p);
            u->h[p] = b->H[r * b->hw + col];
            u->vh[p] = (stored_x + sum * xx) * k->w1_rows[col];
        }
        if (b->dy) {
            u->da = w * k->da[r * b->n + j];
            u->vda = w * w * sum * dd * k->w2_cols[j] + relative * u->da * u->da;
        }
        moe_int_unit_errors(b->desc, b->rounding, b->dy != NULL, u);
    }
}

/* dS = <dA', A> (+ <dO, b2>) or <dO, Y>: the errors of A, dA', a stored Y, and of adding. */
static double weight_gradient(const moe_int_bank *b, const work *k, int64_t r) {
    int64_t d = b->desc->d, n = b->n;
    const double *dy = b->dy + r * d, *y = b->Y + r * d;
    double v = 0, terms = 0, dd = b->rounding->sum * moe_int_norm2(dy, d);
    for (int64_t j = 0; j < n; j++) {
        double da2 = k->da[r * n + j] * k->da[r * n + j];
        double a2 = k->units[j].a * k->units[j].a;
        v += da2 * (k->units[j].va + moe_int_stored(b->rounding, k->units[j].a));
        v += a2 * dd * k->w2_cols[j];
        terms += da2 * a2;
    }
    for (int64_t i = 0; i < d; i++) {
        double bias = b->b2 ? dy[i] * b->b2[i] : 0;
        v += dy[i] * dy[i] * moe_int_stored(b->rounding, y[i]);
        terms += bias * bias;
    }
    return v + b->rounding->sum * (double)(n + d) * terms;
}

/* A jump of dh in column col of W1 changes dS = <dXp, x> by jump <W1_col, x>. */
static double jump_square(const moe_int_bank *b, int64_t r, const moe_int_unit *u, int64_t col,
                          int part) {
    double dot = 0;
    for (int64_t i = 0, d = b->desc->d; u->jump[part] != 0 && i < d; i++)
        dot += b->W1[col * d + i] * b->raw[r * d + i];
    return u->jump[part] * u->jump[part] * dot * dot;
}

static void store_row(const moe_int_bank *b, const work *k, int64_t r) {
    double w = weight_of(b, r), vs = b->on_input ? 0 : b->vweight[r], sum = b->rounding->sum;
    double a2 = sum * moe_int_norm2(b->A + r * b->n, b->n);
    double dh2 = b->dy ? sum * moe_int_norm2(b->dH + r * b->hw, b->hw) : 0;
    double rows = sum * (double)b->rows;
    double stored_x = stored_input(b, r);
    for (int64_t j = 0; j < b->n; j++) {
        const moe_int_unit *u = &k->units[j];
        int64_t at = r * b->n + j;
        b->vA[at] = u->va;
        k->va[at] = u->va + moe_int_stored(b->rounding, u->a) + a2;
        if (b->dy)
            k->ga[at] =
                w * w * (u->va + u->a * u->a * (vs + rows)) + moe_int_stored(b->rounding, w * u->a);
        for (int p = 0; p < u->parts; p++) {
            int64_t col = r * b->hw + column_of(b, j, p);
            double dh = fmax(fabs(u->dh[p]), fabs(u->dh[p] + u->jump[p])); /* of both sides */
            double square = dh * dh, stored = moe_int_stored(b->rounding, dh);
            b->vH[col] = u->vh[p];
            if (!b->dy)
                continue;
            b->jump[col] = u->jump[p];
            k->jumps[r] += jump_square(b, r, u, column_of(b, j, p), p);
            b->vdH[col] = u->vdh[p];
            k->vdh[col] = u->vdh[p] + stored + dh2;
            k->gdh[col] = u->vdh[p] + stored + square * (rows + stored_x);
        }
    }
}

/* With the weight on the input, dS = <dXp, x>. */
static void input_weight_gradient(const moe_int_bank *b, const work *k) {
    int64_t d = b->desc->d;
    for (int64_t r = 0; r < b->rows; r++) {
        b->vdS[r] = k->jumps[r] / b->rounding->u2;
        for (int64_t i = r * d; i < (r + 1) * d; i++) {
            double x2 = b->raw[i] * b->raw[i], g2 = b->dXp[i] * b->dXp[i];
            double stored = moe_int_stored(b->rounding, b->dXp[i]);
            b->vdS[r] += x2 * (b->vdXp[i] + stored + b->rounding->sum * (double)d * g2);
        }
    }
}

/* sum_r g[r][i] */
static void column_sums(const double *g, int64_t rows, int64_t width, double *ret) {
    memset(ret, 0, (size_t)width * sizeof *ret);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++)
            ret[i] += g[r * width + i];
}

static void parameter_gradients(const moe_int_bank *b, const work *k) {
    int64_t d = b->desc->d, rows = b->rows;
    double added = b->rounding->sum * (double)rows;
    moe_int_loop_square_f64(b->x, rows * d, k->squares);
    moe_int_loop_outer_f64(k->gdh, rows, b->hw, k->squares, d, b->threads, b->vdW1);
    if (b->vdb1)
        column_sums(k->gdh, rows, b->hw, b->vdb1);
    moe_int_loop_square_f64(b->dy, rows * d, k->squares);
    moe_int_loop_outer_f64(k->squares, rows, d, k->ga, b->n, b->threads, b->vdW2);
    if (!b->vdb2)
        return;
    for (int64_t r = 0; r < rows; r++) {
        double w = weight_of(b, r), vs = b->on_input ? 0 : b->vweight[r];
        for (int64_t i = 0; i < d; i++)
            k->squares[r * d + i] *= w * w * (vs + added);
    }
    column_sums(k->squares, rows, d, b->vdb2);
}

moe_status moe_int_bank_errors(const moe_int_bank *b) {
    work k;
    moe_status status = prepare(b, &k);
    if (status) {
        release(&k);
        return status;
    }
    for (int64_t r = 0; r < b->rows; r++) {
        row_units(b, &k, r);
        store_row(b, &k, r);
        if (b->dy && !b->on_input)
            b->vdS[r] = weight_gradient(b, &k, r);
    }
    moe_int_loop_linear_f64(k.va, b->rows, b->n, k.w2, b->desc->d, NULL, b->threads, b->vY);
    if (b->dy) {
        moe_int_loop_times_f64(k.vdh, b->rows, b->hw, k.w1, b->desc->d, b->threads, b->vdXp);
        if (b->on_input)
            input_weight_gradient(b, &k);
        if (b->vdW1)
            parameter_gradients(b, &k);
    }
    release(&k);
    return MOE_OK;
}
