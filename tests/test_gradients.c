/* test_gradients.c - every gradient of the ops against central differences of the oracles of
 * test_ops.c. The oracles are double in both builds, so the differences are exact to about 1e-11
 * and the float build is tested as strictly as its own rounding allows. */

/* ------------------------------------------------------------------ central differences */

/* Relative to the norm of the gradient, or to a tenth. Float: rounding of a few hundred steps, forward
 * and back; double: what the differences are worth. Largest error measured over twenty seeds: 3.4e-5
 * (float), 3.5e-9 (double). */
#define GRADIENTS_TOLERANCE TOL(1e-4, 2e-8)

static void gradients_check(const char *what, test_loss loss, void *context, double *x, const ssm_real *gradient,
                            size_t count, ssm_rng *rng)
{
    const double allowed = GRADIENTS_TOLERANCE * (test_norm(gradient, count) + 0.1);
    test_gradient(what, loss, context, x, gradient, count, 1e-4, allowed, rng);
}

/* ------------------------------------------------------------------ gradients of a problem */

typedef union gradients_views {
    ssm_selective_scan_grad scan;
    ssm_conv_grad conv;
} gradients_views;

/* Loss = sum of weight x output over y and the state out; the weights are dy and dh_last. */
typedef struct gradients_problem {
    ops_problem p;
    ssm_real *gradient[OPS_TENSORS]; /* of inputs; of outputs: the weights */
    double *weight[OPS_TENSORS];     /* of outputs */
    gradients_views views;
} gradients_problem;

static double gradients_problem_loss(void *context)
{
    gradients_problem *g = (gradients_problem *)context;
    double loss = 0;
    size_t i, k;
    g->p.kind->oracle(&g->p);
    for (i = g->p.kind->inputs; i < g->p.kind->inputs + 2; ++i)
        for (k = 0; g->p.t[i].real && k < g->p.t[i].count; ++k) loss += g->weight[i][k] * g->p.t[i].exact[k];
    return loss;
}

/* A problem with random weights on its outputs and zero gradients, h0 wanted even if it is absent. */
static void gradients_open(gradients_problem *g, const ops_kind *kind, const ops_spec *spec, ssm_rng *rng)
{
    size_t i;
    memset(g, 0, sizeof *g);
    ops_open(&g->p, kind, spec, rng);
    for (i = 0; i < kind->inputs + 2; ++i) {
        const int output = i >= kind->inputs;
        if (!g->p.t[i].real) continue;
        g->gradient[i] = output ? test_normal(rng, g->p.t[i].count, 1) : test_zeros(g->p.t[i].count);
        if (output) g->weight[i] = test_doubles(g->gradient[i], g->p.t[i].count);
        ops_set_view(&g->views, kind->rows[i].grad, ops_view(&g->p, i, g->gradient[i]));
    }
    ops_set_data(kind, &g->p.op, kind->inputs, NULL); /* backward reads no output */
    ops_set_data(kind, &g->p.op, kind->inputs + 1, NULL);
}

static void gradients_close(gradients_problem *g)
{
    size_t i;
    for (i = 0; i < OPS_TENSORS; ++i) {
        if (g->gradient[i]) test_free(g->gradient[i], 0);
        if (g->weight[i]) test_free(g->weight[i], 0);
    }
    ops_close(&g->p);
}

/* Backward with a block of `bytes`. */
static ssm_status gradients_call(const ops_kind *kind, const ops_op *op, const gradients_views *views, size_t bytes,
                                 size_t misalign)
{
    void *work = test_alloc(bytes, misalign);
    ssm_status status = kind == &ops_scan_kind
                            ? ssm_selective_scan_backward(&op->scan, &views->scan, ssm_memory_of(work, bytes))
                            : ssm_conv_backward(&op->conv, &views->conv);
    test_free(work, misalign);
    return status;
}

static size_t gradients_bytes(const ops_kind *kind, const ops_op *op)
{
    ssm_sizes need = {0};
    CHECK_OK(kind->sizes(op, &need));
    return need.work_backward;
}

static void gradients_run(const ops_kind *kind, const ops_op *op, const gradients_views *views)
{
    CHECK_OK(gradients_call(kind, op, views, gradients_bytes(kind, op), 0));
}

static void gradients_of(const ops_kind *kind, const ops_spec *spec, ssm_rng *rng)
{
    static const char *const scan_names[] = {"u", "delta", "A", "B", "C", "D", "z",
                                             "delta_bias", "delta_A", "lambda", "h0"};
    static const char *const conv_names[] = {"x", "weight", "bias", "state"};
    const size_t before = test_failures;
    gradients_problem g;
    size_t i;
    gradients_open(&g, kind, spec, rng);
    gradients_run(kind, &g.p.op, &g.views);
    for (i = 0; i < kind->inputs; ++i)
        if (g.gradient[i])
            gradients_check(kind == &ops_scan_kind ? scan_names[i] : conv_names[i], gradients_problem_loss, &g,
                            g.p.t[i].exact, g.gradient[i], g.p.t[i].count, rng);
    ops_note(spec, before);
    gradients_close(&g);
}

/* ------------------------------------------------------------------ scan */

/* Each with every discretisation, softplus off and on. */
static void gradients_each_disc(const ops_spec *specs, size_t count, uint64_t salt)
{
    ssm_rng rng = test_rng(salt);
    size_t i, d, softplus;
    for (i = 0; i < count; ++i) {
        for (d = 0; d < OPS_FORMS; ++d) {
            for (softplus = 0; softplus < 2; ++softplus) {
                ops_spec spec = specs[i];
                ops_set_form(&spec, d);
                if (softplus) spec.flags |= OPS_SOFTPLUS;
                gradients_of(&ops_scan_kind, &spec, &rng);
            }
        }
    }
}

static void gradients_scan_options(void)
{
    static const ops_spec specs[] = {
        {OPS_EXTENTS(2, 5, 2, 3)},
        {OPS_EXTENTS(2, 5, 3, 2), .flags = OPS_EVERYTHING},
        {OPS_EXTENTS(1, 6, 2, 2), .flags = OPS_STATES | OPS_HAS(OPS_Z)},
        {OPS_EXTENTS(1, 6, 2, 2), .flags = OPS_HAS(OPS_H_LAST) | OPS_HAS(OPS_D) | OPS_HAS(OPS_LAMBDA)},
        {OPS_EXTENTS(2, 3, 2, 2), .flags = OPS_HAS(OPS_H0) | OPS_HAS(OPS_DELTA_A) | OPS_HAS(OPS_BIAS)},
        {OPS_EXTENTS(2, 4, 6, 2), OPS_GROUPS(3, 2), .flags = OPS_EVERYTHING},
        {OPS_EXTENTS(1, 4, 4, 2), OPS_GROUPS(4, 1), .flags = OPS_STATES | OPS_TIME_LAST},
        {OPS_EXTENTS(4, 15, 2, 2), .flags = OPS_EVERYTHING | OPS_PACKED},
        {OPS_EXTENTS(3, 9, 2, 2), .B_groups = 2, .flags = OPS_STATES | OPS_PACKED | OPS_TIME_LAST},
    };
    gradients_each_disc(specs, TEST_COUNT(specs), 21);
}

/* Around the steps at which backward keeps states. */
static void gradients_scan_lengths(void)
{
    static const ops_spec specs[] = {
        {OPS_EXTENTS(1, 0, 2, 2), .flags = OPS_STATES},
        {OPS_EXTENTS(1, 1, 2, 2), .flags = OPS_EVERYTHING},
        {OPS_EXTENTS(1, 63, 1, 2), .flags = OPS_STATES},
        {OPS_EXTENTS(1, 64, 2, 1), .flags = OPS_EVERYTHING},
        {OPS_EXTENTS(1, 65, 1, 2), .flags = OPS_EVERYTHING},
        {OPS_EXTENTS(1, 130, 1, 2), .flags = OPS_STATES | OPS_HAS(OPS_Z)},
        {OPS_EXTENTS(2, 200, 1, 1), .flags = OPS_EVERYTHING},
        {OPS_EXTENTS(3, 300, 1, 1), .flags = OPS_STATES | OPS_PACKED},
    };
    gradients_each_disc(specs, TEST_COUNT(specs), 22);
}

/* The gradient of a value that is broadcast is the sum over its uses. */
static void gradients_scan_broadcast(void)
{
    ops_spec specs[OPS_H0 + 2];
    const ops_spec base = {OPS_EXTENTS(2, 4, 4, 2), .B_groups = 2, .flags = OPS_EVERYTHING};
    size_t i;
    for (i = 0; i < TEST_COUNT(specs); ++i) {
        specs[i] = base;
        specs[i].flags |= i <= OPS_H0 ? OPS_FLAT(i) : OPS_ALL_FLAT;
    }
    gradients_each_disc(specs, TEST_COUNT(specs), 23);
}

/* Where formulas of ZOH change over, and A = 0; the other discretisations must not mind. */
static void gradients_scan_small_A(void)
{
    static const ops_spec specs[] = {
        {OPS_EXTENTS(1, 6, 2, 2), .A_from = -1e-3, .A_to = 1e-3, .flags = OPS_STATES},
        {OPS_EXTENTS(1, 6, 2, 2), .A_from = -1e-9, .A_to = 1e-9, .flags = OPS_EVERYTHING},
        {OPS_EXTENTS(1, 6, 2, 2), .A_from = -1e-40, .A_to = 1e-40, .flags = OPS_STATES},
        {OPS_EXTENTS(1, 8, 2, 4), .A_from = -0.6, .A_to = -0.4, .delta_from = 0.95, .delta_to = 1.05,
         .flags = OPS_STATES},
        {OPS_EXTENTS(1, 8, 2, 4), .A_from = 0.4, .A_to = 0.6, .delta_from = 0.95, .delta_to = 1.05,
         .flags = OPS_STATES},
        {OPS_EXTENTS(1, 8, 2, 4), .A_from = -0.6, .A_to = 0.6, .delta_from = 0.8, .delta_to = 1.2,
         .flags = OPS_EVERYTHING},
    };
    gradients_each_disc(specs, TEST_COUNT(specs), 24);
}

/* ------------------------------------------------------------------ convolution */

static void gradients_conv(void)
{
    static const unsigned flags[] = {
        0,
        OPS_HAS(OPS_STATE_LAST),
        OPS_CONV_STATES | OPS_HAS(OPS_CONV_BIAS),
        OPS_CONV_STATES | OPS_HAS(OPS_CONV_BIAS) | OPS_SILU,
        OPS_CONV_STATES | OPS_SILU | OPS_PACKED,
        OPS_CONV_STATES | OPS_TIME_LAST | OPS_FLAT(OPS_WEIGHT) | OPS_FLAT(OPS_X),
        OPS_CONV_STATES | OPS_HAS(OPS_CONV_BIAS) | OPS_FLAT(OPS_STATE) | OPS_FLAT(OPS_CONV_BIAS),
    };
    static const size_t lens[] = {0, 1, 2, 5, 65};
    ssm_rng rng = test_rng(25);
    size_t width, i, j;
    for (width = 1; width <= 7; ++width) {
        for (i = 0; i < TEST_COUNT(lens); ++i) {
            for (j = 0; j < TEST_COUNT(flags); ++j) {
                ops_spec spec = {.batch = 3, .dim = 2};
                spec.width = width;
                spec.len = lens[i];
                spec.flags = flags[j];
                gradients_of(&ops_conv_kind, &spec, &rng);
            }
        }
    }
}

/* ------------------------------------------------------------------ laws of both */

/* Runs a law on small problems of both kinds. */
static void gradients_each_law(void (*law)(gradients_problem *g, ssm_rng *rng))
{
    static const ops_spec specs[] = {
        {OPS_EXTENTS(2, 7, 4, 2), OPS_GROUPS(2, 4), .flags = OPS_EVERYTHING | OPS_SOFTPLUS},
        {OPS_EXTENTS(1, 130, 2, 3), .flags = OPS_STATES | OPS_HAS(OPS_D)},
        {.batch = 1, .len = 9, .dim = 3, .width = 4, .flags = OPS_HAS(OPS_CONV_BIAS) | OPS_CONV_STATES | OPS_SILU},
        {.batch = 2, .len = 2, .dim = 3, .width = 7, .flags = OPS_CONV_STATES},
    };
    ssm_rng rng = test_rng(26);
    size_t i, d;
    for (i = 0; i < TEST_COUNT(specs); ++i) {
        const ops_kind *kind = specs[i].width ? &ops_conv_kind : &ops_scan_kind;
        for (d = 0; d < (specs[i].width ? 1 : OPS_FORMS); ++d) {
            ops_spec spec = specs[i];
            const size_t before = test_failures;
            gradients_problem g;
            ops_set_form(&spec, d);
            gradients_open(&g, kind, &spec, &rng);
            gradients_run(kind, &g.p.op, &g.views);
            law(&g, &rng);
            ops_note(&spec, before);
            gradients_close(&g);
        }
    }
}

/* The same views over new memory, holding `value`. */
static gradients_views gradients_redirect(const gradients_problem *g, ssm_real *fresh[OPS_TENSORS], double value)
{
    gradients_views views = g->views;
    size_t i;
    for (i = 0; i < g->p.kind->inputs; ++i) {
        fresh[i] = NULL;
        if (!g->gradient[i]) continue;
        fresh[i] = test_zeros(g->p.t[i].count);
        ops_set(fresh[i], g->p.t[i].count, value);
        ops_set_view(&views, g->p.kind->rows[i].grad, ops_view(&g->p, i, fresh[i]));
    }
    return views;
}

static void gradients_free(const gradients_problem *g, ssm_real *fresh[OPS_TENSORS])
{
    size_t i;
    for (i = 0; i < g->p.kind->inputs; ++i)
        if (fresh[i]) test_free(fresh[i], 0);
}

/* Gradients are added to what is there. Tolerance: each of up to 260 additions rounds once more. */
static void gradients_law_added(gradients_problem *g, ssm_rng *rng)
{
    ssm_real *fresh[OPS_TENSORS];
    const gradients_views views = gradients_redirect(g, fresh, 3);
    size_t i, k;
    (void)rng;
    gradients_run(g->p.kind, &g->p.op, &views);
    for (i = 0; i < g->p.kind->inputs; ++i) {
        double *want;
        if (!fresh[i]) continue;
        want = test_doubles(g->gradient[i], g->p.t[i].count);
        for (k = 0; k < g->p.t[i].count; ++k) want[k] += 3;
        OPS_CHECK_CLOSE(fresh[i], want, g->p.t[i].count, TOL(2e-5, 4e-14));
        test_free(want, 0);
    }
    gradients_free(g, fresh);
}

/* Each gradient left out in turn, then each alone: the others do not change by a bit. */
static void gradients_law_unwanted(gradients_problem *g, ssm_rng *rng)
{
    size_t out, alone, i;
    (void)rng;
    for (out = 0; out < g->p.kind->inputs; ++out) {
        for (alone = 0; alone < 2; ++alone) {
            ssm_real *fresh[OPS_TENSORS];
            gradients_views views = gradients_redirect(g, fresh, 0);
            for (i = 0; i < g->p.kind->inputs; ++i)
                if ((i == out) != alone) ops_set_view(&views, g->p.kind->rows[i].grad, ops_view(&g->p, i, NULL));
            gradients_run(g->p.kind, &g->p.op, &views);
            for (i = 0; i < g->p.kind->inputs; ++i) {
                if (!fresh[i]) continue;
                if ((i == out) == alone) CHECK_SAME(fresh[i], g->gradient[i], g->p.t[i].count);
                else CHECK(test_norm(fresh[i], g->p.t[i].count) == 0);
            }
            gradients_free(g, fresh);
        }
    }
}

/* Exactly the bytes asked for, anywhere; one byte less changes nothing. */
static void gradients_law_memory(gradients_problem *g, ssm_rng *rng)
{
    static const size_t misaligned[] = {0, 1, 3};
    const size_t bytes = gradients_bytes(g->p.kind, &g->p.op);
    size_t i, k;
    (void)rng;
    for (i = 0; g->p.kind == &ops_scan_kind && i < TEST_COUNT(misaligned); ++i) {
        ssm_real *fresh[OPS_TENSORS];
        const gradients_views views = gradients_redirect(g, fresh, 0);
        CHECK_STATUS(gradients_call(g->p.kind, &g->p.op, &views, bytes - 1, misaligned[i]), SSM_ERR_MEMORY);
        for (k = 0; k < g->p.kind->inputs; ++k)
            if (fresh[k]) CHECK(test_norm(fresh[k], g->p.t[k].count) == 0);
        CHECK_OK(gradients_call(g->p.kind, &g->p.op, &views, bytes, misaligned[i]));
        for (k = 0; k < g->p.kind->inputs; ++k)
            if (fresh[k]) CHECK_SAME(fresh[k], g->gradient[k], g->p.t[k].count);
        gradients_free(g, fresh);
    }
}

/* Moves every view with an axis of time by `steps`. */
static void gradients_advance(const ops_kind *kind, gradients_views *views, size_t steps)
{
    size_t i;
    for (i = 0; i < kind->inputs + 2; ++i) {
        ssm_out v;
        memcpy(&v, (char *)views + kind->rows[i].grad, sizeof v);
        if (kind->rows[i].axes[1] == '.' || !v.data) continue;
        v.data += (ptrdiff_t)steps * v.time;
        ops_set_view(views, kind->rows[i].grad, v);
    }
}

/* Backward of the whole = backward of the tail, then of the head, chained through the state and its
 * gradient. `k` steps in the head. Gradients shared by both pieces add up in another order. */
static void gradients_split_at(gradients_problem *g, size_t k)
{
    const ops_kind *kind = g->p.kind;
    const size_t first = kind->inputs - 1, last = kind->inputs;
    const ops_tensor *state = &g->p.t[last];
    ssm_real *fresh[OPS_TENSORS], *y = test_zeros(g->p.t[last + 1].count);
    ssm_real *middle = test_zeros(state->count), *dmiddle = test_zeros(state->count);
    gradients_views views = gradients_redirect(g, fresh, 0), tail_views = views;
    ops_op head = g->p.op, tail = g->p.op;
    size_t i;
    head.scan.len = k;
    tail.scan.len = g->p.spec.len - k;
    ops_set_view(&head, kind->rows[last].view, ops_view(&g->p, last, middle));
    ops_set_view(&head, kind->rows[last + 1].view, ops_view(&g->p, last + 1, y));
    ops_run(kind, &head, 0);
    ops_advance(kind, &tail, 't', k);
    ops_set_view(&tail, kind->rows[first].view, ops_view(&g->p, last, middle));
    gradients_advance(kind, &tail_views, k);
    ops_set_view(&tail_views, kind->rows[first].grad, ops_view(&g->p, last, dmiddle));
    gradients_run(kind, &tail, &tail_views);
    ops_set_view(&views, kind->rows[last].grad, ops_view(&g->p, last, dmiddle));
    gradients_run(kind, &head, &views);
    for (i = 0; i < kind->inputs; ++i) {
        double *want;
        if (!fresh[i]) continue;
        want = test_doubles(g->gradient[i], g->p.t[i].count);
        OPS_CHECK_CLOSE(fresh[i], want, g->p.t[i].count, TOL(1e-5, 2e-14)); /* 130 roundings of a sum at most */
        test_free(want, 0);
    }
    gradients_free(g, fresh);
    test_free(middle, 0), test_free(dmiddle, 0), test_free(y, 0);
}

static void gradients_law_split(gradients_problem *g, ssm_rng *rng)
{
    size_t k;
    for (k = 0; k <= g->p.spec.len; k += 1 + (size_t)(ssm_rng_next(rng) % 9)) gradients_split_at(g, k);
}

static void gradients_added(void)
{
    gradients_each_law(gradients_law_added);
}

static void gradients_unwanted(void)
{
    gradients_each_law(gradients_law_unwanted);
}

static void gradients_memory(void)
{
    gradients_each_law(gradients_law_memory);
}

static void gradients_split(void)
{
    gradients_each_law(gradients_law_split);
}

/* Without h0 its gradient is still to be had: that at zero. */
static void gradients_absent_state(void)
{
    ops_spec spec = {OPS_EXTENTS(1, 5, 2, 2), .flags = OPS_STATES};
    ssm_rng rng = test_rng(27);
    size_t d;
    for (d = 0; d < OPS_FORMS; ++d) {
        gradients_problem g;
        ssm_real *fresh[OPS_TENSORS];
        gradients_views views;
        ops_op op;
        ops_set_form(&spec, d);
        gradients_open(&g, &ops_scan_kind, &spec, &rng);
        ops_set(g.p.t[OPS_H0].real, g.p.t[OPS_H0].count, 0);
        gradients_run(g.p.kind, &g.p.op, &g.views);
        views = gradients_redirect(&g, fresh, 0);
        op = g.p.op;
        op.scan.h0.data = NULL;
        gradients_run(g.p.kind, &op, &views);
        CHECK_SAME(fresh[OPS_H0], g.gradient[OPS_H0], g.p.t[OPS_H0].count);
        CHECK_SAME(fresh[OPS_U], g.gradient[OPS_U], g.p.t[OPS_U].count);
        gradients_free(&g, fresh);
        gradients_close(&g);
    }
}

static ssm_status gradients_status(const gradients_problem *g, const ops_op *op, const gradients_views *views)
{
    return gradients_call(g->p.kind, op, views, gradients_bytes(g->p.kind, &g->p.op), 0);
}

/* Whatever is wrong, no gradient is touched. */
static void gradients_law_errors(gradients_problem *g, ssm_rng *rng)
{
    const ops_kind *kind = g->p.kind;
    const int scan = kind == &ops_scan_kind;
    const size_t starts[2] = {g->p.spec.len + 1, g->p.spec.len + 1};
    ssm_real *fresh[OPS_TENSORS];
    gradients_views views = gradients_redirect(g, fresh, OPS_MARK), no_dy = views;
    ops_op bad;
    size_t i, k, touched = 0;
    (void)rng;
    for (i = 0; i < kind->inputs; ++i) {
        bad = g->p.op;
        ops_set_data(kind, &bad, i, NULL);
        if (kind->required >> i & 1) CHECK_STATUS(gradients_status(g, &bad, &views), SSM_ERR_NULL);
    }
    bad = g->p.op;
    bad.scan.dim = 0;
    CHECK_STATUS(gradients_status(g, &bad, &views), SSM_ERR_CONFIG);
    bad = g->p.op;
    bad.scan.batch = 1;
    ops_set_start(kind, &bad, starts);
    CHECK_STATUS(gradients_status(g, &bad, &views), SSM_ERR_SHAPE);
    ops_set_view(&no_dy, kind->rows[kind->inputs + 1].grad, ops_view(&g->p, kind->inputs + 1, NULL));
    CHECK_STATUS(gradients_status(g, &g->p.op, &no_dy), SSM_ERR_NULL);
    if (scan) CHECK_STATUS(ssm_selective_scan_backward(&g->p.op.scan, NULL, ssm_memory_of(NULL, 0)), SSM_ERR_NULL);
    if (scan)
        CHECK_STATUS(ssm_selective_scan_backward(&g->p.op.scan, &views.scan, ssm_memory_of(NULL, 1u << 30)),
                     SSM_ERR_NULL);
    if (!scan) CHECK_STATUS(ssm_conv_backward(&g->p.op.conv, NULL), SSM_ERR_NULL);
    for (i = 0; i < kind->inputs; ++i)
        for (k = 0; fresh[i] && k < g->p.t[i].count; ++k) touched += !(fresh[i][k] == OPS_MARK);
    CHECK(touched == 0);
    gradients_free(g, fresh);
}

static void gradients_errors(void)
{
    gradients_each_law(gradients_law_errors);
    CHECK_STATUS(ssm_selective_scan_backward(NULL, NULL, ssm_memory_of(NULL, 0)), SSM_ERR_NULL);
    CHECK_STATUS(ssm_conv_backward(NULL, NULL), SSM_ERR_NULL);
}

/* Finite where the forward is: decay to nothing, and ZOH at A = 0. */
static void gradients_extremes(void)
{
    static const double A[] = {0, -1e-30, -1e4}, delta[] = {0, 1e-30, 1, 1e4};
    ssm_rng rng = test_rng(28);
    size_t d, i, j, k, m;
    for (d = 0; d < OPS_FORMS; ++d) {
        for (i = 0; i < TEST_COUNT(A); ++i) {
            for (j = 0; j < TEST_COUNT(delta); ++j) {
                ops_spec spec = {OPS_EXTENTS(1, 3, 1, 1), .flags = OPS_STATES};
                gradients_problem g;
                ops_set_form(&spec, d);
                gradients_open(&g, &ops_scan_kind, &spec, &rng);
                ops_set(g.p.t[OPS_A].real, 1, A[i]);
                ops_set(g.p.t[OPS_DELTA].real, 3, delta[j]);
                gradients_run(g.p.kind, &g.p.op, &g.views);
                for (k = 0; k < g.p.kind->inputs; ++k)
                    for (m = 0; g.gradient[k] && m < g.p.t[k].count; ++m)
                        CHECK(g.gradient[k][m] - g.gradient[k][m] == 0);
                gradients_close(&g);
            }
        }
    }
}

/* ------------------------------------------------------------------ linear and RMSNorm */

/* x, weight, bias and dy of one product or one norm (there in = out and no bias); rows have gaps. */
enum { GRADIENTS_X, GRADIENTS_WEIGHT, GRADIENTS_BIAS, GRADIENTS_DY, GRADIENTS_PARTS };

typedef struct gradients_rows {
    size_t in, out, rows, x_row, y_row;
    int norm;
    size_t count[GRADIENTS_PARTS];
    ssm_real *real[GRADIENTS_PARTS];
    double *exact[GRADIENTS_PARTS];
    ssm_real *gradient[GRADIENTS_PARTS];
} gradients_rows;

#define GRADIENTS_EPS 0.25 /* large enough to matter */

static double gradients_rows_loss(void *context)
{
    const gradients_rows *g = (const gradients_rows *)context;
    double y[128], loss = 0;
    size_t r, o;
    for (r = 0; r < g->rows; ++r) {
        const double *x = g->exact[GRADIENTS_X] + r * g->x_row;
        if (g->norm) ops_norm_oracle(g->exact[GRADIENTS_WEIGHT], x, GRADIENTS_EPS, g->in, y);
        for (o = 0; !g->norm && o < g->out; ++o)
            y[o] = ops_linear_oracle(g->exact[GRADIENTS_WEIGHT], g->exact[GRADIENTS_BIAS], x, g->in, o);
        for (o = 0; o < g->out; ++o) loss += y[o] * g->exact[GRADIENTS_DY][r * g->y_row + o];
    }
    return loss;
}

static void gradients_rows_open(gradients_rows *g, int norm, size_t in, size_t out, size_t rows, ssm_rng *rng)
{
    size_t i;
    g->norm = norm;
    g->in = in;
    g->out = out;
    g->rows = rows;
    g->x_row = in + 3;
    g->y_row = out + 2;
    g->count[GRADIENTS_X] = rows * g->x_row;
    g->count[GRADIENTS_WEIGHT] = norm ? in : in * out;
    g->count[GRADIENTS_BIAS] = out;
    g->count[GRADIENTS_DY] = rows * g->y_row;
    for (i = 0; i < GRADIENTS_PARTS; ++i) {
        g->real[i] = test_normal(rng, g->count[i], 1);
        g->exact[i] = test_doubles(g->real[i], g->count[i]);
        g->gradient[i] = test_zeros(g->count[i]);
    }
}

static void gradients_rows_close(gradients_rows *g)
{
    size_t i;
    for (i = 0; i < GRADIENTS_PARTS; ++i) {
        test_free(g->real[i], 0);
        test_free(g->exact[i], 0);
        test_free(g->gradient[i], 0);
    }
}

/* Backward into dx, dweight, dbias, any of them NULL. */
static ssm_status gradients_rows_run(const gradients_rows *g, ssm_real *dx, ssm_real *dweight, ssm_real *dbias)
{
    const ssm_real *x = g->real[GRADIENTS_X], *dy = g->real[GRADIENTS_DY];
    const ptrdiff_t x_row = (ptrdiff_t)g->x_row, y_row = (ptrdiff_t)g->y_row;
    ssm_linear linear = {0};
    ssm_norm norm = {.dim = 0, .eps = (ssm_real)GRADIENTS_EPS};
    linear.in = norm.dim = g->in;
    linear.out = g->out;
    linear.weight = norm.weight = g->real[GRADIENTS_WEIGHT];
    linear.bias = g->real[GRADIENTS_BIAS];
    if (g->norm)
        return ssm_norm_backward(&norm, ssm_rows_of(x, x_row), ssm_rows_of(dy, y_row), ssm_rows_out_of(dx, x_row),
                                 dweight, g->rows);
    return ssm_linear_backward(&linear, ssm_rows_of(x, x_row), ssm_rows_of(dy, y_row), ssm_rows_out_of(dx, x_row),
                               dweight, dbias, g->rows);
}

/* Once more, one gradient at a time, onto the first result: twice the gradient. Tolerance: sums in
 * another order. */
static void gradients_rows_added(gradients_rows *g)
{
    size_t i, k;
    for (i = 0; i < GRADIENTS_DY; ++i) {
        double *want = test_doubles(g->gradient[i], g->count[i]);
        ssm_real *into[GRADIENTS_DY] = {NULL, NULL, NULL};
        for (k = 0; k < g->count[i]; ++k) want[k] *= 2;
        into[i] = g->gradient[i];
        CHECK_OK(gradients_rows_run(g, into[GRADIENTS_X], into[GRADIENTS_WEIGHT], into[GRADIENTS_BIAS]));
        OPS_CHECK_CLOSE(g->gradient[i], want, g->count[i], TOL(2e-6, 4e-15));
        test_free(want, 0);
    }
}

static void gradients_rows_case(int norm, size_t in, size_t out, size_t rows, ssm_rng *rng)
{
    static const char *const names[] = {"x", "weight", "bias"};
    gradients_rows g;
    size_t i;
    gradients_rows_open(&g, norm, in, out, rows, rng);
    CHECK_OK(gradients_rows_run(&g, g.gradient[GRADIENTS_X], g.gradient[GRADIENTS_WEIGHT], g.gradient[GRADIENTS_BIAS]));
    for (i = 0; i < GRADIENTS_DY; ++i) /* gaps between rows of x count as elements with gradient 0 */
        gradients_check(names[i], gradients_rows_loss, &g, g.exact[i], g.gradient[i], g.count[i], rng);
    gradients_rows_added(&g);
    gradients_rows_close(&g);
}

static void gradients_linear_and_norm(void)
{
    static const size_t sizes[] = {1, 2, 15, 16, 17, 33}, rows[] = {0, 1, 5};
    ssm_rng rng = test_rng(29);
    size_t i, j, k;
    for (k = 0; k < TEST_COUNT(rows); ++k) {
        for (i = 0; i < TEST_COUNT(sizes); ++i) {
            for (j = 0; j < TEST_COUNT(sizes); ++j) gradients_rows_case(0, sizes[i], sizes[j], rows[k], &rng);
            gradients_rows_case(1, sizes[i], sizes[i], rows[k], &rng);
        }
    }
    gradients_rows_case(0, 200, 100, 21, &rng); /* several tasks */
}

static void gradients_linear_and_norm_errors(void)
{
    ssm_real a[4] = {1, 2, 3, 4}, out[4] = {OPS_MARK, OPS_MARK, OPS_MARK, OPS_MARK};
    ssm_linear linear = {2, 2, NULL, NULL, NULL, SSM_FORMAT_REAL, NULL, SSM_ISA_BEST};
    ssm_norm norm = {.dim = 2, .eps = 0};
    size_t i;
    /* dx needs the weight */
    CHECK_STATUS(
        ssm_linear_backward(&linear, ssm_rows_of(a, 2), ssm_rows_of(a, 2), ssm_rows_out_of(out, 2), NULL, NULL, 1),
        SSM_ERR_NULL);
    linear.weight = norm.weight = a;
    CHECK_STATUS(ssm_linear_backward(NULL, ssm_rows_of(a, 2), ssm_rows_of(a, 2), ssm_rows_out_of(out, 2), out, out, 1),
                 SSM_ERR_NULL);
    CHECK_STATUS(
        ssm_linear_backward(&linear, ssm_rows_of(NULL, 2), ssm_rows_of(a, 2), ssm_rows_out_of(NULL, 2), out, out, 1),
        SSM_ERR_NULL);
    CHECK_STATUS(
        ssm_linear_backward(&linear, ssm_rows_of(a, 2), ssm_rows_of(NULL, 2), ssm_rows_out_of(out, 2), NULL, NULL, 1),
        SSM_ERR_NULL);
    CHECK_STATUS(ssm_norm_backward(NULL, ssm_rows_of(a, 2), ssm_rows_of(a, 2), ssm_rows_out_of(out, 2), out, 1),
                 SSM_ERR_NULL);
    CHECK_STATUS(ssm_norm_backward(&norm, ssm_rows_of(NULL, 2), ssm_rows_of(a, 2), ssm_rows_out_of(out, 2), out, 1),
                 SSM_ERR_NULL);
    CHECK_STATUS(ssm_norm_backward(&norm, ssm_rows_of(a, 2), ssm_rows_of(NULL, 2), ssm_rows_out_of(out, 2), out, 1),
                 SSM_ERR_NULL);
    linear.in = norm.dim = 0;
    CHECK_STATUS(
        ssm_linear_backward(&linear, ssm_rows_of(a, 2), ssm_rows_of(a, 2), ssm_rows_out_of(out, 2), NULL, NULL, 1),
        SSM_ERR_CONFIG);
    CHECK_STATUS(ssm_norm_backward(&norm, ssm_rows_of(a, 2), ssm_rows_of(a, 2), ssm_rows_out_of(out, 2), out, 1),
                 SSM_ERR_CONFIG);
    for (i = 0; i < 4; ++i) CHECK(out[i] == OPS_MARK);
}

static const test_case gradient_cases[] = {
    {"gradients/scan_options", gradients_scan_options},
    {"gradients/scan_lengths", gradients_scan_lengths},
    {"gradients/scan_broadcast", gradients_scan_broadcast},
    {"gradients/scan_small_A", gradients_scan_small_A},
    {"gradients/conv", gradients_conv},
    {"gradients/added", gradients_added},
    {"gradients/unwanted", gradients_unwanted},
    {"gradients/memory", gradients_memory},
    {"gradients/split", gradients_split},
    {"gradients/absent_state", gradients_absent_state},
    {"gradients/extremes", gradients_extremes},
    {"gradients/linear_and_norm", gradients_linear_and_norm},
    {"gradients/linear_and_norm_errors", gradients_linear_and_norm_errors},
    {"gradients/errors", gradients_errors},
};
