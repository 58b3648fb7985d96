#include "cli/input/mistrust.h"
#include "cli/input/lines.h"
#include "cli/input/messages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Cuts a line in its three fields. */
static bool cut(char *line, char *ret[3]) {
    for (int i = 0; i < 3; i++) {
        ret[i] = strsep(&line, "\t");
        if (!ret[i] || !*ret[i])
            return false;
    }
    return !line;
}

/* The faults are in the sentence as far as there is room. */
static void mistrust(moe_check_result *result, const char *faults) {
    result->verdict = MOE_VERDICT_MISTRUSTED;
    snprintf(result->why, sizeof result->why, "this case cannot show these faults: %.210s", faults);
}

moe_status cli_mistrust_apply(const char *path, moe_dtype arithmetic, moe_check_result *result) {
    cli_lines lines;
    cli_line line = {0};
    char *field[3];
    if (result->verdict > MOE_VERDICT_AMBIGUOUS)
        return MOE_OK;
    moe_status status = cli_lines_open(path, &lines);
    if (status)
        return status;
    while (!(status = cli_lines_next(&lines, &line)) && line.text) {
        if (!cut(line.text, field))
            status = moe_fail(cli_log(), MOE_E_FORMAT,
                              "%s: line %ld is not TYPE, case and faults with tabs between", path,
                              line.number);
        else if (strcmp(field[0], moe_dtype_name(arithmetic)) == 0 &&
                 strcmp(field[1], result->case_name) == 0)
            mistrust(result, field[2]);
        free(line.text);
        if (status)
            break;
    }
    cli_lines_close(&lines);
    return status;
}
