/* How a layer is spread over several GPUs, as predict, sweep and trace are asked. */
#ifndef MOE_CLI_INPUT_SPREAD_H
#define MOE_CLI_INPUT_SPREAD_H

#include "cli/input/question.h"
#include "moeref/node.h"

#define CLI_SPREAD_NODE "h100-x8" /* where none is named */

typedef struct cli_spread_options {
    const char *node; /* --node, NULL: CLI_SPREAD_NODE */
    int64_t ep, tp;   /* 0: not given */
    int64_t chunks, comm_sms, beside_us, beside_bytes, cached_percent;
    const char *compute;
    bool serial;
} cli_spread_options;

/* clang-format off */
#define CLI_SPREAD_OPTIONS(s)                                                                      \
    {"ep", CLI_COUNT, &(s).ep, "N",                                                                \
     "experts are spread over N groups of GPUs; T is each GPU's (default 1)"},                     \
    {"tp", CLI_COUNT, &(s).tp, "N", "N GPUs share each expert's width (default 1)"},               \
    {"node", CLI_STRING, &(s).node, "NAME|FILE",                                                   \
     "GPUs and links, shipped or your own (default h100-x8; moeref list --nodes); --what-if "      \
     "changes its numbers too: link_gbps*2, alltoall.link_eff=1"},                                 \
    {"chunks", CLI_COUNT, &(s).chunks, "N",                                                        \
     "parts that overlap (default: the best of 1, 2, 4 ..)"},                                      \
    {"comm-sms", CLI_COUNT, &(s).comm_sms, "N", "SMs that send (comet; default: the best)"},       \
    {"compute", CLI_STRING, &(s).compute, "NAME",                                                  \
     "whose kernels run on each GPU (default grouped_mm; moeref in moeref_ep, on architecture "    \
     "90)"},                                                                                       \
    {"beside-us", CLI_INT, &(s).beside_us, "US", "work outside the layer to hide behind (hecate)"},\
    {"beside-bytes", CLI_INT, &(s).beside_bytes, "BYTES",                                          \
     "gradients outside the layer to all-reduce where the network is idle (fsmoe)"},               \
    {"cached", CLI_INT, &(s).cached_percent, "PERCENT",                                            \
     "experts whose weights are on the GPU (hybrimoe; default 50)"},                               \
    {"no-overlap", CLI_FLAG, &(s).serial, NULL, "one task after another"}
/* clang-format on */

#define CLI_SPREAD_NO_SHARE INT64_MIN /* --cached was not given: half of them */

/* What they are where nothing is said. */
#define CLI_SPREAD_DEFAULTS                                                                        \
    { .cached_percent = CLI_SPREAD_NO_SHARE }

/* Whether several GPUs are asked about. */
bool cli_spread_is_asked(const cli_spread_options *s);

/* Takes "ep=N", "tp=N", "chunks=N" and "comm_sms=N" out of a line of a case: into *s, and what is
 * left into *ret_rest, which the caller frees. NULL: the line has no such word. */
moe_status cli_spread_take(const char *line, const moe_log *log, cli_spread_options *s,
                           char **ret_rest);

/* Loads the node and its GPU, or the one that *m names, and applies each what-if to what it is of;
 * fills *ret_state as cli_model_open. */
moe_status cli_spread_open(const cli_spread_options *s, const cli_model_options *m,
                           moe_node **ret_node, moe_gpu **ret_gpu, moe_workload *ret_state);

/* Refuses what would change nothing: by every one of these methods of several GPUs, or, of one GPU
 * (count 0), at all. */
moe_status cli_spread_check(const cli_spread_options *s, const char *const *methods, size_t count,
                            const moe_log *log);

/* As cli_model_open, where nobody asked for several GPUs: what-ifs of a node are refused. */
moe_status cli_spread_open_alone(const cli_model_options *m, moe_gpu **ret_gpu,
                                 moe_workload *ret_state);

/* For moe_predict_ep; method NULL: moeref_ep. */
moe_ep_options cli_spread_for(const cli_spread_options *s, const char *method);

/* Names of the methods, below those of one GPU. */
void cli_spread_help(char *buf, size_t size);

#endif
