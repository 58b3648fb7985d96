/* Values and the operations that made them, in float64: a router or a kind of expert that is no
 * choice of layer.h's, a few layers that hand something on to each other, and the gradients of all
 * of it. The experts are one operation among others, and see a given plan.
 *
 * An operation is a row of `kinds` in steps.c. Values are computed as they are added; backward goes
 * over them from the last to the first. Every value is a matrix [rows][columns]. */
#ifndef MOE_BLOCK_TAPE_TAPE_H
#define MOE_BLOCK_TAPE_TAPE_H

#include "moeref/plan.h"

typedef enum moe_int_step_kind {
    MOE_INT_STEP_GIVEN,   /* a parameter or a constant */
    MOE_INT_STEP_LINEAR,  /* a b^T */
    MOE_INT_STEP_MIX,     /* a b in `count` blocks of rows: a [count p][q], b [count q][r] */
    MOE_INT_STEP_ADD,     /* a + b; one row or one column of b stands for all */
    MOE_INT_STEP_MUL,     /* a * b, likewise */
    MOE_INT_STEP_TANH,    /* of each element, as the next ones */
    MOE_INT_STEP_SIGMOID, /* */
    MOE_INT_STEP_EXP,     /* e^min(a, number) */
    MOE_INT_STEP_RELU,    /* */
    MOE_INT_STEP_GELU,    /* by erf */
    MOE_INT_STEP_INVERSE, /* 1 / a */
    MOE_INT_STEP_TIMES,   /* number a */
    MOE_INT_STEP_PLUS,    /* number + a */
    MOE_INT_STEP_RMS,     /* rows / sqrt(mean a^2 + number) */
    MOE_INT_STEP_SOFTMAX, /* of rows; count 1: row t over columns 0 .. t alone */
    MOE_INT_STEP_SUM,     /* of each row, [rows][1] */
    MOE_INT_STEP_COLUMNS, /* `count` columns from `first` on */
    MOE_INT_STEP_TILE,    /* a, `count` times below itself */
    MOE_INT_STEP_KEEP,    /* a where `plan` has a pair, else 0 */
    MOE_INT_STEP_ROUTE,   /* logits to weights as `desc` says for the pairs of `plan`, else 0 */
    MOE_INT_STEP_EXPERTS, /* a = X, b = weights [T][E or more], c = W1, e = W2: O of the pairs of
                             `plan` at the E first experts */
    MOE_INT_STEP_COUNT
} moe_int_step_kind;

typedef struct moe_int_step {
    moe_int_step_kind kind;
    int a, b, c, e; /* indices of steps */
    double number;
    int64_t first, count;
    const moe_plan *plan; /* of the tape */
    moe_layer_desc desc;
    int parameter; /* 1 + its index among the parameters; 0: none */
    int64_t rows, columns;
    double *x, *g; /* value and gradient, of the tape */
} moe_int_step;

/* Parameters by name, drawn when a step first asks for them. */
typedef struct moe_int_parameter {
    char name[16];
    int64_t rows, columns;
    double *w;
} moe_int_parameter;

/* Of the random generator: the first parameter's stream; a layer's tensors have those below. */
enum { MOE_INT_PARAMETER_STREAM = 256 };
enum { MOE_INT_PARAMETERS_MAX = 24, MOE_INT_STEPS_MAX = 400, MOE_INT_PLANS_MAX = 16 };

typedef struct moe_int_parameters {
    moe_int_parameter p[MOE_INT_PARAMETERS_MAX];
    int n;
    uint64_t seed;
} moe_int_parameters;

typedef struct moe_int_tape {
    moe_int_step step[MOE_INT_STEPS_MAX];
    int n;
    moe_plan *plan[MOE_INT_PLANS_MAX];
    int n_plans;
    moe_int_parameters *parameters; /* not the tape's own */
    const moe_log *log;
    moe_status status; /* of the first step that failed; later ones do nothing */
} moe_int_tape;

/* Adds a step whose kind and arguments are set; its index. */
int moe_int_tape_add(moe_int_tape *tape, moe_int_step step);
/* The parameter of that name, ~ N(0, deviation^2) when it is new. */
int moe_int_tape_parameter(moe_int_tape *tape, const char *name, int64_t rows, int64_t columns,
                           double deviation);
/* Makes it known with these values. */
moe_status moe_int_parameters_set(moe_int_parameters *all, const char *name, const moe_tensor *w,
                                  int64_t rows, int64_t columns);
/* A copy of x, without a gradient of interest. */
int moe_int_tape_constant(moe_int_tape *tape, const double *x, int64_t rows, int64_t columns);
/* Hands a plan to the tape; NULL after a failure. */
const moe_plan *moe_int_tape_keep_plan(moe_int_tape *tape, moe_status status, moe_plan *plan);

/* Gradients of sum(value of `end` * dO), dO of its shape, in every step before it. */
moe_status moe_int_tape_backward(moe_int_tape *tape, int end, const double *dO);

void moe_int_tape_destroy(moe_int_tape *tape);
void moe_int_parameters_destroy(moe_int_parameters *parameters);

/* The short way to write a step with one or two arguments. */
static inline int moe_int_tape_of(moe_int_tape *t, moe_int_step_kind kind, int a, double number) {
    return moe_int_tape_add(t, (moe_int_step){.kind = kind, .a = a, .number = number});
}
static inline int moe_int_tape_of_two(moe_int_tape *t, moe_int_step_kind kind, int a, int b) {
    return moe_int_tape_add(t, (moe_int_step){.kind = kind, .a = a, .b = b, .count = 1});
}

/* steps.c: the value of a step, and its arguments' gradients. */
moe_status moe_int_step_forward(moe_int_tape *tape, moe_int_step *step);
moe_status moe_int_step_backward(moe_int_tape *tape, moe_int_step *step);
/* experts.c: the same of MOE_INT_STEP_EXPERTS, and the plan that its experts see. */
moe_status moe_int_tape_experts(moe_int_tape *tape, moe_int_step *step, bool backward);
moe_status moe_int_tape_real_plan(const moe_int_tape *tape, const moe_int_step *step,
                                  moe_plan **ret);

#endif
