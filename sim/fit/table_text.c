/* Measured tables as text: a header line, then rows, in tabs or commas. sim/README.md has the
 * columns. */
#include "layer/number.h"
#include "sim/fit/table.h"

#include <stdio.h>
#include <string.h>

#define COLUMNS_MAX 32

typedef enum column {
    IGNORED,
    KERNEL,
    M,
    N,
    KDEPTH,
    TOKENS,
    D,
    WIDTH,
    TOPK,
    EXPERTS,
    BATCH,
    PASS,
    ROUTE,
    US
} column;

typedef struct reader {
    const char *path, *where;
    const moe_log *log;
    int line;
    bool json; /* lines were made of an array's objects, the first of which is line 2 */
    char separator;
    column columns[COLUMNS_MAX];
    moe_int_word names[COLUMNS_MAX]; /* as the header has them */
    int n_columns;
} reader;

/* The fields of one line. A layer's become a case. */
typedef struct fields {
    moe_int_row row;
    int64_t d, E, K;
    int32_t pass, uniform;
} fields;

/* GEMM tables say m, n, k; layer tables T, d, n, K, E. */
static column name_column(moe_int_word w, bool layers) {
    static const struct {
        const char *name;
        column gemm, layer;
    } names[] = {{"kernel", IGNORED, KERNEL}, {"m", M, IGNORED},       {"n", N, WIDTH},
                 {"k", KDEPTH, IGNORED},      {"T", IGNORED, TOKENS},  {"d", IGNORED, D},
                 {"K", IGNORED, TOPK},        {"E", IGNORED, EXPERTS}, {"median_us", US, US},
                 {"batch", BATCH, IGNORED},   {"pass", IGNORED, PASS}, {"route", IGNORED, ROUTE}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i].name) == w.length && memcmp(names[i].name, w.text, w.length) == 0)
            return layers ? names[i].layer : names[i].gemm;
    }
    return IGNORED;
}

/* The next field of the line at *at, which moves behind it; false at the end of the line. */
static bool next_field(const reader *r, const char **at, moe_int_word *ret) {
    const char ends[] = {r->separator, '\r', '\n', 0};
    if (!*at)
        return false;
    const size_t length = strcspn(*at, ends);
    *ret = (moe_int_word){*at, length};
    *at = (*at)[length] == r->separator ? *at + length + 1 : NULL;
    return true;
}

static moe_status read_header(reader *r, const char *line, moe_int_table_kind *ret) {
    moe_int_word w;
    unsigned seen = 0;
    const char *at = line;
    const size_t length = strcspn(line, "\r\n");
    r->separator = memchr(line, '\t', length) ? '\t' : ',';
    const bool layers = length >= 7 && memcmp(line, "kernel", 6) == 0 && line[6] == r->separator;
    while (next_field(r, &at, &w)) {
        if (r->n_columns == COLUMNS_MAX)
            return moe_fail(r->log, MOE_E_FORMAT, "%s: more than %d columns", r->path, COLUMNS_MAX);
        const column c = name_column(w, layers);
        if (c != IGNORED && seen >> c & 1)
            return moe_fail(r->log, MOE_E_FORMAT, "%s: the header names \"%.*s\" twice", r->path,
                            (int)w.length, w.text);
        r->names[r->n_columns] = w;
        r->columns[r->n_columns++] = c;
        seen |= 1u << c;
    }
    const unsigned need = layers ? 1u << KERNEL | 1u << TOKENS | 1u << D | 1u << WIDTH |
                                       1u << TOPK | 1u << EXPERTS | 1u << US
                                 : 1u << M | 1u << N | 1u << KDEPTH | 1u << US;
    if ((seen & need) != need)
        return moe_fail(r->log, MOE_E_FORMAT,
                        "%s: the header must name m, n, k, median_us or kernel, T, d, n, K, E, "
                        "median_us; it is \"%.*s\"",
                        r->path, length < 100 ? (int)length : 100, line);
    *ret = layers ? MOE_TABLE_LAYERS : MOE_TABLE_GEMMS;
    return MOE_OK;
}

static int64_t *size_slot(fields *f, column c) {
    switch ((int)c) {
    case M:
    case TOKENS:
        return &f->row.m;
    case N:
    case WIDTH:
        return &f->row.n;
    case KDEPTH:
        return &f->row.k;
    case D:
        return &f->d;
    case TOPK:
        return &f->K;
    case EXPERTS:
        return &f->E;
    case BATCH:
        return &f->row.batch;
    default:
        return NULL;
    }
}

/* names[0] is `first` in numbers. */
static bool read_name(moe_int_word w, const char *const *names, int32_t count, int32_t first,
                      int32_t *ret) {
    for (int32_t i = 0; i < count; i++) {
        if (strlen(names[i]) == w.length && memcmp(names[i], w.text, w.length) == 0) {
            *ret = first + i;
            return true;
        }
    }
    return false;
}

static const char *const passes[] = {"fwd", "bwd", "both"}; /* from MOE_PASS_FWD on */
static const char *const routes[] = {"balanced", "uniform"};

static bool read_field(column c, moe_int_word w, fields *f) {
    uint64_t value;
    if (c == IGNORED)
        return true;
    if (c == US)
        return moe_int_parse_real(w, &f->row.us) == MOE_OK && f->row.us > 0;
    if (c == PASS)
        return read_name(w, passes, 3, MOE_PASS_FWD, &f->pass);
    if (c == ROUTE)
        return read_name(w, routes, 2, 0, &f->uniform);
    if (c == KERNEL) {
        if (w.length >= sizeof f->row.kernel)
            return false;
        memcpy(f->row.kernel, w.text, w.length);
        return true;
    }
    if (moe_int_parse_uint(w, INT64_C(1) << 31, &value) != MOE_OK || value == 0)
        return false;
    *size_slot(f, c) = (int64_t)value;
    return true;
}

static moe_status add_fields(const reader *r, const fields *f, moe_table *table) {
    char line[256], where[512];
    if (table->kind == MOE_TABLE_GEMMS)
        return moe_int_table_add_row(table, &f->row, r->log);
    snprintf(line, sizeof line, "T=%lld d=%lld n=%lld E=%lld K=%lld route=%s pass=%s",
             (long long)f->row.m, (long long)f->d, (long long)f->row.n, (long long)f->E,
             (long long)f->K, routes[f->uniform], passes[f->pass - MOE_PASS_FWD]);
    snprintf(where, sizeof where, "%.400s:%d", r->path, r->line);
    moe_status status = moe_int_table_add_layer(table, line, where, r->log);
    return status ? status : moe_int_table_add_row(table, &f->row, r->log);
}

/* What a column of names may say. */
static const char *choices(column c) {
    return c == PASS ? ": fwd, bwd or both" : c == ROUTE ? ": balanced or uniform" : "";
}

/* A field that cannot be read, by its line and the name of its column. */
static moe_status refuse(const reader *r, int i, moe_int_word w) {
    const moe_int_word name = r->names[i];
    char place[32];
    snprintf(place, sizeof place, r->json ? ": rows[%d]" : ":%d", r->json ? r->line - 2 : r->line);
    return moe_fail(r->log, MOE_E_FORMAT, "%s%s: %.*s cannot be \"%.*s\"%s", r->path, place,
                    (int)name.length, name.text, (int)(w.length < 40 ? w.length : 40), w.text,
                    choices(r->columns[i]));
}

static moe_status read_row(const reader *r, const char *line, moe_table *table) {
    fields f = {.row.batch = 1, .pass = MOE_PASS_FWD};
    moe_int_word w;
    const char *at = line;
    int i = 0;
    for (; next_field(r, &at, &w); i++) {
        if (i < r->n_columns && !read_field(r->columns[i], w, &f))
            return refuse(r, i, w);
    }
    if (i != r->n_columns)
        return moe_fail(r->log, MOE_E_FORMAT, "%s:%d: %d columns where the header has %d", r->path,
                        r->line, i, r->n_columns);
    return add_fields(r, &f, table);
}

static moe_status read_transfer(const reader *r, const char *header, const char *line,
                                moe_table *table) {
    moe_int_measured found[MOE_INT_MEASURED_MAX] = {0};
    int count;
    if (!moe_int_read_transfers(header, line, r->where, found, &count))
        return moe_fail(r->log, MOE_E_FORMAT,
                        "%s:%d: a number is missing, negative or none, or the op is unknown",
                        r->path, r->line);
    moe_status status = MOE_OK;
    for (int i = 0; !status && i < count; i++) {
        moe_int_row row = {.us = found[i].us,
                           .moved = found[i].moved,
                           .m = found[i].size,
                           .shape = found[i].shape};
        strcpy(row.kernel, found[i].kernel);
        snprintf(row.gemm, sizeof row.gemm, "%.30s size=%lld", found[i].kernel,
                 (long long)found[i].size);
        status = moe_int_table_add_row(table, &row, r->log);
    }
    return status;
}

/* Comments stand before the header, and before them the mark that spreadsheets begin UTF-8 with. */
static const char *skip_comments(reader *r, const char *text) {
    static const char mark[] = "\xef\xbb\xbf";
    if (strncmp(text, mark, strlen(mark)) == 0)
        text += strlen(mark);
    while (*text == '#' && strchr(text, '\n')) {
        text = strchr(text, '\n') + 1;
        r->line++;
    }
    return text;
}

moe_status moe_int_table_read_text(const char *text, const char *path, const char *where, bool json,
                                   const moe_log *log, moe_table *table) {
    reader r = {.path = path, .where = where, .log = log, .line = 1, .json = json};
    text = skip_comments(&r, text);
    const bool moved = moe_int_is_transfers(text);
    moe_status status = MOE_OK;
    if (moved)
        table->kind = MOE_TABLE_TRANSFERS;
    else
        status = read_header(&r, text, &table->kind);
    for (const char *line = strchr(text, '\n'); !status && line; line = strchr(line, '\n')) {
        line++;
        r.line++;
        if (!strchr("\r\n", *line))
            status = moved ? read_transfer(&r, text, line, table) : read_row(&r, line, table);
    }
    return status;
}
