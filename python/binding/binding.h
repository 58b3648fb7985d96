/* What the Python package calls through ctypes: the library and the program's reports, behind
 * handles, plain numbers and text, so that of the library's structs moe_named_tensor alone is laid
 * out a second time in Python.
 *
 * Functions that can fail return a moe_status and write what the library said into `said`, a
 * sentence a line, as "error: ..." or "warning: ...". Text that a function returns is freed with
 * moe_py_free.
 * Thread-safety: any thread; a handle is used by one at a time. */
#ifndef MOE_PY_BINDING_H
#define MOE_PY_BINDING_H

#include "moeref/check.h"
#include "moeref/operator.h"
#include "moeref/safetensors.h"

#include <locale.h>
#include <stdbool.h>
#include <stdio.h>

/* Room for what the library says. */
typedef struct moe_py_said {
    char text[8192];
} moe_py_said;

/* Numbers of this thread have a full stop, whatever the process's locale says: JSON and case lines
 * are read again. Returns what held before, for uselocale. */
locale_t moe_py_plain_numbers(void);

/* A log into `said`, which begins empty; also the program's own messages of this thread, until
 * moe_py_said_end. */
typedef struct moe_py_ear {
    moe_py_said *said;
    moe_log log;
} moe_py_ear;
void moe_py_listen(moe_py_ear *ear, moe_py_said *said);
void moe_py_listen_end(void);

/* Sizes that Python's mirrors of structs must agree with: moe_named_tensor, moe_py_how,
 * moe_py_form, moe_py_step. */
MOE_API void moe_py_layout(int64_t ret[4]);
MOE_API void moe_py_free(char *text);
MOE_API const char *moe_py_version(void);

/* ---- a case, its inputs, its truth ---- */

typedef struct moe_py_problem moe_py_problem;

/* kind 'c': a case line; 'h': the folder of a checkpoint, `number` its layer or -1; 'o': the case
 * line of own `tensors`, "" where `tensors` need none. */
MOE_API moe_status moe_py_problem_open(int kind, const char *text, int64_t number,
                                       const moe_named_tensor *tensors, int64_t count,
                                       moe_py_said *said, moe_py_problem **ret);
/* Another who will close it; it goes with the last. Any thread. */
void moe_py_problem_hold(moe_py_problem *problem);
MOE_API void moe_py_problem_close(moe_py_problem *problem);
MOE_API const char *moe_py_problem_name(const moe_py_problem *problem);
/* The facts of it as JSON: sizes, pass, dtype, is the plan given. */
MOE_API char *moe_py_problem_facts(const moe_py_problem *problem);
/* Makes the truth, once: float64. Then tensors of `expected` can be asked for. */
MOE_API moe_status moe_py_problem_solve(moe_py_problem *problem, int32_t threads,
                                        moe_py_said *said);
/* Tensor i of the inputs or of the truth, in memory of the problem; false past the end. */
MOE_API int moe_py_problem_tensor(const moe_py_problem *problem, int expected, int64_t i,
                                  moe_named_tensor *ret);
/* A DLManagedTensor of so many bits an element, whose deleter closes the problem, which stays until
 * then. NULL: no memory. */
MOE_API void *moe_py_problem_lend(moe_py_problem *problem, void *data, int ndim,
                                  const int64_t *shape, int code, int bits);

/* ---- verdicts ---- */

typedef struct moe_py_verdict moe_py_verdict;

/* What a check is at; written while another thread looks. phase NULL: nothing yet. */
typedef struct moe_py_stage {
    const char *phase;
    int64_t percent;  /* negative: it has no steps */
    char failed[800]; /* what fails, complete once `is_failed`, while the cause is looked for */
    int32_t is_failed;
    int32_t enough; /* the other thread's: ends that search */
} moe_py_stage;

/* How to judge; as of moe_check_params. */
typedef struct moe_py_how {
    const char *recipe;     /* "": any */
    const char *arithmetic; /* "": as O is stored, or as the backend says */
    const char *reproduce;  /* the line that does it again; "": the program's */
    const char *dump_dir;   /* "": nothing is kept */
    const char *scout;      /* "": the usual one, where it is quick */
    int32_t threads, repeats, no_explanation, exhaustive, map_tile, timeout_s;
    const char *changed; /* an input that the subject wrote into, a failure by itself; "": none */
    moe_py_stage *stage;
} moe_py_how;

MOE_API moe_status moe_py_check(const moe_py_problem *problem, const char *name,
                                const moe_named_tensor *tensors, int64_t count,
                                const moe_py_how *how, moe_py_said *said, moe_py_verdict **ret);
MOE_API moe_status moe_py_check_backend(const moe_py_problem *problem, const char *spec,
                                        const moe_py_how *how, moe_py_said *said,
                                        moe_py_verdict **ret);
MOE_API void moe_py_verdict_close(moe_py_verdict *verdict);
/* As the program prints it: a line, or (full, or failed) every tensor; its JSON; its page. */
MOE_API char *moe_py_verdict_text(const moe_py_verdict *verdict, int full);
MOE_API char *moe_py_verdict_json(const moe_py_verdict *verdict);
MOE_API moe_status moe_py_verdict_html(const moe_py_verdict *verdict, const char *path,
                                       moe_py_said *said);

/* ---- the cost model, and lists ---- */

/* The answer of `moeref predict` as text and as JSON. what_if: words parted by blanks. */
MOE_API moe_status moe_py_predict(const char *line, const char *gpu, const char *method,
                                  const char *what_if, const char *clock, const char *data,
                                  int in_stream, moe_py_said *said, char **ret_text,
                                  char **ret_json);
/* Names, a line each: 'g' GPUs, 'm' methods, 'r' recipes, 'c' the suite's cases, 'b' backends that
 * can be used here, 'k' the keys of a case. NULL: no such list. */
MOE_API char *moe_py_list(int kind);

/* ---- a layer's experts on the caller's memory ---- */

typedef struct moe_py_experts moe_py_experts;

/* What stays the same from call to call. */
typedef struct moe_py_form {
    int64_t dtype;        /* moe_dtype of x, weights, biases */
    int64_t trains;       /* 0: forward keeps nothing */
    int64_t threads;      /* on the host */
    int64_t device_index; /* of the backend's kind of device */
    int64_t columns;      /* experts a token */
    int64_t index_dtype;  /* moe_dtype of index, of the tokens' weights, of gradients of weights */
    int64_t weight_dtype;
    int64_t gradient_dtype;
    int64_t turned; /* w1 lies as [E][d][h], w2 as [E][n][d] */
    int64_t adds;   /* gradients of weights and biases are added to what is there */
} moe_py_form;

/* One call: a number of tokens, a stream, bytes, and addresses as numbers, 0 for what is absent. */
typedef struct moe_py_step {
    int64_t tokens, stream, cached_bytes, workspace_bytes, converted_bytes;
    int64_t cached, workspace, converted;
    int64_t x, index, weights, w1, w2, b1, b2, o;
    int64_t d_o, dx, ds, dw1, dw2, db1, db2;
} moe_py_step;

/* `line` says what the layer is, its T and K do not matter. */
MOE_API moe_status moe_py_experts_open(const char *backend, const char *line,
                                       const moe_py_form *form, moe_py_said *said,
                                       moe_py_experts **ret);
MOE_API void moe_py_experts_close(moe_py_experts *experts);
/* Bytes: cached, and workspace of a forward and of a backward. */
MOE_API moe_status moe_py_experts_sizes(const moe_py_experts *experts, int64_t tokens,
                                        moe_py_said *said, int64_t ret[3]);
/* what 'f': forward, 'b': backward, 'c': convert, 's': only say how many bytes `converted` has. */
MOE_API moe_status moe_py_experts_run(const moe_py_experts *experts, int what,
                                      const moe_py_step *step, moe_py_said *said,
                                      int64_t *ret_bytes);

/* A stream into memory, its text handed over by moe_py_text_end: NULL without memory. */
typedef struct moe_py_text {
    FILE *to;
    char *text;
    size_t size;
    locale_t before;
} moe_py_text;
bool moe_py_text_begin(moe_py_text *t);
char *moe_py_text_end(moe_py_text *t);

#endif
