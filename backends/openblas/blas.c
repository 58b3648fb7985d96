#include "blas.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const char core_key[] = "OPENBLAS_CORETYPE";

/* The kernels that this CPU can run. OpenBLAS up to 0.3.21 takes an x86 model that it does not
 * know for an SSE3 machine, eight times slower; the CPU's feature bits are what counts. */
static const char *choose_core(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return "SkylakeX";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return "Haswell";
#endif
    return NULL;
}

/* BUFFER_SIZE in OpenBLAS's common_x86_64.h, the largest of its platforms. */
static const size_t buffer_bytes = (size_t)128 << 20;

/* Is there room for so many bytes? Asked with a mapping that is given back untouched. */
static bool has_room(size_t bytes) {
    void *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return false;
    munmap(room, bytes);
    return true;
}

/* OpenBLAS reads the variable in its constructor, that is inside dlopen. It is taken back at once:
 * processes that this one starts make their own choice. */
static void *open_with_core(void) {
    const char *core = getenv(core_key) ? NULL : choose_core();
    bool set = core && setenv(core_key, core, 1) == 0;
    void *object = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (set)
        unsetenv(core_key);
    return object;
}

moe_status ob_blas_load(ob_blas *ret, char *reason, size_t size) {
    if (!has_room(3 * buffer_bytes)) { /* its constructor takes one or two */
        snprintf(reason, size, "no memory for OpenBLAS's %zu MiB workspace", buffer_bytes >> 20);
        return MOE_E_NOMEM;
    }
    void *object = open_with_core();
    if (!object) {
        snprintf(reason, size,
                 "libopenblas.so.0 is not installed (Debian: libopenblas0-openmp): %s", dlerror());
        return MOE_E_UNSUPPORTED;
    }
    struct {
        const char *name;
        void **slot;
        bool optional;
    } symbols[] = {
        {"cblas_sgemm", (void **)&ret->sgemm, false},
        {"cblas_dgemm", (void **)&ret->dgemm, false},
        {"openblas_set_num_threads", (void **)&ret->set_threads, false},
        {"openblas_get_num_threads", (void **)&ret->get_threads, false},
        {"openblas_get_parallel", (void **)&ret->parallel, false},
        {"openblas_get_corename", (void **)&ret->core, false},
        {"blas_memory_alloc", (void **)&ret->take_buffer, true},
        {"blas_memory_free", (void **)&ret->give_buffer, true},
    };
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        *symbols[i].slot = dlsym(object, symbols[i].name);
        if (!*symbols[i].slot && !symbols[i].optional) {
            snprintf(reason, size, "libopenblas.so.0 lacks %s", symbols[i].name);
            return MOE_E_UNSUPPORTED;
        }
    }
    return MOE_OK;
}

moe_status ob_blas_take_buffers(const ob_blas *blas, int threads, const moe_log *log) {
    void **taken = calloc((size_t)threads, sizeof *taken);
    if (!taken || !has_room((size_t)threads * buffer_bytes)) {
        free(taken);
        return moe_fail(log, MOE_E_NOMEM,
                        "openblas: no memory for OpenBLAS's %zu MiB for each of %d threads",
                        buffer_bytes >> 20, threads);
    }
    bool can = blas->take_buffer && blas->give_buffer;
    for (int i = 0; can && i < threads; i++)
        taken[i] = blas->take_buffer(0);
    for (int i = 0; can && i < threads; i++)
        blas->give_buffer(taken[i]);
    free(taken);
    return MOE_OK;
}

int ob_blas_enter(const ob_blas *blas) {
    if (blas->parallel() != OB_OWN_THREADS)
        return 0;
    int saved = blas->get_threads();
    blas->set_threads(1);
    return saved;
}

void ob_blas_leave(const ob_blas *blas, int saved) {
    if (saved > 0)
        blas->set_threads(saved);
}

bool ob_blas_is_slow(const ob_blas *blas) {
    static const char *const old[] = {"Prescott", "Core2",   "Penryn",      "Dunnington",
                                      "Nehalem",  "Atom",    "Nano",        "Barcelona",
                                      "Bobcat",   "Opteron", "Opteron_SSE3"};
    for (size_t i = 0; i < sizeof old / sizeof *old; i++)
        if (strcmp(blas->core(), old[i]) == 0)
            return choose_core() != NULL;
    return false;
}
