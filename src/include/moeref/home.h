/* Where what is installed with the library lies: beside the file of the library itself, so that a
 * tree may be moved as a whole, and in a build tree where it was built.
 *
 * Thread-safety: everything here may be called from any thread. */
#ifndef MOEREF_HOME_H
#define MOEREF_HOME_H

#include "moeref/status.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum moe_home_part {
    MOE_HOME_BACKENDS, /* folder of the plug-ins, moeref-NAME.so */
    MOE_HOME_WORKER,   /* the program in which a plug-in runs; $MOEREF_WORKER goes before */
    MOE_HOME_FAULTY,   /* the backend that `moeref selftest` plants faults in */
    MOE_HOME_GOLDEN,   /* folder of golden outputs; $MOEREF_GOLDEN goes before */
    MOE_HOME_GPUS,     /* folder of GPU descriptions to copy; the library holds them, too */
    MOE_HOME_SCHEMA,   /* the JSON Schema of reports */
    MOE_HOME_MEASURE   /* the program that measures a GPU; $MOEREF_MEASURE goes before */
} moe_home_part;

/* The absolute path of a part, in ret of `size` bytes. `named`, where it is not NULL, is the user's
 * own choice and goes before everything; then the environment's; then what is beside the library.
 * A choice that is not there is an error, nothing else is taken for it. Errors: MOE_E_NOTFOUND,
 * MOE_E_INVALID where `size` is too small or there is no such part, with a sentence. */
MOE_API moe_status moe_home_find(moe_home_part part, const char *named, const moe_log *log,
                                 char *ret, size_t size);

#ifdef __cplusplus
}
#endif
#endif
