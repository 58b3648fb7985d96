/* Long stretches of memory, chunk by chunk. Of shorter ones a thread each would cost more than it
 * gains: any of many threads may ask, each of which has OpenMP start a team of its own. */
#include "core/bytes.h"

#include <string.h>

/* Bytes: a huge page, some 100 us of a thread; and what is long. */
enum { CHUNK = 1 << 21, LONG = 1 << 26 };

static size_t chunks_of(size_t bytes) {
    return (bytes + CHUNK - 1) / CHUNK;
}

static size_t length_of(size_t chunk, size_t bytes) {
    return bytes - chunk * CHUNK < CHUNK ? bytes - chunk * CHUNK : CHUNK;
}

void moe_int_fill(void *to, int byte, size_t bytes) {
    if (bytes < LONG) {
        memset(to, byte, bytes);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t c = 0; c < chunks_of(bytes); c++)
        memset((char *)to + c * CHUNK, byte, length_of(c, bytes));
}

void moe_int_copy(void *to, const void *from, size_t bytes) {
    if (bytes < LONG) {
        memcpy(to, from, bytes);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t c = 0; c < chunks_of(bytes); c++)
        memcpy((char *)to + c * CHUNK, (const char *)from + c * CHUNK, length_of(c, bytes));
}

bool moe_int_same_bytes(const void *a, const void *b, size_t bytes) {
    if (bytes < LONG)
        return memcmp(a, b, bytes) == 0;
    bool same = true;
#pragma omp parallel for schedule(static) reduction(&& : same)
    for (size_t c = 0; c < chunks_of(bytes); c++)
        same = same && memcmp((const char *)a + c * CHUNK, (const char *)b + c * CHUNK,
                              length_of(c, bytes)) == 0;
    return same;
}

/* FNV-1a's step over a 64-bit word, with a rotation that carries high bits down. */
static uint64_t hash_word(uint64_t h, uint64_t word) {
    h = (h ^ word) * 0x100000001b3u;
    return h << 31 | h >> 33;
}

static uint64_t hash_chunk(const unsigned char *p, size_t bytes) {
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

/* Each chunk's hash is told by its place: their sum is that of any order of chunks. */
uint64_t moe_int_hash(const void *data, size_t bytes) {
    if (bytes <= CHUNK)
        return hash_chunk(data, bytes);
    uint64_t sum = 0;
#pragma omp parallel for schedule(static) if (bytes >= LONG) reduction(+ : sum)
    for (size_t c = 0; c < chunks_of(bytes); c++)
        sum +=
            hash_word(hash_chunk((const unsigned char *)data + c * CHUNK, length_of(c, bytes)), c);
    return hash_word(sum, bytes);
}

uint64_t moe_int_hash_next(uint64_t before, const void *piece, size_t bytes) {
    const uint64_t both[] = {before, moe_int_hash(piece, bytes)};
    return moe_int_hash(both, sizeof both);
}
