#include "cli/report/bench.h"
#include "cli/report/html_parts.h"

#include <math.h>

/* A logarithmic scale: decades lo .. hi. */
typedef struct scale {
    int lo, hi;
} scale;

static double percent(const scale *s, double value) {
    if (!(value > 0))
        return 0;
    double at = isinf(value) ? 1 : (log10(value) - s->lo) / (s->hi - s->lo);
    return 100 * fmin(fmax(at, 0), 1);
}

static void widen(scale *s, double value) {
    if (!(value > 0) || isinf(value))
        return;
    double decade = log10(fmin(fmax(value, 1e-34), 1e12));
    s->lo = (int)floor(decade) < s->lo ? (int)floor(decade) : s->lo;
    s->hi = (int)ceil(decade) > s->hi ? (int)ceil(decade) : s->hi;
}

static scale scale_of(const moe_check_result *r) {
    scale s = {100, -100};
    for (size_t i = 0; i < r->n_tensors; i++) {
        const moe_tensor_verdict *v = &r->tensor[i];
        widen(&s, v->nmse);
        widen(&s, v->gate.nmse);
        widen(&s, v->floor_nmse);
    }
    if (s.lo >= s.hi)
        s = (scale){-16, 0};
    return s;
}

static void put_axis(FILE *to, const scale *s) {
    int step = s->hi - s->lo > 12 ? 6 : 4;
    fprintf(to, "<svg class=\"axis\" aria-hidden=\"true\">");
    for (int decade = s->lo; decade <= s->hi; decade++) {
        if (decade % step != 0)
            continue;
        double x = 100.0 * (decade - s->lo) / (s->hi - s->lo);
        fprintf(to, "<text x=\"%.1f%%\" y=\"12\" class=\"%s\">1e%d</text>", x,
                x < 4    ? "begin"
                : x > 96 ? "end"
                         : "mid",
                decade);
    }
    fprintf(to, "</svg>");
}

static void put_bar(FILE *to, const scale *s, const moe_tensor_verdict *v) {
    double error = isfinite(v->nmse) ? v->nmse : INFINITY;
    fprintf(to, "<svg class=\"bar\" aria-hidden=\"true\"><line x1=\"0\" x2=\"100%%\" y1=\"10\" "
                "y2=\"10\" class=\"base\"/>");
    fprintf(to, "<rect x=\"0\" y=\"5\" width=\"%.2f%%\" height=\"10\" rx=\"2\" class=\"%s\"/>",
            percent(s, error), moe_verdict_str(v->verdict));
    if (v->floor_nmse > 0)
        fprintf(to, "<line x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"3\" y2=\"17\" class=\"floor\"/>",
                percent(s, v->floor_nmse), percent(s, v->floor_nmse));
    if (v->gate.nmse > 0)
        fprintf(to, "<line x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"0\" y2=\"20\" class=\"gate\"/>",
                percent(s, v->gate.nmse), percent(s, v->gate.nmse));
    fprintf(to, "</svg>");
}

/* "1.5e-05 of 6e-05" where it is gated. What passes may be over it: few rows may be further off. */
static void put_figure(FILE *to, const char *format, double value, double gate, bool failed) {
    bool over = failed && gate > 0 && !(value <= gate), none = gate == 0 && value == 0;
    fprintf(to, "<td class=\"%s\">", over ? "over" : none ? "none" : "");
    if (none)
        fprintf(to, "-");
    else
        fprintf(to, format, value);
    if (gate > 0)
        fprintf(to, " <small>of %g</small>", gate);
    fprintf(to, "</td>");
}

/* Columns of a tensor's measures, each beside its gate but the last. */
static const char *const figures[] = {"NMSE",  "worst group", "worst 128 rows",
                                      "max z", "row rms z",   "|d|"};
enum { FIGURES = sizeof figures / sizeof *figures };

static void put_tensor(FILE *to, const scale *s, const moe_tensor_verdict *v) {
    const bool failed = v->verdict >= MOE_VERDICT_MISTRUSTED;
    fprintf(to, "<tr class=\"%s\"><th scope=\"row\">", moe_verdict_str(v->verdict));
    cli_html_text(to, v->name);
    fprintf(to, "</th><td>");
    cli_html_badge(to, v->verdict);
    if (v->verdict == MOE_VERDICT_SKIP) {
        fprintf(to, "</td><td colspan=\"%d\" class=\"left\">", 2 + FIGURES);
        cli_html_text(to, v->why);
        fprintf(to, "</td></tr>\n");
        return;
    }
    fprintf(to, "</td><td class=\"wide\">");
    put_bar(to, s, v);
    fprintf(to, "</td>");
    put_figure(to, "%.1e", v->nmse, v->gate.nmse, failed);
    put_figure(to, "%.1e", v->worst_group_nmse, v->gate.group_nmse, failed);
    put_figure(to, "%.1e", v->worst_tile_nmse, v->gate.tile_nmse, failed);
    put_figure(to, "%.3g", v->max_z, v->gate.max_z, failed);
    put_figure(to, "%.3g", v->row_rms_z, v->gate.row_rms_z, failed);
    put_figure(to, "%.1e", v->max_abs, 0, false);
    fprintf(to, "<td class=\"left\">");
    cli_html_text(to, v->truth ? v->truth : "");
    fprintf(to, "</td></tr>\n");
}

void cli_html_tensors(FILE *to, const moe_check_result *r) {
    const scale s = scale_of(r);
    fprintf(to, "<div class=\"scroll\"><table class=\"tensors\"><thead><tr><th scope=\"col\">tensor"
                "</th><th scope=\"col\">verdict</th><th scope=\"col\" class=\"wide\">");
    put_axis(to, &s);
    fprintf(to, "</th>");
    for (int i = 0; i < FIGURES; i++)
        fprintf(to, "<th scope=\"col\">%s</th>", figures[i]);
    fprintf(to, "<th scope=\"col\" class=\"left\">held to</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < r->n_tensors; i++)
        put_tensor(to, &s, &r->tensor[i]);
    fprintf(to, "</tbody></table></div><p class=\"legend\"><span><i class=\"sw bar\"></i>error "
                "(NMSE)</span><span><i class=\"sw floor\"></i>what a correct kernel makes</span>"
                "<span><i class=\"sw gate\"></i>gate</span></p>\n");
}

static void put_mark(FILE *to, double value, double most, const char *class) {
    if (value > 0)
        fprintf(to, "<line x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%d\" y2=\"%d\" class=\"%s\"/>",
                100 * value / most, 100 * value / most, class[0] == 'g' ? 0 : 3,
                class[0] == 'g' ? 20 : 17, class);
}

static void put_known(FILE *to, double us) {
    fprintf(to, us > 0 ? "<td>%.1f</td>" : "<td class=\"none\">-</td>", us);
}

static void put_time(FILE *to, const moe_bench_times *t, double most) {
    bool slow = t->predicted_us > 0 && t->median_us > 1.1 * t->predicted_us;
    fprintf(to, "<tr><th scope=\"row\">");
    cli_html_text(to, t->name);
    fprintf(to, "</th><td class=\"wide\"><svg class=\"bar\" aria-hidden=\"true\"><line x1=\"0\" "
                "x2=\"100%%\" y1=\"10\" y2=\"10\" class=\"base\"/>");
    fprintf(to, "<rect x=\"0\" y=\"5\" width=\"%.2f%%\" height=\"10\" rx=\"2\" class=\"%s\"/>",
            100 * t->median_us / most, slow ? "slow" : "time");
    fprintf(to, "<line x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"10\" y2=\"10\" class=\"range\"/>",
            100 * t->min_us / most, 100 * t->max_us / most);
    put_mark(to, t->floor_us, most, "floor");
    put_mark(to, t->predicted_us, most, "gate");
    fprintf(to, "</svg></td>");
    put_known(to, t->median_us);
    put_known(to, t->predicted_us);
    put_known(to, t->floor_us);
    if (t->predicted_us > 0)
        fprintf(to, "<td>%.2f</td><td class=\"left\">", t->median_us / t->predicted_us);
    else
        fprintf(to, "<td class=\"none\">-</td><td class=\"left\">");
    if (t->floor_us > 0)
        cli_html_text(to, cli_time_verdict(t->median_us, t->predicted_us, t->least_us));
    fprintf(to, "</td></tr>\n");
}

/* Rows on one scale from 0 to the longest of them. */
static void put_rows(FILE *to, const moe_bench_times *t, size_t count) {
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, fmax(t[i].max_us, fmax(t[i].predicted_us, t[i].floor_us)));
    for (size_t i = 0; i < count && most > 0; i++)
        if (t[i].median_us > 0)
            put_time(to, &t[i], most);
}

static void put_source(FILE *to, const moe_bench_result *r) {
    fprintf(to,
            "<p class=\"note\">%d runs, medians; the whisker is their range; passes and "
            "stages have a scale each. ",
            r->repeats);
    if (r->model[0]) {
        fprintf(to, "Predicted by the GPU cost model: ");
        cli_html_text(to, r->model);
    } else if (r->has_roofline) {
        fprintf(to,
                "Predicted by a roofline measured on the device: %.1f GFLOP/s, %.1f GB/s, whole "
                "stages at full rate without overhead.",
                r->roofline.gemm_flops * 1e-9, r->roofline.memory_rate * 1e-9);
    } else {
        fprintf(to, "Nothing is predicted: the backend does not measure its device's ceilings.");
    }
    if (r->has_memory)
        fprintf(
            to,
            " Memory: own copies of weights %.1f MiB, cached for backward %.1f MiB, peak %.1f MiB.",
            (double)r->memory.weights / 1048576, (double)r->memory.cached / 1048576,
            (double)r->memory.peak / 1048576);
    fprintf(to, "</p>");
}

void cli_html_times(FILE *to, const char *name, const char *backend, const moe_bench_result *r,
                    bool checked) {
    fprintf(to, "<article class=\"card\"><h3>");
    cli_html_text(to, backend);
    fprintf(to, " <code>");
    cli_html_text(to, name);
    fprintf(to, "</code></h3>");
    if (!checked)
        fprintf(to, "<p class=\"why\">Not checked: these times may belong to a wrong result.</p>");
    fprintf(to, "<div class=\"scroll\"><table class=\"times\"><thead><tr><th scope=\"col\"></th>"
                "<th scope=\"col\" class=\"wide\"></th><th scope=\"col\">measured us</th>"
                "<th scope=\"col\">predicted us</th><th scope=\"col\">floor us</th>"
                "<th scope=\"col\">ratio</th><th></th></tr></thead><tbody>\n");
    put_rows(to, r->pass, MOE_PASS_SUMS);
    fprintf(to, "</tbody><tbody>\n");
    put_rows(to, r->kernel, r->n_kernels);
    fprintf(to, "</tbody></table></div><p class=\"legend\"><span><i class=\"sw time\"></i>measured"
                "</span><span><i class=\"sw slow\"></i>over a tenth slower than predicted</span>"
                "<span><i class=\"sw gate\"></i>predicted</span><span><i class=\"sw floor\"></i>"
                "floor</span></p>");
    put_source(to, r);
    fprintf(to, "</article>\n");
}
