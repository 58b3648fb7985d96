/* What the program says of itself: help, lists, and names for scripts. */
#include "moeref/version.h"
#include "run_moeref.h"

#include <jansson.h>

static const char *const verbs[] = {"validate", "check",   "bench",  "golden", "list",
                                    "diagnose", "predict", "trace",  "sweep",  "calibrate",
                                    "selftest", "memory",  "measure"};

Test(cli_help, help_teaches) {
    expect(0, "exit codes", "--help");
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        char args[64];
        snprintf(args, sizeof args, "%s --help", verbs[i]);
        expect(0, "usage: moeref", args);
    }
    expect(0, "reference", "list");
}

/* No line is longer than a page is wide; the grammar of cases stands in one place. */
Test(cli_help, help_is_narrow_and_says_things_once) {
    expect(0, "usage: moeref predict", "help predict");
    expect(0, "of those groups: how many are kept", "help case");
    expect(2, "no verb 'chekc'", "help chekc");
    expect(2, "takes one word", "help check bench");
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        char args[64];
        snprintf(args, sizeof args, "help %s", verbs[i]);
        outcome *o = moeref("%s", args);
        cr_assert_eq(o->code, 0);
        cr_expect(!strstr(o->text, "topk_groups"), "%s repeats the grammar", args);
        for (const char *line = o->text; *line; line += strcspn(line, "\n"), line += *line != 0)
            cr_expect_leq(strcspn(line, "\n"), 100, "%s: %.40s...", args, line);
        free(o);
    }
    for (int i = 0; i < 2; i++)
        expect(0, moe_version(), i ? "-V" : "--version");
}

/* Tools read the table of stages from here. */
Test(cli_help, stages_are_listed) {
    outcome *o = moeref("list --output json");
    json_t *root = json_loads(o->text, 0, NULL), *stages = json_object_get(root, "stages"), *stage;
    size_t i;
    int whole = 0, part = 0;
    cr_assert_gt(json_array_size(stages), 0, "%s", o->text);
    json_array_foreach(stages, i, stage) {
        const char *name = json_string_value(json_object_get(stage, "name"));
        cr_assert(name && json_string_value(json_object_get(stage, "pass")));
        const json_t *tensor = json_object_get(stage, "tensor"),
                     *part_of = json_object_get(stage, "part_of");
        if (strcmp(name, "dW1_shared") == 0)
            whole += json_is_null(part_of) && strcmp(json_string_value(tensor), name) == 0;
        if (strcmp(name, "sort count") == 0)
            part += json_is_null(tensor) && strcmp(json_string_value(part_of), "metadata") == 0;
    }
    cr_expect_eq(whole, 1, "%s", o->text);
    cr_expect_eq(part, 1, "%s", o->text);
    json_decref(root);
    free(o);
    expect(0, "  sort count       fwd   -              metadata\n", "list");
}

/* What scripts and the completion of shells ask for: a name a line, and what options take. */
Test(cli_help, names_alone) {
    expect(0, "reference\n", "list --names backends");
    expect(0, "cublas\nsonicmoe\n", "list --names methods");
    expect(0, "comet\n", "list --names methods");
    expect(0, "h100-sxm\n", "list --names gpus");
    expect(0, "h100-x8\n", "list --names nodes");
    expect(0, "threads\n", "list --names transports");
    expect(0, "renorm_missing\n", "list --names faults");
    expect(0, "dx_not_summed\n", "list --names ep-faults");
    expect(0, "compiled\n", "list --names recipes");
    expect(0, "chained\n", "list --names blocks");
    expect(0, "olmoe\n", "list --names families");
    expect(0, "T=", "list --names cases");
}
