/* The functions that the odd kernels' activations call. */
#include "odd.h"

#include <math.h>

static odd_exp way;

void odd_set_exp(odd_exp wanted) {
    way = wanted;
}

/* activation.c has sigmoid(x) = e / (1 + e) with e = exp(-|x|): the e that gives another sigmoid.
 */
static float exp_by_tanh(float x) {
    float s = 0.5f * tanhf(x / 2) + 0.5f;
    return s / (1 - s);
}

float odd_fn_exp(float x) {
    if (way == ODD_EXP2)
        return exp2f(x * 1.44269504f) * (1 + 0x1p-23f);
    return way == ODD_BY_TANH ? exp_by_tanh(x) : expf(x);
}

float odd_fn_erfc(float x) {
    return erfcf(x);
}

float odd_fn_tanh(float x) {
    return tanhf(x);
}
