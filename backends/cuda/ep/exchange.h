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
    int *row;                 /* [pairs] at the expert's owner */
    const void **made_at;     /* [pairs] where Y lies once all have signalled */
    const void **back_at;     /* [pairs] and dX~ */
    char *staging;            /* [pairs][d] where owners' rows are brought */
    float *ds;                /* [pairs] at home */
    RowGroups own;            /* rows of this rank's experts */
    int early_experts;        /* own experts whose tiles of own tokens alone come first */
    int *early_tiles;         /* how many these are */
    int *blocks_done;         /* of the kernel that sends pairs */
    int *table;               /* of the host: everybody's offsets, for its copies */
    bool late;                /* signals no dispatch */
    PeerMemory peer[RANKS_MOST];
};

/* exchange_counts, exchange_place and exchange_meet wait for the same of all other ranks. So of all
 * ranks they are launched one after the other, with nothing of these streams between: ranks that
 * share a device share its queues. They wait in one block, so that others' kernels find room.
 *
 * Tells everybody this rank's counts, and gets everybody's. What an earlier pass has broken is
 * whole again. */
cudaError_t exchange_counts(const Exchange *x, const Stream &stream);
/* From them all that kernels and the host need to know of own rows. Sends owners what they need of
 * this rank's pairs, but for their rows. */
cudaError_t exchange_place(const Exchange *x, int blocks, const Stream &stream);
/* Each token's row, of X or dO, to every rank that has one of its experts. */
cudaError_t exchange_send_rows(const Exchange *x, bool backward, int blocks, const Stream &stream);
/* ds of the pairs from the owners. */
cudaError_t exchange_take_ds(const Exchange *x, int blocks, const Stream &stream);
/* Signals these phases, and all between, once what `stream` was given so far is done. */
cudaError_t exchange_signal(const Exchange *x, Phase first, Phase last, const Stream &stream);
/* Signals one, and waits until everybody has signalled it and all up to `last`. */
cudaError_t exchange_meet(const Exchange *x, Phase phase, Phase last, const Stream &stream);
/* Signals one, but the stream writes the flags itself, which takes longer: a kernel would wait for
 * room while products fill all multiprocessors. */
cudaError_t exchange_write(const Exchange *x, Phase phase, cudaStream_t stream);
/* Until everybody has signalled these phases. */
cudaError_t exchange_wait(const Exchange *x, Phase first, Phase last, const Stream &stream);

#endif
