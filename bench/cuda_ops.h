/* cuda_ops.h - the ops beside the selective scan; part of bench_cuda.cu. */

static void conv(size_t batch, size_t dim, size_t len, ssm_format io, double rival, double bar, double rival_back,
                 double bar_back)
{
    const size_t n = batch * len * dim, e = io == SSM_FORMAT_BF16 ? 2 : 4;
    const char *type = io == SSM_FORMAT_BF16 ? "bf16" : "f32";
    char name[100];
    array x(n, io, -1, 1), y(n, io, 0, 0), dy(n, io, -1, 1), dx(n, io, 0, 0), weight(dim * 4, SSM_FORMAT_REAL, -1, 1);
    array bias(dim, SSM_FORMAT_REAL, -1, 1), dw(dim * 4, SSM_FORMAT_REAL, 0, 0), db(dim, SSM_FORMAT_REAL, 0, 0);
    ssm_conv s;
    ssm_conv_grad g;
    ssm_sizes need;
    memset(&s, 0, sizeof s);
    memset(&g, 0, sizeof g);
    s.batch = batch;
    s.len = len;
    s.dim = dim;
    s.width = 4;
    s.silu = 1;
    s.x = ssm_in_btc(x.data, len, dim);
    s.weight = ssm_in_cn(weight.data, 4);
    s.bias = ssm_in_c(bias.data);
    s.y = ssm_out_like(y.data, s.x);
    g.dy = ssm_in_btc(dy.data, len, dim);
    g.dx = ssm_out_like(dx.data, s.x);
    g.dweight = ssm_out_like(dw.data, s.weight);
    g.dbias = ssm_out_like(db.data, s.bias);
    ok(ssm_cuda_conv_sizes(&s, io, &need), "sizes");
    array work(need.work_backward / 4 + 64, SSM_FORMAT_REAL, 0, 0);
    snprintf(name, sizeof name, "conv forward %s %zux%zux%zu", type, batch, dim, len);
    if (wanted(name))
        report(name, milliseconds([&] { ok(ssm_cuda_conv_forward(&s, io, NULL), name); }),
               2.0 * n * e / BANDWIDTH / 1e6, rival, bar);
    snprintf(name, sizeof name, "conv backward %s %zux%zux%zu", type, batch, dim, len);
    if (!wanted(name)) return;
    const double ms = milliseconds(
        [&] { ok(ssm_cuda_conv_backward(&s, &g, io, ssm_memory_of(work.data, need.work_backward), NULL), name); });
    report(name, ms, 4.0 * n * e / BANDWIDTH / 1e6, rival_back, bar_back);
}

/* rival, bar: of forward. */
static void linear(size_t rows, size_t in, size_t out, ssm_format io, double rival = 0, double bar = 0)
{
    const char *type = io == SSM_FORMAT_BF16 ? "bf16" : "f32";
    const double bytes = (double)(io == SSM_FORMAT_BF16 ? 2 : 4) * (rows * in + in * out + rows * out);
    /* 132 SMs x 128 FMA x 1.98 GHz; on matrix units 2048 FMA at 1.83 GHz */
    const double limit = std::max(2.0 * rows * in * out / (io == SSM_FORMAT_BF16 ? 989e12 : 66.9e12) * 1e3,
                                  bytes / BANDWIDTH / 1e6);
    char name[100];
    array x(rows * in, io, -1, 1), w(in * out, io, -1, 1), y(rows * out, io, -1, 1), dx(rows * in, io, 0, 0);
    array dw(in * out, SSM_FORMAT_REAL, 0, 0);
    ssm_linear l;
    ssm_linear_grad g;
    ssm_sizes need;
    memset(&l, 0, sizeof l);
    memset(&g, 0, sizeof g);
    l.in = in;
    l.out = out;
    l.weight = w.data;
    ok(ssm_cuda_linear_sizes(&l, rows, io, &need), "sizes");
    array work(need.work_backward / 4 + 64, SSM_FORMAT_REAL, 0, 0);
    g.dy = ssm_rows_of(y.data, (ptrdiff_t)out);
    const ssm_rows rx = ssm_rows_of(x.data, (ptrdiff_t)in);
    const ssm_memory room = ssm_memory_of(work.data, need.work_backward);
    snprintf(name, sizeof name, "linear forward %s %zux%zux%zu", type, rows, in, out);
    if (wanted(name))
        report(name, milliseconds([&] {
                   ok(ssm_cuda_linear_forward(&l, rx, ssm_rows_out_of(y.data, (ptrdiff_t)out), rows, io, NULL), name);
               }),
               limit, rival, bar);
    snprintf(name, sizeof name, "linear dx %s %zux%zux%zu", type, rows, in, out);
    g.dx = ssm_rows_out_of(dx.data, (ptrdiff_t)in);
    if (wanted(name))
        report(name, milliseconds([&] { ok(ssm_cuda_linear_backward(&l, rx, &g, rows, io, room, NULL), name); }), limit,
               0, 0);
    snprintf(name, sizeof name, "linear dweight %s %zux%zux%zu", type, rows, in, out);
    g.dx.data = NULL;
    g.dweight = dw.data;
    if (wanted(name))
        report(name, milliseconds([&] { ok(ssm_cuda_linear_backward(&l, rx, &g, rows, io, room, NULL), name); }), limit,
               0, 0);
}

static void rows(size_t count, size_t dim, ssm_format io)
{
    const size_t n = count * dim, e = io == SSM_FORMAT_BF16 ? 2 : 4;
    const char *type = io == SSM_FORMAT_BF16 ? "bf16" : "f32";
    char name[100];
    array x(n, io, -1, 1), z(n, io, -1, 1), y(n, io, 0, 0), weight(dim, SSM_FORMAT_REAL, -1, 1);
    ssm_rowop op;
    ssm_norm norm;
    memset(&op, 0, sizeof op);
    memset(&norm, 0, sizeof norm);
    op.kind = SSM_ROW_GATE;
    op.rows = count;
    op.dim = norm.dim = dim;
    op.x = ssm_rows_of(x.data, (ptrdiff_t)dim);
    op.z = ssm_rows_of(z.data, (ptrdiff_t)dim);
    op.y = ssm_rows_out_of(y.data, (ptrdiff_t)dim);
    norm.weight = weight.data;
    snprintf(name, sizeof name, "gate %s %zux%zu", type, count, dim);
    if (wanted(name))
        report(name, milliseconds([&] { ok(ssm_cuda_row_forward(&op, io, NULL), name); }),
               3.0 * n * e / BANDWIDTH / 1e6, 0, 0);
    snprintf(name, sizeof name, "norm %s %zux%zu", type, count, dim);
    if (wanted(name))
        report(name, milliseconds([&] { ok(ssm_cuda_norm_forward(&norm, op.x, op.y, count, io, NULL), name); }),
               2.0 * n * e / BANDWIDTH / 1e6, 0, 0);
}

/* The recurrence of the S5 scan alone, v and the step sizes given, as the rival's kernel has it; backward is the states
 * once more and the adjoint. Then the whole op, of as many channels as states. */
static void s5_recurrence(size_t batch, size_t states, size_t len, ssm_disc disc, double rival, double rival_back)
{
    const size_t n = batch * len * states;
    const ssm_format f32 = SSM_FORMAT_REAL;
    const char *type = disc == SSM_DISC_BILINEAR ? "bilinear" : "zoh";
    const bool has_bar = disc == SSM_DISC_BILINEAR;
    char name[100];
    array v(2 * n, f32, -1, 1), delta(n, f32, 0.001f, 0.1f), A(2 * states, f32, -1, -0.1f), h(2 * n, f32, 0, 0);
    array dh(2 * n, f32, -1, 1), dv(2 * n, f32, 0, 0), ddelta(n, f32, 0, 0);
    array dA(2 * n, f32, 0, 0), dh0(2 * n, f32, 0, 0);
    ssm__cuda_line p = ssm__cuda_line_of(batch, len, states, NULL, NULL, 0);
    array carry(ssm__cuda_line_carry(p, 2) + 1, f32, 0, 0);
    p.disc = disc;
    p.carry = carry.data;
    p.v = ssm__cuda_line_view(p, v.data, 2);
    p.h.v = ssm_out_like(h.data, p.v);
    p.h.give = SSM__CUDA_WRITE;
    p.delta = ssm__cuda_line_view(p, delta.data, 1);
    p.A.data = A.data;
    p.A.chan = 2;
    snprintf(name, sizeof name, "s5 recurrence forward %s %zux%zux%zu", type, batch, states, len);
    if (wanted(name))
        report(name, milliseconds([&] { ok(ssm__cuda_s5_run(p, f32, 0, NULL), name); }), 20.0 * n / BANDWIDTH / 1e6,
               rival, has_bar ? rival / 2 : 0);
    snprintf(name, sizeof name, "s5 recurrence backward %s %zux%zux%zu", type, batch, states, len);
    if (!wanted(name)) return;
    p.before = ssm__cuda_line_view(p, h.data, 2);
    p.dh = ssm__cuda_line_view(p, dh.data, 2);
    p.db.v = ssm_out_like(dv.data, p.v);
    p.db.give = SSM__CUDA_WRITE;
    p.ddelta.v = ssm_out_like(ddelta.data, p.delta);
    p.ddelta.give = SSM__CUDA_ADD;
    p.dA = dA.data;
    p.dh0 = dh0.data;
    const double ms = milliseconds([&] {
        ok(ssm__cuda_s5_run(p, f32, 0, NULL), name);
        ok(ssm__cuda_s5_run(p, f32, 1, NULL), name);
    });
    report(name, ms, 64.0 * n / BANDWIDTH / 1e6, rival_back, has_bar ? rival_back / 4 : 0);
}

static void s5(size_t batch, size_t dim, size_t len)
{
    const size_t n = batch * len * dim, m = dim * dim;
    const ssm_format f32 = SSM_FORMAT_REAL;
    const double limit = 2.0 * 4 * n * dim / 66.9e12 * 1e3; /* two products */
    char name[100];
    array u(n, f32, -1, 1), delta(n, f32, 0.001f, 0.1f), A(2 * dim, f32, -1, -0.1f), B(2 * m, f32, -1, 1);
    array C(2 * m, f32, -1, 1), y(n, f32, 0, 0), dy(n, f32, -1, 1), du(n, f32, 0, 0), dd(n, f32, 0, 0);
    array dA(2 * dim, f32, 0, 0), dB(2 * m, f32, 0, 0), dC(2 * m, f32, 0, 0);
    ssm_s5_scan s;
    ssm_s5_scan_grad g;
    ssm_sizes need;
    memset(&s, 0, sizeof s);
    memset(&g, 0, sizeof g);
    s.batch = batch;
    s.len = len;
    s.dim = s.d_state = dim;
    s.disc = SSM_DISC_BILINEAR;
    s.conj_sym = 1;
    s.u = ssm_in_btc(u.data, len, dim);
    s.delta = ssm_in_btcn(delta.data, len, 1, dim);
    s.A = ssm_in_pairs(ssm_in_cn(A.data, dim));
    s.B = ssm_in_pairs(ssm_in_cn(B.data, dim));
    s.C = ssm_in_pairs(ssm_in_cn(C.data, dim));
    s.y = ssm_out_like(y.data, s.u);
    g.dy = ssm_in_btc(dy.data, len, dim);
    g.du = ssm_out_like(du.data, s.u);
    g.ddelta = ssm_out_like(dd.data, s.delta);
    g.dA = ssm_out_like(dA.data, s.A);
    g.dB = ssm_out_like(dB.data, s.B);
    g.dC = ssm_out_like(dC.data, s.C);
    ok(ssm_cuda_s5_scan_sizes(&s, f32, &need), "sizes");
    array work(need.work_backward / 4 + 64, f32, 0, 0);
    snprintf(name, sizeof name, "s5 forward bilinear %zux%zux%zu", batch, dim, len);
    if (wanted(name))
        report(name, milliseconds([&] {
                   ok(ssm_cuda_s5_scan_forward(&s, f32, ssm_memory_of(work.data, need.work), NULL), name);
               }),
               limit, 0, 0);
    snprintf(name, sizeof name, "s5 backward bilinear %zux%zux%zu", batch, dim, len);
    if (wanted(name))
        report(name, milliseconds([&] {
                   ok(ssm_cuda_s5_scan_backward(&s, &g, f32, ssm_memory_of(work.data, need.work_backward), NULL), name);
               }),
               2.5 * limit, 0, 0);
}

static void linear_scan(size_t batch, size_t dim, size_t len, int pairs, ssm_format io)
{
    const size_t n = batch * len * dim * (pairs ? 2 : 1), e = io == SSM_FORMAT_BF16 ? 2 : 4;
    const char *type = io == SSM_FORMAT_BF16 ? "bf16" : "f32", *kind = pairs ? "complex" : "real";
    char name[100];
    array a(n, io, -0.7f, 0.7f), b(n, io, -1, 1), h(n, io, 0, 0), dh(n, io, -1, 1), da(n, io, 0, 0), db(n, io, 0, 0);
    ssm_linear_scan s;
    ssm_linear_scan_grad g;
    ssm_sizes need;
    memset(&s, 0, sizeof s);
    memset(&g, 0, sizeof g);
    s.batch = batch;
    s.len = len;
    s.dim = dim;
    s.complex_values = pairs;
    s.a = ssm_in_btc(a.data, len, dim);
    if (pairs) s.a = ssm_in_pairs(s.a);
    s.b = s.a;
    s.b.data = b.data;
    s.h = ssm_out_like(h.data, s.a);
    g.dh = s.a;
    g.dh.data = dh.data;
    g.da = ssm_out_like(da.data, s.a);
    g.db = ssm_out_like(db.data, s.a);
    ok(ssm_cuda_linear_scan_sizes(&s, io, &need), "sizes");
    array work(need.work_backward / 4 + 64, SSM_FORMAT_REAL, 0, 0);
    snprintf(name, sizeof name, "linear scan forward %s %s %zux%zux%zu", kind, type, batch, dim, len);
    if (wanted(name))
        report(name, milliseconds([&] {
                   ok(ssm_cuda_linear_scan_forward(&s, io, ssm_memory_of(work.data, need.work), NULL), name);
               }),
               3.0 * n * e / BANDWIDTH / 1e6, 0, 0);
    snprintf(name, sizeof name, "linear scan backward %s %s %zux%zux%zu", kind, type, batch, dim, len);
    if (wanted(name))
        report(name, milliseconds([&] {
                   ok(ssm_cuda_linear_scan_backward(&s, &g, io, ssm_memory_of(work.data, need.work_backward), NULL),
                      name);
               }),
               7.0 * n * e / BANDWIDTH / 1e6, 0, 0);
}

static void scans(void)
{
    s5_recurrence(8, 256, 2048, SSM_DISC_BILINEAR, 0.076, 0.516);
    s5_recurrence(8, 256, 16384, SSM_DISC_BILINEAR, 0.492, 3.854);
    s5_recurrence(1, 64, 131072, SSM_DISC_BILINEAR, 0.529, 2.322);
    s5_recurrence(8, 256, 2048, SSM_DISC_ZOH, 0.081, 0.576);
    s5_recurrence(8, 256, 16384, SSM_DISC_ZOH, 0.528, 4.339);
    s5_recurrence(1, 64, 131072, SSM_DISC_ZOH, 0.603, 2.760);
    s5(8, 256, 2048);
    linear_scan(8, 1536, 2048, 0, SSM_FORMAT_REAL);
    linear_scan(8, 1536, 2048, 0, SSM_FORMAT_BF16);
    linear_scan(8, 256, 2048, 1, SSM_FORMAT_REAL);
    linear_scan(1, 1536, 131072, 0, SSM_FORMAT_REAL);
}

/* The scan of Mamba-2: heads of 64 channels, 128 states; the rival is mamba_ssm's Triton kernel. */
static void ssd(size_t batch, size_t heads, size_t len, ssm_format io, double rival, double bar, double rival_back)
{
    const size_t dim = heads * 64, n = batch * len * dim, m = batch * len * 128, e = io == SSM_FORMAT_BF16 ? 2 : 4;
    const char *type = io == SSM_FORMAT_BF16 ? "bf16" : "f32";
    char name[100];
    array x(n, io, -1, 1), delta(batch * len * heads, io, -2, 1), y(n, io, 0, 0), dy(n, io, -1, 1), dx(n, io, 0, 0);
    array B(m, io, -1, 1), C(m, io, -1, 1), dB(m, io, 0, 0), dC(m, io, 0, 0), dd(batch * len * heads, io, 0, 0);
    array A(heads, SSM_FORMAT_REAL, -16, -1), D(heads, SSM_FORMAT_REAL, -1, 1), bias(heads, SSM_FORMAT_REAL, -4, -2);
    array dA(heads, SSM_FORMAT_REAL, 0, 0), dD(heads, SSM_FORMAT_REAL, 0, 0), db(heads, SSM_FORMAT_REAL, 0, 0);
    ssm_ssd s;
    ssm_ssd_grad g;
    ssm_sizes need;
    memset(&s, 0, sizeof s);
    memset(&g, 0, sizeof g);
    s.batch = batch;
    s.len = len;
    s.heads = heads;
    s.headdim = 64;
    s.d_state = 128;
    s.delta_softplus = 1;
    s.x = ssm_in_btc(x.data, len, dim);
    s.delta = ssm_in_btc(delta.data, len, heads);
    s.A = ssm_in_c(A.data);
    s.B = ssm_in_btcn(B.data, len, 1, 128);
    s.C = ssm_in_btcn(C.data, len, 1, 128);
    s.D = ssm_in_c(D.data);
    s.delta_bias = ssm_in_c(bias.data);
    s.y = ssm_out_like(y.data, s.x);
    g.dy = ssm_in_btc(dy.data, len, dim);
    g.dx = ssm_out_like(dx.data, s.x);
    g.ddelta = ssm_out_like(dd.data, s.delta);
    g.dB = ssm_out_like(dB.data, s.B);
    g.dC = ssm_out_like(dC.data, s.C);
    g.dA = ssm_out_like(dA.data, s.A);
    g.dD = ssm_out_like(dD.data, s.D);
    g.ddelta_bias = ssm_out_like(db.data, s.D);
    ok(ssm_cuda_ssd_sizes(&s, io, &need), "sizes");
    array work((need.work > need.work_backward ? need.work : need.work_backward) / 4 + 64, SSM_FORMAT_REAL, 0, 0);
    const ssm_memory room = ssm_memory_of(work.data, need.work), back = ssm_memory_of(work.data, need.work_backward);
    snprintf(name, sizeof name, "ssd forward %s %zux%zux64x%zu", type, batch, heads, len);
    if (wanted(name))
        report(name, milliseconds([&] { ok(ssm_cuda_ssd_forward(&s, io, room, NULL), name); }),
               (2.0 * n + 2.0 * m) * e / BANDWIDTH / 1e6, rival, bar);
    snprintf(name, sizeof name, "ssd backward %s %zux%zux64x%zu", type, batch, heads, len);
    if (wanted(name))
        report(name, milliseconds([&] { ok(ssm_cuda_ssd_backward(&s, &g, io, back, NULL), name); }),
               (4.0 * n + 6.0 * m) * e / BANDWIDTH / 1e6, rival_back, 0);
}

/* 64 streams of 80 heads. */
static void ssd_step(void)
{
    const size_t slots = 64, heads = 80, dim = heads * 64;
    const ssm_format io = SSM_FORMAT_REAL;
    array x(slots * dim, io, -1, 1), delta(slots * heads, io, -2, 1), y(slots * dim, io, 0, 0);
    array B(slots * 128, io, -1, 1), C(slots * 128, io, -1, 1), A(heads, io, -16, -1);
    array state(slots * dim * 128, io, -1, 1);
    ssm_ssd s;
    memset(&s, 0, sizeof s);
    s.batch = slots;
    s.len = 1;
    s.heads = heads;
    s.headdim = 64;
    s.d_state = 128;
    s.delta_softplus = 1;
    s.x = ssm_in_btc(x.data, 1, dim);
    s.delta = ssm_in_btc(delta.data, 1, heads);
    s.A = ssm_in_c(A.data);
    s.B = ssm_in_btcn(B.data, 1, 1, 128);
    s.C = ssm_in_btcn(C.data, 1, 1, 128);
    s.y = ssm_out_like(y.data, s.x);
    s.h_last = ssm_out_like(state.data, ssm_in_bcn(state.data, dim, 128));
    if (wanted("ssd step f32 64x80x64x128"))
        report("ssd step f32 64x80x64x128", milliseconds([&] { ok(ssm_cuda_ssd_step(&s, io, NULL), "step"); }),
               2.0 * slots * dim * 512 / BANDWIDTH / 1e6, 0, 0);
}

/* What a training step has beside layers: LayerNorm, embedding and cross-entropy of a vocabulary. */
static void training(size_t count, size_t dim, size_t words, ssm_format io)
{
    const size_t n = count * dim, e = io == SSM_FORMAT_BF16 ? 2 : 4;
    const char *type = io == SSM_FORMAT_BF16 ? "bf16" : "f32";
    char name[100];
    array x(n, io, -1, 1), dx(n, io, 0, 0), table(words * dim, io, -1, 1), dtable(words * dim, SSM_FORMAT_REAL, 0, 0);
    array logits(count * words, io, -1, 1), dlogits(count * words, io, 0, 0), losses(count + 1, SSM_FORMAT_REAL, 0, 0);
    array weight(dim, SSM_FORMAT_REAL, -1, 1), dweight(dim, SSM_FORMAT_REAL, 0, 0);
    array tokens(count, SSM_FORMAT_REAL, 0, 0);
    std::vector<int> host(count);
    ssm_layer_norm norm;
    ssm_layer_norm_grad g;
    ssm_embedding embedding;
    ssm_cross_entropy loss;
    ssm_sizes need, sort;
    size_t i;
    memset(&norm, 0, sizeof norm);
    memset(&embedding, 0, sizeof embedding);
    memset(&loss, 0, sizeof loss);
    for (i = 0; i < count; ++i) host[i] = (int)(i * 2654435761u % 1000003 % words);
    check(cudaMemcpy(tokens.data, host.data(), count * sizeof(int), cudaMemcpyHostToDevice) == cudaSuccess, "tokens");
    const int *token = (const int *)(const void *)tokens.data;
    const ssm_rows in = ssm_rows_of(x.data, (ptrdiff_t)dim);
    const ssm_rows_out out = ssm_rows_out_of(dx.data, (ptrdiff_t)dim);
    norm.dim = embedding.dim = dim;
    norm.weight = norm.bias = weight.data;
    embedding.count = words;
    embedding.weight = table.data;
    g.dy = in;
    g.dx = out;
    g.dweight = g.dbias = dweight.data;
    loss.rows = count;
    loss.dim = words;
    loss.x = ssm_rows_of(logits.data, (ptrdiff_t)words);
    loss.label = token;
    ok(ssm_cuda_layer_norm_sizes(&norm, count, io, &need), "sizes");
    ok(ssm_cuda_embedding_sizes(&embedding, count, io, &sort), "sizes");
    array work((need.work_backward + sort.work_backward) / 4 + 64, SSM_FORMAT_REAL, 0, 0);
    const ssm_memory room = ssm_memory_of(work.data, need.work_backward + sort.work_backward);
    snprintf(name, sizeof name, "layer_norm %s %zux%zu", type, count, dim);
    if (wanted(name))
        report(name, milliseconds([&] { ok(ssm_cuda_layer_norm_forward(&norm, in, out, count, io, NULL), name); }),
               2.0 * n * e / BANDWIDTH / 1e6, 0, 0);
    snprintf(name, sizeof name, "layer_norm backward %s %zux%zu", type, count, dim);
    if (wanted(name))
        report(name, milliseconds([&] {
                   ok(ssm_cuda_layer_norm_backward(&norm, in, &g, count, io, room, NULL), name);
               }),
               4.0 * n * e / BANDWIDTH / 1e6, 0, 0);
    snprintf(name, sizeof name, "embedding %s %zux%zu of %zu", type, count, dim, words);
    if (wanted(name))
        report(name, milliseconds([&] {
                   ok(ssm_cuda_embedding_forward(&embedding, token, out, count, io, NULL), name);
               }),
               2.0 * n * e / BANDWIDTH / 1e6, 0, 0);
    snprintf(name, sizeof name, "embedding backward %s %zux%zu of %zu", type, count, dim, words);
    if (wanted(name))
        report(name, milliseconds([&] {
                   ok(ssm_cuda_embedding_backward(&embedding, token, in, dtable.data, count, io, room, NULL), name);
               }),
               n * (e + 8.0) / BANDWIDTH / 1e6, 0, 0);
    snprintf(name, sizeof name, "cross_entropy %s %zux%zu", type, count, words);
    if (wanted(name))
        report(name, milliseconds([&] {
                   ok(ssm_cuda_cross_entropy_forward(&loss, io, losses.data, losses.data + count, NULL), name);
               }),
               1.0 * count * words * e / BANDWIDTH / 1e6, 0, 0);
    snprintf(name, sizeof name, "cross_entropy backward %s %zux%zu", type, count, words);
    if (wanted(name))
        report(name, milliseconds([&] {
                   ok(ssm_cuda_cross_entropy_backward(
                          &loss, 1, ssm_rows_out_of(dlogits.data, (ptrdiff_t)words), io, room, NULL),
                      name);
               }),
               3.0 * count * words * e / BANDWIDTH / 1e6, 0, 0);
}

/* The rivals of bf16 products are cuBLAS's, which overwrites; bars are 400 TFLOP/s. */
static void ops(void)
{
    scans();
    linear(16384, 768, 3072, SSM_FORMAT_REAL);
    linear(16384, 1536, 768, SSM_FORMAT_REAL);
    linear(16384, 1536, 80, SSM_FORMAT_REAL);
    linear(4096, 4096, 4096, SSM_FORMAT_REAL);
    linear(16384, 768, 3072, SSM_FORMAT_BF16, 0.1120, 0.193);
    linear(16384, 1536, 768, SSM_FORMAT_BF16, 0.0542, 0.0966);
    linear(16384, 1536, 80, SSM_FORMAT_BF16, 0.0217, 0);
    linear(16384, 48, 1536, SSM_FORMAT_BF16, 0.0214, 0);
    linear(4096, 4096, 4096, SSM_FORMAT_BF16, 0.1705, 0);
    linear(2048, 768, 3072, SSM_FORMAT_BF16, 0.0190, 0);
    linear(512, 1536, 768, SSM_FORMAT_BF16, 0.0084, 0);
    linear(1, 768, 3072, SSM_FORMAT_BF16, 0.0073, 0);
    linear(1, 1536, 768, SSM_FORMAT_BF16, 0.0084, 0);
    linear(16, 768, 3072, SSM_FORMAT_BF16, 0.0073, 0);
    linear(1, 768, 50280, SSM_FORMAT_BF16, 0.0302, 0);
    rows(16384, 1536, SSM_FORMAT_REAL);
    rows(16384, 1536, SSM_FORMAT_BF16);
    conv(8, 1536, 2048, SSM_FORMAT_REAL, 0.095, 0.0592, 0.209, 0.1007);
    conv(8, 1536, 2048, SSM_FORMAT_BF16, 0.068, 0, 0.231, 0);
    ssd(8, 24, 2048, SSM_FORMAT_REAL, 0, 0, 0);
    ssd(8, 24, 2048, SSM_FORMAT_BF16, 0.584, 0.120, 2.67);
    ssd(1, 80, 8192, SSM_FORMAT_BF16, 1.15, 0, 4.04);
    ssd_step();
    training(8192, 768, 50280, SSM_FORMAT_BF16);
}
