/* A hash that tells whether memory changed; it is none against forgers. */
#ifndef MOE_CORE_HASH_H
#define MOE_CORE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Every bit matters, and where it stands. */
uint64_t moe_int_hash(const void *data, size_t bytes);
/* Of what was hashed to `before` and then of these: memory that is seen piece by piece. Other
 * pieces of the same memory give another number. */
uint64_t moe_int_hash_next(uint64_t before, const void *piece, size_t bytes);

#endif
