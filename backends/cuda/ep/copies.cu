/* Rows between ranks by the copy engines, which take no multiprocessor and reach what a plain copy
 * reaches: a rank's tokens lie side by side, and so do one rank's rows of an expert, at their owner
 * and in that rank's plan alike. */
#include "parts.h"

namespace {

cudaError_t copy(const At &at, char *to, const char *from, int64_t bytes) {
    return bytes ? cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDefault, at.g->copies)
                 : cudaSuccess;
}

/* Rows of own expert e, of which the first is `row`, to their homes. Moves `row` on. */
cudaError_t copy_expert(const At &at, int e, bool wanted, int64_t *row) {
    const Exchange *x = &at.p->exchange;
    const int64_t bytes = (int64_t)x->d * 2;
    cudaError_t err = cudaSuccess;
    for (int q = 0; q < x->s.ranks && err == cudaSuccess; q++) {
        const int *pair = x->table + (int64_t)q * (x->E + 1) + at.p->first_expert + e;
        const int count = pair[1] - pair[0];
        if (wanted && q != at.r)
            err = copy(at, at.l->part[q].exchange.staging + pair[0] * bytes,
                       x->peer[at.r].y + *row * bytes, count * bytes);
        *row += count;
    }
    return err;
}

} // namespace

cudaError_t copy_tokens(const At &at, bool backward) {
    const Exchange *x = &at.p->exchange;
    const int64_t bytes = (int64_t)x->d * 2, slot = (int64_t)at.r * x->room * bytes;
    const int R = x->s.ranks;
    cudaError_t err = cudaSuccess;
    for (int i = 1; i < R && err == cudaSuccess; i++) {
        const PeerMemory &from = x->peer[at.r], &to = x->peer[(at.r + i) % R];
        err = copy(at, (backward ? to.dout : to.x) + slot, (backward ? from.dout : from.x) + slot,
                   x->tokens * bytes);
    }
    return err;
}

cudaError_t copy_home(const At &at, int first, int end) {
    int64_t row = 0;
    cudaError_t err = cudaSuccess;
    for (int e = 0; e < end && err == cudaSuccess; e++)
        err = copy_expert(at, e, e >= first, &row);
    return err;
}
