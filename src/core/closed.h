/* Closed sets: a switch over an enum names every value (-Werror=switch) and ends in this.
 * Nothing gets here: whatever comes from outside was checked where it came in, layers by
 * moe_layer_desc_check, cases by moe_int_case_check. */
#ifndef MOE_CORE_CLOSED_H
#define MOE_CORE_CLOSED_H

#include <stdlib.h>

#define MOE_INT_NO_OTHER_VALUE() abort()

#endif
