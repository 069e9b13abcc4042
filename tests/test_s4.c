/* test_s4.c - what S4D and S4 have beside the laws of every layer (test_layers.c): FFT, GELU, kernels against dense
 * matrices (oracle_lti.h) and their gradients, two forms, chunks of time shared out. */

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
    return b->any.low_rank ? ssm_s4_bind(&b->s, &c, b->params, ssm_memory_of(b->mem, b->need.bound))
                           : ssm_s4d_bind(&b->d, &b->any.d, b->params, ssm_memory_of(b->mem, b->need.bound));
}

static ssm_status s4_forward(const s4_bound *b, ssm_real *state, const ssm_real *x, ssm_real *y, const ssm_seqs *seqs,
                             ssm_memory work)
{
    return b->any.low_rank ? ssm_s4_forward(&b->s, state, x, y, seqs, work)
                           : ssm_s4d_forward(&b->d, state, x, y, seqs, work);
}

static ssm_status s4_record(const s4_bound *b, ssm_real *state, const ssm_real *x, ssm_real *y, const ssm_seqs *seqs,
                            ssm_memory tape, ssm_memory work)
{
    return b->any.low_rank ? ssm_s4_record(&b->s, state, x, y, seqs, tape, work)
                           : ssm_s4d_record(&b->d, state, x, y, seqs, tape, work);
}

static ssm_status s4_backward(const s4_bound *b, ssm_real *dstate, const ssm_real *x, const ssm_real *dy, ssm_real *dx,
                              ssm_real *dparams, const ssm_seqs *seqs, ssm_memory tape, ssm_memory work)
{
    return b->any.low_rank ? ssm_s4_backward(&b->s, dstate, x, dy, dx, dparams, seqs, tape, work)
                           : ssm_s4d_backward(&b->d, dstate, x, dy, dx, dparams, seqs, tape, work);
}

static ssm_status s4_kernel(const s4_bound *b, ssm_real *kernel, size_t len, ssm_memory work)
{
    return b->any.low_rank ? ssm_s4_kernel(&b->s, kernel, len, work) : ssm_s4d_kernel(&b->d, kernel, len, work);
}

static ssm_status s4_kernel_size(const s4_bound *b, size_t len, size_t *bytes)
{
    return b->any.low_rank ? ssm_s4_kernel_size(&b->s, len, bytes) : ssm_s4d_kernel_size(&b->d, len, bytes);
}

static ssm_status s4_kernel_backward(const s4_bound *b, const ssm_real *dkernel, ssm_real *dparams, size_t len,
                                     ssm_memory work)
{
    return b->any.low_rank ? ssm_s4_kernel_backward(&b->s, dkernel, dparams, len, work)
                           : ssm_s4d_kernel_backward(&b->d, dkernel, dparams, len, work);
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
        for (i = 0; i < rows[r].count; ++i) b.params[rows[r].offset + i] += (ssm_real)0.1 * test_draw(rng);
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
            oracle_complex sum = 0;
            for (j = 0; j < n; ++j)
                sum += oracle_pair((double)x[2 * j], (double)x[2 * j + 1]) *
                       cexp(oracle_pair(0, -2) * 3.14159265358979323846 * (double)(j * k % n) / (double)n);
            want[2 * k] = creal(sum);
            want[2 * k + 1] = cimag(sum);
        }
        CHECK_STATUS(ssm_fft(data, n, 0, ssm_memory_of(work, bytes - 1)), SSM_ERR_MEMORY);
        CHECK_SAME(data, x, 2 * n);
        CHECK_OK(ssm_fft(data, n, 0, ssm_memory_of(work, bytes)));
        for (k = 0; k < 2 * n; ++k) {
            norm += want[k] * want[k];
            error += ((double)data[k] - want[k]) * ((double)data[k] - want[k]);
        }
        check_bound("fft", sqrt(error / norm), TOL(3e-7, 2e-15)); /* the naive sum is not exact in double */
        CHECK_OK(ssm_fft(data, n, 1, ssm_memory_of(work, bytes)));
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
        CHECK_OK(ssm_convolve(a, na, b, nb, y, ssm_memory_of(work, bytes)));
        CHECK_CLOSE(y, want, ny, TOL(1e-6, 2e-15));
        if (bytes) CHECK_STATUS(ssm_convolve(a, na, b, nb, y, ssm_memory_of(work, bytes - 1)), SSM_ERR_MEMORY);
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
    ULP(our_erf, wide_erf, -0.5, 0.5, 0, 2.9);
    ULP(our_erf, wide_erf, 0.5, 7, 0, 2.9);
    ULP(our_erf, wide_erf, -7, -0.5, 0, 2.9);
    CHECK(our_erf(0) == 0 && our_erf((ssm_real)HUGE_VAL) == 1 && our_erf((ssm_real)-HUGE_VAL) == -1);
    CHECK(our_erf((ssm_real)NAN) != our_erf((ssm_real)NAN) && our_gelu((ssm_real)NAN) != our_gelu((ssm_real)NAN));
    for (x = -6; x < 6; x += 0.0137) {
        const ssm_real at = (ssm_real)x;
        const double exact = (double)at;
        const double want = exact * 0.5 * erfc(-exact / sqrt(2)), got = (double)our_gelu(at);
        const double density = exp(-exact * exact / 2) / sqrt(6.28318530717958647693);
        const double slope = 0.5 * erfc(-exact / sqrt(2)) + exact * density;
        const ssm_real got_slope = ssm__gelu_derivative(at);
        if (want != 0) check_bound("gelu", fabs(got / want - 1), TOL(6e-7, 1.2e-15) * (1 + exact * exact / 4));
        CHECK(fabs((double)got_slope - slope) <= TOL(3e-7, 6e-16));
    }
}

/*=============================================================================
 * Two forms, kernels
 *===========================================================================*/
static void *s4_work(const s4_any *a, const ssm_seqs *seqs, int keep_state, size_t *bytes)
{
    ssm_sizes need;
    CHECK_OK(s4_sizes(a, seqs, &need));
    *bytes = need.work + (keep_state ? 0 : need.state + SSM_ALIGN);
    return test_alloc(*bytes, 1);
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

/* One block of channels leaves only chunks of time to share out: 1, 2, 3 and 7 threads, the same bits as one
 * after another, and as sequential within rounding. */
static void test_s4_threads(void)
{
    static const s4_any list[] = {
        {"s4d", 0, {.d_model = 5, .d_state = 64}, 0},
        {"s4d real", 0, {.d_model = 5, .d_state = 64, .real_state = 1}, 0},
        {"s4d bidirectional", 0, {.d_model = 5, .d_state = 64, .bidirectional = 1}, 0},
        {"s4d two blocks", 0, {.d_model = SSM__PANEL + 3, .d_state = 64}, 0},
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
                CHECK_OK(s4_forward(&b, NULL, x, plain, &seqs, ssm_memory_of(work, bytes)));
                if (!want) want = test_copy(plain, count);
                s4_check_pieces(&any, plain, want, count);
                for (i = 0; way != S4_RECURRENT && i < 4; ++i) {
                    test_pool pool = {0, 0};
                    ssm_parallel parallel;
                    pool.threads = threads[i];
                    parallel.run = test_pool_run;
                    parallel.pool = &pool;
                    seqs.parallel = &parallel;
                    CHECK_OK(s4_forward(&b, NULL, x, y, &seqs, ssm_memory_of(work, bytes)));
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
            CHECK_OK(s4_forward(&b, s, x, y, &seqs, ssm_memory_of(work, bytes)));
            CHECK_OK(s4_forward(&conv, r, x, z, &seqs, ssm_memory_of(conv_work, conv_bytes)));
            for (i = 0; i < rows * H; ++i) want[i] = (double)y[i];
            CHECK_CLOSE(z, want, rows * H, TOL(1e-5, 1e-11));
            CHECK_SAME(s, r, batch * states); /* the same pass carries it */
            CHECK_STATUS(s4_forward(&conv, r, x, z, &seqs, ssm_memory_of(conv_work, conv_bytes - 1)), SSM_ERR_MEMORY);
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

/* What the oracle gives to an impulse: powers of the dense matrix. */
static void s4_oracle_kernel(const s4_bound *b, double *want, size_t len)
{
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = ssm_params_of(rows, SSM_PARAMS_MAX);
    const s4_options options =
        b->any.low_rank ? s4_options_of_s4(&b->s.config) : s4_options_of_s4d(&b->d.config);
    const void *config = b->any.low_rank ? (const void *)&b->s.config : (const void *)&b->d.config;
    const size_t H = options.d_model;
    double *params = test_doubles(b->params, b->need.params / sizeof(ssm_real));
    layer_oracle o = {NULL};
    size_t d, h, l;
    CHECK_OK(s4_table(&b->any, &table));
    o.config = config;
    o.table = &table;
    o.params = params;
    for (d = 0; d < s4_core(b)->directions; ++d)
        for (h = 0; h < H; ++h) {
            const s4_dense k = s4_densify(&o, &options, h);
            oracle_complex s[S4_ORACLE_MAX] = {0};
            for (l = 0; l < len; ++l) {
                s4_dense_step(&k, s, l == 0);
                want[(d * H + h) * len + l] = s4_dense_read(&k, (int)d, s);
            }
        }
    test_free(params, 0);
}

/* Kernels of even and odd lengths. */
static void test_s4_kernel(void)
{
    static const size_t lens[] = {1, 2, 3, 8, 15, 16, 31, 100, 129};
    ssm_rng rng;
    size_t c, i;
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
            s4_oracle_kernel(&b, want, len);
            CHECK_OK(s4_kernel_size(&b, len, &bytes));
            work = test_alloc(bytes, 1);
            CHECK_STATUS(s4_kernel(&b, kernel, len, ssm_memory_of(work, bytes - 1)), SSM_ERR_MEMORY);
            CHECK_OK(s4_kernel(&b, kernel, len, ssm_memory_of(work, bytes)));
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
            CHECK_OK(s4_record(&b, NULL, x, y, &seqs, ssm_memory_of(tape, need.tape),
                               ssm_memory_of(work, need.work + need.state + SSM_ALIGN)));
            CHECK_OK(s4_backward(&b, NULL, x, dy, NULL, want, &seqs, ssm_memory_of(tape, need.tape),
                                 ssm_memory_of(work, need.work_backward + need.state + SSM_ALIGN)));
            CHECK_OK(s4_kernel_size(&b, len, &bytes));
            kernel_work = test_alloc(bytes, 0);
            CHECK_OK(s4_kernel_backward(&b, dkernel, got, len, ssm_memory_of(kernel_work, bytes)));
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
 * Errors, memory, NaN
 *===========================================================================*/
static void test_s4_errors(void)
{
    static const ssm_s4d never_bound;
    const ssm_seqs seqs = test_seqs(1, 4), huge = test_seqs((size_t)-1 / 2, 8);
    ssm_s4d_config c = {0};
    ssm_s4_config s = {0};
    ssm_s4 low_rank;
    ssm_sizes need;
    ssm_real memory[4] = {1, 2, 3, 4}, before[4] = {1, 2, 3, 4};
    size_t i, bytes = 7;
    CHECK_STATUS(ssm_s4d_kernel_size(NULL, 4, &bytes), SSM_ERR_NULL);
    CHECK_STATUS(ssm_s4_plain_C(NULL, memory), SSM_ERR_NULL);
    CHECK_STATUS(ssm_s4d_kernel_size(&never_bound, 4, &bytes), SSM_ERR_CONFIG);
    CHECK_STATUS(ssm_s4d_kernel(&never_bound, memory, 4, ssm_memory_of(memory, sizeof memory)), SSM_ERR_CONFIG);
    CHECK_STATUS(ssm_s4d_kernel_backward(&never_bound, memory, memory, 4, ssm_memory_of(memory, sizeof memory)),
                 SSM_ERR_CONFIG);
    s.d_model = 4;
    for (i = 0; i < 3; ++i) { /* a dense carry */
        s.scan = i ? SSM_SCAN_CHUNKED : SSM_SCAN_BLELLOCH;
        s.form = i == 2 ? SSM_S4_FORM_CONVOLUTION : SSM_S4_FORM_AUTO;
        need.work = 7;
        CHECK_STATUS(ssm_s4_sizes(&s, &seqs, &need), SSM_ERR_UNSUPPORTED);
        CHECK(need.work == 7);
        CHECK_STATUS(ssm_s4_init(&s, memory, 1), SSM_ERR_UNSUPPORTED);
        CHECK_STATUS(ssm_s4_bind(&low_rank, &s, memory, ssm_memory_of(memory, sizeof memory)), SSM_ERR_UNSUPPORTED);
    }
    c.d_model = 4;
    c.scan = SSM_SCAN_CHUNKED;
    CHECK_STATUS(ssm_s4d_sizes(&c, &huge, &need), SSM_ERR_OVERFLOW);
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
            CHECK_STATUS(s4_forward(&b, state, x, y, &seqs, ssm_memory_of(work, bytes - 1)), SSM_ERR_MEMORY);
            CHECK_STATUS(s4_forward(&b, state, x, y, &seqs, ssm_memory_of(NULL, bytes)), SSM_ERR_NULL);
            CHECK_SAME(y, x, len * H);
            CHECK_SAME(state, keep, states);
            CHECK_OK(s4_forward(&b, state, x, y, &seqs, ssm_memory_of(work, bytes)));
            test_free(x, 0);
            test_free(y, 0);
            test_free(state, 0);
            test_free(keep, 0);
            test_free(work, 1);
            s4_drop(&b);
        }
    }
}

/* NaN in one channel stays there, in each way, and but for the convolution does not reach the past. */
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
    CHECK_OK(s4_forward(&b, state, x, y, &seqs, ssm_memory_of(work, bytes)));
    x[NOW * H + 1] = (ssm_real)NAN;
    memset(state, 0, b.need.state);
    CHECK_OK(s4_forward(&b, state, x, z, &seqs, ssm_memory_of(work, bytes)));
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

static void test_s4_nan(void)
{
    ssm_rng rng;
    size_t way;
    rng.state = test_seed;
    for (way = 0; way < S4_WAYS; ++way) s4_check_nan(&s4_list[0], way, &rng);
    for (way = 0; way < s4_ways(&s4_list[10]); ++way) s4_check_nan(&s4_list[10], way, &rng);
}

/* What presets set, and nothing else. */
static void s4_presets(void)
{
    ssm_s4d_config tracetorch = {0}, zerfoo = {0}, paper = {0}, want = {0};
    ssm_s4d_preset(&paper, SSM_PRESET_PAPER);
    CHECK(memcmp(&paper, &want, sizeof want) == 0);
    want.real_state = want.train_B = 1;
    want.init = SSM_S4_INIT_REAL;
    want.disc = SSM_DISC_ZOH;
    want.weights = SSM_S4_WEIGHTS_ALL_NORMAL;
    want.normal_dt = 1;
    ssm_s4d_preset(&tracetorch, SSM_PRESET_TRACETORCH);
    CHECK(memcmp(&tracetorch, &want, sizeof want) == 0);
    want.disc = SSM_DISC_DIRAC;
    want.weights = SSM_S4_WEIGHTS_UNIFORM;
    want.normal_dt = 0;
    want.no_dt = 1;
    ssm_s4d_preset(&zerfoo, SSM_PRESET_ZERFOO);
    CHECK(memcmp(&zerfoo, &want, sizeof want) == 0);
}

static const test_case s4_cases[] = {
    {"s4/presets", s4_presets},
    {"s4/fft", test_s4_fft},
    {"s4/convolve", test_s4_convolve},
    {"s4/gelu", test_s4_gelu},
    {"s4/threads", test_s4_threads},
    {"s4/memory", test_s4_memory},
    {"s4/convolution", test_s4_convolution},
    {"s4/kernel", test_s4_kernel},
    {"s4/kernel_gradients", test_s4_kernel_gradients},
    {"s4/errors", test_s4_errors},
    {"s4/nan", test_s4_nan},
};
