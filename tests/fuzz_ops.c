/* fuzz_ops.c - ops of random shapes on random views (strides with gaps, in any order of the axes, backwards in time,
 * broadcast by 0), dense or packed, on any instruction set, against their formulas in double: the selective scan, SSD, the
 * S5 scan, the linear scan, convolution, matrix product, RMSNorm, LayerNorm, embedding, row operations, losses, the mean
 * over time. What has a state finds it in any slot, in place or not, and steps where there is one row. Gradients against
 * differences of the same formulas, along one random direction for each tensor, which every element has a part in. */
#define FUZZ_NAME "ops"
#include "fuzz.h"
#include <complex.h>
#undef I /* a name for extents here */

/*--- tensors ---*/

/* Up to four axes (batch, time, chan, state) in memory of exactly its extent; the same in double, for the oracle. */
typedef struct fuzz_tensor {
    ssm_real *data; /* NULL: the problem has none */
    ssm_real *grad; /* of an input: what backward adds to; of an output: its weight in the loss */
    double *exact;
    size_t count;
    ptrdiff_t origin;
    ssm_in view;
    const char *name;
} fuzz_tensor;

enum { FUZZ_BROADCAST = 1, FUZZ_PAIRS = 2, FUZZ_DENSE = 4, FUZZ_ROWS = 8 };
enum { FUZZ_UNTOUCHED = 3 }; /* an output before it is written */

/* Strides of extents B, T, C, N; an extent of 0 is one of 1. Axes may get stride 0 with FUZZ_BROADCAST, gaps and any order
 * but with FUZZ_DENSE, and time may run backwards; FUZZ_ROWS: channels are contiguous. Returns the numbers spanned. */
static size_t fuzz_strides(size_t B, size_t T, size_t C, size_t N, int options, ptrdiff_t *stride)
{
    const size_t extent[4] = {B ? B : 1, T ? T : 1, C ? C : 1, N ? N : 1};
    const int loose = !(options & (FUZZ_DENSE | FUZZ_ROWS));
    size_t order[4] = {0, 1, 2, 3}, i, span = 1;
    for (i = 0; i < 4 && loose && fuzz_chance(2); ++i) {
        const size_t j = fuzz_below(4), swap = order[i];
        order[i] = order[j], order[j] = swap;
    }
    for (i = 4; i-- > 0;) {
        const size_t axis = order[i];
        stride[axis] = 0;
        if ((options & FUZZ_BROADCAST) && (loose || axis == 1) && fuzz_chance(6)) continue;
        stride[axis] = (ptrdiff_t)span;
        span *= extent[axis];
        if (!(options & FUZZ_DENSE) && (loose || axis == 2) && fuzz_chance(4)) span += fuzz_below(3);
    }
    return span;
}

static void fuzz_make(fuzz_tensor *x, const char *name, size_t B, size_t T, size_t C, size_t N, int options, double low,
                      double high)
{
    const ptrdiff_t pair = options & FUZZ_PAIRS ? 2 : 1;
    ptrdiff_t stride[4];
    ssm_rng rng = fuzz_numbers();
    size_t i;
    x->name = name;
    x->count = fuzz_strides(B, T, C, N, options, stride) * (size_t)pair;
    x->origin = 0;
    if (!(options & (FUZZ_DENSE | FUZZ_ROWS)) && fuzz_chance(5)) {
        x->origin = (ptrdiff_t)(T ? T - 1 : 0) * stride[1] * pair;
        stride[1] = -stride[1];
    }
    x->data = test_zeros(x->count);
    x->grad = test_zeros(x->count);
    for (i = 0; i < x->count; ++i) x->data[i] = (ssm_real)(low + (high - low) * (double)ssm_rng_uniform(&rng));
    x->exact = test_doubles(x->data, x->count);
    x->view.data = x->data + x->origin;
    x->view.batch = stride[0] * pair, x->view.time = stride[1] * pair;
    x->view.chan = stride[2] * pair, x->view.state = stride[3] * pair;
}

/* An output, with a weight for each of its numbers. None of them is what an op writes unless it writes it. */
static void fuzz_make_output(fuzz_tensor *y, const char *name, size_t B, size_t T, size_t C, size_t N, int options)
{
    ssm_rng rng = fuzz_numbers();
    size_t i;
    fuzz_make(y, name, B, T, C, N, options, FUZZ_UNTOUCHED, FUZZ_UNTOUCHED);
    for (i = 0; i < y->count; ++i) y->grad[i] = 2 * ssm_rng_uniform(&rng) - 1;
}

static void fuzz_drop(fuzz_tensor *x)
{
    if (x->data) test_free(x->data, 0), test_free(x->grad, 0), test_free(x->exact, 0);
}

static double *fuzz_at(const fuzz_tensor *x, size_t b, size_t t, size_t c, size_t n)
{
    const ssm_in *v = &x->view;
    return x->exact + x->origin + (ptrdiff_t)b * v->batch + (ptrdiff_t)t * v->time + (ptrdiff_t)c * v->chan +
           (ptrdiff_t)n * v->state;
}

/* An element, or what stands for a tensor that is not there. */
static double fuzz_get(const fuzz_tensor *x, size_t b, size_t t, size_t c, size_t n, double absent)
{
    return x->data ? *fuzz_at(x, b, t, c, n) : absent;
}

static double _Complex fuzz_complex(const fuzz_tensor *x, int pairs, size_t b, size_t t, size_t c, size_t n)
{
    const double *z = fuzz_at(x, b, t, c, n);
    return pairs ? z[0] + z[1] * _Complex_I : z[0];
}

static void fuzz_put_complex(const fuzz_tensor *x, int pairs, size_t b, size_t t, size_t c, size_t n, double _Complex z)
{
    double *to = fuzz_at(x, b, t, c, n);
    to[0] = creal(z);
    if (pairs) to[1] = cimag(z);
}

static ssm_out fuzz_out(const fuzz_tensor *x)
{
    return x->data ? ssm_out_like(x->data + x->origin, x->view) : ssm_out_like(NULL, x->view);
}

/* What backward gets for an output, and gives for an input. */
static ssm_in fuzz_weight(const fuzz_tensor *y)
{
    ssm_in view = y->view;
    view.data = y->data ? y->grad + y->origin : NULL;
    return view;
}

static ssm_out fuzz_grad(const fuzz_tensor *x)
{
    return x->data ? ssm_out_like(x->grad + x->origin, x->view) : ssm_out_like(NULL, x->view);
}

/*--- problems ---*/

enum { FUZZ_INPUTS = 11, FUZZ_Y = FUZZ_INPUTS, FUZZ_LAST, FUZZ_SHOWN, FUZZ_ALL };

typedef struct fuzz_problem {
    const char *name;
    void (*oracle)(struct fuzz_problem *p); /* outputs of the exact inputs, and how large numbers get on the way */
    size_t batch, len, tensors; /* sequences, rows of a tensor, tensors in a batch: 1 if packed */
    const size_t *start;
    size_t offset[6];
    size_t states; /* of a tensor of states */
    const ptrdiff_t *slot;
    ptrdiff_t slots[4];
    int in_place; /* the last state is where the first was; one row is a step */
    ssm_isa isa;
    fuzz_tensor t[FUZZ_ALL]; /* the inputs, y, the last state, the states of all rows */
    fuzz_tensor fixed[2];    /* inputs without a gradient */
    int token[40];
    double magnitude;
    union {
        ssm_selective_scan selective;
        ssm_ssd ssd;
        ssm_s5_scan s5;
        ssm_linear_scan line;
        ssm_conv conv;
        ssm_linear linear;
        ssm_norm norm;
        ssm_layer_norm layer_norm;
        ssm_embedding embedding;
        ssm_rowop row;
        ssm_cross_entropy entropy;
        ssm_mse mse;
        ssm_mean mean;
    } op;
} fuzz_problem;

/* Extents: a batch of up to three sequences, or packed ones of up to `most` rows, with rows that belong to none. */
static void fuzz_extents(fuzz_problem *p, size_t most)
{
    size_t b;
    p->batch = p->tensors = fuzz_between(1, 3);
    p->len = fuzz_between(1, most);
    p->start = NULL;
    if (!fuzz_chance(3)) return;
    p->start = p->offset;
    p->offset[0] = fuzz_below(3);
    for (b = 0; b < p->batch; ++b) p->offset[b + 1] = p->offset[b] + fuzz_between(0, most);
    p->len = p->offset[p->batch] + fuzz_below(3);
    p->tensors = 1;
}

/* How long sequences may be: differences run the oracle again and again, now and then over several tiles of steps. */
static size_t fuzz_most(int gradients, size_t most)
{
    return !gradients ? most : fuzz_chance(4) ? 150 : 20;
}

/* The first row of sequence b and that after its last; which tensor of the batch they are in. */
static size_t fuzz_rows_of(const fuzz_problem *p, size_t b, size_t *first, size_t *end)
{
    *first = p->start ? p->start[b] : 0;
    *end = p->start ? p->start[b + 1] : p->len;
    return p->start ? 0 : b;
}

/* Where the states are, once the sequences are known: of each sequence its own, or in slots, some of them nobody's and
 * some sequences padding. Backward knows no slots. */
static void fuzz_streams(fuzz_problem *p, int gradients)
{
    size_t b, from;
    p->states = p->batch;
    p->in_place = !gradients && fuzz_chance(2);
    if (p->in_place && !p->start && fuzz_chance(3)) p->len = 1;
    if (gradients || !fuzz_chance(3)) return;
    p->states += fuzz_below(3);
    p->slot = p->slots;
    from = fuzz_below(p->states);
    for (b = 0; b < p->batch; ++b) p->slots[b] = (ptrdiff_t)((from + p->states - b) % p->states);
    for (b = 0; b < p->batch; ++b)
        if (fuzz_chance(4)) p->slots[b] = -1 - (ptrdiff_t)fuzz_below(3);
}

/* The tensors of states: the last ones, and in their place or apart the first ones, tensor `at`, if there are any. */
static void fuzz_make_states(fuzz_problem *p, size_t at, size_t C, size_t N, int options)
{
    fuzz_tensor *first = &p->t[at], *last = &p->t[FUZZ_LAST];
    if (p->in_place) {
        fuzz_make(first, "h0", p->states, 1, C, N, options, -1, 1);
        *last = *first;
        last->name = "h_last";
        last->data = test_copy(first->data, first->count);
        last->grad = test_zeros(first->count);
        last->exact = test_doubles(first->data, first->count);
        last->view.data = last->data;
    } else {
        if (fuzz_chance(2)) fuzz_make(first, "h0", p->states, 1, C, N, options | FUZZ_BROADCAST, -1, 1);
        fuzz_make_output(last, "h_last", p->states, 1, C, N, options);
    }
}

static ssm_in fuzz_first_state(const fuzz_problem *p, size_t at)
{
    return p->t[p->in_place ? (size_t)FUZZ_LAST : at].view;
}

static int fuzz_steps(const fuzz_problem *p)
{
    return p->in_place && p->len == 1 && !p->start;
}

/* The state of sequence b. */
static size_t fuzz_state_of(const fuzz_problem *p, size_t b)
{
    return p->slot ? (size_t)p->slot[b] : b;
}

/* Whether sequence b is padding. Then y, of C channels or pairs, is 0. */
static int fuzz_is_padding(const fuzz_problem *p, size_t b, size_t C, int pairs)
{
    size_t t, c, first, end;
    const size_t in = fuzz_rows_of(p, b, &first, &end);
    if (!p->slot || p->slot[b] >= 0) return 0;
    for (t = first; t < end; ++t)
        for (c = 0; c < C; ++c) {
            double *y = fuzz_at(&p->t[FUZZ_Y], in, t, c, 0);
            y[0] = y[pairs != 0] = 0;
        }
    return 1;
}

/* |got - want| within rounding of numbers that are about `scale` large. */
static void fuzz_near(const char *what, const char *tensor, double got, double want, double scale)
{
    if (!(fabs(got - want) <= TOL(5e-5, 1e-12) * (1 + scale)))
        test_fail(__FILE__, __LINE__, "%s %s: %.9g, expected %.9g", what, tensor, got, want);
}

/* Outputs are those of the oracle; what lies between their elements is as it was. */
static void fuzz_check_outputs(fuzz_problem *p)
{
    size_t i, k;
    p->magnitude = 1;
    p->oracle(p);
    for (k = FUZZ_Y; k < FUZZ_ALL; ++k)
        for (i = 0; p->t[k].data && i < p->t[k].count; ++i)
            fuzz_near(p->name, p->t[k].name, (double)p->t[k].data[i], p->t[k].exact[i], p->magnitude);
}

static double fuzz_loss(void *context)
{
    fuzz_problem *p = (fuzz_problem *)context;
    double loss = 0;
    size_t i, k;
    p->oracle(p);
    for (k = FUZZ_Y; k < FUZZ_ALL; ++k)
        for (i = 0; p->t[k].data && i < p->t[k].count; ++i) loss += p->t[k].exact[i] * (double)p->t[k].grad[i];
    return loss;
}

/* The gradients that backward left. Elements are sums of terms that may cancel: what is allowed goes by the weights too. */
static void fuzz_check_gradients(fuzz_problem *p)
{
    ssm_rng rng = fuzz_numbers();
    double weights = 0;
    size_t i, k;
    for (k = FUZZ_Y; k < FUZZ_ALL; ++k)
        if (p->t[k].data) weights += test_norm(p->t[k].grad, p->t[k].count);
    for (k = 0; k < FUZZ_INPUTS; ++k) {
        fuzz_tensor *x = &p->t[k];
        double *direction, got = 0, want, allowed;
        if (!x->data) continue;
        direction = (double *)test_alloc(x->count * sizeof *direction, 0);
        for (i = 0; i < x->count; ++i) direction[i] = (double)ssm_rng_normal(&rng) / sqrt((double)x->count);
        for (i = 0; i < x->count; ++i) got += (double)x->grad[i] * direction[i];
        want = test_slope(fuzz_loss, p, x->exact, direction, x->count, 1e-4);
        allowed = TOL(5e-4, 1e-7) * (test_norm(x->grad, x->count) + 0.1 * weights * p->magnitude);
        if (!(fabs(got - want) <= allowed))
            test_fail(__FILE__, __LINE__, "%s d%s: %.9g, differences give %.9g (error %.3g of %.3g)", p->name, x->name,
                      got, want, fabs(got - want), allowed);
        test_free(direction, 0);
    }
}

static void fuzz_close(fuzz_problem *p)
{
    size_t k;
    for (k = 0; k < FUZZ_ALL; ++k) fuzz_drop(&p->t[k]);
    fuzz_drop(&p->fixed[0]), fuzz_drop(&p->fixed[1]);
}

typedef ssm_status (*fuzz_verb)(const fuzz_problem *p, ssm_memory work);

/* A call that must fail and write nothing. Outputs are as they were before the oracle ran. */
static void fuzz_refused(const fuzz_problem *p, fuzz_verb verb, ssm_memory work, ssm_status status, int backward)
{
    size_t i, k;
    CHECK_STATUS(verb(p, work), status);
    for (k = 0; k < FUZZ_INPUTS; ++k)
        if (p->t[k].data) CHECK(test_norm(p->t[k].grad, p->t[k].count) == 0);
    for (k = FUZZ_Y; k < FUZZ_ALL && !backward; ++k)
        for (i = 0; p->t[k].data && i < p->t[k].count; ++i) CHECK((double)p->t[k].data[i] == p->t[k].exact[i]);
}

/* A call that must succeed in exactly the memory it asks for; with a byte less it fails. */
static void fuzz_call(const fuzz_problem *p, fuzz_verb verb, size_t bytes, int backward)
{
    void *work = test_alloc(bytes, 1);
    if (bytes) fuzz_refused(p, verb, ssm_memory_of(work, bytes - 1), SSM_ERR_MEMORY, backward);
    CHECK_OK(verb(p, ssm_memory_of(work, bytes)));
    test_free(work, 1);
}

/* Forward. No two sequences have one state. */
static void fuzz_forward(fuzz_problem *p, fuzz_verb forward, size_t bytes)
{
    if (p->slot && p->batch > 1) {
        const ptrdiff_t first = p->slots[0], last = p->slots[p->batch - 1];
        p->slots[0] = p->slots[p->batch - 1] = (ptrdiff_t)fuzz_below(p->states);
        fuzz_refused(p, forward, ssm_memory_of(NULL, 0), SSM_ERR_SHAPE, 0);
        p->slots[0] = first, p->slots[p->batch - 1] = last;
    }
    fuzz_call(p, forward, bytes, 0);
    fuzz_check_outputs(p);
}

/* Backward, if gradients are asked for. There are none with slots. */
static void fuzz_backward(fuzz_problem *p, fuzz_verb backward, size_t bytes, int gradients)
{
    if (p->slot) fuzz_refused(p, backward, ssm_memory_of(NULL, 0), SSM_ERR_UNSUPPORTED, 1);
    if (!gradients) return;
    fuzz_call(p, backward, bytes, 1);
    fuzz_check_gradients(p);
}

/* The states of all rows, which no loss asks for. */
static void fuzz_make_shown(fuzz_problem *p, size_t C, size_t N, int options)
{
    fuzz_tensor *h = &p->t[FUZZ_SHOWN];
    fuzz_make(h, "h", p->tensors, p->len, C, N, options, FUZZ_UNTOUCHED, FUZZ_UNTOUCHED);
}

/* Limits of a step size. Differences know no derivative at one. */
static void fuzz_limits(int gradients, ssm_real *low, ssm_real *high)
{
    if (gradients || !fuzz_chance(4)) return;
    *low = (ssm_real)0.01 * (ssm_real)fuzz_below(50);
    *high = fuzz_chance(2) ? 0 : *low + (ssm_real)0.3;
}

/*--- the selective scan ---*/

enum { SEL_U, SEL_DELTA, SEL_A, SEL_B, SEL_C, SEL_D, SEL_Z, SEL_BIAS, SEL_DELTA_A, SEL_LAMBDA, SEL_H0 };

/* One state by a step, as ssm_disc says. *before: w of the step before. */
static double fuzz_advance(ssm_disc disc, double A, double dt, double dt_A, double lambda, double w, double h,
                           double *before)
{
    const double x = dt * A, a = exp(dt_A * A), v = *before;
    *before = w;
    switch (disc) {
    case SSM_DISC_ZOH: return a * h + expm1(x) / A * w;
    case SSM_DISC_BILINEAR: return (1 + dt_A * A / 2) / (1 - dt_A * A / 2) * h + dt / (1 - x / 2) * w;
    case SSM_DISC_DIRAC: return a * h + w;
    case SSM_DISC_TRAPEZOID: return a * h + (1 - lambda) * dt * a * v + lambda * dt * w;
    case SSM_DISC_ZOH_TRAPEZOID: return a * h + dt * (1 + exp(x)) / 2 * w;
    default: return a * h + dt * w;
    }
}

static double fuzz_held(double dt, ssm_real low, ssm_real high)
{
    dt = fmax(dt, (double)low);
    return high > 0 ? fmin(dt, (double)high) : dt;
}

static void fuzz_put_states(const fuzz_problem *p, const fuzz_tensor *to, size_t b, size_t t, size_t c, const double *h,
                            const double *before)
{
    const size_t N = p->op.selective.d_state;
    size_t n;
    for (n = 0; n < N; ++n) {
        *fuzz_at(to, b, t, c, n) = h[n];
        if (p->op.selective.disc == SSM_DISC_TRAPEZOID) *fuzz_at(to, b, t, c, N + n) = before[n];
    }
}

/* Step size of a channel, as held. */
static double fuzz_step_size(const fuzz_problem *p, size_t in, size_t t, size_t c)
{
    const ssm_selective_scan *s = &p->op.selective;
    const double dt = *fuzz_at(&p->t[SEL_DELTA], in, t, c, 0) + fuzz_get(&p->t[SEL_BIAS], 0, 0, c, 0, 0);
    return fuzz_held(s->delta_softplus ? test_softplus(dt) : dt, s->delta_min, s->delta_max);
}

/* y from what the states give: with the skip, gated. */
static void fuzz_put_y(const fuzz_problem *p, size_t in, size_t t, size_t c, double y)
{
    const fuzz_tensor *x = p->t;
    y += fuzz_get(&x[SEL_D], 0, 0, c, 0, 0) * *fuzz_at(&x[SEL_U], in, t, c, 0);
    *fuzz_at(&x[FUZZ_Y], in, t, c, 0) = x[SEL_Z].data ? y * test_silu(fuzz_get(&x[SEL_Z], in, t, c, 0, 0)) : y;
}

static void fuzz_selective_channel(fuzz_problem *p, size_t b, size_t c)
{
    const ssm_selective_scan *s = &p->op.selective;
    const fuzz_tensor *x = p->t;
    const size_t N = s->d_state, g = c / (s->dim / s->B_groups);
    double h[20], before[20];
    size_t t, first, end, n;
    const size_t in = fuzz_rows_of(p, b, &first, &end), state = fuzz_state_of(p, b);
    for (n = 0; n < N; ++n) {
        h[n] = fuzz_get(&x[SEL_H0], state, 0, c, n, 0);
        before[n] = s->disc == SSM_DISC_TRAPEZOID ? fuzz_get(&x[SEL_H0], state, 0, c, N + n, 0) : 0;
    }
    for (t = first; t < end; ++t) {
        const double u = *fuzz_at(&x[SEL_U], in, t, c, 0), dt = fuzz_step_size(p, in, t, c);
        double y = 0;
        for (n = 0; n < N; ++n) {
            h[n] = fuzz_advance(s->disc, *fuzz_at(&x[SEL_A], 0, 0, c, n), dt, fuzz_get(&x[SEL_DELTA_A], in, t, c, 0, dt),
                                fuzz_get(&x[SEL_LAMBDA], in, t, c, 0, 0.5), *fuzz_at(&x[SEL_B], in, t, g, n) * u, h[n],
                                &before[n]);
            y += *fuzz_at(&x[SEL_C], in, t, g, n) * h[n];
            p->magnitude = fmax(p->magnitude, fabs(h[n]) * (double)N);
        }
        fuzz_put_y(p, in, t, c, y);
        if (x[FUZZ_SHOWN].data) fuzz_put_states(p, &x[FUZZ_SHOWN], in, t, c, h, before);
    }
    fuzz_put_states(p, &x[FUZZ_LAST], state, 0, c, h, before);
}

/* The same of complex A, B, C and states; y is twice the real part. */
static double _Complex fuzz_advance_complex(ssm_disc disc, double _Complex A, double dt, double dt_A, double _Complex w,
                                            double _Complex h)
{
    switch (disc) {
    case SSM_DISC_ZOH: return cexp(dt_A * A) * h + (cexp(dt * A) - 1) / A * w;
    case SSM_DISC_BILINEAR: return (1 + dt_A * A / 2) / (1 - dt_A * A / 2) * h + dt / (1 - dt * A / 2) * w;
    case SSM_DISC_DIRAC: return cexp(dt_A * A) * h + w;
    default: return cexp(dt_A * A) * h + dt * w;
    }
}

static void fuzz_complex_channel(fuzz_problem *p, size_t b, size_t c)
{
    const ssm_selective_scan *s = &p->op.selective;
    const fuzz_tensor *x = p->t;
    const size_t N = s->d_state, g = c / (s->dim / s->B_groups);
    double _Complex h[20];
    size_t t, first, end, n;
    const size_t in = fuzz_rows_of(p, b, &first, &end), state = fuzz_state_of(p, b);
    for (n = 0; n < N; ++n) h[n] = x[SEL_H0].data ? fuzz_complex(&x[SEL_H0], 1, state, 0, c, n) : 0;
    for (t = first; t < end; ++t) {
        const double u = *fuzz_at(&x[SEL_U], in, t, c, 0), dt = fuzz_step_size(p, in, t, c);
        double y = 0;
        for (n = 0; n < N; ++n) {
            h[n] = fuzz_advance_complex(s->disc, fuzz_complex(&x[SEL_A], 1, 0, 0, c, n), dt,
                                        fuzz_get(&x[SEL_DELTA_A], in, t, c, 0, dt),
                                        fuzz_complex(&x[SEL_B], 1, in, t, g, n) * u, h[n]);
            y += 2 * creal(fuzz_complex(&x[SEL_C], 1, in, t, g, n) * h[n]);
            p->magnitude = fmax(p->magnitude, 2 * cabs(h[n]) * (double)N);
            if (x[FUZZ_SHOWN].data) fuzz_put_complex(&x[FUZZ_SHOWN], 1, in, t, c, n, h[n]);
        }
        fuzz_put_y(p, in, t, c, y);
    }
    for (n = 0; n < N; ++n) fuzz_put_complex(&x[FUZZ_LAST], 1, state, 0, c, n, h[n]);
}

static void fuzz_selective_oracle(fuzz_problem *p)
{
    size_t b, c;
    for (b = 0; b < p->batch; ++b) {
        if (fuzz_is_padding(p, b, p->op.selective.dim, 0)) continue;
        for (c = 0; c < p->op.selective.dim; ++c) {
            if (p->op.selective.complex_A) fuzz_complex_channel(p, b, c);
            else fuzz_selective_channel(p, b, c);
        }
    }
}

static ssm_status fuzz_selective_forward(const fuzz_problem *p, ssm_memory work)
{
    const ssm_selective_scan *s = &p->op.selective;
    return fuzz_steps(p) && !work.bytes ? ssm_selective_scan_step(s) : ssm_selective_scan_forward(s, work);
}

static ssm_status fuzz_selective_backward(const fuzz_problem *p, ssm_memory work)
{
    const fuzz_tensor *x = p->t;
    ssm_selective_scan_grad g = {0};
    g.dy = fuzz_weight(&x[FUZZ_Y]), g.dh_last = fuzz_weight(&x[FUZZ_LAST]);
    g.du = fuzz_grad(&x[SEL_U]), g.ddelta = fuzz_grad(&x[SEL_DELTA]), g.dA = fuzz_grad(&x[SEL_A]);
    g.dB = fuzz_grad(&x[SEL_B]), g.dC = fuzz_grad(&x[SEL_C]), g.dD = fuzz_grad(&x[SEL_D]), g.dz = fuzz_grad(&x[SEL_Z]);
    g.ddelta_bias = fuzz_grad(&x[SEL_BIAS]), g.ddelta_A = fuzz_grad(&x[SEL_DELTA_A]);
    g.dlambda = fuzz_grad(&x[SEL_LAMBDA]), g.dh0 = fuzz_grad(&x[SEL_H0]);
    return ssm_selective_scan_backward(&p->op.selective, &g, work);
}

static void fuzz_selective(fuzz_problem *p, int gradients)
{
    const size_t G = fuzz_between(1, 2), C = G * fuzz_between(1, gradients ? 9 : 20), N = fuzz_between(1, 18);
    fuzz_tensor *x = p->t;
    ssm_selective_scan *s = &p->op.selective;
    ssm_sizes need;
    size_t T, B, rows;
    int pairs;
    p->name = "selective scan", p->oracle = fuzz_selective_oracle;
    fuzz_extents(p, fuzz_most(gradients, fuzz_chance(4) ? 200 : 70));
    fuzz_streams(p, gradients);
    T = p->len, B = p->tensors;
    s->batch = p->batch, s->len = T, s->dim = C, s->d_state = N, s->start = p->start, s->B_groups = s->C_groups = G;
    s->disc = (ssm_disc)fuzz_below(7), s->scan = (ssm_scan)fuzz_below(4), s->delta_softplus = (int)fuzz_below(2);
    s->slot = p->slot, s->isa = p->isa;
    fuzz_limits(gradients, &s->delta_min, &s->delta_max);
    s->complex_A = s->disc < SSM_DISC_TRAPEZOID && fuzz_chance(3);
    pairs = s->complex_A ? FUZZ_PAIRS : 0;
    rows = s->disc == SSM_DISC_TRAPEZOID ? 2 * N : N;
    fuzz_make(&x[SEL_U], "u", B, T, C, 1, FUZZ_BROADCAST, -1, 1);
    fuzz_make(&x[SEL_DELTA], "delta", B, T, C, 1, FUZZ_BROADCAST, 0.01, 1);
    fuzz_make(&x[SEL_A], "A", 1, 1, C, N, FUZZ_BROADCAST | pairs, -2, -0.1);
    fuzz_make(&x[SEL_B], "B", B, T, G, N, FUZZ_BROADCAST | pairs, -1, 1);
    fuzz_make(&x[SEL_C], "C", B, T, G, N, FUZZ_BROADCAST | pairs, -1, 1);
    if (fuzz_chance(2)) fuzz_make(&x[SEL_D], "D", 1, 1, C, 1, FUZZ_BROADCAST, -1, 1);
    if (fuzz_chance(2)) fuzz_make(&x[SEL_Z], "z", B, T, C, 1, FUZZ_BROADCAST, -2, 2);
    if (fuzz_chance(2)) fuzz_make(&x[SEL_BIAS], "delta_bias", 1, 1, C, 1, FUZZ_BROADCAST, 0, 0.5);
    if (fuzz_chance(4)) fuzz_make(&x[SEL_DELTA_A], "delta_A", B, T, C, 1, FUZZ_BROADCAST, 0.01, 1);
    if (s->disc == SSM_DISC_TRAPEZOID && fuzz_chance(2))
        fuzz_make(&x[SEL_LAMBDA], "lambda", B, T, C, 1, FUZZ_BROADCAST, 0, 1);
    fuzz_make_output(&x[FUZZ_Y], "y", B, T, C, 1, 0);
    fuzz_make_states(p, SEL_H0, C, rows, pairs);
    if (fuzz_chance(5)) fuzz_make_shown(p, C, rows, pairs);
    s->u = x[SEL_U].view, s->delta = x[SEL_DELTA].view, s->A = x[SEL_A].view, s->B = x[SEL_B].view;
    s->C = x[SEL_C].view, s->D = x[SEL_D].view, s->z = x[SEL_Z].view, s->delta_bias = x[SEL_BIAS].view;
    s->delta_A = x[SEL_DELTA_A].view, s->lambda = x[SEL_LAMBDA].view, s->h0 = fuzz_first_state(p, SEL_H0);
    s->y = fuzz_out(&x[FUZZ_Y]), s->h_last = fuzz_out(&x[FUZZ_LAST]), s->h = fuzz_out(&x[FUZZ_SHOWN]);
    CHECK_OK(ssm_selective_scan_sizes(s, &need));
    fuzz_forward(p, fuzz_selective_forward, need.work);
    fuzz_backward(p, fuzz_selective_backward, need.work_backward, gradients);
}

/*--- SSD ---*/

enum { SSD_X, SSD_DELTA, SSD_A, SSD_B, SSD_C, SSD_D, SSD_Z, SSD_BIAS, SSD_H0 };

static void fuzz_ssd_oracle(fuzz_problem *p)
{
    const ssm_ssd *s = &p->op.ssd;
    const fuzz_tensor *x = p->t;
    const size_t N = s->d_state;
    size_t b, c, t, n, first, end;
    for (b = 0; b < p->batch; ++b)
        for (c = 0; c < s->heads * s->headdim; ++c) {
            const size_t in = fuzz_rows_of(p, b, &first, &end), head = c / s->headdim;
            const size_t g = head / (s->heads / s->n_groups), state = fuzz_state_of(p, b);
            double h[20];
            if (fuzz_is_padding(p, b, s->heads * s->headdim, 0)) break;
            for (n = 0; n < N; ++n) h[n] = fuzz_get(&x[SSD_H0], state, 0, c, n, 0);
            for (t = first; t < end; ++t) {
                const double u = *fuzz_at(&x[SSD_X], in, t, c, 0);
                double dt = *fuzz_at(&x[SSD_DELTA], in, t, head, 0) + fuzz_get(&x[SSD_BIAS], 0, 0, head, 0, 0);
                double y = fuzz_get(&x[SSD_D], 0, 0, s->D_has_hdim ? c : head, 0, 0) * u;
                dt = fuzz_held(s->delta_softplus ? test_softplus(dt) : dt, s->delta_min, s->delta_max);
                for (n = 0; n < N; ++n) {
                    h[n] = exp(dt * *fuzz_at(&x[SSD_A], 0, 0, head, 0)) * h[n] + dt * *fuzz_at(&x[SSD_B], in, t, g, n) * u;
                    y += *fuzz_at(&x[SSD_C], in, t, g, n) * h[n];
                    p->magnitude = fmax(p->magnitude, fabs(h[n]) * (double)N);
                    if (x[FUZZ_SHOWN].data) *fuzz_at(&x[FUZZ_SHOWN], in, t, c, n) = h[n];
                }
                if (x[SSD_Z].data) y *= test_silu(*fuzz_at(&x[SSD_Z], in, t, c, 0));
                *fuzz_at(&x[FUZZ_Y], in, t, c, 0) = y;
            }
            for (n = 0; n < N; ++n) *fuzz_at(&x[FUZZ_LAST], state, 0, c, n) = h[n];
        }
}

static ssm_status fuzz_ssd_forward(const fuzz_problem *p, ssm_memory work)
{
    return fuzz_steps(p) && !work.bytes ? ssm_ssd_step(&p->op.ssd) : ssm_ssd_forward(&p->op.ssd, work);
}

static ssm_status fuzz_ssd_backward(const fuzz_problem *p, ssm_memory work)
{
    const fuzz_tensor *x = p->t;
    ssm_ssd_grad g = {0};
    g.dy = fuzz_weight(&x[FUZZ_Y]), g.dh_last = fuzz_weight(&x[FUZZ_LAST]);
    g.dx = fuzz_grad(&x[SSD_X]), g.ddelta = fuzz_grad(&x[SSD_DELTA]), g.dA = fuzz_grad(&x[SSD_A]);
    g.dB = fuzz_grad(&x[SSD_B]), g.dC = fuzz_grad(&x[SSD_C]), g.dD = fuzz_grad(&x[SSD_D]), g.dz = fuzz_grad(&x[SSD_Z]);
    g.ddelta_bias = fuzz_grad(&x[SSD_BIAS]), g.dh0 = fuzz_grad(&x[SSD_H0]);
    return ssm_ssd_backward(&p->op.ssd, &g, work);
}

static void fuzz_ssd(fuzz_problem *p, int gradients)
{
    const size_t G = fuzz_between(1, 2), H = G * fuzz_between(1, 3), P = fuzz_between(1, gradients ? 5 : 20);
    const size_t N = fuzz_between(1, 18), E = H * P;
    fuzz_tensor *x = p->t;
    ssm_ssd *s = &p->op.ssd;
    ssm_sizes need;
    size_t T, B;
    p->name = "ssd", p->oracle = fuzz_ssd_oracle;
    fuzz_extents(p, fuzz_most(gradients, fuzz_chance(4) ? 200 : 70));
    fuzz_streams(p, gradients);
    T = p->len, B = p->tensors;
    s->batch = p->batch, s->len = T, s->heads = H, s->headdim = P, s->d_state = N, s->n_groups = G, s->start = p->start;
    s->scan = (ssm_scan)fuzz_below(4), s->delta_softplus = (int)fuzz_below(2), s->D_has_hdim = (int)fuzz_below(2);
    s->slot = p->slot, s->isa = p->isa;
    fuzz_limits(gradients, &s->delta_min, &s->delta_max);
    fuzz_make(&x[SSD_X], "x", B, T, E, 1, FUZZ_BROADCAST, -1, 1);
    fuzz_make(&x[SSD_DELTA], "delta", B, T, H, 1, FUZZ_BROADCAST, 0.01, 1);
    fuzz_make(&x[SSD_A], "A", 1, 1, H, 1, FUZZ_BROADCAST, -2, -0.1);
    fuzz_make(&x[SSD_B], "B", B, T, G, N, FUZZ_BROADCAST, -1, 1);
    fuzz_make(&x[SSD_C], "C", B, T, G, N, FUZZ_BROADCAST, -1, 1);
    if (fuzz_chance(2)) fuzz_make(&x[SSD_D], "D", 1, 1, s->D_has_hdim ? E : H, 1, FUZZ_BROADCAST, -1, 1);
    if (fuzz_chance(2)) fuzz_make(&x[SSD_Z], "z", B, T, E, 1, FUZZ_BROADCAST, -2, 2);
    if (fuzz_chance(2)) fuzz_make(&x[SSD_BIAS], "delta_bias", 1, 1, H, 1, FUZZ_BROADCAST, 0, 0.5);
    fuzz_make_output(&x[FUZZ_Y], "y", B, T, E, 1, 0);
    fuzz_make_states(p, SSD_H0, E, N, 0);
    if (fuzz_chance(5)) fuzz_make_shown(p, E, N, 0);
    s->x = x[SSD_X].view, s->delta = x[SSD_DELTA].view, s->A = x[SSD_A].view, s->B = x[SSD_B].view, s->C = x[SSD_C].view;
    s->D = x[SSD_D].view, s->z = x[SSD_Z].view, s->delta_bias = x[SSD_BIAS].view, s->h0 = fuzz_first_state(p, SSD_H0);
    s->y = fuzz_out(&x[FUZZ_Y]), s->h_last = fuzz_out(&x[FUZZ_LAST]), s->h = fuzz_out(&x[FUZZ_SHOWN]);
    CHECK_OK(ssm_ssd_sizes(s, &need));
    fuzz_forward(p, fuzz_ssd_forward, need.work);
    fuzz_backward(p, fuzz_ssd_backward, need.work_backward, gradients);
}

/*--- the S5 scan ---*/

enum { S5_U, S5_DELTA, S5_DELTA_A, S5_A, S5_B, S5_C, S5_D, S5_H0 };

static void fuzz_s5_row(fuzz_problem *p, size_t in, size_t t, double _Complex *h)
{
    const ssm_s5_scan *s = &p->op.s5;
    const fuzz_tensor *x = p->t;
    size_t c, n;
    for (n = 0; n < s->d_state; ++n) {
        const double _Complex A = fuzz_complex(&x[S5_A], 1, 0, 0, 0, n);
        const double dt = *fuzz_at(&x[S5_DELTA], in, t, 0, n), dt_A = fuzz_get(&x[S5_DELTA_A], in, t, 0, n, dt);
        double _Complex a = cexp(dt_A * A), b = (cexp(dt * A) - 1) / A, v = 0;
        if (s->disc == SSM_DISC_BILINEAR) a = (1 + dt_A * A / 2) / (1 - dt_A * A / 2), b = dt / (1 - dt * A / 2);
        if (s->disc == SSM_DISC_EULER) b = dt;
        if (s->disc == SSM_DISC_DIRAC) b = 1;
        for (c = 0; c < s->dim; ++c)
            v += fuzz_complex(&x[S5_B], 1, 0, 0, c, n) * fuzz_complex(&x[S5_U], s->complex_input, in, t, c, 0);
        h[n] = a * h[n] + b * v;
        p->magnitude = fmax(p->magnitude, cabs(h[n]) * (double)s->d_state);
    }
    for (c = 0; c < s->dim; ++c) {
        double _Complex y = 0;
        for (n = 0; n < s->d_state; ++n) y += fuzz_complex(&x[S5_C], 1, 0, 0, c, n) * h[n];
        if (s->conj_sym) y = 2 * creal(y);
        y += fuzz_get(&x[S5_D], 0, 0, c, 0, 0) * fuzz_complex(&x[S5_U], s->complex_input, in, t, c, 0);
        fuzz_put_complex(&x[FUZZ_Y], s->complex_output, in, t, c, 0, y);
    }
}

static void fuzz_s5_oracle(fuzz_problem *p)
{
    const fuzz_tensor *x = p->t;
    size_t b, t, n, first, end;
    for (b = 0; b < p->batch; ++b) {
        const size_t in = fuzz_rows_of(p, b, &first, &end), state = fuzz_state_of(p, b);
        double _Complex h[20];
        if (fuzz_is_padding(p, b, p->op.s5.dim, p->op.s5.complex_output)) continue;
        for (n = 0; n < p->op.s5.d_state; ++n) h[n] = x[S5_H0].data ? fuzz_complex(&x[S5_H0], 1, state, 0, 0, n) : 0;
        for (t = first; t < end; ++t) fuzz_s5_row(p, in, t, h);
        for (n = 0; n < p->op.s5.d_state; ++n) fuzz_put_complex(&x[FUZZ_LAST], 1, state, 0, 0, n, h[n]);
    }
}

static ssm_status fuzz_s5_forward(const fuzz_problem *p, ssm_memory work)
{
    return fuzz_steps(p) ? ssm_s5_scan_step(&p->op.s5, work) : ssm_s5_scan_forward(&p->op.s5, work);
}

static ssm_status fuzz_s5_backward(const fuzz_problem *p, ssm_memory work)
{
    const fuzz_tensor *x = p->t;
    ssm_s5_scan_grad g = {0};
    g.dy = fuzz_weight(&x[FUZZ_Y]), g.dh_last = fuzz_weight(&x[FUZZ_LAST]);
    g.du = fuzz_grad(&x[S5_U]), g.ddelta = fuzz_grad(&x[S5_DELTA]), g.ddelta_A = fuzz_grad(&x[S5_DELTA_A]);
    g.dA = fuzz_grad(&x[S5_A]), g.dB = fuzz_grad(&x[S5_B]), g.dC = fuzz_grad(&x[S5_C]), g.dD = fuzz_grad(&x[S5_D]);
    g.dh0 = fuzz_grad(&x[S5_H0]);
    return ssm_s5_scan_backward(&p->op.s5, &g, work);
}

static void fuzz_s5(fuzz_problem *p, int gradients)
{
    const size_t C = fuzz_between(1, gradients ? 6 : 20), N = fuzz_between(1, 18);
    fuzz_tensor *x = p->t;
    ssm_s5_scan *s = &p->op.s5;
    ssm_sizes need;
    size_t T, B, i;
    p->name = "s5 scan", p->oracle = fuzz_s5_oracle;
    fuzz_extents(p, fuzz_most(gradients, 90));
    fuzz_streams(p, gradients);
    T = p->len, B = p->tensors;
    s->batch = p->batch, s->len = T, s->dim = C, s->d_state = N, s->start = p->start, s->disc = (ssm_disc)fuzz_below(5);
    s->slot = p->slot, s->isa = p->isa;
    s->complex_input = (int)fuzz_below(2), s->complex_output = (int)fuzz_below(2);
    s->conj_sym = !s->complex_output && fuzz_chance(2);
    fuzz_make(&x[S5_U], "u", B, T, C, 1, FUZZ_BROADCAST | (s->complex_input ? FUZZ_PAIRS : 0), -1, 1);
    fuzz_make(&x[S5_DELTA], "delta", B, T, 1, N, FUZZ_BROADCAST, 0.01, 0.5);
    if (fuzz_chance(4)) fuzz_make(&x[S5_DELTA_A], "delta_A", B, T, 1, N, FUZZ_BROADCAST, 0.01, 0.5);
    fuzz_make(&x[S5_A], "A", 1, 1, 1, N, FUZZ_BROADCAST | FUZZ_PAIRS, -2, -0.1);
    for (i = 1; i < x[S5_A].count; i += 2) x[S5_A].exact[i] = (double)(x[S5_A].data[i] *= -(ssm_real)1.5);
    fuzz_make(&x[S5_B], "B", 1, 1, C, N, FUZZ_BROADCAST | FUZZ_PAIRS, -1, 1);
    fuzz_make(&x[S5_C], "C", 1, 1, C, N, FUZZ_BROADCAST | FUZZ_PAIRS, -1, 1);
    if (fuzz_chance(2)) fuzz_make(&x[S5_D], "D", 1, 1, C, 1, FUZZ_BROADCAST, -1, 1);
    fuzz_make_output(&x[FUZZ_Y], "y", B, T, C, 1, s->complex_output ? FUZZ_PAIRS : 0);
    fuzz_make_states(p, S5_H0, 1, N, FUZZ_PAIRS);
    s->u = x[S5_U].view, s->delta = x[S5_DELTA].view, s->delta_A = x[S5_DELTA_A].view, s->A = x[S5_A].view;
    s->B = x[S5_B].view, s->C = x[S5_C].view, s->D = x[S5_D].view, s->h0 = fuzz_first_state(p, S5_H0);
    s->y = fuzz_out(&x[FUZZ_Y]), s->h_last = fuzz_out(&x[FUZZ_LAST]);
    CHECK_OK(ssm_s5_scan_sizes(s, &need));
    fuzz_forward(p, fuzz_s5_forward, fuzz_steps(p) ? need.work_step : need.work);
    fuzz_backward(p, fuzz_s5_backward, need.work_backward, gradients);
}

/*--- the linear scan ---*/

enum { LINE_A, LINE_B, LINE_H0 };

static void fuzz_line_oracle(fuzz_problem *p)
{
    const ssm_linear_scan *s = &p->op.line;
    const fuzz_tensor *x = p->t;
    const int pairs = s->complex_values;
    size_t b, c, t, first, end;
    for (b = 0; b < p->batch; ++b)
        for (c = 0; c < s->dim; ++c) {
            const size_t in = fuzz_rows_of(p, b, &first, &end), state = fuzz_state_of(p, b);
            double _Complex h = 0;
            if (fuzz_is_padding(p, b, s->dim, pairs)) break;
            if (x[LINE_H0].data) h = fuzz_complex(&x[LINE_H0], pairs, state, 0, c, 0);
            for (t = 0; t < end - first; ++t) {
                const size_t at = s->reverse ? end - 1 - t : first + t;
                h = fuzz_complex(&x[LINE_A], pairs, in, at, c, 0) * h + fuzz_complex(&x[LINE_B], pairs, in, at, c, 0);
                fuzz_put_complex(&x[FUZZ_Y], pairs, in, at, c, 0, h);
                p->magnitude = fmax(p->magnitude, cabs(h));
            }
            fuzz_put_complex(&x[FUZZ_LAST], pairs, state, 0, c, 0, h);
        }
}

static ssm_status fuzz_line_forward(const fuzz_problem *p, ssm_memory work)
{
    return ssm_linear_scan_forward(&p->op.line, work);
}

static ssm_status fuzz_line_backward(const fuzz_problem *p, ssm_memory work)
{
    const fuzz_tensor *x = p->t;
    ssm_linear_scan_grad g = {0};
    (void)work;
    g.dh = fuzz_weight(&x[FUZZ_Y]), g.dh_last = fuzz_weight(&x[FUZZ_LAST]);
    g.da = fuzz_grad(&x[LINE_A]), g.db = fuzz_grad(&x[LINE_B]), g.dh0 = fuzz_grad(&x[LINE_H0]);
    return ssm_linear_scan_backward(&p->op.line, &g);
}

static void fuzz_line(fuzz_problem *p, int gradients)
{
    const size_t C = fuzz_between(1, gradients ? 9 : 40);
    fuzz_tensor *x = p->t;
    ssm_linear_scan *s = &p->op.line;
    ssm_sizes need;
    size_t T, B;
    int pairs;
    p->name = "linear scan", p->oracle = fuzz_line_oracle;
    fuzz_extents(p, fuzz_most(gradients, fuzz_chance(10) ? 1500 : 100));
    fuzz_streams(p, gradients);
    T = p->len, B = p->tensors;
    s->batch = p->batch, s->len = T, s->dim = C, s->start = p->start, s->reverse = (int)fuzz_below(2);
    s->scan = (ssm_scan)fuzz_below(4), s->complex_values = (int)fuzz_below(2);
    s->slot = p->slot, s->isa = p->isa;
    pairs = s->complex_values ? FUZZ_PAIRS : 0;
    fuzz_make(&x[LINE_A], "a", B, T, C, 1, FUZZ_BROADCAST | pairs, pairs ? -0.65 : -0.95, pairs ? 0.65 : 0.95);
    fuzz_make(&x[LINE_B], "b", B, T, C, 1, FUZZ_BROADCAST | pairs, -1, 1);
    fuzz_make_output(&x[FUZZ_Y], "h", B, T, C, 1, pairs);
    fuzz_make_states(p, LINE_H0, C, 1, pairs);
    s->a = x[LINE_A].view, s->b = x[LINE_B].view, s->h0 = fuzz_first_state(p, LINE_H0);
    s->h = fuzz_out(&x[FUZZ_Y]), s->h_last = fuzz_out(&x[FUZZ_LAST]);
    CHECK_OK(ssm_linear_scan_sizes(s, &need));
    fuzz_forward(p, fuzz_line_forward, need.work);
    fuzz_backward(p, fuzz_line_backward, 0, gradients);
}

/*--- convolution ---*/

enum { CONV_X, CONV_WEIGHT, CONV_BIAS, CONV_STATE };

/* Row t of the line [state | x], from width - 1 rows before the sequence on. */
static double fuzz_conv_row(const fuzz_problem *p, size_t b, size_t c, size_t t)
{
    const size_t K = p->op.conv.width;
    size_t first, end;
    const size_t in = fuzz_rows_of(p, b, &first, &end);
    return t < K - 1 ? fuzz_get(&p->t[CONV_STATE], fuzz_state_of(p, b), 0, c, t, 0) : *fuzz_at(&p->t[CONV_X], in, first + t - (K - 1), c, 0);
}

static void fuzz_conv_oracle(fuzz_problem *p)
{
    const ssm_conv *s = &p->op.conv;
    const fuzz_tensor *x = p->t;
    const size_t K = s->width;
    size_t b, c, t, k, first, end;
    for (b = 0; b < p->batch; ++b)
        for (c = 0; c < s->dim; ++c) {
            const size_t in = fuzz_rows_of(p, b, &first, &end), state = fuzz_state_of(p, b);
            if (fuzz_is_padding(p, b, s->dim, 0)) break;
            for (t = 0; t < end - first; ++t) {
                double sum = fuzz_get(&x[CONV_BIAS], 0, 0, c, 0, 0);
                for (k = 0; k < K; ++k) sum += *fuzz_at(&x[CONV_WEIGHT], 0, 0, c, k) * fuzz_conv_row(p, b, c, t + k);
                *fuzz_at(&x[FUZZ_Y], in, first + t, c, 0) = s->silu ? test_silu(sum) : sum;
            }
            for (k = 0; k + 1 < K; ++k) *fuzz_at(&x[FUZZ_LAST], state, 0, c, k) = fuzz_conv_row(p, b, c, end - first + k);
        }
    p->magnitude = (double)K;
}

static ssm_status fuzz_conv_forward(const fuzz_problem *p, ssm_memory work)
{
    (void)work;
    return fuzz_steps(p) ? ssm_conv_step(&p->op.conv) : ssm_conv_forward(&p->op.conv);
}

static ssm_status fuzz_conv_backward(const fuzz_problem *p, ssm_memory work)
{
    const fuzz_tensor *x = p->t;
    ssm_conv_grad g = {0};
    (void)work;
    g.dy = fuzz_weight(&x[FUZZ_Y]), g.dstate_last = fuzz_weight(&x[FUZZ_LAST]), g.dx = fuzz_grad(&x[CONV_X]);
    g.dweight = fuzz_grad(&x[CONV_WEIGHT]), g.dbias = fuzz_grad(&x[CONV_BIAS]), g.dstate = fuzz_grad(&x[CONV_STATE]);
    return ssm_conv_backward(&p->op.conv, &g);
}

static void fuzz_conv(fuzz_problem *p, int gradients)
{
    const size_t C = fuzz_between(1, gradients ? 20 : 40), K = fuzz_between(1, 6);
    fuzz_tensor *x = p->t;
    ssm_conv *s = &p->op.conv;
    size_t T, B;
    p->name = "conv", p->oracle = fuzz_conv_oracle;
    fuzz_extents(p, 40);
    fuzz_streams(p, gradients);
    T = p->len, B = p->tensors;
    s->batch = p->batch, s->len = T, s->dim = C, s->width = K, s->start = p->start, s->silu = (int)fuzz_below(2);
    s->slot = p->slot, s->isa = p->isa;
    fuzz_make(&x[CONV_X], "x", B, T, C, 1, FUZZ_BROADCAST, -1, 1);
    fuzz_make(&x[CONV_WEIGHT], "weight", 1, 1, C, K, FUZZ_BROADCAST, -1, 1);
    if (fuzz_chance(2)) fuzz_make(&x[CONV_BIAS], "bias", 1, 1, C, 1, FUZZ_BROADCAST, -1, 1);
    fuzz_make_output(&x[FUZZ_Y], "y", B, T, C, 1, 0);
    fuzz_make_states(p, CONV_STATE, C, K - 1, 0);
    s->x = x[CONV_X].view, s->weight = x[CONV_WEIGHT].view, s->bias = x[CONV_BIAS].view, s->state = fuzz_first_state(p, CONV_STATE);
    s->y = fuzz_out(&x[FUZZ_Y]), s->state_last = fuzz_out(&x[FUZZ_LAST]);
    fuzz_forward(p, fuzz_conv_forward, 0);
    fuzz_backward(p, fuzz_conv_backward, 0, gradients);
}

/*--- rows ---*/

enum { ROW_X, ROW_WEIGHT, ROW_BIAS, ROW_Z, ROW_ADD };

static ssm_rows fuzz_row_view(const fuzz_tensor *x)
{
    return ssm_rows_of(x->data, x->view.time);
}

static ssm_rows_out fuzz_row_out(const fuzz_tensor *x, ssm_real *data)
{
    return ssm_rows_out_of(x->data ? data : NULL, x->view.time);
}

static void fuzz_linear_oracle(fuzz_problem *p)
{
    const ssm_linear *l = &p->op.linear;
    size_t r, i, o;
    for (r = 0; r < p->len; ++r)
        for (o = 0; o < l->out; ++o) {
            double sum = fuzz_get(&p->t[ROW_BIAS], 0, 0, o, 0, 0);
            for (i = 0; i < l->in; ++i)
                sum += *fuzz_at(&p->t[ROW_WEIGHT], 0, o, i, 0) * *fuzz_at(&p->t[ROW_X], 0, r, i, 0);
            *fuzz_at(&p->t[FUZZ_Y], 0, r, o, 0) = sum;
        }
    p->magnitude = (double)l->in;
}

static void fuzz_linear(fuzz_problem *p, int gradients)
{
    const size_t R = p->len = fuzz_between(1, 20), I = fuzz_between(1, 50), O = fuzz_between(1, 50);
    fuzz_tensor *x = p->t;
    ssm_linear *l = &p->op.linear;
    p->name = "linear", p->oracle = fuzz_linear_oracle;
    fuzz_make(&x[ROW_X], "x", 1, R, I, 1, FUZZ_ROWS | FUZZ_BROADCAST, -1, 1);
    fuzz_make(&x[ROW_WEIGHT], "weight", 1, O, I, 1, FUZZ_DENSE, -1, 1);
    if (fuzz_chance(2)) fuzz_make(&x[ROW_BIAS], "bias", 1, 1, O, 1, FUZZ_DENSE, -1, 1);
    fuzz_make_output(&x[FUZZ_Y], "y", 1, R, O, 1, FUZZ_ROWS);
    l->in = I, l->out = O, l->isa = p->isa, l->weight = x[ROW_WEIGHT].data, l->bias = x[ROW_BIAS].data;
    CHECK_OK(ssm_linear_forward(l, fuzz_row_view(&x[ROW_X]), fuzz_row_out(&x[FUZZ_Y], x[FUZZ_Y].data), R));
    fuzz_check_outputs(p);
    if (!gradients) return;
    CHECK_OK(ssm_linear_backward(l, fuzz_row_view(&x[ROW_X]), ssm_rows_of(x[FUZZ_Y].grad, x[FUZZ_Y].view.time),
                                 fuzz_row_out(&x[ROW_X], x[ROW_X].grad), x[ROW_WEIGHT].grad, x[ROW_BIAS].grad, R));
    fuzz_check_gradients(p);
}

static void fuzz_norm_oracle(fuzz_problem *p)
{
    const size_t I = p->op.norm.dim;
    size_t r, i;
    for (r = 0; r < p->len; ++r) {
        double square = 0;
        for (i = 0; i < I; ++i) square += pow(*fuzz_at(&p->t[ROW_X], 0, r, i, 0), 2);
        for (i = 0; i < I; ++i)
            *fuzz_at(&p->t[FUZZ_Y], 0, r, i, 0) = *fuzz_at(&p->t[ROW_X], 0, r, i, 0) / sqrt(square / (double)I + 0.01) *
                                                  *fuzz_at(&p->t[ROW_WEIGHT], 0, 0, i, 0);
    }
    p->magnitude = 8;
}

static void fuzz_norm(fuzz_problem *p, int gradients)
{
    const size_t R = p->len = fuzz_between(1, 20), I = fuzz_between(1, 50);
    fuzz_tensor *x = p->t;
    ssm_norm *s = &p->op.norm;
    p->name = "norm", p->oracle = fuzz_norm_oracle;
    fuzz_make(&x[ROW_X], "x", 1, R, I, 1, FUZZ_ROWS | FUZZ_BROADCAST, -1, 1);
    fuzz_make(&x[ROW_WEIGHT], "weight", 1, 1, I, 1, FUZZ_DENSE, -1, 1);
    fuzz_make_output(&x[FUZZ_Y], "y", 1, R, I, 1, FUZZ_ROWS);
    s->dim = I, s->weight = x[ROW_WEIGHT].data, s->eps = (ssm_real)0.01, s->isa = p->isa;
    CHECK_OK(ssm_norm_forward(s, fuzz_row_view(&x[ROW_X]), fuzz_row_out(&x[FUZZ_Y], x[FUZZ_Y].data), R));
    fuzz_check_outputs(p);
    if (!gradients) return;
    CHECK_OK(ssm_norm_backward(s, fuzz_row_view(&x[ROW_X]), ssm_rows_of(x[FUZZ_Y].grad, x[FUZZ_Y].view.time),
                               fuzz_row_out(&x[ROW_X], x[ROW_X].grad), x[ROW_WEIGHT].grad, R));
    fuzz_check_gradients(p);
}

static void fuzz_layer_norm_oracle(fuzz_problem *p)
{
    const size_t I = p->op.layer_norm.dim;
    size_t r, i;
    for (r = 0; r < p->len; ++r) {
        double mean = 0, square = 0;
        for (i = 0; i < I; ++i) mean += *fuzz_at(&p->t[ROW_X], 0, r, i, 0) / (double)I;
        for (i = 0; i < I; ++i) square += pow(*fuzz_at(&p->t[ROW_X], 0, r, i, 0) - mean, 2);
        for (i = 0; i < I; ++i)
            *fuzz_at(&p->t[FUZZ_Y], 0, r, i, 0) =
                (*fuzz_at(&p->t[ROW_X], 0, r, i, 0) - mean) / sqrt(square / (double)I + 0.01) *
                    *fuzz_at(&p->t[ROW_WEIGHT], 0, 0, i, 0) + fuzz_get(&p->t[ROW_BIAS], 0, 0, i, 0, 0);
    }
    p->magnitude = 8;
}

static ssm_status fuzz_layer_norm_backward(const fuzz_problem *p, ssm_memory work)
{
    const fuzz_tensor *x = p->t;
    ssm_layer_norm_grad g = {{0}};
    g.dy = ssm_rows_of(x[FUZZ_Y].grad, x[FUZZ_Y].view.time), g.dx = fuzz_row_out(&x[ROW_X], x[ROW_X].grad);
    g.dweight = x[ROW_WEIGHT].grad, g.dbias = x[ROW_BIAS].grad;
    return ssm_layer_norm_backward(&p->op.layer_norm, fuzz_row_view(&x[ROW_X]), &g, p->len, work);
}

static void fuzz_layer_norm(fuzz_problem *p, int gradients)
{
    const size_t R = p->len = fuzz_between(1, fuzz_chance(4) ? 300 : 20), I = fuzz_between(1, 50);
    fuzz_tensor *x = p->t;
    ssm_layer_norm *s = &p->op.layer_norm;
    ssm_sizes need;
    p->name = "layer norm", p->oracle = fuzz_layer_norm_oracle;
    fuzz_make(&x[ROW_X], "x", 1, R, I, 1, FUZZ_ROWS | FUZZ_BROADCAST, -1, 1);
    fuzz_make(&x[ROW_WEIGHT], "weight", 1, 1, I, 1, FUZZ_DENSE, -1, 1);
    if (fuzz_chance(2)) fuzz_make(&x[ROW_BIAS], "bias", 1, 1, I, 1, FUZZ_DENSE, -1, 1);
    fuzz_make_output(&x[FUZZ_Y], "y", 1, R, I, 1, FUZZ_ROWS);
    s->dim = I, s->weight = x[ROW_WEIGHT].data, s->bias = x[ROW_BIAS].data, s->eps = (ssm_real)0.01, s->isa = p->isa;
    CHECK_OK(ssm_layer_norm_sizes(s, R, &need));
    CHECK_OK(ssm_layer_norm_forward(s, fuzz_row_view(&x[ROW_X]), fuzz_row_out(&x[FUZZ_Y], x[FUZZ_Y].data), R));
    fuzz_check_outputs(p);
    fuzz_backward(p, fuzz_layer_norm_backward, need.work_backward, gradients);
}

/*--- embedding ---*/

static void fuzz_embedding_oracle(fuzz_problem *p)
{
    size_t r, i;
    for (r = 0; r < p->len; ++r)
        for (i = 0; i < p->op.embedding.dim; ++i)
            *fuzz_at(&p->t[FUZZ_Y], 0, r, i, 0) =
                p->token[r] < 0 ? 0 : *fuzz_at(&p->t[ROW_WEIGHT], 0, (size_t)p->token[r], i, 0);
    p->magnitude = 1;
}

static ssm_status fuzz_embedding_forward(const fuzz_problem *p, ssm_memory work)
{
    const fuzz_tensor *y = &p->t[FUZZ_Y];
    (void)work;
    return ssm_embedding_forward(&p->op.embedding, p->token, fuzz_row_out(y, y->data), p->len);
}

static ssm_status fuzz_embedding_backward(const fuzz_problem *p, ssm_memory work)
{
    const fuzz_tensor *y = &p->t[FUZZ_Y];
    (void)work;
    return ssm_embedding_backward(&p->op.embedding, p->token, ssm_rows_of(y->grad, y->view.time), p->t[ROW_WEIGHT].grad,
                                  p->len);
}

static void fuzz_embedding(fuzz_problem *p, int gradients)
{
    const size_t R = p->len = fuzz_between(1, TEST_COUNT(p->token)), V = fuzz_between(1, 30), I = fuzz_between(1, 50);
    const size_t at = fuzz_below(R);
    ssm_embedding *e = &p->op.embedding;
    size_t r;
    int token;
    p->name = "embedding", p->oracle = fuzz_embedding_oracle;
    for (r = 0; r < R; ++r) p->token[r] = fuzz_chance(6) ? -1 - (int)fuzz_below(3) : (int)fuzz_below(V);
    fuzz_make(&p->t[ROW_WEIGHT], "weight", 1, V, I, 1, FUZZ_DENSE, -1, 1);
    fuzz_make_output(&p->t[FUZZ_Y], "y", 1, R, I, 1, FUZZ_ROWS);
    e->count = V, e->dim = I, e->weight = p->t[ROW_WEIGHT].data, e->isa = p->isa;
    token = p->token[at];
    p->token[at] = (int)(V + fuzz_below(300)); /* beyond the table */
    fuzz_refused(p, fuzz_embedding_forward, ssm_memory_of(NULL, 0), SSM_ERR_SHAPE, 0);
    fuzz_refused(p, fuzz_embedding_backward, ssm_memory_of(NULL, 0), SSM_ERR_SHAPE, 1);
    p->token[at] = token;
    fuzz_forward(p, fuzz_embedding_forward, 0);
    fuzz_backward(p, fuzz_embedding_backward, 0, gradients);
}

/*--- operations on rows ---*/

static void fuzz_row_oracle(fuzz_problem *p)
{
    const ssm_rowop *op = &p->op.row;
    size_t r, i;
    for (r = 0; r < p->len; ++r)
        for (i = 0; i < op->dim; ++i) {
            const double v = *fuzz_at(&p->t[ROW_X], 0, r, i, 0), z = fuzz_get(&p->t[ROW_Z], 0, r, i, 0, 0);
            const double inner = 0.7978845608028654 * (v + 0.044715 * v * v * v);
            const double scale = fuzz_get(&p->t[ROW_WEIGHT], 0, 0, i, 0, 0);
            const double kinds[8] = {v, scale * v, 1 / (1 + exp(-v)), test_silu(v), v * 0.5 * erfc(-v / sqrt(2)),
                                     v * (1 + tanh(inner)) / 2, v * test_silu(z), v / (1 + exp(-z))};
            *fuzz_at(&p->t[FUZZ_Y], 0, r, i, 0) = kinds[op->kind] + fuzz_get(&p->t[ROW_ADD], 0, r, i, 0, 0);
        }
    p->magnitude = 4;
}

static void fuzz_row(fuzz_problem *p, int gradients)
{
    const size_t R = p->len = fuzz_between(1, 20), I = fuzz_between(1, 50);
    fuzz_tensor *x = p->t;
    ssm_rowop *op = &p->op.row;
    ssm_rowop_grad g = {{0}};
    p->name = "row operation", p->oracle = fuzz_row_oracle;
    op->kind = (ssm_rowop_kind)fuzz_below(8);
    fuzz_make(&x[ROW_X], "x", 1, R, I, 1, FUZZ_ROWS | FUZZ_BROADCAST, -3, 3);
    if (op->kind == SSM_ROW_SCALE) fuzz_make(&x[ROW_WEIGHT], "scale", 1, 1, I, 1, FUZZ_DENSE, -1, 1);
    if (op->kind == SSM_ROW_GATE || op->kind == SSM_ROW_GLU)
        fuzz_make(&x[ROW_Z], "z", 1, R, I, 1, FUZZ_ROWS | FUZZ_BROADCAST, -3, 3);
    if (fuzz_chance(3)) fuzz_make(&x[ROW_ADD], "add", 1, R, I, 1, FUZZ_ROWS | FUZZ_BROADCAST, -1, 1);
    fuzz_make_output(&x[FUZZ_Y], "y", 1, R, I, 1, FUZZ_ROWS);
    op->rows = R, op->dim = I, op->x = fuzz_row_view(&x[ROW_X]), op->z = fuzz_row_view(&x[ROW_Z]);
    op->add = fuzz_row_view(&x[ROW_ADD]), op->scale = x[ROW_WEIGHT].data;
    op->y = fuzz_row_out(&x[FUZZ_Y], x[FUZZ_Y].data), op->isa = p->isa;
    CHECK_OK(ssm_row_forward(op));
    fuzz_check_outputs(p);
    if (!gradients) return;
    g.dy = ssm_rows_of(x[FUZZ_Y].grad, x[FUZZ_Y].view.time), g.dx = fuzz_row_out(&x[ROW_X], x[ROW_X].grad);
    g.dz = fuzz_row_out(&x[ROW_Z], x[ROW_Z].grad), g.dadd = fuzz_row_out(&x[ROW_ADD], x[ROW_ADD].grad);
    g.dscale = x[ROW_WEIGHT].grad;
    CHECK_OK(ssm_row_backward(op, &g));
    fuzz_check_gradients(p);
}

/*--- losses: y [rows] and the mean; the gradient is that of the mean ---*/

static void fuzz_loss_open(fuzz_problem *p, size_t R, size_t I)
{
    size_t r;
    p->len = R;
    fuzz_make(&p->t[ROW_X], "x", 1, R, I, 1, FUZZ_ROWS | FUZZ_BROADCAST, -3, 3);
    fuzz_make_output(&p->t[FUZZ_Y], "losses", 1, R, 1, 1, FUZZ_DENSE);
    fuzz_make_output(&p->t[FUZZ_LAST], "mean", 1, 1, 1, 1, FUZZ_DENSE);
    for (r = 0; r < R; ++r) p->t[FUZZ_Y].grad[r] = 0; /* backward has no gradient of losses */
}

static void fuzz_entropy_oracle(fuzz_problem *p)
{
    const ssm_cross_entropy *s = &p->op.entropy;
    const double smoothing = (double)s->smoothing;
    double mean = 0, counted = 0;
    size_t r, i;
    for (r = 0; r < s->rows; ++r) {
        double sum = 0, loss = 0;
        for (i = 0; i < s->dim; ++i) sum += exp(*fuzz_at(&p->t[ROW_X], 0, r, i, 0));
        for (i = 0; i < s->dim && s->label[r] >= 0; ++i)
            loss += ((1 - smoothing) * (i == (size_t)s->label[r]) + smoothing / (double)s->dim) *
                    (log(sum) - *fuzz_at(&p->t[ROW_X], 0, r, i, 0));
        *fuzz_at(&p->t[FUZZ_Y], 0, r, 0, 0) = loss;
        mean += loss;
        counted += s->label[r] >= 0;
    }
    *fuzz_at(&p->t[FUZZ_LAST], 0, 0, 0, 0) = counted > 0 ? mean / counted : 0;
    p->magnitude = 4;
}

static void fuzz_entropy(fuzz_problem *p, int gradients)
{
    const size_t R = fuzz_between(1, 20), I = fuzz_between(1, 50);
    fuzz_tensor *x = p->t;
    ssm_cross_entropy *s = &p->op.entropy;
    int label[20];
    size_t r;
    p->name = "cross entropy", p->oracle = fuzz_entropy_oracle;
    fuzz_loss_open(p, R, I);
    for (r = 0; r < R; ++r) label[r] = fuzz_chance(6) ? -1 - (int)fuzz_below(3) : (int)fuzz_below(I);
    s->rows = R, s->dim = I, s->x = fuzz_row_view(&x[ROW_X]), s->label = label;
    s->smoothing = (ssm_real)(fuzz_chance(2) ? 0 : 0.1), s->isa = p->isa;
    CHECK_OK(ssm_cross_entropy_forward(s, x[FUZZ_Y].data, x[FUZZ_LAST].data));
    fuzz_check_outputs(p);
    if (!gradients) return;
    CHECK_OK(ssm_cross_entropy_backward(s, x[FUZZ_LAST].grad[0], fuzz_row_out(&x[ROW_X], x[ROW_X].grad)));
    fuzz_check_gradients(p);
}

static void fuzz_mse_oracle(fuzz_problem *p)
{
    const ssm_mse *s = &p->op.mse;
    const double beta = (double)s->beta;
    double mean = 0, weights = 0;
    size_t r, i;
    for (r = 0; r < s->rows; ++r) {
        double loss = 0;
        for (i = 0; i < s->dim; ++i) {
            const double e = *fuzz_at(&p->t[ROW_X], 0, r, i, 0) - *fuzz_at(&p->fixed[0], 0, r, i, 0);
            const double w = fuzz_get(&p->fixed[1], 0, r, i, 0, 1);
            loss += w * (beta <= 0 ? e * e : fabs(e) < beta ? e * e / (2 * beta) : fabs(e) - beta / 2);
            weights += w;
        }
        *fuzz_at(&p->t[FUZZ_Y], 0, r, 0, 0) = loss;
        mean += loss;
        p->magnitude = fmax(p->magnitude, loss);
    }
    *fuzz_at(&p->t[FUZZ_LAST], 0, 0, 0, 0) = weights > 0 ? mean / weights : 0;
}

static void fuzz_mse(fuzz_problem *p, int gradients)
{
    const size_t R = fuzz_between(1, 20), I = fuzz_between(1, 50);
    fuzz_tensor *x = p->t, *target = &p->fixed[0], *weight = &p->fixed[1];
    ssm_mse *s = &p->op.mse;
    p->name = "squared error", p->oracle = fuzz_mse_oracle;
    fuzz_loss_open(p, R, I);
    fuzz_make(target, "target", 1, R, I, 1, FUZZ_ROWS | FUZZ_BROADCAST, -3, 3);
    if (fuzz_chance(2)) fuzz_make(weight, "weight", 1, R, I, 1, FUZZ_ROWS | FUZZ_BROADCAST, 0, 1);
    s->rows = R, s->dim = I, s->x = fuzz_row_view(&x[ROW_X]), s->target = fuzz_row_view(target);
    s->weight = fuzz_row_view(weight), s->beta = (ssm_real)(fuzz_chance(2) ? 0 : 0.5), s->isa = p->isa;
    CHECK_OK(ssm_mse_forward(s, x[FUZZ_Y].data, x[FUZZ_LAST].data));
    fuzz_check_outputs(p);
    if (!gradients) return;
    CHECK_OK(ssm_mse_backward(s, x[FUZZ_LAST].grad[0], fuzz_row_out(&x[ROW_X], x[ROW_X].grad)));
    fuzz_check_gradients(p);
}

static void fuzz_mean_oracle(fuzz_problem *p)
{
    size_t b, c, t, first, end;
    for (b = 0; b < p->batch; ++b)
        for (c = 0; c < p->op.mean.dim; ++c) {
            const size_t in = fuzz_rows_of(p, b, &first, &end);
            double sum = 0;
            for (t = first; t < end; ++t) sum += *fuzz_at(&p->t[ROW_X], 0, in * p->len + t, c, 0);
            *fuzz_at(&p->t[FUZZ_Y], 0, b, c, 0) = end > first ? sum / (double)(end - first) : 0;
        }
    p->magnitude = 3;
}

static void fuzz_mean(fuzz_problem *p, int gradients)
{
    const size_t I = fuzz_between(1, 50);
    fuzz_tensor *x = p->t;
    ssm_mean *s = &p->op.mean;
    p->name = "mean", p->oracle = fuzz_mean_oracle;
    fuzz_extents(p, 40);
    fuzz_make(&x[ROW_X], "x", 1, p->tensors * p->len, I, 1, FUZZ_ROWS | FUZZ_BROADCAST, -1, 1);
    fuzz_make_output(&x[FUZZ_Y], "y", 1, p->batch, I, 1, FUZZ_ROWS);
    s->batch = p->batch, s->len = p->len, s->dim = I, s->start = p->start, s->isa = p->isa;
    CHECK_OK(ssm_mean_forward(s, fuzz_row_view(&x[ROW_X]), fuzz_row_out(&x[FUZZ_Y], x[FUZZ_Y].data)));
    fuzz_check_outputs(p);
    if (!gradients) return;
    CHECK_OK(ssm_mean_backward(s, ssm_rows_of(x[FUZZ_Y].grad, x[FUZZ_Y].view.time),
                               fuzz_row_out(&x[ROW_X], x[ROW_X].grad)));
    fuzz_check_gradients(p);
}

static void fuzz_input(void)
{
    static void (*const ops[])(fuzz_problem *p, int gradients) = {
        fuzz_selective, fuzz_ssd,        fuzz_s5,        fuzz_line, fuzz_conv,    fuzz_linear,
        fuzz_norm,      fuzz_layer_norm, fuzz_embedding, fuzz_row,  fuzz_entropy, fuzz_mse,
        fuzz_mean};
    fuzz_problem p;
    memset(&p, 0, sizeof p);
    p.isa = (ssm_isa)fuzz_below((size_t)ssm_isa_count());
    if (!ssm_isa_available(p.isa)) p.isa = SSM_ISA_BEST;
    ops[fuzz_below(TEST_COUNT(ops))](&p, fuzz_chance(2));
    fuzz_close(&p);
}
