/* Weights of pairs on their way to the owners, and the plan of what came. */
#include "ep/handle.h"

#include <stdlib.h>
#include <string.h>

/* Expert, copy and weight of each received pair, and of those of nobody. */
typedef struct received {
    int32_t *token, *expert;
    double *weight;
    int64_t *count; /* [own] received pairs */
} received;

/* Places by rank, expert and then token; copies of a rank follow those of the ranks before it. */
static void name_pairs(const moe_int_handle *h, received *r) {
    const bool scanned = h->fault != MOE_INT_EP_PADDING_NOT_SCANNED;
    int64_t j = 0, base = 0;
    for (int32_t q = 0; q < h->ranks; q++) {
        int64_t at = base;
        for (int64_t e = 0; e < h->own; e++) {
            const int64_t count = h->receive_counts[q * h->own + e];
            for (int64_t i = 0; i < count; i++, j++) {
                r->expert[j] = (int32_t)e;
                r->token[j] = (int32_t)(h->dedup ? base + r->token[j] : at + i);
                h->receive_at[j] = r->token[j];
            }
            at += scanned ? moe_int_sent_rows(&h->pad, count) : count;
        }
        base += h->receive_copies[q];
    }
}

/* Where its scan is off, a rank takes each source's copies for those of the next. */
static void shift_sources(const moe_int_handle *h, received *r) {
    int64_t base[MOE_EP_MAX_RANKS + 1] = {0};
    for (int32_t q = 0; q < h->ranks; q++)
        base[q + 1] = base[q] + h->receive_copies[q];
    const int64_t by = h->fault == MOE_INT_EP_SCAN_SHIFTED ? h->receive_copies[0] : 0;
    for (int64_t j = 0; j < h->received_pairs && h->received_copies; j++)
        r->token[j] = (int32_t)((r->token[j] + by) % h->received_copies);
}

static void keep_first_expert(const moe_int_handle *h, received *r) {
    unsigned char *seen = moe_int_some(h->received_copies, 1);
    for (int64_t j = 0; seen && j < h->received_pairs; j++) {
        if (seen[r->token[j]])
            r->weight[j] = 0;
        seen[r->token[j]] = 1;
    }
    free(seen);
}

/* A stable counting sort by expert, as the plan has it: tokens ascend within an expert, as ranks do
 * and tokens within a rank. */
static void find_rows(moe_int_handle *h, const received *r) {
    int64_t *next = moe_int_some(h->own + 1, sizeof *next);
    for (int64_t e = 0; next && e < h->own; e++)
        next[e] = h->plan->offsets[e];
    for (int64_t j = 0; next && j < h->received_pairs; j++)
        h->row_of[j] = next[r->expert[j]]++;
    free(next);
}

static moe_status make_plan(moe_int_handle *h, received *r) {
    h->receive_at = moe_int_some(h->received_pairs, sizeof *h->receive_at);
    if (!h->receive_at)
        return MOE_E_NOMEM;
    name_pairs(h, r);
    if (h->fault == MOE_INT_EP_SCAN_SHIFTED)
        shift_sources(h, r);
    if (h->fault == MOE_INT_EP_FIRST_EXPERT_ONLY && h->dedup)
        keep_first_expert(h, r);
    h->row_of = moe_int_some(h->received_pairs, sizeof *h->row_of);
    if (!h->row_of)
        return MOE_E_NOMEM;
    if (!h->received_pairs)
        return MOE_OK;
    moe_int_pad_pairs(&h->pad, r->count, h->own, h->received_copies, h->received_pairs, r->token,
                      r->expert, r->weight);
    moe_status status =
        moe_plan_create(h->received_copies + h->added, h->own, h->received_pairs + h->added,
                        r->token, r->expert, r->weight, NULL, &h->plan);
    if (!status)
        find_rows(h, r);
    return status;
}

/* Records of a weight and, deduplicated, a copy's number. */
static void pack_pairs(const moe_int_handle *h, const moe_plan *plan, moe_dtype weight, char *ret) {
    const size_t size = moe_dtype_size(weight);
    for (int64_t p = 0; p < h->pairs; p++) {
        double w; /* aligned room for any type */
        moe_store(&w, weight, 0, plan->weight[p]);
        memcpy(ret, &w, size);
        ret += size;
        if (h->dedup) {
            memcpy(ret, &h->send_copy[p], sizeof *h->send_copy);
            ret += sizeof *h->send_copy;
        }
    }
}

static void unpack_pairs(const moe_int_handle *h, const char *from, moe_dtype weight, received *r) {
    const size_t size = moe_dtype_size(weight);
    for (int64_t j = 0; j < h->received_pairs; j++) {
        double w;
        memcpy(&w, from, size);
        from += size;
        r->weight[j] = moe_load(&w, weight, 0);
        if (h->dedup) {
            memcpy(&r->token[j], from, sizeof *r->token);
            from += sizeof *r->token;
        }
    }
}

static moe_status make_room(moe_int_handle *h, received *r) {
    for (int64_t e = 0; e < h->own; e++)
        r->count[e] = moe_int_handle_rows(h, e);
    h->added = moe_int_owner_padding(&h->pad, r->count, h->own);
    const int64_t pairs = h->received_pairs + h->added;
    r->token = moe_int_some(pairs, sizeof *r->token);
    r->expert = moe_int_some(pairs, sizeof *r->expert);
    r->weight = moe_int_some(pairs, sizeof *r->weight);
    return r->token && r->expert && r->weight ? MOE_OK : MOE_E_NOMEM;
}

moe_status moe_int_handle_receive(moe_int_handle *h, moe_int_comm *c, const moe_plan *plan,
                                  moe_dtype weight) {
    const int64_t size =
        (int64_t)moe_dtype_size(weight) + (h->dedup ? (int64_t)sizeof(int32_t) : 0);
    int64_t send_bytes[MOE_EP_MAX_RANKS], receive_bytes[MOE_EP_MAX_RANKS];
    char *sent = moe_int_some(h->pairs * size, 1),
         *came = moe_int_some(h->received_pairs * size, 1);
    received r = {.count = moe_int_some(h->own, sizeof *r.count)};
    moe_status status = sent && came && r.count ? make_room(h, &r) : MOE_E_NOMEM;
    if (!status) {
        pack_pairs(h, plan, weight, sent);
        for (int32_t q = 0; q < h->ranks; q++) {
            send_bytes[q] = h->send_pairs[q] * size;
            receive_bytes[q] = h->receive_pairs[q] * size;
        }
        status = moe_int_comm_exchange(c, MOE_EP_WEIGHTS, sent, send_bytes, came, receive_bytes);
    }
    if (!status) {
        unpack_pairs(h, came, weight, &r);
        status = make_plan(h, &r);
    }
    free(sent);
    free(came);
    free(r.token);
    free(r.expert);
    free(r.weight);
    free(r.count);
    return status;
}
