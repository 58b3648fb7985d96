/* Experts between two projections: what these cost, keep and hold, by hand, for every method. */
#include "layers.h"
#include "moeref/case.h"
#include "moeref/node.h"

#include <criterion/criterion.h>
#include <math.h>

/* Tokens are M wide, experts D. */
enum { T = 1024, M = 1536, D = 512, N = 256, E = 16, K = 4, S = 384, P = T * K };

static moe_prediction *predict_projected(const moe_gpu *gpu, const char *method,
                                         const moe_layer_desc *d, int64_t hidden, int32_t pass) {
    const moe_workload w = {
        .layer = d, .tokens = T, .pass = pass, .with_router = 1, .hidden = hidden};
    moe_prediction *p = NULL;
    cr_assert_eq(moe_predict(gpu, method, &w, NULL, &p), MOE_OK, "%s", method);
    return p;
}

static int32_t passes_of(const char *method) {
    return has_backward(method) ? MOE_PASS_BOTH : MOE_PASS_FWD;
}

static const moe_kernel *find_kernel(const moe_prediction *p, const char *name) {
    for (size_t i = 0; i < p->n_kernels; i++)
        if (strcmp(p->kernels[i].cost.name, name) == 0)
            return &p->kernels[i];
    return NULL;
}

static double bytes_of(const moe_prediction *p, const char *name) {
    for (size_t i = 0; i < p->n_tensors; i++)
        if (strcmp(p->tensors[i].name, name) == 0)
            return p->tensors[i].bytes;
    return -1;
}

/* The products are those of a vendor library, of all tokens: [T][M] to [T][D] and back. */
Test(sim_projections, are_dense_products) {
    static const struct {
        const char *name;
        int64_t m, n, k;
        int32_t backward;
    } products[] = {{"project in", T, D, M, 0},   {"project out", T, M, D, 0},
                    {"dW_out", M, D, T, 1},       {"dO projected", T, D, M, 1},
                    {"dX projected", T, M, D, 1}, {"dW_in", D, M, T, 1}};
    const moe_layer_desc d = layer_of(D, N, E, K);
    moe_gpu *gpu = load("h100-sxm");
    moe_prediction *p = predict_projected(gpu, "cublas", &d, M, MOE_PASS_BOTH), *alone = NULL;
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        const moe_kernel *k = find_kernel(p, products[i].name);
        cr_assert(k, "%s", products[i].name);
        cr_assert_eq(moe_predict_gemm(gpu, products[i].m, products[i].n, products[i].k, 1, NULL,
                                      NULL, &alone),
                     MOE_OK);
        cr_expect_eq(k->cost.flops, 2.0 * T * M * D, "%s", products[i].name);
        cr_expect_eq(k->cost.hbm_bytes, alone->kernels[0].cost.hbm_bytes);
        cr_expect_eq(k->cost.floor_us, alone->kernels[0].cost.floor_us);
        cr_expect_eq(k->backward, products[i].backward);
        moe_prediction_destroy(&alone);
    }
    moe_prediction_destroy(&p);
    moe_gpu_destroy(&gpu);
}

/* Forward 6 P D N, the router's 2 T E M, the shared expert's 6 T M S and the projections' 4 T M D;
 * backward twice that. Elsewhere a logit that is given costs nothing. */
Test(sim_projections, model_flops) {
    moe_layer_desc d = layer_of(D, N, E, K);
    const double experts = 6.0 * P * D * N, shared = 6.0 * T * M * S, projections = 4.0 * T * M * D;
    const double router = 2.0 * T * E * M;
    moe_gpu *gpu = load("h100-sxm");
    d.n_shared = S;
    for (const char *const *m = moe_methods(); *m; m++) {
        moe_prediction *p = predict_projected(gpu, *m, &d, M, passes_of(*m));
        const double given = find_kernel(p, "router") ? router : 0;
        const double forward = experts + shared + projections + given;
        cr_expect_float_eq(p->pass[MOE_PASS_FORWARD].flops / forward, 1, 1e-12, "%s", *m);
        /* The project's own router has a logit's gradient in two 16-bit parts: one product more. */
        const double split = strcmp(*m, "moeref") == 0 ? router : 0;
        if (has_backward(*m))
            cr_expect_float_eq(p->pass[MOE_PASS_BACKWARD].flops / (2 * forward + split), 1, 1e-12,
                               "%s", *m);
        moe_prediction_destroy(&p);
    }
    moe_gpu_destroy(&gpu);
}

/* Weights of the experts are D wide, of router and shared expert M, of each projection D x M; a
 * selection bias has no gradient. Biases count too. */
Test(sim_projections, parameters) {
    const double experts = 3.0 * E * D * N, router = (double)E * M, shared = 3.0 * M * S + M;
    const double biases = E + E * (2.0 * N + D), projections = 2.0 * M * D;
    const double all = experts + router + shared + biases + projections;
    moe_layer_desc d = layer_of(D, N, E, K);
    moe_gpu *gpu = load("h100-sxm");
    d.n_shared = S, d.shared_gate = d.expert_bias = d.router.bias = d.router.select_bias = 1;
    for (const char *const *m = moe_methods(); *m; m++) {
        moe_prediction *p = predict_projected(gpu, *m, &d, M, passes_of(*m));
        const double gradients = has_backward(*m) ? all : 0;
        cr_expect_eq(p->param_bytes, 2 * (all + E + gradients), "%s: %g", *m, p->param_bytes);
        cr_expect_eq(bytes_of(p, "W_in"), 2.0 * M * D);
        cr_expect_eq(bytes_of(p, "W_out"), 2.0 * M * D);
        cr_expect_eq(bytes_of(p, "dW_out"), has_backward(*m) ? 2.0 * M * D : -1);
        cr_expect_eq(bytes_of(p, "db_select"), -1);
        moe_prediction_destroy(&p);
    }
    moe_gpu_destroy(&gpu);
}

/* Beside what the experts keep for the backward pass: the tokens, and the experts' sum, which the
 * gradient of the second projection needs. At the peak, too. */
Test(sim_projections, memory) {
    const moe_layer_desc d = layer_of(D, N, E, K);
    const double tokens = 2.0 * T * M, rows = 2.0 * T * D;
    moe_gpu *gpu = load("h100-sxm");
    for (const char *const *m = moe_methods(); *m; m++) {
        moe_prediction *inner = predict(gpu, *m, &d, T, passes_of(*m));
        moe_prediction *p = predict_projected(gpu, *m, &d, M, passes_of(*m));
        cr_expect_eq(p->cached_bytes, inner->cached_bytes + tokens + rows, "%s", *m);
        cr_expect_eq(bytes_of(p, "X hidden"), tokens);
        cr_expect_eq(bytes_of(p, "O"), rows);
        cr_expect_eq(bytes_of(p, "O hidden"), tokens);
        if (has_backward(*m)) {
            cr_expect_eq(bytes_of(p, "dO hidden"), tokens);
            cr_expect_eq(bytes_of(p, "dX hidden"), tokens);
        }
        double alive = 0;
        for (size_t i = 0; i < p->n_tensors; i++)
            alive += moe_prediction_at_peak(p, i) ? p->tensors[i].bytes : 0;
        cr_expect_eq(alive, p->peak_bytes, "%s", *m);
        moe_prediction_destroy(&inner), moe_prediction_destroy(&p);
    }
    /* SonicMoE's kernels, forward: tokens, X, H and Y, and A or the sum. */
    const double Pd = 2.0 * P * D, Pn = 2.0 * P * N;
    moe_prediction *p = predict_projected(gpu, "sonicmoe", &d, M, MOE_PASS_FWD);
    cr_expect_eq(p->peak_bytes, tokens + rows + 2 * Pn + Pd + fmax(Pn, rows));
    moe_prediction_destroy(&p);
    moe_gpu_destroy(&gpu);
}

/* Without the key, and in a layer of that width, nothing is added. */
Test(sim_projections, a_plain_layer_has_none) {
    const moe_layer_desc d = layer_of(D, N, E, K);
    moe_gpu *gpu = load("h100-sxm");
    moe_prediction *p = predict_projected(gpu, "moeref", &d, 0, MOE_PASS_BOTH);
    cr_expect_null(find_kernel(p, "project in"));
    cr_expect_eq(bytes_of(p, "W_in"), -1);
    moe_prediction_destroy(&p);
    moe_gpu_destroy(&gpu);
}

#define LINE "T=2048 d=512 n=256 E=16 K=4 route=uniform seed=3"

static moe_ep_prediction *spread(const char *method, const char *line) {
    moe_node *node = NULL;
    moe_gpu *gpu = NULL;
    moe_case c;
    moe_ep_prediction *p = NULL;
    const moe_workload state = {0};
    const moe_ep_options o = {.method = method, .ep = 8, .tp = 1};
    cr_assert_eq(moe_node_load("h100-x8", NULL, &node), MOE_OK);
    cr_assert_eq(moe_gpu_load(moe_node_gpu(node), NULL, &gpu), MOE_OK);
    cr_assert_eq(moe_case_parse(line, NULL, &c), MOE_OK);
    cr_assert_eq(moe_predict_ep(node, gpu, &c, &state, &o, NULL, &p), MOE_OK, "%s", method);
    moe_case_destroy(&c);
    moe_gpu_destroy(&gpu);
    moe_node_destroy(&node);
    return p;
}

/* Over ranks rows cross as wide as the experts see them, and each rank projects its own tokens. */
Test(sim_projections, over_ranks) {
    static const char *const methods[] = {"ep_serial", "allreduce", "deepep"};
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
        moe_ep_prediction *inner = spread(methods[m], LINE);
        moe_ep_prediction *p = spread(methods[m], LINE " hidden=1536");
        double around = 0;
        for (size_t i = 0; i < p->n_tasks; i++)
            around += strcmp(p->tasks[i].name, "projections") == 0 ? p->tasks[i].us : 0;
        cr_expect_eq(p->sent_bytes, inner->sent_bytes, "%s", methods[m]);
        cr_expect(around > 0);
        cr_expect_float_eq(p->serial_us, inner->serial_us + around, 1e-6, "%s", methods[m]);
        moe_ep_prediction_destroy(&inner), moe_ep_prediction_destroy(&p);
    }
}
