/* Looks at the wrong part of a tensor alone: what is so of some columns or rows only, a tile's
 * scale or a tail's store, is hidden among what is right. */
#include "check/explain/bank.h"

#include <string.h>

/* Those that need not see all columns, or all rows. */
static const char *const of_columns[] = {"factor",       "factor_by_expert", "factor_by_weight",
                                         "moved_rows",   "other_expert",     "factor_by_token",
                                         "added_tensor", "rows_elsewhere",   "few_bits",
                                         "limited",      "rows_mixed"};
static const char *const of_rows[] = {"factor", "few_bits", "limited"};
static const char *const smooth[] = {"own_formula", "function_of_itself"};

static const moe_int_hypothesis *row_called(const char *kind) {
    size_t i = 0;
    while (strcmp(moe_int_bank[i].kind, kind) != 0)
        i++;
    return &moe_int_bank[i];
}

static void say_columns(const moe_int_sight *part, int64_t of, moe_int_finding *f) {
    const int64_t first = part->only_column[0], last = part->only_column[part->width - 1];
    if (last - first + 1 == part->width)
        moe_int_finding_say(f, "; in columns %lld to %lld of %lld alone", (long long)first,
                            (long long)last, (long long)of);
    else
        moe_int_finding_say(f, "; in %lld columns alone, from %lld to %lld of %lld",
                            (long long)part->width, (long long)first, (long long)last,
                            (long long)of);
    moe_int_finding_param(f, "first_column", (double)first);
    moe_int_finding_param(f, "last_column", (double)last);
}

static void say_rows(const moe_int_sight *part, const moe_int_sight *p, moe_int_finding *f) {
    const int64_t first = part->only_row[0], last = part->only_row[part->rows - 1];
    moe_int_finding_say(f, "; in %lld of %lld rows alone, from %lld to %lld", (long long)part->rows,
                        (long long)p->rows, (long long)first, (long long)last);
    moe_int_finding_param(f, "first_row", (double)first);
    moe_int_finding_param(f, "last_row", (double)last);
}

/* Residuals of the whole tensor, of which the rest is as it is. */
static void widen(const moe_int_sight *part, const moe_int_sight *p, moe_int_finding *f) {
    const double left = f->is.after * (part->r2 > 0 ? part->r2 : part->g2 > 0 ? part->g2 : 1);
    moe_int_sight_residuals(p, left + (p->d2 > part->d2 ? p->d2 - part->d2 : 0), f);
}

static bool try_one(moe_int_evidence *e, const moe_int_hypothesis *h, const moe_int_local *part,
                    const moe_int_sight *p) {
    moe_int_finding f = moe_int_finding_start(h, p->id);
    if (!(h->look ? h->look(part->p, &f) : h->local(part, &f)))
        return false;
    if (!f.rough && !moe_int_explains(e, p->id, f.is.before, f.is.after))
        return false;
    widen(part->p, p, &f);
    if (part->p->only_column)
        say_columns(part->p, p->width, &f);
    else
        say_rows(part->p, p, &f);
    f.explains[p->id] = true;
    f.explained = 1;
    moe_int_offer(e, &f);
    return e->found && !e->best.place;
}

/* Tries `count` kinds on both parts: on the columns, then on the rows. */
typedef struct kinds {
    const char *const *of_columns, *const *of_rows;
    size_t columns, rows;
} kinds;

static void try_kinds(moe_int_evidence *e, const moe_int_local *l, const kinds *k) {
    moe_int_sight columns = {0}, rows = {0};
    bool found = false;
    if (l->p->odd > 0)
        return;
    if (l->p->width > 1)
        moe_int_sight_of_columns(l->p, &columns);
    moe_int_sight_of_rows(l->p, &rows);
    const moe_int_local parts[] = {{&columns, l->scene, l->right}, {&rows, l->scene, l->right}};
    for (size_t i = 0; columns.rows && !found && i < k->columns; i++)
        found = try_one(e, row_called(k->of_columns[i]), &parts[0], l->p);
    for (size_t i = 0; rows.rows && !found && i < k->rows; i++)
        found = try_one(e, row_called(k->of_rows[i]), &parts[1], l->p);
    moe_int_sight_destroy(&columns);
    moe_int_sight_destroy(&rows);
}

void moe_int_try_parts(moe_int_evidence *e, const moe_int_local *l) {
    const kinds k = {of_columns, of_rows, sizeof of_columns / sizeof *of_columns,
                     sizeof of_rows / sizeof *of_rows};
    try_kinds(e, l, &k);
}

void moe_int_try_smooth_parts(moe_int_evidence *e, const moe_int_local *l) {
    const size_t count = sizeof smooth / sizeof *smooth;
    const kinds k = {smooth, smooth + 1, count, count - 1}; /* a row's units are all its own */
    try_kinds(e, l, &k);
}
