/* ssm_test.c - the test runner.
 *
 *   ssm_test [--list] [--isas] [--times] [--seed N] [--isa NAME] [FILTER ...]
 *
 * Runs the tests whose name contains a FILTER; =NAME is the test of exactly that name, !NAME leaves it out.
 * --isa: on that instruction set instead of the best one, without the tests that go through all by themselves;
 * --isas prints those of this build and machine.
 * --times: after each test that took a tenth of a second or more, its seconds of processor time.
 * Exit status 1 if a test failed; the last line is "N passed, N failed". */
#if (defined(__unix__) || defined(__APPLE__)) && !defined(__TINYC__)
#define TEST_GUARD /* there is mmap, declared where more than C99 is asked for */
#define _DEFAULT_SOURCE
#endif
#include "../ssm.h"

/* What isa 0 of every problem and config stands for: --isa. */
static ssm_isa test_isa;
#define SSM_DEFAULT_ISA test_isa
#define SSM_COMPLEX_LAYERS /* on every target */
#define SSM_IMPLEMENTATION
#include "../ssm.h"

#include "test.h"
#include <time.h>

#include "test_math.c"
#include "test_ops.c"
#include "test_linear.c"
#include "test_ssd.c"
#include "test_gradients.c"
#include "test_layers.c"
#include "test_train.c"
#include "test_golden.c"
#include "test_scan.c"
#include "test_hippo.c"
#include "test_rows.c"

#include "test_lti.c"
#ifndef TEST_NO_COMPLEX
#include "test_s5.c"
#include "test_golden_s5.c"
#include "test_s4.c"
#include "test_golden_s4.c"
#endif
#include "test_bound.c"
#include "test_guard.c"
#include "test_isa.c"
#include "test_silence.c"
#include "test_line.c"
#include "test_limits.c"
#include "test_params.c"
#include "test_losses.c"
#include "test_serving.c"
#include "test_norms.c"

#define GROUP(cases) {cases, sizeof cases / sizeof cases[0]}

static const struct {
    const test_case *cases;
    size_t count;
} groups[] = {
    GROUP(math_cases),  GROUP(ops_cases),       GROUP(linear_cases), GROUP(ssd_tests),   GROUP(gradient_cases), GROUP(layer_cases),
    GROUP(train_cases), GROUP(golden_cases),    GROUP(scan_cases),     GROUP(hippo_cases),
    GROUP(rows_cases),

    GROUP(lti_cases),
#ifndef TEST_NO_COMPLEX
    GROUP(s5_cases),    GROUP(golden_s5_cases), GROUP(s4_cases),       GROUP(golden_s4_cases),
#endif
    GROUP(bound_cases),
#ifdef TEST_GUARD
    GROUP(guard_cases),
#endif
    GROUP(isa_cases),
    GROUP(silence_cases), GROUP(serving_tests), GROUP(norms_tests), GROUP(line_cases),
    GROUP(limits_cases), GROUP(params_cases), GROUP(losses_cases),
};

static int selected(const char *name, int filters, char **filter)
{
    int i, asked = 0, found = 0;
    for (i = 0; i < filters; ++i) {
        if (filter[i][0] == '!') {
            if (!strcmp(name, filter[i] + 1)) return 0;
        } else {
            asked = 1;
            if (filter[i][0] == '=' ? !strcmp(name, filter[i] + 1) : strstr(name, filter[i]) != NULL) found = 1;
        }
    }
    return found || !asked;
}

/* Whether a filter names tests to run, not only tests to leave out. */
static int asks(int filters, char **filter)
{
    int i;
    for (i = 0; i < filters; ++i)
        if (filter[i][0] != '!') return 1;
    return 0;
}

/* The instruction set of that name, if this build and machine have it; else BEST. */
static ssm_isa isa_named(const char *name)
{
    int i;
    for (i = SSM_ISA_SCALAR; i < ssm_isa_count(); ++i)
        if (!strcmp(name, ssm_isa_name((ssm_isa)i)) && ssm_isa_available((ssm_isa)i)) return (ssm_isa)i;
    return SSM_ISA_BEST;
}

static int print_isas(void)
{
    int i;
    for (i = SSM_ISA_SCALAR; i < ssm_isa_count(); ++i)
        if (ssm_isa_available((ssm_isa)i)) printf("%s\n", ssm_isa_name((ssm_isa)i));
    return 0;
}

int main(int argc, char **argv)
{
    size_t passed = 0, failed = 0, g, i;
    int list = 0, times = 0, arg = 1;
    for (; arg < argc && argv[arg][0] == '-'; ++arg) {
        if (!strcmp(argv[arg], "--list")) {
            list = 1;
        } else if (!strcmp(argv[arg], "--times")) {
            times = 1;
        } else if (!strcmp(argv[arg], "--seed") && arg + 1 < argc) {
            test_seed = (uint64_t)strtoul(argv[++arg], NULL, 10);
        } else if (!strcmp(argv[arg], "--isa") && arg + 1 < argc) {
            test_isa = isa_named(argv[++arg]);
            if (test_isa == SSM_ISA_BEST) {
                printf("ssm_test: no instruction set %s here\n", argv[arg]);
                return 2;
            }
        } else if (!strcmp(argv[arg], "--isas")) {
            return print_isas();
        } else {
            printf("usage: ssm_test [--list] [--isas] [--times] [--seed N] [--isa NAME] [FILTER ...]\n");
            return 2;
        }
    }
    if (!list)
        printf("ssm.h %s, %s, %s, seed %lu\n", SSM_VERSION_STRING, sizeof(ssm_real) == 8 ? "double" : "float",
               ssm_isa_name(test_isa), (unsigned long)test_seed);
    for (g = 0; g < sizeof groups / sizeof groups[0]; ++g) {
        for (i = 0; i < groups[g].count; ++i) {
            const test_case *t = &groups[g].cases[i];
            clock_t start;
            double seconds;
            if (!selected(t->name, argc - arg, argv + arg)) continue;
            if (t->every_isa && test_isa != SSM_ISA_BEST && !asks(argc - arg, argv + arg)) continue;
            if (list) {
                printf("%s\n", t->name);
                continue;
            }
            test_failures = 0;
            start = clock();
            t->run();
            seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
            printf("%s %s", test_failures ? "FAIL" : "ok  ", t->name);
            if (times && seconds >= 0.1) printf(" (%.1f s)", seconds);
            printf("\n");
            fflush(stdout);
            if (test_failures) failed += 1;
            else passed += 1;
        }
    }
    if (!list) printf("%lu passed, %lu failed\n", (unsigned long)passed, (unsigned long)failed);
    return failed > 0;
}
