/* The fused MoE kernels of vLLM and SGLang (Triton), forward: align block sizes, GEMM1 that gathers
 * on load, activation, GEMM2, sum. Both look for a file of tuned tiles for (E, n, GPU). With one,
 * or with vLLM's size-dependent fallback, the best tile is close to what runs. SGLang's fallback is
 * one rule: 16x32 while T <= E, 64x64 above. */
#include "sim/gpus/storage.h"
#include "sim/methods/methods.h"

#include <math.h>
#include <string.h>

static const moe_int_tile tuned_shapes[] = {{16, 64, 1},  {16, 128, 1},  {16, 256, 1}, {32, 64, 1},
                                            {32, 128, 1}, {64, 64, 1},   {64, 128, 1}, {64, 256, 1},
                                            {128, 64, 1}, {128, 128, 1}, {128, 256, 1}};
static const moe_int_tiles tuned = {tuned_shapes, sizeof tuned_shapes / sizeof *tuned_shapes, 1,
                                    .cluster = 1, .narrow = true};
static const moe_int_tile few_shape[] = {{16, 32, 1}}, many_shape[] = {{64, 64, 1}};
static const moe_int_tiles few = {few_shape, 1, 1, .cluster = 1, .narrow = true},
                           many = {many_shape, 1, 1, .cluster = 1, .narrow = true};

/* vLLM's fallback (get_default_config, fused_moe.py) has tiles of so many rows. */
static int fallback_rows(double T) {
    return T <= 32 ? 16 : T <= 96 ? 32 : T <= 512 ? 64 : 128;
}

/* Files of tuned tiles for experts that L2 does not hold (configs/ beside fused_moe.py): row tiles
 * of an expert share its weights there. The H100 and the A100 have none for these. */
static bool has_file(const moe_int_list *l) {
    const char *name = moe_gpu_name(l->gpu);
    return l->E == 8 && l->n == 14336 &&
           (strncmp(name, "h200", 4) == 0 || strcmp(name, "mi300x") == 0);
}

/* While T/E is at most 128 the fallback takes row tiles one after another (GROUP_SIZE_M = 1): each
 * meets all weights of its expert before the next one does, which reads again what L2 did not keep.
 * weights: an expert's for one product; ret: all experts'; bytes. */
static double read_again(const moe_int_list *l, double weights) {
    const double rows = fallback_rows(l->T), lost = fmax(0, 1 - l->r.l2_bytes / weights);
    double tiles = 0;
    if (floor(l->T / l->E) > 128 || has_file(l))
        return 0;
    for (int64_t e = 0; lost > 0 && e < (int64_t)l->E; e++)
        tiles += fmax(0, ceil((double)l->counts[e] / rows) - 1);
    return tiles * weights * lost;
}

static void layer(moe_int_list *l, const moe_int_tiles *tiles) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double Td = l->T * l->d * e, To = l->T * l->d * l->operand, Ao = l->P * l->n * l->operand;
    /* The fallback above T = E steps 32 deep: weights come in pieces of half a cache line. */
    const double more = tiles == &many ? l->r.half_lines * l->active * l->d * l->weight : 0;
    const bool alone = tiles == &tuned; /* SGLang's fallback takes eight row tiles together */
    moe_int_list_stream(l, MOE_STAGE_TOPK, l->T * l->E * e, l->P * 12);
    moe_int_list_stream(l, MOE_STAGE_ALIGN, l->P * 8, l->P * 8);
    const bool converts = l->operand != e;
    if (converts) { /* X in the products' type, in the order of tokens */
        moe_int_list_alloc(l, "X converted", To);
        moe_int_list_stream(l, MOE_STAGE_X_GROUPED, Td, To);
    }
    moe_int_list_alloc(l, "X", Td);
    moe_int_list_alloc(l, "H", Ph);
    moe_int_list_gemm(l, MOE_STAGE_H, MOE_INT_OP_H,
                      (moe_int_traffic){.read = To + more * l->h,
                                        .again = alone ? read_again(l, l->h * l->d * l->weight) : 0,
                                        .write = Ph,
                                        .region = To},
                      tiles);
    moe_int_list_alloc(l, "A", Pn);
    moe_int_list_stream(l, MOE_STAGE_A, Ph, Pn);
    if (converts) {
        moe_int_list_alloc(l, "A converted", Ao);
        moe_int_list_stream(l, MOE_STAGE_A, Pn, Ao);
    }
    moe_int_list_alloc(l, "Y", Pd);
    moe_int_list_gemm(l, MOE_STAGE_Y, MOE_INT_OP_Y,
                      (moe_int_traffic){.read = Ao + more * l->n,
                                        .again = alone ? read_again(l, l->n * l->d * l->weight) : 0,
                                        .write = Pd,
                                        .region = Ao},
                      tiles);
    moe_int_list_alloc(l, "O", Td);
    moe_int_list_stream(l, MOE_STAGE_O, Pd, Td);
}

static void forward_tuned(moe_int_list *l) {
    layer(l, &tuned);
}

/* Shapes for which SGLang behaves as tuned on an H100; every other shape that was measured shows
 * the fallback's step at T = E, and on an A100 this one too. */
static bool sglang_is_tuned(const moe_int_list *l) {
    return l->gpu->p[MOE_INT_GP_ARCH] == 90 && l->E == 128 && l->n == 768;
}

/* The fallback above T = E has three stages of 32 in flight, Triton's default: what memory and what
 * the tiles take hides behind one another less than in a tuned kernel. The best of 1, 1.3, 1.7,
 * 2.2, 2.5 and 3 on an A100 and close to it on an H100. */
#define FALLBACK_OVERLAP_P 2.2

static void forward_sglang(moe_int_list *l) {
    const moe_int_tiles *tiles = sglang_is_tuned(l) ? &tuned : l->T <= l->E ? &few : &many;
    /* The tuned kernel is vLLM's, and so are its efficiencies. */
    if (tiles == &tuned)
        moe_int_rates_of(l->gpu, MOE_INT_SYS_TRITON, l->work, &l->r);
    if (tiles == &many)
        l->r.overlap_p = fmin(l->r.overlap_p, FALLBACK_OVERLAP_P);
    layer(l, tiles);
}

const moe_int_method moe_int_method_triton_fused_moe = {
    "Triton fused MoE as in vLLM, well-chosen tiles (forward)", forward_tuned, NULL,
    .given_logits = true, .storages = MOE_INT_STORAGE_FP8S | MOE_INT_STORAGE_BIT(MOE_STORAGE_INT8)};
const moe_int_method moe_int_method_sglang_fused_moe = {
    "the same as in SGLang, fallback tiles for most shapes (forward)", forward_sglang, NULL,
    .given_logits = true, .storages = MOE_INT_STORAGE_FP8S | MOE_INT_STORAGE_BIT(MOE_STORAGE_INT8)};
