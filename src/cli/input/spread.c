#include "cli/input/spread.h"
#include "cli/input/messages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool cli_spread_is_asked(const cli_spread_options *s) {
    return s->node || s->ep || s->tp;
}

static int64_t *word_slot(cli_spread_options *s, const char *word) {
    const struct {
        const char *key;
        int64_t *slot;
    } words[] = {
        {"ep=", &s->ep}, {"tp=", &s->tp}, {"chunks=", &s->chunks}, {"comm_sms=", &s->comm_sms}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (*word == *words[i].key && strncmp(word, words[i].key, strlen(words[i].key)) == 0)
            return words[i].slot;
    }
    return NULL;
}

/* One word of `length`, into its slot or behind the others in `rest`. */
static moe_status take_word(const char *word, size_t length, const moe_log *log,
                            cli_spread_options *s, char *rest) {
    int64_t *slot = word_slot(s, word);
    if (!slot) {
        if (rest[0])
            strcat(rest, " ");
        strncat(rest, word, length);
        return MOE_OK;
    }
    char *end;
    const long long value = strtoll(strchr(word, '=') + 1, &end, 10);
    if (end != word + length || value < 1)
        return moe_fail(log, MOE_E_INVALID, "\"%.*s\": a whole number from 1 on is needed",
                        (int)length, word);
    *slot = value;
    return MOE_OK;
}

/* Is one of the methods named in the list of those that read an option? "": all do. */
static bool is_read(const char *readers, const char *const *methods, size_t count) {
    bool found = !readers[0];
    for (size_t i = 0; i < count; i++)
        found |= strstr(readers, methods[i]) != NULL;
    return found;
}

moe_status cli_spread_check(const cli_spread_options *s, const char *const *methods, size_t count,
                            const moe_log *log) {
    const struct {
        const char *option;
        bool given;
        const char *methods;
    } options[] = {{"chunks", s->chunks > 0, "fsmoe tutel hecate moeref_ep"},
                   {"comm-sms", s->comm_sms > 0, "comet"},
                   {"beside-us", s->beside_us > 0, "hecate"},
                   {"beside-bytes", s->beside_bytes > 0, "fsmoe"},
                   {"cached", s->cached_percent != CLI_SPREAD_NO_SHARE, "hybrimoe"},
                   {"compute", s->compute != NULL, ""},
                   {"no-overlap", s->serial,
                    "deepep comet flashmoe fsmoe tutel hecate t3 hybrimoe moeref_ep"}};
    const bool several = cli_spread_is_asked(s);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (options[i].given && !several)
            return moe_fail(log, MOE_E_INVALID,
                            "--%s is of several GPUs: say --ep, --tp or --node too",
                            options[i].option);
        if (options[i].given && !is_read(options[i].methods, methods, count))
            return moe_fail(log, MOE_E_INVALID, "--%s changes nothing in %s%s; it is of %s",
                            options[i].option, methods[0], count > 1 ? " and the others" : "",
                            options[i].methods);
    }
    return MOE_OK;
}

#define BLANKS " \t\r\n"

static bool has_words(const char *line) {
    cli_spread_options none;
    for (const char *at = line + strspn(line, BLANKS); *at;
         at += strcspn(at, BLANKS), at += strspn(at, BLANKS)) {
        if (word_slot(&none, at))
            return true;
    }
    return false;
}

moe_status cli_spread_take(const char *line, const moe_log *log, cli_spread_options *s,
                           char **ret_rest) {
    *ret_rest = NULL;
    if (!has_words(line))
        return MOE_OK;
    char *rest = calloc(strlen(line) + 2, 1);
    moe_status status = rest ? MOE_OK : MOE_E_NOMEM;
    for (const char *at = line + strspn(line, BLANKS); !status && *at; at += strspn(at, BLANKS)) {
        const size_t length = strcspn(at, BLANKS);
        status = take_word(at, length, log, s, rest);
        at += length;
    }
    if (status)
        free(rest);
    else
        *ret_rest = rest;
    return status;
}

/* What neither knows both refuse, each with the names of its numbers. */
static bool is_gpus(const char *gpu_name, const char *what_if) {
    moe_gpu *gpu = NULL;
    bool known = true;
    if (moe_gpu_load(gpu_name, NULL, &gpu) == MOE_OK)
        known = moe_gpu_what_if(gpu, what_if, NULL) != MOE_E_NOTFOUND;
    moe_gpu_destroy(&gpu);
    return known;
}

/* The GPU's what-ifs stay in *rest, which the caller destroys. */
static moe_status change_node(const cli_strings *what_if, const char *gpu_name, moe_node *node,
                              cli_strings *rest) {
    moe_status status = MOE_OK;
    for (size_t i = 0; !status && i < what_if->count; i++) {
        const char *text = what_if->at[i];
        const bool own = moe_node_has(node, text);
        if (own || !is_gpus(gpu_name, text))
            status = moe_node_what_if(node, text, cli_log());
        if (!own)
            status = cli_strings_add(rest, text);
    }
    return status;
}

static moe_status refuse_nodes(const cli_strings *what_if, const moe_node *node) {
    for (size_t i = 0; i < what_if->count; i++)
        if (moe_node_has(node, what_if->at[i]))
            return moe_fail(cli_log(), MOE_E_INVALID,
                            "what-if \"%s\" changes a node: say which by --node, or --ep",
                            what_if->at[i]);
    return MOE_OK;
}

moe_status cli_spread_open_alone(const cli_model_options *m, moe_gpu **ret_gpu,
                                 moe_workload *ret_state) {
    moe_node *node = NULL;
    moe_status status = MOE_OK;
    if (m->what_if.count > 0)
        status = moe_node_load(CLI_SPREAD_NODE, cli_log(), &node);
    if (node)
        status = refuse_nodes(&m->what_if, node);
    moe_node_destroy(&node);
    return status ? status : cli_model_open(m, ret_gpu, ret_state);
}

moe_status cli_spread_open(const cli_spread_options *s, const cli_model_options *m,
                           moe_node **ret_node, moe_gpu **ret_gpu, moe_workload *ret_state) {
    cli_model_options model = *m;
    moe_node *node = NULL;
    model.what_if = (cli_strings){0};
    moe_status status = moe_node_load(s->node ? s->node : CLI_SPREAD_NODE, cli_log(), &node);
    /* Where lines alone ask for several GPUs, numbers of the node are not changed. */
    if (!status && cli_spread_is_asked(s))
        status =
            change_node(&m->what_if, m->gpu ? m->gpu : moe_node_gpu(node), node, &model.what_if);
    else if (!status)
        status = refuse_nodes(&m->what_if, node);
    for (size_t i = 0; !status && !cli_spread_is_asked(s) && i < m->what_if.count; i++)
        status = cli_strings_add(&model.what_if, m->what_if.at[i]);
    if (!status && !model.gpu)
        model.gpu = moe_node_gpu(node);
    if (!status)
        status = cli_model_open(&model, ret_gpu, ret_state);
    cli_strings_destroy(&model.what_if);
    if (status)
        moe_node_destroy(&node);
    else
        *ret_node = node;
    return status;
}

moe_ep_options cli_spread_for(const cli_spread_options *s, const char *method) {
    return (moe_ep_options){
        .method = method ? method : "moeref_ep",
        .compute = s->compute,
        .ep = s->ep ? s->ep : 1,
        .tp = s->tp ? s->tp : 1,
        .chunks = s->chunks,
        .comm_sms = s->comm_sms,
        .beside_us = (double)s->beside_us,
        .beside_bytes = (double)s->beside_bytes,
        .cached = s->cached_percent == CLI_SPREAD_NO_SHARE ? 0.5 : (double)s->cached_percent / 100,
        .serial = s->serial};
}

void cli_spread_help(char *buf, size_t size) {
    size_t used = strlen(buf);
    used +=
        (size_t)snprintf(buf + used, size - used,
                         "methods of several GPUs (--ep, --node; --method all: each of them):\n");
    for (const char *const *m = moe_ep_methods(); *m && used < size; m++)
        used +=
            (size_t)snprintf(buf + used, size - used, "  %-18s %s\n", *m, moe_ep_method_brief(*m));
}
