#include "rows.h"

#include <stddef.h>

extern const ob_rows_kernels ob_rows_kernels_base;
#ifdef OB_HAVE_X86_ROWS
extern const ob_rows_kernels ob_rows_kernels_avx2, ob_rows_kernels_avx512;

/* What the build lets the compiler use in each, but for F16C, which every processor with AVX2 has
 * and which not every compiler can ask for. */
static const ob_rows_kernels *choose(void) {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f"))
        return &ob_rows_kernels_avx512;
    return avx2 ? &ob_rows_kernels_avx2 : &ob_rows_kernels_base;
}
#else
static const ob_rows_kernels *choose(void) {
    return &ob_rows_kernels_base;
}
#endif

#ifdef OB_HAVE_PAIRS
extern const ob_pairs_kernels ob_pairs_avx512;

const ob_pairs_kernels *ob_pairs(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16") ? &ob_pairs_avx512 : NULL;
}
#else
const ob_pairs_kernels *ob_pairs(void) {
    return NULL;
}
#endif

void ob_rows_multiply(const ob_rows_product *product) {
    choose()->multiply(product);
}

void ob_rows_multiply_many(const ob_rows_product *product) {
    choose()->multiply_many(product);
}

bool ob_rows_reads(const ob_matrix *w) {
    return choose()->reads(w);
}

bool ob_rows_arranges(const ob_matrix *w) {
    return choose()->arranges(w);
}

void ob_rows_arrange(int64_t rows, int64_t depth, float *x, int64_t ldx) {
    choose()->arrange(rows, depth, x, ldx);
}

const char *ob_rows_isa(void) {
    return choose()->isa;
}
