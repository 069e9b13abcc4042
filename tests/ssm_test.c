/* ssm_test.c - the test runner.
 *
 *   ssm_test [--list] [--seed N] [FILTER ...]     runs the tests whose name contains a FILTER
 *
 * !NAME among the filters leaves the test of exactly that name out.
 * Exit status 1 if a test failed; the last line is "N passed, N failed". */
#define SSM_IMPLEMENTATION
#include "../ssm.h"

#include "test.h"

#include "test_math.c"
#include "test_ops.c"
#include "test_gradients.c"
#include "test_layers.c"
#include "test_train.c"
#include "test_golden.c"
#include "test_scan.c"
#include "test_hippo.c"
/* The oracles of S4 and S5 compute in complex double, which tcc does not have. */
#if defined(__STDC_NO_COMPLEX__) || defined(__TINYC__)
#define TEST_NO_COMPLEX
#else
#include "test_s5.c"
#include "test_golden_s5.c"
#include "test_s4.c"
#include "test_golden_s4.c"
#endif
#include "test_bound.c"

#define GROUP(cases) {cases, sizeof cases / sizeof cases[0]}

static const struct {
    const test_case *cases;
    size_t count;
} groups[] = {
    GROUP(math_cases),  GROUP(ops_cases),       GROUP(gradient_cases), GROUP(layer_cases),
    GROUP(train_cases), GROUP(golden_cases),    GROUP(scan_cases),     GROUP(hippo_cases),
#ifndef TEST_NO_COMPLEX
    GROUP(s5_cases),    GROUP(golden_s5_cases), GROUP(s4_cases),       GROUP(golden_s4_cases),
#endif
    GROUP(bound_cases),
};

static int selected(const char *name, int filters, char **filter)
{
    int i, asked = 0, found = 0;
    for (i = 0; i < filters; ++i) {
        if (filter[i][0] == '!') {
            if (!strcmp(name, filter[i] + 1)) return 0;
        } else {
            asked = 1;
            if (strstr(name, filter[i])) found = 1;
        }
    }
    return found || !asked;
}

int main(int argc, char **argv)
{
    size_t passed = 0, failed = 0, g, i;
    int list = 0, arg = 1;
    for (; arg < argc && argv[arg][0] == '-'; ++arg) {
        if (!strcmp(argv[arg], "--list")) {
            list = 1;
        } else if (!strcmp(argv[arg], "--seed") && arg + 1 < argc) {
            test_seed = (uint64_t)strtoul(argv[++arg], NULL, 10);
        } else {
            printf("usage: ssm_test [--list] [--seed N] [FILTER ...]\n");
            return 2;
        }
    }
    if (!list)
        printf("ssm.h %s, %s, scalar, seed %lu\n", SSM_VERSION_STRING, sizeof(ssm_real) == 8 ? "double" : "float",
               (unsigned long)test_seed);
    for (g = 0; g < sizeof groups / sizeof groups[0]; ++g) {
        for (i = 0; i < groups[g].count; ++i) {
            const test_case *t = &groups[g].cases[i];
            if (!selected(t->name, argc - arg, argv + arg)) continue;
            if (list) {
                printf("%s\n", t->name);
                continue;
            }
            test_failures = 0;
            t->run();
            printf("%s %s\n", test_failures ? "FAIL" : "ok  ", t->name);
            fflush(stdout);
            if (test_failures) failed += 1;
            else passed += 1;
        }
    }
    if (!list) printf("%lu passed, %lu failed\n", (unsigned long)passed, (unsigned long)failed);
    return failed > 0;
}
