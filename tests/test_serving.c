/* test_serving.c - slots: a batch of any streams, in any order, over states that never move; padding; and the states
 * after all steps. */

enum { SERVING_SLOTS = 13 };

/* Layers of every kind and state, beside those of test_layers.c. The convolution form, the last, computes two sequences
 * by one transform: the place in a batch changes roundings. */
static const layer_config serving_configs[] = {
    LAYER(s4d, .d_model = 5, .d_state = 4),
    LAYER(s4, .d_model = 5, .d_state = 4),
    LAYER(s5, .d_model = 5, .d_state = 6),
    LAYER(s5, .d_model = 5, .d_state = 3, .lru = 1),
    LAYER(rglru, .d_model = 5, .lru_width = 20, .num_heads = 2),
    LAYER(s5, .d_model = 4, .d_state = 4, .bidirectional = 1),
    LAYER(s4, .d_model = 4, .d_state = 4, .form = SSM_S4_FORM_CONVOLUTION, .l_max = 200),
};

typedef struct serving_case {
    size_t batch;
    size_t len;          /* of each; packed: all rows */
    const size_t *start; /* packed */
    ptrdiff_t slot[9];
} serving_case;

static const size_t serving_decode[] = {1, 2, 3, 4, 5, 6, 26, 27, 28, 36};
static const size_t serving_short[] = {0, 3, 6, 9, 9, 12, 15, 17, 19, 150};

static const serving_case serving_cases[] = {
    {9, 1, NULL, {4, 3, 12, -1, 0, 7, -5, 2, 6}},
    {9, 1, NULL, {-1, -1, -1, 8, 0, 1, 2, 3, 4}},
    {3, 70, NULL, {9, -1, 2}},
    {5, 9, NULL, {5, -1, 4, 3, 11}},
    {4, 3, NULL, {-1, -2, -3, -4}},
    {9, 38, serving_decode, {4, 3, 12, -1, 0, 7, 9, 2, 6}},
    {9, 150, serving_short, {1, 2, -1, 3, 4, 5, 6, -1, 7}},
};

static size_t serving_first(const serving_case *k, size_t b)
{
    return k->start ? k->start[b] : b * k->len;
}

static size_t serving_len(const serving_case *k, size_t b)
{
    return k->start ? k->start[b + 1] - k->start[b] : k->len;
}

/* Every sequence alone is what a call with slots makes of it; `gap` reals lie between neighbouring channels. */
static void serving_check(const layer_model *m, ssm_rng *rng, const serving_case *k, size_t gap)
{
    const size_t rows = k->start ? k->len : k->batch * k->len, M = m->d_model, step = gap + 1;
    ssm_seqs seqs = test_seqs(k->batch, k->len);
    ssm_real *x = test_normal(rng, rows * M, 1), *spaced = test_normal(rng, rows * M * step, 1);
    ssm_real *y = test_copy(spaced, rows * M * step), *want = test_copy(y, rows * M * step);
    ssm_real *states = test_normal(rng, SERVING_SLOTS * m->states, 1), *want_states, *out = test_zeros(rows * M);
    size_t b, t, c;
    want_states = test_copy(states, SERVING_SLOTS * m->states);
    for (c = 0; c < rows * M; ++c) spaced[c * step] = x[c];
    for (b = 0; b < k->batch; ++b) {
        const ssm_seqs alone = test_seqs(1, serving_len(k, b));
        const size_t at = serving_first(k, b) * M;
        if (k->slot[b] >= 0)
            layer_forward(m, m->states ? want_states + (size_t)k->slot[b] * m->states : NULL, x + at, out + at, &alone);
        for (t = 0; t < alone.len; ++t)
            for (c = 0; c < M; ++c)
                want[(at + t * M + c) * step] = k->slot[b] < 0 ? 0 : out[at + t * M + c];
    }
    seqs.start = k->start;
    seqs.slot = k->slot;
    if (gap) {
        seqs.x.chan = (ptrdiff_t)step;
        seqs.x.time = (ptrdiff_t)(M * step);
        seqs.x.batch = (ptrdiff_t)(k->len * M * step);
        seqs.y = seqs.x;
    }
    layer_forward(m, m->states ? states : NULL, gap ? spaced : x, y, &seqs);
    layer_compare(y, want, rows * M * step, m->whole);
    layer_compare(states, want_states, SERVING_SLOTS * m->states, m->whole);
    test_free(x, 0), test_free(spaced, 0), test_free(y, 0), test_free(want, 0);
    test_free(states, 0), test_free(want_states, 0), test_free(out, 0);
}

static void serving_law(layer_model *m, ssm_rng *rng)
{
    size_t i;
    m->whole = m->whole || m->config == serving_configs[TEST_COUNT(serving_configs) - 1].config;
    for (i = 0; i < TEST_COUNT(serving_cases); ++i) serving_check(m, rng, &serving_cases[i], i % 2);
}

static void test_serving_layers(void)
{
    layer_each(serving_law, layer_configs, TEST_COUNT(layer_configs));
    layer_each(serving_law, serving_configs, TEST_COUNT(serving_configs));
}

/* Without a state a slot says no more than what is padding. */
static void test_serving_no_state(void)
{
    static const ptrdiff_t slot[] = {7, -1, 900};
    const layer_config config = LAYER(mamba, .d_model = 5);
    const ssm_seqs plain = test_seqs(3, 4);
    ssm_seqs seqs = plain;
    ssm_rng rng = test_rng(71);
    ssm_real *x, y[60], want[60];
    layer_model m;
    size_t i;
    layer_open(&m, &config, &rng, 0);
    x = test_normal(&rng, 60, 1);
    seqs.slot = slot;
    layer_forward(&m, NULL, x, want, &plain);
    for (i = 20; i < 40; ++i) want[i] = 0;
    layer_forward(&m, NULL, x, y, &seqs);
    CHECK_SAME(y, want, 60);
    test_free(x, 0);
    layer_close(&m, 0);
}

static void test_serving_errors(void)
{
    static const ptrdiff_t twice[] = {3, -1, -1, 3}, good[] = {3, -1, -1, 0};
    const layer_config config = LAYER(mamba, .d_model = 2, .d_state = 2);
    ssm_seqs seqs = test_seqs(4, 1);
    ssm_rng rng = test_rng(72);
    ssm_sizes need = {0};
    ssm_real *states, x[8] = {0}, y[8] = {9, 9, 9, 9, 9, 9, 9, 9};
    void *work, *tape;
    layer_model m;
    layer_io io = {0};
    layer_open(&m, &config, &rng, 0);
    CHECK_OK(m.type->sizes(m.config, &seqs, &need));
    states = test_zeros(4 * m.states);
    work = test_alloc(need.work, 0);
    tape = test_alloc(need.tape, 0);
    seqs.slot = twice;
    io.layer = &m.layer, io.seqs = &seqs, io.state = states, io.x = x, io.y = y, io.dy = x;
    io.work = ssm_memory_of(work, need.work);
    io.tape = ssm_memory_of(tape, need.tape);
    CHECK(layer_call(m.type, LAYER_FORWARD, &io) == SSM_ERR_SHAPE);
    CHECK(m.type->sizes(m.config, &seqs, &need) == SSM_ERR_SHAPE);
    seqs.slot = good;
    CHECK(layer_call(m.type, LAYER_RECORD, &io) == SSM_ERR_UNSUPPORTED);
    CHECK(layer_call(m.type, LAYER_BACKWARD, &io) == SSM_ERR_UNSUPPORTED);
    CHECK(y[0] == 9 && y[7] == 9);
    CHECK_OK(layer_call(m.type, LAYER_FORWARD, &io));
    CHECK(y[2] == 0 && y[5] == 0);
    test_free(states, 0), test_free(work, 0), test_free(tape, 0);
    layer_close(&m, 0);
}

/*--- ops: random tensors of 3 sequences of 5 steps and of one packed tensor; 6 channels, 4 states ---*/

enum { SERVING_B = 3, SERVING_L = 5, SERVING_C = 6, SERVING_N = 4, SERVING_S = 8 };

static const ptrdiff_t serving_slot[SERVING_B] = {6, -1, 2};
static const size_t serving_start[SERVING_B + 1] = {1, 6, 11, 14};

typedef struct serving_data {
    ssm_real *u, *delta, *A, *B, *C, *D, *z;
    ssm_real *state; /* [slots][2 channels of 2 x 4 numbers each] */
} serving_data;

static serving_data serving_make(ssm_rng *rng)
{
    enum { ROWS = SERVING_B * SERVING_L };
    serving_data d;
    size_t i;
    d.u = test_normal(rng, ROWS * SERVING_C * 2, 1);
    d.delta = test_normal(rng, ROWS * SERVING_C, 1);
    d.A = test_normal(rng, SERVING_C * SERVING_N * 2, 1);
    d.B = test_normal(rng, ROWS * SERVING_C * SERVING_N * 2, 1);
    d.C = test_normal(rng, ROWS * SERVING_C * SERVING_N * 2, 1);
    d.D = test_normal(rng, SERVING_C, 1);
    d.z = test_normal(rng, ROWS * SERVING_C, 1);
    d.state = test_normal(rng, SERVING_S * SERVING_C * SERVING_N * 2, 1);
    for (i = 0; i < SERVING_C * SERVING_N * 2; ++i) d.A[i] = -(ssm_real)fabs((double)d.A[i]);
    return d;
}

static void serving_free(const serving_data *d)
{
    test_free(d->u, 0), test_free(d->delta, 0), test_free(d->A, 0), test_free(d->B, 0), test_free(d->C, 0);
    test_free(d->D, 0), test_free(d->z, 0), test_free(d->state, 0);
}

/* Runs an op on `batch` sequences from `data`, with states at `state` (updated) and outputs at y. */
typedef struct serving_call {
    const serving_data *data;
    size_t batch;
    size_t len;
    size_t first; /* sequence of the tensors */
    const size_t *start;
    const ptrdiff_t *slot;
    int step;
    ssm_real *state;
    ssm_real *y; /* [row][channel][2] */
    ssm_real *h; /* every state, of the selective scan and SSD */
} serving_call;

typedef void (*serving_op)(const serving_call *k);

static ssm_in serving_rows(const serving_call *k, const ssm_real *data, size_t width)
{
    ssm_in v = ssm_in_btc(data, k->len, width);
    v.data += k->first * (size_t)v.batch;
    return v;
}

static ssm_out serving_rows_out(const serving_call *k, size_t width)
{
    return ssm_out_like(k->y + k->first * k->len * width, serving_rows(k, k->y, width));
}

static ssm_in serving_states(const serving_call *k, const ssm_real *data, size_t chans)
{
    ssm_in v = ssm_in_btcn(data, k->len, chans, SERVING_N);
    v.data += k->first * (size_t)v.batch;
    return v;
}

static void serving_scan_of(const serving_call *k, ssm_disc disc)
{
    const size_t N = disc == SSM_DISC_TRAPEZOID ? 2 * SERVING_N : SERVING_N;
    ssm_selective_scan s = {0};
    ssm_sizes need = {0};
    void *work;
    s.batch = k->batch, s.len = k->len, s.dim = SERVING_C, s.d_state = SERVING_N;
    s.B_groups = 2, s.C_groups = 3, s.disc = disc, s.delta_softplus = 1;
    s.start = k->start, s.slot = k->slot;
    s.u = serving_rows(k, k->data->u, SERVING_C);
    s.delta = serving_rows(k, k->data->delta, SERVING_C);
    s.A = ssm_in_cn(k->data->A, SERVING_N);
    s.B = serving_states(k, k->data->B, 2);
    s.C = serving_states(k, k->data->C, 3);
    s.D = ssm_in_c(k->data->D);
    s.z = serving_rows(k, k->data->z, SERVING_C);
    s.h0 = ssm_in_bcn(k->state, SERVING_C, N);
    s.h_last = ssm_out_like(k->state, s.h0);
    if (k->h) s.h = ssm_out_like(k->h, ssm_in_btcn(k->h, k->len, SERVING_C, N));
    s.y = serving_rows_out(k, SERVING_C);
    if (k->step) {
        CHECK_OK(ssm_selective_scan_step(&s));
        return;
    }
    CHECK_OK(ssm_selective_scan_sizes(&s, &need));
    work = test_alloc(need.work, 0);
    CHECK_OK(ssm_selective_scan_forward(&s, ssm_memory_of(work, need.work)));
    test_free(work, 0);
}

static void serving_scan(const serving_call *k)
{
    serving_scan_of(k, SSM_DISC_ZOH);
}

static void serving_trapezoid(const serving_call *k)
{
    serving_scan_of(k, SSM_DISC_TRAPEZOID);
}

static void serving_ssd(const serving_call *k)
{
    ssm_ssd s = {0};
    ssm_sizes need = {0};
    void *work;
    s.batch = k->batch, s.len = k->len, s.heads = 3, s.headdim = SERVING_C / 3, s.d_state = SERVING_N;
    s.start = k->start, s.slot = k->slot, s.delta_softplus = 1;
    s.x = serving_rows(k, k->data->u, SERVING_C);
    s.delta = serving_rows(k, k->data->delta, 3);
    s.A = ssm_in_c(k->data->A);
    s.B = serving_states(k, k->data->B, 1);
    s.C = serving_states(k, k->data->C, 1);
    s.D = ssm_in_c(k->data->D);
    s.h0 = ssm_in_bcn(k->state, SERVING_C, SERVING_N);
    s.h_last = ssm_out_like(k->state, s.h0);
    if (k->h) s.h = ssm_out_like(k->h, ssm_in_btcn(k->h, k->len, SERVING_C, SERVING_N));
    s.y = serving_rows_out(k, SERVING_C);
    if (k->step) {
        CHECK_OK(ssm_ssd_step(&s));
        return;
    }
    CHECK_OK(ssm_ssd_sizes(&s, &need));
    work = test_alloc(need.work, 0);
    CHECK_OK(ssm_ssd_forward(&s, ssm_memory_of(work, need.work)));
    test_free(work, 0);
}

static void serving_conv(const serving_call *k)
{
    ssm_conv s = {0};
    s.batch = k->batch, s.len = k->len, s.dim = SERVING_C, s.width = SERVING_N + 1, s.silu = 1;
    s.start = k->start, s.slot = k->slot;
    s.x = serving_rows(k, k->data->u, SERVING_C);
    s.weight = ssm_in_cn(k->data->C, SERVING_N + 1);
    s.bias = ssm_in_c(k->data->D);
    s.state = ssm_in_bcn(k->state, SERVING_C, SERVING_N);
    s.state_last = ssm_out_like(k->state, s.state);
    s.y = serving_rows_out(k, SERVING_C);
    CHECK_OK(k->step ? ssm_conv_step(&s) : ssm_conv_forward(&s));
}

static void serving_line(const serving_call *k)
{
    ssm_linear_scan s = {0};
    s.batch = k->batch, s.len = k->len, s.dim = SERVING_C, s.complex_values = 1, s.reverse = 1;
    s.start = k->start, s.slot = k->slot, s.scan = SSM_SCAN_SEQUENTIAL;
    s.a = ssm_in_pairs(ssm_in_c(k->data->A));
    s.b = ssm_in_pairs(serving_rows(k, k->data->u, SERVING_C));
    s.b.data = k->data->u + k->first * (size_t)s.b.batch;
    s.h0 = ssm_in_pairs(ssm_in_btc(k->state, 1, SERVING_C));
    s.h_last = ssm_out_like(k->state, s.h0);
    s.h = ssm_out_like(k->y + k->first * (size_t)s.b.batch, s.b);
    CHECK_OK(ssm_linear_scan_forward(&s, ssm_memory_of(NULL, 0)));
}

static void serving_s5(const serving_call *k)
{
    ssm_s5_scan s = {0};
    ssm_sizes need = {0};
    void *work;
    s.batch = k->batch, s.len = k->len, s.dim = SERVING_C, s.d_state = SERVING_N, s.complex_output = 1;
    s.start = k->start, s.slot = k->slot;
    s.u = serving_rows(k, k->data->u, SERVING_C);
    s.delta = serving_states(k, k->data->delta, 1);
    s.A = ssm_in_pairs(ssm_in_cn(k->data->A, SERVING_N));
    s.B = ssm_in_pairs(ssm_in_cn(k->data->B, SERVING_N));
    s.C = ssm_in_pairs(ssm_in_cn(k->data->C, SERVING_N));
    s.D = ssm_in_c(k->data->D);
    s.h0 = ssm_in_pairs(ssm_in_bcn(k->state, 1, SERVING_N));
    s.h_last = ssm_out_like(k->state, s.h0);
    s.y = ssm_out_like(k->y, ssm_in_pairs(ssm_in_btc(k->y, k->len, SERVING_C)));
    s.y.data += k->first * (size_t)s.y.batch;
    CHECK_OK(ssm_s5_scan_sizes(&s, &need));
    work = test_alloc(need.work, 0);
    CHECK_OK((k->step ? ssm_s5_scan_step : ssm_s5_scan_forward)(&s, ssm_memory_of(work, need.work)));
    test_free(work, 0);
}

/* The op's sequences with slots, and each alone without. Reals of a row of y, and of a state. */
static void serving_op_check(serving_op op, size_t width, size_t states, int has_step)
{
    enum { Y = SERVING_B * SERVING_L * SERVING_C * 2, STATES = SERVING_S * SERVING_C * SERVING_N * 2 };
    ssm_rng rng = test_rng(73);
    const serving_data data = serving_make(&rng);
    int kind; /* dense, packed, step */
    for (kind = 0; kind < 2 + has_step; ++kind) {
        ssm_real *y = test_normal(&rng, Y, 1), *want = test_copy(y, Y);
        ssm_real *state = test_copy(data.state, STATES), *want_state = test_copy(state, STATES);
        serving_call k = {0};
        size_t b, i;
        k.data = &data, k.step = kind == 2;
        for (b = 0; b < SERVING_B; ++b) {
            const size_t len = kind == 2 ? 1 : SERVING_L, first = kind == 1 ? serving_start[b] : b * len;
            const size_t rows = kind == 1 ? serving_start[b + 1] - first : len;
            const size_t alone[2] = {first, first + rows};
            if (serving_slot[b] < 0) {
                for (i = 0; i < rows * width; ++i) want[first * width + i] = 0;
                continue;
            }
            k.batch = 1, k.len = kind == 1 ? SERVING_B * SERVING_L : len;
            k.first = kind == 1 ? 0 : b;
            k.start = kind == 1 ? alone : NULL;
            k.state = want_state + (size_t)serving_slot[b] * states, k.y = want;
            op(&k);
        }
        k.batch = SERVING_B, k.first = 0, k.start = kind == 1 ? serving_start : NULL;
        k.slot = serving_slot, k.state = state, k.y = y;
        if (kind == 1) k.len = SERVING_B * SERVING_L;
        op(&k);
        CHECK_SAME(y, want, Y);
        CHECK_SAME(state, want_state, STATES);
        test_free(y, 0), test_free(want, 0), test_free(state, 0), test_free(want_state, 0);
    }
    serving_free(&data);
}

static void test_serving_ops(void)
{
    serving_op_check(serving_scan, SERVING_C, SERVING_C * SERVING_N, 1);
    serving_op_check(serving_trapezoid, SERVING_C, SERVING_C * SERVING_N * 2, 1);
    serving_op_check(serving_ssd, SERVING_C, SERVING_C * SERVING_N, 1);
    serving_op_check(serving_conv, SERVING_C, SERVING_C * SERVING_N, 1);
    serving_op_check(serving_s5, SERVING_C * 2, SERVING_N * 2, 1);
    serving_op_check(serving_line, SERVING_C * 2, SERVING_C * 2, 0);
}

/* Backward and twice the same slot: errors of the ops. */
static void test_serving_op_errors(void)
{
    static const ptrdiff_t twice[] = {1, 0, 1};
    const ssm_real one[3] = {1, 1, 1};
    ssm_real y[3] = {9, 9, 9}, state[2] = {0, 0};
    ssm_selective_scan s = {0};
    ssm_selective_scan_grad g = {0};
    ssm_conv c = {0};
    s.batch = 3, s.len = 1, s.dim = 1, s.d_state = 1;
    s.u = s.delta = s.B = s.C = ssm_in_btcn(one, 1, 1, 1);
    s.A = ssm_in_c(one);
    s.y = ssm_out_like(y, s.u);
    s.h_last = ssm_out_like(state, ssm_in_bcn(one, 1, 1));
    s.slot = twice;
    g.dy = s.u;
    CHECK(ssm_selective_scan_forward(&s, ssm_memory_of(NULL, 0)) == SSM_ERR_SHAPE);
    CHECK(ssm_selective_scan_step(&s) == SSM_ERR_SHAPE);
    c.batch = 3, c.len = 1, c.dim = 1, c.width = 2, c.x = s.u, c.weight = ssm_in_cn(one, 2), c.y = s.y;
    c.state_last = s.h_last, c.slot = twice;
    CHECK(ssm_conv_step(&c) == SSM_ERR_SHAPE);
    CHECK(y[0] == 9 && y[2] == 9 && state[1] == 0);
    s.slot = serving_slot;
    CHECK(ssm_selective_scan_backward(&s, &g, ssm_memory_of(NULL, 0)) == SSM_ERR_UNSUPPORTED);
}

/*--- every state ---*/

/* h of a forward is the state after each step of a sequence alone; y and h_last stay what they are. */
static void serving_shown_check(serving_op op, size_t rows, int packed)
{
    enum { Y = SERVING_B * SERVING_L * SERVING_C * 2, STATES = SERVING_S * SERVING_C * SERVING_N * 2 };
    const size_t states = SERVING_C * rows, count = SERVING_B * SERVING_L * states;
    ssm_rng rng = test_rng(74);
    const serving_data data = serving_make(&rng);
    ssm_real *y = test_zeros(Y), *want = test_zeros(Y), *h = test_normal(&rng, count, 1), *want_h = test_copy(h, count);
    ssm_real *state = test_copy(data.state, STATES), *want_state = test_copy(state, STATES);
    serving_call k = {0};
    size_t b, t;
    k.data = &data, k.batch = SERVING_B, k.len = SERVING_L, k.state = want_state, k.y = want;
    k.slot = serving_slot;
    if (packed) k.len *= SERVING_B, k.start = serving_start;
    op(&k);
    k.state = state, k.y = y, k.h = h;
    op(&k);
    CHECK_SAME(y, want, Y);
    CHECK_SAME(state, want_state, STATES);
    for (b = 0; b < SERVING_B; ++b) {
        const size_t first = packed ? serving_start[b] : b * SERVING_L;
        const size_t len = packed ? serving_start[b + 1] - first : (size_t)SERVING_L;
        ssm_real *one = test_copy(data.state + (serving_slot[b] < 0 ? 0 : (size_t)serving_slot[b]) * states, states);
        for (t = first; t < first + len && serving_slot[b] >= 0; ++t) {
            const size_t alone[2] = {t, t + 1};
            k.batch = 1, k.len = SERVING_B * SERVING_L, k.start = alone, k.slot = NULL, k.state = one, k.y = want;
            k.h = NULL;
            op(&k);
            memcpy(want_h + t * states, one, states * sizeof *one);
        }
        test_free(one, 0);
    }
    CHECK_SAME(h, want_h, count);
    test_free(y, 0), test_free(want, 0), test_free(h, 0), test_free(want_h, 0), test_free(state, 0);
    test_free(want_state, 0);
    serving_free(&data);
}

static void test_serving_shown(void)
{
    int packed;
    for (packed = 0; packed < 2; ++packed) {
        serving_shown_check(serving_scan, SERVING_N, packed);
        serving_shown_check(serving_trapezoid, 2 * SERVING_N, packed);
        serving_shown_check(serving_ssd, SERVING_N, packed);
    }
}

static const test_case serving_tests[] = {
    {"serving/layers", test_serving_layers},       {"serving/no_state", test_serving_no_state},
    {"serving/errors", test_serving_errors},       {"serving/ops", test_serving_ops},
    {"serving/op_errors", test_serving_op_errors}, {"serving/every_state", test_serving_shown},
};
