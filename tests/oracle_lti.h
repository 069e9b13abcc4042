/* oracle_lti.h - what is complex, in double: a channel of the selective scan; S4D, S4 and S5 from the papers: whole sequences, with dense matrices where a layer has
 * a trick. For test_layers.c, whose layer_oracle, layer_weight, layer_affine and layer_rms it uses. */
#ifndef SSM_ORACLE_LTI_H
#define SSM_ORACLE_LTI_H

#include <complex.h>
#undef I /* a name for extents here */

typedef double _Complex oracle_complex;

static oracle_complex oracle_pair(double re, double im)
{
    return re + im * _Complex_I;
}

/*--- S4D and S4: every channel has its own states ---*/

enum { S4_ORACLE_MAX = 17 }; /* the states of a channel, and one column more */

/* X = M^-1 X for n x n complex matrices. */
static void s4_solve(oracle_complex M[][S4_ORACLE_MAX], oracle_complex X[][S4_ORACLE_MAX], size_t n, size_t columns)
{
    size_t i, j, k;
    for (k = 0; k < n; ++k) {
        size_t best = k;
        for (i = k + 1; i < n; ++i)
            if (cabs(M[i][k]) > cabs(M[best][k])) best = i;
        for (j = 0; j < n; ++j) {
            const oracle_complex t = M[k][j];
            M[k][j] = M[best][j];
            M[best][j] = t;
        }
        for (j = 0; j < columns; ++j) {
            const oracle_complex t = X[k][j];
            X[k][j] = X[best][j];
            X[best][j] = t;
        }
        for (i = 0; i < n; ++i) {
            const oracle_complex f = M[i][k] / M[k][k];
            if (i == k) continue;
            for (j = 0; j < n; ++j) M[i][j] -= f * M[k][j];
            for (j = 0; j < columns; ++j) X[i][j] -= f * X[k][j];
        }
    }
    for (i = 0; i < n; ++i)
        for (j = 0; j < columns; ++j) X[i][j] /= M[i][i];
}

/* What the two layers have in common; low_rank: S4. */
typedef struct s4_options {
    int low_rank, real, both_ways, gelu, glu, residual;
    size_t d_model, d_state, n_ssm;
    ssm_disc disc;
    double eps;
} s4_options;

typedef struct s4_dense { /* one channel, all N states: conjugates n and N/2 + n */
    size_t n;
    oracle_complex A[S4_ORACLE_MAX][S4_ORACLE_MAX];
    oracle_complex B[S4_ORACLE_MAX];
    oracle_complex C[2][S4_ORACLE_MAX];
    double D;
} s4_dense;

static oracle_complex s4_oracle_weight(const layer_oracle *o, const char *name, size_t row, size_t n, double absent)
{
    const ssm_param *p = ssm_params_find(o->table, name);
    const double *at;
    if (!p->count) return absent;
    at = o->params + p->offset + (row * p->shape[1] + n) * p->shape[2];
    return p->rank == 3 ? oracle_pair(at[0], at[1]) : at[0];
}

/* Abar and Bbar where A is diagonal and the method is not bilinear. */
static void s4_densify_diagonal(ssm_disc disc, double delta, const oracle_complex *lambda, s4_dense *k)
{
    size_t n;
    for (n = 0; n < k->n; ++n) {
        const oracle_complex x = delta * lambda[n];
        k->A[n][n] = cexp(x);
        if (disc == SSM_DISC_ZOH) k->B[n] *= (cexp(x) - 1) / lambda[n];
        if (disc == SSM_DISC_EULER) k->B[n] *= delta;
    }
}

/* (1 - delta/2 A) [Abar | Bbar] = [1 + delta/2 A | delta B] with A = Lambda - P P^H */
static void s4_densify_bilinear(double delta, const oracle_complex *lambda, const oracle_complex *P, s4_dense *k)
{
    oracle_complex M[S4_ORACLE_MAX][S4_ORACLE_MAX], X[S4_ORACLE_MAX][S4_ORACLE_MAX];
    size_t n, m;
    for (n = 0; n < k->n; ++n) {
        for (m = 0; m < k->n; ++m) {
            const oracle_complex a = (n == m ? lambda[n] : 0) - P[n] * conj(P[m]);
            M[n][m] = (n == m) - delta / 2 * a;
            X[n][m] = (n == m) + delta / 2 * a;
        }
        X[n][k->n] = delta * k->B[n];
    }
    s4_solve(M, X, k->n, k->n + 1);
    for (n = 0; n < k->n; ++n) {
        for (m = 0; m < k->n; ++m) k->A[n][m] = X[n][m];
        k->B[n] = X[n][k->n];
    }
}

/* Channel h. */
static s4_dense s4_densify(const layer_oracle *o, const s4_options *c, size_t h)
{
    const size_t row = h % c->n_ssm, S = c->real ? c->d_state : c->d_state / 2;
    oracle_complex lambda[S4_ORACLE_MAX], P[S4_ORACLE_MAX];
    const double *log_dt = layer_weight(o, "log_dt");
    const double delta = log_dt ? exp(log_dt[h]) : 1, sign = c->low_rank ? -1 : 1;
    s4_dense k = {0};
    size_t n, d;
    k.n = c->d_state;
    k.D = layer_weight(o, "D")[h];
    for (n = 0; n < S; ++n) {
        lambda[n] = oracle_pair(-exp(creal(s4_oracle_weight(o, c->low_rank ? "A_real" : "log_A_real", row, n, 0))),
                                sign * creal(s4_oracle_weight(o, "A_imag", row, n, 0)));
        P[n] = s4_oracle_weight(o, "P", row, n, 0);
        k.B[n] = s4_oracle_weight(o, "B", row, n, 1);
        for (d = 0; d < 1 + (size_t)c->both_ways; ++d)
            k.C[d][n] = s4_oracle_weight(o, "C", d * c->d_model + h, n, 1);
        if (c->real) continue;
        lambda[S + n] = conj(lambda[n]);
        P[S + n] = conj(P[n]);
        k.B[S + n] = conj(k.B[n]);
        for (d = 0; d < 1 + (size_t)c->both_ways; ++d) k.C[d][S + n] = conj(k.C[d][n]);
    }
    if (c->disc == SSM_DISC_BILINEAR) s4_densify_bilinear(delta, lambda, P, &k);
    else s4_densify_diagonal(c->disc, delta, lambda, &k);
    return k;
}

/* s = A s + B u. */
static void s4_dense_step(const s4_dense *k, oracle_complex *s, double u)
{
    oracle_complex next[S4_ORACLE_MAX];
    size_t n, m;
    for (n = 0; n < k->n; ++n) {
        next[n] = k->B[n] * u;
        for (m = 0; m < k->n; ++m) next[n] += k->A[n][m] * s[m];
    }
    for (n = 0; n < k->n; ++n) s[n] = next[n];
}

static double s4_dense_read(const s4_dense *k, int direction, const oracle_complex *s)
{
    oracle_complex y = 0;
    size_t n;
    for (n = 0; n < k->n; ++n) y += k->C[direction][n] * s[n];
    return creal(y);
}

static double s4_oracle_gelu(double x)
{
    return 0.5 * x * (1 + erf(x / sqrt(2)));
}

/* Channel h of y from channel h of u, both [len][H]; state [N/2][re, im][H], or [N][H] if real. */
static void s4_oracle_channel(const layer_oracle *o, const s4_options *c, size_t h, double *state, const double *u,
                              double *y, size_t len)
{
    const size_t H = c->d_model, parts = c->real ? 1 : 2, S = c->d_state / parts;
    const s4_dense k = s4_densify(o, c, h);
    oracle_complex s[S4_ORACLE_MAX], r[S4_ORACLE_MAX] = {0};
    size_t t, n;
    for (n = 0; n < S; ++n) {
        s[n] = oracle_pair(state[n * parts * H + h], parts == 2 ? state[(n * 2 + 1) * H + h] : 0);
        if (parts == 2) s[S + n] = conj(s[n]);
    }
    for (t = 0; t < len; ++t) {
        s4_dense_step(&k, s, u[t * H + h]);
        y[t * H + h] = s4_dense_read(&k, 0, s) + k.D * u[t * H + h];
    }
    for (t = len; c->both_ways && t-- > 0;) {
        y[t * H + h] += s4_dense_read(&k, 1, r);
        s4_dense_step(&k, r, u[t * H + h]);
    }
    for (n = 0; n < S; ++n) {
        state[n * parts * H + h] = creal(s[n]);
        if (parts == 2) state[(n * 2 + 1) * H + h] = cimag(s[n]);
    }
}

static void s4_oracle(const layer_oracle *o, const s4_options *c, double *state, const double *x, double *y, size_t len)
{
    const size_t H = c->d_model;
    const double *norm = layer_weight(o, "norm.weight"), *weight = layer_weight(o, "output_linear.weight");
    double *u = (double *)test_alloc(len * H * sizeof *u, 0), *v = (double *)test_alloc(2 * H * sizeof *v, 0);
    size_t t, h;
    memcpy(u, x, len * H * sizeof *u);
    for (t = 0; norm && t < len; ++t) layer_rms(norm, c->eps, u + t * H, H);
    for (h = 0; h < H; ++h) s4_oracle_channel(o, c, h, state, u, y, len);
    for (t = 0; t < len; ++t) {
        double *yt = y + t * H;
        for (h = 0; c->gelu && h < H; ++h) yt[h] = s4_oracle_gelu(yt[h]);
        if (c->glu) layer_affine(weight, layer_weight(o, "output_linear.bias"), yt, H, v, 2 * H);
        for (h = 0; c->glu && h < H; ++h) yt[h] = v[h] / (1 + exp(-v[H + h]));
        for (h = 0; c->residual && h < H; ++h) yt[h] += x[t * H + h];
    }
    test_free(u, 0);
    test_free(v, 0);
}

static s4_options s4_options_of_s4d(const ssm_s4d_config *c)
{
    const s4_options options = {0, c->real_state, c->bidirectional, c->activation == SSM_S4_ACTIVATION_GELU,
                                c->output == SSM_S4_OUTPUT_GLU, c->residual, c->d_model, c->d_state, c->n_ssm, c->disc,
                                (double)c->norm_eps};
    return options;
}

static s4_options s4_options_of_s4(const ssm_s4_config *c)
{
    const s4_options options = {1, 0, c->bidirectional, c->activation == SSM_S4_ACTIVATION_GELU,
                                c->output == SSM_S4_OUTPUT_GLU, c->residual, c->d_model, c->d_state, c->n_ssm,
                                SSM_DISC_BILINEAR, (double)c->norm_eps};
    return options;
}

static void layer_s4d_oracle(const layer_oracle *o, double *state, const double *x, double *y, size_t len)
{
    const s4_options options = s4_options_of_s4d((const ssm_s4d_config *)o->config);
    s4_oracle(o, &options, state, x, y, len);
}

static void layer_s4_oracle(const layer_oracle *o, double *state, const double *x, double *y, size_t len)
{
    const s4_options options = s4_options_of_s4((const ssm_s4_config *)o->config);
    s4_oracle(o, &options, state, x, y, len);
}

/*--- S5: one state for all channels ---*/

/* a and b of one step, from ssm_disc's table. */
static void s5_oracle_coef(ssm_disc disc, oracle_complex A, double da, double db, oracle_complex *a, oracle_complex *b)
{
    const oracle_complex y = db * A;
    *a = cexp(da * A);
    switch (disc) {
    case SSM_DISC_BILINEAR:
        *a = (1 + da * A / 2) / (1 - da * A / 2);
        *b = db / (1 - y / 2);
        break;
    case SSM_DISC_EULER:
        *b = db;
        break;
    case SSM_DISC_DIRAC:
        *b = 1;
        break;
    default: /* ZOH; four terms of the series are exact to 1e-19 where it is used */
        *b = cabs(y) < 1e-4 ? db * (1 + y / 2 + y * y / 6 + y * y * y / 24) : (cexp(y) - 1) / A;
    }
}

/* 2 Re(sum of C h) of a channel of the selective scan through one step; B, C, state [d_state][dim] of (re, im) pairs. */
static double oracle_scan_channel(const layer_scan *s, size_t c, double u, double delta, const double *B, const double *C,
                                  double *state)
{
    double y = 0;
    size_t n;
    for (n = 0; n < s->d_state; ++n, B += 2, C += 2) {
        const size_t at = c * s->A_row + n;
        double *h = state + 2 * (n * s->dim + c);
        oracle_complex a, b, next;
        s5_oracle_coef(s->disc, oracle_pair(-exp(s->A_log[at]), s->A_imag[at]), delta, delta, &a, &b);
        next = a * oracle_pair(h[0], h[1]) + b * oracle_pair(B[0], B[1]) * u;
        h[0] = creal(next);
        h[1] = cimag(next);
        y += 2 * creal(oracle_pair(C[0], C[1]) * next);
    }
    return y;
}

static double s5_gelu(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

/* One row, s to y. */
static void s5_oracle_activation(const layer_oracle *o, const double *s, double *y)
{
    const ssm_s5_config *c = (const ssm_s5_config *)o->config;
    const size_t H = c->d_model;
    const double *out1 = layer_weight(o, "out1.weight"), *out2 = layer_weight(o, "out2.weight");
    double g[LAYER_WIDE], o1[LAYER_WIDE], o2[LAYER_WIDE];
    size_t i;
    for (i = 0; i < H; ++i) g[i] = s5_gelu(s[i]);
    if (out1) layer_affine(out1, layer_weight(o, "out1.bias"), g, H, o1, H);
    if (out2) layer_affine(out2, layer_weight(o, "out2.bias"), g, H, o2, H);
    for (i = 0; i < H; ++i) {
        switch (c->activation) {
        case SSM_S5_HALF_GLU1: y[i] = g[i] / (1 + exp(-o2[i])); break;
        case SSM_S5_HALF_GLU2: y[i] = s[i] / (1 + exp(-o2[i])); break;
        case SSM_S5_FULL_GLU: y[i] = o1[i] / (1 + exp(-o2[i])); break;
        case SSM_S5_GELU: y[i] = g[i]; break;
        case SSM_S5_NONE:
        default: y[i] = s[i];
        }
    }
}

typedef struct s5_states { /* P states: Abar and what scales B, for one row */
    size_t P;
    double scale; /* the row's factor that a and b are for; below 0: none yet */
    oracle_complex a[LAYER_WIDE], b[LAYER_WIDE];
    oracle_complex h[LAYER_WIDE];
} s5_states;

/* The LRU: lambda to the power of the row's factor; what scales B has that factor itself. */
static void lru_oracle_coefs(const layer_oracle *o, double scale, s5_states *s)
{
    const ssm_s5_config *c = (const ssm_s5_config *)o->config;
    const double *nu = layer_weight(o, "nu_log"), *theta = layer_weight(o, "theta_log"), *gamma = layer_weight(o, "gamma_log");
    const double step = (double)c->step_rescale;
    size_t p;
    for (p = 0; p < s->P; ++p) {
        const double decay = c->clip_eigs && exp(nu[p]) < 1e-4 ? 1e-4 : exp(nu[p]);
        s->a[p] = cexp(step * scale * oracle_pair(-decay, exp(theta[p])));
        s->b[p] = exp(gamma[p]) * step * (c->event ? 1 : scale);
    }
}

static void s5_oracle_discretise(const layer_oracle *o, double scale, s5_states *s)
{
    const ssm_s5_config *c = (const ssm_s5_config *)o->config;
    const double *log_step = layer_weight(o, c->real_state ? "log_dt" : "log_step");
    size_t p;
    if (scale == s->scale) return;
    s->scale = scale;
    if (c->lru) {
        lru_oracle_coefs(o, scale, s);
        return;
    }
    for (p = 0; p < s->P; ++p) {
        const double step = (double)c->step_rescale * exp(log_step[c->real_state ? 0 : p]);
        oracle_complex A;
        if (c->real_state) {
            A = -exp(layer_weight(o, "A_log")[p]);
        } else {
            const double re = layer_weight(o, "Lambda_re")[p];
            A = oracle_pair(c->clip_eigs && re > -1e-4 ? -1e-4 : re, layer_weight(o, "Lambda_im")[p]);
        }
        s5_oracle_coef(c->disc, A, step * scale, c->event ? step : step * scale, &s->a[p], &s->b[p]);
    }
}

/* B and C: real, or complex numbers in one array, or (lru) in two. */
typedef struct s5_matrices {
    const double *B, *C, *B_im, *C_im;
} s5_matrices;

/* One row: h = a h + b B u, then y += k Re(C h). */
static void s5_oracle_one_row(const layer_oracle *o, const s5_matrices *m, const double *u, s5_states *s, double *y)
{
    const ssm_s5_config *c = (const ssm_s5_config *)o->config;
    const size_t H = c->d_model, P = s->P;
    size_t p, i;
    for (p = 0; p < P; ++p) {
        oracle_complex v = 0;
        for (i = 0; i < H; ++i)
            v += u[i] * (c->real_state ? m->B[i * P + p]
                         : c->lru      ? oracle_pair(m->B[p * H + i], m->B_im[p * H + i])
                                       : oracle_pair(m->B[2 * (p * H + i)], m->B[2 * (p * H + i) + 1]));
        s->h[p] = s->a[p] * s->h[p] + s->b[p] * v;
    }
    for (i = 0; i < H; ++i)
        for (p = 0; p < P; ++p) {
            const oracle_complex z = c->real_state ? m->C[p * H + i]
                                     : c->lru      ? oracle_pair(m->C[i * P + p], m->C_im[i * P + p])
                                                   : oracle_pair(m->C[2 * (i * P + p)], m->C[2 * (i * P + p) + 1]);
            y[i] += (c->no_conj_sym ? 1 : 2) * creal(z * s->h[p]);
        }
}

/* `which`: 0 C, 1 C1, 2 C2. */
static s5_matrices s5_oracle_matrices(const layer_oracle *o, int which)
{
    static const char *const C[3] = {"C", "C1", "C2"}, *const re[3] = {"C_re", "C1_re", "C2_re"};
    static const char *const im[3] = {"C_im", "C1_im", "C2_im"};
    const int lru = ((const ssm_s5_config *)o->config)->lru;
    s5_matrices m;
    m.B = layer_weight(o, lru ? "B_re" : "B");
    m.C = layer_weight(o, lru ? re[which] : C[which]);
    m.B_im = layer_weight(o, "B_im");
    m.C_im = layer_weight(o, im[which]);
    return m;
}

/* state [P][re, im], or [N] if real; o->scale: the factor of each row's step, or NULL. */
static void layer_s5_oracle(const layer_oracle *o, double *state, const double *x, double *y, size_t len)
{
    const ssm_s5_config *c = (const ssm_s5_config *)o->config;
    const size_t H = c->d_model, pair = c->real_state ? 1 : 2;
    const double *norm = layer_weight(o, "norm.weight"), *D = layer_weight(o, "D");
    const s5_matrices ahead = s5_oracle_matrices(o, c->bidirectional ? 1 : 0), back = s5_oracle_matrices(o, 2);
    double *s = (double *)test_alloc(len * H * sizeof *s, 0), *u = (double *)test_alloc(len * H * sizeof *u, 0);
    s5_states h = {0};
    size_t t, i, p;
    h.P = c->no_conj_sym ? c->d_state : c->d_state / 2;
    h.scale = -1;
    memcpy(u, x, len * H * sizeof *u);
    for (t = 0; norm && t < len; ++t) layer_rms(norm, (double)c->norm_eps, u + t * H, H);
    for (i = 0; i < len * H; ++i) s[i] = D[i % H] * u[i];
    for (p = 0; !c->bidirectional && p < h.P; ++p)
        h.h[p] = oracle_pair(state[p * pair], pair == 2 ? state[p * pair + 1] : 0);
    for (t = 0; t < len; ++t) {
        s5_oracle_discretise(o, o->scale ? o->scale[t] : 1, &h);
        s5_oracle_one_row(o, &ahead, u + t * H, &h, s + t * H);
    }
    for (p = 0; !c->bidirectional && p < h.P; ++p) {
        state[p * pair] = creal(h.h[p]);
        if (pair == 2) state[p * pair + 1] = cimag(h.h[p]);
    }
    for (p = 0; p < h.P; ++p) h.h[p] = 0;
    for (t = len; c->bidirectional && t-- > 0;) {
        s5_oracle_discretise(o, o->scale ? o->scale[t] : 1, &h);
        s5_oracle_one_row(o, &back, u + t * H, &h, s + t * H);
    }
    for (t = 0; t < len; ++t) {
        s5_oracle_activation(o, s + t * H, y + t * H);
        for (i = 0; c->residual && i < H; ++i) y[t * H + i] += x[t * H + i];
    }
    test_free(s, 0);
    test_free(u, 0);
}

#endif
