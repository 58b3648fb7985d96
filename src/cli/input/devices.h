/* A backend on one device, or on several where ranks need one each. */
#ifndef MOE_CLI_INPUT_DEVICES_H
#define MOE_CLI_INPUT_DEVICES_H

#include "cli/input/select.h"

typedef struct cli_devices {
    moe_backends *all;
    const char *spec;
    moe_open_params params;
    moe_backend *at[MOE_EP_MAX_RANKS];
    int32_t count; /* that are open */
} cli_devices;

/* Opens further ones until `count` are. */
moe_status cli_devices_open(cli_devices *d, int32_t count);
/* As many as the ranks of a problem that has a split need, whose parameters are filled. */
moe_status cli_devices_open_ranks(cli_devices *d, const cli_ranks *ranks,
                                  const moe_problem *problem, moe_ep_params *ret);
moe_status cli_devices_close(cli_devices *d);

#endif
