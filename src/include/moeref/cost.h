/* One record for "what a kernel costs", filled by a model or by a timer. */
#ifndef MOEREF_COST_H
#define MOEREF_COST_H

#include "moeref/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Unknown fields are 0 (bound_by: ""). `name` is the stage that the kernel computes, in the words
 * of the tensor table where one fits ("A", "Y", "O", "dH", "dW2", "dXp", "dX", "dW1", "router"
 * ...).
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

#ifdef __cplusplus
}
#endif
#endif
