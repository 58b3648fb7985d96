/* Measured times beside predicted ones: a report of `moeref bench --output json` is read and each
 * kernel that the method has too is judged. */
#include "cli/bench_report.h"
#include "cli/json_text.h"
#include "cli/model_cli.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#define SHORTEST_US 4.0 /* shorter kernels are launches: listed, not judged in the mean */

typedef struct against {
    const moe_gpu *gpu;
    const char *method;
    const moe_workload *state;
    bool json;
    int64_t rows; /* kernels and passes that both sides have */
    int64_t judged;
    double sum; /* of |predicted / measured - 1|, over the judged kernels */
    bool impossible;
} against;

static void print_times(against *a, const char *line, const char *name, double measured,
                        double predicted, double floor) {
    const char *says = cli_time_verdict(measured, predicted, floor);
    a->rows++;
    a->impossible |= cli_time_impossible(measured, floor);
    if (a->json) {
        json_text t = {.to = stdout};
        json_text_open(&t, NULL, '{');
        json_text_string(&t, "case", line);
        json_text_string(&t, "gpu", moe_gpu_name(a->gpu));
        json_text_string(&t, "method", a->method);
        json_text_string(&t, "name", name);
        json_text_real(&t, "measured_us", measured);
        json_text_real(&t, "predicted_us", predicted);
        json_text_real(&t, "floor_us", floor);
        json_text_string(&t, "verdict", says);
        json_text_close(&t, '}');
        json_text_line(&t);
        return;
    }
    printf("  %-12s %12.1f %12.1f %12.1f %+8.1f %%  %s\n", name, measured, predicted, floor,
           100 * (predicted / measured - 1), says);
}

static const moe_kernel *find_kernel(const moe_prediction *p, const char *name) {
    for (size_t i = 0; i < p->n_kernels; i++) {
        if (strcmp(p->kernels[i].cost.name, name) == 0)
            return &p->kernels[i];
    }
    return NULL;
}

static void judge_kernels(against *a, const char *line, const json_t *kernels,
                          const moe_prediction *p) {
    size_t i;
    json_t *k;
    json_array_foreach((json_t *)kernels, i, k) {
        const char *name = json_string_value(json_object_get(k, "name"));
        const double measured = json_number_value(json_object_get(k, "measured_us"));
        const moe_kernel *found = name ? find_kernel(p, name) : NULL;
        if (!found || !(measured > 0))
            continue;
        print_times(a, line, name, measured, found->cost.us, found->cost.floor_us);
        if (measured >= SHORTEST_US) {
            a->sum += fabs(found->cost.us / measured - 1);
            a->judged++;
        }
    }
}

static void judge_passes(against *a, const char *line, const json_t *passes,
                         const moe_prediction *p) {
    static const char *const names[] = {"forward", "backward", "total"};
    const double us[] = {p->forward_us, p->backward_us, p->total_us};
    double floors[3] = {0, 0, p->floor_us};
    size_t i;
    json_t *pass;
    for (size_t k = 0; k < p->n_kernels; k++)
        floors[p->kernels[k].backward != 0] += p->kernels[k].cost.floor_us;
    json_array_foreach((json_t *)passes, i, pass) {
        const char *name = json_string_value(json_object_get(pass, "name"));
        const double measured = json_number_value(json_object_get(pass, "measured_us"));
        for (int n = 0; n < 3 && name && measured > 0; n++) {
            if (strcmp(name, names[n]) == 0 && us[n] > 0)
                print_times(a, line, name, measured, us[n], floors[n]);
        }
    }
}

/* Entries of checkpoints ("hf:DIR") have no line to predict from and are skipped with a word. */
static moe_status judge_entry(against *a, const json_t *entry, const char *path) {
    const char *line = json_string_value(json_object_get(entry, "case"));
    model_subject s;
    moe_prediction *p = NULL;
    if (!line)
        return moe_fail(cli_log(), MOE_E_FORMAT, "%s: an entry of \"bench\" has no case", path);
    if (!strchr(line, '=')) {
        moe_log_send(cli_log(), MOE_LOG_WARN, "%s: %s is no case line and is skipped", path, line);
        return MOE_OK;
    }
    moe_status st = model_subject_parse(line, cli_log(), &s);
    if (st)
        return st;
    st = model_subject_predict(&s, a->gpu, a->method, a->state, cli_log(), &p);
    if (!st && !a->json)
        printf("%s\n%s on %s\n  %-12s %12s %12s %12s\n", line, a->method, moe_gpu_name(a->gpu), "",
               "measured us", "predicted us", "floor us");
    if (!st) {
        judge_kernels(a, line, json_object_get(entry, "kernels"), p);
        judge_passes(a, line, json_object_get(entry, "passes"), p);
    }
    moe_prediction_free(&p);
    model_subject_clear(&s);
    return st;
}

moe_status model_against(const char *path, const moe_gpu *gpu, const char *method,
                         const moe_workload *state, bool json, bool *ret_impossible) {
    against a = {.gpu = gpu, .method = method, .state = state, .json = json};
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error), *entry;
    const json_t *entries = json_object_get(root, "bench");
    moe_status st = MOE_OK;
    size_t i;
    if (!root)
        return moe_fail(cli_log(), MOE_E_IO, "%s:%d: %s", path, error.line, error.text);
    if (!json_is_array(entries))
        st = moe_fail(cli_log(), MOE_E_FORMAT,
                      "%s: no \"bench\" array: write it with moeref bench --output json", path);
    json_array_foreach((json_t *)entries, i, entry) {
        if (!st)
            st = judge_entry(&a, entry, path);
    }
    json_decref(root);
    if (!st && a.rows == 0)
        st = moe_fail(cli_log(), MOE_E_NOTFOUND,
                      "%s: no pass or kernel of method %s is timed in it", path, method);
    if (!st && !json && a.judged > 0)
        printf("mean error of %lld kernels of %.0f us and more: %.1f %%\n", (long long)a.judged,
               SHORTEST_US, 100 * a.sum / (double)a.judged);
    if (!st)
        *ret_impossible = a.impossible;
    return st;
}
