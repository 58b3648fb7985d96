/* Every gradient of every block that a case can name, against central differences. */
#include "block.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double loss(block *b) {
    double sum = 0;
    block_again(b);
    for (int64_t i = 0; i < b->c.T * b->c.layer.d; i++)
        sum += block_out(b)[i] * block_dO(b)[i];
    return sum;
}

static double worst_error(block *b, int which, const double *g) {
    const moe_int_parameter *p = &b->parameters.p[which];
    const double step = 1e-5;
    const int64_t count = p->rows * p->columns;
    double worst = 0;
    for (int64_t i = 0; i < count; i += 1 + count / 9) {
        const double kept = p->w[i];
        p->w[i] = kept + step;
        const double above = loss(b);
        p->w[i] = kept - step;
        const double below = loss(b);
        p->w[i] = kept;
        const double slope = (above - below) / (2 * step);
        worst = fmax(worst, fabs(slope - g[i]) / (1 + fabs(slope)));
    }
    return worst;
}

#define SMALL_KEPT          "T=8 d=6 n=4 E=4 K=2 dtype=fp64 capacity=5 "
#define LINE(name, meaning) SMALL_KEPT "block=" #name " layers=3 seed=5",
static const char *const lines[] = {
    MOE_INT_BLOCKS(LINE) SMALL_KEPT "block=cosine score=sigmoid renorm=1 scale=2.5 seed=2",
    SMALL_KEPT "block=relu_rms act=silu seed=3",
    SMALL_KEPT "block=unweighted select=expert_choice act=gelu seed=4",
    SMALL_KEPT "block=tanh score=softmax_topk glu=interleaved act=geglu seed=5",
};

Test(blocks, gradients_match_finite_differences) {
    static block b;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        block_begin(lines[i], &b);
        cr_assert_eq(moe_int_tape_backward(&b.tape, b.tape.n - 1, block_dO(&b)), MOE_OK);
        double *g[MOE_INT_PARAMETERS_MAX];
        const int n = b.parameters.n;
        for (int p = 0; p < n; p++)
            g[p] = block_gradient(&b, p);
        for (int p = 0; p < n; p++) {
            const char *name = b.parameters.p[p].name;
            const bool frozen = b.c.block == MOE_INT_BLOCK_frozen && strcmp(name, "W_r0") == 0;
            const double error = frozen ? 0 : worst_error(&b, p, g[p]);
            cr_expect(error < 1e-7, "%s: d%s is off by %.2e", lines[i], name, error);
        }
        for (int p = 0; p < n; p++)
            free(g[p]);
        block_end(&b);
    }
}
