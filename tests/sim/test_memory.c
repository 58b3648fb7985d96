/* Bytes: what is alive, what is cached, what moves. */
#include "layers.h"
#include "moeref/reference.h"

#include <criterion/criterion.h>
#include <math.h>

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
    cr_expect_float_eq(p->pass[MOE_PASS_TOTAL].flops / bytes,
                       3 / (2. / 1536 + 2. / 256 + 3 / (T * 8 / 128)), 1e-6);
    moe_prediction_destroy(&p);
    moe_gpu_destroy(&gpu);
}

/* Sizes of a gated layer's activations in bytes; h = 2 n. Balanced over experts of 256 rows, so
 * that methods which pad to 128 rows pad nothing. */
typedef struct sizes {
    double Td, Pd, Pn, Ph;
} sizes;

static sizes sizes_of(const moe_layer_desc *d, double T) {
    const double P = T * d->K, row = 2;
    return (sizes){row * T * d->d, row * P * d->d, row * P * d->n, row * P * 2 * d->n};
}

static double most(double a, double b, double c) {
    return fmax(a, fmax(b, c));
}

static void expect_memory(const moe_gpu *gpu, const char *method, const moe_layer_desc *d, int pass,
                          double cached, double peak) {
    moe_prediction *p = predict(gpu, method, d, 1024, pass);
    cr_expect_eq(p->cached_bytes, cached, "%s: cached %g, not %g", method, p->cached_bytes, cached);
    cr_expect_eq(p->peak_bytes, peak, "%s: peak %g, not %g", method, p->peak_bytes, peak);
    moe_prediction_destroy(&p);
}

/* What is alive at once when most is: by hand from what each system keeps and when it lets go. */
static void expect_forward(const moe_gpu *gpu, const moe_layer_desc *d) {
    const sizes s = sizes_of(d, 1024);
    const double Td = s.Td, Pd = s.Pd, Pn = s.Pn, Ph = s.Ph;
    const double fused = Td + Ph, scatter = Td + Ph + Pn + Pd, padded = 2 * Pd + Td + 4 * Pn;
    const double grouped = Td + Pd + Ph + Pn + Pd, deep = Td + Pd + Ph;
    const int fwd = MOE_PASS_FWD;
    expect_memory(gpu, "sonicmoe", d, fwd, fused, fused + Pd + fmax(Pn, Td));
    expect_memory(gpu, "moeref", d, fwd, fused, fused + Pd + fmax(Pn, Td));
    expect_memory(gpu, "scattermoe", d, fwd, scatter, scatter + Td);
    expect_memory(gpu, "grouped_mm", d, fwd, grouped, grouped + fmax(Pd, Td));
    expect_memory(gpu, "megablocks", d, fwd, padded, padded + Pd + Td);
    expect_memory(gpu, "momoe", d, fwd, Td, Td + Pd + fmax(Pn, Td));
    expect_memory(gpu, "deepgemm", d, fwd, deep, deep + Pd + fmax(Pn, Td));
    expect_memory(gpu, "cublas", d, fwd, Pd + Ph + Pn, 2 * Pd + Ph + Pn);
    expect_memory(gpu, "triton_fused_moe", d, fwd, 0, Td + Ph + Pn + Pd + Td);
    expect_memory(gpu, "sglang_fused_moe", d, fwd, 0, Td + Ph + Pn + Pd + Td);
    expect_memory(gpu, "cutlass_moe", d, fwd, 0,
                  Td + fmax(Pn + Pd, most(Pd + Ph, Ph + Pn, Pd + Td)));
}

Test(sim_memory, forward_by_hand) {
    moe_gpu *gpu = load("h100-sxm");
    const moe_layer_desc wide = layer_of(512, 2048, 8, 2), narrow = layer_of(2048, 128, 8, 2),
                         one = layer_of(1024, 64, 4, 1);
    expect_forward(gpu, &wide);
    expect_forward(gpu, &narrow);
    expect_forward(gpu, &one);
    moe_gpu_destroy(&gpu);
}

/* Beside what is cached, O, dO and dX: the largest set of gradients that is alive at once. */
static void expect_both(const moe_gpu *gpu, const moe_layer_desc *d) {
    const sizes s = sizes_of(d, 1024);
    const double Td = s.Td, Pd = s.Pd, Pn = s.Pn, Ph = s.Ph, ends = 2 * Td;
    const double scatter = Td + Ph + Pn + Pd, grouped = Td + Pd + Ph + Pn + Pd;
    const int both = MOE_PASS_BOTH;
    expect_memory(gpu, "scattermoe", d, both, scatter, scatter + ends + Pd + Pn + Ph + Td);
    expect_memory(gpu, "grouped_mm", d, both, grouped, grouped + ends + Pd + Pn + Ph + Pd + Td);
    expect_memory(gpu, "cublas", d, both, Pd + Ph + Pn, 2 * Pd + Ph + Pn + Pd + Pn + Pd + Ph);
}

Test(sim_memory, backward_by_hand) {
    moe_gpu *gpu = load("h100-sxm");
    const moe_layer_desc wide = layer_of(512, 2048, 8, 2), narrow = layer_of(2048, 128, 8, 2);
    expect_both(gpu, &wide);
    expect_both(gpu, &narrow);
    moe_gpu_destroy(&gpu);
}

/* The ledger's tensors against those that the reference allocates, of which each value takes eight
 * bytes in place of two. */
Test(sim_memory, tensors_are_the_reference_s) {
    static const struct {
        const char *name;
        moe_tensor_id id;
    } rows[] = {{"H", MOE_T_H},     {"A", MOE_T_A},      {"Y", MOE_T_Y},   {"O", MOE_T_O},
                {"dH", MOE_T_DH},   {"dX~", MOE_T_DXP},  {"dX", MOE_T_DX}, {"dW1", MOE_T_DW1},
                {"dW2", MOE_T_DW2}, {"dW_r", MOE_T_DW_R}};
    moe_case c;
    moe_problem *problem = NULL;
    moe_reference_result *r = NULL;
    cr_assert_eq(moe_case_parse("T=50 d=24 n=20 E=5 K=3", NULL, &c), MOE_OK);
    cr_assert_eq(moe_problem_from_case(&c, NULL, &problem), MOE_OK);
    cr_assert_eq(moe_reference_problem(problem, 1, NULL, &r), MOE_OK);
    moe_gpu *gpu = load("h100-sxm");
    moe_prediction *p = predict(gpu, "moeref", &c.layer, c.T, MOE_PASS_BOTH);
    size_t met = 0;
    for (size_t i = 0; i < p->n_tensors; i++) {
        for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
            if (strcmp(rows[k].name, p->tensors[i].name) != 0)
                continue;
            cr_expect_eq(4 * p->tensors[i].bytes, (double)moe_tensor_bytes(&r->out.t[rows[k].id]),
                         "%s", rows[k].name);
            met++;
        }
    }
    cr_expect_eq(met, sizeof rows / sizeof *rows);
    moe_prediction_destroy(&p);
    moe_gpu_destroy(&gpu);
    moe_reference_result_destroy(&r);
    moe_problem_destroy(&problem);
    moe_case_destroy(&c);
}

static double bytes_at_peak(const moe_prediction *p) {
    double sum = 0;
    for (size_t i = 0; i < p->n_tensors; i++)
        sum += moe_prediction_at_peak(p, i) ? p->tensors[i].bytes : 0;
    return sum;
}

static double bytes_of_kind(const moe_prediction *p, int32_t kind) {
    double sum = 0;
    for (size_t i = 0; i < p->n_tensors; i++)
        sum += p->tensors[i].kind == kind ? p->tensors[i].bytes : 0;
    return sum;
}

/* The tensors are the sums: what is alive at the peak, what is cached, and the weights. */
Test(sim_memory, tensors_add_up) {
    moe_layer_desc d = layer_of(512, 256, 16, 4);
    moe_gpu *gpu = load("h100-sxm");
    for (int shared = 0; shared < 2; shared++) {
        d.n_shared = shared * 128;
        for (const char *const *m = moe_methods(); *m; m++) {
            const int pass = has_backward(*m) ? MOE_PASS_BOTH : MOE_PASS_FWD;
            moe_prediction *p = predict(gpu, *m, &d, 1000, pass);
            cr_expect_eq(bytes_at_peak(p), p->peak_bytes, "%s", *m);
            cr_expect_eq(bytes_of_kind(p, MOE_LIVE_CACHED), p->cached_bytes, "%s", *m);
            cr_expect_eq(bytes_of_kind(p, MOE_LIVE_WEIGHT) + bytes_of_kind(p, MOE_LIVE_GRADIENT),
                         p->param_bytes, "%s", *m);
            moe_prediction_destroy(&p);
        }
    }
    moe_gpu_destroy(&gpu);
}

/* SonicMoE's claims, at its 7B layer and as its experts are cut finer while n K and n E stay: what
 * it caches is constant, and its peak grows slower than ScatterMoE's and lies 45 % below. */
Test(sim_memory, fine_experts_cost_no_cache) {
    moe_gpu *gpu = load("h100-sxm");
    double first = 0, before = 1;
    for (int64_t n = 1024; n >= 128; n /= 2) {
        const moe_layer_desc d = layer_of(1536, n, 32768 / n, 2048 / n);
        moe_prediction *sonic = predict(gpu, "sonicmoe", &d, 24576, MOE_PASS_BOTH);
        moe_prediction *scatter = predict(gpu, "scattermoe", &d, 24576, MOE_PASS_BOTH);
        first = first > 0 ? first : sonic->cached_bytes;
        cr_expect_eq(sonic->cached_bytes, first);
        const double ratio = sonic->peak_bytes / scatter->peak_bytes;
        cr_expect_lt(ratio, before, "n=%d: %g", (int)n, ratio);
        before = ratio;
        if (n == 256)
            cr_expect(ratio < 0.55, "peak %g of ScatterMoE's", ratio);
        moe_prediction_destroy(&sonic), moe_prediction_destroy(&scatter);
    }
    moe_gpu_destroy(&gpu);
}
