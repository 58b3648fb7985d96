#include "moeref/selftest.h"
#include "selftest/faults.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct sized_line {
    const char *small, *large;
} sized_line;

#define CASE_ID(id, small, large)   CASE_##id,
#define CASE_LINE(id, small, large) [CASE_##id] = {small, large},
enum { MOE_INT_FAULT_CASES(CASE_ID) CASES };
static const sized_line lines[CASES] = {MOE_INT_FAULT_CASES(CASE_LINE)};

#define FAULT_ROW(name, group, line, types, causes, words, what)                                   \
    {#name, group, what, causes, words, types, CASE_##line},
static const moe_fault faults[] = {MOE_INT_FAULTS(FAULT_ROW)};

const moe_fault *moe_faults(size_t *ret_count) {
    *ret_count = sizeof faults / sizeof *faults;
    return faults;
}

void moe_fault_line(const moe_fault *fault, moe_dtype dtype, bool large, char *ret, size_t size) {
    const sized_line *line = &lines[fault->layer];
    snprintf(ret, size, "%s dtype=%s", large ? line->large : line->small, moe_dtype_name(dtype));
}

bool moe_fault_applies(const moe_fault *fault, moe_dtype dtype) {
    const int32_t bit = dtype == MOE_F32 ? 1 : dtype == MOE_BF16 ? 2 : dtype == MOE_F16 ? 4 : 0;
    return (fault->types & bit) != 0;
}

/* Is `word` one of the list's, which are apart by blanks? */
static bool is_listed(const char *list, const char *word) {
    const size_t length = strlen(word);
    for (const char *at = list; length && (at = strstr(at, word)); at += length) {
        const bool begins = at == list || at[-1] == ' ';
        if (begins && (at[length] == ' ' || !at[length]))
            return true;
    }
    return false;
}

/* Do the reasons of a report, the whole one's or a failing tensor's, say these words? */
static bool says(const moe_check_result *r, const char *words) {
    if (!*words)
        return false;
    if (strstr(r->why, words))
        return true;
    for (size_t i = 0; i < r->n_tensors; i++)
        if (r->tensor[i].verdict == MOE_VERDICT_FAIL && strstr(r->tensor[i].why, words))
            return true;
    return false;
}

moe_kill moe_kill_of(const moe_fault *fault, const moe_check_result *result) {
    moe_kill kill = {0};
    const bool tie = (fault->types & TIE_) && result->verdict == MOE_VERDICT_AMBIGUOUS;
    kill.caught = result->verdict == MOE_VERDICT_FAIL || tie;
    if (!kill.caught)
        return kill;
    const char *cause = result->explanation.kind;
    snprintf(kill.by, sizeof kill.by, "%s", result->first_wrong_stage);
    snprintf(kill.why, sizeof kill.why, "%.159s", result->why);
    snprintf(kill.cause, sizeof kill.cause, "%s", cause);
    kill.named = tie || is_listed(fault->causes, cause) || says(result, fault->words);
    return kill;
}
