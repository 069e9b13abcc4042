/* test_golden.c - ssm.h against vectors computed with other libraries (tests/golden/NAME.h; each
 * names the peer, its version and the script that made it).
 *
 * Three harnesses, each fed by tables: scans (the op, tensors in the peer's own layout, through
 * stride views), updates (the op step by step) and layers (weights loaded by name; forward, step,
 * record and backward). Then irithyll's small functions and a whole language model. */
#include "golden/irithyll.h"
#include "golden/lrnnx.h"
#include "golden/mamba_ssm.h"
#include "golden/tracetorch.h"
#include "golden/transformers_lm.h"
#include "golden/zerfoo.h"
#include "golden/zeta.h"

#define GOLDEN_TOL TOL(1e-5, 1e-12)
/* traceTorch divides by A + 1e-12 where ZOH divides by A; its vectors are that far off. */
#define GOLDEN_TOL_TRACETORCH TOL(1e-5, 3e-11)

typedef struct golden_array {
    const double *data; /* NULL: the peer has none */
    size_t count;
} golden_array;

#define GOLDEN(array) {array, sizeof array / sizeof array[0]}
#define GOLDEN_NONE {NULL, 0}

/* An array of the table, with its name in the message; nothing to do if the peer has none. */
static void golden_close(const char *what, const ssm_real *got, golden_array want, double tolerance)
{
    if (want.data) test_close(__FILE__, __LINE__, what, got, want.data, want.count, tolerance);
}

static ssm_real *golden_reals(golden_array from)
{
    return test_reals(from.data, from.count);
}

/*=============================================================================
 * Scans: selective_scan_ref of mamba_ssm and of lrnnx, forward and backward
 *===========================================================================*/
enum { GOLDEN_U, GOLDEN_DELTA, GOLDEN_A, GOLDEN_B, GOLDEN_C, GOLDEN_D, GOLDEN_Z, GOLDEN_BIAS, GOLDEN_DELTA_A, GOLDEN_TENSORS };

static const char *const golden_tensor_names[GOLDEN_TENSORS] = {"u", "delta", "A",          "B",      "C",
                                                                "D", "z",     "delta_bias", "delta_A"};

typedef struct golden_scan {
    size_t batch, dim, d_state, len;
    size_t groups;              /* of B and C, where not constant; 0: one */
    int constant_B, constant_C; /* (D,N) instead of (B,G,N,L) */
    ssm_disc disc;
    int softplus;
    golden_array in[GOLDEN_TENSORS];
    golden_array grad[GOLDEN_TENSORS];
    golden_array dout, dlast, out, last;
} golden_scan;

static size_t golden_groups(const golden_scan *g, int constant)
{
    return constant ? g->dim : g->groups ? g->groups : 1;
}

/* (D,N) if constant, else (B,G,N,L). */
static ssm_in golden_coefficient_view(const golden_scan *g, const ssm_real *data, int constant)
{
    return constant ? ssm_in_cn(data, g->d_state) : ssm_in_bcnt(data, golden_groups(g, 0), g->d_state, g->len);
}

/* The published layout of each tensor. */
static ssm_in golden_view(const golden_scan *g, int tensor, const ssm_real *data)
{
    switch (tensor) {
    case GOLDEN_A: return ssm_in_cn(data, g->d_state);
    case GOLDEN_B: return golden_coefficient_view(g, data, g->constant_B);
    case GOLDEN_C: return golden_coefficient_view(g, data, g->constant_C);
    case GOLDEN_D:
    case GOLDEN_BIAS: return ssm_in_c(data);
    default: return ssm_in_bct(data, g->dim, g->len);
    }
}

static ssm_selective_scan golden_scan_problem(const golden_scan *g, ssm_real *const in[GOLDEN_TENSORS])
{
    ssm_selective_scan s = {0};
    ssm_in *const field[GOLDEN_TENSORS] = {&s.u, &s.delta, &s.A, &s.B, &s.C, &s.D, &s.z, &s.delta_bias, &s.delta_A};
    int i;
    s.batch = g->batch;
    s.len = g->len;
    s.dim = g->dim;
    s.d_state = g->d_state;
    s.B_groups = golden_groups(g, g->constant_B);
    s.C_groups = golden_groups(g, g->constant_C);
    s.disc = g->disc;
    s.delta_softplus = g->softplus;
    for (i = 0; i < GOLDEN_TENSORS; ++i)
        if (in[i]) *field[i] = golden_view(g, i, in[i]);
    return s;
}

static void golden_scan_forward(const golden_scan *g, ssm_selective_scan s)
{
    ssm_real *out = test_zeros(g->out.count), *last = test_zeros(g->last.count);
    ssm_sizes need;
    void *work;
    s.y = ssm_out_like(out, ssm_in_bct(out, g->dim, g->len));
    s.h_last = ssm_out_like(last, ssm_in_bcn(last, g->dim, g->d_state));
    CHECK_OK(ssm_selective_scan_sizes(&s, &need));
    work = test_alloc(need.work, 0);
    CHECK_OK(ssm_selective_scan_forward(&s, work, need.work));
    golden_close("out", out, g->out, GOLDEN_TOL);
    golden_close("last", last, g->last, GOLDEN_TOL);
    test_free(work, 0);
    test_free(out, 0);
    test_free(last, 0);
}

static void golden_scan_backward(const golden_scan *g, const ssm_selective_scan *s, ssm_real *const grad[GOLDEN_TENSORS])
{
    ssm_selective_scan_grad d = {0};
    ssm_out *const field[GOLDEN_TENSORS] = {&d.du, &d.ddelta, &d.dA, &d.dB, &d.dC, &d.dD, &d.dz, &d.ddelta_bias, &d.ddelta_A};
    ssm_real *dout = golden_reals(g->dout), *dlast = golden_reals(g->dlast);
    ssm_sizes need;
    void *work;
    int i;
    d.dy = ssm_in_bct(dout, g->dim, g->len);
    d.dh_last = ssm_in_bcn(dlast, g->dim, g->d_state);
    for (i = 0; i < GOLDEN_TENSORS; ++i)
        if (grad[i]) *field[i] = ssm_out_like(grad[i], golden_view(g, i, grad[i]));
    CHECK_OK(ssm_selective_scan_sizes(s, &need));
    work = test_alloc(need.work_backward, 0);
    CHECK_OK(ssm_selective_scan_backward(s, &d, work, need.work_backward));
    for (i = 0; i < GOLDEN_TENSORS; ++i) golden_close(golden_tensor_names[i], grad[i], g->grad[i], GOLDEN_TOL);
    test_free(work, 0);
    test_free(dout, 0);
    test_free(dlast, 0);
}

static void golden_check_scan(const golden_scan *g)
{
    ssm_real *in[GOLDEN_TENSORS] = {0}, *grad[GOLDEN_TENSORS] = {0};
    ssm_selective_scan s;
    int i;
    for (i = 0; i < GOLDEN_TENSORS; ++i) {
        if (g->in[i].data) in[i] = golden_reals(g->in[i]);
        if (g->grad[i].data) grad[i] = test_zeros(g->grad[i].count);
    }
    s = golden_scan_problem(g, in);
    golden_scan_forward(g, s);
    golden_scan_backward(g, &s, grad);
    for (i = 0; i < GOLDEN_TENSORS; ++i) {
        if (in[i]) test_free(in[i], 0);
        if (grad[i]) test_free(grad[i], 0);
    }
}

/* Pieces of the table: P is the prefix of enumerators, p of arrays (with `_grad` of gradients). */
#define GOLDEN_EXTENTS(P) .batch = P##_BATCH, .dim = P##_DIM, .d_state = P##_STATE, .len = P##_LEN
#define GOLDEN_BASE(p)                                                                               \
    [GOLDEN_U] = GOLDEN(p##_u), [GOLDEN_DELTA] = GOLDEN(p##_delta), [GOLDEN_A] = GOLDEN(p##_a),      \
    [GOLDEN_B] = GOLDEN(p##_b), [GOLDEN_C] = GOLDEN(p##_c)
#define GOLDEN_WITH_D(p) GOLDEN_BASE(p), [GOLDEN_D] = GOLDEN(p##_d)
#define GOLDEN_WITH_D_BIAS(p) GOLDEN_WITH_D(p), [GOLDEN_BIAS] = GOLDEN(p##_bias)
#define GOLDEN_WITH_D_BIAS_Z(p) GOLDEN_WITH_D_BIAS(p), [GOLDEN_Z] = GOLDEN(p##_z)
#define GOLDEN_ALL(p) GOLDEN_WITH_D_BIAS_Z(p), [GOLDEN_DELTA_A] = GOLDEN(p##_delta_a)
#define GOLDEN_WITH_D_DELTA_A(p) GOLDEN_WITH_D(p), [GOLDEN_DELTA_A] = GOLDEN(p##_delta_a)
#define GOLDEN_OUTGOING(p) .out = GOLDEN(p##_out), .last = GOLDEN(p##_last)
#define GOLDEN_INCOMING(p) .dout = GOLDEN(p##_dout), .dlast = GOLDEN(p##_dlast)
/* `tensors` is one of the lists above. */
#define GOLDEN_SCAN(P, p, tensors) \
    GOLDEN_EXTENTS(P), .in = {tensors(p)}, .grad = {tensors(p##_grad)}, GOLDEN_INCOMING(p), GOLDEN_OUTGOING(p)
/* lrnnx: the inputs of the case `in`, the results of the case p. */
#define GOLDEN_SCAN_IN(p, tensors)                                                                        \
    GOLDEN_EXTENTS(GOLD_LRNNX_IN), .softplus = 1, .in = {tensors(gold_lrnnx_in)},                         \
    .grad = {tensors(p##_grad)}, GOLDEN_INCOMING(gold_lrnnx_in), GOLDEN_OUTGOING(p)

static const golden_scan golden_mamba_ssm_full = {
    GOLDEN_SCAN(GOLD_MAMBA_SSM_FULL, gold_mamba_ssm_full, GOLDEN_WITH_D_BIAS_Z),
    .softplus = GOLD_MAMBA_SSM_FULL_SOFTPLUS,
};
static const golden_scan golden_mamba_ssm_groups = {
    GOLDEN_SCAN(GOLD_MAMBA_SSM_GROUPS, gold_mamba_ssm_groups, GOLDEN_WITH_D_BIAS_Z),
    .softplus = GOLD_MAMBA_SSM_GROUPS_SOFTPLUS,
    .groups = GOLD_MAMBA_SSM_GROUPS_GROUPS,
};
static const golden_scan golden_mamba_ssm_constant = {
    GOLDEN_SCAN(GOLD_MAMBA_SSM_CONSTANT, gold_mamba_ssm_constant, GOLDEN_WITH_D),
    .softplus = GOLD_MAMBA_SSM_CONSTANT_SOFTPLUS,
    .constant_B = 1,
    .constant_C = 1,
};
static const golden_scan golden_mamba_ssm_minimal = {
    GOLDEN_SCAN(GOLD_MAMBA_SSM_MINIMAL, gold_mamba_ssm_minimal, GOLDEN_BASE),
    .softplus = GOLD_MAMBA_SSM_MINIMAL_SOFTPLUS,
};
static const golden_scan golden_mamba_ssm_mixed = {
    GOLDEN_SCAN(GOLD_MAMBA_SSM_MIXED, gold_mamba_ssm_mixed, GOLDEN_WITH_D_BIAS),
    .softplus = GOLD_MAMBA_SSM_MIXED_SOFTPLUS,
    .constant_B = 1,
};
static const golden_scan golden_lrnnx_mamba = {
    GOLDEN_SCAN_IN(gold_lrnnx_mamba, GOLDEN_WITH_D_BIAS_Z),
    .disc = SSM_DISC_EULER,
};
static const golden_scan golden_lrnnx_mamba_da = {
    GOLDEN_SCAN_IN(gold_lrnnx_mamba_da, GOLDEN_ALL),
    .disc = SSM_DISC_EULER,
};
static const golden_scan golden_lrnnx_zoh = {
    GOLDEN_SCAN_IN(gold_lrnnx_zoh, GOLDEN_WITH_D_BIAS_Z),
    .disc = SSM_DISC_ZOH,
};
static const golden_scan golden_lrnnx_zoh_da = {
    GOLDEN_SCAN_IN(gold_lrnnx_zoh_da, GOLDEN_ALL),
    .disc = SSM_DISC_ZOH,
};
static const golden_scan golden_lrnnx_bilinear = {
    GOLDEN_SCAN_IN(gold_lrnnx_bilinear, GOLDEN_WITH_D_BIAS_Z),
    .disc = SSM_DISC_BILINEAR,
};
static const golden_scan golden_lrnnx_bilinear_da = {
    GOLDEN_SCAN_IN(gold_lrnnx_bilinear_da, GOLDEN_ALL),
    .disc = SSM_DISC_BILINEAR,
};
static const golden_scan golden_lrnnx_dirac = {
    GOLDEN_SCAN_IN(gold_lrnnx_dirac, GOLDEN_WITH_D_BIAS_Z),
    .disc = SSM_DISC_DIRAC,
};
static const golden_scan golden_lrnnx_dirac_da = {
    GOLDEN_SCAN_IN(gold_lrnnx_dirac_da, GOLDEN_ALL),
    .disc = SSM_DISC_DIRAC,
};
static const golden_scan golden_lrnnx_const = {
    GOLDEN_SCAN(GOLD_LRNNX_CONST, gold_lrnnx_const, GOLDEN_WITH_D_DELTA_A),
    .disc = SSM_DISC_BILINEAR,
    .constant_B = 1,
    .constant_C = 1,
};
static const golden_scan golden_lrnnx_groups = {
    GOLDEN_SCAN(GOLD_LRNNX_GROUPS, gold_lrnnx_groups, GOLDEN_WITH_D_DELTA_A),
    .disc = SSM_DISC_ZOH,
    .groups = GOLD_LRNNX_GROUPS_GROUPS,
};

/*=============================================================================
 * Updates: selective_state_update_ref of mamba_ssm, four steps from a state that is not zero
 *===========================================================================*/
typedef struct golden_update {
    size_t batch, dim, d_state, steps, groups;
    golden_array state0, x, dt, a, b, c, d, z, bias, out, state;
} golden_update;

enum { GOLDEN_UPDATE_X, GOLDEN_UPDATE_DT, GOLDEN_UPDATE_A, GOLDEN_UPDATE_B, GOLDEN_UPDATE_C, GOLDEN_UPDATE_D, GOLDEN_UPDATE_Z, GOLDEN_UPDATE_BIAS, GOLDEN_UPDATE_TENSORS };

/* (T,B,C): the streams of one step lie together. */
static ssm_in golden_tbc(const ssm_real *data, size_t batch, size_t chans)
{
    ssm_in v = ssm_in_btc(data, 1, chans);
    v.time = (ptrdiff_t)(batch * chans);
    return v;
}

/* (T,B,G,N) */
static ssm_in golden_tbgn(const ssm_real *data, size_t batch, size_t groups, size_t states)
{
    ssm_in v = ssm_in_btcn(data, 1, groups, states);
    v.time = (ptrdiff_t)(batch * groups * states);
    return v;
}

static ssm_selective_scan golden_update_problem(const golden_update *g, ssm_real *const in[GOLDEN_UPDATE_TENSORS], ssm_real *state, ssm_real *out)
{
    ssm_selective_scan s = {0};
    s.batch = g->batch;
    s.len = g->steps;
    s.dim = g->dim;
    s.d_state = g->d_state;
    s.B_groups = g->groups;
    s.C_groups = g->groups;
    s.delta_softplus = 1;
    s.u = golden_tbc(in[GOLDEN_UPDATE_X], g->batch, g->dim);
    s.delta = golden_tbc(in[GOLDEN_UPDATE_DT], g->batch, g->dim);
    s.A = ssm_in_cn(in[GOLDEN_UPDATE_A], g->d_state);
    s.B = golden_tbgn(in[GOLDEN_UPDATE_B], g->batch, g->groups, g->d_state);
    s.C = golden_tbgn(in[GOLDEN_UPDATE_C], g->batch, g->groups, g->d_state);
    s.D = ssm_in_c(in[GOLDEN_UPDATE_D]);
    s.z = golden_tbc(in[GOLDEN_UPDATE_Z], g->batch, g->dim);
    s.delta_bias = ssm_in_c(in[GOLDEN_UPDATE_BIAS]);
    s.h0 = ssm_in_bcn(state, g->dim, g->d_state);
    s.h_last = ssm_out_like(state, s.h0);
    s.y = ssm_out_like(out, s.u);
    return s;
}

/* Views from step t on. */
static ssm_selective_scan golden_update_at(ssm_selective_scan s, ptrdiff_t t)
{
    s.u.data += t * s.u.time;
    s.delta.data += t * s.delta.time;
    s.B.data += t * s.B.time;
    s.C.data += t * s.C.time;
    s.z.data += t * s.z.time;
    s.y.data += t * s.y.time;
    s.len = 1;
    return s;
}

/* Step by step, then all steps as one sequence. */
static void golden_check_update(const golden_update *g)
{
    const golden_array from[GOLDEN_UPDATE_TENSORS] = {g->x, g->dt, g->a, g->b, g->c, g->d, g->z, g->bias};
    ssm_real *in[GOLDEN_UPDATE_TENSORS], *state = golden_reals(g->state0), *out = test_zeros(g->out.count);
    ssm_selective_scan s;
    size_t i, t;
    for (i = 0; i < GOLDEN_UPDATE_TENSORS; ++i) in[i] = golden_reals(from[i]);
    s = golden_update_problem(g, in, state, out);
    for (t = 0; t < g->steps; ++t) {
        const ssm_selective_scan now = golden_update_at(s, (ptrdiff_t)t);
        CHECK_OK(ssm_selective_scan_step(&now));
    }
    golden_close("out of steps", out, g->out, GOLDEN_TOL);
    golden_close("state after steps", state, g->state, GOLDEN_TOL);
    for (i = 0; i < g->out.count; ++i) out[i] = 0;
    for (i = 0; i < g->state0.count; ++i) state[i] = (ssm_real)g->state0.data[i];
    CHECK_OK(ssm_selective_scan_forward(&s, NULL, 0)); /* with h_last it needs no workspace */
    golden_close("out of forward", out, g->out, GOLDEN_TOL);
    golden_close("state after forward", state, g->state, GOLDEN_TOL);
    for (i = 0; i < GOLDEN_UPDATE_TENSORS; ++i) test_free(in[i], 0);
    test_free(state, 0);
    test_free(out, 0);
}

#define GOLDEN_UPDATE(P, p)                                                                                        \
    .batch = P##_BATCH, .d_state = P##_STATE, .steps = P##_STEPS, .state0 = GOLDEN(p##_state0), .x = GOLDEN(p##_x), \
    .dt = GOLDEN(p##_dt), .a = GOLDEN(p##_a), .b = GOLDEN(p##_b), .c = GOLDEN(p##_c), .d = GOLDEN(p##_d),           \
    .z = GOLDEN(p##_z), .bias = GOLDEN(p##_bias), .out = GOLDEN(p##_out), .state = GOLDEN(p##_state)

static const golden_update golden_mamba_ssm_update = {
    GOLDEN_UPDATE(GOLD_MAMBA_SSM_UPDATE, gold_mamba_ssm_update),
    .dim = GOLD_MAMBA_SSM_UPDATE_DIM,
    .groups = 1,
};
/* Heads are channels here: (H,D) flattens to C, and so do their groups. */
static const golden_update golden_mamba_ssm_heads = {
    GOLDEN_UPDATE(GOLD_MAMBA_SSM_HEADS, gold_mamba_ssm_heads),
    .dim = GOLD_MAMBA_SSM_HEADS_HEADS * GOLD_MAMBA_SSM_HEADS_DIM,
    .groups = GOLD_MAMBA_SSM_HEADS_GROUPS,
};

/*=============================================================================
 * Layers
 *===========================================================================*/
/* --- weights by name --- */
typedef struct golden_weight {
    const char *name; /* ours; a list ends with NULL */
    golden_array value;
    golden_array grad;
} golden_weight;

/* Where `name` lies in a flat array; NULL, and a failure, unless it has `want` elements. */
static ssm_real *golden_find(const ssm_params *table, ssm_real *flat, const char *name, size_t want)
{
    const ssm_param *row = ssm_params_find(table, name);
    if (row && row->count == want) return flat + row->offset;
    test_fail(__FILE__, __LINE__, "%s: %lu elements, expected %lu", name, (unsigned long)(row ? row->count : 0),
              (unsigned long)want);
    return NULL;
}

static void golden_load(const ssm_params *table, ssm_real *params, const char *name, golden_array from)
{
    ssm_real *to = golden_find(table, params, name, from.count);
    size_t i;
    for (i = 0; to && i < from.count; ++i) to[i] = (ssm_real)from.data[i];
}

static void golden_check_grad(const ssm_params *table, ssm_real *grads, const char *name, golden_array want, double tolerance)
{
    const ssm_real *got = want.data ? golden_find(table, grads, name, want.count) : NULL;
    if (got) golden_close(name, got, want, tolerance);
}

static size_t golden_load_all(const ssm_params *table, ssm_real *params, const golden_weight *w)
{
    size_t count = 0;
    for (; w[count].name; ++count) golden_load(table, params, w[count].name, w[count].value);
    return count;
}

/* --- states: ours are [batch][row][channel], theirs (batch, channel, row) --- */
typedef struct golden_state {
    size_t batch, chans;
    size_t conv_rows; /* d_conv - 1, or 0 */
    size_t h_rows;    /* d_state */
} golden_state;

static size_t golden_state_count(const golden_state *s)
{
    return (s->conv_rows + s->h_rows) * s->chans;
}

/* Rows first .. first+rows-1 against their last `rows` columns: theirs may keep more. */
static void golden_check_rows(const char *what, const golden_state *s, const ssm_real *state, size_t first, size_t rows, golden_array theirs, double tolerance)
{
    const size_t lines = s->batch * s->chans, width = theirs.count / lines;
    ssm_real *got;
    double *want;
    size_t i, k;
    CHECK(theirs.count == lines * width && width >= rows);
    if (width < rows) return;
    got = test_zeros(lines * rows);
    want = (double *)test_alloc(lines * rows * sizeof *want, 0);
    for (i = 0; i < lines; ++i) {
        const ssm_real *column = state + i / s->chans * golden_state_count(s) + i % s->chans;
        for (k = 0; k < rows; ++k) {
            got[i * rows + k] = column[(first + k) * s->chans];
            want[i * rows + k] = theirs.data[i * width + width - rows + k];
        }
    }
    test_close(__FILE__, __LINE__, what, got, want, lines * rows, tolerance);
    test_free(got, 0);
    test_free(want, 0);
}

static void golden_check_state(const golden_state *s, const ssm_real *state, golden_array conv, golden_array h, double tolerance)
{
    if (conv.data) golden_check_rows("conv state", s, state, 0, s->conv_rows, conv, tolerance);
    if (h.data) golden_check_rows("h", s, state, s->conv_rows, s->h_rows, h, tolerance);
}

/* h from theirs (B,E,N), or zero; conv rows zero. */
static ssm_real *golden_new_state(const golden_state *s, golden_array h)
{
    ssm_real *state = test_zeros(s->batch * golden_state_count(s));
    size_t i, n;
    for (i = 0; h.data && i < s->batch * s->chans; ++i)
        for (n = 0; n < s->h_rows; ++n)
            state[i / s->chans * golden_state_count(s) + (s->conv_rows + n) * s->chans + i % s->chans] = (ssm_real)h.data[i * s->h_rows + n];
    return state;
}

/* --- the verbs of the three layers behind one interface --- */
typedef union golden_config {
    ssm_selective_config selective;
    ssm_s6_config s6;
    ssm_mamba_config mamba;
} golden_config;

typedef union golden_bound {
    ssm_selective selective;
    ssm_s6 s6;
    ssm_mamba mamba;
} golden_bound;

typedef struct golden_memory { /* tape and workspace */
    void *tape, *work;
    size_t tape_bytes, work_bytes;
} golden_memory;

typedef struct golden_verbs {
    ssm_status (*params)(const golden_config *, ssm_params *);
    ssm_status (*sizes)(const golden_config *, const ssm_seqs *, ssm_sizes *);
    ssm_status (*init)(const golden_config *, ssm_real *, uint64_t);
    ssm_status (*bind)(golden_bound *, const golden_config *, const ssm_real *, void *, size_t);
    ssm_status (*forward)(const golden_bound *, ssm_real *, const ssm_real *, ssm_real *, const ssm_seqs *, golden_memory);
    ssm_status (*step)(const golden_bound *, ssm_real *, const ssm_real *, ssm_real *, size_t, golden_memory);
    ssm_status (*record)(const golden_bound *, ssm_real *, const ssm_real *, ssm_real *, const ssm_seqs *, golden_memory);
    ssm_status (*backward)(const golden_bound *, ssm_real *, const ssm_real *, const ssm_real *, ssm_real *, ssm_real *, const ssm_seqs *, golden_memory);
} golden_verbs;

#define GOLDEN_VERBS(X) \
    static ssm_status golden_##X##_params(const golden_config *c, ssm_params *table) \
    { \
        return ssm_##X##_params(&c->X, NULL, table); \
    } \
    static ssm_status golden_##X##_sizes(const golden_config *c, const ssm_seqs *seqs, ssm_sizes *need) \
    { \
        return ssm_##X##_sizes(&c->X, seqs, need); \
    } \
    static ssm_status golden_##X##_init(const golden_config *c, ssm_real *params, uint64_t seed) \
    { \
        return ssm_##X##_init(&c->X, params, seed); \
    } \
    static ssm_status golden_##X##_bind(golden_bound *l, const golden_config *c, const ssm_real *params, void *mem, size_t bytes) \
    { \
        return ssm_##X##_bind(&l->X, &c->X, params, mem, bytes); \
    } \
    static ssm_status golden_##X##_forward(const golden_bound *l, ssm_real *state, const ssm_real *x, ssm_real *y, const ssm_seqs *seqs, golden_memory m) \
    { \
        return ssm_##X##_forward(&l->X, state, x, y, seqs, m.work, m.work_bytes); \
    } \
    static ssm_status golden_##X##_step(const golden_bound *l, ssm_real *state, const ssm_real *x, ssm_real *y, size_t streams, golden_memory m) \
    { \
        return ssm_##X##_step(&l->X, state, x, y, streams, m.work, m.work_bytes); \
    } \
    static ssm_status golden_##X##_record(const golden_bound *l, ssm_real *state, const ssm_real *x, ssm_real *y, const ssm_seqs *seqs, golden_memory m) \
    { \
        return ssm_##X##_record(&l->X, state, x, y, seqs, m.tape, m.tape_bytes, m.work, m.work_bytes); \
    } \
    static ssm_status golden_##X##_backward(const golden_bound *l, ssm_real *dstate, const ssm_real *x, const ssm_real *dy, ssm_real *dx, ssm_real *dparams, const ssm_seqs *seqs, golden_memory m) \
    { \
        return ssm_##X##_backward(&l->X, dstate, x, dy, dx, dparams, seqs, m.tape, m.tape_bytes, m.work, m.work_bytes); \
    } \
    static const golden_verbs golden_##X##_verbs = {golden_##X##_params, golden_##X##_sizes, golden_##X##_init, golden_##X##_bind, golden_##X##_forward, golden_##X##_step, golden_##X##_record, golden_##X##_backward};

GOLDEN_VERBS(selective)
GOLDEN_VERBS(s6)
GOLDEN_VERBS(mamba)

/* --- a case --- */
typedef struct golden_layer {
    const golden_verbs *verbs;
    golden_config config;
    void (*configure)(golden_config *); /* what a constant cannot say: presets; or NULL */
    size_t len, width;                  /* width of x and y */
    golden_state state;
    int time_major; /* x and y are (T,B,D) */
    int from_init;  /* rows without a golden weight are as init leaves them */
    double tolerance;
    golden_array x, y, conv, last, dy, dlast, dx; /* no dy: no gradients */
    golden_weight weights[SSM_PARAMS_MAX];
} golden_layer;

typedef struct golden_run {
    const golden_layer *g;
    golden_config config;
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table;
    ssm_real *params;
    golden_bound layer;
    void *bound;
    ssm_seqs seqs;
    ssm_real *x, *y;
} golden_run;

static golden_memory golden_memory_open(size_t tape_bytes, size_t work_bytes)
{
    golden_memory m;
    m.tape = test_alloc(tape_bytes, 0);
    m.work = test_alloc(work_bytes, 0);
    m.tape_bytes = tape_bytes;
    m.work_bytes = work_bytes;
    return m;
}

static void golden_memory_close(golden_memory m)
{
    test_free(m.tape, 0);
    test_free(m.work, 0);
}

static ssm_sizes golden_sizes(const golden_run *r, size_t len)
{
    ssm_sizes need = {0};
    ssm_seqs seqs = r->seqs;
    seqs.len = len;
    CHECK_OK(r->g->verbs->sizes(&r->config, &seqs, &need));
    return need;
}

static void golden_open_weights(golden_run *r)
{
    const ssm_sizes need = golden_sizes(r, r->g->len);
    size_t loaded;
    r->table.row = r->rows;
    r->table.capacity = SSM_PARAMS_MAX;
    CHECK_OK(r->g->verbs->params(&r->config, &r->table));
    CHECK(need.params == r->table.count * sizeof(ssm_real));
    CHECK(need.state == r->g->state.batch * golden_state_count(&r->g->state) * sizeof(ssm_real));
    r->params = test_zeros(r->table.count);
    if (r->g->from_init) CHECK_OK(r->g->verbs->init(&r->config, r->params, test_seed));
    loaded = golden_load_all(&r->table, r->params, r->g->weights);
    CHECK(loaded == r->table.rows || r->g->from_init);
    r->bound = test_alloc(need.bound, 0);
    CHECK_OK(r->g->verbs->bind(&r->layer, &r->config, r->params, r->bound, need.bound));
}

static void golden_open(golden_run *r, const golden_layer *g)
{
    memset(r, 0, sizeof *r);
    r->g = g;
    r->config = g->config;
    if (g->configure) g->configure(&r->config);
    r->seqs.batch = g->state.batch;
    r->seqs.len = g->len;
    if (g->time_major) {
        r->seqs.x.batch = (ptrdiff_t)g->width;
        r->seqs.x.time = (ptrdiff_t)(g->width * g->state.batch);
        r->seqs.x.chan = 1;
        r->seqs.y = r->seqs.x;
    }
    r->x = golden_reals(g->x);
    r->y = test_zeros(g->y.count);
    golden_open_weights(r);
}

static void golden_shut(golden_run *r)
{
    test_free(r->x, 0);
    test_free(r->y, 0);
    test_free(r->params, 0);
    test_free(r->bound, 0);
}

static void golden_check_run(const golden_run *r, const char *verb, const ssm_real *state)
{
    golden_close(verb, r->y, r->g->y, r->g->tolerance);
    golden_check_state(&r->g->state, state, r->g->conv, r->g->last, r->g->tolerance);
}

static void golden_layer_forward(const golden_run *r)
{
    const golden_array none = GOLDEN_NONE;
    ssm_real *state = golden_new_state(&r->g->state, none);
    golden_memory m = golden_memory_open(0, golden_sizes(r, r->g->len).work);
    CHECK_OK(r->g->verbs->forward(&r->layer, state, r->x, r->y, &r->seqs, m));
    golden_check_run(r, "y of forward", state);
    golden_memory_close(m);
    test_free(state, 0);
}

/* One step of all streams at a time. */
static void golden_layer_steps(const golden_run *r)
{
    const size_t batch = r->g->state.batch, width = r->g->width, len = r->g->len;
    const golden_array none = GOLDEN_NONE;
    ssm_real *state = golden_new_state(&r->g->state, none), *x = test_zeros(batch * width), *y = test_zeros(batch * width);
    golden_memory m = golden_memory_open(0, golden_sizes(r, 1).work);
    size_t t, b, c;
    for (t = 0; t < len; ++t) {
        for (b = 0; b < batch; ++b) memcpy(x + b * width, r->x + (r->g->time_major ? t * batch + b : b * len + t) * width, width * sizeof *x);
        CHECK_OK(r->g->verbs->step(&r->layer, state, x, y, batch, m));
        for (b = 0; b < batch; ++b)
            for (c = 0; c < width; ++c) r->y[(r->g->time_major ? t * batch + b : b * len + t) * width + c] = y[b * width + c];
    }
    golden_check_run(r, "y of steps", state);
    golden_memory_close(m);
    test_free(state, 0);
    test_free(x, 0);
    test_free(y, 0);
}

static void golden_layer_gradients(golden_run *r)
{
    const golden_layer *g = r->g;
    const golden_array none = GOLDEN_NONE;
    const ssm_sizes need = golden_sizes(r, g->len);
    const size_t work = need.work > need.work_backward ? need.work : need.work_backward;
    golden_memory m = golden_memory_open(need.tape, work);
    ssm_real *state = golden_new_state(&g->state, none), *dstate = golden_new_state(&g->state, g->dlast);
    ssm_real *dy = golden_reals(g->dy), *dx = test_zeros(g->dx.count), *grads = test_zeros(r->table.count);
    const golden_weight *w;
    CHECK_OK(g->verbs->record(&r->layer, state, r->x, r->y, &r->seqs, m));
    golden_check_run(r, "y of record", state);
    CHECK_OK(g->verbs->backward(&r->layer, dstate, r->x, dy, dx, grads, &r->seqs, m));
    golden_close("dx", dx, g->dx, g->tolerance);
    for (w = g->weights; w->name; ++w) golden_check_grad(&r->table, grads, w->name, w->grad, g->tolerance);
    golden_memory_close(m);
    test_free(state, 0);
    test_free(dstate, 0);
    test_free(dy, 0);
    test_free(dx, 0);
    test_free(grads, 0);
}

static void golden_check_layer(const golden_layer *g)
{
    golden_run r;
    golden_open(&r, g);
    golden_layer_forward(&r);
    golden_layer_steps(&r);
    if (g->dy.data) golden_layer_gradients(&r);
    golden_shut(&r);
}
