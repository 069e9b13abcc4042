/* cuda_ssd.h - tests of the scan of Mamba-2 on a GPU; part of test_cuda.cu. */

/* A problem: every tensor, on both sides. */
struct ssd_case {
    ssm_ssd s; /* the host's */
    ssm_format io;
    scan_case packed; /* for its `start` */
    tensor x, delta, A, B, C, D, z, bias, h0, h_last, h, y;
    tensor dy, dh_last, dx, ddelta, dA, dB, dC, dD, dz, dbias, dh0;

    ssd_case() : io(SSM_FORMAT_REAL) { memset(&s, 0, sizeof s); }

    ssm_ssd problem(int device) const
    {
        ssm_ssd r = s;
        r.start = packed.start.empty() ? NULL : device ? packed.device_start : packed.start.data();
        r.x = x.in(device);
        r.delta = delta.in(device);
        r.A = A.in(device);
        r.B = B.in(device);
        r.C = C.in(device);
        r.D = D.in(device);
        r.z = z.in(device);
        r.delta_bias = bias.in(device);
        r.h0 = h0.in(device);
        r.h_last = h_last.out(device);
        r.h = h.out(device);
        r.y = y.out(device);
        return r;
    }

    ssm_ssd_grad grad(int device) const
    {
        ssm_ssd_grad g;
        g.dy = dy.in(device);
        g.dh_last = dh_last.in(device);
        g.dx = dx.out(device);
        g.ddelta = ddelta.out(device);
        g.dA = dA.out(device);
        g.dB = dB.out(device);
        g.dC = dC.out(device);
        g.dD = dD.out(device);
        g.dz = dz.out(device);
        g.ddelta_bias = dbias.out(device);
        g.dh0 = dh0.out(device);
        return g;
    }
};

static enum layout ssd_layout(int any)
{
    return any ? (enum layout)pick(0, LAYOUTS - 1) : chance(50) ? DENSE : PADDED;
}

/* Every tensor at random; any: of any layout, some of them broadcast. Optional ones are there as often as not. */
static void ssd_fill(ssd_case *k, int any)
{
    ssm_ssd *s = &k->s;
    const int half = k->io == SSM_FORMAT_BF16, packed = !k->packed.start.empty();
    const size_t b = packed ? 0 : s->batch, t = s->len, H = s->heads, c = H * s->headdim, N = s->d_state;
    const int share = any && chance(20) ? (int)(1u << pick(0, 2)) : 0, share_d = any && chance(20) ? 4 : 0;
    const int constant = any && chance(20) ? 3 : 0;
    s->delta_softplus = chance(80);
    if (chance(30)) s->delta_min = 0.05f, s->delta_max = chance(70) ? 0.4f : 0.0f;
    s->D_has_hdim = chance(50);
    make(&k->x, half, b, t, c, 0, ssd_layout(any), 0, UNIFORM);
    make(&k->delta, half, b, t, H, 0, ssd_layout(any), share, s->delta_softplus ? STEPS : POSITIVE);
    make(&k->A, 0, 0, 0, H, 0, DENSE, share_d, NEGATIVE);
    make(&k->B, half, b, t, s->n_groups, N, ssd_layout(any), constant, UNIFORM);
    make(&k->C, half, b, t, s->n_groups, N, ssd_layout(any), constant, UNIFORM);
    if (chance(70)) make(&k->D, 0, 0, 0, s->D_has_hdim ? c : H, 0, DENSE, 0, UNIFORM);
    if (chance(60)) make(&k->z, half, b, t, c, 0, ssd_layout(any), 0, NORMAL);
    if (chance(70)) make(&k->bias, 0, 0, 0, H, 0, DENSE, share_d, s->delta_softplus ? UNIFORM : POSITIVE);
    if (chance(60)) make(&k->h0, 0, s->batch, 0, c, N, any && chance(50) ? TRANSPOSED : DENSE, 0, UNIFORM);
    if (chance(60)) make(&k->h_last, 0, s->batch, 0, c, N, any && chance(50) ? TRANSPOSED : DENSE, 0, POISON);
    if (any && chance(20)) make(&k->h, 0, b, t, c, N, DENSE, 0, POISON);
    make(&k->y, half, b, t, c, 0, ssd_layout(any), 0, POISON);
    make(&k->dy, half, b, t, c, 0, ssd_layout(any), 0, UNIFORM);
    if (chance(60)) make(&k->dh_last, 0, s->batch, 0, c, N, DENSE, 0, UNIFORM);
    if (chance(90)) make(&k->dx, half, b, t, c, 0, ssd_layout(any), 0, UNIFORM);
    if (chance(90)) make(&k->ddelta, half, b, t, H, 0, ssd_layout(any), share, UNIFORM);
    if (chance(90)) make(&k->dA, 0, 0, 0, H, 0, DENSE, share_d, UNIFORM);
    if (chance(90)) make(&k->dB, half, b, t, s->n_groups, N, DENSE, constant, UNIFORM);
    if (chance(90)) make(&k->dC, half, b, t, s->n_groups, N, DENSE, constant, UNIFORM);
    if (chance(90)) make(&k->dD, 0, 0, 0, s->D_has_hdim ? c : H, 0, DENSE, 0, UNIFORM);
    if (chance(90)) make(&k->dz, half, b, t, c, 0, ssd_layout(any), 0, UNIFORM);
    if (chance(90)) make(&k->dbias, 0, 0, 0, H, 0, DENSE, share_d, UNIFORM);
    if (chance(90)) make(&k->dh0, 0, s->batch, 0, c, N, DENSE, 0, UNIFORM);
}

static void ssd_pack(ssd_case *k)
{
    k->packed.s.batch = k->s.batch;
    scan_pack(&k->packed);
    k->s.len = k->packed.s.len;
}

/* Any shape; on the emulator a small one. */
static void ssd_shape(ssd_case *k, int round)
{
    k->io = round % 3 == 2 ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
    k->s.batch = pick(1, 3);
    k->s.n_groups = pick(1, 2);
    k->s.heads = k->s.n_groups * pick(1, 2);
    k->s.headdim = chance(40) ? 8 * pick(1, on_gpu ? 16 : 3) : pick(1, on_gpu ? 140 : 20);
    k->s.d_state = chance(40) ? (size_t)16 << pick(0, on_gpu ? 4 : 3) : pick(1, on_gpu ? 300 : 140);
    if (chance(10)) k->s.d_state = pick(257, on_gpu ? 700 : 300);
    k->s.scan = SSM_SCAN_SEQUENTIAL;
    k->s.len = on_gpu ? (chance(10) ? pick(1000, 3000) : pick(1, 200)) : chance(20) ? pick(64, 140) : pick(1, 40);
    if (!on_gpu && k->s.d_state > 64) k->s.len = pick(1, 20), k->s.batch = 1;
}

/* |error| and |reference| of what the host has written. */
struct distance {
    double error, norm;

    explicit distance(const tensor &x) : error(0), norm(0)
    {
        const std::vector<float> got = x.download();
        size_t i;
        for (i = 0; i < got.size(); ++i) {
            if (memcmp(&x.host[i], &x.start[i], 4) == 0) continue;
            error += ((double)got[i] - x.host[i]) * ((double)got[i] - x.host[i]);
            norm += (double)x.host[i] * x.host[i];
        }
        error = sqrt(error);
        norm = sqrt(norm);
    }
};

/* Gradients of a head are sums of `terms` numbers of either sign; where they cancel, their size says what rounding may
 * do. */
static void compare_sums(const tensor &x, double terms, const char *what)
{
    const distance d(x);
    if (!(d.error <= 3e-5 * (d.norm + 0.05 * sqrt(terms)))) complain(what, d.error / d.norm, 3e-5);
}

/* Forward and backward of a problem, on both sides. */
static void ssd_check(ssd_case *k)
{
    const char *const what[] = {"dx", "ddelta", "dA", "dB", "dC", "dD", "dz", "dbias", "dh0"};
    ssm_ssd host = k->problem(0), device = k->problem(1);
    ssm_ssd_grad host_grad = k->grad(0), device_grad = k->grad(1);
    tensor *const forward[] = {&k->y, &k->h_last, &k->h};
    tensor *const backward[] = {&k->dx, &k->ddelta, &k->dA, &k->dB, &k->dC, &k->dD, &k->dz, &k->dbias, &k->dh0};
    ssm_sizes need, host_need;
    const bool alike = host.B.time == 0 && host.C.time == 0; /* one sum C B in all steps: its signs may cancel */
    const double terms = (double)(k->packed.start.empty() ? k->s.batch : 1) * (double)(k->s.len * k->s.headdim * k->s.d_state);
    size_t i;
    ok(ssm_ssd_sizes(&host, &host_need), "host sizes");
    ok(ssm_cuda_ssd_sizes(&device, k->io, &need), "sizes");
    std::vector<unsigned char> work(
        (host_need.work > host_need.work_backward ? host_need.work : host_need.work_backward) + 1);
    ok(ssm_ssd_forward(&host, ssm_memory_of(work.data(), work.size())), "host forward");
    {
        block room(need.work);
        twice([&] { ok(ssm_cuda_ssd_forward(&device, k->io, room.memory(), NULL), "forward"); }, forward, 3,
              "forward: other bits the second time");
        compare(k->y, alike ? 1e-5 : 1e-6, "y");
        compare(k->h_last, 1e-6, "h_last");
        compare(k->h, 1e-6, "h");
    }
    ok(ssm_ssd_backward(&host, &host_grad, ssm_memory_of(work.data(), work.size())), "host backward");
    block room(need.work_backward);
    twice([&] { ok(ssm_cuda_ssd_backward(&device, &device_grad, k->io, room.memory(), NULL), "backward"); }, backward,
          9, "backward: other bits the second time");
    for (i = 0; i < 9; ++i) {
        if (backward[i]->host.empty()) continue;
        if (what[i][1] == 'A' || what[i][1] == 'D' || what[i][1] == 'b') {
            compare_sums(*backward[i], terms, what[i]);
            compare(*backward[i], 0.1, what[i]); /* that nothing else was written */
        } else {
            compare(*backward[i], 2e-5, what[i]);
        }
    }
    if (trouble)
        printf("     (batch %u len %u heads %u x %u d_state %u groups %u packed %d bf16 %d z %d)\n",
               (unsigned)k->s.batch, (unsigned)k->s.len, (unsigned)k->s.heads, (unsigned)k->s.headdim,
               (unsigned)k->s.d_state, (unsigned)k->s.n_groups, !k->packed.start.empty(), k->io == SSM_FORMAT_BF16,
               !k->z.host.empty());
}

static void ssd_random(void)
{
    int i;
    for (i = 0; i < 3 * rounds && trouble == 0; ++i) {
        ssd_case k;
        ssd_shape(&k, i);
        ssd_fill(&k, i % 2);
        ssd_check(&k);
    }
}

static void ssd_packed(void)
{
    int i;
    for (i = 0; i < 2 * rounds && trouble == 0; ++i) {
        ssd_case k;
        ssd_shape(&k, i);
        k.s.batch = pick(1, 6);
        if (!on_gpu) k.s.heads = k.s.n_groups, k.s.d_state = pick(1, 40);
        ssd_pack(&k);
        ssd_fill(&k, i % 2);
        ssd_check(&k);
    }
}

/* Steps of a stream: the bits of forward. */
static void ssd_step(void)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        ssd_case k;
        ssm_ssd s;
        ssm_sizes need;
        tensor state;
        size_t t, v;
        ssd_shape(&k, i);
        if (i == 0) k.s.d_state = 300;
        k.s.len = pick(1, 11);
        ssd_fill(&k, i % 2);
        make(&state, 0, k.s.batch, 0, k.s.heads * k.s.headdim, k.s.d_state, DENSE, 0, UNIFORM);
        make(&k.h_last, 0, k.s.batch, 0, k.s.heads * k.s.headdim, k.s.d_state, DENSE, 0, POISON);
        s = k.problem(1);
        s.h.data = NULL;
        s.h0 = state.in(1);
        ok(ssm_cuda_ssd_sizes(&s, k.io, &need), "sizes");
        block work(need.work);
        ok(ssm_cuda_ssd_forward(&s, k.io, work.memory(), NULL), "forward");
        const std::vector<float> whole = k.y.download(), last = k.h_last.download();
        reset(&k.y);
        s.h_last = state.out(1);
        s.len = 1;
        s.h0.data = NULL;
        for (t = 0; t < k.s.len; ++t) {
            ssm_in *const views[] = {&s.x, &s.delta, &s.B, &s.C, &s.z};
            const size_t size = k.io == SSM_FORMAT_BF16 ? 2 : 4;
            ok(ssm_cuda_ssd_step(&s, k.io, NULL), "step");
            for (v = 0; v < 5; ++v)
                if (views[v]->data)
                    views[v]->data = (const float *)((uintptr_t)views[v]->data + (size_t)views[v]->time * size);
            s.y.data = (float *)((uintptr_t)s.y.data + (size_t)s.y.time * size);
        }
        require(same_bits(whole, k.y.download()), "steps give other outputs than forward");
        require(memcmp(last.data() + k.h_last.base, state.download().data() + state.base,
                       k.s.batch * k.s.heads * k.s.headdim * k.s.d_state * 4) == 0,
                "steps leave another state than forward");
    }
}

/* Forward with slots, and step where a sequence is one row. */
static void ssd_slots(void)
{
    int i;
    for (i = 0; i < 2 * rounds && trouble == 0; ++i) {
        const int packed = i % 4 == 3, step = i % 2 == 0;
        ssd_case k;
        ssm_ssd host, device;
        ssm_sizes need, host_need;
        ssd_shape(&k, i);
        k.s.batch = pick(1, 9);
        if (!on_gpu) k.s.heads = k.s.n_groups, k.s.d_state = pick(1, 40);
        if (step) k.s.len = 1;
        if (packed) ssd_pack(&k);
        ssd_fill(&k, 1);
        const slot_list slots(k.s.batch);
        make(&k.h_last, 0, k.s.batch + 2, 0, k.s.heads * k.s.headdim, k.s.d_state, DENSE, 0, UNIFORM);
        host = k.problem(0);
        device = k.problem(1);
        host.slot = slots.host.data();
        device.slot = slots.device;
        host.h0 = k.h_last.in(0);
        device.h0 = k.h_last.in(1);
        ok(ssm_ssd_sizes(&host, &host_need), "host sizes");
        ok(ssm_cuda_ssd_sizes(&device, k.io, &need), "sizes");
        std::vector<unsigned char> work(host_need.work + 1);
        block room(need.work), back(need.work_backward);
        ok(ssm_ssd_forward(&host, ssm_memory_of(work.data(), work.size())), "host forward");
        tensor *const outputs[] = {&k.y, &k.h_last, &k.h};
        twice(
            [&] {
                ok(step ? ssm_cuda_ssd_step(&device, k.io, NULL)
                        : ssm_cuda_ssd_forward(&device, k.io, room.memory(), NULL),
                   "with slots");
            },
            outputs, 3, "slots: other bits the second time");
        compare(k.y, 1e-6, "y");
        compare(k.h_last, 1e-6, "h_last");
        compare(k.h, 1e-6, "h");
        const ssm_ssd_grad g = k.grad(1);
        require(ssm_cuda_ssd_backward(&device, &g, k.io, back.memory(), NULL) == SSM_ERR_UNSUPPORTED,
                "backward with slots");
    }
}

/* --- in chunks of time --- */
/* A shape and layouts that go to the matrix units; rows may have room behind them. */
static void ssd_chunk_shape(ssd_case *k)
{
    static const struct {
        size_t headdim, d_state;
    } shapes[] = {{64, 128}, {32, 64}, {64, 64}, {32, 128}, {128, 64}, {128, 128}};
    const size_t at = on_gpu ? pick(0, 5) : chance(60) ? 1 : pick(0, 5);
    k->io = SSM_FORMAT_BF16;
    k->s.headdim = shapes[at].headdim;
    k->s.d_state = shapes[at].d_state;
    k->s.batch = pick(1, on_gpu ? 4 : 2);
    k->s.n_groups = pick(1, 2);
    k->s.heads = k->s.n_groups * pick(1, on_gpu ? 40 : 2);
    k->s.len = chance(30) ? 64 * pick(1, 3) : pick(16, on_gpu ? 1000 : 150);
    k->s.scan = chance(50) ? SSM_SCAN_AUTO : chance(50) ? SSM_SCAN_CHUNKED : SSM_SCAN_BLELLOCH;
}

static void ssd_chunk_fill(ssd_case *k)
{
    const size_t b = k->packed.start.empty() ? k->s.batch : 0, t = k->s.len, c = k->s.heads * k->s.headdim;
    const size_t N = k->s.d_state, G = k->s.n_groups;
    ssd_fill(k, 0);
    make(&k->x, 1, b, t, c + 8 * pick(0, 2), 0, DENSE, 0, UNIFORM);
    make(&k->B, 1, b, t, G, N + 8 * pick(0, 2), DENSE, 0, UNIFORM);
    make(&k->C, 1, b, t, G, N + 8 * pick(0, 2), DENSE, 0, UNIFORM);
    if (!k->z.host.empty()) make(&k->z, 1, b, t, c + 8 * pick(0, 2), 0, DENSE, 0, NORMAL);
    make(&k->y, 1, b, t, c + 8 * pick(0, 2), 0, DENSE, 0, POISON);
}

/* |error| / |reference|, which has room for the roundings of products. */
static void compare_chunks(const tensor &x, double bound, const char *what)
{
    const distance d(x);
    if (!(d.error <= bound * d.norm + 1e-30)) complain(what, d.error / d.norm, bound);
    compare(x, 1, what); /* that nothing else was written */
}

static void ssd_chunk_check(ssd_case *k, const ssm_ssd &host, const ssm_ssd &device)
{
    tensor *const outputs[] = {&k->y, &k->h_last};
    ssm_sizes need, host_need;
    ok(ssm_ssd_sizes(&host, &host_need), "host sizes");
    ok(ssm_cuda_ssd_sizes(&device, k->io, &need), "sizes");
    std::vector<unsigned char> work(host_need.work + 1);
    block room(need.work);
    ok(ssm_ssd_forward(&host, ssm_memory_of(work.data(), work.size())), "host forward");
    twice([&] { ok(ssm_cuda_ssd_forward(&device, k->io, room.memory(), NULL), "forward"); }, outputs, 2,
          "chunks: other bits the second time");
    compare_chunks(k->y, 5e-3, "y");
    compare_chunks(k->h_last, 3e-3, "h_last");
    if (trouble)
        printf("     (batch %u len %u heads %u x %u d_state %u groups %u packed %d z %d)\n", (unsigned)k->s.batch,
               (unsigned)k->s.len, (unsigned)k->s.heads, (unsigned)k->s.headdim, (unsigned)k->s.d_state,
               (unsigned)k->s.n_groups, !k->packed.start.empty(), !k->z.host.empty());
}

/* Of every shape, whole, packed, and with time in parts, which take 512 steps. */
static void ssd_chunk_draw(ssd_case *k, int i, size_t longest)
{
    ssd_chunk_shape(k);
    if (i % 4 == 3) ssd_pack(k);
    if (i % 6 != 2) return;
    k->s.batch = k->s.n_groups = k->s.heads = 1;
    k->s.headdim = 32;
    k->s.d_state = 64;
    k->s.len = pick(512, longest);
}

static void ssd_chunks(void)
{
    int i;
    for (i = 0; i < 2 * rounds && trouble == 0; ++i) {
        ssd_case k;
        ssd_chunk_draw(&k, i, 900);
        ssd_chunk_fill(&k);
        ssd_chunk_check(&k, k.problem(0), k.problem(1));
    }
}

static void ssd_chunks_slots(void)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        ssd_case k;
        ssm_ssd host, device;
        ssd_chunk_shape(&k);
        k.s.batch = pick(1, 5);
        if (i % 2) ssd_pack(&k);
        ssd_chunk_fill(&k);
        const slot_list slots(k.s.batch);
        make(&k.h_last, 0, k.s.batch + 2, 0, k.s.heads * k.s.headdim, k.s.d_state, DENSE, 0, UNIFORM);
        host = k.problem(0);
        device = k.problem(1);
        host.slot = slots.host.data();
        device.slot = slots.device;
        host.h0 = k.h_last.in(0);
        device.h0 = k.h_last.in(1);
        ssd_chunk_check(&k, host, device);
    }
}

/* Of parameters: sums over steps of numbers of either sign, which are about as large as those that ddelta got. */
static void compare_chunk_sums(const tensor &x, const tensor &ddelta, const char *what)
{
    const std::vector<float> got = x.download();
    double error = 0, norm = 0;
    size_t i;
    for (i = 0; i < got.size(); ++i) {
        if (memcmp(&x.host[i], &x.start[i], 4) == 0) continue;
        error += ((double)got[i] - x.host[i]) * ((double)got[i] - x.host[i]);
        norm += (double)x.host[i] * x.host[i];
    }
    for (i = 0; i < ddelta.host.size(); ++i)
        norm += ((double)ddelta.host[i] - ddelta.start[i]) * ((double)ddelta.host[i] - ddelta.start[i]);
    if (!(sqrt(error) <= 5e-3 * sqrt(norm))) complain(what, sqrt(error / norm), 5e-3);
    compare(x, 1, what); /* that nothing else was written */
}

static void ssd_chunk_fill_back(ssd_case *k)
{
    const size_t b = k->packed.start.empty() ? k->s.batch : 0, t = k->s.len, c = k->s.heads * k->s.headdim;
    ssd_chunk_fill(k);
    k->z.host.clear();
    k->dz.host.clear();
    make(&k->dy, 1, b, t, c + 8 * pick(0, 2), 0, DENSE, 0, UNIFORM);
    make(&k->ddelta, 1, b, t, k->s.heads, 0, ssd_layout(0), 0, UNIFORM);
    if (!k->dx.host.empty()) make(&k->dx, 1, b, t, c + 8 * pick(0, 2), 0, DENSE, 0, UNIFORM);
}

static void ssd_chunk_check_back(ssd_case *k)
{
    const char *const what[] = {"dx", "ddelta", "dB", "dC", "dh0", "dA", "dD", "dbias"};
    tensor *const gradients[] = {&k->dx, &k->ddelta, &k->dB, &k->dC, &k->dh0, &k->dA, &k->dD, &k->dbias};
    const ssm_ssd host = k->problem(0), device = k->problem(1);
    const ssm_ssd_grad host_grad = k->grad(0), device_grad = k->grad(1);
    ssm_sizes need, host_need;
    size_t i;
    ok(ssm_ssd_sizes(&host, &host_need), "host sizes");
    ok(ssm_cuda_ssd_sizes(&device, k->io, &need), "sizes");
    std::vector<unsigned char> work(host_need.work_backward + 1);
    block room(need.work_backward);
    ok(ssm_ssd_backward(&host, &host_grad, ssm_memory_of(work.data(), work.size())), "host backward");
    twice([&] { ok(ssm_cuda_ssd_backward(&device, &device_grad, k->io, room.memory(), NULL), "backward"); }, gradients,
          8, "chunks: other bits the second time");
    for (i = 0; i < 8; ++i) {
        if (gradients[i]->host.empty()) continue;
        if (i < 5) compare_chunks(*gradients[i], 5e-3, what[i]);
        else compare_chunk_sums(*gradients[i], k->ddelta, what[i]);
    }
    if (trouble)
        printf("     (batch %u len %u heads %u x %u d_state %u groups %u packed %d)\n", (unsigned)k->s.batch,
               (unsigned)k->s.len, (unsigned)k->s.heads, (unsigned)k->s.headdim, (unsigned)k->s.d_state,
               (unsigned)k->s.n_groups, !k->packed.start.empty());
}

static void ssd_chunks_backward(void)
{
    int i;
    for (i = 0; i < 2 * rounds && trouble == 0; ++i) {
        ssd_case k;
        ssd_chunk_draw(&k, i, 700);
        ssd_chunk_fill_back(&k);
        ssd_chunk_check_back(&k);
    }
}

/* Blocks that have two heads, which takes more than 64 blocks; with tiles of both in shared memory, and of one. */
static void ssd_chunks_heads(void)
{
    int i;
    for (i = 0; i < 2 && trouble == 0; ++i) {
        ssd_case k;
        ssd_chunk_shape(&k);
        k.s.batch = 65;
        k.s.n_groups = 1;
        k.s.heads = 2;
        k.s.headdim = i ? 128 : 32;
        k.s.d_state = i ? 128 : 64;
        k.s.len = 16;
        ssd_chunk_fill_back(&k);
        ssd_chunk_check_back(&k);
    }
}

/* Bits of dC with a scan. */
static std::vector<float> ssd_bits_back(ssd_case *k, ssm_ssd s, const ssm_ssd_grad &g, ssm_scan scan)
{
    ssm_sizes need;
    s.scan = scan;
    ok(ssm_cuda_ssd_sizes(&s, k->io, &need), "sizes");
    block room(need.work_backward);
    reset(&k->dC);
    ok(ssm_cuda_ssd_backward(&s, &g, k->io, room.memory(), NULL), "backward");
    return k->dC.download();
}

/* Bits of y with a scan. */
static std::vector<float> ssd_bits(ssd_case *k, ssm_ssd s, ssm_scan scan)
{
    ssm_sizes need;
    s.scan = scan;
    ok(ssm_cuda_ssd_sizes(&s, k->io, &need), "sizes");
    block room(need.work);
    reset(&k->y);
    ok(ssm_cuda_ssd_forward(&s, k->io, room.memory(), NULL), "forward");
    return k->y.download();
}

/* Which problems are taken in chunks: bits of the sequential scan differ. y may be x. */
static void ssd_chunks_choice(void)
{
    ssd_case k;
    ssm_ssd s;
    ssd_chunk_shape(&k);
    k.s.len = 70;
    ssd_chunk_fill(&k);
    s = k.problem(1);
    const std::vector<float> sequential = ssd_bits(&k, s, SSM_SCAN_SEQUENTIAL), chunks = ssd_bits(&k, s, SSM_SCAN_AUTO);
    require(same_bits(sequential, chunks) != ssm__cuda_has_room(ssm__cuda_chunk_needs(k.s.d_state, k.s.headdim)),
            "AUTO is sequential");
    EMULATOR(emulator_shared = 64 * 1024);
    EMULATOR(require(same_bits(sequential, ssd_bits(&k, s, SSM_SCAN_AUTO)), "AUTO in chunks without room"));
    EMULATOR(emulator_shared = 227 * 1024);
    require(same_bits(chunks, ssd_bits(&k, s, SSM_SCAN_CHUNKED)), "CHUNKED is not AUTO");
    s.len = 15;
    require(same_bits(ssd_bits(&k, s, SSM_SCAN_SEQUENTIAL), ssd_bits(&k, s, SSM_SCAN_AUTO)), "15 steps in chunks");
    s.len = 70;
    s.n_groups = 1;
    s.B.chan += 4; /* not read, but not aligned */
    require(same_bits(ssd_bits(&k, s, SSM_SCAN_SEQUENTIAL), ssd_bits(&k, s, SSM_SCAN_AUTO)), "unaligned in chunks");
}

/* And of gradients: not with z, nor where rows of dx lie on each other. */
static void ssd_chunks_choice_back(void)
{
    ssd_case k;
    ssm_ssd s;
    ssm_ssd_grad g;
    ssd_chunk_shape(&k);
    k.s.len = 70;
    ssd_chunk_fill_back(&k);
    make(&k.dC, 1, k.s.batch, k.s.len, k.s.n_groups, k.s.d_state, DENSE, 0, UNIFORM);
    make(&k.z, 1, k.s.batch, k.s.len, k.s.heads * k.s.headdim, 0, DENSE, 0, NORMAL);
    make(&k.dx, 1, k.s.batch, k.s.len, k.s.heads * k.s.headdim, 0, DENSE, 0, UNIFORM);
    s = k.problem(1);
    s.z.data = NULL;
    g = k.grad(1);
    const bool fits = ssm__cuda_has_room(ssm__cuda_chunk_back_needs(k.s.d_state, k.s.headdim));
    require(same_bits(ssd_bits_back(&k, s, g, SSM_SCAN_SEQUENTIAL), ssd_bits_back(&k, s, g, SSM_SCAN_AUTO)) != fits,
            "AUTO is sequential");
    EMULATOR(emulator_shared = 99 * 1024);
    EMULATOR(require(same_bits(ssd_bits_back(&k, s, g, SSM_SCAN_SEQUENTIAL), ssd_bits_back(&k, s, g, SSM_SCAN_AUTO)),
                     "AUTO in chunks without room"));
    EMULATOR(emulator_shared = 227 * 1024);
    s.z = k.z.in(1);
    require(same_bits(ssd_bits_back(&k, s, g, SSM_SCAN_SEQUENTIAL), ssd_bits_back(&k, s, g, SSM_SCAN_AUTO)),
            "z in chunks");
    s.z.data = NULL;
    g.dx.time = 0;
    require(same_bits(ssd_bits_back(&k, s, g, SSM_SCAN_SEQUENTIAL), ssd_bits_back(&k, s, g, SSM_SCAN_AUTO)),
            "one row of dx in chunks");
}

static void ssd_errors(void)
{
    ssd_case k;
    ssm_ssd s;
    ssm_ssd_grad g;
    ssm_sizes need;
    const ssm_memory none = ssm_memory_of(NULL, 0);
    ssd_shape(&k, 0);
    k.s.d_state = 300; /* for a workspace */
    k.s.len = 3;
    ssd_fill(&k, 0);
    k.h_last.host.clear();
    s = k.problem(1);
    s.h_last.data = NULL;
    g = k.grad(1);
    ok(ssm_cuda_ssd_sizes(&s, k.io, &need), "sizes");
    block work(need.work), back(need.work_backward);
    const ssm_memory less = ssm_memory_of(work.data, need.work - 1), byte = ssm_memory_of(back.data, 1);
    require(ssm_cuda_ssd_sizes(&s, k.io, NULL) == SSM_ERR_NULL, "no sizes");
    require(ssm_cuda_ssd_forward(NULL, k.io, work.memory(), NULL) == SSM_ERR_NULL, "no problem");
    require(ssm_cuda_ssd_forward(&s, k.io, none, NULL) == SSM_ERR_NULL, "no workspace");
    require(ssm_cuda_ssd_forward(&s, k.io, less, NULL) == SSM_ERR_MEMORY, "a byte less");
    require(ssm_cuda_ssd_forward(&s, SSM_FORMAT_INT8, work.memory(), NULL) == SSM_ERR_CONFIG, "int8");
    require(ssm_cuda_ssd_step(&s, k.io, NULL) == SSM_ERR_NULL, "step without state");
    require(ssm_cuda_ssd_backward(&s, NULL, k.io, back.memory(), NULL) == SSM_ERR_NULL, "no gradients");
    require(ssm_cuda_ssd_backward(&s, &g, k.io, byte, NULL) == SSM_ERR_MEMORY, "backward in a byte");
    s.delta_min = -1;
    require(ssm_cuda_ssd_forward(&s, k.io, work.memory(), NULL) == SSM_ERR_CONFIG, "a negative limit");
    s.delta_min = 0;
    s.n_groups = 7;
    require(ssm_cuda_ssd_forward(&s, k.io, work.memory(), NULL) == SSM_ERR_SHAPE, "groups");
    s.d_state = 0;
    require(ssm_cuda_ssd_forward(&s, k.io, work.memory(), NULL) == SSM_ERR_CONFIG, "no state");
    require(same_bits(k.y.download(), k.y.start), "an error wrote");
}
