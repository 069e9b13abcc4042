/* test_hippo.c - HiPPO-LegS: its diagonal form against the dense matrix, and the memory. Names: hippo/... */

static double hippo_q(size_t n)
{
    return sqrt(2.0 * (double)n + 1);
}

/* A + P P^T + I/2 is skew: entry (n, k). */
static double hippo_skew(size_t n, size_t k)
{
    return n == k ? 0 : (n > k ? -0.5 : 0.5) * hippo_q(n) * hippo_q(k);
}

/* S v = i w v for every eigenvector, |v| = 1, q . v = 1 / |v before scaling|. */
static void hippo_eigenvectors(void)
{
    static const size_t sizes[] = {1, 2, 3, 4, 5, 16, 33, 64, 128};
    double v[128][2], last;
    size_t i, j, n, k;
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
        const size_t N = sizes[i];
        const double scale = (double)(N * N);
        for (j = 0, last = -1e300; j < N; ++j) {
            const ssm__hippo h = ssm__hippo_open(N, j);
            double r[2] = {0.5, 0}, norm = 0, dot[2] = {0, 0}, worst = 0;
            CHECK(h.omega > last); /* ascending, all different */
            last = h.omega;
            for (n = 0; n < N; ++n) {
                ssm__hippo_next(&h, n, r, v[n]);
                norm += v[n][0] * v[n][0] + v[n][1] * v[n][1];
                dot[0] += hippo_q(n) * v[n][0];
                dot[1] += hippo_q(n) * v[n][1];
            }
            for (n = 0; n < N; ++n) {
                double re = h.omega * v[n][1], im = -h.omega * v[n][0];
                for (k = 0; k < N; ++k) {
                    re += hippo_skew(n, k) * v[k][0];
                    im += hippo_skew(n, k) * v[k][1];
                }
                if (fabs(re) + fabs(im) > worst) worst = fabs(re) + fabs(im);
            }
            if (worst > 1e-14 * scale || fabs(norm - 1) > 1e-12 || fabs(dot[0] * h.norm - 1) > 1e-11 ||
                fabs(dot[1] * h.norm) > 1e-11)
                test_fail(__FILE__, __LINE__, "N %lu, j %lu: residual %g, norm %g, q.v %g %g", (unsigned long)N,
                          (unsigned long)j, worst, norm, dot[0] * h.norm, dot[1] * h.norm);
        }
    }
}

/* Solves (I + hA) y = x by forward substitution: A is lower triangular. */
static void hippo_dense_step(double *c, size_t N, size_t k, double u)
{
    const double h = 0.5 / (double)k;
    double right[32];
    size_t n, m;
    for (n = 0; n < N; ++n) {
        right[n] = c[n] * (1 - h * ((double)n + 1)) + hippo_q(n) * u / (double)k;
        for (m = 0; m < n; ++m) right[n] -= h * hippo_q(n) * hippo_q(m) * c[m];
    }
    for (n = 0; n < N; ++n) {
        for (m = 0; m < n; ++m) right[n] -= h * hippo_q(n) * hippo_q(m) * c[m];
        c[n] = right[n] / (1 + h * ((double)n + 1));
    }
}

static void hippo_memory(void)
{
    enum { N = 32 };
    double want[N] = {0};
    ssm_real *c = test_zeros(N);
    ssm_rng rng;
    size_t k;
    rng.state = test_seed;
    for (k = 1; k <= 300; ++k) {
        const ssm_real u = ssm_rng_normal(&rng);
        CHECK_OK(ssm_hippo_update(c, N, k, u));
        hippo_dense_step(want, N, k, (double)u);
        CHECK_CLOSE(c, want, N, TOL(2e-5, 1e-12));
    }
    test_free(c, 0);
}

/* A parabola is a polynomial: it is remembered, whole, to the accuracy of the bilinear step. */
static void hippo_recalls(void)
{
    enum { N = 6, K = 4000 };
    ssm_real c[N] = {0};
    size_t k;
    for (k = 1; k <= K; ++k) {
        const double t = ((double)k - 0.5) / (double)K;
        CHECK_OK(ssm_hippo_update(c, N, k, (ssm_real)(1 + t - 3 * t * t)));
    }
    for (k = 0; k <= 10; ++k) {
        const double t = (double)k / 10, want = 1 + t - 3 * t * t;
        ssm_real got;
        CHECK_OK(ssm_hippo_recall(c, N, (ssm_real)t, &got));
        CHECK_CLOSE(&got, &want, 1, 2e-2);
    }
}

static void hippo_errors(void)
{
    ssm_real c[2] = {3, 4}, u = 5;
    CHECK_STATUS(ssm_hippo_update(NULL, 2, 1, 1), SSM_ERR_NULL);
    CHECK_STATUS(ssm_hippo_update(c, 0, 1, 1), SSM_ERR_CONFIG);
    CHECK_STATUS(ssm_hippo_update(c, 2, 0, 1), SSM_ERR_CONFIG);
    CHECK_STATUS(ssm_hippo_recall(NULL, 2, 1, &u), SSM_ERR_NULL);
    CHECK_STATUS(ssm_hippo_recall(c, 2, 1, NULL), SSM_ERR_NULL);
    CHECK_STATUS(ssm_hippo_recall(c, 0, 1, &u), SSM_ERR_CONFIG);
    CHECK(c[0] == 3 && c[1] == 4 && u == 5);
}

static const test_case hippo_cases[] = {
    {"hippo/eigenvectors", hippo_eigenvectors},
    {"hippo/memory", hippo_memory},
    {"hippo/recalls", hippo_recalls},
    {"hippo/errors", hippo_errors},
};
