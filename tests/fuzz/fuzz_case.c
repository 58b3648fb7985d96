/* Any text as a case: refused, or its canonical line parses to the same canonical line. */
#include "moeref/case.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The canonical line of a text, or NULL where the text is refused. The caller frees it. */
static char *canonical(const char *text) {
    moe_case c = {0};
    moe_status status = moe_case_parse(text, NULL, &c);
    if (status != MOE_OK)
        return NULL;
    size_t length = moe_case_print(&c, NULL, 0);
    char *line = malloc(length + 1);
    if (!line || moe_case_print(&c, line, length + 1) != length || strlen(line) != length)
        abort();
    moe_case_destroy(&c);
    return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    char *once = canonical(text);
    if (once) {
        char *twice = canonical(once);
        if (!twice || strcmp(once, twice) != 0)
            abort();
        free(twice);
    }
    free(once);
    free(text);
    return 0;
}
