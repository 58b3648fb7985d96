/* Where changes of the layer are tried. */
#ifndef MOE_CHECK_EXPLAIN_GROUND_H
#define MOE_CHECK_EXPLAIN_GROUND_H

#include "check/explain/bank.h"

/* The scene, and first its worst place alone. */
typedef struct moe_int_ground {
    moe_int_scene whole, probe;
    moe_int_variant base, probe_base; /* the right layer there */
    moe_int_variant stored;           /* and with stages rounded as the kernel stores them */
    moe_plan *choice; /* the right one, where that is what is wrong; NULL: unknown */
} moe_int_ground;

/* MOE_E_NOMEM; *ret is to be destroyed in any case. */
moe_status moe_int_ground_make(const moe_int_evidence *e, moe_int_ground *ret);
void moe_int_ground_destroy(moe_int_ground *g);

/* Tries all trials of a hypothesis that is a change, and offers what they explain. */
moe_status moe_int_ground_try(moe_int_evidence *e, moe_int_ground *g, const moe_int_hypothesis *h);

#endif
