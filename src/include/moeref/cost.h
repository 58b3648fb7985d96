/* One record for "what a kernel costs", filled by a model or by a timer. */
#ifndef MOEREF_COST_H
#define MOEREF_COST_H

#include "moeref/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Unknown fields are 0 (bound_by: ""). `name` is the stage that the kernel computes, or the part of
 * one, as the table in stage.h calls it.
 * Thread-safety: plain data. */
typedef struct moe_cost {
    char name[24];
    char bound_by[16]; /* "tensor", "hbm", "l2", "smem", "latency" ... */
    double us;         /* time, microseconds */
    double floor_us;   /* the hardware's best: FLOPs at peak rate, bytes from memory */
    double flops;      /* model FLOPs: padding not counted */
    double hbm_bytes;
    double l2_bytes;
    double tiles;
    double waves;
} moe_cost;

/* What times and costs are summed over: indices of a pass's row, beside moe_pass, which is bits. */
typedef enum moe_pass_sum {
    MOE_PASS_FORWARD,
    MOE_PASS_BACKWARD,
    MOE_PASS_TOTAL, /* of both */
    MOE_PASS_SUMS
} moe_pass_sum;

/* "forward", "backward", "total". */
MOE_API const char *moe_pass_sum_name(moe_pass_sum sum);

#ifdef __cplusplus
}
#endif
#endif
