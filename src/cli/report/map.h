/* Error maps, experts by tiles: drawn in text, and as JSON. */
#ifndef MOE_CLI_REPORT_MAP_H
#define MOE_CLI_REPORT_MAP_H

#include "moeref/check.h"

#include <jansson.h>
#include <stdio.h>

/* The next map of that tensor at or after *at, which moves past it; NULL: none. */
const moe_error_map *cli_map_next(const moe_check_result *r, const char *tensor, size_t *at);

/* A cell of a map. */
typedef struct cli_map_cell {
    int row, column;
} cli_map_cell;

/* The worst cell; false where no cell has elements. */
bool cli_map_worst(const moe_error_map *m, cli_map_cell *ret);

/* "expert 3, rows 16..31" */
void cli_map_place(const moe_error_map *m, cli_map_cell cell, char *ret, size_t size);

/* The lines with the largest errors, shaded, and the worst cells by name. */
void cli_map_text(FILE *to, const moe_error_map *m);

/* [{"tensor", "rows", "columns", "tile", "extent", "over": [[...]] ...}] of the tensor. */
json_t *cli_maps_json(const moe_check_result *r, const char *tensor);

#endif
