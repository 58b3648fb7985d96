/* Which layers of a checkpoint are MoE layers: those with a router. */
#include "hf/hf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_BYTES 256

/* What may stand before "layers.N.": a language model, or the one inside a multimodal model. */
static const char *const roots[] = {"model.", "language_model.model.", "model.language_model.", ""};
#define ROOT_COUNT (sizeof roots / sizeof *roots)

/* The N of "ROOTlayers.N.MODULE.ROUTER", or -1 for any other name. */
static int64_t layer_of(const char *name, const char *root, const moe_int_family *family) {
    size_t root_length = strlen(root);
    int64_t layer = 0;
    if (strncmp(name, root, root_length) != 0 || strncmp(name + root_length, "layers.", 7) != 0)
        return -1;
    const char *digit = name + root_length + 7, *at = digit;
    for (; *at >= '0' && *at <= '9' && layer < INT32_MAX; at++)
        layer = layer * 10 + (*at - '0');
    char rest[MOE_INT_NAME_BYTES];
    snprintf(rest, sizeof rest, ".%s.%s", family->module, family->disk[MOE_INT_PART_ROUTER]);
    return at > digit && strcmp(at, rest) == 0 ? layer : -1;
}

static int compare_layers(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Layers under `root`, ascending; room for every tensor of the file. */
static size_t collect(const moe_safetensors *file, const char *root, const moe_int_family *family,
                      int64_t *ret) {
    size_t n = 0;
    for (size_t i = 0; i < moe_safetensors_count(file); i++) {
        int64_t layer = layer_of(moe_safetensors_name(file, i), root, family);
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

moe_status moe_int_hf_find_layer(const moe_safetensors *file, const char *path,
                                 const moe_int_family *family, int64_t layer, const moe_log *log,
                                 moe_int_hf_place *ret) {
    int64_t *layers = malloc((moe_safetensors_count(file) + 1) * sizeof *layers);
    if (!layers)
        return moe_fail(log, MOE_E_NOMEM, "%s: out of memory for a list of layers", path);
    size_t root = 0, n = 0;
    for (; root < ROOT_COUNT; root++) {
        n = collect(file, roots[root], family, layers);
        if (n)
            break;
    }
    moe_status status = MOE_OK;
    moe_int_hf_place place = {.layer = -1};
    if (n)
        status = choose(layers, n, path, layer, log, &place.layer);
    else
        status = moe_fail(log, MOE_E_NOTFOUND, "%s: no layer has a tensor model.layers.N.%s.%s",
                          path, family->module, family->disk[MOE_INT_PART_ROUTER]);
    free(layers);
    if (status)
        return status;
    snprintf(place.prefix, sizeof place.prefix, "%slayers.%lld.%s.", roots[root],
             (long long)place.layer, family->module);
    *ret = place;
    return MOE_OK;
}
