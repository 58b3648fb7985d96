/* The project's own CUDA backend (backends/cuda): one persistent kernel for every product. Two
 * consumer warpgroups share tiles of 128 x 256 and the epilogue is exposed; Y and dX~ take turns
 * with tiles of 128 x 192 where K is short (takes_turns in tensor_maps.cu), which hides it. dS
 * leaves dH as one partial sum per tile. */
#include "fused.h"

static const moe_tile wide_shape[] = {{128, 256, 1}}, turns_shape[] = {{128, 192, 1}};
static const moe_tiles wide = {wide_shape, 1, 1}, turns = {turns_shape, 1, 1, .hidden = 1};

static const moe_tiles *by_depth(double k) {
    const double blocks = k / 64;
    return blocks >= 8 && blocks <= 32 ? &turns : &wide;
}

static moe_fused flow_of(const moe_list *l) {
    return (moe_fused){.a = &wide,
                       .y = by_depth(l->n),
                       .dh = &wide,
                       .dxp = by_depth(l->h),
                       .dw = &wide,
                       .ds_columns = 256};
}

static void forward(moe_list *l) {
    const moe_fused flow = flow_of(l);
    moe_int_fused_forward(l, &flow);
}

static void backward(moe_list *l) {
    const moe_fused flow = flow_of(l);
    moe_int_fused_backward(l, &flow);
}

const moe_method moe_int_moeref = {"moeref", "this project's own CUDA backend", MOE_SYS_MOEREF,
                                   forward, backward};
