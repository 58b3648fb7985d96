/* When is a layer exact? What it may hold at most, and what spoils it. */
#include "check/errors/exact.h"
#include "drawn.h"

#include <criterion/criterion.h>
#include <math.h>

#define LINE "T=12 d=16 n=8 E=3 K=2 act=relu data=exact route=uniform seed=2"

static moe_reference_result *oracle_of(const moe_problem *p) {
    moe_reference_result *oracle = NULL;
    cr_assert_eq(moe_reference_problem(p, 1, NULL, &oracle), MOE_OK);
    return oracle;
}

typedef struct answer {
    bool h, layer;
} answer;

static answer ask(const moe_problem *p, moe_dtype arithmetic) {
    moe_reference_result *oracle = oracle_of(p);
    answer ret = {moe_int_exact_h(&p->layer, &p->in, oracle),
                  moe_int_exact_layer(&p->layer, &p->in, oracle, arithmetic)};
    moe_reference_result_destroy(&oracle);
    return ret;
}

static answer ask_case(const char *line, moe_dtype arithmetic) {
    moe_problem *p = drawn(line);
    answer ret = ask(p, arithmetic);
    moe_problem_destroy(&p);
    return ret;
}

Test(check_exact, cases) {
    static const struct {
        const char *line;
        bool h, layer;
    } rows[] = {
        {LINE, true, true},
        {LINE " bias=1", true, true},
        {LINE " zero=2", true, true},
        {LINE " on=input", true, true},
        {LINE " pass=fwd", true, true},
        {"T=12 d=16 n=8 E=3 K=2 act=swiglu_clamp data=exact route=uniform seed=2", true, false},
        {"T=12 d=16 n=8 E=3 K=2 act=relu data=exact seed=2", true, false}, /* weights by exp */
        {"T=12 d=16 n=8 E=3 K=2 act=relu data=exact route=uniform shared=8 seed=2", false, false},
        {"T=12 d=16 n=8 E=3 K=2 act=relu route=uniform seed=2", false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        static const moe_dtype types[] = {MOE_BF16, MOE_F16, MOE_F32};
        for (int t = 0; t < 3; t++) {
            answer a = ask_case(rows[i].line, types[t]);
            cr_expect_eq(a.h, rows[i].h, "%s in %s", rows[i].line, moe_dtype_name(types[t]));
            cr_expect_eq(a.layer, rows[i].layer, "%s in %s", rows[i].line,
                         moe_dtype_name(types[t]));
        }
    }
}

/* One element of X becomes `value`. */
static answer ask_with(double value, moe_dtype arithmetic) {
    moe_problem *p = drawn(LINE " dtype=fp64");
    moe_store(p->in.t[MOE_T_X].data, MOE_F64, 5, value);
    answer ret = ask(p, arithmetic);
    moe_problem_destroy(&p);
    return ret;
}

/* 8 digits are bf16's, 11 fp16's, 24 a sum's in fp32. */
Test(check_exact, digits) {
    cr_expect(ask_with(4, MOE_BF16).layer);
    cr_expect(!ask_with(1023, MOE_BF16).layer, "its H needs 10 digits");
    cr_expect(ask_with(1023, MOE_F16).h);
    cr_expect(!ask_with(4097, MOE_F16).layer);
    cr_expect(ask_with(4097, MOE_F32).h);
    cr_expect(!ask_with(0x1p24 + 1, MOE_F32).h);
    cr_expect(!ask_with(1 + 0x1p-30, MOE_F32).h);
    cr_expect(!ask_with(HUGE_VAL, MOE_F32).h);
    cr_expect(!ask_with(NAN, MOE_F32).h);
}
