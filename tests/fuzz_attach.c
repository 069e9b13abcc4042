/* fuzz_attach.c - hostile bound blocks: changed bytes, another config's block, too few bytes, no alignment, and bytes
 * changed by somebody who knows how to make the hash right again. attach refuses them, leaving the layer as it was, or
 * the layer is the very one that was bound; whatever it takes, forward and step stay inside their memory. */
#define FUZZ_NAME "attach"
#include "fuzz.h"
#include "fuzz_config.h"

#define FUZZ_TOO_LARGE ((size_t)1 << 24)
#define FUZZ_LEN 5

static const size_t fuzz_isa_at[FUZZ_LAYERS] = {
    offsetof(ssm_selective_config, isa), offsetof(ssm_s6_config, isa),  offsetof(ssm_mamba_config, isa),
    offsetof(ssm_mamba2_config, isa),    offsetof(ssm_mamba3_config, isa), offsetof(ssm_rglru_config, isa),
    offsetof(ssm_s4d_config, isa),       offsetof(ssm_s4_config, isa),     offsetof(ssm_s5_config, isa)};

typedef struct fuzz_model {
    size_t type;
    const layer_type *verbs;
    layer_any_config config, resolved;
    layer_any layer;
    ssm_sizes need;
    ssm_real *params;
    void *bound;
} fuzz_model;

/* A layer, bound; 0 if its config is refused or too large. */
static int fuzz_open(fuzz_model *m, size_t type, const layer_any_config *config)
{
    const ssm_seqs seqs = test_seqs(1, FUZZ_LEN);
    memset(m, 0, sizeof *m);
    m->type = type;
    m->verbs = fuzz_types[type];
    m->config = *config;
    if (m->verbs->resolve(&m->config, &m->resolved) != SSM_OK) return 0;
    CHECK_OK(m->verbs->sizes(&m->config, &seqs, &m->need));
    if (m->need.bound > FUZZ_TOO_LARGE || m->need.work > FUZZ_TOO_LARGE) return 0;
    m->params = (ssm_real *)test_alloc(m->need.params, 0);
    m->bound = test_alloc(m->need.bound, 0);
    CHECK_OK(m->verbs->init(&m->config, m->params, 5));
    CHECK_OK(m->verbs->bind(&m->layer, &m->config, m->params, ssm_memory_of(m->bound, m->need.bound)));
    return 1;
}

static void fuzz_close(fuzz_model *m)
{
    if (m->params) test_free(m->params, 0), test_free(m->bound, 0);
}

/* y and state after FUZZ_LEN steps: [FUZZ_LEN][d_model], then the state. What forward refuses is left as it was. */
static ssm_real *fuzz_outputs(const fuzz_model *m, const void *layer, size_t *count, ssm_status *status)
{
    const size_t d_model = *(const size_t *)(const void *)&m->config;
    const size_t states = m->need.state / sizeof(ssm_real), outputs = FUZZ_LEN * d_model;
    const ssm_seqs seqs = test_seqs(1, FUZZ_LEN);
    ssm_rng rng = test_rng(3);
    ssm_real *x = test_normal(&rng, outputs, 1), *all;
    void *work = test_alloc(m->need.work + m->need.state, 0);
    *count = outputs + states;
    all = test_zeros(*count);
    *status = m->verbs->forward(layer, fuzz_laws_of(m->type, &m->resolved).steps ? all + outputs : NULL, x, all, &seqs,
                                ssm_memory_of(work, m->need.work + m->need.state));
    test_free(x, 0), test_free(work, 0);
    return all;
}

/* The layer that attach made of m's block with the config of `as` computes what the one that bind made does, or cannot
 * compute at all. */
static void fuzz_expect_model(const fuzz_model *m, const fuzz_model *as, const void *attached, int same)
{
    ssm_status status, want_status;
    const int exact = m == as || (fuzz_laws_of(m->type, &m->resolved).exact &&
                                  fuzz_laws_of(as->type, &as->resolved).exact);
    size_t count, want_count;
    ssm_real *got = fuzz_outputs(as, attached, &count, &status);
    ssm_real *want = fuzz_outputs(m, &m->layer, &want_count, &want_status);
    CHECK_OK(want_status);
    CHECK(status == SSM_OK || status == SSM_ERR_UNSUPPORTED); /* S4's convolution form reads parameters */
    CHECK(count == want_count);
    if (status == SSM_OK && same && count == want_count) {
        if (exact) {
            CHECK_SAME(got, want, count);
        } else { /* another algorithm along time, which agrees within rounding */
            double *about = test_doubles(want, count);
            CHECK_CLOSE(got, about, count, TOL(1e-4, 1e-11));
            test_free(about, 0);
        }
    }
    test_free(got, 0), test_free(want, 0);
}

/* Some bytes of `block` changed; a run of them, bits, words of the header, or whole words. */
static void fuzz_damage(unsigned char *block, size_t bytes)
{
    size_t times = fuzz_between(1, 6);
    while (times--) {
        const size_t at = fuzz_chance(3) ? fuzz_below(64) : fuzz_below(bytes);
        switch (fuzz_below(4)) {
        case 0: block[at] ^= (unsigned char)(1u << fuzz_below(8)); break;
        case 1: block[at] = (unsigned char)fuzz_byte(); break;
        case 2: memset(block + at / 4 * 4, fuzz_chance(2) ? 0xff : 0, 4); break;
        default: memcpy(block + at / 4 * 4, block + fuzz_below(bytes / 4) * 4, 4); break;
        }
    }
}

/* attach on exactly `bytes` bytes, `misalign` off malloc's alignment: `expected`, if the address is one for reals. */
static void fuzz_attach(const fuzz_model *m, const unsigned char *block, size_t bytes, size_t misalign,
                        ssm_status expected, int forged)
{
    unsigned char *exact = (unsigned char *)test_alloc(bytes, misalign);
    unsigned char *layer = (unsigned char *)test_alloc(sizeof(layer_any), 0);
    const int aligned = (uintptr_t)exact % sizeof(ssm_real) == 0;
    ssm_status status;
    memcpy(exact, block, bytes);
    status = m->verbs->attach(layer, &m->config, ssm_bound_of(exact, bytes));
    CHECK_STATUS(status, aligned ? expected : SSM_ERR_BOUND);
    if (status == SSM_OK) fuzz_expect_model(m, m, layer, !forged);
    else CHECK(fuzz_untouched(layer, sizeof(layer_any)));
    CHECK(memcmp(exact, block, bytes) == 0);
    test_free(exact, misalign), test_free(layer, 0);
}

/* The config with one thing changed, or another one. */
static void fuzz_other_config(const fuzz_model *m, layer_any_config *other)
{
    layer_any_config random;
    size_t i;
    fuzz_config(m->type, fuzz_small, &random);
    *other = m->config;
    if (fuzz_chance(3)) {
        *other = random;
    } else { /* some fields come from the other one */
        for (i = fuzz_below(8) * 4; i + 4 <= sizeof random; i += 4 * fuzz_between(1, 40))
            memcpy((unsigned char *)other + i, (unsigned char *)&random + i, 4);
    }
}

/* The block under another config: refused, or the model is that of the block. (Coefficients of S4D, S4 and S5 lie in
 * the block, so that `disc` and the like are not read again.) */
static void fuzz_foreign(const fuzz_model *m, const unsigned char *block, size_t bytes)
{
    layer_any_config config;
    fuzz_model other;
    layer_any layer;
    ssm_status status;
    fuzz_other_config(m, &config);
    memcpy((unsigned char *)&config + fuzz_isa_at[m->type], (const unsigned char *)&m->config + fuzz_isa_at[m->type],
           sizeof(ssm_isa)); /* families differ */
    if (*(size_t *)(void *)&config <= 4096 && fuzz_open(&other, m->type, &config)) {
        status = m->verbs->attach(&layer, &config, ssm_bound_of(block, bytes));
        if (status == SSM_OK) fuzz_expect_model(m, &other, &layer, 1);
        else CHECK(status == SSM_ERR_CONFIG || status == SSM_ERR_BOUND);
        fuzz_close(&other);
    }
}

static void fuzz_blocks(const fuzz_model *m)
{
    const ssm_bound bound = m->verbs->bound(&m->layer);
    const size_t bytes = bound.bytes;
    unsigned char *block = (unsigned char *)test_alloc(bytes, 0);
    int changed, what = (int)fuzz_below(6);
    memcpy(block, bound.data, bytes);
    switch (what) {
    case 0: /* as it was */
        fuzz_attach(m, block, bytes, fuzz_below(9), SSM_OK, 0);
        break;
    case 1:
        fuzz_attach(m, block, fuzz_chance(2) ? bytes - 1 : fuzz_below(bytes), 0, SSM_ERR_BOUND, 0);
        break;
    case 2:
        fuzz_foreign(m, block, bytes);
        break;
    default:
        fuzz_damage(block, bytes);
        changed = memcmp(block, bound.data, bytes) != 0;
        if (what == 3) { /* numbers that nobody bound, but a right hash: taken, and whatever comes out */
            memcpy(block, bound.data, 16);
            ssm__set_word(block, SSM__BOUND_CHECK_AT, ssm__bound_check(block, bytes));
            fuzz_attach(m, block, bytes, 0, SSM_OK, 1);
        } else {
            fuzz_attach(m, block, bytes, 0, changed ? SSM_ERR_CONFIG : SSM_OK, 0);
        }
        break;
    }
    if (test_failures) printf("    %s, way %d\n", fuzz_names[m->type], what);
    test_free(block, 0);
}

static void fuzz_input(void)
{
    layer_any_config config;
    fuzz_model m;
    const size_t type = fuzz_below(FUZZ_LAYERS);
    fuzz_config(type, fuzz_small, &config);
    if (fuzz_open(&m, type, &config)) fuzz_blocks(&m);
    fuzz_close(&m);
}
