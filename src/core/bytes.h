/* Long stretches of memory, on all threads: one thread of a server moves a tenth of what its memory
 * can. The result is the same for any number of threads. */
#ifndef MOE_CORE_BYTES_H
#define MOE_CORE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* memset, and whether memcmp finds no difference. */
void moe_int_fill(void *to, int byte, size_t bytes);
bool moe_int_same_bytes(const void *a, const void *b, size_t bytes);
/* A hash, of no meaning beyond this process. */
uint64_t moe_int_hash(const void *data, size_t bytes);

#endif
