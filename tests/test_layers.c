/* test_layers.c - the laws that every layer keeps, its oracle, its gradients, memory and errors.
 *
 * A layer is one row of function pointers (layer_type) with an oracle: one time step in double, or whole sequences
 * (oracle_lti.h), written from the published formulas. The laws are written once and run over layer_configs. */

/*--- what a law knows about a layer ---*/

typedef struct layer_oracle { /* a layer in double */
    const void *config;       /* resolved */
    const ssm_params *table;
    const double *params;
    const double *scale; /* factors of the steps of a sequence, or NULL */
} layer_oracle;

typedef struct layer_type {
    ssm_scan (*scan)(const void *config);
    ssm_status (*resolve)(const void *config, void *resolved);
    ssm_status (*params)(const void *config, const char *prefix, ssm_params *table);
    ssm_status (*sizes)(const void *config, const ssm_seqs *seqs, ssm_sizes *need);
    ssm_status (*init)(const void *config, ssm_real *params, uint64_t seed);
    ssm_status (*bind)(void *layer, const void *config, const ssm_real *params, ssm_memory mem);
    ssm_status (*attach)(void *layer, const void *config, ssm_bound block);
    ssm_bound (*bound)(const void *layer); /* what bind left */
    ssm_status (*forward)(const void *layer, ssm_real *state, const ssm_real *x, ssm_real *y, const ssm_seqs *seqs,
                          ssm_memory work);
    ssm_status (*step)(const void *layer, ssm_real *state, const ssm_real *x, ssm_real *y, size_t streams,
                       ssm_memory work);
    ssm_status (*record)(const void *layer, ssm_real *state, const ssm_real *x, ssm_real *y, const ssm_seqs *seqs,
                         ssm_memory tape, ssm_memory work);
    ssm_status (*backward)(const void *layer, ssm_real *dstate, const ssm_real *x, const ssm_real *dy, ssm_real *dx,
                           ssm_real *dparams, const ssm_seqs *seqs, ssm_memory tape, ssm_memory work);
    void (*oracle)(const layer_oracle *o, double *state, const double *x, double *y); /* one step */
    void (*whole)(const layer_oracle *o, double *state, const double *x, double *y, size_t len); /* or a sequence */
} layer_type;

#define LAYER_SCAN(X)                                    \
    static ssm_scan layer_##X##_scan(const void *config) \
    {                                                    \
        return ((const ssm_##X##_config *)config)->scan; \
    }

/* The verbs of layer X without their types, and its row, with the oracle of one step or of whole sequences. */
#define LAYER_TYPE(X, oracle) LAYER_TYPE_OF(X, oracle, NULL)
#define LAYER_TYPE_OF(X, oracle, whole)                                                                                     \
    static ssm_status layer_##X##_resolve(const void *config, void *resolved)                                          \
    {                                                                                                                  \
        return ssm_##X##_config_resolve((const ssm_##X##_config *)config, (ssm_##X##_config *)resolved);               \
    }                                                                                                                  \
    static ssm_status layer_##X##_params(const void *config, const char *prefix, ssm_params *table)                    \
    {                                                                                                                  \
        return ssm_##X##_params((const ssm_##X##_config *)config, prefix, table);                                      \
    }                                                                                                                  \
    static ssm_status layer_##X##_sizes(const void *config, const ssm_seqs *seqs, ssm_sizes *need)                     \
    {                                                                                                                  \
        return ssm_##X##_sizes((const ssm_##X##_config *)config, seqs, need);                                          \
    }                                                                                                                  \
    static ssm_status layer_##X##_init(const void *config, ssm_real *params, uint64_t seed)                            \
    {                                                                                                                  \
        return ssm_##X##_init((const ssm_##X##_config *)config, params, seed);                                         \
    }                                                                                                                  \
    static ssm_status layer_##X##_bind(void *layer, const void *config, const ssm_real *params, ssm_memory mem)        \
    {                                                                                                                  \
        return ssm_##X##_bind((ssm_##X *)layer, (const ssm_##X##_config *)config, params, mem);                        \
    }                                                                                                                  \
    static ssm_status layer_##X##_attach(void *layer, const void *config, ssm_bound block)                             \
    {                                                                                                                  \
        return ssm_##X##_attach((ssm_##X *)layer, (const ssm_##X##_config *)config, block);                            \
    }                                                                                                                  \
    static ssm_bound layer_##X##_bound(const void *layer)                                                              \
    {                                                                                                                  \
        return ((const ssm_##X *)layer)->bound;                                                                        \
    }                                                                                                                  \
    static ssm_status layer_##X##_forward(const void *layer, ssm_real *state, const ssm_real *x, ssm_real *y,          \
                                          const ssm_seqs *seqs, ssm_memory work)                                       \
    {                                                                                                                  \
        return ssm_##X##_forward((const ssm_##X *)layer, state, x, y, seqs, work);                                     \
    }                                                                                                                  \
    static ssm_status layer_##X##_step(const void *layer, ssm_real *state, const ssm_real *x, ssm_real *y,             \
                                       size_t streams, ssm_memory work)                                                \
    {                                                                                                                  \
        return ssm_##X##_step((const ssm_##X *)layer, state, x, y, streams, work);                                     \
    }                                                                                                                  \
    static ssm_status layer_##X##_record(const void *layer, ssm_real *state, const ssm_real *x, ssm_real *y,           \
                                         const ssm_seqs *seqs, ssm_memory tape, ssm_memory work)                       \
    {                                                                                                                  \
        return ssm_##X##_record((const ssm_##X *)layer, state, x, y, seqs, tape, work);                                \
    }                                                                                                                  \
    static ssm_status layer_##X##_backward(const void *layer, ssm_real *dstate, const ssm_real *x, const ssm_real *dy, \
                                           ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs, ssm_memory tape,     \
                                           ssm_memory work)                                                            \
    {                                                                                                                  \
        return ssm_##X##_backward((const ssm_##X *)layer, dstate, x, dy, dx, dparams, seqs, tape, work);               \
    }                                                                                                                  \
    static const layer_type layer_##X = {layer_##X##_scan,    layer_##X##_resolve,  layer_##X##_params,                \
                                         layer_##X##_sizes,   layer_##X##_init,     layer_##X##_bind,                  \
                                         layer_##X##_attach,  layer_##X##_bound,    layer_##X##_forward,               \
                                         layer_##X##_step,    layer_##X##_record,   layer_##X##_backward,              \
                                         oracle,              whole}

/*--- the oracle ---*/

#define LAYER_WIDE 512 /* numbers in the widest row of any layer below */

static const double *layer_weight(const layer_oracle *o, const char *name)
{
    const ssm_param *row = ssm_params_find(o->table, name);
    return row->count ? o->params + row->offset : NULL;
}

/* y = weight x + bias */
static void layer_affine(const double *weight, const double *bias, const double *x, size_t in, double *y, size_t out)
{
    size_t i, k;
    for (i = 0; i < out; ++i) {
        y[i] = bias ? bias[i] : 0;
        for (k = 0; k < in; ++k) y[i] += weight[i * in + k] * x[k];
    }
}

/* One state through one step, as ssm_disc says. *before: w of the step before, for TRAPEZOID. */
static double layer_advance(ssm_disc disc, double A, double delta, double w, double h, double *before)
{
    const double x = delta * A, a = exp(x);
    double v;
    switch (disc) {
    case SSM_DISC_ZOH:
        return a * h + expm1(x) / A * w;
    case SSM_DISC_BILINEAR:
        return ((1 + x / 2) * h + delta * w) / (1 - x / 2);
    case SSM_DISC_DIRAC:
        return a * h + w;
    case SSM_DISC_TRAPEZOID:
        v = *before;
        *before = w;
        return a * h + delta / 2 * a * v + delta / 2 * w;
    case SSM_DISC_ZOH_TRAPEZOID:
        return a * h + delta * (1 + a) / 2 * w;
    default:
        return a * h + delta * w;
    }
}

typedef struct layer_scan { /* what does not change along time */
    ssm_disc disc;
    size_t dim;
    size_t d_state;
    size_t groups;
    const double *A_log;
    size_t A_row; /* d_state, or 0 if all channels share one A */
    const double *D;
    ssm_dbc_norm norm; /* of dt, B and C */
    double norm_eps;
    int complex_A;        /* B, C and the state are pairs */
    const double *A_imag; /* as A_log */
} layer_scan;

/* Reals of B, or of C, of one group. */
static size_t layer_numbers(const layer_scan *s)
{
    return s->complex_A ? 2 * s->d_state : s->d_state;
}

#ifndef TEST_NO_COMPLEX
static double oracle_scan_channel(const layer_scan *s, size_t c, double u, double delta, const double *B, const double *C,
                                  double *state);
#endif

/* RMSNorm of n numbers in place; no weights: ones. */
static void layer_rms(const double *weight, double eps, double *x, size_t n)
{
    double square = 0;
    size_t i;
    for (i = 0; i < n; ++i) square += x[i] * x[i];
    for (i = 0; i < n; ++i) x[i] = x[i] / sqrt(square / (double)n + eps) * (weight ? weight[i] : 1);
}

/* Channel c through one step; state [d_state][dim], for TRAPEZOID twice. */
static double layer_scan_channel(const layer_scan *s, size_t c, double u, double delta, const double *B,
                                 const double *C, double *state)
{
    const size_t first = c / (s->dim / s->groups) * layer_numbers(s);
    double y = s->D[c] * u;
    size_t n;
#ifndef TEST_NO_COMPLEX
    if (s->complex_A) return y + oracle_scan_channel(s, c, u, delta, B + first, C + first, state);
#endif
    for (n = 0; n < s->d_state; ++n) {
        double *h = state + n * s->dim + c;
        double *before = s->disc == SSM_DISC_TRAPEZOID ? h + s->d_state * s->dim : NULL;
        *h = layer_advance(s->disc, -exp(s->A_log[c * s->A_row + n]), delta, B[first + n] * u, *h, before);
        y += C[first + n] * *h;
    }
    return y;
}

static void layer_selective_oracle(const layer_oracle *o, double *state, const double *x, double *y)
{
    const ssm_selective_config *k = (const ssm_selective_config *)o->config;
    const layer_scan s = {k->disc, k->d_model, k->d_state, 1, layer_weight(o, "log_a"), 0, layer_weight(o, "d_skip"),
                          SSM_DBC_PLAIN, 0, k->complex_A, layer_weight(o, "a_imag")};
    double B[LAYER_WIDE], C[LAYER_WIDE], delta;
    size_t c;
    layer_affine(layer_weight(o, "w_delta"), layer_weight(o, "b_delta"), x, s.dim, &delta, 1);
    layer_affine(layer_weight(o, "w_b"), NULL, x, s.dim, B, layer_numbers(&s));
    layer_affine(layer_weight(o, "w_c"), NULL, x, s.dim, C, layer_numbers(&s));
    for (c = 0; c < s.dim; ++c) y[c] = layer_scan_channel(&s, c, x[c], test_softplus(delta), B, C, state);
}

/* S6 on u; the same inside Mamba. */
static void layer_core(const layer_oracle *o, layer_scan s, size_t dt_rank, double *state, const double *u, double *y)
{
    const size_t numbers = layer_numbers(&s), width = s.groups * numbers;
    double dbc[LAYER_WIDE], delta[LAYER_WIDE];
    size_t c;
    s.A_log = layer_weight(o, "A_log");
    s.A_imag = layer_weight(o, "A_imag");
    s.A_row = s.d_state;
    s.D = layer_weight(o, "D");
    layer_affine(layer_weight(o, "x_proj.weight"), layer_weight(o, "x_proj.bias"), u, s.dim, dbc, dt_rank + 2 * width);
    if (s.norm) layer_rms(layer_weight(o, "dt_layernorm.weight"), s.norm_eps, dbc, dt_rank);
    for (c = 0; s.norm && c < 2 * s.groups; ++c)
        layer_rms(layer_weight(o, c < s.groups ? "b_layernorm.weight" : "c_layernorm.weight"), s.norm_eps,
                  dbc + dt_rank + c * numbers, numbers);
    layer_affine(layer_weight(o, "dt_proj.weight"), layer_weight(o, "dt_proj.bias"), dbc, dt_rank, delta, s.dim);
    for (c = 0; c < s.dim; ++c)
        y[c] = layer_scan_channel(&s, c, u[c], test_softplus(delta[c]), dbc + dt_rank, dbc + dt_rank + width, state);
}

static void layer_s6_oracle(const layer_oracle *o, double *state, const double *x, double *y)
{
    const ssm_s6_config *k = (const ssm_s6_config *)o->config;
    const layer_scan s = {k->disc, k->d_model, k->d_state, k->n_groups, NULL, 0, NULL, SSM_DBC_PLAIN, 0, k->complex_A,
                          NULL};
    layer_core(o, s, k->dt_rank, state, x, y);
}

/* u = silu(conv of the line [state | u]), one step of E channels; the state moves on by one row. */
static void layer_conv(const layer_oracle *o, size_t E, size_t K, double *state, double *u)
{
    const double *weight = layer_weight(o, "conv1d.weight"), *bias = layer_weight(o, "conv1d.bias");
    size_t e, k;
    for (e = 0; e < E; ++e) {
        double sum = K > 1 ? weight[e * K + K - 1] * u[e] : u[e];
        if (bias) sum += bias[e];
        for (k = 0; k + 1 < K; ++k) {
            sum += weight[e * K + k] * state[k * E + e];
            state[k * E + e] = k + 2 < K ? state[(k + 1) * E + e] : u[e];
        }
        u[e] = test_silu(sum);
    }
}

static void layer_mamba_oracle(const layer_oracle *o, double *state, const double *x, double *y)
{
    const ssm_mamba_config *k = (const ssm_mamba_config *)o->config;
    const size_t M = k->d_model, E = k->d_inner;
    const layer_scan s = {k->disc, E, k->d_state, k->n_groups, NULL, 0, NULL, k->dbc_norm, (double)k->dbc_norm_eps,
                          k->complex_A, NULL};
    const double *norm = layer_weight(o, "norm.weight");
    double in[LAYER_WIDE], xz[LAYER_WIDE], gated[LAYER_WIDE], square = 0;
    size_t i;
    for (i = 0; i < M; ++i) square += x[i] * x[i];
    for (i = 0; i < M; ++i)
        in[i] = norm ? x[i] / sqrt(square / (double)M + (double)k->norm_eps) * norm[i] : x[i];
    layer_affine(layer_weight(o, "in_proj.weight"), layer_weight(o, "in_proj.bias"), in, M, xz, 2 * E);
    layer_conv(o, E, k->d_conv, state, xz);
    layer_core(o, s, k->dt_rank, state + (k->d_conv - 1) * E, xz, gated);
    for (i = 0; i < E; ++i) gated[i] *= test_silu(xz[E + i]);
    layer_affine(layer_weight(o, "out_proj.weight"), layer_weight(o, "out_proj.bias"), gated, E, y, M);
    for (i = 0; i < M && k->residual; ++i) y[i] += x[i];
}

static void layer_mamba2_oracle(const layer_oracle *o, double *state, const double *x, double *y)
{
    const ssm_mamba2_config *k = (const ssm_mamba2_config *)o->config;
    const size_t M = k->d_model, E = k->d_inner, N = k->d_state, G = k->n_groups, H = E / k->headdim;
    const size_t width = E + 2 * G * N;
    const double *norm = layer_weight(o, "norm.weight"), *pre = layer_weight(o, "pre_norm.weight");
    const double *D = layer_weight(o, "D");
    double in[LAYER_WIDE], all[LAYER_WIDE], out[LAYER_WIDE], *u = all + E, *h = state + (k->d_conv - 1) * width;
    size_t c, n, g;
    for (c = 0; c < M; ++c) in[c] = x[c];
    if (pre) layer_rms(pre, (double)k->norm_eps, in, M);
    layer_affine(layer_weight(o, "in_proj.weight"), layer_weight(o, "in_proj.bias"), in, M, all, E + width + H);
    layer_conv(o, width, k->d_conv, state, u);
    for (c = 0; c < E; ++c) {
        const size_t head = c / k->headdim, group = head / (H / G);
        const double *B = u + E + group * N, *C = u + E + (G + group) * N;
        double delta = test_softplus(u[width + head] + layer_weight(o, "dt_bias")[head]);
        delta = fmax(delta, (double)k->dt_limit_min);
        if (k->dt_limit_max > 0) delta = fmin(delta, (double)k->dt_limit_max);
        out[c] = D[k->D_has_hdim ? c : head] * u[c];
        for (n = 0; n < N; ++n) {
            double *s = h + n * E + c;
            *s = layer_advance(SSM_DISC_EULER, -exp(layer_weight(o, "A_log")[head]), delta, B[n] * u[c], *s, NULL);
            out[c] += C[n] * *s;
        }
        if (!k->norm_before_gate || !norm) out[c] *= test_silu(all[c]);
    }
    for (g = 0; norm && g < G; ++g) layer_rms(norm + g * (E / G), (double)k->norm_eps, out + g * (E / G), E / G);
    for (c = 0; c < E && norm && k->norm_before_gate; ++c) out[c] *= test_silu(all[c]);
    layer_affine(layer_weight(o, "out_proj.weight"), layer_weight(o, "out_proj.bias"), out, E, y, M);
    for (c = 0; c < M && k->residual; ++c) y[c] += x[c];
}

/* One rank of B or C of one head: normalised, biased, turned by theta. Angle i turns the states 2i, 2i + 1 of a SISO
 * block, i and N/2 + i of a MIMO one. */
static void layer_turn(const layer_oracle *o, const ssm_mamba3_config *k, const char *name, size_t head, size_t rank,
                       const double *in, const double *theta, size_t angles, double *out)
{
    const size_t N = k->d_state, ranks = k->mimo_rank ? k->mimo_rank : 1;
    const double *bias = layer_weight(o, name[0] == 'B' ? "B_bias" : "C_bias") + (head * ranks + rank) * N;
    size_t i;
    for (i = 0; i < N; ++i) out[i] = in[i];
    layer_rms(layer_weight(o, name), (double)k->norm_eps, out, N);
    for (i = 0; i < N; ++i) out[i] += bias[i];
    for (i = 0; i < angles; ++i) {
        double *re = out + (k->mimo_rank ? i : 2 * i), *im = out + (k->mimo_rank ? N / 2 + i : 2 * i + 1);
        const double a = *re, b = *im;
        *re = a * cos(theta[i]) - b * sin(theta[i]);
        *im = a * sin(theta[i]) + b * cos(theta[i]);
    }
}

/* One head of Mamba-3 through one step: out[rank][p] before norm and gate. `row` is a row of in_proj's output. */
static void layer_mamba3_head(const layer_oracle *o, const ssm_mamba3_config *k, size_t head, const double *row,
                              double *state, double *out)
{
    const size_t E = k->d_inner, P = k->headdim, H = E / P, N = k->d_state, G = k->n_groups;
    const size_t R = k->mimo_rank ? k->mimo_rank : 1, S = (size_t)((double)N * (double)k->rope_fraction) / 2;
    const double *x = row + E + head * P, *B = row + 2 * E + head / (H / G) * N, *C = B + R * G * N;
    const double *dt = row + 2 * E + 2 * R * G * N + head, *angle = dt - head + 3 * H;
    const double *up = layer_weight(o, "mimo_x"), D = layer_weight(o, "D")[head];
    double *theta = state + head * S, *s = state + H * S + head * P, *last = state + H * S + N * E + head * R * N;
    double *before = state + H * S + N * E + H * R * N + head * P, K[LAYER_WIDE], Q[LAYER_WIDE];
    const double delta = test_softplus(dt[0] + layer_weight(o, "dt_bias")[head]), lambda = 1 / (1 + exp(-dt[2 * H]));
    const double f = dt[H] >= 0 ? 1 + dt[H] : 1 / (1 - dt[H]), alpha = exp(-delta * fmax(f, (double)k->A_floor));
    size_t r, p, n;
    for (n = 0; n < S; ++n) {
        theta[n] += 3.14159265358979323846 * tanh(angle[n]) * delta;
        theta[n] -= 6.28318530717958647692 * floor(theta[n] / 6.28318530717958647692);
    }
    for (r = 0; r < R; ++r) {
        layer_turn(o, k, "B_norm.weight", head, r, B + r * G * N, theta, S, K + r * N);
        layer_turn(o, k, "C_norm.weight", head, r, C + r * G * N, theta, S, Q + r * N);
    }
    for (p = 0; p < P; ++p) {
        for (r = 0; r < R; ++r) out[r * P + p] = D * x[p] * (up ? up[(head * R + r) * P + p] : 1);
        for (n = 0; n < N; ++n) {
            double *h = s + n * E + p, old = 0, new = 0;
            for (r = 0; r < R; ++r) {
                const double weight = up ? up[(head * R + r) * P + p] : 1;
                old += last[r * N + n] * weight * before[p];
                new += K[r * N + n] * weight * x[p];
            }
            *h = alpha * *h + (1 - lambda) * delta * alpha * old + lambda * delta * new;
            for (r = 0; r < R; ++r) out[r * P + p] += Q[r * N + n] * *h;
        }
    }
    for (p = 0; p < P; ++p) before[p] = x[p];
    for (n = 0; n < R * N; ++n) last[n] = K[n];
}

static void layer_mamba3_oracle(const layer_oracle *o, double *state, const double *x, double *y)
{
    const ssm_mamba3_config *k = (const ssm_mamba3_config *)o->config;
    const size_t M = k->d_model, E = k->d_inner, P = k->headdim, H = E / P, R = k->mimo_rank ? k->mimo_rank : 1;
    const ssm_param *in_proj = ssm_params_find(o->table, "in_proj.weight");
    const double *pre = layer_weight(o, "pre_norm.weight"), *norm = layer_weight(o, "norm.weight");
    const double *gate = layer_weight(o, "mimo_z"), *down = layer_weight(o, "mimo_o");
    double in[LAYER_WIDE], row[LAYER_WIDE], out[LAYER_WIDE], gated[LAYER_WIDE];
    size_t c, head, r, p;
    for (c = 0; c < M; ++c) in[c] = x[c];
    if (pre) layer_rms(pre, (double)k->norm_eps, in, M);
    layer_affine(layer_weight(o, "in_proj.weight"), NULL, in, M, row, in_proj->shape[0]);
    for (head = 0; head < H; ++head) {
        layer_mamba3_head(o, k, head, row, state, out);
        for (p = 0; p < P; ++p) gated[head * P + p] = 0;
        for (r = 0; r < R; ++r) {
            if (norm) layer_rms(norm + head * P, (double)k->norm_eps, out + r * P, P);
            for (p = 0; p < P; ++p) {
                const size_t at = (head * R + r) * P + p;
                gated[head * P + p] += out[r * P + p] * test_silu(row[head * P + p] * (gate ? gate[at] : 1)) *
                                       (down ? down[at] : 1);
            }
        }
    }
    layer_affine(layer_weight(o, "out_proj.weight"), NULL, gated, E, y, M);
    for (c = 0; c < M && k->residual; ++c) y[c] += x[c];
}

/* The RG-LRU: h before the output gate. `u` is [W]; *started is 0 before the first step of a sequence. */
static void layer_rglru_unit(const layer_oracle *o, const ssm_rglru_config *k, const double *u, double *h,
                             double *started)
{
    static const char *const names[2][5] = {
        {"rg_lru.recurrent_param", "rg_lru.input_gate_weight", "rg_lru.input_gate_bias", "rg_lru.recurrent_gate_weight",
         "rg_lru.recurrent_gate_bias"},
        {"recurrent_param", "input_gate_weight", "input_gate_bias", "recurrent_gate_weight", "recurrent_gate_bias"}};
    const char *const *name = names[k->no_block != 0];
    const size_t width = k->lru_width / k->num_heads;
    size_t c, i;
    for (c = 0; c < k->lru_width; ++c) {
        const size_t head = c / width, at = head * width * width + c % width;
        double input = layer_weight(o, name[2])[c], recurrent = layer_weight(o, name[4])[c], log_a;
        for (i = 0; i < width; ++i) {
            input += u[head * width + i] * layer_weight(o, name[1])[at + i * width];
            recurrent += u[head * width + i] * layer_weight(o, name[3])[at + i * width];
        }
        log_a = -(double)k->c * test_softplus(layer_weight(o, name[0])[c]) / (1 + exp(-recurrent));
        h[c] = exp(log_a) * h[c] +
               (started && *started == 0 ? 1 : sqrt(-expm1(2 * log_a))) * u[c] / (1 + exp(-input));
    }
    if (started) *started = 1;
}

static void layer_rglru_oracle(const layer_oracle *o, double *state, const double *x, double *y)
{
    const ssm_rglru_config *k = (const ssm_rglru_config *)o->config;
    const size_t M = k->d_model, W = k->lru_width, K = k->conv_width;
    const double *conv = layer_weight(o, "conv_1d.weight"), *bias = layer_weight(o, "conv_1d.bias");
    double *h = state + (K - 1) * W, *started = k->no_reset ? NULL : h + W;
    double in[LAYER_WIDE], u[LAYER_WIDE] = {0}, gate[LAYER_WIDE];
    size_t c, i;
    if (k->no_block) {
        layer_rglru_unit(o, k, x, h, started);
        for (c = 0; c < W; ++c) y[c] = h[c];
        return;
    }
    layer_affine(layer_weight(o, "linear_y.weight"), layer_weight(o, "linear_y.bias"), x, M, gate, W);
    layer_affine(layer_weight(o, "linear_x.weight"), layer_weight(o, "linear_x.bias"), x, M, in, W);
    for (c = 0; c < W; ++c) {
        u[c] = (bias ? bias[c] : 0) + (conv ? conv[c * K + K - 1] : 1) * in[c];
        for (i = 0; i + 1 < K; ++i) u[c] += conv[c * K + i] * state[i * W + c];
        for (i = 0; i + 2 < K; ++i) state[i * W + c] = state[(i + 1) * W + c];
        if (K > 1) state[(K - 2) * W + c] = in[c];
    }
    layer_rglru_unit(o, k, u, h, started);
    for (c = 0; c < W; ++c) {
        const double z = gate[c], t = tanh(sqrt(2 / 3.14159265358979323846) * (z + 0.044715 * z * z * z));
        gate[c] = h[c] * z * (k->exact_gelu ? erfc(-z / sqrt(2)) : 1 + t) / 2;
    }
    layer_affine(layer_weight(o, "linear_out.weight"), layer_weight(o, "linear_out.bias"), gate, W, y, M);
}

static ssm_scan layer_rglru_scan(const void *config)
{
    (void)config;
    return SSM_SCAN_SEQUENTIAL;
}

static ssm_scan layer_mamba3_scan(const void *config)
{
    (void)config;
    return SSM_SCAN_SEQUENTIAL;
}

#ifdef TEST_NO_COMPLEX /* then these three are in no law that needs an oracle */
#define layer_s4d_oracle NULL
#define layer_s4_oracle NULL
#define layer_s5_oracle NULL
#else
#include "oracle_lti.h"
#endif

LAYER_SCAN(selective)
LAYER_SCAN(s6)
LAYER_SCAN(mamba)
LAYER_SCAN(mamba2)
LAYER_SCAN(s4d)
LAYER_SCAN(s4)
LAYER_SCAN(s5)
LAYER_TYPE(selective, layer_selective_oracle);
LAYER_TYPE(s6, layer_s6_oracle);
LAYER_TYPE(mamba, layer_mamba_oracle);
LAYER_TYPE(mamba2, layer_mamba2_oracle);
LAYER_TYPE(mamba3, layer_mamba3_oracle);
LAYER_TYPE(rglru, layer_rglru_oracle);
LAYER_TYPE_OF(s4d, NULL, layer_s4d_oracle);
LAYER_TYPE_OF(s4, NULL, layer_s4_oracle);
LAYER_TYPE_OF(s5, NULL, layer_s5_oracle);

/* A sequence of rows of M numbers through the oracle. */
static void layer_oracle_run(const layer_type *type, const layer_oracle *o, size_t M, double *state, const double *x,
                             double *y, size_t len)
{
    size_t t;
    if (type->whole) type->whole(o, state, x, y, len);
    else
        for (t = 0; t < len; ++t) type->oracle(o, state, x + t * M, y + t * M);
}

typedef union layer_any {
    ssm_selective selective;
    ssm_s6 s6;
    ssm_mamba mamba;
    ssm_mamba2 mamba2;
    ssm_mamba3 mamba3;
    ssm_rglru rglru;
    ssm_s4d s4d;
    ssm_s4 s4;
    ssm_s5 s5;
} layer_any;

typedef union layer_any_config {
    ssm_selective_config selective;
    ssm_s6_config s6;
    ssm_mamba_config mamba;
    ssm_mamba2_config mamba2;
    ssm_mamba3_config mamba3;
    ssm_rglru_config rglru;
    ssm_s4d_config s4d;
    ssm_s4_config s4;
    ssm_s5_config s5;
} layer_any_config;

/*--- configurations ---*/

typedef struct layer_config {
    const char *text;
    const layer_type *type;
    const void *config; /* its first member is d_model */
    int scaled;         /* 1: every step of its sequences has a factor (ssm_seqs.step_scale) */
} layer_config;

#define LAYER(X, ...) {#X ": " #__VA_ARGS__, &layer_##X, &(const ssm_##X##_config){__VA_ARGS__}, 0}
#define LAYER_SCALED(X, ...) {#X ", scaled: " #__VA_ARGS__, &layer_##X, &(const ssm_##X##_config){__VA_ARGS__}, 1}

static const layer_config layer_configs[] = {
    LAYER(selective, .d_model = 1, .d_state = 1),
    LAYER(selective, .d_model = 3),
    LAYER(selective, .d_model = 17, .d_state = 15, .disc = SSM_DISC_EULER),
    LAYER(selective, .d_model = 5, .d_state = 17, .disc = SSM_DISC_BILINEAR, .integer_A = 1),
    LAYER(selective, .d_model = 4, .d_state = 3, .disc = SSM_DISC_DIRAC),
    LAYER(selective, .d_model = 6, .d_state = 64, .disc = SSM_DISC_TRAPEZOID),
    LAYER(selective, .d_model = 5, .d_state = 3, .disc = SSM_DISC_ZOH_TRAPEZOID),
    LAYER(s6, .d_model = 1),
    LAYER(s6, .d_model = 4, .d_state = 1, .n_groups = 2, .scan = SSM_SCAN_CHUNKED),
    LAYER(s6, .d_model = 18, .d_state = 3, .n_groups = 3, .disc = SSM_DISC_ZOH, .dt_init = SSM_DT_UNIFORM),
    LAYER(s6, .d_model = 5, .d_state = 15, .disc = SSM_DISC_BILINEAR, .no_dt_bias = 1),
    LAYER(s6, .d_model = 6, .d_state = 17, .n_groups = 6, .dt_rank = 2, .disc = SSM_DISC_DIRAC),
    LAYER(s6, .d_model = 8, .d_state = 3, .n_groups = 4, .disc = SSM_DISC_TRAPEZOID),
    LAYER(s6, .d_model = 16, .d_state = 64, .dt_rank = 5),
    LAYER(s6, .d_model = 60, .d_state = 2, .n_groups = 3, .scan = SSM_SCAN_BLELLOCH),
    LAYER(mamba, .d_model = 5),
    LAYER(mamba, .d_model = 4, .d_conv = 1),
    LAYER(mamba, .d_model = 3, .d_state = 1, .d_conv = 2, .dt_rank = 2),
    LAYER(mamba, .d_model = 6, .d_state = 17, .d_conv = 7, .pre_norm = 1, .residual = 1),
    LAYER(mamba, .d_model = 5, .proj_bias = 1, .no_conv_bias = 1, .no_dt_bias = 1, .scan = SSM_SCAN_BLELLOCH),
    LAYER(mamba, .d_model = 8, .d_state = 3, .expand = 1, .n_groups = 4, .disc = SSM_DISC_ZOH),
    LAYER(mamba, .d_model = 4, .d_inner = 6, .n_groups = 3, .dt_rank = 3, .disc = SSM_DISC_BILINEAR, .pre_norm = 1),
    LAYER(mamba, .d_model = 4, .d_state = 15, .disc = SSM_DISC_DIRAC, .residual = 1, .norm_eps = 1),
    LAYER(mamba, .d_model = 5, .d_state = 3, .n_groups = 2, .disc = SSM_DISC_TRAPEZOID, .pre_norm = 1, .residual = 1,
          .proj_bias = 1, .norm_eps = (ssm_real)0.01),
    LAYER(mamba, .d_model = 3, .d_state = 64, .d_conv = 1, .d_inner = 17, .disc = SSM_DISC_TRAPEZOID),
    LAYER(selective, .d_model = 3, .d_state = 5, .scan = SSM_SCAN_BLELLOCH, .disc = SSM_DISC_BILINEAR),
    LAYER(s6, .d_model = 18, .d_state = 3, .n_groups = 2, .scan = SSM_SCAN_BLELLOCH, .disc = SSM_DISC_ZOH),
    LAYER(mamba, .d_model = 4, .d_state = 3, .n_groups = 2, .scan = SSM_SCAN_CHUNKED, .disc = SSM_DISC_TRAPEZOID),
    LAYER(mamba, .d_model = 4, .d_state = 3, .scan = SSM_SCAN_SEQUENTIAL, .disc = SSM_DISC_ZOH),
    LAYER(mamba, .d_model = 4, .disc = SSM_DISC_ZOH, .dt_init = SSM_DT_CONSTANT, .dt_bias = -2, .mean_conv = 1,
          .expand = 1, .residual = 1), /* SSM_PRESET_TRACETORCH */
    LAYER(mamba, .d_model = 6, .dt_rank = 3, .dbc_norm = SSM_DBC_NORM), /* FalconMamba */
    LAYER(mamba, .d_model = 8, .d_state = 5, .n_groups = 2, .dbc_norm = SSM_DBC_NORM_WEIGHTED,
          .dbc_norm_eps = (ssm_real)0.01, .x_proj_bias = 1, .proj_bias = 1, .pre_norm = 1, .residual = 1),
    LAYER(mamba2, .d_model = 8, .d_state = 9, .headdim = 16),
    LAYER(mamba2, .d_model = 5, .d_state = 3, .d_conv = 1, .headdim = 2, .no_norm = 1, .residual = 1),
    LAYER(mamba2, .d_model = 6, .d_state = 4, .d_inner = 24, .headdim = 4, .n_groups = 3, .D_has_hdim = 1, .pre_norm = 1,
          .proj_bias = 1, .norm_before_gate = 1),
    LAYER(mamba2, .d_model = 4, .d_state = 17, .expand = 8, .headdim = 32, .d_conv = 2, .dt_limit_min = (ssm_real)0.002,
          .dt_limit_max = (ssm_real)0.05, .no_conv_bias = 1),
    LAYER(mamba2, .d_model = 3, .d_state = 2, .d_inner = 20, .headdim = 5, .n_groups = 2, .scan = SSM_SCAN_CHUNKED),
    LAYER(mamba3, .d_model = 8, .d_state = 9, .headdim = 16),
    LAYER(mamba3, .d_model = 6, .d_state = 4, .d_inner = 24, .headdim = 4, .n_groups = 3, .pre_norm = 1, .residual = 1,
          .out_norm = 1),
    LAYER(mamba3, .d_model = 5, .d_state = 17, .d_inner = 40, .headdim = 20, .rope_fraction = 1),
    LAYER(mamba3, .d_model = 4, .d_state = 34, .expand = 8, .headdim = 32, .A_floor = 1, .norm_eps = (ssm_real)0.01),
    LAYER(mamba3, .d_model = 4, .d_state = 4, .headdim = 4, .mimo_rank = 1),
    LAYER(mamba3, .d_model = 4, .d_state = 6, .d_inner = 12, .headdim = 3, .n_groups = 2, .mimo_rank = 3, .out_norm = 1,
          .residual = 1),
    LAYER(mamba3, .d_model = 8, .d_state = 18, .d_inner = 32, .headdim = 16, .mimo_rank = 4, .rope_fraction = 1,
          .pre_norm = 1),
    LAYER(rglru, .d_model = 5),
    LAYER(rglru, .d_model = 4, .lru_width = 18, .num_heads = 3, .conv_width = 7),
    LAYER(rglru, .d_model = 6, .lru_width = 35, .num_heads = 35, .conv_width = 1, .c = 2),
    LAYER(rglru, .d_model = 8, .lru_width = 34, .num_heads = 2, .conv_width = 2, .exact_gelu = 1, .no_reset = 1,
          .no_bias = 1),
    LAYER(rglru, .d_model = 3, .no_conv_bias = 1, .a_min = (ssm_real)0.1, .a_max = (ssm_real)0.5),
    LAYER(rglru, .d_model = 20, .num_heads = 4, .no_block = 1),
    LAYER(rglru, .d_model = 1, .no_block = 1, .no_reset = 1),
#ifndef TEST_NO_COMPLEX
    LAYER(selective, .d_model = 5, .complex_A = 1),
    LAYER(selective, .d_model = 17, .d_state = 9, .disc = SSM_DISC_BILINEAR, .complex_A = 1, .integer_A = 1),
    LAYER(s6, .d_model = 35, .d_state = 3, .complex_A = 1),
    LAYER(s6, .d_model = 18, .d_state = 17, .n_groups = 2, .dt_rank = 3, .disc = SSM_DISC_ZOH, .complex_A = 1),
    LAYER(s6, .d_model = 6, .d_state = 5, .n_groups = 6, .disc = SSM_DISC_DIRAC, .complex_A = 1),
    LAYER(s6, .d_model = 18, .d_state = 4, .scan = SSM_SCAN_BLELLOCH, .disc = SSM_DISC_BILINEAR, .complex_A = 1),
    LAYER(mamba, .d_model = 9, .d_state = 8, .complex_A = 1),
    LAYER(mamba, .d_model = 8, .d_state = 5, .n_groups = 2, .dbc_norm = SSM_DBC_NORM_WEIGHTED, .pre_norm = 1,
          .residual = 1, .disc = SSM_DISC_ZOH, .complex_A = 1),
    LAYER(mamba, .d_model = 4, .d_state = 3, .d_conv = 1, .scan = SSM_SCAN_CHUNKED, .dbc_norm = SSM_DBC_NORM,
          .complex_A = 1),
    LAYER(mamba, .d_model = 3, .d_state = 2, .dbc_norm = SSM_DBC_NORM_WEIGHTED, .x_proj_bias = 1, .proj_bias = 1,
          .pre_norm = 1, .complex_A = 1), /* as many rows of the table as there are */
    LAYER(s4d, .d_model = 5, .d_state = 6),
    LAYER(s4d, .d_model = 3, .d_state = 4, .train_B = 1, .disc = SSM_DISC_BILINEAR, .init = SSM_S4_INIT_INV,
          .scan = SSM_SCAN_CHUNKED),
    LAYER(s4d, .d_model = 4, .d_state = 8, .n_ssm = 2, .train_B = 1, .disc = SSM_DISC_EULER, .init = SSM_S4_INIT_LEGS),
    LAYER(s4d, .d_model = 2, .d_state = 4, .no_dt = 1, .disc = SSM_DISC_DIRAC, .scan = SSM_SCAN_BLELLOCH),
    LAYER(s4d, .d_model = 3, .d_state = 5, .real_state = 1, .train_B = 1, .weights = SSM_S4_WEIGHTS_ALL_NORMAL,
          .normal_dt = 1),
    LAYER(s4d, .d_model = 3, .d_state = 2, .real_state = 1, .disc = SSM_DISC_BILINEAR, .init = SSM_S4_INIT_INV,
          .scan = SSM_SCAN_CHUNKED),
    LAYER(s4d, .d_model = 5, .d_state = 4, .activation = SSM_S4_ACTIVATION_GELU, .output = SSM_S4_OUTPUT_GLU,
          .pre_norm = 1, .residual = 1),
    LAYER(s4d, .d_model = 5, .d_state = 4, .activation = SSM_S4_ACTIVATION_GELU, .residual = 1,
          .scan = SSM_SCAN_BLELLOCH, .init = SSM_S4_INIT_QUAD),
    LAYER(s4d, .d_model = 3, .d_state = 2, .output = SSM_S4_OUTPUT_GLU, .norm_eps = (ssm_real)0.01, .pre_norm = 1),
    LAYER(s4d, .d_model = 35, .d_state = 4),
    LAYER(s4d, .d_model = 3, .d_state = 4, .bidirectional = 1, .train_B = 1),
    LAYER(s4d, .d_model = 3, .d_state = 4, .real_state = 1, .bidirectional = 1, .activation = SSM_S4_ACTIVATION_GELU,
          .output = SSM_S4_OUTPUT_GLU, .scan = SSM_SCAN_CHUNKED),
    LAYER(s4, .d_model = 3, .d_state = 6),
    LAYER(s4, .d_model = 4, .d_state = 8, .n_ssm = 2, .activation = SSM_S4_ACTIVATION_GELU,
          .output = SSM_S4_OUTPUT_GLU, .residual = 1),
    LAYER(s4, .d_model = 37, .d_state = 2, .pre_norm = 1),
    LAYER(s4, .d_model = 18, .d_state = 4, .bidirectional = 1, .pre_norm = 1),
    LAYER(s5, .d_model = 3, .d_state = 4),
    LAYER_SCALED(s5, .d_model = 1, .d_state = 2, .activation = SSM_S5_NONE),
    LAYER(s5, .d_model = 5, .d_state = 12, .blocks = 3, .activation = SSM_S5_GELU, .disc = SSM_DISC_BILINEAR),
    LAYER_SCALED(s5, .d_model = 4, .d_state = 3, .no_conj_sym = 1, .activation = SSM_S5_HALF_GLU2, .residual = 1,
                 .disc = SSM_DISC_BILINEAR),
    LAYER_SCALED(s5, .d_model = 17, .d_state = 34, .blocks = 17, .activation = SSM_S5_FULL_GLU, .pre_norm = 1,
                 .residual = 1),
    LAYER(s5, .d_model = 2, .d_state = 4, .activation = SSM_S5_NONE, .disc = SSM_DISC_DIRAC, .clip_eigs = 1),
    LAYER_SCALED(s5, .d_model = 2, .d_state = 4, .activation = SSM_S5_NONE, .disc = SSM_DISC_EULER, .event = 1),
    LAYER_SCALED(s5, .d_model = 2, .d_state = 4, .event = 1, .step_rescale = 2, .pre_norm = 1),
    LAYER(s5, .d_model = 3, .d_state = 5, .real_state = 1, .activation = SSM_S5_NONE, .scan = SSM_SCAN_BLELLOCH),
    LAYER_SCALED(s5, .d_model = 2, .d_state = 3, .real_state = 1, .activation = SSM_S5_HALF_GLU1,
                 .disc = SSM_DISC_BILINEAR),
    LAYER_SCALED(s5, .d_model = 3, .d_state = 6, .scan = SSM_SCAN_CHUNKED),
    LAYER(s5, .d_model = 3, .d_state = 4, .bidirectional = 1, .activation = SSM_S5_NONE),
    LAYER_SCALED(s5, .d_model = 2, .d_state = 8, .bidirectional = 1, .blocks = 2, .activation = SSM_S5_FULL_GLU,
                 .pre_norm = 1),
    LAYER(s5, .d_model = 2, .d_state = 3, .bidirectional = 1, .real_state = 1, .activation = SSM_S5_GELU,
          .residual = 1),
    LAYER(s5, .d_model = 3, .d_state = 5, .lru = 1, .activation = SSM_S5_NONE),
    LAYER_SCALED(s5, .d_model = 4, .d_state = 17, .lru = 1, .r_min = (ssm_real)0.9, .r_max = (ssm_real)0.999,
                 .max_phase = (ssm_real)0.3, .activation = SSM_S5_FULL_GLU, .pre_norm = 1, .residual = 1),
    LAYER_SCALED(s5, .d_model = 2, .d_state = 3, .lru = 1, .event = 1, .step_rescale = 2, .scan = SSM_SCAN_CHUNKED),
    LAYER(s5, .d_model = 3, .d_state = 4, .lru = 1, .activation = SSM_S5_GELU, .scan = SSM_SCAN_BLELLOCH),
    LAYER(s5, .d_model = 3, .d_state = 2, .lru = 1, .bidirectional = 1, .clip_eigs = 1),
#endif
};

/* Small, for derivatives by differences. */
static const layer_config layer_gradient_configs[] = {
    LAYER(selective, .d_model = 3, .d_state = 3),
    LAYER(selective, .d_model = 19, .d_state = 1),
    LAYER(selective, .d_model = 2, .d_state = 2, .disc = SSM_DISC_EULER),
    LAYER(selective, .d_model = 3, .d_state = 2, .disc = SSM_DISC_BILINEAR),
    LAYER(selective, .d_model = 2, .d_state = 3, .disc = SSM_DISC_DIRAC),
    LAYER(selective, .d_model = 3, .d_state = 2, .disc = SSM_DISC_TRAPEZOID),
    LAYER(selective, .d_model = 3, .d_state = 2, .disc = SSM_DISC_ZOH_TRAPEZOID),
    LAYER(s6, .d_model = 4, .d_state = 2, .n_groups = 2, .dt_rank = 2),
    LAYER(s6, .d_model = 4, .d_state = 2, .n_groups = 2, .disc = SSM_DISC_ZOH),
    LAYER(s6, .d_model = 3, .d_state = 3, .n_groups = 3, .disc = SSM_DISC_BILINEAR, .no_dt_bias = 1),
    LAYER(s6, .d_model = 4, .d_state = 2, .disc = SSM_DISC_DIRAC),
    LAYER(s6, .d_model = 4, .d_state = 2, .n_groups = 2, .disc = SSM_DISC_TRAPEZOID),
    LAYER(mamba, .d_model = 3, .d_state = 2, .d_inner = 4, .n_groups = 2, .pre_norm = 1, .residual = 1,
          .proj_bias = 1),
    LAYER(mamba, .d_model = 2, .d_state = 2, .d_conv = 1, .disc = SSM_DISC_ZOH, .residual = 1),
    LAYER(mamba, .d_model = 2, .d_state = 2, .d_conv = 7, .disc = SSM_DISC_BILINEAR, .no_conv_bias = 1),
    LAYER(mamba, .d_model = 3, .d_state = 2, .d_inner = 3, .d_conv = 2, .disc = SSM_DISC_DIRAC, .no_dt_bias = 1,
          .pre_norm = 1),
    LAYER(mamba, .d_model = 2, .d_state = 2, .n_groups = 4, .dt_rank = 2, .disc = SSM_DISC_TRAPEZOID,
          .proj_bias = 1),
    LAYER(mamba, .d_model = 2, .d_state = 2, .dt_rank = 2, .dbc_norm = SSM_DBC_NORM, .dbc_norm_eps = (ssm_real)0.1),
    LAYER(mamba, .d_model = 2, .d_state = 3, .n_groups = 2, .dt_rank = 3, .dbc_norm = SSM_DBC_NORM_WEIGHTED,
          .dbc_norm_eps = (ssm_real)0.1, .x_proj_bias = 1),
    LAYER(mamba2, .d_model = 3, .d_state = 2, .d_inner = 8, .headdim = 2, .n_groups = 2, .pre_norm = 1, .residual = 1,
          .proj_bias = 1),
    LAYER(mamba2, .d_model = 2, .d_state = 3, .d_inner = 4, .headdim = 4, .norm_before_gate = 1, .D_has_hdim = 1),
    LAYER(mamba2, .d_model = 2, .d_state = 2, .d_inner = 6, .headdim = 3, .no_norm = 1, .d_conv = 1),
    LAYER(mamba3, .d_model = 3, .d_state = 5, .d_inner = 4, .headdim = 2, .n_groups = 2, .residual = 1, .pre_norm = 1),
    LAYER(mamba3, .d_model = 2, .d_state = 4, .d_inner = 6, .headdim = 3, .rope_fraction = 1, .out_norm = 1),
    LAYER(mamba3, .d_model = 2, .d_state = 4, .d_inner = 4, .headdim = 2, .mimo_rank = 2),
    LAYER(mamba3, .d_model = 2, .d_state = 6, .d_inner = 4, .headdim = 2, .n_groups = 2, .mimo_rank = 3, .out_norm = 1,
          .rope_fraction = 1),
    LAYER(mamba3, .d_model = 2, .d_state = 10, .d_inner = 18, .headdim = 18), /* states and channels of two passes */
    LAYER(rglru, .d_model = 2, .lru_width = 4, .num_heads = 2),
    LAYER(rglru, .d_model = 2, .lru_width = 3, .conv_width = 2, .exact_gelu = 1, .no_reset = 1, .no_bias = 1, .c = 1),
    LAYER(rglru, .d_model = 3, .conv_width = 1),
    LAYER(rglru, .d_model = 2, .no_conv_bias = 1, .a_max = (ssm_real)0.95),
    LAYER(rglru, .d_model = 4, .num_heads = 2, .no_block = 1),
#ifndef TEST_NO_COMPLEX
    LAYER(s4d, .d_model = 2, .d_state = 4),
    LAYER(s4d, .d_model = 3, .d_state = 2, .train_B = 1, .disc = SSM_DISC_BILINEAR, .scan = SSM_SCAN_CHUNKED,
          .activation = SSM_S4_ACTIVATION_GELU, .output = SSM_S4_OUTPUT_GLU, .pre_norm = 1, .residual = 1),
    LAYER(s4d, .d_model = 2, .d_state = 4, .n_ssm = 1, .train_B = 1, .disc = SSM_DISC_EULER, .scan = SSM_SCAN_BLELLOCH),
    LAYER(s4d, .d_model = 2, .d_state = 4, .no_dt = 1, .disc = SSM_DISC_DIRAC),
    LAYER(s4d, .d_model = 2, .d_state = 3, .real_state = 1, .train_B = 1),
    LAYER(s4d, .d_model = 2, .d_state = 2, .real_state = 1, .disc = SSM_DISC_BILINEAR, .residual = 1,
          .activation = SSM_S4_ACTIVATION_GELU),
    LAYER(s4d, .d_model = 2, .d_state = 4, .bidirectional = 1, .train_B = 1, .scan = SSM_SCAN_CHUNKED),
    LAYER(s4d, .d_model = 2, .d_state = 2, .real_state = 1, .bidirectional = 1, .output = SSM_S4_OUTPUT_GLU),
    LAYER(s4, .d_model = 2, .d_state = 4),
    LAYER(s4, .d_model = 2, .d_state = 4, .n_ssm = 1, .activation = SSM_S4_ACTIVATION_GELU, .residual = 1,
          .output = SSM_S4_OUTPUT_GLU),
    LAYER(s4, .d_model = 2, .d_state = 4, .bidirectional = 1, .pre_norm = 1),
    LAYER_SCALED(s5, .d_model = 2, .d_state = 4),
    LAYER(s5, .d_model = 2, .d_state = 6, .blocks = 3, .activation = SSM_S5_GELU, .disc = SSM_DISC_BILINEAR),
    LAYER_SCALED(s5, .d_model = 3, .d_state = 2, .no_conj_sym = 1, .activation = SSM_S5_HALF_GLU2, .residual = 1,
                 .disc = SSM_DISC_BILINEAR),
    LAYER(s5, .d_model = 2, .d_state = 4, .activation = SSM_S5_FULL_GLU, .pre_norm = 1, .scan = SSM_SCAN_CHUNKED),
    LAYER_SCALED(s5, .d_model = 2, .d_state = 4, .activation = SSM_S5_NONE, .disc = SSM_DISC_DIRAC, .clip_eigs = 1),
    LAYER_SCALED(s5, .d_model = 2, .d_state = 4, .activation = SSM_S5_NONE, .disc = SSM_DISC_EULER, .event = 1,
                 .step_rescale = 2),
    LAYER(s5, .d_model = 2, .d_state = 3, .real_state = 1, .activation = SSM_S5_NONE),
    LAYER(s5, .d_model = 1, .d_state = 19, .real_state = 1, .activation = SSM_S5_NONE),
    LAYER_SCALED(s5, .d_model = 2, .d_state = 2, .real_state = 1, .disc = SSM_DISC_BILINEAR),
    LAYER_SCALED(s5, .d_model = 4, .d_state = 4, .bidirectional = 1, .activation = SSM_S5_FULL_GLU, .pre_norm = 1),
    LAYER(s5, .d_model = 2, .d_state = 3, .bidirectional = 1, .real_state = 1, .residual = 1),
    /* angles so small that differences see a straight line after all steps */
    LAYER(s5, .d_model = 2, .d_state = 3, .lru = 1, .max_phase = (ssm_real)0.1, .activation = SSM_S5_NONE),
    LAYER_SCALED(s5, .d_model = 2, .d_state = 2, .lru = 1, .max_phase = (ssm_real)0.1, .step_rescale = 2, .pre_norm = 1),
    LAYER_SCALED(s5, .d_model = 2, .d_state = 2, .lru = 1, .max_phase = (ssm_real)0.1, .event = 1, .clip_eigs = 1,
                 .activation = SSM_S5_GELU),
    LAYER(s5, .d_model = 2, .d_state = 2, .lru = 1, .max_phase = (ssm_real)0.1, .bidirectional = 1, .residual = 1),
    LAYER(selective, .d_model = 3, .d_state = 2, .complex_A = 1),
    LAYER(selective, .d_model = 2, .d_state = 3, .disc = SSM_DISC_EULER, .complex_A = 1),
    LAYER(s6, .d_model = 4, .d_state = 2, .n_groups = 2, .dt_rank = 2, .complex_A = 1),
    LAYER(s6, .d_model = 3, .d_state = 2, .n_groups = 3, .disc = SSM_DISC_BILINEAR, .no_dt_bias = 1, .complex_A = 1),
    LAYER(s6, .d_model = 19, .d_state = 1, .disc = SSM_DISC_DIRAC, .complex_A = 1),
    LAYER(mamba, .d_model = 3, .d_state = 2, .d_inner = 4, .n_groups = 2, .disc = SSM_DISC_ZOH, .pre_norm = 1,
          .residual = 1, .complex_A = 1),
    LAYER(mamba, .d_model = 2, .d_state = 2, .dt_rank = 3, .dbc_norm = SSM_DBC_NORM_WEIGHTED,
          .dbc_norm_eps = (ssm_real)0.1, .complex_A = 1),
#endif
};

/*--- a bound layer ---*/

typedef struct layer_model {
    const layer_type *type;
    const void *config;
    size_t index; /* of the configuration */
    int whole;    /* its scan sees whole sequences: other cuts along time agree within rounding only */
    int both_ways; /* outputs depend on later steps: there are no steps and no pieces */
    int scaled;
    layer_any_config resolved;
    size_t d_model;
    size_t states; /* reals of state for one stream */
    ssm_sizes need;
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table;
    ssm_real *params;
    void *bound;
    layer_any layer;
} layer_model;

/* Initialised, then moved away from its ones and zeros; bound in exactly the bytes it asks for. */
static void layer_open(layer_model *m, const layer_config *config, ssm_rng *rng, size_t misalign)
{
    const ssm_seqs one = test_seqs(1, 1);
    size_t i;
    m->type = config->type;
    m->config = config->config;
    m->whole = m->type->scan(m->config) == SSM_SCAN_BLELLOCH || m->type->scan(m->config) == SSM_SCAN_CHUNKED;
    m->both_ways = strstr(config->text, ".bidirectional = 1") != NULL;
    m->scaled = config->scaled;
    m->d_model = *(const size_t *)config->config;
    m->table.row = m->rows;
    m->table.capacity = SSM_PARAMS_MAX;
    m->table.rows = m->table.count = 0;
    CHECK_OK(m->type->resolve(m->config, &m->resolved));
    CHECK_OK(m->type->params(m->config, NULL, &m->table));
    CHECK_OK(m->type->sizes(m->config, &one, &m->need));
    m->states = m->need.state / sizeof(ssm_real);
    m->params = test_zeros(m->table.count);
    CHECK_OK(m->type->init(m->config, m->params, ssm_rng_next(rng)));
    for (i = 0; i < m->table.count; ++i) m->params[i] += (ssm_real)0.25 * test_draw(rng);
    if (m->type == &layer_s5 && m->resolved.s5.clip_eigs) { /* one that has to be clipped */
        const int lru = m->resolved.s5.lru;
        m->params[ssm_params_find(&m->table, lru ? "nu_log" : "Lambda_re")->offset] = lru ? -12 : (ssm_real)0.1;
    }
    m->bound = test_alloc(m->need.bound, misalign);
    CHECK_OK(m->type->bind(&m->layer, m->config, m->params, ssm_memory_of(m->bound, m->need.bound)));
}

static void layer_close(layer_model *m, size_t misalign)
{
    test_free(m->bound, misalign);
    test_free(m->params, 0);
}

typedef void (*layer_law)(layer_model *m, ssm_rng *rng);

static void layer_each(layer_law law, const layer_config *configs, size_t count)
{
    size_t i;
    for (i = 0; i < count; ++i) {
        const size_t failures = test_failures;
        ssm_rng rng;
        layer_model m;
        rng.state = test_seed + i;
        m.index = i;
        layer_open(&m, &configs[i], &rng, i % 5);
        law(&m, &rng);
        layer_close(&m, i % 5);
        if (test_failures > failures && failures <= 5) printf("    ... with %s\n", configs[i].text);
    }
}

/*--- calls ---*/

typedef enum layer_verb { LAYER_FORWARD = 1, LAYER_STEP = 2, LAYER_RECORD = 4, LAYER_BACKWARD = 8 } layer_verb;

typedef struct layer_io {
    const void *layer;
    const ssm_seqs *seqs;
    ssm_real *state; /* backward: dstate */
    const ssm_real *x;
    ssm_real *y;
    const ssm_real *dy;
    ssm_real *dx;
    ssm_real *dparams;
    ssm_memory tape;
    ssm_memory work;
} layer_io;

static ssm_status layer_call(const layer_type *t, layer_verb verb, const layer_io *io)
{
    switch (verb) {
    case LAYER_STEP:
        return t->step(io->layer, io->state, io->x, io->y, io->seqs->batch, io->work);
    case LAYER_RECORD:
        return t->record(io->layer, io->state, io->x, io->y, io->seqs, io->tape, io->work);
    case LAYER_BACKWARD:
        return t->backward(io->layer, io->state, io->x, io->dy, io->dx, io->dparams, io->seqs, io->tape, io->work);
    case LAYER_FORWARD:
    default:
        return t->forward(io->layer, io->state, io->x, io->y, io->seqs, io->work);
    }
}

/* Workspace of a call: without a state it holds one. */
static size_t layer_work_bytes(const ssm_sizes *need, layer_verb verb, int has_state)
{
    if (verb == LAYER_STEP) return need->work_step;
    return (verb == LAYER_BACKWARD ? need->work_backward : need->work) + (has_state ? 0 : need->state);
}

/* A call that must succeed, with a workspace of exactly the size it asks for. A layer without a state gets none. */
static void layer_run(const layer_model *m, layer_verb verb, layer_io io)
{
    ssm_sizes need = {0};
    CHECK_OK(m->type->sizes(m->config, io.seqs, &need));
    io.layer = &m->layer;
    if (m->states == 0) io.state = NULL;
    io.work.bytes = layer_work_bytes(&need, verb, io.state != NULL);
    io.work.data = test_alloc(io.work.bytes, 0);
    CHECK_OK(layer_call(m->type, verb, &io));
    test_free(io.work.data, 0);
}

static void layer_forward(const layer_model *m, ssm_real *state, const ssm_real *x, ssm_real *y, const ssm_seqs *seqs)
{
    layer_io io = {0};
    io.seqs = seqs;
    io.state = state;
    io.x = x;
    io.y = y;
    layer_run(m, LAYER_FORWARD, io);
}

static void layer_step(const layer_model *m, ssm_real *state, const ssm_real *x, ssm_real *y, size_t streams)
{
    const ssm_seqs seqs = test_seqs(streams, 1);
    layer_io io = {0};
    io.seqs = &seqs;
    io.state = state;
    io.x = x;
    io.y = y;
    layer_run(m, LAYER_STEP, io);
}

/* record, and backward unless dy is NULL. dstate: in and out; may be NULL, like dx and dparams. */
static void layer_record(const layer_model *m, ssm_real *state, const ssm_real *x, ssm_real *y, const ssm_seqs *seqs,
                         ssm_real *dstate, const ssm_real *dy, ssm_real *dx, ssm_real *dparams)
{
    ssm_sizes need = {0};
    layer_io io = {0};
    CHECK_OK(m->type->sizes(m->config, seqs, &need));
    io.seqs = seqs;
    io.state = state;
    io.x = x;
    io.y = y;
    io.tape = ssm_memory_of(test_alloc(need.tape, 1), need.tape);
    layer_run(m, LAYER_RECORD, io);
    io.state = dstate;
    io.dy = dy;
    io.dx = dx;
    io.dparams = dparams;
    if (dy) layer_run(m, LAYER_BACKWARD, io);
    test_free(io.tape.data, 1);
}

/*--- data of a law: sequences, and what each gives alone ---*/

typedef struct layer_data {
    size_t batch;
    size_t len;
    size_t count;  /* reals of x */
    size_t states; /* reals of all states */
    int rounding;  /* 1: what is compared may differ in last bits */
    ssm_real *x;
    ssm_real *scale; /* [batch][len] */
    ssm_real *state;
    ssm_real *want_y;
    ssm_real *want_state;
} layer_data;

/* Factors of steps, for layers that take them. */
static ssm_real *layer_scales(const layer_model *m, ssm_rng *rng, size_t count)
{
    ssm_real *scale = test_zeros(count);
    size_t i;
    for (i = 0; m->scaled && i < count; ++i) scale[i] = (ssm_real)0.2 + 2 * ssm_rng_uniform(rng);
    return scale;
}

static ssm_seqs layer_seqs(const layer_model *m, const ssm_real *scale, size_t batch, size_t len)
{
    ssm_seqs seqs = test_seqs(batch, len);
    if (m->scaled) seqs.step_scale = scale;
    return seqs;
}

/* Of the RG-LRU every other stream is at its first step. */
static void layer_fresh_states(const layer_model *m, ssm_real *state, size_t batch)
{
    size_t b;
    if (m->type != &layer_rglru || m->resolved.rglru.no_reset) return;
    for (b = 0; b < batch; ++b) state[(b + 1) * m->states - 1] = (ssm_real)(b % 2);
}

static layer_data layer_data_make(const layer_model *m, ssm_rng *rng, size_t batch, size_t len)
{
    layer_data d;
    size_t b;
    d.batch = batch;
    d.len = len;
    d.count = batch * len * m->d_model;
    d.states = batch * m->states;
    d.rounding = 0;
    d.x = test_normal(rng, d.count, 1);
    d.scale = layer_scales(m, rng, batch * len);
    d.state = test_normal(rng, d.states, 1);
    layer_fresh_states(m, d.state, batch);
    d.want_y = test_zeros(d.count);
    d.want_state = test_copy(d.state, d.states);
    for (b = 0; b < batch; ++b) {
        const size_t first = b * len * m->d_model;
        const ssm_seqs alone = layer_seqs(m, d.scale + b * len, 1, len);
        layer_forward(m, d.want_state + b * m->states, d.x + first, d.want_y + first, &alone);
    }
    return d;
}

static void layer_data_free(const layer_data *d)
{
    test_free(d->x, 0);
    test_free(d->scale, 0);
    test_free(d->state, 0);
    test_free(d->want_y, 0);
    test_free(d->want_state, 0);
}

/* Where a way of running the data leaves its results; checked and freed together. */
typedef struct layer_result {
    ssm_real *y;
    ssm_real *state;
} layer_result;

static layer_result layer_result_make(const layer_data *d)
{
    layer_result r;
    r.y = test_zeros(d->count);
    r.state = test_copy(d->state, d->states);
    return r;
}

/* The same bits, or the same within rounding. */
static void layer_compare(const ssm_real *got, const ssm_real *want, size_t count, int rounding)
{
    double *exact = test_doubles(want, count);
    if (rounding) CHECK_CLOSE(got, exact, count, TOL(1e-5, 1e-13));
    else CHECK_SAME(got, want, count);
    test_free(exact, 0);
}

static void layer_expect(const layer_data *d, layer_result r)
{
    layer_compare(r.y, d->want_y, d->count, d->rounding);
    layer_compare(r.state, d->want_state, d->states, d->rounding);
    test_free(r.y, 0);
    test_free(r.state, 0);
}

/* Tiles of one row, of several sequences, of exactly one sequence, several tiles in a sequence. */
static const struct {
    size_t batch;
    size_t len;
} layer_shapes[] = {{0, 5}, {3, 0},  {1, 1},  {130, 1}, {20, 7}, {5, 32},
                    {3, 33}, {3, 63}, {2, 64}, {2, 65},  {2, 130}, {1, 200}};

typedef void (*layer_way)(const layer_model *m, const layer_data *d, layer_result r);

static void layer_each_shape(const layer_model *m, ssm_rng *rng, layer_way way, int rounding)
{
    size_t i;
    for (i = 0; i < TEST_COUNT(layer_shapes); ++i) {
        layer_data d = layer_data_make(m, rng, layer_shapes[i].batch, layer_shapes[i].len);
        const layer_result r = layer_result_make(&d);
        d.rounding = rounding;
        way(m, &d, r);
        layer_expect(&d, r);
        layer_data_free(&d);
    }
}

/*--- the laws ---*/

static void layer_way_batch(const layer_model *m, const layer_data *d, layer_result r)
{
    const ssm_seqs seqs = layer_seqs(m, d->scale, d->batch, d->len);
    layer_forward(m, r.state, d->x, r.y, &seqs);
}

static void layer_law_batch(layer_model *m, ssm_rng *rng)
{
    layer_each_shape(m, rng, layer_way_batch, 0);
}

static void layer_way_record(const layer_model *m, const layer_data *d, layer_result r)
{
    const ssm_seqs seqs = layer_seqs(m, d->scale, d->batch, d->len);
    layer_record(m, r.state, d->x, r.y, &seqs, NULL, NULL, NULL, NULL);
}

static void layer_law_record(layer_model *m, ssm_rng *rng)
{
    layer_each_shape(m, rng, layer_way_record, 0);
}

/* All streams in one call per step; where steps have factors, which step does not take, in sequences of one step. */
static void layer_way_step(const layer_model *m, const layer_data *d, layer_result r)
{
    const size_t M = m->d_model;
    ssm_real *x = test_zeros(d->batch * M), *y = test_zeros(d->batch * M), *scale = test_zeros(d->batch);
    const ssm_seqs one = layer_seqs(m, scale, d->batch, 1);
    size_t t, b;
    for (t = 0; t < d->len; ++t) {
        for (b = 0; b < d->batch; ++b) memcpy(x + b * M, d->x + (b * d->len + t) * M, M * sizeof *x);
        for (b = 0; b < d->batch; ++b) scale[b] = d->scale[b * d->len + t];
        if (m->scaled) layer_forward(m, r.state, x, y, &one);
        else layer_step(m, r.state, x, y, d->batch);
        for (b = 0; b < d->batch; ++b) memcpy(r.y + (b * d->len + t) * M, y + b * M, M * sizeof *y);
    }
    test_free(x, 0);
    test_free(y, 0);
    test_free(scale, 0);
}

static void layer_law_step(layer_model *m, ssm_rng *rng)
{
    if (m->both_ways) return; /* layer_law_both_ways */
    layer_each_shape(m, rng, layer_way_step, m->whole);
}

/* Steps first .. first + len - 1 of every sequence. */
static void layer_piece(const layer_model *m, const layer_data *d, layer_result r, size_t first, size_t len)
{
    ssm_real *scale = test_zeros(d->batch * len);
    ssm_seqs seqs = layer_seqs(m, scale, d->batch, len);
    size_t b;
    for (b = 0; b < d->batch; ++b) memcpy(scale + b * len, d->scale + b * d->len + first, len * sizeof *scale);
    seqs.x.batch = (ptrdiff_t)(d->len * m->d_model);
    seqs.x.time = (ptrdiff_t)m->d_model;
    seqs.x.chan = 1;
    seqs.y = seqs.x;
    layer_forward(m, r.state, d->x + first * m->d_model, r.y + first * m->d_model, &seqs);
    test_free(scale, 0);
}

static void layer_law_split(layer_model *m, ssm_rng *rng)
{
    layer_data d = layer_data_make(m, rng, 2, 130);
    size_t k;
    d.rounding = m->whole;
    for (k = 0; !m->both_ways && k <= d.len; ++k) {
        const layer_result r = layer_result_make(&d);
        layer_piece(m, &d, r, 0, k);
        layer_piece(m, &d, r, k, d.len - k);
        layer_expect(&d, r);
    }
    layer_data_free(&d);
}

/* Packed, with rows before and after the sequences that belong to none. */
static void layer_law_packed(layer_model *m, ssm_rng *rng)
{
    static const size_t start[] = {3, 3, 4, 67, 67, 131, 196, 326, 328, 528, 528, 529};
    const size_t batch = TEST_COUNT(start) - 1, rows = start[batch] + 2, M = m->d_model;
    ssm_real *x = test_normal(rng, rows * M, 1), *state = test_normal(rng, batch * m->states, 1);
    ssm_real *scale = layer_scales(m, rng, rows);
    ssm_seqs seqs = layer_seqs(m, scale, batch, rows);
    ssm_real *y = test_copy(x, rows * M), *want_y = test_copy(x, rows * M);
    ssm_real *want_state = test_copy(state, batch * m->states);
    size_t b;
    for (b = 0; b < batch; ++b) {
        const ssm_seqs alone = layer_seqs(m, scale + start[b], 1, start[b + 1] - start[b]);
        layer_forward(m, want_state + b * m->states, x + start[b] * M, want_y + start[b] * M, &alone);
    }
    seqs.start = start;
    layer_record(m, state, x, y, &seqs, NULL, NULL, NULL, NULL);
    CHECK_SAME(y, want_y, rows * M);
    CHECK_SAME(state, want_state, batch * m->states);
    test_free(x, 0);
    test_free(scale, 0);
    test_free(state, 0);
    test_free(y, 0);
    test_free(want_y, 0);
    test_free(want_state, 0);
}

/*--- strides ---*/

typedef struct layer_layout {
    ssm_strides strides;
    size_t base;  /* index of the element (0, 0, 0) */
    size_t count; /* reals of a buffer that holds the tensor */
} layer_layout;

#define LAYER_LAYOUTS 7

static size_t layer_index(const layer_layout *l, size_t b, size_t t, size_t c)
{
    return l->base + (size_t)((ptrdiff_t)b * l->strides.batch + (ptrdiff_t)t * l->strides.time +
                              (ptrdiff_t)c * l->strides.chan);
}

static layer_layout layer_layout_make(size_t kind, size_t batch, size_t len, size_t d_model)
{
    const ptrdiff_t M = (ptrdiff_t)d_model, L = (ptrdiff_t)len, B = (ptrdiff_t)batch;
    const layer_layout layouts[LAYER_LAYOUTS] = {
        {{L * M, M, 1}, 0, 0},                                  /* dense */
        {{L * M, 1, L}, 0, 0},                                  /* [batch][channel][len] */
        {{L * M, -M, 1}, (len - 1) * d_model, 0},               /* backwards in time */
        {{L * (M + 3) + 5, M + 3, 1}, 2, 0},                    /* padded rows */
        {{M, B * M, 1}, 0, 0},                                  /* [len][batch][channel] */
        {{-2 * L * M, 2 * M, 2}, 2 * (batch - 1) * len * d_model + 1, 0}, /* every second, batch backwards */
        {{L * (M + 2), M + 2, 1}, 0, 0},                        /* padded rows, evenly spaced through the batch */
    };
    layer_layout l = layouts[kind];
    size_t b, t, c;
    for (b = 0; b < batch; ++b)
        for (t = 0; t < len; ++t)
            for (c = 0; c < d_model; ++c)
                if (layer_index(&l, b, t, c) >= l.count) l.count = layer_index(&l, b, t, c) + 1;
    return l;
}

static void layer_place(const layer_layout *l, const layer_data *d, const ssm_real *dense, ssm_real *buffer)
{
    const size_t M = d->batch ? d->count / (d->batch * d->len) : 0;
    size_t b, t, c;
    for (b = 0; b < d->batch; ++b)
        for (t = 0; t < d->len; ++t)
            for (c = 0; c < M; ++c) buffer[layer_index(l, b, t, c)] = *dense++;
}

/* x and y in the given layouts; everything between the elements of y stays as it was. */
static void layer_check_layouts(const layer_model *m, const layer_data *d, const layer_layout *x_layout,
                                const layer_layout *y_layout, int in_place)
{
    ssm_seqs seqs = layer_seqs(m, d->scale, d->batch, d->len);
    ssm_real *state = test_copy(d->state, d->states);
    ssm_real *x = test_zeros(x_layout->count), *y = in_place ? x : test_zeros(y_layout->count);
    ssm_real *want = test_zeros(y_layout->count);
    seqs.x = x_layout->strides;
    seqs.y = y_layout->strides;
    layer_place(x_layout, d, d->x, x);
    layer_place(y_layout, d, d->want_y, want);
    layer_forward(m, state, x + x_layout->base, y + y_layout->base, &seqs);
    CHECK_SAME(y, want, y_layout->count);
    CHECK_SAME(state, d->want_state, d->states);
    if (!in_place) test_free(y, 0);
    test_free(x, 0);
    test_free(want, 0);
    test_free(state, 0);
}

static const size_t layer_stride_shapes[][2] = {{3, 65}, {20, 7}, {5, 1}, {1, 130}};

static void layer_law_strides(layer_model *m, ssm_rng *rng)
{
    size_t i, x, y;
    for (i = 0; i < TEST_COUNT(layer_stride_shapes); ++i) {
        const layer_data d = layer_data_make(m, rng, layer_stride_shapes[i][0], layer_stride_shapes[i][1]);
        for (x = 0; x < LAYER_LAYOUTS; ++x) {
            const layer_layout x_layout = layer_layout_make(x, d.batch, d.len, m->d_model);
            for (y = (i + x) % 2; y < LAYER_LAYOUTS; y += 2) { /* half of the pairs */
                const layer_layout y_layout = layer_layout_make(y, d.batch, d.len, m->d_model);
                layer_check_layouts(m, &d, &x_layout, &y_layout, 0);
            }
        }
        layer_data_free(&d);
    }
}

/* Rows in the opposite order. */
static ssm_real *layer_reversed(const ssm_real *x, size_t rows, size_t dim)
{
    ssm_real *y = test_zeros(rows * dim);
    size_t r;
    for (r = 0; r < rows; ++r) memcpy(y + r * dim, x + (rows - 1 - r) * dim, dim * sizeof *y);
    return y;
}

/* Sequences taken from their end, by a negative stride, give what the reversed sequences give, gradients too: with it any
 * layer runs in both directions. All rows turned round are packed sequences in the opposite order. */
static void layer_law_backwards(layer_model *m, ssm_rng *rng)
{
    static const size_t start[3] = {0, 27, 40};
    const layer_data d = layer_data_make(m, rng, 1, 40);
    const size_t last = 39 * m->d_model;
    ssm_seqs seqs = test_seqs(2, 40);
    ssm_real *x = layer_reversed(d.x, 40, m->d_model), *dy = test_normal(rng, d.count, 1);
    ssm_real *want_y = test_zeros(d.count), *want_dx = test_zeros(d.count), *want_dparams = test_zeros(m->table.count);
    ssm_real *y = test_zeros(d.count), *dx = test_zeros(d.count), *dparams = test_zeros(m->table.count);
    ssm_real *back = layer_reversed(dy, 40, m->d_model), *turned;
    if (!m->scaled) {
        seqs.start = start;
        layer_record(m, NULL, x, want_y, &seqs, NULL, back, want_dx, want_dparams);
        seqs.x.time = seqs.y.time = -(ptrdiff_t)m->d_model;
        seqs.x.chan = seqs.y.chan = 1;
        layer_record(m, NULL, d.x + last, y + last, &seqs, NULL, dy + last, dx + last, dparams);
        CHECK_SAME(dparams, want_dparams, m->table.count);
        turned = layer_reversed(y, 40, m->d_model);
        CHECK_SAME(turned, want_y, d.count);
        test_free(turned, 0);
        turned = layer_reversed(dx, 40, m->d_model);
        CHECK_SAME(turned, want_dx, d.count);
        test_free(turned, 0);
    }
    test_free(x, 0);
    test_free(dy, 0);
    test_free(want_y, 0);
    test_free(want_dx, 0);
    test_free(want_dparams, 0);
    test_free(y, 0);
    test_free(dx, 0);
    test_free(dparams, 0);
    test_free(back, 0);
    layer_data_free(&d);
}

static void layer_law_in_place(layer_model *m, ssm_rng *rng)
{
    size_t i, kind;
    for (i = 0; i < TEST_COUNT(layer_stride_shapes); ++i) {
        const layer_data d = layer_data_make(m, rng, layer_stride_shapes[i][0], layer_stride_shapes[i][1]);
        for (kind = 0; kind < LAYER_LAYOUTS; ++kind) {
            const layer_layout layout = layer_layout_make(kind, d.batch, d.len, m->d_model);
            layer_check_layouts(m, &d, &layout, &layout, 1);
        }
        layer_data_free(&d);
    }
}

static void layer_law_step_in_place(layer_model *m, ssm_rng *rng)
{
    layer_data d;
    layer_result r;
    if (m->both_ways || m->scaled) return;
    d = layer_data_make(m, rng, 70, 1);
    r = layer_result_make(&d);
    memcpy(r.y, d.x, d.count * sizeof *d.x);
    layer_step(m, r.state, r.y, r.y, d.batch);
    layer_expect(&d, r);
    layer_data_free(&d);
}

/*--- states ---*/

/* No state: zero goes in, and record keeps it for backward too. */
static void layer_law_no_state(layer_model *m, ssm_rng *rng)
{
    size_t i;
    for (i = 0; i < TEST_COUNT(layer_stride_shapes); ++i) {
        const layer_data d = layer_data_make(m, rng, layer_stride_shapes[i][0], layer_stride_shapes[i][1]);
        const ssm_seqs seqs = layer_seqs(m, d.scale, d.batch, d.len);
        ssm_real *zero = test_zeros(d.states), *want = test_zeros(d.count), *y = test_zeros(d.count);
        ssm_real *want_dx = test_zeros(d.count), *dx = test_zeros(d.count);
        layer_record(m, zero, d.x, want, &seqs, NULL, d.x, want_dx, NULL);
        layer_forward(m, NULL, d.x, y, &seqs);
        CHECK_SAME(y, want, d.count);
        layer_record(m, NULL, d.x, y, &seqs, NULL, d.x, dx, NULL);
        CHECK_SAME(y, want, d.count);
        CHECK_SAME(dx, want_dx, d.count);
        test_free(zero, 0);
        test_free(want, 0);
        test_free(y, 0);
        test_free(want_dx, 0);
        test_free(dx, 0);
        layer_data_free(&d);
    }
}

/* A state copied in the middle continues as the original did, in the same memory or in other. */
static void layer_law_fork(layer_model *m, ssm_rng *rng)
{
    const layer_data d = layer_data_make(m, rng, 2, 90);
    const layer_result first = layer_result_make(&d), fork = layer_result_make(&d);
    ssm_real *saved, *last; /* pieces of a layer of both ways too: they are the same pieces */
    layer_piece(m, &d, first, 0, 30);
    layer_piece(m, &d, fork, 0, 30);
    saved = test_copy(first.state, d.states);
    memset(fork.state, 0, d.states * sizeof *saved);
    layer_piece(m, &d, first, 30, 60);
    memcpy(fork.state, saved, d.states * sizeof *saved);
    layer_piece(m, &d, fork, 30, 60);
    CHECK_SAME(fork.state, first.state, d.states);
    CHECK_SAME(fork.y, first.y, d.count);
    last = test_copy(first.state, d.states);
    memcpy(first.state, saved, d.states * sizeof *saved); /* rewind */
    memset(first.y + 30 * m->d_model, 0, 60 * m->d_model * sizeof *first.y);
    layer_piece(m, &d, first, 30, 60);
    CHECK_SAME(first.state, last, d.states);
    CHECK_SAME(first.y, fork.y, d.count);
    test_free(saved, 0);
    test_free(last, 0);
    test_free(fork.y, 0);
    test_free(fork.state, 0);
    test_free(first.y, 0);
    test_free(first.state, 0);
    layer_data_free(&d);
}

/* NaN in one sequence of a tile stays in it. */
static void layer_law_nan(layer_model *m, ssm_rng *rng)
{
    const layer_data d = layer_data_make(m, rng, 3, 20);
    const ssm_seqs seqs = layer_seqs(m, d.scale, d.batch, d.len);
    const size_t one = d.len * m->d_model;
    const layer_result r = layer_result_make(&d);
    size_t i;
    for (i = 0; i < one; ++i) d.x[one + i] = (ssm_real)NAN;
    layer_forward(m, r.state, d.x, r.y, &seqs);
    for (i = 0; i < one; ++i) CHECK(r.y[one + i] != r.y[one + i]);
    memcpy(r.y + one, d.want_y + one, one * sizeof *r.y);
    memcpy(r.state + m->states, d.want_state + m->states, m->states * sizeof *r.y);
    layer_expect(&d, r);
    layer_data_free(&d);
}

/* After bind, forward and step read the bound copy only. */
static void layer_law_snapshot(layer_model *m, ssm_rng *rng)
{
    size_t i;
    const layer_data d = layer_data_make(m, rng, 2, 20), one = layer_data_make(m, rng, 5, 1);
    const layer_result r = layer_result_make(&d), s = layer_result_make(&one);
    for (i = 0; i < m->table.count; ++i) m->params[i] = (ssm_real)NAN;
    layer_way_batch(m, &d, r);
    layer_expect(&d, r);
    if (m->both_ways) layer_way_batch(m, &one, s);
    else layer_way_step(m, &one, s);
    layer_expect(&one, s);
    layer_data_free(&d);
    layer_data_free(&one);
}

/* Outputs of both directions: a step is refused, and writes nothing. */
static void layer_law_both_ways(layer_model *m, ssm_rng *rng)
{
    const layer_data d = layer_data_make(m, rng, 2, 1);
    const layer_result r = layer_result_make(&d);
    ssm_real *y = test_copy(r.y, d.count), work[64];
    if (m->both_ways) {
        CHECK_STATUS(m->type->step(&m->layer, r.state, d.x, r.y, 2, ssm_memory_of(work, sizeof work)),
                     SSM_ERR_UNSUPPORTED);
        CHECK(m->need.work_step == 0);
        CHECK_SAME(r.y, y, d.count);
        CHECK_SAME(r.state, d.state, d.states);
    }
    test_free(r.y, 0);
    test_free(r.state, 0);
    test_free(y, 0);
    layer_data_free(&d);
}

/*--- against the oracle ---*/

static void layer_law_oracle(layer_model *m, ssm_rng *rng)
{
    const layer_data d = layer_data_make(m, rng, 2, m->whole ? 700 : 200);
    double *x = test_doubles(d.x, d.count), *state = test_doubles(d.state, d.states);
    double *y = test_doubles(d.x, d.count), *params = test_doubles(m->params, m->table.count);
    double *scale = test_doubles(d.scale, d.batch * d.len);
    const double allowed = TOL(m->type->whole ? 1e-4 : 1e-5, 1e-12); /* S4 and S5 hardly forget what was rounded */
    layer_oracle o = {&m->resolved, &m->table, params, NULL};
    size_t b;
    for (b = 0; b < d.batch; ++b) {
        const size_t first = b * d.len * m->d_model;
        if (m->scaled) o.scale = scale + b * d.len;
        layer_oracle_run(m->type, &o, m->d_model, state + b * m->states, x + first, y + first, d.len);
    }
    CHECK_CLOSE(d.want_y, y, d.count, allowed);
    CHECK_CLOSE(d.want_state, state, d.states, allowed);
    test_free(x, 0);
    test_free(state, 0);
    test_free(y, 0);
    test_free(params, 0);
    test_free(scale, 0);
    layer_data_free(&d);
}

/*--- gradients ---*/

/* Sequences in some layout, the gradient of y and of the leaving states:
 * loss = sum y dy + sum state dstate. Gaps between the elements of y have dy too, but no y. */
typedef struct layer_problem {
    const layer_model *m;
    size_t shape; /* its place in layer_gradient_shapes */
    ssm_seqs seqs;
    layer_layout x_layout;
    layer_layout y_layout;
    size_t states;
    ssm_real *x;
    ssm_real *scale; /* of the steps, as ssm_seqs has it */
    ssm_real *state;
    ssm_real *dy;
    ssm_real *dstate;
} layer_problem;

static const size_t layer_ragged[] = {2, 7, 7, 137, 138};

static const struct {
    size_t batch;
    size_t len;
    const size_t *start;
    size_t x_layout;
    size_t y_layout;
} layer_gradient_shapes[] = {
    {1, 65, NULL, 0, 0},           {2, 67, NULL, 1, 3},           {4, 139, layer_ragged, 0, 0},
    {4, 139, layer_ragged, 2, 1},  {9, 8, NULL, 4, 5},            {1, 130, NULL, 2, 6},
    {3, 1, NULL, 0, 0},
};

static layer_problem layer_problem_make(const layer_model *m, ssm_rng *rng, size_t shape)
{
    const size_t batch = layer_gradient_shapes[shape].batch, len = layer_gradient_shapes[shape].len;
    const size_t *start = layer_gradient_shapes[shape].start;
    layer_problem p;
    p.m = m;
    p.shape = shape;
    p.scale = layer_scales(m, rng, start ? len : batch * len);
    p.seqs = layer_seqs(m, p.scale, batch, len);
    p.seqs.start = start;
    p.x_layout = layer_layout_make(layer_gradient_shapes[shape].x_layout, start ? 1 : batch, len, m->d_model);
    p.y_layout = layer_layout_make(layer_gradient_shapes[shape].y_layout, start ? 1 : batch, len, m->d_model);
    p.seqs.x = p.x_layout.strides;
    p.seqs.y = p.y_layout.strides;
    p.states = batch * m->states;
    p.x = test_normal(rng, p.x_layout.count, 1);
    p.state = test_normal(rng, p.states, 1);
    layer_fresh_states(m, p.state, batch);
    p.dy = test_normal(rng, p.y_layout.count, 1);
    p.dstate = test_normal(rng, p.states, 1);
    return p;
}

static void layer_problem_free(const layer_problem *p)
{
    test_free(p->x, 0);
    test_free(p->scale, 0);
    test_free(p->state, 0);
    test_free(p->dy, 0);
    test_free(p->dstate, 0);
}

/* The gradients of a problem; any of them may be NULL. dstate: as backward has it. */
static void layer_gradients(const layer_problem *p, ssm_real *dstate, ssm_real *dx, ssm_real *dparams)
{
    ssm_real *state = test_copy(p->state, p->states), *y = test_zeros(p->y_layout.count);
    layer_record(p->m, state, p->x + p->x_layout.base, y + p->y_layout.base, &p->seqs, dstate,
                 p->dy + p->y_layout.base, dx ? dx + p->x_layout.base : NULL, dparams);
    test_free(state, 0);
    test_free(y, 0);
}

typedef struct layer_point { /* where the loss is taken */
    double *params;
    double *x;
    double *state;
} layer_point;

#ifdef SSM_DOUBLE
/* The layer's own forward; double is ssm_real. */
static double layer_loss(const layer_problem *p, const layer_point *at)
{
    const layer_model *m = p->m;
    ssm_real *state = test_copy(at->state, p->states), *y = test_zeros(p->y_layout.count);
    layer_model moved = *m;
    double loss = 0;
    size_t i;
    CHECK_OK(m->type->bind(&moved.layer, m->config, at->params, ssm_memory_of(m->bound, m->need.bound)));
    layer_forward(&moved, state, at->x + p->x_layout.base, y + p->y_layout.base, &p->seqs);
    for (i = 0; i < p->y_layout.count; ++i) loss += y[i] * p->dy[i];
    for (i = 0; i < p->states; ++i) loss += state[i] * p->dstate[i];
    test_free(state, 0);
    test_free(y, 0);
    return loss;
}
#else
/* The oracle, since differences of floats say little. */
static double layer_loss(const layer_problem *p, const layer_point *at)
{
    const layer_model *m = p->m;
    const size_t M = m->d_model, len = p->seqs.len;
    double *x = (double *)test_alloc(len * M * sizeof *x, 0), *y = (double *)test_alloc(len * M * sizeof *y, 0);
    double *state = (double *)test_alloc(p->states * sizeof *state, 0), *scale = test_doubles(p->scale, len);
    layer_oracle o = {&m->resolved, &m->table, at->params, NULL};
    double loss = 0;
    size_t b, t, c;
    memcpy(state, at->state, p->states * sizeof *state);
    for (b = 0; b < p->seqs.batch; ++b) {
        const size_t *start = p->seqs.start, first = start ? start[b] : 0, in = start ? 0 : b;
        const size_t rows = (start ? start[b + 1] : len) - first;
        for (t = 0; t < rows; ++t) {
            for (c = 0; c < M; ++c) x[t * M + c] = at->x[layer_index(&p->x_layout, in, first + t, c)];
            scale[t] = (double)p->scale[in * len + first + t];
        }
        if (m->scaled) o.scale = scale;
        layer_oracle_run(m->type, &o, M, state + b * m->states, x, y, rows);
        for (t = 0; t < rows; ++t)
            for (c = 0; c < M; ++c)
                loss += y[t * M + c] * (double)p->dy[layer_index(&p->y_layout, in, first + t, c)];
    }
    for (t = 0; t < p->states; ++t) loss += state[t] * (double)p->dstate[t];
    test_free(x, 0);
    test_free(y, 0);
    test_free(state, 0);
    test_free(scale, 0);
    return loss;
}
#endif

/* d loss / d v[i] by central differences of fourth order, for every `every`-th i; the others are those of `got`. Which
 * ones differs from one shape of a problem to the next. */
static double *layer_differences(const layer_problem *p, const layer_point *at, double *v, const ssm_real *got,
                                 size_t count, size_t every)
{
    const double h = 1e-4;
    double *grad = test_doubles(got, count);
    size_t i;
    for (i = p->shape / 3 % every; i < count; i += every) {
        const double middle = v[i];
        double loss[4];
        int k;
        for (k = 0; k < 4; ++k) {
            v[i] = middle + h * (k < 2 ? k - 2 : k - 1);
            loss[k] = layer_loss(p, at);
        }
        v[i] = middle;
        grad[i] = (loss[0] - 8 * loss[1] + 8 * loss[2] - loss[3]) / (12 * h);
    }
    return grad;
}

typedef struct layer_loss_context {
    const layer_problem *p;
    const layer_point *at;
} layer_loss_context;

static double layer_loss_of(void *context)
{
    const layer_loss_context *c = (const layer_loss_context *)context;
    return layer_loss(c->p, c->at);
}

#define LAYER_GRADIENT_TOL TOL(1e-3, 1e-7)

/* Each row of the table by its own scale. */
static void layer_check_rows(const layer_model *m, const ssm_real *dparams, const double *want)
{
    size_t r;
    for (r = 0; r < m->table.rows; ++r) {
        const ssm_param *row = &m->table.row[r];
        const size_t failures = test_failures;
        CHECK_CLOSE(dparams + row->offset, want + row->offset, row->count, LAYER_GRADIENT_TOL);
        if (test_failures > failures && failures <= 5) printf("    ... in %s\n", row->name);
    }
}

/* v, parameters or x, in one random direction, which every element has a part in. */
static void layer_check_direction(const layer_problem *p, const layer_point *at, double *v, const ssm_real *gradient,
                                  size_t count)
{
    layer_loss_context context = {p, at};
    ssm_rng rng = test_rng(count);
    double *direction = (double *)test_alloc(count * sizeof *direction, 0), got = 0, want;
    size_t i;
    for (i = 0; i < count; ++i) {
        direction[i] = (double)test_draw(&rng);
        got += (double)gradient[i] * direction[i];
    }
    want = test_slope(layer_loss_of, &context, v, direction, count, 1e-4);
    if (!(fabs(got - want) <= LAYER_GRADIENT_TOL * test_norm(gradient, count)))
        test_fail(__FILE__, __LINE__, "d%s along a direction: %.9g, differences give %.9g", v == at->x ? "x" : "params",
                  got, want);
    test_free(direction, 0);
}

/* All parameters and all of x together; by itself, every third parameter and state and, since their number is that of the
 * steps, every seventh element of x. */
static void layer_check_problem(const layer_problem *p)
{
    const size_t count = p->m->table.count, x_count = p->x_layout.count;
    ssm_real *dparams = test_zeros(count), *dx = test_zeros(x_count), *dstate = test_copy(p->dstate, p->states);
    layer_point at;
    double *want_params, *want_x, *want_state;
    layer_gradients(p, dstate, dx, dparams); /* first: the differences bind the layer again and again */
    at.params = test_doubles(p->m->params, count);
    at.x = test_doubles(p->x, x_count);
    at.state = test_doubles(p->state, p->states);
    want_params = layer_differences(p, &at, at.params, dparams, count, 3);
    want_x = layer_differences(p, &at, at.x, dx, x_count, 7);
    want_state = layer_differences(p, &at, at.state, dstate, p->states, 3);
    layer_check_direction(p, &at, at.params, dparams, count);
    layer_check_direction(p, &at, at.x, dx, x_count);
    layer_check_rows(p->m, dparams, want_params);
    CHECK_CLOSE(dx, want_x, x_count, LAYER_GRADIENT_TOL);
    CHECK_CLOSE(dstate, want_state, p->states, LAYER_GRADIENT_TOL);
    test_free(dparams, 0);
    test_free(dx, 0);
    test_free(dstate, 0);
    test_free(at.params, 0);
    test_free(at.x, 0);
    test_free(at.state, 0);
    test_free(want_params, 0);
    test_free(want_x, 0);
    test_free(want_state, 0);
}

/* Each configuration with some of the shapes, each shape with each type of layer. */
static void layer_law_gradients(layer_model *m, ssm_rng *rng)
{
    const size_t shapes = TEST_COUNT(layer_gradient_shapes), turn = m->index % 3;
    size_t i;
    for (i = 0; i < shapes; ++i) {
        const size_t failures = test_failures;
        layer_problem p;
        if (i % 3 != turn) continue;
        p = layer_problem_make(m, rng, i);
        layer_check_problem(&p);
        layer_problem_free(&p);
        if (test_failures > failures && failures <= 5) printf("    ... in shape %lu\n", (unsigned long)i);
        CHECK_OK(m->type->bind(&m->layer, m->config, m->params, ssm_memory_of(m->bound, m->need.bound)));
    }
}

/* want = first + gain * add */
static void layer_check_sum(const ssm_real *got, double gain, const ssm_real *add, const ssm_real *first, size_t count)
{
    double *want = test_doubles(first, count);
    size_t i;
    for (i = 0; i < count; ++i) want[i] += gain * (double)add[i];
    CHECK_CLOSE(got, want, count, TOL(1e-4, 1e-12));
    test_free(want, 0);
}

/* backward adds to dx and dparams, and replaces dstate. */
static void layer_law_accumulate(layer_model *m, ssm_rng *rng)
{
    size_t shape;
    for (shape = 0; shape < TEST_COUNT(layer_gradient_shapes); ++shape) {
        const layer_problem p = layer_problem_make(m, rng, shape);
        const size_t count = m->table.count, x_count = p.x_layout.count;
        ssm_real *dparams = test_zeros(count), *dx = test_zeros(x_count), *dstate = test_copy(p.dstate, p.states);
        ssm_real *params_first = test_normal(rng, count, 1), *params_sum = test_copy(params_first, count);
        ssm_real *x_first = test_normal(rng, x_count, 1), *x_sum = test_copy(x_first, x_count);
        ssm_real *again = test_copy(p.dstate, p.states);
        layer_gradients(&p, dstate, dx, dparams);
        layer_gradients(&p, again, x_sum, params_sum);
        CHECK_SAME(again, dstate, p.states);
        memcpy(again, p.dstate, p.states * sizeof *again);
        layer_gradients(&p, again, x_sum, params_sum);
        layer_check_sum(params_sum, 2, dparams, params_first, count);
        layer_check_sum(x_sum, 2, dx, x_first, x_count);
        test_free(dparams, 0);
        test_free(dx, 0);
        test_free(dstate, 0);
        test_free(params_first, 0);
        test_free(params_sum, 0);
        test_free(x_first, 0);
        test_free(x_sum, 0);
        test_free(again, 0);
        layer_problem_free(&p);
    }
}

/* Without dx, dparams or dstate the others keep their bits; dstate == NULL is a zero gradient. */
static void layer_law_optional(layer_model *m, ssm_rng *rng)
{
    unsigned wanted, shape;
    for (shape = 0; shape < TEST_COUNT(layer_gradient_shapes); ++shape) {
        layer_problem p = layer_problem_make(m, rng, shape);
        const size_t count = m->table.count, x_count = p.x_layout.count;
        ssm_real *want_params = test_zeros(count), *want_x = test_zeros(x_count), *want_state = test_zeros(p.states);
        memset(p.dstate, 0, p.states * sizeof *p.dstate);
        layer_gradients(&p, want_state, want_x, want_params);
        for (wanted = 0; wanted < 8; ++wanted) {
            ssm_real *dparams = test_zeros(count), *dx = test_zeros(x_count), *dstate = test_zeros(p.states);
            layer_gradients(&p, wanted & 1 ? dstate : NULL, wanted & 2 ? dx : NULL, wanted & 4 ? dparams : NULL);
            if (wanted & 1) CHECK_SAME(dstate, want_state, p.states);
            if (wanted & 2) CHECK_SAME(dx, want_x, x_count);
            if (wanted & 4) CHECK_SAME(dparams, want_params, count);
            test_free(dparams, 0);
            test_free(dx, 0);
            test_free(dstate, 0);
        }
        test_free(want_params, 0);
        test_free(want_x, 0);
        test_free(want_state, 0);
        layer_problem_free(&p);
    }
}

/* The gradient of a batch is the sum of those of its sequences. */
static void layer_law_gradient_sum(layer_model *m, ssm_rng *rng)
{
    const layer_data d = layer_data_make(m, rng, 9, 8);
    const ssm_seqs all = layer_seqs(m, d.scale, d.batch, d.len);
    const size_t count = m->table.count, one = d.len * m->d_model;
    ssm_real *dparams = test_zeros(count), *sum = test_zeros(count), *zero = test_zeros(count);
    ssm_real *dx = test_zeros(d.count), *want_x = test_zeros(d.count);
    ssm_real *dstate = test_normal(rng, d.states, 1), *want_state = test_copy(dstate, d.states);
    ssm_real *dy = test_normal(rng, d.count, 1), *y = test_zeros(d.count), *state = test_copy(d.state, d.states);
    size_t b;
    layer_record(m, state, d.x, y, &all, dstate, dy, dx, dparams);
    memcpy(state, d.state, d.states * sizeof *state);
    for (b = 0; b < d.batch; ++b) {
        const ssm_seqs alone = layer_seqs(m, d.scale + b * d.len, 1, d.len);
        layer_record(m, state + b * m->states, d.x + b * one, y, &alone, want_state + b * m->states, dy + b * one,
                     want_x + b * one, sum);
    }
    layer_check_sum(dparams, 1, sum, zero, count);
    CHECK_SAME(dx, want_x, d.count);
    CHECK_SAME(dstate, want_state, d.states);
    test_free(dparams, 0);
    test_free(sum, 0);
    test_free(zero, 0);
    test_free(dx, 0);
    test_free(want_x, 0);
    test_free(dstate, 0);
    test_free(want_state, 0);
    test_free(dy, 0);
    test_free(y, 0);
    test_free(state, 0);
    layer_data_free(&d);
}

/*--- the host's own loop ---*/

/* Large enough to be shared out. */
static const layer_config layer_parallel_configs[] = {
    LAYER(selective, .d_model = 70),
    LAYER(s6, .d_model = 70, .scan = SSM_SCAN_CHUNKED),
    LAYER(s6, .d_model = 70, .scan = SSM_SCAN_BLELLOCH),
    LAYER(mamba, .d_model = 70, .pre_norm = 1, .proj_bias = 1),
    LAYER(mamba3, .d_model = 70, .d_state = 16, .headdim = 35, .mimo_rank = 2, .out_norm = 1),
    LAYER(rglru, .d_model = 70, .lru_width = 300, .num_heads = 2),
    LAYER(s4d, .d_model = 70, .train_B = 1, .output = SSM_S4_OUTPUT_GLU),
    LAYER(s4d, .d_model = 70, .scan = SSM_SCAN_CHUNKED),
    LAYER(s4, .d_model = 70, .pre_norm = 1),
    LAYER(s5, .d_model = 70, .d_state = 140, .activation = SSM_S5_FULL_GLU),
};

static void layer_law_parallel(layer_model *m, ssm_rng *rng)
{
    const layer_data d = layer_data_make(m, rng, 2, 200);
    const layer_result r = layer_result_make(&d), plain = layer_result_make(&d);
    ssm_real *dstate = test_normal(rng, d.states, 1), *want_dstate = test_copy(dstate, d.states);
    ssm_real *dx = test_zeros(d.count), *want_dx = test_zeros(d.count);
    ssm_real *dparams = test_zeros(m->table.count), *want_dparams = test_zeros(m->table.count);
    ssm_seqs seqs = layer_seqs(m, d.scale, d.batch, d.len);
    test_pool pool = {3, 0};
    const ssm_parallel parallel = {test_pool_run, &pool};
    size_t tasks_forward;
    layer_record(m, plain.state, d.x, plain.y, &seqs, want_dstate, d.x, want_dx, want_dparams);
    seqs.parallel = &parallel;
    layer_forward(m, r.state, d.x, r.y, &seqs);
    tasks_forward = pool.tasks;
    if (SSM_TILE_ROWS >= 64) CHECK(tasks_forward > 0); /* smaller tiles are not worth sharing out */
    memcpy(r.state, d.state, d.states * sizeof *r.state);
    layer_record(m, r.state, d.x, r.y, &seqs, dstate, d.x, dx, dparams);
    CHECK(pool.tasks >= 2 * tasks_forward);
    CHECK_SAME(dstate, want_dstate, d.states);
    CHECK_SAME(dx, want_dx, d.count);
    CHECK_SAME(dparams, want_dparams, m->table.count);
    layer_expect(&d, r);
    layer_expect(&d, plain);
    test_free(dstate, 0);
    test_free(want_dstate, 0);
    test_free(dx, 0);
    test_free(want_dx, 0);
    test_free(dparams, 0);
    test_free(want_dparams, 0);
    layer_data_free(&d);
}

static void test_layer_parallel(void)
{
    layer_each(layer_law_parallel, layer_parallel_configs, TEST_COUNT(layer_parallel_configs));
}

/* Tasks of one step of many streams, shared out by a loop of the host; WIDTH makes the norm worth sharing. */
enum { STEP_WIDTH = 1024 };
static size_t layer_step_tasks(int pre_norm)
{
    test_pool pool = {3, 0};
    const ssm_parallel parallel = {test_pool_run, &pool};
    const ssm_seqs seqs = test_seqs(SSM_TILE_ROWS, 1);
    ssm_mamba_config config = {0};
    ssm_sizes need;
    ssm_mamba layer;
    ssm_real *params, *bound, *state, *x = test_zeros(seqs.batch * STEP_WIDTH), *work;
    config.d_model = STEP_WIDTH, config.d_state = 1, config.expand = 1, config.pre_norm = pre_norm;
    config.parallel = &parallel;
    CHECK_OK(ssm_mamba_sizes(&config, &seqs, &need));
    params = test_zeros(need.params / sizeof *params);
    bound = test_zeros(need.bound / sizeof *bound + 1);
    state = test_zeros(need.state / sizeof *state);
    work = test_zeros(need.work_step / sizeof *work + 1);
    CHECK_OK(ssm_mamba_init(&config, params, 1));
    CHECK_OK(ssm_mamba_bind(&layer, &config, params, ssm_memory_of(bound, need.bound)));
    CHECK_OK(ssm_mamba_step(&layer, state, x, x, seqs.batch, ssm_memory_of(work, need.work_step)));
    test_free(params, 0), test_free(bound, 0), test_free(state, 0), test_free(x, 0), test_free(work, 0);
    return pool.tasks;
}

/* One step of 64 streams of layer X of 256 channels; its config says who shares it out. */
#define LAYER_STEP_SHARED(X)                                                                         \
    static void layer_step_shared_##X(const ssm_parallel *parallel, ssm_real *y)                     \
    {                                                                                                \
        const ssm_seqs seqs = test_seqs(64, 1);                                                      \
        ssm_rng rng = {5};                                                                           \
        ssm_real *x = test_normal(&rng, 64 * 256, 1), *params, *state;                               \
        ssm_##X##_config config = {0};                                                               \
        ssm_sizes need;                                                                              \
        ssm_##X layer;                                                                               \
        void *bound, *work;                                                                          \
        config.d_model = 256;                                                                        \
        config.parallel = parallel;                                                                  \
        CHECK_OK(ssm_##X##_sizes(&config, &seqs, &need));                                            \
        params = test_zeros(need.params / sizeof *params);                                           \
        state = test_zeros(need.state / sizeof *state);                                              \
        bound = test_alloc(need.bound, 0);                                                           \
        work = test_alloc(need.work_step, 0);                                                        \
        CHECK_OK(ssm_##X##_init(&config, params, 1));                                                \
        CHECK_OK(ssm_##X##_bind(&layer, &config, params, ssm_memory_of(bound, need.bound)));         \
        CHECK_OK(ssm_##X##_step(&layer, state, x, y, 64, ssm_memory_of(work, need.work_step)));      \
        test_free(x, 0), test_free(params, 0), test_free(state, 0), test_free(bound, 0), test_free(work, 0); \
    }
LAYER_STEP_SHARED(selective)
LAYER_STEP_SHARED(s6)
LAYER_STEP_SHARED(mamba)
LAYER_STEP_SHARED(mamba2)
LAYER_STEP_SHARED(rglru)
LAYER_STEP_SHARED(s4d)
LAYER_STEP_SHARED(s4)
LAYER_STEP_SHARED(s5)

/* Every layer's step is shared out by the loop of its config, and gives the same bits. */
static void test_layer_step_shared(void)
{
    static void (*const step[])(const ssm_parallel *parallel, ssm_real *y) = {
        layer_step_shared_selective, layer_step_shared_s6, layer_step_shared_mamba, layer_step_shared_mamba2,
        layer_step_shared_s4d,       layer_step_shared_s4, layer_step_shared_s5,    layer_step_shared_rglru};
    ssm_real *y = test_zeros(64 * 256), *want = test_zeros(64 * 256);
    size_t i;
    for (i = 0; i < TEST_COUNT(step); ++i) {
        test_pool pool = {3, 0};
        const ssm_parallel parallel = {test_pool_run, &pool};
        step[i](NULL, want);
        step[i](&parallel, y);
        if (SSM_TILE_ROWS >= 64) CHECK(pool.tasks > 0); /* smaller tiles are not worth sharing out */
        CHECK_SAME(y, want, 64 * 256);
    }
    test_free(y, 0), test_free(want, 0);
}

static void test_layer_step_norm(void)
{
    if (SSM_TILE_ROWS < 64) return; /* not worth sharing in lower tiles */
    CHECK(layer_step_tasks(1) > layer_step_tasks(0));
}

/*--- memory and errors ---*/

/* Every block a call can touch, `misalign` bytes off, exactly as large as it must be. */
#define LAYER_BLOCKS 8 /* tape and work are the last two */
typedef struct layer_fixture {
    ssm_seqs seqs;
    ssm_sizes need;
    layer_verb verb;
    layer_io io;
    size_t misalign; /* of tape and work */
    size_t blocks;
    struct {
        void *at;
        size_t bytes;
        size_t misalign;
        unsigned char *before;
    } block[LAYER_BLOCKS];
} layer_fixture;

static void *layer_block(layer_fixture *f, size_t bytes, size_t misalign)
{
    void *p = test_alloc(bytes, misalign);
    f->block[f->blocks].at = p;
    f->block[f->blocks].bytes = bytes;
    f->block[f->blocks].misalign = misalign;
    f->block[f->blocks++].before = NULL;
    return p;
}

static ssm_real *layer_block_reals(layer_fixture *f, ssm_rng *rng, size_t count)
{
    ssm_real *p = (ssm_real *)layer_block(f, count * sizeof *p, 0);
    size_t i;
    for (i = 0; i < count; ++i) p[i] = test_draw(rng);
    return p;
}

/* A call of `verb` that would succeed; before backward, record has run. */
static void layer_fixture_open(layer_fixture *f, const layer_model *m, ssm_rng *rng, layer_verb verb, ssm_seqs seqs,
                               size_t misalign)
{
    const size_t count = seqs.batch * seqs.len * m->d_model, states = seqs.batch * m->states;
    const layer_io none = {0};
    f->seqs = seqs;
    f->verb = verb;
    f->io = none;
    f->misalign = misalign;
    f->blocks = 0;
    CHECK_OK(m->type->sizes(m->config, &seqs, &f->need));
    f->io.layer = &m->layer;
    f->io.seqs = &f->seqs;
    f->io.x = layer_block_reals(f, rng, count);
    f->io.y = layer_block_reals(f, rng, count);
    f->io.dy = layer_block_reals(f, rng, count);
    f->io.dx = layer_block_reals(f, rng, count);
    f->io.dparams = layer_block_reals(f, rng, m->table.count);
    f->io.state = layer_block_reals(f, rng, states);
    if (m->states == 0) f->io.state = NULL;
    f->io.tape = ssm_memory_of(layer_block(f, f->need.tape, misalign), f->need.tape);
    if (verb == LAYER_BACKWARD) layer_run(m, LAYER_RECORD, f->io);
    f->io.work.bytes = layer_work_bytes(&f->need, verb, 1);
    f->io.work.data = layer_block(f, f->io.work.bytes, misalign);
}

static void layer_fixture_close(layer_fixture *f)
{
    size_t i;
    for (i = 0; i < f->blocks; ++i) {
        free(f->block[i].before);
        test_free(f->block[i].at, f->block[i].misalign);
    }
}

static void layer_fixture_keep(layer_fixture *f)
{
    size_t i;
    for (i = 0; i < f->blocks; ++i) {
        f->block[i].before = (unsigned char *)malloc(f->block[i].bytes + 1);
        memcpy(f->block[i].before, f->block[i].at, f->block[i].bytes);
    }
}

static int layer_fixture_untouched(const layer_fixture *f)
{
    size_t i;
    for (i = 0; i < f->blocks; ++i)
        if (memcmp(f->block[i].before, f->block[i].at, f->block[i].bytes) != 0) return 0;
    return 1;
}

static const layer_verb layer_verbs[] = {LAYER_FORWARD, LAYER_STEP, LAYER_RECORD, LAYER_BACKWARD};

static int layer_has(const layer_model *m, layer_verb verb)
{
    return verb != LAYER_STEP || !m->both_ways;
}

/* Sequences of a verb: a step has len 1. The strides make it copy rows. */
static ssm_seqs layer_verb_seqs(const layer_model *m, layer_verb verb, int copied)
{
    ssm_seqs seqs = test_seqs(3, verb == LAYER_STEP ? 1 : 65);
    if (copied && verb != LAYER_STEP) {
        seqs.x = layer_layout_make(4, seqs.batch, seqs.len, m->d_model).strides;
        seqs.y = layer_layout_make(1, seqs.batch, seqs.len, m->d_model).strides;
    }
    return seqs;
}

/* Everything exact, at any alignment, gives the results of the aligned call. */
static void layer_law_alignment(layer_model *m, ssm_rng *rng)
{
    static const size_t misalign[] = {0, 1, 3, 4, 63};
    size_t v, i, k;
    for (v = 0; v < 2 * TEST_COUNT(layer_verbs); ++v) {
        const layer_verb verb = layer_verbs[v / 2];
        const ssm_rng seed = *rng;
        layer_fixture aligned = {0};
        if (!layer_has(m, verb)) continue;
        for (i = 0; i < TEST_COUNT(misalign); ++i) {
            ssm_rng again = seed;
            layer_fixture f = {0};
            layer_fixture_open(&f, m, &again, verb, layer_verb_seqs(m, verb, v % 2), misalign[i]);
            CHECK_OK(layer_call(m->type, verb, &f.io));
            for (k = 0; i > 0 && k + 2 < LAYER_BLOCKS; ++k) /* all but tape and work */
                CHECK_SAME((ssm_real *)f.block[k].at, (ssm_real *)aligned.block[k].at,
                           f.block[k].bytes / sizeof(ssm_real));
            if (i == 0) aligned = f;
            else layer_fixture_close(&f);
        }
        layer_fixture_close(&aligned);
    }
}

/* What can be wrong with a call. */
static const size_t layer_start_falls[] = {0, 5, 4, 6}, layer_start_beyond[] = {0, 1, 2, 66};

static const layer_any layer_zeros;

static void layer_no_layer(layer_fixture *f) { f->io.layer = NULL; }
static void layer_never_bound(layer_fixture *f) { f->io.layer = &layer_zeros; }
static void layer_no_x(layer_fixture *f) { f->io.x = NULL; }
static void layer_no_y(layer_fixture *f) { f->io.y = NULL; }
static void layer_no_dy(layer_fixture *f) { f->io.dy = NULL; }
static void layer_no_seqs(layer_fixture *f) { f->io.seqs = NULL; }
static void layer_no_state_given(layer_fixture *f) { f->io.state = NULL; }
static void layer_no_tape(layer_fixture *f) { f->io.tape.data = NULL; }
static void layer_no_work(layer_fixture *f) { f->io.work.data = NULL; }
static void layer_short_work(layer_fixture *f) { f->io.work.bytes -= 1; }
static void layer_short_tape(layer_fixture *f) { f->io.tape.bytes -= 1; }
static void layer_start_falling(layer_fixture *f) { f->seqs.start = layer_start_falls; }
static void layer_start_past_end(layer_fixture *f) { f->seqs.start = layer_start_beyond; }
static void layer_huge_len(layer_fixture *f) { f->seqs.len = (size_t)-1 / 2; }
static void layer_huge_batch(layer_fixture *f) { f->seqs.batch = (size_t)-1 / 2; }

/* Without a state the workspace must hold one: a byte less is too little. */
static void layer_short_state(layer_fixture *f)
{
    f->io.state = NULL;
    f->io.work.bytes = layer_work_bytes(&f->need, f->verb, 0) - 1;
}

#define LAYER_SEQUENCES (LAYER_FORWARD | LAYER_RECORD | LAYER_BACKWARD)
#define LAYER_ALL (LAYER_SEQUENCES | LAYER_STEP)
#define LAYER_FAULT(f) #f, f

static const struct {
    const char *name;
    void (*spoil)(layer_fixture *f);
    int verbs;
    ssm_status status;
} layer_faults[] = {
    {LAYER_FAULT(layer_no_layer), LAYER_ALL, SSM_ERR_NULL},
    {LAYER_FAULT(layer_never_bound), LAYER_ALL, SSM_ERR_CONFIG},
    {LAYER_FAULT(layer_no_x), LAYER_ALL, SSM_ERR_NULL},
    {LAYER_FAULT(layer_no_y), LAYER_FORWARD | LAYER_RECORD | LAYER_STEP, SSM_ERR_NULL},
    {LAYER_FAULT(layer_no_dy), LAYER_BACKWARD, SSM_ERR_NULL},
    {LAYER_FAULT(layer_no_seqs), LAYER_SEQUENCES, SSM_ERR_NULL},
    {LAYER_FAULT(layer_no_state_given), LAYER_STEP, SSM_ERR_NULL},
    {LAYER_FAULT(layer_no_tape), LAYER_RECORD | LAYER_BACKWARD, SSM_ERR_NULL},
    {LAYER_FAULT(layer_no_work), LAYER_ALL, SSM_ERR_NULL},
    {LAYER_FAULT(layer_short_work), LAYER_ALL, SSM_ERR_MEMORY},
    {LAYER_FAULT(layer_short_tape), LAYER_RECORD | LAYER_BACKWARD, SSM_ERR_TAPE},
    {LAYER_FAULT(layer_short_state), LAYER_FORWARD | LAYER_RECORD, SSM_ERR_MEMORY},
    {LAYER_FAULT(layer_start_falling), LAYER_SEQUENCES, SSM_ERR_SHAPE},
    {LAYER_FAULT(layer_start_past_end), LAYER_SEQUENCES, SSM_ERR_SHAPE},
    {LAYER_FAULT(layer_huge_len), LAYER_SEQUENCES, SSM_ERR_OVERFLOW},
    {LAYER_FAULT(layer_huge_batch), LAYER_ALL, SSM_ERR_OVERFLOW},
};

/* Faults of a block that this call does not need. */
static int layer_fault_spares(const layer_fixture *f, size_t fault)
{
    void (*const spoil)(layer_fixture *) = layer_faults[fault].spoil;
    if (spoil == layer_no_tape || spoil == layer_short_tape) return f->need.tape == 0;
    if (spoil == layer_no_work || spoil == layer_short_work) return f->io.work.bytes == 0;
    return 0;
}

static void layer_check_fault(const layer_model *m, ssm_rng *rng, size_t fault, layer_verb verb, size_t misalign,
                              int copied)
{
    const size_t failures = test_failures;
    layer_fixture f = {0};
    layer_fixture_open(&f, m, rng, verb, layer_verb_seqs(m, verb, copied), misalign);
    layer_fixture_keep(&f);
    if (!layer_fault_spares(&f, fault)) {
        layer_faults[fault].spoil(&f);
        CHECK_STATUS(layer_call(m->type, verb, &f.io), layer_faults[fault].status);
        CHECK(layer_fixture_untouched(&f));
    }
    layer_fixture_close(&f);
    if (test_failures > failures && failures <= 5)
        printf("    ... %s, verb %d\n", layer_faults[fault].name, (int)verb);
}

static void layer_law_errors(layer_model *m, ssm_rng *rng)
{
    size_t fault, v, i;
    for (fault = 0; fault < TEST_COUNT(layer_faults); ++fault)
        for (v = 0; v < TEST_COUNT(layer_verbs); ++v)
            for (i = 0; i < 3 && layer_has(m, layer_verbs[v]) && (layer_faults[fault].verbs & (int)layer_verbs[v]); ++i)
                layer_check_fault(m, rng, fault, layer_verbs[v], i == 2 ? 3 : i, i == 1);
}

/* Nothing to do is no error, even without anything to do it with. */
static void layer_law_empty(layer_model *m, ssm_rng *rng)
{
    static const size_t no_rows[] = {4, 4, 4};
    ssm_seqs seqs[3];
    ssm_sizes need;
    size_t i, v;
    (void)rng;
    seqs[0] = test_seqs(0, 10);
    seqs[1] = test_seqs(10, 0);
    seqs[2] = test_seqs(2, 6);
    seqs[2].start = no_rows;
    for (i = 0; i < 3; ++i) {
        CHECK_OK(m->type->sizes(m->config, &seqs[i], &need));
        CHECK(need.tape == 0);
        for (v = 0; v < TEST_COUNT(layer_verbs); ++v) {
            layer_io io = {0};
            if (layer_verbs[v] == LAYER_STEP) continue;
            io.layer = &m->layer;
            io.seqs = &seqs[i];
            CHECK_OK(layer_call(m->type, layer_verbs[v], &io));
        }
    }
}

/* The tape's size overflows before that of the rows does, where it is larger. */
static void layer_law_overflow(layer_model *m, ssm_rng *rng)
{
    const size_t row = m->d_model * sizeof(ssm_real);
    const ssm_seqs seqs = test_seqs(1, (size_t)-1 / row), some = test_seqs(1, 6400);
    ssm_sizes need, before;
    (void)rng;
    CHECK_OK(m->type->sizes(m->config, &some, &need));
    if (need.tape <= 6400 * row) return;
    memset(&need, 0x5a, sizeof need);
    before = need;
    CHECK_STATUS(m->type->sizes(m->config, &seqs, &need), SSM_ERR_OVERFLOW);
    CHECK(memcmp(&need, &before, sizeof need) == 0);
}

/* Only the tape grows with the length, unless the scan sees whole sequences. */
static void layer_law_length(layer_model *m, ssm_rng *rng)
{
    static const size_t starts[] = {0, 50000, 100000};
    ssm_seqs packed = test_seqs(2, 100000);
    const ssm_seqs brief = test_seqs(1, 100), lengthy = test_seqs(1, 100000);
    ssm_sizes a, b, c;
    (void)rng;
    packed.start = starts;
    CHECK_OK(m->type->sizes(m->config, &brief, &a));
    CHECK_OK(m->type->sizes(m->config, &lengthy, &b));
    CHECK_OK(m->type->sizes(m->config, &packed, &c));
    if (!m->whole && !m->both_ways)
        CHECK(a.work == b.work && a.work_backward == b.work_backward && a.work == c.work && a.tape < b.tape);
    CHECK(a.params == b.params && a.bound == b.bound && a.state == b.state && a.tape <= b.tape);
    CHECK(2 * a.state == c.state && a.params == m->table.count * sizeof(ssm_real));
}

static void layer_check_bind(const layer_model *m, void *layer, const void *config, const ssm_real *params,
                             ssm_memory mem, ssm_status status)
{
    layer_any before;
    if (layer) memcpy(&before, layer, sizeof before);
    CHECK_STATUS(m->type->bind(layer, config, params, mem), status);
    if (layer) CHECK(memcmp(&before, layer, sizeof before) == 0);
}

static void layer_law_bind(layer_model *m, ssm_rng *rng)
{
    const size_t bytes = m->need.bound;
    unsigned char *mem = (unsigned char *)test_alloc(bytes, 1), *before = (unsigned char *)test_alloc(bytes, 0);
    layer_any layer;
    (void)rng;
    memset(&layer, 0x5a, sizeof layer);
    memcpy(before, mem, bytes);
    layer_check_bind(m, &layer, m->config, m->params, ssm_memory_of(mem, bytes - 1), SSM_ERR_BOUND);
    layer_check_bind(m, &layer, m->config, m->params, ssm_memory_of(NULL, bytes), SSM_ERR_NULL);
    layer_check_bind(m, &layer, m->config, NULL, ssm_memory_of(mem, bytes), SSM_ERR_NULL);
    layer_check_bind(m, &layer, NULL, m->params, ssm_memory_of(mem, bytes), SSM_ERR_NULL);
    layer_check_bind(m, NULL, m->config, m->params, ssm_memory_of(mem, bytes), SSM_ERR_NULL);
    CHECK(memcmp(mem, before, bytes) == 0);
    CHECK_STATUS(m->type->init(m->config, NULL, 1), SSM_ERR_NULL);
    CHECK_STATUS(m->type->init(NULL, m->params, 1), SSM_ERR_NULL);
    CHECK_STATUS(m->type->resolve(NULL, &layer), SSM_ERR_NULL);
    CHECK_STATUS(m->type->resolve(m->config, NULL), SSM_ERR_NULL);
    test_free(mem, 1);
    test_free(before, 0);
}

#define LAYER_LAW(law)                                                           \
    static void test_##law(void)                                                 \
    {                                                                            \
        layer_each(law, layer_configs, TEST_COUNT(layer_configs));              \
    }

LAYER_LAW(layer_law_oracle)
LAYER_LAW(layer_law_batch)
LAYER_LAW(layer_law_record)
LAYER_LAW(layer_law_step)
LAYER_LAW(layer_law_split)
LAYER_LAW(layer_law_packed)
LAYER_LAW(layer_law_strides)
LAYER_LAW(layer_law_backwards)
LAYER_LAW(layer_law_in_place)
LAYER_LAW(layer_law_step_in_place)
LAYER_LAW(layer_law_no_state)
LAYER_LAW(layer_law_fork)
LAYER_LAW(layer_law_nan)
LAYER_LAW(layer_law_snapshot)
LAYER_LAW(layer_law_both_ways)
LAYER_LAW(layer_law_accumulate)
LAYER_LAW(layer_law_optional)
LAYER_LAW(layer_law_gradient_sum)
LAYER_LAW(layer_law_alignment)
LAYER_LAW(layer_law_errors)
LAYER_LAW(layer_law_empty)
LAYER_LAW(layer_law_overflow)
LAYER_LAW(layer_law_length)
LAYER_LAW(layer_law_bind)

static void test_layer_gradients(void)
{
    layer_each(layer_law_gradients, layer_gradient_configs, TEST_COUNT(layer_gradient_configs));
}

/*--- bad configurations ---*/

#define LAYER_HUGE ((size_t)-1 / 2)

static const struct {
    layer_config config;
    ssm_status status;
} layer_bad_configs[] = {
    {LAYER(selective, .d_model = 0), SSM_ERR_CONFIG},
    {LAYER(selective, .d_model = 3, .disc = (ssm_disc)7), SSM_ERR_CONFIG},
    {LAYER(selective, .d_model = 3, .disc = (ssm_disc)-1), SSM_ERR_CONFIG},
    {LAYER(selective, .d_model = 3, .scan = (ssm_scan)4), SSM_ERR_CONFIG},
    {LAYER(selective, .d_model = 3, .disc = SSM_DISC_TRAPEZOID, .complex_A = 1), SSM_ERR_UNSUPPORTED},
    {LAYER(selective, .d_model = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(selective, .d_model = 3, .d_state = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(s6, .d_model = 0), SSM_ERR_CONFIG},
    {LAYER(s6, .d_model = 5, .n_groups = 2), SSM_ERR_CONFIG},
    {LAYER(s6, .d_model = 4, .n_groups = 8), SSM_ERR_CONFIG},
    {LAYER(s6, .d_model = 4, .disc = (ssm_disc)7), SSM_ERR_CONFIG},
    {LAYER(s6, .d_model = 4, .scan = (ssm_scan)-1), SSM_ERR_CONFIG},
    {LAYER(s6, .d_model = 4, .dt_init = (ssm_dt_init)3), SSM_ERR_CONFIG},
    {LAYER(s6, .d_model = 4, .dt_min = -1), SSM_ERR_CONFIG},
    {LAYER(s6, .d_model = 4, .dt_min = 2, .dt_max = 1), SSM_ERR_CONFIG},
    {LAYER(s6, .d_model = 4, .dt_floor = -1), SSM_ERR_CONFIG},
    {LAYER(s6, .d_model = 4, .dt_scale = -1), SSM_ERR_CONFIG},
    {LAYER(s6, .d_model = 4, .disc = SSM_DISC_ZOH_TRAPEZOID, .complex_A = 1), SSM_ERR_UNSUPPORTED},
    {LAYER(s6, .d_model = 4, .d_state = (size_t)-1 / 4, .complex_A = 1), SSM_ERR_OVERFLOW},
    {LAYER(s6, .d_model = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(s6, .d_model = 4, .dt_rank = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(s6, .d_model = 4, .d_state = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(mamba, .d_model = 0), SSM_ERR_CONFIG},
    {LAYER(mamba, .d_model = 3, .n_groups = 4), SSM_ERR_CONFIG},
    {LAYER(mamba, .d_model = 4, .d_inner = 5, .n_groups = 2), SSM_ERR_CONFIG},
    {LAYER(mamba, .d_model = 4, .disc = (ssm_disc)-1), SSM_ERR_CONFIG},
    {LAYER(mamba, .d_model = 4, .scan = (ssm_scan)4), SSM_ERR_CONFIG},
    {LAYER(mamba, .d_model = 4, .dt_init = (ssm_dt_init)-1), SSM_ERR_CONFIG},
    {LAYER(mamba, .d_model = 4, .dt_max = -1), SSM_ERR_CONFIG},
    {LAYER(mamba, .d_model = 4, .norm_eps = -1), SSM_ERR_CONFIG},
    {LAYER(mamba, .d_model = 4, .norm_eps = (ssm_real)NAN), SSM_ERR_CONFIG},
    {LAYER(mamba, .d_model = 4, .disc = SSM_DISC_TRAPEZOID, .complex_A = 1), SSM_ERR_UNSUPPORTED},
    {LAYER(mamba, .d_model = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(mamba, .d_model = 4, .expand = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(mamba, .d_model = 4, .d_inner = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(mamba, .d_model = 4, .d_conv = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(mamba, .d_model = 4, .d_state = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(mamba2, .d_model = 0), SSM_ERR_CONFIG},
    {LAYER(mamba2, .d_model = 20), SSM_ERR_CONFIG}, /* 40 channels are no heads of 64 */
    {LAYER(mamba2, .d_model = 32, .n_groups = 2), SSM_ERR_CONFIG},
    {LAYER(mamba2, .d_model = 32, .scan = (ssm_scan)4), SSM_ERR_CONFIG},
    {LAYER(mamba2, .d_model = 32, .format = (ssm_format)9), SSM_ERR_CONFIG},
    {LAYER(mamba2, .d_model = 32, .dt_limit_min = 1, .dt_limit_max = (ssm_real)0.5), SSM_ERR_CONFIG},
    {LAYER(mamba2, .d_model = 32, .dt_limit_min = -1), SSM_ERR_CONFIG},
    {LAYER(mamba2, .d_model = 32, .A_min = 20), SSM_ERR_CONFIG},
    {LAYER(mamba2, .d_model = 32, .dt_max = -1), SSM_ERR_CONFIG},
    {LAYER(mamba2, .d_model = 32, .norm_eps = (ssm_real)NAN), SSM_ERR_CONFIG},
    {LAYER(mamba2, .d_model = LAYER_HUGE, .headdim = 1), SSM_ERR_OVERFLOW},
    {LAYER(mamba2, .d_model = 32, .expand = LAYER_HUGE, .headdim = 1), SSM_ERR_OVERFLOW},
    {LAYER(mamba2, .d_model = 32, .d_conv = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(mamba2, .d_model = 32, .d_state = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(mamba3, .d_model = 0), SSM_ERR_CONFIG},
    {LAYER(mamba3, .d_model = 20), SSM_ERR_CONFIG}, /* 40 channels are no heads of 64 */
    {LAYER(mamba3, .d_model = 32, .n_groups = 2), SSM_ERR_CONFIG},
    {LAYER(mamba3, .d_model = 32, .format = (ssm_format)9), SSM_ERR_CONFIG},
    {LAYER(mamba3, .d_model = 32, .rope_fraction = (ssm_real)0.75), SSM_ERR_CONFIG},
    {LAYER(mamba3, .d_model = 32, .rope_fraction = 2), SSM_ERR_CONFIG},
    {LAYER(mamba3, .d_model = 32, .rope_fraction = (ssm_real)NAN), SSM_ERR_CONFIG},
    {LAYER(mamba3, .d_model = 32, .d_state = 3), SSM_ERR_CONFIG}, /* no angle */
    {LAYER(mamba3, .d_model = 32, .d_state = 1, .rope_fraction = 1), SSM_ERR_CONFIG},
    {LAYER(mamba3, .d_model = 32, .d_state = 5, .mimo_rank = 2), SSM_ERR_CONFIG}, /* no halves */
    {LAYER(mamba3, .d_model = 32, .dt_min = 1, .dt_max = (ssm_real)0.5), SSM_ERR_CONFIG},
    {LAYER(mamba3, .d_model = 32, .dt_floor = -1), SSM_ERR_CONFIG},
    {LAYER(mamba3, .d_model = 32, .A_floor = -1), SSM_ERR_CONFIG},
    {LAYER(mamba3, .d_model = 32, .norm_eps = (ssm_real)NAN), SSM_ERR_CONFIG},
    {LAYER(mamba3, .d_model = LAYER_HUGE, .headdim = 1), SSM_ERR_OVERFLOW},
    {LAYER(mamba3, .d_model = 32, .expand = LAYER_HUGE, .headdim = 1), SSM_ERR_OVERFLOW},
    {LAYER(mamba3, .d_model = 32, .d_state = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(mamba3, .d_model = 32, .mimo_rank = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(rglru, .d_model = 0), SSM_ERR_CONFIG},
    {LAYER(rglru, .d_model = 4, .num_heads = 3), SSM_ERR_CONFIG},
    {LAYER(rglru, .d_model = 4, .lru_width = 6, .num_heads = 4), SSM_ERR_CONFIG},
    {LAYER(rglru, .d_model = 4, .format = (ssm_format)9), SSM_ERR_CONFIG},
    {LAYER(rglru, .d_model = 4, .c = -1), SSM_ERR_CONFIG},
    {LAYER(rglru, .d_model = 4, .c = (ssm_real)NAN), SSM_ERR_CONFIG},
    {LAYER(rglru, .d_model = 4, .a_max = 1), SSM_ERR_CONFIG},
    {LAYER(rglru, .d_model = 4, .a_min = -1), SSM_ERR_CONFIG},
    {LAYER(rglru, .d_model = 4, .a_min = (ssm_real)0.5, .a_max = (ssm_real)0.25), SSM_ERR_CONFIG},
    {LAYER(rglru, .d_model = 4, .no_block = 1, .lru_width = 8), SSM_ERR_CONFIG},
    {LAYER(rglru, .d_model = 4, .no_block = 1, .conv_width = 4), SSM_ERR_CONFIG},
    {LAYER(rglru, .d_model = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(rglru, .d_model = LAYER_HUGE, .num_heads = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(rglru, .d_model = 4, .lru_width = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(rglru, .d_model = 4, .conv_width = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(rglru, .d_model = LAYER_HUGE, .no_block = 1, .num_heads = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(s4d, .d_model = 0), SSM_ERR_CONFIG},
    {LAYER(s4d, .d_model = 4, .d_state = 3), SSM_ERR_CONFIG},
    {LAYER(s4d, .d_model = 4, .n_ssm = 3), SSM_ERR_CONFIG},
    {LAYER(s4d, .d_model = 4, .disc = SSM_DISC_TRAPEZOID), SSM_ERR_CONFIG},
    {LAYER(s4d, .d_model = 4, .disc = SSM_DISC_ZOH_TRAPEZOID), SSM_ERR_CONFIG},
    {LAYER(s4d, .d_model = 4, .dt_min = 1), SSM_ERR_CONFIG},
    {LAYER(s4d, .d_model = 4, .real_state = 1, .init = SSM_S4_INIT_LEGS), SSM_ERR_CONFIG},
    {LAYER(s4d, .d_model = 4, .real_state = 1, .init = SSM_S4_INIT_INV2), SSM_ERR_CONFIG},
    {LAYER(s4d, .d_model = 4, .init = (ssm_s4_A_init)7), SSM_ERR_CONFIG},
    {LAYER(s4d, .d_model = 4, .form = (ssm_s4_form)7), SSM_ERR_CONFIG},
    {LAYER(s4d, .d_model = 4, .activation = (ssm_s4_activation)-1), SSM_ERR_CONFIG},
    {LAYER(s4d, .d_model = 4, .output = (ssm_s4_output)2), SSM_ERR_CONFIG},
    {LAYER(s4d, .d_model = 4, .norm_eps = -1), SSM_ERR_CONFIG},
    {LAYER(s4d, .d_model = 4, .weights = (ssm_s4_weights)4), SSM_ERR_CONFIG},
    {LAYER(s4d, .d_model = 4, .scan = (ssm_scan)4), SSM_ERR_CONFIG},
    {LAYER(s4d, .d_model = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(s4d, .d_model = 4, .d_state = LAYER_HUGE - 1), SSM_ERR_OVERFLOW},
    {LAYER(s4, .d_model = 0), SSM_ERR_CONFIG},
    {LAYER(s4, .d_model = 4, .d_state = 5), SSM_ERR_CONFIG},
    {LAYER(s4, .d_model = 4, .n_ssm = 3), SSM_ERR_CONFIG},
    {LAYER(s4, .d_model = 4, .scan = (ssm_scan)-1), SSM_ERR_CONFIG},
    {LAYER(s4, .d_model = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(s5, .d_model = 0), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .d_state = 5), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .d_state = 6, .blocks = 2), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .d_state = 6, .blocks = (size_t)-1), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .disc = SSM_DISC_TRAPEZOID), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .disc = SSM_DISC_ZOH_TRAPEZOID), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .disc = (ssm_disc)-1), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .scan = (ssm_scan)77), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .activation = (ssm_s5_activation)5), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .dt_min = 1), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .dt_min = -1), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .step_rescale = -1), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .norm_eps = (ssm_real)NAN), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .lru = 1, .real_state = 1), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .lru = 1, .disc = SSM_DISC_ZOH), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .lru = 1, .r_min = (ssm_real)0.5, .r_max = (ssm_real)0.4), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .lru = 1, .r_min = -1), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .lru = 1, .r_max = 2), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .lru = 1, .r_min = (ssm_real)NAN), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = 3, .lru = 1, .max_phase = -1), SSM_ERR_CONFIG},
    {LAYER(s5, .d_model = LAYER_HUGE, .lru = 1), SSM_ERR_OVERFLOW},
    {LAYER(s5, .d_model = LAYER_HUGE), SSM_ERR_OVERFLOW},
    {LAYER(s5, .d_model = 3, .d_state = LAYER_HUGE - 1), SSM_ERR_OVERFLOW},
};

/* Every verb that takes a config refuses it and writes nothing. */
static void layer_check_bad_config(const layer_config *c, ssm_status status)
{
    const ssm_seqs seqs = test_seqs(2, 3);
    struct {
        ssm_param rows[SSM_PARAMS_MAX];
        ssm_params table;
        ssm_sizes need;
        layer_any_config resolved;
        layer_any layer;
        ssm_real params[64];
        unsigned char mem[64];
    } out, before;
    memset(&out, 0x5a, sizeof out);
    out.table.row = NULL;
    out.table.capacity = SSM_PARAMS_MAX;
    out.table.rows = out.table.count = 0;
    memcpy(&before, &out, sizeof out);
    if (status == SSM_ERR_CONFIG) CHECK_STATUS(c->type->resolve(c->config, &out.resolved), status);
    CHECK_STATUS(c->type->sizes(c->config, &seqs, &out.need), status);
    CHECK_STATUS(c->type->init(c->config, out.params, 1), status);
    CHECK_STATUS(c->type->bind(&out.layer, c->config, out.params, ssm_memory_of(out.mem, sizeof out.mem)), status);
    CHECK(memcmp(&before, &out, sizeof out) == 0);
    out.table.row = out.rows;
    CHECK_STATUS(c->type->params(c->config, "", &out.table), status);
    CHECK(out.table.rows == 0 && out.table.count == 0);
}

static void test_layer_configs(void)
{
    size_t i;
    for (i = 0; i < TEST_COUNT(layer_bad_configs); ++i) {
        const size_t failures = test_failures;
        layer_check_bad_config(&layer_bad_configs[i].config, layer_bad_configs[i].status);
        if (test_failures > failures && failures <= 5)
            printf("    ... with %s\n", layer_bad_configs[i].config.text);
    }
}

static void test_layer_defaults(void)
{
    ssm_selective_config selective = {0};
    ssm_s6_config s6 = {0};
    ssm_mamba_config mamba = {0};
    ssm_mamba2_config mamba2 = {0};
    ssm_mamba3_config mamba3 = {0};
    ssm_rglru_config rglru = {0}, unit = {0};
    selective.d_model = s6.d_model = 17;
    mamba.d_model = 33;
    CHECK_OK(ssm_selective_config_resolve(&selective, &selective));
    CHECK(selective.d_state == 16 && selective.disc == SSM_DISC_ZOH);
    CHECK_OK(ssm_s6_config_resolve(&s6, &s6));
    CHECK(s6.d_state == 16 && s6.dt_rank == 2 && s6.n_groups == 1 && s6.disc == SSM_DISC_EULER);
    CHECK(s6.dt_min == (ssm_real)0.001 && s6.dt_max == (ssm_real)0.1 && s6.dt_floor == (ssm_real)1e-4);
    CHECK_OK(ssm_mamba_config_resolve(&mamba, &mamba));
    CHECK(mamba.d_state == 16 && mamba.d_conv == 4 && mamba.expand == 2 && mamba.d_inner == 66 && mamba.dt_rank == 3);
    CHECK(mamba.disc == SSM_DISC_EULER && mamba.n_groups == 1 && mamba.norm_eps == (ssm_real)1e-5);
    CHECK(mamba.dt_min == (ssm_real)0.001 && mamba.dt_max == (ssm_real)0.1 && mamba.dt_floor == (ssm_real)1e-4);
    mamba2.d_model = 64;
    CHECK_OK(ssm_mamba2_config_resolve(&mamba2, &mamba2));
    CHECK(mamba2.d_state == 128 && mamba2.d_conv == 4 && mamba2.d_inner == 128 && mamba2.headdim == 64);
    CHECK(mamba2.n_groups == 1 && mamba2.A_min == 1 && mamba2.A_max == 16 && mamba2.norm_eps == (ssm_real)1e-5);
    mamba3.d_model = 64;
    CHECK_OK(ssm_mamba3_config_resolve(&mamba3, &mamba3));
    CHECK(mamba3.d_state == 128 && mamba3.d_inner == 128 && mamba3.headdim == 64 && mamba3.n_groups == 1);
    CHECK(mamba3.mimo_rank == 0 && mamba3.rope_fraction == (ssm_real)0.5 && mamba3.A_floor == (ssm_real)1e-4);
    CHECK(mamba3.dt_min == (ssm_real)0.001 && mamba3.dt_max == (ssm_real)0.1 && mamba3.dt_floor == (ssm_real)1e-4);
    CHECK(mamba3.norm_eps == (ssm_real)1e-5);
    rglru.d_model = unit.d_model = 12;
    unit.no_block = 1;
    CHECK_OK(ssm_rglru_config_resolve(&rglru, &rglru));
    CHECK(rglru.lru_width == 12 && rglru.num_heads == 1 && rglru.conv_width == 4 && rglru.c == 8);
    CHECK(rglru.a_min == (ssm_real)0.9 && rglru.a_max == (ssm_real)0.999);
    CHECK_OK(ssm_rglru_config_resolve(&unit, &unit));
    CHECK(unit.lru_width == 12 && unit.conv_width == 1);
    CHECK(mamba2.dt_min == (ssm_real)0.001 && mamba2.dt_max == (ssm_real)0.1 && mamba2.dt_floor == (ssm_real)1e-4);
}

/*--- parameter tables ---*/

typedef struct layer_expected_row {
    const char *name;
    size_t rank;
    size_t shape[3];
    int no_decay;
} layer_expected_row;

/* Rows of `names` in order, of one layer, appended to a table that holds `rows` and `count` already. */
static void layer_check_table(const layer_config *c, const layer_expected_row *want, size_t rows)
{
    const ssm_seqs one = test_seqs(1, 1);
    ssm_param row[2 * SSM_PARAMS_MAX];
    ssm_params table = {0};
    ssm_sizes need;
    size_t r, offset = 5; /* as if five reals came before */
    table.row = row;
    table.capacity = rows;
    table.count = offset;
    CHECK_OK(c->type->params(c->config, "block.", &table));
    CHECK(table.rows == rows && table.capacity == rows);
    for (r = 0; r < rows && r < table.rows; ++r) {
        const layer_expected_row *w = &want[r];
        char full[64];
        snprintf(full, sizeof full, "block.%s", w->name);
        CHECK(strcmp(row[r].name, w->name) == 0 && strcmp(row[r].prefix, "block.") == 0);
        CHECK(row[r].rank == w->rank && memcmp(row[r].shape, w->shape, sizeof w->shape) == 0);
        CHECK(row[r].no_decay == w->no_decay);
        CHECK(row[r].count == w->shape[0] * w->shape[1] * w->shape[2] && row[r].offset == offset);
        CHECK(ssm_params_find(&table, full) == &row[r] && ssm_params_find(&table, w->name)->count == 0);
        offset += row[r].count;
    }
    CHECK_OK(c->type->sizes(c->config, &one, &need));
    CHECK(table.count == offset && need.params == (offset - 5) * sizeof(ssm_real));
}

static const layer_config layer_table_selective = LAYER(selective, .d_model = 5, .d_state = 3);
static const layer_config layer_table_s6 = LAYER(s6, .d_model = 6, .d_state = 3, .n_groups = 2, .dt_rank = 2);
static const layer_config layer_table_selective_complex = LAYER(selective, .d_model = 5, .d_state = 3, .complex_A = 1);
static const layer_config layer_table_mamba = LAYER(mamba, .d_model = 5, .d_state = 3);
static const layer_config layer_table_mamba_complex =
    LAYER(mamba, .d_model = 5, .d_state = 3, .d_conv = 1, .dbc_norm = SSM_DBC_NORM_WEIGHTED, .complex_A = 1);
static const layer_config layer_table_mamba_full =
    LAYER(mamba, .d_model = 5, .d_inner = 6, .d_state = 3, .d_conv = 3, .n_groups = 3, .dt_rank = 2, .pre_norm = 1,
          .proj_bias = 1);
static const layer_config layer_table_mamba_bare =
    LAYER(mamba, .d_model = 5, .d_state = 3, .d_conv = 1, .no_dt_bias = 1);
static const layer_config layer_table_mamba2 = LAYER(mamba2, .d_model = 4, .d_state = 3, .headdim = 2);
static const layer_config layer_table_mamba2_full =
    LAYER(mamba2, .d_model = 4, .d_inner = 6, .d_state = 3, .headdim = 3, .n_groups = 2, .d_conv = 2, .pre_norm = 1,
          .proj_bias = 1, .D_has_hdim = 1);
static const layer_config layer_table_rglru = LAYER(rglru, .d_model = 4, .lru_width = 6, .num_heads = 2, .conv_width = 3);
static const layer_config layer_table_rglru_bare = LAYER(rglru, .d_model = 6, .num_heads = 3, .no_block = 1);
static const layer_config layer_table_mamba3 = LAYER(mamba3, .d_model = 4, .d_state = 5, .headdim = 2);
static const layer_config layer_table_mamba3_full =
    LAYER(mamba3, .d_model = 4, .d_inner = 6, .d_state = 6, .headdim = 3, .n_groups = 2, .mimo_rank = 2,
          .rope_fraction = 1, .pre_norm = 1, .out_norm = 1);

static void test_layer_tables(void)
{
    static const layer_expected_row selective[] = {
        {"w_delta", 1, {5, 1, 1}, 0}, {"w_b", 2, {3, 5, 1}, 0},  {"w_c", 2, {3, 5, 1}, 0},
        {"b_delta", 1, {1, 1, 1}, 1}, {"log_a", 1, {3, 1, 1}, 1}, {"d_skip", 1, {5, 1, 1}, 1},
    };
    static const layer_expected_row selective_complex[] = {
        {"w_delta", 1, {5, 1, 1}, 0}, {"w_b", 2, {6, 5, 1}, 0},   {"w_c", 2, {6, 5, 1}, 0},   {"b_delta", 1, {1, 1, 1}, 1},
        {"log_a", 1, {3, 1, 1}, 1},   {"a_imag", 1, {3, 1, 1}, 1}, {"d_skip", 1, {5, 1, 1}, 1},
    };
    static const layer_expected_row mamba_complex[] = {
        {"in_proj.weight", 2, {20, 5, 1}, 0},  {"x_proj.weight", 2, {13, 10, 1}, 0},  {"dt_proj.weight", 2, {10, 1, 1}, 0},
        {"dt_proj.bias", 1, {10, 1, 1}, 1},    {"A_log", 2, {10, 3, 1}, 1},           {"A_imag", 2, {10, 3, 1}, 1},
        {"D", 1, {10, 1, 1}, 1},               {"dt_layernorm.weight", 1, {1, 1, 1}, 1},
        {"b_layernorm.weight", 1, {6, 1, 1}, 1}, {"c_layernorm.weight", 1, {6, 1, 1}, 1},
        {"out_proj.weight", 2, {5, 10, 1}, 0},
    };
    static const layer_expected_row s6[] = {
        {"x_proj.weight", 2, {14, 6, 1}, 0}, {"dt_proj.weight", 2, {6, 2, 1}, 0}, {"dt_proj.bias", 1, {6, 1, 1}, 1},
        {"A_log", 2, {6, 3, 1}, 1},          {"D", 1, {6, 1, 1}, 1},
    };
    static const layer_expected_row mamba[] = {
        {"in_proj.weight", 2, {20, 5, 1}, 0}, {"conv1d.weight", 3, {10, 1, 4}, 0}, {"conv1d.bias", 1, {10, 1, 1}, 1},
        {"x_proj.weight", 2, {7, 10, 1}, 0},  {"dt_proj.weight", 2, {10, 1, 1}, 0}, {"dt_proj.bias", 1, {10, 1, 1}, 1},
        {"A_log", 2, {10, 3, 1}, 1}, {"D", 1, {10, 1, 1}, 1}, {"out_proj.weight", 2, {5, 10, 1}, 0},
    };
    static const layer_expected_row mamba_full[] = {
        {"norm.weight", 1, {5, 1, 1}, 1},     {"in_proj.weight", 2, {12, 5, 1}, 0}, {"in_proj.bias", 1, {12, 1, 1}, 1},
        {"conv1d.weight", 3, {6, 1, 3}, 0},   {"conv1d.bias", 1, {6, 1, 1}, 1},     {"x_proj.weight", 2, {20, 6, 1}, 0},
        {"dt_proj.weight", 2, {6, 2, 1}, 0},  {"dt_proj.bias", 1, {6, 1, 1}, 1},    {"A_log", 2, {6, 3, 1}, 1},
        {"D", 1, {6, 1, 1}, 1},               {"out_proj.weight", 2, {5, 6, 1}, 0}, {"out_proj.bias", 1, {5, 1, 1}, 1},
    };
    static const layer_expected_row mamba_bare[] = {
        {"in_proj.weight", 2, {20, 5, 1}, 0}, {"x_proj.weight", 2, {7, 10, 1}, 0}, {"dt_proj.weight", 2, {10, 1, 1}, 0},
        {"A_log", 2, {10, 3, 1}, 1}, {"D", 1, {10, 1, 1}, 1}, {"out_proj.weight", 2, {5, 10, 1}, 0},
    };
    static const layer_expected_row mamba2[] = {
        {"in_proj.weight", 2, {26, 4, 1}, 0}, {"conv1d.weight", 3, {14, 1, 4}, 0}, {"conv1d.bias", 1, {14, 1, 1}, 1},
        {"dt_bias", 1, {4, 1, 1}, 1},         {"A_log", 1, {4, 1, 1}, 1},          {"D", 1, {4, 1, 1}, 1},
        {"norm.weight", 1, {8, 1, 1}, 1},     {"out_proj.weight", 2, {4, 8, 1}, 0},
    };
    static const layer_expected_row mamba2_full[] = {
        {"pre_norm.weight", 1, {4, 1, 1}, 1}, {"in_proj.weight", 2, {26, 4, 1}, 0}, {"in_proj.bias", 1, {26, 1, 1}, 1},
        {"conv1d.weight", 3, {18, 1, 2}, 0},  {"conv1d.bias", 1, {18, 1, 1}, 1},    {"dt_bias", 1, {2, 1, 1}, 1},
        {"A_log", 1, {2, 1, 1}, 1},           {"D", 1, {6, 1, 1}, 1},               {"norm.weight", 1, {6, 1, 1}, 1},
        {"out_proj.weight", 2, {4, 6, 1}, 0}, {"out_proj.bias", 1, {4, 1, 1}, 1},
    };
    static const layer_expected_row mamba3[] = {
        {"in_proj.weight", 2, {39, 4, 1}, 0}, {"dt_bias", 1, {4, 1, 1}, 1},       {"B_bias", 3, {4, 1, 5}, 0},
        {"C_bias", 3, {4, 1, 5}, 0},          {"B_norm.weight", 1, {5, 1, 1}, 1}, {"C_norm.weight", 1, {5, 1, 1}, 1},
        {"D", 1, {4, 1, 1}, 1},               {"out_proj.weight", 2, {4, 8, 1}, 0},
    };
    static const layer_expected_row mamba3_full[] = {
        {"pre_norm.weight", 1, {4, 1, 1}, 1}, {"in_proj.weight", 2, {69, 4, 1}, 0}, {"dt_bias", 1, {2, 1, 1}, 1},
        {"B_bias", 3, {2, 2, 6}, 0},          {"C_bias", 3, {2, 2, 6}, 0},          {"B_norm.weight", 1, {6, 1, 1}, 1},
        {"C_norm.weight", 1, {6, 1, 1}, 1},   {"mimo_x", 3, {2, 2, 3}, 0},          {"mimo_z", 3, {2, 2, 3}, 0},
        {"mimo_o", 3, {2, 2, 3}, 0},          {"D", 1, {2, 1, 1}, 1},               {"norm.weight", 1, {6, 1, 1}, 1},
        {"out_proj.weight", 2, {4, 6, 1}, 0},
    };
    static const layer_expected_row rglru[] = {
        {"linear_y.weight", 2, {6, 4, 1}, 0},
        {"linear_y.bias", 1, {6, 1, 1}, 1},
        {"linear_x.weight", 2, {6, 4, 1}, 0},
        {"linear_x.bias", 1, {6, 1, 1}, 1},
        {"linear_out.weight", 2, {4, 6, 1}, 0},
        {"linear_out.bias", 1, {4, 1, 1}, 1},
        {"conv_1d.weight", 3, {6, 1, 3}, 0},
        {"conv_1d.bias", 1, {6, 1, 1}, 1},
        {"rg_lru.recurrent_param", 1, {6, 1, 1}, 1},
        {"rg_lru.input_gate_weight", 3, {2, 3, 3}, 0},
        {"rg_lru.input_gate_bias", 2, {2, 3, 1}, 1},
        {"rg_lru.recurrent_gate_weight", 3, {2, 3, 3}, 0},
        {"rg_lru.recurrent_gate_bias", 2, {2, 3, 1}, 1},
    };
    static const layer_expected_row rglru_bare[] = {
        {"recurrent_param", 1, {6, 1, 1}, 1},          {"input_gate_weight", 3, {3, 2, 2}, 0},
        {"input_gate_bias", 2, {3, 2, 1}, 1},          {"recurrent_gate_weight", 3, {3, 2, 2}, 0},
        {"recurrent_gate_bias", 2, {3, 2, 1}, 1},
    };
    layer_check_table(&layer_table_rglru, rglru, TEST_COUNT(rglru));
    layer_check_table(&layer_table_rglru_bare, rglru_bare, TEST_COUNT(rglru_bare));
    layer_check_table(&layer_table_mamba3, mamba3, TEST_COUNT(mamba3));
    layer_check_table(&layer_table_mamba3_full, mamba3_full, TEST_COUNT(mamba3_full));
    layer_check_table(&layer_table_mamba2, mamba2, TEST_COUNT(mamba2));
    layer_check_table(&layer_table_mamba2_full, mamba2_full, TEST_COUNT(mamba2_full));
    layer_check_table(&layer_table_selective, selective, TEST_COUNT(selective));
    layer_check_table(&layer_table_selective_complex, selective_complex, TEST_COUNT(selective_complex));
    layer_check_table(&layer_table_mamba_complex, mamba_complex, TEST_COUNT(mamba_complex));
    layer_check_table(&layer_table_s6, s6, TEST_COUNT(s6));
    layer_check_table(&layer_table_mamba, mamba, TEST_COUNT(mamba));
    layer_check_table(&layer_table_mamba_full, mamba_full, TEST_COUNT(mamba_full));
    layer_check_table(&layer_table_mamba_bare, mamba_bare, TEST_COUNT(mamba_bare));
}

/* A capacity too small by any number of rows leaves the table as it was. */
static void layer_law_capacity(layer_model *m, ssm_rng *rng)
{
    ssm_param row[1 + SSM_PARAMS_MAX];
    ssm_params table = {0}, before;
    (void)rng;
    table.row = row;
    table.rows = 1;
    table.count = 7;
    memset(row, 0, sizeof row);
    row[0].prefix = "mine.";
    for (table.capacity = 1; table.capacity < 1 + m->table.rows; ++table.capacity) {
        before = table;
        CHECK_STATUS(m->type->params(m->config, "other.", &table), SSM_ERR_TABLE);
        CHECK(memcmp(&table, &before, sizeof table) == 0 && strcmp(row[0].prefix, "mine.") == 0);
    }
    CHECK_OK(m->type->params(m->config, "other.", &table));
    CHECK(table.rows == 1 + m->table.rows && table.count == 7 + m->table.count);
    CHECK_STATUS(m->type->params(m->config, "other.", NULL), SSM_ERR_NULL);
    CHECK_STATUS(m->type->params(NULL, "other.", &table), SSM_ERR_NULL);
}
LAYER_LAW(layer_law_capacity)

/* Several layers in one table and one flat array, each with its own slice and its own names. */
static void test_layer_append(void)
{
    const layer_config *model[] = {&layer_table_mamba, &layer_table_s6, &layer_table_mamba};
    const char *prefix[] = {"layers.0.", "layers.1.", "layers.2."};
    ssm_param row[3 * SSM_PARAMS_MAX];
    ssm_params table = {0};
    ssm_real *params;
    size_t i, end = 0;
    table.row = row;
    table.capacity = 3 * SSM_PARAMS_MAX;
    for (i = 0; i < 3; ++i) CHECK_OK(model[i]->type->params(model[i]->config, prefix[i], &table));
    for (i = 0; i < table.rows; ++i) {
        CHECK(row[i].offset == end);
        end += row[i].count;
    }
    CHECK(end == table.count);
    CHECK(ssm_params_find(&table, "layers.1.A_log")->shape[0] == 6);
    CHECK(ssm_params_find(&table, "layers.0.A_log")->offset < ssm_params_find(&table, "layers.2.A_log")->offset);
    CHECK(ssm_params_find(&table, "layers.1.conv1d.weight")->count == 0);
    CHECK(ssm_params_find(&table, "layers.0.")->count == 0 && ssm_params_find(&table, "")->count == 0);
    CHECK(ssm_params_find(&table, NULL)->count == 0 && ssm_params_find(NULL, "A_log")->count == 0);
    params = test_zeros(table.count);
    CHECK_OK(ssm_params_init(&table, params, 3));
    i = ssm_params_find(&table, "layers.2.in_proj.weight")->offset;
    CHECK(memcmp(params, params + i, 20 * 5 * sizeof *params) != 0); /* not the same weights twice */
    test_free(params, 0);
}

/*--- initialisation ---*/

/* Whether a row starts at the same numbers whatever the seed. */
static int layer_is_fixed(const layer_model *m, const ssm_param *row)
{
    static const char *const names[] = {"log_a", "d_skip", "norm.weight", "b_delta", "log_A_real", "A_real",
                                        "A_imag", "a_imag", "P", "Lambda_re", "Lambda_im"};
    size_t i;
    for (i = 0; i < TEST_COUNT(names); ++i)
        if (!strcmp(row->name, names[i])) return 1;
    if (!strcmp(row->name, "A_log")) return m->type != &layer_mamba2;
    if (!strcmp(row->name, "B"))
        return m->type == &layer_s4 || (m->type == &layer_s4d && m->resolved.s4d.weights != SSM_S4_WEIGHTS_ALL_NORMAL);
    if (!strcmp(row->name, "D")) return m->type != &layer_s5 && m->type != &layer_s4 && m->type != &layer_s4d;
    return row->init == SSM__INIT_CONSTANT;
}

/* The same for the same seed; another seed changes every random row. */
static void layer_law_seed(layer_model *m, ssm_rng *rng)
{
    const size_t count = m->table.count;
    const uint64_t seed = ssm_rng_next(rng);
    ssm_real *a = test_zeros(count), *b = test_zeros(count), *c = test_zeros(count);
    size_t r;
    CHECK_OK(m->type->init(m->config, a, seed));
    CHECK_OK(m->type->init(m->config, b, seed));
    CHECK_OK(m->type->init(m->config, c, seed + 1));
    CHECK_SAME(a, b, count);
    for (r = 0; r < m->table.rows; ++r) {
        const ssm_param *row = &m->table.row[r];
        const int same = memcmp(a + row->offset, c + row->offset, row->count * sizeof *a) == 0;
        CHECK(same == layer_is_fixed(m, row));
    }
    test_free(a, 0);
    test_free(b, 0);
    test_free(c, 0);
}
LAYER_LAW(layer_law_seed)

/* A freshly initialised layer, for statistics. */
static void layer_fresh(layer_model *m, const layer_config *config)
{
    ssm_rng rng;
    rng.state = test_seed;
    layer_open(m, config, &rng, 0);
    CHECK_OK(m->type->init(m->config, m->params, test_seed));
}

/* Values of a row, and how many; none if the layer has no such row. */
static const ssm_real *layer_values(const layer_model *m, const char *name, size_t *count)
{
    const ssm_param *row = ssm_params_find(&m->table, name);
    *count = row->count;
    return row->count ? m->params + row->offset : NULL;
}

/* Mean and variance of v within five standard errors (of the variance: as if v were normal). */
static void layer_check_moments(const double *v, size_t count, double mean, double variance)
{
    const double n = (double)count;
    double sum = 0, squares = 0;
    size_t i;
    for (i = 0; i < count; ++i) sum += v[i];
    for (i = 0; i < count; ++i) squares += (v[i] - mean) * (v[i] - mean);
    CHECK(fabs(sum / n - mean) < 5 * sqrt(variance / n));
    CHECK(fabs(squares / n - variance) < 5 * variance * sqrt(2 / n));
}

static void layer_check_uniform(const layer_model *m, const char *name, double bound)
{
    size_t count, i;
    const ssm_real *p = layer_values(m, name, &count);
    double *v, largest = 0;
    CHECK(count > 100);
    v = test_doubles(p, count);
    for (i = 0; i < count; ++i)
        if (fabs(v[i]) > largest) largest = fabs(v[i]);
    CHECK(largest <= bound * (1 + 1e-6) && largest > 0.9 * bound);
    layer_check_moments(v, count, 0, bound * bound / 3);
    test_free(v, 0);
}

static void layer_check_normal(const layer_model *m, const char *name, double deviation)
{
    size_t count;
    const ssm_real *p = layer_values(m, name, &count);
    double *v = test_doubles(p, count);
    layer_check_moments(v, count, 0, deviation * deviation);
    test_free(v, 0);
}

static void layer_check_constant(const layer_model *m, const char *name, double value)
{
    size_t count, i;
    const ssm_real *p = layer_values(m, name, &count);
    CHECK(count > 0);
    for (i = 0; i < count; ++i) CHECK(p[i] == (ssm_real)value);
}

/* row[..][n] = ln(first + n step) */
static void layer_check_log_A(const layer_model *m, const char *name, size_t d_state, double first, double step)
{
    size_t count, i;
    const ssm_real *p = layer_values(m, name, &count);
    CHECK(count > 0);
    for (i = 0; i < count; ++i)
        CHECK(fabs((double)p[i] - log(first + (double)(i % d_state) * step)) < TOL(1e-6, 1e-14));
}

/* softplus(bias) log-uniform in [low, high] */
static void layer_check_dt(const layer_model *m, double low, double high)
{
    const double middle = (log(low) + log(high)) / 2, width = log(high / low);
    size_t count, i;
    const ssm_real *p = layer_values(m, "dt_proj.bias", &count);
    double *v = test_doubles(p, count);
    CHECK(count > 100);
    for (i = 0; i < count; ++i) {
        v[i] = log(test_softplus(v[i]));
        CHECK(v[i] > log(low) - 1e-5 && v[i] < log(high) + 1e-5);
    }
    layer_check_moments(v, count, middle, width * width / 12);
    test_free(v, 0);
}

static const layer_config layer_init_mamba =
    LAYER(mamba, .d_model = 48, .d_inner = 400, .pre_norm = 1, .proj_bias = 1, .dt_rank = 9);
static const layer_config layer_init_s6_complex = LAYER(s6, .d_model = 48, .d_state = 12, .complex_A = 1);
static const layer_config layer_init_selective_complex = LAYER(selective, .d_model = 48, .d_state = 12, .complex_A = 1);
static const layer_config layer_init_mamba2 = LAYER(mamba2, .d_model = 48, .d_inner = 512);
static const layer_config layer_init_dt =
    LAYER(s6, .d_model = 500, .dt_min = (ssm_real)0.015625, .dt_max = 2, .dt_scale = (ssm_real)0.5, .dt_rank = 4);
static const layer_config layer_init_floor =
    LAYER(s6, .d_model = 500, .dt_min = (ssm_real)0.001, .dt_floor = (ssm_real)0.01);
static const layer_config layer_init_inverse = LAYER(selective, .d_model = 200, .d_state = 10);
static const layer_config layer_init_integer = LAYER(selective, .d_model = 200, .d_state = 10, .integer_A = 1);

static void test_layer_init_mamba(void)
{
    layer_model m;
    layer_fresh(&m, &layer_init_mamba);
    layer_check_constant(&m, "norm.weight", 1);
    layer_check_uniform(&m, "in_proj.weight", 1 / sqrt(48));
    layer_check_uniform(&m, "in_proj.bias", 1 / sqrt(48));
    layer_check_uniform(&m, "conv1d.weight", 1 / sqrt(4));
    layer_check_uniform(&m, "conv1d.bias", 1 / sqrt(4));
    layer_check_uniform(&m, "x_proj.weight", 1 / sqrt(400));
    layer_check_uniform(&m, "dt_proj.weight", 1 / sqrt(9));
    layer_check_uniform(&m, "out_proj.weight", 1 / sqrt(400));
    layer_check_dt(&m, 0.001, 0.1);
    layer_check_log_A(&m, "A_log", 16, 1, 1);
    layer_check_constant(&m, "D", 1);
    layer_close(&m, 0);
}

/* S4D-Lin: -1/2 + i pi n. */
static void layer_check_lin(const layer_model *m, const char *real, const char *imag)
{
    size_t count, i;
    const ssm_real *p = layer_values(m, imag, &count);
    const double pi = acos(-1.0);
    layer_check_log_A(m, real, 1, 0.5, 0);
    CHECK(count > 0);
    for (i = 0; i < count; ++i)
        CHECK(fabs((double)p[i] - pi * (double)(i % 12)) < TOL(1e-5, 1e-14));
}

static void test_layer_init_complex(void)
{
    layer_model m;
    layer_fresh(&m, &layer_init_s6_complex);
    layer_check_lin(&m, "A_log", "A_imag");
    layer_check_uniform(&m, "x_proj.weight", 1 / sqrt(48));
    layer_close(&m, 0);
    layer_fresh(&m, &layer_init_selective_complex);
    layer_check_lin(&m, "log_a", "a_imag");
    layer_check_normal(&m, "w_b", 0.1);
    layer_close(&m, 0);
}

static void test_layer_init_mamba2(void)
{
    layer_model m;
    layer_fresh(&m, &layer_init_mamba2);
    layer_check_uniform(&m, "in_proj.weight", 1 / sqrt(48));
    layer_check_uniform(&m, "conv1d.weight", 1 / sqrt(4));
    layer_check_uniform(&m, "conv1d.bias", 1 / sqrt(4));
    layer_check_uniform(&m, "out_proj.weight", 1 / sqrt(512));
    layer_check_constant(&m, "norm.weight", 1);
    layer_check_constant(&m, "D", 1);
    layer_close(&m, 0);
}

static void test_layer_init_dt(void)
{
    layer_model m, floored;
    size_t count, i, at_floor = 0;
    const ssm_real *bias;
    layer_fresh(&m, &layer_init_dt);
    layer_fresh(&floored, &layer_init_floor);
    bias = layer_values(&floored, "dt_proj.bias", &count);
    layer_check_uniform(&m, "dt_proj.weight", 0.5 / sqrt(4));
    layer_check_dt(&m, 0.015625, 2);
    for (i = 0; i < count; ++i) {
        const double dt = test_softplus((double)bias[i]);
        CHECK(dt > 0.00999 && dt < 0.10001);
        at_floor += dt < 0.01001;
    }
    CHECK(at_floor > count / 3 && at_floor < count * 2 / 3); /* half of the interval lies below */
    layer_close(&m, 0);
    layer_close(&floored, 0);
}

static const layer_config layer_init_rglru =
    LAYER(rglru, .d_model = 16, .lru_width = 4000, .num_heads = 500, .a_min = (ssm_real)0.3, .a_max = (ssm_real)0.9);

/* The square of the radius is uniform between those of a_min and a_max; weights have variance 1 / inputs. */
static void test_layer_init_rglru(void)
{
    static const struct {
        const char *name;
        double variance;
    } rows[] = {{"linear_y.weight", 1.0 / 16},     {"linear_x.weight", 1.0 / 16},
                {"linear_out.weight", 1.0 / 4000}, {"conv_1d.weight", 0.01 / 4},
                {"rg_lru.input_gate_weight", 1.0 / 8}, {"rg_lru.recurrent_gate_weight", 1.0 / 8}};
    layer_model m;
    size_t count, i, r;
    double inside = 0, least = 1, most = 0;
    const ssm_real *p;
    layer_fresh(&m, &layer_init_rglru);
    p = layer_values(&m, "rg_lru.recurrent_param", &count);
    CHECK(count == 4000);
    for (i = 0; i < count; ++i) {
        const double square = exp(-2 * test_softplus((double)p[i]));
        inside += square / (double)count;
        least = fmin(least, square);
        most = fmax(most, square);
    }
    CHECK(least > 0.0899 && least < 0.1 && most > 0.8 && most < 0.8101 && fabs(inside - 0.45) < 0.02);
    for (r = 0; r < TEST_COUNT(rows); ++r) {
        double squares = 0;
        p = layer_values(&m, rows[r].name, &count);
        for (i = 0; i < count; ++i) squares += (double)p[i] * (double)p[i] / (double)count;
        CHECK(squares > 0.95 * rows[r].variance && squares < 1.05 * rows[r].variance);
    }
    layer_close(&m, 0);
}

static void test_layer_init_selective(void)
{
    layer_model m, integer;
    layer_fresh(&m, &layer_init_inverse);
    layer_fresh(&integer, &layer_init_integer);
    layer_check_normal(&m, "w_delta", 0.1);
    layer_check_normal(&m, "w_b", 0.1);
    layer_check_normal(&m, "w_c", 0.1);
    layer_check_constant(&m, "b_delta", 0);
    layer_check_constant(&m, "d_skip", 1);
    layer_check_log_A(&m, "log_a", 10, 0.5, 0.1);
    layer_check_log_A(&integer, "log_a", 10, 1, 1);
    layer_close(&m, 0);
    layer_close(&integer, 0);
}

/* Presets, with the numbers of peers.md (B1, B3, B5). */
static void layer_check_preset_s6(ssm_preset preset, ssm_s6_config want)
{
    ssm_s6_config c = {0};
    c.d_model = want.d_model;
    ssm_s6_preset(&c, preset);
    CHECK(c.disc == want.disc && c.dt_rank == want.dt_rank && c.dt_init == want.dt_init);
    CHECK(c.dt_bias == want.dt_bias && c.dt_scale == want.dt_scale && c.no_dt_bias == want.no_dt_bias);
    CHECK(c.d_model == want.d_model && c.d_state == 0 && c.n_groups == 0);
}

static void test_layer_presets(void)
{
    const ssm_s6_config paper = {.d_model = 40}, zeta = {.d_model = 40, .dt_init = SSM_DT_UNIFORM};
    const ssm_s6_config zerfoo = {.d_model = 40, .no_dt_bias = 1, .dt_scale = (ssm_real)0.01};
    const ssm_s6_config tracetorch = {
        .d_model = 40, .disc = SSM_DISC_ZOH, .dt_rank = 2, .dt_init = SSM_DT_CONSTANT, .dt_bias = -2};
    ssm_s6_config tiny = tracetorch;
    tiny.d_model = 15;
    tiny.dt_rank = 1;
    layer_check_preset_s6(SSM_PRESET_PAPER, paper);
    layer_check_preset_s6(SSM_PRESET_ZETA, zeta);
    layer_check_preset_s6(SSM_PRESET_ZERFOO, zerfoo);
    layer_check_preset_s6(SSM_PRESET_TRACETORCH, tracetorch);
    layer_check_preset_s6(SSM_PRESET_TRACETORCH, tiny);
}

static void layer_fresh_mamba(layer_model *m, ssm_mamba_config *config, ssm_preset preset)
{
    layer_config c = layer_init_mamba;
    config->d_model = 160;
    ssm_mamba_preset(config, preset);
    c.config = config;
    layer_fresh(m, &c);
}

static void test_layer_presets_mamba(void)
{
    ssm_mamba_config paper = {0}, tracetorch = {0}, zeta = {0}, zerfoo = {0}, forty = {0};
    layer_model m;
    layer_fresh_mamba(&m, &tracetorch, SSM_PRESET_TRACETORCH);
    CHECK(m.resolved.mamba.d_inner == 160 && m.resolved.mamba.residual && m.resolved.mamba.disc == SSM_DISC_ZOH);
    CHECK(m.resolved.mamba.dt_rank == 10);
    forty.d_model = 40;
    ssm_mamba_preset(&forty, SSM_PRESET_TRACETORCH);
    CHECK(forty.dt_rank == 2); /* rounded down, where the default is rounded up */
    layer_check_constant(&m, "conv1d.weight", 0.25);
    layer_check_constant(&m, "conv1d.bias", 0);
    layer_check_constant(&m, "dt_proj.bias", -2);
    layer_close(&m, 0);
    layer_fresh_mamba(&m, &zeta, SSM_PRESET_ZETA);
    layer_check_uniform(&m, "dt_proj.bias", 1 / sqrt(10));
    layer_close(&m, 0);
    layer_fresh_mamba(&m, &zerfoo, SSM_PRESET_ZERFOO);
    CHECK(ssm_params_find(&m.table, "dt_proj.bias")->count == 0);
    layer_check_uniform(&m, "dt_proj.weight", 0.01 / sqrt(10));
    layer_close(&m, 0);
    layer_fresh_mamba(&m, &paper, SSM_PRESET_PAPER);
    CHECK(paper.expand == 0 && paper.dt_rank == 0 && !paper.residual && !paper.mean_conv && !paper.no_dt_bias);
    layer_close(&m, 0);
}

/*--- selective: a channel made new ---*/

static void layer_check_channel(const ssm_selective_config *config, size_t channel, size_t streams)
{
    const size_t parts = config->complex_A ? 2 : 1;
    const size_t D = config->d_model, N = config->d_state, rows = 1 + 2 * parts * N;
    const size_t states = streams * D * N * parts * (config->disc == SSM_DISC_TRAPEZOID ? 2 : 1);
    const size_t count = rows * D + 1 + parts * N + D, d_skip = count - D;
    ssm_rng rng = {test_seed}, draws = {9};
    ssm_real *params = test_normal(&rng, count, 1), *before = test_copy(params, count);
    ssm_real *state = test_normal(&rng, states, 1), *state_before = test_copy(state, states);
    size_t i;
    CHECK_OK(ssm_selective_reinitialize_channel(config, params, state, streams, channel, 9));
    for (i = 0; i < count; ++i) {
        const int weight = i < rows * D && i % D == channel;
        if (weight) CHECK(fabs((double)params[i] - 0.1 * (double)ssm_rng_normal(&draws)) < 1e-7);
        else if (i == d_skip + channel) CHECK(params[i] == 1);
        else CHECK(params[i] == before[i]);
    }
    for (i = 0; i < states; ++i) CHECK(state[i] == (i / parts % D == channel ? 0 : state_before[i]));
    memcpy(before, params, count * sizeof *params);
    CHECK_OK(ssm_selective_reinitialize_channel(config, params, NULL, streams, channel, 9));
    CHECK_SAME(params, before, count); /* the same seed draws the same */
    CHECK_STATUS(ssm_selective_reinitialize_channel(config, params, state, streams, D, 10), SSM_ERR_CONFIG);
    CHECK_STATUS(ssm_selective_reinitialize_channel(config, NULL, state, streams, 0, 10), SSM_ERR_NULL);
    CHECK_STATUS(ssm_selective_reinitialize_channel(NULL, params, state, streams, 0, 10), SSM_ERR_NULL);
    CHECK_SAME(params, before, count);
    CHECK_OK(ssm_selective_reinitialize_channel(config, params, NULL, streams, channel, 10));
    CHECK(params[channel] != before[channel]);
    test_free(params, 0);
    test_free(before, 0);
    test_free(state, 0);
    test_free(state_before, 0);
}

static void test_layer_reinitialize(void)
{
    const ssm_selective_config plain = {.d_model = 5, .d_state = 3};
    const ssm_selective_config trapezoid = {.d_model = 4, .d_state = 2, .disc = SSM_DISC_TRAPEZOID};
    const ssm_selective_config pairs = {.d_model = 5, .d_state = 3, .complex_A = 1};
    layer_check_channel(&pairs, 3, 2);
    layer_check_channel(&plain, 0, 1);
    layer_check_channel(&plain, 4, 3);
    layer_check_channel(&trapezoid, 2, 2);
}

static const test_case layer_cases[] = {
    {"layers/oracle", test_layer_law_oracle},
    {"layers/batch", test_layer_law_batch},
    {"layers/record", test_layer_law_record},
    {"layers/step", test_layer_law_step},
    {"layers/split", test_layer_law_split},
    {"layers/packed", test_layer_law_packed},
    {"layers/strides", test_layer_law_strides},
    {"layers/backwards", test_layer_law_backwards},
    {"layers/in_place", test_layer_law_in_place},
    {"layers/step_in_place", test_layer_law_step_in_place},
    {"layers/no_state", test_layer_law_no_state},
    {"layers/fork", test_layer_law_fork},
    {"layers/nan", test_layer_law_nan},
    {"layers/snapshot", test_layer_law_snapshot},
    {"layers/both_ways", test_layer_law_both_ways},
    {"layers/parallel", test_layer_parallel},
    {"layers/step_shared", test_layer_step_shared},
    {"layers/step_norm", test_layer_step_norm},
    {"layers/gradients", test_layer_gradients},
    {"layers/gradients_added", test_layer_law_accumulate},
    {"layers/gradients_optional", test_layer_law_optional},
    {"layers/gradients_sum", test_layer_law_gradient_sum},
    {"layers/alignment", test_layer_law_alignment},
    {"layers/errors", test_layer_law_errors},
    {"layers/empty", test_layer_law_empty},
    {"layers/overflow", test_layer_law_overflow},
    {"layers/length", test_layer_law_length},
    {"layers/bind", test_layer_law_bind},
    {"layers/configs", test_layer_configs},
    {"layers/defaults", test_layer_defaults},
    {"layers/tables", test_layer_tables},
    {"layers/capacity", test_layer_law_capacity},
    {"layers/append", test_layer_append},
    {"layers/seed", test_layer_law_seed},
    {"layers/init_mamba", test_layer_init_mamba},
    {"layers/init_mamba2_weights", test_layer_init_mamba2},
    {"layers/init_complex", test_layer_init_complex},
    {"layers/init_dt", test_layer_init_dt},
    {"layers/init_rglru", test_layer_init_rglru},
    {"layers/init_selective", test_layer_init_selective},
    {"layers/presets", test_layer_presets},
    {"layers/presets_mamba", test_layer_presets_mamba},
    {"layers/reinitialize", test_layer_reinitialize},
};
