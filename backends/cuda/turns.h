/* Which products take turns with tiles (hopper_pingpong.cuh). Plain C: the cost model
 * (sim/methods/moeref.c) asks the same question. */
#ifndef MOE_CUDA_TURNS_H
#define MOE_CUDA_TURNS_H

/* C has `columns` columns. Turns hide an epilogue wholly, but their tiles of 192 columns read a
 * ninth more than shared ones of 256, whose epilogues run under the next tile's products too, but
 * for the rounding. They pay where products are few, and where 256 columns would leave part of the
 * last tile empty; less so where 192 would (LOG.md). */
static inline int takes_turns(long columns, long k) {
    const long blocks = k / 64;
    if (columns % 256 != 0)
        return blocks >= 4;
    return blocks >= 8 && (columns % 192 == 0 ? blocks <= 32 : blocks < 16);
}

#endif
