#include "ep/handle.h"

#include <stdlib.h>
#include <string.h>

static int64_t total(const int64_t *counts, int32_t ranks) {
    int64_t sum = 0;
    for (int32_t q = 0; q < ranks; q++)
        sum += counts[q];
    return sum;
}

/* Rows of nobody, up to `count` copies for one destination. */
static void fill_up(moe_int_handle *h, int64_t count) {
    for (; count > 0; count--)
        h->send_token[h->copies++] = -1;
}

/* ---- counts ---- */

/* Numbers the copies that go to rank q, which are of tokens with an expert there in ascending
 * order. `number` [T] is scratch. */
static void list_copies(moe_int_handle *h, const moe_plan *plan, int64_t begin, int64_t end,
                        int32_t q, int32_t *number) {
    int64_t count = 0;
    for (int64_t t = 0; t < plan->n_tokens; t++)
        number[t] = -1;
    for (int64_t p = begin; p < end; p++)
        number[plan->token[p]] = 0;
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        if (number[t] < 0)
            continue;
        h->send_token[h->copies + count] = (int32_t)t;
        number[t] = (int32_t)count++;
    }
    for (int64_t p = begin; p < end; p++)
        h->send_copy[p] = number[plan->token[p]];
    h->send_copies[q] = moe_int_sent_rows(&h->pad, count);
    h->copies += count;
    fill_up(h, h->send_copies[q] - count);
}

static void list_slot(moe_int_handle *h, const moe_plan *plan, int64_t slot) {
    const int64_t first = plan->offsets[slot], count = plan->offsets[slot + 1] - first;
    for (int64_t p = first; p < first + count; p++) {
        h->send_at[p] = h->copies;
        h->send_token[h->copies++] = plan->token[p];
    }
    fill_up(h, moe_int_sent_rows(&h->pad, count) - count);
}

static moe_status list_sends(moe_int_handle *h, const moe_plan *plan, const int64_t *first) {
    int32_t *number = moe_int_some(plan->n_tokens, sizeof *number);
    if (!number)
        return MOE_E_NOMEM;
    for (int32_t q = 0; q < h->ranks; q++) {
        const int64_t begin = plan->offsets[first[q]];
        const int64_t end = plan->offsets[first[q + 1]];
        h->send_pairs[q] = end - begin;
        if (h->dedup) {
            list_copies(h, plan, begin, end, q, number);
            continue;
        }
        const int64_t before = h->copies;
        for (int64_t s = first[q]; s < first[q + 1]; s++)
            list_slot(h, plan, s);
        h->send_copies[q] = h->copies - before;
    }
    free(number);
    return MOE_OK;
}

/* A destination gets the counts of its slots and, deduplicated, how many copies they are of. */
static void fill_counts(const moe_int_handle *h, const moe_plan *plan, const int64_t *first,
                        int64_t *ret, int64_t *ret_bytes) {
    for (int32_t q = 0; q < h->ranks; q++) {
        const int64_t *at = ret;
        for (int64_t s = first[q]; s < first[q + 1]; s++)
            *ret++ = plan->offsets[s + 1] - plan->offsets[s];
        if (h->dedup)
            *ret++ = h->send_copies[q];
        ret_bytes[q] = (ret - at) * (int64_t)sizeof *ret;
    }
}

static void take_counts(moe_int_handle *h, const int64_t *counts) {
    for (int32_t q = 0; q < h->ranks; q++) {
        memcpy(h->receive_counts + q * h->own, counts, (size_t)h->own * sizeof *counts);
        h->receive_pairs[q] = h->receive_copies[q] = 0;
        for (int64_t e = 0; e < h->own; e++) {
            h->receive_pairs[q] += counts[e];
            h->receive_copies[q] += moe_int_sent_rows(&h->pad, counts[e]);
        }
        counts += h->own;
        if (h->dedup)
            h->receive_copies[q] = *counts++;
    }
    h->received_pairs = total(h->receive_pairs, h->ranks);
    h->received_copies = total(h->receive_copies, h->ranks);
}

static moe_status exchange_counts(moe_int_handle *h, moe_int_comm *c, const moe_plan *plan,
                                  const int64_t *first) {
    int64_t send_bytes[MOE_EP_MAX_RANKS], receive_bytes[MOE_EP_MAX_RANKS];
    int64_t *sent = moe_int_some(plan->n_experts + h->ranks, sizeof *sent);
    int64_t *came = moe_int_some((h->own + 1) * h->ranks, sizeof *came);
    moe_status status = sent && came ? MOE_OK : MOE_E_NOMEM;
    if (!status) {
        fill_counts(h, plan, first, sent, send_bytes);
        for (int32_t q = 0; q < h->ranks; q++)
            receive_bytes[q] = (h->own + h->dedup) * (int64_t)sizeof *came;
        status = moe_int_comm_exchange(c, MOE_EP_COUNTS, sent, send_bytes, came, receive_bytes);
    }
    if (!status)
        take_counts(h, came);
    free(sent);
    free(came);
    return status;
}

int64_t moe_int_handle_rows(const moe_int_handle *h, int64_t slot) {
    int64_t sum = 0;
    for (int32_t q = 0; q < h->ranks; q++)
        sum += h->receive_counts[q * h->own + slot];
    return sum;
}

/* ---- making one ---- */

/* Copies that there may be. */
static int64_t most_copies(const moe_int_handle *h, const moe_plan *plan) {
    const int64_t pairs = plan->n_pairs, most = plan->n_tokens * h->ranks;
    int64_t sum = 0;
    if (h->dedup) /* a destination's are filled up by less than a multiple */
        return (pairs < most ? pairs : most) + h->ranks * (moe_int_sent_rows(&h->pad, 1) - 1);
    for (int64_t s = 0; s < plan->n_experts; s++)
        sum += moe_int_sent_rows(&h->pad, plan->offsets[s + 1] - plan->offsets[s]);
    return sum;
}

static moe_status allocate(moe_int_handle *h, const moe_plan *plan) {
    const int64_t pairs = plan->n_pairs;
    h->send_pairs = moe_int_some(h->ranks, sizeof *h->send_pairs);
    h->send_copies = moe_int_some(h->ranks, sizeof *h->send_copies);
    h->receive_pairs = moe_int_some(h->ranks, sizeof *h->receive_pairs);
    h->receive_copies = moe_int_some(h->ranks, sizeof *h->receive_copies);
    h->receive_counts = moe_int_some(h->ranks * h->own, sizeof *h->receive_counts);
    h->send_token = moe_int_some(most_copies(h, plan), sizeof *h->send_token);
    h->send_at = moe_int_some(h->dedup ? 0 : pairs, sizeof *h->send_at);
    h->send_copy = moe_int_some(h->dedup ? pairs : 0, sizeof *h->send_copy);
    return h->send_pairs && h->send_copies && h->receive_pairs && h->receive_copies &&
                   h->receive_counts && h->send_token && h->send_at && h->send_copy
               ? MOE_OK
               : MOE_E_NOMEM;
}

moe_status moe_int_handle_make(moe_int_comm *c, const moe_plan *plan, const int64_t *first,
                               int32_t combine, const moe_int_pad *pad, moe_dtype weight,
                               moe_int_ep_fault fault, moe_int_handle *ret) {
    *ret = (moe_int_handle){.ranks = c->ranks,
                            .dedup = combine == MOE_EP_RANKS,
                            .own = first[c->rank + 1] - first[c->rank],
                            .pairs = plan->n_pairs,
                            .pad = *pad,
                            .fault = fault};
    if (fault == MOE_INT_EP_PADDING_NOT_SENT)
        ret->pad.where = MOE_EP_PAD_NONE;
    moe_status status = allocate(ret, plan);
    if (!status)
        status = list_sends(ret, plan, first);
    if (!status)
        status = exchange_counts(ret, c, plan, first);
    if (!status)
        status = moe_int_handle_receive(ret, c, plan, weight);
    return status;
}

void moe_int_handle_destroy(moe_int_handle *h) {
    free(h->send_pairs);
    free(h->send_copies);
    free(h->receive_pairs);
    free(h->receive_copies);
    free(h->send_token);
    free(h->send_at);
    free(h->send_copy);
    free(h->receive_counts);
    free(h->receive_at);
    free(h->row_of);
    moe_plan_destroy(&h->plan);
    *h = (moe_int_handle){0};
}
