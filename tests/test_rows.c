/* test_rows.c - operations on rows, and the instances of convolution, RMSNorm and AdamW: oracles in double, gradients
 * against differences, every instruction set against its family bit for bit, every tail. Names: rows/... */

enum { ROWS_KINDS = 8, ROWS_MOST = 70 };

/* One instruction set of each family stands for it; the others must give its bits. */
static ssm_isa rows_reference(ssm_isa isa)
{
    return isa == SSM_ISA_AVX2 || isa == SSM_ISA_AVX512 ? (SSM__FUSED ? SSM_ISA_SCALAR : SSM_ISA_AVX2) : SSM_ISA_SCALAR;
}

static double rows_sigmoid(double x)
{
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

static double rows_value(ssm_rowop_kind kind, double x, double z, double scale)
{
    switch ((int)kind) {
    case SSM_ROW_SCALE: return scale * x;
    case SSM_ROW_SIGMOID: return rows_sigmoid(x);
    case SSM_ROW_SILU: return x * rows_sigmoid(x);
    case SSM_ROW_GELU: return x * 0.5 * erfc(-x * 0.70710678118654752440);
    case SSM_ROW_GELU_TANH: return x * 0.5 * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case SSM_ROW_GATE: return x * z * rows_sigmoid(z);
    case SSM_ROW_GLU: return x * rows_sigmoid(z);
    default: return x;
    }
}

/* Tensors of one operation; rows of y are `dim` apart and end with its memory. */
typedef struct rows_case {
    ssm_rowop op;
    ssm_rowop_grad grad;
    size_t count;
    ssm_real *x, *z, *add, *scale, *y, *dy, *gradient[4]; /* dx, dz, dadd, dscale */
} rows_case;

static void rows_open(rows_case *k, ssm_rowop_kind kind, size_t rows, size_t dim, int add, ssm_rng *rng)
{
    size_t i;
    memset(k, 0, sizeof *k);
    k->count = rows * dim;
    k->x = test_normal(rng, k->count, 2);
    k->z = test_normal(rng, k->count, 2);
    k->add = test_normal(rng, k->count, 1);
    k->scale = test_normal(rng, dim, 1);
    k->dy = test_normal(rng, k->count, 1);
    k->y = test_zeros(k->count);
    for (i = 0; i < 4; ++i) k->gradient[i] = test_zeros(i < 3 ? k->count : dim);
    k->op.kind = kind;
    k->op.rows = rows;
    k->op.dim = dim;
    k->op.x = ssm_rows_of(k->x, (ptrdiff_t)dim);
    k->op.z = ssm_rows_of(k->z, (ptrdiff_t)dim);
    k->op.scale = k->scale;
    if (add) k->op.add = ssm_rows_of(k->add, (ptrdiff_t)dim);
    k->op.y = ssm_rows_out_of(k->y, (ptrdiff_t)dim);
    k->grad.dy = ssm_rows_of(k->dy, (ptrdiff_t)dim);
    k->grad.dx = ssm_rows_out_of(k->gradient[0], (ptrdiff_t)dim);
    k->grad.dz = ssm_rows_out_of(k->gradient[1], (ptrdiff_t)dim);
    k->grad.dadd = ssm_rows_out_of(k->gradient[2], (ptrdiff_t)dim);
    k->grad.dscale = k->gradient[3];
}

static void rows_close(rows_case *k)
{
    size_t i;
    for (i = 0; i < 4; ++i) test_free(k->gradient[i], 0);
    test_free(k->x, 0), test_free(k->z, 0), test_free(k->add, 0), test_free(k->scale, 0);
    test_free(k->dy, 0), test_free(k->y, 0);
}

/* Every kind, every tail, against double; y over x, z and add. */
static void rows_oracle(void)
{
    ssm_rng rng = test_rng(4001);
    size_t dim, i;
    int kind, add, over;
    for (kind = 0; kind < ROWS_KINDS; ++kind) {
        for (dim = 1; dim <= ROWS_MOST; ++dim) {
            for (add = 0; add < 2; ++add) {
                double *want;
                rows_case k;
                rows_open(&k, (ssm_rowop_kind)kind, 1 + dim % 3, dim, add, &rng);
                want = (double *)test_alloc(k.count * sizeof *want, 0);
                for (i = 0; i < k.count; ++i)
                    want[i] = rows_value(k.op.kind, (double)k.x[i], (double)k.z[i], (double)k.scale[i % dim]) +
                              (add ? (double)k.add[i] : 0);
                CHECK_OK(ssm_row_forward(&k.op));
                CHECK_CLOSE(k.y, want, k.count, TOL(2e-6, 4e-15));
                for (over = 0; over < 3; ++over) {
                    ssm_real *place = over == 0 ? k.x : over == 1 ? k.z : k.add, *keep = test_copy(place, k.count);
                    k.op.y.data = place;
                    CHECK_OK(ssm_row_forward(&k.op));
                    CHECK_SAME(place, k.y, k.count);
                    memcpy(place, keep, k.count * sizeof *keep);
                    test_free(keep, 0);
                }
                test_free(want, 0);
                rows_close(&k);
            }
        }
    }
}

/* sum dy y, in double. */
typedef struct rows_loss_context {
    rows_case *k;
    double *x, *z, *add, *scale;
} rows_loss_context;

static double rows_loss(void *context)
{
    rows_loss_context *c = (rows_loss_context *)context;
    double sum = 0;
    size_t i;
    for (i = 0; i < c->k->count; ++i)
        sum += (double)c->k->dy[i] *
               (c->add[i] + rows_value(c->k->op.kind, c->x[i], c->z[i], c->scale[i % c->k->op.dim]));
    return sum;
}

static void rows_gradients(void)
{
    ssm_rng rng = test_rng(4002);
    int kind;
    for (kind = 0; kind < ROWS_KINDS; ++kind) {
        rows_loss_context c;
        rows_case k;
        ssm_real *once;
        size_t i;
        rows_open(&k, (ssm_rowop_kind)kind, 3, 37, 1, &rng);
        c.k = &k;
        c.x = test_doubles(k.x, k.count);
        c.z = test_doubles(k.z, k.count);
        c.add = test_doubles(k.add, k.count);
        c.scale = test_doubles(k.scale, k.op.dim);
        CHECK_OK(ssm_row_backward(&k.op, &k.grad));
        test_gradient("x", rows_loss, &c, c.x, k.gradient[0], k.count, 1e-4, TOL(1e-5, 1e-9), &rng);
        test_gradient("z", rows_loss, &c, c.z, k.gradient[1], k.count, 1e-4, TOL(1e-5, 1e-9), &rng);
        test_gradient("add", rows_loss, &c, c.add, k.gradient[2], k.count, 1e-4, TOL(1e-5, 1e-9), &rng);
        test_gradient("scale", rows_loss, &c, c.scale, k.gradient[3], k.op.dim, 1e-4, TOL(1e-5, 1e-9), &rng);
        once = test_copy(k.gradient[0], k.count); /* gradients are added */
        CHECK_OK(ssm_row_backward(&k.op, &k.grad));
        for (i = 0; i < k.count; ++i) CHECK(fabs((double)k.gradient[0][i] - 2 * (double)once[i]) < 1e-5);
        test_free(once, 0);
        test_free(c.x, 0), test_free(c.z, 0), test_free(c.add, 0), test_free(c.scale, 0);
        rows_close(&k);
    }
}

/* The results of a call on every instruction set, compared with its family: run(context, isa, out) fills `count`. */
static void rows_same_bits(void (*run)(void *context, ssm_isa isa, ssm_real *out), void *context, size_t count)
{
    ssm_real *want = test_zeros(count), *got = test_zeros(count);
    int isa;
    for (isa = 1; isa < ssm_isa_count(); ++isa) {
        if (!ssm_isa_available((ssm_isa)isa)) continue;
        if (!ssm_isa_available(rows_reference((ssm_isa)isa))) continue;
        run(context, (ssm_isa)isa, got);
        run(context, rows_reference((ssm_isa)isa), want);
        CHECK_SAME(got, want, count);
    }
    test_free(want, 0);
    test_free(got, 0);
}

static void rows_run(void *context, ssm_isa isa, ssm_real *out)
{
    rows_case *k = (rows_case *)context;
    size_t i, at = 0;
    for (i = 0; i < 4; ++i) memset(k->gradient[i], 0, (i < 3 ? k->count : k->op.dim) * sizeof *out);
    k->op.isa = isa;
    CHECK_OK(ssm_row_forward(&k->op));
    CHECK_OK(ssm_row_backward(&k->op, &k->grad));
    memcpy(out, k->y, k->count * sizeof *out);
    for (at = k->count, i = 0; i < 4; ++i) {
        const size_t n = i < 3 ? k->count : k->op.dim;
        memcpy(out + at, k->gradient[i], n * sizeof *out);
        at += n;
    }
}

static void rows_instances(void)
{
    ssm_rng rng = test_rng(4003);
    size_t dim;
    int kind;
    for (kind = 0; kind < ROWS_KINDS; ++kind) {
        for (dim = 1; dim <= ROWS_MOST; ++dim) {
            rows_case k;
            rows_open(&k, (ssm_rowop_kind)kind, 2, dim, (int)(dim & 1), &rng);
            rows_same_bits(rows_run, &k, 4 * k.count + dim);
            rows_close(&k);
        }
    }
}

/* --- convolution, norm, AdamW: one problem each, all outputs in a row --- */
typedef struct rows_conv {
    ssm_conv s;
    ssm_conv_grad d;
    size_t dim, len, width;
    ssm_real *x, *w, *b, *state, *dy, *dlast;
} rows_conv;

static void rows_conv_run(void *context, ssm_isa isa, ssm_real *out)
{
    rows_conv *k = (rows_conv *)context;
    const size_t x = k->len * k->dim, w = k->width * k->dim, h = (k->width - 1) * k->dim;
    ssm_conv s = k->s;
    ssm_conv_grad d = k->d;
    memset(out, 0, (2 * x + w + k->dim + 2 * h) * sizeof *out);
    s.isa = isa;
    s.y = ssm_out_like(out, ssm_in_btc(NULL, k->len, k->dim));
    if (k->s.x.chan != 1) s.y = ssm_out_like(out, s.x);
    s.state_last = ssm_out_like(out + x, s.state);
    d.dx = ssm_out_like(out + x + h, s.x);
    d.dweight = ssm_out_like(out + 2 * x + h, s.weight);
    d.dbias = ssm_out_like(out + 2 * x + h + w, s.bias);
    d.dstate = ssm_out_like(out + 2 * x + h + w + k->dim, s.state);
    CHECK_OK(ssm_conv_forward(&s));
    CHECK_OK(ssm_conv_backward(&s, &d));
}

static void rows_conv_case(size_t dim, size_t len, size_t width, int dense, int silu, ssm_rng *rng)
{
    const size_t x = len * dim, w = width * dim, h = (width - 1) * dim;
    rows_conv k;
    memset(&k, 0, sizeof k);
    k.dim = dim;
    k.len = len;
    k.width = width;
    k.x = test_normal(rng, x, 1);
    k.w = test_normal(rng, w, 1);
    k.b = test_normal(rng, dim, 1);
    k.state = test_normal(rng, h, 1);
    k.dlast = test_normal(rng, h, 1);
    k.dy = test_normal(rng, x, 1);
    k.s.batch = 1;
    k.s.len = len;
    k.s.dim = dim;
    k.s.width = width;
    k.s.silu = silu;
    k.s.x = dense ? ssm_in_btc(k.x, len, dim) : ssm_in_bct(k.x, dim, len);
    k.s.weight = dense ? ssm_in_nc(k.w, dim) : ssm_in_cn(k.w, width);
    k.s.bias = ssm_in_c(k.b);
    k.s.state = dense ? ssm_in_nc(k.state, dim) : ssm_in_cn(k.state, width - 1);
    k.d.dy = k.s.x;
    k.d.dy.data = k.dy;
    k.d.dstate_last = k.s.state;
    k.d.dstate_last.data = k.dlast;
    rows_same_bits(rows_conv_run, &k, 2 * x + w + dim + 2 * h);
    test_free(k.x, 0), test_free(k.w, 0), test_free(k.b, 0), test_free(k.state, 0), test_free(k.dy, 0);
    test_free(k.dlast, 0);
}

static void rows_conv_instances(void)
{
    static const size_t widths[] = {1, 2, 3, 4, 5, 9}, lens[] = {1, 2, 5, 19};
    ssm_rng rng = test_rng(4004);
    size_t dim, i;
    for (dim = 1; dim <= ROWS_MOST; ++dim)
        for (i = 0; i < TEST_COUNT(widths) * 2; ++i)
            rows_conv_case(dim, lens[(dim + i) % 4], widths[i / 2], (int)(i % 2), (int)(dim % 2), &rng);
    rows_conv_case(528, 7, 4, 1, 1, &rng);
    rows_conv_case(528, 7, 4, 0, 1, &rng);
}

/* The same convolution from every layout: the same bits. */
static void rows_conv_layouts(void)
{
    enum { DIM = 83, LEN = 23, WIDTH = 6 };
    ssm_rng rng = test_rng(4005);
    size_t width, t, c, n;
    for (width = 1; width <= WIDTH; ++width) {
        ssm_real *x = test_normal(&rng, LEN * DIM, 1), *w = test_normal(&rng, DIM * width, 1), *xt = test_zeros(LEN * DIM);
        ssm_real *wt = test_zeros(DIM * width), *y = test_zeros(LEN * DIM), *yt = test_zeros(LEN * DIM);
        ssm_real *dx = test_zeros(LEN * DIM), *dxt = test_zeros(LEN * DIM), *dw = test_zeros(DIM * width);
        ssm_real *dwt = test_zeros(DIM * width), *last = test_zeros(DIM * width), *last_t = test_zeros(DIM * width);
        ssm_conv s = {0};
        ssm_conv_grad d = {0};
        for (c = 0; c < DIM; ++c) {
            for (t = 0; t < LEN; ++t) xt[c * LEN + t] = x[t * DIM + c];
            for (n = 0; n < width; ++n) wt[n * DIM + c] = w[c * width + n];
        }
        s.batch = 1, s.len = LEN, s.dim = DIM, s.width = width, s.silu = 1;
        s.x = ssm_in_btc(x, LEN, DIM);
        s.weight = ssm_in_nc(wt, DIM);
        s.y = ssm_out_like(y, s.x);
        s.state_last = ssm_out_like(last, ssm_in_nc(NULL, DIM));
        d.dy = s.x;
        d.dx = ssm_out_like(dx, s.x);
        d.dweight = ssm_out_like(dwt, s.weight);
        CHECK_OK(ssm_conv_forward(&s));
        CHECK_OK(ssm_conv_backward(&s, &d));
        s.x = ssm_in_bct(xt, DIM, LEN);
        s.weight = ssm_in_cn(w, width);
        s.y = ssm_out_like(yt, s.x);
        s.state_last = ssm_out_like(last_t, ssm_in_cn(NULL, width));
        d.dy = s.x;
        d.dx = ssm_out_like(dxt, s.x);
        d.dweight = ssm_out_like(dw, s.weight);
        CHECK_OK(ssm_conv_forward(&s));
        CHECK_OK(ssm_conv_backward(&s, &d));
        for (c = 0; c < DIM; ++c) {
            for (t = 0; t < LEN; ++t) CHECK_SAME(&y[t * DIM + c], &yt[c * LEN + t], 1);
            for (t = 0; t < LEN; ++t) CHECK_SAME(&dx[t * DIM + c], &dxt[c * LEN + t], 1);
            for (n = 0; n < width; ++n) CHECK_SAME(&dwt[n * DIM + c], &dw[c * width + n], 1);
            for (n = 0; n + 1 < width; ++n) {
                CHECK_SAME(&last[n * DIM + c], &x[(LEN + 1 - width + n) * DIM + c], 1);
                CHECK_SAME(&last_t[c * width + n], &last[n * DIM + c], 1);
            }
        }
        test_free(x, 0), test_free(w, 0), test_free(xt, 0), test_free(wt, 0), test_free(y, 0), test_free(yt, 0);
        test_free(dx, 0), test_free(dxt, 0), test_free(dw, 0), test_free(dwt, 0), test_free(last, 0), test_free(last_t, 0);
    }
}

typedef struct rows_norm {
    ssm_norm norm;
    size_t rows;
    ssm_real *x, *dy;
} rows_norm;

static void rows_norm_run(void *context, ssm_isa isa, ssm_real *out)
{
    rows_norm *k = (rows_norm *)context;
    const ptrdiff_t row = (ptrdiff_t)k->norm.dim;
    const size_t n = k->rows * k->norm.dim;
    memset(out, 0, (2 * n + k->norm.dim) * sizeof *out);
    k->norm.isa = isa;
    CHECK_OK(ssm_norm_forward(&k->norm, ssm_rows_of(k->x, row), ssm_rows_out_of(out, row), k->rows));
    CHECK_OK(ssm_norm_backward(&k->norm, ssm_rows_of(k->x, row), ssm_rows_of(k->dy, row), ssm_rows_out_of(out + n, row),
                               out + 2 * n, k->rows));
}

typedef struct rows_adamw {
    ssm_adamw a;
    ssm_params table;
    ssm_param row[2];
    ssm_real *params, *grads, *moments;
} rows_adamw;

static void rows_adamw_run(void *context, ssm_isa isa, ssm_real *out)
{
    rows_adamw *k = (rows_adamw *)context;
    const size_t n = k->table.count;
    memcpy(out, k->params, n * sizeof *out);
    memcpy(out + n, k->moments, 2 * n * sizeof *out);
    k->a.isa = isa;
    CHECK_OK(ssm_adamw_step(&k->a, &k->table, out, k->grads, out + n, 3, out + 3 * n));
}

static void rows_norm_adamw_instances(void)
{
    ssm_rng rng = test_rng(4006);
    size_t dim, i;
    for (dim = 1; dim <= ROWS_MOST + 1; ++dim) {
        const size_t n = dim <= ROWS_MOST ? dim : 2500;
        rows_norm k;
        rows_adamw a;
        ssm_real *w = test_normal(&rng, n, 1);
        memset(&k, 0, sizeof k);
        memset(&a, 0, sizeof a);
        k.norm.dim = n;
        k.norm.weight = w;
        k.rows = 3;
        k.x = test_normal(&rng, 3 * n, 1);
        k.dy = test_normal(&rng, 3 * n, 1);
        rows_same_bits(rows_norm_run, &k, 7 * n);
        a.a.lr = (ssm_real)0.01;
        a.a.clip_norm = 1;
        a.a.weight_decay = (ssm_real)0.1;
        a.row[0].count = n / 2;
        a.row[1].offset = n / 2;
        a.row[1].count = n - n / 2;
        a.row[1].no_decay = 1;
        a.table.row = a.row;
        a.table.rows = 2;
        a.table.count = n;
        a.params = w;
        a.grads = k.dy;
        a.moments = k.x;
        for (i = 0; i < 2 * n; ++i) k.x[i] = k.x[i] < 0 ? -k.x[i] : k.x[i];
        rows_same_bits(rows_adamw_run, &a, 3 * n + 1);
        test_free(w, 0), test_free(k.x, 0), test_free(k.dy, 0);
    }
}

/* Infinite and NaN inputs. */
static void rows_special(void)
{
    static const ssm_rowop_kind kinds[] = {SSM_ROW_SILU, SSM_ROW_GELU, SSM_ROW_GELU_TANH, SSM_ROW_SIGMOID};
    ssm_real x[3], y[3], norm;
    ssm_param row = {0};
    ssm_params table = {0};
    ssm_adamw a = {0};
    ssm_real params[3] = {0}, moments[6] = {0};
    size_t i;
    int isa;
    x[0] = (ssm_real)-HUGE_VAL;
    x[1] = (ssm_real)NAN;
    x[2] = (ssm_real)HUGE_VAL;
    row.count = 3;
    table.row = &row;
    table.rows = 1;
    table.count = 3;
    for (isa = 1; isa < ssm_isa_count(); ++isa) {
        if (!ssm_isa_available((ssm_isa)isa)) continue;
        for (i = 0; i < TEST_COUNT(kinds); ++i) {
            ssm_rowop op = {kinds[i]};
            op.rows = 1;
            op.dim = 3;
            op.x.data = x;
            op.y.data = y;
            op.isa = (ssm_isa)isa;
            CHECK_OK(ssm_row_forward(&op));
            CHECK(y[0] == 0 && y[1] != y[1] && (double)y[2] == (kinds[i] == SSM_ROW_SIGMOID ? 1 : HUGE_VAL));
        }
        a.isa = (ssm_isa)isa;
        y[0] = y[2] = 0;
        y[1] = (ssm_real)NAN; /* alone among zeros */
        CHECK_OK(ssm_adamw_step(&a, &table, params, y, moments, 1, &norm));
        CHECK(norm != norm);
    }
}

/* Convolution with SiLU where its sum is infinite or NaN, forward and step: at -infinity it is 0, not NaN. One channel of
 * each kind among others, which keep their bits. */
static void rows_conv_special(void)
{
    enum { DIM = 37, LEN = 19, AT = 11 };
    const double values[] = {-HUGE_VAL, HUGE_VAL, NAN};
    ssm_rng rng = test_rng(4011);
    ssm_real *x = test_normal(&rng, LEN * DIM, 1), *y = test_zeros(LEN * DIM), *want = test_zeros(LEN * DIM);
    ssm_real *weight = test_normal(&rng, DIM, 1), first, spare = 0;
    size_t t, c, k;
    int isa, stepped;
    ssm_conv s = {0};
    for (c = 0; c < DIM; ++c) weight[c] = 1 + (weight[c] < 0 ? -weight[c] : weight[c]);
    s.batch = 1, s.len = LEN, s.dim = DIM, s.width = 1, s.silu = 1;
    s.x = ssm_in_btc(x, LEN, DIM), s.weight = ssm_in_cn(weight, 1);
    s.state_last = ssm_out_like(&spare, ssm_in_bcn(&spare, DIM, 0)); /* of no element */
    for (isa = 1; isa < ssm_isa_count(); ++isa) {
        if (!ssm_isa_available((ssm_isa)isa)) continue;
        s.isa = (ssm_isa)isa;
        for (stepped = 0; stepped < 2; ++stepped) {
            s.len = stepped ? 1 : LEN;
            t = stepped ? 0 : AT;
            s.y = ssm_out_like(want, s.x);
            CHECK_OK(stepped ? ssm_conv_step(&s) : ssm_conv_forward(&s));
            s.y = ssm_out_like(y, s.x);
            for (c = 0; c < DIM; ++c)
                for (k = 0; k < TEST_COUNT(values); ++k) {
                    const ssm_real was = x[t * DIM + c];
                    x[t * DIM + c] = (ssm_real)values[k];
                    CHECK_OK(stepped ? ssm_conv_step(&s) : ssm_conv_forward(&s));
                    x[t * DIM + c] = was;
                    first = y[t * DIM + c];
                    CHECK(k == 0 ? first == 0 : k == 1 ? (double)first == HUGE_VAL : first != first);
                    y[t * DIM + c] = want[t * DIM + c];
                    CHECK_SAME(y, want, s.len * DIM);
                }
        }
    }
    test_free(x, 0), test_free(y, 0), test_free(want, 0), test_free(weight, 0);
}

/* Threads: the same bits for any number of them, in any order. */
static void rows_threads(void)
{
    enum { ROWS = 40, DIM = 700 };
    ssm_rng rng = test_rng(4007);
    size_t kind, threads;
    for (kind = 0; kind < ROWS_KINDS; ++kind) {
        rows_case k;
        ssm_real *one, *more;
        rows_open(&k, (ssm_rowop_kind)kind, ROWS, DIM, 1, &rng);
        one = test_zeros(4 * k.count + DIM);
        more = test_zeros(4 * k.count + DIM);
        rows_run(&k, SSM_ISA_BEST, one);
        for (threads = 1; threads <= 7; threads += 3) {
            test_pool pool = {0, 0};
            ssm_parallel parallel;
            pool.threads = threads;
            parallel.run = test_pool_run;
            parallel.pool = &pool;
            k.op.parallel = &parallel;
            rows_run(&k, SSM_ISA_BEST, more);
            CHECK(pool.tasks > 0);
            CHECK_SAME(one, more, 4 * k.count + DIM);
        }
        test_free(one, 0), test_free(more, 0);
        rows_close(&k);
    }
}

/* Gradients whose rows all lie in one place (stride 0) are added one after the other, whatever there is to share them
 * with; others are shared out. Either way the bits are those of one thread. */
static void rows_one_place(void)
{
    enum { BATCH = 3, LEN = 100, DIM = 700, ROWS = BATCH * LEN };
    ssm_rng rng = test_rng(4011);
    ssm_real *x = test_normal(&rng, ROWS * DIM, 1), *dy = test_normal(&rng, ROWS * DIM, 1), *weight = test_normal(&rng, DIM, 1);
    ssm_real *alone = test_zeros(ROWS * DIM), *shared = test_zeros(ROWS * DIM), *dweight = test_zeros(DIM);
    double want[DIM];
    int label[ROWS], which, spread;
    test_pool pool = {3, 0};
    ssm_parallel parallel;
    ssm_norm norm = {0};
    ssm_mean mean = {0};
    ssm_cross_entropy loss = {0};
    size_t i;
    parallel.run = test_pool_run;
    parallel.pool = &pool;
    norm.dim = mean.dim = loss.dim = DIM;
    norm.weight = weight;
    mean.batch = BATCH;
    mean.len = LEN;
    loss.rows = ROWS;
    loss.x = ssm_rows_of(x, DIM);
    loss.label = label;
    for (i = 0; i < ROWS; ++i) label[i] = (int)(i * 7 % DIM);
    for (i = 0; i < DIM; ++i) want[i] = 0;
    for (i = 0; i < ROWS; ++i) { /* twice, since dweight is added to */
        double square = 0;
        size_t c;
        for (c = 0; c < DIM; ++c) square += (double)x[i * DIM + c] * (double)x[i * DIM + c];
        for (c = 0; c < DIM; ++c)
            want[c] += 2 * (double)dy[i * DIM + c] * (double)x[i * DIM + c] / sqrt(square / (double)DIM + 1e-5);
    }
    for (which = 0; which < 3; ++which)
        for (spread = 0; spread < 2; ++spread) {
            const size_t count = spread ? ROWS * DIM : DIM;
            for (i = 0; i < 2; ++i) {
                const ssm_rows_out dx = ssm_rows_out_of(i ? shared : alone, spread ? DIM : 0);
                norm.parallel = mean.parallel = loss.parallel = i ? &parallel : NULL;
                memset(dx.data, 0, count * sizeof *dx.data);
                pool.tasks = 0;
                if (which == 0) CHECK_OK(ssm_norm_backward(&norm, loss.x, ssm_rows_of(dy, DIM), dx, spread ? dweight : NULL, ROWS));
                if (which == 1) CHECK_OK(ssm_mean_backward(&mean, ssm_rows_of(dy, DIM), dx));
                if (which == 2) CHECK_OK(ssm_cross_entropy_backward(&loss, ROWS, dx));
            }
            CHECK((pool.tasks > 0) == spread);
            CHECK_SAME(shared, alone, count);
            if (which == 0 && spread) CHECK_CLOSE(dweight, want, DIM, TOL(1e-5, 1e-13));
        }
    test_free(x, 0), test_free(dy, 0), test_free(weight, 0), test_free(alone, 0), test_free(shared, 0), test_free(dweight, 0);
}

static void rows_errors(void)
{
    ssm_real x[2] = {1, 2}, y[2] = {3, 4};
    ssm_rowop good = {SSM_ROW_COPY}, op;
    ssm_rowop_grad grad = {{0}};
    ssm_conv conv = {0};
    ssm_conv_grad conv_grad = {{0}};
    good.rows = 1;
    good.dim = 2;
    good.x.data = x;
    good.y.data = y;
    CHECK_STATUS(ssm_row_forward(NULL), SSM_ERR_NULL);
    CHECK_STATUS(ssm_row_backward(&good, NULL), SSM_ERR_NULL);
    CHECK_STATUS(ssm_row_backward(&good, &grad), SSM_ERR_NULL);
    op = good, op.x.data = NULL;
    CHECK_STATUS(ssm_row_forward(&op), SSM_ERR_NULL);
    op = good, op.y.data = NULL;
    CHECK_STATUS(ssm_row_forward(&op), SSM_ERR_NULL);
    op = good, op.kind = SSM_ROW_GLU;
    CHECK_STATUS(ssm_row_forward(&op), SSM_ERR_NULL);
    op = good, op.kind = SSM_ROW_SCALE;
    CHECK_STATUS(ssm_row_forward(&op), SSM_ERR_NULL);
    op = good, op.dim = 0;
    CHECK_STATUS(ssm_row_forward(&op), SSM_ERR_CONFIG);
    op = good, op.kind = (ssm_rowop_kind)(SSM_ROW_GLU + 1);
    CHECK_STATUS(ssm_row_forward(&op), SSM_ERR_CONFIG);
    op = good, op.isa = (ssm_isa)ssm_isa_count();
    CHECK_STATUS(ssm_row_forward(&op), SSM_ERR_UNSUPPORTED);
    op = good, op.rows = 0, op.x.data = NULL;
    CHECK_OK(ssm_row_forward(&op));
    CHECK((double)y[0] == 3 && (double)y[1] == 4);
    conv.dim = conv.width = 1; /* nothing to do in either direction */
    CHECK_OK(ssm_conv_forward(&conv));
    CHECK_OK(ssm_conv_backward(&conv, &conv_grad));
    conv.batch = 1;
    CHECK_OK(ssm_conv_forward(&conv));
    CHECK_OK(ssm_conv_backward(&conv, &conv_grad));
}

static const test_case rows_cases[] = {
    {"rows/oracle", rows_oracle},
    {"rows/gradients", rows_gradients},
    {"rows/instances", rows_instances, EVERY_ISA},
    {"rows/conv_instances", rows_conv_instances, EVERY_ISA},
    {"rows/conv_layouts", rows_conv_layouts},
    {"rows/norm_adamw_instances", rows_norm_adamw_instances, EVERY_ISA},
    {"rows/special", rows_special, EVERY_ISA},
    {"rows/conv_special", rows_conv_special, EVERY_ISA},
    {"rows/threads", rows_threads},
    {"rows/one_place", rows_one_place},
    {"rows/errors", rows_errors},
};
