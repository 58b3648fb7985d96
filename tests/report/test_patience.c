/* What waits for the cause of a failure: a time limit, signals, and what is told beforehand. */
#include "cli/input/messages.h"
#include "cli/input/patience.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void add(moe_check_result *r, const char *name, moe_verdict verdict, const char *why) {
    moe_tensor_verdict *v = &r->tensor[r->n_tensors++];
    v->verdict = verdict;
    snprintf(v->name, sizeof v->name, "%s", name);
    snprintf(v->why, sizeof v->why, "%s", why);
}

static moe_check_result *failing(int tensors) {
    static const char *const names[] = {"O", "dX", "dW1", "dW2", "dS", "dW_r"};
    moe_check_result *r = calloc(1, sizeof *r);
    cr_assert(r);
    r->backend = (char *)"mine";
    r->case_name = (char *)"T=4";
    snprintf(r->why, sizeof r->why, "buffers");
    add(r, "H", MOE_VERDICT_PASS, "");
    for (int i = 0; i < tensors; i++)
        add(r, names[i], MOE_VERDICT_FAIL, i % 2 ? "NMSE 2 > 1" : "max z 9 > 6.5");
    return r;
}

static void expect_text(int tensors, const char *want) {
    char text[256];
    moe_check_result *r = failing(tensors);
    cli_failing_text(r, text, sizeof text);
    cr_expect_str_eq(text, want);
    free(r);
}

Test(patience, names_what_fails) {
    expect_text(0, "buffers");
    expect_text(1, "O: max z 9 > 6.5");
    expect_text(2, "O: max z 9 > 6.5; dX: NMSE 2 > 1");
    expect_text(6, "O: max z 9 > 6.5; dX: NMSE 2 > 1; dW1: max z 9 > 6.5; dW2: NMSE 2 > 1; and 2 "
                   "more");
}

static bool goes_by_default(int number) {
    struct sigaction now;
    sigaction(number, NULL, &now);
    return now.sa_handler == SIG_DFL;
}

/* A signal before the verdict, and a second one, end the program as ever. */
Test(patience, one_signal_ends_the_search) {
    moe_check_result *r = failing(1);
    cli_patience p;
    cli_set_progress(false);
    cli_patience_begin(&p, 0);
    cr_expect(goes_by_default(SIGINT) && goes_by_default(SIGTERM));
    p.waiting.failed(p.waiting.user, r);
    cr_expect(!goes_by_default(SIGINT) && !goes_by_default(SIGTERM));
    cr_expect(!p.waiting.enough(p.waiting.user) && !cli_interrupted());
    raise(SIGINT);
    cr_expect(p.waiting.enough(p.waiting.user) && cli_interrupted());
    cr_expect(goes_by_default(SIGINT));
    cli_patience_end(&p);
    cr_expect(goes_by_default(SIGTERM));
    free(r);
}

/* Counted from the verdict on. */
Test(patience, limit) {
    const struct timespec some = {1, 100000000};
    moe_check_result *r = failing(1);
    cli_patience p;
    cli_set_progress(false);
    cli_patience_begin(&p, 1);
    nanosleep(&some, NULL);
    p.waiting.failed(p.waiting.user, r);
    cr_expect_not(p.waiting.enough(p.waiting.user));
    nanosleep(&some, NULL);
    cr_expect(p.waiting.enough(p.waiting.user) && !cli_interrupted());
    cli_patience_end(&p);
    free(r);
}
