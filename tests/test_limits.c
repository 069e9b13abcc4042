/* test_limits.c - numbers far out: pauses, parameters and sizes beyond any use give finite results or a clear error. */

/* Whether all are finite: for infinity and NaN the difference is NaN. */
static int limits_finite(const ssm_real *p, size_t count)
{
    size_t i;
    for (i = 0; i < count; ++i)
        if (p[i] - p[i] != 0) return 0;
    return 1;
}

/* Layer X of 6 channels with every number of the row `name` at `value`: outputs, states and gradients are finite. */
#define LIMITS_LAYER(X)                                                                                                \
    static void limits_##X##_at(ssm_##X##_config config, const char *name, double value)                               \
    {                                                                                                                  \
        enum { DIM = 6, LEN = 9 };                                                                                     \
        ssm_seqs seqs = test_seqs(1, LEN);                                                                             \
        ssm_param rows[SSM_PARAMS_MAX];                                                                                \
        ssm_params table = {0};                                                                                        \
        const ssm_param *row;                                                                                          \
        ssm_real x[LEN * DIM], y[LEN * DIM], dx[LEN * DIM] = {0}, *params, *dparams, *state;                           \
        ssm_memory bound, work, tape;                                                                                  \
        ssm_sizes need;                                                                                                \
        ssm_##X layer;                                                                                                 \
        size_t i, count, states;                                                                                       \
        for (i = 0; i < LEN * DIM; ++i) x[i] = (ssm_real)(0.1 * (double)(i % 7) - 0.3);                                \
        config.d_model = DIM;                                                                                          \
        table.row = rows;                                                                                              \
        table.capacity = SSM_PARAMS_MAX;                                                                               \
        CHECK_OK(ssm_##X##_params(&config, NULL, &table));                                                             \
        CHECK_OK(ssm_##X##_sizes(&config, &seqs, &need));                                                              \
        count = need.params / sizeof(ssm_real);                                                                        \
        states = need.state / sizeof(ssm_real);                                                                        \
        need.work = need.work > need.work_backward + need.state ? need.work : need.work_backward + need.state;         \
        params = test_zeros(count);                                                                                    \
        dparams = test_zeros(count);                                                                                   \
        state = test_zeros(states);                                                                                    \
        bound = ssm_memory_of(test_alloc(need.bound, 0), need.bound);                                                  \
        work = ssm_memory_of(test_alloc(need.work, 0), need.work);                                                     \
        tape = ssm_memory_of(test_alloc(need.tape, 0), need.tape);                                                     \
        CHECK_OK(ssm_##X##_init(&config, params, 3));                                                                  \
        row = ssm_params_find(&table, name);                                                                           \
        CHECK(row->count > 0);                                                                                  \
        for (i = 0; i < row->count; ++i) params[row->offset + i] = (ssm_real)value;                             \
        CHECK_OK(ssm_##X##_bind(&layer, &config, params, bound));                                                      \
        CHECK_OK(ssm_##X##_record(&layer, state, x, y, &seqs, tape, work));                                            \
        CHECK(limits_finite(y, LEN * DIM));                                                                            \
        CHECK(limits_finite(state, states));                                                                           \
        CHECK_OK(ssm_##X##_backward(&layer, NULL, x, x, dx, dparams, &seqs, tape, work));                              \
        CHECK(limits_finite(dx, LEN * DIM));                                                                           \
        CHECK(limits_finite(dparams, count));                                                                          \
        test_free(params, 0), test_free(dparams, 0), test_free(state, 0);                                              \
        test_free(bound.data, 0), test_free(work.data, 0), test_free(tape.data, 0);                                    \
    }
LIMITS_LAYER(selective)
LIMITS_LAYER(s6)
LIMITS_LAYER(mamba)
LIMITS_LAYER(mamba2)
LIMITS_LAYER(mamba3)
LIMITS_LAYER(rglru)
LIMITS_LAYER(s4d)
LIMITS_LAYER(s4)
LIMITS_LAYER(s5)

/* Logarithms whose exponential is 0 or infinite, and steps as large as numbers get. */
static void limits_parameters(void)
{
    static const double far[] = {-1000, -100, 80, 100, 1000};
    size_t k;
    int disc;
    for (disc = SSM_DISC_ZOH; disc <= SSM_DISC_ZOH_TRAPEZOID; ++disc) {
        ssm_selective_config selective = {0};
        ssm_mamba_config mamba = {0};
        ssm_mamba2_config mamba2 = {0};
        ssm_mamba3_config mamba3 = {0};
        ssm_rglru_config rglru = {0};
        ssm_s4d_config s4d = {0};
        ssm_s6_config s6 = {0};
        ssm_s5_config s5 = {0}, lru = {0};
        ssm_s4_config s4 = {0};
        selective.disc = mamba.disc = s4d.disc = s6.disc = s5.disc = (ssm_disc)disc;
        for (k = 0; k < TEST_COUNT(far); ++k) {
            limits_selective_at(selective, "log_a", far[k]);
            limits_selective_at(selective, "b_delta", far[k]);
            limits_s6_at(s6, "A_log", far[k]);
            limits_s6_at(s6, "dt_proj.bias", far[k]);
            limits_mamba_at(mamba, "A_log", far[k]);
            mamba2.headdim = mamba3.headdim = 4;
            mamba3.mimo_rank = k % 3;
            if (disc == SSM_DISC_ZOH) limits_mamba2_at(mamba2, "A_log", far[k]);
            if (disc == SSM_DISC_ZOH) limits_mamba2_at(mamba2, "dt_bias", far[k]);
            if (disc == SSM_DISC_TRAPEZOID) limits_mamba3_at(mamba3, "dt_bias", far[k]);
            if (disc == SSM_DISC_ZOH) limits_rglru_at(rglru, "rg_lru.recurrent_param", far[k]);
            if (disc == SSM_DISC_ZOH) limits_rglru_at(rglru, "rg_lru.recurrent_gate_bias", far[k]);
            if (disc == SSM_DISC_ZOH) limits_s4_at(s4, "log_dt", far[k]);
            if (disc == SSM_DISC_ZOH) limits_s4_at(s4, "A_real", far[k]);
            if (disc >= SSM_DISC_TRAPEZOID) continue;
            if (disc == SSM_DISC_ZOH || disc == SSM_DISC_BILINEAR) {
                s4d.real_state = 0;
                limits_s4d_at(s4d, "log_dt", far[k]);
                limits_s4d_at(s4d, "log_A_real", far[k]);
                s4d.real_state = 1;
                limits_s4d_at(s4d, "log_dt", far[k]);
            }
            if (disc == SSM_DISC_EULER) {
                lru.lru = 1;
                limits_s5_at(lru, "nu_log", far[k]);
                limits_s5_at(lru, "theta_log", far[k]);
                if (far[k] < 0) limits_s5_at(lru, "gamma_log", far[k]); /* it scales B */
            }
            s5.real_state = 1;
            limits_s5_at(s5, "A_log", far[k]);
            if (disc == SSM_DISC_EULER && far[k] > 0) continue; /* B is scaled by the step, and that has no limit */
            limits_s5_at(s5, "log_dt", far[k]);
            s5.real_state = 0;
            limits_s5_at(s5, "log_step", far[k]);
        }
        limits_s6_at(s6, "dt_proj.bias", TOL(1e30, 1e200));
    }
}

/* S5: a pause is step_scale of one row. The outputs stay finite, also in `event` mode, and where the state decays what
 * was before the pause is forgotten: two different pasts agree after it. */
static void limits_pause(ssm_disc disc, double pause, int event)
{
    enum { DIM = 4, LEN = 7, AT = 3 };
    ssm_s5_config config = {0};
    ssm_seqs seqs = test_seqs(2, LEN);
    ssm_real x[2 * LEN * DIM], y[2 * LEN * DIM], scale[2 * LEN], dx[2 * LEN * DIM] = {0}, *params, *dparams;
    ssm_memory bound, work, tape;
    ssm_sizes need;
    ssm_s5 layer;
    size_t i;
    for (i = 0; i < LEN * DIM; ++i) {
        x[i] = (ssm_real)(0.1 * (double)(i % 7) - 0.3);
        x[LEN * DIM + i] = i < AT * DIM ? -2 * x[i] : x[i];
    }
    for (i = 0; i < 2 * LEN; ++i) scale[i] = (ssm_real)(i % LEN == AT ? pause : 1);
    config.d_model = DIM;
    config.d_state = 10;
    config.disc = disc;
    config.event = event;
    config.activation = SSM_S5_NONE;
    seqs.step_scale = scale;
    CHECK_OK(ssm_s5_sizes(&config, &seqs, &need));
    need.work = need.work + need.work_backward + need.state;
    params = test_zeros(need.params / sizeof(ssm_real));
    dparams = test_zeros(need.params / sizeof(ssm_real));
    bound = ssm_memory_of(test_alloc(need.bound, 0), need.bound);
    work = ssm_memory_of(test_alloc(need.work, 0), need.work);
    tape = ssm_memory_of(test_alloc(need.tape, 0), need.tape);
    CHECK_OK(ssm_s5_init(&config, params, 3));
    CHECK_OK(ssm_s5_bind(&layer, &config, params, bound));
    CHECK_OK(ssm_s5_record(&layer, NULL, x, y, &seqs, tape, work));
    CHECK_OK(ssm_s5_backward(&layer, NULL, x, x, dx, dparams, &seqs, tape, work));
    CHECK(limits_finite(y, 2 * LEN * DIM));
    CHECK(limits_finite(dx, 2 * LEN * DIM));
    CHECK(limits_finite(dparams, need.params / sizeof(ssm_real)));
    if (disc != SSM_DISC_BILINEAR && pause >= 1e7)
        CHECK_SAME(y + AT * DIM, y + (LEN + AT) * DIM, (size_t)((LEN - AT) * DIM));
    test_free(params, 0), test_free(dparams, 0);
    test_free(bound.data, 0), test_free(work.data, 0), test_free(tape.data, 0);
}

static void limits_pauses(void)
{
    int disc, event;
    double pause;
    for (disc = SSM_DISC_ZOH; disc <= SSM_DISC_DIRAC; ++disc)
        for (event = 0; event < 2; ++event)
            for (pause = 1e4; pause < 2e30; pause *= 10) limits_pause((ssm_disc)disc, pause, event);
}

/* A state that turns without decay: exp(i delta w) for angles to millions of turns, against the exact product. */
static void limits_turns(void)
{
    static const ssm_real zero = 0, pair[2] = {0, 0};
    ssm_rng rng = test_rng(91);
    int k;
    for (k = 0; k < 4000; ++k) {
        const double span = pow(10, 6.5 * (double)ssm_rng_uniform(&rng));
        const ssm_real delta = (ssm_real)span * ssm_rng_uniform(&rng);
        const ssm_real A[2] = {0, 1 + ssm_rng_uniform(&rng)}, start[2] = {1, 0};
        const double angle = (double)delta * (double)A[1];
        double want[2];
        ssm_real last[2], y, room[4096];
        ssm_s5_scan s = {0};
        want[0] = cos(angle);
        want[1] = sin(angle);
        s.batch = s.len = s.dim = s.d_state = 1;
        s.disc = SSM_DISC_DIRAC;
        s.u = ssm_in_btc(&zero, 1, 1);
        s.delta = ssm_in_btcn(&delta, 1, 1, 1);
        s.A = ssm_in_pairs(ssm_in_cn(A, 1));
        s.B = s.C = ssm_in_pairs(ssm_in_cn(pair, 1));
        s.h0 = ssm_in_pairs(ssm_in_bcn(start, 1, 1));
        s.h_last = ssm_out_like(last, s.h0);
        s.y = ssm_out_like(&y, s.u);
        CHECK_OK(ssm_s5_scan_forward(&s, ssm_memory_of(room, sizeof room)));
        if (angle < 6.4e6) CHECK_CLOSE(last, want, 2, TOL(3e-7, 1e-9));
        CHECK(limits_finite(last, 2));
    }
}

/* Bytes that no size_t holds; and problems without a step, which need no tensors. */
static void limits_extents(void)
{
    ssm_linear linear = {0};
    ssm_s5_scan s5 = {0};
    ssm_s5_scan_grad s5_grad = {{0}};
    ssm_selective_scan scan = {0};
    ssm_selective_scan_grad scan_grad = {{0}};
    ssm_conv conv = {0};
    ssm_conv_grad conv_grad = {{0}};
    ssm_real room[4096];
    size_t bytes = 7;
    int format;
    for (format = SSM_FORMAT_REAL; format <= SSM_FORMAT_INT8; ++format) {
        linear.format = (ssm_format)format;
        linear.in = 3;
        linear.out = (size_t)-1;
        CHECK_STATUS(ssm_linear_pack_size(&linear, &bytes), SSM_ERR_OVERFLOW);
        linear.out = (size_t)-1 - 40;
        CHECK_STATUS(ssm_linear_pack_size(&linear, &bytes), SSM_ERR_OVERFLOW);
        linear.in = (size_t)-1 / 2;
        linear.out = 5;
        CHECK_STATUS(ssm_linear_pack_size(&linear, &bytes), SSM_ERR_OVERFLOW);
        CHECK(bytes == 7);
    }
    s5.dim = s5.d_state = scan.dim = scan.d_state = conv.dim = conv.width = 1;
    CHECK_OK(ssm_s5_scan_forward(&s5, ssm_memory_of(room, sizeof room)));
    CHECK_OK(ssm_s5_scan_backward(&s5, &s5_grad, ssm_memory_of(room, sizeof room)));
    CHECK_OK(ssm_selective_scan_forward(&scan, ssm_memory_of(room, sizeof room)));
    CHECK_OK(ssm_selective_scan_backward(&scan, &scan_grad, ssm_memory_of(room, sizeof room)));
    CHECK_OK(ssm_conv_forward(&conv));
    CHECK_OK(ssm_conv_backward(&conv, &conv_grad));
}

static const test_case limits_cases[] = {
    {"limits/parameters", limits_parameters},
    {"limits/pauses", limits_pauses},
    {"limits/turns", limits_turns},
    {"limits/extents", limits_extents},
};
