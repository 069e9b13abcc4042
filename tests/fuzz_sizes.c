/* fuzz_sizes.c - extents of any size, up to SIZE_MAX and with products that wrap, into every function that says a size:
 * SSM_ERR_OVERFLOW, or a size that is exact or at least not too small. What a size is compared with is computed in
 * floating point, which does not wrap. Worth its time on a machine of 32 bits too. */
#define FUZZ_NAME "sizes"
#include "fuzz.h"
#include "fuzz_config.h"

/* Small, near a power of two, near SIZE_MAX, or near a quotient of it: what products wrap at. */
static size_t fuzz_hostile(size_t most)
{
    const size_t bits = 8 * sizeof(size_t), near = fuzz_below(5);
    switch (fuzz_below(6)) {
    case 0: return ((size_t)1 << fuzz_below(bits)) + near - 2 ? ((size_t)1 << fuzz_below(bits)) : 1;
    case 1: return (size_t)-1 - near;
    case 2: return (size_t)-1 / (1 + fuzz_below(4096)) + near - 2;
    case 3: return ((size_t)1 << fuzz_below(bits / 2 + 4)) + near;
    default: return fuzz_small(most);
    }
}

/* An exact size of `want` bytes: SSM_OK with it, or an overflow that is one. Where doubles are no longer exact the
 * comparison allows for their rounding. */
static void fuzz_expect_size(const char *what, ssm_status status, size_t got, double want)
{
    const double most = (double)(size_t)-1;
    if (status == SSM_OK && !(fabs((double)got - want) <= want * 1e-12))
        test_fail(__FILE__, __LINE__, "%s: %.17g bytes, expected %.17g", what, (double)got, want);
    if (status != SSM_OK && (status != SSM_ERR_OVERFLOW || want < most / 16))
        test_fail(__FILE__, __LINE__, "%s: %s at %.17g bytes", what, ssm_status_string(status), want);
}

/* A size of at least `want` bytes. */
static void fuzz_expect_least(const char *what, ssm_status status, size_t got, double want)
{
    if (status == SSM_OK && (double)got < want * (1 - 1e-12))
        test_fail(__FILE__, __LINE__, "%s: %.17g bytes are less than %.17g", what, (double)got, want);
    if (status != SSM_OK) CHECK(status == SSM_ERR_OVERFLOW);
}

/*--- layers ---*/

/* Reals of the parameters, by the rows of the table; 0 if it cannot be made. */
static double fuzz_params(const layer_type *verbs, const void *config)
{
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table = ssm_params_of(rows, SSM_PARAMS_MAX);
    double sum = 0;
    size_t i;
    if (verbs->params(config, NULL, &table) != SSM_OK) return 0;
    for (i = 0; i < table.rows; ++i) {
        double count = 1;
        size_t k;
        for (k = 0; k < 3; ++k) count *= (double)rows[i].shape[k];
        if (fabs((double)rows[i].count - count) > count * 1e-12 || fabs((double)rows[i].offset - sum) > sum * 1e-12)
            test_fail(__FILE__, __LINE__, "%s: %.17g elements at %.17g", rows[i].name, (double)rows[i].count,
                      (double)rows[i].offset);
        sum += count;
    }
    return sum;
}

/* Reals in the state of one stream, by the docstrings. */
static double fuzz_states(size_t type, const layer_any_config *c)
{
    const double N = (double)c->selective.d_state, D = (double)c->selective.d_model; /* the first two of every config */
    switch (type) {
    case FUZZ_SELECTIVE: return (c->selective.disc == SSM_DISC_TRAPEZOID || c->selective.complex_A ? 2 : 1) * N * D;
    case FUZZ_S6: return (c->s6.disc == SSM_DISC_TRAPEZOID || c->s6.complex_A ? 2 : 1) * N * D;
    case FUZZ_MAMBA:
        return ((double)c->mamba.d_conv - 1 + (c->mamba.disc == SSM_DISC_TRAPEZOID || c->mamba.complex_A ? 2 : 1) * N) *
               (double)c->mamba.d_inner;
    case FUZZ_MAMBA2:
        return ((double)c->mamba2.d_conv - 1) * ((double)c->mamba2.d_inner + 2 * (double)c->mamba2.n_groups * N) +
               N * (double)c->mamba2.d_inner;
    case FUZZ_MAMBA3: {
        const double E = (double)c->mamba3.d_inner, H = E / (double)c->mamba3.headdim;
        const double r = c->mamba3.mimo_rank ? (double)c->mamba3.mimo_rank : 1;
        return H * floor((c->mamba3.rope_fraction < 1 ? floor(N / 2) : N) / 2) + (N + 1) * E + H * r * N;
    }
    case FUZZ_RGLRU: return (double)c->rglru.conv_width * (double)c->rglru.lru_width + (c->rglru.no_reset ? 0 : 1);
    case FUZZ_S4D:
    case FUZZ_S4: return N * D;
    default: return c->s5.bidirectional ? 0 : c->s5.no_conj_sym && !c->s5.real_state ? 2 * N : N;
    }
}

static void fuzz_layer(void)
{
    const size_t type = fuzz_below(FUZZ_LAYERS);
    const layer_type *verbs = fuzz_types[type];
    const double real = (double)sizeof(ssm_real);
    ssm_sizes need, more;
    ssm_seqs seqs = {0};
    layer_any_config config, resolved;
    ssm_status status;
    double params;
    fuzz_config(type, fuzz_hostile, &config);
    seqs.batch = fuzz_hostile(4), seqs.len = fuzz_hostile(100);
    if (verbs->resolve(&config, &resolved) != SSM_OK) return;
    params = fuzz_params(verbs, &config);
    memset(&need, 0x5a, sizeof need);
    status = verbs->sizes(&config, &seqs, &need);
    if (status != SSM_OK) {
        CHECK(status == SSM_ERR_OVERFLOW && fuzz_untouched(&need, sizeof need));
    } else {
        fuzz_expect_size("params", status, need.params, params * real);
        fuzz_expect_size("state", status, need.state, fuzz_states(type, &resolved) * (double)seqs.batch * real);
        CHECK(need.work_step <= need.work || seqs.len == 0 || seqs.batch == 0);
        CHECK(need.bound >= 64);
        seqs.batch /= 2; /* fewer need no more: no size has wrapped. (A shorter sequence may.) */
        CHECK_OK(verbs->sizes(&config, &seqs, &more));
        CHECK(more.params == need.params && more.bound == need.bound && more.state <= need.state);
        CHECK(more.tape <= need.tape && more.work <= need.work && more.work_backward <= need.work_backward);
    }
    if (test_failures) printf("    %s\n", fuzz_names[type]);
}

/*--- ops ---*/

static double fuzz_panels(double in, double out, ssm_format format)
{
    const double real = (double)sizeof(ssm_real), panels = floor((out + 15) / 16);
    if (format == SSM_FORMAT_BF16) return panels * 16 * in * 2;
    if (format == SSM_FORMAT_INT8) return panels * 16 * (in + real);
    return panels * 16 * in * real;
}

static void fuzz_linear(void)
{
    ssm_linear l = {0};
    ssm_params table = ssm_params_of(NULL, 0);
    size_t bytes = 0;
    ssm_status status;
    double count;
    l.in = fuzz_hostile(40), l.out = fuzz_hostile(40), l.format = (ssm_format)fuzz_below(3);
    if (!l.in || !l.out) return;
    status = ssm_linear_pack_size(&l, &bytes);
    fuzz_expect_least("pack", status, bytes, fuzz_panels((double)l.in, (double)l.out, l.format));
    if (status != SSM_OK) CHECK(fuzz_panels((double)l.in, (double)l.out, l.format) > (double)(size_t)-1 / 64);
    count = (double)l.in * (double)l.out + (double)l.out;
    status = ssm_linear_params(l.in, l.out, 1, "a.", &table);
    fuzz_expect_size("linear_params", status, table.count, count);
    if (status == SSM_OK) {
        const size_t dim = fuzz_hostile(40);
        status = ssm_norm_params(dim, "b.", &table);
        if (dim && status == SSM_OK) fuzz_expect_size("norm_params", status, table.count, count + (double)dim);
    }
}

/* Two rows of the table, then one; and memory for no more than 128 rows of a LayerNorm. */
static void fuzz_norms(void)
{
    ssm_params table = ssm_params_of(NULL, 0);
    ssm_layer_norm norm = {0};
    ssm_sizes need;
    const size_t count = fuzz_hostile(40), dim = fuzz_hostile(40), rows = fuzz_hostile(200);
    ssm_status status = ssm_layer_norm_params(dim, "a.", &table);
    if (dim) fuzz_expect_size("layer_norm_params", status, table.count, 2 * (double)dim);
    else CHECK(status == SSM_ERR_CONFIG);
    if (status == SSM_OK) {
        const double before = (double)table.count;
        status = ssm_embedding_params(count, dim, "b.", &table);
        if (count) fuzz_expect_size("embedding_params", status, table.count, before + (double)count * (double)dim);
        else CHECK(status == SSM_ERR_CONFIG);
    }
    norm.dim = dim;
    status = ssm_layer_norm_sizes(&norm, rows, &need);
    if (dim) fuzz_expect_least("layer_norm", status, need.work_backward,
                               2 * (double)dim * (double)(rows < 128 ? rows : 128) * (double)sizeof(ssm_real));
    else CHECK(status == SSM_ERR_CONFIG);
}

static void fuzz_transforms(void)
{
    const size_t n = fuzz_hostile(1000), a = fuzz_hostile(100), b = fuzz_hostile(100);
    size_t bytes = 0;
    ssm_status status = ssm_fft_size(n, &bytes);
    if (n && (n & (n - 1)) == 0) fuzz_expect_least("fft", status, bytes, n > 64 ? 1 : 0);
    else CHECK(status == SSM_ERR_SHAPE);
    status = ssm_convolve_size(a, b, &bytes);
    fuzz_expect_least("convolve", status, bytes,
                      a && b ? ((double)a + (double)b - 1) * (double)sizeof(ssm_real) : 0);
}

/* A scan of hostile extents says a size, or overflows; twice the sequences never need less. */
static void fuzz_scans(void)
{
    static const ssm_real one[2] = {0, 0};
    ssm_in view = {0};
    ssm_out out = {0};
    ssm_sizes need, half;
    ssm_status status;
    const size_t kind = fuzz_below(4);
    const size_t batch = fuzz_hostile(4), len = fuzz_hostile(100), dim = fuzz_hostile(40), d_state = fuzz_hostile(20);
    const ssm_scan scan = (ssm_scan)fuzz_below(4);
    ssm_real y[2] = {0, 0};
    ssm_selective_scan s = {0};
    ssm_ssd d = {0};
    ssm_s5_scan c = {0};
    ssm_linear_scan l = {0};
    size_t pass;
    view.data = one, out.data = y;
    s.dim = dim, s.d_state = d_state, s.disc = (ssm_disc)fuzz_below(7), s.scan = scan;
    s.u = s.delta = s.A = s.B = s.C = view, s.y = out;
    d.heads = dim, d.headdim = fuzz_hostile(20), d.d_state = d_state, d.scan = scan;
    d.x = d.delta = d.A = d.B = d.C = view, d.y = out;
    c.dim = dim, c.d_state = d_state, c.u = c.delta = c.A = c.B = c.C = view, c.y = out;
    l.dim = dim, l.scan = scan, l.complex_values = fuzz_flag(), l.a = l.b = view, l.h = out;
    memset(&need, 0, sizeof need), memset(&half, 0, sizeof half);
    for (pass = 0; pass < 2; ++pass) {
        const size_t sequences = pass ? batch / 2 : batch;
        ssm_sizes *to = pass ? &half : &need;
        s.batch = d.batch = c.batch = l.batch = sequences, s.len = d.len = c.len = l.len = len;
        status = kind == 0   ? ssm_selective_scan_sizes(&s, to)
                 : kind == 1 ? ssm_ssd_sizes(&d, to)
                 : kind == 2 ? ssm_s5_scan_sizes(&c, to)
                             : ssm_linear_scan_sizes(&l, to);
        if (status != SSM_OK) {
            CHECK(status == SSM_ERR_OVERFLOW || dim == 0 || d_state == 0 || (kind == 1 && d.headdim == 0));
            CHECK(!pass); /* half of what had a size has one */
            break;
        }
    }
    if (status == SSM_OK) CHECK(half.work <= need.work && half.work_backward <= need.work_backward);
    if (kind == 2 && status == SSM_OK && batch && len)
        fuzz_expect_least("s5_scan", status, need.work, 2 * (double)dim * (double)d_state * (double)sizeof(ssm_real));
    if (test_failures) printf("    scan %lu\n", (unsigned long)kind);
}

/* Kernels of any length of bound layers. */
static void fuzz_kernels(void)
{
    ssm_s4_config config = {0};
    ssm_s4d_config diagonal = {0};
    const ssm_seqs seqs = test_seqs(1, 1);
    const size_t len = fuzz_hostile(100);
    ssm_sizes need;
    ssm_s4 s4;
    ssm_s4d s4d;
    size_t bytes = 0, pass;
    config.d_model = diagonal.d_model = fuzz_small(3), config.d_state = diagonal.d_state = 4;
    for (pass = 0; pass < 2; ++pass) {
        void *params, *bound;
        ssm_status status;
        CHECK_OK(pass ? ssm_s4d_sizes(&diagonal, &seqs, &need) : ssm_s4_sizes(&config, &seqs, &need));
        params = test_alloc(need.params, 0), bound = test_alloc(need.bound, 0);
        CHECK_OK(pass ? ssm_s4d_init(&diagonal, (ssm_real *)params, 1) : ssm_s4_init(&config, (ssm_real *)params, 1));
        CHECK_OK(pass ? ssm_s4d_bind(&s4d, &diagonal, (ssm_real *)params, ssm_memory_of(bound, need.bound))
                      : ssm_s4_bind(&s4, &config, (ssm_real *)params, ssm_memory_of(bound, need.bound)));
        status = pass ? ssm_s4d_kernel_size(&s4d, len, &bytes) : ssm_s4_kernel_size(&s4, len, &bytes);
        fuzz_expect_least("kernel", status, bytes, pass ? 0 : (double)len * (double)sizeof(ssm_real));
        test_free(params, 0), test_free(bound, 0);
    }
}

static void fuzz_input(void)
{
    switch (fuzz_below(16)) {
    case 0: fuzz_linear(); break;
    case 1: fuzz_transforms(); break;
    case 2:
    case 3: fuzz_scans(); break;
    case 4: fuzz_kernels(); break;
    case 5: fuzz_norms(); break;
    default: fuzz_layer(); break;
    }
}
