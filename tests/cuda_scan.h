/* cuda_scan.h - tests of the selective scan on a GPU; part of test_cuda.cu. */

/* Real numbers, or pairs (cuda_lti.h). */
static void make_values(tensor *x, int pairs, int half, size_t batch, size_t time, size_t chan, size_t state,
                        enum layout layout, int shared, enum fill fill);

/* A problem: every tensor, on both sides. */
struct scan_case {
    ssm_selective_scan s; /* the host's */
    ssm_format io;
    std::vector<size_t> start;
    size_t *device_start;
    tensor u, delta, A, B, C, D, z, bias, delta_A, lambda, h0, h_last, y;
    tensor dy, dh_last, du, ddelta, dA, dB, dC, dD, dz, dbias, ddelta_A, dlambda, dh0;

    scan_case() : device_start(NULL) { memset(&s, 0, sizeof s); }
    ~scan_case() { cudaFree(device_start); }

    ssm_selective_scan problem(int device) const
    {
        ssm_selective_scan r = s;
        r.start = start.empty() ? NULL : device ? device_start : start.data();
        r.u = u.in(device);
        r.delta = delta.in(device);
        r.A = A.in(device);
        r.B = B.in(device);
        r.C = C.in(device);
        r.D = D.in(device);
        r.z = z.in(device);
        r.delta_bias = bias.in(device);
        r.delta_A = delta_A.in(device);
        r.lambda = lambda.in(device);
        r.h0 = h0.in(device);
        r.h_last = h_last.out(device);
        r.y = y.out(device);
        return r;
    }

    ssm_selective_scan_grad grad(int device) const
    {
        ssm_selective_scan_grad g;
        g.dy = dy.in(device);
        g.dh_last = dh_last.in(device);
        g.du = du.out(device);
        g.ddelta = ddelta.out(device);
        g.dA = dA.out(device);
        g.dB = dB.out(device);
        g.dC = dC.out(device);
        g.dD = dD.out(device);
        g.dz = dz.out(device);
        g.ddelta_bias = dbias.out(device);
        g.ddelta_A = ddelta_A.out(device);
        g.dlambda = dlambda.out(device);
        g.dh0 = dh0.out(device);
        return g;
    }
};

/* Every tensor at random; plain: any layout, discretisation and option. Optional ones are there as often as not. */
static void scan_fill(scan_case *k, int plain)
{
    ssm_selective_scan *s = &k->s;
    const int half = k->io == SSM_FORMAT_BF16, cx = s->complex_A;
    const size_t b = s->start ? 0 : s->batch, t = s->len, c = s->dim, N = s->d_state;
    const size_t rows = s->disc == SSM_DISC_TRAPEZOID ? 2 * N : N;
    const enum layout L = plain ? (enum layout)pick(0, LAYOUTS - 1) : chance(50) ? DENSE : PADDED;
    const int share = plain && chance(30) ? (int)(1u << pick(0, 2)) : 0, share_d = plain && chance(30) ? 4 : 0;
    const int constant = plain && chance(20) ? 3 : 0;
    const enum fill G = UNIFORM;
    s->delta_softplus = chance(80);
    make(&k->u, half, b, t, c, 0, L, 0, UNIFORM);
    make(&k->delta, half, b, t, c, 0, L, share, s->delta_softplus ? STEPS : POSITIVE);
    make_values(&k->A, cx, 0, 0, 0, c, N, plain && chance(50) ? TRANSPOSED : DENSE, share_d, NEGATIVE);
    make_values(&k->B, cx, half, b, t, s->B_groups, N, plain ? (enum layout)pick(0, LAYOUTS - 1) : DENSE, constant, UNIFORM);
    make_values(&k->C, cx, half, b, t, s->C_groups, N, plain ? (enum layout)pick(0, LAYOUTS - 1) : DENSE, constant, UNIFORM);
    if (chance(70)) make(&k->D, 0, 0, 0, c, 0, DENSE, 0, UNIFORM);
    if (chance(60)) make(&k->z, half, b, t, c, 0, L, 0, NORMAL);
    if (chance(70)) make(&k->bias, 0, 0, 0, c, 0, DENSE, share_d, s->delta_softplus ? UNIFORM : POSITIVE);
    if (plain && chance(20)) make(&k->delta_A, half, b, t, c, 0, L, 0, POSITIVE);
    if (plain && s->disc == SSM_DISC_TRAPEZOID && chance(60)) make(&k->lambda, half, b, t, c, 0, L, share, UNIFORM);
    if (chance(60)) make_values(&k->h0, cx, 0, s->batch, 0, c, rows, DENSE, 0, UNIFORM);
    if (chance(60)) make_values(&k->h_last, cx, 0, s->batch, 0, c, rows, plain && chance(50) ? TRANSPOSED : DENSE, 0, POISON);
    make(&k->y, half, b, t, c, 0, L, 0, POISON);
    make(&k->dy, half, b, t, c, 0, L, 0, UNIFORM);
    if (chance(60)) make_values(&k->dh_last, cx, 0, s->batch, 0, c, rows, DENSE, 0, UNIFORM);
    if (chance(90)) make(&k->du, half, b, t, c, 0, L, 0, G);
    if (chance(90)) make(&k->ddelta, half, b, t, c, 0, L, share, G);
    if (chance(90)) make_values(&k->dA, cx, 0, 0, 0, c, N, DENSE, share_d, G);
    if (chance(90)) make_values(&k->dB, cx, half, b, t, s->B_groups, N, DENSE, constant, G);
    if (chance(90)) make_values(&k->dC, cx, half, b, t, s->C_groups, N, DENSE, constant, G);
    if (chance(90)) make(&k->dD, 0, 0, 0, c, 0, DENSE, 0, G);
    if (chance(90)) make(&k->dz, half, b, t, c, 0, L, 0, G);
    if (chance(90)) make(&k->dbias, 0, 0, 0, c, 0, DENSE, share_d, G);
    if (chance(90)) make(&k->ddelta_A, half, b, t, c, 0, L, 0, G);
    if (chance(90)) make(&k->dlambda, half, b, t, c, 0, L, share, G);
    if (chance(90)) make_values(&k->dh0, cx, 0, s->batch, 0, c, rows, DENSE, 0, G);
}

/* Sequences end to end, some of them empty, with rows that belong to none before and behind. */
static void scan_pack(scan_case *k)
{
    size_t i, at = pick(0, 3);
    for (i = 0; i <= k->s.batch; ++i) {
        k->start.push_back(at);
        if (i < k->s.batch) at += chance(20) ? 0 : pick(1, 40);
    }
    k->s.len = at + pick(0, 3);
    k->s.start = k->start.data();
    cuda_ok(cudaMalloc((void **)&k->device_start, k->start.size() * sizeof(size_t)), "cudaMalloc");
    cuda_ok(cudaMemcpy(k->device_start, k->start.data(), k->start.size() * sizeof(size_t), cudaMemcpyHostToDevice),
            "start");
}

/* Of y and states. ex2.approx is off by up to 2 ulp. Where the decay is the same at every step that adds up, over as
 * many steps as a state remembers; elsewhere it averages out. */
static double scan_bound(const scan_case &k)
{
    const int repeats = k.delta.view.time == 0 && k.delta_A.host.empty() && k.s.disc != SSM_DISC_BILINEAR;
    return repeats ? 1e-5 : 1e-6;
}

/* Forward and backward of a problem, on both sides. */
static void scan_check(scan_case *k)
{
    ssm_selective_scan host = k->problem(0), device = k->problem(1);
    ssm_selective_scan_grad host_grad = k->grad(0), device_grad = k->grad(1);
    tensor *const forward[] = {&k->y, &k->h_last};
    tensor *const backward[] = {&k->du, &k->ddelta, &k->dA,       &k->dB,      &k->dC, &k->dD,
                                &k->dz, &k->dbias,  &k->ddelta_A, &k->dlambda, &k->dh0};
    ssm_sizes need, host_need;
    host.scan = SSM_SCAN_SEQUENTIAL;
    ok(ssm_selective_scan_sizes(&host, &host_need), "host sizes");
    ok(ssm_cuda_selective_scan_sizes(&device, k->io, &need), "sizes");
    std::vector<unsigned char> work(
        (host_need.work > host_need.work_backward ? host_need.work : host_need.work_backward) + 1);
    ok(ssm_selective_scan_forward(&host, ssm_memory_of(work.data(), work.size())), "host forward");
    {
        block room(need.work);
        twice([&] { ok(ssm_cuda_selective_scan_forward(&device, k->io, room.memory(), NULL), "forward"); }, forward, 2,
              "forward: other bits the second time");
        compare(k->y, scan_bound(*k), "y");
        compare(k->h_last, scan_bound(*k), "h_last");
    }
    ok(ssm_selective_scan_backward(&host, &host_grad, ssm_memory_of(work.data(), work.size())), "host backward");
    {
        block room(need.work_backward);
        const char *const what[] = {"du", "ddelta", "dA",       "dB",      "dC", "dD",
                                    "dz", "dbias",  "ddelta_A", "dlambda", "dh0"};
        size_t i;
        twice(
            [&] {
                ok(ssm_cuda_selective_scan_backward(&device, &device_grad, k->io, ssm_memory_of(NULL, 0), room.memory(),
                                                    NULL),
                   "backward");
            },
            backward, 11, "backward: other bits the second time");
        for (i = 0; i < 11; ++i)
            if (!backward[i]->host.empty())
                compare(*backward[i], what[i][1] == 'A' || what[i][1] == 'D' || what[i][1] == 'b' ? 3e-5 : 1e-5,
                        what[i]);
    }
    if (trouble)
        printf("     (batch %u len %u dim %u d_state %u groups %u %u disc %d packed %d bf16 %d z %d complex %d)\n",
               (unsigned)k->s.batch, (unsigned)k->s.len, (unsigned)k->s.dim, (unsigned)k->s.d_state,
               (unsigned)k->s.B_groups, (unsigned)k->s.C_groups, (int)k->s.disc, !k->start.empty(),
               k->io == SSM_FORMAT_BF16, !k->z.host.empty(), k->s.complex_A);
}

static size_t scan_len(void)
{
    if (!on_gpu) return pick(1, 70);
    return chance(10) ? 10007 : chance(50) ? pick(1, 100) : pick(1, 3000);
}

/* Shapes of the fast kernels. */
static void scan_shape_fast(scan_case *k, int round)
{
    k->io = round % 2 ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
    k->s.batch = pick(1, 3);
    k->s.B_groups = pick(1, 2);
    k->s.C_groups = pick(1, 2);
    k->s.dim = k->s.B_groups * k->s.C_groups * 32 * pick(1, on_gpu ? 4 : 1);
    k->s.d_state = 16;
    k->s.len = scan_len();
    k->s.disc = SSM_DISC_EULER;
}

/* Any shape. */
static void scan_shape_plain(scan_case *k, int round)
{
    k->io = round % 3 == 2 ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
    k->s.batch = pick(1, 3);
    k->s.B_groups = pick(1, 3);
    k->s.C_groups = pick(1, 2);
    k->s.dim = k->s.B_groups * k->s.C_groups * pick(1, on_gpu ? 50 : 12);
    k->s.d_state = chance(30) ? 16 : pick(1, on_gpu ? (chance(10) ? 256 : 40) : 18);
    k->s.len = on_gpu ? pick(1, 300) : pick(1, 40);
    k->s.disc = (ssm_disc)(round % 7);
    k->s.complex_A = k->s.disc < SSM_DISC_TRAPEZOID && chance(40);
    if (chance(25)) k->s.delta_min = 0.05f;
    if (chance(25)) k->s.delta_max = 0.5f;
}

static void scan_fast(void)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        scan_case k;
        scan_shape_fast(&k, i);
        scan_fill(&k, 0);
        scan_check(&k);
    }
}

static void scan_plain(void)
{
    int i;
    for (i = 0; i < 3 * rounds && trouble == 0; ++i) {
        scan_case k;
        scan_shape_plain(&k, i);
        scan_fill(&k, 1);
        scan_check(&k);
    }
}

static void scan_packed(void)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        scan_case k;
        if (i % 2) scan_shape_plain(&k, i / 2);
        else scan_shape_fast(&k, i / 2);
        k.s.batch = pick(1, 6);
        scan_pack(&k);
        scan_fill(&k, i % 2);
        scan_check(&k);
    }
}

/* Long enough for time to be cut: AUTO, against the sequential host. */
static void scan_chunks(void)
{
    int i;
    for (i = 0; i < (on_gpu ? rounds : 2) && trouble == 0; ++i) {
        scan_case k;
        scan_shape_fast(&k, i);
        if (!on_gpu) {
            k.s.batch = 1;
            k.s.B_groups = k.s.C_groups = 1;
            k.s.dim = 32;
        }
        k.s.len = on_gpu ? pick(512, 10007) : pick(512, 600);
        scan_fill(&k, 0);
        scan_check(&k);
    }
}

/* Steps of a stream: the bits of forward, whichever kernels run. */
static void scan_step(void)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        scan_case k;
        ssm_selective_scan s;
        ssm_sizes need;
        size_t t;
        if (i % 3 == 2) scan_shape_plain(&k, i);
        else scan_shape_fast(&k, i);
        if (i % 3 == 1) k.s.d_state = 4 * pick(1, 20);
        k.s.len = pick(1, 20);
        k.s.scan = SSM_SCAN_SEQUENTIAL;
        scan_fill(&k, i % 3 == 2);
        tensor h_last, y;
        const size_t rows = k.s.disc == SSM_DISC_TRAPEZOID ? 2 * k.s.d_state : k.s.d_state;
        const int cx = k.s.complex_A;
        make_values(&h_last, cx, 0, k.s.batch, 0, k.s.dim, rows, DENSE, 0, UNIFORM);
        make_values(&k.h_last, cx, 0, k.s.batch, 0, k.s.dim, rows, DENSE, 0, POISON);
        s = k.problem(1);
        s.h0 = h_last.in(1);
        ok(ssm_cuda_selective_scan_sizes(&s, k.io, &need), "sizes");
        block work(need.work);
        ok(ssm_cuda_selective_scan_forward(&s, k.io, work.memory(), NULL), "forward");
        const std::vector<float> whole = k.y.download(), last = k.h_last.download();
        reset(&k.y);
        s.h_last = h_last.out(1);
        s.len = 1;
        s.h0.data = NULL;
        for (t = 0; t < k.s.len; ++t) {
            ok(ssm_cuda_selective_scan_step(&s, k.io, NULL), "step");
            ssm_in *const views[] = {&s.u, &s.delta, &s.B, &s.C, &s.z, &s.delta_A, &s.lambda};
            const size_t size = k.io == SSM_FORMAT_BF16 ? 2 : 4;
            for (size_t v = 0; v < 7; ++v)
                if (views[v]->data)
                    views[v]->data = (const float *)((uintptr_t)views[v]->data + (size_t)views[v]->time * size);
            s.y.data = (float *)((uintptr_t)s.y.data + (size_t)s.y.time * size);
        }
        require(same_bits(whole, k.y.download()), "steps give other outputs than forward");
        require(memcmp(last.data() + k.h_last.base, h_last.download().data() + h_last.base,
                       k.s.batch * k.s.dim * rows * (cx ? 8 : 4)) == 0,
                "steps leave another state than forward");
    }
}

/* The same numbers in layouts of the fast kernel and of the plain one: the same bits. */
static void scan_layouts(void)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        scan_case k;
        ssm_selective_scan s;
        ssm_sizes need;
        tensor y;
        size_t b, t, c;
        scan_shape_fast(&k, i);
        k.s.scan = SSM_SCAN_SEQUENTIAL;
        scan_fill(&k, 0);
        make(&y, k.y.half, k.s.batch, k.s.len, k.s.dim, 0, TRANSPOSED, 0, POISON);
        s = k.problem(1);
        ok(ssm_cuda_selective_scan_sizes(&s, k.io, &need), "sizes");
        block work(need.work);
        ok(ssm_cuda_selective_scan_forward(&s, k.io, work.memory(), NULL), "fast");
        s.y = y.out(1);
        ok(ssm_cuda_selective_scan_forward(&s, k.io, work.memory(), NULL), "plain");
        const std::vector<float> fast = k.y.download(), plain = y.download();
        for (b = 0; b < k.s.batch && trouble == 0; ++b)
            for (t = 0; t < k.s.len && trouble == 0; ++t)
                for (c = 0; c < k.s.dim; ++c) {
                    const ssm_in f = k.y.view, p = y.view;
                    const ptrdiff_t at = (ptrdiff_t)b * f.batch + (ptrdiff_t)t * f.time + (ptrdiff_t)c * f.chan;
                    const ptrdiff_t to = (ptrdiff_t)b * p.batch + (ptrdiff_t)t * p.time + (ptrdiff_t)c * p.chan;
                    if (memcmp(&fast[k.y.base + (size_t)at], &plain[y.base + (size_t)to], 4) == 0) continue;
                    printf("     b %u t %u c %u: %.9g %.9g\n", (unsigned)b, (unsigned)t, (unsigned)c,
                           fast[k.y.base + (size_t)at], plain[y.base + (size_t)to]);
                    require(0, "a layout changes bits");
                    break;
                }
    }
}

/* Backward from a tape gives the bits of backward without one. */
static void scan_tape(void)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        scan_case k;
        ssm_selective_scan s;
        ssm_selective_scan_grad g;
        ssm_sizes need;
        if (i % 2) scan_shape_plain(&k, i);
        else scan_shape_fast(&k, i);
        if (i % 4 == 0 && on_gpu) k.s.len += 512;
        k.s.scan = SSM_SCAN_SEQUENTIAL;
        scan_fill(&k, i % 2);
        tensor *const grads[] = {&k.du, &k.ddelta, &k.dA, &k.dB, &k.dC, &k.dz, &k.dh0};
        std::vector<std::vector<float>> first(7);
        size_t j;
        s = k.problem(1);
        g = k.grad(1);
        ok(ssm_cuda_selective_scan_sizes(&s, k.io, &need), "sizes");
        block work(need.work), tape(need.tape), back(need.work_backward);
        ok(ssm_cuda_selective_scan_backward(&s, &g, k.io, ssm_memory_of(NULL, 0), back.memory(), NULL), "backward");
        for (j = 0; j < 7; ++j) {
            if (grads[j]->host.empty()) continue;
            first[j] = grads[j]->download();
            reset(grads[j]);
        }
        ok(ssm_cuda_selective_scan_record(&s, k.io, tape.memory(), work.memory(), NULL), "record");
        ok(ssm_cuda_selective_scan_backward(&s, &g, k.io, tape.memory(),
                                            ssm_memory_of(back.data, need.work_backward - need.tape), NULL),
           "from tape");
        for (j = 0; j < 7; ++j)
            if (!grads[j]->host.empty()) require(same_bits(first[j], grads[j]->download()), "a tape changes bits");
    }
}

/* Slots on both sides: two states more than sequences, some of which are padding. */
struct slot_list {
    std::vector<ptrdiff_t> host;
    ptrdiff_t *device;

    explicit slot_list(size_t batch) : device(NULL)
    {
        size_t i;
        for (i = 0; i < batch; ++i) host.push_back((ptrdiff_t)(batch + 1 - i));
        for (i = 0; i + 1 < batch; ++i) std::swap(host[i], host[pick((unsigned)i, (unsigned)batch - 1)]);
        for (i = 0; i < batch; ++i)
            if (chance(30)) host[i] = -1 - (ptrdiff_t)i;
        cuda_ok(cudaMalloc((void **)&device, batch * sizeof(ptrdiff_t)), "cudaMalloc");
        cuda_ok(cudaMemcpy(device, host.data(), batch * sizeof(ptrdiff_t), cudaMemcpyHostToDevice), "slots");
    }
    ~slot_list() { cudaFree(device); }
};

/* Forward with slots, and step where a sequence is one row; every state as well where the plain kernel runs. */
static void scan_slots(void)
{
    int i;
    for (i = 0; i < 2 * rounds && trouble == 0; ++i) {
        const int plain = i % 3 == 2, packed = i % 4 == 3, step = !packed && i % 2;
        scan_case k;
        ssm_selective_scan host, device;
        ssm_sizes need, host_need;
        tensor shown;
        if (plain) scan_shape_plain(&k, i / 3);
        else scan_shape_fast(&k, i / 3);
        k.s.batch = pick(1, 9);
        if (step && !plain) k.s.d_state = 4 * pick(1, 20);
        if (step) k.s.len = 1;
        k.s.scan = SSM_SCAN_SEQUENTIAL;
        if (packed) scan_pack(&k);
        scan_fill(&k, plain);
        const size_t rows = k.s.disc == SSM_DISC_TRAPEZOID ? 2 * k.s.d_state : k.s.d_state;
        const slot_list slots(k.s.batch);
        const int cx = k.s.complex_A;
        make_values(&k.h_last, cx, 0, k.s.batch + 2, 0, k.s.dim, rows, DENSE, 0, UNIFORM);
        if (plain) make_values(&shown, cx, 0, packed ? 0 : k.s.batch, k.s.len, k.s.dim, rows, DENSE, 0, POISON);
        host = k.problem(0);
        device = k.problem(1);
        host.slot = slots.host.data();
        device.slot = slots.device;
        host.h0 = k.h_last.in(0);
        device.h0 = k.h_last.in(1);
        host.h = shown.out(0);
        device.h = shown.out(1);
        ok(ssm_selective_scan_sizes(&host, &host_need), "host sizes");
        ok(ssm_cuda_selective_scan_sizes(&device, k.io, &need), "sizes");
        std::vector<unsigned char> work(host_need.work + 1);
        block room(need.work);
        ok(ssm_selective_scan_forward(&host, ssm_memory_of(work.data(), work.size())), "host forward");
        tensor *const outputs[] = {&k.y, &k.h_last, &shown};
        twice(
            [&] {
                ok(step ? ssm_cuda_selective_scan_step(&device, k.io, NULL)
                        : ssm_cuda_selective_scan_forward(&device, k.io, room.memory(), NULL),
                   "with slots");
            },
            outputs, 3, "slots: other bits the second time");
        compare(k.y, scan_bound(k), "y");
        compare(k.h_last, scan_bound(k), "h_last");
        compare(shown, scan_bound(k), "h");
        require(ssm_cuda_selective_scan_record(&device, k.io, room.memory(), room.memory(), NULL) ==
                    SSM_ERR_UNSUPPORTED,
                "record with slots");
    }
}

static void scan_errors(void)
{
    scan_case k;
    ssm_selective_scan s;
    ssm_selective_scan_grad g;
    ssm_sizes need;
    scan_shape_fast(&k, 0);
    k.s.len = 33;
    scan_fill(&k, 0);
    k.h_last.host.clear();
    memset(&k.h_last.view, 0, sizeof k.h_last.view);
    s = k.problem(1);
    g = k.grad(1);
    ok(ssm_cuda_selective_scan_sizes(&s, k.io, &need), "sizes");
    block work(need.work), back(need.work_backward);
    const ssm_memory none = ssm_memory_of(NULL, 0), less = ssm_memory_of(work.data, need.work - 1);
    require(ssm_cuda_selective_scan_forward(NULL, k.io, work.memory(), NULL) == SSM_ERR_NULL, "no problem");
    require(ssm_cuda_selective_scan_forward(&s, k.io, none, NULL) == SSM_ERR_NULL, "no workspace");
    require(ssm_cuda_selective_scan_forward(&s, k.io, less, NULL) == SSM_ERR_MEMORY, "a byte less");
    require(ssm_cuda_selective_scan_forward(&s, SSM_FORMAT_INT8, work.memory(), NULL) == SSM_ERR_CONFIG, "int8");
    require(ssm_cuda_selective_scan_record(&s, k.io, none, work.memory(), NULL) == SSM_ERR_NULL, "no tape");
    require(ssm_cuda_selective_scan_record(&s, k.io, ssm_memory_of(work.data, 1), work.memory(), NULL) == SSM_ERR_TAPE,
            "a byte of tape");
    require(ssm_cuda_selective_scan_step(&s, k.io, NULL) == SSM_ERR_NULL, "step without state");
    require(ssm_cuda_selective_scan_backward(&s, NULL, k.io, none, back.memory(), NULL) == SSM_ERR_NULL,
            "no gradients");
    require(ssm_cuda_selective_scan_backward(&s, &g, k.io, none, ssm_memory_of(back.data, 1), NULL) == SSM_ERR_MEMORY,
            "backward in a byte");
    s.complex_A = 1;
    s.disc = SSM_DISC_TRAPEZOID;
    require(ssm_cuda_selective_scan_sizes(&s, k.io, &need) == SSM_ERR_UNSUPPORTED, "sizes of a complex trapezoid");
    require(ssm_cuda_selective_scan_forward(&s, k.io, work.memory(), NULL) == SSM_ERR_UNSUPPORTED, "a complex trapezoid");
    require(ssm_cuda_selective_scan_backward(&s, &g, k.io, none, back.memory(), NULL) == SSM_ERR_UNSUPPORTED,
            "backward of a complex trapezoid");
    s.disc = SSM_DISC_EULER;
    s.complex_A = 0;
    s.B_groups = 7;
    require(ssm_cuda_selective_scan_forward(&s, k.io, work.memory(), NULL) == SSM_ERR_SHAPE, "groups");
    s.d_state = 0;
    require(ssm_cuda_selective_scan_forward(&s, k.io, work.memory(), NULL) == SSM_ERR_CONFIG, "no state");
    require(same_bits(k.y.download(), k.y.start), "an error wrote");
}

/* Captured once, replayed twice: two steps of a stream. */
static void scan_graph(void)
{
#ifndef SSM__CUDA_ON_HOST
    scan_case k;
    ssm_selective_scan s;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t run;
    scan_shape_fast(&k, 0);
    k.s.len = 1;
    scan_fill(&k, 0);
    make(&k.h_last, 0, k.s.batch, 0, k.s.dim, 16, DENSE, 0, UNIFORM);
    s = k.problem(1);
    ok(ssm_cuda_selective_scan_step(&s, k.io, NULL), "step");
    ok(ssm_cuda_selective_scan_step(&s, k.io, NULL), "step");
    const std::vector<float> h = k.h_last.download(), y = k.y.download();
    reset(&k.h_last);
    reset(&k.y);
    cuda_ok(cudaStreamCreate(&stream), "stream");
    cuda_ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
    require(ssm_cuda_selective_scan_step(&s, k.io, stream) == SSM_OK, "captured step");
    cuda_ok(cudaStreamEndCapture(stream, &graph), "end of capture");
    cuda_ok(cudaGraphInstantiate(&run, graph, 0), "instantiate");
    cuda_ok(cudaGraphLaunch(run, stream), "launch");
    cuda_ok(cudaGraphLaunch(run, stream), "launch");
    cuda_ok(cudaStreamSynchronize(stream), "replay");
    require(same_bits(h, k.h_last.download()) && same_bits(y, k.y.download()), "a replayed step gives other bits");
#endif
}
