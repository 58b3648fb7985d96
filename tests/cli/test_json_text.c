/* JSON as text against a library that builds trees: the same bytes, and always JSON. */
#include "cli/report/json.h"
#include "moeref/rng.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a member function writes, in brackets. The caller frees it. */
static char *real_text(double value) {
    char *text;
    size_t size;
    cli_json t = {.to = open_memstream(&text, &size)};
    cli_json_open(&t, NULL, '[');
    cli_json_real(&t, NULL, value);
    cli_json_close(&t, ']');
    fclose(t.to);
    return text;
}

static char *string_text(const char *value) {
    char *text;
    size_t size;
    cli_json t = {.to = open_memstream(&text, &size)};
    cli_json_open(&t, NULL, '[');
    cli_json_string(&t, NULL, value);
    cli_json_close(&t, ']');
    fclose(t.to);
    return text;
}

static void expect_real(double value) {
    json_t *list = json_pack("[f]", value);
    char *want = json_dumps(list, JSON_REAL_PRECISION(15)), *got = real_text(value);
    cr_expect_str_eq(got, want, "%.17g: %s, want %s", value, got, want);
    free(want);
    free(got);
    json_decref(list);
}

Test(cli_json, reals_are_those_of_the_library) {
    static const double special[] = {0,        -0.0,      1,      -1,      0.5,       9999999,
                                     10000000, -1e7,      1e-4,   1e-5,    1e21,      1e-300,
                                     5e-324,   9999999.5, 123e99, 99999.5, 0.1 + 0.2, 1.0 / 3};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        expect_real(special[i]);
    for (uint64_t i = 0; i < 20000; i++) {
        const uint64_t bits = moe_rng_bits(1, 0, i);
        double any;
        memcpy(&any, &bits, sizeof any);
        if (isfinite(any))
            expect_real(any);
        expect_real((double)(bits % 100000000));
        expect_real((double)(bits % 100000000) / 1000);
    }
}

Test(cli_json, no_number_is_null) {
    const double none[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        char *got = real_text(none[i]);
        cr_expect_str_eq(got, "[null]");
        free(got);
    }
}

/* Text of random bytes: the library's bytes where it is UTF-8, else still JSON. */
Test(cli_json, strings_are_those_of_the_library) {
    static const char *const pieces[] = {"a",
                                         "\"",
                                         "\\",
                                         "\n",
                                         "\x01",
                                         "\x1f",
                                         "\x7f",
                                         "/",
                                         "\t",
                                         "\xc3\xa9",
                                         "\xe2\x82\xac",
                                         "\xf0\x9f\x98\x80",
                                         "\xed\xa0\x80",
                                         "\xc0\xaf",
                                         "\xff",
                                         "\xe2\x82",
                                         "\xf4\x90\x80\x80",
                                         "\b",
                                         "\f\r"};
    const size_t n = sizeof pieces / sizeof *pieces;
    for (uint64_t i = 0; i < 20000; i++) {
        char text[64] = "";
        for (uint64_t k = 0; k < i % 7; k++)
            strcat(text, pieces[moe_rng_bits(2, i, k) % n]);
        json_t *list = json_pack("[s]", text), *back;
        char *got = string_text(text);
        if (list) {
            char *want = json_dumps(list, 0);
            cr_expect_str_eq(got, want);
            free(want);
        }
        back = json_loads(got, 0, NULL);
        cr_expect(back, "no JSON: %s", got);
        json_decref(back);
        json_decref(list);
        free(got);
    }
}

Test(cli_json, members_and_lines) {
    char *text;
    size_t size;
    cli_json t = {.to = open_memstream(&text, &size)};
    for (int i = 0; i < 2; i++) {
        cli_json_open(&t, NULL, '{');
        cli_json_int(&t, "a", i ? -9223372036854775807LL - 1 : 0);
        cli_json_open(&t, "b", '[');
        cli_json_open(&t, NULL, '{');
        cli_json_close(&t, '}');
        cli_json_real(&t, NULL, 2);
        cli_json_close(&t, ']');
        cli_json_string(&t, "c", "");
        cli_json_close(&t, '}');
        cli_json_line(&t);
    }
    fclose(t.to);
    cr_expect_str_eq(text, "{\"a\":0,\"b\":[{},2.0],\"c\":\"\"}\n"
                           "{\"a\":-9223372036854775808,\"b\":[{},2.0],\"c\":\"\"}\n");
    free(text);
}
