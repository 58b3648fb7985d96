/* OpenBLAS, loaded at run time: its core detection can be corrected before its constructor runs,
 * and a machine without it gets a sentence instead of a plug-in that will not load. */
#ifndef MOEREF_OPENBLAS_BLAS_H
#define MOEREF_OPENBLAS_BLAS_H

#include "moeref/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Values of the CBLAS interface (netlib.org/blas/blast-forum/cblas.tgz, cblas.h). OpenBLAS's LP64
 * build takes 32-bit int sizes. */
enum { OB_ROW_MAJOR = 101, OB_NO_TRANS = 111, OB_TRANS = 112 };

typedef void (*ob_sgemm_fn)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                            const float *a, int lda, const float *b, int ldb, float beta, float *c,
                            int ldc);
typedef void (*ob_dgemm_fn)(int order, int trans_a, int trans_b, int m, int n, int k, double alpha,
                            const double *a, int lda, const double *b, int ldb, double beta,
                            double *c, int ldc);

/* openblas_get_parallel(): how the library was built. A sequential build takes no locks and may be
 * called by one thread at a time only. */
enum { OB_SEQUENTIAL = 0, OB_OWN_THREADS = 1, OB_OPENMP = 2 };

typedef struct ob_blas {
    ob_sgemm_fn sgemm;
    ob_dgemm_fn dgemm;
    void (*set_threads)(int threads);
    int (*get_threads)(void);
    int (*parallel)(void);            /* one of the enum above */
    char *(*core)(void);              /* "SkylakeX" ... */
    void *(*take_buffer)(int unused); /* OpenBLAS's own workspace; NULL where it is not exported */
    void (*give_buffer)(void *buffer);
} ob_blas;

/* Loads libopenblas, which stays loaded, and fills *ret. On failure `reason` says what is missing.
 * The core type is chosen by choose_core in blas.c unless OPENBLAS_CORETYPE is set: for a moment
 * the environment then has it, so no other thread may use the environment meanwhile. */
moe_status ob_blas_load(ob_blas *ret, char *reason, size_t size);

/* OpenBLAS maps a workspace for every thread that multiplies, at that thread's first GEMM, keeps
 * it, and tries for ever where it cannot have it. Here failing is possible: MOE_E_NOMEM, or the
 * workspaces of `threads` threads are there from now on. */
moe_status ob_blas_take_buffers(const ob_blas *blas, int threads, const moe_log *log);

/* Around a pass whose GEMMs run in the plug-in's own threads. An OpenBLAS with threads of its own
 * is told to use one and gets its setting back; one built on OpenMP asks the calling thread
 * (tasks.c). */
int ob_blas_enter(const ob_blas *blas);
void ob_blas_leave(const ob_blas *blas, int saved);

/* true when the library chose kernels that use neither AVX2 nor AVX-512 although the CPU has them:
 * another part of the process loaded it first. */
bool ob_blas_is_slow(const ob_blas *blas);

#endif
