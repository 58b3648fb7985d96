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

#endif
