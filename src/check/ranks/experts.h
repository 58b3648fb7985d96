/* Whose weights each expert has: an election among all of them, by what they make of the tokens. */
#ifndef MOE_CHECK_RANKS_EXPERTS_H
#define MOE_CHECK_RANKS_EXPERTS_H

#include "check/ranks/scene.h"

typedef struct moe_int_election {
    const moe_int_rank_scene *s;
    const double *Y; /* [E][T][d] what each expert makes of each token */
    double *rest;    /* [T][d] of `got` what the rows do not make, with the weights of `map` */
    int64_t *map;    /* [E] the expert whose weights each has */
    double *cost;    /* [E] */
    double *both;    /* [E][E] of two experts; NULL: too many */
    double steps;    /* that trials of two have taken */
} moe_int_election;

static inline const double *moe_int_election_row(const moe_int_election *k, int64_t expert,
                                                 int64_t token) {
    return k->Y + (expert * k->s->T + token) * k->s->d;
}

/* Takes the part of expert e out of its tokens' rows (scale 1), or puts it in (-1). */
void moe_int_election_add(const moe_int_election *k, int64_t e, double scale);
/* Adds to cost[f] what rows of expert f leave of the part of pair p. */
void moe_int_election_costs(const moe_int_election *k, int64_t p, double *cost);

/* experts_dS.c: the map that leaves least of each expert's dS. False: there is none. */
bool moe_int_election_by_dS(const moe_int_election *k);

/* experts_both.c: tries the experts of token t two by two, while its row is wrong. True: some have
 * changed. */
bool moe_int_election_of_token(moe_int_election *k, int64_t t);

#endif
