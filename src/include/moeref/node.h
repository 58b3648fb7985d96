/* Several GPUs: descriptions of nodes, and what moving rows between their GPUs takes. sim/README.md
 * states the equations and how far they were held against measurements. */
#ifndef MOEREF_NODE_H
#define MOEREF_NODE_H

#include "moeref/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A moe_node is a description: named numbers ("link_gbps" ...) and, for each carrier, a library's
 * kernel that moves rows or buffers, what it gets out of the links ("alltoall.link_eff" ...). */

/* Names of the shipped descriptions, NULL-terminated. */
MOE_API const char *const *moe_node_names(void);

/* Loads a shipped description by name, or a file where `spec` holds a '/' or ends in ".json".
 * MOE_E_NOTFOUND, MOE_E_IO, MOE_E_FORMAT, MOE_E_NOMEM. */
MOE_API moe_status moe_node_load(const char *spec, const moe_log *log, moe_node **ret);
MOE_API moe_status moe_node_clone(const moe_node *node, moe_node **ret);
MOE_API void moe_node_destroy(moe_node **node);

MOE_API const char *moe_node_name(const moe_node *node);
MOE_API const char *moe_node_gpu(const moe_node *node); /* of moe_gpu_load */
MOE_API const char *moe_node_brief(const moe_node *node);
MOE_API const char *moe_node_held_to(const moe_node *node);

/* The i-th carrier; NULL past the end. derived: the file says nothing of it, and what holds is the
 * node's named in *ret_home. */
MOE_API const char *moe_node_carrier(const moe_node *node, size_t i, bool *ret_derived,
                                     const char **ret_home);

/* As moe_gpu_get and so on, for "KEY" and "CARRIER.KEY". */
MOE_API moe_status moe_node_get(const moe_node *node, const char *key, double *ret);
MOE_API moe_status moe_node_set(moe_node *node, const char *key, double value, const moe_log *log);
MOE_API moe_status moe_node_what_if(moe_node *node, const char *text, const moe_log *log);
/* Whether a what-if is of a node's number. */
MOE_API bool moe_node_has(const moe_node *node, const char *what_if);
MOE_API moe_status moe_node_write(const moe_node *node, const char *path, const char *kind,
                                  const char *source, const moe_log *log);

#ifdef __cplusplus
}
#endif
#endif
