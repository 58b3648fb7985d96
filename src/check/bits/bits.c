#include "check/bits/bits.h"
#include "check/bits/products.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"
#include "core/convert.h"
#include "reference/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = MOE_INT_LANES };
/* Blocks of K that are looked at for one stage: minutes on one core. Beyond, rows are left out. */
static const int64_t most_blocks = 2000000000;
/* The bank has some thirty arithmetics. */
static const int64_t most_blocks_of_bank = 20000000;

static const struct {
    moe_tensor_id id, from;
} stages[] = {{MOE_T_LOGITS, MOE_T_COUNT},
              {MOE_T_H, MOE_T_COUNT},
              {MOE_T_Y, MOE_T_A},
              {MOE_T_DXP, MOE_T_DH},
              {MOE_T_DW1, MOE_T_DH}};
_Static_assert(sizeof stages / sizeof *stages == MOE_BITS_STAGES, "the record has room for all");

typedef struct comparison {
    const moe_int_subject *subject;
    moe_dtype dtype;
    int threads;
    moe_int_source source;
    int32_t *gates_first;
    moe_check_result *result;
} comparison;

/* What became of one arithmetic on one stage. */
typedef struct outcome {
    int64_t elements, differ, at; /* first that differs: element of the tensor */
    int64_t e, i, j;              /* its product, row and column */
    float want;
} outcome;

static bool same(float got, float want) {
    return moe_int_f32_bits(got) == moe_int_f32_bits(want) || (isnan(got) && isnan(want));
}

/* Element (i, j): what a chain's sum becomes when it is stored. */
static float stored(const comparison *c, const moe_int_exact_product *p, int64_t j, float sum) {
    if (p->bias)
        sum += (float)moe_load(p->bias->data, p->bias->dtype, (size_t)(p->bias_at + j));
    return p->stored ? (float)moe_round_to(sum, c->dtype) : sum;
}

static void compare_row(const comparison *c, const moe_int_chain *chain,
                        const moe_int_exact_product *p, const moe_int_packed *left,
                        const moe_int_packed *right, const moe_tensor *got, int64_t i,
                        outcome *ret) {
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

static void add(outcome *all, const outcome *one, int64_t e) {
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
static moe_status compare_product(const comparison *c, moe_tensor_id id, const moe_tensor *got,
                                  int64_t e, const moe_int_chain *chains, size_t count,
                                  int64_t step, outcome *ret) {
    const moe_int_exact_product p = moe_int_exact_product_of(&c->source, id, e);
    moe_int_packed left = {0}, right = {0};
    if (p.M == 0)
        return MOE_OK;
    moe_status status = pack(&p, chains->format, &left, &right);
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (int64_t i = e % step; i < (status ? 0 : p.M); i += step)
        for (size_t a = 0; a < count; a++) {
            outcome one = {0};
            compare_row(c, &chains[a], &p, &left, &right, got, i, &one);
#pragma omp critical(moe_int_bits_outcome)
            add(&ret[a], &one, e);
        }
    moe_int_packed_destroy(&left);
    moe_int_packed_destroy(&right);
    return status;
}

/* Blocks of K of all elements. */
static int64_t work_of(const comparison *c, moe_tensor_id id) {
    int64_t blocks = 0;
    for (int64_t e = 0; e < moe_int_exact_products(c->subject->problem, id); e++) {
        const moe_int_exact_product p = moe_int_exact_product_of(&c->source, id, e);
        blocks += p.M * p.N * ((p.K + 15) / 16);
    }
    return blocks;
}

static moe_status compare_all(const comparison *c, moe_tensor_id id, const moe_tensor *got,
                              const moe_int_chain *chains, size_t count, outcome *ret) {
    const int64_t most = count > 1 ? most_blocks_of_bank : most_blocks;
    const int64_t step = work_of(c, id) / most + 1;
    moe_status status = MOE_OK;
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

static moe_status lay_out(const comparison *c, moe_tensor_id id, const moe_tensor *got,
                          const moe_int_chain *chain, const outcome *o, moe_bits_stage *ret) {
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

/* Of the chains' outcomes to the record: the one with fewest differences. */
static moe_status record(const comparison *c, moe_tensor_id id, const moe_tensor *got,
                         const moe_int_chain *chains, size_t count, const outcome *o) {
    moe_bits *bits = &c->result->bits;
    moe_bits_stage *s = &bits->stage[bits->n_stages++];
    size_t best = 0;
    for (size_t a = 0; a < count; a++) {
        s->explained_by += count > 1 && o[a].differ == 0;
        best = o[a].differ < o[best].differ ? a : best;
    }
    snprintf(s->name, sizeof s->name, "%s", moe_tensor_name(id));
    moe_arithmetic_name(&chains[best].how, s->arithmetic, sizeof s->arithmetic);
    s->elements = o[best].elements;
    s->differ = o[best].differ;
    if (s->differ == 0)
        return MOE_OK;
    moe_status status = lay_out(c, id, got, &chains[best], &o[best], s);
    if (count > 1)
        return status;
    moe_tensor_verdict *v = moe_int_result_entry(c->result, s->name);
    moe_int_entry_fail(v, "not the bits of %s in %lld of %lld elements", s->arithmetic,
                       (long long)s->differ, (long long)s->elements);
    moe_int_result_set(c->result, MOE_VERDICT_FAIL, "%s: %s", s->name, v->why);
    char *first = c->result->first_wrong_stage;
    if (!first[0])
        snprintf(first, sizeof c->result->first_wrong_stage, "%s", s->name);
    return status;
}

/* The subject's own tensor; *owned: the caller frees it. */
static bool take(const comparison *c, moe_tensor_id id, moe_tensor *ret, bool *owned) {
    const moe_int_subject *s = c->subject;
    *ret = s->got.t[id];
    *owned = !ret->data && s->fetch && !s->drifts && moe_int_is_inner_stage(id) &&
             s->fetch(s->user, id, c->result, ret) == MOE_OK;
    return ret->data != NULL;
}

static bool applies(const comparison *c, moe_tensor_id id) {
    const moe_problem *p = c->subject->problem;
    const bool on_input = p->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    return moe_tensor_exists(&p->layer, id, p->plan != NULL) &&
           (!moe_tensor_is_backward(id) || (p->pass & MOE_PASS_BWD)) &&
           !(on_input && (id == MOE_T_H || id == MOE_T_DW1));
}

static moe_status check_stage(comparison *c, moe_tensor_id id, moe_tensor_id from,
                              const moe_int_chain *chains, size_t count) {
    moe_tensor got = {0}, start = {0};
    moe_int_codes codes = {NULL};
    bool got_owned = false, start_owned = false;
    outcome *o = calloc(count, sizeof *o);
    moe_status status = o ? MOE_OK : MOE_E_NOMEM;
    if (!status && take(c, id, &got, &got_owned) &&
        (from == MOE_T_COUNT || take(c, from, &start, &start_owned))) {
        if (start.data)
            status = moe_int_codes_of(&start, c->dtype, &codes);
        c->source.from = codes.at;
        if (!status)
            status = compare_all(c, id, &got, chains, count, o);
        if (!status && o->elements)
            status = record(c, id, &got, chains, count, o);
    }
    if (got_owned)
        moe_tensor_destroy(&got);
    if (start_owned)
        moe_tensor_destroy(&start);
    free(codes.at);
    free(o);
    return status;
}

/* The arithmetics to try as chains; the caller frees *ret. */
static moe_status chains_of(const moe_check_params *params, moe_int_format format,
                            moe_int_chain **ret, size_t *count) {
    moe_arithmetic asked;
    const moe_arithmetic *bank = &asked;
    moe_status status = MOE_OK;
    *count = 1;
    if (strcmp(params->bits, "find") == 0)
        *count = moe_arithmetics(&bank);
    else
        status = moe_arithmetic_parse(params->bits, &asked);
    if (status)
        return status;
    *ret = calloc(*count, sizeof **ret);
    status = *ret ? MOE_OK : MOE_E_NOMEM;
    for (size_t i = 0; !status && i < *count; i++)
        status = moe_int_chain_make(&bank[i], format, &(*ret)[i]);
    return status;
}

/* Interleaved layers in the order of concat ones. */
static moe_status order_hidden(comparison *c, const moe_arithmetic *how) {
    const moe_layer_desc *desc = &c->subject->problem->layer;
    const int64_t n = desc->n, hw = moe_h_width(desc, n);
    if (!how->gates_first || desc->glu_layout != MOE_GLU_INTERLEAVED || hw == n)
        return MOE_OK;
    c->gates_first = malloc((size_t)hw * sizeof *c->gates_first);
    if (!c->gates_first)
        return MOE_E_NOMEM;
    for (int64_t k = 0; k < hw; k++)
        c->gates_first[k] = (int32_t)(k < n ? 2 * k : 2 * (k - n) + 1);
    c->source.gates_first = c->gates_first;
    return MOE_OK;
}

static const uint16_t *input(const moe_problem *problem, moe_tensor_id id) {
    return problem->in.t[id].data;
}

/* Why nothing can be compared, or NULL. */
static const char *why_not(const moe_int_subject *s, const moe_plan *plan) {
    if (s->arithmetic != MOE_BF16 && s->arithmetic != MOE_F16)
        return "only bf16 and fp16 have an exact arithmetic";
    if (s->problem->dtype != (int32_t)s->arithmetic)
        return "the inputs have another type than the arithmetic";
    return plan ? NULL : "the choice of experts is not known";
}

moe_status moe_int_bits(const moe_int_subject *subject, const moe_plan *plan,
                        const moe_check_params *params, moe_check_result *result) {
    const moe_problem *p = subject->problem;
    const char *why = why_not(subject, plan);
    const moe_int_format format =
        subject->arithmetic == MOE_BF16 ? MOE_INT_FORMAT_BF16 : MOE_INT_FORMAT_FP16;
    comparison c = {.subject = subject,
                    .dtype = subject->arithmetic,
                    .threads = moe_int_thread_count(params->threads),
                    .source = {p, plan, input(p, MOE_T_X), input(p, MOE_T_W1), input(p, MOE_T_W2),
                               input(p, MOE_T_W_R), NULL, NULL},
                    .result = result};
    moe_int_chain *chains = NULL;
    size_t count = 0;
    result->bits.asked = true;
    snprintf(result->bits.why, sizeof result->bits.why, "%s", why ? why : "");
    moe_status status = why ? MOE_OK : chains_of(params, format, &chains, &count);
    if (!status && !why)
        status = order_hidden(&c, &chains->how);
    for (size_t i = 0; !status && !why && i < MOE_BITS_STAGES; i++)
        if (applies(&c, stages[i].id))
            status = check_stage(&c, stages[i].id, stages[i].from, chains, count);
    free(c.gates_first);
    free(chains);
    return status;
}
