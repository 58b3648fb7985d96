/* A subject under one reading, while it is judged. */
#ifndef MOE_CHECK_TRIAL_H
#define MOE_CHECK_TRIAL_H

#include "check/readings.h"
#include "check/routing/routing.h"
#include "check/subject/subject.h"
#include "check/truth/truth.h"

/* Everything that judging one subject needs. */
typedef struct moe_int_trial {
    const moe_int_subject *subject; /* `read`, once it is judged */
    moe_int_reading reading;
    moe_int_subject read;              /* the subject in the reading's arithmetic, */
    moe_problem rounded;               /* with inputs as the reading has them, */
    const moe_problem *given;          /* which are made of these; NULL: they are these */
    const struct moe_int_trial *first; /* the first reading's: of this one nothing but its verdict
                                          is asked for; NULL: it is the first */
    const moe_log *log;
    const moe_progress *progress; /* NULL: of one that is not the first nothing is told */
    moe_check_result *result;
    int64_t map_tile;
    moe_int_routing routing;
    moe_int_truth truth;
    struct moe_int_farthest *far; /* places beside the sample that were judged too (scout/), owned;
                                     NULL: none */
    moe_int_truth sample;         /* the sample's, where `truth` is that of `far`, which fail */
    bool finite;                  /* every input is a number */
    bool infinite_only;           /* infinities went in, but no NaN */
} moe_int_trial;

/* Judges one tensor; what was found about its buffer before stays the first reason. `scan`: every
 * element of a sampled tensor is looked at. */
void moe_int_judge_tensor(moe_int_trial *b, moe_tensor_id id, const moe_tensor *got, bool scan);

/* Of a sampled truth, the router's gradients: they start from the subject's own dS. Nothing where
 * it gave none. MOE_E_NOMEM. */
moe_status moe_int_add_router_part(moe_int_trial *b);

/* tensors.c: judges the results, and the stages inside that are no results. A trial that is not the
 * first ends at the first result that fails. */
void moe_int_judge_tensors(moe_int_trial *b);
void moe_int_judge_stages(moe_int_trial *b);
/* In the order of computation; NULL: none fails. */
moe_tensor_verdict *moe_int_first_failing(moe_check_result *r);
bool moe_int_inputs_finite(const moe_problem *problem);

/* refute.c: does a trial that is not the first fail at the first one's worst tokens and hidden
 * unit? Then its whole truth need not be known. MOE_E_NOMEM. */
moe_status moe_int_refute(const moe_int_trial *b, const moe_check_params *params, bool *ret);

/* glance.c: is a run of a layer that will be sampled wrong at its tokens, or a gradient at its
 * hidden units? Where the choice of experts is told, and no recipe explains it. *ret_truth, all 0
 * before, is to be freed, also on failure. */
moe_status moe_int_glance(const moe_int_subject *subject, const moe_check_params *params,
                          const moe_log *log, bool *ret_wrong, moe_int_truth *ret_truth);

/* own_sums.c: fails O, dX and dW_r where they are not the sums of the subject's own terms.
 * MOE_E_NOMEM. */
moe_status moe_int_judge_sums(const moe_int_trial *b);
/* The same of O alone. */
moe_status moe_int_judge_own_O(const moe_int_trial *b);
/* Is nothing wrong but stages, which were fetched of another run than the results were? */
bool moe_int_only_drifts(const moe_int_trial *b);

#endif
