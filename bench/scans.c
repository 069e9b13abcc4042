/* scans.c - which scan algorithm, over length and channels.
 *
 *   scans [--quick]
 *
 * For each shape: nanoseconds per element (step x channel) of the sequential, chunked and Blelloch
 * scans of the linear recurrence, the best of them, and what AUTO takes, as a ratio to the best.
 * Built with OpenMP it uses OMP_NUM_THREADS threads. Minimum of several runs; every result is
 * compared with the sequential one before it is timed. */
#define SSM_IMPLEMENTATION
#include "../ssm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef _OPENMP
#include <omp.h>
#endif

static double now(void)
{
#ifdef _OPENMP
    return omp_get_wtime();
#else
    return (double)clock() / CLOCKS_PER_SEC;
#endif
}

static void *get(size_t bytes)
{
    void *p = calloc(bytes + 1, 1);
    if (!p) exit(2);
    return p;
}

typedef struct problem {
    ssm_linear_scan s;
    size_t count;
    ssm_real *a, *b, *h, *want;
} problem;

static void problem_open(problem *p, size_t len, size_t dim)
{
    ssm_rng rng = {1};
    size_t i;
    memset(p, 0, sizeof *p);
    p->count = len * dim;
    p->a = (ssm_real *)get(p->count * sizeof(ssm_real));
    p->b = (ssm_real *)get(p->count * sizeof(ssm_real));
    p->h = (ssm_real *)get(p->count * sizeof(ssm_real));
    p->want = (ssm_real *)get(p->count * sizeof(ssm_real));
    for (i = 0; i < p->count; ++i) {
        p->a[i] = 1 - (ssm_real)0.1 * ssm_rng_uniform(&rng); /* as in a state space model; no subnormals */
        p->b[i] = ssm_rng_uniform(&rng) - (ssm_real)0.5;
    }
    p->s.batch = 1;
    p->s.len = len;
    p->s.dim = dim;
    p->s.a = ssm_in_btc(p->a, len, dim);
    p->s.b = ssm_in_btc(p->b, len, dim);
    p->s.h = ssm_out_like(p->h, p->s.a);
}

static void problem_close(problem *p)
{
    free(p->a);
    free(p->b);
    free(p->h);
    free(p->want);
}

static double largest_difference(const ssm_real *a, const ssm_real *b, size_t count)
{
    double worst = 0;
    size_t i;
    for (i = 0; i < count; ++i)
        if (fabs((double)(a[i] - b[i])) > worst) worst = fabs((double)(a[i] - b[i]));
    return worst;
}

static double run(const problem *p, ssm_memory work, size_t repeats)
{
    const double begin = now();
    size_t i;
    for (i = 0; i < repeats; ++i)
        if (ssm_linear_scan_forward(&p->s, work) != SSM_OK) exit(2);
    return (now() - begin) / (double)repeats;
}

/* Minimum seconds of one run for each algorithm, measured in turns. */
static void measure(problem *p, double best[4])
{
    static const ssm_scan scans[4] = {SSM_SCAN_AUTO, SSM_SCAN_SEQUENTIAL, SSM_SCAN_CHUNKED, SSM_SCAN_BLELLOCH};
    ssm_memory work[4];
    ssm_sizes need;
    const size_t repeats = 1 + 400000 / p->count;
    size_t i, round;
    for (i = 0; i < 4; ++i) {
        p->s.scan = scans[i];
        if (ssm_linear_scan_sizes(&p->s, &need) != SSM_OK) exit(2);
        work[i] = ssm_memory_of(get(need.work), need.work);
        run(p, work[i], 1);
        if (i == 1) memcpy(p->want, p->h, p->count * sizeof *p->h);
        if (i > 1 && largest_difference(p->h, p->want, p->count) > 1e-4) {
            printf("results differ\n");
            exit(1);
        }
        best[i] = 1e9;
    }
    for (round = 0; round < 8; ++round) { /* in turns, each algorithm after every other one */
        size_t turn;
        for (turn = 0; turn < 4; ++turn) {
            double seconds;
            i = round % 2 ? (turn + round / 2) % 4 : (3 - turn + round / 2) % 4;
            p->s.scan = scans[i];
            run(p, work[i], 1); /* the caches as this algorithm leaves them, not the one before */
            seconds = run(p, work[i], repeats);
            if (seconds < best[i]) best[i] = seconds;
        }
    }
    for (i = 0; i < 4; ++i) free(work[i].data);
}

int main(int argc, char **argv)
{
    const int quick = argc > 1 && !strcmp(argv[1], "--quick");
    static const size_t dims[] = {1, 2, 4, 8, 16, 64, 512, 4096};
    static const size_t lens[] = {1, 16, 128, 1024, 16384, 131072, 1048576};
    double worst = 0;
    size_t d, l;
#ifdef _OPENMP
    printf("linear scan, float, OpenMP, %d threads; ns per element\n", omp_get_max_threads());
#else
    printf("linear scan, float, one thread; ns per element\n");
#endif
    printf("%9s %8s %11s %8s %9s   %s\n", "channels", "length", "sequential", "chunked", "Blelloch", "AUTO / best");
    for (d = 0; d < sizeof dims / sizeof dims[0]; ++d) {
        for (l = 0; l < sizeof lens / sizeof lens[0]; ++l) {
            double t[4], best;
            problem p;
            if (dims[d] * lens[l] > (quick ? 200000u : 4200000u)) continue;
            problem_open(&p, lens[l], dims[d]);
            measure(&p, t);
            best = t[1] < t[2] ? t[1] : t[2];
            best = t[3] < best ? t[3] : best;
            if (t[0] / best > worst) worst = t[0] / best;
            printf("%9lu %8lu %11.2f %8.2f %9.2f   %.2f\n", (unsigned long)dims[d], (unsigned long)lens[l],
                   1e9 * t[1] / (double)p.count, 1e9 * t[2] / (double)p.count, 1e9 * t[3] / (double)p.count,
                   t[0] / best);
            fflush(stdout);
            problem_close(&p);
        }
    }
    printf("worst AUTO / best: %.2f\n", worst);
    return 0;
}
