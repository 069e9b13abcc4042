/* test_ops.c - selective scan, causal convolution, linear and RMSNorm, forward.
 *
 * Three kinds of test: oracles (double precision, written from the papers, nothing shared with
 * ssm.h), laws (two ways to the same result, almost always the same bits), and contracts (memory,
 * errors). Scan and convolution are described by tables of tensors, so that oracles, laws and the
 * gradient tests are written once for both. */

/* ------------------------------------------------------------------ problems built from tables */

/* Tensors of the scan, then of the convolution: inputs, of which the last is the incoming state,
 * then the outgoing state and y. */
enum {
    OPS_U, OPS_DELTA, OPS_A, OPS_B, OPS_C, OPS_D, OPS_Z, OPS_BIAS, OPS_DELTA_A, OPS_LAMBDA, OPS_H0,
    OPS_H_LAST, OPS_Y, OPS_TENSORS
};
enum { OPS_X, OPS_WEIGHT, OPS_CONV_BIAS, OPS_STATE, OPS_STATE_LAST, OPS_CONV_Y };

#define OPS_HAS(i) (1u << (i))                  /* optional tensor i is there */
#define OPS_FLAT(i) (1u << (OPS_TENSORS + (i))) /* tensor i is broadcast along the axes its row names */
#define OPS_SOFTPLUS (1u << 26)
#define OPS_SILU (1u << 27)
#define OPS_PACKED (1u << 28)
#define OPS_TIME_LAST (1u << 29) /* [b][c][n][t] instead of [b][t][c][n] */
#define OPS_COMPLEX (1u << 30)   /* tensors with axis n or h are of (re, im) pairs */
#define OPS_STATES (OPS_HAS(OPS_H0) | OPS_HAS(OPS_H_LAST))
#define OPS_CONV_STATES (OPS_HAS(OPS_STATE) | OPS_HAS(OPS_STATE_LAST))
#define OPS_EVERYTHING (OPS_HAS(OPS_TENSORS) - 1)
#define OPS_ALL_FLAT (OPS_EVERYTHING << OPS_TENSORS & ~(OPS_FLAT(OPS_H_LAST) | OPS_FLAT(OPS_Y)))

#define OPS_MARK 7           /* what outputs hold before a call */
#define OPS_ANY_STRIDE 12345 /* of axes that must be ignored */

typedef struct ops_spec {
    size_t batch, len, dim;
    size_t d_state, B_groups, C_groups; /* scan */
    size_t width;                       /* convolution */
    ssm_disc disc;
    ssm_scan scan;
    unsigned flags;
    double A_from, A_to, delta_from, delta_to; /* both 0: the ranges of the table */
} ops_spec;

#define OPS_EXTENTS(b, t, c, n) .batch = b, .len = t, .dim = c, .d_state = n
#define OPS_GROUPS(of_B, of_C) .B_groups = of_B, .C_groups = of_C

typedef struct ops_row {
    const char *axes; /* letters of ops_extent for b, t, c, n; '.': the tensor has no such axis */
    const char *flat; /* letters left out by OPS_FLAT */
    size_t view;      /* offsets in the op and in its gradients */
    size_t grad;
    double from, to; /* uniform; both 0: normal */
} ops_row;

typedef union ops_op { /* both begin with batch, len, dim */
    ssm_selective_scan scan;
    ssm_conv conv;
} ops_op;

typedef struct ops_tensor {
    ssm_real *real; /* NULL: absent */
    double *exact;  /* the same numbers, for the oracle */
    size_t count;
    size_t parts; /* reals of an element: 2 if it is a pair */
    size_t extent[4];
    ptrdiff_t stride[4];
} ops_tensor;

struct ops_kind;

typedef struct ops_problem {
    const struct ops_kind *kind;
    ops_spec spec;
    ops_tensor t[OPS_TENSORS];
    size_t *start;
    ops_op op;
} ops_problem;

typedef struct ops_kind {
    const ops_row *rows;
    size_t inputs; /* the last is the state; row inputs is the state out, row inputs + 1 is y */
    unsigned required;
    size_t start; /* offset of `start` in the op */
    void (*options)(ops_problem *p);
    void (*oracle)(ops_problem *p); /* fills `exact` of both outputs */
    ssm_status (*forward)(const ops_op *op, ssm_memory work);
    ssm_status (*step)(const ops_op *op);
    ssm_status (*sizes)(const ops_op *op, ssm_sizes *need);
} ops_kind;

/* One line about the case, after a failure in it. */
static void ops_note(const ops_spec *s, size_t failures_before)
{
    if (test_failures == failures_before || test_failures > 5) return;
    printf("      batch %lu len %lu dim %lu d_state %lu groups %lu %lu width %lu disc %d scan %d flags %x\n",
           (unsigned long)s->batch, (unsigned long)s->len, (unsigned long)s->dim, (unsigned long)s->d_state,
           (unsigned long)s->B_groups, (unsigned long)s->C_groups, (unsigned long)s->width, (int)s->disc,
           (int)s->scan, s->flags);
}

static double ops_between(ssm_rng *rng, double from, double to)
{
    return from + (to - from) * (double)ssm_rng_uniform(rng);
}

static void ops_set(ssm_real *p, size_t count, double value)
{
    size_t i;
    for (i = 0; i < count; ++i) p[i] = (ssm_real)value;
}

static size_t ops_extent(const ops_spec *s, char letter)
{
    switch (letter) {
    case 'b': return s->flags & OPS_PACKED ? 1 : s->batch; /* of tensors with time */
    case 'q': return s->batch;                             /* of states */
    case 't': return s->len;
    case 'c': return s->dim;
    case 'g': return s->B_groups ? s->B_groups : 1;
    case 'k': return s->C_groups ? s->C_groups : 1;
    case 'n': return s->d_state;
    case 'h': return s->disc == SSM_DISC_TRAPEZOID ? 2 * s->d_state : s->d_state;
    case 'w': return s->width;
    case 'p': return s->width - 1;
    default: return 1;
    }
}

static void ops_lay(ops_tensor *x, const ops_spec *s, const ops_row *row, int flat)
{
    static const int orders[2][4] = {{3, 2, 1, 0}, {1, 3, 2, 0}}; /* fastest axis first */
    const int *order = orders[(s->flags & OPS_TIME_LAST) != 0];
    int i;
    x->parts = s->flags & OPS_COMPLEX && strpbrk(row->axes, "nh") ? 2 : 1;
    x->count = x->parts;
    for (i = 0; i < 4; ++i) {
        const int axis = order[i];
        const char letter = row->axes[axis];
        x->extent[axis] = ops_extent(s, letter);
        x->stride[axis] = 0;
        if (letter == '.' || (flat && strchr(row->flat, letter))) continue;
        x->stride[axis] = (ptrdiff_t)x->count;
        x->count *= x->extent[axis];
    }
}

/* Offset of element (b, t, c, n), of its real part if it is a pair. */
static size_t ops_offset(const ops_tensor *x, size_t b, size_t t, size_t c, size_t n)
{
    return (size_t)((ptrdiff_t)b * x->stride[0] + (ptrdiff_t)t * x->stride[1] + (ptrdiff_t)c * x->stride[2] +
                    (ptrdiff_t)n * x->stride[3]);
}

static double ops_at(const ops_tensor *x, size_t b, size_t t, size_t c, size_t n)
{
    return x->exact[ops_offset(x, b, t, c, n)];
}

static void ops_put(ops_tensor *x, size_t b, size_t t, size_t c, size_t n, double value)
{
    x->exact[ops_offset(x, b, t, c, n)] = value;
}

typedef struct ops_pair {
    double re, im;
} ops_pair;

static ops_pair ops_pair_of(double re, double im)
{
    ops_pair z;
    z.re = re;
    z.im = im;
    return z;
}

static ops_pair ops_pair_at(const ops_tensor *x, size_t b, size_t t, size_t c, size_t n)
{
    const double *at = x->exact + ops_offset(x, b, t, c, n);
    return ops_pair_of(at[0], at[1]);
}

static void ops_put_pair(ops_tensor *x, size_t b, size_t t, size_t c, size_t n, ops_pair value)
{
    double *at = x->exact + ops_offset(x, b, t, c, n);
    at[0] = value.re;
    at[1] = value.im;
}

static void ops_range(const ops_spec *s, const ops_row *row, double *from, double *to)
{
    *from = row->from;
    *to = row->to;
    if (row->view == offsetof(ssm_selective_scan, delta) && s->d_state) {
        if (s->flags & OPS_SOFTPLUS) *from = -4, *to = 2;
        if (s->delta_to > 0) *from = s->delta_from, *to = s->delta_to;
    }
    if (row->view == offsetof(ssm_selective_scan, A) && s->d_state && (s->A_from < 0 || s->A_to > 0))
        *from = s->A_from, *to = s->A_to;
}

static void ops_fill(ops_tensor *x, const ops_spec *s, const ops_row *row, ssm_rng *rng)
{
    double from, to;
    size_t i;
    ops_range(s, row, &from, &to);
    x->real = test_zeros(x->count);
    for (i = 0; i < x->count; ++i) {
        x->real[i] = from < to ? (ssm_real)ops_between(rng, from, to) : test_draw(rng);
        if (x->parts == 2 && i % 2 && from < to) /* angles of either sign, as large as the real parts may be */
            x->real[i] = (ssm_real)ops_between(rng, -fmax(-from, to), fmax(-from, to));
    }
    x->exact = test_doubles(x->real, x->count);
}

static void ops_refresh(ops_tensor *x) /* exact = real */
{
    size_t i;
    for (i = 0; i < x->count; ++i) x->exact[i] = (double)x->real[i];
}

static void ops_mark(ops_tensor *x)
{
    ops_set(x->real, x->count, OPS_MARK);
    ops_refresh(x);
}

/* Offsets of packed sequences: rows at both ends that belong to none, every third sequence empty. */
static size_t *ops_starts(const ops_spec *s, ssm_rng *rng)
{
    size_t *start = (size_t *)test_alloc((s->batch + 1) * sizeof *start, 0), b, at = s->len > 3;
    for (b = 0; b <= s->batch; ++b) {
        start[b] = at;
        if (b % 3 != 1) at += (size_t)(ssm_rng_next(rng) % (2 * s->len / (s->batch + 1) + 1));
        if (at > s->len) at = s->len;
    }
    return start;
}

/* ssm_in and ssm_out differ in a const only; views are copied as ssm_out. */
static ssm_out ops_get_view(const ops_op *op, size_t offset)
{
    ssm_out v;
    memcpy(&v, (const char *)op + offset, sizeof v);
    return v;
}

static void ops_set_view(void *op, size_t offset, ssm_out v)
{
    memcpy((char *)op + offset, &v, sizeof v);
}

static void ops_set_data(const ops_kind *kind, ops_op *op, size_t i, ssm_real *data)
{
    ssm_out v = ops_get_view(op, kind->rows[i].view);
    v.data = data;
    ops_set_view(op, kind->rows[i].view, v);
}

static void ops_set_start(const ops_kind *kind, ops_op *op, const size_t *start)
{
    memcpy((char *)op + kind->start, &start, sizeof start);
}

/* The view of a tensor; strides of axes that it does not have, or that packing ignores, are wild. */
static ssm_out ops_view(const ops_problem *p, size_t i, ssm_real *data)
{
    const char *axes = p->kind->rows[i].axes;
    const ops_tensor *x = &p->t[i];
    ssm_out v;
    v.data = data;
    v.batch = axes[0] == '.' || (axes[0] == 'b' && p->start) ? OPS_ANY_STRIDE : x->stride[0];
    v.time = axes[1] == '.' ? OPS_ANY_STRIDE : x->stride[1];
    v.chan = x->stride[2];
    v.state = axes[3] == '.' ? OPS_ANY_STRIDE : x->stride[3];
    return v;
}

static void ops_bind(ops_problem *p)
{
    size_t i;
    for (i = 0; i < p->kind->inputs + 2; ++i)
        if (p->t[i].real) ops_set_view(&p->op, p->kind->rows[i].view, ops_view(p, i, p->t[i].real));
    ops_set_start(p->kind, &p->op, p->start);
}

static void ops_open(ops_problem *p, const ops_kind *kind, const ops_spec *spec, ssm_rng *rng)
{
    size_t i;
    memset(p, 0, sizeof *p);
    p->kind = kind;
    p->spec = *spec;
    if (spec->flags & OPS_PACKED) p->start = ops_starts(spec, rng);
    for (i = 0; i < kind->inputs + 2; ++i) {
        ops_lay(&p->t[i], spec, &kind->rows[i], (spec->flags & OPS_FLAT(i)) != 0);
        if (!((spec->flags | kind->required) & OPS_HAS(i))) continue;
        ops_fill(&p->t[i], spec, &kind->rows[i], rng);
        if (i >= kind->inputs) ops_mark(&p->t[i]);
    }
    kind->options(p);
    ops_bind(p);
}

static void ops_close(ops_problem *p)
{
    size_t i;
    for (i = 0; i < OPS_TENSORS; ++i) {
        if (!p->t[i].real) continue;
        test_free(p->t[i].real, 0);
        test_free(p->t[i].exact, 0);
    }
    if (p->start) test_free(p->start, 0);
}

/* Runs with exactly the workspace asked for, `misalign` bytes off. */
static void ops_run(const ops_kind *kind, const ops_op *op, size_t misalign)
{
    ssm_sizes need = {0};
    void *work;
    CHECK_OK(kind->sizes(op, &need));
    work = test_alloc(need.work, misalign);
    CHECK_OK(kind->forward(op, ssm_memory_of(work, need.work)));
    test_free(work, misalign);
}

static const ops_tensor *ops_state_out(const ops_problem *p)
{
    return &p->t[p->kind->inputs];
}

static const ops_tensor *ops_y(const ops_problem *p)
{
    return &p->t[p->kind->inputs + 1];
}

/* Second outputs for a problem, to be compared with its own. */
typedef struct ops_again {
    ssm_real *y;
    ssm_real *last;
} ops_again;

/* A copy of the problem's op that writes to new outputs. */
static ops_op ops_redirect(const ops_problem *p, ops_again *out)
{
    ops_op op = p->op;
    out->y = test_zeros(ops_y(p)->count);
    ops_set(out->y, ops_y(p)->count, OPS_MARK);
    ops_set_data(p->kind, &op, p->kind->inputs + 1, out->y);
    out->last = NULL;
    if (!ops_state_out(p)->real) return op;
    out->last = test_zeros(ops_state_out(p)->count);
    ops_set(out->last, ops_state_out(p)->count, OPS_MARK);
    ops_set_data(p->kind, &op, p->kind->inputs, out->last);
    return op;
}

static void ops_expect_same(const ops_problem *p, ops_again *out)
{
    const size_t before = test_failures;
    CHECK_SAME(out->y, ops_y(p)->real, ops_y(p)->count);
    if (out->last) CHECK_SAME(out->last, ops_state_out(p)->real, ops_state_out(p)->count);
    ops_note(&p->spec, before);
    test_free(out->y, 0);
    if (out->last) test_free(out->last, 0);
}

/* Moves every view that has axis `letter` by `steps` along it. */
static void ops_advance(const ops_kind *kind, ops_op *op, char letter, size_t steps)
{
    size_t i;
    for (i = 0; i < kind->inputs + 2; ++i) {
        const char *axis = strchr(kind->rows[i].axes, letter);
        ssm_out v = ops_get_view(op, kind->rows[i].view);
        if (!axis || !v.data) continue;
        v.data += (ptrdiff_t)steps * (axis == kind->rows[i].axes ? v.batch : v.time);
        ops_set_view(op, kind->rows[i].view, v);
    }
}

/* The state out becomes the state in. */
static void ops_chain(const ops_kind *kind, ops_op *op)
{
    ops_set_view(op, kind->rows[kind->inputs - 1].view, ops_get_view(op, kind->rows[kind->inputs].view));
}

/* ------------------------------------------------------------------ scan: table and oracle */

#define OPS_ROW(axes, flat, view, grad, from, to) \
    {axes, flat, offsetof(ssm_selective_scan, view), offsetof(ssm_selective_scan_grad, grad), from, to}
static const ops_row ops_scan_rows[] = {
    OPS_ROW("btc.", "t", u, du, 0, 0),
    OPS_ROW("btc.", "c", delta, ddelta, 0.02, 1),
    OPS_ROW("..cn", "c", A, dA, -3, 0),
    OPS_ROW("btgn", "bt", B, dB, 0, 0),
    OPS_ROW("btkn", "bt", C, dC, 0, 0),
    OPS_ROW("..c.", "c", D, dD, 0, 0),
    OPS_ROW("btc.", "t", z, dz, 0, 0),
    OPS_ROW("..c.", "c", delta_bias, ddelta_bias, -0.01, 0.5),
    OPS_ROW("btc.", "c", delta_A, ddelta_A, 0.02, 1),
    OPS_ROW("btc.", "btc", lambda, dlambda, 0, 1),
    OPS_ROW("q.ch", "qh", h0, dh0, 0, 0),
    OPS_ROW("q.ch", "", h_last, dh_last, 0, 0),
    OPS_ROW("btc.", "", y, dy, 0, 0),
};
#undef OPS_ROW

/* h' = coef[0] h + coef[1] (B u before) + coef[2] (B u now). ZOH: Gu & Dao 2023 eq. 4; Euler:
 * selective_scan_ref; bilinear: Gu et al. 2021 eq. 3; trapezoid: Mamba-3, alpha, beta, gamma. */
static void ops_coefficients(ssm_disc disc, double A, double dt_A, double dt, double lambda, double coef[3])
{
    coef[0] = exp(dt_A * A);
    coef[1] = 0;
    coef[2] = dt;
    if (disc == SSM_DISC_ZOH && A != 0) coef[2] = expm1(dt * A) / A;
    if (disc == SSM_DISC_DIRAC) coef[2] = 1;
    if (disc == SSM_DISC_ZOH_TRAPEZOID) coef[2] = dt * (1 + exp(dt * A)) / 2;
    if (disc == SSM_DISC_BILINEAR) {
        coef[0] = (2 + dt_A * A) / (2 - dt_A * A);
        coef[2] = 2 * dt / (2 - dt * A);
    }
    if (disc == SSM_DISC_TRAPEZOID) {
        coef[1] = (1 - lambda) * dt * coef[0];
        coef[2] = lambda * dt;
    }
}

#define OPS_MAX_STATE 64

/* One step of channel c; h and v (B u of the step before) in place; returns y. */
static double ops_scan_oracle_step(const ops_problem *p, size_t b, size_t t, size_t c, double *h, double *v)
{
    const ops_spec *s = &p->spec;
    const ops_tensor *x = p->t;
    const size_t g = c * ops_extent(s, 'g') / s->dim, k = c * ops_extent(s, 'k') / s->dim;
    const double u = ops_at(&x[OPS_U], b, t, c, 0);
    double dt = ops_at(&x[OPS_DELTA], b, t, c, 0), dt_A, lambda, y = 0;
    size_t n;
    if (x[OPS_BIAS].real) dt += ops_at(&x[OPS_BIAS], 0, 0, c, 0);
    if (s->flags & OPS_SOFTPLUS) dt = test_softplus(dt);
    dt_A = x[OPS_DELTA_A].real ? ops_at(&x[OPS_DELTA_A], b, t, c, 0) : dt;
    lambda = x[OPS_LAMBDA].real ? ops_at(&x[OPS_LAMBDA], b, t, c, 0) : 0.5;
    for (n = 0; n < s->d_state; ++n) {
        const double Bu = ops_at(&x[OPS_B], b, t, g, n) * u;
        double coef[3];
        ops_coefficients(s->disc, ops_at(&x[OPS_A], 0, 0, c, n), dt_A, dt, lambda, coef);
        h[n] = coef[0] * h[n] + coef[1] * v[n] + coef[2] * Bu;
        v[n] = Bu;
        y += ops_at(&x[OPS_C], b, t, k, n) * h[n];
    }
    if (x[OPS_D].real) y += ops_at(&x[OPS_D], 0, 0, c, 0) * u;
    if (x[OPS_Z].real) y *= test_silu(ops_at(&x[OPS_Z], b, t, c, 0));
    return y;
}

static ops_pair ops_mul(ops_pair a, ops_pair b)
{
    return ops_pair_of(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re);
}

static ops_pair ops_inverse(ops_pair a)
{
    const double square = a.re * a.re + a.im * a.im;
    return ops_pair_of(a.re / square, -a.im / square);
}

/* exp(z) - 1, without cancellation. */
static ops_pair ops_expm1(ops_pair z)
{
    const double half = sin(z.im / 2);
    return ops_pair_of(expm1(z.re) * cos(z.im) - 2 * half * half, exp(z.re) * sin(z.im));
}

/* The same coefficients of a complex A: h' = coef[0] h + coef[1] (B u). */
static void ops_complex_coefficients(ssm_disc disc, ops_pair A, double dt_A, double dt, ops_pair coef[2])
{
    const ops_pair x = ops_pair_of(dt_A * A.re, dt_A * A.im), z = ops_pair_of(dt * A.re, dt * A.im);
    coef[0] = ops_pair_of(exp(x.re) * cos(x.im), exp(x.re) * sin(x.im));
    coef[1] = ops_pair_of(disc == SSM_DISC_DIRAC ? 1 : dt, 0);
    if (disc == SSM_DISC_ZOH && (A.re != 0 || A.im != 0)) coef[1] = ops_mul(ops_expm1(z), ops_inverse(A));
    if (disc == SSM_DISC_BILINEAR) {
        coef[0] = ops_mul(ops_pair_of(2 + x.re, x.im), ops_inverse(ops_pair_of(2 - x.re, -x.im)));
        coef[1] = ops_mul(ops_pair_of(2 * dt, 0), ops_inverse(ops_pair_of(2 - z.re, -z.im)));
    }
}

/* As ops_scan_oracle_step with complex A, B, C and h: the sum is twice its real part (selective_scan_ref). */
static double ops_complex_oracle_step(const ops_problem *p, size_t b, size_t t, size_t c, ops_pair *h)
{
    const ops_spec *s = &p->spec;
    const ops_tensor *x = p->t;
    const size_t g = c * ops_extent(s, 'g') / s->dim, k = c * ops_extent(s, 'k') / s->dim;
    const double u = ops_at(&x[OPS_U], b, t, c, 0);
    double dt = ops_at(&x[OPS_DELTA], b, t, c, 0), dt_A, y = 0;
    size_t n;
    if (x[OPS_BIAS].real) dt += ops_at(&x[OPS_BIAS], 0, 0, c, 0);
    if (s->flags & OPS_SOFTPLUS) dt = test_softplus(dt);
    dt_A = x[OPS_DELTA_A].real ? ops_at(&x[OPS_DELTA_A], b, t, c, 0) : dt;
    for (n = 0; n < s->d_state; ++n) {
        ops_pair coef[2], old, new;
        ops_complex_coefficients(s->disc, ops_pair_at(&x[OPS_A], 0, 0, c, n), dt_A, dt, coef);
        old = ops_mul(coef[0], h[n]);
        new = ops_mul(coef[1], ops_pair_at(&x[OPS_B], b, t, g, n));
        h[n] = ops_pair_of(old.re + new.re * u, old.im + new.im * u);
        y += 2 * ops_mul(ops_pair_at(&x[OPS_C], b, t, k, n), h[n]).re;
    }
    if (x[OPS_D].real) y += ops_at(&x[OPS_D], 0, 0, c, 0) * u;
    if (x[OPS_Z].real) y *= test_silu(ops_at(&x[OPS_Z], b, t, c, 0));
    return y;
}

static void ops_complex_oracle_channel(ops_problem *p, size_t seq, size_t c)
{
    const size_t b = p->start ? 0 : seq, N = p->spec.d_state;
    const size_t from = p->start ? p->start[seq] : 0, to = p->start ? p->start[seq + 1] : p->spec.len;
    ops_pair h[OPS_MAX_STATE] = {{0, 0}};
    size_t t, n;
    for (n = 0; p->t[OPS_H0].real && n < N; ++n) h[n] = ops_pair_at(&p->t[OPS_H0], seq, 0, c, n);
    for (t = from; t < to; ++t) ops_put(&p->t[OPS_Y], b, t, c, 0, ops_complex_oracle_step(p, b, t, c, h));
    for (n = 0; p->t[OPS_H_LAST].real && n < N; ++n) ops_put_pair(&p->t[OPS_H_LAST], seq, 0, c, n, h[n]);
}

static void ops_scan_oracle_channel(ops_problem *p, size_t seq, size_t c)
{
    const size_t b = p->start ? 0 : seq, N = p->spec.d_state, rows = ops_extent(&p->spec, 'h');
    const size_t from = p->start ? p->start[seq] : 0, to = p->start ? p->start[seq + 1] : p->spec.len;
    double state[2 * OPS_MAX_STATE] = {0}; /* h, then B u of the step before */
    size_t t, n;
    for (n = 0; p->t[OPS_H0].real && n < rows; ++n) state[n] = ops_at(&p->t[OPS_H0], seq, 0, c, n);
    for (t = from; t < to; ++t)
        ops_put(&p->t[OPS_Y], b, t, c, 0, ops_scan_oracle_step(p, b, t, c, state, state + N));
    for (n = 0; p->t[OPS_H_LAST].real && n < rows; ++n) ops_put(&p->t[OPS_H_LAST], seq, 0, c, n, state[n]);
}

static void ops_scan_oracle(ops_problem *p)
{
    size_t seq, c;
    for (seq = 0; seq < p->spec.batch; ++seq) {
        for (c = 0; c < p->spec.dim; ++c) {
            if (p->spec.flags & OPS_COMPLEX) ops_complex_oracle_channel(p, seq, c);
            else ops_scan_oracle_channel(p, seq, c);
        }
    }
}

static void ops_scan_options(ops_problem *p)
{
    ssm_selective_scan *s = &p->op.scan;
    s->batch = p->spec.batch;
    s->len = p->spec.len;
    s->dim = p->spec.dim;
    s->d_state = p->spec.d_state;
    s->B_groups = p->spec.B_groups;
    s->C_groups = p->spec.C_groups;
    s->disc = p->spec.disc;
    s->scan = p->spec.scan;
    s->delta_softplus = (p->spec.flags & OPS_SOFTPLUS) != 0;
    s->complex_A = (p->spec.flags & OPS_COMPLEX) != 0;
}

static ssm_status ops_scan_forward(const ops_op *op, ssm_memory work)
{
    return ssm_selective_scan_forward(&op->scan, work);
}

static ssm_status ops_scan_step(const ops_op *op)
{
    return ssm_selective_scan_step(&op->scan);
}

static ssm_status ops_scan_sizes(const ops_op *op, ssm_sizes *need)
{
    return ssm_selective_scan_sizes(&op->scan, need);
}

static const ops_kind ops_scan_kind = {
    ops_scan_rows, OPS_H0 + 1,
    OPS_HAS(OPS_U) | OPS_HAS(OPS_DELTA) | OPS_HAS(OPS_A) | OPS_HAS(OPS_B) | OPS_HAS(OPS_C) | OPS_HAS(OPS_Y),
    offsetof(ssm_selective_scan, start), ops_scan_options, ops_scan_oracle,
    ops_scan_forward, ops_scan_step, ops_scan_sizes
};

/* What the recurrence may be: discretisations of a real A, then those of a complex one. */
static const ssm_disc ops_forms[] = {
    SSM_DISC_EULER,     SSM_DISC_ZOH,           SSM_DISC_BILINEAR, SSM_DISC_DIRAC,
    SSM_DISC_TRAPEZOID, SSM_DISC_ZOH_TRAPEZOID, SSM_DISC_EULER,    SSM_DISC_ZOH,
    SSM_DISC_BILINEAR,  SSM_DISC_DIRAC,
};
#define OPS_FORMS TEST_COUNT(ops_forms)
#define OPS_REAL_FORMS 6

static void ops_set_form(ops_spec *s, size_t form)
{
    s->disc = ops_forms[form];
    s->flags = (s->flags & ~OPS_COMPLEX) | (form < OPS_REAL_FORMS ? 0 : OPS_COMPLEX);
}

/* ------------------------------------------------------------------ convolution: table and oracle */

#define OPS_ROW(axes, flat, view, grad) {axes, flat, offsetof(ssm_conv, view), offsetof(ssm_conv_grad, grad), 0, 0}
static const ops_row ops_conv_rows[] = {
    OPS_ROW("btc.", "t", x, dx),
    OPS_ROW("..cw", "w", weight, dweight),
    OPS_ROW("..c.", "c", bias, dbias),
    OPS_ROW("q.cp", "qp", state, dstate),
    OPS_ROW("q.cp", "", state_last, dstate_last),
    OPS_ROW("btc.", "", y, dy),
};
#undef OPS_ROW

/* Input `back` steps before step t of a sequence that begins at `first`, from the state if it must. */
static double ops_conv_tap(const ops_problem *p, size_t seq, size_t first, size_t t, size_t c, size_t back)
{
    const size_t since = t - first; /* steps of this sequence before t */
    if (back <= since) return ops_at(&p->t[OPS_X], p->start ? 0 : seq, t - back, c, 0);
    return p->t[OPS_STATE].real ? ops_at(&p->t[OPS_STATE], seq, 0, c, p->spec.width - 1 + since - back) : 0;
}

/* Dao's causal_conv1d: y[t] = bias + sum_j weight[W-1-j] x[t-j], initial states before the sequence. */
static void ops_conv_oracle_channel(ops_problem *p, size_t seq, size_t c)
{
    const size_t b = p->start ? 0 : seq, W = p->spec.width;
    const size_t from = p->start ? p->start[seq] : 0, to = p->start ? p->start[seq + 1] : p->spec.len;
    size_t t, j;
    for (t = from; t < to; ++t) {
        double y = p->t[OPS_CONV_BIAS].real ? ops_at(&p->t[OPS_CONV_BIAS], 0, 0, c, 0) : 0;
        for (j = 0; j < W; ++j)
            y += ops_at(&p->t[OPS_WEIGHT], 0, 0, c, W - 1 - j) * ops_conv_tap(p, seq, from, t, c, j);
        ops_put(&p->t[OPS_CONV_Y], b, t, c, 0, p->spec.flags & OPS_SILU ? test_silu(y) : y);
    }
    for (j = 1; p->t[OPS_STATE_LAST].real && j < W; ++j)
        ops_put(&p->t[OPS_STATE_LAST], seq, 0, c, W - 1 - j, ops_conv_tap(p, seq, from, to, c, j));
}

static void ops_conv_oracle(ops_problem *p)
{
    size_t seq, c;
    for (seq = 0; seq < p->spec.batch; ++seq)
        for (c = 0; c < p->spec.dim; ++c) ops_conv_oracle_channel(p, seq, c);
}

static void ops_conv_options(ops_problem *p)
{
    ssm_conv *s = &p->op.conv;
    s->batch = p->spec.batch;
    s->len = p->spec.len;
    s->dim = p->spec.dim;
    s->width = p->spec.width;
    s->silu = (p->spec.flags & OPS_SILU) != 0;
}

static ssm_status ops_conv_forward(const ops_op *op, ssm_memory work)
{
    (void)work;
    return ssm_conv_forward(&op->conv);
}

static ssm_status ops_conv_step(const ops_op *op)
{
    return ssm_conv_step(&op->conv);
}

static ssm_status ops_conv_sizes(const ops_op *op, ssm_sizes *need)
{
    (void)op;
    memset(need, 0, sizeof *need);
    return SSM_OK;
}

static const ops_kind ops_conv_kind = {
    ops_conv_rows, OPS_STATE + 1, OPS_HAS(OPS_X) | OPS_HAS(OPS_WEIGHT) | OPS_HAS(OPS_CONV_Y),
    offsetof(ssm_conv, start), ops_conv_options, ops_conv_oracle,
    ops_conv_forward, ops_conv_step, ops_conv_sizes
};

/* ------------------------------------------------------------------ against the oracles */

/* CHECK_CLOSE relative to the largest value, or to 1 if that is more: values here are sums of terms of
 * order 1, and may cancel. */
#define OPS_CHECK_CLOSE(got, want, count, tolerance) CHECK_CLOSE(got, want, count, (tolerance) * ops_scale(want, count))

static double ops_scale(const double *want, size_t count)
{
    double largest = 1e-3;
    size_t i;
    for (i = 0; i < count; ++i)
        if (fabs(want[i]) > largest) largest = fabs(want[i]);
    return largest < 1 ? 1 / largest : 1;
}

/* Each y is a sum of at most 64 + 1 products, each state a decaying sum with an error of a few ulp per
 * step. Largest error measured over twenty seeds: 2e-6 (float), 2e-15 (double). */
#define OPS_TOLERANCE TOL(6e-6, 1e-14)

static void ops_against_oracle(const ops_kind *kind, const ops_spec *spec, double tolerance, ssm_rng *rng)
{
    const size_t before = test_failures;
    ops_problem p;
    ops_open(&p, kind, spec, rng);
    ops_run(kind, &p.op, 0);
    kind->oracle(&p);
    OPS_CHECK_CLOSE(ops_y(&p)->real, ops_y(&p)->exact, ops_y(&p)->count, tolerance);
    if (ops_state_out(&p)->real)
        OPS_CHECK_CLOSE(ops_state_out(&p)->real, ops_state_out(&p)->exact, ops_state_out(&p)->count, tolerance);
    ops_note(spec, before);
    ops_close(&p);
}

/* Every combination of options, on a small shape; groups and layout vary along. */
static void ops_scan_options_oracle(void)
{
    static const unsigned options[] = {OPS_SOFTPLUS, OPS_HAS(OPS_BIAS), OPS_HAS(OPS_D), OPS_HAS(OPS_Z),
                                       OPS_HAS(OPS_DELTA_A), OPS_HAS(OPS_LAMBDA), OPS_HAS(OPS_H0), OPS_HAS(OPS_H_LAST),
                                       OPS_FLAT(OPS_B), OPS_FLAT(OPS_C), OPS_PACKED};
    static const size_t groups[][2] = {{0, 0}, {1, 4}, {4, 2}, {2, 2}, {2, 1}, {4, 4}, {1, 1}};
    ssm_rng rng = test_rng(1);
    size_t d, i, turn = 0;
    unsigned mask;
    for (d = 0; d < OPS_FORMS; ++d) {
        for (mask = 0; mask < 1u << TEST_COUNT(options); ++mask, ++turn) {
            ops_spec spec = {OPS_EXTENTS(2, 5, 4, 2)};
            ops_set_form(&spec, d);
            spec.B_groups = groups[turn % TEST_COUNT(groups)][0];
            spec.C_groups = groups[turn % TEST_COUNT(groups)][1];
            for (i = 0; i < TEST_COUNT(options); ++i)
                if (mask >> i & 1) spec.flags |= options[i];
            if (turn % 3 == 1) spec.flags |= OPS_TIME_LAST;
            ops_against_oracle(&ops_scan_kind, &spec, OPS_TOLERANCE, &rng);
        }
    }
}

static void ops_scan_shapes_oracle(void)
{
    static const size_t lens[] = {0, 1, 2, 63, 64, 65, 127, 131}, dims[] = {1, 3, 15, 16, 17, 33};
    static const size_t states[] = {1, 3, 15, 16, 17, 64};
    ssm_rng rng = test_rng(2);
    size_t i, j, k, turn = 0;
    for (i = 0; i < TEST_COUNT(lens); ++i) {
        for (j = 0; j < TEST_COUNT(dims); ++j) {
            for (k = 0; k < TEST_COUNT(states); ++k, ++turn) {
                ops_spec spec = {.batch = 1, .flags = OPS_STATES | OPS_HAS(OPS_D) | OPS_HAS(OPS_Z) | OPS_SOFTPLUS};
                spec.len = lens[i];
                spec.dim = dims[j];
                spec.d_state = states[k];
                ops_set_form(&spec, (turn + (size_t)test_seed) % OPS_FORMS);
                spec.B_groups = turn % 2 ? spec.dim : 1;
                if (turn % 7 == 3) spec.flags &= ~OPS_STATES;
                ops_against_oracle(&ops_scan_kind, &spec, OPS_TOLERANCE, &rng);
            }
        }
    }
}

/* Chunks side by side and in a tree: lengths around whole chunks and whole trees, and a decay so slow
 * that a carry is felt many chunks later; some states grow. Tolerance: hundreds of steps round a by a
 * few ulp each and nothing is forgotten; measured over ten seeds 5e-6 (float), 1.8e-14 (double). */
static void ops_scan_time_parallel_oracle(void)
{
    static const size_t lens[] = {0, 64, 65, 128, 129, 193, 257, 320, 321, 448, 513, 577, 1025, 1100};
    static const unsigned flags[] = {
        OPS_STATES,
        OPS_HAS(OPS_LAMBDA) | OPS_HAS(OPS_DELTA_A) | OPS_HAS(OPS_H0),
        OPS_HAS(OPS_H_LAST),
        OPS_EVERYTHING | OPS_PACKED | OPS_SOFTPLUS,
        OPS_STATES | OPS_TIME_LAST | OPS_FLAT(OPS_A),
    };
    static const ssm_scan scans[] = {SSM_SCAN_SEQUENTIAL, SSM_SCAN_CHUNKED, SSM_SCAN_BLELLOCH};
    ssm_rng rng = test_rng(13);
    size_t i, d, k, f = 0;
    for (i = 0; i < TEST_COUNT(lens); ++i) {
        for (d = 0; d < OPS_FORMS; ++d) {
            for (k = 0; k < TEST_COUNT(scans); ++k, ++f) {
                ops_spec spec = {.batch = 2, .dim = 18, .d_state = 2, .A_from = -0.01, .A_to = 0.001};
                spec.len = lens[i];
                ops_set_form(&spec, d);
                spec.scan = scans[k];
                spec.flags = flags[f % TEST_COUNT(flags)];
                ops_against_oracle(&ops_scan_kind, &spec, TOL(2e-5, 4e-14), &rng);
            }
        }
    }
}

/* disc 0 is EULER. */
static void ops_scan_default_disc(void)
{
    ops_spec spec = {OPS_EXTENTS(1, 9, 3, 2), .disc = SSM_DISC_EULER, .flags = OPS_STATES};
    ssm_rng rng = test_rng(3);
    ops_problem p;
    ops_again out;
    ops_op op;
    ops_open(&p, &ops_scan_kind, &spec, &rng);
    ops_run(p.kind, &p.op, 0);
    op = ops_redirect(&p, &out);
    op.scan.disc = SSM_DISC_DEFAULT;
    ops_run(p.kind, &op, 0);
    ops_expect_same(&p, &out);
    ops_close(&p);
}

static void ops_conv_options_oracle(void)
{
    static const unsigned options[] = {OPS_HAS(OPS_CONV_BIAS), OPS_HAS(OPS_STATE), OPS_HAS(OPS_STATE_LAST), OPS_SILU,
                                       OPS_PACKED, OPS_TIME_LAST};
    static const size_t lens[] = {0, 1, 2, 3, 5, 64, 67};
    ssm_rng rng = test_rng(4);
    size_t width, i, j;
    unsigned mask;
    for (width = 1; width <= 7; ++width) {
        for (j = 0; j < TEST_COUNT(lens); ++j) {
            for (mask = 0; mask < 1u << TEST_COUNT(options); ++mask) {
                ops_spec spec = {.batch = 3};
                spec.dim = mask % 5 == 2 ? 33 : 3;
                spec.width = width;
                spec.len = lens[j];
                for (i = 0; i < TEST_COUNT(options); ++i)
                    if (mask >> i & 1) spec.flags |= options[i];
                ops_against_oracle(&ops_conv_kind, &spec, OPS_TOLERANCE, &rng);
            }
        }
    }
}

/* Look-ahead as ssm_conv's documentation describes it: rows of zeros behind x, y that many rows later; the same in steps. */
static void ops_conv_ahead(void)
{
    enum { BATCH = 2, LEN = 37, DIM = 19, WIDTH = 5, AHEAD = 2, ROWS = LEN + AHEAD, ALL = BATCH * ROWS * DIM };
    ssm_rng rng = test_rng(77);
    ssm_real *x = test_normal(&rng, ALL, 1), *dy = test_normal(&rng, ALL, 1), *w = test_normal(&rng, DIM * WIDTH, 1);
    ssm_real *y = test_zeros(ALL), *dx = test_zeros(ALL), *now = test_zeros(ALL);
    ssm_real *state = test_zeros(BATCH * DIM * (WIDTH - 1));
    double want[LEN * DIM], want_dx[LEN * DIM];
    size_t b, t, c, n;
    ssm_conv s = {0};
    ssm_conv_grad grad = {0};
    for (b = 0; b < BATCH; ++b)
        for (t = 0; t < AHEAD * DIM; ++t) x[(b * ROWS + LEN) * DIM + t] = dy[b * ROWS * DIM + t] = 0;
    s.batch = BATCH;
    s.len = ROWS;
    s.dim = DIM;
    s.width = WIDTH;
    s.x = ssm_in_btc(x, ROWS, DIM);
    s.weight = ssm_in_cn(w, WIDTH);
    s.y = ssm_out_like(y, s.x);
    CHECK_OK(ssm_conv_forward(&s));
    grad.dy = ssm_in_btc(dy, ROWS, DIM);
    grad.dx = ssm_out_like(dx, s.x);
    CHECK_OK(ssm_conv_backward(&s, &grad));
    for (b = 0; b < BATCH; ++b) {
        const ssm_real *in = x + b * ROWS * DIM, *above = dy + (b * ROWS + AHEAD) * DIM;
        memset(want, 0, sizeof want);
        memset(want_dx, 0, sizeof want_dx);
        for (t = 0; t < LEN; ++t)
            for (n = 0; n < WIDTH; ++n) {
                const size_t from = t + AHEAD + n; /* and WIDTH - 1 before that */
                if (from < WIDTH - 1 || from - (WIDTH - 1) >= LEN) continue;
                for (c = 0; c < DIM; ++c) {
                    const size_t at = (from - (WIDTH - 1)) * DIM + c;
                    want[t * DIM + c] += (double)w[c * WIDTH + n] * (double)in[at];
                    want_dx[at] += (double)w[c * WIDTH + n] * (double)above[t * DIM + c];
                }
            }
        CHECK_CLOSE(y + (b * ROWS + AHEAD) * DIM, want, LEN * DIM, OPS_TOLERANCE);
        CHECK_CLOSE(dx + b * ROWS * DIM, want_dx, LEN * DIM, OPS_TOLERANCE);
    }
    s.len = 1;
    s.state = ssm_in_bcn(state, DIM, WIDTH - 1);
    s.state_last = ssm_out_like(state, s.state);
    for (t = 0; t < ROWS; ++t) {
        s.x.data = x + t * DIM;
        s.y.data = now + t * DIM;
        CHECK_OK(ssm_conv_step(&s));
    }
    CHECK_SAME(now, y, ALL);
    test_free(x, 0), test_free(dy, 0), test_free(w, 0), test_free(y, 0);
    test_free(dx, 0), test_free(state, 0), test_free(now, 0);
}

/* ------------------------------------------------------------------ laws of scan and convolution */

/* Problems that the laws run on; each is tried with every discretisation. */
static const ops_spec ops_scan_laws[] = {
    {OPS_EXTENTS(1, 67, 17, 2), .flags = OPS_STATES},
    {OPS_EXTENTS(3, 11, 6, 3), OPS_GROUPS(3, 2),
     .flags = OPS_EVERYTHING | OPS_SOFTPLUS},
    {OPS_EXTENTS(2, 9, 4, 1),
     .flags = OPS_STATES | OPS_HAS(OPS_Z) | OPS_FLAT(OPS_B) | OPS_FLAT(OPS_DELTA)},
    {OPS_EXTENTS(2, 7, 3, 5), .flags = OPS_STATES | OPS_HAS(OPS_D) | OPS_TIME_LAST},
    {OPS_EXTENTS(2, 150, 18, 1), .scan = SSM_SCAN_CHUNKED, .flags = OPS_EVERYTHING, .A_from = -0.01},
    {OPS_EXTENTS(2, 330, 2, 2), .scan = SSM_SCAN_BLELLOCH, .flags = OPS_STATES | OPS_HAS(OPS_Z), .A_from = -0.01},
};

static const ops_spec ops_conv_laws[] = {
    {.batch = 1, .len = 67, .dim = 2, .width = 4, .flags = OPS_HAS(OPS_CONV_BIAS) | OPS_CONV_STATES | OPS_SILU},
    {.batch = 3, .len = 9, .dim = 5, .width = 7, .flags = OPS_CONV_STATES},
    {.batch = 2, .len = 3, .dim = 3, .width = 1, .flags = OPS_CONV_STATES | OPS_TIME_LAST},
    {.batch = 2, .len = 4, .dim = 3, .width = 6, .flags = OPS_CONV_STATES | OPS_FLAT(OPS_WEIGHT)},
};

/* Runs a law on each of them, after the problem itself has been run. */
static void ops_each_law(void (*law)(ops_problem *p), unsigned more_flags, size_t more_sequences)
{
    ssm_rng rng = test_rng(5);
    size_t i, d;
    for (i = 0; i < TEST_COUNT(ops_scan_laws) + TEST_COUNT(ops_conv_laws); ++i) {
        const int conv = i >= TEST_COUNT(ops_scan_laws);
        for (d = 0; d < (conv ? 1 : OPS_FORMS); ++d) {
            ops_spec spec = conv ? ops_conv_laws[i - TEST_COUNT(ops_scan_laws)] : ops_scan_laws[i];
            ops_problem p;
            spec.flags |= more_flags;
            spec.batch += more_sequences;
            if (!conv) ops_set_form(&spec, d);
            ops_open(&p, conv ? &ops_conv_kind : &ops_scan_kind, &spec, &rng);
            ops_run(p.kind, &p.op, 0);
            law(&p);
            ops_close(&p);
        }
    }
}

static void ops_law_split(ops_problem *p)
{
    size_t k;
    if (p->spec.scan != SSM_SCAN_AUTO) return; /* chunks of time: within rounding only */
    for (k = 0; k <= p->spec.len; ++k) {
        ops_again out;
        ops_op head = ops_redirect(p, &out), tail = head;
        head.scan.len = k;
        ops_chain(p->kind, &tail); /* the state in place, too */
        ops_advance(p->kind, &tail, 't', k);
        tail.scan.len = p->spec.len - k;
        ops_run(p->kind, &head, 0);
        ops_run(p->kind, &tail, 0);
        ops_expect_same(p, &out);
    }
}

static void ops_split(void)
{
    ops_each_law(ops_law_split, 0, 0);
}

/* The state goes into state_out by an empty forward, then there is one step after another. */
static void ops_law_step(ops_problem *p)
{
    ops_again out;
    ops_op step, load;
    size_t t;
    if (p->spec.scan != SSM_SCAN_AUTO) return;
    load = step = ops_redirect(p, &out);
    load.scan.len = 0;
    ops_run(p->kind, &load, 0);
    step.scan.len = 1;
    ops_set_data(p->kind, &step, p->kind->inputs - 1, NULL); /* not read */
    for (t = 0; t < p->spec.len; ++t) {
        CHECK_OK(p->kind->step(&step));
        ops_advance(p->kind, &step, 't', 1);
    }
    ops_expect_same(p, &out);
}

static void ops_step(void)
{
    ops_each_law(ops_law_step, 0, 0);
}

static void ops_law_packed(ops_problem *p)
{
    ops_again out;
    const ops_op all = ops_redirect(p, &out);
    size_t seq;
    for (seq = 0; seq < p->spec.batch; ++seq) {
        ops_op alone = all;
        ops_set_start(p->kind, &alone, NULL);
        alone.scan.batch = 1;
        alone.scan.len = p->start[seq + 1] - p->start[seq];
        ops_advance(p->kind, &alone, 't', p->start[seq]);
        ops_advance(p->kind, &alone, 'q', seq);
        ops_run(p->kind, &alone, 0);
    }
    ops_expect_same(p, &out);
}

static void ops_packed(void)
{
    ops_each_law(ops_law_packed, OPS_PACKED, 2);
}

/* A sequence does not know its neighbours: each alone, last one first. */
static void ops_law_batch(ops_problem *p)
{
    ops_again out;
    const ops_op all = ops_redirect(p, &out);
    size_t seq;
    for (seq = p->spec.batch; seq-- > 0;) {
        ops_op alone = all;
        alone.scan.batch = 1;
        ops_advance(p->kind, &alone, 'b', seq);
        ops_advance(p->kind, &alone, 'q', seq);
        ops_run(p->kind, &alone, 0);
    }
    ops_expect_same(p, &out);
}

static void ops_batch(void)
{
    ops_each_law(ops_law_batch, 0, 0);
}

/* The same with the batch permuted in one call: every batch stride negated. */
static void ops_law_permuted(ops_problem *p)
{
    ops_again out;
    ops_op op = ops_redirect(p, &out);
    size_t i;
    ops_advance(p->kind, &op, 'b', p->spec.batch - 1);
    ops_advance(p->kind, &op, 'q', p->spec.batch - 1);
    for (i = 0; i < p->kind->inputs + 2; ++i) {
        ssm_out v = ops_get_view(&op, p->kind->rows[i].view);
        v.batch = -v.batch;
        ops_set_view(&op, p->kind->rows[i].view, v);
    }
    ops_run(p->kind, &op, 0);
    ops_expect_same(p, &out);
}

static void ops_permuted(void)
{
    ops_each_law(ops_law_permuted, 0, 0);
}

/* Elements of `parts` reals. */
static void ops_reverse(ssm_real *p, size_t count, size_t parts)
{
    size_t i;
    for (i = 0; i < count / 2 / parts * parts; ++i) {
        const size_t other = count - parts - i / parts * parts + i % parts;
        const ssm_real swap = p[i];
        p[i] = p[other];
        p[other] = swap;
    }
}

/* Every tensor lies backwards in memory and every stride is negative. */
static void ops_law_backwards(ops_problem *p)
{
    ops_again out;
    ops_op op = ops_redirect(p, &out);
    size_t i;
    for (i = 0; i < p->kind->inputs + 2; ++i) {
        ssm_out v = ops_get_view(&op, p->kind->rows[i].view);
        if (!v.data || p->t[i].count == 0) continue;
        if (i < p->kind->inputs) ops_reverse(v.data, p->t[i].count, p->t[i].parts);
        v.data += p->t[i].count - p->t[i].parts;
        v.batch = -v.batch;
        v.time = -v.time;
        v.chan = -v.chan;
        v.state = -v.state;
        ops_set_view(&op, p->kind->rows[i].view, v);
    }
    ops_run(p->kind, &op, 0);
    ops_reverse(out.y, ops_y(p)->count, 1);
    if (out.last) ops_reverse(out.last, ops_state_out(p)->count, ops_state_out(p)->parts);
    ops_expect_same(p, &out);
}

static void ops_backwards(void)
{
    ops_each_law(ops_law_backwards, 0, 0);
}

static void ops_copy_elements(const ops_tensor *from, const ops_tensor *to)
{
    size_t b, t, c, n;
    for (b = 0; b < from->extent[0]; ++b)
        for (t = 0; t < from->extent[1]; ++t)
            for (c = 0; c < from->extent[2]; ++c)
                for (n = 0; n < from->extent[3]; ++n)
                    memcpy(to->real + ops_offset(to, b, t, c, n), from->real + ops_offset(from, b, t, c, n),
                           from->parts * sizeof *to->real);
}

/* The same elements with other flags (layout, broadcasting): the same bits come out. */
static void ops_same_as(ops_problem *p, unsigned flags)
{
    ops_spec spec = p->spec;
    ssm_rng rng = test_rng(6);
    ops_problem q;
    ops_again out;
    size_t i;
    spec.flags = flags;
    ops_open(&q, p->kind, &spec, &rng);
    for (i = 0; i < p->kind->inputs; ++i)
        if (p->t[i].real) ops_copy_elements(&p->t[i], &q.t[i]);
    ops_run(q.kind, &q.op, 0);
    (void)ops_redirect(p, &out);
    for (i = 0; i < 2; ++i) { /* q's outputs, in p's layout */
        ops_tensor to = p->t[p->kind->inputs + i];
        to.real = i ? out.y : out.last;
        if (to.real) ops_copy_elements(&q.t[p->kind->inputs + i], &to);
    }
    ops_expect_same(p, &out);
    ops_close(&q);
}

static void ops_law_layout(ops_problem *p)
{
    ops_same_as(p, p->spec.flags ^ OPS_TIME_LAST);
}

static void ops_layouts(void)
{
    ops_each_law(ops_law_layout, 0, 0);
}

static void ops_law_broadcast(ops_problem *p)
{
    ops_same_as(p, p->spec.flags & ~OPS_ALL_FLAT);
}

static void ops_broadcast(void)
{
    size_t i;
    for (i = 0; i <= OPS_H0; ++i) ops_each_law(ops_law_broadcast, OPS_FLAT(i), 0);
    ops_each_law(ops_law_broadcast, OPS_ALL_FLAT, 0);
}

/* y over `input`, which has the same shape. */
static void ops_y_over(ops_problem *p, size_t input)
{
    ops_again out;
    ops_op op = ops_redirect(p, &out);
    if (p->t[input].real && p->t[input].count == ops_y(p)->count) {
        memcpy(out.y, p->t[input].real, p->t[input].count * sizeof *out.y);
        ops_set_data(p->kind, &op, input, out.y);
    }
    ops_run(p->kind, &op, 0);
    ops_expect_same(p, &out);
}

static void ops_state_over(ops_problem *p)
{
    ops_again out;
    ops_op op = ops_redirect(p, &out);
    const ops_tensor *first = &p->t[p->kind->inputs - 1];
    if (first->real) memcpy(out.last, first->real, first->count * sizeof *out.last);
    if (first->real) ops_set_data(p->kind, &op, p->kind->inputs - 1, out.last);
    ops_run(p->kind, &op, 0);
    ops_expect_same(p, &out);
}

static void ops_law_in_place(ops_problem *p)
{
    ops_state_over(p);
    if (p->kind == &ops_scan_kind) ops_y_over(p, OPS_U);
    if (p->kind == &ops_scan_kind) ops_y_over(p, OPS_Z);
    if (p->kind == &ops_conv_kind && p->spec.width == 1) ops_y_over(p, OPS_X);
}

static void ops_in_place(void)
{
    ops_each_law(ops_law_in_place, 0, 0);
}

/* ------------------------------------------------------------------ the host's parallel loop */

/* Large enough to be shared out; the order of the tasks cannot change a bit. */
static void ops_parallel(void)
{
    static const ops_spec specs[] = {
        {OPS_EXTENTS(2, 300, 33, 3), .flags = OPS_STATES},
        {OPS_EXTENTS(2, 300, 33, 3), .flags = OPS_EVERYTHING | OPS_PACKED},
        {OPS_EXTENTS(1, 1100, 20, 4), .scan = SSM_SCAN_CHUNKED, .flags = OPS_STATES, .A_from = -0.01},
        {OPS_EXTENTS(1, 1100, 20, 4), .scan = SSM_SCAN_BLELLOCH, .flags = OPS_EVERYTHING, .A_from = -0.01},
        {.batch = 2, .len = 1000, .dim = 33, .width = 5, .flags = OPS_CONV_STATES},
    };
    ssm_rng rng = test_rng(14);
    size_t i, d;
    for (i = 0; i < TEST_COUNT(specs); ++i) {
        for (d = 0; d < (specs[i].width ? 1 : OPS_FORMS); ++d) {
            ops_spec spec = specs[i];
            test_pool threads = {3, 0};
            const ssm_parallel pool = {test_pool_run, &threads};
            ops_problem p;
            ops_again out;
            ops_op op;
            ops_set_form(&spec, d);
            ops_open(&p, spec.width ? &ops_conv_kind : &ops_scan_kind, &spec, &rng);
            ops_run(p.kind, &p.op, 0);
            op = ops_redirect(&p, &out);
            if (spec.width) op.conv.parallel = &pool;
            else op.scan.parallel = &pool;
            ops_run(p.kind, &op, 0);
            ops_expect_same(&p, &out);
            CHECK(threads.tasks > 1);
            ops_close(&p);
        }
    }
}

/* ------------------------------------------------------------------ memory */

static void ops_free_again(ops_again *out)
{
    test_free(out->y, 0);
    if (out->last) test_free(out->last, 0);
}

/* Whether outputs still hold what ops_redirect put there. */
static void ops_expect_untouched(const ops_problem *p, const ops_again *out)
{
    size_t i, touched = 0;
    for (i = 0; i < ops_y(p)->count; ++i) touched += !(out->y[i] == OPS_MARK);
    for (i = 0; out->last && i < ops_state_out(p)->count; ++i) touched += !(out->last[i] == OPS_MARK);
    CHECK(touched == 0);
}

/* Bytes that the scan should ask for: its states, unless there is h_last, and what chunks of whole strips take. */
static size_t ops_expected_work(const ops_problem *p, int has_last)
{
    const ops_spec *s = &p->spec;
    const size_t width = ssm__strip_total(&p->op.scan) * SSM__STRIP;
    const size_t parts = s->flags & OPS_COMPLEX ? 2 : 1, states = parts * ops_extent(s, 'h');
    const size_t chunks = s->scan == SSM_SCAN_AUTO ? 0 : (s->len + 63) / 64;
    const size_t decay = s->disc == SSM_DISC_BILINEAR ? parts * s->d_state : s->disc == SSM_DISC_TRAPEZOID ? 2 : 1;
    return ((has_last ? 0 : s->batch * states * s->dim) + chunks * width * (states + decay)) * sizeof(ssm_real);
}

/* Without h_last the scan needs memory: exactly the bytes asked for, at any alignment, give the
 * same y; one byte less or no block is refused. */
static void ops_law_memory(ops_problem *p)
{
    static const size_t misaligned[] = {0, 1, 3, 8, 63};
    const size_t with_last = ops_expected_work(p, 1), without = ops_expected_work(p, 0);
    const size_t slack = (size_t)(with_last ? 4 : 2) * SSM_ALIGN - 1; /* of one block, or of three */
    ops_again out;
    ops_op op;
    ssm_sizes need = {0};
    size_t i;
    if (p->kind != &ops_scan_kind) return;
    op = ops_redirect(p, &out);
    CHECK_OK(p->kind->sizes(&op, &need));
    CHECK(need.work >= with_last && need.work <= with_last + (with_last ? slack : 0));
    op.scan.h_last.data = NULL;
    CHECK_OK(p->kind->sizes(&op, &need));
    CHECK(need.work >= without && need.work <= without + slack);
    CHECK(need.work_backward > 0);
    CHECK(need.params == 0 && need.bound == 0 && need.state == 0 && need.tape == 0);
    for (i = 0; i < TEST_COUNT(misaligned); ++i) {
        void *less = test_alloc(need.work - 1, misaligned[i]);
        ops_set(out.y, ops_y(p)->count, OPS_MARK);
        CHECK_STATUS(p->kind->forward(&op, ssm_memory_of(less, need.work - 1)), SSM_ERR_MEMORY);
        CHECK_STATUS(p->kind->forward(&op, ssm_memory_of(NULL, need.work)), SSM_ERR_NULL);
        ops_expect_untouched(p, &out);
        ops_run(p->kind, &op, misaligned[i]);
        CHECK_SAME(out.y, ops_y(p)->real, ops_y(p)->count);
        test_free(less, misaligned[i]);
    }
    ops_free_again(&out);
}

static void ops_memory(void)
{
    ops_each_law(ops_law_memory, 0, 0);
}

/* ------------------------------------------------------------------ arithmetic of the scan */

/* delta = 0 is the identity on the state. */
static void ops_padding(void)
{
    ssm_rng rng = test_rng(7);
    size_t i;
    for (i = 0; i < OPS_FORMS; ++i) {
        ops_spec spec = {OPS_EXTENTS(2, 5, 3, 4), .flags = OPS_STATES | OPS_HAS(OPS_D)};
        ops_problem p;
        if (ops_forms[i] == SSM_DISC_DIRAC || ops_forms[i] == SSM_DISC_TRAPEZOID) continue;
        ops_set_form(&spec, i);
        ops_open(&p, &ops_scan_kind, &spec, &rng);
        ops_set(p.t[OPS_DELTA].real, p.t[OPS_DELTA].count, 0);
        ops_run(p.kind, &p.op, 0);
        CHECK_SAME(p.t[OPS_H_LAST].real, p.t[OPS_H0].real, p.t[OPS_H0].count);
        ops_close(&p);
    }
}

/* y(u) and y(v) of the same problem, into new memory. */
static ssm_real *ops_response(ops_problem *p, const ssm_real *u)
{
    memcpy(p->t[OPS_U].real, u, p->t[OPS_U].count * sizeof *u);
    ops_run(p->kind, &p->op, 0);
    return test_copy(ops_y(p)->real, ops_y(p)->count);
}

/* y(2 u) = 2 y(u) in every bit, y(u + v) = y(u) + y(v) but for rounding (tolerance as for oracles). */
static void ops_linear_in_u(void)
{
    ssm_rng rng = test_rng(8);
    size_t d, i;
    for (d = 0; d < OPS_FORMS; ++d) {
        ops_spec spec = {OPS_EXTENTS(1, 70, 3, 5), .flags = OPS_HAS(OPS_D) | OPS_HAS(OPS_Z)};
        ops_problem p;
        ssm_real *u, *v, *sum, *yu, *yv, *ysum;
        double *want;
        ops_set_form(&spec, d);
        ops_open(&p, &ops_scan_kind, &spec, &rng);
        u = test_copy(p.t[OPS_U].real, p.t[OPS_U].count);
        v = test_normal(&rng, p.t[OPS_U].count, 1);
        sum = test_copy(v, p.t[OPS_U].count);
        for (i = 0; i < p.t[OPS_U].count; ++i) sum[i] += u[i];
        yu = ops_response(&p, u);
        yv = ops_response(&p, v);
        ysum = ops_response(&p, sum);
        want = test_doubles(yu, p.t[OPS_Y].count);
        for (i = 0; i < p.t[OPS_Y].count; ++i) want[i] += (double)yv[i];
        OPS_CHECK_CLOSE(ysum, want, p.t[OPS_Y].count, OPS_TOLERANCE);
        for (i = 0; i < p.t[OPS_U].count; ++i) u[i] *= 2, yu[i] *= 2;
        test_free(ysum, 0);
        ysum = ops_response(&p, u);
        CHECK_SAME(ysum, yu, p.t[OPS_Y].count);
        test_free(u, 0), test_free(v, 0), test_free(sum, 0);
        test_free(yu, 0), test_free(yv, 0), test_free(ysum, 0), test_free(want, 0);
        ops_close(&p);
    }
}

/* Elements of `got`, laid out as x, that are wrong: the poisoned ones must not be finite, all others
 * the same bits as in x. Poisoned: sequence b0, channel c0, steps t0 .. t1 - 1. */
static size_t ops_wrong_poison(const ops_tensor *x, const ssm_real *got, size_t b0, size_t c0, size_t t0, size_t t1)
{
    size_t b, t, c, n, wrong = 0;
    for (b = 0; b < x->extent[0]; ++b) {
        for (t = 0; t < x->extent[1]; ++t) {
            for (c = 0; c < x->extent[2]; ++c) {
                for (n = 0; n < x->extent[3]; ++n) {
                    const size_t at = ops_offset(x, b, t, c, n), last = at + x->parts - 1;
                    if (b == b0 && c == c0 && t >= t0 && t < t1)
                        wrong += got[at] - got[at] == 0 || got[last] - got[last] == 0;
                    else wrong += memcmp(&got[at], &x->real[at], x->parts * sizeof *got) != 0;
                }
            }
        }
    }
    return wrong;
}

/* Poison in one element of an input reaches outputs of its own channel and sequence and nothing else:
 * those of `memory` steps, and the state if `to_state`. (The trapezoid's B u forgets.) */
static void ops_poison(ops_problem *p, size_t input, ssm_real poison, size_t memory, int to_state)
{
    const size_t b0 = p->spec.batch - 1, t0 = p->spec.len / 3, c0 = 1;
    const size_t element = ops_offset(&p->t[input], b0, t0, c0, 0);
    ssm_real *x = p->t[input].real, clean;
    ops_again out;
    ops_op op;
    if (!x || p->spec.flags & OPS_FLAT(input)) return;
    op = ops_redirect(p, &out);
    clean = x[element];
    x[element] = poison;
    ops_run(p->kind, &op, 0);
    x[element] = clean;
    CHECK(ops_wrong_poison(ops_y(p), out.y, b0, c0, t0, t0 + memory) == 0);
    if (p->spec.disc != SSM_DISC_TRAPEZOID)
        CHECK(ops_wrong_poison(ops_state_out(p), out.last, b0, c0, 0, to_state ? 1 : 0) == 0);
    ops_free_again(&out);
}

static void ops_law_poison(ops_problem *p, ssm_real poison)
{
    const size_t len = p->spec.len;
    if (p->kind == &ops_scan_kind) {
        ops_poison(p, OPS_U, poison, len, 1);
        ops_poison(p, OPS_Z, poison < 0 ? -poison : poison, 1, 0); /* silu(-infinity) is 0 */
    } else if (len - len / 3 >= p->spec.width && (poison != poison || !p->op.conv.silu)) { /* it leaves the state */
        ops_poison(p, OPS_X, poison, p->spec.width, 0);
    }
}

static void ops_law_nan(ops_problem *p)
{
    ops_law_poison(p, (ssm_real)NAN);
    if (p->kind == &ops_scan_kind && p->spec.disc != SSM_DISC_DIRAC) /* which may not read delta */
        ops_poison(p, OPS_DELTA, (ssm_real)NAN, p->spec.len, 1);
}

static void ops_law_infinity(ops_problem *p)
{
    ops_law_poison(p, -(ssm_real)INFINITY);
}

/* NaN in A whatever its bits, as of memory filled with 0xff, where a whole block of channels is near enough
 * to zero for the exponential without checks. */
static void ops_nan_in_A(void)
{
    enum { CHANS = 2 * SSM__PANEL };
    ssm_real A[CHANS], u[CHANS], y[CHANS], h[CHANS], one = 1;
    ssm_selective_scan s;
    size_t c;
    memset(&s, 0, sizeof s);
    for (c = 0; c < CHANS; ++c) {
        A[c] = -1;
        u[c] = h[c] = 1;
    }
    memset(A + 1, 0xff, sizeof *A);
    s.batch = s.len = s.d_state = 1;
    s.dim = CHANS;
    s.u = s.delta = ssm_in_btc(u, 1, CHANS);
    s.A = ssm_in_nc(A, CHANS);
    s.B = s.C = ssm_in_btcn(&one, 1, 1, 1);
    s.y = ssm_out_like(y, s.u);
    s.h_last = ssm_out_like(h, ssm_in_nc(h, CHANS));
    CHECK_OK(ssm_selective_scan_step(&s));
    for (c = 0; c < CHANS; ++c) CHECK((y[c] == y[c]) == (c != 1) && (h[c] == h[c]) == (c != 1));
}

/* A step that is no number is not held at a limit: it stays, in its channel. */
static void ops_nan_held(void)
{
    enum { CHANS = 2 * SSM__PANEL, BAD = 5 };
    ssm_real A[CHANS], delta[CHANS], y[CHANS], h[CHANS] = {0}, one = 1;
    ssm_selective_scan s;
    size_t c;
    memset(&s, 0, sizeof s);
    for (c = 0; c < CHANS; ++c) A[c] = -1, delta[c] = c == BAD ? (ssm_real)NAN : 4;
    s.batch = s.len = s.d_state = 1;
    s.dim = CHANS;
    s.delta_min = (ssm_real)0.25;
    s.delta_max = (ssm_real)0.5;
    s.u = s.delta = ssm_in_btc(delta, 1, CHANS);
    s.A = ssm_in_nc(A, CHANS);
    s.B = s.C = ssm_in_btcn(&one, 1, 1, 1);
    s.y = ssm_out_like(y, s.u);
    s.u.data = &one, s.u.chan = 0;
    s.h_last = ssm_out_like(h, ssm_in_nc(h, CHANS));
    CHECK_OK(ssm_selective_scan_step(&s));
    for (c = 0; c < CHANS; ++c) CHECK(c == BAD ? y[c] != y[c] : y[c] == (ssm_real)0.5);
}

static void ops_not_finite(void)
{
    ops_nan_held();
    ops_each_law(ops_law_nan, 0, 0);
    ops_each_law(ops_law_infinity, 0, 0);
    ops_nan_in_A();
}

/* One step of one state with B = C = 1: y = h1. */
static double ops_one_step(ssm_disc disc, double A, double delta, double u, double h0)
{
    ssm_real a[7] = {0, 0, 0, 0, 1, 0, 0}; /* A, delta, u, y, one, state */
    ssm_selective_scan s;
    memset(&s, 0, sizeof s);
    s.batch = s.len = s.dim = s.d_state = 1;
    s.disc = disc;
    a[0] = (ssm_real)A;
    a[1] = (ssm_real)delta;
    a[2] = (ssm_real)u;
    a[5] = (ssm_real)h0;
    s.A.data = a;
    s.delta.data = a + 1;
    s.u.data = a + 2;
    s.y.data = a + 3;
    s.B.data = s.C.data = a + 4;
    s.h_last.data = a + 5;
    s.h_last.state = 1;
    CHECK_OK(ssm_selective_scan_step(&s));
    CHECK(memcmp(&a[3], &a[5], sizeof a[3]) == 0);
    return (double)a[3];
}

/* Where formulas go wrong if written naively. `small` and `huge` are near the ends of the range of
 * the build. Relative tolerance 4 ulp: one exp or series, one product. */
static void ops_extremes(void)
{
    static const double small = TOL(1e-38, 1e-307), denormal = TOL(1e-42, 1e-315), huge = TOL(1e30, 1e300);
    const struct {
        ssm_disc disc;
        double A, delta, u, h0, want;
    } cases[] = {
        {SSM_DISC_ZOH, 0, 0.5, 2, 3, 4},              /* limit: b = delta */
        {SSM_DISC_ZOH, -1e-30, 0.5, 2, 3, 4},
        {SSM_DISC_ZOH, 1e-30, 0.5, 2, 3, 4},
        {SSM_DISC_ZOH, -denormal, 0.5, 2, 3, 4},
        {SSM_DISC_ZOH, small, 0.5, 2, 3, 4},
        {SSM_DISC_ZOH, -1, 0.5, 2, 0, 0.78693868057473315},   /* both sides of the switch at 1/2 */
        {SSM_DISC_ZOH, -1, 0.4375, 2, 0, 0.70870294714421589},
        {SSM_DISC_ZOH, -1024, 1e30, 2, 3, 2.0 / 1024},        /* settles at -u/A at once */
        {SSM_DISC_ZOH, -huge, huge, huge, 3, 1},              /* delta A overflows */
        {SSM_DISC_EULER, -1024, 1e30, 1e-30, 3, 1},
        {SSM_DISC_EULER, -huge, huge, 1 / huge, 3, 1},
        {SSM_DISC_EULER, -1000, 1, 2, 3, 2},                  /* exp underflows to exactly 0 */
        {SSM_DISC_EULER, 0, 0.5, 2, 3, 4},
        {SSM_DISC_BILINEAR, -1024, 1e30, 0, 3, -3},           /* a tends to -1 */
        {SSM_DISC_BILINEAR, -1024, 1e30, 1024, 0, 2},         /* b to -2/A */
        {SSM_DISC_BILINEAR, -huge, huge, 0, 3, -3},
        {SSM_DISC_BILINEAR, 0, 0.5, 2, 3, 4},
        {SSM_DISC_DIRAC, -1000, 1, 2, 3, 2},
        {SSM_DISC_DIRAC, -huge, huge, 2, 3, 2},
        {SSM_DISC_TRAPEZOID, -1024, 1e30, 2e-30, 3, 1},
        {SSM_DISC_DIRAC, -1, 1, denormal, 0, denormal},
        {SSM_DISC_EULER, -1, 1, denormal, 0, denormal},
        {SSM_DISC_ZOH, 0, 1, denormal, 0, denormal},
        {SSM_DISC_EULER, 0, 1, 0, -denormal, -denormal},
        {SSM_DISC_ZOH_TRAPEZOID, -1, 0.5, 2, 0, 0.80326532985631671}, /* (1 + exp(-1/2)) / 2 */
    };
    size_t i;
    for (i = 0; i < TEST_COUNT(cases); ++i) {
        const double want = (double)(ssm_real)cases[i].want, tolerance = 4 * TOL(1.2e-7, 2.3e-16);
        const double got = ops_one_step(cases[i].disc, cases[i].A, cases[i].delta, cases[i].u, cases[i].h0);
        if (fabs(want) < TOL(1.2e-38, 2.3e-308) && got == 0) continue; /* subnormal: counts as 0 on x86 */
        if (!(fabs(got - want) <= tolerance * fabs(want)))
            test_fail(__FILE__, __LINE__, "disc %d A %g delta %g u %g h0 %g: %.17g, expected %.17g", (int)cases[i].disc,
                      cases[i].A, cases[i].delta, cases[i].u, cases[i].h0, got, want);
    }
    CHECK(ops_one_step(SSM_DISC_EULER, -1000, 1, 0, 3) == 0);
}

/* ------------------------------------------------------------------ errors of scan and convolution */

static const size_t ops_decreasing[] = {0, 3, 2}, ops_too_far[] = {0, 3, 6};

/* A change to a good problem (batch 2, len 5, dim 6), and the status it must give. */
typedef struct ops_fault {
    size_t offset; /* of a size_t or int field to overwrite */
    long value;
    ssm_status status;
} ops_fault;

#define OPS_FAULT(field, value, status) {offsetof(ssm_selective_scan, field), value, SSM_ERR_##status}
static const ops_fault ops_scan_counts[] = {
    OPS_FAULT(dim, 0, CONFIG), OPS_FAULT(d_state, 0, CONFIG), OPS_FAULT(B_groups, 4, SHAPE),
    OPS_FAULT(C_groups, 4, SHAPE), OPS_FAULT(B_groups, 12, SHAPE), OPS_FAULT(C_groups, 7, SHAPE),
};
static const ops_fault ops_scan_enums[] = {
    OPS_FAULT(disc, -1, CONFIG), OPS_FAULT(disc, 7, CONFIG), OPS_FAULT(scan, -1, CONFIG), OPS_FAULT(scan, 4, CONFIG),
};
#undef OPS_FAULT
static const ops_fault ops_conv_counts[] = {
    {offsetof(ssm_conv, dim), 0, SSM_ERR_CONFIG}, {offsetof(ssm_conv, width), 0, SSM_ERR_CONFIG},
};

static ops_op ops_break_count(ops_op op, const ops_fault *fault)
{
    const size_t value = (size_t)fault->value;
    memcpy((char *)&op + fault->offset, &value, sizeof value);
    return op;
}

static ops_op ops_break_enum(ops_op op, const ops_fault *fault)
{
    const int value = (int)fault->value;
    memcpy((char *)&op + fault->offset, &value, sizeof value);
    return op;
}

/* Every way in gives the status (sizes too, unless only an output is wrong). */
static void ops_expect_error(const ops_kind *kind, const ops_op *op, ssm_status status, int in_sizes)
{
    char work[8192];
    ssm_sizes need = {1, 2, 3, 4, 5, 6, 7};
    CHECK_STATUS(kind->forward(op, ssm_memory_of(work, sizeof work)), status);
    CHECK_STATUS(kind->step(op), status);
    if (!in_sizes) return;
    CHECK_STATUS(kind->sizes(op, &need), status);
    CHECK(need.params == 1 && need.work == 4 && need.work_backward == 7);
}

static void ops_errors_of(const ops_kind *kind, const ops_spec *spec, const ops_fault *counts, size_t count_faults)
{
    ssm_rng rng = test_rng(9);
    ops_problem p;
    ops_again out;
    ops_op good, bad;
    size_t i;
    const int scan = kind == &ops_scan_kind;
    ops_open(&p, kind, spec, &rng);
    good = ops_redirect(&p, &out);
    for (i = 0; i < kind->inputs + 2; ++i) { /* each required tensor missing */
        if (!(kind->required >> i & 1)) continue;
        bad = good;
        ops_set_data(kind, &bad, i, NULL);
        ops_expect_error(kind, &bad, SSM_ERR_NULL, scan && i < kind->inputs);
    }
    for (i = 0; i < count_faults; ++i) {
        bad = ops_break_count(good, &counts[i]);
        ops_expect_error(kind, &bad, counts[i].status, scan);
    }
    for (i = 0; scan && i < TEST_COUNT(ops_scan_enums); ++i) {
        bad = ops_break_enum(good, &ops_scan_enums[i]);
        ops_expect_error(kind, &bad, ops_scan_enums[i].status, 1);
    }
    bad = good;
    ops_set_start(kind, &bad, ops_decreasing);
    ops_expect_error(kind, &bad, SSM_ERR_SHAPE, scan);
    ops_set_start(kind, &bad, ops_too_far);
    ops_expect_error(kind, &bad, SSM_ERR_SHAPE, scan);
    ops_expect_untouched(&p, &out);
    ops_free_again(&out);
    ops_close(&p);
}

/* Steps have conditions of their own. */
static void ops_step_errors(const ops_kind *kind, const ops_spec *spec)
{
    static const size_t start[] = {0, 1, 1};
    ssm_rng rng = test_rng(10);
    ops_problem p;
    ops_again out;
    ops_op op;
    ops_open(&p, kind, spec, &rng);
    op = ops_redirect(&p, &out);
    CHECK_STATUS(kind->step(&op), SSM_ERR_SHAPE); /* len 5 */
    op.scan.len = 0;
    CHECK_STATUS(kind->step(&op), SSM_ERR_SHAPE);
    op.scan.len = 1;
    ops_set_start(kind, &op, start);
    CHECK_STATUS(kind->step(&op), SSM_ERR_SHAPE);
    ops_set_start(kind, &op, NULL);
    ops_set_data(kind, &op, kind->inputs, NULL);
    CHECK_STATUS(kind->step(&op), SSM_ERR_NULL);
    ops_expect_untouched(&p, &out);
    ops_free_again(&out);
    ops_close(&p);
}

/* A strip of 16 channels through 40 steps, Euler, one of whose step sizes is `odd`; y, then the last state, then du. */
enum { OPS_NEAR_LEN = 40, OPS_NEAR_DIM = 16, OPS_NEAR_STATES = 18, OPS_NEAR_ODD = 3 }; /* more states than are kept together */

static void ops_near_run(int pairs, ssm_real odd, ssm_real *y, ssm_real *h, ssm_real *du)
{
    const size_t T = OPS_NEAR_LEN, D = OPS_NEAR_DIM, N = OPS_NEAR_STATES, parts = pairs ? 2 : 1;
    ssm_rng rng = test_rng(41);
    ssm_real *u = test_normal(&rng, T * D, 1), *delta = test_normal(&rng, T * D, 0), *dy = test_normal(&rng, T * D, 1);
    ssm_real *A = test_normal(&rng, parts * D * N, 1), *B = test_normal(&rng, parts * T * N, 1);
    ssm_real *C = test_normal(&rng, parts * T * N, 1);
    ssm_selective_scan s = {0};
    ssm_selective_scan_grad g = {0};
    ssm_sizes need;
    void *work;
    size_t i;
    for (i = 0; i < T * D; ++i) delta[i] = (ssm_real)0.05 * (1 + ssm_rng_uniform(&rng));
    for (i = 0; i < D * N; ++i) A[parts * i] = -ssm_rng_uniform(&rng);
    for (i = 0; pairs && i < D * N; ++i) A[2 * i + 1] *= 20;
    delta[20 * D + OPS_NEAR_ODD] = odd;
    s.batch = 1, s.len = T, s.dim = D, s.d_state = N, s.disc = SSM_DISC_EULER, s.complex_A = pairs;
    s.u = ssm_in_btc(u, T, D), s.delta = ssm_in_btc(delta, T, D), s.A = ssm_in_cn(A, N);
    s.B = ssm_in_btcn(B, T, 1, N), s.C = ssm_in_btcn(C, T, 1, N), s.h0 = ssm_in_cn(NULL, N);
    if (pairs) s.A = ssm_in_pairs(s.A), s.B = ssm_in_pairs(s.B), s.C = ssm_in_pairs(s.C), s.h0 = ssm_in_pairs(s.h0);
    s.y = ssm_out_like(y, s.u), s.h_last = ssm_out_like(h, s.h0);
    g.dy = ssm_in_btc(dy, T, D), g.du = ssm_out_like(du, s.u);
    CHECK_OK(ssm_selective_scan_sizes(&s, &need));
    work = test_alloc(need.work_backward + need.work, 0);
    CHECK_OK(ssm_selective_scan_forward(&s, ssm_memory_of(work, need.work)));
    CHECK_OK(ssm_selective_scan_backward(&s, &g, ssm_memory_of(work, need.work_backward)));
    test_free(u, 0), test_free(delta, 0), test_free(dy, 0), test_free(A, 0), test_free(B, 0), test_free(C, 0);
    test_free(work, 0);
}

/* Where one delta A is far its tile takes another kernel, which gives the other channels the bits that they had. */
static void ops_scan_near(void)
{
    static const double odd[] = {1e4, 1e9, HUGE_VAL, NAN};
    const size_t rows = OPS_NEAR_LEN * OPS_NEAR_DIM, states = 2 * OPS_NEAR_DIM * OPS_NEAR_STATES;
    size_t k, i;
    for (k = 0; k < 2 * TEST_COUNT(odd); ++k) {
        const int pairs = k % 2 == 1;
        const size_t each = (pairs ? 2 : 1) * OPS_NEAR_STATES;
        ssm_real *y = test_zeros(rows), *h = test_zeros(states), *du = test_zeros(rows);
        ssm_real *far_y = test_zeros(rows), *far_h = test_zeros(states), *far_du = test_zeros(rows);
        size_t other = 0;
        ops_near_run(pairs, (ssm_real)0.0625, y, h, du);
        ops_near_run(pairs, (ssm_real)odd[k / 2], far_y, far_h, far_du);
        for (i = 0; i < rows; ++i) {
            const int same = i % OPS_NEAR_DIM != OPS_NEAR_ODD;
            if (same || i / OPS_NEAR_DIM < 20) other += memcmp(&y[i], &far_y[i], sizeof *y) != 0;
            if (same || i / OPS_NEAR_DIM > 20) other += memcmp(&du[i], &far_du[i], sizeof *y) != 0;
        }
        for (i = 0; i < each * OPS_NEAR_DIM; ++i)
            if (i / each != OPS_NEAR_ODD) other += memcmp(&h[i], &far_h[i], sizeof *h) != 0;
        CHECK(other == 0);
        CHECK(memcmp(&y[20 * OPS_NEAR_DIM + OPS_NEAR_ODD], &far_y[20 * OPS_NEAR_DIM + OPS_NEAR_ODD], sizeof *y) != 0);
        test_free(y, 0), test_free(h, 0), test_free(du, 0), test_free(far_y, 0), test_free(far_h, 0), test_free(far_du, 0);
    }
}

static void ops_scan_errors(void)
{
    const ops_spec spec = {OPS_EXTENTS(2, 5, 6, 2), .flags = OPS_STATES};
    ssm_selective_scan s;
    ssm_sizes need;
    ops_errors_of(&ops_scan_kind, &spec, ops_scan_counts, TEST_COUNT(ops_scan_counts));
    ops_step_errors(&ops_scan_kind, &spec);
    memset(&s, 0, sizeof s);
    s.dim = s.d_state = 1; /* no sequences: nothing is missing */
    CHECK_OK(ssm_selective_scan_sizes(&s, &need));
    s.complex_A = 1;
    CHECK_OK(ssm_selective_scan_sizes(&s, &need));
    s.disc = SSM_DISC_TRAPEZOID; /* of a real A alone */
    CHECK_STATUS(ssm_selective_scan_sizes(&s, &need), SSM_ERR_UNSUPPORTED);
    CHECK_STATUS(ssm_selective_scan_forward(&s, ssm_memory_of(NULL, 0)), SSM_ERR_UNSUPPORTED);
    CHECK_STATUS(ssm_selective_scan_step(&s), SSM_ERR_UNSUPPORTED);
    CHECK_STATUS(ssm_selective_scan_backward(&s, NULL, ssm_memory_of(NULL, 0)), SSM_ERR_UNSUPPORTED);
    s.disc = SSM_DISC_ZOH_TRAPEZOID;
    CHECK_STATUS(ssm_selective_scan_sizes(&s, &need), SSM_ERR_UNSUPPORTED);
    s.disc = SSM_DISC_DEFAULT;
    CHECK_STATUS(ssm_selective_scan_sizes(&s, NULL), SSM_ERR_NULL);
    CHECK_STATUS(ssm_selective_scan_sizes(NULL, &need), SSM_ERR_NULL);
    CHECK_STATUS(ssm_selective_scan_forward(NULL, ssm_memory_of(NULL, 0)), SSM_ERR_NULL);
    CHECK_STATUS(ssm_selective_scan_step(NULL), SSM_ERR_NULL);
}

static void ops_conv_errors(void)
{
    const ops_spec spec = {.batch = 2, .len = 5, .dim = 6, .width = 3, .flags = OPS_CONV_STATES};
    ops_errors_of(&ops_conv_kind, &spec, ops_conv_counts, TEST_COUNT(ops_conv_counts));
    ops_step_errors(&ops_conv_kind, &spec);
    CHECK_STATUS(ssm_conv_forward(NULL), SSM_ERR_NULL);
    CHECK_STATUS(ssm_conv_step(NULL), SSM_ERR_NULL);
}

/* One step of as many channels as run side by side: what each half of them gives alone. */
static void ops_wide_step(void)
{
    enum { DIM = 1024, N = 2 };
    ssm_rng rng = test_rng(91);
    ssm_real *x = test_normal(&rng, 2 * DIM, 1), *A = test_normal(&rng, N * DIM, 1), *B = test_normal(&rng, 2 * N, 1);
    ssm_real *h = test_normal(&rng, N * DIM, 1), *want_h = test_copy(h, N * DIM);
    ssm_real *y = test_zeros(DIM), *want = test_zeros(DIM);
    ssm_selective_scan s = {0};
    size_t part;
    s.batch = s.len = 1, s.d_state = N, s.delta_softplus = 1;
    s.B = ssm_in_btcn(B, 1, 1, N), s.C = ssm_in_btcn(B + N, 1, 1, N);
    for (part = 0; part < 3; ++part) { /* all, the first half, the second */
        const size_t from = part == 2 ? DIM / 2 : 0;
        ssm_real *state = part ? want_h : h;
        s.dim = part ? DIM / 2 : DIM;
        s.u = ssm_in_btc(x + from, 1, s.dim), s.delta = ssm_in_btc(x + DIM + from, 1, s.dim);
        s.A = ssm_in_nc(A + from, DIM);
        s.h_last = ssm_out_like(state + from, ssm_in_nc(NULL, DIM));
        s.y = ssm_out_like((part ? want : y) + from, s.u);
        CHECK_OK(ssm_selective_scan_step(&s));
    }
    CHECK_SAME(y, want, DIM);
    CHECK_SAME(h, want_h, N * DIM);
    test_free(x, 0), test_free(A, 0), test_free(B, 0), test_free(h, 0), test_free(want_h, 0), test_free(y, 0);
    test_free(want, 0);
}

/* Without sequences, or without steps and states, there is nothing to miss: every verb says so, whatever it is handed.
 * A step has one step, so only its streams can be none. */
static void ops_empty(void)
{
    const ssm_memory none = ssm_memory_of(NULL, 0);
    ssm_real room[8192];
    size_t i;
    for (i = 0; i < 2; ++i) {
        ssm_linear_scan line = {0};
        ssm_selective_scan scan = {0};
        ssm_conv conv = {0};
        ssm_s5_scan s5 = {0};
        ssm_selective_scan_grad scan_grad = {0};
        ssm_s5_scan_grad s5_grad = {0};
        ssm_real last[2] = {1, 2}, first[2] = {3, 4};
        ssm_memory work = ssm_memory_of(room, sizeof room);
        line.batch = scan.batch = conv.batch = s5.batch = i;
        line.len = scan.len = conv.len = s5.len = 1 - i;
        line.dim = scan.dim = conv.dim = s5.dim = scan.d_state = s5.d_state = conv.width = 1;
        CHECK_OK(ssm_linear_scan_forward(&line, none));
        CHECK_OK(ssm_linear_scan_backward(&line, NULL));
        CHECK_OK(ssm_selective_scan_forward(&scan, work));
        CHECK_OK(ssm_selective_scan_backward(&scan, NULL, none));
        CHECK_OK(ssm_conv_forward(&conv));
        CHECK_OK(ssm_conv_backward(&conv, NULL));
        CHECK_OK(ssm_s5_scan_forward(&s5, work));
        CHECK_OK(ssm_s5_scan_backward(&s5, NULL, none));
        scan_grad.dh_last.data = s5_grad.dh_last.data = last; /* no steps: what leaves is what entered */
        scan_grad.dh0.data = s5_grad.dh0.data = first;
        CHECK_OK(ssm_selective_scan_backward(&scan, &scan_grad, work));
        CHECK(first[0] == (i ? 4 : 3) && first[1] == 4);
        CHECK_OK(ssm_s5_scan_backward(&s5, &s5_grad, work));
        CHECK(first[0] == (i ? 5 : 3) && first[1] == (i ? 6 : 4));
        if (i) continue;
        CHECK_OK(ssm_selective_scan_step(&scan));
        CHECK_OK(ssm_conv_step(&conv));
        CHECK_OK(ssm_s5_scan_step(&s5, work));
    }
}

/* Extents whose workspace does not fit in size_t. (Nothing is read: sizes only.) */
static void ops_overflow(void)
{
    static const size_t most = (size_t)-1;
    const size_t extents[][4] = { /* batch, len, dim, d_state */
        {1, 1, 1, most}, {1, 1, 1, most / 2}, {1, 1, 1, most / sizeof(ssm_real)}, {1, most, 1, 1000},
        {1, most / 4, 1, most / 4}, {1, most / 2, 1, 1u << 20}, {1, 1, most, 2}, {most / 2, 1, 3, 1},
        {most / 8, most / 8, most / 8, most / 8},
    };
    ssm_real x = 0;
    size_t i, scan;
    for (i = 0; i < TEST_COUNT(extents); ++i) {
        for (scan = SSM_SCAN_AUTO; scan <= SSM_SCAN_CHUNKED; ++scan) {
            ssm_sizes need = {1, 2, 3, 4, 5, 6, 7};
            ssm_selective_scan s;
            memset(&s, 0, sizeof s);
            s.batch = extents[i][0];
            s.len = extents[i][1];
            s.dim = extents[i][2];
            s.d_state = extents[i][3];
            s.scan = (ssm_scan)scan;
            s.u.data = s.delta.data = s.A.data = s.B.data = s.C.data = &x;
            s.y.data = &x;
            CHECK_STATUS(ssm_selective_scan_sizes(&s, &need), SSM_ERR_OVERFLOW);
            CHECK(need.params == 1 && need.work == 4 && need.work_backward == 7);
        }
    }
}

/* ------------------------------------------------------------------ linear */

static double ops_linear_oracle(const double *weight, const double *bias, const double *x, size_t in, size_t o)
{
    double sum = bias ? bias[o] : 0;
    size_t k;
    for (k = 0; k < in; ++k) sum += weight[o * in + k] * x[k];
    return sum;
}

/* Plain and packed, with gaps between rows: the same bits, near the oracle, gaps untouched.
 * Tolerance: sums of up to 201 products; measured over twenty seeds 1.5e-6 (float), 1.5e-15 (double). */
static void ops_linear_case(size_t in, size_t out, size_t rows, int with_bias, ssm_rng *rng)
{
    const size_t x_row = in + 3, y_row = out + 2, count = rows * y_row;
    ssm_real *weight = test_normal(rng, out * in, 1), *bias = test_normal(rng, out, 1);
    ssm_real *x = test_normal(rng, rows * x_row, 1);
    ssm_real *plain = test_zeros(count), *fast = test_zeros(count), *packed;
    double *w = test_doubles(weight, out * in), *b = test_doubles(bias, out), *xd = test_doubles(x, rows * x_row);
    double *want = test_doubles(plain, count);
    ssm_linear l = {0};
    size_t bytes = 0, r, o;
    l.in = in;
    l.out = out;
    l.weight = weight;
    l.bias = with_bias ? bias : NULL;
    for (r = 0; r < rows; ++r)
        for (o = 0; o < out; ++o)
            want[r * y_row + o] = ops_linear_oracle(w, with_bias ? b : NULL, xd + r * x_row, in, o);
    CHECK_OK(ssm_linear_forward(&l, ssm_rows_of(x, (ptrdiff_t)x_row), ssm_rows_out_of(plain, (ptrdiff_t)y_row), rows));
    OPS_CHECK_CLOSE(plain, want, count, TOL(5e-6, 5e-15));
    CHECK_OK(ssm_linear_pack_size(&l, &bytes));
    packed = (ssm_real *)test_alloc(bytes, 0);
    CHECK_STATUS(ssm_linear_pack(&l, ssm_memory_of(packed, bytes - 1)), SSM_ERR_BOUND);
    CHECK(((unsigned char *)packed)[0] == 0x5a && ((unsigned char *)packed)[bytes - 1] == 0x5a);
    CHECK_OK(ssm_linear_pack(&l, ssm_memory_of(packed, bytes)));
    l.packed = packed;
    l.weight = NULL; /* forward then reads packed only */
    CHECK_OK(ssm_linear_forward(&l, ssm_rows_of(x, (ptrdiff_t)x_row), ssm_rows_out_of(fast, (ptrdiff_t)y_row), rows));
    CHECK_SAME(fast, plain, count);
    ops_set(fast, count, 0);
    for (r = rows; r-- > 0;) /* one row at a time, and backwards */
        CHECK_OK(ssm_linear_forward(&l, ssm_rows_of(x + r * x_row, 0), ssm_rows_out_of(fast + r * y_row, 0), 1));
    CHECK_SAME(fast, plain, count);
    test_free(weight, 0), test_free(bias, 0), test_free(x, 0), test_free(plain, 0), test_free(fast, 0);
    test_free(packed, 0), test_free(w, 0), test_free(b, 0), test_free(xd, 0), test_free(want, 0);
}

static void ops_linear(void)
{
    static const size_t ins[] = {1, 2, 15, 16, 17, 64}, outs[] = {1, 15, 16, 17, 33}, rows[] = {0, 1, 3};
    ssm_rng rng = test_rng(11);
    size_t i, j, k;
    for (i = 0; i < TEST_COUNT(ins); ++i)
        for (j = 0; j < TEST_COUNT(outs); ++j)
            for (k = 0; k < TEST_COUNT(rows); ++k) ops_linear_case(ins[i], outs[j], rows[k], (i + j + k) % 2 == 0, &rng);
    ops_linear_case(200, 100, 21, 1, &rng); /* several tasks */
}

/* NaN in one row of x, or in one row of the weight, stays in that row or that output. */
static void ops_linear_not_finite(void)
{
    ssm_real weight[5 * 2] = {1, 2, 3, 4, (ssm_real)NAN, 6, 7, 8, 9, 10};
    ssm_real x[3 * 2] = {1, 1, (ssm_real)INFINITY, 1, 1, 1};
    ssm_real packed[2 * SSM__PANEL * ((5 + SSM__PANEL - 1) / SSM__PANEL)], y[3 * 5];
    ssm_linear l = {2, 5, NULL, NULL, NULL, SSM_FORMAT_REAL, NULL, SSM_ISA_BEST};
    size_t i, pass;
    l.weight = weight;
    CHECK_OK(ssm_linear_pack(&l, ssm_memory_of(packed, sizeof packed)));
    for (pass = 0; pass < 2; ++pass) {
        l.packed = pass ? packed : NULL;
        CHECK_OK(ssm_linear_forward(&l, ssm_rows_of(x, 2), ssm_rows_out_of(y, 5), 3));
        for (i = 0; i < 15; ++i) CHECK((y[i] - y[i] == 0) == (i / 5 != 1 && i % 5 != 2));
    }
}

static void ops_linear_errors(void)
{
    ssm_real w[4] = {1, 2, 3, 4}, x[2] = {1, 1}, y[2] = {OPS_MARK, OPS_MARK}, packed[2 * SSM__PANEL];
    ssm_linear good = {2, 2, NULL, NULL, NULL, SSM_FORMAT_REAL, NULL, SSM_ISA_BEST}, bad;
    size_t bytes = 77;
    good.weight = w;
    CHECK_STATUS(ssm_linear_forward(NULL, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_NULL);
    CHECK_STATUS(ssm_linear_forward(&good, ssm_rows_of(NULL, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_NULL);
    CHECK_STATUS(ssm_linear_forward(&good, ssm_rows_of(x, 2), ssm_rows_out_of(NULL, 2), 1), SSM_ERR_NULL);
    CHECK_OK(ssm_linear_forward(&good, ssm_rows_of(NULL, 2), ssm_rows_out_of(NULL, 2), 0));
    CHECK_STATUS(ssm_linear_pack_size(NULL, &bytes), SSM_ERR_NULL);
    CHECK_STATUS(ssm_linear_pack_size(&good, NULL), SSM_ERR_NULL);
    CHECK_STATUS(ssm_linear_pack(&good, ssm_memory_of(NULL, sizeof packed)), SSM_ERR_NULL);
    CHECK_STATUS(ssm_linear_pack(NULL, ssm_memory_of(packed, sizeof packed)), SSM_ERR_NULL);
    bad = good;
    bad.weight = NULL;
    CHECK_STATUS(ssm_linear_forward(&bad, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_NULL);
    CHECK_STATUS(ssm_linear_pack(&bad, ssm_memory_of(packed, sizeof packed)), SSM_ERR_NULL);
    bad = good;
    bad.in = 0;
    CHECK_STATUS(ssm_linear_forward(&bad, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_CONFIG);
    bad = good;
    bad.out = 0;
    CHECK_STATUS(ssm_linear_forward(&bad, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_CONFIG);
    CHECK_STATUS(ssm_linear_pack_size(&bad, &bytes), SSM_ERR_CONFIG);
    bad.out = (size_t)-1 / 3;
    CHECK_STATUS(ssm_linear_pack_size(&bad, &bytes), SSM_ERR_OVERFLOW);
    bad.out = (size_t)-1;
    CHECK_STATUS(ssm_linear_pack_size(&bad, &bytes), SSM_ERR_OVERFLOW);
    CHECK(bytes == 77 && y[0] == OPS_MARK && y[1] == OPS_MARK);
}

/* ------------------------------------------------------------------ RMSNorm */

static void ops_norm_oracle(const double *weight, const double *x, double eps, size_t dim, double *y)
{
    double mean = 0;
    size_t i;
    for (i = 0; i < dim; ++i) mean += x[i] * x[i] / (double)dim;
    for (i = 0; i < dim; ++i) y[i] = weight[i] * x[i] / sqrt(mean + eps);
}

/* Apart and in place: the same bits, near the oracle, gaps untouched. */
static void ops_norm_case(size_t dim, size_t rows, double eps, double scale, ssm_rng *rng)
{
    const size_t x_row = dim + 1, y_row = dim + 2;
    ssm_real *weight = test_normal(rng, dim, 1), *x = test_normal(rng, rows * x_row, scale);
    ssm_real *y = test_zeros(rows * y_row), *in_place = test_copy(x, rows * x_row);
    double *w = test_doubles(weight, dim), *xd = test_doubles(x, rows * x_row), *want = test_doubles(y, rows * y_row);
    ssm_norm norm = {.dim = 0, .eps = 0};
    size_t r;
    norm.dim = dim;
    norm.eps = (ssm_real)eps;
    norm.weight = weight;
    for (r = 0; r < rows; ++r) ops_norm_oracle(w, xd + r * x_row, eps > 0 ? eps : 1e-5, dim, want + r * y_row);
    CHECK_OK(ssm_norm_forward(&norm, ssm_rows_of(x, (ptrdiff_t)x_row), ssm_rows_out_of(y, (ptrdiff_t)y_row), rows));
    CHECK_CLOSE(y, want, rows * y_row, TOL(2e-6, 5e-15));
    CHECK_OK(ssm_norm_forward(&norm, ssm_rows_of(in_place, (ptrdiff_t)x_row),
                              ssm_rows_out_of(in_place, (ptrdiff_t)x_row), rows));
    for (r = 0; r < rows; ++r) {
        CHECK_SAME(in_place + r * x_row, y + r * y_row, dim);
        CHECK_SAME(in_place + r * x_row + dim, x + r * x_row + dim, 1);
    }
    test_free(weight, 0), test_free(x, 0), test_free(y, 0), test_free(in_place, 0);
    test_free(w, 0), test_free(xd, 0), test_free(want, 0);
}

static void ops_norm(void)
{
    static const size_t dims[] = {1, 3, 16, 17, 64}, rows[] = {0, 1, 3};
    static const double eps[] = {0, 1e-5, 0.1};
    /* squares stay finite; below sqrt(eps) only eps counts */
    static const double scales[] = {1, 1e-4, TOL(1e-18, 1e-150), TOL(1e17, 1e150)};
    ssm_rng rng = test_rng(12);
    size_t i, j, k, m;
    for (i = 0; i < TEST_COUNT(dims); ++i)
        for (j = 0; j < TEST_COUNT(rows); ++j)
            for (k = 0; k < TEST_COUNT(eps); ++k)
                for (m = 0; m < TEST_COUNT(scales); ++m) ops_norm_case(dims[i], rows[j], eps[k], scales[m], &rng);
}

/* Zeros give zeros, NaN stays in its row. */
static void ops_norm_special(void)
{
    ssm_real weight[2] = {1, 2}, x[6] = {0, 0, (ssm_real)NAN, 1, 1, 1}, y[6];
    ssm_norm norm = {.dim = 2, .eps = 0};
    norm.weight = weight;
    CHECK_OK(ssm_norm_forward(&norm, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 3));
    CHECK(y[0] == 0 && y[1] == 0);
    CHECK(y[2] != y[2] && y[3] != y[3]);
    CHECK(y[4] > (ssm_real)0.99 && y[5] > (ssm_real)1.99);
}

static void ops_norm_errors(void)
{
    ssm_real w[2] = {1, 1}, x[2] = {1, 1}, y[2] = {OPS_MARK, OPS_MARK};
    ssm_norm good = {.dim = 2, .eps = 0}, bad;
    good.weight = w;
    CHECK_STATUS(ssm_norm_forward(NULL, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_NULL);
    CHECK_STATUS(ssm_norm_forward(&good, ssm_rows_of(NULL, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_NULL);
    CHECK_STATUS(ssm_norm_forward(&good, ssm_rows_of(x, 2), ssm_rows_out_of(NULL, 2), 1), SSM_ERR_NULL);
    CHECK_OK(ssm_norm_forward(&good, ssm_rows_of(NULL, 2), ssm_rows_out_of(NULL, 2), 0));
    bad = good;
    bad.weight = NULL;
    CHECK_STATUS(ssm_norm_forward(&bad, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_NULL);
    bad = good;
    bad.dim = 0;
    CHECK_STATUS(ssm_norm_forward(&bad, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_CONFIG);
    bad = good;
    bad.eps = -1;
    CHECK_STATUS(ssm_norm_forward(&bad, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_CONFIG);
    bad.eps = (ssm_real)NAN;
    CHECK_STATUS(ssm_norm_forward(&bad, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_CONFIG);
    CHECK(y[0] == OPS_MARK && y[1] == OPS_MARK);
}

static void ops_check_view(ssm_in v, ptrdiff_t batch, ptrdiff_t time, ptrdiff_t chan, ptrdiff_t state)
{
    CHECK(v.batch == batch && v.time == time && v.chan == chan && v.state == state);
}

/* What the docstrings of the views say, as strides. */
static void ops_views(void)
{
    const ssm_real x[2] = {1, 2};
    const ssm_in pairs = ssm_in_pairs(ssm_in_btcn(x, 3, 5, 7));
    ops_check_view(ssm_in_btc(x, 3, 5), 15, 5, 1, 0);
    ops_check_view(ssm_in_bct(x, 5, 3), 15, 1, 3, 0);
    ops_check_view(ssm_in_btcn(x, 3, 5, 7), 105, 35, 7, 1);
    ops_check_view(ssm_in_bcn(x, 5, 7), 35, 0, 7, 1);
    ops_check_view(ssm_in_cn(x, 7), 0, 0, 7, 1);
    ops_check_view(ssm_in_nc(x, 5), 0, 0, 1, 5);
    ops_check_view(ssm_in_c(x), 0, 0, 1, 0);
    ops_check_view(pairs, 210, 70, 14, 2);
    CHECK(pairs.data == x && ssm_in_nc(x, 5).data == x);
}

static const test_case ops_cases[] = {
    {"ops/views", ops_views},
    {"ops/scan_oracle_options", ops_scan_options_oracle},
    {"ops/scan_oracle_shapes", ops_scan_shapes_oracle},
    {"ops/scan_time_parallel", ops_scan_time_parallel_oracle},
    {"ops/scan_default_disc", ops_scan_default_disc},
    {"ops/conv_oracle", ops_conv_options_oracle},
    {"ops/conv_ahead", ops_conv_ahead},
    {"ops/law_split", ops_split},
    {"ops/law_step", ops_step},
    {"ops/law_packed", ops_packed},
    {"ops/law_batch", ops_batch},
    {"ops/law_permuted", ops_permuted},
    {"ops/law_backwards", ops_backwards},
    {"ops/law_layout", ops_layouts},
    {"ops/law_broadcast", ops_broadcast},
    {"ops/law_in_place", ops_in_place},
    {"ops/law_padding", ops_padding},
    {"ops/law_linear_in_u", ops_linear_in_u},
    {"ops/not_finite", ops_not_finite},
    {"ops/extremes", ops_extremes},
    {"ops/parallel", ops_parallel},
    {"ops/wide_step", ops_wide_step},
    {"ops/memory", ops_memory},
    {"ops/scan_near", ops_scan_near},
    {"ops/scan_errors", ops_scan_errors},
    {"ops/conv_errors", ops_conv_errors},
    {"ops/empty", ops_empty},
    {"ops/overflow", ops_overflow},
    {"ops/linear", ops_linear},
    {"ops/linear_not_finite", ops_linear_not_finite},
    {"ops/linear_errors", ops_linear_errors},
    {"ops/norm", ops_norm},
    {"ops/norm_special", ops_norm_special},
    {"ops/norm_errors", ops_norm_errors},
};
