/* A report to look at: one HTML file that needs nothing else, for light and dark.
 *
 *     html.c        when it is written, and what stands on the page
 *     html_case.c   a case: verdict, explanation, tensors, the line that reproduces it
 *     html_map.c    the error map of a tensor
 *     html_chart.c  bars: errors against floor and gate, times against prediction and floor
 *     html_text.c   text from outside, escaped
 *     style.css, script.js   become part of the program when it is built
 */
#ifndef MOE_CLI_REPORT_HTML_H
#define MOE_CLI_REPORT_HTML_H

#include "cli/input/judging.h"
#include "moeref/bench.h"

/* A case that was timed. */
typedef struct cli_html_timing {
    char *name, *backend; /* owned */
    bool checked;
    moe_bench_result result;
} cli_html_timing;

typedef struct cli_html {
    const char *path; /* --html; NULL: none is written */
    int argc;         /* the command, for the page */
    char **argv;
    cli_html_timing *timing; /* owned */
    size_t n_timings;
} cli_html;

/* clang-format off */
#define CLI_HTML_OPTION(html)                                                                      \
    {"html", CLI_STRING, &(html).path, "FILE",                                                     \
     "also write a report to look at: one file for any browser, verdicts, error maps, times"}
/* clang-format on */

/* -1, or an exit code after a sentence: can the file be written? Asked before the work begins. */
int cli_html_check(const cli_html *html);

/* Takes a copy of a timing for the page. */
moe_status cli_html_add_timing(cli_html *html, const char *name, const char *backend,
                               const moe_bench_result *result, bool checked);

/* Writes the page, complete or not at all, and returns the exit code that the command ends with:
 * `code`, or CLI_NOT_RUN. */
int cli_html_write(const cli_html *html, const cli_verdicts *verdicts, int code);
void cli_html_destroy(cli_html *html);

#endif
