#include "moeref/quant.h"

#include <math.h>
#include <string.h>

/* ---- e4m3 ---- */

#define E4M3_MAX        448.0
#define E4M3_SUBNORMAL  (1.0 / 512) /* the step below 2^-6 */
#define E4M3_MIN_NORMAL (1.0 / 64)

double moe_e4m3_to_f64(uint8_t bits) {
    const int exponent = bits >> 3 & 15, mantissa = bits & 7;
    const double sign = bits & 0x80 ? -1 : 1;
    if ((bits & 0x7f) == 0x7f)
        return NAN;
    return sign * (exponent ? ldexp(8 + mantissa, exponent - 10) : ldexp(mantissa, -9));
}

uint8_t moe_e4m3_from_f64(double value) {
    const uint8_t sign = signbit(value) ? 0x80 : 0;
    const double x = fabs(value);
    int exponent;
    if (isnan(x))
        return sign | 0x7f;
    if (x >= E4M3_MAX)
        return sign | 0x7e;
    if (x < E4M3_MIN_NORMAL) /* 8 steps reach the first normal number, whose bits are 8 */
        return sign | (uint8_t)rint(x / E4M3_SUBNORMAL);
    frexp(x, &exponent); /* x = [0.5, 1) 2^exponent: 8 to 16 steps of 2^(exponent - 4) */
    const int steps = (int)rint(ldexp(x, 4 - exponent));
    return sign | (uint8_t)((exponent + 6) * 8 + steps - 8); /* 16 steps carry into the exponent */
}

/* ---- the kinds ---- */

static double code_fp8(double x) {
    return moe_e4m3_from_f64(x);
}

static double clip(double q, double limit) {
    return q < -limit ? -limit : q > limit ? limit : q;
}

static double code_int8(double x) {
    return clip(rint(x), 127);
}

static double code_int4(double x) {
    return clip(rint(x), 7) + 8;
}

static double code_ternary(double x) {
    return clip(rint(x), 1);
}

static double code_nested(double x) {
    return clip(floor(x) + 0.5, 7.5) + 7.5;
}

static double value_signed(unsigned code, int bits) {
    (void)bits;
    return code >= 128 ? (double)code - 256 : code;
}

static double value_int4(unsigned code, int bits) {
    (void)bits;
    return (double)code - 8;
}

static double value_fp8(unsigned code, int bits) {
    (void)bits;
    return moe_e4m3_to_f64((uint8_t)code);
}

/* The middle of the values whose upper bits these are. */
static double value_nested(unsigned code, int bits) {
    const unsigned dropped = 4 - (unsigned)bits, width = 1U << dropped;
    return (code >> dropped) * (double)width + 0.5 * width - 8;
}

/* In the order of moe_quant_kind. */
static const struct kind {
    const char *name;
    bool packed;    /* two codes in a byte */
    double largest; /* |q| of the largest |w|; 0: the scale is mean |w| */
    double (*code)(double x);
    double (*value)(unsigned code, int bits);
} kinds[MOE_QUANT_COUNT] = {
    [MOE_QUANT_INT8] = {"int8", false, 127, code_int8, value_signed},
    [MOE_QUANT_INT4] = {"int4", true, 7, code_int4, value_int4},
    [MOE_QUANT_FP8] = {"fp8", false, E4M3_MAX, code_fp8, value_fp8},
    [MOE_QUANT_TERNARY] = {"ternary", false, 0, code_ternary, value_signed},
    [MOE_QUANT_NESTED] = {"nested", true, 7.5, code_nested, value_nested},
};
_Static_assert(MOE_QUANT_NESTED + 1 == MOE_QUANT_COUNT, "one row for every moe_quant_kind");

const char *moe_quant_kind_name(int32_t kind) {
    return kind >= 0 && kind < MOE_QUANT_COUNT ? kinds[kind].name : NULL;
}

/* ---- matrices ---- */

static int64_t blocks(int64_t count, int64_t block) {
    return block ? (count + block - 1) / block : count > 0;
}

static int64_t row_bytes(const moe_quant_desc *q, int64_t columns) {
    return kinds[q->kind].packed ? (columns + 1) / 2 : columns;
}

int64_t moe_quant_code_bytes(const moe_quant_desc *q, int64_t rows, int64_t columns) {
    return rows * row_bytes(q, columns);
}

int64_t moe_quant_scales(const moe_quant_desc *q, int64_t rows, int64_t columns) {
    return blocks(rows, q->block_rows) * blocks(columns, q->block_columns);
}

/* Of the scale of element (r, c). */
static int64_t scale_at(const moe_quant_desc *q, int64_t columns, int64_t r, int64_t c) {
    const int64_t row = q->block_rows ? r / q->block_rows : 0;
    return row * blocks(columns, q->block_columns) + (q->block_columns ? c / q->block_columns : 0);
}

static moe_status check(const moe_quant_desc *q, int64_t rows, int64_t columns,
                        const moe_log *log) {
    if (q->kind < 0 || q->kind >= MOE_QUANT_COUNT)
        return moe_fail(log, MOE_E_INVALID, "unknown kind %d of quantised weights", (int)q->kind);
    if (q->bits && (q->kind != MOE_QUANT_NESTED || q->bits < 2 || q->bits > 4))
        return moe_fail(log, MOE_E_INVALID, "%d bits of %s codes", (int)q->bits,
                        kinds[q->kind].name);
    if (rows < 0 || columns < 0 || q->block_rows < 0 || q->block_columns < 0)
        return moe_fail(log, MOE_E_INVALID, "a negative size of quantised weights");
    return MOE_OK;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* The scale of the block whose first element is (r0, c0). */
static moe_status block_scale(const moe_quant_desc *q, const void *w, moe_dtype dtype, int64_t rows,
                              int64_t columns, int64_t r0, int64_t c0, const moe_log *log,
                              float *ret) {
    const int64_t r1 = q->block_rows ? least(rows, r0 + q->block_rows) : rows;
    const int64_t c1 = q->block_columns ? least(columns, c0 + q->block_columns) : columns;
    double most = 0, sum = 0;
    for (int64_t r = r0; r < r1; r++) {
        for (int64_t c = c0; c < c1; c++) {
            const double x = fabs(moe_load(w, dtype, (size_t)(r * columns + c)));
            if (!isfinite(x))
                return moe_fail(log, MOE_E_INVALID,
                                "element [%lld][%lld] of weights to quantise is not finite",
                                (long long)r, (long long)c);
            most = x > most ? x : most;
            sum += x;
        }
    }
    const double largest = kinds[q->kind].largest;
    *ret = (float)(largest > 0 ? most / largest : sum / (double)((r1 - r0) * (c1 - c0)));
    return MOE_OK;
}

static void store_code(bool packed, int64_t c, double code, unsigned char *row) {
    if (!packed)
        row[c] = (unsigned char)(int)code;
    else if (c % 2 == 0)
        row[c / 2] = (unsigned char)code;
    else
        row[c / 2] |= (unsigned char)((unsigned)code << 4);
}

static unsigned load_code(bool packed, int64_t c, const unsigned char *row) {
    if (!packed)
        return row[c];
    return c % 2 == 0 ? row[c / 2] & 15U : row[c / 2] >> 4;
}

moe_status moe_quantise(const moe_quant_desc *q, const void *w, moe_dtype dtype, int64_t rows,
                        int64_t columns, const moe_log *log, void *ret_code, float *ret_scale) {
    moe_status status = check(q, rows, columns, log);
    if (status)
        return status;
    const struct kind *kind = &kinds[q->kind];
    const int64_t high = q->block_rows ? q->block_rows : rows;
    const int64_t wide = q->block_columns ? q->block_columns : columns;
    for (int64_t r = 0; !status && r < rows; r += high)
        for (int64_t c = 0; !status && c < columns; c += wide)
            status = block_scale(q, w, dtype, rows, columns, r, c, log,
                                 &ret_scale[scale_at(q, columns, r, c)]);
    for (int64_t r = 0; !status && r < rows; r++) {
        unsigned char *row = (unsigned char *)ret_code + r * row_bytes(q, columns);
        for (int64_t c = 0; c < columns; c++) {
            const double scale = ret_scale[scale_at(q, columns, r, c)];
            const double x = moe_load(w, dtype, (size_t)(r * columns + c));
            store_code(kind->packed, c, kind->code(scale > 0 ? x / scale : 0), row);
        }
    }
    return status;
}

void moe_dequantise(const moe_quant_desc *q, const void *code, const float *scale, int64_t rows,
                    int64_t columns, moe_dtype dtype, void *ret_w) {
    const struct kind *kind = &kinds[q->kind];
    const int bits = q->bits ? q->bits : 4;
    for (int64_t r = 0; r < rows; r++) {
        const unsigned char *row = (const unsigned char *)code + r * row_bytes(q, columns);
        for (int64_t c = 0; c < columns; c++)
            moe_store(ret_w, dtype, (size_t)(r * columns + c),
                      kind->value(load_code(kind->packed, c, row), bits) *
                          (double)scale[scale_at(q, columns, r, c)]);
    }
}
