/* test_params.c - parameter tables in the user's hands: counting, finding, filling from a checkpoint, errors by name. */

/* A model of three layers. row NULL: only counts. */
static ssm_params params_model(ssm_param *row, size_t capacity, ssm_mamba_config *config)
{
    static const ssm_mamba_config defaults = {0};
    ssm_params table = ssm_params_of(row, capacity);
    *config = defaults;
    config->d_model = 4;
    config->pre_norm = 1;
    CHECK_OK(ssm_linear_params(3, 4, 1, "embed.", &table));
    CHECK_OK(ssm_mamba_params(config, "layers.0.", &table));
    CHECK_OK(ssm_norm_params(4, "norm.", &table));
    CHECK_OK(ssm_linear_params(4, 2, 0, "head.", &table));
    return table;
}

/* A table without rows counts what one with rows holds; one row less is an error that names the table. */
static void params_counting(void)
{
    ssm_param row[4 + SSM_PARAMS_MAX];
    ssm_mamba_config config;
    const ssm_params table = params_model(row, TEST_COUNT(row), &config), counted = params_model(NULL, 0, &config);
    ssm_params less = ssm_params_of(row, 1);
    CHECK(counted.rows == table.rows && counted.count == table.count && table.rows == 4 + 10);
    CHECK_STATUS(ssm_linear_params(3, 4, 1, NULL, &less), SSM_ERR_TABLE);
    CHECK(less.rows == 0 && less.count == 0);
    CHECK_OK(ssm_norm_params(3, NULL, &less));
}

/* Where a layer lies; a name that is not there gives a row of nothing. */
static void params_finding(void)
{
    ssm_param row[4 + SSM_PARAMS_MAX];
    ssm_mamba_config config;
    const ssm_params table = params_model(row, TEST_COUNT(row), &config);
    const ssm_param *none = ssm_params_find(&table, "layers.0.in_porj.weight");
    size_t offset = 7, i;
    CHECK(ssm_params_find(&table, "layers.0.in_proj.weight")->shape[0] == 16);
    CHECK(none && none->count == 0 && none->rank == 0 && none->offset == 0 && !none->name[0] && !none->prefix[0]);
    for (i = 0; i < 3; ++i) CHECK(none->shape[i] == 0 && none->init_arg[i] == 0);
    CHECK(none == ssm_params_find(NULL, NULL));
    CHECK_OK(ssm_params_layer(&table, "layers.0.", &offset));
    CHECK(offset == 3 * 4 + 4 && offset == ssm_params_find(&table, "layers.0.norm.weight")->offset);
    CHECK_OK(ssm_params_layer(&table, "embed.", &offset));
    CHECK(offset == 0);
    CHECK_STATUS(ssm_params_layer(&table, "layers.0", &offset), SSM_ERR_MISSING);
    CHECK_STATUS(ssm_params_layer(&table, "layers.0.x", &offset), SSM_ERR_MISSING);
    CHECK_STATUS(ssm_params_layer(&table, NULL, &offset), SSM_ERR_NULL);
    CHECK_STATUS(ssm_params_layer(NULL, "", &offset), SSM_ERR_NULL);
}

/* Layers made from rows. */
static void params_layers(void)
{
    ssm_param row[4 + SSM_PARAMS_MAX];
    ssm_mamba_config config;
    const ssm_params table = params_model(row, TEST_COUNT(row), &config);
    ssm_real *params = test_zeros(table.count);
    ssm_linear linear = {0}, same;
    ssm_norm norm = {0};
    linear.format = SSM_FORMAT_BF16;
    linear.packed = params;
    CHECK_OK(ssm_linear_of(&linear, &table, "embed.", params));
    CHECK(linear.in == 3 && linear.out == 4 && linear.weight == params && linear.bias == params + 12);
    CHECK(!linear.packed && linear.format == SSM_FORMAT_BF16);
    CHECK_OK(ssm_linear_of(&linear, &table, "head.", params));
    CHECK(linear.in == 4 && linear.out == 2 && !linear.bias);
    CHECK((size_t)(linear.weight - params) == ssm_params_find(&table, "head.weight")->offset);
    CHECK_OK(ssm_linear_of(&linear, &table, "layers.0.in_proj.", params));
    same = linear;
    CHECK_STATUS(ssm_linear_of(&linear, &table, "had.", params), SSM_ERR_MISSING);
    CHECK_STATUS(ssm_linear_of(&linear, &table, "norm.", params), SSM_ERR_SHAPE);
    CHECK_STATUS(ssm_linear_of(&linear, &table, "layers.0.conv1d.", params), SSM_ERR_SHAPE);
    CHECK_STATUS(ssm_linear_of(&linear, &table, "head.", NULL), SSM_ERR_NULL);
    CHECK(memcmp(&linear, &same, sizeof same) == 0);
    norm.eps = (ssm_real)0.5;
    CHECK_OK(ssm_norm_of(&norm, &table, "norm.", params));
    CHECK(norm.dim == 4 && norm.eps == (ssm_real)0.5);
    CHECK((size_t)(norm.weight - params) == ssm_params_find(&table, "norm.weight")->offset);
    CHECK_STATUS(ssm_norm_of(&norm, &table, "head.", params), SSM_ERR_SHAPE);
    CHECK_STATUS(ssm_norm_of(&norm, &table, "nrm.", params), SSM_ERR_MISSING);
    test_free(params, 0);
}

/* Each pointer that a row's layer is made from may be missing, one at a time: nothing is written. */
static void params_null(void)
{
    ssm_param row[4 + SSM_PARAMS_MAX];
    ssm_mamba_config config;
    const ssm_params table = params_model(row, TEST_COUNT(row), &config), empty = {NULL, 1, 1, 0};
    ssm_real *params = test_zeros(table.count);
    ssm_linear linear = {0}, no_linear = {0};
    ssm_norm norm = {0}, no_norm = {0};
    size_t offset = 77;
    CHECK_STATUS(ssm_linear_of(NULL, &table, "head.", params), SSM_ERR_NULL);
    CHECK_STATUS(ssm_linear_of(&linear, NULL, "head.", params), SSM_ERR_NULL);
    CHECK_STATUS(ssm_linear_of(&linear, &empty, "head.", params), SSM_ERR_NULL);
    CHECK_STATUS(ssm_linear_of(&linear, &table, NULL, params), SSM_ERR_NULL);
    CHECK_STATUS(ssm_linear_of(&linear, &table, "head.", NULL), SSM_ERR_NULL);
    CHECK_STATUS(ssm_norm_of(NULL, &table, "norm.", params), SSM_ERR_NULL);
    CHECK_STATUS(ssm_norm_of(&norm, NULL, "norm.", params), SSM_ERR_NULL);
    CHECK_STATUS(ssm_norm_of(&norm, &empty, "norm.", params), SSM_ERR_NULL);
    CHECK_STATUS(ssm_norm_of(&norm, &table, NULL, params), SSM_ERR_NULL);
    CHECK_STATUS(ssm_norm_of(&norm, &table, "norm.", NULL), SSM_ERR_NULL);
    CHECK_STATUS(ssm_params_layer(&empty, "", &offset), SSM_ERR_NULL);
    CHECK_STATUS(ssm_params_layer(&table, "", NULL), SSM_ERR_NULL);
    CHECK(ssm_params_find(&empty, "head.weight")->count == 0 && ssm_params_find(&table, NULL)->count == 0);
    CHECK(memcmp(&linear, &no_linear, sizeof linear) == 0 && memcmp(&norm, &no_norm, sizeof norm) == 0 && offset == 77);
    test_free(params, 0);
}

/* ssm_X_init is ssm_params_init of the layer's own table. */
#define PARAMS_INIT(X)                                                              \
    static void params_init_##X(void)                                               \
    {                                                                               \
        ssm_param row[SSM_PARAMS_MAX];                                              \
        ssm_params table = ssm_params_of(row, SSM_PARAMS_MAX);                      \
        ssm_##X##_config config = {0};                                              \
        ssm_real *one, *two;                                                        \
        config.d_model = 32; /* one head of 64 */                                   \
        CHECK_OK(ssm_##X##_params(&config, "any.", &table));                        \
        one = test_zeros(table.count);                                              \
        two = test_zeros(table.count);                                              \
        CHECK_OK(ssm_params_init(&table, one, 12345));                              \
        CHECK_OK(ssm_##X##_init(&config, two, 12345));                              \
        CHECK_SAME(one, two, table.count);                                          \
        test_free(one, 0), test_free(two, 0);                                       \
    }
PARAMS_INIT(selective)
PARAMS_INIT(s6)
PARAMS_INIT(mamba)
PARAMS_INIT(mamba2)
PARAMS_INIT(mamba3)
PARAMS_INIT(rglru)
PARAMS_INIT(s4d)
PARAMS_INIT(s4)
PARAMS_INIT(s5)

static void params_init(void)
{
    params_init_selective();
    params_init_s6();
    params_init_mamba();
    params_init_mamba2();
    params_init_mamba3();
    params_init_rglru();
    params_init_s4d();
    params_init_s4();
    params_init_s5();
}

/* --- checkpoints --- */

typedef struct params_file {
    char name[32][64];
    ssm_array array[32];
    size_t count;
    unsigned char *bytes; /* of all arrays, each at an odd address */
} params_file;

static size_t params_width(ssm_dtype dtype)
{
    return dtype == SSM_DTYPE_F64 ? 8 : dtype == SSM_DTYPE_F32 ? 4 : 2;
}

/* The small whole number `value` in binary16, and in bfloat16 the upper half of the float. */
static void params_put(unsigned char *to, ssm_dtype dtype, int value)
{
    const double f64 = value;
    const float f32 = (float)value;
    uint16_t half;
    uint32_t word;
    int e = 0, size = value < 0 ? -value : value;
    memcpy(&word, &f32, 4);
    half = (uint16_t)(word >> 16);
    if (dtype == SSM_DTYPE_F16) {
        while (size >> (e + 1)) ++e;
        half = (uint16_t)((value < 0 ? 0x8000 : 0) | (size ? (e + 15) << 10 | ((size << (10 - e)) & 1023) : 0));
    }
    if (dtype == SSM_DTYPE_F64) memcpy(to, &f64, 8);
    else if (dtype == SSM_DTYPE_F32) memcpy(to, &f32, 4);
    else memcpy(to, &half, 2);
}

/* Value of element i of row r. */
static int params_value(size_t r, size_t i)
{
    return (int)((r * 37 + i * 11) % 255) - 127;
}

/* The rows of a table, last first, each in one of the four types. */
static void params_file_open(params_file *f, const ssm_params *table)
{
    size_t r, i, at = 1;
    memset(f, 0, sizeof *f);
    f->bytes = (unsigned char *)test_alloc(8 * table->count + 2 * table->rows + 1, 0);
    for (r = table->rows; r-- > 0; ++f->count) {
        const ssm_param *row = &table->row[r];
        ssm_array *a = &f->array[f->count];
        snprintf(f->name[f->count], sizeof f->name[0], "%s%s", row->prefix, row->name);
        a->name = f->name[f->count];
        a->dtype = (ssm_dtype)(r % 4);
        a->rank = row->rank;
        for (i = 0; i < row->rank; ++i) a->shape[i] = row->shape[i];
        a->data = f->bytes + at;
        for (i = 0; i < row->count; ++i, at += params_width(a->dtype))
            params_put(f->bytes + at, a->dtype, params_value(r, i));
        at |= 1;
    }
}

static void params_filling(void)
{
    ssm_param row[4 + SSM_PARAMS_MAX];
    ssm_mamba_config config;
    const ssm_params table = params_model(row, TEST_COUNT(row), &config);
    ssm_real *params = test_zeros(table.count), *before = test_zeros(table.count);
    ssm_mismatch who = {0};
    params_file f;
    ssm_array saved;
    size_t r, i;
    params_file_open(&f, &table);
    CHECK_OK(ssm_params_fill(&table, params, f.array, f.count, NULL, &who));
    CHECK(!who.name);
    for (r = 0; r < table.rows; ++r)
        for (i = 0; i < row[r].count; ++i) CHECK(params[row[r].offset + i] == (ssm_real)params_value(r, i));
    memset(params, 0, table.count * sizeof *params);

    /* Missing: the first row without one. Nothing is written on any error. */
    saved = f.array[f.count - 1];
    f.array[f.count - 1].name = "embed.wieght";
    CHECK_STATUS(ssm_params_fill(&table, params, f.array, f.count, NULL, &who), SSM_ERR_MISSING);
    CHECK(!strcmp(who.prefix, "embed.") && !strcmp(who.name, "weight") && who.row == row && !who.array);
    f.array[f.count - 1] = saved;

    /* Extra: of no row, or twice; unless its name begins otherwise. */
    f.array[f.count] = f.array[0];
    CHECK_STATUS(ssm_params_fill(&table, params, f.array, f.count + 1, NULL, &who), SSM_ERR_EXTRA);
    CHECK(who.array == &f.array[f.count] && !strcmp(who.name, "weight") && !strcmp(who.prefix, "head."));
    f.array[f.count].name = "lm_head.weight";
    CHECK_STATUS(ssm_params_fill(&table, params, f.array, f.count + 1, NULL, &who), SSM_ERR_EXTRA);
    CHECK(!strcmp(who.name, "lm_head.weight") && !who.prefix[0] && !who.row && who.array == &f.array[f.count]);
    CHECK_STATUS(ssm_params_fill(&table, params, f.array, f.count + 1, "lm_", &who), SSM_ERR_EXTRA);
    CHECK_SAME(params, before, table.count);
    CHECK_OK(ssm_params_fill(&table, params, f.array, f.count + 1, "layers.", &who));
    memset(params, 0, table.count * sizeof *params);

    /* Another shape; an extent of 1 more is the same shape. */
    f.array[2].shape[0] += 1;
    CHECK_STATUS(ssm_params_fill(&table, params, f.array, f.count, NULL, &who), SSM_ERR_SHAPE);
    CHECK(who.array == &f.array[2] && who.row == &row[table.rows - 3] && who.name == row[table.rows - 3].name);
    f.array[2].shape[0] -= 1;
    f.array[2].shape[f.array[2].rank++] = 2;
    CHECK_STATUS(ssm_params_fill(&table, params, f.array, f.count, NULL, &who), SSM_ERR_SHAPE);
    f.array[2].shape[f.array[2].rank - 1] = 1;
    CHECK_OK(ssm_params_fill(&table, params, f.array, f.count, NULL, &who));
    memset(params, 0, table.count * sizeof *params);

    /* No type, no numbers, no name, no table. */
    f.array[3].dtype = (ssm_dtype)4;
    CHECK_STATUS(ssm_params_fill(&table, params, f.array, f.count, NULL, &who), SSM_ERR_CONFIG);
    CHECK(who.array == &f.array[3]);
    f.array[3].dtype = SSM_DTYPE_F32;
    saved = f.array[4];
    f.array[4].data = NULL;
    CHECK_STATUS(ssm_params_fill(&table, params, f.array, f.count, NULL, NULL), SSM_ERR_NULL);
    f.array[4] = saved;
    f.array[f.count].name = NULL;
    CHECK_STATUS(ssm_params_fill(&table, params, f.array, f.count + 1, NULL, &who), SSM_ERR_NULL);
    CHECK_STATUS(ssm_params_fill(&table, params, NULL, 1, NULL, &who), SSM_ERR_NULL);
    CHECK_STATUS(ssm_params_fill(NULL, params, f.array, f.count, NULL, &who), SSM_ERR_NULL);
    CHECK_STATUS(ssm_params_fill(&table, NULL, f.array, f.count, NULL, &who), SSM_ERR_NULL);
    CHECK_SAME(params, before, table.count);
    test_free(params, 0), test_free(before, 0), test_free(f.bytes, 0);
}

/* An array of no row is found wherever it stands. */
static void params_extra(void)
{
    ssm_param row[4 + SSM_PARAMS_MAX];
    ssm_mamba_config config;
    const ssm_params table = params_model(row, TEST_COUNT(row), &config);
    ssm_real *params = test_zeros(table.count);
    ssm_mismatch who = {0};
    params_file f;
    size_t i;
    params_file_open(&f, &table);
    for (i = 0; i <= f.count; ++i) {
        const ssm_array saved = f.array[i];
        f.array[f.count] = saved;
        f.array[i].name = "lm_head.weight";
        CHECK_STATUS(ssm_params_fill(&table, params, f.array, f.count + 1, NULL, &who), SSM_ERR_EXTRA);
        CHECK(who.array == &f.array[i] && !who.row);
        f.array[i] = saved;
    }
    test_free(params, 0), test_free(f.bytes, 0);
}

/* Numbers that are not whole: every binary16 against its definition, and the special ones of the others. */
static void params_numbers(void)
{
    ssm_param row[1];
    ssm_params table = ssm_params_of(row, 1);
    static uint16_t bits[65536];
    static ssm_real got[65536];
    ssm_array a = {0};
    size_t i;
    CHECK_OK(ssm_norm_params(65536, NULL, &table));
    for (i = 0; i < 65536; ++i) bits[i] = (uint16_t)i;
    a.name = "weight";
    a.rank = 1;
    a.shape[0] = 65536;
    a.data = bits;
    a.dtype = SSM_DTYPE_F16;
    CHECK_OK(ssm_params_fill(&table, got, &a, 1, NULL, NULL));
    for (i = 0; i < 65536; ++i) {
        const int e = (int)(i >> 10 & 31), m = (int)(i & 1023);
        const double size = e ? ldexp(1024 + m, e - 25) : ldexp(m, -24), want = i >> 15 ? -size : size;
        if (e < 31) CHECK((double)got[i] == want);
        else if (m) CHECK(got[i] != got[i]);
        else CHECK((double)got[i] == (i >> 15 ? -HUGE_VAL : HUGE_VAL));
    }
    a.dtype = SSM_DTYPE_BF16;
    CHECK_OK(ssm_params_fill(&table, got, &a, 1, NULL, NULL));
    for (i = 0; i < 65536; ++i) {
        const uint32_t word = (uint32_t)i << 16;
        float want;
        memcpy(&want, &word, 4);
        CHECK(want != want ? got[i] != got[i] : got[i] == (ssm_real)want);
    }
}

/* step_scale where a layer has no such thing. */
#define PARAMS_SCALE(X)                                                                                            \
    static void params_scale_##X(ssm_status want)                                                                  \
    {                                                                                                              \
        enum { DIM = 32, LEN = 3 };                                                                                \
        ssm_##X##_config config = {0};                                                                             \
        ssm_seqs seqs = test_seqs(1, LEN), plain = seqs;                                                           \
        ssm_real scale[LEN] = {1, 1, 1}, x[LEN * DIM] = {0}, y[LEN * DIM], *params;                                \
        ssm_memory bound, work, tape;                                                                              \
        ssm_sizes need;                                                                                            \
        ssm_##X layer;                                                                                             \
        size_t bytes;                                                                                              \
        config.d_model = DIM;                                                                                      \
        seqs.step_scale = scale;                                                                                   \
        CHECK_STATUS(ssm_##X##_sizes(&config, &seqs, &need), want);                                                \
        CHECK_OK(ssm_##X##_sizes(&config, &plain, &need));                                                         \
        bytes = need.work + need.work_backward + need.state;                                                       \
        params = test_zeros(need.params / sizeof(ssm_real));                                                       \
        bound = ssm_memory_of(test_alloc(need.bound, 0), need.bound);                                              \
        work = ssm_memory_of(test_alloc(bytes, 0), bytes);                                                         \
        tape = ssm_memory_of(test_alloc(need.tape, 0), need.tape);                                                 \
        CHECK_OK(ssm_##X##_init(&config, params, 1));                                                              \
        CHECK_OK(ssm_##X##_bind(&layer, &config, params, bound));                                                  \
        CHECK_STATUS(ssm_##X##_forward(&layer, NULL, x, y, &seqs, work), want);                                    \
        CHECK_STATUS(ssm_##X##_record(&layer, NULL, x, y, &seqs, tape, work), want);                               \
        CHECK_STATUS(ssm_##X##_backward(&layer, NULL, x, x, y, params, &seqs, tape, work), want);                  \
        test_free(params, 0), test_free(bound.data, 0), test_free(work.data, 0), test_free(tape.data, 0);          \
    }
PARAMS_SCALE(selective)
PARAMS_SCALE(s6)
PARAMS_SCALE(mamba)
PARAMS_SCALE(mamba2)
PARAMS_SCALE(mamba3)
PARAMS_SCALE(rglru)
PARAMS_SCALE(s4d)
PARAMS_SCALE(s4)
PARAMS_SCALE(s5)

static void params_scale(void)
{
    params_scale_selective(SSM_ERR_UNSUPPORTED);
    params_scale_s6(SSM_ERR_UNSUPPORTED);
    params_scale_mamba(SSM_ERR_UNSUPPORTED);
    params_scale_mamba2(SSM_ERR_UNSUPPORTED);
    params_scale_mamba3(SSM_ERR_UNSUPPORTED);
    params_scale_rglru(SSM_ERR_UNSUPPORTED);
    params_scale_s4d(SSM_ERR_UNSUPPORTED);
    params_scale_s4(SSM_ERR_UNSUPPORTED);
    params_scale_s5(SSM_OK);
}

/* Every status has a text of its own. */
static void params_statuses(void)
{
    int a, b;
    for (a = 0; a >= SSM_ERR_DEVICE; --a) {
        CHECK(strcmp(ssm_status_string((ssm_status)a), "unknown status"));
        for (b = 0; b > a; --b) CHECK(strcmp(ssm_status_string((ssm_status)a), ssm_status_string((ssm_status)b)));
    }
    CHECK(!strcmp(ssm_status_string((ssm_status)(SSM_ERR_DEVICE - 1)), "unknown status"));
}

static const test_case params_cases[] = {
    {"params/counting", params_counting}, {"params/finding", params_finding}, {"params/layers", params_layers},
    {"params/init", params_init},         {"params/filling", params_filling},
    {"params/extra", params_extra}, {"params/numbers", params_numbers},
    {"params/scale", params_scale},       {"params/statuses", params_statuses}, {"params/null", params_null},
};
