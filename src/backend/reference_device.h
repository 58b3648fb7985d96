/* The built-in reference, opened, and its operators. */
#ifndef MOEREF_BACKEND_REFERENCE_DEVICE_H
#define MOEREF_BACKEND_REFERENCE_DEVICE_H

#include "moeref/arithmetic.h"
#include "moeref/plugin.h"
#include "moeref/recipe.h"

typedef struct moe_int_reference_device {
    moe_dtype precision;
    const moe_recipe *recipe; /* NULL: this project's own */
    bool emulates;            /* products as `products` says */
    moe_arithmetic products;
    int32_t threads;
    const moe_log *log;
} moe_int_reference_device;

extern const moe_operator_slots moe_int_reference_operators;

#endif
