/* How O and dX walk the rows of a token's pairs (combine.cu). Plain C: the cost model
 * (sim/methods/moeref.c) counts the same rounds of loads. */
#ifndef MOE_CUDA_ROUNDS_H
#define MOE_CUDA_ROUNDS_H

enum {
    ROUND_COLUMNS = 256, /* that a warp loads of a row at once */
    ROUNDS_FILLED = 3072 /* warps that fill a device: of fewer tokens a warp takes a slice of one */
};

/* A warp has eight loads in flight: of eight pairs, or of two pairs in four steps of columns where
 * no token has more. Rounds of eight pairs fit 64 registers, so that a multiprocessor runs 32
 * warps. */
enum {
    ROUND_PAIRS = 8,
    ROUND_STEPS = 1,
    ROUND_WARPS = 32,
    FEW_PAIRS = 2,
    FEW_STEPS = 4,
    FEW_WARPS = 24
};

#endif
