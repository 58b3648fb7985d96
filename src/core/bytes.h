/* Memory, of which long stretches are worked on by all threads: one thread of a server moves a
 * tenth of what its memory can. The result is the same for any number of threads. */
#ifndef MOE_CORE_BYTES_H
#define MOE_CORE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* memset, memcpy, and whether memcmp finds no difference. */
void moe_int_fill(void *to, int byte, size_t bytes);
void moe_int_copy(void *to, const void *from, size_t bytes);
bool moe_int_same_bytes(const void *a, const void *b, size_t bytes);
/* A hash, of no meaning beyond this process: it tells whether memory changed. */
uint64_t moe_int_hash(const void *data, size_t bytes);
/* Of what was hashed to `before` and then of these: memory that is seen piece by piece. Other
 * pieces of the same memory give another number. */
uint64_t moe_int_hash_next(uint64_t before, const void *piece, size_t bytes);

#endif
