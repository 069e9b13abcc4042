/* cuda_layers.h - tests of layers on a GPU; part of test_cuda.cu. */

/* A layer's verbs on both sides. */
template <class L, class C> struct layer_verbs {
    ssm_status (*params)(const C *, const char *, ssm_params *);
    ssm_status (*init)(const C *, ssm_real *, uint64_t);
    ssm_status (*sizes[2])(const C *, const ssm_seqs *, ssm_sizes *);
    ssm_status (*bind)(L *, const C *, const ssm_real *, ssm_memory);
    ssm_status (*cuda_bind)(L *, const C *, const float *, ssm_memory, void *);
    ssm_status (*forward)(const L *, ssm_real *, const ssm_real *, ssm_real *, const ssm_seqs *, ssm_memory);
    ssm_status (*cuda_forward)(const L *, float *, const void *, void *, const ssm_seqs *, ssm_memory, void *);
    ssm_status (*step)(const L *, ssm_real *, const ssm_real *, ssm_real *, size_t, ssm_memory);
    ssm_status (*cuda_step)(const L *, float *, const void *, void *, size_t, ssm_memory, void *);
    ssm_status (*record)(const L *, ssm_real *, const ssm_real *, ssm_real *, const ssm_seqs *, ssm_memory, ssm_memory);
    ssm_status (*cuda_record)(const L *, float *, const void *, void *, const ssm_seqs *, ssm_memory, ssm_memory,
                              void *);
    ssm_status (*backward)(const L *, ssm_real *, const ssm_real *, const ssm_real *, ssm_real *, ssm_real *,
                           const ssm_seqs *, ssm_memory, ssm_memory);
    ssm_status (*cuda_backward)(const L *, const void *, const ssm_layer_grad *, const ssm_seqs *, ssm_memory,
                                ssm_memory, void *);
    void (*configure)(C *); /* at random */
    size_t (*conv)(const L *); /* reals before the scan's states in a state */
    void (*scan)(const L *, size_t *dim, size_t *rows); /* channels, and states of each; 0: as the device has them */
    int takes_scale;
};

#define LAYER_VERBS(X, configure, conv, scan, takes_scale)                                                             \
    static const layer_verbs<ssm_##X, ssm_##X##_config> X##_verbs = {                                                  \
        ssm_##X##_params,        ssm_##X##_init,          {ssm_##X##_sizes, ssm_cuda_##X##_sizes},                     \
        ssm_##X##_bind,          ssm_cuda_##X##_bind,     ssm_##X##_forward,                                           \
        ssm_cuda_##X##_forward,  ssm_##X##_step,          ssm_cuda_##X##_step,                                         \
        ssm_##X##_record,        ssm_cuda_##X##_record,   ssm_##X##_backward,                                          \
        ssm_cuda_##X##_backward, configure,               conv,                                                        \
        scan,                    takes_scale};

static ssm_disc any_disc(void)
{
    static const ssm_disc discs[] = {SSM_DISC_DEFAULT, SSM_DISC_EULER, SSM_DISC_ZOH, SSM_DISC_BILINEAR, SSM_DISC_DIRAC,
                                     SSM_DISC_TRAPEZOID};
    return discs[chance(50) ? 1 : pick(0, 5)];
}

/* Complex A now and then, where the discretisation has it. */
template <class C> static void any_A(C *c)
{
    c->complex_A = c->disc < SSM_DISC_TRAPEZOID && chance(30);
}

static void configure_selective(ssm_selective_config *c)
{
    c->d_model = pick(1, 70);
    c->d_state = pick(1, 20);
    c->disc = any_disc();
    any_A(c);
}

static void configure_s6(ssm_s6_config *c)
{
    c->n_groups = chance(70) ? 1 : 2;
    c->d_model = c->n_groups * (chance(50) ? 32 : pick(1, 30));
    c->d_state = chance(50) ? 16 : pick(1, 20);
    c->dt_rank = chance(50) ? 4 : pick(1, 6);
    c->disc = any_disc();
    any_A(c);
    c->no_dt_bias = chance(20);
}

static void configure_mamba(ssm_mamba_config *c)
{
    c->d_model = chance(50) ? 32 : pick(1, 40);
    c->d_state = chance(50) ? 16 : pick(1, 20);
    c->d_conv = chance(60) ? 4 : pick(1, 5);
    c->expand = pick(1, 2);
    c->dt_rank = chance(50) ? 4 : pick(1, 6);
    c->disc = any_disc();
    any_A(c);
    c->proj_bias = chance(30);
    c->no_conv_bias = chance(30);
    c->pre_norm = chance(50);
    c->residual = chance(50);
    c->x_proj_bias = chance(20);
    c->dbc_norm = chance(60) ? SSM_DBC_PLAIN : chance(50) ? SSM_DBC_NORM : SSM_DBC_NORM_WEIGHTED;
    if (c->dbc_norm && c->d_state < 8) c->d_state = 8; /* the norm of one number is its sign, which rounding flips */
    if (c->dbc_norm && c->dt_rank < 4) c->dt_rank = 4;
}

template <class L> static size_t no_conv(const L *)
{
    return 0;
}

static size_t mamba_conv(const ssm_mamba *m)
{
    return (m->config.d_conv - 1) * m->config.d_inner;
}

template <class L> static void core_scan(const L *l, size_t *dim, size_t *rows)
{
    *dim = l->core.dim;
    *rows = ssm__state_rows(l->core.disc, l->core.d_state);
}

static void configure_mamba2(ssm_mamba2_config *c)
{
    static const size_t dims[] = {4, 8, 16};
    c->d_model = chance(50) ? 32 : pick(1, 40);
    c->headdim = dims[pick(0, 2)];
    c->n_groups = chance(60) ? 1 : 2;
    c->d_state = chance(50) ? 32 : pick(1, 40);
    if (chance(40)) c->headdim = 32, c->d_state = 64; /* bf16: the scan goes in chunks, unless it must not */
    c->scan = chance(30) ? SSM_SCAN_SEQUENTIAL : SSM_SCAN_AUTO;
    c->d_inner = c->headdim * c->n_groups * pick(1, 2);
    c->d_conv = chance(60) ? 4 : pick(1, 5);
    c->proj_bias = chance(30);
    c->no_conv_bias = chance(30);
    c->pre_norm = chance(50);
    c->residual = chance(50);
    c->norm_before_gate = chance(40);
    c->no_norm = chance(20);
    c->D_has_hdim = chance(30);
}

static size_t mamba2_conv(const ssm_mamba2 *m)
{
    return (m->config.d_conv - 1) * m->conv_dim;
}

static void mamba2_scan(const ssm_mamba2 *m, size_t *dim, size_t *rows)
{
    *dim = m->config.d_inner;
    *rows = m->config.d_state;
}

/* States of few numbers are as likely as those of many: pairs of lines, and half of one. */
static void configure_s5(ssm_s5_config *c)
{
    static const ssm_disc discs[] = {SSM_DISC_DEFAULT, SSM_DISC_EULER, SSM_DISC_ZOH, SSM_DISC_BILINEAR, SSM_DISC_DIRAC};
    const int kind = (int)pick(0, 3);
    c->d_model = chance(50) ? 32 : pick(1, 40);
    c->blocks = pick(1, 2);
    c->no_conj_sym = kind == 1;
    c->real_state = kind == 2;
    c->lru = kind == 3;
    c->d_state = c->blocks * (kind == 0 ? 2 : 1) * (chance(50) ? 8 : pick(1, 11));
    if (!c->lru) c->disc = discs[pick(0, 4)];
    c->activation = (ssm_s5_activation)pick(0, 4);
    c->bidirectional = chance(30);
    c->clip_eigs = chance(30);
    c->event = chance(30);
    c->pre_norm = chance(50);
    c->residual = chance(50);
    c->step_rescale = chance(70) ? 0 : 0.5f;
    c->r_min = 0.5f;
    c->r_max = 0.95f;
}

static void configure_s4d(ssm_s4d_config *c)
{
    static const ssm_disc discs[] = {SSM_DISC_DEFAULT, SSM_DISC_EULER, SSM_DISC_ZOH, SSM_DISC_BILINEAR, SSM_DISC_DIRAC};
    c->n_ssm = chance(50) ? 16 : pick(1, 20);
    c->d_model = c->n_ssm * pick(1, 2);
    c->real_state = chance(30);
    c->d_state = (c->real_state ? 1 : 2) * (chance(40) ? 16 : pick(1, 40));
    c->train_B = chance(50);
    c->no_dt = chance(20);
    c->disc = discs[pick(0, 4)];
    if (c->no_dt && c->disc != SSM_DISC_BILINEAR) c->disc = SSM_DISC_ZOH; /* of a whole second Euler's runs away */
    c->form = chance(30) ? SSM_S4_FORM_CONVOLUTION : SSM_S4_FORM_AUTO;
    c->bidirectional = chance(30);
    c->activation = chance(60) ? SSM_S4_ACTIVATION_GELU : SSM_S4_ACTIVATION_NONE;
    c->output = chance(50) ? SSM_S4_OUTPUT_GLU : SSM_S4_OUTPUT_NONE;
    c->pre_norm = chance(50);
    c->residual = chance(50);
}

/* States that a lane holds, and more. */
static void configure_s4(ssm_s4_config *c)
{
    c->n_ssm = chance(50) ? 16 : pick(1, 20);
    c->d_model = c->n_ssm * pick(1, 2);
    c->d_state = 2 * (chance(30) ? 32 : pick(1, 40));
    c->form = chance(30) ? SSM_S4_FORM_CONVOLUTION : SSM_S4_FORM_AUTO;
    c->bidirectional = chance(30);
    c->activation = chance(60) ? SSM_S4_ACTIVATION_GELU : SSM_S4_ACTIVATION_NONE;
    c->output = chance(50) ? SSM_S4_OUTPUT_GLU : SSM_S4_OUTPUT_NONE;
    c->pre_norm = chance(50);
    c->residual = chance(50);
}

/* States are [N][H] on the host, N of numbers or of parts, and [H][N] on the device. */
template <class L> static void s4_scan(const L *l, size_t *dim, size_t *rows)
{
    *dim = l->core.dim;
    *rows = l->core.states * l->core.parts;
}

/* One head and several; the RG-LRU alone; radii that a few steps forget. */
static void configure_rglru(ssm_rglru_config *c)
{
    c->num_heads = chance(40) ? 1 : pick(2, 3);
    c->no_block = chance(25);
    c->lru_width = c->num_heads * (chance(50) ? 16 : pick(1, 12));
    c->d_model = c->no_block ? c->lru_width : chance(50) ? 32 : pick(1, 40);
    c->conv_width = c->no_block ? 1 : chance(60) ? 4 : pick(1, 5);
    c->no_reset = chance(30);
    c->no_bias = chance(30);
    c->no_conv_bias = chance(30);
    c->exact_gelu = chance(40);
    if (chance(50)) c->a_min = 0.5f;
}

template <class L> static void as_it_lies(const L *, size_t *dim, size_t *rows)
{
    *dim = *rows = 0;
}

LAYER_VERBS(selective, configure_selective, no_conv<ssm_selective>, core_scan<ssm_selective>, 0)
LAYER_VERBS(s6, configure_s6, no_conv<ssm_s6>, core_scan<ssm_s6>, 0)
LAYER_VERBS(mamba, configure_mamba, mamba_conv, core_scan<ssm_mamba>, 0)
LAYER_VERBS(mamba2, configure_mamba2, mamba2_conv, mamba2_scan, 0)
LAYER_VERBS(rglru, configure_rglru, no_conv<ssm_rglru>, as_it_lies<ssm_rglru>, 0)
LAYER_VERBS(s4d, configure_s4d, no_conv<ssm_s4d>, s4_scan<ssm_s4d>, 0)
LAYER_VERBS(s4, configure_s4, no_conv<ssm_s4>, s4_scan<ssm_s4>, 0)
LAYER_VERBS(s5, configure_s5, no_conv<ssm_s5>, as_it_lies<ssm_s5>, 1)

/* SISO and MIMO; heads of one block and of two, a slab of states and two. */
static void configure_mamba3(ssm_mamba3_config *c)
{
    static const size_t dims[] = {4, 8, 12, 24, 72};
    const int much = chance(15);
    c->d_model = chance(50) ? 32 : pick(1, 40);
    c->headdim = much ? 72 : dims[pick(0, 3)];
    c->n_groups = chance(60) ? 1 : 2;
    c->d_inner = c->headdim * c->n_groups * pick(1, 2);
    c->mimo_rank = chance(40) ? 0 : pick(1, 4);
    c->rope_fraction = chance(60) ? 0.5f : 1.0f;
    c->d_state = chance(15) ? 2 * pick(50, 80) : chance(50) ? 32 : pick(4, 40);
    if (c->mimo_rank) c->d_state += c->d_state % 2;
    c->pre_norm = chance(50);
    c->residual = chance(50);
    c->out_norm = chance(40);
}

static size_t mamba3_angles(const ssm_mamba3 *m)
{
    return m->heads * m->angles;
}

static void mamba3_scan(const ssm_mamba3 *m, size_t *dim, size_t *rows)
{
    *dim = m->config.d_inner;
    *rows = m->config.d_state;
}

LAYER_VERBS(mamba3, configure_mamba3, mamba3_angles, mamba3_scan, 0)

/* Reals of a number of the scan's states. */
template <class L> static size_t parts_of(const L *)
{
    return 1;
}

static size_t parts_of(const ssm_selective *l)
{
    return l->core.complex_A ? 2 : 1;
}

static size_t parts_of(const ssm_s6 *l)
{
    return l->core.complex_A ? 2 : 1;
}

static size_t parts_of(const ssm_mamba *l)
{
    return l->core.complex_A ? 2 : 1;
}

/* What a number of a state cannot be but at random: whether the RG-LRU had a step. */
template <class L> static void as_steps_leave(const L *, float *, size_t)
{
}

static void as_steps_leave(const ssm_rglru *m, float *state, size_t count)
{
    if (!m->config.no_reset) state[count - 1] = chance(50) ? 1.0f : 0.0f;
}

/* One layer, bound on both sides with the same parameters, and its sequences. */
template <class L, class C> struct layer_case {
    typedef layer_verbs<L, C> verbs_of;
    const verbs_of &v;
    ssm_format io;
    C config;
    ssm_seqs seqs[2];
    ssm_sizes need[2];
    L layer[2];
    tensor params, start, slot, scale, x, y;
    std::vector<unsigned char> host_bound;
    block *device_bound;

    explicit layer_case(const verbs_of &verbs) : v(verbs), io(SSM_FORMAT_REAL), device_bound(NULL)
    {
        memset(&config, 0, sizeof config);
        memset(seqs, 0, sizeof seqs);
    }
    ~layer_case() { delete device_bound; }
    layer_case(const layer_case &) = delete;
    layer_case &operator=(const layer_case &) = delete;

    size_t d_model(void) const { return config.d_model; }
    size_t rows(void) const { return seqs[0].start ? seqs[0].len : seqs[0].batch * seqs[0].len; }
    size_t states(void) const { return need[0].state / sizeof(ssm_real) / seqs[0].batch; }

    /* Factors of the steps of all rows, some of them 0. */
    void make_scale(void)
    {
        make(&scale, 0, 0, 0, rows(), 0, DENSE, 0, UNIFORM);
        for (size_t i = 0; i < rows(); ++i) scale.host[scale.base + i] = chance(10) ? 0.0f : uniform(0.0f, 2.0f);
        scale.upload();
        seqs[0].step_scale = scale.in(0).data;
        seqs[1].step_scale = scale.in(1).data;
    }

    /* Integers of the host in a device's array; tensors hold floats. */
    template <class T> void integers(tensor *t, const std::vector<T> &values)
    {
        make(t, 0, 0, 0, (values.size() * sizeof(T) + 3) / 4, 0, DENSE, 0, UNIFORM);
        cuda_ok(cudaMemcpy((float *)t->device + t->base, values.data(), values.size() * sizeof(T),
                           cudaMemcpyHostToDevice), "integers");
    }

    void bind(void)
    {
        ssm_params table = ssm_params_of(NULL, 0);
        size_t i;
        config.format = io;
        ok(v.sizes[0](&config, &seqs[0], &need[0]), "host sizes");
        ok(v.sizes[1](&config, &seqs[1], &need[1]), "sizes");
        ok(v.params(&config, NULL, &table), "table");
        make(&params, 0, 0, 0, table.count, 0, DENSE, 0, UNIFORM);
        ok(v.init(&config, params.host.data() + params.base, random_bits()), "init");
        for (i = 0; i < table.count; ++i) params.host[params.base + i] += uniform(-0.05f, 0.05f);
        params.upload();
        host_bound.assign(need[0].bound, 0);
        ok(v.bind(&layer[0], &config, params.in(0).data, ssm_memory_of(host_bound.data(), host_bound.size())), "host bind");
        device_bound = new block(need[1].bound);
        ok(v.cuda_bind(&layer[1], &config, params.in(1).data, device_bound->memory(), NULL), "bind");
        require(need[0].params == need[1].params && need[0].state == need[1].state, "sizes differ from the host's");
    }

    /* States as the other side has them: [conv][n][c] on the host, [conv][c][n] on the device. */
    std::vector<float> turned(const std::vector<float> &state, int to_device) const
    {
        const size_t conv = v.conv(&layer[0]);
        std::vector<float> r = state;
        size_t b, n, c, dim, N;
        const size_t parts = parts_of(&layer[0]);
        v.scan(&layer[0], &dim, &N);
        for (b = 0; b < state.size() / states(); ++b)
            for (n = 0; n < N; ++n)
                for (c = 0; c < dim * parts; ++c) {
                    const size_t base = b * states() + conv, host = base + n * dim * parts + c,
                                 device = base + (c / parts * N + n) * parts + c % parts;
                    if (to_device) r[device] = state[host];
                    else r[host] = state[device];
                }
        return r;
    }

    /* `count` states: on the host in t->host, turned on the device. */
    void make_states(tensor *t, size_t count, enum fill fill)
    {
        make(t, 0, 0, 0, count * states(), 0, DENSE, 0, fill);
        for (size_t i = 0; i < count; ++i) as_steps_leave(&layer[0], &t->host[t->base + i * states()], states());
        turn(t, 1);
    }

    void turn(tensor *t, int upload)
    {
        std::vector<float> inner(t->host.begin() + (ptrdiff_t)t->base, t->host.end() - GUARD);
        const std::vector<float> r = turned(inner, 1);
        std::copy(r.begin(), r.end(), t->host.begin() + (ptrdiff_t)t->base);
        if (upload) t->upload();
        std::copy(inner.begin(), inner.end(), t->host.begin() + (ptrdiff_t)t->base);
    }

    /* |error| / |reference| of states on the device. */
    void compare_states(tensor *t, double bound, const char *what)
    {
        std::vector<float> host = t->host;
        turn(t, 0);
        std::vector<float> inner(host.begin() + (ptrdiff_t)t->base, host.end() - GUARD);
        const std::vector<float> r = turned(inner, 1);
        std::copy(r.begin(), r.end(), t->host.begin() + (ptrdiff_t)t->base);
        compare(*t, bound, what);
        t->host = host;
    }
};

template <class L, class C> static void layer_shape(layer_case<L, C> *k, int half, int packed)
{
    const enum layout layouts[] = {DENSE, PADDED, TRANSPOSED, BACKWARDS};
    std::vector<size_t> start(1, 0);
    size_t b;
    int i;
    k->v.configure(&k->config);
    k->io = half ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
    k->seqs[0].batch = pick(1, 3);
    k->seqs[0].len = pick(1, on_gpu ? 300 : 40);
    for (b = 0; b < k->seqs[0].batch; ++b)
        start.push_back(b + 1 == k->seqs[0].batch ? k->seqs[0].len : pick(start.back(), k->seqs[0].len));
    for (i = 0; i < 2; ++i) {
        tensor *const t = i ? &k->y : &k->x;
        make(t, half, packed ? 0 : k->seqs[0].batch, k->seqs[0].len, k->config.d_model, 0, layouts[pick(0, 3)], 0,
             i ? POISON : UNIFORM);
        ssm_strides *const s = i ? &k->seqs[0].y : &k->seqs[0].x;
        s->batch = t->view.batch;
        s->time = t->view.time;
        s->chan = t->view.chan;
    }
    k->seqs[1] = k->seqs[0];
    if (k->v.takes_scale && chance(40)) k->make_scale();
    if (!packed) return;
    static std::vector<size_t> kept; /* the host's */
    kept = start;
    k->seqs[0].start = kept.data();
    k->integers(&k->start, start);
    k->seqs[1].start = (const size_t *)(const void *)k->start.in(1).data;
}

/* What rounded rows do to the states of a long sequence: angles of Mamba-3 add up what was rounded in every step. */
template <class C> static double drift(const C *, size_t)
{
    return 1;
}

static double drift(const ssm_mamba3_config *, size_t len)
{
    return 1 + (double)len / 40;
}

/* forward, record and backward against the host. */
template <class L, class C> static void layer_random(const layer_verbs<L, C> &verbs)
{
    int i;
    for (i = 0; i < 2 * rounds && trouble == 0; ++i) {
        const int half = i % 2, packed = i % 4 / 2;
        layer_case<L, C> k(verbs);
        tensor state, dy, dx, dparams, dstate, y;
        ssm_layer_grad g;
        layer_shape(&k, half, packed);
        const double more = half ? drift(&k.config, k.seqs[0].len) : 1;
        const double bound = more * (half ? 4e-2 : 1e-5), steep = more * (half ? 8e-2 : 1e-4);
        k.bind();
        if (trouble) return;
        const size_t batch = k.seqs[0].batch;
        const int with_state = k.states() > 0 && chance(60);
        std::vector<unsigned char> host_work(k.need[0].work + k.need[0].work_backward + k.need[0].state),
            host_tape(k.need[0].tape);
        const ssm_memory hw = ssm_memory_of(host_work.data(), host_work.size()),
                         ht = ssm_memory_of(host_tape.data(), host_tape.size());
        block work(k.need[1].work), work_backward(k.need[1].work_backward), tape(k.need[1].tape);
        if (with_state) k.make_states(&state, batch, UNIFORM);
        tensor *const forward[] = {&k.y, &state};
        float *const h[2] = {state.out(0).data, state.out(1).data};
        ok(k.v.forward(&k.layer[0], h[0], k.x.in(0).data, k.y.out(0).data, &k.seqs[0], hw), "host forward");
        twice([&] { ok(k.v.cuda_forward(&k.layer[1], h[1], k.x.in(1).data, k.y.out(1).data, &k.seqs[1], work.memory(),
                                        NULL), "forward"); },
              forward, 2, "forward: other bits");
        compare(k.y, bound, "y");
        if (with_state) k.compare_states(&state, bound, "state");

        const std::vector<float> once = k.y.download();
        if (with_state) reset(&state);
        reset(&k.y);
        if (with_state) state.host = state.start, k.make_states(&state, batch, UNIFORM);
        float *const h2[2] = {state.out(0).data, state.out(1).data};
        ok(k.v.record(&k.layer[0], h2[0], k.x.in(0).data, k.y.out(0).data, &k.seqs[0], ht, hw), "host record");
        ok(k.v.cuda_record(&k.layer[1], h2[1], k.x.in(1).data, k.y.out(1).data, &k.seqs[1], tape.memory(),
                           work.memory(), NULL), "record");
        compare(k.y, bound, "y of record");
        if (!with_state) require(same_bits(once, k.y.download()), "record and forward differ");
        make(&dy, half, packed ? 0 : batch, k.seqs[0].len, k.d_model(), 0, DENSE, 0, UNIFORM);
        make(&dx, half, packed ? 0 : batch, k.seqs[0].len, k.d_model(), 0, DENSE, 0, UNIFORM);
        make(&dparams, 0, 0, 0, k.need[0].params / sizeof(ssm_real), 0, DENSE, 0, UNIFORM);
        if (with_state) k.make_states(&dstate, batch, UNIFORM);
        ssm_seqs dense[2] = {k.seqs[0], k.seqs[1]};
        for (int d = 0; d < 2; ++d) {
            memset(&dense[d].x, 0, sizeof dense[d].x);
            memset(&dense[d].y, 0, sizeof dense[d].y);
        }
        tensor x; /* as x, dense: its values were recorded */
        make(&x, half, packed ? 0 : batch, k.seqs[0].len, k.d_model(), 0, DENSE, 0, UNIFORM);
        for (size_t r = 0; r < k.rows(); ++r)
            for (size_t c = 0; c < k.d_model(); ++c)
                x.host[x.base + r * k.d_model() + c] =
                    k.x.host[(size_t)((ptrdiff_t)k.x.base + (ptrdiff_t)(packed ? 0 : r / k.seqs[0].len) * k.x.view.batch +
                                      (ptrdiff_t)(packed ? r : r % k.seqs[0].len) * k.x.view.time +
                                      (ptrdiff_t)c * k.x.view.chan)];
        x.upload();
        g.dy = dy.in(1).data;
        g.dx = dx.out(1).data;
        g.dparams = dparams.out(1).data;
        g.dstate = dstate.out(1).data;
        tensor *const backward[] = {&dx, &dparams, &dstate};
        ok(k.v.backward(&k.layer[0], dstate.out(0).data, x.in(0).data, dy.in(0).data, dx.out(0).data,
                        dparams.out(0).data, &dense[0], ht, hw), "host backward");
        twice([&] { ok(k.v.cuda_backward(&k.layer[1], x.in(1).data, &g, &dense[1], tape.memory(),
                                         work_backward.memory(), NULL), "backward"); },
              backward, 3, "backward: other bits");
        compare(dx, steep, "dx");
        compare(dparams, steep, "dparams");
        if (with_state) k.compare_states(&dstate, steep, "dstate");
        if (trouble)
            printf("     (batch %u len %u d_model %u packed %d bf16 %d state %d scale %d)\n", (unsigned)batch,
                   (unsigned)k.seqs[0].len, (unsigned)k.d_model(), packed, half, with_state,
                   k.seqs[0].step_scale != NULL);
    }
}

static void layer_selective(void)
{
    layer_random(selective_verbs);
}

static void layer_s6(void)
{
    layer_random(s6_verbs);
}

static void layer_mamba(void)
{
    layer_random(mamba_verbs);
}

static void layer_mamba2(void)
{
    layer_random(mamba2_verbs);
}

static void layer_mamba3(void)
{
    layer_random(mamba3_verbs);
}

static void layer_s4d(void)
{
    layer_random(s4d_verbs);
}

static void layer_rglru(void)
{
    layer_random(rglru_verbs);
}

static void layer_s4(void)
{
    layer_random(s4_verbs);
}

static void layer_s5(void)
{
    layer_random(s5_verbs);
}


/* Binds a shaped case whose sequences are `batch` of `len` steps, x and y dense. */
template <class L, class C> static void layer_dense(layer_case<L, C> *k, int half, size_t batch, size_t len)
{
    ssm_seqs dense;
    memset(&dense, 0, sizeof dense);
    dense.batch = batch;
    dense.len = len;
    make(&k->x, half, batch, len, k->config.d_model, 0, DENSE, 0, UNIFORM);
    make(&k->y, half, batch, len, k->config.d_model, 0, DENSE, 0, POISON);
    k->seqs[0] = k->seqs[1] = dense;
    k->bind();
}

/* Layers that may have two directions get one, and so a state. */
template <class C> static void one_way(C *)
{
}

template <class C> static void s4_one_way(C *c)
{
    if (c->n_ssm != c->d_model) c->n_ssm = 1; /* a divisor of whatever d_model becomes */
    else c->n_ssm = 0;
    c->bidirectional = 0;
}

static void one_way(ssm_s4d_config *c)
{
    s4_one_way(c);
}

static void one_way(ssm_s4_config *c)
{
    s4_one_way(c);
}

static void one_way(ssm_rglru_config *c) /* d_model may become any number */
{
    c->no_block = 0;
}

static void one_way(ssm_s5_config *c)
{
    c->bidirectional = 0;
}

/* A scan whose splits agree to the bit; those of Mamba-3 and the RG-LRU always are. */
template <class C> static void make_sequential(C *c)
{
    c->scan = SSM_SCAN_SEQUENTIAL;
}

static void make_sequential(ssm_mamba3_config *)
{
}

static void make_sequential(ssm_rglru_config *)
{
}

/* A sequence in one piece, in two, and step by step: the same bits; and a state in another slot than the first. */
template <class L, class C> static void layer_splits(const layer_verbs<L, C> &verbs)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        const int half = i % 2;
        layer_case<L, C> k(verbs);
        std::vector<float> y[3], h[3];
        size_t t, cut;
        int way;
        layer_shape(&k, half, 0);
        one_way(&k.config);
        make_sequential(&k.config);
        if (half) k.config.d_model = 32; /* rows at multiples of 16 bytes, wherever they begin */
        layer_dense(&k, half, 1, k.seqs[0].len);
        if (trouble) return;
        block work(k.need[1].work);
        tensor state;
        k.make_states(&state, 3, UNIFORM);
        cut = pick(0, k.seqs[0].len);
        for (way = 0; way < 3; ++way) {
            const size_t len = k.seqs[0].len, each = half ? 2 : 4;
            ssm_seqs s = k.seqs[1];
            reset(&state);
            reset(&k.y);
            tensor slot;
            k.integers(&slot, std::vector<ptrdiff_t>(1, 1));
            for (t = 0; t < len; t += s.len) {
                const char *x = (const char *)k.x.in(1).data + t * k.config.d_model * each;
                char *out = (char *)k.y.out(1).data + t * k.config.d_model * each;
                s.len = way == 0 ? len : way == 2 ? 1 : t < cut ? cut : len - cut;
                s.slot = way == 1 ? (const ptrdiff_t *)(const void *)slot.in(1).data : NULL;
                float *const at = state.out(1).data + (way == 1 ? 0 : k.states());
                if (way == 2) ok(k.v.cuda_step(&k.layer[1], at, x, out, 1, work.memory(), NULL), "step");
                else ok(k.v.cuda_forward(&k.layer[1], at, x, out, &s, work.memory(), NULL), "forward");
            }
            y[way] = k.y.download();
            h[way] = state.download();
        }
        require(same_bits(y[0], y[1]) && same_bits(h[0], h[1]), "two pieces give other bits than one");
        require(same_bits(y[0], y[2]) && same_bits(h[0], h[2]), "steps give other bits than forward");
        if (trouble)
            printf("     (len %u cut %u d_model %u state %u bf16 %d)\n", (unsigned)k.seqs[0].len, (unsigned)cut,
                   (unsigned)k.config.d_model, (unsigned)k.states(), half);
    }
}

/* Padding: outputs 0, no state touched; other sequences as if they were alone. */
template <class L, class C> static void layer_slots(const layer_verbs<L, C> &verbs)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        layer_case<L, C> k(verbs);
        const int half = i % 2;
        std::vector<ptrdiff_t> slot(3);
        ssm_seqs one;
        size_t b, j;
        layer_shape(&k, half, 0);
        one_way(&k.config);
        make_sequential(&k.config);
        if (half) k.config.d_model = 32; /* rows at multiples of 16 bytes, wherever they begin */
        layer_dense(&k, half, 3, chance(50) ? 1 : k.seqs[0].len);
        if (trouble) return;
        block work(k.need[1].work);
        tensor state, slots;
        k.make_states(&state, 5, UNIFORM);
        slot[0] = 4;
        slot[1] = -1;
        slot[2] = 1;
        k.integers(&slots, slot);
        k.seqs[1].slot = (const ptrdiff_t *)(const void *)slots.in(1).data;
        ok(k.v.cuda_forward(&k.layer[1], state.out(1).data, k.x.in(1).data, k.y.out(1).data, &k.seqs[1], work.memory(),
                            NULL), "slots");
        const std::vector<float> y = k.y.download(), h = state.download();
        reset(&state);
        reset(&k.y);
        one = k.seqs[1];
        one.slot = NULL;
        one.batch = 1;
        const size_t each = k.seqs[0].len * k.config.d_model;
        for (b = 0; b < 3; b += 2) {
            const size_t at = b * each * (half ? 2 : 4);
            ok(k.v.cuda_forward(&k.layer[1], state.out(1).data + (size_t)slot[b] * k.states(),
                                (const char *)k.x.in(1).data + at, (char *)k.y.out(1).data + at, &one, work.memory(),
                                NULL), "alone");
        }
        require(same_bits(h, state.download()), "states in slots");
        const std::vector<float> alone = k.y.download();
        for (j = 0; j < 3 * each; ++j) {
            const float want = j / each == 1 ? 0.0f : alone[k.y.base + j];
            require(memcmp(&y[k.y.base + j], &want, 4) == 0 || y[k.y.base + j] == want, "outputs in slots");
        }
    }
}

/* One row through a Mamba block: four kernels, with the bits of the ops one by one, which a call with slots takes. */
static void mamba_layer_decode(void)
{
    int i;
    for (i = 0; i < 4 * rounds && trouble == 0; ++i) {
        const int half = i % 2;
        layer_case<ssm_mamba, ssm_mamba_config> k(mamba_verbs);
        std::vector<float> y[2], h[2];
        int way;
        memset(&k.config, 0, sizeof k.config);
        k.config.d_model = i / 2 == 0 ? 2056 : i / 2 == 1 && !half ? 132 : 8 * (chance(50) ? pick(1, 9) : pick(17, 40));
        EMULATOR(emulator_order = i / 2 % 2);
        k.config.d_inner = 8 * pick(1, 20);
        k.config.d_state = 4 * pick(1, 9);
        k.config.n_groups = 1;
        k.config.dt_rank = chance(15) ? 136 : 8 * pick(1, 5);
        k.config.d_conv = pick(2, 4);
        k.config.proj_bias = chance(30);
        k.config.x_proj_bias = chance(30);
        k.config.no_conv_bias = chance(30);
        k.config.no_dt_bias = chance(20);
        k.config.pre_norm = chance(70);
        k.config.residual = chance(50);
        k.io = half ? SSM_FORMAT_BF16 : SSM_FORMAT_REAL;
        layer_dense(&k, half, 1, 1);
        if (trouble) return;
        block work(k.need[1].work);
        tensor state, slot;
        k.make_states(&state, 2, UNIFORM);
        k.integers(&slot, std::vector<ptrdiff_t>(1, 1));
        for (way = 0; way < 2; ++way) {
            ssm_seqs s = k.seqs[1];
            reset(&state);
            reset(&k.y);
            EMULATOR(emulator_launches = 0);
            if (way == 0)
                ok(k.v.cuda_step(&k.layer[1], state.out(1).data + k.states(), k.x.in(1).data, k.y.out(1).data, 1,
                                 work.memory(), NULL), "step");
            EMULATOR(if (way == 0 && (k.config.d_model <= 2048 || half || !k.config.pre_norm))
                         require(emulator_launches == 4, "a step of other than four kernels"));
            s.slot = (const ptrdiff_t *)(const void *)slot.in(1).data;
            if (way == 1)
                ok(k.v.cuda_forward(&k.layer[1], state.out(1).data, k.x.in(1).data, k.y.out(1).data, &s, work.memory(),
                                    NULL), "forward");
            y[way] = k.y.download();
            h[way] = state.download();
        }
        require(same_bits(y[0], y[1]), "other outputs than the ops one by one");
        require(same_bits(h[0], h[1]), "other states than the ops one by one");
        if (trouble)
            printf("     (d_model %u d_inner %u d_state %u dt_rank %u d_conv %u bf16 %d)\n", (unsigned)k.config.d_model,
                   (unsigned)k.layer[1].config.d_inner, (unsigned)k.config.d_state, (unsigned)k.config.dt_rank,
                   (unsigned)k.config.d_conv, half);
    }
    EMULATOR(emulator_order = 0);
}

/* Few states and many steps: time is cut into chunks, within rounding of the host, forward and back. */
static void layer_chunks(void)
{
    int i;
    for (i = 0; i < 2 && trouble == 0; ++i) {
        layer_case<ssm_s5, ssm_s5_config> k(s5_verbs);
        tensor dy, dx, dparams, dstate, state;
        ssm_layer_grad g;
        layer_shape(&k, 0, 0);
        one_way(&k.config);
        k.config.real_state = i;
        k.config.lru = 0;
        if (k.config.d_state % (2 * k.config.blocks)) k.config.no_conj_sym = 1;
        layer_dense(&k, 0, pick(1, 2), 512 + pick(0, 100));
        if (trouble) return;
        const size_t batch = k.seqs[0].batch, len = k.seqs[0].len;
        if (chance(50)) k.make_scale();
        std::vector<unsigned char> host_work(k.need[0].work + k.need[0].work_backward), host_tape(k.need[0].tape);
        const ssm_memory hw = ssm_memory_of(host_work.data(), host_work.size()),
                         ht = ssm_memory_of(host_tape.data(), host_tape.size());
        block work(k.need[1].work), work_backward(k.need[1].work_backward), tape(k.need[1].tape);
        k.make_states(&state, batch, UNIFORM);
        k.make_states(&dstate, batch, UNIFORM);
        make(&dy, 0, batch, len, k.d_model(), 0, DENSE, 0, UNIFORM);
        make(&dx, 0, batch, len, k.d_model(), 0, DENSE, 0, UNIFORM);
        make(&dparams, 0, 0, 0, k.need[0].params / sizeof(ssm_real), 0, DENSE, 0, UNIFORM);
        ok(k.v.record(&k.layer[0], state.out(0).data, k.x.in(0).data, k.y.out(0).data, &k.seqs[0], ht, hw), "host");
        ok(k.v.cuda_record(&k.layer[1], state.out(1).data, k.x.in(1).data, k.y.out(1).data, &k.seqs[1], tape.memory(),
                           work.memory(), NULL), "record");
        compare(k.y, 1e-5, "y in chunks");
        k.compare_states(&state, 1e-5, "states in chunks");
        g.dy = dy.in(1).data;
        g.dx = dx.out(1).data;
        g.dparams = dparams.out(1).data;
        g.dstate = dstate.out(1).data;
        tensor *const backward[] = {&dx, &dparams, &dstate};
        ok(k.v.backward(&k.layer[0], dstate.out(0).data, k.x.in(0).data, dy.in(0).data, dx.out(0).data,
                        dparams.out(0).data, &k.seqs[0], ht, hw), "host backward");
        twice([&] { ok(k.v.cuda_backward(&k.layer[1], k.x.in(1).data, &g, &k.seqs[1], tape.memory(),
                                         work_backward.memory(), NULL), "backward"); },
              backward, 3, "backward in chunks: other bits");
        compare(dx, 1e-4, "dx in chunks");
        compare(dparams, 1e-4, "dparams in chunks");
        k.compare_states(&dstate, 1e-4, "dstate in chunks");
    }
}

/* C~ of a checkpoint: bind solves for C, of more channels than are solved for at a time, in both directions; such a
 * layer has no tape, and no host's function takes it. */
static void layer_checkpoint(void)
{
    int i;
    for (i = 0; i < rounds && trouble == 0; ++i) {
        layer_case<ssm_s4, ssm_s4_config> k(s4_verbs);
        size_t bytes;
        layer_shape(&k, 0, 0);
        k.config.d_state = 2 * pick(1, i == 1 ? 3 : 12);
        if (i == 1) k.config.n_ssm = 1, k.config.d_model = SSM__S4_SOLVERS + pick(1, 20);
        k.config.bidirectional = i % 2;
        k.config.l_max = pick(1, 300);
        layer_dense(&k, 0, 2, pick(1, 40));
        if (trouble) return;
        std::vector<unsigned char> host_work(k.need[0].work);
        block work(k.need[1].work), tape(k.need[1].tape);
        tensor state;
        k.make_states(&state, 2, UNIFORM);
        ok(k.v.forward(&k.layer[0], state.out(0).data, k.x.in(0).data, k.y.out(0).data, &k.seqs[0],
                       ssm_memory_of(host_work.data(), host_work.size())), "host forward");
        ok(k.v.cuda_forward(&k.layer[1], state.out(1).data, k.x.in(1).data, k.y.out(1).data, &k.seqs[1], work.memory(),
                            NULL), "forward");
        compare(k.y, 2e-4, "y of a checkpoint");
        k.compare_states(&state, 1e-5, "states of a checkpoint");
        require(k.v.cuda_record(&k.layer[1], state.out(1).data, k.x.in(1).data, k.y.out(1).data, &k.seqs[1],
                                tape.memory(), work.memory(), NULL) == SSM_ERR_UNSUPPORTED, "a tape of a checkpoint");
        require(ssm_s4_plain_C(&k.layer[1], k.params.host.data()) == SSM_ERR_UNSUPPORTED, "its plain C on the host");
        require(ssm_s4_kernel_size(&k.layer[1], 8, &bytes) == SSM_ERR_UNSUPPORTED, "its kernel on the host");
        if (trouble)
            printf("     (d_model %u d_state %u l_max %u)\n", (unsigned)k.d_model(), (unsigned)k.config.d_state,
                   (unsigned)k.config.l_max);
    }
}

/* What a layer of two directions refuses: it has no state, and no step. */
static void layer_two_ways(void)
{
    layer_case<ssm_s5, ssm_s5_config> k(s5_verbs);
    ssm_s5 empty;
    memset(&empty, 0, sizeof empty);
    layer_shape(&k, 0, 0);
    k.config.bidirectional = 1;
    layer_dense(&k, 0, 2, 3);
    if (trouble) return;
    block work(k.need[1].work);
    float *const y = k.y.out(1).data;
    const float *const x = k.x.in(1).data;
    require(k.need[1].state == 0 && k.need[1].work_step == 0, "a state or a step of two directions");
    require(ssm_cuda_s5_step(&k.layer[1], NULL, x, y, 1, work.memory(), NULL) == SSM_ERR_UNSUPPORTED, "a step");
    require(ssm_cuda_s5_forward(&k.layer[1], y, x, y, &k.seqs[1], work.memory(), NULL) == SSM_ERR_UNSUPPORTED,
            "a state");
    require(ssm_cuda_s5_step(&empty, y, x, y, 1, work.memory(), NULL) == SSM_ERR_CONFIG, "a step never bound");
    require(ssm_s5_forward(&k.layer[1], NULL, k.x.in(0).data, k.y.out(0).data, &k.seqs[0], ssm_memory_of(NULL, 0)) ==
                SSM_ERR_UNSUPPORTED, "a layer of the device on the host");
    k.seqs[1].step_scale = NULL;
    k.config.disc = SSM_DISC_TRAPEZOID;
    require(ssm_cuda_s5_sizes(&k.config, &k.seqs[1], &k.need[1]) == SSM_ERR_CONFIG, "a trapezoid");
    require(same_bits(k.y.download(), k.y.start) || k.y.start[k.y.base] != k.y.start[k.y.base], "outputs untouched");
}

template <class L, class C> static void layer_errors(const layer_verbs<L, C> &verbs)
{
    layer_case<L, C> k(verbs);
    ssm_layer_grad g;
    ssm_sizes need;
    L empty;
    memset(&empty, 0, sizeof empty);
    memset(&g, 0, sizeof g);
    layer_shape(&k, 0, 0);
    one_way(&k.config);
    k.bind();
    if (trouble) return;
    tensor state;
    k.make_states(&state, k.seqs[0].batch, UNIFORM);
    block work(k.need[1].work), tape(k.need[1].tape);
    float *const h = state.out(1).data;
    const void *const x = k.x.in(1).data;
    void *const y = k.y.out(1).data;
    const ssm_memory w = work.memory(), less = ssm_memory_of(work.data, 1), t = tape.memory();
    const ssm_seqs *s = &k.seqs[1];
    std::vector<unsigned char> host_work(k.need[0].work);
    g.dy = y;
    require(k.v.cuda_forward(NULL, h, x, y, s, w, NULL) == SSM_ERR_NULL, "no layer");
    require(k.v.cuda_forward(&empty, h, x, y, s, w, NULL) == SSM_ERR_CONFIG, "a layer never bound");
    require(k.v.cuda_forward(&k.layer[0], h, x, y, s, w, NULL) == SSM_ERR_CONFIG, "a layer of the host");
    require(k.v.forward(&k.layer[1], state.out(0).data, k.x.in(0).data, k.y.out(0).data, &k.seqs[0],
                        ssm_memory_of(host_work.data(), host_work.size())) == SSM_ERR_UNSUPPORTED,
            "a layer of the device on the host");
    require(k.v.step(&k.layer[1], state.out(0).data, k.x.in(0).data, k.y.out(0).data, 1,
                     ssm_memory_of(host_work.data(), host_work.size())) == SSM_ERR_UNSUPPORTED,
            "a step of a layer of the device on the host");
    require(k.v.cuda_forward(&k.layer[1], h, NULL, y, s, w, NULL) == SSM_ERR_NULL, "no x");
    require(k.v.cuda_forward(&k.layer[1], h, x, y, NULL, w, NULL) == SSM_ERR_NULL, "no sequences");
    require(k.v.cuda_forward(&k.layer[1], h, x, y, s, less, NULL) == SSM_ERR_MEMORY, "a byte of workspace");
    require(k.v.cuda_step(&k.layer[1], NULL, x, y, 1, w, NULL) == SSM_ERR_NULL, "a step without a state");
    require(k.v.cuda_record(&k.layer[1], h, x, y, s, less, w, NULL) == SSM_ERR_TAPE, "a byte of tape");
    require(k.v.cuda_backward(&k.layer[1], x, NULL, s, t, w, NULL) == SSM_ERR_NULL, "no gradients");
    require(k.v.cuda_backward(&k.layer[1], x, &g, s, t, less, NULL) == SSM_ERR_MEMORY, "workspace of backward");
    require(k.v.cuda_bind(&empty, &k.config, k.params.in(1).data, less, NULL) == SSM_ERR_BOUND, "a byte to bind");
    k.config.format = SSM_FORMAT_INT8;
    require(k.v.sizes[1](&k.config, s, &need) == SSM_ERR_UNSUPPORTED, "int8");
    cuda_ok(cudaDeviceSynchronize(), "errors");
    require(same_bits(k.y.download(), k.y.start) || k.y.start[k.y.base] != k.y.start[k.y.base], "outputs untouched");
}

/* A step of two blocks in a graph, replayed, gives the bits of steps that were called. */
template <class L, class C> static void layer_graph(const layer_verbs<L, C> &verbs)
{
#ifndef SSM__CUDA_ON_HOST
    layer_case<L, C> k(verbs);
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t run;
    int i;
    layer_shape(&k, 0, 0);
    one_way(&k.config);
    k.config.d_model = 64;
    layer_dense(&k, 0, 2, 1);
    if (trouble) return;
    block work(k.need[1].work);
    tensor state;
    k.make_states(&state, 4, UNIFORM);
    float *const h[2] = {state.out(1).data, state.out(1).data + 2 * k.states()};
    for (i = 0; i < 2; ++i) {
        ok(k.v.cuda_step(&k.layer[1], h[0], k.x.in(1).data, k.y.out(1).data, 2, work.memory(), NULL), "step");
        ok(k.v.cuda_step(&k.layer[1], h[1], k.y.in(1).data, k.y.out(1).data, 2, work.memory(), NULL), "step");
    }
    const std::vector<float> states = state.download(), y = k.y.download();
    reset(&state);
    reset(&k.y);
    cuda_ok(cudaStreamCreate(&stream), "stream");
    cuda_ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
    for (i = 0; i < 2; ++i)
        require(k.v.cuda_step(&k.layer[1], h[i], i ? k.y.in(1).data : k.x.in(1).data, k.y.out(1).data, 2, work.memory(),
                              stream) == SSM_OK,
                "captured step");
    cuda_ok(cudaStreamEndCapture(stream, &graph), "end of capture");
    cuda_ok(cudaGraphInstantiate(&run, graph, 0), "instantiate");
    for (i = 0; i < 2; ++i) cuda_ok(cudaGraphLaunch(run, stream), "launch");
    cuda_ok(cudaStreamSynchronize(stream), "replay");
    require(same_bits(states, state.download()) && same_bits(y, k.y.download()), "replayed steps give other bits");
#else
    (void)verbs;
#endif
}

#define LAYER_TESTS(X)                                                                                                 \
    static void X##_layer_splits(void) { layer_splits(X##_verbs); }                                                    \
    static void X##_layer_slots(void) { layer_slots(X##_verbs); }                                                      \
    static void X##_layer_errors(void) { layer_errors(X##_verbs); }                                                    \
    static void X##_layer_graph(void) { layer_graph(X##_verbs); }
LAYER_TESTS(mamba)
LAYER_TESTS(mamba3)
LAYER_TESTS(s5)
LAYER_TESTS(s4d)
LAYER_TESTS(s4)
LAYER_TESTS(rglru)
