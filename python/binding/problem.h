#ifndef MOE_PY_PROBLEM_H
#define MOE_PY_PROBLEM_H

#include "python/binding/binding.h"

#include <stdbool.h>

const moe_problem *moe_py_problem_of(const moe_py_problem *problem);
/* Of the user's own words or tensors, who is told what it says nothing about. */
bool moe_py_problem_is_own(const moe_py_problem *problem);

#endif
