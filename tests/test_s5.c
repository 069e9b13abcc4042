/* test_s5.c - the S5 scan and the S5 layer against oracles in complex double, written from the
 * published formulas; the laws; every gradient against central differences of the oracles; memory,
 * errors and initialisation. */
#include <complex.h>

typedef double _Complex s5_complex;

static s5_complex s5_pair(double re, double im)
{
    return re + im * _Complex_I;
}

/* a and b of one step, from ssm_disc's table. */
static void s5_oracle_coef(ssm_disc disc, s5_complex A, double da, double db, s5_complex *a, s5_complex *b)
{
    const s5_complex y = db * A;
    *a = cexp(da * A);
    switch (disc) {
    case SSM_DISC_BILINEAR:
        *a = (1 + da * A / 2) / (1 - da * A / 2);
        *b = db / (1 - y / 2);
        break;
    case SSM_DISC_EULER:
        *b = db;
        break;
    case SSM_DISC_DIRAC:
        *b = 1;
        break;
    default: /* ZOH; four terms of the series are exact to 1e-19 where it is used */
        *b = cabs(y) < 1e-4 ? db * (1 + y / 2 + y * y / 6 + y * y * y / 24) : (cexp(y) - 1) / A;
    }
}

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

static s5_complex s5_get(s5_problem *p, int i, size_t b, size_t t, size_t c, size_t n)
{
    const double *z = s5_at(p, i, b, t, c, n);
    return s5_is_complex(&p->spec, i) ? s5_pair(z[0], z[1]) : z[0];
}

static void s5_put(s5_problem *p, int i, size_t b, size_t t, size_t c, size_t n, s5_complex z)
{
    double *to = s5_at(p, i, b, t, c, n);
    to[0] = creal(z);
    if (s5_is_complex(&p->spec, i)) to[1] = cimag(z);
}

#define S5_WIDE 16

/* Row t of a tensor with time; h moves on. */
static void s5_oracle_row(s5_problem *p, size_t b, size_t t, s5_complex *h)
{
    const ssm_s5_scan *s = &p->op;
    size_t n, c;
    for (n = 0; n < s->d_state; ++n) {
        const double db = creal(s5_get(p, S5_DELTA, b, t, 0, n));
        const double da = p->t[S5_DELTA_A].real ? creal(s5_get(p, S5_DELTA_A, b, t, 0, n)) : db;
        s5_complex a, gamma, v = 0;
        s5_oracle_coef(p->disc, s5_get(p, S5_A, 0, 0, 0, n), da, db, &a, &gamma);
        for (c = 0; c < s->dim; ++c) v += s5_get(p, S5_B, 0, 0, c, n) * s5_get(p, S5_U, b, t, c, 0);
        h[n] = a * h[n] + gamma * v;
    }
    for (c = 0; c < s->dim; ++c) {
        s5_complex y = 0;
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
        s5_complex h[S5_WIDE];
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
    CHECK((need.work == 0) == (op->h_last.data != NULL));
    work = test_alloc(need.work, 3);
    CHECK_OK(ssm_s5_scan_forward(op, work, need.work));
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
    ssm_s5_scan s = p->op, in_place;
    size_t t, k, b, n;
    (void)rng;
    if (!H->real || s.start || s.len == 0) return;
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
                CHECK_OK(ssm_s5_scan_step(&one));
            }
        } else {
            const ssm_s5_scan head = s5_piece(&in_place, 0, k), tail = s5_piece(&in_place, k, s.len - k);
            s5_run(&head);
            s5_run(&tail);
        }
        CHECK_SAME(Y->real, y, Y->count);
        CHECK_SAME(H->real, h, H->count);
    }
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
    if (need.work_backward) CHECK_STATUS(ssm_s5_scan_backward(&p->op, &d, work, need.work_backward - 1), SSM_ERR_MEMORY);
    for (i = 0; i < S5_INPUTS; ++i)
        for (k = 0; p->t[i].real && k < p->t[i].count; ++k) CHECK(p->t[i].grad[k] == 0);
    CHECK_OK(ssm_s5_scan_backward(&p->op, &d, work, need.work_backward));
    for (i = 0; i < S5_INPUTS; ++i)
        if (p->t[i].real)
            s5_check_gradient(s5_names[i], s5_problem_loss, p, p->t[i].exact, p->t[i].grad, p->t[i].count, rng);
    test_free(work, 1);
}

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
#define BAD(change, status)                                              \
    do {                                                                 \
        bad = p.op;                                                      \
        change;                                                          \
        CHECK_STATUS(ssm_s5_scan_forward(&bad, work, need.work), status); \
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
    CHECK_STATUS(ssm_s5_scan_forward(&p.op, work, need.work - 1), SSM_ERR_MEMORY);
    CHECK_STATUS(ssm_s5_scan_forward(&p.op, NULL, need.work), SSM_ERR_NULL);
    CHECK_STATUS(ssm_s5_scan_forward(NULL, work, need.work), SSM_ERR_NULL);
    CHECK_STATUS(ssm_s5_scan_step(&p.op), SSM_ERR_NULL); /* no h_last */
    CHECK_STATUS(ssm_s5_scan_backward(&p.op, &none, work, sizeof work), SSM_ERR_NULL);
    CHECK_SAME(p.t[S5_Y].real, y, p.t[S5_Y].count);
    test_free(y, 0);
    s5_close(&p);
}

/* ------------------------------------------------------------------ the layer: models and oracle */

typedef struct s5_model {
    ssm_s5_config config; /* resolved */
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table;
    ssm_real *params;
    double *exact;
    void *bound;
    size_t bound_bytes;
    size_t states;
    ssm_s5 layer;
} s5_model;

typedef struct s5_layer_spec {
    const char *text;
    ssm_s5_config config;
} s5_layer_spec;

#define S5(...) {#__VA_ARGS__, {__VA_ARGS__}}

static const s5_layer_spec s5_layers[] = {
    S5(.d_model = 3, .d_state = 4),
    S5(.d_model = 1, .d_state = 2, .activation = SSM_S5_NONE),
    S5(.d_model = 5, .d_state = 12, .blocks = 3, .activation = SSM_S5_GELU, .disc = SSM_DISC_BILINEAR),
    S5(.d_model = 4, .d_state = 3, .no_conj_sym = 1, .activation = SSM_S5_HALF_GLU2, .residual = 1),
    S5(.d_model = 17, .d_state = 34, .blocks = 17, .activation = SSM_S5_FULL_GLU, .pre_norm = 1, .residual = 1),
    S5(.d_model = 2, .d_state = 4, .activation = SSM_S5_NONE, .disc = SSM_DISC_DIRAC, .clip_eigs = 1),
    S5(.d_model = 2, .d_state = 4, .activation = SSM_S5_NONE, .disc = SSM_DISC_EULER, .event = 1),
    S5(.d_model = 2, .d_state = 4, .event = 1, .step_rescale = 2, .pre_norm = 1),
    S5(.d_model = 3, .d_state = 5, .real_state = 1, .activation = SSM_S5_NONE),
    S5(.d_model = 2, .d_state = 3, .real_state = 1, .activation = SSM_S5_HALF_GLU1, .disc = SSM_DISC_BILINEAR),
    S5(.d_model = 3, .d_state = 4, .bidirectional = 1, .activation = SSM_S5_NONE),
    S5(.d_model = 2, .d_state = 8, .bidirectional = 1, .blocks = 2, .activation = SSM_S5_FULL_GLU, .pre_norm = 1),
    S5(.d_model = 2, .d_state = 3, .bidirectional = 1, .real_state = 1, .activation = SSM_S5_GELU, .residual = 1),
};

static void s5_model_bind(s5_model *m, size_t misalign)
{
    m->bound = test_alloc(m->bound_bytes, misalign);
    CHECK_STATUS(ssm_s5_bind(&m->layer, &m->config, m->params, m->bound, m->bound_bytes - 1), SSM_ERR_MEMORY);
    CHECK_OK(ssm_s5_bind(&m->layer, &m->config, m->params, m->bound, m->bound_bytes));
}

/* Initialised, moved off its constants, bound. Steps stay moderate and states stable, but for one that
 * clip_eigs has to hold. */
static void s5_model_open(s5_model *m, const ssm_s5_config *config, ssm_rng *rng)
{
    const ssm_seqs one = test_seqs(1, 1);
    const ssm_param *step, *re;
    ssm_sizes need;
    size_t i;
    m->table.row = m->rows;
    m->table.capacity = SSM_PARAMS_MAX;
    m->table.rows = m->table.count = 0;
    CHECK_OK(ssm_s5_config_resolve(config, &m->config));
    CHECK_OK(ssm_s5_params(config, NULL, &m->table));
    CHECK_OK(ssm_s5_sizes(config, &one, &need));
    CHECK(need.params == m->table.count * sizeof(ssm_real));
    m->states = need.state / sizeof(ssm_real);
    m->bound_bytes = need.bound;
    m->params = test_zeros(m->table.count);
    CHECK_OK(ssm_s5_init(config, m->params, ssm_rng_next(rng)));
    for (i = 0; i < m->table.count; ++i) m->params[i] += (ssm_real)0.25 * ssm_rng_normal(rng);
    step = ssm_params_find(&m->table, config->real_state ? "log_dt" : "log_step");
    for (i = 0; i < step->count; ++i) m->params[step->offset + i] = (ssm_real)-1.5 + (ssm_real)0.3 * ssm_rng_normal(rng);
    re = ssm_params_find(&m->table, "Lambda_re");
    for (i = 0; re && i < re->count; ++i) m->params[re->offset + i] = (ssm_real)-0.3 - (ssm_real)0.4 * ssm_rng_uniform(rng);
    if (m->config.clip_eigs) m->params[re->offset] = (ssm_real)0.1;
    m->exact = test_doubles(m->params, m->table.count);
    s5_model_bind(m, 1);
}

static void s5_model_close(s5_model *m)
{
    test_free(m->params, 0);
    test_free(m->exact, 0);
    test_free(m->bound, 1);
}

static const double *s5_weight(const s5_model *m, const char *name)
{
    const ssm_param *row = ssm_params_find(&m->table, name);
    return row ? m->exact + row->offset : NULL;
}

#define S5_LAYER_WIDE 32

static double s5_gelu(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

static void s5_dense(const s5_model *m, const char *weight, const char *bias, const double *x, double *y)
{
    const size_t H = m->config.d_model;
    size_t i, k;
    for (i = 0; i < H; ++i) {
        y[i] = s5_weight(m, bias)[i];
        for (k = 0; k < H; ++k) y[i] += s5_weight(m, weight)[i * H + k] * x[k];
    }
}

static void s5_oracle_activation(const s5_model *m, const double *s, double *y)
{
    double g[S5_LAYER_WIDE], o1[S5_LAYER_WIDE], o2[S5_LAYER_WIDE];
    size_t i;
    for (i = 0; i < m->config.d_model; ++i) g[i] = s5_gelu(s[i]);
    if (s5_weight(m, "out1.weight")) s5_dense(m, "out1.weight", "out1.bias", g, o1);
    if (s5_weight(m, "out2.weight")) s5_dense(m, "out2.weight", "out2.bias", g, o2);
    for (i = 0; i < m->config.d_model; ++i) {
        switch (m->config.activation) {
        case SSM_S5_HALF_GLU1: y[i] = g[i] / (1 + exp(-o2[i])); break;
        case SSM_S5_HALF_GLU2: y[i] = s[i] / (1 + exp(-o2[i])); break;
        case SSM_S5_FULL_GLU: y[i] = o1[i] / (1 + exp(-o2[i])); break;
        case SSM_S5_GELU: y[i] = g[i]; break;
        case SSM_S5_NONE:
        default: y[i] = s[i];
        }
    }
}

/* One row: h = a h + b B u. */
static void s5_oracle_state(const s5_model *m, const double *u, double scale, s5_complex *h)
{
    const ssm_s5_config *c = &m->config;
    const size_t H = c->d_model, P = c->no_conj_sym ? c->d_state : c->d_state / 2;
    const double *B = s5_weight(m, "B");
    size_t p, k;
    for (p = 0; p < P; ++p) {
        s5_complex A, a, b, v = 0;
        double step = c->step_rescale * exp(c->real_state ? s5_weight(m, "log_dt")[0] : s5_weight(m, "log_step")[p]);
        if (c->real_state) {
            A = -exp(s5_weight(m, "A_log")[p]);
            for (k = 0; k < H; ++k) v += B[k * P + p] * u[k];
        } else {
            double re = s5_weight(m, "Lambda_re")[p];
            if (c->clip_eigs && re > -1e-4) re = -1e-4;
            A = s5_pair(re, s5_weight(m, "Lambda_im")[p]);
            for (k = 0; k < H; ++k) v += s5_pair(B[2 * (p * H + k)], B[2 * (p * H + k) + 1]) * u[k];
        }
        s5_oracle_coef(c->disc, A, step * scale, c->event ? step : step * scale, &a, &b);
        h[p] = a * h[p] + b * v;
    }
}

/* y += k Re(C h) */
static void s5_oracle_read(const s5_model *m, const double *C, const s5_complex *h, double *y)
{
    const ssm_s5_config *c = &m->config;
    const size_t H = c->d_model, P = c->no_conj_sym ? c->d_state : c->d_state / 2;
    size_t i, p;
    for (i = 0; i < H; ++i)
        for (p = 0; p < P; ++p) {
            const s5_complex z = c->real_state ? C[p * H + i] : s5_pair(C[2 * (i * P + p)], C[2 * (i * P + p) + 1]);
            y[i] += (c->no_conj_sym ? 1 : 2) * creal(z * h[p]);
        }
}

static void s5_oracle_norm(const s5_model *m, const double *x, double *u)
{
    const size_t H = m->config.d_model;
    const double *w = s5_weight(m, "norm.weight");
    double square = 0;
    size_t i;
    for (i = 0; i < H; ++i) square += x[i] * x[i];
    for (i = 0; i < H; ++i) u[i] = w ? x[i] / sqrt(square / (double)H + (double)m->config.norm_eps) * w[i] : x[i];
}

/* A whole sequence; state [states] inout, scale [len] or NULL. */
static void s5_oracle_sequence(const s5_model *m, const double *x, const double *scale, size_t len, double *state, double *y)
{
    const ssm_s5_config *c = &m->config;
    const size_t H = c->d_model, P = c->no_conj_sym ? c->d_state : c->d_state / 2, pair = c->real_state ? 1 : 2;
    double *s = (double *)test_alloc(len * H * sizeof *s, 0), *u = (double *)test_alloc(len * H * sizeof *u, 0);
    s5_complex h[S5_LAYER_WIDE];
    size_t t, i, p;
    for (t = 0; t < len; ++t) {
        s5_oracle_norm(m, x + t * H, u + t * H);
        for (i = 0; i < H; ++i) s[t * H + i] = s5_weight(m, "D")[i] * u[t * H + i];
    }
    for (p = 0; p < P; ++p) h[p] = c->bidirectional ? 0 : s5_pair(state[p * pair], pair == 2 ? state[p * pair + 1] : 0);
    for (t = 0; t < len; ++t) {
        s5_oracle_state(m, u + t * H, scale ? scale[t] : 1, h);
        s5_oracle_read(m, s5_weight(m, c->bidirectional ? "C1" : "C"), h, s + t * H);
    }
    for (p = 0; !c->bidirectional && p < P; ++p) {
        state[p * pair] = creal(h[p]);
        if (pair == 2) state[p * pair + 1] = cimag(h[p]);
    }
    for (p = 0; p < P; ++p) h[p] = 0;
    for (t = len; c->bidirectional && t-- > 0;) {
        s5_oracle_state(m, u + t * H, scale ? scale[t] : 1, h);
        s5_oracle_read(m, s5_weight(m, "C2"), h, s + t * H);
    }
    for (t = 0; t < len; ++t) {
        s5_oracle_activation(m, s + t * H, y + t * H);
        for (i = 0; c->residual && i < H; ++i) y[t * H + i] += x[t * H + i];
    }
    test_free(s, 0);
    test_free(u, 0);
}

/* ------------------------------------------------------------------ the layer: calls */

/* A batch of data and the same in double. */
typedef struct s5_data {
    s5_model *m;
    size_t batch, len;
    ssm_real *x, *state, *scale;
    double *x_exact, *state_exact, *scale_exact;
    ssm_real *dy, *dstate; /* weights of the loss */
} s5_data;

static s5_data s5_data_open(s5_model *m, size_t batch, size_t len, int scaled, ssm_rng *rng)
{
    s5_data d;
    size_t i;
    d.m = m;
    d.batch = batch;
    d.len = len;
    d.x = test_normal(rng, batch * len * m->config.d_model, 1);
    d.state = test_normal(rng, batch * m->states, 1);
    d.scale = test_zeros(batch * len);
    for (i = 0; i < batch * len; ++i) d.scale[i] = (ssm_real)0.2 + 2 * ssm_rng_uniform(rng);
    d.dy = test_normal(rng, batch * len * m->config.d_model, 1);
    d.dstate = test_normal(rng, batch * m->states, 1);
    d.x_exact = test_doubles(d.x, batch * len * m->config.d_model);
    d.state_exact = test_doubles(d.state, batch * m->states);
    d.scale_exact = test_doubles(d.scale, batch * len);
    if (!scaled) {
        test_free(d.scale, 0);
        test_free(d.scale_exact, 0);
        d.scale = NULL;
        d.scale_exact = NULL;
    }
    return d;
}

static void s5_data_close(s5_data *d)
{
    test_free(d->x, 0);
    test_free(d->state, 0);
    test_free(d->dy, 0);
    test_free(d->dstate, 0);
    test_free(d->x_exact, 0);
    test_free(d->state_exact, 0);
    if (d->scale) test_free(d->scale, 0);
    if (d->scale_exact) test_free(d->scale_exact, 0);
}

/* A state to pass: a bidirectional layer has none. */
static ssm_real *s5_state(const s5_model *m, ssm_real *state)
{
    return m->config.bidirectional ? NULL : state;
}

/* forward in exactly the workspace it asks for; one byte less changes nothing. */
static void s5_forward(const s5_model *m, ssm_real *state, const ssm_real *x, ssm_real *y, const ssm_seqs *seqs)
{
    ssm_sizes need;
    void *work;
    CHECK_OK(ssm_s5_sizes(&m->config, seqs, &need));
    work = test_alloc(need.work, 3);
    if (need.work) CHECK_STATUS(ssm_s5_forward(&m->layer, s5_state(m, state), x, y, seqs, work, need.work - 1), SSM_ERR_MEMORY);
    CHECK_OK(ssm_s5_forward(&m->layer, s5_state(m, state), x, y, seqs, work, need.work));
    test_free(work, 3);
}

static void s5_record(const s5_data *d, ssm_real *state, ssm_real *y, ssm_real *dstate, ssm_real *dx, ssm_real *dparams)
{
    const s5_model *m = d->m;
    ssm_seqs seqs = test_seqs(d->batch, d->len);
    ssm_sizes need;
    void *tape, *work;
    seqs.step_scale = d->scale;
    CHECK_OK(ssm_s5_sizes(&m->config, &seqs, &need));
    tape = test_alloc(need.tape, 1);
    work = test_alloc(need.work, 0);
    CHECK_OK(ssm_s5_record(&m->layer, s5_state(m, state), d->x, y, &seqs, tape, need.tape, work, need.work));
    test_free(work, 0);
    work = test_alloc(need.work_backward, 0);
    if (need.work_backward)
        CHECK_STATUS(ssm_s5_backward(&m->layer, s5_state(m, dstate), d->x, d->dy, dx, dparams, &seqs, tape, need.tape, work, need.work_backward - 1), SSM_ERR_MEMORY);
    if (need.tape)
        CHECK_STATUS(ssm_s5_backward(&m->layer, s5_state(m, dstate), d->x, d->dy, dx, dparams, &seqs, tape, need.tape - 1, work, need.work_backward), SSM_ERR_MEMORY);
    CHECK_OK(ssm_s5_backward(&m->layer, s5_state(m, dstate), d->x, d->dy, dx, dparams, &seqs, tape, need.tape, work, need.work_backward));
    test_free(work, 0);
    test_free(tape, 1);
}

static void s5_each_layer(void (*law)(s5_model *m, ssm_rng *rng), uint64_t salt)
{
    size_t i;
    for (i = 0; i < TEST_COUNT(s5_layers); ++i) {
        const size_t before = test_failures;
        ssm_rng rng = test_rng(salt + i);
        s5_model m;
        s5_model_open(&m, &s5_layers[i].config, &rng);
        law(&m, &rng);
        s5_model_close(&m);
        if (test_failures > before && before < 5) printf("    ... with %s\n", s5_layers[i].text);
    }
}

/* ------------------------------------------------------------------ the layer: laws */

static const size_t s5_shapes[][2] = {{1, 1}, {20, 7}, {2, 64}, {3, 65}, {1, 150}, {2, 0}, {0, 3}};

static void s5_oracle_batch(const s5_data *d, double *state, double *y)
{
    const size_t H = d->m->config.d_model;
    size_t b;
    for (b = 0; b < d->batch; ++b)
        s5_oracle_sequence(d->m, d->x_exact + b * d->len * H, d->scale_exact ? d->scale_exact + b * d->len : NULL, d->len,
                           state + b * d->m->states, y + b * d->len * H);
}

static void s5_law_layer_oracle(s5_model *m, ssm_rng *rng)
{
    size_t i, k;
    for (i = 0; i < 2 * TEST_COUNT(s5_shapes); ++i) {
        s5_data d = s5_data_open(m, s5_shapes[i / 2][0], s5_shapes[i / 2][1], i % 2, rng);
        const size_t count = d.batch * d.len * m->config.d_model;
        ssm_seqs seqs = test_seqs(d.batch, d.len);
        ssm_real *y = test_zeros(count), *recorded = test_zeros(count), *state = test_copy(d.state, d.batch * m->states);
        ssm_real *recorded_state = test_copy(d.state, d.batch * m->states);
        double *want = test_doubles(y, count);
        seqs.step_scale = d.scale;
        s5_forward(m, state, d.x, y, &seqs);
        s5_oracle_batch(&d, d.state_exact, want);
        CHECK_CLOSE(y, want, count, TOL(5e-5, 1e-13));
        CHECK_CLOSE(state, d.state_exact, d.batch * m->states, TOL(5e-5, 1e-13));
        s5_record(&d, recorded_state, recorded, d.dstate, NULL, NULL);
        CHECK_SAME(recorded, y, count);
        CHECK_SAME(recorded_state, state, d.batch * m->states);
        for (k = 0; k < count; ++k) recorded[k] = d.x[k];
        s5_forward(m, d.state, recorded, recorded, &seqs); /* in place */
        CHECK_SAME(recorded, y, count);
        test_free(y, 0);
        test_free(recorded, 0);
        test_free(state, 0);
        test_free(recorded_state, 0);
        test_free(want, 0);
        s5_data_close(&d);
    }
}

/* Each sequence alone, in one call, packed, in other strides, with scale 1: the same bits. */
static void s5_law_layer_batch(s5_model *m, ssm_rng *rng)
{
    const size_t H = m->config.d_model, lens[] = {3, 0, 64, 70}, rows = 140;
    s5_data d = s5_data_open(m, 1, rows, 1, rng);
    ssm_real *y = test_zeros(rows * H), *want = test_zeros(rows * H), *state = test_normal(rng, 4 * m->states, 1);
    ssm_real *want_state = test_copy(state, 4 * m->states), *turned = test_zeros(rows * H);
    size_t start[5] = {2}, b, t, c, pass; /* two rows before and one after belong to none */
    ssm_seqs packed = test_seqs(4, rows), seqs;
    for (b = 0; b < 4; ++b) start[b + 1] = start[b] + lens[b];
    packed.start = start;
    for (pass = 0; pass < 2; ++pass) {
        packed.step_scale = pass ? d.scale : NULL;
        for (b = 0; b < 4; ++b) {
            seqs = test_seqs(1, lens[b]);
            seqs.step_scale = pass ? d.scale + start[b] : NULL;
            s5_forward(m, want_state + b * m->states, d.x + start[b] * H, want + start[b] * H, &seqs);
        }
        s5_forward(m, state, d.x, y, &packed);
        CHECK_SAME(y, want, rows * H);
        CHECK_SAME(state, want_state, 4 * m->states);
    }
    /* batch 2 of 60 rows: [chan][len] tensors, against dense */
    seqs = test_seqs(2, 60);
    seqs.step_scale = d.scale;
    s5_forward(m, want_state, d.x, want, &seqs);
    for (b = 0; b < 2; ++b)
        for (t = 0; t < 60; ++t)
            for (c = 0; c < H; ++c) turned[(b * H + c) * 60 + t] = d.x[(b * 60 + t) * H + c];
    seqs.x.batch = seqs.y.batch = (ptrdiff_t)(60 * H);
    seqs.x.time = seqs.y.time = 1;
    seqs.x.chan = seqs.y.chan = 60;
    s5_forward(m, state, turned, y, &seqs);
    for (b = 0; b < 2; ++b)
        for (t = 0; t < 60; ++t)
            for (c = 0; c < H; ++c) turned[(b * 60 + t) * H + c] = y[(b * H + c) * 60 + t];
    CHECK_SAME(turned, want, 120 * H);
    CHECK_SAME(state, want_state, 2 * m->states);
    /* all factors 1 */
    seqs = test_seqs(1, rows);
    s5_forward(m, want_state, d.x, want, &seqs);
    for (t = 0; t < rows; ++t) d.scale[t] = 1;
    seqs.step_scale = d.scale;
    s5_forward(m, state, d.x, y, &seqs);
    CHECK_SAME(y, want, rows * H);
    CHECK_SAME(state, want_state, m->states);
    test_free(y, 0);
    test_free(want, 0);
    test_free(turned, 0);
    test_free(state, 0);
    test_free(want_state, 0);
    s5_data_close(&d);
}

/* In two pieces, and step by step. */
static void s5_law_layer_split(s5_model *m, ssm_rng *rng)
{
    const size_t H = m->config.d_model, len = 70, cuts[] = {0, 1, 30, 64, 69, 70};
    s5_data d = s5_data_open(m, 1, len, 1, rng);
    ssm_real *y = test_zeros(len * H), *want = test_zeros(len * H), *state, *want_state = test_copy(d.state, m->states);
    ssm_seqs seqs = test_seqs(1, len), one = test_seqs(1, 1);
    ssm_sizes need;
    void *work;
    size_t i, t;
    CHECK_OK(ssm_s5_sizes(&m->config, &one, &need));
    work = test_alloc(need.work, 0);
    if (m->config.bidirectional) {
        CHECK_STATUS(ssm_s5_step(&m->layer, d.dstate, d.x, y, 1, work, need.work), SSM_ERR_UNSUPPORTED);
        CHECK_STATUS(ssm_s5_forward(&m->layer, d.dstate, d.x, y, &seqs, work, need.work), SSM_ERR_UNSUPPORTED);
        CHECK_SAME(y, want, len * H);
        CHECK(m->states == 0);
    } else {
        seqs.step_scale = d.scale;
        s5_forward(m, want_state, d.x, want, &seqs);
        for (i = 0; i < TEST_COUNT(cuts); ++i) {
            state = test_copy(d.state, m->states);
            seqs = test_seqs(1, cuts[i]);
            seqs.step_scale = d.scale;
            s5_forward(m, state, d.x, y, &seqs);
            seqs = test_seqs(1, len - cuts[i]);
            seqs.step_scale = d.scale + cuts[i];
            s5_forward(m, state, d.x + cuts[i] * H, y + cuts[i] * H, &seqs);
            CHECK_SAME(y, want, len * H);
            CHECK_SAME(state, want_state, m->states);
            test_free(state, 0);
        }
        seqs = test_seqs(1, len);
        state = test_copy(d.state, m->states);
        for (t = 0; t < m->states; ++t) want_state[t] = d.state[t];
        s5_forward(m, want_state, d.x, want, &seqs);
        for (t = 0; t < len; ++t) CHECK_OK(ssm_s5_step(&m->layer, state, d.x + t * H, y + t * H, 1, work, need.work));
        CHECK_SAME(y, want, len * H);
        CHECK_SAME(state, want_state, m->states);
        test_free(state, 0);
    }
    test_free(work, 0);
    test_free(y, 0);
    test_free(want, 0);
    test_free(want_state, 0);
    s5_data_close(&d);
}

/* ------------------------------------------------------------------ the layer: gradients */

static double s5_layer_loss(void *context)
{
    const s5_data *d = (const s5_data *)context;
    const size_t count = d->batch * d->len * d->m->config.d_model, states = d->batch * d->m->states;
    double *y = (double *)test_alloc(count * sizeof *y, 0), *state = (double *)test_alloc(states * sizeof *state, 0), loss = 0;
    size_t i;
    memcpy(state, d->state_exact, states * sizeof *state);
    s5_oracle_batch(d, state, y);
    for (i = 0; i < count; ++i) loss += (double)d->dy[i] * y[i];
    for (i = 0; i < states; ++i) loss += (double)d->dstate[i] * state[i];
    test_free(y, 0);
    test_free(state, 0);
    return loss;
}

static void s5_law_layer_gradients(s5_model *m, ssm_rng *rng)
{
    static const size_t shapes[][2] = {{1, 1}, {3, 4}, {1, 67}};
    size_t i, r;
    for (i = 0; i < 2 * TEST_COUNT(shapes); ++i) {
        s5_data d = s5_data_open(m, shapes[i / 2][0], shapes[i / 2][1], i % 2, rng);
        const size_t count = d.batch * d.len * m->config.d_model;
        ssm_real *dx = test_zeros(count), *dparams = test_zeros(m->table.count), *y = test_zeros(count);
        ssm_real *state = test_copy(d.state, d.batch * m->states), *dstate = test_copy(d.dstate, d.batch * m->states);
        s5_record(&d, state, y, dstate, dx, dparams);
        s5_check_gradient("x", s5_layer_loss, &d, d.x_exact, dx, count, rng);
        s5_check_gradient("state", s5_layer_loss, &d, d.state_exact, dstate, d.batch * m->states, rng);
        for (r = 0; r < m->table.rows; ++r) {
            const ssm_param *row = &m->rows[r];
            s5_check_gradient(row->name, s5_layer_loss, &d, m->exact + row->offset, dparams + row->offset, row->count, rng);
        }
        test_free(dx, 0);
        test_free(dparams, 0);
        test_free(y, 0);
        test_free(state, 0);
        test_free(dstate, 0);
        s5_data_close(&d);
    }
}

/* Without dx or dparams the other is the same; a second call adds. Strided x and dy, packed. */
static void s5_law_layer_wanted(s5_model *m, ssm_rng *rng)
{
    s5_data d = s5_data_open(m, 2, 35, 0, rng);
    const size_t H = m->config.d_model, count = 70 * H;
    ssm_real *dx = test_zeros(count), *dparams = test_zeros(m->table.count), *y = test_zeros(count);
    ssm_real *dx2 = test_zeros(count), *dparams2 = test_zeros(m->table.count), *state = test_copy(d.state, 2 * m->states);
    ssm_real *dstate = test_copy(d.dstate, 2 * m->states);
    double *twice;
    size_t i;
    s5_record(&d, state, y, dstate, dx, dparams);
    for (i = 0; i < 2 * m->states; ++i) dstate[i] = d.dstate[i], state[i] = d.state[i];
    s5_record(&d, state, y, dstate, dx2, NULL);
    for (i = 0; i < 2 * m->states; ++i) dstate[i] = d.dstate[i], state[i] = d.state[i];
    s5_record(&d, state, y, dstate, NULL, dparams2);
    CHECK_SAME(dx2, dx, count);
    CHECK_SAME(dparams2, dparams, m->table.count);
    for (i = 0; i < 2 * m->states; ++i) dstate[i] = d.dstate[i], state[i] = d.state[i];
    s5_record(&d, state, y, dstate, dx2, dparams2);
    twice = test_doubles(dparams, m->table.count);
    for (i = 0; i < m->table.count; ++i) twice[i] *= 2;
    CHECK_CLOSE(dparams2, twice, m->table.count, TOL(1e-5, 1e-13));
    test_free(twice, 0);
    twice = test_doubles(dx, count);
    for (i = 0; i < count; ++i) twice[i] *= 2;
    CHECK_CLOSE(dx2, twice, count, TOL(1e-5, 1e-13));
    test_free(twice, 0);
    test_free(dx, 0);
    test_free(dx2, 0);
    test_free(dparams, 0);
    test_free(dparams2, 0);
    test_free(y, 0);
    test_free(state, 0);
    test_free(dstate, 0);
    s5_data_close(&d);
}

/* Rows of step 0 leave the state as it is, whatever is in them. */
static void s5_law_layer_padding(s5_model *m, ssm_rng *rng)
{
    const size_t H = m->config.d_model, len = 70, cut = 40;
    s5_data d = s5_data_open(m, 1, len, 1, rng);
    ssm_real *y = test_zeros(len * H), *want = test_zeros(len * H), *want_state = test_copy(d.state, m->states);
    ssm_seqs seqs = test_seqs(1, cut);
    size_t t;
    if (!m->config.bidirectional && !m->config.event && m->config.disc != SSM_DISC_DIRAC) {
        seqs.step_scale = d.scale;
        s5_forward(m, want_state, d.x, want, &seqs);
        for (t = cut; t < len; ++t) d.scale[t] = 0;
        seqs.len = len;
        s5_forward(m, d.state, d.x, y, &seqs);
        CHECK_SAME(y, want, cut * H);
        CHECK_SAME(d.state, want_state, m->states);
    }
    test_free(y, 0);
    test_free(want, 0);
    test_free(want_state, 0);
    s5_data_close(&d);
}

static void s5_layer_padding(void) { s5_each_layer(s5_law_layer_padding, 600); }
static void s5_layer_oracle(void) { s5_each_layer(s5_law_layer_oracle, 100); }
static void s5_layer_batch(void) { s5_each_layer(s5_law_layer_batch, 200); }
static void s5_layer_split(void) { s5_each_layer(s5_law_layer_split, 300); }
static void s5_layer_gradients(void) { s5_each_layer(s5_law_layer_gradients, 400); }
static void s5_layer_wanted(void) { s5_each_layer(s5_law_layer_wanted, 500); }

/* Memory does not grow with the length, but for the tape: one state for each tile. */
static void s5_layer_memory(void)
{
    const ssm_s5_config config = {.d_model = 8, .d_state = 16};
    const size_t tiles = 1000;
    const ssm_seqs some = test_seqs(1, SSM_TILE_ROWS), many = test_seqs(1, tiles * SSM_TILE_ROWS);
    ssm_sizes a, b;
    CHECK_OK(ssm_s5_sizes(&config, &some, &a));
    CHECK_OK(ssm_s5_sizes(&config, &many, &b));
    CHECK(a.work == b.work && a.work_backward == b.work_backward && a.bound == b.bound);
    CHECK(a.state == 16 * sizeof(ssm_real) && b.state == a.state);
    CHECK(b.tape <= tiles * a.state + 2 * SSM_ALIGN);
}

static void s5_layer_errors(void)
{
    ssm_s5_config config = {.d_model = 3, .d_state = 6}, resolved;
    ssm_real params[1] = {0};
    CHECK_OK(ssm_s5_config_resolve(&config, &resolved));
    CHECK(resolved.disc == SSM_DISC_ZOH && resolved.blocks == 1 && resolved.step_rescale == 1);
#define BAD(change)                                                             \
    do {                                                                        \
        const ssm_s5_config good = config;                                      \
        change;                                                                 \
        CHECK_STATUS(ssm_s5_config_resolve(&config, &resolved), SSM_ERR_CONFIG); \
        config = good;                                                          \
    } while (0)
    BAD(config.d_model = 0);
    BAD(config.d_state = 5);
    BAD(config.blocks = 2);
    BAD(config.blocks = (size_t)-1);
    BAD(config.disc = SSM_DISC_TRAPEZOID);
    BAD(config.disc = (ssm_disc)-1);
    BAD(config.scan = (ssm_scan)77);
    BAD(config.activation = (ssm_s5_activation)5);
    BAD(config.dt_min = 1);
    BAD(config.dt_min = -1);
    BAD(config.step_rescale = -1);
    BAD(config.norm_eps = (ssm_real)NAN);
#undef BAD
    CHECK_STATUS(ssm_s5_config_resolve(NULL, &resolved), SSM_ERR_NULL);
    ssm_s5_preset(&resolved, SSM_PRESET_PAPER);
    CHECK(!resolved.real_state && resolved.activation == SSM_S5_HALF_GLU1);
    ssm_s5_preset(&resolved, SSM_PRESET_TRACETORCH);
    CHECK(resolved.real_state && resolved.activation == SSM_S5_NONE);
    CHECK_STATUS(ssm_s5_bind(NULL, &config, params, NULL, 0), SSM_ERR_NULL);
    CHECK_STATUS(ssm_s5_forward(NULL, NULL, params, params, NULL, NULL, 0), SSM_ERR_NULL);
    config.d_model = (size_t)-1 / 64;
    {
        const ssm_seqs one = test_seqs(1, 1);
        ssm_sizes need;
        CHECK_STATUS(ssm_s5_sizes(&config, &one, &need), SSM_ERR_OVERFLOW);
    }
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
                s5_complex sum = -h.omega * s5_pair(-v[n][1], v[n][0]);
                for (k = 0; k < N; ++k)
                    if (k != n)
                        sum += (n > k ? -0.5 : 0.5) * sqrt((2.0 * (double)n + 1) * (2.0 * (double)k + 1)) * s5_pair(v[k][0], v[k][1]);
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
        const ssm_real got = ssm__gelu_tanh((ssm_real)x), got_slope = ssm__gelu_tanh_derivative((ssm_real)x);
        CHECK(fabs((double)got - want) <= TOL(1e-6, 1e-14) * (fabs(want) + 1));
        CHECK(fabs((double)got_slope - slope) <= TOL(2e-6, 1e-9));
    }
    CHECK(ssm__gelu_tanh(0) == 0);
    CHECK(ssm__gelu_tanh(1000) == 1000 && ssm__gelu_tanh(-1000) == 0);
    CHECK(ssm__gelu_tanh_derivative((ssm_real)1e30) == 1 && ssm__gelu_tanh_derivative((ssm_real)-1e30) == 0);
    CHECK(ssm__gelu_tanh((ssm_real)NAN) != ssm__gelu_tanh((ssm_real)NAN));
    CHECK(ssm__gelu_tanh_derivative((ssm_real)NAN) != ssm__gelu_tanh_derivative((ssm_real)NAN));
}

static const test_case s5_cases[] = {
    {"s5/gelu", s5_gelu_math},
    {"s5/scan_oracle", s5_scan_oracle},
    {"s5/scan_step_split", s5_scan_step_split},
    {"s5/scan_gradients", s5_scan_gradients},
    {"s5/scan_errors", s5_scan_errors},
    {"s5/layer_oracle", s5_layer_oracle},
    {"s5/layer_batch", s5_layer_batch},
    {"s5/layer_split", s5_layer_split},
    {"s5/layer_padding", s5_layer_padding},
    {"s5/layer_gradients", s5_layer_gradients},
    {"s5/layer_wanted", s5_layer_wanted},
    {"s5/layer_memory", s5_layer_memory},
    {"s5/layer_errors", s5_layer_errors},
    {"s5/init_hippo", s5_init_hippo},
    {"s5/init_eigenvectors", s5_init_eigenvectors},
};
