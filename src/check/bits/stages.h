/* The stages that --bits looks at, one after the other. */
#ifndef MOE_CHECK_BITS_STAGES_H
#define MOE_CHECK_BITS_STAGES_H

#include "check/bits/compare.h"

/* All of them, under `count` chains of one format, into the run's result; those of one chain that
 * differ fail. MOE_E_NOMEM. */
moe_status moe_int_bits_stages(moe_int_bits_run *c, const moe_int_chain *chains, size_t count);

#endif
