/* test_train.c - AdamW against its formula in double, random numbers, and a layer that learns. */

/*--- AdamW ---*/

/* A model of two layers: rows that decay and rows that do not, more of them than the norm sums at a time. */
typedef struct train_model {
    ssm_param row[8];
    ssm_params table;
} train_model;

static void train_model_make(train_model *m)
{
    m->table.row = m->row;
    m->table.capacity = TEST_COUNT(m->row);
    m->table.rows = m->table.count = 0;
    CHECK_OK(ssm_linear_params(3, 5, 1, "a.", &m->table));
    CHECK_OK(ssm_norm_params(4, "b.", &m->table));
    CHECK_OK(ssm_linear_params(41, 53, 0, "c.", &m->table));
}

/* The step of ssm_adamw's docstring, in double; `a` has no defaults left. Returns |grad|. */
static double train_oracle(const ssm_adamw *a, const ssm_params *table, double *params, const ssm_real *grads,
                           double *moments, size_t step)
{
    const double beta1 = (double)a->beta1, beta2 = (double)a->beta2, clip = (double)a->clip_norm;
    double *m = moments, *v = moments + table->count, norm = 0, scale = 1;
    size_t r, i;
    for (i = 0; i < table->count; ++i) norm += (double)grads[i] * (double)grads[i];
    norm = sqrt(norm);
    if (clip > 0 && norm > clip) scale = clip / norm;
    for (r = 0; r < table->rows; ++r) {
        const ssm_param *row = &table->row[r];
        for (i = row->offset; i < row->offset + row->count; ++i) {
            const double g = (double)grads[i] * scale, decay = row->no_decay ? 0 : (double)a->weight_decay;
            m[i] = beta1 * m[i] + (1 - beta1) * g;
            v[i] = beta2 * v[i] + (1 - beta2) * g * g;
            params[i] -= (double)a->lr * (m[i] / (1 - pow(beta1, (double)step)) /
                                              (sqrt(v[i] / (1 - pow(beta2, (double)step))) + (double)a->eps) +
                                          decay * params[i]);
        }
    }
    return norm;
}

/* Twenty steps from `first_step` on, beside the oracle. */
static void train_check_adamw(ssm_adamw a, size_t first_step)
{
    ssm_rng rng = {test_seed};
    train_model model;
    ssm_adamw full = a;
    ssm_real *params, *moments;
    double *want, *want_moments;
    size_t step, count;
    train_model_make(&model);
    count = model.table.count;
    if (full.beta1 == 0) full.beta1 = (ssm_real)0.9;
    if (full.beta2 == 0) full.beta2 = (ssm_real)0.999;
    if (full.eps == 0) full.eps = (ssm_real)1e-8;
    params = test_normal(&rng, count, 1);
    moments = test_zeros(2 * count);
    want = test_doubles(params, count);
    want_moments = test_doubles(moments, 2 * count);
    for (step = first_step; step < first_step + 20; ++step) {
        ssm_real *grads = test_normal(&rng, count, 1), norm = -1;
        double want_norm = train_oracle(&full, &model.table, want, grads, want_moments, step);
        CHECK_OK(ssm_adamw_step(&a, &model.table, params, grads, moments, step, step % 2 ? &norm : NULL));
        if (step % 2) CHECK_CLOSE(&norm, &want_norm, 1, TOL(1e-6, 1e-14));
        CHECK_CLOSE(params, want, count, TOL(1e-5, 1e-12));
        CHECK_CLOSE(moments, want_moments, count, TOL(1e-5, 1e-12));
        CHECK_CLOSE(moments + count, want_moments + count, count, TOL(1e-5, 1e-12));
        test_free(grads, 0);
    }
    test_free(params, 0);
    test_free(moments, 0);
    test_free(want, 0);
    test_free(want_moments, 0);
}

#define TRAIN_REAL(x) ((ssm_real)(x))

static void test_train_adamw(void)
{
    static const ssm_adamw configs[] = {
        /* lr, beta1, beta2, eps, weight_decay, clip_norm */
        {TRAIN_REAL(0.01), 0, 0, 0, 0, 0, SSM_ISA_BEST},
        {TRAIN_REAL(0.01), TRAIN_REAL(0.5), TRAIN_REAL(0.75), TRAIN_REAL(0.1), 0, 0, SSM_ISA_BEST},
        {TRAIN_REAL(0.125), 0, 0, 0, TRAIN_REAL(0.25), 0, SSM_ISA_BEST},
        {TRAIN_REAL(0.01), 0, 0, TRAIN_REAL(0.5), 0, TRAIN_REAL(0.5), SSM_ISA_BEST}, /* clips: eps makes it visible */
        {TRAIN_REAL(0.01), 0, 0, TRAIN_REAL(0.5), 0, 1000, SSM_ISA_BEST},            /* does not */
        {0, 0, 0, 0, TRAIN_REAL(0.5), 1, SSM_ISA_BEST},                              /* only the moments move */
    };
    size_t i;
    for (i = 0; i < TEST_COUNT(configs); ++i) {
        train_check_adamw(configs[i], 1);
        train_check_adamw(configs[i], 1000000);
    }
}

/* Without a gradient only decay moves parameters, and only those of rows that decay. */
static void test_train_decay(void)
{
    const ssm_adamw a = {TRAIN_REAL(0.5), 0, 0, 0, TRAIN_REAL(0.25), 0, SSM_ISA_BEST};
    train_model m;
    ssm_real *params, *grads, *moments, norm = -1;
    size_t r, i;
    train_model_make(&m);
    params = test_zeros(m.table.count);
    grads = test_zeros(m.table.count);
    moments = test_zeros(2 * m.table.count);
    for (i = 0; i < m.table.count; ++i) params[i] = 8;
    CHECK_OK(ssm_adamw_step(&a, &m.table, params, grads, moments, 1, &norm));
    CHECK(norm == 0);
    for (r = 0; r < m.table.rows; ++r)
        for (i = 0; i < m.row[r].count; ++i) CHECK(params[m.row[r].offset + i] == (m.row[r].rank == 1 ? 8 : 7));
    test_free(params, 0);
    test_free(grads, 0);
    test_free(moments, 0);
}

static void test_train_adamw_errors(void)
{
    static const ssm_adamw bad[] = {
        {-1, 0, 0, 0, 0, 0, SSM_ISA_BEST},
        {TRAIN_REAL(NAN), 0, 0, 0, 0, 0, SSM_ISA_BEST},
        {1, -1, 0, 0, 0, 0, SSM_ISA_BEST},
        {1, 1, 0, 0, 0, 0, SSM_ISA_BEST},
        {1, TRAIN_REAL(NAN), 0, 0, 0, 0, SSM_ISA_BEST},
        {1, 0, -1, 0, 0, 0, SSM_ISA_BEST},
        {1, 0, 1, 0, 0, 0, SSM_ISA_BEST},
        {1, 0, 0, -1, 0, 0, SSM_ISA_BEST},
        {1, 0, 0, 0, -1, 0, SSM_ISA_BEST},
        {1, 0, 0, 0, 0, -1, SSM_ISA_BEST},
        {1, 0, 0, 0, 0, TRAIN_REAL(NAN), SSM_ISA_BEST},
    };
    const ssm_adamw good = {1, 0, 0, 0, 0, 0, SSM_ISA_BEST};
    ssm_rng rng = {test_seed};
    train_model m;
    ssm_params no_rows;
    ssm_real *params, *grads, *moments, *params_before, *moments_before, norm = -7;
    size_t i, count;
    train_model_make(&m);
    count = m.table.count;
    no_rows = m.table;
    no_rows.row = NULL;
    params = test_normal(&rng, count, 1);
    grads = test_normal(&rng, count, 1);
    moments = test_normal(&rng, 2 * count, 1);
    params_before = test_copy(params, count);
    moments_before = test_copy(moments, 2 * count);
    for (i = 0; i < TEST_COUNT(bad); ++i)
        CHECK_STATUS(ssm_adamw_step(&bad[i], &m.table, params, grads, moments, 1, &norm), SSM_ERR_CONFIG);
    CHECK_STATUS(ssm_adamw_step(&good, &m.table, params, grads, moments, 0, &norm), SSM_ERR_CONFIG);
    CHECK_STATUS(ssm_adamw_step(NULL, &m.table, params, grads, moments, 1, &norm), SSM_ERR_NULL);
    CHECK_STATUS(ssm_adamw_step(&good, NULL, params, grads, moments, 1, &norm), SSM_ERR_NULL);
    CHECK_STATUS(ssm_adamw_step(&good, &no_rows, params, grads, moments, 1, &norm), SSM_ERR_NULL);
    CHECK_STATUS(ssm_adamw_step(&good, &m.table, NULL, grads, moments, 1, &norm), SSM_ERR_NULL);
    CHECK_STATUS(ssm_adamw_step(&good, &m.table, params, NULL, moments, 1, &norm), SSM_ERR_NULL);
    CHECK_STATUS(ssm_adamw_step(&good, &m.table, params, grads, NULL, 1, &norm), SSM_ERR_NULL);
    CHECK_SAME(params, params_before, count);
    CHECK_SAME(moments, moments_before, 2 * count);
    CHECK(norm == -7);
    test_free(params, 0);
    test_free(grads, 0);
    test_free(moments, 0);
    test_free(params_before, 0);
    test_free(moments_before, 0);
}

/*--- random numbers ---*/

static void test_train_splitmix(void)
{
    static const uint64_t first[] = {0xe220a8397b1dcdafu, 0x6e789e6aa1b965f4u, 0x06c45d188009454fu};
    ssm_rng bits = {0}, uniform = {0}, other = {1};
    size_t i;
    for (i = 0; i < TEST_COUNT(first); ++i) {
        CHECK(ssm_rng_next(&bits) == first[i]);
        CHECK((double)ssm_rng_uniform(&uniform) == ((double)(first[i] >> 41) + 0.5) / 8388608);
        CHECK(ssm_rng_next(&other) != first[i]);
    }
}

/* The normal numbers are Box and Muller's of the uniform ones. */
static void test_train_box_muller(void)
{
    ssm_rng normal = {test_seed}, uniform = {test_seed};
    size_t i;
    for (i = 0; i < 1000; ++i) {
        const double radius = sqrt(-2 * log((double)ssm_rng_uniform(&uniform)));
        const double want = radius * cos(6.28318530717958647693 * (double)ssm_rng_uniform(&uniform));
        CHECK(fabs((double)ssm_rng_normal(&normal) - want) < TOL(3e-6, 1e-14));
    }
}

#define TRAIN_DRAWS 200000

/* Mean of v^power within five standard errors; `variance` is that of v^power. */
static void train_check_moment(ssm_real (*draw)(ssm_rng *), double shift, int power, double mean, double variance)
{
    ssm_rng rng = {test_seed};
    double sum = 0;
    size_t i;
    for (i = 0; i < TRAIN_DRAWS; ++i) sum += pow((double)draw(&rng) - shift, power);
    CHECK(fabs(sum / TRAIN_DRAWS - mean) < 5 * sqrt(variance / TRAIN_DRAWS));
}

static void test_train_moments(void)
{
    train_check_moment(ssm_rng_uniform, 0.5, 1, 0, 1.0 / 12);
    train_check_moment(ssm_rng_uniform, 0.5, 2, 1.0 / 12, 1.0 / 180);
    train_check_moment(ssm_rng_normal, 0, 1, 0, 1);
    train_check_moment(ssm_rng_normal, 0, 2, 1, 2);
    train_check_moment(ssm_rng_normal, 0, 3, 0, 15);
    train_check_moment(ssm_rng_normal, 0, 4, 3, 96);
}

/* Uniform: inside (0, 1), every sixteenth as often, neighbours independent. */
static void test_train_uniform(void)
{
    ssm_rng rng = {test_seed};
    double bins[16][16] = {{0}}, chi = 0, low = 1, high = 0;
    const double expected = TRAIN_DRAWS / 256.0;
    size_t i, k;
    for (i = 0; i < TRAIN_DRAWS; ++i) {
        const double a = (double)ssm_rng_uniform(&rng), b = (double)ssm_rng_uniform(&rng);
        CHECK(a > 0 && a < 1 && b > 0 && b < 1);
        bins[(size_t)(a * 16)][(size_t)(b * 16)] += 1;
        low = a < low ? a : low;
        high = a > high ? a : high;
    }
    for (i = 0; i < 16; ++i)
        for (k = 0; k < 16; ++k) chi += (bins[i][k] - expected) * (bins[i][k] - expected) / expected;
    CHECK(fabs(chi - 255) < 5 * sqrt(2 * 255.0)); /* chi square with 255 degrees of freedom */
    CHECK(low < 1e-4 && high > 1 - 1e-4);
}

/*--- a block that learns ---*/

#define TRAIN_BATCH 8
#define TRAIN_LEN 24
#define TRAIN_DELAY 2
#define TRAIN_STEPS 200

typedef struct train_task {
    ssm_mamba_config config;
    ssm_seqs seqs;
    ssm_sizes need;
    ssm_param row[SSM_PARAMS_MAX];
    ssm_params table;
    ssm_mamba mamba;
    ssm_real *params;
    ssm_real *grads;
    ssm_real *moments;
    void *bound;
    void *tape;
    void *work;
} train_task;

static void train_task_open(train_task *k, uint64_t seed)
{
    static const train_task none;
    *k = none;
    k->config.d_model = 2; /* the bit, and a one */
    k->config.d_inner = 8;
    k->config.d_state = 4;
    k->seqs.batch = TRAIN_BATCH;
    k->seqs.len = TRAIN_LEN;
    k->table.row = k->row;
    k->table.capacity = SSM_PARAMS_MAX;
    CHECK_OK(ssm_mamba_params(&k->config, NULL, &k->table));
    CHECK_OK(ssm_mamba_sizes(&k->config, &k->seqs, &k->need));
    k->params = test_zeros(k->table.count);
    k->grads = test_zeros(k->table.count);
    k->moments = test_zeros(2 * k->table.count);
    k->bound = test_alloc(k->need.bound, 0);
    k->tape = test_alloc(k->need.tape, 0);
    k->work = test_alloc(k->need.work + k->need.work_backward, 0);
    CHECK_OK(ssm_mamba_init(&k->config, k->params, seed));
}

static void train_task_close(train_task *k)
{
    test_free(k->params, 0);
    test_free(k->grads, 0);
    test_free(k->moments, 0);
    test_free(k->bound, 0);
    test_free(k->tape, 0);
    test_free(k->work, 0);
}

/* dy of the mean square error of channel 0 against the delayed bits; returns the error. */
static double train_loss(const ssm_real *x, const ssm_real *y, ssm_real *dy)
{
    const double count = TRAIN_BATCH * (TRAIN_LEN - TRAIN_DELAY);
    double loss = 0;
    size_t b, t;
    for (b = 0; b < TRAIN_BATCH; ++b) {
        for (t = TRAIN_DELAY; t < TRAIN_LEN; ++t) {
            const size_t at = 2 * (b * TRAIN_LEN + t);
            const double error = (double)y[at] - (double)x[at - 2 * TRAIN_DELAY];
            loss += error * error / count;
            dy[at] = (ssm_real)(2 * error / count);
        }
    }
    return loss;
}

/* One step of training on new random bits. */
static double train_step(train_task *k, ssm_rng *rng, size_t step)
{
    const ssm_adamw adamw = {TRAIN_REAL(0.03), 0, TRAIN_REAL(0.99), 0, TRAIN_REAL(0.001), 1, SSM_ISA_BEST};
    const size_t rows = TRAIN_BATCH * TRAIN_LEN;
    ssm_real *x = test_zeros(2 * rows), *y = test_zeros(2 * rows), *dy = test_zeros(2 * rows);
    ssm_real *state = test_zeros(k->need.state / sizeof(ssm_real));
    ssm_real *dstate = test_zeros(k->need.state / sizeof(ssm_real));
    double loss;
    size_t i;
    for (i = 0; i < rows; ++i) {
        x[2 * i] = ssm_rng_next(rng) >> 63 ? 1 : -1;
        x[2 * i + 1] = 1;
    }
    memset(k->grads, 0, k->need.params);
    CHECK_OK(ssm_mamba_bind(&k->mamba, &k->config, k->params, ssm_memory_of(k->bound, k->need.bound)));
    CHECK_OK(ssm_mamba_record(&k->mamba, state, x, y, &k->seqs, ssm_memory_of(k->tape, k->need.tape),
                              ssm_memory_of(k->work, k->need.work)));
    loss = train_loss(x, y, dy);
    CHECK_OK(ssm_mamba_backward(&k->mamba, dstate, x, dy, NULL, k->grads, &k->seqs,
                                ssm_memory_of(k->tape, k->need.tape), ssm_memory_of(k->work, k->need.work_backward)));
    CHECK_OK(ssm_adamw_step(&adamw, &k->table, k->params, k->grads, k->moments, step, NULL));
    test_free(x, 0);
    test_free(y, 0);
    test_free(dy, 0);
    test_free(state, 0);
    test_free(dstate, 0);
    return loss;
}

/* A Mamba block repeats a bit stream two steps late; twice the same seed is twice the same weights. */
static void test_train_delay(void)
{
    ssm_real *weights[2];
    size_t run, step;
    for (run = 0; run < 2; ++run) {
        ssm_rng rng = {test_seed};
        double first = 0, last = 0;
        train_task k;
        train_task_open(&k, test_seed);
        for (step = 1; step <= TRAIN_STEPS; ++step) {
            const double loss = train_step(&k, &rng, step);
            if (step <= 5) first += loss / 5;
            if (step > TRAIN_STEPS - 5) last += loss / 5;
        }
        if (!(last * 10 < first)) test_fail(__FILE__, __LINE__, "loss %g at first, %g at last", first, last);
        weights[run] = test_copy(k.params, k.table.count);
        if (run == 1) CHECK_SAME(weights[0], weights[1], k.table.count);
        train_task_close(&k);
    }
    test_free(weights[0], 0);
    test_free(weights[1], 0);
}

/* A NaN among the gradients shows in their norm, wherever it stands; a huge one does not overflow it. */
static void test_train_norm(void)
{
    ssm_param row = {"", "w", 1, {3, 1, 1}, 0, 3, 0, 0, {0, 0, 0}};
    const ssm_params table = {&row, 1, 1, 3};
    const double huge = TOL(3e30, 3e300);
    ssm_adamw adamw = {0};
    size_t i;
    for (i = 0; i < 4; ++i) {
        ssm_real params[3] = {1, 2, 3}, grads[3] = {5, 1, 0}, moments[6] = {0, 0, 0, 0, 0, 0}, norm = 0;
        if (i < 3) grads[i] = (ssm_real)NAN;
        else grads[0] = grads[1] = (ssm_real)huge, grads[2] = 0;
        CHECK_OK(ssm_adamw_step(&adamw, &table, params, grads, moments, 1, &norm));
        if (i < 3) CHECK(norm != norm);
        else CHECK(fabs((double)norm / (sqrt(2.0) * huge) - 1) < 1e-5);
    }
}

static const test_case train_cases[] = {
    {"train/norm", test_train_norm},
    {"train/adamw", test_train_adamw},
    {"train/decay", test_train_decay},
    {"train/adamw_errors", test_train_adamw_errors},
    {"train/splitmix", test_train_splitmix},
    {"train/box_muller", test_train_box_muller},
    {"train/moments", test_train_moments},
    {"train/uniform", test_train_uniform},
    {"train/delay", test_train_delay},
};
