/* From options to the cases that are selected, and to backends. */
#define _GNU_SOURCE
#include "cli/input/select.h"
#include "cli/input/lines.h"
#include "cli/input/messages.h"
#include "cli/input/pieces.h"
#include "moeref/home.h"
#include "moeref/suite.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool cli_is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *cli_golden_dir(const char *option) {
    char path[PATH_MAX];
    if (moe_home_find(MOE_HOME_GOLDEN, option, NULL, path, sizeof path) || !cli_is_folder(path))
        return NULL;
    return strdup(path);
}

static moe_status add_item(cli_items *items, char kind, const char *name) {
    cli_item *at = realloc(items->at, (items->count + 1) * sizeof *at);
    if (!at)
        return MOE_E_NOMEM;
    items->at = at;
    at[items->count].name = strdup(name);
    at[items->count].kind = kind;
    at[items->count].must_decide = false;
    at[items->count].piece = (moe_hf_piece){0};
    return at[items->count++].name ? MOE_OK : MOE_E_NOMEM;
}

void cli_items_destroy(cli_items *items) {
    for (size_t i = 0; i < items->count; i++)
        free(items->at[i].name);
    free(items->at);
    *items = (cli_items){0};
}

/* Python leaves a __pycache__ beside the scripts there, and pip one in every wheel it installs. */
static int is_visible(const struct dirent *entry) {
    return !strchr("._", entry->d_name[0]);
}

/* Every checkpoint folder under golden/hf, in order of names. */
static moe_status add_golden_layers(cli_items *items, const char *golden) {
    char *root, *path;
    struct dirent **entries;
    moe_status status = MOE_OK;
    if (asprintf(&root, "%s/hf", golden) < 0)
        return MOE_E_NOMEM;
    int n = scandir(root, &entries, is_visible, alphasort);
    for (int i = 0; i < n; i++) {
        if (!status && asprintf(&path, "%s/%s", root, entries[i]->d_name) < 0)
            status = MOE_E_NOMEM;
        if (!status) {
            status = cli_is_folder(path) ? add_item(items, 'h', path) : MOE_OK;
            free(path);
        }
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    free(root);
    return status;
}

static moe_status add_default_suite(cli_items *items, const char *option) {
    size_t n;
    const char *const *suite = moe_suite(&n);
    char *golden = cli_golden_dir(option);
    moe_status status = MOE_OK;
    if (golden)
        status = add_golden_layers(items, golden);
    else
        moe_log_send(cli_log(), MOE_LOG_WARN,
                     "golden files are neither beside the library nor at $MOEREF_GOLDEN; the suite "
                     "runs without them");
    for (size_t i = 0; !status && i < n; i++) {
        status = add_item(items, 'c', suite[i]);
        if (!status)
            items->at[items->count - 1].must_decide = true;
    }
    free(golden);
    return status;
}

/* Parsed here, so that what is wrong with it is said once and not by each backend's turn. */
static moe_status add_case(cli_items *items, const char *text) {
    moe_case c;
    const moe_status status = moe_case_parse(text, cli_log(), &c);
    if (status)
        return status;
    moe_case_destroy(&c);
    return add_item(items, 'c', text);
}

static moe_status add_line(cli_items *items, const cli_line *line) {
    const moe_status status = cli_line_check(line, cli_log());
    return status ? status : add_case(items, line->text + strspn(line->text, " \t"));
}

/* Every line is parsed before anything runs: the last one's misprint must not cost the first ones'
 * results. */
static moe_status add_list(cli_items *items, const char *path) {
    cli_lines lines;
    cli_line line = {0};
    moe_status status = cli_lines_open(path, &lines);
    if (status)
        return status;
    while (!(status = cli_lines_next(&lines, &line)) && line.text) {
        status = add_line(items, &line);
        free(line.text);
        if (status) {
            moe_log_send(cli_log(), MOE_LOG_ERROR, "%s: line %ld is not a case", lines.path,
                         line.number);
            break;
        }
    }
    cli_lines_close(&lines);
    return status || items->count
               ? status
               : moe_fail(cli_log(), MOE_E_NOTFOUND, "%s: no case in it", lines.path);
}

/* A checkpoint, or its pieces. */
static moe_status add_hf(cli_items *items, const cli_selection *s, const char *dir) {
    moe_hf_piece *pieces;
    size_t count;
    if (!cli_is_folder(dir)) /* said here once, and not by each backend's turn */
        return moe_fail(cli_log(), MOE_E_IO, "--hf %s: no such folder", dir);
    moe_status status = cli_pieces(s, dir, &pieces, &count);
    if (!status && !count)
        status = add_item(items, 'h', dir);
    for (size_t i = 0; !status && i < count; i++) {
        status = add_item(items, 'p', dir);
        if (!status)
            items->at[items->count - 1].piece = pieces[i];
    }
    free(pieces);
    return status;
}

/* Own inputs stand for one case, which --case says, or else the file. */
static moe_status add_inputs(cli_items *items, const cli_selection *s) {
    if (s->cases.count > 1 || s->list || s->hf.count || s->config)
        return moe_fail(cli_log(), MOE_E_INVALID,
                        "--inputs goes with one --case, which says what the layer is");
    return add_item(items, 'i', s->cases.count ? s->cases.at[0] : "");
}

bool cli_selects_nothing(const cli_selection *s) {
    return !s->cases.count && !s->list && !s->hf.count && !s->config && !s->inputs;
}

/* Golden files are of cases, those of the suite too. */
static moe_status check_golden(const cli_selection *s) {
    const bool is_read = !s->inputs && (s->cases.count || s->list || cli_selects_nothing(s));
    if (!s->golden)
        return MOE_OK;
    if (!is_read)
        return moe_fail(cli_log(), MOE_E_INVALID,
                        "--golden is of the suite and of --case: nothing else has golden files "
                        "there");
    return cli_is_folder(s->golden)
               ? MOE_OK
               : moe_fail(cli_log(), MOE_E_NOTFOUND, "no folder '%s'", s->golden);
}

/* An option that nothing would come of is a mistake, not a wish. */
moe_status cli_selection_check(const cli_selection *s) {
    if (s->layer != CLI_FIRST_LAYER && (s->layer < 0 || !s->hf.count))
        return moe_fail(cli_log(), MOE_E_INVALID,
                        "--layer goes with --hf and is a number from 0 on");
    if ((s->piece || s->memory > 0) && !s->hf.count)
        return moe_fail(cli_log(), MOE_E_INVALID, "--piece and --memory go with --hf");
    if (s->piece && s->memory > 0)
        return moe_fail(cli_log(), MOE_E_INVALID, "--memory makes pieces, --piece names one");
    if (s->tokens && !s->hf.count && !s->config)
        return moe_fail(cli_log(), MOE_E_INVALID, "--tokens goes with --config or --hf");
    return check_golden(s);
}

moe_status cli_select(const cli_selection *selection, cli_items *ret) {
    *ret = (cli_items){0};
    moe_status status = cli_selection_check(selection);
    if (status)
        return status;
    if (selection->inputs)
        return add_inputs(ret, selection);
    for (size_t i = 0; !status && i < selection->cases.count; i++)
        status = add_case(ret, selection->cases.at[i]);
    if (!status && selection->list)
        status = add_list(ret, selection->list);
    for (size_t i = 0; !status && i < selection->hf.count; i++)
        status = add_hf(ret, selection, selection->hf.at[i]);
    if (!status && selection->config)
        status = add_item(ret, 'f', selection->config);
    if (!status && !ret->count)
        status = add_default_suite(ret, selection->golden);
    if (!status && !ret->count)
        status = moe_fail(cli_log(), MOE_E_NOTFOUND, "no case is selected");
    if (status)
        cli_items_destroy(ret);
    return status;
}

void cli_selection_destroy(cli_selection *selection) {
    cli_strings_destroy(&selection->cases);
    cli_strings_destroy(&selection->hf);
}

static moe_status load_backends(const cli_isolation *isolation, moe_backends **ret) {
    const moe_isolation how = {.timeout_s = (double)isolation->timeout_s};
    if (isolation->timeout_s > 1000000)
        return moe_fail(cli_log(), MOE_E_INVALID, "--timeout takes 1000000 seconds at most");
    if (isolation->none && isolation->timeout_s)
        return moe_fail(cli_log(), MOE_E_INVALID,
                        "--timeout cannot end what --no-isolation runs in this process");
    return isolation->none ? moe_backends_load(NULL, cli_log(), ret)
                           : moe_backends_load_isolated(NULL, &how, cli_log(), ret);
}

moe_status cli_backends_choose(const cli_strings *named, const cli_isolation *isolation,
                               cli_backends *ret) {
    *ret = (cli_backends){.timeout_s = isolation->timeout_s};
    moe_status status = load_backends(isolation, &ret->all);
    if (status)
        return status;
    size_t known = moe_backends_count(ret->all);
    size_t room = named->count > known ? named->count : known;
    ret->spec = calloc(room ? room : 1, sizeof *ret->spec);
    if (!ret->spec)
        status = MOE_E_NOMEM;
    for (size_t i = 0; !status && i < named->count; i++)
        ret->spec[ret->count++] = named->at[i];
    for (size_t i = 0; !status && !named->count && i < known; i++) {
        moe_backend_info info = moe_backends_info(ret->all, i);
        if (info.status == MOE_OK)
            ret->spec[ret->count++] = info.name;
    }
    if (status)
        cli_backends_destroy(ret);
    return status;
}

void cli_backends_destroy(cli_backends *backends) {
    free(backends->spec);
    moe_backends_destroy(&backends->all);
    *backends = (cli_backends){0};
}
