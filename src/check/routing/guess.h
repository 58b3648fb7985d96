/* Which experts a subject chose that does not say so: those that its O is right for. */
#ifndef MOE_CHECK_ROUTING_GUESS_H
#define MOE_CHECK_ROUTING_GUESS_H

#include "check/routing/routing.h"

/* What the search starts from. */
typedef struct moe_int_guess_params {
    const moe_problem *problem;
    const moe_int_routing *routing; /* in force: the router's, or an earlier guess */
    const moe_tensor *O;            /* the subject's, [T][d] */
    const int64_t *suspects;        /* [n_suspects] tokens whose O may be wrong, the worst first */
    int64_t n_suspects;
    const moe_int_reading *reading;
    bool drops; /* also an expert fewer or more, where other tokens may have moved one */
    int threads;
} moe_int_guess_params;

typedef struct moe_int_guess {
    moe_plan *plan; /* owned; NULL: no other choice makes O of any token right */
    bool partly;    /* some suspects were not looked at: the budget was spent */
} moe_int_guess;

moe_status moe_int_routing_guess(const moe_int_guess_params *params, const moe_log *log,
                                 moe_int_guess *ret);

#endif
