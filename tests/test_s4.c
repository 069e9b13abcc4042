/* test_s4.c - FFT, GELU, S4D and S4 against oracles in double, written from the papers with dense
 * matrices, and against themselves: split, step, pack, batch, strides, two forms, gradients. */
#include <complex.h>

/*=============================================================================
 * Both layers behind one set of verbs
 *===========================================================================*/
typedef struct s4_any {
    const char *name;
    int low_rank;
    ssm_s4d_config d; /* the options; those that S4 does not have are not used then */
    size_t l_max;
} s4_any;

typedef struct s4_bound {
    s4_any any;
    ssm_s4d d;
    ssm_s4 s;
    ssm_sizes need;
    ssm_real *params;
    void *mem;
} s4_bound;

static ssm_s4_config s4_config_of(const s4_any *a)
{
    ssm_s4_config c = {0};
    c.d_model = a->d.d_model;
    c.d_state = a->d.d_state;
    c.n_ssm = a->d.n_ssm;
    c.l_max = a->l_max;
    c.scan = a->d.scan;
    c.form = a->d.form;
    c.bidirectional = a->d.bidirectional;
    c.activation = a->d.activation;
    c.output = a->d.output;
    c.pre_norm = a->d.pre_norm;
    c.residual = a->d.residual;
    return c;
}

static ssm_status s4_sizes(const s4_any *a, const ssm_seqs *seqs, ssm_sizes *need)
{
    const ssm_s4_config c = s4_config_of(a);
    return a->low_rank ? ssm_s4_sizes(&c, seqs, need) : ssm_s4d_sizes(&a->d, seqs, need);
}

static ssm_status s4_table(const s4_any *a, ssm_params *table)
{
    const ssm_s4_config c = s4_config_of(a);
    return a->low_rank ? ssm_s4_params(&c, NULL, table) : ssm_s4d_params(&a->d, NULL, table);
}

static ssm_status s4_init(const s4_any *a, ssm_real *params, uint64_t seed)
{
    const ssm_s4_config c = s4_config_of(a);
    return a->low_rank ? ssm_s4_init(&c, params, seed) : ssm_s4d_init(&a->d, params, seed);
}

static ssm_status s4_rebind(s4_bound *b)
{
    const ssm_s4_config c = s4_config_of(&b->any);
    return b->any.low_rank ? ssm_s4_bind(&b->s, &c, b->params, b->mem, b->need.bound)
                           : ssm_s4d_bind(&b->d, &b->any.d, b->params, b->mem, b->need.bound);
}

static ssm_status s4_forward(const s4_bound *b, ssm_real *state, const ssm_real *x, ssm_real *y, const ssm_seqs *seqs,
                             void *work, size_t bytes)
{
    return b->any.low_rank ? ssm_s4_forward(&b->s, state, x, y, seqs, work, bytes)
                           : ssm_s4d_forward(&b->d, state, x, y, seqs, work, bytes);
}

static ssm_status s4_step(const s4_bound *b, ssm_real *state, const ssm_real *x, ssm_real *y, size_t streams,
        void *work,
                          size_t bytes)
{
    return b->any.low_rank ? ssm_s4_step(&b->s, state, x, y, streams, work, bytes)
                           : ssm_s4d_step(&b->d, state, x, y, streams, work, bytes);
}

static ssm_status s4_record(const s4_bound *b, ssm_real *state, const ssm_real *x, ssm_real *y, const ssm_seqs *seqs,
                            void *tape, size_t tape_bytes, void *work, size_t bytes)
{
    return b->any.low_rank ? ssm_s4_record(&b->s, state, x, y, seqs, tape, tape_bytes, work, bytes)
                           : ssm_s4d_record(&b->d, state, x, y, seqs, tape, tape_bytes, work, bytes);
}

static ssm_status s4_backward(const s4_bound *b, ssm_real *dstate, const ssm_real *x, const ssm_real *dy, ssm_real *dx,
                              ssm_real *dparams, const ssm_seqs *seqs, const void *tape, size_t tape_bytes, void *work,
                              size_t bytes)
{
    return b->any.low_rank
               ? ssm_s4_backward(&b->s, dstate, x, dy, dx, dparams, seqs, tape, tape_bytes, work, bytes)
               : ssm_s4d_backward(&b->d, dstate, x, dy, dx, dparams, seqs, tape, tape_bytes, work, bytes);
}

static ssm_status s4_kernel(const s4_bound *b, ssm_real *kernel, size_t len, void *work, size_t bytes)
{
    return b->any.low_rank ? ssm_s4_kernel(&b->s, kernel, len, work, bytes)
                           : ssm_s4d_kernel(&b->d, kernel, len, work, bytes);
}

static ssm_status s4_kernel_size(const s4_bound *b, size_t len, size_t *bytes)
{
    return b->any.low_rank ? ssm_s4_kernel_size(&b->s, len, bytes) : ssm_s4d_kernel_size(&b->d, len, bytes);
}

static ssm_status s4_kernel_backward(const s4_bound *b, const ssm_real *dkernel, ssm_real *dparams, size_t len,
                                     void *work, size_t bytes)
{
    return b->any.low_rank ? ssm_s4_kernel_backward(&b->s, dkernel, dparams, len, work, bytes)
                           : ssm_s4d_kernel_backward(&b->d, dkernel, dparams, len, work, bytes);
}

static const ssm_s4_core *s4_core(const s4_bound *b)
{
    return b->any.low_rank ? &b->s.core : &b->d.core;
}

/* Parameters: the paper's start, moved off special values. */
static s4_bound s4_make(const s4_any *a, ssm_rng *rng)
{
    const ssm_seqs one = test_seqs(1, 1);
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = {rows, SSM_PARAMS_MAX, 0, 0};
    s4_bound b = {0};
    size_t i, r;
    b.any = *a;
    CHECK_OK(s4_sizes(a, &one, &b.need));
    CHECK_OK(s4_table(a, &table));
    CHECK(b.need.params == table.count * sizeof(ssm_real));
    b.params = (ssm_real *)test_alloc(b.need.params, 0);
    b.mem = test_alloc(b.need.bound, 0);
    CHECK_OK(s4_init(a, b.params, test_seed));
    for (r = 0; r < table.rows; ++r)
        for (i = 0; i < rows[r].count; ++i) b.params[rows[r].offset + i] += (ssm_real)0.1 * ssm_rng_normal(rng);
    CHECK_OK(s4_rebind(&b));
    return b;
}

static void s4_drop(s4_bound *b)
{
    test_free(b->params, 0);
    test_free(b->mem, 0);
}

static const s4_any s4_list[] = {
    {"s4d", 0, {.d_model = 5, .d_state = 6}, 0},
    {"s4d inv bilinear B", 0, {.d_model = 3, .d_state = 4, .train_B = 1, .disc = SSM_DISC_BILINEAR,
            .init = SSM_S4_INIT_INV}, 0},
    {"s4d legs euler", 0, {.d_model = 4, .d_state = 8, .n_ssm = 2, .train_B = 1, .disc = SSM_DISC_EULER,
            .init = SSM_S4_INIT_LEGS}, 0},
    {"s4d dirac no dt", 0, {.d_model = 2, .d_state = 4, .no_dt = 1, .disc = SSM_DISC_DIRAC}, 0},
    {"s4d real", 0, {.d_model = 3, .d_state = 5, .real_state = 1, .train_B = 1,
            .weights = SSM_S4_WEIGHTS_ALL_NORMAL, .normal_dt = 1}, 0},
    {"s4d real bilinear", 0, {.d_model = 3, .d_state = 2, .real_state = 1, .disc = SSM_DISC_BILINEAR,
            .init = SSM_S4_INIT_INV}, 0},
    {"s4d block", 0, {.d_model = 5, .d_state = 4, .activation = SSM_S4_ACTIVATION_GELU,
            .output = SSM_S4_OUTPUT_GLU, .pre_norm = 1, .residual = 1}, 0},
    {"s4d gelu residual", 0, {.d_model = 5, .d_state = 4, .activation = SSM_S4_ACTIVATION_GELU, .residual = 1}, 0},
    {"s4d glu", 0, {.d_model = 3, .d_state = 2, .output = SSM_S4_OUTPUT_GLU}, 0},
    {"s4d wide", 0, {.d_model = 35, .d_state = 4}, 0},
    {"s4", 1, {.d_model = 3, .d_state = 6}, 0},
    {"s4 tied block", 1, {.d_model = 4, .d_state = 8, .n_ssm = 2, .activation = SSM_S4_ACTIVATION_GELU,
            .output = SSM_S4_OUTPUT_GLU, .residual = 1}, 0},
    {"s4 wide", 1, {.d_model = 37, .d_state = 2, .pre_norm = 1}, 0},
    {"s4d bidirectional", 0, {.d_model = 3, .d_state = 4, .bidirectional = 1, .train_B = 1}, 0},
    {"s4d real bidirectional block", 0, {.d_model = 3, .d_state = 4, .real_state = 1, .bidirectional = 1,
            .activation = SSM_S4_ACTIVATION_GELU, .output = SSM_S4_OUTPUT_GLU}, 0},
    {"s4 bidirectional", 1, {.d_model = 18, .d_state = 4, .bidirectional = 1, .pre_norm = 1}, 0},
};
#define S4_LIST (sizeof s4_list / sizeof s4_list[0])

/* The ways to run a forward: recurrence, convolution, and for S4D the recurrence in chunks of time. */
enum { S4_RECURRENT, S4_CONVOLUTION, S4_CHUNKED, S4_BLELLOCH, S4_WAYS };
static const char *const s4_way_name[S4_WAYS] = {"recurrent", "convolution", "chunked", "blelloch"};

static size_t s4_ways(const s4_any *a)
{
    return a->low_rank ? S4_CHUNKED : S4_WAYS;
}

static s4_any s4_by(const s4_any *a, size_t way)
{
    s4_any any = *a;
    any.d.form = way == S4_CONVOLUTION ? SSM_S4_FORM_CONVOLUTION : SSM_S4_FORM_RECURRENT;
    any.d.scan = SSM_SCAN_SEQUENTIAL;
    if (way == S4_CHUNKED) any.d.scan = SSM_SCAN_CHUNKED;
    if (way == S4_BLELLOCH) any.d.scan = SSM_SCAN_BLELLOCH;
    return any;
}

/*=============================================================================
 * The oracle: dense matrices in double
 *===========================================================================*/
enum { S4_ORACLE_MAX = 16 };

/* X = M^-1 X for n x n complex matrices. */
static void s4_solve(double complex M[][S4_ORACLE_MAX], double complex X[][S4_ORACLE_MAX], size_t n, size_t columns)
{
    size_t i, j, k;
    for (k = 0; k < n; ++k) {
        size_t best = k;
        for (i = k + 1; i < n; ++i)
            if (cabs(M[i][k]) > cabs(M[best][k])) best = i;
        for (j = 0; j < n; ++j) {
            const double complex t = M[k][j];
            M[k][j] = M[best][j];
            M[best][j] = t;
        }
        for (j = 0; j < columns; ++j) {
            const double complex t = X[k][j];
            X[k][j] = X[best][j];
            X[best][j] = t;
        }
        for (i = 0; i < n; ++i) {
            const double complex f = M[i][k] / M[k][k];
            if (i == k) continue;
            for (j = 0; j < n; ++j) M[i][j] -= f * M[k][j];
            for (j = 0; j < columns; ++j) X[i][j] -= f * X[k][j];
        }
    }
    for (i = 0; i < n; ++i)
        for (j = 0; j < columns; ++j) X[i][j] /= M[i][i];
}

typedef struct s4_dense { /* one channel, all N states: conjugates n and N/2 + n */
    size_t n;
    double complex A[S4_ORACLE_MAX][S4_ORACLE_MAX];
    double complex B[S4_ORACLE_MAX];
    double complex C[2][S4_ORACLE_MAX];
    double D;
} s4_dense;

static double complex s4_oracle_weight(const s4_bound *b, const ssm_params *table, const char *name, size_t row,
        size_t n,
                                       double absent)
{
    const ssm_param *p = ssm_params_find(table, name);
    size_t at;
    if (!p) return absent;
    at = p->offset + (row * p->shape[1] + n) * p->shape[2];
    return p->rank == 3 ? (double)b->params[at] + I * (double)b->params[at + 1] : (double)b->params[at];
}

static s4_dense s4_densify(const s4_bound *b, size_t h)
{
    static double complex M[S4_ORACLE_MAX][S4_ORACLE_MAX], X[S4_ORACLE_MAX][S4_ORACLE_MAX];
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = {rows, SSM_PARAMS_MAX, 0, 0};
    const ssm_s4_core *core = s4_core(b);
    const size_t row = h % core->n_ssm, S = core->states;
    const ssm_disc disc = b->any.low_rank ? SSM_DISC_BILINEAR : b->d.config.disc;
    double complex lambda[S4_ORACLE_MAX], P[S4_ORACLE_MAX];
    const ssm_param *dt;
    s4_dense k = {0};
    double delta;
    size_t n, m, d;
    CHECK_OK(s4_table(&b->any, &table));
    dt = ssm_params_find(&table, "log_dt");
    delta = dt ? exp((double)b->params[dt->offset + h]) : 1;
    k.n = core->d_state;
    k.D = (double)b->params[ssm_params_find(&table, "D")->offset + h];
    for (n = 0; n < S; ++n) {
        const double sign = b->any.low_rank ? -1 : 1;
        lambda[n] = -exp(creal(s4_oracle_weight(b, &table, b->any.low_rank ? "A_real" : "log_A_real", row, n, 0))) +
                    I * sign * creal(s4_oracle_weight(b, &table, "A_imag", row, n, 0));
        P[n] = s4_oracle_weight(b, &table, "P", row, n, 0);
        k.B[n] = s4_oracle_weight(b, &table, "B", row, n, 1);
        for (d = 0; d < core->directions; ++d)
            k.C[d][n] = s4_oracle_weight(b, &table, "C", d * core->dim + h, n, 1);
        if (core->parts == 1) continue;
        lambda[S + n] = conj(lambda[n]);
        P[S + n] = conj(P[n]);
        k.B[S + n] = conj(k.B[n]);
        for (d = 0; d < core->directions; ++d) k.C[d][S + n] = conj(k.C[d][n]);
    }
    if (disc != SSM_DISC_BILINEAR) {
        for (n = 0; n < k.n; ++n) {
            const double complex x = delta * lambda[n];
            k.A[n][n] = cexp(x);
            if (disc == SSM_DISC_ZOH) k.B[n] *= (cexp(x) - 1) / lambda[n];
            if (disc == SSM_DISC_EULER) k.B[n] *= delta;
        }
        return k;
    }
    for (n = 0; n < k.n; ++n) { /* (1 - delta/2 A) [Abar | Bbar] = [1 + delta/2 A | delta B] */
        for (m = 0; m < k.n; ++m) {
            const double complex a = (n == m ? lambda[n] : 0) - P[n] * conj(P[m]);
            M[n][m] = (n == m) - delta / 2 * a;
            X[n][m] = (n == m) + delta / 2 * a;
        }
        X[n][k.n] = delta * k.B[n];
    }
    s4_solve(M, X, k.n, k.n + 1);
    for (n = 0; n < k.n; ++n) {
        for (m = 0; m < k.n; ++m) k.A[n][m] = X[n][m];
        k.B[n] = X[n][k.n];
    }
    return k;
}

/* s = A s + B u. */
static void s4_dense_step(const s4_dense *k, double complex *s, double u)
{
    double complex next[S4_ORACLE_MAX];
    size_t n, m;
    for (n = 0; n < k->n; ++n) {
        next[n] = k->B[n] * u;
        for (m = 0; m < k->n; ++m) next[n] += k->A[n][m] * s[m];
    }
    for (n = 0; n < k->n; ++n) s[n] = next[n];
}

static double s4_dense_read(const s4_dense *k, int direction, const double complex *s)
{
    double complex y = 0;
    size_t n;
    for (n = 0; n < k->n; ++n) y += k->C[direction][n] * s[n];
    return creal(y);
}

static double s4_oracle_gelu(double x)
{
    return 0.5 * x * (1 + erf(x / sqrt(2)));
}

/* One sequence through the layer; state in the layer's layout, in place. */
static void s4_oracle(const s4_bound *b, double *state, const ssm_real *x, double *y, size_t len)
{
    const ssm_s4_core *core = s4_core(b);
    const size_t H = core->dim, S = core->states, parts = core->parts;
    double *u = (double *)calloc(len * H + 1, sizeof *u), *v = (double *)calloc(2 * H, sizeof *v);
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = {rows, SSM_PARAMS_MAX, 0, 0};
    size_t t, h, n, i;
    CHECK_OK(s4_table(&b->any, &table));
    for (t = 0; t < len; ++t) {
        double square = 0;
        for (h = 0; h < H; ++h) square += (double)x[t * H + h] * (double)x[t * H + h];
        for (h = 0; h < H; ++h) {
            u[t * H + h] = (double)x[t * H + h];
            if (core->pre_norm) u[t * H + h] *= (double)b->params[h] / sqrt(square / (double)H + 1e-5);
        }
    }
    for (h = 0; h < H; ++h) {
        const s4_dense k = s4_densify(b, h);
        double complex s[S4_ORACLE_MAX], r[S4_ORACLE_MAX] = {0};
        for (n = 0; n < S; ++n) {
            s[n] = state[n * parts * H + h];
            if (parts == 1) continue;
            s[n] += I * state[(n * 2 + 1) * H + h];
            s[S + n] = conj(s[n]);
        }
        for (t = 0; t < len; ++t) {
            s4_dense_step(&k, s, u[t * H + h]);
            y[t * H + h] = s4_dense_read(&k, 0, s) + k.D * u[t * H + h];
        }
        for (t = len; core->directions == 2 && t-- > 0;) {
            y[t * H + h] += s4_dense_read(&k, 1, r);
            s4_dense_step(&k, r, u[t * H + h]);
        }
        for (n = 0; n < S; ++n) {
            state[n * parts * H + h] = creal(s[n]);
            if (parts == 2) state[(n * 2 + 1) * H + h] = cimag(s[n]);
        }
    }
    for (t = 0; t < len; ++t) {
        double *yt = y + t * H;
        for (h = 0; core->activation && h < H; ++h) yt[h] = s4_oracle_gelu(yt[h]);
        if (core->output) {
            const ssm_real *w = b->params + ssm_params_find(&table, "output_linear.weight")->offset;
            const ssm_real *bias = b->params + ssm_params_find(&table, "output_linear.bias")->offset;
            for (i = 0; i < 2 * H; ++i)
                for (v[i] = (double)bias[i], h = 0; h < H; ++h) v[i] += (double)w[i * H + h] * yt[h];
            for (h = 0; h < H; ++h) yt[h] = v[h] / (1 + exp(-v[H + h]));
        }
        for (h = 0; core->residual && h < H; ++h) yt[h] += (double)x[t * H + h];
    }
    free(u);
    free(v);
}

/*=============================================================================
 * Transforms, GELU
 *===========================================================================*/
static void test_s4_fft(void)
{
    ssm_rng rng;
    size_t n, j, k, bytes = 0;
    rng.state = test_seed;
    for (n = 1; n <= 1024; n *= 2) {
        ssm_real *x = test_normal(&rng, 2 * n, 1), *data = test_copy(x, 2 * n);
        double *want = (double *)calloc(2 * n, sizeof *want), norm = 0, error = 0;
        void *work;
        CHECK_OK(ssm_fft_size(n, &bytes));
        work = test_alloc(bytes, 3);
        for (k = 0; k < n; ++k) {
            double complex sum = 0;
            for (j = 0; j < n; ++j)
                sum += ((double)x[2 * j] + I * (double)x[2 * j + 1]) *
                       cexp(-2 * I * 3.14159265358979323846 * (double)(j * k % n) / (double)n);
            want[2 * k] = creal(sum);
            want[2 * k + 1] = cimag(sum);
        }
        CHECK_STATUS(ssm_fft(data, n, 0, work, bytes - 1), SSM_ERR_MEMORY);
        CHECK_SAME(data, x, 2 * n);
        CHECK_OK(ssm_fft(data, n, 0, work, bytes));
        for (k = 0; k < 2 * n; ++k) {
            norm += want[k] * want[k];
            error += ((double)data[k] - want[k]) * ((double)data[k] - want[k]);
        }
        check_bound("fft", sqrt(error / norm), TOL(3e-7, 2e-15)); /* the naive sum is not exact in double */
        CHECK_OK(ssm_fft(data, n, 1, work, bytes));
        for (k = 0; k < 2 * n; ++k) want[k] = (double)x[k];
        CHECK_CLOSE(data, want, 2 * n, TOL(1e-6, 2e-15));
        free(want);
        test_free(work, 3);
        test_free(data, 0);
        test_free(x, 0);
    }
    CHECK_STATUS(ssm_fft_size(12, &bytes), SSM_ERR_SHAPE);
    CHECK_STATUS(ssm_fft_size(0, &bytes), SSM_ERR_SHAPE);
}

static void test_s4_convolve(void)
{
    static const size_t lens[][2] = {{1, 1}, {1, 5}, {4, 1}, {3, 3}, {7, 10}, {33, 100}, {64, 64}, {65, 64}, {0, 3}};
    ssm_rng rng;
    size_t c, t, j, bytes = 0;
    rng.state = test_seed;
    for (c = 0; c < sizeof lens / sizeof lens[0]; ++c) {
        const size_t na = lens[c][0], nb = lens[c][1], ny = na && nb ? na + nb - 1 : 0;
        ssm_real *a = test_normal(&rng, na, 1), *b = test_normal(&rng, nb, 1), *y = test_zeros(ny);
        double *want = (double *)calloc(ny + 1, sizeof *want);
        void *work;
        CHECK_OK(ssm_convolve_size(na, nb, &bytes));
        work = test_alloc(bytes, 0);
        for (t = 0; t < na; ++t)
            for (j = 0; j < nb; ++j) want[t + j] += (double)a[t] * (double)b[j];
        CHECK_OK(ssm_convolve(a, na, b, nb, y, work, bytes));
        CHECK_CLOSE(y, want, ny, TOL(1e-6, 2e-15));
        if (bytes) CHECK_STATUS(ssm_convolve(a, na, b, nb, y, work, bytes - 1), SSM_ERR_MEMORY);
        free(want);
        test_free(work, 0);
        test_free(a, 0);
        test_free(b, 0);
        test_free(y, 0);
    }
}

static wide wide_erf(wide x) { return WIDE(erf)(x); }

static void test_s4_gelu(void)
{
    double x;
    ULP(ssm__erf, wide_erf, -0.5, 0.5, 0, 2.9);
    ULP(ssm__erf, wide_erf, 0.5, 7, 0, 2.9);
    ULP(ssm__erf, wide_erf, -7, -0.5, 0, 2.9);
    CHECK(ssm__erf(0) == 0 && ssm__erf((ssm_real)HUGE_VAL) == 1 && ssm__erf((ssm_real)-HUGE_VAL) == -1);
    CHECK(ssm__erf((ssm_real)NAN) != ssm__erf((ssm_real)NAN) && ssm__gelu((ssm_real)NAN) != ssm__gelu((ssm_real)NAN));
    for (x = -6; x < 6; x += 0.0137) {
        const ssm_real at = (ssm_real)x;
        const double exact = (double)at;
        const double want = exact * 0.5 * erfc(-exact / sqrt(2)), got = (double)ssm__gelu(at);
        const double density = exp(-exact * exact / 2) / sqrt(6.28318530717958647693);
        const double slope = 0.5 * erfc(-exact / sqrt(2)) + exact * density;
        const ssm_real got_slope = ssm__gelu_derivative(at);
        if (want != 0) check_bound("gelu", fabs(got / want - 1), TOL(6e-7, 1.2e-15) * (1 + exact * exact / 4));
        CHECK(fabs((double)got_slope - slope) <= TOL(3e-7, 6e-16));
    }
}

/*=============================================================================
 * Against the oracle, against themselves
 *===========================================================================*/
static void *s4_work(const s4_any *a, const ssm_seqs *seqs, int keep_state, size_t *bytes)
{
    ssm_sizes need;
    CHECK_OK(s4_sizes(a, seqs, &need));
    *bytes = need.work + (keep_state ? 0 : need.state + SSM_ALIGN);
    return test_alloc(*bytes, 1);
}

static void test_s4_oracle(void)
{
    static const size_t lens[] = {1, 2, 9, 63, 64, 65, 66, 128, 129, 200}; /* a chunk is 64 steps */
    size_t c, i, n, way, bytes;
    ssm_rng rng;
    rng.state = test_seed;
    for (c = 0; c < S4_LIST; ++c) {
        for (way = 0; way < s4_ways(&s4_list[c]); ++way) {
            const s4_any any = s4_by(&s4_list[c], way);
            s4_bound b = s4_make(&any, &rng);
            for (i = 0; i < sizeof lens / sizeof lens[0]; ++i) {
                const size_t H = any.d.d_model, len = lens[i], states = b.need.state / sizeof(ssm_real);
                const ssm_seqs seqs = test_seqs(1, len);
                ssm_real *x = test_normal(&rng, len * H, 1), *y = test_zeros(len * H), *state = test_normal(&rng,
                        states, 1);
                double *want = (double *)calloc(len * H, sizeof *want), *last = (double *)calloc(states, sizeof *last);
                void *work = s4_work(&any, &seqs, 1, &bytes);
                for (n = 0; n < states; ++n) last[n] = (double)state[n];
                s4_oracle(&b, last, x, want, len);
                CHECK_OK(s4_forward(&b, state, x, y, &seqs, work, bytes));
                CHECK_CLOSE(y, want, len * H, TOL(2e-5, 1e-11));
                CHECK_CLOSE(state, last, states, TOL(2e-5, 1e-11));
                if (test_failures) printf("    in %s, %s, len %d\n", any.name, s4_way_name[way], (int)len);
                test_free(work, 1);
                work = s4_work(&any, &seqs, 0, &bytes);
                memset(last, 0, states * sizeof *last);
                s4_oracle(&b, last, x, want, len);
                CHECK_OK(s4_forward(&b, NULL, x, x, &seqs, work, bytes)); /* in place, no state */
                CHECK_CLOSE(x, want, len * H, TOL(2e-5, 1e-11));
                test_free(work, 1);
                test_free(x, 0);
                test_free(y, 0);
                test_free(state, 0);
                free(want);
                free(last);
                if (test_failures) return;
            }
            s4_drop(&b);
        }
    }
}

/* The same bits, or in pieces of a time-parallel scan the same within rounding. */
static void s4_check_pieces(const s4_any *any, const ssm_real *got, const ssm_real *want, size_t count)
{
    double *exact = (double *)malloc(count * sizeof *exact);
    size_t i;
    for (i = 0; i < count; ++i) exact[i] = (double)want[i];
    if (any->d.scan == SSM_SCAN_SEQUENTIAL) CHECK_SAME(got, want, count);
    else CHECK_CLOSE(got, exact, count, TOL(1e-5, 1e-12));
    free(exact);
}

/* Steps, pieces, batch, packed, strided and recorded: the same bits. */
static void s4_check_laws(const s4_any *any, ssm_rng *rng)
{
    enum { LEN = 150, CUT = 67, BATCH = 3 };
    s4_bound b = s4_make(any, rng);
    const int whole = any->d.bidirectional;
    const size_t H = any->d.d_model, states = b.need.state / sizeof(ssm_real), row = LEN * H;
    const size_t start[BATCH + 2] = {0, 40, 40, 41, LEN};
    ssm_seqs one = test_seqs(1, LEN), head = test_seqs(1, CUT), tail = test_seqs(1, LEN - CUT), all = test_seqs(BATCH, LEN);
    ssm_seqs packed = test_seqs(4, LEN), strided = all;
    ssm_real *x = test_normal(rng, BATCH * row, 1), *state0 = test_normal(rng, 4 * states, 1);
    ssm_real *y = test_zeros(BATCH * row), *state = test_copy(state0, 4 * states), *z = test_zeros(BATCH * row * 2);
    ssm_real *again = test_zeros(4 * states), *flip = test_zeros(BATCH * row * 2);
    ssm_sizes need;
    void *work, *tape;
    size_t bytes, i, t, k;
    packed.start = start;
    work = s4_work(any, &all, 1, &bytes);
    for (i = 0; i < BATCH; ++i) CHECK_OK(s4_forward(&b, state + i * states, x + i * row, y + i * row, &one, work,
            bytes));
    /* batch */
    memcpy(again, state0, BATCH * states * sizeof *again);
    CHECK_OK(s4_forward(&b, again, x, z, &all, work, bytes));
    CHECK_SAME(z, y, BATCH * row);
    CHECK_SAME(again, state, BATCH * states);
    /* record */
    CHECK_OK(s4_sizes(any, &all, &need));
    tape = test_alloc(need.tape, 0);
    memcpy(again, state0, BATCH * states * sizeof *again);
    CHECK_OK(s4_record(&b, again, x, z, &all, tape, need.tape, work, bytes));
    CHECK_SAME(z, y, BATCH * row);
    CHECK_SAME(again, state, BATCH * states);
    test_free(tape, 0);
    test_free(work, 1);
    /* [batch][channel][len] in, every second element of [batch][len][channel] out */
    strided.x.batch = (ptrdiff_t)row;
    strided.x.time = 1;
    strided.x.chan = LEN;
    strided.y.batch = (ptrdiff_t)(2 * row);
    strided.y.time = (ptrdiff_t)(2 * H);
    strided.y.chan = 2;
    for (i = 0; i < BATCH; ++i)
        for (t = 0; t < LEN; ++t)
            for (k = 0; k < H; ++k) flip[i * row + k * LEN + t] = x[i * row + t * H + k];
    work = s4_work(any, &strided, 1, &bytes);
    memcpy(again, state0, BATCH * states * sizeof *again);
    CHECK_OK(s4_forward(&b, again, flip, z, &strided, work, bytes));
    for (i = 0; i < BATCH * row; ++i) CHECK_SAME(z + 2 * i, y + i, 1);
    CHECK_SAME(again, state, BATCH * states);
    test_free(work, 1);
    /* packed: each sequence as if alone */
    work = s4_work(any, &packed, 1, &bytes);
    memcpy(again, state0, 4 * states * sizeof *again);
    CHECK_OK(s4_forward(&b, again, x, z, &packed, work, bytes));
    for (i = 0; i < 4; ++i) {
        const ssm_seqs part = test_seqs(1, start[i + 1] - start[i]);
        memcpy(state, state0 + i * states, states * sizeof *state);
        CHECK_OK(s4_forward(&b, state, x + start[i] * H, y, &part, work, bytes));
        CHECK_SAME(z + start[i] * H, y, part.len * H);
        CHECK_SAME(again + i * states, state, states);
    }
    test_free(work, 1);
    /* pieces and steps */
    if (!whole) {
        work = s4_work(any, &one, 1, &bytes);
        memcpy(state, state0, states * sizeof *state);
        CHECK_OK(s4_forward(&b, state, x, y, &one, work, bytes));
        memcpy(again, state0, states * sizeof *again);
        CHECK_OK(s4_forward(&b, again, x, z, &head, work, bytes));
        CHECK_OK(s4_forward(&b, again, x + CUT * H, z + CUT * H, &tail, work, bytes));
        s4_check_pieces(any, z, y, row);
        s4_check_pieces(any, again, state, states);
        memcpy(again, state0, states * sizeof *again);
        for (t = 0; t < LEN; ++t) CHECK_OK(s4_step(&b, again, x + t * H, z + t * H, 1, work, bytes));
        s4_check_pieces(any, z, y, row);
        s4_check_pieces(any, again, state, states);
        test_free(work, 1);
    } else {
        CHECK_STATUS(s4_step(&b, again, x, z, 1, NULL, 0), SSM_ERR_UNSUPPORTED);
    }
    test_free(x, 0);
    test_free(y, 0);
    test_free(z, 0);
    test_free(flip, 0);
    test_free(state0, 0);
    test_free(state, 0);
    test_free(again, 0);
    s4_drop(&b);
}

static void test_s4_laws(void)
{
    ssm_rng rng;
    size_t c, way;
    rng.state = test_seed;
    for (c = 0; c < S4_LIST; ++c) {
        for (way = 0; way < s4_ways(&s4_list[c]); ++way) {
            const s4_any any = s4_by(&s4_list[c], way);
            if (way == S4_CONVOLUTION) continue; /* see test_s4_convolution */
            s4_check_laws(&any, &rng);
            if (test_failures) {
                printf("    in %s, %s\n", any.name, s4_way_name[way]);
                return;
            }
        }
    }
}

/* One block of channels leaves only chunks of time to share out: 1, 2, 3 and 7 threads, the same bits as one
 * after another, and as sequential within rounding. */
static void test_s4_threads(void)
{
    static const s4_any list[] = {
        {"s4d", 0, {.d_model = 5, .d_state = 64}, 0},
        {"s4d real", 0, {.d_model = 5, .d_state = 64, .real_state = 1}, 0},
        {"s4d bidirectional", 0, {.d_model = 5, .d_state = 64, .bidirectional = 1}, 0},
        {"s4d two blocks", 0, {.d_model = SSM_LANES + 3, .d_state = 64}, 0},
    };
    static const size_t threads[] = {1, 2, 3, 7}, lens[] = {577, 5000};
    ssm_rng rng;
    size_t c, l, way, i, bytes;
    rng.state = test_seed;
    for (c = 0; c < sizeof list / sizeof list[0]; ++c) {
        const size_t H = list[c].d.d_model;
        for (l = 0; l < 2; ++l) {
            ssm_seqs seqs = test_seqs(2, lens[l]);
            const size_t count = 2 * lens[l] * H;
            ssm_real *x = test_normal(&rng, count, 1), *want = NULL, *plain = test_zeros(count), *y = test_zeros(count);
            for (way = S4_RECURRENT; way < S4_WAYS; ++way) {
                const s4_any any = s4_by(&list[c], way);
                ssm_rng same;
                s4_bound b;
                void *work;
                if (way == S4_CONVOLUTION) continue;
                same.state = test_seed;
                b = s4_make(&any, &same);
                seqs.parallel = NULL;
                work = s4_work(&any, &seqs, 0, &bytes);
                CHECK_OK(s4_forward(&b, NULL, x, plain, &seqs, work, bytes));
                if (!want) want = test_copy(plain, count);
                s4_check_pieces(&any, plain, want, count);
                for (i = 0; way != S4_RECURRENT && i < 4; ++i) {
                    test_pool pool = {0, 0};
                    ssm_parallel parallel;
                    pool.threads = threads[i];
                    parallel.run = test_pool_run;
                    parallel.pool = &pool;
                    seqs.parallel = &parallel;
                    CHECK_OK(s4_forward(&b, NULL, x, y, &seqs, work, bytes));
                    CHECK_SAME(y, plain, count);
                    CHECK(pool.tasks >= 2 * (2 * (lens[l] / 64) + 1)); /* two passes over each sequence */
                }
                test_free(work, 1);
                s4_drop(&b);
            }
            if (test_failures) printf("    in %s, len %d\n", list[c].name, (int)lens[l]);
            test_free(x, 0);
            test_free(y, 0);
            test_free(plain, 0);
            test_free(want, 0);
        }
    }
}

/* Convolution of a batch and of packed sequences = the recurrence; a step goes on where it stopped. */
static void test_s4_convolution(void)
{
    static const size_t start[5] = {0, 3, 90, 90, 130};
    ssm_rng rng;
    size_t c, i, packed;
    rng.state = test_seed;
    for (c = 0; c < S4_LIST; ++c) {
        for (packed = 0; packed < 2; ++packed) {
            s4_any any = s4_list[c];
            const size_t H = any.d.d_model, batch = packed ? 4 : 5;
            ssm_seqs seqs = test_seqs(batch, packed ? 130 : 27);
            const size_t rows = packed ? 130 : batch * 27;
            s4_bound b = s4_make(&any, &rng), conv = b;
            const size_t states = b.need.state / sizeof(ssm_real);
            ssm_real *x = test_normal(&rng, rows * H, 1), *y = test_zeros(rows * H), *z = test_zeros(rows * H);
            ssm_real *s = test_normal(&rng, batch * states, 1), *r = test_copy(s, batch * states);
            double *want = (double *)calloc(rows * H + batch * states, sizeof *want);
            size_t bytes, conv_bytes;
            void *work, *conv_work;
            seqs.start = packed ? start : NULL;
            conv.any.d.form = SSM_S4_FORM_CONVOLUTION;
            CHECK_OK(s4_rebind(&conv));
            work = s4_work(&any, &seqs, 1, &bytes);
            conv_work = s4_work(&conv.any, &seqs, 1, &conv_bytes);
            CHECK_OK(s4_forward(&b, s, x, y, &seqs, work, bytes));
            CHECK_OK(s4_forward(&conv, r, x, z, &seqs, conv_work, conv_bytes));
            for (i = 0; i < rows * H; ++i) want[i] = (double)y[i];
            CHECK_CLOSE(z, want, rows * H, TOL(1e-5, 1e-11));
            CHECK_SAME(s, r, batch * states); /* the same pass carries it */
            CHECK_STATUS(s4_forward(&conv, r, x, z, &seqs, conv_work, conv_bytes - 1), SSM_ERR_MEMORY);
            if (test_failures) printf("    in %s\n", any.name);
            free(want);
            test_free(work, 1);
            test_free(conv_work, 1);
            test_free(x, 0);
            test_free(y, 0);
            test_free(z, 0);
            test_free(s, 0);
            test_free(r, 0);
            s4_drop(&b);
            if (test_failures) return;
        }
    }
}

/* Kernels of even and odd lengths against powers of the dense matrix. */
static void test_s4_kernel(void)
{
    static const size_t lens[] = {1, 2, 3, 8, 15, 16, 31, 100, 129};
    ssm_rng rng;
    size_t c, i, h, l, d, n;
    rng.state = test_seed;
    for (c = 0; c < S4_LIST; ++c) {
        s4_bound b = s4_make(&s4_list[c], &rng);
        const ssm_s4_core *core = s4_core(&b);
        for (i = 0; i < sizeof lens / sizeof lens[0]; ++i) {
            const size_t len = lens[i], H = core->dim, count = core->directions * H * len;
            ssm_real *kernel = test_zeros(count);
            double *want = (double *)calloc(count, sizeof *want);
            size_t bytes = 0;
            void *work;
            for (d = 0; d < core->directions; ++d) {
                for (h = 0; h < H; ++h) {
                    const s4_dense k = s4_densify(&b, h);
                    double complex s[S4_ORACLE_MAX];
                    for (n = 0; n < k.n; ++n) s[n] = k.B[n];
                    for (l = 0; l < len; ++l) {
                        want[(d * H + h) * len + l] = s4_dense_read(&k, (int)d, s);
                        s4_dense_step(&k, s, 0);
                    }
                }
            }
            CHECK_OK(s4_kernel_size(&b, len, &bytes));
            work = test_alloc(bytes, 1);
            CHECK_STATUS(s4_kernel(&b, kernel, len, work, bytes - 1), SSM_ERR_MEMORY);
            CHECK_OK(s4_kernel(&b, kernel, len, work, bytes));
            CHECK_CLOSE(kernel, want, count, TOL(1e-5, 1e-12));
            test_free(work, 1);
            test_free(kernel, 0);
            free(want);
        }
        s4_drop(&b);
        if (test_failures) {
            printf("    in %s\n", s4_list[c].name);
            return;
        }
    }
}

/*=============================================================================
 * Gradients: central differences of sum(y dy) + sum(last dlast), in double
 *===========================================================================*/
typedef struct s4_problem {
    s4_bound b;
    ssm_seqs seqs;
    size_t rows;
    ssm_real *x, *y, *state, *dy, *dlast;
    void *work;
    size_t bytes;
} s4_problem;

static double s4_loss(s4_problem *p)
{
    const size_t H = p->b.any.d.d_model, states = p->seqs.batch * p->b.need.state / sizeof(ssm_real);
    ssm_real *state = test_copy(p->state, states);
    double loss = 0;
    size_t i;
    CHECK_OK(s4_rebind(&p->b));
    CHECK_OK(s4_forward(&p->b, state, p->x, p->y, &p->seqs, p->work, p->bytes));
    for (i = 0; i < p->rows * H; ++i) loss += (double)p->y[i] * (double)p->dy[i];
    for (i = 0; i < states; ++i) loss += (double)state[i] * (double)p->dlast[i];
    test_free(state, 0);
    return loss;
}

static void s4_differences(s4_problem *p, const char *what, ssm_real *at, const ssm_real *gradient, size_t count)
{
    const double step = 1e-6;
    size_t i;
    for (i = 0; i < count; ++i) {
        const ssm_real keep = at[i];
        double up, down;
        at[i] = keep + (ssm_real)step;
        up = s4_loss(p);
        at[i] = keep - (ssm_real)step;
        down = s4_loss(p);
        at[i] = keep;
        up = (up - down) / (2 * step);
        if (!(fabs(up - (double)gradient[i]) <= 2e-7 * (1 + fabs(up))))
            test_fail(__FILE__, __LINE__, "%s: d%s[%lu] = %.9g, difference %.9g", p->b.any.name, what, (unsigned long)i,
                      (double)gradient[i], up);
    }
}

static void s4_check_gradients(const s4_any *any, ssm_seqs seqs, ssm_rng *rng)
{
    const size_t H = any->d.d_model;
    s4_problem p;
    ssm_real *dx, *dparams, *dstate, *state;
    size_t states, i;
    ssm_sizes need;
    void *tape, *work;
    p.b = s4_make(any, rng);
    p.seqs = seqs;
    p.rows = seqs.start ? seqs.len : seqs.batch * seqs.len;
    states = seqs.batch * p.b.need.state / sizeof(ssm_real);
    p.x = test_normal(rng, p.rows * H, 1);
    p.y = test_zeros(p.rows * H);
    p.dy = test_normal(rng, p.rows * H, 1);
    p.state = test_normal(rng, states, 1);
    p.dlast = test_normal(rng, states, 1);
    p.work = s4_work(any, &seqs, 1, &p.bytes);
    CHECK_OK(s4_sizes(any, &seqs, &need));
    tape = test_alloc(need.tape, 0);
    work = test_alloc(need.work_backward, 0);
    dx = test_zeros(p.rows * H);
    dparams = test_zeros(need.params / sizeof(ssm_real));
    dstate = test_copy(p.dlast, states);
    state = test_copy(p.state, states);
    CHECK_OK(s4_record(&p.b, state, p.x, p.y, &seqs, tape, need.tape, p.work, p.bytes));
    CHECK_STATUS(s4_backward(&p.b, dstate, p.x, p.dy, dx, dparams, &seqs, tape, need.tape, work,
            need.work_backward - 1),
                 SSM_ERR_MEMORY);
    CHECK_OK(s4_backward(&p.b, dstate, p.x, p.dy, dx, dparams, &seqs, tape, need.tape, work, need.work_backward));
    for (i = 0; i < need.params / sizeof(ssm_real); ++i) CHECK(dparams[i] == dparams[i]);
    if (sizeof(ssm_real) == 8) {
        s4_differences(&p, "params", p.b.params, dparams, need.params / sizeof(ssm_real));
        s4_differences(&p, "x", p.x, dx, p.rows * H < 60 ? p.rows * H : 60);
        s4_differences(&p, "state", p.state, dstate, states);
    }
    test_free(p.x, 0);
    test_free(p.y, 0);
    test_free(p.dy, 0);
    test_free(p.state, 0);
    test_free(p.dlast, 0);
    test_free(p.work, 1);
    test_free(tape, 0);
    test_free(work, 0);
    test_free(dx, 0);
    test_free(dparams, 0);
    test_free(dstate, 0);
    test_free(state, 0);
    s4_drop(&p.b);
}

static void test_s4_gradients(void)
{
    static const size_t start[4] = {0, 5, 5, 9}, long_start[4] = {0, 9, 140, 140};
    ssm_rng rng;
    size_t c;
    rng.state = test_seed;
    for (c = 0; c < S4_LIST; ++c) {
        const s4_any chunked = s4_by(&s4_list[c], S4_CHUNKED), tree = s4_by(&s4_list[c], S4_BLELLOCH);
        ssm_seqs packed = test_seqs(3, 9), long_packed = test_seqs(3, 140);
        packed.start = start;
        long_packed.start = long_start;
        if (s4_list[c].d.d_model > 20) continue; /* the same code, many differences */
        s4_check_gradients(&s4_list[c], test_seqs(2, 4), &rng);
        s4_check_gradients(&s4_list[c], packed, &rng);
        s4_check_gradients(&s4_list[c], test_seqs(1, 75), &rng); /* several chunks, two tiles */
        if (s4_list[c].low_rank) continue;
        s4_check_gradients(&chunked, test_seqs(1, 75), &rng);
        s4_check_gradients(&tree, long_packed, &rng);
    }
}

/* dkernel to parameters = convolving forward and backward by the recurrence, from a zero state. */
static void test_s4_kernel_gradients(void)
{
    static const size_t lens[] = {1, 2, 7, 16, 33};
    ssm_rng rng;
    size_t c, i, h, t, j, d;
    rng.state = test_seed;
    for (c = 0; c < S4_LIST; ++c) {
        s4_any any = s4_list[c];
        s4_bound b;
        any.d.activation = SSM_S4_ACTIVATION_NONE;
        any.d.output = SSM_S4_OUTPUT_NONE;
        any.d.pre_norm = any.d.residual = 0;
        b = s4_make(&any, &rng);
        for (i = 0; i < sizeof lens / sizeof lens[0]; ++i) {
            const size_t H = any.d.d_model, len = lens[i], directions = s4_core(&b)->directions;
            const ssm_seqs seqs = test_seqs(1, len);
            ssm_real *x = test_normal(&rng, len * H, 1), *dy = test_normal(&rng, len * H, 1), *y = test_zeros(len * H);
            ssm_real *dkernel = test_zeros(directions * H * len), *got, *want;
            double *expected;
            size_t bytes = 0, count, D = s4_core(&b)->offsets.D;
            ssm_sizes need;
            void *work, *tape, *kernel_work;
            CHECK_OK(s4_sizes(&any, &seqs, &need));
            count = need.params / sizeof(ssm_real);
            got = test_zeros(count);
            want = test_zeros(count);
            expected = (double *)calloc(count, sizeof *expected);
            work = test_alloc(need.work + need.work_backward + need.state + SSM_ALIGN, 0);
            tape = test_alloc(need.tape, 0);
            for (d = 0; d < directions; ++d)
                for (h = 0; h < H; ++h)
                    for (t = 0; t < len; ++t)
                        for (j = 0; t + j + d < len; ++j)
                            dkernel[(d * H + h) * len + j] +=
                                d ? dy[t * H + h] * x[(t + j + 1) * H + h] : dy[(t + j) * H + h] * x[t * H + h];
            CHECK_OK(s4_record(&b, NULL, x, y, &seqs, tape, need.tape, work, need.work + need.state + SSM_ALIGN));
            CHECK_OK(s4_backward(&b, NULL, x, dy, NULL, want, &seqs, tape, need.tape, work,
                    need.work_backward + need.state + SSM_ALIGN));
            CHECK_OK(s4_kernel_size(&b, len, &bytes));
            kernel_work = test_alloc(bytes, 0);
            CHECK_OK(s4_kernel_backward(&b, dkernel, got, len, kernel_work, bytes));
            for (j = 0; j < count; ++j) expected[j] = j >= D && j < D + H ? 0 : (double)want[j];
            CHECK_CLOSE(got, expected, count, TOL(2e-5, 1e-12));
            free(expected);
            test_free(kernel_work, 0);
            test_free(x, 0);
            test_free(y, 0);
            test_free(dy, 0);
            test_free(dkernel, 0);
            test_free(got, 0);
            test_free(want, 0);
            test_free(work, 0);
            test_free(tape, 0);
        }
        s4_drop(&b);
        if (test_failures) {
            printf("    in %s\n", any.name);
            return;
        }
    }
}

/*=============================================================================
 * Errors, NaN, many streams
 *===========================================================================*/
static void test_s4_errors(void)
{
    const ssm_seqs seqs = test_seqs(1, 4), huge = test_seqs((size_t)-1 / 2, 8);
    ssm_s4d_config c = {0}, bad[11];
    ssm_s4_config s = {0};
    ssm_s4d layer;
    ssm_s4 low_rank;
    ssm_sizes need;
    ssm_real memory[4] = {1, 2, 3, 4}, before[4] = {1, 2, 3, 4};
    size_t i, bytes = 7;
    CHECK_STATUS(ssm_s4d_config_resolve(&c, &c), SSM_ERR_CONFIG);
    c.d_model = 4;
    for (i = 0; i < 11; ++i) bad[i] = c;
    bad[0].d_state = 3;
    bad[1].n_ssm = 3;
    bad[2].disc = SSM_DISC_TRAPEZOID;
    bad[3].dt_min = 1;
    bad[4].real_state = 1;
    bad[4].init = SSM_S4_INIT_LEGS;
    bad[5].form = (ssm_s4_form)7;
    bad[6].activation = (ssm_s4_activation)-1;
    bad[7].output = (ssm_s4_output)2;
    bad[8].norm_eps = -1;
    bad[9].weights = (ssm_s4_weights)4;
    bad[10].scan = (ssm_scan)4;
    for (i = 0; i < 11; ++i) {
        CHECK_STATUS(ssm_s4d_sizes(&bad[i], &seqs, &need), SSM_ERR_CONFIG);
        CHECK_STATUS(ssm_s4d_bind(&layer, &bad[i], memory, memory, sizeof memory), SSM_ERR_CONFIG);
    }
    CHECK_STATUS(ssm_s4d_sizes(&c, NULL, &need), SSM_ERR_NULL);
    CHECK_STATUS(ssm_s4d_sizes(&c, &seqs, NULL), SSM_ERR_NULL);
    CHECK_STATUS(ssm_s4d_sizes(&c, &huge, &need), SSM_ERR_OVERFLOW);
    CHECK_STATUS(ssm_s4d_bind(&layer, &c, memory, memory, sizeof memory), SSM_ERR_MEMORY);
    CHECK_STATUS(ssm_s4d_bind(NULL, &c, memory, memory, sizeof memory), SSM_ERR_NULL);
    CHECK_STATUS(ssm_s4d_forward(NULL, memory, memory, memory, &seqs, NULL, 0), SSM_ERR_NULL);
    CHECK_STATUS(ssm_s4d_step(NULL, memory, memory, memory, 1, NULL, 0), SSM_ERR_NULL);
    CHECK_STATUS(ssm_s4d_kernel_size(NULL, 4, &bytes), SSM_ERR_NULL);
    CHECK_STATUS(ssm_s4_plain_C(NULL, memory), SSM_ERR_NULL);
    CHECK_STATUS(ssm_s4_config_resolve(&s, &s), SSM_ERR_CONFIG);
    s.d_model = 4;
    s.scan = (ssm_scan)-1;
    CHECK_STATUS(ssm_s4_config_resolve(&s, &s), SSM_ERR_CONFIG);
    for (i = 0; i < 3; ++i) { /* a dense carry */
        s.scan = i ? SSM_SCAN_CHUNKED : SSM_SCAN_BLELLOCH;
        s.form = i == 2 ? SSM_S4_FORM_CONVOLUTION : SSM_S4_FORM_AUTO;
        need.work = 7;
        CHECK_STATUS(ssm_s4_sizes(&s, &seqs, &need), SSM_ERR_UNSUPPORTED);
        CHECK(need.work == 7);
        CHECK_STATUS(ssm_s4_init(&s, memory, 1), SSM_ERR_UNSUPPORTED);
        CHECK_STATUS(ssm_s4_bind(&low_rank, &s, memory, memory, sizeof memory), SSM_ERR_UNSUPPORTED);
    }
    c.scan = SSM_SCAN_CHUNKED;
    CHECK_STATUS(ssm_s4d_sizes(&c, &huge, &need), SSM_ERR_OVERFLOW);
    c.d_model = (size_t)-1 / 8;
    CHECK_STATUS(ssm_s4d_sizes(&c, &seqs, &need), SSM_ERR_OVERFLOW);
    CHECK_SAME(memory, before, 4);
    CHECK(bytes == 7);
}

/* Memory of a time-parallel scan: exact, more for more chunks, and refused before anything is written. */
static void test_s4_memory(void)
{
    const ssm_seqs shortest = test_seqs(1, 64), longest = test_seqs(1, 257);
    s4_any automatic = s4_by(&s4_list[0], S4_RECURRENT);
    const s4_any sequential = automatic, chunked = s4_by(&automatic, S4_CHUNKED), tree = s4_by(&automatic, S4_BLELLOCH);
    ssm_sizes need[4];
    size_t way, before = 0, len;
    ssm_rng rng;
    rng.state = test_seed;
    automatic.d.scan = SSM_SCAN_AUTO; /* in a layer: sequential */
    CHECK_OK(s4_sizes(&automatic, &longest, &need[0]));
    CHECK_OK(s4_sizes(&sequential, &longest, &need[1]));
    CHECK_OK(s4_sizes(&chunked, &longest, &need[2]));
    CHECK_OK(s4_sizes(&tree, &longest, &need[3]));
    CHECK(need[0].work == need[1].work && need[1].work < need[2].work && need[2].work < need[3].work);
    CHECK_OK(s4_sizes(&tree, &shortest, &need[3])); /* one chunk carries nothing */
    CHECK_OK(s4_sizes(&sequential, &shortest, &need[1]));
    if (SSM_TILE_ROWS >= 64) CHECK(need[3].work == need[1].work);
    for (way = S4_CHUNKED; way < S4_WAYS; ++way) {
        const s4_any any = s4_by(&s4_list[0], way);
        for (len = 64; len <= 257; len += 64) { /* 64, 128, 192, 256 */
            const ssm_seqs seqs = test_seqs(1, len);
            const size_t H = any.d.d_model;
            ssm_real *x = test_normal(&rng, len * H, 1), *y = test_copy(x, len * H);
            s4_bound b = s4_make(&any, &rng);
            const size_t states = b.need.state / sizeof(ssm_real);
            ssm_real *state = test_normal(&rng, states, 1), *keep = test_copy(state, states);
            size_t bytes;
            void *work = s4_work(&any, &seqs, 1, &bytes);
            if (len > 64) CHECK(bytes > before);
            before = bytes;
            CHECK_STATUS(s4_forward(&b, state, x, y, &seqs, work, bytes - 1), SSM_ERR_MEMORY);
            CHECK_STATUS(s4_forward(&b, state, x, y, &seqs, NULL, bytes), SSM_ERR_NULL);
            CHECK_SAME(y, x, len * H);
            CHECK_SAME(state, keep, states);
            CHECK_OK(s4_forward(&b, state, x, y, &seqs, work, bytes));
            test_free(x, 0);
            test_free(y, 0);
            test_free(state, 0);
            test_free(keep, 0);
            test_free(work, 1);
            s4_drop(&b);
        }
    }
}

/* NaN in one channel stays there, in each way, and but for the convolution does not reach the past; many
 * streams step as each alone. */
static void s4_check_nan(const s4_any *list, size_t way, ssm_rng *rng)
{
    enum { LEN = 200, NOW = 70 };
    const ssm_seqs seqs = test_seqs(1, LEN);
    const s4_any any = s4_by(list, way);
    const size_t H = any.d.d_model;
    ssm_real *x = test_normal(rng, LEN * H, 1), *y = test_zeros(LEN * H), *z = test_zeros(LEN * H), *state;
    s4_bound b;
    size_t bytes, t, h;
    void *work;
    b = s4_make(&any, rng);
    state = test_zeros(b.need.state / sizeof(ssm_real));
    work = s4_work(&any, &seqs, 1, &bytes);
    CHECK_OK(s4_forward(&b, state, x, y, &seqs, work, bytes));
    x[NOW * H + 1] = (ssm_real)NAN;
    memset(state, 0, b.need.state);
    CHECK_OK(s4_forward(&b, state, x, z, &seqs, work, bytes));
    for (t = 0; t < LEN; ++t)
        for (h = 0; h < H; ++h)
            if (h != 1 || (t < NOW && way != S4_CONVOLUTION)) CHECK_SAME(z + t * H + h, y + t * H + h, 1);
    for (t = NOW; t < LEN; ++t) CHECK(z[t * H + 1] != z[t * H + 1]);
    test_free(x, 0);
    test_free(y, 0);
    test_free(z, 0);
    test_free(state, 0);
    test_free(work, 1);
    s4_drop(&b);
}

static void s4_check_streams(const s4_any *any, ssm_rng *rng)
{
    enum { STREAMS = 130 };
    const size_t H = any->d.d_model;
    s4_bound b = s4_make(any, rng);
    const size_t states = b.need.state / sizeof(ssm_real);
    const ssm_seqs seqs = test_seqs(STREAMS, 1);
    ssm_real *x = test_normal(rng, STREAMS * H, 1), *y = test_zeros(STREAMS * H), *z = test_zeros(H);
    ssm_real *state = test_normal(rng, STREAMS * states, 1), *alone = test_copy(state, STREAMS * states);
    size_t bytes, i;
    void *work = s4_work(any, &seqs, 1, &bytes);
    CHECK_OK(s4_step(&b, state, x, y, STREAMS, work, bytes));
    for (i = 0; i < STREAMS; ++i) {
        CHECK_OK(s4_step(&b, alone + i * states, x + i * H, z, 1, work, bytes));
        CHECK_SAME(z, y + i * H, H);
    }
    CHECK_SAME(state, alone, STREAMS * states);
    test_free(x, 0);
    test_free(y, 0);
    test_free(z, 0);
    test_free(state, 0);
    test_free(alone, 0);
    test_free(work, 1);
    s4_drop(&b);
}

static void test_s4_nan_streams(void)
{
    ssm_rng rng;
    size_t way;
    rng.state = test_seed;
    for (way = 0; way < S4_WAYS; ++way) s4_check_nan(&s4_list[0], way, &rng);
    for (way = 0; way < s4_ways(&s4_list[10]); ++way) s4_check_nan(&s4_list[10], way, &rng);
    s4_check_streams(&s4_list[0], &rng);
    s4_check_streams(&s4_list[6], &rng);
    s4_check_streams(&s4_list[12], &rng);
}

static const test_case s4_cases[] = {
    {"s4/fft", test_s4_fft},
    {"s4/convolve", test_s4_convolve},
    {"s4/gelu", test_s4_gelu},
    {"s4/oracle", test_s4_oracle},
    {"s4/laws", test_s4_laws},
    {"s4/threads", test_s4_threads},
    {"s4/memory", test_s4_memory},
    {"s4/convolution", test_s4_convolution},
    {"s4/kernel", test_s4_kernel},
    {"s4/gradients", test_s4_gradients},
    {"s4/kernel_gradients", test_s4_kernel_gradients},
    {"s4/errors", test_s4_errors},
    {"s4/nan_streams", test_s4_nan_streams},
};
