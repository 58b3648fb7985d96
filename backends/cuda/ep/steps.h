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
/* The stream of the products goes on once all have told these phases, and all between. */
moe_status wait_for(const At &at, Phase first, Phase last);
moe_status tell_all(const At &at, Phase phase, cudaStream_t stream);
/* Nothing of an earlier pass is under way: the host has waited for it. Rows of tokens that go to
 * all ranks alike are on their way. */
moe_status begin_pass(const At &at, bool backward);
/* Rows of tokens that do not, where it is known whose experts want them. */
moe_status send_chosen(const At &at, bool backward);
/* Rows that own experts first ... end - 1 have made by `made`. */
moe_status bring(const At &at, cudaEvent_t made, bool backward, int first, int end);

#endif
