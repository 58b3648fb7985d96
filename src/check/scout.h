/* Where a sample is judged, a wrong row beside it passes. A fast run of the same layer says at
 * which tokens and hidden units the results lie farthest from right ones; they are judged too. */
#ifndef MOE_CHECK_SCOUT_H
#define MOE_CHECK_SCOUT_H

#include "check/trial.h"

/* Judges those places of a trial in which nothing was found wrong; a trial that is not the first
 * takes the first one's places. Where they fail, b->truth becomes theirs, so that the cause is
 * looked for there; result->scouted says what was looked through. MOE_E_NOMEM; what
 * moe_backend_open fails with. */
moe_status moe_int_scout(moe_int_trial *b, const moe_check_params *params);

/* The truth of the tokens and hidden units that are judged first. */
static inline const moe_int_truth *moe_int_sample_of(const moe_int_trial *b) {
    return b->sample.sampled ? &b->sample : &b->truth;
}

#endif
