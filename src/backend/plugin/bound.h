/* A plug-in's operators behind its own table, for whoever judges backends: "NAME:bound". Every
 * tensor of a call and all its memory lie in the operator's place between canaries; results and
 * scratch are poisoned before each pass. */
#ifndef MOE_BACKEND_PLUGIN_BOUND_H
#define MOE_BACKEND_PLUGIN_BOUND_H

#include "backend/plugin/calls.h"

/* Is it "bound", "bound+WORD...", either with ".VARIANT" of the plug-in behind it? Words: `turned`,
 * weights and their gradients with the last two dimensions transposed; `fp32`, gradients of
 * parameters in fp32 whatever their type; `add`, beta = 1 on gradients of zero. */
bool moe_int_is_bound(const char *variant);

/* A layer of that table copies its parameters when it is prepared, and reads them no more.
 *
 * Opens the plug-in of `c` with the rest of the variant and puts the table that runs its operators
 * in its place. */
moe_status moe_int_bound_open(moe_int_caller *c, const moe_open_params *params, void **ret);

#endif
