/* test_bound.c - what bind leaves: matrices in every format, blocks that attach reads, and the workspace
 * of a step. All layers, through the verbs and laws of test_layers.c. */

/*--- every layer in every format ---*/

static const layer_config bound_configs[] = {
    LAYER(selective, .d_model = 3),
    LAYER(selective, .d_model = 17, .d_state = 15, .disc = SSM_DISC_EULER),
    LAYER(s6, .d_model = 1, .d_state = 1),
    LAYER(s6, .d_model = 18, .d_state = 3, .n_groups = 3, .disc = SSM_DISC_ZOH),
    LAYER(s6, .d_model = 33, .d_state = 5, .dt_rank = 5, .no_dt_bias = 1),
    LAYER(s6, .d_model = 8, .d_state = 3, .n_groups = 4, .disc = SSM_DISC_TRAPEZOID),
    LAYER(selective, .d_model = 17, .d_state = 3, .complex_A = 1),
    LAYER(s6, .d_model = 18, .d_state = 3, .n_groups = 2, .disc = SSM_DISC_ZOH, .complex_A = 1),
    LAYER(mamba, .d_model = 9, .d_state = 4, .complex_A = 1),
    LAYER(mamba, .d_model = 9, .d_state = 5),
    LAYER(mamba, .d_model = 4, .d_conv = 1, .disc = SSM_DISC_BILINEAR),
    LAYER(mamba, .d_model = 6, .d_state = 3, .d_conv = 7, .n_groups = 2, .pre_norm = 1, .residual = 1, .proj_bias = 1),
    LAYER(mamba, .d_model = 5, .d_state = 3, .scan = SSM_SCAN_BLELLOCH, .no_conv_bias = 1, .disc = SSM_DISC_DIRAC),
    LAYER(mamba2, .d_model = 4, .d_state = 5, .headdim = 4, .n_groups = 2),
    LAYER(mamba3, .d_model = 4, .d_state = 5, .headdim = 4, .n_groups = 2, .pre_norm = 1, .residual = 1),
    LAYER(mamba3, .d_model = 9, .d_state = 6, .headdim = 3, .mimo_rank = 2, .out_norm = 1),
    LAYER(rglru, .d_model = 4, .lru_width = 34, .num_heads = 2),
    LAYER(rglru, .d_model = 9, .num_heads = 3, .no_block = 1, .no_reset = 1),
    LAYER(s4d, .d_model = 17, .d_state = 4, .activation = SSM_S4_ACTIVATION_GELU, .output = SSM_S4_OUTPUT_GLU,
          .pre_norm = 1, .residual = 1),
    LAYER(s4d, .d_model = 5, .d_state = 3, .real_state = 1, .train_B = 1, .output = SSM_S4_OUTPUT_GLU),
    LAYER(s4, .d_model = 3, .d_state = 6, .output = SSM_S4_OUTPUT_GLU, .residual = 1),
    LAYER(s4, .d_model = 18, .d_state = 4, .n_ssm = 2, .activation = SSM_S4_ACTIVATION_GELU,
          .output = SSM_S4_OUTPUT_GLU),
    LAYER(s5, .d_model = 3, .d_state = 4),
    LAYER(s5, .d_model = 17, .d_state = 34, .activation = SSM_S5_FULL_GLU, .pre_norm = 1, .residual = 1),
    LAYER(s5, .d_model = 4, .d_state = 3, .no_conj_sym = 1, .activation = SSM_S5_HALF_GLU2, .disc = SSM_DISC_BILINEAR),
    LAYER(s5, .d_model = 3, .d_state = 5, .real_state = 1, .activation = SSM_S5_NONE),
    LAYER(s5, .d_model = 4, .d_state = 5, .lru = 1, .activation = SSM_S5_FULL_GLU),
};

/* Layers that cannot step, or cannot train, or run in another form. */
static const layer_config bound_forward_configs[] = {
    LAYER(s4d, .d_model = 5, .d_state = 4),
    LAYER(s4d, .d_model = 5, .d_state = 4, .form = SSM_S4_FORM_CONVOLUTION, .output = SSM_S4_OUTPUT_GLU),
    LAYER(s4d, .d_model = 4, .d_state = 4, .bidirectional = 1, .output = SSM_S4_OUTPUT_GLU),
    LAYER(s4, .d_model = 18, .d_state = 4, .bidirectional = 1, .pre_norm = 1),
    LAYER(s4, .d_model = 3, .d_state = 4, .l_max = 5, .output = SSM_S4_OUTPUT_GLU),
    LAYER(s5, .d_model = 3, .d_state = 4, .bidirectional = 1, .activation = SSM_S5_FULL_GLU),
    LAYER(s5, .d_model = 2, .d_state = 3, .bidirectional = 1, .real_state = 1, .activation = SSM_S5_GELU),
    LAYER(s5, .d_model = 2, .d_state = 3, .bidirectional = 1, .lru = 1),
};

static const ssm_format bound_formats[] = {SSM_FORMAT_REAL, SSM_FORMAT_BF16, SSM_FORMAT_INT8};
static ssm_format bound_format; /* of the layer that a law is given */

static layer_any_config bound_config(const layer_config *c, ssm_format format)
{
    layer_any_config k;
    memset(&k, 0, sizeof k);
#define BOUND_COPY(X)                               \
    if (c->type == &layer_##X) {                    \
        k.X = *(const ssm_##X##_config *)c->config; \
        k.X.format = format;                        \
    }
    BOUND_COPY(selective)
    BOUND_COPY(s6)
    BOUND_COPY(mamba)
    BOUND_COPY(mamba2)
    BOUND_COPY(mamba3)
    BOUND_COPY(rglru)
    BOUND_COPY(s4d)
    BOUND_COPY(s4)
    BOUND_COPY(s5)
#undef BOUND_COPY
    return k;
}

static void bound_each(layer_law law, const layer_config *configs, size_t count)
{
    size_t i, f;
    for (i = 0; i < count; ++i) {
        for (f = 0; f < TEST_COUNT(bound_formats); ++f) {
            const layer_any_config config = bound_config(&configs[i], bound_formats[f]);
            const size_t failures = test_failures;
            layer_config c = configs[i];
            c.config = &config;
            bound_format = bound_formats[f];
            layer_each(law, &c, 1);
            if (test_failures > failures && failures <= 5) printf("    ... in format %d\n", (int)bound_format);
        }
    }
}

/* The laws that formats and the steps of their own could break. */
#define BOUND_LAW(name, law)                                       \
    static void test_bound_##name(void)                            \
    {                                                              \
        bound_each(law, bound_configs, TEST_COUNT(bound_configs)); \
    }

BOUND_LAW(step, layer_law_step)
BOUND_LAW(step_in_place, layer_law_step_in_place)
BOUND_LAW(split, layer_law_split)
BOUND_LAW(packed, layer_law_packed)
BOUND_LAW(record, layer_law_record)
BOUND_LAW(snapshot, layer_law_snapshot)
BOUND_LAW(no_state, layer_law_no_state)
BOUND_LAW(alignment, layer_law_alignment)
BOUND_LAW(errors, layer_law_errors)

/*--- the oracle of rounding ---*/

/* To 8 significant bits, ties to even, as float's exponents allow. */
static double bound_bf16(double x)
{
    int e;
    double y;
    if (x != x || x - x != 0) return x;
    (void)frexp(x, &e);
    if (e < -125) e = -125; /* subnormal */
    y = ldexp(nearbyint(ldexp(x, 8 - e)), e - 8);
    return fabs(y) < ldexp(1, 128) ? y : copysign(HUGE_VAL, x);
}

/* A weight of a row in INT8. */
static ssm_real bound_int8(ssm_real x, ssm_real scale, double *n)
{
    *n = scale > 0 ? nearbyint((double)(x / scale)) : 0;
    return (ssm_real)*n * scale;
}

#define BOUND_NONE ((size_t)-1)

static int bound_is(const ssm_param *row, const char *name)
{
    return strcmp(row->name, name) == 0;
}

/* Which output's row of a matrix element i of a parameter belongs to; BOUND_NONE: of no matrix. */
static size_t bound_output(const layer_model *m, const ssm_param *row, size_t i)
{
    static const char *const dense[] = {"w_delta",
                                        "w_b",
                                        "w_c",
                                        "x_proj.weight",
                                        "dt_proj.weight",
                                        "in_proj.weight",
                                        "out_proj.weight",
                                        "output_linear.weight",
                                        "out1.weight",
                                        "out2.weight",
                                        "linear_y.weight",
                                        "linear_x.weight",
                                        "linear_out.weight"};
    const size_t last = row->rank == 3 ? 2 * row->shape[1] : row->shape[1];
    size_t k;
    for (k = 0; k < TEST_COUNT(dense); ++k)
        if (bound_is(row, dense[k])) return i / (row->rank == 1 ? row->count : row->shape[1]);
    if (m->type == &layer_rglru && row->rank == 3 && row->shape[1] > 1) /* gates: [head][in][out] */
        return i / (row->shape[1] * row->shape[2]) * row->shape[2] + i % row->shape[2];
    if (m->type != &layer_s5) return BOUND_NONE;
    if (bound_is(row, "B")) return row->rank == 3 ? i / last * 2 + i % 2 : i % last;
    if (bound_is(row, "C")) return row->rank == 3 ? i / last : i % last;
    if (bound_is(row, "B_re") || bound_is(row, "B_im") || bound_is(row, "C_re") || bound_is(row, "C_im"))
        return i / row->shape[1];
    return BOUND_NONE;
}

/* The largest element of each output of a parameter's matrix; one of the LRU's C is in C_re and in C_im. */
static void bound_scales(const layer_model *m, const ssm_param *row, ssm_real *scale)
{
    const ssm_param *const end = row + (bound_is(row, "C_re") ? 2 : 1);
    size_t i;
    for (i = 0; i < LAYER_WIDE; ++i) scale[i] = 0;
    for (row -= bound_is(row, "C_im"); row < end; ++row)
        for (i = 0; i < row->count; ++i) {
            const ssm_real w = m->params[row->offset + i];
            const size_t output = bound_output(m, row, i);
            if (output != BOUND_NONE && (w > scale[output] || -w > scale[output])) scale[output] = w < 0 ? -w : w;
        }
}

/* The parameters with their matrices rounded: what a layer in `format` computes with. */
static ssm_real *bound_rounded(const layer_model *m, ssm_format format)
{
    ssm_real *p = test_copy(m->params, m->table.count), scale[LAYER_WIDE];
    size_t r, i, output;
    for (r = 0; r < m->table.rows; ++r) {
        const ssm_param *row = &m->table.row[r];
        bound_scales(m, row, scale);
        for (i = 0; format == SSM_FORMAT_BF16 && i < row->count; ++i)
            if (bound_output(m, row, i) != BOUND_NONE)
                p[row->offset + i] = (ssm_real)bound_bf16((double)(float)m->params[row->offset + i]);
        for (i = 0; format == SSM_FORMAT_INT8 && i < row->count; ++i) {
            double n;
            output = bound_output(m, row, i);
            if (output != BOUND_NONE)
                p[row->offset + i] = bound_int8(m->params[row->offset + i], scale[output] / 127, &n);
        }
    }
    return p;
}

/*--- formats: a layer in a format is the plain layer of rounded matrices ---*/

/* The layer of m's configuration in SSM_FORMAT_REAL, with other parameters. */
static void bound_open_real(layer_model *r, layer_any_config *config, const layer_model *m, const ssm_real *params)
{
    layer_config c = {""};
    ssm_rng rng;
    rng.state = test_seed;
    c.type = m->type;
    c.config = m->config;
    *config = bound_config(&c, SSM_FORMAT_REAL);
    c.config = config;
    layer_open(r, &c, &rng, 0);
    memcpy(r->params, params, m->table.count * sizeof *params);
    CHECK_OK(r->type->bind(&r->layer, r->config, r->params, ssm_memory_of(r->bound, r->need.bound)));
}

/* BF16: the same bits. INT8 multiplies by the scale after the sum, so the same within rounding. */
static void bound_compare(const ssm_real *got, const ssm_real *want, size_t count)
{
    double *exact = test_doubles(want, count);
    if (bound_format == SSM_FORMAT_INT8) CHECK_CLOSE(got, exact, count, TOL(4e-5, 1e-13));
    else CHECK_SAME(got, want, count);
    test_free(exact, 0);
}

static void bound_law_rounded(layer_model *m, ssm_rng *rng)
{
    ssm_real *rounded = bound_rounded(m, bound_format);
    layer_any_config config, plain_config;
    layer_model r, plain;
    size_t i;
    bound_open_real(&r, &config, m, rounded);
    bound_open_real(&plain, &plain_config, m, m->params);
    for (i = 0; i < TEST_COUNT(layer_stride_shapes); ++i) {
        const size_t batch = layer_stride_shapes[i][0], len = layer_stride_shapes[i][1];
        const layer_data d = layer_data_make(&r, rng, batch, len);
        const layer_result got = layer_result_make(&d), unrounded = layer_result_make(&d);
        layer_way_batch(m, &d, got);
        layer_way_batch(&plain, &d, unrounded);
        bound_compare(got.y, d.want_y, d.count);
        bound_compare(got.state, d.want_state, d.states);
        if (m->d_model > 1) /* the format makes a difference (a row of one is exact in INT8) */
            CHECK((memcmp(got.y, unrounded.y, d.count * sizeof *got.y) == 0) == (bound_format == SSM_FORMAT_REAL));
        test_free(got.y, 0);
        test_free(got.state, 0);
        test_free(unrounded.y, 0);
        test_free(unrounded.state, 0);
        layer_data_free(&d);
    }
    test_free(rounded, 0);
    layer_close(&r, 0);
    layer_close(&plain, 0);
}

/* Straight-through: forward with rounded weights, the chain rule with those of the caller. So the gradients
 * are those of a plain layer that was bound to rounded parameters and finds the others in their place when
 * backward reads them. Fails if backward reads rounded weights, or record does not. */
static void bound_law_straight(layer_model *m, ssm_rng *rng)
{
    const ssm_seqs seqs = test_seqs(3, 70);
    ssm_real *rounded = bound_rounded(m, bound_format);
    const layer_data d = layer_data_make(m, rng, 3, 70);
    const layer_result got = layer_result_make(&d), want = layer_result_make(&d);
    ssm_real *dy = test_normal(rng, d.count, 1), *dx = test_zeros(d.count), *want_dx = test_zeros(d.count);
    ssm_real *dstate = test_normal(rng, d.states, 1), *want_dstate = test_copy(dstate, d.states);
    ssm_real *dparams = test_zeros(m->table.count), *want_dparams = test_zeros(m->table.count);
    layer_any_config config;
    layer_model r;
    bound_open_real(&r, &config, m, rounded);
    memcpy(r.params, m->params, m->table.count * sizeof *rounded);
    layer_record(m, got.state, d.x, got.y, &seqs, dstate, dy, dx, dparams);
    layer_record(&r, want.state, d.x, want.y, &seqs, want_dstate, dy, want_dx, want_dparams);
    bound_compare(got.y, want.y, d.count);
    bound_compare(got.state, want.state, d.states);
    bound_compare(dx, want_dx, d.count);
    bound_compare(dstate, want_dstate, d.states);
    bound_compare(dparams, want_dparams, m->table.count);
    layer_close(&r, 0);
    test_free(rounded, 0);
    test_free(dy, 0);
    test_free(dx, 0);
    test_free(want_dx, 0);
    test_free(dstate, 0);
    test_free(want_dstate, 0);
    test_free(dparams, 0);
    test_free(want_dparams, 0);
    test_free(got.y, 0);
    test_free(got.state, 0);
    test_free(want.y, 0);
    test_free(want.state, 0);
    layer_data_free(&d);
}

BOUND_LAW(rounded, bound_law_rounded)
BOUND_LAW(straight, bound_law_straight)

/*--- sizes ---*/

/* Bytes of a packed matrix, by its description in the documentation: whole panels of SSM__PANEL outputs. */
static size_t bound_matrix_bytes(ssm_format format, size_t in, size_t out)
{
    const size_t panels = (out + SSM__PANEL - 1) / SSM__PANEL;
    if (format == SSM_FORMAT_INT8) /* whole reals: the scales of every panel are aligned */
        return panels * ((SSM__PANEL * in + sizeof(ssm_real) - 1) / sizeof(ssm_real) + SSM__PANEL) * sizeof(ssm_real);
    return panels * SSM__PANEL * in * (format == SSM_FORMAT_BF16 ? 2 : sizeof(ssm_real));
}

static const struct {
    layer_config config;
    size_t matrix[5][2]; /* in, out */
} bound_sizes[] = {
    {LAYER(selective, .d_model = 64, .d_state = 16), {{64, 33}}},
    {LAYER(s6, .d_model = 64, .d_state = 16, .dt_rank = 4), {{64, 36}, {4, 64}}},
    {LAYER(mamba, .d_model = 32, .d_state = 16, .dt_rank = 2), {{32, 64}, {32, 64}, {64, 34}, {2, 64}, {64, 32}}},
    {LAYER(rglru, .d_model = 32, .lru_width = 64, .num_heads = 1), {{32, 64}, {32, 64}, {64, 32}, {64, 64}, {64, 64}}},
    {LAYER(s4d, .d_model = 64, .output = SSM_S4_OUTPUT_GLU), {{64, 128}}},
    {LAYER(s4, .d_model = 64, .output = SSM_S4_OUTPUT_GLU), {{64, 128}}},
    {LAYER(s5, .d_model = 64, .d_state = 64, .activation = SSM_S5_FULL_GLU), {{64, 64}, {64, 64}, {64, 64}, {64, 64}}},
    {LAYER(s5, .d_model = 64, .d_state = 32, .lru = 1, .activation = SSM_S5_GELU), {{64, 64}, {64, 64}}},
};

static size_t bound_bytes(const layer_config *c, ssm_format format)
{
    const layer_any_config config = bound_config(c, format);
    const ssm_seqs seqs = test_seqs(1, 1);
    ssm_sizes need = {0};
    CHECK_OK(c->type->sizes(&config, &seqs, &need));
    return need.bound;
}

/* A format shrinks the matrices and nothing else. */
static void test_bound_sizes(void)
{
    size_t i, f, k;
    for (i = 0; i < TEST_COUNT(bound_sizes); ++i) {
        const size_t real = bound_bytes(&bound_sizes[i].config, SSM_FORMAT_REAL);
        for (f = 0; f < TEST_COUNT(bound_formats); ++f) {
            size_t less = 0;
            for (k = 0; k < 5; ++k) {
                const size_t in = bound_sizes[i].matrix[k][0], out = bound_sizes[i].matrix[k][1];
                less += bound_matrix_bytes(SSM_FORMAT_REAL, in, out) - bound_matrix_bytes(bound_formats[f], in, out);
            }
            CHECK(bound_bytes(&bound_sizes[i].config, bound_formats[f]) == real - less);
        }
    }
}

/*--- a format that does not exist ---*/

static void test_bound_unknown_format(void)
{
    static const int unknown[] = {3, -1};
    unsigned char packed[1024], before[sizeof packed];
    ssm_real weight[6] = {1, 2, 3, 4, 5, 6}, y[2] = {7, 8};
    ssm_linear l = {0};
    size_t i, k, bytes = 9;
    memset(packed, 0x5a, sizeof packed);
    memset(before, 0x5a, sizeof before);
    l.in = 3;
    l.out = 2;
    l.weight = weight;
    for (k = 0; k < TEST_COUNT(unknown); ++k) {
        for (i = 0; i < TEST_COUNT(bound_configs); ++i) {
            const layer_any_config config = bound_config(&bound_configs[i], (ssm_format)unknown[k]);
            layer_config c = bound_configs[i];
            layer_any layer, untouched;
            c.config = &config;
            memset(&layer, 0x5a, sizeof layer);
            memset(&untouched, 0x5a, sizeof untouched);
            layer_check_bad_config(&c, SSM_ERR_CONFIG);
            CHECK_STATUS(c.type->attach(&layer, &config, ssm_bound_of(packed, sizeof packed)), SSM_ERR_CONFIG);
            CHECK(memcmp(&layer, &untouched, sizeof layer) == 0);
        }
        l.format = (ssm_format)unknown[k];
        l.packed = NULL;
        CHECK_STATUS(ssm_linear_pack_size(&l, &bytes), SSM_ERR_CONFIG);
        CHECK_STATUS(ssm_linear_pack(&l, ssm_memory_of(packed, sizeof packed)), SSM_ERR_CONFIG);
        l.packed = packed;
        CHECK_STATUS(ssm_linear_forward(&l, ssm_rows_of(weight, 3), ssm_rows_out_of(y, 2), 1), SSM_ERR_CONFIG);
    }
    CHECK(bytes == 9 && y[0] == 7 && y[1] == 8 && memcmp(packed, before, sizeof packed) == 0);
}

/*--- ssm_linear in each format ---*/

/* l.packed in exactly the bytes it asks for, aligned as ssm_real only. Free with test_free(p, sizeof(ssm_real)). */
static void *bound_pack(ssm_linear *l)
{
    size_t bytes = 0;
    void *packed;
    CHECK_OK(ssm_linear_pack_size(l, &bytes));
    CHECK(bytes == bound_matrix_bytes(l->format, l->in, l->out));
    packed = test_alloc(bytes, sizeof(ssm_real));
    CHECK_STATUS(ssm_linear_pack(l, ssm_memory_of(packed, bytes - 1)), SSM_ERR_BOUND);
    CHECK_OK(ssm_linear_pack(l, ssm_memory_of(packed, bytes)));
    l->packed = packed;
    return packed;
}

/* y [rows][out] of INT8 against integers in double; and no weight is further off than half a scale. */
static void bound_check_int8(const ssm_linear *l, const ssm_real *x, const ssm_real *y, size_t rows)
{
    const double eps = TOL(6e-8, 1.2e-16);
    size_t r, o, k;
    for (o = 0; o < l->out; ++o) {
        const ssm_real *w = l->weight + o * l->in;
        ssm_real largest = 0;
        for (k = 0; k < l->in; ++k)
            if (w[k] > largest || -w[k] > largest) largest = w[k] < 0 ? -w[k] : w[k];
        for (r = 0; r < rows; ++r) {
            double sum = 0, size = 0, exact = 0, reach = 0, n;
            for (k = 0; k < l->in; ++k) {
                const double xk = (double)x[r * l->in + k];
                bound_int8(w[k], largest / 127, &n);
                sum += xk * n;
                size += fabs(xk * n);
                exact += xk * (double)w[k];
                reach += fabs(xk);
            }
            sum = sum * (double)largest / 127 + (l->bias ? (double)l->bias[o] : 0);
            exact += l->bias ? (double)l->bias[o] : 0;
            size = size * (double)largest / 127 + fabs(sum);
            CHECK(fabs((double)y[r * l->out + o] - sum) <= ((double)l->in + 6) * eps * size);
            CHECK(fabs((double)y[r * l->out + o] - exact) <=
                  reach * (double)largest / 254 * 1.0001 + ((double)l->in + 6) * eps * size);
        }
    }
}

static void bound_linear_case(size_t in, size_t out, ssm_format format, ssm_rng *rng)
{
    const size_t rows = 3, count = in * out;
    ssm_real *w = test_normal(rng, count, 1), *q = test_copy(w, count), *bias = test_normal(rng, out, 1);
    ssm_real *x = test_normal(rng, rows * in, 1), *y = test_zeros(rows * out), *want = test_zeros(rows * out);
    ssm_linear l = {0}, plain;
    void *packed;
    size_t i;
    l.in = in;
    l.out = out;
    l.weight = w;
    l.bias = (in + out) % 2 ? bias : NULL;
    l.format = format;
    plain = l;
    for (i = 0; format == SSM_FORMAT_BF16 && i < count; ++i) q[i] = (ssm_real)bound_bf16((double)(float)w[i]);
    plain.weight = q;
    packed = bound_pack(&l);
    CHECK_OK(ssm_linear_forward(&l, ssm_rows_of(x, (ptrdiff_t)in), ssm_rows_out_of(y, (ptrdiff_t)out), rows));
    CHECK_OK(ssm_linear_forward(&plain, ssm_rows_of(x, (ptrdiff_t)in), ssm_rows_out_of(want, (ptrdiff_t)out),
                                rows)); /* not packed */
    if (format == SSM_FORMAT_INT8) bound_check_int8(&l, x, y, rows);
    else CHECK_SAME(y, want, rows * out);
    for (i = 0; i < rows; ++i)
        CHECK_OK(ssm_linear_forward(&l, ssm_rows_of(x + i * in, 0), ssm_rows_out_of(want + i * out, 0), 1));
    CHECK_SAME(y, want, rows * out); /* a row does not depend on how many there are */
    test_free(packed, sizeof(ssm_real));
    test_free(w, 0);
    test_free(q, 0);
    test_free(bias, 0);
    test_free(x, 0);
    test_free(y, 0);
    test_free(want, 0);
}

static void test_bound_linear(void)
{
    static const size_t extents[] = {1, 15, 16, 17, 33};
    ssm_rng rng;
    size_t i, j, f;
    rng.state = test_seed;
    for (i = 0; i < TEST_COUNT(extents); ++i)
        for (j = 0; j < TEST_COUNT(extents); ++j)
            for (f = 0; f < TEST_COUNT(bound_formats); ++f)
                bound_linear_case(extents[i], extents[j], bound_formats[f], &rng);
}

/* Ties, the ends of the range, subnormal numbers and zeros, by hand. */
static void test_bound_bf16(void)
{
    static const double ulp = 1.1920928955078125e-7; /* 2^-23 */
    const double huge = ldexp(255, 120), tiny = ldexp(1, -133);
    const double cases[][2] = {
        {1, 1},
        {1 + ldexp(1, -8), 1},                      /* tie, to the even below */
        {1 + ldexp(1, -8) + ulp, 1 + ldexp(1, -7)}, /* just above it */
        {1 + ldexp(3, -8), 1 + ldexp(1, -6)},       /* tie, to the even above */
        {1 + ldexp(3, -8) - ulp, 1 + ldexp(1, -7)}, /* just below it */
        {2 - ulp, 2},                               /* carries into the exponent */
        {0.333333343267440796, 0.333984375},
        {huge, huge},
        {huge + ldexp(1, 119) - ldexp(1, 104), huge},
        {huge + ldexp(1, 119), HUGE_VAL}, /* tie with 2^128 */
        {HUGE_VAL, HUGE_VAL},
        {tiny, tiny},
        {tiny / 2, 0},
        {tiny / 2 + ldexp(1, -149), tiny},
        {tiny * 3 / 2, tiny * 2},
        {ldexp(1, -149), 0},
        {0, 0},
    };
    size_t i;
    int sign;
    for (i = 0; i < TEST_COUNT(cases); ++i) {
        for (sign = -1; sign <= 1; sign += 2) {
            const double x = sign * cases[i][0], want = copysign(cases[i][1], x);
            const ssm_real got = ssm__from_bf16(ssm__bf16((ssm_real)x)), expected = (ssm_real)want;
            CHECK_SAME(&got, &expected, 1);
            CHECK(want == bound_bf16(x)); /* and the oracle of the other tests */
        }
    }
    for (sign = 0; sign < 2; ++sign) { /* a NaN whose payload is all in the lower half */
        ssm__float q;
        ssm_real got;
        q.u = 0x7f800001u | (uint32_t)sign << 31;
        got = ssm__from_bf16(ssm__bf16((ssm_real)q.f));
        CHECK(got != got);
    }
}

/* Row by row through the unit vectors: the integers themselves, as the scale is 1. */
static void test_bound_int8(void)
{
    static const double weight[] = {127, 0.5, 1.5, 2.5, -0.5, -1.5, 126.5, -126.5, -127, 0.499, 0.501, -63.49, 100.51};
    enum {
        COUNT = sizeof weight / sizeof weight[0]
    };
    ssm_real w[2 * COUNT], x[COUNT], y[2];
    ssm_linear l = {0};
    void *packed;
    size_t i;
    for (i = 0; i < COUNT; ++i) {
        w[i] = (ssm_real)weight[i];
        w[COUNT + i] = w[i] / 8; /* a row of its own scale */
        x[i] = 0;
    }
    l.in = COUNT;
    l.out = 2;
    l.weight = w;
    l.format = SSM_FORMAT_INT8;
    packed = bound_pack(&l);
    for (i = 0; i < COUNT; ++i) {
        x[i] = 1;
        CHECK_OK(ssm_linear_forward(&l, ssm_rows_of(x, 0), ssm_rows_out_of(y, 0), 1));
        x[i] = 0;
        CHECK((double)y[0] == floor((double)y[0]) && fabs((double)y[0] - weight[i]) <= 0.5);
        CHECK((double)y[1] * 8 == (double)y[0]);
    }
    test_free(packed, sizeof(ssm_real));
}

/* Rows of zeros, of one size and another, and what is no number stay with their own output. */
static void test_bound_rows(void)
{
    enum {
        IN = 5,
        OUT = 33
    };
    ssm_rng rng;
    size_t f, i;
    rng.state = test_seed;
    for (f = 0; f < TEST_COUNT(bound_formats); ++f) {
        ssm_real *w = test_normal(&rng, IN * OUT, 1), y[OUT], clean[OUT];
        const ssm_real x[IN] = {1, 2, (ssm_real)0.5, 3, (ssm_real)0.25};
        const ssm_real large = (ssm_real)TOL(1e38, 1e38), small = (ssm_real)TOL(1e-30, 1e-30);
        ssm_linear l = {0};
        void *packed;
        l.in = IN;
        l.out = OUT;
        l.weight = w;
        l.format = bound_formats[f];
        packed = bound_pack(&l);
        CHECK_OK(ssm_linear_forward(&l, ssm_rows_of(x, 0), ssm_rows_out_of(clean, 0), 1));
        test_free(packed, sizeof(ssm_real));
        for (i = 0; i < IN; ++i) {
            w[3 * IN + i] = i % 2 ? 0 : (ssm_real)-0.0;
            w[4 * IN + i] = i ? 0 : large;
            w[5 * IN + i] = i == 1 ? -small : 0;
            w[6 * IN + i] = i ? 0 : (ssm_real)TOL(1e-44, 1e-44); /* 7 of the smallest floats */
        }
        w[7 * IN + 2] = (ssm_real)NAN;
        w[16 * IN + 1] = (ssm_real)HUGE_VAL;
        w[32 * IN + 4] = (ssm_real)-HUGE_VAL;
        packed = bound_pack(&l);
        CHECK_OK(ssm_linear_forward(&l, ssm_rows_of(x, 0), ssm_rows_out_of(y, 0), 1));
        CHECK(y[3] == 0);
        CHECK(fabs((double)(y[4] / large) - 1) <= 1.0 / 256);
        CHECK(fabs((double)(y[5] / small) + 2) <= 2.0 / 256);
        CHECK(y[6] >= 0 && (double)y[6] <= 2e-44);
        CHECK(y[7] != y[7]);
        CHECK(y[16] - y[16] != 0 && y[32] - y[32] != 0);
        if (l.format != SSM_FORMAT_INT8) CHECK((double)y[16] == HUGE_VAL && (double)y[32] == -HUGE_VAL);
        for (i = 0; i < OUT; ++i) {
            if ((i < 3 || i > 7) && i != 16 && i != 32) CHECK_SAME(y + i, clean + i, 1);
        }
        test_free(packed, sizeof(ssm_real));
        test_free(w, 0);
    }
}

/*--- attach ---*/

/* A call of forward; the state is NULL where the layer has none. */
static void bound_forward(const layer_model *m, const layer_data *d, ssm_real *state, ssm_real *y)
{
    const ssm_seqs seqs = test_seqs(d->batch, d->len);
    layer_forward(m, m->states ? state : NULL, d->x, y, &seqs);
}

/* Data without what it gives. */
static layer_data bound_data(const layer_model *m, ssm_rng *rng, size_t batch, size_t len)
{
    layer_data d;
    d.batch = batch;
    d.len = len;
    d.count = batch * len * m->d_model;
    d.states = batch * m->states;
    d.rounding = 0;
    d.x = test_normal(rng, d.count, 1);
    d.scale = layer_scales(m, rng, batch * len);
    d.state = test_normal(rng, d.states, 1);
    d.want_y = test_zeros(d.count);
    d.want_state = test_copy(d.state, d.states);
    return d;
}

/* S4 makes its convolution's kernel from the parameters. */
static int bound_needs_params(const layer_model *m)
{
    return m->type == &layer_s4 && m->resolved.s4.form == SSM_S4_FORM_CONVOLUTION;
}

/* The layer attached to a copy of m's block, which is aligned as ssm_real only. */
static void *bound_attach(layer_model *attached, const layer_model *m)
{
    const ssm_bound bound = m->type->bound(&m->layer);
    void *block = test_alloc(bound.bytes, sizeof(ssm_real));
    memcpy(block, bound.data, bound.bytes);
    *attached = *m;
    memset(&attached->layer, 0x5a, sizeof attached->layer);
    attached->params = NULL;
    attached->bound = NULL;
    CHECK_OK(m->type->attach(&attached->layer, m->config, ssm_bound_of(block, bound.bytes)));
    CHECK(m->type->bound(&attached->layer).data == block);
    CHECK(m->type->bound(&attached->layer).bytes == bound.bytes);
    return block;
}

/* The checkpoint of an S4 is solved for C in memory beside the block, which is that of plain C: bind wants both, to the
 * byte. */
static void bound_check_solved(layer_model *m, size_t bytes)
{
    ssm_s4_config plain = m->resolved.s4;
    const ssm_seqs one = test_seqs(1, 1);
    unsigned char *less = (unsigned char *)test_alloc(m->need.bound - 1, 0);
    layer_any was = m->layer;
    ssm_sizes need;
    size_t i;
    plain.l_max = 0;
    CHECK_OK(ssm_s4_sizes(&plain, &one, &need));
    CHECK(bytes + 63 == need.bound && need.bound < m->need.bound);
    CHECK_STATUS(m->type->bind(&was, m->config, m->params, ssm_memory_of(less, m->need.bound - 1)), SSM_ERR_BOUND);
    CHECK(m->type->bound(&was).data == m->type->bound(&m->layer).data);
    CHECK(m->type->bound(&was).bytes == bytes && was.s4.core.dim == m->layer.s4.core.dim);
    for (i = 0; i < m->need.bound - 1; ++i) CHECK(less[i] == 0x5a); /* as test_alloc fills it */
    test_free(less, 0);
}

static void bound_law_attach(layer_model *m, ssm_rng *rng)
{
    static const size_t shapes[][2] = {{1, 1}, {3, 65}, {20, 7}, {1, 130}};
    const ssm_bound bound = m->type->bound(&m->layer);
    unsigned char *before = (unsigned char *)malloc(bound.bytes);
    layer_data d[TEST_COUNT(shapes)], one = bound_data(m, rng, 5, 1);
    layer_model a;
    void *block;
    size_t i;
    CHECK((uintptr_t)bound.data % 64 == 0 && bound.bytes % 64 == 0);
    if (m->type == &layer_s4 && m->resolved.s4.l_max) bound_check_solved(m, bound.bytes);
    else CHECK(bound.bytes + 63 == m->need.bound);
    memcpy(before, bound.data, bound.bytes);
    for (i = 0; i < TEST_COUNT(shapes); ++i) {
        d[i] = bound_data(m, rng, shapes[i][0], shapes[i][1]);
        bound_forward(m, &d[i], d[i].want_state, d[i].want_y);
    }
    if (m->need.work_step) layer_step(m, one.want_state, one.x, one.want_y, one.batch);
    block = bound_attach(&a, m);
    memset(m->bound, 0xff, m->need.bound); /* the attached layer reads its own block only */
    memset(m->params, 0xff, m->need.params);
    for (i = 0; i < TEST_COUNT(shapes); ++i) {
        const layer_result r = layer_result_make(&d[i]);
        bound_forward(&a, &d[i], r.state, r.y);
        layer_expect(&d[i], r);
        layer_data_free(&d[i]);
    }
    if (m->need.work_step) {
        const layer_result r = layer_result_make(&one);
        layer_step(&a, r.state, one.x, r.y, one.batch);
        layer_expect(&one, r);
    }
    layer_data_free(&one);
    CHECK(memcmp(block, before, bound.bytes) == 0);
    test_free(block, sizeof(ssm_real));
    free(before);
}

static void test_bound_attach(void)
{
    bound_each(bound_law_attach, bound_configs, TEST_COUNT(bound_configs));
    bound_each(bound_law_attach, bound_forward_configs, TEST_COUNT(bound_forward_configs));
}

/* record and backward want parameters, whatever else they are given. */
static void bound_law_attached_training(layer_model *m, ssm_rng *rng)
{
    static const layer_verb verbs[] = {LAYER_RECORD, LAYER_BACKWARD};
    layer_model a;
    void *block = bound_attach(&a, m), *work;
    size_t v;
    for (v = 0; v < TEST_COUNT(verbs); ++v) {
        layer_fixture f = {0};
        layer_fixture_open(&f, m, rng, LAYER_RECORD, test_seqs(2, 65), 0);
        layer_fixture_keep(&f);
        f.io.layer = &a.layer;
        if (!m->states) f.io.state = NULL; /* that would be SSM_ERR_UNSUPPORTED, too */
        f.io.work.bytes = layer_work_bytes(&f.need, verbs[v], 0);
        f.io.work.data = work = test_alloc(f.io.work.bytes, 0);
        CHECK_STATUS(layer_call(m->type, verbs[v], &f.io), SSM_ERR_UNSUPPORTED);
        CHECK(layer_fixture_untouched(&f));
        test_free(work, 0);
        layer_fixture_close(&f);
    }
    test_free(block, sizeof(ssm_real));
}

static void test_bound_attached_training(void)
{
    bound_each(bound_law_attached_training, bound_configs, TEST_COUNT(bound_configs));
    bound_each(bound_law_attached_training, bound_forward_configs, TEST_COUNT(bound_forward_configs));
}

static void bound_check_attach(const layer_model *m, const void *config, ssm_bound block, ssm_status status)
{
    layer_any layer, before;
    memset(&layer, 0x5a, sizeof layer);
    memset(&before, 0x5a, sizeof before);
    CHECK_STATUS(m->type->attach(&layer, config, block), status);
    CHECK(memcmp(&layer, &before, sizeof layer) == 0);
}

/* Any byte changed, any length too short, any pointer missing or crooked: nothing is attached. */
static void bound_law_attach_errors(layer_model *m, ssm_rng *rng)
{
    static const unsigned char flips[] = {0x01, 0x80, 0xff};
    const size_t failures = test_failures;
    const ssm_bound bound = m->type->bound(&m->layer);
    unsigned char *block = (unsigned char *)test_alloc(bound.bytes, 0), *off;
    layer_any layer;
    size_t i, k;
    (void)rng;
    memcpy(block, bound.data, bound.bytes);
    for (i = 0; i < bound.bytes && test_failures == failures; ++i) {
        bound_check_attach(m, m->config, ssm_bound_of(block, i), SSM_ERR_BOUND);
        for (k = 0; k < TEST_COUNT(flips); ++k) {
            block[i] ^= flips[k];
            bound_check_attach(m, m->config, ssm_bound_of(block, bound.bytes), SSM_ERR_CONFIG);
            block[i] ^= flips[k];
        }
        if (test_failures > failures)
            printf("    ... at byte %lu of %lu\n", (unsigned long)i, (unsigned long)bound.bytes);
    }
    bound_check_attach(m, m->config, ssm_bound_of(NULL, bound.bytes), SSM_ERR_NULL);
    bound_check_attach(m, NULL, ssm_bound_of(block, bound.bytes), SSM_ERR_NULL);
    CHECK_STATUS(m->type->attach(NULL, m->config, ssm_bound_of(block, bound.bytes)), SSM_ERR_NULL);
    for (i = 1; i < sizeof(ssm_real); ++i) {
        off = (unsigned char *)test_alloc(bound.bytes, i);
        memcpy(off, bound.data, bound.bytes);
        bound_check_attach(m, m->config, ssm_bound_of(off, bound.bytes), SSM_ERR_BOUND);
        test_free(off, i);
    }
    CHECK_OK(m->type->attach(&layer, m->config, ssm_bound_of(block, bound.bytes))); /* after all that */
    test_free(block, 0);
}

BOUND_LAW(attach_errors, bound_law_attach_errors)

/* Configurations that must not take each other's blocks, many of them of the same sizes. */
static const layer_config bound_others[] = {
    LAYER(selective, .d_model = 4, .d_state = 3),
    LAYER(selective, .d_model = 4, .d_state = 3, .disc = SSM_DISC_EULER),
    LAYER(selective, .d_model = 4, .d_state = 4),
    LAYER(selective, .d_model = 5, .d_state = 3),
    LAYER(s6, .d_model = 4, .d_state = 1),
    LAYER(s6, .d_model = 4, .d_state = 1, .n_groups = 2),
    LAYER(s6, .d_model = 4, .d_state = 1, .n_groups = 4),
    LAYER(s6, .d_model = 4, .d_state = 1, .dt_rank = 2),
    LAYER(s6, .d_model = 4, .d_state = 2),
    LAYER(s6, .d_model = 4, .d_state = 1, .disc = SSM_DISC_DIRAC),
    LAYER(s6, .d_model = 4, .d_state = 1, .disc = SSM_DISC_TRAPEZOID),
    LAYER(s6, .d_model = 4, .d_state = 1, .no_dt_bias = 1),
    LAYER(s6, .d_model = 4, .d_state = 1, .complex_A = 1),
    LAYER(mamba, .d_model = 4, .d_state = 2),
    LAYER(mamba, .d_model = 4, .d_state = 1, .complex_A = 1), /* as many reals */
    LAYER(mamba, .d_model = 4, .d_state = 2, .residual = 1),
    LAYER(mamba, .d_model = 4, .d_state = 2, .pre_norm = 1),
    LAYER(mamba, .d_model = 4, .d_state = 2, .pre_norm = 1, .norm_eps = (ssm_real)0.01),
    LAYER(mamba, .d_model = 4, .d_state = 2, .proj_bias = 1),
    LAYER(mamba, .d_model = 4, .d_state = 2, .no_conv_bias = 1),
    LAYER(mamba, .d_model = 4, .d_state = 2, .no_dt_bias = 1),
    LAYER(mamba, .d_model = 4, .d_state = 2, .d_conv = 3),
    LAYER(mamba, .d_model = 4, .d_state = 2, .d_conv = 1),
    LAYER(mamba, .d_model = 4, .d_state = 2, .n_groups = 2),
    LAYER(mamba, .d_model = 4, .d_state = 2, .expand = 1),
    LAYER(mamba, .d_model = 5, .d_state = 2, .d_inner = 8),
    LAYER(mamba, .d_model = 4, .d_state = 2, .disc = SSM_DISC_ZOH),
    LAYER(mamba2, .d_model = 4, .d_state = 2, .d_inner = 8, .headdim = 4),
    LAYER(mamba2, .d_model = 4, .d_state = 2, .d_inner = 8, .headdim = 2),
    LAYER(mamba2, .d_model = 4, .d_state = 1, .d_inner = 8, .headdim = 4, .n_groups = 2),
    LAYER(mamba2, .d_model = 4, .d_state = 2, .d_inner = 8, .headdim = 4, .residual = 1),
    LAYER(mamba2, .d_model = 4, .d_state = 2, .d_inner = 8, .headdim = 4, .no_norm = 1),
    LAYER(mamba2, .d_model = 4, .d_state = 2, .d_inner = 8, .headdim = 4, .norm_before_gate = 1),
    LAYER(mamba2, .d_model = 4, .d_state = 2, .d_inner = 8, .headdim = 4, .dt_limit_max = 1),
    LAYER(mamba2, .d_model = 4, .d_state = 2, .d_inner = 8, .headdim = 4, .dt_limit_min = (ssm_real)0.25),
    LAYER(mamba2, .d_model = 4, .d_state = 2, .d_inner = 8, .headdim = 4, .D_has_hdim = 1),
    LAYER(mamba3, .d_model = 4, .d_state = 4, .d_inner = 8, .headdim = 4),
    LAYER(mamba3, .d_model = 4, .d_state = 4, .d_inner = 8, .headdim = 2),
    LAYER(mamba3, .d_model = 4, .d_state = 4, .d_inner = 8, .headdim = 4, .n_groups = 2),
    LAYER(mamba3, .d_model = 4, .d_state = 4, .d_inner = 8, .headdim = 4, .residual = 1),
    LAYER(mamba3, .d_model = 4, .d_state = 4, .d_inner = 8, .headdim = 4, .out_norm = 1),
    LAYER(mamba3, .d_model = 4, .d_state = 4, .d_inner = 8, .headdim = 4, .mimo_rank = 1),
    LAYER(mamba3, .d_model = 4, .d_state = 4, .d_inner = 8, .headdim = 4, .mimo_rank = 2),
    LAYER(mamba3, .d_model = 4, .d_state = 4, .d_inner = 8, .headdim = 4, .rope_fraction = 1),
    LAYER(mamba3, .d_model = 4, .d_state = 4, .d_inner = 8, .headdim = 4, .A_floor = 1),
    LAYER(mamba3, .d_model = 4, .d_state = 4, .d_inner = 8, .headdim = 4, .norm_eps = (ssm_real)0.01),
    LAYER(rglru, .d_model = 4, .lru_width = 8, .num_heads = 2),
    LAYER(rglru, .d_model = 4, .lru_width = 8, .num_heads = 4),
    LAYER(rglru, .d_model = 4, .lru_width = 8, .num_heads = 2, .conv_width = 3),
    LAYER(rglru, .d_model = 4, .lru_width = 8, .num_heads = 2, .exact_gelu = 1),
    LAYER(rglru, .d_model = 4, .lru_width = 8, .num_heads = 2, .no_reset = 1),
    LAYER(rglru, .d_model = 4, .lru_width = 8, .num_heads = 2, .no_bias = 1),
    LAYER(rglru, .d_model = 4, .lru_width = 8, .num_heads = 2, .c = 2),
    LAYER(rglru, .d_model = 8, .num_heads = 2, .no_block = 1),
    LAYER(s4d, .d_model = 4, .d_state = 4),
    LAYER(s4d, .d_model = 4, .d_state = 4, .real_state = 1),
    LAYER(s4d, .d_model = 4, .d_state = 8),
    LAYER(s4d, .d_model = 4, .d_state = 4, .residual = 1),
    LAYER(s4d, .d_model = 4, .d_state = 4, .activation = SSM_S4_ACTIVATION_GELU),
    LAYER(s4d, .d_model = 4, .d_state = 4, .output = SSM_S4_OUTPUT_GLU),
    LAYER(s4d, .d_model = 4, .d_state = 4, .pre_norm = 1),
    LAYER(s4d, .d_model = 4, .d_state = 4, .pre_norm = 1, .norm_eps = (ssm_real)0.01),
    LAYER(s4d, .d_model = 4, .d_state = 4, .bidirectional = 1),
    LAYER(s4, .d_model = 4, .d_state = 4),
    LAYER(s4, .d_model = 4, .d_state = 4, .residual = 1),
    LAYER(s4, .d_model = 4, .d_state = 4, .l_max = 3),
    LAYER(s5, .d_model = 4, .d_state = 4),
    LAYER(s5, .d_model = 4, .d_state = 4, .activation = SSM_S5_HALF_GLU2),
    LAYER(s5, .d_model = 4, .d_state = 4, .activation = SSM_S5_FULL_GLU),
    LAYER(s5, .d_model = 4, .d_state = 4, .activation = SSM_S5_GELU),
    LAYER(s5, .d_model = 4, .d_state = 4, .activation = SSM_S5_NONE),
    LAYER(s5, .d_model = 4, .d_state = 4, .residual = 1),
    LAYER(s5, .d_model = 4, .d_state = 4, .event = 1),
    LAYER(s5, .d_model = 4, .d_state = 4, .disc = SSM_DISC_BILINEAR),
    LAYER(s5, .d_model = 4, .d_state = 4, .real_state = 1),
    LAYER(s5, .d_model = 4, .d_state = 4, .lru = 1),
    LAYER(s5, .d_model = 4, .d_state = 4, .no_conj_sym = 1, .disc = SSM_DISC_EULER),
    LAYER(s5, .d_model = 4, .d_state = 4, .bidirectional = 1),
    LAYER(s5, .d_model = 4, .d_state = 4, .pre_norm = 1),
    LAYER(s5, .d_model = 5, .d_state = 4),
};

/* The block of m, with room after it so that no length stands in for the check. */
static void bound_law_others(layer_model *m, ssm_rng *rng)
{
    const ssm_bound bound = m->type->bound(&m->layer);
    const size_t room = 65536;
    unsigned char *block = (unsigned char *)test_alloc(room, 0);
    layer_any layer;
    size_t i;
    (void)rng;
    memset(block, 0, room);
    memcpy(block, bound.data, bound.bytes);
    for (i = 0; i < TEST_COUNT(bound_others); ++i) {
        const layer_config *c = &bound_others[i];
        const ssm_status got = c->type->attach(&layer, c->config, ssm_bound_of(block, room));
        if (got == (c->config == m->config ? SSM_OK : SSM_ERR_CONFIG)) continue;
        test_fail(__FILE__, __LINE__, "%s: %s", c->text, ssm_status_string(got));
    }
    test_free(block, 0);
}

static void test_bound_others(void)
{
    layer_each(bound_law_others, bound_others, TEST_COUNT(bound_others));
}

/* Nor that of another format. */
static void bound_law_other_format(layer_model *m, ssm_rng *rng)
{
    const ssm_bound bound = m->type->bound(&m->layer);
    const size_t room = 65536;
    unsigned char *block = (unsigned char *)test_alloc(room, 0);
    layer_config c;
    layer_any layer;
    size_t f;
    (void)rng;
    CHECK(bound.bytes <= room);
    memset(block, 0, room);
    memcpy(block, bound.data, bound.bytes);
    c.type = m->type;
    c.config = m->config;
    for (f = 0; f < TEST_COUNT(bound_formats); ++f) {
        const layer_any_config config = bound_config(&c, bound_formats[f]);
        CHECK((m->type->attach(&layer, &config, ssm_bound_of(block, room)) == SSM_OK) ==
              (bound_formats[f] == bound_format));
    }
    test_free(block, 0);
}

/* With this many inputs BF16 and INT8 take the same bytes: in float, in double. */
static const layer_config bound_same_bytes[] = {
    LAYER(s4d, .d_model = 4, .output = SSM_S4_OUTPUT_GLU),
    LAYER(s4d, .d_model = 8, .output = SSM_S4_OUTPUT_GLU),
};

static void test_bound_other_format(void)
{
    bound_each(bound_law_other_format, bound_configs, TEST_COUNT(bound_configs));
    bound_each(bound_law_other_format, bound_same_bytes, TEST_COUNT(bound_same_bytes));
}

/* The same parameters leave the same bytes wherever they are bound, and none beyond need.bound. */
static void bound_law_bytes(layer_model *m, ssm_rng *rng)
{
    const ssm_bound bound = m->type->bound(&m->layer);
    const size_t room = m->need.bound + 256;
    size_t misalign, i, touched = 0;
    (void)rng;
    for (misalign = 0; misalign < 64; misalign += 21) {
        unsigned char *mem = (unsigned char *)test_alloc(room, misalign);
        layer_any layer;
        memset(mem, (int)misalign + 1, room);
        CHECK_OK(m->type->bind(&layer, m->config, m->params, ssm_memory_of(mem, room)));
        CHECK(m->type->bound(&layer).bytes == bound.bytes);
        CHECK(memcmp(m->type->bound(&layer).data, bound.data, bound.bytes) == 0);
        for (i = m->need.bound; i < room; ++i) touched += mem[i] != (unsigned char)(misalign + 1);
        test_free(mem, misalign);
    }
    CHECK(touched == 0);
}

BOUND_LAW(bytes, bound_law_bytes)

/* A size that no memory holds is an error, not an address. */
static void test_bound_overflow(void)
{
    ssm_real block[64] = {0};
    layer_any layer;
    size_t i;
    for (i = 0; i < TEST_COUNT(layer_bad_configs); ++i) {
        const layer_config *c = &layer_bad_configs[i].config;
        CHECK_STATUS(c->type->attach(&layer, c->config, ssm_bound_of(block, sizeof block)),
                     layer_bad_configs[i].status);
    }
}

/*--- attach: what S4 and S4D have besides ---*/

typedef struct bound_kernel {
    size_t count; /* reals in a kernel */
    size_t bytes; /* of work */
    ssm_real *kernel;
    void *work;
} bound_kernel;

static bound_kernel bound_kernel_make(size_t count, size_t bytes)
{
    bound_kernel k;
    k.count = count;
    k.bytes = bytes;
    k.kernel = test_zeros(count);
    k.work = test_alloc(bytes, 0);
    return k;
}

static void bound_kernel_free(const bound_kernel *k)
{
    test_free(k->kernel, 0);
    test_free(k->work, 0);
}

/* S4D's kernel comes from the block, its gradient needs parameters. */
static void bound_law_s4d_kernel(layer_model *m, ssm_rng *rng)
{
    enum {
        LEN = 37
    };
    const size_t count = (size_t)(m->resolved.s4d.bidirectional ? 2 : 1) * m->d_model * LEN;
    ssm_real *dkernel = test_normal(rng, count, 1), *dparams = test_zeros(m->table.count);
    ssm_real *zero = test_zeros(m->table.count);
    layer_model a;
    void *block = bound_attach(&a, m);
    bound_kernel got, want;
    size_t bytes = 0;
    CHECK_OK(ssm_s4d_kernel_size(&a.layer.s4d, LEN, &bytes));
    got = bound_kernel_make(count, bytes);
    want = bound_kernel_make(count, bytes);
    CHECK_OK(ssm_s4d_kernel(&m->layer.s4d, want.kernel, LEN, ssm_memory_of(want.work, bytes)));
    CHECK_OK(ssm_s4d_kernel(&a.layer.s4d, got.kernel, LEN, ssm_memory_of(got.work, bytes)));
    CHECK_SAME(got.kernel, want.kernel, count);
    CHECK_STATUS(ssm_s4d_kernel_backward(&a.layer.s4d, dkernel, dparams, LEN, ssm_memory_of(got.work, bytes)),
                 SSM_ERR_UNSUPPORTED);
    CHECK_SAME(dparams, zero, m->table.count);
    test_free(zero, 0);
    bound_kernel_free(&got);
    bound_kernel_free(&want);
    test_free(block, sizeof(ssm_real));
    test_free(dkernel, 0);
    test_free(dparams, 0);
}

/* S4's comes from the parameters both ways, and so does its convolution form. C does not. */
static void bound_law_s4_kernel(layer_model *m, ssm_rng *rng)
{
    enum {
        LEN = 37
    };
    const ssm_seqs seqs = test_seqs(2, LEN);
    const size_t count = (size_t)(m->resolved.s4.bidirectional ? 2 : 1) * m->d_model * LEN;
    const size_t len = 2 * LEN * m->d_model;
    ssm_real *dkernel = test_normal(rng, count, 1), *dparams = test_zeros(m->table.count);
    ssm_real *zero = test_zeros(m->table.count + count), *x = test_normal(rng, len, 1), *y = test_copy(x, len);
    ssm_sizes need = {0};
    layer_model a;
    void *block = bound_attach(&a, m), *work;
    bound_kernel got;
    size_t bytes = 0;
    CHECK_OK(ssm_s4_kernel_size(&a.layer.s4, LEN, &bytes));
    got = bound_kernel_make(count, bytes);
    CHECK_STATUS(ssm_s4_kernel(&a.layer.s4, got.kernel, LEN, ssm_memory_of(got.work, bytes)), SSM_ERR_UNSUPPORTED);
    CHECK_SAME(got.kernel, zero, count);
    CHECK_STATUS(ssm_s4_kernel_backward(&a.layer.s4, dkernel, dparams, LEN, ssm_memory_of(got.work, bytes)),
                 SSM_ERR_UNSUPPORTED);
    CHECK_SAME(dparams, zero, m->table.count);
    CHECK_OK(ssm_s4_sizes(&m->resolved.s4, &seqs, &need));
    work = test_alloc(need.work + need.state, 0);
    if (bound_needs_params(m)) {
        CHECK_STATUS(ssm_s4_forward(&a.layer.s4, NULL, x, y, &seqs, ssm_memory_of(work, need.work + need.state)),
                     SSM_ERR_UNSUPPORTED);
        CHECK_SAME(y, x, len);
    } else {
        CHECK_OK(ssm_s4_forward(&a.layer.s4, NULL, x, y, &seqs, ssm_memory_of(work, need.work + need.state)));
    }
    if (m->resolved.s4.l_max) {
        ssm_real *plain = test_copy(m->params, m->table.count), *attached = test_copy(m->params, m->table.count);
        CHECK_OK(ssm_s4_plain_C(&m->layer.s4, plain));
        CHECK_OK(ssm_s4_plain_C(&a.layer.s4, attached));
        CHECK_SAME(attached, plain, m->table.count);
        CHECK(memcmp(plain, m->params, m->need.params) != 0);
        test_free(plain, 0);
        test_free(attached, 0);
    }
    test_free(work, 0);
    bound_kernel_free(&got);
    test_free(block, sizeof(ssm_real));
    test_free(dkernel, 0);
    test_free(dparams, 0);
    test_free(zero, 0);
    test_free(x, 0);
    test_free(y, 0);
}

static const layer_config bound_s4d_configs[] = {
    LAYER(s4d, .d_model = 5, .d_state = 4),
    LAYER(s4d, .d_model = 17, .d_state = 3, .real_state = 1, .bidirectional = 1),
};

static const layer_config bound_s4_configs[] = {
    LAYER(s4, .d_model = 5, .d_state = 4),
    LAYER(s4, .d_model = 3, .d_state = 4, .form = SSM_S4_FORM_CONVOLUTION),
    LAYER(s4, .d_model = 18, .d_state = 2, .bidirectional = 1, .form = SSM_S4_FORM_CONVOLUTION),
    LAYER(s4, .d_model = 3, .d_state = 4, .l_max = 7),
    LAYER(s4, .d_model = 3, .d_state = 4, .l_max = 7, .form = SSM_S4_FORM_CONVOLUTION),
};

static void test_bound_kernels(void)
{
    layer_each(bound_law_s4d_kernel, bound_s4d_configs, TEST_COUNT(bound_s4d_configs));
    layer_each(bound_law_s4_kernel, bound_s4_configs, TEST_COUNT(bound_s4_configs));
}

/*--- the workspace of a step ---*/

/* Exactly need.work_step bytes at any alignment, for streams in one block of rows and in several; each
 * stream as it steps alone. One byte less, and nothing is written. */
static void bound_law_work_step(layer_model *m, ssm_rng *rng)
{
    static const size_t streams[] = {1, 63, 64, 65, 130}, misalign[] = {0, 1, sizeof(ssm_real), 63};
    size_t i, k;
    for (i = 0; i < TEST_COUNT(streams); ++i) {
        const layer_data d = layer_data_make(m, rng, streams[i], 1);
        const ssm_seqs one = test_seqs(streams[i], 1), many = test_seqs(streams[i], 100);
        ssm_sizes need = {0}, longer = {0};
        CHECK_OK(m->type->sizes(m->config, &one, &need));
        CHECK_OK(m->type->sizes(m->config, &many, &longer));
        CHECK(need.work_step == longer.work_step && need.work_step > 0);
        CHECK(need.work_step <= need.work && longer.work_step <= longer.work);
        for (k = 0; k < TEST_COUNT(misalign); ++k) {
            const layer_result r = layer_result_make(&d);
            void *work = test_alloc(need.work_step, misalign[k]);
            ssm_real *zero = test_zeros(d.count);
            CHECK_STATUS(
                m->type->step(&m->layer, r.state, d.x, r.y, streams[i], ssm_memory_of(work, need.work_step - 1)),
                SSM_ERR_MEMORY);
            CHECK_STATUS(m->type->step(&m->layer, r.state, d.x, r.y, streams[i], ssm_memory_of(NULL, need.work_step)),
                         SSM_ERR_NULL);
            CHECK_SAME(r.state, d.state, d.states);
            CHECK_SAME(r.y, zero, d.count);
            CHECK_OK(m->type->step(&m->layer, r.state, d.x, r.y, streams[i], ssm_memory_of(work, need.work_step)));
            layer_expect(&d, r);
            test_free(work, misalign[k]);
            test_free(zero, 0);
        }
        layer_data_free(&d);
    }
}

BOUND_LAW(work_step, bound_law_work_step)

static const test_case bound_cases[] = {
    {"bound/step", test_bound_step},
    {"bound/step_in_place", test_bound_step_in_place},
    {"bound/split", test_bound_split},
    {"bound/packed", test_bound_packed},
    {"bound/record", test_bound_record},
    {"bound/snapshot", test_bound_snapshot},
    {"bound/no_state", test_bound_no_state},
    {"bound/alignment", test_bound_alignment},
    {"bound/errors", test_bound_errors},
    {"bound/rounded", test_bound_rounded},
    {"bound/straight_through", test_bound_straight},
    {"bound/sizes", test_bound_sizes},
    {"bound/unknown_format", test_bound_unknown_format},
    {"bound/linear", test_bound_linear},
    {"bound/linear_bf16", test_bound_bf16},
    {"bound/linear_int8", test_bound_int8},
    {"bound/linear_rows", test_bound_rows},
    {"bound/attach", test_bound_attach},
    {"bound/attached_training", test_bound_attached_training},
    {"bound/attach_errors", test_bound_attach_errors},
    {"bound/attach_others", test_bound_others},
    {"bound/attach_formats", test_bound_other_format},
    {"bound/attach_kernels", test_bound_kernels},
    {"bound/attach_overflow", test_bound_overflow},
    {"bound/bytes", test_bound_bytes},
    {"bound/work_step", test_bound_work_step},
};
