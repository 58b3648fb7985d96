/* The backend `openblas`: fp32 on the CPU, and products of bf16 where it has them. */
#include "clock.h"
#include "core/samples.h"
#include "layer.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static moe_status probe(char *reason, size_t size) {
    ob_blas blas;
    return ob_blas_load(&blas, reason, size);
}

static moe_status open_device(const moe_open_params *params, void **ret_device) {
    char reason[200];
    moe_quant_desc codes = {0};
    const bool invariant = strcmp(params->variant, "invariant") == 0;
    const bool plain = strcmp(params->variant, "fp32") == 0;
    const bool coded = ob_codes_parse(params->variant, &codes);
    if (params->variant[0] && !invariant && !plain && !coded)
        return moe_fail(params->log, MOE_E_NOTFOUND,
                        "openblas has no variant '%s'; it has 'invariant', 'fp32', and 'int8', "
                        "'int4' and 'fp8', with the rows and columns of a block as in 'int4.1x32'",
                        params->variant);
    ob_device *dev = calloc(1, sizeof *dev);
    if (!dev)
        return moe_fail(params->log, MOE_E_NOMEM, "openblas: no memory for a device");
    moe_status status = ob_blas_load(&dev->blas, reason, sizeof reason);
    if (status) {
        free(dev);
        return moe_fail(params->log, status, "openblas: %s", reason);
    }
    dev->threads = params->threads > 0 ? params->threads : omp_get_max_threads();
    dev->log = params->log;
    dev->invariant = invariant;
    dev->pairs = plain ? NULL : ob_pairs();
    dev->coded = coded;
    dev->codes = codes;
    if (dev->blas.parallel() == OB_SEQUENTIAL && dev->threads > 1) {
        moe_log_send(params->log, MOE_LOG_WARN,
                     "this OpenBLAS is a sequential build, unsafe to call from several threads: "
                     "using one; install libopenblas0-openmp");
        dev->threads = 1;
    }
    if (ob_blas_is_slow(&dev->blas))
        moe_log_send(params->log, MOE_LOG_WARN,
                     "OpenBLAS runs its slow '%s' kernels: it was loaded before this plug-in could "
                     "choose; set OPENBLAS_CORETYPE",
                     dev->blas.core());
    status = ob_blas_take_buffers(&dev->blas, dev->threads, dev->log);
    if (status)
        free(dev);
    else
        *ret_device = dev;
    return status;
}

static void close_device(void *device) {
    free(device);
}

bool ob_rounds(const ob_device *dev, int32_t dtype) {
    return dev->pairs && dtype == MOE_BF16;
}

int32_t ob_promise(const ob_device *dev) {
    return dev->invariant ? MOE_PROMISE_REPEATS | MOE_PROMISE_BATCH_INVARIANT : MOE_PROMISE_REPEATS;
}

static moe_status supports(void *device, const moe_layer_desc *desc, const moe_use *use,
                           moe_support *ret) {
    const ob_device *dev = device;
    if (moe_refuse_unknown(desc, ret))
        return MOE_E_UNSUPPORTED;
    if (dev->coded && (use->dtype != MOE_F32 || use->pass != MOE_PASS_FWD)) {
        snprintf(ret->reason, sizeof ret->reason,
                 "codes are read forward only, and made of fp32 values: dtype=fp32 pass=fwd");
        return MOE_E_UNSUPPORTED;
    }
    ret->arithmetic = ob_rounds(dev, use->dtype) ? MOE_BF16 : MOE_F32;
    ret->deterministic = ob_promise(device);
    return MOE_OK;
}

enum { GEMM_SIZE = 2048, ROOFLINE_REPEATS = 5 };
static const size_t copy_bytes = (size_t)256 << 20;

typedef struct roofline_memory {
    float *a, *b, *c; /* [GEMM_SIZE][GEMM_SIZE] */
    char *from, *to;  /* [copy_bytes] */
} roofline_memory;

/* One multi-threaded GEMM as any program would call it. */
static double time_gemm_us(const ob_device *dev, const roofline_memory *m) {
    double start = moe_int_now_us();
    dev->blas.sgemm(OB_ROW_MAJOR, OB_NO_TRANS, OB_NO_TRANS, GEMM_SIZE, GEMM_SIZE, GEMM_SIZE, 1.0f,
                    m->a, GEMM_SIZE, m->b, GEMM_SIZE, 0.0f, m->c, GEMM_SIZE);
    return moe_int_now_us() - start;
}

static double time_copy_us(const ob_device *dev, const roofline_memory *m) {
    enum { PARTS = 64 };
    size_t part = copy_bytes / PARTS;
    double start = moe_int_now_us();
#pragma omp parallel for num_threads(dev->threads)
    for (int i = 0; i < PARTS; i++)
        memcpy(m->to + (size_t)i * part, m->from + (size_t)i * part, part);
    return moe_int_now_us() - start;
}

/* The first run touches memory and starts threads; it does not count. */
static double median_us(double (*timed)(const ob_device *, const roofline_memory *),
                        const ob_device *dev, const roofline_memory *m) {
    double us[ROOFLINE_REPEATS];
    timed(dev, m);
    for (int i = 0; i < ROOFLINE_REPEATS; i++)
        us[i] = timed(dev, m);
    return moe_int_median(us, ROOFLINE_REPEATS);
}

/* OpenBLAS takes its thread count from OpenMP, or keeps one of its own; both are put back. */
static double median_gemm_us(const ob_device *dev, const roofline_memory *m) {
    int openmp = omp_get_max_threads(), own = dev->blas.get_threads();
    omp_set_num_threads(dev->threads);
    dev->blas.set_threads(dev->threads);
    double us = median_us(time_gemm_us, dev, m);
    dev->blas.set_threads(own);
    omp_set_num_threads(openmp);
    return us;
}

static moe_status measure_roofline(void *device, moe_roofline *ret) {
    const ob_device *dev = device;
    size_t matrix = (size_t)GEMM_SIZE * GEMM_SIZE;
    float *matrices = calloc(3 * matrix, sizeof *matrices);
    char *copies = malloc(2 * copy_bytes);
    moe_status status = MOE_OK;
    if (matrices && copies) {
        for (size_t i = 0; i < 2 * matrix; i++)
            matrices[i] = (float)(i % 7) - 3;
        memset(copies, 1, 2 * copy_bytes);
        roofline_memory m = {matrices, matrices + matrix, matrices + 2 * matrix, copies,
                             copies + copy_bytes};
        ret->gemm_flops = 2.0 * GEMM_SIZE * (double)matrix / (1e-6 * median_gemm_us(dev, &m));
        ret->memory_rate = 2.0 * (double)copy_bytes / (1e-6 * median_us(time_copy_us, dev, &m));
        snprintf(ret->source, sizeof ret->source,
                 "cblas_sgemm %d^3 on %s kernels, %d threads; memcpy 256 MiB", GEMM_SIZE,
                 dev->blas.core(), dev->threads);
    } else {
        status = moe_fail(dev->log, MOE_E_NOMEM, "openblas: no memory to measure the roofline");
    }
    free(matrices);
    free(copies);
    return status;
}

extern MOE_API const moe_plugin moe_plugin_v;
const moe_plugin moe_plugin_v = {
    .abi = MOE_PLUGIN_ABI,
    .priority = 50,
    .name = "openblas",
    .brief = "fp32 on the CPU: OpenMP over experts and blocks, GEMMs by OpenBLAS",
    .probe = probe,
    .open = open_device,
    .close = close_device,
    .supports = supports,
    .prepare = ob_layer_prepare,
    .release = ob_layer_release,
    .set_input = ob_layer_set_input,
    .forward = ob_layer_forward,
    .backward = ob_layer_backward,
    .fetch = ob_layer_fetch,
    .routing = ob_layer_routing,
    .timings = ob_layer_timings,
    .memory = ob_layer_memory,
    .roofline = measure_roofline,
    .operators = &ob_operators,
};
