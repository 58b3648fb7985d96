/* Results as one device would have them. Rows of experts are the owners' one after the other, rows
 * of tokens the homes'; what belongs to pairs lies by expert and then by rank. Gradients of what
 * every rank has are the ranks' sums, added in their order. */
#include "chunks.h"
#include "parts.h"

#include <stdlib.h>

namespace {

enum Kind { OF_OWNERS, OF_ROWS, OF_TOKENS, OF_PAIRS, OF_ALL };

Kind kind_of(moe_tensor_id id) {
    switch ((int)id) {
    case MOE_T_DW1:
    case MOE_T_DB1:
    case MOE_T_DW2:
    case MOE_T_DB2:
        return OF_OWNERS;
    case MOE_T_H:
    case MOE_T_A:
    case MOE_T_Y:
    case MOE_T_DH:
    case MOE_T_DXP:
        return OF_ROWS;
    case MOE_T_S:
    case MOE_T_DS:
        return OF_PAIRS;
    case MOE_T_DW_R:
    case MOE_T_DB_R:
    case MOE_T_DW1_SHARED:
    case MOE_T_DW2_SHARED:
    case MOE_T_DW_GATE_SHARED:
        return OF_ALL;
    default:
        return OF_TOKENS;
    }
}

int64_t row_elements(const moe_tensor *t) {
    int64_t count = 1;
    for (int i = 1; i < t->ndim; i++)
        count *= t->shape[i];
    return count;
}

/* `count` rows from `first` on. */
moe_tensor part_of(const moe_tensor *all, int64_t first, int64_t count) {
    moe_tensor part = *all;
    part.data = static_cast<char *>(all->data) +
                first * row_elements(all) * (int64_t)moe_dtype_size(all->dtype);
    part.shape[0] = count;
    return part;
}

moe_status read_offsets(const RankPart *p, const int *offsets, int count, std::vector<int> *ret) {
    const OnDevice current(p->owner->dev);
    ret->resize((size_t)count);
    return current.status
               ? current.status
               : layer_download(p->owner, ret->data(), offsets, (size_t)count * sizeof(int));
}

moe_status fetch_of_owners(RanksLayer *l, moe_tensor_id id, bool rows, moe_tensor *dst) {
    int64_t first = 0;
    moe_status status = MOE_OK;
    for (int r = 0; !status && r < l->dev->group->words.ranks; r++) {
        const RankPart *p = &l->part[r];
        const int own = p->owner->routed.rows.E;
        int64_t count = own;
        std::vector<int> offsets;
        if (rows)
            status = read_offsets(p, p->owner->routed.rows.offsets, own + 1, &offsets);
        if (!status && rows)
            count = offsets[(size_t)own];
        moe_tensor part = part_of(dst, first, count);
        if (!status && count)
            status = layer_fetch(p->owner, id, &part);
        first += count;
    }
    return status;
}

moe_status fetch_of_tokens(RanksLayer *l, moe_tensor_id id, moe_tensor *dst) {
    moe_status status = MOE_OK;
    for (int r = 0; !status && r < l->dev->group->words.ranks; r++) {
        const RankPart *p = &l->part[r];
        moe_tensor part = part_of(dst, p->first_token, p->tokens);
        if (p->home)
            status = layer_fetch(p->home, id, &part);
    }
    return status;
}

/* One rank's values to where one device has them. `first` [bins + 1] is that device's next row of
 * each expert. */
moe_status place_pairs(RanksLayer *l, int r, moe_tensor_id id, std::vector<int64_t> *first,
                       moe_tensor *dst) {
    RankPart *p = &l->part[r];
    const int bins = (int)(l->desc.E + l->desc.n_zero);
    const int64_t size = (int64_t)moe_dtype_size(dst->dtype);
    std::vector<int> offsets;
    if (!p->home)
        return MOE_OK;
    moe_status status = read_offsets(p, p->home->routed.rows.offsets, bins + 1, &offsets);
    if (status)
        return status;
    std::vector<char> room((size_t)(offsets[(size_t)bins] * size + 1));
    moe_tensor mine = {};
    mine.data = room.data();
    mine.dtype = dst->dtype;
    mine.ndim = 1;
    mine.shape[0] = offsets[(size_t)bins];
    status = layer_fetch(p->home, id, &mine);
    for (size_t e = 0; !status && e < (size_t)bins; e++)
        for (int i = offsets[e]; i < offsets[e + 1]; i++)
            for (int64_t b = 0, to = (*first)[e]++ * size; b < size; b++)
                static_cast<char *>(dst->data)[to + b] = room[(size_t)(i * size + b)];
    return status;
}

moe_status fetch_of_pairs(RanksLayer *l, moe_tensor_id id, moe_tensor *dst) {
    const size_t bins = (size_t)(l->desc.E + l->desc.n_zero);
    std::vector<int64_t> first(bins + 1, 0);
    moe_status status = MOE_OK;
    for (int r = 0; !status && r < l->dev->group->words.ranks; r++) {
        std::vector<int> offsets;
        if (!l->part[r].home)
            continue;
        status = read_offsets(&l->part[r], l->part[r].home->routed.rows.offsets, (int)bins + 1,
                              &offsets);
        for (size_t e = 0; !status && e < bins; e++)
            first[e + 1] += offsets[e + 1] - offsets[e];
    }
    for (size_t e = 0; e < bins; e++)
        first[e + 1] += first[e];
    for (int r = 0; !status && r < l->dev->group->words.ranks; r++)
        status = place_pairs(l, r, id, &first, dst);
    return status;
}

moe_status fetch_sum(RanksLayer *l, moe_tensor_id id, moe_tensor *dst) {
    const size_t count = (size_t)moe_tensor_count(dst);
    std::vector<float> sum(count, 0.f), one(count);
    moe_tensor part = *dst;
    part.data = one.data();
    part.dtype = MOE_F32;
    moe_status status = MOE_OK;
    for (int r = 0; !status && r < l->dev->group->words.ranks; r++) {
        if (!l->part[r].home)
            continue;
        status = layer_fetch(l->part[r].home, id, &part);
        for (size_t i = 0; !status && i < count; i++)
            sum[i] += one[i];
    }
    if (!status)
        moe_convert(dst->data, dst->dtype, sum.data(), MOE_F32, count);
    return status;
}

} // namespace

moe_status ranks_fetch(RanksLayer *l, moe_tensor_id id, moe_tensor *dst) {
    switch (kind_of(id)) {
    case OF_OWNERS:
        return fetch_of_owners(l, id, false, dst);
    case OF_ROWS:
        return fetch_of_owners(l, id, true, dst);
    case OF_PAIRS:
        return fetch_of_pairs(l, id, dst);
    case OF_ALL:
        return fetch_sum(l, id, dst);
    case OF_TOKENS:
        break;
    }
    return fetch_of_tokens(l, id, dst);
}

/* The ranks' choices, one after the other. */
moe_status ranks_routing(RanksLayer *l, const moe_plan **ret) {
    const size_t K = (size_t)l->desc.K, count = (size_t)l->use.tokens * K;
    std::vector<int32_t> expert(count), token(count);
    std::vector<float> weight(count);
    moe_status status = MOE_OK;
    for (int r = 0; !status && !l->plan && r < l->dev->group->words.ranks; r++) {
        const RankPart *p = &l->part[r];
        const size_t at = (size_t)p->first_token * K, bytes = (size_t)p->tokens * K * 4;
        const OnDevice current(p->owner->dev);
        status = current.status;
        if (!status && p->home)
            status = layer_download(p->home, expert.data() + at, p->home->choice, bytes);
        if (!status && p->home)
            status = layer_download(p->home, weight.data() + at, p->home->choice_weight, bytes);
    }
    for (size_t i = 0; i < count; i++)
        token[i] = (int32_t)(i / K);
    const std::vector<double> wide(weight.begin(), weight.end());
    if (!status && !l->plan)
        status = moe_plan_create(l->use.tokens, l->desc.E + l->desc.n_zero, (int64_t)count,
                                 token.data(), expert.data(), wide.data(), l->dev->log, &l->plan);
    if (!status)
        *ret = l->plan;
    return status;
}

moe_status ranks_memory(const RanksLayer *l, moe_memory *ret) {
    *ret = {};
    for (int r = 0; r < l->dev->group->words.ranks; r++)
        for (Layer *layer : {l->part[r].home, l->part[r].owner}) {
            moe_memory one = {};
            if (!layer || layer_memory(layer, &one))
                continue;
            ret->weights += one.weights;
            ret->cached += one.cached;
            ret->peak += one.peak;
        }
    return MOE_OK;
}
