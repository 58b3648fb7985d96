#include "cli/report/html.h"
#include "cli/input/messages.h"
#include "cli/report/cause.h"
#include "cli/report/coverage.h"
#include "cli/report/html_page.h"
#include "cli/report/html_parts.h"
#include "core/file.h"
#include "moeref/version.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WITH_ALL_MAPS = 24 }; /* failing cases; the others show that of the first wrong stage */

typedef struct page {
    const cli_html *html;
    const cli_verdicts *verdicts;
    int code;
    FILE *to;
} page;

int cli_html_check(const cli_html *html) {
    moe_int_writer *writer = NULL;
    if (!html->path)
        return -1;
    moe_status status = moe_int_writer_open(html->path, cli_log(), &writer);
    moe_int_writer_discard(&writer);
    return status ? CLI_NOT_RUN : -1;
}

moe_status cli_html_add_timing(cli_html *html, const char *name, const char *backend,
                               const moe_bench_result *result, bool checked) {
    cli_html_timing *at = realloc(html->timing, (html->n_timings + 1) * sizeof *at);
    if (!at)
        return moe_fail(cli_log(), MOE_E_NOMEM, "no memory for the report");
    html->timing = at;
    at[html->n_timings] = (cli_html_timing){strdup(name), strdup(backend), checked, *result};
    const cli_html_timing *made = &at[html->n_timings++];
    return made->name && made->backend
               ? MOE_OK
               : moe_fail(cli_log(), MOE_E_NOMEM, "no memory for the report");
}

void cli_html_destroy(cli_html *html) {
    for (size_t i = 0; i < html->n_timings; i++) {
        free(html->timing[i].name);
        free(html->timing[i].backend);
    }
    free(html->timing);
    *html = (cli_html){0};
}

static bool failed(const moe_check_result *r) {
    return r->verdict >= MOE_VERDICT_MISTRUSTED;
}

static size_t count_failed(const page *p) {
    size_t n = 0;
    for (size_t i = 0; i < p->verdicts->count; i++)
        n += failed(p->verdicts->at[i]);
    return n;
}

static void put_file(FILE *to, const char *name) {
    for (const cli_html_file *f = cli_html_files; f->name; f++)
        if (strcmp(f->name, name) == 0)
            fputs(f->text, to);
}

/* Nothing is fetched, whatever a name in the report may say. */
static void put_head(const page *p) {
    fprintf(p->to,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
            "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
            "<meta name=\"color-scheme\" content=\"light dark\">\n<title>moeref %s</title>\n"
            "<style>\n",
            p->html->argv[0]);
    put_file(p->to, "style");
    fprintf(p->to, "</style></head>\n<body><main>\n");
}

static const char *plural(size_t count) {
    return count == 1 ? "" : "s";
}

static void put_sentence(const page *p) {
    size_t wrong = count_failed(p), all = p->verdicts->count, timed = p->html->n_timings;
    if (wrong > 0)
        fprintf(p->to, "%zu of %zu case%s failed", wrong, all, plural(all));
    else if (p->code != CLI_PASSED)
        fprintf(p->to, "Not valid");
    else if (all == 0)
        fprintf(p->to, "%zu case%s timed, not checked", timed, plural(timed));
    else
        fprintf(p->to, "%zu case%s checked, none failed", all, plural(all));
    if (all > 0 && timed > 0)
        fprintf(p->to, ", %zu timed", timed);
}

static void put_header(const page *p) {
    char date[64] = "";
    const time_t now = time(NULL);
    struct tm parts;
    double seconds = 0;
    if (gmtime_r(&now, &parts))
        strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &parts);
    for (size_t i = 0; i < p->verdicts->count; i++)
        seconds += p->verdicts->at[i]->seconds;
    fprintf(p->to, "<header class=\"%s\"><p class=\"brand\">moeref %s<span>%s</span></p><h1>",
            p->code == CLI_PASSED ? "good" : "bad", moe_version(), p->html->argv[0]);
    put_sentence(p);
    fprintf(p->to, "</h1><p class=\"note\">%s", date);
    if (seconds > 0)
        fprintf(p->to, " &middot; %.1f s of checking", seconds);
    fprintf(p->to, "</p><div class=\"copy\"><pre><code>moeref");
    for (int i = 0; i < p->html->argc; i++) {
        bool quote = strpbrk(p->html->argv[i], " \t'\"") != NULL;
        fprintf(p->to, quote ? " '" : " ");
        cli_html_text(p->to, p->html->argv[i]);
        fprintf(p->to, quote ? "'" : "");
    }
    fprintf(p->to, "</code></pre><button type=\"button\">Copy</button></div></header>\n");
}

/* First verdict after those of the backend that `first` is of. */
static size_t end_of_backend(const cli_verdicts *v, size_t first) {
    size_t end = first;
    while (end < v->count && strcmp(v->at[end]->backend, v->at[first]->backend) == 0)
        end++;
    return end;
}

/* A row: counts by verdict, and a small square for each case that leads to it. */
static void put_backend(const page *p, size_t first, size_t end) {
    int64_t tally[MOE_VERDICT_ERROR + 1] = {0};
    const cli_verdicts *v = p->verdicts;
    for (size_t i = first; i < end; i++)
        tally[v->at[i]->verdict]++;
    fprintf(p->to, "<tr><th scope=\"row\">");
    cli_html_text(p->to, v->at[first]->backend);
    fprintf(p->to, "</th>");
    for (int k = MOE_VERDICT_PASS; k <= MOE_VERDICT_ERROR; k++)
        fprintf(p->to, "<td class=\"%s\">%lld</td>",
                tally[k] ? moe_verdict_str((moe_verdict)k) : "none", (long long)tally[k]);
    fprintf(p->to, "</tr><tr class=\"strip\"><td colspan=\"7\">");
    for (size_t i = first; i < end; i++) {
        fprintf(p->to, "<a href=\"#c%zu\" class=\"%s\" title=\"%s: ", i,
                moe_verdict_str(v->at[i]->verdict), moe_verdict_str(v->at[i]->verdict));
        cli_html_text(p->to, v->at[i]->case_name);
        fprintf(p->to, "\"></a>");
    }
    fprintf(p->to, "</td></tr>\n");
}

/* The table of the text report, folded. */
static void put_coverage(const page *p) {
    char *text = NULL;
    size_t size = 0;
    FILE *table = p->verdicts->coverage ? open_memstream(&text, &size) : NULL;
    if (!table)
        return;
    cli_coverage_text(table, p->verdicts);
    if (fclose(table) == 0) {
        fprintf(p->to, "<details><summary>What these cases decide</summary><pre class=\"said\">");
        cli_html_text(p->to, text);
        fprintf(p->to, "</pre></details>");
    }
    free(text);
}

static void put_summary(const page *p) {
    if (p->verdicts->count == 0)
        return;
    fprintf(p->to, "<section><div class=\"scroll\"><table class=\"summary\"><thead><tr>"
                   "<th scope=\"col\">backend</th>");
    for (int k = MOE_VERDICT_PASS; k <= MOE_VERDICT_ERROR; k++)
        fprintf(p->to, "<th scope=\"col\">%s</th>", moe_verdict_str((moe_verdict)k));
    fprintf(p->to, "</tr></thead><tbody>\n");
    for (size_t i = 0, end; i < p->verdicts->count; i = end) {
        end = end_of_backend(p->verdicts, i);
        put_backend(p, i, end);
    }
    fprintf(p->to, "</tbody></table></div>");
    const cli_cause most = cli_cause_of_most(p->verdicts, 0);
    if (most.kind[0]) {
        fprintf(p->to, "<p class=\"note\">");
        cli_cause_of_most_text(p->to, &most);
        fprintf(p->to, "</p>");
    }
    put_coverage(p);
    fprintf(p->to, "</section>\n");
}

static void put_cases(const page *p) {
    const cli_verdicts *v = p->verdicts;
    size_t wrong = count_failed(p), seen = 0;
    if (wrong > 0)
        fprintf(p->to, "<section><h2>Failed</h2>\n");
    for (size_t i = 0; i < v->count; i++)
        if (failed(v->at[i]))
            cli_html_failing(p->to, v->at[i], i, seen++ < WITH_ALL_MAPS);
    if (wrong > 0)
        fprintf(p->to, "</section>\n");
    if (wrong == v->count)
        return;
    fprintf(p->to,
            "<section><details class=\"group\"%s><summary><h2>Not failed</h2> "
            "<span class=\"note\">%zu cases</span></summary>\n",
            v->count - wrong == 1 ? " open" : "", v->count - wrong);
    for (size_t i = 0; i < v->count; i++)
        if (!failed(v->at[i]))
            cli_html_passing(p->to, v->at[i], i);
    fprintf(p->to, "</details></section>\n");
}

static void put_timings(const page *p) {
    if (p->html->n_timings == 0)
        return;
    fprintf(p->to, "<section><h2>Times</h2>\n");
    for (size_t i = 0; i < p->html->n_timings; i++) {
        const cli_html_timing *t = &p->html->timing[i];
        cli_html_times(p->to, t->name, t->backend, &t->result, t->checked);
    }
    fprintf(p->to, "</section>\n");
}

static void put_page(const page *p) {
    put_head(p);
    put_header(p);
    put_summary(p);
    bool timed_first = count_failed(p) == 0;
    if (timed_first)
        put_timings(p);
    put_cases(p);
    if (!timed_first)
        put_timings(p);
    fprintf(p->to, "</main>\n<script>\n");
    put_file(p->to, "script");
    fprintf(p->to, "</script></body></html>\n");
}

int cli_html_write(const cli_html *html, const cli_verdicts *verdicts, int code) {
    char *text = NULL;
    size_t size = 0;
    if (!html->path)
        return code;
    page p = {html, verdicts, code, open_memstream(&text, &size)};
    if (p.to)
        put_page(&p);
    bool complete = p.to && !ferror(p.to);
    if (p.to && fclose(p.to) != 0)
        complete = false;
    moe_status status = complete ? moe_int_file_write(html->path, text, size, cli_log())
                                 : moe_fail(cli_log(), MOE_E_NOMEM, "no memory for the report");
    free(text);
    return status ? CLI_NOT_RUN : code;
}
