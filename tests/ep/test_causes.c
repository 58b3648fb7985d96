/* Causes between ranks that a judge names by the files of ranks that have them: other weights, lost
 * parts, gradients that do not arrive. */
#include "spoilt.h"

/* ---- experts with the weights of others ---- */

/* Expert e has the weights of expert map[e]. */
static void compute_with(const faulty *f, const int64_t *map) {
    static const moe_tensor_id weights[] = {MOE_T_W1, MOE_T_W2};
    const moe_tensors *in = &f->problem->in;
    moe_tensors other = *in;
    for (int i = 0; i < 2; i++) {
        const moe_tensor *w = &in->t[weights[i]];
        const size_t bytes = (size_t)(moe_tensor_bytes(w) / w->shape[0]);
        cr_assert_eq(moe_tensor_cast(w, w->dtype, &other.t[weights[i]]), MOE_OK);
        for (int64_t e = 0; e < w->shape[0]; e++)
            memcpy((char *)other.t[weights[i]].data + (size_t)e * bytes,
                   (const char *)w->data + (size_t)map[e] * bytes, bytes);
    }
    remake_O(f, &other);
    for (int i = 0; i < 2; i++)
        moe_tensor_destroy(&other.t[weights[i]]);
}

/* The last rank's experts have the next ones' weights. */
static void take_next_weights(const faulty *f) {
    int64_t map[64];
    const int64_t E = f->problem->layer.E;
    for (int64_t e = 0; e < E; e++)
        map[e] = e >= first_expert(f, f->R - 1) && e + 1 < E ? e + 1 : e;
    compute_with(f, map);
}

/* 5 and 64 have no common divisor: a permutation without a pattern that a rank could have. */
static void scatter_weights(const faulty *f) {
    int64_t map[128];
    const int64_t E = f->problem->layer.E;
    for (int64_t e = 0; e < E; e++)
        map[e] = e < 64 ? (5 * e + 3) % 64 : e;
    compute_with(f, map);
}

Test(ep_causes, experts_with_the_weights_of_others_are_named_however_many_there_are) {
    const char *line = "T=64 d=48 n=8 E=64 K=4 dtype=fp32 renorm=1 seed=3 ep=4 tokens=20+0+24+20";
    expect_cause(
        line, take_next_weights,
        "with the weights of expert 50 of the same rank 3; 13 more: each that is wrong has "
        "the next one's");
    expect_cause(line, scatter_weights,
                 "rank 0 computes expert 0, its expert 0, with the weights of expert 3 of");
}

/* Too many tokens to run every expert on: some of the wrong ones tell it. */
Test(ep_causes, experts_with_the_weights_of_others_are_named_by_some_tokens) {
    expect_cause("T=400 d=192 n=128 E=80 K=2 dtype=fp32 renorm=1 seed=3 ep=4 tokens=120+0+160+120",
                 scatter_weights, "with the weights of expert 3 of");
}

/* 77 is odd. */
static void scatter_256(const faulty *f) {
    int64_t map[256];
    for (int64_t e = 0; e < 256; e++)
        map[e] = (77 * e + 31) % 256;
    compute_with(f, map);
}

/* A token's row is the sum of eight of them, of which none is its own; of each there is a dS. */
Test(ep_causes, experts_that_all_have_the_weights_of_others_are_named_by_dS) {
    expect_cause_of("T=96 d=48 n=8 E=256 K=8 dtype=fp32 renorm=1 seed=3 ep=4 tokens=30+0+36+30",
                    scatter_256, true,
                    "rank 0 computes expert 0, its expert 0, with the weights of expert 31 of");
}

/* ---- parts that are lost ---- */

/* O loses the parts of pairs that are `lost`. */
static void lose(const faulty *f, bool (*lost)(const faulty *f, int64_t pair)) {
    const moe_plan *plan = f->ref->plan;
    const int64_t d = width_of(f, MOE_T_O);
    for (int64_t p = 0; p < plan->n_pairs; p++)
        for (int64_t i = 0; i < d && lost(f, p); i++)
            of(f, MOE_T_O)[plan->token[p] * d + i] -= plan->weight[p] * of(f, MOE_T_Y)[p * d + i];
}

static bool on_two_links(const faulty *f, int64_t p) {
    return (home_of(f, p) == 0 && owner_of(f, p) == 2) ||
           (home_of(f, p) == 3 && owner_of(f, p) == 1);
}

static bool of_upper_experts(const faulty *f, int64_t p) {
    return expert_of(f, p) >= 8;
}

static bool of_first_tokens_elsewhere(const faulty *f, int64_t p) {
    return f->first[home_of(f, p)] == f->ref->plan->token[p] && home_of(f, p) != owner_of(f, p);
}

/* Rows of a rank for an expert from the third on. */
static bool behind_two(const faulty *f, int64_t p) {
    int64_t before = 0;
    for (int64_t q = f->ref->plan->offsets[expert_of(f, p)]; q < p; q++)
        before += home_of(f, q) == home_of(f, p);
    return before >= 2;
}

/* A third of each link's rows, the last ones. */
static bool behind_in_link(const faulty *f, int64_t p) {
    int64_t before = 0, all = 0;
    for (int64_t q = 0; q < f->ref->plan->n_pairs; q++)
        if (home_of(f, q) == home_of(f, p) && owner_of(f, q) == owner_of(f, p)) {
            before += q < p;
            all++;
        }
    return 3 * before >= 2 * all;
}

static bool of_least_weight(const faulty *f, int64_t p) {
    const moe_plan *plan = f->ref->plan;
    for (int64_t q = 0; q < plan->n_pairs; q++)
        if (plan->token[q] == plan->token[p] && plan->weight[q] < plan->weight[p])
            return false;
    return true;
}

static bool of_some_copies(const faulty *f, int64_t p) {
    return (f->ref->plan->token[p] + owner_of(f, p)) % 5 == 0;
}

/* Rank r asks for the parts of token t those ranks to which the next rank's token t goes. */
static bool where_next_does_not_go(const faulty *f, int64_t p) {
    const moe_plan *plan = f->ref->plan;
    int32_t next = home_of(f, p);
    do
        next = (next + 1) % f->R;
    while (f->first[next] == f->first[next + 1]);
    const int64_t local = plan->token[p] - f->first[home_of(f, p)];
    const int64_t t = f->first[next] + local % (f->first[next + 1] - f->first[next]);
    for (int64_t q = 0; q < plan->n_pairs; q++)
        if (plan->token[q] == t && owner_of(f, q) == owner_of(f, p))
            return false;
    return true;
}

#define LOSE(which)                                                                                \
    static void lose_##which(const faulty *f) {                                                    \
        lose(f, which);                                                                            \
    }
LOSE(on_two_links)
LOSE(of_upper_experts)
LOSE(of_first_tokens_elsewhere)
LOSE(behind_two)
LOSE(behind_in_link)
LOSE(of_least_weight)
LOSE(of_some_copies)
LOSE(where_next_does_not_go)

Test(ep_causes, what_lost_parts_have_in_common_is_named) {
    const char *line = "T=64 d=48 n=8 E=12 K=4 dtype=fp32 renorm=1 seed=3 ep=4 tokens=20+0+24+20";
    expect_cause(line, lose_on_two_links,
                 "O lacks what rank 1 made for rank 3's tokens, what rank 2 made for rank 0's");
    expect_cause(line, lose_of_upper_experts, "O lacks what experts from 8 on made");
    expect_cause(line, lose_of_first_tokens_elsewhere,
                 "O lacks what other ranks made for token 0 of each rank");
    expect_cause(line, lose_behind_two, "O lacks all but the first 2 rows of each rank for an");
    expect_cause(line, lose_behind_in_link, "O lacks the last rows of 12 links: all but the first");
    expect_cause(line, lose_of_least_weight, "O lacks the expert of each token's least weight");
    expect_cause(line, lose_of_some_copies,
                 "O lacks all that a rank made for a token at 33 of 181 such");
    expect_cause(line, lose_where_next_does_not_go,
                 "O lacks what a rank made for a token where the token of that number on the next "
                 "rank does not go to it");
}

/* dX~ of an expert comes once of each replica. */
static void add_each_replica(const faulty *f) {
    const moe_plan *plan = f->ref->plan;
    const moe_split *split = &f->problem->split;
    const int64_t d = width_of(f, MOE_T_DX);
    for (int64_t p = 0; p < plan->n_pairs; p++)
        for (int64_t i = 0; i < d && expert_of(f, p) < split->n_replicas; i++)
            of(f, MOE_T_DX)[plan->token[p] * d + i] +=
                (double)(split->replicas[expert_of(f, p)] - 1) * of(f, MOE_T_DXP)[p * d + i];
}

Test(ep_causes, parts_that_count_once_for_each_replica_are_named) {
    expect_cause("T=64 d=48 n=8 E=12 K=4 dtype=fp32 renorm=1 seed=3 ep=4 tokens=20+0+24+20 "
                 "replicas=2+3+1+2",
                 add_each_replica, "dX has, times the number of an expert's replicas, every row");
}

/* ---- the router's gradient ---- */

/* dX as if no dS of other ranks' experts had come home; `all`: none at all. */
static void detach(const faulty *f, bool all) {
    const moe_plan *plan = f->ref->plan;
    const int64_t d = width_of(f, MOE_T_DX);
    const int64_t pairs = plan->n_pairs, E = plan->n_experts;
    double *dS = calloc((size_t)pairs, sizeof *dS);
    double *dz = calloc((size_t)(plan->n_tokens * E), sizeof *dz), *dX = of(f, MOE_T_DX);
    for (int64_t p = 0; p < pairs; p++)
        dS[p] = all || home_of(f, p) != owner_of(f, p) ? of(f, MOE_T_DS)[p] : 0;
    cr_assert_eq(moe_route_backward(&f->problem->layer, of(f, MOE_T_LOGITS), plan, dS, dz), MOE_OK);
    for (int64_t t = 0; t < plan->n_tokens; t++)
        for (int64_t e = 0; e < E; e++)
            for (int64_t i = 0; i < d; i++)
                dX[t * d + i] -= dz[t * E + e] * moe_load(f->problem->in.t[MOE_T_W_R].data, MOE_F32,
                                                          (size_t)(e * d + i));
    free(dS);
    free(dz);
}

static void detach_others(const faulty *f) {
    detach(f, false);
}

static void detach_all(const faulty *f) {
    detach(f, true);
}

Test(ep_causes, gradients_that_do_not_reach_the_router_are_named) {
    const char *line = "T=64 d=48 n=8 E=12 K=4 dtype=fp32 renorm=1 seed=3 ep=4 tokens=20+0+24+20";
    expect_cause(line, detach_others,
                 "the router's gradient in dX lacks the dS of what other ranks than a token's own");
    expect_cause(line, detach_all, "no gradient reaches the router");
}
