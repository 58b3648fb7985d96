/* Rows of products under chains, and the first difference laid out. */
#include "check/bits/compare.h"
#include "core/convert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = MOE_INT_LANES };
/* Blocks of K that are looked at for one stage: minutes on one core. Beyond, rows are left out. */
static const int64_t most_blocks = 2000000000;
/* The bank has some thirty arithmetics. */
static const int64_t most_blocks_of_bank = 20000000;

static bool same(float got, float want) {
    return moe_int_f32_bits(got) == moe_int_f32_bits(want) || (isnan(got) && isnan(want));
}

int64_t moe_int_bits_step(const moe_int_bits_run *c, int64_t blocks, size_t count) {
    return blocks / (count > 1 || c->brief ? most_blocks_of_bank : most_blocks) + 1;
}

moe_int_spans moe_int_bits_spans(const moe_int_bits_run *c, const moe_int_chain *chain) {
    enum { DEFAULT_ULP = 16 };
    const int32_t ulp = chain->how.act_ulp;
    return (moe_int_spans){&c->subject->problem->layer, ulp ? ulp : DEFAULT_ULP, c->dtype};
}

void moe_int_bits_hold(const moe_tensor *got, int64_t at, moe_int_span span,
                       moe_int_bits_outcome *ret) {
    const float is = (float)moe_load(got->data, got->dtype, (size_t)at);
    const bool open = span.any || !same(span.low, span.high);
    ret->elements++;
    ret->undecided += open;
    if (span.any || same(is, span.low) ||
        ((open || span.signless) && is >= span.low && is <= span.high))
        return;
    if (ret->differ++ == 0) {
        ret->at = at;
        ret->want = span.low;
    }
}

/* Element (i, j): what a chain's sum becomes when it is stored. */
static float stored(const moe_int_bits_run *c, const moe_int_exact_product *p, int64_t i, int64_t j,
                    bool fused, float sum) {
    const float bias =
        p->bias ? (float)moe_load(p->bias->data, p->bias->dtype, (size_t)(p->bias_at + j)) : 0;
    if (p->first_pair >= 0) {
        const float s = moe_int_weight_of(&c->source, p->first_pair + i);
        sum = !p->bias ? s * sum : fused ? fmaf(s, sum, bias) : s * sum + bias;
    } else if (p->bias) {
        sum += bias;
    }
    return p->stored ? (float)moe_round_to(sum, c->dtype) : sum;
}

static void compare_lanes(const moe_int_bits_product *p, const moe_int_chain *chain, int64_t i,
                          int64_t j, const float *sum, moe_int_bits_outcome *ret) {
    const moe_int_exact_product *x = &p->exact;
    for (int64_t l = 0; l < LANES && j + l < x->N; l++) {
        const float want = stored(p->c, x, i, j + l, chain->how.fused, sum[l]);
        const int64_t before = ret->differ;
        moe_int_bits_hold(p->got, x->out + i * x->N + j + l,
                          (moe_int_span){.low = want, .high = want}, ret);
        if (before == 0 && ret->differ) {
            ret->i = i;
            ret->j = j + l;
        }
    }
}

void moe_int_bits_add(moe_int_bits_outcome *all, const moe_int_bits_outcome *one, int64_t e) {
    if (one->differ && (all->differ == 0 || one->at < all->at)) {
        all->at = one->at;
        all->e = e;
        all->i = one->i;
        all->j = one->j;
        all->want = one->want;
    }
    all->elements += one->elements;
    all->differ += one->differ;
    all->undecided += one->undecided;
}

/* What all chains multiply. */
static moe_int_packing packing_of(const moe_int_chain *chains, size_t count) {
    moe_int_packing all = MOE_INT_PACK_LEFT;
    for (size_t a = 0; a < count; a++)
        all |= moe_int_chain_packing(&chains[a]);
    return all;
}

/* Columns j .. of every `step`-th row. */
static moe_status hold_lanes(const moe_int_bits_product *p, const moe_int_bits_under *u, int64_t j,
                             moe_int_bits_outcome *ret) {
    const moe_int_exact_product *x = &p->exact;
    float sum[LANES];
    moe_int_packed right = {0};
    moe_int_bits_outcome *all = calloc(u->count, sizeof *all);
    moe_status status = all ? MOE_OK : MOE_E_NOMEM;
    if (!status)
        status = moe_int_pack(&x->right, u->chains->format,
                              MOE_INT_PACK_RIGHT | packing_of(u->chains, u->count), j,
                              x->N - j < LANES ? x->N - j : LANES, x->K, &right);
    for (int64_t i = p->e % u->step; !status && i < x->M; i += u->step)
        for (size_t a = 0; a < u->count; a++) {
            moe_int_chain_row(&u->chains[a], &p->left, i, &right, 0, sum);
            u->hold(p, &u->chains[a], i, j, sum, &all[a]);
        }
#pragma omp critical(moe_int_bits_outcome)
    for (size_t a = 0; !status && a < u->count; a++)
        moe_int_bits_add(&ret[a], &all[a], p->e);
    moe_int_packed_destroy(&right);
    free(all);
    return status;
}

moe_status moe_int_bits_rows(moe_int_bits_product *p, const moe_int_bits_under *u,
                             moe_int_bits_outcome *ret) {
    const moe_int_exact_product *x = &p->exact;
    if (x->M <= p->e % u->step) /* no row of it */
        return MOE_OK;
    bool failed = moe_int_pack(&x->left, u->chains->format, packing_of(u->chains, u->count), 0,
                               x->M, x->K, &p->left) != MOE_OK;
#pragma omp parallel for num_threads(p->c->threads) schedule(dynamic) reduction(|| : failed)
    for (int64_t j = 0; j < (p->left.all.sig ? x->N : 0); j += LANES)
        failed = failed || hold_lanes(p, u, j, ret) != MOE_OK;
    moe_int_packed_destroy(&p->left);
    return failed ? MOE_E_NOMEM : MOE_OK;
}

/* Blocks of K of all elements. */
static int64_t work_of(const moe_int_bits_run *c, moe_tensor_id id, int64_t *ret_elements) {
    int64_t blocks = 0;
    *ret_elements = 0;
    for (int64_t e = 0; e < moe_int_exact_products(c->subject->problem, id); e++) {
        const moe_int_exact_product p = moe_int_exact_product_of(&c->source, id, e);
        *ret_elements += p.M * p.N;
        blocks += p.M * p.N * ((p.K + 15) / 16);
    }
    return blocks;
}

moe_status moe_int_bits_compare(const moe_int_bits_run *c, moe_tensor_id id, const moe_tensor *got,
                                const moe_int_chain *chains, size_t count,
                                moe_int_bits_outcome *ret) {
    int64_t total;
    const moe_int_bits_under under = {compare_lanes, chains, count,
                                      moe_int_bits_step(c, work_of(c, id, &total), count)};
    moe_status status = MOE_OK;
    for (size_t a = 0; a < count; a++)
        ret[a].total = total;
    for (int64_t e = 0; !status && e < moe_int_exact_products(c->subject->problem, id); e++) {
        moe_int_bits_product p = {
            .c = c, .got = got, .exact = moe_int_exact_product_of(&c->source, id, e), .e = e};
        status = moe_int_bits_rows(&p, &under, ret);
    }
    return status;
}

/* "element 5 of row 3 is 0.5 (0x3f000000), should be ..." */
static int say_first(const moe_tensor *got, const moe_int_bits_outcome *o, moe_bits_stage *ret) {
    const float value = (float)moe_load(got->data, got->dtype, (size_t)o->at);
    const int64_t width = got->shape[got->ndim - 1];
    return snprintf(ret->first, sizeof ret->first,
                    "element %lld of row %lld is %.9g (0x%08x), should be %.9g (0x%08x)",
                    (long long)(o->at % width), (long long)(o->at / width), value,
                    moe_int_f32_bits(value), o->want, moe_int_f32_bits(o->want));
}

void moe_int_bits_lay_out_plain(const moe_tensor *got, const moe_int_bits_outcome *o,
                                moe_bits_stage *ret) {
    say_first(got, o, ret);
}

/* The chain that leads to an element, its first blocks and its last ones. */
typedef struct laid_out {
    char *text;
    size_t size;
    int64_t count, last_k;
    float last;
} laid_out;

static void lay_block(void *user, int64_t k, float accumulator) {
    enum { FIRST_BLOCKS = 3 };
    laid_out *l = user;
    const size_t used = strlen(l->text);
    if (l->count++ < FIRST_BLOCKS && used < l->size)
        snprintf(l->text + used, l->size - used, "%s k %lld: 0x%08x", l->count > 1 ? "," : "",
                 (long long)k, moe_int_f32_bits(accumulator));
    l->last_k = k;
    l->last = accumulator;
}

moe_status moe_int_bits_lay_out(const moe_int_bits_run *c, moe_tensor_id id, const moe_tensor *got,
                                const moe_int_chain *chain, const moe_int_bits_outcome *o,
                                moe_bits_stage *ret) {
    const moe_int_exact_product p = moe_int_exact_product_of(&c->source, id, o->e);
    const moe_int_packing how = moe_int_chain_packing(chain);
    moe_int_packed left = {0}, right = {0};
    moe_status status = moe_int_pack(&p.left, chain->format, how, o->i, 1, p.K, &left);
    if (!status)
        status =
            moe_int_pack(&p.right, chain->format, MOE_INT_PACK_RIGHT | how, o->j, 1, p.K, &right);
    int length = say_first(got, o, ret);
    length += snprintf(ret->first + length, sizeof ret->first - (size_t)length,
                       "; product %lld, the accumulator after", (long long)o->e);
    laid_out l = {ret->first + length, sizeof ret->first - (size_t)length, 0, 0, 0};
    if (!status)
        moe_int_chain_watch(chain, &left, 0, &right, 0, 0, lay_block, &l);
    const size_t used = strlen(ret->first);
    snprintf(ret->first + used, sizeof ret->first - used, " ... k %lld: 0x%08x",
             (long long)l.last_k, moe_int_f32_bits(l.last));
    moe_int_packed_destroy(&left);
    moe_int_packed_destroy(&right);
    return status;
}
