/* The features, one row each, and when a case asks for one. */
#include "check/coverage/coverage.h"
#include "layer/traits.h"

static bool draws_ties(const moe_int_view *v) {
    return v->c && v->c->r_scale == 0;
}

static bool is_routed(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->logits != NULL;
}

static bool has_score(const moe_int_view *v, int64_t score) {
    const bool alike = v->desc->router.renorm && v->desc->K == 1; /* in every score */
    return v->logits && !alike && !draws_ties(v) && v->desc->router.score == score &&
           score != MOE_SCORE_SOFTMAX;
}

/* Equal logits choose the first experts by whatever rule; in tiles of one there is nothing to
 * round. */
static bool has_select(const moe_int_view *v, int64_t select) {
    const bool whole = select == MOE_SELECT_TOKEN_ROUNDING && v->desc->router.tile == 1;
    return v->logits && !whole && !draws_ties(v) && v->desc->router.select == select &&
           select != MOE_SELECT_TOPK;
}

static bool has_rounding(const moe_int_view *v, int64_t rule) {
    return has_select(v, MOE_SELECT_TOKEN_ROUNDING) && v->desc->router.rounding == rule;
}

static bool has_select_bias(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->logits && v->b_select;
}

static bool has_ties(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->logits && draws_ties(v) && v->desc->K < v->plan->n_experts;
}

static bool has_eps(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->logits && v->desc->router.renorm && v->desc->router.renorm_eps > 0;
}

static bool has_scale(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->logits && v->desc->router.scale != 1;
}

static bool has_router_bias(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->logits && v->desc->router.bias;
}

static bool is_on_input(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
}

static bool has_experts(const moe_int_view *v, int64_t count) {
    return v->plan->n_experts > count;
}

static bool has_more(const moe_int_view *v, int64_t experts) {
    return v->desc->K > experts;
}

static bool has_zero_experts(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->desc->n_zero > 0;
}

static bool is_hot(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->c && v->c->route == MOE_ROUTE_HOT;
}

static bool has_empty(const moe_int_view *v, int64_t arg) {
    (void)arg;
    for (int64_t e = 0; v->c && v->c->route == MOE_ROUTE_COUNTS && e < v->desc->E; e++)
        if (v->c->counts[e] == 0)
            return true;
    return false;
}

static bool has_act(const moe_int_view *v, int64_t act) {
    return v->desc->act == act && v->plan->offsets[v->desc->E] > 0;
}

static bool has_relu(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return has_act(v, MOE_ACT_RELU) || has_act(v, MOE_ACT_RELU2) || has_act(v, MOE_ACT_REGLU);
}

static bool has_clamp(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return has_act(v, MOE_ACT_SWIGLU_CLAMP);
}

static bool is_interleaved(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->desc->glu_layout == MOE_GLU_INTERLEAVED;
}

static bool has_biases(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->desc->expert_bias != 0;
}

static bool has_shared(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->desc->n_shared > 0;
}

static bool has_shared_gate(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->desc->shared_gate != 0;
}

static bool is_injected(const moe_int_view *v, int64_t inject) {
    return v->c && v->c->inject == inject;
}

static bool has_outliers(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->c && v->c->data == MOE_FILL_OUTLIER;
}

/* Only piecewise polynomials keep exact data exact. */
static bool is_exact(const moe_int_view *v, int64_t arg) {
    return v->c && v->c->data == MOE_FILL_EXACT && !v->logits && has_relu(v, arg);
}

static bool is_masked(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->c && v->c->masked > 0;
}

static bool drops_slots(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->c && v->c->drop > 0;
}

static bool is_forward_only(const moe_int_view *v, int64_t arg) {
    (void)arg;
    return v->c && v->c->pass == MOE_PASS_FWD;
}

/* clang-format off */
#define ACT_ROW(word, value, ...) \
    {"act_" word, "hidden units", moe_int_count_act, has_act, value},
#define SELECT_ROW(word, value, ...) \
    {"select_" word, "tokens whose experts plain top-K would change", moe_int_count_selection, has_select, value},
#define SCORE_ROW(word, value) \
    {"score_" word, "tokens whose weights the score most like it would change", moe_int_count_score, has_score, value},
#define ROUNDING_ROW(word, value) \
    {"rounding_" word, "pairs that the rule most like it would change", moe_int_count_rounding, has_rounding, value},
#define TILE_ROW(tile) \
    {"rows_mod_" #tile, "rows of experts beside whole tiles of " #tile, moe_int_count_row_tails, NULL, tile},
#define WIDTH_ROWS(tile) \
    {"d_mod_" #tile, "elements of O in columns beside whole tiles of " #tile, moe_int_count_d_tails, NULL, tile}, \
    {"n_mod_" #tile, "elements of A in columns beside whole tiles of " #tile, moe_int_count_n_tails, NULL, tile},

const moe_int_feature moe_int_features[] = {
    MOE_INT_ACTS(ACT_ROW)
    {"relu_on", "gates above 0", moe_int_count_relu, has_relu, 1},
    {"relu_off", "gates below 0", moe_int_count_relu, has_relu, -1},
    {"relu_at_0", "gates exactly 0, in every kernel", moe_int_count_relu, NULL, 0},
    {"gelu_erf", "hidden units that gelu by tanh would change", moe_int_count_gelu_erf, NULL, 0},
    {"clamp_gate_above", "gates above the limit", moe_int_count_clamp, has_clamp, MOE_INT_GATE_ABOVE},
    {"clamp_gate_below", "gates below minus the limit, which nothing clamps", moe_int_count_clamp, has_clamp, MOE_INT_GATE_BELOW},
    {"clamp_up_above", "ups above the limit", moe_int_count_clamp, has_clamp, MOE_INT_UP_ABOVE},
    {"clamp_up_below", "ups below minus the limit", moe_int_count_clamp, has_clamp, MOE_INT_UP_BELOW},
    {"clamp_gate_on_limit", "gates exactly on the limit, in every kernel", moe_int_count_clamp, NULL, MOE_INT_GATE_ON},
    {"clamp_up_on_high", "ups exactly on the limit, in every kernel", moe_int_count_clamp, NULL, MOE_INT_UP_ON_HIGH},
    {"clamp_up_on_low", "ups exactly on minus the limit, in every kernel", moe_int_count_clamp, NULL, MOE_INT_UP_ON_LOW},
    {"interleaved", "elements of H that lie elsewhere in glu=concat", moe_int_count_interleaved, is_interleaved, 0},
    {"bias_b1", "elements of H that b1 moves", moe_int_count_bias, has_biases, MOE_T_B1},
    {"bias_b2", "elements of Y that b2 moves", moe_int_count_bias, has_biases, MOE_T_B2},
    {"shared", "tokens", moe_int_count_shared, has_shared, 0},
    {"shared_gate", "tokens whose gate is not 1", moe_int_count_shared_gate, has_shared_gate, 0},
    {"zero_experts", "pairs", moe_int_count_zero_experts, has_zero_experts, 0},
    {"on_input", "pairs whose weight matters before the activation", moe_int_count_on_input, is_on_input, 0},
    SCORE_ROW("softmax", MOE_SCORE_SOFTMAX)
    SCORE_ROW("softmax_topk", MOE_SCORE_SOFTMAX_TOPK)
    SCORE_ROW("sigmoid", MOE_SCORE_SIGMOID)
    SCORE_ROW("sparsemixer", MOE_SCORE_SPARSEMIXER)
    SCORE_ROW("sigmoid_logit", MOE_SCORE_SIGMOID_LOGIT)
    SCORE_ROW("sqrt_softplus", MOE_SCORE_SQRT_SOFTPLUS)
    SCORE_ROW("sigmoid_cap", MOE_SCORE_SIGMOID_CAP)
    {"jitter", "tokens whose weights the jitter's mask changes", moe_int_count_jitter, NULL, 0},
    {"router_bias", "tokens whose weights b_r changes", moe_int_count_router_bias, has_router_bias, 0},
    {"renorm", "tokens whose weights renormalisation changes", moe_int_count_renorm, NULL, 1},
    {"no_renorm", "tokens whose weights renormalisation would change", moe_int_count_renorm, NULL, 0},
    {"renorm_over_topk", "tokens with other experts than their top-K, by which they are normalised", moe_int_count_renorm_partial, NULL, 0},
    {"eps", "tokens whose weights eps changes", moe_int_count_eps, has_eps, 0},
    {"scale", "tokens whose weights scale changes", moe_int_count_scale, has_scale, 0},
    MOE_INT_SELECTS(SELECT_ROW)
    {"group_mask", "tokens that a mask of 0, not -inf, would send elsewhere", moe_int_count_mask_by_zero, NULL, 0},
    {"group_sum", "tokens that groups ranked by their best expert alone would send elsewhere", moe_int_count_group_by_best, NULL, 0},
    {"select_bias", "tokens whose experts b_select changes", moe_int_count_select_bias, has_select_bias, 0},
    {"select_bias_apart", "pairs whose weight b_select would change if it stayed in the score", moe_int_count_bias_in_weight, has_select_bias, 0},
    {"ties", "tokens whose experts a tie decides", moe_int_count_ties, has_ties, 0},
    {"capacity_drops", "pairs dropped", moe_int_count_dropped, has_select, MOE_SELECT_CAPACITY},
    ROUNDING_ROW("nr", MOE_ROUND_NEAREST)
    ROUNDING_ROW("up", MOE_ROUND_UP)
    ROUNDING_ROW("down", MOE_ROUND_DOWN)
    ROUNDING_ROW("sr", MOE_ROUND_STOCHASTIC)
    ROUNDING_ROW("balance", MOE_ROUND_BALANCE)
    {"rounding_adds", "pairs added to top-K", moe_int_count_added, NULL, MOE_SELECT_TOKEN_ROUNDING},
    {"rounding_drops", "pairs of top-K dropped", moe_int_count_dropped, NULL, MOE_SELECT_TOKEN_ROUNDING},
    {"experts_above_64", "pairs of experts from 64 on", moe_int_count_experts_from, has_experts, 64},
    {"experts_above_256", "pairs of experts from 256 on", moe_int_count_experts_from, has_experts, 256},
    {"one_per_token", "pairs where K = 1", moe_int_count_single, NULL, 0},
    {"more_than_8", "tokens with more than 8 experts", moe_int_count_more_than, has_more, 8},
    {"more_than_16", "tokens with more than 16 experts", moe_int_count_more_than, has_more, 16},
    {"not_K", "tokens with another number of experts than K", moe_int_count_uneven, NULL, 0},
    {"masked", "masked tokens", moe_int_count_masked, is_masked, 0},
    {"dropped_slots", "slots without an expert in tokens that have some", moe_int_count_slots, drops_slots, 0},
    {"idle_tokens", "tokens without an expert", moe_int_count_idle, NULL, 0},
    {"empty_experts", "experts without a token", moe_int_count_empty, has_empty, 0},
    {"hot_expert", "rows of experts with more than twice their even share", moe_int_count_hot, is_hot, 0},
    {"router", "pairs of a router", moe_int_count_given, is_routed, 0},
    {"given_plan", "pairs of a given plan", moe_int_count_given, NULL, 1},
    TILE_ROW(8) TILE_ROW(16) TILE_ROW(32) TILE_ROW(64) TILE_ROW(128)
    {"rows_beyond_128", "rows of experts from 128 on", moe_int_count_rows_beyond, NULL, 128},
    WIDTH_ROWS(16) WIDTH_ROWS(32) WIDTH_ROWS(64) WIDTH_ROWS(128)
    {"nan", "elements of O that are not finite for a NaN in X", moe_int_count_not_finite, is_injected, 1},
    {"inf", "elements of O that are not finite for an infinity in X", moe_int_count_not_finite, is_injected, 2},
    {"outliers", "elements of X above 8 standard deviations", moe_int_count_outliers, has_outliers, 0},
    {"forward_only", "elements of O", moe_int_count_forward_only, is_forward_only, 0},
    {"exact", "elements of O in cases where every bit counts", moe_int_count_exact, is_exact, 0},
};
/* clang-format on */

const int32_t moe_int_feature_count = sizeof moe_int_features / sizeof *moe_int_features;
_Static_assert(sizeof moe_int_features / sizeof *moe_int_features <= MOE_FEATURES_MAX,
               "a result has room for MOE_FEATURES_MAX features");

int32_t moe_features(void) {
    return moe_int_feature_count;
}

const char *moe_feature_name(int32_t feature) {
    return moe_int_features[feature].name;
}

const char *moe_feature_counted(int32_t feature) {
    return moe_int_features[feature].counted;
}
