#include "codes.h"
#include "core/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What rounding a scale twice may add to a value. */
#define SCALE_ROUNDOFF 0x1p-22

static const int32_t kinds[] = {MOE_QUANT_INT8, MOE_QUANT_INT4, MOE_QUANT_FP8};

bool ob_codes_parse(const char *variant, moe_quant_desc *ret) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const char *name = moe_quant_kind_name(kinds[i]);
        const size_t length = strlen(name);
        long long rows = 1, columns = 0;
        char after;
        if (strncmp(variant, name, length) != 0)
            continue;
        if (variant[length] &&
            (sscanf(variant + length, ".%lldx%lld%c", &rows, &columns, &after) != 2 || rows < 0 ||
             columns < 0))
            return false;
        *ret = (moe_quant_desc){.kind = kinds[i], .block_rows = rows, .block_columns = columns};
        return true;
    }
    return false;
}

static int64_t code_bytes(const ob_codes *k) {
    return moe_quant_code_bytes(&k->form, k->rows, k->columns);
}

static int64_t scales(const ob_codes *k) {
    return moe_quant_scales(&k->form, k->rows, k->columns);
}

int64_t ob_codes_bytes(const ob_codes *k) {
    return k->code ? k->experts * (code_bytes(k) + scales(k) * (int64_t)sizeof *k->scale) : 0;
}

void ob_codes_destroy(ob_codes *codes) {
    free(codes->code);
    free(codes->scale);
    *codes = (ob_codes){.code = NULL};
}

/* An expert that nobody may read. */
static bool is_nan(const float *w, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (!isnan(w[i]))
            return false;
    return true;
}

/* Expert e's codes from its weights; `values` has room for a matrix. */
static moe_status make_one(const ob_codes *k, int64_t e, const float *w, float *values) {
    const int64_t count = k->rows * k->columns;
    void *code = k->code + e * code_bytes(k);
    float *scale = k->scale + e * scales(k);
    if (is_nan(w, count)) { /* 0 times it is NaN too */
        memset(code, 0, (size_t)code_bytes(k));
        for (int64_t i = 0; i < scales(k); i++)
            scale[i] = NAN;
        return MOE_OK;
    }
    moe_status status = moe_quantise(&k->form, w, MOE_F32, k->rows, k->columns, NULL, code, scale);
    if (status)
        return status == MOE_E_INVALID ? MOE_E_UNSUPPORTED : status;
    moe_dequantise(&k->form, code, scale, k->rows, k->columns, MOE_F32, values);
    for (int64_t i = 0; i < count; i++)
        if (!(fabsf(values[i] - w[i]) <= (float)SCALE_ROUNDOFF * fabsf(w[i])))
            return MOE_E_UNSUPPORTED;
    return MOE_OK;
}

/* From all experts' weights; `room` is a matrix of the calling thread's own, or NULL. */
static moe_status make_some(const ob_codes *k, const float *w, int64_t e, float *room) {
    return room ? make_one(k, e, w + e * k->rows * k->columns, room) : MOE_E_NOMEM;
}

static moe_status make_all(const ob_codes *k, const float *w, int threads) {
    int worst = MOE_OK;
#pragma omp parallel num_threads(threads) reduction(max : worst)
    {
        float *room = malloc((size_t)(k->rows * k->columns) * sizeof *room);
#pragma omp for schedule(dynamic, 1)
        for (int64_t e = 0; e < k->experts; e++) {
            const int made = make_some(k, w, e, room);
            worst = made > worst ? made : worst;
        }
        free(room);
    }
    return (moe_status)worst;
}

moe_status ob_codes_make(const moe_quant_desc *form, const moe_tensor *w, int threads,
                         const moe_log *log, ob_codes *ret) {
    ob_codes k = {
        .form = *form, .experts = w->shape[0], .rows = w->shape[1], .columns = w->shape[2]};
    k.code = moe_int_allocate((size_t)(k.experts * code_bytes(&k)));
    k.scale = moe_int_allocate((size_t)(k.experts * scales(&k)) * sizeof *k.scale);
    moe_status status = k.code && k.scale ? MOE_OK : MOE_E_NOMEM;
    if (!status)
        status = make_all(&k, w->data, threads);
    if (!status) {
        *ret = k;
        return MOE_OK;
    }
    ob_codes_destroy(&k);
    if (status == MOE_E_NOMEM)
        return moe_fail(log, status, "openblas: no memory for codes of weights");
    return moe_fail(log, MOE_E_UNSUPPORTED,
                    "openblas:%s reads weights that such codes stand for, as those of a case with "
                    "quant=%s and the same blocks; these are none",
                    moe_quant_kind_name(form->kind), moe_quant_kind_name(form->kind));
}
