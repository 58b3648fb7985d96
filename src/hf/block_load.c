/* A checkpoint of a family whose block has more than a layer, to the problem of its experts. */
#include "hf/block_load.h"
#include "core/elements.h"
#include "layer/problem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void source(const moe_int_part_source *base, const moe_layer_desc *layer,
                   const moe_int_family *family, moe_int_hf_config *config,
                   moe_int_part_source *ret) {
    *config = *base->config;
    config->layer = *layer;
    config->family = family;
    *ret = *base;
    ret->config = config;
}

void moe_int_block_sources_make(const moe_int_part_source *src, const moe_block *b,
                                moe_int_block_sources *ret) {
    const moe_int_family *family = src->config->family;
    moe_layer_desc outer = b->layer, experts = moe_int_block_experts(b), sinks;
    outer.E = experts.E -= b->sinks;
    outer.act = b->shared_act;
    outer.router.select_bias = b->layer.router.select_bias;
    sinks = experts;
    sinks.E = b->sinks;
    ret->sink_family = *family;
    ret->sink_family.names[MOE_INT_PART_GATE_UP] = family->names[MOE_INT_PART_SHARED_GATE_UP];
    ret->sink_family.names[MOE_INT_PART_GATE] = family->names[MOE_INT_PART_SHARED_GATE];
    ret->sink_family.names[MOE_INT_PART_UP] = family->names[MOE_INT_PART_SHARED_UP];
    ret->sink_family.names[MOE_INT_PART_DOWN] = family->names[MOE_INT_PART_SHARED_DOWN];
    source(src, &outer, family, &ret->config[0], &ret->outer);
    source(src, &experts, family, &ret->config[1], &ret->experts);
    source(src, &sinks, &ret->sink_family, &ret->config[2], &ret->sinks);
}

static moe_tensor_id target(const moe_int_part_source *src, moe_int_part part) {
    moe_tensor_id param = moe_int_part_param(part);
    for (int id = 0; src->gradients && id < MOE_T_COUNT; id++)
        if (moe_tensor_param_of(id) == param)
            return id;
    return param;
}

/* Parts from..to of the source into the tensors of `dst` from expert `first` on. */
static moe_status copy_parts(const moe_int_part_source *src, moe_int_part from, moe_int_part to,
                             int64_t first, const moe_log *log, moe_tensors *dst) {
    moe_status status = MOE_OK;
    for (moe_int_part part = from; !status && part <= to; part++) {
        moe_dtype dtype = MOE_DTYPE_COUNT;
        if (!moe_int_part_used(src, part) || (src->gradients && !moe_int_part_present(src, part)))
            continue;
        moe_tensor view = dst->t[target(src, part)];
        if (view.ndim == 3) {
            const size_t size = moe_dtype_size(view.dtype) * (size_t)view.shape[1];
            view.data = (char *)view.data + (size_t)first * size * (size_t)view.shape[2];
            view.shape[0] = src->config->layer.E;
        }
        status = moe_int_part_check(src, part, log, &dtype);
        if (!status)
            status = moe_int_part_copy(src, part, log, &view);
    }
    return status;
}

static moe_status alloc_params(const moe_layer_desc *layer, const moe_int_part_source *src,
                               moe_int_part from, moe_int_part to, moe_dtype dtype,
                               moe_tensors *dst) {
    moe_status status = MOE_OK;
    for (moe_int_part part = from; !status && part <= to; part++) {
        const moe_tensor_id id = target(src, part);
        moe_tensor *t = &dst->t[id];
        if (t->data || !moe_int_part_used(src, part) ||
            (src->gradients && !moe_int_part_present(src, part)))
            continue;
        moe_tensor_shape(layer, id, 0, 0, 0, t);
        status = moe_tensor_alloc(dtype, t->ndim, t->shape, t);
    }
    return status;
}

moe_status moe_int_block_copy_experts(const moe_int_block_sources *s, const moe_layer_desc *experts,
                                      moe_dtype dtype, const moe_log *log, moe_tensors *dst) {
    const moe_int_part from = MOE_INT_PART_GATE_UP, to = MOE_INT_PART_DOWN_BIAS;
    moe_status status = alloc_params(experts, &s->experts, from, to, dtype, dst);
    if (status)
        return moe_fail(log, status, "%s: no memory for the experts", s->experts.path);
    status = copy_parts(&s->experts, from, to, 0, log, dst);
    if (!status && s->sinks.config->layer.E)
        status = copy_parts(&s->sinks, from, to, s->experts.config->layer.E, log, dst);
    return status;
}

moe_status moe_int_block_copy_shared(const moe_int_block_sources *s, const moe_log *log,
                                     moe_tensors *dst) {
    const moe_int_part from = MOE_INT_PART_SHARED_GATE_UP, to = MOE_INT_PART_SHARED_DOWN;
    moe_status status = alloc_params(&s->outer.config->layer, &s->outer, from, to, MOE_F64, dst);
    return status ? status : copy_parts(&s->outer, from, to, 0, log, dst);
}

moe_status moe_int_block_copy_named(const moe_int_part_source *src, const char *spellings,
                                    const moe_tensor *shape, const moe_log *log, moe_tensor *ret) {
    char word[MOE_INT_NAME_BYTES], name[MOE_INT_NAME_BYTES];
    moe_tensor view;
    moe_int_name_find(src, spellings, word);
    moe_int_name_spell(src, word, 0, name);
    moe_status status = moe_int_hf_get(src->file, src->path, name, shape, log, &view);
    return status ? status : moe_tensor_cast(&view, MOE_F64, ret);
}

static int64_t end_width(const moe_block *b, moe_int_place place) {
    switch (place) {
    case MOE_INT_PLACE_ROUTER:
        return moe_int_block_columns(b);
    case MOE_INT_PLACE_BEFORE:
    case MOE_INT_PLACE_PAIR:
        return b->latent;
    case MOE_INT_PLACE_AFTER:
    case MOE_INT_PLACE_OUT:
    case MOE_INT_PLACE_COUNT:
        break;
    }
    return b->layer.d;
}

static moe_status load_op(const moe_int_part_source *src, const moe_int_op_row *row, double number,
                          int64_t end, const moe_log *log, moe_int_op *op) {
    char word[MOE_INT_NAME_BYTES];
    const bool linear = row->kind == MOE_INT_OP_LINEAR;
    op->kind = row->kind;
    op->offset = row->offset;
    op->out = !linear ? op->in : row->key ? (int64_t)number : end;
    op->number = row->over_root ? 1 / sqrt((double)op->in) : number;
    moe_tensor shape = {.ndim = 1, .shape = {op->in}};
    if (linear)
        shape = (moe_tensor){.ndim = 2, .shape = {op->out, op->in}};
    moe_status status =
        row->weight ? moe_int_block_copy_named(src, row->weight, &shape, log, &op->w) : MOE_OK;
    shape = (moe_tensor){.ndim = 1, .shape = {op->out}};
    if (!status && row->bias && moe_int_name_find(src, row->bias, word))
        status = moe_int_block_copy_named(src, row->bias, &shape, log, &op->b);
    return status;
}

static moe_status load_chains(const moe_int_part_source *src, const moe_log *log, moe_block *b) {
    const moe_int_block_row *row = src->config->block;
    moe_status status = MOE_OK;
    for (int place = 0; place < MOE_INT_PLACE_COUNT; place++) {
        moe_int_chain *chain = &b->chain[place];
        const bool inner = place == MOE_INT_PLACE_PAIR || place == MOE_INT_PLACE_AFTER;
        int64_t width = inner ? b->latent : b->layer.d;
        for (int i = 0; !status && i < MOE_INT_CHAIN_MAX && row->op[place][i].kind; i++) {
            moe_int_op *op = &chain->op[i];
            op->in = width;
            chain->n = i + 1;
            status = load_op(src, &row->op[place][i], src->config->numbers.op[place][i],
                             end_width(b, place), log, op);
            width = op->out;
        }
    }
    return status;
}

/* One number for all experts, or one for each. */
static moe_status load_scale(const moe_int_part_source *src, const moe_log *log, moe_block *b) {
    const moe_int_block_row *row = src->config->block;
    const moe_tensor shape = {.ndim = 1, .shape = {row->sinks_key ? 1 : b->layer.E}};
    return row->scale ? moe_int_block_copy_named(src, row->scale, &shape, log, &b->scale) : MOE_OK;
}

static moe_status load_bias(const moe_int_block_sources *s, const moe_log *log, moe_block *b) {
    const int64_t classes = s->outer.config->layer.E + b->layer.n_zero;
    const moe_tensor shape = {.ndim = 1, .shape = {classes}};
    if (!b->layer.router.select_bias)
        return MOE_OK;
    return moe_int_block_copy_named(
        &s->outer, moe_int_family_names(s->outer.config->family, MOE_INT_PART_SELECT_BIAS), &shape,
        log, &b->b_select);
}

/* [ids][K] experts of each token id. */
static moe_status load_table(const moe_int_part_source *src, const moe_log *log, moe_block *b) {
    char word[MOE_INT_NAME_BYTES], name[MOE_INT_NAME_BYTES];
    moe_tensor t;
    moe_int_name_find(src, src->config->block->table, word);
    moe_int_name_spell(src, word, 0, name);
    moe_status status = moe_safetensors_get(src->file, name, &t);
    const bool integer = !status && (t.dtype == MOE_I64 || t.dtype == MOE_I32);
    if (!integer || t.ndim != 2 || t.shape[1] != b->layer.K || !t.shape[0])
        return moe_fail(log, MOE_E_FORMAT, "%s has no integers %s [ids, K]", src->path, name);
    const int64_t count = moe_tensor_count(&t);
    b->ids = t.shape[0];
    b->expert_of_id = malloc((size_t)count * sizeof *b->expert_of_id);
    if (!b->expert_of_id)
        return moe_fail(log, MOE_E_NOMEM, "%s: no memory for %s", src->path, name);
    for (int64_t i = 0; i < count; i++) {
        double e = moe_load(t.data, t.dtype, (size_t)i);
        if (!(e >= 0 && e < (double)b->layer.E))
            return moe_fail(log, MOE_E_FORMAT, "%s: %s has an expert %.0f", src->path, name, e);
        b->expert_of_id[i] = (int32_t)e;
    }
    return MOE_OK;
}

/* The batch's token ids: the case's, or without one some that are spread over the table. */
static moe_status load_ids(const moe_int_hf_case *golden, const moe_log *log, moe_block *b) {
    moe_tensor t = {0};
    b->token_id = malloc((size_t)(b->T + 1) * sizeof *b->token_id);
    if (!b->token_id)
        return moe_fail(log, MOE_E_NOMEM, "no memory for token ids");
    for (int64_t i = 0; i < b->T; i++)
        b->token_id[i] = i * 7919 % b->ids;
    if (!golden)
        return MOE_OK;
    if (moe_safetensors_get(golden->file, "input_ids", &t) || moe_tensor_count(&t) != b->T)
        return moe_fail(log, MOE_E_FORMAT, "%s has no input_ids [T]", golden->path);
    for (int64_t i = 0; i < b->T; i++) {
        double id = moe_load(t.data, t.dtype, (size_t)i);
        if (!(id >= 0 && id < (double)b->ids))
            return moe_fail(log, MOE_E_FORMAT, "%s: token id %.0f is not in the table",
                            golden->path, id);
        b->token_id[i] = (int64_t)id;
    }
    return MOE_OK;
}

/* The activation with a gate whose factor is `act`. */
static int32_t gated(int32_t act) {
    return act == MOE_ACT_SILU   ? MOE_ACT_SWIGLU
           : act == MOE_ACT_GELU ? MOE_ACT_GEGLU
                                 : MOE_ACT_REGLU;
}

static void describe(const moe_int_hf_config *c, int64_t T, moe_block *b) {
    const moe_int_block_row *row = c->block;
    b->layer = c->layer;
    b->T = T;
    b->latent = c->numbers.latent;
    b->choice = row->choice;
    b->keys = (int64_t)sqrt((double)c->layer.E);
    b->sinks = c->numbers.sinks;
    b->layer.E += b->sinks;
    b->layer.K += b->sinks;
    if (b->sinks)
        b->layer.n_shared = 0;
    b->layer.n_zero = row->skip;
    b->shared_act = row->shared_gated ? gated(c->layer.act) : c->layer.act;
    b->report_softmax = row->report_softmax;
    b->report_sorted = row->report_sorted;
    b->state_at = row->state_at;
    if (c->numbers.fraction > 0)
        b->layer.router.capacity = (int64_t)ceil(c->numbers.fraction * (double)T);
}

/* The block's X and dO, which the problem was given as if it were the model's layer. */
static moe_status take_inputs(moe_problem *p, moe_block *b) {
    moe_status status = moe_tensor_cast(&p->in.t[MOE_T_X], MOE_F64, &b->X);
    if (!status && p->in.t[MOE_T_DO].data)
        status = moe_tensor_cast(&p->in.t[MOE_T_DO], MOE_F64, &b->dO);
    moe_tensor_destroy(&p->in.t[MOE_T_X]);
    moe_tensor_destroy(&p->in.t[MOE_T_DO]);
    return status;
}

static moe_status load_pieces(const moe_int_block_sources *s, const moe_int_hf_case *golden,
                              const moe_log *log, moe_block *b) {
    moe_status status = load_chains(&s->outer, log, b);
    if (!status)
        status = load_scale(&s->outer, log, b);
    if (!status)
        status = load_bias(s, log, b);
    if (!status && b->layer.n_shared)
        status = moe_int_block_copy_shared(s, log, &b->shared);
    if (!status && s->outer.config->block->table)
        status = load_table(&s->outer, log, b);
    if (!status && b->ids)
        status = load_ids(golden, log, b);
    return status;
}

/* The type that holds every parameter of the experts beside what p->dtype holds; float64 where
 * their inputs are computed. */
static moe_status widen(const moe_int_block_sources *s, const moe_block *b, const moe_log *log,
                        moe_problem *p) {
    moe_dtype dtype = (moe_dtype)p->dtype;
    moe_status status = MOE_OK;
    for (moe_int_part part = MOE_INT_PART_GATE_UP; part <= MOE_INT_PART_DOWN_BIAS; part++)
        if (!status && moe_int_part_used(&s->experts, part))
            status = moe_int_part_check(&s->experts, part, log, &dtype);
    p->dtype = moe_int_block_keeps_inputs(b) ? (int32_t)dtype : MOE_F64;
    return status;
}

moe_status moe_int_block_load(const moe_int_part_source *src, const moe_int_hf_case *golden,
                              const moe_log *log, moe_problem *p) {
    moe_int_block_sources s;
    moe_block *b = calloc(1, sizeof *b);
    if (!b)
        return moe_fail(log, MOE_E_NOMEM, "%s: no memory for a block", src->path);
    describe(src->config, p->T, b);
    if (src->config->block->forward_only)
        p->pass = MOE_PASS_FWD;
    moe_status status = take_inputs(p, b);
    moe_int_block_sources_make(src, b, &s);
    if (!status)
        status = load_pieces(&s, golden, log, b);
    p->layer = moe_int_block_experts(b);
    if (!status)
        status = widen(&s, b, log, p);
    if (!status)
        status = moe_int_block_copy_experts(&s, &p->layer, (moe_dtype)p->dtype, log, &p->in);
    if (status) {
        moe_int_block_destroy(b);
        return status;
    }
    status = moe_int_block_enter(b, log, p);
    return status || !golden ? status : moe_int_block_expected(src, golden, log, p);
}
