/* test_line.c - the recurrence of lines and the coefficients of complex states: every instruction set against its
 * family, every length of a last vector, and pauses. */

#define LINE_MOST 70
#define LINE_ROWS 11
#define LINE_DIM 6 /* of an S5 scan: lines of four and a rest */

/* The plain instances equal the scalar one in a plain build, the fused ones each other, and it in a fused build. */
static ssm_isa line_like(ssm_isa isa)
{
    if (isa == SSM_ISA_AVX2 || isa == SSM_ISA_AVX512 || isa == SSM_ISA_NEON)
        return SSM__FUSED ? SSM_ISA_SCALAR : isa == SSM_ISA_AVX512 ? SSM_ISA_AVX2 : isa;
    return SSM_ISA_SCALAR;
}

static ssm_real *line_numbers(size_t count, ssm_rng *rng, double scale)
{
    ssm_real *p = (ssm_real *)test_alloc(count * sizeof *p, 0);
    size_t i;
    for (i = 0; i < count; ++i) p[i] = (ssm_real)(scale * ((double)ssm_rng_uniform(rng) - 0.5));
    return p;
}

/* All that a linear scan and its gradient give, as one array. `turned`: tensors are [chan][time]. */
static void line_scan(ssm_isa isa, size_t dim, int pairs, int turned, ssm_scan scan, const ssm_real *in, ssm_real *out)
{
    const size_t n = LINE_ROWS * 20 * LINE_MOST * 2;
    ssm_linear_scan s = {0};
    ssm_linear_scan_grad d = {{0}, {0}, {0}, {0}, {0}};
    ssm_sizes need = {0};
    void *work;
    s.batch = 1;
    s.len = scan == SSM_SCAN_SEQUENTIAL ? LINE_ROWS : LINE_ROWS * 20;
    s.dim = dim;
    s.complex_values = pairs;
    s.scan = scan;
    s.isa = isa;
    s.a = turned ? ssm_in_bct(in, dim, s.len) : ssm_in_btc(in, s.len, dim);
    if (pairs) s.a = ssm_in_pairs(s.a);
    s.b = s.a;
    s.b.data = in + n;
    s.h = ssm_out_like(out, s.a);
    d.dh = s.b;
    d.da = ssm_out_like(out + n, s.a);
    d.db = ssm_out_like(out + 2 * n, s.a);
    CHECK_OK(ssm_linear_scan_sizes(&s, &need));
    work = test_alloc(need.work, 0);
    CHECK_OK(ssm_linear_scan_forward(&s, ssm_memory_of(work, need.work)));
    CHECK_OK(ssm_linear_scan_backward(&s, &d));
    test_free(work, 0);
}

static void line_instances(void)
{
    static const ssm_scan scans[] = {SSM_SCAN_SEQUENTIAL, SSM_SCAN_CHUNKED, SSM_SCAN_BLELLOCH};
    const size_t n = LINE_ROWS * 20 * LINE_MOST * 2;
    ssm_rng rng = {7};
    ssm_real *in = line_numbers(2 * n, &rng, 1.9), *want = test_zeros(3 * n), *got = test_zeros(3 * n);
    int isa, pairs, k;
    size_t dim;
    for (isa = SSM_ISA_SSE2; isa < ssm_isa_count(); ++isa) {
        if (!ssm_isa_available((ssm_isa)isa) || line_like((ssm_isa)isa) == (ssm_isa)isa) continue;
        if (!ssm_isa_available(line_like((ssm_isa)isa))) continue;
        for (k = 0; k < 3; ++k)
            for (pairs = 0; pairs < 2; ++pairs)
                for (dim = 1; dim <= LINE_MOST; dim += k ? 9 : 1) {
                    memset(want, 0, 3 * n * sizeof *want);
                    memset(got, 0, 3 * n * sizeof *got);
                    line_scan(line_like((ssm_isa)isa), dim, pairs, 0, scans[k], in, want);
                    line_scan((ssm_isa)isa, dim, pairs, 0, scans[k], in, got);
                    CHECK_SAME(got, want, 3 * n);
                }
    }
    test_free(in, 0), test_free(want, 0), test_free(got, 0);
}

/* [len][dim] values of `parts` reals as [dim][len]. */
static void line_turn(const ssm_real *from, size_t len, size_t dim, size_t parts, ssm_real *to)
{
    size_t t, c, k;
    for (t = 0; t < len; ++t)
        for (c = 0; c < dim; ++c)
            for (k = 0; k < parts; ++k) to[(c * len + t) * parts + k] = *from++;
}

/* Time next to time instead of channel next to channel gives the same bits. */
static void line_layouts(void)
{
    static const ssm_scan scans[] = {SSM_SCAN_SEQUENTIAL, SSM_SCAN_CHUNKED, SSM_SCAN_BLELLOCH};
    static const size_t dims[] = {3, 16, 21, 37};
    const size_t n = LINE_ROWS * 20 * LINE_MOST * 2;
    ssm_rng rng = {13};
    ssm_real *in = line_numbers(2 * n, &rng, 1.9), *turned = test_zeros(2 * n);
    ssm_real *got = test_zeros(3 * n), *out = test_zeros(3 * n), *want = test_zeros(n);
    int isa, k;
    size_t d, i, parts;
    for (isa = SSM_ISA_SCALAR; isa < ssm_isa_count(); ++isa) {
        if (!ssm_isa_available((ssm_isa)isa)) continue;
        for (k = 0; k < 3; ++k)
            for (parts = 1; parts <= 2; ++parts)
                for (d = 0; d < TEST_COUNT(dims); ++d) {
                    const size_t len = k ? LINE_ROWS * 20 : LINE_ROWS;
                    for (i = 0; i < 2; ++i) line_turn(in + i * n, len, dims[d], parts, turned + i * n);
                    memset(got, 0, 3 * n * sizeof *got);
                    memset(out, 0, 3 * n * sizeof *out);
                    line_scan((ssm_isa)isa, dims[d], parts == 2, 0, scans[k], in, out);
                    line_scan((ssm_isa)isa, dims[d], parts == 2, 1, scans[k], turned, got);
                    for (i = 0; i < 3; ++i) {
                        line_turn(out + i * n, len, dims[d], parts, want);
                        CHECK_SAME(got + i * n, want, len * dims[d] * parts);
                    }
                }
    }
    test_free(in, 0), test_free(turned, 0), test_free(got, 0), test_free(out, 0), test_free(want, 0);
}

/* [rows][lines] values of `parts` reals to places `row` and `line` apart. */
static void line_spread(const ssm_real *from, size_t rows, size_t lines, size_t parts, size_t row, size_t line,
                        ssm_real *to)
{
    size_t r, l, k;
    for (r = 0; r < rows; ++r)
        for (l = 0; l < lines; ++l)
            for (k = 0; k < parts; ++k) to[r * row + l * line + k] = *from++;
}

/* Neither time next to time nor channel next to channel: the bits of a dense tensor. */
static void line_gaps(void)
{
    enum { DIM = 21, LINE = 5, ROW = DIM * LINE + 3, DENSE = LINE_ROWS * DIM * 2, LOOSE = LINE_ROWS * ROW };
    ssm_rng rng = {14};
    ssm_real *in = line_numbers(3 * DENSE, &rng, 1.9), *loose = test_zeros(3 * LOOSE);
    size_t parts, i;
    for (parts = 1; parts <= 2; ++parts) {
        ssm_real *out = test_zeros(3 * DENSE), *got = test_zeros(3 * LOOSE), *want = test_zeros(3 * LOOSE);
        ssm_linear_scan s = {0};
        ssm_linear_scan_grad d = {{0}, {0}, {0}, {0}, {0}};
        int spread;
        s.batch = 1, s.len = LINE_ROWS, s.dim = DIM, s.complex_values = parts == 2, s.scan = SSM_SCAN_SEQUENTIAL;
        for (spread = 0; spread < 2; ++spread) {
            const size_t n = spread ? LOOSE : DENSE;
            ssm_real *to = spread ? got : out;
            for (i = 0; i < 3; ++i) line_spread(in + i * DENSE, LINE_ROWS, DIM, parts, ROW, LINE, loose + i * LOOSE);
            s.a = parts == 2 ? ssm_in_pairs(ssm_in_btc(in, LINE_ROWS, DIM)) : ssm_in_btc(in, LINE_ROWS, DIM);
            if (spread) s.a.data = loose, s.a.time = ROW, s.a.chan = LINE;
            s.b = d.dh = s.a;
            s.b.data += n, d.dh.data += 2 * n;
            s.h = ssm_out_like(to, s.a), d.da = ssm_out_like(to + n, s.a), d.db = ssm_out_like(to + 2 * n, s.a);
            CHECK_OK(ssm_linear_scan_forward(&s, ssm_memory_of(NULL, 0)));
            CHECK_OK(ssm_linear_scan_backward(&s, &d));
        }
        for (i = 0; i < 3; ++i) line_spread(out + i * DENSE, LINE_ROWS, DIM, parts, ROW, LINE, want + i * LOOSE);
        CHECK_SAME(got, want, 3 * LOOSE);
        test_free(out, 0), test_free(got, 0), test_free(want, 0);
    }
    test_free(in, 0), test_free(loose, 0);
}

/* Chunks longer than what kernels take at a time, of states that remember all of a chunk. */
static void line_chunks(void)
{
    enum { LEN = 1100, DIM = 11 };
    ssm_rng rng = {15};
    ssm_real *a = test_zeros(2 * LEN * DIM), *b = line_numbers(2 * LEN * DIM, &rng, 1);
    ssm_real *got = test_zeros(2 * LEN * DIM), *want = test_zeros(2 * LEN * DIM);
    ssm_linear_scan s = {0};
    ssm_sizes need = {0};
    int isa, scan;
    size_t i;
    s.batch = 1;
    s.len = LEN;
    for (isa = SSM_ISA_SCALAR; isa < ssm_isa_count(); ++isa) {
        if (!ssm_isa_available((ssm_isa)isa)) continue;
        s.isa = (ssm_isa)isa;
        for (s.complex_values = 0; s.complex_values < 2; ++s.complex_values)
            for (s.dim = 1; s.dim <= DIM; ++s.dim) {
                const size_t parts = s.complex_values ? 2 : 1, count = LEN * s.dim * parts;
                for (i = 0; i < count; ++i)
                    a[i] = (ssm_real)(i % parts ? 0.02 * (double)(i % 5) - 0.04 : 0.98 + 0.001 * (double)(i % 7));
                s.a = ssm_in_btc(a, LEN, s.dim);
                if (parts == 2) s.a = ssm_in_pairs(s.a);
                s.b = s.a;
                s.b.data = b;
                for (scan = SSM_SCAN_SEQUENTIAL; scan <= (int)SSM_SCAN_CHUNKED; ++scan) {
                    double *exact;
                    void *work;
                    s.scan = (ssm_scan)scan;
                    s.h = ssm_out_like(scan == (int)SSM_SCAN_SEQUENTIAL ? want : got, s.a);
                    CHECK_OK(ssm_linear_scan_sizes(&s, &need));
                    work = test_alloc(need.work, 0);
                    CHECK_OK(ssm_linear_scan_forward(&s, ssm_memory_of(work, need.work)));
                    test_free(work, 0);
                    if (scan == (int)SSM_SCAN_SEQUENTIAL) continue;
                    exact = test_doubles(want, count);
                    CHECK_CLOSE(got, exact, count, TOL(1e-5, 1e-13));
                    test_free(exact, 0);
                }
            }
    }
    test_free(a, 0), test_free(b, 0), test_free(got, 0), test_free(want, 0);
}

/* An S5 scan and its gradient, as one array. */
static void line_s5(ssm_isa isa, ssm_disc disc, size_t P, double scale, const ssm_real *in, ssm_real *out)
{
    enum { DIM = LINE_DIM };
    const size_t most = 2 * DIM * LINE_MOST;
    ssm_s5_scan s = {0};
    ssm_s5_scan_grad d = {{0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}};
    ssm_real *delta = test_zeros(LINE_ROWS * P), *A = test_zeros(2 * P);
    ssm_sizes need = {0};
    void *work;
    size_t i, bytes;
    for (i = 0; i < LINE_ROWS * P; ++i) delta[i] = (ssm_real)(0.01 * (double)(1 + i % 5));
    for (i = 0; i < P; ++i) delta[5 * P + i] = (ssm_real)scale;
    for (i = 0; i < P; ++i) A[2 * i] = (ssm_real)(-0.5 - 0.01 * (double)i), A[2 * i + 1] = (ssm_real)(3.1 * (double)i);
    s.batch = 1;
    s.len = LINE_ROWS;
    s.dim = DIM;
    s.d_state = P;
    s.disc = disc;
    s.isa = isa;
    s.conj_sym = 1;
    s.u = ssm_in_btc(in, LINE_ROWS, DIM);
    s.delta = ssm_in_btcn(delta, LINE_ROWS, 1, P);
    s.A = ssm_in_pairs(ssm_in_cn(A, P));
    s.B = ssm_in_pairs(ssm_in_cn(in + 80, P));
    s.C = ssm_in_pairs(ssm_in_cn(in + 80 + most, P));
    s.D = ssm_in_c(in + 80);
    s.y = ssm_out_like(out, s.u);
    s.h_last = ssm_out_like(out + 80, ssm_in_pairs(ssm_in_bcn(NULL, 1, P)));
    s.h_last.data = out + 80;
    d.dy = s.u;
    d.du = ssm_out_like(out + 80 + 2 * LINE_MOST, s.u);
    d.ddelta = ssm_out_like(out + 80 + most, s.delta);
    d.dA = ssm_out_like(out + 80 + most + LINE_ROWS * LINE_MOST, s.A);
    d.dB = ssm_out_like(out + 80 + 2 * most + LINE_ROWS * LINE_MOST, s.B);
    d.dC = ssm_out_like(out + 80 + 3 * most + LINE_ROWS * LINE_MOST, s.C);
    CHECK_OK(ssm_s5_scan_sizes(&s, &need));
    bytes = need.work > need.work_backward ? need.work : need.work_backward;
    work = test_alloc(bytes, 0);
    CHECK_OK(ssm_s5_scan_forward(&s, ssm_memory_of(work, need.work)));
    CHECK_OK(ssm_s5_scan_backward(&s, &d, ssm_memory_of(work, need.work_backward)));
    test_free(work, 0), test_free(delta, 0), test_free(A, 0);
}

static const ssm_disc line_discs[] = {SSM_DISC_ZOH, SSM_DISC_EULER, SSM_DISC_BILINEAR, SSM_DISC_DIRAC};
#define LINE_OUT (80 + 8 * LINE_DIM * LINE_MOST + LINE_ROWS * LINE_MOST)

static void line_s5_instances(void)
{
    ssm_rng rng = {9};
    ssm_real *in = line_numbers(80 + 4 * LINE_DIM * LINE_MOST, &rng, 1), *want = test_zeros(LINE_OUT), *got = test_zeros(LINE_OUT);
    int isa, k;
    size_t P;
    for (isa = SSM_ISA_SSE2; isa < ssm_isa_count(); ++isa) {
        if (!ssm_isa_available((ssm_isa)isa) || line_like((ssm_isa)isa) == (ssm_isa)isa) continue;
        if (!ssm_isa_available(line_like((ssm_isa)isa))) continue;
        for (k = 0; k < 4; ++k)
            for (P = 1; P <= LINE_MOST; P += P < 20 ? 1 : 7) {
                memset(want, 0, LINE_OUT * sizeof *want);
                memset(got, 0, LINE_OUT * sizeof *got);
                line_s5(line_like((ssm_isa)isa), line_discs[k], P, 0.3, in, want);
                line_s5((ssm_isa)isa, line_discs[k], P, 0.3, in, got);
                CHECK_SAME(got, want, LINE_OUT);
            }
    }
    test_free(in, 0), test_free(want, 0), test_free(got, 0);
}

/* B and C of pairs three numbers apart: the bits of dense ones. */
static void line_s5_gaps(void)
{
    enum { DIM = LINE_DIM, P = 9, COUNT = DIM * P };
    ssm_rng rng = {15};
    ssm_real *in = line_numbers(DIM + P + 4 * COUNT, &rng, 1), *loose = test_zeros(6 * COUNT);
    ssm_real *y = test_zeros(2 * DIM), delta = (ssm_real)0.1;
    ssm_s5_scan s = {0};
    ssm_sizes need = {0};
    int spread;
    s.batch = s.len = 1, s.dim = DIM, s.d_state = P;
    s.u = ssm_in_btc(in, 1, DIM);
    s.delta.data = &delta;
    s.A.data = in + DIM, s.A.state = 1; /* any pairs */
    for (spread = 0; spread < 2; ++spread) {
        const size_t apart = spread ? 3 : 2;
        void *work;
        line_spread(in + DIM + P, 2 * P, DIM, 2, apart * DIM, apart, loose);
        s.B.data = loose, s.B.chan = (ptrdiff_t)(apart * P), s.B.state = (ptrdiff_t)apart;
        s.C.data = loose + apart * COUNT, s.C.state = (ptrdiff_t)(apart * DIM), s.C.chan = (ptrdiff_t)apart;
        s.y = ssm_out_like(y + (spread ? DIM : 0), s.u);
        CHECK_OK(ssm_s5_scan_sizes(&s, &need));
        work = test_alloc(need.work, 0);
        CHECK_OK(ssm_s5_scan_forward(&s, ssm_memory_of(work, need.work)));
        test_free(work, 0);
    }
    CHECK_SAME(y, y + DIM, DIM);
    test_free(in, 0), test_free(loose, 0), test_free(y, 0);
}

/* A step size of up to 1e30 among ordinary ones: outputs and states stay finite. With ZOH nothing of what was before
 * is left, and another pause as long gives the same; gradients stay finite up to 1e5. */
static void line_pauses(void)
{
    static const double pauses[] = {1e5, 1e10, 1e18, 1e30};
    const ssm_isa best = ssm_isa_best();
    ssm_rng rng = {11};
    ssm_real *in = line_numbers(80 + 4 * LINE_DIM * LINE_MOST, &rng, 1), *out = test_zeros(LINE_OUT);
    size_t p, i, bad;
    int k, isa;
    for (isa = SSM_ISA_SCALAR; isa <= (int)best; ++isa) {
        if (!ssm_isa_available((ssm_isa)isa)) continue;
        for (k = 0; k < 4; ++k)
            for (p = 0; p < 4; ++p) {
                memset(out, 0, LINE_OUT * sizeof *out);
                line_s5((ssm_isa)isa, line_discs[k], 37, pauses[p], in, out);
                for (i = bad = 0; i < (p == 0 ? LINE_OUT : (size_t)(80 + 2 * 37)); ++i) bad += !(out[i] - out[i] == 0);
                CHECK(bad == 0);
                if (bad) printf("    isa %d, disc %d, pause %g: %lu\n", isa, k, pauses[p], (unsigned long)bad);
            }
    }
    test_free(in, 0), test_free(out, 0);
}

/* A step without end: with ZOH it is what one of 1e30 is, and with BILINEAR outputs and states stay finite. */
static void line_endless(void)
{
    const size_t count = 80 + 2 * 37;
    ssm_rng rng = {17};
    ssm_real *in = line_numbers(80 + 4 * LINE_DIM * LINE_MOST, &rng, 1), *out = test_zeros(LINE_OUT);
    double *want;
    size_t i;
    int isa;
    for (isa = SSM_ISA_SCALAR; isa < ssm_isa_count(); ++isa) {
        if (!ssm_isa_available((ssm_isa)isa)) continue;
        line_s5((ssm_isa)isa, SSM_DISC_ZOH, 37, 1e30, in, out);
        want = test_doubles(out, count);
        line_s5((ssm_isa)isa, SSM_DISC_ZOH, 37, INFINITY, in, out);
        CHECK_CLOSE(out, want, count, TOL(1e-5, 1e-12));
        test_free(want, 0);
        line_s5((ssm_isa)isa, SSM_DISC_BILINEAR, 37, INFINITY, in, out);
        for (i = 0; i < count; ++i) CHECK(out[i] - out[i] == 0);
    }
    test_free(in, 0), test_free(out, 0);
}

/* The layer: log_step of 80 saturates, and step_scale of 1e30 leaves finite outputs. */
static void line_layer_pauses(void)
{
    enum { DIM = 4, LEN = 7 };
    ssm_real x[LEN * DIM], y[LEN * DIM], scale[LEN];
    size_t i, round, k;
    for (i = 0; i < LEN * DIM; ++i) x[i] = (ssm_real)(0.1 * (double)(i % 7) - 0.3);
    for (k = 0; k < 4; ++k)
        for (round = 0; round < 2; ++round) {
            ssm_s5_config config = {0};
            ssm_seqs seqs = test_seqs(1, LEN);
            ssm_sizes need;
            ssm_s5 layer;
            ssm_params table;
            ssm_param rows[SSM_PARAMS_MAX];
            ssm_real *params, *state;
            void *bound, *work;
            config.d_model = DIM;
            config.d_state = 10;
            config.disc = line_discs[k];
            for (i = 0; i < LEN; ++i) scale[i] = (ssm_real)(i == 3 && !round ? 1e30 : 1);
            seqs.step_scale = scale;
            memset(&table, 0, sizeof table);
            table.row = rows;
            table.capacity = SSM_PARAMS_MAX;
            CHECK_OK(ssm_s5_params(&config, NULL, &table));
            CHECK_OK(ssm_s5_sizes(&config, &seqs, &need));
            params = test_zeros(need.params / sizeof(ssm_real));
            bound = test_alloc(need.bound, 0);
            work = test_alloc(need.work, 0);
            state = test_zeros(need.state / sizeof(ssm_real));
            CHECK_OK(ssm_s5_init(&config, params, 3));
            for (i = 0; round && i < table.rows; ++i)
                if (!strcmp(rows[i].name, "log_step")) params[rows[i].offset] = 80;
            CHECK_OK(ssm_s5_bind(&layer, &config, params, ssm_memory_of(bound, need.bound)));
            CHECK_OK(ssm_s5_forward(&layer, state, x, y, &seqs, ssm_memory_of(work, need.work)));
            for (i = 0; i < LEN * DIM; ++i) CHECK(y[i] - y[i] == 0);
            test_free(params, 0), test_free(state, 0), test_free(bound, 0), test_free(work, 0);
        }
}

static const test_case line_cases[] = {
    {"line/instances", line_instances, EVERY_ISA},
    {"line/layouts", line_layouts, EVERY_ISA},
    {"line/gaps", line_gaps},
    {"line/chunks", line_chunks, EVERY_ISA},
    {"line/s5_instances", line_s5_instances, EVERY_ISA},
    {"line/s5_gaps", line_s5_gaps},
    {"line/pauses", line_pauses},
    {"line/endless", line_endless, EVERY_ISA},
    {"line/layer_pauses", line_layer_pauses},
};
