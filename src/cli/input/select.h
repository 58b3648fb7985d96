/* From options to problems and backends. */
#ifndef MOE_CLI_INPUT_SELECT_H
#define MOE_CLI_INPUT_SELECT_H

#include "cli/input/ranks.h"
#include "moeref/backend.h"
#include "moeref/case.h"
#include "moeref/isolation.h"

/* Nothing was said; what people may mean by -1 is another one. */
#define CLI_FIRST_LAYER INT64_MIN

/* Which problems a command works on. */
typedef struct cli_selection {
    cli_strings cases;    /* --case */
    const char *list;     /* --cases */
    cli_strings hf;       /* --hf */
    const char *config;   /* --config */
    const char *inputs;   /* --inputs */
    int64_t layer;        /* --layer, CLI_FIRST_LAYER: the first MoE layer */
    int64_t tokens;       /* --tokens for --config and checkpoints without inputs, 0: 128 */
    const char *golden;   /* --golden, NULL: found beside the library */
    cli_ranks ranks;      /* --ep: over which ranks a problem runs */
    const char *mistrust; /* --mistrust: cases that cannot show faults (mistrust.h), or NULL */
    bool in_pieces;       /* checkpoints that are too large are taken piece by piece (pieces.h) */
    const char *piece;    /* --piece, one of them; NULL: all */
    int64_t memory;       /* --memory: MiB that judging may take; 0: the default */
} cli_selection;

void cli_selection_destroy(cli_selection *selection);

/* clang-format off */
#define CLI_SELECTION_OPTIONS(s)                                                                   \
    {"case", CLI_STRINGS, &(s).cases, "\"T=.. d=.. n=.. E=.. K=..\"",                              \
     "a case, whose words moeref help case explains; may be repeated"},                            \
    {"cases", CLI_STRING, &(s).list, "FILE",                                                       \
     "one case a line, - is standard input; empty lines and lines that begin with # do not "       \
     "count"},                                                                                     \
    {"hf", CLI_STRINGS, &(s).hf, "DIR", "a Hugging Face checkpoint folder; may be repeated"},      \
    {"layer", CLI_INT, &(s).layer, "L", "with --hf: which decoder layer (default: the first)"},    \
    {"config", CLI_STRING, &(s).config, "FILE", "shapes from a config.json, data drawn"},          \
    {"inputs", CLI_STRING, &(s).inputs, "FILE",                                                    \
     "own X, dO, weights, plan (safetensors) for the one --case, or for the one that it names"},   \
    {"tokens", CLI_COUNT, &(s).tokens, "T", "with --config or --hf: how many tokens to draw"},     \
    {"golden", CLI_STRING, &(s).golden, "DIR",                                                     \
     "where the golden files are (default: $MOEREF_GOLDEN, or beside the library)"}
/* clang-format on */

/* The selected problems, made one at a time. When nothing was named, the default suite: golden
 * layers under golden/hf, then the edge cases. */
typedef struct cli_item {
    char *name;
    char kind;          /* 'c' case, 'h' checkpoint folder, 'p' a piece of its layer,
                           'f' config.json, 'i' own inputs */
    bool must_decide;   /* an edge case of the suite: whatever it carries has to matter */
    moe_hf_piece piece; /* of kind 'p' */
} cli_item;

typedef struct cli_items {
    cli_item *at;
    size_t count;
} cli_items;

/* Does no option say which problems? */
bool cli_selects_nothing(const cli_selection *selection);
/* Refuses options of a selection that nothing reads; cli_select begins with it. */
moe_status cli_selection_check(const cli_selection *selection);
/* MOE_E_NOTFOUND when nothing is selected. */
moe_status cli_select(const cli_selection *selection, cli_items *ret);
void cli_items_destroy(cli_items *items);
/* problem.c */
moe_status cli_problem(const cli_selection *selection, const cli_item *item, moe_problem **ret);

/* The folder with golden files: --golden, $MOEREF_GOLDEN, or beside the library; NULL if there is
 * none. Free with free(). */
char *cli_golden_dir(const char *option);
bool cli_is_folder(const char *path);

/* Which backends: the named ones, or every usable one. */
typedef struct cli_backends {
    moe_backends *all;
    const char **spec;
    size_t count;
    int64_t timeout_s; /* of a call, and of the search for a cause; 0: none was given */
} cli_backends;

moe_status cli_backends_choose(const cli_strings *named, const cli_isolation *isolation,
                               cli_backends *ret);
void cli_backends_destroy(cli_backends *backends);

#endif
