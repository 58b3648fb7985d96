/* Internal to src/hf: pieces of parameters, their names and how they are stored. */
#ifndef MOE_HF_PARTS_H
#define MOE_HF_PARTS_H

#include "hf/hf.h"

typedef enum moe_int_rows_of {
    MOE_INT_ROWS_ALL,
    MOE_INT_ROWS_FIRST_HALF,
    MOE_INT_ROWS_SECOND_HALF
} moe_int_rows_of;

/* "PREFIX experts.7.w1.weight" from one spelling, in buf of MOE_INT_NAME_BYTES; "^" stands for the
 * layer instead of the module. */
void moe_int_name_spell(const moe_int_part_source *src, const char *word, int64_t expert,
                        char *buf);
/* The spelling that the file has, in `word`; false: none, and `word` is the first. */
bool moe_int_name_find(const moe_int_part_source *src, const char *spellings, char *word);
bool moe_int_part_spelling(const moe_int_part_source *src, moe_int_part part, char *word);
/* Which rows of its parameter the part has in this layer: an up projection without a gate is all.
 */
moe_int_rows_of moe_int_part_rows(const moe_int_part_source *src, moe_int_part part);
/* One tensor for each expert, rather than one for all? */
bool moe_int_part_is_per_expert(const moe_int_part_source *src, moe_int_part part);
/* The zero experts' matrices that a gradient has beside the real ones'. */
int64_t moe_int_part_zero_matrices(const moe_int_part_source *src, moe_int_part part);
/* A view of the part's tensor, of the shape that config.json asks for or, with *turn, with its
 * matrices transposed. */
moe_status moe_int_part_get(const moe_int_part_source *src, moe_int_part part, int64_t expert,
                            const moe_log *log, moe_tensor *ret, bool *turn);

#endif
