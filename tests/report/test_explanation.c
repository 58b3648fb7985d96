/* What the reports say of a cause: found, not found, not looked for. */
#include "cli/report/html_parts.h"
#include "cli/report/verdict.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static moe_check_result failing(const char *kind, int tried) {
    moe_check_result r = {.case_name = (char *)"T=4",
                          .backend = (char *)"mine",
                          .reproduce = (char *)"moeref check",
                          .verdict = MOE_VERDICT_FAIL,
                          .explanation = {.text = "scaled by <2>",
                                          .tensor = "O",
                                          .before = 0.25,
                                          .after = 1e-14,
                                          .param = {{"factor", 2}},
                                          .n_params = 1,
                                          .tried = tried}};
    snprintf(r.explanation.kind, sizeof r.explanation.kind, "%s", kind);
    return r;
}

static char *page_of(const moe_check_result *r) {
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    cli_html_failing(to, r, 0, true);
    fclose(to);
    return text;
}

static json_t *json_of(moe_check_result *r) {
    const cli_verdicts verdicts = {.at = &r, .count = 1};
    json_t *root = cli_verdicts_json(&verdicts);
    json_t *e = json_incref(
        json_object_get(json_array_get(json_object_get(root, "cases"), 0), "explanation"));
    json_decref(root);
    return e;
}

Test(explanation, found) {
    moe_check_result r = failing("scaled", 40);
    char *page = page_of(&r);
    cr_expect(strstr(page, "What would make it right") && strstr(page, "scaled by &lt;2&gt;"));
    cr_expect(strstr(page, "NMSE of O 2.50e-01 before, 1.00e-14 after; the best of 40"));
    free(page);
    json_t *e = json_of(&r);
    cr_expect_str_eq(json_string_value(json_object_get(e, "kind")), "scaled");
    cr_expect_str_eq(json_string_value(json_object_get(e, "text")), "scaled by <2>");
    cr_expect_eq(json_real_value(json_object_get(e, "residual_before")), 0.25);
    cr_expect_eq(json_real_value(json_object_get(e, "residual_after")), 1e-14);
    cr_expect_eq(json_integer_value(json_object_get(e, "tried")), 40);
    cr_expect_eq(json_real_value(json_object_get(json_object_get(e, "parameters"), "factor")), 2);
    json_decref(e);
}

Test(explanation, not_found) {
    moe_check_result r = failing("", 40);
    r.explanation.text[0] = '\0';
    char *page = page_of(&r);
    cr_expect(strstr(page, "None of the 40 hypotheses that were tried explains it."));
    free(page);
    json_t *e = json_of(&r);
    cr_expect(json_is_null(json_object_get(e, "kind")));
    cr_expect_eq(json_integer_value(json_object_get(e, "tried")), 40);
    json_decref(e);
}

Test(explanation, not_looked_for) {
    moe_check_result r = failing("", 0);
    char *page = page_of(&r);
    cr_expect_null(strstr(page, "class=\"cause\""));
    free(page);
    json_t *e = json_of(&r);
    cr_expect(json_is_null(e));
    json_decref(e);
}
