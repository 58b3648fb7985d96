/* moeref check: verdicts. */
#include "cli/input/messages.h"
#include "cli/input/patience.h"
#include "cli/input/pieces.h"
#include "cli/report/html.h"
#include "cli/report/verdict.h"
#include "cli/verbs/verbs.h"
#include "moeref/arithmetic.h"
#include "moeref/recipe.h"

#include <stdio.h>
#include <string.h>

typedef struct check_options {
    cli_selection selection;
    cli_strings backends;
    cli_isolation isolation;
    cli_output output;
    cli_html html;
    int64_t threads, repeats, map_tile;
    const char *outputs, *arithmetic, *recipe, *dump, *bits, *scout;
    bool full, exhaustive, no_explanation, coverage, invariant;
} check_options;

static moe_check_params check_params(const check_options *o) {
    return (moe_check_params){.threads = (int32_t)o->threads,
                              .repeats = (int32_t)o->repeats,
                              .sample_above_flops = o->exhaustive ? -1 : 0,
                              .map_tile = o->map_tile,
                              .dump_dir = o->dump,
                              .no_explanation = o->no_explanation,
                              .recipe = o->recipe,
                              .bits = o->bits,
                              .scout = o->scout,
                              .coverage = o->coverage,
                              .invariance = o->invariant};
}

static void print_verdict(void *user, const moe_check_result *result) {
    const check_options *o = user;
    if (o->output == CLI_TEXT)
        cli_verdict_text(stdout, result, o->full);
    fflush(stdout);
}

static moe_status judge_file(const check_options *o, const moe_problem *problem, int32_t arithmetic,
                             const moe_check_params *params, moe_check_result **ret) {
    return (strstr(o->outputs, "%d") ? moe_check_rank_outputs : moe_check_outputs)(
        o->outputs, problem, arithmetic, params, cli_log(), ret);
}

static bool is_of_ranks(const cli_ranks *r) {
    return r->words || r->transport || r->fault || r->limit_s;
}

/* What a file of outputs does not read: -1, or an exit code after a sentence. */
static int check_unread(const check_options *o, const cli_items *items) {
    if (o->backends.count || is_of_ranks(&o->selection.ranks))
        return cli_usage("--outputs judges a file; --backend, --ep, --transport and their like are "
                         "of what is run: leave one or the other out");
    if (o->isolation.none || o->isolation.timeout_s)
        return cli_usage("--timeout and --no-isolation are of backends that run, not of --outputs");
    if (o->selection.memory)
        return cli_usage("--memory makes pieces of what a backend runs; of a file --piece names "
                         "one");
    if (o->invariant)
        return cli_usage("--invariant runs a backend; a file of outputs is one batch");
    if (o->selection.mistrust || o->repeats)
        return cli_usage("--mistrust and --repeat are of backends that run, not of --outputs");
    if (items->count != 1)
        return cli_usage(
            "--outputs judges one file against one case: give one --case, --hf or --inputs");
    return -1;
}

/* A recipe that was named, and that no verdict was made under. */
static void tell_unread_recipe(const check_options *o, const cli_verdicts *verdicts) {
    for (size_t i = 0; o->recipe && i < verdicts->count; i++)
        if (strcmp(verdicts->at[i]->recipe, o->recipe) == 0)
            return;
    if (o->recipe && verdicts->count)
        moe_log_send(cli_log(), MOE_LOG_WARN,
                     "--recipe %s was not used: nothing was judged in bf16 or fp16, where recipes "
                     "differ",
                     o->recipe);
}

/* --outputs: one file against one problem. */
static int check_file(check_options *o, const cli_items *items) {
    cli_verdicts verdicts = {.coverage = o->coverage};
    moe_problem *problem = NULL;
    moe_check_result *result = NULL;
    cli_backends backends = {0};
    moe_dtype arithmetic = MOE_DTYPE_COUNT;
    moe_check_params params = check_params(o);
    cli_telling of_file = {.spec = o->outputs, .number = 1, .of = 1};
    const moe_progress progress = {cli_tell, &of_file};
    const int wrong = check_unread(o, items);
    if (wrong >= 0)
        return wrong;
    if (o->arithmetic && moe_dtype_parse(o->arithmetic, &arithmetic))
        return cli_usage("--arithmetic is fp64, fp32, fp16 or bf16, not '%s'", o->arithmetic);
    moe_status status = cli_problem(&o->selection, &items->at[0], &problem);
    of_file.name = items->at[0].name;
    params.progress = &progress;
    params.coverage |= cli_is_own(&items->at[0]);
    if (!status && moe_check_may_sample(problem, &params)) /* else no other backend is asked */
        status = cli_backends_choose(&o->backends, &o->isolation, &backends);
    params.backends = backends.all;
    cli_patience patience;
    cli_patience_begin(&patience, o->isolation.timeout_s);
    params.waiting = &patience.waiting;
    if (!status)
        status = judge_file(o, problem, o->arithmetic ? (int32_t)arithmetic : -1, &params, &result);
    cli_patience_end(&patience);
    cli_progress_clear();
    if (!status)
        status = cli_verdicts_add(&verdicts, result);
    int code = cli_exit_code(status);
    if (status) {
        moe_check_result_destroy(&result);
    } else {
        print_verdict(o, result);
        tell_unread_recipe(o, &verdicts);
        cli_verdicts_print(&verdicts, o->output);
        code = cli_html_write(&o->html, &verdicts, cli_verdicts_exit_code(&verdicts, 0));
    }
    cli_verdicts_destroy(&verdicts);
    moe_problem_destroy(&problem);
    cli_backends_destroy(&backends);
    return code;
}

static int check_backends(check_options *o, const cli_items *items) {
    cli_backends backends;
    cli_verdicts verdicts = {.coverage = o->coverage};
    moe_check_params params = check_params(o);
    moe_status status = cli_backends_choose(&o->backends, &o->isolation, &backends);
    if (status)
        return cli_exit_code(status);
    int worst = CLI_PASSED;
    for (size_t i = 0; i < backends.count && !cli_interrupted(); i++) {
        int code = cli_judge_backend(&backends, backends.spec[i], &o->selection, items, &params,
                                     print_verdict, o, &verdicts);
        if (code > worst)
            worst = code;
    }
    tell_unread_recipe(o, &verdicts);
    cli_verdicts_print(&verdicts, o->output);
    worst = cli_html_write(&o->html, &verdicts, worst);
    cli_verdicts_destroy(&verdicts);
    cli_backends_destroy(&backends);
    return worst;
}

static int run(check_options *o) {
    moe_arithmetic how;
    cli_set_progress(o->output != CLI_JSON);
    if (o->repeats > 1000 || o->threads > 4096)
        return cli_usage("--repeat takes 1000 at most, --threads 4096");
    if (o->arithmetic && !o->outputs)
        return cli_usage("--arithmetic goes with --outputs: a backend says its own");
    if (o->recipe && !moe_recipe_find(o->recipe))
        return cli_usage("there is no recipe '%s'; moeref list names them", o->recipe);
    if (o->bits && strcmp(o->bits, "find") != 0 && strcmp(o->bits, "none") != 0 &&
        moe_arithmetic_parse(o->bits, &how))
        return cli_usage(
            "--bits takes \"find\", \"none\" or an arithmetic such as sm_90, sm_80, fp32, "
            "sm_90+split=4, sm_90+promote=128, not '%s'",
            o->bits);
    if (o->scout && o->exhaustive)
        return cli_usage("--scout is of samples, which --exhaustive never takes");
    if (o->selection.memory > INT64_MAX >> 20)
        return cli_usage("--memory takes a number of MiB");
    int code = cli_html_check(&o->html);
    if (code >= 0)
        return code;
    cli_items items;
    o->selection.in_pieces = !o->outputs;
    moe_status status = cli_select(&o->selection, &items);
    if (status)
        return cli_exit_code(status);
    code = o->outputs ? check_file(o, &items) : check_backends(o, &items);
    cli_items_destroy(&items);
    return code;
}

int cli_check(int argc, char **argv) {
    check_options o = {.selection = {.layer = CLI_FIRST_LAYER},
                       .html = {.argc = argc, .argv = argv}};
    const cli_option options[] = {
        CLI_BACKENDS_OPTION(o.backends,
                            "what to check (default: every usable one); NAME:VARIANT as "
                            "in reference:bf16, NAME:bound runs its operators on memory between "
                            "canaries; may be repeated"),
        CLI_SELECTION_OPTIONS(o.selection),
        CLI_PIECES_OPTIONS(o.selection),
        {"outputs", CLI_STRING, &o.outputs, "FILE",
         "judge the tensors in this safetensors file instead of a backend; rank%d.safetensors:\n"
         "one of each rank, whose tokens and experts follow those of the rank before: as many\n"
         "tokens as the case's tokens= says, else as the files have"},
        {"arithmetic", CLI_STRING, &o.arithmetic, "TYPE",
         "with --outputs: fp32, fp16 or bf16, whose gates apply (default: the dtype of O)"},
        {"recipe", CLI_STRING, &o.recipe, "NAME",
         "in bf16 and fp16: where the kernel rounds, by a name of `moeref list` (default: accept\n"
         "what any recipe explains, and name it)"},
        {"bits", CLI_STRING, &o.bits, "ARITHMETIC",
         "bf16 and fp16: every stage must be, bit for bit, what this arithmetic makes of the\n"
         "backend's own stages: sm_90 is one ascending chain of Hopper's tensor core steps;\n"
         "+split=4, +promote=128, +warps=2, +block=64, +descending, +gates_first, +carry_bf16,\n"
         "+fused, +weighs_sums, +act=N change it; find: say which of those known it is; none: not\n"
         "even what the backend declares"},
        {"dump-on-fail", CLI_STRING, &o.dump, "DIR",
         "keep inputs, results and truth of failing cases here; moeref diagnose DIR judges them "
         "again"},
        {"exhaustive", CLI_FLAG, &o.exhaustive, NULL,
         "never sample the oracle, however long it takes"},
        {"scout", CLI_STRING, &o.scout, "NAME",
         "where the truth is a sample: a backend that runs the layer too, so that the tokens and\n"
         "hidden units whose results lie farthest from its are judged as well (default:\n"
         "openblas:fp32 where that takes a minute at most; none: do not)"},
        {"no-explanation", CLI_FLAG, &o.no_explanation, NULL,
         "do not look for the cause of a failure, which takes longest"},
        CLI_RANKS_OPTIONS(o.selection.ranks),
        {"mistrust", CLI_STRING, &o.selection.mistrust, "FILE",
         "a pass on a case of this list, which moeref selftest --mistrust wrote, is none"},
        {"repeat", CLI_COUNT, &o.repeats, "N",
         "runs that must agree bit for bit (default 2); above 2 also calls in which memory must\n"
         "not grow, however large the layer (default: 4, of small ones)"},
        CLI_THREADS_OPTION(o.threads),
        CLI_ISOLATION_OPTIONS(o.isolation),
        {"invariant", CLI_FLAG, &o.invariant, NULL,
         "batch invariance too: has a token the same bits alone, among 2 to 512 others, in any\n"
         "order, beside padding? Only who promises it can fail"},
        {"coverage", CLI_FLAG, &o.coverage, NULL,
         "count what the cases decide: values clamped, tokens whose experts a bias changes ..."},
        {"full", CLI_FLAG, &o.full, NULL, "print every tensor of passing cases too"},
        {"map-tile", CLI_COUNT, &o.map_tile, "N",
         "rows, tokens or columns in a tile of an error map: your kernel's (default: as fits)"},
        CLI_OUTPUT_OPTION(o.output, "text|json"),
        CLI_HTML_OPTION(o.html),
        {0}};
    int code = cli_parse(
        argc, argv,
        "Judges backends, or a file of outputs, against float64 and against golden outputs.\n"
        "Without --case, --hf or --config it runs the suite: the golden layers, then the edge\n"
        "cases. A case that carries a feature which decides nothing in it cannot show that one\n"
        "wrong: an edge case of the suite is mistrusted then, and the exit code is 1; a golden\n"
        "layer, or a case of your own, passes, MISTRUSTED for that feature.",
        options, CLI_CASE_HELP, NULL);
    if (code < 0) {
        code = cli_exit_code(cli_ranks_start(&o.selection.ranks, &o.backends, argv));
        code = code == CLI_PASSED ? run(&o) : code;
    }
    cli_html_destroy(&o.html);
    cli_strings_destroy(&o.backends);
    cli_selection_destroy(&o.selection);
    return code;
}
