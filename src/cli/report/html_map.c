#include "cli/report/html_parts.h"
#include "cli/report/map.h"

#include <math.h>

enum { CELL = 14, LEFT = 56, TOP = 6, MANY = 24 }; /* lines of more than MANY are low */
enum { PASSES = 0, DARKEST = 7, NOT_FINITE = 8, SHADES = 9 };

/* Shades go by the logarithm between 1 and the worst finite cell; -1: no element there. */
static int shade_of(double over, double most) {
    if (over < 0)
        return -1;
    if (isinf(over))
        return NOT_FINITE;
    if (over <= 1)
        return PASSES;
    double part = most > 1 ? log(over) / log(most) : 1;
    int shade = 1 + (int)(part * DARKEST);
    return shade < DARKEST ? shade : DARKEST;
}

static double most_of(const moe_error_map *m) {
    double most = 0;
    for (int i = 0; i < m->rows; i++)
        for (int j = 0; j < m->columns; j++)
            if (!isinf(m->over[i][j]))
                most = fmax(most, m->over[i][j]);
    return most;
}

static int line_height(const moe_error_map *m) {
    return m->rows > MANY ? 9 : CELL;
}

/* All cells of one shade in one path; neighbours in a row are one rectangle. */
static void draw_shade(FILE *to, const moe_error_map *m, int shade, double most) {
    bool any = false;
    for (int i = 0; i < m->rows; i++) {
        for (int j = 0, end; j < m->columns; j = end) {
            int own = shade_of(m->over[i][j], most);
            for (end = j + 1; end < m->columns && shade_of(m->over[i][end], most) == own;)
                end++;
            if (own != shade)
                continue;
            fprintf(to, "%sM%d %dh%dv%dh-%dz", any ? "" : "<path d=\"", LEFT + j * CELL,
                    TOP + i * line_height(m), (end - j) * CELL - 1, line_height(m) - 1,
                    (end - j) * CELL - 1);
            any = true;
        }
    }
    if (any)
        fprintf(to, "\" class=\"k%d\"/>", shade);
}

/* The cells' borders: runs of one shade are drawn in one piece. */
static void draw_grid(FILE *to, const moe_error_map *m) {
    fprintf(to, "<path class=\"grid\" d=\"");
    for (int j = 1; j < m->columns; j++)
        fprintf(to, "M%d.5 %dv%d", LEFT + j * CELL - 1, TOP, m->rows * line_height(m));
    fprintf(to, "\"/>");
}

static void draw_labels(FILE *to, const moe_error_map *m) {
    int step = m->rows > MANY ? 4 : 1, height = line_height(m);
    int bottom = TOP + m->rows * height + 13;
    for (int i = 0; i < m->rows; i += step)
        fprintf(to, "<text x=\"%d\" y=\"%d\" class=\"end\">%lld</text>", LEFT - 6,
                TOP + i * height + height / 2 + 4, (long long)m->row[i]);
    fprintf(to, "<text x=\"%d\" y=\"%d\">0</text>", LEFT, bottom);
    fprintf(to, "<text x=\"%d\" y=\"%d\" class=\"end\">%lld</text>", LEFT + m->columns * CELL,
            bottom, (long long)(m->extent - 1));
}

/* What the pointer reads: rows apart by ';', cells by ','; two digits are enough for an eye. */
static void put_values(FILE *to, const char *name, const float cells[][MOE_MAP_COLUMNS],
                       const moe_error_map *m) {
    fprintf(to, " data-%s=\"", name);
    for (int i = 0; i < m->rows; i++)
        for (int j = 0; j < m->columns; j++) {
            const char *apart = j > 0 ? "," : i > 0 ? ";" : "";
            if (cells[i][j] < 0)
                fprintf(to, "%s", apart);
            else
                fprintf(to, "%s%.2g", apart, cells[i][j]);
        }
    fprintf(to, "\"");
}

static void put_attributes(FILE *to, const moe_error_map *m) {
    fprintf(to, " data-down=\"");
    cli_html_text(to, m->down);
    fprintf(to, "\" data-across=\"");
    cli_html_text(to, m->across);
    fprintf(to, "\" data-tile=\"%lld\" data-extent=\"%lld\" data-row=\"", (long long)m->tile,
            (long long)m->extent);
    for (int i = 0; i < m->rows; i++)
        fprintf(to, "%s%lld", i ? "," : "", (long long)m->row[i]);
    fprintf(to, "\"");
    put_values(to, "over", m->over, m);
    put_values(to, "nmse", m->nmse, m);
}

static void put_legend(FILE *to, double most) {
    fprintf(to, "<p class=\"legend\"><span><i class=\"k0\"></i>passes</span><span>");
    for (int k = 1; k <= DARKEST; k++)
        fprintf(to, "<i class=\"k%d\"></i>", k);
    if (most > 1)
        fprintf(to, "1 to %.2g times what the gate allows", most);
    else
        fprintf(to, "over the gate");
    fprintf(to, "</span><span><i class=\"k%d\"></i>not finite</span></p>", NOT_FINITE);
}

void cli_html_map(FILE *to, const moe_error_map *m) {
    const double most = most_of(m);
    const int width = LEFT + m->columns * CELL + 2, height = TOP + m->rows * line_height(m) + 18;
    fprintf(to, "<figure class=\"map\"><figcaption><b>");
    cli_html_text(to, m->tensor);
    fprintf(to, "</b> %ss down", m->down);
    if (m->rows_of > m->rows)
        fprintf(to, " (the %d worst of %lld)", (int)m->rows, (long long)m->rows_of);
    fprintf(to, ", %s of %lld %s%s across</figcaption><div class=\"scroll\">",
            m->tile == 1 ? "each a tile" : "tiles", (long long)m->tile, m->across,
            m->tile == 1 ? "" : "s");
    fprintf(
        to,
        "<svg class=\"cells\" role=\"img\" aria-label=\"error map\" width=\"%d\" "
        "height=\"%d\" viewBox=\"0 0 %d %d\" data-cell=\"%d\" data-line=\"%d\" data-left=\"%d\" "
        "data-top=\"%d\"",
        width, height, width, height, CELL, line_height(m), LEFT, TOP);
    put_attributes(to, m);
    fprintf(to, ">");
    for (int shade = PASSES; shade < SHADES; shade++)
        draw_shade(to, m, shade, most);
    draw_grid(to, m);
    draw_labels(to, m);
    fprintf(to, "</svg></div><p class=\"reading\" aria-live=\"polite\"></p>");
    put_legend(to, most);
    cli_map_cell worst;
    if (cli_map_worst(m, &worst)) {
        char place[80];
        cli_map_place(m, worst, place, sizeof place);
        fprintf(to, "<p class=\"note\">Worst: %s</p>", place);
    }
    fprintf(to, "</figure>\n");
}
