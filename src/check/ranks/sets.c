/* What parts that do not count once have in common where it is more than one rank's, link's or
 * expert's: parts are told apart by a key of each, all of those with one key are wrong or none is.
 */
#include "check/ranks/shares.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct sets {
    const moe_int_rank_scene *s;
    const moe_int_share *share;
    int64_t count;
    bool remote; /* parts of a token's, or expert's, own rank are right and not looked at */
    int64_t keys;
    unsigned char *state; /* [keys] what is known of them */
    int64_t wrong, right; /* keys that are so */
    int64_t told;         /* wrong parts */
    int64_t first;        /* of the wrong keys */
} sets;
enum { UNKNOWN, RIGHT, WRONG };

typedef int64_t (*key_fn)(const moe_int_rank_scene *s, const moe_int_share *a);

static int64_t by_owner(const moe_int_rank_scene *s, const moe_int_share *a) {
    (void)s;
    return a->owner;
}

static int64_t by_home(const moe_int_rank_scene *s, const moe_int_share *a) {
    (void)s;
    return a->home;
}

static int64_t by_link(const moe_int_rank_scene *s, const moe_int_share *a) {
    return a->owner < 0 ? -1 : (int64_t)a->owner * s->R + a->home;
}

static int64_t by_expert(const moe_int_rank_scene *s, const moe_int_share *a) {
    (void)s;
    return a->expert;
}

static int64_t token_of(const moe_int_rank_scene *s, const moe_int_share *a) {
    return a->pair < 0 ? -1 : s->plan->token[a->pair];
}

static int64_t by_local_token(const moe_int_rank_scene *s, const moe_int_share *a) {
    return a->pair < 0 ? -1 : moe_int_rank_local(s, token_of(s, a));
}

/* A token's part on a rank. */
static int64_t by_copy(const moe_int_rank_scene *s, const moe_int_share *a) {
    return a->pair < 0 ? -1 : token_of(s, a) * s->R + a->owner;
}

/* Rows of the same rank for the same expert before this one. */
static int64_t by_place(const moe_int_rank_scene *s, const moe_int_share *a) {
    int64_t p = a->pair;
    while (p > 0 && s->expert[p - 1] == a->expert && s->home[s->plan->token[p - 1]] == a->home)
        p--;
    return a->pair < 0 ? -1 : a->pair - p;
}

/* 1: no other of the token's pairs has a lower weight. */
static int64_t by_least(const moe_int_rank_scene *s, const moe_int_share *a) {
    if (a->pair < 0)
        return -1;
    const int64_t t = token_of(s, a);
    for (int64_t k = s->plan->token_offsets[t]; k < s->plan->token_offsets[t + 1]; k++)
        if (s->plan->weight[s->plan->pair_of_token[k]] < a->weight)
            return 0;
    return 1;
}

/* ---- are all with a key alike? ---- */

static bool is_seen(const sets *k, const moe_int_share *a) {
    return moe_int_share_known(a) && !(k->remote && a->owner == a->home);
}

/* False: some key's parts are not alike, or all parts are wrong, or none is. */
static bool split_by(sets *k, key_fn key, int64_t keys) {
    unsigned char *state = calloc((size_t)keys + 1, 1);
    free(k->state);
    k->state = state;
    k->keys = keys;
    k->wrong = k->right = k->told = 0;
    bool alike = state != NULL;
    for (int64_t i = 0; alike && i < k->count; i++) {
        const moe_int_share *a = &k->share[i];
        const int64_t at = key(k->s, a);
        const unsigned char is = moe_int_share_near(a, 1) ? RIGHT : WRONG;
        if (!is_seen(k, a))
            continue;
        alike = at >= 0 && (state[at] == UNKNOWN || state[at] == is);
        if (!alike)
            break;
        k->wrong += is == WRONG && state[at] == UNKNOWN;
        k->right += is == RIGHT && state[at] == UNKNOWN;
        k->told += is == WRONG;
        state[at] = is;
    }
    k->first = 0;
    while (alike && k->first < keys && state[k->first] != WRONG)
        k->first++;
    return alike && k->wrong > 0 && k->right > 0;
}

/* Are the wrong keys all that are known from some key on? */
static bool is_tail(const sets *k) {
    for (int64_t i = k->first; i < k->keys; i++)
        if (k->state[i] == RIGHT)
            return false;
    return true;
}

/* ---- in words ---- */

typedef struct words {
    char *at;
    size_t size, used;
} words;

static void add(words *w, const char *format, ...) MOE_PRINTF(2, 3);
static void add(words *w, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(w->at + w->used, w->size - w->used, format, args);
    va_end(args);
    w->used = n < 0 || (size_t)n >= w->size - w->used ? w->size - 1 : w->used + (size_t)n;
}

/* "0, 2 and 5" of the wrong keys. */
static void list(const sets *k, words *w) {
    int64_t named = 0;
    for (int64_t i = 0; i < k->keys; i++)
        if (k->state[i] == WRONG) {
            add(w, "%s%lld",
                named == 0              ? ""
                : named + 1 == k->wrong ? " and "
                                        : ", ",
                (long long)i);
            named++;
        }
}

static bool owners(sets *k, words *w) {
    if (k->share[0].expert < 0 || !split_by(k, by_owner, k->s->R) || k->wrong < 2)
        return false;
    add(w, k->share[0].pair >= 0 ? "what ranks " : "all tokens of the experts of ranks ");
    list(k, w);
    add(w, k->share[0].pair >= 0 ? " made" : "");
    return true;
}

static bool homes(sets *k, words *w) {
    if (!split_by(k, by_home, k->s->R) || k->wrong < 2)
        return false;
    add(w, k->share[0].pair >= 0 ? "what was made for tokens of ranks " : "the tokens of ranks ");
    list(k, w);
    return true;
}

static bool links(sets *k, words *w) {
    const int64_t R = k->s->R;
    if (k->share[0].expert < 0 || !split_by(k, by_link, R * R) || k->wrong < 2 ||
        k->told < 2 * k->wrong)
        return false;
    for (int64_t i = 0, named = 0; i < R * R && named < 2; i++)
        if (k->state[i] == WRONG)
            add(w,
                k->share[0].pair >= 0 ? "%swhat rank %d made for rank %d's tokens"
                                      : "%swhat experts of rank %d got from rank %d",
                named++ ? ", " : "", (int)(i / R), (int)(i % R));
    if (k->wrong > 2)
        add(w, " and of %lld more links", (long long)(k->wrong - 2));
    return true;
}

static bool experts(sets *k, words *w) {
    if (k->share[0].expert < 0 || !split_by(k, by_expert, k->s->E) || k->wrong < 2 ||
        2 * k->told < 3 * k->wrong)
        return false;
    const char *made = k->share[0].pair >= 0 ? "what" : "the tokens of";
    const char *end = k->share[0].pair >= 0 ? " made" : "";
    if (is_tail(k) && k->wrong > 2)
        add(w, "%s experts from %lld on%s", made, (long long)k->first, end);
    else
        add(w, "%s %lld experts%s, the first of them expert %lld of rank %d", made,
            (long long)k->wrong, end, (long long)k->first, (int)k->s->owner[k->first]);
    return true;
}

static bool least(sets *k, words *w) {
    if (!split_by(k, by_least, 2) || k->first != 1 || k->told < 3)
        return false;
    add(w, "the expert of each token's least weight");
    return true;
}

/* From some row on, the same of all; `most` is more than there are. */
static bool from_place(sets *k, words *w) {
    if (!split_by(k, by_place, k->s->P) || !is_tail(k) || k->told < 2 || k->first == 0)
        return false;
    add(w, "all but the first %lld rows of each rank for an expert", (long long)k->first);
    return true;
}

static bool one_token(sets *k, words *w) {
    if (!split_by(k, by_local_token, k->s->T) || k->told < 2)
        return false;
    if (k->wrong == 1)
        add(w, "token %lld of each rank", (long long)k->first);
    else if (is_tail(k) && k->first > 0)
        add(w, "all but the first %lld tokens of each rank", (long long)k->first);
    return w->used > 0;
}

/* Parts of a token on a rank, where enough of them are of several rows. */
static bool copies(sets *k, words *w) {
    if (!split_by(k, by_copy, k->s->T * k->s->R) || k->wrong < 2 || 4 * k->told < 5 * k->wrong)
        return false;
    const int64_t t = k->first / k->s->R, all = k->wrong + k->right;
    add(w,
        "all that a rank made for a token at %lld of %lld such, the first of them rank %d's for "
        "token %lld of rank %d",
        (long long)k->wrong, (long long)all, (int)(k->first % k->s->R),
        (long long)moe_int_rank_local(k->s, t), (int)k->s->home[t]);
    return true;
}

/* The token that a rank which mistakes its own tokens for those of another rank `by` further on
 * (around those that have any) takes for token t. */
static int64_t taken_for(const moe_int_rank_scene *s, int64_t t, int32_t by) {
    int32_t q = s->home[t];
    do
        q = (q + by + s->R) % s->R;
    while (s->layout->tokens[q] == 0);
    return moe_int_rank_first(s, q) + moe_int_rank_local(s, t) % s->layout->tokens[q];
}

static bool goes_to(const moe_int_rank_scene *s, int64_t t, int32_t owner) {
    for (int64_t k = s->plan->token_offsets[t]; k < s->plan->token_offsets[t + 1]; k++) {
        const int64_t p = s->plan->pair_of_token[k];
        if (p < s->P && s->owner[s->expert[p]] == owner)
            return true;
    }
    return false;
}

/* Parts of the ranks that another rank's token does not go to. */
static bool of_others(sets *k, words *w) {
    enum { FEWEST = 8 };
    for (int32_t by = 1; by >= -1 && k->share[0].pair >= 0; by -= 2) {
        int64_t wrong = 0, right = 0, i = 0;
        for (; i < k->count; i++) {
            const moe_int_share *a = &k->share[i];
            const bool as_due = moe_int_share_near(a, 1);
            if (!moe_int_share_known(a))
                continue;
            if (goes_to(k->s, taken_for(k->s, token_of(k->s, a), by), a->owner) != as_due)
                break;
            wrong += !as_due;
            right += as_due;
        }
        if (i < k->count || wrong < FEWEST || right < FEWEST)
            continue;
        add(w,
            "what a rank made for a token where the token of that number on the %s rank does not "
            "go to it",
            by > 0 ? "next" : "former");
        return true;
    }
    return false;
}

bool moe_int_rank_sets(const moe_int_rank_scene *s, const char *subject, const moe_int_share *share,
                       int64_t count, char *ret, size_t size) {
    typedef bool (*set_fn)(sets * k, words * w);
    static const set_fn ways[] = {owners,     homes,     links,     experts, least,
                                  from_place, one_token, of_others, copies};
    char verb[80], text[200] = "";
    sets k = {.s = s, .share = share, .count = count};
    words w = {text, sizeof text, 0};
    const moe_int_times *rule = count > 0 ? moe_int_times_of(s, share, count) : NULL;
    bool found = false, own = true;
    for (int64_t i = 0; i < count; i++)
        own = own && (share[i].owner != share[i].home || !moe_int_share_known(&share[i]) ||
                      moe_int_share_near(&share[i], 1));
    const bool both = own && share[0].owner >= 0;
    for (size_t i = 0; rule && !found && i < sizeof ways / sizeof *ways; i++)
        for (int remote = 0; !found && remote <= (both && ways[i] == one_token); remote++) {
            k.remote = remote == 1;
            found = ways[i](&k, &w);
        }
    if (rule && !found && moe_int_rank_tails(s, share, count, text, sizeof text)) {
        k.remote = false;
        found = true;
    }
    free(k.state);
    if (!found)
        return false;
    moe_int_times_verb(rule, moe_int_times_factor(share, count), verb, sizeof verb);
    snprintf(ret, size, "%s %s %s%s", subject, verb, k.remote ? "what other ranks made for " : "",
             text);
    return true;
}
