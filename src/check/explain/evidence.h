/* What is known of a failing subject, and the explanations that were found for it. */
#ifndef MOE_CHECK_EXPLAIN_EVIDENCE_H
#define MOE_CHECK_EXPLAIN_EVIDENCE_H

#include "check/subject/subject.h"
#include "check/truth/truth.h"

/* The first wrong tensor where it is the choice of experts. */
#define MOE_INT_CHOICE MOE_T_COUNT

/* An explanation of some tensors. */
typedef struct moe_int_finding {
    moe_explanation is;          /* `before` and `after` of the first wrong tensor */
    moe_tensor_id of;            /* the tensor that it must explain */
    bool explains[MOE_T_COUNT];  /* wrong tensors that become right */
    int explained, contradicted; /* how many do; right tensors that would become wrong */
    int excused;                 /* right ones of a forward pass that has it right */
    bool place;                  /* says only where the error is */
    bool partial;                /* of some rows alone */
    bool rough;                  /* `after` is an interpolation's, which leaves more */
    bool fitted;                 /* by a number of its own for each row: one rule says more */
} moe_int_finding;

typedef struct moe_int_evidence {
    const moe_int_subject *subject;
    const moe_problem *problem;
    const moe_int_routing *routing;
    const moe_int_truth *truth;
    moe_dtype arithmetic;
    int threads;
    const moe_progress *progress;
    moe_tensors got; /* results and every stage that the subject could be asked for */
    bool owned[MOE_T_COUNT];
    bool wrong[MOE_T_COUNT];
    double gate[MOE_T_COUNT]; /* NMSE that a right tensor is below */
    moe_tensor_id first;      /* first wrong tensor, or MOE_INT_CHOICE */
    moe_int_finding best;
    bool found;
    struct {
        const moe_check_waiting *who;
        const moe_check_result *result;
        double since_us;
        bool told, ended;
        int64_t tried; /* hypotheses so far; one may be tried of several tensors */
    } wait;
} moe_int_evidence;

/* Collects; *ret is to be freed. False when nothing failed that values could explain. */
bool moe_int_evidence_make(const moe_int_subject *subject, const moe_int_routing *routing,
                           const moe_int_truth *truth, const moe_check_params *params,
                           moe_check_result *result, moe_int_evidence *ret);
void moe_int_evidence_destroy(moe_int_evidence *e);

/* Hypothesis i of the bank is next: tells how far the search is, and that there is a verdict to
 * those who wait. False: they have had enough. */
bool moe_int_goes_on(moe_int_evidence *e, size_t i);

/* Does a residual that falls from before to after explain tensor `id`? */
bool moe_int_explains(const moe_int_evidence *e, moe_tensor_id id, double before, double after);

/* Takes a finding if it explains the first wrong tensor and is better than the best so far. */
void moe_int_offer(moe_int_evidence *e, const moe_int_finding *finding);

/* Adds a parameter, and text after what the finding says already. */
void moe_int_finding_param(moe_int_finding *f, const char *name, double value);
void moe_int_finding_say(moe_int_finding *f, const char *format, ...) MOE_PRINTF(2, 3);
/* " from 0.25 to 0.5", or " of 0.5" where both look the same. */
void moe_int_finding_range(moe_int_finding *f, double low, double high);

#endif
