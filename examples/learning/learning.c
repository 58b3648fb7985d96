/* Does a model learn with token rounding what it learns with top-K? A language model of single
 * characters with one Mixture-of-Experts layer, trained with either from the same start, and always
 * evaluated with top-K. README.md in this folder has the command and what it printed.
 *
 *     h = tanh(W_in [embeddings of the last CONTEXT characters]);  logits = W_out (h + MoE(h))
 *
 * Prints a line `router,seed,step,loss` of held-out text for each evaluation: nats a character. The
 * exit code is 1 if the last losses, averaged over seeds, differ by more than 1 %. */
#include <moeref.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { V = 128, CONTEXT = 8, WIDE = 8, IN = CONTEXT * WIDE, D = 32, N = 16, E = 8, K = 2 };
enum { T = 128, TILE = 8, EVERY = 250, EVALUATED = 16 }; /* batches of T */

/* All parameters in one array, and so gradients and Adam's moments. */
enum {
    EMBED = 0,
    W_IN = EMBED + V * WIDE,
    W_R = W_IN + D * IN,
    W1 = W_R + E * D,
    W2 = W1 + E * 2 * N * D,
    W_OUT = W2 + E * D * N,
    COUNT = W_OUT + V * D
};

typedef struct model {
    float w[COUNT], g[COUNT], mean[COUNT], square[COUNT];
} model;

/* One batch on its way through the model. */
typedef struct batch {
    int context[T][CONTEXT], next[T];
    float in[T][IN], h[T][D], o[T][D], dh[T][D];
    float p[T][V]; /* softmax, then gradient of the logits */
} batch;

static const unsigned char *text;
static long length;

static void must(moe_status status) {
    if (!status)
        return;
    fprintf(stderr, "%s\n", moe_status_str(status));
    exit(1);
}

/* y[rows] = W x, W [rows][columns]. */
static void times(const float *w, const float *x, int rows, int columns, float *y) {
    for (int r = 0; r < rows; r++) {
        float sum = 0;
        for (int c = 0; c < columns; c++)
            sum += w[r * columns + c] * x[c];
        y[r] = sum;
    }
}

/* dW += dy x^T, dx += W^T dy */
static void back(const float *w, const float *x, const float *dy, int rows, int columns, float *dw,
                 float *dx) {
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < columns; c++) {
            dw[r * columns + c] += dy[r] * x[c];
            dx[c] += dy[r] * w[r * columns + c];
        }
    }
}

/* Tokens of a batch begin anywhere in the first nine tenths of the text, or in the last. */
static void draw(batch *b, int held_out, uint64_t seed, uint64_t stream) {
    const long edge = length / 10 * 9, first = held_out ? edge : 0;
    const long room = (held_out ? length : edge) - first - CONTEXT - 1;
    for (int t = 0; t < T; t++) {
        const long at = first + (long)(moe_rng_uniform(seed, stream, (uint64_t)t) * (double)room);
        for (int i = 0; i < CONTEXT; i++)
            b->context[t][i] = text[at + i] % V;
        b->next[t] = text[at + CONTEXT] % V;
    }
}

static void before_experts(const model *m, batch *b) {
    for (int t = 0; t < T; t++) {
        for (int i = 0; i < CONTEXT; i++)
            memcpy(b->in[t] + i * WIDE, m->w + EMBED + b->context[t][i] * WIDE,
                   WIDE * sizeof(float));
        times(m->w + W_IN, b->in[t], D, IN, b->h[t]);
        for (int i = 0; i < D; i++)
            b->h[t][i] = tanhf(b->h[t][i]);
    }
}

static moe_tensor view(float *x, int ndim, int64_t a, int64_t b, int64_t c) {
    return (moe_tensor){.data = x, .dtype = MOE_F32, .ndim = ndim, .shape = {a, b, c}};
}

/* The layer's results; with the gradient in b->dh its backward pass too. */
static moe_reference_result *run_layer(model *m, batch *b, int32_t select, int backward) {
    moe_layer_desc desc;
    moe_tensors in = {0};
    moe_reference_result *r = NULL;
    moe_layer_desc_init(&desc);
    desc.d = D, desc.n = N, desc.E = E, desc.K = K;
    desc.router.select = select, desc.router.tile = TILE, desc.router.renorm = 1;
    in.t[MOE_T_X] = view(b->h[0], 2, T, D, 0);
    in.t[MOE_T_W_R] = view(m->w + W_R, 2, E, D, 0);
    in.t[MOE_T_W1] = view(m->w + W1, 3, E, 2 * N, D);
    in.t[MOE_T_W2] = view(m->w + W2, 3, E, D, N);
    if (backward)
        in.t[MOE_T_DO] = view(b->dh[0], 2, T, D, 0);
    must(moe_reference_run(&desc, &in,
                           &(moe_reference_params){.tokens = T, .precision = MOE_F32, .threads = 1},
                           NULL, &r));
    return r;
}

/* Mean of -log p of the next character; p becomes the gradient of the logits. */
static double loss_of(batch *b, int t) {
    float *p = b->p[t], top = p[0], sum = 0;
    for (int i = 1; i < V; i++)
        top = fmaxf(top, p[i]);
    for (int i = 0; i < V; i++)
        sum += p[i] = expf(p[i] - top);
    for (int i = 0; i < V; i++)
        p[i] /= sum;
    const double loss = -log((double)p[b->next[t]] + 1e-30);
    p[b->next[t]] -= 1;
    for (int i = 0; i < V; i++)
        p[i] /= T;
    return loss / T;
}

static double forward(model *m, batch *b, int32_t select) {
    double loss = 0;
    before_experts(m, b);
    moe_reference_result *r = run_layer(m, b, select, 0);
    const float *o = r->out.t[MOE_T_O].data;
    for (int t = 0; t < T; t++) {
        for (int i = 0; i < D; i++)
            b->o[t][i] = b->h[t][i] + o[t * D + i];
        times(m->w + W_OUT, b->o[t], V, D, b->p[t]);
        loss += loss_of(b, t);
    }
    moe_reference_result_destroy(&r);
    return loss;
}

static void take(const moe_reference_result *r, moe_tensor_id id, float *to) {
    memcpy(to, r->out.t[id].data, (size_t)moe_tensor_bytes(&r->out.t[id]));
}

static void backward(model *m, batch *b, int32_t select) {
    memset(m->g, 0, sizeof m->g);
    memset(b->dh, 0, sizeof b->dh);
    for (int t = 0; t < T; t++)
        back(m->w + W_OUT, b->o[t], b->p[t], V, D, m->g + W_OUT, b->dh[t]);
    moe_reference_result *r = run_layer(m, b, select, 1);
    take(r, MOE_T_DW_R, m->g + W_R);
    take(r, MOE_T_DW1, m->g + W1);
    take(r, MOE_T_DW2, m->g + W2);
    const float *dX = r->out.t[MOE_T_DX].data;
    for (int t = 0; t < T; t++) {
        float dx[IN] = {0};
        for (int i = 0; i < D; i++)
            b->dh[t][i] = (b->dh[t][i] + dX[t * D + i]) * (1 - b->h[t][i] * b->h[t][i]);
        back(m->w + W_IN, b->in[t], b->dh[t], D, IN, m->g + W_IN, dx);
        for (int i = 0; i < IN; i++)
            m->g[EMBED + b->context[t][i / WIDE] * WIDE + i % WIDE] += dx[i];
    }
    moe_reference_result_destroy(&r);
}

static void adam(model *m, int step) {
    const float rate = 3e-3f, a = 0.9f, b = 0.99f;
    const float fix_a = 1 - powf(a, (float)step), fix_b = 1 - powf(b, (float)step);
    for (int i = 0; i < COUNT; i++) {
        m->mean[i] = a * m->mean[i] + (1 - a) * m->g[i];
        m->square[i] = b * m->square[i] + (1 - b) * m->g[i] * m->g[i];
        m->w[i] -= rate * m->mean[i] / fix_a / (sqrtf(m->square[i] / fix_b) + 1e-8f);
    }
}

static void start(model *m, uint64_t seed) {
    static const struct {
        int first, count, in;
    } part[] = {{EMBED, V * WIDE, 1},   {W_IN, D * IN, IN}, {W_R, E * D, D},
                {W1, E * 2 * N * D, D}, {W2, E * D * N, N}, {W_OUT, V * D, D}};
    memset(m, 0, sizeof *m);
    for (int i = 0; i < 6; i++)
        moe_rng_fill(m->w + part[i].first, MOE_F32, 0, (size_t)part[i].count, MOE_FILL_NORMAL,
                     1 / sqrt(part[i].in), seed, (uint64_t)i);
}

/* The loss after the last step. */
static double train(const char *name, int32_t select, int seed, int steps) {
    static model m;
    static batch b;
    double loss = 0;
    start(&m, (uint64_t)seed);
    for (int step = 1; step <= steps; step++) {
        draw(&b, 0, (uint64_t)seed, 1000 + (uint64_t)step);
        forward(&m, &b, select);
        backward(&m, &b, select);
        adam(&m, step);
        if (step % EVERY)
            continue;
        loss = 0;
        for (int i = 0; i < EVALUATED; i++) {
            draw(&b, 1, 0, 10 + (uint64_t)i); /* the same text for all */
            loss += forward(&m, &b, MOE_SELECT_TOPK) / EVALUATED;
        }
        printf("%s,%d,%d,%.4f\n", name, seed, step, loss);
        fflush(stdout);
    }
    return loss;
}

int main(int argc, char **argv) {
    static unsigned char room[4 << 20];
    FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
    const int seeds = argc > 2 ? atoi(argv[2]) : 3, steps = argc > 3 ? atoi(argv[3]) : 1500;
    if (!file) {
        fprintf(stderr, "usage: learning TEXT [SEEDS [STEPS]]\n");
        return 2;
    }
    length = (long)fread(room, 1, sizeof room, file);
    text = room;
    fclose(file);
    if (length < 20 * CONTEXT || seeds < 1 || steps < EVERY)
        return 2;
    double topk = 0, rounding = 0;
    printf("router,seed,step,loss\n");
    for (int seed = 1; seed <= seeds; seed++) {
        topk += train("topk", MOE_SELECT_TOPK, seed, steps);
        rounding += train("rounding", MOE_SELECT_TOKEN_ROUNDING, seed, steps);
    }
    return !(fabs(rounding / topk - 1) <= 0.01);
}
