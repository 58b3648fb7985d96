/* The names of the odd kernels' arithmetic, before src/reference/real.h asks for them. */
#define MOE_REAL          float
#define MOE_REAL_SUFFIX   _odd
#define MOE_REAL_DTYPE    MOE_F32
#define MOE_REAL_FN(name) odd_fn_##name

#include "odd.h"

float odd_fn_exp(float x);
float odd_fn_erfc(float x);
float odd_fn_tanh(float x);
