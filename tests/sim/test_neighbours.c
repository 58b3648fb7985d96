/* What holds between neighbouring layers, whatever the calibration: more tokens, more experts a
 * token, more of each expert never take less, and one token more is no other layer. Experts have
 * equal shares, so that neighbours differ in nothing that is drawn. */
#include "layers.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

/* What rounds of tiles may gain: an SM waits less for the last one, and row tiles that have a
 * second one share loads of columns. */
#define LESS 0.07
/* A layer that leaves most SMs idle is faster on more of them, where shares count for most. */
#define LESS_IDLE 0.2
/* ScatterMoE's tiles run on over the ends of experts: most are multiplied for two of them, but
 * where experts fill their tiles. */
#define LESS_PACKED 0.5
#define JUMP        1.5
#define JUMP_TILE                                                                                  \
    2.25 /* one more row starts a tile, of every expert, and all of its work again                 \
          */

typedef struct law {
    double less, more; /* of the neighbour's time */
} law;

/* Where one step changes what runs, as its source says: SGLang's fallback has one tile up to T = E
 * and one above, vLLM's one up to 32, 96 and 512 tokens each; ATen's one up to 128 rows or columns.
 */
static bool changes_kernels(const char *method, const moe_layer_desc *a, int64_t from, int64_t to) {
    if (strcmp(method, "sglang_fused_moe") == 0)
        return from <= a->E && to > a->E;
    if (strcmp(method, "grouped_mm") == 0)
        return from * a->K <= 128 && to * a->K > 128;
    if (strcmp(method, "triton_fused_moe") == 0)
        return (from <= 32 && to > 32) || (from <= 96 && to > 96) || (from <= 512 && to > 512) ||
               (from <= 129 * a->E && to > 129 * a->E);
    return false;
}

static double time_of(const moe_gpu *gpu, const char *method, const moe_layer_desc *d,
                      int64_t tokens, int32_t pass) {
    moe_prediction *p = predict(gpu, method, d, tokens, pass);
    const double us = p->pass[MOE_PASS_TOTAL].us;
    cr_expect(isfinite(us) && us > 0, "%s T=%lld: %g us", method, (long long)tokens, us);
    for (size_t i = 0; i < p->n_kernels; i++) {
        const moe_cost *c = &p->kernels[i].cost;
        cr_expect(c->us >= c->floor_us && isfinite(c->us), "%s T=%lld d=%lld n=%lld %s: %g us, %g",
                  method, (long long)tokens, (long long)d->d, (long long)d->n, c->name, c->us,
                  c->floor_us);
    }
    moe_prediction_destroy(&p);
    return us;
}

static const int64_t around[] = {
    1,   2,   3,   8,   9,    16,   17,   32,   33,   64,   65,   127,  128,  129,  255,   256,
    257, 511, 512, 513, 1000, 1023, 1024, 1025, 2048, 2049, 4096, 4097, 8192, 8193, 65536, 1000000};
#define AROUND (sizeof around / sizeof *around)

static void along_tokens(const moe_gpu *gpu, const char *name, const char *method,
                         const moe_layer_desc *d, int32_t pass) {
    double before = time_of(gpu, method, d, around[0], pass);
    for (size_t i = 1; i < AROUND; i++) {
        const int64_t T = around[i], last = around[i - 1];
        const double now = time_of(gpu, method, d, T, pass),
                     f = (double)(last * d->K) / (double)d->E;
        const bool packed = strcmp(method, "scattermoe") == 0, tile = fmod(f, 64) == 0;
        const bool idle = d->E * d->d * d->n < 1 << 25;
        const law l = {1 - (packed ? LESS_PACKED
                            : idle ? LESS_IDLE
                                   : LESS),
                       packed || tile ? JUMP_TILE : JUMP};
        if (!changes_kernels(method, d, last, T)) {
            cr_expect(now >= before * l.less, "%s %s d=%lld n=%lld E=%lld T=%lld: %g us, then %g",
                      name, method, (long long)d->d, (long long)d->n, (long long)d->E, (long long)T,
                      before, now);
            /* Up to eight tokens reach experts that no other one did. */
            cr_expect(T != last + 1 || last < 8 || now <= before * l.more,
                      "%s %s d=%lld n=%lld E=%lld T=%lld: %g us, then %g", name, method,
                      (long long)d->d, (long long)d->n, (long long)d->E, (long long)T, before, now);
        }
        before = now;
    }
}

static void each_layer(void (*check)(const moe_gpu *, const char *, const char *,
                                     const moe_layer_desc *, int32_t),
                       const moe_layer_desc *layers, size_t count) {
    for (const char *const *g = moe_gpu_names(); *g; g++) {
        moe_gpu *gpu = load(*g);
        for (const char *const *m = moe_methods(); *m; m++) {
            for (size_t i = 0; runs_on(gpu, *m) && i < count; i++) {
                check(gpu, *g, *m, &layers[i], MOE_PASS_FWD);
                if (has_backward(*m))
                    check(gpu, *g, *m, &layers[i], MOE_PASS_BWD);
            }
        }
        moe_gpu_destroy(&gpu);
    }
}

/* K = E, one expert, widths that are no multiple of 8, the widest. */
Test(sim_neighbours, one_token_more) {
    const moe_layer_desc layers[] = {layer_of(4096, 1024, 128, 8), layer_of(7168, 2048, 256, 8),
                                     layer_of(4096, 14336, 8, 2),  layer_of(7168, 18432, 16, 2),
                                     layer_of(1024, 512, 1, 1),    layer_of(512, 100, 8, 8),
                                     layer_of(1000, 131, 16, 16)};
    each_layer(along_tokens, layers, sizeof layers / sizeof *layers);
}

/* ScatterMoE's tiles, and SGLang's where its experts have a tuned file; `takes_turns()`
 * of the project's kernels goes by d, to the next multiple of 256. */
static double least_of(const char *method, const moe_layer_desc *d) {
    if (strcmp(method, "scattermoe") == 0)
        return 1 - LESS_PACKED;
    if (strcmp(method, "sglang_fused_moe") == 0 && d->n > 512)
        return 0.5;
    return strcmp(method, "moeref") == 0 ? 1 - LESS_IDLE : 1 - LESS;
}

/* Each size of a layer along its own list, with the others as they are. */
static void along_sizes(const moe_gpu *gpu, const char *name, const char *method,
                        const moe_layer_desc *d, int32_t pass) {
    static const int64_t wide[] = {64, 65, 100, 128, 129, 256, 257, 512, 513, 768, 1000, 1024},
                         experts[] = {8, 9, 16, 17, 64, 100, 128, 512},
                         chosen[] = {1, 2, 3, 4, 7, 8};
    for (int axis = 0; axis < 4; axis++) {
        moe_layer_desc now = *d;
        int64_t *const size[] = {&now.d, &now.n, &now.E, &now.K};
        const int64_t *const values[] = {wide, wide, experts, chosen};
        static const size_t count[] = {12, 12, 8, 6};
        double before = 0;
        for (size_t i = 0; i < count[axis]; i++) {
            *size[axis] = values[axis][i];
            const double us = time_of(gpu, method, &now, 1, pass);
            cr_expect(us >= before * least_of(method, &now),
                      "%s %s d=%lld n=%lld E=%lld K=%lld: %g us, then %g", name, method,
                      (long long)now.d, (long long)now.n, (long long)now.E, (long long)now.K,
                      before, us);
            before = us;
        }
    }
}

Test(sim_neighbours, larger_layers) {
    const moe_layer_desc layers[] = {layer_of(4096, 1024, 128, 8), layer_of(2048, 768, 64, 8)};
    each_layer(along_sizes, layers, sizeof layers / sizeof *layers);
}
