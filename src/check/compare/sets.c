#include "check/compare/sets.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LISTED = 6 }; /* members that are named one by one */

void moe_int_append(char *buf, size_t size, const char *format, ...) {
    size_t used = strlen(buf);
    va_list args;
    va_start(args, format);
    if (used + 1 < size)
        vsnprintf(buf + used, size - used, format, args);
    va_end(args);
}

int64_t moe_int_set_size(const moe_int_set *set) {
    int64_t size = 0;
    for (int64_t i = 0; i < set->count; i++)
        size += set->has[i];
    return size;
}

static int64_t next(const moe_int_set *set, int64_t from, bool has) {
    while (from < set->count && set->has[from] != has)
        from++;
    return from;
}

/* The tile size whose borders first and last lie on, or 0. */
static int64_t tile_of(const moe_int_set *set, int64_t first, int64_t end) {
    static const int64_t usual[] = {128, 64, 32, 16};
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        int64_t tile = set->tile > 0 ? set->tile : usual[i];
        if (first % tile == 0 && (end % tile == 0 || end == set->count) && set->count > tile &&
            end - first <= tile)
            return tile;
    }
    return 0;
}

/* The shortest period, a power of two that fits at least twice, after which membership repeats; 0.
 */
static int64_t period_of(const moe_int_set *set) {
    for (int64_t period = 2; 2 * period <= set->count && period <= 256; period *= 2) {
        int64_t i = period;
        while (i < set->count && set->has[i] == set->has[i - period])
            i++;
        if (i == set->count)
            return period;
    }
    return 0;
}

/* Is the first period's part one run, first .. end-1? */
static bool one_run(const moe_int_set *set, int64_t period, int64_t first, int64_t end) {
    moe_int_set part = {set->has, period, 0};
    return period > 0 && end <= period && moe_int_set_size(&part) == end - first;
}

static void list(const moe_int_set *set, const char *word, char *buf, size_t size) {
    const char *comma = "";
    moe_int_append(buf, size, "%ss {", word);
    for (int64_t i = next(set, 0, true); i < set->count; i = next(set, i + 1, true)) {
        moe_int_append(buf, size, "%s%lld", comma, (long long)i);
        comma = ", ";
    }
    moe_int_append(buf, size, "}");
}

static void run(const moe_int_set *set, const char *word, int64_t first, int64_t end, char *buf,
                size_t size) {
    int64_t tile = tile_of(set, first, end);
    moe_int_append(buf, size, "%ss %lld..%lld (%lld of %lld", word, (long long)first,
                   (long long)(end - 1), (long long)(end - first), (long long)set->count);
    if (tile)
        moe_int_append(buf, size, "; tile %lld of %lld %ss", (long long)(first / tile),
                       (long long)tile, word);
    moe_int_append(buf, size, ")");
}

void moe_int_set_words(const moe_int_set *set, const char *word, char *buf, size_t size) {
    int64_t members = moe_int_set_size(set), first = next(set, 0, true);
    int64_t end = next(set, first, false), period = period_of(set);
    long long of = (long long)set->count;
    if (members == set->count) {
        moe_int_append(buf, size, "all %lld %ss", of, word);
    } else if (members == 1) {
        moe_int_append(buf, size, "%s %lld (of %lld)", word, (long long)first, of);
    } else if (end - first == members) {
        run(set, word, first, end, buf, size);
    } else if (one_run(set, period, first, end) && members > 3) {
        moe_int_append(buf, size, "%s%s %lld", word, end - first > 1 ? "s" : "", (long long)first);
        if (end - first > 1)
            moe_int_append(buf, size, "..%lld", (long long)(end - 1));
        moe_int_append(buf, size, " of every %lld (%lld of %lld)", (long long)period,
                       (long long)members, of);
    } else if (members <= LISTED) {
        list(set, word, buf, size);
        moe_int_append(buf, size, " (%lld of %lld)", (long long)members, of);
    } else {
        int64_t last = set->count - 1;
        while (!set->has[last])
            last--;
        moe_int_append(buf, size, "%ss %lld..%lld (%lld of %lld)", word, (long long)first,
                       (long long)last, (long long)members, of);
    }
}
