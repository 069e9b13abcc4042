/* bits.c - every layer's results, hashed: with FMA contraction off they are the same bits on every machine.
 *
 *   bits      prints one hash for each configuration and last "bits HASH", over all of them
 *
 * FNV-1a over the bytes of each number, least significant first, so that the byte order of the machine
 * does not count. check_targets.sh builds this for every target and compares what it prints. Exit status 1
 * if a call failed or a result was not finite.
 *
 * With SSM_NO_LIBC there is no main: bits_all() returns the last hash, or 0 on failure. On Windows such a
 * build has the entry point `entry`, which prints it with three functions of kernel32 and no C runtime.
 * C99 and C++11. */
#define SSM_IMPLEMENTATION
#include "../ssm.h"

#ifndef SSM_NO_LIBC
#include <stdio.h>
#else
#ifdef __cplusplus
extern "C" {
#endif
/* Compilers may emit calls of these two in any program. */
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
void *memcpy(void *to, const void *from, size_t n)
{
    size_t i;
    for (i = 0; i < n; ++i) ((unsigned char *)to)[i] = ((const unsigned char *)from)[i];
    return to;
}
void *memset(void *to, int value, size_t n)
{
    size_t i;
    for (i = 0; i < n; ++i) ((unsigned char *)to)[i] = (unsigned char)value;
    return to;
}
uint32_t bits_all(void);
#ifdef __cplusplus
}
#endif
#endif

/* Zeros for any struct, in either language. */
#ifdef __cplusplus
#define NONE \
    {        \
    }
#else
#define NONE \
    {        \
        0    \
    }
#endif

/* LEN: several tiles and chunks, and not whole ones. POOL: reals, for all the memory of one part. */
enum {
    BATCH = 2,
    LEN = 200,
    POOL = 1 << 19,
    FNV_PRIME = 16777619
};
static const uint32_t FNV_START = 2166136261u;

#ifdef SSM_DOUBLE
typedef uint64_t real_bits;
#else
typedef uint32_t real_bits;
#endif

static uint32_t hash, total; /* of the running part, of all parts */
static int failed;
static ssm_real pool[POOL];
static size_t pool_used;
static ssm_rng rng;

static void add_real(ssm_real value)
{
    real_bits bits = 0;
    size_t i;
    for (i = 0; i < sizeof bits; ++i) ((unsigned char *)&bits)[i] = ((const unsigned char *)&value)[i];
    for (i = 0; i < sizeof bits; ++i, bits >>= 8) hash = (hash ^ (uint32_t)(bits & 255u)) * FNV_PRIME;
    if (!(value - value == 0)) failed = 1; /* NaN or infinite: their bits may differ, and must not occur */
}

static void add(const ssm_real *p, size_t bytes)
{
    size_t i;
    for (i = 0; i < bytes / sizeof *p; ++i) add_real(p[i]);
}

static void must(ssm_status status)
{
    if (status != SSM_OK) failed = 1;
}

static void begin(void)
{
    hash = FNV_START;
    pool_used = 0;
    rng.state = 20261123;
}

static void end(const char *name)
{
    int i;
#ifndef SSM_NO_LIBC
    printf("%-22s %08lx\n", name, (unsigned long)hash);
#else
    (void)name;
#endif
    for (i = 0; i < 32; i += 8) total = (total ^ (hash >> i & 255u)) * FNV_PRIME;
}

/* Zeros; a new part starts from an empty pool. */
static ssm_real *take(size_t bytes)
{
    const size_t count = (bytes + sizeof(ssm_real) - 1) / sizeof(ssm_real);
    ssm_real *p = pool + pool_used;
    size_t i;
    if (count > POOL - pool_used) {
        failed = 1;
        return NULL; /* which every verb refuses */
    }
    for (i = 0; i < count; ++i) p[i] = 0;
    pool_used += count;
    return p;
}

static ssm_real *random_numbers(size_t bytes)
{
    ssm_real *p = take(bytes);
    size_t i;
    for (i = 0; p && i < bytes / sizeof *p; ++i) p[i] = ssm_rng_normal(&rng);
    return p;
}

/*--- layers ---*/

typedef struct blocks {
    ssm_sizes need;
    ssm_seqs seqs;
    size_t bytes; /* of x */
    ssm_real *params, *dparams, *x, *y, *dx, *dy, *state, *dstate;
    void *bound, *work, *tape;
    size_t work_bytes;
} blocks;

static void blocks_take(blocks *b, size_t d_model)
{
    const ssm_sizes *n = &b->need;
    ssm_real *scale = random_numbers(BATCH * LEN * sizeof *scale);
    size_t i;
    for (i = 0; scale && i < BATCH * LEN; ++i) scale[i] = 1 + scale[i] * scale[i]; /* irregular sampling, for S5 */
    b->seqs.step_scale = scale;
    b->bytes = BATCH * LEN * d_model * sizeof(ssm_real);
    b->x = random_numbers(b->bytes);
    b->dy = random_numbers(b->bytes);
    b->y = take(b->bytes);
    b->dx = take(b->bytes);
    b->params = take(n->params);
    b->dparams = take(n->params);
    b->state = n->state ? random_numbers(n->state) : NULL;
    b->dstate = n->state ? random_numbers(n->state) : NULL;
    b->bound = take(n->bound);
    b->tape = take(n->tape);
    b->work_bytes = (n->work > n->work_backward ? n->work : n->work_backward) + n->state;
    b->work = take(b->work_bytes);
}

/* Off the values that init gives to whole tensors: a zero or a one hides what it multiplies. */
static void disturb(blocks *b)
{
    size_t i;
    for (i = 0; i < b->need.params / sizeof *b->params; ++i) b->params[i] += ssm_rng_normal(&rng) * (ssm_real)0.0625;
}

static void add_result(const blocks *b)
{
    add(b->y, b->bytes);
    if (b->state) add(b->state, b->need.state);
}

#define LAYER(X)                                                                                                    \
    static void run_##X(const char *name, const ssm_##X##_config *config, int steps)                                \
    {                                                                                                               \
        ssm_##X layer;                                                                                              \
        blocks b;                                                                                                   \
        const ssm_seqs none = NONE;                                                                                 \
        begin();                                                                                                    \
        b.seqs = none;                                                                                              \
        b.seqs.batch = BATCH;                                                                                       \
        b.seqs.len = LEN;                                                                                           \
        must(ssm_##X##_sizes(config, &b.seqs, &b.need));                                                            \
        blocks_take(&b, config->d_model);                                                                           \
        if (failed) return;                                                                                         \
        must(ssm_##X##_init(config, b.params, 42));                                                                 \
        add(b.params, b.need.params);                                                                               \
        disturb(&b);                                                                                                \
        must(ssm_##X##_bind(&layer, config, b.params, b.bound, b.need.bound));                                      \
        must(ssm_##X##_forward(&layer, b.state, b.x, b.y, &b.seqs, b.work, b.work_bytes));                          \
        add_result(&b);                                                                                             \
        if (steps) must(ssm_##X##_step(&layer, b.state, b.dy, b.y, BATCH, b.work, b.work_bytes));                   \
        add_result(&b);                                                                                             \
        must(ssm_##X##_record(&layer, b.state, b.x, b.y, &b.seqs, b.tape, b.need.tape, b.work, b.work_bytes));      \
        add_result(&b);                                                                                             \
        must(ssm_##X##_backward(&layer, b.dstate, b.x, b.dy, b.dx, b.dparams, &b.seqs, b.tape, b.need.tape, b.work, \
                                b.work_bytes));                                                                     \
        add(b.dx, b.bytes);                                                                                         \
        add(b.dparams, b.need.params);                                                                              \
        if (b.dstate) add(b.dstate, b.need.state);                                                                  \
        end(name);                                                                                                  \
    }

LAYER(selective)
LAYER(s6)
LAYER(mamba)
LAYER(s4d)
LAYER(s4)
LAYER(s5)

/* One configuration: d_model 6, whatever `settings` change, and a name. */
#define RUN(X, name, steps, settings)       \
    do {                                    \
        const ssm_##X##_config zero = NONE; \
        ssm_##X##_config c = zero;          \
        c.d_model = 6;                      \
        settings;                           \
        run_##X(name, &c, steps);           \
    } while (0)

static void layers(void)
{
    RUN(selective, "selective", 1, (void)0);
    RUN(selective, "selective bilinear", 1, c.disc = SSM_DISC_BILINEAR);
    RUN(selective, "selective dirac", 1, c.disc = SSM_DISC_DIRAC);
    RUN(s6, "s6", 1, (void)0);
    RUN(s6, "s6 trapezoid", 1, c.disc = SSM_DISC_TRAPEZOID; c.n_groups = 2);
    RUN(s6, "s6 chunked", 1, c.scan = SSM_SCAN_CHUNKED; c.dt_rank = 3);
    RUN(s6, "s6 blelloch", 1, c.scan = SSM_SCAN_BLELLOCH; c.disc = SSM_DISC_ZOH);
    RUN(s6, "s6 zeta", 1, ssm_s6_preset(&c, SSM_PRESET_ZETA));
    RUN(mamba, "mamba", 1, (void)0);
    RUN(mamba, "mamba norm residual", 1, c.pre_norm = 1; c.residual = 1; c.proj_bias = 1);
    RUN(mamba, "mamba tracetorch", 1, ssm_mamba_preset(&c, SSM_PRESET_TRACETORCH));
    RUN(mamba, "mamba zerfoo", 1, ssm_mamba_preset(&c, SSM_PRESET_ZERFOO));
    RUN(mamba, "mamba bf16", 1, c.format = SSM_FORMAT_BF16);
    RUN(mamba, "mamba int8", 1, c.format = SSM_FORMAT_INT8);
    RUN(s4d, "s4d", 1, c.d_state = 16);
    RUN(s4d, "s4d gelu glu", 1, c.d_state = 8; c.activation = SSM_S4_ACTIVATION_GELU; c.output = SSM_S4_OUTPUT_GLU;
        c.train_B = 1; c.init = SSM_S4_INIT_LEGS; c.pre_norm = 1; c.residual = 1);
    RUN(s4d, "s4d convolution", 1, c.d_state = 8; c.form = SSM_S4_FORM_CONVOLUTION; c.disc = SSM_DISC_BILINEAR);
    RUN(s4d, "s4d bidirectional", 0, c.d_state = 8; c.bidirectional = 1; c.init = SSM_S4_INIT_INV);
    RUN(s4d, "s4d real", 1, c.d_state = 5; c.real_state = 1);
    RUN(s4, "s4", 1, c.d_state = 16);
    RUN(s4, "s4 convolution", 1, c.d_state = 8; c.form = SSM_S4_FORM_CONVOLUTION);
    RUN(s4, "s4 bidirectional", 0, c.d_state = 8; c.bidirectional = 1; c.output = SSM_S4_OUTPUT_GLU);
    RUN(s5, "s5", 1, c.d_state = 16);
    RUN(s5, "s5 full glu", 1, c.d_state = 8; c.activation = SSM_S5_FULL_GLU; c.blocks = 2; c.pre_norm = 1);
    RUN(s5, "s5 bilinear chunked", 1, c.d_state = 8; c.disc = SSM_DISC_BILINEAR; c.scan = SSM_SCAN_CHUNKED);
    RUN(s5, "s5 blelloch", 1, c.d_state = 8; c.scan = SSM_SCAN_BLELLOCH; c.activation = SSM_S5_GELU);
    RUN(s5, "s5 bidirectional", 0, c.d_state = 8; c.bidirectional = 1; c.no_conj_sym = 1);
    RUN(s5, "s5 tracetorch", 1, c.d_state = 8; ssm_s5_preset(&c, SSM_PRESET_TRACETORCH));
}

/*--- ops that no layer runs, and the optimiser ---*/

static void run_linear_scan(const char *name, ssm_scan scan, size_t len, int complex_values)
{
    const ssm_linear_scan none = NONE;
    const ssm_linear_scan_grad no_grad = NONE;
    ssm_linear_scan s = none;
    ssm_linear_scan_grad g = no_grad;
    const size_t dim = 3, bytes = BATCH * len * dim * 2 * sizeof(ssm_real);
    ssm_real *a, *b, *h, *da, *db, *dh;
    ssm_in view;
    ssm_sizes need;
    size_t i;
    begin();
    a = random_numbers(bytes);
    b = random_numbers(bytes);
    dh = random_numbers(bytes);
    h = take(bytes);
    da = take(bytes);
    db = take(bytes);
    for (i = 0; i < bytes / sizeof *a; ++i) a[i] = (ssm_real)0.9 - a[i] * a[i] * (ssm_real)0.125;
    view = ssm_in_btc(a, len, dim);
    if (complex_values) view = ssm_in_pairs(view);
    s.batch = BATCH;
    s.len = len;
    s.dim = dim;
    s.scan = scan;
    s.complex_values = complex_values;
    s.a = s.b = g.dh = view;
    s.b.data = b;
    g.dh.data = dh;
    s.h = ssm_out_like(h, view);
    g.da = ssm_out_like(da, view);
    g.db = ssm_out_like(db, view);
    must(ssm_linear_scan_sizes(&s, &need));
    must(ssm_linear_scan_forward(&s, take(need.work), need.work));
    must(ssm_linear_scan_backward(&s, &g));
    add(h, bytes);
    add(da, bytes);
    add(db, bytes);
    end(name);
}

static void run_others(void)
{
    const ssm_adamw none = NONE;
    ssm_adamw adamw = none;
    ssm_param row;
    ssm_params table;
    ssm_real *weights, *grads, *moments, *x, *y, norm = 0, recalled = 0;
    size_t bytes, i;

    begin();
    x = random_numbers(16 * sizeof *x);
    for (i = 0; i < 300; ++i) must(ssm_hippo_update(x, 16, i + 1, ssm_rng_normal(&rng)));
    must(ssm_hippo_recall(x, 16, (ssm_real)0.3, &recalled));
    add(x, 16 * sizeof *x);
    add_real(recalled);
    end("hippo");

    begin();
    must(ssm_convolve_size(100, 77, &bytes));
    x = random_numbers(177 * sizeof *x);
    y = take(176 * sizeof *y);
    must(ssm_convolve(x, 100, x + 100, 77, y, take(bytes), bytes));
    add(y, 176 * sizeof *y);
    end("fft");

    begin();
    table.row = &row;
    table.capacity = 1;
    table.rows = table.count = 0;
    must(ssm_linear_params(7, 5, 0, NULL, &table));
    bytes = table.count * sizeof *weights;
    weights = random_numbers(bytes);
    grads = random_numbers(bytes);
    moments = take(2 * bytes);
    adamw.lr = (ssm_real)0.01;
    adamw.weight_decay = (ssm_real)0.1;
    adamw.clip_norm = 1;
    for (i = 1; i <= 3; ++i) must(ssm_adamw_step(&adamw, &table, weights, grads, moments, i, &norm));
    add(weights, bytes);
    add(moments, 2 * bytes);
    add_real(norm);
    end("adamw");
}

static int run_all(void)
{
    total = FNV_START;
    layers();
    run_linear_scan("linear scan", SSM_SCAN_SEQUENTIAL, 2000, 0);
    run_linear_scan("linear scan chunked", SSM_SCAN_CHUNKED, 2000, 0);
    run_linear_scan("linear scan blelloch", SSM_SCAN_BLELLOCH, LEN, 0);
    run_linear_scan("linear scan complex", SSM_SCAN_BLELLOCH, LEN, 1);
    run_others();
    return !failed;
}

#ifndef SSM_NO_LIBC

int main(void)
{
    const int good = run_all();
    printf("bits %08lx\n", (unsigned long)total);
    if (!good) printf("a call failed or a result was not finite\n");
    return !good;
}

#else

uint32_t bits_all(void)
{
    return run_all() ? total : 0;
}

#ifdef _WIN32
#ifdef __cplusplus
extern "C" {
#endif
__declspec(dllimport) void *__stdcall GetStdHandle(unsigned long which);
__declspec(dllimport) int __stdcall WriteFile(void *file, const void *from, unsigned long bytes, unsigned long *written,
                                              void *overlapped);
__declspec(dllimport) void __stdcall ExitProcess(unsigned int status);
extern int _fltused;
int _fltused = 0; /* Microsoft's objects ask for it where there are floats */
void entry(void);
void entry(void)
{
    const uint32_t result = bits_all();
    char text[15] = "bits ";
    unsigned long written;
    int i;
    for (i = 0; i < 8; ++i) text[5 + i] = "0123456789abcdef"[result >> (28 - 4 * i) & 15u];
    text[13] = '\r';
    text[14] = '\n';
    WriteFile(GetStdHandle((unsigned long)-11), text, 15, &written, NULL);
    ExitProcess(result == 0);
}
#ifdef __cplusplus
}
#endif
#endif

#endif
