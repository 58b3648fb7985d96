/* moeref list: what there is to choose from. */
#include "cli/input/messages.h"
#include "cli/input/options.h"
#include "cli/report/json.h"
#include "cli/report/json_text.h"
#include "cli/verbs/list_gpus.h"
#include "cli/verbs/list_names.h"
#include "cli/verbs/verbs.h"
#include "layer/blocks.h"
#include "moeref/isolation.h"
#include "moeref/recipe.h"
#include "moeref/suite.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static void list_backends_text(const moe_backends *all) {
    printf("backends (preferred first)\n");
    for (size_t i = 0; i < moe_backends_count(all); i++) {
        moe_backend_info b = moe_backends_info(all, i);
        printf("  %-12s %-9s %s\n", b.name, b.status ? "unusable" : "usable", b.brief);
        if (b.status)
            printf("  %-12s %-9s because %s\n", "", "", b.reason);
        printf("  %-12s %-9s %s\n", "", "", b.path);
    }
}

static void list_names_text(const char *title, const char *const *names, size_t count) {
    printf("%s\n", title);
    for (size_t i = 0; i < count; i++)
        printf("  %s\n", names[i]);
}

static void list_families_text(void) {
    printf("families (--hf)\n");
    for (const char *const *name = moe_families(); *name; name++) {
        const char *block = moe_family_block(*name);
        printf("  %s%s%s\n", *name, *block ? ": " : "", block);
    }
}

static const struct {
    const char *name, *what;
} blocks[] = {
#define BLOCK(name, what) {#name, what},
    MOE_INT_BLOCKS(BLOCK)};

static void list_blocks_text(void) {
    printf("blocks (block=, in a case)\n");
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        printf("  %-12s %s\n", blocks[i].name, blocks[i].what);
}

static json_t *blocks_json(void) {
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:s}", "name", blocks[i].name, "what", blocks[i].what));
    return list;
}

static json_t *names_json(const char *const *names, size_t count) {
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(names[i]));
    return list;
}

static json_t *backends_json(const moe_backends *all) {
    json_t *list = json_array();
    for (size_t i = 0; i < moe_backends_count(all); i++) {
        moe_backend_info b = moe_backends_info(all, i);
        json_array_append_new(list, json_pack("{s:o, s:b, s:o, s:o, s:o, s:i}", "name",
                                              cli_json_text(b.name), "usable", b.status == MOE_OK,
                                              "reason", cli_json_text(b.reason), "brief",
                                              cli_json_text(b.brief), "path", cli_json_text(b.path),
                                              "priority", (int)b.priority));
    }
    return list;
}

static const char *pass_word(int32_t pass) {
    return pass == MOE_PASS_BOTH ? "both" : pass == MOE_PASS_FWD ? "fwd" : "bwd";
}

/* NULL where a stage has none. */
static const char *tensor_of(const moe_stage_info *stage) {
    return stage->tensor < 0 ? NULL : moe_tensor_name((moe_tensor_id)stage->tensor);
}

/* What it is a part of; NULL: a stage by itself. */
static const char *whole_of(moe_stage stage) {
    const moe_stage whole = moe_stage_info_of(stage).part_of;
    return whole == stage ? NULL : moe_stage_name(whole);
}

static void list_stages_text(void) {
    printf("stages (pass, tensor, what they are part of)\n");
    for (int i = 0; i < MOE_STAGE_COUNT; i++) {
        const moe_stage_info s = moe_stage_info_of((moe_stage)i);
        const char *tensor = tensor_of(&s), *whole = whole_of((moe_stage)i);
        printf("  %-16s %-5s %-*s%s\n", s.name, pass_word(s.pass), whole ? 15 : 0,
               tensor ? tensor : "-", whole ? whole : "");
    }
}

static json_t *stages_json(void) {
    json_t *list = json_array();
    for (int i = 0; i < MOE_STAGE_COUNT; i++) {
        const moe_stage_info s = moe_stage_info_of((moe_stage)i);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s?, s:s?}", "name", s.name, "pass",
                                              pass_word(s.pass), "tensor", tensor_of(&s), "part_of",
                                              whole_of((moe_stage)i)));
    }
    return list;
}

static void list_recipes_text(void) {
    size_t count;
    const moe_recipe *r = moe_recipes(&count);
    printf("recipes (check --recipe: where bf16 and fp16 kernels round, beside results)\n");
    for (size_t i = 0; i < count; i++) {
        printf("  %-12s %s%s\n  %-12s", r[i].name, r[i].brief,
               r[i].only_if_named ? "; only if named" : "", "");
        for (int p = 0; p < MOE_POINT_COUNT; p++)
            if (r[i].points >> p & 1)
                printf(" %s", moe_point_name(p));
        printf("\n");
    }
    printf("rounding points\n");
    for (int p = 0; p < MOE_POINT_COUNT; p++)
        printf("  %-12s %s\n", moe_point_name(p), moe_point_what(p));
}

static json_t *recipes_json(void) {
    size_t count;
    const moe_recipe *r = moe_recipes(&count);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *points = json_array();
        for (int p = 0; p < MOE_POINT_COUNT; p++)
            if (r[i].points >> p & 1)
                json_array_append_new(points, json_string(moe_point_name(p)));
        json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:o}", "name", r[i].name, "brief",
                                              r[i].brief, "only_if_named", (int)r[i].only_if_named,
                                              "points", points));
    }
    return list;
}

static void list_transports_text(void) {
    json_t *list = cli_list_transports();
    printf("transports (--transport, with --ep)\n");
    for (size_t i = 0; i < json_array_size(list); i++)
        printf("  %s\n", json_string_value(json_array_get(list, i)));
    json_decref(list);
}

static void list_all_text(const moe_backends *all) {
    size_t n_cases;
    const char *const *cases = moe_suite(&n_cases);
    list_backends_text(all);
    list_families_text();
    list_blocks_text();
    list_stages_text();
    list_recipes_text();
    list_transports_text();
    cli_list_gpus_text();
    cli_list_nodes_text();
    list_names_text("edge cases", cases, n_cases);
}

static void list_all_json(const moe_backends *all) {
    size_t n_cases, n_families = 0;
    const char *const *cases = moe_suite(&n_cases);
    const char *const *families = moe_families();
    while (families[n_families])
        n_families++;
    json_t *root =
        json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "moeref", CLI_JSON_VERSION,
                  "backends", backends_json(all), "families", names_json(families, n_families),
                  "blocks", blocks_json(), "stages", stages_json(), "recipes", recipes_json(),
                  "gpus", cli_list_gpus_json(), "nodes", cli_list_nodes_json(), "transports",
                  cli_list_transports(), "cases", names_json(cases, n_cases));
    json_dumpf(root, stdout, JSON_INDENT(1));
    printf("\n");
    json_decref(root);
}

int cli_list(int argc, char **argv) {
    cli_output output = CLI_TEXT;
    bool gpus = false, nodes = false;
    const char *names = NULL;
    const cli_option options[] = {
        {"gpus", CLI_FLAG, &gpus, NULL,
         "GPU descriptions alone, and what each is held to (JSON has all)"},
        {"nodes", CLI_FLAG, &nodes, NULL,
         "node descriptions alone: GPUs and the links between them (JSON has all)"},
        {"names", CLI_STRING, &names, "KIND",
         "names alone, one a line: backends, blocks, cases, ep-faults, families, faults, gpus, "
         "methods, nodes, recipes or transports"},
        CLI_OUTPUT_OPTION(output, "text|json"),
        {0}};
    int code =
        cli_parse(argc, argv,
                  "Lists backends (and why one cannot be used here), the model families that --hf "
                  "reads, the\nblocks that a case can name, the stages that are timed and "
                  "predicted, the recipes of rounding\npoints, the transports between ranks, GPUs, "
                  "nodes, and the edge cases that run when no case\nis named.",
                  options, NULL, NULL);
    if (code >= 0)
        return code;
    if (names && (gpus || nodes || output == CLI_JSON))
        return cli_usage("--names KIND prints names alone, one a line: leave the others out");
    if (names)
        return cli_list_names(names);
    if ((gpus || nodes) && output == CLI_TEXT) {
        moe_status told = gpus ? cli_list_gpus_text() : MOE_OK;
        if (!told && nodes)
            told = cli_list_nodes_text();
        return cli_exit_code(told);
    }
    moe_backends *all = NULL;
    moe_status status = moe_backends_load_isolated(NULL, NULL, cli_log(), &all);
    if (status)
        return cli_exit_code(status);
    if (output == CLI_JSON)
        list_all_json(all);
    else
        list_all_text(all);
    moe_backends_destroy(&all);
    return CLI_PASSED;
}
