/* Choices of experts that are wrong because each rank knows its own part alone. */
#include "check/ranks/cause.h"
#include "check/ranks/ranks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the scores [E] of a token of rank `home`, made anew in ret. */
typedef void (*score_fn)(const moe_ep_layout *l, int32_t home, const double *logits, int64_t E,
                         double *ret);

static void as_they_are(const moe_ep_layout *l, int32_t home, const double *logits, int64_t E,
                        double *ret) {
    (void)l, (void)home;
    memcpy(ret, logits, (size_t)E * sizeof *ret);
}

/* Each rank's experts are normalised among themselves. */
static void by_rank(const moe_ep_layout *l, int32_t home, const double *logits, int64_t E,
                    double *ret) {
    (void)home, (void)E;
    for (int32_t q = 0; q < l->ranks; q++) {
        double most = -INFINITY, sum = 0;
        for (int64_t e = l->first[q]; e < l->first[q + 1]; e++)
            most = fmax(most, logits[e]);
        for (int64_t e = l->first[q]; e < l->first[q + 1]; e++)
            sum += exp(logits[e] - most);
        for (int64_t e = l->first[q]; e < l->first[q + 1]; e++)
            ret[e] = exp(logits[e] - most) / sum;
    }
}

/* A rank knows no experts but its own. */
static void of_own(const moe_ep_layout *l, int32_t home, const double *logits, int64_t E,
                   double *ret) {
    for (int64_t e = 0; e < E; e++)
        ret[e] = e >= l->first[home] && e < l->first[home + 1] ? logits[e] : -INFINITY;
}

/* Marks the K best; lower experts first. */
static void choose(const double *score, int64_t E, int64_t K, unsigned char *ret) {
    memset(ret, 0, (size_t)E);
    for (int64_t k = 0; k < K; k++) {
        int64_t best = -1;
        for (int64_t e = 0; e < E; e++)
            if (!ret[e] && score[e] > -INFINITY && (best < 0 || score[e] > score[best]))
                best = e;
        if (best >= 0)
            ret[best] = 1;
    }
}

/* Does the token have just these experts? */
static bool is_choice(const moe_plan *got, const int64_t *expert, int64_t t,
                      const unsigned char *due, int64_t K) {
    int64_t found = 0, wanted = 0;
    for (int64_t k = got->token_offsets[t]; k < got->token_offsets[t + 1]; k++) {
        if (!due[expert[got->pair_of_token[k]]])
            return false;
        found++;
    }
    for (int64_t e = 0; e < got->n_experts; e++)
        wanted += due[e];
    return found == wanted && found <= K;
}

static int64_t *experts_of(const moe_plan *plan) {
    int64_t *ret = calloc((size_t)plan->n_pairs + 1, sizeof *ret);
    for (int64_t e = 0; ret && e < plan->n_experts; e++)
        for (int64_t p = plan->offsets[e]; p < plan->offsets[e + 1]; p++)
            ret[p] = e;
    return ret;
}

/* Tokens that do not have the choice that such scores make. */
static int64_t others(const moe_int_chosen *c, const int64_t *expert, score_fn score) {
    const int64_t E = c->got->n_experts, K = c->problem->layer.K;
    double *made = malloc((size_t)(E + 1) * sizeof *made);
    unsigned char *due = malloc((size_t)E + 1);
    int64_t wrong = 0;
    for (int64_t t = 0; made && due && t < c->got->n_tokens; t++) {
        score(c->layout, moe_int_ranks_home_of(c->layout, t), c->logits + t * E, E, made);
        choose(made, E, K, due);
        wrong += !is_choice(c->got, expert, t, due, K);
    }
    if (!made || !due)
        wrong = c->got->n_tokens;
    free(made);
    free(due);
    return wrong;
}

/* Experts are numbered as on their rank: which no rank but 0 has right. */
static bool are_local(const moe_int_chosen *c, const int64_t *expert) {
    int64_t most = 0;
    for (int32_t q = 0; q < c->layout->ranks; q++)
        most = c->layout->first[q + 1] - c->layout->first[q] > most
                   ? c->layout->first[q + 1] - c->layout->first[q]
                   : most;
    for (int64_t p = 0; p < c->got->n_pairs; p++)
        if (expert[p] >= most)
            return false;
    return c->got->n_pairs > 0 && most < c->got->n_experts;
}

/* ---- ranks that have others' tokens ---- */

/* Choices of tokens [first, first + count) are those that tokens from `from` on should have. */
static bool is_block(const moe_int_chosen *c, const int64_t *expert, const unsigned char *due,
                     int64_t first, int64_t count, int64_t from) {
    const int64_t E = c->got->n_experts;
    int64_t i = 0;
    while (i < count &&
           is_choice(c->got, expert, first + i, due + (from + i) * E, c->problem->layer.K))
        i++;
    return i == count;
}

/* The rank of the case whose tokens begin there; -1: none's do. */
static int32_t rank_at(const moe_int_chosen *c, int64_t token) {
    const moe_split *split = &c->problem->split;
    int64_t first = 0;
    for (int32_t r = 0; split->tokens && r < split->n_tokens; first += split->tokens[r++])
        if (first == token && split->tokens[r])
            return r;
    return -1;
}

/* All ranks have the tokens of some place, and one has not its own: says which. */
static bool find_moved(const moe_int_chosen *c, const int64_t *expert, const unsigned char *due,
                       char *ret, size_t size) {
    const int64_t T = c->got->n_tokens;
    int64_t first = 0, moved = 0;
    for (int32_t r = 0; r < c->layout->ranks; first += c->layout->tokens[r++]) {
        const int64_t count = c->layout->tokens[r];
        int64_t from = 0;
        if (is_block(c, expert, due, first, count, first))
            continue;
        while (from + count <= T && !is_block(c, expert, due, first, count, from))
            from++;
        if (from + count > T || count < 2)
            return false;
        const int32_t q = rank_at(c, from);
        if (moved++ == 0 && q >= 0)
            snprintf(ret, size, "rank %d's file has the tokens of rank %d", (int)r, (int)q);
        else if (moved == 1)
            snprintf(ret, size, "rank %d's file has the tokens from %lld on, of all, not from %lld",
                     (int)r, (long long)from, (long long)first);
    }
    return moved > 0;
}

static bool are_moved(const moe_int_chosen *c, const int64_t *expert, char *ret, size_t size) {
    const int64_t T = c->got->n_tokens, E = c->got->n_experts;
    unsigned char *due = malloc((size_t)(T * E + 1));
    for (int64_t t = 0; due && t < T; t++)
        choose(c->logits + t * E, E, c->problem->layer.K, due + t * E);
    const bool found = due && find_moved(c, expert, due, ret, size);
    free(due);
    return found;
}

bool moe_int_ranks_choice(const moe_int_chosen *c, moe_explanation *ret) {
    static const struct {
        score_fn score;
        const char *text;
    } ways[] = {
        {by_rank, "scores are normalised over each rank's experts apart"},
        {of_own, "tokens choose among the experts of their own rank alone"},
    };
    int64_t *expert = experts_of(c->got);
    const double before = expert ? (double)others(c, expert, as_they_are) : 0;
    const char *text = NULL;
    int64_t wrong = 0;
    for (size_t i = 0; expert && c->plain && !text && i < sizeof ways / sizeof *ways; i++) {
        wrong = others(c, expert, ways[i].score);
        text = wrong * 100 <= c->got->n_tokens ? ways[i].text : NULL;
    }
    char moved[128];
    if (expert && !text && are_moved(c, expert, moved, sizeof moved)) {
        text = moved;
        wrong = 0;
    }
    if (expert && c->plain && !text && are_local(c, expert)) {
        text = "experts are numbered as on their ranks";
        wrong = 0;
    }
    free(expert);
    if (!text)
        return false;
    const double tokens = (double)c->got->n_tokens;
    moe_explanation x = {
        .before = before / tokens, .after = (double)wrong / tokens, .tried = ret->tried};
    snprintf(x.kind, sizeof x.kind, "ranks_choice");
    snprintf(x.text, sizeof x.text, "%s", text);
    snprintf(x.tensor, sizeof x.tensor, "topk_index");
    *ret = x;
    return true;
}
