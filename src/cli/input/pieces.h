/* Checkpoints whose layer is larger than memory. */
#ifndef MOE_CLI_INPUT_PIECES_H
#define MOE_CLI_INPUT_PIECES_H

#include "cli/input/select.h"

/* The pieces in which the folder's layer is judged: the one that --piece names, all where the layer
 * would take more memory than there is, else none. *ret is to be freed. */
moe_status cli_pieces(const cli_selection *selection, const char *dir, moe_hf_piece **ret,
                      size_t *ret_count);

#define CLI_PIECES_OPTIONS(s)                                                                      \
    {"memory", CLI_COUNT, &(s).memory, "MIB",                                                      \
     "with --hf: a layer whose check would hold more than so much, judge and backend together, "   \
     "is judged in pieces: its router with a few hidden units of every expert, then some experts " \
     "at a time (default: three quarters of what is free, at most 2560)"},                         \
    {                                                                                              \
        "piece", CLI_STRING, &(s).piece, "WORD",                                                   \
            "with --hf: such a piece alone, \"router\", or experts \"0-15\""                       \
    }

#endif
