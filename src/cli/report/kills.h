/* The kill table of `moeref selftest`: which fault was caught by what, and was its cause named? */
#ifndef MOE_CLI_REPORT_KILLS_H
#define MOE_CLI_REPORT_KILLS_H

#include "moeref/selftest.h"

#include <jansson.h>
#include <stdio.h>

/* One fault on one case. */
typedef struct cli_kill {
    const moe_fault *fault;
    moe_dtype dtype;
    char *line; /* the case, owned */
    moe_kill kill;
    double seconds;
    int64_t elements; /* that were judged */
} cli_kill;

/* The copy without a fault failed on a case. */
typedef struct cli_blame {
    moe_dtype dtype;
    char *line, *why; /* owned */
} cli_blame;

typedef struct cli_kills {
    cli_kill *at;
    size_t count;
    cli_blame *blame;
    size_t blames;
} cli_kills;

moe_status cli_kills_add(cli_kills *kills, const moe_fault *fault, moe_dtype dtype,
                         const char *line, const moe_check_result *result);
void cli_kills_drop_last(cli_kills *kills);
/* Of the entries from `first` on, one fault's on several cases, keeps one: that whose cause most
 * elements of failing ones stand for, else the first that failed, else the last. */
void cli_kills_vote(cli_kills *kills, size_t first);
moe_status cli_kills_blame(cli_kills *kills, moe_dtype dtype, const char *line,
                           const moe_check_result *result);
void cli_kills_destroy(cli_kills *kills);

/* One line for entry i. */
void cli_kill_text(FILE *to, const cli_kills *kills, size_t i);
/* Counts by kind of fault, and in all; what was not caught and what was not named by name. */
void cli_kills_summary(FILE *to, const cli_kills *kills);
/* {"moeref": 1, "faults": [...], "right": [...], "summary": {...}} */
json_t *cli_kills_json(const cli_kills *kills);

bool cli_kills_last_is_caught(const cli_kills *kills);
/* Writes what cli/input/mistrust.h reads: a line for each case and type with faults that were not
 * caught there. Faults of precision are left out: they may lie below the noise of a correct kernel
 * on one layer, and show on their own. Entries of one case and type lie together. MOE_E_IO. */
moe_status cli_kills_mistrust(const cli_kills *kills, const char *path);

/* Was every fault caught, and the right copy passed everywhere? */
bool cli_kills_all(const cli_kills *kills);

#endif
