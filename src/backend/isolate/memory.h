/* Memory that the judge and a worker share. */
#ifndef MOE_BACKEND_ISOLATE_MEMORY_H
#define MOE_BACKEND_ISOLATE_MEMORY_H

#include "backend/isolate/wire.h"

#include <stdbool.h>

/* A mapping; base NULL: there is none. */
typedef struct moe_int_shared {
    int file; /* -1 in a worker: its mapping is all it needs */
    unsigned char *base;
    size_t size;
} moe_int_shared;

/* Of at least `size` bytes, which a worker cannot shrink under the judge. The old one is kept where
 * it is large enough; *ret_fresh tells a new one, whose file the worker must be given. */
moe_status moe_int_shared_reserve(moe_int_shared *shared, size_t size, bool *ret_fresh);
/* Maps what came with a request; takes the file over. */
moe_status moe_int_shared_map(moe_int_shared *shared, int file, size_t size);
void moe_int_shared_drop(moe_int_shared *shared);
/* Gives the pages of a large one back to the system, in every process that has it mapped; what was
 * in them is 0 then. */
void moe_int_shared_forget(const moe_int_shared *shared);

/* Where tensors and plans lie in it: each begins at a multiple of 64 bytes from *end, which moves
 * behind it. Sizes are the front end's, which has checked them. */
moe_int_wire_tensor moe_int_wire_place(const moe_tensor *tensor, size_t *end);
moe_int_wire_plan moe_int_wire_place_plan(int64_t n_tokens, int64_t n_experts, int64_t n_pairs,
                                          size_t *end);
/* Views of what lies there. */
moe_tensor moe_int_wire_tensor_view(const moe_int_wire_tensor *wire, unsigned char *base);
moe_plan moe_int_wire_plan_view(const moe_int_wire_plan *wire, unsigned char *base);
/* Copies every array; both have the sizes of `from`. */
void moe_int_plan_copy_arrays(const moe_plan *from, moe_plan *to);

#endif
