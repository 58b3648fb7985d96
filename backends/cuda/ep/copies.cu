/* Rows between ranks by the copy engines, which take no multiprocessor and reach what a plain copy
 * reaches: a rank's tokens lie side by side, and so do one rank's rows of an expert, at their owner
 * and in that rank's plan alike. */
#include "parts.h"

namespace {

/* Copies that may run at once and in any order, given to the driver in one call: on a host a copy
 * of its own takes longer than an engine takes for a megabyte. */
struct Copies {
    std::vector<void *> to;
    std::vector<const void *> from;
    std::vector<size_t> bytes;

    void add(char *there, const char *here, int64_t count) {
        if (count == 0)
            return;
        to.push_back(there);
        from.push_back(here);
        bytes.push_back((size_t)count);
    }

    cudaError_t start(cudaStream_t stream) {
        cudaError_t err = cudaSuccess;
#if CUDART_VERSION >= 13000
        cudaMemcpyAttributes how = {};
        size_t first = 0;
        how.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
        how.flags = cudaMemcpyFlagPreferOverlapWithCompute;
        if (!to.empty())
            err = cudaMemcpyBatchAsync(to.data(), from.data(), bytes.data(), to.size(), &how,
                                       &first, 1, stream);
#else
        for (size_t i = 0; i < to.size() && err == cudaSuccess; i++)
            err = cudaMemcpyAsync(to[i], from[i], bytes[i], cudaMemcpyDefault, stream);
#endif
        return err;
    }
};

/* Rows of own expert e, of which the first is `row`, to their homes. Moves `row` on. */
void add_expert(const At &at, int e, bool wanted, int64_t *row, Copies *copies) {
    const Exchange *x = &at.p->exchange;
    const int64_t bytes = (int64_t)x->d * 2;
    for (int q = 0; q < x->s.ranks; q++) {
        const int *pair = x->table + (int64_t)q * (x->E + 1) + at.p->first_expert + e;
        const int count = pair[1] - pair[0];
        if (wanted && q != at.r)
            copies->add(at.l->part[q].exchange.staging + pair[0] * bytes,
                        x->peer[at.r].y + *row * bytes, count * bytes);
        *row += count;
    }
}

} // namespace

cudaError_t copy_tokens(const At &at, bool backward) {
    const Exchange *x = &at.p->exchange;
    const int64_t bytes = (int64_t)x->d * 2, slot = (int64_t)at.r * x->room * bytes;
    Copies copies;
    for (int i = 1; i < x->s.ranks; i++) {
        const PeerMemory &from = x->peer[at.r], &to = x->peer[(at.r + i) % x->s.ranks];
        copies.add((backward ? to.dout : to.x) + slot, (backward ? from.dout : from.x) + slot,
                   x->tokens * bytes);
    }
    return copies.start(at.g->copies);
}

cudaError_t copy_home(const At &at, int first, int end) {
    int64_t row = 0;
    Copies copies;
    for (int e = 0; e < end; e++)
        add_expert(at, e, e >= first, &row, &copies);
    return copies.start(at.g->copies);
}
