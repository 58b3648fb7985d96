/* A GPU that is worse in one number is never faster, whatever the layer: two thousand drawn ones,
 * of all methods on all shipped GPUs. Nor is anything faster than its floor, or outside its
 * interval. */
#include "layers.h"

#include <criterion/criterion.h>
#include <math.h>

enum { CASES = 20, WORSE = 6 };

/* Sums of the same numbers in another order. */
#define SAME 1e-9
/* Beside a slower L2 tiles draw less power, and their clock falls less: the model has that a little
 * too well where epilogues are long, and chooses tiles by what they take before the clock falls. */
#define LESS_L2 0.02

static const struct {
    const char *change[2];
    double less;
} worse[WORSE] = {
    {{"hbm_bw*0.5"}, SAME},  {{"clock_mhz*0.5", "clock_max_mhz*0.5"}, SAME},
    {{"sms*0.5"}, SAME},     {{"tensor_flops*0.5"}, SAME},
    {{"hbm_bw*0.97"}, SAME}, {{"l2_bw*0.5"}, LESS_L2},
};

typedef struct layer {
    moe_layer_desc desc;
    moe_workload work;
} layer;

/* The next of a fixed sequence, below `end`: xorshift64. */
static int64_t draw(uint64_t *state, int64_t end) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (int64_t)(*state % (uint64_t)end);
}

static layer draw_layer(uint64_t *state, const char *method) {
    static const int64_t experts[] = {1, 2, 8, 60, 128, 256, 512, 4096}, most = 16;
    const int64_t E = experts[draw(state, 8)], K = 1 + draw(state, E < most ? E : most);
    layer l = {.desc = layer_of(64 * (1 + draw(state, 128)), 8 * (1 + draw(state, 400)), E, K)};
    l.work = (moe_workload){
        .tokens = (int64_t)exp2((double)draw(state, 1900) / 100),
        .pass = has_backward(method) ? 1 + (int32_t)draw(state, 3) : MOE_PASS_FWD,
        .clock = draw(state, 2) ? MOE_CLOCK_SETTLED : MOE_CLOCK_BURST,
        .in_stream = (int32_t)draw(state, 2),
    };
    return l;
}

static double time_of(const moe_gpu *gpu, const char *method, const layer *l) {
    moe_workload w = l->work;
    moe_prediction *p = NULL;
    w.layer = &l->desc;
    cr_assert_eq(moe_predict(gpu, method, &w, NULL, &p), MOE_OK, "%s", method);
    const double us = p->pass[MOE_PASS_TOTAL].us;
    cr_expect(isfinite(us) && p->low_us <= us && us <= p->high_us, "%s: %g us", method, us);
    for (size_t i = 0; i < p->n_kernels; i++) {
        const moe_cost *k = &p->kernels[i].cost;
        cr_expect(k->us >= k->floor_us * (1 - SAME), "%s %s: %g us", method, k->name, k->us);
    }
    moe_prediction_destroy(&p);
    return us;
}

static void compare(moe_gpu *const *gpu, const char *name, const char *method, uint64_t *state) {
    for (int i = 0; i < CASES; i++) {
        const layer l = draw_layer(state, method);
        const double before = time_of(gpu[WORSE], method, &l);
        for (int k = 0; k < WORSE; k++) {
            const double now = time_of(gpu[k], method, &l);
            cr_expect(now >= before * (1 - worse[k].less),
                      "%s %s %s T=%lld d=%lld n=%lld E=%lld K=%lld: %.9g us, then %.9g", name,
                      method, worse[k].change[0], (long long)l.work.tokens, (long long)l.desc.d,
                      (long long)l.desc.n, (long long)l.desc.E, (long long)l.desc.K, before, now);
        }
    }
}

Test(sim_slower, worse_is_never_faster) {
    uint64_t state = 0x9e3779b97f4a7c15u;
    for (const char *const *name = moe_gpu_names(); *name; name++) {
        moe_gpu *gpu[WORSE + 1]; /* the last as shipped */
        for (int k = 0; k <= WORSE; k++) {
            gpu[k] = load(*name);
            for (int c = 0; k < WORSE && c < 2 && worse[k].change[c]; c++)
                cr_assert_eq(moe_gpu_what_if(gpu[k], worse[k].change[c], NULL), MOE_OK);
        }
        for (const char *const *method = moe_methods(); *method; method++) {
            if (runs_on(gpu[WORSE], *method))
                compare(gpu, *name, *method, &state);
        }
        for (int k = 0; k <= WORSE; k++)
            moe_gpu_destroy(&gpu[k]);
    }
}
