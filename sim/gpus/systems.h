/* The registry of software systems, SYSTEM(constant, name), in the order of every list of them.
 *
 * A method of the cost model is one row here, which gives it its place in GPU descriptions and in
 * the table of methods, and one file sim/methods/NAME.c, which defines moe_int_method_NAME. */
#ifndef MOE_SIM_SYSTEMS_H
#define MOE_SIM_SYSTEMS_H

/* clang-format off */
#define MOE_INT_SYSTEMS(SYSTEM)                                                                    \
    SYSTEM(CUBLAS, cublas)                                                                         \
    SYSTEM(SONICMOE, sonicmoe)                                                                     \
    SYSTEM(SCATTERMOE, scattermoe)                                                                 \
    SYSTEM(MOMOE, momoe)                                                                           \
    SYSTEM(MEGABLOCKS, megablocks)                                                                 \
    SYSTEM(GROUPED_MM, grouped_mm)                                                                 \
    SYSTEM(DEEPGEMM, deepgemm)                                                                     \
    SYSTEM(CUTLASS_MOE, cutlass_moe)                                                               \
    SYSTEM(TRITON, triton_fused_moe)                                                               \
    SYSTEM(SGLANG, sglang_fused_moe)                                                               \
    SYSTEM(MOEREF, moeref)
/* clang-format on */

#endif
