/* The last rows of links: of what one rank sends another the first rows count once, the rest does
 * not. */
#include "check/ranks/shares.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct place {
    int64_t link, token, expert;
    bool wrong;
} place;

static int by_token(const void *a, const void *b) {
    const place *x = a, *y = b;
    return x->link != y->link     ? (x->link > y->link) - (x->link < y->link)
           : x->token != y->token ? (x->token > y->token) - (x->token < y->token)
                                  : (x->expert > y->expert) - (x->expert < y->expert);
}

static int by_expert(const void *a, const void *b) {
    const place *x = a, *y = b;
    return x->link != y->link       ? (x->link > y->link) - (x->link < y->link)
           : x->expert != y->expert ? (x->expert > y->expert) - (x->expert < y->expert)
                                    : (x->token > y->token) - (x->token < y->token);
}

/* Is nothing right behind what is wrong in its link? Links that are wrong in part count. */
static int64_t cut_links(const place *all, int64_t n, const place **ret_first) {
    int64_t cut = 0;
    for (int64_t i = 1; i < n; i++) {
        if (all[i].link != all[i - 1].link)
            continue;
        if (all[i - 1].wrong && !all[i].wrong)
            return 0;
        if (!all[i - 1].wrong && all[i].wrong && cut++ == 0)
            *ret_first = &all[i];
    }
    return cut;
}

/* The known parts with their links; returns how many. */
static int64_t list_places(const moe_int_rank_scene *s, const moe_int_share *share, int64_t count,
                           place *all, int64_t *ret_wrong) {
    int64_t n = 0;
    *ret_wrong = 0;
    for (int64_t i = 0; i < count; i++) {
        const moe_int_share *a = &share[i];
        if (!moe_int_share_known(a))
            continue;
        const bool wrong = !moe_int_share_near(a, 1);
        all[n++] =
            (place){(int64_t)a->owner * s->R + a->home, s->plan->token[a->pair], a->expert, wrong};
        *ret_wrong += wrong;
    }
    return n;
}

bool moe_int_rank_tails(const moe_int_rank_scene *s, const moe_int_share *share, int64_t count,
                        char *ret, size_t size) {
    const bool possible = count > 0 && share[0].pair >= 0;
    place *all = possible ? malloc((size_t)count * sizeof *all) : NULL;
    const place *first = NULL;
    int64_t wrong = 0, cut = 0;
    const int64_t n = all ? list_places(s, share, count, all, &wrong) : 0;
    for (int order = 0; all && cut == 0 && order < 2; order++) {
        qsort(all, (size_t)n, sizeof *all, order ? by_expert : by_token);
        cut = cut_links(all, n, &first);
    }
    const bool found = cut > 0 && wrong > 2 * cut;
    if (found) {
        int64_t before = 0;
        while (first - before > all && first[-before - 1].link == first->link)
            before++;
        snprintf(ret, size,
                 "the last rows of %lld links: all but the first %lld that rank %d made for rank "
                 "%d's tokens",
                 (long long)cut, (long long)before, (int)(first->link / s->R),
                 (int)(first->link % s->R));
    }
    free(all);
    return found;
}
