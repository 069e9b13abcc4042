/* test_math.c - the functions of >>kernels-math and >>math against the C library, one precision wider. */

/* Where long double is no wider than double (MSVC, some ARM), a double build can only be compared
 * with its equal: allow the reference its own last bit. */
#ifdef SSM_DOUBLE
typedef long double wide;
#define WIDE(f) f##l
#define REFERENCE_ULP (sizeof(long double) > sizeof(double) ? 0.0 : 1.0)
#else
typedef double wide;
#define WIDE(f) f
#define REFERENCE_ULP 0.0
#endif

#define TEST_BIAS TOL(127, 1023)
#define TEST_MANTISSA TOL(23, 52)

static wide wide_expm1(wide x) { return WIDE(expm1)(x); }
static wide wide_exp(wide x) { return WIDE(exp)(x); }
static wide wide_log(wide x) { return WIDE(log)(x); }
static wide wide_sqrt(wide x) { return WIDE(sqrt)(x); }
static wide wide_exp2(wide x) { return WIDE(exp2)(x); }
static wide wide_softplus(wide x) { return x > 0 ? x + WIDE(log1p)(WIDE(exp)(-x)) : WIDE(log1p)(WIDE(exp)(x)); }
static wide wide_sigmoid(wide x) { return 1 / (1 + WIDE(exp)(-x)); }
static wide wide_tanh(wide x) { return WIDE(tanh)(x); }
static wide wide_cos_turn(wide x) { return WIDE(cos)(2 * WIDE(acos)(-1) * x); }
static wide wide_sin(wide x) { return WIDE(sin)(x); }
static wide wide_cos(wide x) { return WIDE(cos)(x); }

static ssm_real our_sin(ssm_real x)
{
    ssm_real s, c;
    ssm__sincos(x, &s, &c);
    return s;
}

static ssm_real our_cos(ssm_real x)
{
    ssm_real s, c;
    ssm__sincos(x, &s, &c);
    return c;
}

/* From the factors that kernels compute with. */
static ssm_real our_erf(ssm_real x)
{
    const ssm_real size = (ssm_real)fabs((double)x), half = (ssm_real)0.5;
    ssm_real rest, power = ssm__erfc_factors(size < half ? half : size, &rest);
    return ssm__erf_of(x, power, rest);
}

static ssm_real our_gelu(ssm_real x)
{
    ssm_real cdf, factor = ssm__gelu_factors(x, &cdf);
    return factor * cdf;
}

static ssm_real our_gelu_tanh(ssm_real x)
{
    ssm_real gate, factor = ssm__gelu_tanh_factors(x, &gate);
    return factor * gate;
}

static ssm_real exp_init(ssm_real x)
{
    return ssm__exp_plus(x, 0);
}

static ssm_real exp_less_one(ssm_real x)
{
    return ssm__exp_plus(x, -1);
}

/* Distance of got from want in units in the last place of want (of the smallest normal, below it). */
static double ulps(ssm_real got, wide want)
{
    const wide smallest = (wide)ssm__pow2(1 - TEST_BIAS);
    wide size = want < 0 ? -want : want;
    int e;
    if (size < smallest) size = smallest;
    (void)WIDE(frexp)(size, &e);
    return (double)(WIDE(fabs)((wide)got - want) / WIDE(ldexp)(1, e - 1 - TEST_MANTISSA));
}

/* The error at x, in ulp unless `absolute`. */
static double error_at(ssm_real (*ours)(ssm_real), wide (*reference)(wide), ssm_real x, int absolute)
{
    const wide want = reference((wide)x);
    return absolute ? (double)WIDE(fabs)((wide)ours(x) - want) : ulps(ours(x), want);
}

#ifndef SSM_DOUBLE
/* Worst error over every float between lo and hi; next to 0, where these functions are straight lines, from 1e-12 on. */
static double worst_ulp_of_all(ssm_real (*ours)(ssm_real), wide (*reference)(wide), double lo, double hi, int absolute)
{
    double worst = 0;
    int sign;
    for (sign = -1; sign <= 1; sign += 2) {
        const double near = sign < 0 ? -hi : lo, far = sign < 0 ? -lo : hi;
        ssm__pun at, end;
        if (far <= 0) continue;
        at.f = near > 0 ? (ssm_real)near : (ssm_real)1e-12;
        end.f = (ssm_real)far;
        for (; at.u <= end.u; ++at.u) {
            const double error = error_at(ours, reference, (ssm_real)sign * at.f, absolute);
            if (!(error <= worst)) worst = error;
        }
    }
    return worst;
}
#endif

/* Worst error in ulp over `count` points spread between lo and hi (geometrically if both are positive
 * and `geometric`), with random offsets. */
static double worst_ulp(ssm_real (*ours)(ssm_real), wide (*reference)(wide), double lo, double hi, int geometric,
                        int absolute)
{
    const int count = 200000;
    ssm_rng rng;
    double worst = 0;
    int i;
#ifndef SSM_DOUBLE
    if (getenv("SSM_TEST_EVERY_FLOAT")) return worst_ulp_of_all(ours, reference, lo, hi, absolute); /* ten minutes */
#endif
    rng.state = test_seed;
    for (i = 0; i < count; ++i) {
        const double f = (i + (double)ssm_rng_uniform(&rng)) / count;
        const ssm_real x = (ssm_real)(geometric ? exp(log(lo) + (log(hi) - log(lo)) * f) : lo + (hi - lo) * f);
        const double error = error_at(ours, reference, x, absolute);
        if (!(error <= worst)) worst = error;
    }
    return worst;
}

static void check_bound(const char *name, double worst, double bound)
{
    if (getenv("SSM_TEST_VERBOSE")) printf("    %-22s %.3g of %.3g\n", name, worst, bound);
    if (!(worst <= bound)) test_fail(__FILE__, __LINE__, "%s: error %.4g, stated %.4g", name, worst, bound);
}

#define ULP(f, reference, lo, hi, geometric, bound)                                                              \
    check_bound(#f " " #lo " .. " #hi, worst_ulp(f, reference, lo, hi, geometric, 0), (bound) + REFERENCE_ULP)

static void test_exp(void)
{
    ULP(ssm__exp, wide_exp, -1, 1, 0, 1.1);
    ULP(ssm__exp, wide_exp, TOL(-87.0, -708.0), TOL(88.0, 709.0), 0, 1.1);
    ULP(ssm__exp, wide_exp, TOL(-103.0, -744.0), TOL(-87.0, -708.0), 0, 1.1); /* subnormal results */
    CHECK(ssm__exp(0) == 1);
    CHECK(ssm__exp((ssm_real)TOL(-200, -2000)) == 0);
    CHECK(ssm__exp((ssm_real)-HUGE_VAL) == 0);
    CHECK((double)ssm__exp((ssm_real)HUGE_VAL) == HUGE_VAL);
    CHECK((double)ssm__exp((ssm_real)TOL(88.8, 709.8)) == HUGE_VAL);
    CHECK(ssm__exp((ssm_real)NAN) != ssm__exp((ssm_real)NAN));
}

/* The bits of x, `steps` numbers away from zero. */
static ssm_real exp_neighbour(ssm_real x, ssm__sint steps)
{
    ssm__pun q;
    q.f = x;
    q.u += (ssm__bits)steps;
    return q.f;
}

/* 2^x as the scans compute a decay. */
static ssm_real test_exp2_of(ssm_real x)
{
    return ssm__exp2_any(x, 1);
}

/* 2^x: the path inside loops, which ends at TOL(124.5, 1020.5), has the bits of the one for any x. */
static void test_exp2(void)
{
    const ssm_real seam = (ssm_real)TOL(124.5, 1020.5);
    ssm__sint i;
    ssm_rng rng;
    int sign;
    ULP(test_exp2_of, wide_exp2, -1, 1, 0, 1.2);
    ULP(test_exp2_of, wide_exp2, TOL(-124.5, -1020.5), TOL(124.5, 1020.5), 0, 1.2);
    for (sign = -1; sign <= 1; sign += 2) {
        for (i = 1; i <= 2000; ++i) {
            const ssm_real x = (ssm_real)sign * exp_neighbour(seam, -i);
            const ssm_real near = ssm__exp2_product(x, 1), any = ssm__exp2_any(x, 1);
            CHECK_SAME(&near, &any, 1);
        }
    }
    rng.state = test_seed;
    for (i = 0; i < 200000; ++i) {
        const ssm_real x = seam * (2 * ssm_rng_uniform(&rng) - 1), near = ssm__exp2_product(x, 1), any = ssm__exp2_any(x, 1);
        CHECK_SAME(&near, &any, 1);
    }
    CHECK(ssm__exp2_any(0, 1) == 1 && ssm__exp2_any((ssm_real)-0.0, 1) == 1 && ssm__exp2_any(10, 1) == 1024);
    CHECK(ssm__exp2_any(-seam - 1, 1) == 0 && ssm__exp2_any((ssm_real)TOL(-200, -2000), 1) == 0);
    CHECK(ssm__exp2_any((ssm_real)-HUGE_VAL, 1) == 0);
    CHECK((double)ssm__exp2_any((ssm_real)HUGE_VAL, 1) == HUGE_VAL);
    CHECK((double)ssm__exp2_any(seam + 1, 1) == HUGE_VAL);
    CHECK(ssm__exp2_any((ssm_real)NAN, 1) != ssm__exp2_any((ssm_real)NAN, 1));
}

/* What init computes with. */
static void test_init_functions(void)
{
    ULP(exp_less_one, wide_expm1, -0.5, 0.5, 0, 2.6);
    ULP(exp_less_one, wide_expm1, -30, 30, 0, 2.6);
    ULP(exp_less_one, wide_expm1, 1e-30, 0.5, 1, 2.6);
    ULP(exp_init, wide_exp, -60, 60, 0, 1.7);
    ULP(ssm__root, wide_sqrt, TOL(1e-37, 1e-307), TOL(3e38, 1e308), 1, 1.0);
    check_bound("cos_turn", worst_ulp(ssm__cos_turn, wide_cos_turn, 0, 1, 0, 1), TOL(1.2e-7, 2.4e-16));
    CHECK(ssm__root(0) == 0 && ssm__root(-1) == -1 && ssm__cos_turn(0) == 1 && ssm__cos_turn(1) == 1);
    CHECK(exp_less_one(-1000) == -1 && exp_less_one(0) == 0);
    ULP(ssm__log, wide_log, 0.5, 2, 0, 1.0);
    ULP(ssm__log, wide_log, TOL(1e-44, 1e-320), TOL(3e38, 1e308), 1, 1.0);
    CHECK((double)ssm__log(0) == -HUGE_VAL);
    CHECK((double)ssm__log((ssm_real)HUGE_VAL) == HUGE_VAL);
    CHECK(ssm__log(-1) != ssm__log(-1));
    CHECK(ssm__log((ssm_real)NAN) != ssm__log((ssm_real)NAN));
    CHECK(exp_less_one((ssm_real)NAN) != exp_less_one((ssm_real)NAN));
}

static void test_softplus_sigmoid(void)
{
    ULP(ssm__softplus, wide_softplus, -80, 80, 0, 2.7);
    ULP(ssm__softplus, wide_softplus, -2, 2, 0, 2.7);
    ULP(ssm__sigmoid, wide_sigmoid, -80, 80, 0, 2.5);
    CHECK(ssm__softplus(1000) == 1000);
    CHECK(ssm__softplus(-1000) == 0);
    CHECK((double)ssm__softplus((ssm_real)HUGE_VAL) == HUGE_VAL);
    CHECK(ssm__sigmoid(-1000) == 0);
    CHECK(ssm__sigmoid(1000) == 1);
    CHECK(ssm__silu(0) == 0);
    CHECK(ssm__softplus((ssm_real)NAN) != ssm__softplus((ssm_real)NAN));
    CHECK(ssm__sigmoid((ssm_real)NAN) != ssm__sigmoid((ssm_real)NAN));
}

static void test_tanh(void)
{
    ULP(ssm__tanh, wide_tanh, -0.25, 0.25, 0, 2.9);
    ULP(ssm__tanh, wide_tanh, -20, 20, 0, 2.9);
    ULP(ssm__tanh, wide_tanh, 1e-30, 1, 1, 2.9);
    CHECK(ssm__tanh(0) == 0 && ssm__tanh(1000) == 1 && ssm__tanh(-1000) == -1);
    CHECK(ssm__tanh((ssm_real)HUGE_VAL) == 1 && ssm__tanh((ssm_real)-HUGE_VAL) == -1);
    CHECK(ssm__tanh((ssm_real)NAN) != ssm__tanh((ssm_real)NAN));
}

/* The angles of Mamba-3 after 200000 steps, tens of thousands of turns: between 0 and 2 pi, and as exact as a sum of
 * numbers of that size is. An angle that is not reduced, or by a 2 pi of this precision, is ten times as far off. */
static void test_angle_sum(void)
{
    enum { ANGLES = 20, ROWS = 1000, PIECES = 200 };
    static ssm_real rate[ROWS * ANGLES], turn[2 * ROWS * ANGLES], delta[ROWS];
    const wide pi = WIDE(acos)(-1);
    ssm_real theta[ANGLES] = {0};
    wide want[ANGLES] = {0};
    double worst = 0;
    ssm__angle_block b = {0};
    ssm_rng rng;
    size_t piece, r, i;
    rng.state = test_seed;
    b.rows = ROWS;
    b.angles = ANGLES;
    b.rate = rate;
    b.delta = delta;
    b.delta_row = 1;
    b.theta = theta;
    b.turn = turn;
    for (piece = 0; piece < PIECES; ++piece) {
        for (r = 0; r < ROWS; ++r) delta[r] = (ssm_real)0.5 * ssm_rng_uniform(&rng);
        for (i = 0; i < ROWS * ANGLES; ++i)
            rate[i] = (ssm_real)pi * (ssm_rng_uniform(&rng) - (ssm_real)(i % 2));
        ssm__angle_rows(&b);
        for (r = 0; r < ROWS; ++r)
            for (i = 0; i < ANGLES; ++i)
                want[i] = WIDE(remainder)(want[i] + (wide)rate[r * ANGLES + i] * (wide)delta[r], 2 * pi);
    }
    for (i = 0; i < ANGLES; ++i) {
        const double error = (double)WIDE(fabs)(WIDE(remainder)((wide)theta[i] - want[i], 2 * pi));
        CHECK(theta[i] > (ssm_real)-1e-5 && theta[i] < (ssm_real)(2 * pi + 1e-5));
        CHECK(fabs((double)turn[2 * (ROWS - 1) * ANGLES + i] - (double)WIDE(cos)(want[i])) <= error + 1e-6);
        if (error > worst) worst = error;
    }
    check_bound("angles", worst, TOL(4e-4, 1e-11));
}

static void test_silu_derivative(void)
{
    double x;
    for (x = -20; x <= 20; x += 0.37) {
        const double s = 1 / (1 + exp(-x)), want = s * (1 + x * (1 - s));
        const ssm_real got = ssm__silu_derivative((ssm_real)x);
        CHECK_CLOSE(&got, &want, 1, TOL(1e-5, 1e-13));
    }
}

static void test_sqrt(void)
{
    const ssm_real large = (ssm_real)TOL(3.4028234e38, 1.7976931348623155e308);
    ULP(ssm__sqrt, wide_sqrt, TOL(1e-37, 1e-300), TOL(1e38, 1e300), 1, 0.9);
    ULP(ssm__sqrt, wide_sqrt, 0.9, 4.1, 0, 0.9);
    ULP(ssm__sqrt, wide_sqrt, TOL(1e-44, 1e-320), TOL(1e-38, 1e-308), 1, 0.9); /* subnormal */
    CHECK(ssm__sqrt(large) == 2 * ssm__sqrt(large / 4)); /* not rounded up to infinity on the way */
    CHECK(ssm__sqrt(0) == 0);
    CHECK(ssm__sqrt(4) == 2);
    CHECK((double)ssm__sqrt((ssm_real)HUGE_VAL) == HUGE_VAL);
    CHECK(ssm__sqrt(-1) != ssm__sqrt(-1));
    CHECK(ssm__sqrt((ssm_real)NAN) != ssm__sqrt((ssm_real)NAN));
}

static void test_sincos(void)
{
    const double bound = TOL(9.5e-8, 1.8e-16);
    check_bound("sin", worst_ulp(our_sin, wide_sin, -8192, 8192, 0, 1), bound);
    check_bound("cos", worst_ulp(our_cos, wide_cos, -8192, 8192, 0, 1), bound);
    check_bound("sin near 0", worst_ulp(our_sin, wide_sin, -4, 4, 0, 1), bound);
    check_bound("cos near 0", worst_ulp(our_cos, wide_cos, -4, 4, 0, 1), bound);
    check_bound("sin far", worst_ulp(our_sin, wide_sin, 8192, TOL(6.4e6, 9.9e8), 1, 1), TOL(1.7e-7, 2.2e-16));
    check_bound("cos far", worst_ulp(our_cos, wide_cos, 8192, TOL(6.4e6, 9.9e8), 1, 1), TOL(1.7e-7, 2.2e-16));
    CHECK(our_sin(0) == 0 && our_cos(0) == 1);
    CHECK(our_sin((ssm_real)1e30) == 0 && our_cos((ssm_real)1e30) == 1);
    CHECK(our_sin((ssm_real)NAN) != our_sin((ssm_real)NAN));
}

/* phi and its derivative, where the series hands over to the closed form, and at 0. */
static void test_phi(void)
{
    double x;
    for (x = -0.499; x < 0.5; x += 0.0131) {
        const double phi = expm1(x) / x, slope = fabs(x) < 0.05 ? 0.5 + x / 3 + x * x / 8 + x * x * x / 30 + x * x * x * x / 144
                                                                : (exp(x) - phi) / x;
        const ssm_real got = ssm__phi_small((ssm_real)x), got_slope = ssm__phi_derivative_small((ssm_real)x);
        CHECK_CLOSE(&got, &phi, 1, TOL(2e-7, 1e-15));
        CHECK_CLOSE(&got_slope, &slope, 1, fabs(x) < 0.05 ? 1e-9 + TOL(2e-7, 0) : TOL(2e-7, 1e-13));
    }
    CHECK(ssm__phi_small(0) == 1);
    CHECK(ssm__phi_derivative_small(0) == (ssm_real)0.5);
}

static const test_case math_cases[] = {
    {"math/exp", test_exp},
    {"math/exp2", test_exp2},
    {"math/init", test_init_functions},
    {"math/softplus_sigmoid", test_softplus_sigmoid},
    {"math/silu_derivative", test_silu_derivative},
    {"math/tanh", test_tanh},
    {"math/angle_sum", test_angle_sum},
    {"math/sqrt", test_sqrt},
    {"math/sincos", test_sincos},
    {"math/phi", test_phi},
};
