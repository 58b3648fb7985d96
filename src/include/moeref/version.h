/* Which moeref this is: the header that a program was compiled with, and the library that it runs
 * with. Plug-ins are told apart by MOE_PLUGIN_ABI instead (plugin.h).
 *
 * Thread-safety: everything here may be called from any thread. */
#ifndef MOEREF_VERSION_H
#define MOEREF_VERSION_H

#include "moeref/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 0xMMmmpp: major, minor, patch. meson.build holds the version; the build fails if this differs. */
#define MOE_VERSION_HEX 0x000100

/* "MAJOR.MINOR.PATCH" and the same as 0xMMmmpp, of the library. */
MOE_API const char *moe_version(void);
MOE_API uint32_t moe_version_hex(void);

#ifdef __cplusplus
}
#endif
#endif
