/* What the page is put together from. */
#ifndef MOE_CLI_REPORT_HTML_PARTS_H
#define MOE_CLI_REPORT_HTML_PARTS_H

#include "moeref/bench.h"
#include "moeref/check.h"

#include <stdbool.h>
#include <stdio.h>

/* Text that may hold anything: markup and quotes are escaped, what is not UTF-8 and what moves a
 * cursor or the direction of writing becomes U+FFFD. */
void cli_html_text(FILE *to, const char *text);

/* "fail" in its colour. */
void cli_html_badge(FILE *to, moe_verdict verdict);

/* The whole case in its frame. Passing ones are folded. */
void cli_html_failing(FILE *to, const moe_check_result *r, size_t number, bool all_maps);
void cli_html_passing(FILE *to, const moe_check_result *r, size_t number);

/* All tensors with bars on one logarithmic scale. */
void cli_html_tensors(FILE *to, const moe_check_result *r);

void cli_html_map(FILE *to, const moe_error_map *m);

/* Passes and kernels: measured, predicted, floor. */
void cli_html_times(FILE *to, const char *name, const char *backend, const moe_bench_result *r,
                    bool checked);

#endif
