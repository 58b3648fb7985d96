/* The case grammar: every error's sentence, hostile text. */
#include "case_lines.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(layer_case_wrong, wrong_lines_get_a_sentence) {
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
        {BASE " act=swiglu_clamp limit=0", "act=swiglu_clamp needs a finite alpha and limit > 0"},
        {BASE " act=swiglu_limit limit=0", "act=swiglu_limit needs limit > 0"},
        {BASE " act=swiglu_limit_after limit=-1", "act=swiglu_limit_after needs limit > 0"},
        {BASE " act=swiglu_limit alpha=0 shared=8", "alpha > 0: it is the shared expert's own"},
        {BASE " act=swiglu_softcap limit=0", "act=swiglu_softcap needs limit > 0"},
        {BASE " act=swiglu_softcap alpha=0", "alpha > 0: it is the gate's cap"},
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

/* What nothing reads is told, and what something reads is not. */
Test(layer_case_wrong, keys_that_change_nothing_are_told) {
    static const struct {
        const char *words, *told; /* told NULL: nothing */
    } cases[] = {
        {" groups=4", "groups= changes nothing without select=group_topk"},
        {" groups=4 topk_groups=2 select=group_topk", NULL},
        {" eps=1e-6", "eps= changes nothing without renorm=1"},
        {" eps=1e-6 renorm=1", NULL},
        {" limit=5", "limit= changes nothing without act=swiglu_clamp"},
        {" limit=5 alpha=1 act=swiglu_softcap", NULL},
        {" limit=5 alpha=1 act=swiglu_limit", NULL},
        {" jitter=0.1", "jitter= changes nothing without score=sparsemixer"},
        {" jitter=0.1 score=sparsemixer", NULL},
        {" jitter=30 score=sigmoid_cap", NULL},
        {" capacity=3", "capacity= changes nothing without select=capacity"},
        {" capacity=3 capacity_group=8 select=capacity", NULL},
        {" capacity=3 block=depths", NULL},
        {" capacity_group=8", "capacity_group= changes nothing without select=capacity"},
        {" tile=16", "tile= changes nothing without select=token_rounding"},
        {" tile=16 rounding=up select=token_rounding", NULL},
        {" rounding=up", "rounding= changes nothing without select=token_rounding"},
        {" b_scale=2", "b_scale= changes nothing without select_bias=1"},
        {" b_scale=2 select_bias=1", NULL},
        {" quant_rows=4", "quant_rows= changes nothing without quant="},
        {" quant_rows=4 quant=int8", NULL},
        {" quant_bits=3 quant=int8", "quant_bits= changes nothing without quant=nested"},
        {" quant_bits=3 quant=nested", NULL},
        {" layers=3 block=cosine", "layers= changes nothing without block=recursions"},
        {" layers=3 block=recurrent", NULL},
        {" wire=bf16", "wire= changes nothing without ep="},
        {" wire=bf16 combine=ranks skew=1 ep=2", NULL},
        {" pad=8 ep=2", "pad= changes nothing without padding=owner"},
        {" pad=8 ep=2 padding=wire", NULL},
        {" route=uniform renorm=1", "renorm= changes nothing without route=router"},
        {" route=uniform select=token_rounding", "select= changes nothing without route=router"},
        {" score=sigmoid select_bias=1 renorm=1 scale=2", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        capture seen;
        moe_log log = capture_log(&seen);
        moe_case c;
        char line[LINE];
        snprintf(line, sizeof line, BASE "%s", cases[i].words);
        cr_assert_eq(moe_case_parse(line, &log, &c), MOE_OK, "%s: %s", line, seen.text);
        moe_case_destroy(&c);
        cr_expect_eq(seen.messages, cases[i].told ? 1 : 0, "%s: %s", line, seen.text);
        cr_expect(!cases[i].told || strstr(seen.text, cases[i].told), "%s: %s", line, seen.text);
    }
}

/* A message repeats the user's word: cut, and without what a terminal would obey. */
Test(layer_case_wrong, messages_are_fit_to_print) {
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

/* Whatever bytes stand there: no crash, and what is accepted prints to a line that means the same.
 */
Test(layer_case_wrong, random_damage_is_refused_or_understood) {
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
