/* The scan of Mamba-2: against its formulas in double, with gradients by differences of the oracle, on every instruction
 * set of a family the same bits, in steps, pieces, packed and in threads. */
#include <math.h>

typedef struct ssd_case {
    size_t batch, len, heads, headdim, d_state, n_groups;
    int options; /* SSD_... */
    ssm_scan scan;
} ssd_case;

enum {
    SSD_SOFTPLUS = 1,
    SSD_D = 2,
    SSD_HDIM = 4,
    SSD_GATE = 8,
    SSD_BIAS = 16,
    SSD_STATES = 32, /* h0 and h_last */
    SSD_LIMITS = 64,
    SSD_PACKED = 128,
    SSD_ALL = 127
};

enum { SSD_X, SSD_DELTA, SSD_A, SSD_B, SSD_C, SSD_SKIP, SSD_Z, SSD_DBIAS, SSD_H0, SSD_TENSORS };

/* A problem, its numbers in reals and, for the oracle, in doubles. */
typedef struct ssd_problem {
    ssd_case c;
    ssm_ssd s;
    size_t start[8], rows, sequences, count[SSD_TENSORS], outputs, states;
    ssm_real *real[SSD_TENSORS], *y, *h_last;
    double *exact[SSD_TENSORS], *want, *want_last, *dy, *dh;
} ssd_problem;

static double *ssd_doubles(size_t count)
{
    double *p = (double *)test_alloc(count * sizeof *p, 0);
    size_t i;
    for (i = 0; i < count; ++i) p[i] = 0;
    return p;
}

/* The formulas, from what `exact` holds; returns sum(y dy) + sum(h dh). */
static double ssd_oracle(void *context)
{
    ssd_problem *p = (ssd_problem *)context;
    const ssd_case *k = &p->c;
    const size_t H = k->heads, P = k->headdim, N = k->d_state, G = k->n_groups, E = H * P;
    double loss = 0;
    size_t b, t, h, i, n;
    for (b = 0; b < p->sequences; ++b) {
        const size_t first = p->s.start ? p->start[b] : b * k->len, end = p->s.start ? p->start[b + 1] : first + k->len;
        for (h = 0; h < H; ++h)
            for (i = 0; i < P; ++i) {
                const size_t c = h * P + i;
                double *state = p->want_last + (b * E + c) * N;
                for (n = 0; n < N; ++n) state[n] = k->options & SSD_STATES ? p->exact[SSD_H0][(b * E + c) * N + n] : 0;
                for (t = first; t < end; ++t) {
                    const double x = p->exact[SSD_X][t * E + c];
                    double dt = p->exact[SSD_DELTA][t * H + h], a, y = 0;
                    if (k->options & SSD_BIAS) dt += p->exact[SSD_DBIAS][h];
                    if (k->options & SSD_SOFTPLUS) dt = test_softplus(dt);
                    if (k->options & SSD_LIMITS) dt = fmin(fmax(dt, (double)p->s.delta_min), (double)p->s.delta_max);
                    a = exp(dt * p->exact[SSD_A][h]);
                    for (n = 0; n < N; ++n) {
                        const size_t at = (t * G + h / (H / G)) * N + n;
                        state[n] = a * state[n] + dt * p->exact[SSD_B][at] * x;
                        y += p->exact[SSD_C][at] * state[n];
                    }
                    if (k->options & SSD_D) y += p->exact[SSD_SKIP][k->options & SSD_HDIM ? c : h] * x;
                    if (k->options & SSD_GATE) y *= test_silu(p->exact[SSD_Z][t * E + c]);
                    p->want[t * E + c] = y;
                    loss += y * p->dy[t * E + c];
                }
                for (n = 0; n < N; ++n) loss += state[n] * p->dh[(b * E + c) * N + n];
            }
    }
    return loss;
}

static ssd_problem ssd_open(const ssd_case *k, uint64_t salt)
{
    ssd_problem p = {0};
    ssm_rng rng = test_rng(7000 + salt);
    const size_t E = k->heads * k->headdim;
    size_t i, j;
    p.c = *k;
    p.sequences = k->batch;
    p.rows = k->batch * k->len;
    if (k->options & SSD_PACKED)
        for (i = 0; i <= k->batch; ++i) p.start[i] = i * i * k->len / k->batch; /* the first is short, the last long */
    p.count[SSD_X] = p.count[SSD_Z] = p.outputs = p.rows * E;
    p.count[SSD_DELTA] = p.rows * k->heads;
    p.count[SSD_A] = p.count[SSD_DBIAS] = k->heads;
    p.count[SSD_B] = p.count[SSD_C] = p.rows * k->n_groups * k->d_state;
    p.count[SSD_SKIP] = k->options & SSD_HDIM ? E : k->heads;
    p.count[SSD_H0] = p.states = k->batch * E * k->d_state;
    for (i = 0; i < SSD_TENSORS; ++i) {
        p.real[i] = test_normal(&rng, p.count[i], 1);
        if (i == SSD_A)
            for (j = 0; j < p.count[i]; ++j) p.real[i][j] = -(ssm_real)0.2 - (ssm_real)fabs((double)p.real[i][j]);
        if (i == SSD_DELTA && !(k->options & SSD_SOFTPLUS))
            for (j = 0; j < p.count[i]; ++j) p.real[i][j] = (ssm_real)(0.05 + 0.5 * fabs((double)p.real[i][j]));
        p.exact[i] = test_doubles(p.real[i], p.count[i]);
    }
    p.y = test_zeros(p.outputs), p.h_last = test_zeros(p.states);
    p.want = ssd_doubles(p.outputs), p.want_last = ssd_doubles(p.states);
    p.dy = ssd_doubles(p.outputs), p.dh = ssd_doubles(p.states);
    return p;
}

/* The views of a problem, once it lies where it stays. */
static void ssd_bind(ssd_problem *p)
{
    const ssd_case *k = &p->c;
    const size_t E = k->heads * k->headdim, len = k->options & SSD_PACKED ? p->rows : k->len;
    ssm_ssd *s = &p->s;
    s->batch = k->batch, s->len = len, s->heads = k->heads, s->headdim = k->headdim, s->d_state = k->d_state;
    s->n_groups = k->n_groups, s->scan = k->scan;
    s->start = k->options & SSD_PACKED ? p->start : NULL;
    if (s->start) p->start[k->batch] = p->rows; /* all rows */
    s->delta_softplus = (k->options & SSD_SOFTPLUS) != 0;
    s->D_has_hdim = (k->options & SSD_HDIM) != 0;
    if (k->options & SSD_LIMITS) s->delta_min = (ssm_real)0.25, s->delta_max = (ssm_real)0.9;
    s->x = ssm_in_btc(p->real[SSD_X], len, E);
    s->delta = ssm_in_btc(p->real[SSD_DELTA], len, k->heads);
    s->A = ssm_in_c(p->real[SSD_A]);
    s->B = ssm_in_btcn(p->real[SSD_B], len, k->n_groups, k->d_state);
    s->C = ssm_in_btcn(p->real[SSD_C], len, k->n_groups, k->d_state);
    if (k->options & SSD_D) s->D = ssm_in_c(p->real[SSD_SKIP]);
    s->A.batch = s->A.time = s->D.batch = s->D.time = 1 << 20; /* no axes of theirs: not to be read */
    if (k->options & SSD_GATE) s->z = ssm_in_btc(p->real[SSD_Z], len, E);
    if (k->options & SSD_BIAS) s->delta_bias = ssm_in_c(p->real[SSD_DBIAS]);
    if (k->options & SSD_STATES) s->h0 = ssm_in_bcn(p->real[SSD_H0], E, k->d_state);
    if (k->options & SSD_STATES) s->h_last = ssm_out_like(p->h_last, ssm_in_bcn(NULL, E, k->d_state));
    s->y = ssm_out_like(p->y, s->x);
}

static void ssd_close(ssd_problem *p)
{
    size_t i;
    for (i = 0; i < SSD_TENSORS; ++i) test_free(p->real[i], 0), test_free(p->exact[i], 0);
    test_free(p->y, 0), test_free(p->h_last, 0), test_free(p->want, 0), test_free(p->want_last, 0);
    test_free(p->dy, 0), test_free(p->dh, 0);
}

static void ssd_forward(const ssm_ssd *s)
{
    ssm_sizes need;
    void *work;
    CHECK_OK(ssm_ssd_sizes(s, &need));
    work = test_alloc(need.work, 0);
    CHECK_OK(ssm_ssd_forward(s, ssm_memory_of(work, need.work)));
    test_free(work, 0);
}

static const ssd_case ssd_cases[] = {
    {2, 9, 4, 16, 8, 1, SSD_ALL, SSM_SCAN_AUTO},
    {1, 37, 2, 64, 128, 1, SSD_SOFTPLUS | SSD_D, SSM_SCAN_AUTO},
    {2, 18, 6, 20, 13, 3, SSD_ALL & ~SSD_HDIM, SSM_SCAN_AUTO},
    {3, 5, 3, 3, 5, 3, SSD_SOFTPLUS | SSD_BIAS | SSD_D | SSD_HDIM, SSM_SCAN_AUTO},
    {1, 20, 1, 33, 1, 1, SSD_STATES | SSD_GATE, SSM_SCAN_AUTO},
    {3, 12, 4, 16, 24, 2, SSD_ALL | SSD_PACKED, SSM_SCAN_AUTO},
    {4, 1, 2, 48, 16, 2, SSD_ALL, SSM_SCAN_AUTO},
    {1, 300, 2, 16, 10, 1, SSD_ALL, SSM_SCAN_CHUNKED},
    {2, 270, 2, 24, 9, 2, SSD_ALL & ~SSD_STATES, SSM_SCAN_BLELLOCH},
};

static void ssd_formulas(void)
{
    const double tolerance = sizeof(ssm_real) == 8 ? 1e-13 : 2e-6;
    size_t i;
    for (i = 0; i < TEST_COUNT(ssd_cases); ++i) {
        ssd_problem p = ssd_open(&ssd_cases[i], i);
        ssd_bind(&p);
        ssd_oracle(&p);
        ssd_forward(&p.s);
        CHECK_CLOSE(p.y, p.want, p.outputs, tolerance);
        if (p.s.h_last.data) CHECK_CLOSE(p.h_last, p.want_last, p.states, tolerance);
        ssd_close(&p);
    }
}

/* Forward in one go; step by step; in threads; on every other instruction set of the family: the same bits. */
static void ssd_bits(void)
{
    size_t i, t, isa;
    for (i = 0; i < TEST_COUNT(ssd_cases); ++i) {
        ssd_problem p = ssd_open(&ssd_cases[i], i);
        const size_t E = p.c.heads * p.c.headdim;
        test_pool pool = {3, 0};
        const ssm_parallel parallel = {test_pool_run, &pool};
        ssm_real *y, *last, *family[2] = {NULL, NULL};
        ssd_bind(&p);
        ssd_forward(&p.s);
        y = test_copy(p.y, p.outputs);
        last = test_copy(p.h_last, p.states);
        p.s.parallel = &parallel;
        ssd_forward(&p.s);
        CHECK_SAME(p.y, y, p.outputs);
        p.s.parallel = NULL;
        for (isa = SSM_ISA_SCALAR; isa < (size_t)ssm_isa_count(); ++isa) {
            const int fused = linear_is_fused((ssm_isa)isa);
            if (!ssm_isa_available((ssm_isa)isa)) continue;
            p.s.isa = (ssm_isa)isa;
            ssd_forward(&p.s);
            if (family[fused]) CHECK_SAME(p.y, family[fused], p.outputs);
            else family[fused] = test_copy(p.y, p.outputs);
        }
        for (t = 0; t < 2; ++t)
            if (family[t]) test_free(family[t], 0);
        p.s.isa = (ssm_isa)0;
        if (p.c.scan == SSM_SCAN_AUTO && !p.s.start && p.s.h_last.data) {
            ssm_real *state = test_copy(p.real[SSD_H0], p.states);
            ssm_ssd one = p.s;
            one.len = 1;
            one.h_last.data = state;
            for (t = 0; t < p.c.len; ++t) {
                one.x.data = p.real[SSD_X] + t * E;
                one.delta.data = p.real[SSD_DELTA] + t * p.c.heads;
                one.B.data = p.real[SSD_B] + t * p.c.n_groups * p.c.d_state;
                one.C.data = p.real[SSD_C] + t * p.c.n_groups * p.c.d_state;
                if (one.z.data) one.z.data = p.real[SSD_Z] + t * E;
                one.y.data = p.y + t * E;
                CHECK_OK(ssm_ssd_step(&one));
            }
            CHECK_SAME(p.y, y, p.outputs);
            CHECK_SAME(state, last, p.states);
            test_free(state, 0);
        }
        test_free(y, 0), test_free(last, 0);
        ssd_close(&p);
    }
}

static ssm_out ssd_out(ssm_real *data, ssm_in like)
{
    return like.data ? ssm_out_like(data, like) : ssm_out_like(NULL, like);
}

/* Every gradient against differences of the oracle; twice, which must add; in threads, the same bits. */
static void ssd_gradients(void)
{
    const double allowed = sizeof(ssm_real) == 8 ? 2e-8 : 1e-3;
    size_t i, j, pass;
    for (i = 0; i < TEST_COUNT(ssd_cases); ++i) {
        ssd_problem p = ssd_open(&ssd_cases[i], i);
        ssm_rng rng = test_rng(8000 + i);
        ssm_real *grad[SSD_TENSORS], *first[SSD_TENSORS], *dy, *dh;
        test_pool pool = {3, 0};
        const ssm_parallel parallel = {test_pool_run, &pool};
        ssm_ssd_grad g = {0};
        ssm_sizes need;
        void *work;
        ssd_bind(&p);
        dy = test_normal(&rng, p.outputs, 0.3), dh = test_normal(&rng, p.states, 0.3);
        for (j = 0; j < p.outputs; ++j) p.dy[j] = (double)dy[j];
        for (j = 0; p.s.h_last.data && j < p.states; ++j) p.dh[j] = (double)dh[j];
        for (j = 0; j < SSD_TENSORS; ++j) grad[j] = test_zeros(p.count[j]);
        g.dy = p.s.x, g.dy.data = dy;
        if (p.s.h_last.data) g.dh_last = p.s.h0, g.dh_last.data = dh;
        g.dx = ssd_out(grad[SSD_X], p.s.x), g.ddelta = ssd_out(grad[SSD_DELTA], p.s.delta);
        g.dA = ssd_out(grad[SSD_A], p.s.A), g.dB = ssd_out(grad[SSD_B], p.s.B), g.dC = ssd_out(grad[SSD_C], p.s.C);
        g.dD = ssd_out(grad[SSD_SKIP], p.s.D), g.dz = ssd_out(grad[SSD_Z], p.s.z);
        g.ddelta_bias = ssd_out(grad[SSD_DBIAS], p.s.delta_bias), g.dh0 = ssd_out(grad[SSD_H0], p.s.h0);
        CHECK_OK(ssm_ssd_sizes(&p.s, &need));
        work = test_alloc(need.work_backward, 0);
        CHECK_STATUS(ssm_ssd_backward(&p.s, &g, ssm_memory_of(work, need.work_backward - 1)), SSM_ERR_MEMORY);
        for (pass = 0; pass < 2; ++pass) {
            p.s.parallel = pass ? &parallel : NULL;
            CHECK_OK(ssm_ssd_backward(&p.s, &g, ssm_memory_of(work, need.work_backward)));
            if (pass) break;
            for (j = 0; j < SSD_TENSORS; ++j) {
                first[j] = test_copy(grad[j], p.count[j]);
                memset(grad[j], 0, p.count[j] * sizeof(ssm_real));
            }
        }
        for (j = 0; j < SSD_TENSORS; ++j) {
            static const char *names[SSD_TENSORS] = {"x", "delta", "A", "B", "C", "D", "z", "delta_bias", "h0"};
            CHECK_SAME(grad[j], first[j], p.count[j]);
            if (test_norm(grad[j], p.count[j]) > 0)
                test_gradient(names[j], ssd_oracle, &p, p.exact[j], grad[j], p.count[j], 1e-4,
                              allowed * (1 + test_norm(grad[j], p.count[j])), &rng);
            else CHECK((j == SSD_SKIP && !p.s.D.data) || (j == SSD_Z && !p.s.z.data) ||
                       (j == SSD_DBIAS && !p.s.delta_bias.data) || (j == SSD_H0 && !p.s.h0.data));
            test_free(grad[j], 0), test_free(first[j], 0);
        }
        test_free(work, 0), test_free(dy, 0), test_free(dh, 0);
        ssd_close(&p);
    }
}

static void ssd_errors(void)
{
    static const ssd_case k = {1, 4, 2, 8, 4, 1, SSD_ALL, SSM_SCAN_AUTO};
    const ssm_memory none = {NULL, 0};
    ssd_problem p = ssd_open(&k, 99);
    ssm_ssd s;
    ssm_sizes need;
    ssm_ssd_grad g = {0};
    ssd_bind(&p);
#define SSD_WRONG(change, status)                       \
    do {                                                \
        s = p.s;                                        \
        change;                                         \
        CHECK_STATUS(ssm_ssd_sizes(&s, &need), status); \
        CHECK_STATUS(ssm_ssd_forward(&s, none), status); \
    } while (0)
    SSD_WRONG(s.heads = 0, SSM_ERR_CONFIG);
    SSD_WRONG(s.headdim = 0, SSM_ERR_CONFIG);
    SSD_WRONG(s.d_state = 0, SSM_ERR_CONFIG);
    SSD_WRONG(s.delta_min = 2, SSM_ERR_CONFIG);
    SSD_WRONG(s.delta_max = -1, SSM_ERR_CONFIG);
    SSD_WRONG(s.delta_min = (ssm_real)NAN, SSM_ERR_CONFIG);
    SSD_WRONG(s.scan = (ssm_scan)77, SSM_ERR_CONFIG);
    SSD_WRONG(s.n_groups = 3, SSM_ERR_SHAPE);
    SSD_WRONG(s.x.data = NULL, SSM_ERR_NULL);
    SSD_WRONG(s.delta.data = NULL, SSM_ERR_NULL);
    SSD_WRONG(s.A.data = NULL, SSM_ERR_NULL);
    SSD_WRONG(s.B.data = NULL, SSM_ERR_NULL);
    SSD_WRONG(s.C.data = NULL, SSM_ERR_NULL);
    SSD_WRONG(s.heads = (size_t)-1 / 2, SSM_ERR_OVERFLOW);
    SSD_WRONG(s.isa = (ssm_isa)1000, SSM_ERR_UNSUPPORTED);
#undef SSD_WRONG
    s = p.s, s.y.data = NULL;
    CHECK_STATUS(ssm_ssd_forward(&s, none), SSM_ERR_NULL);
    CHECK_STATUS(ssm_ssd_forward(NULL, none), SSM_ERR_NULL);
    CHECK_STATUS(ssm_ssd_step(&p.s), SSM_ERR_SHAPE);
    CHECK_STATUS(ssm_ssd_backward(&p.s, &g, none), SSM_ERR_NULL);
    s = p.s, s.len = 1, s.h_last.data = NULL;
    CHECK_STATUS(ssm_ssd_step(&s), SSM_ERR_NULL);
    s = p.s, s.batch = 0;
    CHECK_OK(ssm_ssd_forward(&s, none));
    CHECK_OK(ssm_ssd_backward(&s, NULL, none));
    ssd_close(&p);
}

/* A between -A_max and -A_min, and not always the same; softplus(dt_bias) between dt_min and dt_max. */
static void ssd_init(void)
{
    ssm_mamba2_config config = {0};
    const ssm_seqs seqs = test_seqs(1, 1);
    ssm_param row[SSM_PARAMS_MAX];
    ssm_params table = {0};
    const ssm_param *A_log, *dt_bias;
    double least = 100, most = 0;
    ssm_real *params;
    ssm_sizes need;
    size_t i;
    config.d_model = 64, config.headdim = 2, config.A_min = 2, config.A_max = 5;
    table.row = row, table.capacity = SSM_PARAMS_MAX;
    CHECK_OK(ssm_mamba2_params(&config, NULL, &table));
    CHECK_OK(ssm_mamba2_sizes(&config, &seqs, &need));
    params = test_zeros(need.params / sizeof *params);
    CHECK_OK(ssm_mamba2_init(&config, params, test_seed));
    A_log = ssm_params_find(&table, "A_log"), dt_bias = ssm_params_find(&table, "dt_bias");
    CHECK(A_log->count == 64 && dt_bias->count == 64);
    for (i = 0; i < A_log->count; ++i) {
        const double a = exp((double)params[A_log->offset + i]), dt = test_softplus((double)params[dt_bias->offset + i]);
        least = fmin(least, a), most = fmax(most, a);
        CHECK(a >= 2 * 0.9999 && a <= 5 * 1.0001 && dt >= 0.001 * 0.999 && dt <= 0.1 * 1.001);
    }
    CHECK(least < 2.5 && most > 4.5);
    test_free(params, 0);
}

static const test_case ssd_tests[] = {
    {"ssd/init", ssd_init},
    {"ssd/formulas", ssd_formulas},
    {"ssd/bits", ssd_bits},
    {"ssd/gradients", ssd_gradients},
    {"ssd/errors", ssd_errors},
};
