#include "check/bits/bits.h"
#include "check/bits/stages.h"
#include "check/verdict/result.h"
#include "reference/emulated.h"
#include "reference/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The arithmetics to try as chains; the caller frees *ret. */
static moe_status chains_of(const moe_check_params *params, moe_int_format format,
                            moe_int_chain **ret, size_t *count) {
    moe_arithmetic asked;
    const moe_arithmetic *bank = &asked;
    moe_status status = MOE_OK;
    *count = 1;
    if (strcmp(params->bits, "find") == 0)
        *count = moe_arithmetics(&bank);
    else
        status = moe_arithmetic_parse(params->bits, &asked);
    if (status)
        return status;
    *ret = calloc(*count, sizeof **ret);
    status = *ret ? MOE_OK : MOE_E_NOMEM;
    for (size_t i = 0; !status && i < *count; i++)
        status = moe_int_chain_make(&bank[i], format, &(*ret)[i]);
    return status;
}

static const uint16_t *input(const moe_problem *problem, moe_tensor_id id) {
    return problem->in.t[id].data;
}

/* Why nothing can be compared, or NULL. */
static const char *why_not(const moe_int_subject *s, const moe_plan *plan) {
    if (s->arithmetic != MOE_BF16 && s->arithmetic != MOE_F16)
        return "only bf16 and fp16 have an exact arithmetic";
    if (s->problem->dtype != (int32_t)s->arithmetic)
        return "the inputs have another type than the arithmetic";
    return plan ? NULL : "the choice of experts is not known";
}

/* Who asks for equality is not told of a pass where nothing was held to it. */
static void nothing_compared(moe_check_result *result) {
    moe_bits *bits = &result->bits;
    if (!bits->why[0])
        snprintf(bits->why, sizeof bits->why, "the backend offers no stage that could be");
    if (result->verdict == MOE_VERDICT_PASS)
        moe_int_result_set(result, MOE_VERDICT_MISTRUSTED, "--bits compared nothing: %s",
                           bits->why);
}

moe_status moe_int_bits(const moe_int_subject *subject, const moe_plan *plan,
                        const moe_check_params *params, moe_check_result *result) {
    const moe_problem *p = subject->problem;
    const char *why = why_not(subject, plan);
    const moe_int_format format =
        subject->arithmetic == MOE_BF16 ? MOE_INT_FORMAT_BF16 : MOE_INT_FORMAT_FP16;
    moe_int_bits_run c = {.subject = subject,
                          .dtype = subject->arithmetic,
                          .threads = moe_int_thread_count(params->threads),
                          .source = {.problem = p,
                                     .plan = plan,
                                     .S = &subject->got.t[MOE_T_S],
                                     .X = input(p, MOE_T_X),
                                     .dO = input(p, MOE_T_DO),
                                     .W1 = input(p, MOE_T_W1),
                                     .W2 = input(p, MOE_T_W2),
                                     .W_r = input(p, MOE_T_W_R)},
                          .result = result};
    moe_int_chain *chains = NULL;
    size_t count = 0;
    result->bits.asked = true;
    snprintf(result->bits.why, sizeof result->bits.why, "%s", why ? why : "");
    moe_status status = why ? MOE_OK : chains_of(params, format, &chains, &count);
    if (!status && !why)
        status = moe_int_gates_first(&chains->how, p->layer.glu_layout, p->layer.n,
                                     moe_h_width(&p->layer, p->layer.n), &c.gates_first);
    c.source.gates_first = c.gates_first;
    if (!status && !why)
        status = moe_int_bits_stages(&c, chains, count);
    if (!status && result->bits.n_stages == 0)
        nothing_compared(result);
    free(c.gates_first);
    free(chains);
    return status;
}
