/* What the CUDA backend allocates for a layer, below the ledger of what is alive. */
#ifndef MOE_CLI_REPORT_ALLOCATED_H
#define MOE_CLI_REPORT_ALLOCATED_H

#include "cli/report/json.h"
#include "cli/report/prediction.h"
#include "moeref/allocation.h"

/* "cached" of a moe_live_kind; never NULL. */
const char *cli_live_kind_name(int32_t kind);

/* Backends `cuda` and `cuda:bound` for `layers` equal layers that run one after the other: on its
 * own memory each keeps all of it, as an operator each keeps `cached` and all share a workspace. */
void cli_allocated_text(FILE *to, int64_t layers, const moe_allocation *a);
/* Member "allocated" of an open object: an array, of a layer's buffers too. */
void cli_allocated_json(cli_json *to, int64_t layers, const moe_allocation *a);
/* Rows of the ledger's table, a buffer each, in the methods' column "cuda". */
void cli_allocated_csv(FILE *to, const cli_predicted *what, int64_t layers,
                       const moe_allocation *a);

#endif
