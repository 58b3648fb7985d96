/* What a case's block is made of and what it gives, in a file: block_values CASE FILE.
 *
 *     parameter.NAME, grad.NAME   each parameter and its gradient, X and experts' matrices included
 *     constant.I                  what else was drawn: masks, fixed matrices
 *     kinds                       of `modalities`, each token's kind
 *     O, dO */
#include "block/routers/routers.h"
#include "block/written.h"
#include "layer/problem.h"
#include "moeref/safetensors.h"

#include <stdio.h>
#include <stdlib.h>

enum { TENSORS_MAX = 2 * MOE_INT_PARAMETERS_MAX + 16 };

typedef struct values {
    moe_named_tensor named[TENSORS_MAX];
    char name[TENSORS_MAX][32];
    int n;
} values;

static void add(values *v, const char *what, const char *name, int64_t rows, int64_t columns,
                double *x) {
    moe_named_tensor *t = &v->named[v->n];
    if (v->n == TENSORS_MAX)
        return;
    snprintf(v->name[v->n], sizeof v->name[0], "%s%s", what, name);
    t->name = v->name[v->n++];
    t->tensor = (moe_tensor){.data = x, .dtype = MOE_F64, .ndim = 2, .shape = {rows, columns}};
}

/* Gradients of a parameter that several steps hold are gathered in the last of them. */
static void add_parameter(const moe_int_tape *tape, int at, values *v) {
    const moe_int_parameter *p = &tape->parameters->p[at];
    double *sum = NULL;
    for (int i = tape->n - 1; i >= 0; i--) {
        const moe_int_step *s = &tape->step[i];
        for (int64_t j = 0; s->parameter == 1 + at && sum && j < p->rows * p->columns; j++)
            sum[j] += s->g[j];
        if (s->parameter == 1 + at && !sum)
            sum = s->g;
    }
    add(v, "parameter.", p->name, p->rows, p->columns, p->w);
    if (sum)
        add(v, "grad.", p->name, p->rows, p->columns, sum);
}

static moe_status write(const moe_case *c, moe_int_tape *tape, const moe_problem *drawn,
                        const char *path) {
    static values v;
    double *kinds = malloc((size_t)c->T * sizeof *kinds);
    int constants = 0;
    if (!kinds)
        return MOE_E_NOMEM;
    for (int64_t t = 0; t < c->T; t++)
        kinds[t] = moe_int_modality(c->seed, t);
    add(&v, "kinds", "", c->T, 1, kinds);
    for (int i = 0; i < tape->parameters->n; i++)
        add_parameter(tape, i, &v);
    for (int i = 0; i < tape->n; i++) {
        const moe_int_step *s = &tape->step[i];
        char name[16];
        if (s->kind != MOE_INT_STEP_GIVEN || s->parameter)
            continue;
        snprintf(name, sizeof name, "%d", constants++);
        add(&v, "constant.", name, s->rows, s->columns, s->x);
    }
    add(&v, "O", "", c->T, c->layer.d, tape->step[tape->n - 1].x);
    add(&v, "dO", "", c->T, c->layer.d, drawn->in.t[MOE_T_DO].data);
    moe_status status = moe_safetensors_write(path, v.named, (size_t)v.n, NULL, 0, NULL);
    free(kinds);
    return status;
}

int main(int argc, char **argv) {
    static moe_int_tape tape;
    moe_int_parameters parameters = {0};
    moe_problem *drawn = NULL;
    moe_case c;
    if (argc != 3 || moe_case_parse(argv[1], NULL, &c))
        return 2;
    moe_status status = c.block ? moe_int_problem_drawn(&c, NULL, &drawn) : MOE_E_INVALID;
    if (!status)
        status = moe_int_block_parameters(drawn, &parameters);
    if (!status)
        status = moe_int_block_write(&c, &parameters, &tape);
    if (!status)
        status = moe_int_tape_backward(&tape, tape.n - 1, drawn->in.t[MOE_T_DO].data);
    if (!status)
        status = write(&c, &tape, drawn, argv[2]);
    moe_int_tape_destroy(&tape);
    moe_int_parameters_destroy(&parameters);
    moe_problem_destroy(&drawn);
    moe_case_destroy(&c);
    return status ? 3 : 0;
}
