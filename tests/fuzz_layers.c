/* fuzz_layers.c - random configurations of all layers on random sequences: packed, strided, empty, in slots, wrong. What is
 * refused is refused by every verb with nothing written; what is not runs in memory of exactly the size asked for, and
 * one byte less is an error that names the block. Forward has the bits of steps and of record where the layer promises
 * it, the numbers of an oracle in double where there is one, and finite gradients. */
#define FUZZ_NAME "layers"
#include "fuzz.h"
#include "fuzz_config.h"

#define FUZZ_TOO_LARGE ((size_t)1 << 26) /* bytes of one block that an input may want */

typedef struct fuzz_case {
    size_t type;
    const layer_type *verbs;
    layer_any_config config, resolved;
    layer_any layer;
    fuzz_laws laws;
    ssm_seqs seqs;
    size_t start[6];
    ptrdiff_t slot[4];
    size_t d_model, states, extent; /* reals: of one state; from the first to the last element of x */
    size_t held;                    /* reals of all states: more of them than sequences if they are in slots */
    ssm_sizes need;
    ssm_params table;
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_real *params, *x, *step_scale;
    void *bound;
    size_t misalign;
    int empty; /* no row in any sequence */
} fuzz_case;

static ssm_memory fuzz_memory(void *data, size_t bytes)
{
    return ssm_memory_of(data, bytes);
}

/*--- sequences ---*/

/* The first row and the number of rows of sequence b. */
static size_t fuzz_first(const fuzz_case *k, size_t b, size_t *len)
{
    if (k->seqs.start) {
        *len = k->seqs.start[b + 1] - k->seqs.start[b];
        return k->seqs.start[b];
    }
    *len = k->seqs.len;
    return 0;
}

/* Where element (b, t, c) of x and y lies; t counts rows of the tensor if packed. */
static size_t fuzz_at(const fuzz_case *k, size_t b, size_t t, size_t c)
{
    const ssm_strides *s = &k->seqs.x;
    const int dense = !s->batch && !s->time && !s->chan;
    const size_t time = dense ? k->d_model : (size_t)s->time, chan = dense ? 1 : (size_t)s->chan;
    const size_t batch = k->seqs.start ? 0 : dense ? k->seqs.len * k->d_model : (size_t)s->batch;
    return b * batch + t * time + c * chan;
}

static int fuzz_is_padding(const fuzz_case *k, size_t b)
{
    return k->seqs.slot && k->seqs.slot[b] < 0;
}

/* Where the state of sequence b begins. */
static size_t fuzz_state_at(const fuzz_case *k, size_t b)
{
    return (k->seqs.slot ? (size_t)k->seqs.slot[b] : b) * k->states;
}

/* Sequences in slots, some of them nobody's, and sequences that are padding. */
static void fuzz_slots(fuzz_case *k)
{
    const size_t batch = k->seqs.batch, slots = batch + fuzz_below(3), from = fuzz_below(slots);
    size_t b;
    for (b = 0; b < batch; ++b) k->slot[b] = (ptrdiff_t)((from + slots - b) % slots);
    for (b = 0; b < batch; ++b)
        if (fuzz_chance(4)) k->slot[b] = -1 - (ptrdiff_t)fuzz_below(3);
    k->seqs.slot = k->slot;
    k->held = slots;
}

static void fuzz_sequences(fuzz_case *k)
{
    ssm_seqs *s = &k->seqs;
    const size_t gap = fuzz_below(3), tensors = fuzz_between(0, 4);
    size_t b, rows, batches;
    s->batch = tensors;
    s->len = fuzz_chance(12) ? fuzz_between(120, 300) : fuzz_between(0, 70);
    if (fuzz_chance(3)) {
        k->start[0] = fuzz_chance(2) ? 0 : fuzz_below(3);
        for (b = 0; b < s->batch; ++b) k->start[b + 1] = k->start[b] + fuzz_between(0, 40);
        s->start = k->start;
        s->len = k->start[s->batch] + fuzz_below(3);
    }
    rows = s->len;
    batches = s->start || !s->batch ? 1 : s->batch;
    if (fuzz_chance(3)) { /* [batch][len][chan] with gaps, or [batch][chan][len] */
        const size_t chans = k->d_model + gap, times = rows + gap;
        s->x.time = (ptrdiff_t)chans, s->x.chan = 1;
        if (fuzz_chance(2)) s->x.time = 1, s->x.chan = (ptrdiff_t)times;
        s->x.batch = (ptrdiff_t)(chans * times);
    }
    s->y = s->x;
    k->held = s->batch;
    if (s->batch && fuzz_chance(4)) fuzz_slots(k);
    k->empty = s->start ? s->batch == 0 || k->start[s->batch] == k->start[0] : s->batch == 0 || s->len == 0;
    k->extent = rows ? fuzz_at(k, batches - 1, rows - 1, k->d_model - 1) + 1 : 0;
    if (k->type == FUZZ_S5 ? fuzz_chance(3) : fuzz_chance(60)) {
        ssm_rng rng = fuzz_numbers();
        k->step_scale = test_zeros(rows * batches);
        for (b = 0; b < rows * batches; ++b) k->step_scale[b] = 2 * ssm_rng_uniform(&rng);
        s->step_scale = k->step_scale;
    }
}

/* Marks the elements of x and y that belong to a sequence. */
static unsigned char *fuzz_owned(const fuzz_case *k)
{
    unsigned char *owned = (unsigned char *)test_alloc(k->extent, 0);
    size_t b, t, c, len;
    memset(owned, 0, k->extent);
    for (b = 0; b < k->seqs.batch; ++b) {
        const size_t first = fuzz_first(k, b, &len);
        for (t = first; t < first + len; ++t)
            for (c = 0; c < k->d_model; ++c) owned[fuzz_at(k, b, t, c)] = 1;
    }
    return owned;
}

/* The output of padding is 0. */
static void fuzz_clear_padding(const fuzz_case *k, ssm_real *y)
{
    size_t b, t, c, len;
    for (b = 0; b < k->seqs.batch; ++b) {
        const size_t first = fuzz_first(k, b, &len);
        for (t = first; t < first + len && fuzz_is_padding(k, b); ++t)
            for (c = 0; c < k->d_model; ++c) y[fuzz_at(k, b, t, c)] = 0;
    }
}

/* What lies between the elements of y is as it was, and the elements themselves are finite. */
static void fuzz_check_output(const fuzz_case *k, const ssm_real *y, const char *what)
{
    unsigned char *owned = fuzz_owned(k);
    size_t i, outside = 0, bad = 0;
    for (i = 0; i < k->extent; ++i) {
        if (owned[i]) bad += fuzz_not_finite(y + i, 1);
        else outside += !fuzz_untouched(y + i, sizeof *y);
    }
    if (outside) test_fail(__FILE__, __LINE__, "%s: %lu elements written outside", what, (unsigned long)outside);
    if (bad) test_fail(__FILE__, __LINE__, "%s: %lu elements are not finite", what, (unsigned long)bad);
    test_free(owned, 0);
}

/*--- refused ---*/

/* A config or sequences that are refused: by every verb with the same status, and nothing is written. */
static void fuzz_refused(fuzz_case *k, ssm_status status)
{
    ssm_sizes *need = (ssm_sizes *)test_alloc(sizeof *need, 0);
    ssm_params table = ssm_params_of(k->rows, SSM_PARAMS_MAX);
    ssm_real *params = (ssm_real *)test_alloc(64, 0);
    layer_any *layer = (layer_any *)test_alloc(sizeof *layer, 0);
    const ssm_seqs one = test_seqs(1, 1);
    CHECK_STATUS(k->verbs->sizes(&k->config, &one, need), status);
    CHECK(fuzz_untouched(need, sizeof *need));
    CHECK_STATUS(k->verbs->params(&k->config, NULL, &table), status);
    CHECK(table.rows == 0 && table.count == 0);
    CHECK_STATUS(k->verbs->init(&k->config, params, 1), status);
    CHECK_STATUS(k->verbs->bind(layer, &k->config, params, fuzz_memory(params, 64)), status);
    CHECK(fuzz_untouched(params, 64) && fuzz_untouched(layer, sizeof *layer));
    test_free(need, 0), test_free(params, 0), test_free(layer, 0);
}

/* Sequences that no layer takes: offsets that decrease or go too far, a step scale where there is none. */
static void fuzz_wrong_sequences(fuzz_case *k)
{
    const size_t offset[3] = {0, 2, fuzz_chance(2) ? 1u : 5u};
    ssm_real *y = (ssm_real *)test_alloc(5 * k->d_model * sizeof(ssm_real), 0);
    ssm_real *x = fuzz_normal(5 * k->d_model, 1), scale[4] = {1, 1, 1, 1};
    ssm_seqs seqs = test_seqs(2, 4);
    ssm_sizes need;
    ssm_status status = SSM_ERR_UNSUPPORTED;
    if (k->type == FUZZ_S5 || fuzz_chance(2)) seqs.start = offset, status = SSM_ERR_SHAPE;
    else seqs.batch = 1, seqs.step_scale = scale;
    CHECK_STATUS(k->verbs->sizes(&k->config, &seqs, &need), status);
    CHECK_STATUS(k->verbs->forward(&k->layer, NULL, x, y, &seqs, fuzz_memory(y, 0)), status);
    CHECK(fuzz_untouched(y, 5 * k->d_model * sizeof(ssm_real)));
    test_free(x, 0), test_free(y, 0);
}

/*--- runs ---*/

typedef struct fuzz_result {
    ssm_real *state, *y;
} fuzz_result;

static fuzz_result fuzz_result_open(const fuzz_case *k, const ssm_real *state)
{
    fuzz_result r;
    r.state = state ? test_copy(state, k->held) : NULL;
    r.y = (ssm_real *)test_alloc(k->extent * sizeof *r.y, 0);
    return r;
}

static void fuzz_result_close(fuzz_result *r)
{
    if (r->state) test_free(r->state, 0);
    test_free(r->y, 0);
}

static void fuzz_expect_same(const fuzz_case *k, const fuzz_result *a, const fuzz_result *b)
{
    CHECK_SAME(a->y, b->y, k->extent); /* gaps too: both are as test_alloc left them */
    if (a->state) CHECK_SAME(a->state, b->state, k->held);
}

/* Forward, or record where there is a tape. First with one byte less of work and of tape. */
static void fuzz_forward(const fuzz_case *k, const ssm_real *state, fuzz_result *r, void *tape)
{
    const size_t bytes = k->need.work + (state ? 0 : k->need.state), misalign = fuzz_below(9);
    void *work = test_alloc(bytes, misalign);
    fuzz_result less = fuzz_result_open(k, state);
    size_t what;
    for (what = 0; what < 2; ++what) {
        const ssm_memory w = fuzz_memory(work, what ? bytes : bytes - 1);
        const ssm_memory t = fuzz_memory(tape, what ? k->need.tape - 1 : k->need.tape);
        /* work is what the form asks for that needs more of it; record is sequential, takes packed sequences one by
         * one, and may need less */
        const int less_will_do = k->laws.convolves || (tape && (!k->laws.exact || k->seqs.start));
        if (what ? !tape || !k->need.tape : !bytes || less_will_do) continue;
        /* no row takes any memory; and a step of all streams may need more than one row does */
        if (k->empty || (!what && k->need.work <= k->need.work_step)) continue;
        if (tape)
            CHECK_STATUS(k->verbs->record(&k->layer, less.state, k->x, less.y, &k->seqs, t, w),
                         what ? SSM_ERR_TAPE : SSM_ERR_MEMORY);
        else
            CHECK_STATUS(k->verbs->forward(&k->layer, less.state, k->x, less.y, &k->seqs, w), SSM_ERR_MEMORY);
        CHECK(fuzz_untouched(less.y, k->extent * sizeof *less.y));
        if (state) CHECK_SAME(less.state, state, k->held);
    }
    *r = fuzz_result_open(k, state);
    if (tape)
        CHECK_OK(k->verbs->record(&k->layer, r->state, k->x, r->y, &k->seqs, fuzz_memory(tape, k->need.tape),
                                  fuzz_memory(work, bytes)));
    else CHECK_OK(k->verbs->forward(&k->layer, r->state, k->x, r->y, &k->seqs, fuzz_memory(work, bytes)));
    fuzz_check_output(k, r->y, tape ? "record" : "forward");
    if (r->state) CHECK(fuzz_not_finite(r->state, k->held) == 0);
    fuzz_result_close(&less);
    test_free(work, misalign);
}

/* Sequence after sequence, one step at a time: with a step scale by forward, which is the same as step. */
static void fuzz_steps(const fuzz_case *k, const ssm_real *state, const fuzz_result *want)
{
    ssm_seqs one = test_seqs(1, 1);
    fuzz_result r = fuzz_result_open(k, state);
    ssm_real *x = test_zeros(k->d_model), *y = test_zeros(k->d_model), scale;
    ssm_sizes need;
    size_t b, t, c, len;
    void *work;
    CHECK_OK(k->verbs->sizes(&k->config, &one, &need));
    CHECK(need.work_step <= need.work);
    work = test_alloc(need.work, 1);
    for (b = 0; b < k->seqs.batch; ++b) {
        const size_t first = fuzz_first(k, b, &len), row = k->seqs.start ? 0 : b * k->seqs.len;
        ssm_real *h = r.state + (fuzz_is_padding(k, b) ? 0 : fuzz_state_at(k, b));
        for (t = first; t < first + len && !fuzz_is_padding(k, b); ++t) {
            for (c = 0; c < k->d_model; ++c) x[c] = k->x[fuzz_at(k, b, t, c)];
            if (k->seqs.step_scale) {
                scale = k->seqs.step_scale[row + t];
                one.step_scale = &scale;
                CHECK_OK(k->verbs->forward(&k->layer, h, x, y, &one, fuzz_memory(work, need.work)));
            } else {
                CHECK_OK(k->verbs->step(&k->layer, h, x, y, 1, fuzz_memory(work, need.work_step)));
            }
            for (c = 0; c < k->d_model; ++c) r.y[fuzz_at(k, b, t, c)] = y[c];
        }
    }
    fuzz_clear_padding(k, r.y);
    fuzz_expect_same(k, want, &r);
    test_free(x, 0), test_free(y, 0), test_free(work, 1);
    fuzz_result_close(&r);
}

/* Whether the layer has an oracle for this config: not for rounded matrices, nor for rows wider than its own. */
static int fuzz_has_oracle(const fuzz_case *k)
{
    const ssm_mamba3_config *m3 = &k->resolved.mamba3;
    const ssm_mamba2_config *m2 = &k->resolved.mamba2;
    const ssm_mamba_config *m = &k->resolved.mamba;
    const ssm_s6_config *s6 = &k->resolved.s6;
    switch (k->type) {
    case FUZZ_SELECTIVE:
        return k->resolved.selective.format == SSM_FORMAT_REAL;
    case FUZZ_S6:
        return s6->format == SSM_FORMAT_REAL && s6->dt_rank + 4 * s6->n_groups * s6->d_state <= LAYER_WIDE;
    case FUZZ_MAMBA:
        return m->format == SSM_FORMAT_REAL && 2 * m->d_inner <= LAYER_WIDE &&
               m->dt_rank + 4 * m->n_groups * m->d_state <= LAYER_WIDE;
    case FUZZ_MAMBA2:
        return m2->format == SSM_FORMAT_REAL && 3 * m2->d_inner + 2 * m2->n_groups * m2->d_state <= LAYER_WIDE;
    case FUZZ_MAMBA3:
        return m3->format == SSM_FORMAT_REAL &&
               5 * m3->d_inner + (2 * m3->n_groups + 1) * (m3->mimo_rank + 1) * m3->d_state <= LAYER_WIDE;
    case FUZZ_RGLRU:
        return k->resolved.rglru.format == SSM_FORMAT_REAL && k->resolved.rglru.lru_width <= LAYER_WIDE;
    case FUZZ_S4D:
        return k->resolved.s4d.format == SSM_FORMAT_REAL && k->resolved.s4d.d_state < S4_ORACLE_MAX;
    case FUZZ_S4: /* plain C */
        return k->resolved.s4.format == SSM_FORMAT_REAL && k->resolved.s4.d_state < S4_ORACLE_MAX && !k->resolved.s4.l_max;
    default:
        return k->resolved.s5.format == SSM_FORMAT_REAL;
    }
}

/* The numbers of the oracle. */
static void fuzz_oracle(const fuzz_case *k, const ssm_real *state, const fuzz_result *got)
{
    const size_t M = k->d_model, rows = k->seqs.len, count = k->held;
    double *params = test_doubles(k->params, k->table.count), *h = test_doubles(state, count);
    double *y = test_doubles(got->y, k->extent), *scale = (double *)test_alloc(rows * sizeof *scale, 0);
    double *in = (double *)test_alloc(rows * M * sizeof *in, 0), *out = (double *)test_alloc(rows * M * sizeof *out, 0);
    layer_oracle o = {&k->resolved, &k->table, params, NULL};
    size_t b, t, c, len;
    for (b = 0; b < k->seqs.batch; ++b) {
        const size_t first = fuzz_first(k, b, &len), row = k->seqs.start ? first : b * k->seqs.len;
        if (fuzz_is_padding(k, b)) continue;
        for (t = 0; t < len; ++t) {
            for (c = 0; c < M; ++c) in[t * M + c] = (double)k->x[fuzz_at(k, b, first + t, c)];
            if (k->step_scale) scale[t] = (double)k->step_scale[row + t];
        }
        if (k->step_scale) o.scale = scale;
        layer_oracle_run(k->verbs, &o, M, h + fuzz_state_at(k, b), in, out, len);
        for (t = 0; t < len; ++t)
            for (c = 0; c < M; ++c) y[fuzz_at(k, b, first + t, c)] = out[t * M + c];
    }
    CHECK_CLOSE(got->y, y, k->extent, TOL(2e-4, 1e-11));
    CHECK_CLOSE(got->state, h, count, TOL(2e-4, 1e-11));
    test_free(params, 0), test_free(h, 0), test_free(y, 0), test_free(scale, 0), test_free(in, 0), test_free(out, 0);
}

/* Finite gradients, in memory of exactly the size, with some of them not wanted. */
static void fuzz_backward(const fuzz_case *k, void *tape, int with_state)
{
    const size_t bytes = k->need.work_backward + (with_state ? 0 : k->need.state);
    void *work = test_alloc(bytes, 3);
    ssm_real *dy = fuzz_normal(k->extent, 1), *dx = test_zeros(k->extent), *dparams = test_zeros(k->table.count);
    ssm_real *dstate = with_state ? fuzz_normal(k->held, 1) : NULL, *before = NULL;
    ssm_real *dx_wanted = fuzz_chance(6) ? NULL : dx, *dparams_wanted = fuzz_chance(6) ? NULL : dparams;
    if (dstate) before = test_copy(dstate, k->held);
    if (bytes && !k->empty) {
        CHECK_STATUS(k->verbs->backward(&k->layer, dstate, k->x, dy, dx_wanted, dparams_wanted, &k->seqs,
                                        fuzz_memory(tape, k->need.tape), fuzz_memory(work, bytes - 1)),
                     SSM_ERR_MEMORY);
        if (dstate) CHECK_SAME(dstate, before, k->held);
        CHECK(test_norm(dx, k->extent) == 0 && test_norm(dparams, k->table.count) == 0);
    }
    CHECK_OK(k->verbs->backward(&k->layer, dstate, k->x, dy, dx_wanted, dparams_wanted, &k->seqs,
                                fuzz_memory(tape, k->need.tape), fuzz_memory(work, bytes)));
    CHECK(fuzz_not_finite(dx, k->extent) == 0);
    CHECK(fuzz_not_finite(dparams, k->table.count) == 0);
    if (dstate) CHECK(fuzz_not_finite(dstate, k->held) == 0);
    if (before) test_free(before, 0), test_free(dstate, 0);
    test_free(work, 3), test_free(dy, 0), test_free(dx, 0), test_free(dparams, 0);
}

/*--- slots ---*/

/* Padding came out as 0, and states that no sequence uses are as they were. */
static void fuzz_check_slots(const fuzz_case *k, const ssm_real *state, const fuzz_result *got)
{
    ssm_real *y = test_copy(got->y, k->extent), *h = state ? test_copy(got->state, k->held) : NULL;
    size_t b;
    fuzz_clear_padding(k, y);
    CHECK_SAME(got->y, y, k->extent);
    for (b = 0; h && b < k->seqs.batch; ++b)
        if (!fuzz_is_padding(k, b))
            memcpy(h + fuzz_state_at(k, b), state + fuzz_state_at(k, b), k->states * sizeof *h);
    if (h) CHECK_SAME(h, state, k->held), test_free(h, 0);
    test_free(y, 0);
}

/* No state is that of two sequences, and there are no gradients. */
static void fuzz_wrong_slots(fuzz_case *k)
{
    const ptrdiff_t twice = (ptrdiff_t)fuzz_below(k->seqs.batch), last = k->slot[k->seqs.batch - 1], first = k->slot[0];
    ssm_real *y = (ssm_real *)test_alloc(k->extent * sizeof(ssm_real), 0);
    void *tape = test_alloc(k->need.tape, 0), *work = test_alloc(k->need.work + k->need.state, 0);
    const ssm_memory t = fuzz_memory(tape, k->need.tape), w = fuzz_memory(work, k->need.work + k->need.state);
    CHECK_STATUS(k->verbs->record(&k->layer, NULL, k->x, y, &k->seqs, t, w), SSM_ERR_UNSUPPORTED);
    CHECK_STATUS(k->verbs->backward(&k->layer, NULL, k->x, k->x, y, NULL, &k->seqs, t, w), SSM_ERR_UNSUPPORTED);
    k->slot[0] = k->slot[k->seqs.batch - 1] = twice;
    if (k->seqs.batch > 1) CHECK_STATUS(k->verbs->forward(&k->layer, NULL, k->x, y, &k->seqs, w), SSM_ERR_SHAPE);
    k->slot[0] = first, k->slot[k->seqs.batch - 1] = last;
    CHECK(fuzz_untouched(y, k->extent * sizeof *y));
    test_free(y, 0), test_free(tape, 0), test_free(work, 0);
}

/*--- one input ---*/

static int fuzz_bind(fuzz_case *k)
{
    ssm_rng rng = fuzz_numbers();
    size_t i;
    k->table = ssm_params_of(k->rows, SSM_PARAMS_MAX);
    CHECK_OK(k->verbs->params(&k->config, NULL, &k->table));
    CHECK(k->table.count * sizeof(ssm_real) == k->need.params);
    k->params = test_zeros(k->table.count);
    CHECK_OK(k->verbs->init(&k->config, k->params, ssm_rng_next(&rng)));
    CHECK(fuzz_not_finite(k->params, k->table.count) == 0);
    for (i = 0; i < k->table.count; ++i) k->params[i] += (ssm_real)0.1 * ssm_rng_normal(&rng);
    k->misalign = fuzz_below(70);
    k->bound = test_alloc(k->need.bound, k->misalign);
    CHECK_STATUS(k->verbs->bind(&k->layer, &k->config, k->params, fuzz_memory(k->bound, k->need.bound - 1)),
                 SSM_ERR_BOUND);
    CHECK(fuzz_untouched(k->bound, k->need.bound));
    CHECK_OK(k->verbs->bind(&k->layer, &k->config, k->params, fuzz_memory(k->bound, k->need.bound)));
    return test_failures == 0;
}

static int fuzz_fits(const ssm_sizes *need)
{
    return need->params < FUZZ_TOO_LARGE && need->bound < FUZZ_TOO_LARGE && need->state < FUZZ_TOO_LARGE &&
           need->work < FUZZ_TOO_LARGE && need->tape < FUZZ_TOO_LARGE && need->work_backward < FUZZ_TOO_LARGE;
}

static void fuzz_exercise(fuzz_case *k)
{
    const int state_allowed = !(k->type == FUZZ_S5 && k->config.s5.bidirectional);
    const int with_state = state_allowed && !fuzz_chance(4);
    test_pool pool = {1 + fuzz_below(4), 0};
    const ssm_parallel parallel = {test_pool_run, &pool};
    ssm_real *state = with_state ? fuzz_normal(k->held, 0.5) : NULL;
    fuzz_result first, again;
    k->x = fuzz_normal(k->extent, 1);
    fuzz_forward(k, state, &first, NULL);
    if (fuzz_chance(2)) k->seqs.parallel = &parallel;
    if (state && k->laws.exact && k->laws.steps) fuzz_steps(k, state, &first);
    if (state && fuzz_has_oracle(k)) fuzz_oracle(k, state, &first);
    if (k->seqs.slot) {
        fuzz_check_slots(k, state, &first);
        fuzz_wrong_slots(k);
    } else if (k->laws.trains) {
        void *tape = test_alloc(k->need.tape, 5);
        fuzz_forward(k, state, &again, tape);
        if (k->laws.exact) fuzz_expect_same(k, &first, &again);
        fuzz_backward(k, tape, with_state);
        fuzz_result_close(&again);
        test_free(tape, 5);
    }
    fuzz_result_close(&first);
    test_free(k->x, 0);
    if (state) test_free(state, 0);
}

static void fuzz_describe(const fuzz_case *k)
{
    const ssm_seqs *s = &k->seqs;
    size_t b;
    printf("    %s, d_model %lu, batch %lu, len %lu, strides %ld %ld %ld", fuzz_names[k->type],
           (unsigned long)k->d_model, (unsigned long)s->batch, (unsigned long)s->len, (long)s->x.batch, (long)s->x.time, (long)s->x.chan);
    for (b = 0; s->start && b <= s->batch; ++b) printf(" start %lu", (unsigned long)s->start[b]);
    for (b = 0; s->slot && b < s->batch; ++b) printf(" slot %ld", (long)s->slot[b]);
    printf(s->step_scale ? ", step_scale\n" : "\n");
}

static void fuzz_input(void)
{
    fuzz_case k;
    ssm_status status;
    memset(&k, 0, sizeof k);
    k.type = fuzz_below(FUZZ_LAYERS);
    k.verbs = fuzz_types[k.type];
    fuzz_config(k.type, fuzz_small, &k.config);
    memset(&k.resolved, 0x5a, sizeof k.resolved);
    status = k.verbs->resolve(&k.config, &k.resolved);
    if (status != SSM_OK) {
        CHECK(fuzz_untouched(&k.resolved, sizeof k.resolved));
        fuzz_refused(&k, status);
    } else {
        k.d_model = *(const size_t *)(const void *)&k.config;
        k.laws = fuzz_laws_of(k.type, &k.resolved);
        fuzz_sequences(&k);
        status = k.verbs->sizes(&k.config, &k.seqs, &k.need);
        if (k.seqs.step_scale && k.type != FUZZ_S5) {
            CHECK(status == SSM_ERR_UNSUPPORTED);
        } else {
            CHECK_OK(status);
            k.states = k.seqs.batch ? k.need.state / sizeof(ssm_real) / k.seqs.batch : 0;
            k.held *= k.states;
            if (status == SSM_OK && fuzz_fits(&k.need)) {
                if (fuzz_bind(&k)) {
                    fuzz_wrong_sequences(&k);
                    fuzz_exercise(&k);
                }
                test_free(k.bound, k.misalign), test_free(k.params, 0);
            }
        }
        if (k.step_scale) test_free(k.step_scale, 0);
    }
    if (test_failures) fuzz_describe(&k);
}
