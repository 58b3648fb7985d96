#include "cli/report/text.h"
#include "core/utf8.h"

#include <stdlib.h>
#include <string.h>

json_t *cli_json_text(const char *text) {
    json_t *plain = json_string(text);
    char *copy = plain ? NULL : strdup(text);
    if (!copy)
        return plain;
    moe_int_clean_text(copy, strlen(copy) + 1);
    plain = json_string(copy);
    free(copy);
    return plain;
}
