/* The project's own CUDA backend (backends/cuda): one persistent kernel for every product. Two
 * consumer warpgroups share tiles of 128 x 256; where no operand is gathered most of the epilogue
 * is hidden under the next tile's products. Y and dX~ take turns with tiles of 128 x 192, which
 * hides it, where takes_turns() says so. dS leaves dH as one partial sum per tile. */
#include "backends/cuda/rounds.h"
#include "backends/cuda/turns.h"
#include "sim/methods/fused.h"
#include "sim/methods/methods.h"

#include <math.h>

/* The share of a shared tile's epilogue that the next tile's products hide, where no operand is
 * gathered: of 0.5 to 1 in tenths the one that fits golden/timing/h100-sxm/moeref.json best;
 * rounding is exposed. Where one is gathered, nothing: consumers fence what cp.async wrote before
 * every stage's products, and the fence waits for their own stores (backends/cuda/LOG.md). */
#define HIDDEN 0.8

static const moe_int_tile wide_shape[] = {{128, 256, 1}}, turns_shape[] = {{128, 192, 1}};
static const moe_int_tiles gathered = {wide_shape, 1, 1},
                           deferred = {wide_shape, 1, 1, .hidden = HIDDEN},
                           turns = {turns_shape, 1, 1, .hidden = 1};

/* C has d columns. */
static const moe_int_tiles *either(const moe_int_list *l, double k) {
    return takes_turns((long)l->d, (long)k) ? &turns : &deferred;
}

/* The router's products go through the portable GEMM (generic_gemm.cu): tiles of 128 x 128, two
 * stages of 32 columns, no multicast, results in fp32. These four numbers are fitted to the three
 * layers of golden/timing/h100-sxm/bench.json; sim/CALIBRATION.md says how well. */
#define PORTABLE_TENSOR   0.2164 /* of the method's own tensor rate */
#define PORTABLE_EPILOGUE 19     /* bytes for each accumulator; 4 of them leave */
#define CHOICE_RATE       0.0245 /* rounds of a warp over a token's experts, a clock and SM */

/* The sort (metadata.cu) in one launch: a block a multiprocessor sorts a chunk of the choices, and
 * adds up every block's counts of every expert, each of which delays all by COUNT_WORK choices.
 * Fitted to the ten layers of golden/timing/h200/sonicmoe.json, mean error 3.3 %. */
#define SORT_RATE      0.051 /* choices, a clock and SM */
#define COUNT_WORK     3.15
#define LEAST_OF_CHUNK 256 /* tokens */

#define LEAST_OF_SLICE 256 /* tokens, as in token_sums.cu */

static const moe_int_tile portable = {128, 128, 1};

static double router_outputs(const moe_int_list *l) {
    return (double)(l->work->layer->E + l->work->layer->n_zero);
}

static void portable_gemm(moe_int_list *l, moe_stage stage, moe_int_gemm g) {
    g.element = l->element;
    g.write = (double)g.groups * g.m * g.n * 4;
    g.epilogue = PORTABLE_EPILOGUE;
    g.tensor = PORTABLE_TENSOR;
    g.load = g.cluster = 1;
    moe_int_list_tiled(l, stage, &g, portable);
}

/* Top-K takes a round of its warp for each choice, and about two to load, score and weigh. */
static void router_forward(moe_int_list *l) {
    const double outputs = router_outputs(l), e = l->element;
    portable_gemm(l, MOE_STAGE_ROUTER,
                  (moe_int_gemm){.groups = 1,
                                 .m = l->T,
                                 .n = outputs,
                                 .k = l->hidden,
                                 .read = (l->T + outputs) * l->hidden * e});
    moe_int_list_slow(l, MOE_STAGE_TOPK, l->T * outputs * 4, l->P * 8, l->T * (l->K + 2),
                      CHOICE_RATE);
    const double blocks = fmin(l->r.sms, ceil(l->T / LEAST_OF_CHUNK));
    moe_int_list_slow(l, MOE_STAGE_SORT, l->P * 12, l->P * 12, l->P + COUNT_WORK * blocks * outputs,
                      SORT_RATE);
}

/* The logits' gradient is the sum of two 16-bit numbers; slices of tokens as in token_sums.cu. */
static void router_backward(moe_int_list *l) {
    const double outputs = router_outputs(l), e = l->element, dz = 2 * l->T * outputs * e;
    const double tiles = ceil(outputs / portable.m) * ceil(l->hidden / portable.n);
    const double slices = fmax(1, fmin(floor(2 * l->r.sms / tiles), floor(l->T / LEAST_OF_SLICE)));
    moe_int_list_stream(l, MOE_STAGE_D_LOGITS, l->T * outputs * 4 + l->P * 8, dz);
    portable_gemm(l, MOE_STAGE_DX_ROUTER,
                  (moe_int_gemm){.groups = 1,
                                 .m = l->T,
                                 .n = l->hidden,
                                 .k = 2 * outputs,
                                 .read = dz + outputs * l->hidden * e});
    portable_gemm(l, MOE_STAGE_DW_R,
                  (moe_int_gemm){.groups = (int64_t)slices,
                                 .m = outputs,
                                 .n = l->hidden,
                                 .k = l->T / slices,
                                 .read = dz / 2 + l->T * l->hidden * e});
    moe_int_list_stream(l, MOE_STAGE_DW_R_SUM, slices * outputs * l->hidden * 4,
                        outputs * l->hidden * 4);
}

/* O and dX: a warp looks a token's pairs up, which takes two latencies, and walks their rows in
 * rounds of loads (backends/cuda/rounds.h). A round takes a latency and, while the multiprocessor
 * runs as many warps as it can, ROUND_CLOCKS and PAIR_CLOCKS for each load: looking up, arithmetic,
 * other warps. Fitted to O and dX of 17 shapes on an H100 and 8 on an H200. */
#define ROUND_CLOCKS 2774
#define PAIR_CLOCKS  273

static double rounds_us(const moe_int_list *l) {
    const bool few = l->K <= FEW_PAIRS;
    const double pairs = l->T > 0 ? l->P / l->T : 0, latency = l->r.hbm_latency;
    const double steps_of_round = few ? FEW_STEPS : ROUND_STEPS;
    const double pieces = ceil(l->d / (ROUND_COLUMNS * steps_of_round));
    const double loads = pairs * l->d / ROUND_COLUMNS / pieces;
    const double rounds = ceil(pairs / (few ? FEW_PAIRS : ROUND_PAIRS));
    const double slices = fmax(1, fmin(pieces, floor(ROUNDS_FILLED / fmax(1, l->T))));
    const double full = l->T * slices / (l->r.sms * (few ? FEW_WARPS : ROUND_WARPS));
    const double waves = fmax(1, full), busy = fmin(1, full);
    const double piece = rounds * (latency + busy * ROUND_CLOCKS) + busy * loads * PAIR_CLOCKS;
    return (waves * pieces / slices * piece + (waves - 1) * 2 * latency) / l->r.clock;
}

static moe_int_fused flow_of(const moe_int_list *l) {
    return (moe_int_fused){.a = &gathered,
                           .y = either(l, l->n),
                           .dh = &gathered,
                           .dxp = either(l, l->h),
                           .dw = &gathered,
                           .ds_columns = 256,
                           .rounds_us = rounds_us,
                           .dx_last = true};
}

static void forward(moe_int_list *l) {
    const moe_int_fused flow = flow_of(l);
    if (l->work->with_router)
        router_forward(l);
    else
        moe_int_list_stream(l, MOE_STAGE_METADATA, l->P * 12, l->P * 12);
    moe_int_fused_forward(l, &flow);
}

static void backward(moe_int_list *l) {
    moe_int_fused flow = flow_of(l);
    if (l->work->with_router) {
        flow.before_dx = router_backward;
        flow.dx_read = l->T * l->hidden * 4;
    }
    moe_int_fused_backward(l, &flow);
}

const moe_int_method moe_int_method_moeref = {"this project's own CUDA backend", forward, backward,
                                              .own_router = true, .arch = {90, 90}};
