/* The page's style and script, which are part of the program. */
#ifndef MOE_CLI_REPORT_HTML_PAGE_H
#define MOE_CLI_REPORT_HTML_PAGE_H

typedef struct cli_html_file {
    const char *name, *text;
    long size;
} cli_html_file;

extern const cli_html_file cli_html_files[]; /* ended by a NULL name */
extern const char *const cli_html_names[];

#endif
