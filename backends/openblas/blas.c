#include "blas.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    void *object = open_with_core();
    if (!object) {
        snprintf(reason, size,
                 "libopenblas.so.0 is not installed (Debian: libopenblas0-openmp): %s", dlerror());
        return MOE_E_UNSUPPORTED;
    }
    struct {
        const char *name;
        void **slot;
    } symbols[] = {
        {"cblas_sgemm", (void **)&ret->sgemm},
        {"cblas_dgemm", (void **)&ret->dgemm},
        {"openblas_set_num_threads", (void **)&ret->set_threads},
        {"openblas_get_num_threads", (void **)&ret->get_threads},
        {"openblas_get_parallel", (void **)&ret->parallel},
        {"openblas_get_corename", (void **)&ret->core},
    };
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        *symbols[i].slot = dlsym(object, symbols[i].name);
        if (!*symbols[i].slot) {
            snprintf(reason, size, "libopenblas.so.0 lacks %s", symbols[i].name);
            return MOE_E_UNSUPPORTED;
        }
    }
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
