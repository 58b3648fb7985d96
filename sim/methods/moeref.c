/* The project's own CUDA backend (backends/cuda): 128x256 tiles shared by two consumer warpgroups;
 * dH has a long epilogue and takes ping-pong tiles of 128x128, which hide it; dS leaves dH as one
 * partial sum per tile. */
#include "fused.h"

static const moe_tile wide_shape[] = {{128, 256, 1}}, dh_shape[] = {{128, 128, 1}};
static const moe_tiles wide = {wide_shape, 1, 1}, dh = {dh_shape, 1, 1};
static const moe_fused flow = {
    .tiles = &wide, .dh_tiles = &dh, .dh_hidden = 1, .ds_parts_columns = 128};

static void forward(moe_list *l) {
    moe_int_fused_forward(l, &flow);
}

static void backward(moe_list *l) {
    moe_int_fused_backward(l, &flow);
}

const moe_method moe_int_moeref = {"moeref", "this project's own CUDA backend, as designed",
                                   MOE_SYS_MOEREF, forward, backward};
