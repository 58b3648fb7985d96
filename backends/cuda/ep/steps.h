/* Steps of a pass, which all ranks take one after the other. */
#ifndef MOE_CUDA_EP_STEPS_H
#define MOE_CUDA_EP_STEPS_H

#include "parts.h"

struct Step {
    moe_status (*run)(const At &at);
    bool each_chunk; /* once for each: at.chunk */
};

/* Ended by a step without a function. */
extern const Step forward_steps[], backward_steps[];

/* steps.cu: what both passes do. */
moe_status checked(const At &at, cudaError_t err, const char *what);
bool has_shared(const At &at);
void mark(const At &at, Timer *timer, moe_stage stage);
/* What `stream` does from now on follows what `first` has been given so far. */
moe_status follow(const At &at, cudaStream_t stream, cudaStream_t first);
/* The stream goes on once all have told these phases, and all between. */
moe_status wait_for(const At &at, Phase first, Phase last, const Stream &stream);
/* What the stream of the products was given so far is done. */
moe_status tell_all(const At &at, Phase first, Phase last);
/* The same, and all have told it, and what comes up to `last`. The step ends with it. */
moe_status meet_all(const At &at, Phase phase, Phase last);
/* What the stream of the copies was given is done. */
moe_status tell_copied(const At &at, Phase phase);
/* Nothing of an earlier pass is under way: the host has waited for it. */
void begin_pass(const At &at, bool backward);
/* Rows of tokens, if they go to all ranks alike, once `event` has come; NULL: at once. */
moe_status send_all(const At &at, cudaEvent_t event, bool backward);
/* Where an own expert's row tiles begin in the list. */
const int *tiles_of(const At &at, int expert);
/* Whether products can be of a part of the experts. */
bool multiplies_parts(const At &at);
/* Whether tiles of own tokens alone come first. */
bool is_early(const At &at);
/* For as long as it lives the product is of these tiles, on another stream of the device. */
struct TilesOf {
    Layer *layer;
    HopperArgs *op;
    const int *from, *to;
    Device *dev;
    TilesOf(Layer *layer_, HopperOp what, const int *first, const int *end, Device *turn)
        : layer(layer_), op(&layer_->routed.op[what]), from(op->tiles_from), to(op->tiles_to),
          dev(layer_->dev) {
        op->tiles_from = first;
        op->tiles_to = end;
        layer->dev = turn;
    }
    ~TilesOf() {
        op->tiles_from = from;
        op->tiles_to = to;
        layer->dev = dev;
    }
    TilesOf(const TilesOf &) = delete;
};
/* Rows of tokens that do not, where it is known whose experts want them. */
moe_status send_chosen(const At &at, bool backward);
/* Rows that own experts first ... end - 1 have made by `made`. */
moe_status bring(const At &at, cudaEvent_t made, bool backward, int first, int end);

#endif
