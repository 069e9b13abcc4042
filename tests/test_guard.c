/* test_guard.c - no verb of any layer or op reads or writes outside the blocks that it is given: each lies flush
 * against a page that must not be touched, first with its end, then with its start. Every instruction set; odd
 * extents, since vectors reach past ends where a rest is not a whole one. Where there is no mmap, no tests. */
#ifdef TEST_GUARD
#include <sys/mman.h>
#include <unistd.h>

enum {
    GUARD_BLOCKS = 64
};

static struct {
    unsigned char *base;
    size_t bytes;
} guard_block[GUARD_BLOCKS];
static size_t guard_count;
static int guard_start; /* the page before the block is the forbidden one */

/* `bytes` of zeros; their end or their start touches a forbidden page. */
static void *guard_bytes(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), inside = (bytes + page - 1) / page * page, all = inside + 2 * page;
    void *p = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0);
    unsigned char *base = (unsigned char *)p;
    if (p == MAP_FAILED || guard_count == GUARD_BLOCKS || (inside && mprotect(base + page, inside, PROT_READ | PROT_WRITE))) {
        printf("no memory between guard pages\n");
        exit(2);
    }
    guard_block[guard_count].base = base;
    guard_block[guard_count++].bytes = all;
    return base + page + (guard_start ? 0 : inside - bytes);
}

static ssm_memory guard_memory(size_t bytes)
{
    return ssm_memory_of(guard_bytes(bytes), bytes);
}

/* `count` random numbers. */
static ssm_real *guard_reals(ssm_rng *rng, size_t count)
{
    ssm_real *p = (ssm_real *)guard_bytes(count * sizeof *p);
    size_t i;
    for (i = 0; i < count; ++i) p[i] = ssm_rng_uniform(rng) - (ssm_real)0.5;
    return p;
}

static void guard_free(void)
{
    while (guard_count) {
        --guard_count;
        munmap(guard_block[guard_count].base, guard_block[guard_count].bytes);
    }
}

/* Runs a case on every instruction set, with the forbidden page at either end. */
static void guard_each(void (*run)(ssm_rng *rng, size_t n), size_t cases)
{
    const ssm_isa before = test_isa;
    size_t n;
    int isa;
    for (isa = SSM_ISA_SCALAR; isa < ssm_isa_count(); ++isa) {
        if (!ssm_isa_available((ssm_isa)isa)) continue;
        test_isa = (ssm_isa)isa;
        for (guard_start = 0; guard_start < 2; ++guard_start) {
            for (n = 0; n < cases; ++n) {
                ssm_rng rng = test_rng(n + 77); /* the same cases everywhere */
                run(&rng, n);
                guard_free();
            }
        }
    }
    test_isa = before;
}

static size_t guard_below(ssm_rng *rng, size_t limit)
{
    return (size_t)(ssm_rng_next(rng) >> 33) % limit;
}

/*--- layers ---*/

static void guard_layer(ssm_rng *rng, const layer_type *type, const void *config, size_t d_model)
{
    const ssm_seqs seqs = test_seqs(1 + guard_below(rng, 2), 1 + guard_below(rng, 36));
    const size_t rows = seqs.batch * seqs.len;
    layer_any layer, attached;
    ssm_sizes need, one;
    ssm_real *params, *state, *x, *y, *scale;
    ssm_memory work, tape;
    ssm_seqs some = seqs;
    ssm_status status;
    CHECK_OK(type->sizes(config, &seqs, &need));
    params = (ssm_real *)guard_bytes(need.params);
    CHECK_OK(type->init(config, params, 5));
    CHECK_OK(type->bind(&layer, config, params, guard_memory(need.bound)));
    status = type->attach(&attached, config, type->bound(&layer));
    CHECK(status == SSM_OK || status == SSM_ERR_UNSUPPORTED);
    state = guard_reals(rng, need.state / sizeof *state);
    x = guard_reals(rng, rows * d_model);
    y = (ssm_real *)guard_bytes(rows * d_model * sizeof *y);
    work = guard_memory(need.work);
    scale = guard_reals(rng, rows);
    some.step_scale = scale;
    if (type->sizes(config, &some, &one) == SSM_ERR_UNSUPPORTED) some.step_scale = NULL; /* S5 alone has it */
    status = type->forward(&layer, need.state ? state : NULL, x, y, &some, work);
    CHECK_OK(status);
    if (type->sizes(config, &(ssm_seqs){.batch = seqs.batch, .len = 1}, &one) == SSM_OK) {
        ssm_real *row = guard_reals(rng, seqs.batch * d_model);
        ssm_real *out = (ssm_real *)guard_bytes(seqs.batch * d_model * sizeof *out);
        status = type->step(&layer, state, row, out, seqs.batch, guard_memory(one.work_step));
        CHECK(status == SSM_OK || status == SSM_ERR_UNSUPPORTED); /* not of bidirectional layers */
    }
    tape = guard_memory(need.tape);
    status = type->record(&layer, need.state ? state : NULL, x, y, &some, tape, work);
    if (status != SSM_OK) {
        CHECK(status == SSM_ERR_UNSUPPORTED);
        return;
    }
    CHECK_OK(type->backward(&layer, need.state ? state : NULL, x, y, guard_reals(rng, rows * d_model),
                            (ssm_real *)guard_bytes(need.params), &some, tape,
                            guard_memory(need.work_backward)));
}

static void guard_layer_case(ssm_rng *rng, const layer_config *c, ssm_format format)
{
    const layer_any_config config = bound_config(c, format);
    const size_t failures = test_failures;
    guard_layer(rng, c->type, &config, *(const size_t *)(const void *)&config);
    if (test_failures > failures && failures <= 5) printf("    ... in %s\n", c->text);
}

static void guard_layers_run(ssm_rng *rng, size_t n)
{
    const size_t first = TEST_COUNT(bound_configs);
    const layer_config *c = n < first ? &bound_configs[n] : &bound_forward_configs[n - first];
    guard_layer_case(rng, c, (ssm_format)(n % 3));
}

static void guard_layers(void)
{
    guard_each(guard_layers_run, TEST_COUNT(bound_configs) + TEST_COUNT(bound_forward_configs));
}

static const layer_config guard_kinds[] = {
    LAYER(selective, .d_model = 1), LAYER(s6, .d_model = 1), LAYER(mamba, .d_model = 1),
    LAYER(s4d, .d_model = 1),       LAYER(s4, .d_model = 1), LAYER(s5, .d_model = 1),
    LAYER(mamba2, .d_model = 1, .headdim = 2),
    LAYER(mamba3, .d_model = 1, .headdim = 2), LAYER(mamba3, .d_model = 1, .headdim = 2, .mimo_rank = 2),
    LAYER(selective, .d_model = 1, .complex_A = 1), LAYER(s6, .d_model = 1, .complex_A = 1),
    LAYER(mamba, .d_model = 1, .complex_A = 1),
    LAYER(s5, .d_model = 1, .lru = 1), LAYER(rglru, .d_model = 1), LAYER(rglru, .d_model = 1, .no_block = 1),
};

/* Widths from 1 to 70. */
static void guard_widths_run(ssm_rng *rng, size_t n)
{
    const layer_config *c = &guard_kinds[n % TEST_COUNT(guard_kinds)];
    const size_t d_model = 1 + guard_below(rng, 70), d_state = 1 + guard_below(rng, 19);
    layer_any_config k = bound_config(c, (ssm_format)guard_below(rng, 3));
    if (c->type == &layer_selective) k.selective.d_model = d_model, k.selective.d_state = d_state;
    if (c->type == &layer_s6) k.s6.d_model = d_model, k.s6.d_state = d_state;
    if (c->type == &layer_mamba) k.mamba.d_model = d_model, k.mamba.d_state = d_state;
    if (c->type == &layer_mamba2) k.mamba2.d_model = d_model, k.mamba2.d_state = d_state, k.mamba2.headdim = d_model;
    if (c->type == &layer_mamba3) k.mamba3.d_model = d_model, k.mamba3.headdim = d_model;
    if (c->type == &layer_mamba3) k.mamba3.d_state = k.mamba3.mimo_rank ? 2 + 2 * d_state : 3 + d_state;
    if (c->type == &layer_rglru) k.rglru.d_model = d_model, k.rglru.num_heads = d_model % 2 ? 1 : 2;
    if (c->type == &layer_s4d) k.s4d.d_model = d_model, k.s4d.d_state = 2 * d_state;
    if (c->type == &layer_s4) k.s4.d_model = d_model, k.s4.d_state = 2 * (1 + d_state % 4);
    if (c->type == &layer_s5) k.s5.d_model = d_model, k.s5.d_state = 2 * d_state;
    guard_layer(rng, c->type, &k, d_model);
}

static void guard_widths(void)
{
    guard_each(guard_widths_run, 4 * TEST_COUNT(guard_kinds));
}

/*--- ops ---*/

static void guard_linear_scan_run(ssm_rng *rng, size_t n)
{
    ssm_linear_scan s = {0};
    ssm_linear_scan_grad g = {0};
    const size_t pair = 1 + n % 2, all = pair;
    ssm_sizes need = {0};
    size_t count, states;
    s.batch = 1 + guard_below(rng, 3);
    s.len = 1 + guard_below(rng, 40);
    s.dim = 1 + guard_below(rng, 70);
    s.complex_values = (int)(pair - 1);
    s.reverse = (int)guard_below(rng, 2);
    s.scan = (ssm_scan)guard_below(rng, 4);
    count = s.batch * s.len * s.dim * all;
    states = s.batch * s.dim * all;
    s.a = ssm_in_btc(guard_reals(rng, count), s.len, s.dim);
    s.h0 = ssm_in_bcn(guard_reals(rng, states), s.dim, 1);
    if (pair == 2) s.a = ssm_in_pairs(s.a), s.h0 = ssm_in_pairs(s.h0);
    s.b = s.a;
    s.b.data = guard_reals(rng, count);
    s.h = ssm_out_like(guard_reals(rng, count), s.a);
    s.h_last = ssm_out_like(guard_reals(rng, states), s.h0);
    CHECK_OK(ssm_linear_scan_sizes(&s, &need));
    CHECK_OK(ssm_linear_scan_forward(&s, guard_memory(need.work)));
    g.dh = s.a;
    g.dh.data = guard_reals(rng, count);
    g.da = ssm_out_like(guard_reals(rng, count), s.a);
    g.db = ssm_out_like(guard_reals(rng, count), s.a);
    g.dh0 = ssm_out_like(guard_reals(rng, states), s.h0);
    CHECK_OK(ssm_linear_scan_backward(&s, &g));
}

static void guard_linear_scan(void)
{
    guard_each(guard_linear_scan_run, 24);
}

static void guard_selective_scan_run(ssm_rng *rng, size_t n)
{
    static const size_t groups_of[] = {1, 1, 2, 3};
    ssm_selective_scan s = {0};
    ssm_selective_scan_grad g = {0};
    const size_t groups = groups_of[guard_below(rng, 4)], N = 1 + guard_below(rng, 19);
    const size_t B = 1 + guard_below(rng, 2), L = n % 5 == 0 ? 1 : 1 + guard_below(rng, 36);
    const size_t D = groups * (1 + guard_below(rng, 70 / groups));
    size_t rows = B * L * D, group = B * L * groups * N, states;
    ssm_sizes need = {0};
    s.batch = B;
    s.len = L;
    s.dim = D;
    s.d_state = N;
    s.B_groups = s.C_groups = groups;
    s.disc = (ssm_disc)(n % 7);
    s.scan = n % 4 == 3 ? SSM_SCAN_CHUNKED : SSM_SCAN_SEQUENTIAL;
    s.delta_softplus = (int)guard_below(rng, 2);
    states = B * D * N * (s.disc == SSM_DISC_TRAPEZOID ? 2 : 1);
    s.u = ssm_in_btc(guard_reals(rng, rows), L, D);
    s.delta = ssm_in_btc(guard_reals(rng, rows), L, D);
    s.z = ssm_in_btc(guard_reals(rng, rows), L, D);
    s.A = ssm_in_cn(guard_reals(rng, D * N), N);
    s.B = ssm_in_btcn(guard_reals(rng, group), L, groups, N);
    s.C = ssm_in_btcn(guard_reals(rng, group), L, groups, N);
    s.D = ssm_in_c(guard_reals(rng, D));
    s.delta_bias = ssm_in_c(guard_reals(rng, D));
    if (n % 3 == 0) s.delta_A = ssm_in_btc(guard_reals(rng, rows), L, D);
    if (n % 2 == 0) s.lambda = ssm_in_btc(guard_reals(rng, rows), L, D);
    s.h0 = ssm_in_bcn(guard_reals(rng, states), D, states / (B * D));
    s.h_last = ssm_out_like(guard_reals(rng, states), s.h0);
    s.y = ssm_out_like(guard_reals(rng, rows), s.u);
    CHECK_OK(ssm_selective_scan_sizes(&s, &need));
    CHECK_OK(ssm_selective_scan_forward(&s, guard_memory(need.work)));
    if (L == 1) CHECK_OK(ssm_selective_scan_step(&s));
    g.dy = ssm_in_btc(guard_reals(rng, rows), L, D);
    g.du = ssm_out_like(guard_reals(rng, rows), s.u);
    g.ddelta = ssm_out_like(guard_reals(rng, rows), s.u);
    g.dz = ssm_out_like(guard_reals(rng, rows), s.u);
    g.dA = ssm_out_like(guard_reals(rng, D * N), s.A);
    g.dB = ssm_out_like(guard_reals(rng, group), s.B);
    g.dC = ssm_out_like(guard_reals(rng, group), s.C);
    g.dD = ssm_out_like(guard_reals(rng, D), s.D);
    g.ddelta_bias = ssm_out_like(guard_reals(rng, D), s.D);
    g.dh0 = ssm_out_like(guard_reals(rng, states), s.h0);
    if (s.delta_A.data) g.ddelta_A = ssm_out_like(guard_reals(rng, rows), s.u);
    if (s.lambda.data && s.disc == SSM_DISC_TRAPEZOID) g.dlambda = ssm_out_like(guard_reals(rng, rows), s.u);
    CHECK_OK(ssm_selective_scan_backward(&s, &g, guard_memory(need.work_backward)));
}

static void guard_selective_scan(void)
{
    guard_each(guard_selective_scan_run, 60);
}

static void guard_s5_scan_run(ssm_rng *rng, size_t n)
{
    ssm_s5_scan s = {0};
    ssm_s5_scan_grad g = {0};
    const size_t B = 1 + guard_below(rng, 2), L = n % 4 == 0 ? 1 : 1 + guard_below(rng, 30);
    const size_t D = 1 + guard_below(rng, 40), P = 1 + guard_below(rng, 37), rows = B * L * D;
    ssm_sizes need = {0};
    s.batch = B;
    s.len = L;
    s.dim = D;
    s.d_state = P;
    s.disc = (ssm_disc)(n % 5);
    s.conj_sym = (int)(n % 2);
    s.u = ssm_in_btc(guard_reals(rng, rows), L, D);
    s.delta = ssm_in_btcn(guard_reals(rng, B * L * P), L, 1, P);
    if (n % 3 == 0) s.delta_A = ssm_in_btcn(guard_reals(rng, B * L * P), L, 1, P);
    s.A = ssm_in_pairs(ssm_in_cn(guard_reals(rng, 2 * P), 1));
    s.A.state = 2;
    s.B = ssm_in_pairs(ssm_in_cn(guard_reals(rng, 2 * D * P), P));
    s.C = ssm_in_pairs(ssm_in_cn(guard_reals(rng, 2 * D * P), P));
    s.D = ssm_in_c(guard_reals(rng, D));
    s.h0 = ssm_in_pairs(ssm_in_bcn(guard_reals(rng, 2 * B * P), 1, P));
    s.h_last = ssm_out_like(guard_reals(rng, 2 * B * P), s.h0);
    s.y = ssm_out_like(guard_reals(rng, rows), s.u);
    CHECK_OK(ssm_s5_scan_sizes(&s, &need));
    CHECK_OK(ssm_s5_scan_forward(&s, guard_memory(need.work)));
    if (L == 1) CHECK_OK(ssm_s5_scan_step(&s, guard_memory(need.work_step)));
    g.dy = ssm_in_btc(guard_reals(rng, rows), L, D);
    g.du = ssm_out_like(guard_reals(rng, rows), s.u);
    g.ddelta = ssm_out_like(guard_reals(rng, B * L * P), s.delta);
    g.dA = ssm_out_like(guard_reals(rng, 2 * P), s.A);
    g.dB = ssm_out_like(guard_reals(rng, 2 * D * P), s.B);
    g.dC = ssm_out_like(guard_reals(rng, 2 * D * P), s.C);
    g.dD = ssm_out_like(guard_reals(rng, D), s.D);
    g.dh0 = ssm_out_like(guard_reals(rng, 2 * B * P), s.h0);
    if (s.delta_A.data) g.ddelta_A = ssm_out_like(guard_reals(rng, B * L * P), s.delta);
    CHECK_OK(ssm_s5_scan_backward(&s, &g, guard_memory(need.work_backward)));
}

static void guard_s5_scan(void)
{
    guard_each(guard_s5_scan_run, 30);
}

static void guard_conv_run(ssm_rng *rng, size_t n)
{
    ssm_conv s = {0};
    ssm_conv_grad g = {0};
    const size_t B = 1 + guard_below(rng, 2), L = n % 3 == 0 ? 1 : 1 + guard_below(rng, 30);
    const size_t D = 1 + guard_below(rng, 70), K = 1 + n % 8, rows = B * L * D, states = B * D * (K - 1);
    s.batch = B;
    s.len = L;
    s.dim = D;
    s.width = K;
    s.silu = (int)guard_below(rng, 2);
    s.x = ssm_in_btc(guard_reals(rng, rows), L, D);
    s.weight = n / 8 % 2 ? ssm_in_nc(guard_reals(rng, D * K), D) : ssm_in_cn(guard_reals(rng, D * K), K);
    s.bias = ssm_in_c(guard_reals(rng, D));
    s.state = ssm_in_bcn(guard_reals(rng, states), D, K - 1);
    s.state_last = ssm_out_like(guard_reals(rng, states), s.state);
    s.y = ssm_out_like(guard_reals(rng, rows), s.x);
    CHECK_OK(ssm_conv_forward(&s));
    if (L == 1) CHECK_OK(ssm_conv_step(&s));
    g.dy = ssm_in_btc(guard_reals(rng, rows), L, D);
    g.dx = ssm_out_like(guard_reals(rng, rows), s.x);
    g.dweight = ssm_out_like(guard_reals(rng, D * K), s.weight);
    g.dbias = ssm_out_like(guard_reals(rng, D), s.bias);
    g.dstate = ssm_out_like(guard_reals(rng, states), s.state);
    if (n / 16 % 2) g.dstate_last = ssm_in_bcn(guard_reals(rng, states), D, K - 1);
    CHECK_OK(ssm_conv_backward(&s, &g));
}

static void guard_conv(void)
{
    guard_each(guard_conv_run, 40);
}

static void guard_linear_run(ssm_rng *rng, size_t n)
{
    ssm_linear s = {0};
    const size_t in = 1 + guard_below(rng, 70), out = 1 + guard_below(rng, 70), rows = 1 + guard_below(rng, 70);
    ssm_rows x;
    ssm_rows_out y;
    ssm_memory packed;
    size_t bytes = 0;
    s.in = in;
    s.out = out;
    s.format = (ssm_format)(n % 3);
    s.weight = guard_reals(rng, in * out);
    s.bias = n % 2 ? guard_reals(rng, out) : NULL;
    x = ssm_rows_of(guard_reals(rng, rows * in), (ptrdiff_t)in);
    y = ssm_rows_out_of(guard_reals(rng, rows * out), (ptrdiff_t)out);
    CHECK_OK(ssm_linear_forward(&s, x, y, rows));
    CHECK_OK(ssm_linear_pack_size(&s, &bytes));
    packed = guard_memory(bytes);
    CHECK_OK(ssm_linear_pack(&s, packed));
    s.packed = packed.data;
    CHECK_OK(ssm_linear_forward(&s, x, y, rows));
    CHECK_OK(ssm_linear_backward(&s, x, ssm_rows_of(y.data, y.row),
                                 ssm_rows_out_of(guard_reals(rng, rows * in), x.row), guard_reals(rng, in * out),
                                 guard_reals(rng, out), rows));
}

static void guard_linear(void)
{
    guard_each(guard_linear_run, 40);
}

/* RMSNorm, AdamW, FFT, convolution and HiPPO. */
static void guard_others_run(ssm_rng *rng, size_t n)
{
    ssm_norm norm = {0};
    ssm_adamw adamw = {0};
    ssm_param row;
    ssm_params table = {NULL, 1, 0, 0};
    const size_t dim = 1 + n, rows = 1 + guard_below(rng, 9), a = 1 + guard_below(rng, 40), points = (size_t)1 << n % 9;
    const ptrdiff_t row_of = (ptrdiff_t)dim;
    ssm_real *x = guard_reals(rng, dim * rows), *dy, recalled;
    size_t bytes = 0;
    norm.dim = dim;
    norm.weight = guard_reals(rng, dim);
    CHECK_OK(ssm_norm_forward(&norm, ssm_rows_of(x, row_of), ssm_rows_out_of(guard_reals(rng, dim * rows), row_of), rows));
    dy = guard_reals(rng, dim * rows);
    CHECK_OK(ssm_norm_backward(&norm, ssm_rows_of(x, row_of), ssm_rows_of(dy, row_of),
                               ssm_rows_out_of(guard_reals(rng, dim * rows), row_of), guard_reals(rng, dim), rows));
    table.row = &row;
    CHECK_OK(ssm_linear_params(1, dim, 0, NULL, &table));
    adamw.lr = 1;
    adamw.clip_norm = 1;
    CHECK_OK(ssm_adamw_step(&adamw, &table, guard_reals(rng, dim), guard_reals(rng, dim),
                            (ssm_real *)guard_bytes(2 * dim * sizeof *x), 1, NULL));
    CHECK_OK(ssm_hippo_update(x, dim, 3, 1));
    CHECK_OK(ssm_hippo_recall(x, dim, (ssm_real)0.25, &recalled));
    CHECK_OK(ssm_fft_size(points, &bytes));
    CHECK_OK(ssm_fft(guard_reals(rng, 2 * points), points, (int)(n % 2), guard_memory(bytes)));
    CHECK_OK(ssm_convolve_size(a, dim, &bytes));
    CHECK_OK(ssm_convolve(guard_reals(rng, a), a, guard_reals(rng, dim), dim, guard_reals(rng, a + dim - 1),
                          guard_memory(bytes)));
}

static void guard_others(void)
{
    guard_each(guard_others_run, 70);
}

static const test_case guard_cases[] = {
    {"guard/layers", guard_layers, EVERY_ISA},
    {"guard/widths", guard_widths, EVERY_ISA},
    {"guard/linear_scan", guard_linear_scan, EVERY_ISA},
    {"guard/selective_scan", guard_selective_scan, EVERY_ISA},
    {"guard/s5_scan", guard_s5_scan, EVERY_ISA},
    {"guard/conv", guard_conv, EVERY_ISA},
    {"guard/linear", guard_linear, EVERY_ISA},
    {"guard/others", guard_others, EVERY_ISA},
};
#endif
