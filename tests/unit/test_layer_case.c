/* The case grammar: every key there and back, every error's sentence, hostile text. */
#include "capture.h"
#include "layer/case_keys.h"
#include "moeref/case.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE "T=64 d=32 n=16 E=8 K=2"
#define LINE 1024

static void print_parsed(const char *text, char *ret_line) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_case c;
    moe_status status = moe_case_parse(text, &log, &c);
    cr_assert_eq(status, MOE_OK, "\"%s\": %s", text, seen.text);
    cr_assert_lt(moe_case_print(&c, ret_line, LINE), LINE);
    moe_case_destroy(&c);
}

static void assert_canonical(const char *text, const char *want) {
    char got[LINE], again[LINE];
    print_parsed(text, got);
    cr_assert_str_eq(got, want);
    print_parsed(got, again);
    cr_assert_str_eq(again, got, "printing is not stable");
}

/* A value that differs from the default for every optional key, with what else the key needs. */
static const struct {
    const char *key, *value, *needs;
} samples[] = {
    {"act", "geglu", ""},
    {"glu", "interleaved", ""},
    {"dtype", "fp64", ""},
    {"score", "sigmoid", ""},
    {"select", "expert_choice", ""},
    {"bias", "1", ""},
    {"router_bias", "1", ""},
    {"select_bias", "1", ""},
    {"groups", "4", ""},
    {"topk_groups", "3", ""},
    {"renorm", "1", ""},
    {"eps", "1e-20", ""},
    {"scale", "2.5", ""},
    {"on", "input", ""},
    {"jitter", "0.1", ""},
    {"capacity", "12", ""},
    {"capacity_group", "8", ""},
    {"padding", "wire", " ep=2"},
    {"pad", "16", " ep=2 padding=owner"},
    {"tile", "16", ""},
    {"rounding", "balance", ""},
    {"zero", "3", ""},
    {"shared", "24", ""},
    {"shared_gate", "1", " shared=24"},
    {"alpha", "1.5", ""},
    {"limit", "6.25", ""},
    {"route", "zipf:1.2", ""},
    {"masked", "3", ""},
    {"drop", "5", " route=uniform"},
    {"data", "outlier", ""},
    {"x_scale", "0.001", ""},
    {"r_scale", "0", ""},
    {"b_scale", "50", " select_bias=1"},
    {"quant", "int4", ""},
    {"quant_rows", "8", " quant=fp8"},
    {"quant_cols", "8", " quant=fp8"},
    {"quant_bits", "3", " quant=nested"},
    {"block", "cosine", ""},
    {"layers", "3", " block=chained"},
    {"hidden", "128", ""},
    {"inject", "inf@63", ""},
    {"pass", "fwd", ""},
    {"ep", "5", ""},
    {"combine", "ranks", " ep=2"},
    {"wire", "bf16", " ep=2"},
    {"skew", "1.5", " ep=2"},
    {"tokens", "60+0+4", " ep=3"},
    {"tp", "2", " ep=3"},
    {"replicas", "3+1+2", " ep=3"},
    {"seed", "18446744073709551615", ""},
};
#define SAMPLE_COUNT (sizeof samples / sizeof *samples)

Test(layer_case, every_optional_key_makes_the_round_trip) {
    size_t optional = 0;
    for (size_t i = 0; i < moe_int_case_key_count; i++)
        optional += !moe_int_case_keys[i].required;
    cr_assert_eq(optional, SAMPLE_COUNT, "a key has no sample here");
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        char text[LINE], word[64], got[LINE], again[LINE];
        snprintf(word, sizeof word, " %s=%s", samples[i].key, samples[i].value);
        snprintf(text, sizeof text, BASE "%s%s", word, samples[i].needs);
        print_parsed(text, got);
        cr_expect(strstr(got, word), "\"%s\" lost in \"%s\"", word, got);
        print_parsed(got, again);
        cr_expect_str_eq(again, got);
    }
}

Test(layer_case, every_name_makes_the_round_trip) {
    for (size_t i = 0; i < moe_int_case_key_count; i++) {
        const moe_int_case_key *key = &moe_int_case_keys[i];
        for (const moe_int_name *name = key->names; name->name; name++) {
            char text[LINE], got[LINE], again[LINE];
            if (key->kind != MOE_INT_KEY_NAME)
                continue;
            /* token_rounding needs softmax, sparsemixer plain top-K: both are the defaults. */
            snprintf(text, sizeof text, BASE " %s=%s", key->name, name->name);
            print_parsed(text, got);
            cr_expect(strcmp(name->name, key->fallback) == 0 ? strcmp(got, BASE) == 0
                                                             : strcmp(got, text) == 0,
                      "%s became %s", text, got);
            print_parsed(got, again);
            cr_expect_str_eq(again, got);
        }
    }
}

/* The table's default column is what moe_layer_desc_init and the case's own defaults say. */
Test(layer_case, defaults_are_those_of_the_table) {
    for (size_t i = 0; i < moe_int_case_key_count; i++) {
        char text[LINE], got[LINE];
        const moe_int_case_key *key = &moe_int_case_keys[i];
        if (key->required)
            continue;
        snprintf(text, sizeof text, BASE " %s=%s", key->name, key->fallback);
        print_parsed(text, got);
        cr_expect_str_eq(got, BASE, "%s is not the default", text);
    }
}

/* What a program fills in by hand starts where a parsed line does. */
Test(layer_case, init_is_a_line_without_optional_keys) {
    moe_case c, parsed;
    char got[LINE];
    cr_assert_eq(moe_case_parse(BASE, NULL, &parsed), MOE_OK);
    moe_case_init(&c);
    cr_expect_eq(c.T, 0);
    cr_expect_eq(c.layer.E, 0);
    c.T = parsed.T;
    c.layer.d = parsed.layer.d;
    c.layer.n = parsed.layer.n;
    c.layer.E = parsed.layer.E;
    c.layer.K = parsed.layer.K;
    moe_case_print(&c, got, sizeof got);
    cr_expect_str_eq(got, BASE);
    moe_case_destroy(&parsed);
}

Test(layer_case, fields_get_their_values) {
    moe_case c;
    cr_assert_eq(moe_case_parse("moe T=4 d=5 n=6 E=7 K=3 act=swiglu_clamp glu=interleaved "
                                "dtype=fp16 score=sigmoid select=group_topk groups=7 topk_groups=3 "
                                "renorm=1 eps=.5 scale=-2 on=input zero=0 shared=9 shared_gate=1 "
                                "bias=1 router_bias=1 select_bias=1 alpha=3 limit=4 x_scale=5 "
                                "r_scale=6 inject=nan@2 pass=bwd data=integer seed=11 "
                                "route=counts:1+2+3+4+0+0+4",
                                NULL, &c),
                 MOE_OK);
    cr_expect(c.T == 4 && c.layer.d == 5 && c.layer.n == 6 && c.layer.E == 7 && c.layer.K == 3);
    cr_expect(c.layer.act == MOE_ACT_SWIGLU_CLAMP && c.layer.glu_layout == MOE_GLU_INTERLEAVED);
    cr_expect(c.dtype == MOE_F16 && c.layer.router.score == MOE_SCORE_SIGMOID);
    cr_expect(c.layer.router.select == MOE_SELECT_GROUP_TOPK && c.layer.router.groups == 7 &&
              c.layer.router.topk_groups == 3);
    cr_expect(c.layer.router.renorm == 1 && c.layer.router.renorm_eps == 0.5 &&
              c.layer.router.scale == -2 && c.layer.router.weight_on == MOE_WEIGHT_ON_INPUT);
    cr_expect(c.layer.n_shared == 9 && c.layer.shared_gate == 1 && c.layer.expert_bias == 1);
    cr_expect(c.layer.router.bias == 1 && c.layer.router.select_bias == 1);
    cr_expect(c.layer.act_alpha == 3 && c.layer.act_limit == 4 && c.x_scale == 5 && c.r_scale == 6);
    cr_expect(c.inject == 1 && c.inject_token == 2 && c.pass == MOE_PASS_BWD && c.seed == 11);
    cr_expect(c.data == MOE_FILL_INTEGER && c.route == MOE_ROUTE_COUNTS && c.n_counts == 7);
    const int64_t counts[] = {1, 2, 3, 4, 0, 0, 4};
    cr_expect_arr_eq(c.counts, counts, sizeof counts);
    moe_case_destroy(&c);
    cr_expect_null(c.counts);
    moe_case_destroy(&c);
    moe_case_destroy(NULL);
}

Test(layer_case, canonical_lines) {
    assert_canonical("T=512 d=768 n=256 E=64 K=4 act=swiglu dtype=bf16 route=uniform seed=7",
                     "T=512 d=768 n=256 E=64 K=4 route=uniform seed=7");
    assert_canonical("  moe\tseed=7  K=2 E=3 n=8 d=8 T=4 route=counts:4+0+2 \r\n",
                     "T=4 d=8 n=8 E=3 K=2 route=counts:4+0+2 seed=7");
    assert_canonical(BASE " route=hot:007", BASE " route=hot:7");
    assert_canonical(BASE " route=balanced", BASE " route=balanced");
    assert_canonical(BASE " route=zipf:1.20", BASE " route=zipf:1.2");
    assert_canonical(BASE " inject=nan@0", BASE " inject=nan@0");
    assert_canonical(BASE " scale=0.1", BASE " scale=0.1");
    assert_canonical(BASE " scale=0.30000000000000004", BASE " scale=0.30000000000000004");
    assert_canonical(BASE " scale=1e0 eps=0.0", BASE);
    assert_canonical(BASE " zero=2 route=counts:1+1+1+1+1+1+1+1+64+0",
                     BASE " zero=2 route=counts:1+1+1+1+1+1+1+1+64+0");
}

Test(layer_case, wrong_lines_get_a_sentence) {
    static const struct {
        const char *text, *needle;
    } wrong[] = {
        {"", "T (tokens) is missing"},
        {"moe", "T (tokens) is missing"},
        {"T=64 d=32 n=16 E=8", "K (experts per token) is missing"},
        {BASE " T=64", "T is given twice"},
        {BASE " seed=1 seed=1", "seed is given twice"},
        {BASE " hello", "\"hello\" is not of the form key=value"},
        {"T=64 moe d=32 n=16 E=8 K=2", "\"moe\" is not of the form key=value"},
        {BASE " =3", "unknown key \"\""},
        {BASE " capcity=3", "did you mean \"capacity\"?"},
        {BASE " sharedgate=1", "did you mean \"shared_gate\"?"},
        {BASE " rener=1", "did you mean \"renorm\"?"},
        {"t=64 d=32 n=16 E=8 K=2", "did you mean \"T\"?"},
        {BASE " Seed=1", "did you mean \"seed\"?"},
        {BASE " bananas=3", "the keys are: T d n E K act"},
        {BASE " seed=", "seed: \"\" is not a whole number"},
        {BASE " seed=7x", "seed: \"7x\" is not a whole number"},
        {BASE " seed=-1", "seed: \"-1\" is not a whole number"},
        {BASE " seed=+1", "seed: \"+1\" is not a whole number"},
        {BASE " seed=1.0", "seed: \"1.0\" is not a whole number"},
        {BASE " seed=18446744073709551616", "seed: \"18446744073709551616\" is out of range"},
        {"T=9223372036854775808 d=32 n=16 E=8 K=2", "T: \"9223372036854775808\" is out of range"},
        {"T=99999999999999999999999 d=32 n=16 E=8 K=2", "is out of range"},
        {BASE " tile=2147483648", "tile: \"2147483648\" is out of range"},
        {BASE " scale=nan", "scale: \"nan\" is not a decimal number"},
        {BASE " scale=inf", "scale: \"inf\" is not a decimal number"},
        {BASE " scale=0x10", "scale: \"0x10\" is not a decimal number"},
        {BASE " scale=1,5", "scale: \"1,5\" is not a decimal number"},
        {BASE " scale=1e", "scale: \"1e\" is not a decimal number"},
        {BASE " scale=.", "scale: \".\" is not a decimal number"},
        {BASE " scale=1e999", "scale: \"1e999\" is out of range"},
        {BASE " scale=1e-999", "scale: \"1e-999\" is out of range"},
        {BASE " scale=0000000000000000000000000000000000000000000000000000000000000000001",
         "is not a decimal number"},
        {BASE " bias=2", "bias: \"2\" is neither 0 nor 1"},
        {BASE " bias=yes", "bias: \"yes\" is neither 0 nor 1"},
        {BASE " act=swigl", "act: \"swigl\" is none of: swiglu geglu"},
        {BASE " dtype=i64", "dtype: \"i64\" is none of: bf16 fp16 fp32 fp64"},
        {BASE " dtype=", "dtype: \"\" is none of"},
        {BASE " route=zipf", "needs an argument"},
        {BASE " route=uniform:3", "takes none"},
        {BASE " route=zipf:", "route: \"\" is not a decimal number"},
        {BASE " route=zipf:-1", "zipf:-1 is outside 0..20"},
        {BASE " route=zipf:21", "zipf:21 is outside 0..20"},
        {BASE " route=hot:8", "hot:8 names an expert outside 0..7"},
        {BASE " route=hot:-1", "route: \"-1\" is not a whole number"},
        {BASE " route=counts:", "route: \"\" is not a whole number"},
        {BASE " route=counts:1+2+", "route: \"\" is not a whole number"},
        {BASE " route=counts:1+2+3", "gives 3 counts for 8 experts"},
        {BASE " route=counts:1+2+3+4+5+6+7+8+9", "gives 9 counts for 8 experts"},
        {BASE " route=counts:1+2+3+4+5+6+7+65", "gives expert 7 65 tokens, but there are T=64"},
        {BASE " masked=65", "masked=65, but there are T=64 tokens"},
        {BASE " masked=-1", "not a whole number"},
        {BASE " route=uniform masked=60 drop=9", "drop=9, but there are 8 pairs"},
        {BASE " route=counts:1+2+3+4+5+6+7+8 masked=1", "no masked= or drop="},
        {BASE " drop=1", "drop= goes with a given route"},
        {BASE " select=expert_choice masked=1", "a router that chooses token by token"},
        {BASE " inject=nan", "write nan@TOKEN"},
        {BASE " inject=none@3", "write nan@TOKEN"},
        {BASE " inject=nan@64", "inject names token 64, but there are T=64"},
        {"T=0 d=32 n=16 E=8 K=2", "T = 0"},
        {"T=64 d=0 n=16 E=8 K=2", "d = 0"},
        {"T=64 d=32 n=0 E=8 K=2", "n = 0"},
        {"T=64 d=32 n=16 E=0 K=2", "E = 0"},
        {"T=64 d=32 n=16 E=8 K=0", "K = 0"},
        {"T=64 d=32 n=16 E=8 K=9", "K = 9 is outside 1..8"},
        {BASE " zero=9223372036854775807", "zero = 9223372036854775807"},
        {BASE " shared_gate=1", "shared_gate = 1"},
        {BASE " hidden=-1", "not a whole number"},
        {BASE " hidden=99999999999", "hidden=99999999999 is no width of a layer"},
        {BASE " select=group_topk groups=3", "does not divide"},
        {BASE " capacity=0 select=capacity", "capacity = 0"},
        {"T=2147483647 d=16777216 n=16777216 E=1048576 K=1", "elements"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        capture seen;
        moe_log log = capture_log(&seen);
        moe_case untouched, c;
        memset(&untouched, 0xa5, sizeof untouched);
        memcpy(&c, &untouched, sizeof c);
        moe_status status = moe_case_parse(wrong[i].text, &log, &c);
        cr_expect_eq(status, MOE_E_INVALID, "\"%s\": status %d", wrong[i].text, status);
        cr_expect_eq(seen.messages, 1, "\"%s\": %d messages", wrong[i].text, seen.messages);
        cr_expect(strstr(seen.text, wrong[i].needle), "\"%s\": %s", wrong[i].text, seen.text);
        cr_expect_eq(memcmp(&c, &untouched, sizeof c), 0, "\"%s\" wrote to *ret", wrong[i].text);
    }
}

/* A message repeats the user's word: cut, and without what a terminal would obey. */
Test(layer_case, messages_are_fit_to_print) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_case c;
    cr_assert_neq(moe_case_parse(BASE " act=\x1b[31m\x7f\xff", &log, &c), MOE_OK);
    cr_expect(strstr(seen.text, "act: \"?[31m??\" is none of"), "%s", seen.text);
    char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    cr_assert_neq(moe_case_parse(longest, &log, &c), MOE_OK);
    cr_expect_lt(strlen(seen.text), 200, "%s", seen.text);
    memcpy(longest, BASE " ", sizeof BASE);
    longest[4000] = '=';
    cr_assert_neq(moe_case_parse(longest, &log, &c), MOE_OK);
}

Test(layer_case, print_is_bounded_like_snprintf) {
    moe_case c;
    cr_assert_eq(moe_case_parse(BASE " route=counts:1+2+3+4+5+6+7+8 seed=5", NULL, &c), MOE_OK);
    char whole[LINE], part[LINE];
    size_t length = moe_case_print(&c, whole, sizeof whole);
    cr_assert_eq(length, strlen(whole));
    cr_assert_eq(moe_case_print(&c, NULL, 0), length);
    for (size_t size = 1; size <= length + 1; size++) {
        memset(part, '#', sizeof part);
        cr_assert_eq(moe_case_print(&c, part, size), length);
        cr_assert_eq(strlen(part), size - 1);
        cr_assert_eq(strncmp(part, whole, size - 1), 0);
        cr_assert_eq(part[size], '#', "wrote past %zu bytes", size);
    }
    moe_case_destroy(&c);
}

Test(layer_case, help_names_every_key_value_and_default) {
    const char *help = moe_case_help();
    for (size_t i = 0; i < moe_int_case_key_count; i++) {
        char start[64];
        const moe_int_case_key *key = &moe_int_case_keys[i];
        snprintf(start, sizeof start, "%s  %s ", i ? "\n" : "", key->name);
        const char *row = strstr(help, start);
        cr_assert(row, "no row for %s", key->name);
        char line[LINE] = "";
        row += i != 0;
        memcpy(line, row, strcspn(row, "\n"));
        cr_expect(strstr(line, key->meaning), "%s", line);
        cr_expect(strstr(line, key->required ? "required" : key->fallback), "%s", line);
        for (const moe_int_name *name = key->names; name->name; name++)
            cr_expect(strstr(line, name->name), "%s not in: %s", name->name, line);
    }
}

/* Whatever bytes stand there: no crash, and what is accepted prints to a line that means the same.
 */
Test(layer_case, random_damage_is_refused_or_understood) {
    static const char valid[] = "moe T=64 d=32 n=16 E=8 K=2 act=geglu scale=2.5e0 zero=1 "
                                "route=counts:1+2+3+4+5+6+7+8+9 inject=inf@3 seed=42";
    static const char alphabet[] = "=+:@. \t0189eETdnK-xz\x01\xff";
    size_t accepted = 0;
    for (uint64_t round = 0; round < 20000; round++) {
        char text[sizeof valid];
        memcpy(text, valid, sizeof valid);
        for (uint64_t hit = 0; hit <= round % 3; hit++) {
            uint64_t bits = moe_rng_bits(1, 2, round * 4 + hit);
            text[bits % (sizeof valid - 1)] = alphabet[(bits >> 32) % (sizeof alphabet - 1)];
        }
        char line[LINE], again[LINE];
        moe_case c;
        if (moe_case_parse(text, NULL, &c))
            continue;
        accepted++;
        moe_case_print(&c, line, sizeof line);
        moe_case_destroy(&c);
        print_parsed(line, again);
        cr_assert_str_eq(again, line);
    }
    cr_expect_gt(accepted, 100, "only %zu lines survived: the test tests nothing", accepted);
}
