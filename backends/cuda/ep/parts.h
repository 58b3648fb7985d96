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
    Timer links[2]; /* copies of a forward, of a backward */
};

struct RanksLayer {
    Device *dev;
    moe_layer_desc desc;
    moe_use use;
    int64_t room; /* tokens of a rank's slot in the windows */
    RankPart *part;
    moe_plan *plan; /* of all tokens, from the ranks' routers; NULL: not asked for yet */
};

/* One rank in one pass. */
struct At {
    RanksLayer *l;
    RankPart *p;
    GroupRank *g;
    int r, chunk;
};

/* copies.cu: rows by the copy engines, on the stream `copies`.
 *
 * This rank's tokens' rows, of X or dO, to all other ranks. */
cudaError_t copy_tokens(const At &at, bool backward);
/* Rows that its experts first ... end - 1 made to the ranks whose they are. The host has to have
 * waited for `placed`. */
cudaError_t copy_home(const At &at, int first, int end);

/* timings.cu: after all streams of a pass have ended. */
void finish_timers(RanksLayer *l, bool backward);

#endif
