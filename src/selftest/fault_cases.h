/* The layers that faults are planted in, and the arithmetics in which one is a fault. */
#ifndef MOE_SELFTEST_FAULT_CASES_H
#define MOE_SELFTEST_FAULT_CASES_H

/* clang-format off */

/* CASE(id, a small layer that shows a fault, the same at the size of a real one). The element type
 * is added. */
#define SMALL_ "T=64 d=48 n=32 E=8 K=2 "
#define LARGE_ "T=512 d=768 n=256 E=64 K=4 "
#define BOTH_(CASE, id, keys) CASE(id, SMALL_ keys, LARGE_ keys)
#define MOE_INT_FAULT_CASES(CASE) \
    BOTH_(CASE, PLAIN, "renorm=1 seed=5") \
    BOTH_(CASE, RAW, "seed=6") \
    BOTH_(CASE, SIGMOID, "score=sigmoid seed=7") \
    BOTH_(CASE, TOPK, "score=softmax_topk seed=8") \
    BOTH_(CASE, EPS, "score=sigmoid renorm=1 eps=0.25 scale=2.5 seed=9") \
    BOTH_(CASE, SCALE, "renorm=1 scale=2.5 shared=32 seed=10") \
    BOTH_(CASE, BIAS, "bias=1 score=sigmoid seed=11") \
    BOTH_(CASE, R_BIAS, "router_bias=1 score=softmax_topk seed=12") \
    BOTH_(CASE, SELECT, "score=sigmoid select_bias=1 renorm=1 seed=13") \
    CASE(GROUPS, "T=64 d=48 n=32 E=16 K=4 score=sigmoid select=group_topk groups=4 topk_groups=2 renorm=1 seed=14", \
         LARGE_ "score=sigmoid select=group_topk groups=16 topk_groups=2 renorm=1 seed=14") \
    CASE(GROUPS_FULL, "T=64 d=48 n=32 E=8 K=4 r_scale=8 score=sigmoid select=group_topk groups=4 topk_groups=2 select_bias=1 renorm=1 seed=15", \
         LARGE_ "r_scale=8 score=sigmoid select=group_topk groups=16 topk_groups=1 select_bias=1 renorm=1 seed=15") \
    BOTH_(CASE, TIES, "r_scale=0 score=sigmoid seed=16") \
    CASE(CAPACITY, SMALL_ "select=capacity capacity=12 renorm=1 seed=17", \
         LARGE_ "select=capacity capacity=28 renorm=1 seed=17") \
    CASE(CAPACITY_GROUP, SMALL_ "select=capacity capacity=6 capacity_group=24 renorm=1 seed=17", \
         LARGE_ "select=capacity capacity=14 capacity_group=256 renorm=1 seed=17") \
    CASE(NO_EXPERT, SMALL_ "route=counts:20+0+13+11+0+9+7+3 seed=18", \
         "T=512 d=768 n=256 E=8 K=4 route=counts:100+0+60+50+0+40+30+20 seed=18") \
    CASE(WIDE_64, "T=48 d=32 n=8 E=96 K=4 seed=19", "T=512 d=768 n=64 E=96 K=4 seed=19") \
    CASE(WIDE_256, "T=48 d=32 n=8 E=320 K=4 seed=20", "T=512 d=768 n=64 E=320 K=4 seed=20") \
    CASE(SQUARE, "T=64 d=48 n=48 E=8 K=2 act=silu seed=21", \
         "T=512 d=256 n=256 E=64 K=4 act=silu seed=21") \
    BOTH_(CASE, INTERLEAVED, "glu=interleaved seed=22") \
    BOTH_(CASE, CLAMP, "act=swiglu_clamp limit=1 seed=23") \
    BOTH_(CASE, CLAMP_EDGE, "act=swiglu_clamp limit=1 data=integer route=uniform seed=24") \
    BOTH_(CASE, GEGLU, "act=geglu seed=25") \
    BOTH_(CASE, REGLU, "act=reglu seed=26") \
    BOTH_(CASE, RELU2, "act=relu2 seed=27") \
    BOTH_(CASE, SILU, "act=silu seed=28") \
    BOTH_(CASE, SHARED, "shared=32 seed=29") \
    BOTH_(CASE, SHARED_GATE, "shared=32 shared_gate=1 seed=30") \
    BOTH_(CASE, SHARED_LAYOUT, "shared=32 glu=interleaved seed=31") \
    CASE(ZERO, "T=64 d=48 n=32 E=8 K=3 zero=3 seed=32", LARGE_ "zero=32 seed=32") \
    BOTH_(CASE, ON_INPUT, "on=input score=sigmoid seed=33") \
    CASE(EMPTY, SMALL_ "route=counts:0+40+30+20+0+18+12+8 seed=34", LARGE_ "route=zipf:2 seed=34") \
    CASE(TAILS, SMALL_ "route=counts:21+18+9+20+16+13+11+20 seed=47", LARGE_ "route=zipf:1.2 seed=47") \
    CASE(HOT, "T=160 d=32 n=16 E=4 K=2 route=hot:2 seed=35", LARGE_ "route=hot:2 seed=35") \
    CASE(DEEP, "T=64 d=192 n=384 E=4 K=2 seed=42", LARGE_ "seed=42") \
    CASE(LONG, "T=3072 d=16 n=8 E=4 K=2 route=hot:2 seed=43", "T=4096 d=256 n=128 E=8 K=2 route=hot:2 seed=43") \
    CASE(MANY, "T=2048 d=16 n=8 E=8 K=2 seed=36", "T=65536 d=64 n=16 E=8 K=2 seed=36") \
    BOTH_(CASE, GIVEN, "route=uniform seed=37") \
    BOTH_(CASE, NAN_GIVEN, "route=uniform inject=nan@3 seed=38") \
    CASE(INF_GIVEN, "T=64 d=48 n=1 E=8 K=2 act=relu route=uniform inject=inf@3 seed=46", \
         "T=512 d=768 n=1 E=64 K=4 act=relu route=uniform inject=inf@3 seed=46") \
    BOTH_(CASE, NAN_ROUTED, "inject=nan@3 seed=40") \
    CASE(SLOTS, "T=64 d=48 n=32 E=16 K=8 renorm=1 seed=41", LARGE_ "renorm=1 seed=41")

/* The arithmetics in which a fault is one; elsewhere it is within the rounding, or changes nothing. */
#define ANY_  7
#define FP32_ 1
#define IN16_ 6
#define FINE_ 5
/* Equal scores: to be told of is enough, since either choice is one. */
#define TIE_ 8
/* Some recipe rounds there: a fault in a kernel that says which one is its own. */
#define PIN_ 16

/* clang-format on */

#endif
