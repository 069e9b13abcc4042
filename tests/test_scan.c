/* test_scan.c - the linear scan: every algorithm against a double-precision recurrence, the carry
 * operator, gradients, and work shared out in any order. Names: scan/... */

/* One problem with its data: dense [batch][len][dim] values, pairs if complex. */
typedef struct scan_problem {
    ssm_linear_scan s;
    size_t width;
    size_t count; /* reals of a, b, h */
    size_t states;
    ssm_real *a, *b, *h, *h0, *last;
    ssm_memory work;
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
    p->work = ssm_memory_of(test_alloc(need.work, 3), need.work);
}

static void scan_close(scan_problem *p)
{
    test_free(p->a, 0);
    test_free(p->b, 0);
    test_free(p->h, 0);
    test_free(p->h0, 0);
    test_free(p->last, 0);
    test_free(p->work.data, 3);
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
    CHECK_OK(ssm_linear_scan_forward(&p.s, p.work));
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
    CHECK_OK(ssm_linear_scan_forward(&p.s, p.work));
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
            CHECK_OK(ssm_linear_scan_forward(&p.s, p.work));
            want = test_copy(p.h, p.count);
            for (k = 0; k < 4; ++k) {
                test_pool pool = {strides[k], 0};
                const ssm_parallel parallel = {test_pool_run, &pool};
                p.s.parallel = &parallel;
                memset(p.h, 0, p.count * sizeof *p.h);
                CHECK_OK(ssm_linear_scan_forward(&p.s, p.work));
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
        CHECK_OK(ssm_linear_scan_forward(&p.s, ssm_memory_of(NULL, 0)));
        want = test_copy(p.h, p.count);
        want_last = test_copy(p.last, p.states);
        state = test_zeros(3 * p.states);
        for (k = 0; k <= LEN; k += 16) { /* split */
            part = p.s;
            part.len = k;
            CHECK_OK(ssm_linear_scan_forward(&part, ssm_memory_of(NULL, 0)));
            part.len = LEN - k;
            part.a.data += k * DIM * p.width;
            part.b.data += k * DIM * p.width;
            part.h.data += k * DIM * p.width;
            part.h0.data = p.last;
            CHECK_OK(ssm_linear_scan_forward(&part, ssm_memory_of(NULL, 0)));
            CHECK_SAME(p.h, want, p.count);
            CHECK_SAME(p.last, want_last, p.states);
        }
        part = p.s; /* packed = each alone */
        part.batch = 3;
        part.start = start;
        part.h0.data = NULL;
        part.h_last.data = state;
        CHECK_OK(ssm_linear_scan_forward(&part, ssm_memory_of(NULL, 0)));
        memcpy(want, p.h, p.count * sizeof *want);
        for (b = 0; b < 3; ++b) {
            ssm_linear_scan alone = p.s;
            alone.len = start[b + 1] - start[b];
            alone.a.data += start[b] * DIM * p.width;
            alone.b.data += start[b] * DIM * p.width;
            alone.h.data += start[b] * DIM * p.width;
            alone.h0.data = NULL;
            CHECK_OK(ssm_linear_scan_forward(&alone, ssm_memory_of(NULL, 0)));
            CHECK_SAME(p.last, state + b * p.states, p.states);
        }
        CHECK_SAME(p.h, want, p.count);
        part.h.data = p.b; /* in place */
        CHECK_OK(ssm_linear_scan_forward(&part, ssm_memory_of(NULL, 0)));
        CHECK_SAME(p.b, want, p.count);
        test_free(want, 0);
        test_free(want_last, 0);
        test_free(state, 0);
        scan_close(&p);
    }
}

/* --- gradients: any layout of any tensor, against difference quotients of a loss in double --- */
enum { /* how a tensor lies in memory */
    SCAN_DENSE,
    SCAN_PADDED,
    SCAN_TIME_MAJOR, /* [t][b][c] */
    SCAN_BACKWARDS,  /* negative strides in time and channels */
    SCAN_ONE_STEP,   /* the rest broadcasts: one value for all steps, */
    SCAN_ONE_CHANNEL,
    SCAN_ONE_SEQUENCE,
    SCAN_ONE, /* for everything */
    SCAN_ABSENT
};

typedef struct scan_case {
    const char *name;
    size_t batch, len, dim;
    const size_t *start;
    int a, b, h0, h, dh, dlast; /* layouts */
    int in_place;               /* h lies in b (1) or in a (2) */
    int shared;                 /* channels or sequences meet in one gradient: not to be shared out */
} scan_case;

static const size_t scan_starts[] = {0, 4, 4, 5, 9};

static const scan_case scan_case_list[] = {
    {.name = "dense", .batch = 2, .len = 9, .dim = 3},
    {.name = "no state", .batch = 2, .len = 9, .dim = 3, .h0 = SCAN_ABSENT, .dlast = SCAN_ABSENT},
    {.name = "no last", .batch = 2, .len = 9, .dim = 3, .dlast = SCAN_ABSENT},
    {.name = "empty", .batch = 2, .len = 0, .dim = 3},
    {.name = "one step", .batch = 2, .len = 1, .dim = 3},
    {.name = "one step, no h0", .batch = 2, .len = 1, .dim = 3, .h0 = SCAN_ABSENT},
    {.name = "one channel", .batch = 1, .len = 9, .dim = 1},
    {.name = "wide", .batch = 1, .len = 3, .dim = SSM__PANEL + 1},
    {.name = "padded", .batch = 2, .len = 5, .dim = 3, .a = SCAN_PADDED, .b = SCAN_PADDED, .h0 = SCAN_PADDED,
            .h = SCAN_PADDED, .dh = SCAN_PADDED, .dlast = SCAN_PADDED},
    {.name = "mixed", .batch = 2, .len = 5, .dim = 3, .a = SCAN_TIME_MAJOR, .b = SCAN_BACKWARDS, .h0 = SCAN_BACKWARDS,
            .h = SCAN_PADDED, .dh = SCAN_TIME_MAJOR, .dlast = SCAN_PADDED},
    {.name = "packed", .batch = 4, .len = 9, .dim = 3, .start = scan_starts},
    {.name = "packed, strided", .batch = 4, .len = 9, .dim = 3, .start = scan_starts, .a = SCAN_BACKWARDS,
            .b = SCAN_PADDED, .h0 = SCAN_PADDED, .h = SCAN_BACKWARDS, .dh = SCAN_PADDED, .dlast = SCAN_BACKWARDS},
    {.name = "packed, no h0", .batch = 4, .len = 9, .dim = 2, .start = scan_starts, .h0 = SCAN_ABSENT},
    {.name = "packed, constant a", .batch = 4, .len = 9, .dim = 3, .start = scan_starts, .a = SCAN_ONE_STEP,
            .shared = 1},
    {.name = "constant a", .batch = 1, .len = 9, .dim = 3, .a = SCAN_ONE_STEP},
    {.name = "constant a and b", .batch = 2, .len = 9, .dim = 3, .a = SCAN_ONE_STEP, .b = SCAN_ONE_STEP,
            .dh = SCAN_ONE},
    {.name = "channels in one", .batch = 2, .len = 5, .dim = 3, .a = SCAN_ONE_CHANNEL, .b = SCAN_ONE_CHANNEL,
            .h0 = SCAN_ONE_CHANNEL, .dlast = SCAN_ONE_CHANNEL, .shared = 1},
    {.name = "sequences in one", .batch = 3, .len = 5, .dim = 2, .a = SCAN_ONE_SEQUENCE, .b = SCAN_ONE_SEQUENCE,
            .h0 = SCAN_ONE_SEQUENCE, .dlast = SCAN_ONE_SEQUENCE, .shared = 1},
    {.name = "all in one", .batch = 3, .len = 5, .dim = 2, .a = SCAN_ONE, .b = SCAN_ONE, .h0 = SCAN_ONE, .shared = 1},
    {.name = "packed, h0 in one", .batch = 4, .len = 9, .dim = 2, .start = scan_starts, .h0 = SCAN_ONE_SEQUENCE,
            .shared = 1},
    {.name = "in place of b", .batch = 2, .len = 9, .dim = 3, .b = SCAN_PADDED, .in_place = 1},
    {.name = "in place of a", .batch = 2, .len = 9, .dim = 3, .in_place = 2},
    {.name = "packed, in place of b", .batch = 4, .len = 9, .dim = 3, .start = scan_starts, .in_place = 1},
};
#define SCAN_CASES (sizeof scan_case_list / sizeof scan_case_list[0])

typedef struct scan_tensor {
    ssm_real *data;
    size_t count;
    size_t offset; /* of element (0, 0, 0) */
    ssm_in view;
} scan_tensor;

/* [batch][len][dim] values of `width` reals in some layout, normal random numbers. */
static scan_tensor scan_tensor_make(int layout, size_t batch, size_t len, size_t dim, size_t width, ssm_rng *rng,
                                    double scale)
{
    const size_t gap = layout == SCAN_PADDED;
    const size_t chan = layout == SCAN_ONE || layout == SCAN_ONE_CHANNEL ? 0 : width + gap;
    const size_t row = chan ? dim * chan + 2 * gap : width; /* reals of one step */
    const size_t steps = layout == SCAN_ONE || layout == SCAN_ONE_STEP ? 1 : len;
    const size_t seqs = layout == SCAN_ONE || layout == SCAN_ONE_SEQUENCE ? 1 : batch;
    scan_tensor v = {0};
    if (layout == SCAN_ABSENT) return v;
    v.count = seqs * steps * row;
    v.view.chan = (ptrdiff_t)chan;
    v.view.time = steps == len ? (ptrdiff_t)row : 0;
    v.view.batch = seqs == batch ? (ptrdiff_t)(steps * row) : 0;
    if (layout == SCAN_TIME_MAJOR) {
        v.view.time = (ptrdiff_t)(batch * row);
        v.view.batch = (ptrdiff_t)row;
    }
    if (layout == SCAN_BACKWARDS) {
        v.view.chan = -v.view.chan;
        v.view.time = -v.view.time;
        v.offset = (len ? len - 1 : 0) * row + (dim - 1) * chan;
    }
    v.data = test_normal(rng, v.count, scale);
    v.view.data = v.data + v.offset;
    return v;
}

/* A copy of a tensor, in the same layout. */
static scan_tensor scan_tensor_copy(const scan_tensor *from)
{
    scan_tensor v = *from;
    if (!from->data) return v;
    v.data = test_copy(from->data, from->count);
    v.view.data = v.data + v.offset;
    return v;
}

static void scan_tensor_drop(scan_tensor *v)
{
    if (v->data) test_free(v->data, 0);
}

static double *scan_doubles(const scan_tensor *v)
{
    double *x = (double *)malloc(v->count * sizeof *x + 1);
    size_t i;
    for (i = 0; i < v->count; ++i) x[i] = (double)v->data[i];
    return x;
}

typedef struct scan_gradient {
    scan_case c;
    size_t width;
    ssm_linear_scan s;
    scan_tensor a, b, h0, h, last, dh, dlast;
    scan_tensor da, db, dh0; /* what backward adds to */
    double *xa, *xb, *xh0;   /* a, b and h0 for the loss */
    double *xdh, *xdlast;
} scan_gradient;

static void scan_gradient_open(scan_gradient *p, const scan_case *c, int pairs, int reverse)
{
    const size_t W = pairs ? 2 : 1, rows = c->start ? 1 : c->batch; /* packed: one tensor of len rows */
    ssm_rng rng = {test_seed};
    size_t i;
    memset(p, 0, sizeof *p);
    p->c = *c;
    p->width = W;
    p->a = scan_tensor_make(c->a, rows, c->len, c->dim, W, &rng, 0.4);
    for (i = 0; i < p->a.count; ++i)
        if (p->a.data[i] > (ssm_real)0.7 || p->a.data[i] < (ssm_real)-0.7) p->a.data[i] = (ssm_real)0.625;
    p->b = scan_tensor_make(c->b, rows, c->len, c->dim, W, &rng, 1);
    p->h0 = scan_tensor_make(c->h0, c->batch, 1, c->dim, W, &rng, 1);
    p->h = scan_tensor_make(c->h, rows, c->len, c->dim, W, &rng, 1);
    p->last = scan_tensor_make(SCAN_DENSE, c->batch, 1, c->dim, W, &rng, 1);
    p->dh = scan_tensor_make(c->dh, rows, c->len, c->dim, W, &rng, 1);
    p->dlast = scan_tensor_make(c->dlast, c->batch, 1, c->dim, W, &rng, 1);
    p->xa = scan_doubles(&p->a);
    p->xb = scan_doubles(&p->b);
    p->xh0 = scan_doubles(&p->h0);
    p->xdh = scan_doubles(&p->dh);
    p->xdlast = scan_doubles(&p->dlast);
    p->s.batch = c->batch;
    p->s.len = c->len;
    p->s.dim = c->dim;
    p->s.start = c->start;
    p->s.complex_values = pairs;
    p->s.reverse = reverse;
    p->s.scan = SSM_SCAN_SEQUENTIAL;
    p->s.a = p->a.view;
    p->s.b = p->b.view;
    p->s.h0 = p->h0.view;
    p->s.h = ssm_out_like(p->h.data + p->h.offset, p->h.view);
    p->s.h_last = ssm_out_like(p->last.data, p->last.view);
    p->da = scan_tensor_copy(&p->a);
    p->db = scan_tensor_copy(&p->b);
    p->dh0 = scan_tensor_copy(&p->h0);
}

static void scan_gradient_close(scan_gradient *p)
{
    scan_tensor *all[] = {&p->a, &p->b, &p->h0, &p->h, &p->last, &p->dh, &p->dlast, &p->da, &p->db, &p->dh0};
    size_t i;
    for (i = 0; i < sizeof all / sizeof all[0]; ++i) scan_tensor_drop(all[i]);
    free(p->xa);
    free(p->xb);
    free(p->xh0);
    free(p->xdh);
    free(p->xdlast);
}

static size_t scan_index(const scan_tensor *v, size_t b, size_t t, size_t c)
{
    return (size_t)((ptrdiff_t)v->offset + (ptrdiff_t)b * v->view.batch + (ptrdiff_t)t * v->view.time +
                    (ptrdiff_t)c * v->view.chan);
}

/* sum(dh h) + sum(dlast last) over re and im, the recurrence written again over the double copies. */
static double scan_gradient_loss(void *context)
{
    const scan_gradient *p = (const scan_gradient *)context;
    const size_t *start = p->c.start;
    double loss = 0;
    size_t b, c, i;
    for (b = 0; b < p->c.batch; ++b) {
        const size_t first = start ? start[b] : 0, len = start ? start[b + 1] - start[b] : p->c.len;
        const size_t seq = start ? 0 : b;
        for (c = 0; c < p->c.dim; ++c) {
            const double *h0 = p->h0.data ? p->xh0 + scan_index(&p->h0, b, 0, c) : NULL;
            double re = h0 ? h0[0] : 0, im = h0 && p->width == 2 ? h0[1] : 0;
            for (i = 0; i < len; ++i) {
                const size_t t = first + (p->s.reverse ? len - 1 - i : i);
                const double *a = p->xa + scan_index(&p->a, seq, t, c), *x = p->xb + scan_index(&p->b, seq, t, c);
                const double *dh = p->xdh + scan_index(&p->dh, seq, t, c);
                const double ai = p->width == 2 ? a[1] : 0, next = a[0] * re - ai * im + x[0];
                im = a[0] * im + ai * re + (p->width == 2 ? x[1] : 0);
                re = next;
                loss += dh[0] * re + (p->width == 2 ? dh[1] * im : 0);
            }
            if (p->dlast.data) {
                const double *d = p->xdlast + scan_index(&p->dlast, b, 0, c);
                loss += d[0] * re + (p->width == 2 ? d[1] * im : 0);
            }
        }
    }
    return loss;
}

/* The same loss of what the library computed. */
static double scan_gradient_got(const scan_gradient *p, ssm_out h)
{
    double loss = 0;
    size_t b, t, c, w;
    for (b = 0; b < (p->c.start ? 1 : p->c.batch); ++b)
        for (t = 0; t < p->c.len; ++t)
            for (c = 0; c < p->c.dim; ++c)
                for (w = 0; w < p->width; ++w)
                    loss += p->xdh[scan_index(&p->dh, b, t, c) + w] * (double)ssm__at_out(h, b, t, c)[w];
    for (b = 0; p->dlast.data && b < p->c.batch; ++b)
        for (c = 0; c < p->c.dim; ++c)
            for (w = 0; w < p->width; ++w)
                loss += p->xdlast[scan_index(&p->dlast, b, 0, c) + w] *
                        (double)p->last.data[scan_index(&p->last, b, 0, c) + w];
    return loss;
}

/* Forward, in place if the case says so, and backward, that with `parallel`. */
static void scan_gradient_run(scan_gradient *p, const ssm_parallel *parallel)
{
    ssm_linear_scan_grad d = {{0}, {0}, {0}, {0}, {0}};
    ssm_linear_scan s = p->s;
    scan_tensor a = scan_tensor_copy(&p->a), b = scan_tensor_copy(&p->b);
    s.a.data = a.view.data;
    s.b.data = b.view.data;
    if (p->c.in_place == 1) s.h = ssm_out_like(b.data + b.offset, b.view);
    if (p->c.in_place == 2) s.h = ssm_out_like(a.data + a.offset, a.view);
    CHECK_OK(ssm_linear_scan_forward(&s, ssm_memory_of(NULL, 0)));
    if (!parallel) {
        const double want = scan_gradient_loss(p), got = scan_gradient_got(p, s.h);
        if (!(fabs(got - want) <= TOL(1e-6, 1e-14) * ((double)(10 + p->h.count) + 100 * fabs(want))))
            test_fail(__FILE__, __LINE__, "%s: loss %.17g, expected %.17g", p->c.name, got, want);
    }
    s.a.data = p->a.view.data; /* b is not read any more */
    s.parallel = parallel;
    memcpy(p->da.data, p->a.data, p->a.count * sizeof(ssm_real)); /* some numbers: gradients are added */
    memcpy(p->db.data, p->b.data, p->b.count * sizeof(ssm_real));
    if (p->dh0.data) memcpy(p->dh0.data, p->h0.data, p->h0.count * sizeof(ssm_real));
    d.dh = p->dh.view;
    d.dh_last = p->dlast.view;
    d.da = ssm_out_like(p->da.data + p->da.offset, p->da.view);
    d.db = ssm_out_like(p->db.data + p->db.offset, p->db.view);
    if (p->dh0.data) d.dh0 = ssm_out_like(p->dh0.data + p->dh0.offset, p->dh0.view);
    CHECK_OK(ssm_linear_scan_backward(&s, &d));
    scan_tensor_drop(&a);
    scan_tensor_drop(&b);
}

/* `got` = `before` + the slopes of the loss by x, gaps between the elements included. */
static void scan_slopes(scan_gradient *p, const char *name, const scan_tensor *got, const scan_tensor *before,
                        double *x)
{
    const double unit = 1, h = 1e-3; /* the loss is linear in x but for broadcast a, and there a polynomial */
    double *want = (double *)malloc(got->count * sizeof *want + 1);
    const size_t failures = test_failures;
    size_t i;
    for (i = 0; i < got->count; ++i)
        want[i] = (double)before->data[i] + test_slope(scan_gradient_loss, p, x + i, &unit, 1, h);
    CHECK_CLOSE(got->data, want, got->count, TOL(1e-5, 1e-10));
    if (test_failures > failures)
        printf("    d%s of %s, %s %s\n", name, p->c.name, p->width == 2 ? "complex" : "real",
               p->s.reverse ? "reverse" : "forward");
    free(want);
}

static void scan_gradients(void)
{
    size_t i;
    int kind;
    for (i = 0; i < SCAN_CASES; ++i) {
        for (kind = 0; kind < 4; ++kind) {
            scan_gradient p;
            scan_gradient_open(&p, &scan_case_list[i], kind & 1, kind >> 1);
            scan_gradient_run(&p, NULL);
            scan_slopes(&p, "a", &p.da, &p.a, p.xa);
            scan_slopes(&p, "b", &p.db, &p.b, p.xb);
            if (p.h0.data) scan_slopes(&p, "h0", &p.dh0, &p.h0, p.xh0);
            scan_gradient_close(&p);
        }
    }
}

/* Gradients that are not wanted are left out, without a change to the others; dh_last alone gives dh0. */
static void scan_gradients_wanted(void)
{
    scan_gradient p, q;
    ssm_linear_scan_grad d = {{0}, {0}, {0}, {0}, {0}};
    size_t which;
    for (which = 0; which < 3; ++which) {
        scan_gradient_open(&p, &scan_case_list[0], 1, 0);
        scan_gradient_open(&q, &scan_case_list[0], 1, 0);
        scan_gradient_run(&p, NULL);
        CHECK_OK(ssm_linear_scan_forward(&q.s, ssm_memory_of(NULL, 0)));
        memset(&d, 0, sizeof d);
        d.dh = q.dh.view;
        d.dh_last = q.dlast.view;
        if (which == 0) d.da = ssm_out_like(q.da.data, q.da.view);
        if (which == 1) d.db = ssm_out_like(q.db.data, q.db.view);
        if (which == 2) d.dh0 = ssm_out_like(q.dh0.data, q.dh0.view);
        CHECK_OK(ssm_linear_scan_backward(&q.s, &d));
        CHECK_SAME(q.da.data, which == 0 ? p.da.data : q.a.data, p.da.count);
        CHECK_SAME(q.db.data, which == 1 ? p.db.data : q.b.data, p.db.count);
        CHECK_SAME(q.dh0.data, which == 2 ? p.dh0.data : q.h0.data, p.dh0.count);
        scan_gradient_close(&p);
        scan_gradient_close(&q);
    }
}

/* Long and wide enough to be shared out: 1, 2, 3 and 7 threads, the same bits as without a hook. */
static void scan_threads_gradients(void)
{
    enum { DIM = SSM__LINE_SHARED + 1 };
    static const size_t threads[] = {1, 3, 7};
    size_t i, k, start[5];
    int kind;
    for (i = 0; i < SCAN_CASES; ++i) {
        if (scan_case_list[i].len < 5) continue;
        for (kind = 0; kind < 4; ++kind) {
            const size_t times = (size_t)kind == i % 4 ? 70 : 20; /* 70: where threads and time tiles meet */
            scan_case c = scan_case_list[i];
            scan_gradient p;
            scan_tensor da, db, dh0;
            for (k = 0; c.start && k <= c.batch; ++k) start[k] = c.start[k] * times;
            c.len *= times;
            c.dim = DIM;
            if (c.start) c.start = start;
            scan_gradient_open(&p, &c, kind & 1, kind >> 1);
            scan_gradient_run(&p, NULL);
            da = scan_tensor_copy(&p.da);
            db = scan_tensor_copy(&p.db);
            dh0 = scan_tensor_copy(&p.dh0);
            for (k = 0; k < TEST_COUNT(threads); ++k) {
                test_pool pool = {threads[k], 0};
                const ssm_parallel parallel = {test_pool_run, &pool};
                scan_gradient_run(&p, &parallel);
                CHECK((pool.tasks > 0) == !c.shared);
                CHECK_SAME(p.da.data, da.data, da.count);
                CHECK_SAME(p.db.data, db.data, db.count);
                CHECK_SAME(p.dh0.data, dh0.data, dh0.count);
            }
            if (test_failures) printf("    in %s, kind %d\n", c.name, kind);
            scan_tensor_drop(&da);
            scan_tensor_drop(&db);
            scan_tensor_drop(&dh0);
            scan_gradient_close(&p);
        }
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
    CHECK_STATUS(ssm_linear_scan_forward(&p.s, ssm_memory_of(p.work.data, p.work.bytes - 1)), SSM_ERR_MEMORY);
    CHECK_STATUS(ssm_linear_scan_forward(&p.s, ssm_memory_of(NULL, 0)), SSM_ERR_NULL);
    s = p.s;
    s.a.data = NULL;
    CHECK_STATUS(ssm_linear_scan_forward(&s, p.work), SSM_ERR_NULL);
    s = p.s;
    s.dim = 0;
    CHECK_STATUS(ssm_linear_scan_sizes(&s, &need), SSM_ERR_CONFIG);
    s = p.s;
    s.scan = (ssm_scan)77;
    CHECK_STATUS(ssm_linear_scan_forward(&s, p.work), SSM_ERR_CONFIG);
    s = p.s;
    s.batch = 2;
    s.start = start;
    CHECK_STATUS(ssm_linear_scan_forward(&s, p.work), SSM_ERR_SHAPE);
    s = p.s;
    s.len = (size_t)-1 / 4;
    CHECK_STATUS(ssm_linear_scan_sizes(&s, &need), SSM_ERR_OVERFLOW);
    for (i = 0; i < p.count; ++i) CHECK(p.h[i] == 7);
    scan_close(&p);
}

/* One S5 layer over sequences of one length, from states that are not zero unless it runs both ways, forward and
 * backward; all results end to end in `out` (y, dx, dparams, states, their gradients). */
static void scan_s5_results(const ssm_s5_config *config, const ssm_seqs *seqs, ssm_real **out, size_t *count)
{
    ssm_rng rng = {test_seed};
    const size_t data = seqs->batch * seqs->len * config->d_model;
    ssm_sizes need;
    ssm_s5 layer;
    ssm_real *x, *dy, *params, *result, *state, *dstate;
    void *bound, *tape, *work;
    size_t params_count, states, i;
    CHECK_OK(ssm_s5_sizes(config, seqs, &need));
    params_count = need.params / sizeof(ssm_real);
    x = test_normal(&rng, data, 1);
    dy = test_normal(&rng, data, 1);
    params = test_zeros(params_count);
    states = need.state / sizeof(ssm_real);
    *count = 2 * data + params_count + 2 * states;
    *out = result = test_zeros(*count);
    state = states ? result + 2 * data + params_count : NULL;
    dstate = states ? state + states : NULL;
    for (i = 0; i < 2 * states; ++i) state[i] = test_draw(&rng);
    bound = test_alloc(need.bound, 1);
    tape = test_alloc(need.tape, 1);
    work = test_alloc(need.work + need.state, 1);
    CHECK_OK(ssm_s5_init(config, params, test_seed));
    CHECK_OK(ssm_s5_bind(&layer, config, params, ssm_memory_of(bound, need.bound)));
    CHECK_OK(ssm_s5_record(&layer, state, x, result, seqs, ssm_memory_of(tape, need.tape),
                           ssm_memory_of(work, need.work + need.state)));
    test_free(work, 1);
    work = test_alloc(need.work_backward + need.state, 1);
    CHECK_OK(ssm_s5_backward(&layer, dstate, x, dy, result + data, result + 2 * data, seqs,
                             ssm_memory_of(tape, need.tape), ssm_memory_of(work, need.work_backward + need.state)));
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
#define SCAN_LAYER_THREADS(X, configuration)                                                                     \
    static void scan_threads_##X(void)                                                                           \
    {                                                                                                            \
        static const size_t threads[] = {1, 2, 3, 7};                                                            \
        const ssm_##X##_config config = configuration;                                                           \
        ssm_seqs seqs = {0};                                                                                     \
        ssm_rng rng = {test_seed};                                                                               \
        ssm_real *x, *y, *want, *params;                                                                         \
        void *bound, *work;                                                                                      \
        ssm_##X layer;                                                                                           \
        ssm_sizes need;                                                                                          \
        size_t i, count;                                                                                         \
        seqs.batch = 3;                                                                                          \
        seqs.len = 100;                                                                                          \
        count = seqs.batch * seqs.len * config.d_model;                                                          \
        CHECK_OK(ssm_##X##_sizes(&config, &seqs, &need));                                                        \
        x = test_normal(&rng, count, 1);                                                                         \
        y = test_zeros(count);                                                                                   \
        params = (ssm_real *)test_alloc(need.params, 0);                                                         \
        bound = test_alloc(need.bound, 1);                                                                       \
        work = test_alloc(need.work + need.state, 1);                                                            \
        CHECK_OK(ssm_##X##_init(&config, params, test_seed));                                                    \
        CHECK_OK(ssm_##X##_bind(&layer, &config, params, ssm_memory_of(bound, need.bound)));                     \
        CHECK_OK(ssm_##X##_forward(&layer, NULL, x, y, &seqs, ssm_memory_of(work, need.work + need.state)));     \
        want = test_copy(y, count);                                                                              \
        for (i = 0; i < 4; ++i) {                                                                                \
            test_pool pool = {0, 0};                                                                             \
            ssm_parallel parallel;                                                                               \
            pool.threads = threads[i];                                                                           \
            parallel.run = test_pool_run;                                                                        \
            parallel.pool = &pool;                                                                               \
            seqs.parallel = &parallel;                                                                           \
            CHECK_OK(ssm_##X##_forward(&layer, NULL, x, y, &seqs, ssm_memory_of(work, need.work + need.state))); \
            CHECK_SAME(y, want, count);                                                                          \
            if (SSM_TILE_ROWS >= 64) CHECK(pool.tasks > 0);                                                      \
        }                                                                                                        \
        test_free(x, 0);                                                                                         \
        test_free(y, 0);                                                                                         \
        test_free(want, 0);                                                                                      \
        test_free(params, 0);                                                                                    \
        test_free(bound, 1);                                                                                     \
        test_free(work, 1);                                                                                      \
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
    CHECK_OK(ssm_linear_scan_forward(&s, ssm_memory_of(NULL, 0)));
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
    ssm_linear linear = {0};
    linear.in = IN;
    linear.out = OUT;
    linear.weight = weight;
    CHECK_OK(ssm_linear_backward(&linear, ssm_rows_of(NULL, 0), ssm_rows_of(dy, OUT), ssm_rows_out_of(want, 0), NULL,
                                 NULL, ROWS));
    linear.parallel = &parallel;
    CHECK_OK(ssm_linear_backward(&linear, ssm_rows_of(NULL, 0), ssm_rows_of(dy, OUT), ssm_rows_out_of(dx, 0), NULL,
                                 NULL, ROWS));
    CHECK_SAME(dx, want, IN);
    test_free(weight, 0);
    test_free(dy, 0);
    test_free(dx, 0);
    test_free(want, 0);
}

enum { WIDE_DIM = 277, WIDE_LEN = 20, WIDE_N = 3, WIDE_ROWS = WIDE_LEN * WIDE_DIM, WIDE_A = WIDE_DIM * WIDE_N, WIDE_B = WIDE_LEN * WIDE_N,
       WIDE_APART = 3 * WIDE_ROWS + 2 * WIDE_A + 2 * WIDE_DIM, /* what each channel has for itself; then B and C, then dy */
       WIDE_IN = WIDE_APART + 2 * WIDE_B + WIDE_ROWS };

/* The gradients of channels first .. first + count - 1 of a selective scan; grad lies as in. */
static void scan_wide_run(const ssm_real *in, ssm_real *grad, size_t first, size_t count)
{
    ssm_selective_scan s = {0};
    ssm_selective_scan_grad g = {0};
    ssm_sizes need = {0};
    size_t at = 0;
    void *work;
    s.batch = 1;
    s.len = WIDE_LEN;
    s.dim = count;
    s.d_state = WIDE_N;
    s.delta_softplus = 1;
    s.u = ssm_in_btc(in + first, WIDE_LEN, WIDE_DIM);
    g.du = ssm_out_like(grad + first, s.u);
    at += WIDE_ROWS;
    s.delta = ssm_in_btc(in + at + first, WIDE_LEN, WIDE_DIM);
    g.ddelta = ssm_out_like(grad + at + first, s.delta);
    at += WIDE_ROWS;
    s.z = ssm_in_btc(in + at + first, WIDE_LEN, WIDE_DIM);
    g.dz = ssm_out_like(grad + at + first, s.z);
    at += WIDE_ROWS;
    s.A = ssm_in_cn(in + at + first * WIDE_N, WIDE_N);
    g.dA = ssm_out_like(grad + at + first * WIDE_N, s.A);
    at += WIDE_A;
    s.h0 = ssm_in_bcn(in + at + first * WIDE_N, WIDE_DIM, WIDE_N);
    g.dh0 = ssm_out_like(grad + at + first * WIDE_N, s.h0);
    at += WIDE_A;
    s.D = ssm_in_c(in + at + first);
    g.dD = ssm_out_like(grad + at + first, s.D);
    at += WIDE_DIM;
    s.delta_bias = ssm_in_c(in + at + first);
    g.ddelta_bias = ssm_out_like(grad + at + first, s.delta_bias);
    at += WIDE_DIM;
    s.B = ssm_in_btcn(in + at, WIDE_LEN, 1, WIDE_N);
    g.dB = ssm_out_like(grad + at, s.B);
    at += WIDE_B;
    s.C = ssm_in_btcn(in + at, WIDE_LEN, 1, WIDE_N);
    g.dC = ssm_out_like(grad + at, s.C);
    at += WIDE_B;
    g.dy = ssm_in_btc(in + at + first, WIDE_LEN, WIDE_DIM);
    CHECK_OK(ssm_selective_scan_sizes(&s, &need));
    work = test_alloc(need.work_backward, 0);
    CHECK_OK(ssm_selective_scan_backward(&s, &g, ssm_memory_of(work, need.work_backward)));
    test_free(work, 0);
}

/* Several strips of channels in a task have the gradients that each has alone; those of B and C are sums. */
static void scan_wide_gradients(void)
{
    ssm_rng rng = test_rng(98);
    ssm_real *in = test_normal(&rng, WIDE_IN, 1), *got = test_zeros(WIDE_IN), *alone = test_zeros(WIDE_IN);
    double *want;
    size_t i;
    for (i = 3 * WIDE_ROWS; i < 3 * WIDE_ROWS + WIDE_A; ++i) in[i] = in[i] < 0 ? in[i] : -in[i];
    scan_wide_run(in, got, 0, WIDE_DIM);
    for (i = 0; i < WIDE_DIM; i += SSM__STRIP)
        scan_wide_run(in, alone, i, WIDE_DIM - i < SSM__STRIP ? WIDE_DIM - i : SSM__STRIP);
    CHECK_SAME(got, alone, WIDE_APART);
    want = test_doubles(alone + WIDE_APART, 2 * WIDE_B);
    CHECK_CLOSE(got + WIDE_APART, want, 2 * WIDE_B, TOL(1e-5, 1e-13));
    for (i = 0; i < 3 * WIDE_ROWS; ++i) CHECK(got[i] != 0);
    test_free(in, 0), test_free(got, 0), test_free(alone, 0), test_free(want, 0);
}

static const test_case scan_cases[] = {
    {"scan/wide_gradients", scan_wide_gradients},
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
    {"scan/gradients_wanted", scan_gradients_wanted},
    {"scan/threads_gradients", scan_threads_gradients},
    {"scan/errors", scan_errors},
};
