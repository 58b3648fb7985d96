/* The binary interface between the library and plug-ins, number by number, on LP64 machines.
 *
 * When one of these fails, plug-ins built before the change would read garbage: raise
 * MOE_PLUGIN_ABI and MOE_PLUGIN_ABI_OLDEST in plugin.h, then PINNED_ABI, PINNED_OLDEST and the
 * numbers here. An optional slot added at the table's end raises MOE_PLUGIN_ABI alone. Enum values
 * may only be added at the end. */
#include "moeref/plugin.h"

#include <criterion/criterion.h>
#include <stddef.h>

#define PINNED_ABI    2u
#define PINNED_OLDEST 1u

typedef struct number {
    const char *what;
    long long is, should;
} number;

#define SIZE(type, bytes)                                                                          \
    { "sizeof " #type, (long long)sizeof(type), bytes }
#define FIELD(type, field, offset)                                                                 \
    { #type "." #field, (long long)offsetof(type, field), offset }
#define VALUE(name, value)                                                                         \
    { #name, (long long)(name), value }

static const number layouts[] = {
    SIZE(moe_tensor, 48),
    FIELD(moe_tensor, data, 0),
    FIELD(moe_tensor, dtype, 8),
    FIELD(moe_tensor, ndim, 12),
    FIELD(moe_tensor, shape, 16),
    SIZE(moe_tensors, 1488),
    FIELD(moe_tensors, t, 0),
    SIZE(moe_router_desc, 72),
    FIELD(moe_router_desc, score, 0),
    FIELD(moe_router_desc, select, 4),
    FIELD(moe_router_desc, weight_on, 8),
    FIELD(moe_router_desc, rounding, 12),
    FIELD(moe_router_desc, bias, 16),
    FIELD(moe_router_desc, select_bias, 20),
    FIELD(moe_router_desc, groups, 24),
    FIELD(moe_router_desc, topk_groups, 28),
    FIELD(moe_router_desc, renorm, 32),
    FIELD(moe_router_desc, tile, 36),
    FIELD(moe_router_desc, capacity, 40),
    FIELD(moe_router_desc, renorm_eps, 48),
    FIELD(moe_router_desc, scale, 56),
    FIELD(moe_router_desc, jitter, 64),
    SIZE(moe_layer_desc, 152),
    FIELD(moe_layer_desc, d, 0),
    FIELD(moe_layer_desc, n, 8),
    FIELD(moe_layer_desc, E, 16),
    FIELD(moe_layer_desc, K, 24),
    FIELD(moe_layer_desc, n_zero, 32),
    FIELD(moe_layer_desc, n_shared, 40),
    FIELD(moe_layer_desc, shared_gate, 48),
    FIELD(moe_layer_desc, act, 52),
    FIELD(moe_layer_desc, glu_layout, 56),
    FIELD(moe_layer_desc, expert_bias, 60),
    FIELD(moe_layer_desc, act_alpha, 64),
    FIELD(moe_layer_desc, act_limit, 72),
    FIELD(moe_layer_desc, router, 80),
    SIZE(moe_plan, 64),
    FIELD(moe_plan, n_tokens, 0),
    FIELD(moe_plan, n_experts, 8),
    FIELD(moe_plan, n_pairs, 16),
    FIELD(moe_plan, offsets, 24),
    FIELD(moe_plan, token, 32),
    FIELD(moe_plan, weight, 40),
    FIELD(moe_plan, token_offsets, 48),
    FIELD(moe_plan, pair_of_token, 56),
    SIZE(moe_log, 16),
    FIELD(moe_log, fn, 0),
    FIELD(moe_log, user, 8),
    SIZE(moe_cost, 96),
    FIELD(moe_cost, name, 0),
    FIELD(moe_cost, bound_by, 24),
    FIELD(moe_cost, us, 40),
    FIELD(moe_cost, floor_us, 48),
    FIELD(moe_cost, flops, 56),
    FIELD(moe_cost, hbm_bytes, 64),
    FIELD(moe_cost, l2_bytes, 72),
    FIELD(moe_cost, tiles, 80),
    FIELD(moe_cost, waves, 88),
    SIZE(moe_open_params, 24),
    FIELD(moe_open_params, threads, 0),
    FIELD(moe_open_params, device_index, 4),
    FIELD(moe_open_params, variant, 8),
    FIELD(moe_open_params, log, 16),
    SIZE(moe_use, 24),
    FIELD(moe_use, tokens, 0),
    FIELD(moe_use, dtype, 8),
    FIELD(moe_use, pass, 12),
    FIELD(moe_use, plan_given, 16),
    SIZE(moe_support, 168),
    FIELD(moe_support, arithmetic, 0),
    FIELD(moe_support, deterministic, 4),
    FIELD(moe_support, reason, 8),
    SIZE(moe_input, 120),
    FIELD(moe_input, tokens, 0),
    FIELD(moe_input, X, 8),
    FIELD(moe_input, dO, 56),
    FIELD(moe_input, plan, 104),
    FIELD(moe_input, seed, 112),
    SIZE(moe_memory, 24),
    FIELD(moe_memory, weights, 0),
    FIELD(moe_memory, cached, 8),
    FIELD(moe_memory, peak, 16),
    SIZE(moe_roofline, 112),
    FIELD(moe_roofline, gemm_flops, 0),
    FIELD(moe_roofline, memory_rate, 8),
    FIELD(moe_roofline, source, 16),
    SIZE(moe_board, 48),
    FIELD(moe_board, sm_mhz, 0),
    FIELD(moe_board, memory_mhz, 8),
    FIELD(moe_board, power_w, 16),
    FIELD(moe_board, power_limit_w, 24),
    FIELD(moe_board, temperature_c, 32),
    FIELD(moe_board, throttled_by, 40),
    SIZE(moe_plugin, 144), /* 136 in interface 1, which ends before board */
    FIELD(moe_plugin, abi, 0),
    FIELD(moe_plugin, priority, 4),
    FIELD(moe_plugin, name, 8),
    FIELD(moe_plugin, brief, 16),
    FIELD(moe_plugin, probe, 24),
    FIELD(moe_plugin, open, 32),
    FIELD(moe_plugin, close, 40),
    FIELD(moe_plugin, supports, 48),
    FIELD(moe_plugin, prepare, 56),
    FIELD(moe_plugin, release, 64),
    FIELD(moe_plugin, set_input, 72),
    FIELD(moe_plugin, forward, 80),
    FIELD(moe_plugin, backward, 88),
    FIELD(moe_plugin, fetch, 96),
    FIELD(moe_plugin, routing, 104),
    FIELD(moe_plugin, timings, 112),
    FIELD(moe_plugin, memory, 120),
    FIELD(moe_plugin, roofline, 128),
    FIELD(moe_plugin, board, 136),
};

static const number values[] = {
    VALUE(MOE_OK, 0),
    VALUE(MOE_E_INVALID, -1),
    VALUE(MOE_E_NOMEM, -2),
    VALUE(MOE_E_IO, -3),
    VALUE(MOE_E_FORMAT, -4),
    VALUE(MOE_E_UNSUPPORTED, -5),
    VALUE(MOE_E_NOTFOUND, -6),
    VALUE(MOE_E_ABI, -7),
    VALUE(MOE_E_DEVICE, -8),
    VALUE(MOE_E_CONTRACT, -9),
    VALUE(MOE_LOG_ERROR, 0),
    VALUE(MOE_LOG_WARN, 1),
    VALUE(MOE_LOG_INFO, 2),
    VALUE(MOE_LOG_DEBUG, 3),
    VALUE(MOE_F64, 0),
    VALUE(MOE_F32, 1),
    VALUE(MOE_F16, 2),
    VALUE(MOE_BF16, 3),
    VALUE(MOE_I64, 4),
    VALUE(MOE_I32, 5),
    VALUE(MOE_U8, 6),
    VALUE(MOE_MAX_DIMS, 4),
    VALUE(MOE_ACT_SWIGLU, 0),
    VALUE(MOE_ACT_GEGLU, 1),
    VALUE(MOE_ACT_REGLU, 2),
    VALUE(MOE_ACT_SWIGLU_CLAMP, 3),
    VALUE(MOE_ACT_RELU2, 4),
    VALUE(MOE_ACT_RELU, 5),
    VALUE(MOE_ACT_GELU, 6),
    VALUE(MOE_ACT_SILU, 7),
    VALUE(MOE_GLU_CONCAT, 0),
    VALUE(MOE_GLU_INTERLEAVED, 1),
    VALUE(MOE_SCORE_SOFTMAX, 0),
    VALUE(MOE_SCORE_SOFTMAX_TOPK, 1),
    VALUE(MOE_SCORE_SIGMOID, 2),
    VALUE(MOE_SCORE_SPARSEMIXER, 3),
    VALUE(MOE_SELECT_TOPK, 0),
    VALUE(MOE_SELECT_GROUP_TOPK, 1),
    VALUE(MOE_SELECT_EXPERT_CHOICE, 2),
    VALUE(MOE_SELECT_CAPACITY, 3),
    VALUE(MOE_SELECT_TOKEN_ROUNDING, 4),
    VALUE(MOE_ROUND_NEAREST, 0),
    VALUE(MOE_ROUND_UP, 1),
    VALUE(MOE_ROUND_DOWN, 2),
    VALUE(MOE_ROUND_STOCHASTIC, 3),
    VALUE(MOE_ROUND_BALANCE, 4),
    VALUE(MOE_WEIGHT_ON_OUTPUT, 0),
    VALUE(MOE_WEIGHT_ON_INPUT, 1),
    VALUE(MOE_PASS_FWD, 1),
    VALUE(MOE_PASS_BWD, 2),
    VALUE(MOE_PASS_BOTH, 3),
    VALUE(MOE_PASS_FORWARD, 0),
    VALUE(MOE_PASS_BACKWARD, 1),
    VALUE(MOE_PASS_TOTAL, 2),
    VALUE(MOE_STAGE_ROUTER, 0),
    VALUE(MOE_STAGE_A, 3),
    VALUE(MOE_STAGE_DW1, 12),
    VALUE(MOE_STAGE_ROUTER_BACKWARD, 13),
    VALUE(MOE_STAGE_A_SHARED, 14),
    VALUE(MOE_STAGE_GATE_BACKWARD, 23),
    VALUE(MOE_STAGE_MASK, 24),
    VALUE(MOE_STAGE_X_GROUPED, 35),
    VALUE(MOE_STAGE_GROUPED, 44),
    VALUE(MOE_STAGE_ZERO_DW2, 56),
    VALUE(MOE_STAGE_DA_SHARED, 68),
    VALUE(MOE_T_X, 0),
    VALUE(MOE_T_DO, 1),
    VALUE(MOE_T_W_R, 2),
    VALUE(MOE_T_B_R, 3),
    VALUE(MOE_T_B_SELECT, 4),
    VALUE(MOE_T_W1, 5),
    VALUE(MOE_T_B1, 6),
    VALUE(MOE_T_W2, 7),
    VALUE(MOE_T_B2, 8),
    VALUE(MOE_T_W1_SHARED, 9),
    VALUE(MOE_T_W2_SHARED, 10),
    VALUE(MOE_T_W_GATE_SHARED, 11),
    VALUE(MOE_T_LOGITS, 12),
    VALUE(MOE_T_S, 13),
    VALUE(MOE_T_H, 14),
    VALUE(MOE_T_A, 15),
    VALUE(MOE_T_Y, 16),
    VALUE(MOE_T_O, 17),
    VALUE(MOE_T_DS, 18),
    VALUE(MOE_T_DH, 19),
    VALUE(MOE_T_DXP, 20),
    VALUE(MOE_T_DX, 21),
    VALUE(MOE_T_DW_R, 22),
    VALUE(MOE_T_DB_R, 23),
    VALUE(MOE_T_DW1, 24),
    VALUE(MOE_T_DB1, 25),
    VALUE(MOE_T_DW2, 26),
    VALUE(MOE_T_DB2, 27),
    VALUE(MOE_T_DW1_SHARED, 28),
    VALUE(MOE_T_DW2_SHARED, 29),
    VALUE(MOE_T_DW_GATE_SHARED, 30),
    VALUE(MOE_T_COUNT, 31),
    VALUE(MOE_ROLE_INPUT, 0),
    VALUE(MOE_ROLE_PARAM, 1),
    VALUE(MOE_ROLE_FORWARD, 2),
    VALUE(MOE_ROLE_BACKWARD, 3),
    VALUE(MOE_ROLE_STAGE, 4),
    VALUE(MOE_THROTTLE_POWER, 1),
    VALUE(MOE_THROTTLE_HEAT, 2),
    VALUE(MOE_THROTTLE_OTHER, 4),
};

static void expect_all(const number *rows, size_t count) {
    for (size_t i = 0; i < count; i++)
        cr_expect_eq(rows[i].is, rows[i].should,
                     "%s is %lld, plug-ins of interface %u were built with %lld", rows[i].what,
                     rows[i].is, PINNED_ABI, rows[i].should);
}

Test(abi, number_is_the_pinned_one) {
    cr_assert_eq(MOE_PLUGIN_ABI, PINNED_ABI);
    cr_assert_eq(MOE_PLUGIN_ABI_OLDEST, PINNED_OLDEST);
    cr_assert_str_eq(MOE_PLUGIN_SYMBOL, "moe_plugin_v");
}

Test(abi, abi_comes_first_in_the_table) {
    cr_assert_eq(offsetof(moe_plugin, abi), 0);
    cr_assert_eq(sizeof((moe_plugin){0}.abi), 4);
}

Test(abi, structs_keep_their_layout) {
    if (sizeof(void *) != 8 || sizeof(long) != 8)
        cr_skip("the numbers are those of LP64 machines");
    expect_all(layouts, sizeof layouts / sizeof *layouts);
}

Test(abi, enums_keep_their_values) {
    expect_all(values, sizeof values / sizeof *values);
}
