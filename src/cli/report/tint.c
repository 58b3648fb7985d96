#include "cli/report/tint.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GREEN  "\033[32m"
#define RED    "\033[1;31m"
#define YELLOW "\033[33m"
#define FAINT  "\033[2m"

static bool wants_colour(FILE *to) {
    const char *no = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return !(no && *no) && terminal && strcmp(terminal, "dumb") != 0 && isatty(fileno(to));
}

static void put(FILE *to, const char *tint, const char *word, int width) {
    if (wants_colour(to))
        fprintf(to, "%s%-*s\033[0m", tint, width, word);
    else
        fprintf(to, "%-*s", width, word);
}

static const char *tint_of(moe_verdict verdict) {
    switch (verdict) {
    case MOE_VERDICT_PASS:
        return GREEN;
    case MOE_VERDICT_SKIP:
        return FAINT;
    case MOE_VERDICT_AMBIGUOUS:
    case MOE_VERDICT_MISTRUSTED:
        return YELLOW;
    case MOE_VERDICT_FAIL:
    case MOE_VERDICT_ERROR:
        return RED;
    }
    return "";
}

void cli_tint_verdict(FILE *to, moe_verdict verdict, int width) {
    put(to, tint_of(verdict), moe_verdict_str(verdict), width);
}

void cli_tint_word(FILE *to, bool good, const char *word) {
    put(to, good ? GREEN : RED, word, 0);
}
