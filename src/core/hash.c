#include "core/hash.h"

#include <string.h>

/* Large memory is hashed in slices side by side, of which the hashes are hashed: one chain of
 * multiplications is slower than memory. How many threads there are changes nothing. */
enum { LARGE = 1 << 24, SLICES = 64 };

/* FNV-1a's step over a 64-bit word, with a rotation that carries high bits down. */
static uint64_t hash_word(uint64_t h, uint64_t word) {
    h = (h ^ word) * 0x100000001b3u;
    return h << 31 | h >> 33;
}

static uint64_t hash_chain(const unsigned char *p, size_t bytes) {
    uint64_t h = 0xcbf29ce484222325u ^ bytes, word;
    for (; bytes >= sizeof word; bytes -= sizeof word, p += sizeof word) {
        memcpy(&word, p, sizeof word);
        h = hash_word(h, word);
    }
    if (bytes == 0)
        return h;
    word = 0;
    memcpy(&word, p, bytes);
    return hash_word(h, word);
}

uint64_t moe_int_hash(const void *data, size_t bytes) {
    const unsigned char *p = data;
    uint64_t slice[SLICES];
    if (bytes < LARGE)
        return hash_chain(p, bytes);
    const size_t each = bytes / SLICES;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < SLICES; i++) {
        const size_t first = (size_t)i * each;
        slice[i] = hash_chain(p + first, i < SLICES - 1 ? each : bytes - first);
    }
    return hash_chain((const unsigned char *)slice, sizeof slice);
}

uint64_t moe_int_hash_next(uint64_t before, const void *piece, size_t bytes) {
    const uint64_t both[] = {before, moe_int_hash(piece, bytes)};
    return moe_int_hash(both, sizeof both);
}
