/* Is a subject's choice of experts the router's, and which pairs are its values judged with? */
#ifndef MOE_CHECK_ROUTING_ROUTING_H
#define MOE_CHECK_ROUTING_ROUTING_H

#include "check/routing/reading.h"
#include "moeref/check.h"

#include <stdbool.h>

/* Who says which experts the subject chose. */
typedef enum moe_int_told {
    MOE_INT_TOLD,          /* the subject, or nobody: then the router's choice is assumed */
    MOE_INT_GUESSED,       /* its results: they are right for that choice alone (guess.h) */
    MOE_INT_GUESSED_PARTLY /* the same, of some of its tokens */
} moe_int_told;

/* What is known of the routing that a subject used. */
typedef struct moe_int_routing {
    double *logits; /* float64 [T][E+n_zero], owned; NULL: the plan is given */
    moe_plan *plan; /* owned: the pairs that values are judged with */
    bool foreign;   /* the subject's own choice, which differs from the truth's */
    int64_t ambiguous, wrong;
    moe_int_told told;
} moe_int_routing;

/* Judges the choice `got` (NULL: not known) and settles the plan. MOE_OK with a verdict in
 * result's topk_index. */
moe_status moe_int_routing_settle(const moe_problem *problem, const moe_plan *got,
                                  moe_int_told told, const moe_int_reading *reading, int threads,
                                  const moe_log *log, moe_check_result *result,
                                  moe_int_routing *ret);
void moe_int_routing_destroy(moe_int_routing *r);

/* How far rounding may move each logit up and down; both [T][E+n_zero]. */
moe_status moe_int_routing_margin(const moe_problem *problem, const double *logits,
                                  const moe_int_reading *reading, int threads, double *ret_up,
                                  double *ret_down);

/* The first tokens, `most` of them at most, that may choose otherwise within the margin. For
 * routers that choose token by token. */
moe_status moe_int_routing_ties(const moe_problem *problem, const moe_int_routing *routing,
                                const moe_int_reading *reading, int threads, int64_t most,
                                int64_t *ret, int64_t *ret_count);

/* Less than rounding in float64 moves a logit z, and more than 0: what parts exact ties. */
double moe_int_tie_break(double z);

#endif
