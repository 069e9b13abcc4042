/* cuda_losses.h - tests of losses, means over time, LayerNorm and embedding on a GPU; part of test_cuda.cu. */

/* Whole numbers on both sides. */
struct int_list {
    std::vector<int> host;
    int *device;

    int_list() : device(NULL) {}
    ~int_list() { cudaFree(device); }
    void upload(void)
    {
        cuda_ok(cudaMalloc((void **)&device, host.size() * sizeof(int) + 1), "cudaMalloc");
        cuda_ok(cudaMemcpy(device, host.data(), host.size() * sizeof(int), cudaMemcpyHostToDevice), "numbers");
    }
};

/* count numbers below `below`, some of them negative; with few values most rows share one. */
static void draw(int_list *k, size_t count, size_t below)
{
    size_t i;
    for (i = 0; i < count; ++i) k->host.push_back(chance(15) ? -(int)pick(1, 9) : (int)pick(0, below - 1));
    k->upload();
}

static size_t loss_dim(void)
{
    return chance(60) ? pick(1, 200) : pick(1000, on_gpu ? 9000 : 1400);
}

static enum layout loss_layout(void)
{
    return chance(50) ? DENSE : PADDED;
}

/* Losses near zero are differences of large numbers: bounds beside are absolute. */
static void close_to(const tensor &x, double bound, const char *what)
{
    const std::vector<float> got = x.download();
    size_t i;
    for (i = 0; i < got.size(); ++i) {
        const double want = x.host[i];
        if (memcmp(&x.host[i], &got[i], 4) && !(fabs((double)got[i] - want) <= bound * (1 + fabs(want))))
            complain(what, got[i], want);
    }
}

static void losses_cross_entropy(void)
{
    int i;
    for (i = 0; i < 4 * rounds && trouble == 0; ++i) {
        const int half = i % 2;
        const ssm_format io = half ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
        const size_t dim = loss_dim(), rows = i == 3 ? 0 : pick(1, dim > 300 ? 12 : 300);
        const int shared = !half && chance(20) ? 2 : 0; /* bf16 would round after every row */
        const float dmean = uniform(0.5f, 2);
        tensor x, losses, mean, dx;
        int_list label;
        ssm_cross_entropy host, device;
        ssm_sizes need;
        memset(&host, 0, sizeof host);
        make(&x, half, 0, rows, dim, 0, loss_layout(), 0, chance(30) ? STEPS : NORMAL);
        make(&losses, 0, 0, 0, rows, 0, DENSE, 0, POISON);
        make(&mean, 0, 0, 0, 1, 0, DENSE, 0, POISON);
        make(&dx, half, 0, rows, dim, 0, loss_layout(), shared, UNIFORM);
        draw(&label, rows, dim);
        if (chance(10)) label.host.assign(rows, -1), label.upload();
        host.rows = rows;
        host.dim = dim;
        host.smoothing = chance(50) ? 0.0f : uniform(0, 1);
        device = host;
        host.x = rows_in(x, 0);
        device.x = rows_in(x, 1);
        host.label = label.host.data();
        device.label = label.device;
        tensor *const forward[] = {&losses, &mean}, *const backward[] = {&dx};
        const int with_mean = chance(80);
        ok(ssm_cross_entropy_forward(&host, losses.out(0).data, with_mean ? mean.out(0).data : NULL), "host forward");
        twice(
            [&] {
                ok(ssm_cuda_cross_entropy_forward(&device, io, losses.out(1).data,
                                                  with_mean ? mean.out(1).data : NULL, NULL),
                   "forward");
            },
            forward, 2, "forward: other bits");
        close_to(losses, 1e-6, "losses");
        close_to(mean, 1e-6, "mean");
        ok(ssm_cross_entropy_backward(&host, dmean, rows_out(dx, 0)), "host backward");
        ok(ssm_cuda_cross_entropy_sizes(&device, io, &need), "sizes");
        block work(need.work_backward);
        twice(
            [&] {
                ok(ssm_cuda_cross_entropy_backward(&device, dmean, rows_out(dx, 1), io, work.memory(), NULL),
                   "backward");
            },
            backward, 1, "backward: other bits");
        compare(dx, 1e-5, "dx");
        if (trouble)
            printf("     (rows %u dim %u bf16 %d smoothing %g)\n", (unsigned)rows, (unsigned)dim, half,
                   (double)host.smoothing);
    }
}

static void losses_mse(void)
{
    int i;
    for (i = 0; i < 4 * rounds && trouble == 0; ++i) {
        const int half = i % 2;
        const ssm_format io = half ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
        const size_t dim = loss_dim(), rows = pick(1, dim > 300 ? 12 : 300);
        const int shared = !half && chance(20) ? 2 : 0, one = chance(20) ? 2 : 0;
        const float dmean = uniform(0.5f, 2);
        tensor x, target, weight, losses, mean, dx;
        ssm_mse s[2];
        ssm_sizes need;
        int d;
        memset(s, 0, sizeof s);
        make(&x, half, 0, rows, dim, 0, loss_layout(), 0, NORMAL);
        make(&target, half, 0, rows, dim, 0, loss_layout(), one, NORMAL);
        if (chance(50)) make(&weight, half, 0, rows, dim, 0, loss_layout(), 0, POSITIVE);
        make(&losses, 0, 0, 0, rows, 0, DENSE, 0, POISON);
        make(&mean, 0, 0, 0, 1, 0, DENSE, 0, POISON);
        make(&dx, half, 0, rows, dim, 0, loss_layout(), shared, UNIFORM);
        if (!weight.host.empty() && chance(20)) {
            weight.host.assign(weight.host.size(), 0.0f);
            weight.upload();
        }
        const float beta = chance(50) ? 0.0f : uniform(0.1f, 1);
        for (d = 0; d < 2; ++d) {
            s[d].rows = rows;
            s[d].dim = dim;
            s[d].beta = beta;
            s[d].x = rows_in(x, d);
            s[d].target = rows_in(target, d);
            s[d].weight = rows_in(weight, d);
        }
        tensor *const forward[] = {&losses, &mean}, *const backward[] = {&dx};
        const int with_mean = chance(80);
        ok(ssm_mse_forward(&s[0], losses.out(0).data, with_mean ? mean.out(0).data : NULL), "host forward");
        ok(ssm_cuda_mse_sizes(&s[1], io, &need), "sizes");
        block work(need.work), back(need.work_backward);
        twice(
            [&] {
                ok(ssm_cuda_mse_forward(&s[1], io, losses.out(1).data, with_mean ? mean.out(1).data : NULL,
                                        work.memory(), NULL),
                   "forward");
            },
            forward, 2, "forward: other bits");
        compare(losses, 1e-5, "losses"); /* the host's rows are 16 long sums */
        compare(mean, 1e-5, "mean");
        ok(ssm_mse_backward(&s[0], dmean, rows_out(dx, 0)), "host backward");
        twice([&] { ok(ssm_cuda_mse_backward(&s[1], dmean, rows_out(dx, 1), io, back.memory(), NULL), "backward"); },
              backward, 1, "backward: other bits");
        compare(dx, 1e-5, "dx");
        if (trouble)
            printf("     (rows %u dim %u bf16 %d beta %g weight %d)\n", (unsigned)rows, (unsigned)dim, half,
                   (double)beta, !weight.host.empty());
    }
}

static void losses_mean(void)
{
    int i;
    for (i = 0; i < 4 * rounds && trouble == 0; ++i) {
        const int half = i % 2, packed = chance(50), shared = !half && chance(20) ? 2 : 0;
        const ssm_format io = half ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
        const size_t dim = pick(1, 300);
        tensor x, y, dy, dx;
        scan_case k; /* for its packed sequences */
        ssm_mean host, device;
        memset(&host, 0, sizeof host);
        k.s.batch = pick(1, 5);
        k.s.len = pick(0, 150);
        if (packed) scan_pack(&k);
        host.batch = k.s.batch;
        host.len = k.s.len;
        host.dim = dim;
        device = host;
        host.start = packed ? k.start.data() : NULL;
        device.start = k.device_start;
        const size_t rows = (packed ? 1 : host.batch) * host.len;
        make(&x, half, 0, rows + 1, dim, 0, loss_layout(), chance(10) ? 2 : 0, NORMAL);
        make(&y, half, 0, host.batch, dim, 0, loss_layout(), shared, POISON);
        make(&dy, half, 0, host.batch, dim, 0, loss_layout(), 0, NORMAL);
        make(&dx, half, 0, rows + 1, dim, 0, loss_layout(), shared, UNIFORM);
        tensor *const forward[] = {&y}, *const backward[] = {&dx};
        ok(ssm_mean_forward(&host, rows_in(x, 0), rows_out(y, 0)), "host forward");
        twice([&] { ok(ssm_cuda_mean_forward(&device, rows_in(x, 1), rows_out(y, 1), io, NULL), "forward"); }, forward,
              1, "forward: other bits");
        compare(y, half ? 1e-6 : 0, "y");
        ok(ssm_mean_backward(&host, rows_in(dy, 0), rows_out(dx, 0)), "host backward");
        twice([&] { ok(ssm_cuda_mean_backward(&device, rows_in(dy, 1), rows_out(dx, 1), io, NULL), "backward"); },
              backward, 1, "backward: other bits");
        compare(dx, half ? 1e-6 : 0, "dx");
        if (trouble)
            printf("     (batch %u len %u dim %u bf16 %d packed %d)\n", (unsigned)host.batch, (unsigned)host.len,
                   (unsigned)dim, half, packed);
    }
}

static void losses_layer_norm(void)
{
    int i;
    for (i = 0; i < 3 * rounds && trouble == 0; ++i) {
        const int half = i % 2, shared = i % 6 == 0 ? 2 : 0;
        const ssm_format io = half ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
        const size_t rows = pick(1, on_gpu ? 700 : 150), dim = pick(2, on_gpu ? 1600 : 200);
        tensor x, weight, bias, y, dy, dx, dweight, dbias;
        ssm_layer_norm n[2];
        ssm_layer_norm_grad g[2];
        ssm_sizes need, host_need;
        int d;
        memset(n, 0, sizeof n);
        make(&x, half, 0, rows, dim, 0, PADDED, 0, NORMAL);
        make(&weight, 0, 0, 0, dim, 0, loss_layout(), 0, UNIFORM);
        if (chance(70)) make(&bias, 0, 0, 0, dim, 0, DENSE, 0, UNIFORM);
        make(&y, half, 0, rows, dim, 0, PADDED, 0, POISON);
        make(&dy, half, 0, rows, dim, 0, DENSE, 0, UNIFORM);
        if (chance(90)) make(&dx, half, 0, rows, dim, 0, PADDED, shared, UNIFORM);
        if (chance(80)) make(&dweight, 0, 0, 0, dim, 0, DENSE, 0, UNIFORM);
        if (chance(80)) make(&dbias, 0, 0, 0, dim, 0, DENSE, 0, UNIFORM);
        for (d = 0; d < 2; ++d) {
            n[d].dim = dim;
            n[d].eps = i % 3 ? 0.0f : 1e-3f;
            n[d].weight = weight.in(d).data;
            n[d].bias = bias.in(d).data;
            g[d].dy = rows_in(dy, d);
            g[d].dx = rows_out(dx, d);
            g[d].dweight = dweight.out(d).data;
            g[d].dbias = dbias.out(d).data;
        }
        tensor *const forward[] = {&y}, *const backward[] = {&dx, &dweight, &dbias};
        ok(ssm_layer_norm_forward(&n[0], rows_in(x, 0), rows_out(y, 0), rows), "host forward");
        twice([&] { ok(ssm_cuda_layer_norm_forward(&n[1], rows_in(x, 1), rows_out(y, 1), rows, io, NULL), "forward"); },
              forward, 1, "forward: other bits");
        compare(y, 1e-6, "y");
        ok(ssm_layer_norm_sizes(&n[0], rows, &host_need), "host sizes");
        std::vector<unsigned char> room(host_need.work_backward);
        ok(ssm_layer_norm_backward(&n[0], rows_in(x, 0), &g[0], rows, ssm_memory_of(room.data(), room.size())),
           "host backward");
        ok(ssm_cuda_layer_norm_sizes(&n[1], rows, io, &need), "sizes");
        block work(need.work_backward);
        twice(
            [&] {
                ok(ssm_cuda_layer_norm_backward(&n[1], rows_in(x, 1), &g[1], rows, io, work.memory(), NULL),
                   "backward");
            },
            backward, 3, "backward: other bits");
        compare(dx, 1e-5, "dx");
        compare(dweight, 1e-5, "dweight");
        compare(dbias, 1e-5, "dbias");
        if (trouble) printf("     (rows %u dim %u bf16 %d)\n", (unsigned)rows, (unsigned)dim, half);
    }
}

static void losses_embedding(void)
{
    int i;
    for (i = 0; i < 2 * rounds && trouble == 0; ++i) {
        const int half = i % 2;
        const ssm_format io = half ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
        const size_t rows = pick(1, on_gpu ? 5000 : 700), dim = pick(1, on_gpu ? 700 : 40);
        const size_t count = i % 3 ? pick(1, 300) : pick(1, on_gpu ? 100000 : 3000);
        tensor weight, y, dy, dweight;
        int_list token;
        ssm_embedding host, device;
        ssm_sizes need;
        memset(&host, 0, sizeof host);
        make(&weight, half, 0, 0, count * dim, 0, DENSE, 0, UNIFORM);
        make(&y, half, 0, rows, dim, 0, loss_layout(), chance(10) ? 2 : 0, POISON);
        make(&dy, half, 0, rows, dim, 0, loss_layout(), chance(10) ? 2 : 0, UNIFORM);
        make(&dweight, 0, 0, 0, count * dim, 0, DENSE, 0, UNIFORM);
        draw(&token, rows, chance(20) ? 1 : count);
        host.count = count;
        host.dim = dim;
        device = host;
        host.weight = weight.in(0).data;
        device.weight = weight.in(1).data;
        tensor *const forward[] = {&y}, *const backward[] = {&dweight};
        ok(ssm_embedding_forward(&host, token.host.data(), rows_out(y, 0), rows), "host forward");
        twice([&] { ok(ssm_cuda_embedding_forward(&device, token.device, rows_out(y, 1), rows, io, NULL), "forward"); },
              forward, 1, "forward: other bits");
        compare(y, half ? 1e-6 : 0, "y");
        ok(ssm_embedding_backward(&host, token.host.data(), rows_in(dy, 0), dweight.out(0).data, rows),
           "host backward");
        ok(ssm_cuda_embedding_sizes(&device, rows, io, &need), "sizes");
        block work(need.work_backward);
        twice(
            [&] {
                ok(ssm_cuda_embedding_backward(&device, token.device, rows_in(dy, 1), dweight.out(1).data, rows, io,
                                               work.memory(), NULL),
                   "backward");
            },
            backward, 1, "backward: other bits");
        compare(dweight, 0, "dweight");
        if (trouble)
            printf("     (rows %u dim %u count %u bf16 %d)\n", (unsigned)rows, (unsigned)dim, (unsigned)count, half);
    }
}

static void losses_errors(void)
{
    const ssm_format io = SSM_FORMAT_REAL;
    const ssm_memory none = ssm_memory_of(NULL, 0);
    const ssm_rows_out nowhere = ssm_rows_out_of(NULL, 0);
    tensor x, y, out;
    int_list label;
    ssm_cross_entropy s;
    ssm_mse m;
    ssm_mean a;
    ssm_layer_norm n;
    ssm_layer_norm_grad g;
    ssm_embedding e;
    make(&x, 0, 0, 5, 7, 0, DENSE, 0, UNIFORM);
    make(&y, 0, 0, 5, 7, 0, DENSE, 0, POISON);
    make(&out, 0, 0, 0, 7, 0, DENSE, 0, POISON);
    draw(&label, 5, 7);
    memset(&s, 0, sizeof s);
    memset(&m, 0, sizeof m);
    memset(&a, 0, sizeof a);
    memset(&n, 0, sizeof n);
    memset(&e, 0, sizeof e);
    const ssm_rows in = rows_in(x, 1);
    const ssm_rows_out to = rows_out(y, 1);
    float *const losses = out.out(1).data;
    s.rows = m.rows = a.batch = 5;
    s.dim = m.dim = a.dim = n.dim = e.dim = 7;
    a.len = 1;
    e.count = 3;
    s.label = label.device;
    require(ssm_cuda_cross_entropy_forward(&s, io, losses, NULL, NULL) == SSM_ERR_NULL, "no logits");
    s.x = m.x = m.target = in;
    n.weight = e.weight = in.data;
    g.dy = in;
    g.dx = to;
    g.dweight = g.dbias = NULL;
    require(ssm_cuda_cross_entropy_forward(NULL, io, losses, NULL, NULL) == SSM_ERR_NULL, "no problem");
    require(ssm_cuda_cross_entropy_forward(&s, io, NULL, NULL, NULL) == SSM_ERR_NULL, "no losses");
    require(ssm_cuda_cross_entropy_forward(&s, SSM_FORMAT_INT8, losses, NULL, NULL) == SSM_ERR_CONFIG, "int8");
    require(ssm_cuda_cross_entropy_backward(&s, 1, to, io, none, NULL) == SSM_ERR_NULL, "no workspace");
    require(ssm_cuda_cross_entropy_backward(&s, 1, to, io, ssm_memory_of(losses, 1), NULL) == SSM_ERR_MEMORY, "a byte");
    require(ssm_cuda_cross_entropy_backward(&s, 1, nowhere, io, none, NULL) == SSM_ERR_NULL, "no dx");
    s.smoothing = 2;
    require(ssm_cuda_cross_entropy_forward(&s, io, losses, NULL, NULL) == SSM_ERR_CONFIG, "smoothing");
    require(ssm_cuda_mse_forward(&m, io, losses, NULL, none, NULL) == SSM_ERR_NULL, "mse: no workspace");
    require(ssm_cuda_mse_backward(&m, 1, to, io, ssm_memory_of(losses, 1), NULL) == SSM_ERR_MEMORY, "mse: a byte");
    m.beta = -1;
    require(ssm_cuda_mse_forward(&m, io, losses, NULL, none, NULL) == SSM_ERR_CONFIG, "mse: beta");
    require(ssm_cuda_mean_forward(&a, in, nowhere, io, NULL) == SSM_ERR_NULL, "mean: no y");
    require(ssm_cuda_mean_backward(&a, in, nowhere, io, NULL) == SSM_ERR_NULL, "mean: no dx");
    require(ssm_cuda_layer_norm_forward(&n, in, nowhere, 5, io, NULL) == SSM_ERR_NULL, "norm: no y");
    require(ssm_cuda_layer_norm_backward(&n, in, NULL, 5, io, none, NULL) == SSM_ERR_NULL, "norm: no gradients");
    require(ssm_cuda_layer_norm_backward(&n, in, &g, 5, io, ssm_memory_of(losses, 1), NULL) == SSM_ERR_MEMORY,
            "norm: a byte");
    require(ssm_cuda_embedding_forward(&e, NULL, to, 5, io, NULL) == SSM_ERR_NULL, "embedding: no tokens");
    require(ssm_cuda_embedding_backward(&e, label.device, in, losses, 5, io, ssm_memory_of(losses, 1), NULL) ==
                SSM_ERR_MEMORY,
            "embedding: a byte");
    a.dim = n.dim = e.count = 0;
    require(ssm_cuda_mean_forward(&a, in, to, io, NULL) == SSM_ERR_CONFIG, "mean: no channels");
    require(ssm_cuda_layer_norm_forward(&n, in, to, 5, io, NULL) == SSM_ERR_CONFIG, "norm: no channels");
    require(ssm_cuda_embedding_forward(&e, label.device, to, 5, io, NULL) == SSM_ERR_CONFIG, "embedding: no tokens");
    require(same_bits(y.download(), y.start) && same_bits(out.download(), out.start), "an error wrote");
}
