/* The products of rows.h for one instruction set: the build compiles this file once for each, with
 * OB_ISA its name, and vectors are as wide as the compiler may then use.
 *
 * Four rows of W meet a few rows of x at a time, all in registers; each pair has one vector of
 * partial sums, which is added up after OB_CHUNK columns. The order of a sum depends on the columns
 * alone. What a tile reads, some 7 x OB_CHUNK floats, fits the first cache.
 *
 * W is read where it lies if few rows of x meet it or it is fp32. Else, and where it is turned, a
 * panel of it is decoded to fp32 first. */
#include "rows.h"
#include "vector_math.h"

#include <stddef.h>
#include <string.h>
#ifdef __F16C__
#include <immintrin.h>
#endif

/* V floats in a vector; ROWS of x in a tile, as many as there are registers for. */
#if defined(__AVX512F__) && defined(__F16C__)
#define HAVE_HALVES
enum { V = 16 };
#define ROWS 6
#elif defined(__AVX2__) && defined(__F16C__)
#define HAVE_HALVES
enum { V = 8 };
#define ROWS 3
#else
enum { V = 4 };
#define ROWS 3
#endif
/* W's rows in a tile; ALONE where there is one row of x, whose four sums would wait for each other.
 */
enum { COLS = 4, ALONE = 8 };
/* bf16 comes in words of two: STEP values are the even ones of V words, then the odd ones. */
enum { STEP = 2 * V };
/* Rows of x from which on decoding costs less than it saves: measured on AVX2 (Zen 1). */
enum { DECODE_F16 = 5, DECODE_BF16 = 24 };
/* Up to FEW rows of x, W streams past once, row by row. More of them reread BLOCK rows of W from
 * the second cache. A panel of turned W is PANEL wide: one line of the cache. */
enum { FEW = 8, BLOCK = 128, PANEL = 16, PANEL_LD = OB_CHUNK + 16 };

typedef float vec __attribute__((vector_size(4 * V)));
typedef uint32_t words __attribute__((vector_size(4 * V)));
typedef int32_t integers __attribute__((vector_size(4 * V)));
typedef float quad __attribute__((vector_size(16)));

/* How values lie that a tile reads. */
typedef enum form { FORM_F32, FORM_F16, FORM_BF16, FORM_INT8, FORM_INT4, FORM_FP8 } form;

/* ---- values ---- */

OB_INLINE int64_t value_bits(form f) {
    return f == FORM_F32 ? 32 : f <= FORM_BF16 ? 16 : f == FORM_INT4 ? 4 : 8;
}

OB_INLINE int64_t value_bytes(form f) {
    return value_bits(f) / 8;
}

#ifndef HAVE_HALVES
/* IEEE half precision: the exponent is rebased by a product, which makes denormals normal. */
OB_INLINE float float_of_half(uint16_t h) {
    const uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13;
    const float small = ob_float_of(magnitude) * ob_float_of(0x77800000u); /* 2^112 */
    const uint32_t large = magnitude | 0x7f800000u;                        /* infinity, NaN */
    const uint32_t bits = magnitude >= 0x0f800000u ? large : ob_bits_of(small);
    return ob_float_of(bits | (uint32_t)(h & 0x8000) << 16);
}
#endif

OB_INLINE vec vec_of_halves(const char *p) {
#if defined(HAVE_HALVES) && defined(__AVX512F__)
    return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif defined(HAVE_HALVES)
    return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#else
    uint16_t h[V];
    vec v;
    memcpy(h, p, sizeof h);
    for (int i = 0; i < V; i++)
        v[i] = float_of_half(h[i]);
    return v;
#endif
}

/* Half 0 or 1 of the STEP values from p on. */
OB_INLINE vec load(form f, const char *p, int half) {
    vec v;
    words w;
    switch (f) {
    case FORM_F32:
        memcpy(&v, p + (ptrdiff_t)half * (ptrdiff_t)sizeof v, sizeof v);
        return v;
    case FORM_F16:
        return vec_of_halves(p + (ptrdiff_t)half * 2 * V);
    case FORM_BF16:
        memcpy(&w, p, sizeof w);
        return half ? (vec)(w & 0xffff0000u) : (vec)(w << 16);
    case FORM_INT8:
    case FORM_INT4:
    case FORM_FP8: /* decoded first */
        break;
    }
    return (vec){0};
}

OB_INLINE void arrange_step(float *x) {
    float even_odd[STEP];
    for (int i = 0; i < V; i++) {
        even_odd[i] = x[(ptrdiff_t)2 * i];
        even_odd[V + i] = x[(ptrdiff_t)2 * i + 1];
    }
    memcpy(x, even_odd, sizeof even_odd);
}

/* The rest of a row that is no whole step stays: `tile` arranges its copy of it. */
static void arrange(int64_t rows, int64_t depth, float *x) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t p = 0; p + STEP <= depth; p += STEP)
            arrange_step(x + i * depth + p);
}

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE __builtin_shufflevector
#else
typedef int32_t quad_bits __attribute__((vector_size(16)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (quad_bits){__VA_ARGS__})
#endif

/* ---- one tile ---- */

/* The sum of each of four vectors. */
OB_INLINE quad add_up(const vec *a, ptrdiff_t next) {
    quad q[4];
    for (int c = 0; c < 4; c++) {
        quad part[V / 4];
        memcpy(part, &a[c * next], sizeof part);
        for (int width = V / 8; width; width /= 2)
            for (int i = 0; i < width; i++)
                part[i] += part[i + width];
        q[c] = part[0];
    }
    quad ab = SHUFFLE(q[0], q[1], 0, 4, 1, 5) + SHUFFLE(q[0], q[1], 2, 6, 3, 7);
    quad cd = SHUFFLE(q[2], q[3], 0, 4, 1, 5) + SHUFFLE(q[2], q[3], 2, 6, 3, 7);
    return SHUFFLE(ab, cd, 0, 1, 4, 5) + SHUFFLE(ab, cd, 2, 3, 6, 7);
}

typedef struct tile_args {
    const float *x;
    int64_t ldx, depth;
    const char *w; /* rows of W, ldw bytes apart; `kept` of them */
    int64_t ldw;
    int64_t kept;
    bool padded;   /* W has zeros up to a whole step */
    bool arranged; /* x is */
    bool add;      /* to y */
    float *y;
    int64_t ldy;
} tile_args;

#define UNROLL _Pragma("GCC unroll 8")

/* V columns of x, `half` of a step. */
OB_INLINE void add_products(form f, int rows, int cols, int half, const float *x, int64_t ldx,
                            const char *const *w, int64_t at, vec (*sum)[ROWS]) {
    vec v[ROWS];
    UNROLL for (int i = 0; i < rows; i++) v[i] = load(FORM_F32, (const char *)(x + i * ldx), half);
    UNROLL for (int c = 0; c < cols; c++) {
        vec weight = load(f, w[c] + at, half);
        UNROLL for (int i = 0; i < rows; i++) sum[c][i] += weight * v[i];
    }
}

/* The columns after the last whole step, with zeros behind them. */
OB_INLINE void add_rest(form f, int rows, int cols, const tile_args *t, int64_t p,
                        const char *const *w, vec (*sum)[ROWS]) {
    float x[ROWS][STEP] = {{0}};
    char tail[ALONE][STEP * 4] = {{0}};
    const char *rest[ALONE];
    const size_t count = (size_t)(t->depth - p);
    for (int i = 0; i < rows; i++) {
        memcpy(x[i], t->x + i * t->ldx + p, count * sizeof(float));
        if (t->arranged)
            arrange_step(x[i]);
    }
    for (int c = 0; c < cols; c++) {
        rest[c] = w[c] + p * value_bytes(f);
        if (!t->padded)
            rest[c] = memcpy(tail[c], rest[c], count * (size_t)value_bytes(f));
    }
    add_products(f, rows, cols, 0, x[0], STEP, rest, 0, sum);
    add_products(f, rows, cols, 1, x[0], STEP, rest, 0, sum);
}

OB_INLINE void tile(form f, int rows, int cols, const tile_args *t) {
    vec sum[ALONE][ROWS];
    const char *w[ALONE];
    const int64_t whole = t->depth / STEP * STEP;
    UNROLL for (int c = 0; c < cols; c++) {
        w[c] = t->w + (c < t->kept ? c : t->kept - 1) * t->ldw;
        UNROLL for (int i = 0; i < rows; i++) sum[c][i] = (vec){0};
    }
    if (f == FORM_BF16)
        for (int64_t p = 0; p < whole; p += STEP) {
            add_products(f, rows, cols, 0, t->x + p, t->ldx, w, p * value_bytes(f), sum);
            add_products(f, rows, cols, 1, t->x + p, t->ldx, w, p * value_bytes(f), sum);
        }
    else /* a longer loop would want more registers than there are */
        for (int64_t p = 0; p < whole; p += V)
            add_products(f, rows, cols, 0, t->x + p, t->ldx, w, p * value_bytes(f), sum);
    if (whole < t->depth)
        add_rest(f, rows, cols, t, whole, w, sum);
    for (int i = 0; i < rows; i++)
        for (int c = 0; c < cols && c < t->kept; c += 4) {
            quad total = add_up(&sum[c][i], ROWS);
            float *y = t->y + i * t->ldy + c;
            for (int j = 0; j < 4 && c + j < t->kept; j++)
                y[j] = t->add ? y[j] + total[j] : total[j];
        }
}

OB_INLINE void tiles_of(form f, int64_t rows, tile_args t) {
    for (int64_t i = 0, now; i < rows; i += now) {
        now = rows - i < ROWS ? rows - i : ROWS;
        switch (now) {
        case 1:
            tile(f, 1, COLS, &t);
            break;
        case 2:
            tile(f, 2, COLS, &t);
            break;
        case 3:
            tile(f, 3, COLS, &t);
            break;
#if ROWS > 3
        case 4:
            tile(f, 4, COLS, &t);
            break;
        case 5:
            tile(f, 5, COLS, &t);
            break;
        default:
            tile(f, 6, COLS, &t);
#endif
        }
        t.x += now * t.ldx;
        t.y += now * t.ldy;
    }
}

/* ---- panels of W, decoded ---- */

/* A row of W as `load` has it, zeros up to a whole step behind it. */
OB_INLINE void decode_row(form f, const char *w, int64_t depth, float *ret) {
    char tail[STEP * 4] = {0};
    for (int64_t p = 0; p < depth; p += STEP) {
        const char *from = w + p * value_bytes(f);
        if (depth - p < STEP)
            from = memcpy(tail, from, (size_t)((depth - p) * value_bytes(f)));
        vec low = load(f, from, 0), high = load(f, from, 1);
        memcpy(ret + p, &low, sizeof low);
        memcpy(ret + p + V, &high, sizeof high);
    }
}

typedef uint16_t half_quad __attribute__((vector_size(8)));
typedef uint32_t word_quad __attribute__((vector_size(16)));

OB_INLINE quad load_quad(form f, const char *p) {
    quad v;
    half_quad h;
    if (f == FORM_F32) {
        memcpy(&v, p, sizeof v);
        return v;
    }
    memcpy(&h, p, sizeof h);
    if (f == FORM_BF16)
        return (quad)(__builtin_convertvector(h, word_quad) << 16);
#ifdef HAVE_HALVES
    return (quad)_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)p));
#else
    for (int i = 0; i < 4; i++)
        v[i] = float_of_half(h[i]);
    return v;
#endif
}

/* Four rows of four columns, turned round. */
OB_INLINE void turn_block(form f, const char *w, int64_t row_bytes, float *ret) {
    quad r[4];
    for (int i = 0; i < 4; i++)
        r[i] = load_quad(f, w + i * row_bytes);
    quad low01 = SHUFFLE(r[0], r[1], 0, 4, 1, 5), high01 = SHUFFLE(r[0], r[1], 2, 6, 3, 7);
    quad low23 = SHUFFLE(r[2], r[3], 0, 4, 1, 5), high23 = SHUFFLE(r[2], r[3], 2, 6, 3, 7);
    const quad c[4] = {SHUFFLE(low01, low23, 0, 1, 4, 5), SHUFFLE(low01, low23, 2, 3, 6, 7),
                       SHUFFLE(high01, high23, 0, 1, 4, 5), SHUFFLE(high01, high23, 2, 3, 6, 7)};
    for (int i = 0; i < 4; i++)
        memcpy(ret + (ptrdiff_t)i * PANEL_LD, &c[i], sizeof c[i]);
}

/* Rows and columns that fill no block: these, of those [rows][cols]. */
static void turn_rest(form f, const char *w, int64_t row_bytes, int64_t rows, int64_t cols,
                      float *ret) {
    for (int64_t c = 0; c < cols; c++)
        for (int64_t p = 0; p < rows; p++) {
            char block[16] = {0};
            memcpy(block, w + p * row_bytes + c * value_bytes(f), (size_t)value_bytes(f));
            ret[c * PANEL_LD + p] = load_quad(f, block)[0];
        }
}

/* Some columns of W [depth][ld], turned round: ret [cols][PANEL_LD], zeros up to a whole step. */
OB_INLINE void turn_panel(form f, const char *w, int64_t row_bytes, int64_t cols, int64_t depth,
                          float *ret) {
    const int64_t whole = depth / 4 * 4, wide = cols / 4 * 4, size = value_bytes(f);
    for (int64_t p = 0; p < whole; p += 4) {
        /* The next panel's lines are a row apart, which the processor does not foresee. */
        for (int i = 0; i < 4; i++)
            __builtin_prefetch(w + (p + i) * row_bytes + wide * size, 0, 2);
        for (int64_t c = 0; c < wide; c += 4)
            turn_block(f, w + p * row_bytes + c * size, row_bytes, ret + c * PANEL_LD + p);
    }
    turn_rest(f, w + whole * row_bytes, row_bytes, depth - whole, wide, ret + whole);
    turn_rest(f, w + wide * size, row_bytes, depth, cols - wide, ret + wide * PANEL_LD);
    for (int64_t c = 0; c < cols; c++)
        for (int64_t p = depth; p % STEP; p++)
            ret[c * PANEL_LD + p] = 0;
}

#include "rows_codes.h"

/* ---- the product ---- */

/* COLS columns of y and one chunk of x: all rows. */
OB_INLINE void group(form f, bool decode, int64_t rows, tile_args t) {
    float panel[COLS * PANEL_LD];
    if (!decode) {
        tiles_of(f, rows, t);
        return;
    }
    for (int64_t c = 0; c < COLS && c < t.kept; c++)
        decode_row(f, t.w + c * t.ldw, t.depth, panel + c * PANEL_LD);
    t.w = (const char *)panel;
    t.ldw = PANEL_LD * (int64_t)sizeof *panel;
    t.padded = true;
    tiles_of(FORM_F32, rows, t);
}

OB_INLINE void turned_group(form f, int64_t rows, tile_args t) {
    float panel[PANEL * PANEL_LD];
    const int64_t cols = t.kept;
    turn_panel(f, t.w, t.ldw, cols, t.depth, panel);
    t.ldw = PANEL_LD * (int64_t)sizeof *panel;
    t.padded = true;
    for (int64_t c = 0; c < cols; c += COLS) {
        t.w = (const char *)(panel + c * PANEL_LD);
        t.kept = cols - c < COLS ? cols - c : COLS;
        tiles_of(FORM_F32, rows, t);
        t.y += COLS;
    }
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Codes, which any number of rows reads as a panel. */
OB_INLINE void coded_group(form f, const ob_rows_product *o, int64_t col, int64_t p, tile_args t) {
    float panel[ALONE * PANEL_LD];
    for (int64_t c = 0; c < t.kept; c++)
        decode_codes(f, &o->w, col + c, p, t.depth, panel + c * PANEL_LD);
    t.w = (const char *)panel;
    t.ldw = PANEL_LD * (int64_t)sizeof *panel;
    t.padded = true;
    if (o->rows == 1)
        tile(FORM_F32, 1, ALONE, &t);
    else
        tiles_of(FORM_F32, o->rows, t);
}

OB_INLINE void columns(form f, const ob_rows_product *o, int64_t col, int64_t cols, int64_t p) {
    const int64_t size = value_bytes(f);
    const int64_t at = o->w.turned ? p * o->w.ld + col : col * o->w.ld + p;
    tile_args t = {.x = o->x + p,
                   .ldx = o->ldx,
                   .depth = least(OB_CHUNK, o->depth - p),
                   .w = (const char *)o->w.data + at * size,
                   .ldw = o->w.ld * size,
                   .kept = cols,
                   .arranged = f == FORM_BF16 && !o->w.turned,
                   .add = p > 0 || o->beta != 0,
                   .y = o->y + col,
                   .ldy = o->ldy};
    if (f > FORM_BF16)
        coded_group(f, o, col, p, t);
    else if (o->w.turned)
        turned_group(f, o->rows, t);
    else if (o->rows == 1)
        tile(f, 1, ALONE, &t);
    else
        group(f, o->rows >= (f == FORM_F16 ? DECODE_F16 : DECODE_BF16) && f != FORM_F32, o->rows,
              t);
}

OB_INLINE void multiply_form(form f, const ob_rows_product *o) {
    const int64_t wide = o->w.turned ? PANEL : o->rows == 1 ? ALONE : COLS;
    const int64_t block = o->rows <= FEW && !o->w.turned ? wide : BLOCK;
    for (int64_t first = 0; first < o->cols; first += block)
        for (int64_t p = 0; p < o->depth; p += OB_CHUNK)
            for (int64_t col = first; col < least(first + block, o->cols); col += wide)
                columns(f, o, col, least(wide, o->cols - col), p);
}

/* So many rows at a time that a chunk of them stays in the second cache. */
enum { MANY = 128 };

static void multiply_any(const ob_rows_product *o) {
    if (o->w.scale && o->w.kind == MOE_QUANT_INT8)
        multiply_form(FORM_INT8, o);
    else if (o->w.scale && o->w.kind == MOE_QUANT_INT4)
        multiply_form(FORM_INT4, o);
    else if (o->w.scale)
        multiply_form(FORM_FP8, o);
    else if (o->w.type == MOE_F32)
        multiply_form(FORM_F32, o);
    else if (o->w.type == MOE_F16)
        multiply_form(FORM_F16, o);
    else
        multiply_form(FORM_BF16, o);
}

static void multiply(const ob_rows_product *product) {
    ob_rows_product o = *product;
    for (int64_t done = 0; done < product->rows; done += MANY) {
        o.rows = least(MANY, product->rows - done);
        multiply_any(&o);
        o.x += MANY * o.ldx;
        o.y += MANY * o.ldy;
    }
}

#define ob_rows_paste(isa) ob_rows_kernels_##isa
#define ob_rows_of(isa)    ob_rows_paste(isa)
#define QUOTE_OF(isa)      #isa
#define QUOTE(isa)         QUOTE_OF(isa)

extern const ob_rows_kernels ob_rows_of(OB_ISA);
const ob_rows_kernels ob_rows_of(OB_ISA) = {QUOTE(OB_ISA), multiply, arrange};
