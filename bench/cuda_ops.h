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

/* The rivals of bf16 products are cuBLAS's, which overwrites; bars are 400 TFLOP/s. */
static void ops(void)
{
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
}
