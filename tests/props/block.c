#include "block.h"
#include "layer/problem.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

const double *block_out(const block *b) {
    return b->tape.step[b->tape.n - 1].x;
}

void block_again(block *b) {
    moe_int_tape_destroy(&b->tape);
    cr_assert_eq(moe_int_block_write(&b->c, &b->parameters, &b->tape), MOE_OK);
}

void block_begin(const char *line, block *b) {
    memset(b, 0, sizeof *b);
    cr_assert_eq(moe_case_parse(line, NULL, &b->c), MOE_OK, "%s", line);
    cr_assert_eq(moe_int_problem_drawn(&b->c, NULL, &b->drawn), MOE_OK, "%s", line);
    cr_assert_eq(moe_int_block_parameters(b->drawn, &b->parameters), MOE_OK);
    block_again(b);
}

void block_end(block *b) {
    moe_int_tape_destroy(&b->tape);
    moe_int_parameters_destroy(&b->parameters);
    moe_problem_destroy(&b->drawn);
    moe_case_destroy(&b->c);
}

moe_int_parameter *block_parameter(block *b, const char *name) {
    for (int i = 0; i < b->parameters.n; i++)
        if (strcmp(b->parameters.p[i].name, name) == 0)
            return &b->parameters.p[i];
    cr_assert(false, "no parameter %s", name);
    return NULL;
}

const double *block_dO(const block *b) {
    return b->drawn->in.t[MOE_T_DO].data;
}

double *block_gradient(const block *b, int parameter) {
    const moe_int_parameter *p = &b->parameters.p[parameter];
    double *g = calloc((size_t)(p->rows * p->columns), sizeof *g);
    for (int i = 0; i < b->tape.n; i++)
        for (int64_t j = 0; b->tape.step[i].parameter == 1 + parameter && j < p->rows * p->columns;
             j++)
            g[j] += b->tape.step[i].g[j];
    return g;
}
