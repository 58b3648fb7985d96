/* The cost model, and lists of names. */
#include "cli/input/question.h"
#include "cli/report/prediction.h"
#include "moeref/recipe.h"
#include "moeref/suite.h"
#include "python/binding/binding.h"

#include <stdlib.h>
#include <string.h>

static moe_status render(const cli_question *q, const moe_gpu *gpu, const char *method,
                         const moe_prediction *p, const moe_log *log, char **ret_text,
                         char **ret_json) {
    moe_py_text t;
    char *text = NULL, *json = NULL;
    const cli_predicted what = {q, gpu, q->is_gemm ? "cublas" : method};
    if (moe_py_text_begin(&t)) {
        cli_prediction_text(t.to, &what, p);
        text = moe_py_text_end(&t);
    }
    if (text && moe_py_text_begin(&t)) {
        cli_prediction_json(t.to, &what, p);
        json = moe_py_text_end(&t);
    }
    if (!json) {
        free(text);
        return moe_fail(log, MOE_E_NOMEM, "no memory for the prediction");
    }
    *ret_text = text;
    *ret_json = json;
    return MOE_OK;
}

/* One GPU is asked about, and a product is cuBLAS's. */
static moe_status check_unread(const cli_question *q, const char *method, const moe_log *log) {
    if (q->c.split.ranks)
        return moe_fail(log, MOE_E_UNSUPPORTED,
                        "a prediction here is of one GPU: leave ep= out (moeref predict --ep N is "
                        "of several)");
    return q->is_gemm && strcmp(method, "moeref") != 0 && strcmp(method, "cublas") != 0
               ? moe_fail(log, MOE_E_INVALID,
                          "method is of layers: a product is cuBLAS's, not %s's", method)
               : MOE_OK;
}

static moe_status answer(const char *line, const char *method, const cli_model_options *o,
                         const moe_log *log, char **ret_text, char **ret_json) {
    moe_gpu *gpu = NULL;
    moe_workload state;
    cli_question question = {0};
    moe_prediction *p = NULL;
    moe_status status = cli_model_open(o, &gpu, &state);
    if (!status)
        status = cli_question_parse(line, log, &question);
    if (!status)
        status = check_unread(&question, method, log);
    if (!status)
        status = cli_question_predict(&question, gpu, method, &state, log, &p);
    if (!status)
        status = render(&question, gpu, method, p, log, ret_text, ret_json);
    moe_prediction_destroy(&p);
    cli_question_destroy(&question);
    moe_gpu_destroy(&gpu);
    return status;
}

moe_status moe_py_predict(const char *line, const char *gpu, const char *method,
                          const char *what_if, const char *clock, const char *data, int in_stream,
                          moe_py_said *said, char **ret_text, char **ret_json) {
    moe_py_ear ear;
    cli_model_options o = {.gpu = gpu,
                           .clock = *clock ? clock : NULL,
                           .data = *data ? data : NULL,
                           .in_stream = in_stream != 0};
    char *words = strdup(what_if), *rest = words;
    moe_py_listen(&ear, said);
    moe_status status = words ? MOE_OK : moe_fail(&ear.log, MOE_E_NOMEM, "no memory");
    for (char *word; !status && (word = strtok_r(rest, " ", &rest));)
        status = cli_strings_add(&o.what_if, word);
    if (!status)
        status = answer(line, method, &o, &ear.log, ret_text, ret_json);
    cli_strings_destroy(&o.what_if);
    free(words);
    moe_py_listen_end();
    return status;
}

static void put_names(FILE *to, const char *const *names, size_t count) {
    for (size_t i = 0; i < count && names[i]; i++)
        fprintf(to, "%s\n", names[i]);
}

static void put_backends(FILE *to) {
    moe_backends *all = NULL;
    if (moe_backends_load(NULL, NULL, &all))
        return;
    for (size_t i = 0; i < moe_backends_count(all); i++)
        if (moe_backends_info(all, i).status == MOE_OK)
            fprintf(to, "%s\n", moe_backends_info(all, i).name);
    moe_backends_destroy(&all);
}

static void put_recipes(FILE *to) {
    size_t count;
    const moe_recipe *recipes = moe_recipes(&count);
    for (size_t i = 0; i < count; i++)
        fprintf(to, "%s\n", recipes[i].name);
}

char *moe_py_list(int kind) {
    moe_py_text t;
    size_t count = 0;
    const char *const *suite = moe_suite(&count);
    if (!kind || !strchr("gmrcbk", kind) || !moe_py_text_begin(&t))
        return NULL;
    if (kind == 'g')
        put_names(t.to, moe_gpu_names(), SIZE_MAX);
    else if (kind == 'm')
        put_names(t.to, moe_methods(), SIZE_MAX);
    else if (kind == 'c')
        put_names(t.to, suite, count);
    else if (kind == 'r')
        put_recipes(t.to);
    else if (kind == 'b')
        put_backends(t.to);
    else
        fputs(moe_case_help(), t.to);
    return moe_py_text_end(&t);
}
