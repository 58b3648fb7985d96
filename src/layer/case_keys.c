/* The keys of a case line. A new key is one row here and nothing else. */
#include "layer/case_keys.h"
#include "layer/blocks.h"
#include "layer/traits.h"
#include "moeref/ep.h"
#include "moeref/quant.h"

#include <string.h>

/* clang-format off */

/* Lists of names: N(word, value, ...). */
#define ACT_NAMES(N) MOE_INT_ACTS(N)
#define GLU_NAMES(N) N("concat", MOE_GLU_CONCAT) N("interleaved", MOE_GLU_INTERLEAVED)
#define DTYPE_NAMES(N)                                                                            \
    N("bf16", MOE_BF16) N("fp16", MOE_F16) N("fp32", MOE_F32) N("fp64", MOE_F64)
#define SCORE_NAMES(N)                                                                            \
    N("softmax", MOE_SCORE_SOFTMAX) N("softmax_topk", MOE_SCORE_SOFTMAX_TOPK)                     \
    N("sigmoid", MOE_SCORE_SIGMOID) N("sparsemixer", MOE_SCORE_SPARSEMIXER)                   \
    N("sigmoid_logit", MOE_SCORE_SIGMOID_LOGIT)                                                    \
    N("sqrt_softplus", MOE_SCORE_SQRT_SOFTPLUS) N("sigmoid_cap", MOE_SCORE_SIGMOID_CAP)
#define SELECT_NAMES(N) MOE_INT_SELECTS(N)
#define ON_NAMES(N) N("output", MOE_WEIGHT_ON_OUTPUT) N("input", MOE_WEIGHT_ON_INPUT)
#define ROUNDING_NAMES(N)                                                                         \
    N("nr", MOE_ROUND_NEAREST) N("up", MOE_ROUND_UP) N("down", MOE_ROUND_DOWN)                    \
    N("sr", MOE_ROUND_STOCHASTIC) N("balance", MOE_ROUND_BALANCE)
#define ROUTE_NAMES(N)                                                                            \
    N("router", MOE_ROUTE_ROUTER) N("uniform", MOE_ROUTE_UNIFORM) N("zipf", MOE_ROUTE_ZIPF)       \
    N("counts", MOE_ROUTE_COUNTS) N("hot", MOE_ROUTE_HOT) N("balanced", MOE_ROUTE_BALANCED)
#define DATA_NAMES(N)                                                                             \
    N("normal", MOE_FILL_NORMAL) N("outlier", MOE_FILL_OUTLIER)                                   \
    N("integer", MOE_FILL_INTEGER) N("zero", MOE_FILL_ZERO) N("exact", MOE_FILL_EXACT)              \
    N("cancel", MOE_FILL_CANCEL)
#define INJECT_NAMES(N) N("none", 0) N("nan", 1) N("inf", 2)
#define PASS_NAMES(N) N("fwd", MOE_PASS_FWD) N("bwd", MOE_PASS_BWD) N("both", MOE_PASS_BOTH)
#define QUANT_NAMES(N)                                                                            \
    N("none", 0) N("int8", 1 + MOE_QUANT_INT8) N("int4", 1 + MOE_QUANT_INT4)                      \
    N("fp8", 1 + MOE_QUANT_FP8) N("ternary", 1 + MOE_QUANT_TERNARY)                               \
    N("nested", 1 + MOE_QUANT_NESTED)
#define BLOCK_NAMES(N) N("none", MOE_INT_BLOCK_NONE) MOE_INT_BLOCKS(NAMED_##N)
#define COMBINE_NAMES(N) N("pairs", 0) N("ranks", 1)
#define WIRE_NAMES(N) N("own", -1) DTYPE_NAMES(N) N("e4m3", MOE_EP_WIRE_E4M3)
#define PADDING_NAMES(N)                                                                          \
    N("none", MOE_EP_PAD_NONE) N("owner", MOE_EP_PAD_OWNER) N("wire", MOE_EP_PAD_WIRE)            \
    N("capacity", MOE_EP_PAD_CAPACITY)
#define NO_NAMES(N)

/* KEY(key, padding for the help text, kind, field of moe_case, names, default, meaning) */
#define REQUIRED_KEYS(KEY)                                                                        \
    KEY("T", "           ", I64, T, NO, "", "tokens")                                             \
    KEY("d", "           ", I64, layer.d, NO, "", "model width")                                  \
    KEY("n", "           ", I64, layer.n, NO, "", "expert width")                                 \
    KEY("E", "           ", I64, layer.E, NO, "", "routed experts")                               \
    KEY("K", "           ", I64, layer.K, NO, "", "experts per token")

#define OPTIONAL_KEYS(KEY)                                                                        \
    KEY("act", "         ", NAME, layer.act, ACT, "swiglu", "activation of the experts:")         \
    KEY("glu", "         ", NAME, layer.glu_layout, GLU, "concat", "rows of W1:")                 \
    KEY("dtype", "       ", NAME, dtype, DTYPE, "bf16", "type of X, dO and parameters:")          \
    KEY("score", "       ", NAME, layer.router.score, SCORE, "softmax", "logits to scores:")      \
    KEY("select", "      ", NAME, layer.router.select, SELECT, "topk", "choice of experts:")      \
    KEY("bias", "        ", FLAG, layer.expert_bias, NO, "0", "1: experts have b1 and b2")        \
    KEY("router_bias", " ", FLAG, layer.router.bias, NO, "0", "1: b_r is added to the logits")    \
    KEY("select_bias", " ", FLAG, layer.router.select_bias, NO, "0",                              \
      "1: b_select is added to the scores for the choice only")                                   \
    KEY("groups", "      ", I32, layer.router.groups, NO, "1",                                     \
      "select=group_topk, group_max, group_zero: groups of experts")                              \
    KEY("topk_groups", " ", I32, layer.router.topk_groups, NO, "1",                               \
      "of those groups: how many are kept")                                                       \
    KEY("renorm", "      ", FLAG, layer.router.renorm, NO, "0",                                   \
      "1: weights divided by their sum; left out with select=token_rounding it is 1")             \
    KEY("eps", "         ", REAL, layer.router.renorm_eps, NO, "0", "renorm=1: added to that sum") \
    KEY("scale", "       ", REAL, layer.router.scale, NO, "1", "multiplies every weight")         \
    KEY("on", "          ", NAME, layer.router.weight_on, ON, "output",                           \
      "what a weight multiplies, the expert's:")                                                  \
    KEY("jitter", "      ", REAL, layer.router.jitter, NO, "0.01",                                \
      "score=sparsemixer: epsilon; sigmoid_cap: where it caps a logit")                           \
    KEY("capacity", "    ", I64, layer.router.capacity, NO, "1",                                  \
      "select=capacity, block=depths, recursions: tokens an expert keeps")                        \
    KEY("capacity_group", "  ", I64, layer.router.capacity_group, NO, "0",                       \
      "select=capacity: of each so many tokens in a row, as a rank has; 0: of all")               \
    KEY("tile", "        ", I32, layer.router.tile, NO, "128",                                    \
      "select=token_rounding: counts become multiples of it")                                     \
    KEY("rounding", "    ", NAME, layer.router.rounding, ROUNDING, "nr",                          \
      "select=token_rounding:")                                                                   \
    KEY("zero", "        ", I64, layer.n_zero, NO, "0", "identity experts after the E real ones") \
    KEY("shared", "      ", I64, layer.n_shared, NO, "0", "width of the shared expert, 0: none")  \
    KEY("shared_gate", " ", FLAG, layer.shared_gate, NO, "0",                                     \
      "1: sigmoid gate on the shared expert")                                                     \
    KEY("alpha", "       ", REAL, layer.act_alpha, NO, "1.702",                                   \
      "act=swiglu_clamp: factor in its sigmoid; swiglu_softcap: cap of the gate; swiglu_limit, "  \
      "swiglu_limit_after: limit of the shared expert")                                           \
    KEY("limit", "       ", REAL, layer.act_limit, NO, "7",                                       \
      "act=swiglu_clamp, swiglu_limit, swiglu_limit_after: where it clamps; swiglu_softcap: cap " \
      "of the up")                                                                                \
    KEY("route", "       ", ROUTE, route, ROUTE, "router",                                        \
      "zipf:S, counts:32+0+96 (one per expert), hot:EXPERT or a bare name:")                      \
    KEY("masked", "      ", I64, masked, NO, "0",                                                 \
      "tokens without any expert, as padding has none; drawn")                                    \
    KEY("drop", "        ", I64, drop, NO, "0",                                                   \
      "given routes: (token, expert) pairs left out of the others; drawn")                        \
    KEY("data", "        ", NAME, data, DATA, "normal",                                           \
      "values of X and dO (integer, exact, cancel: of the experts too):")                                 \
    KEY("x_scale", "     ", REAL, x_scale, NO, "1", "multiplies X and dO")                        \
    KEY("r_scale", "     ", REAL, r_scale, NO, "1", "multiplies W_r; 0 makes all logits equal")   \
    KEY("b_scale", "     ", REAL, b_scale, NO, "1", "multiplies b_select")                        \
    KEY("quant", "       ", NAME, quant, QUANT, "none",                                           \
      "W1 and W2 are drawn, then become what codes of few bits stand for:")                       \
    KEY("quant_rows", "  ", I64, quant_rows, NO, "1", "rows of W1, W2 that share a scale, 0: all") \
    KEY("quant_cols", "  ", I64, quant_columns, NO, "0", "columns that share a scale, 0: all")   \
    KEY("quant_bits", "  ", I32, quant_bits, NO, "4", "quant=nested: bits that are read, 2 to 4") \
    KEY("block", "       ", NAME, block, BLOCK, "none",                                           \
      "router, or experts, beyond the layer's own choices; its last experts are the problem:")    \
    KEY("layers", "      ", I64, layers, NO, "2",                                                 \
      "block=recursions, chained, chained_skip, recurrent, constants: how many")                  \
    KEY("hidden", "      ", I64, hidden, NO, "0",                                                 \
      "predictions: width of tokens, router and shared expert, in two projections to d; 0: d")   \
    KEY("inject", "      ", INJECT, inject, INJECT, "none",                                       \
      "X[TOKEN][d/2] becomes nan@TOKEN or inf@TOKEN:")                                            \
    KEY("pass", "        ", NAME, pass, PASS, "both", "what runs:")                               \
    KEY("ep", "          ", I32, split.ranks, NO, "0",                                            \
      "ranks that tokens and experts are spread over, 0: one device alone")                       \
    KEY("combine", "     ", NAME, split.combine, COMBINE, "pairs",                                \
      "ep: what goes home, a row for each pair or a sum for each token and rank:")                \
    KEY("wire", "        ", NAME, split.wire, WIRE, "own",                                        \
      "ep: type of the rows that go home; e4m3: of those of X that go out, with scales:")                                                       \
    KEY("skew", "        ", REAL, split.skew, NO, "0", "ep: rank r has (r+1)^-skew parts of the tokens") \
    KEY("tokens", "      ", LIST, split.tokens, NO, "even", "ep: tokens of each rank, 8+0+24")        \
    KEY("tp", "          ", I32, split.tp, NO, "1",                                                \
      "ep: of ep groups of so many ranks each, whose experts have n/tp of their units on each")      \
    KEY("replicas", "    ", LIST, split.replicas, NO, "one",                                       \
      "ep: how often each of the first experts lies, 3+1+2, on the groups after its owner")        \
    KEY("padding", "     ", NAME, split.padding, PADDING, "none",                                  \
      "ep: rows of nobody, at an expert's owner, on the wire, or there up to capacity:")            \
    KEY("pad", "         ", I64, split.pad, NO, "1", "padding=owner, wire: up to a multiple of it") \
    KEY("seed", "        ", U64, seed, NO, "0", "of every random number")

#define N_ROW(word, value, ...) {word, value},
#define NAMED_N_ROW(name, meaning) N_ROW(#name, MOE_INT_BLOCK_##name)
#define NAMES(list) {list(N_ROW) {NULL, 0}}
static const moe_int_name ACT[] = NAMES(ACT_NAMES);
static const moe_int_name GLU[] = NAMES(GLU_NAMES);
static const moe_int_name DTYPE[] = NAMES(DTYPE_NAMES);
static const moe_int_name SCORE[] = NAMES(SCORE_NAMES);
static const moe_int_name SELECT[] = NAMES(SELECT_NAMES);
static const moe_int_name ON[] = NAMES(ON_NAMES);
static const moe_int_name ROUNDING[] = NAMES(ROUNDING_NAMES);
static const moe_int_name ROUTE[] = NAMES(ROUTE_NAMES);
static const moe_int_name DATA[] = NAMES(DATA_NAMES);
static const moe_int_name INJECT[] = NAMES(INJECT_NAMES);
static const moe_int_name PASS[] = NAMES(PASS_NAMES);
static const moe_int_name BLOCK[] = NAMES(BLOCK_NAMES);
static const moe_int_name QUANT[] = NAMES(QUANT_NAMES);
static const moe_int_name COMBINE[] = NAMES(COMBINE_NAMES);
static const moe_int_name WIRE[] = NAMES(WIRE_NAMES);
static const moe_int_name PADDING[] = NAMES(PADDING_NAMES);
static const moe_int_name NO[] = NAMES(NO_NAMES);

/* A value of an enum without a word could not be asked for. */
#define ALL_NAMED(names, count)                                                                   \
    _Static_assert(sizeof names / sizeof *names == (count) + 1, "a value below " #count " has no word")
ALL_NAMED(ACT, MOE_ACT_COUNT);
ALL_NAMED(GLU, MOE_GLU_COUNT);
ALL_NAMED(SCORE, MOE_SCORE_COUNT);
ALL_NAMED(SELECT, MOE_SELECT_COUNT);
ALL_NAMED(ROUNDING, MOE_ROUND_COUNT);
ALL_NAMED(ON, MOE_WEIGHT_ON_COUNT);
ALL_NAMED(PADDING, MOE_EP_PADDING_COUNT);
ALL_NAMED(QUANT, 1 + MOE_QUANT_COUNT);

#define ROW(key, pad, kind, field, names, fallback, meaning)                                      \
    {key, MOE_INT_KEY_##kind, offsetof(moe_case, field), names, sizeof fallback == 1, fallback,   \
     meaning},
const moe_int_case_key moe_int_case_keys[] = {REQUIRED_KEYS(ROW) OPTIONAL_KEYS(ROW)};

#define N_HELP(word, ...) " " word
#define NAMED_N_HELP(name, meaning) " " #name
#define HELP_REQUIRED(key, pad, kind, field, names, fallback, meaning)                            \
    "  " key pad meaning " (required)\n"
#define HELP_OPTIONAL(key, pad, kind, field, names, fallback, meaning)                            \
    "  " key pad meaning names##_NAMES(N_HELP) " (default " fallback ")\n"
static const char help[] = REQUIRED_KEYS(HELP_REQUIRED) OPTIONAL_KEYS(HELP_OPTIONAL);

/* clang-format on */

const size_t moe_int_case_key_count = sizeof moe_int_case_keys / sizeof *moe_int_case_keys;
_Static_assert(sizeof moe_int_case_keys / sizeof *moe_int_case_keys <= MOE_INT_CASE_KEYS_MAX,
               "the parser notes the keys it has seen in one 64-bit word");

const char *moe_case_help(void) {
    return help;
}

void moe_case_init(moe_case *ret) {
    memset(ret, 0, sizeof *ret);
    moe_layer_desc_init(&ret->layer);
    ret->dtype = MOE_BF16;
    ret->x_scale = 1.0;
    ret->r_scale = 1.0;
    ret->b_scale = 1.0;
    ret->quant_rows = 1;
    ret->quant_bits = 4;
    ret->layers = 2;
    ret->pass = MOE_PASS_BOTH;
    ret->split.wire = MOE_EP_WIRE_OWN;
    ret->split.tp = 1;
    ret->split.pad = 1;
}

int32_t moe_int_case_default_renorm(const moe_case *c) {
    return c->layer.router.select == MOE_SELECT_TOKEN_ROUNDING;
}

const moe_int_case_key *moe_int_case_key_find(moe_int_word name) {
    for (size_t i = 0; i < moe_int_case_key_count; i++) {
        const moe_int_case_key *key = &moe_int_case_keys[i];
        if (strlen(key->name) == name.length && memcmp(key->name, name.text, name.length) == 0)
            return key;
    }
    return NULL;
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Levenshtein's distance with letter case ignored; one row of the usual matrix is kept. */
#define LONGEST_NAME 32
static size_t edit_distance(moe_int_word word, const char *name) {
    size_t row[LONGEST_NAME + 1], length = strlen(name);
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 0; i < word.length; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < length; j++) {
            size_t replaced = diagonal + (lower(word.text[i]) != lower(name[j]));
            diagonal = row[j + 1];
            row[j + 1] = min_size(replaced, min_size(diagonal, row[j]) + 1);
        }
    }
    return row[length];
}

const moe_int_case_key *moe_int_case_key_nearest(moe_int_word name) {
    const moe_int_case_key *best = NULL;
    size_t least = 0;
    if (name.length > LONGEST_NAME)
        return NULL;
    for (size_t i = 0; i < moe_int_case_key_count; i++) {
        size_t distance = edit_distance(name, moe_int_case_keys[i].name);
        if (!best || distance < least) {
            best = &moe_int_case_keys[i];
            least = distance;
        }
    }
    /* More than a third of the letters wrong is no misspelling. */
    return least * 3 <= name.length + 1 ? best : NULL;
}

const char *moe_int_name_of(const moe_int_name *names, int32_t value) {
    for (; names->name; names++) {
        if (names->value == value)
            return names->name;
    }
    return NULL;
}
