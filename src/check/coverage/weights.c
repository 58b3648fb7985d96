/* Tokens whose combine weights a feature moves by more than any gate lets pass: the same choice is
 * weighed again without it. */
#include "check/coverage/coverage.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NO_MEMORY = -1 };

/* Relative change of a weight that no gate lets pass. */
static double noticed(void) {
    return sqrt(moe_gate_for(MOE_T_O, MOE_BF16).group_nmse); /* the widest gate there is */
}

bool moe_int_differs(double a, double b) {
    return fabs(a - b) > noticed() * fmax(fabs(a), fabs(b));
}

/* Tokens with a weight that differs between two plans of the same pairs. */
static int64_t tokens_that_differ(const moe_plan *a, const moe_plan *b) {
    int64_t tokens = 0;
    for (int64_t t = 0; t < a->n_tokens; t++) {
        bool differs = false;
        for (int64_t i = a->token_offsets[t]; i < a->token_offsets[t + 1]; i++) {
            int64_t p = a->pair_of_token[i];
            differs |= moe_int_differs(a->weight[p], b->weight[p]);
        }
        tokens += differs;
    }
    return tokens;
}

/* With the router's weights made by another layer, from logits z. */
static int64_t count_weighed(const moe_int_view *v, const moe_layer_desc *other, const double *z) {
    moe_plan *plan = NULL;
    int64_t tokens = NO_MEMORY;
    if (moe_plan_copy(v->routed, &plan))
        return NO_MEMORY;
    if (moe_route_weigh(other, z, plan) == MOE_OK)
        tokens = tokens_that_differ(v->routed, plan);
    moe_plan_destroy(&plan);
    return tokens;
}

/* The score that it would be mistaken for. */
static int32_t rival_of(const moe_router_desc *r) {
    const bool over_all = r->score == MOE_SCORE_SOFTMAX;
    if (!over_all && r->score != MOE_SCORE_SOFTMAX_TOPK)
        return MOE_SCORE_SOFTMAX;
    if (r->renorm) /* after which the two are the same */
        return MOE_SCORE_SIGMOID;
    return over_all ? MOE_SCORE_SOFTMAX_TOPK : MOE_SCORE_SOFTMAX;
}

int64_t moe_int_count_score(const moe_int_view *v, int64_t score) {
    moe_layer_desc other = *v->desc;
    if (!v->logits || other.router.score != score)
        return 0;
    other.router.score = rival_of(&other.router);
    return count_weighed(v, &other, v->logits);
}

int64_t moe_int_count_renorm(const moe_int_view *v, int64_t on) {
    moe_layer_desc other = *v->desc;
    if (!v->logits || other.router.renorm != on)
        return 0;
    other.router.renorm = !on;
    return count_weighed(v, &other, v->logits);
}

/* Where pairs were dropped or added, weights are still divided by the sum over the top-K. */
int64_t moe_int_count_renorm_partial(const moe_int_view *v, int64_t arg) {
    (void)arg;
    int64_t tokens = 0;
    const moe_plan *plan = v->routed;
    if (!v->logits || !v->desc->router.renorm ||
        !moe_int_selects[v->desc->router.select].norm_over_topk)
        return 0;
    for (int64_t t = 0; t < v->T; t++) {
        int64_t experts = plan->token_offsets[t + 1] - plan->token_offsets[t];
        tokens += experts > 0 && experts != v->desc->K;
    }
    return tokens;
}

int64_t moe_int_count_eps(const moe_int_view *v, int64_t arg) {
    (void)arg;
    moe_layer_desc other = *v->desc;
    if (!v->logits || !other.router.renorm || other.router.renorm_eps == 0)
        return 0;
    other.router.renorm_eps = 0;
    return count_weighed(v, &other, v->logits);
}

int64_t moe_int_count_scale(const moe_int_view *v, int64_t arg) {
    (void)arg;
    moe_layer_desc other = *v->desc;
    if (!v->logits || other.router.scale == 1)
        return 0;
    other.router.scale = 1;
    return count_weighed(v, &other, v->logits);
}

/* Experts that the jitter's mask shuts out of a softmax. */
int64_t moe_int_count_jitter(const moe_int_view *v, int64_t arg) {
    (void)arg;
    moe_layer_desc other = *v->desc;
    if (!v->logits || other.router.score != MOE_SCORE_SPARSEMIXER)
        return 0;
    other.router.jitter = HUGE_VAL;
    return count_weighed(v, &other, v->logits);
}

int64_t moe_int_count_router_bias(const moe_int_view *v, int64_t arg) {
    (void)arg;
    const moe_tensor *b = &v->in->t[MOE_T_B_R];
    const int64_t n = v->plan->n_experts;
    if (!v->logits || !b->data)
        return 0;
    double *z = malloc((size_t)(v->T * n) * sizeof *z);
    for (int64_t i = 0; z && i < v->T * n; i++)
        z[i] = v->logits[i] - moe_load(b->data, b->dtype, (size_t)(i % n));
    int64_t tokens = z ? count_weighed(v, v->desc, z) : NO_MEMORY;
    free(z);
    return tokens;
}

/* Pairs whose weight would be another if b_select stayed in the score. */
int64_t moe_int_count_bias_in_weight(const moe_int_view *v, int64_t arg) {
    (void)arg;
    const moe_plan *plan = v->routed;
    const int64_t n = plan->n_experts;
    int64_t pairs = 0;
    if (!v->logits || !v->b_select)
        return 0;
    double *score = malloc((size_t)(v->T * n) * sizeof *score);
    if (!score)
        return NO_MEMORY;
    moe_route_selection_scores(v->desc, v->T, v->logits, v->b_select, score);
    for (int64_t e = 0; e < n; e++) {
        for (int64_t p = plan->offsets[e]; p < plan->offsets[e + 1]; p++) {
            double biased = score[plan->token[p] * n + e];
            pairs += moe_int_differs(biased, biased - v->b_select[e]);
        }
    }
    free(score);
    return pairs;
}

/* relu without biases lets a factor through: before or behind it is the same. */
int64_t moe_int_count_on_input(const moe_int_view *v, int64_t arg) {
    (void)arg;
    int64_t pairs = 0;
    const moe_layer_desc *desc = v->desc;
    if (desc->router.weight_on != MOE_WEIGHT_ON_INPUT ||
        (desc->act == MOE_ACT_RELU && !desc->expert_bias))
        return 0;
    for (int64_t p = 0; p < v->plan->offsets[desc->E]; p++)
        pairs += moe_int_differs(v->plan->weight[p], 1);
    return pairs;
}
