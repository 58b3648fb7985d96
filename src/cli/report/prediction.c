/* Predictions as text, JSON and CSV. */
#include "cli/report/prediction.h"
#include "cli/report/csv.h"
#include "cli/report/json.h"

#include <string.h>

static double rate(double amount, double us) {
    return us > 0 ? amount / us / 1e6 : 0; /* per us to T per second */
}

static void print_kernel(FILE *to, const moe_kernel *k) {
    char tile[24] = "";
    if (k->tile_m)
        snprintf(tile, sizeof tile, "%dx%d%s%.0d", k->tile_m, k->tile_n, k->split > 1 ? "/" : "",
                 k->split > 1 ? k->split : 0);
    fprintf(to, "  %-12s %11.1f %8.1f %9.2f %9.2f %9.2f  %-10s %8.0f %7.2f  %-8s %10.1f\n",
            k->cost.name, k->cost.us, rate(k->cost.flops, k->cost.us), k->cost.hbm_bytes / 1e6,
            k->cost.l2_bytes / 1e6, k->smem_bytes / 1e6, tile, k->cost.tiles, k->cost.waves,
            k->cost.bound_by, k->cost.floor_us);
}

/* The total's line is always there, and says more. */
static void print_pass(FILE *to, const moe_prediction *p, moe_pass_sum sum) {
    const moe_pass_cost *pass = &p->pass[sum];
    if (sum != MOE_PASS_TOTAL && !(pass->us > 0))
        return;
    fprintf(to, "  %-12s %11.1f %8.1f", moe_pass_sum_name(sum), pass->us,
            rate(pass->flops, pass->us));
    if (sum == MOE_PASS_TOTAL)
        fprintf(to, "   floor %.1f us, padding %.1f %%; 80 %% within %.1f to %.1f us",
                pass->floor_us, 100 * p->padding, p->low_us, p->high_us);
    fprintf(to, "\n");
}

static void print_memory(FILE *to, const moe_gpu *gpu, const moe_prediction *p) {
    double gib = 0;
    moe_gpu_get(gpu, "hbm_gib", &gib);
    fprintf(
        to,
        "  memory: activations %.1f MB at peak, %.1f MB cached for backward; parameters %.1f MB\n",
        p->peak_bytes / 1e6, p->cached_bytes / 1e6, p->param_bytes / 1e6);
    if (p->peak_bytes + p->param_bytes > gib * 1073741824)
        fprintf(to, "  does not fit: %s has %.0f GiB (%.1f MB)\n", moe_gpu_name(gpu), gib,
                gib * 1073.741824);
}

/* What was measured of this kind; where nothing was, that it was not. */
static void print_held_to(FILE *to, const cli_predicted *what, const moe_prediction *p) {
    const char *gpu = moe_gpu_name(what->gpu), *type = moe_storage_name(p->storage);
    if (p->held_to[0])
        fprintf(to, "  held to %s\n", p->held_to);
    else if (what->question->is_gemm)
        fprintf(to, "  held to nothing: no product of %s was measured on %s\n", type, gpu);
    else
        fprintf(to, "  held to nothing: no layer of %s and such a size by %s was measured on %s\n",
                type, what->method, gpu);
    if (moe_gpu_rate_held_to(what->gpu, p->storage)[0])
        return;
    const char *of = "bf16 there";
    if (p->storage <= MOE_STORAGE_F16) /* whose efficiency is the file's, or another GPU's */
        of = moe_gpu_is_derived(what->gpu, "tensor_eff", &of) && of ? of : "its own file";
    fprintf(to, "  the rate of %s on %s is the vendor's peak, with the efficiency of %s\n", type,
            gpu, of);
}

void cli_prediction_text(FILE *to, const cli_predicted *what, const moe_prediction *p) {
    fprintf(to, "%s\n%s on %s (predicted)\n", what->question->line, what->method,
            moe_gpu_name(what->gpu));
    if (what->question->c.hidden > 0)
        fprintf(to, "  experts %lld wide, between projections from and to tokens %lld wide\n",
                (long long)what->question->c.layer.d, (long long)what->question->c.hidden);
    fprintf(to, "  %-12s %11s %8s %9s %9s %9s  %-10s %8s %7s  %-8s %10s\n", "kernel", "us",
            "TFLOP/s", "HBM MB", "L2 MB", "SMEM MB", "tile", "tiles", "waves", "bound by",
            "floor us");
    for (size_t i = 0; i < p->n_kernels; i++)
        print_kernel(to, &p->kernels[i]);
    if (p->overhead_us > 0)
        fprintf(to, "  %-12s %11.1f\n", "(overhead)", p->overhead_us);
    for (int i = 0; i < MOE_PASS_SUMS; i++)
        print_pass(to, p, (moe_pass_sum)i);
    print_held_to(to, what, p);
    if (p->peak_bytes > 0)
        print_memory(to, what->gpu, p);
}

static void put_kernel(cli_json *t, const moe_kernel *k) {
    cli_json_open(t, NULL, '{');
    cli_json_string(t, "name", k->cost.name);
    cli_json_string(t, "pass", k->backward ? "bwd" : "fwd");
    cli_json_real(t, "us", k->cost.us);
    cli_json_real(t, "flops", k->cost.flops);
    cli_json_real(t, "hbm_bytes", k->cost.hbm_bytes);
    cli_json_real(t, "l2_bytes", k->cost.l2_bytes);
    cli_json_real(t, "smem_bytes", k->smem_bytes);
    cli_json_real(t, "tiles", k->cost.tiles);
    cli_json_real(t, "waves", k->cost.waves);
    cli_json_real(t, "floor_us", k->cost.floor_us);
    cli_json_string(t, "bound_by", k->cost.bound_by);
    if (k->tile_m) {
        cli_json_open(t, "tile", '[');
        cli_json_int(t, NULL, k->tile_m);
        cli_json_int(t, NULL, k->tile_n);
        cli_json_int(t, NULL, k->split);
        cli_json_close(t, ']');
    }
    cli_json_close(t, '}');
}

/* null: nothing. */
static void put_held_to(cli_json *t, const char *key, const char *text) {
    if (text[0])
        cli_json_string(t, key, text);
    else
        cli_json_null(t, key);
}

/* The sizes that were understood, of a case's line or of a config.json. */
static void put_layer(cli_json *t, const moe_case *c) {
    cli_json_open(t, "layer", '{');
    cli_json_int(t, "T", c->T);
    cli_json_int(t, "d", c->layer.d);
    cli_json_int(t, "n", c->layer.n);
    cli_json_int(t, "E", c->layer.E);
    cli_json_int(t, "K", c->layer.K);
    cli_json_int(t, "shared", c->layer.n_shared);
    cli_json_int(t, "hidden", c->hidden > 0 ? c->hidden : c->layer.d);
    cli_json_close(t, '}');
}

void cli_prediction_json(FILE *to, const cli_predicted *what, const moe_prediction *p) {
    const moe_pass_cost *total = &p->pass[MOE_PASS_TOTAL];
    cli_json t = {.to = to};
    cli_json_open(&t, NULL, '{');
    cli_json_int(&t, "moeref", CLI_JSON_VERSION);
    cli_json_string(&t, "case", what->question->line);
    cli_json_string(&t, "gpu", moe_gpu_name(what->gpu));
    cli_json_string(&t, "method", what->method);
    cli_json_real(&t, "total_us", total->us);
    cli_json_real(&t, "low_us", p->low_us);
    cli_json_real(&t, "high_us", p->high_us);
    cli_json_string(&t, "operands", moe_storage_name(p->storage));
    put_held_to(&t, "held_to", p->held_to);
    put_held_to(&t, "rate_held_to", moe_gpu_rate_held_to(what->gpu, p->storage));
    cli_json_real(&t, "forward_us", p->pass[MOE_PASS_FORWARD].us);
    cli_json_real(&t, "backward_us", p->pass[MOE_PASS_BACKWARD].us);
    cli_json_real(&t, "overhead_us", p->overhead_us);
    cli_json_real(&t, "floor_us", total->floor_us);
    cli_json_real(&t, "flops", total->flops);
    cli_json_real(&t, "padding", p->padding);
    cli_json_real(&t, "peak_bytes", p->peak_bytes);
    cli_json_real(&t, "cached_bytes", p->cached_bytes);
    cli_json_real(&t, "param_bytes", p->param_bytes);
    if (!what->question->is_gemm)
        put_layer(&t, &what->question->c);
    cli_json_open(&t, "kernels", '[');
    for (size_t i = 0; i < p->n_kernels; i++)
        put_kernel(&t, &p->kernels[i]);
    cli_json_close(&t, ']');
    cli_json_close(&t, '}');
    cli_json_line(&t);
}

void cli_prediction_csv_header(FILE *to) {
    fprintf(to, "case,gpu,method,pass,kernel,us,tflops,hbm_bytes,l2_bytes,smem_bytes,tiles,waves,"
                "bound_by,floor_us\n");
}

/* The columns that every row begins with. */
static void begin_row(FILE *to, const char *line, const char *gpu, const char *method) {
    cli_csv_quoted(to, line);
    putc(',', to);
    cli_csv_text(to, gpu);
    fprintf(to, ",%s,", method);
}

void cli_prediction_csv(FILE *to, const cli_predicted *what, const moe_prediction *p) {
    const char *line = what->question->line, *gpu = moe_gpu_name(what->gpu);
    double left_us = p->pass[MOE_PASS_TOTAL].us;
    for (size_t i = 0; i < p->n_kernels; i++) {
        const moe_kernel *k = &p->kernels[i];
        begin_row(to, line, gpu, what->method);
        fprintf(to, "%s,%s,%.9g,%.2f,%.0f,%.0f,%.0f,%.0f,%.3f,%s,%.9g\n",
                k->backward ? "bwd" : "fwd", k->cost.name, k->cost.us,
                rate(k->cost.flops, k->cost.us), k->cost.hbm_bytes, k->cost.l2_bytes, k->smem_bytes,
                k->cost.tiles, k->cost.waves, k->cost.bound_by, k->cost.floor_us);
        left_us -= k->cost.us;
    }
    if (left_us > 1e-9 * p->pass[MOE_PASS_TOTAL].us) { /* more than sums in another order differ */
        begin_row(to, line, gpu, what->method);
        fprintf(to, ",(overhead),%.9g,0,0,0,0,0,0,,0\n", left_us);
    }
}

/* So much of a line is told again. */
enum { LINE_SHOWN = 200 };

void cli_prediction_failure(FILE *to, cli_output output, const char *line, const char *gpu,
                            const char *method, const char *why) {
    char shown[LINE_SHOWN + sizeof "..."];
    snprintf(shown, sizeof shown, "%.*s%s", LINE_SHOWN, line,
             strlen(line) > LINE_SHOWN ? "..." : "");
    if (output == CLI_TEXT) {
        fprintf(to, "%s\n%s on %s: not predicted: %s\n", shown, method, gpu, why);
    } else if (output == CLI_CSV) {
        begin_row(to, shown, gpu, method);
        fprintf(to, "error,");
        cli_csv_text(to, why);
        fprintf(to, ",,,,,,,,,\n");
    } else {
        cli_json t = {.to = to};
        cli_json_open(&t, NULL, '{');
        cli_json_int(&t, "moeref", CLI_JSON_VERSION);
        cli_json_string(&t, "case", shown);
        cli_json_string(&t, "gpu", gpu);
        cli_json_string(&t, "method", method);
        cli_json_string(&t, "error", why);
        cli_json_close(&t, '}');
        cli_json_line(&t);
    }
}

void cli_prediction_layers(FILE *to, cli_output output, const char *method, const cli_layers *sum) {
    if (output == CLI_TEXT) {
        fprintf(to, "%s: %lld of the model's %lld layers have experts: %.1f ms, parameters", method,
                (long long)sum->with_experts, (long long)sum->all, sum->us / 1e3);
        if (sum->trains)
            fprintf(to, " and their gradients %.1f GB, cached activations %.1f GB\n",
                    sum->param_bytes / 1e9, sum->cached_bytes / 1e9);
        else
            fprintf(to, " %.1f GB\n", sum->param_bytes / 1e9);
        return;
    }
    cli_json t = {.to = to};
    cli_json_open(&t, NULL, '{');
    cli_json_int(&t, "moeref", CLI_JSON_VERSION);
    cli_json_string(&t, "method", method);
    cli_json_int(&t, "moe_layers", sum->with_experts);
    cli_json_int(&t, "all_layers", sum->all);
    cli_json_real(&t, "total_us", sum->us);
    cli_json_real(&t, "param_bytes", sum->param_bytes);
    cli_json_real(&t, "cached_bytes", sum->cached_bytes);
    cli_json_close(&t, '}');
    cli_json_line(&t);
}
