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

static void linear(size_t rows, size_t in, size_t out, ssm_format io)
{
    const char *type = io == SSM_FORMAT_BF16 ? "bf16" : "f32";
    const double limit = 2.0 * rows * in * out / 66.9e12 * 1e3; /* 132 SMs x 128 FMA x 1.98 GHz */
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
               limit, 0, 0);
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

static void ops(void)
{
    linear(16384, 768, 3072, SSM_FORMAT_REAL);
    linear(16384, 1536, 768, SSM_FORMAT_REAL);
    linear(16384, 1536, 80, SSM_FORMAT_REAL);
    linear(4096, 4096, 4096, SSM_FORMAT_REAL);
    linear(16384, 768, 3072, SSM_FORMAT_BF16);
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
