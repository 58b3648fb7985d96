/* Where it is wrong, if no cause explains it: on tokens of one rank alone, or where one rank's
 * experts have a part. */
#include "check/explain/local.h"
#include "check/ranks/scene.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of what lies there at least so much is wrong. */
static const double least_part = 0.8;

typedef struct tally {
    int64_t wrong, of; /* rows that are wrong, rows of a rank */
    double left;       /* squared error of all others */
} tally;

static double error_of(const moe_int_rank_scene *s, int64_t row, int64_t width) {
    const double *right = s->right + row * width, *got = s->got + row * width;
    double off = 0;
    for (int64_t i = 0; i < width; i++)
        off += (got[i] - right[i]) * (got[i] - right[i]);
    return off;
}

/* By a hundred times what makes rows alike, in rows of a mean size. */
static bool is_wrong(const moe_int_rank_scene *s, int64_t row, int64_t width) {
    const double mean = moe_int_inner(s->right, s->right, s->count) / (double)s->count;
    return error_of(s, row, width) > 100 * moe_int_rank_alike(s) * mean * (double)width;
}

/* Has token t a pair on a rank? */
static bool goes_to(const moe_int_rank_scene *s, int64_t t, int32_t rank) {
    for (int64_t k = s->plan->token_offsets[t]; k < s->plan->token_offsets[t + 1]; k++) {
        const int64_t p = s->plan->pair_of_token[k];
        if (p < s->P && s->owner[s->expert[p]] == rank)
            return true;
    }
    return false;
}

/* Is a row - a token's, a pair's or an expert's - one of the rank's tokens, or of its experts? */
static bool is_of(const moe_int_rank_scene *s, int64_t row, int32_t rank, bool owner) {
    const bool expert = s->id == MOE_T_DW1 || s->id == MOE_T_DW2;
    const bool pair = s->id == MOE_T_DS || s->id == MOE_T_S;
    if (expert)
        return owner && s->owner[row] == rank;
    if (pair)
        return owner ? row < s->P && s->owner[s->expert[row]] == rank
                     : s->home[s->plan->token[row]] == rank;
    return owner ? goes_to(s, row, rank) : s->home[row] == rank;
}

/* False: something else is wrong too. */
static bool count(const moe_int_rank_scene *s, const unsigned char *wrong, int64_t rows,
                  int32_t rank, bool owner, tally *ret) {
    *ret = (tally){0};
    for (int64_t i = 0; i < rows; i++) {
        const bool of = is_of(s, i, rank, owner);
        if (wrong[i] && !of)
            return false;
        ret->wrong += wrong[i];
        ret->of += of;
        ret->left += of ? 0 : error_of(s, i, s->count / rows);
    }
    return ret->wrong > 2 && ret->of < rows && (double)ret->wrong >= least_part * (double)ret->of;
}

static void say(const moe_int_rank_scene *s, int32_t rank, bool owner, const tally *k,
                moe_explanation *ret) {
    const char *name = moe_tensor_name(s->id);
    const bool expert = s->id == MOE_T_DW1 || s->id == MOE_T_DW2;
    const bool pair = s->id == MOE_T_DS || s->id == MOE_T_S;
    moe_int_rank_explain(s, "ranks_place", k->left / moe_int_inner(s->right, s->right, s->count),
                         ret, "%s is wrong for rank %d's %s alone: %lld of %lld %s", name,
                         (int)rank, owner ? "experts" : "tokens", (long long)k->wrong,
                         (long long)k->of,
                         expert  ? "experts"
                         : pair  ? "pairs"
                         : owner ? "tokens that go there"
                                 : "tokens");
}

bool moe_int_rank_place(const moe_int_rank_scene *s, moe_explanation *ret) {
    const bool expert = s->id == MOE_T_DW1 || s->id == MOE_T_DW2;
    const bool pair = s->id == MOE_T_DS || s->id == MOE_T_S;
    const int64_t rows = expert ? s->E : pair ? s->count : s->T;
    unsigned char *wrong = s->id == MOE_T_DW_R ? NULL : malloc((size_t)rows + 1);
    bool found = false;
    for (int64_t i = 0; wrong && i < rows; i++)
        wrong[i] = is_wrong(s, i, s->count / rows);
    for (int owner = expert; wrong && owner < 2; owner++)
        for (int32_t r = 0; !found && r < s->R; r++) {
            tally k;
            found = count(s, wrong, rows, r, owner, &k);
            if (found)
                say(s, r, owner, &k, ret);
        }
    free(wrong);
    return found;
}
