/* The case grammar: every key there and back. */
#include "case_lines.h"
#include "layer/case_keys.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
