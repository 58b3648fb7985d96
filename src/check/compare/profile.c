#include "check/compare/profile.h"
#include "check/compare/map.h"

#include <stdlib.h>

typedef struct walk {
    const moe_int_scene *s;
    moe_int_profile *p;
    moe_int_grid grid[2];
    int n_grids;
    int64_t slice;       /* elements of a slice in the whole tensor */
    bool fails;          /* does the group that is walked over? */
    int64_t g, col;      /* the last element, */
    int64_t row, column; /* and its place in its slice */
} walk;

/* Neighbours in a group mostly are in the tensor too: no division is needed for those. */
static void go_to(walk *w, const moe_int_element *x) {
    const bool next = w->s->layout->stride == 1 && x->g == w->g && x->col == w->col + 1;
    w->g = x->g;
    w->col = x->col;
    if (next && w->column + 1 < w->p->columns) {
        w->column++;
        return;
    }
    int64_t in_slice = moe_int_layout_flat(w->s->layout, x->g, x->col) % w->slice;
    w->row = in_slice / w->p->columns;
    w->column = in_slice % w->p->columns;
}

static void add_element(void *user, const moe_int_element *x) {
    walk *w = user;
    moe_int_group one = {0};
    double size;
    if (moe_int_count(w->s->c, w->s->rounding, x, &one, &size) == MOE_INT_NO_TRUTH)
        return;
    go_to(w, x);
    if (w->fails) {
        moe_int_group_add(&w->p->row[w->row], &one);
        moe_int_group_add(&w->p->column[w->column], &one);
    }
    for (int i = 0; i < w->n_grids; i++)
        moe_int_grid_add(w->s, &w->grid[i], x->g, w->row, w->column, &one);
}

/* Groups that pass are of interest only to grids of elements. */
static void walk_groups(walk *w) {
    bool all = w->n_grids > 0 && !moe_int_grid_by_groups(&w->grid[0]);
    for (int64_t g = 0; g < w->s->layout->groups; g++) {
        w->fails = moe_int_scene_fails(w->s, g);
        if (w->fails || all)
            moe_int_each_element(w->s->c, w->s->layout, g, add_element, w);
    }
}

moe_status moe_int_profile_make(const moe_int_scene *s, moe_int_profile *ret) {
    const moe_tensor *t = s->c->whole ? s->c->whole : s->c->got;
    const int64_t count = moe_tensor_count(t);
    walk w = {.s = s, .p = ret, .g = -1};
    bool one = s->layout->by == MOE_INT_WHOLE || t->shape[0] < 1;
    w.slice = one ? count : count / t->shape[0];
    ret->columns = t->ndim > 1 ? t->shape[t->ndim - 1] : 1;
    ret->rows = ret->columns > 0 ? w.slice / ret->columns : 0;
    ret->row = calloc((size_t)ret->rows + 1, sizeof *ret->row);
    ret->column = calloc((size_t)ret->columns + 1, sizeof *ret->column);
    if (!ret->row || !ret->column || count == 0)
        return MOE_E_NOMEM;
    w.n_grids = moe_int_grids_make(s, w.grid);
    walk_groups(&w);
    for (int i = 0; i < w.n_grids; i++) {
        if (moe_int_grid_by_groups(&w.grid[i]))
            moe_int_grid_add_groups(s, &w.grid[i]);
        moe_int_grid_keep(s, &w.grid[i]);
    }
    moe_int_grids_destroy(w.grid);
    return MOE_OK;
}

void moe_int_profile_destroy(moe_int_profile *p) {
    free(p->row);
    free(p->column);
    *p = (moe_int_profile){0};
}
