/* --ep and --transport: the same layer over several ranks. */
#ifndef MOE_CLI_INPUT_RANKS_H
#define MOE_CLI_INPUT_RANKS_H

#include "cli/input/options.h"
#include "moeref/case.h"
#include "moeref/ep.h"

typedef struct cli_ranks {
    const char *words;     /* "4", or "4 combine=ranks tokens=8+0+24+0"; NULL: as the case says */
    const char *transport; /* NULL: threads */
    const char *fault;     /* NULL: none */
    int64_t limit_s;       /* 0: the library's */
    char own[256];         /* a backend with ranks of its own; "": none */
} cli_ranks;

/* clang-format off */
#define CLI_RANKS_OPTIONS(r)                                                                       \
    {"ep", CLI_STRING, &(r).words, "\"R WORD=..\"",                                                \
     "expert parallelism over R ranks: tokens and experts are spread, rows go to the experts and " \
     "home again, and the results are judged as ever; WORDs: combine=pairs|ranks, wire=TYPE, "     \
     "skew=S, tokens=8+0+24, padding=owner|wire|capacity pad=8, as in a case"},                    \
    {"transport", CLI_STRING, &(r).transport, "NAME",                                              \
     "with --ep: how ranks reach each other, threads (default), or one that moeref list names; "   \
     "peer: the backend's own way, --backend NAME:ranksR"},                                        \
    {"ep-limit", CLI_COUNT, &(r).limit_s, "SECONDS",                                               \
     "with --ep: most that a rank waits for others in an exchange (default: 10, more for large "   \
     "cases)"},                                                                                    \
    {"ep-fault", CLI_STRING, &(r).fault, "NAME",                                                   \
     "with --ep: what should go wrong between ranks, to see that it is noticed"}
/* clang-format on */

/* Before anything is run. Where the transport needs a process for each rank and this is none of
 * them: runs the command that starts them, all with the same words, and exits as they do. In all of
 * them but the first stdout leads nowhere. --transport peer: the backend that is named runs over
 * ranks by itself, by a variant of its own, and no --ep is left. */
moe_status cli_ranks_start(cli_ranks *ranks, cli_strings *backends, char **argv);
/* Gives a problem the split that --ep asks for. */
moe_status cli_ranks_apply(const cli_ranks *ranks, moe_problem *problem);
/* How to run a problem that has a split; *ret points into it. */
moe_status cli_ranks_params(const cli_ranks *ranks, const moe_problem *problem, moe_ep_params *ret);

#endif
