/* bench.c - how long the kernels take, next to the loops a user would write.
 *
 *   bench [--len N] [--check]
 *
 * Each kernel is first compared with its plain loop (libm, no blocking, no packing), then both are
 * timed on one thread: the smallest and the middle of several repeats, in nanoseconds per element.
 * --len is the length of the scans, 2048 by default; --check only compares, on small shapes.
 * Beside each stands how much of the machine it uses, measured in the same run: of the multiply-adds that vector
 * registers alone can do (an exponential counts as 8, a scan's step and state as 11, what its adjoint replays and
 * adds as 17), and of the bytes that come from memory. The larger says which limit is near; a working set that stays in
 * the caches may use more than all of the memory's.
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
#define REAL_BYTES ((double)sizeof(ssm_real))

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

/* The same of complex A, B, C and h, (re, im) pairs, each of which stands for a conjugate pair. */
static void plain_scan_pairs(size_t len, size_t dim, size_t states, const ssm_real *u, const ssm_real *delta,
                             const ssm_real *A, const ssm_real *B, const ssm_real *C, const ssm_real *D, ssm_real *h,
                             ssm_real *y, ssm_real *keep)
{
    size_t t, c, n;
    for (t = 0; t < len; ++t) {
        for (c = 0; c < dim; ++c) {
            const ssm_real dt = plain_softplus(delta[t * dim + c]), e = dt * u[t * dim + c];
            ssm_real sum = 0;
            for (n = 0; n < states; ++n) {
                const ssm_real *An = A + 2 * (c * states + n), *Bn = B + 2 * (t * states + n), *Cn = C + 2 * (t * states + n);
                const ssm_real size = REAL(exp)(dt * An[0]), re = size * REAL(cos)(dt * An[1]);
                const ssm_real im = size * REAL(sin)(dt * An[1]);
                ssm_real *s = h + 2 * (c * states + n);
                const ssm_real next = re * s[0] - im * s[1] + e * Bn[0];
                s[1] = re * s[1] + im * s[0] + e * Bn[1];
                s[0] = next;
                sum += Cn[0] * s[0] - Cn[1] * s[1];
                if (keep) memcpy(keep + 2 * ((t * dim + c) * states + n), s, 2 * sizeof *s);
            }
            y[t * dim + c] = 2 * sum + D[c] * u[t * dim + c];
        }
    }
}

/* Its gradients: d/dRe + i d/dIm. */
static void plain_scan_pairs_backward(size_t len, size_t dim, size_t states, const ssm_real *u, const ssm_real *delta,
                                      const ssm_real *const coef[4], const ssm_real *keep, const ssm_real *dy,
                                      ssm_real *g, ssm_real *const out[6])
{
    static const ssm_real zero[2] = {0, 0};
    size_t t, c, n;
    for (t = len; t-- > 0;) {
        for (c = 0; c < dim; ++c) {
            const size_t at = t * dim + c;
            const ssm_real dt = plain_softplus(delta[at]), x = u[at], twice = 2 * dy[at];
            ssm_real ddt = 0, drive = 0;
            for (n = 0; n < states; ++n) {
                const size_t k = 2 * (c * states + n), r = 2 * (t * states + n);
                const ssm_real *A = coef[0] + k, *B = coef[1] + r, *C = coef[2] + r, *after = keep + 2 * (at * states + n);
                const ssm_real *before = t ? keep + 2 * ((at - dim) * states + n) : zero;
                const ssm_real size = REAL(exp)(dt * A[0]), re = size * REAL(cos)(dt * A[1]);
                const ssm_real im = size * REAL(sin)(dt * A[1]);
                ssm_real *s = g + k, *dA = out[2] + k, *dB = out[3] + r, *dC = out[4] + r, q[2];
                s[0] += twice * C[0], s[1] -= twice * C[1];
                dC[0] += twice * after[0], dC[1] -= twice * after[1];
                dB[0] += dt * x * s[0], dB[1] += dt * x * s[1];
                drive += B[0] * s[0] + B[1] * s[1];
                q[0] = re * s[0] + im * s[1], q[1] = re * s[1] - im * s[0];
                s[0] = q[0], s[1] = q[1];
                q[0] = before[0] * s[0] + before[1] * s[1], q[1] = before[0] * s[1] - before[1] * s[0];
                dA[0] += dt * q[0], dA[1] += dt * q[1];
                ddt += A[0] * q[0] + A[1] * q[1];
            }
            out[0][at] += dt * drive + dy[at] * coef[3][c];
            out[5][c] += dy[at] * x;
            out[1][at] += (ddt + drive * x) * plain_sigmoid(delta[at]);
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

/* ---- what the machine can do ------------------------------------------------------------------ */

enum { CHAINS = 12, PEAK_LOOPS = 100000, STREAM_BYTES = 1 << 27 };

static double peak, bandwidth; /* multiply-adds of an ssm_real and bytes, each in a nanosecond */

/* CHAINS independent sums of products in registers: two units of latency 4 need 8. `vector`: a type of `lanes`. */
#define PEAK(name, attribute, vector, lanes, set, add_product)                                          \
    attribute static double peak_##name(void)                                                           \
    {                                                                                                   \
        const vector m = set((ssm_real)0.5);                                                            \
        vector a = m, b = m, c = m, d = m, e = m, f = m, g = m, h = m, k = m, l = m, n = m, o = m;      \
        volatile vector sink;                                                                           \
        const double begin = seconds();                                                                 \
        size_t i;                                                                                       \
        for (i = 0; i < PEAK_LOOPS; ++i) {                                                              \
            a = add_product(a, m, m), b = add_product(b, m, m), c = add_product(c, m, m);               \
            d = add_product(d, m, m), e = add_product(e, m, m), f = add_product(f, m, m);               \
            g = add_product(g, m, m), h = add_product(h, m, m), k = add_product(k, m, m);               \
            l = add_product(l, m, m), n = add_product(n, m, m), o = add_product(o, m, m);               \
        }                                                                                               \
        sink = a, sink = b, sink = c, sink = d, sink = e, sink = f;                                     \
        sink = g, sink = h, sink = k, sink = l, sink = n, sink = o;                                     \
        (void)sink;                                                                                     \
        return (double)PEAK_LOOPS * CHAINS * lanes / (1e9 * (seconds() - begin));                       \
    }
#define PLAIN_SET(x) (x)
#define PLAIN_ADD(a, b, c) ((a) * (b) + (c))
PEAK(scalar, , ssm_real, 1, PLAIN_SET, PLAIN_ADD)
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define TARGET(x) __attribute__((target(x)))
#ifdef SSM_DOUBLE
#define SSE2_ADD(a, b, c) _mm_add_pd(_mm_mul_pd(a, b), c)
PEAK(sse2, , __m128d, 2, _mm_set1_pd, SSE2_ADD)
PEAK(avx2, TARGET("avx2,fma"), __m256d, 4, _mm256_set1_pd, _mm256_fmadd_pd)
PEAK(avx512, TARGET("avx512f"), __m512d, 8, _mm512_set1_pd, _mm512_fmadd_pd)
#else
#define SSE2_ADD(a, b, c) _mm_add_ps(_mm_mul_ps(a, b), c)
PEAK(sse2, , __m128, 4, _mm_set1_ps, SSE2_ADD)
PEAK(avx2, TARGET("avx2,fma"), __m256, 8, _mm256_set1_ps, _mm256_fmadd_ps)
PEAK(avx512, TARGET("avx512f"), __m512, 16, _mm512_set1_ps, _mm512_fmadd_ps)
#endif
#elif defined(__aarch64__)
#include <arm_neon.h>
#define NEON_ADD(a, b, c) vfmaq(c, a, b)
#ifdef SSM_DOUBLE
#define vfmaq vfmaq_f64
PEAK(neon, , float64x2_t, 2, vdupq_n_f64, NEON_ADD)
#else
#define vfmaq vfmaq_f32
PEAK(neon, , float32x4_t, 4, vdupq_n_f32, NEON_ADD)
#endif
#endif

static double peak_of(ssm_isa isa)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (isa == SSM_ISA_AVX512) return peak_avx512();
    if (isa == SSM_ISA_AVX2) return peak_avx2();
    if (isa == SSM_ISA_SSE2) return peak_sse2();
#elif defined(__aarch64__)
    if (isa == SSM_ISA_NEON) return peak_neon();
#endif
    (void)isa;
    return peak_scalar();
}

/* Bytes read in a nanosecond, from more than the caches hold: eight streams of words. */
static double stream(const uint64_t *words, size_t count)
{
    static volatile uint64_t sink;
    uint64_t sum[8] = {0};
    const size_t part = count / 8 - 520; /* no power of two apart, where they would share the sets of a cache */
    const double begin = seconds();
    size_t i, k;
    for (i = 0; i < part; i += 8)
        for (k = 0; k < 8; ++k) {
            const uint64_t *w = words + k * part + i;
            sum[k] += (w[0] ^ w[1]) + (w[2] ^ w[3]) + (w[4] ^ w[5]) + (w[6] ^ w[7]);
        }
    for (k = 0; k < 8; ++k) sink += sum[k];
    (void)sink;
    return 64 * (double)part / (1e9 * (seconds() - begin));
}

static void measure_machine(void)
{
    uint64_t *words = (uint64_t *)get_memory(STREAM_BYTES);
    size_t i;
    for (i = 0; i < STREAM_BYTES / 8; ++i) words[i] = i;
    for (i = 0; i < REPEATS; ++i) {
        const double p = peak_of(ssm_isa_best()), b = stream(words, STREAM_BYTES / 8);
        if (p > peak) peak = p;
        if (b > bandwidth) bandwidth = b;
    }
    free(words);
    printf("%s: %.1f GFLOP/s of multiply-adds in registers, %.1f GB/s read from memory\n\n", ssm_isa_name(SSM_ISA_BEST),
           2 * peak, bandwidth);
}

/* products: multiply-adds, bytes: of all inputs and outputs; both for one element. */
static void report(const char *name, const char *shape, void (*ours)(void *), void (*plain)(void *), void *context,
                   double elements, double products, double bytes)
{
    timing a, b;
    if (check_only) {
        printf("ok   %s\n", name);
        return;
    }
    a = measure(ours, context, elements);
    b = measure(plain, context, elements);
    printf("%-16s %-34s %7.3f %7.3f  %7.2f %7.2f  %5.1fx  %4.0f %% %4.0f %%\n", name, shape, a.least, a.middle, b.least,
           b.middle, b.least / a.least, 100 * products / (a.least * peak), 100 * bytes / (a.least * bandwidth));
    fflush(stdout);
}

/* ---- selective scan ------------------------------------------------------------------------ */

typedef struct scan_case {
    size_t len, dim, states;
    size_t parts; /* 2: A, B, C and the state are complex */
    ssm_real *u, *delta, *A, *B, *C, *D, *dy;
    ssm_real *h, *y, *keep, *g;          /* of the plain loop */
    ssm_real *plain[6];                  /* du, ddelta, dA, dB, dC, dD */
    ssm_real *state, *out, *gradient[6]; /* ours */
    size_t count[6];
    ssm_selective_scan scan;
    ssm_selective_scan_grad grad;
    ssm_memory work;
} scan_case;

static void scan_open(scan_case *k, size_t len, size_t dim, size_t states, size_t parts, int backward)
{
    ssm_rng rng;
    ssm_sizes need;
    size_t i;
    memset(k, 0, sizeof *k);
    rng.state = 1;
    k->len = len;
    k->dim = dim;
    k->states = states;
    k->parts = parts;
    k->u = normal(&rng, len * dim, 0, 1);
    k->delta = normal(&rng, len * dim, -3, 1);
    k->A = zeros(parts * dim * states);
    for (i = 0; i < dim * states && parts == 1; ++i) k->A[i] = -(ssm_real)(i % states + 1);
    for (i = 0; i < dim * states && parts == 2; ++i) /* S4D-Lin */
        k->A[2 * i] = (ssm_real)-0.5, k->A[2 * i + 1] = (ssm_real)3.14159265 * (ssm_real)(i % states);
    k->B = normal(&rng, parts * len * states, 0, 1);
    k->C = normal(&rng, parts * len * states, 0, 1);
    k->D = normal(&rng, dim, 0, 1);
    k->h = zeros(parts * dim * states);
    k->y = zeros(len * dim);
    k->state = zeros(parts * dim * states);
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
    if (parts == 2) {
        k->scan.complex_A = 1;
        k->scan.A = ssm_in_pairs(k->scan.A);
        k->scan.B = ssm_in_pairs(k->scan.B);
        k->scan.C = ssm_in_pairs(k->scan.C);
        k->scan.h_last.chan *= 2;
        k->scan.h_last.state *= 2;
    }
    k->scan.y = ssm_out_like(k->out, k->scan.u);
    if (!backward) return;
    k->keep = zeros(parts * len * dim * states);
    k->g = zeros(parts * dim * states);
    k->dy = normal(&rng, len * dim, 0, 1);
    k->count[0] = k->count[1] = len * dim;
    k->count[2] = parts * dim * states;
    k->count[3] = k->count[4] = parts * len * states;
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
    k->work = ssm_memory_of(get_memory(need.work_backward), need.work_backward);
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
    free(k->work.data);
}

static void scan_ours(void *context)
{
    scan_case *k = (scan_case *)context;
    must(ssm_selective_scan_forward(&k->scan, ssm_memory_of(NULL, 0)));
}

static void scan_plain(void *context)
{
    scan_case *k = (scan_case *)context;
    memset(k->h, 0, k->parts * k->dim * k->states * sizeof(ssm_real));
    if (k->parts == 2) {
        plain_scan_pairs(k->len, k->dim, k->states, k->u, k->delta, k->A, k->B, k->C, k->D, k->h, k->y, k->keep);
        return;
    }
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
    must(ssm_selective_scan_backward(&k->scan, &k->grad, k->work));
}

/* Forward again as well: so does ours. */
static void backward_plain(void *context)
{
    scan_case *k = (scan_case *)context;
    const ssm_real *const coef[4] = {k->A, k->B, k->C, k->D};
    scan_plain(k);
    memset(k->g, 0, k->parts * k->dim * k->states * sizeof(ssm_real));
    if (k->parts == 2) {
        plain_scan_pairs_backward(k->len, k->dim, k->states, k->u, k->delta, coef, k->keep, k->dy, k->g, k->plain);
        return;
    }
    plain_scan_backward(k->len, k->dim, k->states, k->u, k->delta, k->A, k->B, k->C, k->D, k->keep, k->dy, k->g,
                        k->plain[0], k->plain[1], k->plain[2], k->plain[3], k->plain[4], k->plain[5]);
}

/* parts: 2 of complex A, a state of which takes a sine and a cosine too. */
static void bench_scan(size_t len, size_t dim, size_t states, size_t parts)
{
    const char *name = parts == 2 ? "complex scan" : "scan forward";
    char shape[NAME];
    scan_case k;
    scan_open(&k, len, dim, states, parts, 0);
    scan_ours(&k);
    scan_plain(&k);
    agree(name, k.out, k.y, len * dim);
    sprintf(shape, "D=%lu N=%lu L=%lu", (unsigned long)dim, (unsigned long)states, (unsigned long)len);
    report(name, shape, scan_ours, scan_plain, &k, (double)(len * dim * states), parts == 2 ? 41 : 11,
           3 * REAL_BYTES / (double)states); /* u, delta, y */
    scan_close(&k);
}

static void bench_scan_step(size_t dim, size_t states)
{
    char shape[NAME];
    scan_case k;
    size_t i;
    scan_open(&k, 1, dim, states, 1, 0);
    for (i = 0; i < 3; ++i) {
        step_ours(&k);
        step_plain(&k);
    }
    agree("scan step", k.out, k.y, dim);
    sprintf(shape, "D=%lu N=%lu", (unsigned long)dim, (unsigned long)states);
    report("scan step", shape, step_ours, step_plain, &k, (double)(dim * states), 11,
           3 * REAL_BYTES); /* A, and the state in and out */
    scan_close(&k);
}

static void bench_scan_backward(size_t len, size_t dim, size_t states, size_t parts)
{
    static const char *const name[6] = {"du", "ddelta", "dA", "dB", "dC", "dD"};
    char shape[NAME];
    scan_case k;
    size_t i;
    scan_open(&k, len, dim, states, parts, 1);
    backward_ours(&k);
    backward_plain(&k);
    for (i = 0; i < 6; ++i) agree(name[i], k.gradient[i], k.plain[i], k.count[i]);
    sprintf(shape, "D=%lu N=%lu L=%lu", (unsigned long)dim, (unsigned long)states, (unsigned long)len);
    report(parts == 2 ? "complex backward" : "scan backward", shape, backward_ours, backward_plain, &k,
           (double)(len * dim * states), parts == 2 ? 61 : 17,
           5 * REAL_BYTES / (double)states); /* u, delta, dy, du, ddelta */
    scan_close(&k);
}

/* ---- SSD, the scan of Mamba-2 ----------------------------------------------------------------- */

typedef struct ssd_case {
    ssm_ssd ssd;
    ssm_real *x, *delta, *A, *B, *C, *h, *y, *state, *out;
} ssd_case;

static void ssd_open(ssd_case *k, size_t len, size_t heads, size_t headdim, size_t states)
{
    const size_t dim = heads * headdim;
    ssm_rng rng;
    size_t i;
    memset(k, 0, sizeof *k);
    rng.state = 2;
    k->x = normal(&rng, len * dim, 0, 1);
    k->delta = normal(&rng, len * heads, -3, 1);
    k->A = zeros(heads);
    for (i = 0; i < heads; ++i) k->A[i] = -(ssm_real)(i % 16 + 1);
    k->B = normal(&rng, len * states, 0, 1);
    k->C = normal(&rng, len * states, 0, 1);
    k->h = zeros(dim * states);
    k->y = zeros(len * dim);
    k->state = zeros(dim * states);
    k->out = zeros(len * dim);
    k->ssd.batch = 1;
    k->ssd.len = len;
    k->ssd.heads = heads;
    k->ssd.headdim = headdim;
    k->ssd.d_state = states;
    k->ssd.delta_softplus = 1;
    k->ssd.x = ssm_in_btc(k->x, len, dim);
    k->ssd.delta = ssm_in_btc(k->delta, len, heads);
    k->ssd.A = ssm_in_c(k->A);
    k->ssd.B = ssm_in_btcn(k->B, len, 1, states);
    k->ssd.C = ssm_in_btcn(k->C, len, 1, states);
    k->ssd.h_last.data = k->state; /* the layer's order: [n][c] */
    k->ssd.h_last.chan = 1;
    k->ssd.h_last.state = (ptrdiff_t)dim;
    k->ssd.y = ssm_out_like(k->out, k->ssd.x);
}

static void ssd_close(ssd_case *k)
{
    free(k->x);
    free(k->delta);
    free(k->A);
    free(k->B);
    free(k->C);
    free(k->h);
    free(k->y);
    free(k->state);
    free(k->out);
}

static void ssd_ours(void *context)
{
    must(ssm_ssd_forward(&((ssd_case *)context)->ssd, ssm_memory_of(NULL, 0)));
}

/* State by [channel][n], so that the inner loop is over what lies together. */
static void ssd_plain(void *context)
{
    ssd_case *k = (ssd_case *)context;
    const size_t dim = k->ssd.heads * k->ssd.headdim, states = k->ssd.d_state;
    size_t t, c, n;
    memset(k->h, 0, dim * states * sizeof(ssm_real));
    for (t = 0; t < k->ssd.len; ++t) {
        const ssm_real *B = k->B + t * states, *C = k->C + t * states;
        for (c = 0; c < dim; ++c) {
            const size_t head = c / k->ssd.headdim;
            const ssm_real dt = plain_softplus(k->delta[t * k->ssd.heads + head]), a = REAL(exp)(dt * k->A[head]);
            const ssm_real e = dt * k->x[t * dim + c];
            ssm_real *h = k->h + c * states, sum = 0;
            for (n = 0; n < states; ++n) {
                h[n] = a * h[n] + e * B[n];
                sum += C[n] * h[n];
            }
            k->y[t * dim + c] = sum;
        }
    }
}

static void bench_ssd(size_t len, size_t heads, size_t headdim, size_t states)
{
    char shape[NAME];
    ssd_case k;
    ssd_open(&k, len, heads, headdim, states);
    ssd_ours(&k);
    ssd_plain(&k);
    agree("SSD forward", k.out, k.y, len * heads * headdim);
    sprintf(shape, "H=%lu P=%lu N=%lu L=%lu", (unsigned long)heads, (unsigned long)headdim, (unsigned long)states,
            (unsigned long)len);
    report("SSD forward", shape, ssd_ours, ssd_plain, &k, (double)(len * heads * headdim * states), 3,
           2 * REAL_BYTES / (double)states); /* x, y */
    ssd_close(&k);
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
    report("conv", shape, conv_ours, conv_plain, &k, (double)(len * dim * width),
           1 + 12 / (double)width, 2 * REAL_BYTES / (double)width); /* SiLU: an exponential, a division and a product */
    op_close(&k);
}

static void linear_ours(void *context)
{
    op_case *k = (op_case *)context;
    must(ssm_linear_forward(&k->linear, ssm_rows_of(k->x, (ptrdiff_t)k->in), ssm_rows_out_of(k->y, (ptrdiff_t)k->out),
                            k->rows));
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
    must(ssm_linear_pack(&k.linear, ssm_memory_of(packed, bytes)));
    k.linear.packed = packed;
    linear_ours(&k);
    linear_plain(&k);
    agree("linear", k.y, k.plain_y, rows * out);
    sprintf(shape, "%lu -> %lu, %lu row%s", (unsigned long)in, (unsigned long)out, (unsigned long)rows,
            rows == 1 ? "" : "s");
    report("linear, packed", shape, linear_ours, linear_plain, &k, (double)(rows * in * out), 1,
           REAL_BYTES * (1 / (double)rows + 1 / (double)in + 1 / (double)out));
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
    if (!row->count) must(SSM_ERR_MISSING);
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
    must(ssm_mamba_bind(&k->mamba, &k->config, k->params, ssm_memory_of(k->bound, k->need.bound)));
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
    must(ssm_mamba_forward(&k->mamba, k->state, k->x, k->y, &k->seqs, ssm_memory_of(k->work, k->need.work)));
}

static void block_step_ours(void *context)
{
    block_case *k = (block_case *)context;
    must(ssm_mamba_step(&k->mamba, k->state, k->x, k->y, 1, ssm_memory_of(k->work, k->need.work)));
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
    { /* the scan, and the matrices, which are all that is read for one step */
        const double inner = (double)k.config.d_inner, wide = inner * (double)k.config.d_state;
        const double matrices = 3 * inner * (double)d_model +
                                inner * (2 * (double)k.config.dt_rank + 2 * (double)k.config.d_state);
        report(name, shape, ours, block_plain, &k, (double)len * wide, 11 + matrices / wide,
               REAL_BYTES * matrices / (wide * (double)len));
    }
    block_close(&k);
}

/* ---- Mamba-3 block ---------------------------------------------------------------------------- */

typedef struct block3_case {
    size_t len;
    ssm_mamba3_config config; /* resolved; SISO, one group */
    ssm_mamba3 block;
    ssm_seqs seqs;
    ssm_sizes need;
    ssm_real *params, *x, *y, *state;
    void *bound, *work;
    const ssm_real *in_proj, *dt_bias, *B_bias, *C_bias, *B_norm, *C_norm, *D, *out_proj;
    ssm_real *theta, *h, *k_last, *x_last, *in, *k, *q, *s, *plain_y; /* of the plain loops */
} block3_case;

static void block3_open(block3_case *k, size_t d_model, size_t len, size_t states, size_t headdim)
{
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = ssm_params_of(rows, SSM_PARAMS_MAX);
    size_t inner, heads;
    ssm_rng rng;
    memset(k, 0, sizeof *k);
    rng.state = 3;
    k->len = len;
    k->config.d_model = d_model;
    k->config.d_state = states;
    k->config.headdim = headdim;
    must(ssm_mamba3_config_resolve(&k->config, &k->config));
    k->seqs.batch = 1;
    k->seqs.len = len;
    must(ssm_mamba3_sizes(&k->config, &k->seqs, &k->need));
    must(ssm_mamba3_params(&k->config, NULL, &table));
    k->params = (ssm_real *)get_memory(k->need.params);
    k->bound = get_memory(k->need.bound);
    k->state = (ssm_real *)get_memory(k->need.state);
    k->work = get_memory(k->need.work);
    must(ssm_mamba3_init(&k->config, k->params, 4));
    must(ssm_mamba3_bind(&k->block, &k->config, k->params, ssm_memory_of(k->bound, k->need.bound)));
    inner = k->config.d_inner;
    heads = inner / headdim;
    k->x = normal(&rng, len * d_model, 0, 1);
    k->y = zeros(len * d_model);
    k->plain_y = zeros(len * d_model);
    k->in_proj = row_of(&table, k->params, "in_proj.weight");
    k->dt_bias = row_of(&table, k->params, "dt_bias");
    k->B_bias = row_of(&table, k->params, "B_bias");
    k->C_bias = row_of(&table, k->params, "C_bias");
    k->B_norm = row_of(&table, k->params, "B_norm.weight");
    k->C_norm = row_of(&table, k->params, "C_norm.weight");
    k->D = row_of(&table, k->params, "D");
    k->out_proj = row_of(&table, k->params, "out_proj.weight");
    k->theta = zeros(heads * states);
    k->h = zeros(inner * states);
    k->k_last = zeros(heads * states);
    k->x_last = zeros(inner);
    k->in = zeros(2 * inner + 3 * states + 3 * heads);
    k->k = zeros(states);
    k->q = zeros(states);
    k->s = zeros(inner);
}

static void block3_close(block3_case *k)
{
    ssm_real *const all[] = {k->params, k->x,      k->y,  k->state, k->theta, k->h,      k->k_last,
                             k->x_last, k->in, k->k,  k->q,     k->s,     k->plain_y};
    size_t i;
    for (i = 0; i < sizeof all / sizeof all[0]; ++i) free(all[i]);
    free(k->bound);
    free(k->work);
}

static void block3_ours(void *context)
{
    block3_case *k = (block3_case *)context;
    must(ssm_mamba3_forward(&k->block, k->state, k->x, k->y, &k->seqs, ssm_memory_of(k->work, k->need.work)));
}

static void block3_step_ours(void *context)
{
    block3_case *k = (block3_case *)context;
    must(ssm_mamba3_step(&k->block, k->state, k->x, k->y, 1, ssm_memory_of(k->work, k->need.work)));
}

/* RMSNorm, bias, and pairs turned. */
static void plain_turn(size_t states, size_t angles, const ssm_real *x, const ssm_real *weight, const ssm_real *bias,
                       const ssm_real *theta, ssm_real *y)
{
    ssm_real square = 0, scale;
    size_t n;
    for (n = 0; n < states; ++n) square += x[n] * x[n];
    scale = 1 / REAL(sqrt)(square / (ssm_real)states + (ssm_real)1e-5);
    for (n = 0; n < states; ++n) y[n] = x[n] * scale * weight[n] + bias[n];
    for (n = 0; n < angles; ++n) {
        const ssm_real c = REAL(cos)(theta[n]), s = REAL(sin)(theta[n]), a = y[2 * n], b = y[2 * n + 1];
        y[2 * n] = a * c - b * s;
        y[2 * n + 1] = a * s + b * c;
    }
}

/* State by [channel][n]. */
static void block3_plain(void *context)
{
    block3_case *k = (block3_case *)context;
    const size_t model = k->config.d_model, inner = k->config.d_inner, P = k->config.headdim, heads = inner / P;
    const size_t states = k->config.d_state, angles = states / 4;
    const ssm_real *z = k->in, *x = z + inner, *B = x + inner, *C = B + states, *dt = C + states, *angle = dt + 3 * heads;
    size_t t, j, c, n;
    for (t = 0; t < k->len; ++t) {
        plain_linear(1, model, 2 * inner + 2 * states + 3 * heads + angles, k->in_proj, NULL, k->x + t * model, model, k->in);
        for (j = 0; j < heads; ++j) {
            const ssm_real delta = plain_softplus(dt[j] + k->dt_bias[j]), a = dt[heads + j];
            const ssm_real f = a < 0 ? 1 / (1 - a) : 1 + a, alpha = REAL(exp)(-delta * f);
            const ssm_real lambda = plain_sigmoid(dt[2 * heads + j]);
            const ssm_real beta = (1 - lambda) * delta * alpha, gamma = lambda * delta;
            ssm_real *theta = k->theta + j * angles, *last = k->k_last + j * states;
            for (n = 0; n < angles; ++n) {
                theta[n] += (ssm_real)3.14159265358979 * REAL(tanh)(angle[n]) * delta;
                theta[n] -= (ssm_real)6.28318530717959 * REAL(floor)(theta[n] / (ssm_real)6.28318530717959);
            }
            plain_turn(states, angles, B, k->B_norm, k->B_bias + j * states, theta, k->k);
            plain_turn(states, angles, C, k->C_norm, k->C_bias + j * states, theta, k->q);
            for (c = j * P; c < (j + 1) * P; ++c) {
                const ssm_real before = beta * k->x_last[c], now = gamma * x[c];
                ssm_real *h = k->h + c * states, sum = k->D[j] * x[c];
                for (n = 0; n < states; ++n) {
                    h[n] = alpha * h[n] + before * last[n] + now * k->k[n];
                    sum += k->q[n] * h[n];
                }
                k->s[c] = sum * z[c] * plain_sigmoid(z[c]);
                k->x_last[c] = x[c];
            }
            memcpy(last, k->k, states * sizeof *last);
        }
        plain_linear(1, inner, model, k->out_proj, NULL, k->s, inner, k->plain_y + t * model);
    }
}

static void bench_block3(const char *name, size_t d_model, size_t len, size_t states, size_t headdim, void (*ours)(void *))
{
    char shape[NAME];
    block3_case k;
    block3_open(&k, d_model, len, states, headdim);
    memset(k.state, 0, k.need.state);
    ours(&k);
    block3_plain(&k);
    agree(name, k.y, k.plain_y, len * d_model);
    ours(&k); /* with a state that is no longer zero */
    block3_plain(&k);
    agree(name, k.y, k.plain_y, len * d_model);
    sprintf(shape, "M=%lu E=%lu N=%lu L=%lu", (unsigned long)d_model, (unsigned long)k.config.d_inner,
            (unsigned long)states, (unsigned long)len);
    { /* the recurrence, and the matrices, which are all that is read for one step */
        const double inner = (double)k.config.d_inner, wide = inner * (double)states;
        const double matrices = (double)(k.block.in_proj.out + k.config.d_inner) * (double)d_model;
        report(name, shape, ours, block3_plain, &k, (double)len * wide, 4 + matrices / wide,
               REAL_BYTES * matrices / (wide * (double)len));
    }
    block3_close(&k);
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
        measure_machine();
        printf("ns per element: a scan's is step x channel x state, a convolution's step x channel x tap,\n");
        printf("a linear's row x in x out, a block's step x inner channel x state\n\n");
        printf("%-16s %-34s %15s  %15s  %6s  %13s\n", "", "", "ssm.h", "plain loop", "", "of the machine");
        printf("%-16s %-34s %7s %7s  %7s %7s  %6s  %6s %6s\n", "", "", "least", "middle", "least", "middle", "", "FMA",
               "bytes");
    }
    bench_scan(len, dim, states, 1);
    bench_scan_backward((len + 7) / 8, dim, states, 1);
    bench_scan((len + 7) / 8, dim, states, 2);
    bench_scan_backward((len + 7) / 8, dim, states, 2);
    bench_scan_step(dim, states);
    bench_ssd((len + 3) / 4, 24, check_only ? 5 : 64, check_only ? 7 : 128);
    bench_conv(len, dim, 4);
    bench_linear(block_len, model, 4 * model);
    bench_linear(1, model, 4 * model);
    bench_block("Mamba forward", model, block_len, block_ours);
    bench_block("Mamba step", model, 1, block_step_ours);
    bench_block3("Mamba-3 forward", model, block_len, check_only ? 9 : 128, check_only ? 3 : 64, block3_ours);
    bench_block3("Mamba-3 step", check_only ? model : 128, 1, check_only ? 9 : 16, check_only ? 3 : 16, block3_step_ours);
    return failures > 0;
}
