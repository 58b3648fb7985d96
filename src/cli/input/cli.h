/* What the verbs of the command line share. */
#ifndef MOE_CLI_INPUT_CLI_H
#define MOE_CLI_INPUT_CLI_H

#include "moeref/backend.h"
#include "moeref/case.h"

#include <stdbool.h>

/* Exit codes, as documented in --help. */
enum {
    CLI_PASSED = 0,
    CLI_FAILED = 1,  /* something was judged wrong */
    CLI_USAGE = 2,   /* the command line is wrong, or selects nothing */
    CLI_NOT_RUN = 3, /* could not run: no memory, no file, no device */
};

/* Strings in the order in which they were given; points into argv. */
typedef struct cli_strings {
    const char **at;
    size_t count;
} cli_strings;

moe_status cli_strings_add(cli_strings *list, const char *value);
void cli_strings_destroy(cli_strings *list);

typedef enum cli_kind {
    CLI_FLAG,    /* bool *, no value */
    CLI_INT,     /* int64_t * */
    CLI_STRING,  /* const char ** */
    CLI_STRINGS, /* cli_strings *: may be repeated */
    CLI_OUTPUT   /* cli_output *: text, json or csv */
} cli_kind;

typedef enum cli_output { CLI_TEXT, CLI_JSON, CLI_CSV } cli_output;

/* One option of a verb: parsing and --help come from the same row. */
typedef struct cli_option {
    const char *name; /* without the dashes */
    cli_kind kind;
    void *target;
    const char *value; /* what --help calls the value; NULL for flags */
    const char *help;
} cli_option;

/* Parses argv[1..] against the rows (ended by name == NULL). Returns -1 to go on, or an exit code:
 * 0 after --help (which prints `about`, the rows and `more`), CLI_USAGE after a sentence about what
 * is wrong. Anything that is not an option goes to `rest` if it is not NULL. */
int cli_parse(int argc, char **argv, const char *about, const cli_option *options, const char *more,
              cli_strings *rest);

/* Messages of the library and of the verbs go to stderr as "moeref: ...". */
const moe_log *cli_log(void);
void cli_set_verbose(bool verbose);
int cli_usage(const char *format, ...) MOE_PRINTF(1, 2);
/* The exit code for a status: usage for what the user named wrongly, not-run for the rest. */
int cli_exit_code(moe_status status);

/* Progress on a terminal's stderr, overwritten in place; nothing elsewhere. */
void cli_progress(const char *format, ...) MOE_PRINTF(1, 2);
void cli_progress_clear(void);

/* Which problems a command works on. */
typedef struct cli_selection {
    cli_strings cases;  /* --case */
    const char *list;   /* --cases */
    cli_strings hf;     /* --hf */
    const char *config; /* --config */
    int64_t layer;      /* --layer, -1: the first MoE layer */
    int64_t tokens;     /* --tokens for --config and checkpoints without inputs, 0: 128 */
    const char *golden; /* --golden, NULL: found beside the program */
} cli_selection;

void cli_selection_destroy(cli_selection *selection);

#define CLI_SELECTION_OPTIONS(s)                                                                   \
    {"case", CLI_STRINGS, &(s).cases, "\"T=.. d=.. n=.. E=.. K=..\"",                              \
     "a case of the grammar below; may be repeated"},                                              \
        {"cases", CLI_STRING, &(s).list, "FILE",                                                   \
         "one case a line, - is standard input; empty lines and lines that begin with # do not "   \
         "count"},                                                                                 \
        {"hf", CLI_STRINGS, &(s).hf, "DIR", "a Hugging Face checkpoint folder; may be repeated"},  \
        {"layer", CLI_INT, &(s).layer, "L",                                                        \
         "with --hf: which decoder layer (default: the first)"},                                   \
        {"config", CLI_STRING, &(s).config, "FILE", "shapes from a config.json, data drawn"}, {    \
        "tokens", CLI_INT, &(s).tokens, "T", "with --config or --hf: how many tokens to draw"      \
    }

/* The selected problems, made one at a time. When nothing was named, the default suite: golden
 * layers under golden/hf, then the edge cases. */
typedef struct cli_item {
    char *name;
    char kind; /* 'c' case, 'h' checkpoint folder, 'f' config.json */
} cli_item;

typedef struct cli_items {
    cli_item *at;
    size_t count;
} cli_items;

/* MOE_E_NOTFOUND when nothing is selected. */
moe_status cli_select(const cli_selection *selection, cli_items *ret);
void cli_items_destroy(cli_items *items);
moe_status cli_problem(const cli_selection *selection, const cli_item *item, moe_problem **ret);

/* The folder with golden files: --golden, $MOEREF_GOLDEN, or beside the program; NULL if there is
 * none. Free with free(). */
char *cli_golden_dir(const char *option);

/* Which backends: the named ones, or every usable one. */
typedef struct cli_backends {
    moe_backends *all;
    const char **spec;
    size_t count;
} cli_backends;

moe_status cli_backends_choose(const cli_strings *named, cli_backends *ret);
void cli_backends_destroy(cli_backends *backends);

#endif
