#include "check/compare/map.h"
#include "check/verdict/result.h"
#include "route/route.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *down, *across;
} words[] = {
    [MOE_INT_ACROSS_PAIRS] = {"expert", "row"},      [MOE_INT_ACROSS_TOKENS] = {"expert", "token"},
    [MOE_INT_ACROSS_LOGITS] = {"expert", "token"},   [MOE_INT_ACROSS_ROWS] = {"expert", "row"},
    [MOE_INT_ACROSS_COLUMNS] = {"expert", "column"}, [MOE_INT_ACROSS_MATRIX] = {"row", "column"},
};

static const moe_tensor *whole_of(const moe_int_scene *s) {
    return s->c->whole ? s->c->whole : s->c->got;
}

static int64_t most_rows(const moe_plan *plan) {
    int64_t most = 0;
    for (int64_t e = 0; e < plan->n_experts; e++) {
        int64_t rows = plan->offsets[e + 1] - plan->offsets[e];
        most = rows > most ? rows : most;
    }
    return most;
}

/* The smallest power of two times `first` that leaves at most `most` tiles. */
static int64_t fitting(int64_t extent, int64_t first, int64_t most) {
    int64_t tile = first > 0 ? first : 1;
    while ((extent + tile - 1) / tile > most)
        tile *= 2;
    return tile;
}

/* Fails without memory, or where there is nothing to draw. */
static bool make(const moe_int_scene *s, moe_int_across across, int64_t lines, int64_t extent,
                 moe_int_grid *ret) {
    bool matrix = across == MOE_INT_ACROSS_MATRIX;
    *ret = (moe_int_grid){.across = across, .extent = extent};
    if (lines < 1 || extent < 1)
        return false;
    ret->line_tile = matrix ? fitting(lines, s->c->tile, MOE_MAP_ROWS) : 1;
    ret->lines = (lines + ret->line_tile - 1) / ret->line_tile;
    ret->tile = fitting(extent, s->c->tile, MOE_MAP_COLUMNS);
    ret->columns = (extent + ret->tile - 1) / ret->tile;
    ret->cell = calloc((size_t)(ret->lines * ret->columns), sizeof *ret->cell);
    return ret->cell != NULL;
}

static int make_of_slices(const moe_int_scene *s, const moe_tensor *t, moe_int_grid ret[2]) {
    int n = 0;
    if (t->ndim > 2)
        n += make(s, MOE_INT_ACROSS_ROWS, t->shape[0], t->shape[1], &ret[n]);
    return n + make(s, MOE_INT_ACROSS_COLUMNS, t->shape[0], t->ndim > 1 ? t->shape[t->ndim - 1] : 1,
                    &ret[n]);
}

int moe_int_grids_make(const moe_int_scene *s, moe_int_grid ret[2]) {
    const moe_plan *plan = s->c->plan;
    const moe_tensor *t = whole_of(s);
    ret[0] = ret[1] = (moe_int_grid){0};
    if (!s->c->maps)
        return 0;
    switch (s->layout->by) {
    case MOE_INT_BY_TOKEN:
        if (s->c->id == MOE_T_LOGITS)
            return make(s, MOE_INT_ACROSS_LOGITS, t->shape[1], t->shape[0], &ret[0]);
        return plan && plan->n_tokens == t->shape[0]
                   ? make(s, MOE_INT_ACROSS_TOKENS, plan->n_experts, plan->n_tokens, &ret[0])
                   : 0;
    case MOE_INT_BY_PAIR:
        return plan ? make(s, MOE_INT_ACROSS_PAIRS, plan->n_experts, most_rows(plan), &ret[0]) : 0;
    case MOE_INT_BY_EXPERT:
        return make_of_slices(s, t, ret);
    case MOE_INT_WHOLE:
        return t->ndim == 2 ? make(s, MOE_INT_ACROSS_MATRIX, t->shape[0], t->shape[1], &ret[0]) : 0;
    }
    return 0;
}

void moe_int_grids_destroy(moe_int_grid grids[2]) {
    free(grids[0].cell);
    free(grids[1].cell);
}

static void add(moe_int_grid *grid, int64_t line, int64_t at, const moe_int_group *sums) {
    line /= grid->line_tile;
    if (line >= 0 && line < grid->lines && at >= 0 && at < grid->extent)
        moe_int_group_add(&grid->cell[line * grid->columns + at / grid->tile], sums);
}

bool moe_int_grid_by_groups(const moe_int_grid *grid) {
    return grid->across == MOE_INT_ACROSS_PAIRS || grid->across == MOE_INT_ACROSS_TOKENS;
}

void moe_int_grid_add(const moe_int_scene *s, moe_int_grid *grid, int64_t g, int64_t row,
                      int64_t column, const moe_int_group *sums) {
    switch (grid->across) {
    case MOE_INT_ACROSS_PAIRS:
    case MOE_INT_ACROSS_TOKENS:
        break;
    case MOE_INT_ACROSS_LOGITS:
        add(grid, column, moe_int_layout_group(s->layout, g), sums);
        break;
    case MOE_INT_ACROSS_ROWS:
        add(grid, moe_int_layout_expert(s->layout, s->c->plan, g), row, sums);
        break;
    case MOE_INT_ACROSS_COLUMNS:
        add(grid, moe_int_layout_expert(s->layout, s->c->plan, g), column, sums);
        break;
    case MOE_INT_ACROSS_MATRIX:
        add(grid, row, column, sums);
        break;
    }
}

void moe_int_grid_add_groups(const moe_int_scene *s, moe_int_grid *grid) {
    const moe_plan *plan = s->c->plan;
    for (int64_t g = 0; g < s->layout->groups; g++) {
        int64_t i = moe_int_layout_group(s->layout, g);
        if (grid->across == MOE_INT_ACROSS_PAIRS && i < plan->n_pairs) {
            int64_t e = moe_int_plan_expert_of(plan, i);
            add(grid, e, i - plan->offsets[e], &s->groups[g]);
        } else if (grid->across == MOE_INT_ACROSS_TOKENS && i < plan->n_tokens) {
            for (int64_t k = plan->token_offsets[i]; k < plan->token_offsets[i + 1]; k++)
                add(grid, moe_int_plan_expert_of(plan, plan->pair_of_token[k]), i, &s->groups[g]);
        }
    }
}

typedef struct line_rank {
    int64_t line;
    double worst;
} line_rank;

static int by_worst(const void *a, const void *b) {
    const line_rank *x = a, *y = b;
    if (x->worst != y->worst)
        return x->worst > y->worst ? -1 : 1;
    return x->line < y->line ? -1 : x->line > y->line;
}

static int by_line(const void *a, const void *b) {
    const line_rank *x = a, *y = b;
    return x->line < y->line ? -1 : x->line > y->line;
}

static bool empty(const moe_int_group *g) {
    return g->n == 0 && g->bad == 0;
}

/* The lines that are kept, ascending: the worst. NULL without memory. */
static line_rank *choose_lines(const moe_int_scene *s, const moe_int_grid *grid, int64_t *ret_n) {
    line_rank *rank = calloc((size_t)grid->lines, sizeof *rank);
    for (int64_t i = 0; rank && i < grid->lines; i++) {
        rank[i].line = i;
        rank[i].worst = -1;
        for (int64_t j = 0; j < grid->columns; j++) {
            const moe_int_group *g = &grid->cell[i * grid->columns + j];
            if (!empty(g))
                rank[i].worst = fmax(rank[i].worst, moe_int_group_over(g, &s->gate));
        }
    }
    *ret_n = grid->lines < MOE_MAP_ROWS ? grid->lines : MOE_MAP_ROWS;
    if (rank) {
        qsort(rank, (size_t)grid->lines, sizeof *rank, by_worst);
        qsort(rank, (size_t)*ret_n, sizeof *rank, by_line);
    }
    return rank;
}

static double nmse_of(const moe_int_group *g) {
    return g->bad ? INFINITY : g->d2 == 0 ? 0 : g->d2 / g->r2;
}

void moe_int_grid_keep(const moe_int_scene *s, const moe_int_grid *grid) {
    int64_t n = 0;
    line_rank *rank = choose_lines(s, grid, &n);
    moe_error_map *map =
        rank ? moe_int_result_add_map(s->c->maps, moe_tensor_name(s->c->id)) : NULL;
    if (map) {
        snprintf(map->down, sizeof map->down, "%s", words[grid->across].down);
        snprintf(map->across, sizeof map->across, "%s", words[grid->across].across);
        map->tile = grid->tile;
        map->extent = grid->extent;
        map->rows_of = grid->lines;
        map->rows = (int32_t)n;
        map->columns = (int32_t)grid->columns;
    }
    for (int64_t i = 0; map && i < n; i++) {
        map->row[i] = rank[i].line * grid->line_tile;
        for (int64_t j = 0; j < grid->columns; j++) {
            const moe_int_group *g = &grid->cell[rank[i].line * grid->columns + j];
            map->over[i][j] = empty(g) ? -1 : (float)moe_int_group_over(g, &s->gate);
            map->nmse[i][j] = empty(g) ? -1 : (float)nmse_of(g);
        }
    }
    free(rank);
}
