/* MOE_PROJECT_VERSION and its three numbers come from meson.build. */
#include "moeref/version.h"

_Static_assert(MOE_VERSION_HEX ==
                   (MOE_PROJECT_MAJOR << 16 | MOE_PROJECT_MINOR << 8 | MOE_PROJECT_PATCH),
               "version.h and meson.build name different versions");

const char *moe_version(void) {
    return MOE_PROJECT_VERSION;
}

uint32_t moe_version_hex(void) {
    return MOE_VERSION_HEX;
}
