/* The parts of moeref list that tell of GPU and node descriptions. */
#ifndef MOE_CLI_VERBS_LIST_GPUS_H
#define MOE_CLI_VERBS_LIST_GPUS_H

#include "moeref/status.h"

#include <jansson.h>

moe_status cli_list_gpus_text(void);
/* An array with an object for each; the caller's. */
json_t *cli_list_gpus_json(void);

moe_status cli_list_nodes_text(void);
json_t *cli_list_nodes_json(void);

#endif
