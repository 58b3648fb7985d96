/* What the two ways of `moeref selftest` share: each fault on its own layer, all faults on cases.
 */
#ifndef MOE_CLI_VERBS_SELFTEST_H
#define MOE_CLI_VERBS_SELFTEST_H

#include "cli/input/options.h"
#include "cli/input/select.h"
#include "cli/report/kills.h"

#include <limits.h>

enum {
    CLI_SELFTEST_REPEATS = 3, /* runs of each check: some faults begin with the third */
    CLI_SELFTEST_TYPES = 3
};

typedef struct cli_selftest_options {
    cli_strings dtypes, faults;
    cli_selection selection;
    cli_output output;
    int64_t threads;
    const char *mistrust; /* a file to write */
    const char *shard;    /* I/N; NULL: all */
    int64_t sample;       /* one fault in so many; 0: all */
    bool full, quick, list, on_suite;
    cli_strings sizes; /* of cli_selftest_sizes */
} cli_selftest_options;

typedef struct cli_selftest_run {
    const cli_selftest_options *o;
    moe_backends *all;
    char plugin[PATH_MAX];
    int64_t shard, shards; /* of the faults that are due, this and how many */
    int64_t at, of; /* which fault, in which type and on which case, of all that are asked for */
    cli_kills kills;
} cli_selftest_run;

extern const moe_dtype cli_selftest_types[CLI_SELFTEST_TYPES];

/* Is fault i of the table asked for, in that type? */
bool cli_selftest_due(const cli_selftest_options *o, const moe_fault *fault, size_t i,
                      moe_dtype dtype);
/* The copy with a fault ("": none), and the name that it is opened by. */
moe_status cli_selftest_open(const cli_selftest_run *s, moe_dtype dtype, const char *fault,
                             char *spec, size_t size, moe_backend **ret);
/* Which fault of all is being tried, where; cli_progress_clear ends it. */
void cli_selftest_progress(const cli_selftest_run *s, const moe_fault *fault, moe_dtype dtype,
                           const char *line);
/* selftest_cases.c: every fault that is due on the selected cases, where it changes a result. */
moe_status cli_selftest_cases(cli_selftest_run *s);

#endif
