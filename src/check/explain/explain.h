/* Why results are wrong: a bank of hypotheses, tried on a failing subject, cheapest first.
 *
 *     bank.c       the bank: one row a hypothesis
 *     evidence.c   what is known of the failing subject, and which explanation is best
 *     sight.c      one failing tensor, row by row and column by column, without running anything
 *     scene.c      a few tokens, and a few hidden units of a few experts, where the layer is run
 *                  again; change.h says what can be different in it
 *     mixed.c      a change that holds for some rows alone
 *     looks.c      looks at whole tensors; part.c at the wrong columns or rows of one alone
 *     local.c      one step from its own operands: product.c rows of a product and
 *                  product_trials.c what may be tried on them, outer.c and factors.c the rows that
 *                  a gradient of weights is a sum over, vectors.c what else they may be made of,
 *                  terms.c what a token's sum is made of, pair_rules.c where an index of another
 *                  order leads, said_factors.c what a factor is called, local_*.c what may be wrong
 *                  with them
 *     choice.c     a change of the choice of experts, held against the subject's
 *     repeat.c     two runs that differ, results that are an earlier input's
 *     variant.c    the layer on the scene; gather.c which rows, stages.c its experts, slices.c the
 *                  weight gradients
 *
 * Three kinds of hypothesis. One looks at a failing tensor beside its truth ("got = 2 want"). One
 * changes the layer, as a wrong kernel would, runs it again in float64 on the scene, and sees
 * whether the results, or those of some rows, become the subject's. Where none of these does, the
 * third kind solves for what is wrong about the step that makes the first wrong tensor: which terms
 * count how often, whose rows an operand's are, what function of its inputs it is.
 *
 * A hypothesis explains a tensor when the NMSE against the changed truth is what a correct kernel
 * would have: below the tensor's gate, or lower by a factor of 1e3 (30 in 16 bits, where rounding
 * leaves no more: before is at most 2, a kernel's floor 2e-5 to 4e-5, and activations' kinks lift
 * it). It must explain the first wrong tensor. Of those that do, the one that explains most wrong
 * tensors and disagrees with fewest right ones is reported; of equals one that needs no right
 * forward pass to be excused, then the earlier row, so rows with fewer unknowns come first. A
 * change that rounds what the kernel stores is held against the right layer stored likewise: that
 * rounding is no part of what it explains. */
#ifndef MOE_CHECK_EXPLAIN_EXPLAIN_H
#define MOE_CHECK_EXPLAIN_EXPLAIN_H

#include "check/subject/subject.h"
#include "check/truth/truth.h"

/* Tries the bank and fills result->explanation. Without memory there is no explanation. */
void moe_int_explain(const moe_int_subject *subject, const moe_int_routing *routing,
                     const moe_int_truth *truth, const moe_check_params *params,
                     moe_check_result *result);

/* Does it say why, not only where, nor nothing? */
bool moe_int_is_cause(const moe_explanation *x);

/* Why another run of the same input gave other bits: it adds up, or differs by chance. Fills
 * result->explanation unless that is a cause already. Both have one shape. */
void moe_int_explain_repeat(moe_tensor_id id, const moe_tensor *first, const moe_tensor *later,
                            moe_check_result *result);

/* Why the gradients of an expert without tokens are not 0: they are those of the first input, bit
 * for bit, or not. */
void moe_int_explain_left(moe_tensor_id id, int64_t expert, bool of_first,
                          moe_check_result *result);

/* Results [stale] of a second input are the first one's, bit for bit: of those that are wrong, or
 * whose choice is, that is why. */
void moe_int_explain_stale(const bool stale[MOE_T_COUNT], moe_check_result *result);

#endif
