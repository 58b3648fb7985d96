/* Faults of the broken backend: a case that shows each, and what must be said of it. */
#ifndef MOE_TESTS_CONTROLS_H
#define MOE_TESTS_CONTROLS_H

#define PLAIN  "T=24 d=32 n=16 E=4 K=2 dtype=fp32 renorm=1 seed=5"
#define BIASED "T=24 d=32 n=16 E=4 K=2 dtype=fp32 bias=1 score=sigmoid seed=6"
#define KINKED "T=24 d=32 n=16 E=4 K=2 dtype=fp32 bias=1 act=relu on=input score=sigmoid seed=9"
#define GIVEN  "T=24 d=32 n=16 E=4 K=2 dtype=fp32 route=uniform seed=7"
#define EMPTY  "T=24 d=32 n=16 E=4 K=2 dtype=fp32 route=counts:0+20+15+9 seed=8"

/* A fault, a case that shows it, the tensor that must be named, and words of the reason. */
typedef struct control {
    const char *fault, *line, *tensor, *words, *stage;
} control;

static const control controls[] = {
    /* wrong values: NMSE, whole or local */
    {"all_zero", GIVEN, "O", "NMSE", "H"},
    {"all_zero", PLAIN, "router_logits", "NMSE", "router_logits"},
    {"zero", PLAIN, "dX", "NMSE", "dX"},
    {"sign", PLAIN, "O", "NMSE", "O"},
    {"row", PLAIN, "O", "NMSE", "O"},
    {"scale", PLAIN, "O", "NMSE", "O"},
    {"tail", PLAIN, "O", "NMSE", "Y"},
    {"expert_sign", PLAIN, "dW2", "NMSE", "dW2"},
    {"router_row", PLAIN, "dW_r", "NMSE", "dW_r"},
    {"router_row", KINKED, "dW_r", "gate)", "dW_r"}, /* 1 % of H's columns may go either way */
    {"neighbour", GIVEN, "O", "NMSE", "O"},
    /* wrong formulas */
    {"swap", PLAIN, "O", "NMSE", "H"},
    {"layout", PLAIN, "O", "NMSE", "A"},
    {"k_block", PLAIN, "O", "NMSE", "H"},
    {"activation", PLAIN, "O", "NMSE", "A"},
    {"renorm", BIASED, "topk_weight", "NMSE", "topk_weight"},
    {"on_input", BIASED, "O", "NMSE", "H"},
    {"no_bias", BIASED, "O", "NMSE", "H"},
    /* numbers that are none, elements that are not written, zeros that are not */
    {"nan", PLAIN, "dW2", "not finite", "dW2"},
    {"inf", PLAIN, "dX", "not finite", "dX"},
    {"unwritten", PLAIN, "dX", "3 of 768 elements were not written", "dX"},
    {"not_zero", EMPTY, "dW1", "expert 0 must be exactly 0", "dW1"},
    /* routing */
    {"routing", PLAIN, "topk_index", "token 1:", "topk_index"},
    {"malformed", PLAIN, "topk_index", "plan: offsets of expert 0 run from 0 to", "topk_index"},
    /* repetition */
    {"random", PLAIN, "dS", "not deterministic", "dS"},
    {"stale_dw", PLAIN, "dW1", "not deterministic", "dW1"},
    {"stale_undeclared", PLAIN, "dS", "later run", "dS"},
    /* rules of the interface */
    {"overrun", BIASED, "db1", "fetch wrote after the buffer", "db1"},
    {"underrun", PLAIN, "O", "fetch wrote before the buffer", "O"},
    {"inputs", PLAIN, "X", "the backend changed this input", ""},
    {"given_plan", GIVEN, "", "the backend changed the given plan", ""},
};

#endif
