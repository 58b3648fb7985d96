/* Hypotheses about what the experts read: order of gate and up, weights, biases, products. */
#include "check/explain/bank.h"

bool moe_int_change_gate_up_swapped(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                    moe_int_finding *f) {
    (void)f;
    c->act_swapped = true;
    return trial == 0 && moe_int_scene_is_gated(s);
}

bool moe_int_change_w1_swapped(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    (void)f;
    c->rows1 = MOE_INT_ROWS_SWAPPED;
    return trial == 0 && moe_int_scene_is_gated(s);
}

bool moe_int_change_w1_half_neighbour(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                      moe_int_finding *f) {
    if (trial > 3 || !moe_int_scene_is_gated(s) || moe_int_layer_of(s)->E < 2)
        return false;
    c->half_owner = trial % 2 ? -1 : 1;
    c->half_of_up = trial < 2;
    moe_int_finding_say(f, ": the %s of expert e %s 1", c->half_of_up ? "up" : "gate",
                        trial % 2 ? "-" : "+");
    return true;
}

bool moe_int_change_layout_read(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    bool concat = moe_int_layer_of(s)->glu_layout == MOE_GLU_CONCAT;
    if (trial > 0 || !moe_int_scene_is_gated(s))
        return false;
    c->desc.glu_layout = concat ? MOE_GLU_INTERLEAVED : MOE_GLU_CONCAT;
    moe_int_finding_say(f, ": %s",
                        concat ? "interleaved for concatenated" : "concatenated for interleaved");
    return true;
}

bool moe_int_change_w1_layout(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                              moe_int_finding *f) {
    if (trial > 1 || !moe_int_scene_is_gated(s))
        return false;
    c->rows1 = trial ? MOE_INT_ROWS_APART : MOE_INT_ROWS_INTERLEAVED;
    moe_int_finding_say(f, ": %s", trial ? "taken apart" : "interleaved");
    return true;
}

bool moe_int_change_b1_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    static const unsigned without[] = {MOE_INT_NO_B1, MOE_INT_NO_B1_UP, MOE_INT_NO_B1_GATE};
    static const char *const of[] = {"", " to the up", " to the gate"};
    if (!moe_int_layer_of(s)->expert_bias || trial > (moe_int_scene_is_gated(s) ? 2 : 0))
        return false;
    c->terms |= without[trial];
    moe_int_finding_say(f, "%s", of[trial]);
    return true;
}

bool moe_int_change_b2_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_B2;
    return trial == 0 && moe_int_layer_of(s)->expert_bias;
}

bool moe_int_change_biases_missing(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                   moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_NO_B1 | MOE_INT_NO_B2;
    return trial == 0 && moe_int_layer_of(s)->expert_bias;
}

static const char *const bias_names[] = {"b1", "b2", "b1 and b2"};

bool moe_int_change_bias_neighbour(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                   moe_int_finding *f) {
    int64_t E = moe_int_layer_of(s)->E;
    if (trial > 5 || E < 2 || !moe_int_layer_of(s)->expert_bias)
        return false;
    c->biases = 1 + (unsigned)trial / 2;
    c->bias_shift = trial % 2 ? E - 1 : 1;
    moe_int_finding_say(f, ": expert e has %s of e %s 1", bias_names[trial / 2],
                        trial % 2 ? "-" : "+");
    return true;
}

bool moe_int_change_bias_twice(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    const double K = (double)moe_int_layer_of(s)->K;
    const struct {
        double times;
        const char *words;
    } factors[] = {
        {2, "twice"}, {-1, "subtracted"}, {1 / K, "over K"}, {K, "times K"}, {0.5, "halved"}};
    if (trial >= 3 * (int64_t)(sizeof factors / sizeof *factors) ||
        !moe_int_layer_of(s)->expert_bias)
        return false;
    c->biases = 1 + (unsigned)(trial % 3);
    c->bias_factor = factors[trial / 3].times;
    moe_int_finding_say(f, ": %s %s", bias_names[trial % 3], factors[trial / 3].words);
    return true;
}

bool moe_int_change_b1_order(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                             moe_int_finding *f) {
    static const char *const words[MOE_INT_B1_ORDERS] = {"",
                                                         "the gate's to the up, and back",
                                                         "the gate's to both",
                                                         "the up's to both",
                                                         "as if it were interleaved",
                                                         "as if it were concatenated"};
    if (trial + 1 >= MOE_INT_B1_ORDERS || !moe_int_layer_of(s)->expert_bias ||
        !moe_int_scene_is_gated(s))
        return false;
    c->b1_order = (moe_int_b1_order)(trial + 1);
    moe_int_finding_say(f, ": %s", words[trial + 1]);
    return true;
}

bool moe_int_change_b2_unweighted(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    (void)f;
    c->terms |= MOE_INT_B2_UNWEIGHTED;
    return trial == 0 && moe_int_layer_of(s)->expert_bias;
}

/* Of X, of dO, of both; the next one, or the one before. */
bool moe_int_change_token_neighbour(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                    moe_int_finding *f) {
    static const char *const of[] = {"X", "dO", "X and dO"};
    int64_t step = trial % 2 ? -1 : 1;
    if (trial > 5 || s->evidence->problem->T < 2)
        return false;
    c->gather_X = trial / 2 == 1 ? 0 : step;
    c->gather_dO = trial / 2 == 0 ? 0 : step;
    moe_int_finding_say(f, ": %s of the token %s", of[trial / 2], trial % 2 ? "before" : "after");
    return true;
}

/* A number of the token that is cut to some bits; elements that are read a few places late. */
bool moe_int_change_gather_index(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                 moe_int_finding *f) {
    static const int64_t late[] = {1, -1, 4, 8};
    enum { LATE = sizeof late / sizeof *late };
    const int64_t T = s->evidence->problem->T, d = moe_int_layer_of(s)->d;
    const int64_t modulus = trial < LATE ? 0 : (int64_t)4 << (trial - LATE);
    if (modulus >= T * d)
        return false;
    c->gather_late = modulus ? 0 : late[trial];
    c->gather_mod = modulus < T ? modulus : 0;
    c->gather_wrap = modulus < T ? 0 : modulus;
    if (c->gather_wrap)
        moe_int_finding_say(f, ": the index of a row's first element wraps at %lld",
                            (long long)modulus);
    else if (modulus)
        moe_int_finding_say(f, ": of the token's number mod %lld", (long long)modulus);
    else
        moe_int_finding_say(f, ": %lld elements late", (long long)c->gather_late);
    moe_int_finding_param(f, modulus ? "modulus" : "elements",
                          (double)(modulus ? modulus : c->gather_late));
    return true;
}

bool moe_int_change_gather_rule(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                moe_int_finding *f) {
    if (trial >= MOE_INT_TOKEN_RULES || s->evidence->first == MOE_INT_CHOICE)
        return false;
    c->token_rule = &moe_int_token_rules[trial];
    moe_int_finding_say(f, ": %s", c->token_rule->words);
    return true;
}

bool moe_int_change_tail_early(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f) {
    static const int64_t tiles[] = {128, 64, 32, 16, 8};
    (void)s;
    if (trial >= (int64_t)(sizeof tiles / sizeof *tiles))
        return false;
    c->early = tiles[trial];
    moe_int_finding_say(f, ": tiles of %lld", (long long)c->early);
    moe_int_finding_param(f, "tile", (double)c->early);
    return true;
}

bool moe_int_change_next_rows(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                              moe_int_finding *f) {
    static const int64_t tiles[] = {1, 128, 64, 32, 16, 8};
    enum { TILES = sizeof tiles / sizeof *tiles };
    int64_t of = trial / TILES - 1; /* -1: all experts; then those that the scene has */
    if (of >= s->n_experts || moe_int_layer_of(s)->E < 2)
        return false;
    c->beyond = tiles[trial % TILES];
    c->beyond_expert = of < 0 ? -1 : s->expert[of];
    if (c->beyond == 1)
        moe_int_finding_say(f, ": the last row");
    else
        moe_int_finding_say(f, ": rows after whole tiles of %lld", (long long)c->beyond);
    if (of >= 0)
        moe_int_finding_say(f, " of expert %lld", (long long)c->beyond_expert);
    moe_int_finding_param(f, "tile", (double)c->beyond);
    return true;
}

bool moe_int_change_w1_transposed(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    (void)s;
    (void)f;
    c->transposed1 = true;
    return trial == 0;
}

bool moe_int_change_w2_transposed(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                  moe_int_finding *f) {
    (void)s;
    (void)f;
    c->transposed2 = true;
    return trial == 0;
}

/* The last, then the first elements of the sum: 1, 4 ... 128. */
bool moe_int_change_k_block_dropped(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                    moe_int_finding *f) {
    static const char *const product[] = {"H = x W1^T", "Y = A W2^T", "dA = dO W2", "dX~ = dH W1"};
    static const int64_t blocks[] = {1, 4, 8, 16, 32, 64, 128};
    enum { BLOCKS = sizeof blocks / sizeof *blocks };
    const moe_layer_desc *desc = moe_int_layer_of(s);
    const int64_t length[] = {desc->d, desc->n, desc->d, moe_h_width(desc, desc->n)};
    int64_t of = trial / BLOCKS % MOE_INT_PRODUCT_COUNT;
    bool first = trial >= (int64_t)BLOCKS * MOE_INT_PRODUCT_COUNT;
    if (trial >= 2 * (int64_t)BLOCKS * MOE_INT_PRODUCT_COUNT)
        return false;
    c->terms |= first ? MOE_INT_DROP_FIRST : 0;
    if (blocks[trial % BLOCKS] < length[of])
        c->drop[of] = blocks[trial % BLOCKS];
    moe_int_finding_say(f, ": the %s %lld of %lld in %s", first ? "first" : "last",
                        (long long)c->drop[of], (long long)length[of], product[of]);
    moe_int_finding_param(f, "dropped", (double)c->drop[of]);
    return true;
}

bool moe_int_change_columns_repeated(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                                     moe_int_finding *f) {
    static const int64_t periods[] = {1, 2, 4, 8, 16, 32, 64, 128};
    enum { PERIODS = sizeof periods / sizeof *periods };
    if (trial / 2 >= PERIODS)
        return false;
    c->from_start = trial >= PERIODS;
    if (periods[trial % PERIODS] < moe_int_layer_of(s)->n)
        c->period = periods[trial % PERIODS];
    moe_int_finding_say(f, c->from_start ? " of %lld" : ": odd tiles of %lld are the even ones",
                        (long long)c->period);
    moe_int_finding_param(f, "period", (double)c->period);
    return true;
}
