/* Blocks of memory that end at a page which nobody may touch: a read or a write beyond the end of
 * one ends the program, as far as its size is a multiple of the 16 bytes that malloc aligns to. */
#ifndef MOE_TESTS_FENCE_H
#define MOE_TESTS_FENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct fence_block {
    char *map, *block;
    size_t mapped, size;
} fence_block;

enum { FENCE_BLOCKS = 4096 };
static fence_block fence_list[FENCE_BLOCKS];
static size_t fence_count;

/* `fill`: what every byte starts as. NULL: no memory, or too many blocks. */
static inline void *fence_take(size_t size, int fill) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (size + page - 1) / page * page;
    if (fence_count == FENCE_BLOCKS)
        return NULL;
    char *map = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    mprotect(map + room, page, PROT_NONE);
    char *block = map + room - (size + 15) / 16 * 16;
    memset(block, fill, size);
    fence_list[fence_count++] = (fence_block){map, block, room + page, size};
    return block;
}

/* NULL: not a block of fence_take. */
static inline const fence_block *fence_find(const void *block) {
    for (size_t i = fence_count; i-- > 0;)
        if (fence_list[i].block == block)
            return &fence_list[i];
    return NULL;
}

static inline bool fence_release(const void *block) {
    const fence_block *found = fence_find(block);
    if (!found)
        return false;
    munmap(found->map, found->mapped);
    fence_list[found - fence_list] = fence_list[--fence_count];
    return true;
}

#endif
