/* The truth that results are judged against, of all tokens or of a sample. */
#ifndef MOE_CHECK_TRUTH_TRUTH_H
#define MOE_CHECK_TRUTH_TRUTH_H

#include "check/compare/layout.h"
#include "check/errors/errors.h"
#include "check/routing/routing.h"

/* A sampled set of groups of one tensor: the truth there, and where "there" is. */
typedef struct moe_int_part {
    moe_int_layout layout;     /* groups 0: the sample does not cover this tensor */
    int64_t *base, *expert;    /* behind layout, owned */
    moe_tensor want, variance; /* float64 [groups][width], owned; variance may be absent */
} moe_int_part;

typedef struct moe_int_truth {
    moe_tensors in;               /* what the oracle saw; X and dO are owned when sampled */
    moe_reference_result *oracle; /* of all tokens, or of the sampled ones */
    moe_tensors variance;         /* of its results, owned (errors.h) */
    moe_int_rows rows;            /* of its results, owned */
    bool borrowed;                /* the oracle is another truth's */
    bool borrowed_errors;         /* variance and rows are, too */
    moe_dtype arithmetic;         /* of the rounding that they are of, */
    uint32_t points;              /* and its recipe's */
    bool sampled;
    bool exact;      /* no correct kernel errs at all (errors/exact.h): variance is absent */
    int64_t *tokens; /* [n_tokens] the sampled ones, ascending */
    int64_t n_tokens;
    moe_int_part part[MOE_T_COUNT]; /* when sampled */
    char out_of_range[120];         /* a stage that the arithmetic cannot hold; "" */
} moe_int_truth;

/* Is the layer so large that a sample is judged? */
bool moe_int_wants_sample(const moe_problem *problem, const moe_plan *plan,
                          const moe_check_params *params);

/* Computes the truth for the routing in force; *ret is to be freed, also on failure. `result`
 * takes the description of a sample. `known`, or NULL, is another truth, which outlives *ret: where
 * it is of the same inputs and choice, its oracle serves again, and where it is of the same
 * rounding, what a sample errs by. `seen`, or NULL, are the subject's results, whose odd tokens
 * join the sample. */
moe_status moe_int_truth_make(const moe_problem *problem, const moe_int_routing *routing,
                              const moe_int_rounding *rounding, const moe_check_params *params,
                              const moe_int_truth *known, const moe_tensors *seen,
                              const moe_log *log, moe_check_result *result, moe_int_truth *ret);
void moe_int_truth_destroy(moe_int_truth *t);
/* The same pairs in the same order? */
bool moe_int_same_pairs(const moe_plan *a, const moe_plan *b);
/* Fills out_of_range. */
void moe_int_truth_range(moe_dtype arithmetic, moe_int_truth *t);

/* Tokens whose O is beyond the gate, the worst first; of a sampled truth then those that were not
 * sampled and whose choice of experts the rounding margin leaves open. *ret is to be freed. */
moe_status moe_int_truth_suspects(const moe_problem *problem, const moe_int_routing *routing,
                                  const moe_int_truth *t, const moe_tensor *O,
                                  const moe_int_reading *reading, int threads, int64_t **ret,
                                  int64_t *ret_count);

/* Rows of sampled tokens: O, dX, dS and the stages. t->tokens, where they are set, are the sample;
 * ascending. Of `known`, as moe_int_truth_make has it, whatever is the same serves again. */
moe_status moe_int_sample_tokens(const moe_problem *problem, const moe_int_routing *routing,
                                 const moe_int_rounding *rounding, int threads,
                                 const moe_int_truth *known, const moe_tensors *seen,
                                 const moe_log *log, moe_int_truth *t);
/* Up to so many tokens whose rows of O or dX are the smallest or the largest. MOE_E_NOMEM. */
enum { MOE_INT_ODD = 8 };
moe_status moe_int_odd_tokens(const moe_plan *plan, const moe_tensors *seen,
                              int64_t ret[MOE_INT_ODD], int64_t *ret_count);
/* dW1, db1, dW2, db2 (and the shared expert's) at sampled hidden units, in time linear in them. */
moe_status moe_int_sample_units(const moe_problem *problem, const moe_int_routing *routing,
                                const moe_int_rounding *rounding, int threads, moe_int_truth *t);
/* A hidden unit of expert e; e < 0: of the shared expert. */
typedef struct moe_int_unit_place {
    int64_t e, unit;
} moe_int_unit_place;
/* The same at given units, one expert's after another's, the shared one's first; with db2 of the
 * experts that they are of. */
moe_status moe_int_sample_given_units(const moe_problem *problem, const moe_int_routing *routing,
                                      const moe_int_rounding *rounding,
                                      const moe_int_unit_place *units, int64_t count, int threads,
                                      moe_int_truth *t);

/* Places to be judged: tokens ascend; units ascend by expert, the shared one's first. */
enum { MOE_INT_MOST_PLACES = 40 };
typedef struct moe_int_places {
    int64_t token[MOE_INT_MOST_PLACES], n_tokens;
    moe_int_unit_place unit[MOE_INT_MOST_PLACES];
    int64_t n_units;
} moe_int_places;
/* Each once, and as long as there is room. */
void moe_int_places_add_token(moe_int_places *places, int64_t token);
void moe_int_places_add_unit(moe_int_places *places, int64_t e, int64_t unit);
/* The truth there, of all that is made of those tokens' rows and of those units; *ret is to be
 * destroyed, also on failure. `known`: as moe_int_sample_tokens has it. */
moe_status moe_int_truth_at(const moe_problem *problem, const moe_int_routing *routing,
                            const moe_int_rounding *rounding, const moe_int_places *places,
                            int threads, const moe_int_truth *known, const moe_log *log,
                            moe_int_truth *ret);
/* dW_r and db_r of sampled experts from all of the subject's own dS [all pairs]. */
moe_status moe_int_sample_router(const moe_problem *problem, const moe_int_routing *routing,
                                 const moe_tensor *dS, const moe_int_rounding *rounding,
                                 moe_int_truth *t);
/* Up to `want` experts: empty, smallest, largest, first, last, then drawn. Returns how many. */
int64_t moe_int_sample_experts(const moe_problem *problem, const moe_plan *plan, int64_t want,
                               int64_t *ret);
/* Draws 64 bits of the sample's own stream. */
uint64_t moe_int_sample_bits(const moe_problem *problem, uint64_t index);
/* Allocates a part of groups x width for the table's tensor `id`. */
moe_status moe_int_part_alloc(moe_tensor_id id, int64_t groups, int64_t width, bool variance,
                              moe_int_part *ret);
void moe_int_part_destroy(moe_int_part *part);
/* The elements of `tensor` that `layout` names, as a new tensor shaped like `want`. */
moe_status moe_int_part_gather(const moe_tensor *tensor, const moe_int_part *part, moe_tensor *ret);

#endif
