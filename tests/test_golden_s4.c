/* test_golden_s4.c - S4D and S4 against vectors of lrnnx, state-spaces/s4, traceTorch and zerfoo. Comes
 * after test_golden.c and test_s4.c, whose helpers it uses. */
#include "golden/lrnnx_s4.h"
#include "golden/s4_statespaces.h"
#include "golden/tracetorch_s4_s5.h"
#include "golden/transitions.h"

typedef struct golden_s4_weight {
    const char *name;
    golden_array value;
    golden_array grad;
    int negative; /* the peer's has the other sign */
} golden_s4_weight;

typedef enum golden_s4_layout { GOLDEN_S4_BLH, GOLDEN_S4_BHL, GOLDEN_S4_LBH } golden_s4_layout;

typedef struct golden_s4 {
    s4_any any;
    size_t batch, len;
    golden_s4_layout layout;
    golden_s4_weight weight[8];
    golden_array x, state0, y, last, dy, dlast, grad_x, grad_state0, kernel;
} golden_s4;

static ssm_strides golden_s4_strides(const golden_s4 *g)
{
    const ptrdiff_t B = (ptrdiff_t)g->batch, L = (ptrdiff_t)g->len, H = (ptrdiff_t)g->any.d.d_model;
    const ssm_strides blh = {L * H, H, 1}, bhl = {H * L, 1, L}, lbh = {H, B * H, 1};
    return g->layout == GOLDEN_S4_BLH ? blh : g->layout == GOLDEN_S4_BHL ? bhl : lbh;
}

/* Their states are [batch][H][n][part], ours [batch][n][part][H]. */
static ssm_real *golden_s4_state(const golden_s4 *g, golden_array from)
{
    const size_t H = g->any.d.d_model, count = g->any.d.d_state, block = count * H;
    ssm_real *to = test_zeros(g->batch * block);
    size_t b, h, n;
    for (b = 0; from.data && b < g->batch; ++b)
        for (h = 0; h < H; ++h)
            for (n = 0; n < count; ++n) to[b * block + n * H + h] = (ssm_real)from.data[(b * H + h) * count + n];
    return to;
}

static void golden_s4_state_close(const golden_s4 *g, const char *what, const ssm_real *state, golden_array want)
{
    const size_t H = g->any.d.d_model, count = g->any.d.d_state;
    ssm_real *theirs = test_zeros(g->batch * count * H);
    size_t b, h, n;
    for (b = 0; b < g->batch; ++b)
        for (h = 0; h < H; ++h)
            for (n = 0; n < count; ++n) theirs[(b * H + h) * count + n] = state[(b * count + n) * H + h];
    golden_close(what, theirs, want, GOLDEN_TOL);
    test_free(theirs, 0);
}

static s4_bound golden_s4_bind(const golden_s4 *g)
{
    const ssm_seqs one = test_seqs(1, 1);
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = {rows, SSM_PARAMS_MAX, 0, 0};
    s4_bound b = {0};
    size_t i, k;
    b.any = g->any;
    CHECK_OK(s4_sizes(&b.any, &one, &b.need));
    CHECK_OK(s4_table(&b.any, &table));
    b.params = (ssm_real *)test_alloc(b.need.params, 0);
    b.mem = test_alloc(b.need.bound, 0);
    for (i = 0; i < 8 && g->weight[i].name; ++i) {
        const ssm_param *p = ssm_params_find(&table, g->weight[i].name);
        if (p->count != g->weight[i].value.count) {
            test_fail(__FILE__, __LINE__, "%s: no %s of that size", g->any.name, g->weight[i].name);
            continue;
        }
        for (k = 0; k < p->count; ++k)
            b.params[p->offset + k] = (ssm_real)((g->weight[i].negative ? -1 : 1) * g->weight[i].value.data[k]);
    }
    CHECK(i == table.rows);
    CHECK_OK(s4_rebind(&b));
    return b;
}

static void golden_s4_backward(const golden_s4 *g, const s4_bound *b, const ssm_seqs *seqs, const ssm_real *x)
{
    const size_t count = g->x.count;
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = {rows, SSM_PARAMS_MAX, 0, 0};
    ssm_real *state = golden_s4_state(g, g->state0), *dstate = golden_s4_state(g, g->dlast), *y = test_zeros(count);
    ssm_real *dy = golden_reals(g->dy), *dx = test_zeros(count), *dparams;
    ssm_sizes need;
    void *tape, *work;
    size_t i, k;
    CHECK_OK(s4_table(&b->any, &table));
    CHECK_OK(s4_sizes(&b->any, seqs, &need));
    dparams = test_zeros(table.count);
    tape = test_alloc(need.tape, 0);
    work = test_alloc(need.work + need.work_backward, 0);
    CHECK_OK(s4_record(b, state, x, y, seqs, ssm_memory_of(tape, need.tape), ssm_memory_of(work, need.work)));
    CHECK_OK(s4_backward(b, dstate, x, dy, dx, dparams, seqs, ssm_memory_of(tape, need.tape),
                         ssm_memory_of(work, need.work_backward)));
    golden_close("dx", dx, g->grad_x, GOLDEN_TOL);
    golden_s4_state_close(g, "dstate", dstate, g->grad_state0);
    for (i = 0; i < 8 && g->weight[i].name; ++i) {
        ssm_real *at = dparams + ssm_params_find(&table, g->weight[i].name)->offset;
        for (k = 0; g->weight[i].negative && k < g->weight[i].value.count; ++k) at[k] = -at[k];
        golden_close(g->weight[i].name, at, g->weight[i].grad, GOLDEN_TOL);
    }
    test_free(state, 0);
    test_free(dstate, 0);
    test_free(y, 0);
    test_free(dy, 0);
    test_free(dx, 0);
    test_free(dparams, 0);
    test_free(tape, 0);
    test_free(work, 0);
}

static void golden_s4_kernel(const golden_s4 *g, const s4_bound *b)
{
    const size_t len = g->kernel.count / g->any.d.d_model;
    ssm_real *kernel = test_zeros(g->kernel.count);
    size_t bytes = 0;
    void *work;
    CHECK_OK(s4_kernel_size(b, len, &bytes));
    work = test_alloc(bytes, 0);
    CHECK_OK(s4_kernel(b, kernel, len, ssm_memory_of(work, bytes)));
    golden_close("kernel", kernel, g->kernel, GOLDEN_TOL);
    test_free(kernel, 0);
    test_free(work, 0);
}

static void golden_s4_check(golden_s4 g)
{
    ssm_seqs seqs = test_seqs(g.batch, g.len);
    size_t bytes, form;
    seqs.x = seqs.y = golden_s4_strides(&g);
    for (form = 0; form < 2; ++form) {
        ssm_real *x = golden_reals(g.x), *y = test_zeros(g.x.count), *state;
        s4_bound b;
        void *work;
        g.any.d.form = form ? SSM_S4_FORM_CONVOLUTION : SSM_S4_FORM_RECURRENT;
        b = golden_s4_bind(&g);
        work = s4_work(&g.any, &seqs, 1, &bytes);
        state = golden_s4_state(&g, g.state0);
        CHECK_OK(s4_forward(&b, state, x, y, &seqs, ssm_memory_of(work, bytes)));
        golden_close("y", y, g.y, GOLDEN_TOL);
        if (g.last.data) golden_s4_state_close(&g, "last", state, g.last);
        if (g.kernel.data) golden_s4_kernel(&g, &b);
        if (g.dy.data) golden_s4_backward(&g, &b, &seqs, x);
        if (test_failures) printf("    in %s, form %d\n", g.any.name, (int)form);
        test_free(x, 0);
        test_free(y, 0);
        test_free(state, 0);
        test_free(work, 1);
        s4_drop(&b);
    }
}

#define GOLDEN_S4_BOTH(name, p, a, negative) {name, GOLDEN(p##_##a), GOLDEN(p##_grad_##a), negative}

/* state-spaces: one macro for the four cases; M: the weights beyond those that all have. */
#define GOLDEN_S4_STATESPACES(P, p) \
    .batch = P##_BATCH, .len = P##_LEN, .layout = GOLDEN_S4_BHL, .x = GOLDEN(p##_u), .state0 = GOLDEN(p##_state0), \
    .y = GOLDEN(p##_y), .last = GOLDEN(p##_last), .dy = GOLDEN(p##_dy), .dlast = GOLDEN(p##_dlast), \
    .grad_x = GOLDEN(p##_grad_u), .grad_state0 = GOLDEN(p##_grad_state0), .kernel = GOLDEN(p##_kernel)
#define GOLDEN_S4D_WEIGHTS(p) \
    GOLDEN_S4_BOTH("log_dt", p, log_dt, 0), GOLDEN_S4_BOTH("log_A_real", p, log_a_real, 0), \
    GOLDEN_S4_BOTH("A_imag", p, a_imag, 0), GOLDEN_S4_BOTH("C", p, c, 0), GOLDEN_S4_BOTH("D", p, d, 0)

static const golden_s4 golden_s4_statespaces[] = {
    {GOLDEN_S4_STATESPACES(GOLD_S4_STATESPACES_S4D_MINIMAL, gold_s4_statespaces_s4d_minimal),
     .any = {"s4d minimal", 0, {.d_model = 3, .d_state = 4}, 0},
     .weight = {GOLDEN_S4D_WEIGHTS(gold_s4_statespaces_s4d_minimal)}},
    {GOLDEN_S4_STATESPACES(GOLD_S4_STATESPACES_S4D_ZOH, gold_s4_statespaces_s4d_zoh),
     .any = {"s4d zoh", 0, {.d_model = 3, .d_state = 4, .train_B = 1}, 0},
     .weight = {GOLDEN_S4D_WEIGHTS(gold_s4_statespaces_s4d_zoh), GOLDEN_S4_BOTH("B", gold_s4_statespaces_s4d_zoh,
             b, 0)}},
    {GOLDEN_S4_STATESPACES(GOLD_S4_STATESPACES_S4D_BILINEAR, gold_s4_statespaces_s4d_bilinear),
     .any = {"s4d bilinear", 0, {.d_model = 3, .d_state = 4, .train_B = 1, .disc = SSM_DISC_BILINEAR}, 0},
     .weight = {GOLDEN_S4D_WEIGHTS(gold_s4_statespaces_s4d_bilinear),
                GOLDEN_S4_BOTH("B", gold_s4_statespaces_s4d_bilinear, b, 0)}},
    {GOLDEN_S4_STATESPACES(GOLD_S4_STATESPACES_S4, gold_s4_statespaces_s4),
     .any = {"s4", 1, {.d_model = 3, .d_state = 4}, 0},
     .weight = {GOLDEN_S4_BOTH("log_dt", gold_s4_statespaces_s4, log_dt, 0),
                GOLDEN_S4_BOTH("A_real", gold_s4_statespaces_s4, log_a_real, 0),
                GOLDEN_S4_BOTH("A_imag", gold_s4_statespaces_s4, a_imag, 1),
                GOLDEN_S4_BOTH("P", gold_s4_statespaces_s4, p, 0), GOLDEN_S4_BOTH("B", gold_s4_statespaces_s4, b, 0),
                GOLDEN_S4_BOTH("C", gold_s4_statespaces_s4, c, 0), GOLDEN_S4_BOTH("D", gold_s4_statespaces_s4, d, 0)}},
};

static void test_golden_s4_statespaces(void)
{
    size_t i;
    for (i = 0; i < sizeof golden_s4_statespaces / sizeof golden_s4_statespaces[0]; ++i)
        golden_s4_check(golden_s4_statespaces[i]);
}

static void test_golden_s4_tracetorch(void)
{
    static const golden_s4 g = {
        .any = {"traceTorch S4", 0, {.d_model = 3, .d_state = 4}, 0},
        .batch = GOLD_TRACETORCH_S4_S5_S4_BATCH, .len = GOLD_TRACETORCH_S4_S5_S4_LEN, .layout = GOLDEN_S4_LBH,
        .x = GOLDEN(gold_tracetorch_s4_s5_s4_x), .y = GOLDEN(gold_tracetorch_s4_s5_s4_y),
        .last = GOLDEN(gold_tracetorch_s4_s5_s4_last), .dy = GOLDEN(gold_tracetorch_s4_s5_s4_dy),
        .dlast = GOLDEN(gold_tracetorch_s4_s5_s4_dlast), .grad_x = GOLDEN(gold_tracetorch_s4_s5_s4_grad_x),
        .weight = {GOLDEN_S4_BOTH("log_dt", gold_tracetorch_s4_s5_s4, log_dt, 0),
                   GOLDEN_S4_BOTH("log_A_real", gold_tracetorch_s4_s5_s4, a_log, 0),
                   GOLDEN_S4_BOTH("B", gold_tracetorch_s4_s5_s4, b, 0), GOLDEN_S4_BOTH("C",
                           gold_tracetorch_s4_s5_s4, c, 0),
                   GOLDEN_S4_BOTH("D", gold_tracetorch_s4_s5_s4, d, 0)}};
    golden_s4 preset = g;
    ssm_s4d_preset(&preset.any.d, SSM_PRESET_TRACETORCH);
    golden_s4_check(preset);
}

static void test_golden_s4_zerfoo(void)
{
    static const golden_s4 g = {
        .any = {"zerfoo S4", 0, {.d_model = 3, .d_state = 4}, 0},
        .batch = GOLD_ZERFOO_S4_BATCH, .len = GOLD_ZERFOO_S4_LEN, .layout = GOLDEN_S4_BLH,
        .x = GOLDEN(gold_zerfoo_s4_x), .y = GOLDEN(gold_zerfoo_s4_y), .last = GOLDEN(gold_zerfoo_s4_last),
        .dy = GOLDEN(gold_zerfoo_s4_dy), .dlast = GOLDEN(gold_zerfoo_s4_dlast),
        .grad_x = GOLDEN(gold_zerfoo_s4_grad_x),
        .weight = {GOLDEN_S4_BOTH("log_A_real", gold_zerfoo_s4, a_log, 0), GOLDEN_S4_BOTH("B", gold_zerfoo_s4, b, 0),
                   GOLDEN_S4_BOTH("C", gold_zerfoo_s4, c, 0), GOLDEN_S4_BOTH("D", gold_zerfoo_s4, d, 0)}};
    golden_s4 preset = g;
    ssm_s4d_preset(&preset.any.d, SSM_PRESET_ZERFOO);
    golden_s4_check(preset);
}

/* lrnnx: what stands before its GELU, from state0. */
#define GOLDEN_S4_LRNNX(P, p, A, flip) \
    .batch = P##_BATCH, .len = P##_LEN, .layout = GOLDEN_S4_BLH, .x = GOLDEN(p##_x), .state0 = GOLDEN(p##_state0), \
    .y = GOLDEN(p##_conv_state), .last = GOLDEN(p##_last), .dy = GOLDEN(p##_dy), .dlast = GOLDEN(p##_dlast), \
    .grad_x = GOLDEN(p##_grad_x), .grad_state0 = GOLDEN(p##_grad_state0), .kernel = GOLDEN(p##_kernel), \
    .weight = {GOLDEN_S4_BOTH("log_dt", p, inv_dt, 0), GOLDEN_S4_BOTH(A, p, a_real, 0), \
               GOLDEN_S4_BOTH("A_imag", p, a_imag, flip), GOLDEN_S4_BOTH("B", p, b, 0), GOLDEN_S4_BOTH("C", p, c, 0), \
               GOLDEN_S4_BOTH("D", p, d, 0)

static const golden_s4 golden_s4_lrnnx[] = {
    {.any = {"lrnnx S4", 1, {.d_model = 3, .d_state = 4}, 0},
     GOLDEN_S4_LRNNX(GOLD_LRNNX_S4_S4, gold_lrnnx_s4_s4, "A_real", 0), GOLDEN_S4_BOTH("P", gold_lrnnx_s4_s4, p, 0)}},
    {.any = {"lrnnx S4D zoh", 0, {.d_model = 3, .d_state = 4, .train_B = 1}, 0},
     GOLDEN_S4_LRNNX(GOLD_LRNNX_S4_S4D_ZOH, gold_lrnnx_s4_s4d_zoh, "log_A_real", 1)}},
    {.any = {"lrnnx S4D bilinear", 0, {.d_model = 3, .d_state = 4, .train_B = 1, .disc = SSM_DISC_BILINEAR}, 0},
     GOLDEN_S4_LRNNX(GOLD_LRNNX_S4_S4D_BILINEAR, gold_lrnnx_s4_s4d_bilinear, "log_A_real", 1)}},
};

/* The same outputs without gradients: those of `y` from the zero state, or from state0 if y is NULL. */
static golden_s4 golden_s4_outputs(const golden_s4 *g, const golden_array *y)
{
    static const golden_array none = GOLDEN_NONE;
    golden_s4 outputs = *g;
    outputs.dy = none;
    if (y) outputs.y = *y, outputs.state0 = outputs.last = none;
    return outputs;
}

/* GELU(linear(GELU(GELU(SSM)))), from state0. */
static void golden_s4_lrnnx_head(const golden_s4 *g, golden_array weight, golden_array bias, golden_array want)
{
    const size_t H = g->any.d.d_model, rows = g->batch * g->len;
    const ssm_seqs seqs = test_seqs(g->batch, g->len);
    s4_bound b = golden_s4_bind(g);
    ssm_real *x = golden_reals(g->x), *y = test_zeros(g->x.count), *z = test_zeros(g->x.count);
    ssm_real *w = golden_reals(weight), *add = golden_reals(bias), *state = golden_s4_state(g, g->state0);
    ssm_linear head = {0};
    size_t bytes, i;
    void *work = s4_work(&g->any, &seqs, 1, &bytes);
    CHECK_OK(s4_forward(&b, state, x, y, &seqs, ssm_memory_of(work, bytes)));
    for (i = 0; i < g->x.count; ++i) y[i] = our_gelu(our_gelu(y[i]));
    head.in = head.out = H;
    head.weight = w;
    head.bias = add;
    CHECK_OK(ssm_linear_forward(&head, ssm_rows_of(y, (ptrdiff_t)H), ssm_rows_out_of(z, (ptrdiff_t)H), rows));
    for (i = 0; i < g->x.count; ++i) z[i] = our_gelu(z[i]);
    golden_close("y_state", z, want, GOLDEN_TOL);
    golden_s4_state_close(g, "last", state, g->last);
    test_free(x, 0);
    test_free(y, 0);
    test_free(z, 0);
    test_free(w, 0);
    test_free(add, 0);
    test_free(state, 0);
    test_free(work, 1);
    s4_drop(&b);
}

#define GOLDEN_S4_HEAD(i, p) \
    do { \
        const golden_array weight = GOLDEN(p##_output_linear_0_weight), bias = GOLDEN(p##_output_linear_0_bias); \
        const golden_array y = GOLDEN(p##_y_state), conv = GOLDEN(p##_conv); \
        golden_s4_check(golden_s4_lrnnx[i]); \
        golden_s4_check(golden_s4_outputs(&golden_s4_lrnnx[i], &conv)); \
        golden_s4_lrnnx_head(&golden_s4_lrnnx[i], weight, bias, y); \
    } while (0)

static void test_golden_s4_lrnnx(void)
{
    GOLDEN_S4_HEAD(0, gold_lrnnx_s4_s4);
    GOLDEN_S4_HEAD(1, gold_lrnnx_s4_s4d_zoh);
    GOLDEN_S4_HEAD(2, gold_lrnnx_s4_s4d_bilinear);
}

/* Checkpoints with C~: the same layer, bound with l_max; and its C back in the parameters. */
static void test_golden_s4_c_tilde(void)
{
    static const struct {
        size_t len;
        golden_array c;
    } tilde[] = {{1, GOLDEN(gold_lrnnx_s4_s4_c_tilde_1)},
                 {2, GOLDEN(gold_lrnnx_s4_s4_c_tilde_2)},
                 {7, GOLDEN(gold_lrnnx_s4_s4_c_tilde_7)},
                 {16, GOLDEN(gold_lrnnx_s4_s4_c_tilde_16)},
                 {33, GOLDEN(gold_lrnnx_s4_s4_c_tilde_33)}};
    size_t i;
    for (i = 0; i < sizeof tilde / sizeof tilde[0]; ++i) {
        golden_s4 g = golden_s4_outputs(&golden_s4_lrnnx[0], NULL);
        s4_bound b;
        g.any.l_max = tilde[i].len;
        g.weight[4].value = tilde[i].c;
        golden_s4_check(g);
        b = golden_s4_bind(&g);
        CHECK_OK(ssm_s4_plain_C(&b.s, b.params));
        CHECK_CLOSE(b.params + b.s.core.offsets.C, gold_lrnnx_s4_s4_c, 12, TOL(2e-4, 1e-11));
        CHECK_STATUS(s4_record(&b, NULL, b.params, b.params, NULL, ssm_memory_of(NULL, 0), ssm_memory_of(NULL, 0)),
                     SSM_ERR_UNSUPPORTED);
        s4_drop(&b);
    }
}

/* Initialisations: S4D's spectra; LegS of S4, whose kernel is that of the real dense system. */
static void golden_s4_start(ssm_s4_A_init init, int real, const double *real_part, const double *imag_part)
{
    ssm_s4d_config c = {0};
    ssm_real params[128];
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = {rows, SSM_PARAMS_MAX, 0, 0};
    size_t n;
    c.d_model = 2;
    c.d_state = real ? 4 : 8;
    c.real_state = real;
    c.init = init;
    CHECK_OK(ssm_s4d_params(&c, NULL, &table));
    CHECK(table.count <= 128);
    CHECK_OK(ssm_s4d_init(&c, params, 1));
    for (n = 0; n < 8; ++n) {
        const double want = log(real_part[n % 4]);
        CHECK_CLOSE(params + ssm_params_find(&table, "log_A_real")->offset + n, &want, 1, TOL(1e-6, 1e-15));
        if (!real)
            CHECK_CLOSE(params + ssm_params_find(&table, "A_imag")->offset + n, imag_part + n % 4, 1, TOL(1e-6, 1e-14));
        if (n < 2) CHECK(params[n] >= (ssm_real)-6.91 && params[n] <= (ssm_real)-2.30); /* log_dt */
    }
    CHECK(rows[0].no_decay && rows[1].no_decay);
}

static void golden_s4_legs(size_t d_state, const double *a_imag, const double *P, const double *B, golden_array C,
                           golden_array log_dt, golden_array kernel)
{
    golden_s4 g = {.any = {"legs", 1, {.d_model = 2}, 0}, .kernel = kernel};
    const ssm_seqs one = test_seqs(1, 1);
    ssm_s4_config config = {0};
    s4_bound b = {0};
    size_t i, n = d_state / 2;
    g.any.d.d_state = d_state;
    b.any = g.any;
    CHECK_OK(s4_sizes(&b.any, &one, &b.need));
    b.params = (ssm_real *)test_alloc(b.need.params, 0);
    b.mem = test_alloc(b.need.bound, 0);
    CHECK_OK(s4_init(&b.any, b.params, 1));
    CHECK_OK(s4_rebind(&b));
    for (i = 0; i < 2 * n; ++i) {
        const double half = -0.69314718055994530942, imag = -a_imag[i % n];
        const ssm_real *p = b.params + b.s.core.offsets.P + 2 * i, *q = b.params + b.s.core.offsets.B + 2 * i;
        CHECK_CLOSE(b.params + b.s.core.offsets.A_real + i, &half, 1, TOL(1e-6, 1e-15));
        CHECK_CLOSE(b.params + b.s.core.offsets.A_imag + i, &imag, 1, TOL(1e-6, 1e-14));
        CHECK_CLOSE(p, P + i % n, 1, TOL(1e-6, 1e-14));
        CHECK_CLOSE(q, B + i % n, 1, TOL(1e-6, 1e-14));
        CHECK(p[1] == 0 && q[1] == 0);
    }
    for (i = 0; i < C.count; ++i) b.params[b.s.core.offsets.C + i] = (ssm_real)C.data[i];
    for (i = 0; i < log_dt.count; ++i) b.params[b.s.core.offsets.log_dt + i] = (ssm_real)log_dt.data[i];
    CHECK_OK(s4_rebind(&b));
    golden_s4_kernel(&g, &b);
    config.d_model = 2;
    config.d_state = 5;
    CHECK_STATUS(ssm_s4_config_resolve(&config, &config), SSM_ERR_CONFIG);
    s4_drop(&b);
}

#define GOLDEN_S4_LEGS(states, p)                                                                                  \
    do {                                                                                                           \
        const golden_array C = GOLDEN(p##_c), log_dt = GOLDEN(p##_log_dt), kernel = GOLDEN(p##_kernel);            \
        golden_s4_legs(states, p##_a_imag, p##_p, p##_b, C, log_dt, kernel);                                       \
    } while (0)

static void test_golden_s4_init(void)
{
    static const double half[4] = {0.5, 0.5, 0.5, 0.5}, zero[4] = {0, 0, 0, 0}, inverse[4] = {0.5, 0.75, 1.0, 1.25};
    const double pi = acos(-1.0), inv2[4] = {56 / pi, 24 / pi, 40 / (3 * pi), 8 / pi};
    const double quad[4] = {1 / pi, 9 / pi, 25 / pi, 49 / pi};
    golden_s4_start(SSM_S4_INIT_DEFAULT, 0, half, gold_s4_statespaces_init_lin);
    golden_s4_start(SSM_S4_INIT_INV, 0, half, gold_s4_statespaces_init_inv);
    golden_s4_start(SSM_S4_INIT_LEGS, 0, half, gold_s4_statespaces_init_legs);
    golden_s4_start(SSM_S4_INIT_INV2, 0, half, inv2); /* s4.py alone has these two: from its formulas */
    golden_s4_start(SSM_S4_INIT_QUAD, 0, half, quad);
    golden_s4_start(SSM_S4_INIT_REAL, 0, gold_s4_statespaces_init_real, zero);
    golden_s4_start(SSM_S4_INIT_DEFAULT, 1, gold_s4_statespaces_init_real, zero);
    golden_s4_start(SSM_S4_INIT_INV, 1, inverse, zero);
    golden_s4_start(SSM_S4_INIT_LIN, 1, half, zero);
    GOLDEN_S4_LEGS(4, gold_s4_statespaces_legs4);
    GOLDEN_S4_LEGS(16, gold_s4_statespaces_legs16);
}

/* The output map, with a layer whose SSM is the identity: C = 0, D = 1. */
static void test_golden_s4_output(void)
{
    golden_s4 g = {.any = {"GELU and GLU", 0, {.d_model = 3, .d_state = 2, .activation = SSM_S4_ACTIVATION_GELU,
                                              .output = SSM_S4_OUTPUT_GLU}, 0},
                   .batch = 2, .len = 5, .layout = GOLDEN_S4_BHL,
                   .x = GOLDEN(gold_s4_statespaces_layer_x), .y = GOLDEN(gold_s4_statespaces_layer_y),
                   .dy = GOLDEN(gold_s4_statespaces_layer_dy), .grad_x = GOLDEN(gold_s4_statespaces_layer_grad_x)};
    static const double zero[6] = {0, 0, 0, 0, 0, 0}, one[3] = {1, 1, 1};
    const golden_s4_weight weight[] = {
        {"log_dt", GOLDEN(one), GOLDEN_NONE, 0},
        {"log_A_real", GOLDEN(one), GOLDEN_NONE, 0},
        {"A_imag", GOLDEN(one), GOLDEN_NONE, 0},
        {"C", GOLDEN(zero), GOLDEN_NONE, 0},
        {"D", GOLDEN(one), GOLDEN_NONE, 0},
        {"output_linear.weight", GOLDEN(gold_s4_statespaces_layer_w), GOLDEN(gold_s4_statespaces_layer_grad_w), 0},
        {"output_linear.bias", GOLDEN(gold_s4_statespaces_layer_bias), GOLDEN(gold_s4_statespaces_layer_grad_bias), 0}};
    memcpy(g.weight, weight, sizeof weight);
    golden_s4_check(g);
}

static void test_golden_s4_gelu(void)
{
    size_t i;
    for (i = 0; i < GOLD_TRANSITIONS_TABLE_COUNT; ++i) {
        const ssm_real x = (ssm_real)gold_transitions_table_x[i];
        const ssm_real erf_got = our_erf(x), gelu = our_gelu(x), slope = ssm__gelu_derivative(x);
        CHECK_CLOSE(&erf_got, gold_transitions_table_erf + i, 1, TOL(3e-7, 1e-15));
        CHECK_CLOSE(&gelu, gold_transitions_table_gelu_erf + i, 1, TOL(5e-7, 2e-15));
        CHECK(fabs((double)slope - gold_transitions_table_gelu_erf_d[i]) <= TOL(3e-7, 6e-16));
    }
}

/* irithyll's DiagonalSSM: one channel, A = -1 .. -N, a fixed step. */
static void test_golden_s4_irithyll(void)
{
    double log_dt[1], log_A[5];
    golden_s4 g = {.any = {"irithyll", 0, {.d_model = 1, .d_state = 5, .real_state = 1,
                                           .weights = SSM_S4_WEIGHTS_ONE, .train_B = 1}, 0},
                   .batch = 1, .len = 8, .layout = GOLDEN_S4_BHL,
                   .x = GOLDEN(gold_irithyll_diagonal_x), .y = GOLDEN(gold_irithyll_diagonal_y),
                   .last = GOLDEN(gold_irithyll_diagonal_state)};
    const golden_s4_weight weight[] = {{"log_dt", GOLDEN(log_dt), GOLDEN_NONE, 0},
                                       {"log_A_real", GOLDEN(log_A), GOLDEN_NONE, 0},
                                       {"B", GOLDEN(gold_irithyll_diagonal_b), GOLDEN_NONE, 0},
                                       {"C", GOLDEN(gold_irithyll_diagonal_c), GOLDEN_NONE, 0},
                                       {"D", GOLDEN(gold_irithyll_diagonal_d_skip), GOLDEN_NONE, 0}};
    size_t n;
    log_dt[0] = log(gold_irithyll_diagonal_delta[0]);
    for (n = 0; n < 5; ++n) log_A[n] = log((double)n + 1);
    memcpy(g.weight, weight, sizeof weight);
    golden_s4_check(g);
}

static const test_case golden_s4_cases[] = {
    {"golden_s4/statespaces", test_golden_s4_statespaces},
    {"golden_s4/tracetorch", test_golden_s4_tracetorch},
    {"golden_s4/zerfoo", test_golden_s4_zerfoo},
    {"golden_s4/irithyll", test_golden_s4_irithyll},
    {"golden_s4/lrnnx", test_golden_s4_lrnnx},
    {"golden_s4/c_tilde", test_golden_s4_c_tilde},
    {"golden_s4/init", test_golden_s4_init},
    {"golden_s4/output", test_golden_s4_output},
    {"golden_s4/gelu", test_golden_s4_gelu},
};
