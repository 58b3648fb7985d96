/* Tile by tile: codes are gathered as they will lie, [k][lanes], and decoded in one run. */
#include "reference/tensorcore/pack.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = MOE_INT_LANES, LONGEST_BLOCK = 32, DEPTH = 64, TILE = DEPTH * LANES };

static const moe_dtype dtype_of[MOE_INT_FORMATS] = {
    [MOE_INT_FORMAT_BF16] = MOE_BF16, [MOE_INT_FORMAT_FP16] = MOE_F16};

/* `width` neighbours i .. of `from`, and k .. k + count - 1, among `lanes`; codes[count][lanes] is
 * zero before. */
typedef struct tile {
    const moe_int_operand *from;
    int64_t i, width, k, count, lanes;
} tile;

static int64_t mapped(const int32_t *map, int64_t i) {
    return map ? map[i] : i;
}

/* The loops of one type of element. A row of neighbours is copied where it lies in one piece. */
#define GATHER(type)                                                                               \
    static void gather_##type(const tile *t, type *ret) {                                          \
        const moe_int_operand *from = t->from;                                                     \
        const type *codes = from->codes;                                                           \
        const bool whole = t->width > 1 && from->i_stride == 1 && !from->i_map;                    \
        for (int64_t k = 0; whole && k < t->count; k++)                                            \
            memcpy(ret + k * t->lanes,                                                             \
                   codes + t->i + mapped(from->k_map, t->k + k) * from->k_stride,                  \
                   (size_t)t->width * sizeof *ret);                                                \
        for (int64_t l = 0; !whole && l < t->width; l++) {                                         \
            const type *row = codes + mapped(from->i_map, t->i + l) * from->i_stride;              \
            for (int64_t k = 0; k < t->count; k++)                                                 \
                ret[k * t->lanes + l] = row[mapped(from->k_map, t->k + k) * from->k_stride];       \
        }                                                                                          \
    }
GATHER(uint8_t)
GATHER(uint16_t)
GATHER(float)

static void gather(const tile *t, moe_int_format format, uint16_t ret[TILE]) {
    const size_t all = (size_t)(t->count * t->lanes);
    uint8_t bytes[TILE];
    float numbers[TILE];
    if (t->from->is_fp32) {
        memset(numbers, 0, all * sizeof *numbers);
        gather_float(t, numbers);
        moe_convert(ret, dtype_of[format], numbers, MOE_F32, all);
    } else if (moe_int_layouts[format].bytes == 2) {
        memset(ret, 0, all * sizeof *ret);
        gather_uint16_t(t, ret);
    } else {
        memset(bytes, 0, all);
        gather_uint8_t(t, bytes);
        for (size_t i = 0; i < all; i++)
            ret[i] = bytes[i];
    }
}

static void fill_values(const moe_int_factors *f, int64_t first, int64_t count, int fraction) {
    for (int64_t i = first; i < first + count; i++)
        f->value[i] = f->exp[i] != MOE_INT_SPECIAL ? ldexpf((float)f->sig[i], f->exp[i] - fraction)
                      : f->sig[i]                  ? copysignf(INFINITY, (float)f->sig[i])
                                                   : NAN;
}

/* Lanes i .. of the operand, `width` of them there, to factors from element `at` on. */
static void pack_lanes(const moe_int_operand *from, moe_int_format format, int64_t i, int64_t width,
                       int64_t lanes, const moe_int_packed *p, int64_t at) {
    uint16_t codes[TILE];
    for (int64_t k = 0; k < p->padded; k += TILE / lanes) {
        const int64_t depth = p->padded - k < TILE / lanes ? p->padded - k : TILE / lanes;
        const int64_t there = p->k - k < depth ? p->k - k : depth, to = at + k * lanes;
        const tile t = {from, i, width, k, there > 0 ? there : 0, lanes};
        gather(&t, format, codes);
        memset(codes + t.count * lanes, 0, (size_t)((depth - t.count) * lanes) * sizeof *codes);
        moe_int_decode_all(format, codes, depth * lanes, p->all.sig + to, p->all.exp + to);
        if (p->all.value)
            fill_values(&p->all, to, depth * lanes, moe_int_layouts[format].fraction);
    }
}

moe_status moe_int_pack(const moe_int_operand *from, moe_int_format format, moe_int_packing how,
                        int64_t first, int64_t count, int64_t k, moe_int_packed *ret) {
    const int64_t lanes = how & MOE_INT_PACK_RIGHT ? LANES : 1;
    const int64_t padded = (k + LONGEST_BLOCK - 1) / LONGEST_BLOCK * LONGEST_BLOCK;
    const size_t all = (size_t)((count + lanes - 1) / lanes * lanes * padded) + 1;
    moe_int_packed p = {
        .all = {malloc(all * 2), malloc(all * 2), NULL}, .count = count, .k = k, .padded = padded};
    if (how & MOE_INT_PACK_VALUES)
        p.all.value = malloc(all * sizeof(float));
    if (!p.all.sig || !p.all.exp || (!p.all.value && (how & MOE_INT_PACK_VALUES))) {
        moe_int_packed_destroy(&p);
        return MOE_E_NOMEM;
    }
    for (int64_t i = 0; i < count; i += lanes)
        pack_lanes(from, format, first + i, count - i < lanes ? count - i : lanes, lanes, &p,
                   i * padded);
    *ret = p;
    return MOE_OK;
}

void moe_int_packed_destroy(moe_int_packed *p) {
    free(p->all.sig);
    free(p->all.exp);
    free(p->all.value);
    *p = (moe_int_packed){0};
}
