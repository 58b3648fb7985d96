/* moeref list: GPU descriptions, and what each was held to. */
#include "cli/verbs/list_gpus.h"
#include "cli/input/messages.h"
#include "cli/report/json_text.h"
#include "moeref/model.h"

#include <stdio.h>
#include <string.h>

/* Parameters that its file leaves out: how many, and of which measured GPU some are (""). */
static int count_derived(const moe_gpu *gpu, const char **ret_from) {
    moe_gpu_param info;
    int count = 0;
    *ret_from = "";
    for (size_t i = 0; (info = moe_gpu_param_at(i)).key; i++) {
        const char *from;
        if (!moe_gpu_is_derived(gpu, info.key, &from))
            continue;
        count++;
        if (from)
            *ret_from = from;
    }
    return count;
}

/* Of each type that it multiplies: what its rate is held to; those of the vendor's peak together.
 */
static void print_rates(const moe_gpu *gpu) {
    char alone[128] = "";
    for (int32_t s = 0; s < MOE_STORAGE_COUNT; s++) {
        if (!(moe_gpu_rate(gpu, s) > 0) || s == MOE_STORAGE_F16) /* told with bf16, as one rate */
            continue;
        const char *name = s == MOE_STORAGE_BF16 ? "bf16, fp16" : moe_storage_name(s);
        const char *held = moe_gpu_rate_held_to(gpu, s);
        if (held[0])
            printf("  %-13s %s: rate held to %s\n", "", name, held);
        else
            snprintf(alone + strlen(alone), sizeof alone - strlen(alone), "%s%s",
                     alone[0] ? ", " : "", name);
    }
    if (alone[0])
        printf("  %-13s %s: the vendor's peak alone, no rows\n", "", alone);
}

static json_t *rates_json(const moe_gpu *gpu) {
    json_t *list = json_array();
    for (int32_t s = 0; s < MOE_STORAGE_COUNT; s++) {
        if (!(moe_gpu_rate(gpu, s) > 0))
            continue;
        const char *held = moe_gpu_rate_held_to(gpu, s);
        json_array_append_new(list, json_pack("{s:s, s:f, s:o}", "type", moe_storage_name(s),
                                              "rate", moe_gpu_rate(gpu, s), "held_to",
                                              held[0] ? cli_json_text(held) : json_null()));
    }
    return list;
}

moe_status cli_list_gpus_text(void) {
    moe_status status = MOE_OK;
    printf("GPUs (--gpu), and what each is held to\n");
    for (const char *const *name = moe_gpu_names(); !status && *name; name++) {
        moe_gpu *gpu = NULL;
        const char *from;
        double arch = 0;
        status = moe_gpu_load(*name, cli_log(), &gpu);
        if (status)
            break;
        const int derived = count_derived(gpu, &from);
        moe_gpu_get(gpu, "arch", &arch);
        printf("  %-13s %s\n  %-13s held to %s\n", *name, moe_gpu_brief(gpu), "",
               moe_gpu_held_to(gpu));
        print_rates(gpu);
        if (derived)
            printf("  %-13s %d numbers follow from its architecture (%.0f)%s%s\n", "", derived,
                   arch, from[0] ? " or are those of " : "", from);
        moe_gpu_destroy(&gpu);
    }
    return status;
}

static json_t *gpu_json(const char *name, const moe_gpu *gpu) {
    json_t *derived = json_array();
    moe_gpu_param info;
    for (size_t i = 0; (info = moe_gpu_param_at(i)).key; i++) {
        if (moe_gpu_is_derived(gpu, info.key, NULL))
            json_array_append_new(derived, json_string(info.key));
    }
    return json_pack("{s:s, s:o, s:o, s:o, s:o}", "name", name, "brief",
                     cli_json_text(moe_gpu_brief(gpu)), "held_to",
                     cli_json_text(moe_gpu_held_to(gpu)), "rates", rates_json(gpu), "derived",
                     derived);
}

json_t *cli_list_gpus_json(void) {
    json_t *list = json_array();
    for (const char *const *name = moe_gpu_names(); *name; name++) {
        moe_gpu *gpu = NULL;
        if (moe_gpu_load(*name, cli_log(), &gpu) == MOE_OK)
            json_array_append_new(list, gpu_json(*name, gpu));
        moe_gpu_destroy(&gpu);
    }
    return list;
}
