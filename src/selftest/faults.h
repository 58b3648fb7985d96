/* The faults that `moeref selftest` plants, one row each; the same list is the faulty backend's
 * (backends/faulty), which has FAULT(l, name) at the one place of its code that is wrong then.
 *
 * A new fault is a row here and that place. A row that the judge lets pass is a hole in the judge,
 * or a case whose data cannot show the fault: then it is the row's case that is wrong. */
#ifndef MOE_SELFTEST_FAULTS_H
#define MOE_SELFTEST_FAULTS_H

#include "selftest/fault_cases.h"

/* clang-format off */


/* F(name, class, case, arithmetics, causes, words, what is wrong)
 *
 * causes: the hypotheses that name the fault (moe_explanation.kind), apart by blanks; words: what a
 * report says where no hypothesis is needed. Either names the cause. */
#define MOE_INT_FAULTS(F) \
    /* constant factors */ \
    F(O_scaled, "factor", PLAIN, ANY_, "factor", "", "O times 1.03") \
    F(O_doubled, "factor", PLAIN, ANY_, "factor", "", "O times 2") \
    F(O_negative, "factor", PLAIN, ANY_, "factor", "", "O with the other sign") \
    F(O_zero, "factor", PLAIN, ANY_, "all_zero", "", "O is 0") \
    F(O_token_doubled, "factor", PLAIN, ANY_, "factor_by_token", "", "O of token 17 times 2") \
    F(token_cycle, "factor", PLAIN, ANY_, "factor_by_token", "", "O of token t times 1 + 0.1 (t mod 3)") \
    F(odd_tokens_halved, "factor", PLAIN, ANY_, "factor_by_token", "", "O of odd tokens halved") \
    F(expert_scaled, "factor", PLAIN, ANY_, "factor_by_expert", "", "Y of expert e times 1 + 0.1 e") \
    F(expert_halved, "factor", PLAIN, ANY_, "factor_by_expert", "", "Y of expert 3 halved") \
    F(dX_halved, "factor", PLAIN, ANY_, "factor", "", "dX halved") \
    F(dX_zero, "factor", PLAIN, ANY_, "all_zero", "", "dX is 0") \
    F(dX_token_doubled, "factor", PLAIN, ANY_, "factor_by_token", "", "dX of token 17 times 2") \
    F(dS_doubled, "factor", GIVEN, ANY_, "factor", "", "dS times 2") \
    F(dS_negative, "factor", GIVEN, ANY_, "factor", "", "dS with the other sign") \
    F(dW1_doubled, "factor", PLAIN, ANY_, "factor", "", "dW1 times 2") \
    F(dW1_mean, "factor", PLAIN, ANY_, "factor", "", "dW1 divided by T: a mean") \
    F(dW2_mean, "factor", PLAIN, ANY_, "factor", "", "dW2 divided by T: a mean") \
    F(dW2_expert_doubled, "factor", PLAIN, ANY_, "factor_by_expert", "", "dW2 of expert 3 times 2") \
    F(dW_r_doubled, "factor", PLAIN, ANY_, "factor", "", "dW_r times 2") \
    F(dW2_shared_doubled, "factor", SHARED, ANY_, "factor", "", "dW2_shared times 2") \
    F(logits_halved, "factor", RAW, ANY_, "factor logits_scaled", "", "logits halved") \
    /* what weights are made of */ \
    F(scale_missing, "scale", SCALE, ANY_, "scale_missing factor", "", "the scale is lost") \
    F(scale_twice, "scale", SCALE, ANY_, "scale_twice factor", "", "the scale counts twice") \
    F(scale_inverse, "scale", SCALE, ANY_, "factor", "", "divided by the scale") \
    F(scale_before_renorm, "scale", SCALE, ANY_, "scale_missing factor", "", "scaled before renormalisation, which undoes it") \
    F(scale_on_shared, "scale", SCALE, ANY_, "scale_on_shared", "", "the scale multiplies the shared expert too") \
    F(renorm_missing, "renorm", PLAIN, ANY_, "renorm_missing", "", "weights are not renormalised") \
    F(renorm_unwanted, "renorm", RAW, ANY_, "renorm_added", "", "weights are renormalised") \
    F(renorm_twice, "renorm", EPS, ANY_, "renorm_twice", "", "weights are renormalised twice") \
    F(renorm_eps_missing, "renorm", EPS, ANY_, "renorm_eps", "", "the eps of the renormalisation is ignored") \
    F(renorm_eps_other, "renorm", EPS, ANY_, "renorm_eps", "", "half the eps") \
    F(renorm_eps_max, "renorm", EPS, ANY_, "renorm_eps", "", "max(sum, eps) in place of sum + eps") \
    F(renorm_over_all, "renorm", EPS, ANY_, "renorm_other_sum", "", "divided by the sum over all experts") \
    F(renorm_by_max, "renorm", PLAIN, ANY_, "renorm_other_sum", "", "divided by the largest weight") \
    F(weight_missing, "weight", PLAIN, ANY_, "weight_missing", "", "no weight in the combine") \
    F(weight_twice, "weight", PLAIN, ANY_, "weight_twice", "", "the weight counts twice") \
    F(weight_on_input, "weight", RAW, ANY_, "weight_other_side", "", "the weight multiplies the expert's input") \
    F(weight_on_output, "weight", ON_INPUT, ANY_, "weight_other_side", "", "the weight multiplies the expert's output") \
    F(weight_next_slot, "weight", PLAIN, ANY_, "weight_neighbour", "", "the weight of the neighbouring slot") \
    F(weight_first_slot, "weight", PLAIN, ANY_, "weight_neighbour", "", "every slot has the first one's weight") \
    F(weight_next_token, "weight", PLAIN, ANY_, "weight_neighbour", "", "the weight of the next token") \
    F(weight_of_place, "weight", PLAIN, ANY_, "weight_neighbour", "", "pair p has the weight of place p in order of tokens") \
    F(last_weight_of_rest, "weight", RAW, ANY_, "weight_of_rest", "", "the last weight is 1 less the first") \
    F(weights_bf16, "precision", PLAIN, FP32_, "stored_narrow router_narrow", "", "weights rounded to bf16") \
    F(select_bias_in_weight, "weight", SELECT, ANY_, "select_bias_weighs", "", "the selection's bias enters the weight") \
    /* the choice */ \
    F(select_bias_missing, "choice", SELECT, ANY_, "select_bias_missing", "", "the choice ignores its bias") \
    F(select_bias_negative, "choice", SELECT, ANY_, "select_bias_missing", "", "the choice subtracts its bias") \
    F(softmax_before_topk, "score", TOPK, ANY_, "score_other", "", "softmax over all in place of the chosen") \
    F(softmax_after_topk, "score", RAW, ANY_, "score_other renorm_added", "", "softmax over the chosen in place of all") \
    F(softmax_as_sigmoid, "score", RAW, ANY_, "score_other", "", "sigmoid in place of softmax") \
    F(sigmoid_as_softmax, "score", SIGMOID, ANY_, "score_other", "", "softmax in place of sigmoid") \
    F(groups_ignored, "choice", GROUPS, ANY_, "groups_missing", "", "top-K of all experts, groups ignored") \
    F(groups_masked_zero, "choice", GROUPS_FULL, ANY_, "groups_zero", "", "scores of other groups are 0, not -inf") \
    F(group_by_best, "choice", GROUPS, ANY_, "groups_score", "", "a group counts by its best expert alone") \
    F(group_by_sum, "choice", GROUPS, ANY_, "groups_score", "", "a group counts by all of its experts") \
    F(group_one_less, "choice", GROUPS, ANY_, "groups_number", "", "one group too few") \
    F(ties_to_higher, "choice", TIES, ANY_ | TIE_, "ties_high", "", "ties go to the higher expert") \
    F(lowest_chosen, "choice", PLAIN, ANY_, "choose_lowest", "", "the worst experts are chosen") \
    F(last_choice_second_best, "choice", PLAIN, ANY_, "", "topk_index", "every 7th token's last expert is the next best one") \
    F(one_token_misrouted, "choice", PLAIN, ANY_, "", "topk_index", "token 17's last expert is the next best one") \
    F(topk_capped_64, "choice", WIDE_64, ANY_, "choose_capped", "", "experts from 64 on are never chosen") \
    F(topk_capped_256, "choice", WIDE_256, ANY_, "choose_capped", "", "experts from 256 on are never chosen") \
    F(capacity_ignored, "choice", CAPACITY, ANY_, "capacity_other", "", "no expert is ever full") \
    F(capacity_one_less, "choice", CAPACITY, ANY_, "capacity_other", "", "experts are full one token early") \
    F(capacity_keeps_last, "choice", CAPACITY, ANY_, "capacity_other", "", "experts keep their last tokens") \
    F(capacity_of_all, "choice", CAPACITY_GROUP, ANY_, "capacity_other", "", "capacity is that of all tokens together") \
    /* logits */ \
    F(router_bf16, "precision", RAW, FP32_, "router_narrow stored_narrow", "", "logits rounded to bf16") \
    F(router_bias_missing, "router", R_BIAS, ANY_, "router_bias_missing", "", "logits without b_r") \
    F(logit_of_neighbour, "router", RAW, ANY_, "repeated_columns", "", "logit 3 is logit 2") \
    F(k_tail_logits, "router", RAW, ANY_, "router_k_dropped", "", "the last 16 inputs of the router are dropped") \
    F(logits_told_bf16, "precision", RAW, ANY_, "stored_narrow router_narrow", "looks rounded to bf16", "logits rounded to bf16 when handed out") \
    F(weights_told_bf16, "precision", PLAIN, ANY_, "stored_narrow router_narrow", "looks rounded to bf16", "weights rounded to bf16 when handed out") \
    /* activations */ \
    F(gate_up_swapped, "activation", RAW, ANY_, "gate_up_swapped", "", "gate and up swapped") \
    F(interleaved_as_concat, "activation", INTERLEAVED, ANY_, "layout_read", "", "interleaved read as concat") \
    F(concat_as_interleaved, "activation", RAW, ANY_, "layout_read", "", "concat read as interleaved") \
    F(up_missing, "activation", RAW, ANY_, "up_missing", "", "act(gate) alone") \
    F(up_added, "activation", RAW, ANY_, "activation_function", "", "act(gate) + up") \
    F(up_raised, "activation", RAW, ANY_, "activation_function", "", "act(gate) (up + 1)") \
    F(clamp_missing, "activation", CLAMP, ANY_, "clamp_missing", "", "nothing is clamped") \
    F(clamp_gate_missing, "activation", CLAMP, ANY_, "clamp_missing", "", "the gate is not clamped") \
    F(clamp_gate_below, "activation", CLAMP, ANY_, "clamp_missing", "", "the gate is clamped from below too") \
    F(clamp_up_missing, "activation", CLAMP, ANY_, "clamp_missing", "", "the up is not clamped") \
    F(clamp_up_one_side, "activation", CLAMP, ANY_, "clamp_missing", "", "the up is clamped from above alone") \
    F(clamp_after_silu, "activation", CLAMP, ANY_, "clamp_after", "", "clamped after the activation") \
    F(clamp_edge_outside, "activation", CLAMP_EDGE, ANY_, "slope_missing", "", "a limit counts as outside") \
    F(clamp_slope_missing, "activation", CLAMP, ANY_, "slope_missing", "", "gradients pass outside the limits") \
    F(plus_one_missing, "activation", CLAMP, ANY_, "one_missing", "", "up in place of up + 1") \
    F(alpha_missing, "activation", CLAMP, ANY_, "alpha_other", "", "sigmoid(g) in place of sigmoid(alpha g)") \
    F(gelu_tanh, "activation", GEGLU, FP32_, "gelu_approximated activation_other", "", "gelu by tanh in place of erf") \
    F(gelu_sigmoid, "activation", GEGLU, ANY_, "gelu_approximated", "", "gelu by a sigmoid in place of erf") \
    F(gelu_slope_cdf, "activation", GEGLU, ANY_, "slope_missing", "", "gelu' without x times its density") \
    F(silu_as_gelu, "activation", RAW, ANY_, "activation_other", "", "gelu in place of silu") \
    F(silu_missing, "activation", RAW, ANY_, "activation_missing", "", "the gate itself in place of silu(gate)") \
    F(sigmoid_alone, "activation", RAW, ANY_, "activation_function", "", "sigmoid(gate) in place of silu(gate)") \
    F(silu_slope_sigma, "activation", RAW, ANY_, "slope_missing", "", "silu' is sigmoid alone") \
    F(silu_slope_sign, "activation", RAW, ANY_, "slope_missing", "", "silu' with a minus") \
    F(silu_slope_missing, "activation", RAW, ANY_, "slope_missing", "", "silu' is 1") \
    F(relu_leaky, "activation", REGLU, ANY_, "relu_leaky", "", "relu leaks 0.01 x") \
    F(relu_slope_missing, "activation", REGLU, ANY_, "slope_missing", "", "relu' is 1") \
    F(relu2_not_squared, "activation", RELU2, ANY_, "activation_other", "", "relu in place of relu squared") \
    F(relu2_slope_half, "activation", RELU2, ANY_, "slope_missing", "", "the 2 of relu squared's slope is missing") \
    F(d_up_gate, "activation", RAW, ANY_, "slope_missing", "", "d_up from the gate, not from its activation") \
    F(d_halves_swapped, "activation", RAW, ANY_, "halves_swapped", "", "d_gate and d_up swapped") \
    /* parameters */ \
    F(W1_transposed, "parameters", SQUARE, ANY_, "w1_transposed", "", "W1 transposed") \
    F(W2_transposed, "parameters", SQUARE, ANY_, "w2_transposed", "", "W2 transposed") \
    F(neighbour_expert, "parameters", PLAIN, ANY_, "weights_neighbour", "", "every expert has the next one's parameters") \
    F(neighbour_W1, "parameters", PLAIN, ANY_, "w1_neighbour", "", "every expert has the next one's W1") \
    F(neighbour_up, "parameters", PLAIN, ANY_, "w1_half_neighbour", "", "every expert has the next one's up rows of W1") \
    F(neighbour_W2, "parameters", PLAIN, ANY_, "w2_neighbour", "", "every expert has the next one's W2") \
    F(neighbour_b1, "parameters", BIAS, ANY_, "bias_neighbour", "", "every expert has the next one's b1") \
    F(neighbour_b2, "parameters", BIAS, ANY_, "bias_neighbour", "", "every expert has the next one's b2") \
    F(experts_swapped, "parameters", PLAIN, ANY_, "weights_other", "", "experts 2 and 3 have each other's parameters") \
    F(one_expert_of_another, "parameters", PLAIN, ANY_, "weights_other", "", "expert 3 has expert 0's W1") \
    F(W2_index_cut, "parameters", PLAIN, ANY_, "expert_index", "", "expert e has the W2 of expert e mod 4") \
    F(W1_stride, "parameters", PLAIN, ANY_, "expert_stride", "", "W1's step from expert to expert is a row short") \
    F(b1_missing, "parameters", BIAS, ANY_, "b1_missing", "", "no b1") \
    F(b1_after_activation, "parameters", BIAS, ANY_, "vector_added", "", "b1 added to A once more") \
    F(b1_of_gate_twice, "parameters", BIAS, ANY_, "b1_order", "", "the up has the gate's b1") \
    F(b2_missing, "parameters", BIAS, ANY_, "b2_missing", "", "no b2") \
    F(b1_gate_only, "parameters", BIAS, ANY_, "b1_missing", "", "b1 on the gates alone") \
    F(b2_twice, "parameters", BIAS, ANY_, "bias_twice", "", "b2 twice") \
    F(b2_unweighted, "parameters", BIAS, ANY_, "b2_unweighted", "", "b2 outside of the weight") \
    /* products: the ends of sums, and their precision */ \
    F(k_tail_H, "product", RAW, ANY_, "k_block_dropped", "", "the last 16 inputs of W1 are dropped") \
    F(k_first_H, "product", RAW, ANY_, "k_block_dropped", "", "the first 16 inputs of W1 are dropped") \
    F(k_tail_Y, "product", RAW, ANY_, "k_block_dropped", "", "the last 16 inputs of W2 are dropped") \
    F(k_tail_dA, "product", RAW, ANY_, "k_block_dropped", "", "the last 16 columns of dO are dropped") \
    F(k_tail_dX, "product", RAW, ANY_, "k_block_dropped", "", "the last 16 columns of dH are dropped") \
    F(accumulate_bf16, "precision", RAW, ANY_, "sums_narrow", "", "sums of H and Y in bf16 between blocks of 16") \
    F(accumulate_bf16_dW, "precision", LONG, ANY_, "sums_narrow", "", "sums of dW1 and dW2 in bf16 between blocks of 16") \
    F(accumulate_bf16_dX, "precision", DEEP, ANY_, "sums_narrow", "", "sums of dX~ in bf16 between blocks of 16") \
    F(accumulate_bf16_logits, "precision", RAW, FP32_, "router_narrow", "", "sums of logits in bf16 between blocks of 16") \
    F(tf32, "precision", RAW, FP32_, "operands_narrow", "", "TF32 operands") \
    F(combine_bf16, "precision", SLOTS, ANY_, "sums_narrow stored_narrow", "added in fp32", "sums over a token's experts in bf16") \
    F(dX_bf16_sums, "precision", SLOTS, ANY_ | PIN_, "sums_narrow stored_narrow", "added in fp32", "sums of dX in bf16") \
    F(dz_bf16, "precision", PLAIN, FP32_, "dz_narrow", "", "gradients of logits in bf16") \
    F(dS_told_bf16, "precision", GIVEN, FP32_, "stored_narrow", "", "dS rounded to bf16 when handed out") \
    /* rows of an expert */ \
    F(first_rows_dropped, "rows", TAILS, ANY_, "edge_row_dropped zero_rows", "", "every expert's first row is dropped") \
    F(last_rows_dropped, "rows", TAILS, ANY_, "edge_row_dropped zero_rows", "", "every expert's last row is dropped") \
    F(tail_dropped, "rows", TAILS, ANY_, "tail_dropped zero_rows", "", "rows beyond whole tiles of 16 are dropped") \
    F(tail_dropped_of_one, "rows", TAILS, ANY_, "tail_dropped zero_rows", "", "expert 3's rows beyond whole tiles of 16 are dropped") \
    F(tail_dropped_of_last, "rows", TAILS, ANY_, "tail_dropped zero_rows", "", "the last expert's rows beyond whole tiles of 16 are dropped") \
    F(second_tile_dropped, "rows", SLOTS, ANY_, "zero_rows missing_pairs", "", "expert 3's second tile of 16 rows is dropped") \
    F(odd_rows_dropped, "rows", PLAIN, ANY_, "zero_rows missing_pairs", "", "expert 0's odd rows are dropped") \
    F(rows_over_128_dropped, "rows", HOT, ANY_, "tail_dropped zero_rows", "", "rows beyond the first 128 of an expert are dropped") \
    F(last_expert_dropped, "rows", PLAIN, ANY_, "expert_skipped zero_rows", "", "the last expert is not computed") \
    F(rows_shifted, "rows", PLAIN, ANY_, "moved_rows", "", "rows of an expert are shifted by one") \
    F(row_of_next_expert, "rows", TAILS, ANY_, "moved_rows next_rows", "", "an expert's last row is the next one's first token") \
    F(tail_of_next_expert, "rows", TAILS, ANY_, "moved_rows next_rows", "", "expert 3's tail rows are the next one's tokens") \
    F(token_cut, "rows", PLAIN, ANY_, "gather_index", "", "the number of the token that is gathered is cut to 5 bits") \
    F(X_late, "rows", PLAIN, ANY_, "gather_index", "", "rows of X are read one element late") \
    F(tail_early, "rows", TAILS, ANY_, "tail_early", "", "the last tile of 16 of an expert's rows begins so early that it is whole") \
    F(Y_of_next_row, "rows", PLAIN, ANY_, "wrapped_rows", "", "the combine reads the next row of Y") \
    F(gather_off_by_one, "rows", PLAIN, ANY_, "moved_rows token_neighbour", "", "the next token is gathered") \
    F(token_mirrored, "rows", PLAIN, ANY_, "gather_rule", "", "X is gathered from the other end") \
    F(row_overflow, "rows", PLAIN, ANY_, "wrapped_rows", "", "an offset in Y overflows: later rows are the first ones") \
    /* columns */ \
    F(A_columns_repeat, "columns", RAW, ANY_, "repeated_columns columns_repeated", "", "columns of A repeat with period 16") \
    F(Y_columns_repeat, "columns", RAW, ANY_, "repeated_columns columns_repeated", "", "columns of Y repeat with period 32") \
    F(A_block_zero, "columns", RAW, ANY_, "zero_columns", "", "columns 16 to 31 of A are 0") \
    F(Y_block_zero, "columns", RAW, ANY_, "zero_columns", "", "columns 16 to 31 of Y are 0") \
    F(Y_last_columns, "columns", RAW, ANY_, "zero_columns", "", "the last columns of Y are 0") \
    F(O_block_zero, "columns", RAW, ANY_, "zero_columns", "", "columns 16 to 31 of O are 0") \
    F(O_columns_shifted, "columns", RAW, ANY_, "repeated_columns shifted_columns", "", "columns of O are shifted by one") \
    F(dW1_block_zero, "columns", RAW, ANY_, "zero_rows", "", "16 rows of the first expert's dW1 are 0") \
    /* tokens */ \
    F(tokens_128_zero, "tokens", MANY, ANY_, "zero_rows", "", "O of 128 tokens is 0") \
    F(every_64th_token_zero, "tokens", MANY, ANY_, "zero_rows", "", "O of every 64th token is 0") \
    F(last_token_zero, "tokens", MANY, ANY_, "zero_rows", "", "O of the last token is 0") \
    F(tokens_shifted, "tokens", PLAIN, ANY_, "moved_rows", "", "O of the next token") \
    F(two_tokens_swapped, "tokens", PLAIN, ANY_, "moved_rows", "", "O of tokens 17 and 18 swapped") \
    F(O_element_sign, "tokens", PLAIN, ANY_, "elements", "", "one element of O has the other sign") \
    F(dX_shifted, "tokens", PLAIN, ANY_, "moved_rows", "", "dX of the next token") \
    F(dW1_element_sign, "tokens", PLAIN, ANY_, "elements", "", "one element of dW1 has the other sign") \
    F(O_garbage_tokens, "tokens", NO_EXPERT, ANY_, "garbage_empty elements", "must be exactly 0", "tokens without an expert get a 1") \
    /* the combine */ \
    F(expert_0_skipped, "combine", PLAIN, ANY_, "expert_skipped missing_pairs", "", "expert 0 is skipped in the combine") \
    F(expert_3_skipped, "combine", PLAIN, ANY_, "expert_skipped missing_pairs", "", "expert 3 is skipped in the combine") \
    F(last_slot_skipped, "combine", PLAIN, ANY_, "missing_pairs", "", "a token's last expert is skipped in the combine") \
    F(first_slot_twice, "combine", PLAIN, ANY_, "missing_pairs", "", "a token's first expert counts twice") \
    F(zero_experts_missing, "combine", ZERO, ANY_, "zero_experts", "", "zero experts add nothing") \
    F(zero_unweighted, "combine", ZERO, ANY_, "zero_experts", "", "zero experts add x unweighted") \
    F(shared_missing, "shared", SHARED, ANY_, "shared_missing", "", "no shared expert") \
    F(shared_twice, "shared", SHARED, ANY_, "shared_twice", "", "the shared expert counts twice") \
    F(shared_gate_missing, "shared", SHARED_GATE, ANY_, "shared_gate_missing", "", "the shared expert without its gate") \
    F(shared_gate_linear, "shared", SHARED_GATE, ANY_, "shared_gate_linear", "", "the gate's logit in place of its sigmoid") \
    F(shared_gate_on_all, "shared", SHARED_GATE, ANY_, "token_terms", "", "the shared gate multiplies the experts' sum too") \
    F(shared_interleaved, "shared", SHARED_LAYOUT, ANY_, "shared_layout", "", "the shared expert is read as interleaved") \
    /* gradients */ \
    F(dS_weighted, "gradient", GIVEN, ANY_, "ds_weighted factor_by_weight", "", "dS from the weighted dA'") \
    F(dS_of_slope, "gradient", GIVEN, ANY_, "ds_slope", "", "dS through act' in place of A") \
    F(dS_of_dO, "gradient", GIVEN, ANY_, "inner_product", "", "dS is the sum of dO, without Y") \
    F(dS_centred, "gradient", RAW, ANY_, "router_step", "", "dS less its weighted sum over the token") \
    F(dS_without_b2, "gradient", BIAS, ANY_, "ds_bias", "", "dS without b2") \
    F(dS_shifted, "gradient", GIVEN, ANY_, "moved_rows", "", "dS of the next row") \
    F(dS_zero_of_one, "gradient", GIVEN, ANY_, "zero_rows factor_by_expert", "", "dS of expert 3 is 0") \
    F(dS_of_weighted_x, "gradient", ON_INPUT, ANY_, "ds_weighted factor_by_weight", "", "dS from the weighted input") \
    F(dS_without_zero, "gradient", ZERO, ANY_, "zero_rows zero_experts", "", "dS of zero experts is 0") \
    F(dO_of_next_token, "gradient", GIVEN, ANY_, "moved_rows token_neighbour", "", "dO of the next token is gathered") \
    F(dz_without_scale, "gradient", EPS, ANY_, "dz_scale factor", "", "dlogits without the scale") \
    F(dz_scale_twice, "gradient", EPS, ANY_, "dz_scale", "", "dlogits with the scale squared") \
    F(dz_renorm_missing, "gradient", PLAIN, ANY_, "ds_norm", "", "dlogits without the renormalisation") \
    F(dz_renorm_half, "gradient", SELECT, ANY_, "ds_norm", "", "dlogits with half of the renormalisation") \
    F(dz_without_score, "gradient", RAW, ANY_, "dz_score dz_slope", "", "dlogits without the score's slope") \
    F(dz_sigmoid_slope, "gradient", SIGMOID, ANY_, "dz_score dz_slope", "", "sigmoid' without 1 - s") \
    F(dz_diagonal, "gradient", TOPK, ANY_, "dz_score dz_slope", "", "softmax' without what is off the diagonal") \
    F(dz_chosen_only, "gradient", RAW, ANY_, "dz_score dz_slope", "", "no gradient for logits not chosen") \
    F(db_r_missing, "gradient", R_BIAS, ANY_, "all_zero", "", "db_r is 0") \
    F(dW_r_row_zero, "gradient", PLAIN, ANY_, "zero_rows", "", "dW_r of expert 1 is 0") \
    F(dW_r_tail_tokens, "gradient", PLAIN, ANY_, "k_block_dropped dwr_tail", "", "dW_r without the last 16 tokens") \
    F(dX_without_router, "gradient", PLAIN, ANY_, "dx_router", "", "dX without the router's part") \
    F(dX_router_twice, "gradient", PLAIN, ANY_, "dx_router", "", "dX with the router's part twice") \
    F(dX_without_shared, "gradient", SHARED, ANY_, "dx_shared", "", "dX without the shared expert's part") \
    F(dX_without_shared_gate, "gradient", SHARED_GATE, ANY_, "dx_gate", "", "dX without the shared gate's part") \
    F(shared_gate_slope, "gradient", SHARED_GATE, ANY_, "gate_slope", "", "the shared gate's slope without 1 - g") \
    F(dX_without_zero, "gradient", ZERO, ANY_, "zero_experts", "", "dX without the zero experts' part") \
    F(dX_without_expert, "gradient", PLAIN, ANY_, "missing_pairs expert_skipped", "", "dX without expert 3's part") \
    F(dX_without_last_slot, "gradient", PLAIN, ANY_, "missing_pairs", "", "dX without a token's last expert") \
    F(dX_weight_twice, "gradient", PLAIN, ANY_, "dx_scale factor_by_weight", "", "dX weighs dX~ again") \
    F(dX_unweighted, "gradient", ON_INPUT, ANY_, "dx_scale", "", "dX without the input's weight") \
    F(dH_unweighted, "gradient", PLAIN, ANY_, "dh_weight factor_by_weight", "", "dA without the weight") \
    F(dH_weight_twice, "gradient", PLAIN, ANY_, "dh_weight factor_by_weight", "", "dA with the weight twice") \
    F(dW2_unweighted, "gradient", PLAIN, ANY_, "dw2_weight", "", "A' without the weight") \
    F(dW2_weight_twice, "gradient", PLAIN, ANY_, "dw2_weight", "", "A' with the weight twice") \
    F(dW1_of_another, "gradient", PLAIN, ANY_, "other_expert", "", "dW1 of expert 3 is expert 0's") \
    F(dW2_of_another, "gradient", PLAIN, ANY_, "other_expert", "", "dW2 of expert 3 is expert 0's") \
    F(dW1_swapped, "gradient", PLAIN, ANY_, "other_expert", "", "dW1 of experts 2 and 3 swapped") \
    F(dW1_last_expert_zero, "gradient", PLAIN, ANY_, "zero_rows factor_by_expert", "", "dW1 of the last expert is 0") \
    F(dW1_tail_rows, "gradient", TAILS, ANY_, "dw_rows", "", "dW1 without rows beyond whole tiles of 16") \
    F(dW2_tail_rows, "gradient", TAILS, ANY_, "dw_rows", "", "dW2 without rows beyond whole tiles of 16") \
    F(dW1_first_row, "gradient", TAILS, ANY_, "dw_rows", "", "dW1 without an expert's first row") \
    F(db1_missing, "gradient", BIAS, ANY_, "all_zero", "", "db1 is 0") \
    F(db2_missing, "gradient", BIAS, ANY_, "all_zero", "", "db2 is 0") \
    F(db2_unweighted, "gradient", BIAS, ANY_, "db2_weight", "", "db2 without the weight") \
    F(dW_shared_zero, "gradient", SHARED, ANY_, "all_zero", "", "dW1_shared is 0") \
    F(empty_dW_garbage, "gradient", EMPTY, ANY_, "garbage_empty", "must be exactly 0", "garbage in dW2 of empty experts") \
    /* state between calls */ \
    F(O_adds_up, "state", GIVEN, ANY_, "accumulated", "", "O adds up over calls") \
    F(dX_adds_up, "state", GIVEN, ANY_, "accumulated", "", "dX adds up over calls") \
    F(dW_adds_up, "state", GIVEN, ANY_, "accumulated", "", "dW1 and dW2 add up over calls") \
    F(dW2_adds_up, "state", GIVEN, ANY_, "accumulated", "", "dW2 adds up over calls") \
    F(O_stale_tokens, "state", NO_EXPERT, ANY_, "garbage_empty", "second input", "O of tokens without an expert is an earlier input's") \
    F(empty_dW_stale, "state", EMPTY, ANY_, "stale", "", "dW of empty experts is an earlier input's") \
    F(set_input_ignored, "state", PLAIN, ANY_, "stale", "", "only the first input is taken") \
    F(X_kept, "state", PLAIN, ANY_, "stale", "", "only the first X is taken") \
    F(dO_kept, "state", PLAIN, ANY_, "", "second input", "only the first dO is taken") \
    F(plan_kept, "state", GIVEN, ANY_, "", "second input", "only the first plan is taken") \
    F(forward_once, "state", PLAIN, ANY_, "stale", "", "forward does nothing after the first") \
    F(backward_once, "state", PLAIN, ANY_, "stale", "", "backward does nothing after the first") \
    F(wrong_second_run, "state", PLAIN, ANY_, "", "not deterministic", "the second run is wrong") \
    F(wrong_third_run, "state", PLAIN, ANY_, "", "not deterministic", "wrong from the third run on") \
    F(dX_wrong_third_run, "state", PLAIN, ANY_, "", "not deterministic", "dX is wrong from the third run on") \
    F(nondeterministic_bit, "repetition", PLAIN, ANY_, "", "not deterministic", "a last bit of O changes with every run") \
    F(nondeterministic_third, "repetition", PLAIN, ANY_, "", "not deterministic", "a last bit of O differs in one run of three") \
    F(dW1_nondeterministic, "repetition", PLAIN, ANY_, "", "not deterministic", "a last bit of dW1 changes with every run") \
    F(batch_variant, "invariance", PLAIN, FP32_, "", "batch invariant", "sums of batches below 100 tokens begin at their end") \
    /* numbers that are none */ \
    F(O_nan_swallowed, "nonfinite", NAN_GIVEN, ANY_, "nan_swallowed", "finite where the oracle is NaN or infinite", "a NaN of O becomes 0") \
    F(O_inf_swallowed, "nonfinite", INF_GIVEN, ANY_, "nan_swallowed", "finite where the oracle is NaN or infinite", "an infinity of O becomes a number") \
    F(dX_nan_swallowed, "nonfinite", NAN_GIVEN, ANY_, "nan_swallowed", "finite where the oracle is NaN or infinite", "a NaN of dX becomes 0") \
    F(dW1_inf_swallowed, "nonfinite", INF_GIVEN, ANY_, "nan_swallowed", "finite where the oracle is NaN or infinite", "an infinity of dW1 becomes a number") \
    F(dW1_nan_swallowed, "nonfinite", NAN_GIVEN, ANY_, "nan_swallowed", "finite where the oracle is NaN or infinite", "a NaN of dW1 becomes 0") \
    F(dW2_nan_swallowed, "nonfinite", NAN_GIVEN, ANY_, "nan_swallowed", "finite where the oracle is NaN or infinite", "a NaN of dW2 becomes 0") \
    F(dS_nan_swallowed, "nonfinite", NAN_GIVEN, ANY_, "nan_swallowed", "finite where the oracle is NaN or infinite", "a NaN of dS becomes 0") \
    F(logit_nan_swallowed, "nonfinite", NAN_ROUTED, ANY_, "nan_swallowed", "finite where the oracle is NaN or infinite", "a NaN of the logits becomes 0") \
    /* memory */ \
    F(unwritten_O, "memory", PLAIN, ANY_, "", "not written", "the last 3 elements of O are not written") \
    F(unwritten_dX, "memory", PLAIN, ANY_, "", "not written", "the last 3 elements of dX are not written") \
    F(unwritten_dW1, "memory", PLAIN, ANY_, "", "not written", "dW1 of the last expert is not written") \
    F(unwritten_H, "memory", PLAIN, ANY_, "", "not written", "the last 3 elements of H are not written") \
    F(overrun_O, "memory", PLAIN, ANY_, "", "after the buffer", "fetch writes beyond O") \
    F(overrun_dW1, "memory", PLAIN, ANY_, "", "after the buffer", "fetch writes beyond dW1") \
    F(overrun_H, "memory", PLAIN, ANY_, "", "after the buffer", "fetch writes beyond H") \
    F(overrun_A, "memory", PLAIN, ANY_, "", "after the buffer", "fetch writes beyond A") \
    F(overrun_Y, "memory", PLAIN, ANY_, "", "after the buffer", "fetch writes beyond Y") \
    F(overrun_dXp, "memory", PLAIN, ANY_, "", "after the buffer", "fetch writes beyond dX~") \
    F(underrun_dX, "memory", PLAIN, ANY_, "", "before the buffer", "fetch writes before dX") \
    F(underrun_dH, "memory", PLAIN, ANY_, "", "before the buffer", "fetch writes before dH") \
    F(input_changed, "memory", PLAIN, ANY_, "", "changed this input", "X is written to") \
    F(dO_changed, "memory", PLAIN, ANY_, "", "changed this input", "dO is written to") \
    F(weights_changed, "memory", PLAIN, ANY_, "", "changed this input", "W1 is written to") \
    F(plan_changed, "memory", GIVEN, ANY_, "", "changed the given plan", "the given plan is written to") \
    F(leak, "memory", PLAIN, ANY_, "", "grow", "every forward keeps 1 MiB") \
    /* ids that a plan must not have */ \
    F(id_out_of_range, "ids", PLAIN, ANY_, "", "topk_index", "a token index beyond T") \
    F(id_minus_one, "ids", PLAIN, ANY_, "", "topk_index", "a token index of -1") \
    F(id_twice, "ids", PLAIN, ANY_, "", "topk_index", "a token twice at one expert") \
    F(ids_unsorted, "ids", PLAIN, ANY_, "", "topk_index", "tokens of an expert out of order") \
    F(offsets_backwards, "ids", PLAIN, ANY_, "", "topk_index", "offsets that run backwards") \
    F(inverse_wrong, "ids", PLAIN, ANY_, "", "topk_index", "an inverse map that contradicts the rows") \
    F(other_choice_told, "ids", PLAIN, ANY_, "", "topk_index", "another choice is told than was computed")

/* clang-format on */

#define MOE_INT_FAULT_VALUE(name, ...) MOE_INT_FAULT_##name,
#define MOE_INT_FAULT_WORD(name, ...)  #name,
typedef enum moe_int_fault {
    MOE_INT_FAULT_NONE,
    MOE_INT_FAULTS(MOE_INT_FAULT_VALUE) MOE_INT_FAULT_COUNT
} moe_int_fault;

#endif
