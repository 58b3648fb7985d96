/* What no slot may do to the process that it runs in; one function and one row each. */
#define _GNU_SOURCE
#include "contract_acts.h"
#include "core/flush.h"

#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile int sink;

/* Deeper than any stack. */
static int fall(int depth) {
    volatile char room[4096];
    room[depth % 4096] = 1;
    return depth ? fall(depth - 1) + room[depth % 4096] : 0;
}

static void act_segv(void) {
    volatile int *volatile nowhere = NULL;
    *nowhere = 1;
}

static void act_stack(void) {
    sink = fall(1 << 30);
}

static void act_exit0(void) {
    exit(0);
}

static void act_exit_now(void) {
    _exit(0);
}

static void act_loop(void) {
    for (;;)
        sink++;
}

static void act_sleep(void) {
    for (;;)
        pause();
}

static void act_deadlock(void) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&mutex);
    pthread_mutex_lock(&mutex);
}

static void act_thread_exit(void) {
    pthread_exit(NULL);
}

static void act_stop(void) {
    raise(SIGSTOP);
}

static void act_flood(void) {
    for (;;)
        fputs("flood\n", stdout);
}

static void act_double_free(void) {
    void *volatile block = malloc(100);
    free(block);
    free(block);
}

static void act_overrun(void) {
    volatile char *block = malloc(2000), *next = malloc(2000);
    for (int i = 0; block && i < 8000; i++)
        block[i] = 0x55;
    free((void *)next);
    free((void *)block);
}

/* Into the judge's group, where a signal to its own does not reach it. */
static void act_leave_group(void) {
    setpgid(0, getpgid(getppid()));
    act_loop();
}

static void act_kill_group(void) {
    kill(0, SIGKILL);
}

static void act_close_files(void) {
    for (int i = 0; i < 64; i++)
        close(i);
}

static void act_exec(void) {
    execl("/bin/true", "true", (char *)NULL);
}

static void act_fpe(void) {
    raise(SIGFPE);
}

static void act_ill(void) {
    raise(SIGILL);
}

static void act_upward(void) {
    fesetround(FE_UPWARD);
}

static void act_flush(void) {
    moe_int_flush_set(true);
}

/* Its own thread, which waits for it, is as it was. */
static void act_flush_team(void) {
#pragma omp parallel num_threads(2)
    moe_int_flush_set(true);
    moe_int_flush_set(false);
}

static void act_print(void) {
    printf("a word on standard output\n");
    fprintf(stderr, "\033[31mand one\xff on standard error\n");
}

static void act_fork(void) {
    (void)!fork(); /* the copy comes back as well, and answers */
}

static void lose_pages(size_t bytes) {
    void *lost = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    sink = lost == MAP_FAILED;
}

static void act_leak(void) {
    lose_pages((size_t)64 << 20);
}

/* Hardly more than what can be seen. */
static void act_seep(void) {
    lose_pages((size_t)8 << 10);
}

static void act_chdir(void) {
    (void)!chdir("/");
}

static void act_ignore_signals(void) {
    for (int i = 1; i < 32; i++)
        signal(i, SIG_IGN);
}

static void act_child_sleeps(void) { /* holds every descriptor of the worker, which ends */
    if (fork() == 0)
        sleep(600);
    else
        raise(SIGKILL);
}

#ifdef CONTRACT_CXX
void contract_throw(void);
#endif

static const struct {
    const char *name;
    void (*run)(void);
} acts[] = {
    {"segv", act_segv},
    {"abort", abort},
    {"stack", act_stack},
    {"exit0", act_exit0},
    {"exit_now", act_exit_now},
    {"loop", act_loop},
    {"sleep", act_sleep},
    {"deadlock", act_deadlock},
    {"thread_exit", act_thread_exit},
    {"stop", act_stop},
    {"flood", act_flood},
    {"double_free", act_double_free},
    {"overrun", act_overrun},
    {"leave_group", act_leave_group},
    {"kill_group", act_kill_group},
    {"close_files", act_close_files},
    {"exec", act_exec},
    {"fpe", act_fpe},
    {"ill", act_ill},
    {"upward", act_upward},
    {"flush", act_flush},
    {"flush_team", act_flush_team},
    {"print", act_print},
    {"fork", act_fork},
    {"leak", act_leak},
    {"seep", act_seep},
    {"chdir", act_chdir},
    {"ignore_signals", act_ignore_signals},
    {"child_sleeps", act_child_sleeps},
#ifdef CONTRACT_CXX
    {"throw", contract_throw},
#endif
};

void contract_perform(const char *act) {
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (strcmp(acts[i].name, act) == 0)
            acts[i].run();
}
