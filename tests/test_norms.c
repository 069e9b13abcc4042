/* test_norms.c - LayerNorm and embedding: values and gradients against the formulas in double, memory, errors. */

typedef struct norms_case {
    size_t dim;
    size_t rows;
    ptrdiff_t row; /* stride of every tensor of rows */
    int has_bias;
    int shared; /* all rows of dx lie in one place */
} norms_case;

/* The formulas, for row r: y, and added to the gradients. */
static void norms_row(const norms_case *k, const ssm_real *x, const ssm_real *w, const ssm_real *b, double eps, double *y)
{
    double mean = 0, square = 0;
    size_t i;
    for (i = 0; i < k->dim; ++i) mean += (double)x[i] / (double)k->dim;
    for (i = 0; i < k->dim; ++i) square += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)k->dim;
    for (i = 0; i < k->dim; ++i)
        y[i] = ((double)x[i] - mean) / sqrt(square + eps) * (double)w[i] + (k->has_bias ? (double)b[i] : 0);
}

static void norms_row_gradients(const norms_case *k, const ssm_real *x, const ssm_real *w, const ssm_real *dy,
                                double eps, double *dx, double *dw, double *db)
{
    double mean = 0, square = 0, g_mean = 0, gc_mean = 0, s;
    const double n = (double)k->dim;
    size_t i;
    for (i = 0; i < k->dim; ++i) mean += (double)x[i] / n;
    for (i = 0; i < k->dim; ++i) square += ((double)x[i] - mean) * ((double)x[i] - mean) / n;
    s = 1 / sqrt(square + eps);
    for (i = 0; i < k->dim; ++i) {
        g_mean += (double)dy[i] * (double)w[i] / n;
        gc_mean += (double)dy[i] * (double)w[i] * ((double)x[i] - mean) / n;
    }
    for (i = 0; i < k->dim; ++i) {
        const double c = (double)x[i] - mean;
        dx[i] += s * ((double)dy[i] * (double)w[i] - g_mean - c * s * s * gc_mean);
        dw[i] += (double)dy[i] * c * s;
        db[i] += (double)dy[i];
    }
}

static void norms_check(const norms_case *k, ssm_rng *rng)
{
    const double eps = 0.01;
    const size_t count = k->rows * (size_t)k->row, dx_count = k->shared ? k->dim : count;
    ssm_real *x = test_normal(rng, count, 2), *w = test_normal(rng, k->dim, 1), *b = test_normal(rng, k->dim, 1);
    ssm_real *dy = test_normal(rng, count, 1), *y = test_normal(rng, count, 1), *dx = test_normal(rng, dx_count, 1);
    ssm_real *dw = test_normal(rng, k->dim, 1), *db = test_normal(rng, k->dim, 1), *in_place = test_copy(x, count);
    double *want_y = test_doubles(y, count), *want_dx = test_doubles(dx, dx_count);
    double *want_dw = test_doubles(dw, k->dim), *want_db = test_doubles(db, k->dim);
    ssm_layer_norm norm = {0};
    ssm_layer_norm_grad g;
    ssm_sizes need = {0};
    void *work;
    size_t r, i;
    for (i = 0; i < count; ++i) x[i] += 3; /* a mean to take away */
    memcpy(in_place, x, count * sizeof *x);
    norm.dim = k->dim, norm.eps = (ssm_real)eps, norm.weight = w, norm.bias = k->has_bias ? b : NULL;
    for (r = 0; r < k->rows; ++r) {
        const size_t at = r * (size_t)k->row;
        norms_row(k, x + at, w, b, (double)norm.eps, want_y + at);
        norms_row_gradients(k, x + at, w, dy + at, (double)norm.eps, want_dx + (k->shared ? 0 : at), want_dw, want_db);
    }
    CHECK_OK(ssm_layer_norm_forward(&norm, ssm_rows_of(x, k->row), ssm_rows_out_of(y, k->row), k->rows));
    CHECK_CLOSE(y, want_y, count, TOL(2e-6, 1e-14));
    CHECK_OK(ssm_layer_norm_forward(&norm, ssm_rows_of(in_place, k->row), ssm_rows_out_of(in_place, k->row), k->rows));
    for (r = 0; r < k->rows; ++r) CHECK_SAME(in_place + r * (size_t)k->row, y + r * (size_t)k->row, k->dim);
    CHECK_OK(ssm_layer_norm_forward(&norm, ssm_rows_of(x, k->row), ssm_rows_out_of(in_place, 0), k->rows));
    if (k->rows) CHECK_SAME(in_place, y + (k->rows - 1) * (size_t)k->row, k->dim); /* in one place the last stays */
    CHECK_OK(ssm_layer_norm_sizes(&norm, k->rows, &need));
    work = test_alloc(need.work_backward, 1);
    g.dy = ssm_rows_of(dy, k->row), g.dx = ssm_rows_out_of(dx, k->shared ? 0 : k->row), g.dweight = dw, g.dbias = db;
    CHECK_STATUS(ssm_layer_norm_backward(&norm, ssm_rows_of(x, k->row), &g, k->rows,
                                         ssm_memory_of(work, need.work_backward - 1)),
                 SSM_ERR_MEMORY);
    CHECK_OK(ssm_layer_norm_backward(&norm, ssm_rows_of(x, k->row), &g, k->rows,
                                     ssm_memory_of(work, need.work_backward)));
    CHECK_CLOSE(dx, want_dx, dx_count, TOL(1e-5, 1e-13));
    CHECK_CLOSE(dw, want_dw, k->dim, TOL(1e-5, 1e-13));
    CHECK_CLOSE(db, want_db, k->dim, TOL(1e-5, 1e-13));
    g.dx.data = NULL, g.dweight = NULL, g.dbias = NULL; /* nothing wanted */
    CHECK_OK(ssm_layer_norm_backward(&norm, ssm_rows_of(x, k->row), &g, k->rows,
                                     ssm_memory_of(work, need.work_backward)));
    test_free(x, 0), test_free(w, 0), test_free(b, 0), test_free(dy, 0), test_free(y, 0), test_free(dx, 0);
    test_free(dw, 0), test_free(db, 0), test_free(in_place, 0), test_free(work, 1);
    test_free(want_y, 0), test_free(want_dx, 0), test_free(want_dw, 0), test_free(want_db, 0);
}

static void norms_oracle(void)
{
    ssm_rng rng = test_rng(91);
    norms_case k = {0};
    for (k.dim = 1; k.dim <= 70; ++k.dim) {
        k.rows = k.dim % 5 ? 3 : 131;
        k.row = (ptrdiff_t)(k.dim + (k.dim % 3 ? 0 : 5));
        k.has_bias = k.dim % 2 > 0;
        k.shared = k.dim % 7 == 0;
        norms_check(&k, &rng);
    }
    k.dim = 5000, k.rows = 6, k.row = 5000, k.has_bias = 1, k.shared = 0;
    norms_check(&k, &rng);
}

static void norms_threads(void)
{
    enum { DIM = 37, ROWS = 3000 };
    ssm_rng rng = test_rng(92);
    test_pool pool = {3, 0};
    const ssm_parallel parallel = {test_pool_run, &pool};
    ssm_real *x = test_normal(&rng, DIM * ROWS, 1), *w = test_normal(&rng, DIM, 1), *y[2], *dx[2], dw[2][DIM] = {{0}};
    ssm_layer_norm norm = {0};
    ssm_sizes need = {0};
    void *work;
    int i;
    norm.dim = DIM, norm.weight = norm.bias = w;
    CHECK_OK(ssm_layer_norm_sizes(&norm, ROWS, &need));
    work = test_alloc(need.work_backward, 0);
    for (i = 0; i < 2; ++i) {
        ssm_layer_norm_grad g;
        y[i] = test_zeros(DIM * ROWS), dx[i] = test_zeros(DIM * ROWS);
        norm.parallel = i ? &parallel : NULL;
        g.dy = ssm_rows_of(x, DIM), g.dx = ssm_rows_out_of(dx[i], DIM), g.dweight = dw[i], g.dbias = NULL;
        CHECK_OK(ssm_layer_norm_forward(&norm, ssm_rows_of(x, DIM), ssm_rows_out_of(y[i], DIM), ROWS));
        CHECK_OK(ssm_layer_norm_backward(&norm, ssm_rows_of(x, DIM), &g, ROWS, ssm_memory_of(work, need.work_backward)));
    }
    CHECK_SAME(y[0], y[1], DIM * ROWS);
    CHECK_SAME(dx[0], dx[1], DIM * ROWS);
    CHECK_SAME(dw[0], dw[1], DIM);
    for (i = 0; i < 2; ++i) test_free(y[i], 0), test_free(dx[i], 0);
    test_free(x, 0), test_free(w, 0), test_free(work, 0);
}

static void norms_errors(void)
{
    ssm_real x[2] = {1, 2}, y[2] = {9, 9};
    ssm_layer_norm norm = {0};
    ssm_layer_norm_grad g = {{0}};
    ssm_sizes need = {0};
    CHECK_STATUS(ssm_layer_norm_forward(NULL, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_NULL);
    CHECK_STATUS(ssm_layer_norm_forward(&norm, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_CONFIG);
    CHECK_STATUS(ssm_layer_norm_sizes(&norm, 1, &need), SSM_ERR_CONFIG);
    norm.dim = 2;
    CHECK_STATUS(ssm_layer_norm_forward(&norm, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_NULL);
    norm.weight = x, norm.eps = -1;
    CHECK_STATUS(ssm_layer_norm_forward(&norm, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_CONFIG);
    norm.eps = 0, norm.isa = (ssm_isa)ssm_isa_count();
    CHECK_STATUS(ssm_layer_norm_forward(&norm, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_UNSUPPORTED);
    norm.isa = SSM_ISA_BEST;
    CHECK_STATUS(ssm_layer_norm_backward(&norm, ssm_rows_of(x, 2), &g, 1, ssm_memory_of(NULL, 0)), SSM_ERR_NULL);
    norm.dim = (size_t)-1 / 4;
    CHECK_STATUS(ssm_layer_norm_sizes(&norm, 100, &need), SSM_ERR_OVERFLOW);
    CHECK(y[0] == 9 && y[1] == 9);
}

static void norms_embedding(void)
{
    enum { COUNT = 5, DIM = 19, ROWS = 7 };
    static const int token[ROWS] = {4, 0, -1, 4, 2, -7, 4}, beyond[2] = {0, COUNT};
    ssm_rng rng = test_rng(93);
    ssm_param rows[4];
    ssm_params table = ssm_params_of(rows, 4);
    ssm_real *params, *y = test_normal(&rng, ROWS * (DIM + 2), 1), *dy = test_normal(&rng, ROWS * DIM, 1), *dweight;
    ssm_embedding e = {0};
    ssm_layer_norm norm = {0};
    double *want;
    size_t r, c;
    CHECK_OK(ssm_embedding_params(COUNT, DIM, "embedding.", &table));
    CHECK_OK(ssm_layer_norm_params(DIM, "norm_f.", &table));
    CHECK(table.rows == 3 && table.count == COUNT * DIM + 2 * DIM);
    params = test_zeros(table.count);
    dweight = test_normal(&rng, COUNT * DIM, 1);
    CHECK_OK(ssm_params_init(&table, params, 5));
    CHECK_OK(ssm_embedding_of(&e, &table, "embedding.", params));
    CHECK_OK(ssm_layer_norm_of(&norm, &table, "norm_f.", params));
    CHECK(e.count == COUNT && e.dim == DIM && e.weight == params && norm.dim == DIM);
    CHECK(norm.weight[3] == 1 && norm.bias[3] == 0 && norm.bias == norm.weight + DIM);
    CHECK_STATUS(ssm_embedding_of(&e, &table, "other.", params), SSM_ERR_MISSING);
    CHECK_STATUS(ssm_embedding_of(&e, &table, "norm_f.", params), SSM_ERR_SHAPE);
    CHECK_OK(ssm_embedding_forward(&e, token, ssm_rows_out_of(y, DIM + 2), ROWS));
    for (r = 0; r < ROWS; ++r)
        for (c = 0; c < DIM; ++c)
            CHECK(y[r * (DIM + 2) + c] == (token[r] < 0 ? 0 : params[(size_t)token[r] * DIM + c]));
    want = test_doubles(dweight, COUNT * DIM);
    for (r = 0; r < ROWS; ++r)
        for (c = 0; c < DIM && token[r] >= 0; ++c) want[(size_t)token[r] * DIM + c] += (double)dy[r * DIM + c];
    e.weight = NULL; /* not read */
    CHECK_OK(ssm_embedding_backward(&e, token, ssm_rows_of(dy, DIM), dweight, ROWS));
    CHECK_CLOSE(dweight, want, COUNT * DIM, TOL(1e-6, 1e-15));
    CHECK_STATUS(ssm_embedding_forward(&e, token, ssm_rows_out_of(y, DIM), 1), SSM_ERR_NULL);
    e.weight = params, y[0] = 9;
    CHECK_STATUS(ssm_embedding_forward(&e, beyond, ssm_rows_out_of(y, DIM), 2), SSM_ERR_SHAPE);
    CHECK_STATUS(ssm_embedding_backward(&e, beyond, ssm_rows_of(dy, DIM), dweight, 2), SSM_ERR_SHAPE);
    CHECK(y[0] == 9);
    test_free(params, 0), test_free(y, 0), test_free(dy, 0), test_free(dweight, 0), test_free(want, 0);
}

static const test_case norms_tests[] = {
    {"norms/layer_norm", norms_oracle}, {"norms/threads", norms_threads},
    {"norms/errors", norms_errors},     {"norms/embedding", norms_embedding},
};
