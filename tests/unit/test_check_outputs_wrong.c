/* Files of outputs that are wrong in themselves: experts, shapes and types that the case does not
 * have. What can be judged beside them is judged. */
#include "outputs_file.h"

#include <stdio.h>

Test(check_outputs_wrong, wrong_experts) {
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    add(f, MOE_T_O);
    add_routing(f);
    int32_t e = 0;
    while (e == f->index[10] || e == f->index[11])
        e++;
    f->index[10] = e;
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(r->why, "topk_index: 1 tokens chose wrong experts; token 5:"), "%s", r->why);
    moe_check_result_destroy(&r);
    close_file(f);
}

/* One tensor of that name, dtype and shape, all zero. */
static void expect_tensor_refused(file *f, const char *name, moe_dtype dtype, int64_t rows,
                                  int64_t columns, moe_status status, const char *words) {
    int64_t shape[] = {rows, columns};
    moe_tensor t;
    cr_assert_eq(moe_tensor_alloc(dtype, columns ? 2 : 1, shape, &t), MOE_OK);
    f->list[0] = (moe_named_tensor){name, t};
    cr_assert_eq(moe_safetensors_write(f->path, f->list, 1, NULL, 0, NULL), MOE_OK);
    expect_refused(f, status, words);
    moe_tensor_destroy(&t);
}

/* Files that cannot be judged are refused with a sentence that names what is wrong. */
Test(check_outputs_wrong, bad_files) {
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    expect_tensor_refused(f, "output", MOE_F32, 12, 16, MOE_E_NOTFOUND,
                          "none of the tensors that can be judged (topk_index, router_logits, "
                          "topk_weight, H, A, Y, O, dS, dH, dXp, dX, dW_r, dW1, dW2), but "
                          "\"output\"");
    expect_tensor_refused(f, "topk_weight", MOE_F32, 12, 2, MOE_E_INVALID,
                          "the case needs [24], or topk_index beside it, whose slots they are");
    expect_tensor_refused(f, "H", MOE_F32, 3, 16, MOE_E_INVALID,
                          "H has shape [3, 16], the case needs [24, 16]");
    remove(f->path);
    expect_refused(f, MOE_E_IO, "No such file");
    close_file(f);
}

/* A name that no layer has is said, or a misspelt gradient would seem to have passed; what an
 * exported case holds besides is not. */
Test(check_outputs_wrong, unknown_names) {
    file *f = open_file(GIVEN, MOE_F32, MOE_F32);
    capture seen;
    moe_log log = capture_log(&seen);
    moe_check_result *r = NULL;
    add(f, MOE_T_O);
    f->list[f->count++] = (moe_named_tensor){"plan_token", f->cast.t[MOE_T_O]};
    f->list[f->count++] = (moe_named_tensor){"W1", f->cast.t[MOE_T_DW1]};
    for (int more = 0; more < 3; more++) {
        static const char *const names[] = {NULL, "dw1", "output"};
        static const char *const said[] = {"", "no layer has a \"dw1\": it is not judged",
                                           "\"dw1\" (the first of 2 such names): it"};
        if (names[more])
            f->list[f->count++] = (moe_named_tensor){names[more], f->cast.t[MOE_T_DW1]};
        cr_assert_eq(moe_safetensors_write(f->path, f->list, f->count, NULL, 0, NULL), MOE_OK);
        seen.messages = 0;
        cr_assert_eq(moe_check_outputs(f->path, f->problem, -1, NULL, &log, &r), MOE_OK);
        cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
        cr_expect_eq(seen.messages, more > 0, "%d: %s", more, seen.text);
        cr_expect(!more || strstr(seen.text, said[more]), "'%s' lacks '%s'", seen.text, said[more]);
        moe_check_result_destroy(&r);
    }
    close_file(f);
}

/* A part of X in O is a term of that factor, however small; it is not one that is missing. */
Test(check_outputs_wrong, a_little_of_x_is_added) {
    file *f = open_file("T=40 d=32 n=16 E=4 K=2 dtype=fp32 renorm=1 seed=5", MOE_F32, MOE_F32);
    const moe_tensor *x = &f->problem->in.t[MOE_T_X];
    float *out = f->cast.t[MOE_T_O].data;
    moe_check_result *r = NULL;
    for (int64_t i = 0; i < moe_tensor_count(x); i++)
        out[i] += 0.01F * (float)moe_load(x->data, x->dtype, (size_t)i);
    add(f, MOE_T_O);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect(strstr(r->explanation.text, "X, has a factor: times 0.01"), "%s",
              r->explanation.text);
    moe_check_result_destroy(&r);
    close_file(f);
}

/* A layer that leaves out what the case has more: all biases, the mask of its tokens. */
Test(check_outputs_wrong, what_is_left_out_is_named) {
    static const char *const lines[][2] = {
        {"T=40 d=32 n=16 E=4 K=2 dtype=fp32 renorm=1 bias=1 seed=5", "neither b1 nor b2 is added"},
        {"T=40 d=32 n=16 E=4 K=2 dtype=fp32 renorm=1 masked=7 seed=5",
         "masked tokens are routed too"}};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        file *f = open_file(lines[i][0], MOE_F32, MOE_F32);
        moe_layer_desc plain = f->problem->layer;
        const moe_reference_params params = {.tokens = f->problem->T, .precision = MOE_F32};
        moe_reference_result *left_out = NULL;
        moe_check_result *r = NULL;
        plain.expert_bias = 0;
        cr_assert_eq(moe_reference_run(&plain, &f->problem->in, &params, NULL, &left_out), MOE_OK);
        f->list[f->count++] = (moe_named_tensor){"O", left_out->out.t[MOE_T_O]};
        cr_assert_eq(judge(f, MOE_F32, &r), MOE_OK);
        cr_expect(r->verdict == MOE_VERDICT_FAIL && strstr(r->explanation.text, lines[i][1]),
                  "%s: %s", lines[i][0], r->explanation.text);
        moe_check_result_destroy(&r);
        moe_reference_result_destroy(&left_out);
        close_file(f);
    }
}

/* A result of another pass, layer or routing is told, and not passed over. */
Test(check_outputs_wrong, results_that_the_case_does_not_make) {
    static const struct {
        const char *name, *said;
        int32_t pass;
    } cases[] = {{"dX", "dX is not judged: the case has pass=fwd", MOE_PASS_FWD},
                 {"db1", "db1 is not judged: the layer of the case has none", MOE_PASS_BOTH},
                 {"dW_r", "dW_r is not judged: the case gives the routing", MOE_PASS_BOTH},
                 {"topk_weight", "", MOE_PASS_BOTH}};
    file *f = open_file(GIVEN, MOE_F32, MOE_F32);
    add(f, MOE_T_O);
    const size_t alone = f->count;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        capture seen;
        moe_log log = capture_log(&seen);
        moe_check_result *r = NULL;
        f->count = alone;
        f->list[f->count++] = (moe_named_tensor){cases[i].name, f->cast.t[MOE_T_DX]};
        cr_assert_eq(moe_safetensors_write(f->path, f->list, f->count, NULL, 0, NULL), MOE_OK);
        f->problem->pass = cases[i].pass;
        cr_assert_eq(moe_check_outputs(f->path, f->problem, -1, NULL, &log, &r), MOE_OK);
        cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
        cr_expect_eq(seen.messages, cases[i].said[0] != 0, "%s", seen.text);
        cr_expect(strstr(seen.text, cases[i].said), "'%s' lacks '%s'", seen.text, cases[i].said);
        moe_check_result_destroy(&r);
    }
    close_file(f);
}

/* dS by slots, of a given plan whose ids the file does not tell: they are the problem's, in
 * whatever order its data came, else a token's experts in ascending order. */
Test(check_outputs_wrong, slots_of_a_given_plan) {
    file *f = open_file(GIVEN, MOE_F32, MOE_F32);
    const moe_tensor ids = {f->index, MOE_I32, 2, {ROUTED_T, ROUTED_K}};
    add_routing(f); /* descending */
    f->list[0] = (moe_named_tensor){"dS", {f->dS, MOE_F32, 2, {ROUTED_T, ROUTED_K}}};
    f->count = 1;
    for (int own = 0; own < 2; own++) {
        moe_check_result *r = NULL;
        if (own)
            cr_assert_eq(moe_tensor_cast(&ids, MOE_I64, &f->problem->slots), MOE_OK);
        cr_assert_eq(judge(f, -1, &r), MOE_OK);
        cr_expect_eq(r->verdict, own ? MOE_VERDICT_PASS : MOE_VERDICT_FAIL, "%s", r->why);
        moe_check_result_destroy(&r);
    }
    f->list[0].tensor.shape[1] = 1;
    moe_check_result *r = NULL;
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect(strstr(r->why, "[12, 1], the case needs [24], or by slots [12, 2]"), "%s", r->why);
    moe_check_result_destroy(&r);
    close_file(f);
}

/* Results of another shape, and of integers, are wrong, and no reason to judge nothing. */
Test(check_outputs_wrong, other_shapes) {
    static const struct {
        const char *name;
        moe_dtype dtype;
        int64_t rows, columns;
        const char *why;
    } kinds[] = {{"O", MOE_F32, 3, 0, "O: has shape [3], the case needs [12, 16]"},
                 {"O", MOE_F32, 16, 12, "O: has shape [16, 12], the case needs [12, 16]"},
                 {"dX", MOE_F32, 11, 16, "dX: has shape [11, 16], the case needs [12, 16]"},
                 {"O", MOE_I32, 12, 16, "O: is of integers (i32)"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        file *f = open_file(ROUTED, MOE_F32, MOE_F32);
        moe_check_result *r = NULL;
        moe_tensor t;
        int64_t shape[] = {kinds[i].rows, kinds[i].columns};
        cr_assert_eq(moe_tensor_alloc(kinds[i].dtype, kinds[i].columns ? 2 : 1, shape, &t), MOE_OK);
        const moe_tensor_id id = kinds[i].name[0] == 'O' ? MOE_T_O : MOE_T_DX;
        add(f, id);
        f->list[0].tensor = t;
        add(f, MOE_T_DW1);
        cr_assert_eq(judge(f, -1, &r), MOE_OK);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s", kinds[i].why);
        cr_expect_str_eq(r->why, kinds[i].why);
        cr_expect_str_eq(r->first_wrong_stage, kinds[i].name);
        cr_expect_eq(entry(r, "dW1")->verdict, MOE_VERDICT_PASS);
        moe_check_result_destroy(&r);
        moe_tensor_destroy(&t);
        close_file(f);
    }
}

/* A type that safetensors has and moeref does not read. */
static void write_int16(const file *f, const char *name) {
    char header[128], data[12 * 16 * 2] = "";
    uint64_t size = (uint64_t)snprintf(
        header, sizeof header,
        "{\"%s\":{\"dtype\":\"I16\",\"shape\":[12,16],\"data_offsets\":[0,%zu]}}", name,
        sizeof data);
    FILE *out = fopen(f->path, "wb");
    cr_assert(out);
    fwrite(&size, sizeof size, 1, out);
    fwrite(header, (size_t)size, 1, out);
    fwrite(data, sizeof data, 1, out);
    fclose(out);
}

/* The file's topk_index fails, for that reason. */
static const moe_tensor_verdict *expect_bad_ids(file *f, const char *words,
                                                moe_check_result **ret) {
    cr_assert_eq(moe_check_outputs(f->path, f->problem, -1, NULL, NULL, ret), MOE_OK, "%s", words);
    moe_check_result *r = *ret;
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s: %s", words, r->why);
    cr_expect_eq(strncmp(r->why, "topk_index: ", 12), 0, "%s", r->why);
    cr_expect(strstr(r->why, words), "'%s' lacks '%s'", r->why, words);
    cr_expect_str_eq(r->first_wrong_stage, "topk_index");
    return entry(r, "topk_index");
}

Test(check_outputs_wrong, unreadable_types) {
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    write_int16(f, "dX");
    expect_refused(f, MOE_E_UNSUPPORTED, "dX has an element type");
    write_int16(f, "topk_index");
    expect_bad_ids(f, "has an element type that cannot be read", &r);
    moe_check_result_destroy(&r);
    close_file(f);
}

/* A topk_index of another type or shape is wrong, whatever is right beside it. */
Test(check_outputs_wrong, no_slots) {
    static const struct {
        moe_dtype dtype;
        int64_t rows, columns;
        const char *words;
    } kinds[] = {{MOE_F32, 12, 2, "holds fp32, not integers"},
                 {MOE_I32, 12, 0, "has shape [12], the case needs [12, K]"},
                 {MOE_I64, 11, 2, "has shape [11, 2], the case needs [12, K]"}};
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    add(f, MOE_T_O);
    add_routing(f);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int64_t shape[] = {kinds[i].rows, kinds[i].columns};
        moe_tensor t;
        cr_assert_eq(moe_tensor_alloc(kinds[i].dtype, kinds[i].columns ? 2 : 1, shape, &t), MOE_OK);
        f->list[1].tensor = t;
        cr_assert_eq(moe_safetensors_write(f->path, f->list, f->count, NULL, 0, NULL), MOE_OK);
        expect_bad_ids(f, kinds[i].words, &r);
        cr_expect_eq(entry(r, "O")->verdict, MOE_VERDICT_PASS);
        moe_check_result_destroy(&r);
        moe_tensor_destroy(&t);
    }
    close_file(f);
}

/* Experts that the case does not have, one of them twice, slots that may not be empty: which token,
 * which slot and what stands there is said, and what needs no ids is judged. */
Test(check_outputs_wrong, impossible_experts) {
    static const struct {
        int32_t fifth, sixth, slot;
        const char *words;
    } slots[] = {
        {0, 77, 1, "token 2, slot 1: 77 is no expert of the case"},
        {5, 0, 0, "token 2, slot 0: 5 is no expert of the case"},
        {INT32_MAX, 0, 0, "token 2, slot 0: 2147483647 is no expert of the case"},
        {3, 3, 1, "token 2, slot 1: 3 stands in an earlier slot too"},
        {3, -1, 1, "token 2, slot 1: -1 leaves a slot empty, but the token has an expert for it"},
        {-2, 3, 0, "token 2, slot 0: -2 is no expert; empty slots are -1"},
        {-7, 9, 0, "2 bad ids, the first: token 2, slot 0: -7 is"},
    };
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    add(f, MOE_T_O);
    add_routing(f);
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        f->index[4] = slots[i].fifth;
        f->index[5] = slots[i].sixth;
        cr_assert_eq(moe_safetensors_write(f->path, f->list, f->count, NULL, 0, NULL), MOE_OK);
        const moe_tensor_verdict *v = expect_bad_ids(f, slots[i].words, &r);
        cr_expect_eq(v->worst_ndim, 2);
        cr_expect(v->worst_index[0] == 2 && v->worst_index[1] == slots[i].slot);
        cr_expect_eq(v->got, slots[i].slot ? slots[i].sixth : slots[i].fifth);
        cr_expect_eq(entry(r, "O")->verdict, MOE_VERDICT_PASS);
        cr_expect_eq(entry(r, "dS")->verdict, MOE_VERDICT_SKIP);
        cr_expect(strstr(entry(r, "dS")->why, "slots"), "%s", entry(r, "dS")->why);
        moe_check_result_destroy(&r);
    }
    close_file(f);
}

/* Ids may come with a given plan too: they are its own, or wrong. */
Test(check_outputs_wrong, ids_of_a_given_plan) {
    file *f = open_file(GIVEN, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    add(f, MOE_T_O);
    add_routing(f);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_str_eq(entry(r, "topk_index")->truth, "given");
    cr_expect_eq(entry(r, "dS")->verdict, MOE_VERDICT_PASS);
    moe_check_result_destroy(&r);
    int32_t e = 0;
    while (e == f->index[10] || e == f->index[11])
        e++;
    f->index[10] = e;
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect(strstr(r->why, "topk_index: 1 tokens chose wrong experts; token 5: has"), "%s",
              r->why);
    cr_expect_eq(entry(r, "O")->verdict, MOE_VERDICT_PASS);
    moe_check_result_destroy(&r);
    f->index[10] = 77;
    cr_assert_eq(moe_safetensors_write(f->path, f->list, f->count, NULL, 0, NULL), MOE_OK);
    expect_bad_ids(f, "token 5, slot 0: 77 is no expert", &r);
    moe_check_result_destroy(&r);
    close_file(f);
}

/* Results of zeros are wrong, and of no type more than of another. */
Test(check_outputs_wrong, zeros_are_of_every_type) {
    file *f = open_file(ROUTED, MOE_F32, MOE_F32);
    moe_check_result *r = NULL;
    memset(f->cast.t[MOE_T_O].data, 0, (size_t)moe_tensor_bytes(&f->cast.t[MOE_T_O]));
    add(f, MOE_T_O);
    cr_assert_eq(judge(f, -1, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(r->why, "O: NMSE") && !strstr(r->why, "looks rounded"), "%s", r->why);
    moe_check_result_destroy(&r);
    close_file(f);
}
