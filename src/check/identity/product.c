/* One product against random signs. Of row i, in units of u^2/3 and beside the errors of fp32 sums
 * (errors.h), the two sides differ by what storing `out` adds, sum_j out(i,j)^2, and by roundings
 * of operands, sum_k left(i,k)^2 p_k^2 and sum_jk left(i,k)^2 right(j,k)^2, where p = right^T s:
 * signs leave the squares alone, and independent errors add. */
#include "check/identity/product.h"
#include "core/simd.h"
#include "core/streams.h"
#include "moeref/rng.h"

#include <math.h>
#include <stdlib.h>

/* What one pass over a matrix M makes of a vector v and of weights w: */
typedef struct pass {
    const double *v;         /* sum = M v */
    const double *w[2];      /* square[q] = sum of stored squares times w[q]; NULL: 1 */
    double *sum, *square[2]; /* zeroed; square may be NULL */
    double zero;             /* what a 0 adds to them */
    double *work;            /* [width] */
} pass;

void moe_int_gap_note(moe_int_gap *worst, const moe_int_gap *one) {
    if (one->z > worst->z)
        *worst = *one;
}

double moe_int_gap_z(double got, double want, double variance) {
    if (!isfinite(want) || got == want)
        return 0;
    double z = fabs(got - want) / sqrt(variance);
    return isfinite(z) ? z : INFINITY;
}

static void load_row(const moe_int_view *m, int64_t i, double *work) {
    double scale = m->scale ? m->scale[i] : 1;
    int64_t row = m->row ? m->row[i] : m->first + i;
    if (m->t)
        moe_int_load(m->t, row * m->width, m->width, work);
    for (int64_t k = 0; k < m->width && (!m->t || m->scale); k++)
        work[k] = m->t ? scale * work[k] : scale;
}

/* Sums along a row are kept LANES apart, in an order that no instruction set changes. */
enum { LANES = 8 };

/* An entry for each column: row i adds to all of them. */
MOE_INT_INLINE void add_row(const pass *k, const moe_int_rounding *r, int64_t i, int64_t width) {
    const double *x = k->work, v = k->v[i];
    double *sum = k->sum;
    for (int64_t j = 0; j < width; j++)
        sum[j] += x[j] * v;
    for (int q = 0; q < 2; q++) {
        double *square = k->square[q];
        const double w = k->w[q] ? k->w[q][i] : 1;
        for (int64_t j = 0; square && j < width; j++)
            square[j] += (x[j] == 0 ? k->zero : moe_int_stored(r, x[j])) * w;
    }
}

MOE_INT_INLINE double term(const moe_int_rounding *r, bool stored, double zero, double x) {
    return !stored ? x : x == 0 ? zero : moe_int_stored(r, x);
}

/* sum of x times v (NULL: 1), or of what storing x adds, times v */
MOE_INT_INLINE double add_lanes(const moe_int_rounding *r, bool stored, double zero,
                                const double *x, const double *v, int64_t width) {
    double lane[LANES] = {0};
    const int64_t whole = width / LANES * LANES;
    for (int64_t j = 0; j < whole; j += LANES)
        for (int64_t l = 0; l < LANES; l++)
            lane[l] += term(r, stored, zero, x[j + l]) * (v ? v[j + l] : 1);
    for (int64_t j = whole; j < width; j++)
        lane[j - whole] += term(r, stored, zero, x[j]) * (v ? v[j] : 1);
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
           ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

/* An entry for each row: row i's. */
MOE_INT_INLINE void sum_row(const pass *k, const moe_int_rounding *r, int64_t i, int64_t width) {
    k->sum[i] += add_lanes(r, false, 0, k->work, k->v, width);
    for (int q = 0; q < 2; q++)
        if (k->square[q])
            k->square[q][i] += k->w[q] ? add_lanes(r, true, k->zero, k->work, k->w[q], width)
                                       : add_lanes(r, true, k->zero, k->work, NULL, width);
}

/* `down`: sums run down the rows, an entry for each column; else along each row. */
MOE_INT_INLINE void run_body(const moe_int_view *m, const moe_int_rounding *r, bool down,
                             const pass *k) {
    for (int64_t i = 0; i < m->rows; i++) {
        load_row(m, i, k->work);
        if (down)
            add_row(k, r, i, m->width);
        else
            sum_row(k, r, i, m->width);
    }
}

#if MOE_INT_HAVE_AVX2
MOE_INT_AVX2 static void run_avx2(const moe_int_view *m, const moe_int_rounding *r, bool down,
                                  const pass *k) {
    run_body(m, r, down, k);
}
#endif

static void run(const moe_int_view *m, const moe_int_rounding *r, bool down, const pass *k) {
#if MOE_INT_HAVE_AVX2
    if (moe_int_cpu_avx2()) {
        run_avx2(m, r, down, k);
        return;
    }
#endif
    run_body(m, r, down, k);
}

/* s[J] and what the products and their errors need. */
typedef struct sides {
    double *s, *p, *p2, *pq;           /* [J], [K] each: right^T s, its square, squares added */
    double *got, *gq, *want, *lq, *fq; /* [I] */
    double *work, *block;
} sides;

static int64_t widest(const moe_int_product *p) {
    int64_t w = p->out.width > p->left.width ? p->out.width : p->left.width;
    return w > p->right.width ? w : p->right.width;
}

static moe_status sides_alloc(const moe_int_product *p, uint64_t key, sides *b) {
    int64_t I = p->I, J = p->J, K = p->K;
    b->block = calloc((size_t)(J + 3 * K + 5 * I + widest(p)) + 1, sizeof *b->block);
    if (!b->block)
        return MOE_E_NOMEM;
    b->s = b->block;
    b->p = b->s + J;
    b->p2 = b->p + K;
    b->pq = b->p2 + K;
    b->got = b->pq + K;
    b->gq = b->got + I;
    b->want = b->gq + I;
    b->lq = b->want + I;
    b->fq = b->lq + I;
    b->work = b->fq + I;
    for (int64_t j = 0; j < J; j++)
        b->s[j] = moe_rng_bits(key, MOE_INT_STREAM_IDENTITY, (uint64_t)j) & 1 ? 1 : -1;
    return MOE_OK;
}

/* What the bias adds to entry i, and the squares that its sums err by. */
static double add_bias(const moe_int_product *p, bool flipped, int64_t i, const double *s,
                       double *ret_square) {
    double sum = 0, square = 0;
    int64_t count = p->bias ? p->J : 0;
    for (int64_t j = 0; j < count; j++) {
        int64_t at = p->bias_first + (flipped ? i : j);
        double b = moe_load(p->bias->data, p->bias->dtype, (size_t)at);
        sum += b * s[j];
        square += b * b;
    }
    *ret_square = square;
    return sum;
}

static void compare(const moe_int_product *p, const moe_int_rounding *r, bool flipped,
                    const sides *b, moe_int_gap *ret) {
    double added = moe_int_adding(r, (double)p->K), bias = 0, square = 0;
    if (!flipped)
        bias = add_bias(p, false, 0, b->s, &square);
    for (int64_t i = 0; i < p->I; i++) {
        if (flipped)
            bias = add_bias(p, true, i, b->s, &square);
        /* A 0 may be what was too small to store, which its own square does not tell. */
        const double stored = b->gq[i] + (double)p->J * r->least2;
        double v = stored + p->rounded * (b->lq[i] + b->fq[i]) + added * (b->fq[i] + square);
        moe_int_gap one = {
            .got = b->got[i], .want = b->want[i] + bias, .index = i, .column = flipped};
        one.z = moe_int_gap_z(one.got, one.want, r->u2 * v);
        moe_int_gap_note(ret, &one);
    }
}

static moe_status check_rows(const moe_int_product *p, const moe_int_rounding *r, uint64_t key,
                             bool flipped, moe_int_gap *ret) {
    sides b;
    moe_status status = sides_alloc(p, key, &b);
    if (status)
        return status;
    pass out = {.v = b.s, .sum = b.got, .square = {b.gq}, .work = b.work};
    pass right = {.v = b.s,
                  .sum = b.p,
                  .square = {b.pq},
                  .work = b.work,
                  .zero = p->right.may_vanish ? r->least2 : 0};
    pass left = {.v = b.p,
                 .w = {b.p2, b.pq},
                 .sum = b.want,
                 .square = {b.lq, b.fq},
                 .work = b.work,
                 .zero = p->left.may_vanish ? r->least2 : 0};
    run(&p->out, r, p->out.by_column, &out);
    run(&p->right, r, !p->right.by_column, &right);
    for (int64_t k = 0; k < p->K; k++)
        b.p2[k] = b.p[k] * b.p[k];
    run(&p->left, r, p->left.by_column, &left);
    compare(p, r, flipped, &b, ret);
    free(b.block);
    return MOE_OK;
}

moe_status moe_int_product_check(const moe_int_product *p, const moe_int_rounding *r, uint64_t key,
                                 moe_int_gap *ret) {
    moe_int_product turned = *p;
    turned.left = p->right;
    turned.right = p->left;
    turned.out.by_column = !p->out.by_column;
    turned.I = p->J;
    turned.J = p->I;
    moe_status status = check_rows(p, r, 2 * key, false, ret);
    return status ? status : check_rows(&turned, r, 2 * key + 1, true, ret);
}
