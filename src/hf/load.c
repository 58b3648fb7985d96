/* A checkpoint folder to a problem: config.json, one layer of model.safetensors, and
 * case.safetensors where there is one. */
#include "core/elements.h"
#include "core/shell.h"
#include "hf/block_load.h"
#include "layer/problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_TOKENS 128

/* Everything that is open while a folder is read. */
typedef struct folder {
    const char *dir;
    const moe_hf_piece *piece; /* NULL: the whole layer */
    char *config_path, *case_path;
    moe_int_hf_config config;
    moe_safetensors *weights;
    moe_int_hf_case golden; /* file == NULL: the folder has no case */
    moe_int_hf_place place;
} folder;

static void close_folder(folder *f) {
    free(f->config_path);
    free(f->case_path);
    moe_safetensors_close(&f->weights);
    moe_safetensors_close(&f->golden.file);
}

static moe_status open_folder(folder *f, int64_t layer, const moe_log *log) {
    f->config_path = moe_int_format("%s/config.json", f->dir);
    f->case_path = moe_int_format("%s/case.safetensors", f->dir);
    if (!f->config_path || !f->case_path)
        return moe_fail(log, MOE_E_NOMEM, "out of memory for paths in %s", f->dir);
    moe_status status = moe_int_hf_config_load(f->config_path, layer, log, &f->config);
    if (!status)
        status = moe_safetensors_open(f->dir, log, &f->weights);
    if (!status)
        status = moe_int_hf_find_layer(f->weights, f->dir, f->config.family, layer, log, &f->place);
    if (!status && layer < 0) /* settings that are lists, one value a layer */
        status = moe_int_hf_config_load(f->config_path, f->place.layer, log, &f->config);
    if (!status && access(f->case_path, F_OK) == 0)
        status = moe_int_hf_case_open(f->case_path, &f->config, log, &f->golden);
    return status;
}

static moe_int_part_source weight_source(const folder *f) {
    return (moe_int_part_source){.file = f->weights,
                                 .path = f->dir,
                                 .prefix = f->place.prefix,
                                 .outer = f->place.outer,
                                 .config = &f->config};
}

/* The one type of all inputs and parameters: a checkpoint that mixes types (a float32 selection
 * bias beside bf16 weights) is widened, never rounded. */
static moe_status common_dtype(const folder *f, const moe_int_part_source *src, const moe_log *log,
                               int32_t *ret) {
    moe_dtype dtype = MOE_DTYPE_COUNT;
    for (int part = 0; !f->config.block && part < MOE_INT_PART_COUNT; part++) {
        moe_status status =
            moe_int_part_used(src, part) ? moe_int_part_check(src, part, log, &dtype) : MOE_OK;
        if (status)
            return status;
    }
    if (f->golden.X.data)
        dtype = moe_int_dtype_wider(dtype, f->golden.X.dtype);
    if (f->golden.dO.data)
        dtype = moe_int_dtype_wider(dtype, f->golden.dO.dtype);
    *ret = dtype == MOE_DTYPE_COUNT ? f->config.dtype : (int32_t)dtype;
    return MOE_OK;
}

static moe_status load_params(const moe_int_part_source *src, const moe_log *log, moe_problem *p) {
    for (int part = 0; part < MOE_INT_PART_COUNT; part++) {
        if (!moe_int_part_used(src, part))
            continue;
        moe_tensor_id id = moe_int_part_param(part);
        moe_status status = p->in.t[id].data ? MOE_OK : moe_int_alloc_input(p, id, log);
        if (!status)
            status = moe_int_part_copy(src, part, log, &p->in.t[id]);
        if (status)
            return status;
    }
    return MOE_OK;
}

static moe_status copy_input(const moe_tensor *view, moe_tensor_id id, const moe_log *log,
                             moe_problem *p) {
    moe_status status = moe_int_alloc_input(p, id, log);
    if (!status)
        moe_convert(p->in.t[id].data, p->in.t[id].dtype, view->data, view->dtype,
                    (size_t)moe_tensor_count(view));
    return status;
}

static moe_status load_inputs(const folder *f, const moe_log *log, moe_problem *p) {
    const bool whole = !f->config.block && !f->piece;
    if (!f->golden.file) {
        moe_status status = moe_int_draw_input(p, MOE_T_X, MOE_FILL_NORMAL, 1.0, log);
        return status ? status : moe_int_draw_input(p, MOE_T_DO, MOE_FILL_NORMAL, 1.0, log);
    }
    moe_status status = copy_input(&f->golden.X, MOE_T_X, log, p);
    if (!status && f->golden.dO.data)
        status = copy_input(&f->golden.dO, MOE_T_DO, log, p);
    return status || !whole ? status : moe_int_hf_case_expected(&f->golden, &f->config, log, p);
}

/* Which piece, as the option says it. */
static void piece_word(const moe_hf_piece *piece, char *buf, size_t size) {
    if (piece->units)
        snprintf(buf, size, "router");
    else
        snprintf(buf, size, "%lld-%lld", (long long)piece->first,
                 (long long)(piece->first + piece->count - 1));
}

static moe_status name_problem(const folder *f, const moe_log *log, moe_problem *p) {
    char *dir = moe_int_shell_word(f->dir);
    char word[48] = "";
    const long long layer = f->place.layer;
    if (f->piece) {
        piece_word(f->piece, word, sizeof word);
        p->name = moe_int_format("hf:%s%s%s of %lld experts", f->dir,
                                 f->piece->units ? ", " : ", experts ", word,
                                 (long long)f->config.layer.E);
        if (dir)
            p->reproduce = moe_int_format("--hf %s --layer %lld --tokens %lld --piece %s", dir,
                                          layer, (long long)p->T, word);
    } else {
        p->name = moe_int_format("hf:%s", f->dir);
        if (!f->golden.file) /* inputs are drawn */
            snprintf(word, sizeof word, " --tokens %lld", (long long)p->T);
        if (dir)
            p->reproduce = moe_int_format("--hf %s --layer %lld%s", dir, layer, word);
    }
    free(dir);
    return p->name && p->reproduce ? MOE_OK
                                   : moe_fail(log, MOE_E_NOMEM, "out of memory for a name");
}

static int64_t tokens_of(const folder *f, int64_t wanted) {
    return f->golden.file ? f->golden.X.shape[0] : wanted > 0 ? wanted : DEFAULT_TOKENS;
}

static moe_status fill_problem(const folder *f, int64_t tokens, const moe_log *log,
                               moe_problem *p) {
    moe_int_part_source src = weight_source(f);
    p->layer = f->config.layer;
    p->T = tokens_of(f, tokens);
    p->pass = f->golden.file && !f->golden.dO.data ? MOE_PASS_FWD : MOE_PASS_BOTH;
    moe_status status = name_problem(f, log, p);
    if (!status)
        status = moe_layer_desc_check(&p->layer, p->T, log);
    if (!status)
        status = common_dtype(f, &src, log, &p->dtype);
    if (!status && f->config.block && f->piece)
        return moe_fail(log, MOE_E_UNSUPPORTED, "%s: a layer of model type %s has no pieces",
                        f->dir, f->config.family->model_type);
    if (!status && f->config.block) {
        status = load_inputs(f, log, p);
        return status ? status
                      : moe_int_block_load(&src, f->golden.file ? &f->golden : NULL, log, p);
    }
    if (!status && f->piece) {
        status = load_inputs(f, log, p);
        return status ? status : moe_int_hf_piece_load(&src, f->piece, log, p);
    }
    if (!status)
        status = load_params(&src, log, p);
    return status ? status : load_inputs(f, log, p);
}

static moe_status load_problem(folder *f, int64_t layer, int64_t tokens, const moe_log *log,
                               moe_problem **ret) {
    moe_problem *p = NULL;
    moe_status status = open_folder(f, layer, log);
    if (!status) {
        p = calloc(1, sizeof *p);
        status = p ? fill_problem(f, tokens, log, p)
                   : moe_fail(log, MOE_E_NOMEM, "out of memory for a problem");
    }
    close_folder(f);
    if (status)
        moe_problem_destroy(&p);
    else
        *ret = p;
    return status;
}

moe_status moe_problem_from_hf(const char *dir, int64_t layer, int64_t tokens, const moe_log *log,
                               moe_problem **ret) {
    folder f = {.dir = dir};
    return load_problem(&f, layer, tokens, log, ret);
}

moe_status moe_problem_from_hf_piece(const char *dir, int64_t layer, int64_t tokens,
                                     const moe_hf_piece *piece, const moe_log *log,
                                     moe_problem **ret) {
    folder f = {.dir = dir, .piece = piece};
    return load_problem(&f, layer, tokens, log, ret);
}

moe_status moe_hf_pieces(const char *dir, int64_t layer, int64_t tokens, int64_t bytes,
                         const moe_log *log, moe_hf_piece **ret, size_t *ret_count) {
    folder f = {.dir = dir};
    *ret = NULL;
    *ret_count = 0;
    moe_status status = open_folder(&f, layer, log);
    if (!status && !f.config.block)
        status = moe_int_hf_cut(&f.config.layer, f.config.dtype, tokens_of(&f, tokens), bytes, ret,
                                ret_count);
    close_folder(&f);
    return status ? moe_fail(log, status, "%s: out of memory for a list of pieces", dir) : MOE_OK;
}
