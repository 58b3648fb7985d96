/* A layer's memory, tensor by tensor, as text, JSON and CSV. */
#ifndef MOE_CLI_REPORT_LEDGER_H
#define MOE_CLI_REPORT_LEDGER_H

#include "cli/report/prediction.h"
#include "moeref/allocation.h"

/* The same for `layers` layers of a model, of which one runs its passes while all keep what
 * backward needs. */
typedef struct cli_ledger_sums {
    double weights, gradients, cached, peak; /* bytes */
} cli_ledger_sums;

cli_ledger_sums cli_ledger_sum(const moe_prediction *p, int64_t layers);

/* `a` is what the method's own backend allocates for it; NULL: it is not known. */
void cli_ledger_text(FILE *to, const cli_predicted *what, int64_t layers, const moe_prediction *p,
                     const moe_allocation *a);
void cli_ledger_json(FILE *to, const cli_predicted *what, int64_t layers, const moe_prediction *p,
                     const moe_allocation *a);
void cli_ledger_csv_header(FILE *to);
void cli_ledger_csv(FILE *to, const cli_predicted *what, int64_t layers, const moe_prediction *p,
                    const moe_allocation *a);

#endif
