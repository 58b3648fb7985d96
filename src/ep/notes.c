/* What this process's rank is doing, in a file that outlives it. */
#include "ep/comm.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static moe_ep_note *notes; /* [MOE_EP_MAX_RANKS]; NULL: nobody wants to know */

static void open_notes(void) {
    const char *path = getenv(MOE_EP_NOTES);
    const int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    const size_t size = MOE_EP_MAX_RANKS * sizeof *notes;
    if (file < 0)
        return;
    if (lseek(file, 0, SEEK_END) >= (off_t)size) {
        void *all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        notes = all == MAP_FAILED ? NULL : all;
    }
    close(file);
}

void moe_int_ep_note(int32_t rank, int32_t phase, bool inside) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_notes);
    if (!notes)
        return;
    notes[rank].phase = phase;
    notes[rank].inside = inside;
    notes[rank].steps += inside;
}
