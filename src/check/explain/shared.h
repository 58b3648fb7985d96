/* The shared expert's stages of all tokens. */
#ifndef MOE_CHECK_EXPLAIN_SHARED_H
#define MOE_CHECK_EXPLAIN_SHARED_H

#include "check/explain/local.h"

enum { MOE_INT_SHARED_TOKENS = 512 };

/* False: there is none, or too many tokens for it. ret->block is to be freed. */
bool moe_int_shared_rows(const moe_int_local *l, moe_int_stage_rows *ret);

#endif
