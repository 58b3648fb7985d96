/* moeref golden: the stored truths: list, verify, write, export. */
#include "cli/input/messages.h"
#include "cli/input/select.h"
#include "cli/verbs/verbs.h"
#include "moeref/reference.h"
#include "moeref/safetensors.h"
#include "moeref/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct golden_options {
    cli_selection selection;
    const char *export_to;
    int64_t threads;
    bool verify, write, inputs_only;
} golden_options;

/* Inputs of the problem, then (unless only inputs are wanted) what the oracle makes of them, in
 * float32. */
static size_t collect(const moe_problem *problem, const moe_reference_result *oracle,
                      moe_tensors *rounded, moe_named_tensor *list, moe_status *status) {
    size_t n = 0;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        moe_tensor_role role = moe_tensor_role_of((moe_tensor_id)id);
        const moe_tensor *t = &problem->in.t[id];
        if (role != MOE_ROLE_INPUT && role != MOE_ROLE_PARAM) {
            if (!oracle || !oracle->out.t[id].data)
                continue;
            if (!*status)
                *status = moe_tensor_cast(&oracle->out.t[id], MOE_F32, &rounded->t[id]);
            t = &rounded->t[id];
        }
        if (t->data)
            list[n++] = (moe_named_tensor){moe_tensor_name((moe_tensor_id)id), *t};
    }
    return n;
}

static moe_status write_export(const golden_options *o, const moe_problem *problem,
                               const moe_named_tensor *list, size_t n,
                               const moe_block_values *block) {
    const char *const metadata[][2] = {{"case", problem->name}, {"reproduce", problem->reproduce}};
    moe_named_tensor *all = malloc((n + block->count) * sizeof *all);
    if (!all)
        return MOE_E_NOMEM;
    memcpy(all, list, n * sizeof *list);
    if (block->count)
        memcpy(all + n, block->at, block->count * sizeof *all);
    const moe_status status =
        moe_safetensors_write(o->export_to, all, n + block->count, metadata, 2, cli_log());
    if (!status)
        printf("%s: %zu tensors of %s\n", o->export_to, n + block->count, problem->name);
    free(all);
    return status;
}

/* What a case's block is made of and makes, unless only the inputs of its problem are wanted. */
static moe_status block_of(const golden_options *o, const cli_item *item, moe_block_values *ret) {
    moe_case c;
    if (item->kind != 'c' || o->inputs_only)
        return MOE_OK;
    moe_status status = moe_case_parse(item->name, cli_log(), &c);
    if (status)
        return status;
    status = moe_block_values_make(&c, cli_log(), ret);
    moe_case_destroy(&c);
    return status;
}

static moe_status export_problem(const golden_options *o, const moe_problem *problem,
                                 const moe_block_values *block) {
    moe_named_tensor list[MOE_T_COUNT + 4];
    moe_tensor slots = {0};
    moe_reference_result *oracle = NULL;
    moe_tensors rounded = {0};
    moe_status status = MOE_OK;
    if (!o->inputs_only)
        status = moe_reference_problem(problem, (int32_t)o->threads, cli_log(), &oracle);
    size_t n = status ? 0 : collect(problem, oracle, &rounded, list, &status);
    const moe_plan *plan = oracle ? oracle->plan : problem->plan;
    if (!status && plan)
        status = problem->plan ? moe_problem_slots(problem, problem->layer.K, &slots)
                               : moe_plan_slots(plan, problem->layer.K, &slots);
    if (!status && plan) {
        list[n++] = (moe_named_tensor){"topk_index", slots};
        list[n++] =
            (moe_named_tensor){"plan_offsets", {plan->offsets, MOE_I64, 1, {plan->n_experts + 1}}};
        list[n++] = (moe_named_tensor){"plan_token", {plan->token, MOE_I32, 1, {plan->n_pairs}}};
        if (!oracle) /* a given plan's weights are inputs */
            list[n++] = (moe_named_tensor){moe_tensor_name(MOE_T_S),
                                           {plan->weight, MOE_F64, 1, {plan->n_pairs}}};
    }
    if (problem->masked)
        list[n++] = (moe_named_tensor){"masked", {problem->masked, MOE_U8, 1, {problem->T}}};
    if (!status)
        status = write_export(o, problem, list, n, block);
    moe_tensors_destroy(&rounded);
    moe_tensor_destroy(&slots);
    moe_reference_result_destroy(&oracle);
    return status;
}

static int export_selected(const golden_options *o) {
    cli_items items;
    moe_problem *problem = NULL;
    moe_block_values block = {0};
    moe_status status = cli_select(&o->selection, &items);
    if (status)
        return cli_exit_code(status);
    if (items.count != 1) {
        cli_items_destroy(&items);
        return cli_usage("--export writes one case: give one --case, --hf or --config");
    }
    status = cli_problem(&o->selection, &items.at[0], &problem);
    if (!status)
        status = block_of(o, &items.at[0], &block);
    if (!status)
        status = export_problem(o, problem, &block);
    moe_block_values_destroy(&block);
    moe_problem_destroy(&problem);
    cli_items_destroy(&items);
    return cli_exit_code(status);
}

static const char *option_of(const cli_item *item) {
    return item->kind == 'h' ? "--hf  " : item->kind == 'f' ? "--config" : "--case";
}

static int list_goldens(const golden_options *o) {
    cli_items items;
    moe_status status = cli_select(&o->selection, &items);
    for (size_t i = 0; !status && i < items.count; i++)
        printf("%s \"%s\"\n", option_of(&items.at[i]), items.at[i].name);
    if (!status)
        cli_items_destroy(&items);
    return cli_exit_code(status);
}

static int edge_files(const golden_options *o) {
    char *golden = cli_golden_dir(o->selection.golden);
    char dir[4096];
    size_t files = 0;
    if (!golden)
        return cli_usage("no golden folder; name it with --golden DIR or $MOEREF_GOLDEN");
    snprintf(dir, sizeof dir, "%s/edge", golden);
    free(golden);
    moe_status status = o->write ? moe_suite_write(dir, cli_log(), &files)
                                 : moe_suite_verify(dir, cli_log(), &files);
    if (!status)
        printf("%s: %zu files %s\n", dir, files, o->write ? "written" : "agree with the oracle");
    return status == MOE_E_INVALID ? CLI_FAILED : cli_exit_code(status);
}

/* -1, or an exit code after a sentence. */
static int check_options(const golden_options *o) {
    if (!!o->export_to + o->verify + o->write > 1)
        return cli_usage("--export, --verify and --write exclude each other");
    if (o->inputs_only && !o->export_to)
        return cli_usage("--inputs-only goes with --export");
    if (o->selection.inputs && !o->export_to)
        return cli_usage("--inputs goes with --export");
    if (o->threads && !o->export_to)
        return cli_usage("--threads goes with --export");
    if ((o->verify || o->write) && !cli_selects_nothing(&o->selection))
        return cli_usage("--verify and --write are of all files in golden/edge: leave --case, "
                         "--cases, --hf, --config and --inputs out");
    return cli_exit_code(cli_selection_check(&o->selection)) ? CLI_USAGE : -1;
}

static int run(const golden_options *o) {
    const int code = check_options(o);
    if (code >= 0)
        return code;
    if (o->export_to)
        return export_selected(o);
    return o->verify || o->write ? edge_files(o) : list_goldens(o);
}

int cli_golden(int argc, char **argv) {
    golden_options o = {.selection = {.layer = CLI_FIRST_LAYER}};
    const cli_option options[] = {
        {"export", CLI_STRING, &o.export_to, "FILE",
         "write one case's inputs and the oracle's outputs (float32) as safetensors"},
        {"inputs-only", CLI_FLAG, &o.inputs_only, NULL, "with --export: leave the outputs out"},
        CLI_SELECTION_OPTIONS(o.selection),
        {"verify", CLI_FLAG, &o.verify, NULL, "compare the files in golden/edge with the oracle"},
        {"write", CLI_FLAG, &o.write, NULL, "make the files in golden/edge again"},
        CLI_THREADS_OPTION(o.threads),
        {0}};
    int code = cli_parse(
        argc, argv,
        "Golden outputs. Without an option: lists the suite as options that select "
        "each case again.\nPairs in exported H, A, Y, dH, dXp, topk_weight and dS "
        "are grouped by expert: rows of expert e are\nplan_offsets[e] .. "
        "plan_offsets[e+1], their tokens plan_token. topk_index has every token's experts, "
        "-1 in empty slots.\n`masked` has a 1 where a token has no experts though the "
        "layer routes itself.",
        options, CLI_CASE_HELP, NULL);
    if (code < 0)
        code = run(&o);
    cli_selection_destroy(&o.selection);
    return code;
}
