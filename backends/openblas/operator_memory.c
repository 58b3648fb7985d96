/* Sizes of a call's buffers, and where they lie in the memories that the caller gives. */
#include "operator.h"
#include "tasks.h"

#include <string.h>

enum { ALIGN = 64 };

void ob_call_describe(const ob_operator *op, int64_t tokens, int64_t columns, ob_layer *ret) {
    *ret = (ob_layer){.dev = op->dev,
                      .desc = op->desc,
                      .use = {.tokens = tokens,
                              .dtype = op->use.dtype,
                              .pass = op->use.pass,
                              .plan_given = op->use.routed == MOE_ROUTED_BY_CALLER},
                      .T = tokens,
                      .R = op->desc.E + op->desc.n_zero};
    ob_layer_describe(ret);
    ret->routed.rows = tokens * columns; /* at most */
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

typedef struct piece {
    ob_buffer_id id;
    ob_where where;
    bool wanted;
    int64_t count;
    size_t size;
} piece;

enum { PIECES = 19 };

static void list_pieces(const ob_layer *l, piece *ret) {
    const bool routes = !l->use.plan_given, shared = l->desc.n_shared > 0;
    const bool gate = shared && l->desc.shared_gate;
    const int64_t T = l->T, Td = T * l->desc.d, rows = l->routed.rows, d = l->desc.d;
    const int64_t wide = l->routed.width, wide_shared = l->shared.width;
    const piece all[PIECES] = {
        {OB_BUF_H, OB_CACHED, true, rows * wide, sizeof(float)},
        {OB_BUF_H_SHARED, OB_CACHED, shared, T * wide_shared, sizeof(float)},
        {OB_BUF_LOGITS, OB_CACHED, routes, T * l->R, sizeof(double)},
        {OB_BUF_GATE, OB_CACHED, gate, T, sizeof(float)},
        {OB_BUF_GATE_LOGIT, OB_CACHED, gate, T, sizeof(double)},
        {OB_BUF_X, OB_EITHER, true, Td, sizeof(float)},
        {OB_BUF_O, OB_FORWARD, true, Td, sizeof(float)},
        {OB_BUF_WEIGHT, OB_EITHER, true, rows, sizeof(float)},
        {OB_BUF_WORK, OB_FORWARD, true, rows * d, sizeof(float)},
        {OB_BUF_PACK, OB_EITHER, true, (int64_t)ob_pack_floats(l) * l->dev->threads, sizeof(float)},
        {OB_BUF_DO, OB_BACKWARD, true, Td, sizeof(float)},
        {OB_BUF_DX, OB_BACKWARD, true, Td, sizeof(float)},
        {OB_BUF_DS, OB_BACKWARD, true, rows, sizeof(double)},
        {OB_BUF_DS_SHARED, OB_BACKWARD, shared, T, sizeof(double)},
        {OB_BUF_DLOGITS, OB_BACKWARD, routes, T * l->R, sizeof(double)},
        {OB_BUF_DZ, OB_BACKWARD, routes, T * l->R, sizeof(float)},
        {OB_BUF_DH, OB_BACKWARD, true, larger(rows * wide, T * wide_shared), sizeof(float)},
        {OB_BUF_WORK, OB_BACKWARD, true, larger(rows * larger(d, l->desc.n), T * l->desc.n_shared),
         sizeof(float)},
        {OB_BUF_COUNT, OB_EITHER, false, 0, 0},
    };
    memcpy(ret, all, sizeof all);
}

size_t ob_call_padded(size_t bytes) {
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Inference has nothing to keep: what would be cached is scratch. */
static bool lies_in(const ob_layer *l, const piece *p, ob_where memory) {
    const bool keeps = l->use.pass & MOE_PASS_BWD;
    if (!p->wanted)
        return false;
    if (p->where == OB_CACHED)
        return memory == (keeps ? OB_CACHED : OB_FORWARD);
    return memory == p->where || (p->where == OB_EITHER && memory != OB_CACHED);
}

int64_t ob_call_lay_out(ob_layer *l, ob_where memory, char *base) {
    piece all[PIECES];
    size_t at = ALIGN - (base ? (uintptr_t)base % ALIGN : 0);
    list_pieces(l, all);
    for (int i = 0; i < PIECES; i++) {
        if (!lies_in(l, &all[i], memory))
            continue;
        const size_t bytes = (size_t)all[i].count * all[i].size;
        if (base)
            l->buffer[all[i].id] = (ob_buffer){base + at, bytes};
        at += ob_call_padded(bytes);
    }
    return at == ALIGN && !base ? 0 : (int64_t)at;
}
