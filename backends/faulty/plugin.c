/* The table, and the life of a layer. */
#include "faulty.h"

#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

static moe_status fy_probe(char *reason, size_t size) {
    (void)reason;
    (void)size;
    return MOE_OK;
}

static const char *const fault_names[] = {"", MOE_INT_FAULTS(MOE_INT_FAULT_WORD)};

/* "", "bf16", "bf16.FAULT", "FAULT". */
static moe_status parse_variant(const char *variant, fy_device *ret) {
    static const struct {
        const char *word;
        moe_dtype precision;
    } types[] = {{"fp32", MOE_F32}, {"bf16", MOE_BF16}, {"fp16", MOE_F16}};
    ret->precision = MOE_F32;
    ret->fault = MOE_INT_FAULT_NONE;
    for (size_t i = 0; i < 3; i++) {
        const size_t length = strlen(types[i].word);
        if (strncmp(variant, types[i].word, length) != 0 ||
            (variant[length] != '.' && variant[length]))
            continue;
        ret->precision = types[i].precision;
        variant += length + (variant[length] == '.');
    }
    for (int f = 0; f < MOE_INT_FAULT_COUNT; f++)
        if (strcmp(fault_names[f], variant) == 0) {
            ret->fault = (moe_int_fault)f;
            return MOE_OK;
        }
    return moe_fail(ret->log, MOE_E_NOTFOUND,
                    "faulty has no fault '%s'; moeref selftest --list names them", variant);
}

static int32_t most_threads(void) {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

static moe_status fy_open(const moe_open_params *params, void **ret_device) {
    fy_device *dev = calloc(1, sizeof *dev);
    if (!dev)
        return moe_fail(params->log, MOE_E_NOMEM, "faulty: no memory");
    dev->log = params->log;
    dev->threads = params->threads > 0 ? params->threads : most_threads();
    moe_status status = parse_variant(params->variant, dev);
    if (status)
        free(dev);
    else
        *ret_device = dev;
    return status;
}

static void fy_close(void *dev) {
    free(dev);
}

static moe_status fy_supports(void *self, const moe_layer_desc *desc, const moe_use *use,
                              moe_support *ret) {
    const fy_device *dev = self;
    (void)use;
    if (moe_refuse_unknown(desc, ret))
        return MOE_E_UNSUPPORTED;
    if (desc->act > MOE_ACT_SILU) {
        strcpy(ret->reason, "an activation that act.c does not have");
        return MOE_E_UNSUPPORTED;
    }
    ret->arithmetic = (int32_t)dev->precision;
    ret->deterministic = MOE_PROMISE_REPEATS | MOE_PROMISE_BATCH_INVARIANT;
    return MOE_OK;
}

/* [parts][rows][columns] turned part by part, where a part is square. */
static moe_status turn(const fy_layer *l, moe_tensor *t) {
    const int64_t rows = t->shape[1], columns = t->shape[2], part = rows * columns;
    float *turned = fy_floats(part), *v = t->data;
    if (!turned)
        return fy_no_memory(l);
    for (int64_t i = 0; rows == columns && i < t->shape[0]; i++) {
        fy_transpose(v + i * part, rows, columns, turned);
        memcpy(v + i * part, turned, (size_t)part * sizeof *v);
    }
    free(turned);
    return MOE_OK;
}

static moe_status take_params(fy_layer *l, const moe_tensors *params) {
    moe_status status = MOE_OK;
    for (int id = 0; !status && id < MOE_T_COUNT; id++)
        if (moe_tensor_role_of((moe_tensor_id)id) == MOE_ROLE_PARAM && params->t[id].data)
            status = moe_tensor_cast(&params->t[id], MOE_F32, &l->param.t[id]);
    if (!status && FAULT(l, W1_transposed))
        status = turn(l, &l->param.t[MOE_T_W1]);
    if (!status && FAULT(l, W2_transposed))
        status = turn(l, &l->param.t[MOE_T_W2]);
    if (FAULT(l, weights_changed)) /* an in-place repacking of what is the caller's */
        moe_store(params->t[MOE_T_W1].data, params->t[MOE_T_W1].dtype, 3, 0.125);
    return status;
}

static moe_status alloc_router(fy_layer *l) {
    const size_t slots = (size_t)(l->T * l->desc.K), outputs = (size_t)(l->T * l->R);
    fy_router *r = &l->router;
    l->logits = calloc(outputs, sizeof *l->logits);
    r->dz = calloc(outputs, sizeof *r->dz);
    r->chosen = calloc(slots, sizeof *r->chosen);
    r->row = calloc(slots, sizeof *r->row);
    r->raw = calloc(slots, sizeof *r->raw);
    r->weight = calloc(slots, sizeof *r->weight);
    return l->logits && r->dz && r->chosen && r->row && r->raw && r->weight ? MOE_OK : MOE_E_NOMEM;
}

static moe_status alloc_shared(fy_layer *l) {
    const int64_t T = l->T, n = l->desc.n_shared, hw = moe_h_width(&l->desc, n);
    fy_shared *s = &l->shared;
    s->gate = fy_floats(T);
    s->d_gate = fy_floats(T);
    s->H = fy_floats(T * hw);
    s->A = fy_floats(T * n);
    s->Y = fy_floats(T * l->desc.d);
    s->dH = fy_floats(T * hw);
    s->dXp = fy_floats(T * l->desc.d);
    return s->gate && s->d_gate && s->H && s->A && s->Y && s->dH && s->dXp ? MOE_OK : MOE_E_NOMEM;
}

static void fy_release(void *self) {
    fy_layer *l = self;
    void *owned[] = {l->X,           l->dO,         l->logits,        l->router.chosen,
                     l->router.row,  l->router.raw, l->router.weight, l->router.dz,
                     l->shared.gate, l->shared.H,   l->shared.A,      l->shared.Y,
                     l->shared.dH,   l->shared.dXp, l->shared.d_gate};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
    moe_tensors_destroy(&l->param);
    moe_tensors_destroy(&l->out);
    moe_plan_destroy(&l->own);
    moe_plan_destroy(&l->told);
    moe_plan_destroy(&l->kept);
    free(l);
}

static moe_status fy_prepare(void *dev, const moe_layer_desc *desc, const moe_use *use,
                             const moe_tensors *params, void **ret_layer) {
    fy_layer *l = calloc(1, sizeof *l);
    if (!l)
        return moe_fail(((fy_device *)dev)->log, MOE_E_NOMEM, "faulty: no memory");
    l->dev = dev;
    l->desc = *desc;
    l->use = *use;
    l->T = use->tokens;
    l->R = desc->E + desc->n_zero;
    l->X = fy_floats(l->T * desc->d);
    l->dO = fy_floats(l->T * desc->d);
    moe_status status = l->X && l->dO ? take_params(l, params) : MOE_E_NOMEM;
    if (!status && !use->plan_given)
        status = alloc_router(l);
    if (!status && desc->n_shared)
        status = alloc_shared(l);
    if (status) {
        fy_no_memory(l);
        fy_release(l);
    } else {
        *ret_layer = l;
    }
    return status;
}

/* What a fault does to the caller's own data. */
static void change_input(const fy_layer *l, const moe_input *input) {
    if (FAULT(l, input_changed))
        moe_store(input->X.data, input->X.dtype, 3, 0.125);
    if (FAULT(l, dO_changed) && input->dO.data)
        moe_store(input->dO.data, input->dO.dtype, 3, 0.125);
    if (FAULT(l, plan_changed) && input->plan && input->plan->n_pairs > 1)
        ((moe_plan *)input->plan)->weight[1] *= 2;
}

static moe_status fy_set_input(void *self, const moe_input *input) {
    fy_layer *l = self;
    const size_t count = (size_t)(l->T * l->desc.d);
    const bool again = l->inputs++ > 0, keeps = FAULT(l, set_input_ignored) || FAULT(l, plan_kept);
    if (again && FAULT(l, set_input_ignored))
        return MOE_OK;
    if (!(again && FAULT(l, X_kept)))
        moe_convert(l->X, MOE_F32, input->X.data, input->X.dtype, count);
    if (input->dO.data && !(again && FAULT(l, dO_kept)))
        moe_convert(l->dO, MOE_F32, input->dO.data, input->dO.dtype, count);
    if (keeps && !again && input->plan && moe_plan_copy(input->plan, &l->kept))
        return fy_no_memory(l);
    l->given = keeps && l->kept ? l->kept : input->plan;
    l->seed = input->seed;
    change_input(l, input);
    return MOE_OK;
}

static void take_weights(fy_layer *l) {
    const moe_plan *plan = fy_plan(l);
    moe_convert(fy_out(l, MOE_T_S), MOE_F32, plan->weight, MOE_F64, (size_t)plan->n_pairs);
}

/* A block that nobody frees, written to: what nobody looks at a compiler would not allocate. */
static moe_status lose_memory(const fy_layer *l) {
    enum { BYTES = 1 << 20 };
    volatile unsigned char *lost = malloc(BYTES);
    if (!lost)
        return fy_no_memory(l);
    for (size_t i = 0; i < BYTES; i += 512)
        lost[i] = 1;
    return MOE_OK; /* NOLINT(clang-analyzer-unix.Malloc): the planted fault */
}

typedef moe_status fy_expert_pass(const fy_layer *l, const fy_expert *x);

/* Every routed expert's pass; each writes its own rows and gradients alone. */
static moe_status each_expert(const fy_layer *l, fy_expert_pass *pass) {
    const int64_t worth_threads = 4000000; /* multiply-adds */
    const int64_t work = fy_plan(l)->n_pairs * l->desc.d * l->desc.n;
    moe_status status = MOE_OK;
#pragma omp parallel for schedule(dynamic) num_threads(l->dev->threads) if (work > worth_threads)
    for (int64_t e = 0; e < l->desc.E; e++) {
        const fy_expert x = fy_expert_of(l, e);
        const moe_status failed = pass(l, &x);
        if (failed) {
#pragma omp atomic write
            status = failed;
        }
    }
    return status;
}

static moe_status fy_forward(void *self) {
    fy_layer *l = self;
    l->forwards++;
    if (l->forwards > 1 && FAULT(l, forward_once))
        return MOE_OK;
    moe_status status = MOE_OK;
    if (!l->given)
        status = fy_route(l);
    if (!status)
        status = fy_make_room(l);
    if (status)
        return status;
    take_weights(l);
    status = each_expert(l, fy_expert_forward);
    if (!status && l->desc.n_shared) {
        fy_shared_gates(l);
        const fy_expert x = fy_shared_expert(l);
        status = fy_expert_forward(l, &x);
    }
    if (status)
        return status;
    fy_combine(l);
    fy_spoil_forward(l);
    return FAULT(l, leak) ? lose_memory(l) : MOE_OK;
}

static moe_status fy_backward(void *self) {
    fy_layer *l = self;
    l->backwards++;
    if (l->backwards > 1 && FAULT(l, backward_once))
        return MOE_OK;
    moe_status status = each_expert(l, fy_expert_backward);
    if (!status && l->desc.n_shared) {
        const fy_expert x = fy_shared_expert(l);
        status = fy_expert_backward(l, &x);
    }
    if (!status)
        status = fy_combine_backward(l);
    if (!status)
        fy_spoil_backward(l);
    return status;
}

extern MOE_API const moe_plugin moe_plugin_v;
const moe_plugin moe_plugin_v = {
    .abi = MOE_PLUGIN_ABI,
    .priority = -1,
    .name = "faulty",
    .brief = "right, or wrong in one chosen way: what `moeref selftest` tries the judge on",
    .probe = fy_probe,
    .open = fy_open,
    .close = fy_close,
    .supports = fy_supports,
    .prepare = fy_prepare,
    .release = fy_release,
    .set_input = fy_set_input,
    .forward = fy_forward,
    .backward = fy_backward,
    .fetch = fy_fetch,
    .routing = fy_routing,
};
