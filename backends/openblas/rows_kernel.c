/* The products of rows.h for one instruction set: the build compiles this file once for each, with
 * OB_ISA its name, and vectors are as wide as the compiler may then use.
 *
 * Sums are added up after OB_CHUNK columns, which with a tile's rows fit the first cache.
 *
 * W is read where it lies if it is fp32 or few rows of x meet it. Else, and where it is turned or
 * its blocks are odd, a panel of it is decoded to fp32 first. */
#include "rows_tile.h"

/* Up to FEW rows of x, W streams past once, row by row. More of them reread BLOCK rows of W, a
 * chunk of columns at a time. PANEL rows of turned W are one line of the cache. */
enum { FEW = 8, BLOCK = 128, PANEL = 16 };

/* Rows of x from which on decoding costs less than it saves. Measured on one core with AVX-512, of
 * a Xeon of 2023, and on the same one with AVX2. */
enum { CODES_FROM = ROWS == 6 ? 13 : 10 };
static const int64_t decoded_from[] = {
    [FORM_F32] = INT64_MAX,   [FORM_F16] = 17,          [FORM_BF16] = 48,
    [FORM_INT8] = CODES_FROM, [FORM_INT4] = CODES_FROM, [FORM_FP8] = CODES_FROM,
};

/* The rest of a row that is no whole step stays: `tile` arranges its copy of it. */
static void arrange(int64_t rows, int64_t depth, float *x) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t p = 0; p + STEP <= depth; p += STEP)
            arrange_step(x + i * depth + p);
}

/* t->kept rows of W, any number, and rows of x. */
OB_INLINE void meet(form f, int64_t rows, const tile_args *all) {
    const int64_t wide = rows == 1 ? ALONE : COLS;
    for (int64_t c = 0; c < all->kept; c += wide) {
        tile_args t = *all;
        t.y += c;
        t.w += c * t.ldw;
        t.col += c;
        t.kept = least(wide, t.kept - c);
        if (rows == 1)
            tile(f, 1, ALONE, &t);
        else
            tiles_of(f, rows, t);
    }
}

static void meet_form(form f, int64_t rows, const tile_args *t) {
    switch (f) {
    case FORM_F32:
        meet(FORM_F32, rows, t);
        break;
    case FORM_F16:
        meet(FORM_F16, rows, t);
        break;
    case FORM_BF16:
        meet(FORM_BF16, rows, t);
        break;
    case FORM_INT8:
        meet(FORM_INT8, rows, t);
        break;
    case FORM_INT4:
        meet(FORM_INT4, rows, t);
        break;
    case FORM_FP8:
        meet(FORM_FP8, rows, t);
        break;
    }
}

static void decode(form f, const ob_matrix *w, const tile_args *t, float *ret) {
    switch (f) {
    case FORM_F32:
        decode_panel(FORM_F32, w, t->col, t->kept, t->first, t->depth, ret);
        break;
    case FORM_F16:
        decode_panel(FORM_F16, w, t->col, t->kept, t->first, t->depth, ret);
        break;
    case FORM_BF16:
        decode_panel(FORM_BF16, w, t->col, t->kept, t->first, t->depth, ret);
        break;
    case FORM_INT8:
        decode_panel(FORM_INT8, w, t->col, t->kept, t->first, t->depth, ret);
        break;
    case FORM_INT4:
        decode_panel(FORM_INT4, w, t->col, t->kept, t->first, t->depth, ret);
        break;
    case FORM_FP8:
        decode_panel(FORM_FP8, w, t->col, t->kept, t->first, t->depth, ret);
        break;
    }
}

static form form_of(const ob_matrix *w) {
    if (w->scale)
        return w->kind == MOE_QUANT_INT8   ? FORM_INT8
               : w->kind == MOE_QUANT_INT4 ? FORM_INT4
                                           : FORM_FP8;
    return w->type == MOE_F32 ? FORM_F32 : w->type == MOE_F16 ? FORM_F16 : FORM_BF16;
}

/* So many rows at a time that a chunk of them stays in the second cache. */
enum { MANY = 128 };

static bool arranges(const ob_matrix *w) {
    return alternates(form_of(w)) && !w->turned && (!w->scale || streams(w));
}

static void meet_decoded(form f, const ob_rows_product *o, tile_args t) {
    float panel[PANEL * PANEL_LD + STEP];
    decode(f, &o->w, &t, panel);
    t.w = (const char *)panel;
    t.ldw = PANEL_LD * (int64_t)sizeof *panel;
    t.padded = true;
    meet_form(FORM_F32, o->rows, &t);
}

static void multiply_some(const ob_rows_product *o) {
    const form f = form_of(&o->w);
    const bool decoded =
        o->w.turned || (o->w.scale && !streams(&o->w)) || o->rows >= decoded_from[f];
    const int64_t wide = o->w.turned ? PANEL : o->rows == 1 ? ALONE : COLS;
    const bool once = !o->w.turned && o->rows <= FEW;
    const int64_t block = once ? wide : BLOCK, ldw = values_bytes(f, o->w.ld);
    for (int64_t first = 0; first < o->cols; first += block)
        for (int64_t p = 0; p < o->depth; p += OB_CHUNK)
            for (int64_t col = first; col < least(first + block, o->cols); col += wide) {
                const tile_args t = {.x = o->x + p,
                                     .ldx = o->ldx,
                                     .depth = least(OB_CHUNK, o->depth - p),
                                     .w = (const char *)o->w.data + col * ldw + values_bytes(f, p),
                                     .ldw = ldw,
                                     .ahead = once ? wide * ldw : 0,
                                     .kept = least(wide, o->cols - col),
                                     .codes = &o->w,
                                     .col = col,
                                     .first = p,
                                     .arranged = arranges(&o->w),
                                     .add = p > 0 || o->beta != 0,
                                     .y = o->y + col,
                                     .ldy = o->ldy};
                if (decoded)
                    meet_decoded(f, o, t);
                else
                    meet_form(f, o->rows, &t);
            }
}

static void multiply(const ob_rows_product *product) {
    ob_rows_product o = *product;
    for (int64_t done = 0; done < product->rows; done += MANY) {
        o.rows = least(MANY, product->rows - done);
        multiply_some(&o);
        o.x += MANY * o.ldx;
        o.y += MANY * o.ldy;
    }
}

/* W as it lies, in its own order. */
static void decode_plain(const ob_matrix *w, int64_t row, int64_t rows, int64_t p, int64_t count,
                         float *ret) {
    for (int64_t r = row; r < row + rows; r++, ret += count)
        switch (form_of(w)) {
        case FORM_F32:
            decode_row(FORM_F32, w, r, p, count, ret);
            break;
        case FORM_F16:
            decode_row(FORM_F16, w, r, p, count, ret);
            break;
        case FORM_BF16:
            decode_bf16(w, r, p, count, ret);
            break;
        case FORM_INT8:
            decode_row(FORM_INT8, w, r, p, count, ret);
            break;
        case FORM_INT4:
            decode_odd_row(w, r, p, count, ret);
            break;
        case FORM_FP8:
            decode_row(FORM_FP8, w, r, p, count, ret);
            break;
        }
}

#define ob_rows_paste(isa) ob_rows_kernels_##isa
#define ob_rows_of(isa)    ob_rows_paste(isa)
#define QUOTE_OF(isa)      #isa
#define QUOTE(isa)         QUOTE_OF(isa)

extern const ob_rows_kernels ob_rows_of(OB_ISA);
const ob_rows_kernels ob_rows_of(OB_ISA) = {QUOTE(OB_ISA), multiply, arranges, arrange,
                                            decode_plain};
