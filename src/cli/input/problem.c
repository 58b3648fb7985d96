/* From a selected case to its problem. */
#define _GNU_SOURCE
#include "cli/input/messages.h"
#include "cli/input/select.h"
#include "moeref/suite.h"

#include <stdio.h>
#include <stdlib.h>

/* What is drawn, in bytes. */
static double bytes_of(const moe_case *c) {
    double bytes = 0;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_tensor_role role = moe_tensor_role_of((moe_tensor_id)id);
        moe_tensor t = {0};
        if ((role != MOE_ROLE_INPUT && role != MOE_ROLE_PARAM) ||
            !moe_tensor_exists(&c->layer, (moe_tensor_id)id, false))
            continue;
        moe_tensor_shape(&c->layer, (moe_tensor_id)id, c->T, 0, 0, &t);
        double count = (double)moe_dtype_size(c->dtype);
        for (int i = 0; i < t.ndim; i++)
            count *= (double)t.shape[i];
        bytes += count;
    }
    return bytes;
}

/* Drawing, running and judging that takes seconds to minutes for each gigabyte. */
static moe_status draw(const moe_case *c, moe_problem **ret) {
    const double large = 1e9, bytes = bytes_of(c);
    if (bytes >= large)
        cli_note("a layer of %.1f GB is drawn, run and judged, which takes a while", bytes / large);
    return moe_problem_from_case(c, cli_log(), ret);
}

/* A case with the shapes of a config.json. */
static moe_status problem_from_config(const char *path, int64_t tokens, moe_problem **ret) {
    moe_case c;
    int64_t hidden = 0;
    moe_case_init(&c);
    c.T = tokens > 0 ? tokens : 128;
    moe_status status = moe_layer_from_config(path, cli_log(), &c.layer, &hidden, &c.dtype);
    if (hidden > 0)
        cli_note("%s: its experts run without the projections around them; tokens, router and "
                 "shared expert are %lld wide too, not %lld",
                 path, (long long)c.layer.d, (long long)hidden);
    if (!status)
        status = moe_layer_desc_check(&c.layer, c.T, cli_log());
    return status ? status : draw(&c, ret);
}

/* Golden outputs of the case, where golden/edge has them. */
static moe_status attach_golden(const cli_selection *selection, moe_problem **problem) {
    char *golden = cli_golden_dir(selection->golden), *edge = NULL;
    moe_status status = MOE_OK;
    if (golden && asprintf(&edge, "%s/edge", golden) < 0)
        status = MOE_E_NOMEM;
    if (!status && golden && cli_is_folder(edge))
        status = moe_suite_attach(edge, cli_log(), *problem);
    free(golden);
    free(edge);
    if (status)
        moe_problem_destroy(problem);
    return status;
}

static moe_status make_problem(const cli_selection *selection, const cli_item *item,
                               moe_problem **ret) {
    moe_case c;
    if (item->kind == 'h')
        return moe_problem_from_hf(item->name, selection->layer, selection->tokens, cli_log(), ret);
    if (item->kind == 'p')
        return moe_problem_from_hf_piece(item->name, selection->layer, selection->tokens,
                                         &item->piece, cli_log(), ret);
    if (item->kind == 'i')
        return moe_problem_from_file(selection->inputs, *item->name ? item->name : NULL, cli_log(),
                                     ret);
    if (item->kind == 'f')
        return problem_from_config(item->name, selection->tokens, ret);
    moe_status status = moe_case_parse(item->name, cli_log(), &c);
    if (status)
        return status;
    status = draw(&c, ret);
    moe_case_destroy(&c);
    return status ? status : attach_golden(selection, ret);
}

moe_status cli_problem(const cli_selection *selection, const cli_item *item, moe_problem **ret) {
    moe_problem *problem = NULL;
    moe_status status = make_problem(selection, item, &problem);
    if (!status)
        status = cli_ranks_apply(&selection->ranks, problem);
    if (status)
        moe_problem_destroy(&problem);
    else
        *ret = problem;
    return status;
}
