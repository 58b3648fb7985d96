#define _GNU_SOURCE
#include "cli/input/patience.h"
#include "cli/input/messages.h"
#include "core/clock.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { MOST_NAMED = 4 };
static const int ends[] = {SIGINT, SIGTERM};
enum { ENDS = sizeof ends / sizeof *ends };

static volatile sig_atomic_t interrupted;
static struct sigaction before[ENDS];
static bool is_watching;

/* A second one finds the old handler. */
static void note(int number) {
    (void)number;
    interrupted = 1;
}

bool cli_interrupted(void) {
    return interrupted != 0;
}

void cli_failing_text(const moe_check_result *result, char *ret, size_t size) {
    size_t used = 0;
    int failing = 0;
    ret[0] = '\0';
    for (size_t i = 0; i < result->n_tensors; i++) {
        const moe_tensor_verdict *v = &result->tensor[i];
        if (v->verdict != MOE_VERDICT_FAIL || failing++ >= MOST_NAMED || used >= size)
            continue;
        used += (size_t)snprintf(ret + used, size - used, "%s%s: %s", used ? "; " : "", v->name,
                                 v->why);
    }
    if (failing > MOST_NAMED && used < size)
        snprintf(ret + used, size - used, "; and %d more", failing - MOST_NAMED);
    if (failing == 0)
        snprintf(ret, size, "%s", result->why);
}

static void failed(void *user, const moe_check_result *so_far) {
    cli_patience *p = user;
    const struct sigaction action = {.sa_handler = note, .sa_flags = (int)SA_RESETHAND};
    char tensors[768];
    cli_failing_text(so_far, tensors, sizeof tensors);
    if (cli_progress_is_shown()) {
        cli_note("fail, %s, %s: %s", so_far->backend, so_far->case_name, tensors);
        cli_note("the cause is looked for; Ctrl-C ends that, and the report follows");
    }
    p->since_us = moe_int_now_us();
    for (int i = 0; i < ENDS; i++)
        sigaction(ends[i], &action, &before[i]);
    is_watching = true;
}

static bool enough(void *user) {
    const cli_patience *p = user;
    return cli_interrupted() ||
           (p->limit_s > 0 && moe_int_now_us() - p->since_us >= 1e6 * p->limit_s);
}

void cli_patience_begin(cli_patience *patience, int64_t limit_s) {
    *patience = (cli_patience){.limit_s = (double)limit_s};
    patience->waiting = (moe_check_waiting){failed, enough, patience};
}

void cli_patience_end(cli_patience *patience) {
    for (int i = 0; is_watching && i < ENDS; i++)
        sigaction(ends[i], &before[i], NULL);
    is_watching = false;
    patience->waiting = (moe_check_waiting){0};
}
