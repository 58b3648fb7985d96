/* Gates: the limits that decide a verdict, in one versioned table (MOE_GATES_VERSION).
 *
 * Origin. Correct kernels were measured against float64 on an H100 SXM (PyTorch 2.11 grouped_mm,
 * ScatterMoE 0.3, an fp32 loop over cuBLAS without TF32; x, dO ~ N(0,1), W ~ N(0,1/fan_in); five
 * shapes T,d,n,E,K: 1024,2048,1024,64,8; 1024,4096,256,256,16; 512,768,256,64,4;
 * 2048,2048,768,128,8 with skewed routing). Lowest to highest seen:
 *
 *             O NMSE       O token  O 128 rows O max z  O row z   dX NMSE/token      dW/expert
 *     bf16    1.5-1.8e-5   3.8e-5   3.8e-5     5.7-7.2  1.3-1.7   2.0-4.0e-5/6.0e-5  1.8e-5/2.2e-5
 *     fp16    2.8e-7       6.7e-7   6.5e-7     6.2-7.0  1.4-1.7   3.1e-7/4.8e-7      2.8e-7/3.6e-7
 *     fp32    0.9-5.6e-13  1.4e-12  1.2e-12 (1)                6.7e-13/9.6e-13    5.0e-13/9.2e-13
 *
 * bf16 and fp16 gates stand about 4 times above those floors (1.5 to 2 times for dX, whose high end
 * sums in bf16 with atomics, and for z), fp32 gates 10 to 20 times. dS per token reached 1.1e-2
 * (bf16) and 2.0e-4 (fp16) by cancellation in correct kernels: it is gated as a whole, and element
 * by element by MOE_INT_DS_LIMIT.
 *
 * (1) fp32 stores nothing in a lower precision, so its z counts the roundings of the additions
 * (zscore.c derives the variance). Calibrated with that variance: see FP32_MAX_Z.
 *
 * fp64 gates judge the reference itself: against golden values that are float32 roundings of
 * float64 results (their own NMSE is about u^2/3 = 1.2e-15) and against another order of
 * summation. A wrong formula shows at 1e-6 and above. */
#include "check/check_int.h"

typedef enum gate_class {
    CLASS_VALUES,  /* O, dX and the stages: rows of tokens or pairs */
    CLASS_WEIGHTS, /* gradients of the experts' weights and biases */
    CLASS_ROUTER,  /* dS and the gradients behind it: differences of nearly equal sums */
    CLASS_COUNT
} gate_class;

#define FP32_MAX_Z 10
#define FP32_ROW_Z 2

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
     {[CLASS_VALUES] = {1e-11, 1e-11, 1e-11, FP32_MAX_Z, FP32_ROW_Z},
      [CLASS_WEIGHTS] = {1e-11, 1e-11, 0, FP32_MAX_Z, 0},
      [CLASS_ROUTER] = {1e-11, 0, 0, 0, 0}}},
    {MOE_F16,
     {[CLASS_VALUES] = {1e-6, 2e-6, 2e-6, 10, 2},
      [CLASS_WEIGHTS] = {1e-6, 2e-6, 0, 10, 0},
      [CLASS_ROUTER] = {1e-6, 0, 0, 0, 0}}},
    {MOE_BF16,
     {[CLASS_VALUES] = {6e-5, 1.5e-4, 1.5e-4, 10, 2},
      [CLASS_WEIGHTS] = {6e-5, 1.5e-4, 0, 10, 0},
      [CLASS_ROUTER] = {6e-5, 0, 0, 0, 0}}},
};

static gate_class class_of(moe_tensor_id id) {
    switch (id) {
    case MOE_T_DW1:
    case MOE_T_DB1:
    case MOE_T_DW2:
    case MOE_T_DB2:
    case MOE_T_DW1_SHARED:
    case MOE_T_DW2_SHARED:
        return CLASS_WEIGHTS;
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

/* Wilson and Hilferty's approximation (PNAS 17, 1931); 4.265 normal deviations leave 1e-5. */
double moe_int_chi2_quantile(double n) {
    double k = 2 / (9 * fmax(n, 1)), root = 1 - k + 4.265 * sqrt(k);
    return root * root * root;
}
