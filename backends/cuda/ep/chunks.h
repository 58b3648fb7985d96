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

/* The expert of a pair: the last one whose rows begin at or before it; offsets [experts + 1]. */
EP_ANYWHERE static inline int ep_expert_of(const int *offsets, int experts, int pair) {
    int low = 0, high = experts;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (offsets[middle] <= pair)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* First of `own` experts in a chunk; of chunk `chunks` it is `own`. The last chunk has half as many
 * as the others, for nothing hides how long its rows take. Chunks may be empty. */
EP_ANYWHERE static inline int ep_chunk_begin(int own, int chunks, int chunk) {
    return chunk == chunks ? own : (int)(2ll * chunk * own / (2 * chunks - 1));
}

/* Chunks that pay: rows are brought by a copy for each expert and rank, which is not worth its
 * launch below some 256 KiB; then they are read from where they are made, and there is one chunk.
 */
EP_ANYWHERE static inline int ep_chunks(int ranks, long long pairs, int experts,
                                        long long row_bytes) {
    return ranks > 1 && pairs * row_bytes / ranks / experts >= 256 * 1024 ? 3 : 1;
}

/* Whether an expert's rows are brought home in forward, while later chunks are multiplied. Those of
 * the last chunk are read from where they were made. */
EP_ANYWHERE static inline int ep_is_staged(int own, int chunks, int expert) {
    return expert < ep_chunk_begin(own, chunks, chunks - 1);
}

/* How often tiles fill the multiprocessors while others' tokens come, whatever d is: times of rows
 * on a link and of tiles grow with it alike. On two H200 8192 tokens take as long as some four
 * tiles; with two the products wait 40 us, with more than four nothing changes (LOG.md). */
EP_ANYWHERE static inline int ep_early_waves(int ranks, long long tokens) {
    return (int)(tokens * (ranks - 1) / 2048);
}

/* Own experts of the first chunk whose tiles of own tokens are multiplied before others' tokens
 * have come: as many as fill `waves` times the multiprocessors; row_tiles of an expert's pairs are
 * of own tokens, column_tiles of a product beside each. */
EP_ANYWHERE static inline int ep_early_experts(int own, int chunks, int waves, int sms,
                                               int row_tiles, int column_tiles) {
    const int most = ep_chunk_begin(own, chunks, 1), each = row_tiles * column_tiles;
    const int wanted = each ? (waves * sms + each - 1) / each : 0;
    return wanted < most ? wanted : most;
}

/* Whether a rank's tokens go whole to every other rank, by a plain copy: where, of K of E experts
 * drawn evenly, at least three of four tokens go there anyway. A kernel that picks rows is slower,
 * and starts when the choice is known. */
EP_ANYWHERE static inline int ep_sends_all(int ranks, int chosen) {
    double stays = 1;
    for (int k = 0; k < chosen; k++)
        stays *= 1 - 1.0 / ranks;
    return stays <= 0.25;
}

#endif
