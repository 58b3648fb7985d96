/* Weights in few bits: what the codes and scales of a matrix are, and the values that they stand
 * for. A kernel that reads such weights computes the layer whose weights are those values.
 *
 * A matrix is [rows][columns], row-major, columns being what a product sums over. A block of
 * block_rows x block_columns elements has one scale; blocks at the right and lower edge are
 * smaller. 128 x 128 is DeepSeek-V3's for weights, 1 x 128 that of its activations (arXiv
 * 2412.19437), 1 x 32 to 1 x 128 a "group", 1 x columns one scale a row ("channel", "token"). */
#ifndef MOEREF_QUANT_H
#define MOEREF_QUANT_H

#include "moeref/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the code q of w / scale is, rounded to nearest with ties to even, and what the scale is;
 * value = q scale. The scale of a block of zeros is 0. */
typedef enum moe_quant_kind {
    MOE_QUANT_INT8 = 0,    /* q = -127 .. 127; scale = max |w| / 127; a byte each */
    MOE_QUANT_INT4 = 1,    /* q = -7 .. 7; scale = max |w| / 7; two in a byte, as q + 8, the even
                              column low; each row starts a new byte */
    MOE_QUANT_FP8 = 2,     /* q of e4m3 (no infinities, at most 448); scale = max |w| / 448 */
    MOE_QUANT_TERNARY = 3, /* q = -1, 0, 1; scale = mean |w| (BitNet b1.58, MoTE); a byte each */
    MOE_QUANT_NESTED = 4,  /* q = c - 7.5, c = 0 .. 15; scale = max |w| / 7.5; packed as int4, c in
                              place of q + 8. Codes of fewer bits are c's upper ones (D2MoE) */
    MOE_QUANT_COUNT
} moe_quant_kind;

/* Thread-safety: plain data. */
typedef struct moe_quant_desc {
    int32_t kind;                      /* moe_quant_kind */
    int32_t bits;                      /* nested: bits to read, 2 to 4; 0: all */
    int64_t block_rows, block_columns; /* 0: all rows, all columns */
} moe_quant_desc;

/* "int8", "int4", "fp8", "ternary" or "nested", as the case grammar has it; NULL: no kind. */
MOE_API const char *moe_quant_kind_name(int32_t kind);

/* Bytes of a matrix' codes, and number of its scales: [row blocks][column blocks]. */
MOE_API int64_t moe_quant_code_bytes(const moe_quant_desc *q, int64_t rows, int64_t columns);
MOE_API int64_t moe_quant_scales(const moe_quant_desc *q, int64_t rows, int64_t columns);

/* Fills the codes and scales of w, whose values are of any floating type. Scales are rounded to
 * float32 before codes are made with them. MOE_E_INVALID: an unknown kind, a negative size, or a
 * value that is not finite; MOE_E_NOMEM. Thread-safety: any thread. */
MOE_API moe_status moe_quantise(const moe_quant_desc *q, const void *w, moe_dtype dtype,
                                int64_t rows, int64_t columns, const moe_log *log, void *ret_code,
                                float *ret_scale);

/* The values that codes stand for, each rounded once to `dtype`. Thread-safety: any thread. */
MOE_API void moe_dequantise(const moe_quant_desc *q, const void *code, const float *scale,
                            int64_t rows, int64_t columns, moe_dtype dtype, void *ret_w);

/* ---- ternary codes in less than a bit each (QMoE, Frantar and Alistarh) ----
 * A word of 16 bits stands for a run of 2 to 28 codes -1, 0 or 1: of all runs the 65536 that are
 * likeliest where a share `zeros` of codes is 0 and -1 is as frequent as 1. Rows are packed one by
 * one, longest run first; at 88 % of zeros a code takes some 0.8 bits.
 * Thread-safety: const calls from any thread. */
typedef struct moe_ternary_words moe_ternary_words;

/* MOE_E_INVALID: zeros is not 0.34 to 0.9999; MOE_E_NOMEM. */
MOE_API moe_status moe_ternary_words_make(double zeros, const moe_log *log,
                                          moe_ternary_words **ret);
MOE_API void moe_ternary_words_destroy(moe_ternary_words **words);

/* Packs codes [rows][columns], each -1, 0 or 1 as moe_quantise makes them of MOE_QUANT_TERNARY.
 * Returns the number of words; ret_word has room for rows ceil(columns / 2), NULL: they are
 * counted alone. Row r's are ret_offset[r] .. ret_offset[r+1]-1, [rows + 1]; NULL: not wanted. */
MOE_API int64_t moe_ternary_pack(const moe_ternary_words *words, const int8_t *code, int64_t rows,
                                 int64_t columns, uint16_t *ret_word, int64_t *ret_offset);
/* The codes [columns] of one row, from its `count` words. */
MOE_API void moe_ternary_unpack(const moe_ternary_words *words, const uint16_t *word, int64_t count,
                                int64_t columns, int8_t *ret_code);

/* e4m3 as in OCP's 8-bit format (E4M3, bias 7, 0x7f is NaN): to nearest, ties to even; what is
 * above 448 becomes 448. */
MOE_API uint8_t moe_e4m3_from_f64(double value);
MOE_API double moe_e4m3_to_f64(uint8_t bits);

#ifdef __cplusplus
}
#endif
#endif
