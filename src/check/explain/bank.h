/* The bank: one row a hypothesis. A new one is a row here and the function that it names. */
#ifndef MOE_CHECK_EXPLAIN_BANK_H
#define MOE_CHECK_EXPLAIN_BANK_H

#include "check/explain/local.h"
#include "check/explain/scene.h"
#include "check/explain/sight.h"

/* Looks at one wrong tensor. False: it is not so. Else f has residuals, parameters and words. */
typedef bool moe_int_look_fn(const moe_int_sight *p, moe_int_finding *f);
/* Sets the fields of `c` that trial number `trial` of a hypothesis changes, and tells its
 * parameters to f. False: there is no such trial for this layer, nor any after it. */
typedef bool moe_int_change_fn(const moe_int_scene *s, int64_t trial, moe_int_change *c,
                               moe_int_finding *f);
/* Looks at the step that makes the first wrong tensor, as a look does. */
typedef bool moe_int_local_fn(const moe_int_local *l, moe_int_finding *f);

/* clang-format off */

/* LOOK(kind, sentence): moe_int_look_KIND, about one tensor, called %s in the sentence.
 * CHANGE(kind, sentence): moe_int_change_KIND, about the layer.
 * LOCAL(kind, sentence): moe_int_local_KIND, about the step that makes that tensor, called %s;
 * tried where no change of the whole layer explains it.
 * PLACE(kind, sentence): a look that says where, not why; reported where nothing else fits.
 * Of explanations that are as good as each other the earlier row is reported. */
#define MOE_INT_HYPOTHESES(LOOK, CHANGE, LOCAL, PLACE)                                            \
    LOOK(all_zero, "%s is all zero")                                                              \
    LOOK(not_written, "elements of %s are not written")                                           \
    LOOK(not_finite, "elements of %s are NaN or infinite")                                        \
    LOOK(nan_swallowed, "values of %s that should not be finite are numbers")                     \
    LOOK(cut_off, "16-bit results are cut off toward zero, not rounded")                          \
    LOOK(factor, "%s is right but for a factor")                                                  \
    LOOK(stored_narrow, "%s holds values of a narrower type than its own")                        \
    LOOK(zero_rows, "rows of %s are zero")                                                        \
    LOOK(garbage_empty, "%s is not zero where an expert has no token")                            \
    LOOK(factor_by_expert, "each expert's part of %s is right but for a factor")                  \
    LOOK(factor_by_weight, "rows of %s are right but for their combine weight")                   \
    LOOK(other_expert, "an expert's part of %s is another expert's")                              \
    LOOK(moved_rows, "rows of %s are those of a neighbour")                                       \
    LOOK(transposed, "%s is transposed within each expert")                                       \
    LOOK(tiles_transposed, "tiles of %s are transposed")                                          \
    LOOK(halves_swapped, "gate's and up's parts of %s have changed places")                       \
    LOOK(layout_mixed, "%s is in the other layout of gate and up")                                \
    LOOK(zero_columns, "columns of %s are zero")                                                  \
    LOOK(repeated_columns, "columns of %s are those of other columns")                            \
    LOOK(shifted_columns, "columns of %s are shifted")                                            \
    LOOK(missing_pairs, "parts of single experts are missing from %s or there twice")             \
    LOOK(wrapped_rows, "parts in %s are read from the wrong row") \
    LOOK(other_tensor, "%s is another tensor's values")                                           \
    LOOK(factor_by_token, "each token's row of %s is right but for a factor")                     \
    LOOK(zero_tiles, "parts of %s are zero")                                                      \
    /* the choice of experts */                                                                   \
    CHANGE(mask_ignored, "masked tokens are routed too")                                          \
    CHANGE(ties_high, "ties go to the higher expert index")                                       \
    CHANGE(groups_zero, "groups are masked with 0, not with -inf")                                \
    CHANGE(groups_missing, "groups do not limit the choice of experts")                           \
    CHANGE(groups_score, "a group counts by something else than its two best")                     \
    CHANGE(select_bias_missing, "the selection bias is not added for the choice")                 \
    CHANGE(groups_otherwise, "groups are of other experts, or go by another score")               \
    CHANGE(select_bias_part, "the selection bias is added in part, or more than once")            \
    CHANGE(select_bias_otherwise, "the selection bias is not added to the score")                 \
    CHANGE(select_bias_neighbour, "the selection bias is that of another expert")                 \
    CHANGE(choose_score, "the choice goes by another score")                                      \
    CHANGE(choose_range, "the choice takes logits of one sign for others")                        \
    CHANGE(choose_always, "all tokens have one expert")                                           \
    CHANGE(choose_parts, "parts of the experts are chosen from apart")                            \
    CHANGE(choice_of_neighbour, "tokens have the choice of the token beside")                     \
    CHANGE(router_bias_missing, "the router's bias is not added to the logits")                   \
    CHANGE(groups_number, "another number of groups is kept")                                     \
    CHANGE(groups_fixed, "one group is kept by all tokens, or by none")                           \
    CHANGE(capacity_other, "experts are full at another number of tokens")                        \
    CHANGE(capacity_of_some, "some experts are full at another number of tokens")                 \
    CHANGE(choose_capped, "experts from a number on are never chosen")                            \
    CHANGE(choose_unseen, "some experts are out of sight of the choice")                          \
    CHANGE(choose_lowest, "the worst experts are chosen")                                         \
    CHANGE(router_k_dropped, "the last inputs of the router are left out")                        \
    CHANGE(choose_fewer, "a token gets fewer experts than K")                                     \
    CHANGE(choose_masked, "a chosen expert masks another one beside itself")                      \
    CHANGE(choose_narrow, "the choice is made by scores of few bits")                             \
    CHANGE(room_unused, "an expert's capacity does not go to the first tokens")                   \
    CHANGE(room_elsewhere, "tokens that a full expert turns away get another")                    \
    /* combine weights */                                                                         \
    CHANGE(renorm_missing, "weights are not renormalised")                                        \
    CHANGE(renorm_added, "weights are divided by their sum, and should not be")                   \
    CHANGE(scale_missing, "the routed scale is not applied")                                      \
    CHANGE(scale_twice, "the routed scale is applied twice")                                      \
    CHANGE(scale_on_shared, "the routed scale multiplies the shared expert too")                  \
    CHANGE(renorm_twice, "weights are divided by their sum after everything else")                \
    CHANGE(renorm_eps, "weights are renormalised with another eps")                               \
    CHANGE(renorm_other_sum, "weights are divided by another sum")                                \
    CHANGE(score_other, "logits become weights by another score")                                 \
    CHANGE(select_bias_weighs, "the selection bias is in the weights")                            \
    CHANGE(weight_missing, "combine weights are not applied")                                     \
    CHANGE(weight_twice, "combine weights are applied twice")                                     \
    CHANGE(weight_other_side, "weights multiply the expert's other side (input, output)")         \
    CHANGE(weight_neighbour, "pairs have the weight of a neighbour")                              \
    CHANGE(router_narrow, "the router computes in a narrower type")                               \
    /* the experts */                                                                             \
    CHANGE(gate_up_swapped, "the activation takes gate for up, and up for gate")                  \
    CHANGE(w1_swapped, "W1's gate and up rows have changed places")                               \
    CHANGE(layout_read, "gate and up are read in the other layout")                               \
    CHANGE(w1_layout, "W1's rows are taken in the other layout")                                  \
    CHANGE(activation_other, "the activation is another one")                                     \
    CHANGE(gelu_approximated, "gelu is approximated")                                             \
    CHANGE(activation_missing, "the gate multiplies without its nonlinearity")                    \
    CHANGE(relu_leaky, "relu leaks 0.01 of what is negative")                                     \
    CHANGE(up_missing, "the up projection does not multiply")                                     \
    CHANGE(clamp_missing, "the activation clamps otherwise")                                      \
    CHANGE(clamp_after, "the gate is clamped after its sigmoid, not before")                      \
    CHANGE(one_missing, "the clamped up is not raised by 1")                                      \
    CHANGE(alpha_other, "the sigmoid has another alpha")                                          \
    CHANGE(activation_function, "the activation is another function")                             \
    CHANGE(b1_missing, "b1 is not added")                                                         \
    CHANGE(b2_missing, "b2 is not added")                                                         \
    CHANGE(biases_missing, "neither b1 nor b2 is added")                                          \
    CHANGE(w1_neighbour, "experts use the W1 of a neighbour")                                     \
    CHANGE(w2_neighbour, "experts use the W2 of a neighbour")                                     \
    CHANGE(w1_half_neighbour, "experts have half of their W1 from a neighbour")                   \
    CHANGE(weights_neighbour, "experts use the weights of a neighbour")                           \
    CHANGE(expert_index, "the index of an expert's weights is wrong") \
    CHANGE(expert_stride, "the step from expert to expert is wrong") \
    CHANGE(weights_other, "experts use the weights of another") \
    CHANGE(bias_neighbour, "experts use the biases of a neighbour")                               \
    CHANGE(bias_twice, "biases do not count once")                                                \
    CHANGE(b1_order, "b1 is added in another order")                                              \
    CHANGE(b2_unweighted, "b2 is added outside of the combine weight")                            \
    CHANGE(token_neighbour, "a neighbouring token is gathered")                                   \
    CHANGE(gather_index, "rows of X are gathered from the wrong place") \
    CHANGE(gather_rule, "rows of X are gathered by another index")                                \
    CHANGE(tail_early, "the last tile of an expert's rows begins too early") \
    CHANGE(next_rows, "ends of experts' rows are gathered from the next expert's")                \
    CHANGE(w1_transposed, "W1 is read transposed")                                                \
    CHANGE(w2_transposed, "W2 is read transposed")                                                \
    CHANGE(k_block_dropped, "the last block of a product's sum is left out")                      \
    CHANGE(columns_repeated, "columns of A repeat with a period")                                 \
    CHANGE(operands_narrow, "the factors of products are rounded to a narrower type")             \
    CHANGE(sums_narrow, "sums are kept in a narrower type") \
    CHANGE(shared_missing, "the shared expert is not added")                                      \
    CHANGE(shared_twice, "the shared expert counts twice")                                        \
    CHANGE(shared_gate_missing, "the shared expert's gate is not applied")                        \
    CHANGE(shared_gate_linear, "the shared expert's gate lacks its sigmoid")                      \
    CHANGE(shared_layout, "the shared expert is read as interleaved")                             \
    CHANGE(zero_experts, "zero experts' x is not added with its weight")                          \
    CHANGE(expert_skipped, "an expert is left out")                                               \
    CHANGE(tail_dropped, "experts' rows after the last whole tile are left out")                  \
    CHANGE(edge_row_dropped, "an end row of every expert is left out")                            \
    /* gradients */                                                                               \
    CHANGE(slope_missing, "the activation's derivative is wrong")                                 \
    CHANGE(dh_weight, "dH has the combine weight not once")                                       \
    CHANGE(dw2_weight, "dW2's A has the combine weight not once")                                 \
    CHANGE(db2_weight, "db2 lacks the combine weight")                                            \
    CHANGE(ds_weighted, "dS is taken of the weighted dA")                                         \
    CHANGE(ds_slope, "dS is taken of the activation's slope, not of A") \
    CHANGE(ds_bias, "dS lacks <dO, b2>")                                                          \
    CHANGE(dx_router, "dX has the router's part not once")                                               \
    CHANGE(ds_norm, "the gradient does not pass through the renormalisation")                     \
    CHANGE(dz_score, "the gradient passes through another score")                                 \
    CHANGE(dz_narrow, "gradients of the logits are rounded to a narrower type") \
    CHANGE(dz_slope, "the score's slope is wrong")                                                \
    CHANGE(dropped_gradient, "pairs that a full expert dropped have a gradient")                  \
    CHANGE(dw_rows, "rows are left out of a weight gradient's sum") \
    CHANGE(dwr_tail, "the last tokens are left out of dW_r")                                      \
    CHANGE(gate_slope, "the shared gate's slope lacks 1 - g")                                     \
    CHANGE(dz_scale, "the gradient has the routed scale not once")                                \
    CHANGE(dx_shared, "dX lacks the shared expert's part")                                        \
    CHANGE(dx_gate, "dX lacks the part of the shared expert's gate")                              \
    CHANGE(dx_scale, "dX adds dX~")                                                               \
    CHANGE(dw1_input, "dW1 is taken of the unweighted input")                                     \
    /* steps that are not to be seen by themselves */                                             \
    CHANGE(used_bits, "combine weights are rounded to a narrower type where they are used")       \
    CHANGE(weights_again, "weights go through another function after their score")                \
    CHANGE(weight_of_rest, "one of a token's weights is what the others leave of 1")              \
    CHANGE(logits_scaled, "logits are multiplied before their score, a temperature")              \
    CHANGE(unseen_swapped, "gate and up have changed places in a part of the units")              \
    CHANGE(unseen_late, "gate or up is read of other columns of H than the unit's")               \
    CHANGE(unseen_order, "the terms of a product meet factors that are not theirs")               \
    CHANGE(unseen_blocks, "blocks of a product's sum do not count once")                          \
    CHANGE(unseen_factor_bits, "a factor of one product is rounded to a narrower type")           \
    CHANGE(unseen_act_bits, "the activation is rounded to a narrower type, or approximated")      \
    CHANGE(unseen_room, "rows of experts that have many are left out")                            \
    CHANGE(unseen_rows, "rows are gathered in another order within tiles")                        \
    /* single steps */                                                                            \
    LOCAL(own_weights, "weights are another function of the logits")                              \
    LOCAL(score_products, "%s is another product")                                                \
    LOCAL(inner_product, "%s is the inner product of other vectors")                              \
    LOCAL(router_matrix, "the router's part of %s is made with another matrix than W_r")          \
    LOCAL(router_slope, "the gradient is taken otherwise through weights and score")              \
    LOCAL(weight_power, "weights are a power of what they should be")                             \
    LOCAL(few_bits, "%s is rounded to a narrower type than its own")                              \
    LOCAL(few_levels, "%s is rounded to a few steps of its rows' largest values")                 \
    LOCAL(limited, "%s is cut off at a limit")                                                    \
    LOCAL(reordered, "%s has the right values in the wrong order")                                \
    LOCAL(router_step, "%s is the gradient of another step of the router")                        \
    LOCAL(values_of_others, "%s has the values of other pairs")                                   \
    LOCAL(rows_elsewhere, "rows of %s stand in other rows' places")                               \
    LOCAL(columns_of_others, "columns of %s stand in other columns' places")                      \
    LOCAL(factor_by_column, "each column of %s is right but for a factor")                        \
    LOCAL(value_factor, "values of %s are right but for a weight")                                \
    LOCAL(rows_of_others, "%s is made of other rows")                                             \
    LOCAL(operand_bits, "a factor of the product that makes %s has few bits")                     \
    LOCAL(operand_levels, "a factor of the product that makes %s is of integers with a scale")    \
    LOCAL(operand_tensor, "%s is the product of another tensor, not of its own")                  \
    LOCAL(operand_affine, "a factor of the product that makes %s has a number added to a row")    \
    LOCAL(operand_limited, "a factor of the product that makes %s is cut off at a limit")         \
    LOCAL(operand_stride, "rows of a factor of %s are read with a wrong step")                     \
    LOCAL(matrix_axes, "%s is made with a matrix in another layout")                              \
    LOCAL(matrix_of_others, "rows of %s are made with another matrix")                            \
    LOCAL(product_terms, "%s is not the sum of all terms, each once")                             \
    LOCAL(terms_elsewhere, "the terms of %s meet factors that are not theirs")                    \
    LOCAL(block_beside, "terms of %s read a factor beside their own")                             \
    LOCAL(slope_of_others, "the activation's derivative in %s is taken of another row or unit")   \
    LOCAL(bias_factor, "the bias in %s has a factor")                                             \
    LOCAL(bias_elsewhere, "the bias in %s is read from another place")                            \
    LOCAL(own_bias, "what is added to %s is not the bias")                                        \
    LOCAL(vector_added, "rows of an expert have the same vector too much in %s")                  \
    LOCAL(shared_elsewhere, "the shared expert's part of %s is another token's")                  \
    LOCAL(shared_otherwise, "the shared expert's part of %s is made otherwise")                   \
    LOCAL(shared_units, "units of the shared expert do not count once each in %s")                \
    LOCAL(zero_elsewhere, "zero experts' part of %s is another token's X")                        \
    LOCAL(rows_in_sum, "%s is the sum of other rows")                                             \
    LOCAL(token_terms, "%s is not the sum of its terms, each once")                               \
    LOCAL(foreign_terms, "%s has terms that are not its own")                                      \
    LOCAL(stage_wraps, "rows behind %s are read from where an index wraps")                       \
    LOCAL(last_wave, "tiles of the last wave behind %s are not made")                             \
    LOCAL(parts_of_sums, "parts of the product behind %s do not count once each")                 \
    LOCAL(substitutes, "pairs' parts of %s are made with other experts' weights, or added")       \
    LOCAL(terms_by_chance, "each term of %s is off by chance")                                    \
    LOCAL(gradient_tensor, "%s is the sum over its rows of other vectors than its own")           \
    LOCAL(gradient_beside, "rows of the two factors of %s do not belong together")                \
    LOCAL(gradient_bits, "a factor of the sum that makes %s has few bits")                        \
    LOCAL(gradient_rows, "%s is not the sum over its rows, each once")                            \
    LOCAL(gradient_shifted, "%s is made of shifted rows")                                         \
    LOCAL(gradient_operand, "%s is made of other rows")                                           \
    LOCAL(product_tiles, "tiles of the product that makes %s are not their own")                  \
    LOCAL(units_elsewhere, "%s is right, but of other columns of H")                              \
    LOCAL(added_tensor, "something is added to %s that does not belong")                          \
    LOCAL(row_constant, "a number is added to all elements of rows of %s")                        \
    LOCAL(rows_mixed, "rows of %s are mixed with other rows")                                     \
    LOCAL(own_formula, "the activation is another function of gate and up")                       \
    LOCAL(own_slope, "the activation's derivative is another function of gate and up")            \
    LOCAL(function_of_itself, "values of %s are another function of what they should be")         \
    /* places */                                                                                  \
    PLACE(elements, "a few elements of %s are wrong")                                             \
    PLACE(wrong_block, "a block of %s is wrong, the rest is right")                               \
    PLACE(wrong_experts, "some experts' parts of %s are wrong, the others right")

/* clang-format on */

typedef struct moe_int_hypothesis {
    const char *kind, *sentence;
    moe_int_look_fn *look; /* one of the three */
    moe_int_change_fn *change;
    moe_int_local_fn *local;
    bool place;
} moe_int_hypothesis;

extern const moe_int_hypothesis moe_int_bank[];
extern const size_t moe_int_bank_count;

/* A finding of hypothesis h about tensor `id`, with the sentence that it begins with. */
moe_int_finding moe_int_finding_start(const moe_int_hypothesis *h, moe_tensor_id id);

/* looks.c: offers what looks find: causes, or places. */
void moe_int_try_looks(moe_int_evidence *e, bool place);
/* part.c: offers what holds of the wrong columns, or the wrong rows, of l's tensor alone; apart,
 * which function of its inputs they are, by interpolation. */
void moe_int_try_parts(moe_int_evidence *e, const moe_int_local *l);
void moe_int_try_smooth_parts(moe_int_evidence *e, const moe_int_local *l);

/* choice.c: offers a change whose choice `plan` is the subject's, of all tokens or of those alone
 * that chose otherwise than `right` (NULL: unknown). The residual is the share of tokens whose
 * experts are not those of `plan`, instead of an NMSE. */
void moe_int_judge_choice(moe_int_evidence *e, const moe_plan *plan, const moe_plan *right,
                          moe_int_finding *f);

/* changes_choice.c: what hypotheses about the router share. The weights of the changed description
 * for the plan's choice. */
bool moe_int_reweigh(moe_int_change *c);
/* `plan`, which becomes the change's, is the choice. */
void moe_int_take_choice(moe_plan *plan, moe_int_change *c);
/* The choice of the changed description by c->logits, and its weights; or by own_logits, which
 * become c's. False: without memory, or without a router. */
bool moe_int_reroute(const moe_int_scene *s, const double *b_select, moe_int_change *c);
bool moe_int_reroute_own(const moe_int_scene *s, moe_int_change *c);
/* Copies that the caller frees: of the logits (NULL: none), of b_select (NULL: there is none). */
double *moe_int_copy_logits(const moe_int_scene *s, const moe_int_change *c);
double *moe_int_selection_bias(const moe_int_scene *s);
/* changes_narrow.c: may what is wrong be no more than rounding? */
bool moe_int_is_small(const moe_int_scene *s);
/* changes_rule.c: the K best of `key` [T][R] for each token, `parts` equal parts of the experts
 * apart, and their weights. */
bool moe_int_choose_best(const moe_int_scene *s, const double *key, int64_t parts,
                         moe_int_change *c);

#define MOE_INT_DECLARE_LOOK(kind, sentence)   moe_int_look_fn moe_int_look_##kind;
#define MOE_INT_DECLARE_CHANGE(kind, sentence) moe_int_change_fn moe_int_change_##kind;
#define MOE_INT_DECLARE_LOCAL(kind, sentence)  moe_int_local_fn moe_int_local_##kind;
MOE_INT_HYPOTHESES(MOE_INT_DECLARE_LOOK, MOE_INT_DECLARE_CHANGE, MOE_INT_DECLARE_LOCAL,
                   MOE_INT_DECLARE_LOOK)

#endif
