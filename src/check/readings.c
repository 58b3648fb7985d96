/* Readings. A subject is judged by this project's own recipe first, which costs nothing more. When
 * that fails, by all recipes at once (their points together allow at least what each allows), and
 * only if that explains every tensor, recipe by recipe, for the name. */
#include "check/readings.h"
#include "check/apart.h"
#include "check/compare/compare.h"
#include "check/trial.h"
#include "check/verdict/result.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A relative error that no choice of rounding points makes in what may be stored in 16 bits only by
 * name (--recipe transformers); in all else that is a multiple of the widest gate, which all
 * recipes share. */
#define HOPELESS       0.25
#define HOPELESS_GATES 4
/* Nor is an error hopeless where a sum cancels: other points make it as many times as large as the
 * first recipe's, measured by its deviations. */
#define HOPELESS_Z 2
/* Of fewer rows all may be made of one sum that cancels: then no multiple bounds either. */
#define HOPELESS_ROWS 16

/* Inputs that a kernel keeps in its own type. What only chooses experts stays as it is. */
static bool is_kept(moe_tensor_id id) {
    moe_tensor_role role = moe_tensor_role_of(id);
    return (role == MOE_ROLE_INPUT || role == MOE_ROLE_PARAM) && id != MOE_T_B_SELECT;
}

static bool changes(const moe_tensor *t, moe_dtype arithmetic) {
    int64_t count = t->data ? moe_tensor_count(t) : 0;
    if (t->dtype == arithmetic)
        return false;
    for (int64_t i = 0; i < count; i++) {
        double v = moe_load(t->data, t->dtype, (size_t)i);
        if (isfinite(v) && moe_round_to(v, arithmetic) != v)
            return true;
    }
    return false;
}

/* Would rounding its inputs change any? */
static bool problem_rounds(const moe_problem *problem, moe_dtype arithmetic) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (is_kept((moe_tensor_id)id) && changes(&problem->in.t[id], arithmetic))
            return true;
    return false;
}

moe_status moe_int_problem_rounded(const moe_problem *problem, moe_dtype arithmetic,
                                   moe_problem *ret) {
    moe_status status = MOE_OK;
    *ret = *problem;
    memset(&ret->expected, 0, sizeof ret->expected);
    ret->expected_plan = NULL;
    for (int id = 0; !status && id < MOE_T_COUNT; id++) {
        moe_tensor rounded;
        if (!is_kept((moe_tensor_id)id) || !changes(&problem->in.t[id], arithmetic))
            continue;
        status = moe_tensor_cast(&problem->in.t[id], arithmetic, &rounded);
        if (!status)
            ret->in.t[id] = rounded;
    }
    if (status)
        moe_int_problem_free(problem, ret);
    return status;
}

void moe_int_problem_free(const moe_problem *original, moe_problem *rounded) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (rounded->in.t[id].data != original->in.t[id].data)
            moe_tensor_destroy(&rounded->in.t[id]);
    *rounded = *original;
}

/* What all readings share. */
typedef struct reader {
    const moe_int_subject *subject;
    const struct moe_int_trial *trial; /* of the first reading */
    const moe_check_params *params;
    const moe_log *log;
    moe_int_judge_fn *judge;
    const moe_check_result *before;
    int32_t first;          /* arithmetic of the first reading */
    moe_verdict most;       /* that a reading may come to and explain the subject */
    moe_check_result again; /* of the last one */
} reader;

/* Does that reading explain everything? One that cannot be judged explains nothing. */
static bool passes(reader *k, moe_dtype arithmetic, uint32_t points) {
    moe_int_reading reading = {arithmetic, points};
    k->again = *k->before;
    return k->judge(k->subject, k->trial, &reading, k->params, k->log, &k->again) == MOE_OK &&
           k->again.verdict <= k->most;
}

static bool has_few_rows(moe_tensor_id id, const moe_tensor_verdict *v,
                         const moe_problem *problem) {
    moe_tensor like = {0};
    moe_tensor_shape(&problem->layer, id, problem->T, 1, 1, &like);
    return v->nonzero < HOPELESS_ROWS * like.shape[like.ndim - 1];
}

/* Few elements scatter more than many do. Where the shared expert's gate is nearly 1, all of 1 - g
 * may be what storing g did. */
static double hopeless_of(const moe_tensor_verdict *v, const moe_problem *problem) {
    moe_tensor_id id;
    if (moe_tensor_id_parse(v->name, &id))
        return HOPELESS;
    if (id == MOE_T_DW_GATE_SHARED)
        return INFINITY;
    const bool router = id == MOE_T_LOGITS || id == MOE_T_S || id == MOE_T_DS || id == MOE_T_DW_R ||
                        id == MOE_T_DB_R;
    const double gate = moe_gate_for(id, MOE_BF16).nmse;
    return router || gate <= 0 || has_few_rows(id, v, problem)
               ? HOPELESS
               : HOPELESS_GATES * gate * moe_int_chi2_quantile((double)v->nonzero);
}

static bool is_hopeless(const moe_tensor_verdict *v, const moe_problem *problem) {
    const double most = HOPELESS_Z * moe_gate_for(MOE_T_O, MOE_BF16).max_z;
    const bool near = v->max_z > 0 && v->max_z <= most;
    return !near && !(v->nmse < hopeless_of(v, problem));
}

static bool is_choice(const moe_tensor_verdict *v) {
    return strcmp(v->name, "topk_index") == 0;
}

/* An error that no rounding makes, of one result among others. Where there are stages the first
 * wrong one is known; where there are none the others' recipe has to be found first, since what is
 * slightly wrong under another one would be taken for the first. */
static bool is_far(const moe_tensor_verdict *v, const moe_problem *problem) {
    return !is_choice(v) && is_hopeless(v, problem);
}

/* Why it cannot be rounding. */
typedef enum hope {
    NO_NUMBER, /* what is missing, or not finite */
    TOO_FAR,   /* an error that no rounding makes */
    CHOICE,    /* other experts alone, which logits in 16 bits may choose */
    HOPE
} hope;

static hope hope_of(const moe_check_result *r, const moe_problem *problem) {
    hope least = HOPE;
    for (size_t i = 0; i < r->n_tensors; i++) {
        const moe_tensor_verdict *v = &r->tensor[i];
        if (v->verdict != MOE_VERDICT_FAIL)
            continue;
        if (v->bad_elements > 0)
            return NO_NUMBER;
        hope one = is_choice(v) ? CHOICE : is_hopeless(v, problem) ? TOO_FAR : HOPE;
        least = one < least ? one : least;
    }
    return least;
}

bool moe_int_may_be_rounding(const moe_check_result *r, const moe_problem *problem) {
    const hope least = hope_of(r, problem);
    return least == HOPE || (least != NO_NUMBER && problem_rounds(problem, MOE_BF16));
}

static uint32_t points_of_all(const moe_problem *problem) {
    size_t count;
    const moe_recipe *r = moe_recipes(&count);
    uint32_t points = 0;
    for (size_t i = 0; i < count; i++)
        points |= r[i].only_if_named ? 0 : moe_int_points_of(&r[i], problem);
    return points & ~(uint32_t)MOE_POINT_INPUT;
}

/* The first recipe that explains the subject, its result in k->again. `input` is MOE_POINT_INPUT
 * where recipes that round their inputs are asked for; where that changes nothing, all are. */
static const moe_recipe *first_that_passes(reader *k, moe_dtype arithmetic, uint32_t input,
                                           bool changes_inputs) {
    size_t count;
    const moe_recipe *r = moe_recipes(&count);
    const uint32_t mask = ~(uint32_t)MOE_POINT_INPUT;
    for (size_t i = 0; i < count; i++) {
        bool asked = !changes_inputs || (r[i].points & MOE_POINT_INPUT) == input;
        uint32_t points = (moe_int_points_of(&r[i], k->subject->problem) & mask) | input;
        bool judged = arithmetic == (moe_dtype)k->first &&
                      points == moe_int_recipe_points(k->params, k->subject->problem);
        if (!r[i].only_if_named && asked && !judged && passes(k, arithmetic, points))
            return &r[i];
    }
    return NULL;
}

/* NULL: no shipped recipe explains the subject in that arithmetic. */
static const moe_recipe *recipe_of(reader *k, moe_dtype arithmetic) {
    bool changes_inputs = problem_rounds(k->subject->problem, arithmetic);
    const moe_recipe *found = NULL;
    if (passes(k, arithmetic, points_of_all(k->subject->problem)))
        found = first_that_passes(k, arithmetic, 0, changes_inputs);
    if (!found && changes_inputs &&
        passes(k, arithmetic, points_of_all(k->subject->problem) | MOE_POINT_INPUT))
        found = first_that_passes(k, arithmetic, MOE_POINT_INPUT, true);
    return found;
}

/* A recipe that rounds what the others promise in fp32. */
static const moe_recipe *named_only(reader *k, moe_dtype arithmetic) {
    size_t count;
    const moe_recipe *r = moe_recipes(&count);
    for (size_t i = 0; i < count; i++)
        if (r[i].only_if_named &&
            passes(k, arithmetic, moe_int_points_of(&r[i], k->subject->problem)))
            return &r[i];
    return NULL;
}

/* Narrower types, nearest first. */
static void suggest_arithmetic(reader *k, moe_check_result *result) {
    static const moe_dtype narrower[] = {MOE_F32, MOE_F16, MOE_BF16};
    double u = moe_dtype_roundoff((moe_dtype)result->arithmetic);
    for (size_t i = 0; i < sizeof narrower / sizeof *narrower && !result->suggestion[0]; i++) {
        const moe_recipe *r = NULL;
        if (moe_dtype_roundoff(narrower[i]) <= u)
            continue;
        if (moe_int_is_low(narrower[i]))
            r = recipe_of(k, narrower[i]);
        else if (!passes(k, narrower[i], moe_int_recipe_points(k->params, k->subject->problem)))
            continue;
        if (!r && moe_int_is_low(narrower[i]))
            continue;
        result->narrower = (int32_t)narrower[i];
        snprintf(result->suggestion, sizeof result->suggestion, "--arithmetic %s would pass%s%s",
                 moe_dtype_name(narrower[i]), r ? ", recipe " : "", r ? r->name : "");
    }
}

void moe_int_name_reading(const moe_check_params *params, const moe_problem *problem,
                          moe_check_result *result) {
    const bool sums = moe_int_sends_sums(problem);
    size_t count;
    if (!moe_int_is_low((moe_dtype)result->arithmetic))
        return;
    snprintf(result->recipe, sizeof result->recipe, "%s",
             params->recipe ? params->recipe
             : sums         ? "ranks"
                            : moe_recipes(&count)->name);
    snprintf(result->recipe_why, sizeof result->recipe_why, "%s",
             params->recipe ? "--recipe"
             : sums         ? "the first of all, with combine=ranks"
                            : "the first of all");
}

/* The other reading's verdict, instead of the first one's; of what is apart that stays. */
static void take(const reader *k, moe_int_apart *apart, const moe_recipe *recipe,
                 moe_check_result *result) {
    const moe_tensor_verdict *wrong = moe_int_first_failing(&apart->found);
    char why[136];
    if (apart->count > 0)
        snprintf(why, sizeof why, "the rest; moeref: %s: %.90s", wrong->name, wrong->why);
    else
        snprintf(why, sizeof why, "it; moeref: %.120s", result->why);
    for (size_t i = 0; i < apart->found.n_tensors; i++)
        moe_int_result_drop_maps(result, apart->found.tensor[i].name);
    const moe_check_result first = *result;
    *result = k->again;
    result->map = first.map;
    result->n_maps = first.n_maps;
    moe_int_apart_return(apart, &first, result);
    memcpy(result->scouted, first.scouted, sizeof result->scouted);
    snprintf(result->recipe, sizeof result->recipe, "%s", recipe->name);
    snprintf(result->recipe_why, sizeof result->recipe_why, "the first that explains %s", why);
}

moe_status moe_int_other_readings(const moe_int_subject *subject, const struct moe_int_trial *first,
                                  const moe_check_params *params, const moe_log *log,
                                  moe_int_judge_fn *judge, const moe_check_result *before,
                                  moe_check_result *result) {
    /* What overflows in fp16 tells nothing under any reading: under one that finds nothing else
     * wrong that is the verdict. */
    const moe_verdict most = params->recipe ? MOE_VERDICT_AMBIGUOUS : MOE_VERDICT_MISTRUSTED;
    if (before->verdict != MOE_VERDICT_PASS || result->verdict != MOE_VERDICT_FAIL)
        return MOE_OK;
    const bool apart_by_size = moe_int_is_low((moe_dtype)result->arithmetic) && !subject->fetch &&
                               !problem_rounds(subject->problem, (moe_dtype)result->arithmetic);
    moe_int_apart apart;
    moe_int_apart_make(subject, before, result, apart_by_size ? is_far : NULL, &apart);
    if (apart.count > 0 && !moe_int_first_failing(&apart.found)) /* the rest is right */
        return MOE_OK;
    reader k = {&apart.rest,        first, params, log, judge, &apart.before,
                result->arithmetic, most,  {0}};
    const moe_dtype arithmetic = (moe_dtype)result->arithmetic;
    const bool low = moe_int_is_low(arithmetic);
    const bool rounding = moe_int_may_be_rounding(&apart.found, subject->problem);
    if (!rounding && !(low && hope_of(&apart.found, subject->problem) == CHOICE))
        return MOE_OK;
    const moe_recipe *r = low && rounding ? recipe_of(&k, arithmetic) : NULL;
    if (r && !params->recipe)
        take(&k, &apart, r, result);
    if ((r && !params->recipe) || apart.count > 0) /* nothing makes all of it pass */
        return MOE_OK;
    k.most = MOE_VERDICT_AMBIGUOUS;
    if (!r && low)
        r = named_only(&k, arithmetic);
    if (r)
        snprintf(result->suggestion, sizeof result->suggestion, "--recipe %s would pass", r->name);
    else if (rounding)
        suggest_arithmetic(&k, result);
    return MOE_OK;
}
