/* moeref list: what there is to choose from. */
#include "cli/input/messages.h"
#include "cli/input/options.h"
#include "cli/verbs/verbs.h"
#include "moeref/backend.h"
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
        json_array_append_new(list,
                              json_pack("{s:s, s:b, s:s, s:s, s:s, s:i}", "name", b.name, "usable",
                                        b.status == MOE_OK, "reason", b.reason, "brief", b.brief,
                                        "path", b.path, "priority", (int)b.priority));
    }
    return list;
}

int cli_list(int argc, char **argv) {
    cli_output output = CLI_TEXT;
    const cli_option options[] = {CLI_OUTPUT_OPTION(output, "text|json"), {0}};
    int code =
        cli_parse(argc, argv,
                  "Lists backends (and why one cannot be used here), the model families that "
                  "--hf reads, and the\nedge cases that run when no case is named.",
                  options, NULL, NULL);
    if (code >= 0)
        return code;
    moe_backends *all = NULL;
    moe_status status = moe_backends_load(NULL, cli_log(), &all);
    if (status)
        return cli_exit_code(status);
    size_t n_cases, n_families = 0;
    const char *const *cases = moe_suite(&n_cases);
    const char *const *families = moe_families();
    while (families[n_families])
        n_families++;
    if (output == CLI_JSON) {
        json_t *root = json_pack("{s:i, s:o, s:o, s:o}", "moeref", 1, "backends",
                                 backends_json(all), "families", names_json(families, n_families),
                                 "cases", names_json(cases, n_cases));
        json_dumpf(root, stdout, JSON_INDENT(1));
        printf("\n");
        json_decref(root);
    } else {
        list_backends_text(all);
        list_names_text("families (--hf)", families, n_families);
        list_names_text("edge cases", cases, n_cases);
    }
    moe_backends_destroy(&all);
    return CLI_PASSED;
}
