/* What the tests of blocks share: a case's block as steps, and its parameters. */
#ifndef MOE_TESTS_PROPS_BLOCK_H
#define MOE_TESTS_PROPS_BLOCK_H

#include "block/routers/routers.h"
#include "block/written.h"

#define SMALL "T=8 d=6 n=4 E=4 K=2 dtype=fp64 "

/* A block at hand, with its parameters. */
typedef struct block {
    moe_case c;
    moe_problem *drawn;
    moe_int_parameters parameters;
    moe_int_tape tape;
} block;

void block_begin(const char *line, block *b);
void block_end(block *b);
/* Writes the block anew from its parameters. */
void block_again(block *b);
/* Fails the test where there is none of that name. */
moe_int_parameter *block_parameter(block *b, const char *name);
const double *block_out(const block *b);
const double *block_dO(const block *b);
/* The sum of the gradients of all steps that hold the parameter; the caller frees it. */
double *block_gradient(const block *b, int parameter);

#endif
