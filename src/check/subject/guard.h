/* Buffers that notice misuse. */
#ifndef MOE_CHECK_SUBJECT_GUARD_H
#define MOE_CHECK_SUBJECT_GUARD_H

#include "moeref/tensor.h"

#include <stdbool.h>

/* A tensor between two canaries, poisoned with NaN (all bits set). */
typedef struct moe_int_guarded {
    moe_tensor tensor;
    unsigned char *block;
    size_t size;
} moe_int_guarded;

moe_status moe_int_guard_alloc(const moe_tensor *shape, moe_dtype dtype, moe_int_guarded *ret);
/* The same without the poison, for a fetch that brings its own: pages that nobody writes are none.
 */
moe_status moe_int_guard_reserve(const moe_tensor *shape, moe_dtype dtype, moe_int_guarded *ret);
void moe_int_guard_destroy(moe_int_guarded *g);
/* Leaves `from` empty; what `to` had is not freed. */
void moe_int_guard_move(moe_int_guarded *from, moe_int_guarded *to);
/* NULL when both canaries are whole, else "before" or "after". */
const char *moe_int_guard_broken(const moe_int_guarded *g);
/* Is element `index` as the poison left it? */
bool moe_int_is_poison(const moe_tensor *tensor, int64_t index);

#endif
