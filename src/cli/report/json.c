#include "cli/report/json.h"
#include "core/utf8.h"

#include <math.h>
#include <string.h>

/* One character that cannot stand for itself. */
static void put_escaped(FILE *to, unsigned char c) {
    static const char letters[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* pairs: character, letter */
    for (const char *l = letters; *l; l += 2) {
        if (c == (unsigned char)*l) {
            fprintf(to, "\\%c", l[1]);
            return;
        }
    }
    fprintf(to, "\\u%04X", c < 0x20 ? c : 0xfffdu);
}

static void put_quoted(FILE *to, const char *text) {
    const unsigned char *s = (const unsigned char *)text, *plain = s;
    putc_unlocked('"', to);
    while (*s) {
        const size_t length = *s < 0x80 ? 1 : moe_int_utf8_length(s);
        if (length && *s >= 0x20 && *s != '"' && *s != '\\') {
            s += length;
            continue;
        }
        fwrite(plain, 1, (size_t)(s - plain), to);
        put_escaped(to, *s++);
        plain = s;
    }
    fwrite(plain, 1, (size_t)(s - plain), to);
    putc_unlocked('"', to);
}

/* What stands before a value. Keys are the program's own words and need no escapes. */
static void begin(cli_json *t, const char *key) {
    if (t->comma)
        putc_unlocked(',', t->to);
    if (key) {
        putc_unlocked('"', t->to);
        fputs(key, t->to);
        fputs("\":", t->to);
    }
    t->comma = true;
}

void cli_json_open(cli_json *t, const char *key, char bracket) {
    begin(t, key);
    putc_unlocked(bracket, t->to);
    t->comma = false;
}

void cli_json_close(cli_json *t, char bracket) {
    putc_unlocked(bracket, t->to);
    t->comma = true;
}

void cli_json_string(cli_json *t, const char *key, const char *value) {
    begin(t, key);
    put_quoted(t->to, value);
}

void cli_json_null(cli_json *t, const char *key) {
    begin(t, key);
    fputs("null", t->to);
}

static void put_whole(FILE *to, long long value) {
    char digits[24], *at = digits + sizeof digits;
    unsigned long long rest = value < 0 ? 0 - (unsigned long long)value : (unsigned long long)value;
    do
        *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0)
        *--at = '-';
    fwrite(at, 1, (size_t)(digits + sizeof digits - at), to);
}

/* As %.15g, but 1e+20 is written 1e20, and 5 is written 5.0, so that a reader sees a real. */
static void put_real(FILE *to, double value) {
    char digits[32];
    if (fabs(value) < 1e15 && value == trunc(value) && !(value == 0 && signbit(value))) {
        put_whole(to, (long long)value); /* a third of all numbers, at a tenth of the cost */
        fputs(".0", to);
        return;
    }
    const int length = snprintf(digits, sizeof digits, "%.15g", value);
    const char *e = memchr(digits, 'e', (size_t)length);
    if (!e) {
        fwrite(digits, 1, (size_t)length, to);
        if (!memchr(digits, '.', (size_t)length))
            fputs(".0", to);
        return;
    }
    const char *exponent = e + 1 + (e[1] == '+' || e[1] == '-');
    fwrite(digits, 1, (size_t)(e + 1 - digits), to);
    if (e[1] == '-')
        putc_unlocked('-', to);
    fputs(exponent + strspn(exponent, "0"), to);
}

void cli_json_real(cli_json *t, const char *key, double value) {
    begin(t, key);
    if (isfinite(value))
        put_real(t->to, value);
    else
        fputs("null", t->to);
}

void cli_json_int(cli_json *t, const char *key, long long value) {
    begin(t, key);
    put_whole(t->to, value);
}

void cli_json_line(cli_json *t) {
    putc_unlocked('\n', t->to);
    t->comma = false;
}
