/* test_scan.c - the linear scan: every algorithm against a double-precision recurrence, the carry
 * operator, gradients, and work shared out in any order. Names: scan/... */

/* One problem with its data: dense [batch][len][dim] values, pairs if complex. */
typedef struct scan_problem {
    ssm_linear_scan s;
    size_t width;
    size_t count; /* reals of a, b, h */
    size_t states;
    ssm_real *a, *b, *h, *h0, *last;
    void *work;
    size_t work_bytes;
} scan_problem;

static ssm_in scan_view(const ssm_real *data, size_t len, size_t dim, size_t width)
{
    ssm_in v = {0};
    v.data = data;
    v.batch = (ptrdiff_t)(len * dim * width);
    v.time = (ptrdiff_t)(dim * width);
    v.chan = (ptrdiff_t)width;
    return v;
}

static void scan_open(scan_problem *p, size_t batch, size_t len, size_t dim, int pairs, int reverse, ssm_scan scan)
{
    ssm_rng rng;
    ssm_sizes need = {0};
    size_t i;
    memset(p, 0, sizeof *p);
    rng.state = test_seed + 977 * len + dim;
    p->width = pairs ? 2 : 1;
    p->count = batch * len * dim * p->width;
    p->states = batch * dim * p->width;
    p->a = test_normal(&rng, p->count, 0.5); /* signs and sizes of all kinds; contracting on the whole */
    for (i = 0; i < p->count; ++i)
        if (p->a[i] > 1 || p->a[i] < -1) p->a[i] = (ssm_real)0.7;
    p->b = test_normal(&rng, p->count, 1);
    p->h0 = test_normal(&rng, p->states, 1);
    p->h = test_zeros(p->count);
    p->last = test_zeros(p->states);
    p->s.batch = batch;
    p->s.len = len;
    p->s.dim = dim;
    p->s.complex_values = pairs;
    p->s.reverse = reverse;
    p->s.scan = scan;
    p->s.a = scan_view(p->a, len, dim, p->width);
    p->s.b = scan_view(p->b, len, dim, p->width);
    p->s.h0 = scan_view(p->h0, 1, dim, p->width);
    p->s.h = ssm_out_like(p->h, p->s.a);
    p->s.h_last = ssm_out_like(p->last, p->s.h0);
    CHECK_OK(ssm_linear_scan_sizes(&p->s, &need));
    p->work_bytes = need.work;
    p->work = test_alloc(need.work, 3);
}

static void scan_close(scan_problem *p)
{
    test_free(p->a, 0);
    test_free(p->b, 0);
    test_free(p->h, 0);
    test_free(p->h0, 0);
    test_free(p->last, 0);
    test_free(p->work, 3);
}

/* The recurrence in double, on the problem's own data; want: [count], want_last: [states]. */
static void scan_oracle(const scan_problem *p, double *want, double *want_last)
{
    const size_t W = p->width, L = p->s.len, D = p->s.dim;
    size_t b, c, i;
    for (b = 0; b < p->s.batch; ++b) {
        for (c = 0; c < D; ++c) {
            const ssm_real *h0 = p->h0 + (b * D + c) * W;
            double re = (double)h0[0], im = W == 2 ? (double)h0[1] : 0;
            for (i = 0; i < L; ++i) {
                const size_t at = ((b * L + (p->s.reverse ? L - 1 - i : i)) * D + c) * W;
                const double ar = (double)p->a[at], ai = W == 2 ? (double)p->a[at + 1] : 0;
                const double next = ar * re - ai * im + (double)p->b[at];
                im = ar * im + ai * re + (W == 2 ? (double)p->b[at + 1] : 0);
                re = next;
                want[at] = re;
                if (W == 2) want[at + 1] = im;
            }
            want_last[(b * D + c) * W] = re;
            if (W == 2) want_last[(b * D + c) * W + 1] = im;
        }
    }
}

static void scan_check(size_t batch, size_t len, size_t dim, int pairs, int reverse, ssm_scan scan)
{
    scan_problem p;
    double *want, *want_last;
    scan_open(&p, batch, len, dim, pairs, reverse, scan);
    want = (double *)malloc((p.count + p.states) * sizeof *want + 1);
    want_last = want + p.count;
    scan_oracle(&p, want, want_last);
    CHECK_OK(ssm_linear_scan_forward(&p.s, p.work, p.work_bytes));
    CHECK_CLOSE(p.h, want, p.count, TOL(1e-5, 1e-13));
    CHECK_CLOSE(p.last, want_last, p.states, TOL(1e-5, 1e-13));
    free(want);
    scan_close(&p);
}

static const ssm_scan scan_algorithms[] = {SSM_SCAN_AUTO, SSM_SCAN_SEQUENTIAL, SSM_SCAN_BLELLOCH, SSM_SCAN_CHUNKED};

static void scan_each_algorithm(size_t batch, size_t len, size_t dim)
{
    size_t i;
    int kind;
    for (i = 0; i < 4; ++i)
        for (kind = 0; kind < 4; ++kind) scan_check(batch, len, dim, kind & 1, kind >> 1, scan_algorithms[i]);
}

static void scan_all_lengths(void)
{
    size_t len;
    for (len = 0; len <= 257; ++len) scan_each_algorithm(1, len, 1);
}

static void scan_primes(void)
{
    static const size_t len[] = {331, 509, 1021, 2039, 4099, 10007};
    size_t i;
    for (i = 0; i < sizeof len / sizeof len[0]; ++i) {
        scan_each_algorithm(1, len[i], 1);
        scan_each_algorithm(1, len[i], 3);
    }
}

static void scan_shapes(void)
{
    static const size_t dim[] = {1, 2, 3, 7, 8, 15, 16, 17, 33};
    size_t i;
    for (i = 0; i < sizeof dim / sizeof dim[0]; ++i) {
        scan_each_algorithm(3, 131, dim[i]);
        scan_each_algorithm(2, 1500, dim[i]);
    }
}

/* The operator itself: order matters, and the results above would notice. */
static void scan_carry(void)
{
    const ssm_real early[4] = {2, 1, 3, -1}, late[4] = {(ssm_real)0.5, -1, 1, 4};
    const double real_want[2] = {(double)(ssm_real)0.5 * 2, 0.5 * 1 - 1};
    const double swapped = 2 * -1.0 + 1; /* b of the wrong order */
    /* (0.5 - i)(2 + i) = 2 - 1.5 i; (0.5 - i)(3 - i) + (1 + 4i) = 1.5 + 0.5 i */
    const double pair_want[4] = {2, -1.5, 1.5, 0.5};
    ssm_real got[4], id[4];
    ssm_carry_combine(got, early, late, 0);
    CHECK_CLOSE(got, real_want, 2, 1e-7);
    CHECK((double)got[1] != swapped);
    ssm_carry_combine(got, early, late, 1);
    CHECK_CLOSE(got, pair_want, 4, 1e-7);
    ssm_carry_identity(id, 1);
    ssm_carry_combine(got, id, late, 1);
    CHECK_SAME(got, late, 4);
    ssm_carry_combine(got, late, id, 1);
    CHECK_SAME(got, late, 4);
    ssm_carry_identity(id, 0);
    ssm_carry_combine(id, early, id, 0); /* out may be an operand */
    CHECK_SAME(id, early, 2);
}

/* Sequences split over "machines": maps of the parts, combined in order, give each part its h0. */
static void scan_split_by_carries(void)
{
    enum { PARTS = 5, LEN = 200, EACH = LEN / PARTS };
    scan_problem p;
    ssm_real carry[PARTS][4], prefix[4];
    size_t part, t;
    scan_open(&p, 1, LEN, 1, 1, 0, SSM_SCAN_SEQUENTIAL);
    CHECK_OK(ssm_linear_scan_forward(&p.s, p.work, p.work_bytes));
    for (part = 0; part < PARTS; ++part) {
        ssm_carry_identity(carry[part], 1);
        for (t = part * EACH; t < (part + 1) * EACH; ++t) {
            const ssm_real step[4] = {p.a[2 * t], p.a[2 * t + 1], p.b[2 * t], p.b[2 * t + 1]};
            ssm_carry_combine(carry[part], carry[part], step, 1);
        }
    }
    ssm_carry_identity(prefix, 1);
    for (part = 0; part < PARTS; ++part) {
        const size_t end = ((part + 1) * EACH - 1) * 2;
        double want[2];
        ssm_real got[2];
        ssm_carry_combine(prefix, prefix, carry[part], 1);
        got[0] = prefix[0] * p.h0[0] - prefix[1] * p.h0[1] + prefix[2];
        got[1] = prefix[0] * p.h0[1] + prefix[1] * p.h0[0] + prefix[3];
        want[0] = (double)p.h[end];
        want[1] = (double)p.h[end + 1];
        CHECK_CLOSE(got, want, 2, TOL(1e-5, 1e-13));
    }
    scan_close(&p);
}

/* 1, 2, 3 and 7 threads, tasks in a strange order: the same bits. */
static void scan_threads(void)
{
    static const size_t strides[] = {1, 2, 3, 7};
    static const size_t dims[] = {1, 5, 64};
    size_t i, k, d;
    for (d = 0; d < 3; ++d) {
        for (i = 0; i < 4; ++i) {
            scan_problem p;
            ssm_real *want;
            size_t calls = 0;
            scan_open(&p, 3, 120000 / dims[d], dims[d], (int)(d & 1), 0, scan_algorithms[i]);
            CHECK_OK(ssm_linear_scan_forward(&p.s, p.work, p.work_bytes));
            want = test_copy(p.h, p.count);
            for (k = 0; k < 4; ++k) {
                test_pool pool = {strides[k], 0};
                const ssm_parallel parallel = {test_pool_run, &pool};
                p.s.parallel = &parallel;
                memset(p.h, 0, p.count * sizeof *p.h);
                CHECK_OK(ssm_linear_scan_forward(&p.s, p.work, p.work_bytes));
                CHECK_SAME(p.h, want, p.count);
                calls += pool.tasks;
            }
            if (dims[d] != 1 || scan_algorithms[i] == SSM_SCAN_BLELLOCH) CHECK(calls > 0);
            test_free(want, 0);
            scan_close(&p);
        }
    }
}

/* In place, split with the carried state, packed sequences: the same bits as plain, sequentially. */
static void scan_laws(void)
{
    enum { LEN = 97, DIM = 5 };
    static const size_t start[] = {0, 40, 40, LEN};
    size_t k, b;
    int pairs;
    for (pairs = 0; pairs < 2; ++pairs) {
        scan_problem p;
        ssm_linear_scan part;
        ssm_real *want, *want_last, *state;
        scan_open(&p, 1, LEN, DIM, pairs, 0, SSM_SCAN_SEQUENTIAL);
        CHECK_OK(ssm_linear_scan_forward(&p.s, NULL, 0));
        want = test_copy(p.h, p.count);
        want_last = test_copy(p.last, p.states);
        state = test_zeros(3 * p.states);
        for (k = 0; k <= LEN; k += 16) { /* split */
            part = p.s;
            part.len = k;
            CHECK_OK(ssm_linear_scan_forward(&part, NULL, 0));
            part.len = LEN - k;
            part.a.data += k * DIM * p.width;
            part.b.data += k * DIM * p.width;
            part.h.data += k * DIM * p.width;
            part.h0.data = p.last;
            CHECK_OK(ssm_linear_scan_forward(&part, NULL, 0));
            CHECK_SAME(p.h, want, p.count);
            CHECK_SAME(p.last, want_last, p.states);
        }
        part = p.s; /* packed = each alone */
        part.batch = 3;
        part.start = start;
        part.h0.data = NULL;
        part.h_last.data = state;
        CHECK_OK(ssm_linear_scan_forward(&part, NULL, 0));
        memcpy(want, p.h, p.count * sizeof *want);
        for (b = 0; b < 3; ++b) {
            ssm_linear_scan alone = p.s;
            alone.len = start[b + 1] - start[b];
            alone.a.data += start[b] * DIM * p.width;
            alone.b.data += start[b] * DIM * p.width;
            alone.h.data += start[b] * DIM * p.width;
            alone.h0.data = NULL;
            CHECK_OK(ssm_linear_scan_forward(&alone, NULL, 0));
            CHECK_SAME(p.last, state + b * p.states, p.states);
        }
        CHECK_SAME(p.h, want, p.count);
        part.h.data = p.b; /* in place */
        CHECK_OK(ssm_linear_scan_forward(&part, NULL, 0));
        CHECK_SAME(p.b, want, p.count);
        test_free(want, 0);
        test_free(want_last, 0);
        test_free(state, 0);
        scan_close(&p);
    }
}

/* loss = sum(dh h) + sum(dlast last), by the double oracle. */
static double scan_loss(const scan_problem *p, const ssm_real *dh, const ssm_real *dlast, double *buffer)
{
    double sum = 0;
    size_t i;
    scan_oracle(p, buffer, buffer + p->count);
    for (i = 0; i < p->count; ++i) sum += (double)dh[i] * buffer[i];
    for (i = 0; i < p->states; ++i) sum += (double)dlast[i] * buffer[p->count + i];
    return sum;
}

/* Central differences. Along a single value (no broadcast) the loss is linear: any step is exact. */
static void scan_differences(scan_problem *p, ssm_real *x, size_t count, const ssm_real *dh, const ssm_real *dlast,
                             double *buffer, double *want)
{
    const ssm_real step = (ssm_real)0.0625;
    size_t i;
    for (i = 0; i < count; ++i) {
        const ssm_real old = x[i];
        double up;
        x[i] = old + step;
        up = scan_loss(p, dh, dlast, buffer);
        x[i] = old - step;
        want[i] = (up - scan_loss(p, dh, dlast, buffer)) / (2 * (double)step);
        x[i] = old;
    }
}

static void scan_gradients(void)
{
    int kind;
    for (kind = 0; kind < 4; ++kind) {
        scan_problem p;
        ssm_linear_scan_grad d = {{0}, {0}, {0}, {0}, {0}};
        ssm_rng rng = {test_seed};
        ssm_real *dh, *dlast, *da, *db, *dh0;
        double *buffer, *want;
        scan_open(&p, 2, 9, 3, kind & 1, kind >> 1, SSM_SCAN_SEQUENTIAL);
        dh = test_normal(&rng, p.count, 1);
        dlast = test_normal(&rng, p.states, 1);
        da = test_zeros(p.count);
        db = test_zeros(p.count);
        dh0 = test_zeros(p.states);
        buffer = (double *)malloc((2 * p.count + p.states) * sizeof *buffer);
        want = buffer + p.count + p.states;
        d.dh = scan_view(dh, 9, 3, p.width);
        d.dh_last = scan_view(dlast, 1, 3, p.width);
        d.da = ssm_out_like(da, d.dh);
        d.db = ssm_out_like(db, d.dh);
        d.dh0 = ssm_out_like(dh0, d.dh_last);
        CHECK_OK(ssm_linear_scan_forward(&p.s, p.work, p.work_bytes));
        CHECK_OK(ssm_linear_scan_backward(&p.s, &d));
        scan_differences(&p, p.a, p.count, dh, dlast, buffer, want);
        CHECK_CLOSE(da, want, p.count, TOL(1e-5, 1e-12));
        scan_differences(&p, p.b, p.count, dh, dlast, buffer, want);
        CHECK_CLOSE(db, want, p.count, TOL(1e-5, 1e-12));
        scan_differences(&p, p.h0, p.states, dh, dlast, buffer, want);
        CHECK_CLOSE(dh0, want, p.states, TOL(1e-5, 1e-12));
        free(buffer);
        test_free(dh, 0);
        test_free(dlast, 0);
        test_free(da, 0);
        test_free(db, 0);
        test_free(dh0, 0);
        scan_close(&p);
    }
}

static void scan_errors(void)
{
    scan_problem p;
    ssm_sizes need;
    size_t i;
    static const size_t start[] = {0, 30, 20};
    ssm_linear_scan s;
    scan_open(&p, 1, 500, 2, 0, 0, SSM_SCAN_BLELLOCH);
    for (i = 0; i < p.count; ++i) p.h[i] = 7;
    CHECK_STATUS(ssm_linear_scan_forward(&p.s, p.work, p.work_bytes - 1), SSM_ERR_MEMORY);
    CHECK_STATUS(ssm_linear_scan_forward(&p.s, NULL, 0), SSM_ERR_NULL);
    s = p.s;
    s.a.data = NULL;
    CHECK_STATUS(ssm_linear_scan_forward(&s, p.work, p.work_bytes), SSM_ERR_NULL);
    s = p.s;
    s.dim = 0;
    CHECK_STATUS(ssm_linear_scan_sizes(&s, &need), SSM_ERR_CONFIG);
    s = p.s;
    s.scan = (ssm_scan)77;
    CHECK_STATUS(ssm_linear_scan_forward(&s, p.work, p.work_bytes), SSM_ERR_CONFIG);
    s = p.s;
    s.batch = 2;
    s.start = start;
    CHECK_STATUS(ssm_linear_scan_forward(&s, p.work, p.work_bytes), SSM_ERR_SHAPE);
    s = p.s;
    s.len = (size_t)-1 / 4;
    CHECK_STATUS(ssm_linear_scan_sizes(&s, &need), SSM_ERR_OVERFLOW);
    for (i = 0; i < p.count; ++i) CHECK(p.h[i] == 7);
    scan_close(&p);
}

/* One S5 layer over sequences of one length, forward and backward; all results end to end in `out`
 * (y, dx, dparams). */
static void scan_s5_results(const ssm_s5_config *config, const ssm_seqs *seqs, ssm_real **out, size_t *count)
{
    ssm_rng rng = {test_seed};
    const size_t data = seqs->batch * seqs->len * config->d_model;
    ssm_sizes need;
    ssm_s5 layer;
    ssm_real *x, *dy, *params, *result;
    void *bound, *tape, *work;
    size_t params_count;
    CHECK_OK(ssm_s5_sizes(config, seqs, &need));
    params_count = need.params / sizeof(ssm_real);
    x = test_normal(&rng, data, 1);
    dy = test_normal(&rng, data, 1);
    params = test_zeros(params_count);
    *count = 2 * data + params_count;
    *out = result = test_zeros(*count);
    bound = test_alloc(need.bound, 1);
    tape = test_alloc(need.tape, 1);
    work = test_alloc(need.work + need.state, 1);
    CHECK_OK(ssm_s5_init(config, params, test_seed));
    CHECK_OK(ssm_s5_bind(&layer, config, params, bound, need.bound));
    CHECK_OK(ssm_s5_record(&layer, NULL, x, result, seqs, tape, need.tape, work, need.work + need.state));
    test_free(work, 1);
    work = test_alloc(need.work_backward + need.state, 1);
    CHECK_OK(ssm_s5_backward(&layer, NULL, x, dy, result + data, result + 2 * data, seqs, tape, need.tape, work,
                             need.work_backward + need.state));
    test_free(work, 1);
    test_free(tape, 1);
    test_free(bound, 1);
    test_free(params, 0);
    test_free(x, 0);
    test_free(dy, 0);
}

/* The S5 layer with time-parallel scans = the sequential one, within rounding; one way, both ways,
 * real, and with a step size of its own for every row. */
static void scan_s5_layer(void)
{
    static const size_t lens[] = {1, 80, 81, 333, 5120, 5121};
    ssm_rng rng = {test_seed};
    ssm_real *scale = test_normal(&rng, 2 * 5121, 1);
    size_t i, k, count;
    int form;
    for (i = 0; i < 2 * 5121; ++i) scale[i] = (ssm_real)0.5 + scale[i] * scale[i];
    for (i = 0; i < sizeof lens / sizeof lens[0]; ++i) {
        for (form = 0; form < 4; ++form) {
            static const ssm_scan scans[] = {SSM_SCAN_SEQUENTIAL, SSM_SCAN_CHUNKED, SSM_SCAN_BLELLOCH};
            ssm_s5_config config = {0};
            ssm_seqs seqs = {0};
            ssm_real *want = NULL;
            config.d_model = 2;
            config.d_state = 6;
            config.bidirectional = form == 1;
            config.real_state = form == 2;
            seqs.batch = 2;
            seqs.len = lens[i];
            seqs.step_scale = form == 3 ? scale : NULL;
            for (k = 0; k < 3; ++k) {
                ssm_real *got;
                double *reference;
                size_t j;
                config.scan = scans[k];
                scan_s5_results(&config, &seqs, &got, &count);
                if (k == 0) {
                    want = got;
                    continue;
                }
                reference = (double *)malloc(count * sizeof *reference);
                for (j = 0; j < count; ++j) reference[j] = (double)want[j];
                CHECK_CLOSE(got, reference, count, TOL(1e-4, 1e-12));
                free(reference);
                test_free(got, 0);
            }
            test_free(want, 0);
        }
    }
    test_free(scale, 0);
}

/* Forward of a time-invariant layer with 1, 2, 3 and 7 threads: the same bits. */
#define SCAN_LAYER_THREADS(X, configuration)                                                              \
    static void scan_threads_##X(void)                                                                    \
    {                                                                                                     \
        static const size_t threads[] = {1, 2, 3, 7};                                                     \
        const ssm_##X##_config config = configuration;                                                    \
        ssm_seqs seqs = {0};                                                                              \
        ssm_rng rng = {test_seed};                                                                        \
        ssm_real *x, *y, *want, *params;                                                                  \
        void *bound, *work;                                                                               \
        ssm_##X layer;                                                                                    \
        ssm_sizes need;                                                                                   \
        size_t i, count;                                                                                  \
        seqs.batch = 3;                                                                                   \
        seqs.len = 100;                                                                                   \
        count = seqs.batch * seqs.len * config.d_model;                                                   \
        CHECK_OK(ssm_##X##_sizes(&config, &seqs, &need));                                                 \
        x = test_normal(&rng, count, 1);                                                                  \
        y = test_zeros(count);                                                                            \
        params = (ssm_real *)test_alloc(need.params, 0);                                                  \
        bound = test_alloc(need.bound, 1);                                                                \
        work = test_alloc(need.work + need.state, 1);                                                     \
        CHECK_OK(ssm_##X##_init(&config, params, test_seed));                                             \
        CHECK_OK(ssm_##X##_bind(&layer, &config, params, bound, need.bound));                             \
        CHECK_OK(ssm_##X##_forward(&layer, NULL, x, y, &seqs, work, need.work + need.state));             \
        want = test_copy(y, count);                                                                       \
        for (i = 0; i < 4; ++i) {                                                                         \
            test_pool pool = {0, 0};                                                                      \
            ssm_parallel parallel;                                                                        \
            pool.threads = threads[i];                                                                    \
            parallel.run = test_pool_run;                                                                 \
            parallel.pool = &pool;                                                                        \
            seqs.parallel = &parallel;                                                                    \
            CHECK_OK(ssm_##X##_forward(&layer, NULL, x, y, &seqs, work, need.work + need.state));         \
            CHECK_SAME(y, want, count);                                                                   \
            CHECK(pool.tasks > 0);                                                                        \
        }                                                                                                 \
        test_free(x, 0);                                                                                  \
        test_free(y, 0);                                                                                  \
        test_free(want, 0);                                                                               \
        test_free(params, 0);                                                                             \
        test_free(bound, 1);                                                                              \
        test_free(work, 1);                                                                               \
    }

static const ssm_s4d_config scan_s4d = {.d_model = 70, .output = SSM_S4_OUTPUT_GLU};
static const ssm_s4_config scan_s4 = {.d_model = 70};
static const ssm_s5_config scan_s5 = {.d_model = 70, .scan = SSM_SCAN_CHUNKED};

SCAN_LAYER_THREADS(s4d, scan_s4d)
SCAN_LAYER_THREADS(s4, scan_s4)
SCAN_LAYER_THREADS(s5, scan_s5)

/* Packed sequences under one constant a, one h0: their gradients meet in one place, with any number of
 * threads the same bits. */
static void scan_shared_gradients(void)
{
    enum { BATCH = 50, LEN = 5000 };
    size_t start[BATCH + 1], b, k;
    ssm_rng rng = {test_seed};
    ssm_real *values = test_normal(&rng, 3 * LEN, 1), *db = test_zeros(LEN), a = (ssm_real)0.9, h0 = 1, want[2] = {0, 0};
    ssm_linear_scan s = {0};
    for (b = 0; b <= BATCH; ++b) start[b] = b * (LEN / BATCH);
    s.batch = BATCH;
    s.len = LEN;
    s.dim = 1;
    s.start = start;
    s.scan = SSM_SCAN_SEQUENTIAL;
    s.a.data = &a;
    s.b = ssm_in_btc(values, LEN, 1);
    s.h0.data = &h0;
    s.h = ssm_out_like(values + LEN, s.b);
    CHECK_OK(ssm_linear_scan_forward(&s, NULL, 0));
    for (k = 0; k < 8; ++k) {
        test_pool pool = {k, 0};
        const ssm_parallel parallel = {test_pool_run, &pool};
        ssm_linear_scan_grad d = {{0}, {0}, {0}, {0}, {0}};
        ssm_real got[2] = {0, 0};
        s.parallel = k ? &parallel : NULL;
        d.dh = ssm_in_btc(values + 2 * LEN, LEN, 1);
        d.da.data = &got[0];
        d.dh0.data = &got[1];
        d.db = ssm_out_like(db, s.b);
        CHECK_OK(ssm_linear_scan_backward(&s, &d));
        if (k) CHECK_SAME(got, want, 2);
        else memcpy(want, got, sizeof want);
    }
    test_free(values, 0);
    test_free(db, 0);
}

/* Rows that share one dx add up in it, whatever the threads. */
static void scan_shared_dx(void)
{
    enum { IN = 40, OUT = 40, ROWS = 300 };
    ssm_rng rng = {test_seed};
    ssm_real *weight = test_normal(&rng, IN * OUT, 1), *dy = test_normal(&rng, ROWS * OUT, 1);
    ssm_real *dx = test_zeros(IN), *want = test_zeros(IN);
    test_pool pool = {3, 0};
    const ssm_parallel parallel = {test_pool_run, &pool};
    ssm_linear linear = {IN, OUT, NULL, NULL, NULL, SSM_FORMAT_REAL};
    linear.weight = weight;
    ssm__linear_backward(NULL, &linear, NULL, 0, dy, OUT, want, 0, NULL, NULL, ROWS);
    ssm__linear_backward(&parallel, &linear, NULL, 0, dy, OUT, dx, 0, NULL, NULL, ROWS);
    CHECK_SAME(dx, want, IN);
    test_free(weight, 0);
    test_free(dy, 0);
    test_free(dx, 0);
    test_free(want, 0);
}

static const test_case scan_cases[] = {
    {"scan/threads_shared_gradients", scan_shared_gradients},
    {"scan/threads_shared_dx", scan_shared_dx},
    {"scan/threads_s4d", scan_threads_s4d},
    {"scan/threads_s4", scan_threads_s4},
    {"scan/threads_s5", scan_threads_s5},
    {"scan/s5_layer", scan_s5_layer},
    {"scan/all_lengths", scan_all_lengths},
    {"scan/primes", scan_primes},
    {"scan/shapes", scan_shapes},
    {"scan/carry", scan_carry},
    {"scan/split_by_carries", scan_split_by_carries},
    {"scan/threads", scan_threads},
    {"scan/laws", scan_laws},
    {"scan/gradients", scan_gradients},
    {"scan/errors", scan_errors},
};
