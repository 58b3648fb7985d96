/* Who owns which experts, and in which chunks they are multiplied: plain numbers, for host, device
 * and tests alike. */
#ifndef MOE_CUDA_EP_CHUNKS_H
#define MOE_CUDA_EP_CHUNKS_H

#ifdef __CUDACC__
#define EP_ANYWHERE __host__ __device__
#else
#define EP_ANYWHERE
#endif

/* First expert of a rank, as moe_ep_first_expert has it; of rank `ranks` it is `experts`. */
EP_ANYWHERE static inline int ep_first_expert(int experts, int ranks, int rank) {
    return (int)((long long)rank * experts / ranks);
}

EP_ANYWHERE static inline int ep_owner(int experts, int ranks, int expert) {
    int q = (int)((long long)expert * ranks / experts);
    while (ep_first_expert(experts, ranks, q + 1) <= expert)
        q++;
    return q;
}

/* First of `own` experts in a chunk; of chunk `chunks` it is `own`. Chunks may be empty. */
EP_ANYWHERE static inline int ep_chunk_begin(int own, int chunks, int chunk) {
    return (int)((long long)chunk * own / chunks);
}

/* Rows of the last chunk are read from where they were made; those of the others are brought home
 * while the next chunk is multiplied. */
EP_ANYWHERE static inline int ep_is_staged(int own, int chunks, int expert) {
    return expert < ep_chunk_begin(own, chunks, chunks - 1);
}

#endif
