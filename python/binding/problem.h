#ifndef MOE_PY_PROBLEM_H
#define MOE_PY_PROBLEM_H

#include "python/binding/binding.h"

const moe_problem *moe_py_problem_of(const moe_py_problem *problem);

#endif
