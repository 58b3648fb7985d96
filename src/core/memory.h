/* Memory for tensors: aligned to vectors, and, where it is large, in huge pages, which a process
 * gets and walks through far faster. */
#ifndef MOE_CORE_MEMORY_H
#define MOE_CORE_MEMORY_H

#include <stdint.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

/* A cache line, and the widest vector register; a huge page of x86-64. */
enum { MOE_INT_ALIGNMENT = 64, MOE_INT_HUGE_PAGE = 2 << 20 };

/* Not zeroed; goes to free(). NULL: there is none. */
static inline void *moe_int_allocate(size_t bytes) {
    const size_t huge = MOE_INT_HUGE_PAGE, align = bytes >= 2 * huge ? huge : MOE_INT_ALIGNMENT;
    if (bytes > SIZE_MAX - align)
        return NULL;
    const size_t rounded = (bytes + align - 1) / align * align;
    void *data = aligned_alloc(align, rounded ? rounded : align);
#ifdef MADV_HUGEPAGE
    if (data && align == huge)
        madvise(data, rounded, MADV_HUGEPAGE); /* only a hint */
#endif
    return data;
}

/* Memory that one user after another has for a while: pages that are given back and asked for again
 * are cleared every time, which takes longer than most of what is done with them. */
typedef struct moe_int_room {
    void *data;
    size_t bytes;
} moe_int_room;

/* At least so many bytes, of any content. NULL: there are none. */
static inline void *moe_int_room_take(moe_int_room *room, size_t bytes) {
    if (room->data && room->bytes >= bytes)
        return room->data;
    free(room->data);
    room->data = moe_int_allocate(bytes);
    room->bytes = room->data ? bytes : 0;
    return room->data;
}

static inline void moe_int_room_destroy(moe_int_room *room) {
    free(room->data);
    *room = (moe_int_room){NULL, 0};
}

#endif
