/* moeref list: node descriptions, and what each was held to. */
#include "cli/input/messages.h"
#include "cli/report/json_text.h"
#include "cli/verbs/list_gpus.h"
#include "moeref/node.h"

#include <stdio.h>
#include <string.h>

/* Where carriers that its file says nothing of were measured. */
static void print_derived(const moe_node *node) {
    const char *name, *home, *last = "";
    bool derived;
    for (size_t i = 0; (name = moe_node_carrier(node, i, &derived, &home)); i++) {
        if (derived)
            printf("%s%s",
                   strcmp(home, last) != 0
                       ? *last ? ";\n                as on " : "                as on "
                       : " ",
                   strcmp(home, last) != 0 ? home : name);
        if (derived && strcmp(home, last) != 0)
            printf(": %s", name);
        last = derived ? home : last;
    }
    if (*last)
        printf("\n");
}

moe_status cli_list_nodes_text(void) {
    moe_status status = MOE_OK;
    printf("nodes (--node), and what each is held to\n");
    for (const char *const *name = moe_node_names(); !status && *name; name++) {
        moe_node *node = NULL;
        double gpus = 0, hosts = 0, link = 0, inter = 0;
        status = moe_node_load(*name, cli_log(), &node);
        if (status)
            break;
        moe_node_get(node, "gpus", &gpus);
        moe_node_get(node, "hosts", &hosts);
        moe_node_get(node, "link_gbps", &link);
        moe_node_get(node, "inter_gbps", &inter);
        printf("  %-13s %s\n", *name, moe_node_brief(node));
        printf("  %-13s %.0f x %s, %.0f GB/s each way", "", gpus * hosts, moe_node_gpu(node), link);
        if (inter > 0)
            printf(", %.0f GB/s to another host", inter);
        printf("\n  %-13s held to %s\n", "", moe_node_held_to(node));
        print_derived(node);
        moe_node_destroy(&node);
    }
    return status;
}

static json_t *node_json(const char *name, const moe_node *node) {
    json_t *derived = json_array();
    const char *carrier, *home;
    bool is_derived;
    for (size_t i = 0; (carrier = moe_node_carrier(node, i, &is_derived, &home)); i++) {
        if (is_derived)
            json_array_append_new(derived, json_string(carrier));
    }
    return json_pack("{s:s, s:o, s:o, s:s, s:o}", "name", name, "brief",
                     cli_json_text(moe_node_brief(node)), "held_to",
                     cli_json_text(moe_node_held_to(node)), "gpu", moe_node_gpu(node), "derived",
                     derived);
}

json_t *cli_list_nodes_json(void) {
    json_t *list = json_array();
    for (const char *const *name = moe_node_names(); *name; name++) {
        moe_node *node = NULL;
        if (moe_node_load(*name, cli_log(), &node) == MOE_OK)
            json_array_append_new(list, node_json(*name, node));
        moe_node_destroy(&node);
    }
    return list;
}
