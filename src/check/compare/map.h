/* Error maps: sums over experts and tiles, and what a report keeps of them. */
#ifndef MOE_CHECK_COMPARE_MAP_H
#define MOE_CHECK_COMPARE_MAP_H

#include "check/compare/compare.h"

/* What a grid's columns are tiles of. */
typedef enum moe_int_across {
    MOE_INT_ACROSS_PAIRS,   /* rows of an expert */
    MOE_INT_ACROSS_TOKENS,  /* tokens of an expert, through the plan */
    MOE_INT_ACROSS_LOGITS,  /* tokens, where an expert is a column */
    MOE_INT_ACROSS_ROWS,    /* rows of an expert's slice */
    MOE_INT_ACROSS_COLUMNS, /* columns of an expert's slice */
    MOE_INT_ACROSS_MATRIX   /* columns of a matrix, whose tiles of rows are the lines */
} moe_int_across;

typedef struct moe_int_grid {
    moe_int_across across;
    int64_t lines, line_tile; /* of a matrix: rows in a line; else 1 */
    int64_t extent, tile, columns;
    moe_int_group *cell; /* [lines][columns], owned */
} moe_int_grid;

/* The grids of a comparison's tensor, at most two; returns how many. Freed by the caller with
 * moe_int_grids_destroy, also where there are none. */
int moe_int_grids_make(const moe_int_scene *s, moe_int_grid ret[2]);
void moe_int_grids_destroy(moe_int_grid grids[2]);

/* Adds what was counted at a place of the tensor: group g, and row and column of its slice. Grids
 * that go by groups take the group's sums instead, from moe_int_grid_add_groups. */
void moe_int_grid_add(const moe_int_scene *s, moe_int_grid *grid, int64_t g, int64_t row,
                      int64_t column, const moe_int_group *sums);
bool moe_int_grid_by_groups(const moe_int_grid *grid);
void moe_int_grid_add_groups(const moe_int_scene *s, moe_int_grid *grid);

/* Writes the grid into the result that the comparison names. */
void moe_int_grid_keep(const moe_int_scene *s, const moe_int_grid *grid);

#endif
