/* Gates: the limits that decide a verdict, in one versioned table (MOE_GATES_VERSION).
 *
 * NMSE. Correct kernels were measured against float64 on an H100 SXM (PyTorch 2.11 grouped_mm,
 * ScatterMoE 0.3, an fp32 loop over cuBLAS without TF32; x, dO ~ N(0,1), W ~ N(0,1/fan_in); five
 * shapes T,d,n,E,K: 1024,2048,1024,64,8; 1024,4096,256,256,16; 512,768,256,64,4;
 * 2048,2048,768,128,8 with skewed routing). Lowest to highest seen:
 *
 *            O NMSE       O token  O 128 rows  dX NMSE/token      dW/worst expert   dS NMSE/token
 *     bf16   1.5-1.8e-5   3.8e-5   3.8e-5      2.0-4.0e-5/6.0e-5  1.8e-5/2.2e-5     1.8e-5/1.1e-2
 *     fp16   2.8e-7       6.7e-7   6.5e-7      3.1e-7/4.8e-7      2.8e-7/3.6e-7     2.8e-7/2.0e-4
 *     fp32   0.9-5.6e-13  1.4e-12  1.2e-12     6.7e-13/9.6e-13    5.0e-13/9.2e-13   5.8e-13/1.5e-11
 *
 * bf16 and fp16 gates stand about 4 times above those floors (1.5 to 2 times for dX in bf16, whose
 * high end sums with atomics), fp32 gates 10 to 20 times. dS cancels, so no gate per token: it is
 * gated as a whole and by z. Where a result cancels or is small, the errors that a correct kernel
 * makes there count instead (errors.h, group_passes of compare.c).
 *
 * z. Those kernels reached max z 7.2 and row rms z 1.7 against a sigma that leaves out the storing
 * of H; the sigma of errors.h has it and is 1.55 times as large (the bf16 reference at T=256 d=768
 * n=256 E=16 K=4 has max z 5.4, row rms 1.40 with the one, 3.3 and 0.93 with the other), so they
 * lie at 4.6 and 1.1. Gates: 6.5 and 1.3, as far above as 10 and 2 were from 7.2 and 1.7. Narrow
 * rows are allowed more (rms_passes in compare.c).
 *
 * The sweep: MOEREF_SWEEP=6000 tests/conformance/test_sweep in a build folder. 6000 random layers
 * (T 1 to 130, d 8 to 96, n 1 to 48, every activation, router and route, outliers) with the full
 * and the sampled oracle: none of the 36000 verdicts on the float32, bf16 and fp16 references
 * failed. Largest z: fp32 5.7, bf16 3.9, fp16 4.4; row rms z of O, dX: 2.4 at the narrowest rows.
 * openblas, 1000 layers: max z 4.9, row rms 1.9. Plain loops of another order of sums, 2000 layers
 * on backends/faulty in fp32, bf16 and fp16: none failed. Plain float32 loops at d = 1024 to 4096:
 * max z 2.9, row rms 0.96. fp32 gates: max z 25, 4.4 times the sweep's; row rms 5, 5.2 times that
 * of wide rows and 2.1 times that of the narrowest (whose own allowance is in compare.c).
 *
 * The same of recipes: MOEREF_SWEEP=2000 tests/conformance/test_correct. 2000 layers, each played
 * by six recipes in bf16, fp16 and fp32, over sums of seven kinds (split, reversed, fused,
 * truncated each 16, the steps of Hopper's and Ampere's tensor cores) and three exponentials,
 * stages judged too.
 *
 * fp64 gates judge the reference itself: against golden values that are float32 roundings of
 * float64 results (their own NMSE is about u^2/3 = 1.2e-15) and against another order of
 * summation. A wrong formula shows at 1e-6 and above. */
#include "check/compare/compare.h"
#include "layer/traits.h"

#include <math.h>

typedef enum gate_class {
    CLASS_VALUES,  /* O, dX and the stages: rows of tokens or pairs */
    CLASS_WEIGHTS, /* gradients of the experts' weights and biases */
    CLASS_ROUTER,  /* dS and the gradients behind it: differences of nearly equal sums */
    CLASS_COUNT
} gate_class;

/* nmse, worst group, worst 128-row tile, max z, row rms z; 0: not gated */
static const struct {
    moe_dtype arithmetic;
    moe_gate gate[CLASS_COUNT];
} table[] = {
    {MOE_F64,
     {[CLASS_VALUES] = {1e-12, 1e-12, 1e-12, 0, 0},
      [CLASS_WEIGHTS] = {1e-12, 1e-12, 0, 0, 0},
      [CLASS_ROUTER] = {1e-12, 0, 0, 0, 0}}},
    {MOE_F32,
     {[CLASS_VALUES] = {1e-11, 1e-11, 1e-11, 25, 5},
      [CLASS_WEIGHTS] = {1e-11, 1e-11, 0, 25, 0},
      [CLASS_ROUTER] = {1e-11, 0, 0, 25, 0}}},
    {MOE_F16,
     {[CLASS_VALUES] = {1e-6, 2e-6, 2e-6, 6.5, 1.3},
      [CLASS_WEIGHTS] = {1e-6, 2e-6, 0, 6.5, 0},
      [CLASS_ROUTER] = {1e-6, 0, 0, 6.5, 0}}},
    {MOE_BF16,
     {[CLASS_VALUES] = {6e-5, 1.5e-4, 1.5e-4, 6.5, 1.3},
      [CLASS_WEIGHTS] = {6e-5, 1.5e-4, 0, 6.5, 0},
      [CLASS_ROUTER] = {6e-5, 0, 0, 6.5, 0}}},
};

/* Beside 16 bits, router_logits and topk_weight, which stay in fp32: NMSE as in fp32, z as in 16
 * bits. What tensor cores cut off grows with d beyond both, and is foreseen (errors.h): z is over
 * it, NMSE passes up to twice it. Right chains of d = 64 to 32768 in bf16 and fp16
 * (tests/unit/test_check_logits.c): the steps of sm_90 and sm_80 make z up to 2 and row rms z up to
 * 0.6, sums of 8 that are exact before they are cut off 3.5 and 1.25. The sweep of recipes above,
 * 700 layers: z 3.8, row rms z 2.6 at the narrowest rows, which are allowed more. NMSE of bf16
 * storing is 3e-6, of fp16 4e-8, twice what passes at d = 32768. */
moe_gate moe_int_gate_in_fp32(void) {
    return (moe_gate){1e-11, 1e-11, 1e-11, 6.5, 1.3};
}

static gate_class class_of(moe_tensor_id id) {
    if (moe_int_is_expert_gradient(id))
        return CLASS_WEIGHTS;
    switch ((int)id) {
    case MOE_T_S:
    case MOE_T_DS:
    case MOE_T_DW_R:
    case MOE_T_DB_R:
    case MOE_T_DW_GATE_SHARED:
        return CLASS_ROUTER;
    default:
        return CLASS_VALUES;
    }
}

moe_gate moe_gate_for(moe_tensor_id id, moe_dtype arithmetic) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].arithmetic == arithmetic)
            return table[i].gate[class_of(id)];
    }
    return (moe_gate){0};
}

/* The kernels above reached z = 4.6: their errors may be larger than the model's as far as the gate
 * of z is above that. In 16 bits twice the variance. In fp32, where the model's errors are those of
 * short sums, 30 times: plain loops over d = 768 make up to 4.3 times as much in an expert of one
 * token, whose gradients have the error of one weight, and that of one logit (T=512 n=64 E=320 K=4,
 * seeds 20 to 24). */
double moe_int_errors_allowed(const moe_gate *gate) {
    const double reached = 4.6, z = fmax(gate->max_z, 6.5) / reached;
    return z * z;
}

/* Wilson and Hilferty's approximation (PNAS 17, 1931); 4.265 normal deviations leave 1e-5. */
double moe_int_chi2_quantile(double n) {
    double k = 2 / (9 * fmax(n, 1)), root = 1 - k + 4.265 * sqrt(k);
    return root * root * root;
}
