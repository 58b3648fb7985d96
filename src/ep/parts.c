/* Experts that are cut into parts, or lie on several ranks: their weights, and their gradients put
 * together again. */
#include "ep/rank.h"
#include "layer/cut.h"

#include <stdlib.h>
#include <string.h>

bool moe_int_ep_is_plain(const moe_ep_slots *slots) {
    return slots->tp == 1 && slots->count == slots->experts;
}

static int64_t unit_of(const moe_int_ep_layer *l, int32_t part) {
    return part * l->desc.n / l->slots.tp;
}

int64_t moe_int_ep_first_unit(const moe_int_ep_layer *l, int32_t rank) {
    return unit_of(l, rank % l->slots.tp);
}

int64_t moe_int_ep_units(const moe_int_ep_layer *l, int32_t rank) {
    return unit_of(l, rank % l->slots.tp + 1) - moe_int_ep_first_unit(l, rank);
}

/* ---- weights ---- */

typedef struct cutting {
    const char *from;
    char *to;
    int64_t size;
} cutting;

static void copy_cut(void *user, int64_t whole, int64_t part, int64_t count) {
    const cutting *k = user;
    memcpy(k->to + part * k->size, k->from + whole * k->size, (size_t)(count * k->size));
}

/* b2 is added once: all parts but the first have zeros. */
static bool has_bias(const moe_int_ep_layer *l, int32_t rank) {
    return rank % l->slots.tp == 0 || l->dev->fault == MOE_INT_EP_BIAS_OF_EVERY_PART;
}

static moe_status cut(const moe_int_ep_layer *l, int32_t rank, moe_tensor_id id, moe_tensor *ret) {
    const moe_ep_slots *s = &l->slots;
    const moe_tensor *all = &l->params.t[id];
    const int64_t units = moe_int_ep_units(l, rank), count = s->first[rank + 1] - s->first[rank];
    moe_layer_desc desc = l->desc;
    moe_tensor shape = {0};
    desc.n = units;
    desc.E = count;
    moe_tensor_shape(&desc, id, 0, 0, 0, &shape);
    moe_status status = moe_tensor_alloc(all->dtype, shape.ndim, shape.shape, ret);
    if (id == MOE_T_B2 && !has_bias(l, rank))
        return status;
    for (int64_t i = 0; !status && i < count; i++) {
        const int64_t expert = s->expert[s->first[rank] + i];
        cutting k = {(const char *)all->data + expert * (moe_tensor_bytes(all) / all->shape[0]),
                     (char *)ret->data + i * (moe_tensor_bytes(ret) / count),
                     (int64_t)moe_dtype_size(all->dtype)};
        moe_int_cut(&l->desc, id, moe_int_ep_first_unit(l, rank), units, copy_cut, &k);
    }
    return status;
}

moe_status moe_int_ep_cut(const moe_int_ep_layer *l, int32_t rank, moe_tensors *ret) {
    static const moe_tensor_id of_experts[] = {MOE_T_W1, MOE_T_B1, MOE_T_W2, MOE_T_B2};
    moe_status status = MOE_OK;
    for (int i = 0; !status && i < 4; i++)
        if (l->params.t[of_experts[i]].data)
            status = cut(l, rank, of_experts[i], &ret->t[of_experts[i]]);
    return status;
}

/* ---- gradients ---- */

typedef struct joining {
    const moe_int_ep_layer *l;
    const void *from;
    int64_t at; /* of the slot in `from` */
    double *to;
    bool first; /* of the expert's replicas */
} joining;

static void add_part(void *user, int64_t whole, int64_t part, int64_t count) {
    const joining *k = user;
    for (int64_t i = 0; i < count; i++) {
        const double x = moe_load(k->from, k->l->held, (size_t)(k->at + part + i));
        double *sum = &k->to[whole + i];
        *sum = k->first ? x : moe_int_ep_step(k->l, *sum + x);
    }
}

/* Is this slot the first that has its part of its expert? */
static bool is_first(const moe_ep_slots *s, int32_t rank, int64_t slot) {
    for (int32_t r = rank % s->tp; r < rank; r += s->tp)
        for (int64_t i = s->first[r]; i < s->first[r + 1]; i++)
            if (s->expert[i] == s->expert[slot])
                return false;
    return true;
}

/* Elements of one slot's gradient on a rank, and of an expert's. */
static int64_t elements(const moe_int_ep_layer *l, moe_tensor_id id, int64_t units) {
    moe_layer_desc desc = l->desc;
    moe_tensor shape = {0};
    desc.n = units;
    desc.E = 1;
    moe_tensor_shape(&desc, id, 1, 0, 0, &shape);
    return moe_tensor_count(&shape);
}

int64_t moe_int_ep_slot_elements(const moe_int_ep_layer *l, moe_tensor_id id, int32_t rank) {
    return elements(l, id, moe_int_ep_units(l, rank));
}

void moe_int_ep_join(const moe_int_ep_layer *l, moe_tensor_id id, const void *slots, double *ret) {
    const moe_ep_slots *s = &l->slots;
    const int64_t whole = elements(l, id, l->desc.n);
    const bool first_alone = l->dev->fault == MOE_INT_EP_REPLICAS_NOT_SUMMED;
    int64_t at = 0;
    for (int32_t r = 0; r < s->ranks; r++)
        for (int64_t i = s->first[r]; i < s->first[r + 1]; i++) {
            joining k = {l, slots, at, ret + s->expert[i] * whole, is_first(s, r, i)};
            at += moe_int_ep_slot_elements(l, id, r);
            if ((id == MOE_T_DB2 && r % s->tp) || (first_alone && !k.first))
                continue;
            moe_int_cut(&l->desc, id, moe_int_ep_first_unit(l, r), moe_int_ep_units(l, r), add_part,
                        &k);
        }
}
