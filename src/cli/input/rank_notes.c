#include "cli/input/rank_notes.h"
#include "moeref/ep.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct cli_rank_notes {
    int32_t ranks;
    char path[PATH_MAX];
    moe_ep_note *note; /* [MOE_EP_MAX_RANKS], shared with the ranks */
};

static bool map_file(cli_rank_notes *n) {
    const size_t size = MOE_EP_MAX_RANKS * sizeof *n->note;
    const char *folder = getenv("TMPDIR");
    snprintf(n->path, sizeof n->path, "%s/moeref-ranks.XXXXXX", folder ? folder : "/tmp");
    const int file = mkstemp(n->path);
    if (file < 0)
        return false;
    void *all = ftruncate(file, (off_t)size)
                    ? MAP_FAILED
                    : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (all == MAP_FAILED)
        unlink(n->path);
    else
        n->note = all;
    return n->note != NULL;
}

cli_rank_notes *cli_rank_notes_open(int32_t ranks) {
    cli_rank_notes *n = calloc(1, sizeof *n);
    if (!n || ranks > MOE_EP_MAX_RANKS || !map_file(n)) {
        free(n);
        return NULL;
    }
    n->ranks = ranks;
    setenv(MOE_EP_NOTES, n->path, 1);
    return n;
}

/* In the last exchange that any rank came to: those wait for the one that is gone. */
static bool waits(const cli_rank_notes *n, int32_t rank) {
    int32_t most = 0;
    for (int32_t r = 0; r < n->ranks; r++)
        most = n->note[r].steps > most ? n->note[r].steps : most;
    return n->note[rank].inside && n->note[rank].steps == most;
}

static void say_last(const moe_ep_note *a, char *ret, size_t size) {
    if (a->steps)
        snprintf(ret, size, "%s %s", a->inside ? "in" : "after", moe_ep_phase_name(a->phase));
    else
        snprintf(ret, size, "before any exchange");
}

void cli_rank_notes_say(const cli_rank_notes *n, char *ret, size_t size) {
    char which[96] = "", last[48] = "";
    int32_t gone = 0, other = -1;
    for (int32_t r = 0; n && r < n->ranks; r++) {
        const size_t used = strlen(which);
        if (waits(n, r)) {
            other = r;
            continue;
        }
        say_last(&n->note[r], last, sizeof last);
        snprintf(which + used, sizeof which - used, "%s%d", gone++ ? " or " : "", (int)r);
    }
    if (gone == 0 || other < 0)
        snprintf(ret, size, "a rank's process ended");
    else
        snprintf(ret, size, "the process of rank %s ended, %s, while others waited for it in %s",
                 which, last, moe_ep_phase_name(n->note[other].phase));
}

void cli_rank_notes_close(cli_rank_notes **notes) {
    cli_rank_notes *n = *notes;
    *notes = NULL;
    if (!n)
        return;
    munmap(n->note, MOE_EP_MAX_RANKS * sizeof *n->note);
    unlink(n->path);
    free(n);
}
