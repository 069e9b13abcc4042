/* test_golden_s5.c - the S5 scan and layer against vectors computed with other libraries: lrnnx,
 * s5-pytorch, lindermanlab/S5 and traceTorch (tests/golden/NAME.h; each names its source and script). */
#include "golden/lrnnx_lru.h"
#include "golden/lrnnx_s5.h"
#include "golden/s5_linderman.h"
#include "golden/s5_pytorch.h"
#include "golden/tracetorch_s4_s5.h"

#define GOLDEN_S5_TOL TOL(1e-5, 1e-12)

typedef struct golden_s5_array {
    const double *data; /* NULL: the peer has none */
    size_t count;
} golden_s5_array;

#define G5(array) {array, sizeof array / sizeof array[0]}
#define G5_NONE {NULL, 0}

static void golden_s5_close(const char *what, const ssm_real *got, golden_s5_array want)
{
    if (want.data) test_close(__FILE__, __LINE__, what, got, want.data, want.count, GOLDEN_S5_TOL);
}

static void golden_s5_note(size_t before, const char *name)
{
    if (test_failures > before && before < 5) printf("    ... with %s\n", name);
}

/*=============================================================================
 * lrnnx: simplified_scan (complex u and out) and s5_inner (real out)
 *===========================================================================*/
enum { G5_U, G5_DELTA, G5_A, G5_B, G5_C, G5_D, G5_DELTA_A, G5_TENSORS };

static const char *const golden_s5_tensors[G5_TENSORS] = {"u", "delta", "A", "B", "C", "D", "delta_A"};

typedef struct golden_s5_scan {
    const char *name;
    ssm_disc disc;
    int inner, conj_sym, has_delta_A, has_dlast;
    golden_s5_array out, last;
    golden_s5_array grad[G5_TENSORS];
} golden_s5_scan;

#define G5_CASE(name) #name, .out = G5(gold_lrnnx_s5_##name##_out), .last = G5(gold_lrnnx_s5_##name##_last)
#define G5_GRADS(name)                                                                                            \
    [G5_U] = G5(gold_lrnnx_s5_##name##_grad_u), [G5_DELTA] = G5(gold_lrnnx_s5_##name##_grad_delta),               \
    [G5_A] = G5(gold_lrnnx_s5_##name##_grad_a), [G5_B] = G5(gold_lrnnx_s5_##name##_grad_b),                       \
    [G5_C] = G5(gold_lrnnx_s5_##name##_grad_c)
#define G5_GRADS_DA(name) G5_GRADS(name), [G5_DELTA_A] = G5(gold_lrnnx_s5_##name##_grad_delta_a)
#define G5_GRAD_D(name) [G5_D] = G5(gold_lrnnx_s5_##name##_grad_d)

static const golden_s5_scan golden_s5_scans[] = {
    {G5_CASE(bilinear), .disc = SSM_DISC_BILINEAR, .grad = {G5_GRADS(bilinear)}},
    {G5_CASE(bilinear_da), .disc = SSM_DISC_BILINEAR, .has_delta_A = 1, .grad = {G5_GRADS_DA(bilinear_da)}},
    {G5_CASE(zoh), .grad = {G5_GRADS(zoh)}},
    {G5_CASE(zoh_da), .has_delta_A = 1, .grad = {G5_GRADS_DA(zoh_da)}},
    {G5_CASE(zoh_da_dlast), .has_delta_A = 1, .has_dlast = 1, .grad = {G5_GRADS_DA(zoh_da_dlast)}},
    {G5_CASE(dirac), .disc = SSM_DISC_DIRAC, .grad = {G5_GRADS(dirac)}},
    {G5_CASE(dirac_da), .disc = SSM_DISC_DIRAC, .has_delta_A = 1, .grad = {G5_GRADS_DA(dirac_da)}},
    {G5_CASE(inner_conj), .disc = SSM_DISC_BILINEAR, .inner = 1, .conj_sym = 1, .grad = {G5_GRADS(inner_conj), G5_GRAD_D(inner_conj)}},
    {G5_CASE(inner_conj_da), .disc = SSM_DISC_ZOH, .inner = 1, .conj_sym = 1, .has_delta_A = 1,
     .grad = {G5_GRADS_DA(inner_conj_da), G5_GRAD_D(inner_conj_da)}},
    {G5_CASE(inner_plain), .disc = SSM_DISC_ZOH, .inner = 1, .grad = {G5_GRADS(inner_plain), G5_GRAD_D(inner_plain)}},
    {G5_CASE(inner_plain_da), .disc = SSM_DISC_DIRAC, .inner = 1, .has_delta_A = 1,
     .grad = {G5_GRADS_DA(inner_plain_da), G5_GRAD_D(inner_plain_da)}},
};

enum { G5_BATCH = GOLD_LRNNX_S5_IN_BATCH, G5_H = GOLD_LRNNX_S5_IN_H, G5_P = GOLD_LRNNX_S5_IN_P, G5_LEN = GOLD_LRNNX_S5_IN_LEN };

/* The published layouts, over `data`. */
static ssm_in golden_s5_view(int tensor, const ssm_real *data)
{
    switch (tensor) {
    case G5_U: return ssm_in_pairs(ssm_in_bct(data, G5_H, G5_LEN));
    case G5_A: return ssm_in_pairs(ssm_in_cn(data, G5_P));
    case G5_B: return ssm_in_pairs(ssm_in_nc(data, G5_H));
    case G5_C: return ssm_in_pairs(ssm_in_cn(data, G5_P));
    case G5_D: return ssm_in_c(data);
    default: return ssm_in_bcnt(data, 1, G5_P, G5_LEN);
    }
}

static void golden_s5_check_scan(const golden_s5_scan *g)
{
    static const golden_s5_array in[G5_TENSORS] = {
        G5(gold_lrnnx_s5_in_u), G5(gold_lrnnx_s5_in_delta), G5(gold_lrnnx_s5_in_a), G5(gold_lrnnx_s5_in_b),
        G5(gold_lrnnx_s5_in_c), G5(gold_lrnnx_s5_in_d), G5(gold_lrnnx_s5_in_delta_a)};
    static const golden_s5_array dout[2] = {G5(gold_lrnnx_s5_in_dout), G5(gold_lrnnx_s5_in_dout_real)};
    static const golden_s5_array dlast_in = G5(gold_lrnnx_s5_in_dlast);
    ssm_s5_scan s = {0};
    ssm_s5_scan_grad d = {0};
    ssm_in *const field[G5_TENSORS] = {&s.u, &s.delta, &s.A, &s.B, &s.C, &s.D, &s.delta_A};
    ssm_out *const dfield[G5_TENSORS] = {&d.du, &d.ddelta, &d.dA, &d.dB, &d.dC, &d.dD, &d.ddelta_A};
    ssm_real *data[G5_TENSORS], *grad[G5_TENSORS], *y = test_zeros(g->out.count), *last = test_zeros(g->last.count);
    ssm_real *dy = test_reals(dout[g->inner].data, dout[g->inner].count), *dlast = test_reals(dlast_in.data, dlast_in.count);
    const ssm_in y_view = ssm_in_bct(y, G5_H, G5_LEN), state = ssm_in_pairs(ssm_in_bcn(last, 1, G5_P));
    const size_t before = test_failures;
    ssm_sizes need;
    void *work;
    int i;
    s.batch = G5_BATCH;
    s.len = G5_LEN;
    s.dim = G5_H;
    s.d_state = G5_P;
    s.disc = g->disc;
    s.conj_sym = g->conj_sym;
    s.complex_input = 1;
    s.complex_output = !g->inner;
    s.y = ssm_out_like(y, g->inner ? y_view : ssm_in_pairs(y_view));
    s.h_last = ssm_out_like(last, state);
    d.dy = ssm__as_in(s.y);
    d.dy.data = dy;
    d.dh_last = state;
    d.dh_last.data = g->has_dlast ? dlast : NULL;
    for (i = 0; i < G5_TENSORS; ++i) {
        data[i] = test_reals(in[i].data, in[i].count);
        grad[i] = test_zeros(in[i].count);
        if ((i == G5_D && !g->inner) || (i == G5_DELTA_A && !g->has_delta_A)) continue;
        *field[i] = golden_s5_view(i, data[i]);
        *dfield[i] = ssm_out_like(grad[i], *field[i]);
    }
    CHECK_OK(ssm_s5_scan_sizes(&s, &need));
    work = test_alloc(need.work_backward, 0);
    CHECK_OK(ssm_s5_scan_forward(&s, ssm_memory_of(work, need.work)));
    golden_s5_close("out", y, g->out);
    golden_s5_close("last", last, g->last);
    CHECK_OK(ssm_s5_scan_backward(&s, &d, ssm_memory_of(work, need.work_backward)));
    for (i = 0; i < G5_TENSORS; ++i) golden_s5_close(golden_s5_tensors[i], grad[i], g->grad[i]);
    golden_s5_note(before, g->name);
    for (i = 0; i < G5_TENSORS; ++i) {
        test_free(data[i], 0);
        test_free(grad[i], 0);
    }
    test_free(work, 0);
    test_free(y, 0);
    test_free(last, 0);
    test_free(dy, 0);
    test_free(dlast, 0);
}

static void golden_s5_lrnnx(void)
{
    size_t i;
    for (i = 0; i < sizeof golden_s5_scans / sizeof golden_s5_scans[0]; ++i) golden_s5_check_scan(&golden_s5_scans[i]);
}

/*=============================================================================
 * Layers
 *===========================================================================*/

/* A parameter row: where its numbers lie in the peer's array. Element (i, k) of the row, k < block,
 * is data[first + i * stride + k]. block 0: the whole array as it is. */
typedef struct golden_s5_weight {
    const char *name;
    golden_s5_array value, grad;
    size_t first, stride, block;
} golden_s5_weight;

#define G5_WEIGHTS 8

typedef struct golden_s5_layer {
    const char *name;
    ssm_s5_config config;
    size_t batch, len;
    int time_first; /* (T,B,D) instead of (B,T,D) */
    golden_s5_array u, y, dy, grad_u;
    golden_s5_array state0, last, dlast, grad_state0;
    golden_s5_array scale; /* [batch] or [batch][len] */
    golden_s5_weight weight[G5_WEIGHTS];
} golden_s5_layer;

#define G5_W(name, file, array, case_) {name, G5(gold_##file##_in_##array), G5(gold_##file##_##case_##_grad_##array), 0, 0, 0}
/* Every second number of (P,2); columns of C (H,2P): C1 and C2. */
#define G5_PART(name, file, array, case_, part) {name, G5(gold_##file##_in_##array), G5(gold_##file##_##case_##_grad_##array), part, 2, 1}
#define G5_HALF(name, file, array, array_grad, half) {name, G5(array), G5(array_grad), (half) * 8, 16, 8}

#define G5_IO(file, B, L, case_)                                                                           \
    .batch = B, .len = L, .u = G5(gold_##file##_in_u), .y = G5(gold_##file##_##case_##_y),                 \
    .dy = G5(gold_##file##_in_dy), .grad_u = G5(gold_##file##_##case_##_grad_u)
#define G5_STATE(file, case_) .last = G5(gold_##file##_##case_##_last), .dlast = G5(gold_##file##_in_dlast)

#define G5_LINDERMAN(case_) "linderman " #case_, G5_IO(s5_linderman, 2, 7, case_)
#define G5_LINDERMAN_LTI(case_)                                                                                   \
    G5_W("Lambda_re", s5_linderman, lambda_re, case_), G5_W("Lambda_im", s5_linderman, lambda_im, case_),         \
    G5_W("B", s5_linderman, b, case_), G5_W("D", s5_linderman, d, case_), G5_W("log_step", s5_linderman, log_step, case_)
#define G5_LINDERMAN_WEIGHTS(case_) {G5_LINDERMAN_LTI(case_), G5_W("C", s5_linderman, c, case_)}

#define G5_PYTORCH(case_) "s5-pytorch " #case_, G5_IO(s5_pytorch, 2, 7, case_)
#define G5_PYTORCH_LTI(case_)                                                                                     \
    G5_PART("Lambda_re", s5_pytorch, lambda, case_, 0), G5_PART("Lambda_im", s5_pytorch, lambda, case_, 1),       \
    G5_W("B", s5_pytorch, b, case_), G5_W("D", s5_pytorch, d, case_), G5_W("log_step", s5_pytorch, log_step, case_)
#define G5_PYTORCH_WEIGHTS(case_) {G5_PYTORCH_LTI(case_), G5_W("C", s5_pytorch, c, case_)}

#define G5_CONJ .d_model = 3, .d_state = 8, .activation = SSM_S5_NONE
#define G5_PLAIN .d_model = 3, .d_state = 4, .activation = SSM_S5_NONE, .no_conj_sym = 1

#define G5_LRU(case_)                                                                                             \
    .batch = 2, .len = 7, .u = G5(gold_lrnnx_lru_in_x), .y = G5(gold_lrnnx_lru_##case_##_y),                      \
    .dy = G5(gold_lrnnx_lru_in_dy), .grad_u = G5(gold_lrnnx_lru_##case_##_grad_x),                                \
    .last = G5(gold_lrnnx_lru_##case_##_last),                                                                    \
    .config = {.d_model = 3, .d_state = 4, .lru = 1, .activation = SSM_S5_NONE},                                  \
    .weight = {G5_W("nu_log", lrnnx_lru, nu_log, case_), G5_W("theta_log", lrnnx_lru, theta_log, case_),          \
               G5_W("gamma_log", lrnnx_lru, gamma_log, case_), G5_W("B_re", lrnnx_lru, b_re, case_),              \
               G5_W("B_im", lrnnx_lru, b_im, case_), G5_W("C_re", lrnnx_lru, c_re, case_),                        \
               G5_W("C_im", lrnnx_lru, c_im, case_), G5_W("D", lrnnx_lru, d, case_)}

#define G5_TRACE(name, array) {name, G5(gold_tracetorch_s4_s5_s5_##array), G5(gold_tracetorch_s4_s5_s5_grad_##array), 0, 0, 0}

static const golden_s5_layer golden_s5_layers[] = {
    {G5_LINDERMAN(zoh), G5_STATE(s5_linderman, zoh), .config = {G5_CONJ}, .weight = G5_LINDERMAN_WEIGHTS(zoh)},
    {G5_LINDERMAN(bilinear), G5_STATE(s5_linderman, bilinear), .config = {G5_CONJ, .disc = SSM_DISC_BILINEAR},
     .weight = G5_LINDERMAN_WEIGHTS(bilinear)},
    {G5_LINDERMAN(plain), G5_STATE(s5_linderman, plain), .config = {G5_PLAIN}, .weight = G5_LINDERMAN_WEIGHTS(plain)},
    {G5_LINDERMAN(rescaled), G5_STATE(s5_linderman, rescaled), .config = {G5_CONJ, .step_rescale = (ssm_real)0.5},
     .weight = G5_LINDERMAN_WEIGHTS(rescaled)},
    {G5_LINDERMAN(state), G5_STATE(s5_linderman, state), .config = {G5_CONJ, .disc = SSM_DISC_BILINEAR}, .weight = G5_LINDERMAN_WEIGHTS(state),
     .state0 = G5(gold_s5_linderman_in_state0), .grad_state0 = G5(gold_s5_linderman_state_grad_state0)},
    {G5_LINDERMAN(bidirectional), .config = {G5_CONJ, .bidirectional = 1},
     .weight = {G5_LINDERMAN_LTI(bidirectional),
                G5_HALF("C1", s5_linderman, gold_s5_linderman_in_c_bidirectional, gold_s5_linderman_bidirectional_grad_c, 0),
                G5_HALF("C2", s5_linderman, gold_s5_linderman_in_c_bidirectional, gold_s5_linderman_bidirectional_grad_c, 1)}},
    {G5_PYTORCH(plain), G5_STATE(s5_pytorch, plain), .config = {G5_PLAIN}, .weight = G5_PYTORCH_WEIGHTS(plain)},
    {G5_PYTORCH(bilinear), G5_STATE(s5_pytorch, bilinear), .config = {G5_PLAIN, .disc = SSM_DISC_BILINEAR},
     .weight = G5_PYTORCH_WEIGHTS(bilinear)},
    {G5_PYTORCH(scaled), G5_STATE(s5_pytorch, scaled), .config = {G5_PLAIN}, .weight = G5_PYTORCH_WEIGHTS(scaled),
     .scale = G5(gold_s5_pytorch_in_scale_of_sequence)},
    {G5_PYTORCH(steps), G5_STATE(s5_pytorch, steps), .config = {G5_PLAIN}, .weight = G5_PYTORCH_WEIGHTS(steps),
     .scale = G5(gold_s5_pytorch_in_step_scale), .state0 = G5(gold_s5_pytorch_in_state0),
     .grad_state0 = G5(gold_s5_pytorch_steps_grad_state0)},
    {G5_PYTORCH(bidir), .config = {G5_PLAIN, .bidirectional = 1},
     .weight = {G5_PYTORCH_LTI(bidir), G5_HALF("C1", s5_pytorch, gold_s5_pytorch_in_c_bidir, gold_s5_pytorch_bidir_grad_c, 0),
                G5_HALF("C2", s5_pytorch, gold_s5_pytorch_in_c_bidir, gold_s5_pytorch_bidir_grad_c, 1)}},
    {"lrnnx LRU", G5_LRU(forward)},
    {"lrnnx LRU, steps", G5_LRU(steps), .dlast = G5(gold_lrnnx_lru_in_dlast), .state0 = G5(gold_lrnnx_lru_in_state0),
     .grad_state0 = G5(gold_lrnnx_lru_steps_grad_state0)},
    {"traceTorch S5", .config = {.d_model = 3, .d_state = 4, .real_state = 1, .activation = SSM_S5_NONE}, .batch = 2,
     .len = 9, .time_first = 1, .u = G5(gold_tracetorch_s4_s5_s5_x), .y = G5(gold_tracetorch_s4_s5_s5_y),
     .dy = G5(gold_tracetorch_s4_s5_s5_dy), .grad_u = G5(gold_tracetorch_s4_s5_s5_grad_x),
     .last = G5(gold_tracetorch_s4_s5_s5_last), .dlast = G5(gold_tracetorch_s4_s5_s5_dlast),
     .weight = {G5_TRACE("A_log", a_log), G5_TRACE("B", b), G5_TRACE("C", c), G5_TRACE("D", d), G5_TRACE("log_dt", log_dt)}},
};

/* Element i of a weight in the peer's array. */
static size_t golden_s5_index(const golden_s5_weight *w, size_t i)
{
    return w->block ? w->first + i / w->block * w->stride + i % w->block : i;
}

static void golden_s5_check_weights(const golden_s5_layer *g, const ssm_params *table, const ssm_real *dparams)
{
    size_t i, k;
    for (i = 0; i < G5_WEIGHTS && g->weight[i].name; ++i) {
        const golden_s5_weight *w = &g->weight[i];
        const ssm_param *row = ssm_params_find(table, w->name);
        double want[64];
        for (k = 0; k < row->count; ++k) want[k] = w->grad.data[golden_s5_index(w, k)];
        test_close(__FILE__, __LINE__, w->name, dparams + row->offset, want, row->count, GOLDEN_S5_TOL);
    }
}

static void golden_s5_load(const golden_s5_layer *g, const ssm_params *table, ssm_real *params)
{
    size_t i, k, count = 0;
    for (i = 0; i < G5_WEIGHTS && g->weight[i].name; ++i) {
        const golden_s5_weight *w = &g->weight[i];
        const ssm_param *row = ssm_params_find(table, w->name);
        CHECK(row->count > 0);
        for (k = 0; k < row->count; ++k) params[row->offset + k] = (ssm_real)w->value.data[golden_s5_index(w, k)];
        count += row->count;
    }
    CHECK(count == table->count); /* no parameter without a value */
}

/* What a check allocates. */
typedef struct golden_s5_run {
    ssm_params table;
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_sizes need;
    ssm_seqs seqs;
    ssm_s5 layer;
    ssm_real *params, *dparams, *u, *y, *dy, *du, *state, *dstate, *scale;
    void *bound, *tape, *work;
} golden_s5_run;

static void golden_s5_open(golden_s5_run *r, const golden_s5_layer *g)
{
    const size_t rows = g->batch * g->len;
    size_t i;
    memset(r, 0, sizeof *r);
    r->table.row = r->rows;
    r->table.capacity = SSM_PARAMS_MAX;
    r->seqs.batch = g->batch;
    r->seqs.len = g->len;
    if (g->time_first) {
        r->seqs.x.batch = (ptrdiff_t)g->config.d_model;
        r->seqs.x.time = (ptrdiff_t)(g->batch * g->config.d_model);
        r->seqs.x.chan = 1;
        r->seqs.y = r->seqs.x;
    }
    if (g->scale.data) {
        r->scale = test_zeros(rows);
        for (i = 0; i < rows; ++i) r->scale[i] = (ssm_real)g->scale.data[i / (rows / g->scale.count)];
        r->seqs.step_scale = r->scale;
    }
    CHECK_OK(ssm_s5_params(&g->config, NULL, &r->table));
    CHECK_OK(ssm_s5_sizes(&g->config, &r->seqs, &r->need));
    r->params = test_zeros(r->table.count);
    r->dparams = test_zeros(r->table.count);
    golden_s5_load(g, &r->table, r->params);
    r->bound = test_alloc(r->need.bound, 0);
    r->tape = test_alloc(r->need.tape, 0);
    r->work = test_alloc(r->need.work + r->need.work_backward, 0);
    CHECK_OK(ssm_s5_bind(&r->layer, &g->config, r->params, ssm_memory_of(r->bound, r->need.bound)));
    r->u = test_reals(g->u.data, g->u.count);
    r->y = test_zeros(g->y.count);
    r->dy = test_reals(g->dy.data, g->dy.count);
    r->du = test_zeros(g->u.count);
    if (g->last.data) {
        r->state = g->state0.data ? test_reals(g->state0.data, g->state0.count) : test_zeros(g->last.count);
        r->dstate = g->dlast.data ? test_reals(g->dlast.data, g->dlast.count) : test_zeros(g->last.count);
        CHECK(r->need.state == g->last.count * sizeof(ssm_real));
    }
}

static void golden_s5_free(golden_s5_run *r)
{
    void *const blocks[] = {r->params, r->dparams, r->u, r->y, r->dy, r->du, r->state, r->dstate, r->scale, r->bound, r->tape, r->work};
    size_t i;
    for (i = 0; i < sizeof blocks / sizeof blocks[0]; ++i)
        if (blocks[i]) test_free(blocks[i], 0);
}

static void golden_s5_check_layer(const golden_s5_layer *g)
{
    const size_t before = test_failures;
    golden_s5_run r;
    golden_s5_open(&r, g);
    CHECK_OK(ssm_s5_record(&r.layer, r.state, r.u, r.y, &r.seqs, ssm_memory_of(r.tape, r.need.tape),
                           ssm_memory_of(r.work, r.need.work)));
    golden_s5_close("y", r.y, g->y);
    golden_s5_close("last", r.state, g->last);
    CHECK_OK(ssm_s5_backward(&r.layer, r.dstate, r.u, r.dy, r.du, r.dparams, &r.seqs,
                             ssm_memory_of(r.tape, r.need.tape), ssm_memory_of(r.work, r.need.work_backward)));
    golden_s5_close("du", r.du, g->grad_u);
    golden_s5_close("dstate", r.dstate, g->grad_state0);
    golden_s5_check_weights(g, &r.table, r.dparams);
    golden_s5_note(before, g->name);
    golden_s5_free(&r);
}

static void golden_s5_layer_cases(void)
{
    size_t i;
    for (i = 0; i < sizeof golden_s5_layers / sizeof golden_s5_layers[0]; ++i) golden_s5_check_layer(&golden_s5_layers[i]);
}

/*=============================================================================
 * The activations of lindermanlab's SequenceLayer: a layer with B = C = 0 and D = 1 passes x to them
 *===========================================================================*/
#define G5_ACT(case_, activation_) \
    "linderman " #case_, .config = {.d_model = 3, .d_state = 2, .activation = activation_}, .batch = 1, .len = 5, \
    .u = G5(gold_s5_linderman_act_x), .dy = G5(gold_s5_linderman_act_dy), .y = G5(gold_s5_linderman_act_##case_##_y), \
    .grad_u = G5(gold_s5_linderman_act_##case_##_grad_x)
#define G5_ACT_W(name, array, case_) {name, G5(gold_s5_linderman_act_##array), G5(gold_s5_linderman_act_##case_##_grad_##array), 0, 0, 0}

static const golden_s5_layer golden_s5_activations[] = {
    {G5_ACT(gelu, SSM_S5_GELU)},
    {G5_ACT(half_glu1, SSM_S5_HALF_GLU1), .weight = {G5_ACT_W("out2.weight", w2, half_glu1), G5_ACT_W("out2.bias", b2, half_glu1)}},
    {G5_ACT(half_glu2, SSM_S5_HALF_GLU2), .weight = {G5_ACT_W("out2.weight", w2, half_glu2), G5_ACT_W("out2.bias", b2, half_glu2)}},
    {G5_ACT(full_glu, SSM_S5_FULL_GLU),
     .weight = {G5_ACT_W("out1.weight", w1, full_glu), G5_ACT_W("out1.bias", b1, full_glu),
                G5_ACT_W("out2.weight", w2, full_glu), G5_ACT_W("out2.bias", b2, full_glu)}},
};

static void golden_s5_activation_cases(void)
{
    static const double zero[12] = {0}, minus[1] = {-0.5}, one[3] = {1, 1, 1};
    static const golden_s5_weight rest[6] = {
        {"Lambda_re", G5(minus), G5_NONE, 0, 0, 0}, {"Lambda_im", {zero, 1}, G5_NONE, 0, 0, 0}, {"B", {zero, 6}, G5_NONE, 0, 0, 0},
        {"C", {zero, 6}, G5_NONE, 0, 0, 0},         {"D", G5(one), G5_NONE, 0, 0, 0},           {"log_step", {zero, 1}, G5_NONE, 0, 0, 0}};
    size_t i, k, n;
    for (i = 0; i < sizeof golden_s5_activations / sizeof golden_s5_activations[0]; ++i) {
        const golden_s5_layer *g = &golden_s5_activations[i];
        ssm_param rows[SSM_PARAMS_MAX];
        ssm_params table = {0};
        ssm_real params[64] = {0}, dparams[64] = {0}, *u = test_reals(g->u.data, g->u.count), *y = test_zeros(g->y.count);
        ssm_real *dy = test_reals(g->dy.data, g->dy.count), *du = test_zeros(g->u.count);
        const size_t before = test_failures;
        ssm_seqs seqs = {0};
        ssm_sizes need;
        ssm_s5 layer;
        void *bound, *tape, *work;
        table.row = rows;
        table.capacity = SSM_PARAMS_MAX;
        seqs.batch = 1;
        seqs.len = 5;
        CHECK_OK(ssm_s5_params(&g->config, NULL, &table));
        for (k = 0; k < 6 + G5_WEIGHTS; ++k) {
            const golden_s5_weight *w = k < 6 ? &rest[k] : &g->weight[k - 6];
            const ssm_param *row = w->name ? ssm_params_find(&table, w->name) : NULL;
            for (n = 0; row && n < row->count; ++n) params[row->offset + n] = (ssm_real)w->value.data[n];
        }
        CHECK_OK(ssm_s5_sizes(&g->config, &seqs, &need));
        bound = test_alloc(need.bound, 0);
        tape = test_alloc(need.tape, 0);
        work = test_alloc(need.work + need.work_backward, 0);
        CHECK_OK(ssm_s5_bind(&layer, &g->config, params, ssm_memory_of(bound, need.bound)));
        CHECK_OK(ssm_s5_record(&layer, NULL, u, y, &seqs, ssm_memory_of(tape, need.tape),
                               ssm_memory_of(work, need.work + need.work_backward)));
        CHECK_OK(ssm_s5_backward(&layer, NULL, u, dy, du, dparams, &seqs, ssm_memory_of(tape, need.tape),
                                 ssm_memory_of(work, need.work + need.work_backward)));
        golden_s5_close("y", y, g->y);
        golden_s5_close("du", du, g->grad_u);
        golden_s5_check_weights(g, &table, dparams);
        golden_s5_note(before, g->name);
        test_free(bound, 0);
        test_free(tape, 0);
        test_free(work, 0);
        test_free(u, 0);
        test_free(y, 0);
        test_free(dy, 0);
        test_free(du, 0);
    }
}

/*=============================================================================
 * HiPPO-LegS: eigenvalues, V^H B, V^H P; V; B~ = V^H B and C~ = C V
 *===========================================================================*/
static void golden_s5_hippo_of(golden_s5_array eigen, golden_s5_array b, golden_s5_array p)
{
    size_t i;
    for (i = 0; i < eigen.count; ++i) {
        const ssm__hippo h = ssm__hippo_open(eigen.count, i);
        const double error = 4e-15 * (fabs(eigen.data[eigen.count - 1]) + 1);
        CHECK(fabs(h.omega - eigen.data[i]) <= error);
        CHECK(fabs(1 / h.norm - b.data[i]) <= 1e-13 * b.data[i]);
        CHECK(fabs(sqrt(0.5) / h.norm - p.data[i]) <= 1e-13 * p.data[i]);
    }
}

static void golden_s5_hippo(void)
{
    static const golden_s5_array eigen[4] = {G5(gold_s5_linderman_legs4_eigen), G5(gold_s5_linderman_legs5_eigen),
                                             G5(gold_s5_linderman_legs16_eigen), G5(gold_s5_linderman_legs64_eigen)};
    static const golden_s5_array b[4] = {G5(gold_s5_linderman_legs4_b), G5(gold_s5_linderman_legs5_b),
                                         G5(gold_s5_linderman_legs16_b), G5(gold_s5_linderman_legs64_b)};
    static const golden_s5_array p[4] = {G5(gold_s5_linderman_legs4_p), G5(gold_s5_linderman_legs5_p),
                                         G5(gold_s5_linderman_legs16_p), G5(gold_s5_linderman_legs64_p)};
    size_t i;
    for (i = 0; i < 4; ++i) golden_s5_hippo_of(eigen[i], b[i], p[i]);
}

/* init fills B with V^H R and C with Q V: the published V, and the R and Q of our generator. */
static void golden_s5_init(void)
{
    const ssm_s5_config config = {.d_model = 3, .d_state = 8, .blocks = 2};
    const double *V = gold_s5_linderman_init_v; /* (8, 4, 2) */
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = {0};
    ssm_real out[24], lambda[8], imag[4] = {0};
    double B[24] = {0}, C[24] = {0};
    size_t p, n, h;
    ssm_rng rng = {0};
    table.row = rows;
    table.capacity = SSM_PARAMS_MAX;
    CHECK_OK(ssm_s5_params(&config, NULL, &table));
    ssm__init_hippo_im(ssm_params_find(&table, "Lambda_im"), imag);
    for (p = 0; p < 4; ++p) {
        lambda[2 * p] = ssm__init_value(ssm_params_find(&table, "Lambda_re"), p, &rng);
        lambda[2 * p + 1] = imag[p];
    }
    CHECK_CLOSE(lambda, gold_s5_linderman_init_lambda, 8, TOL(2e-7, 1e-15));
    for (p = 0; p < 4; ++p)
        for (n = 0; n < 8; ++n)
            for (h = 0; h < 3; ++h) {
                const double re = V[2 * (n * 4 + p)] / sqrt(8), im = V[2 * (n * 4 + p) + 1] / sqrt(8);
                const double r = (double)ssm__init_entry(7, h * 8 + n);
                const double qr = (double)ssm__init_entry(7, 2 * (h * 8 + n)), qi = (double)ssm__init_entry(7, 2 * (h * 8 + n) + 1);
                B[2 * (p * 3 + h)] += re * r;
                B[2 * (p * 3 + h) + 1] -= im * r;
                C[2 * (h * 4 + p)] += re * qr - im * qi;
                C[2 * (h * 4 + p) + 1] += re * qi + im * qr;
            }
    ssm__init_hippo(ssm_params_find(&table, "B"), out, 7);
    CHECK_CLOSE(out, B, 24, TOL(1e-6, 4e-15));
    ssm__init_hippo(ssm_params_find(&table, "C"), out, 7);
    CHECK_CLOSE(out, C, 24, TOL(1e-6, 4e-15));
}

/* gamma_log from the source's nu_log. */
static void golden_s5_init_lru(void)
{
    enum { N = GOLD_LRNNX_LRU_INIT_N };
    ssm_real *nu = test_reals(gold_lrnnx_lru_init_nu_log, N), gamma[N];
    ssm__init_gamma(N, nu, gamma);
    CHECK_CLOSE(gamma, gold_lrnnx_lru_init_gamma_log, N, TOL(1e-6, 1e-14));
    test_free(nu, 0);
}

static const test_case golden_s5_cases[] = {
    {"golden/s5_lrnnx", golden_s5_lrnnx},
    {"golden/s5_layers", golden_s5_layer_cases},
    {"golden/s5_activations", golden_s5_activation_cases},
    {"golden/s5_hippo", golden_s5_hippo},
    {"golden/s5_init", golden_s5_init},
    {"golden/s5_init_lru", golden_s5_init_lru},
};
