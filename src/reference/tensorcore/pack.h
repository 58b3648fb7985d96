/* Matrices as factors: what chains multiply. */
#ifndef MOE_REFERENCE_TENSORCORE_PACK_H
#define MOE_REFERENCE_TENSORCORE_PACK_H

#include "moeref/status.h"
#include "reference/tensorcore/lanes.h"

/* One matrix as the left or right operand: element (i, k) is the code at
 * i_map[i] * i_stride + k_map[k] * k_stride; a map that is NULL is the identity. */
typedef struct moe_int_operand {
    const void *codes; /* of the format, or fp32 numbers that a 16-bit format holds */
    int64_t i_stride, k_stride;
    const int32_t *i_map, *k_map;
    bool is_fp32;
} moe_int_operand;

/* Factors of an operand, zero-filled to whole blocks of K and whole groups of lanes. */
typedef struct moe_int_packed {
    moe_int_factors all;
    int64_t count, k; /* before zeros were added */
    int64_t padded;   /* k with them */
} moe_int_packed;
typedef enum moe_int_packing {
    MOE_INT_PACK_LEFT = 0,
    MOE_INT_PACK_RIGHT = 1,
    MOE_INT_PACK_VALUES = 2 /* for units of fp32 too */
} moe_int_packing;

/* Elements first .. first + count - 1 of i. MOE_E_NOMEM. */
moe_status moe_int_pack(const moe_int_operand *from, moe_int_format format, moe_int_packing how,
                        int64_t first, int64_t count, int64_t k, moe_int_packed *ret);
void moe_int_packed_destroy(moe_int_packed *p);

#endif
