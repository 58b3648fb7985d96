/* Experts' weights as codes of few bits (moeref/quant.h): read as they are, forward only. */
#ifndef MOEREF_OPENBLAS_CODES_H
#define MOEREF_OPENBLAS_CODES_H

#include "moeref/quant.h"

#include <stdbool.h>

/* The matrices [rows][columns] of some experts, blocks of each its own. code NULL: there are none.
 */
typedef struct ob_codes {
    moe_quant_desc form;
    int64_t experts, rows, columns;
    unsigned char *code; /* [experts][code_bytes] */
    float *scale;        /* [experts][scales] */
} ob_codes;

/* "int8", "int4" or "fp8", and the rows and columns that share a scale, as in "int4.1x32"; without
 * them, each row has one. false: it is none of these. */
bool ob_codes_parse(const char *variant, moe_quant_desc *ret);

/* Of weights that such codes stand for, up to the rounding of their scales. MOE_E_UNSUPPORTED: they
 * are no such weights. */
moe_status ob_codes_make(const moe_quant_desc *form, const moe_tensor *w, int threads,
                         const moe_log *log, ob_codes *ret);
void ob_codes_destroy(ob_codes *codes);

/* Bytes of codes and scales. */
int64_t ob_codes_bytes(const ob_codes *codes);

#endif
