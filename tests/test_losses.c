/* test_losses.c - losses, the mean over time, learning rates and clipping against their formulas in double, gradients
 * against differences, the same bits on every instruction set and for any threads. */

enum { LOSS_ROWS = 23, LOSS_WIDE = 67 };

typedef struct loss_case {
    size_t rows, dim, row; /* row: stride of x and dx */
    double smoothing, beta;
    int has_weight;
    double x[LOSS_ROWS * LOSS_WIDE], target[LOSS_ROWS * LOSS_WIDE], weight[LOSS_ROWS * LOSS_WIDE];
    int label[LOSS_ROWS];
    double scale; /* dmean */
} loss_case;

/* Mean cross-entropy times scale, and each row's. */
static double loss_entropy(const loss_case *c, double *losses)
{
    double total = 0, counted = 0;
    size_t r, k;
    for (r = 0; r < c->rows; ++r) {
        const double *x = c->x + r * c->row;
        double most = x[0], sum = 0, loss = 0;
        for (k = 1; k < c->dim; ++k) most = x[k] > most ? x[k] : most;
        for (k = 0; k < c->dim; ++k) sum += exp(x[k] - most);
        for (k = 0; k < c->dim; ++k) {
            const double q = (1 - c->smoothing) * ((int)k == c->label[r]) + c->smoothing / (double)c->dim;
            if (q > 0) loss -= q * (x[k] - most - log(sum));
        }
        if (c->label[r] < 0) loss = 0;
        else counted += 1;
        if (losses) losses[r] = loss;
        total += loss;
    }
    return counted > 0 ? total / counted * c->scale : 0;
}

static double loss_error(const loss_case *c, double *losses)
{
    double total = 0, weight = 0;
    size_t r, k;
    for (r = 0; r < c->rows; ++r) {
        double loss = 0;
        for (k = 0; k < c->dim; ++k) {
            const double e = c->x[r * c->row + k] - c->target[r * c->dim + k], size = fabs(e);
            const double w = c->has_weight ? c->weight[r * c->dim + k] : 1;
            loss += w * (c->beta > 0 ? size < c->beta ? e * e / (2 * c->beta) : size - c->beta / 2 : e * e);
            weight += w;
        }
        if (losses) losses[r] = loss;
        total += loss;
    }
    return weight > 0 ? total / weight * c->scale : 0;
}

static double loss_entropy_of(void *c) { return loss_entropy((const loss_case *)c, NULL); }
static double loss_error_of(void *c) { return loss_error((const loss_case *)c, NULL); }

static void loss_case_make(loss_case *c, ssm_rng *rng, size_t rows, size_t dim)
{
    size_t i;
    memset(c, 0, sizeof *c);
    c->rows = rows;
    c->dim = dim;
    c->row = dim + 3 <= LOSS_WIDE ? dim + 3 : dim;
    for (i = 0; i < LOSS_ROWS * LOSS_WIDE; ++i) {
        c->x[i] = (double)(ssm_real)(3 * test_draw(rng));
        c->target[i] = (double)test_draw(rng);
        c->weight[i] = i % 5 == 2 ? 0 : (double)ssm_rng_uniform(rng);
    }
    for (i = 0; i < rows; ++i) c->label[i] = i % 7 == 3 ? -1 : (int)(ssm_rng_next(rng) % dim);
    c->scale = (double)(ssm_real)1.75;
}

typedef struct loss_result {
    ssm_real losses[LOSS_ROWS], mean, dx[LOSS_ROWS * LOSS_WIDE];
} loss_result;

/* Everything that a loss gives, on an instruction set; gradients are added to 1. */
static void loss_run(const loss_case *c, int entropy, ssm_isa isa, const ssm_parallel *parallel, loss_result *out)
{
    ssm_real *x = test_reals(c->x, LOSS_ROWS * LOSS_WIDE), *target = test_reals(c->target, LOSS_ROWS * LOSS_WIDE);
    ssm_real *weight = test_reals(c->weight, LOSS_ROWS * LOSS_WIDE);
    const ptrdiff_t row = (ptrdiff_t)c->row, dense = (ptrdiff_t)c->dim;
    const ssm_real scale = (ssm_real)c->scale;
    size_t i;
    for (i = 0; i < LOSS_ROWS * LOSS_WIDE; ++i) out->dx[i] = 1;
    out->mean = -7;
    if (entropy) {
        ssm_cross_entropy s = {0};
        s.rows = c->rows;
        s.dim = c->dim;
        s.x = ssm_rows_of(x, row);
        s.label = c->label;
        s.smoothing = (ssm_real)c->smoothing;
        s.parallel = parallel;
        s.isa = isa;
        CHECK_OK(ssm_cross_entropy_forward(&s, out->losses, &out->mean));
        CHECK_OK(ssm_cross_entropy_backward(&s, scale, ssm_rows_out_of(out->dx, row)));
    } else {
        ssm_mse s = {0};
        s.rows = c->rows;
        s.dim = c->dim;
        s.x = ssm_rows_of(x, row);
        s.target = ssm_rows_of(target, dense);
        if (c->has_weight) s.weight = ssm_rows_of(weight, dense);
        s.beta = (ssm_real)c->beta;
        s.parallel = parallel;
        s.isa = isa;
        CHECK_OK(ssm_mse_forward(&s, out->losses, &out->mean));
        CHECK_OK(ssm_mse_backward(&s, scale, ssm_rows_out_of(out->dx, row)));
    }
    test_free(x, 0), test_free(target, 0), test_free(weight, 0);
}

/* Within rounding of the largest input: a cross entropy is the difference of two numbers of that size. */
static void loss_close(const loss_case *c, const ssm_real *got, const double *want, size_t count)
{
    double size = 1;
    size_t i;
    for (i = 0; i < c->rows * c->row; ++i)
        if (fabs(c->x[i]) > size) size = fabs(c->x[i]);
    for (i = 0; i < count; ++i) {
        const double allowed = TOL(1e-6, 1e-14) * (fabs(want[i]) > size ? fabs(want[i]) : size);
        if (!(fabs((double)got[i] - want[i]) <= allowed))
            test_fail(__FILE__, __LINE__, "loss %lu is %.9g, expected %.9g", (unsigned long)i, (double)got[i], want[i]);
    }
}

static void loss_check(loss_case *c, int entropy, ssm_rng *rng)
{
    const size_t count = c->rows * c->row;
    double losses[LOSS_ROWS], mean;
    ssm_real gradient[LOSS_ROWS * LOSS_WIDE];
    loss_result r;
    size_t i, k;
    loss_run(c, entropy, test_isa, NULL, &r);
    mean = (entropy ? loss_entropy(c, losses) : loss_error(c, losses)) / c->scale;
    if (entropy) {
        loss_close(c, r.losses, losses, c->rows);
        loss_close(c, &r.mean, &mean, 1);
    } else {
        CHECK_CLOSE(r.losses, losses, c->rows, TOL(1e-6, 1e-14));
        CHECK_CLOSE(&r.mean, &mean, 1, TOL(1e-6, 1e-14));
    }
    for (i = 0; i < count; ++i) {
        gradient[i] = r.dx[i] - 1;
        if (i % c->row >= c->dim) CHECK(r.dx[i] == 1);
    }
    test_gradient("x", entropy ? loss_entropy_of : loss_error_of, c, c->x, gradient, count, 1e-4, TOL(1e-6, 1e-9), rng);
    for (k = 0; entropy && k < c->rows; ++k) { /* no gradient along a shift of all logits */
        double sum = 0;
        for (i = 0; i < c->dim; ++i) sum += (double)gradient[k * c->row + i];
        CHECK(fabs(sum) < TOL(2e-6, 1e-14));
    }
}

static void losses_oracle(void)
{
    static const size_t dims[] = {1, 2, 9, 15, 16, 17, 33, 67}, rows[] = {1, 4, 23};
    static loss_case c;
    ssm_rng rng = test_rng(301);
    size_t i, k;
    for (i = 0; i < TEST_COUNT(dims); ++i)
        for (k = 0; k < TEST_COUNT(rows); ++k) {
            loss_case_make(&c, &rng, rows[k], dims[i]);
            loss_check(&c, 1, &rng);
            c.smoothing = 0.125;
            loss_check(&c, 1, &rng);
            c.smoothing = 1;
            loss_check(&c, 1, &rng);
            loss_check(&c, 0, &rng);
            c.has_weight = 1;
            loss_check(&c, 0, &rng);
            c.beta = 0.75;
            loss_check(&c, 0, &rng);
            c.has_weight = 0;
            loss_check(&c, 0, &rng);
        }
}

/* The same bits on every instruction set of a family, and for any threads in any order. */
static void losses_bits(void)
{
    static loss_case c;
    static loss_result first[2], r;
    int seen[2] = {0, 0}, isa, entropy, k;
    ssm_rng rng = test_rng(302);
    loss_case_make(&c, &rng, LOSS_ROWS, LOSS_WIDE);
    c.smoothing = c.beta = 0.125;
    c.has_weight = 1;
    for (entropy = 0; entropy < 2; ++entropy) {
        seen[0] = seen[1] = 0;
        for (isa = SSM_ISA_SCALAR; isa < ssm_isa_count(); ++isa) {
            const int fused = isa == SSM_ISA_SCALAR || isa == SSM_ISA_SSE2 ? SSM__FUSED : isa != SSM_ISA_WASM;
            if (!ssm_isa_available((ssm_isa)isa)) continue;
            for (k = 0; k < 3; ++k) {
                test_pool pool = {0, 0};
                ssm_parallel parallel;
                pool.threads = (size_t)(2 * k + 1);
                parallel.run = test_pool_run;
                parallel.pool = &pool;
                memset(&r, 0, sizeof r);
                loss_run(&c, entropy, (ssm_isa)isa, &parallel, &r);
                if (!seen[fused]) first[fused] = r;
                seen[fused] = 1;
                CHECK_SAME(r.losses, first[fused].losses, LOSS_ROWS);
                CHECK_SAME(r.dx, first[fused].dx, LOSS_ROWS * LOSS_WIDE);
                CHECK_SAME(&r.mean, &first[fused].mean, 1);
            }
        }
    }
}

/* Many rows are shared out: as many tasks as rows allow, and the bits of one row by itself. */
static void losses_threads(void)
{
    enum { ROWS = 6000, DIM = 9 };
    static ssm_real x[ROWS * DIM], dx[ROWS * DIM], losses[ROWS];
    static int label[ROWS];
    ssm_rng rng = test_rng(303);
    test_pool pool = {3, 0};
    ssm_parallel parallel;
    ssm_cross_entropy s = {0};
    ssm_real mean, one, alone[DIM] = {0};
    size_t i;
    for (i = 0; i < ROWS * DIM; ++i) x[i] = test_draw(&rng), dx[i] = 0;
    for (i = 0; i < ROWS; ++i) label[i] = (int)(i % DIM);
    parallel.run = test_pool_run;
    parallel.pool = &pool;
    s.rows = ROWS;
    s.dim = DIM;
    s.x = ssm_rows_of(x, DIM);
    s.label = label;
    s.parallel = &parallel;
    CHECK_OK(ssm_cross_entropy_forward(&s, losses, &mean));
    CHECK(pool.tasks > 3);
    CHECK_OK(ssm_cross_entropy_backward(&s, ROWS, ssm_rows_out_of(dx, DIM)));
    s.rows = 1;
    s.x.data = x + 5000 * DIM;
    s.label = label + 5000;
    CHECK_OK(ssm_cross_entropy_forward(&s, &one, NULL));
    CHECK_SAME(&one, losses + 5000, 1);
    CHECK_OK(ssm_cross_entropy_backward(&s, 1, ssm_rows_out_of(alone, DIM)));
    CHECK_SAME(alone, dx + 5000 * DIM, DIM);
}

/* Logits as large as numbers get, and masked ones. */
static void losses_far(void)
{
    const ssm_real huge = (ssm_real)TOL(1e38, 1e300);
    ssm_real x[4] = {0}, dx[4], loss, mean;
    int label = 1;
    ssm_cross_entropy s = {0};
    s.rows = 1;
    s.dim = 4;
    s.x = ssm_rows_of(x, 4);
    s.label = &label;
    x[0] = huge, x[1] = huge, x[2] = -huge, x[3] = (ssm_real)-HUGE_VAL;
    memset(dx, 0, sizeof dx);
    CHECK_OK(ssm_cross_entropy_forward(&s, &loss, &mean));
    CHECK(fabs((double)loss - log(2.0)) < 1e-6 && mean == loss);
    CHECK_OK(ssm_cross_entropy_backward(&s, 1, ssm_rows_out_of(dx, 4)));
    CHECK(dx[0] == (ssm_real)0.5 && dx[1] == (ssm_real)-0.5 && dx[2] == 0 && dx[3] == 0);
    label = -1;
    x[0] = (ssm_real)NAN; /* a row that does not count is not read */
    CHECK_OK(ssm_cross_entropy_forward(&s, &loss, &mean));
    CHECK(loss == 0 && mean == 0);
    label = 2;
    CHECK_OK(ssm_cross_entropy_forward(&s, &loss, &mean));
    CHECK(loss != loss && mean != mean);
}

static void losses_mean(void)
{
    enum { BATCH = 4, DIM = 300, ROWS = 14 };
    static const size_t start[BATCH + 1] = {0, 5, 5, 6, 13};
    static ssm_real x[ROWS * DIM], y[BATCH * DIM], dx[ROWS * DIM], dense[2 * DIM];
    ssm_rng rng = test_rng(304);
    test_pool pool = {3, 0};
    ssm_parallel parallel;
    ssm_mean s = {0};
    size_t b, t, c;
    int isa;
    for (t = 0; t < ROWS * DIM; ++t) x[t] = test_draw(&rng);
    parallel.run = test_pool_run;
    parallel.pool = &pool;
    s.batch = BATCH;
    s.len = ROWS;
    s.dim = DIM;
    s.start = start;
    s.parallel = &parallel;
    for (isa = SSM_ISA_SCALAR; isa < ssm_isa_count(); ++isa) {
        if (!ssm_isa_available((ssm_isa)isa)) continue;
        s.isa = (ssm_isa)isa;
        CHECK_OK(ssm_mean_forward(&s, ssm_rows_of(x, DIM), ssm_rows_out_of(y, DIM)));
        for (b = 0; b < BATCH; ++b)
            for (c = 0; c < DIM; ++c) {
                ssm_real sum = 0;
                for (t = start[b]; t < start[b + 1]; ++t) sum += x[t * DIM + c];
                if (start[b + 1] > start[b]) sum /= (ssm_real)(start[b + 1] - start[b]);
                CHECK(y[b * DIM + c] == sum);
            }
        for (t = 0; t < ROWS * DIM; ++t) dx[t] = 1;
        CHECK_OK(ssm_mean_backward(&s, ssm_rows_of(x, DIM), ssm_rows_out_of(dx, DIM)));
        for (b = 0; b < BATCH; ++b)
            for (t = start[b]; t < start[b + 1]; ++t)
                for (c = 0; c < DIM; ++c)
                    CHECK(dx[t * DIM + c] == 1 + x[b * DIM + c] / (ssm_real)(start[b + 1] - start[b]));
        for (c = 0; c < DIM; ++c) CHECK(dx[13 * DIM + c] == 1); /* no sequence's */
    }
    s.start = NULL;
    s.batch = 2;
    s.len = 3;
    CHECK_OK(ssm_mean_forward(&s, ssm_rows_of(x, DIM), ssm_rows_out_of(dense, DIM)));
    for (c = 0; c < DIM; ++c)
        CHECK(dense[DIM + c] == (x[3 * DIM + c] + x[4 * DIM + c] + x[5 * DIM + c]) / 3);
    CHECK_STATUS(ssm_mean_forward(&s, ssm_rows_of(NULL, 0), ssm_rows_out_of(y, DIM)), SSM_ERR_NULL);
    CHECK_STATUS(ssm_mean_backward(&s, ssm_rows_of(x, DIM), ssm_rows_out_of(NULL, 0)), SSM_ERR_NULL);
    CHECK_STATUS(ssm_mean_forward(NULL, ssm_rows_of(x, DIM), ssm_rows_out_of(y, DIM)), SSM_ERR_NULL);
    s.start = start;
    s.batch = BATCH;
    s.len = 12;
    CHECK_STATUS(ssm_mean_forward(&s, ssm_rows_of(x, DIM), ssm_rows_out_of(y, DIM)), SSM_ERR_SHAPE);
    s.dim = 0;
    CHECK_STATUS(ssm_mean_forward(&s, ssm_rows_of(x, DIM), ssm_rows_out_of(y, DIM)), SSM_ERR_CONFIG);
}

static void losses_errors(void)
{
    ssm_real x[6] = {0}, losses[2] = {5, 5}, mean = 5;
    int label[2] = {0, 3};
    ssm_cross_entropy s = {0};
    ssm_mse m = {0};
    s.rows = 2;
    s.dim = 3;
    s.x = ssm_rows_of(x, 3);
    s.label = label;
    CHECK_STATUS(ssm_cross_entropy_forward(&s, losses, &mean), SSM_ERR_SHAPE);
    CHECK_STATUS(ssm_cross_entropy_backward(&s, 1, ssm_rows_out_of(x, 3)), SSM_ERR_SHAPE);
    label[1] = 2;
    CHECK_STATUS(ssm_cross_entropy_forward(&s, NULL, &mean), SSM_ERR_NULL);
    CHECK_STATUS(ssm_cross_entropy_backward(&s, 1, ssm_rows_out_of(NULL, 3)), SSM_ERR_NULL);
    CHECK_STATUS(ssm_cross_entropy_forward(NULL, losses, &mean), SSM_ERR_NULL);
    s.smoothing = (ssm_real)1.5;
    CHECK_STATUS(ssm_cross_entropy_forward(&s, losses, &mean), SSM_ERR_CONFIG);
    s.smoothing = 0;
    s.isa = (ssm_isa)99;
    CHECK_STATUS(ssm_cross_entropy_forward(&s, losses, &mean), SSM_ERR_UNSUPPORTED);
    m.rows = 2;
    CHECK_STATUS(ssm_mse_forward(&m, losses, &mean), SSM_ERR_CONFIG);
    m.dim = 3;
    CHECK_STATUS(ssm_mse_forward(&m, losses, &mean), SSM_ERR_NULL);
    m.x = m.target = ssm_rows_of(x, 3);
    m.beta = -1;
    CHECK_STATUS(ssm_mse_forward(&m, losses, &mean), SSM_ERR_CONFIG);
    m.beta = 0;
    CHECK_STATUS(ssm_mse_forward(&m, NULL, &mean), SSM_ERR_NULL);
    CHECK(losses[0] == 5 && losses[1] == 5 && mean == 5);
    m.rows = s.rows = 0;
    s.isa = SSM_ISA_BEST;
    CHECK_OK(ssm_mse_forward(&m, NULL, &mean));
    CHECK(mean == 0);
    mean = 5;
    CHECK_OK(ssm_cross_entropy_forward(&s, NULL, &mean));
    CHECK(mean == 0);
}

static void losses_schedules(void)
{
    const ssm_schedule constant = {SSM_SCHEDULE_CONSTANT, 2, 0, 4, 0}, plain = {SSM_SCHEDULE_CONSTANT, 2, 0, 0, 0};
    const ssm_schedule linear = {SSM_SCHEDULE_LINEAR, 2, 1, 4, 20}, cosine = {SSM_SCHEDULE_COSINE, 2, (ssm_real)0.5, 4, 20};
    size_t step;
    CHECK(ssm_schedule_rate(NULL, 3) == 0 && ssm_schedule_rate(&linear, 0) == 0);
    CHECK(ssm_schedule_rate(&plain, 1) == 2 && ssm_schedule_rate(&cosine, 4) == 2);
    CHECK(ssm_schedule_rate(&linear, 20) == 1 && ssm_schedule_rate(&linear, 1000) == 1);
    CHECK(ssm_schedule_rate(&cosine, 20) == (ssm_real)0.5 && ssm_schedule_rate(&cosine, (size_t)-1) == (ssm_real)0.5);
    for (step = 1; step <= 25; ++step) {
        const double warm = step < 4 ? (double)step / 4 : 1, part = step < 4 ? 0 : step > 20 ? 1 : (double)(step - 4) / 16;
        const double want[3] = {2 * warm, step < 4 ? 2 * warm : 2 - part,
                                step < 4 ? 2 * warm : 0.5 + 1.5 * 0.5 * (1 + cos(3.14159265358979323846 * part))};
        const ssm_real got[3] = {ssm_schedule_rate(&constant, step), ssm_schedule_rate(&linear, step),
                                 ssm_schedule_rate(&cosine, step)};
        CHECK_CLOSE(got, want, 3, TOL(3e-7, 1e-15));
    }
}

static void losses_clip(void)
{
    ssm_real g[3] = {2, 3, 6}, norm = 0, nan[2] = {1, (ssm_real)NAN};
    CHECK_OK(ssm_clip_norm(g, 3, 8, SSM_ISA_BEST, &norm));
    CHECK(fabs((double)norm - 7) < 1e-5 && g[0] == 2 && g[1] == 3 && g[2] == 6);
    CHECK_OK(ssm_clip_norm(g, 3, (ssm_real)3.5, SSM_ISA_BEST, NULL));
    CHECK(fabs((double)g[0] - 1) < 1e-6 && fabs((double)g[1] - 1.5) < 1e-6 && fabs((double)g[2] - 3) < 1e-6);
    CHECK_OK(ssm_clip_norm(nan, 2, 1, SSM_ISA_BEST, &norm));
    CHECK(norm != norm && nan[0] == 1);
    CHECK_STATUS(ssm_clip_norm(g, 3, 0, SSM_ISA_BEST, &norm), SSM_ERR_CONFIG);
    CHECK_STATUS(ssm_clip_norm(NULL, 3, 1, SSM_ISA_BEST, &norm), SSM_ERR_NULL);
    CHECK_STATUS(ssm_clip_norm(g, 3, 1, (ssm_isa)99, &norm), SSM_ERR_UNSUPPORTED);
}

static const test_case losses_cases[] = {
    {"losses/oracle", losses_oracle},       {"losses/bits", losses_bits}, {"losses/threads", losses_threads},
    {"losses/far", losses_far},             {"losses/mean", losses_mean}, {"losses/errors", losses_errors},
    {"losses/schedules", losses_schedules}, {"losses/clip", losses_clip},
};
