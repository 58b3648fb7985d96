/* What each kernel of each method moves: by hand from what it reads and writes, each byte once.
 * Uneven experts, one of them empty, so that padding and unread weights show. */
#include "layers.h"

#include <criterion/criterion.h>
#include <string.h>

/* The layer, and the sizes of its 2-byte tensors. R counts rows where experts are padded to 128:
 * 18 tiles. */
enum { T = 1024, D = 512, N = 128, E = 8, ACTIVE = 7, K = 2, P = T * K, R = 18 * 128 };
enum { Td = 2 * T * D, Pd = 2 * P * D, Pn = 2 * P * N, Ph = 2 * Pn };
enum { Rd = 2 * R * D, Rn = 2 * R * N, Rh = 2 * Rn };
enum { ONE = 2 * D * N, W2 = E * ONE, W1 = 2 * W2, USED2 = ACTIVE * ONE, USED1 = 2 * USED2 };
static const int64_t counts[E] = {316, 196, 512, 0, 128, 384, 300, 212};

typedef struct row {
    const char *name;
    double bytes;
} row;

static void expect(const char *method, const moe_workload *w, const row *rows, size_t count) {
    moe_gpu *gpu = load("h100-sxm");
    moe_prediction *p = NULL;
    cr_assert_eq(moe_predict(gpu, method, w, NULL, &p), MOE_OK, "%s", method);
    cr_expect_eq(p->n_kernels, count, "%s: %zu kernels", method, p->n_kernels);
    for (size_t i = 0; i < count && i < p->n_kernels; i++) {
        const moe_cost *cost = &p->kernels[i].cost;
        cr_expect_str_eq(cost->name, rows[i].name, "%s", method);
        cr_expect_float_eq(cost->hbm_bytes, rows[i].bytes, 1e-6, "%s %s: %g bytes, not %g", method,
                           cost->name, cost->hbm_bytes, rows[i].bytes);
    }
    moe_prediction_destroy(&p);
    moe_gpu_destroy(&gpu);
}

#define EXPECT(METHOD, ROWS) expect(METHOD, &plain, ROWS, sizeof ROWS / sizeof *ROWS)

static moe_layer_desc layer;
static moe_workload plain;

static void set_up(void) {
    layer = layer_of(D, N, E, K);
    plain = (moe_workload){.layer = &layer, .tokens = T, .counts = counts};
}

TestSuite(sim_bytes, .init = set_up);

/* Weight gradients read an operand again where tiles that run together share too few of it: here
 * dW2 does not, of dW1's columns d every fourth of four tiles needs dH again. */
Test(sim_bytes, scattermoe) {
    static const row rows[] = {
        {"sort", P * 2 * 192},    {"H", Pd + USED1 + Ph},  {"silu", 2 * Pn},
        {"A", Ph + Pn},           {"Y", Pn + USED2 + Pd},  {"O", Pd + 4 * P + Td},
        {"dS", Pd + Td + 4 * P},  {"dY grouped", 2 * Pd},  {"zero dW2", W2},
        {"dW2", Pd + Pn + W2},    {"dA", Pd + USED2 + Pn}, {"d up", 3 * Pn},
        {"d silu", 3 * Pn},       {"d gate", 3 * Pn},      {"dH", 2 * Ph},
        {"X grouped", 2 * Pd},    {"zero dW1", W1},        {"dW1", Ph + Pd + 3 * Ph + W1},
        {"dXp", Ph + USED1 + Pd}, {"dX", Pd + Td},
    };
    EXPECT("scattermoe", rows);
}

Test(sim_bytes, grouped_mm) {
    static const row rows[] = {
        {"X grouped", 2 * Pd},   {"H", Pd + USED1 + Ph},   {"A", Ph + Pn},
        {"Y", Pn + USED2 + Pd},  {"Y by token", 2 * Pd},   {"O", Pd + Td},
        {"dS", Pd + Td + 4 * P}, {"zero dY", Pd},          {"dY", Td + 2 * Pd},
        {"dW2", Pd + Pn + W2},   {"dA", Pd + USED2 + Pn},  {"dH", 2 * Ph + Pn},
        {"dW1", Pd + Ph + W1},   {"dXp", Ph + USED1 + Pd}, {"zero dX", Td},
        {"sort", P * 2 * 48},    {"dX", Pd + Td},
    };
    EXPECT("grouped_mm", rows);
}

/* Copies into padded rows touch those of pairs only; all else sees the padding. */
Test(sim_bytes, megablocks) {
    static const row rows[] = {
        {"sort", P * 2 * 24},
        {"zero X", Rd},
        {"X grouped", 2 * Pd},
        {"H gate", Rd + USED2 + Rn},
        {"H up", Rd + USED2 + Rn},
        {"silu", 2 * Rn},
        {"A", 3 * Rn},
        {"Y", Rn + USED2 + Rd},
        {"Y by token", 2 * Pd},
        {"O", Pd + Td},
        {"zero dY", Rd},
        {"dY grouped", 2 * Pd},
        {"dS", 2 * Pd + 4 * P},
        {"dA", Rd + USED2 + Rn},
        {"dW2", Rd + Rn + W2},
        {"d silu", 3 * Rn},
        {"d up", 3 * Rn},
        {"dXp up", Rn + USED2 + Rd},
        {"dW1 up", Rd + Rn + W2},
        {"d gate", 3 * Rn},
        {"dXp gate", Rn + USED2 + Rd},
        {"dW1 gate", Rd + Rn + W2},
        {"dXp", 3 * Rd},
        {"dXp by token", 2 * Pd},
        {"dX", Pd + Td},
    };
    EXPECT("megablocks", rows);
}

/* Weight gradients are added in fp32 to zeros, and rounded. */
Test(sim_bytes, deepgemm) {
    static const row rows[] = {
        {"sort", P * 2 * 24},     {"X grouped", Pd + Rd},    {"H", Rd + USED1 + Rh},
        {"A", Rh + Rn},           {"Y", Rn + USED2 + Rd},    {"O", Pd + Td},
        {"dY grouped", Pd + Rd},  {"dA", Rd + USED2 + Rn},   {"dH", 2 * (Rh + Rn)},
        {"zero dW2", 2 * W2},     {"dW2", Rd + Rn + 4 * W2}, {"dW2 bf16", 3 * W2},
        {"dXp", Rh + USED1 + Rd}, {"zero dW1", 2 * W1},      {"dW1", Rd + Rh + 4. * W1},
        {"dW1 bf16", 3 * W1},     {"dX", Pd + Td},
    };
    EXPECT("deepgemm", rows);
}

Test(sim_bytes, momoe) {
    enum { MASK = 4 * E * T };
    static const row rows[] = {
        {"mask", 26 * MASK},    {"count", MASK + 8 * E},  {"sort", MASK + 8 * P},
        {"A", Pd + USED1 + Pn}, {"A empty", 0},           {"Y", Pn + USED2 + Pd},
        {"Y empty", 0},         {"O", Pd + Td},           {"grouped", 4 * Pd},
        {"grouped empty", 0},   {"H", Pd + USED1},        {"dH", Pd + USED2 + Ph + Pn},
        {"dH empty", 0},        {"dW2", Pd + Pn + W2},    {"dW1", Pd + Ph + W1},
        {"zero dS", MASK},      {"dXp", Ph + USED1 + Pd}, {"Y again", Pn + USED2 + Pd + 4 * P},
        {"dXp empty", 0},       {"dX", Pd + Td},
    };
    EXPECT("momoe", rows);
}

/* dS leaves dH as one partial sum for each tile of columns: of N = 128, one. The project's own dX
 * comes last. */
Test(sim_bytes, fused) {
    row rows[] = {
        {"metadata", 24 * P},
        {"A", Pd + USED1 + Ph + Pn},
        {"Y", Pn + USED2 + Pd},
        {"O", Pd + 12 * P + Td},
        {"dH", Pd + Ph + 4 * P + USED2 + Ph + Pn + 4 * P},
        {"dS", 8 * P},
        {"dW2", Pd + Pn + W2},
        {"dXp", Ph + USED1 + Pd},
        {"dX", Pd + 8 * P + Td},
        {"dW1", Pd + Ph + W1},
    };
    EXPECT("sonicmoe", rows);
    const row dx = rows[8];
    rows[8] = rows[9];
    rows[9] = dx;
    EXPECT("moeref", rows);
}

#define HALF_LINES 0.32211 /* of sglang_fused_moe in h100-sxm.json */

/* Of logits that are given: 2 bytes each. SGLang's fallback loses a share on halves of lines. */
Test(sim_bytes, inference) {
    static const row tuned[] = {
        {"topk", 2 * T * E + 12 * P}, {"align", 16 * P}, {"H", Td + USED1 + Ph}, {"A", Ph + Pn},
        {"Y", Pn + USED2 + Pd},       {"O", Pd + Td},
    };
    static const row fallback[] = {
        {"topk", 2 * T * E + 12 * P},
        {"align", 16 * P},
        {"H", Td + (1 + HALF_LINES) * USED1 + Ph},
        {"A", Ph + Pn},
        {"Y", Pn + (1 + HALF_LINES) * USED2 + Pd},
        {"O", Pd + Td},
    };
    static const row cutlass[] = {
        {"topk", 2 * T * E + 12 * P},
        {"sort", 48 * P},
        {"X grouped", Td + Pd},
        {"H", Pd + USED1 + Ph},
        {"A", Ph + Pn},
        {"Y", Pn + USED2 + Pd},
        {"O", Pd + Td},
    };
    plain.pass = MOE_PASS_FWD;
    EXPECT("triton_fused_moe", tuned);
    EXPECT("sglang_fused_moe", fallback);
    EXPECT("cutlass_moe", cutlass);
}

/* What any method adds for a router and a shared expert of width S: dense products of all tokens.
 * Logits and their gradients are of 4 bytes between kernels, of 2 where a product has them. */
Test(sim_bytes, router_and_shared_expert) {
    enum { S = 256, Wr = 2 * E * D, TE = 2 * T * E, Ts = 2 * T * S, S2 = 2 * S * D };
    static const row rows[] = {
        {"router", Td + Wr + TE},
        {"topk", 2 * TE + 8 * P},
        {"H", Pd + W1 + Ph},
        {"Y", Pn + W2 + Pd},
        {"H_shared", Td + 2 * S2 + 2 * Ts},
        {"A_shared", 3 * Ts},
        {"O_shared", Ts + S2 + Td},
        {"dA", Pd + W2 + Pn},
        {"dW2", Pd + Pn + W2},
        {"dXp", Ph + W1 + Pd},
        {"dW1", Ph + Pd + W1},
        {"dA_shared", Td + S2 + Ts},
        {"dH_shared", 6 * Ts},
        {"dW2_shared", Td + Ts + S2},
        {"dX_shared", 2 * Ts + 2 * S2 + Td},
        {"dW1_shared", 2 * Ts + Td + 2 * S2},
        {"d_logits", 4 * TE + 8 * P},
        {"dX router", TE + Wr + Td},
        {"dW_r", TE + Td + Wr},
    };
    layer.n_shared = S;
    plain.with_router = 1;
    EXPECT("cublas", rows);
}

/* The same with projections around the experts: tokens, router and shared expert are M wide. */
Test(sim_bytes, projections) {
    enum { S = 256, M = 768, Wr = 2 * E * M, TE = 2 * T * E, Ts = 2 * T * S, S2 = 2 * S * M };
    enum { Tm = 2 * T * M, Wp = 2 * D * M };
    static const row rows[] = {
        {"router", Tm + Wr + TE},
        {"topk", 2 * TE + 8 * P},
        {"project in", Tm + Wp + Td},
        {"H", Pd + W1 + Ph},
        {"Y", Pn + W2 + Pd},
        {"project out", Td + Wp + Tm},
        {"H_shared", Tm + 2 * S2 + 2 * Ts},
        {"A_shared", 3 * Ts},
        {"O_shared", Ts + S2 + Tm},
        {"dW_out", Tm + Td + Wp},
        {"dO projected", Tm + Wp + Td},
        {"dA", Pd + W2 + Pn},
        {"dW2", Pd + Pn + W2},
        {"dXp", Ph + W1 + Pd},
        {"dW1", Ph + Pd + W1},
        {"dX projected", Td + Wp + Tm},
        {"dW_in", Td + Tm + Wp},
        {"dA_shared", Tm + S2 + Ts},
        {"dH_shared", 6 * Ts},
        {"dW2_shared", Tm + Ts + S2},
        {"dX_shared", 2 * Ts + 2 * S2 + Tm},
        {"dW1_shared", 2 * Ts + Tm + 2 * S2},
        {"d_logits", 4 * TE + 8 * P},
        {"dX router", TE + Wr + Tm},
        {"dW_r", TE + Tm + Wr},
    };
    layer.n_shared = S;
    plain.with_router = 1;
    plain.hidden = M;
    EXPECT("cublas", rows);
}
