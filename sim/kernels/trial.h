/* Internal: one tile shape on a GEMM, while the fastest is sought. */
#ifndef MOE_SIM_TRIAL_H
#define MOE_SIM_TRIAL_H

#include "sim/kernels/tiles.h"

typedef struct moe_int_trial {
    moe_int_tile tile;
    moe_int_sums s; /* its batches' costs in us */
    moe_int_step step;
    moe_int_schedule sched;
    moe_int_times times;
    double bytes;   /* from and to memory */
    double partial; /* bytes of split-K's partial sums */
    double fixed;   /* us of launch and drain */
    double us;
} moe_int_trial;

/* rows: those of tiles of tile.m rows. false as soon as it is known to take longer than limit_us;
 * then only tile and s are told. */
bool moe_int_gemm_try(const moe_int_rates *r, const moe_int_gemm *g, moe_int_tile tile,
                      const moe_int_rows *rows, double limit_us, moe_int_trial *ret);

/* The kernel of a trial that was not given up: every field but names, pass and start. */
void moe_int_gemm_told(const moe_int_rates *r, const moe_int_gemm *g, const moe_int_trial *trial,
                       moe_kernel *ret);

#endif
