/* What a family's own code made of a block: its output, its router's, and every gradient. */
#include "core/elements.h"
#include "hf/block_load.h"

#include <stdlib.h>
#include <string.h>

/* What the router module returned, by shape and type; views into the file. */
typedef struct router_out {
    moe_tensor index, weight; /* [T][K] */
    moe_tensor token;         /* [pairs] in an order of the module's own, with weight [pairs] */
    moe_tensor logits, dense; /* [T][columns], [T][classes] */
    moe_tensor sinks, state;  /* [T][sinks], [T][width] */
} router_out;

static bool is_real(const moe_tensor *t) {
    return moe_dtype_roundoff(t->dtype) > 0;
}

/* Where a tensor belongs; the first of two alike is told by the row's kind of report. */
static moe_tensor *place_of(const moe_block *b, const moe_int_hf_config *c, const moe_tensor *t,
                            router_out *out) {
    const int64_t count = moe_tensor_count(t), width = t->ndim ? t->shape[t->ndim - 1] : 0;
    const int64_t routed = b->layer.K - b->sinks, columns = moe_int_block_columns(b);
    const int64_t state = b->state_at ? b->chain[MOE_INT_PLACE_ROUTER].op[b->state_at].in : 0;
    if (b->report_sorted && t->ndim == 1)
        return is_real(t) ? &out->weight : out->token.data ? &out->index : &out->token;
    if (!is_real(t))
        return count == b->T * routed ? &out->index : NULL;
    if (state && t->ndim == 3 && width == state)
        return &out->state;
    if (count == b->T * columns || count == b->T * (columns - b->sinks))
        return c->family->reports == MOE_INT_REPORTS_DENSE && !out->dense.data ? &out->dense
                                                                               : &out->logits;
    if (b->sinks && out->weight.data && count == b->T * b->sinks)
        return &out->sinks;
    return count == b->T * routed ? &out->weight : NULL;
}

static bool starts_with(const char *name, const char *start) {
    return strncmp(name, start, strlen(start)) == 0;
}

/* NLLB's mask of first choices, which the weights hold too. */
static bool is_mask(const moe_block *b, const moe_tensor *t) {
    return b->choice == MOE_INT_CHOICE_TWO_STAGES && !is_real(t) &&
           moe_tensor_count(t) == b->T * moe_int_block_classes(b);
}

static moe_status find_router_out(const moe_block *b, const moe_int_hf_case *c,
                                  const moe_int_hf_config *config, const moe_log *log,
                                  router_out *ret) {
    char shape[96];
    for (size_t i = 0; i < moe_safetensors_count(c->file); i++) {
        const char *name = moe_safetensors_name(c->file, i);
        moe_tensor t;
        if (!starts_with(name, MOE_INT_HF_ROUTER_OUT))
            continue;
        if (moe_safetensors_get(c->file, name, &t))
            return moe_fail(log, MOE_E_FORMAT, "%s: cannot read %s", c->path, name);
        if (is_mask(b, &t))
            continue;
        moe_tensor *place = place_of(b, config, &t, ret);
        if (!place || place->data)
            return moe_fail(log, MOE_E_FORMAT, "%s: %s %s is nothing that a router of %s returns",
                            c->path, name, moe_tensor_shape_str(&t, shape, sizeof shape),
                            config->family->model_type);
        *place = t;
    }
    return MOE_OK;
}

static double value(const moe_tensor *t, int64_t i) {
    return moe_load(t->data, t->dtype, (size_t)i);
}

static int descending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* A token's weights, largest first. Doubtful tokens are left out, and so make a difference. */
static void take_sorted(const moe_block *b, const router_out *out, double *w) {
    const int64_t n = moe_int_block_classes(b), K = b->layer.K;
    for (int64_t i = 0; i < moe_tensor_count(&out->weight); i++) {
        /* Of the two lists of integers one has the pairs' places before sorting, one their tokens:
         * place / K is the token. */
        const double token = value(&out->index, i), place = value(&out->token, i);
        if (!(token >= 0 && token < (double)b->T) || (int64_t)place / K != (int64_t)token)
            continue;
        double *row = w + (int64_t)token * n;
        int64_t k = 0;
        while (k < n - 1 && row[k] != 0)
            k++;
        row[k] = value(&out->weight, i);
    }
    for (int64_t t = 0; t < b->T; t++)
        qsort(w + t * n, (size_t)n, sizeof *w, descending);
}

static moe_status take_weights(const moe_int_hf_case *c, const moe_int_hf_config *config,
                               const router_out *out, const moe_log *log, moe_block *b) {
    const int64_t n = moe_int_block_classes(b), routed = b->layer.K - b->sinks;
    const double factor = config->weight_factor;
    moe_status status = moe_tensor_alloc(MOE_F64, 2, (int64_t[]){b->T, n}, &b->want.weight);
    double *w = b->want.weight.data;
    if (status || out->token.data) {
        if (!status && out->index.data && out->weight.data)
            take_sorted(b, out, w);
        return status;
    }
    for (int64_t i = 0; out->dense.data && i < b->T * n; i++)
        w[i] = factor * value(&out->dense, i);
    for (int64_t i = 0; out->index.data && out->weight.data && i < b->T * routed; i++) {
        const double e = value(&out->index, i);
        if (!(e >= 0 && e < (double)n))
            return moe_fail(log, MOE_E_FORMAT, "%s: a router chose expert %.0f", c->path, e);
        w[i / routed * n + (int64_t)e] += factor * value(&out->weight, i);
    }
    for (int64_t i = 0; out->sinks.data && i < b->T * b->sinks; i++)
        w[i / b->sinks * n + n - b->sinks + i % b->sinks] = value(&out->sinks, i);
    return MOE_OK;
}

/* [.][T][columns] as [T][columns] in float64 */
static moe_status take_rows(const moe_tensor *view, int64_t T, moe_tensor *ret) {
    if (!view->data)
        return MOE_OK;
    moe_tensor rows = *view;
    rows.ndim = 2;
    rows.shape[0] = T;
    rows.shape[1] = moe_tensor_count(view) / T;
    return moe_tensor_cast(&rows, MOE_F64, ret);
}

static moe_status take_router(const moe_int_hf_case *c, const moe_int_hf_config *config,
                              const moe_log *log, moe_block *b) {
    router_out out = {0};
    moe_status status = find_router_out(b, c, config, log, &out);
    if (!status && (out.dense.data || out.weight.data))
        status = take_weights(c, config, &out, log, b);
    if (!status)
        status = take_rows(&out.logits, b->T, &b->want.logits);
    return status ? status : take_rows(&out.state, b->T, &b->want.state);
}

/* The golden value of one tensor, where the file has it. */
static moe_status take_named(const moe_int_part_source *src, const char *spellings,
                             const moe_tensor *shape, const moe_log *log, moe_tensor *ret) {
    char word[MOE_INT_NAME_BYTES];
    if (!spellings || !shape->data || !moe_int_name_find(src, spellings, word))
        return MOE_OK;
    return moe_int_block_copy_named(src, spellings, shape, log, ret);
}

static moe_status take_chains(const moe_int_part_source *src, const moe_log *log, moe_block *b) {
    const moe_int_block_row *row = src->config->block;
    moe_status status = MOE_OK;
    for (int place = 0; place < MOE_INT_PLACE_COUNT; place++) {
        for (int i = 0; !status && i < b->chain[place].n; i++) {
            const moe_int_op_row *op = &row->op[place][i];
            moe_int_chain_gradients *want = &b->want.chain[place];
            status = take_named(src, op->weight, &b->chain[place].op[i].w, log, &want->w[i]);
            if (!status)
                status = take_named(src, op->bias, &b->chain[place].op[i].b, log, &want->b[i]);
        }
    }
    return status ? status : take_named(src, row->scale, &b->scale, log, &b->want.dscale);
}

/* Is it one of the spellings? */
static bool is_spelled(const moe_int_part_source *src, const char *spellings, const char *name) {
    char word[MOE_INT_NAME_BYTES], known[MOE_INT_NAME_BYTES];
    if (!spellings || !moe_int_name_find(src, spellings, word))
        return false;
    moe_int_name_spell(src, word, 0, known);
    return strcmp(name, known) == 0;
}

static bool is_of_block(const moe_int_part_source *src, const char *name) {
    const moe_int_block_row *row = src->config->block;
    if (is_spelled(src, row->scale, name))
        return true;
    for (int place = 0; place < MOE_INT_PLACE_COUNT; place++)
        for (int i = 0; i < MOE_INT_CHAIN_MAX && row->op[place][i].kind; i++)
            if (is_spelled(src, row->op[place][i].weight, name) ||
                is_spelled(src, row->op[place][i].bias, name))
                return true;
    return false;
}

static moe_status refuse_unknown(const moe_int_block_sources *s, const moe_log *log) {
    static const char *const known[] = {"hidden_states", "grad_output", "input_ids",
                                        "expected.output", MOE_INT_HF_GRADIENTS "hidden_states"};
    const moe_safetensors *file = s->outer.file;
    for (size_t i = 0; i < moe_safetensors_count(file); i++) {
        const char *name = moe_safetensors_name(file, i);
        bool ok = starts_with(name, MOE_INT_HF_ROUTER_OUT) || is_of_block(&s->outer, name) ||
                  moe_int_hf_is_gradient(&s->outer, name) ||
                  moe_int_hf_is_gradient(&s->experts, name) ||
                  (s->sinks.config->layer.E && moe_int_hf_is_gradient(&s->sinks, name));
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            ok = ok || strcmp(name, known[k]) == 0;
        if (!ok)
            return moe_fail(log, MOE_E_FORMAT, "%s: %s is nothing that family %s computes",
                            s->outer.path, name, s->outer.config->family->model_type);
    }
    return MOE_OK;
}

static moe_status take_rows_of(const moe_int_hf_case *c, const char *name, const moe_block *b,
                               const moe_log *log, moe_tensor *ret) {
    const moe_tensor shape = {.ndim = 2, .shape = {b->T, b->layer.d}};
    moe_tensor view;
    if (moe_safetensors_get(c->file, name, &view) == MOE_E_NOTFOUND)
        return MOE_OK;
    moe_status status = moe_int_hf_get(c->file, c->path, name, &shape, log, &view);
    return status ? status : moe_tensor_cast(&view, MOE_F64, ret);
}

moe_status moe_int_block_expected(const moe_int_part_source *src, const moe_int_hf_case *golden,
                                  const moe_log *log, moe_problem *p) {
    moe_int_block_sources s;
    moe_block *b = p->block;
    const moe_int_part_source gradients = moe_int_hf_gradients(golden, src->config);
    moe_int_block_sources_make(&gradients, b, &s);
    moe_status status = refuse_unknown(&s, log);
    if (!status)
        status = take_rows_of(golden, "expected.output", b, log, &b->want.O);
    if (!status)
        status = take_rows_of(golden, MOE_INT_HF_GRADIENTS "hidden_states", b, log, &b->want.dX);
    if (!status)
        status = take_router(golden, src->config, log, b);
    if (!status)
        status = take_chains(&s.outer, log, b);
    if (!status && b->layer.n_shared)
        status = moe_int_block_copy_shared(&s, log, &b->want.shared);
    return status ? status : moe_int_block_copy_experts(&s, &p->layer, MOE_F64, log, &p->expected);
}
