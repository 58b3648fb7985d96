#include "sim/methods/methods.h"

#define ROW(constant, name) &moe_int_method_##name,
const moe_int_method *const moe_int_methods[MOE_INT_SYS_COUNT] = {MOE_INT_SYSTEMS(ROW)};
