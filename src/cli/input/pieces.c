#include "cli/input/pieces.h"
#include "cli/input/messages.h"
#include "core/available.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a check takes unless --memory says more: it leaves room for others on a machine of 4 GiB,
 * and pieces of a layer cost hardly more time than the whole (README). */
static const int64_t most_bytes = (int64_t)5 << 29;

/* Three quarters of what the system would give to processes now, at most `most_bytes`, which it is
 * where the system does not tell. */
static int64_t default_bytes(void) {
    const int64_t available = moe_int_available_bytes(), share = available / 4 * 3;
    return available < 0 || share > most_bytes ? most_bytes : share;
}

static moe_status parse(const char *word, moe_hf_piece *ret) {
    long long first, last;
    char after;
    *ret = (moe_hf_piece){.units = MOE_HF_ROUTER_UNITS};
    if (strcmp(word, "router") == 0)
        return MOE_OK;
    if (sscanf(word, "%lld-%lld%c", &first, &last, &after) != 2 || first < 0 || last < first)
        return moe_fail(cli_log(), MOE_E_INVALID,
                        "--piece is router, or the first and the last of some experts as in 0-15, "
                        "not '%s'",
                        word);
    *ret = (moe_hf_piece){.first = first, .count = last - first + 1};
    return MOE_OK;
}

moe_status cli_pieces(const cli_selection *selection, const char *dir, moe_hf_piece **ret,
                      size_t *ret_count) {
    *ret = NULL;
    *ret_count = 0;
    if (selection->piece) {
        *ret_count = 1;
        *ret = malloc(sizeof **ret);
        return *ret ? parse(selection->piece, *ret) : MOE_E_NOMEM;
    }
    const int64_t bytes = selection->memory > 0 ? selection->memory << 20 : default_bytes();
    if (!selection->in_pieces)
        return MOE_OK;
    /* Whatever is wrong with the folder is said when it is read. */
    if (moe_hf_pieces(dir, selection->layer, selection->tokens, bytes, NULL, ret, ret_count))
        return MOE_OK;
    if (*ret_count)
        moe_log_send(cli_log(), MOE_LOG_WARN,
                     "%s: in %zu pieces, as the check of the whole layer would hold more than %.1f "
                     "GiB of memory%s",
                     dir, *ret_count, (double)bytes / (1 << 30),
                     selection->memory > 0 ? "" : " (--memory MIB allows another amount)");
    return MOE_OK;
}
