/* The part of moeref list that tells of GPU descriptions. */
#ifndef MOE_CLI_VERBS_LIST_GPUS_H
#define MOE_CLI_VERBS_LIST_GPUS_H

#include "moeref/status.h"

#include <jansson.h>

moe_status cli_list_gpus_text(void);
/* An array with an object for each; the caller's. */
json_t *cli_list_gpus_json(void);

#endif
