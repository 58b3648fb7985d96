#include "layer/cut.h"

static void cut_rows(const moe_layer_desc *layer, int64_t first, int64_t units, int64_t width,
                     moe_int_cut_fn tell, void *user) {
    const int64_t n = layer->n, whole = moe_h_width(layer, n), part = moe_h_width(layer, units);
    for (int up = 0; up < (whole == n ? 1 : 2); up++)
        for (int64_t j = 0; j < units; j++)
            tell(user, moe_h_column(layer->glu_layout, n, whole, first + j, up) * width,
                 moe_h_column(layer->glu_layout, units, part, j, up) * width, width);
}

void moe_int_cut(const moe_layer_desc *layer, moe_tensor_id id, int64_t first, int64_t units,
                 moe_int_cut_fn tell, void *user) {
    switch ((int)id) {
    case MOE_T_W1:
    case MOE_T_DW1:
        cut_rows(layer, first, units, layer->d, tell, user);
        break;
    case MOE_T_B1:
    case MOE_T_DB1:
        cut_rows(layer, first, units, 1, tell, user);
        break;
    case MOE_T_W2:
    case MOE_T_DW2:
        for (int64_t i = 0; i < layer->d; i++)
            tell(user, i * layer->n + first, i * units, units);
        break;
    case MOE_T_B2:
    case MOE_T_DB2:
        tell(user, 0, 0, layer->d);
        break;
    default:
        break;
    }
}
