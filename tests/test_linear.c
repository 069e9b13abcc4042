/* Matrix products: every instruction set gives the bits of its family's definition, one accumulator for each output
 * that runs in order, for every format, shape, number of rows and number of threads. */
#include <math.h>

#define LINEAR_MARK ((ssm_real)12345)

/* a b + c in one rounding or two. Some C libraries round float's fma twice: here the sum of a double, which holds a
 * product of floats, is rounded to odd, so that the rounding to float is the only one. */
static ssm_real linear_fma(int fused, ssm_real a, ssm_real b, ssm_real c)
{
    volatile ssm_real product = a * b, sum;
#ifdef SSM_DOUBLE
    if (fused) return fma(a, b, c);
#else
    if (fused) {
        const volatile double x = (double)a * b, y = c, s = x + y;
        const volatile double y_part = s - x, x_part = s - y_part;
        const volatile double lost = (x - x_part) + (y - y_part);
        uint64_t bits;
        double odd = s;
        memcpy(&bits, &odd, sizeof bits);
        if (lost != 0 && bits % 2 == 0) odd = nextafter(s, lost > 0 ? HUGE_VAL : -HUGE_VAL);
        return (ssm_real)odd;
    }
#endif
    sum = product + c;
    return sum;
}

static int linear_is_fused(ssm_isa isa)
{
    return isa == SSM_ISA_AVX2 || isa == SSM_ISA_AVX512 || isa == SSM_ISA_NEON || SSM__FUSED;
}

typedef struct linear_case {
    size_t in, out, rows;
    ssm_format format;
    int bias, add;
} linear_case;

/* Weight [o][k] as the format keeps it; INT8 before its scale, which is that of the row. */
static ssm_real linear_weight(const ssm_linear *l, size_t o, size_t k, ssm_real *scale)
{
    const size_t bytes = ssm__panel_bytes(l->format, l->in), at = k * SSM__PANEL + o % SSM__PANEL;
    const unsigned char *panel;
    if (!l->packed || l->format == SSM_FORMAT_REAL) return l->weight[o * l->in + k];
    panel = (const unsigned char *)l->packed + o / SSM__PANEL * bytes;
    if (l->format == SSM_FORMAT_BF16) return ssm__from_bf16(((const uint16_t *)(const void *)panel)[at]);
    *scale = ((const ssm_real *)(const void *)panel)[o % SSM__PANEL];
    return ((const int8_t *)(panel + SSM__PANEL * sizeof(ssm_real)))[at];
}

/* y by definition. */
static void linear_define(const ssm_linear *l, int fused, const ssm_real *x, size_t x_row, const ssm_real *add, ssm_real *y,
                          size_t y_row, size_t rows)
{
    size_t r, o, k;
    for (o = 0; o < l->out; ++o) {
        for (r = 0; r < rows; ++r) {
            ssm_real sum = 0, scale = 0;
            for (k = 0; k < l->in; ++k)
                sum = linear_fma(fused, x[r * x_row + k], linear_weight(l, o, k, &scale), sum);
            if (l->packed && l->format == SSM_FORMAT_INT8)
                sum = linear_fma(fused, sum, scale, l->bias ? l->bias[o] : 0);
            else if (l->bias) sum += l->bias[o];
            y[r * y_row + o] = add ? add[r * y_row + o] + sum : sum;
        }
    }
}

/* One shape on every instruction set: packed, plain (REAL), in three threads, and added to what y holds. */
static void linear_run(const linear_case *c, ssm_rng *rng)
{
    const size_t x_row = c->in + 3, y_row = c->out + 2, x_count = (c->rows - 1) * x_row + c->in;
    const size_t count = (c->rows - 1) * y_row + c->out;
    ssm_real *weight = test_normal(rng, c->out * c->in, 1), *bias = test_normal(rng, c->out, 1);
    ssm_real *x = test_normal(rng, x_count, 1), *add = test_normal(rng, count, 1);
    ssm_real *y = test_zeros(count), *want = test_zeros(count);
    test_pool threads = {3, 0};
    const ssm_parallel pool = {test_pool_run, &threads};
    ssm_linear l = {0};
    void *packed;
    size_t bytes = 0, i, isa;
    l.in = c->in, l.out = c->out, l.weight = weight, l.format = c->format;
    l.bias = c->bias ? bias : NULL;
    CHECK_OK(ssm_linear_pack_size(&l, &bytes));
    packed = test_alloc(bytes, 0);
    CHECK_OK(ssm_linear_pack(&l, ssm_memory_of(packed, bytes)));
    for (isa = SSM_ISA_SCALAR; isa < (size_t)ssm_isa_count(); ++isa) {
        const int fused = linear_is_fused((ssm_isa)isa);
        int pass;
        if (!ssm_isa_available((ssm_isa)isa)) continue;
        l.isa = (ssm_isa)isa;
        for (pass = 0; pass < 3; ++pass) {
            l.packed = pass == 1 ? NULL : packed;
            l.parallel = pass == 2 ? &pool : NULL;
            for (i = 0; i < count; ++i) y[i] = want[i] = c->add && pass != 1 ? add[i] : LINEAR_MARK;
            linear_define(&l, fused, x, x_row, c->add && pass != 1 ? add : NULL, want, y_row, c->rows);
            if (c->add && pass != 1)
                ssm__linear(l.parallel, &l, ssm_rows_of(x, (ptrdiff_t)x_row), ssm_rows_of(y, (ptrdiff_t)y_row),
                            ssm_rows_out_of(y, (ptrdiff_t)y_row), c->rows);
            else CHECK_OK(ssm_linear_forward(&l, ssm_rows_of(x, (ptrdiff_t)x_row), ssm_rows_out_of(y, (ptrdiff_t)y_row), c->rows));
            CHECK_SAME(y, want, count);
        }
    }
    test_free(weight, 0), test_free(bias, 0), test_free(x, 0), test_free(add, 0), test_free(y, 0), test_free(want, 0);
    test_free(packed, 0);
}

static const ssm_format linear_formats[] = {SSM_FORMAT_REAL, SSM_FORMAT_BF16, SSM_FORMAT_INT8};

/* Every tail of one extent while the others stay. */
static void linear_tails(void)
{
    ssm_rng rng = test_rng(61);
    size_t n, f;
    for (n = 1; n <= 70; ++n) {
        for (f = 0; f < TEST_COUNT(linear_formats); ++f) {
            const int even = (n + f) % 2 == 0;
            const linear_case by_in = {n, 19, 5, linear_formats[f], even, !even};
            const linear_case by_out = {7, n, 6, linear_formats[f], !even, even};
            const linear_case by_rows = {9, 17, n, linear_formats[f], even, even};
            const linear_case one = {n, n + 3, 1, linear_formats[f], even, !even};
            linear_run(&by_in, &rng), linear_run(&by_out, &rng), linear_run(&by_rows, &rng), linear_run(&one, &rng);
        }
    }
}

/* Several blocks of the depth, several tasks, few rows and many. */
static void linear_shapes(void)
{
    static const size_t shape[][3] = {{385, 33, 4}, {800, 49, 50}, {500, 530, 1}, {500, 530, 2}, {130, 200, 3}, {97, 65, 101}};
    ssm_rng rng = test_rng(62);
    size_t i, f;
    for (i = 0; i < TEST_COUNT(shape); ++i) {
        for (f = 0; f < TEST_COUNT(linear_formats); ++f) {
            const linear_case c = {shape[i][0], shape[i][1], shape[i][2], linear_formats[f], 1, i % 2 == 0};
            linear_run(&c, &rng);
        }
    }
}

/* Gradients by definition: they go on from what is there. */
static void linear_define_backward(const ssm_linear *l, int fused, const ssm_real *x, size_t x_row, const ssm_real *dy,
                                   size_t dy_row, ssm_real *dx, size_t dx_row, ssm_real *dweight, ssm_real *dbias, size_t rows)
{
    size_t r, o, i;
    for (r = 0; r < rows; ++r)
        for (o = 0; o < l->out; ++o)
            for (i = 0; i < l->in; ++i) {
                const ssm_real g = dy[r * dy_row + o];
                ssm_real *to = dx + r * dx_row + i, *w = dweight + o * l->in + i;
                *to = linear_fma(fused, g, l->weight[o * l->in + i], *to);
                *w = linear_fma(fused, g, x[r * x_row + i], *w);
                if (i == 0) dbias[o] += g;
            }
}

static void linear_run_backward(size_t in, size_t out, size_t rows, int share, ssm_rng *rng)
{
    const size_t x_row = in + 1, dy_row = out + 2, dx_row = share ? 0 : in + 3;
    const size_t dx_count = (rows - 1) * dx_row + in, total = dx_count + out * in + out;
    ssm_real *weight = test_normal(rng, out * in, 1), *x = test_normal(rng, (rows - 1) * x_row + in, 1);
    ssm_real *dy = test_normal(rng, (rows - 1) * dy_row + out, 1), *start = test_normal(rng, total, 1);
    ssm_real *got = test_zeros(total), *want = test_zeros(total);
    test_pool threads = {3, 0};
    const ssm_parallel pool = {test_pool_run, &threads};
    ssm_linear l = {0};
    size_t i, isa;
    int pass;
    l.in = in, l.out = out, l.weight = weight;
    for (isa = SSM_ISA_SCALAR; isa < (size_t)ssm_isa_count(); ++isa) {
        if (!ssm_isa_available((ssm_isa)isa)) continue;
        l.isa = (ssm_isa)isa;
        for (i = 0; i < total; ++i) want[i] = start[i];
        linear_define_backward(&l, linear_is_fused(l.isa), x, x_row, dy, dy_row, want, dx_row, want + dx_count,
                               want + dx_count + out * in, rows);
        for (pass = 0; pass < 2; ++pass) {
            l.parallel = pass ? &pool : NULL;
            for (i = 0; i < total; ++i) got[i] = start[i];
            CHECK_OK(ssm_linear_backward(&l, ssm_rows_of(x, (ptrdiff_t)x_row), ssm_rows_of(dy, (ptrdiff_t)dy_row),
                                         ssm_rows_out_of(got, (ptrdiff_t)dx_row), got + dx_count, got + dx_count + out * in, rows));
            CHECK_SAME(got, want, total);
        }
    }
    test_free(weight, 0), test_free(x, 0), test_free(dy, 0), test_free(start, 0), test_free(got, 0), test_free(want, 0);
}

static void linear_backward(void)
{
    ssm_rng rng = test_rng(63);
    size_t n;
    for (n = 1; n <= 70; ++n) {
        linear_run_backward(n, 9, 5, 0, &rng);
        linear_run_backward(9, n, 6, n % 2 == 0, &rng);
        linear_run_backward(18, 7, n, n % 3 == 0, &rng);
    }
    linear_run_backward(100, 130, 101, 0, &rng);
    linear_run_backward(300, 60, 7, 1, &rng);
}

/* An instruction set that is not there, and sizes that do not fit. */
static void linear_refused(void)
{
    ssm_real w[4] = {1, 2, 3, 4}, x[2] = {1, 1}, y[2] = {LINEAR_MARK, LINEAR_MARK};
    ssm_linear l = {0};
    size_t bytes = 7;
    l.in = l.out = 2, l.weight = w;
    l.isa = (ssm_isa)99;
    CHECK_STATUS(ssm_linear_forward(&l, ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), 1), SSM_ERR_UNSUPPORTED);
    CHECK_STATUS(ssm_linear_backward(&l, ssm_rows_of(x, 2), ssm_rows_of(x, 2), ssm_rows_out_of(y, 2), NULL, NULL, 1),
                 SSM_ERR_UNSUPPORTED);
    CHECK(y[0] == LINEAR_MARK && y[1] == LINEAR_MARK);
    l.isa = SSM_ISA_BEST, l.format = SSM_FORMAT_INT8;
    l.in = 1, l.out = (size_t)-1 / sizeof(ssm_real) - SSM__PANEL; /* the scales are what does not fit */
    CHECK_STATUS(ssm_linear_pack_size(&l, &bytes), SSM_ERR_OVERFLOW);
    CHECK(bytes == 7);
}

static const test_case linear_cases[] = {
    {"linear/tails", linear_tails, EVERY_ISA},
    {"linear/shapes", linear_shapes, EVERY_ISA},
    {"linear/backward", linear_backward, EVERY_ISA},
    {"linear/refused", linear_refused, EVERY_ISA},
};
