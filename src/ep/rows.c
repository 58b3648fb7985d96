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
        if (h->send_token[i] < 0)
            memset(sent + i * size, 0, (size_t)size);
        else
            memcpy(sent + i * size, (const char *)tokens->data + h->send_token[i] * size,
                   (size_t)size);
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

/* What pairs make lies as their copies do, rows of nobody included; a value alone pair by pair. */
static char *pack_pairs(const moe_int_handle *h, int32_t phase, const char *rows, int64_t size) {
    const bool alone = phase == MOE_EP_WEIGHT_GRADIENTS;
    const int64_t count = alone ? h->received_pairs : h->received_copies;
    char *sent = calloc((size_t)(count * size) + 1, 1);
    for (int64_t j = 0; sent && j < h->received_pairs; j++) {
        const int64_t row = is_unpermuted(h, phase) ? j : h->row_of[j];
        const int64_t at = alone ? j : h->receive_at[j];
        memcpy(sent + at * size, rows + row * size, (size_t)size);
    }
    return sent;
}

/* Values alone go straight home; so do rows where nobody's are not among them. */
moe_status moe_int_pairs_home(const moe_int_handle *h, moe_int_comm *c, int32_t phase,
                              const void *rows, int64_t row_bytes, void *ret) {
    const bool alone = phase == MOE_EP_WEIGHT_GRADIENTS, straight = alone || h->copies == h->pairs;
    int64_t send_bytes[MOE_EP_MAX_RANKS], receive_bytes[MOE_EP_MAX_RANKS];
    char *sent = pack_pairs(h, phase, rows, row_bytes);
    char *came = straight ? ret : room(h->copies * row_bytes);
    moe_status status = sent && came ? MOE_OK : MOE_E_NOMEM;
    times(alone ? h->receive_pairs : h->receive_copies, h->ranks, row_bytes, send_bytes);
    times(alone ? h->send_pairs : h->send_copies, h->ranks, row_bytes, receive_bytes);
    if (!status)
        status = moe_int_comm_exchange(c, phase, sent, send_bytes, came, receive_bytes);
    for (int64_t p = 0; !status && !straight && p < h->pairs; p++)
        memcpy((char *)ret + p * row_bytes, came + h->send_at[p] * row_bytes, (size_t)row_bytes);
    if (!straight)
        free(came);
    free(sent);
    return status;
}
