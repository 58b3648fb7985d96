/* Hypotheses about rounding: factors, sums and logits that are narrower than they should be. */
#include "check/explain/bank.h"

#include <stdlib.h>
#include <string.h>

/* Roundings to 8 bits leave 1e-5 of the squares each, and add up over a sum's blocks: what is
 * farther off is no rounding, and needs none of these many runs. A choice of experts has no such
 * error. */
bool moe_int_is_small(const moe_int_scene *s) {
    return s->evidence->first == MOE_INT_CHOICE || s->error < 1e-2;
}

/* How logits are made: of rounded factors, in sums that are rounded after every `block` terms. */
typedef struct logit_sum {
    moe_int_narrowing factors;
    moe_dtype sums; /* MOE_F64: they are not */
    int64_t block;
    bool end_open; /* the last block's end is not rounded */
} logit_sum;

static double inner_of(const logit_sum *how, const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
        if (how->sums != MOE_F64 && (i + 1) % how->block == 0 && !(how->end_open && i + 1 == n))
            sum = moe_round_to(sum, how->sums);
    }
    return sum;
}

/* The logits of the scene's tokens, made so, as own_logits. */
static bool narrow_logits(const moe_int_scene *s, const logit_sum *how, moe_int_change *c) {
    const moe_problem *p = s->evidence->problem;
    const moe_tensor *b = &p->in.t[MOE_T_B_R];
    int64_t R = c->plan->n_experts, d = p->layer.d;
    double *w = malloc((size_t)(s->n_tokens + 1) * (size_t)d * sizeof *w), *X = w ? w + d : NULL;
    c->own_logits = moe_int_copy_logits(s, c);
    if (w) {
        memcpy(X, s->X, (size_t)(s->n_tokens * d) * sizeof *X);
        moe_int_narrow(how->factors, X, s->n_tokens * d);
    }
    for (int64_t e = 0; w && c->own_logits && e < R; e++) {
        moe_int_load(&p->in.t[MOE_T_W_R], e * d, d, w);
        moe_int_narrow(how->factors, w, d);
        const double bias =
            moe_int_layer_of(s)->router.bias ? moe_load(b->data, b->dtype, (size_t)e) : 0;
        for (int64_t t = 0; t < s->n_tokens; t++)
            c->own_logits[s->tokens[t] * R + e] = bias + inner_of(how, w, X + t * d, d);
    }
    bool made = w && c->own_logits;
    free(w);
    c->logits = made ? c->own_logits : c->logits;
    return made;
}

static const char *name_of(moe_int_narrowing narrow) {
    static const char *const names[MOE_INT_NARROW_COUNT] = {"as they are", "bf16", "fp16", "TF32",
                                                            "TF32, the rest cut off"};
    return names[narrow];
}

/* Logits whose sums are kept narrow between blocks of their terms. */
static bool narrow_sums(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                        moe_int_finding *f) {
    static const int64_t blocks[] = {16, 32, 64, 128, 8, 4, 1};
    enum { BLOCKS = sizeof blocks / sizeof *blocks };
    if (trial >= 4 * (int64_t)BLOCKS || s->evidence->first == MOE_INT_CHOICE)
        return false;
    const logit_sum how = {.sums = trial % 2 ? MOE_F16 : MOE_BF16,
                           .block = blocks[trial / 4],
                           .end_open = trial / 2 % 2};
    moe_int_finding_say(f, ": sums of logits in %s, after every %lld terms",
                        moe_dtype_name(how.sums), (long long)how.block);
    moe_int_finding_param(f, "block", (double)how.block);
    return narrow_logits(s, &how, c) && moe_int_reweigh(c);
}

/* Logits rounded, or made of rounded factors, or in narrow sums. */
bool moe_int_change_router_narrow(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    enum { OF_LOGITS = MOE_INT_NARROW_COUNT - 1 };
    const bool of_logits = trial < OF_LOGITS;
    const moe_int_narrowing narrow = (moe_int_narrowing)(1 + trial % OF_LOGITS);
    int64_t count = s->evidence->problem->T * c->plan->n_experts;
    if (!c->logits || !moe_int_is_small(s))
        return false;
    if (trial >= 2 * (int64_t)OF_LOGITS)
        return narrow_sums(s, trial - 2 * (int64_t)OF_LOGITS, c, f);
    moe_int_finding_say(f, ": %s of %s", of_logits ? "logits" : "factors", name_of(narrow));
    if (!of_logits)
        return narrow_logits(s, &(logit_sum){narrow, MOE_F64, 0, false}, c) && moe_int_reweigh(c);
    c->own_logits = moe_int_copy_logits(s, c);
    if (c->own_logits)
        moe_int_narrow(narrow, c->own_logits, count);
    if (s->evidence->first == MOE_INT_CHOICE)
        return moe_int_reroute_own(s, c);
    c->logits = c->own_logits ? c->own_logits : c->logits;
    return moe_int_reweigh(c);
}

bool moe_int_change_dz_narrow(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                              moe_int_finding *f) {
    c->dz_type = trial ? MOE_F16 : MOE_BF16;
    moe_int_finding_say(f, ": %s", moe_dtype_name(c->dz_type));
    return trial < 2 && s->dO && c->logits && moe_int_is_small(s);
}

/* All of them, the router's too. */
bool moe_int_change_operands_narrow(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                    moe_int_finding *f) {
    if (trial + 1 >= MOE_INT_NARROW_COUNT || !moe_int_is_small(s))
        return false;
    c->operand = (moe_int_narrowing)(trial + 1);
    moe_int_finding_say(f, ": %s", name_of(c->operand));
    return !c->logits ||
           (narrow_logits(s, &(logit_sum){c->operand, MOE_F64, 0, false}, c) && moe_int_reweigh(c));
}

/* Sums that are kept narrow together, and the tensors that are wrong first then. */
typedef struct kept_sums {
    unsigned sums;
    moe_tensor_id first[5]; /* up to the first 0, X */
    int64_t block;          /* 0: tried */
    const char *said;
    bool by_rank;
} kept_sums;

static const kept_sums kept[] = {
    {MOE_INT_SUM_H | MOE_INT_SUM_Y | MOE_INT_SUM_DA | MOE_INT_SUM_DXP,
     {MOE_T_H, MOE_T_A, MOE_T_Y, MOE_T_O},
     0,
     "all products'"},
    {MOE_INT_SUM_H | MOE_INT_SUM_Y, {MOE_T_H, MOE_T_A, MOE_T_Y, MOE_T_O}, 0, "those of H and Y"},
    {MOE_INT_SUM_H, {MOE_T_H, MOE_T_A, MOE_T_Y, MOE_T_O}, 0, "those of H"},
    {MOE_INT_SUM_Y, {MOE_T_Y, MOE_T_O}, 0, "those of Y"},
    {MOE_INT_SUM_DA, {MOE_T_DS, MOE_T_DH, MOE_T_DXP, MOE_T_DX, MOE_T_DW1}, 0, "those of dA"},
    {MOE_INT_SUM_DXP, {MOE_T_DXP, MOE_T_DX}, 0, "those of dX~"},
    {MOE_INT_SUM_DW, {MOE_T_DW1, MOE_T_DW2}, 0, "those of dW1 and dW2"},
    {MOE_INT_SUM_O, {MOE_T_O}, 1, "O's, over a token's experts"},
    {MOE_INT_SUM_DX, {MOE_T_DX}, 1, "dX's, over a token's experts"},
    {MOE_INT_SUM_O, {MOE_T_O}, 1, "O's, over a token's experts, the largest weight first", true},
    {MOE_INT_SUM_DX,
     {MOE_T_DX},
     1,
     "dX's, over a token's experts, the largest weight first",
     true}};
enum { KEPT = sizeof kept / sizeof *kept };

static bool may_begin(const kept_sums *k, moe_tensor_id first) {
    for (size_t i = 0; i < sizeof k->first / sizeof *k->first && k->first[i]; i++)
        if (k->first[i] == first)
            return true;
    return false;
}

/* One product's, or one sum over a token's experts; after every block of its terms. What the kernel
 * stores is rounded too, so that a right guess leaves no error at all. */
bool moe_int_change_sums_narrow(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    static const int64_t blocks[] = {16, 32, 64, 128, 8, 1};
    enum { BLOCKS = sizeof blocks / sizeof *blocks };
    const int64_t which = trial / 2 / BLOCKS, at = trial % BLOCKS;
    if (which >= KEPT || !moe_int_is_small(s))
        return false;
    const bool one = kept[which].block > 0;
    c->sum_type = trial / BLOCKS % 2 ? MOE_F16 : MOE_BF16;
    c->sum_block = one ? kept[which].block : blocks[at];
    if (may_begin(&kept[which], s->evidence->first) && !(one && at > 0))
        c->sums = kept[which].sums;
    c->by_rank = c->sums && kept[which].by_rank;
    c->store = c->sums ? s->evidence->arithmetic : MOE_F64;
    moe_int_finding_say(f, ", in %s: %s", moe_dtype_name(c->sum_type), kept[which].said);
    if (!one)
        moe_int_finding_say(f, ", after every %lld terms", (long long)c->sum_block);
    moe_int_finding_param(f, "block", (double)c->sum_block);
    return true;
}
