/* An expert cut to some of its hidden units, which is an expert again. */
#ifndef MOE_LAYER_CUT_H
#define MOE_LAYER_CUT_H

#include "moeref/layer.h"

/* `count` elements that lie together, at `whole` in an expert and at `part` in what is cut of it.
 */
typedef void (*moe_int_cut_fn)(void *user, int64_t whole, int64_t part, int64_t count);

/* Tells the elements of units [first, first + units) in one expert's W1, b1, W2 or b2, or in the
 * gradient of one; b2 is of no unit, and whole in every part. `layer` is the whole experts'. */
void moe_int_cut(const moe_layer_desc *layer, moe_tensor_id id, int64_t first, int64_t units,
                 moe_int_cut_fn tell, void *user);

#endif
