/* test_isa.c - instruction sets: one that is not there is refused by everybody, and what kernels decide for a whole
 * block of channels does not depend on where in the block a channel lies. */

/* Instruction sets that are not there: of other processors, and numbers that are none. */
static size_t isa_absent(ssm_isa *absent)
{
    size_t count = 0;
    int i;
    for (i = SSM_ISA_SCALAR; i < ssm_isa_count(); ++i)
        if (!ssm_isa_available((ssm_isa)i)) absent[count++] = (ssm_isa)i;
    absent[count++] = (ssm_isa)ssm_isa_count(); /* no such number */
    return count;
}

static void isa_names(void)
{
    CHECK(ssm_isa_available(SSM_ISA_BEST) && ssm_isa_available(SSM_ISA_SCALAR) && ssm_isa_available(ssm_isa_best()));
    CHECK(!strcmp(ssm_isa_name(SSM_ISA_SCALAR), "scalar"));
    CHECK(!strcmp(ssm_isa_name(SSM_ISA_BEST), ssm_isa_name(ssm_isa_best())));
    CHECK(!ssm_isa_name((ssm_isa)ssm_isa_count()) && !ssm_isa_available((ssm_isa)ssm_isa_count()));
}

/* `refused` is `config` with an instruction set that is not there. */
static void isa_layer(const layer_type *type, const void *config, const void *refused)
{
    const ssm_seqs seqs = test_seqs(1, 3);
    layer_any_config resolved, before;
    layer_any layer, was;
    ssm_sizes need, same;
    ssm_real *params, *bound;
    ssm_memory memory;
    CHECK_OK(type->sizes(config, &seqs, &need));
    params = test_zeros(need.params / sizeof *params);
    bound = test_zeros(need.bound / sizeof *bound + 1);
    memory = ssm_memory_of(bound, need.bound);
    CHECK_OK(type->init(config, params, 1));
    memset(&layer, 7, sizeof layer);
    CHECK_OK(type->bind(&layer, config, params, memory));
    TEST_KNOWN(layer);
    memset(&resolved, 7, sizeof resolved);
    before = resolved;
    CHECK_STATUS(type->resolve(refused, &resolved), SSM_ERR_UNSUPPORTED);
    CHECK(!memcmp(&resolved, &before, sizeof before));
    same = need;
    CHECK_STATUS(type->sizes(refused, &seqs, &need), SSM_ERR_UNSUPPORTED);
    CHECK(!memcmp(&need, &same, sizeof same));
    memcpy(&was, &layer, sizeof was);
    CHECK_STATUS(type->bind(&layer, refused, params, memory), SSM_ERR_UNSUPPORTED);
    CHECK_STATUS(type->attach(&layer, refused, type->bound(&was)), SSM_ERR_UNSUPPORTED);
    CHECK(!memcmp(&layer, &was, sizeof was));
    test_free(params, 0);
    test_free(bound, 0);
}

#define ISA_LAYER(X)                                \
    do {                                            \
        ssm_##X##_config c = {0}, refused;          \
        c.d_model = c.d_state = 4;                  \
        refused = c;                                \
        refused.isa = absent[i];                    \
        isa_layer(&layer_##X, &c, &refused);        \
    } while (0)

static void isa_layers(void)
{
    ssm_isa absent[8];
    const size_t count = isa_absent(absent);
    size_t i;
    for (i = 0; i < count; ++i) {
        ISA_LAYER(selective);
        ISA_LAYER(s6);
        ISA_LAYER(mamba);
        ISA_LAYER(s4d);
        ISA_LAYER(s4);
        ISA_LAYER(s5);
    }
}

/* Every op of one channel, one step and one state, all of whose tensors are the same ones. */
static void isa_op(ssm_isa isa)
{
    static const ssm_real in[4] = {1, 1, 1, 1};
    ssm_real out[4] = {2, 2, 2, 2};
    const ssm_in v = ssm_in_c(in);
    const ssm_out w = ssm_out_like(out, v);
    ssm_linear_scan linear_scan = {0};
    ssm_linear_scan_grad linear_scan_grad = {0};
    ssm_selective_scan scan = {0};
    ssm_selective_scan_grad scan_grad = {0};
    ssm_s5_scan s5 = {0};
    ssm_s5_scan_grad s5_grad = {0};
    ssm_conv conv = {0};
    ssm_conv_grad conv_grad = {0};
    ssm_linear linear = {0};
    ssm_norm norm = {0};
    ssm_adamw adamw = {0};
    ssm_param row;
    ssm_params table = {NULL, 1, 0, 0};
    size_t i;
    ssm_real work[2048];
    linear_scan.batch = linear_scan.len = linear_scan.dim = 1;
    linear_scan.a = linear_scan.b = v;
    linear_scan.h = w;
    linear_scan_grad.dh = v;
    linear_scan_grad.db = w;
    linear_scan.isa = isa;
    CHECK_STATUS(ssm_linear_scan_forward(&linear_scan, ssm_memory_of(work, sizeof work)), SSM_ERR_UNSUPPORTED);
    CHECK_STATUS(ssm_linear_scan_backward(&linear_scan, &linear_scan_grad), SSM_ERR_UNSUPPORTED);
    scan.batch = scan.len = scan.dim = scan.d_state = 1;
    scan.u = scan.delta = scan.A = scan.B = scan.C = v;
    scan.y = scan.h_last = w;
    scan_grad.dy = v;
    scan_grad.du = w;
    scan.isa = isa;
    CHECK_STATUS(ssm_selective_scan_forward(&scan, ssm_memory_of(work, sizeof work)), SSM_ERR_UNSUPPORTED);
    CHECK_STATUS(ssm_selective_scan_step(&scan), SSM_ERR_UNSUPPORTED);
    CHECK_STATUS(ssm_selective_scan_backward(&scan, &scan_grad, ssm_memory_of(work, sizeof work)), SSM_ERR_UNSUPPORTED);
    s5.batch = s5.len = s5.dim = s5.d_state = 1;
    s5.u = s5.delta = s5.A = s5.B = s5.C = v;
    s5.y = s5.h_last = w;
    s5_grad.dy = v;
    s5_grad.du = w;
    s5.isa = isa;
    CHECK_STATUS(ssm_s5_scan_forward(&s5, ssm_memory_of(work, sizeof work)), SSM_ERR_UNSUPPORTED);
    CHECK_STATUS(ssm_s5_scan_step(&s5, ssm_memory_of(work, sizeof work)), SSM_ERR_UNSUPPORTED);
    CHECK_STATUS(ssm_s5_scan_backward(&s5, &s5_grad, ssm_memory_of(work, sizeof work)), SSM_ERR_UNSUPPORTED);
    conv.batch = conv.len = conv.dim = 1;
    conv.width = 2;
    conv.x = conv.weight = v;
    conv.y = conv.state_last = w;
    conv_grad.dy = v;
    conv_grad.dx = w;
    conv.isa = isa;
    CHECK_STATUS(ssm_conv_forward(&conv), SSM_ERR_UNSUPPORTED);
    CHECK_STATUS(ssm_conv_step(&conv), SSM_ERR_UNSUPPORTED);
    CHECK_STATUS(ssm_conv_backward(&conv, &conv_grad), SSM_ERR_UNSUPPORTED);
    linear.in = linear.out = 1;
    linear.weight = in;
    linear.isa = isa;
    CHECK_STATUS(ssm_linear_forward(&linear, ssm_rows_of(in, 1), ssm_rows_out_of(out, 1), 1), SSM_ERR_UNSUPPORTED);
    CHECK_STATUS(ssm_linear_backward(&linear, ssm_rows_of(in, 1), ssm_rows_of(in, 1), ssm_rows_out_of(out, 1), NULL, NULL, 1), SSM_ERR_UNSUPPORTED);
    norm.dim = 1;
    norm.weight = in;
    norm.isa = isa;
    CHECK_STATUS(ssm_norm_forward(&norm, ssm_rows_of(in, 1), ssm_rows_out_of(out, 1), 1), SSM_ERR_UNSUPPORTED);
    CHECK_STATUS(ssm_norm_backward(&norm, ssm_rows_of(in, 1), ssm_rows_of(in, 1), ssm_rows_out_of(out, 1), NULL, 1), SSM_ERR_UNSUPPORTED);
    table.row = &row;
    CHECK_OK(ssm_linear_params(1, 1, 0, NULL, &table));
    adamw.isa = isa;
    CHECK_STATUS(ssm_adamw_step(&adamw, &table, out, in, out + 1, 1, NULL), SSM_ERR_UNSUPPORTED);
    for (i = 0; i < 4; ++i) CHECK(out[i] == 2);
}

static void isa_ops(void)
{
    ssm_isa absent[8];
    const size_t count = isa_absent(absent);
    size_t i;
    for (i = 0; i < count; ++i) isa_op(absent[i]);
}

/* A kernel asks once for a block of channels whether all |delta A| are small. That of the last state of the last
 * channel alone is `far` here: what this channel gives is right, and the others have the bits that they have without
 * it. Around the limit (124.5 and 1020.5 powers of two) and far beyond, up to NaN. */
static void isa_last_of_block(size_t dim, size_t N, size_t len, double far)
{
    ssm_rng rng = test_rng(dim * 100 + N);
    ssm_real *A = test_normal(&rng, dim * N, 0), *u = test_normal(&rng, len * dim, 1), *B = test_normal(&rng, len * N, 1);
    ssm_real *C = test_normal(&rng, len * N, 1), *h0 = test_normal(&rng, dim * N, 1);
    ssm_real *near_y = test_zeros(len * dim), *y = test_zeros(len * dim), *h = test_zeros(dim * N);
    const ssm_real one = 1;
    ssm_selective_scan s = {0};
    double hn[32], want, size;
    size_t c, n, t;
    for (n = 0; n < dim * N; ++n) A[n] = (ssm_real)-0.5 - (ssm_real)(n % 7) / 8;
    s.batch = 1;
    s.len = len;
    s.dim = dim;
    s.d_state = N;
    s.u = ssm_in_btc(u, len, dim);
    s.delta = ssm_in_c(&one);
    s.delta.chan = 0;
    s.A = ssm_in_cn(A, N);
    s.B = ssm_in_btcn(B, len, 1, N);
    s.C = ssm_in_btcn(C, len, 1, N);
    s.h0 = ssm_in_bcn(h0, dim, N);
    s.h_last = ssm_out_like(h, s.h0);
    s.y = ssm_out_like(near_y, s.u);
    CHECK_OK(ssm_selective_scan_forward(&s, ssm_memory_of(NULL, 0)));
    A[dim * N - 1] = (ssm_real)far;
    s.y = ssm_out_like(y, s.u);
    CHECK_OK(ssm_selective_scan_forward(&s, ssm_memory_of(NULL, 0)));
    for (n = 0; n < N; ++n) hn[n] = (double)h0[(dim - 1) * N + n];
    for (t = 0; t < len; ++t) {
        for (c = 0; c + 1 < dim; ++c) CHECK_SAME(y + t * dim + c, near_y + t * dim + c, 1);
        for (n = 0, want = size = 0; n < N; ++n) {
            hn[n] = exp((double)A[(dim - 1) * N + n]) * hn[n] + (double)B[t * N + n] * (double)u[t * dim + dim - 1];
            want += (double)C[t * N + n] * hn[n];
            size += fabs((double)C[t * N + n] * hn[n]);
        }
        if (far < 0) CHECK(fabs((double)y[t * dim + dim - 1] - want) <= TOL(1e-5, 1e-14) * size);
        else CHECK(!(fabs((double)y[t * dim + dim - 1]) <= 1e35)); /* huge, infinite or NaN */
    }
    test_free(A, 0);
    test_free(u, 0);
    test_free(B, 0);
    test_free(C, 0);
    test_free(h0, 0);
    test_free(near_y, 0);
    test_free(y, 0);
    test_free(h, 0);
}

static void isa_last_far(void)
{
    static const size_t dims[] = {1, 3, 16, 17, 31, 33, 64, 69, 70}, states[] = {1, 4, 5, 16, 19};
    static const size_t lens[] = {1, 3, 4, 16, 21};
    static const double limits[] = {-86, -86.2, -86.29, -86.3, -86.4, -87.5, -103, -700, -707.3, -707.4, -1e4, -1e30};
    const ssm_isa before = test_isa;
    size_t d, n, l, f;
    int isa;
    for (isa = SSM_ISA_SCALAR; isa < ssm_isa_count(); ++isa) {
        if (!ssm_isa_available((ssm_isa)isa)) continue;
        test_isa = (ssm_isa)isa;
        for (d = 0; d < TEST_COUNT(dims); ++d) {
            for (n = 0; n < TEST_COUNT(states); ++n) {
                for (l = 0; l < TEST_COUNT(lens); ++l) {
                    for (f = 0; f < TEST_COUNT(limits); ++f)
                        isa_last_of_block(dims[d], states[n], lens[l], limits[f]);
                    isa_last_of_block(dims[d], states[n], lens[l], 1e4);
                    isa_last_of_block(dims[d], states[n], lens[l], NAN);
                    isa_last_of_block(dims[d], states[n], lens[l], -INFINITY);
                }
            }
        }
    }
    test_isa = before;
}

static const test_case isa_cases[] = {
    {"isa/names", isa_names, EVERY_ISA},
    {"isa/absent_layers", isa_layers, EVERY_ISA},
    {"isa/absent_ops", isa_ops, EVERY_ISA},
    {"isa/last_far", isa_last_far, EVERY_ISA},
};
