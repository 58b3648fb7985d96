#include "reference/tensorcore/chain.h"
#include "core/convert.h"
#include "moeref/tensor.h"

#include <string.h>

enum { LANES = MOE_INT_LANES, MOST_PARTS = 1 << 20 };

/* Products that are added between two decisions of the order. */
static int block_of(const moe_int_chain *c) {
    return moe_int_layouts[c->format].bytes == 1 ? 32 : 16;
}

moe_status moe_int_chain_make(const moe_arithmetic *how, moe_int_format format,
                              moe_int_chain *ret) {
    const moe_int_chain c = {moe_int_unit_find(how->unit), format, *how};
    if (!c.unit || c.unit->rule[format].terms == 0)
        return MOE_E_NOTFOUND;
    const int block = block_of(&c);
    const int32_t parts[] = {how->split, how->warps, how->block, how->promote};
    for (int i = 0; i < 4; i++)
        if (parts[i] < 0 || parts[i] > MOST_PARTS || (i >= 2 && parts[i] % block))
            return MOE_E_INVALID;
    const bool several = (how->split > 1) + (how->warps > 1) + (how->promote > 0) > 1;
    if (several || how->order < 0 || how->order >= MOE_K_ORDER_COUNT ||
        (how->carry && how->carry != MOE_BF16 && how->carry != MOE_F16))
        return MOE_E_INVALID;
    *ret = c;
    return MOE_OK;
}

moe_int_packing moe_int_chain_packing(const moe_int_chain *chain) {
    return chain->unit->rule[chain->format].kept ? MOE_INT_PACK_LEFT : MOE_INT_PACK_VALUES;
}

/* The walk over one group of lanes. */
typedef struct walk {
    const moe_int_chain *chain;
    const moe_int_dot_rule *rule;
    moe_int_factors a, b;
    int fraction, block;
    int64_t blocks;      /* of K */
    uint32_t acc[LANES]; /* of the chain at hand */
    float sum[LANES];    /* of those that are done */
    int64_t done;        /* blocks of the chain at hand */
    bool any;            /* a chain is done */
    moe_int_watch watch;
    void *user;
    int lane;
} walk;

static void add_fp32(walk *w, int64_t k, int count) {
    if (!w->a.value || !w->b.value) /* packed for a unit that multiplies in integers */
        return;
    for (int i = 0; i < count; i++) {
        const float a = w->a.value[k + i], *b = w->b.value + (k + i) * LANES;
        for (int l = 0; l < LANES; l++) {
            float c = moe_int_f32_from_bits(w->acc[l]);
            w->acc[l] = moe_int_f32_bits(c + a * b[l]);
        }
    }
}

static void add_by_fp16(walk *w, int64_t k) {
    for (int l = 0; l < LANES; l++)
        w->acc[l] = moe_int_dot_by_fp16(w->rule, w->fraction, w->a.sig + k, w->a.exp + k,
                                        w->b.sig + k * LANES + l, w->b.exp + k * LANES + l, LANES,
                                        w->acc[l]);
}

static void carry(walk *w) {
    for (int l = 0; l < LANES; l++) {
        double v = moe_int_f32_from_bits(w->acc[l]);
        w->acc[l] = moe_int_f32_bits((float)moe_round_to(v, (moe_dtype)w->chain->how.carry));
    }
}

static void report(const walk *w, int64_t k) {
    if (w->watch)
        w->watch(w->user, k, moe_int_f32_from_bits(w->acc[w->lane]));
}

/* Blocks that a group of `block` products has. */
static int64_t group_blocks(const walk *w) {
    const int64_t n = w->chain->how.block / w->block;
    return n > 0 ? n : 1;
}

static void add_block(walk *w, int64_t number) {
    const int64_t at = w->chain->how.order == MOE_K_DESCENDING ? w->blocks - 1 - number : number;
    const int64_t k = at * w->block;
    if (w->chain->how.carry && w->done && w->done % group_blocks(w) == 0)
        carry(w);
    if (!w->rule->kept)
        add_fp32(w, k, w->block);
    else if (w->rule->by_fp16)
        add_by_fp16(w, k);
    else
        moe_int_dot_lanes(w->rule, w->fraction, &w->a, &w->b, k, k + w->block, w->acc);
    w->done++;
    report(w, k);
}

static void end_chain(walk *w) {
    if (w->done == 0)
        return;
    for (int l = 0; l < LANES; l++) {
        const float one = moe_int_f32_from_bits(w->acc[l]);
        w->sum[l] = w->any ? w->sum[l] + one : one;
        w->acc[l] = 0;
    }
    w->any = true;
    w->done = 0;
}

/* Nothing happens between ascending blocks: they are one run of steps. */
static bool is_one_run(const walk *w) {
    const moe_arithmetic *how = &w->chain->how;
    return w->rule->kept && !w->rule->by_fp16 && how->order == MOE_K_ASCENDING && !how->carry &&
           !w->watch;
}

/* Blocks first .. end - 1 as one chain. */
static void run_part(walk *w, int64_t first, int64_t end) {
    const bool at_once = is_one_run(w);
    if (at_once) {
        moe_int_dot_lanes(w->rule, w->fraction, &w->a, &w->b, first * w->block, end * w->block,
                          w->acc);
        w->done = end - first;
    }
    for (int64_t b = first; !at_once && b < end; b++)
        add_block(w, b);
    end_chain(w);
}

/* The groups of one warp. */
static void run_warp(walk *w, int warp) {
    const int64_t size = group_blocks(w);
    for (int64_t first = warp * size; first < w->blocks; first += w->chain->how.warps * size)
        for (int64_t b = first; b < first + size && b < w->blocks; b++)
            add_block(w, b);
    end_chain(w);
}

static void run(walk *w) {
    const moe_arithmetic *how = &w->chain->how;
    int64_t part = w->blocks;
    if (how->warps > 1) {
        for (int i = 0; i < how->warps; i++)
            run_warp(w, i);
        return;
    }
    if (how->split > 1) {
        const int64_t size = group_blocks(w), groups = (w->blocks + size - 1) / size;
        part = (groups + how->split - 1) / how->split * size;
    }
    if (how->promote > 0)
        part = how->promote / w->block;
    for (int64_t first = 0; first < w->blocks; first += part)
        run_part(w, first, first + part < w->blocks ? first + part : w->blocks);
}

static moe_int_factors at(const moe_int_factors *f, int64_t first) {
    return (moe_int_factors){f->sig + first, f->exp + first, f->value ? f->value + first : NULL};
}

static walk make_walk(const moe_int_chain *chain, const moe_int_packed *left, int64_t i,
                      const moe_int_packed *right, int64_t group) {
    const int64_t a = i * left->padded, b = group * right->padded * LANES;
    walk w = {.chain = chain,
              .rule = &chain->unit->rule[chain->format],
              .a = at(&left->all, a),
              .b = at(&right->all, b),
              .fraction = moe_int_layouts[chain->format].fraction,
              .block = block_of(chain)};
    w.blocks = (left->k + w.block - 1) / w.block;
    return w;
}

void moe_int_chain_row(const moe_int_chain *chain, const moe_int_packed *left, int64_t i,
                       const moe_int_packed *right, int64_t group, float *ret) {
    walk w = make_walk(chain, left, i, right, group);
    run(&w);
    memcpy(ret, w.sum, sizeof w.sum);
}

void moe_int_chain_watch(const moe_int_chain *chain, const moe_int_packed *left, int64_t i,
                         const moe_int_packed *right, int64_t group, int lane, moe_int_watch each,
                         void *user) {
    walk w = make_walk(chain, left, i, right, group);
    w.watch = each;
    w.user = user;
    w.lane = lane;
    run(&w);
}
