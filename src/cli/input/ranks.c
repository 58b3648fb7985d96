#include "cli/input/ranks.h"
#include "cli/input/messages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `--ep` takes what a case says after "ep=". */
static moe_status parse(const char *words, int64_t T, moe_case *ret) {
    char text[1024];
    const int length =
        snprintf(text, sizeof text, "T=%lld d=1 n=1 E=1 K=1 ep=%s", (long long)T, words);
    if (length < 0 || (size_t)length >= sizeof text)
        return moe_fail(cli_log(), MOE_E_INVALID, "--ep takes a number of ranks and few words");
    return moe_case_parse(text, cli_log(), ret);
}

static moe_status extend(char **line, const cli_ranks *ranks) {
    const char *transport = ranks->transport ? ranks->transport : "threads";
    const size_t size = strlen(*line) + strlen(ranks->words) + strlen(transport) + 32;
    char *longer = malloc(size);
    if (!longer)
        return MOE_E_NOMEM;
    snprintf(longer, size, "%s --ep \"%s\" --transport %s", *line, ranks->words, transport);
    free(*line);
    *line = longer;
    return MOE_OK;
}

moe_status cli_ranks_apply(const cli_ranks *ranks, moe_problem *problem) {
    moe_case c;
    if (!ranks->words)
        return MOE_OK;
    moe_status status = parse(ranks->words, problem->T, &c);
    if (status)
        return status;
    free(problem->split.tokens);
    problem->split = c.split;
    c.split.tokens = NULL;
    moe_case_destroy(&c);
    return problem->reproduce ? extend(&problem->reproduce, ranks) : MOE_OK;
}

moe_status cli_ranks_params(const cli_ranks *ranks, const moe_problem *problem,
                            moe_ep_params *ret) {
    const moe_split *s = &problem->split;
    *ret = (moe_ep_params){.ranks = s->ranks,
                           .combine = s->combine,
                           .wire = s->wire,
                           .skew = s->skew,
                           .tokens = s->tokens,
                           .fault = ranks->fault};
    if (!ranks->transport || strcmp(ranks->transport, "threads") == 0)
        return MOE_OK;
    return moe_fail(cli_log(), MOE_E_NOTFOUND, "there is no transport '%s'", ranks->transport);
}
