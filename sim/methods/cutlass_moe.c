/* TensorRT-LLM's CUTLASS MoE, an inference layer: top-k from given logits, expand, GEMM1, gated
 * activation, GEMM2, finalize. Its autotuner tries every compiled tile; the model does too. */
#include "sim/gpus/storage.h"
#include "sim/methods/methods.h"

static const moe_int_tile shapes[] = {{128, 16, 1},  {128, 32, 1},  {128, 64, 1},
                                      {128, 128, 1}, {128, 256, 1}, {256, 128, 1}};
static const moe_int_tiles tiles = {shapes, sizeof shapes / sizeof *shapes, 1};

static void forward(moe_int_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Ph = l->P * l->h * e;
    /* Expanding and the activation write what the products read. */
    const double Td = l->T * l->d * e, Xo = l->P * l->d * l->operand, Ao = l->P * l->n * l->operand;
    moe_int_list_stream(l, MOE_STAGE_TOPK, l->T * l->E * e, l->P * 12);
    moe_int_list_stream(l, MOE_STAGE_SORT, l->P * 24, l->P * 24);
    moe_int_list_alloc(l, "X", Td);
    moe_int_list_alloc(l, "X~", Xo);
    moe_int_list_stream(l, MOE_STAGE_X_GROUPED, Td, Xo);
    moe_int_list_alloc(l, "H", Ph);
    moe_int_list_gemm(l, MOE_STAGE_H, MOE_INT_OP_H, (moe_int_traffic){.read = Xo, .write = Ph},
                      &tiles);
    moe_int_list_free(l, "X~");
    moe_int_list_alloc(l, "A", Ao);
    moe_int_list_stream(l, MOE_STAGE_A, Ph, Ao);
    moe_int_list_free(l, "H");
    moe_int_list_alloc(l, "Y", Pd);
    moe_int_list_gemm(l, MOE_STAGE_Y, MOE_INT_OP_Y, (moe_int_traffic){.read = Ao, .write = Pd},
                      &tiles);
    moe_int_list_free(l, "A");
    moe_int_list_alloc(l, "O", Td);
    moe_int_list_slow(l, MOE_STAGE_O, Pd, Td, l->P * l->d, l->r.sum);
}

const moe_int_method moe_int_method_cutlass_moe = {"TensorRT-LLM's CUTLASS layer (forward)",
                                                   forward,
                                                   NULL,
                                                   .given_logits = true,
                                                   .constant_data = true,

                                                   .storages =
                                                       MOE_INT_STORAGE_FP8S | MOE_INT_STORAGE_FP4S,
                                                   .arch = {80, 103}};
