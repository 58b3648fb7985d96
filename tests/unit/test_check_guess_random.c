/* A choice that is not told, on random layers: it is named, and nothing else is taken for it. */
#include "untold_choice.h"

typedef struct tally {
    long routed, named, right,
        other; /* wrong choices that fail; named, and rightly; other faults */
} tally;

/* A factor, noise, a missing expert, a sign: in one row of O. */
static void plant_other(const moe_problem *p, moe_reference_result *made, int64_t token, int kind) {
    float *O = (float *)made->out.t[MOE_T_O].data + token * p->layer.d;
    const moe_plan *plan = made->plan;
    for (int64_t c = 0; c < p->layer.d; c++) {
        int64_t row = plan->pair_of_token[plan->token_offsets[token]];
        if (kind == 0)
            O[c] *= 1.3f;
        else if (kind == 1)
            O[c] += (float)moe_rng_normal(1, 2, (uint64_t)c);
        else if (kind == 2 && row < plan->offsets[p->layer.E] && !p->layer.router.weight_on)
            O[c] -= (float)(plan->weight[row] * moe_load(made->out.t[MOE_T_Y].data, MOE_F32,
                                                         (size_t)(row * p->layer.d + c)));
        else if (kind == 3)
            O[c] = -O[c];
    }
}

static void try_layer(uint64_t index, moe_dtype arithmetic, tally *sum) {
    drawing d;
    draw_layer(index, &d);
    if (strstr(d.line, "route=") || strstr(d.line, "select=") || strstr(d.line, "E=1 "))
        return;
    moe_problem *p = drawn(d.line);
    moe_plan *plan = route(p, NULL);
    int64_t token = (int64_t)(index % (uint64_t)p->T);
    const fault f = {token, token, -1, -1};
    for (int kind = -1; kind < 4 && p->layer.K < plan->n_experts; kind++) {
        moe_plan *got = kind < 0 ? change(plan, &f, 1) : NULL;
        moe_reference_result *made = run(p, arithmetic, got);
        if (kind >= 0)
            plant_other(p, made, token, kind);
        moe_check_result *r = judge(p, arithmetic, made, -1);
        bool routing = strncmp(r->why, "routing: ", 9) == 0;
        *(kind < 0 ? &sum->routed : &sum->other) += r->verdict == MOE_VERDICT_FAIL;
        sum->named += kind < 0 && routing;
        if (kind < 0 && routing)
            sum->right +=
                entry(r, "topk_index")->got == (double)moe_int_first_without(got, plan, token);
        cr_expect(kind < 0 || !routing, "%s (%d, token %lld): %s", d.line, kind, (long long)token,
                  r->why);
        moe_check_result_destroy(&r);
        moe_reference_result_destroy(&made);
        moe_plan_destroy(&got);
    }
    moe_plan_destroy(&plan);
    moe_problem_destroy(&p);
}

/* Random layers whose router chooses wrongly for one token, or which have another fault there: the
 * first is named, the second never taken for it. MOEREF_SWEEP=N draws N layers. */
Test(check_guess, random_layers, .timeout = 3000) {
    static const moe_dtype types[] = {MOE_F32, MOE_BF16, MOE_F16};
    const char *wanted = getenv("MOEREF_SWEEP");
    long count = wanted ? strtol(wanted, NULL, 10) : 60;
    for (int i = 0; i < 3; i++) {
        tally sum = {0};
        for (long k = 0; k < count; k++)
            try_layer((uint64_t)k, types[i], &sum);
        /* Measured with 1000 layers: 263, 246 and 257 of 267, all rightly. The others' experts are
         * dead, or weigh too little beside a 16-bit roundoff. */
        cr_expect_geq(10 * sum.named, 9 * sum.routed, "%ld of %ld", sum.named, sum.routed);
        cr_expect_eq(sum.right, sum.named, "%ld of %ld", sum.right, sum.named);
        cr_expect(sum.routed > count / 6 && sum.other > count / 2);
        if (wanted)
            fprintf(stderr, "%s: %ld of %ld wrong choices named, %ld rightly; %ld other faults\n",
                    moe_dtype_name(types[i]), sum.named, sum.routed, sum.right, sum.other);
    }
}
