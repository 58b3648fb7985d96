/* Parts of a sum, and how often each of them counts in a result. */
#ifndef MOE_CHECK_RANKS_SHARES_H
#define MOE_CHECK_RANKS_SHARES_H

#include "check/ranks/scene.h"

/* The part of one pair, or of a rank's tokens in one expert, or of a rank's tokens. */
typedef struct moe_int_share {
    int64_t pair, expert;       /* -1: of no one */
    int32_t home, owner;        /* ranks; owner -1: everybody's */
    double times;               /* that it counts; 1: right */
    double slack;               /* by which `times` may be off; infinite: nothing is known */
    double weight;              /* the pair's, else 1 */
    int32_t ranks;              /* that its token goes to */
    bool first, last;           /* of its token's pairs on that rank */
    bool first_rank, last_rank; /* is its rank that of its token's first, last pair? */
    bool start, end;            /* its token's first pair, its last */
    bool bottom;                /* its owner's last row */
    bool boundary, top;         /* its expert is the first of a rank other than 0, a rank's last */
} moe_int_share;

/* times.c: ways to count otherwise than once. */
typedef struct moe_int_times {
    const char *verb; /* of a tensor; %g: `factor` */
    double (*of)(const moe_int_rank_scene *s, const moe_int_share *a, double factor);
    bool of_ranks; /* depends on how many ranks there are */
} moe_int_times;
enum { MOE_INT_TIMES = 9 };
extern const moe_int_times moe_int_times_rules[MOE_INT_TIMES];
void moe_int_times_verb(const moe_int_times *rule, double factor, char *ret, size_t size);
/* Is it known how often a part counts? Is that so often? */
bool moe_int_share_known(const moe_int_share *a);
bool moe_int_share_near(const moe_int_share *a, double due);
/* How often the best known of the parts that do not count once does; the first way in which all of
 * those count, NULL: they have none in common. */
double moe_int_times_factor(const moe_int_share *share, int64_t count);
const moe_int_times *moe_int_times_of(const moe_int_rank_scene *s, const moe_int_share *share,
                                      int64_t count);

/* classes.c: what the parts that do not count once have in common, in a sentence on `subject`. Of
 * experts in parts or with replicas, which no single rank has: that all are alike. */
bool moe_int_rank_class(const moe_int_rank_scene *s, const char *subject,
                        const moe_int_share *share, int64_t count, char *ret, size_t size);
/* sets.c: the same of what several ranks, links or experts made, or all of it from some row on. */
bool moe_int_rank_sets(const moe_int_rank_scene *s, const char *subject, const moe_int_share *share,
                       int64_t count, char *ret, size_t size);
/* tails.c: of the last rows of links. */
bool moe_int_rank_tails(const moe_int_rank_scene *s, const moe_int_share *share, int64_t count,
                        char *ret, size_t size);
/* weights.c: are the weights that parts count with those of others, or normalised by rank? */
bool moe_int_rank_others_weights(const moe_int_rank_scene *s, const moe_int_share *share,
                                 int64_t count, char *ret, size_t size);

#endif
