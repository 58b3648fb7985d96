/* A layer over the ranks of a group: for each rank one layer of its tokens (router, shared expert,
 * sums) and one of its experts, which sees the windows of all ranks' tokens. */
#ifndef MOE_CUDA_EP_RANKS_H
#define MOE_CUDA_EP_RANKS_H

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

/* prepare.cu: the slots of the plug-in's table. */
moe_status ranks_supports(const Device *dev, const moe_layer_desc *desc, const moe_use *use,
                          char *reason, size_t size);
moe_status ranks_prepare(Device *dev, const moe_layer_desc *desc, const moe_use *use,
                         const moe_tensors *params, void **ret);
void ranks_release(RanksLayer *l);
moe_status ranks_set_input(RanksLayer *l, const moe_input *input);

/* passes.cu */
moe_status ranks_forward(RanksLayer *l);
moe_status ranks_backward(RanksLayer *l);
size_t ranks_timings(const RanksLayer *l, moe_cost *ret, size_t capacity);

/* results.cu */
moe_status ranks_fetch(RanksLayer *l, moe_tensor_id id, moe_tensor *dst);
moe_status ranks_routing(RanksLayer *l, const moe_plan **ret);
moe_status ranks_memory(const RanksLayer *l, moe_memory *ret);

#endif
