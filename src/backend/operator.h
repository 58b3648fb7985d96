/* Private to src/backend: an open operator, and what is checked before a plug-in sees a call. */
#ifndef MOEREF_BACKEND_OPERATOR_H
#define MOEREF_BACKEND_OPERATOR_H

#include "backend/registry.h"
#include "moeref/operator.h"

struct moe_operator {
    moe_backend *backend;
    const moe_operator_slots *slots;
    void *plugged; /* the plug-in's own */
    moe_layer_desc desc;
    moe_operator_use use;
    moe_operator_support support;
};

/* What a call is checked for. */
typedef enum moe_int_call_kind {
    MOE_INT_CALL_CONVERT, /* parameters alone; with MOE_INT_CALL_SIZE their order alone */
    MOE_INT_CALL_SIZE,
    MOE_INT_CALL_FORWARD,
    MOE_INT_CALL_BACKWARD
} moe_int_call_kind;

/* *ret: the call as the plug-in may see it; tensors that it must not look at are absent. */
moe_status moe_int_operator_check(const moe_operator *op, moe_int_call_kind kind,
                                  const moe_call *call, const moe_log *log, moe_call *ret);
moe_status moe_int_operator_check_use(const moe_layer_desc *desc, const moe_operator_use *use,
                                      const moe_log *log);

#endif
