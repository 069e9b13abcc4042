/* test_lti.c - S4D, S4 and the transforms on every instruction set of the machine: all members of a family (see
 * SSM_PLAIN) give the same bits; parameters at their limits. Names: lti/... */

static int lti_fused(int isa)
{
    return SSM__FUSED || isa == SSM_ISA_AVX2 || isa == SSM_ISA_AVX512 || isa == SSM_ISA_NEON;
}

static void lti_fill(ssm_real *x, size_t n, uint64_t seed)
{
    ssm_rng rng;
    size_t i;
    rng.state = seed;
    for (i = 0; i < n; ++i) x[i] = test_draw(&rng);
}

/* FNV-1a of the bits. */
static uint64_t lti_hash(uint64_t hash, const ssm_real *x, size_t n)
{
    const unsigned char *p = (const unsigned char *)x;
    size_t i;
    for (i = 0; i < n * sizeof *x; ++i) hash = (hash ^ p[i]) * 1099511628211u;
    return hash;
}

static uint64_t lti_first[2];

/* The first hash of a family is kept, the others must be it. */
static void lti_same(int isa, uint64_t hash)
{
    uint64_t *first = &lti_first[lti_fused(isa)];
    if (!*first) *first = hash;
    if (*first != hash) test_fail(__FILE__, __LINE__, "%s differs", ssm_isa_name((ssm_isa)isa));
}

static ssm_s4_config lti_s4_of(const ssm_s4d_config *c)
{
    ssm_s4_config s4 = {0};
    s4.d_model = c->d_model;
    s4.d_state = c->d_state;
    s4.isa = c->isa;
    s4.form = c->form;
    s4.bidirectional = c->bidirectional;
    return s4;
}

static ssm_memory lti_memory(size_t bytes)
{
    return ssm_memory_of(malloc(bytes), bytes);
}

/* Hash of all that the verbs of a layer leave. `low_rank`: S4, else S4D. */
static uint64_t lti_layer(ssm_s4d_config c, int low_rank, size_t batch, size_t len)
{
    const ssm_s4_config s4 = lti_s4_of(&c);
    const layer_type *type = low_rank ? &layer_s4 : &layer_s4d;
    const void *config = low_rank ? (const void *)&s4 : (const void *)&c;
    const ssm_seqs seqs = test_seqs(batch, len);
    const size_t count = batch * len * c.d_model, kernel_count = len * c.d_model * (c.bidirectional ? 2 : 1);
    layer_any layer;
    ssm_sizes n;
    ssm_real *params, *state, *x, *y, *dx, *dparams, *kernel;
    size_t bytes = 0;
    ssm_memory bound, work, tape, scratch;
    uint64_t hash = 14695981039346656037u;
    CHECK_OK(type->sizes(config, &seqs, &n));
    params = (ssm_real *)malloc(n.params);
    state = (ssm_real *)malloc(n.state);
    x = (ssm_real *)malloc(count * sizeof *x);
    y = (ssm_real *)malloc(count * sizeof *y);
    dx = (ssm_real *)calloc(count, sizeof *dx);
    dparams = (ssm_real *)calloc(1, n.params);
    kernel = (ssm_real *)malloc(kernel_count * sizeof *kernel);
    bound = lti_memory(n.bound);
    work = lti_memory(n.work + n.work_backward);
    tape = lti_memory(n.tape);
    lti_fill(x, count, 3);
    lti_fill(state, n.state / sizeof *state, 4);
    CHECK_OK(type->init(config, params, 1));
    CHECK_OK(type->bind(&layer, config, params, bound));
    CHECK_OK(type->forward(&layer, state, x, y, &seqs, work));
    hash = lti_hash(lti_hash(hash, y, count), state, n.state / sizeof *state);
    CHECK_OK(low_rank ? ssm_s4_kernel_size(&layer.s4, len, &bytes) : ssm_s4d_kernel_size(&layer.s4d, len, &bytes));
    scratch = lti_memory(bytes);
    CHECK_OK(low_rank ? ssm_s4_kernel(&layer.s4, kernel, len, scratch) : ssm_s4d_kernel(&layer.s4d, kernel, len, scratch));
    CHECK_OK(type->record(&layer, state, x, y, &seqs, tape, work));
    CHECK_OK(type->backward(&layer, state, x, y, dx, dparams, &seqs, tape, work));
    CHECK_OK(low_rank ? ssm_s4_kernel_backward(&layer.s4, kernel, dparams, len, scratch)
                      : ssm_s4d_kernel_backward(&layer.s4d, kernel, dparams, len, scratch));
    hash = lti_hash(lti_hash(hash, y, count), dx, count);
    hash = lti_hash(lti_hash(hash, dparams, n.params / sizeof *dparams), kernel, kernel_count);
    hash = lti_hash(hash, state, n.state / sizeof *state);
    free(params), free(state), free(x), free(y), free(dx), free(dparams), free(kernel);
    free(bound.data), free(work.data), free(tape.data), free(scratch.data);
    return hash;
}

/* Every width of a last strip, numbers of states that leave some over, lengths around a chunk. */
static void lti_isas(void)
{
    static const ssm_s4d_config none = {0};
    static const size_t lens[] = {1, 3, 5, 33, 70};
    size_t dim;
    int isa, form;
    for (dim = 1; dim <= 36; ++dim) {
        for (form = 0; form < 5; ++form) {
            ssm_s4d_config c = none;
            const size_t len = lens[(dim + (size_t)form) % TEST_COUNT(lens)];
            c.d_model = dim;
            c.d_state = 2 * (1 + dim % 5);
            c.real_state = form == 0;
            c.train_B = 1;
            c.bidirectional = dim % 7 == 3;
            c.form = form >= 3 ? SSM_S4_FORM_CONVOLUTION : SSM_S4_FORM_RECURRENT;
            c.scan = form == 1 && dim % 2 ? SSM_SCAN_CHUNKED : SSM_SCAN_SEQUENTIAL;
            lti_first[0] = lti_first[1] = 0;
            for (isa = SSM_ISA_SCALAR; isa < ssm_isa_count(); ++isa) {
                if (!ssm_isa_available((ssm_isa)isa)) continue;
                c.isa = (ssm_isa)isa;
                lti_same(isa, lti_layer(c, form == 2 || form == 4, 2, len));
            }
        }
    }
}

/* One signal and strips of them, every length; their spectra are those of the sum, and back again. */
static void lti_fft(void)
{
    size_t n, i, j;
    int isa;
    for (n = 1; n <= 2048; n *= 2) {
        const size_t count = 2 * n * SSM__STRIP;
        ssm_real *x = (ssm_real *)malloc(count * sizeof *x), *y = (ssm_real *)malloc(count * sizeof *y);
        ssm_real *table = (ssm_real *)malloc(ssm__fft_table_count(n) * sizeof *table);
        ssm_real *alone = (ssm_real *)malloc(2 * n * sizeof *alone), *room = (ssm_real *)malloc(2 * n * sizeof *room);
        lti_first[0] = lti_first[1] = 0;
        for (isa = SSM_ISA_SCALAR; isa < ssm_isa_count(); ++isa) {
            uint64_t hash = 14695981039346656037u;
            double worst = 0;
            if (!ssm_isa_available((ssm_isa)isa)) continue;
            lti_fill(x, count, n);
            memcpy(y, x, count * sizeof *x);
            ssm__fft_table((ssm_isa)isa, table, n);
            ssm__fft_forward((ssm_isa)isa, y, n, table);
            for (i = 0; i < n; ++i) {
                room[2 * i] = x[i * 2 * SSM__STRIP + 5];
                room[2 * i + 1] = x[(i * 2 + 1) * SSM__STRIP + 5];
            }
            ssm__fft_alone((ssm_isa)isa, room, 0, alone, room, n, table);
            for (i = 0; i < n; ++i) { /* one lane of the strip is the one signal */
                const size_t r = ssm__fft_reversed(i, n);
                worst = fmax(worst, fabs((double)(alone[i] - y[r * 2 * SSM__STRIP + 5])));
                worst = fmax(worst, fabs((double)(alone[n + i] - y[(r * 2 + 1) * SSM__STRIP + 5])));
            }
            for (i = 0; n <= 64 && i < n; ++i) { /* and what the sum says */
                double re = 0, im = 0;
                for (j = 0; j < n; ++j) {
                    const double w = -2 * 3.14159265358979323846 * (double)(i * j % n) / (double)n;
                    const double a = (double)x[j * 2 * SSM__STRIP + 5], b = (double)x[(j * 2 + 1) * SSM__STRIP + 5];
                    re += a * cos(w) - b * sin(w);
                    im += a * sin(w) + b * cos(w);
                }
                worst = fmax(worst, fmax(fabs(re - (double)alone[i]), fabs(im - (double)alone[n + i])));
            }
            CHECK(worst <= TOL(3e-6, 5e-15) * sqrt((double)n));
            hash = lti_hash(lti_hash(hash, y, count), alone, 2 * n);
            ssm__fft_inverse((ssm_isa)isa, y, n, table);
            for (worst = 0, i = 0; i < count; ++i)
                worst = fmax(worst, fabs((double)y[i] / (double)n - (double)x[i]));
            CHECK(worst <= TOL(3e-6, 5e-15));
            lti_same(isa, lti_hash(hash, y, count));
        }
        free(x);
        free(y);
        free(table);
        free(alone);
        free(room);
    }
}

/* Parameters whose limits are finite: so is the answer. */
static void lti_limits(void)
{
    static const ssm_real far[] = {-100, -90, 80, 90, 100};
    static const ssm_s4d_config none = {0};
    size_t i, k, t;
    int form;
    for (form = 0; form < 5; ++form) {
        for (k = 0; k < 3 * TEST_COUNT(far); ++k) {
            const int low_rank = form == 2 || form == 3;
            const layer_type *type = low_rank ? &layer_s4 : &layer_s4d;
            ssm_s4d_config c = none;
            ssm_s4_config c4;
            const void *config = low_rank ? (const void *)&c4 : (const void *)&c;
            const ssm_seqs seqs = test_seqs(1, 12);
            ssm_sizes n;
            layer_any layer;
            ssm_real params[256], x[24], y[24], state[64] = {0};
            ssm_memory bound, work;
            c.d_model = 2;
            c.d_state = 8;
            c.form = form == 3 ? SSM_S4_FORM_CONVOLUTION : SSM_S4_FORM_RECURRENT;
            c4 = lti_s4_of(&c);
            c.real_state = form == 4;
            c.disc = form == 1 || form == 4 ? SSM_DISC_BILINEAR : SSM_DISC_ZOH;
            CHECK_OK(type->sizes(config, &seqs, &n));
            CHECK(n.params <= sizeof params && n.state <= sizeof state);
            bound = lti_memory(n.bound);
            work = lti_memory(n.work);
            lti_fill(x, 24, 9);
            CHECK_OK(type->init(config, params, 1));
            for (i = 0; k < 2 * TEST_COUNT(far) && i < 2; ++i) params[i] = far[k % TEST_COUNT(far)]; /* log_dt first */
            for (i = 2; k >= TEST_COUNT(far) && i < 6; ++i) params[i] = far[k % TEST_COUNT(far)];   /* A_real */
            CHECK_OK(type->bind(&layer, config, params, bound));
            CHECK_OK(type->forward(&layer, state, x, y, &seqs, work));
            for (t = 0; t < 24; ++t)
                if (!(y[t] - y[t] == 0)) test_fail(__FILE__, __LINE__, "form %d, far %d", form, (int)k);
            free(bound.data);
            free(work.data);
        }
    }
}

static const test_case lti_cases[] = {
    {"lti/isas", lti_isas, EVERY_ISA},
    {"lti/fft", lti_fft, EVERY_ISA},
    {"lti/limits", lti_limits},
};
