#include "cli/verbs/list_names.h"
#include "cli/input/messages.h"
#include "layer/blocks.h"
#include "moeref/ep.h"
#include "moeref/home.h"
#include "moeref/isolation.h"
#include "moeref/model.h"
#include "moeref/node.h"
#include "moeref/recipe.h"
#include "moeref/selftest.h"
#include "moeref/suite.h"
#include "moeref/transport.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static void put_all(const char *const *names) {
    for (; *names; names++)
        puts(*names);
}

static void put_backends(void) {
    moe_backends *all = NULL;
    if (moe_backends_load_isolated(NULL, NULL, cli_log(), &all))
        return;
    for (size_t i = 0; i < moe_backends_count(all); i++)
        puts(moe_backends_info(all, i).name);
    moe_backends_destroy(&all);
}

static void put_methods(void) {
    put_all(moe_methods());
    put_all(moe_ep_methods());
}

static void put_gpus(void) {
    put_all(moe_gpu_names());
}

static void put_nodes(void) {
    put_all(moe_node_names());
}

static void put_families(void) {
    put_all(moe_families());
}

static void put_blocks(void) {
#define PUT(name, what) puts(#name);
    MOE_INT_BLOCKS(PUT)
}

static void put_recipes(void) {
    size_t count;
    const moe_recipe *recipes = moe_recipes(&count);
    for (size_t i = 0; i < count; i++)
        puts(recipes[i].name);
}

static void put_cases(void) {
    size_t count;
    const char *const *cases = moe_suite(&count);
    for (size_t i = 0; i < count; i++)
        puts(cases[i]);
}

static void put_faults(void) {
    size_t count;
    const moe_fault *faults = moe_faults(&count);
    for (size_t i = 0; i < count; i++)
        puts(faults[i].name);
}

static void put_ep_faults(void) {
    size_t count;
    const moe_ep_fault *faults = moe_ep_faults(&count);
    for (size_t i = 0; i < count; i++)
        puts(faults[i].name);
}

/* The files transport-NAME.so of a folder. */
static void add_transports(json_t *list, const char *folder) {
    static const char before[] = "transport-";
    char pattern[PATH_MAX];
    glob_t found = {0};
    snprintf(pattern, sizeof pattern, "%s/%s*.so", folder, before);
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++) {
            const char *name = strrchr(found.gl_pathv[i], '/') + sizeof before;
            json_array_append_new(list, json_stringn(name, strlen(name) - strlen(".so")));
        }
    globfree(&found);
}

/* They lie beside the plug-ins; in a build tree in folders of their own there. */
json_t *cli_list_transports(void) {
    char folder[PATH_MAX - 128], below[PATH_MAX - 64];
    json_t *list = json_array();
    json_array_append_new(list, json_string(moe_transport_threads()->name));
    if (moe_home_find(MOE_HOME_BACKENDS, NULL, NULL, folder, sizeof folder))
        return list;
    add_transports(list, folder);
    snprintf(below, sizeof below, "%s/*", folder);
    add_transports(list, below);
    return list;
}

static void put_transports(void) {
    json_t *list = cli_list_transports();
    for (size_t i = 0; i < json_array_size(list); i++)
        puts(json_string_value(json_array_get(list, i)));
    json_decref(list);
}

int cli_list_names(const char *kind) {
    static const char *const kinds[] = {"backends", "blocks",  "cases",      "ep-faults",
                                        "families", "faults",  "gpus",       "methods",
                                        "nodes",    "recipes", "transports", NULL};
    static void (*const put[])(void) = {put_backends, put_blocks,  put_cases,     put_ep_faults,
                                        put_families, put_faults,  put_gpus,      put_methods,
                                        put_nodes,    put_recipes, put_transports};
    for (size_t i = 0; kinds[i]; i++)
        if (strcmp(kinds[i], kind) == 0) {
            put[i]();
            return CLI_PASSED;
        }
    char known[256] = "";
    for (size_t i = 0, used = 0; kinds[i]; i++)
        used +=
            (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", kinds[i]);
    return cli_usage("--names takes %s, not '%s'", known, kind);
}
