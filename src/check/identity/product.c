/* One product against random signs. Of row i, in units of u^2/3 and beside the errors of fp32 sums
 * (errors.h), the two sides differ by what storing `out` adds, sum_j out(i,j)^2, and by roundings
 * of operands, sum_k left(i,k)^2 p_k^2 and sum_jk left(i,k)^2 right(j,k)^2, where p = right^T s:
 * signs leave the squares alone, and independent errors add. */
#include "check/identity/product.h"
#include "core/streams.h"
#include "moeref/rng.h"

#include <math.h>
#include <stdlib.h>

/* What one pass over a matrix M makes of a vector v and of weights w: */
typedef struct pass {
    const double *v;         /* sum = M v */
    const double *w[2];      /* square[q] = sum of stored squares times w[q]; NULL: 1 */
    double *sum, *square[2]; /* zeroed; square may be NULL */
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
    for (int64_t k = 0; k < m->width; k++)
        work[k] = m->t ? scale * work[k] : scale;
}

/* `down`: sums run down the rows, an entry for each column; else along each row. */
static void run(const moe_int_view *m, const moe_int_rounding *r, bool down, const pass *k) {
    for (int64_t i = 0; i < m->rows; i++) {
        load_row(m, i, k->work);
        for (int64_t j = 0; j < m->width; j++) {
            int64_t from = down ? i : j, to = down ? j : i;
            double stored = moe_int_stored(r, k->work[j]);
            k->sum[to] += k->work[j] * k->v[from];
            for (int q = 0; q < 2; q++)
                if (k->square[q])
                    k->square[q][to] += stored * (k->w[q] ? k->w[q][from] : 1);
        }
    }
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
    double added = r->sum * (double)p->K, bias = 0, square = 0;
    if (!flipped)
        bias = add_bias(p, false, 0, b->s, &square);
    for (int64_t i = 0; i < p->I; i++) {
        if (flipped)
            bias = add_bias(p, true, i, b->s, &square);
        double v = b->gq[i] + p->rounded * (b->lq[i] + b->fq[i]) + added * (b->fq[i] + square);
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
    pass right = {.v = b.s, .sum = b.p, .square = {b.pq}, .work = b.work};
    pass left = {
        .v = b.p, .w = {b.p2, b.pq}, .sum = b.want, .square = {b.lq, b.fq}, .work = b.work};
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
