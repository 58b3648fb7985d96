/* The products of rows.h for one instruction set: the build compiles this file once for each, with
 * OB_ISA its name, and vectors are as wide as the compiler may then use.
 *
 * Few rows of x meet W where it lies: sums are added up after OB_CHUNK columns, which with a tile's
 * rows fit the first cache. Many rows, and W that is turned or has odd blocks, meet panels of it.
 */
#include "rows_many.h"
#include "rows_tile.h"

/* Up to ALONG rows of x, values of W stream past row by row, which is how memory is read fastest;
 * codes, whose scales cost more than that gains, and up to FEW rows,
 * a tile of rows at a time; more of them reread BLOCK rows of W, a chunk of columns at a time. So
 * many bytes ahead are fetched of a row by row stream: half as many, or twice, cost a tenth more.
 */
enum { ALONG = ROWS > 3 ? 4 : 3, FEW = 8, BLOCK = 128, STREAM_AHEAD = 8192 };

/* The rest of a row that is no whole step stays: `tile` arranges its copy of it. */
static void arrange(int64_t rows, int64_t depth, float *x, int64_t ldx) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t p = 0; p + STEP <= depth; p += STEP)
            arrange_step(x + i * ldx + p);
}

/* t->kept rows of W, COLS at most. */
OB_INLINE void meet(form f, int64_t rows, const tile_args *t) {
    switch (t->along ? rows : 0) {
    case 1:
        stream(f, 1, t);
        break;
    case 2:
        stream(f, 2, t);
        break;
    case 3:
        stream(f, 3, t);
        break;
#if ROWS > 3
    case 4:
        stream(f, 4, t);
        break;
#endif
    default:
        tiles_of(f, rows, *t);
    }
}

/* A function for each form: in one of a hundred loops the compiler keeps sums in memory. */
#define FOR_FORM(name, form_name)                                                                  \
    static __attribute__((noinline)) void name(int64_t rows, const tile_args *t) {                 \
        meet(form_name, rows, t);                                                                  \
    }
FOR_FORM(meet_f32, FORM_F32)
FOR_FORM(meet_f16, FORM_F16)
FOR_FORM(meet_bf16, FORM_BF16)
FOR_FORM(meet_int8, FORM_INT8)
FOR_FORM(meet_int4, FORM_INT4)
FOR_FORM(meet_fp8, FORM_FP8)

#define FOR_PANELS(name, form_name)                                                                \
    static void name(const ob_rows_product *o, int64_t row, int64_t rows) {                        \
        multiply_block(form_name, o, row, rows);                                                   \
    }
FOR_PANELS(panels_f32, FORM_F32)
FOR_PANELS(panels_f16, FORM_F16)
FOR_PANELS(panels_bf16, FORM_BF16)
FOR_PANELS(panels_int8, FORM_INT8)
FOR_PANELS(panels_int4, FORM_INT4)
FOR_PANELS(panels_fp8, FORM_FP8)

static void (*const panels_form[])(const ob_rows_product *o, int64_t row, int64_t rows) = {
    [FORM_F32] = panels_f32,   [FORM_F16] = panels_f16,   [FORM_BF16] = panels_bf16,
    [FORM_INT8] = panels_int8, [FORM_INT4] = panels_int4, [FORM_FP8] = panels_fp8,
};

static void (*const meet_form[])(int64_t rows, const tile_args *t) = {
    [FORM_F32] = meet_f32,   [FORM_F16] = meet_f16,   [FORM_BF16] = meet_bf16,
    [FORM_INT8] = meet_int8, [FORM_INT4] = meet_int4, [FORM_FP8] = meet_fp8,
};

static form form_of(const ob_matrix *w) {
    if (w->scale)
        return w->kind == MOE_QUANT_INT8   ? FORM_INT8
               : w->kind == MOE_QUANT_INT4 ? FORM_INT4
                                           : FORM_FP8;
    return w->type == MOE_F32 ? FORM_F32 : w->type == MOE_F16 ? FORM_F16 : FORM_BF16;
}

/* So many rows at a time that a chunk of them stays in the second cache. */
enum { MANY = 128 };

static bool reads(const ob_matrix *w) {
    return !w->turned && (!w->scale || streams(w));
}

static bool arranges(const ob_matrix *w) {
    return alternates(form_of(w));
}

static void multiply_some(const ob_rows_product *o) {
    const form f = form_of(&o->w);
    const bool along = !is_code(f) && o->rows <= ALONG, once = o->rows <= FEW;
    const int64_t wide = along ? 1 : COLS, block = once ? wide : BLOCK;
    const int64_t chunk = along ? o->depth : OB_CHUNK, ldw = values_bytes(f, o->w.ld);
    for (int64_t first = 0; first < o->cols; first += block)
        for (int64_t p = 0; p < o->depth; p += chunk)
            for (int64_t col = first; col < least(first + block, o->cols); col += wide) {
                const tile_args t = {.x = o->x + p,
                                     .ldx = o->ldx,
                                     .depth = least(chunk, o->depth - p),
                                     .w = (const char *)o->w.data + col * ldw + values_bytes(f, p),
                                     .ldw = ldw,
                                     .ahead = along  ? STREAM_AHEAD
                                              : once ? wide * ldw
                                                     : 0,
                                     .along = along,
                                     .kept = least(wide, o->cols - col),
                                     .codes = &o->w,
                                     .col = col,
                                     .first = p,
                                     .arranged = arranges(&o->w),
                                     .add = p > 0 || o->beta != 0,
                                     .y = o->y + col,
                                     .ldy = o->ldy};
                meet_form[f](o->rows, &t);
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

static void multiply_many(const ob_rows_product *o) {
    for (int64_t row = 0; row < o->rows; row += BLOCK_ROWS)
        panels_form[form_of(&o->w)](o, row, least(BLOCK_ROWS, o->rows - row));
}

#define ob_rows_paste(isa) ob_rows_kernels_##isa
#define ob_rows_of(isa)    ob_rows_paste(isa)
#define QUOTE_OF(isa)      #isa
#define QUOTE(isa)         QUOTE_OF(isa)

extern const ob_rows_kernels ob_rows_of(OB_ISA);
const ob_rows_kernels ob_rows_of(OB_ISA) = {QUOTE(OB_ISA), multiply, multiply_many,
                                            reads,         arranges, arrange};
