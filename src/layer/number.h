/* Internal: numbers as words of text. The whole word must be the number, and the decimal point is
 * a full stop whatever the process's locale says. */
#ifndef MOE_LAYER_NUMBER_H
#define MOE_LAYER_NUMBER_H

#include "moeref/status.h"

#include <locale.h>
#include <stddef.h>
#include <stdint.h>

/* A piece of text that need not end with NUL. */
typedef struct moe_int_word {
    const char *text;
    size_t length;
} moe_int_word;

/* Decimal digits only, value <= max. MOE_E_INVALID: something else stands there; MOE_E_UNSUPPORTED:
 * it is a whole number, but larger. */
moe_status moe_int_parse_uint(moe_int_word word, uint64_t max, uint64_t *ret);

/* [+-]digits[.digits][e[+-]digits] with a digit on either side of the point, finite. MOE_E_INVALID
 * and MOE_E_UNSUPPORTED as above; a nonzero number that underflows to 0 is out of range too. */
moe_status moe_int_parse_real(moe_int_word word, double *ret);

/* This thread's printf and strtod with a full stop, until moe_int_own_numbers gets both back. */
locale_t moe_int_plain_numbers(locale_t *ret_previous);
void moe_int_own_numbers(locale_t plain, locale_t previous);

/* The shortest of 15 to 17 digits that reads back as the same double. `size` >= 32. */
void moe_int_print_real(double value, char *buf, size_t size);

#endif
