#include "cli/report/map.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LINES = 8, NAMED = 3 }; /* in text */

const moe_error_map *cli_map_next(const moe_check_result *r, const char *tensor, size_t *at) {
    while (*at < r->n_maps) {
        const moe_error_map *m = &r->map[(*at)++];
        if (strcmp(m->tensor, tensor) == 0)
            return m;
    }
    return NULL;
}

/* The worst cell that is less bad than `below`; a line's lowest column comes first. */
static bool worst_below(const moe_error_map *m, double below, cli_map_cell *ret) {
    double worst = -1;
    for (int i = 0; i < m->rows; i++) {
        for (int j = 0; j < m->columns; j++) {
            if (m->over[i][j] > worst && m->over[i][j] < below) {
                worst = m->over[i][j];
                *ret = (cli_map_cell){i, j};
            }
        }
    }
    return worst >= 0;
}

bool cli_map_worst(const moe_error_map *m, cli_map_cell *ret) {
    for (int i = 0; i < m->rows; i++) {
        for (int j = 0; j < m->columns; j++) {
            if (isinf(m->over[i][j])) {
                *ret = (cli_map_cell){i, j};
                return true;
            }
        }
    }
    return worst_below(m, INFINITY, ret);
}

void cli_map_place(const moe_error_map *m, cli_map_cell cell, char *ret, size_t size) {
    long long first = cell.column * m->tile, end = first + m->tile;
    if (end > m->extent)
        end = m->extent;
    int used = snprintf(ret, size, "%s %lld, %s", m->down, (long long)m->row[cell.row], m->across);
    if (used < 0 || (size_t)used >= size)
        return;
    if (end - first == 1)
        snprintf(ret + used, size - (size_t)used, " %lld", first);
    else
        snprintf(ret + used, size - (size_t)used, "s %lld..%lld", first, end - 1);
}

/* How wrong a line is: how many cells are too large, then the worst of them. */
typedef struct line_error {
    int cells;
    double worst;
} line_error;

static line_error error_of(const moe_error_map *m, int line) {
    line_error e = {0, -1};
    for (int j = 0; j < m->columns; j++) {
        e.cells += m->over[line][j] > 1;
        e.worst = fmax(e.worst, m->over[line][j]);
    }
    return e;
}

/* How many lines are more wrong than this one, or as wrong and before it. */
static int rank_of(const moe_error_map *m, int line) {
    const line_error own = error_of(m, line);
    int rank = 0;
    for (int i = 0; i < m->rows; i++) {
        const line_error x = error_of(m, i);
        bool same = x.cells == own.cells;
        rank += x.cells > own.cells || (same && x.worst > own.worst) ||
                (same && x.worst == own.worst && i < line);
    }
    return rank;
}

/* Of a finite cell that is too large the logarithm says how dark it is; 1 is the darkest. */
static char shade(double over, double most) {
    static const char ramp[] = ":-=+*#@";
    const int steps = (int)sizeof ramp - 1;
    if (over < 0)
        return ' ';
    if (isinf(over))
        return '!';
    if (over <= 1)
        return '.';
    double part = most > 1 ? log(over) / log(most) : 1;
    int i = (int)(part * steps);
    return ramp[i < steps ? i : steps - 1];
}

static void print_line(FILE *to, const moe_error_map *m, int line, double most) {
    fprintf(to, "        %6lld |", (long long)m->row[line]);
    for (int j = 0; j < m->columns; j++)
        fputc(shade(m->over[line][j], most), to);
    fprintf(to, "|\n");
}

static void print_worst(FILE *to, const moe_error_map *m, cli_map_cell cell) {
    char place[80];
    cli_map_place(m, cell, place, sizeof place);
    double over = m->over[cell.row][cell.column];
    if (isinf(over))
        fprintf(to, "        ! %s: not finite, finite where the truth is not, or no exact 0\n",
                place);
    else
        fprintf(to, "        %s: NMSE %.2e, %.2g times what the gate allows\n", place,
                m->nmse[cell.row][cell.column], over);
}

/* A picture of one shade says no more than "all". */
static bool all_fail(const moe_error_map *m) {
    for (int i = 0; i < m->rows; i++)
        for (int j = 0; j < m->columns; j++)
            if (m->over[i][j] >= 0 && m->over[i][j] <= 1)
                return false;
    return true;
}

void cli_map_text(FILE *to, const moe_error_map *m) {
    cli_map_cell worst = {0}, cell = {0};
    if (all_fail(m) || !cli_map_worst(m, &worst))
        return;
    double most = worst_below(m, INFINITY, &cell) ? m->over[cell.row][cell.column] : 0;
    fprintf(to, "      map: %ss down, tiles of %lld %s%s across; . passes", m->down,
            (long long)m->tile, m->across, m->tile == 1 ? "" : "s");
    if (most > 1)
        fprintf(to, ", : to @ 1 to %.2g times what the gate allows", most);
    fprintf(to, "\n");
    for (int i = 0; i < m->rows; i++)
        if (rank_of(m, i) < LINES)
            print_line(to, m, i, most);
    if (m->rows_of > LINES)
        fprintf(to, "        the %d most wrong of %lld\n", m->rows < LINES ? m->rows : LINES,
                (long long)m->rows_of);
    if (isinf(m->over[worst.row][worst.column]))
        print_worst(to, m, worst);
    double below = INFINITY;
    for (int i = 0; i < NAMED && worst_below(m, below, &cell); i++) {
        below = m->over[cell.row][cell.column];
        if (below <= 1)
            break;
        print_worst(to, m, cell);
    }
}

/* Four digits; null for a cell without elements, and "inf" for one that JSON has no number for. */
static json_t *cell_json(double value) {
    char digits[32];
    if (value < 0 || isnan(value))
        return json_null();
    if (isinf(value))
        return json_string("inf");
    snprintf(digits, sizeof digits, "%.4g", value);
    return json_real(strtod(digits, NULL));
}

static json_t *cells_json(const moe_error_map *m, const float cells[][MOE_MAP_COLUMNS]) {
    json_t *rows = json_array();
    for (int i = 0; i < m->rows; i++) {
        json_t *row = json_array();
        for (int j = 0; j < m->columns; j++)
            json_array_append_new(row, cell_json(cells[i][j]));
        json_array_append_new(rows, row);
    }
    return rows;
}

json_t *cli_maps_json(const moe_check_result *r, const char *tensor) {
    json_t *maps = json_array();
    size_t at = 0;
    for (const moe_error_map *m; (m = cli_map_next(r, tensor, &at));) {
        json_t *row = json_array();
        for (int i = 0; i < m->rows; i++)
            json_array_append_new(row, json_integer(m->row[i]));
        json_array_append_new(
            maps, json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:o, s:o}", "down", m->down, "across",
                            m->across, "tile", (json_int_t)m->tile, "extent", (json_int_t)m->extent,
                            "rows_of", (json_int_t)m->rows_of, "row", row, "over",
                            cells_json(m, m->over), "nmse", cells_json(m, m->nmse)));
    }
    return maps;
}
