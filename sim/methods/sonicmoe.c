/* SonicMoE (arXiv 2512.14080). Row tiles are 128, its token rounding's M; columns as its GEMM
 * library offers them, the fastest taken. */
#include "fused.h"

static const moe_tile shapes[] = {
    {128, 128, 1}, {128, 160, 1}, {128, 192, 1}, {128, 256, 1}, {256, 128, 1}};
static const moe_tiles tiles = {shapes, sizeof shapes / sizeof *shapes, 1};
static const moe_fused flow = {.tiles = &tiles, .dh_tiles = &tiles};

static void forward(moe_list *l) {
    moe_int_fused_forward(l, &flow);
}

static void backward(moe_list *l) {
    moe_int_fused_backward(l, &flow);
}

const moe_method moe_int_sonicmoe = {"sonicmoe",
                                     "SonicMoE: fused gathers and epilogues, minimal cache",
                                     MOE_SYS_SONICMOE, forward, backward};
