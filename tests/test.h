/* test.h - what every test file uses. The runner (ssm_test.c) includes ssm.h with its implementation,
 * this file, and then every test_*.c, as one translation unit: tests may reach ssm__ names.
 *
 * A test is a function without arguments; it reports through CHECK and its relatives, which count
 * failures and go on. Tests do not print when they pass. */
#ifndef SSM_TEST_H
#define SSM_TEST_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef SSM_TEST_PTHREADS
#include <pthread.h>
#endif

/* With EVERY_ISA a test goes through all instruction sets by itself: `--isa NAME` leaves it out unless it is asked for. */
#define EVERY_ISA 1
typedef struct test_case {
    const char *name;
    void (*run)(void);
    int every_isa;
} test_case;

/* Tolerances differ by precision: TOL(1e-5, 1e-12) is the first in a float build. */
#ifdef SSM_DOUBLE
#define TOL(in_float, in_double) (in_double)
#else
#define TOL(in_float, in_double) (in_float)
#endif

/* To the memory sanitizer, bytes between the members of a struct are what nobody wrote: before a comparison of all. */
#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#define TEST_KNOWN(object) __msan_unpoison(&(object), sizeof(object))
#endif
#endif
#ifndef TEST_KNOWN
#define TEST_KNOWN(object) ((void)0)
#endif

/* The oracles of S4 and S5 compute in complex double, which tcc does not have. */
#if defined(__STDC_NO_COMPLEX__) || defined(__TINYC__)
#define TEST_NO_COMPLEX
#endif

#define TEST_COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ssm.h undefines its private macros: those that tests need, with its values. */
#define SSM__STRIP 16
#define SSM__PANEL 16
#define SSM__LINE_SHARED 512
#define SSM__FUSED test_is_fused()

/* Whether the scalar kernels are of the fused family: (1 + eps)^2 - (1 + 2 eps) is eps^2 there, and 0 in the plain. */
static int test_is_fused(void)
{
    const ssm_real eps = TOL(1.1920928955078125e-7f, 2.2204460492503131e-16);
    return ssm__v_fms(1 + eps, 1 + eps, 1 + 2 * eps) != 0;
}

static size_t test_failures;  /* of the running test */
static uint64_t test_seed = 1; /* --seed */

static void test_fail(const char *file, int line, const char *format, ...)
{
    va_list args;
    if (++test_failures > 5) return; /* the first few say enough */
    printf("    %s:%d: ", file, line);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

#define CHECK(condition)                                                   \
    do {                                                                   \
        if (!(condition)) test_fail(__FILE__, __LINE__, "%s", #condition); \
    } while (0)

#define CHECK_STATUS(expression, expected)                                                                    \
    do {                                                                                                      \
        ssm_status got_ = (expression);                                                                       \
        if (got_ != (expected))                                                                               \
            test_fail(__FILE__, __LINE__, "%s: %s, expected %s", #expression, ssm_status_string(got_), #expected); \
    } while (0)

#define CHECK_OK(expression) CHECK_STATUS(expression, SSM_OK)

/* |got - want| <= tolerance * (largest |want|, or 1e-3 if that is less) for every element. */
#define CHECK_CLOSE(got, want, count, tolerance) \
    test_close(__FILE__, __LINE__, #got, (got), (want), (count), (tolerance))

static void test_close(const char *file, int line, const char *what, const ssm_real *got, const double *want,
                       size_t count, double tolerance)
{
    double scale = 1e-3, worst = 0;
    size_t i, at = 0;
    for (i = 0; i < count; ++i)
        if (fabs(want[i]) > scale) scale = fabs(want[i]);
    for (i = 0; i < count; ++i) {
        double error = fabs((double)got[i] - want[i]);
        if (!(error <= worst)) { /* NaN counts as worst */
            worst = error;
            at = i;
            if (error != error) break;
        }
    }
    if (!(worst <= tolerance * scale))
        test_fail(file, line, "%s[%lu] = %.9g, expected %.9g (error %.3g of %.3g allowed)", what, (unsigned long)at,
                  (double)got[at], want[at], worst, tolerance * scale);
}

/* The same bits, element by element (NaN payloads and signs of zero included). */
#define CHECK_SAME(a, b, count) test_same(__FILE__, __LINE__, #a " and " #b, (a), (b), (count))

static void test_same(const char *file, int line, const char *what, const ssm_real *a, const ssm_real *b, size_t count)
{
    size_t i;
    for (i = 0; i < count; ++i) {
        if (memcmp(a + i, b + i, sizeof *a) == 0) continue;
        test_fail(file, line, "%s differ at %lu of %lu: %.9g, %.9g", what, (unsigned long)i, (unsigned long)count,
                  (double)a[i], (double)b[i]);
        return;
    }
}

/* Memory of exactly `bytes`, filled with garbage, `misalign` bytes off the alignment of malloc, with
 * canaries before and after it, which test_free checks. Under a sanitizer there is nothing after it,
 * so that the sanitizer sees every access past the end. */
#define TEST_HEAD 64
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(TEST_SANITIZED)
static const size_t test_tail = 0;
#else
static const size_t test_tail = 64;
#endif

static void *test_alloc(size_t bytes, size_t misalign)
{
    const size_t head = TEST_HEAD + misalign;
    unsigned char *base = (unsigned char *)malloc(head + bytes + test_tail);
    if (!base) {
        printf("out of memory\n");
        exit(2);
    }
    memset(base, 0xa5, head);
    memcpy(base, &bytes, sizeof bytes);
    memset(base + head, 0x5a, bytes);
    memset(base + head + bytes, 0xa5, test_tail);
    return base + head;
}

static void test_free(void *block, size_t misalign)
{
    const size_t head = TEST_HEAD + misalign;
    unsigned char *base = (unsigned char *)block - head;
    size_t bytes, i, bad = 0;
    memcpy(&bytes, base, sizeof bytes);
    for (i = sizeof bytes; i < head; ++i) bad += base[i] != 0xa5;
    for (i = 0; i < test_tail; ++i) bad += base[head + bytes + i] != 0xa5;
    if (bad) test_fail(__FILE__, __LINE__, "write outside a block of %lu bytes", (unsigned long)bytes);
    free(base);
}

/* `count` reals, zero or random normal times scale. Free with test_free(p, 0). */
static ssm_real *test_zeros(size_t count)
{
    ssm_real *p = (ssm_real *)test_alloc(count * sizeof(ssm_real), 0);
    size_t i;
    for (i = 0; i < count; ++i) p[i] = 0;
    return p;
}

/* One of 4096 draws of ssm_rng_normal, in a tenth of its time: half of what the runner took went into its logarithms. */
static ssm_real test_draw(ssm_rng *rng)
{
    static ssm_real draws[4096];
    static int drawn;
    if (!drawn) {
        ssm_rng own = {4096};
        size_t i;
        for (i = 0; i < TEST_COUNT(draws); ++i) draws[i] = ssm_rng_normal(&own);
        drawn = 1;
    }
    return draws[ssm_rng_next(rng) >> 52];
}

static ssm_real *test_normal(ssm_rng *rng, size_t count, double scale)
{
    ssm_real *p = (ssm_real *)test_alloc(count * sizeof(ssm_real), 0);
    size_t i;
    for (i = 0; i < count; ++i) p[i] = (ssm_real)scale * test_draw(rng);
    return p;
}

static ssm_real *test_copy(const ssm_real *from, size_t count)
{
    ssm_real *p = (ssm_real *)test_alloc(count * sizeof(ssm_real), 0);
    size_t i;
    for (i = 0; i < count; ++i) p[i] = from[i];
    return p;
}

static double *test_doubles(const ssm_real *from, size_t count)
{
    double *p = (double *)test_alloc(count * sizeof *p, 0);
    size_t i;
    for (i = 0; i < count; ++i) p[i] = (double)from[i];
    return p;
}

/* Golden doubles as reals. */
static ssm_real *test_reals(const double *from, size_t count)
{
    ssm_real *p = (ssm_real *)test_alloc(count * sizeof(ssm_real), 0);
    size_t i;
    for (i = 0; i < count; ++i) p[i] = (ssm_real)from[i];
    return p;
}

/* Random numbers of one test: by --seed, and apart from those of the others. */
static ssm_rng test_rng(uint64_t salt)
{
    ssm_rng rng;
    rng.state = test_seed * 1000 + salt;
    return rng;
}

/* `batch` dense sequences of `len` steps. */
static ssm_seqs test_seqs(size_t batch, size_t len)
{
    ssm_seqs seqs = {0};
    seqs.batch = batch;
    seqs.len = len;
    return seqs;
}

/* For oracles. */
static double test_softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

static double test_silu(double x)
{
    return x / (1 + exp(-x));
}

/* A host program's parallel loop: `threads` of them, each taking every threads-th task, last threads
 * and last tasks first. One after the other in this build, so that a result which depends on the order
 * shows; with SSM_TEST_PTHREADS (the thread sanitizer's build of `make check`) really side by side. */
typedef struct test_pool {
    size_t threads;
    size_t tasks; /* run so far */
} test_pool;

typedef struct test_worker {
    size_t first, threads, tasks;
    void (*task)(void *context, size_t index);
    void *context;
} test_worker;

static void *test_work(void *arg)
{
    const test_worker *w = (const test_worker *)arg;
    size_t i;
    for (i = w->tasks; i-- > 0;)
        if (i % w->threads == w->first) w->task(w->context, i);
    return NULL;
}

static void test_pool_run(void *pool, size_t tasks, void (*task)(void *context, size_t index), void *context)
{
    test_pool *p = (test_pool *)pool;
    test_worker worker[8];
    size_t i;
#ifdef SSM_TEST_PTHREADS
    pthread_t thread[8];
#endif
    p->tasks += tasks;
    for (i = p->threads; i-- > 0;) {
        worker[i].first = i;
        worker[i].threads = p->threads;
        worker[i].tasks = tasks;
        worker[i].task = task;
        worker[i].context = context;
#ifdef SSM_TEST_PTHREADS
        if (pthread_create(&thread[i], NULL, test_work, &worker[i])) exit(2);
    }
    for (i = 0; i < p->threads; ++i) {
        pthread_join(thread[i], NULL);
#else
        test_work(&worker[i]);
#endif
    }
}

/* A loss to differentiate: a function of doubles that it reads through `context`. */
typedef double (*test_loss)(void *context);

/* Fourth-order difference quotient of a loss along x + h direction: truncation is O(h^4), and rounding
 * 1e-16 loss / h. Between h = 1e-4 and 2e-4 both stay near 1e-10 for the losses here. */
static double test_slope(test_loss loss, void *context, double *x, const double *direction, size_t count, double h)
{
    static const double steps[4] = {-2, -1, 1, 2}, weights[4] = {1, -8, 8, -1};
    double *at = (double *)test_alloc(count * sizeof *at, 0), slope = 0;
    size_t i, k;
    memcpy(at, x, count * sizeof *at);
    for (k = 0; k < 4; ++k) {
        for (i = 0; i < count; ++i) x[i] = at[i] + steps[k] * h * direction[i];
        slope += weights[k] * loss(context) / (12 * h);
    }
    memcpy(x, at, count * sizeof *at);
    test_free(at, 0);
    return slope;
}

static double test_norm(const ssm_real *g, size_t count)
{
    double sum = 0;
    size_t i;
    for (i = 0; i < count; ++i) sum += (double)g[i] * (double)g[i];
    return sqrt(sum);
}

/* Compares `gradient` of x with differences along one dense random direction, which sees every
 * element, and along a few single elements, which see signs and places. */
static void test_gradient(const char *what, test_loss loss, void *context, double *x, const ssm_real *gradient,
                          size_t count, double h, double allowed, ssm_rng *rng)
{
    const size_t singles = count < 4 ? count : 4;
    double *direction = (double *)test_alloc(count * sizeof *direction, 0);
    size_t i, k;
    for (k = 0; count && k <= singles; ++k) {
        double got = 0, want;
        for (i = 0; i < count; ++i) direction[i] = k < singles ? 0 : (double)test_draw(rng) / sqrt((double)count);
        if (k < singles) direction[ssm_rng_next(rng) % count] = 1;
        for (i = 0; i < count; ++i) got += (double)gradient[i] * direction[i];
        want = test_slope(loss, context, x, direction, count, h);
        if (!(fabs(got - want) <= allowed))
            test_fail(__FILE__, __LINE__, "d%s: %.9g, differences give %.9g (error %.3g of %.3g allowed)", what, got,
                      want, fabs(got - want), allowed);
    }
    test_free(direction, 0);
}

#endif
