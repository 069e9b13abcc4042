/* cuda_lti.h - tests of the linear scan and the S5 scan on a GPU; part of test_cuda.cu. */

/* A tensor of (re, im) pairs: that of `make` with two floats for each element. `factor` on all. */
static void make_pairs(tensor *x, int half, size_t batch, size_t time, size_t chan, size_t state, enum layout layout,
                       int shared, enum fill fill, float factor)
{
    size_t i;
    make(x, half, batch, time, chan, state, layout, shared, fill);
    cudaFree(x->device);
    x->device = NULL;
    x->host.resize(2 * x->host.size());
    for (i = 0; i < x->host.size(); ++i) {
        x->host[i] = i < GUARD || i >= x->host.size() - GUARD ? 12345.0f : value(fill) * factor;
        if (half) x->host[i] = to_bf16(x->host[i]);
    }
    x->base *= 2;
    x->view.batch *= 2;
    x->view.time *= 2;
    x->view.chan *= 2;
    x->view.state *= 2;
    x->upload();
}

/* Real, or pairs. */
static void make_values(tensor *x, int pairs, int half, size_t batch, size_t time, size_t chan, size_t state,
                        enum layout layout, int shared, enum fill fill)
{
    if (pairs) make_pairs(x, half, batch, time, chan, state, layout, shared, fill, 1);
    else make(x, half, batch, time, chan, state, layout, shared, fill);
}

/* Offsets of packed sequences, some of them empty, with rows that belong to none before and behind; returns the rows.
 */
struct packing {
    std::vector<size_t> host;
    size_t *device;

    packing() : device(NULL) {}
    ~packing() { cudaFree(device); }
    packing(const packing &) = delete;

    size_t make_for(size_t batch)
    {
        size_t i, at = pick(0, 3);
        for (i = 0; i <= batch; ++i) {
            host.push_back(at);
            if (i < batch) at += chance(20) ? 0 : pick(1, 80);
        }
        cuda_ok(cudaMalloc((void **)&device, host.size() * sizeof(size_t)), "cudaMalloc");
        cuda_ok(cudaMemcpy(device, host.data(), host.size() * sizeof(size_t), cudaMemcpyHostToDevice), "start");
        return at + pick(0, 3);
    }

    const size_t *at(int of_device) const { return host.empty() ? NULL : of_device ? device : host.data(); }
};

/* --- linear scan --- */
struct line_case {
    ssm_linear_scan s;
    ssm_format io;
    packing start;
    tensor a, b, h0, h_last, h, dh, dh_last, da, db, dh0;

    line_case() { memset(&s, 0, sizeof s); }

    ssm_linear_scan problem(int device) const
    {
        ssm_linear_scan r = s;
        r.start = start.at(device);
        r.a = a.in(device);
        r.b = b.in(device);
        r.h0 = h0.in(device);
        r.h_last = h_last.out(device);
        r.h = h.out(device);
        return r;
    }

    ssm_linear_scan_grad grad(int device) const
    {
        ssm_linear_scan_grad g;
        g.dh = dh.in(device);
        g.dh_last = dh_last.in(device);
        g.da = da.out(device);
        g.db = db.out(device);
        g.dh0 = dh0.out(device);
        return g;
    }
};

static void line_fill(line_case *k, int fast)
{
    const ssm_linear_scan *s = &k->s;
    const int half = k->io == SSM_FORMAT_BF16, pairs = s->complex_values;
    const size_t b = k->start.host.empty() ? s->batch : 0, t = s->len, c = s->dim;
    const enum layout L = fast ? DENSE : (enum layout)pick(0, LAYOUTS - 1);
    const int share = !fast && chance(30) ? (int)(1u << pick(0, 2)) : 0;
    make_values(&k->a, pairs, half, b, t, c, 0, L, share, UNIFORM);
    if (pairs) make_pairs(&k->a, half, b, t, c, 0, L, share, UNIFORM, 0.7f);
    make_values(&k->b, pairs, half, b, t, c, 0, fast || chance(50) ? L : DENSE, 0, UNIFORM);
    if (chance(70)) make_values(&k->h0, pairs, 0, s->batch, 0, c, 0, DENSE, 0, UNIFORM);
    if (chance(70)) make_values(&k->h_last, pairs, 0, s->batch, 0, c, 0, DENSE, 0, POISON);
    make_values(&k->h, pairs, half, b, t, c, 0, L, 0, POISON);
    make_values(&k->dh, pairs, half, b, t, c, 0, L, 0, UNIFORM);
    if (chance(60)) make_values(&k->dh_last, pairs, 0, s->batch, 0, c, 0, DENSE, 0, UNIFORM);
    if (chance(80)) make_values(&k->da, pairs, half, b, t, c, 0, L, share, UNIFORM);
    if (chance(80)) make_values(&k->db, pairs, half, b, t, c, 0, L, !fast && chance(30) ? 2 : 0, UNIFORM);
    if (chance(80)) make_values(&k->dh0, pairs, 0, s->batch, 0, c, 0, DENSE, !fast && chance(20) ? 1 : 0, UNIFORM);
}

static void line_check(line_case *k)
{
    ssm_linear_scan host = k->problem(0), device = k->problem(1);
    ssm_linear_scan_grad host_grad = k->grad(0), device_grad = k->grad(1);
    tensor *const forward[] = {&k->h, &k->h_last};
    tensor *const backward[] = {&k->da, &k->db, &k->dh0};
    const char *const what[] = {"da", "db", "dh0"};
    ssm_sizes need;
    size_t i;
    host.scan = SSM_SCAN_SEQUENTIAL;
    ok(ssm_cuda_linear_scan_sizes(&device, k->io, &need), "sizes");
    ok(ssm_linear_scan_forward(&host, ssm_memory_of(NULL, 0)), "host forward");
    {
        block room(need.work);
        twice([&] { ok(ssm_cuda_linear_scan_forward(&device, k->io, room.memory(), NULL), "forward"); }, forward, 2,
              "forward: other bits the second time");
        compare(k->h, 1e-6, "h");
        compare(k->h_last, 1e-6, "h_last");
    }
    if (k->h.half) { /* backward reads h as it was rounded */
        const std::vector<float> rounded = k->h.download();
        std::copy(rounded.begin(), rounded.end(), k->h.host.begin());
    }
    ok(ssm_linear_scan_backward(&host, &host_grad), "host backward");
    {
        block room(need.work_backward);
        twice([&] { ok(ssm_cuda_linear_scan_backward(&device, &device_grad, k->io, room.memory(), NULL), "backward"); },
              backward, 3, "backward: other bits the second time");
        for (i = 0; i < 3; ++i)
            if (!backward[i]->host.empty()) compare(*backward[i], 1e-5, what[i]);
    }
    if (trouble)
        printf("     (batch %u len %u dim %u complex %d reverse %d packed %d bf16 %d)\n", (unsigned)k->s.batch,
               (unsigned)k->s.len, (unsigned)k->s.dim, k->s.complex_values, k->s.reverse, !k->start.host.empty(),
               k->io == SSM_FORMAT_BF16);
}

static void line_shape(line_case *k, int round, int fast)
{
    k->io = round % 3 == 2 ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
    k->s.complex_values = chance(50);
    k->s.reverse = chance(40);
    k->s.batch = pick(1, 3);
    k->s.dim = fast ? 2 * pick(1, 20) : pick(1, on_gpu ? 300 : 40);
    k->s.len = on_gpu ? (chance(50) ? pick(1, 100) : pick(1, 3000)) : pick(1, 200);
}

static void line_random(void)
{
    int i;
    for (i = 0; i < 3 * rounds && trouble == 0; ++i) {
        line_case k;
        line_shape(&k, i, i % 2);
        if (i % 4 == 3) k.s.len = k.start.make_for(k.s.batch = pick(1, 6));
        line_fill(&k, i % 2);
        line_check(&k);
    }
}

/* Long enough for time to be cut. */
static void line_chunks(void)
{
    int i;
    for (i = 0; i < (on_gpu ? rounds : 4) && trouble == 0; ++i) {
        line_case k;
        line_shape(&k, i / 2, i % 2);
        k.s.batch = 1;
        k.s.dim = 2 * pick(1, 10);
        k.s.len = on_gpu ? pick(512, 20000) : pick(512, 800);
        line_fill(&k, i % 2);
        line_check(&k);
    }
}

/* The elements of `from` in the layout of `to`, which has their extents. */
static void line_copy(const tensor &from, tensor *to, size_t batch, size_t len, size_t dim, size_t parts)
{
    size_t b, t, i;
    for (b = 0; b < batch; ++b)
        for (t = 0; t < len; ++t)
            for (i = 0; i < dim * parts; ++i) {
                const size_t c = i / parts, part = i % parts;
                const ssm_in f = from.view, g = to->view;
                const ptrdiff_t at = (ptrdiff_t)b * f.batch + (ptrdiff_t)t * f.time + (ptrdiff_t)c * f.chan;
                const ptrdiff_t put = (ptrdiff_t)b * g.batch + (ptrdiff_t)t * g.time + (ptrdiff_t)c * g.chan;
                to->host[to->base + (size_t)put + part] = from.host[from.base + (size_t)at + part];
            }
    to->upload();
}

/* Dense, in other layouts and in place: the same bits. */
static void line_layouts(void)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        line_case k;
        ssm_linear_scan s;
        ssm_sizes need;
        tensor a;
        line_shape(&k, i, 1);
        if (i % 2) k.s.batch = 1;
        if (i % 2) k.s.len += 512;
        const int pairs = k.s.complex_values;
        line_fill(&k, 1);
        make_values(&a, pairs, k.a.half, k.s.batch, k.s.len, k.s.dim, 0, TRANSPOSED, 0, UNIFORM);
        line_copy(k.a, &a, k.s.batch, k.s.len, k.s.dim, pairs ? 2 : 1);
        s = k.problem(1);
        ok(ssm_cuda_linear_scan_sizes(&s, k.io, &need), "sizes");
        block work(need.work);
        ok(ssm_cuda_linear_scan_forward(&s, k.io, work.memory(), NULL), "dense");
        const std::vector<float> dense = k.h.download();
        reset(&k.h);
        s.a = a.in(1);
        ok(ssm_cuda_linear_scan_forward(&s, k.io, work.memory(), NULL), "other layout");
        require(same_bits(dense, k.h.download()), "a layout changes bits");
        s.a = k.a.in(1);
        s.h = k.b.out(1);
        ok(ssm_cuda_linear_scan_forward(&s, k.io, work.memory(), NULL), "in place");
        const std::vector<float> place = k.b.download();
        require(memcmp(&dense[k.h.base], &place[k.b.base], k.s.batch * k.s.len * k.s.dim * (pairs ? 8 : 4)) == 0,
                "other bits in place");
    }
}

/* States in a pool, padding sequences. */
static void line_slots(void)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        line_case k;
        ssm_linear_scan host, device;
        ssm_sizes need;
        line_shape(&k, i, i % 2);
        k.s.batch = pick(1, 9);
        if (i % 4 == 3) k.s.len = k.start.make_for(k.s.batch);
        line_fill(&k, i % 2);
        const slot_list slots(k.s.batch);
        make_values(&k.h_last, k.s.complex_values, 0, k.s.batch + 2, 0, k.s.dim, 0, DENSE, 0, UNIFORM);
        host = k.problem(0);
        device = k.problem(1);
        host.slot = slots.host.data();
        device.slot = slots.device;
        host.h0 = k.h_last.in(0);
        device.h0 = k.h_last.in(1);
        host.scan = SSM_SCAN_SEQUENTIAL;
        ok(ssm_cuda_linear_scan_sizes(&device, k.io, &need), "sizes");
        block room(need.work);
        ok(ssm_linear_scan_forward(&host, ssm_memory_of(NULL, 0)), "host forward");
        tensor *const outputs[] = {&k.h, &k.h_last};
        twice([&] { ok(ssm_cuda_linear_scan_forward(&device, k.io, room.memory(), NULL), "with slots"); }, outputs, 2,
              "slots: other bits the second time");
        compare(k.h, 1e-6, "h");
        compare(k.h_last, 1e-6, "h_last");
    }
}

static void line_errors(void)
{
    line_case k;
    ssm_linear_scan s;
    ssm_linear_scan_grad g;
    ssm_sizes need;
    const ssm_memory none = ssm_memory_of(NULL, 0);
    ptrdiff_t *slot = NULL;
    line_shape(&k, 0, 1);
    k.s.batch = 1;
    k.s.dim = 4;
    k.s.len = 600;
    line_fill(&k, 1);
    s = k.problem(1);
    g = k.grad(1);
    ok(ssm_cuda_linear_scan_sizes(&s, k.io, &need), "sizes");
    block work(need.work_backward);
    require(ssm_cuda_linear_scan_sizes(NULL, k.io, &need) == SSM_ERR_NULL, "no problem");
    require(ssm_cuda_linear_scan_forward(NULL, k.io, none, NULL) == SSM_ERR_NULL, "no problem");
    require(ssm_cuda_linear_scan_forward(&s, k.io, none, NULL) == SSM_ERR_NULL, "no workspace");
    require(ssm_cuda_linear_scan_forward(&s, k.io, ssm_memory_of(work.data, need.work - 1), NULL) == SSM_ERR_MEMORY,
            "a byte less");
    require(ssm_cuda_linear_scan_forward(&s, SSM_FORMAT_INT8, work.memory(), NULL) == SSM_ERR_CONFIG, "int8");
    require(ssm_cuda_linear_scan_backward(&s, NULL, k.io, work.memory(), NULL) == SSM_ERR_NULL, "no gradients");
    require(ssm_cuda_linear_scan_backward(&s, &g, k.io, ssm_memory_of(work.data, 1), NULL) == SSM_ERR_MEMORY,
            "backward in a byte");
    cuda_ok(cudaMalloc((void **)&slot, sizeof *slot), "cudaMalloc");
    s.slot = slot;
    require(ssm_cuda_linear_scan_backward(&s, &g, k.io, work.memory(), NULL) == SSM_ERR_UNSUPPORTED, "slots");
    s.slot = NULL;
    cudaFree(slot);
    s.dim = 0;
    require(ssm_cuda_linear_scan_forward(&s, k.io, work.memory(), NULL) == SSM_ERR_CONFIG, "no channel");
    s.dim = 4;
    s.a.data = NULL;
    require(ssm_cuda_linear_scan_forward(&s, k.io, work.memory(), NULL) == SSM_ERR_NULL, "no a");
    require(same_bits(k.h.download(), k.h.start), "an error wrote");
}

/* --- S5 --- */
struct s5_case {
    ssm_s5_scan s;
    ssm_format io;
    packing start;
    tensor u, delta, delta_A, A, B, C, D, h0, h_last, y;
    tensor dy, dh_last, du, ddelta, ddelta_A, dA, dB, dC, dD, dh0;

    s5_case() { memset(&s, 0, sizeof s); }

    ssm_s5_scan problem(int device) const
    {
        ssm_s5_scan r = s;
        r.start = start.at(device);
        r.u = u.in(device);
        r.delta = delta.in(device);
        r.delta_A = delta_A.in(device);
        r.A = A.in(device);
        r.B = B.in(device);
        r.C = C.in(device);
        r.D = D.in(device);
        r.h0 = h0.in(device);
        r.h_last = h_last.out(device);
        r.y = y.out(device);
        return r;
    }

    ssm_s5_scan_grad grad(int device) const
    {
        ssm_s5_scan_grad g;
        g.dy = dy.in(device);
        g.dh_last = dh_last.in(device);
        g.du = du.out(device);
        g.ddelta = ddelta.out(device);
        g.ddelta_A = ddelta_A.out(device);
        g.dA = dA.out(device);
        g.dB = dB.out(device);
        g.dC = dC.out(device);
        g.dD = dD.out(device);
        g.dh0 = dh0.out(device);
        return g;
    }
};

static void s5_fill(s5_case *k, int fast)
{
    const ssm_s5_scan *s = &k->s;
    const int half = k->io == SSM_FORMAT_BF16, in = s->complex_input, out = s->complex_output;
    const size_t b = k->start.host.empty() ? s->batch : 0, t = s->len, c = s->dim, N = s->d_state;
    const enum layout L = fast ? DENSE : (enum layout)pick(0, LAYOUTS - 1);
    const enum layout M = !fast && chance(40) ? TRANSPOSED : DENSE;
    const int share = !fast && chance(40) ? (int)(1u << pick(0, 1)) : 0;
    make_values(&k->u, in, half, b, t, c, 0, L, 0, UNIFORM);
    make(&k->delta, half, b, t, 0, N, L, share, POSITIVE);
    if (chance(40)) make(&k->delta_A, half, b, t, 0, N, L, share, POSITIVE);
    make_pairs(&k->A, 0, 0, 0, 0, N, DENSE, 0, NEGATIVE, 1);
    make_pairs(&k->B, 0, 0, 0, c, N, M, 0, UNIFORM, 1);
    make_pairs(&k->C, 0, 0, 0, c, N, M, 0, UNIFORM, 1);
    if (chance(60)) make(&k->D, 0, 0, 0, c, 0, DENSE, 0, UNIFORM);
    if (chance(70)) make_pairs(&k->h0, 0, s->batch, 0, 0, N, DENSE, 0, UNIFORM, 1);
    if (chance(70)) make_pairs(&k->h_last, 0, s->batch, 0, 0, N, DENSE, 0, POISON, 1);
    make_values(&k->y, out, half, b, t, c, 0, L, 0, POISON);
    make_values(&k->dy, out, half, b, t, c, 0, L, 0, UNIFORM);
    if (chance(60)) make_pairs(&k->dh_last, 0, s->batch, 0, 0, N, DENSE, 0, UNIFORM, 1);
    if (chance(80)) make_values(&k->du, in, half, b, t, c, 0, L, 0, UNIFORM);
    if (chance(80)) make(&k->ddelta, half, b, t, 0, N, L, share, UNIFORM);
    if (chance(80)) make(&k->ddelta_A, half, b, t, 0, N, L, share, UNIFORM);
    if (chance(80)) make_pairs(&k->dA, 0, 0, 0, 0, N, DENSE, 0, UNIFORM, 1);
    if (chance(80)) make_pairs(&k->dB, 0, 0, 0, c, N, M, 0, UNIFORM, 1);
    if (chance(80)) make_pairs(&k->dC, 0, 0, 0, c, N, M, 0, UNIFORM, 1);
    if (chance(80)) make(&k->dD, 0, 0, 0, c, 0, DENSE, 0, UNIFORM);
    if (chance(80)) make_pairs(&k->dh0, 0, s->batch, 0, 0, N, DENSE, 0, UNIFORM, 1);
}

static void s5_say(const s5_case &k)
{
    if (trouble)
        printf("     (batch %u len %u dim %u d_state %u disc %d complex %d %d conj %d packed %d bf16 %d delta %ld "
               "delta_A %d D %d)\n",
               (unsigned)k.s.batch, (unsigned)k.s.len, (unsigned)k.s.dim, (unsigned)k.s.d_state, (int)k.s.disc,
               k.s.complex_input, k.s.complex_output, k.s.conj_sym, !k.start.host.empty(), k.io == SSM_FORMAT_BF16,
               (long)k.delta.view.time, !k.delta_A.host.empty(), !k.D.host.empty());
}

static void s5_check(s5_case *k)
{
    const ssm_s5_scan host = k->problem(0), device = k->problem(1);
    const ssm_s5_scan_grad host_grad = k->grad(0), device_grad = k->grad(1);
    tensor *const forward[] = {&k->y, &k->h_last};
    tensor *const backward[] = {&k->du, &k->ddelta, &k->ddelta_A, &k->dA, &k->dB, &k->dC, &k->dD, &k->dh0};
    const char *const what[] = {"du", "ddelta", "ddelta_A", "dA", "dB", "dC", "dD", "dh0"};
    ssm_sizes need, host_need;
    size_t i;
    ok(ssm_s5_scan_sizes(&host, &host_need), "host sizes");
    ok(ssm_cuda_s5_scan_sizes(&device, k->io, &need), "sizes");
    std::vector<unsigned char> work(host_need.work + host_need.work_backward + 1);
    ok(ssm_s5_scan_forward(&host, ssm_memory_of(work.data(), work.size())), "host forward");
    {
        block room(need.work);
        twice([&] { ok(ssm_cuda_s5_scan_forward(&device, k->io, room.memory(), NULL), "forward"); }, forward, 2,
              "forward: other bits the second time");
        compare(k->y, 2e-6, "y");
        compare(k->h_last, 2e-6, "h_last");
    }
    ok(ssm_s5_scan_backward(&host, &host_grad, ssm_memory_of(work.data(), work.size())), "host backward");
    {
        block room(need.work_backward);
        twice([&] { ok(ssm_cuda_s5_scan_backward(&device, &device_grad, k->io, room.memory(), NULL), "backward"); },
              backward, 8, "backward: other bits the second time");
        for (i = 0; i < 8; ++i)
            if (!backward[i]->host.empty()) compare(*backward[i], i >= 3 && i < 7 ? 3e-5 : 1e-5, what[i]);
    }
    s5_say(*k);
}

static void s5_shape(s5_case *k, int round, int fast)
{
    static const ssm_disc discs[] = {SSM_DISC_DEFAULT, SSM_DISC_ZOH, SSM_DISC_EULER, SSM_DISC_BILINEAR, SSM_DISC_DIRAC};
    k->io = round % 3 == 2 ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
    k->s.disc = discs[pick(0, 4)];
    k->s.complex_input = chance(40);
    k->s.complex_output = chance(40);
    k->s.conj_sym = !k->s.complex_output && chance(50);
    k->s.batch = pick(1, 3);
    k->s.dim = pick(1, on_gpu ? 70 : 9);
    k->s.d_state = fast ? 2 * pick(1, 12) : pick(1, on_gpu ? 70 : 20);
    k->s.len = on_gpu ? (chance(50) ? pick(1, 100) : pick(1, 2000)) : pick(1, 150);
}

static void s5_random(void)
{
    int i;
    for (i = 0; i < 3 * rounds && trouble == 0; ++i) {
        s5_case k;
        s5_shape(&k, i, i % 2);
        if (i % 4 == 3) k.s.len = k.start.make_for(k.s.batch = pick(1, 6));
        s5_fill(&k, i % 2);
        s5_check(&k);
    }
}

/* Long enough for time to be cut. */
static void s5_chunks(void)
{
    int i;
    for (i = 0; i < (on_gpu ? rounds : 3) && trouble == 0; ++i) {
        s5_case k;
        s5_shape(&k, i, i % 2);
        k.s.batch = 1;
        k.s.len = on_gpu ? pick(512, 20000) : pick(512, 700);
        s5_fill(&k, i % 2);
        s5_check(&k);
    }
}

/* Steps of a stream: the bits of forward. */
static void s5_step(void)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        s5_case k;
        ssm_s5_scan s;
        ssm_sizes need;
        size_t t, v;
        s5_shape(&k, i, i % 2);
        k.s.len = pick(1, 20);
        s5_fill(&k, i % 2);
        tensor h_last;
        make_pairs(&h_last, 0, k.s.batch, 0, 0, k.s.d_state, DENSE, 0, UNIFORM, 1);
        make_pairs(&k.h_last, 0, k.s.batch, 0, 0, k.s.d_state, DENSE, 0, POISON, 1);
        s = k.problem(1);
        s.h0 = h_last.in(1);
        ok(ssm_cuda_s5_scan_sizes(&s, k.io, &need), "sizes");
        block work(need.work), step(need.work_step);
        ok(ssm_cuda_s5_scan_forward(&s, k.io, work.memory(), NULL), "forward");
        const std::vector<float> whole = k.y.download(), last = k.h_last.download();
        reset(&k.y);
        s.h_last = h_last.out(1);
        s.len = 1;
        s.h0.data = NULL;
        for (t = 0; t < k.s.len; ++t) {
            ssm_in *const views[] = {&s.u, &s.delta, &s.delta_A};
            const size_t size = k.io == SSM_FORMAT_BF16 ? 2 : 4;
            ok(ssm_cuda_s5_scan_step(&s, k.io, step.memory(), NULL), "step");
            for (v = 0; v < 3; ++v)
                if (views[v]->data)
                    views[v]->data = (const float *)((uintptr_t)views[v]->data + (size_t)views[v]->time * size);
            s.y.data = (float *)((uintptr_t)s.y.data + (size_t)s.y.time * size);
        }
        require(same_bits(whole, k.y.download()), "steps give other outputs than forward");
        require(memcmp(last.data() + k.h_last.base, h_last.download().data() + h_last.base,
                       k.s.batch * k.s.d_state * 8) == 0,
                "steps leave another state than forward");
        s5_say(k);
    }
}

/* States in a pool, padding sequences. */
static void s5_slots(void)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        const int packed = i % 4 == 3, step = !packed && i % 2;
        s5_case k;
        ssm_s5_scan host, device;
        ssm_sizes need, host_need;
        s5_shape(&k, i, chance(50));
        k.s.batch = pick(1, 9);
        if (step) k.s.len = 1;
        if (packed) k.s.len = k.start.make_for(k.s.batch);
        s5_fill(&k, chance(50));
        const slot_list slots(k.s.batch);
        make_pairs(&k.h_last, 0, k.s.batch + 2, 0, 0, k.s.d_state, DENSE, 0, UNIFORM, 1);
        host = k.problem(0);
        device = k.problem(1);
        host.slot = slots.host.data();
        device.slot = slots.device;
        host.h0 = k.h_last.in(0);
        device.h0 = k.h_last.in(1);
        ok(ssm_s5_scan_sizes(&host, &host_need), "host sizes");
        ok(ssm_cuda_s5_scan_sizes(&device, k.io, &need), "sizes");
        std::vector<unsigned char> work(host_need.work + 1);
        block room(step ? need.work_step : need.work);
        ok(ssm_s5_scan_forward(&host, ssm_memory_of(work.data(), work.size())), "host forward");
        tensor *const outputs[] = {&k.y, &k.h_last};
        twice(
            [&] {
                ok(step ? ssm_cuda_s5_scan_step(&device, k.io, room.memory(), NULL)
                        : ssm_cuda_s5_scan_forward(&device, k.io, room.memory(), NULL),
                   "with slots");
            },
            outputs, 2, "slots: other bits the second time");
        compare(k.y, 2e-6, "y");
        compare(k.h_last, 2e-6, "h_last");
        s5_say(k);
    }
}

static void s5_errors(void)
{
    s5_case k;
    ssm_s5_scan s;
    ssm_s5_scan_grad g;
    ssm_sizes need;
    const ssm_memory none = ssm_memory_of(NULL, 0);
    s5_shape(&k, 0, 1);
    s5_fill(&k, 1);
    s = k.problem(1);
    g = k.grad(1);
    ok(ssm_cuda_s5_scan_sizes(&s, k.io, &need), "sizes");
    block work(need.work_backward);
    require(ssm_cuda_s5_scan_sizes(&s, k.io, NULL) == SSM_ERR_NULL, "no sizes");
    require(ssm_cuda_s5_scan_forward(NULL, k.io, none, NULL) == SSM_ERR_NULL, "no problem");
    require(ssm_cuda_s5_scan_forward(&s, k.io, none, NULL) == SSM_ERR_NULL, "no workspace");
    require(ssm_cuda_s5_scan_forward(&s, k.io, ssm_memory_of(work.data, need.work - 1), NULL) == SSM_ERR_MEMORY,
            "a byte less");
    require(ssm_cuda_s5_scan_forward(&s, SSM_FORMAT_INT8, work.memory(), NULL) == SSM_ERR_CONFIG, "int8");
    require(ssm_cuda_s5_scan_backward(&s, NULL, k.io, work.memory(), NULL) == SSM_ERR_NULL, "no gradients");
    require(ssm_cuda_s5_scan_backward(&s, &g, k.io, ssm_memory_of(work.data, need.work_backward - 1), NULL) ==
                SSM_ERR_MEMORY,
            "backward in a byte less");
    s.h_last.data = NULL;
    require(ssm_cuda_s5_scan_step(&s, k.io, work.memory(), NULL) == SSM_ERR_NULL, "step without state");
    s.disc = SSM_DISC_TRAPEZOID;
    require(ssm_cuda_s5_scan_forward(&s, k.io, work.memory(), NULL) == SSM_ERR_CONFIG, "trapezoid");
    s.disc = SSM_DISC_ZOH;
    s.y.data = NULL;
    require(ssm_cuda_s5_scan_forward(&s, k.io, work.memory(), NULL) == SSM_ERR_NULL, "no y");
    require(same_bits(k.y.download(), k.y.start), "an error wrote");
}
