/* Hypotheses about whose weights an expert is computed with. */
#include "check/explain/bank.h"

#include <math.h>
#include <stdlib.h>

/* Expert e + 1's, or e - 1's. */
static bool shift(const moe_int_scene *s, int64_t trial, bool w1, bool w2, moe_int_change *c,
                  moe_int_finding *f) {
    int64_t E = moe_int_layer_of(s)->E, by = trial ? E - 1 : 1;
    if (trial > 1 || E < 2)
        return false;
    c->owner1 = w1 ? malloc((size_t)E * sizeof *c->owner1) : NULL;
    c->owner2 = w2 ? malloc((size_t)E * sizeof *c->owner2) : NULL;
    for (int64_t e = 0; e < E; e++) {
        if (c->owner1)
            c->owner1[e] = (int32_t)((e + by) % E);
        if (c->owner2)
            c->owner2[e] = (int32_t)((e + by) % E);
    }
    moe_int_finding_say(f, ": expert e has those of e %s 1", trial ? "-" : "+");
    moe_int_finding_param(f, "shift", trial ? -1 : 1);
    return true;
}

bool moe_int_change_w1_neighbour(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    return shift(s, trial, true, false, c, f);
}

bool moe_int_change_w2_neighbour(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    return shift(s, trial, false, true, c, f);
}

bool moe_int_change_weights_neighbour(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                      moe_int_finding *f) {
    return shift(s, trial, true, true, c, f);
}

/* One product of the subject's own stages: out = in W^T + b, weight [E][width][depth]. */
typedef struct product {
    const moe_tensor *in, *weight, *bias, *out;
    const moe_plan *plan;
    int64_t width, depth;
    bool by_token, weighted; /* `in` has rows of tokens, which their combine weights multiply */
} product;

/* Is the first row of expert e, as far as a few of its columns tell, made with expert `of`'s? */
static bool is_made_with(const product *k, int64_t e, int64_t of, double *in, double *w) {
    enum { COLUMNS = 8 };
    const int64_t r = k->plan->offsets[e], step = k->width > COLUMNS ? k->width / COLUMNS : 1;
    double d2 = 0, r2 = 0;
    moe_int_load(k->in, (k->by_token ? k->plan->token[r] : r) * k->depth, k->depth, in);
    for (int64_t c = 0; c < k->width; c += step) {
        double got = moe_load(k->out->data, k->out->dtype, (size_t)(r * k->width + c)), sum = 0;
        moe_int_load(k->weight, (of * k->width + c) * k->depth, k->depth, w);
        for (int64_t i = 0; i < k->depth; i++)
            sum += in[i] * w[i];
        sum *= k->weighted ? k->plan->weight[r] : 1;
        if (k->bias->data)
            sum += moe_load(k->bias->data, k->bias->dtype, (size_t)(e * k->width + c));
        d2 += (got - sum) * (got - sum);
        r2 += got * got;
    }
    return d2 < 1e-3 * r2; /* 16-bit factors leave 1e-5, other weights 2 */
}

/* Whose weights every expert has, and how many have another's; NULL: none has, or it is not known
 * of one that is wrong. */
static int32_t *owners(const product *k, int64_t E, int64_t *ret_others) {
    enum { MOST = 64 }; /* searches of all experts */
    int32_t *owner = malloc((size_t)E * sizeof *owner);
    double *room = malloc(2 * (size_t)k->depth * sizeof *room);
    bool known = owner && room && k->in->data && k->out->data && k->weight->data;
    *ret_others = 0;
    for (int64_t e = 0; known && e < E; e++) {
        owner[e] = (int32_t)e;
        if (k->plan->offsets[e + 1] == k->plan->offsets[e] ||
            is_made_with(k, e, e, room, room + k->depth))
            continue;
        int64_t of = 0;
        while (of < E && !is_made_with(k, e, of, room, room + k->depth))
            of++;
        known = of < E && ++*ret_others <= MOST;
        owner[e] = (int32_t)(of < E ? of : e);
    }
    free(room);
    if (known && *ret_others > 0)
        return owner;
    free(owner);
    return NULL;
}

static void say_owner(const int32_t *owner, int64_t E, int64_t others, const char *name,
                      moe_int_finding *f) {
    int64_t e = 0;
    while (e < E && owner[e] == e)
        e++;
    moe_int_finding_say(f, ": expert %lld has expert %lld's %s", (long long)e, (long long)owner[e],
                        name);
    if (others > 1)
        moe_int_finding_say(f, " (%lld more have another's)", (long long)others - 1);
    moe_int_finding_param(f, "expert", (double)e);
    moe_int_finding_param(f, "has", (double)owner[e]);
}

/* Found from the subject's own H, A and Y. Where Y cannot be told, W2 may be the other's as well,
 * or its own. */
bool moe_int_change_weights_other(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    const moe_int_evidence *e = s->evidence;
    const moe_tensor *in = e->problem->in.t, *got = e->got.t;
    const moe_layer_desc *desc = moe_int_layer_of(s);
    const product up = {.in = &in[MOE_T_X],
                        .weight = &in[MOE_T_W1],
                        .bias = &in[MOE_T_B1],
                        .out = &got[MOE_T_H],
                        .plan = e->routing->plan,
                        .width = moe_h_width(desc, desc->n),
                        .depth = desc->d,
                        .by_token = true,
                        .weighted = desc->router.weight_on == MOE_WEIGHT_ON_INPUT};
    const product down = {.in = &got[MOE_T_A],
                          .weight = &in[MOE_T_W2],
                          .bias = &in[MOE_T_B2],
                          .out = &got[MOE_T_Y],
                          .plan = e->routing->plan,
                          .width = desc->d,
                          .depth = desc->n};
    int64_t others1, others2;
    if (trial > 0 || e->first == MOE_INT_CHOICE)
        return false;
    c->owner1 = owners(&up, desc->E, &others1);
    c->owner2 = owners(&down, desc->E, &others2);
    if (c->owner1)
        say_owner(c->owner1, desc->E, others1, "W1", f);
    if (c->owner2)
        say_owner(c->owner2, desc->E, others2, "W2", f);
    return c->owner1 || c->owner2;
}

/* Whose weights a cut, a reversed or a constant index takes: e mod 2, 4 ..., E - 1 - e, 0. */
static int32_t *pattern(int64_t E, int64_t modulus) {
    int32_t *owner = malloc((size_t)E * sizeof *owner);
    for (int64_t e = 0; owner && e < E; e++)
        owner[e] = (int32_t)(modulus > 0 ? e % modulus : E - 1 - e);
    return owner;
}

static const char *const of_names[] = {"W1", "W2", "W1 and W2"};

bool moe_int_change_expert_index(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    const int64_t E = moe_int_layer_of(s)->E, which = trial % 3, shift = trial / 3 - 1;
    const int64_t modulus = shift < 0 ? 0 : (int64_t)1 << shift;
    if (E < 2 || modulus >= E)
        return false;
    c->owner1 = which == 1 ? NULL : pattern(E, modulus);
    c->owner2 = which == 0 ? NULL : pattern(E, modulus);
    if (modulus > 0)
        moe_int_finding_say(f, ": %s of e mod %lld", of_names[which], (long long)modulus);
    else
        moe_int_finding_say(f, ": %s of E - 1 - e", of_names[which]);
    moe_int_finding_param(f, "modulus", (double)modulus);
    return true;
}

/* Smaller steps than the right ones, with which no expert ends beyond the last one's end. */
bool moe_int_change_expert_stride(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    const moe_layer_desc *desc = moe_int_layer_of(s);
    const int64_t d = desc->d, n = desc->n, hw = moe_h_width(desc, n);
    const struct {
        int64_t of, stride, right;
        const char *said;
    } steps[] = {{1, n * d, hw * d, "n d"},
                 {1, (hw - 1) * d, hw * d, "one row less"},
                 {1, hw * (d - 1), hw * d, "one column less"},
                 {1, n * n, hw * d, "n n"},
                 {1, d * d, hw * d, "d d"},
                 {2, n * n, d * n, "n n"},
                 {2, d * d, d * n, "d d"},
                 {2, (d - 1) * n, d * n, "one row less"},
                 {2, d * (n - 1), d * n, "one column less"}};
    if (trial >= (int64_t)(sizeof steps / sizeof *steps) || desc->E < 2)
        return false;
    if (steps[trial].stride < steps[trial].right)
        *(steps[trial].of == 1 ? &c->stride1 : &c->stride2) = steps[trial].stride;
    moe_int_finding_say(f, ": W%lld's is %s", (long long)steps[trial].of, steps[trial].said);
    moe_int_finding_param(f, "stride", (double)steps[trial].stride);
    return true;
}
