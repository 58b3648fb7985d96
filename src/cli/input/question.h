/* What the cost model is asked by predict, trace, sweep and calibrate. */
#ifndef MOE_CLI_INPUT_QUESTION_H
#define MOE_CLI_INPUT_QUESTION_H

#include "cli/input/options.h"
#include "moeref/model.h"

/* Which GPU, in which state. */
typedef struct cli_model_options {
    const char *gpu;      /* --gpu, NULL: h100-sxm */
    cli_strings what_if;  /* --what-if */
    const char *clock;    /* --clock burst|settled */
    const char *data;     /* --data random|constant */
    bool in_stream;       /* --stream */
    const char *operands; /* --operands, NULL: as the case says */
    bool converts;        /* --converts */
} cli_model_options;

/* clang-format off */
#define CLI_MODEL_OPTIONS(o)                                                                       \
    {"gpu", CLI_STRING, &(o).gpu, "NAME|FILE",                                                     \
     "GPU description, shipped or your own (default h100-sxm)"},                                   \
    {"what-if", CLI_STRINGS, &(o).what_if, "KEY*NUMBER",                                           \
     "change the GPU: hbm_bw*1.5, sms=144 ...; may be repeated"},                                  \
    {"clock", CLI_STRING, &(o).clock, "burst|settled",                                             \
     "clock state: a cool GPU, or after 0.5 s of work (default burst)"},                           \
    {"data", CLI_STRING, &(o).data, "random|constant",                                             \
     "constant: highest clock, no throttling (default: as the method was timed)"},                 \
    {"operands", CLI_STRING, &(o).operands, "TYPE",                                                \
     "of the products: bf16, fp16, fp8, mxfp8, nvfp4, mxfp4, int8 or tf32 (default: the case's "   \
     "dtype)"},                                                                                    \
    {"converts", CLI_FLAG, &(o).converts, NULL,                                                    \
     "of products \"gemm ...\": A comes in 16 bits and is made that type before, as a serving "    \
     "system's linear layer does"},                                                                \
    {"stream", CLI_FLAG, &(o).in_stream, NULL, "kernels launched one by one, not in a graph"}
/* clang-format on */

/* Loads the GPU and applies the what-ifs; fills clock, entropy and in_stream of *ret_state. */
moe_status cli_model_open(const cli_model_options *o, moe_gpu **ret_gpu, moe_workload *ret_state);

/* One thing to predict: a layer or a dense GEMM. */
typedef struct cli_question {
    char *line; /* as given, or canonical */
    bool is_gemm;
    moe_case c;      /* a layer */
    int64_t *counts; /* [E] */
    int64_t m, n, k, batch;
} cli_question;

/* Parses "moe T=.. d=.. ..." (the word moe may be missing) or "gemm m=.. n=.. k=.. [batch=..]". */
moe_status cli_question_parse(const char *line, const moe_log *log, cli_question *ret);

/* A layer whose description came from elsewhere (a checkpoint's config.json); its line is that of
 * the case that was understood. `dtype` is used instead of the file's, `pass` instead of both and
 * `route` instead of balanced; NULL: they are not. */
moe_status cli_question_config(const char *path, int64_t tokens, const char *dtype,
                               const char *pass, const char *route, cli_question *ret);
/* The question of a config.json for another of the model's layers. */
moe_status cli_question_layer(const cli_question *first, const moe_layer_desc *layer,
                              int64_t hidden, cli_question *ret);
void cli_question_destroy(cli_question *s);

/* Refuses --converts where nothing converts: in a layer, and in a product of 16 bits. */
moe_status cli_converts_check(const moe_workload *state, bool is_gemm, const moe_log *log);

moe_status cli_question_predict(const cli_question *s, const moe_gpu *gpu, const char *method,
                                const moe_workload *state, const moe_log *log,
                                moe_prediction **ret);

/* Names of all methods on one line, for --help. */
void cli_method_help(char *buf, size_t size);

#endif
