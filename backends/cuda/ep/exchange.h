/* What moves between ranks: launches. A rank's tokens lie at slot rank * room of everybody's
 * windows, so that an expert's rows gather them by `token` as on one device. */
#ifndef MOE_CUDA_EP_EXCHANGE_H
#define MOE_CUDA_EP_EXCHANGE_H

#include "group.h"

/* Memory of one rank that others reach. */
struct PeerMemory {
    char *x, *dout; /* windows [ranks * room][d] */
    char *y;        /* [received pairs][d] Y, or dX~ */
    int *token;     /* [received pairs] index in the windows */
    float *weight;  /* [received pairs] */
    float *ds;      /* [received pairs] */
    int *counts;    /* [ranks][E + 1] offsets of everybody's plan */
};

/* One rank's exchanges in one pass. Pairs are of its own plan. */
struct Exchange {
    Signals s;
    unsigned pass;
    int tokens, room, d, E, chunks;
    const int *offsets;       /* [E + 1 at least] */
    const int *token;         /* [pairs] */
    const float *weight;      /* [pairs] */
    const int *token_offsets; /* [tokens + 1] */
    const int *pair_of_token; /* [pairs], -1: none */
    int *shift;               /* [E] from a pair to its row at the expert's owner */
    int *row;                 /* [pairs] that row */
    const void **made_at;     /* [pairs] where Y lies once all have signalled */
    const void **back_at;     /* [pairs] and dX~ */
    char *staging;            /* [pairs][d] where owners' rows are brought */
    float *ds;                /* [pairs] at home */
    RowGroups own;            /* rows of this rank's experts */
    int *table;               /* of the host: everybody's offsets, for its copies */
    bool late;                /* signals no dispatch */
    PeerMemory peer[RANKS_MOST];
};

/* Tells everybody this rank's counts. What an earlier pass has broken is whole again. */
cudaError_t exchange_tell(const Exchange *x, cudaStream_t stream);
/* Waits for everybody's; from them own.offsets, shift and table. */
cudaError_t exchange_place(const Exchange *x, cudaStream_t stream);
/* What owners need of this rank's pairs, but for their rows. */
cudaError_t exchange_send_pairs(const Exchange *x, int blocks, cudaStream_t stream);
/* Each token's row, of X or dO, to every rank that has one of its experts. */
cudaError_t exchange_send_rows(const Exchange *x, bool backward, int blocks, cudaStream_t stream);
/* ds of the pairs from the owners. */
cudaError_t exchange_take_ds(const Exchange *x, int blocks, cudaStream_t stream);
/* Once what `stream` was given so far is done. The stream writes the flags itself: a kernel would
 * wait for room while products fill all multiprocessors. */
cudaError_t exchange_signal(const Exchange *x, Phase phase, cudaStream_t stream);
/* Until everybody has signalled these phases. */
cudaError_t exchange_wait(const Exchange *x, Phase first, Phase last, cudaStream_t stream);

#endif
