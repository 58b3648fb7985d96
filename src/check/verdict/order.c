#include "check/verdict/order.h"

const moe_tensor_id moe_int_order[] = {
    MOE_T_LOGITS,
    MOE_T_S,
    MOE_T_H,
    MOE_T_A,
    MOE_T_Y,
    MOE_T_O,
    MOE_T_DS,
    MOE_T_DH,
    MOE_T_DW2,
    MOE_T_DB2,
    MOE_T_DXP,
    MOE_T_DW1,
    MOE_T_DB1,
    MOE_T_DX,
    MOE_T_DW_R,
    MOE_T_DB_R,
    MOE_T_DW1_SHARED,
    MOE_T_DW2_SHARED,
    MOE_T_DW_GATE_SHARED,
};
const size_t moe_int_order_count = sizeof moe_int_order / sizeof *moe_int_order;

bool moe_int_is_inner_stage(moe_tensor_id id) {
    return id == MOE_T_H || id == MOE_T_A || id == MOE_T_Y || id == MOE_T_DH || id == MOE_T_DXP;
}
