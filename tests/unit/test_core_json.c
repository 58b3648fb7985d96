/* Typed access to JSON members: what is accepted, and that a refusal names file, key and type. */
#include "capture.h"
#include "core/jsonx.h"

#include <criterion/criterion.h>
#include <string.h>

static const char text[] =
    "{\"int\":7,\"big\":9223372036854775807,\"real\":0.5,\"whole\":4.0,\"yes\":true,\"no\":false,"
    "\"name\":\"x\",\"list\":[1],\"nothing\":null,\"inner\":{\"deep\":\"not a number\"}}";

static json_t *parse(void) {
    json_t *root = NULL;
    cr_assert_eq(moe_int_json_parse(text, strlen(text), "t.json", NULL, &root), MOE_OK);
    return root;
}

Test(json, members_of_the_right_type) {
    json_t *root = parse();
    const moe_int_json at = moe_int_json_root(root, "t.json", NULL);
    int64_t i = 0;
    double f = 0;
    bool yes = false, no = true;
    const char *name = NULL;
    const json_t *list = NULL;
    moe_int_json inner;
    cr_assert_eq(moe_int_json_i64(&at, "int", MOE_INT_JSON_REQUIRED, 7, 7, &i), MOE_OK);
    cr_assert_eq(i, 7);
    cr_assert_eq(moe_int_json_i64(&at, "big", MOE_INT_JSON_REQUIRED, INT64_MIN, INT64_MAX, &i),
                 MOE_OK);
    cr_assert_eq(i, INT64_MAX);
    cr_assert_eq(moe_int_json_f64(&at, "real", MOE_INT_JSON_REQUIRED, &f), MOE_OK);
    cr_assert_eq(f, 0.5);
    cr_assert_eq(moe_int_json_f64(&at, "int", MOE_INT_JSON_REQUIRED, &f), MOE_OK);
    cr_assert_eq(f, 7);
    cr_assert_eq(moe_int_json_bool(&at, "yes", MOE_INT_JSON_REQUIRED, &yes), MOE_OK);
    cr_assert_eq(moe_int_json_bool(&at, "no", MOE_INT_JSON_REQUIRED, &no), MOE_OK);
    cr_assert(yes && !no);
    cr_assert_eq(moe_int_json_str(&at, "name", MOE_INT_JSON_REQUIRED, &name), MOE_OK);
    cr_assert_str_eq(name, "x");
    cr_assert_eq(moe_int_json_array(&at, "list", MOE_INT_JSON_REQUIRED, &list), MOE_OK);
    cr_assert_eq(json_array_size(list), 1);
    cr_assert_eq(moe_int_json_object(&at, "inner", MOE_INT_JSON_REQUIRED, &inner), MOE_OK);
    cr_assert(moe_int_json_has(&inner, "deep") && !moe_int_json_has(&at, "deep"));
    cr_assert(!moe_int_json_has(&at, "nothing"));
    json_decref(root);
}

/* Reads `key` as each type in turn; returns the status of the getter numbered `type`. */
static moe_status get_as(const moe_int_json *at, const char *key, moe_int_json_need need,
                         int type) {
    int64_t i = -5;
    double f = -5;
    bool b = true;
    const char *s = text;
    const json_t *a = at->object;
    moe_int_json o = *at;
    moe_status status[] = {
        moe_int_json_i64(at, key, need, INT64_MIN, INT64_MAX, &i),
        moe_int_json_f64(at, key, need, &f),
        moe_int_json_bool(at, key, need, &b),
        moe_int_json_str(at, key, need, &s),
        moe_int_json_array(at, key, need, &a),
        moe_int_json_object(at, key, need, &o),
    };
    const bool untouched[] = {i == -5,   f == -5,         b,
                              s == text, a == at->object, o.object == at->object};
    cr_assert(untouched[type], "%s as type %d", key, type);
    return status[type];
}

Test(json, absent_and_null_keep_the_default_or_are_named) {
    json_t *root = parse();
    capture seen;
    moe_log log = capture_log(&seen);
    const moe_int_json at = moe_int_json_root(root, "t.json", &log);
    static const char *const keys[] = {"nothing", "absent"};
    for (int k = 0; k < 2; k++) {
        for (int type = 0; type < 6; type++) {
            seen.messages = 0;
            cr_assert_eq(get_as(&at, keys[k], MOE_INT_JSON_OPTIONAL, type), MOE_OK);
            cr_assert_eq(seen.messages, 0);
            cr_assert_eq(get_as(&at, keys[k], MOE_INT_JSON_REQUIRED, type), MOE_E_FORMAT);
            cr_assert(strstr(seen.text, "t.json") && strstr(seen.text, keys[k]), "%s", seen.text);
        }
    }
    json_decref(root);
}

Test(json, wrong_types_are_refused_even_when_optional) {
    /* For each member the getters that may read it, by number as in get_as. */
    static const struct {
        const char *key;
        int accepted;
    } members[] = {{"int", 1 << 0 | 1 << 1}, {"real", 1 << 1}, {"whole", 1 << 1}, {"yes", 1 << 2},
                   {"name", 1 << 3},         {"list", 1 << 4}, {"inner", 1 << 5}};
    json_t *root = parse();
    const moe_int_json at = moe_int_json_root(root, "t.json", NULL);
    for (size_t m = 0; m < sizeof(members) / sizeof(members[0]); m++) {
        for (int type = 0; type < 6; type++) {
            if (members[m].accepted & 1 << type)
                continue;
            cr_assert_eq(get_as(&at, members[m].key, MOE_INT_JSON_OPTIONAL, type), MOE_E_FORMAT,
                         "%s as type %d", members[m].key, type);
        }
    }
    json_decref(root);
}

Test(json, sentences_name_the_path_of_the_key) {
    json_t *root = parse();
    capture seen;
    moe_log log = capture_log(&seen);
    const moe_int_json at = moe_int_json_root(root, "t.json", &log);
    moe_int_json inner;
    int64_t i = 0;
    cr_assert_eq(moe_int_json_object(&at, "inner", MOE_INT_JSON_REQUIRED, &inner), MOE_OK);
    cr_assert_eq(moe_int_json_i64(&inner, "deep", MOE_INT_JSON_REQUIRED, 0, 9, &i), MOE_E_FORMAT);
    cr_assert_str_eq(seen.text, "t.json: inner: \"deep\" must be an integer, not a string");
    cr_assert_eq(moe_int_json_i64(&at, "int", MOE_INT_JSON_OPTIONAL, 8, 9, &i), MOE_E_FORMAT);
    cr_assert_str_eq(seen.text, "t.json: \"int\" is 7, outside 8 ... 9");
    cr_assert_eq(moe_int_json_i64(&at, "int", MOE_INT_JSON_OPTIONAL, 0, 6, &i), MOE_E_FORMAT);
    json_decref(root);
}

Test(json, malformed_text) {
    static const char *const bad[] = {
        "",      "{",       "[]",          "1",          "null",          "{\"a\":1,\"a\":2}",
        "{} {}", "{'a':1}", "{\"a\":NaN}", "{\"a\":1,}", "\xef\xbb\xbf{}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        capture seen;
        moe_log log = capture_log(&seen);
        json_t *root = NULL;
        cr_assert_eq(moe_int_json_parse(bad[i], strlen(bad[i]), "t.json", &log, &root),
                     MOE_E_FORMAT, "%s", bad[i]);
        cr_assert_null(root);
        cr_assert(seen.messages == 1 && strstr(seen.text, "t.json"), "%s: %s", bad[i], seen.text);
    }
    json_t *root = NULL;
    cr_assert_eq(moe_int_json_load("absent.json", NULL, &root), MOE_E_IO);
}
