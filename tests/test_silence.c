/* test_silence.c - a state that decays into subnormal numbers slows no stream down.
 *
 * While a verb runs on x86 with vectors, subnormal numbers count as zero: after a silent step none is left in a state.
 * Elsewhere processors handle them at full speed, and they are kept. */
#define SILENCE_FLUSHES ssm_isa_available(SSM_ISA_SSE2)

static const double silence_small = TOL(1e-40, 1e-310);

/* Subnormal numbers among `count`. */
static size_t silence_subnormals(const ssm_real *p, size_t count)
{
    size_t i, found = 0;
    for (i = 0; i < count; ++i) found += p[i] != 0 && fabs((double)p[i]) < TOL(1.17e-38, 2.2e-308);
    return found;
}

/* Whether the program around the verbs has its subnormal numbers: they are flushed inside a verb alone. */
static int silence_put_back(void)
{
    const volatile ssm_real small = (ssm_real)silence_small, half = (ssm_real)0.5;
    const volatile ssm_real less = small * half;
    return less != 0;
}

static const layer_config silence_configs[] = {
    LAYER(selective, .d_model = 20), LAYER(s6, .d_model = 20), LAYER(mamba, .d_model = 20),
    LAYER(s4d, .d_model = 20),       LAYER(s4, .d_model = 20), LAYER(s5, .d_model = 20),
    LAYER(s5, .d_model = 20, .lru = 1), LAYER(rglru, .d_model = 20),
};

/* Runs silent steps from a subnormal state, once by step and once by forward: no subnormal number stays, and the two
 * agree. */
static void silence_layer(const layer_config *c)
{
    enum { DIM = 20, LEN = 9 };
    const layer_type *type = c->type;
    const ssm_seqs seqs = test_seqs(1, LEN);
    ssm_real x[LEN * DIM] = {0}, y[LEN * DIM], *params, *state, *other;
    void *bound, *work;
    ssm_sizes need;
    layer_any layer;
    size_t count, i;
    CHECK_OK(type->sizes(c->config, &seqs, &need));
    count = need.state / sizeof(ssm_real);
    params = test_zeros(need.params / sizeof(ssm_real));
    state = test_zeros(count);
    other = test_zeros(count);
    bound = test_alloc(need.bound, 0);
    work = test_alloc(need.work, 0);
    CHECK_OK(type->init(c->config, params, 3));
    CHECK_OK(type->bind(&layer, c->config, params, ssm_memory_of(bound, need.bound)));
    for (i = 0; i < count; ++i) state[i] = other[i] = (ssm_real)silence_small;
    CHECK(silence_subnormals(state, count) == count);
    for (i = 0; i < LEN; ++i) CHECK_OK(type->step(&layer, state, x, y, 1, ssm_memory_of(work, need.work)));
    CHECK_OK(type->forward(&layer, other, x, y, &seqs, ssm_memory_of(work, need.work)));
    if (SILENCE_FLUSHES) CHECK(silence_subnormals(state, count) == 0);
    CHECK_SAME(state, other, count);
    CHECK(silence_put_back());
    test_free(params, 0), test_free(state, 0), test_free(other, 0), test_free(bound, 0), test_free(work, 0);
}

static void silence_layers(void)
{
    size_t i;
    for (i = 0; i < TEST_COUNT(silence_configs); ++i) {
        const size_t failures = test_failures;
        silence_layer(&silence_configs[i]);
        if (test_failures > failures) printf("    ... in %s\n", silence_configs[i].text);
    }
}

/* The linear scan by itself: h = a h from a subnormal state. */
static void silence_linear_scan(void)
{
    enum { DIM = 5, LEN = 40 };
    ssm_real a[LEN * DIM], b[LEN * DIM] = {0}, h[LEN * DIM], h0[DIM];
    ssm_linear_scan s = {0};
    size_t i;
    for (i = 0; i < LEN * DIM; ++i) a[i] = (ssm_real)0.9;
    for (i = 0; i < DIM; ++i) h0[i] = (ssm_real)silence_small;
    s.batch = 1;
    s.len = LEN;
    s.dim = DIM;
    s.scan = SSM_SCAN_SEQUENTIAL;
    s.a = ssm_in_btc(a, LEN, DIM);
    s.b = ssm_in_btc(b, LEN, DIM);
    s.h = ssm_out_like(h, s.b);
    s.h0 = ssm_in_c(h0);
    CHECK_OK(ssm_linear_scan_forward(&s, ssm_memory_of(NULL, 0)));
    if (SILENCE_FLUSHES) CHECK(silence_subnormals(h, LEN * DIM) == 0);
    CHECK(silence_put_back());
}

/* Sequences shorter than a chunk, packed in a call that is cut into chunks: tasks like any other, shared out by the
 * caller's loop, and no subnormal number stays. */
enum { SILENCE_SHORT = 60, SILENCE_LEN = 2 * SILENCE_SHORT, SILENCE_DIM = 4000, SILENCE_STATES = 2 };
static const size_t silence_start[] = {0, SILENCE_SHORT, SILENCE_LEN};

static void silence_short_linear_scan(void)
{
    ssm_rng rng = {test_seed};
    ssm_real *a = test_zeros(SILENCE_LEN * SILENCE_DIM), *h = test_zeros(SILENCE_LEN * SILENCE_DIM);
    ssm_real *h0 = test_zeros(SILENCE_DIM), *last = test_normal(&rng, 2 * SILENCE_DIM, 1);
    test_pool pool = {2, 0};
    const ssm_parallel parallel = {test_pool_run, &pool};
    ssm_linear_scan s = {0};
    ssm_sizes need = {0};
    void *work;
    size_t i;
    for (i = 0; i < SILENCE_LEN * SILENCE_DIM; ++i) a[i] = (ssm_real)0.99;
    for (i = 0; i < SILENCE_DIM; ++i) h0[i] = (ssm_real)silence_small;
    s.batch = 2;
    s.len = SILENCE_LEN;
    s.dim = SILENCE_DIM;
    s.start = silence_start;
    s.scan = SSM_SCAN_CHUNKED;
    s.a = ssm_in_btc(a, SILENCE_LEN, SILENCE_DIM);
    s.b = ssm_in_btc(h, SILENCE_LEN, SILENCE_DIM);
    s.h = ssm_out_like(h, s.b);
    s.h0 = ssm_in_c(h0);
    s.h_last = ssm_out_like(last, ssm_in_btc(NULL, 1, SILENCE_DIM));
    s.parallel = &parallel;
    CHECK_OK(ssm_linear_scan_sizes(&s, &need));
    work = test_alloc(need.work, 0);
    CHECK_OK(ssm_linear_scan_forward(&s, ssm_memory_of(work, need.work)));
    if (SILENCE_FLUSHES) CHECK(silence_subnormals(h, SILENCE_LEN * SILENCE_DIM) == 0);
    if (SILENCE_FLUSHES) CHECK(silence_subnormals(last, 2 * SILENCE_DIM) == 0);
    CHECK(pool.tasks > 0);
    test_free(a, 0), test_free(h, 0), test_free(h0, 0), test_free(last, 0), test_free(work, 0);
}

static void silence_short_selective_scan(void)
{
    enum { STATES = SILENCE_DIM * SILENCE_STATES };
    ssm_rng rng = {test_seed};
    ssm_real *u = test_zeros(SILENCE_LEN * SILENCE_DIM), *y = test_zeros(SILENCE_LEN * SILENCE_DIM);
    ssm_real *A = test_zeros(STATES), *h0 = test_zeros(STATES), *last = test_normal(&rng, 2 * STATES, 1), delta = 1;
    test_pool pool = {2, 0};
    const ssm_parallel parallel = {test_pool_run, &pool};
    ssm_selective_scan s = {0};
    ssm_sizes need;
    void *work;
    size_t i;
    for (i = 0; i < STATES; ++i) A[i] = (ssm_real)-0.01, h0[i] = (ssm_real)silence_small;
    s.batch = 2;
    s.len = SILENCE_LEN;
    s.dim = SILENCE_DIM;
    s.d_state = SILENCE_STATES;
    s.start = silence_start;
    s.scan = SSM_SCAN_CHUNKED;
    s.u = ssm_in_btc(u, SILENCE_LEN, SILENCE_DIM);
    s.delta.data = &delta;
    s.A = ssm_in_nc(A, SILENCE_DIM);
    s.B.data = s.C.data = &delta;
    s.h0 = ssm_in_nc(h0, SILENCE_DIM);
    s.h_last = ssm_out_like(last, s.h0);
    s.h_last.batch = STATES;
    s.y = ssm_out_like(y, s.u);
    s.parallel = &parallel;
    CHECK_OK(ssm_selective_scan_sizes(&s, &need));
    work = test_alloc(need.work, 0);
    CHECK_OK(ssm_selective_scan_forward(&s, ssm_memory_of(work, need.work)));
    if (SILENCE_FLUSHES) CHECK(silence_subnormals(last, 2 * STATES) == 0);
    CHECK(pool.tasks > 0);
    test_free(u, 0), test_free(y, 0), test_free(A, 0), test_free(h0, 0), test_free(last, 0), test_free(work, 0);
}

static const test_case silence_cases[] = {
    {"silence/layers", silence_layers},
    {"silence/linear_scan", silence_linear_scan},
    {"silence/short_linear_scan", silence_short_linear_scan},
    {"silence/short_selective_scan", silence_short_selective_scan},
};
