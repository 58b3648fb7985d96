/* Internal: what one software system gets out of one GPU, in bytes and clocks, worked out once per
 * prediction. */
#ifndef MOE_SIM_RATES_H
#define MOE_SIM_RATES_H

#include "sim/gpus/params.h"

typedef struct moe_int_rates {
    double sms;
    double clock;       /* clocks per us */
    double tensor;      /* FLOP per clock and SM that a main loop reaches */
    double tensor_peak; /* the instruction rate itself */
    double mma_rows, mma_cols;
    double warps;   /* that each have operands of their own; 1: the SM's warps share them */
    double sync;    /* clocks of a k-step without products */
    double promote; /* clocks of a k-step for each accumulator that is scaled and added up apart */
    double smem;    /* B per clock and SM */
    double l2;      /* B per clock and SM */
    double l2_latency, hbm_latency; /* clocks */
    double inflight;                /* bytes */
    double l2_bytes;                /* capacity */
    double l2_shared;               /* capacity for what all SMs read */
    double hbm;                     /* B per us that a GEMM reaches */
    double stream;                  /* B per us that a memory-bound kernel reaches */
    double hbm_nominal;             /* B per us */
    double overlap_p;
    double kernel_us, gap_us, fixed_us, tile_us;
    double half_lines; /* of weights in pieces of half a line: so much more is read */
    double scattered;  /* gathered rows that L2 lacks: so much more is loaded */
    double sum; /* elements per clock and SM of a kernel that adds up tokens' rows; 0: no bound */
    double epilogue;          /* B per clock and SM */
    double hidden;            /* share of the epilogue behind the next tile's main loop */
    double drain;             /* share of the last tile's that nothing hides, though that is 1 */
    double splitk_us, splitk; /* B per us of partial sums */
    double refetch;
    double cluster, tile_max;
    int tile_pow2;
    double throttle, throttle_us; /* 0 for constant data */
    double floor_flops;           /* FLOP per us that no kernel exceeds */
} moe_int_rates;

void moe_int_rates_of(const moe_gpu *gpu, moe_int_system system, const moe_workload *state,
                      moe_int_rates *ret);

/* (a^p + b^p)^(1/p): the time of two activities that overlap, but not perfectly. */
double moe_int_join(double a, double b, double p);

#endif
