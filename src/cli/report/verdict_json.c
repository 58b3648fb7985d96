/* Verdicts as JSON; moeref.schema.json says what the members mean. */
#include "cli/report/cause.h"
#include "cli/report/coverage.h"
#include "cli/report/json.h"
#include "cli/report/json_text.h"
#include "cli/report/map.h"
#include "cli/report/verdict.h"

static json_t *worst_json(const moe_tensor_verdict *v) {
    json_t *index = json_array();
    for (int i = 0; i < v->worst_ndim; i++)
        json_array_append_new(index, json_integer(v->worst_index[i]));
    /* json_real refuses NaN and infinities: then the member is left out. */
    return json_pack("{s:o, s:o*, s:o*, s:I}", "index", index, "got", json_real(v->got), "want",
                     json_real(v->want), "expert", (json_int_t)v->worst_expert);
}

/* null: not gated. */
static json_t *limit_json(double gate) {
    return gate > 0 ? json_real(gate) : json_null();
}

static json_t *gate_json(const moe_gate *g) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "nmse", limit_json(g->nmse), "worst_group_nmse",
                     limit_json(g->group_nmse), "worst_tile_nmse", limit_json(g->tile_nmse),
                     "max_z", limit_json(g->max_z), "row_rms_z", limit_json(g->row_rms_z));
}

static json_t *tensor_json(const moe_check_result *r, const moe_tensor_verdict *v) {
    json_t *o =
        json_pack("{s:s, s:s, s:o, s:o, s:s, s:o*, s:o*, s:o*, s:o*, s:o*, s:o*, s:I}", "name",
                  v->name, "verdict", moe_verdict_str(v->verdict), "why", cli_json_text(v->why),
                  "where", cli_json_text(v->where), "truth", v->truth ? v->truth : "", "nmse",
                  json_real(v->nmse), "worst_group_nmse", json_real(v->worst_group_nmse),
                  "worst_tile_nmse", json_real(v->worst_tile_nmse), "max_abs",
                  json_real(v->max_abs), "max_z", json_real(v->max_z), "row_rms_z",
                  json_real(v->row_rms_z), "bad_elements", (json_int_t)v->bad_elements);
    json_object_set_new(o, "gate", gate_json(&v->gate));
    json_object_set_new(o, "floor_nmse", limit_json(v->floor_nmse));
    json_object_set_new(o, "worst", worst_json(v));
    json_object_set_new(o, "maps", cli_maps_json(r, v->name));
    return o;
}

/* The cause, or null where nothing was tried; its kind is null where none of them explains it. */
static json_t *explanation_json(const moe_check_result *r) {
    const moe_explanation *e = &r->explanation;
    const char *advice[CLI_ADVICE_MOST];
    const size_t n = cli_advice(r, advice);
    if (e->tried == 0 && !e->ended)
        return json_null();
    json_t *next = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(next, json_string(advice[i]));
    json_t *params = json_object();
    for (int i = 0; i < e->n_params; i++)
        json_object_set_new(params, e->param[i].name, json_real(e->param[i].value));
    return json_pack("{s:o, s:o, s:s, s:o, s:o*, s:o*, s:i, s:b, s:o}", "kind",
                     e->kind[0] ? json_string(e->kind) : json_null(), "text",
                     cli_json_text(e->text), "tensor", e->tensor, "parameters", params,
                     "residual_before", json_real(e->before), "residual_after", json_real(e->after),
                     "tried", (int)e->tried, "ended", (int)e->ended, "next", next);
}

/* Where the error of the first wrong stage is, or null. */
static json_t *where_json(const moe_check_result *r) {
    for (size_t i = 0; i < r->n_tensors; i++)
        if (r->tensor[i].verdict == MOE_VERDICT_FAIL && r->tensor[i].where[0])
            return json_pack("{s:s, s:s}", "tensor", r->tensor[i].name, "text", r->tensor[i].where);
    return json_null();
}

/* What the results were taken for; the suggestion is the reading under which all would pass. */
static json_t *reading_json(const moe_check_result *r) {
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "arithmetic",
                     moe_dtype_name((moe_dtype)r->arithmetic), "arithmetic_why", r->arithmetic_why,
                     "recipe", r->recipe, "recipe_why", r->recipe_why, "suggestion", r->suggestion);
}

/* Null where nobody asked. */
static json_t *invariance_json(const moe_invariance *v) {
    if (!v->asked)
        return json_null();
    json_t *first = json_null();
    if (v->tensor[0])
        first =
            json_pack("{s:s, s:s, s:I, s:I, s:o*, s:o*}", "tensor", v->tensor, "arrangement",
                      v->arrangement, "token", (json_int_t)v->token, "element",
                      (json_int_t)v->element, "got", json_real(v->got), "want", json_real(v->want));
    return json_pack("{s:s, s:b, s:o, s:i, s:s, s:s, s:o, s:o*}", "verdict",
                     moe_verdict_str(v->verdict), "promised", (int)v->promised, "why",
                     cli_json_text(v->why), "arrangements", (int)v->arrangements, "agree", v->agree,
                     "differ", v->differ, "first", first, "largest", json_real(v->largest));
}

/* Null where nobody asked. */
static json_t *bits_json(const moe_bits *b) {
    if (!b->asked)
        return json_null();
    json_t *stages = json_array();
    for (int i = 0; i < b->n_stages; i++) {
        const moe_bits_stage *s = &b->stage[i];
        json_array_append_new(
            stages, json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:i, s:s}", "name", s->name,
                              "arithmetic", s->arithmetic, "total", (json_int_t)s->total,
                              "elements", (json_int_t)s->elements, "differ", (json_int_t)s->differ,
                              "undecided", (json_int_t)s->undecided, "explained_by",
                              (int)s->explained_by, "first", s->first));
    }
    return json_pack("{s:o, s:o}", "why", cli_json_text(b->why), "stages", stages);
}

/* Null where nobody asked. */
static json_t *ranks_json(const moe_ranks *v) {
    if (!v->asked)
        return json_null();
    return json_pack("{s:s, s:o, s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:i}", "verdict",
                     moe_verdict_str(v->verdict), "why", cli_json_text(v->why), "ranks",
                     (int)v->ranks, "transport", v->transport, "combine", v->combine, "rows",
                     (json_int_t)v->rows, "bytes", (json_int_t)v->bytes, "same",
                     (json_int_t)v->same, "differ", (json_int_t)v->differ, "not_same", v->not_same,
                     "repeats", (int)v->repeats);
}

/* Features that the case carries and that decide nothing in it. */
static json_t *mistrusted_for_json(const moe_coverage *c) {
    json_t *names = json_array();
    for (int32_t f = 0; c->counted && f < moe_features(); f++)
        if (c->carried[f] && c->decided[f] == 0)
            json_array_append_new(names, json_string(moe_feature_name(f)));
    return names;
}

static json_t *case_json(const moe_check_result *r) {
    json_t *tensors = json_array();
    for (size_t i = 0; i < r->n_tensors; i++)
        json_array_append_new(tensors, tensor_json(r, &r->tensor[i]));
    return json_pack(
        "{s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:s, s:s, "
        "s:s, s:o, s:f}",
        "case", cli_json_text(r->case_name), "backend", cli_json_text(r->backend), "verdict",
        moe_verdict_str(r->verdict), "why", cli_json_text(r->why), "tensors", tensors,
        "first_wrong_stage",
        r->first_wrong_stage[0] ? json_string(r->first_wrong_stage) : json_null(), "reading",
        reading_json(r), "where", where_json(r), "explanation", explanation_json(r), "invariance",
        invariance_json(&r->invariance), "bits", bits_json(&r->bits), "over_ranks",
        ranks_json(&r->over_ranks), "reproduce", cli_json_text(r->reproduce), "ambiguous_tokens",
        (json_int_t)r->ambiguous_tokens, "checked_elements", (json_int_t)r->checked_elements,
        "sampled", r->sampled, "identities", r->identities, "scouted", r->scouted, "mistrusted_for",
        mistrusted_for_json(&r->coverage), "seconds", r->seconds);
}

/* Null where there is none. */
static json_t *likely_cause_json(const cli_verdicts *verdicts) {
    const cli_cause most = cli_cause_of_most(verdicts, 0);
    return most.kind[0]
               ? json_pack("{s:s, s:I}", "kind", most.kind, "cases", (json_int_t)most.cases)
               : json_null();
}

json_t *cli_verdicts_json(const cli_verdicts *verdicts) {
    json_t *cases = json_array();
    for (size_t i = 0; i < verdicts->count; i++) {
        json_t *one = case_json(verdicts->at[i]);
        if (verdicts->coverage)
            json_object_set_new(one, "decides", cli_decides_json(&verdicts->at[i]->coverage));
        json_array_append_new(cases, one);
    }
    const int64_t *t = verdicts->tally;
    json_t *root = json_pack(
        "{s:i, s:o, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}}", "moeref", CLI_JSON_VERSION,
        "cases", cases, "summary", "passed", (json_int_t)t[MOE_VERDICT_PASS], "failed",
        (json_int_t)t[MOE_VERDICT_FAIL], "ambiguous", (json_int_t)t[MOE_VERDICT_AMBIGUOUS],
        "mistrusted", (json_int_t)t[MOE_VERDICT_MISTRUSTED], "skipped",
        (json_int_t)t[MOE_VERDICT_SKIP], "errors", (json_int_t)t[MOE_VERDICT_ERROR],
        "mistrusted_in_part", (json_int_t)cli_mistrusted_parts(verdicts, 0), "likely_cause",
        likely_cause_json(verdicts));
    if (verdicts->coverage)
        json_object_set_new(root, "coverage", cli_coverage_json(verdicts));
    return root;
}
