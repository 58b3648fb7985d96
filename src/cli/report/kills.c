#include "cli/report/kills.h"
#include "cli/input/messages.h"
#include "cli/report/json.h"
#include "cli/report/json_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct tally {
    int tried, caught, named;
} tally;

moe_status cli_kills_add(cli_kills *kills, const moe_fault *fault, moe_dtype dtype,
                         const char *line, const moe_check_result *result) {
    cli_kill *at = realloc(kills->at, (kills->count + 1) * sizeof *at);
    if (!at)
        return MOE_E_NOMEM;
    kills->at = at;
    cli_kill *k = &at[kills->count];
    *k = (cli_kill){.fault = fault,
                    .dtype = dtype,
                    .line = strdup(line),
                    .kill = moe_kill_of(fault, result),
                    .seconds = result->seconds,
                    .elements = result->checked_elements};
    if (!k->line)
        return MOE_E_NOMEM;
    kills->count++;
    return MOE_OK;
}

void cli_kills_drop_last(cli_kills *kills) {
    free(kills->at[--kills->count].line);
}

/* Elements of the entries from `first` on that have the cause of entry i. */
static int64_t votes_for(const cli_kills *kills, size_t first, size_t i) {
    int64_t votes = 0;
    for (size_t j = first; j < kills->count; j++)
        if (strcmp(kills->at[j].kill.cause, kills->at[i].kill.cause) == 0)
            votes += kills->at[j].elements;
    return kills->at[i].kill.cause[0] ? votes : 0;
}

void cli_kills_vote(cli_kills *kills, size_t first) {
    size_t best = kills->count - 1;
    for (size_t i = kills->count; i-- > first;)
        if (kills->at[i].kill.caught &&
            (!kills->at[best].kill.caught ||
             votes_for(kills, first, i) >= votes_for(kills, first, best)))
            best = i;
    const cli_kill kept = kills->at[best];
    for (size_t i = first; i < kills->count; i++)
        if (i != best)
            free(kills->at[i].line);
    kills->at[first] = kept;
    kills->count = first + 1;
}

moe_status cli_kills_blame(cli_kills *kills, moe_dtype dtype, const char *line,
                           const moe_check_result *result) {
    cli_blame *at = realloc(kills->blame, (kills->blames + 1) * sizeof *at);
    if (!at)
        return MOE_E_NOMEM;
    kills->blame = at;
    at[kills->blames] = (cli_blame){dtype, strdup(line), strdup(result->why)};
    const cli_blame *made = &at[kills->blames++];
    return made->line && made->why ? MOE_OK : MOE_E_NOMEM;
}

void cli_kills_destroy(cli_kills *kills) {
    for (size_t i = 0; i < kills->count; i++)
        free(kills->at[i].line);
    for (size_t i = 0; i < kills->blames; i++) {
        free(kills->blame[i].line);
        free(kills->blame[i].why);
    }
    free(kills->at);
    free(kills->blame);
    *kills = (cli_kills){0};
}

bool cli_kills_all(const cli_kills *kills) {
    for (size_t i = 0; i < kills->count; i++)
        if (!kills->at[i].kill.caught)
            return false;
    return kills->blames == 0;
}

bool cli_kills_last_is_caught(const cli_kills *kills) {
    return kills->at[kills->count - 1].kill.caught;
}

moe_status cli_kills_mistrust(const cli_kills *kills, const char *path) {
    FILE *to = fopen(path, "w");
    const cli_kill *open = NULL; /* whose line it is */
    for (size_t i = 0; to && i < kills->count; i++) {
        const cli_kill *k = &kills->at[i];
        const bool same = open && open->dtype == k->dtype && strcmp(open->line, k->line) == 0;
        if (k->kill.caught || strcmp(k->fault->group, "precision") == 0)
            continue;
        if (!same)
            fprintf(to, "%s%s\t%s\t", open ? "\n" : "", moe_dtype_name(k->dtype), k->line);
        fprintf(to, "%s%s", same ? " " : "", k->fault->name);
        open = k;
    }
    if (to && open)
        fprintf(to, "\n");
    const bool written = to && !ferror(to);
    if ((to && fclose(to)) || !written)
        return moe_fail(cli_log(), MOE_E_IO, "%s: %s", path, strerror(errno));
    return MOE_OK;
}

static const char *outcome(const moe_kill *kill) {
    return !kill->caught ? "SURVIVED" : kill->named ? "named" : "caught";
}

void cli_kill_text(FILE *to, const cli_kills *kills, size_t i) {
    const cli_kill *k = &kills->at[i];
    fprintf(to, "%-9s %s.%-24s %-18s", outcome(&k->kill), moe_dtype_name(k->dtype), k->fault->name,
            k->kill.cause[0] ? k->kill.cause : "-");
    fprintf(to, " %.70s\n", k->kill.caught ? k->kill.why : k->line);
}

static void count(tally *t, const moe_kill *kill) {
    t->tried++;
    t->caught += kill->caught;
    t->named += kill->named;
}

/* The types that the table has columns for. */
static const moe_dtype types[] = {MOE_F32, MOE_BF16, MOE_F16};
enum { TYPES = sizeof types / sizeof *types };

/* A kind's row: tried, caught and named in each type. `group` NULL: all kinds. */
static void print_row(FILE *to, const cli_kills *kills, const char *group) {
    fprintf(to, "| %-12s |", group ? group : "all");
    for (int k = 0; k < TYPES; k++) {
        tally t = {0};
        for (size_t i = 0; i < kills->count; i++)
            if (kills->at[i].dtype == types[k] &&
                (!group || strcmp(kills->at[i].fault->group, group) == 0))
                count(&t, &kills->at[i].kill);
        fprintf(to, " %5d | %6d | %5d |", t.tried, t.caught, t.named);
    }
    fprintf(to, "\n");
}

static void print_head(FILE *to) {
    fprintf(to, "\n| %-12s |", "kind");
    for (int k = 0; k < TYPES; k++)
        fprintf(to, " %5s | %6s | %5s |", moe_dtype_name(types[k]), "caught", "named");
    fprintf(to, "\n|--------------|");
    for (int k = 0; k < TYPES; k++)
        fprintf(to, "------:|-------:|------:|");
    fprintf(to, "\n");
}

static void print_shares(FILE *to, const cli_kills *kills) {
    tally all = {0};
    for (size_t i = 0; i < kills->count; i++)
        count(&all, &kills->at[i].kill);
    if (all.tried)
        fprintf(to, "\n%d tried, %d caught (%.1f %%), %d named (%.1f %%)\n", all.tried, all.caught,
                100.0 * all.caught / all.tried, all.named, 100.0 * all.named / all.tried);
}

/* Kinds of faults lie together in the table, but for some: the first of each kind prints it. */
static bool is_first_of_group(const cli_kills *kills, size_t i) {
    for (size_t j = 0; j < i; j++)
        if (strcmp(kills->at[j].fault->group, kills->at[i].fault->group) == 0)
            return false;
    return true;
}

void cli_kills_summary(FILE *to, const cli_kills *kills) {
    print_head(to);
    for (size_t i = 0; i < kills->count; i++)
        if (is_first_of_group(kills, i))
            print_row(to, kills, kills->at[i].fault->group);
    print_row(to, kills, NULL);
    print_shares(to, kills);
    for (size_t i = 0; i < kills->count; i++)
        if (kills->at[i].kill.caught && !kills->at[i].kill.named)
            fprintf(to, "  not named %s.%s: %s\n    on %s\n", moe_dtype_name(kills->at[i].dtype),
                    kills->at[i].fault->name, kills->at[i].fault->what, kills->at[i].line);
    for (size_t i = 0; i < kills->count; i++)
        if (!kills->at[i].kill.caught)
            fprintf(to, "  SURVIVED %s.%s: %s\n    on %s\n", moe_dtype_name(kills->at[i].dtype),
                    kills->at[i].fault->name, kills->at[i].fault->what, kills->at[i].line);
    for (size_t i = 0; i < kills->blames; i++)
        fprintf(to, "  the right copy FAILS in %s on %s\n    %s\n",
                moe_dtype_name(kills->blame[i].dtype), kills->blame[i].line, kills->blame[i].why);
}

static json_t *kill_json(const cli_kill *k) {
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:b, s:b, s:s, s:o, s:s, s:f}", "fault",
                     k->fault->name, "kind", k->fault->group, "what", k->fault->what, "dtype",
                     moe_dtype_name(k->dtype), "case", cli_json_text(k->line), "caught",
                     k->kill.caught, "named", k->kill.named, "by", k->kill.by, "why",
                     cli_json_text(k->kill.why), "cause", k->kill.cause, "seconds", k->seconds);
}

json_t *cli_kills_json(const cli_kills *kills) {
    json_t *list = json_array(), *blames = json_array();
    tally all = {0};
    for (size_t i = 0; i < kills->count; i++) {
        count(&all, &kills->at[i].kill);
        json_array_append_new(list, kill_json(&kills->at[i]));
    }
    for (size_t i = 0; i < kills->blames; i++)
        json_array_append_new(blames, json_pack("{s:s, s:o, s:o}", "dtype",
                                                moe_dtype_name(kills->blame[i].dtype), "case",
                                                cli_json_text(kills->blame[i].line), "why",
                                                cli_json_text(kills->blame[i].why)));
    return json_pack("{s:i, s:o, s:o, s:{s:i, s:i, s:i}}", "moeref", CLI_JSON_VERSION, "faults",
                     list, "right_fails", blames, "summary", "tried", all.tried, "caught",
                     all.caught, "named", all.named);
}
