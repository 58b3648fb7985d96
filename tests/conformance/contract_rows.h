/* Ways to break the contract in one call, as the plug-in beside this plays them, and what must be
 * said of each. */
#ifndef MOE_TESTS_CONTRACT_ROWS_H
#define MOE_TESTS_CONTRACT_ROWS_H

#include "moeref/check.h"

#define FAULTY "T=6 d=17 n=5 E=4 K=2 dtype=fp32 seed=3" /* in which the plug-in acts */
#define SOUND  "T=6 d=16 n=5 E=4 K=2 dtype=fp32 seed=3"

#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* A variant, and what must be said of FAULTY. */
typedef struct row {
    const char *variant;
    moe_verdict verdict;
    const char *words;
} row;

#define SEGV  "crashed: SIGSEGV"
#define ABRT  "crashed: SIGABRT"
#define KILL  "crashed: SIGKILL"
#define EXIT0 "exited with code 0"
#define FAIL  MOE_VERDICT_FAIL
#define PASS  MOE_VERDICT_PASS

/* Every slot of a layer dies in these ways. */
#define EACH_SLOT(act, words)                                                                      \
    {"supports." act, FAIL, "supports " words}, {"prepare." act, FAIL, "prepare " words},          \
        {"set_input." act, FAIL, "set_input " words}, {"forward." act, FAIL, "forward " words},    \
        {"backward." act, FAIL, "backward " words}, {"fetch." act, FAIL, "fetch of O " words},     \
        {"routing." act, FAIL, "routing " words}, {"timings." act, FAIL, "timings " words},        \
        {"release." act, FAIL, "release " words},

static const row rows[] = {
    /* clang-format off */
    EACH_SLOT("segv", SEGV)
    EACH_SLOT("exit0", EXIT0)
    EACH_SLOT("upward", "left another rounding mode")
    /* clang-format on */
    {"prepare.flush", FAIL, "prepare left a floating-point unit that takes 0 for subnormal"},
    {"release.flush", FAIL, "release left a floating-point unit that takes 0 for subnormal"},
    {"forward.abort", FAIL, "forward " ABRT},
    {"forward.stack", FAIL, "forward " SEGV},
    {"forward.exit_now", FAIL, "forward " EXIT0},
    {"forward.double_free", FAIL, "forward " ABRT},
    {"forward.overrun", FAIL, "forward crashed: SIG"},
    {"forward.kill_group", FAIL, "forward " KILL},
    {"forward.close_files", FAIL, "forward "},
    {"forward.exec", FAIL, "forward " EXIT0},
    {"forward.fpe", FAIL, "forward crashed: SIGFPE"},
    {"forward.ill", FAIL, "forward crashed: SIGILL"},
    {"forward.child_sleeps", FAIL, "forward " KILL},
#ifdef CONTRACT_CXX
    {"backward.throw", FAIL, "backward " ABRT},
#endif
    {"prepare.null", FAIL, "prepare returned OK without a layer"},
    {"supports.arithmetic", FAIL, "supports names dtype 77"},
    {"supports.status_999", FAIL, "supports returned 999"},
    {"prepare.status_999", FAIL, "prepare returned 999"},
    {"set_input.status_minus_77", FAIL, "set_input returned -77"},
    {"forward.status_999", FAIL, "forward returned 999"},
    {"forward.status_contract", FAIL, "forward returned -9"},
    {"fetch.status_999", FAIL, "fetch of O returned 999"},
    {"routing.status_999", FAIL, "routing returned 999"},
    {"set_input.write", FAIL, "X: the backend changed this input"},
    {"set_input.write_dO", FAIL, "dO: the backend changed this input"},
    {"fetch.after", FAIL, "fetch of O wrote after the buffer"},
    {"fetch.before", FAIL, "fetch of O wrote before the buffer"},
    {"fetch.nothing", FAIL, "O: "},
    {"routing.null", FAIL, "routing returned OK without a plan"},
    {"routing.no_offsets", FAIL, "routing returned a plan that lacks an array"},
    {"routing.no_token", FAIL, "routing returned a plan that lacks an array"},
    {"routing.no_weight", FAIL, "routing returned a plan that lacks an array"},
    {"routing.no_token_offsets", FAIL, "routing returned a plan that lacks an array"},
    {"routing.no_pair_of_token", FAIL, "routing returned a plan that lacks an array"},
    {"routing.wild_offsets", FAIL, "routing " SEGV},
    {"routing.wild_weight", FAIL, "routing " SEGV},
    {"routing.many_pairs", FAIL, "routing tells of"},
    {"routing.minus_pairs", FAIL, "routing tells of"},
    {"routing.many_tokens", FAIL, "routing tells of"},
    {"routing.many_experts", FAIL, "routing tells of"},
    {"timings.nan", FAIL, "timings tells that A took"},
    {"timings.minus", FAIL, "timings tells that A took"},
    {"timings.many", FAIL, "timings"},
    {"timings.words", FAIL, "timings: \"??"},
    {"supports.words", MOE_VERDICT_SKIP, "not supported: ?[2Jno ??"},
    {"forward.plan", FAIL, "forward fails on what is valid: invalid argument"},
    {"forward.words", MOE_VERDICT_ERROR, "forward: device error"},
    /* sanitizers keep freed memory themselves, so that growth proves nothing there */
    {"forward.leak", SANITIZED ? PASS : FAIL, SANITIZED ? "" : "memory grows by 65536 KiB"},
    {"forward.seep", SANITIZED ? PASS : FAIL, SANITIZED ? "" : "memory grows by 8 KiB"},
    /* what happens in a process of its own and harms nobody */
    {"forward.print", PASS, ""},
    {"forward.chatter", PASS, ""},
    {"forward.fork", PASS, ""},
    {"forward.chdir", PASS, ""},
    {"forward.ignore_signals", PASS, ""},
};

/* These do not end; the time limit does. */
static const row endless[] = {
    {"prepare.deadlock", FAIL, "prepare took longer than"},
    {"forward.loop", FAIL, "forward took longer than"},
    {"backward.sleep", FAIL, "backward took longer than"},
    {"fetch.stop", FAIL, "fetch of O took longer than"},
    {"release.thread_exit", FAIL, "release took longer than"},
    {"forward.flood", FAIL, "forward took longer than"},
    {"forward.leave_group", FAIL, "forward took longer than"},
};

#endif
