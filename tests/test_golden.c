/* test_golden.c - ssm.h against vectors computed with other libraries (tests/golden/NAME.h; each
 * names the peer, its version and the script that made it).
 *
 * Three harnesses, each fed by tables: scans (the op, tensors in the peer's own layout, through
 * stride views), updates (the op step by step) and layers (weights loaded by name; forward, step,
 * record and backward). Then irithyll's small functions and a whole language model. */
#include "golden/irithyll.h"
#include "golden/lrnnx.h"
#include "golden/lrnnx_rglru.h"
#include "golden/mamba_ssm.h"
#include "golden/mamba_ssm_complex.h"
#include "golden/mamba_ssm_mamba3.h"
#include "golden/tracetorch.h"
#include "golden/transformers_lm.h"
#include "golden/transformers_dbc.h"
#include "golden/transformers_mamba2.h"
#include "golden/transformers_rglru.h"
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
enum {
    GOLDEN_U,
    GOLDEN_DELTA,
    GOLDEN_A,
    GOLDEN_B,
    GOLDEN_C,
    GOLDEN_D,
    GOLDEN_Z,
    GOLDEN_BIAS,
    GOLDEN_DELTA_A,
    GOLDEN_TENSORS
};

static const char *const golden_grad_names[GOLDEN_TENSORS] = {"du", "ddelta", "dA",          "dB",      "dC",
                                                              "dD", "dz",     "ddelta_bias", "ddelta_A"};

typedef struct golden_scan {
    size_t batch, dim, d_state, len;
    size_t groups;              /* of B and C, where not constant; 0: one */
    int constant_B, constant_C; /* (D,N) instead of (B,G,N,L) */
    int complex_A;              /* A, B, C and the state are pairs; (B,G,N,2L) is (B,G,N,L) of them */
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

/* A view as it is, or of pairs. */
static ssm_in golden_numbers(const golden_scan *g, ssm_in view)
{
    return g->complex_A ? ssm_in_pairs(view) : view;
}

/* (D,N) if constant, else (B,G,N,L). */
static ssm_in golden_coefficient_view(const golden_scan *g, const ssm_real *data, int constant)
{
    return golden_numbers(
        g, constant ? ssm_in_cn(data, g->d_state) : ssm_in_bcnt(data, golden_groups(g, 0), g->d_state, g->len));
}

/* The published layout of each tensor. */
static ssm_in golden_view(const golden_scan *g, int tensor, const ssm_real *data)
{
    switch (tensor) {
    case GOLDEN_A: return golden_numbers(g, ssm_in_cn(data, g->d_state));
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
    s.complex_A = g->complex_A;
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
    s.h_last = ssm_out_like(last, golden_numbers(g, ssm_in_bcn(last, g->dim, g->d_state)));
    CHECK_OK(ssm_selective_scan_sizes(&s, &need));
    work = test_alloc(need.work, 0);
    CHECK_OK(ssm_selective_scan_forward(&s, ssm_memory_of(work, need.work)));
    golden_close("out", out, g->out, GOLDEN_TOL);
    golden_close("last", last, g->last, GOLDEN_TOL);
    test_free(work, 0);
    test_free(out, 0);
    test_free(last, 0);
}

static void golden_scan_backward(const golden_scan *g, const ssm_selective_scan *s,
                                 ssm_real *const grad[GOLDEN_TENSORS])
{
    ssm_selective_scan_grad d = {0};
    ssm_out *const field[GOLDEN_TENSORS] = {&d.du, &d.ddelta, &d.dA,          &d.dB,      &d.dC,
                                            &d.dD, &d.dz,     &d.ddelta_bias, &d.ddelta_A};
    ssm_real *dout = golden_reals(g->dout), *dlast = golden_reals(g->dlast);
    ssm_sizes need;
    void *work;
    int i;
    d.dy = ssm_in_bct(dout, g->dim, g->len);
    d.dh_last = golden_numbers(g, ssm_in_bcn(dlast, g->dim, g->d_state));
    for (i = 0; i < GOLDEN_TENSORS; ++i)
        if (grad[i]) *field[i] = ssm_out_like(grad[i], golden_view(g, i, grad[i]));
    CHECK_OK(ssm_selective_scan_sizes(s, &need));
    work = test_alloc(need.work_backward, 0);
    CHECK_OK(ssm_selective_scan_backward(s, &d, ssm_memory_of(work, need.work_backward)));
    for (i = 0; i < GOLDEN_TENSORS; ++i) golden_close(golden_grad_names[i], grad[i], g->grad[i], GOLDEN_TOL);
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
#define GOLDEN_BASE(p)                                                                          \
    [GOLDEN_U] = GOLDEN(p##_u), [GOLDEN_DELTA] = GOLDEN(p##_delta), [GOLDEN_A] = GOLDEN(p##_a), \
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
#define GOLDEN_SCAN_IN(p, tensors)                                                \
    GOLDEN_EXTENTS(GOLD_LRNNX_IN), .softplus = 1, .in = {tensors(gold_lrnnx_in)}, \
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
static const golden_scan golden_mamba_ssm_complex_full = {
    GOLDEN_SCAN(GOLD_MAMBA_SSM_COMPLEX_FULL, gold_mamba_ssm_complex_full, GOLDEN_WITH_D_BIAS_Z),
    .softplus = GOLD_MAMBA_SSM_COMPLEX_FULL_SOFTPLUS,
    .complex_A = 1,
};
static const golden_scan golden_mamba_ssm_complex_groups = {
    GOLDEN_SCAN(GOLD_MAMBA_SSM_COMPLEX_GROUPS, gold_mamba_ssm_complex_groups, GOLDEN_WITH_D_BIAS_Z),
    .softplus = GOLD_MAMBA_SSM_COMPLEX_GROUPS_SOFTPLUS,
    .groups = GOLD_MAMBA_SSM_COMPLEX_GROUPS_GROUPS,
    .complex_A = 1,
};
static const golden_scan golden_mamba_ssm_complex_constant = {
    GOLDEN_SCAN(GOLD_MAMBA_SSM_COMPLEX_CONSTANT, gold_mamba_ssm_complex_constant, GOLDEN_WITH_D),
    .softplus = GOLD_MAMBA_SSM_COMPLEX_CONSTANT_SOFTPLUS,
    .constant_B = 1,
    .constant_C = 1,
    .complex_A = 1,
};
static const golden_scan golden_mamba_ssm_complex_mixed = {
    GOLDEN_SCAN(GOLD_MAMBA_SSM_COMPLEX_MIXED, gold_mamba_ssm_complex_mixed, GOLDEN_WITH_D_BIAS),
    .softplus = GOLD_MAMBA_SSM_COMPLEX_MIXED_SOFTPLUS,
    .constant_B = 1,
    .complex_A = 1,
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
    golden_array in[GOLDEN_TENSORS]; /* all but delta_A */
    golden_array state0, out, state;
} golden_update;

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

static ssm_selective_scan golden_update_problem(const golden_update *g, ssm_real *const in[GOLDEN_TENSORS],
                                                ssm_real *state, ssm_real *out)
{
    ssm_selective_scan s = {0};
    s.batch = g->batch;
    s.len = g->steps;
    s.dim = g->dim;
    s.d_state = g->d_state;
    s.B_groups = g->groups;
    s.C_groups = g->groups;
    s.delta_softplus = 1;
    s.u = golden_tbc(in[GOLDEN_U], g->batch, g->dim);
    s.delta = golden_tbc(in[GOLDEN_DELTA], g->batch, g->dim);
    s.A = ssm_in_cn(in[GOLDEN_A], g->d_state);
    s.B = golden_tbgn(in[GOLDEN_B], g->batch, g->groups, g->d_state);
    s.C = golden_tbgn(in[GOLDEN_C], g->batch, g->groups, g->d_state);
    s.D = ssm_in_c(in[GOLDEN_D]);
    s.z = golden_tbc(in[GOLDEN_Z], g->batch, g->dim);
    s.delta_bias = ssm_in_c(in[GOLDEN_BIAS]);
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

static void golden_update_steps(ssm_selective_scan s)
{
    size_t t;
    for (t = 0; t < s.len; ++t) {
        const ssm_selective_scan now = golden_update_at(s, (ptrdiff_t)t);
        CHECK_OK(ssm_selective_scan_step(&now));
    }
}

static void golden_update_forward(ssm_selective_scan s)
{
    CHECK_OK(ssm_selective_scan_forward(&s, ssm_memory_of(NULL, 0))); /* with h_last it needs no workspace */
}

static void golden_update_run(const golden_update *g, ssm_real *const in[GOLDEN_TENSORS],
                              void (*run)(ssm_selective_scan))
{
    ssm_real *state = golden_reals(g->state0), *out = test_zeros(g->out.count);
    run(golden_update_problem(g, in, state, out));
    golden_close("out", out, g->out, GOLDEN_TOL);
    golden_close("state", state, g->state, GOLDEN_TOL);
    test_free(state, 0);
    test_free(out, 0);
}

/* Step by step, then all steps as one sequence. */
static void golden_check_update(const golden_update *g)
{
    ssm_real *in[GOLDEN_TENSORS] = {0};
    size_t i;
    for (i = 0; i < GOLDEN_TENSORS; ++i)
        if (g->in[i].data) in[i] = golden_reals(g->in[i]);
    golden_update_run(g, in, golden_update_steps);
    golden_update_run(g, in, golden_update_forward);
    for (i = 0; i < GOLDEN_TENSORS; ++i)
        if (in[i]) test_free(in[i], 0);
}

/* Their names of u and delta are x and dt. */
#define GOLDEN_UPDATE(P, p)                                                                          \
    .batch = P##_BATCH, .d_state = P##_STATE, .steps = P##_STEPS,                                    \
    .in = {[GOLDEN_U] = GOLDEN(p##_x),       [GOLDEN_DELTA] = GOLDEN(p##_dt),                        \
           [GOLDEN_A] = GOLDEN(p##_a),       [GOLDEN_B] = GOLDEN(p##_b), [GOLDEN_C] = GOLDEN(p##_c), \
           [GOLDEN_D] = GOLDEN(p##_d),       [GOLDEN_Z] = GOLDEN(p##_z),                             \
           [GOLDEN_BIAS] = GOLDEN(p##_bias)},                                                        \
    .state0 = GOLDEN(p##_state0), .out = GOLDEN(p##_out), .state = GOLDEN(p##_state)

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
    if (row->count == want) return flat + row->offset;
    test_fail(__FILE__, __LINE__, "%s: %lu elements, expected %lu", name, (unsigned long)row->count,
              (unsigned long)want);
    return NULL;
}

static void golden_load(const ssm_params *table, ssm_real *params, const char *name, golden_array from)
{
    ssm_real *to = golden_find(table, params, name, from.count);
    size_t i;
    for (i = 0; to && i < from.count; ++i) to[i] = (ssm_real)from.data[i];
}

static void golden_check_grad(const ssm_params *table, ssm_real *grads, const char *name, golden_array want,
                              double tolerance)
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
    size_t more;      /* reals between them: channels that only the convolution has */
} golden_state;

static size_t golden_state_count(const golden_state *s)
{
    return (s->conv_rows + s->h_rows) * s->chans + s->more;
}

/* Row r of channel i % chans of stream i / chans. */
static size_t golden_state_at(const golden_state *s, size_t i, size_t r)
{
    const size_t before = r < s->conv_rows ? 0 : s->more;
    return i / s->chans * golden_state_count(s) + before + r * s->chans + i % s->chans;
}

/* Our rows first .. first+rows-1 against their last `rows` columns: theirs may keep more. */
static void golden_check_rows(const char *what, const golden_state *s, const ssm_real *state, size_t first,
                              size_t rows, golden_array theirs, double tolerance)
{
    const size_t lines = s->batch * s->chans, width = theirs.count / lines;
    ssm_real *got = test_zeros(lines * rows);
    double *want = (double *)test_alloc(lines * rows * sizeof *want, 0);
    size_t i, r;
    CHECK(theirs.count == lines * width && width >= rows);
    for (i = 0; width >= rows && i < lines; ++i) {
        for (r = 0; r < rows; ++r) {
            got[i * rows + r] = state[golden_state_at(s, i, first + r)];
            want[i * rows + r] = theirs.data[i * width + width - rows + r];
        }
    }
    if (width >= rows) test_close(__FILE__, __LINE__, what, got, want, lines * rows, tolerance);
    test_free(got, 0);
    test_free(want, 0);
}

static void golden_check_state(const golden_state *s, const ssm_real *state, golden_array conv, golden_array h,
                               double tolerance)
{
    if (conv.data) golden_check_rows("conv state", s, state, 0, s->conv_rows, conv, tolerance);
    if (h.data) golden_check_rows("h", s, state, s->conv_rows, s->h_rows, h, tolerance);
}

/* Conv rows zero; h theirs (B,E,N), or zero if they have none. */
static ssm_real *golden_new_state(const golden_state *s, golden_array h)
{
    ssm_real *state = test_zeros(s->batch * golden_state_count(s));
    size_t i, n;
    for (i = 0; h.data && i < s->batch * s->chans; ++i)
        for (n = 0; n < s->h_rows; ++n)
            state[golden_state_at(s, i, s->conv_rows + n)] = (ssm_real)h.data[i * s->h_rows + n];
    return state;
}

static ssm_real *golden_zero_state(const golden_state *s)
{
    const golden_array none = GOLDEN_NONE;
    return golden_new_state(s, none);
}

/* --- the verbs of the layers behind one interface --- */
typedef union golden_config {
    ssm_selective_config selective;
    ssm_s6_config s6;
    ssm_mamba_config mamba;
    ssm_mamba2_config mamba2;
    ssm_mamba3_config mamba3;
    ssm_rglru_config rglru;
} golden_config;

typedef union golden_bound {
    ssm_selective selective;
    ssm_s6 s6;
    ssm_mamba mamba;
    ssm_mamba2 mamba2;
    ssm_mamba3 mamba3;
    ssm_rglru rglru;
} golden_bound;

/* What the running verbs take. */
typedef struct golden_call {
    ssm_real *state; /* or dstate */
    const ssm_real *x;
    ssm_real *y;
    const ssm_real *dy;
    ssm_real *dx;
    ssm_real *dparams;
    const ssm_seqs *seqs; /* step: batch is the streams */
    ssm_memory tape, work;
} golden_call;

typedef struct golden_verbs {
    ssm_status (*params)(const golden_config *, ssm_params *);
    ssm_status (*sizes)(const golden_config *, const ssm_seqs *, ssm_sizes *);
    ssm_status (*init)(const golden_config *, ssm_real *, uint64_t);
    ssm_status (*bind)(golden_bound *, const golden_config *, const ssm_real *, ssm_memory);
    ssm_status (*forward)(const golden_bound *, const golden_call *);
    ssm_status (*step)(const golden_bound *, const golden_call *);
    ssm_status (*record)(const golden_bound *, const golden_call *);
    ssm_status (*backward)(const golden_bound *, const golden_call *);
} golden_verbs;

#define GOLDEN_VERBS(X)                                                                                           \
    static ssm_status golden_##X##_params(const golden_config *c, ssm_params *table)                              \
    {                                                                                                             \
        return ssm_##X##_params(&c->X, NULL, table);                                                              \
    }                                                                                                             \
    static ssm_status golden_##X##_sizes(const golden_config *c, const ssm_seqs *seqs, ssm_sizes *need)           \
    {                                                                                                             \
        return ssm_##X##_sizes(&c->X, seqs, need);                                                                \
    }                                                                                                             \
    static ssm_status golden_##X##_init(const golden_config *c, ssm_real *params, uint64_t seed)                  \
    {                                                                                                             \
        return ssm_##X##_init(&c->X, params, seed);                                                               \
    }                                                                                                             \
    static ssm_status golden_##X##_bind(golden_bound *l, const golden_config *c, const ssm_real *params,          \
                                        ssm_memory mem)                                                           \
    {                                                                                                             \
        return ssm_##X##_bind(&l->X, &c->X, params, mem);                                                         \
    }                                                                                                             \
    static ssm_status golden_##X##_forward(const golden_bound *l, const golden_call *k)                           \
    {                                                                                                             \
        return ssm_##X##_forward(&l->X, k->state, k->x, k->y, k->seqs, k->work);                                  \
    }                                                                                                             \
    static ssm_status golden_##X##_step(const golden_bound *l, const golden_call *k)                              \
    {                                                                                                             \
        return ssm_##X##_step(&l->X, k->state, k->x, k->y, k->seqs->batch, k->work);                              \
    }                                                                                                             \
    static ssm_status golden_##X##_record(const golden_bound *l, const golden_call *k)                            \
    {                                                                                                             \
        return ssm_##X##_record(&l->X, k->state, k->x, k->y, k->seqs, k->tape, k->work);                          \
    }                                                                                                             \
    static ssm_status golden_##X##_backward(const golden_bound *l, const golden_call *k)                          \
    {                                                                                                             \
        return ssm_##X##_backward(&l->X, k->state, k->x, k->dy, k->dx, k->dparams, k->seqs, k->tape, k->work);    \
    }                                                                                                             \
    static const golden_verbs golden_##X##_verbs = {golden_##X##_params, golden_##X##_sizes,   golden_##X##_init, \
                                                    golden_##X##_bind,   golden_##X##_forward, golden_##X##_step, \
                                                    golden_##X##_record, golden_##X##_backward}

GOLDEN_VERBS(selective);
GOLDEN_VERBS(s6);
GOLDEN_VERBS(mamba);
GOLDEN_VERBS(mamba2);
GOLDEN_VERBS(mamba3);
GOLDEN_VERBS(rglru);

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
    golden_weight weights[SSM_PARAMS_MAX + 1];
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
    CHECK_OK(r->g->verbs->bind(&r->layer, &r->config, r->params, ssm_memory_of(r->bound, need.bound)));
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

static golden_call golden_call_of(const golden_run *r, ssm_real *state)
{
    golden_call k = {0};
    k.state = state;
    k.x = r->x;
    k.y = r->y;
    k.seqs = &r->seqs;
    return k;
}

/* Runs one verb in a workspace of `bytes`. */
static void golden_call_verb(const golden_run *r, ssm_status (*verb)(const golden_bound *, const golden_call *),
                             golden_call k, size_t bytes)
{
    k.work = ssm_memory_of(test_alloc(bytes, 0), bytes);
    CHECK_OK(verb(&r->layer, &k));
    test_free(k.work.data, 0);
}

static void golden_layer_forward(const golden_run *r)
{
    ssm_real *state = golden_zero_state(&r->g->state);
    golden_call_verb(r, r->g->verbs->forward, golden_call_of(r, state), golden_sizes(r, r->g->len).work);
    golden_check_run(r, "y of forward", state);
    test_free(state, 0);
}

/* Where step t of sequence b begins in x and y. */
static size_t golden_at(const golden_layer *g, size_t t, size_t b)
{
    return (g->time_major ? t * g->state.batch + b : b * g->len + t) * g->width;
}

/* One step of all streams at a time, gathered from x and scattered to y. */
static void golden_layer_steps(const golden_run *r)
{
    const golden_layer *g = r->g;
    const size_t batch = g->state.batch, width = g->width, bytes = width * sizeof(ssm_real);
    ssm_real *state = golden_zero_state(&g->state), *x = test_zeros(batch * width), *y = test_zeros(batch * width);
    golden_call k = golden_call_of(r, state);
    size_t t, b;
    k.x = x;
    k.y = y;
    for (t = 0; t < g->len; ++t) {
        for (b = 0; b < batch; ++b) memcpy(x + b * width, r->x + golden_at(g, t, b), bytes);
        golden_call_verb(r, g->verbs->step, k, golden_sizes(r, 1).work);
        for (b = 0; b < batch; ++b) memcpy(r->y + golden_at(g, t, b), y + b * width, bytes);
    }
    golden_check_run(r, "y of steps", state);
    test_free(state, 0);
    test_free(x, 0);
    test_free(y, 0);
}

static void golden_check_grads(const golden_run *r, const ssm_real *dx, ssm_real *dparams)
{
    const golden_weight *w;
    golden_close("dx", dx, r->g->dx, r->g->tolerance);
    for (w = r->g->weights; w->name; ++w) golden_check_grad(&r->table, dparams, w->name, w->grad, r->g->tolerance);
}

static void golden_layer_gradients(const golden_run *r)
{
    const golden_layer *g = r->g;
    const ssm_sizes need = golden_sizes(r, g->len);
    ssm_real *state = golden_zero_state(&g->state), *dstate = golden_new_state(&g->state, g->dlast);
    ssm_real *dy = golden_reals(g->dy), *dx = test_zeros(g->dx.count), *dparams = test_zeros(r->table.count);
    golden_call k = golden_call_of(r, state);
    k.tape = ssm_memory_of(test_alloc(need.tape, 0), need.tape);
    golden_call_verb(r, g->verbs->record, k, need.work);
    golden_check_run(r, "y of record", state);
    k.state = dstate;
    k.dy = dy;
    k.dx = dx;
    k.dparams = dparams;
    golden_call_verb(r, g->verbs->backward, k, need.work_backward);
    golden_check_grads(r, dx, dparams);
    test_free(k.tape.data, 0);
    test_free(state, 0);
    test_free(dstate, 0);
    test_free(dy, 0);
    test_free(dx, 0);
    test_free(dparams, 0);
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

/* --- tables: name of ours, prefix and name of theirs --- */
#define GOLDEN_WEIGHT(name, p, theirs) {name, GOLDEN(p##_##theirs), GOLDEN(p##_grad_##theirs)}
#define GOLDEN_VALUE(name, array) {name, GOLDEN(array), GOLDEN_NONE}
#define GOLDEN_IO(p) .x = GOLDEN(p##_x), .y = GOLDEN(p##_y), .dy = GOLDEN(p##_dy), .dx = GOLDEN(p##_grad_x)

/* mamba_ssm.modules.mamba_simple.Mamba; dt_rank is the default. */
static const golden_layer golden_mamba_ssm_block = {
    .verbs = &golden_mamba_verbs,
    .config.mamba = {.d_model = GOLD_MAMBA_SSM_BLOCK_D_MODEL, .d_state = GOLD_MAMBA_SSM_BLOCK_D_STATE},
    .len = GOLD_MAMBA_SSM_BLOCK_LEN,
    .width = GOLD_MAMBA_SSM_BLOCK_D_MODEL,
    .state = {GOLD_MAMBA_SSM_BLOCK_BATCH, GOLD_MAMBA_SSM_BLOCK_D_INNER, GOLD_MAMBA_SSM_BLOCK_D_CONV - 1,
              GOLD_MAMBA_SSM_BLOCK_D_STATE},
    .tolerance = GOLDEN_TOL,
    GOLDEN_IO(gold_mamba_ssm_block),
    .conv = GOLDEN(gold_mamba_ssm_block_conv_state),
    .last = GOLDEN(gold_mamba_ssm_block_ssm_state),
    .weights = {
        GOLDEN_WEIGHT("in_proj.weight", gold_mamba_ssm_block, in_proj_weight),
        GOLDEN_WEIGHT("conv1d.weight", gold_mamba_ssm_block, conv1d_weight),
        GOLDEN_WEIGHT("conv1d.bias", gold_mamba_ssm_block, conv1d_bias),
        GOLDEN_WEIGHT("x_proj.weight", gold_mamba_ssm_block, x_proj_weight),
        GOLDEN_WEIGHT("dt_proj.weight", gold_mamba_ssm_block, dt_proj_weight),
        GOLDEN_WEIGHT("dt_proj.bias", gold_mamba_ssm_block, dt_proj_bias),
        GOLDEN_WEIGHT("A_log", gold_mamba_ssm_block, a_log),
        GOLDEN_WEIGHT("D", gold_mamba_ssm_block, d),
        GOLDEN_WEIGHT("out_proj.weight", gold_mamba_ssm_block, out_proj_weight),
    },
};

/* mamba_inner_ref of mamba_ssm with a complex A. */
static const golden_layer golden_mamba_ssm_complex_inner = {
    .verbs = &golden_mamba_verbs,
    .config.mamba = {.d_model = GOLD_MAMBA_SSM_COMPLEX_INNER_D_MODEL, .d_state = GOLD_MAMBA_SSM_COMPLEX_INNER_D_STATE,
                     .dt_rank = GOLD_MAMBA_SSM_COMPLEX_INNER_DT_RANK, .complex_A = 1},
    .len = GOLD_MAMBA_SSM_COMPLEX_INNER_LEN,
    .width = GOLD_MAMBA_SSM_COMPLEX_INNER_D_MODEL,
    .state = {GOLD_MAMBA_SSM_COMPLEX_INNER_BATCH, GOLD_MAMBA_SSM_COMPLEX_INNER_D_INNER,
              GOLD_MAMBA_SSM_COMPLEX_INNER_D_CONV - 1, 2 * GOLD_MAMBA_SSM_COMPLEX_INNER_D_STATE},
    .tolerance = GOLDEN_TOL,
    GOLDEN_IO(gold_mamba_ssm_complex_inner),
    .weights = {
        GOLDEN_WEIGHT("in_proj.weight", gold_mamba_ssm_complex_inner, in_proj_weight),
        GOLDEN_WEIGHT("conv1d.weight", gold_mamba_ssm_complex_inner, conv1d_weight),
        GOLDEN_WEIGHT("conv1d.bias", gold_mamba_ssm_complex_inner, conv1d_bias),
        GOLDEN_WEIGHT("x_proj.weight", gold_mamba_ssm_complex_inner, x_proj_weight),
        GOLDEN_WEIGHT("dt_proj.weight", gold_mamba_ssm_complex_inner, dt_proj_weight),
        GOLDEN_WEIGHT("dt_proj.bias", gold_mamba_ssm_complex_inner, dt_proj_bias),
        GOLDEN_WEIGHT("A_log", gold_mamba_ssm_complex_inner, a_log),
        GOLDEN_WEIGHT("A_imag", gold_mamba_ssm_complex_inner, a_imag),
        GOLDEN_WEIGHT("D", gold_mamba_ssm_complex_inner, d),
        GOLDEN_WEIGHT("out_proj.weight", gold_mamba_ssm_complex_inner, out_proj_weight),
    },
};

/* transformers' FalconMambaMixer and JambaMambaMixer. `P` is `p` in capitals. */
#define GOLDEN_DBC(p, P, norm, eps)                                                                              \
    .verbs = &golden_mamba_verbs,                                                                                \
    .config.mamba = {.d_model = P##_D_MODEL, .d_inner = P##_D_INNER, .d_state = P##_D_STATE, .d_conv = P##_D_CONV, \
                     .dt_rank = P##_DT_RANK, .dbc_norm = norm, .dbc_norm_eps = (ssm_real)eps},                   \
    .len = P##_LEN, .width = P##_D_MODEL,                                                                        \
    .state = {P##_BATCH, P##_D_INNER, P##_D_CONV - 1, P##_D_STATE, 0}, .tolerance = GOLDEN_TOL, GOLDEN_IO(p),    \
    .last = GOLDEN(p##_state)
#define GOLDEN_DBC_WEIGHTS(p)                                                                                    \
    GOLDEN_WEIGHT("in_proj.weight", p, in_proj_weight), GOLDEN_WEIGHT("conv1d.weight", p, conv1d_weight),        \
        GOLDEN_WEIGHT("conv1d.bias", p, conv1d_bias), GOLDEN_WEIGHT("x_proj.weight", p, x_proj_weight),          \
        GOLDEN_WEIGHT("dt_proj.weight", p, dt_proj_weight), GOLDEN_WEIGHT("dt_proj.bias", p, dt_proj_bias),      \
        GOLDEN_WEIGHT("A_log", p, a_log), GOLDEN_WEIGHT("D", p, d), GOLDEN_WEIGHT("out_proj.weight", p, out_proj_weight)

static const golden_layer golden_falcon = {
    GOLDEN_DBC(gold_transformers_dbc_falcon, GOLD_TRANSFORMERS_DBC_FALCON, SSM_DBC_NORM, 1.0 / 1024),
    .weights = {GOLDEN_DBC_WEIGHTS(gold_transformers_dbc_falcon)}};
static const golden_layer golden_jamba = {
    GOLDEN_DBC(gold_transformers_dbc_jamba, GOLD_TRANSFORMERS_DBC_JAMBA, SSM_DBC_NORM_WEIGHTED, 1.0 / 256),
    .weights = {GOLDEN_DBC_WEIGHTS(gold_transformers_dbc_jamba),
                GOLDEN_WEIGHT("dt_layernorm.weight", gold_transformers_dbc_jamba, dt_layernorm_weight),
                GOLDEN_WEIGHT("b_layernorm.weight", gold_transformers_dbc_jamba, b_layernorm_weight),
                GOLDEN_WEIGHT("c_layernorm.weight", gold_transformers_dbc_jamba, c_layernorm_weight)}};

/* transformers' Mamba2Mixer; its cached step was found equal to its forward when the vectors were made. `P` is `p` in
 * capitals. */
#define GOLDEN_MAMBA2(p, P, ...)                                                                            \
    .verbs = &golden_mamba2_verbs,                                                                          \
    .config.mamba2 = {.d_model = P##_D_MODEL, .d_inner = P##_D_INNER, .d_state = P##_D_STATE,               \
                      .headdim = P##_HEADDIM, .n_groups = P##_GROUPS, __VA_ARGS__},                         \
    .len = P##_LEN,                                                                                         \
    .width = P##_D_MODEL,                                                                                   \
    .state = {P##_BATCH, P##_D_INNER, P##_D_CONV - 1, P##_D_STATE,                                          \
              (P##_D_CONV - 1) * 2 * P##_GROUPS * P##_D_STATE},                                             \
    .tolerance = GOLDEN_TOL,                                                                                \
    GOLDEN_IO(p),                                                                                           \
    .last = GOLDEN(p##_state),                                                                              \
    .weights = {                                                                                            \
        GOLDEN_WEIGHT("in_proj.weight", p, in_proj_weight), GOLDEN_WEIGHT("conv1d.weight", p, conv1d_weight), \
        GOLDEN_WEIGHT("conv1d.bias", p, conv1d_bias),       GOLDEN_WEIGHT("dt_bias", p, dt_bias),           \
        GOLDEN_WEIGHT("A_log", p, a_log),                   GOLDEN_WEIGHT("D", p, d),                       \
        GOLDEN_WEIGHT("norm.weight", p, norm_weight),       GOLDEN_WEIGHT("out_proj.weight", p, out_proj_weight), \
    }

static const golden_layer golden_mamba2_block = {
    GOLDEN_MAMBA2(gold_transformers_mamba2_block, GOLD_TRANSFORMERS_MAMBA2_BLOCK, .no_norm = 0)};
static const golden_layer golden_mamba2_groups = {
    GOLDEN_MAMBA2(gold_transformers_mamba2_groups, GOLD_TRANSFORMERS_MAMBA2_GROUPS, .no_norm = 0)};
static const golden_layer golden_mamba2_limited = {
    GOLDEN_MAMBA2(gold_transformers_mamba2_limited, GOLD_TRANSFORMERS_MAMBA2_LIMITED, .dt_limit_min = (ssm_real)0.2,
                  .dt_limit_max = (ssm_real)0.6)};

/* mamba_ssm's Mamba3. Its states are in our order already: one row of `states` channels. */
#define GOLDEN_MAMBA3(p, P, ...)                                                                            \
    .verbs = &golden_mamba3_verbs,                                                                          \
    .config.mamba3 = {.d_model = P##_D_MODEL, .d_inner = P##_D_INNER, .d_state = P##_D_STATE,               \
                      .headdim = P##_HEADDIM, .n_groups = P##_GROUPS, .mimo_rank = P##_RANK, __VA_ARGS__},  \
    .len = P##_LEN,                                                                                         \
    .width = P##_D_MODEL,                                                                                   \
    .state = {P##_BATCH, P##_STATES, 0, 1},                                                                 \
    .tolerance = GOLDEN_TOL,                                                                                \
    GOLDEN_IO(p),                                                                                           \
    .last = GOLDEN(p##_state),                                                                              \
    .dlast = GOLDEN(p##_dlast)
#define GOLDEN_MAMBA3_WEIGHTS(p)                                                                             \
    GOLDEN_WEIGHT("in_proj.weight", p, in_proj_weight), GOLDEN_WEIGHT("dt_bias", p, dt_bias),               \
        GOLDEN_WEIGHT("B_bias", p, b_bias), GOLDEN_WEIGHT("C_bias", p, c_bias),                             \
        GOLDEN_WEIGHT("B_norm.weight", p, b_norm_weight), GOLDEN_WEIGHT("C_norm.weight", p, c_norm_weight), \
        GOLDEN_WEIGHT("D", p, d), GOLDEN_WEIGHT("out_proj.weight", p, out_proj_weight)
#define GOLDEN_MAMBA3_RANKS(p) \
    GOLDEN_WEIGHT("mimo_x", p, mimo_x), GOLDEN_WEIGHT("mimo_z", p, mimo_z), GOLDEN_WEIGHT("mimo_o", p, mimo_o)

static const golden_layer golden_mamba3_siso = {
    GOLDEN_MAMBA3(gold_mamba_ssm_mamba3_siso, GOLD_MAMBA_SSM_MAMBA3_SISO, .out_norm = 0),
    .weights = {GOLDEN_MAMBA3_WEIGHTS(gold_mamba_ssm_mamba3_siso)}};
static const golden_layer golden_mamba3_groups = {
    GOLDEN_MAMBA3(gold_mamba_ssm_mamba3_groups, GOLD_MAMBA_SSM_MAMBA3_GROUPS, .out_norm = 1, .rope_fraction = 1),
    .weights = {GOLDEN_MAMBA3_WEIGHTS(gold_mamba_ssm_mamba3_groups),
                GOLDEN_WEIGHT("norm.weight", gold_mamba_ssm_mamba3_groups, norm_weight)}};
static const golden_layer golden_mamba3_mimo = {
    GOLDEN_MAMBA3(gold_mamba_ssm_mamba3_mimo, GOLD_MAMBA_SSM_MAMBA3_MIMO, .out_norm = 0),
    .weights = {GOLDEN_MAMBA3_WEIGHTS(gold_mamba_ssm_mamba3_mimo), GOLDEN_MAMBA3_RANKS(gold_mamba_ssm_mamba3_mimo)}};
static const golden_layer golden_mamba3_mimo_norm = {
    GOLDEN_MAMBA3(gold_mamba_ssm_mamba3_mimo_norm, GOLD_MAMBA_SSM_MAMBA3_MIMO_NORM, .out_norm = 1, .rope_fraction = 1),
    .weights = {GOLDEN_MAMBA3_WEIGHTS(gold_mamba_ssm_mamba3_mimo_norm),
                GOLDEN_MAMBA3_RANKS(gold_mamba_ssm_mamba3_mimo_norm),
                GOLDEN_WEIGHT("norm.weight", gold_mamba_ssm_mamba3_mimo_norm, norm_weight)}};

/* transformers' RecurrentGemmaRecurrentBlock and RecurrentGemmaRglru, and lrnnx's RGLRU. Their states are in our order
 * already: one row of `states` channels. `P` is `p` in capitals. */
#define GOLDEN_RGLRU(p, P, ...)                                                                                  \
    .verbs = &golden_rglru_verbs, .config.rglru = {.d_model = P##_D_MODEL, __VA_ARGS__}, .len = P##_LEN,         \
    .width = P##_D_MODEL, .state = {P##_BATCH, P##_STATES, 0, 1}, .tolerance = GOLDEN_TOL, GOLDEN_IO(p),         \
    .last = GOLDEN(p##_state)
#define GOLDEN_RGLRU_UNIT(p, q, in)                                                                              \
    GOLDEN_WEIGHT(q "recurrent_param", p, in##recurrent_param),                                                  \
        GOLDEN_WEIGHT(q "input_gate_weight", p, in##input_gate_weight),                                          \
        GOLDEN_WEIGHT(q "input_gate_bias", p, in##input_gate_bias),                                              \
        GOLDEN_WEIGHT(q "recurrent_gate_weight", p, in##recurrent_gate_weight),                                  \
        GOLDEN_WEIGHT(q "recurrent_gate_bias", p, in##recurrent_gate_bias)
#define GOLDEN_RGLRU_BLOCK(p)                                                                                    \
    GOLDEN_WEIGHT("linear_y.weight", p, linear_y_weight), GOLDEN_WEIGHT("linear_x.weight", p, linear_x_weight),  \
        GOLDEN_WEIGHT("linear_out.weight", p, linear_out_weight),                                                \
        GOLDEN_WEIGHT("conv_1d.weight", p, conv_1d_weight), GOLDEN_WEIGHT("conv_1d.bias", p, conv_1d_bias),      \
        GOLDEN_RGLRU_UNIT(p, "rg_lru.", rg_lru_)
#define GOLDEN_RGLRU_BIASES(p)                                                                                   \
    GOLDEN_WEIGHT("linear_y.bias", p, linear_y_bias), GOLDEN_WEIGHT("linear_x.bias", p, linear_x_bias),          \
        GOLDEN_WEIGHT("linear_out.bias", p, linear_out_bias)

static const golden_layer golden_rglru_block = {
    GOLDEN_RGLRU(gold_transformers_rglru_block, GOLD_TRANSFORMERS_RGLRU_BLOCK,
                 .lru_width = GOLD_TRANSFORMERS_RGLRU_BLOCK_LRU_WIDTH, .num_heads = GOLD_TRANSFORMERS_RGLRU_BLOCK_HEADS),
    .dlast = GOLDEN(gold_transformers_rglru_block_dlast),
    .weights = {GOLDEN_RGLRU_BLOCK(gold_transformers_rglru_block), GOLDEN_RGLRU_BIASES(gold_transformers_rglru_block)}};
static const golden_layer golden_rglru_dense = {
    GOLDEN_RGLRU(gold_transformers_rglru_dense, GOLD_TRANSFORMERS_RGLRU_DENSE, .no_block = 0),
    .dlast = GOLDEN(gold_transformers_rglru_dense_dlast),
    .weights = {GOLDEN_RGLRU_BLOCK(gold_transformers_rglru_dense), GOLDEN_RGLRU_BIASES(gold_transformers_rglru_dense)}};
static const golden_layer golden_rglru_unit = {
    GOLDEN_RGLRU(gold_transformers_rglru_unit, GOLD_TRANSFORMERS_RGLRU_UNIT,
                 .num_heads = GOLD_TRANSFORMERS_RGLRU_UNIT_HEADS, .no_block = 1),
    .dlast = GOLDEN(gold_transformers_rglru_unit_dlast),
    .weights = {GOLDEN_RGLRU_UNIT(gold_transformers_rglru_unit, "", )}};
static const golden_layer golden_lrnnx_rglru = {
    GOLDEN_RGLRU(gold_lrnnx_rglru_block, GOLD_LRNNX_RGLRU_BLOCK, .exact_gelu = 1, .no_reset = 1, .no_bias = 1),
    .weights = {GOLDEN_RGLRU_BLOCK(gold_lrnnx_rglru_block)}};
static const golden_layer golden_lrnnx_rglru_expand = {
    GOLDEN_RGLRU(gold_lrnnx_rglru_expand, GOLD_LRNNX_RGLRU_EXPAND, .lru_width = GOLD_LRNNX_RGLRU_EXPAND_LRU_WIDTH,
                 .exact_gelu = 1, .no_reset = 1, .no_bias = 1),
    .weights = {GOLDEN_RGLRU_BLOCK(gold_lrnnx_rglru_expand)}};

/* zerfoo MambaBlock: E is given, not a multiple of d_model; no bias of the step, said by the config
 * or by the preset. */
static void golden_zerfoo_no_bias(golden_config *c)
{
    c->mamba.no_dt_bias = 1;
}

static void golden_zerfoo_preset(golden_config *c)
{
    ssm_mamba_preset(&c->mamba, SSM_PRESET_ZERFOO);
}

#define GOLDEN_ZERFOO                                                                           \
    .verbs = &golden_mamba_verbs,                                                               \
    .config.mamba = {.d_model = GOLD_ZERFOO_BLOCK_D_MODEL,                                      \
                     .d_inner = GOLD_ZERFOO_BLOCK_D_INNER,                                      \
                     .d_state = GOLD_ZERFOO_BLOCK_D_STATE,                                      \
                     .dt_rank = GOLD_ZERFOO_BLOCK_DT_RANK,                                      \
                     .d_conv = GOLD_ZERFOO_BLOCK_D_CONV},                                       \
    .len = GOLD_ZERFOO_BLOCK_LEN,                                                               \
    .width = GOLD_ZERFOO_BLOCK_D_MODEL,                                                         \
    .state = {GOLD_ZERFOO_BLOCK_BATCH, GOLD_ZERFOO_BLOCK_D_INNER, GOLD_ZERFOO_BLOCK_D_CONV - 1, \
              GOLD_ZERFOO_BLOCK_D_STATE},                                                       \
    .tolerance = GOLDEN_TOL,                                                                    \
    GOLDEN_IO(gold_zerfoo_block),                                                               \
    .last = GOLDEN(gold_zerfoo_block_last),                                                     \
    .weights = {                                                                                \
        GOLDEN_WEIGHT("in_proj.weight", gold_zerfoo_block, in_proj),                            \
        GOLDEN_WEIGHT("conv1d.weight", gold_zerfoo_block, conv_weight),                         \
        GOLDEN_WEIGHT("conv1d.bias", gold_zerfoo_block, conv_bias),                             \
        GOLDEN_WEIGHT("x_proj.weight", gold_zerfoo_block, x_proj),                              \
        GOLDEN_WEIGHT("dt_proj.weight", gold_zerfoo_block, dt_proj),                            \
        GOLDEN_WEIGHT("A_log", gold_zerfoo_block, a_log),                                       \
        GOLDEN_WEIGHT("D", gold_zerfoo_block, d),                                               \
        GOLDEN_WEIGHT("out_proj.weight", gold_zerfoo_block, out_proj),                          \
    }

static const golden_layer golden_zerfoo_block = {GOLDEN_ZERFOO, .configure = golden_zerfoo_no_bias};
static const golden_layer golden_zerfoo_block_preset = {GOLDEN_ZERFOO, .configure = golden_zerfoo_preset};

/* zeta.nn.modules.ssm.SSM: the preset, dt_rank free. */
static void golden_zeta(golden_config *c)
{
    ssm_s6_preset(&c->s6, SSM_PRESET_ZETA);
}

/* Its pscan, true or false: the long vector has several chunks for the time-parallel scans. */
static void golden_zeta_sequential(golden_config *c)
{
    golden_zeta(c);
    c->s6.scan = SSM_SCAN_SEQUENTIAL;
}

static void golden_zeta_chunked(golden_config *c)
{
    golden_zeta(c);
    c->s6.scan = SSM_SCAN_CHUNKED;
}

static void golden_zeta_blelloch(golden_config *c)
{
    golden_zeta(c);
    c->s6.scan = SSM_SCAN_BLELLOCH;
}

#define GOLDEN_ZETA(P, p, preset)                                                    \
    .verbs = &golden_s6_verbs,                                                       \
    .config.s6 = {.d_model = P##_DIM, .d_state = P##_STATE, .dt_rank = P##_DT_RANK}, \
    .configure = preset,                                                             \
    .len = P##_LEN,                                                                  \
    .width = P##_DIM,                                                                \
    .state = {P##_BATCH, P##_DIM, 0, P##_STATE},                                     \
    .tolerance = GOLDEN_TOL,                                                         \
    GOLDEN_IO(p),                                                                    \
    .last = GOLDEN(p##_last),                                                        \
    .weights = {                                                                     \
        GOLDEN_WEIGHT("x_proj.weight", p, deltabc_layer_weight),                     \
        GOLDEN_WEIGHT("dt_proj.weight", p, dt_proj_layer_weight),                    \
        GOLDEN_WEIGHT("dt_proj.bias", p, dt_proj_layer_bias),                        \
        GOLDEN_WEIGHT("A_log", p, a_log),                                            \
        GOLDEN_WEIGHT("D", p, d),                                                    \
    }

static const golden_layer golden_zeta_ssm = {GOLDEN_ZETA(GOLD_ZETA_SSM, gold_zeta_ssm, golden_zeta)};
static const golden_layer golden_zeta_ssm_pow2 = {GOLDEN_ZETA(GOLD_ZETA_SSM_POW2, gold_zeta_ssm_pow2, golden_zeta)};
static const golden_layer golden_zeta_long_sequential = {
    GOLDEN_ZETA(GOLD_ZETA_SSM_LONG, gold_zeta_ssm_long, golden_zeta_sequential)};
static const golden_layer golden_zeta_long_chunked = {
    GOLDEN_ZETA(GOLD_ZETA_SSM_LONG, gold_zeta_ssm_long, golden_zeta_chunked)};
static const golden_layer golden_zeta_long_blelloch = {
    GOLDEN_ZETA(GOLD_ZETA_SSM_LONG, gold_zeta_ssm_long, golden_zeta_blelloch)};

/* tracetorch.ssm: the presets. dt_rank, where it is not traceTorch's default, follows them. */
static void golden_tracetorch_configure_s6(golden_config *c)
{
    ssm_s6_preset(&c->s6, SSM_PRESET_TRACETORCH);
    c->s6.dt_rank = GOLD_TRACETORCH_S6_DT_RANK;
}

static void golden_tracetorch_configure_mamba(golden_config *c)
{
    ssm_mamba_preset(&c->mamba, SSM_PRESET_TRACETORCH);
}

static void golden_tracetorch_configure_mamba_k1(golden_config *c)
{
    ssm_mamba_preset(&c->mamba, SSM_PRESET_TRACETORCH);
    c->mamba.dt_rank = GOLD_TRACETORCH_MAMBA_K1_DT_RANK;
}

static const golden_layer golden_tracetorch_s6 = {
    .verbs = &golden_s6_verbs,
    .config.s6 = {.d_model = GOLD_TRACETORCH_S6_DIM, .d_state = GOLD_TRACETORCH_S6_STATE},
    .configure = golden_tracetorch_configure_s6,
    .len = GOLD_TRACETORCH_S6_LEN,
    .width = GOLD_TRACETORCH_S6_DIM,
    .state = {GOLD_TRACETORCH_S6_BATCH, GOLD_TRACETORCH_S6_DIM, 0, GOLD_TRACETORCH_S6_STATE},
    .time_major = 1,
    .tolerance = GOLDEN_TOL_TRACETORCH,
    GOLDEN_IO(gold_tracetorch_s6),
    .last = GOLDEN(gold_tracetorch_s6_last),
    .dlast = GOLDEN(gold_tracetorch_s6_dlast),
    .weights = {
        GOLDEN_WEIGHT("x_proj.weight", gold_tracetorch_s6, x_proj_weight),
        GOLDEN_WEIGHT("dt_proj.weight", gold_tracetorch_s6, dt_proj_weight),
        GOLDEN_WEIGHT("dt_proj.bias", gold_tracetorch_s6, dt_proj_bias),
        GOLDEN_WEIGHT("A_log", gold_tracetorch_s6, a_log),
        GOLDEN_WEIGHT("D", gold_tracetorch_s6, d),
    },
};

#define GOLDEN_TRACETORCH_MAMBA(P, p)                                               \
    .verbs = &golden_mamba_verbs,                                                   \
    .config.mamba = {.d_model = P##_DIM, .d_state = P##_STATE, .d_conv = P##_CONV}, \
    .len = P##_LEN,                                                                 \
    .width = P##_DIM,                                                               \
    .state = {P##_BATCH, P##_DIM, P##_CONV - 1, P##_STATE},                         \
    .time_major = 1,                                                                \
    .tolerance = GOLDEN_TOL_TRACETORCH,                                             \
    GOLDEN_IO(p),                                                                   \
    .last = GOLDEN(p##_last),                                                       \
    .dlast = GOLDEN(p##_dlast)
#define GOLDEN_TRACETORCH_WEIGHTS(p)                    \
    GOLDEN_WEIGHT("in_proj.weight", p, in_proj_weight), \
    GOLDEN_WEIGHT("x_proj.weight", p, ssm_proj_weight), \
    GOLDEN_WEIGHT("dt_proj.weight", p, dt_proj_weight), \
    GOLDEN_WEIGHT("dt_proj.bias", p, dt_proj_bias),     \
    GOLDEN_WEIGHT("A_log", p, a_log),                   \
    GOLDEN_WEIGHT("D", p, d),                           \
    GOLDEN_WEIGHT("out_proj.weight", p, out_proj_weight)

static const golden_layer golden_tracetorch_mamba = {
    GOLDEN_TRACETORCH_MAMBA(GOLD_TRACETORCH_MAMBA, gold_tracetorch_mamba),
    .configure = golden_tracetorch_configure_mamba,
    .conv = GOLDEN(gold_tracetorch_mamba_conv_buffer),
    .weights = {
        GOLDEN_TRACETORCH_WEIGHTS(gold_tracetorch_mamba),
        GOLDEN_WEIGHT("conv1d.weight", gold_tracetorch_mamba, conv_weights),
        GOLDEN_WEIGHT("conv1d.bias", gold_tracetorch_mamba, conv_bias),
    },
};
/* Kernel 1: no convolution, no rows for it. */
static const golden_layer golden_tracetorch_mamba_k1 = {
    GOLDEN_TRACETORCH_MAMBA(GOLD_TRACETORCH_MAMBA_K1, gold_tracetorch_mamba_k1),
    .configure = golden_tracetorch_configure_mamba_k1,
    .weights = {GOLDEN_TRACETORCH_WEIGHTS(gold_tracetorch_mamba_k1)},
};

/* irithyll SelectiveSSM. Weights of the cases new_* are those that SelectiveSSM::new draws; what
 * is left, log_a, b_delta and d_skip, must come right from our init. */
#define GOLDEN_IRITHYLL(p)                                                   \
    .verbs = &golden_selective_verbs,                                        \
    .len = GOLD_IRITHYLL_WEIGHTS_LEN,                                        \
    .width = GOLD_IRITHYLL_WEIGHTS_DIM,                                      \
    .state = {1, GOLD_IRITHYLL_WEIGHTS_DIM, 0, GOLD_IRITHYLL_WEIGHTS_STATE}, \
    .tolerance = GOLDEN_TOL,                                                 \
    .x = GOLDEN(gold_irithyll_weights_x),                                    \
    .y = GOLDEN(p##_y),                                                      \
    .last = GOLDEN(p##_state)
#define GOLDEN_IRITHYLL_CONFIG .d_model = GOLD_IRITHYLL_WEIGHTS_DIM, .d_state = GOLD_IRITHYLL_WEIGHTS_STATE
#define GOLDEN_IRITHYLL_WEIGHTS                             \
    GOLDEN_VALUE("w_delta", gold_irithyll_weights_w_delta), \
    GOLDEN_VALUE("b_delta", gold_irithyll_weights_b_delta), \
    GOLDEN_VALUE("w_b", gold_irithyll_weights_w_b),         \
    GOLDEN_VALUE("w_c", gold_irithyll_weights_w_c),         \
    GOLDEN_VALUE("d_skip", gold_irithyll_weights_d_skip)
#define GOLDEN_IRITHYLL_NEW                                   \
    GOLDEN_VALUE("w_delta", gold_irithyll_new_mamba_w_delta), \
    GOLDEN_VALUE("w_b", gold_irithyll_new_mamba_w_b),         \
    GOLDEN_VALUE("w_c", gold_irithyll_new_mamba_w_c)

static const golden_layer golden_irithyll_mamba = {
    GOLDEN_IRITHYLL(gold_irithyll_mamba),
    .config.selective = {GOLDEN_IRITHYLL_CONFIG, .integer_A = 1},
    .weights = {GOLDEN_IRITHYLL_WEIGHTS, GOLDEN_VALUE("log_a", gold_irithyll_mamba_log_a)},
};
static const golden_layer golden_irithyll_s4d_inv = {
    GOLDEN_IRITHYLL(gold_irithyll_s4d_inv),
    .config.selective = {GOLDEN_IRITHYLL_CONFIG},
    .weights = {GOLDEN_IRITHYLL_WEIGHTS, GOLDEN_VALUE("log_a", gold_irithyll_s4d_inv_log_a)},
};
static const golden_layer golden_irithyll_new_mamba = {
    GOLDEN_IRITHYLL(gold_irithyll_new_mamba),
    .config.selective = {GOLDEN_IRITHYLL_CONFIG, .integer_A = 1},
    .from_init = 1,
    .weights = {GOLDEN_IRITHYLL_NEW},
};
static const golden_layer golden_irithyll_new_s4d_inv = {
    GOLDEN_IRITHYLL(gold_irithyll_new_s4d_inv),
    .config.selective = {GOLDEN_IRITHYLL_CONFIG},
    .from_init = 1,
    .weights = {GOLDEN_IRITHYLL_NEW},
};

/*=============================================================================
 * irithyll: what is not a layer
 *===========================================================================*/
/* log_a as init leaves it. */
static void golden_check_log_a(const golden_layer *g, golden_array want)
{
    golden_run r;
    const ssm_real *log_a;
    golden_open(&r, g);
    CHECK_OK(ssm_selective_init(&r.config.selective, r.params, test_seed));
    log_a = golden_find(&r.table, r.params, "log_a", want.count);
    if (log_a) golden_close("log_a", log_a, want, GOLDEN_TOL);
    golden_shut(&r);
}

static void golden_irithyll_log_a(void)
{
    const golden_array integer = GOLDEN(gold_irithyll_mamba_log_a);
    const golden_array inverse = GOLDEN(gold_irithyll_s4d_inv_log_a);
    golden_check_log_a(&golden_irithyll_mamba, integer);
    golden_check_log_a(&golden_irithyll_s4d_inv, inverse);
}

/* zoh_discretize and bilinear_discretize, pairs with |a| < 1e-12 and a = 0 among them. */
static void golden_irithyll_discretize(void)
{
    size_t i;
    for (i = 0; i < GOLD_IRITHYLL_DISCRETIZE_COUNT; ++i) {
        const ssm_real a = (ssm_real)gold_irithyll_discretize_a[i];
        const ssm_real delta = (ssm_real)gold_irithyll_discretize_delta[i];
        const ssm_real zoh = ssm__decay(SSM_DISC_ZOH, a, delta);
        const ssm_real bilinear = ssm__decay(SSM_DISC_BILINEAR, a, delta);
        const ssm_real zoh_b = ssm__discretise(SSM_DISC_ZOH, a, delta, delta, 0, 1).b;
        const ssm_real bilinear_b = ssm__discretise(SSM_DISC_BILINEAR, a, delta, delta, 0, 1).b;
        CHECK_CLOSE(&zoh, gold_irithyll_discretize_zoh_a + i, 1, GOLDEN_TOL);
        CHECK_CLOSE(&zoh_b, gold_irithyll_discretize_zoh_b + i, 1, GOLDEN_TOL);
        CHECK_CLOSE(&zoh_b, gold_irithyll_discretize_zoh_b_published + i, 1, GOLDEN_TOL);
        CHECK_CLOSE(&bilinear, gold_irithyll_discretize_bilinear_a + i, 1, GOLDEN_TOL);
        CHECK_CLOSE(&bilinear_b, gold_irithyll_discretize_bilinear_b + i, 1, GOLDEN_TOL);
    }
}

/* DiagonalSSM is a scan of one channel with constant delta, A = -(n + 1), B and C. */
static void golden_irithyll_diagonal(void)
{
    ssm_real *x = test_reals(gold_irithyll_diagonal_x, GOLD_IRITHYLL_DIAGONAL_LEN);
    ssm_real *b = test_reals(gold_irithyll_diagonal_b, GOLD_IRITHYLL_DIAGONAL_STATE);
    ssm_real *c = test_reals(gold_irithyll_diagonal_c, GOLD_IRITHYLL_DIAGONAL_STATE);
    ssm_real *a = test_zeros(GOLD_IRITHYLL_DIAGONAL_STATE), *last = test_zeros(GOLD_IRITHYLL_DIAGONAL_STATE);
    const ssm_real delta = (ssm_real)gold_irithyll_diagonal_delta[0], d = (ssm_real)gold_irithyll_diagonal_d_skip[0];
    ssm_selective_scan s = {0};
    size_t n;
    for (n = 0; n < GOLD_IRITHYLL_DIAGONAL_STATE; ++n) a[n] = -(ssm_real)(n + 1);
    s.batch = 1;
    s.len = GOLD_IRITHYLL_DIAGONAL_LEN;
    s.dim = 1;
    s.d_state = GOLD_IRITHYLL_DIAGONAL_STATE;
    s.disc = SSM_DISC_ZOH;
    s.u = ssm_in_btc(x, s.len, 1);
    s.delta.data = &delta; /* strides 0: the same step for all */
    s.A = ssm_in_cn(a, s.d_state);
    s.B = ssm_in_cn(b, s.d_state);
    s.C = ssm_in_cn(c, s.d_state);
    s.D = ssm_in_c(&d);
    s.h_last = ssm_out_like(last, ssm_in_bcn(last, 1, s.d_state));
    s.y = ssm_out_like(x, s.u);
    CHECK_OK(ssm_selective_scan_forward(&s, ssm_memory_of(NULL, 0)));
    CHECK_CLOSE(x, gold_irithyll_diagonal_y, GOLD_IRITHYLL_DIAGONAL_LEN, GOLDEN_TOL);
    CHECK_CLOSE(last, gold_irithyll_diagonal_state, GOLD_IRITHYLL_DIAGONAL_STATE, GOLDEN_TOL);
    test_free(x, 0);
    test_free(a, 0);
    test_free(b, 0);
    test_free(c, 0);
    test_free(last, 0);
}

/* Of [rows][D], column `channel` is all `value`, or drawn again if `value` is NaN; the other columns
 * are as before. */
static void golden_check_column(const char *what, const ssm_real *now, const ssm_real *before, size_t count,
                                size_t channel, double value)
{
    size_t i;
    for (i = 0; i < count; ++i) {
        const double got = (double)now[i];
        const int same = memcmp(now + i, before + i, sizeof *now) == 0;
        const int right = i % GOLD_IRITHYLL_WEIGHTS_DIM != channel ? same
                          : value == value                         ? got == value
                                                                   : !same && fabs(got) < 1;
        if (!right)
            test_fail(__FILE__, __LINE__, "%s[%lu]: %g became %g", what, (unsigned long)i, (double)before[i], got);
    }
}

enum {
    GOLDEN_STREAMS = 2,
    GOLDEN_CHANNEL = 2,
    GOLDEN_NO_CHANNEL = GOLD_IRITHYLL_WEIGHTS_DIM /* one too far: no column is this one */
};

static const struct {
    const char *name;
    size_t channel;
    double value;
} golden_renewed[] = {
    {"w_delta", GOLDEN_CHANNEL, NAN}, {"w_b", GOLDEN_CHANNEL, NAN},        {"w_c", GOLDEN_CHANNEL, NAN},
    {"d_skip", GOLDEN_CHANNEL, 1},    {"b_delta", GOLDEN_NO_CHANNEL, 0}, {"log_a", GOLDEN_NO_CHANNEL, 0},
};

static void golden_check_renewed(const ssm_params *table, const ssm_real *now, const ssm_real *before)
{
    size_t i;
    CHECK(table->rows == sizeof golden_renewed / sizeof golden_renewed[0]);
    for (i = 0; i < sizeof golden_renewed / sizeof golden_renewed[0]; ++i) {
        const ssm_param *row = ssm_params_find(table, golden_renewed[i].name);
        CHECK(row->count > 0);
        if (row->count)
            golden_check_column(row->name, now + row->offset, before + row->offset, row->count,
                                golden_renewed[i].channel, golden_renewed[i].value);
    }
}

/* SelectiveSSM::reinitialize_channel of irithyll-core 1.0. Its generator is not ours, so there is
 * no vector: the channel's weights are new, its skip 1, its state 0, and nothing else changes. */
static void golden_irithyll_reinitialize_channel(void)
{
    const ssm_selective_config *config = &golden_irithyll_s4d_inv.config.selective;
    const size_t count = GOLDEN_STREAMS * golden_state_count(&golden_irithyll_s4d_inv.state);
    ssm_real *params, *state, *old_state;
    ssm_rng rng = {test_seed};
    golden_run r;
    golden_open(&r, &golden_irithyll_s4d_inv);
    params = test_copy(r.params, r.table.count);
    old_state = test_normal(&rng, count, 1);
    state = test_copy(old_state, count);
    CHECK_STATUS(ssm_selective_reinitialize_channel(config, params, state, GOLDEN_STREAMS, GOLDEN_NO_CHANNEL, 1),
                 SSM_ERR_CONFIG);
    CHECK_SAME(params, r.params, r.table.count);
    CHECK_SAME(state, old_state, count);
    CHECK_OK(ssm_selective_reinitialize_channel(config, params, state, GOLDEN_STREAMS, GOLDEN_CHANNEL, 1));
    golden_check_renewed(&r.table, params, r.params);
    golden_check_column("state", state, old_state, count, GOLDEN_CHANNEL, 0);
    test_free(params, 0);
    test_free(state, 0);
    test_free(old_state, 0);
    golden_shut(&r);
}

/*=============================================================================
 * A language model: MambaForCausalLM of transformers, two layers
 *===========================================================================*/
enum {
    GOLDEN_LM_BATCH = GOLD_TRANSFORMERS_LM_LM_BATCH,
    GOLDEN_LM_LEN = GOLD_TRANSFORMERS_LM_LM_LEN,
    GOLDEN_LM_STEPS = GOLD_TRANSFORMERS_LM_LM_STEPS,
    GOLDEN_LM_VOCAB = GOLD_TRANSFORMERS_LM_LM_VOCAB,
    GOLDEN_LM_WIDTH = GOLD_TRANSFORMERS_LM_LM_D_MODEL,
    GOLDEN_LM_LAYERS = GOLD_TRANSFORMERS_LM_LM_LAYERS,
    GOLDEN_LM_STATE_WIDTH = GOLD_TRANSFORMERS_LM_LM_BATCH * GOLD_TRANSFORMERS_LM_LM_D_INNER
};

static const golden_state golden_lm_state = {GOLD_TRANSFORMERS_LM_LM_BATCH, GOLD_TRANSFORMERS_LM_LM_D_INNER,
                                             GOLD_TRANSFORMERS_LM_LM_D_CONV - 1, GOLD_TRANSFORMERS_LM_LM_D_STATE};

/* Their mixers have `mixer.` between the layer's name and the parameter's; ours have no such step. */
#define GOLDEN_LM_ROW(name, theirs) \
    {name, GOLDEN(gold_transformers_lm_lm_##theirs), GOLDEN(gold_transformers_lm_lm_grad_##theirs)}
#define GOLDEN_LM_WEIGHT(i, name, theirs) \
    GOLDEN_LM_ROW("backbone.layers." #i "." name, backbone_layers_##i##_##theirs)
#define GOLDEN_LM_LAYER(i)                                       \
    GOLDEN_LM_WEIGHT(i, "norm.weight", norm_weight),             \
    GOLDEN_LM_WEIGHT(i, "in_proj.weight", mixer_in_proj_weight), \
    GOLDEN_LM_WEIGHT(i, "conv1d.weight", mixer_conv1d_weight),   \
    GOLDEN_LM_WEIGHT(i, "conv1d.bias", mixer_conv1d_bias),       \
    GOLDEN_LM_WEIGHT(i, "x_proj.weight", mixer_x_proj_weight),   \
    GOLDEN_LM_WEIGHT(i, "dt_proj.weight", mixer_dt_proj_weight), \
    GOLDEN_LM_WEIGHT(i, "dt_proj.bias", mixer_dt_proj_bias),     \
    GOLDEN_LM_WEIGHT(i, "A_log", mixer_a_log),                   \
    GOLDEN_LM_WEIGHT(i, "D", mixer_d),                           \
    GOLDEN_LM_WEIGHT(i, "out_proj.weight", mixer_out_proj_weight)

static const golden_weight golden_lm_weights[] = {
    GOLDEN_LM_ROW("backbone.embeddings.weight", backbone_embeddings_weight),
    GOLDEN_LM_LAYER(0),
    GOLDEN_LM_LAYER(1),
    GOLDEN_LM_ROW("backbone.norm_f.weight", backbone_norm_f_weight),
    {NULL, GOLDEN_NONE, GOLDEN_NONE},
};

static const ssm_mamba_config golden_lm_config = {
    .d_model = GOLDEN_LM_WIDTH,
    .d_state = GOLD_TRANSFORMERS_LM_LM_D_STATE,
    .pre_norm = 1,
    .residual = 1,
};

typedef struct golden_lm {
    ssm_param rows[(GOLDEN_LM_LAYERS + 2) * SSM_PARAMS_MAX];
    ssm_params table;
    ssm_real *params;
    ssm_mamba layer[GOLDEN_LM_LAYERS];
    size_t start[GOLDEN_LM_LAYERS]; /* of a layer's parameters */
    void *bound[GOLDEN_LM_LAYERS];
    ssm_norm norm;
    ssm_linear head; /* its weight is the embedding */
    ssm_real *packed;
    /* of the last run, [batch][len][...] */
    ssm_real block0[GOLDEN_LM_BATCH * GOLDEN_LM_LEN * GOLDEN_LM_WIDTH];
    ssm_real hidden[GOLDEN_LM_BATCH * GOLDEN_LM_LEN * GOLDEN_LM_WIDTH];
    ssm_real logits[GOLDEN_LM_BATCH * GOLDEN_LM_LEN * GOLDEN_LM_VOCAB];
} golden_lm;

static ssm_sizes golden_lm_sizes(size_t len)
{
    ssm_seqs seqs = {0};
    ssm_sizes need = {0};
    seqs.batch = GOLDEN_LM_BATCH;
    seqs.len = len;
    CHECK_OK(ssm_mamba_sizes(&golden_lm_config, &seqs, &need));
    return need;
}

/* One table and one flat array for the whole model; start[i] is where layer i begins. */
static void golden_lm_open_params(golden_lm *m)
{
    static const char *const prefix[GOLDEN_LM_LAYERS] = {"backbone.layers.0.", "backbone.layers.1."};
    size_t i;
    m->table.row = m->rows;
    m->table.capacity = sizeof m->rows / sizeof m->rows[0];
    CHECK_OK(ssm_linear_params(GOLDEN_LM_WIDTH, GOLDEN_LM_VOCAB, 0, "backbone.embeddings.", &m->table));
    for (i = 0; i < GOLDEN_LM_LAYERS; ++i) {
        m->start[i] = m->table.count;
        CHECK_OK(ssm_mamba_params(&golden_lm_config, prefix[i], &m->table));
    }
    CHECK_OK(ssm_norm_params(GOLDEN_LM_WIDTH, "backbone.norm_f.", &m->table));
    m->params = test_zeros(m->table.count);
    CHECK(golden_load_all(&m->table, m->params, golden_lm_weights) == m->table.rows);
}

static void golden_lm_open(golden_lm *m)
{
    const size_t bound = golden_lm_sizes(1).bound;
    size_t bytes = 0, i;
    memset(m, 0, sizeof *m);
    golden_lm_open_params(m);
    for (i = 0; i < GOLDEN_LM_LAYERS; ++i) {
        m->bound[i] = test_alloc(bound, 0);
        CHECK_OK(ssm_mamba_bind(&m->layer[i], &golden_lm_config, m->params + m->start[i],
                                ssm_memory_of(m->bound[i], bound)));
    }
    m->norm.dim = GOLDEN_LM_WIDTH;
    m->norm.weight = golden_find(&m->table, m->params, "backbone.norm_f.weight", GOLDEN_LM_WIDTH);
    m->head.in = GOLDEN_LM_WIDTH;
    m->head.out = GOLDEN_LM_VOCAB;
    m->head.weight =
        golden_find(&m->table, m->params, "backbone.embeddings.weight", GOLDEN_LM_VOCAB * GOLDEN_LM_WIDTH);
    CHECK_OK(ssm_linear_pack_size(&m->head, &bytes));
    m->packed = (ssm_real *)test_alloc(bytes, 0);
    CHECK_OK(ssm_linear_pack(&m->head, ssm_memory_of(m->packed, bytes)));
    m->head.packed = m->packed;
}

static void golden_lm_shut(golden_lm *m)
{
    size_t i;
    for (i = 0; i < GOLDEN_LM_LAYERS; ++i) test_free(m->bound[i], 0);
    test_free(m->packed, 0);
    test_free(m->params, 0);
}

/* x in place through layer i: one step, or a sequence, from state[i] or, without, from nothing. */
static void golden_lm_layer(const golden_lm *m, size_t i, ssm_real *const *state, ssm_real *x, size_t len)
{
    const ssm_sizes need = golden_lm_sizes(len);
    const size_t bytes = need.work + (state ? 0 : need.state);
    void *work = test_alloc(bytes, 0);
    ssm_seqs seqs = {0};
    seqs.batch = GOLDEN_LM_BATCH;
    seqs.len = len;
    if (state && len == 1)
        CHECK_OK(ssm_mamba_step(&m->layer[i], state[i], x, x, seqs.batch, ssm_memory_of(work, bytes)));
    else CHECK_OK(ssm_mamba_forward(&m->layer[i], state ? state[i] : NULL, x, x, &seqs, ssm_memory_of(work, bytes)));
    test_free(work, 0);
}

/* ids [batch][len] -> block0, hidden, logits. */
static void golden_lm_embed(const golden_lm *m, const int *ids, ssm_real *x, size_t rows)
{
    size_t i;
    for (i = 0; i < rows; ++i)
        memcpy(x + i * GOLDEN_LM_WIDTH, m->head.weight + ids[i] * GOLDEN_LM_WIDTH, GOLDEN_LM_WIDTH * sizeof *x);
}

static void golden_lm_run(golden_lm *m, ssm_real *const *state, const int *ids, size_t len)
{
    const size_t rows = GOLDEN_LM_BATCH * len;
    const ptrdiff_t width = GOLDEN_LM_WIDTH;
    size_t i;
    golden_lm_embed(m, ids, m->hidden, rows);
    for (i = 0; i < GOLDEN_LM_LAYERS; ++i) {
        golden_lm_layer(m, i, state, m->hidden, len);
        if (i == 0) memcpy(m->block0, m->hidden, sizeof m->block0);
    }
    CHECK_OK(ssm_norm_forward(&m->norm, ssm_rows_of(m->hidden, width), ssm_rows_out_of(m->hidden, width), rows));
    CHECK_OK(
        ssm_linear_forward(&m->head, ssm_rows_of(m->hidden, width), ssm_rows_out_of(m->logits, GOLDEN_LM_VOCAB), rows));
}

static void golden_lm_check_prompt(const golden_lm *m)
{
    const golden_array block0 = GOLDEN(gold_transformers_lm_lm_block0);
    const golden_array hidden = GOLDEN(gold_transformers_lm_lm_norm_f);
    const golden_array logits = GOLDEN(gold_transformers_lm_lm_logits);
    golden_close("block0", m->block0, block0, GOLDEN_TOL);
    golden_close("hidden", m->hidden, hidden, GOLDEN_TOL);
    golden_close("logits", m->logits, logits, GOLDEN_TOL);
}

/* conv (layer,B,E,K), or NULL, and h (layer,B,E,N). */
static void golden_lm_check_states(ssm_real *const *state, const double *conv, const double *h)
{
    const size_t conv_count = GOLDEN_LM_STATE_WIDTH * GOLD_TRANSFORMERS_LM_LM_D_CONV;
    const size_t h_count = GOLDEN_LM_STATE_WIDTH * GOLD_TRANSFORMERS_LM_LM_D_STATE;
    size_t i;
    for (i = 0; i < GOLDEN_LM_LAYERS; ++i) {
        const golden_array conv_i = {conv ? conv + i * conv_count : NULL, conv_count};
        const golden_array h_i = {h + i * h_count, h_count};
        golden_check_state(&golden_lm_state, state[i], conv_i, h_i, GOLDEN_TOL);
    }
}

static int golden_argmax(const ssm_real *logits)
{
    int best = 0, i;
    for (i = 1; i < GOLDEN_LM_VOCAB; ++i)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* The whole prompt without states. */
static void golden_transformers_forward(void)
{
    golden_lm m;
    golden_lm_open(&m);
    golden_lm_run(&m, NULL, gold_transformers_lm_lm_ids, GOLDEN_LM_LEN);
    golden_lm_check_prompt(&m);
    golden_lm_shut(&m);
}

/* The prompt, then one cached step for each greedy token. */
static void golden_transformers_generate(void)
{
    const size_t step_count = GOLDEN_LM_BATCH * GOLDEN_LM_VOCAB;
    ssm_real *state[GOLDEN_LM_LAYERS];
    size_t len = GOLDEN_LM_LEN, t, b, i; /* len: of the last run */
    int tokens[GOLDEN_LM_BATCH];
    golden_lm m;
    golden_lm_open(&m);
    for (i = 0; i < GOLDEN_LM_LAYERS; ++i) state[i] = golden_zero_state(&golden_lm_state);
    golden_lm_run(&m, state, gold_transformers_lm_lm_ids, len);
    golden_lm_check_prompt(&m);
    golden_lm_check_states(state, gold_transformers_lm_lm_conv_state, gold_transformers_lm_lm_ssm_state);
    for (t = 0; t < GOLDEN_LM_STEPS; ++t, len = 1) {
        for (b = 0; b < GOLDEN_LM_BATCH; ++b) {
            tokens[b] = golden_argmax(m.logits + (b * len + len - 1) * GOLDEN_LM_VOCAB);
            CHECK(tokens[b] == gold_transformers_lm_lm_tokens[t * GOLDEN_LM_BATCH + b]);
        }
        golden_lm_run(&m, state, tokens, 1);
        CHECK_CLOSE(m.logits, gold_transformers_lm_lm_step_logits + t * step_count, step_count, GOLDEN_TOL);
    }
    golden_lm_check_states(state, NULL, gold_transformers_lm_lm_ssm_state_end);
    for (i = 0; i < GOLDEN_LM_LAYERS; ++i) test_free(state[i], 0);
    golden_lm_shut(&m);
}

/*=============================================================================
 * The cases
 *===========================================================================*/
#define GOLDEN_CASE(check, name)              \
    static void golden_case_##name(void)      \
    {                                         \
        golden_check_##check(&golden_##name); \
    }

GOLDEN_CASE(scan, mamba_ssm_full)
GOLDEN_CASE(scan, mamba_ssm_groups)
GOLDEN_CASE(scan, mamba_ssm_constant)
GOLDEN_CASE(scan, mamba_ssm_minimal)
GOLDEN_CASE(scan, mamba_ssm_mixed)
GOLDEN_CASE(scan, mamba_ssm_complex_full)
GOLDEN_CASE(scan, mamba_ssm_complex_groups)
GOLDEN_CASE(scan, mamba_ssm_complex_constant)
GOLDEN_CASE(scan, mamba_ssm_complex_mixed)
GOLDEN_CASE(update, mamba_ssm_update)
GOLDEN_CASE(update, mamba_ssm_heads)
GOLDEN_CASE(layer, mamba_ssm_block)
GOLDEN_CASE(layer, mamba_ssm_complex_inner)
GOLDEN_CASE(layer, zeta_ssm)
GOLDEN_CASE(layer, zeta_ssm_pow2)
GOLDEN_CASE(layer, zeta_long_sequential)
GOLDEN_CASE(layer, zeta_long_chunked)
GOLDEN_CASE(layer, zeta_long_blelloch)
GOLDEN_CASE(layer, tracetorch_s6)
GOLDEN_CASE(layer, tracetorch_mamba)
GOLDEN_CASE(layer, tracetorch_mamba_k1)
GOLDEN_CASE(layer, zerfoo_block)
GOLDEN_CASE(layer, zerfoo_block_preset)
GOLDEN_CASE(scan, lrnnx_mamba)
GOLDEN_CASE(scan, lrnnx_mamba_da)
GOLDEN_CASE(scan, lrnnx_zoh)
GOLDEN_CASE(scan, lrnnx_zoh_da)
GOLDEN_CASE(scan, lrnnx_bilinear)
GOLDEN_CASE(scan, lrnnx_bilinear_da)
GOLDEN_CASE(scan, lrnnx_dirac)
GOLDEN_CASE(scan, lrnnx_dirac_da)
GOLDEN_CASE(scan, lrnnx_const)
GOLDEN_CASE(scan, lrnnx_groups)
GOLDEN_CASE(layer, irithyll_mamba)
GOLDEN_CASE(layer, falcon)
GOLDEN_CASE(layer, jamba)
GOLDEN_CASE(layer, mamba2_block)
GOLDEN_CASE(layer, mamba2_groups)
GOLDEN_CASE(layer, mamba2_limited)
GOLDEN_CASE(layer, mamba3_siso)
GOLDEN_CASE(layer, mamba3_groups)
GOLDEN_CASE(layer, mamba3_mimo)
GOLDEN_CASE(layer, mamba3_mimo_norm)
GOLDEN_CASE(layer, rglru_block)
GOLDEN_CASE(layer, rglru_dense)
GOLDEN_CASE(layer, rglru_unit)
GOLDEN_CASE(layer, lrnnx_rglru)
GOLDEN_CASE(layer, lrnnx_rglru_expand)
GOLDEN_CASE(layer, irithyll_s4d_inv)
GOLDEN_CASE(layer, irithyll_new_mamba)
GOLDEN_CASE(layer, irithyll_new_s4d_inv)

/* Every gradient of sum(logits dlogits): head, last norm, layers, embedding. */
static void golden_transformers_gradients(void)
{
    enum { ROWS = GOLDEN_LM_BATCH * GOLDEN_LM_LEN, COUNT = ROWS * GOLDEN_LM_WIDTH };
    static const golden_array logits = GOLDEN(gold_transformers_lm_lm_dlogits);
    static const golden_array embedded = GOLDEN(gold_transformers_lm_lm_grad_embedded);
    const int *ids = gold_transformers_lm_lm_ids;
    const ptrdiff_t width = GOLDEN_LM_WIDTH;
    const ssm_seqs seqs = test_seqs(GOLDEN_LM_BATCH, GOLDEN_LM_LEN);
    const ssm_sizes need = golden_lm_sizes(GOLDEN_LM_LEN);
    const size_t bytes = need.state + (need.work > need.work_backward ? need.work : need.work_backward);
    ssm_real x[GOLDEN_LM_LAYERS + 1][COUNT], normed[COUNT], d[GOLDEN_LM_LAYERS + 2][COUNT] = {{0}};
    ssm_real *dlogits = golden_reals(logits), *grads, *dembedding;
    void *tape[GOLDEN_LM_LAYERS], *work = test_alloc(bytes, 0);
    const golden_weight *w;
    golden_lm m;
    size_t i, k;
    golden_lm_open(&m);
    grads = test_zeros(m.table.count);
    golden_lm_embed(&m, ids, x[0], ROWS);
    for (i = 0; i < GOLDEN_LM_LAYERS; ++i) {
        tape[i] = test_alloc(need.tape, 0);
        CHECK_OK(ssm_mamba_record(&m.layer[i], NULL, x[i], x[i + 1], &seqs, ssm_memory_of(tape[i], need.tape),
                                  ssm_memory_of(work, bytes)));
    }
    CHECK_OK(ssm_norm_forward(&m.norm, ssm_rows_of(x[i], width), ssm_rows_out_of(normed, width), ROWS));
    dembedding = golden_find(&m.table, grads, "backbone.embeddings.weight", GOLDEN_LM_VOCAB * GOLDEN_LM_WIDTH);
    CHECK_OK(ssm_linear_backward(&m.head, ssm_rows_of(normed, width), ssm_rows_of(dlogits, GOLDEN_LM_VOCAB),
                                 ssm_rows_out_of(d[i + 1], width), dembedding, NULL, ROWS));
    CHECK_OK(ssm_norm_backward(&m.norm, ssm_rows_of(x[i], width), ssm_rows_of(d[i + 1], width),
                               ssm_rows_out_of(d[i], width),
                               golden_find(&m.table, grads, "backbone.norm_f.weight", GOLDEN_LM_WIDTH), ROWS));
    while (i-- > 0) {
        CHECK_OK(ssm_mamba_backward(&m.layer[i], NULL, x[i], d[i + 1], d[i], grads + m.start[i], &seqs,
                                    ssm_memory_of(tape[i], need.tape), ssm_memory_of(work, bytes)));
        test_free(tape[i], 0);
    }
    golden_close("embedded", d[0], embedded, GOLDEN_TOL);
    for (i = 0; i < ROWS; ++i)
        for (k = 0; k < GOLDEN_LM_WIDTH; ++k) dembedding[ids[i] * width + (ptrdiff_t)k] += d[0][i * GOLDEN_LM_WIDTH + k];
    for (w = golden_lm_weights; w->name; ++w)
        golden_close(w->name, golden_find(&m.table, grads, w->name, w->grad.count), w->grad, GOLDEN_TOL);
    test_free(work, 0);
    test_free(dlogits, 0);
    test_free(grads, 0);
    golden_lm_shut(&m);
}

static const test_case golden_cases[] = {
    {"golden/mamba_ssm/scan_full", golden_case_mamba_ssm_full},
    {"golden/mamba_ssm/scan_groups", golden_case_mamba_ssm_groups},
    {"golden/mamba_ssm/scan_constant", golden_case_mamba_ssm_constant},
    {"golden/mamba_ssm/scan_minimal", golden_case_mamba_ssm_minimal},
    {"golden/mamba_ssm/scan_mixed", golden_case_mamba_ssm_mixed},
    {"golden/mamba_ssm/scan_complex_full", golden_case_mamba_ssm_complex_full},
    {"golden/mamba_ssm/scan_complex_groups", golden_case_mamba_ssm_complex_groups},
    {"golden/mamba_ssm/scan_complex_constant", golden_case_mamba_ssm_complex_constant},
    {"golden/mamba_ssm/scan_complex_mixed", golden_case_mamba_ssm_complex_mixed},
    {"golden/mamba_ssm/update", golden_case_mamba_ssm_update},
    {"golden/mamba_ssm/update_heads", golden_case_mamba_ssm_heads},
    {"golden/mamba_ssm/block", golden_case_mamba_ssm_block},
    {"golden/mamba_ssm/inner_complex", golden_case_mamba_ssm_complex_inner},
    {"golden/zeta/ssm", golden_case_zeta_ssm},
    {"golden/zeta/ssm_pow2", golden_case_zeta_ssm_pow2},
    {"golden/zeta/long_sequential", golden_case_zeta_long_sequential},
    {"golden/zeta/long_chunked", golden_case_zeta_long_chunked},
    {"golden/zeta/long_blelloch", golden_case_zeta_long_blelloch},
    {"golden/tracetorch/s6", golden_case_tracetorch_s6},
    {"golden/tracetorch/mamba", golden_case_tracetorch_mamba},
    {"golden/tracetorch/mamba_k1", golden_case_tracetorch_mamba_k1},
    {"golden/zerfoo/block", golden_case_zerfoo_block},
    {"golden/zerfoo/block_preset", golden_case_zerfoo_block_preset},
    {"golden/lrnnx/mamba", golden_case_lrnnx_mamba},
    {"golden/lrnnx/mamba_delta_a", golden_case_lrnnx_mamba_da},
    {"golden/lrnnx/zoh", golden_case_lrnnx_zoh},
    {"golden/lrnnx/zoh_delta_a", golden_case_lrnnx_zoh_da},
    {"golden/lrnnx/bilinear", golden_case_lrnnx_bilinear},
    {"golden/lrnnx/bilinear_delta_a", golden_case_lrnnx_bilinear_da},
    {"golden/lrnnx/dirac", golden_case_lrnnx_dirac},
    {"golden/lrnnx/dirac_delta_a", golden_case_lrnnx_dirac_da},
    {"golden/lrnnx/constant", golden_case_lrnnx_const},
    {"golden/lrnnx/groups", golden_case_lrnnx_groups},
    {"golden/irithyll/mamba", golden_case_irithyll_mamba},
    {"golden/irithyll/s4d_inv", golden_case_irithyll_s4d_inv},
    {"golden/irithyll/new_mamba", golden_case_irithyll_new_mamba},
    {"golden/irithyll/new_s4d_inv", golden_case_irithyll_new_s4d_inv},
    {"golden/irithyll/log_a", golden_irithyll_log_a},
    {"golden/irithyll/discretize", golden_irithyll_discretize},
    {"golden/irithyll/diagonal", golden_irithyll_diagonal},
    {"golden/irithyll/reinitialize_channel", golden_irithyll_reinitialize_channel},
    {"golden/transformers/falcon_mamba", golden_case_falcon},
    {"golden/transformers/jamba", golden_case_jamba},
    {"golden/transformers/mamba2", golden_case_mamba2_block},
    {"golden/transformers/mamba2_groups", golden_case_mamba2_groups},
    {"golden/transformers/mamba2_limited", golden_case_mamba2_limited},
    {"golden/mamba_ssm/mamba3_siso", golden_case_mamba3_siso},
    {"golden/mamba_ssm/mamba3_groups", golden_case_mamba3_groups},
    {"golden/mamba_ssm/mamba3_mimo", golden_case_mamba3_mimo},
    {"golden/mamba_ssm/mamba3_mimo_norm", golden_case_mamba3_mimo_norm},
    {"golden/transformers/rglru", golden_case_rglru_block},
    {"golden/transformers/rglru_dense", golden_case_rglru_dense},
    {"golden/transformers/rglru_unit", golden_case_rglru_unit},
    {"golden/lrnnx/rglru", golden_case_lrnnx_rglru},
    {"golden/lrnnx/rglru_expand", golden_case_lrnnx_rglru_expand},
    {"golden/transformers/lm_forward", golden_transformers_forward},
    {"golden/transformers/lm_generate", golden_transformers_generate},
    {"golden/transformers/lm_gradients", golden_transformers_gradients},
};
