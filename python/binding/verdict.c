/* Judging, and reports as the program writes them. */
#include "cli/report/verdict.h"
#include "cli/input/messages.h"
#include "cli/input/patience.h"
#include "cli/report/html.h"
#include "moeref/isolation.h"
#include "moeref/recipe.h"
#include "python/binding/binding.h"
#include "python/binding/problem.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct moe_py_verdict {
    cli_verdicts one;
};

static moe_status no_recipe(const char *name, const moe_log *log) {
    char known[512] = "";
    size_t count, used = 0;
    const moe_recipe *recipes = moe_recipes(&count);
    for (size_t i = 0; i < count && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, " %s", recipes[i].name);
    return moe_fail(log, MOE_E_NOTFOUND, "no recipe is named '%s'; known:%s", name, known);
}

static void tell(void *user, const char *phase, int64_t done, int64_t of) {
    moe_py_stage *stage = user;
    stage->percent = of > 0 ? 100 * done / of : -1;
    stage->phase = phase;
}

/* A check, from what is asked for to the verdict. Not to be moved: params point into it. */
typedef struct judging {
    moe_py_ear ear;
    moe_check_params params;
    int32_t arithmetic; /* moe_dtype; -1: as the results say */
    moe_progress progress;
    moe_check_waiting waiting;
    double limit_us, failed_us; /* of the search for a cause; its begin */
    moe_check_result *result;
} judging;

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static void tell_failed(void *user, const moe_check_result *so_far) {
    judging *j = user;
    moe_py_stage *stage = j->progress.user;
    cli_failing_text(so_far, stage->failed, sizeof stage->failed);
    __atomic_store_n(&stage->is_failed, 1, __ATOMIC_RELEASE);
    j->failed_us = now_us();
}

static bool is_enough(void *user) {
    const judging *j = user;
    const moe_py_stage *stage = j->progress.user;
    return __atomic_load_n(&stage->enough, __ATOMIC_ACQUIRE) ||
           (j->limit_us > 0 && now_us() - j->failed_us >= j->limit_us);
}

static moe_status params_of(const moe_py_how *how, const moe_log *log, moe_check_params *ret,
                            int32_t *ret_arithmetic) {
    moe_dtype arithmetic;
    *ret = (moe_check_params){.threads = how->threads,
                              .repeats = how->repeats,
                              .no_explanation = how->no_explanation != 0,
                              .sample_above_flops = how->exhaustive ? -1 : 0,
                              .map_tile = how->map_tile,
                              .dump_dir = *how->dump_dir ? how->dump_dir : NULL,
                              .scout = *how->scout ? how->scout : NULL,
                              .recipe = *how->recipe ? how->recipe : NULL};
    *ret_arithmetic = -1;
    if (*how->recipe && !moe_recipe_find(how->recipe))
        return no_recipe(how->recipe, log);
    if (!*how->arithmetic)
        return MOE_OK;
    if (moe_dtype_parse(how->arithmetic, &arithmetic) || moe_dtype_roundoff(arithmetic) == 0)
        return moe_fail(log, MOE_E_INVALID, "arithmetic is fp64, fp32, fp16 or bf16, not '%s'",
                        how->arithmetic);
    *ret_arithmetic = (int32_t)arithmetic;
    return MOE_OK;
}

/* A subject that wrote into an input fails, whatever its results are: the first of all checks. */
static void note_changed(moe_check_result *r, const char *input) {
    const size_t room = sizeof r->tensor / sizeof *r->tensor;
    static const char why[] = "the callable wrote into this input";
    r->verdict = MOE_VERDICT_FAIL;
    snprintf(r->why, sizeof r->why, "%s: %s", input, why);
    if (r->n_tensors == room)
        return;
    moe_tensor_verdict *v = &r->tensor[r->n_tensors++];
    *v = (moe_tensor_verdict){.verdict = MOE_VERDICT_FAIL, .truth = "given", .worst_expert = -1};
    snprintf(v->name, sizeof v->name, "%s", input);
    snprintf(v->why, sizeof v->why, "%s", why);
}

/* Takes the result over, under the line that makes it again. */
static moe_status give(moe_check_result *result, const moe_py_how *how, const moe_log *log,
                       moe_py_verdict **ret) {
    moe_py_verdict *v = calloc(1, sizeof *v);
    char *line = *how->reproduce ? strdup(how->reproduce) : NULL;
    if (*how->changed)
        note_changed(result, how->changed);
    if (line) {
        free(result->reproduce);
        result->reproduce = line;
    }
    if (!v || cli_verdicts_add(&v->one, result)) {
        free(v);
        moe_check_result_destroy(&result);
        return moe_fail(log, MOE_E_NOMEM, "no memory for a verdict");
    }
    *ret = v;
    return MOE_OK;
}

static moe_status begin(judging *j, const moe_py_problem *problem, const moe_py_how *how,
                        moe_py_said *said) {
    moe_py_listen(&j->ear, said);
    j->progress = (moe_progress){tell, how->stage};
    j->result = NULL;
    const moe_status status = params_of(how, &j->ear.log, &j->params, &j->arithmetic);
    j->params.progress = &j->progress;
    j->waiting = (moe_check_waiting){tell_failed, is_enough, j};
    j->limit_us = 1e6 * how->timeout_s;
    j->params.waiting = &j->waiting;
    j->params.coverage = moe_py_problem_is_own(problem);
    return status;
}

static moe_status end(judging *j, moe_status status, const moe_py_how *how, moe_py_verdict **ret) {
    if (!status)
        status = give(j->result, how, &j->ear.log, ret);
    moe_py_listen_end();
    return status;
}

moe_status moe_py_check(const moe_py_problem *problem, const char *name,
                        const moe_named_tensor *tensors, int64_t count, const moe_py_how *how,
                        moe_py_said *said, moe_py_verdict **ret) {
    const moe_isolation isolation = {.timeout_s = how->timeout_s};
    judging j;
    moe_safetensors *given = NULL;
    moe_backends *all = NULL;
    moe_status status = begin(&j, problem, how, said);
    if (!status && moe_check_may_sample(moe_py_problem_of(problem), &j.params))
        status = moe_backends_load_isolated(NULL, &isolation, &j.ear.log, &all);
    j.params.backends = all;
    if (!status)
        status = moe_safetensors_of(tensors, (size_t)count, name, &j.ear.log, &given);
    if (!status)
        status = moe_check_tensors(given, name, moe_py_problem_of(problem), j.arithmetic, &j.params,
                                   &j.ear.log, &j.result);
    moe_safetensors_close(&given);
    moe_backends_destroy(&all);
    return end(&j, status, how, ret);
}

static moe_status check_opened(moe_backends *all, const moe_problem *problem, const char *spec,
                               moe_check_params *params, const moe_log *log,
                               moe_check_result **ret) {
    const moe_open_params open = {.threads = params->threads, .log = log};
    moe_backend *backend = NULL;
    params->spec = spec;
    params->backends = all;
    moe_status status = moe_backend_open(all, spec, &open, log, &backend);
    if (!status)
        status = moe_check_backend(backend, problem, params, log, ret);
    moe_status closed = moe_backend_close(&backend);
    if (closed && !status) {
        moe_check_result_destroy(ret);
        status = closed;
    }
    return status;
}

moe_status moe_py_check_backend(const moe_py_problem *problem, const char *spec,
                                const moe_py_how *how, moe_py_said *said, moe_py_verdict **ret) {
    const moe_isolation isolation = {.timeout_s = how->timeout_s};
    judging j;
    moe_backends *all = NULL;
    moe_status status = begin(&j, problem, how, said);
    if (!status)
        status = moe_backends_load_isolated(NULL, &isolation, &j.ear.log, &all);
    if (!status)
        status =
            check_opened(all, moe_py_problem_of(problem), spec, &j.params, &j.ear.log, &j.result);
    moe_backends_destroy(&all);
    return end(&j, status, how, ret);
}

void moe_py_verdict_close(moe_py_verdict *v) {
    if (v)
        cli_verdicts_destroy(&v->one);
    free(v);
}

char *moe_py_verdict_text(const moe_py_verdict *v, int full) {
    moe_py_text t;
    if (!moe_py_text_begin(&t))
        return NULL;
    cli_verdict_text(t.to, v->one.at[0], full != 0);
    return moe_py_text_end(&t);
}

char *moe_py_verdict_json(const moe_py_verdict *v) {
    const locale_t before = moe_py_plain_numbers();
    json_t *root = cli_verdicts_json(&v->one);
    char *text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    uselocale(before);
    return text;
}

moe_status moe_py_verdict_html(const moe_py_verdict *v, const char *path, moe_py_said *said) {
    moe_py_ear ear;
    char verb[] = "check", *argv[] = {verb, NULL};
    const cli_html html = {.path = path, .argc = 1, .argv = argv};
    const bool failed = v->one.at[0]->verdict >= MOE_VERDICT_MISTRUSTED;
    moe_py_listen(&ear, said);
    const int code = cli_html_write(&html, &v->one, failed ? CLI_FAILED : CLI_PASSED);
    moe_py_listen_end();
    return code == CLI_NOT_RUN ? MOE_E_IO : MOE_OK;
}
