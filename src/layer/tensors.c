/* The table of a layer's tensors: name, role, shape, and when it exists. */
#include "moeref/layer.h"

#include <string.h>

/* One letter per dimension:
 *   T tokens   d width   n expert width   h columns of H   E experts   R router outputs (E + zero)
 *   P pairs of real experts   Q all pairs   s shared width   g columns of the shared H   1 one */
typedef struct tensor_row {
    const char *name;
    const char *dims;
    moe_tensor_role role;
    char needs; /* 'b' expert biases, 's' shared, 'g' shared gate, 'r' router, 'B' router bias,
                   'c' selection bias, ' ' always */
    moe_tensor_id param;
} tensor_row;

#define NONE MOE_T_COUNT

static const tensor_row table[MOE_T_COUNT] = {
    [MOE_T_X] = {"X", "Td", MOE_ROLE_INPUT, ' ', NONE},
    [MOE_T_DO] = {"dO", "Td", MOE_ROLE_INPUT, ' ', NONE},
    [MOE_T_W_R] = {"W_r", "Rd", MOE_ROLE_PARAM, 'r', NONE},
    [MOE_T_B_R] = {"b_r", "R", MOE_ROLE_PARAM, 'B', NONE},
    [MOE_T_B_SELECT] = {"b_select", "R", MOE_ROLE_PARAM, 'c', NONE},
    [MOE_T_W1] = {"W1", "Ehd", MOE_ROLE_PARAM, ' ', NONE},
    [MOE_T_B1] = {"b1", "Eh", MOE_ROLE_PARAM, 'b', NONE},
    [MOE_T_W2] = {"W2", "Edn", MOE_ROLE_PARAM, ' ', NONE},
    [MOE_T_B2] = {"b2", "Ed", MOE_ROLE_PARAM, 'b', NONE},
    [MOE_T_W1_SHARED] = {"W1_shared", "gd", MOE_ROLE_PARAM, 's', NONE},
    [MOE_T_W2_SHARED] = {"W2_shared", "ds", MOE_ROLE_PARAM, 's', NONE},
    [MOE_T_W_GATE_SHARED] = {"w_gate_shared", "1d", MOE_ROLE_PARAM, 'g', NONE},
    [MOE_T_LOGITS] = {"router_logits", "TR", MOE_ROLE_STAGE, 'r', NONE},
    [MOE_T_S] = {"topk_weight", "Q", MOE_ROLE_STAGE, ' ', NONE},
    [MOE_T_H] = {"H", "Ph", MOE_ROLE_STAGE, ' ', NONE},
    [MOE_T_A] = {"A", "Pn", MOE_ROLE_STAGE, ' ', NONE},
    [MOE_T_Y] = {"Y", "Pd", MOE_ROLE_STAGE, ' ', NONE},
    [MOE_T_O] = {"O", "Td", MOE_ROLE_FORWARD, ' ', NONE},
    [MOE_T_DS] = {"dS", "Q", MOE_ROLE_BACKWARD, ' ', NONE},
    [MOE_T_DH] = {"dH", "Ph", MOE_ROLE_STAGE, ' ', NONE},
    [MOE_T_DXP] = {"dXp", "Pd", MOE_ROLE_STAGE, ' ', NONE},
    [MOE_T_DX] = {"dX", "Td", MOE_ROLE_BACKWARD, ' ', NONE},
    [MOE_T_DW_R] = {"dW_r", "Rd", MOE_ROLE_BACKWARD, 'r', MOE_T_W_R},
    [MOE_T_DB_R] = {"db_r", "R", MOE_ROLE_BACKWARD, 'B', MOE_T_B_R},
    [MOE_T_DW1] = {"dW1", "Ehd", MOE_ROLE_BACKWARD, ' ', MOE_T_W1},
    [MOE_T_DB1] = {"db1", "Eh", MOE_ROLE_BACKWARD, 'b', MOE_T_B1},
    [MOE_T_DW2] = {"dW2", "Edn", MOE_ROLE_BACKWARD, ' ', MOE_T_W2},
    [MOE_T_DB2] = {"db2", "Ed", MOE_ROLE_BACKWARD, 'b', MOE_T_B2},
    [MOE_T_DW1_SHARED] = {"dW1_shared", "gd", MOE_ROLE_BACKWARD, 's', MOE_T_W1_SHARED},
    [MOE_T_DW2_SHARED] = {"dW2_shared", "ds", MOE_ROLE_BACKWARD, 's', MOE_T_W2_SHARED},
    [MOE_T_DW_GATE_SHARED] = {"dw_gate_shared", "1d", MOE_ROLE_BACKWARD, 'g', MOE_T_W_GATE_SHARED},
};

const char *moe_tensor_name(moe_tensor_id id) {
    return (unsigned)id < MOE_T_COUNT ? table[id].name : "?";
}

moe_tensor_role moe_tensor_role_of(moe_tensor_id id) {
    return table[id].role;
}

bool moe_tensor_is_backward(moe_tensor_id id) {
    return table[id].role == MOE_ROLE_BACKWARD || id == MOE_T_DH || id == MOE_T_DXP;
}

moe_tensor_id moe_tensor_param_of(moe_tensor_id id) {
    return table[id].param;
}

bool moe_tensor_is_of_pairs(moe_tensor_id id) {
    return table[id].dims[0] == 'P' || table[id].dims[0] == 'Q';
}

moe_status moe_tensor_id_parse(const char *name, moe_tensor_id *ret) {
    for (int id = 0; id < MOE_T_COUNT; id++) {
        if (strcmp(name, table[id].name) == 0) {
            *ret = (moe_tensor_id)id;
            return MOE_OK;
        }
    }
    return MOE_E_NOTFOUND;
}

int moe_tensor_exists(const moe_layer_desc *desc, moe_tensor_id id, int plan_given) {
    switch (table[id].needs) {
    case 'b':
        return desc->expert_bias != 0;
    case 's':
        return desc->n_shared > 0;
    case 'g':
        return desc->n_shared > 0 && desc->shared_gate;
    case 'r':
        return !plan_given;
    case 'B':
        return !plan_given && desc->router.bias;
    case 'c':
        return !plan_given && desc->router.select_bias;
    default:
        return 1;
    }
}

void moe_tensor_shape(const moe_layer_desc *desc, moe_tensor_id id, int64_t tokens, int64_t pairs,
                      int64_t all_pairs, moe_tensor *ret) {
    const char *dims = table[id].dims;
    ret->ndim = (int32_t)strlen(dims);
    memset(ret->shape, 0, sizeof ret->shape);
    for (int i = 0; i < ret->ndim; i++) {
        int64_t size = 1;
        switch (dims[i]) {
        case 'T':
            size = tokens;
            break;
        case 'd':
            size = desc->d;
            break;
        case 'n':
            size = desc->n;
            break;
        case 'h':
            size = moe_h_width(desc, desc->n);
            break;
        case 'E':
            size = desc->E;
            break;
        case 'R':
            size = desc->E + desc->n_zero;
            break;
        case 'P':
            size = pairs;
            break;
        case 'Q':
            size = all_pairs;
            break;
        case 's':
            size = desc->n_shared;
            break;
        case 'g':
            size = moe_h_width(desc, desc->n_shared);
            break;
        }
        ret->shape[i] = size;
    }
}

void moe_tensors_destroy(moe_tensors *set) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        moe_tensor_destroy(&set->t[id]);
}
