/* Which products take turns with tiles (hopper_pingpong.cuh). Plain C: the cost model
 * (sim/methods/moeref.c) asks the same question. */
#ifndef MOE_CUDA_TURNS_H
#define MOE_CUDA_TURNS_H

/* Most blocks of 64 of K for which turns pay, where shared tiles leave no column empty. */
enum { TURNS_MOST_Y = 24, TURNS_MOST_DXP = 32 };

/* Turns hide the epilogue, but their tiles of 192 columns read a ninth more than shared ones of
 * 256. They pay where products are few, and where 256 columns would leave part of the last tile
 * empty (README.md, log). */
static inline int takes_turns(long columns, long k, int most_blocks) {
    const long blocks = k / 64;
    return blocks >= 4 && (blocks <= most_blocks || columns % 256 != 0);
}

#endif
