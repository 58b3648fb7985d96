/* The binary interface between the library and plug-ins, number by number, on LP64 machines.
 *
 * When one of these fails, plug-ins built before the change would read garbage: raise
 * MOE_PLUGIN_ABI and MOE_PLUGIN_ABI_OLDEST in plugin.h, then PINNED_ABI, PINNED_OLDEST and the
 * numbers here. An optional slot added at the table's end raises MOE_PLUGIN_ABI alone. Enum values
 * may only be added at the end. */
#include "pinned_values.h"

#include <criterion/criterion.h>
#include <stddef.h>

#define PINNED_ABI    4u
#define PINNED_OLDEST 1u

static const number layouts[] = {
    SIZE(moe_tensor, 48),
    FIELD(moe_tensor, data, 0),
    FIELD(moe_tensor, dtype, 8),
    FIELD(moe_tensor, ndim, 12),
    FIELD(moe_tensor, shape, 16),
    SIZE(moe_tensors, 1488),
    FIELD(moe_tensors, t, 0),
    SIZE(moe_router_desc, 80),
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
    FIELD(moe_router_desc, capacity_group, 72),
    SIZE(moe_layer_desc, 160),
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
    SIZE(moe_view, 88),
    FIELD(moe_view, data, 0),
    FIELD(moe_view, dtype, 8),
    FIELD(moe_view, ndim, 12),
    FIELD(moe_view, place, 16),
    FIELD(moe_view, device_index, 20),
    FIELD(moe_view, shape, 24),
    FIELD(moe_view, stride, 56),
    SIZE(moe_operator_use, 16),
    FIELD(moe_operator_use, dtype, 0),
    FIELD(moe_operator_use, pass, 4),
    FIELD(moe_operator_use, routed, 8),
    FIELD(moe_operator_use, unused, 12),
    SIZE(moe_operator_support, 184),
    FIELD(moe_operator_support, arithmetic, 0),
    FIELD(moe_operator_support, deterministic, 4),
    FIELD(moe_operator_support, place, 8),
    FIELD(moe_operator_support, device_index, 12),
    FIELD(moe_operator_support, alignment, 16),
    FIELD(moe_operator_support, free_dtypes, 20),
    FIELD(moe_operator_support, reason, 24),
    SIZE(moe_operator_sizes, 32),
    FIELD(moe_operator_sizes, columns, 0),
    FIELD(moe_operator_sizes, cached, 8),
    FIELD(moe_operator_sizes, forward, 16),
    FIELD(moe_operator_sizes, backward, 24),
    SIZE(moe_call, 2912),
    FIELD(moe_call, tokens, 0),
    FIELD(moe_call, columns, 8),
    FIELD(moe_call, t, 16),
    FIELD(moe_call, index, 2744),
    FIELD(moe_call, beta, 2832),
    FIELD(moe_call, unused, 2836),
    FIELD(moe_call, seed, 2840),
    FIELD(moe_call, cached, 2848),
    FIELD(moe_call, cached_bytes, 2856),
    FIELD(moe_call, workspace, 2864),
    FIELD(moe_call, workspace_bytes, 2872),
    FIELD(moe_call, converted, 2880),
    FIELD(moe_call, converted_bytes, 2888),
    FIELD(moe_call, stream, 2896),
    FIELD(moe_call, log, 2904),
    SIZE(moe_operator_slots, 88),
    FIELD(moe_operator_slots, supports, 0),
    FIELD(moe_operator_slots, open, 8),
    FIELD(moe_operator_slots, close, 16),
    FIELD(moe_operator_slots, sizes, 24),
    FIELD(moe_operator_slots, converted_bytes, 32),
    FIELD(moe_operator_slots, convert, 40),
    FIELD(moe_operator_slots, forward, 48),
    FIELD(moe_operator_slots, backward, 56),
    FIELD(moe_operator_slots, allocate, 64),
    FIELD(moe_operator_slots, free, 72),
    FIELD(moe_operator_slots, copy, 80),
    SIZE(moe_plugin, 160), /* 136 in interface 1, 144 in 2, 152 in 3 */
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
    FIELD(moe_plugin, operators, 144),
    FIELD(moe_plugin, arithmetic, 152),
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
