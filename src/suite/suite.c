#include "moeref/suite.h"

#include <string.h>

/* clang-format off */

/* C(name, stored in golden/edge, case line). The oracle's outputs of a stored case are a few KB: keep
 * d and n at 8 to 24 and T at 16 or less there. */
#define SUITE(C) \
    /* sizes */ \
    C(one_token,         1, "T=1 d=16 n=8 E=4 K=2 seed=1") \
    C(one_token_one_expert, 1, "T=1 d=16 n=8 E=4 K=1 seed=2") \
    C(one_expert,        1, "T=7 d=16 n=16 E=1 K=1 seed=3") \
    C(one_expert_renorm, 1, "T=7 d=16 n=16 E=1 K=1 score=sigmoid renorm=1 seed=4") \
    C(all_experts,       1, "T=9 d=16 n=8 E=4 K=4 seed=5") \
    C(all_experts_renorm, 1, "T=9 d=16 n=8 E=4 K=4 renorm=1 seed=6") \
    C(narrow,            1, "T=5 d=8 n=1 E=3 K=2 seed=7") \
    C(odd_sizes,         1, "T=13 d=17 n=11 E=5 K=3 seed=8") \
    C(rows_near_128,     0, "T=160 d=24 n=16 E=5 K=4 route=counts:127+128+129+1+0 seed=9") \
    C(tokens_127,        0, "T=127 d=32 n=24 E=4 K=2 seed=10") \
    C(tokens_129,        0, "T=129 d=32 n=24 E=4 K=2 seed=11") \
    C(width_127,         0, "T=40 d=127 n=129 E=3 K=2 seed=12") \
    C(width_129,         0, "T=40 d=129 n=127 E=3 K=2 seed=13") \
    C(width_128,         0, "T=129 d=128 n=128 E=4 K=2 seed=14") \
    /* who gets tokens */ \
    C(uniform,           1, "T=16 d=16 n=8 E=6 K=2 route=uniform seed=20") \
    C(balanced,          1, "T=15 d=16 n=8 E=6 K=2 route=balanced seed=21") \
    C(zipf,              1, "T=16 d=16 n=8 E=6 K=2 route=zipf:1.2 seed=22") \
    C(hot_expert,        1, "T=16 d=16 n=8 E=6 K=2 route=hot:4 seed=23") \
    C(hot_only,          1, "T=16 d=16 n=8 E=6 K=1 route=hot:5 seed=24") \
    C(empty_experts,     1, "T=16 d=16 n=8 E=6 K=2 route=counts:0+16+0+9+7+0 seed=25") \
    C(tokens_without_experts, 1, "T=12 d=16 n=8 E=4 K=2 route=counts:2+0+3+1 seed=26") \
    C(no_pairs,          0, "T=5 d=16 n=8 E=3 K=1 shared=8 route=counts:0+0+0 seed=27") \
    C(masked_tokens,     1, "T=16 d=16 n=8 E=6 K=2 route=uniform masked=5 seed=110") \
    C(dropped_slots,     1, "T=16 d=16 n=8 E=6 K=3 route=zipf:1 masked=2 drop=7 bias=1 seed=111") \
    C(masked_shared,     1, "T=16 d=16 n=8 E=4 K=2 shared=8 shared_gate=1 route=uniform masked=6 seed=112") \
    C(skewed_256,        0, "T=300 d=64 n=48 E=16 K=4 route=zipf:1.5 seed=28") \
    /* ties and scales */ \
    C(ties,              1, "T=6 d=16 n=8 E=5 K=2 r_scale=0 seed=30") \
    C(ties_sigmoid,      1, "T=6 d=16 n=8 E=5 K=3 r_scale=0 score=sigmoid renorm=1 seed=31") \
    C(ties_groups,       1, "T=6 d=16 n=8 E=8 K=3 r_scale=0 score=sigmoid select=group_topk groups=4 topk_groups=2 seed=32") \
    C(ties_expert_choice, 1, "T=8 d=16 n=8 E=4 K=2 r_scale=0 select=expert_choice seed=33") \
    C(sharp_router,      1, "T=10 d=16 n=8 E=5 K=2 r_scale=40 seed=34") \
    C(huge,              1, "T=8 d=16 n=8 E=4 K=2 dtype=fp32 x_scale=10000 route=uniform seed=35") \
    C(tiny,              1, "T=8 d=16 n=8 E=4 K=2 dtype=fp32 x_scale=1e-6 seed=36") \
    C(outliers,          1, "T=16 d=16 n=8 E=4 K=2 data=outlier seed=137") \
    C(integers,          1, "T=16 d=16 n=8 E=4 K=2 data=integer seed=38") \
    /* not a number */ \
    C(nan_token,         1, "T=8 d=16 n=8 E=4 K=2 route=uniform inject=nan@3 seed=40") \
    C(inf_token,         1, "T=8 d=16 n=8 E=4 K=2 route=uniform inject=inf@5 seed=41") \
    C(nan_routed,        1, "T=8 d=16 n=8 E=4 K=2 inject=nan@0 seed=42") \
    C(inf_routed,        1, "T=8 d=16 n=8 E=4 K=2 inject=inf@7 seed=43") \
    C(nan_shared,        1, "T=8 d=16 n=8 E=4 K=2 shared=8 shared_gate=1 inject=nan@2 seed=44") \
    /* activations, both orders of gate and up */ \
    C(swiglu,            1, "T=12 d=16 n=8 E=4 K=2 act=swiglu seed=50") \
    C(swiglu_interleaved, 1, "T=12 d=16 n=8 E=4 K=2 act=swiglu glu=interleaved seed=51") \
    C(geglu,             1, "T=12 d=16 n=8 E=4 K=2 act=geglu seed=52") \
    C(geglu_interleaved, 1, "T=12 d=16 n=8 E=4 K=2 act=geglu glu=interleaved seed=53") \
    C(reglu,             1, "T=12 d=16 n=8 E=4 K=2 act=reglu seed=54") \
    C(reglu_interleaved, 1, "T=12 d=16 n=8 E=4 K=2 act=reglu glu=interleaved seed=55") \
    C(swiglu_clamp,      1, "T=12 d=16 n=8 E=4 K=2 act=swiglu_clamp limit=1 seed=56") \
    C(swiglu_clamp_interleaved, 1, "T=12 d=16 n=8 E=4 K=2 act=swiglu_clamp glu=interleaved limit=1 seed=57") \
    C(relu2,             1, "T=12 d=16 n=8 E=4 K=2 act=relu2 seed=58") \
    C(relu,              1, "T=12 d=16 n=8 E=4 K=2 act=relu seed=59") \
    C(gelu,              1, "T=12 d=16 n=8 E=4 K=2 act=gelu seed=60") \
    C(silu,              1, "T=12 d=16 n=8 E=4 K=2 act=silu seed=61") \
    /* biases, shared and zero experts, weights */ \
    C(biases,            1, "T=12 d=16 n=8 E=4 K=2 bias=1 seed=70") \
    C(biases_interleaved, 1, "T=12 d=16 n=8 E=4 K=2 bias=1 glu=interleaved seed=71") \
    C(biases_empty,      1, "T=12 d=16 n=8 E=4 K=2 bias=1 act=gelu route=counts:5+0+12+0 seed=72") \
    C(biases_on_input,   1, "T=12 d=16 n=8 E=4 K=1 bias=1 on=input score=sigmoid seed=73") \
    C(shared,            1, "T=12 d=16 n=8 E=4 K=2 shared=12 seed=74") \
    C(shared_gate,       1, "T=12 d=16 n=8 E=4 K=2 shared=12 shared_gate=1 seed=75") \
    C(shared_gelu,       1, "T=12 d=16 n=8 E=4 K=2 act=gelu shared=8 seed=76") \
    C(zero_experts,      1, "T=16 d=16 n=8 E=4 K=3 zero=3 select_bias=1 seed=77") \
    C(zero_experts_given, 1, "T=16 d=16 n=8 E=3 K=2 zero=2 route=uniform seed=78") \
    C(only_zero_experts, 0, "T=4 d=16 n=8 E=2 K=2 zero=2 route=counts:0+0+4+4 seed=79") \
    C(weight_on_input,   1, "T=12 d=16 n=8 E=4 K=2 on=input score=sigmoid seed=80") \
    C(weight_on_input_given, 1, "T=12 d=16 n=8 E=4 K=2 on=input route=zipf:1 seed=81") \
    C(forward_only,      1, "T=12 d=16 n=8 E=4 K=2 pass=fwd seed=82") \
    C(scaled_weights,    1, "T=12 d=16 n=8 E=4 K=2 renorm=1 eps=0.05 scale=2.5 seed=83") \
    /* routers */ \
    C(softmax_renorm,    1, "T=16 d=16 n=8 E=6 K=2 renorm=1 seed=90") \
    C(softmax_topk,      1, "T=16 d=16 n=8 E=6 K=3 score=softmax_topk seed=91") \
    C(softmax_topk_one,  1, "T=16 d=16 n=8 E=6 K=1 score=softmax_topk seed=92") \
    C(sigmoid,           1, "T=16 d=16 n=8 E=6 K=2 score=sigmoid seed=93") \
    C(sparsemixer,       1, "T=16 d=16 n=8 E=6 K=2 score=sparsemixer jitter=0.1 seed=94") \
    C(router_bias,       1, "T=16 d=16 n=8 E=6 K=2 score=softmax_topk router_bias=1 seed=95") \
    C(select_bias,       1, "T=16 d=16 n=8 E=6 K=2 score=sigmoid select_bias=1 b_scale=10 renorm=1 seed=96") \
    C(group_topk,        1, "T=16 d=16 n=8 E=8 K=3 score=sigmoid select=group_topk groups=4 topk_groups=2 select_bias=1 renorm=1 eps=0.125 scale=2.5 seed=97") \
    C(group_topk_softmax, 1, "T=16 d=16 n=8 E=8 K=3 select=group_topk groups=2 topk_groups=1 seed=98") \
    C(expert_choice,     1, "T=16 d=16 n=8 E=4 K=2 select=expert_choice seed=99") \
    C(expert_choice_uneven, 1, "T=15 d=16 n=8 E=4 K=1 select=expert_choice seed=100") \
    C(capacity,          1, "T=16 d=16 n=8 E=4 K=2 select=capacity capacity=5 seed=101") \
    C(capacity_renorm,   1, "T=16 d=16 n=8 E=4 K=2 select=capacity capacity=3 renorm=1 seed=102") \
    C(rounding_nearest,  1, "T=16 d=16 n=8 E=4 K=2 select=token_rounding rounding=nr tile=4 renorm=1 seed=903") \
    C(rounding_up,       1, "T=16 d=16 n=8 E=4 K=2 select=token_rounding rounding=up tile=4 renorm=1 seed=104") \
    C(rounding_down,     1, "T=16 d=16 n=8 E=4 K=2 select=token_rounding rounding=down tile=4 renorm=1 seed=105") \
    C(rounding_stochastic, 1, "T=16 d=16 n=8 E=4 K=2 select=token_rounding rounding=sr tile=4 renorm=1 seed=306") \
    C(rounding_balance,  1, "T=16 d=16 n=8 E=4 K=2 select=token_rounding rounding=balance tile=4 renorm=1 seed=407") \
    C(rounding_tile_one, 1, "T=16 d=16 n=8 E=4 K=2 select=token_rounding rounding=nr tile=1 renorm=1 seed=108") \
    /* like real families, with several of the above at once */ \
    C(like_mixtral,      0, "T=96 d=64 n=56 E=8 K=2 renorm=1 seed=120") \
    C(like_deepseek_v3,  0, "T=96 d=64 n=24 E=16 K=4 score=sigmoid select=group_topk groups=4 topk_groups=2 select_bias=1 renorm=1 scale=2.5 shared=48 seed=121") \
    C(like_gpt_oss,      0, "T=96 d=64 n=64 E=8 K=4 score=softmax_topk router_bias=1 bias=1 act=swiglu_clamp glu=interleaved limit=7 x_scale=5 r_scale=0.2 seed=122") \
    C(like_llama4,       0, "T=96 d=64 n=48 E=8 K=1 score=sigmoid on=input shared=48 seed=123") \
    C(like_longcat,      0, "T=96 d=64 n=24 E=12 K=4 zero=4 select_bias=1 scale=6 seed=124") \
    C(like_qwen3_next,   0, "T=96 d=64 n=24 E=32 K=8 renorm=1 shared=32 shared_gate=1 seed=125") \
    C(like_sonicmoe,     0, "T=256 d=64 n=32 E=8 K=2 select=token_rounding rounding=nr tile=16 renorm=1 seed=126") \
    /* other input types */ \
    C(inputs_fp16,       0, "T=32 d=32 n=24 E=4 K=2 dtype=fp16 seed=130") \
    C(inputs_fp32,       0, "T=32 d=32 n=24 E=4 K=2 dtype=fp32 seed=131") \
    C(inputs_fp64,       0, "T=32 d=32 n=24 E=4 K=2 dtype=fp64 seed=132") \
    /* weights of few bits */ \
    C(quant_int8,        0, "T=16 d=40 n=24 E=4 K=2 quant=int8 seed=180") \
    C(quant_int4,        1, "T=6 d=16 n=8 E=3 K=2 quant=int4 quant_cols=8 seed=181") \
    C(quant_fp8,         1, "T=6 d=16 n=8 E=3 K=2 dtype=fp32 quant=fp8 quant_rows=8 quant_cols=8 seed=182") \
    C(quant_ternary,     1, "T=6 d=16 n=8 E=3 K=1 quant=ternary quant_rows=0 shared=8 seed=183") \
    C(quant_nested,      0, "T=16 d=40 n=24 E=4 K=2 dtype=fp32 quant=nested quant_bits=3 seed=184") \
    /* every feature decides 20 tokens, pairs or elements or more in each of three types */ \
    EACH(C, large_E,     "T=8 d=8 n=8 E=512 K=22 renorm=1 eps=0.02 scale=2.5 router_bias=1 seed=140") \
    EACH(C, groups_of_many, "T=26 d=8 n=8 E=160 K=17 score=sigmoid select=group_topk groups=8 topk_groups=1 select_bias=1 b_scale=60 renorm=1 eps=0.5 scale=2.5 shared=8 shared_gate=1 seed=147") \
    EACH(C, clamp_7,     "T=32 d=16 n=16 E=4 K=2 act=swiglu_clamp glu=interleaved bias=1 score=softmax_topk router_bias=1 x_scale=8 r_scale=0.2 seed=142") \
    EACH(C, clamp_on_limit, "T=32 d=16 n=16 E=4 K=2 act=swiglu_clamp limit=2 data=exact route=uniform seed=143") \
    EACH(C, exact_relu,  "T=150 d=16 n=16 E=5 K=2 act=relu data=exact route=hot:3 seed=144") \
    EACH(C, exact_relu2, "T=40 d=16 n=8 E=4 K=2 act=relu2 data=exact route=zipf:1 seed=145") \
    EACH(C, exact_reglu, "T=40 d=16 n=8 E=4 K=2 act=reglu data=exact route=zipf:1 seed=146") \
    EACH(C, exact_reglu_interleaved, "T=40 d=16 n=8 E=4 K=3 act=reglu glu=interleaved data=exact route=uniform seed=147") \
    EACH(C, exact_on_input, "T=40 d=16 n=8 E=4 K=2 act=relu bias=1 on=input data=exact route=uniform seed=148") \
    EACH(C, exact_zero_experts, "T=40 d=16 n=8 E=4 K=3 act=relu zero=3 data=exact route=uniform seed=149") \
    EACH(C, geglu_wide,  "T=24 d=16 n=8 E=4 K=2 act=geglu x_scale=2 seed=150") \
    EACH(C, gelu_wide,   "T=24 d=16 n=8 E=4 K=2 act=gelu x_scale=2 seed=151") \
    EACH(C, silu_wide,   "T=24 d=16 n=8 E=4 K=2 act=silu x_scale=2 seed=152") \
    EACH(C, limits,      "T=32 d=16 n=16 E=4 K=2 score=sqrt_softplus select_bias=1 b_scale=20 renorm=1 scale=2.5 act=swiglu_limit limit=1 alpha=0.5 shared=8 seed=170") \
    EACH(C, limits_after, "T=32 d=16 n=16 E=8 K=2 score=sigmoid_logit select_bias=1 b_scale=20 renorm=1 act=swiglu_limit_after limit=1 alpha=0.75 shared=8 seed=171") \
    EACH(C, tanh_and_best, "T=64 d=16 n=8 E=12 K=3 select=group_max groups=4 topk_groups=2 act=geglu_tanh seed=172") \
    EACH(C, soft_caps,   "T=64 d=16 n=8 E=12 K=3 score=sigmoid_cap jitter=0.5 select=group_zero groups=4 topk_groups=2 select_bias=1 b_scale=40 act=swiglu_softcap alpha=2 limit=1.5 seed=173") \
    EACH(C, jitter,      "T=32 d=16 n=8 E=8 K=2 score=sparsemixer jitter=0.1 seed=153") \
    EACH(C, all_ties,    "T=24 d=16 n=8 E=5 K=2 r_scale=0 seed=154") \
    EACH(C, capacity_full, "T=48 d=16 n=8 E=4 K=2 select=capacity capacity=12 renorm=1 seed=155") \
    EACH(C, experts_choose, "T=40 d=16 n=8 E=6 K=2 select=expert_choice seed=156") \
    EACH(C, tiles_nearest, "T=48 d=8 n=8 E=6 K=2 select=token_rounding rounding=nr tile=24 seed=201") \
    EACH(C, tiles_up,    "T=48 d=8 n=8 E=6 K=2 select=token_rounding rounding=up tile=24 seed=200") \
    EACH(C, tiles_down,  "T=48 d=8 n=8 E=6 K=2 select=token_rounding rounding=down tile=24 seed=200") \
    EACH(C, tiles_stochastic, "T=48 d=8 n=8 E=6 K=2 select=token_rounding rounding=sr tile=24 seed=200") \
    EACH(C, tiles_balance, "T=48 d=8 n=8 E=6 K=2 select=token_rounding rounding=balance tile=24 seed=201") \
    EACH(C, zero_experts_often, "T=32 d=16 n=8 E=4 K=3 zero=4 select_bias=1 b_scale=5 scale=6 seed=162") \
    EACH(C, input_weighed, "T=32 d=16 n=8 E=4 K=1 score=sigmoid on=input shared=8 seed=163") \
    EACH(C, idle,        "T=32 d=24 n=8 E=4 K=2 route=counts:5+0+3+0 seed=164") \
    EACH(C, masked_often, "T=48 d=16 n=8 E=6 K=3 route=zipf:1 masked=24 drop=24 seed=169") \
    EACH(C, nan_wide,    "T=8 d=32 n=8 E=4 K=2 route=uniform inject=nan@3 seed=165") \
    EACH(C, inf_wide,    "T=8 d=32 n=8 E=4 K=2 route=uniform inject=inf@5 seed=166") \
    EACH(C, outliers_wide, "T=96 d=96 n=8 E=2 K=1 data=outlier seed=167") \
    /* sums of many terms, and an infinity that nothing else reaches */ \
    C(deep,              0, "T=64 d=192 n=384 E=4 K=2 seed=170") \
    C(long_rows,         0, "T=3072 d=16 n=8 E=4 K=2 seed=171") \
    C(inf_relu,          0, "T=16 d=48 n=1 E=8 K=2 act=relu route=uniform inject=inf@3 seed=46") \
    EACH(C, no_backward, "T=8 d=16 n=8 E=4 K=2 pass=fwd seed=168")

/* A case in each type that a kernel computes in; none of them is stored. */
#define EACH(C, name, line) \
    C(name, 0, line) C(name##_fp16, 0, line " dtype=fp16") C(name##_fp32, 0, line " dtype=fp32")

#define LINE(name, stored, line) line,
#define NAME(name, stored, line) #name,
#define STORED(name, stored, line) stored,
static const char *const lines[] = {SUITE(LINE)};
static const char *const names[] = {SUITE(NAME)};
static const unsigned char stored_flags[] = {SUITE(STORED)};

/* clang-format on */

const char *const *moe_suite(size_t *count) {
    *count = sizeof lines / sizeof *lines;
    return lines;
}

const char *moe_suite_name(size_t i) {
    return names[i];
}

bool moe_suite_is_stored(size_t i) {
    return stored_flags[i] != 0;
}

long moe_suite_find(const char *name) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return (long)i;
    return -1;
}
