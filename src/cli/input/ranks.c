#include "cli/input/ranks.h"
#include "cli/input/messages.h"
#include "cli/input/rank_notes.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

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
    const char *fault = ranks->fault ? ranks->fault : "";
    const size_t size =
        strlen(*line) + strlen(ranks->words) + strlen(transport) + strlen(fault) + 48;
    char *longer = malloc(size);
    if (!longer)
        return MOE_E_NOMEM;
    snprintf(longer, size, "%s --ep \"%s\" --transport %s%s%s", *line, ranks->words, transport,
             *fault ? " --ep-fault " : "", fault);
    free(*line);
    *line = longer;
    return MOE_OK;
}

/* What a launcher's exit code says beyond those of the ranks: one was ended by a signal, which the
 * code is, or is 128 below it. */
static int code_of(const cli_rank_notes *notes, int waited) {
    const int code = WIFEXITED(waited) ? WEXITSTATUS(waited) : 128 + WTERMSIG(waited);
    char what[160];
    if (code <= CLI_NOT_RUN)
        return code;
    cli_rank_notes_say(notes, what, sizeof what);
    moe_log_send(cli_log(), MOE_LOG_ERROR,
                 "%s, without a word of its own (%s), and the others were ended: no verdict", what,
                 strsignal(code > 128 ? code - 128 : code));
    return CLI_FAILED;
}

/* The process of the ranks is another one: if a rank is killed, this one is left to say so. */
static moe_status run_and_exit(const char *const *word, int32_t ranks) {
    cli_rank_notes *notes = cli_rank_notes_open(ranks);
    moe_status status = MOE_OK;
    int waited = 0;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* who ends this program ends its ranks */
        execvp(word[0], (char *const *)word);
        moe_fail(cli_log(), MOE_E_UNSUPPORTED, "%s cannot be started", word[0]);
        _exit(CLI_NOT_RUN);
    }
    if (child < 0)
        status = moe_fail(cli_log(), MOE_E_NOMEM, "no process for %s", word[0]);
    while (!status && waitpid(child, &waited, 0) < 0)
        if (errno != EINTR)
            status = moe_fail(cli_log(), MOE_E_IO, "%s is lost", word[0]);
    const int code = status ? CLI_NOT_RUN : code_of(notes, waited);
    cli_rank_notes_close(&notes);
    if (!status)
        exit(code);
    return status;
}

static moe_status run_under(const moe_transport *transport, int32_t ranks, char **argv) {
    enum { MOST_WORDS = 256 };
    const char *word[MOST_WORDS];
    char number[16], program[PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    int n = 0;
    if (length < 0)
        return moe_fail(cli_log(), MOE_E_IO, "this program's own file cannot be found");
    program[length] = '\0';
    snprintf(number, sizeof number, "%d", (int)ranks);
    for (int i = 0; transport->launcher[i] && n < MOST_WORDS - 4; i++)
        word[n++] = transport->launcher[i];
    word[n++] = number;
    word[n++] = program;
    for (int i = 0; argv[i] && n < MOST_WORDS - 1; i++)
        word[n++] = argv[i];
    word[n] = NULL;
    setenv("OMP_NUM_THREADS", "1", 0); /* ranks share the machine */
    if (!isatty(STDOUT_FILENO))        /* a launcher's terminals are none of the caller's */
        setenv("NO_COLOR", "1", 1);
    return run_and_exit(word, ranks);
}

/* Before there is a problem: groups, times the ranks of one. */
static int32_t ranks_in(const char *words) {
    const char *tp = strstr(words, " tp=");
    const long of_group = tp ? strtol(tp + strlen(" tp="), NULL, 10) : 1;
    return (int32_t)(strtol(words, NULL, 10) * (of_group > 1 ? of_group : 1));
}

static moe_status launch(const cli_ranks *ranks, char **argv) {
    const moe_transport *transport;
    if (!ranks->transport)
        return MOE_OK;
    moe_status status = moe_transport_find(ranks->transport, cli_log(), &transport);
    if (status || !transport->launcher)
        return status;
    if (!ranks->words)
        return moe_fail(cli_log(), MOE_E_INVALID, "--transport %s takes its ranks from --ep",
                        transport->name);
    if (transport->started() > 0 && !freopen("/dev/null", "w", stdout))
        return moe_fail(cli_log(), MOE_E_IO, "/dev/null cannot be opened");
    if (transport->started() >= 0)
        return MOE_OK;
    return run_under(transport, ranks_in(ranks->words), argv);
}

static moe_status use_own(cli_ranks *ranks, cli_strings *backends) {
    const char *words = ranks->words;
    if (!words || strspn(words, "0123456789") != strlen(words) || backends->count != 1)
        return moe_fail(cli_log(), MOE_E_INVALID,
                        "--transport peer takes one --backend and --ep with a number alone");
    const char *spec = backends->at[0];
    if (snprintf(ranks->own, sizeof ranks->own, "%s%cranks%s", spec, strchr(spec, ':') ? '+' : ':',
                 words) >= (int)sizeof ranks->own)
        return moe_fail(cli_log(), MOE_E_INVALID, "--backend %s: too long", spec);
    backends->at[0] = ranks->own;
    ranks->transport = ranks->words = NULL;
    return MOE_OK;
}

moe_status cli_ranks_start(cli_ranks *ranks, cli_strings *backends, char **argv) {
    return ranks->transport && strcmp(ranks->transport, "peer") == 0 ? use_own(ranks, backends)
                                                                     : launch(ranks, argv);
}

/* A fault that nobody could make must not look as if it had passed. */
static moe_status check_unread(const cli_ranks *ranks, const moe_problem *problem) {
    const char *unread = ranks->fault       ? "--ep-fault"
                         : ranks->limit_s   ? "--ep-limit"
                         : ranks->transport ? "--transport"
                                            : NULL;
    return !unread || ranks->own[0] || problem->split.ranks
               ? MOE_OK
               : moe_fail(cli_log(), MOE_E_INVALID, "%s is of ranks: say --ep too", unread);
}

moe_status cli_ranks_apply(const cli_ranks *ranks, moe_problem *problem) {
    moe_case c;
    if (!ranks->words)
        return check_unread(ranks, problem);
    moe_status status = parse(ranks->words, problem->T, &c);
    if (status)
        return status;
    free(problem->split.tokens);
    free(problem->split.replicas);
    problem->split = c.split;
    c.split.tokens = c.split.replicas = NULL;
    moe_case_destroy(&c);
    return problem->reproduce ? extend(&problem->reproduce, ranks) : MOE_OK;
}

moe_status cli_ranks_params(const cli_ranks *ranks, const moe_problem *problem,
                            moe_ep_params *ret) {
    const moe_split *s = &problem->split;
    *ret = (moe_ep_params){.ranks = moe_split_ranks(s),
                           .combine = s->combine,
                           .wire = s->wire,
                           .skew = s->skew,
                           .tokens = s->tokens,
                           .tp = s->tp,
                           .replicas = s->replicas,
                           .n_replicas = s->n_replicas,
                           .padding = s->padding,
                           .pad = s->pad,
                           .limit_s = (double)ranks->limit_s,
                           .fault = ranks->fault};
    return ranks->transport ? moe_transport_find(ranks->transport, cli_log(), &ret->transport)
                            : MOE_OK;
}
