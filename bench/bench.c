/* bench.c - how long the kernels take, next to the loops a user would write.
 *
 *   bench [--len N] [--check]
 *
 * Each kernel is first compared with its plain loop (libm, no blocking, no packing), then both are
 * timed on one thread: the smallest and the middle of several repeats, in nanoseconds per element.
 * --len is the length of the scans, 2048 by default; --check only compares, on small shapes.
 * Time is the processor time of this process, so a busy machine does not distort it much. */
#define SSM_IMPLEMENTATION
#define SSM_NO_OPENMP
#include "../ssm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef BENCH_FLAGS
#define BENCH_FLAGS "unknown flags"
#endif
#if defined(__clang__)
#define BENCH_COMPILER __VERSION__
#elif defined(__GNUC__)
#define BENCH_COMPILER "gcc " __VERSION__
#else
#define BENCH_COMPILER "unknown compiler"
#endif

enum { REPEATS = 9, NAME = 64 };

static size_t failures;
static int check_only;

/* ---- memory and numbers ------------------------------------------------------------------ */

static void must(ssm_status status)
{
    if (status == SSM_OK) return;
    fprintf(stderr, "bench: %s\n", ssm_status_string(status));
    exit(2);
}

static void *get_memory(size_t bytes)
{
    void *p = calloc(bytes ? bytes : 1, 1);
    if (!p) {
        fprintf(stderr, "bench: out of memory\n");
        exit(2);
    }
    return p;
}

static ssm_real *zeros(size_t count)
{
    return (ssm_real *)get_memory(count * sizeof(ssm_real));
}

static ssm_real *normal(ssm_rng *rng, size_t count, double mean, double deviation)
{
    ssm_real *p = zeros(count);
    size_t i;
    for (i = 0; i < count; ++i) p[i] = (ssm_real)(mean + deviation * (double)ssm_rng_normal(rng));
    return p;
}

/* ---- plain loops -------------------------------------------------------------------------- */

/* The C library's functions in the precision of the build. */
#ifdef SSM_DOUBLE
#define REAL(name) name
#else
#define REAL(name) name##f
#endif

static ssm_real plain_softplus(ssm_real x)
{
    return x > 20 ? x : REAL(log1p)(REAL(exp)(x));
}

static ssm_real plain_sigmoid(ssm_real x)
{
    return 1 / (1 + REAL(exp)(-x));
}

/* y[t] = sum_n C[t] h[t] + D u[t] with h = exp(delta A) h + delta B u; delta after softplus. All
 * tensors [t][c] or [t][n], A and h [c][n]; B and C rows are `row` apart. keep: every h, or NULL. */
static void plain_scan(size_t len, size_t dim, size_t states, const ssm_real *u, const ssm_real *delta,
                       const ssm_real *A, const ssm_real *B, const ssm_real *C, size_t row, const ssm_real *D,
                       ssm_real *h, ssm_real *y, ssm_real *keep)
{
    size_t t, c, n;
    for (t = 0; t < len; ++t) {
        for (c = 0; c < dim; ++c) {
            const ssm_real dt = plain_softplus(delta[t * dim + c]), x = u[t * dim + c];
            ssm_real sum = D[c] * x;
            for (n = 0; n < states; ++n) {
                ssm_real *s = &h[c * states + n];
                *s = REAL(exp)(dt * A[c * states + n]) * *s + dt * B[t * row + n] * x;
                sum += C[t * row + n] * *s;
                if (keep) keep[(t * dim + c) * states + n] = *s;
            }
            y[t * dim + c] = sum;
        }
    }
}

/* Its gradients, from all states kept in memory: what a tensor library's tape does. */
static void plain_scan_backward(size_t len, size_t dim, size_t states, const ssm_real *u, const ssm_real *delta,
                                const ssm_real *A, const ssm_real *B, const ssm_real *C, const ssm_real *D,
                                const ssm_real *keep, const ssm_real *dy, ssm_real *g, ssm_real *du,
                                ssm_real *ddelta, ssm_real *dA, ssm_real *dB, ssm_real *dC, ssm_real *dD)
{
    size_t t, c, n;
    for (t = len; t-- > 0;) {
        for (c = 0; c < dim; ++c) {
            const size_t at = t * dim + c;
            const ssm_real dt = plain_softplus(delta[at]), x = u[at];
            ssm_real ddt = 0;
            dD[c] += dy[at] * x;
            du[at] += dy[at] * D[c];
            for (n = 0; n < states; ++n) {
                const ssm_real before = t ? keep[(at - dim) * states + n] : 0;
                const ssm_real a = REAL(exp)(dt * A[c * states + n]);
                ssm_real *s = &g[c * states + n];
                *s += C[t * states + n] * dy[at];
                dC[t * states + n] += keep[at * states + n] * dy[at];
                dB[t * states + n] += *s * dt * x;
                du[at] += *s * dt * B[t * states + n];
                ddt += *s * (A[c * states + n] * a * before + B[t * states + n] * x);
                dA[c * states + n] += *s * dt * a * before;
                *s *= a;
            }
            ddelta[at] += ddt * plain_sigmoid(delta[at]);
        }
    }
}

/* y = silu(conv(x)); x rows are `row` apart; state [width-1][dim] goes before it and is moved on. */
static void plain_conv(size_t len, size_t dim, size_t width, const ssm_real *x, size_t row, const ssm_real *weight,
                       const ssm_real *bias, ssm_real *state, ssm_real *y)
{
    size_t t, c, k;
    for (t = 0; t < len; ++t) {
        for (c = 0; c < dim; ++c) {
            ssm_real sum = bias[c] + weight[c * width + width - 1] * x[t * row + c];
            for (k = 0; k + 1 < width; ++k) sum += weight[c * width + k] * state[k * dim + c];
            y[t * dim + c] = sum * plain_sigmoid(sum);
            for (k = 0; k + 2 < width; ++k) state[k * dim + c] = state[(k + 1) * dim + c];
            if (width > 1) state[(width - 2) * dim + c] = x[t * row + c];
        }
    }
}

/* y = weight x (+ bias); x rows are x_row apart. */
static void plain_linear(size_t rows, size_t in, size_t out, const ssm_real *weight, const ssm_real *bias,
                         const ssm_real *x, size_t x_row, ssm_real *y)
{
    size_t r, o, i;
    for (r = 0; r < rows; ++r) {
        for (o = 0; o < out; ++o) {
            ssm_real sum = bias ? bias[o] : 0;
            for (i = 0; i < in; ++i) sum += weight[o * in + i] * x[r * x_row + i];
            y[r * out + o] = sum;
        }
    }
}

/* ---- measuring ---------------------------------------------------------------------------- */

static void agree(const char *name, const ssm_real *got, const ssm_real *want, size_t count)
{
    double worst = 0, largest = 1e-30;
    size_t i;
    for (i = 0; i < count; ++i) {
        const double error = fabs((double)got[i] - (double)want[i]);
        if (!(error <= worst)) worst = error;
        if (fabs((double)want[i]) > largest) largest = fabs((double)want[i]);
    }
    if (worst <= 1e-4 * largest) return;
    printf("FAIL %s differs from its plain loop by %.2g of %.2g\n", name, worst, largest);
    failures += 1;
}

typedef struct timing {
    double least;
    double middle;
} timing;

static int compare(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static double seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

/* Nanoseconds per element. A repeat lasts at least 20 ms; after 2 s no more begin, but there are 3. */
static timing measure(void (*run)(void *), void *context, double elements)
{
    double sample[REPEATS], begin = seconds(), once;
    size_t calls = 1, i, count = 0;
    timing result;
    run(context); /* warm caches and pages */
    once = seconds() - begin;
    if (once < 0.02) calls = (size_t)(0.02 / (once + 1e-6)) + 1;
    while (count < REPEATS && (count < 3 || seconds() - begin < 2)) {
        const double start = seconds();
        for (i = 0; i < calls; ++i) run(context);
        sample[count++] = (seconds() - start) * 1e9 / (elements * (double)calls);
    }
    qsort(sample, count, sizeof *sample, compare);
    result.least = sample[0];
    result.middle = sample[count / 2];
    return result;
}

static void report(const char *name, const char *shape, void (*ours)(void *), void (*plain)(void *), void *context,
                   double elements)
{
    timing a, b;
    if (check_only) {
        printf("ok   %s\n", name);
        return;
    }
    a = measure(ours, context, elements);
    b = measure(plain, context, elements);
    printf("%-16s %-34s %7.2f %7.2f  %7.2f %7.2f  %5.1fx\n", name, shape, a.least, a.middle, b.least, b.middle,
           b.least / a.least);
    fflush(stdout);
}

/* ---- selective scan ------------------------------------------------------------------------ */

typedef struct scan_case {
    size_t len, dim, states;
    ssm_real *u, *delta, *A, *B, *C, *D, *dy;
    ssm_real *h, *y, *keep, *g;          /* of the plain loop */
    ssm_real *plain[6];                  /* du, ddelta, dA, dB, dC, dD */
    ssm_real *state, *out, *gradient[6]; /* ours */
    size_t count[6];
    ssm_selective_scan scan;
    ssm_selective_scan_grad grad;
    void *work;
    size_t work_bytes;
} scan_case;

static void scan_open(scan_case *k, size_t len, size_t dim, size_t states, int backward)
{
    ssm_rng rng;
    ssm_sizes need;
    size_t i;
    memset(k, 0, sizeof *k);
    rng.state = 1;
    k->len = len;
    k->dim = dim;
    k->states = states;
    k->u = normal(&rng, len * dim, 0, 1);
    k->delta = normal(&rng, len * dim, -3, 1);
    k->A = zeros(dim * states);
    for (i = 0; i < dim * states; ++i) k->A[i] = -(ssm_real)(i % states + 1);
    k->B = normal(&rng, len * states, 0, 1);
    k->C = normal(&rng, len * states, 0, 1);
    k->D = normal(&rng, dim, 0, 1);
    k->h = zeros(dim * states);
    k->y = zeros(len * dim);
    k->state = zeros(dim * states);
    k->out = zeros(len * dim);
    k->scan.batch = 1;
    k->scan.len = len;
    k->scan.dim = dim;
    k->scan.d_state = states;
    k->scan.delta_softplus = 1;
    k->scan.u = ssm_in_btc(k->u, len, dim);
    k->scan.delta = ssm_in_btc(k->delta, len, dim);
    k->scan.A = ssm_in_cn(k->A, states);
    k->scan.B = ssm_in_btcn(k->B, len, 1, states);
    k->scan.C = ssm_in_btcn(k->C, len, 1, states);
    k->scan.D = ssm_in_c(k->D);
    k->scan.h_last.data = k->state; /* the layers' order: [n][c] */
    k->scan.h_last.chan = 1;
    k->scan.h_last.state = (ptrdiff_t)dim;
    k->scan.y = ssm_out_like(k->out, k->scan.u);
    if (!backward) return;
    k->keep = zeros(len * dim * states);
    k->g = zeros(dim * states);
    k->dy = normal(&rng, len * dim, 0, 1);
    k->count[0] = k->count[1] = len * dim;
    k->count[2] = dim * states;
    k->count[3] = k->count[4] = len * states;
    k->count[5] = dim;
    for (i = 0; i < 6; ++i) {
        k->plain[i] = zeros(k->count[i]);
        k->gradient[i] = zeros(k->count[i]);
    }
    k->grad.dy = ssm_in_btc(k->dy, len, dim);
    k->grad.du = ssm_out_like(k->gradient[0], k->scan.u);
    k->grad.ddelta = ssm_out_like(k->gradient[1], k->scan.delta);
    k->grad.dA = ssm_out_like(k->gradient[2], k->scan.A);
    k->grad.dB = ssm_out_like(k->gradient[3], k->scan.B);
    k->grad.dC = ssm_out_like(k->gradient[4], k->scan.C);
    k->grad.dD = ssm_out_like(k->gradient[5], k->scan.D);
    must(ssm_selective_scan_sizes(&k->scan, &need));
    k->work_bytes = need.work_backward;
    k->work = get_memory(k->work_bytes);
}

static void scan_close(scan_case *k)
{
    size_t i;
    for (i = 0; i < 6; ++i) {
        free(k->plain[i]);
        free(k->gradient[i]);
    }
    free(k->u);
    free(k->delta);
    free(k->A);
    free(k->B);
    free(k->C);
    free(k->D);
    free(k->dy);
    free(k->h);
    free(k->y);
    free(k->keep);
    free(k->g);
    free(k->state);
    free(k->out);
    free(k->work);
}

static void scan_ours(void *context)
{
    scan_case *k = (scan_case *)context;
    must(ssm_selective_scan_forward(&k->scan, NULL, 0));
}

static void scan_plain(void *context)
{
    scan_case *k = (scan_case *)context;
    memset(k->h, 0, k->dim * k->states * sizeof(ssm_real));
    plain_scan(k->len, k->dim, k->states, k->u, k->delta, k->A, k->B, k->C, k->states, k->D, k->h, k->y, k->keep);
}

static void step_ours(void *context)
{
    scan_case *k = (scan_case *)context;
    must(ssm_selective_scan_step(&k->scan));
}

static void step_plain(void *context)
{
    scan_case *k = (scan_case *)context;
    plain_scan(1, k->dim, k->states, k->u, k->delta, k->A, k->B, k->C, k->states, k->D, k->h, k->y, NULL);
}

static void backward_ours(void *context)
{
    scan_case *k = (scan_case *)context;
    must(ssm_selective_scan_backward(&k->scan, &k->grad, k->work, k->work_bytes));
}

/* Forward again as well: so does ours. */
static void backward_plain(void *context)
{
    scan_case *k = (scan_case *)context;
    scan_plain(k);
    memset(k->g, 0, k->dim * k->states * sizeof(ssm_real));
    plain_scan_backward(k->len, k->dim, k->states, k->u, k->delta, k->A, k->B, k->C, k->D, k->keep, k->dy, k->g,
                        k->plain[0], k->plain[1], k->plain[2], k->plain[3], k->plain[4], k->plain[5]);
}

static void bench_scan(size_t len, size_t dim, size_t states)
{
    char shape[NAME];
    scan_case k;
    scan_open(&k, len, dim, states, 0);
    scan_ours(&k);
    scan_plain(&k);
    agree("scan forward", k.out, k.y, len * dim);
    sprintf(shape, "D=%lu N=%lu L=%lu", (unsigned long)dim, (unsigned long)states, (unsigned long)len);
    report("scan forward", shape, scan_ours, scan_plain, &k, (double)(len * dim * states));
    scan_close(&k);
}

static void bench_scan_step(size_t dim, size_t states)
{
    char shape[NAME];
    scan_case k;
    size_t i;
    scan_open(&k, 1, dim, states, 0);
    for (i = 0; i < 3; ++i) {
        step_ours(&k);
        step_plain(&k);
    }
    agree("scan step", k.out, k.y, dim);
    sprintf(shape, "D=%lu N=%lu", (unsigned long)dim, (unsigned long)states);
    report("scan step", shape, step_ours, step_plain, &k, (double)(dim * states));
    scan_close(&k);
}

static void bench_scan_backward(size_t len, size_t dim, size_t states)
{
    static const char *const name[6] = {"du", "ddelta", "dA", "dB", "dC", "dD"};
    char shape[NAME];
    scan_case k;
    size_t i;
    scan_open(&k, len, dim, states, 1);
    backward_ours(&k);
    backward_plain(&k);
    for (i = 0; i < 6; ++i) agree(name[i], k.gradient[i], k.plain[i], k.count[i]);
    sprintf(shape, "D=%lu N=%lu L=%lu", (unsigned long)dim, (unsigned long)states, (unsigned long)len);
    report("scan backward", shape, backward_ours, backward_plain, &k, (double)(len * dim * states));
    scan_close(&k);
}

/* ---- convolution and linear ----------------------------------------------------------------- */

typedef struct op_case {
    size_t rows, in, out; /* conv: in channels, out taps */
    ssm_real *x, *weight, *bias, *state, *y, *plain_y;
    ssm_conv conv;
    ssm_linear linear;
} op_case;

static void op_open(op_case *k, size_t rows, size_t in, size_t out, size_t y_count, size_t bias_count)
{
    ssm_rng rng;
    memset(k, 0, sizeof *k);
    rng.state = 2;
    k->rows = rows;
    k->in = in;
    k->out = out;
    k->x = normal(&rng, rows * in, 0, 1);
    k->weight = normal(&rng, in * out, 0, 0.1);
    k->bias = normal(&rng, bias_count, 0, 1);
    k->state = zeros(in * out);
    k->y = zeros(y_count);
    k->plain_y = zeros(y_count);
}

static void op_close(op_case *k)
{
    free(k->x);
    free(k->weight);
    free(k->bias);
    free(k->state);
    free(k->y);
    free(k->plain_y);
}

static void conv_ours(void *context)
{
    must(ssm_conv_forward(&((op_case *)context)->conv));
}

static void conv_plain(void *context)
{
    op_case *k = (op_case *)context;
    memset(k->state, 0, k->in * k->out * sizeof(ssm_real));
    plain_conv(k->rows, k->in, k->out, k->x, k->in, k->weight, k->bias, k->state, k->plain_y);
}

static void bench_conv(size_t len, size_t dim, size_t width)
{
    char shape[NAME];
    op_case k;
    op_open(&k, len, dim, width, len * dim, dim);
    k.conv.batch = 1;
    k.conv.len = len;
    k.conv.dim = dim;
    k.conv.width = width;
    k.conv.silu = 1;
    k.conv.x = ssm_in_btc(k.x, len, dim);
    k.conv.weight = ssm_in_cn(k.weight, width);
    k.conv.bias = ssm_in_c(k.bias);
    k.conv.y = ssm_out_like(k.y, k.conv.x);
    conv_ours(&k);
    conv_plain(&k);
    agree("conv", k.y, k.plain_y, len * dim);
    sprintf(shape, "D=%lu K=%lu L=%lu, SiLU", (unsigned long)dim, (unsigned long)width, (unsigned long)len);
    report("conv", shape, conv_ours, conv_plain, &k, (double)(len * dim * width));
    op_close(&k);
}

static void linear_ours(void *context)
{
    op_case *k = (op_case *)context;
    must(ssm_linear_forward(&k->linear, k->x, (ptrdiff_t)k->in, k->y, (ptrdiff_t)k->out, k->rows));
}

static void linear_plain(void *context)
{
    op_case *k = (op_case *)context;
    plain_linear(k->rows, k->in, k->out, k->weight, k->bias, k->x, k->in, k->plain_y);
}

static void bench_linear(size_t rows, size_t in, size_t out)
{
    char shape[NAME];
    op_case k;
    size_t bytes;
    ssm_real *packed;
    op_open(&k, rows, in, out, rows * out, out);
    k.linear.in = in;
    k.linear.out = out;
    k.linear.weight = k.weight;
    k.linear.bias = k.bias;
    must(ssm_linear_pack_size(&k.linear, &bytes));
    packed = (ssm_real *)get_memory(bytes);
    must(ssm_linear_pack(&k.linear, packed, bytes));
    k.linear.packed = packed;
    linear_ours(&k);
    linear_plain(&k);
    agree("linear", k.y, k.plain_y, rows * out);
    sprintf(shape, "%lu -> %lu, %lu row%s", (unsigned long)in, (unsigned long)out, (unsigned long)rows,
            rows == 1 ? "" : "s");
    report("linear, packed", shape, linear_ours, linear_plain, &k, (double)(rows * in * out));
    free(packed);
    op_close(&k);
}

/* ---- Mamba block ------------------------------------------------------------------------------ */

typedef struct block_case {
    size_t len;
    ssm_mamba_config config; /* resolved */
    ssm_mamba mamba;
    ssm_seqs seqs;
    ssm_sizes need;
    ssm_real *params, *x, *y, *state;
    void *bound, *work;
    const ssm_real *in_proj, *conv_weight, *conv_bias, *x_proj, *dt_proj, *dt_bias, *D, *out_proj;
    ssm_real *A, *conv, *h, *xz, *u, *dbc, *delta, *s, *plain_y; /* of the plain loops */
} block_case;

static const ssm_real *row_of(const ssm_params *table, const ssm_real *params, const char *name)
{
    const ssm_param *row = ssm_params_find(table, name);
    if (!row) must(SSM_ERR_CONFIG);
    return params + row->offset;
}

static void block_open(block_case *k, size_t d_model, size_t len)
{
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table;
    ssm_rng rng;
    const ssm_real *A_log;
    size_t i, inner, states;
    memset(k, 0, sizeof *k);
    memset(&table, 0, sizeof table);
    rng.state = 3;
    table.row = rows;
    table.capacity = SSM_PARAMS_MAX;
    k->len = len;
    k->config.d_model = d_model;
    must(ssm_mamba_config_resolve(&k->config, &k->config));
    k->seqs.batch = 1;
    k->seqs.len = len;
    must(ssm_mamba_sizes(&k->config, &k->seqs, &k->need));
    must(ssm_mamba_params(&k->config, NULL, &table));
    k->params = (ssm_real *)get_memory(k->need.params);
    k->bound = get_memory(k->need.bound);
    k->state = (ssm_real *)get_memory(k->need.state);
    k->work = get_memory(k->need.work);
    must(ssm_mamba_init(&k->config, k->params, 4));
    must(ssm_mamba_bind(&k->mamba, &k->config, k->params, k->bound, k->need.bound));
    k->x = normal(&rng, len * d_model, 0, 1);
    k->y = zeros(len * d_model);
    k->plain_y = zeros(len * d_model);
    inner = k->config.d_inner;
    states = k->config.d_state;
    k->in_proj = row_of(&table, k->params, "in_proj.weight");
    k->conv_weight = row_of(&table, k->params, "conv1d.weight");
    k->conv_bias = row_of(&table, k->params, "conv1d.bias");
    k->x_proj = row_of(&table, k->params, "x_proj.weight");
    k->dt_proj = row_of(&table, k->params, "dt_proj.weight");
    k->dt_bias = row_of(&table, k->params, "dt_proj.bias");
    k->D = row_of(&table, k->params, "D");
    k->out_proj = row_of(&table, k->params, "out_proj.weight");
    A_log = row_of(&table, k->params, "A_log");
    k->A = zeros(inner * states);
    for (i = 0; i < inner * states; ++i) k->A[i] = -REAL(exp)(A_log[i]);
    k->conv = zeros(inner * k->config.d_conv);
    k->h = zeros(inner * states);
    k->xz = zeros(len * 2 * inner);
    k->u = zeros(len * inner);
    k->dbc = zeros(len * (k->config.dt_rank + 2 * states));
    k->delta = zeros(len * inner);
    k->s = zeros(len * inner);
}

static void block_close(block_case *k)
{
    free(k->params);
    free(k->bound);
    free(k->state);
    free(k->work);
    free(k->x);
    free(k->y);
    free(k->plain_y);
    free(k->A);
    free(k->conv);
    free(k->h);
    free(k->xz);
    free(k->u);
    free(k->dbc);
    free(k->delta);
    free(k->s);
}

static void block_reset(block_case *k)
{
    memset(k->state, 0, k->need.state);
    memset(k->conv, 0, k->config.d_inner * k->config.d_conv * sizeof(ssm_real));
    memset(k->h, 0, k->config.d_inner * k->config.d_state * sizeof(ssm_real));
}

static void block_ours(void *context)
{
    block_case *k = (block_case *)context;
    must(ssm_mamba_forward(&k->mamba, k->state, k->x, k->y, &k->seqs, k->work, k->need.work));
}

static void block_step_ours(void *context)
{
    block_case *k = (block_case *)context;
    must(ssm_mamba_step(&k->mamba, k->state, k->x, k->y, 1, k->work, k->need.work));
}

/* The whole block, every intermediate in memory. */
static void block_plain(void *context)
{
    block_case *k = (block_case *)context;
    const size_t len = k->len, model = k->config.d_model, inner = k->config.d_inner, rank = k->config.dt_rank;
    const size_t states = k->config.d_state, row = rank + 2 * states;
    size_t t, c;
    plain_linear(len, model, 2 * inner, k->in_proj, NULL, k->x, model, k->xz);
    plain_conv(len, inner, k->config.d_conv, k->xz, 2 * inner, k->conv_weight, k->conv_bias, k->conv, k->u);
    plain_linear(len, inner, row, k->x_proj, NULL, k->u, inner, k->dbc);
    plain_linear(len, rank, inner, k->dt_proj, k->dt_bias, k->dbc, row, k->delta);
    plain_scan(len, inner, states, k->u, k->delta, k->A, k->dbc + rank, k->dbc + rank + states, row, k->D, k->h, k->s,
               NULL);
    for (t = 0; t < len; ++t) {
        for (c = 0; c < inner; ++c) {
            const ssm_real z = k->xz[t * 2 * inner + inner + c];
            k->s[t * inner + c] *= z * plain_sigmoid(z);
        }
    }
    plain_linear(len, inner, model, k->out_proj, NULL, k->s, inner, k->plain_y);
}

static void bench_block(const char *name, size_t d_model, size_t len, void (*ours)(void *))
{
    char shape[NAME];
    block_case k;
    block_open(&k, d_model, len);
    block_reset(&k);
    ours(&k);
    block_plain(&k);
    agree(name, k.y, k.plain_y, len * d_model);
    ours(&k); /* with a state that is no longer zero */
    block_plain(&k);
    agree(name, k.y, k.plain_y, len * d_model);
    sprintf(shape, "M=%lu E=%lu N=%lu L=%lu", (unsigned long)d_model, (unsigned long)k.config.d_inner,
            (unsigned long)k.config.d_state, (unsigned long)len);
    report(name, shape, ours, block_plain, &k, (double)(len * k.config.d_inner * k.config.d_state));
    block_close(&k);
}

/* ---- the program -------------------------------------------------------------------------------- */

/* Name of the processor, where /proc/cpuinfo tells. */
static void print_machine(void)
{
    char line[256], model[256] = "unknown processor";
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        sprintf(model, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (file) fclose(file);
    printf("ssm.h %s, %s, one thread\n", SSM_VERSION_STRING, sizeof(ssm_real) == 8 ? "double" : "float");
    printf("compiler %s, %s\n%s\n\n", BENCH_COMPILER, BENCH_FLAGS, model);
}

int main(int argc, char **argv)
{
    size_t len = 2048, dim = 1536, states = 16, model = 768, block_len = 64;
    int i;
    for (i = 1; i < argc; ++i) {
        if (!strcmp(argv[i], "--check")) check_only = 1;
        else if (!strcmp(argv[i], "--len") && i + 1 < argc) len = (size_t)strtoul(argv[++i], NULL, 10);
        else len = 0;
    }
    if (len == 0) {
        fprintf(stderr, "usage: bench [--len N] [--check]\n");
        return 2;
    }
    if (check_only) {
        len = 80;
        dim = 37;
        states = 5;
        model = 24;
    } else {
        print_machine();
        printf("ns per element: a scan's is step x channel x state, a convolution's step x channel x tap,\n");
        printf("a linear's row x in x out, a block's step x inner channel x state\n\n");
        printf("%-16s %-34s %15s  %15s\n", "", "", "ssm.h", "plain loop");
        printf("%-16s %-34s %7s %7s  %7s %7s\n", "", "", "least", "middle", "least", "middle");
    }
    bench_scan(len, dim, states);
    bench_scan_backward((len + 7) / 8, dim, states);
    bench_scan_step(dim, states);
    bench_conv(len, dim, 4);
    bench_linear(block_len, model, 4 * model);
    bench_linear(1, model, 4 * model);
    bench_block("Mamba forward", model, block_len, block_ours);
    bench_block("Mamba step", model, 1, block_step_ours);
    return failures > 0;
}
