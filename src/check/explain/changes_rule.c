/* Hypotheses about what experts are chosen by: another key than score + bias, the best ones of each
 * part of them, or the choice of a neighbouring token. */
#include "check/explain/bank.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool moe_int_choose_best(const moe_int_scene *s, const double *key, int64_t parts,
                         moe_int_change *c) {
    const int64_t T = s->evidence->problem->T, R = c->plan->n_experts, K = moe_int_layer_of(s)->K;
    const int64_t size = R / parts, each = K / parts;
    int32_t *best = malloc((size_t)K * sizeof *best);
    moe_int_pairs pairs = {0};
    moe_plan *plan = NULL;
    moe_status status = best ? MOE_OK : MOE_E_NOMEM;
    for (int64_t i = 0; !status && i < T * parts; i++) {
        const int64_t t = i / parts, first = i % parts * size;
        const int64_t n = moe_int_topk(key + t * R + first, NULL, size, each, best);
        for (int64_t k = 0; !status && k < n; k++)
            status = moe_int_pairs_add(&pairs, t, first + best[k]);
    }
    if (!status)
        status = moe_plan_create(T, R, pairs.count, pairs.token, pairs.expert, NULL, NULL, &plan);
    if (!status)
        moe_int_take_choice(plan, c);
    moe_int_pairs_destroy(&pairs);
    free(best);
    return !status && moe_int_reweigh(c);
}

/* What a part of the selection bias, or a multiple of it, is by mistake. */
typedef struct bias_part {
    const char *words;
    double factor, first, last; /* of the experts from first * R on, below last * R */
    int64_t every, at;          /* and of those alone whose number mod every is at */
} bias_part;

static const bias_part bias_parts[] = {
    {"half of it", 0.5, 0, 1, 1, 0},
    {"twice", 2, 0, 1, 1, 0},
    {"a quarter of it", 0.25, 0, 1, 1, 0},
    {"a tenth of it", 0.1, 0, 1, 1, 0},
    {"three times", 3, 0, 1, 1, 0},
    {"four times", 4, 0, 1, 1, 0},
    {"ten times", 10, 0, 1, 1, 0},
    {"three quarters of it", 0.75, 0, 1, 1, 0},
    {"one and a half times", 1.5, 0, 1, 1, 0},
    {"that of the upper half of the experts alone", 1, 0.5, 1, 1, 0},
    {"that of the lower half of the experts alone", 1, 0, 0.5, 1, 0},
    {"that of the first quarter of the experts alone", 1, 0, 0.25, 1, 0},
    {"all but that of the last quarter of the experts", 1, 0, 0.75, 1, 0},
    {"that of even experts alone", 1, 0, 1, 2, 0},
    {"that of odd experts alone", 1, 0, 1, 2, 1},
};

bool moe_int_change_select_bias_part(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                     moe_int_finding *f) {
    double *b = moe_int_selection_bias(s);
    const int64_t R = c->plan->n_experts;
    if (trial >= (int64_t)(sizeof bias_parts / sizeof *bias_parts) || !b) {
        free(b);
        return false;
    }
    const bias_part *part = &bias_parts[trial];
    for (int64_t e = 0; e < R; e++) {
        const bool in = (double)e >= part->first * (double)R && (double)e < part->last * (double)R;
        b[e] *= in && e % part->every == part->at ? part->factor : 0;
    }
    moe_int_finding_say(f, ": %s", part->words);
    const bool done = moe_int_reroute(s, b, c);
    free(b);
    return done;
}

static bool is_top_k(const moe_int_scene *s, const moe_int_change *c) {
    return c->logits && moe_int_layer_of(s)->router.select == MOE_SELECT_TOPK;
}

/* The selection's scores [T][R]. */
static double *scores_of(const moe_int_scene *s, const moe_int_change *c, const double *b) {
    const int64_t T = s->evidence->problem->T;
    double *key = malloc((size_t)(T * c->plan->n_experts) * sizeof *key);
    if (key)
        moe_route_selection_scores(&c->desc, T, c->logits, b, key);
    return key;
}

/* What a bias may do to a score, beside being added: z is the logit. */
typedef enum bias_rule { TIMES_ONE_MORE, TIMES, ON_LOGIT, ALONE, RULES } bias_rule;

static double key_by(int64_t rule, double score, double z, double b) {
    switch ((bias_rule)rule) {
    case TIMES_ONE_MORE:
        return score * (1 + b);
    case TIMES:
        return score * b;
    case ON_LOGIT:
        return z + b;
    case ALONE:
        return b;
    case RULES:
        break;
    }
    return score;
}

bool moe_int_change_select_bias_otherwise(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                          moe_int_finding *f) {
    static const char *const words[RULES] = {"score * (1 + bias)", "score * bias",
                                             "the logits, with the bias", "the bias alone"};
    double *b = moe_int_selection_bias(s);
    if (trial >= RULES || !b || !is_top_k(s, c)) {
        free(b);
        return false;
    }
    const int64_t R = c->plan->n_experts;
    double *key = scores_of(s, c, b); /* without a bias they are logits */
    for (int64_t i = 0; key && i < s->evidence->problem->T * R; i++)
        key[i] = key_by(trial, key[i] - b[i % R], c->logits[i], b[i % R]);
    moe_int_finding_say(f, ": %s", words[trial]);
    const bool done = key && moe_int_choose_best(s, key, 1, c);
    free(key);
    free(b);
    return done;
}

/* K / 2 of each half, K / 4 of each quarter, one of each K-th part. */
bool moe_int_change_choose_parts(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    const int64_t K = moe_int_layer_of(s)->K, parts = trial == 0 ? 2 : trial == 1 ? 4 : K;
    if (trial > 2 || !is_top_k(s, c))
        return false;
    if (K % parts || c->plan->n_experts % parts || parts < 2)
        return true; /* no such rule: the right choice, which explains nothing */
    double *b = moe_int_selection_bias(s), *key = scores_of(s, c, b);
    moe_int_finding_say(f, ": the best %lld of each of %lld", (long long)(K / parts),
                        (long long)parts);
    moe_int_finding_param(f, "parts", (double)parts);
    const bool done = key && moe_int_choose_best(s, key, parts, c);
    free(key);
    free(b);
    return done;
}

/* Has the subject chosen the K best of `key` for token t? */
static bool has_chosen(const moe_int_scene *s, const double *key, int64_t t, int32_t *best) {
    const moe_plan *got = s->evidence->routing->plan;
    const int64_t from = got->token_offsets[t], K = moe_int_layer_of(s)->K;
    const int64_t n = moe_int_topk(key, NULL, got->n_experts, K, best);
    int64_t same = 0;
    for (int64_t i = from; i < got->token_offsets[t + 1]; i++)
        for (int64_t k = 0; k < n; k++)
            same += moe_int_plan_expert_of(got, got->pair_of_token[i]) == best[k];
    return same == n && got->token_offsets[t + 1] - from == n;
}

bool moe_int_change_choice_of_neighbour(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                        moe_int_finding *f) {
    enum { ENOUGH = 4 }; /* tokens: fewer have it by chance */
    const int64_t T = s->evidence->problem->T, R = c->plan->n_experts, by = trial ? 1 : -1;
    if (trial > 1 || !is_top_k(s, c) || T < 2)
        return false;
    double *b = moe_int_selection_bias(s), *key = scores_of(s, c, b);
    double *moved = malloc((size_t)(T * R) * sizeof *moved);
    int32_t *best = malloc((size_t)moe_int_layer_of(s)->K * sizeof *best);
    int64_t first = -1, count = 0;
    for (int64_t t = 0; key && moved && best && t < T; t++) {
        const bool own = has_chosen(s, key + t * R, t, best);
        memcpy(moved + t * R, key + (own ? t : moe_int_around(t + by, T)) * R,
               (size_t)R * sizeof *moved);
        first = !own && first < 0 ? t : first;
        count += !own;
    }
    moe_int_finding_say(f, ", that %s it: token %lld and %lld more", trial ? "after" : "before",
                        (long long)first, (long long)(count - 1));
    const bool done =
        key && moved && best && count >= ENOUGH && moe_int_choose_best(s, moved, 1, c);
    free(key);
    free(moved);
    free(best);
    free(b);
    return done;
}

/* Is expert o masked where e is chosen, in a way that `rule` numbers? From MASKED_LANES on lanes
 * hold experts that are so far apart, or so many in a row, and keep the best of them. */
enum { MASKED_LANES = 5, MASKED_RULES = 11 };

static bool is_masked(int64_t rule, int64_t e, int64_t o, int64_t R) {
    static const int64_t steps[] = {1, -1}, flips[] = {1, 2, 4};
    const int64_t apart[] = {R / 2, R / 4, 32, 64}, row[] = {4, 8};
    if (rule < MASKED_LANES)
        return rule < 2 ? o == e + steps[rule] : o == (e ^ flips[rule - 2]);
    rule -= MASKED_LANES;
    if (rule >= 4)
        return o != e && o / row[rule - 4] == e / row[rule - 4];
    return o != e && apart[rule] > 0 && o % apart[rule] == e % apart[rule];
}

/* A chosen expert is masked for the choices after it, and another one with it. */
bool moe_int_change_choose_masked(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    static const char *const words[MASKED_RULES] = {"the one after it",
                                                    "the one before it",
                                                    "the other of its pair",
                                                    "number e xor 2",
                                                    "number e xor 4",
                                                    "numbers R/2 apart, of one lane",
                                                    "numbers R/4 apart, of one lane",
                                                    "numbers 32 apart, of one lane",
                                                    "numbers 64 apart, of one lane",
                                                    "the others of its four in a row",
                                                    "the others of its eight in a row"};
    const int64_t R = c->plan->n_experts, K = moe_int_layer_of(s)->K;
    if (trial >= MASKED_RULES || !is_top_k(s, c))
        return false;
    double *b = moe_int_selection_bias(s), *key = scores_of(s, c, b);
    for (int64_t t = 0; key && t < s->evidence->problem->T; t++) {
        double *of = key + t * R;
        for (int64_t k = 0; k < K; k++) {
            int64_t best = -1;
            for (int64_t e = 0; e < R; e++)
                best = of[e] < 1e300 && (best < 0 || of[e] > of[best]) ? e : best;
            of[best] = 1e301;
            for (int64_t o = 0; o < R; o++)
                if (of[o] < 1e300 && is_masked(trial, best, o, R))
                    of[o] = -1e300;
        }
    }
    moe_int_finding_say(f, ": %s", words[trial]);
    const bool done = key && moe_int_choose_best(s, key, 1, c);
    free(key);
    free(b);
    return done;
}
