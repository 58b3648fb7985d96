/* Reading, changing and writing single numbers of a node description. */
#include "core/file.h"
#include "sim/gpus/params.h"
#include "sim/net/params.h"

#include <stdlib.h>
#include <string.h>

moe_status moe_node_get(const moe_node *node, const char *key, double *ret) {
    const double *slot = moe_int_node_slot((moe_node *)node, key, NULL, NULL);
    if (!slot)
        return MOE_E_NOTFOUND;
    *ret = *slot;
    return MOE_OK;
}

static void add_word(char *list, size_t size, const char *word) {
    strncat(list, " ", size - strlen(list) - 1);
    strncat(list, word, size - strlen(list) - 1);
}

static moe_status refuse_key(const char *key, const moe_log *log) {
    char own[256] = "", carriers[512] = "", of[512] = "";
    for (int i = 0; i < MOE_INT_NP_COUNT; i++)
        add_word(own, sizeof own, moe_int_node_params[i].key);
    for (int i = 0; i < MOE_INT_CARRIER_COUNT; i++)
        add_word(carriers, sizeof carriers, moe_int_carrier_names[i]);
    for (int i = 0; i < MOE_INT_CP_COUNT; i++)
        add_word(of, sizeof of, moe_int_carrier_params[i].key);
    return moe_fail(log, MOE_E_NOTFOUND,
                    "a node description has no \"%s\"; known:%s, and CARRIER.KEY; carriers:%s; "
                    "keys:%s",
                    key, own, carriers, of);
}

moe_status moe_node_set(moe_node *node, const char *key, double value, const moe_log *log) {
    const moe_gpu_param *info;
    unsigned char *set;
    double *slot = moe_int_node_slot(node, key, &info, &set);
    if (!slot)
        return refuse_key(key, log);
    const moe_status status = moe_int_number_check(info, key, value, log);
    if (status)
        return status;
    *slot = value;
    *set = 1;
    return MOE_OK;
}

moe_status moe_node_what_if(moe_node *node, const char *text, const moe_log *log) {
    moe_int_what_if w;
    double old;
    const moe_status status = moe_int_what_if_parse(text, log, &w);
    if (status)
        return status;
    if (moe_node_get(node, w.key, &old) != MOE_OK)
        return refuse_key(w.key, log);
    return moe_node_set(node, w.key, moe_int_what_if_apply(&w, old), log);
}

bool moe_node_has(const moe_node *node, const char *what_if) {
    moe_int_what_if w;
    double ignored;
    return moe_int_what_if_parse(what_if, NULL, &w) == MOE_OK &&
           moe_node_get(node, w.key, &ignored) == MOE_OK;
}

static json_t *edited_root(const moe_node *node, const char *kind, const char *source) {
    json_t *root = json_deep_copy(node->root);
    bool bad = !root;
    moe_node *of = (moe_node *)node; /* which is but read */
    bad = bad || moe_int_numbers_put(moe_int_node_numbers(of), root, "parameters", kind, source);
    for (int c = 0; !bad && c < MOE_INT_CARRIER_COUNT; c++)
        bad = moe_int_numbers_put_in(moe_int_node_numbers_of(of, c), root, "carriers",
                                     moe_int_carrier_names[c], kind, source);
    if (bad) {
        json_decref(root);
        return NULL;
    }
    return root;
}

moe_status moe_node_write(const moe_node *node, const char *path, const char *kind,
                          const char *source, const moe_log *log) {
    json_t *root = edited_root(node, kind, source);
    moe_status status = moe_int_gpu_write_json(root, path, log);
    json_decref(root);
    return status;
}
