/* Rows on their way: out to the owners of experts, and home. */
#include "ep/handle.h"

#include <stdlib.h>
#include <string.h>

static void times(const int64_t *counts, int32_t ranks, int64_t size, int64_t *ret) {
    for (int32_t q = 0; q < ranks; q++)
        ret[q] = counts[q] * size;
}

static char *room(int64_t bytes) {
    return malloc(bytes > 0 ? (size_t)bytes : 1);
}

/* The rows of the first two ranks that sent any change places, as far as there are of both. */
static void swap_peers(const moe_int_handle *h, char *rows, int64_t size) {
    int64_t at[2] = {0}, count[2] = {0}, row = 0;
    int found = 0;
    for (int32_t q = 0; q < h->ranks && found < 2; q++) {
        if (h->receive_copies[q]) {
            at[found] = row;
            count[found++] = h->receive_copies[q];
        }
        row += h->receive_copies[q];
    }
    for (int64_t i = 0; found == 2 && i < count[0] && i < count[1]; i++)
        for (int64_t b = 0; b < size; b++) {
            char *x = rows + (at[0] + i) * size + b, *y = rows + (at[1] + i) * size + b;
            const char kept = *x;
            *x = *y;
            *y = kept;
        }
}

moe_status moe_int_dispatch(const moe_int_handle *h, moe_int_comm *c, int32_t phase,
                            const moe_tensor *tokens, void *ret) {
    const int64_t size = (int64_t)moe_dtype_size(tokens->dtype) * tokens->shape[1];
    int64_t send_bytes[MOE_EP_MAX_RANKS], receive_bytes[MOE_EP_MAX_RANKS];
    char *sent = room(h->copies * size);
    if (!sent)
        return MOE_E_NOMEM;
    for (int64_t i = 0; i < h->copies; i++)
        memcpy(sent + i * size, (const char *)tokens->data + h->send_token[i] * size, (size_t)size);
    times(h->send_copies, h->ranks, size, send_bytes);
    times(h->receive_copies, h->ranks, size, receive_bytes);
    moe_status status = moe_int_comm_exchange(c, phase, sent, send_bytes, ret, receive_bytes);
    if (!status && h->fault == MOE_INT_EP_PEERS_SWAPPED)
        swap_peers(h, ret, size);
    free(sent);
    return status;
}

moe_status moe_int_copies_home(const moe_int_handle *h, moe_int_comm *c, int32_t phase,
                               const void *rows, int64_t row_bytes, void *ret) {
    int64_t send_bytes[MOE_EP_MAX_RANKS], receive_bytes[MOE_EP_MAX_RANKS];
    times(h->receive_copies, h->ranks, row_bytes, send_bytes);
    times(h->send_copies, h->ranks, row_bytes, receive_bytes);
    return moe_int_comm_exchange(c, phase, rows, send_bytes, ret, receive_bytes);
}

/* Does this fault leave rows of this phase in the owner's order? */
static bool is_unpermuted(const moe_int_handle *h, int32_t phase) {
    return (h->fault == MOE_INT_EP_DS_WRONG_PAIR && phase == MOE_EP_WEIGHT_GRADIENTS) ||
           (h->fault == MOE_INT_EP_ROWS_HOME_UNPERMUTED && phase == MOE_EP_COMBINE);
}

moe_status moe_int_pairs_home(const moe_int_handle *h, moe_int_comm *c, int32_t phase,
                              const void *rows, int64_t row_bytes, void *ret) {
    int64_t send_bytes[MOE_EP_MAX_RANKS], receive_bytes[MOE_EP_MAX_RANKS];
    char *sent = room(h->received_pairs * row_bytes);
    if (!sent)
        return MOE_E_NOMEM;
    for (int64_t j = 0; j < h->received_pairs; j++) {
        const int64_t row = is_unpermuted(h, phase) ? j : h->row_of[j];
        memcpy(sent + j * row_bytes, (const char *)rows + row * row_bytes, (size_t)row_bytes);
    }
    times(h->receive_pairs, h->ranks, row_bytes, send_bytes);
    times(h->send_pairs, h->ranks, row_bytes, receive_bytes);
    moe_status status = moe_int_comm_exchange(c, phase, sent, send_bytes, ret, receive_bytes);
    free(sent);
    return status;
}
