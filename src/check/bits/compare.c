/* Rows of products under chains, and the first difference laid out. */
#include "check/bits/compare.h"
#include "core/convert.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LANES = MOE_INT_LANES };
/* Blocks of K that are looked at for one stage: minutes on one core. Beyond, rows are left out. */
static const int64_t most_blocks = 2000000000;
/* The bank has some thirty arithmetics. */
static const int64_t most_blocks_of_bank = 20000000;

static bool same(float got, float want) {
    return moe_int_f32_bits(got) == moe_int_f32_bits(want) || (isnan(got) && isnan(want));
}

/* Element (i, j): what a chain's sum becomes when it is stored. */
static float stored(const moe_int_bits_run *c, const moe_int_exact_product *p, int64_t j,
                    float sum) {
    if (p->bias)
        sum += (float)moe_load(p->bias->data, p->bias->dtype, (size_t)(p->bias_at + j));
    return p->stored ? (float)moe_round_to(sum, c->dtype) : sum;
}

static void compare_row(const moe_int_bits_run *c, const moe_int_chain *chain,
                        const moe_int_exact_product *p, const moe_int_packed *left,
                        const moe_int_packed *right, const moe_tensor *got, int64_t i,
                        moe_int_bits_outcome *ret) {
    float sum[LANES];
    for (int64_t j = 0; j < p->N; j++) {
        if (j % LANES == 0)
            moe_int_chain_row(chain, left, i, right, j / LANES, sum);
        const int64_t at = p->out + i * p->N + j;
        const float want = stored(c, p, j, sum[j % LANES]);
        ret->elements++;
        if (same((float)moe_load(got->data, got->dtype, (size_t)at), want))
            continue;
        if (ret->differ++ == 0) {
            ret->at = at;
            ret->i = i;
            ret->j = j;
            ret->want = want;
        }
    }
}

static void add(moe_int_bits_outcome *all, const moe_int_bits_outcome *one, int64_t e) {
    if (one->differ && (all->differ == 0 || one->at < all->at)) {
        all->at = one->at;
        all->e = e;
        all->i = one->i;
        all->j = one->j;
        all->want = one->want;
    }
    all->elements += one->elements;
    all->differ += one->differ;
}

static moe_status pack(const moe_int_exact_product *p, moe_int_format format, moe_int_packed *left,
                       moe_int_packed *right) {
    moe_status status = moe_int_pack(&p->left, format, MOE_INT_PACK_VALUES, p->M, p->K, left);
    if (!status)
        status = moe_int_pack(&p->right, format, MOE_INT_PACK_RIGHT | MOE_INT_PACK_VALUES, p->N,
                              p->K, right);
    return status;
}

/* Every `step`-th row of product e under `count` chains. */
static moe_status compare_product(const moe_int_bits_run *c, moe_tensor_id id,
                                  const moe_tensor *got, int64_t e, const moe_int_chain *chains,
                                  size_t count, int64_t step, moe_int_bits_outcome *ret) {
    const moe_int_exact_product p = moe_int_exact_product_of(&c->source, id, e);
    moe_int_packed left = {0}, right = {0};
    if (p.M == 0)
        return MOE_OK;
    moe_status status = pack(&p, chains->format, &left, &right);
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (int64_t i = e % step; i < (status ? 0 : p.M); i += step)
        for (size_t a = 0; a < count; a++) {
            moe_int_bits_outcome one = {0};
            compare_row(c, &chains[a], &p, &left, &right, got, i, &one);
#pragma omp critical(moe_int_bits_outcome)
            add(&ret[a], &one, e);
        }
    moe_int_packed_destroy(&left);
    moe_int_packed_destroy(&right);
    return status;
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
    const int64_t most = count > 1 ? most_blocks_of_bank : most_blocks;
    int64_t total;
    const int64_t step = work_of(c, id, &total) / most + 1;
    moe_status status = MOE_OK;
    for (size_t a = 0; a < count; a++)
        ret[a].total = total;
    for (int64_t e = 0; !status && e < moe_int_exact_products(c->subject->problem, id); e++)
        status = compare_product(c, id, got, e, chains, count, step, ret);
    return status;
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
    moe_int_packed left = {0}, right = {0};
    moe_status status = pack(&p, chain->format, &left, &right);
    const float value = (float)moe_load(got->data, got->dtype, (size_t)o->at);
    const int64_t width = got->shape[got->ndim - 1];
    int length =
        snprintf(ret->first, sizeof ret->first,
                 "element %lld of row %lld is %.9g (0x%08x), should be %.9g (0x%08x); "
                 "product %lld, the accumulator after",
                 (long long)(o->at % width), (long long)(o->at / width), value,
                 moe_int_f32_bits(value), o->want, moe_int_f32_bits(o->want), (long long)o->e);
    laid_out l = {ret->first + length, sizeof ret->first - (size_t)length, 0, 0, 0};
    if (!status)
        moe_int_chain_watch(chain, &left, o->i, &right, o->j / LANES, (int)(o->j % LANES),
                            lay_block, &l);
    const size_t used = strlen(ret->first);
    snprintf(ret->first + used, sizeof ret->first - used, " ... k %lld: 0x%08x",
             (long long)l.last_k, moe_int_f32_bits(l.last));
    moe_int_packed_destroy(&left);
    moe_int_packed_destroy(&right);
    return status;
}
