#include "cli/report/html_parts.h"
#include "core/utf8.h"

void cli_html_text(FILE *to, const char *text) {
    static const char *const marks[] = {
        ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['"'] = "&quot;", ['\''] = "&#39;"};
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        const size_t length = moe_int_utf8_length(s);
        const char *mark = *s < sizeof marks / sizeof *marks ? marks[*s] : NULL;
        if (mark)
            fputs(mark, to);
        else if (*s == '\n' || (length && !moe_int_utf8_is_control(s)))
            fwrite(s, 1, length, to);
        else
            fputs("\xef\xbf\xbd", to);
        s += length ? length : 1;
    }
}

void cli_html_badge(FILE *to, moe_verdict verdict) {
    const char *word = moe_verdict_str(verdict);
    fprintf(to, "<span class=\"badge %s\">%s</span>", word, word);
}
