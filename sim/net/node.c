/* Node descriptions: shipped ones by name, anybody's own by path. */
#include "core/jsonx.h"
#include "sim/gpus/params.h"
#include "sim/net/params.h"

#include <stdlib.h>
#include <string.h>

static moe_status parse(const char *text, size_t size, const char *name, bool is_home,
                        const moe_log *log, moe_node **ret);

/* The numbers of a carrier's home, which lies among the shipped files.
 * NOLINTNEXTLINE(misc-no-recursion): a home is read without homes of its own */
static moe_status inherit(moe_int_carrier c, const moe_log *log, moe_node *node) {
    const moe_int_file *file = moe_int_file_find(moe_int_node_files, moe_int_carrier_homes[c]);
    moe_node *home = NULL;
    moe_status status = parse(file->text, file->size, file->name, true, log, &home);
    if (!status)
        memcpy(node->c[c], home->c[c], sizeof node->c[c]);
    moe_node_destroy(&home);
    return status;
}

/* What the file says of a carrier, over what its home has. */
static moe_status read_carrier(const moe_int_json *carriers, moe_int_carrier c, bool is_whole,
                               moe_node *node) {
    moe_int_json at;
    moe_status status =
        moe_int_json_object(carriers, moe_int_carrier_names[c], MOE_INT_JSON_REQUIRED, &at);
    if (!status)
        status = moe_int_gpu_refuse_unknown(&at, moe_int_carrier_params, MOE_INT_CP_COUNT);
    for (int i = 0; !status && i < MOE_INT_CP_COUNT; i++) {
        if ((is_whole && i == MOE_INT_CP_LINK_EFF) ||
            moe_int_json_has(&at, moe_int_carrier_params[i].key))
            status = moe_int_gpu_read_number(&at, &moe_int_carrier_params[i], &node->c[c][i]);
    }
    return status;
}

/* NOLINTNEXTLINE(misc-no-recursion): as inherit */
static moe_status read_carriers(const moe_int_json *root, bool is_home, moe_node *node) {
    moe_int_json carriers;
    const char *key;
    json_t *value;
    moe_status status = moe_int_json_object(root, "carriers", MOE_INT_JSON_REQUIRED, &carriers);
    if (status)
        return status;
    json_object_foreach((json_t *)carriers.object, key, value) {
        if (moe_int_carrier_find(key, strlen(key)) == MOE_INT_CARRIER_COUNT)
            return moe_fail(root->log, MOE_E_FORMAT, "%s: unknown carrier \"%s\"", carriers.where,
                            key);
    }
    for (int c = 0; !status && c < MOE_INT_CARRIER_COUNT; c++) {
        const bool is_own = strcmp(node->name, moe_int_carrier_homes[c]) == 0;
        node->derived[c] = !moe_int_json_has(&carriers, moe_int_carrier_names[c]);
        node->c[c][MOE_INT_CP_INTER_EFF] = 1;
        if (!is_home && !is_own)
            status = inherit((moe_int_carrier)c, root->log, node);
        if (!status && !node->derived[c])
            status = read_carrier(&carriers, (moe_int_carrier)c, is_home || is_own, node);
    }
    return status;
}

static moe_status read_name(const moe_int_json *root, const char *key, char ret[64]) {
    const char *text;
    moe_status status = moe_int_json_str(root, key, MOE_INT_JSON_REQUIRED, &text);
    if (!status && (text[0] == '\0' || strlen(text) >= 64))
        status = moe_fail(root->log, MOE_E_FORMAT, "%s: %s must have 1 to 63 characters",
                          root->where, key);
    if (!status)
        strcpy(ret, text);
    return status;
}

/* NOLINTNEXTLINE(misc-no-recursion): as inherit */
static moe_status read_node(const moe_int_json *root, bool is_home, moe_node *node) {
    int64_t version;
    moe_int_json at;
    moe_status status =
        moe_int_json_i64(root, "moeref_node", MOE_INT_JSON_REQUIRED, 1, 1, &version);
    if (!status)
        status = read_name(root, "name", node->name);
    if (!status)
        status = read_name(root, "gpu", node->gpu);
    if (!status)
        status = moe_int_json_object(root, "parameters", MOE_INT_JSON_REQUIRED, &at);
    if (!status)
        status = moe_int_gpu_refuse_unknown(&at, moe_int_node_params, MOE_INT_NP_COUNT);
    for (int i = 0; !status && i < MOE_INT_NP_COUNT; i++)
        status = moe_int_gpu_read_number(&at, &moe_int_node_params[i], &node->p[i]);
    return status ? status : read_carriers(root, is_home, node);
}

/* NOLINTNEXTLINE(misc-no-recursion): as inherit */
static moe_status parse(const char *text, size_t size, const char *name, bool is_home,
                        const moe_log *log, moe_node **ret) {
    moe_node *node = calloc(1, sizeof *node);
    if (!node)
        return moe_fail(log, MOE_E_NOMEM, "%s: out of memory", name);
    moe_status status = moe_int_json_parse(text, size, name, log, &node->root);
    if (!status) {
        const moe_int_json root = moe_int_json_root(node->root, name, log);
        status = read_node(&root, is_home, node);
    }
    if (status)
        moe_node_destroy(&node);
    else
        *ret = node;
    return status;
}

moe_status moe_node_load(const char *spec, const moe_log *log, moe_node **ret) {
    moe_int_file file;
    char *own;
    moe_status status = moe_int_file_open("node", moe_int_node_files, spec, log, &file, &own);
    if (!status)
        status = parse(file.text, file.size, file.name, false, log, ret);
    free(own);
    return status;
}

moe_status moe_node_clone(const moe_node *node, moe_node **ret) {
    moe_node *copy = malloc(sizeof *copy);
    if (!copy)
        return MOE_E_NOMEM;
    *copy = *node;
    copy->root = json_incref(node->root);
    *ret = copy;
    return MOE_OK;
}

void moe_node_destroy(moe_node **node) {
    if (!node || !*node)
        return;
    json_decref((*node)->root);
    free(*node);
    *node = NULL;
}

const char *const *moe_node_names(void) {
    return moe_int_node_names;
}

const char *moe_node_name(const moe_node *node) {
    return node->name;
}

const char *moe_node_gpu(const moe_node *node) {
    return node->gpu;
}

const char *moe_node_brief(const moe_node *node) {
    return moe_int_described_text(node->root, "brief");
}

const char *moe_node_held_to(const moe_node *node) {
    return moe_int_described_text(node->root, "held_to");
}

const char *moe_node_carrier(const moe_node *node, size_t i, bool *ret_derived,
                             const char **ret_home) {
    if (i >= MOE_INT_CARRIER_COUNT)
        return NULL;
    *ret_derived = node->derived[i];
    *ret_home = moe_int_carrier_homes[i];
    return moe_int_carrier_names[i];
}
