/* Rows of nobody: zeros beside the rows of pairs. */
#include "ep/padding.h"

#include <stdlib.h>
#include <string.h>

const char *moe_ep_padding_name(int32_t padding) {
    static const char *const names[MOE_EP_PADDING_COUNT] = {"none", "owner", "wire", "capacity"};
    return padding >= 0 && padding < MOE_EP_PADDING_COUNT ? names[padding] : "?";
}

static int64_t rounded(int64_t count, int64_t multiple) {
    return (count + multiple - 1) / multiple * multiple;
}

int64_t moe_int_sent_rows(const moe_int_pad *pad, int64_t count) {
    return pad->where == MOE_EP_PAD_CAPACITY ? pad->rows
           : pad->where == MOE_EP_PAD_WIRE   ? rounded(count, pad->rows)
                                             : count;
}

int64_t moe_int_owned_rows(const moe_int_pad *pad, int64_t count) {
    return pad->where == MOE_EP_PAD_OWNER ? rounded(count, pad->rows) : count;
}

void moe_ep_layout_pad(moe_ep_layout *l, int32_t padding, int64_t rows) {
    const moe_int_pad pad = {padding, rows > 0 ? rows : 1};
    for (int32_t r = 0; r < l->ranks; r++)
        for (int32_t q = 0; q < l->ranks; q++) {
            int64_t *copies = &l->copies[(int64_t)r * l->ranks + q];
            if (l->combine == MOE_EP_RANKS) {
                *copies = moe_int_sent_rows(&pad, *copies);
                continue;
            }
            *copies = 0;
            for (int64_t s = l->first[q]; s < l->first[q + 1]; s++)
                *copies += moe_int_sent_rows(&pad, l->counts[r * l->slots + s]);
        }
}

int64_t moe_int_owner_padding(const moe_int_pad *pad, const int64_t *counts, int64_t slots) {
    int64_t sum = 0;
    for (int64_t s = 0; s < slots; s++)
        sum += moe_int_owned_rows(pad, counts[s]) - counts[s];
    return sum;
}

void moe_int_pad_pairs(const moe_int_pad *pad, const int64_t *counts, int64_t slots, int64_t row,
                       int64_t at, int32_t *token, int32_t *slot, double *weight) {
    for (int64_t s = 0; s < slots; s++)
        for (int64_t i = counts[s]; i < moe_int_owned_rows(pad, counts[s]); i++, at++, row++) {
            token[at] = (int32_t)row;
            slot[at] = (int32_t)s;
            weight[at] = 0;
        }
}

void moe_int_repeat_rows(const moe_plan *plan, int64_t copies, const moe_tensor *rows) {
    const size_t size = moe_dtype_size(rows->dtype) * (size_t)rows->shape[1];
    char *data = rows->data;
    for (int64_t s = 0; s < plan->n_experts; s++)
        for (int64_t p = plan->offsets[s] + 1; p < plan->offsets[s + 1]; p++)
            if (plan->token[p] >= copies) {
                memcpy(data + (size_t)plan->token[p] * size,
                       data + (size_t)plan->token[p - 1] * size, size);
                plan->weight[p] = plan->weight[p - 1];
            }
}
