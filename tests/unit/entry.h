/* What a result says of one tensor. */
#ifndef MOE_TESTS_ENTRY_H
#define MOE_TESTS_ENTRY_H

#include "moeref/check.h"

#include <string.h>

/* NULL: nothing. */
static inline const moe_tensor_verdict *entry(const moe_check_result *r, const char *name) {
    for (size_t i = 0; i < r->n_tensors; i++)
        if (strcmp(r->tensor[i].name, name) == 0)
            return &r->tensor[i];
    return NULL;
}

#endif
