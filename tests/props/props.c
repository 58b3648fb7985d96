#include "props.h"

#include <criterion/criterion.h>

static void show(void *user, moe_log_level level, const char *message) {
    (void)user;
    if (level <= MOE_LOG_WARN)
        cr_log_warn("%s", message);
}

static const moe_log log_to_criterion = {show, NULL};

moe_problem *props_problem(const char *line) {
    moe_case c;
    moe_problem *p = NULL;
    cr_assert_eq(moe_case_parse(line, &log_to_criterion, &c), MOE_OK, "cannot parse: %s", line);
    cr_assert_eq(moe_problem_from_case(&c, &log_to_criterion, &p), MOE_OK, "cannot draw: %s", line);
    moe_case_destroy(&c);
    return p;
}

static moe_reference_result *run(const moe_problem *p, const moe_reference_params *params) {
    moe_reference_result *r = NULL;
    moe_status status = moe_reference_run(&p->layer, &p->in, params, &log_to_criterion, &r);
    cr_assert_eq(status, MOE_OK, "%s: %s", p->name, moe_status_str(status));
    return r;
}

moe_reference_result *props_run(const moe_problem *p, moe_dtype precision, int threads) {
    moe_reference_params params = {.tokens = p->T,
                                   .precision = precision,
                                   .threads = threads,
                                   .plan = p->plan,
                                   .plan_given = p->plan != NULL,
                                   .seed = p->seed};
    return run(p, &params);
}

moe_reference_result *props_run_with(const moe_problem *p, const moe_plan *plan, int plan_given) {
    moe_reference_params params = {
        .tokens = p->T, .precision = MOE_F64, .threads = 1, .plan = plan, .plan_given = plan_given};
    return run(p, &params);
}

double *props_widen(moe_problem *p, moe_tensor_id id) {
    moe_tensor wide = {0};
    cr_assert_eq(moe_tensor_cast(&p->in.t[id], MOE_F64, &wide), MOE_OK);
    moe_tensor_destroy(&p->in.t[id]);
    p->in.t[id] = wide;
    return wide.data;
}

const double *props_values(const moe_reference_result *r, moe_tensor_id id) {
    cr_assert_not_null(r->out.t[id].data, "no %s", moe_tensor_name(id));
    cr_assert_eq(r->out.t[id].dtype, MOE_F64);
    return r->out.t[id].data;
}

double props_nmse(const double *a, const double *b, int64_t count) {
    double error = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        error += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return norm > 0 ? error / norm : error;
}
