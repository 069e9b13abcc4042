/* test_s5.c - the S5 scan against an oracle in complex double, written from the published formulas: laws, every gradient
 * against central differences, memory, errors; and what the S5 layer has beside the laws of every layer (test_layers.c):
 * factors of the steps, initialisation. */
/* ------------------------------------------------------------------ central differences */

/* Relative to the norm of the gradient; the differences are worth 1e-16 loss / h. */
static void s5_check_gradient(const char *what, test_loss loss, void *context, double *x, const ssm_real *gradient,
                              size_t count, ssm_rng *rng)
{
    const double allowed = TOL(5e-5, 2e-9) * (test_norm(gradient, count) + 5e-2) + 1e-11 * fabs(loss(context));
    test_gradient(what, loss, context, x, gradient, count, 1e-4, allowed, rng);
}

/* ------------------------------------------------------------------ the scan: problems */

enum { S5_U, S5_DELTA, S5_DELTA_A, S5_A, S5_B, S5_C, S5_D, S5_H0, S5_INPUTS, S5_H_LAST = S5_INPUTS, S5_Y, S5_TENSORS };

#define S5_HAS(tensor) (1u << (tensor)) /* of the optional ones */
#define S5_ALL (S5_HAS(S5_DELTA_A) | S5_HAS(S5_D) | S5_HAS(S5_H0) | S5_HAS(S5_H_LAST))
#define S5_CONJ (1u << 16)
#define S5_COMPLEX_IN (1u << 17)
#define S5_COMPLEX_OUT (1u << 18)
#define S5_PACKED (1u << 19)
#define S5_REVERSED (1u << 20)    /* axes in opposite order */
#define S5_FLAT_TIME (1u << 21)   /* delta does not vary in time */
#define S5_FLAT_STATE (1u << 22)  /* delta does not vary over states, B not over channels */

typedef struct s5_spec {
    size_t batch, len, dim, d_state;
    unsigned flags;
    double A_size; /* 0: 1 */
} s5_spec;

typedef struct s5_tensor {
    double *exact;
    ssm_real *real;
    ssm_real *grad; /* of outputs: weights of the loss */
    double *weight;
    size_t count;
    ssm_in view; /* over real */
} s5_tensor;

typedef struct s5_problem {
    s5_spec spec;
    ssm_disc disc;
    ssm_s5_scan op;
    s5_tensor t[S5_TENSORS];
} s5_problem;

static const size_t s5_start[] = {1, 1, 4, 5, 11}; /* packed: four sequences in 12 rows */

static const char *const s5_axes[S5_TENSORS] = {"btc", "btn", "btn", "n", "cn", "cn", "c", "bn", "bn", "btc"};
static const char *const s5_names[S5_TENSORS] = {"u", "delta", "delta_A", "A", "B", "C", "D", "h0", "h_last", "y"};

static int s5_is_complex(const s5_spec *spec, int i)
{
    if (i == S5_U) return (spec->flags & S5_COMPLEX_IN) != 0;
    if (i == S5_Y) return (spec->flags & S5_COMPLEX_OUT) != 0;
    return i != S5_DELTA && i != S5_DELTA_A && i != S5_D;
}

/* Strides of a tensor with its axes in the order of their names, or in the opposite one. */
static void s5_layout(const s5_spec *spec, int i, s5_tensor *t)
{
    const int packed = (spec->flags & S5_PACKED) && strchr(s5_axes[i], 't');
    const size_t pair = s5_is_complex(spec, i) ? 2 : 1, axes = strlen(s5_axes[i]);
    size_t k;
    memset(&t->view, 0, sizeof t->view);
    t->count = 1;
    for (k = 0; k < axes; ++k) {
        const char axis = s5_axes[i][spec->flags & S5_REVERSED ? k : axes - 1 - k];
        ptrdiff_t *stride = axis == 'b' ? &t->view.batch : axis == 't' ? &t->view.time : axis == 'c' ? &t->view.chan : &t->view.state;
        const size_t extent = axis == 'b' ? (packed ? 1 : spec->batch) : axis == 't' ? spec->len : axis == 'c' ? spec->dim : spec->d_state;
        const int delta = i == S5_DELTA || i == S5_DELTA_A;
        if (axis == 't' && delta && (spec->flags & S5_FLAT_TIME)) continue;
        if (axis == 'n' && delta && (spec->flags & S5_FLAT_STATE)) continue;
        if (axis == 'c' && i == S5_B && (spec->flags & S5_FLAT_STATE)) continue;
        *stride = (ptrdiff_t)t->count;
        t->count *= extent;
    }
    t->count *= pair;
    if (pair == 2) t->view = ssm_in_pairs(t->view);
}

static void s5_open(s5_problem *p, const s5_spec *spec, ssm_disc disc, ssm_rng *rng)
{
    static const ssm_s5_scan none = {0};
    const double A_size = spec->A_size > 0 ? spec->A_size : 1;
    ssm_in *const in[S5_INPUTS] = {&p->op.u, &p->op.delta, &p->op.delta_A, &p->op.A, &p->op.B, &p->op.C, &p->op.D, &p->op.h0};
    const unsigned optional = S5_ALL;
    int i;
    size_t k;
    memset(p, 0, sizeof *p);
    p->op = none;
    p->spec = *spec;
    p->disc = disc;
    p->op.batch = spec->batch;
    p->op.len = spec->len;
    p->op.dim = spec->dim;
    p->op.d_state = spec->d_state;
    p->op.disc = disc;
    p->op.start = spec->flags & S5_PACKED ? s5_start : NULL;
    p->op.conj_sym = (spec->flags & S5_CONJ) != 0;
    p->op.complex_input = (spec->flags & S5_COMPLEX_IN) != 0;
    p->op.complex_output = (spec->flags & S5_COMPLEX_OUT) != 0;
    for (i = 0; i < S5_TENSORS; ++i) {
        s5_tensor *t = &p->t[i];
        if ((optional & S5_HAS(i)) && !(spec->flags & S5_HAS(i))) continue;
        s5_layout(spec, i, t);
        t->real = test_normal(rng, t->count, i == S5_A ? A_size : 1);
        for (k = 0; k < t->count; ++k) {
            if (i == S5_DELTA || i == S5_DELTA_A) t->real[k] = (ssm_real)0.1 + (ssm_real)0.4 * ssm_rng_uniform(rng);
            if (i == S5_A && k % 2 == 0 && t->real[k] > 0) t->real[k] = -t->real[k];
        }
        t->exact = test_doubles(t->real, t->count);
        t->grad = i < S5_INPUTS ? test_zeros(t->count) : test_normal(rng, t->count, 1);
        t->weight = test_doubles(t->grad, t->count);
        t->view.data = t->real;
        if (i < S5_INPUTS) *in[i] = t->view;
    }
    if (p->t[S5_H_LAST].real) p->op.h_last = ssm_out_like(p->t[S5_H_LAST].real, p->t[S5_H_LAST].view);
    p->op.y = ssm_out_like(p->t[S5_Y].real, p->t[S5_Y].view);
}

static void s5_close(s5_problem *p)
{
    int i;
    for (i = 0; i < S5_TENSORS; ++i) {
        if (!p->t[i].real) continue;
        test_free(p->t[i].real, 0);
        test_free(p->t[i].exact, 0);
        test_free(p->t[i].grad, 0);
        test_free(p->t[i].weight, 0);
    }
}

/* Element of the exact tensor i. */
static double *s5_at(s5_problem *p, int i, size_t b, size_t t, size_t c, size_t n)
{
    const ssm_in v = p->t[i].view;
    return p->t[i].exact + ((ptrdiff_t)b * v.batch + (ptrdiff_t)t * v.time + (ptrdiff_t)c * v.chan + (ptrdiff_t)n * v.state);
}

static oracle_complex s5_get(s5_problem *p, int i, size_t b, size_t t, size_t c, size_t n)
{
    const double *z = s5_at(p, i, b, t, c, n);
    return s5_is_complex(&p->spec, i) ? oracle_pair(z[0], z[1]) : z[0];
}

static void s5_put(s5_problem *p, int i, size_t b, size_t t, size_t c, size_t n, oracle_complex z)
{
    double *to = s5_at(p, i, b, t, c, n);
    to[0] = creal(z);
    if (s5_is_complex(&p->spec, i)) to[1] = cimag(z);
}

#define S5_WIDE 16

/* Row t of a tensor with time; h moves on. */
static void s5_oracle_row(s5_problem *p, size_t b, size_t t, oracle_complex *h)
{
    const ssm_s5_scan *s = &p->op;
    size_t n, c;
    for (n = 0; n < s->d_state; ++n) {
        const double db = creal(s5_get(p, S5_DELTA, b, t, 0, n));
        const double da = p->t[S5_DELTA_A].real ? creal(s5_get(p, S5_DELTA_A, b, t, 0, n)) : db;
        oracle_complex a, gamma, v = 0;
        s5_oracle_coef(p->disc, s5_get(p, S5_A, 0, 0, 0, n), da, db, &a, &gamma);
        for (c = 0; c < s->dim; ++c) v += s5_get(p, S5_B, 0, 0, c, n) * s5_get(p, S5_U, b, t, c, 0);
        h[n] = a * h[n] + gamma * v;
    }
    for (c = 0; c < s->dim; ++c) {
        oracle_complex y = 0;
        for (n = 0; n < s->d_state; ++n) y += s5_get(p, S5_C, 0, 0, c, n) * h[n];
        if (s->conj_sym) y = 2 * creal(y);
        if (p->t[S5_D].real) y += creal(s5_get(p, S5_D, 0, 0, c, 0)) * s5_get(p, S5_U, b, t, c, 0);
        s5_put(p, S5_Y, b, t, c, 0, y);
    }
}

static void s5_oracle(s5_problem *p)
{
    const ssm_s5_scan *s = &p->op;
    size_t b, t, n;
    for (b = 0; b < s->batch; ++b) {
        const size_t first = s->start ? s->start[b] : 0, last = s->start ? s->start[b + 1] : s->len;
        oracle_complex h[S5_WIDE];
        for (n = 0; n < s->d_state; ++n) h[n] = p->t[S5_H0].real ? s5_get(p, S5_H0, b, 0, 0, n) : 0;
        for (t = first; t < last; ++t) s5_oracle_row(p, s->start ? 0 : b, t, h);
        for (n = 0; p->t[S5_H_LAST].real && n < s->d_state; ++n) s5_put(p, S5_H_LAST, b, 0, 0, n, h[n]);
    }
}

/* Sum of weight x output. */
static double s5_problem_loss(void *context)
{
    s5_problem *p = (s5_problem *)context;
    double loss = 0;
    size_t k;
    int i;
    s5_oracle(p);
    for (i = S5_INPUTS; i < S5_TENSORS; ++i)
        for (k = 0; p->t[i].real && k < p->t[i].count; ++k) loss += p->t[i].weight[k] * p->t[i].exact[k];
    return loss;
}

static void s5_run(const ssm_s5_scan *op)
{
    ssm_sizes need;
    void *work;
    CHECK_OK(ssm_s5_scan_sizes(op, &need));
    work = test_alloc(need.work, 3);
    CHECK_OK(ssm_s5_scan_forward(op, ssm_memory_of(work, need.work)));
    test_free(work, 3);
}

static const ssm_disc s5_discs[] = {SSM_DISC_DEFAULT, SSM_DISC_ZOH, SSM_DISC_EULER, SSM_DISC_BILINEAR, SSM_DISC_DIRAC};

static const s5_spec s5_specs[] = {
    {2, 5, 3, 2, 0, 0},
    {2, 5, 3, 4, S5_ALL, 0},
    {1, 9, 2, 3, S5_ALL | S5_CONJ | S5_REVERSED, 0},
    {2, 4, 1, 2, S5_ALL | S5_COMPLEX_IN | S5_CONJ, 0},
    {2, 4, 2, 1, S5_ALL | S5_COMPLEX_IN | S5_COMPLEX_OUT | S5_REVERSED, 0},
    {1, 6, 3, 2, S5_HAS(S5_H_LAST) | S5_COMPLEX_OUT, 0},
    {3, 5, 2, 2, S5_HAS(S5_H0) | S5_HAS(S5_D) | S5_FLAT_TIME, 0},
    {3, 5, 2, 2, S5_ALL | S5_FLAT_STATE, 0},
    {3, 5, 3, 2, S5_ALL | S5_FLAT_STATE | S5_FLAT_TIME | S5_CONJ, 0},
    {4, 12, 2, 3, S5_ALL | S5_PACKED, 0},
    {4, 12, 2, 3, S5_ALL | S5_PACKED | S5_REVERSED | S5_CONJ | S5_COMPLEX_IN, 0},
    {1, 5, 2, 3, S5_ALL, 5},     /* |delta A| around 1 */
    {1, 5, 2, 3, S5_ALL, 1e-9},  /* A -> 0 */
    {1, 1, 2, 2, S5_ALL, 0},
    {1, 64, 1, 2, S5_ALL | S5_CONJ, 0},
    {1, 65, 2, 1, S5_ALL, 0},
    {2, 130, 1, 1, S5_HAS(S5_H_LAST), 0},
    {2, 0, 2, 2, S5_ALL, 0},
};

static void s5_note(size_t before, size_t spec, ssm_disc disc)
{
    if (test_failures > before && before < 5) printf("    ... with spec %lu, disc %d\n", (unsigned long)spec, (int)disc);
}

static void s5_each(void (*law)(s5_problem *p, ssm_rng *rng), uint64_t salt)
{
    ssm_rng rng = test_rng(salt);
    size_t i, d;
    for (i = 0; i < TEST_COUNT(s5_specs); ++i) {
        for (d = 0; d < TEST_COUNT(s5_discs); ++d) {
            const size_t before = test_failures;
            s5_problem p;
            s5_open(&p, &s5_specs[i], s5_discs[d], &rng);
            law(&p, &rng);
            s5_close(&p);
            s5_note(before, i, s5_discs[d]);
        }
    }
}

/* ------------------------------------------------------------------ the scan: laws */

/* Rows that belong to no packed sequence stay as they were: the oracle starts from the same. */
static void s5_law_oracle(s5_problem *p, ssm_rng *rng)
{
    (void)rng;
    s5_run(&p->op);
    s5_oracle(p);
    CHECK_CLOSE(p->t[S5_Y].real, p->t[S5_Y].exact, p->t[S5_Y].count, TOL(3e-6, 1e-14));
    if (p->t[S5_H_LAST].real)
        CHECK_CLOSE(p->t[S5_H_LAST].real, p->t[S5_H_LAST].exact, p->t[S5_H_LAST].count, TOL(3e-6, 1e-14));
}

/* Views of op moved on by t steps, `len` of them left. */
static ssm_s5_scan s5_piece(const ssm_s5_scan *op, size_t t, size_t len)
{
    ssm_s5_scan s = *op;
    s.len = len;
    s.u.data += (ptrdiff_t)t * s.u.time;
    s.delta.data += (ptrdiff_t)t * s.delta.time;
    if (s.delta_A.data) s.delta_A.data += (ptrdiff_t)t * s.delta_A.time;
    s.y.data += (ptrdiff_t)t * s.y.time;
    return s;
}

/* In steps, and in two pieces: the same bits. */
static void s5_law_step_split(s5_problem *p, ssm_rng *rng)
{
    s5_tensor *Y = &p->t[S5_Y], *H = &p->t[S5_H_LAST];
    ssm_real *y, *h;
    ssm_sizes need;
    void *step_work;
    ssm_s5_scan s = p->op, in_place;
    size_t t, k, b, n;
    (void)rng;
    if (!H->real || s.start || s.len == 0) return;
    CHECK_OK(ssm_s5_scan_sizes(&p->op, &need));
    step_work = test_alloc(need.work_step, 3);
    s5_run(&p->op);
    y = test_copy(Y->real, Y->count);
    h = test_copy(H->real, H->count);
    for (k = 0; k <= s.len; ++k) {
        for (t = 0; t < Y->count; ++t) Y->real[t] = 0;
        for (b = 0; b < s.batch; ++b)
            for (n = 0; n < 2 * s.d_state; ++n) {
                const ptrdiff_t at = (ptrdiff_t)b * H->view.batch + (ptrdiff_t)(n / 2) * H->view.state + (ptrdiff_t)(n % 2);
                H->real[at] = s.h0.data ? p->t[S5_H0].real[at] : 0;
            }
        in_place = s;
        in_place.h0 = H->view;
        if (k == 0) {
            for (t = 0; t < s.len; ++t) {
                const ssm_s5_scan one = s5_piece(&in_place, t, 1);
                CHECK_OK(ssm_s5_scan_step(&one, ssm_memory_of(step_work, need.work_step)));
            }
        } else {
            const ssm_s5_scan head = s5_piece(&in_place, 0, k), tail = s5_piece(&in_place, k, s.len - k);
            s5_run(&head);
            s5_run(&tail);
        }
        CHECK_SAME(Y->real, y, Y->count);
        CHECK_SAME(H->real, h, H->count);
    }
    test_free(step_work, 3);
    test_free(y, 0);
    test_free(h, 0);
}

static void s5_set_grad(s5_problem *p, ssm_s5_scan_grad *d)
{
    ssm_out *const out[S5_INPUTS] = {&d->du, &d->ddelta, &d->ddelta_A, &d->dA, &d->dB, &d->dC, &d->dD, &d->dh0};
    int i;
    memset(d, 0, sizeof *d);
    d->dy = p->t[S5_Y].view;
    d->dy.data = p->t[S5_Y].grad;
    if (p->t[S5_H_LAST].real) {
        d->dh_last = p->t[S5_H_LAST].view;
        d->dh_last.data = p->t[S5_H_LAST].grad;
    }
    for (i = 0; i < S5_INPUTS; ++i)
        if (p->t[i].real) *out[i] = ssm_out_like(p->t[i].grad, p->t[i].view);
}

static void s5_law_gradients(s5_problem *p, ssm_rng *rng)
{
    ssm_s5_scan_grad d;
    ssm_sizes need;
    void *work;
    int i;
    size_t k;
    s5_set_grad(p, &d);
    p->op.y.data = NULL;
    CHECK_OK(ssm_s5_scan_sizes(&p->op, &need));
    work = test_alloc(need.work_backward, 1);
    if (need.work_backward)
        CHECK_STATUS(ssm_s5_scan_backward(&p->op, &d, ssm_memory_of(work, need.work_backward - 1)), SSM_ERR_MEMORY);
    for (i = 0; i < S5_INPUTS; ++i)
        for (k = 0; p->t[i].real && k < p->t[i].count; ++k) CHECK(p->t[i].grad[k] == 0);
    CHECK_OK(ssm_s5_scan_backward(&p->op, &d, ssm_memory_of(work, need.work_backward)));
    for (i = 0; i < S5_INPUTS; ++i)
        if (p->t[i].real)
            s5_check_gradient(s5_names[i], s5_problem_loss, p, p->t[i].exact, p->t[i].grad, p->t[i].count, rng);
    test_free(work, 1);
}

typedef ssm_status (*s5_scan_verb)(const ssm_s5_scan *op, ssm_memory work);

/* Exactly the bytes asked for, at any alignment, give the same bits; one less is an error, and nothing is written. */
static void s5_check_memory(s5_problem *p, const ssm_s5_scan *op, s5_scan_verb verb, size_t bytes)
{
    static const size_t misaligns[] = {0, 1, 3, 63};
    s5_tensor *y = &p->t[S5_Y], *last = &p->t[S5_H_LAST];
    ssm_real *const old_y = test_copy(y->real, y->count), *const old_last = test_copy(last->real, last->count);
    ssm_real *const want_y = test_zeros(y->count), *const want_last = test_zeros(last->count);
    size_t k;
    for (k = 0; k < TEST_COUNT(misaligns); ++k) {
        void *work = test_alloc(bytes, misaligns[k]);
        memcpy(y->real, old_y, y->count * sizeof *old_y);
        if (last->count) memcpy(last->real, old_last, last->count * sizeof *old_last);
        if (bytes) CHECK_STATUS(verb(op, ssm_memory_of(work, bytes - 1)), SSM_ERR_MEMORY);
        CHECK_SAME(y->real, old_y, y->count);
        CHECK_SAME(last->real, old_last, last->count);
        CHECK_OK(verb(op, ssm_memory_of(work, bytes)));
        if (k == 0) {
            memcpy(want_y, y->real, y->count * sizeof *want_y);
            if (last->count) memcpy(want_last, last->real, last->count * sizeof *want_last);
        }
        CHECK_SAME(y->real, want_y, y->count);
        CHECK_SAME(last->real, want_last, last->count);
        test_free(work, misaligns[k]);
    }
    test_free(old_y, 0), test_free(old_last, 0), test_free(want_y, 0), test_free(want_last, 0);
}

static void s5_law_memory(s5_problem *p, ssm_rng *rng)
{
    ssm_s5_scan step = p->op;
    ssm_sizes need;
    (void)rng;
    CHECK_OK(ssm_s5_scan_sizes(&p->op, &need));
    s5_check_memory(p, &p->op, ssm_s5_scan_forward, need.work);
    if (!p->t[S5_H_LAST].real || p->op.start || p->op.len == 0) return;
    step.len = 1;
    s5_check_memory(p, &step, ssm_s5_scan_step, need.work_step);
}

static void s5_scan_memory(void) { s5_each(s5_law_memory, 5); }
static void s5_scan_oracle(void) { s5_each(s5_law_oracle, 1); }
static void s5_scan_step_split(void) { s5_each(s5_law_step_split, 2); }
static void s5_scan_gradients(void) { s5_each(s5_law_gradients, 3); }

static void s5_scan_errors(void)
{
    const s5_spec spec = {1, 3, 2, 2, S5_HAS(S5_D), 0};
    ssm_rng rng = test_rng(4);
    s5_problem p;
    ssm_s5_scan bad;
    ssm_s5_scan_grad none = {0};
    ssm_sizes need;
    ssm_real *y;
    unsigned char work[256];
    s5_open(&p, &spec, SSM_DISC_ZOH, &rng);
    y = test_copy(p.t[S5_Y].real, p.t[S5_Y].count);
    CHECK_OK(ssm_s5_scan_sizes(&p.op, &need));
#define BAD(change, status)                                                              \
    do {                                                                                 \
        bad = p.op;                                                                      \
        change;                                                                          \
        CHECK_STATUS(ssm_s5_scan_forward(&bad, ssm_memory_of(work, need.work)), status); \
    } while (0)
    BAD(bad.dim = 0, SSM_ERR_CONFIG);
    BAD(bad.d_state = 0, SSM_ERR_CONFIG);
    BAD(bad.disc = SSM_DISC_TRAPEZOID, SSM_ERR_CONFIG);
    BAD(bad.disc = (ssm_disc)99, SSM_ERR_CONFIG);
    BAD(bad.conj_sym = bad.complex_output = 1, SSM_ERR_CONFIG);
    BAD(bad.u.data = NULL, SSM_ERR_NULL);
    BAD(bad.B.data = NULL, SSM_ERR_NULL);
    BAD(bad.y.data = NULL, SSM_ERR_NULL);
    BAD((bad.start = s5_start, bad.batch = 4), SSM_ERR_SHAPE);
    BAD(bad.d_state = (size_t)-1 / 2, SSM_ERR_OVERFLOW);
#undef BAD
    CHECK_STATUS(ssm_s5_scan_forward(&p.op, ssm_memory_of(work, need.work - 1)), SSM_ERR_MEMORY);
    CHECK_STATUS(ssm_s5_scan_forward(&p.op, ssm_memory_of(NULL, need.work)), SSM_ERR_NULL);
    CHECK_STATUS(ssm_s5_scan_forward(NULL, ssm_memory_of(work, need.work)), SSM_ERR_NULL);
    CHECK_STATUS(ssm_s5_scan_step(&p.op, ssm_memory_of(work, sizeof work)), SSM_ERR_NULL); /* no h_last */
    CHECK_STATUS(ssm_s5_scan_backward(&p.op, &none, ssm_memory_of(work, sizeof work)), SSM_ERR_NULL);
    CHECK_SAME(p.t[S5_Y].real, y, p.t[S5_Y].count);
    test_free(y, 0);
    s5_close(&p);
}

/* ------------------------------------------------------------------ the layer */

static const layer_config s5_scaled[] = {
    LAYER_SCALED(s5, .d_model = 3, .d_state = 4),
    LAYER_SCALED(s5, .d_model = 5, .d_state = 12, .blocks = 3, .activation = SSM_S5_GELU, .disc = SSM_DISC_BILINEAR),
    LAYER_SCALED(s5, .d_model = 4, .d_state = 3, .no_conj_sym = 1, .disc = SSM_DISC_EULER, .pre_norm = 1),
    LAYER_SCALED(s5, .d_model = 2, .d_state = 3, .real_state = 1, .activation = SSM_S5_HALF_GLU1),
};

/* Factors of 1 give the bits of no factors; rows of factor 0 leave the state as it is, whatever is in them. */
static void s5_law_scale(layer_model *m, ssm_rng *rng)
{
    const layer_data d = layer_data_make(m, rng, 1, 70);
    const layer_result r = layer_result_make(&d), ones = layer_result_make(&d), none = layer_result_make(&d);
    const size_t cut = 40;
    ssm_seqs seqs = test_seqs(1, cut);
    size_t t;
    seqs.step_scale = d.scale;
    layer_forward(m, r.state, d.x, r.y, &seqs);
    for (t = cut; t < d.len; ++t) d.scale[t] = 0;
    seqs.len = d.len;
    layer_forward(m, d.want_state, d.x, d.want_y, &seqs); /* on from the whole: any state would do */
    memcpy(ones.state, d.state, d.states * sizeof *d.state);
    layer_forward(m, ones.state, d.x, ones.y, &seqs);
    CHECK_SAME(ones.y, r.y, cut * m->d_model);
    CHECK_SAME(ones.state, r.state, d.states);
    for (t = 0; t < d.len; ++t) d.scale[t] = 1;
    memcpy(ones.state, d.state, d.states * sizeof *d.state);
    layer_forward(m, ones.state, d.x, ones.y, &seqs);
    seqs.step_scale = NULL;
    layer_forward(m, none.state, d.x, none.y, &seqs);
    CHECK_SAME(ones.y, none.y, d.count);
    CHECK_SAME(ones.state, none.state, d.states);
    test_free(r.y, 0), test_free(r.state, 0), test_free(ones.y, 0), test_free(ones.state, 0);
    test_free(none.y, 0), test_free(none.state, 0);
    layer_data_free(&d);
}

static void s5_layer_scale(void)
{
    layer_each(s5_law_scale, s5_scaled, TEST_COUNT(s5_scaled));
}

/* The tape holds one state for each tile. */
static void s5_layer_tape(void)
{
    const ssm_s5_config config = {.d_model = 8, .d_state = 16};
    const size_t tiles = 1000;
    const ssm_seqs many = test_seqs(1, tiles * SSM_TILE_ROWS);
    ssm_sizes need;
    CHECK_OK(ssm_s5_sizes(&config, &many, &need));
    CHECK(need.state == 16 * sizeof(ssm_real));
    CHECK(need.tape <= tiles * need.state + 2 * SSM_ALIGN);
}

static const layer_config s5_both_ways =
    LAYER(s5, .d_model = 3, .d_state = 4, .bidirectional = 1, .activation = SSM_S5_NONE);

/* In both directions there is no state to give. */
static void s5_layer_no_state(void)
{
    const ssm_seqs seqs = test_seqs(1, 5);
    ssm_rng rng = test_rng(7);
    layer_model m;
    ssm_real x[15] = {0}, y[15] = {0}, zero[15] = {0}, state[8] = {0}, *work;
    ssm_sizes need;
    layer_open(&m, &s5_both_ways, &rng, 0);
    CHECK_OK(ssm_s5_sizes(&m.layer.s5.config, &seqs, &need));
    work = test_zeros(need.work / sizeof *work + 1);
    x[3] = 1;
    CHECK_STATUS(ssm_s5_forward(&m.layer.s5, state, x, y, &seqs, ssm_memory_of(work, need.work)), SSM_ERR_UNSUPPORTED);
    CHECK_SAME(y, zero, 15);
    CHECK(m.states == 0);
    test_free(work, 0);
    layer_close(&m, 0);
}

static void s5_layer_presets(void)
{
    ssm_s5_config config = {.d_model = 3, .d_state = 6}, resolved;
    CHECK_OK(ssm_s5_config_resolve(&config, &resolved));
    CHECK(resolved.disc == SSM_DISC_ZOH && resolved.blocks == 1 && resolved.step_rescale == 1);
    CHECK(resolved.r_min == 0 && resolved.r_max == 1);
    config.lru = 1;
    CHECK_OK(ssm_s5_config_resolve(&config, &resolved));
    CHECK(resolved.disc == SSM_DISC_EULER && resolved.no_conj_sym);
    CHECK_OK(ssm_s5_config_resolve(&resolved, &resolved)); /* as it is */
    config.lru = 0;
    CHECK_OK(ssm_s5_config_resolve(&config, &resolved));
    ssm_s5_preset(&resolved, SSM_PRESET_PAPER);
    CHECK(!resolved.real_state && resolved.activation == SSM_S5_HALF_GLU1);
    ssm_s5_preset(&resolved, SSM_PRESET_TRACETORCH);
    CHECK(resolved.real_state && resolved.activation == SSM_S5_NONE);
}

/* ------------------------------------------------------------------ initialisation */

static void s5_init_hippo(void)
{
    const ssm_s5_config config = {.d_model = 200, .d_state = 8, .blocks = 2, .no_conj_sym = 1};
    static const double want[8] = {-4.6033, -0.5565, 0.5565, 4.6033, -4.6033, -0.5565, 0.5565, 4.6033};
    ssm_rng rng = test_rng(600);
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = {0};
    const ssm_param *B, *C, *step;
    ssm_real *p;
    double squares[2] = {0, 0};
    size_t i, h;
    table.row = rows;
    table.capacity = SSM_PARAMS_MAX;
    CHECK_OK(ssm_s5_params(&config, NULL, &table));
    p = test_zeros(table.count);
    CHECK_OK(ssm_s5_init(&config, p, ssm_rng_next(&rng)));
    for (i = 0; i < 8; ++i) CHECK(p[ssm_params_find(&table, "Lambda_re")->offset + i] == (ssm_real)-0.5);
    for (i = 0; i < 8; ++i)
        CHECK(fabs((double)p[ssm_params_find(&table, "Lambda_im")->offset + i] - want[i]) < 5e-5);
    B = ssm_params_find(&table, "B");
    C = ssm_params_find(&table, "C");
    CHECK(B->shape[0] == 8 && B->shape[1] == 200 && C->shape[0] == 200 && C->shape[1] == 8 && B->no_decay);
    for (h = 0; h < 200; ++h) { /* eigenvectors come in conjugate pairs, and the matrix before V is real */
        for (i = 0; i < 8; ++i) {
            const ssm_real *z = p + B->offset + 2 * (i * 200 + h), *w = p + B->offset + 2 * ((i / 4 * 8 + 3 - i) * 200 + h);
            CHECK(fabs((double)(z[0] - w[0])) < TOL(1e-6, 1e-14) && fabs((double)(z[1] + w[1])) < TOL(1e-6, 1e-14));
            squares[0] += (double)(z[0] * z[0] + z[1] * z[1]);
            z = p + C->offset + 2 * (h * 8 + i);
            squares[1] += (double)(z[0] * z[0] + z[1] * z[1]);
        }
    }
    CHECK(fabs(squares[0] / 200 - 1) < 0.15); /* 8 entries of variance 1/8 */
    CHECK(fabs(squares[1] / 200 - 2) < 0.3);  /* and twice that, complex */
    step = ssm_params_find(&table, "log_step");
    CHECK(step->count == 8);
    for (i = 0; i < 8; ++i) CHECK(p[step->offset + i] >= (ssm_real)log(0.000999) && p[step->offset + i] <= (ssm_real)log(0.1001));
    test_free(p, 0);
}

/* Of the LRU: lambda fills the ring evenly by area, gamma is sqrt(1 - |lambda|^2) whatever rows stand around, and the
 * matrices have their deviations. */
static void s5_init_lru(void)
{
    static const struct {
        double low, high;
    } rings[] = {{0, 0}, {0.9, 0.999}, {0.5, 0.5}, {0, TOL(1e-30, 1e-200)}, {0.999999, 1}}; /* 0, 0: not set */
    size_t k, i;
    for (k = 0; k < TEST_COUNT(rings); ++k) {
        ssm_s5_config config = {.d_model = 20, .d_state = 2000, .lru = 1, .pre_norm = 1, .bidirectional = k % 2};
        const double low = (double)(ssm_real)rings[k].low, high = k ? (double)(ssm_real)rings[k].high : 1;
        ssm_param rows[2 * SSM_PARAMS_MAX];
        ssm_params table = ssm_params_of(rows, TEST_COUNT(rows));
        const ssm_param *nu, *theta, *gamma, *B, *C;
        double inside = 0, turn = 0, squares[2] = {0, 0};
        ssm_real *p;
        config.r_min = (ssm_real)rings[k].low;
        config.r_max = (ssm_real)rings[k].high;
        config.max_phase = k ? (ssm_real)0.5 : 0;
        CHECK_OK(ssm_s5_params(&config, "one.", &table));
        CHECK_OK(ssm_s5_params(&config, "two.", &table));
        p = test_zeros(table.count);
        CHECK_OK(ssm_params_init(&table, p, test_seed + k));
        nu = ssm_params_find(&table, "two.nu_log");
        theta = ssm_params_find(&table, "two.theta_log");
        gamma = ssm_params_find(&table, "two.gamma_log");
        B = ssm_params_find(&table, "two.B_im");
        C = ssm_params_find(&table, k % 2 ? "two.C2_im" : "two.C_im");
        CHECK(nu->count == 2000 && theta->count == 2000 && gamma->count == 2000 && nu->no_decay);
        CHECK(B->count == 40000 && B->shape[0] == 2000 && C->shape[0] == 20);
        for (i = 0; i < 2000; ++i) {
            const double n = (double)p[nu->offset + i], radius = exp(-exp(n)), phase = exp((double)p[theta->offset + i]);
            const double want = 0.5 * log(-expm1(-2 * exp(n)));
            CHECK(fabs(n) < 1e300 && radius >= low * (1 - 1e-6) && radius < 1);
            CHECK(radius <= high * (1 + 1e-6) + 1.1e-19); /* the square of a radius is a normal number */
            CHECK(phase > 0 && phase <= (k ? 0.5 : 2 * acos(-1.0)) * (1 + 1e-6));
            CHECK(fabs((double)p[gamma->offset + i] - want) <= TOL(2e-6, 1e-14) * (1 + fabs(want)));
            inside += radius * radius < (low * low + high * high) / 2;
            turn += phase;
        }
        if (k < 2) CHECK(fabs(inside / 2000 - 0.5) < 0.06);
        CHECK(fabs(turn / 2000 / (k ? 0.5 : 2 * acos(-1.0)) - 0.5) < 0.03);
        for (i = 0; i < 40000; ++i) {
            squares[0] += (double)p[B->offset + i] * (double)p[B->offset + i] * 40 / 40000;
            squares[1] += (double)p[C->offset + i] * (double)p[C->offset + i] * 2000 / 40000;
        }
        CHECK(fabs(squares[0] - 1) < 0.05 && fabs(squares[1] - 1) < 0.05);
        test_free(p, 0);
    }
}

/* With B = V^H R and C = Q V, C exp(Lambda t) B is Q exp((A + P P^T) t) R: at t = 0, Q R. Checked on
 * the eigenvectors themselves: S v = i w v and |v| = 1. */
static void s5_init_eigenvectors(void)
{
    static const size_t sizes[] = {1, 2, 3, 4, 7, 16, 33};
    size_t i, j, n, k;
    for (i = 0; i < TEST_COUNT(sizes); ++i) {
        const size_t N = sizes[i];
        for (j = 0; j < N; ++j) {
            const ssm__hippo h = ssm__hippo_open(N, j);
            double r[2] = {0.5, 0}, v[33][2], norm = 0, worst = 0;
            for (n = 0; n < N; ++n) {
                ssm__hippo_next(&h, n, r, v[n]);
                norm += v[n][0] * v[n][0] + v[n][1] * v[n][1];
            }
            for (n = 0; n < N; ++n) {
                oracle_complex sum = -h.omega * oracle_pair(-v[n][1], v[n][0]);
                for (k = 0; k < N; ++k)
                    if (k != n)
                        sum += (n > k ? -0.5 : 0.5) * sqrt((2.0 * (double)n + 1) * (2.0 * (double)k + 1)) * oracle_pair(v[k][0], v[k][1]);
                if (cabs(sum) > worst) worst = cabs(sum);
            }
            CHECK(fabs(norm - 1) < 1e-12);
            CHECK(worst < 1e-11 * (double)(N * N));
        }
    }
}

static void s5_gelu_math(void)
{
    double x;
    for (x = -8; x <= 8; x += 0.0317) {
        const double h = 1e-5, want = s5_gelu(x), slope = (s5_gelu(x + h) - s5_gelu(x - h)) / (2 * h);
        const ssm_real got = our_gelu_tanh((ssm_real)x), got_slope = ssm__gelu_tanh_derivative((ssm_real)x);
        CHECK(fabs((double)got - want) <= TOL(1e-6, 1e-14) * (fabs(want) + 1));
        CHECK(fabs((double)got_slope - slope) <= TOL(2e-6, 1e-9));
    }
    CHECK(our_gelu_tanh(0) == 0);
    CHECK(our_gelu_tanh(1000) == 1000 && our_gelu_tanh(-1000) == 0);
    CHECK(ssm__gelu_tanh_derivative((ssm_real)1e30) == 1 && ssm__gelu_tanh_derivative((ssm_real)-1e30) == 0);
    CHECK(our_gelu_tanh((ssm_real)NAN) != our_gelu_tanh((ssm_real)NAN));
    CHECK(ssm__gelu_tanh_derivative((ssm_real)NAN) != ssm__gelu_tanh_derivative((ssm_real)NAN));
}

static const test_case s5_cases[] = {
    {"s5/gelu", s5_gelu_math},
    {"s5/scan_oracle", s5_scan_oracle},
    {"s5/scan_step_split", s5_scan_step_split},
    {"s5/scan_gradients", s5_scan_gradients},
    {"s5/scan_memory", s5_scan_memory},
    {"s5/scan_errors", s5_scan_errors},
    {"s5/layer_scale", s5_layer_scale},
    {"s5/layer_tape", s5_layer_tape},
    {"s5/layer_no_state", s5_layer_no_state},
    {"s5/layer_presets", s5_layer_presets},
    {"s5/init_hippo", s5_init_hippo},
    {"s5/init_lru", s5_init_lru},
    {"s5/init_eigenvectors", s5_init_eigenvectors},
};
