/* For users of backends: find one, open it, prepare a layer, run it, fetch results.
 *
 *     moe_backends *all;  moe_backend *cpu;  moe_layer *layer;
 *     moe_backends_load(NULL, &log, &all);
 *     moe_backend_open(all, "openblas", &params, &log, &cpu);
 *     moe_layer_prepare(cpu, &desc, &use, &tensors, &layer);
 *     moe_layer_set_input(layer, &input);
 *     moe_layer_forward(layer);
 *     moe_layer_fetch(layer, MOE_T_O, &out);
 *
 * Thread-safety: one thread at a time per moe_backend and the layers prepared on it, except for
 * moe_backend_board. */
#ifndef MOEREF_BACKEND_H
#define MOEREF_BACKEND_H

#include "moeref/plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The registry: built-in and loaded plug-ins.
 * Thread-safety: const calls from any thread; moe_backend_open from one at a time. */
typedef struct moe_backends moe_backends;

/* An opened device.
 * Thread-safety: one thread at a time, with its layers; moe_backend_board beside it. */
typedef struct moe_backend moe_backend;

/* A layer prepared on a device.
 * Thread-safety: as its moe_backend. */
typedef struct moe_layer moe_layer;

/* Thread-safety: plain data. */
typedef struct moe_backend_info {
    const char *name;
    const char *brief;
    const char *path; /* "built in", or the file */
    int32_t priority;
    moe_status status;  /* of probe(), or why the file was refused: MOE_E_ABI, MOE_E_FORMAT ... */
    const char *reason; /* why status is not MOE_OK; "" otherwise */
} moe_backend_info;

/* Loads built-in backends and every moeref-*.so on the search path: `path` if not NULL, else the
 * environment's MOEREF_BACKEND_PATH (colon-separated), else the folders beside libmoeref
 * (installed: moeref/; in a build tree: ../backends and the folders in it). A plug-in of another
 * ABI is reported to `log` with both numbers, listed with MOE_E_ABI, and skipped. MOE_E_NOMEM. */
MOE_API moe_status moe_backends_load(const char *path, const moe_log *log, moe_backends **ret);
/* After its backends are closed. */
MOE_API void moe_backends_destroy(moe_backends **all);

MOE_API size_t moe_backends_count(const moe_backends *all);
/* Ordered by descending priority. i must be below the count. */
MOE_API moe_backend_info moe_backends_info(const moe_backends *all, size_t i);

/* Opens "NAME", "NAME:VARIANT" or a path (anything with a '/'). An unknown name is
 * MOE_E_NOTFOUND, with the known ones in the message; an unusable one gives probe()'s status and
 * reason. params may be NULL; its log replaces `log` from open to close. `all` must outlive the
 * backend, and so must what the log points to. */
MOE_API moe_status moe_backend_open(moe_backends *all, const char *spec,
                                    const moe_open_params *params, const moe_log *log,
                                    moe_backend **ret);
/* MOE_E_CONTRACT where the plug-in's `close` did what it must not; closed it is all the same. */
MOE_API moe_status moe_backend_close(moe_backend **backend);
/* "NAME" or "NAME:VARIANT"; lives as long as the backend. */
MOE_API const char *moe_backend_name(const moe_backend *backend);
/* What the plug-in did against its contract since the last moe_backend_supports or
 * moe_layer_prepare, as "backward crashed: SIGSEGV"; "": nothing. Then calls are MOE_E_CONTRACT. */
MOE_API const char *moe_backend_fault(const moe_backend *backend);

/* Whether it computes such a layer, and how: its arithmetic, and whether its bits are the same each
 * time. MOE_E_UNSUPPORTED: no, ret->reason says why, and nothing is logged; MOE_E_INVALID: `desc`
 * or `use` is none; MOE_E_CONTRACT. */
MOE_API moe_status moe_backend_supports(moe_backend *backend, const moe_layer_desc *desc,
                                        const moe_use *use, moe_support *ret);
/* The arithmetic that the backend declares for a layer, as moe_arithmetic_parse takes it.
 * MOE_E_UNSUPPORTED, without a message: none; MOE_E_CONTRACT: a text that is none. */
MOE_API moe_status moe_backend_arithmetic(moe_backend *backend, const moe_layer_desc *desc,
                                          const moe_use *use, char *ret, size_t size);
/* MOE_E_UNSUPPORTED, without a message: the plug-in has no such measurement. */
MOE_API moe_status moe_backend_roofline(moe_backend *backend, moe_roofline *ret);
/* MOE_E_UNSUPPORTED, without a message: the plug-in does not tell. Thread-safety: one thread at a
 * time, also while another runs a layer of this backend. */
MOE_API moe_status moe_backend_board(moe_backend *backend, moe_board *ret);

/* Validates desc and every parameter's presence, shape (moe_tensor_id) and dtype (use->dtype), then
 * prepares. `params` must outlive the layer. MOE_E_INVALID, MOE_E_UNSUPPORTED with the backend's
 * reason, MOE_E_NOMEM of host or device, MOE_E_DEVICE, MOE_E_CONTRACT. */
MOE_API moe_status moe_layer_prepare(moe_backend *backend, const moe_layer_desc *desc,
                                     const moe_use *use, const moe_tensors *params,
                                     moe_layer **ret);
MOE_API void moe_layer_destroy(moe_layer **layer);

/* The next step's X, dO [T][d] and plan, which must stay valid until the next ones or the end of
 * the layer. MOE_E_INVALID: another shape or dtype than the layer was prepared for, a plan that
 * moe_plan_check refuses, a plan where the layer routes, or none where it does not. What calls of a
 * layer have in common: MOE_E_NOMEM, MOE_E_DEVICE, and MOE_E_CONTRACT (moe_backend_fault). */
MOE_API moe_status moe_layer_set_input(moe_layer *layer, const moe_input *input);
/* MOE_E_INVALID before any input. */
MOE_API moe_status moe_layer_forward(moe_layer *layer);
/* MOE_E_INVALID unless a forward with the same input came before and the layer has MOE_PASS_BWD. */
MOE_API moe_status moe_layer_backward(moe_layer *layer);
/* Copies a result into dst, whose shape must be the tensor's own and whose dtype may be any
 * floating one (topk indices come by moe_layer_routing). MOE_E_INVALID: the layer has no such
 * tensor, or the pass that makes it has not run; MOE_E_UNSUPPORTED: the backend does not keep that
 * stage. */
MOE_API moe_status moe_layer_fetch(moe_layer *layer, moe_tensor_id id, moe_tensor *dst);
/* The plan in use: the given one, or the backend's choice. MOE_E_UNSUPPORTED: not known. */
MOE_API moe_status moe_layer_routing(moe_layer *layer, const moe_plan **ret);
/* 0 when the plug-in does not time kernels. */
MOE_API size_t moe_layer_timings(moe_layer *layer, moe_cost *ret, size_t capacity);
/* MOE_E_UNSUPPORTED, without a message: the plug-in does not tell. */
MOE_API moe_status moe_layer_memory(moe_layer *layer, moe_memory *ret);

#ifdef __cplusplus
}
#endif
#endif
