/* cuda_conv.h - tests of the causal convolution on a GPU; part of test_cuda.cu. */

struct conv_case {
    ssm_conv s; /* the host's */
    ssm_format io;
    std::vector<size_t> start;
    size_t *device_start;
    tensor x, weight, bias, state, state_last, y, dy, dstate_last, dx, dweight, dbias, dstate;

    conv_case() : device_start(NULL) { memset(&s, 0, sizeof s); }
    ~conv_case() { cudaFree(device_start); }

    ssm_conv problem(int device) const
    {
        ssm_conv r = s;
        r.start = start.empty() ? NULL : device ? device_start : start.data();
        r.x = x.in(device);
        r.weight = weight.in(device);
        r.bias = bias.in(device);
        r.state = state.in(device);
        r.state_last = state_last.out(device);
        r.y = y.out(device);
        return r;
    }

    ssm_conv_grad grad(int device) const
    {
        ssm_conv_grad g;
        g.dy = dy.in(device);
        g.dstate_last = dstate_last.in(device);
        g.dx = dx.out(device);
        g.dweight = dweight.out(device);
        g.dbias = dbias.out(device);
        g.dstate = dstate.out(device);
        return g;
    }
};

/* fast: the fast kernels' shape. Otherwise any width, layout and option. */
static void conv_fill(conv_case *k, int fast, int round)
{
    ssm_conv *s = &k->s;
    const int half = round % 2, packed = chance(30);
    k->io = half ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
    s->batch = pick(1, 3);
    s->width = fast ? 4 : pick(1, 6);
    s->dim = fast ? 4 * pick(1, on_gpu ? 80 : 40) : pick(1, on_gpu ? 300 : 40);
    s->len = on_gpu ? (chance(10) ? 10007 : pick(1, 700)) : pick(1, 150);
    s->silu = chance(70);
    if (packed) {
        size_t i, at = pick(0, 3);
        s->batch = pick(1, 5);
        for (i = 0; i <= s->batch; ++i) {
            k->start.push_back(at);
            if (i < s->batch) at += chance(20) ? 0 : pick(1, 50);
        }
        s->len = at + pick(0, 3);
        cuda_ok(cudaMalloc((void **)&k->device_start, k->start.size() * sizeof(size_t)), "cudaMalloc");
        cuda_ok(cudaMemcpy(k->device_start, k->start.data(), k->start.size() * sizeof(size_t), cudaMemcpyHostToDevice),
                "start");
    }
    const size_t b = packed ? 0 : s->batch, t = s->len, c = s->dim, w = s->width - 1;
    const enum layout L = fast ? (chance(50) ? DENSE : PADDED) : (enum layout)pick(0, LAYOUTS - 1);
    const int share = !fast && chance(30) ? (int)(1u << pick(0, 2)) : 0;
    make(&k->x, half, b, t, c, 0, L, share, UNIFORM);
    make(&k->weight, 0, 0, 0, c, s->width, DENSE, 0, UNIFORM);
    if (chance(70)) make(&k->bias, 0, 0, 0, c, 0, DENSE, 0, UNIFORM);
    if (w && chance(50)) make(&k->state, 0, s->batch, 0, c, w, DENSE, 0, UNIFORM);
    if (w && chance(50)) make(&k->state_last, 0, s->batch, 0, c, w, fast ? DENSE : TRANSPOSED, 0, POISON);
    make(&k->y, half, b, t, c, 0, L, 0, POISON);
    make(&k->dy, half, b, t, c, 0, L, 0, UNIFORM);
    if (!fast && w && chance(60)) make(&k->dstate_last, 0, s->batch, 0, c, w, DENSE, 0, UNIFORM);
    if (chance(90)) make(&k->dx, half, b, t, c, 0, L, share, UNIFORM);
    if (chance(90)) make(&k->dweight, 0, 0, 0, c, s->width, DENSE, 0, UNIFORM);
    if (chance(90)) make(&k->dbias, 0, 0, 0, c, 0, DENSE, 0, UNIFORM);
    if (!fast && w && chance(60)) make(&k->dstate, 0, s->batch, 0, c, w, DENSE, 0, UNIFORM);
}

static void conv_random(void)
{
    int i;
    for (i = 0; i < 4 * rounds && trouble == 0; ++i) {
        conv_case k;
        ssm_sizes need;
        conv_fill(&k, i / 2 % 2, i);
        ssm_conv host = k.problem(0), device = k.problem(1);
        ssm_conv_grad host_grad = k.grad(0), device_grad = k.grad(1);
        tensor *const forward[] = {&k.y, &k.state_last}, *const backward[] = {&k.dx, &k.dweight, &k.dbias, &k.dstate};
        ok(ssm_conv_forward(&host), "host forward");
        twice([&] { ok(ssm_cuda_conv_forward(&device, k.io, NULL), "forward"); }, forward, 2, "forward: other bits");
        compare(k.y, 1e-6, "y");
        compare(k.state_last, 1e-6, "state_last");
        ok(ssm_conv_backward(&host, &host_grad), "host backward");
        ok(ssm_cuda_conv_sizes(&device, k.io, &need), "sizes");
        block work(need.work_backward);
        twice([&] { ok(ssm_cuda_conv_backward(&device, &device_grad, k.io, work.memory(), NULL), "backward"); },
              backward, 4, "backward: other bits");
        compare(k.dx, 1e-5, "dx");
        compare(k.dweight, 3e-5, "dweight");
        compare(k.dbias, 3e-5, "dbias");
        compare(k.dstate, 1e-5, "dstate");
        if (trouble)
            printf("     (batch %u len %u dim %u width %u packed %d bf16 %d silu %d)\n", (unsigned)k.s.batch,
                   (unsigned)k.s.len, (unsigned)k.s.dim, (unsigned)k.s.width, !k.start.empty(), k.io == SSM_FORMAT_BF16,
                   k.s.silu);
    }
}

/* Steps from the state that forward began with give its bits, and its state. */
static void conv_step(void)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        conv_case k;
        do {
            k.start.clear();
            conv_fill(&k, i / 2 % 2, i);
        } while (!k.start.empty() || k.s.width == 1);
        const size_t size = k.io == SSM_FORMAT_BF16 ? 2 : 4, states = k.s.batch * k.s.dim * (k.s.width - 1);
        const size_t len = k.s.len < 20 ? k.s.len : 20;
        tensor state;
        size_t t;
        make(&state, 0, k.s.batch, 0, k.s.dim, k.s.width - 1, DENSE, 0, UNIFORM);
        make(&k.state_last, 0, k.s.batch, 0, k.s.dim, k.s.width - 1, DENSE, 0, POISON);
        ssm_conv s = k.problem(1);
        s.len = len;
        s.state = state.in(1);
        ok(ssm_cuda_conv_forward(&s, k.io, NULL), "forward");
        const std::vector<float> whole = k.y.download(), last = k.state_last.download();
        reset(&k.y);
        s.len = 1;
        s.state_last = state.out(1);
        for (t = 0; t < len; ++t) {
            ok(ssm_cuda_conv_step(&s, k.io, NULL), "step");
            s.x.data = (const float *)((uintptr_t)s.x.data + (size_t)s.x.time * size);
            s.y.data = (float *)((uintptr_t)s.y.data + (size_t)s.y.time * size);
        }
        require(same_bits(whole, k.y.download()), "steps give other outputs than forward");
        require(memcmp(last.data() + k.state_last.base, state.download().data() + state.base, states * 4) == 0,
                "steps leave another state than forward");
    }
}

static void conv_slots(void)
{
    int i;
    for (i = 0; i < 2 * rounds && trouble == 0; ++i) {
        conv_case k;
        ssm_conv host, device;
        conv_fill(&k, i % 3 == 0, i);
        const int step = k.start.empty() && chance(40);
        if (step) k.s.len = 1;
        const slot_list slots(k.s.batch);
        make(&k.state_last, 0, k.s.batch + 2, 0, k.s.dim, k.s.width - 1, DENSE, 0, UNIFORM);
        host = k.problem(0);
        device = k.problem(1);
        host.slot = slots.host.data();
        device.slot = slots.device;
        host.state = k.state_last.in(0);
        device.state = k.state_last.in(1);
        ok(ssm_conv_forward(&host), "host forward");
        tensor *const outputs[] = {&k.y, &k.state_last};
        twice([&] { ok(step ? ssm_cuda_conv_step(&device, k.io, NULL) : ssm_cuda_conv_forward(&device, k.io, NULL), "slots"); },
              outputs, 2, "slots: other bits the second time");
        compare(k.y, 1e-6, "y");
        compare(k.state_last, 1e-6, "state_last");
    }
}

static void conv_errors(void)
{
    conv_case k;
    ssm_sizes need;
    conv_fill(&k, 1, 0);
    ssm_conv s = k.problem(1);
    ssm_conv_grad g = k.grad(1);
    ok(ssm_cuda_conv_sizes(&s, k.io, &need), "sizes");
    require(ssm_cuda_conv_forward(NULL, k.io, NULL) == SSM_ERR_NULL, "no problem");
    require(ssm_cuda_conv_forward(&s, SSM_FORMAT_INT8, NULL) == SSM_ERR_CONFIG, "int8");
    require(ssm_cuda_conv_backward(&s, &g, k.io, ssm_memory_of(NULL, 0), NULL) == SSM_ERR_NULL, "no workspace");
    s.width = 0;
    require(ssm_cuda_conv_forward(&s, k.io, NULL) == SSM_ERR_CONFIG, "no taps");
    require(same_bits(k.y.download(), k.y.start), "an error wrote");
}
