/* The ranks of a backend: a device each, streams, and flags in each other's memory. */
#ifndef MOE_CUDA_EP_GROUP_H
#define MOE_CUDA_EP_GROUP_H

#include "../ranks.h"

enum { RANKS_MOST = 16, CHUNKS_MOST = 64 };

/* What a rank tells the others, once a pass. */
enum Phase {
    PHASE_COUNTS,   /* its pairs for each expert are known */
    PHASE_PAIRS,    /* of each pair all but its row is there */
    PHASE_DISPATCH, /* rows are */
    PHASE_WEIGHTS,  /* dS may be read */
    PHASE_ROWS,     /* and what its experts made */
    PHASE_STAGED,   /* and what it brought home is there */
    PHASES
};

/* In memory of the host: whom a rank waited for in vain. */
struct Late {
    int rank_plus_one, phase;
};

/* One rank's way to signal and wait. Flags hold the number of the pass. */
struct Signals {
    int ranks, rank;
    unsigned *flag[RANKS_MOST]; /* of each rank, [PHASES][ranks] */
    int *broken;                /* this rank has waited in vain: it touches nobody's memory */
    Late *late;
    unsigned long long limit_ns;
};

struct GroupRank {
    Device dev;          /* with the stream of the products */
    Device beside;       /* the same device: products of every second chunk */
    Device but_one;      /* dev, but that it leaves a multiprocessor to a kernel that waits */
    cudaStream_t copies; /* that copy engines follow */
    unsigned *flags;
    int *broken;
    cudaEvent_t placed;            /* the host's table is there */
    cudaEvent_t made[CHUNKS_MOST]; /* rows of a chunk are */
    cudaEvent_t point;             /* of one stream that another is to wait for */
};

struct Group {
    GroupWords words;
    GroupRank *rank; /* [ranks] */
    Late *late;      /* [ranks] pinned */
    unsigned pass;
};

Signals group_signals(const Group *group, int rank);
/* After all streams: a sentence about the first rank that waited in vain. */
moe_status group_check(const Device *dev);
/* Waits for all streams of all ranks. */
moe_status group_wait(const Device *dev, const char *what);

#endif
