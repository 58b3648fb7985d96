/* Bytes: what is alive, what is cached, what moves. */
#include "layers.h"

#include <criterion/criterion.h>

/* SonicMoE's paper, section 3: 2Td + 4TKn bytes cached; ScatterMoE 2Td + 6TKn + 2TKd. */
Test(sim_memory, cached_memory_is_the_papers) {
    const moe_layer_desc d = layer_of(1536, 256, 128, 8);
    const double T = 24576, Td = T * 1536, TKn = T * 8 * 256, TKd = T * 8 * 1536;
    moe_gpu *gpu = load("h100-sxm");
    moe_prediction *sonic = predict(gpu, "sonicmoe", &d, 24576, MOE_PASS_BOTH);
    moe_prediction *scatter = predict(gpu, "scattermoe", &d, 24576, MOE_PASS_BOTH);
    cr_expect_float_eq(sonic->cached_bytes, 2 * Td + 4 * TKn, 1);
    cr_expect_float_eq(scatter->cached_bytes, 2 * Td + 6 * TKn + 2 * TKd, 1);
    cr_expect(sonic->peak_bytes < scatter->peak_bytes);
    moe_prediction_destroy(&sonic);
    moe_prediction_destroy(&scatter);
    moe_gpu_destroy(&gpu);
}

/* A wide shared expert beside a narrow routed one: forward X, both H, O and the shared A are alive
 * at once; backward what is cached, dO, dX, and the shared dA, dH and A. */
Test(sim_memory, shared_experts_take_memory) {
    moe_layer_desc d = layer_of(1024, 8, 1, 1);
    const double T = 512, row = 2 * T, n = 4096;
    moe_gpu *gpu = load("h100-sxm");
    d.n_shared = 4096;
    moe_prediction *forward = predict(gpu, "moeref", &d, 512, MOE_PASS_FWD);
    moe_prediction *both = predict(gpu, "moeref", &d, 512, MOE_PASS_BOTH);
    cr_expect_eq(forward->cached_bytes, row * (1024 + 16 + 2 * n));
    cr_expect_eq(forward->peak_bytes, forward->cached_bytes + row * (1024 + n));
    cr_expect(both->peak_bytes >= forward->cached_bytes + row * (2 * 1024 + n + 2 * n + n));
    moe_prediction_destroy(&forward), moe_prediction_destroy(&both);
    moe_gpu_destroy(&gpu);
}

/* Forward intensity without writing H: 3 / (2/d + 2/n + 3/(T rho)) FLOP/byte, rho = K/E (SonicMoE,
 * section 3), from the bytes of A and Y. */
Test(sim_memory, intensity_is_the_papers) {
    const moe_layer_desc d = layer_of(1536, 256, 128, 8);
    const double T = 24576, h_bytes = T * 8 * 2 * 256 * 2;
    moe_gpu *gpu = load("h100-sxm");
    moe_prediction *p = predict(gpu, "sonicmoe", &d, 24576, MOE_PASS_FWD);
    double bytes = -h_bytes;
    for (size_t i = 0; i < p->n_kernels; i++) {
        if (p->kernels[i].tile_m)
            bytes += p->kernels[i].cost.hbm_bytes;
    }
    cr_expect_float_eq(p->flops / bytes, 3 / (2. / 1536 + 2. / 256 + 3 / (T * 8 / 128)), 1e-6);
    moe_prediction_destroy(&p);
    moe_gpu_destroy(&gpu);
}
