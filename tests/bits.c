/* bits.c - law of bits: the results of every verb of every layer and op, hashed, for each instruction set.
 *
 *   bits               for each instruction set of this machine one line: family, name, hash of all results. Fails if
 *                      two of a family differ
 *   bits --parts       before that, family, instruction set, hash and name of every part
 *   bits [--parts] ISA that instruction set alone
 *
 * Members of a family (plain, fused: see NUMERICS in ssm.h) have the same hashes on every machine, whatever the
 * compiler, its level and its contraction; what has no instruction set, init and HiPPO's memory, is the same in both.
 * check_targets.sh builds this for every target and compares part by part. Parameters and inputs are integers of
 * ssm_rng times a power of two.
 *
 * FNV-1a over the bytes of each number, least significant first, so that the byte order of the machine does not
 * count. Exit status 1 if two members of a family differ, a call failed or a result was not finite.
 *
 * With SSM_NO_LIBC, or BITS_BARE (no C library here, whatever the header uses), there is no main: bits_all(0) is the
 * hash of the plain family, bits_all(1) of the fused one, 0 if it has no member, 1 on failure. On Windows such a build
 * has the entry point `entry`, which prints both with three functions of kernel32 and no C runtime. C99 and C++11. */
#if defined(SSM_NO_LIBC) && !defined(BITS_BARE)
#define BITS_BARE
#endif
#ifndef BITS_BARE
#include <stdio.h>
#else
#include <stddef.h>
#include <stdint.h>
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
uint32_t bits_all(int family);
#ifdef __cplusplus
}
#endif
#endif

#include "../ssm.h"

/* What isa 0 stands for while one instruction set is at work. */
static ssm_isa chosen;
#define SSM_DEFAULT_ISA chosen
#define SSM_COMPLEX_LAYERS /* on every target */
#define SSM_IMPLEMENTATION
#include "../ssm.h"

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

/* LEN: several tiles and chunks, and not whole ones. POOL: reals, for all the memory of one configuration. */
enum {
    BATCH = 2,
    LEN = 200,
    D_MODEL = 20, /* inner widths of whole blocks of 16 channels and a rest */
    POOL = 1 << 21,
    PARTS = 400,
    FNV_PRIME = 16777619
};
static const uint32_t FNV_START = 2166136261u;

#ifdef SSM_DOUBLE
typedef uint64_t real_bits;
#else
typedef uint32_t real_bits;
#endif

enum {
    PLAIN,
    FUSED,
    FAMILIES
};
static const char *const family_names[FAMILIES] = {"plain", "fused"};

static struct {
    uint32_t hash[PARTS]; /* as the first member of the family had them */
    ssm_isa isa;          /* that member; 0: none so far */
    uint32_t total;
} families[FAMILIES];

static int family, part;    /* of the running instruction set; the next part */
static uint32_t hash, total; /* of the running part; of all */
static int failed, print_parts;
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

/* A new configuration: its memory and its random numbers. */
static void begin(void)
{
    hash = FNV_START;
    pool_used = 0;
    rng.state = 20261123;
}

/* One part is complete: printed, compared with the first member of its family. */
static void end(const char *name, const char *verb)
{
    const int at = part++;
    int i, differs;
    if (at >= PARTS) {
        failed = 1;
        return;
    }
    if (!families[family].isa) families[family].isa = chosen;
    if (families[family].isa == chosen) families[family].hash[at] = hash;
    differs = families[family].hash[at] != hash;
    failed |= differs;
#ifndef BITS_BARE
    if (print_parts || differs) {
        printf("%s %s %08lx %s%s%s", family_names[family], ssm_isa_name(chosen), (unsigned long)hash, name,
               *verb ? "/" : "", verb);
        if (differs) printf(" differs from %s", ssm_isa_name(families[family].isa));
        printf("\n");
    }
#else
    (void)name;
    (void)verb;
    (void)family_names;
    (void)print_parts;
#endif
    for (i = 0; i < 32; i += 8) total = (total ^ (hash >> i & 255u)) * FNV_PRIME;
    hash = FNV_START;
}

/* Zeros; a new configuration starts from an empty pool. */
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

static ssm_memory take_memory(size_t bytes)
{
    return ssm_memory_of(take(bytes), bytes);
}

/* In [-2, 2), every bit of the mantissa in use: an integer of that many bits times a power of two. */
static ssm_real random_number(void)
{
#ifdef SSM_DOUBLE
    return (ssm_real)((int64_t)(ssm_rng_next(&rng) >> 11) - ((int64_t)1 << 52)) / (ssm_real)((int64_t)1 << 51);
#else
    return (ssm_real)((int32_t)(ssm_rng_next(&rng) >> 40) - (1 << 23)) / (ssm_real)(1 << 22);
#endif
}

static ssm_real *random_numbers(size_t bytes)
{
    ssm_real *p = take(bytes);
    size_t i;
    for (i = 0; p && i < bytes / sizeof *p; ++i) p[i] = random_number();
    return p;
}

/*--- layers ---*/

typedef struct blocks {
    ssm_sizes need;
    ssm_seqs seqs;
    size_t bytes; /* of x */
    ssm_real *params, *dparams, *x, *y, *dx, *dy, *before, *state, *dstate;
    ssm_memory bound, work, tape;
} blocks;

static void blocks_take(blocks *b, size_t d_model)
{
    const ssm_sizes *n = &b->need;
    ssm_real *scale = random_numbers(BATCH * LEN * sizeof *scale);
    size_t i;
    for (i = 0; scale && i < BATCH * LEN; ++i) { /* irregular sampling, for S5 */
        if (scale[i] < 0) scale[i] = -scale[i];
        scale[i] += (ssm_real)0.5;
    }
    b->seqs.step_scale = scale;
    b->bytes = BATCH * LEN * d_model * sizeof(ssm_real);
    b->x = random_numbers(b->bytes);
    b->dy = random_numbers(b->bytes);
    b->y = take(b->bytes);
    b->dx = take(b->bytes);
    b->params = take(n->params);
    b->dparams = take(n->params);
    b->before = n->state ? random_numbers(n->state) : NULL;
    b->state = n->state ? take(n->state) : NULL;
    b->dstate = n->state ? random_numbers(n->state) : NULL;
    b->tape = take_memory(n->tape);
    b->work = take_memory((n->work > n->work_backward ? n->work : n->work_backward) + n->state);
    b->bound = take_memory(n->bound);
}

/* Every verb from the same state, so that each part is by itself. */
static void rewind_state(blocks *b)
{
    size_t i;
    for (i = 0; b->state && i < b->need.state / sizeof *b->state; ++i) b->state[i] = b->before[i];
}

static void add_result(const char *name, const char *verb, const blocks *b)
{
    add(b->y, b->bytes);
    if (b->state) add(b->state, b->need.state);
    end(name, verb);
}

/* Whether `name` ends with `tail`. */
static int ends_with(const char *name, const char *tail)
{
    size_t n = 0, t = 0;
    while (name[n]) ++n;
    while (tail[t]) ++t;
    while (n && t && name[n - 1] == tail[t - 1]) --n, --t;
    return t == 0;
}

/* Parameters of one row, about as large as those of a trained layer. */
static void fill_row(const ssm_param *row, ssm_real *p)
{
    const int step = ends_with(row->name, "log_dt") || ends_with(row->name, "log_step") ||
                     ends_with(row->name, "dt_proj.bias") || ends_with(row->name, "b_delta");
    const int angle = ends_with(row->name, "A_imag") || ends_with(row->name, "Lambda_im");
    const int pole = ends_with(row->name, "Lambda_re");
    size_t i;
    for (i = 0; i < row->count; ++i) {
        ssm_real x = random_number() / 4;
        if (step) x -= 3;
        else if (angle) x *= 8;
        else if (pole) x -= 1;
        p[i] = x;
    }
}

static void fill_params(const ssm_params *table, ssm_real *params)
{
    size_t i;
    for (i = 0; i < table->rows; ++i) fill_row(&table->row[i], params + table->row[i].offset);
}

/* The bytes of a bound block of reals, without its header of 64 bytes, which depends on the order of bytes. */
static void add_bound(const void *data, size_t bytes)
{
    if (bytes > 64) add((const ssm_real *)data + 64 / sizeof(ssm_real), bytes - 64);
}

#define LAYER(X)                                                                                                    \
    static void run_##X(const char *name, const ssm_##X##_config *config, int steps, int reals)                     \
    {                                                                                                               \
        ssm_##X layer;                                                                                              \
        blocks b;                                                                                                   \
        const ssm_seqs none = NONE;                                                                                 \
        ssm_param rows[SSM_PARAMS_MAX];                                                                             \
        ssm_params table;                                                                                           \
        begin();                                                                                                    \
        table.row = rows;                                                                                           \
        table.capacity = SSM_PARAMS_MAX;                                                                            \
        table.rows = table.count = 0;                                                                               \
        b.seqs = none;                                                                                              \
        b.seqs.batch = BATCH;                                                                                       \
        b.seqs.len = LEN;                                                                                           \
        must(ssm_##X##_sizes(config, &b.seqs, &b.need));                                                            \
        must(ssm_##X##_params(config, NULL, &table));                                                               \
        blocks_take(&b, config->d_model);                                                                           \
        if (ssm_##X##_sizes(config, &b.seqs, &b.need) != SSM_OK) b.seqs.step_scale = NULL; /* S5 alone has it */    \
        if (failed) return;                                                                                         \
        must(ssm_##X##_init(config, b.params, 42));                                                                 \
        add(b.params, b.need.params);                                                                               \
        end(name, "init");                                                                                       \
        fill_params(&table, b.params);                                                                              \
        must(ssm_##X##_bind(&layer, config, b.params, b.bound));                                                    \
        if (reals) add_bound(layer.bound.data, layer.bound.bytes);                                                  \
        if (reals) end(name, "bind");                                                                            \
        rewind_state(&b);                                                                                           \
        must(ssm_##X##_forward(&layer, b.state, b.x, b.y, &b.seqs, b.work));                                        \
        add_result(name, "forward", &b);                                                                            \
        rewind_state(&b);                                                                                           \
        if (steps) must(ssm_##X##_step(&layer, b.state, b.dy, b.y, BATCH, b.work));                                 \
        if (steps) add_result(name, "step", &b);                                                                    \
        rewind_state(&b);                                                                                           \
        must(ssm_##X##_record(&layer, b.state, b.x, b.y, &b.seqs, b.tape, b.work));                                 \
        add_result(name, "record", &b);                                                                             \
        must(ssm_##X##_backward(&layer, b.dstate, b.x, b.dy, b.dx, b.dparams, &b.seqs, b.tape, b.work));            \
        add(b.dx, b.bytes);                                                                                         \
        add(b.dparams, b.need.params);                                                                              \
        if (b.dstate) add(b.dstate, b.need.state);                                                                  \
        end(name, "backward");                                                                                   \
    }

LAYER(selective)
LAYER(s6)
LAYER(mamba)
LAYER(mamba2)
LAYER(mamba3)
LAYER(rglru)
LAYER(s4d)
LAYER(s4)
LAYER(s5)

/* The convolution kernels of S4D and S4, and their gradients. */
#define KERNEL(X)                                                                                \
    static void run_##X##_kernel(const char *name, const ssm_##X##_config *config)               \
    {                                                                                            \
        const size_t count = LEN * config->d_model * sizeof(ssm_real);                           \
        ssm_##X layer;                                                                           \
        blocks b;                                                                                \
        ssm_param rows[SSM_PARAMS_MAX];                                                          \
        ssm_params table;                                                                        \
        const ssm_seqs none = NONE;                                                              \
        ssm_real *kernel;                                                                        \
        size_t bytes = 0;                                                                        \
        begin();                                                                                 \
        table.row = rows;                                                                        \
        table.capacity = SSM_PARAMS_MAX;                                                         \
        table.rows = table.count = 0;                                                            \
        b.seqs = none;                                                                           \
        must(ssm_##X##_sizes(config, &b.seqs, &b.need));                                         \
        must(ssm_##X##_params(config, NULL, &table));                                            \
        b.params = take(b.need.params);                                                          \
        b.dparams = take(b.need.params);                                                         \
        if (failed) return;                                                                      \
        fill_params(&table, b.params);                                                           \
        must(ssm_##X##_bind(&layer, config, b.params, take_memory(b.need.bound)));               \
        must(ssm_##X##_kernel_size(&layer, LEN, &bytes));                                        \
        b.work = take_memory(bytes);                                                             \
        kernel = take(count);                                                                    \
        must(ssm_##X##_kernel(&layer, kernel, LEN, b.work));                                     \
        add(kernel, count);                                                                      \
        end(name, "kernel");                                                                     \
        must(ssm_##X##_kernel_backward(&layer, random_numbers(count), b.dparams, LEN, b.work));  \
        add(b.dparams, b.need.params);                                                           \
        end(name, "backward");                                                                   \
    }

KERNEL(s4d)
KERNEL(s4)

/* C from C~, as the authors' checkpoints hold it. */
static void run_s4_checkpoint(void)
{
    const ssm_s4_config zero = NONE;
    ssm_s4_config config = zero;
    ssm_param rows[SSM_PARAMS_MAX];
    ssm_params table;
    const ssm_seqs none = NONE;
    ssm_sizes need = NONE;
    ssm_s4 layer;
    ssm_real *params;
    begin();
    config.d_model = D_MODEL;
    config.d_state = 8;
    config.l_max = 50;
    config.bidirectional = 1;
    table.row = rows;
    table.capacity = SSM_PARAMS_MAX;
    table.rows = table.count = 0;
    must(ssm_s4_sizes(&config, &none, &need));
    must(ssm_s4_params(&config, NULL, &table));
    params = take(need.params);
    if (failed) return;
    fill_params(&table, params);
    must(ssm_s4_bind(&layer, &config, params, take_memory(need.bound)));
    must(ssm_s4_plain_C(&layer, params));
    add(params, need.params);
    end("s4 checkpoint", "");
}

/* One configuration: whatever `settings` change, and a name. */
#define RUN(X, name, steps, settings)                        \
    do {                                                     \
        const ssm_##X##_config zero = NONE;                  \
        ssm_##X##_config c = zero;                           \
        c.d_model = D_MODEL;                                 \
        settings;                                            \
        run_##X(name, &c, steps, c.format == SSM_FORMAT_REAL); \
    } while (0)

#define RUN_KERNEL(X, name, settings)     \
    do {                                  \
        const ssm_##X##_config zero = NONE; \
        ssm_##X##_config c = zero;        \
        c.d_model = D_MODEL;              \
        settings;                         \
        run_##X##_kernel(name, &c);       \
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
    RUN(selective, "selective complex", 1, c.complex_A = 1; c.d_state = 5);
    RUN(s6, "s6 complex", 1, c.complex_A = 1);
    RUN(s6, "s6 complex zoh", 1, c.complex_A = 1; c.disc = SSM_DISC_ZOH; c.n_groups = 2; c.d_state = 7);
    RUN(s6, "s6 complex blelloch", 1, c.complex_A = 1; c.disc = SSM_DISC_BILINEAR; c.scan = SSM_SCAN_BLELLOCH);
    RUN(mamba, "mamba", 1, (void)0);
    RUN(mamba, "mamba complex bf16", 1, c.complex_A = 1; c.format = SSM_FORMAT_BF16; c.dbc_norm = SSM_DBC_NORM);
    RUN(mamba, "mamba norms of dt, B, C", 1, c.dbc_norm = SSM_DBC_NORM_WEIGHTED; c.x_proj_bias = 1);
    RUN(mamba, "mamba norm residual", 1, c.pre_norm = 1; c.residual = 1; c.proj_bias = 1);
    RUN(mamba, "mamba tracetorch", 1, ssm_mamba_preset(&c, SSM_PRESET_TRACETORCH));
    RUN(mamba, "mamba zerfoo", 1, ssm_mamba_preset(&c, SSM_PRESET_ZERFOO));
    RUN(mamba, "mamba bf16", 1, c.format = SSM_FORMAT_BF16);
    RUN(mamba, "mamba int8", 1, c.format = SSM_FORMAT_INT8);
    RUN(mamba2, "mamba2", 1, c.d_inner = 2 * D_MODEL; c.headdim = D_MODEL; c.d_state = 19);
    RUN(mamba2, "mamba2 groups", 1, c.d_inner = 4 * D_MODEL; c.headdim = D_MODEL; c.d_state = 8; c.n_groups = 2;
        c.pre_norm = 1; c.norm_before_gate = 1; c.D_has_hdim = 1; c.dt_limit_max = (ssm_real)0.125);
    RUN(mamba2, "mamba2 chunked", 1, c.d_inner = 2 * D_MODEL; c.headdim = 2 * D_MODEL; c.d_state = 8; c.no_norm = 1;
        c.scan = SSM_SCAN_CHUNKED);
    RUN(mamba3, "mamba3", 1, c.d_inner = 2 * D_MODEL; c.headdim = D_MODEL; c.d_state = 19);
    RUN(mamba3, "mamba3 groups", 1, c.d_inner = 4 * D_MODEL; c.headdim = D_MODEL; c.d_state = 8; c.n_groups = 2;
        c.pre_norm = 1; c.residual = 1; c.out_norm = 1; c.rope_fraction = 1);
    RUN(mamba3, "mamba3 mimo", 1, c.d_inner = 32; c.headdim = 16; c.d_state = 22; c.mimo_rank = 3; c.rope_fraction = 1);
    RUN(mamba3, "mamba3 mimo norm", 1, c.d_inner = 2 * D_MODEL; c.headdim = D_MODEL; c.d_state = 6; c.mimo_rank = 4;
        c.out_norm = 1);
    RUN(s4d, "s4d", 1, c.d_state = 16);
    RUN(s4d, "s4d gelu glu", 1, c.d_state = 8; c.activation = SSM_S4_ACTIVATION_GELU; c.output = SSM_S4_OUTPUT_GLU;
        c.train_B = 1; c.init = SSM_S4_INIT_LEGS; c.pre_norm = 1; c.residual = 1);
    RUN(s4d, "s4d convolution", 1, c.d_state = 8; c.form = SSM_S4_FORM_CONVOLUTION; c.disc = SSM_DISC_BILINEAR);
    RUN(s4d, "s4d bidirectional", 0, c.d_state = 8; c.bidirectional = 1; c.init = SSM_S4_INIT_INV);
    RUN(s4d, "s4d real", 1, c.d_state = 5; c.real_state = 1);
    RUN(s4d, "s4d many states", 1, c.d_state = 64; c.d_model = 3);
    RUN(s4, "s4", 1, c.d_state = 16);
    RUN(s4, "s4 convolution", 1, c.d_state = 8; c.form = SSM_S4_FORM_CONVOLUTION);
    RUN(s4, "s4 bidirectional", 0, c.d_state = 8; c.bidirectional = 1; c.output = SSM_S4_OUTPUT_GLU);
    RUN_KERNEL(s4d, "s4d kernel", c.d_state = 8);
    RUN_KERNEL(s4, "s4 kernel", c.d_state = 8);
    run_s4_checkpoint();
    RUN(s5, "s5", 1, c.d_state = 16);
    RUN(s5, "s5 full glu", 1, c.d_state = 8; c.activation = SSM_S5_FULL_GLU; c.blocks = 2; c.pre_norm = 1);
    RUN(s5, "s5 bilinear chunked", 1, c.d_state = 8; c.disc = SSM_DISC_BILINEAR; c.scan = SSM_SCAN_CHUNKED);
    RUN(s5, "s5 blelloch", 1, c.d_state = 8; c.scan = SSM_SCAN_BLELLOCH; c.activation = SSM_S5_GELU);
    RUN(s5, "s5 bidirectional", 0, c.d_state = 8; c.bidirectional = 1; c.no_conj_sym = 1);
    RUN(s5, "s5 lru", 1, c.d_state = 9; c.lru = 1; c.activation = SSM_S5_NONE; c.r_min = (ssm_real)0.9;
        c.r_max = (ssm_real)0.999);
    RUN(s5, "s5 lru bidirectional", 0, c.d_state = 5; c.lru = 1; c.bidirectional = 1; c.scan = SSM_SCAN_CHUNKED;
        c.activation = SSM_S5_NONE); /* a GELU far below 0 is subnormal, which vectors flush */
    RUN(s5, "s5 tracetorch", 1, c.d_state = 8; ssm_s5_preset(&c, SSM_PRESET_TRACETORCH));
    RUN(rglru, "rglru", 1, c.lru_width = 4 * D_MODEL; c.num_heads = 4);
    RUN(rglru, "rglru exact", 1, c.lru_width = 2 * D_MODEL; c.exact_gelu = 1; c.no_reset = 1; c.no_bias = 1;
        c.conv_width = 6);
    RUN(rglru, "rglru alone", 1, c.no_block = 1);
    RUN(rglru, "rglru bf16", 1, c.format = SSM_FORMAT_BF16);
    RUN(rglru, "rglru int8", 1, c.format = SSM_FORMAT_INT8; c.lru_width = 2 * D_MODEL; c.num_heads = 2);
}

/*--- ops and the optimiser ---*/

enum {
    DIM = 37, /* channels of the ops: two blocks of 16 and a rest */
    STATES = 6,
    GROUPS = 1,
    OP_LEN = 70
};

static ssm_in dense(const ssm_real *p, size_t len, size_t chans)
{
    return ssm_in_btc(p, len, chans);
}

/* A gradient to be added to: zeros of the shape of a view. */
static ssm_out gradient(ssm_in like, ssm_real *room)
{
    return ssm_out_like(room, like);
}

static void run_linear_scan(const char *name, ssm_scan scan, size_t len, size_t dim, int complex_values, int reverse)
{
    const ssm_linear_scan none = NONE;
    const ssm_linear_scan_grad no_grad = NONE;
    ssm_linear_scan s = none;
    ssm_linear_scan_grad g = no_grad;
    const size_t bytes = BATCH * len * dim * 2 * sizeof(ssm_real);
    ssm_real *a, *b, *h, *da, *db, *dh;
    ssm_in view;
    ssm_sizes need = NONE;
    size_t i;
    begin();
    a = random_numbers(bytes);
    b = random_numbers(bytes);
    dh = random_numbers(bytes);
    h = take(bytes);
    da = take(bytes);
    db = take(bytes);
    for (i = 0; i < bytes / sizeof *a; ++i) a[i] *= (ssm_real)0.34375; /* short of one in absolute value, if complex */
    view = ssm_in_btc(a, len, dim);
    if (complex_values) view = ssm_in_pairs(view);
    s.batch = BATCH;
    s.len = len;
    s.dim = dim;
    s.scan = scan;
    s.reverse = reverse;
    s.complex_values = complex_values;
    s.a = s.b = g.dh = view;
    s.b.data = b;
    g.dh.data = dh;
    s.h = ssm_out_like(h, view);
    g.da = ssm_out_like(da, view);
    g.db = ssm_out_like(db, view);
    must(ssm_linear_scan_sizes(&s, &need));
    must(ssm_linear_scan_forward(&s, take_memory(need.work)));
    add(h, bytes);
    end(name, "forward");
    must(ssm_linear_scan_backward(&s, &g));
    add(da, bytes);
    add(db, bytes);
    end(name, "backward");
}

/* A view as it is, or of pairs. */
static ssm_in of_parts(ssm_in view, size_t parts)
{
    return parts == 2 ? ssm_in_pairs(view) : view;
}

/* parts: 2 if A, B, C and the states are complex, else 1. */
static void run_selective_scan(const char *name, ssm_disc disc, ssm_scan scan, int separate, size_t parts)
{
    const ssm_selective_scan none = NONE;
    const ssm_selective_scan_grad no_grad = NONE;
    ssm_selective_scan s = none;
    ssm_selective_scan_grad g = no_grad;
    const size_t number = parts * sizeof(ssm_real), row = BATCH * OP_LEN * DIM * sizeof(ssm_real);
    const size_t group = BATCH * OP_LEN * STATES * number, states = (disc == SSM_DISC_TRAPEZOID ? 2 : 1) * STATES;
    const size_t state = BATCH * DIM * states * number, matrix = DIM * STATES * number;
    ssm_real *A, *y, *h;
    ssm_sizes need = NONE;
    size_t i;
    begin();
    s.batch = BATCH;
    s.len = OP_LEN;
    s.dim = DIM;
    s.d_state = STATES;
    s.disc = disc;
    s.scan = scan;
    s.delta_softplus = 1;
    s.complex_A = parts == 2;
    A = random_numbers(matrix);
    for (i = 0; i < DIM * STATES; ++i) A[parts * i] -= 2;
    s.A = of_parts(ssm_in_cn(A, STATES), parts);
    s.u = dense(random_numbers(row), OP_LEN, DIM);
    s.delta = dense(random_numbers(row), OP_LEN, DIM);
    s.z = dense(random_numbers(row), OP_LEN, DIM);
    s.B = of_parts(ssm_in_btcn(random_numbers(group), OP_LEN, GROUPS, STATES), parts);
    s.C = of_parts(ssm_in_btcn(random_numbers(group), OP_LEN, GROUPS, STATES), parts);
    s.D = ssm_in_c(random_numbers(DIM * sizeof *A));
    s.delta_bias = ssm_in_c(random_numbers(DIM * sizeof *A));
    if (separate) {
        ssm_real *d = random_numbers(row);
        for (i = 0; i < row / sizeof *d; ++i) d[i] = d[i] < 0 ? -d[i] : d[i];
        s.delta_A = dense(d, OP_LEN, DIM);
    }
    if (disc == SSM_DISC_TRAPEZOID) s.lambda = dense(random_numbers(row), OP_LEN, DIM);
    h = random_numbers(state);
    s.h0 = of_parts(ssm_in_bcn(h, DIM, states), parts);
    h = take(state);
    s.h_last = ssm_out_like(h, s.h0);
    y = take(row);
    s.y = ssm_out_like(y, s.u);
    g.dy = dense(random_numbers(row), OP_LEN, DIM);
    must(ssm_selective_scan_sizes(&s, &need));
    must(ssm_selective_scan_forward(&s, take_memory(need.work)));
    add(y, row);
    add(h, state);
    end(name, "forward");
    g.du = gradient(s.u, take(row));
    g.ddelta = gradient(s.delta, take(row));
    g.dz = gradient(s.z, take(row));
    g.dA = gradient(s.A, take(matrix));
    g.dB = gradient(s.B, take(group));
    g.dC = gradient(s.C, take(group));
    g.dD = gradient(s.D, take(DIM * sizeof *A));
    g.ddelta_bias = gradient(s.delta_bias, take(DIM * sizeof *A));
    g.dh0 = gradient(s.h0, take(state));
    if (separate) g.ddelta_A = gradient(s.delta_A, take(row));
    if (disc == SSM_DISC_TRAPEZOID) g.dlambda = gradient(s.lambda, take(row));
    must(ssm_selective_scan_backward(&s, &g, take_memory(need.work_backward)));
    add(g.du.data, row);
    add(g.ddelta.data, row);
    add(g.dz.data, row);
    add(g.dA.data, matrix);
    add(g.dB.data, group);
    add(g.dC.data, group);
    add(g.dD.data, DIM * sizeof *A);
    add(g.ddelta_bias.data, DIM * sizeof *A);
    add(g.dh0.data, state);
    if (separate) add(g.ddelta_A.data, row);
    if (disc == SSM_DISC_TRAPEZOID) add(g.dlambda.data, row);
    end(name, "backward");
    if (scan != SSM_SCAN_SEQUENTIAL) return;
    s.len = 1;
    must(ssm_selective_scan_step(&s));
    add(y, row);
    add(h, state);
    end(name, "step");
}

static void run_s5_scan(const char *name, ssm_disc disc, int separate, int complex_values)
{
    const ssm_s5_scan none = NONE;
    const ssm_s5_scan_grad no_grad = NONE;
    ssm_s5_scan s = none;
    ssm_s5_scan_grad g = no_grad;
    const size_t real = sizeof(ssm_real), row = BATCH * OP_LEN * DIM * real * (complex_values ? 2 : 1);
    const size_t delta = BATCH * OP_LEN * STATES * real, state = BATCH * STATES * 2 * real, matrix = DIM * STATES * 2 * real;
    ssm_real *A, *d;
    ssm_sizes need = NONE;
    size_t i, k;
    begin();
    s.batch = BATCH;
    s.len = OP_LEN;
    s.dim = DIM;
    s.d_state = STATES;
    s.disc = disc;
    s.conj_sym = !complex_values;
    s.complex_input = s.complex_output = complex_values;
    A = random_numbers(STATES * 2 * real);
    for (i = 0; i < STATES; ++i) A[2 * i] -= 2;
    s.A = ssm_in_pairs(ssm_in_cn(A, 1));
    s.A.state = 2;
    s.u = dense(random_numbers(row), OP_LEN, DIM);
    if (complex_values) s.u = ssm_in_pairs(s.u);
    s.B = ssm_in_pairs(ssm_in_cn(random_numbers(matrix), STATES));
    s.C = ssm_in_pairs(ssm_in_cn(random_numbers(matrix), STATES));
    s.D = ssm_in_c(random_numbers(DIM * real));
    for (k = 0; k < 2; ++k) {
        d = random_numbers(delta);
        for (i = 0; i < delta / real; ++i) d[i] = (d[i] < 0 ? -d[i] : d[i]) / 8;
        if (k == 0) s.delta = ssm_in_btcn(d, OP_LEN, 1, STATES);
        else if (separate) s.delta_A = ssm_in_btcn(d, OP_LEN, 1, STATES);
    }
    s.h0 = ssm_in_pairs(ssm_in_bcn(random_numbers(state), 1, STATES));
    s.h_last = ssm_out_like(take(state), s.h0);
    s.y = ssm_out_like(take(row), s.u);
    g.dy = s.u;
    g.dy.data = random_numbers(row);
    must(ssm_s5_scan_sizes(&s, &need));
    must(ssm_s5_scan_forward(&s, take_memory(need.work)));
    add(s.y.data, row);
    add(s.h_last.data, state);
    end(name, "forward");
    g.du = gradient(s.u, take(row));
    g.ddelta = gradient(s.delta, take(delta));
    g.dA = gradient(s.A, take(STATES * 2 * real));
    g.dB = gradient(s.B, take(matrix));
    g.dC = gradient(s.C, take(matrix));
    g.dD = gradient(s.D, take(DIM * real));
    g.dh0 = gradient(s.h0, take(state));
    if (separate) g.ddelta_A = gradient(s.delta_A, take(delta));
    must(ssm_s5_scan_backward(&s, &g, take_memory(need.work_backward)));
    add(g.du.data, row);
    add(g.ddelta.data, delta);
    add(g.dA.data, STATES * 2 * real);
    add(g.dB.data, matrix);
    add(g.dC.data, matrix);
    add(g.dD.data, DIM * real);
    add(g.dh0.data, state);
    if (separate) add(g.ddelta_A.data, delta);
    end(name, "backward");
    s.len = 1;
    must(ssm_s5_scan_step(&s, take_memory(need.work_step)));
    add(s.y.data, row);
    add(s.h_last.data, state);
    end(name, "step");
}

static void run_conv(const char *name, size_t width, int silu)
{
    const ssm_conv none = NONE;
    const ssm_conv_grad no_grad = NONE;
    ssm_conv s = none;
    ssm_conv_grad g = no_grad;
    const size_t real = sizeof(ssm_real), row = BATCH * OP_LEN * DIM * real, weight = DIM * width * real;
    const size_t state = BATCH * DIM * (width - 1) * real;
    begin();
    s.batch = BATCH;
    s.len = OP_LEN;
    s.dim = DIM;
    s.width = width;
    s.silu = silu;
    s.x = dense(random_numbers(row), OP_LEN, DIM);
    s.weight = ssm_in_cn(random_numbers(weight), width);
    s.bias = ssm_in_c(random_numbers(DIM * real));
    s.state = ssm_in_bcn(random_numbers(state), DIM, width - 1);
    s.state_last = ssm_out_like(take(state), s.state);
    s.y = ssm_out_like(take(row), s.x);
    must(ssm_conv_forward(&s));
    add(s.y.data, row);
    add(s.state_last.data, state);
    end(name, "forward");
    g.dy = dense(random_numbers(row), OP_LEN, DIM);
    g.dx = gradient(s.x, take(row));
    g.dweight = gradient(s.weight, take(weight));
    g.dbias = gradient(s.bias, take(DIM * real));
    g.dstate = gradient(s.state, take(state));
    must(ssm_conv_backward(&s, &g));
    add(g.dx.data, row);
    add(g.dweight.data, weight);
    add(g.dbias.data, DIM * real);
    add(g.dstate.data, state);
    end(name, "backward");
    s.len = 1;
    must(ssm_conv_step(&s));
    add(s.y.data, row);
    add(s.state_last.data, state);
    end(name, "step");
}

static void run_linear(const char *name, ssm_format format)
{
    enum {
        IN = 43,
        OUT = 39,
        ROWS = 23
    };
    const ssm_linear none = NONE;
    ssm_linear s = none;
    const size_t real = sizeof(ssm_real);
    ssm_real *x, *y, *dx, *dweight, *dbias;
    ssm_memory packed;
    ssm_rows rows;
    size_t bytes = 0;
    begin();
    s.in = IN;
    s.out = OUT;
    s.format = format;
    s.weight = random_numbers(IN * OUT * real);
    s.bias = random_numbers(OUT * real);
    x = random_numbers(ROWS * IN * real);
    y = take(ROWS * OUT * real);
    must(ssm_linear_pack_size(&s, &bytes));
    packed = take_memory(bytes);
    must(ssm_linear_pack(&s, packed));
    s.packed = packed.data;
    rows = ssm_rows_of(x, IN);
    must(ssm_linear_forward(&s, rows, ssm_rows_out_of(y, OUT), ROWS));
    add(y, ROWS * OUT * real);
    must(ssm_linear_forward(&s, rows, ssm_rows_out_of(y, OUT), 1)); /* one row has a way of its own */
    add(y, ROWS * OUT * real);
    end(name, "forward");
    dx = take(ROWS * IN * real);
    dweight = take(IN * OUT * real);
    dbias = take(OUT * real);
    must(ssm_linear_backward(&s, rows, ssm_rows_of(y, OUT), ssm_rows_out_of(dx, IN), dweight, dbias, ROWS));
    add(dx, ROWS * IN * real);
    add(dweight, IN * OUT * real);
    add(dbias, OUT * real);
    end(name, "backward");
}

static void run_norm(void)
{
    enum {
        ROWS = 5
    };
    const ssm_norm none = NONE;
    const size_t row = ROWS * DIM * sizeof(ssm_real);
    ssm_norm s = none;
    ssm_real *x, *y, *dx, *dweight;
    begin();
    s.dim = DIM;
    s.weight = random_numbers(DIM * sizeof *x);
    x = random_numbers(row);
    y = take(row);
    must(ssm_norm_forward(&s, ssm_rows_of(x, DIM), ssm_rows_out_of(y, DIM), ROWS));
    add(y, row);
    end("norm", "forward");
    dx = take(row);
    dweight = take(DIM * sizeof *x);
    must(ssm_norm_backward(&s, ssm_rows_of(x, DIM), ssm_rows_of(y, DIM), ssm_rows_out_of(dx, DIM), dweight, ROWS));
    add(dx, row);
    add(dweight, DIM * sizeof *x);
    end("norm", "backward");
}

static void run_layer_norm(void)
{
    enum {
        ROWS = 5
    };
    const ssm_layer_norm none = NONE;
    const size_t row = ROWS * DIM * sizeof(ssm_real);
    ssm_layer_norm s = none;
    ssm_layer_norm_grad g;
    ssm_sizes need = NONE;
    ssm_real *x, *y;
    begin();
    s.dim = DIM;
    s.weight = random_numbers(DIM * sizeof *x);
    s.bias = random_numbers(DIM * sizeof *x);
    x = random_numbers(row);
    y = take(row);
    must(ssm_layer_norm_forward(&s, ssm_rows_of(x, DIM), ssm_rows_out_of(y, DIM), ROWS));
    add(y, row);
    end("layer norm", "forward");
    must(ssm_layer_norm_sizes(&s, ROWS, &need));
    g.dy = ssm_rows_of(y, DIM);
    g.dx = ssm_rows_out_of(take(row), DIM);
    g.dweight = take(DIM * sizeof *x);
    g.dbias = take(DIM * sizeof *x);
    must(ssm_layer_norm_backward(&s, ssm_rows_of(x, DIM), &g, ROWS,
                                 ssm_memory_of(take(need.work_backward), need.work_backward)));
    add(g.dx.data, row);
    add(g.dweight, DIM * sizeof *x);
    add(g.dbias, DIM * sizeof *x);
    end("layer norm", "backward");
}

static void run_adamw(void)
{
    const ssm_adamw none = NONE;
    ssm_adamw adamw = none;
    ssm_param row;
    ssm_params table;
    ssm_real *weights, *grads, *moments, norm = 0;
    size_t bytes, i;
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
    end("adamw", "");
}

/* Losses and the mean over time: x and target, then gradients of x. */
static void run_losses(void)
{
    enum { ROWS = 7 };
    static const int label[ROWS] = {3, 0, 36, -1, 17, 16, 8};
    static const size_t start[] = {0, 2, 3, ROWS};
    const ssm_cross_entropy no_entropy = NONE;
    const ssm_mean no_mean = NONE;
    const ssm_mse no_mse = NONE;
    ssm_cross_entropy entropy = no_entropy;
    ssm_mean mean = no_mean;
    ssm_mse mse = no_mse;
    ssm_real *x, *losses, *dx, mean_loss = 0;
    const size_t bytes = ROWS * DIM * sizeof *x;
    begin();
    x = random_numbers(bytes);
    losses = take(ROWS * sizeof *x);
    dx = take(bytes);
    entropy.rows = mse.rows = ROWS;
    entropy.dim = mse.dim = mean.dim = DIM;
    entropy.x = mse.x = ssm_rows_of(x, DIM);
    entropy.label = label;
    entropy.smoothing = (ssm_real)0.1;
    must(ssm_cross_entropy_forward(&entropy, losses, &mean_loss));
    must(ssm_cross_entropy_backward(&entropy, (ssm_real)1.5, ssm_rows_out_of(dx, DIM)));
    add(losses, ROWS * sizeof *x);
    add_real(mean_loss);
    add(dx, bytes);
    end("cross-entropy", "");
    begin();
    x = random_numbers(bytes);
    losses = take(ROWS * sizeof *x);
    dx = take(bytes);
    mse.x = ssm_rows_of(x, DIM);
    mse.target = mse.weight = ssm_rows_of(random_numbers(bytes), DIM);
    mse.beta = (ssm_real)0.3;
    must(ssm_mse_forward(&mse, losses, &mean_loss));
    must(ssm_mse_backward(&mse, (ssm_real)1.5, ssm_rows_out_of(dx, DIM)));
    add(losses, ROWS * sizeof *x);
    add_real(mean_loss);
    add(dx, bytes);
    end("squared error", "");
    begin();
    x = random_numbers(bytes);
    dx = take(bytes);
    mean.batch = 3;
    mean.len = ROWS;
    mean.start = start;
    must(ssm_mean_forward(&mean, ssm_rows_of(x, DIM), ssm_rows_out_of(dx, DIM)));
    must(ssm_mean_backward(&mean, ssm_rows_of(x, DIM), ssm_rows_out_of(dx, DIM)));
    add(dx, bytes);
    end("mean", "");
}

static void run_others(void)
{
    ssm_real *x, *y, recalled = 0;
    size_t bytes = 0, i;
    begin();
    x = random_numbers(16 * sizeof *x);
    for (i = 0; i < 300; ++i) must(ssm_hippo_update(x, 16, i + 1, random_number()));
    must(ssm_hippo_recall(x, 16, (ssm_real)0.3, &recalled));
    add(x, 16 * sizeof *x);
    add_real(recalled);
    end("hippo", "");

    begin();
    must(ssm_fft_size(256, &bytes));
    x = random_numbers(512 * sizeof *x);
    must(ssm_fft(x, 256, 0, take_memory(bytes)));
    add(x, 512 * sizeof *x);
    end("fft", "");

    begin();
    must(ssm_convolve_size(100, 77, &bytes));
    x = random_numbers(177 * sizeof *x);
    y = take(176 * sizeof *y);
    must(ssm_convolve(x, 100, x + 100, 77, y, take_memory(bytes)));
    add(y, 176 * sizeof *y);
    end("convolve", "");
}

static void ops(void)
{
    const ssm_scan sequential = SSM_SCAN_SEQUENTIAL;
    run_linear_scan("linear scan", sequential, 2000, 3, 0, 0);
    run_linear_scan("linear scan wide", sequential, OP_LEN, DIM, 0, 1);
    run_linear_scan("linear scan chunked", SSM_SCAN_CHUNKED, 2000, 3, 0, 0);
    run_linear_scan("linear scan blelloch", SSM_SCAN_BLELLOCH, LEN, 3, 0, 0);
    run_linear_scan("linear scan complex", sequential, OP_LEN, DIM, 1, 0);
    run_linear_scan("linear scan complex blelloch", SSM_SCAN_BLELLOCH, LEN, 3, 1, 1);
    run_selective_scan("scan euler", SSM_DISC_EULER, sequential, 0, 1);
    run_selective_scan("scan euler delta_A", SSM_DISC_EULER, sequential, 1, 1);
    run_selective_scan("scan zoh", SSM_DISC_ZOH, sequential, 0, 1);
    run_selective_scan("scan zoh delta_A", SSM_DISC_ZOH, sequential, 1, 1);
    run_selective_scan("scan bilinear", SSM_DISC_BILINEAR, sequential, 0, 1);
    run_selective_scan("scan dirac", SSM_DISC_DIRAC, sequential, 0, 1);
    run_selective_scan("scan trapezoid", SSM_DISC_TRAPEZOID, sequential, 0, 1);
    run_selective_scan("scan zoh trapezoid", SSM_DISC_ZOH_TRAPEZOID, sequential, 0, 1);
    run_selective_scan("scan chunked", SSM_DISC_EULER, SSM_SCAN_CHUNKED, 0, 1);
    run_selective_scan("scan trapezoid blelloch", SSM_DISC_TRAPEZOID, SSM_SCAN_BLELLOCH, 0, 1);
    run_selective_scan("scan bilinear blelloch", SSM_DISC_BILINEAR, SSM_SCAN_BLELLOCH, 0, 1);
    run_s5_scan("s5 scan zoh", SSM_DISC_ZOH, 0, 0);
    run_s5_scan("s5 scan bilinear delta_A", SSM_DISC_BILINEAR, 1, 0);
    run_s5_scan("s5 scan euler complex", SSM_DISC_EULER, 0, 1);
    run_s5_scan("s5 scan dirac", SSM_DISC_DIRAC, 0, 0);
    run_conv("conv 4 silu", 4, 1);
    run_conv("conv 7", 7, 0);
    run_linear("linear", SSM_FORMAT_REAL);
    run_linear("linear bf16", SSM_FORMAT_BF16);
    run_linear("linear int8", SSM_FORMAT_INT8);
    run_norm();
    run_layer_norm();
    run_adamw();
    run_losses();
    run_others();
    run_selective_scan("scan complex euler", SSM_DISC_EULER, sequential, 0, 2);
    run_selective_scan("scan complex zoh delta_A", SSM_DISC_ZOH, sequential, 1, 2);
    run_selective_scan("scan complex dirac", SSM_DISC_DIRAC, sequential, 0, 2);
    run_selective_scan("scan complex euler chunked", SSM_DISC_EULER, SSM_SCAN_CHUNKED, 0, 2);
    run_selective_scan("scan complex bilinear blelloch", SSM_DISC_BILINEAR, SSM_SCAN_BLELLOCH, 0, 2);
}

/*--- instruction sets ---*/

/* The family of an instruction set: D u - C h with D = u = 1 + e, C h = 1 + 2e, is 0 if D u is rounded, else e^2. */
static int family_of(ssm_isa isa)
{
    const ssm_selective_scan none = NONE;
    ssm_selective_scan s = none;
#ifdef SSM_DOUBLE
    const ssm_real e = (ssm_real)1 / (1 << 27);
#else
    const ssm_real e = (ssm_real)1 / (1 << 12);
#endif
    const ssm_real zero = 0, one = 1, C = -1 - 2 * e, u = 1 + e;
    ssm_real y = 0, h = 0;
    s.batch = s.len = s.dim = s.d_state = 1;
    s.isa = isa;
    s.u = s.D = ssm_in_c(&u);
    s.delta = s.A = s.B = ssm_in_c(&zero);
    s.h0 = ssm_in_c(&one);
    s.C = ssm_in_c(&C);
    s.h_last = ssm_out_like(&h, s.h0);
    s.y = ssm_out_like(&y, s.u);
    must(ssm_selective_scan_forward(&s, ssm_memory_of(NULL, 0)));
    return y == 0 ? PLAIN : FUSED;
}

static void run_isa(ssm_isa isa)
{
    chosen = isa;
    family = family_of(isa);
    part = 0;
    total = FNV_START;
    layers();
    ops();
    families[family].total = total;
}

#ifndef BITS_BARE

/* Whether two C strings are the same. */
static int same(const char *a, const char *b)
{
    while (*a && *a == *b) ++a, ++b;
    return *a == *b;
}

int main(int argc, char **argv)
{
    const char *only = NULL;
    int i, found = 0;
    for (i = 1; i < argc; ++i) {
        if (same(argv[i], "--parts")) print_parts = 1;
        else only = argv[i];
    }
    for (i = SSM_ISA_SCALAR; i < ssm_isa_count(); ++i) {
        if (!ssm_isa_available((ssm_isa)i) || (only && !same(only, ssm_isa_name((ssm_isa)i)))) continue;
        run_isa((ssm_isa)i);
        found = 1;
        printf("%s %s %08lx\n", family_names[family], ssm_isa_name(chosen), (unsigned long)total);
    }
    if (!found) {
        printf("usage: bits [--parts] [ISA]\n");
        return 2;
    }
    if (failed) printf("FAILED: bits differ, a call failed or a result was not finite\n");
    return failed;
}

#else

uint32_t bits_all(int of)
{
    int i;
    for (i = SSM_ISA_SCALAR; !part && i < ssm_isa_count(); ++i) {
        if (!ssm_isa_available((ssm_isa)i)) continue;
        run_isa((ssm_isa)i);
        part = 0;
    }
    part = 1; /* not again */
    return failed ? 1 : families[of].total;
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
    char text[24] = "bits ";
    unsigned long written;
    int i, f;
    for (f = 0; f < 2; ++f) {
        const uint32_t result = bits_all(f);
        for (i = 0; i < 8; ++i) text[5 + 9 * f + i] = "0123456789abcdef"[result >> (28 - 4 * i) & 15u];
        text[13 + 9 * f] = f ? '\r' : ' ';
    }
    text[23] = '\n';
    WriteFile(GetStdHandle((unsigned long)-11), text, 24, &written, NULL);
    ExitProcess((unsigned int)failed);
}
#ifdef __cplusplus
}
#endif
#endif

#endif
