#include "cli/report/spread.h"
#include "cli/input/messages.h"
#include "cli/report/json.h"
#include "core/file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void print_task(FILE *to, const moe_ep_task *t) {
    fprintf(to, "  %-26s %-20s %6d %11.1f %11.1f %11.2f\n", t->name, t->row, t->chunk, t->start_us,
            t->us, t->bytes / 1e6);
}

/* Chunks that follow each other alike are not told one by one. */
enum { TASKS_SHOWN = 40 };

static void print_tasks(FILE *to, const moe_ep_prediction *p) {
    fprintf(to, "  %-26s %-20s %6s %11s %11s %11s\n", "task", "row", "chunk", "start us", "us",
            "MB");
    for (size_t i = 0; i < p->n_tasks && i < TASKS_SHOWN; i++)
        print_task(to, &p->tasks[i]);
    if (p->n_tasks > TASKS_SHOWN)
        fprintf(to, "  ... %zu more (--output json, moeref trace)\n", p->n_tasks - TASKS_SHOWN);
}

void cli_spread_text(FILE *to, const cli_spread_asked *what, const moe_ep_prediction *p) {
    const moe_ep_options *o = what->options;
    fprintf(to, "%s\n%s on %s of %s, ep=%lld tp=%lld (predicted; the rank with most work)\n",
            what->line, o->method, moe_node_name(what->node), moe_gpu_name(what->gpu),
            (long long)o->ep, (long long)o->tp);
    print_tasks(to, p);
    if (p->forward_us > 0)
        fprintf(to, "  forward  %11.1f us", p->forward_us);
    if (p->chunks[0] > 1)
        fprintf(to, " in %lld chunks", (long long)p->chunks[0]);
    if (p->backward_us > 0)
        fprintf(to, "%s  backward %11.1f us", p->forward_us > 0 ? "\n" : "", p->backward_us);
    if (p->chunks[1] > 1)
        fprintf(to, " in %lld chunks", (long long)p->chunks[1]);
    fprintf(to, "\n  total    %11.1f us; one after another %.1f us, busiest (%s) %.1f us\n",
            p->total_us, p->serial_us, p->busiest, p->busiest_us);
    fprintf(to,
            "  %.1f us while the SMs wait; links busy %.1f us for %.2f MB; experts' work %.1f us "
            "on average, %.1f us on the slowest rank\n",
            p->exposed_us, p->link_us, p->sent_bytes / 1e6, p->mean_us, p->max_us);
    if (p->comm_sms > 0)
        fprintf(to, "  %lld SMs send\n", (long long)p->comm_sms);
}

static void put_task(cli_json *t, const moe_ep_task *k) {
    cli_json_open(t, NULL, '{');
    cli_json_string(t, "name", k->name);
    cli_json_string(t, "row", k->row);
    if (k->also)
        cli_json_string(t, "also", k->also);
    cli_json_string(t, "pass", k->backward ? "bwd" : "fwd");
    cli_json_int(t, "chunk", k->chunk);
    cli_json_real(t, "start_us", k->start_us);
    cli_json_real(t, "us", k->us);
    cli_json_real(t, "bytes", k->bytes);
    cli_json_close(t, '}');
}

static void put_totals(cli_json *t, const moe_ep_prediction *p) {
    cli_json_real(t, "total_us", p->total_us);
    cli_json_real(t, "forward_us", p->forward_us);
    cli_json_real(t, "backward_us", p->backward_us);
    cli_json_real(t, "serial_us", p->serial_us);
    cli_json_real(t, "busiest_us", p->busiest_us);
    cli_json_string(t, "busiest", p->busiest ? p->busiest : "");
    cli_json_real(t, "link_us", p->link_us);
    cli_json_real(t, "exposed_us", p->exposed_us);
    cli_json_real(t, "sent_bytes", p->sent_bytes);
    cli_json_real(t, "experts_mean_us", p->mean_us);
    cli_json_real(t, "experts_max_us", p->max_us);
    cli_json_int(t, "forward_chunks", p->chunks[0]);
    cli_json_int(t, "backward_chunks", p->chunks[1]);
    cli_json_int(t, "comm_sms", p->comm_sms);
}

void cli_spread_json(FILE *to, const cli_spread_asked *what, const moe_ep_prediction *p) {
    cli_json t = {.to = to};
    cli_json_open(&t, NULL, '{');
    cli_json_int(&t, "moeref", CLI_JSON_VERSION);
    cli_json_string(&t, "case", what->line);
    cli_json_string(&t, "node", moe_node_name(what->node));
    cli_json_string(&t, "gpu", moe_gpu_name(what->gpu));
    cli_json_string(&t, "method", what->options->method);
    cli_json_int(&t, "ep", what->options->ep);
    cli_json_int(&t, "tp", what->options->tp);
    put_totals(&t, p);
    cli_json_open(&t, "tasks", '[');
    for (size_t i = 0; i < p->n_tasks; i++)
        put_task(&t, &p->tasks[i]);
    cli_json_close(&t, ']');
    cli_json_close(&t, '}');
    cli_json_line(&t);
}

/* Rows that are used, in the order in which they are first. */
enum { ROWS_MOST = 16 };

static int find_row(const char *rows[ROWS_MOST], const char *name) {
    int i = 0;
    while (i < ROWS_MOST && rows[i] && strcmp(rows[i], name) != 0)
        i++;
    if (i < ROWS_MOST && !rows[i])
        rows[i] = name;
    return i;
}

static void put_name(cli_json *t, int row, const char *name) {
    cli_json_open(t, NULL, '{');
    cli_json_string(t, "name", "thread_name");
    cli_json_string(t, "ph", "M");
    cli_json_int(t, "pid", 0);
    cli_json_int(t, "tid", row);
    cli_json_open(t, "args", '{');
    cli_json_string(t, "name", name);
    cli_json_close(t, '}');
    cli_json_close(t, '}');
}

/* Whole nanoseconds: where a slice ends the next of its row may begin. */
static double in_ns(double us) {
    return round(us * 1e3) / 1e3;
}

static void put_slice(cli_json *t, const moe_ep_task *k, int row) {
    cli_json_open(t, NULL, '{');
    cli_json_string(t, "name", k->name);
    cli_json_string(t, "ph", "X");
    cli_json_int(t, "pid", 0);
    cli_json_int(t, "tid", row);
    cli_json_real(t, "ts", in_ns(k->start_us));
    cli_json_real(t, "dur", in_ns(k->start_us + k->us) - in_ns(k->start_us));
    cli_json_open(t, "args", '{');
    cli_json_int(t, "chunk", k->chunk);
    cli_json_string(t, "pass", k->backward ? "bwd" : "fwd");
    cli_json_real(t, "bytes", k->bytes);
    cli_json_close(t, '}');
    cli_json_close(t, '}');
}

static void put_trace(FILE *to, const moe_ep_prediction *p) {
    const char *rows[ROWS_MOST] = {0};
    cli_json t = {.to = to};
    cli_json_open(&t, NULL, '{');
    cli_json_open(&t, "traceEvents", '[');
    for (size_t i = 0; i < p->n_tasks; i++) {
        const moe_ep_task *k = &p->tasks[i];
        put_slice(&t, k, find_row(rows, k->row));
        if (k->also)
            put_slice(&t, k, find_row(rows, k->also));
    }
    for (int i = 0; i < ROWS_MOST && rows[i]; i++)
        put_name(&t, i, rows[i]);
    cli_json_close(&t, ']');
    cli_json_close(&t, '}');
    cli_json_line(&t);
}

moe_status cli_spread_trace(const char *path, const moe_ep_prediction *p) {
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    moe_status status = MOE_E_NOMEM;
    if (to)
        put_trace(to, p);
    if (to && fclose(to) == 0)
        status = moe_int_file_write(path, text, size, cli_log());
    else
        moe_fail(cli_log(), status, "trace: out of memory");
    free(text);
    return status;
}
