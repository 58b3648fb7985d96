/* SonicMoE (arXiv 2512.14080). Tiles, clusters and ping-pong as its first release compiles them for
 * Hopper (github.com/Dao-AILab/sonic-moe, sonicmoe/functional/moe_config.py): clusters of two CTAs
 * along the rows of an expert, so that rows are padded to 256, whatever M token rounding rounds to.
 */
#include "sim/methods/fused.h"
#include "sim/methods/methods.h"

static const moe_int_tile wide_shape[] = {{128, 256, 1}}, middle_shape[] = {{128, 192, 1}},
                          square_shape[] = {{128, 128, 1}};
static const moe_int_tiles wide = {wide_shape, 1, 1, .cluster = 2},
                           middle = {middle_shape, 1, 1, .cluster = 2, .hidden = 1},
                           square = {square_shape, 1, 1, .cluster = 2, .hidden = 1};

static moe_int_fused flow_of(const moe_int_list *l) {
    return (moe_int_fused){.a = &wide,
                           .y = l->n >= 1024 ? &wide : &middle,
                           .dh = &square,
                           .dxp = l->n >= 512 ? &wide : &middle,
                           .dw = &wide,
                           .ds_columns = 128};
}

static void forward(moe_int_list *l) {
    const moe_int_fused flow = flow_of(l);
    moe_int_list_stream(l, MOE_STAGE_METADATA, l->P * 12, l->P * 12);
    moe_int_fused_forward(l, &flow);
}

static void backward(moe_int_list *l) {
    const moe_int_fused flow = flow_of(l);
    moe_int_fused_backward(l, &flow);
}

const moe_int_method moe_int_method_sonicmoe = {
    "SonicMoE: fused gathers and epilogues, minimal cache", forward, backward, .arch = {90, 90}};
