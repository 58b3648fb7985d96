/* Wrong stores of the broken backend: values that are right until they are handed out. */
#include "broken_plugin.h"

#include <math.h>
#include <string.h>

/* The last 5 rows of expert 1 are beyond a tile that is never run. */
static void drop_tail(const broken_layer *l, moe_tensor_id id, float *v) {
    const moe_plan *plan = l->result->plan;
    const float *y = l->result->out.t[MOE_T_Y].data;
    int64_t d = l->desc.d, end = plan->offsets[2];
    for (int64_t p = end - 5; p < end; p++)
        for (int64_t i = 0; i < d; i++) {
            if (id == MOE_T_Y)
                v[p * d + i] = 0;
            else
                v[plan->token[p] * d + i] -= (float)plan->weight[p] * y[p * d + i];
        }
}

/* Threads that do not wait for each other: wrong everywhere, and every time otherwise. */
static void race(const broken_layer *l, float *v, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        v[i] += sinf((float)(i * 7919 % 1009 * (l->runs + 3)));
}

void broken_spoil(const broken_layer *l, moe_tensor_id id, float *v, int64_t count) {
    int64_t d = l->desc.d;
    if (has(l, "race") && id == MOE_T_O)
        race(l, v, count);
    if (has(l, "zero") && id == MOE_T_DX)
        memset(v, 0, (size_t)count * sizeof *v);
    if (has(l, "second_row") && id == MOE_T_DX)
        memcpy(v, v + d, (size_t)d * sizeof *v);
    if (has(l, "all_zero"))
        memset(v, 0, (size_t)count * sizeof *v);
    if (has(l, "overflow") && id == MOE_T_O) { /* as fp16 may */
        v[101 * d] = INFINITY;
        v[101 * d + 1] = 30000;
    }
    if (has(l, "sign") && id == MOE_T_O)
        v[2 * d + 5] = -v[2 * d + 5];
    if (has(l, "row") && id == MOE_T_O)
        memset(v + 4 * d, 0, (size_t)d * sizeof *v);
    for (int64_t i = 0; has(l, "swallowed") && id == MOE_T_O && i < count; i++)
        v[i] = isnan(v[i]) ? 0 : v[i];
    if (has(l, "stage") && id == MOE_T_H)
        v[3] = 1 - v[3];
    if ((has(l, "third") && l->runs >= 3) || (has(l, "fourth") && l->runs >= 4))
        v[1] += (float)(id == MOE_T_O);
    if (has(l, "reads_empty") && id == MOE_T_O) /* of expert 0, which has no tokens */
        v[5] += 0 * (float)moe_load(l->in.t[MOE_T_W1].data, l->in.t[MOE_T_W1].dtype, 0);
    if (has(l, "nan") && id == MOE_T_DW2)
        v[count / 2] = NAN;
    if (has(l, "inf") && id == MOE_T_DX)
        v[count - 1] = INFINITY;
    if (has(l, "not_zero") && id == MOE_T_DW1) /* expert 0 has no tokens; fp16 stores 6e-8 and up */
        v[7] = 1e-7f;
    if (has(l, "stale_dw") && id == MOE_T_DW1)
        for (int64_t i = 0; i < count; i++)
            v[i] *= (float)l->runs;
    if ((has(l, "random") || has(l, "stale_undeclared")) && id == MOE_T_DS && l->runs > 1)
        v[0] *= has(l, "random") ? 1 + 1.2e-7f : 2;
    if ((has(l, "once") || has(l, "once_undeclared")) && id == MOE_T_DS && l->runs == 3)
        v[0] *= 2;
    if (has(l, "once_undeclared") && id == MOE_T_DX && l->runs > 1)
        v[1] *= l->runs == 3 ? NAN : 1 + 1.2e-7f; /* the last bit is allowed to differ */
    int final =
        moe_tensor_role_of(id) == MOE_ROLE_FORWARD || moe_tensor_role_of(id) == MOE_ROLE_BACKWARD;
    for (int64_t i = 0; i < count; i++) {
        if (has(l, "scale") && id == MOE_T_O)
            v[i] *= 1.03f;
        if (has(l, "scale_little") && final) /* NMSE 1.4e-4 and 2.6e-6 */
            v[i] *= l->dev->precision == MOE_F16 ? 1.0016f : 1.012f;
        if (has(l, "router_row") && id == MOE_T_DW_R && i / d == 1)
            v[i] *= 1.1f;
        if (has(l, "expert_sign") && id == MOE_T_DW2 && i / (d * l->desc.n) == 1)
            v[i] = -v[i];
    }
    if (has(l, "tail") && (id == MOE_T_Y || id == MOE_T_O))
        drop_tail(l, id, v);
}

void broken_misplace(const broken_layer *l, moe_tensor_id id, moe_tensor *dst) {
    size_t count = (size_t)moe_tensor_count(dst), size = moe_dtype_size(dst->dtype);
    if (has(l, "overrun") && id == MOE_T_DB1)
        moe_store(dst->data, dst->dtype, count, 1);
    if (has(l, "underrun") && id == MOE_T_O)
        moe_store((char *)dst->data - size, dst->dtype, 0, 0);
}
