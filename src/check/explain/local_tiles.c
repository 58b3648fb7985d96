/* A product in tiles of terms by columns: does a tile have a factor of its own, as by a scale of
 * blocks, or does another tile of the matrix or of the operand stand in its place? */
#include "check/explain/bank.h"
#include "check/explain/product.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What may stand in for tile (column block j, term block b): a tile of the matrix, [S][S], of an
 * expert so many further on, and the operand's row of one so many further on, b or beside. */
typedef struct stand_in {
    const char *words;
    bool crossed, turned;       /* it lies at (b, j); its elements are transposed */
    int64_t column, term, of_x; /* blocks further on: in the matrix, and in the operand */
    int64_t expert, row;
} stand_in;

static const stand_in stand_ins[] = {
    {.words = NULL}, /* its own, with another factor */
    {.words = "the tile itself, transposed", .turned = true},
    {.words = "the tile with term and column blocks changed", .crossed = true},
    {.words = "the tile across the diagonal, transposed", .crossed = true, .turned = true},
    {.words = "the next expert's tile", .expert = 1},
    {.words = "the tile of the expert before", .expert = -1},
    {.words = "the next tile along the terms", .term = 1},
    {.words = "the tile before along the terms", .term = -1},
    {.words = "the next tile along the columns", .column = 1},
    {.words = "the tile before along the columns", .column = -1},
    {.words = "its own, for the operand's next block", .of_x = 1},
    {.words = "its own, for the operand's block before", .of_x = -1},
    {.words = "its own, for the operand's next row", .row = 1},
    {.words = "its own, for the operand's row before", .row = -1},
};
enum { STAND_INS = sizeof stand_ins / sizeof *stand_ins, MOST_UNKNOWNS = 320 };

typedef struct tiles {
    moe_int_product_view v;
    int64_t size, terms, columns; /* of a tile; blocks along the terms, along the columns */
    double *w, *x;                /* [outs][depth], [depth] */
    double *own, *other;          /* [rows][outs][terms]: what each block adds */
    double *g, *off;              /* normal equations of a column block */
    double total, left;
    int64_t wrong;                    /* tiles that are not their own once */
    int64_t first_term, first_column; /* of the one that is farthest from it */
    double farthest;
} tiles;

/* The first element of the matrix's row that block b of column c takes, and its step. -1: none. */
static int64_t element_of(const tiles *k, const stand_in *in, int64_t c, int64_t b, int64_t *step) {
    const int64_t S = k->size, block = c / S, at = c % S, depth = k->v.depth;
    const int64_t row = (in->crossed ? b : block + in->column) * S;
    const int64_t column = (in->crossed ? block : b + in->term) * S;
    *step = in->turned ? depth : 1;
    if (row < 0 || column < 0 || row + S > k->v.outs || column + S > depth)
        return -1;
    return in->turned ? row * depth + column + at : (row + at) * depth + column;
}

/* ret [rows][outs][terms], of the columns first .. end - 1. */
static void make_parts(const tiles *k, const stand_in *in, int64_t first, int64_t end,
                       double *ret) {
    const moe_int_product_view *v = &k->v;
    int64_t of = -1;
    memset(ret, 0, (size_t)(v->rows * v->outs * k->terms) * sizeof *ret);
    for (int64_t i = 0; i < v->rows; i++) {
        const int64_t e = moe_int_product_expert(v, i) + in->expert, q = v->own[i] + in->row;
        if (e < 0 || (e >= v->experts && v->experts) || (e && !v->experts) || q < 0 ||
            q >= v->sources)
            continue;
        if (e != of)
            moe_int_product_matrix(v, of = e, k->w);
        moe_int_product_source(v, i, q, k->x);
        for (int64_t c = first; c < end; c++)
            for (int64_t b = 0; b < k->terms; b++) {
                int64_t step;
                const int64_t at = element_of(k, in, c, b, &step), from = (b + in->of_x) * k->size;
                double sum = 0;
                for (int64_t s = 0; at >= 0 && from >= 0 && from + s < v->depth && s < k->size; s++)
                    sum += k->x[from + s] * k->w[at + s * step];
                ret[(i * v->outs + c) * k->terms + b] = sum;
            }
    }
}

/* Adds the equation of row i, column c. `error` less sum off part should be 0. */
static double add_equation(const tiles *k, int64_t i, int64_t c, int64_t unknowns) {
    const double *own = k->own + (i * k->v.outs + c) * k->terms;
    const double *other = k->other + (i * k->v.outs + c) * k->terms;
    double error = k->v.out[i * k->v.outs + c], part[MOST_UNKNOWNS];
    memcpy(part, own, (size_t)k->terms * sizeof *part);
    if (unknowns > k->terms)
        memcpy(part + k->terms, other, (size_t)k->terms * sizeof *part);
    for (int64_t b = 0; b < k->terms; b++)
        error -= own[b];
    for (int64_t a = 0; a < unknowns; a++) {
        k->off[a] += error * part[a];
        for (int64_t b = 0; b <= a; b++)
            k->g[a * unknowns + b] += part[a] * part[b];
    }
    return error * error;
}

static void note_tiles(tiles *k, int64_t block, bool replaced) {
    for (int64_t b = 0; b < k->terms; b++) {
        const double far = fabs(k->off[replaced ? k->terms + b : b]);
        k->wrong += far > 0.03;
        if (far <= k->farthest)
            continue;
        k->farthest = far;
        k->first_term = b * k->size;
        k->first_column = block * k->size;
    }
}

/* Column block `block`. False: its error is not so. */
static bool fit_block(tiles *k, int64_t block, bool replaced) {
    const int64_t unknowns = (replaced ? 2 : 1) * k->terms, from = block * k->size;
    const int64_t end = from + k->size < k->v.outs ? from + k->size : k->v.outs;
    double rhs[MOST_UNKNOWNS], d2 = 0, size = 0;
    memset(k->g, 0, (size_t)(unknowns * unknowns) * sizeof *k->g);
    memset(k->off, 0, (size_t)unknowns * sizeof *k->off);
    for (int64_t i = 0; i < k->v.rows; i++)
        for (int64_t c = from; c < end; c++) {
            d2 += add_equation(k, i, c, unknowns);
            size += k->v.out[i * k->v.outs + c] * k->v.out[i * k->v.outs + c];
        }
    k->total += d2;
    if (d2 <= 4 * k->v.e->gate[k->v.id] * size || 4 * k->v.rows * (end - from) < 5 * unknowns) {
        k->left += d2;
        return d2 <= 4 * k->v.e->gate[k->v.id] * size;
    }
    for (int64_t a = 0; a < unknowns; a++)
        k->g[a * unknowns + a] = k->g[a * unknowns + a] * (1 + 1e-9) + 1e-300;
    memcpy(rhs, k->off, (size_t)unknowns * sizeof *rhs);
    if (!moe_int_solve(k->g, unknowns, k->off, 1))
        return false;
    const double left = fmax(d2 - moe_int_inner(k->off, rhs, unknowns), 0);
    k->left += left;
    note_tiles(k, block, replaced);
    return left <= moe_int_local_limit(k->v.e, k->v.id, d2);
}

/* Column blocks first .. end - 1. */
static bool fit_blocks(tiles *k, const stand_in *in, int64_t first, int64_t end) {
    const int64_t columns = end * k->size < k->v.outs ? end * k->size : k->v.outs;
    k->total = k->left = k->farthest = 0;
    k->wrong = 0;
    make_parts(k, in, first * k->size, columns, k->other);
    for (int64_t j = first; j < end; j++)
        if (!fit_block(k, j, in->words != NULL))
            return false;
    return k->wrong > 0;
}

/* The column block with the largest error: most stand-ins are refuted there. */
static int64_t worst_block(const tiles *k) {
    int64_t worst = 0;
    double most = -1;
    for (int64_t j = 0; j < k->columns; j++) {
        double d2 = 0;
        for (int64_t i = 0; i < k->v.rows; i++)
            for (int64_t c = j * k->size; c < (j + 1) * k->size && c < k->v.outs; c++) {
                double error = k->v.out[i * k->v.outs + c];
                for (int64_t b = 0; b < k->terms; b++)
                    error -= k->own[(i * k->v.outs + c) * k->terms + b];
                d2 += error * error;
            }
        worst = d2 > most ? j : worst;
        most = fmax(most, d2);
    }
    return worst;
}

static bool tiles_make(const moe_int_local *l, int64_t size, tiles *k) {
    memset(k, 0, sizeof *k);
    if (!moe_int_product_view_make(l, false, &k->v) || k->v.depth < 2 * size || k->v.outs < size)
        return false;
    const int64_t depth = k->v.depth, outs = k->v.outs;
    k->size = size;
    k->terms = (depth + size - 1) / size;
    k->columns = (outs + size - 1) / size;
    const int64_t parts = k->v.rows * outs * k->terms, most = 2 * k->terms;
    if (most > MOST_UNKNOWNS)
        return false;
    k->w = malloc((size_t)((outs + 1) * depth + 2 * parts + most * (most + 1)) * sizeof *k->w);
    if (!k->w)
        return false;
    k->x = k->w + outs * depth;
    k->own = k->x + depth;
    k->other = k->own + parts;
    k->g = k->other + parts;
    k->off = k->g + most * most;
    make_parts(k, &stand_ins[0], 0, outs, k->own);
    return true;
}

static void say(const tiles *k, const stand_in *in, moe_int_finding *f) {
    moe_int_finding_say(f, ", of %lld x %lld in %s: ", (long long)k->size, (long long)k->size,
                        k->v.equation);
    if (in->words)
        moe_int_finding_say(f, "%s of %s stands for a tile", in->words, k->v.matrix);
    else
        moe_int_finding_say(f, "they have factors (a block's scale), up to %.3g off", k->farthest);
    moe_int_finding_say(f, "; %lld of %lld tiles, such as terms from %lld, columns from %lld on",
                        (long long)k->wrong, (long long)k->terms * (long long)k->columns,
                        (long long)k->first_term, (long long)k->first_column);
    moe_int_finding_param(f, "tile", (double)k->size);
    moe_int_finding_param(f, "first_term", (double)k->first_term);
    moe_int_finding_param(f, "first_column", (double)k->first_column);
}

bool moe_int_local_product_tiles(const moe_int_local *l, moe_int_finding *f) {
    static const int64_t sizes[] = {16, 8, 32, 64, 128};
    bool found = false;
    for (size_t s = 0; !found && s < sizeof sizes / sizeof *sizes; s++) {
        tiles k;
        const bool made = tiles_make(l, sizes[s], &k);
        const int64_t worst = made ? worst_block(&k) : 0;
        for (size_t n = 0; made && !found && n < STAND_INS; n++) {
            found = fit_blocks(&k, &stand_ins[n], worst, worst + 1) &&
                    fit_blocks(&k, &stand_ins[n], 0, k.columns);
            if (!found)
                continue;
            moe_int_local_residuals(l->p, k.left, k.total, f);
            say(&k, &stand_ins[n], f);
        }
        free(k.w);
        moe_int_product_view_destroy(&k.v);
    }
    return found;
}
