/* Internal: what descriptions of GPUs and of nodes have in common: shipped files by name, anybody's
 * own by path, and tables of named numbers. */
#ifndef MOE_SIM_DESCRIBED_H
#define MOE_SIM_DESCRIBED_H

#include "moeref/model.h"

#include <jansson.h>

/* A shipped file, made at build time; a NULL name ends a list of them. */
typedef struct moe_int_file {
    const char *name;
    const char *text;
    size_t size;
} moe_int_file;

const moe_int_file *moe_int_file_find(const moe_int_file *files, const char *name);

/* What `spec` names: a shipped file, or one at a path, whose text *ret_own keeps until the caller
 * frees it. `what` are its descriptions, for a message. */
moe_status moe_int_file_open(const char *what, const moe_int_file *shipped, const char *spec,
                             const moe_log *log, moe_int_file *ret, char **ret_own);

/* The text of a member, "" where there is none. */
const char *moe_int_described_text(const json_t *root, const char *key);

/* The index of a name of `length` in a list that ends with NULL; that of the end for none. */
int moe_int_described_name(const char *const *names, const char *name, size_t length);

/* A table and what one description has of it. */
typedef struct moe_int_numbers {
    const moe_gpu_param *table;
    int count;
    double *value;
    unsigned char *set; /* changed since loading */
} moe_int_numbers;

/* Where a key lives; NULL when unknown. ret_info and ret_set may be NULL. */
double *moe_int_numbers_slot(moe_int_numbers n, const char *key, const moe_gpu_param **ret_info,
                             unsigned char **ret_set);

/* Whether a number may be had, with a sentence. */
moe_status moe_int_number_check(const moe_gpu_param *info, const char *key, double value,
                                const moe_log *log);

/* Puts those that changed into a member of a description, or into a part of it, which are made
 * where they are missing. True: no memory. */
bool moe_int_numbers_put(moe_int_numbers n, json_t *root, const char *member, const char *kind,
                         const char *source);
bool moe_int_numbers_put_in(moe_int_numbers n, json_t *root, const char *member, const char *part,
                            const char *kind, const char *source);

#endif
