/* Which layers of a checkpoint are MoE layers: those with a router. */
#include "hf/hf.h"
#include "hf/keys.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_BYTES 256

/* What may stand before "layers.N.", the model itself before its other towers. */
static const char *const roots[] = {"model.",
                                    "language_model.model.",
                                    "model.language_model.",
                                    "",
                                    "backbone.",
                                    "transformer.",
                                    "model.llm.",
                                    "llm.",
                                    "decoder.",
                                    "model.decoder.",
                                    "thinker.model.",
                                    "talker.model.",
                                    "encoder.",
                                    "model.encoder."};
#define ROOT_COUNT (sizeof roots / sizeof *roots)

/* Reads the number after `word` at *at and the full stop behind it. */
static bool read_number(const char **at, const char *word, int64_t *ret) {
    size_t length = strlen(word);
    if (strncmp(*at, word, length) != 0)
        return false;
    const char *digit = *at + length, *end = digit;
    int64_t value = 0;
    for (; *end >= '0' && *end <= '9' && value < INT32_MAX; end++)
        value = value * 10 + (*end - '0');
    if (end == digit || *end != '.')
        return false;
    *ret = value;
    *at = end + 1;
    return true;
}

/* What follows "ROOTlayers.N." (or blocks.N., or T5's block.N.layer.M.) in a name, or NULL. */
static const char *below_layer(const char *name, const char *root, int64_t *layer) {
    size_t length = strlen(root);
    int64_t sublayer;
    const char *at = name + length;
    if (strncmp(name, root, length) != 0)
        return NULL;
    if (read_number(&at, "block.", layer))
        return read_number(&at, "layer.", &sublayer) ? at : NULL;
    return read_number(&at, "layers.", layer) || read_number(&at, "blocks.", layer) ? at : NULL;
}

/* Is this a router's name below its layer? Sets the length of its module with the full stop. */
static bool is_router(const char *rest, const moe_int_family *family, size_t *module_length) {
    char module[MOE_INT_NAME_BYTES], router[MOE_INT_NAME_BYTES];
    for (const char *next = moe_int_family_module(family); next;) {
        next = moe_int_hf_next_word(next, module, sizeof module - 1);
        size_t length = strlen(module);
        if (length)
            module[length++] = '.';
        if (strncmp(rest, module, length) != 0)
            continue;
        for (const char *name = moe_int_family_names(family, MOE_INT_PART_ROUTER); name;) {
            name = moe_int_hf_next_word(name, router, sizeof router);
            *module_length = length;
            if (strcmp(rest + length, router) == 0)
                return true;
        }
    }
    return false;
}

/* The N of a router's name under `root`, or -1 for any other name. */
static int64_t layer_of(const char *name, const char *root, const moe_int_family *family,
                        moe_int_hf_place *place) {
    int64_t layer;
    size_t module;
    const char *rest = below_layer(name, root, &layer);
    if (!rest || !is_router(rest, family, &module))
        return -1;
    snprintf(place->outer, sizeof place->outer, "%.*s", (int)(rest - name), name);
    snprintf(place->prefix, sizeof place->prefix, "%.*s", (int)(rest - name + (ptrdiff_t)module),
             name);
    return layer;
}

static int compare_layers(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Layers under `root`, ascending; room for every tensor of the file. */
static size_t collect(const moe_safetensors *file, const char *root, const moe_int_family *family,
                      int64_t *ret) {
    moe_int_hf_place place;
    size_t n = 0;
    for (size_t i = 0; i < moe_safetensors_count(file); i++) {
        int64_t layer = layer_of(moe_safetensors_name(file, i), root, family, &place);
        if (layer >= 0)
            ret[n++] = layer;
    }
    if (n)
        qsort(ret, n, sizeof *ret, compare_layers);
    return n;
}

/* "1, 3-60" */
static void describe(const int64_t *layers, size_t n, char *buf) {
    size_t used = 0;
    buf[0] = '\0';
    for (size_t i = 0, end; i < n && used < LIST_BYTES; i = end) {
        for (end = i + 1; end < n && layers[end] == layers[end - 1] + 1; end++)
            ;
        used += (size_t)snprintf(buf + used, LIST_BYTES - used, "%s%lld", i ? ", " : "",
                                 (long long)layers[i]);
        if (end > i + 1 && used < LIST_BYTES)
            used += (size_t)snprintf(buf + used, LIST_BYTES - used, "-%lld",
                                     (long long)layers[end - 1]);
    }
}

static moe_status choose(const int64_t *layers, size_t n, const char *path, int64_t wanted,
                         const moe_log *log, int64_t *ret) {
    if (wanted < 0) {
        *ret = layers[0];
        return MOE_OK;
    }
    for (size_t i = 0; i < n; i++) {
        if (layers[i] == wanted) {
            *ret = wanted;
            return MOE_OK;
        }
    }
    char list[LIST_BYTES];
    describe(layers, n, list);
    return moe_fail(log, MOE_E_NOTFOUND,
                    "%s: layer %lld has no MoE tensors in this checkpoint; MoE layers present: %s",
                    path, (long long)wanted, list);
}

/* Fills the place of a layer that `collect` found. */
static void locate(const moe_safetensors *file, const char *root, const moe_int_family *family,
                   int64_t layer, moe_int_hf_place *ret) {
    for (size_t i = 0; i < moe_safetensors_count(file); i++) {
        moe_int_hf_place place = {.layer = layer};
        if (layer_of(moe_safetensors_name(file, i), root, family, &place) == layer) {
            *ret = place;
            return;
        }
    }
}

moe_status moe_int_hf_find_layer(const moe_safetensors *file, const char *path,
                                 const moe_int_family *family, int64_t layer, const moe_log *log,
                                 moe_int_hf_place *ret) {
    int64_t *layers = malloc((moe_safetensors_count(file) + 1) * sizeof *layers), chosen = -1;
    if (!layers)
        return moe_fail(log, MOE_E_NOMEM, "%s: out of memory for a list of layers", path);
    size_t root = 0, n = 0;
    for (; root < ROOT_COUNT; root++) {
        n = collect(file, roots[root], family, layers);
        if (n)
            break;
    }
    moe_status status = MOE_OK;
    char module[MOE_INT_NAME_BYTES], router[MOE_INT_NAME_BYTES];
    moe_int_hf_next_word(moe_int_family_module(family), module, sizeof module);
    moe_int_hf_next_word(moe_int_family_names(family, MOE_INT_PART_ROUTER), router, sizeof router);
    if (n)
        status = choose(layers, n, path, layer, log, &chosen);
    else
        status = moe_fail(log, MOE_E_NOTFOUND,
                          "%s: no layer has a router, a tensor such as model.layers.N.%s%s%s", path,
                          module, *module ? "." : "", router);
    free(layers);
    if (!status)
        locate(file, roots[root], family, chosen, ret);
    return status;
}
