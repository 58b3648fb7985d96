/* moeref diagnose: failures that check --dump-on-fail kept, judged again. */
#define _GNU_SOURCE
#include "cli/input/judging.h"
#include "cli/input/messages.h"
#include "cli/input/patience.h"
#include "cli/report/html.h"
#include "cli/report/verdict.h"
#include "cli/verbs/verbs.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct diagnose_options {
    cli_strings paths;
    cli_output output;
    cli_html html;
    int64_t threads;
} diagnose_options;

static int is_bundle(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return entry->d_name[0] != '.' && dot && strcmp(dot, ".safetensors") == 0;
}

static moe_status judge_file(const diagnose_options *o, const char *path, cli_verdicts *verdicts) {
    moe_check_params params = {.threads = (int32_t)o->threads};
    moe_check_result *result = NULL;
    cli_progress("%s", path);
    cli_patience patience;
    cli_patience_begin(&patience, 0);
    params.waiting = &patience.waiting;
    moe_status status = moe_check_bundle(path, &params, cli_log(), &result);
    cli_patience_end(&patience);
    if (!status)
        status = cli_verdicts_add(verdicts, result);
    cli_progress_clear();
    if (status)
        moe_check_result_destroy(&result);
    else if (o->output == CLI_TEXT)
        cli_verdict_text(stdout, result, true);
    return status;
}

static int worse(int code, moe_status status) {
    int other = cli_exit_code(status);
    return other > code ? other : code;
}

/* All bundles of a folder, by name; one that cannot be read does not keep the others back. */
static int judge_folder(const diagnose_options *o, const char *folder, cli_verdicts *verdicts) {
    struct dirent **entry = NULL;
    int code = CLI_PASSED, count = scandir(folder, &entry, is_bundle, alphasort);
    if (count <= 0)
        code = cli_usage("%s holds no .safetensors file", folder);
    for (int i = 0; i < count; i++) {
        char *path = NULL;
        bool made = asprintf(&path, "%s/%s", folder, entry[i]->d_name) >= 0;
        if (!cli_interrupted())
            code = worse(code, made ? judge_file(o, path, verdicts) : MOE_E_NOMEM);
        if (made)
            free(path);
        free(entry[i]);
    }
    free(entry);
    return code;
}

static int run(const diagnose_options *o) {
    cli_verdicts verdicts = {0};
    int code = CLI_PASSED;
    cli_set_progress(o->output != CLI_JSON);
    if (o->threads > 4096)
        return cli_usage("--threads takes 4096 at most");
    if (!o->paths.count)
        return cli_usage("name a file or a folder that check --dump-on-fail wrote");
    int unwritable = cli_html_check(&o->html);
    if (unwritable >= 0)
        return unwritable;
    for (size_t i = 0; i < o->paths.count && !cli_interrupted(); i++) {
        const char *path = o->paths.at[i];
        struct stat info;
        bool folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
        int judged = folder ? judge_folder(o, path, &verdicts)
                            : worse(CLI_PASSED, judge_file(o, path, &verdicts));
        code = judged > code ? judged : code;
    }
    int judged = cli_verdicts_exit_code(&verdicts, 0);
    cli_verdicts_print(&verdicts, o->output);
    code = cli_html_write(&o->html, &verdicts, judged > code ? judged : code);
    cli_verdicts_destroy(&verdicts);
    return code;
}

int cli_diagnose(int argc, char **argv) {
    diagnose_options o = {.html = {.argc = argc, .argv = argv}};
    const cli_option options[] = {CLI_THREADS_OPTION(o.threads),
                                  CLI_OUTPUT_OPTION(o.output, "text|json"),
                                  CLI_HTML_OPTION(o.html),
                                  {0}};
    int code = cli_parse(
        argc, argv,
        "Judges again what `moeref check --dump-on-fail DIR` kept: each file holds a failing "
        "case's\ninputs, results and routing, so that neither the backend nor its device is "
        "needed.\nName files or folders: moeref diagnose DIR",
        options, NULL, &o.paths);
    if (code < 0)
        code = run(&o);
    cli_strings_destroy(&o.paths);
    return code;
}
