/* Errors of one expert's feed-forward over a group of rows: see errors.h. Each step mirrors one of
 * the layer's linear stages, with squared weights for weights and variances for values:
 *
 *     out_o = sum_j a_j w_oj    gives    v(out_o) = sum_j (v(a_j) + a_j^2 + sum |a|^2) w_oj^2
 *
 * where a_j^2 is the storing of the operand and sum |a|^2 = sum L (|a|^2 / L) the adding of L
 * terms. */
#include "check/errors/errors.h"
#include "reference/loops.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Scratch of one feed-forward. */
typedef struct work {
    double *w1, *w2;     /* squared weights, in the caller's rooms */
    double *w1_rows;     /* [hw] |W1_o|^2 */
    double *w2_cols;     /* [n] |W2_:j|^2 */
    double *da;          /* [rows][n] dA' = dO W2 */
    double *va;          /* [rows][n] operand variance of the down-projection */
    double *ga;          /* [rows][n] operand variance of dW2 */
    double *vdh, *gdh;   /* [rows][hw] the same of dX~ and dW1 */
    double *bdh;         /* [rows][hw] the same of db1, which no input multiplies */
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
#pragma omp parallel for schedule(static) if (rows * width >= 1 << 20)
    for (int64_t r = 0; r < (out ? rows : 0); r++)
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

/* sum_r g[r][i] */
static void column_sums(const double *g, int64_t rows, int64_t width, double *ret) {
    enum { MANY = 1 << 20, PART = 64 }; /* elements worth a team of threads; columns of each */
    const int64_t part = rows * width < MANY ? width : PART;
    memset(ret, 0, (size_t)width * sizeof *ret);
#pragma omp parallel for schedule(static) if (part < width)
    for (int64_t first = 0; first < width; first += part)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = first; i < width && i < first + part; i++)
                ret[i] += g[r * width + i];
}

static moe_status prepare(const moe_int_error_ffn *f, work *k) {
    int64_t d = f->desc->d, n = f->n, hw = f->hw, rows = f->rows;
    memset(k, 0, sizeof *k);
    k->w1 = moe_int_room_take(&f->squares[0], (size_t)(hw * d) * sizeof *k->w1);
    k->w2 = moe_int_room_take(&f->squares[1], (size_t)(d * n) * sizeof *k->w2);
    k->w1_rows = keep(k, moe_int_row_squares(f->W1, hw, d));
    k->w2_cols = take(k, n);
    k->va = take(k, rows * n);
    k->da = take(k, f->dy ? rows * n : 0);
    k->ga = take(k, f->dy ? rows * n : 0);
    k->vdh = take(k, f->dy ? rows * hw : 0);
    k->gdh = take(k, f->dy ? rows * hw : 0);
    k->bdh = take(k, f->vdb1 ? rows * hw : 0);
    k->squares = take(k, rows * d);
    k->jumps = take(k, rows);
    k->units = keep(k, calloc((size_t)n, sizeof *k->units));
    for (int i = 0; i < k->blocks; i++)
        if (!k->block[i])
            return MOE_E_NOMEM;
    if (!k->w1 || !k->w2)
        return MOE_E_NOMEM;
    moe_int_loop_square_f64(f->W1, hw * d, k->w1);
    moe_int_loop_square_f64(f->W2, d * n, k->w2);
    column_sums(k->w2, d, n, k->w2_cols);
    if (f->dy)
        moe_int_loop_times_f64(f->dy, rows, d, f->W2, n, f->threads, k->da);
    return MOE_OK;
}

static int64_t column_of(const moe_int_error_ffn *f, int64_t j, int part) {
    return moe_h_column(f->layout, f->n, f->hw, j, part);
}

static double weight_of(const moe_int_error_ffn *f, int64_t r) {
    return f->on_input ? 1 : f->weight[r];
}

/* With the weight on the input s x is stored: what that and the weight's own error add, over the
 * squares of s x. */
static double stored_input(const moe_int_error_ffn *f, int64_t r) {
    const int64_t d = f->desc->d;
    double share = moe_int_at(f->rounding, MOE_POINT_SX, 1);
    if (share > 0)
        share = moe_int_stored_share(f->rounding, 1, f->x + r * d, d);
    return f->on_input ? share + f->vweight[r] : 0;
}

/* What storing w dO adds, over its square: nothing where w changes nothing. */
static double stored_gradient(const moe_int_error_ffn *f, int64_t r) {
    const int64_t d = f->desc->d;
    const double w = weight_of(f, r);
    if (w == 1 || moe_int_at(f->rounding, MOE_POINT_SDO, 1) == 0)
        return 0;
    return moe_int_stored_share(f->rounding, w, f->dy + r * d, d);
}

/* Row r's units: from x to a, and from dO to dh. */
static void row_units(const moe_int_error_ffn *f, const work *k, int64_t r) {
    int64_t d = f->desc->d;
    double xx = moe_int_norm2(f->x + r * d, d), dd = f->dy ? moe_int_norm2(f->dy + r * d, d) : 0;
    double stored_x = stored_input(f, r) * xx / (double)d;
    double w = weight_of(f, r), sum = moe_int_added(f->rounding, (double)d);
    double relative = f->rounding->eval + (f->on_input ? 0 : f->vweight[r]);
    double stored_dy = f->dy ? stored_gradient(f, r) : 0;
    for (int64_t j = 0; j < f->n; j++) {
        moe_int_unit *u = &k->units[j];
        u->parts = f->hw == f->n ? 1 : 2;
        u->vscale = f->on_input ? f->vweight[r] : 0;
        for (int p = 0; p < u->parts; p++) {
            int64_t col = column_of(f, j, p);
            u->h[p] = f->H[r * f->hw + col];
            u->vh[p] = (stored_x + sum * xx) * k->w1_rows[col];
        }
        if (f->dy) {
            u->da = w * k->da[r * f->n + j];
            u->vda = w * w * (sum + stored_dy / (double)d) * dd * k->w2_cols[j] +
                     relative * u->da * u->da + moe_int_stored_at(f->rounding, MOE_POINT_DA, u->da);
        }
        moe_int_unit_errors(f->desc, f->rounding, f->dy != NULL, u);
    }
}

/* dS = <dA', A> (+ <dO, b2>) or <dO, Y>: the errors of A, dA', a stored Y, and of adding. Whoever
 * weighs the gradient first has no dA'. */
static double weight_gradient(const moe_int_error_ffn *f, const work *k, int64_t r) {
    int64_t d = f->desc->d, n = f->n;
    const double *dy = f->dy + r * d, *y = f->Y + r * d;
    double v = 0, terms = 0, dd = moe_int_added(f->rounding, (double)d) * moe_int_norm2(dy, d);
    const bool weighed_first =
        stored_gradient(f, r) > 0 && moe_int_at(f->rounding, MOE_POINT_SA, 1) == 0;
    double stored_da = weighed_first ? 0 : moe_int_at(f->rounding, MOE_POINT_DA, 1);
    for (int64_t j = 0; j < n; j++) {
        double da2 = k->da[r * n + j] * k->da[r * n + j];
        double a2 = k->units[j].a * k->units[j].a;
        v += da2 * (k->units[j].va + moe_int_stored_at(f->rounding, MOE_POINT_A, k->units[j].a));
        v += a2 * (dd * k->w2_cols[j] + stored_da * da2);
        terms += da2 * a2;
    }
    for (int64_t i = 0; i < d; i++) {
        double bias = f->b2 ? dy[i] * f->b2[i] : 0;
        v += dy[i] * dy[i] * moe_int_stored_at(f->rounding, MOE_POINT_Y, y[i]);
        terms += bias * bias;
    }
    return v + moe_int_adding(f->rounding, (double)(n + d)) * terms;
}

/* A jump of dh in column col of W1 changes dS = <dX~, x> by jump <W1_col, x>. */
static double jump_square(const moe_int_error_ffn *f, int64_t r, const moe_int_unit *u, int64_t col,
                          int part) {
    double dot = 0;
    for (int64_t i = 0, d = f->desc->d; u->jump[part] != 0 && i < d; i++)
        dot += f->W1[col * d + i] * f->raw[r * d + i];
    return u->jump[part] * u->jump[part] * dot * dot;
}

/* Operand variance of dW2: of A' and dO, or of A and a stored w dO. */
static double weighted_activation(const moe_int_error_ffn *f, const moe_int_unit *u, int64_t r,
                                  double relative) {
    const double w = weight_of(f, r), a2 = u->a * u->a, stored_dy = stored_gradient(f, r) > 0;
    double v = w * w * (u->va + a2 * (relative + stored_dy));
    /* either, where points of several recipes are asked for at once */
    double weighed = f->on_input ? 0 : moe_int_stored_at(f->rounding, MOE_POINT_SA, w * u->a);
    if (f->on_input || moe_int_at(f->rounding, MOE_POINT_SDO, 1) > 0)
        weighed = fmax(weighed, w * w * moe_int_stored_at(f->rounding, MOE_POINT_A, u->a));
    return v + weighed;
}

static void store_row(const moe_int_error_ffn *f, const work *k, int64_t r) {
    const moe_int_rounding *rounding = f->rounding;
    double vs = f->on_input ? 0 : f->vweight[r];
    double a2 = moe_int_added(rounding, (double)f->n) * moe_int_norm2(f->A + r * f->n, f->n);
    double dh2 =
        f->dy ? moe_int_added(rounding, (double)f->hw) * moe_int_norm2(f->dH + r * f->hw, f->hw)
              : 0;
    double rows = moe_int_adding(f->rounding, (double)f->rows);
    double stored_x = stored_input(f, r);
    for (int64_t j = 0; j < f->n; j++) {
        const moe_int_unit *u = &k->units[j];
        int64_t at = r * f->n + j;
        f->vA[at] = u->va;
        k->va[at] = u->va + moe_int_stored_at(f->rounding, MOE_POINT_A, u->a) + a2;
        if (f->dy)
            k->ga[at] = weighted_activation(f, u, r, vs + rows);
        for (int p = 0; p < u->parts; p++) {
            int64_t col = r * f->hw + column_of(f, j, p);
            double dh =
                fmax(fabs(u->dh[p]), fabs(u->dh[p] + u->jump[p])); /* of both sides of a kink */
            double square = dh * dh, stored = moe_int_stored_at(f->rounding, MOE_POINT_DH, dh);
            f->vH[col] = u->vh[p];
            if (!f->dy)
                continue;
            f->jump[col] = u->jump[p];
            k->jumps[r] += jump_square(f, r, u, column_of(f, j, p), p);
            f->vdH[col] = u->vdh[p];
            k->vdh[col] = u->vdh[p] + stored + dh2;
            k->gdh[col] = u->vdh[p] + stored + square * (rows + stored_x);
            if (f->vdb1)
                k->bdh[col] = u->vdh[p] + stored + square * rows;
        }
    }
}

/* With the weight on the input, dS = <dX~, x>. */
static void input_weight_gradient(const moe_int_error_ffn *f, const work *k) {
    int64_t d = f->desc->d;
    for (int64_t r = 0; r < f->rows; r++) {
        f->vdS[r] = k->jumps[r] / f->rounding->u2;
        for (int64_t i = r * d; i < (r + 1) * d; i++) {
            double x2 = f->raw[i] * f->raw[i], g2 = f->dXp[i] * f->dXp[i];
            double stored = moe_int_stored_at(f->rounding, MOE_POINT_DXP, f->dXp[i]);
            f->vdS[r] += x2 * (f->vdXp[i] + stored + moe_int_adding(f->rounding, (double)d) * g2);
        }
    }
}

/* dO^2; where w dO is stored, below the normal numbers what that comes to. */
static void gradient_squares(const moe_int_error_ffn *f, const work *k) {
    const int64_t d = f->desc->d;
    moe_int_loop_square_f64(f->dy, f->rows * d, k->squares);
    for (int64_t r = 0; r < f->rows; r++) {
        const double w = weight_of(f, r);
        if (w * w < DBL_MIN || !(stored_gradient(f, r) > 0))
            continue;
        for (int64_t i = r * d; i < (r + 1) * d; i++)
            k->squares[i] = moe_int_stored(f->rounding, w * f->dy[i]) / (w * w);
    }
}

/* x^2; where s x is stored, likewise. */
static void input_squares(const moe_int_error_ffn *f, const work *k) {
    const int64_t count = f->rows * f->desc->d;
    const bool stored = f->on_input && moe_int_at(f->rounding, MOE_POINT_SX, 1) > 0;
    moe_int_loop_square_f64(f->x, count, k->squares);
    for (int64_t i = 0; stored && i < count; i++)
        k->squares[i] = moe_int_stored(f->rounding, f->x[i]);
}

static void parameter_gradients(const moe_int_error_ffn *f, const work *k) {
    int64_t d = f->desc->d, rows = f->rows;
    double added = moe_int_adding(f->rounding, (double)rows);
    input_squares(f, k);
    moe_int_loop_outer_f64(k->gdh, rows, f->hw, k->squares, d, f->threads, f->vdW1);
    if (f->vdb1)
        column_sums(k->bdh, rows, f->hw, f->vdb1);
    gradient_squares(f, k);
    moe_int_loop_outer_f64(k->squares, rows, d, k->ga, f->n, f->threads, f->vdW2);
    if (!f->vdb2)
        return;
    for (int64_t r = 0; r < rows; r++) {
        double w = weight_of(f, r), vs = f->on_input ? 0 : f->vweight[r];
        double relative = vs + added + (stored_gradient(f, r) > 0 ? 1 : 0);
        for (int64_t i = 0; i < d; i++)
            k->squares[r * d + i] *= w * w * relative;
    }
    column_sums(k->squares, rows, d, f->vdb2);
}

moe_status moe_int_ffn_errors(const moe_int_error_ffn *f) {
    work k;
    moe_status status = prepare(f, &k);
    if (status) {
        release(&k);
        return status;
    }
    for (int64_t r = 0; r < f->rows; r++) {
        row_units(f, &k, r);
        store_row(f, &k, r);
        if (f->dy && !f->on_input)
            f->vdS[r] = weight_gradient(f, &k, r);
    }
    moe_int_loop_linear_f64(k.va, f->rows, f->n, k.w2, f->desc->d, NULL, f->threads, f->vY);
    if (f->dy) {
        moe_int_loop_times_f64(k.vdh, f->rows, f->hw, k.w1, f->desc->d, f->threads, f->vdXp);
        if (f->on_input)
            input_weight_gradient(f, &k);
        if (f->vdW1)
            parameter_gradients(f, &k);
    }
    release(&k);
    return MOE_OK;
}
