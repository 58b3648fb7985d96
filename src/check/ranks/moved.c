/* Rows of tokens that are other tokens' at home: ranks, or slices of them, that changed places. */
#include "check/explain/local.h"
#include "check/ranks/scene.h"

#include <stdio.h>
#include <stdlib.h>

/* from[t]: the token whose row t has, t itself where it is right, NOBODY where it is zero, as
 * padding is. False: some rows are no one's, or none is another's. */
enum { NOBODY = -1 };

static bool is_zero(const moe_int_rank_scene *s, int64_t t) {
    const double *row = s->got + t * s->d;
    return moe_int_inner(row, row, s->d) == 0;
}

static bool find_rows(const moe_int_rank_scene *s, int64_t *from) {
    int64_t moved = 0;
    for (int64_t t = 0; t < s->T; t++) {
        from[t] = is_zero(s, t) ? NOBODY : t;
        if (from[t] == NOBODY || !moe_int_rank_is_wrong(s, t))
            continue;
        int64_t u = 0;
        while (u < s->T && !moe_int_rank_same_rows(s->got + t * s->d, s->right + u * s->d, s->d,
                                                   moe_int_rank_alike(s)))
            u++;
        if (u == s->T)
            return false;
        from[t] = u;
        moved++;
    }
    return moved > 1;
}

/* How far all of a rank's wrong rows are from their own; false: not all alike, or none is wrong. */
static bool shift_of(const moe_int_rank_scene *s, int32_t rank, const int64_t *from,
                     int64_t *ret_shift) {
    bool any = false;
    for (int64_t t = moe_int_rank_first(s, rank), end = t + s->layout->tokens[rank]; t < end; t++) {
        if (from[t] == t || from[t] == NOBODY)
            continue;
        if (any && from[t] - t != *ret_shift)
            return false;
        *ret_shift = from[t] - t;
        any = true;
    }
    return any;
}

/* The squared error that is left, over the square of what is right. */
static double left_by(const moe_int_rank_scene *s, const int64_t *from) {
    double error = 0, norm = 0;
    for (int64_t t = 0; t < s->T; t++)
        for (int64_t i = 0; i < s->d; i++) {
            const double is = from[t] == NOBODY ? 0 : s->right[from[t] * s->d + i];
            const double off = s->got[t * s->d + i] - is;
            error += off * off;
            norm += s->right[t * s->d + i] * s->right[t * s->d + i];
        }
    return error / norm;
}

/* By the first row that is another's: are all of its rank so? */
static void say(const moe_int_rank_scene *s, const int64_t *from, char *ret, size_t size) {
    const char *name = moe_tensor_name(s->id);
    int64_t t = 0, shift = 0;
    while (from[t] == t || from[t] == NOBODY)
        t++;
    const int64_t u = from[t], here = moe_int_rank_local(s, t), there = moe_int_rank_local(s, u);
    const int r = s->home[t], q = s->home[u];
    const bool whole = shift_of(s, s->home[t], from, &shift);
    if (whole && r != q && here == there)
        snprintf(ret, size, "rank %d's rows of %s are rank %d's", r, name, q);
    else if (whole)
        snprintf(ret, size, "rank %d's rows of %s are those of tokens %lld further %s", r, name,
                 (long long)(shift > 0 ? shift : -shift), shift > 0 ? "on" : "back");
    else
        snprintf(ret, size,
                 "rows of %s are other tokens': row %lld of rank %d is row %lld of rank "
                 "%d",
                 name, (long long)here, r, (long long)there, q);
}

bool moe_int_rank_rows_at_home(const moe_int_rank_scene *s, moe_explanation *ret) {
    int64_t *from = malloc((size_t)(s->T + 1) * sizeof *from), count = 0, zero = 0;
    const bool found = from && find_rows(s, from);
    char text[160], nobodys[48] = "";
    for (int64_t t = 0; found && t < s->T; t++) {
        count += from[t] != t && from[t] != NOBODY;
        zero += from[t] == NOBODY;
    }
    if (zero)
        snprintf(nobodys, sizeof nobodys, ", %lld are zero", (long long)zero);
    if (found) {
        say(s, from, text, sizeof text);
        moe_int_rank_explain(s, "ranks_rows_moved", left_by(s, from), ret,
                             "%s; %lld of %lld rows are others'%s", text, (long long)count,
                             (long long)s->T, nobodys);
    }
    free(from);
    return found;
}
