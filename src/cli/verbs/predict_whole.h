/* The part of moeref predict that asks a config.json: its layer, all its layers, the whole model.
 */
#ifndef MOE_CLI_VERBS_PREDICT_WHOLE_H
#define MOE_CLI_VERBS_PREDICT_WHOLE_H

#include "cli/input/options.h"
#include "cli/input/question.h"
#include "cli/report/prediction.h"
#include "cli/verbs/predict_shared.h"
#include "moeref/whole.h"

#include <stdio.h>

typedef struct cli_whole {
    const char *config, *layers, *dtype, *pass, *route;
    const char *tokens; /* "T,T,.." */
    int64_t context, step_us, sequence_us;
    int64_t attention_tp; /* 0: not given */
} cli_whole;

#define CLI_WHOLE_OPTIONS(w)                                                                       \
    {"config", CLI_STRING, &(w).config, "FILE", "a layer's shape from a config.json"},             \
        {"layers", CLI_STRING, &(w).layers, "all",                                                 \
         "with --config: the model's MoE layers, and then all of it: attention, dense FFNs, "      \
         "norms and head beside them, tokens/s, memory"},                                          \
        {"context", CLI_COUNT, &(w).context, "N",                                                  \
         "with --layers: decoding, each of the T tokens is the next of a sequence of its own of "  \
         "N tokens (default: the T tokens are one sequence)"},                                     \
        {"step-us", CLI_INT, &(w).step_us, "US",                                                   \
         "with --layers: what the host adds to a step that no kernel covers (default 0)"},         \
        {"sequence-us", CLI_INT, &(w).sequence_us, "US",                                           \
         "with --context: what it adds for each sequence (default 0)"},                            \
        {"attention-tp", CLI_COUNT, &(w).attention_tp, "N",                                        \
         "with --layers and --ep or --tp: GPUs that share attention's heads, dense FFNs and "      \
         "vocabulary, and the T tokens; the others have tokens of their own (default: --tp)"},     \
        {"route", CLI_STRING, &(w).route, "balanced|uniform",                                      \
         "with --config: experts' shares of the tokens (default balanced, with --layers "          \
         "uniform)"},                                                                              \
        {"pass", CLI_STRING, &(w).pass, "fwd|bwd|both", "with --config (default both)"},           \
        {"dtype", CLI_STRING, &(w).dtype, "bf16|fp16",                                             \
         "with --config (default: as the file says)"},                                             \
    {                                                                                              \
        "tokens", CLI_STRING, &(w).tokens, "T,T,..",                                               \
            "with --config: one number after another (default 4096)"                               \
    }

/* What does not fit together; NULL: all does. */
const char *cli_whole_wrong(const cli_whole *w, cli_output output);

/* The question of w's config.json for the next number of tokens at *at, which goes on; NULL: that
 * was the last. */
moe_status cli_whole_question(const cli_whole *w, const char **at, cli_question *ret);

/* Who runs it on what, and where to it is told. */
typedef struct cli_whole_job {
    const moe_gpu *gpu;
    const moe_workload *state;
    const cli_strings *methods;
    const cli_spread_options *spread; /* of cli_whole_spread, and the node */
    const moe_node *node;
    bool all_methods; /* one that cannot do a layer was said before */
    cli_output output;
    FILE *to;
} cli_whole_job;

/* The same over several GPUs, by each method of theirs; none: the one that the layout asks for. */
moe_status cli_whole_spread(const cli_whole *w, const cli_whole_job *job,
                            const cli_question *first);

/* Prints time and memory of all MoE layers, each with its own sizes, and then of the whole model,
 * by each method. `first`: the question of the first layer. */
moe_status cli_whole_layers(const cli_whole *w, const cli_whole_job *job,
                            const cli_question *first);

#endif
