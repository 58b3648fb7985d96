/* A layer over the ranks of a group: for each rank one layer of its tokens (router, shared expert,
 * sums) and one of its experts, which sees the windows of all ranks' tokens. */
#ifndef MOE_CUDA_EP_PARTS_H
#define MOE_CUDA_EP_PARTS_H

#include "exchange.h"

/* What one rank has. */
struct RankPart {
    int64_t first_token, tokens;
    int first_expert;
    Home place;
    Layer *home;       /* NULL: a rank without tokens */
    Layer *owner;      /* its windows are x and dout */
    Exchange exchange; /* but for the pass: filled once memory is where it stays */
    Timer forward, backward;
};

struct RanksLayer {
    Device *dev;
    moe_layer_desc desc;
    moe_use use;
    int64_t room; /* tokens of a rank's slot in the windows */
    RankPart *part;
    moe_plan *plan; /* of all tokens, from the ranks' routers; NULL: not asked for yet */
};

#endif
