/* Strict numbers: full match, overflow noticed, locale ignored. */
#include "layer/number.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST_REAL 63 /* characters; doubles need 24 */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

moe_status moe_int_parse_uint(moe_int_word word, uint64_t max, uint64_t *ret) {
    uint64_t value = 0;
    bool too_large = false;
    if (word.length == 0)
        return MOE_E_INVALID;
    for (size_t i = 0; i < word.length; i++) {
        if (!is_digit(word.text[i]))
            return MOE_E_INVALID;
        uint64_t digit = (uint64_t)(word.text[i] - '0');
        if (digit > max || value > (max - digit) / 10)
            too_large = true;
        else
            value = value * 10 + digit;
    }
    if (too_large)
        return MOE_E_UNSUPPORTED;
    *ret = value;
    return MOE_OK;
}

static size_t skip_digits(moe_int_word word, size_t at) {
    while (at < word.length && is_digit(word.text[at]))
        at++;
    return at;
}

static bool is_real(moe_int_word word) {
    size_t at = 0;
    if (at < word.length && (word.text[at] == '+' || word.text[at] == '-'))
        at++;
    size_t end = skip_digits(word, at), digits = end - at;
    at = end;
    if (at < word.length && word.text[at] == '.') {
        end = skip_digits(word, at + 1);
        digits += end - at - 1;
        at = end;
    }
    if (digits == 0)
        return false;
    if (at < word.length && (word.text[at] == 'e' || word.text[at] == 'E')) {
        at++;
        if (at < word.length && (word.text[at] == '+' || word.text[at] == '-'))
            at++;
        end = skip_digits(word, at);
        if (end == at)
            return false;
        at = end;
    }
    return at == word.length;
}

locale_t moe_int_plain_numbers(locale_t *ret_previous) {
    locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    *ret_previous = uselocale(c); /* c == 0 only queries */
    return c;
}

void moe_int_own_numbers(locale_t plain, locale_t previous) {
    uselocale(previous);
    if (plain)
        freelocale(plain);
}

moe_status moe_int_parse_real(moe_int_word word, double *ret) {
    char text[LONGEST_REAL + 1];
    if (!is_real(word) || word.length > LONGEST_REAL)
        return MOE_E_INVALID;
    memcpy(text, word.text, word.length);
    text[word.length] = '\0';
    locale_t previous, c = moe_int_plain_numbers(&previous);
    errno = 0;
    double value = strtod(text, NULL);
    bool out_of_range = errno == ERANGE && (value == 0 || !isfinite(value));
    moe_int_own_numbers(c, previous);
    if (out_of_range)
        return MOE_E_UNSUPPORTED;
    *ret = value;
    return MOE_OK;
}

void moe_int_print_real(double value, char *buf, size_t size) {
    locale_t previous, c = moe_int_plain_numbers(&previous);
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(buf, size, "%.*g", digits, value);
        if (strtod(buf, NULL) == value)
            break;
    }
    moe_int_own_numbers(c, previous);
}
