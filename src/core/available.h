/* Memory that the system would give to processes now. */
#ifndef MOE_CORE_AVAILABLE_H
#define MOE_CORE_AVAILABLE_H

#include <stdint.h>
#include <stdio.h>

/* Bytes, without swapping; negative where the system does not tell. */
static inline int64_t moe_int_available_bytes(void) {
    char line[128];
    long long kib = -1;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && kib < 0 && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lld kB", &kib) != 1)
            kib = -1;
    if (f)
        fclose(f);
    return kib < 0 ? -1 : (int64_t)kib * 1024;
}

#endif
