/* What the model is asked about, from a command line or a batch file. */
#include "cli/input/question.h"
#include "cli/input/messages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static moe_status parse_operands(const char *word, int32_t *ret) {
    for (int32_t s = 0; word && s < MOE_STORAGE_COUNT; s++) {
        const char *name = moe_storage_name(s);
        if (name && strcmp(name, word) == 0) {
            *ret = s;
            return MOE_OK;
        }
    }
    return word ? moe_fail(cli_log(), MOE_E_INVALID,
                           "--operands is bf16, fp16, fp8, mxfp8, nvfp4, mxfp4, int8 or tf32, not "
                           "\"%s\"",
                           word)
                : MOE_OK;
}

moe_status cli_model_open(const cli_model_options *o, moe_gpu **ret_gpu, moe_workload *ret_state) {
    moe_gpu *gpu = NULL;
    if (o->clock && strcmp(o->clock, "burst") != 0 && strcmp(o->clock, "settled") != 0)
        return moe_fail(cli_log(), MOE_E_INVALID, "--clock is burst or settled, not \"%s\"",
                        o->clock);
    if (o->data && strcmp(o->data, "random") != 0 && strcmp(o->data, "constant") != 0)
        return moe_fail(cli_log(), MOE_E_INVALID, "--data is random or constant, not \"%s\"",
                        o->data);
    int32_t storage = MOE_STORAGE_BF16;
    moe_status status = parse_operands(o->operands, &storage);
    if (!status)
        status = moe_gpu_load(o->gpu ? o->gpu : "h100-sxm", cli_log(), &gpu);
    for (size_t i = 0; !status && i < o->what_if.count; i++)
        status = moe_gpu_what_if(gpu, o->what_if.at[i], cli_log());
    if (status) {
        moe_gpu_destroy(&gpu);
        return status;
    }
    *ret_state = (moe_workload){.clock = o->clock && o->clock[0] == 's' ? MOE_CLOCK_SETTLED
                                                                        : MOE_CLOCK_BURST,
                                .entropy = !o->data            ? MOE_ENTROPY_DEFAULT
                                           : o->data[0] == 'c' ? MOE_ENTROPY_CONSTANT
                                                               : MOE_ENTROPY_RANDOM,
                                .storage = storage,
                                .in_stream = o->in_stream,
                                .converts = o->converts};
    *ret_gpu = gpu;
    return MOE_OK;
}

static moe_status parse_size(const char *word, const moe_log *log, int64_t *ret) {
    char *end;
    const char *digits = strchr(word, '=') + 1;
    const long long value = strtoll(digits, &end, 10);
    if (*digits < '0' || *digits > '9' || *end != '\0' || value < 1)
        return moe_fail(log, MOE_E_INVALID, "gemm: \"%.40s\" is not a size", word);
    if (*ret)
        return moe_fail(log, MOE_E_INVALID, "gemm: %.*s is given twice", (int)(digits - word - 1),
                        word);
    *ret = value;
    return MOE_OK;
}

static moe_status parse_gemm_word(const char *word, const moe_log *log, cli_question *s) {
    static const char *const keys[] = {"m=", "n=", "k=", "batch="};
    int64_t *const slots[] = {&s->m, &s->n, &s->k, &s->batch};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strncmp(word, keys[i], strlen(keys[i])) == 0)
            return parse_size(word, log, slots[i]);
    }
    return moe_fail(log, MOE_E_INVALID, "gemm: \"%.40s\" is not m=, n=, k= or batch=", word);
}

static moe_status parse_gemm(const char *words, const moe_log *log, cli_question *s) {
    char *copy = strdup(words), *rest = copy;
    moe_status status = copy ? MOE_OK : MOE_E_NOMEM;
    s->is_gemm = true;
    for (char *word; !status && (word = strtok_r(rest, " \t", &rest));)
        status = parse_gemm_word(word, log, s);
    free(copy);
    if (!status && (!s->m || !s->n || !s->k))
        status = moe_fail(log, MOE_E_INVALID, "gemm: m=, n= and k= are all needed");
    if (!s->batch)
        s->batch = 1;
    return status;
}

static moe_status draw_counts(const moe_log *log, cli_question *s) {
    s->counts = malloc((size_t)s->c.layer.E * sizeof *s->counts);
    if (!s->counts)
        return moe_fail(log, MOE_E_NOMEM, "out of memory");
    return moe_counts_draw(&s->c, log, s->counts);
}

/* A line is printed again, in reports of several formats. */
static moe_status check_text(const char *line, const moe_log *log) {
    for (const char *at = line; *at; at++) {
        if ((*at < 0x20 && *at != '\t') || *at >= 0x7f)
            return moe_fail(log, MOE_E_INVALID,
                            "column %zu holds byte 0x%02x: cases are plain ASCII text",
                            (size_t)(at - line) + 1, (unsigned char)*at);
    }
    return MOE_OK;
}

/* What a check runs and the model leaves out must not look as if it cost nothing. */
static void tell_unmodelled(const moe_case *c, const moe_log *log) {
    if (c->block)
        moe_log_send(log, MOE_LOG_WARN,
                     "block= is not modelled: this is one layer, with the router and the experts "
                     "that the case has without it");
    if (c->quant)
        moe_log_send(log, MOE_LOG_WARN,
                     "quant= is not modelled: weights are taken as dtype= and --operands say");
}

static moe_status parse_line(const char *line, const moe_log *log, cli_question *s) {
    moe_status status = check_text(line, log);
    if (status)
        return status;
    if (strncmp(line, "gemm", 4) == 0 && (line[4] == ' ' || line[4] == '\t'))
        return parse_gemm(line + 5, log, s);
    status = moe_case_parse(line, log, &s->c);
    if (status)
        return status;
    tell_unmodelled(&s->c, log);
    return draw_counts(log, s);
}

moe_status cli_question_parse(const char *line, const moe_log *log, cli_question *ret) {
    cli_question s = {.line = strdup(line)};
    if (!s.line)
        return moe_fail(log, MOE_E_NOMEM, "out of memory");
    size_t length = strlen(s.line);
    while (length > 0 && strchr("\r\n", s.line[length - 1]))
        s.line[--length] = '\0';
    const moe_status status = parse_line(s.line, log, &s);
    if (status)
        cli_question_destroy(&s);
    else
        *ret = s;
    return status;
}

/* What was understood, as a line that can be asked again. */
static moe_status print_case(cli_question *s) {
    const size_t size = moe_case_print(&s->c, NULL, 0) + 1;
    s->line = malloc(size);
    if (!s->line)
        return moe_fail(cli_log(), MOE_E_NOMEM, "out of memory");
    moe_case_print(&s->c, s->line, size);
    return MOE_OK;
}

static moe_status parse_pass(const char *word, int32_t *ret) {
    static const char *const words[] = {"fwd", "bwd", "both"}; /* MOE_PASS_FWD and on */
    for (int32_t i = 0; i < 3; i++) {
        if (strcmp(words[i], word) == 0) {
            *ret = MOE_PASS_FWD + i;
            return MOE_OK;
        }
    }
    return moe_fail(cli_log(), MOE_E_INVALID, "--pass is fwd, bwd or both, not \"%s\"", word);
}

/* The two that a config.json can bear: it says nothing of skew or of a router's weights. */
static moe_status parse_route(const char *word, int32_t *ret) {
    if (strcmp(word, "balanced") == 0)
        *ret = MOE_ROUTE_BALANCED;
    else if (strcmp(word, "uniform") == 0)
        *ret = MOE_ROUTE_UNIFORM;
    else
        return moe_fail(cli_log(), MOE_E_INVALID, "--route is balanced or uniform, not \"%s\"",
                        word);
    return MOE_OK;
}

moe_status cli_question_config(const char *path, int64_t tokens, const char *dtype,
                               const char *pass, const char *route, cli_question *ret) {
    moe_dtype wanted;
    cli_question s = {0};
    moe_case_init(&s.c);
    s.c.T = tokens > 0 ? tokens : 4096;
    moe_status status = moe_layer_from_config(path, cli_log(), &s.c.layer, &s.c.hidden, &s.c.dtype);
    if (!status && dtype) {
        status = moe_dtype_parse(dtype, &wanted);
        if (status)
            moe_fail(cli_log(), status, "--dtype %s is no type", dtype);
        else
            s.c.dtype = (int32_t)wanted;
    }
    if (!status && pass)
        status = parse_pass(pass, &s.c.pass);
    if (!status && route)
        status = parse_route(route, &s.c.route);
    if (!status)
        status = print_case(&s);
    if (!status)
        status = draw_counts(cli_log(), &s);
    if (status)
        cli_question_destroy(&s);
    else
        *ret = s;
    return status;
}

moe_status cli_question_layer(const cli_question *first, const moe_layer_desc *layer,
                              int64_t hidden, cli_question *ret) {
    cli_question s = {.c = first->c};
    s.c.layer = *layer;
    s.c.hidden = hidden;
    moe_status status = print_case(&s);
    if (!status)
        status = draw_counts(cli_log(), &s);
    if (status)
        cli_question_destroy(&s);
    else
        *ret = s;
    return status;
}

void cli_question_destroy(cli_question *s) {
    free(s->line);
    free(s->counts);
    moe_case_destroy(&s->c);
    *s = (cli_question){0};
}

moe_status cli_converts_check(const moe_workload *state, bool is_gemm, const moe_log *log) {
    if (!state->converts)
        return MOE_OK;
    if (!is_gemm)
        return moe_fail(log, MOE_E_INVALID,
                        "--converts is of products \"gemm ...\": a layer's methods say themselves "
                        "what they convert");
    return state->storage == MOE_STORAGE_BF16 || state->storage == MOE_STORAGE_F16
               ? moe_fail(log, MOE_E_INVALID,
                          "--converts makes another type of 16 bits: say which by --operands too")
               : MOE_OK;
}

moe_status cli_question_predict(const cli_question *s, const moe_gpu *gpu, const char *method,
                                const moe_workload *state, const moe_log *log,
                                moe_prediction **ret) {
    const moe_workload w = moe_workload_of(&s->c, s->counts, state);
    const moe_status status = cli_converts_check(state, s->is_gemm, log);
    if (status)
        return status;
    if (s->is_gemm)
        return moe_predict_gemm(gpu, s->m, s->n, s->k, s->batch, state, log, ret);
    return moe_predict(gpu, method, &w, log, ret);
}

void cli_method_help(char *buf, size_t size) {
    size_t used = (size_t)snprintf(buf, size, "methods:\n");
    for (const char *const *m = moe_methods(); *m && used < size; m++)
        used += (size_t)snprintf(buf + used, size - used, "  %-18s %s\n", *m, moe_method_brief(*m));
}
