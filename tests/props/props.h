/* What the property tests share: a problem from a case line, and a reference run that must succeed.
 */
#ifndef MOE_TESTS_PROPS_H
#define MOE_TESTS_PROPS_H

#include "moeref/case.h"
#include "moeref/reference.h"

/* Fails the test with the library's own sentence if the line does not parse. */
moe_problem *props_problem(const char *line);

/* Runs the reference in `precision`; the routing is the problem's own. */
moe_reference_result *props_run(const moe_problem *p, moe_dtype precision, int threads);

/* The same in float64 with a plan: given (plan_given = 1) or only the choice of experts. */
moe_reference_result *props_run_with(const moe_problem *p, const moe_plan *plan, int plan_given);

/* Replaces a float tensor of the problem by a float64 copy, to be changed by the test. */
double *props_widen(moe_problem *p, moe_tensor_id id);

const double *props_values(const moe_reference_result *r, moe_tensor_id id);

/* sum (a - b)^2 / sum b^2 */
double props_nmse(const double *a, const double *b, int64_t count);

#endif
