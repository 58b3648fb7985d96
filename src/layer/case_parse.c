/* From a line of key=value words to a case. */
#include "layer/case_keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_BYTES 64  /* of the user's word in a message */
#define LIST_BYTES  512 /* of a list of names in a message */

/* A copy of the word that is fit for a message: cut, and without control characters. */
typedef struct shown_word {
    char text[SHOWN_BYTES + 4];
} shown_word;

static shown_word show(moe_int_word word) {
    shown_word shown;
    size_t n = word.length < SHOWN_BYTES ? word.length : SHOWN_BYTES;
    for (size_t i = 0; i < n; i++)
        shown.text[i] = word.text[i] >= 0x20 && word.text[i] < 0x7f ? word.text[i] : '?';
    strcpy(shown.text + n, n < word.length ? "..." : "");
    return shown;
}

static void append_name(char *list, const char *name) {
    size_t used = strlen(list);
    snprintf(list + used, LIST_BYTES - used, "%s%s", used ? " " : "", name);
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The next word of *text, which is moved past it. */
static moe_int_word next_word(const char **text) {
    while (is_space(**text))
        (*text)++;
    moe_int_word word = {*text, 0};
    while (word.text[word.length] && !is_space(word.text[word.length]))
        word.length++;
    *text += word.length;
    return word;
}

static bool word_is(moe_int_word word, const char *text) {
    return strlen(text) == word.length && memcmp(text, word.text, word.length) == 0;
}

/* Splits at the first `separator`; *ret_rest.text is NULL when there is none. */
static moe_int_word split(moe_int_word word, char separator, moe_int_word *ret_rest) {
    /* Of as many words as there are separators.
     * NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker) */
    const char *at = memchr(word.text, separator, word.length);
    *ret_rest = (moe_int_word){0};
    if (!at)
        return word;
    size_t head = (size_t)(at - word.text);
    *ret_rest = (moe_int_word){at + 1, word.length - head - 1};
    return (moe_int_word){word.text, head};
}

static moe_status fail_number(moe_status status, const moe_int_case_key *key, moe_int_word value,
                              const char *expected, const moe_log *log) {
    if (status == MOE_E_UNSUPPORTED)
        return moe_fail(log, MOE_E_INVALID, "%s: \"%s\" is out of range", key->name,
                        show(value).text);
    return moe_fail(log, MOE_E_INVALID, "%s: \"%s\" is not %s", key->name, show(value).text,
                    expected);
}

static moe_status parse_whole(const moe_int_case_key *key, moe_int_word value, uint64_t max,
                              const moe_log *log, uint64_t *ret) {
    moe_status status = moe_int_parse_uint(value, max, ret);
    return status ? fail_number(status, key, value, "a whole number (digits only)", log) : MOE_OK;
}

static moe_status parse_int64(const moe_int_case_key *key, moe_int_word value, const moe_log *log,
                              int64_t *ret) {
    uint64_t whole;
    moe_status status = parse_whole(key, value, INT64_MAX, log, &whole);
    if (!status)
        *ret = (int64_t)whole;
    return status;
}

static moe_status parse_int32(const moe_int_case_key *key, moe_int_word value, uint64_t max,
                              const moe_log *log, int32_t *ret) {
    uint64_t whole;
    moe_status status = parse_whole(key, value, max, log, &whole);
    if (!status)
        *ret = (int32_t)whole;
    return status;
}

static moe_status parse_flag(const moe_int_case_key *key, moe_int_word value, const moe_log *log,
                             int32_t *ret) {
    if (!word_is(value, "0") && !word_is(value, "1"))
        return moe_fail(log, MOE_E_INVALID, "%s: \"%s\" is neither 0 nor 1", key->name,
                        show(value).text);
    *ret = value.text[0] == '1';
    return MOE_OK;
}

static moe_status parse_real(const moe_int_case_key *key, moe_int_word value, const moe_log *log,
                             double *ret) {
    moe_status status = moe_int_parse_real(value, ret);
    return status ? fail_number(status, key, value, "a decimal number", log) : MOE_OK;
}

static moe_status parse_name(const moe_int_case_key *key, moe_int_word value, const moe_log *log,
                             int32_t *ret) {
    char list[LIST_BYTES] = "";
    for (const moe_int_name *name = key->names; name->name; name++) {
        if (word_is(value, name->name)) {
            *ret = name->value;
            return MOE_OK;
        }
        append_name(list, name->name);
    }
    return moe_fail(log, MOE_E_INVALID, "%s: \"%s\" is none of: %s", key->name, show(value).text,
                    list);
}

/* "32+0+96"; the case owns the array. */
static moe_status parse_list(const moe_int_case_key *key, moe_int_word list, const moe_log *log,
                             int64_t **ret, int64_t *ret_count) {
    size_t n = 1;
    for (size_t i = 0; i < list.length; i++)
        n += list.text[i] == '+';
    *ret = calloc(n, sizeof **ret);
    if (!*ret)
        return moe_fail(log, MOE_E_NOMEM, "out of memory for %zu counts", n);
    for (*ret_count = 0; (size_t)*ret_count < n; (*ret_count)++) {
        moe_int_word rest, count = split(list, '+', &rest);
        moe_status status = parse_int64(key, count, log, &(*ret)[*ret_count]);
        if (status)
            return status;
        list = rest;
    }
    return MOE_OK;
}

static moe_status parse_route(const moe_int_case_key *key, moe_int_word value, const moe_log *log,
                              moe_case *c) {
    moe_int_word argument, kind = split(value, ':', &argument);
    moe_status status = parse_name(key, kind, log, &c->route);
    if (status)
        return status;
    bool takes_one =
        c->route == MOE_ROUTE_ZIPF || c->route == MOE_ROUTE_COUNTS || c->route == MOE_ROUTE_HOT;
    if (takes_one != (argument.text != NULL))
        return moe_fail(log, MOE_E_INVALID, "route=%s %s", show(value).text,
                        takes_one ? "needs an argument: zipf:S, counts:32+0+96 or hot:EXPERT"
                                  : "has an argument, but that kind takes none");
    int64_t expert;
    switch ((moe_route_kind)c->route) {
    case MOE_ROUTE_ZIPF:
        return parse_real(key, argument, log, &c->route_arg);
    case MOE_ROUTE_COUNTS:
        return parse_list(key, argument, log, &c->counts, &c->n_counts);
    case MOE_ROUTE_HOT:
        status = parse_int64(key, argument, log, &expert);
        if (!status)
            c->route_arg = (double)expert;
        return status;
    case MOE_ROUTE_ROUTER:
    case MOE_ROUTE_UNIFORM:
    case MOE_ROUTE_BALANCED:
        break;
    }
    return MOE_OK;
}

static moe_status parse_inject(const moe_int_case_key *key, moe_int_word value, const moe_log *log,
                               moe_case *c) {
    moe_int_word token, kind = split(value, '@', &token);
    moe_status status = parse_name(key, kind, log, &c->inject);
    if (status)
        return status;
    if ((c->inject != 0) != (token.text != NULL))
        return moe_fail(log, MOE_E_INVALID, "inject=%s: write nan@TOKEN, inf@TOKEN or none",
                        show(value).text);
    return c->inject ? parse_int64(key, token, log, &c->inject_token) : MOE_OK;
}

static moe_status parse_value(const moe_int_case_key *key, moe_int_word value, const moe_log *log,
                              moe_case *c) {
    void *field = (char *)c + key->offset;
    switch (key->kind) {
    case MOE_INT_KEY_I64:
        return parse_int64(key, value, log, field);
    case MOE_INT_KEY_I32:
        return parse_int32(key, value, INT32_MAX, log, field);
    case MOE_INT_KEY_U64:
        return parse_whole(key, value, UINT64_MAX, log, field);
    case MOE_INT_KEY_FLAG:
        return parse_flag(key, value, log, field);
    case MOE_INT_KEY_REAL:
        return parse_real(key, value, log, field);
    case MOE_INT_KEY_NAME:
        return parse_name(key, value, log, field);
    case MOE_INT_KEY_LIST:
        if (word_is(value, key->fallback))
            return MOE_OK;
        return parse_list(key, value, log, &((moe_int_list *)field)->at,
                          &((moe_int_list *)field)->count);
    case MOE_INT_KEY_ROUTE:
        return parse_route(key, value, log, c);
    case MOE_INT_KEY_INJECT:
        return parse_inject(key, value, log, c);
    }
    return MOE_E_INVALID;
}

static moe_status fail_unknown_key(moe_int_word name, const moe_log *log) {
    const moe_int_case_key *near = moe_int_case_key_nearest(name);
    if (near)
        return moe_fail(log, MOE_E_INVALID, "unknown key \"%s\"; did you mean \"%s\"?",
                        show(name).text, near->name);
    char list[LIST_BYTES] = "";
    for (size_t i = 0; i < moe_int_case_key_count; i++)
        append_name(list, moe_int_case_keys[i].name);
    return moe_fail(log, MOE_E_INVALID, "unknown key \"%s\"; the keys are: %s", show(name).text,
                    list);
}

static moe_status parse_word(moe_int_word word, const moe_log *log, uint64_t *seen, moe_case *c) {
    moe_int_word value, name = split(word, '=', &value);
    if (!value.text)
        return moe_fail(log, MOE_E_INVALID, "\"%s\" is not of the form key=value", show(word).text);
    const moe_int_case_key *key = moe_int_case_key_find(name);
    if (!key)
        return fail_unknown_key(name, log);
    uint64_t bit = UINT64_C(1) << (key - moe_int_case_keys);
    if (*seen & bit)
        return moe_fail(log, MOE_E_INVALID, "%s is given twice", key->name);
    *seen |= bit;
    return parse_value(key, value, log, c);
}

static bool was_seen(uint64_t seen, const char *name) {
    moe_int_word word = {name, strlen(name)};
    return seen >> (moe_int_case_key_find(word) - moe_int_case_keys) & 1;
}

static moe_status parse_line(const char *text, const moe_log *log, moe_case *c) {
    uint64_t seen = 0;
    moe_int_word word = next_word(&text);
    if (word_is(word, "moe"))
        word = next_word(&text);
    for (; word.length; word = next_word(&text)) {
        moe_status status = parse_word(word, log, &seen, c);
        if (status)
            return status;
    }
    for (size_t i = 0; i < moe_int_case_key_count; i++) {
        const moe_int_case_key *key = &moe_int_case_keys[i];
        if (key->required && !(seen >> i & 1))
            return moe_fail(log, MOE_E_INVALID, "%s (%s) is missing: a case needs T, d, n, E and K",
                            key->name, key->meaning);
    }
    if (!was_seen(seen, "renorm"))
        c->layer.router.renorm = moe_int_case_default_renorm(c);
    return moe_int_case_check(c, log);
}

moe_status moe_case_parse(const char *text, const moe_log *log, moe_case *ret) {
    moe_case c;
    moe_case_init(&c);
    moe_status status = parse_line(text, log, &c);
    if (status) {
        moe_case_destroy(&c);
        return status;
    }
    moe_int_case_tell_idle(&c, log);
    *ret = c;
    return MOE_OK;
}

void moe_case_destroy(moe_case *c) {
    if (!c)
        return;
    free(c->counts);
    c->counts = NULL;
    c->n_counts = 0;
    free(c->split.tokens);
    c->split.tokens = NULL;
    c->split.n_tokens = 0;
    free(c->split.replicas);
    c->split.replicas = NULL;
    c->split.n_replicas = 0;
}
