/* A product of bf16 as the openblas plug-in makes it, for peers/product.py. */
#include "rows.h"
#include "tasks.h"

/* Words that `words` has room for. */
int64_t moe_bench_product_words(int64_t rows, int64_t depth);
/* y [rows][cols] = x [rows][depth] W^T, W [cols][depth] of bf16; 0 where this processor, or the
 * compiler, has no instruction for it. */
int moe_bench_product(int64_t rows, int64_t cols, int64_t depth, const float *x, const void *w,
                      float *words, float *y);

int64_t moe_bench_product_words(int64_t rows, int64_t depth) {
    return rows * ob_pitch(depth / 2);
}

int moe_bench_product(int64_t rows, int64_t cols, int64_t depth, const float *x, const void *w,
                      float *words, float *y) {
    const ob_pairs_kernels *k = ob_pairs();
    const int64_t ld = ob_pitch(depth / 2);
    if (!k)
        return 0;
    k->round_rows(rows, depth, x, depth, words, ld);
    k->multiply(&(ob_rows_product){.rows = rows,
                                   .cols = cols,
                                   .depth = depth,
                                   .x = words,
                                   .ldx = ld,
                                   .w = {.data = w, .type = MOE_BF16, .ld = depth},
                                   .y = y,
                                   .ldy = cols});
    return 1;
}
